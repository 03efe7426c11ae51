import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { formatHex } from "../../src/bytes/index.js";
import type { SrtpPolicy } from "../../src/srtp/index.js";
import { libsrtpSource } from "../../src/tools/index.js";
import { type SealedTone, sealTone, temporaryFolder } from "../exported.js";
import { protect, rtcpReport, tonePackets } from "../media.js";
import { describePeer } from "../peers.js";
import { runProcess } from "../process.js";
import { script } from "../watchword.js";

const test = { onTestFinished };
const PACKETS = 20;

/** A program with the exported C compiled in opens lines of packets. */
async function openWith(stream: SealedTone["stream"], lines: readonly string[]): Promise<string[]> {
  const folder = temporaryFolder(test, "libsrtp");
  const [program, file] = [join(folder, "open"), join(folder, "packets")];
  writeFileSync(join(folder, "policy.h"), libsrtpSource(stream, "stream_0"));
  writeFileSync(file, `${lines.join("\n")}\n`);
  const flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", `-I${folder}`];
  const compiled = await runProcess(test, "cc", [...flags, "-o", program, script("libsrtp", "open.c"), "-lsrtp2"]);
  expect(compiled.code, compiled.stderr).toBe(0);
  const result = await runProcess(test, program, [file]);
  expect(result.code, result.stderr).toBe(0);
  return result.stdout.trimEnd().split("\n");
}

interface Row extends SrtpPolicy {
  readonly name: string;
  readonly mki?: Uint8Array;
  readonly rolloverCounter?: number;
  readonly anySsrc?: true;
}

const ROWS: readonly Row[] = [
  { name: "AES_CM_128_HMAC_SHA1_80", suite: "AES_CM_128_HMAC_SHA1_80" },
  { name: "AES_CM_128_HMAC_SHA1_32", suite: "AES_CM_128_HMAC_SHA1_32" },
  { name: "AES_CM_128_HMAC_SHA1_32, short SRTCP tag", suite: "AES_CM_128_HMAC_SHA1_32", rtcpTagLength: 4 },
  { name: "AES_256_CM_HMAC_SHA1_80, MKI", suite: "AES_256_CM_HMAC_SHA1_80", mki: Uint8Array.of(1, 2, 3, 4) },
  { name: "AEAD_AES_128_GCM, any SSRC", suite: "AEAD_AES_128_GCM", anySsrc: true },
  { name: "AEAD_AES_256_GCM, joined at rollover counter 3", suite: "AEAD_AES_256_GCM", rolloverCounter: 3 },
  { name: "AES_CM_128_HMAC_SHA1_80, SRTP not encrypted", suite: "AES_CM_128_HMAC_SHA1_80", encryptRtp: false },
];

describePeer("libsrtp", "takes exported keys", () => {
  it.each(ROWS)("opens $name by the exported policy, SRTP and SRTCP [export of keys, $suite]", async (row) => {
    const { name: _name, mki, rolloverCounter, anySsrc, ...policy } = row;
    const { stream, packets, sender } = sealTone(policy.suite, {
      policy,
      count: PACKETS,
      ...(mki === undefined ? {} : { mki }),
      ...(rolloverCounter === undefined ? {} : { rolloverCounter }),
    });
    const { ssrc = 0, ...nameless } = stream;
    const report = rtcpReport(ssrc);
    const sealedReport = `c${formatHex(protect(sender, report, "rtcp"))}`;
    const opened = await openWith(anySsrc ? nameless : stream, [...packets.map(formatHex), sealedReport]);
    expect(opened).toEqual([...tonePackets(PACKETS, { ssrc, sequence: 100 }), report].map(formatHex));
  });

  it("refuses packets under another key, so that its consent above means something", async () => {
    const { stream, packets } = sealTone("AEAD_AES_128_GCM", { count: 1 });
    const others = stream.keys.map(({ key, salt }) => ({ key: key.map((octet) => octet ^ 1), salt }));
    expect(await openWith({ ...stream, keys: others }, packets.map(formatHex))).toEqual(["error 7"]);
  });
});
