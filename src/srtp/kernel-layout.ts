/**
 * What the generated module and its callers agree on: where things lie in the kernel's memory, in octets. The memory has a fixed
 * size, so that views into it never become detached; pages that are not touched cost nothing.
 */

/** Pages of 64 KiB in the memory of one kernel. */
export const MEMORY_PAGES = 1024;
const PAGE = 0x1_0000;

/** Constants of the module end before this address. */
export const CONSTANTS_END = 0x800;

/** Working state of one SHA-1: five words, and the expanded message of one block. */
export const SHA1_STATE = 0x800;
export const SHA1_SCHEDULE = 0x840;
/** Messages that HMAC-SHA1 takes side by side: a word of each in one vector. */
export const LANES = 4;
/** Digests, 32 octets apart: the one of a single packet, or one for each lane. */
export const DIGESTS = 0x9c0;
/** What lanes read: three words for each. */
export const LANE_TABLE = 0xa40;
/** Last blocks of a message with their padding: `TAIL_STRIDE` octets for each lane. */
export const TAILS = 0xa80;
export const TAIL_STRIDE = 192;
/** A key on its way into a context: up to 64 octets, zeros behind it. */
export const KEY = 0xd80;
/** One counter block as four words in the machine's order: what `layCounters` starts from. */
export const COUNTER_BASE = 0xdc0;
/** Eight blocks as 128 octets, for the key schedule of AES. */
export const AES_BLOCKS = 0xe00;
/** Values of GHASH under way. */
export const GHASH_STATE = 0xe80;

/** Jobs, `JOB_OCTETS` apart; see `JOB`. */
export const JOBS = 0x1000;
export const JOB_OCTETS = 64;
/** Most jobs in one call. */
export const MAX_JOBS = 128;

/** Words of a job, as offsets in octets. */
export const JOB = {
  /** Context: the key of HMAC or GHASH. 0: the packet has no tag. */
  context: 0,
  /** First octet of the packet. */
  packet: 4,
  /** Octets of the packet that HMAC covers, from the first on; of the associated data with AEAD. */
  covered: 8,
  /** Offset in the packet at which the encrypted portion begins. */
  cryptAt: 12,
  /** Octets that are encrypted; 0 for none. */
  cryptLength: 16,
  /** Keystream for the encrypted portion; 0: leave it as it is. */
  keystream: 20,
  /** A word that is authenticated after the covered octets (the ROC, or the SRTCP index word with AEAD), and octets of it: 0 or 4. */
  trailer: 24,
  trailerLength: 28,
  /** Offset in the packet at which the tag stands, and its octets. */
  tagAt: 32,
  tagLength: 36,
  /** AEAD: the block that masks the tag. */
  tagMask: 40,
  /** Put there by the kernel: 1 where the tag was right. */
  authentic: 44,
} as const;

/** Longest packet that the areas below hold, before or after protection; sessions pass none that is longer. */
export const MAX_KERNEL_PACKET = 0xffff + 0x200;
/** Counter blocks on their way to a block cipher outside. */
export const COUNTERS = 0x1_0000;
/** Keystream for one packet alone. */
export const SINGLE_KEYSTREAM = 0x2_1000;
/** All that GHASH covers of one packet, block by block. */
export const GHASH_BUFFER = 0x3_2000;
/** Blocks that mask tags, for packets whose keystream has not been made. */
export const TAG_MASKS = 0x4_2800;
/** Packets that came from other memory. */
export const STAGE = 0x5_0000;
export const STAGE_END = 0xf_0000;

/** What is given to contexts, keystream and slots. The last page stays free: vector loads may reach behind a packet's end. */
export const HEAP = 0x10_0000;
export const HEAP_END = PAGE * MEMORY_PAGES - PAGE;

/** Octets of the context of HMAC-SHA1: the states after the inner and the outer pad. */
export const HMAC_CONTEXT = 64;
/** Blocks that GHASH takes at once, each with its own power of H. */
export const GHASH_GROUP = 2;
/** Octets of the tables of one power of H: 16 octets of product for each of 16 nibbles, for upper and lower nibbles. */
export const GHASH_TABLE = 512;
/** Octets of the context of GHASH: tables of H^2 and H. */
export const GHASH_CONTEXT = GHASH_GROUP * GHASH_TABLE;
/** Octets of one round key of the kernel's own AES: eight planes. */
export const AES_ROUND_KEY = 128;
