import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatHex, parseHex } from "../../src/bytes/index.js";
import { createPrf, deriveFromTgk, deriveMessageKeys, MikeyError, prf, prfHash } from "../../src/mikey/index.js";
import file from "../vectors/derived-mikey-prf.json" with { type: "json" };
import exchange from "../vectors/derived-mikey-psk-exchange.json" with { type: "json" };
import { backends } from "./crypto-backends.js";

interface PrfVector {
  readonly name: string;
  readonly prfFunc: number;
  readonly inkey: string;
  readonly label: string;
  readonly outBits: number;
  readonly output: string;
}

const vectors = (file.vectors as unknown[]).filter((vector): vector is PrfVector => (vector as PrfVector).output !== undefined);
const [request] = exchange.vectors as unknown as readonly Record<string, string>[];
const context = { prf: 0, csbId: 0x12345678, rand: parseHex("a0a1a2a3a4a5a6a7a8a9aaabacadaeaf") };

describe.each(backends)("keys on %s", (_name, crypto) => {
  it("has all vectors of the PRF", () => {
    expect(vectors).toHaveLength(60);
  });

  it.each(vectors)("$name", ({ prfFunc, inkey, label, outBits, output }) => {
    expect(formatHex(prf(crypto, prfHash(prfFunc), parseHex(inkey), parseHex(label), outBits))).toBe(output);
  });

  it("derives message keys from a pre-shared key (RFC 3830 §4.1.4)", () => {
    const psk = parseHex(request?.["psk"] as string);
    const cm = deriveMessageKeys(crypto, context, psk, 1, 1);
    expect(formatHex(cm.encryptionKey)).toBe(request?.["encrKey"]);
    expect(formatHex(cm.authenticationKey)).toBe(request?.["authKey"]);
    expect(formatHex(cm.salt)).toBe(request?.["saltKey112"]);
    expect(formatHex(deriveMessageKeys(crypto, context, psk, 2, 1).salt)).toBe("c417042cded72ca5");
  });

  it.each((exchange.vectors as unknown as readonly Record<string, string>[]).filter((vector) => vector["tek"] !== undefined))(
    "derives traffic keys: $name",
    (vector) => {
      const tgk = parseHex("404142434445464748494a4b4c4d4e4f");
      const csId = Number(/^CS (\d)/.exec(vector["name"] as string)?.[1]);
      const tek = vector["tek"] as string;
      const salt = (vector["masterSalt"] ?? vector["masterSalt96"]) as string;
      expect(formatHex(deriveFromTgk(crypto, context, tgk, csId, "tek", tek.length / 2))).toBe(tek);
      expect(formatHex(deriveFromTgk(crypto, context, tgk, csId, "salt", salt.length / 2))).toBe(salt);
    },
  );

  it("a longer output begins with the shorter one", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 31 }),
        fc.uint8Array({ maxLength: 40 }),
        fc.integer({ min: 1, max: 100 }),
        fc.constantFrom("sha1" as const, "sha256" as const),
        (key, label, octets, hash) => {
          const keyed = createPrf(crypto, hash, key);
          expect(keyed.derive(label, 100).subarray(0, octets)).toEqual(keyed.derive(label, octets));
        },
      ),
      { numRuns: 30 },
    );
  });

  it("is the XOR over blocks of 32 octets", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 33, maxLength: 64 }), (key) => {
        fc.pre(key.length < 64 || formatHex(key.subarray(0, 32)) !== formatHex(key.subarray(32)));
        const label = Uint8Array.of(1);
        const first = prf(crypto, "sha1", key.subarray(0, 32), label, 256);
        const second = prf(crypto, "sha1", key.subarray(32), label, 256);
        expect(prf(crypto, "sha1", key, label, 256)).toEqual(first.map((octet, i) => octet ^ (second[i] as number)));
      }),
      { numRuns: 20 },
    );
  });

  it.each([0, 64, 96, 128])("refuses a key of %i octets that is empty or repeats itself, because its blocks cancel", (length) => {
    expect(() => prf(crypto, "sha1", new Uint8Array(length).fill(7), Uint8Array.of(1), 160)).toThrow(
      expect.objectContaining({ code: "mikey.repeating-key" }),
    );
  });

  it("refuses unknown functions and algorithms", () => {
    const psk = new Uint8Array(16);
    expect(() => prfHash(2)).toThrow(MikeyError);
    expect(() => deriveMessageKeys(crypto, { ...context, prf: 9 }, psk, 1, 1)).toThrow(
      expect.objectContaining({ code: "mikey.prf" }),
    );
    expect(() => deriveMessageKeys(crypto, context, psk, 99, 1)).toThrow(
      expect.objectContaining({ code: "mikey.encryption-algorithm" }),
    );
    expect(() => deriveMessageKeys(crypto, context, psk, 1, 99)).toThrow(expect.objectContaining({ code: "mikey.mac-algorithm" }));
  });

  it("derives authentication and encryption keys for protocols without a derivation of their own (RFC 3830 §4.1.3)", () => {
    const tgk = new Uint8Array(16).fill(3);
    const outputs = (["tek", "salt", "encryption", "authentication"] as const).map((purpose) =>
      formatHex(deriveFromTgk(crypto, context, tgk, 1, purpose, 20)),
    );
    expect(new Set(outputs).size).toBe(4);
    const labels = ["2ad01c64", "39a2c14b", "15798cef", "1b5c7973"].map((constant) =>
      parseHex(`${constant}0112345678${formatHex(context.rand)}`),
    );
    expect(outputs).toEqual(labels.map((label) => formatHex(prf(crypto, "sha1", tgk, label, 160))));
  });
});
