import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { concatBytes, equalBytes, formatHex, parseHex } from "../../src/bytes/index.js";
import {
  authenticatesEverything,
  createSrtpReceiver,
  createSrtpSender,
  protectsEverything,
  type RolloverCarrying,
  SrtpFailure,
  type SrtpReceiverOptions,
  type SuiteName,
  suiteOf,
} from "../../src/srtp/index.js";
import extras from "../vectors/derived-srtp-extras.json" with { type: "json" };
import { BACKENDS, masterKey, rtcpPacket, rtpPacket, SUITES_AND_BACKENDS } from "./packets.js";
import { referenceRtp } from "./reference.js";

const SUITE = "AES_CM_128_HMAC_SHA1_80";
const SSRC = 0xcafebabe;
/** The master key and the packet of the vectors. */
const VECTOR_KEY = { key: parseHex("e1f97a0d3e018be0d64fa32c06de4139"), salt: parseHex("0ec675ad498afeebb6960b3aabe6") };
const VECTOR_RTP = parseHex(`800f1234decafbadcafebabe${"ab".repeat(16)}`);

function pair(suite: SuiteName, rolloverCarrying: RolloverCarrying, more: Partial<SrtpReceiverOptions> = {}) {
  const options = { policy: { suite, rolloverCarrying }, keys: [masterKey(suite)], ...more };
  return { sender: createSrtpSender(options), receiver: createSrtpReceiver(options), join: () => createSrtpReceiver(options) };
}

function sealed(sender: ReturnType<typeof createSrtpSender>, packet: Uint8Array): Uint8Array {
  const out = new Uint8Array(packet.length + sender.rtpOverhead);
  return out.slice(0, sender.protect(packet, out));
}

function opens(receiver: ReturnType<typeof createSrtpReceiver>, wire: Uint8Array, packet: Uint8Array): boolean {
  const out = new Uint8Array(packet.length);
  return receiver.unprotect(wire, out) === packet.length && equalBytes(out, packet);
}

function vector(start: string): string | undefined {
  return extras.vectors.find(({ name }) => name.startsWith(start))?.srtp;
}

/** The modes a suite can have. */
const modesOf = (suite: SuiteName): RolloverCarrying[] =>
  suite.startsWith("AEAD")
    ? [{ mode: 3 }, { mode: 3, rate: 7 }]
    : [
        { mode: 1 },
        { mode: 1, rate: 7 },
        { mode: 2 },
        { mode: 2, rate: 7 },
        { mode: 2, rate: 3, tagLength: 20 },
        { mode: 3 },
        { mode: 3, rate: 7 },
      ];

describe.each(BACKENDS)("tags that carry the rollover counter on $name", ({ crypto, backend }) => {
  it.each([
    ["RCCm1/RCCm2 tag, SEQ mod R = 0", { mode: 1 }],
    ["RCCm1/RCCm2 tag, SEQ mod R = 0", { mode: 2, rate: 0x1234 }],
    ["RCCm2 tag, SEQ mod R != 0", { mode: 2, rate: 7 }],
    ["RCCm3 tag, SEQ mod R = 0", { mode: 3 }],
  ] as const)("%s, %j", (name, rolloverCarrying) => {
    const policy = { suite: SUITE, rolloverCarrying } as const;
    const sender = createSrtpSender({ policy, keys: [VECTOR_KEY], crypto, backend });
    sender.setRolloverCounter(SSRC, 7);
    expect(formatHex(sealed(sender, VECTOR_RTP))).toBe(vector(name));
  });

  it("mode 3 of AEAD: the counter follows ciphertext, AEAD tag and MKI", () => {
    const mki = Uint8Array.of(0xee, 0xff);
    const key = masterKey("AEAD_AES_128_GCM", 1, mki);
    const sender = createSrtpSender({
      policy: { suite: "AEAD_AES_128_GCM", rolloverCarrying: { mode: 3 } },
      keys: [key],
      crypto,
      backend,
    });
    sender.setRolloverCounter(SSRC, 7);
    const reference = referenceRtp({ suite: suiteOf("AEAD_AES_128_GCM"), master: key, packet: VECTOR_RTP, mki }, 12, 7);
    const expected = formatHex(concatBytes(reference, Uint8Array.of(0, 0, 0, 7)));
    expect(formatHex(sealed(sender, VECTOR_RTP))).toBe(expected);
    expect(expected).toHaveLength((vector("AEAD_AES_128_GCM")?.length ?? 0) + 2 * mki.length);
  });

  it("the counter stands between MKI and MAC", () => {
    const mki = Uint8Array.of(0xee, 0xff);
    const key = masterKey(SUITE, 1, mki);
    const sender = createSrtpSender({ policy: { suite: SUITE, rolloverCarrying: { mode: 1 } }, keys: [key], crypto, backend });
    sender.setRolloverCounter(SSRC, 7);
    const reference = referenceRtp({ suite: suiteOf(SUITE), master: key, packet: VECTOR_RTP, mki }, 12, 7);
    const at = VECTOR_RTP.length + mki.length;
    expect(formatHex(sealed(sender, VECTOR_RTP))).toBe(
      formatHex(concatBytes(reference.subarray(0, at), Uint8Array.of(0, 0, 0, 7), reference.subarray(at))),
    );
  });
});

describe.each(SUITES_AND_BACKENDS)("rollover carrying with $suite on $name", ({ suite, crypto, backend }) => {
  it.each(modesOf(suite))(
    "%j: packets come back through turns of the sequence number, in place, and a late one joins",
    (carrying) => {
      const { sender, receiver, join } = pair(suite, carrying, { crypto, backend });
      const { rate = 1 } = carrying;
      let late: ReturnType<typeof join> | undefined;
      let opened = 0;
      for (let i = 0; i < 200; i++) {
        const sequence = (65_500 + 701 * i) & 0xffff;
        const packet = rtpPacket({ sequence, payload: new Uint8Array(i).fill(i) });
        const memory = new Uint8Array(packet.length + sender.rtpOverhead);
        memory.set(packet);
        const wire = memory.subarray(0, sender.protect(memory.subarray(0, packet.length), memory));
        if (i > 120 && sequence % rate === 0) late ??= join();
        if (late !== undefined) opened += opens(late, wire, packet) ? 1 : 0;
        const length = receiver.unprotect(wire, wire);
        expect(equalBytes(wire.subarray(0, Math.max(0, length)), packet), `packet ${i}`).toBe(true);
      }
      expect(sender.rolloverCounter(SSRC)).toBe(3);
      expect(receiver.rolloverCounter(SSRC)).toBe(3);
      expect(late?.rolloverCounter(SSRC)).toBe(3);
      expect(late?.statistics.packets).toBe(opened);
      expect(opened).toBeGreaterThan(70);
    },
  );

  it.each(modesOf(suite))("%j: batches are as single packets", (carrying) => {
    const [single, batch] = [pair(suite, carrying, { crypto, backend }), pair(suite, carrying, { crypto, backend })];
    const packets = Array.from({ length: 50 }, (_, i) => rtpPacket({ sequence: (65_520 + i) & 0xffff, csrcs: i % 3 }));
    const outs = packets.map((packet) => new Uint8Array(packet.length + batch.sender.rtpOverhead));
    const lengths = new Int32Array(50);
    expect(batch.sender.protectBatch(packets, outs, lengths)).toBe(50);
    const wires = outs.map((out, i) => out.subarray(0, lengths[i]));
    wires.forEach((wire, i) => {
      expect(formatHex(wire)).toBe(formatHex(sealed(single.sender, packets[i] as Uint8Array)));
    });
    const opened = packets.map((packet) => new Uint8Array(packet.length));
    expect(batch.receiver.unprotectBatch(wires, opened, lengths)).toBe(50);
    opened.forEach((packet, i) => {
      expect(equalBytes(packet, packets[i] as Uint8Array)).toBe(true);
    });
  });

  it("SRTCP is as ever", () => {
    for (const carrying of modesOf(suite)) {
      const { sender, receiver } = pair(suite, carrying, { crypto, backend });
      const plain = createSrtpSender({ policy: { suite }, keys: [masterKey(suite)], crypto, backend });
      const [a, b] = [new Uint8Array(80), new Uint8Array(80)];
      const length = sender.protectRtcp(rtcpPacket(3), a);
      expect(plain.protectRtcp(rtcpPacket(3), b)).toBe(length);
      expect(equalBytes(a, b)).toBe(true);
      expect(receiver.unprotectRtcp(a.subarray(0, length), b)).toBe(20);
    }
  });
});

describe("a receiver with a wrong rollover counter", () => {
  const cases: readonly (readonly [SuiteName, RolloverCarrying])[] = [
    [SUITE, { mode: 1, rate: 5 }],
    [SUITE, { mode: 2, rate: 5 }],
    [SUITE, { mode: 3, rate: 5 }],
    ["AEAD_AES_128_GCM", { mode: 3, rate: 5 }],
  ];

  it.each(cases)("%s %j: takes the right one from the next packet that carries it, upwards and downwards", (suite, carrying) => {
    for (const wrong of [0, 6, 8, 900]) {
      const { sender, receiver } = pair(suite, carrying, { initialRolloverCounter: wrong });
      sender.setRolloverCounter(SSRC, 7);
      for (let sequence = 101; sequence < 140; sequence++) {
        const packet = rtpPacket({ sequence });
        const opened = opens(receiver, sealed(sender, packet), packet);
        expect(opened, `${wrong}, ${sequence}`).toBe(sequence >= 105);
      }
      expect(receiver.rolloverCounter(SSRC)).toBe(7);
    }
  });

  it("does not take one that is not authentic", () => {
    for (const [suite, carrying] of cases.filter(([name, { mode }]) => name !== SUITE || mode !== 3)) {
      const { sender, receiver } = pair(suite, { ...carrying, rate: 1 });
      sender.setRolloverCounter(SSRC, 7);
      const wire = sealed(sender, rtpPacket({ sequence: 10 }));
      const behind = suite === SUITE ? 10 : 0;
      for (let k = 0; k < 4; k++) {
        const forged = wire.slice();
        const at = forged.length - behind - 1 - k;
        forged[at] = (forged[at] as number) ^ 1;
        expect(receiver.unprotect(forged, new Uint8Array(100))).toBe(SrtpFailure.authentication);
      }
      expect(receiver.ssrcs).toEqual([]);
      expect(receiver.unprotect(wire, new Uint8Array(100))).toBe(32);
      const next = sealed(sender, rtpPacket({ sequence: 11 }));
      next[next.length - behind - 1] = 9;
      expect(receiver.unprotect(next, new Uint8Array(100))).toBe(SrtpFailure.authentication);
      expect(receiver.rolloverCounter(SSRC)).toBe(7);
    }
  });
});

describe("mode 1", () => {
  it("recovers with the next authentic packet from what injected ones did", () => {
    const { sender, receiver } = pair(SUITE, { mode: 1, rate: 8 });
    const send = (sequence: number) => {
      const packet = rtpPacket({ sequence });
      return opens(receiver, sealed(sender, packet), packet);
    };
    for (let sequence = 60_000; sequence < 60_020; sequence++) expect(send(sequence)).toBe(true);
    // Packets between carriers have no tag: any octets are one. These turn the receiver's counter over.
    expect(receiver.unprotect(rtpPacket({ sequence: 10_001 }), new Uint8Array(100))).toBe(32);
    expect(receiver.unprotect(rtpPacket({ sequence: 40_001 }), new Uint8Array(100))).toBe(32);
    expect(receiver.rolloverCounter(SSRC)).toBe(1);
    for (let sequence = 60_020; sequence < 60_040; sequence++) expect(send(sequence)).toBe(sequence >= 60_024);
    expect(receiver.rolloverCounter(SSRC)).toBe(0);
  });

  it("opens a packet with the counter once only", () => {
    const { sender, receiver } = pair(SUITE, { mode: 1, rate: 8 });
    const carrier = sealed(sender, rtpPacket({ sequence: 8 }));
    const out = new Uint8Array(100);
    expect(receiver.unprotect(carrier, out)).toBe(32);
    receiver.unprotect(rtpPacket({ sequence: 30_001 }), out);
    expect(receiver.unprotect(carrier, out)).toBe(SrtpFailure.replay);
  });
});

describe("mode 3 without AEAD", () => {
  it("leaves the counter alone while the application says that it is right", () => {
    let synchronized = true;
    const asked: number[] = [];
    const isRolloverSynchronized = (ssrc: number) => {
      asked.push(ssrc);
      return synchronized;
    };
    const { sender, receiver } = pair(SUITE, { mode: 3, rate: 2 }, { isRolloverSynchronized });
    const forge = (sequence: number) => {
      const wire = sealed(sender, rtpPacket({ sequence }));
      wire.set([0, 0, 0, 9], wire.length - 4);
      return wire;
    };
    expect(opens(receiver, forge(0), rtpPacket({ sequence: 0 }))).toBe(true);
    expect(opens(receiver, forge(2), rtpPacket({ sequence: 2 }))).toBe(true);
    expect(opens(receiver, sealed(sender, rtpPacket({ sequence: 3 })), rtpPacket({ sequence: 3 }))).toBe(true);
    expect(receiver.rolloverCounter(SSRC)).toBe(0);
    expect(asked).toEqual([SSRC, SSRC]);
    synchronized = false;
    expect(opens(receiver, forge(4), rtpPacket({ sequence: 4 }))).toBe(false);
    expect(receiver.rolloverCounter(SSRC)).toBe(9);
  });
});

describe("anything that arrives", () => {
  it("gives a length or a failure, and nothing authentic is made of it", () => {
    fc.assert(
      fc.property(fc.constantFrom<SuiteName>(SUITE, "AEAD_AES_128_GCM"), fc.uint8Array({ maxLength: 60 }), (suite, octets) => {
        for (const carrying of modesOf(suite)) {
          const { receiver } = pair(suite, carrying);
          if (octets.length > 1) octets[0] = 0x80;
          const result = receiver.unprotect(octets, new Uint8Array(64));
          expect(result).toBeGreaterThanOrEqual(SrtpFailure.closed);
          expect(result).toBeLessThanOrEqual(octets.length);
          if (carrying.mode === 2 || suite !== SUITE) expect(result).toBeLessThan(0);
        }
      }),
    );
  });

  it("every cut of a packet is refused where packets are authenticated", () => {
    for (const [suite, mode] of [
      [SUITE, 1],
      [SUITE, 2],
      ["AEAD_AES_256_GCM", 3],
    ] as const) {
      const { sender, receiver } = pair(suite, { mode });
      const wire = sealed(sender, rtpPacket({ sequence: 5, csrcs: 1, extension: 1 }));
      for (let length = 0; length < wire.length; length++) {
        expect(receiver.unprotect(wire.subarray(0, length), new Uint8Array(100))).toBeLessThan(0);
      }
      expect(receiver.ssrcs).toEqual([]);
    }
  });
});

describe("policies of rollover carrying", () => {
  it.each([
    [{ mode: 4 }, SUITE],
    [{ mode: 1, rate: 0 }, SUITE],
    [{ mode: 1, rate: 65_536 }, SUITE],
    [{ mode: 2, rate: 1.5 }, SUITE],
    [{ mode: 2, tagLength: 7 }, SUITE],
    [{ mode: 2, tagLength: 21 }, SUITE],
    [{ mode: 3, tagLength: 8 }, SUITE],
    [{ mode: 1 }, "AEAD_AES_128_GCM"],
    [{ mode: 2 }, "AEAD_AES_256_GCM"],
  ] as const)("%j is refused with %s", (rolloverCarrying, suite) => {
    expect(() => pair(suite, rolloverCarrying as RolloverCarrying)).toThrow(expect.objectContaining({ code: "srtp.policy" }));
  });

  it("is refused without authentication: that is mode 3", () => {
    const policy = { suite: SUITE, authenticateRtp: false, rolloverCarrying: { mode: 2 } } as const;
    expect(() => createSrtpSender({ policy, keys: [masterKey(SUITE)] })).toThrow(expect.objectContaining({ code: "srtp.policy" }));
  });

  it("derives keys with the packet's own counter (RFC 4771 §2)", () => {
    const options = {
      policy: { suite: SUITE, keyDerivationRate: 2 ** 16, rolloverCarrying: { mode: 2 } },
      keys: [masterKey(SUITE)],
    } as const;
    const [sender, receiver] = [createSrtpSender(options), createSrtpReceiver(options)];
    sender.setRolloverCounter(SSRC, 70_000);
    const packet = rtpPacket({ sequence: 1 });
    expect(opens(receiver, sealed(sender, packet), packet)).toBe(true);
    expect(receiver.rolloverCounter(SSRC)).toBe(70_000);
  });
});

describe("what a policy protects", () => {
  it.each([
    [{ suite: SUITE }, true, true],
    [{ suite: SUITE, authenticateRtp: false }, false, false],
    [{ suite: SUITE, encryptRtp: false }, false, true],
    [{ suite: SUITE, encryptRtcp: false }, false, true],
    [{ suite: "NULL_HMAC_SHA1_80" }, false, true],
    [{ suite: SUITE, rolloverCarrying: { mode: 1 } }, true, true],
    [{ suite: SUITE, rolloverCarrying: { mode: 1, rate: 2 } }, false, false],
    [{ suite: SUITE, rolloverCarrying: { mode: 2, rate: 2 } }, true, true],
    [{ suite: SUITE, rolloverCarrying: { mode: 3 } }, false, false],
    [{ suite: "AEAD_AES_128_GCM", rolloverCarrying: { mode: 3, rate: 2 } }, true, true],
  ] as const)("%j: everything %s, authenticity %s", (policy, everything, authenticity) => {
    expect(protectsEverything(policy)).toBe(everything);
    expect(authenticatesEverything(policy)).toBe(authenticity);
  });
});
