import {
  block,
  type Code,
  call,
  doWhile,
  type FunctionBody,
  type FunctionHandle,
  I32,
  i8x16,
  i32,
  i32x4,
  type Local,
  type ModuleBuilder,
  type Operand,
  set,
  V128,
  v128,
  whileLoop,
} from "../../crypto/kernel/index.js";
import { DIGESTS, JOB, KEY, LANE_TABLE, LANES, SHA1_SCHEDULE, SHA1_STATE, TAIL_STRIDE, TAILS } from "../kernel-layout.js";

/** Initial hash value and round constants (FIPS 180-4 §5.3.1, §4.2.1). */
const INITIAL = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
const ROUND_CONSTANTS = [0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6];
const BLOCK = 64;
/** HMAC pads (RFC 2104 §2). */
const INNER_PAD = 0x36;
const OUTER_PAD = 0x5c;

const littleEndian = (words: readonly number[]): number[] =>
  words.flatMap((word) => [word & 0xff, (word >>> 8) & 0xff, (word >>> 16) & 0xff, word >>> 24]);

/** The order of octets turned round in each word. */
export const SWAP_WORDS = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];

/** Functions that other parts of the kernel call. */
export interface Sha1Functions {
  /** HMAC-SHA1 of one job: the digest goes to the first of `DIGESTS`. */
  readonly hmac: FunctionHandle;
  /** HMAC-SHA1 of four jobs, one in each lane: digests go to `DIGESTS`. */
  readonly hmac4: FunctionHandle;
}

/** A word with its octets turned round. */
export function swapWord(word: Operand): Code {
  return i32.or(i32.and(i32.rotl(word, 8), 0x00ff00ff), i32.and(i32.rotl(word, 24), 0xff00ff00));
}

/** f of FIPS 180-4 §4.1.1 for round `t`, over words or over lanes of words. */
function mix(t: number, b: Operand, c: Operand, d: Operand, of: { and: Gate; or: Gate; xor: Gate }): Code {
  if (t < 20) return of.xor(d, of.and(b, of.xor(c, d)));
  if (t >= 40 && t < 60) return of.or(of.and(b, c), of.and(d, of.or(b, c)));
  return of.xor(of.xor(b, c), d);
}
type Gate = (a: Operand, b: Operand) => Code;

/** Rotates the words of a vector to the left. */
function rotateLanes(vector: Operand, by: number): Code {
  if (by === 1) return i32x4.sub(i32x4.add(vector, vector), i32x4.gtS(v128.const(new Array(16).fill(0)), vector));
  return v128.or(i32x4.shl(vector, by), i32x4.shrU(vector, 32 - by));
}

/** a to e in round `t`: instead of moving five values on, the names move. */
function stateAt(state: readonly Local[], t: number): [a: Local, b: Local, c: Local, d: Local, e: Local] {
  return [0, 1, 2, 3, 4].map((k) => state[(k + 80 - t) % 5]) as [Local, Local, Local, Local, Local];
}

/** Adds SHA-1 and HMAC-SHA1 to a module. */
export function addSha1(module: ModuleBuilder): Sha1Functions {
  const swapAt = module.constant(SWAP_WORDS);
  const constantsAt = module.constant(ROUND_CONSTANTS.flatMap((word) => littleEndian([word, word, word, word])));
  const initialAt = module.constant(littleEndian(INITIAL));
  // The outer hash has one block: 20 octets of inner digest and the padding for 64 + 20 octets, the same for every message.
  const outerAt = module.constant(Array.from({ length: LANES }, () => outerBlock()).flat());

  const compress = module.function(undefined, [I32, I32], [], (body, data, blocks) => {
    emitCompress(body, data as Local, blocks as Local, constantsAt);
  });
  const pad = module.function(undefined, [I32, I32, I32, I32, I32], [I32], emitPad);
  const hmac = module.function("hmac", [I32], [], (body, job) => {
    const context = body.hold(I32, i32.load(job as Local, JOB.context));
    const packet = body.hold(I32, i32.load(job as Local, JOB.packet));
    const covered = body.hold(I32, i32.load(job as Local, JOB.covered));
    const blocks = body.hold(I32, i32.shrU(covered, 6));
    const padded = call(
      pad,
      packet,
      covered,
      i32.load(job as Local, JOB.trailer),
      i32.load(job as Local, JOB.trailerLength),
      TAILS,
    );
    body.emit(
      copyState(context, SHA1_STATE),
      call(compress, packet, blocks),
      set(blocks, padded),
      call(compress, TAILS, blocks),
      // The inner digest becomes octets in front of the padding of the outer block.
      v128.store(outerAt, i8x16.swizzle(v128.load(SHA1_STATE), v128.load(swapAt))),
      i32.store(outerAt, swapWord(i32.load(SHA1_STATE, 16)), 16),
      copyState(context, SHA1_STATE, 32),
      call(compress, outerAt, 1),
      v128.store(DIGESTS, i8x16.swizzle(v128.load(SHA1_STATE), v128.load(swapAt))),
      i32.store(DIGESTS, swapWord(i32.load(SHA1_STATE, 16)), 16),
    );
  });

  /** Makes a context from the key at `KEY`, which has at most 64 octets and zeros behind it. */
  module.function("prepareHmac", [I32], [], (body, context) => {
    for (const [padding, offset] of [
      [INNER_PAD, 0],
      [OUTER_PAD, 32],
    ] as const) {
      for (let at = 0; at < BLOCK; at += 16) {
        body.emit(v128.store(TAILS, v128.xor(v128.load(KEY, at), i8x16.splat(padding)), at));
      }
      body.emit(copyState(initialAt, SHA1_STATE), call(compress, TAILS, 1));
      body.emit(v128.store(context as Local, v128.load(SHA1_STATE), offset));
      body.emit(i32.store(context as Local, i32.load(SHA1_STATE, 16), offset + 16));
    }
    for (let at = 0; at < BLOCK; at += 16) body.emit(v128.store(TAILS, i32x4.splat(0), at));
  });

  const compressLanes = module.function(undefined, [I32], [], (body, turns) => {
    emitCompressLanes(body, turns as Local, constantsAt);
  });
  const hmac4 = module.function(undefined, [I32, I32, I32, I32], [], (body, ...jobs) => {
    emitHmacLanes(body, jobs, { pad, compressLanes, swapAt, outerAt });
  });
  return { hmac, hmac4 };
}

function outerBlock(): number[] {
  const octets = new Array<number>(BLOCK).fill(0);
  octets[20] = 0x80;
  const bits = 8 * (BLOCK + 20);
  octets[62] = bits >> 8;
  octets[63] = bits & 0xff;
  return octets;
}

function copyState(from: Operand, to: number, offset = 0): Code {
  return block(v128.store(to, v128.load(from, offset)), i32.store(to, i32.load(from, offset + 16), 16));
}

/**
 * Compresses `blocks` blocks into the state (FIPS 180-4 §6.1.2). The schedule is made four words at a time; rounds take its words
 * from memory, where the constant is already added.
 */
function emitCompress(body: FunctionBody, data: Local, blocks: Local, constantsAt: number): void {
  const state = body.locals(I32, 5);
  const before = body.locals(I32, 5);
  const words = body.locals(V128, 8);
  const x = body.local(V128);
  const swap = body.hold(V128, v128.const(SWAP_WORDS));
  const constants = ROUND_CONSTANTS.map((_, i) => body.hold(V128, v128.load(constantsAt, 16 * i)));
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
    code.push(v128.store(SHA1_SCHEDULE, i32x4.add(group(g), constants[Math.floor(g / 5)] as Local), 16 * g));
    return block(...code);
  };

  const rounds: Code[] = [];
  for (let g = 0; g < 20; g++) {
    rounds.push(schedule(g));
    for (let t = 4 * g; t < 4 * g + 4; t++) {
      const [a, b, c, d, e] = stateAt(state, t);
      rounds.push(
        set(e, i32.add(i32.add(i32.add(e, i32.load(SHA1_SCHEDULE, 4 * t)), mix(t, b, c, d, i32)), i32.rotl(a, 5))),
        set(b, i32.rotl(b, 30)),
      );
    }
  }
  body.emit(
    block(...state.map((word, i) => set(word, i32.load(SHA1_STATE, 4 * i)))),
    whileLoop(
      blocks,
      block(...state.map((word, i) => set(before[i] as Local, word))),
      ...rounds,
      block(...state.map((word, i) => set(word, i32.add(word, before[i] as Local)))),
      set(data, i32.add(data, BLOCK)),
      set(blocks, i32.sub(blocks, 1)),
    ),
    block(...state.map((word, i) => i32.store(SHA1_STATE, word, 4 * i))),
  );
}

/**
 * Copies what is left of a message after its whole blocks to `tail` and pads it, trailer included (FIPS 180-4 §5.1.1; the length
 * counts the block of the pad of HMAC). Copying whole vectors may read, and never writes, behind the message.
 */
function emitPad(body: FunctionBody, ...parameters: Local[]): void {
  const [packet, covered, trailer, trailerLength, tail] = parameters as [Local, Local, Local, Local, Local];
  const rest = body.hold(I32, i32.and(covered, BLOCK - 1));
  const from = body.hold(I32, i32.add(packet, i32.sub(covered, rest)));
  for (let at = 0; at < BLOCK; at += 16) body.emit(v128.store(tail, v128.load(from, at), at));
  const end = body.hold(I32, i32.add(tail, rest));
  body.emit(i32.store(end, swapWord(trailer)), set(end, i32.add(end, trailerLength)), i32.store8(end, 0x80));
  for (let at = 1; at < 65; at += 16) body.emit(v128.store(end, i32x4.splat(0), at));
  const blocks = body.hold(I32, i32.add(1, i32.gtU(i32.add(rest, trailerLength), BLOCK - 9)));
  const bits = i32.shl(i32.add(i32.add(covered, trailerLength), BLOCK), 3);
  body.emit(set(end, i32.sub(i32.add(tail, i32.shl(blocks, 6)), 4)), i32.store(end, swapWord(bits)));
  body.result(blocks);
}

/** Words of the lane table: where each lane reads next, blocks before its tail, and blocks in all. */
const NEXT = 0;
const TAIL_BLOCKS = 4 * LANES;
const ALL_BLOCKS = 8 * LANES;
/** States of the lanes, in the place of the schedule that only single packets need. */
const STATES = SHA1_SCHEDULE;

/** Four rows of four words: row i of the result has word i of every row. */
function transpose(rows: readonly Operand[]): Code[] {
  const [a, b, c, d] = rows as [Operand, Operand, Operand, Operand];
  const low = i32x4.shuffle(a, b, [0, 4, 1, 5]);
  const lowRight = i32x4.shuffle(c, d, [0, 4, 1, 5]);
  const high = i32x4.shuffle(a, b, [2, 6, 3, 7]);
  const highRight = i32x4.shuffle(c, d, [2, 6, 3, 7]);
  return [
    i32x4.shuffle(low, lowRight, [0, 1, 4, 5]),
    i32x4.shuffle(low, lowRight, [2, 3, 6, 7]),
    i32x4.shuffle(high, highRight, [0, 1, 4, 5]),
    i32x4.shuffle(high, highRight, [2, 3, 6, 7]),
  ];
}

/**
 * Compresses `turns` blocks in each of four lanes, a lane being a word of every vector. A lane whose message is at its end keeps its
 * state while others go on.
 */
function emitCompressLanes(body: FunctionBody, turns: Local, constantsAt: number): void {
  const state = body.locals(V128, 5);
  const before = body.locals(V128, 5);
  const words = body.locals(V128, 16);
  const rows = body.locals(V128, LANES);
  const [constant, active] = body.locals(V128, 2) as [Local, Local];
  const swap = body.hold(V128, v128.const(SWAP_WORDS));
  const turn = body.hold(I32, 0);
  const next = rows.map((_, lane) => body.hold(I32, i32.load(LANE_TABLE, NEXT + 4 * lane)));
  const word = (t: number): Local => words[t & 15] as Local;

  const rounds: Code[] = [];
  for (let t = 0; t < 80; t++) {
    if (t % 20 === 0) rounds.push(set(constant, v128.load(constantsAt, 16 * (t / 20))));
    if (t < 16 && t % 4 === 0) {
      rounds.push(
        ...rows.map((row, lane) => set(row, i8x16.swizzle(v128.load(next[lane] as Local, 4 * t), swap))),
        ...transpose(rows).map((vector, i) => set(word(t + i), vector)),
      );
    } else if (t >= 16) {
      rounds.push(
        set(word(t), v128.xor(v128.xor(word(t - 3), word(t - 8)), v128.xor(word(t - 14), word(t - 16)))),
        set(word(t), rotateLanes(word(t), 1)),
      );
    }
    const [a, b, c, d, e] = stateAt(state, t);
    rounds.push(
      set(e, i32x4.add(i32x4.add(i32x4.add(e, i32x4.add(word(t), constant)), mix(t, b, c, d, v128)), rotateLanes(a, 5))),
      set(b, rotateLanes(b, 30)),
    );
  }

  body.emit(
    block(...state.map((vector, i) => set(vector, v128.load(STATES, 16 * i)))),
    doWhile(
      i32.ltU(turn, turns),
      block(...state.map((vector, i) => set(before[i] as Local, vector))),
      ...rounds,
      set(active, i32x4.gtS(v128.load(LANE_TABLE, ALL_BLOCKS), i32x4.splat(turn))),
      block(...state.map((vector, i) => set(vector, i32x4.add(before[i] as Local, v128.and(vector, active))))),
      set(turn, i32.add(turn, 1)),
      ...next.map((pointer, lane) => {
        const atTail = i32.eq(turn, i32.load(LANE_TABLE, TAIL_BLOCKS + 4 * lane));
        return set(pointer, i32.select(tailOf(lane), i32.add(pointer, BLOCK), atTail));
      }),
    ),
    block(...state.map((vector, i) => v128.store(STATES, vector, 16 * i))),
  );
}

const tailOf = (lane: number): number => TAILS + lane * TAIL_STRIDE;

interface HmacParts {
  readonly pad: FunctionHandle;
  readonly compressLanes: FunctionHandle;
  readonly swapAt: number;
  readonly outerAt: number;
}

/** HMAC of one job in each lane. */
function emitHmacLanes(body: FunctionBody, jobs: readonly Local[], { pad, compressLanes, swapAt, outerAt }: HmacParts): void {
  const contexts = jobs.map((job) => body.hold(I32, i32.load(job, JOB.context)));
  const [packet, covered, full, all] = body.locals(I32, 4) as [Local, Local, Local, Local];
  const most = body.hold(I32, 0);
  const rows = body.locals(V128, LANES);

  /** States of the contexts, turned so that a vector holds one word of every lane. */
  const gather = (offset: number): Code => {
    const fifth = contexts.reduce<Code>(
      (vector, context, lane) => i32x4.replaceLane(vector, lane, i32.load(context, offset + 16)),
      i32x4.splat(0),
    );
    return block(
      ...rows.map((row, lane) => set(row, v128.load(contexts[lane] as Local, offset))),
      ...transpose(rows).map((vector, i) => v128.store(STATES, vector, 16 * i)),
      v128.store(STATES, fifth, 64),
    );
  };
  /** Digests of the lanes as octets, `stride` apart. */
  const scatter = (to: number, stride: number): Code =>
    block(
      ...rows.map((row, i) => set(row, v128.load(STATES, 16 * i))),
      ...transpose(rows).map((vector, lane) => v128.store(to + lane * stride, i8x16.swizzle(vector, v128.load(swapAt)))),
      ...rows.map((_, lane) => i32.store(to + lane * stride, swapWord(i32.load(STATES, 64 + 4 * lane)), 16)),
    );
  const table = (lane: number, column: number, value: Operand): Code => i32.store(LANE_TABLE, value, column + 4 * lane);

  jobs.forEach((job, lane) => {
    const trailer = [i32.load(job, JOB.trailer), i32.load(job, JOB.trailerLength)];
    body.emit(
      set(packet, i32.load(job, JOB.packet)),
      set(covered, i32.load(job, JOB.covered)),
      set(full, i32.shrU(covered, 6)),
      set(all, i32.add(full, call(pad, packet, covered, ...trailer, tailOf(lane)))),
      table(lane, NEXT, i32.select(packet, tailOf(lane), full)),
      table(lane, TAIL_BLOCKS, full),
      table(lane, ALL_BLOCKS, all),
      set(most, i32.select(all, most, i32.gtU(all, most))),
    );
  });
  body.emit(gather(0), call(compressLanes, most), scatter(outerAt, BLOCK));
  for (const lane of jobs.keys()) {
    body.emit(table(lane, NEXT, outerAt + lane * BLOCK), table(lane, ALL_BLOCKS, 1));
  }
  body.emit(gather(32), call(compressLanes, 1), scatter(DIGESTS, 32));
}
