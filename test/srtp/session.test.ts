import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { equalBytes, formatHex } from "../../src/bytes/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import {
  createSrtpReceiver,
  createSrtpSender,
  packetCipherFactory,
  SrtpFailure,
  type SrtpOptions,
  type SrtpPolicy,
  suiteOf,
} from "../../src/srtp/index.js";
import { anyRtp, anySuite, BACKENDS, masterKey, rtcpPacket, rtpHeaderOctets, rtpPacket, SUITES_AND_BACKENDS } from "./packets.js";
import { referenceRtcp, referenceRtp } from "./reference.js";

const SUITE = "AES_CM_128_HMAC_SHA1_80";

function pair(policy: SrtpPolicy, more: Partial<SrtpOptions> = {}) {
  const options = { policy, keys: [masterKey(policy.suite)], ...more };
  return { sender: createSrtpSender(options), receiver: createSrtpReceiver(options) };
}

function sealed(sender: ReturnType<typeof createSrtpSender>, packet: Uint8Array): Uint8Array {
  const out = new Uint8Array(packet.length + sender.rtpOverhead);
  return out.subarray(0, sender.protect(packet, out));
}

function sealedRtcp(sender: ReturnType<typeof createSrtpSender>, packet: Uint8Array): Uint8Array {
  const out = new Uint8Array(packet.length + sender.rtcpOverhead);
  return out.subarray(0, sender.protectRtcp(packet, out));
}

describe.each(SUITES_AND_BACKENDS)("$suite on $name", ({ suite, crypto, backend }) => {
  it("protects as the RFCs spell it, and opens what it protected", () => {
    fc.assert(
      fc.property(fc.array(anyRtp, { minLength: 1, maxLength: 12 }), fc.boolean(), (shapes, withMki) => {
        const mki = withMki ? Uint8Array.of(9, 8, 7, 6) : undefined;
        const key = masterKey(suite, 3, mki);
        const { sender, receiver } = pair({ suite }, { keys: [key], crypto, backend });
        const used = new Set<number>();
        for (const shape of shapes) {
          if (used.has(shape.ssrc)) continue;
          used.add(shape.ssrc);
          const packet = rtpPacket(shape);
          const expected = referenceRtp(
            { suite: suiteOf(suite), master: key, packet, ...(mki && { mki }) },
            rtpHeaderOctets(shape),
            0,
          );
          const got = sealed(sender, packet);
          expect(formatHex(got)).toBe(formatHex(expected));
          const opened = new Uint8Array(packet.length);
          expect(receiver.unprotect(got, opened)).toBe(packet.length);
          expect(equalBytes(opened, packet)).toBe(true);
        }
      }),
      { numRuns: 25 },
    );
  });

  it("protects and opens SRTCP, index after index, with E = 1 and E = 0", () => {
    for (const encryptRtcp of [true, false]) {
      const key = masterKey(suite, 4);
      const { sender, receiver } = pair({ suite, encryptRtcp }, { keys: [key], crypto, backend });
      for (let index = 0; index < 5; index++) {
        const packet = rtcpPacket(index * 3);
        const encrypted = encryptRtcp && !suite.startsWith("NULL");
        const got = sealedRtcp(sender, packet);
        expect(formatHex(got)).toBe(formatHex(referenceRtcp({ suite: suiteOf(suite), master: key, packet, encrypted }, index)));
        const opened = new Uint8Array(packet.length);
        expect(receiver.unprotectRtcp(got, opened)).toBe(packet.length);
        expect(equalBytes(opened, packet)).toBe(true);
      }
    }
  });

  it("a flipped bit, a cut or an added octet is refused at every place, and leaves no state", () => {
    const { sender, receiver } = pair({ suite }, { crypto, backend });
    const packets = [sealed(sender, rtpPacket({ sequence: 100, csrcs: 2, extension: 1 })), sealedRtcp(sender, rtcpPacket(4))];
    const methods = ["unprotect", "unprotectRtcp"] as const;
    const out = new Uint8Array(200);
    packets.forEach((packet, which) => {
      const method = methods[which] as (typeof methods)[number];
      for (let at = 0; at < packet.length; at++) {
        for (const bit of [1, 0x80]) {
          const forged = packet.slice();
          forged[at] = (forged[at] as number) ^ bit;
          expect(receiver[method](forged, out), `${method}, octet ${at}`).toBeLessThan(0);
        }
        expect(receiver[method](packet.subarray(0, at), out), `${method}, cut at ${at}`).toBeLessThan(0);
      }
      expect(receiver[method](Uint8Array.from([...packet, 0]), out)).toBeLessThan(0);
    });
    expect(receiver.ssrcs).toEqual([]);
    expect(receiver.statistics.packets + receiver.rtcpStatistics.packets).toBe(0);
    expect(receiver.statistics.authenticationFailures).toBeGreaterThan(packets[0]?.length as number);
    packets.forEach((packet, which) => {
      expect(receiver[methods[which] as (typeof methods)[number]](packet, out)).toBeGreaterThan(0);
    });
  });

  it("goes through the turn of the sequence number, in place, with packets lost and out of order", () => {
    const { sender, receiver } = pair({ suite }, { crypto, backend });
    const rng = [3, 1, 0, 2, 5, 4, 7, 6];
    const packets = Array.from({ length: 160 }, (_, i) =>
      rtpPacket({ sequence: (65450 + i) & 0xffff, payload: new Uint8Array(i).fill(i) }),
    );
    const wire = packets.map((packet) => {
      const memory = new Uint8Array(packet.length + sender.rtpOverhead);
      memory.set(packet);
      return memory.subarray(0, sender.protect(memory.subarray(0, packet.length), memory));
    });
    expect(sender.rolloverCounter(0xcafebabe)).toBe(1);
    expect(sender.highestSequence(0xcafebabe)).toBe((65450 + 159) & 0xffff);
    for (let group = 0; group < 160; group += 8) {
      for (const offset of rng) {
        const i = group + offset;
        if (i % 11 === 5) continue;
        const memory = (wire[i] as Uint8Array).slice();
        const length = receiver.unprotect(memory, memory);
        expect(equalBytes(memory.subarray(0, Math.max(0, length)), packets[i] as Uint8Array)).toBe(true);
      }
    }
    expect(receiver.rolloverCounter(0xcafebabe)).toBe(1);
    expect(receiver.statistics.packets).toBe(160 - 15);
  });
});

describe("all backends", () => {
  it("make the same packets and open each other's", () => {
    fc.assert(
      fc.property(
        anySuite,
        fc.integer({ min: 0, max: 0xffff }),
        fc.array(fc.tuple(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 0, max: 260 })), { minLength: 1, maxLength: 40 }),
        (suite, first, steps) => {
          const sessions = BACKENDS.map(({ crypto, backend }) => pair({ suite }, { crypto, backend }));
          let sequence = first;
          for (const [step, length] of steps) {
            sequence += step;
            const packet = rtpPacket({ sequence: sequence & 0xffff, payload: new Uint8Array(length).fill(step) });
            const [wire, ...others] = sessions.map(({ sender }) => sealed(sender, packet)) as [Uint8Array, ...Uint8Array[]];
            for (const other of others) expect(equalBytes(other, wire)).toBe(true);
            for (const { receiver } of sessions) {
              const out = new Uint8Array(packet.length);
              expect(receiver.unprotect(wire, out)).toBe(packet.length);
              expect(equalBytes(out, packet)).toBe(true);
            }
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  it.each(BACKENDS)("$name is what a session says it has", ({ name, crypto, backend }) => {
    const { sender, receiver } = pair({ suite: SUITE }, { crypto, backend });
    expect([sender.backend, receiver.backend]).toEqual([name, name]);
  });

  it("the kernel is what a session gets where nothing else is asked for", () => {
    expect(pair({ suite: SUITE }).sender.backend).toBe("kernel+node");
    expect(pair({ suite: SUITE }, { cipherFactory: packetCipherFactory(nodeCrypto) }).sender.backend).toBe("custom");
  });
});

describe("policy", () => {
  it("clear SRTP is authenticated; unauthenticated SRTP has no tag and authenticated SRTCP", () => {
    const clear = pair({ suite: SUITE, encryptRtp: false });
    const packet = rtpPacket({ sequence: 1 });
    const wire = sealed(clear.sender, packet);
    expect(equalBytes(wire.subarray(0, packet.length), packet)).toBe(true);
    expect(wire).toHaveLength(packet.length + 10);
    expect(clear.receiver.unprotect(wire, new Uint8Array(100))).toBe(packet.length);

    const open = pair({ suite: SUITE, authenticateRtp: false });
    expect(sealed(open.sender, packet)).toHaveLength(packet.length);
    expect(open.receiver.unprotect(sealed(open.sender, rtpPacket({ sequence: 2 })), new Uint8Array(100))).toBe(packet.length);
    expect(sealedRtcp(open.sender, rtcpPacket(1))).toHaveLength(12 + 14);
  });

  it("the E bit of the packet decides, whatever the receiver's policy", () => {
    const clear = pair({ suite: SUITE, encryptRtcp: false });
    const secret = pair({ suite: SUITE, encryptRtcp: true });
    const out = new Uint8Array(100);
    expect(secret.receiver.unprotectRtcp(sealedRtcp(clear.sender, rtcpPacket(3)), out)).toBe(20);
    expect(clear.receiver.unprotectRtcp(sealedRtcp(secret.sender, rtcpPacket(3)), out)).toBe(20);
    expect(equalBytes(out.subarray(0, 20), rtcpPacket(3))).toBe(true);
  });

  it("SRTCP tags of 4 octets where a peer has them", () => {
    const key = masterKey("AES_CM_128_HMAC_SHA1_32");
    const short = pair({ suite: "AES_CM_128_HMAC_SHA1_32", rtcpTagLength: 4 }, { keys: [key] });
    const packet = rtcpPacket(3);
    const wire = sealedRtcp(short.sender, packet);
    expect(formatHex(wire)).toBe(
      formatHex(referenceRtcp({ suite: suiteOf("AES_CM_128_HMAC_SHA1_32"), master: key, packet }, 0, 4)),
    );
    expect(short.sender.rtcpOverhead).toBe(8);
    expect(short.receiver.unprotectRtcp(wire, new Uint8Array(20))).toBe(20);
    expect(
      pair({ suite: "AES_CM_128_HMAC_SHA1_32" }, { keys: [key] }).receiver.unprotectRtcp(wire, new Uint8Array(20)),
    ).toBeLessThan(0);
  });

  it.each([1, 2, 16, 2 ** 24])("key derivation rate %i: packets late over an epoch still open", (keyDerivationRate) => {
    const policy = { suite: SUITE, keyDerivationRate } as const;
    const { sender, receiver } = pair(policy);
    const wire = Array.from({ length: 40 }, (_, i) => sealed(sender, rtpPacket({ sequence: (65520 + i) & 0xffff })));
    const first = sealed(createSrtpSender({ policy: { suite: SUITE }, keys: [masterKey(SUITE)] }), rtpPacket({ sequence: 65520 }));
    expect(equalBytes(wire[0] as Uint8Array, first)).toBe(keyDerivationRate === 2 ** 24);
    const out = new Uint8Array(100);
    expect(receiver.unprotect(wire[0] as Uint8Array, out)).toBe(32);
    for (const i of [5, 3, 4, 1, 2, 20, 10, 39, 38, 12, 30]) expect(receiver.unprotect(wire[i] as Uint8Array, out)).toBe(32);
    for (let i = 0; i < 5; i++) expect(receiver.unprotectRtcp(sealedRtcp(sender, rtcpPacket(2)), out)).toBe(16);
  });

  it.each<[string, Partial<SrtpOptions>, string]>([
    ["AEAD without encryption", { policy: { suite: "AEAD_AES_128_GCM", encryptRtp: false } }, "srtp.policy"],
    ["AEAD without authentication", { policy: { suite: "AEAD_AES_128_GCM", authenticateRtp: false } }, "srtp.policy"],
    ["AEAD with another tag", { policy: { suite: "AEAD_AES_128_GCM", rtcpTagLength: 10 } }, "srtp.policy"],
    ["a tag of three octets", { policy: { suite: SUITE, rtcpTagLength: 3 } }, "srtp.policy"],
    ["a tag of 21 octets", { policy: { suite: SUITE, rtcpTagLength: 21 } }, "srtp.policy"],
    ["a rate of three", { policy: { suite: SUITE, keyDerivationRate: 3 } }, "srtp.policy"],
    ["a rate of 2^25", { policy: { suite: SUITE, keyDerivationRate: 2 ** 25 } }, "srtp.policy"],
    ["an unknown suite", { policy: { suite: "AES" as typeof SUITE } }, "srtp.suite"],
    ["a window of 32", { replayWindow: 32 }, "srtp.option"],
    ["a window of 100", { replayWindow: 100 }, "srtp.option"],
    ["no SSRC", { maxSsrcs: 0 }, "srtp.option"],
    ["no key", { keys: [] }, "srtp.option"],
    ["a short key", { keys: [{ key: new Uint8Array(15), salt: new Uint8Array(14) }] }, "srtp.key-length"],
    ["a short salt", { keys: [{ key: new Uint8Array(16), salt: new Uint8Array(12) }] }, "srtp.key-length"],
    ["a long MKI", { keys: [masterKey(SUITE, 1, new Uint8Array(256))] }, "srtp.mki-length"],
    [
      "two MKI lengths",
      { keys: [masterKey(SUITE, 1, new Uint8Array(2)), masterKey(SUITE, 2, new Uint8Array(3))] },
      "srtp.mki-length",
    ],
    [
      "one MKI twice",
      { keys: [masterKey(SUITE, 1, new Uint8Array(2)), masterKey(SUITE, 2, new Uint8Array(2))] },
      "srtp.mki-duplicate",
    ],
    ["no lifetime", { keys: [{ ...masterKey(SUITE), rtpLifetime: 0 }] }, "srtp.lifetime-range"],
    ["a lifetime beyond the index", { keys: [{ ...masterKey(SUITE), rtcpLifetime: 2 ** 31 + 1 }] }, "srtp.lifetime-range"],
  ])("%s is refused", (_, more, code) => {
    const options = {
      policy: { suite: SUITE },
      keys: [masterKey(more.policy?.suite === "AEAD_AES_128_GCM" ? "AEAD_AES_128_GCM" : SUITE)],
      ...more,
    } as const;
    expect(() => createSrtpSender(options)).toThrow(expect.objectContaining({ code }));
    expect(() => createSrtpReceiver(options)).toThrow(expect.objectContaining({ code }));
  });

  it("the caller's key may be wiped after it was handed over", () => {
    for (const suite of [SUITE, "AEAD_AES_256_GCM"] as const) {
      for (const keyDerivationRate of [0, 16]) {
        const key = masterKey(suite);
        const sender = createSrtpSender({ policy: { suite, keyDerivationRate }, keys: [key] });
        key.key.fill(0);
        key.salt.fill(0);
        const { receiver } = pair({ suite, keyDerivationRate });
        expect(receiver.unprotect(sealed(sender, rtpPacket({ sequence: 77 })), new Uint8Array(100))).toBe(32);
      }
    }
  });
});

describe("sender", () => {
  it("refuses to use a packet index twice, and an index too old to know", () => {
    const { sender } = pair({ suite: SUITE });
    sealed(sender, rtpPacket({ sequence: 1000 }));
    sealed(sender, rtpPacket({ sequence: 990 }));
    for (const sequence of [1000, 990, 1000 - 128]) {
      expect(() => sealed(sender, rtpPacket({ sequence }))).toThrow(expect.objectContaining({ code: "srtp.index-reuse" }));
    }
    sealed(sender, rtpPacket({ sequence: 1000, ssrc: 5 }));
    sealed(sender, rtpPacket({ sequence: 1000 - 127 }));
  });

  it("never uses an index twice, whatever the order and the ROCs set", () => {
    const step = fc.oneof(
      fc.record({ sequence: fc.integer({ min: 0, max: 0xffff }) }),
      fc.record({ near: fc.integer({ min: -200, max: 300 }) }),
      fc.record({ rollover: fc.integer({ min: 0, max: 6 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const sender = createSrtpSender({ policy: { suite: "NULL_HMAC_SHA1_32" }, keys: [masterKey("NULL_HMAC_SHA1_32")] });
        const seen = new Set<string>();
        const empty = new Uint8Array(0);
        for (const one of steps) {
          try {
            if ("rollover" in one) sender.setRolloverCounter(0xcafebabe, one.rollover);
            else {
              const sequence = "near" in one ? ((sender.highestSequence(0xcafebabe) ?? 0) + one.near) & 0xffff : one.sequence;
              // With equal contents two packets are equal exactly where their indices are.
              const wire = formatHex(sealed(sender, rtpPacket({ sequence, payload: empty })));
              expect(seen.has(wire)).toBe(false);
              seen.add(wire);
            }
          } catch (error) {
            expect(error).toMatchObject({ code: "srtp.index-reuse" });
          }
        }
      }),
    );
  });

  it("ends with the 48-bit index", () => {
    const { sender, receiver } = pair({ suite: SUITE });
    sender.setRolloverCounter(0xcafebabe, 0xffffffff);
    receiver.setRolloverCounter(0xcafebabe, 0xffffffff);
    expect(receiver.unprotect(sealed(sender, rtpPacket({ sequence: 0xfffe })), new Uint8Array(100))).toBe(32);
    expect(receiver.unprotect(sealed(sender, rtpPacket({ sequence: 0xffff })), new Uint8Array(100))).toBe(32);
    expect(() => sealed(sender, rtpPacket({ sequence: 0 }))).toThrow(expect.objectContaining({ code: "srtp.lifetime" }));
    expect(receiver.unprotect(new Uint8Array([...rtpPacket({ sequence: 0 }), ...new Uint8Array(10)]), new Uint8Array(100))).toBe(
      SrtpFailure.lifetime,
    );
  });

  it("reaching the lifetime of a key is an error until another is used", () => {
    const sender = createSrtpSender({ policy: { suite: SUITE }, keys: [{ ...masterKey(SUITE), rtpLifetime: 3, rtcpLifetime: 2 }] });
    for (const ssrc of [1, 2, 3]) sealed(sender, rtpPacket({ sequence: 9, ssrc }));
    expect(() => sealed(sender, rtpPacket({ sequence: 10 }))).toThrow(expect.objectContaining({ code: "srtp.lifetime" }));
    sealedRtcp(sender, rtcpPacket(1));
    sealedRtcp(sender, rtcpPacket(1));
    expect(() => sealedRtcp(sender, rtcpPacket(1))).toThrow(expect.objectContaining({ code: "srtp.lifetime" }));
    expect(sender.keyUsage()).toEqual({ rtp: 3, rtcp: 2 });
    sender.addKey(masterKey(SUITE, 2));
    expect(() => sealed(sender, rtpPacket({ sequence: 10 }))).toThrow(expect.objectContaining({ code: "srtp.lifetime" }));
    sender.useKey();
    sealed(sender, rtpPacket({ sequence: 10 }));
    sealedRtcp(sender, rtcpPacket(1));
  });

  it("says what is wrong with a packet, and a packet refused uses no index", () => {
    const { sender } = pair({ suite: SUITE }, { maxSsrcs: 1 });
    const code = (packet: Uint8Array, room: number) => () => sender.protect(packet, new Uint8Array(room));
    const packet = rtpPacket({ sequence: 1 });
    expect(code(packet.subarray(0, 11), 100)).toThrow(expect.objectContaining({ code: "srtp.malformed" }));
    expect(code(new Uint8Array(0x10000).fill(0x80), 0x20000)).toThrow(expect.objectContaining({ code: "srtp.malformed" }));
    expect(code(packet, packet.length + 9)).toThrow(expect.objectContaining({ code: "srtp.output-space" }));
    expect(code(packet, packet.length + 10)()).toBe(packet.length + 10);
    expect(code(rtpPacket({ sequence: 1, ssrc: 7 }), 100)).toThrow(expect.objectContaining({ code: "srtp.ssrc-limit" }));
    expect(() => sender.protectRtcp(rtcpPacket(0).subarray(0, 7), new Uint8Array(100))).toThrow(
      expect.objectContaining({ code: "srtp.malformed" }),
    );
    expect(() => sender.protectRtcp(rtcpPacket(0), new Uint8Array(21))).toThrow(
      expect.objectContaining({ code: "srtp.output-space" }),
    );
    expect(() => sender.setRolloverCounter(8, 0)).toThrow(expect.objectContaining({ code: "srtp.ssrc-limit" }));
    expect(() => sender.setRolloverCounter(0xcafebabe, 2 ** 32)).toThrow(expect.objectContaining({ code: "srtp.option" }));
  });

  it("a batch is the packets one by one; those refused are told and do not stop it", () => {
    const [batch, single] = [pair({ suite: SUITE }), pair({ suite: SUITE })];
    const packets = [1, 2, 2, 3, 4].map((sequence) => rtpPacket({ sequence }));
    packets.push(new Uint8Array(3));
    const outs = packets.map(() => new Uint8Array(100));
    const lengths = new Int32Array(packets.length);
    expect(batch.sender.protectBatch(packets, outs, lengths)).toBe(4);
    expect([...lengths]).toEqual([42, 42, SrtpFailure.replay, 42, 42, SrtpFailure.malformed]);
    for (const i of [0, 1, 3, 4]) {
      expect(equalBytes((outs[i] as Uint8Array).subarray(0, 42), sealed(single.sender, packets[i] as Uint8Array))).toBe(true);
    }
    const opened = new Int32Array(5);
    const wire = outs.slice(0, 5).map((out, i) => out.subarray(0, Math.max(0, lengths[i] as number)));
    expect(batch.receiver.unprotectBatch(wire, wire, opened)).toBe(4);
    expect([...opened]).toEqual([32, 32, SrtpFailure.malformed, 32, 32]);
  });
});

describe("receiver", () => {
  const out = new Uint8Array(2000);

  it("opens every packet once, whatever the order and the repetitions", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(64, 128, 1024),
        fc.array(fc.integer({ min: -60, max: 60 }), { minLength: 1, maxLength: 100 }),
        (replayWindow, jumps) => {
          const { sender, receiver } = pair({ suite: "NULL_HMAC_SHA1_80" }, { replayWindow });
          const wire = Array.from({ length: 200 }, (_, i) => sealed(sender, rtpPacket({ sequence: (65436 + i) & 0xffff })));
          const seen = new Set<number>();
          let at = 30;
          let highest = -1;
          for (const jump of jumps) {
            at = Math.min(199, Math.max(0, at + jump));
            const expected = seen.has(at) || at <= highest - replayWindow ? SrtpFailure.replay : 32;
            expect(receiver.unprotect(wire[at] as Uint8Array, out)).toBe(expected);
            if (expected > 0) seen.add(at);
            highest = Math.max(highest, at);
          }
          expect(receiver.statistics.packets).toBe(seen.size);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("replayed SRTCP is refused", () => {
    const { sender, receiver } = pair({ suite: SUITE });
    const wire = Array.from({ length: 200 }, () => sealedRtcp(sender, rtcpPacket(2)));
    for (const i of [0, 5, 3]) expect(receiver.unprotectRtcp(wire[i] as Uint8Array, out)).toBe(16);
    for (const i of [0, 5, 3]) expect(receiver.unprotectRtcp(wire[i] as Uint8Array, out)).toBe(SrtpFailure.replay);
    expect(receiver.unprotectRtcp(wire[199] as Uint8Array, out)).toBe(16);
    expect(receiver.unprotectRtcp(wire[71] as Uint8Array, out)).toBe(SrtpFailure.replay);
    expect(receiver.unprotectRtcp(wire[72] as Uint8Array, out)).toBe(16);
    expect(receiver.rtcpStatistics).toMatchObject({ packets: 5, octets: 80, replays: 4 });
  });

  it("any octets are a length or a failure from the table", () => {
    const receivers = (["AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM", "NULL_HMAC_SHA1_32"] as const).flatMap((suite) =>
      [undefined, Uint8Array.of(1)].map((mki) => createSrtpReceiver({ policy: { suite }, keys: [masterKey(suite, 1, mki)] })),
    );
    const failures: number[] = Object.values(SrtpFailure);
    const almost = fc.uint8Array({ maxLength: 120 }).map((octets) => {
      if (octets.length > 0) octets[0] = ((octets[0] as number) & 0x3f) | 0x80;
      return octets;
    });
    fc.assert(
      fc.property(fc.oneof(almost, fc.uint8Array({ maxLength: 60 })), fc.integer({ min: 0, max: 100 }), (octets, room) => {
        for (const receiver of receivers) {
          expect(failures).toContain(receiver.unprotect(octets, out.subarray(0, room)));
          expect(failures).toContain(receiver.unprotectRtcp(octets, out.subarray(0, room)));
          expect(receiver.ssrcs).toEqual([]);
        }
      }),
    );
    expect(receivers[0]?.unprotect(new Uint8Array(0x10000).fill(0x80), new Uint8Array(0x10000))).toBe(SrtpFailure.malformed);
  });

  it("keeps state for no more SSRCs than allowed, and those only after authentication", () => {
    const { sender } = pair({ suite: SUITE });
    const { receiver } = pair({ suite: SUITE }, { maxSsrcs: 2 });
    for (let ssrc = 100; ssrc < 200; ssrc++) {
      const forged = sealed(sender, rtpPacket({ sequence: 1, ssrc }));
      forged[20] = (forged[20] as number) ^ 1;
      expect(receiver.unprotect(forged, out)).toBe(SrtpFailure.authentication);
    }
    expect(receiver.ssrcs).toEqual([]);
    expect(receiver.unprotect(sealed(sender, rtpPacket({ sequence: 1, ssrc: 1 })), out)).toBe(32);
    expect(receiver.unprotectRtcp(sealedRtcp(sender, rtcpPacket(2, 2)), out)).toBe(16);
    expect(receiver.unprotect(sealed(sender, rtpPacket({ sequence: 1, ssrc: 3 })), out)).toBe(SrtpFailure.ssrcLimit);
    expect(receiver.unprotectRtcp(sealedRtcp(sender, rtcpPacket(2, 3)), out)).toBe(SrtpFailure.ssrcLimit);
    expect(receiver.unprotect(sealed(sender, rtpPacket({ sequence: 1, ssrc: 2 })), out)).toBe(32);
    expect(receiver.ssrcs).toEqual([1, 2]);
    expect(receiver.statistics.discarded).toBe(1);
    expect(() => receiver.setRolloverCounter(9, 0)).toThrow(expect.objectContaining({ code: "srtp.ssrc-limit" }));
    // One that is never used again makes room for another.
    expect(receiver.forget(1)).toBe(true);
    expect(receiver.forget(1)).toBe(false);
    expect(receiver.ssrcs).toEqual([2]);
    expect(receiver.unprotect(sealed(sender, rtpPacket({ sequence: 2, ssrc: 3 })), out)).toBe(32);
  });

  it("a forged packet moves neither ROC nor window", () => {
    const { sender, receiver } = pair({ suite: SUITE });
    receiver.unprotect(sealed(sender, rtpPacket({ sequence: 0xfff0 })), out);
    for (let sequence = 0; sequence < 0x7000; sequence += 0x101) {
      const forged = new Uint8Array(42);
      forged.set(rtpPacket({ sequence }));
      expect(receiver.unprotect(forged, out)).toBe(SrtpFailure.authentication);
    }
    expect(receiver.rolloverCounter(0xcafebabe)).toBe(0);
    expect(receiver.highestSequence(0xcafebabe)).toBe(0xfff0);
    expect(receiver.unprotect(sealed(sender, rtpPacket({ sequence: 0xffef })), out)).toBe(32);
  });

  it("a late packet moves neither ROC nor highest sequence number back", () => {
    const { sender, receiver } = pair({ suite: SUITE });
    const wire = [65530, 65535, 3].map((sequence) => sealed(sender, rtpPacket({ sequence })));
    for (const i of [0, 2, 1]) expect(receiver.unprotect(wire[i] as Uint8Array, out)).toBe(32);
    expect([receiver.rolloverCounter(0xcafebabe), receiver.highestSequence(0xcafebabe)]).toEqual([1, 3]);
    sealed(sender, rtpPacket({ sequence: 65534 }));
    expect([sender.rolloverCounter(0xcafebabe), sender.highestSequence(0xcafebabe)]).toEqual([1, 3]);
  });

  it("a late joiner is told the ROC", () => {
    const { sender, receiver } = pair({ suite: SUITE });
    sender.setRolloverCounter(0xcafebabe, 3);
    const first = sealed(sender, rtpPacket({ sequence: 500 }));
    expect(receiver.unprotect(first, out)).toBe(SrtpFailure.authentication);
    receiver.setRolloverCounter(0xcafebabe, 3);
    expect(receiver.highestSequence(0xcafebabe)).toBeUndefined();
    expect(receiver.unprotect(first, out)).toBe(32);
    expect(receiver.unprotect(first, out)).toBe(SrtpFailure.replay);
    expect(receiver.rolloverCounter(0xcafebabe)).toBe(3);
    expect(receiver.rolloverCounter(1)).toBeUndefined();
  });

  it("a late joiner who is told the sequence number too is right over the turn", () => {
    const { sender, receiver } = pair({ suite: SUITE });
    sender.setRolloverCounter(0xcafebabe, 4);
    receiver.setRolloverCounter(0xcafebabe, 3, 0xfff8);
    expect(receiver.unprotect(sealed(sender, rtpPacket({ sequence: 2 })), out)).toBe(32);
    expect(receiver.rolloverCounter(0xcafebabe)).toBe(4);
  });

  it.each([
    [3, 3],
    [3, 4],
    [3, 2],
    [3, 0],
    [1, 0],
    [0, 1],
    [0xffffffff, 0xfffffffe],
  ])("told ROC %i it finds %i where it may search", (told, actual) => {
    const options = { policy: { suite: SUITE }, keys: [masterKey(SUITE)] } as const;
    const sender = createSrtpSender(options);
    sender.setRolloverCounter(0xcafebabe, actual);
    const wire = sealed(sender, rtpPacket({ sequence: 40000 }));
    const [searching, strict] = [
      createSrtpReceiver({ ...options, searchRolloverCounter: true }),
      createSrtpReceiver({ ...options, initialRolloverCounter: told }),
    ];
    searching.setRolloverCounter(0xcafebabe, told);
    expect(searching.unprotect(wire, out)).toBe(32);
    expect(searching.rolloverCounter(0xcafebabe)).toBe(actual);
    expect(strict.unprotect(wire, out)).toBe(told === actual ? 32 : SrtpFailure.authentication);
  });

  it("refuses ROCs and sequence numbers that cannot be", () => {
    const { receiver } = pair({ suite: SUITE });
    for (const [rollover, sequence] of [[-1], [2 ** 32], [0.5], [0, 65536], [0, -1]] as const) {
      expect(() => receiver.setRolloverCounter(1, rollover, sequence)).toThrow(expect.objectContaining({ code: "srtp.option" }));
    }
  });

  it("needs room for the packet, not for its tag", () => {
    const { sender, receiver } = pair({ suite: SUITE });
    const wire = sealed(sender, rtpPacket({ sequence: 9 }));
    expect(receiver.unprotect(wire, new Uint8Array(31))).toBe(SrtpFailure.outputSpace);
    expect(receiver.unprotect(wire, new Uint8Array(32))).toBe(32);
  });
});
