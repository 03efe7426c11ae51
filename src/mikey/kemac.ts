import { equalBytes, wipe } from "../bytes/index.js";
import type { CryptoProvider, HashName } from "../crypto/index.js";
import { authenticationError, MikeyError } from "./errors.js";
import type { MessageKeys } from "./keys.js";
import { EncrAlg, MacAlg } from "./registry.js";
import { type Timestamp, timestamp64 } from "./timestamp.js";

/** What the IV of a KEMAC depends on beside the salt (RFC 3830 §4.2.3). */
export interface KemacContext {
  readonly csbId: number;
  /** The Initiator's T, also in a response. */
  readonly timestamp: Timestamp;
}

export interface SealOptions {
  /** Pad the key data with zeros to a multiple of 8 octets: AES key wrap needs it and RFC 3830 has no rule for it. */
  readonly padKeyWrap?: boolean;
}

interface KeyCipher {
  seal(crypto: CryptoProvider, keys: MessageKeys, context: KemacContext, keyData: Uint8Array, options: SealOptions): Uint8Array;
  open(crypto: CryptoProvider, keys: MessageKeys, context: KemacContext, encrData: Uint8Array): Uint8Array;
}

const counterMode: KeyCipher = {
  seal: (crypto, keys, context, keyData) => counterModeCrypt(crypto, keys, context, keyData),
  open: (crypto, keys, context, encrData) => counterModeCrypt(crypto, keys, context, encrData),
};

const keyWrap: KeyCipher = {
  seal(crypto, keys, _context, keyData, { padKeyWrap = false }) {
    const padded = Math.max(16, Math.ceil(keyData.length / 8) * 8);
    if (padded === keyData.length) return crypto.aesKeyWrap(keys.encryptionKey, keys.salt, keyData);
    if (!padKeyWrap) {
      throw new MikeyError(
        "mikey.option",
        `AES key wrap needs key data of a multiple of 8 octets, at least 16, not ${keyData.length}`,
      );
    }
    const plaintext = new Uint8Array(padded);
    plaintext.set(keyData);
    const wrapped = crypto.aesKeyWrap(keys.encryptionKey, keys.salt, plaintext);
    wipe(plaintext);
    return wrapped;
  },
  open(crypto, keys, _context, encrData) {
    const keyData = crypto.aesKeyUnwrap(keys.encryptionKey, keys.salt, encrData);
    if (keyData === undefined) throw authenticationError();
    return keyData;
  },
};

/** RFC 5649: key data of any length, and no nonce that two messages could share (docs/protocol.md §15.1). */
const keyWrapPad: KeyCipher = {
  seal: (crypto, keys, _context, keyData) => crypto.aesKeyWrapPad(keys.encryptionKey, keyData),
  open(crypto, keys, _context, encrData) {
    const keyData = crypto.aesKeyUnwrapPad(keys.encryptionKey, encrData);
    if (keyData === undefined) throw authenticationError();
    return keyData;
  },
};

/** The dispatcher of Encr alg (RFC 3830 §6.2, RFC 6043 §6.2). NULL is not here: a mode decides whether it is acceptable at all. */
const CIPHERS: ReadonlyMap<number, KeyCipher> = new Map([
  [EncrAlg.AES_CM_128, counterMode],
  [EncrAlg.AES_CM_256, counterMode],
  [EncrAlg.AES_KW_128, keyWrap],
  [EncrAlg.AES_KWP_128, keyWrapPad],
  [EncrAlg.AES_KWP_256, keyWrapPad],
]);

const HASH_OF_MAC: ReadonlyMap<number, HashName> = new Map([
  [MacAlg.HMAC_SHA_1_160, "sha1"],
  [MacAlg.HMAC_SHA_256_256, "sha256"],
]);

/** True for the algorithms that encrypt. */
export function isKeyEncryption(encrAlg: number): boolean {
  return CIPHERS.has(encrAlg);
}

/** True for the algorithms that authenticate. */
export function isAuthentication(macAlg: number): boolean {
  return HASH_OF_MAC.has(macAlg);
}

/** Key wrap carries its own padding where the sender added some; elsewhere the key data fill the field. */
export function mayBePadded(encrAlg: number): boolean {
  return encrAlg === EncrAlg.AES_KW_128;
}

/**
 * Encrypts the key data chain of a KEMAC (RFC 3830 §4.2.3). No key data, no octets: an update may carry none.
 * @throws MikeyError `mikey.encryption-algorithm`, `mikey.option`
 */
export function sealKeyData(
  crypto: CryptoProvider,
  encrAlg: number,
  keys: MessageKeys,
  context: KemacContext,
  keyData: Uint8Array,
  options: SealOptions = {},
): Uint8Array {
  return keyData.length === 0 ? keyData : cipherOf(encrAlg).seal(crypto, keys, context, keyData, options);
}

/**
 * Decrypts the key data chain of a KEMAC whose MAC was verified (RFC 3830 §4.2.3).
 * @throws MikeyError `mikey.encryption-algorithm`, `mikey.authentication` where a key wrap does not open
 */
export function openKeyData(
  crypto: CryptoProvider,
  encrAlg: number,
  keys: MessageKeys,
  context: KemacContext,
  encrData: Uint8Array,
): Uint8Array {
  return encrData.length === 0 ? encrData : cipherOf(encrAlg).open(crypto, keys, context, encrData);
}

function cipherOf(encrAlg: number): KeyCipher {
  const cipher = CIPHERS.get(encrAlg);
  if (cipher === undefined) throw new MikeyError("mikey.encryption-algorithm", `Encr alg ${encrAlg} is not supported`);
  return cipher;
}

/** AES-CM with IV = (S XOR (0x0000 || CSB ID || T)) || 0x0000 (RFC 3830 §4.2.3); the last 16 bits count blocks. */
function counterModeCrypt(crypto: CryptoProvider, keys: MessageKeys, context: KemacContext, input: Uint8Array): Uint8Array {
  const iv = new Uint8Array(16);
  const { csbId } = context;
  const t = timestamp64(context.timestamp);
  for (let i = 0; i < keys.salt.length; i++) iv[i] = keys.salt[i] as number;
  for (let i = 0; i < 4; i++) iv[2 + i] = (iv[2 + i] as number) ^ ((csbId >>> (24 - 8 * i)) & 0xff);
  for (let i = 0; i < 8; i++) iv[6 + i] = (iv[6 + i] as number) ^ (t[i] as number);
  const blocks = Math.ceil(input.length / 16);
  const keystream = new Uint8Array(16 * blocks);
  for (let block = 0; block < blocks; block++) {
    iv[14] = block >>> 8;
    iv[15] = block & 0xff;
    keystream.set(iv, 16 * block);
  }
  crypto.aesOnce(keys.encryptionKey, keystream);
  const output = new Uint8Array(input.length);
  for (let i = 0; i < input.length; i++) output[i] = (input[i] as number) ^ (keystream[i] as number);
  wipe(keystream);
  return output;
}

/**
 * MAC of KEMAC and V: HMAC over the concatenation of the parts (RFC 3830 §4.2.4, RFC 6043 §6.2).
 * @throws MikeyError `mikey.mac-algorithm`
 */
export function computeMac(crypto: CryptoProvider, macAlg: number, keys: MessageKeys, ...parts: readonly Uint8Array[]): Uint8Array {
  const hash = HASH_OF_MAC.get(macAlg);
  if (hash === undefined) throw new MikeyError("mikey.mac-algorithm", `MAC alg ${macAlg} is not supported`);
  return crypto.hmacOnce(hash, keys.authenticationKey, ...parts);
}

/** Compares in constant time. @throws MikeyError `mikey.authentication`, `mikey.mac-algorithm` */
export function verifyMac(
  crypto: CryptoProvider,
  macAlg: number,
  keys: MessageKeys,
  mac: Uint8Array,
  ...parts: readonly Uint8Array[]
): void {
  if (!equalBytes(computeMac(crypto, macAlg, keys, ...parts), mac)) throw authenticationError();
}
