import {
  DIGEST,
  HASH_STATE,
  HMAC_INNER_STATE,
  HMAC_KEY,
  HMAC_OUTER,
  HMAC_OUTER_STATE,
  HMAC_PADDED_KEY,
  MESSAGE,
} from "../key-kernel-layout.js";
import {
  block,
  type Code,
  call,
  type FunctionBody,
  type FunctionHandle,
  I32,
  i8x16,
  i32,
  type Local,
  type ModuleBuilder,
  type Operand,
  set,
  v128,
} from "./assembler.js";
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

/** What a module has of one hash function: where its messages and keys lie is in `key-kernel-layout.ts`. */
interface Parts {
  /** The initial hash value into the state. */
  readonly begin: Code;
  /** The state as octets. */
  digest(to: number): Code;
}

function partsOf(module: ModuleBuilder, { initial }: HashFunction): Parts {
  const initialAt = module.constant(littleEndian([...initial, ...new Array(WORDS - initial.length).fill(0)]));
  const vectors = initial.length >> 2;
  return {
    begin: block(...[0, 16].map((at) => v128.store(HASH_STATE, v128.load(initialAt, at), at))),
    digest: (to) =>
      block(
        ...initial
          .slice(0, vectors)
          .map((_, i) => v128.store(to, i8x16.swizzle(v128.load(HASH_STATE, 16 * i), v128.const(SWAP_WORDS)), 16 * i)),
        ...initial.slice(4 * vectors).map((_, i) => {
          const at = 4 * (4 * vectors + i);
          return i32.store(to, swapWord(i32.load(HASH_STATE, at)), at);
        }),
      ),
  };
}

/** Pads `length` octets at `at`, with zeros behind, and compresses them; `before` octets have gone before. */
function finish(body: FunctionBody, compress: FunctionHandle, at: number, length: Operand, before: number): Code {
  const blocks = body.local(I32);
  return block(
    set(blocks, i32.shrU(i32.add(length, LEAST_PADDING + BLOCK - 1), 6)),
    i32.store8(length, 0x80, at),
    i32.store(i32.shl(blocks, 6), swapWord(i32.shl(i32.add(length, before), 3)), at - 4),
    call(compress, at, blocks),
    // What follows hashes other octets in this place.
    i32.store(i32.shl(blocks, 6), 0, at - 4),
  );
}

/**
 * Adds a hash function, and with it, for keys of at most 64 octets, HMAC (RFC 2104 §2) and the first block of P_hash (RFC 5246 §5).
 * @param name exported under this name, and with `Hmac` and `PHash` behind it
 */
export function addHash(module: ModuleBuilder, name: string, hash: HashFunction): void {
  const { initial, compress } = hash;
  const { begin, digest } = partsOf(module, hash);
  const digestOctets = 4 * initial.length;

  /** The digest of what is at `MESSAGE` in so many octets with zeros behind. */
  module.function(name, [I32], [], (body, length) => {
    body.emit(begin, finish(body, compress, MESSAGE, length as Local, 0), digest(DIGEST));
  });

  // What is hashed behind the outer pad is a digest: its padding is the same for every message.
  const outer = new Array<number>(BLOCK).fill(0);
  const outerBits = 8 * (BLOCK + digestOctets);
  outer[digestOctets] = 0x80;
  outer[BLOCK - 2] = outerBits >> 8;
  outer[BLOCK - 1] = outerBits & 0xff;
  const outerAt = module.constant(outer);
  const move = (to: number, from: number): Code => block(...[0, 16].map((at) => v128.store(to, v128.load(from, at), at)));
  const pad = (octet: number, to: number): Code =>
    block(
      ...[0, 16, 32, 48].map((at) => v128.store(HMAC_PADDED_KEY, v128.xor(v128.load(HMAC_KEY, at), i8x16.splat(octet)), at)),
      begin,
      call(compress, HMAC_PADDED_KEY, 1),
      move(to, HASH_STATE),
    );
  /** The states behind the pads of what is at `HMAC_KEY`. */
  const prepare = block(
    pad(INNER_PAD, HMAC_INNER_STATE),
    pad(OUTER_PAD, HMAC_OUTER_STATE),
    ...[0, 16, 32, 48].map((at) => v128.store(HMAC_OUTER, v128.load(outerAt, at), at)),
  );
  const tag = (body: FunctionBody, at: number, length: Operand, to: number): Code =>
    block(
      move(HASH_STATE, HMAC_INNER_STATE),
      finish(body, compress, at, length, BLOCK),
      digest(HMAC_OUTER),
      move(HASH_STATE, HMAC_OUTER_STATE),
      call(compress, HMAC_OUTER, 1),
      digest(to),
    );

  /** The tag of what is at `HMAC_KEY`, and at `MESSAGE` in so many octets with zeros behind. */
  module.function(`${name}Hmac`, [I32], [], (body, length) => {
    body.emit(prepare, tag(body, MESSAGE, length as Local, DIGEST));
  });

  /** HMAC(key, A ‖ seed) with A = HMAC(key, seed), of a seed of so many octets with zeros behind that has its place a digest behind `MESSAGE`. */
  module.function(`${name}PHash`, [I32], [], (body, length) => {
    const octets = length as Local;
    body.emit(
      prepare,
      tag(body, MESSAGE + digestOctets, octets, MESSAGE),
      tag(body, MESSAGE, i32.add(octets, digestOctets), DIGEST),
    );
  });
}
