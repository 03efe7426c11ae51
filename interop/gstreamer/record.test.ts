import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { frameHashesOf } from "../media.js";
import { describePeer } from "../peers.js";
import { type Finishing, type RunningProcess, startProcess } from "../process.js";
import { readRtpdump } from "../rtpdump.js";
import { play, serve } from "../watchword.js";
import { rtspsrc, writeCertificate } from "./peers.js";

const FRAMES = 60;
const folder = mkdtempSync(join(tmpdir(), "watchword-record-"));
afterAll(() => rmSync(folder, { recursive: true }));
const certificate = writeCertificate(folder);

/** A tone of which no two frames are alike, one frame to a buffer and so to a packet. */
const TONE = [
  ...["audiotestsrc", "freq=441.7", "samplesperbuffer=160", "num-buffers=1500"],
  ...["!", "audio/x-raw,rate=8000,channels=1", "!", "mulawenc"],
];

/** The frames as rtspclientsink gets them. */
async function publishedFrames(test: Finishing, name: string): Promise<readonly string[]> {
  const file = join(folder, `${name}.ulaw`);
  await startProcess(test, "gst-launch-1.0", ["-q", ...TONE, "!", "filesink", `location=${file}`]).ended;
  return frameHashesOf(readFileSync(file));
}

function expectRun(heard: readonly string[], published: readonly string[]): void {
  expect(heard.length).toBe(FRAMES);
  const at = published.indexOf(heard[0] as string);
  expect(heard).toEqual(published.slice(at, at + FRAMES));
}

const PLAIN = ["--profile", "gstreamer", "--allow-null-keying"];
const PUBLISH = ["--source", "publish", "--publish-user", "studio:secret"];

/** `rtspclientsink` publishes the tone in real time. */
function publish(test: Finishing, url: string, options: Readonly<Record<string, string>>): RunningProcess {
  const properties = { location: url, profiles: "savp", "user-id": "studio", "user-pw": "secret", ...options };
  return startProcess(test, "gst-launch-1.0", [
    ...["-q", ...TONE, "!", "clocksync", "!", "rtspclientsink"],
    ...Object.entries(properties).map(([name, value]) => `${name}=${value}`),
  ]);
}

const CASES = [
  { transport: "udp", tls: false },
  { transport: "tcp", tls: false },
  { transport: "tcp", tls: true },
] as const;

describePeer("gstreamer", "rtspclientsink publishes to watchword serve [publishes to our server]", () => {
  it.concurrent.for(CASES)("$transport, TLS $tls: players of both kinds hear every frame", async ({ transport, tls }, test) => {
    const keyed = tls ? ["--profile", "gstreamer", "--tls-cert", certificate.cert, "--tls-key", certificate.key] : PLAIN;
    const server = await serve(test, [...PUBLISH, ...keyed]);
    const properties = { protocols: transport, ...(tls ? { "tls-validation-flags": "0" } : {}) };
    const publisher = publish(test, server.url, properties);
    await test.expect.poll(() => server.process.stderr, { timeout: 10_000 }).toContain("recording");
    const dump = join(folder, `${transport}-${tls}.rtpdump`);
    const trust = tls ? ["--profile", "gstreamer", "--ca", certificate.cert] : PLAIN;
    const packets = ["--packets", String(FRAMES), "--duration", "8"];
    const [ours, theirs] = await Promise.all([
      play(test, [server.url, ...trust, ...packets, "--transport", transport, "--out", dump]),
      rtspsrc(test, server.url, [
        "--transport",
        transport,
        "--frames",
        String(FRAMES),
        "--seconds",
        "8",
        ...(tls ? ["--insecure"] : []),
      ]),
    ]);
    expect(ours.result.code, ours.result.stderr).toBe(0);
    expect(ours.report).toMatchObject({ lost: 0, authenticationFailures: 0 });
    const published = await publishedFrames(test, `${transport}-${tls}`);
    const heard = Buffer.concat(
      readRtpdump(dump)
        .slice(0, FRAMES)
        .map((packet) => packet.subarray(12)),
    );
    expectRun(frameHashesOf(heard), published);
    expect(theirs.errors).toEqual([]);
    expectRun(theirs.tracks["0"]?.frames ?? [], published);
    expect(server.process.stderr).toContain("refused ANNOUNCE");
    await publisher.stop("SIGINT");
    await test.expect.poll(() => server.process.stderr, { timeout: 10_000 }).toMatch(/ended: (teardown|connection-closed)/);
  });

  it("is refused with another password, and where nobody publishes", async (test) => {
    const server = await serve(test, [...PUBLISH, ...PLAIN]);
    const stranger = await publish(test, server.url, { protocols: "tcp", "user-pw": "wrong" }).ended;
    expect(stranger.code).not.toBe(0);
    const closed = await serve(test, PLAIN);
    const refused = await publish(test, closed.url, { protocols: "tcp" }).ended;
    expect(refused.code).not.toBe(0);
    await closed.process.stop();
    expect(closed.process.stderr).not.toContain("recording");
    expect(server.process.stderr).not.toContain("recording");
  });
});
