/** Where things lie in the memory of the key kernel. */

/** Pages of 64 KiB. */
export const MEMORY_PAGES = 1;
/** Constants of the module end before this address; what is behind it is overwritten after every call. */
export const CONSTANTS_END = 0x400;

// Key wrap: eight blocks of 16 octets each, one per wrapped key.

/** Octets of eight blocks. */
export const GROUP = 128;
/** The integrity check register, then the part of the key data in hand (RFC 3394 §2.2.1: A and R[i]). */
export const STATE = 0x400;
/** The other parts, at most three, behind 8 octets without meaning each. */
export const PARTS = 0x480;
/** The wrapping keys: their first halves, then, where they have 32 octets, their second halves. */
export const KEYS = 0x600;
/** Round keys as planes. */
export const ROUND_KEYS = 0x700;
export const WRAP_END = ROUND_KEYS + 16 * GROUP;

// SHA-1 and SHA-256 (FIPS 180-4), and HMAC (RFC 2104) with either.

/** The key, with zeros behind it up to the length of a block. */
export const HMAC_KEY = 0x1000;
/** The key with a pad. */
export const HMAC_PADDED_KEY = 0x1040;
/** The outer hash's second block: the inner digest and its padding. */
export const HMAC_OUTER = 0x1080;
/** What a hash or an HMAC gives. */
export const DIGEST = 0x10c0;
/** Eight words, as the next two. */
export const HASH_STATE = 0x10e0;
/** The states behind the key with its pads. */
export const HMAC_INNER_STATE = 0x1100;
export const HMAC_OUTER_STATE = 0x1120;
/** The expanded message of one block: at most 80 words. */
export const HASH_SCHEDULE = 0x1140;
/** The message and its padding, with zeros behind them. */
export const MESSAGE = 0x1280;
/** Octets of the longest messages: behind them OpenSSL, which has instructions for both functions, makes up for what a call of it costs. */
export const HMAC_MOST = { sha1: 16 * 64 - 9, sha256: 8 * 64 - 9 } as const;
export const HASH_MOST = { sha1: 8 * 64 - 9, sha256: 4 * 64 - 9 } as const;
