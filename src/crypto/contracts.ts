import type { AsymmetricProvider } from "./asymmetric.js";

/** Hash functions of RFC 3830 and RFC 6043. */
export type HashName = "sha1" | "sha256";

/** HMAC under one key, prepared once and used for many messages. */
export interface Hmac {
  /** Octets in a full tag: 20 or 32. */
  readonly length: number;
  /** HMAC over the concatenation of the parts. */
  compute(...parts: readonly Uint8Array[]): Uint8Array;
  /**
   * HMAC over the first `length` octets of `message` followed by `suffix`; the full tag goes into `out`.
   * The form for packets: it makes no lasting object, so the tag must not be a secret.
   */
  computeInto(out: Uint8Array, message: Uint8Array, length: number, suffix?: Uint8Array): void;
  /** Overwrites what can be overwritten of the key. */
  wipe(): void;
}

/** The raw AES block function under one key, kept for the life of that key: a keystream generator, never made per packet. */
export interface AesBlocks {
  /** Encrypts each 16-octet block of `input` into `output`, which may be the same memory. Lengths are equal multiples of 16. */
  encrypt(input: Uint8Array, output: Uint8Array): void;
  wipe(): void;
}

/** AES-GCM under one key, 16-octet tags (RFC 5116). */
export interface AesGcm {
  /** Ciphertext followed by the tag, `plaintext.length + 16` octets, into `out`. */
  seal(nonce: Uint8Array, additional: Uint8Array, plaintext: Uint8Array, out: Uint8Array): void;
  /** False, with `out` as it was, when the tag is wrong. `sealed` is ciphertext followed by the tag; `out` may be its memory. */
  open(nonce: Uint8Array, additional: Uint8Array, sealed: Uint8Array, out: Uint8Array): boolean;
  wipe(): void;
}

/**
 * The primitives. Two implementations pass one suite (`test/suites/crypto-provider.ts`): @noble, which runs
 * anywhere, and node:crypto. Symmetric operations are synchronous.
 */
export interface CryptoProvider extends AsymmetricProvider {
  /** `noble` or `node`. */
  readonly name: string;
  /** True where a call into the provider costs far more than a block: keystream is then best made for many packets at once. */
  readonly callsAreCostly: boolean;
  /** Octets from the platform's cryptographically strong generator. */
  randomBytes(length: number): Uint8Array;
  /** One-shot hash over the concatenation of the parts. */
  hash(name: HashName, ...parts: readonly Uint8Array[]): Uint8Array;
  hmac(name: HashName, key: Uint8Array): Hmac;
  /** HMAC over the concatenation of the parts under a key that is used once, where preparing it would cost more than the tag. The tag may be a secret. */
  hmacOnce(name: HashName, key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array;
  /** HMAC(key, HMAC(key, seed) ‖ seed): the first block of P_hash (RFC 5246 §5), and of P of MIKEY (RFC 3830 §4.1.2), under a key that is used once. */
  pHashOnce(name: HashName, key: Uint8Array, seed: Uint8Array): Uint8Array;
  /** @param key 16, 24 or 32 octets. @throws WatchwordError `crypto.key-length` */
  aesBlocks(key: Uint8Array): AesBlocks;
  /**
   * Encrypts each 16-octet block in its place under a key that is used once, where preparing it would cost more than the blocks.
   * @param key 16, 24 or 32 octets. @throws WatchwordError `crypto.key-length`
   */
  aesOnce(key: Uint8Array, blocks: Uint8Array): void;
  /** @param key 16 or 32 octets. @throws WatchwordError `crypto.key-length` */
  aesGcm(key: Uint8Array): AesGcm;
  /**
   * AES key wrap with a caller's initial value (RFC 3394 §2.2.1; MIKEY puts its 64-bit salt there, RFC 3830 §4.2.3).
   * @param plaintext a multiple of 8 octets, at least 16. @throws WatchwordError `crypto.wrap-length`
   */
  aesKeyWrap(key: Uint8Array, initialValue: Uint8Array, plaintext: Uint8Array): Uint8Array;
  /** The inverse, or undefined when the integrity check fails or the length is not a multiple of 8, at least 24. */
  aesKeyUnwrap(key: Uint8Array, initialValue: Uint8Array, wrapped: Uint8Array): Uint8Array | undefined;
  /**
   * AES key wrap with padding (RFC 5649 §4.1). It needs no nonce: the same key under the same key gives the same octets.
   * @param plaintext at least one octet; wrapped it is as long as the next multiple of 8, and 8 more. @throws WatchwordError `crypto.wrap-length`
   */
  aesKeyWrapPad(key: Uint8Array, plaintext: Uint8Array): Uint8Array;
  /**
   * The same for many keys of `length` octets, 16 or 32, each under a key of its own of the same length, several times as fast as one by one.
   * @param keys the wrapping keys one after the other @param plaintexts what they wrap @param out `length + 8` octets for each
   */
  aesKeyWrapPadMany(keys: Uint8Array, plaintexts: Uint8Array, length: number, out: Uint8Array): void;
  /** The inverse of `aesKeyWrapPad` (RFC 5649 §4.2), or undefined when a check fails or the length is not a multiple of 8, at least 16. */
  aesKeyUnwrapPad(key: Uint8Array, wrapped: Uint8Array): Uint8Array | undefined;
}
