import {
  block,
  type Code,
  call,
  doWhile,
  emitSha1,
  type FunctionBody,
  type FunctionHandle,
  I32,
  INNER_PAD,
  i8x16,
  i32,
  i32x4,
  type Local,
  littleEndian,
  type ModuleBuilder,
  type Operand,
  OUTER_PAD,
  rotateLanes,
  SHA1_CONSTANTS,
  SHA1_INITIAL,
  SWAP_WORDS,
  set,
  sha1Mix,
  sha1StateAt,
  swapWord,
  V128,
  v128,
} from "../../crypto/kernel/index.js";
import { DIGESTS, JOB, KEY, LANE_TABLE, LANES, SHA1_SCHEDULE, SHA1_STATE, TAIL_STRIDE, TAILS } from "../kernel-layout.js";

const BLOCK = 64;
/** Functions that other parts of the kernel call. */
export interface Sha1Functions {
  /** HMAC-SHA1 of one job: the digest goes to the first of `DIGESTS`. */
  readonly hmac: FunctionHandle;
  /** HMAC-SHA1 of four jobs, one in each lane: digests go to `DIGESTS`. */
  readonly hmac4: FunctionHandle;
}

/** Adds SHA-1 and HMAC-SHA1 to a module. */
export function addSha1(module: ModuleBuilder): Sha1Functions {
  const swapAt = module.constant(SWAP_WORDS);
  const constantsAt = module.constant(SHA1_CONSTANTS);
  const initialAt = module.constant(littleEndian(SHA1_INITIAL));
  // The outer hash has one block: 20 octets of inner digest and the padding for 64 + 20 octets, the same for every message.
  const outerAt = module.constant(Array.from({ length: LANES }, () => outerBlock()).flat());

  const compress = module.function(undefined, [I32, I32], [], (body, data, blocks) => {
    emitSha1(body, data as Local, blocks as Local, { state: SHA1_STATE, schedule: SHA1_SCHEDULE, constants: constantsAt });
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
    const [a, b, c, d, e] = sha1StateAt(state, t);
    rounds.push(
      set(e, i32x4.add(i32x4.add(i32x4.add(e, i32x4.add(word(t), constant)), sha1Mix(t, b, c, d, v128)), rotateLanes(a, 5))),
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
