import { WatchwordError } from "../bytes/index.js";
import type { Decrypter, EncryptionScheme, PublicKey, SignatureScheme, Signer } from "./asymmetric.js";
import type { CryptoProvider } from "./contracts.js";
import { nobleCrypto } from "./noble.js";
import { checkPlaintextLength, rejectedPlaintext } from "./rsa-padding.js";
import { checkScheme, signatureSchemeFacts } from "./schemes.js";

const DIGESTS: Readonly<Record<string, "sha1" | "sha256">> = { "SHA-1": "sha1", "SHA-256": "sha256" };

/** What a key of WebCrypto can do is fixed when it is made: one algorithm, one hash. Undefined for what no scheme of ours is. */
function schemeOf({ algorithm }: CryptoKey): string | undefined {
  const { hash, namedCurve } = algorithm as { readonly hash?: { readonly name: string }; readonly namedCurve?: string };
  const digest = DIGESTS[hash?.name ?? ""];
  switch (algorithm.name) {
    case "RSASSA-PKCS1-v1_5":
      return digest && `rsa-pkcs1-${digest}`;
    case "RSA-PSS":
      return digest && `rsa-pss-${digest}`;
    case "RSA-OAEP":
      return digest && `rsa-oaep-${digest}`;
    case "ECDSA":
      return namedCurve === "P-256" ? "ecdsa-p256-sha256" : undefined;
    default:
      return algorithm.name === "Ed25519" ? "ed25519" : undefined;
  }
}

/**
 * A signer over a private key of WebCrypto, which need not be extractable: the browser, or what stands behind it, keeps it.
 * @param privateKey RSASSA-PKCS1-v1_5 or RSA-PSS with SHA-1 or SHA-256, ECDSA over P-256, or Ed25519, with the usage `sign`
 * @param publicKey its public half
 * @throws WatchwordError `crypto.key` for another key
 */
export function createWebCryptoSigner(privateKey: CryptoKey, publicKey: PublicKey): Signer {
  const scheme = schemeOf(privateKey) as SignatureScheme | undefined;
  const facts = scheme === undefined ? undefined : signatureSchemeFacts[scheme];
  if (scheme === undefined || facts?.kind !== publicKey.kind || !privateKey.usages.includes("sign"))
    throw new WatchwordError("crypto.key", "a key of WebCrypto that cannot sign, or not for this public key");
  const { name } = privateKey.algorithm;
  const parameters = { name, hash: "SHA-256", saltLength: facts.hash === "sha1" ? 20 : 32 };
  return {
    publicKey,
    signatureSchemes: [scheme],
    async sign(asked, message) {
      checkScheme([scheme], asked);
      return new Uint8Array(await globalThis.crypto.subtle.sign(parameters, privateKey, owned(message)));
    },
  };
}

/**
 * A decrypter over a private key of WebCrypto, which need not be extractable. WebCrypto has OAEP alone (W3C Web Cryptography Level 2 §18.2.1).
 * Octets for what does not decrypt come from a secret of this object: another object gives others.
 * @param privateKey RSA-OAEP with SHA-1 or SHA-256, with the usage `decrypt`
 * @throws WatchwordError `crypto.key` for another key
 */
export function createWebCryptoDecrypter(
  privateKey: CryptoKey,
  publicKey: PublicKey,
  crypto: Pick<CryptoProvider, "hash" | "hmacOnce" | "randomBytes"> = nobleCrypto,
): Decrypter {
  const scheme = schemeOf(privateKey) as EncryptionScheme | undefined;
  if (scheme === undefined || publicKey.kind !== "rsa" || !privateKey.usages.includes("decrypt"))
    throw new WatchwordError("crypto.key", "a key of WebCrypto that cannot decrypt, or not for this public key");
  const rejection = crypto.randomBytes(32);
  const size = Math.ceil(publicKey.bits / 8);
  return {
    publicKey,
    encryptionSchemes: [scheme],
    async decrypt(asked, ciphertext, octets) {
      checkScheme([scheme], asked);
      checkPlaintextLength(scheme, octets, size);
      const rejected = rejectedPlaintext(crypto, rejection, ciphertext, octets);
      try {
        const plaintext = await globalThis.crypto.subtle.decrypt({ name: "RSA-OAEP" }, privateKey, owned(ciphertext));
        // That an OAEP is wrong may be seen; why it is wrong is what WebCrypto keeps to itself (RFC 8017 §7.1.2, note).
        return plaintext.byteLength === octets ? new Uint8Array(plaintext) : rejected;
      } catch {
        return rejected;
      }
    },
  };
}

/** WebCrypto takes no view of shared memory; a copy is never one. */
function owned(octets: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(octets);
}
