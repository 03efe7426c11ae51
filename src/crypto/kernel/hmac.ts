import { HASH_STATE, HMAC_KEY, HMAC_MESSAGE, HMAC_OUTER, HMAC_PADDED_KEY, HMAC_TAG } from "../key-kernel-layout.js";
import { block, type Code, call, type FunctionHandle, I32, i8x16, i32, type Local, type ModuleBuilder, v128 } from "./assembler.js";
import { littleEndian, SWAP_WORDS, swapWord } from "./words.js";

const BLOCK = 64;
/** HMAC pads (RFC 2104 §2). */
export const INNER_PAD = 0x36;
export const OUTER_PAD = 0x5c;
/** What padding takes at least: one bit, and the length in 64 (FIPS 180-4 §5.1.1). */
const LEAST_PADDING = 9;
/** Most words of a state. */
const WORDS = 8;

/** A hash function with blocks of 64 octets in the module. */
export interface HashFunction {
  /** The initial hash value: as many words as a digest has. */
  readonly initial: readonly number[];
  /** Compresses blocks into `HASH_STATE`: the address of the first, and how many. */
  readonly compress: FunctionHandle;
}

/** Adds HMAC (RFC 2104 §2) of a key of at most 64 octets. @param name exported under this name */
export function addHmac(module: ModuleBuilder, name: string, { initial, compress }: HashFunction): void {
  const digestOctets = 4 * initial.length;
  const initialAt = module.constant(littleEndian([...initial, ...new Array(WORDS - initial.length).fill(0)]));
  // What is hashed behind the outer pad is a digest: its padding is the same for every message.
  const outer = new Array<number>(BLOCK).fill(0);
  const outerBits = 8 * (BLOCK + digestOctets);
  outer[digestOctets] = 0x80;
  outer[BLOCK - 2] = outerBits >> 8;
  outer[BLOCK - 1] = outerBits & 0xff;
  const outerAt = module.constant(outer);

  const begin = (pad: number): Code =>
    block(
      ...[0, 16, 32, 48].map((at) => v128.store(HMAC_PADDED_KEY, v128.xor(v128.load(HMAC_KEY, at), i8x16.splat(pad)), at)),
      ...[0, 16].map((at) => v128.store(HASH_STATE, v128.load(initialAt, at), at)),
      call(compress, HMAC_PADDED_KEY, 1),
    );
  const vectors = initial.length >> 2;
  /** The state as octets. */
  const digest = (to: number): Code =>
    block(
      ...initial
        .slice(0, vectors)
        .map((_, i) => v128.store(to, i8x16.swizzle(v128.load(HASH_STATE, 16 * i), v128.const(SWAP_WORDS)), 16 * i)),
      ...initial.slice(4 * vectors).map((_, i) => {
        const at = 4 * (4 * vectors + i);
        return i32.store(to, swapWord(i32.load(HASH_STATE, at)), at);
      }),
    );

  /** The tag of what is at `HMAC_KEY`, and at `HMAC_MESSAGE` in so many octets with zeros behind. */
  module.function(name, [I32], [], (body, length) => {
    const octets = length as Local;
    const blocks = body.hold(I32, i32.shrU(i32.add(octets, LEAST_PADDING + BLOCK - 1), 6));
    body.emit(
      i32.store8(octets, 0x80, HMAC_MESSAGE),
      i32.store(i32.shl(blocks, 6), swapWord(i32.shl(i32.add(octets, BLOCK), 3)), HMAC_MESSAGE - 4),
      begin(INNER_PAD),
      call(compress, HMAC_MESSAGE, blocks),
      ...[0, 16, 32, 48].map((at) => v128.store(HMAC_OUTER, v128.load(outerAt, at), at)),
      digest(HMAC_OUTER),
      begin(OUTER_PAD),
      call(compress, HMAC_OUTER, 1),
      digest(HMAC_TAG),
    );
  });
}
