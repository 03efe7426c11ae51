import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { equalBytes, formatHex, parseHex } from "../../src/bytes/index.js";
import {
  createSrtpReceiver,
  createSrtpSender,
  deriveKey,
  SrtpFailure,
  type SrtpOptions,
  type SrtpPolicy,
} from "../../src/srtp/index.js";
import rfc6904 from "../vectors/rfc6904-header-encryption.json" with { type: "json" };
import { BACKENDS, masterKey, SUITES_AND_BACKENDS } from "./packets.js";

const LIBSRTP = join(import.meta.dirname, "../../../shared/vectors/third-party/libsrtp-packets-BSD.json");
const SUITE = "AES_CM_128_HMAC_SHA1_80";
const SSRC = 0xcafebabe;

/** RTP with a header extension of whole words. */
function packetWith(profile: number, extension: Uint8Array, sequence = 0x1234): Uint8Array {
  const packet = new Uint8Array(16 + extension.length + 20).fill(0xab);
  const view = new DataView(packet.buffer);
  view.setUint32(0, 0x900f0000 | sequence);
  view.setUint32(4, 0xdecafbad);
  view.setUint32(8, SSRC);
  view.setUint16(12, profile);
  view.setUint16(14, extension.length / 4);
  packet.set(extension, 16);
  return packet;
}

function pair(policy: SrtpPolicy, more: Partial<SrtpOptions> = {}) {
  const options = { policy, keys: [masterKey(policy.suite)], ...more };
  return { sender: createSrtpSender(options), receiver: createSrtpReceiver(options) };
}

function sealed(sender: ReturnType<typeof createSrtpSender>, packet: Uint8Array): Uint8Array {
  const out = new Uint8Array(packet.length + sender.rtpOverhead);
  return out.subarray(0, sender.protect(packet, out));
}

/** Which octets of the extension a sender changes. */
function maskOf(profile: number, extension: Uint8Array, encryptedExtensionIds: readonly number[]): string {
  let mask = new Uint8Array(extension.length);
  // One keystream leaves an octet as it is once in 256 times: several make that impossible in practice.
  for (let sequence = 1; sequence <= 4; sequence++) {
    const wire = sealed(pair({ suite: SUITE, encryptedExtensionIds }).sender, packetWith(profile, extension, sequence));
    mask = mask.map((octet, i) => (wire[16 + i] === extension[i] ? octet : 0xff));
  }
  return formatHex(mask);
}

describe.each(BACKENDS)("header extension keys on $name", ({ crypto }) => {
  it.each(rfc6904.vectors.filter(({ label }) => label !== undefined))("RFC 6904 A.1 $name", ({ label = -1, n = -1, output }) => {
    expect(formatHex(deriveKey(crypto, parseHex(rfc6904.masterKey), parseHex(rfc6904.masterSalt), label, 0, n))).toBe(output);
  });

  it("RFC 6904 A.2: the encrypted extension", () => {
    const vector = rfc6904.vectors.find(({ ciphertext }) => ciphertext !== undefined);
    const { plaintext = "", ciphertext, seq = "" } = vector ?? {};
    const sender = createSrtpSender({
      policy: { suite: SUITE, encryptedExtensionIds: [1, 3, 4] },
      keys: [{ key: parseHex(rfc6904.masterKey), salt: parseHex(rfc6904.masterSalt) }],
      crypto,
    });
    const wire = sealed(sender, packetWith(0xbede, parseHex(plaintext), Number.parseInt(seq, 16)));
    expect(formatHex(wire.subarray(16, 40))).toBe(ciphertext);
    expect(maskOf(0xbede, parseHex(plaintext), [1, 3, 4])).toBe(vector?.mask);
  });
});

describe.skipIf(!existsSync(LIBSRTP))("packets of libsrtp with encrypted header extensions", () => {
  it.each(BACKENDS)("protect and unprotect on $name", ({ crypto, backend }) => {
    const { vectors } = JSON.parse(readFileSync(LIBSRTP, "utf8")) as {
      vectors: { name: string; masterKey: string; masterSalt: string; encryptedIds?: number[]; rtp: string; srtp: string }[];
    };
    const encrypted = vectors.filter(({ encryptedIds }) => encryptedIds !== undefined);
    expect(encrypted).toHaveLength(2);
    for (const { name, masterKey: key, masterSalt: salt, encryptedIds = [], rtp, srtp } of encrypted) {
      const suite = name.includes("GCM") ? "AEAD_AES_128_GCM" : SUITE;
      const policy: SrtpPolicy = { suite, encryptedExtensionIds: encryptedIds };
      const options = { policy, keys: [{ key: parseHex(key), salt: parseHex(salt) }], crypto, backend };
      expect(formatHex(sealed(createSrtpSender(options), parseHex(rtp)))).toBe(srtp);
      const out = new Uint8Array(200);
      const length = createSrtpReceiver(options).unprotect(parseHex(srtp), out);
      expect(formatHex(out.subarray(0, Math.max(0, length)))).toBe(rtp);
    }
  });
});

describe("which octets are encrypted", () => {
  it.each([
    ["one-byte elements, by id", 0xbede, "10aa21bbbb32cccccc", [2], "0000 00ffff 00000000"],
    ["the element that fills the extension", 0xbede, "12aaaaaa", [1], "00ffffff"],
    ["padding between elements is not", 0xbede, "10aa0000 20bb0000", [1, 2], "00ff0000 00ff0000"],
    ["nothing after id 15", 0xbede, "10aa f0bb 20cc0000", [1, 2, 15], "00ff 0000 00000000"],
    ["nothing after id 0 with a length", 0xbede, "10aa 01bb 20cc0000", [1, 2], "00ff 0000 00000000"],
    ["two-byte elements, by id, none without a body", 0x1000, "0102aabb 0200 ff01cc00", [1, 2, 255], "0000ffff 0000 0000ff00"],
    ["two-byte elements with application bits", 0x100f, "1001aa00", [16], "0000ff00"],
    ["no elements of another profile", 0x1234, "10aa21bb", [1, 2], "00000000"],
  ] as const)("%s", (_name, profile, text, ids, mask) => {
    const octets = parseHex(text.replaceAll(" ", ""));
    const extension = new Uint8Array(4 * Math.ceil(octets.length / 4));
    extension.set(octets);
    expect(maskOf(profile, extension, ids)).toBe(mask.replaceAll(" ", "").padEnd(2 * extension.length, "0"));
  });

  it.each([{ suite: "NULL_HMAC_SHA1_80" }, { suite: SUITE, encryptRtp: false }] as const)(
    "none under the NULL transform: %j (RFC 6904 §3.2)",
    (policy) => {
      const packet = packetWith(0xbede, parseHex("10aa21bbbb000000"));
      const { sender, receiver } = pair({ ...policy, encryptedExtensionIds: [1, 2] });
      const wire = sealed(sender, packet);
      expect(equalBytes(wire.subarray(0, packet.length), packet)).toBe(true);
      expect(receiver.unprotect(wire, new Uint8Array(100))).toBe(packet.length);
    },
  );

  it("ids out of range are refused", () => {
    for (const id of [0, 256, -1, 1.5]) {
      expect(() => pair({ suite: SUITE, encryptedExtensionIds: [id] })).toThrow(expect.objectContaining({ code: "srtp.policy" }));
    }
  });
});

describe.each(SUITES_AND_BACKENDS)("encrypted header extensions with $suite on $name", ({ suite, crypto, backend }) => {
  const policy: SrtpPolicy = { suite, encryptedExtensionIds: [1, 5, 14, 200] };

  it("come back, in order or not, in place or apart, alone or in a batch", () => {
    const { sender, receiver } = pair(policy, { crypto, backend });
    const packets = Array.from({ length: 60 }, (_, i) =>
      packetWith(i % 2 === 0 ? 0xbede : 0x1000, parseHex(i % 2 === 0 ? "12aabbcc53010203e4000000" : "0103aabbccc8045566778800"), i),
    );
    const copies = packets.map((packet) => packet.slice());
    const outs = packets.map((packet) => new Uint8Array(packet.length + sender.rtpOverhead));
    const lengths = new Int32Array(packets.length);
    expect(sender.protectBatch(packets.slice(0, 30), outs.slice(0, 30), lengths)).toBe(30);
    for (let i = 30; i < 60; i++) {
      const memory = outs[i] as Uint8Array;
      memory.set(packets[i] as Uint8Array);
      lengths[i] = sender.protect(memory.subarray(0, packets[i]?.length), memory);
    }
    packets.forEach((packet, i) => {
      expect(equalBytes(packet, copies[i] as Uint8Array), "the caller's packet stays as it was").toBe(true);
    });
    const order = packets.map((_, i) => (i * 7) % 60);
    for (const i of order) {
      const memory = (outs[i] as Uint8Array).slice(0, lengths[i]);
      const length = receiver.unprotect(memory, memory);
      expect(equalBytes(memory.subarray(0, Math.max(0, length)), packets[i] as Uint8Array), `packet ${i}`).toBe(true);
    }
  });

  it("any extension goes through or is malformed on both sides, and any flipped bit is refused", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(0xbede, 0x1000, 0x1001, 0x4711),
        fc.uint8Array({ minLength: 0, maxLength: 40 }).map((octets) => octets.subarray(0, octets.length & ~3)),
        fc.nat(),
        (profile, extension, flip) => {
          const { sender, receiver } = pair(policy, { crypto, backend });
          const packet = packetWith(profile, extension);
          const out = new Uint8Array(packet.length + sender.rtpOverhead);
          const lengths = new Int32Array(1);
          if (sender.protectBatch([packet], [out], lengths) === 0) {
            expect(lengths[0]).toBe(SrtpFailure.malformed);
            const plain = pair({ suite }, { crypto, backend }).sender;
            expect(receiver.unprotect(sealed(plain, packet), out)).toBe(
              suite.startsWith("NULL") ? packet.length : SrtpFailure.malformed,
            );
            return;
          }
          const wire = out.slice(0, lengths[0]);
          const forged = wire.slice();
          forged[flip % forged.length] = (forged[flip % forged.length] as number) ^ 0x10;
          const before = out.slice();
          expect(receiver.unprotect(forged, out)).toBeLessThan(0);
          expect(equalBytes(out, before)).toBe(true);
          const opened = new Uint8Array(packet.length);
          expect(receiver.unprotect(wire, opened)).toBe(packet.length);
          expect(equalBytes(opened, packet)).toBe(true);
        },
      ),
      { numRuns: 40 },
    );
  });
});

describe("header extension keys", () => {
  it("follow the key derivation rate and the MKI", () => {
    const policy: SrtpPolicy = { suite: SUITE, encryptedExtensionIds: [1], keyDerivationRate: 16 };
    const options = { policy, keys: [masterKey(SUITE, 1, Uint8Array.of(1)), masterKey(SUITE, 2, Uint8Array.of(2))] };
    const [sender, receiver] = [createSrtpSender(options), createSrtpReceiver(options)];
    for (let sequence = 0; sequence < 200; sequence++) {
      if (sequence === 100) sender.useKey(Uint8Array.of(1));
      const packet = packetWith(0xbede, parseHex("16aabbccddeeff11"), sequence);
      const wire = sealed(sender, packet);
      const out = new Uint8Array(packet.length);
      expect(receiver.unprotect(wire, out)).toBe(packet.length);
      expect(equalBytes(out, packet)).toBe(true);
    }
    sender.close();
    receiver.close();
  });
});
