import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { freeTarget, temporaryFolder } from "../interop/exported.js";
import { describePeer } from "../interop/peers.js";
import { type RunningProcess, startProcess } from "../interop/process.js";
import { concatBytes } from "../src/bytes/index.js";
import { TONE_PERIOD, toneFrame } from "../src/node/index.js";

const run = (file: string): Promise<{ stdout: string }> =>
  promisify(execFile)(process.execPath, ["--import", "tsx", new URL(file, import.meta.url).pathname], { timeout: 25_000 });

describe("samples", () => {
  it("read-key-mgmt", async () => {
    const { stdout } = await run("read-key-mgmt.ts");
    expect(stdout).toContain("m= line 2: mikey at session level, Pre-shared key message: T RAND ID SP KEMAC");
    expect(stdout).toContain("written again: the same octets");
    expect(stdout).toContain("donald@duck.com");
  });

  it("encrypted-tone", async () => {
    const { stdout } = await run("encrypted-tone.ts");
    expect(stdout).toMatch(/^\d{2} packets, AEAD_AES_128_GCM, key [0-9a-f]{8}; end verified$/m);
  });

  it("group-tone", async () => {
    const { stdout } = await run("group-tone.ts");
    expect(stdout).toMatch(/^bob heard \d{2,} packets of SSRC \d+$/m);
    expect(stdout).toContain("alice left: verified");
    expect(stdout).toContain("bob left: verified");
  });

  it("softphone-sipjs", async () => {
    const { stdout } = await run("softphone-sipjs.ts");
    const lines = stdout.trim().split("\n");
    expect(lines.filter((line) => line.includes(" keyed ")).length, "INVITE and re-INVITE, at both ends").toBe(4);
    expect(lines).toContain("sip:bob@example.org end received verified");
    expect(lines).toContain("sip:alice@example.org end acknowledged verified");
    for (const name of ["alice", "bob"]) {
      const [, packets] = new RegExp(`^sip:${name}@example.org heard (\\d+) packets$`, "m").exec(stdout) ?? [];
      expect(Number(packets)).toBeGreaterThan(20);
    }
    const text = readFileSync(new URL("softphone-sipjs.ts", import.meta.url), "utf8");
    expect(text.trimEnd().split("\n").length).toBeLessThan(30);
  });
});

describePeer("ffmpeg", "the samples with a real encoder and decoder", () => {
  it("media-server-gateway and camera-to-ffmpeg hand on what the encoder sent", async () => {
    const test = { onTestFinished };
    const folder = temporaryFolder(test, "samples");
    const [tone, description, output] = ["tone.ul", "encoder.sdp", "out.ul"].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    const octets = concatBytes(...Array.from({ length: TONE_PERIOD }, (_, index) => toneFrame(index)));
    writeFileSync(tone, octets);
    const { port } = await freeTarget();
    writeFileSync(description, `v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio ${port} RTP/AVP 0\r\n`);
    const input = ["-re", "-stream_loop", "-1", "-f", "mulaw", "-ar", "8000", "-ac", "1", "-i", tone];
    startProcess(test, "ffmpeg", ["-loglevel", "error", ...input, "-c", "copy", "-f", "rtp", `rtp://127.0.0.1:${port}`]);

    const VIEWER_KEY = "5a".repeat(32);
    const sample = (name: string, args: readonly string[], env: Readonly<Record<string, string>>): RunningProcess =>
      startProcess(test, process.execPath, ["--import", "tsx", join(import.meta.dirname, name), ...args], { env });
    const gateway = sample("media-server-gateway.ts", [description], { VIEWER_KEY, RTSP_PORT: "0", HTTP_PORT: "0" });
    const [, url] = await gateway.match(/^media (rtsp:\S+)$/m);
    const [, status] = await gateway.match(/^status (http:\S+)$/m);
    const camera = sample("camera-to-ffmpeg.ts", [url as string, "-t", "1", "-c", "copy", "-f", "mulaw", output], { VIEWER_KEY });
    const session = { state: "playing", tracks: [{ suite: "AES_CM_128_HMAC_SHA1_80" }] };
    await expect.poll(async () => (await fetch(status as string)).json(), { timeout: 15_000 }).toMatchObject([session]);
    const result = await camera.ended;
    expect(result.code, result.stderr).toBe(0);
    expect(result.stdout).toMatch(/^\d+ packets, AES_CM_128_HMAC_SHA1_80, 0 lost; end verified$/m);
    const received = readFileSync(output);
    expect(received.length).toBeGreaterThanOrEqual(6000);
    expect(Buffer.concat([octets, octets, octets]).includes(received), "a piece of the endless tone").toBe(true);
    await expect.poll(async () => (await fetch(status as string)).json()).toEqual([]);
    expect((await gateway.stop("SIGINT")).code, gateway.stderr).toBe(0);
  });
});
