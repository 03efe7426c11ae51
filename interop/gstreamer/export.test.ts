import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import type { SrtpPolicy } from "../../src/srtp/index.js";
import { exportGstreamerCaps } from "../../src/tools/index.js";
import { checkTone, freeTarget, type SealedTone, sealTone, sendPaced, temporaryFolder } from "../exported.js";
import { describePeer } from "../peers.js";
import { startProcess } from "../process.js";
import { serve, startWatchword } from "../watchword.js";

const test = { onTestFinished };
/** Packets that the pipeline takes before it ends. */
const PACKETS = 60;

/** A pipeline that opens SRTP by nothing but the caps in front of srtpdec. */
async function decode(caps: string, port: number, send: () => Promise<void>): Promise<number> {
  const output = join(temporaryFolder(test, "gstreamer"), "out.ul");
  const source = ["udpsrc", "address=127.0.0.1", `port=${port}`, `num-buffers=${PACKETS}`, `caps=${caps}`];
  const sink = ["!", "srtpdec", "!", "rtppcmudepay", "!", "filesink", `location=${output}`];
  const pipeline = startProcess(test, "gst-launch-1.0", [...source, ...sink]);
  await pipeline.match(/PLAYING/);
  await send();
  const result = await pipeline.ended;
  expect(result.code, result.stderr).toBe(0);
  return checkTone(readFileSync(output));
}

const ROWS: readonly (SrtpPolicy & { readonly name: string; readonly mki?: Uint8Array; readonly rolloverCounter?: number })[] = [
  { name: "AES_CM_128_HMAC_SHA1_80", suite: "AES_CM_128_HMAC_SHA1_80" },
  { name: "AES_CM_128_HMAC_SHA1_32, short SRTCP tag", suite: "AES_CM_128_HMAC_SHA1_32", rtcpTagLength: 4 },
  { name: "AES_256_CM_HMAC_SHA1_80, MKI", suite: "AES_256_CM_HMAC_SHA1_80", mki: Uint8Array.of(0, 0, 0, 9) },
  { name: "AEAD_AES_128_GCM, joined at rollover counter 3", suite: "AEAD_AES_128_GCM", rolloverCounter: 3 },
  { name: "AEAD_AES_256_GCM", suite: "AEAD_AES_256_GCM" },
];

describePeer("gstreamer", "takes exported keys", () => {
  it.each(ROWS)(
    "srtpdec opens $name by the exported caps [export of keys, $suite]",
    async ({ name: _name, mki, rolloverCounter, ...policy }) => {
      const { stream, packets }: SealedTone = sealTone(policy.suite, {
        policy,
        count: 400,
        ...(mki === undefined ? {} : { mki }),
        ...(rolloverCounter === undefined ? {} : { rolloverCounter }),
      });
      const target = await freeTarget();
      const frames = await decode(exportGstreamerCaps(stream), target.port, () => sendPaced(test, packets, target));
      expect(frames).toBe(PACKETS);
    },
  );

  it("srtpdec opens what watchword play --export gstreamer hands on sealed, keyed by a pre-shared key [export of keys]", async () => {
    const psk = `viewer:${"0123456789abcdef".repeat(4)}`;
    const { url } = await serve(test, ["--psk", psk, "--mki", "0", "--suite", "AES_256_CM_HMAC_SHA1_80"]);
    const target = await freeTarget();
    const out = ["--out", `srtp://127.0.0.1:${target.port}`, "--duration", "20"];
    const player = startWatchword(test, ["play", url, "--psk", psk, "--export", "gstreamer", "--reveal", ...out]);
    const [caps] = await player.match(/^application\/x-srtp, .*$/m);
    expect(await decode(caps, target.port, () => Promise.resolve())).toBe(PACKETS);
  });
});
