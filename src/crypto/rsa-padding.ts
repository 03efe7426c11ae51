import { concatBytes, equalBytes, WatchwordError, wipe } from "../bytes/index.js";
import type { EncryptionScheme } from "./asymmetric.js";
import type { CryptoProvider, HashName } from "./contracts.js";

/** What padding needs of a provider. */
export type PaddingPrimitives = Pick<CryptoProvider, "hash" | "hmacOnce">;

/** DER of DigestInfo before the digest (RFC 8017 §9.2, note 1). */
const DIGEST_INFO = {
  sha1: Uint8Array.of(0x30, 0x21, 0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0, 4, 20),
  sha256: Uint8Array.of(0x30, 0x31, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 32),
} as const;

const DIGEST_OCTETS = { sha1: 20, sha256: 32 } as const;

/** The hash of OAEP and its mask generation; undefined for RSAES-PKCS1-v1_5. */
const OAEP_HASH: Readonly<Record<EncryptionScheme, HashName | undefined>> = {
  "rsa-pkcs1": undefined,
  "rsa-oaep-sha1": "sha1",
  "rsa-oaep-sha256": "sha256",
};

/** EMSA-PKCS1-v1_5 (RFC 8017 §9.2): what is signed, and what a signature has to give back. @param size octets of the modulus */
export function encodePkcs1Signature({ hash }: PaddingPrimitives, name: HashName, message: Uint8Array, size: number): Uint8Array {
  const digest = concatBytes(DIGEST_INFO[name], hash(name, message));
  const encoded = new Uint8Array(size).fill(0xff);
  encoded[0] = 0;
  encoded[1] = 1;
  encoded[size - digest.length - 1] = 0;
  encoded.set(digest, size - digest.length);
  return encoded;
}

/** EMSA-PSS-ENCODE (RFC 8017 §9.1.1) in as many octets as the modulus. @param bits of the modulus @param salt as long as the digest */
export function encodePss(
  crypto: PaddingPrimitives,
  name: HashName,
  message: Uint8Array,
  salt: Uint8Array,
  bits: number,
): Uint8Array {
  const size = Math.ceil((bits - 1) / 8);
  const digest = pssDigest(crypto, name, message, salt);
  const masked = new Uint8Array(size - digest.length - 1);
  masked[masked.length - salt.length - 1] = 1;
  masked.set(salt, masked.length - salt.length);
  applyMask(crypto, name, masked, digest);
  masked[0] = (masked[0] as number) & (0xff >> (8 * size - (bits - 1)));
  return leftPad(concatBytes(masked, digest, Uint8Array.of(0xbc)), Math.ceil(bits / 8));
}

/** EMSA-PSS-VERIFY (RFC 8017 §9.1.2) for salts as long as the digest. @param encoded as many octets as the modulus */
export function verifyPss(
  crypto: PaddingPrimitives,
  name: HashName,
  message: Uint8Array,
  encoded: Uint8Array,
  bits: number,
): boolean {
  const size = Math.ceil((bits - 1) / 8);
  const length = DIGEST_OCTETS[name];
  const unused = 0xff >> (8 * size - (bits - 1));
  if (encoded.length > size && encoded[0] !== 0) return false;
  const block = encoded.subarray(encoded.length - size);
  if (block[size - 1] !== 0xbc || ((block[0] as number) & ~unused) !== 0) return false;
  const masked = block.slice(0, size - length - 1);
  const digest = block.subarray(size - length - 1, size - 1);
  applyMask(crypto, name, masked, digest);
  masked[0] = (masked[0] as number) & unused;
  const at = masked.length - length - 1;
  for (let i = 0; i < at; i++) if (masked[i] !== 0) return false;
  return masked[at] === 1 && equalBytes(digest, pssDigest(crypto, name, message, masked.subarray(at + 1)));
}

function pssDigest({ hash }: PaddingPrimitives, name: HashName, message: Uint8Array, salt: Uint8Array): Uint8Array {
  return hash(name, new Uint8Array(8), hash(name, message), salt);
}

/** How long the padding string or the seed is, which somebody else may choose for test vectors. */
export function paddingLength(scheme: EncryptionScheme, plaintextLength: number, size: number): number {
  const name = OAEP_HASH[scheme];
  return name === undefined ? size - plaintextLength - 3 : DIGEST_OCTETS[name];
}

/** @throws WatchwordError `crypto.length` where so many octets fit no block of `size` octets (RFC 8017 §7.1.1, §7.2.1) */
export function checkPlaintextLength(scheme: EncryptionScheme, octets: number, size: number): void {
  const name = OAEP_HASH[scheme];
  const most = name === undefined ? size - 11 : size - 2 * DIGEST_OCTETS[name] - 2;
  if (!Number.isInteger(octets) || octets < 1 || octets > most)
    throw new WatchwordError("crypto.length", `${octets} octets to encrypt, where 1 to ${most} fit`);
}

/**
 * EME-PKCS1-v1_5 or EME-OAEP encoding (RFC 8017 §7.2.1, §7.1.1).
 * @param padding `paddingLength` octets, for PKCS1 without zeros
 * @throws WatchwordError `crypto.length`
 */
export function encodeEncryption(
  crypto: PaddingPrimitives,
  scheme: EncryptionScheme,
  plaintext: Uint8Array,
  padding: Uint8Array,
  size: number,
): Uint8Array {
  checkPlaintextLength(scheme, plaintext.length, size);
  const name = OAEP_HASH[scheme];
  if (padding.length !== paddingLength(scheme, plaintext.length, size) || (name === undefined && padding.includes(0)))
    throw new WatchwordError("crypto.length", "padding of another form than the scheme's");
  const encoded = new Uint8Array(size);
  encoded.set(plaintext, size - plaintext.length);
  if (name === undefined) {
    encoded[1] = 2;
    encoded.set(padding, 2);
    return encoded;
  }
  const seed = encoded.subarray(1, 1 + padding.length);
  const block = encoded.subarray(1 + padding.length);
  block.set(crypto.hash(name));
  block[block.length - plaintext.length - 1] = 1;
  seed.set(padding);
  applyMask(crypto, name, block, seed);
  applyMask(crypto, name, seed, block);
  return encoded;
}

/** Non-zero octets for the padding string of RSAES-PKCS1-v1_5 (RFC 8017 §7.2.1), or the seed of OAEP. */
export function randomPadding(randomBytes: CryptoProvider["randomBytes"], scheme: EncryptionScheme, length: number): Uint8Array {
  const padding = randomBytes(length);
  if (OAEP_HASH[scheme] !== undefined) return padding;
  for (let at = 0; at < length; at++) {
    while (padding[at] === 0) padding[at] = randomBytes(1)[0] as number;
  }
  return padding;
}

/** What decrypting with implicit rejection needs of a key. */
export interface RejectingKey {
  /** Big-endian, no leading zero. */
  readonly modulus: Uint8Array;
  /** From `rejectionKey`. */
  readonly rejection: Uint8Array;
  /** The private operation: a number below the modulus, in as many octets as the modulus, to another. */
  operate(ciphertext: Uint8Array): Uint8Array;
}

/** The secret behind a key's implicit rejections: SHA-256 of the private exponent, in as many octets as the modulus. */
export function rejectionKey({ hash }: PaddingPrimitives, privateExponent: Uint8Array, size: number): Uint8Array {
  const padded = leftPad(privateExponent, size);
  const key = hash("sha256", padded);
  wipe(padded);
  return key;
}

/** The pseudo-random octets that take the place of a plaintext: HMAC-SHA-256 in counter mode under a key from the ciphertext. */
export function rejectedPlaintext(
  { hmacOnce }: PaddingPrimitives,
  key: Uint8Array,
  ciphertext: Uint8Array,
  octets: number,
): Uint8Array {
  const inner = hmacOnce("sha256", key, ciphertext);
  const out = new Uint8Array(octets);
  for (let at = 0, counter = 0; at < octets; at += inner.length, counter++) {
    const block = hmacOnce("sha256", inner, Uint8Array.of(counter));
    out.set(block.subarray(0, octets - at), at);
    wipe(block);
  }
  wipe(inner);
  return out;
}

/**
 * Decrypts `octets` octets with implicit rejection: every ciphertext takes the same steps, and no branch, no index and no error depends on what the
 * private operation gave. Since the caller says how long the secret is, the place of every octet of the padding is known beforehand.
 * @throws WatchwordError `crypto.length`
 */
export function decryptRejecting(
  crypto: PaddingPrimitives,
  key: RejectingKey,
  scheme: EncryptionScheme,
  ciphertext: Uint8Array,
  octets: number,
): Uint8Array {
  const size = key.modulus.length;
  checkPlaintextLength(scheme, octets, size);
  // Length and range are public: everybody sees the ciphertext. The operation is done nevertheless, on a number that stands in.
  const usable = ciphertext.length === size && isBelow(ciphertext, key.modulus);
  const encoded = key.operate(usable ? ciphertext : leftPad(Uint8Array.of(2), size));
  const rejected = rejectedPlaintext(crypto, key.rejection, ciphertext, octets);
  const name = OAEP_HASH[scheme];
  const wrong = (name === undefined ? pkcs1Fault(encoded, octets) : oaepFault(crypto, name, encoded, octets)) | (usable ? 0 : 1);
  // 0xff where something was wrong, otherwise 0.
  const mask = (-wrong >> 31) & 0xff;
  const out = new Uint8Array(octets);
  const at = size - octets;
  for (let i = 0; i < octets; i++) out[i] = ((rejected[i] as number) & mask) | ((encoded[at + i] as number) & ~mask);
  wipe(encoded, rejected);
  return out;
}

/** 0 for 0x00 ‖ 0x02 ‖ non-zero octets ‖ 0x00 ‖ `octets` octets (RFC 8017 §7.2.2 step 3), otherwise another number below 2^9. */
function pkcs1Fault(encoded: Uint8Array, octets: number): number {
  const separator = encoded.length - octets - 1;
  let wrong = (encoded[0] as number) | ((encoded[1] as number) ^ 2) | (encoded[separator] as number);
  // An octet less one borrows from bit 8 only where it is zero.
  for (let i = 2; i < separator; i++) wrong |= (((encoded[i] as number) - 1) >>> 8) & 1;
  return wrong;
}

/**
 * 0 for a right encoding (RFC 8017 §7.1.2 step 3), otherwise another number below 2^9; the masks are taken off in place. All octets are looked at
 * before anything is decided: a first octet that is not zero must not be told from a wrong hash (the note there, Manger's attack).
 */
function oaepFault(crypto: PaddingPrimitives, name: HashName, encoded: Uint8Array, octets: number): number {
  const length = DIGEST_OCTETS[name];
  const seed = encoded.subarray(1, 1 + length);
  const block = encoded.subarray(1 + length);
  applyMask(crypto, name, seed, block);
  applyMask(crypto, name, block, seed);
  const label = crypto.hash(name);
  const separator = block.length - octets - 1;
  let wrong = (encoded[0] as number) | ((block[separator] as number) ^ 1);
  for (let i = 0; i < length; i++) wrong |= (block[i] as number) ^ (label[i] as number);
  for (let i = length; i < separator; i++) wrong |= block[i] as number;
  return wrong;
}

/** XORs MGF1 of the seed over the octets (RFC 8017 B.2.1). */
function applyMask({ hash }: PaddingPrimitives, name: HashName, octets: Uint8Array, seed: Uint8Array): void {
  const length = DIGEST_OCTETS[name];
  const input = new Uint8Array(seed.length + 4);
  input.set(seed);
  for (let at = 0, counter = 0; at < octets.length; at += length, counter++) {
    input[seed.length + 2] = counter >> 8;
    input[seed.length + 3] = counter;
    const mask = hash(name, input);
    const end = Math.min(length, octets.length - at);
    for (let i = 0; i < end; i++) octets[at + i] = (octets[at + i] as number) ^ (mask[i] as number);
    wipe(mask);
  }
  wipe(input);
}

/** Whether a public number is below another of the same length. */
function isBelow(number: Uint8Array, limit: Uint8Array): boolean {
  for (let i = 0; i < limit.length; i++) {
    const difference = (number[i] as number) - (limit[i] as number);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

function leftPad(octets: Uint8Array, length: number): Uint8Array {
  const padded = new Uint8Array(length);
  padded.set(octets, length - octets.length);
  return padded;
}
