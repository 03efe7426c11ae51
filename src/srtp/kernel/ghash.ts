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
  i64x2,
  type Local,
  type ModuleBuilder,
  type Operand,
  set,
  swapWord,
  V128,
  v128,
  when,
  whileLoop,
} from "../../crypto/kernel/index.js";
import { GHASH_BUFFER, GHASH_GROUP, GHASH_STATE, GHASH_TABLE, JOB, JOB_OCTETS, KEY } from "../kernel-layout.js";

const BLOCK = 16;
/** Tables of the lower nibbles come behind those of the upper. */
const LOWER_NIBBLES = 16 * BLOCK;
/** x^128 = 1 + x + x^2 + x^7, bits from the left (NIST SP 800-38D §6.3). */
const POLYNOMIAL = 0xe1;
/** Bits of a nibble from the left: lanes n of a vector whose number has the bit. */
const NIBBLE_BITS = [8, 4, 2, 1];

export interface GhashFunctions {
  /** GHASH of one job with AEAD, XOR its mask: the tag goes to `GHASH_STATE`. */
  readonly tag: FunctionHandle;
}

/**
 * Adds GHASH (NIST SP 800-38D §6.4) to a module. A product with a power of H is looked up nibble by nibble, but not in memory: a
 * table of 16 octets is one vector, and a swizzle looks up 16 nibbles in it at once. Addresses never depend on key or data.
 */
export function addGhash(module: ModuleBuilder): GhashFunctions {
  const bitMasks = module.constant(
    NIBBLE_BITS.flatMap((bit) => Array.from({ length: 16 }, (_, n) => ((n & bit) === 0 ? 0 : 0xff))),
  );
  const absorb = module.function(undefined, [I32, I32, I32], [], emitAbsorb);

  /** Tables of one power of H, which is in `GHASH_STATE`: for output octet j, octet j of nibble times H for every nibble. */
  const buildTable = module.function(undefined, [I32], [], (body, table) => {
    const power = body.hold(V128, v128.load(GHASH_STATE));
    const lanes = NIBBLE_BITS.map((_, i) => body.hold(V128, v128.load(bitMasks, 16 * i)));
    const at = body.local(I32);
    for (const half of [0, LOWER_NIBBLES]) {
      // H, xH, x^2 H and x^3 H, and for the lower nibble the next four.
      for (const bit of NIBBLE_BITS.keys()) body.emit(v128.store(GHASH_BUFFER, power, 16 * bit), set(power, timesX(power)));
      const column = lanes.map((mask, bit) => v128.and(v128.load8Splat(i32.add(at, GHASH_BUFFER), 16 * bit), mask));
      const sum = column.reduce((total, term) => v128.xor(total, term));
      body.emit(
        set(at, 0),
        doWhile(i32.ltU(at, BLOCK), v128.store(i32.add(table as Local, i32.shl(at, 4)), sum, half), set(at, i32.add(at, 1))),
      );
    }
  });

  /** Makes a context from H at `KEY`: tables of H^2 and H, in the order of the blocks that they multiply. */
  module.function("prepareGhash", [I32], [], (body, context) => {
    const table = body.hold(I32, i32.add(context as Local, (GHASH_GROUP - 1) * GHASH_TABLE));
    const zero = v128.const(new Array(16).fill(0));
    const at = body.hold(I32, context as Local);
    body.emit(
      doWhile(i32.ltU(at, i32.add(table, GHASH_TABLE)), v128.store(at, zero), set(at, i32.add(at, 16))),
      v128.store(GHASH_STATE, v128.load(KEY)),
    );
    for (let power = 1; power <= GHASH_GROUP; power++) {
      body.emit(call(buildTable, table), set(table, i32.sub(table, GHASH_TABLE)));
      if (power === GHASH_GROUP) break;
      // The next power: this one times H, which the last table multiplies by.
      for (let i = 0; i < GHASH_GROUP - 1; i++) body.emit(v128.store(GHASH_BUFFER, zero, 16 * i));
      body.emit(
        v128.store(GHASH_BUFFER, v128.load(GHASH_STATE), 16 * (GHASH_GROUP - 1)),
        v128.store(GHASH_STATE, zero),
        call(absorb, context as Local, GHASH_BUFFER, GHASH_BUFFER + 16 * GHASH_GROUP),
      );
    }
    for (let i = 0; i < GHASH_GROUP; i++) body.emit(v128.store(GHASH_BUFFER, zero, 16 * i));
    body.emit(v128.store(GHASH_STATE, zero));
  });

  const tag = module.function(undefined, [I32], [], (body, job) => {
    emitTag(body, job as Local, absorb);
  });
  return { tag };
}

/**
 * All blocks of one job in a row, so that groups of them can be multiplied by falling powers of H: zeros in front, which change
 * nothing, then associated data, ciphertext and lengths.
 */
function emitTag(body: FunctionBody, job: Local, absorb: FunctionHandle): void {
  const packet = body.hold(I32, i32.load(job, JOB.packet));
  const covered = body.hold(I32, i32.load(job, JOB.covered));
  const trailerLength = body.hold(I32, i32.load(job, JOB.trailerLength));
  const cryptLength = body.hold(I32, i32.load(job, JOB.cryptLength));
  const associated = body.hold(I32, i32.add(covered, trailerLength));
  const blocksOf = (octets: Operand): Code => i32.shrU(i32.add(octets, BLOCK - 1), 4);
  const zero = body.hold(V128, v128.const(new Array(16).fill(0)));
  const blocks = body.hold(I32, i32.add(i32.add(blocksOf(associated), blocksOf(cryptLength)), 1));
  const at = body.hold(I32, i32.add(GHASH_BUFFER, i32.shl(i32.and(i32.sub(0, blocks), GHASH_GROUP - 1), 4)));
  const [from, left] = body.locals(I32, 2) as [Local, Local];
  /** Copies whole vectors, which may read behind the packet, and leaves `at` behind the last block. */
  const copy = (source: Operand, octets: Operand): Code =>
    block(
      set(from, source),
      set(left, octets),
      whileLoop(
        i32.geU(left, BLOCK),
        v128.store(at, v128.load(from)),
        set(at, i32.add(at, BLOCK)),
        set(from, i32.add(from, BLOCK)),
        set(left, i32.sub(left, BLOCK)),
      ),
      v128.store(at, v128.load(from)),
    );
  /** Zeros from `octets` on in the block at `at`; where there are any octets in it, it is done. */
  const padFrom = (octets: Operand): Code =>
    block(v128.store(i32.add(at, octets), zero), set(at, i32.add(at, i32.and(i32.add(octets, BLOCK - 1), -BLOCK))));
  body.emit(
    ...Array.from({ length: GHASH_GROUP - 1 }, (_, i) => v128.store(GHASH_BUFFER, zero, BLOCK * i)),
    copy(packet, covered),
    i32.store(i32.add(at, left), swapWord(i32.load(job, JOB.trailer))),
    padFrom(i32.add(left, trailerLength)),
    copy(i32.add(packet, i32.load(job, JOB.cryptAt)), cryptLength),
    padFrom(left),
    v128.store(at, zero),
    i32.store(at, swapWord(i32.shl(associated, 3)), 4),
    i32.store(at, swapWord(i32.shl(cryptLength, 3)), 12),
    v128.store(GHASH_STATE, zero),
    call(absorb, i32.load(job, JOB.context), GHASH_BUFFER, i32.add(at, BLOCK)),
    v128.store(GHASH_STATE, v128.xor(v128.load(GHASH_STATE), v128.load(i32.load(job, JOB.tagMask)))),
  );
}

/**
 * Multiplies groups of blocks by powers of H and adds them to the state. Octet k of a block counts x^(8k) times what it would as
 * octet 0, so all sixteen are looked up in the tables of octet 0, and what each gives is moved to its place: octet j of the product
 * of octet k is octet j + k of the whole.
 */
function emitAbsorb(body: FunctionBody, ...parameters: Local[]): void {
  const [context, data, end] = parameters as [Local, Local, Local];
  const state = body.hold(V128, v128.load(GHASH_STATE));
  const low = body.hold(V128, i8x16.splat(0x0f));
  const zero = body.hold(V128, i8x16.splat(0));
  const nibbles = Array.from({ length: GHASH_GROUP }, () => ({ upper: body.local(V128), lower: body.local(V128) }));
  /** Octets 0 to 15 and 16 to 31 of a product, and of the part of it whose j have one rest modulo 4. */
  const [first, second, partFirst, partSecond] = body.locals(V128, 4) as [Local, Local, Local, Local];

  const table = body.local(I32);
  /** Adds octet j of the products of all octets with their powers, one lane for each octet. */
  const addProducts = (j: number): Code => {
    const add = (at: number, nibble: Local): Code =>
      set(partFirst, v128.xor(partFirst, i8x16.swizzle(v128.load(table, at + 16 * j), nibble)));
    return block(
      ...nibbles.map(({ upper, lower }, i) => block(add(i * GHASH_TABLE, upper), add(i * GHASH_TABLE + LOWER_NIBBLES, lower))),
    );
  };
  /** Moves 32 octets up by `by` places. */
  const moveUp = (lower: Local, upper: Local, by: number): Code =>
    block(set(upper, i8x16.shuffle(lower, upper, lanesFrom(16 - by))), set(lower, i8x16.shuffle(zero, lower, lanesFrom(16 - by))));

  const multiply = [
    set(first, zero),
    set(second, zero),
    set(table, i32.add(context, 16 * 3)),
    doWhile(
      i32.geU(table, context),
      set(partFirst, zero),
      set(partSecond, zero),
      addProducts(12),
      ...[8, 4, 0].flatMap((j) => [moveUp(partFirst, partSecond, 4), addProducts(j)]),
      moveUp(first, second, 1),
      set(first, v128.xor(first, partFirst)),
      set(second, v128.xor(second, partSecond)),
      set(table, i32.sub(table, 16)),
    ),
  ];
  const within = [1, 2, 7].map((by) => i8x16.shrU(second, by)).reduce((sum, term) => v128.xor(sum, term), v128.xor(first, second));
  // Bits that leave an octet on the right come into the next one on the left.
  const across = [7, 6, 1].map((by) => i8x16.shl(second, by)).reduce((sum, term) => v128.xor(sum, term));
  const reduced = v128.xor(within, i8x16.shuffle(zero, across, lanesFrom(15)));

  body.emit(
    whileLoop(
      i32.ltU(data, end),
      ...nibbles.map(({ upper, lower }, i) =>
        block(
          set(lower, i === 0 ? v128.xor(v128.load(data), state) : v128.load(data, BLOCK * i)),
          set(upper, v128.and(i64x2.shrU(lower, 4), low)),
          set(lower, v128.and(lower, low)),
        ),
      ),
      ...multiply,
      set(state, reduced),
      set(data, i32.add(data, BLOCK * GHASH_GROUP)),
    ),
    v128.store(GHASH_STATE, state),
  );
}

/** Sixteen octets of 32, from this one on. */
function lanesFrom(first: number): number[] {
  return Array.from({ length: 16 }, (_, i) => first + i);
}

/** x times an element: bits move to the right, and the one that falls out comes back as the polynomial. */
function timesX(element: Local): Code {
  const zero = i8x16.splat(0);
  const before = i8x16.shuffle(zero, element, lanesFrom(15));
  const moved = v128.or(i8x16.shrU(element, 1), i8x16.shl(before, 7));
  const fallen = i8x16.shrS(i8x16.shl(i8x16.shuffle(element, element, new Array(16).fill(15)), 7), 7);
  const polynomial = v128.const([POLYNOMIAL, ...new Array<number>(15).fill(0)]);
  return v128.xor(moved, v128.and(fallen, polynomial));
}

/** Adds what turns a packet and its keystream into an SRTP packet with AES-GCM, and back (RFC 7714). */
export function addAeadPackets(module: ModuleBuilder, { tag }: GhashFunctions, combine: FunctionHandle): void {
  const crypt = (job: Operand): Code =>
    when(
      i32.load(job, JOB.keystream),
      call(
        combine,
        i32.add(i32.load(job, JOB.packet), i32.load(job, JOB.cryptAt)),
        i32.load(job, JOB.keystream),
        i32.load(job, JOB.cryptLength),
      ),
    );
  const tagOf = (job: Operand): Code => i32.add(i32.load(job, JOB.packet), i32.load(job, JOB.tagAt));
  const eachJob = (body: FunctionBody, first: Local, end: Local, run: (job: Local) => Code): void => {
    const job = body.hold(I32, first);
    body.emit(whileLoop(i32.ltU(job, end), run(job), set(job, i32.add(job, JOB_OCTETS))));
  };
  module.function("sealAead", [I32, I32], [], (body, first, end) => {
    eachJob(body, first as Local, end as Local, (job) =>
      block(crypt(job), call(tag, job), v128.store(tagOf(job), v128.load(GHASH_STATE))),
    );
  });
  module.function("openAead", [I32, I32], [], (body, first, end) => {
    eachJob(body, first as Local, end as Local, (job) =>
      block(
        call(tag, job),
        i32.store(job, i32.eqz(v128.anyTrue(v128.xor(v128.load(tagOf(job)), v128.load(GHASH_STATE)))), JOB.authentic),
        when(i32.load(job, JOB.authentic), crypt(job)),
      ),
    );
  });
}
