import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { sha256 } from "../media.js";
import { describePeer } from "../peers.js";
import { startRelay } from "../relay.js";
import { readRtpdump } from "../rtpdump.js";
import { type PlayReport, play } from "../watchword.js";
import { type GstServerReport, gstServer, MATRIX, writeCertificate } from "./peers.js";

const PACKETS = 40;
const PLAY = ["--packets", String(PACKETS), "--duration", "8"];
const PLAIN = ["--profile", "gstreamer", "--allow-null-keying"];

const folder = mkdtempSync(join(tmpdir(), "watchword-gst-server-"));
afterAll(() => rmSync(folder, { recursive: true }));
const certificate = writeCertificate(folder);
let files = 0;
const newDump = (): string => join(folder, `${files++}.rtpdump`);

/** Every packet of a track that we wrote carries the payload that the server sent under its sequence number, none is missing. */
function expectTrack(dump: string, server: GstServerReport, track: "0" | "1", payloadType: number, atLeast: number): void {
  const packets = readRtpdump(dump).filter((packet) => ((packet[1] as number) & 0x7f) === payloadType);
  expect(packets.length).toBeGreaterThanOrEqual(atLeast);
  const sequences = packets.map((packet) => ((packet[2] as number) << 8) | (packet[3] as number));
  expect(sequences).toEqual(sequences.map((_, index) => ((sequences[0] as number) + index) % 0x10000));
  const sent = sequences.map((sequence) => server.tracks[track]?.[String(sequence)]);
  expect(packets.map((packet) => sha256(packet.subarray(12)))).toEqual(sent);
}

function expectSent(dump: string, server: GstServerReport, report: PlayReport): void {
  expectTrack(dump, server, "0", 0, PACKETS);
  expect(report.packets).toBeGreaterThanOrEqual(PACKETS);
  expect(report).toMatchObject({ lost: 0, authenticationFailures: 0, replays: 0 });
}

describePeer("gstreamer", "watchword play plays gst-rtsp-server [played by our client]", () => {
  it.concurrent.for(MATRIX)(
    "$transport, $profile, $suite [RTP over $transport, $profile, $suite]",
    async ({ transport, profile, suite }, test) => {
      const server = await gstServer(test, ["--profile", profile, "--suite", suite]);
      const dump = newDump();
      const url = `rtsp://127.0.0.1:${server.port}/test`;
      const { result, report } = await play(test, [url, ...PLAIN, "--transport", transport, "--out", dump, ...PLAY]);
      expect(result.code, result.stderr).toBe(0);
      const met = await server.report();
      expectSent(dump, met, report);
      expect(report).toMatchObject({ suite, keyedBy: "null", teardownProof: "absent" });
      expect(met.requests.at(-1)).toEqual({ method: "teardown", keyMgmt: null });
      expect(met.requests.find(({ method }) => method === "setup")?.keyMgmt).toContain("prot=mikey");
      for (const counts of met.decrypters) expect(counts["recv-drop-count"]).toBe(0);
    },
  );
});

/** One RTP profile is enough here: TLS is below it. */
const ROWS = MATRIX.filter(({ profile }) => profile === "RTP/SAVP");

describePeer("gstreamer", "watchword play plays gst-rtsp-server over rtsps [played by our client over TLS]", () => {
  it.concurrent.for(ROWS)("$transport, $suite", async ({ suite, transport }, test) => {
    const server = await gstServer(test, ["--tls", certificate.both, "--suite", suite]);
    const dump = newDump();
    const url = `rtsps://127.0.0.1:${server.port}/test`;
    const tls = ["--profile", "gstreamer", "--ca", certificate.cert];
    const { result, report } = await play(test, [url, ...tls, "--transport", transport, "--out", dump, ...PLAY]);
    expect(result.code, result.stderr).toBe(0);
    expectSent(dump, await server.report(), report);
    expect(report).toMatchObject({ suite, keyedBy: "null" });
  });
});

describePeer("gstreamer", "watchword play finds out what gst-rtsp-server is [found out by --profile auto]", () => {
  it("and says so", async (test) => {
    const server = await gstServer(test, []);
    const dump = newDump();
    const flags = ["--profile", "auto", "--allow-null-keying", "--out", dump, ...PLAY];
    const { result, report } = await play(test, [`rtsp://127.0.0.1:${server.port}/test`, ...flags]);
    expect(result.code, result.stderr).toBe(0);
    expectSent(dump, await server.report(), report);
    expect(report).toMatchObject({ profile: "gstreamer", keyedBy: "null" });
    expect(result.stderr).toContain("keying as towards gstreamer");
  });
});

describePeer("gstreamer", "watchword play and the streams of gst-rtsp-server", () => {
  it("plays two tracks, each under a key of its own", async (test) => {
    const server = await gstServer(test, ["--tracks", "2"]);
    const dump = newDump();
    const url = `rtsp://127.0.0.1:${server.port}/test`;
    const { result, report } = await play(test, [url, ...PLAIN, "--out", dump, "--packets", "80", "--duration", "8"]);
    expect(result.code, result.stderr).toBe(0);
    const met = await server.report();
    expectTrack(dump, met, "0", 0, 30);
    expectTrack(dump, met, "1", 8, 30);
    expect(report).toMatchObject({ lost: 0, authenticationFailures: 0, replays: 0 });
  });

  it("goes on when the sequence number wraps", async (test) => {
    const server = await gstServer(test, ["--first-sequence", "65515"]);
    const dump = newDump();
    const url = `rtsp://127.0.0.1:${server.port}/test`;
    const { result, report } = await play(test, [url, ...PLAIN, "--out", dump, ...PLAY]);
    expect(result.code, result.stderr).toBe(0);
    expectSent(dump, await server.report(), report);
  });
});

describePeer("gstreamer", "gst-rtsp-server is not disturbed by de-registration [not disturbed by our de-registration]", () => {
  it("ends the session on a TEARDOWN that carries a de-registration", async (test) => {
    const server = await gstServer(test, []);
    const relay = await startRelay(test, {
      target: { host: "127.0.0.1", port: server.port },
      rewrite: ({ from, text }) => {
        const uri = /^TEARDOWN (\S+)/.exec(text)?.[1];
        if (from !== "client" || uri === undefined) return text;
        return text.replace("\r\n\r\n", `\r\nKeyMgmt: prot=mikey;uri="${uri}";data="AfMAAQ=="\r\n\r\n`);
      },
    });
    const dump = newDump();
    const url = `rtsp://127.0.0.1:${relay.port}/test`;
    const { result, report } = await play(test, [url, ...PLAIN, "--transport", "udp", "--out", dump, ...PLAY]);
    expect(result.code, result.stderr).toBe(0);
    const met = await server.report();
    expectSent(dump, met, report);
    expect(met.requests.at(-1)?.method).toBe("teardown");
    expect(met.requests.at(-1)?.keyMgmt).toContain("AfMAAQ==");
    expect(relay.dialogue.at(-1)?.text).toMatch(/^RTSP\/1\.0 200 /);
  });
});
