import {
  block,
  type Code,
  type FunctionBody,
  I32,
  i8x16,
  i32,
  i32x4,
  type Local,
  type Operand,
  set,
  V128,
  v128,
  whileLoop,
} from "./assembler.js";
import { littleEndian, SWAP_WORDS } from "./words.js";

/** Initial hash value (FIPS 180-4 §5.3.1). */
export const SHA1_INITIAL = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
/** Round constants (FIPS 180-4 §4.2.1), each in the four words of a vector. */
export const SHA1_CONSTANTS = [0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6].flatMap((word) =>
  littleEndian([word, word, word, word]),
);
const CONSTANTS = 4;
const BLOCK = 64;

/** f of FIPS 180-4 §4.1.1 for round `t`, over words or over lanes of words. */
export function sha1Mix(t: number, b: Operand, c: Operand, d: Operand, of: { and: Gate; or: Gate; xor: Gate }): Code {
  if (t < 20) return of.xor(d, of.and(b, of.xor(c, d)));
  if (t >= 40 && t < 60) return of.or(of.and(b, c), of.and(d, of.or(b, c)));
  return of.xor(of.xor(b, c), d);
}
type Gate = (a: Operand, b: Operand) => Code;

/** Rotates the words of a vector to the left. */
export function rotateLanes(vector: Operand, by: number): Code {
  if (by === 1) return i32x4.sub(i32x4.add(vector, vector), i32x4.gtS(v128.const(new Array(16).fill(0)), vector));
  return v128.or(i32x4.shl(vector, by), i32x4.shrU(vector, 32 - by));
}

/** a to e in round `t`: instead of moving five values on, the names move. */
export function sha1StateAt(state: readonly Local[], t: number): [a: Local, b: Local, c: Local, d: Local, e: Local] {
  return [0, 1, 2, 3, 4].map((k) => state[(k + 80 - t) % 5]) as [Local, Local, Local, Local, Local];
}

/** Addresses that SHA-1 works with: five words of state, 80 words of the expanded message, `SHA1_CONSTANTS`. */
export interface Sha1Places {
  readonly state: number;
  readonly schedule: number;
  readonly constants: number;
}

/**
 * Compresses `blocks` blocks into the state (FIPS 180-4 §6.1.2). The schedule is made four words at a time; rounds take its words
 * from memory, where the constant is already added.
 */
export function emitSha1(body: FunctionBody, data: Local, blocks: Local, places: Sha1Places): void {
  const state = body.locals(I32, 5);
  const before = body.locals(I32, 5);
  const words = body.locals(V128, 8);
  const x = body.local(V128);
  const swap = body.hold(V128, v128.const(SWAP_WORDS));
  const constants = Array.from({ length: CONSTANTS }, (_, i) => body.hold(V128, v128.load(places.constants, 16 * i)));
  const group = (g: number): Local => words[g & 7] as Local;

  const schedule = (g: number): Code => {
    const code: Code[] = [];
    if (g < 4) {
      code.push(set(group(g), i8x16.swizzle(v128.load(data, 16 * g), swap)));
    } else if (g < 8) {
      // W[t] = ROTL1(W[t-3] ^ W[t-8] ^ W[t-14] ^ W[t-16]); the last word of four needs the first, which is added afterwards.
      const three = i32x4.shuffle(group(g - 1), i32x4.splat(0), [1, 2, 3, 4]);
      const fourteen = i32x4.shuffle(group(g - 4), group(g - 3), [2, 3, 4, 5]);
      code.push(set(x, v128.xor(v128.xor(three, group(g - 2)), v128.xor(fourteen, group(g - 4)))));
      const first = i32x4.shuffle(i32x4.splat(0), x, [0, 1, 2, 4]);
      code.push(set(group(g), v128.xor(rotateLanes(x, 1), rotateLanes(first, 2))));
    } else {
      // The same recurrence applied to itself: W[t] = ROTL2(W[t-6] ^ W[t-16] ^ W[t-28] ^ W[t-32]), four words that need none of each other.
      const six = i32x4.shuffle(group(g - 2), group(g - 1), [2, 3, 4, 5]);
      code.push(set(x, v128.xor(v128.xor(six, group(g - 4)), v128.xor(group(g - 7), group(g - 8)))));
      code.push(set(group(g), rotateLanes(x, 2)));
    }
    code.push(v128.store(places.schedule, i32x4.add(group(g), constants[Math.floor(g / 5)] as Local), 16 * g));
    return block(...code);
  };

  const rounds: Code[] = [];
  for (let g = 0; g < 20; g++) {
    rounds.push(schedule(g));
    for (let t = 4 * g; t < 4 * g + 4; t++) {
      const [a, b, c, d, e] = sha1StateAt(state, t);
      rounds.push(
        set(e, i32.add(i32.add(i32.add(e, i32.load(places.schedule, 4 * t)), sha1Mix(t, b, c, d, i32)), i32.rotl(a, 5))),
        set(b, i32.rotl(b, 30)),
      );
    }
  }
  body.emit(
    block(...state.map((word, i) => set(word, i32.load(places.state, 4 * i)))),
    whileLoop(
      blocks,
      block(...state.map((word, i) => set(before[i] as Local, word))),
      ...rounds,
      block(...state.map((word, i) => set(word, i32.add(word, before[i] as Local)))),
      set(data, i32.add(data, BLOCK)),
      set(blocks, i32.sub(blocks, 1)),
    ),
    block(...state.map((word, i) => i32.store(places.state, word, 4 * i))),
  );
}
