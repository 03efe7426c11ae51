import { describe, expect, it } from "vitest";
import { formatHex, parseHex, utf8 } from "../../src/bytes/index.js";
import type { CryptoProvider } from "../../src/crypto/index.js";
import groupKeys from "../vectors/group-keys.json" with { type: "json" };
import rfc3394 from "../vectors/rfc3394-aes-key-wrap.json" with { type: "json" };
import rfc5649 from "../vectors/rfc5649-aes-key-wrap-pad.json" with { type: "json" };
import rfc6188 from "../vectors/rfc6188-aes192-256.json" with { type: "json" };
import rfc7714 from "../vectors/rfc7714-aes-gcm.json" with { type: "json" };

const HASHES = [
  { name: "sha1", text: "", digest: "da39a3ee5e6b4b0d3255bfef95601890afd80709" },
  { name: "sha1", text: "abc", digest: "a9993e364706816aba3e25717850c26c9cd0d89d" },
  { name: "sha256", text: "", digest: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
  { name: "sha256", text: "abc", digest: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
] as const;

/** RFC 2202 §3 and RFC 4231 §4: key, message, tag. */
const HMACS = [
  { name: "sha1", key: "0b".repeat(20), message: formatHex(utf8("Hi There")), tag: "b617318655057264e28bc0b6fb378c8ef146be00" },
  {
    name: "sha1",
    key: formatHex(utf8("Jefe")),
    message: formatHex(utf8("what do ya want for nothing?")),
    tag: "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
  },
  { name: "sha1", key: "aa".repeat(20), message: "dd".repeat(50), tag: "125d7342b9ac11cd91a39af48aa17b4f63f175d3" },
  {
    name: "sha1",
    key: "aa".repeat(80),
    message: formatHex(utf8("Test Using Larger Than Block-Size Key - Hash Key First")),
    tag: "aa4ae5e15272d00e95705637ce8a3b55ed402112",
  },
  {
    name: "sha256",
    key: "0b".repeat(20),
    message: formatHex(utf8("Hi There")),
    tag: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
  },
  {
    name: "sha256",
    key: formatHex(utf8("Jefe")),
    message: formatHex(utf8("what do ya want for nothing?")),
    tag: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
  },
  {
    name: "sha256",
    key: "aa".repeat(131),
    message: formatHex(utf8("Test Using Larger Than Block-Size Key - Hash Key First")),
    tag: "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
  },
] as const;

/** FIPS 197 appendix C. */
const AES = [
  { key: "000102030405060708090a0b0c0d0e0f", output: "69c4e0d86a7b0430d8cdb78070b4c55a" },
  { key: "000102030405060708090a0b0c0d0e0f1011121314151617", output: "dda97ca4864cdfe06eaf70a0ec0d7191" },
  { key: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", output: "8ea2b7ca516745bfeafc49904b496089" },
] as const;
const AES_INPUT = "00112233445566778899aabbccddeeff";

/** What every CryptoProvider must do. */
export function describeCryptoProvider(provider: CryptoProvider): void {
  describe(`CryptoProvider ${provider.name}`, () => {
    it.each(HASHES)("$name of '$text'", ({ name, text, digest }) => {
      expect(formatHex(provider.hash(name, utf8(text)))).toBe(digest);
    });

    it("hashes the concatenation of parts, and no parts as nothing", () => {
      expect(formatHex(provider.hash("sha1", utf8("a"), utf8(""), utf8("bc")))).toBe(HASHES[1].digest);
      expect(formatHex(provider.hash("sha256"))).toBe(HASHES[2].digest);
    });

    it.each(HMACS)("HMAC $name with key $key", ({ name, key, message, tag }) => {
      const hmac = provider.hmac(name, parseHex(key));
      const octets = parseHex(message);
      expect(hmac.length).toBe(tag.length / 2);
      expect(formatHex(hmac.compute(octets))).toBe(tag);
      expect(formatHex(hmac.compute(octets.subarray(0, 3), octets.subarray(3)))).toBe(tag);
    });

    it.each(HMACS)("HMAC $name once with key $key", ({ name, key, message, tag }) => {
      const octets = parseHex(message);
      const once = provider.hmacOnce(name, parseHex(key), octets);
      expect(formatHex(once)).toBe(tag);
      expect(formatHex(provider.hmacOnce(name, parseHex(key), octets.subarray(0, 3), octets.subarray(3)))).toBe(tag);
      expect(formatHex(provider.hmacOnce(name, parseHex("00"), parseHex("00")))).not.toBe(tag);
      expect(formatHex(once)).toBe(tag);
    });

    it.each(HMACS)("the first block of P_hash with $name and key $key", ({ name, key, message, tag }) => {
      const octets = parseHex(message);
      const block = provider.hmac(name, parseHex(key)).compute(parseHex(tag), octets);
      expect(formatHex(provider.pHashOnce(name, parseHex(key), octets))).toBe(formatHex(block));
    });

    it("HMAC computes over messages of growing and shrinking size", () => {
      const hmac = provider.hmac("sha1", parseHex("0b".repeat(20)));
      const once = [0, 600, 1, 5000, 63].map((length) => formatHex(hmac.compute(new Uint8Array(length))));
      const again = [0, 600, 1, 5000, 63].map((length) =>
        formatHex(provider.hmac("sha1", parseHex("0b".repeat(20))).compute(new Uint8Array(length))),
      );
      expect(once).toEqual(again);
    });

    it.each(HMACS)("HMAC $name into memory with key $key", ({ name, key, message, tag }) => {
      const hmac = provider.hmac(name, parseHex(key));
      const octets = parseHex(message);
      const out = new Uint8Array(tag.length / 2);
      for (let split = 0; split <= octets.length; split += 5) {
        const memory = new Uint8Array(octets.length + 9);
        memory.set(octets);
        hmac.computeInto(out.fill(0), memory, split, octets.subarray(split));
        expect(formatHex(out)).toBe(tag);
      }
      hmac.computeInto(out.fill(0), octets, octets.length);
      expect(formatHex(out)).toBe(tag);
    });

    it("HMAC keeps its own copy of the key and returns octets of its own", () => {
      const key = parseHex("0b".repeat(20));
      const hmac = provider.hmac("sha1", key);
      key.fill(0);
      const tag = hmac.compute(utf8("Hi There"));
      expect(formatHex(tag)).toBe(HMACS[0].tag);
      tag.fill(0);
      expect(formatHex(hmac.compute(utf8("Hi There")))).toBe(HMACS[0].tag);
    });

    it("HMAC forgets its key", () => {
      const hmac = provider.hmac("sha1", parseHex("0b".repeat(20)));
      hmac.wipe();
      expect(outcome(() => formatHex(hmac.compute(utf8("Hi There"))))).not.toBe(HMACS[0].tag);
    });

    it.each(AES)("AES block under $key", ({ key, output }) => {
      const blocks = provider.aesBlocks(parseHex(key));
      const out = new Uint8Array(16);
      blocks.encrypt(parseHex(AES_INPUT), out);
      expect(formatHex(out)).toBe(output);
    });

    it.each(AES)("AES once, several blocks in place, under $key", ({ key, output }) => {
      for (const count of [1, 3, 8, 9]) {
        const memory = new Uint8Array(16 * count + 4);
        const blocks = memory.subarray(3, 3 + 16 * count);
        for (let at = 0; at < blocks.length; at += 16) blocks.set(parseHex(AES_INPUT), at);
        provider.aesOnce(parseHex(key), blocks);
        expect(formatHex(memory)).toBe(`000000${output.repeat(count)}00`);
      }
    });

    it.each(rfc6188.vectors.filter((vector) => vector.counter !== undefined))("RFC 6188 §7 $name", (vector) => {
      const out = new Uint8Array(16);
      provider.aesBlocks(parseHex(vector.sessionKey as string)).encrypt(parseHex(vector.counter as string), out);
      expect(formatHex(out)).toBe(vector.keystream);
    });

    it("AES encrypts many blocks, in place, at any offset, call after call", () => {
      const blocks = provider.aesBlocks(parseHex(AES[0].key));
      const memory = new Uint8Array(67);
      const view = memory.subarray(3, 51);
      for (let round = 0; round < 3; round++) {
        for (let at = 0; at < 48; at += 16) view.set(parseHex(AES_INPUT), at);
        blocks.encrypt(view, view);
        expect(formatHex(view)).toBe(AES[0].output.repeat(3));
      }
      expect(formatHex(memory.subarray(0, 3))).toBe("000000");
      expect(formatHex(memory.subarray(51))).toBe("00".repeat(16));
    });

    it.each([0, 8, 15, 17, 31, 33])("AES refuses a key of %i octets", (length) => {
      expect(() => provider.aesOnce(new Uint8Array(length), new Uint8Array(16))).toThrow(
        expect.objectContaining({ code: "crypto.key-length" }),
      );
      expect(() => provider.aesBlocks(new Uint8Array(length))).toThrow(expect.objectContaining({ code: "crypto.key-length" }));
      expect(() => provider.aesGcm(new Uint8Array(length))).toThrow(expect.objectContaining({ code: "crypto.key-length" }));
    });

    it("GCM refuses a 24-octet key", () => {
      expect(() => provider.aesGcm(new Uint8Array(24))).toThrow(expect.objectContaining({ code: "crypto.key-length" }));
    });

    it.each(rfc7714.vectors.filter((vector) => vector.kind === "srtp" && vector.rtp !== undefined))("RFC 7714 $name", (vector) => {
      const gcm = provider.aesGcm(parseHex(vector.key as string));
      const nonce = parseHex(vector.iv as string);
      const additional = parseHex(vector.aad as string);
      const plaintext = parseHex(vector.rtp as string).subarray(12);
      const sealed = new Uint8Array(plaintext.length + 16);
      gcm.seal(nonce, additional, plaintext, sealed);
      expect(formatHex(sealed)).toBe((vector.srtp as string).slice(24));
      const opened = new Uint8Array(plaintext.length);
      expect(gcm.open(nonce, additional, sealed, opened)).toBe(true);
      expect(formatHex(opened)).toBe(formatHex(plaintext));
    });

    it("GCM open with a flipped bit is false and leaves the output alone; an open too short is false", () => {
      const gcm = provider.aesGcm(new Uint8Array(16));
      const nonce = new Uint8Array(12);
      const sealed = new Uint8Array(40);
      gcm.seal(nonce, utf8("header"), new Uint8Array(24).fill(7), sealed);
      for (let bit = 0; bit < sealed.length * 8; bit += 7) {
        const forged = sealed.slice();
        forged[bit >> 3] = (forged[bit >> 3] as number) ^ (1 << (bit & 7));
        const out = new Uint8Array(24).fill(9);
        expect(gcm.open(nonce, utf8("header"), forged, out)).toBe(false);
        expect(out).toEqual(new Uint8Array(24).fill(9));
      }
      expect(gcm.open(nonce, utf8("Header"), sealed, new Uint8Array(24))).toBe(false);
      expect(gcm.open(nonce, utf8("header"), sealed.subarray(0, 15), new Uint8Array(0))).toBe(false);
      expect(gcm.open(nonce, utf8("header"), sealed.subarray(0, 16), new Uint8Array(0))).toBe(false);
    });

    it("GCM opens and seals in place", () => {
      const gcm = provider.aesGcm(new Uint8Array(32));
      const memory = new Uint8Array(32);
      memory.set(utf8("sixteen octets!!"));
      gcm.seal(new Uint8Array(12), new Uint8Array(0), memory.subarray(0, 16), memory);
      expect(formatHex(memory.subarray(0, 16))).not.toBe(formatHex(utf8("sixteen octets!!")));
      expect(gcm.open(new Uint8Array(12), new Uint8Array(0), memory, memory.subarray(0, 16))).toBe(true);
      expect(formatHex(memory.subarray(0, 16))).toBe(formatHex(utf8("sixteen octets!!")));
    });

    it.each(rfc3394.vectors)("RFC 3394 §$name", ({ kek, keyData, iv, ciphertext }) => {
      const wrapped = provider.aesKeyWrap(parseHex(kek), parseHex(iv), parseHex(keyData));
      expect(formatHex(wrapped)).toBe(ciphertext);
      expect(formatHex(provider.aesKeyUnwrap(parseHex(kek), parseHex(iv), wrapped) ?? new Uint8Array())).toBe(keyData);
    });

    it("key unwrap refuses a wrong initial value, key, ciphertext or length", () => {
      const key = new Uint8Array(16);
      const initialValue = parseHex("a0a1a2a3a4a5a6a7");
      const wrapped = provider.aesKeyWrap(key, initialValue, new Uint8Array(32));
      expect(provider.aesKeyUnwrap(key, initialValue, wrapped)).toEqual(new Uint8Array(32));
      expect(provider.aesKeyUnwrap(key, parseHex("a0a1a2a3a4a5a6a8"), wrapped)).toBeUndefined();
      expect(provider.aesKeyUnwrap(new Uint8Array(16).fill(1), initialValue, wrapped)).toBeUndefined();
      expect(
        provider.aesKeyUnwrap(
          key,
          initialValue,
          wrapped.map((octet, at) => (at === 9 ? octet ^ 1 : octet)),
        ),
      ).toBeUndefined();
      for (const length of [0, 8, 16, 23, 25, 39]) {
        expect(provider.aesKeyUnwrap(key, initialValue, wrapped.slice(0, length))).toBeUndefined();
      }
    });

    it("key wrap refuses lengths and keys that RFC 3394 has no meaning for", () => {
      const initialValue = new Uint8Array(8);
      for (const length of [0, 8, 15, 17, 30]) {
        expect(() => provider.aesKeyWrap(new Uint8Array(16), initialValue, new Uint8Array(length))).toThrow(
          expect.objectContaining({ code: "crypto.wrap-length" }),
        );
      }
      expect(() => provider.aesKeyWrap(new Uint8Array(16), new Uint8Array(7), new Uint8Array(16))).toThrow(
        expect.objectContaining({ code: "crypto.wrap-length" }),
      );
      expect(() => provider.aesKeyWrap(new Uint8Array(15), initialValue, new Uint8Array(16))).toThrow(
        expect.objectContaining({ code: "crypto.key-length" }),
      );
    });

    it.each(rfc5649.vectors)("RFC 5649 §6 $name", ({ kek, keyData, ciphertext }) => {
      const wrapped = provider.aesKeyWrapPad(parseHex(kek), parseHex(keyData));
      expect(formatHex(wrapped)).toBe(ciphertext);
      expect(formatHex(provider.aesKeyUnwrapPad(parseHex(kek), wrapped) ?? new Uint8Array())).toBe(keyData);
    });

    it.each(groupKeys.kwp)("padded key wrap of $plaintext under $key", ({ key, plaintext, wrapped }) => {
      expect(formatHex(provider.aesKeyWrapPad(parseHex(key), parseHex(plaintext)))).toBe(wrapped);
      expect(formatHex(provider.aesKeyUnwrapPad(parseHex(key), parseHex(wrapped)) ?? new Uint8Array())).toBe(plaintext);
    });

    it.each([16, 24, 32])("padded key wrap under a key of %i octets brings back every length", (keyLength) => {
      const key = new Uint8Array(keyLength).fill(5);
      for (let length = 1; length <= 41; length++) {
        const plaintext = Uint8Array.from({ length }, (_, at) => at);
        const wrapped = provider.aesKeyWrapPad(key, plaintext);
        expect(wrapped).toHaveLength(8 * Math.ceil(length / 8) + 8);
        expect(provider.aesKeyUnwrapPad(key, wrapped)).toEqual(plaintext);
      }
    });

    it("padded key unwrap refuses a wrong key, any flipped bit, padding that is not zero, a wrong length and unpadded wrapping", () => {
      const key = new Uint8Array(16);
      for (const length of [5, 8, 16, 20]) {
        const wrapped = provider.aesKeyWrapPad(key, new Uint8Array(length).fill(3));
        expect(provider.aesKeyUnwrapPad(new Uint8Array(16).fill(1), wrapped)).toBeUndefined();
        for (let bit = 0; bit < wrapped.length * 8; bit += 5) {
          const forged = wrapped.slice();
          forged[bit >> 3] = (forged[bit >> 3] as number) ^ (1 << (bit & 7));
          expect(provider.aesKeyUnwrapPad(key, forged)).toBeUndefined();
        }
        for (let cut = 0; cut < wrapped.length; cut++) {
          expect(provider.aesKeyUnwrapPad(key, wrapped.subarray(0, cut))).toBeUndefined();
        }
      }
      // RFC 5649 §3: the length indicator and the padding are checked, not only the constant.
      for (const [lengthIndicator, plaintext] of [
        ["00000013", "00".repeat(15) + "01".repeat(9)],
        ["00000010", "00".repeat(24)],
        ["00000019", "00".repeat(24)],
      ] as const) {
        const wrapped = provider.aesKeyWrap(key, parseHex(`a65959a6${lengthIndicator}`), parseHex(plaintext));
        expect(provider.aesKeyUnwrapPad(key, wrapped)).toBeUndefined();
      }
      const unpadded = provider.aesKeyWrap(key, parseHex("a6".repeat(8)), new Uint8Array(16));
      expect(provider.aesKeyUnwrapPad(key, unpadded)).toBeUndefined();
    });

    it.each([16, 32] as const)("padded key wrap of many keys of %i octets gives what one by one gives", (length) => {
      for (const count of [0, 1, 7, 8, 9, 31]) {
        const keys = provider.randomBytes(count * length);
        const plaintexts = provider.randomBytes(count * length);
        const out = new Uint8Array(count * (length + 8) + 3).fill(0xee);
        provider.aesKeyWrapPadMany(keys, plaintexts, length, out);
        const at = (octets: Uint8Array, i: number): Uint8Array => octets.subarray(i * length, (i + 1) * length);
        const expected = Array.from({ length: count }, (_, i) => provider.aesKeyWrapPad(at(keys, i), at(plaintexts, i)));
        expect(formatHex(out)).toBe(`${expected.map(formatHex).join("")}eeeeee`);
      }
    });

    it("padded key wrap of many keys refuses lengths that do not fit each other", () => {
      for (const [keys, plaintexts, length, out] of [
        [24, 24, 24, 32],
        [17, 17, 16, 48],
        [32, 16, 16, 48],
        [32, 32, 16, 47],
        [32, 32, 32, 39],
      ] as const) {
        expect(() =>
          provider.aesKeyWrapPadMany(new Uint8Array(keys), new Uint8Array(plaintexts), length, new Uint8Array(out)),
        ).toThrow(expect.objectContaining({ code: "crypto.wrap-length" }));
      }
    });

    it("padded key wrap refuses an empty plaintext and keys of an impossible length", () => {
      expect(() => provider.aesKeyWrapPad(new Uint8Array(16), new Uint8Array(0))).toThrow(
        expect.objectContaining({ code: "crypto.wrap-length" }),
      );
      expect(() => provider.aesKeyWrapPad(new Uint8Array(15), new Uint8Array(16))).toThrow(
        expect.objectContaining({ code: "crypto.key-length" }),
      );
      expect(() => provider.aesKeyUnwrapPad(new Uint8Array(33), new Uint8Array(24))).toThrow(
        expect.objectContaining({ code: "crypto.key-length" }),
      );
    });

    it("random octets have the length asked for and do not repeat", () => {
      expect(provider.randomBytes(0)).toHaveLength(0);
      expect(formatHex(provider.randomBytes(32))).not.toBe(formatHex(provider.randomBytes(32)));
    });

    it("random octets of many small requests are different, and each owns its memory", () => {
      const requests = Array.from({ length: 500 }, (_, i) => provider.randomBytes(16 + (i % 60)));
      expect(new Set(requests.map((octets) => formatHex(octets.subarray(0, 16)))).size).toBe(requests.length);
      expect(new Set(requests.map(({ buffer }) => buffer)).size).toBe(requests.length);
    });

    it("what it returns are plain Uint8Arrays", () => {
      const values = [
        provider.randomBytes(4),
        provider.hash("sha1", utf8("a")),
        provider.hmac("sha256", utf8("k")).compute(utf8("a")),
        provider.hmacOnce("sha256", utf8("k"), utf8("a")),
        provider.aesKeyWrap(new Uint8Array(16), new Uint8Array(8), new Uint8Array(16)),
        provider.aesKeyWrapPad(new Uint8Array(16), new Uint8Array(16)),
        provider.aesKeyUnwrapPad(new Uint8Array(16), provider.aesKeyWrapPad(new Uint8Array(16), new Uint8Array(16))),
      ];
      for (const value of values) expect(Object.getPrototypeOf(value)).toBe(Uint8Array.prototype);
    });
  });
}

function outcome(attempt: () => string): string {
  try {
    return attempt();
  } catch {
    return "refused";
  }
}
