import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { formatHex } from "../../src/bytes/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { KEY_WRAP_KERNEL, kernelSource } from "../kernel.js";

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

describe("the key wrap kernel", () => {
  it("is what the source makes, octet for octet, and small", () => {
    expect(readFileSync(KEY_WRAP_KERNEL.file, "utf8")).toBe(kernelSource(KEY_WRAP_KERNEL));
    expect(KEY_WRAP_KERNEL.build().length).toBeLessThan(16_384);
  });

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
    const { wrapMany } = await import("../../src/crypto/key-wrap.js");
    const [keys, plaintexts] = [nodeCrypto.randomBytes(48), nodeCrypto.randomBytes(48)];
    const one = vi.fn(nodeCrypto.aesKeyWrapPad);
    const out = new Uint8Array(72);
    wrapMany(one)(keys, plaintexts, 16, out);
    expect(one).toHaveBeenCalledTimes(3);
    expect(formatHex(out)).toBe(oneByOne(keys, plaintexts, 16));
  });
});
