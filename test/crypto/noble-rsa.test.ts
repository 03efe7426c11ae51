import { describe, expect, it } from "vitest";
import { parseHex } from "../../src/bytes/index.js";
import { decodePrivateKey, type RsaPrivateNumbers } from "../../src/crypto/backend.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createRsaPrivateOperation, rsaPublicOperation } from "../../src/crypto/noble-rsa.js";
import vectors from "../vectors/asymmetric.json" with { type: "json" };

const numbers = decodePrivateKey(parseHex(vectors.keys.rsa2048.pkcs8)) as RsaPrivateNumbers;
const input = new Uint8Array(256).fill(0x42);

const flipped = (octets: Uint8Array): Uint8Array => octets.map((octet, at) => (at === octets.length - 1 ? octet ^ 2 : octet));

describe("the private operation over BigInt", () => {
  it("is undone by the public one, with and without leading zeros", () => {
    const operate = createRsaPrivateOperation(numbers, nobleCrypto.randomBytes);
    for (const octets of [input, new Uint8Array(256), new Uint8Array(256).fill(1, 255), new Uint8Array(256).fill(9, 100)])
      expect(rsaPublicOperation(numbers, operate(octets))).toEqual(octets);
  });

  it.each(["exponent1", "exponent2", "coefficient", "prime1", "prime2"] as const)(
    "keeps back what a fault in %s would betray",
    (field) => {
      const operate = createRsaPrivateOperation({ ...numbers, [field]: flipped(numbers[field]) }, nobleCrypto.randomBytes);
      expect(() => operate(input)).toThrow(expect.objectContaining({ code: "crypto.fault" }));
    },
  );

  it("blinds with numbers that are never the same, and gives the same result", () => {
    const drawn: string[] = [];
    const operate = createRsaPrivateOperation(numbers, (length) => {
      const octets = nobleCrypto.randomBytes(length);
      drawn.push(octets.join());
      return octets;
    });
    expect(operate(input)).toEqual(operate(input));
    expect(drawn).toHaveLength(6);
    expect(new Set(drawn).size).toBe(6);
  });

  it("the public operation takes no number that is not below the modulus", () => {
    for (const octets of [numbers.modulus, new Uint8Array(256).fill(0xff), new Uint8Array(255), new Uint8Array(257)])
      expect(rsaPublicOperation(numbers, octets)).toBeUndefined();
  });
});
