import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { createDatagramsFactory } from "../../src/node/index.js";
import { gstServer, rtspsrc } from "../gstreamer/peers.js";
import { frameHashesOf, toneHashesFrom } from "../media.js";
import { describePeer } from "../peers.js";
import { type RunningProcess, startProcess } from "../process.js";
import { serve, startWatchword } from "../watchword.js";

const test = { onTestFinished };
const PLAIN = ["--profile", "gstreamer", "--allow-null-keying"];
const QUIET = ["-hide_banner", "-loglevel", "error"];

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "watchword-ffmpeg-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** A pair of ports that was free a moment ago. */
async function freePorts(): Promise<number> {
  const [rtp, rtcp] = await createDatagramsFactory().bindPair("127.0.0.1");
  rtp.close();
  rtcp.close();
  return rtp.local.port;
}

/** ffmpeg reads a description and writes a second of what it gets as raw PCMU. */
async function readSecond(description: string, output: string): Promise<string[]> {
  const whitelist = ["-protocol_whitelist", "file,udp,rtp", "-analyzeduration", "300000", "-probesize", "2000"];
  const args = [...QUIET, ...whitelist, "-i", description, "-t", "1", "-c", "copy", "-f", "mulaw", output];
  const result = await startProcess(test, "ffmpeg", args, { limit: 20_000 }).ended;
  expect(result.code, result.stderr).toBe(0);
  return frameHashesOf(readFileSync(output));
}

/** Waits for a file that a running process writes. */
async function written(path: string, writer: RunningProcess): Promise<void> {
  await expect.poll(() => existsSync(path), { timeout: 10_000, message: `${path}\n${writer.stderr}` }).toBe(true);
}

describePeer("ffmpeg", "reads what watchword play --out rtp:// forwards [decodes behind our client]", () => {
  it("decodes the tone of watchword serve", async () => {
    const server = await serve(test, [...PLAIN, "--suite", "AEAD_AES_128_GCM"]);
    const folder = temporaryFolder();
    const port = await freePorts();
    const player = startWatchword(test, ["play", server.url, ...PLAIN, "--out", `rtp://127.0.0.1:${port}`, "--duration", "20"], {
      cwd: folder,
    });
    const description = join(folder, `watchword-${port}.sdp`);
    await written(description, player);
    const frames = await readSecond(description, join(folder, "out.ul"));
    expect(frames.length).toBeGreaterThanOrEqual(50);
    expect(frames).toEqual(toneHashesFrom(frames[0], frames.length));
    const stopped = await player.stop("SIGINT");
    expect(stopped.code, stopped.stderr).toBe(0);
  });

  describePeer("gstreamer", "from gst-rtsp-server", () => {
    it("decodes its frames", async () => {
      const server = await gstServer(test, ["--suite", "AES_256_CM_HMAC_SHA1_80"]);
      const folder = temporaryFolder();
      const port = await freePorts();
      const args = [
        "play",
        `rtsp://127.0.0.1:${server.port}/test`,
        ...PLAIN,
        "--out",
        `rtp://127.0.0.1:${port}`,
        "--duration",
        "20",
      ];
      const player = startWatchword(test, args, { cwd: folder });
      const description = join(folder, `watchword-${port}.sdp`);
      await written(description, player);
      const frames = await readSecond(description, join(folder, "out.ul"));
      await player.stop("SIGINT");
      const sent = Object.values((await server.report()).tracks["0"] ?? {});
      const at = sent.indexOf(frames[0] ?? "");
      expect(at).toBeGreaterThanOrEqual(0);
      expect(frames.length).toBeGreaterThanOrEqual(50);
      expect(frames).toEqual(sent.slice(at, at + frames.length));
    });
  });
});

describePeer("ffmpeg", "is the encoder behind watchword serve --source rtp [encodes for our server]", () => {
  describePeer("gstreamer", "played by rtspsrc", () => {
    it("becomes an SRTP source of H.264", async () => {
      const folder = temporaryFolder();
      const port = await freePorts();
      const description = join(folder, "camera.sdp");
      const picture = ["-re", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=15", "-t", "25"];
      const codec = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "8", "-pix_fmt", "yuv420p"];
      const encoder = startProcess(test, "ffmpeg", [
        ...QUIET,
        ...picture,
        ...codec,
        "-f",
        "rtp",
        "-sdp_file",
        description,
        `rtp://127.0.0.1:${port}`,
      ]);
      await written(description, encoder);
      const server = await serve(test, [...PLAIN, "--suite", "AES_CM_128_HMAC_SHA1_80", "--source", "rtp", "--sdp", description]);
      const report = await rtspsrc(test, server.url, ["--frames", "15", "--seconds", "15"]);
      expect(report.errors).toEqual([]);
      expect(report.tracks["0"]?.encoding).toBe("H264");
      expect(report.tracks["0"]?.decoded).toBeGreaterThanOrEqual(15);
    });
  });
});
