import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { formatHex, parseHex } from "../../src/bytes/index.js";
import { SrtpFailure, type SuiteName } from "../../src/srtp/index.js";
import { masterKey, protect, rtcpReport, srtpReceiver, srtpSender, tonePackets, unprotect } from "../media.js";
import { describePeer, PYTHON } from "../peers.js";
import { type Finishing, lastJson, runProcess } from "../process.js";

const SSRC = 0x11223344;
const SCRIPT = join(import.meta.dirname, "srtp.py");
const MKI = Uint8Array.of(0xaa, 0x01);

interface Job {
  readonly direction: "protect" | "unprotect";
  readonly suite: SuiteName;
  /** Master key and salt. */
  readonly key: Uint8Array;
  readonly mki?: Uint8Array;
  readonly key2?: Uint8Array;
  readonly mki2?: Uint8Array;
  readonly roc?: number;
  readonly rtp: readonly Uint8Array[];
  readonly rtcp: readonly Uint8Array[];
}

/** srtpenc or srtpdec at work on packets. */
async function gstreamer(test: Finishing, job: Job): Promise<{ readonly rtp: Uint8Array[]; readonly rtcp: Uint8Array[] }> {
  const folder = mkdtempSync(join(tmpdir(), "watchword-srtp-"));
  test.onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "job.json");
  const hex = (_key: string, value: unknown): unknown => (value instanceof Uint8Array ? formatHex(value) : value);
  writeFileSync(file, JSON.stringify({ ...job, ssrc: SSRC }, hex));
  const result = await runProcess(test, PYTHON, [SCRIPT, file]);
  const report = lastJson<{ rtp: string[]; rtcp: string[]; errors: string[] }>(result);
  expect(report.errors).toEqual([]);
  return { rtp: report.rtp.map((text) => parseHex(text)), rtcp: report.rtcp.map((text) => parseHex(text)) };
}

/** GStreamer (libsrtp) tags SRTCP with four octets where the SRTP suite does; RFC 3711 §5.2 has ten. */
const SHORT_TAG = { rtcpTagLength: 4 };

interface Row {
  readonly suite: SuiteName;
  readonly policy?: { readonly rtcpTagLength: number };
  readonly mki?: Uint8Array;
}

const SUITES: readonly Row[] = [
  { suite: "AES_CM_128_HMAC_SHA1_80" },
  { suite: "AES_CM_128_HMAC_SHA1_32", policy: SHORT_TAG },
  { suite: "AES_256_CM_HMAC_SHA1_80" },
  { suite: "AES_256_CM_HMAC_SHA1_32", policy: SHORT_TAG },
  { suite: "AEAD_AES_128_GCM" },
  { suite: "AEAD_AES_256_GCM" },
];

/** With and without an MKI; the sequence number wraps in every row. */
const ROWS: readonly (Row & { readonly title: string })[] = SUITES.flatMap((row) => [
  { ...row, title: row.suite },
  { ...row, title: `${row.suite} with an MKI`, mki: MKI },
]);

const rtp = tonePackets(60, { ssrc: SSRC, sequence: 65_500, timestamp: 0xffff_f000 });
const rtcp = [rtcpReport(SSRC), rtcpReport(SSRC), rtcpReport(SSRC)];

describePeer("gstreamer", "srtpenc and srtpdec [SRTP both ways]", () => {
  it.each(ROWS)("srtpdec opens what we protect: $title, over a ROC wrap [$suite]", async ({ title: _title, ...keyed }) => {
    const octets = masterKey(keyed.suite);
    const sender = srtpSender({ ...keyed, octets });
    const opened = await gstreamer(
      { onTestFinished },
      {
        direction: "unprotect",
        ...keyed,
        key: octets,
        rtp: rtp.map((packet) => protect(sender, packet)),
        rtcp: rtcp.map((packet) => protect(sender, packet, "rtcp")),
      },
    );
    expect(opened.rtp).toEqual(rtp);
    expect(opened.rtcp).toEqual(rtcp);
    expect(sender.rolloverCounter(SSRC)).toBe(1);
  });

  it.each(ROWS)("we open what srtpenc protects: $title, over a ROC wrap [$suite]", async ({ title: _title, ...keyed }) => {
    const octets = masterKey(keyed.suite);
    const receiver = srtpReceiver({ ...keyed, octets });
    const sealed = await gstreamer({ onTestFinished }, { direction: "protect", ...keyed, key: octets, rtp, rtcp });
    expect(sealed.rtp.map((packet) => unprotect(receiver, packet))).toEqual(rtp);
    expect(sealed.rtcp.map((packet) => unprotect(receiver, packet, "rtcp"))).toEqual(rtcp);
    expect(receiver.rolloverCounter(SSRC)).toBe(1);
    expect(receiver.statistics.authenticationFailures).toBe(0);
    // The same packet again is a replay, and with a changed octet it is no packet of the peer.
    expect(unprotect(receiver, sealed.rtp[40] as Uint8Array)).toBe(SrtpFailure.replay);
    const forged = (sealed.rtp[0] as Uint8Array).slice();
    forged[20] = (forged[20] as number) ^ 1;
    expect(unprotect(srtpReceiver({ ...keyed, octets }), forged)).toBe(SrtpFailure.authentication);
  });

  it("we protect octet for octet what srtpenc does", async () => {
    for (const { suite, policy } of SUITES) {
      const key = masterKey(suite);
      const sender = srtpSender({ suite, octets: key, ...(policy === undefined ? {} : { policy }) });
      const sealed = await gstreamer({ onTestFinished }, { direction: "protect", suite, key, rtp, rtcp: [] });
      expect(sealed.rtp).toEqual(rtp.map((packet) => protect(sender, packet)));
    }
  });

  it("srtpdec joins a stream whose ROC is not 0 [late join]", async () => {
    const suite = "AES_CM_128_HMAC_SHA1_80";
    const key = masterKey(suite);
    const sender = srtpSender({ suite, octets: key });
    sender.setRolloverCounter(SSRC, 3);
    const sealed = rtp.map((packet) => protect(sender, packet));
    const opened = await gstreamer({ onTestFinished }, { direction: "unprotect", suite, key, roc: 3, rtp: sealed, rtcp: [] });
    expect(opened.rtp).toEqual(rtp);
  });

  it("srtpdec follows a change of the key by the MKI, and so do we [MKI, change of key]", async () => {
    const suite = "AES_CM_128_HMAC_SHA1_80";
    const [first, second] = [masterKey(suite), masterKey(suite, 99)];
    const [mki, mki2] = [Uint8Array.of(0, 1), Uint8Array.of(0, 2)];
    const sender = srtpSender({ suite, octets: first, mki });
    const receiver = srtpReceiver({ suite, octets: first, mki });
    const next = { key: second.subarray(0, 16), salt: second.subarray(16), mki: mki2 };
    sender.addKey(next);
    receiver.addKey(next);
    const sealed = rtp.map((packet, index) => {
      if (index === 30) sender.useKey(mki2);
      return protect(sender, packet);
    });
    expect(sealed.map((packet) => unprotect(receiver, packet))).toEqual(rtp);
    const job = { direction: "unprotect", suite, key: first, mki, key2: second, mki2, rtp: sealed, rtcp: [] } as const;
    expect((await gstreamer({ onTestFinished }, job)).rtp).toEqual(rtp);
  });

  it("srtpdec refuses packets under another key, so that its consent above means something", async () => {
    const suite = "AEAD_AES_128_GCM";
    const sender = srtpSender({ suite, octets: masterKey(suite, 5) });
    const sealed = rtp.map((packet) => protect(sender, packet));
    const opened = await gstreamer(
      { onTestFinished },
      { direction: "unprotect", suite, key: masterKey(suite), rtp: sealed, rtcp: [] },
    );
    expect(opened.rtp).toEqual([]);
  });
});
