import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { defaultCrypto, nobleCrypto } from "../../src/crypto/index.js";
import { platformCrypto as portableCrypto } from "../../src/crypto/platform.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { describeAsymmetricAgreement, describeAsymmetricProvider } from "../suites/asymmetric-provider.js";
import { describeCryptoProvider } from "../suites/crypto-provider.js";

describeCryptoProvider(nobleCrypto);
describeCryptoProvider(nodeCrypto);
describeAsymmetricProvider(nobleCrypto);
describeAsymmetricProvider(nodeCrypto);
describe("node and noble agree with public keys", () => describeAsymmetricAgreement(nodeCrypto, nobleCrypto));

const octets = (maxLength: number) => fc.uint8Array({ maxLength });
const exactly = (...lengths: readonly number[]) =>
  fc.constantFrom(...lengths).chain((length) => fc.uint8Array({ minLength: length, maxLength: length }));
const hashName = fc.constantFrom("sha1" as const, "sha256" as const);

describe("choice of provider", () => {
  it("takes node:crypto on Node and @noble elsewhere", () => {
    expect(defaultCrypto).toBe(nodeCrypto);
    expect(portableCrypto).toBe(nobleCrypto);
  });
});

describe("node and noble agree", () => {
  it("hash", () => {
    fc.assert(
      fc.property(hashName, fc.array(octets(200), { maxLength: 4 }), (name, parts) => {
        expect(nodeCrypto.hash(name, ...parts)).toEqual(nobleCrypto.hash(name, ...parts));
      }),
    );
  });

  it("HMAC", () => {
    fc.assert(
      fc.property(hashName, octets(150), fc.array(octets(700), { maxLength: 3 }), (name, key, parts) => {
        expect(nodeCrypto.hmac(name, key).compute(...parts)).toEqual(nobleCrypto.hmac(name, key).compute(...parts));
      }),
    );
  });

  it("HMAC once, and with a prepared key", () => {
    fc.assert(
      fc.property(hashName, octets(150), octets(150), (name, key, message) => {
        const tag = nodeCrypto.hmacOnce(name, key, message);
        expect(tag).toEqual(nobleCrypto.hmacOnce(name, key, message));
        expect(tag).toEqual(nodeCrypto.hmac(name, key).compute(message));
      }),
    );
  });

  it("AES blocks", () => {
    fc.assert(
      fc.property(exactly(16, 24, 32), exactly(16, 32, 160), (key, input) => {
        const [node, noble] = [new Uint8Array(input.length), new Uint8Array(input.length)];
        nodeCrypto.aesBlocks(key).encrypt(input, node);
        nobleCrypto.aesBlocks(key).encrypt(input, noble);
        expect(node).toEqual(noble);
      }),
    );
  });

  it("GCM, crosswise", () => {
    fc.assert(
      fc.property(exactly(16, 32), exactly(12), octets(64), octets(300), (key, nonce, additional, plaintext) => {
        const sealed = new Uint8Array(plaintext.length + 16);
        const opened = new Uint8Array(plaintext.length);
        nodeCrypto.aesGcm(key).seal(nonce, additional, plaintext, sealed);
        expect(nobleCrypto.aesGcm(key).open(nonce, additional, sealed, opened)).toBe(true);
        expect(opened).toEqual(plaintext);
        const again = new Uint8Array(sealed.length);
        nobleCrypto.aesGcm(key).seal(nonce, additional, plaintext, again);
        expect(again).toEqual(sealed);
        expect(nodeCrypto.aesGcm(key).open(nonce, additional, again, opened)).toBe(true);
      }),
    );
  });

  it("key wrap, crosswise", () => {
    fc.assert(
      fc.property(exactly(16, 24, 32), exactly(8), exactly(16, 24, 32, 64, 104), (key, initialValue, plaintext) => {
        const wrapped = nodeCrypto.aesKeyWrap(key, initialValue, plaintext);
        expect(nobleCrypto.aesKeyWrap(key, initialValue, plaintext)).toEqual(wrapped);
        expect(nobleCrypto.aesKeyUnwrap(key, initialValue, wrapped)).toEqual(plaintext);
        expect(nodeCrypto.aesKeyUnwrap(key, initialValue, wrapped)).toEqual(plaintext);
      }),
    );
  });

  it("padded key wrap, crosswise", () => {
    fc.assert(
      fc.property(exactly(16, 24, 32), fc.uint8Array({ minLength: 1, maxLength: 70 }), (key, plaintext) => {
        const wrapped = nodeCrypto.aesKeyWrapPad(key, plaintext);
        expect(nobleCrypto.aesKeyWrapPad(key, plaintext)).toEqual(wrapped);
        expect(nobleCrypto.aesKeyUnwrapPad(key, wrapped)).toEqual(plaintext);
        expect(nodeCrypto.aesKeyUnwrapPad(key, wrapped)).toEqual(plaintext);
      }),
    );
  });

  it("what is not padded key wrap", () => {
    fc.assert(
      fc.property(exactly(16, 24, 32), octets(70), (key, wrapped) => {
        expect(nodeCrypto.aesKeyUnwrapPad(key, wrapped)).toEqual(nobleCrypto.aesKeyUnwrapPad(key, wrapped));
      }),
    );
  });
});
