import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { createDatagramsFactory } from "../../src/node/index.js";
import { frameHashesOf, sha256, toneHashesFrom } from "../media.js";
import { createNamespaces, describeNamespaces, type Namespace } from "../namespaces.js";
import { describePeer, PYTHON } from "../peers.js";
import { type Finishing, lastJson, type RunningProcess, startProcess } from "../process.js";
import { readRtpdump } from "../rtpdump.js";
import { MAIN, type PlayReport, script } from "../watchword.js";
import type { GstServerReport, RtspsrcReport } from "./peers.js";

const FRAMES = 60;
const PLAIN = ["--profile", "gstreamer", "--allow-null-keying"];
const folder = mkdtempSync(join(tmpdir(), "watchword-multicast-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Where a process runs: in a namespace, or on this host's loopback interface. */
interface Place {
  readonly device: string;
  readonly address: string;
  inside(command: string, args: readonly string[]): readonly [command: string, args: readonly string[]];
}

const LOOPBACK: Place = { device: "lo", address: "127.0.0.1", inside: (command, args) => [command, args] };

function start(test: Finishing, place: Place, command: string, args: readonly string[]): RunningProcess {
  return startProcess(test, ...place.inside(command, args));
}

async function serve(test: Finishing, place: Place, args: readonly string[]): Promise<string> {
  const listen = ["serve", "--listen", `${place.address}:0`, "--path", "/tone", "--interface", place.device];
  const server = start(test, place, process.execPath, [MAIN, ...listen, ...PLAIN, ...args]);
  const [, url] = await server.match(/^listening (rtsp:\/\/\S+)$/m);
  return url as string;
}

async function rtspsrc(test: Finishing, place: Place, url: string): Promise<RtspsrcReport> {
  const args = ["--transport", "multicast", "--interface", place.device, "--frames", String(FRAMES), "--seconds", "12"];
  return lastJson<RtspsrcReport>(await start(test, place, PYTHON, [script("gstreamer", "rtspsrc.py"), url, ...args]).ended);
}

interface Played {
  readonly report: PlayReport;
  readonly packets: readonly Uint8Array[];
}

let dumps = 0;

async function play(test: Finishing, place: Place, url: string): Promise<Played> {
  const dump = join(folder, `${dumps++}.rtpdump`);
  const args = ["--transport", "multicast", "--interface", place.device, "--packets", String(FRAMES), "--duration", "12"];
  const result = await start(test, place, process.execPath, [MAIN, "play", url, ...PLAIN, ...args, "--out", dump, "--json"]).ended;
  expect(result.code, result.stderr).toBe(0);
  return { report: lastJson<PlayReport>(result), packets: readRtpdump(dump) };
}

function expectFrames(report: RtspsrcReport): void {
  expect(report.errors).toEqual([]);
  const track = report.tracks["0"];
  expect(track?.frames).toEqual(toneHashesFrom(track?.frames[0], FRAMES));
  for (const counts of report.decrypters) expect(counts["recv-drop-count"]).toBe(0);
}

function expectPackets({ report, packets }: Played): void {
  expect(report).toMatchObject({ lost: 0, authenticationFailures: 0, keyedBy: "null" });
  const frames = frameHashesOf(Buffer.concat(packets.slice(0, FRAMES).map((packet) => packet.subarray(12))));
  expect(frames).toEqual(toneHashesFrom(frames[0], FRAMES));
}

/** Everybody hears one stream, and somebody who comes later hears it too. */
async function expectGroup(test: Finishing, server: Place, members: Place, group: string): Promise<void> {
  const url = await serve(test, server, ["--multicast", group]);
  const [played, ...seen] = await Promise.all([play(test, members, url), rtspsrc(test, members, url), rtspsrc(test, members, url)]);
  expectPackets(played);
  for (const report of seen) expectFrames(report);
  expectFrames(await rtspsrc(test, members, url));
}

/** An even port that is free on this host. */
async function freePort(): Promise<number> {
  const [rtp, rtcp] = await createDatagramsFactory().bindPair("0.0.0.0");
  rtp.close();
  rtcp.close();
  return rtp.local.port;
}

describePeer(
  "gstreamer",
  "rtspsrc and watchword play receive the multicast of watchword serve on loopback [receives our multicast]",
  () => {
    it("two rtspsrc and a player of ours, and one that comes later", async (test) => {
      await expectGroup(test, LOOPBACK, LOOPBACK, `239.255.70.1:${await freePort()}`);
    });
  },
);

describePeer("gstreamer", "multicast between network namespaces", () => {
  describeNamespaces("from watchword serve", () => {
    it("to two rtspsrc and a player of ours, and one that comes later", async (test) => {
      const [server, members] = createNamespaces(test);
      await expectGroup(test, server, members, "239.255.70.2:5004");
    });

    it("to a source-specific group, which our players join", async (test) => {
      const [server, members] = createNamespaces(test);
      const url = await serve(test, server, ["--multicast", "232.70.0.3:5004"]);
      for (const played of await Promise.all([play(test, members, url), play(test, members, url)])) expectPackets(played);
    });
  });

  describeNamespaces("from gst-rtsp-server", () => {
    it("to watchword play", async (test) => {
      const [server, members]: readonly [Namespace, Namespace] = createNamespaces(test);
      const group = ["--address", server.address, "--multicast", "239.255.70.4", "--interface", server.device];
      const peer = start(test, server, PYTHON, [script("gstreamer", "server.py"), ...group]);
      const [, port] = await peer.match(/^listening (\d+)$/m);
      const { report, packets } = await play(test, members, `rtsp://${server.address}:${port}/test`);
      expect(report).toMatchObject({ lost: 0, authenticationFailures: 0, keyedBy: "null" });
      const sent = lastJson<GstServerReport>(await peer.stop());
      const sequences = packets.map((packet) => ((packet[2] as number) << 8) | (packet[3] as number));
      expect(packets.map((packet) => sha256(packet.subarray(12)))).toEqual(
        sequences.map((number) => sent.tracks["0"]?.[String(number)]),
      );
    });
  });
});
