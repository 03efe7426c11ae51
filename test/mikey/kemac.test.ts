import { describe, expect, it } from "vitest";
import { formatHex, parseHex } from "../../src/bytes/index.js";
import { computeMac, deriveMessageKeys, EncrAlg, MacAlg, openKeyData, sealKeyData, verifyMac } from "../../src/mikey/index.js";
import exchange from "../vectors/derived-mikey-psk-exchange.json" with { type: "json" };
import { backends } from "./crypto-backends.js";

const [request, , wrapped] = exchange.vectors as unknown as readonly Record<string, string>[];
const hex = (vector: Record<string, string> | undefined, name: string): Uint8Array => parseHex(vector?.[name] as string);
const context = { prf: 0, csbId: 0x12345678, rand: hex(request, "rand") };
const iv = { csbId: 0x12345678, timestamp: { tsType: 0, value: hex(request, "ts") } };
const plain = hex(request, "keyDataPlain");

describe.each(backends)("KEMAC on %s", (_name, crypto) => {
  const keys = (encrAlg: number, macAlg: number = MacAlg.HMAC_SHA_1_160) =>
    deriveMessageKeys(crypto, context, hex(request, "psk"), encrAlg, macAlg);

  it("encrypts with AES-CM-128 (RFC 3830 §4.2.3)", () => {
    const sealed = sealKeyData(crypto, EncrAlg.AES_CM_128, keys(EncrAlg.AES_CM_128), iv, plain);
    expect(formatHex(sealed)).toBe(request?.["keyDataCipher"]);
    expect(openKeyData(crypto, EncrAlg.AES_CM_128, keys(EncrAlg.AES_CM_128), iv, sealed)).toEqual(plain);
  });

  it("wraps with AES-KW-128, zero-padded where that is asked for", () => {
    const kw = keys(EncrAlg.AES_KW_128);
    const sealed = sealKeyData(crypto, EncrAlg.AES_KW_128, kw, iv, plain, { padKeyWrap: true });
    expect(formatHex(sealed)).toBe(wrapped?.["wrapped"]);
    expect(formatHex(openKeyData(crypto, EncrAlg.AES_KW_128, kw, iv, sealed))).toBe(wrapped?.["paddedTo8"]);
    expect(() => sealKeyData(crypto, EncrAlg.AES_KW_128, kw, iv, plain)).toThrow(expect.objectContaining({ code: "mikey.option" }));
    const damaged = sealed.with(3, (sealed[3] as number) ^ 1);
    expect(() => openKeyData(crypto, EncrAlg.AES_KW_128, kw, iv, damaged)).toThrow(
      expect.objectContaining({ code: "mikey.authentication" }),
    );
  });

  it.each([EncrAlg.AES_KWP_128, EncrAlg.AES_KWP_256])(
    "wraps key data of any length with padding, Encr alg %i (RFC 5649)",
    (encrAlg) => {
      const kwp = keys(encrAlg);
      expect(kwp.salt).toHaveLength(0);
      for (const length of [1, 15, 16, 17, 41, 700]) {
        const data = Uint8Array.from({ length }, (_, i) => i & 0xff);
        const sealed = sealKeyData(crypto, encrAlg, kwp, iv, data);
        expect(sealed).toHaveLength(8 * Math.ceil(length / 8) + 8);
        expect(sealKeyData(crypto, encrAlg, kwp, { ...iv, csbId: 1 }, data)).toEqual(sealed);
        expect(openKeyData(crypto, encrAlg, kwp, iv, sealed)).toEqual(data);
        const damaged = sealed.with(3, (sealed[3] as number) ^ 1);
        expect(() => openKeyData(crypto, encrAlg, kwp, iv, damaged)).toThrow(
          expect.objectContaining({ code: "mikey.authentication" }),
        );
      }
    },
  );

  it.each([1, 15, 16, 17, 100, 5000])("AES-CM-256 opens %i octets that it sealed", (length) => {
    const cm = keys(EncrAlg.AES_CM_256);
    const data = Uint8Array.from({ length }, (_, i) => i & 0xff);
    const sealed = sealKeyData(crypto, EncrAlg.AES_CM_256, cm, iv, data);
    expect(sealed).not.toEqual(data);
    expect(openKeyData(crypto, EncrAlg.AES_CM_256, cm, iv, sealed)).toEqual(data);
  });

  it("no key data are no octets", () => {
    expect(sealKeyData(crypto, EncrAlg.AES_KW_128, keys(EncrAlg.AES_KW_128), iv, new Uint8Array(0))).toHaveLength(0);
    expect(openKeyData(crypto, EncrAlg.AES_KW_128, keys(EncrAlg.AES_KW_128), iv, new Uint8Array(0))).toHaveLength(0);
  });

  it("authenticates with both MACs", () => {
    const message = hex(request, "message");
    expect(formatHex(computeMac(crypto, MacAlg.HMAC_SHA_1_160, keys(1), message.subarray(0, -20)))).toBe(request?.["mac"]);
    const strong = keys(1, MacAlg.HMAC_SHA_256_256);
    const mac = computeMac(crypto, MacAlg.HMAC_SHA_256_256, strong, message);
    expect(mac).toHaveLength(32);
    verifyMac(crypto, MacAlg.HMAC_SHA_256_256, strong, mac, message.subarray(0, 7), message.subarray(7));
    expect(() => verifyMac(crypto, MacAlg.HMAC_SHA_256_256, strong, mac.subarray(1), message)).toThrow(
      expect.objectContaining({ code: "mikey.authentication" }),
    );
  });

  it("refuses algorithms that it does not have", () => {
    for (const encrAlg of [EncrAlg.NULL, 240, 99]) {
      expect(() => sealKeyData(crypto, encrAlg, keys(1), iv, plain)).toThrow(
        expect.objectContaining({ code: "mikey.encryption-algorithm" }),
      );
      expect(() => openKeyData(crypto, encrAlg, keys(1), iv, plain)).toThrow(
        expect.objectContaining({ code: "mikey.encryption-algorithm" }),
      );
    }
    expect(() => computeMac(crypto, MacAlg.NULL, keys(1))).toThrow(expect.objectContaining({ code: "mikey.mac-algorithm" }));
  });
});
