import { describe, expect, it } from "vitest";
import { createSrtpReceiver, createSrtpSender, SrtpFailure, type SrtpOptions, type SrtpSender } from "../../src/srtp/index.js";
import { BACKENDS, masterKey, rtcpPacket, rtpPacket } from "./packets.js";

const A = Uint8Array.of(0xaa, 1);
const B = Uint8Array.of(0xaa, 2);
const SSRC = 0xcafebabe;
const out = new Uint8Array(200);

function wire(sender: SrtpSender, sequence: number): Uint8Array {
  const memory = new Uint8Array(100);
  return memory.slice(0, sender.protect(rtpPacket({ sequence: sequence & 0xffff }), memory));
}

function wireRtcp(sender: SrtpSender): Uint8Array {
  const memory = new Uint8Array(100);
  return memory.slice(0, sender.protectRtcp(rtcpPacket(2), memory));
}

function lastWord(packet: Uint8Array, fromEnd: number): number {
  return new DataView(packet.buffer, packet.length - fromEnd).getUint32(0);
}

const rows = BACKENDS.flatMap((row) =>
  (["AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM"] as const).map((suite) => ({ ...row, suite })),
);

describe.each(rows)("rekey, $suite on $name", ({ suite, crypto, backend }) => {
  const options = (...keys: SrtpOptions["keys"]): SrtpOptions => ({ policy: { suite }, keys, crypto, backend });

  it("with MKI: old and new overlap, ROC and SRTCP index go on, the old is forgotten", () => {
    const sender = createSrtpSender(options(masterKey(suite, 1, A)));
    const receiver = createSrtpReceiver(options(masterKey(suite, 1, A)));
    for (let i = 0; i < 20; i++) expect(receiver.unprotect(wire(sender, 65530 + i), out)).toBe(32);
    expect(receiver.unprotectRtcp(wireRtcp(sender), out)).toBe(16);
    const late = wire(sender, 65550);
    const lateRtcp = wireRtcp(sender);

    receiver.addKey(masterKey(suite, 2, B));
    sender.addKey(masterKey(suite, 2, B));
    expect(receiver.unprotect(wire(sender, 65551), out)).toBe(32);
    sender.useKey(B);
    expect(receiver.unprotect(wire(sender, 65552), out)).toBe(32);
    expect(sender.keyUsage(B)).toEqual({ rtp: 1, rtcp: 0 });
    expect(receiver.keyUsage(A)).toEqual({ rtp: 21, rtcp: 1 });
    expect(receiver.rolloverCounter(SSRC)).toBe(1);
    expect(sender.rolloverCounter(SSRC)).toBe(1);
    const rtcp = wireRtcp(sender);
    expect(receiver.unprotectRtcp(rtcp, out)).toBe(16);
    const indexAt = suite.startsWith("AEAD") ? 6 : 16;
    expect(lastWord(rtcp, indexAt)).toBe(0x80000002);

    expect(receiver.unprotect(late, out)).toBe(32);
    expect(receiver.unprotectRtcp(lateRtcp, out)).toBe(16);
    expect(receiver.unprotect(late, out)).toBe(SrtpFailure.replay);
    const stillOld = createSrtpSender(options(masterKey(suite, 1, A)));
    stillOld.setRolloverCounter(SSRC, 1);
    const tooLate = wire(stillOld, 100);
    expect(receiver.removeKey(A)).toBe(true);
    expect(receiver.removeKey(A)).toBe(false);
    expect(receiver.unprotect(tooLate, out)).toBe(SrtpFailure.unknownMki);
    expect(receiver.statistics.unknownMki).toBe(1);
    expect(sender.removeKey(A)).toBe(true);
    expect(receiver.unprotect(wire(sender, 65553), out)).toBe(32);
  });

  it("without MKI: the new key is tried, then the old", () => {
    const sender = createSrtpSender(options(masterKey(suite, 1)));
    const receiver = createSrtpReceiver(options(masterKey(suite, 1)));
    expect(receiver.unprotect(wire(sender, 1), out)).toBe(32);
    receiver.addKey(masterKey(suite, 2));
    sender.addKey(masterKey(suite, 2));
    const late = wire(sender, 2);
    expect(receiver.unprotect(wire(sender, 3), out)).toBe(32);
    sender.useKey();
    const memory = wire(sender, 4);
    expect(receiver.unprotect(memory, memory)).toBe(32);
    expect(memory.subarray(0, 32)).toEqual(rtpPacket({ sequence: 4 }));
    expect(receiver.unprotect(late, late)).toBe(32);
    expect(receiver.unprotectRtcp(wireRtcp(sender), out)).toBe(16);
    expect(receiver.unprotect(wire(createSrtpSender(options(masterKey(suite, 3))), 9), out)).toBe(SrtpFailure.authentication);
    expect(receiver.removeKey()).toBe(true);
    expect(receiver.unprotect(wire(sender, 5), out)).toBe(32);
    expect(receiver.keyUsage()).toEqual({ rtp: 2, rtcp: 1 });
    const old = createSrtpSender(options(masterKey(suite, 1)));
    expect(receiver.unprotect(wire(old, 6), out)).toBe(SrtpFailure.authentication);
  });

  it("without MKI: an old key at its lifetime does not hide the new", () => {
    const sender = createSrtpSender(options(masterKey(suite, 1)));
    const receiver = createSrtpReceiver(options({ ...masterKey(suite, 1), rtpLifetime: 2, rtcpLifetime: 1 }));
    expect(receiver.unprotect(wire(sender, 1), out)).toBe(32);
    expect(receiver.unprotect(wire(sender, 2), out)).toBe(32);
    expect(receiver.unprotectRtcp(wireRtcp(sender), out)).toBe(16);
    expect(receiver.unprotect(wire(sender, 3), out)).toBe(SrtpFailure.lifetime);
    expect(receiver.unprotectRtcp(wireRtcp(sender), out)).toBe(SrtpFailure.lifetime);
    receiver.addKey(masterKey(suite, 2));
    sender.addKey(masterKey(suite, 2));
    sender.useKey();
    expect(receiver.unprotect(wire(sender, 4), out)).toBe(32);
    expect(receiver.unprotectRtcp(wireRtcp(sender), out)).toBe(16);
  });

  it("a peer that announces an MKI and sends packets without", () => {
    const absent = { ...options(masterKey(suite, 1, A)), mkiOnWire: "absent" } as const;
    const sender = createSrtpSender(absent);
    const receiver = createSrtpReceiver(absent);
    const plain = createSrtpReceiver(options(masterKey(suite, 1)));
    const packet = wire(sender, 1);
    expect(plain.unprotect(packet, out)).toBe(32);
    expect(receiver.unprotect(packet, out)).toBe(32);
    expect(receiver.unprotectRtcp(wireRtcp(sender), out)).toBe(16);
    receiver.addKey(masterKey(suite, 2, B));
    sender.addKey(masterKey(suite, 2, B));
    sender.useKey(B);
    expect(receiver.unprotect(wire(sender, 2), out)).toBe(32);
    expect(receiver.keyUsage(B)).toEqual({ rtp: 1, rtcp: 0 });
    expect(receiver.removeKey(A)).toBe(true);
    expect(receiver.unprotect(wire(sender, 3), out)).toBe(32);
  });

  it("an MKI is counted in the overheads and refused where it is unknown", () => {
    const [named, bare] = [createSrtpSender(options(masterKey(suite, 1, A))), createSrtpSender(options(masterKey(suite, 1)))];
    expect(named.rtpOverhead).toBe(bare.rtpOverhead + 2);
    expect(named.rtcpOverhead).toBe(bare.rtcpOverhead + 2);
    const receiver = createSrtpReceiver(options(masterKey(suite, 1, B)));
    expect(receiver.unprotect(wire(named, 1), out)).toBe(SrtpFailure.unknownMki);
    expect(receiver.unprotectRtcp(wireRtcp(named), out)).toBe(SrtpFailure.unknownMki);
    expect(() => named.useKey(B)).toThrow(expect.objectContaining({ code: "srtp.unknown-mki" }));
    expect(() => named.addKey(masterKey(suite, 2))).toThrow(expect.objectContaining({ code: "srtp.mki-length" }));
    expect(() => named.addKey(masterKey(suite, 2, A))).toThrow(expect.objectContaining({ code: "srtp.mki-duplicate" }));
    expect(named.keyUsage(B)).toBeUndefined();
  });

  it("does nothing without a key, or after it was closed", () => {
    const sender = createSrtpSender(options(masterKey(suite, 1)));
    const receiver = createSrtpReceiver(options(masterKey(suite, 1)));
    const packet = wire(sender, 1);
    sender.removeKey();
    expect(() => wire(sender, 2)).toThrow(expect.objectContaining({ code: "srtp.closed" }));
    sender.addKey(masterKey(suite, 2));
    sender.useKey();
    wire(sender, 2);
    sender.close();
    receiver.close();
    for (const attempt of [
      () => wire(sender, 3),
      () => wireRtcp(sender),
      () => sender.useKey(),
      () => sender.addKey(masterKey(suite, 3)),
    ]) {
      expect(attempt).toThrow(expect.objectContaining({ code: "srtp.closed" }));
    }
    expect(() => sender.protectBatch([], [], new Int32Array(0))).toThrow(expect.objectContaining({ code: "srtp.closed" }));
    expect(receiver.unprotect(packet, out)).toBe(SrtpFailure.closed);
    expect(receiver.unprotectRtcp(packet, out)).toBe(SrtpFailure.closed);
    expect(sender.ssrcs).toEqual([]);
    sender.close();
  });
});
