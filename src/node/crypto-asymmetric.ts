import * as crypto from "node:crypto";
import { promisify } from "node:util";
import { WatchwordError, wipe } from "../bytes/index.js";
import {
  type Agreement,
  type AgreementGroup,
  type AsymmetricProvider,
  agreementLengths,
  type CryptoProvider,
  checkAgreement,
  checkNewRsaBits,
  checkPlaintextLength,
  checkScheme,
  decodePrivateKey,
  decodePublicKey,
  decryptRejecting,
  type EncryptionScheme,
  encodeEncryption,
  encodePrivateKey,
  encryptionSchemesOf,
  isModp1536Value,
  type PrivateKey,
  type PrivateNumbers,
  type PublicKey,
  type PublicKeyKind,
  type PublicNumbers,
  publicKeyOf,
  publicPart,
  type RsaPrivateNumbers,
  refuseDecryption,
  rejectionKey,
  type SignatureScheme,
  signatureSchemeFacts,
  signatureSchemesOf,
  type UsableGroup,
  wipePrivateNumbers,
} from "../crypto/backend.js";
import { bufferOf, plainOctets } from "./octets.js";

type Primitives = Pick<CryptoProvider, "hash" | "hmacOnce" | "randomBytes">;

const { RSA_NO_PADDING, RSA_PKCS1_OAEP_PADDING, RSA_PKCS1_PADDING, RSA_PKCS1_PSS_PADDING, RSA_PSS_SALTLEN_DIGEST } =
  crypto.constants;

const generateKeyPair = promisify(crypto.generateKeyPair);
const signAside = promisify(crypto.sign) as (
  hash: string | null,
  message: Uint8Array,
  input: crypto.SignKeyObjectInput,
) => Promise<Buffer>;

/** How node:crypto is asked for an encryption scheme. */
const ENCRYPTION: Readonly<Record<EncryptionScheme, { readonly padding: number; readonly oaepHash?: string }>> = {
  "rsa-pkcs1": { padding: RSA_PKCS1_PADDING },
  "rsa-oaep-sha1": { padding: RSA_PKCS1_OAEP_PADDING, oaepHash: "sha1" },
  "rsa-oaep-sha256": { padding: RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" },
};

/** How node:crypto is asked for a signature scheme. */
function signing(
  scheme: SignatureScheme,
  key: crypto.KeyObject,
): readonly [string | null, crypto.SignKeyObjectInput & crypto.VerifyKeyObjectInput] {
  const { kind, padding, hash } = signatureSchemeFacts[scheme];
  if (kind === "ec-p256") return ["sha256", { key, dsaEncoding: "ieee-p1363" }];
  if (padding === "pss") return [hash as string, { key, padding: RSA_PKCS1_PSS_PADDING, saltLength: RSA_PSS_SALTLEN_DIGEST }];
  if (padding === "pkcs1") return [hash as string, { key, padding: RSA_PKCS1_PADDING }];
  return [null, { key }];
}

function base64url(octets: Uint8Array): string {
  return bufferOf(octets).toString("base64url");
}

/**
 * A public key for OpenSSL. It is handed over as JWK, for OpenSSL's decoders for DER cost twenty times as much.
 * @throws WatchwordError `crypto.key`
 */
function publicKeyObject(numbers: PublicNumbers): crypto.KeyObject {
  try {
    return crypto.createPublicKey({ key: jwkOf(numbers), format: "jwk" });
  } catch (error) {
    throw new WatchwordError("crypto.key", "a public key that OpenSSL refuses", { cause: error });
  }
}

function jwkOf(numbers: PublicNumbers): crypto.JsonWebKey {
  if (numbers.kind === "rsa") return { kty: "RSA", n: base64url(numbers.modulus), e: base64url(numbers.publicExponent) };
  if (numbers.kind === "ed25519") return { kty: "OKP", crv: "Ed25519", x: base64url(numbers.point) };
  return { kty: "EC", crv: "P-256", x: base64url(numbers.point.subarray(1, 33)), y: base64url(numbers.point.subarray(33)) };
}

/** The point of a private key on a curve: x, or 0x04‖x‖y. */
function pointOf(privateKey: crypto.KeyObject): Uint8Array {
  const { x = "", y } = crypto.createPublicKey(privateKey).export({ format: "jwk" });
  const first = Buffer.from(x, "base64url");
  return new Uint8Array(y === undefined ? first : Buffer.concat([Uint8Array.of(4), first, Buffer.from(y, "base64url")]));
}

function privateKeyObject(numbers: PrivateNumbers): crypto.KeyObject {
  const pkcs8 = encodePrivateKey(numbers);
  try {
    return crypto.createPrivateKey({ key: bufferOf(pkcs8), format: "der", type: "pkcs8" });
  } catch {
    // Without the cause: what OpenSSL says is about the key.
    throw new WatchwordError("crypto.key", "a private key that OpenSSL refuses");
  } finally {
    wipe(pkcs8);
  }
}

/** Public-key primitives of OpenSSL, by node:crypto. */
export function createNodeAsymmetric(primitives: Primitives): AsymmetricProvider {
  const imported = new WeakMap<PublicKey, crypto.KeyObject>();

  function publicKeyFrom(numbers: PublicNumbers): PublicKey {
    const key = publicKeyOf(numbers);
    imported.set(key, publicKeyObject(numbers));
    return key;
  }

  /** OpenSSL's form of a key, whoever imported it. What is in the caller's hands has passed the caller's limits. */
  function objectOf(key: PublicKey): crypto.KeyObject {
    let object = imported.get(key);
    if (object === undefined) {
      object = publicKeyObject(decodePublicKey(key.spki, { leastRsaBits: 0 }));
      imported.set(key, object);
    }
    return object;
  }

  function decrypter(key: crypto.KeyObject, { modulus, privateExponent }: RsaPrivateNumbers): PrivateKey["decrypt"] {
    const rejecting = {
      modulus,
      rejection: rejectionKey(primitives, privateExponent, modulus.length),
      // The padding is ours: Node refuses RSAES-PKCS1-v1_5 where its OpenSSL has no implicit rejection (CVE-2023-46809).
      operate: (octets: Uint8Array) => crypto.privateDecrypt({ key, padding: RSA_NO_PADDING }, octets),
    };
    const schemes = encryptionSchemesOf("rsa");
    return async (scheme, ciphertext, octets) => {
      checkScheme(schemes, scheme);
      return decryptRejecting(primitives, rejecting, scheme, ciphertext, octets);
    };
  }

  return {
    importPublicKey: (spki, limits) => publicKeyFrom(decodePublicKey(spki, limits)),
    importPrivateKey(pkcs8, limits) {
      const numbers = decodePrivateKey(pkcs8, limits);
      const { kind } = numbers;
      const key = privateKeyObject(numbers);
      const signatureSchemes = signatureSchemesOf(kind);
      const privateKey: PrivateKey = {
        publicKey: publicKeyFrom(numbers.kind === "rsa" ? publicPart(numbers) : { kind: numbers.kind, point: pointOf(key) }),
        signatureSchemes,
        encryptionSchemes: encryptionSchemesOf(kind),
        async sign(scheme, message) {
          checkScheme(signatureSchemes, scheme);
          const [hash, input] = signing(scheme, key);
          // RSA takes half a millisecond and more: in the thread pool, and media flows meanwhile. The curves are done before a thread is found.
          return plainOctets(kind === "rsa" ? await signAside(hash, message, input) : crypto.sign(hash, message, input));
        },
        decrypt: numbers.kind === "rsa" ? decrypter(key, numbers) : refuseDecryption,
      };
      wipePrivateNumbers(numbers);
      return privateKey;
    },
    async generateKeyPair(kind, bits = 2048) {
      if (kind === "rsa") checkNewRsaBits(bits);
      const { privateKey, publicKey } = await generate(kind, bits);
      return { pkcs8: plainOctets(privateKey), spki: plainOctets(publicKey) };
    },
    async verify(key, scheme, message, signature) {
      if (signatureSchemeFacts[scheme].kind !== key.kind) return false;
      const [hash, input] = signing(scheme, objectOf(key));
      return crypto.verify(hash, message, input, signature);
    },
    async encrypt(key, scheme, plaintext, padding) {
      checkScheme(encryptionSchemesOf(key.kind), scheme);
      const size = Math.ceil(key.bits / 8);
      checkPlaintextLength(scheme, plaintext.length, size);
      const object = objectOf(key);
      if (padding === undefined) return plainOctets(crypto.publicEncrypt({ key: object, ...ENCRYPTION[scheme] }, plaintext));
      const encoded = encodeEncryption(primitives, scheme, plaintext, padding, size);
      const ciphertext = crypto.publicEncrypt({ key: object, padding: RSA_NO_PADDING }, encoded);
      wipe(encoded);
      return plainOctets(ciphertext);
    },
    async agreement(group, privateValue) {
      checkAgreement(group, privateValue);
      return AGREEMENTS[group](privateValue);
    },
  };
}

async function generate(kind: PublicKeyKind, bits: number): Promise<{ privateKey: Buffer; publicKey: Buffer }> {
  const privateKeyEncoding = { type: "pkcs8", format: "der" } as const;
  const publicKeyEncoding = { type: "spki", format: "der" } as const;
  if (kind === "rsa") return generateKeyPair("rsa", { modulusLength: bits, publicKeyEncoding, privateKeyEncoding });
  if (kind === "ec-p256") return generateKeyPair("ec", { namedCurve: "P-256", publicKeyEncoding, privateKeyEncoding });
  return generateKeyPair("ed25519", { publicKeyEncoding, privateKeyEncoding });
}

/** An agreement over a function that gives the secret, or throws or gives undefined for values that are not acceptable. */
function agreementOf(
  group: AgreementGroup,
  publicValue: Uint8Array,
  compute: (peerValue: Uint8Array) => Uint8Array | undefined,
): Agreement {
  let held: typeof compute | undefined = compute;
  return {
    group,
    publicValue,
    async agree(peerValue) {
      if (held === undefined) throw new WatchwordError("crypto.wiped", "the private value has been wiped");
      if (peerValue.length !== agreementLengths[group].publicValue) return undefined;
      try {
        return held(peerValue);
      } catch {
        return undefined;
      }
    },
    wipe() {
      held = undefined;
    },
  };
}

const AGREEMENTS: Readonly<Record<UsableGroup, (privateValue: Uint8Array | undefined) => Agreement>> = {
  modp1536(privateValue) {
    const { publicValue: length } = agreementLengths.modp1536;
    const group = crypto.getDiffieHellman("modp5");
    // The named group makes short exponents (RFC 3526 §8), but takes none from outside.
    const ours = privateValue === undefined ? group : crypto.createDiffieHellman(group.getPrime(), group.getGenerator());
    if (privateValue !== undefined) (ours as crypto.DiffieHellman).setPrivateKey(privateValue);
    const publicValue = leftPad(ours.generateKeys(), length);
    // OpenSSL checks the range; without the order of the subgroup it does not check that.
    return agreementOf("modp1536", publicValue, (peer) =>
      isModp1536Value(peer) ? leftPad(ours.computeSecret(peer), length) : undefined,
    );
  },
  p256(privateValue) {
    const ours = crypto.createECDH("prime256v1");
    if (privateValue === undefined) ours.generateKeys();
    else setScalar(ours, privateValue);
    // The uncompressed form alone: OpenSSL would take others.
    return agreementOf("p256", plainOctets(ours.getPublicKey()), (peer) =>
      peer[0] === 4 ? plainOctets(ours.computeSecret(peer)) : undefined,
    );
  },
  x25519(privateValue) {
    const ours = privateValue === undefined ? crypto.generateKeyPairSync("x25519").privateKey : x25519Key(privateValue);
    return agreementOf("x25519", pointOf(ours), (peer) => {
      const publicKey = crypto.createPublicKey({ key: { kty: "OKP", crv: "X25519", x: base64url(peer) }, format: "jwk" });
      // Throws for a secret of zeros (RFC 7748 §6.1).
      return plainOctets(crypto.diffieHellman({ privateKey: ours, publicKey }));
    });
  },
};

function setScalar(ecdh: crypto.ECDH, scalar: Uint8Array): void {
  try {
    ecdh.setPrivateKey(scalar);
  } catch {
    throw new WatchwordError("crypto.length", "no private value of p256");
  }
}

/** A PrivateKeyInfo of RFC 8410 §7 around the scalar. */
function x25519Key(scalar: Uint8Array): crypto.KeyObject {
  const head = Buffer.from("302e020100300506032b656e04220420", "hex");
  return crypto.createPrivateKey({ key: Buffer.concat([head, scalar]), format: "der", type: "pkcs8" });
}

function leftPad(octets: Uint8Array, length: number): Uint8Array {
  const padded = new Uint8Array(length);
  padded.set(octets, length - octets.length);
  wipe(octets);
  return padded;
}
