import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { concatBytes } from "../../src/bytes/index.js";
import { createDatagramsFactory, TONE_PERIOD, toneFrame } from "../../src/node/index.js";
import type { SrtpPolicy } from "../../src/srtp/index.js";
import { exportFfmpegArguments, exportStreams } from "../../src/tools/index.js";
import { checkTone, freeTarget, sealTone, sendPaced, temporaryFolder } from "../exported.js";
import { masterKey, srtpReceiver, unprotect } from "../media.js";
import { describePeer } from "../peers.js";
import { type RunningProcess, startProcess } from "../process.js";
import { serve, startWatchword } from "../watchword.js";

const test = { onTestFinished };
const QUIET = ["-hide_banner", "-loglevel", "error"];
const POLICIES: readonly (SrtpPolicy & { readonly name: string })[] = [
  { name: "AES_CM_128_HMAC_SHA1_80", suite: "AES_CM_128_HMAC_SHA1_80" },
  { name: "AES_CM_128_HMAC_SHA1_32", suite: "AES_CM_128_HMAC_SHA1_32" },
  { name: "AES_CM_128_HMAC_SHA1_32 with a short SRTCP tag", suite: "AES_CM_128_HMAC_SHA1_32", rtcpTagLength: 4 },
];

/** ffmpeg opens a description with keys and writes a second of what it gets as raw PCMU. */
function readSecond(description: string, output: string): RunningProcess {
  const whitelist = ["-protocol_whitelist", "file,udp,rtp,srtp,crypto", "-analyzeduration", "300000", "-probesize", "2000"];
  return startProcess(test, "ffmpeg", [...QUIET, ...whitelist, "-i", description, "-t", "1", "-c", "copy", "-f", "mulaw", output]);
}

describePeer("ffmpeg", "takes exported keys", () => {
  it.each(POLICIES)("decodes $name from the exported description [export of keys, $suite]", async ({ name: _name, ...policy }) => {
    const { stream, packets } = sealTone(policy.suite, { policy });
    const target = await freeTarget();
    const folder = temporaryFolder(test, "ffmpeg");
    const [description, output] = [join(folder, "in.sdp"), join(folder, "out.ul")];
    writeFileSync(description, exportStreams("ffmpeg", [{ ...stream, target }]));
    const ffmpeg = readSecond(description, output);
    await sendPaced(test, packets, target);
    const result = await ffmpeg.ended;
    expect(result.code, result.stderr).toBe(0);
    expect(checkTone(readFileSync(output))).toBeGreaterThanOrEqual(50);
  });

  it.each(POLICIES)(
    "sends $name under the exported arguments, RTP and RTCP [export of keys, $suite]",
    async ({ name: _name, ...policy }) => {
      const { stream } = sealTone(policy.suite, { policy, count: 0 });
      const receiver = srtpReceiver({ suite: policy.suite, octets: masterKey(policy.suite), policy });
      const socket = await createDatagramsFactory().bind({ host: "127.0.0.1", port: 0 });
      onTestFinished(() => socket.close());
      const media: Uint8Array[] = [];
      socket.onDatagram = (packet) => {
        const kind = ((packet[1] as number) & 0x7f) >= 64 ? "rtcp" : "rtp";
        const opened = unprotect(receiver, packet, kind);
        if (kind === "rtp" && typeof opened !== "number") media.push(opened.subarray(12));
      };
      const tone = concatBytes(...Array.from({ length: TONE_PERIOD / 4 }, (_, index) => toneFrame(index)));
      const file = join(temporaryFolder(test, "ffmpeg"), "tone.ul");
      writeFileSync(file, tone);
      const input = ["-re", "-f", "mulaw", "-ar", "8000", "-ac", "1", "-i", file, "-c", "copy"];
      const output = [
        "-f",
        "rtp",
        ...exportFfmpegArguments(stream),
        `srtp://127.0.0.1:${socket.local.port}?rtcpport=${socket.local.port}`,
      ];
      const result = await startProcess(test, "ffmpeg", [...QUIET, ...input, ...output]).ended;
      expect(result.code, result.stderr).toBe(0);
      await expect.poll(() => concatBytes(...media).length).toBe(tone.length);
      expect(concatBytes(...media)).toEqual(tone);
      expect(receiver.rtcpStatistics).toMatchObject({ authenticationFailures: 0 });
      expect(receiver.rtcpStatistics.packets).toBeGreaterThan(0);
    },
  );

  it("decodes what watchword play --export ffmpeg hands on sealed [export of keys]", async () => {
    const plain = ["--profile", "gstreamer", "--allow-null-keying"];
    const { url } = await serve(test, plain);
    const target = await freeTarget();
    const folder = temporaryFolder(test, "ffmpeg");
    const [description, output] = [join(folder, "camera.sdp"), join(folder, "out.ul")];
    const out = ["--out", `srtp://127.0.0.1:${target.port}`, "--duration", "20"];
    const player = startWatchword(test, ["play", url, ...plain, "--export", "ffmpeg", "--reveal", ...out]);
    const [text] = await player.match(/^v=0\r\n[\s\S]*a=sendonly\r\n/m);
    writeFileSync(description, text);
    const result = await readSecond(description, output).ended;
    expect(result.code, result.stderr).toBe(0);
    expect(checkTone(readFileSync(output))).toBeGreaterThanOrEqual(50);
    const stopped = await player.stop("SIGINT");
    expect(stopped.code, stopped.stderr).toBe(0);
  });
});
