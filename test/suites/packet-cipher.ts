import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { equalBytes, formatHex, parseHex } from "../../src/bytes/index.js";
import { type PacketCipher, type PacketCipherFactory, type PacketJob, suiteNames, suiteOf } from "../../src/srtp/index.js";
import rfc3711b2 from "../vectors/rfc3711-b2-aes-cm.json" with { type: "json" };
import rfc6188 from "../vectors/rfc6188-aes192-256.json" with { type: "json" };
import rfc7714 from "../vectors/rfc7714-aes-gcm.json" with { type: "json" };

const NO_MKI = new Uint8Array(0);
const PROTOCOLS = ["rtp", "rtcp"] as const;

function job(
  input: Uint8Array,
  output: Uint8Array,
  headerLength: number,
  index: number,
  encrypted = true,
  ssrc = 0xcafebabe,
): PacketJob {
  return { input, output, headerLength, encrypted, ssrc, index };
}

function seal(cipher: PacketCipher, jobs: readonly PacketJob[]): Uint8Array[] {
  const results = new Int32Array(jobs.length);
  cipher.seal(jobs, jobs.length, results);
  return jobs.map(({ output }, i) => output.slice(0, results[i]));
}

function open(cipher: PacketCipher, one: PacketJob): number {
  const results = new Int32Array(1);
  cipher.open([one], 1, results);
  return results[0] as number;
}

function numbered(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 17) & 0xff);
}

/**
 * What every source of PacketCiphers must do.
 * @param blocks keystream blocks in the longest packet that it takes: 2^16 by RFC 3711 §4.1.1, while sessions pass no more than 2^12
 */
export function describePacketCipher(name: string, factory: PacketCipherFactory, blocks = 0x1_0000): void {
  describe(`PacketCipher ${name}`, () => {
    const make = (suiteName: string, protocol: "rtp" | "rtcp", mki = NO_MKI): PacketCipher => {
      const suite = suiteOf(suiteName);
      return factory({
        protocol,
        suite,
        keys: {
          encryptionKey: numbered(suite.keyLength, 1),
          authenticationKey: numbered(suite.authKeyLength, 2),
          salt: numbered(suite.saltLength, 3),
        },
        tagLength: protocol === "rtp" ? suite.rtpTagLength : suite.rtcpTagLength,
        mki,
      });
    };

    /** The keystream from its first to its last block: 2^16 blocks are the most that one packet may have. */
    const keystreamOf = (suiteName: string, key: string, octets: number): Uint8Array => {
      const suite = suiteOf(suiteName);
      const cipher = factory({
        protocol: "rtp",
        suite,
        keys: {
          encryptionKey: parseHex(key),
          authenticationKey: new Uint8Array(20),
          salt: parseHex(rfc3711b2.sessionSalt14),
        },
        tagLength: 0,
        mki: NO_MKI,
      });
      const [sealed] = seal(cipher, [job(new Uint8Array(12 + octets), new Uint8Array(12 + octets), 12, 0, true, 0)]);
      return (sealed as Uint8Array).subarray(12);
    };

    it("RFC 3711 B.2: keystream of AES-128-CM", () => {
      const octets = Math.min(rfc3711b2.keystreamOctets, 16 * blocks - 16);
      const keystream = keystreamOf("AES_CM_128_HMAC_SHA1_80", rfc3711b2.sessionKey, octets);
      for (const vector of rfc3711b2.vectors.filter(({ block }) => block < blocks)) {
        expect(formatHex(keystream.subarray(16 * vector.block, 16 * vector.block + 16)), vector.name).toBe(vector.keystream);
      }
    });

    it.each([
      ["AES_256_CM_HMAC_SHA1_80", "AES-256-CM"],
      ["AES_192_CM_HMAC_SHA1_80", "AES-192-CM"],
    ])("RFC 6188 §7: keystream of %s", (suiteName, prefix) => {
      const vectors = rfc6188.vectors.filter((vector) => vector.name.startsWith(prefix) && vector.keystream !== undefined);
      expect(vectors).toHaveLength(6);
      const keystream = keystreamOf(suiteName, vectors[0]?.sessionKey as string, 16 * Math.min(0xff02, blocks - 1));
      for (const { name: vector, block = 0, keystream: expected } of vectors) {
        if (block >= blocks) continue;
        expect(formatHex(keystream.subarray(16 * block, 16 * block + 16)), vector).toBe(expected);
      }
    });

    const aeadVectors = rfc7714.vectors.filter((vector) => ["srtp", "srtcp", "srtcp-auth-only"].includes(vector.kind));
    it.each(aeadVectors)("RFC 7714 $name", (vector) => {
      const rtp = vector.kind === "srtp";
      const key = parseHex(vector.key as string);
      const cipher = factory({
        protocol: rtp ? "rtp" : "rtcp",
        suite: suiteOf(key.length === 16 ? "AEAD_AES_128_GCM" : "AEAD_AES_256_GCM"),
        keys: { encryptionKey: key, authenticationKey: NO_MKI, salt: parseHex(vector.salt as string) },
        tagLength: 16,
        mki: NO_MKI,
      });
      const clear = vector.rtp ?? vector.rtcp ?? (vector.srtp as string).slice(0, 24) + vector.payload;
      const plain = parseHex(clear);
      const sealed = parseHex((vector.srtp ?? vector.srtcp) as string);
      const headerLength = rtp ? 12 : 8;
      const index = rtp ? 0xf17b : (vector.index as number);
      const ssrc = rtp ? 0x5501a0b2 : 0x4d617273;
      const encrypted = vector.E !== 0;
      const [got] = seal(cipher, [
        job(plain, new Uint8Array(plain.length + cipher.overhead), headerLength, index, encrypted, ssrc),
      ]);
      expect(formatHex(got as Uint8Array)).toBe(formatHex(sealed));
      const opened = new Uint8Array(plain.length);
      expect(open(cipher, job(sealed, opened, headerLength, index, encrypted, ssrc))).toBe(plain.length);
      expect(formatHex(opened)).toBe(clear);
    });

    const rows = suiteNames.flatMap((suite) => PROTOCOLS.map((protocol) => ({ suite, protocol })));

    it.each(rows)(
      "$suite $protocol: opens what it sealed, in order or not, in place or apart, alone or in a batch",
      ({ suite, protocol }) => {
        const mki = Uint8Array.of(1, 2, 3);
        const start = 0x1_0000 * 7 - 40;
        const shapes = Array.from({ length: 200 }, (_, i) => ({
          length: 12 + ([160, 0, 1, 15, 16, 17, 1200, 160, 160][i % 9] as number),
          index: start + i,
          encrypted: i % 5 !== 3,
        }));
        const batch = make(suite, protocol, mki);
        const single = make(suite, protocol, mki);
        const jobs = shapes.map(({ length, index, encrypted }) =>
          job(numbered(length, index), new Uint8Array(length + batch.overhead), protocol === "rtp" ? 12 : 8, index, encrypted),
        );
        const sealed = seal(batch, jobs);
        jobs.forEach((one, i) => {
          const memory = new Uint8Array(one.input.length + single.overhead);
          memory.set(one.input);
          const [inPlace] = seal(single, [{ ...one, input: memory.subarray(0, one.input.length), output: memory }]);
          expect(equalBytes(inPlace as Uint8Array, sealed[i] as Uint8Array)).toBe(true);
        });
        const opener = make(suite, protocol, mki);
        const order = shapes.map((_, i) => i).sort((a, b) => ((a * 37) % 200) - ((b * 37) % 200));
        for (const i of [...order, ...shapes.keys()]) {
          const { input, headerLength, index, encrypted } = jobs[i] as PacketJob;
          const memory = (sealed[i] as Uint8Array).slice();
          expect(open(opener, job(memory, memory, headerLength, index, encrypted))).toBe(input.length);
          expect(equalBytes(memory.subarray(0, input.length), input)).toBe(true);
        }
      },
    );

    it.each(rows)(
      "$suite $protocol: another SSRC, index, key or octet is a wrong tag, and nothing of the packet comes out",
      ({ suite, protocol }) => {
        const cipher = make(suite, protocol);
        const headerLength = protocol === "rtp" ? 12 : 8;
        const input = numbered(60, 5);
        const [sealed] = seal(cipher, [job(input, new Uint8Array(100), headerLength, 0x12345)]) as [Uint8Array];
        const out = new Uint8Array(60).fill(0xee);
        const untouched = out.slice();
        for (let at = 0; at < sealed.length; at++) {
          const forged = sealed.slice();
          forged[at] = (forged[at] as number) ^ (1 << (at % 8));
          expect(open(cipher, job(forged, out, headerLength, 0x12345)), `octet ${at}`).toBe(-1);
          expect(equalBytes(out, untouched)).toBe(true);
        }
        if (protocol === "rtp") expect(open(cipher, job(sealed, out, headerLength, 0x22345))).toBe(-1);
        expect(open(cipher, job(sealed, out, headerLength, 0x12345))).toBe(60);
      },
    );

    it("packets of many SSRCs interleaved keep their keystreams apart", () => {
      fc.assert(
        fc.property(
          fc.array(fc.tuple(fc.integer({ min: 0, max: 90 }), fc.nat(40), fc.nat(400)), { minLength: 1, maxLength: 150 }),
          (steps) => {
            const warm = make("AES_CM_128_HMAC_SHA1_80", "rtp");
            const cold = make("AES_CM_128_HMAC_SHA1_80", "rtcp");
            const next = new Map<number, number>();
            for (const [ssrc, skip, length] of steps) {
              const index = (next.get(ssrc) ?? 65500) + skip;
              next.set(ssrc, index + 1);
              const input = numbered(12 + length, ssrc);
              const [got] = seal(warm, [job(input, new Uint8Array(40 + length), 12, index, true, ssrc)]);
              // The same keys seal SRTCP with the same keystream, and never ahead.
              const [expected] = seal(cold, [job(input, new Uint8Array(40 + length), 12, index, true, ssrc)]);
              expect(
                equalBytes((got as Uint8Array).subarray(0, input.length), (expected as Uint8Array).subarray(0, input.length)),
              ).toBe(true);
            }
          },
        ),
        { numRuns: 15 },
      );
    });
  });
}
