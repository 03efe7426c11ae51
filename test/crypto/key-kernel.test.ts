import { createCipheriv, createHash, createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { formatHex } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { aesOnceBy, hashBy, hmacOnceBy, pHashOnceBy } from "../../src/crypto/key-kernel.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { KEY_KERNEL, kernelSource } from "../kernel.js";

function oneByOne(keys: Uint8Array, plaintexts: Uint8Array, length: number): string {
  let wrapped = "";
  for (let at = 0; at < keys.length; at += length) {
    wrapped += formatHex(nodeCrypto.aesKeyWrapPad(keys.subarray(at, at + length), plaintexts.subarray(at, at + length)));
  }
  return wrapped;
}

const manyKeys = fc
  .record({ length: fc.constantFrom(16, 32), count: fc.integer({ min: 1, max: 20 }) })
  .chain(({ length, count }) => {
    const octets = fc.uint8Array({ minLength: length * count, maxLength: length * count });
    return fc.record({ length: fc.constant(length), keys: octets, plaintexts: octets });
  });

describe("the key kernel", () => {
  it("is what the source makes, octet for octet, and small", () => {
    expect(readFileSync(KEY_KERNEL.file, "utf8")).toBe(kernelSource(KEY_KERNEL));
    expect(KEY_KERNEL.build().length).toBeLessThan(24_576);
  });

  it.each([
    ["sha1", 1015],
    ["sha256", 503],
  ] as const)(
    "makes the tags of %s that node:crypto makes, of keys and messages of every length that it takes, and of longer ones",
    (name, most) => {
      const portable = vi.fn(nobleCrypto.hmacOnce);
      const hmacOnce = hmacOnceBy(portable);
      const octets = Uint8Array.from({ length: most + 81 }, (_, i) => (7 * i) ^ (i >> 3));
      const tagOf = (key: Uint8Array, message: Uint8Array): string => createHmac(name, key).update(message).digest("hex");
      for (let keyLength = 0; keyLength <= 64; keyLength += 16) {
        for (let length = 0; length <= most; length++) {
          const [key, message] = [octets.subarray(1, 1 + keyLength), octets.subarray(80, 80 + length)];
          const [first, second] = [message.subarray(0, length >> 1), message.subarray(length >> 1)];
          expect(formatHex(hmacOnce(name, key, first, second))).toBe(tagOf(key, message));
        }
      }
      expect(portable).not.toHaveBeenCalled();
      hmacOnce(name, octets.subarray(0, 65), octets.subarray(0, 1));
      hmacOnce(name, octets.subarray(0, 16), octets.subarray(0, most + 1));
      expect(portable).toHaveBeenCalledTimes(2);
    },
  );

  it.each([
    ["sha1", 995],
    ["sha256", 471],
  ] as const)("makes first blocks of P_hash with %s of seeds of every length that it takes, and of longer ones", (name, most) => {
    const hmacOnce = vi.fn(nobleCrypto.hmacOnce);
    const pHashOnce = pHashOnceBy(hmacOnce);
    const octets = Uint8Array.from({ length: most + 65 }, (_, i) => (7 * i) ^ (i >> 3));
    const tagOf = (key: Uint8Array, ...parts: Uint8Array[]): Buffer => createHmac(name, key).update(Buffer.concat(parts)).digest();
    const expected = (key: Uint8Array, seed: Uint8Array): string => formatHex(tagOf(key, tagOf(key, seed), seed));
    for (let length = 0; length <= most; length++) {
      const [key, seed] = [octets.subarray(0, length % 65), octets.subarray(64, 64 + length)];
      expect(formatHex(pHashOnce(name, key, seed))).toBe(expected(key, seed));
    }
    expect(hmacOnce).not.toHaveBeenCalled();
    for (const [key, seed] of [
      [octets.subarray(0, 65), octets.subarray(0, 9)],
      [octets.subarray(0, 16), octets.subarray(0, most + 1)],
    ] as const) {
      expect(formatHex(pHashOnce(name, key, seed))).toBe(expected(key, seed));
    }
    expect(hmacOnce).toHaveBeenCalledTimes(4);
  });

  it.each([
    ["sha1", 503],
    ["sha256", 247],
  ] as const)(
    "makes the digests of %s that node:crypto makes, of messages of every length that it takes, and leaves longer ones",
    (name, most) => {
      const portable = vi.fn(nobleCrypto.hash);
      const hash = hashBy(portable);
      const octets = Uint8Array.from({ length: most + 1 }, (_, i) => (7 * i) ^ (i >> 3));
      for (let length = 0; length <= most; length++) {
        const message = octets.subarray(0, length);
        const [first, second] = [message.subarray(0, length >> 1), message.subarray(length >> 1)];
        expect(formatHex(hash(name, first, second))).toBe(createHash(name).update(message).digest("hex"));
        // Nothing that a digest leaves is in the way of the next tag.
        expect(formatHex(nodeCrypto.hmacOnce(name, new Uint8Array(0), message))).toBe(
          createHmac(name, new Uint8Array(0)).update(message).digest("hex"),
        );
      }
      expect(portable).not.toHaveBeenCalled();
      hash(name, octets);
      expect(portable).toHaveBeenCalledTimes(1);
    },
  );

  it.each([16, 32])(
    "encrypts up to eight blocks under a key of %i octets as OpenSSL does, and leaves others to objects",
    (length) => {
      const objects = vi.fn(nodeCrypto.aesBlocks);
      const aesOnce = aesOnceBy(objects);
      const key = nodeCrypto.randomBytes(length);
      for (let blocks = 0; blocks <= 9; blocks++) {
        const octets = Uint8Array.from({ length: 16 * blocks }, (_, i) => 5 * i);
        const cipher = createCipheriv(`aes-${8 * length}-ecb`, key, null).setAutoPadding(false);
        const expected = cipher.update(octets).toString("hex");
        aesOnce(key, octets);
        expect(formatHex(octets)).toBe(expected);
      }
      expect(objects).toHaveBeenCalledTimes(1);
      aesOnce(new Uint8Array(24), new Uint8Array(16));
      expect(objects).toHaveBeenCalledTimes(2);
    },
  );

  it("wraps any keys as OpenSSL does, however many at once", () => {
    fc.assert(
      fc.property(manyKeys, ({ length, keys, plaintexts }) => {
        const out = new Uint8Array((keys.length / length) * (length + 8));
        nodeCrypto.aesKeyWrapPadMany(keys, plaintexts, length, out);
        expect(formatHex(out)).toBe(oneByOne(keys, plaintexts, length));
      }),
    );
  });
});

describe("without the kernel", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.resetModules();
  });

  it.each([
    ["WebAssembly is missing", () => undefined],
    [
      "compiling is refused",
      () => ({
        validate: () => false,
        Module: function refused() {
          throw new Error("refused by a content security policy");
        },
      }),
    ],
  ])("keys are wrapped one by one: %s", async (_, engine) => {
    vi.resetModules();
    vi.stubGlobal("WebAssembly", engine());
    const { aesOnceBy: blocksBy, hmacOnceBy: portableBy, wrapManyBy } = await import("../../src/crypto/key-kernel.js");
    expect(formatHex(portableBy(() => Uint8Array.of(0xaa))("sha256", new Uint8Array(16), new Uint8Array(16)))).toBe("aa");
    const objects = vi.fn(nodeCrypto.aesBlocks);
    blocksBy(objects)(new Uint8Array(16), new Uint8Array(16));
    expect(objects).toHaveBeenCalledTimes(1);
    const [keys, plaintexts] = [nodeCrypto.randomBytes(48), nodeCrypto.randomBytes(48)];
    const one = vi.fn(nodeCrypto.aesKeyWrapPad);
    const out = new Uint8Array(72);
    wrapManyBy(one)(keys, plaintexts, 16, out);
    expect(one).toHaveBeenCalledTimes(3);
    expect(formatHex(out)).toBe(oneByOne(keys, plaintexts, 16));
  });
});
