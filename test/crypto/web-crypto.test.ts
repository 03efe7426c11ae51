import { webcrypto } from "node:crypto";
import { describe, expect, it } from "vitest";
import { formatHex, utf8 } from "../../src/bytes/index.js";
import {
  createWebCryptoDecrypter,
  createWebCryptoSigner,
  type EncryptionScheme,
  nobleCrypto,
  type PublicKey,
  type SignatureScheme,
} from "../../src/crypto/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";

const { subtle } = webcrypto;
const MESSAGE = utf8("signed by a key that cannot be taken out");
const rsa = (name: string, hash: string) => ({ name, hash, modulusLength: 2048, publicExponent: Uint8Array.of(1, 0, 1) });

const SIGNING = [
  { scheme: "rsa-pkcs1-sha1", algorithm: rsa("RSASSA-PKCS1-v1_5", "SHA-1") },
  { scheme: "rsa-pkcs1-sha256", algorithm: rsa("RSASSA-PKCS1-v1_5", "SHA-256") },
  { scheme: "rsa-pss-sha1", algorithm: rsa("RSA-PSS", "SHA-1") },
  { scheme: "rsa-pss-sha256", algorithm: rsa("RSA-PSS", "SHA-256") },
  { scheme: "ecdsa-p256-sha256", algorithm: { name: "ECDSA", namedCurve: "P-256" } },
  { scheme: "ed25519", algorithm: { name: "Ed25519" } },
] as const satisfies readonly { scheme: SignatureScheme; algorithm: object }[];

async function pair(
  algorithm: object,
  usages: readonly webcrypto.KeyUsage[],
): Promise<{ privateKey: CryptoKey; publicKey: PublicKey }> {
  const keys = (await subtle.generateKey(algorithm as webcrypto.RsaHashedKeyGenParams, false, usages)) as webcrypto.CryptoKeyPair;
  const spki = new Uint8Array(await subtle.exportKey("spki", keys.publicKey));
  return { privateKey: keys.privateKey as CryptoKey, publicKey: nodeCrypto.importPublicKey(spki) };
}

describe("keys of WebCrypto that cannot be extracted", () => {
  it.each(SIGNING)("sign $scheme", async ({ scheme, algorithm }) => {
    const { privateKey, publicKey } = await pair(algorithm, ["sign", "verify"]);
    const signer = createWebCryptoSigner(privateKey, publicKey);
    expect(privateKey.extractable).toBe(false);
    expect(signer.signatureSchemes).toEqual([scheme]);
    const signature = await signer.sign(scheme, MESSAGE.subarray(0, 20));
    for (const crypto of [nodeCrypto, nobleCrypto]) {
      expect(await crypto.verify(publicKey, scheme, MESSAGE.subarray(0, 20), signature)).toBe(true);
      expect(await crypto.verify(publicKey, scheme, MESSAGE, signature)).toBe(false);
    }
    for (const { scheme: other } of SIGNING.filter((candidate) => candidate.scheme !== scheme))
      await expect(signer.sign(other, MESSAGE)).rejects.toThrow(expect.objectContaining({ code: "crypto.scheme" }));
  });

  it.each([
    { scheme: "rsa-oaep-sha1", hash: "SHA-1" },
    { scheme: "rsa-oaep-sha256", hash: "SHA-256" },
  ] as const)("decrypt $scheme, and reject implicitly", async ({ scheme, hash }) => {
    const { privateKey, publicKey } = await pair(rsa("RSA-OAEP", hash), ["encrypt", "decrypt"]);
    const decrypter = createWebCryptoDecrypter(privateKey, publicKey);
    expect(decrypter.encryptionSchemes).toEqual([scheme]);
    const secret = nodeCrypto.randomBytes(16);
    const ciphertext = await nobleCrypto.encrypt(publicKey, scheme, secret);
    expect(await decrypter.decrypt(scheme, ciphertext, 16)).toEqual(secret);

    const forged = ciphertext.map((octet, at) => (at === 200 ? octet ^ 1 : octet));
    for (const { octets, length } of [
      { octets: forged, length: 16 },
      { octets: ciphertext, length: 17 },
      { octets: ciphertext.subarray(1), length: 40 },
      { octets: new Uint8Array(0), length: 16 },
    ]) {
      const rejected = await decrypter.decrypt(scheme, octets, length);
      expect(rejected).toHaveLength(length);
      expect(await decrypter.decrypt(scheme, octets, length)).toEqual(rejected);
      expect(formatHex(rejected)).not.toContain(formatHex(secret));
      expect(await createWebCryptoDecrypter(privateKey, publicKey).decrypt(scheme, octets, length)).not.toEqual(rejected);
    }
    const other: EncryptionScheme = scheme === "rsa-oaep-sha1" ? "rsa-oaep-sha256" : "rsa-oaep-sha1";
    await expect(decrypter.decrypt(other, ciphertext, 16)).rejects.toThrow(expect.objectContaining({ code: "crypto.scheme" }));
    await expect(decrypter.decrypt("rsa-pkcs1", ciphertext, 16)).rejects.toThrow(
      expect.objectContaining({ code: "crypto.scheme" }),
    );
    await expect(decrypter.decrypt(scheme, ciphertext, 300)).rejects.toThrow(expect.objectContaining({ code: "crypto.length" }));
  });

  it("are refused for what they are not made for", async () => {
    const signing = await pair(SIGNING[1].algorithm, ["sign", "verify"]);
    const decrypting = await pair(rsa("RSA-OAEP", "SHA-256"), ["encrypt", "decrypt"]);
    const wrapping = await pair(rsa("RSA-OAEP", "SHA-256"), ["wrapKey", "unwrapKey"]);
    const long = await pair(rsa("RSASSA-PKCS1-v1_5", "SHA-512"), ["sign", "verify"]);
    const curve = await pair(SIGNING[4].algorithm, ["sign", "verify"]);
    const refused = expect.objectContaining({ code: "crypto.key" });
    for (const { privateKey, publicKey } of [decrypting, wrapping, long, { ...signing, publicKey: curve.publicKey }])
      expect(() => createWebCryptoSigner(privateKey, publicKey)).toThrow(refused);
    for (const { privateKey, publicKey } of [signing, wrapping, long, curve, { ...decrypting, publicKey: curve.publicKey }])
      expect(() => createWebCryptoDecrypter(privateKey, publicKey)).toThrow(refused);
  });
});
