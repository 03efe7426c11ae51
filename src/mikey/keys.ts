import { equalBytes, parseHex, wipe } from "../bytes/index.js";
import type { CryptoProvider, HashName } from "../crypto/index.js";
import { MikeyError } from "./errors.js";
import { EncrAlg, entryOf, MacAlg, PrfFunc } from "./registry.js";

/** Octets of a block of the input key (RFC 3830 §4.1.2); RFC 6043 §6.1 leaves it unchanged for HMAC-SHA-256. */
const BLOCK = 32;

/** Derives many keys from one input key; its HMACs are prepared once. */
export interface Prf {
  /** PRF(inkey, label), the leftmost `octets` octets. */
  derive(label: Uint8Array, octets: number): Uint8Array;
  wipe(): void;
}

/**
 * The MIKEY PRF under one input key (RFC 3830 §4.1.2): the key is cut into blocks of 256 bits, the last possibly shorter
 * but never empty, and the outputs of all blocks are XORed.
 * @throws MikeyError `mikey.repeating-key` for an empty key, or where two blocks are equal and their outputs would cancel
 */
export function createPrf(crypto: CryptoProvider, hash: HashName, inkey: Uint8Array): Prf {
  refuseRepeatingKey(inkey);
  const hmacs = Array.from({ length: Math.ceil(inkey.length / BLOCK) }, (_, i) =>
    crypto.hmac(hash, inkey.subarray(BLOCK * i, BLOCK * (i + 1))),
  );
  return {
    derive(label, octets) {
      const out = new Uint8Array(octets);
      for (const hmac of hmacs) {
        // P(s, label, m): A_0 = label, A_i = HMAC(s, A_(i-1)); output HMAC(s, A_1 || label) || HMAC(s, A_2 || label) ...
        let a = label;
        for (let at = 0; at < octets; at += hmac.length) {
          a = hmac.compute(a);
          const part = hmac.compute(a, label);
          const end = Math.min(octets, at + hmac.length);
          for (let i = at; i < end; i++) out[i] = (out[i] as number) ^ (part[i - at] as number);
          wipe(part);
        }
      }
      return out;
    },
    wipe() {
      for (const hmac of hmacs) hmac.wipe();
    },
  };
}

/**
 * PRF(inkey, label) once (RFC 3830 §4.1.2).
 * @param outBits a multiple of 8
 * @throws MikeyError `mikey.repeating-key`
 */
export function prf(crypto: CryptoProvider, hash: HashName, inkey: Uint8Array, label: Uint8Array, outBits: number): Uint8Array {
  const octets = outBits / 8;
  if (inkey.length > 0 && inkey.length <= BLOCK && octets <= DIGEST[hash]) return prfOnce(crypto, hash, inkey, label, octets);
  const keyed = createPrf(crypto, hash, inkey);
  const out = keyed.derive(label, octets);
  keyed.wipe();
  return out;
}

/** Octets of a digest. */
const DIGEST: Readonly<Record<HashName, number>> = { sha1: 20, sha256: 32 };

/** One block of key and one of output: HMAC(s, A_1 || label), for which nothing has to be prepared. */
function prfOnce(crypto: CryptoProvider, hash: HashName, inkey: Uint8Array, label: Uint8Array, octets: number): Uint8Array {
  const tag = crypto.pHashOnce(hash, inkey, label);
  if (octets === tag.length) return tag;
  const out = tag.slice(0, octets);
  wipe(tag);
  return out;
}

/**
 * Refuses keys that the XOR over 256-bit blocks would weaken: two equal blocks cancel to zero, so that anybody could
 * derive what follows from a key that repeats itself.
 * @throws MikeyError `mikey.repeating-key`
 */
function refuseRepeatingKey(key: Uint8Array): void {
  if (key.length === 0) throw new MikeyError("mikey.repeating-key", "an empty key derives nothing");
  for (let i = 0; i + BLOCK < key.length; i += BLOCK) {
    for (let j = i + BLOCK; j + BLOCK <= key.length; j += BLOCK) {
      if (equalBytes(key.subarray(i, i + BLOCK), key.subarray(j, j + BLOCK))) {
        throw new MikeyError(
          "mikey.repeating-key",
          "the key repeats itself in blocks of 32 octets: use one of 16 to 32 random octets",
        );
      }
    }
  }
}

/** Hash of a PRF func (RFC 3830 §6.1, RFC 6043 §6.1). @throws MikeyError `mikey.prf` */
export function prfHash(prfFunc: number): HashName {
  const row = entryOf(PrfFunc, prfFunc);
  if (row === undefined) throw new MikeyError("mikey.prf", `PRF func ${prfFunc} is not supported`);
  return row.hash;
}

/** First 32 bits of a label: consecutive nine-digit groups of the decimals of e (RFC 3830 §4.1.3, §4.1.4). */
const CONSTANT = {
  tek: parseHex("2ad01c64"),
  tgkAuthentication: parseHex("1b5c7973"),
  tgkEncryption: parseHex("15798cef"),
  tgkSalt: parseHex("39a2c14b"),
  encryption: parseHex("150533e1"),
  authentication: parseHex("2d22ac75"),
  salt: parseHex("29b88916"),
} as const;

/** CS ID in the label of keys that protect messages: none (RFC 3830 §4.1.4). */
const NO_CS = 0xff;

function label(constant: Uint8Array, csId: number, csbId: number, rand: Uint8Array): Uint8Array {
  const octets = new Uint8Array(9 + rand.length);
  for (let i = 0; i < 4; i++) {
    octets[i] = constant[i] as number;
    octets[5 + i] = csbId >>> (24 - 8 * i);
  }
  octets[4] = csId;
  octets.set(rand, 9);
  return octets;
}

/** RFC 3830 §6.11 recommends 16 octets of RAND; below, the freshness of derived keys rests on the credential alone. */
export const LEAST_RAND = 16;

/** What a derivation depends on beside the key. */
export interface DerivationContext {
  /** PRF func of the header. */
  readonly prf: number;
  readonly csbId: number;
  /** The value of RAND, without its length octet. */
  readonly rand: Uint8Array;
}

/** Which key of a crypto session is derived from a TGK (RFC 3830 §4.1.3). */
export type TgkPurpose = "tek" | "salt" | "encryption" | "authentication";

const TGK_CONSTANT: Readonly<Record<TgkPurpose, Uint8Array>> = {
  tek: CONSTANT.tek,
  salt: CONSTANT.tgkSalt,
  encryption: CONSTANT.tgkEncryption,
  authentication: CONSTANT.tgkAuthentication,
};

/**
 * A key of crypto session `csId` from a TGK (RFC 3830 §4.1.3). `encryption` and `authentication` are for security
 * protocols without a key derivation of their own; SRTP takes `tek` as master key and `salt` as master salt.
 * @throws MikeyError `mikey.prf`, `mikey.repeating-key`
 */
export function deriveFromTgk(
  crypto: CryptoProvider,
  context: DerivationContext,
  tgk: Uint8Array,
  csId: number,
  purpose: TgkPurpose,
  octets: number,
): Uint8Array {
  const input = label(TGK_CONSTANT[purpose], csId, context.csbId, context.rand);
  return prf(crypto, prfHash(context.prf), tgk, input, 8 * octets);
}

/** Keys that protect the messages of one CSB. */
export interface MessageKeys {
  readonly encryptionKey: Uint8Array;
  readonly salt: Uint8Array;
  readonly authenticationKey: Uint8Array;
}

/**
 * Keys for KEMAC and V from a pre-shared key or an envelope key (RFC 3830 §4.1.4). Lengths follow the algorithms
 * (§4.2.3, §4.2.4; RFC 6043 §6.2); unused ones are empty.
 * @throws MikeyError `mikey.prf`, `mikey.repeating-key`, `mikey.encryption-algorithm`, `mikey.mac-algorithm`
 */
export function deriveMessageKeys(
  crypto: CryptoProvider,
  context: DerivationContext,
  key: Uint8Array,
  encrAlg: number,
  macAlg: number,
): MessageKeys {
  const encryption = entryOf(EncrAlg, encrAlg);
  if (encryption === undefined) throw new MikeyError("mikey.encryption-algorithm", `Encr alg ${encrAlg} is not supported`);
  const mac = entryOf(MacAlg, macAlg);
  if (mac === undefined) throw new MikeyError("mikey.mac-algorithm", `MAC alg ${macAlg} is not supported`);
  const hash = prfHash(context.prf);
  const labelled = label(CONSTANT.encryption, NO_CS, context.csbId, context.rand);
  const derive = (constant: Uint8Array, octets: number): Uint8Array => {
    if (octets === 0) return new Uint8Array(0);
    for (let i = 0; i < constant.length; i++) labelled[i] = constant[i] as number;
    return prf(crypto, hash, key, labelled, 8 * octets);
  };
  return {
    encryptionKey: derive(CONSTANT.encryption, encryption.keyOctets),
    salt: derive(CONSTANT.salt, encryption.saltOctets),
    authenticationKey: derive(CONSTANT.authentication, mac.keyOctets),
  };
}

/** Overwrites message keys. */
export function wipeMessageKeys(keys: MessageKeys): void {
  wipe(keys.encryptionKey, keys.salt, keys.authenticationKey);
}
