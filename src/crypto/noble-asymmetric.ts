import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import { p256 } from "@noble/curves/nist.js";
import { bytesToNumberBE, numberToBytesBE } from "@noble/curves/utils.js";
import { equalBytes, WatchwordError, wipe } from "../bytes/index.js";
import {
  type Agreement,
  type AsymmetricProvider,
  agreementLengths,
  type EncodedKeyPair,
  type KeyLimits,
  type PrivateKey,
  type PublicKey,
  type SignatureScheme,
} from "./asymmetric.js";
import type { CryptoProvider } from "./contracts.js";
import {
  bitLength,
  checkNewRsaBits,
  decodePrivateKey,
  decodePublicKey,
  encodePrivateKey,
  type PublicNumbers,
  publicKeyOf,
  publicPart,
  type RsaPrivateNumbers,
  type RsaPublicNumbers,
  wipePrivateNumbers,
} from "./key-encoding.js";
import { isModp1536Value, modp1536Prime } from "./modp.js";
import { createRsaPrivateOperation, powerOf, rsaPublicOperation } from "./noble-rsa.js";
import {
  checkPlaintextLength,
  decryptRejecting,
  encodeEncryption,
  encodePkcs1Signature,
  encodePss,
  paddingLength,
  randomPadding,
  rejectionKey,
  verifyPss,
} from "./rsa-padding.js";
import {
  checkAgreement,
  checkScheme,
  encryptionSchemesOf,
  refuseDecryption,
  signatureSchemeFacts,
  signatureSchemesOf,
  type UsableGroup,
} from "./schemes.js";

type Primitives = Pick<CryptoProvider, "hash" | "hmacOnce" | "randomBytes">;

/** Octets of a private exponent in the MODP group: more than twice the strength of 1536 bits (RFC 3526 §8). */
const EXPONENT_OCTETS = 32;

/**
 * Public-key primitives that run anywhere: the curves of @noble, RSA and MODP over BigInt. SECURITY.md says what BigInt hides and what not.
 * New RSA keys come from WebCrypto.
 */
export function createNobleAsymmetric(crypto: Primitives): AsymmetricProvider {
  const decoded = new WeakMap<PublicKey, PublicNumbers>();

  function imported(numbers: PublicNumbers): PublicKey {
    const key = publicKeyOf(numbers);
    decoded.set(key, numbers);
    return key;
  }

  function importPublicKey(spki: Uint8Array, limits?: KeyLimits): PublicKey {
    const numbers = decodePublicKey(spki, limits);
    if (numbers.kind !== "rsa" && !isOnCurve(numbers.kind, numbers.point))
      throw new WatchwordError("crypto.key", "a point that is not on its curve");
    return imported(numbers);
  }

  /** The numbers of a key, whoever imported it. What is in the caller's hands has passed the caller's limits. */
  function numbersOf(key: PublicKey): PublicNumbers {
    return decoded.get(key) ?? (decoded.get(importPublicKey(key.spki, { leastRsaBits: 0 })) as PublicNumbers);
  }

  function rsaPrivateKey(numbers: RsaPrivateNumbers): PrivateKey {
    const publicKey = imported(publicPart(numbers));
    const size = numbers.modulus.length;
    const operate = createRsaPrivateOperation(numbers, crypto.randomBytes);
    const rejecting = { modulus: numbers.modulus, rejection: rejectionKey(crypto, numbers.privateExponent, size), operate };
    wipePrivateNumbers(numbers);
    const signatureSchemes = signatureSchemesOf("rsa");
    const encryptionSchemes = encryptionSchemesOf("rsa");
    return {
      publicKey,
      signatureSchemes,
      encryptionSchemes,
      async sign(scheme, message) {
        checkScheme(signatureSchemes, scheme);
        const { padding, hash = "sha256" } = signatureSchemeFacts[scheme];
        if (padding === "pkcs1") return operate(encodePkcs1Signature(crypto, hash, message, size));
        const salt = crypto.randomBytes(hash === "sha1" ? 20 : 32);
        return operate(encodePss(crypto, hash, message, salt, publicKey.bits));
      },
      async decrypt(scheme, ciphertext, octets) {
        checkScheme(encryptionSchemes, scheme);
        return decryptRejecting(crypto, rejecting, scheme, ciphertext, octets);
      },
    };
  }

  function curvePrivateKey(kind: "ec-p256" | "ed25519", scalar: Uint8Array): PrivateKey {
    const point = kind === "ec-p256" ? p256.getPublicKey(scalar, false) : ed25519.getPublicKey(scalar);
    const signatureSchemes = signatureSchemesOf(kind);
    return {
      publicKey: imported({ kind, point }),
      signatureSchemes,
      encryptionSchemes: [],
      async sign(scheme, message) {
        checkScheme(signatureSchemes, scheme);
        return kind === "ec-p256" ? p256.sign(message, scalar, { lowS: false }) : ed25519.sign(message, scalar);
      },
      decrypt: refuseDecryption,
    };
  }

  function isSignature(numbers: PublicNumbers, scheme: SignatureScheme, message: Uint8Array, signature: Uint8Array): boolean {
    const { padding, hash = "sha256" } = signatureSchemeFacts[scheme];
    if (numbers.kind === "rsa") {
      const encoded = rsaPublicOperation(numbers, signature);
      if (encoded === undefined) return false;
      if (padding === "pss") return verifyPss(crypto, hash, message, encoded, bitLength(numbers.modulus));
      return equalBytes(encoded, encodePkcs1Signature(crypto, hash, message, numbers.modulus.length));
    }
    if (signature.length !== 64) return false;
    try {
      return numbers.kind === "ec-p256"
        ? p256.verify(signature, message, numbers.point, { lowS: false })
        : ed25519.verify(signature, message, numbers.point, { zip215: false });
    } catch {
      return false;
    }
  }

  return {
    importPublicKey,
    importPrivateKey(pkcs8, limits) {
      const numbers = decodePrivateKey(pkcs8, limits);
      return numbers.kind === "rsa" ? rsaPrivateKey(numbers) : curvePrivateKey(numbers.kind, numbers.scalar);
    },
    async generateKeyPair(kind, bits = 2048) {
      if (kind === "rsa") return generateRsaKeyPair(bits);
      const scalar = kind === "ec-p256" ? p256.utils.randomSecretKey() : ed25519.utils.randomSecretKey();
      const { spki } = curvePrivateKey(kind, scalar).publicKey;
      const pkcs8 = encodePrivateKey({ kind, scalar });
      wipe(scalar);
      return { pkcs8, spki };
    },
    async verify(key, scheme, message, signature) {
      return signatureSchemeFacts[scheme].kind === key.kind && isSignature(numbersOf(key), scheme, message, signature);
    },
    async encrypt(key, scheme, plaintext, padding) {
      checkScheme(encryptionSchemesOf(key.kind), scheme);
      const numbers = numbersOf(key) as RsaPublicNumbers;
      const size = numbers.modulus.length;
      checkPlaintextLength(scheme, plaintext.length, size);
      const filling = padding ?? randomPadding(crypto.randomBytes, scheme, paddingLength(scheme, plaintext.length, size));
      const encoded = encodeEncryption(crypto, scheme, plaintext, filling, size);
      const ciphertext = rsaPublicOperation(numbers, encoded) as Uint8Array;
      wipe(encoded);
      return ciphertext;
    },
    async agreement(group, privateValue) {
      checkAgreement(group, privateValue);
      if (group === "modp1536") return modpAgreement(crypto, privateValue?.slice() ?? crypto.randomBytes(EXPONENT_OCTETS));
      return curveAgreement(group, privateValue);
    },
  };
}

function isOnCurve(kind: "ec-p256" | "ed25519", point: Uint8Array): boolean {
  return kind === "ec-p256" ? p256.utils.isValidPublicKey(point, false) : ed25519.utils.isValidPublicKey(point, false);
}

async function generateRsaKeyPair(bits: number): Promise<EncodedKeyPair> {
  checkNewRsaBits(bits);
  const subtle = globalThis.crypto?.subtle as SubtleCrypto | undefined;
  // Browsers have it in secure contexts alone (W3C Web Cryptography Level 2, §11).
  if (subtle === undefined) throw new WatchwordError("crypto.key", "RSA keys cannot be made here: there is no WebCrypto");
  const parameters = { name: "RSA-OAEP", hash: "SHA-256", modulusLength: bits, publicExponent: Uint8Array.of(1, 0, 1) };
  const { privateKey, publicKey } = await subtle.generateKey(parameters, true, ["encrypt", "decrypt"]);
  const [pkcs8, spki] = await Promise.all([subtle.exportKey("pkcs8", privateKey), subtle.exportKey("spki", publicKey)]);
  return { pkcs8: new Uint8Array(pkcs8), spki: new Uint8Array(spki) };
}

function modpAgreement({ randomBytes }: Primitives, secret: Uint8Array): Agreement {
  const { publicValue: length } = agreementLengths.modp1536;
  let exponent: bigint | undefined = bytesToNumberBE(secret);
  wipe(secret);
  return {
    group: "modp1536",
    publicValue: numberToBytesBE(power(2n, exponent), length),
    async agree(peerValue) {
      if (exponent === undefined) throw new WatchwordError("crypto.wiped", "the private value has been wiped");
      return isModp1536Value(peerValue) ? numberToBytesBE(power(bytesToNumberBE(peerValue), exponent), length) : undefined;
    },
    wipe() {
      exponent = undefined;
    },
  };

  /** base^x as base^r · base^(x-r) for another r each time, so that no two operations have the same exponent. */
  function power(base: bigint, x: bigint): bigint {
    const part = bytesToNumberBE(randomBytes(EXPONENT_OCTETS)) % x;
    return (powerOf(base, part, modp1536Prime) * powerOf(base, x - part, modp1536Prime)) % modp1536Prime;
  }
}

function curveAgreement(group: Exclude<UsableGroup, "modp1536">, privateValue?: Uint8Array): Agreement {
  if (group === "p256" && privateValue !== undefined && !p256.utils.isValidSecretKey(privateValue))
    throw new WatchwordError("crypto.length", "no private value of p256");
  const curve = group === "x25519" ? x25519 : p256;
  let scalar: Uint8Array | undefined = privateValue?.slice() ?? curve.utils.randomSecretKey();
  return {
    group,
    publicValue: group === "x25519" ? x25519.getPublicKey(scalar) : p256.getPublicKey(scalar, false),
    async agree(peerValue) {
      if (scalar === undefined) throw new WatchwordError("crypto.wiped", "the private value has been wiped");
      if (peerValue.length !== agreementLengths[group].publicValue) return undefined;
      try {
        // Throws for points off the curve and for secrets of zeros (RFC 7748 §6.1).
        if (group === "x25519") return x25519.getSharedSecret(scalar, peerValue);
        return p256.getSharedSecret(scalar, peerValue, false).slice(1, 33);
      } catch {
        return undefined;
      }
    },
    wipe() {
      wipe(scalar);
      scalar = undefined;
    },
  };
}
