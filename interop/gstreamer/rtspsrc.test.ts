import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { toneHashesFrom } from "../media.js";
import { describePeer } from "../peers.js";
import { startRelay } from "../relay.js";
import { play, serve } from "../watchword.js";
import { MATRIX, type RtspsrcReport, rtspsrc, writeCertificate } from "./peers.js";

const FRAMES = 40;
const PLAY = ["--frames", String(FRAMES), "--seconds", "8"];
/** GStreamer knows NULL keying only; outside TLS that has to be asked for by name. */
const PLAIN = ["--profile", "gstreamer", "--allow-null-keying"];

/** All frames arrived, in order, unchanged, decoded, and nothing was dropped on the way. */
function expectTone(report: RtspsrcReport): void {
  expect(report.errors).toEqual([]);
  const track = report.tracks["0"];
  expect(track?.encoding).toBe("PCMU");
  expect(track?.decoded).toBeGreaterThanOrEqual(FRAMES);
  expect(track?.frames).toEqual(toneHashesFrom(track?.frames[0], FRAMES));
  for (const counts of report.decrypters) expect(counts["recv-drop-count"]).toBe(0);
  expect(report.requests.at(-1)).toBe("TEARDOWN");
}

describePeer("gstreamer", "rtspsrc plays watchword serve [plays our server]", () => {
  it.concurrent.for(MATRIX)(
    "$transport, $profile, $suite [RTP over $transport, $profile, $suite]",
    async ({ transport, profile, suite }, test) => {
      const server = await serve(test, [...PLAIN, "--suite", suite, "--rtp-profile", profile]);
      expectTone(await rtspsrc(test, server.url, ["--transport", transport, ...PLAY]));
      const stopped = await server.process.stop("SIGINT");
      expect(stopped.code, stopped.stderr).toBe(0);
    },
  );

  it("udp, RTP/SAVP, AES_CM_128_HMAC_SHA1_32, whose SRTCP tag is short too [AES_CM_128_HMAC_SHA1_32]", async (test) => {
    const server = await serve(test, [...PLAIN, "--suite", "AES_CM_128_HMAC_SHA1_32"]);
    expectTone(await rtspsrc(test, server.url, ["--transport", "udp", ...PLAY]));
  });

  it("two players at a time, and another after them", async (test) => {
    const server = await serve(test, PLAIN);
    const players = ["udp", "tcp"].map((transport) => rtspsrc(test, server.url, ["--transport", transport, ...PLAY]));
    for (const report of await Promise.all(players)) expectTone(report);
    expectTone(await rtspsrc(test, server.url, ["--transport", "udp", ...PLAY]));
  });
});

const folder = mkdtempSync(join(tmpdir(), "watchword-gstreamer-"));
afterAll(() => rmSync(folder, { recursive: true }));
const certificate = writeCertificate(folder);

/** One RTP profile is enough here: TLS is below it. */
const ROWS = MATRIX.filter(({ profile }) => profile === "RTP/SAVP");

describePeer("gstreamer", "rtspsrc plays watchword serve over rtsps [plays our server over TLS]", () => {
  it.concurrent.for(ROWS)("$transport, $suite", async ({ suite, transport }, test) => {
    const tls = ["--tls-cert", certificate.cert, "--tls-key", certificate.key];
    const server = await serve(test, ["--profile", "gstreamer", ...tls, "--suite", suite]);
    expect(server.url).toMatch(/^rtsps:/);
    expectTone(await rtspsrc(test, server.url, ["--transport", transport, "--insecure", ...PLAY]));
  });
});

describePeer("gstreamer", "one path for all, with two key messages in its description [plays what offers two key messages]", () => {
  it("is played by rtspsrc under the first, and by who has a pre-shared key under the second", async (test) => {
    const psk = `viewer:${"5a".repeat(32)}`;
    const tls = ["--tls-cert", certificate.cert, "--tls-key", certificate.key];
    const server = await serve(test, ["--profile", "auto", ...tls, "--psk", psk, "--rekey", "1"]);
    const flags = ["--profile", "auto", "--ca", certificate.cert, "--packets", "80"];
    const [report, keyed, plain] = await Promise.all([
      rtspsrc(test, server.url, ["--transport", "udp", "--insecure", ...PLAY]),
      play(test, [server.url, ...flags, "--psk", psk]),
      play(test, [server.url, ...flags]),
    ]);
    expectTone(report);
    expect(keyed.report, keyed.result.stderr).toMatchObject({
      keyedBy: "psk",
      profile: "strict",
      lost: 0,
      teardownProof: "verified",
    });
    expect(plain.report, plain.result.stderr).toMatchObject({ keyedBy: "null", profile: "gstreamer", lost: 0 });
  });
});

describePeer("gstreamer", "rtspsrc is not disturbed by de-registration [not disturbed by our de-registration]", () => {
  it("plays and leaves although the SDP announces it and the TEARDOWN carries it both ways", async (test) => {
    const server = await serve(test, [...PLAIN, "--suite", "AES_CM_128_HMAC_SHA1_80"]);
    const relay = await startRelay(test, {
      target: { host: "127.0.0.1", port: server.port },
      rewrite: ({ from, text }, dialogue) => {
        const answersTeardown = from === "server" && dialogue.at(-1)?.text.startsWith("TEARDOWN ");
        return answersTeardown === true ? text.replace("\r\n\r\n", `\r\nKeyMgmt: ${keyMgmt("9ABCD/8=")}\r\n\r\n`) : text;
      },
    });
    const url = server.url.replace(`:${server.port}/`, `:${relay.port}/`);
    const keyMgmt = (data: string): string => `prot=mikey;uri="${url}";data="${data}"`;
    const header = ["--teardown-key-mgmt", keyMgmt("AfMAAQ==")];
    expectTone(await rtspsrc(test, url, ["--transport", "udp", ...PLAY, ...header]));
    const said = relay.dialogue.map(({ text }) => text);
    expect(said.find((text) => text.includes("application/sdp") && text.startsWith("RTSP/1.0 200"))).toContain("a=x-watchword:1");
    const [teardown, answer] = said.slice(-2);
    expect(teardown).toMatch(/^TEARDOWN [\s\S]*KeyMgmt: /);
    expect(answer).toMatch(/^RTSP\/1\.0 200 [\s\S]*KeyMgmt: /);
  });
});
