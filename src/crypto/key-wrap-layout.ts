/** Where things lie in the memory of the key wrap kernel. Areas are read and written as eight blocks of 16 octets, one per wrapped key. */

/** Pages of 64 KiB. */
export const MEMORY_PAGES = 1;
/** Constants of the module end before this address. */
export const CONSTANTS_END = 0x200;
/** The integrity check register, then the part of the key data in hand (RFC 3394 §2.2.1: A and R[i]). */
export const STATE = 0x200;
/** The other parts, at most three, behind 8 octets without meaning each. */
export const PARTS = 0x280;
/** The wrapping keys: their first halves, then, where they have 32 octets, their second halves. */
export const KEYS = 0x400;
/** Round keys as planes. */
export const ROUND_KEYS = 0x500;
/** Octets of eight blocks. */
export const GROUP = 128;
/** All behind it is free. */
export const END = ROUND_KEYS + 16 * GROUP;
