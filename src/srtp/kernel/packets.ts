import {
  block,
  type Code,
  call,
  type FunctionBody,
  type FunctionHandle,
  I32,
  i8x16,
  i32,
  i32x4,
  ifElse,
  type Local,
  type ModuleBuilder,
  type Operand,
  SWAP_WORDS,
  set,
  V128,
  v128,
  when,
  whileLoop,
} from "../../crypto/kernel/index.js";
import { COUNTER_BASE, DIGESTS, JOB, JOB_OCTETS, LANES } from "../kernel-layout.js";
import type { Sha1Functions } from "./sha1.js";

/** Functions for packets that other parts of the kernel call. */
export interface PacketFunctions {
  /** XORs octets at `to` with those at `keystream`. */
  readonly combine: FunctionHandle;
}

/** Adds what turns a packet and its keystream into an SRTP packet with an HMAC-SHA1 tag, and back (RFC 3711 §3.1, §3.4). */
export function addPackets(module: ModuleBuilder, { hmac, hmac4 }: Sha1Functions): PacketFunctions {
  const combine = module.function("combine", [I32, I32, I32], [], emitCombine);
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
  const writeTag = module.function(undefined, [I32, I32], [], emitWriteTag);
  const checkTag = module.function(undefined, [I32, I32], [I32], emitCheckTag);

  module.function("seal", [I32], [], (body, job) => {
    body.emit(
      crypt(job as Local),
      when(i32.load(job as Local, JOB.context), call(hmac, job as Local), call(writeTag, job as Local, DIGESTS)),
    );
  });
  module.function("open", [I32], [I32], (body, job) => {
    const authentic = body.hold(I32, 1);
    body.emit(
      when(i32.load(job as Local, JOB.context), call(hmac, job as Local), set(authentic, call(checkTag, job as Local, DIGESTS))),
      when(authentic, crypt(job as Local)),
    );
    body.result(authentic);
  });
  /** As many jobs at a time as there are lanes; where fewer are left, spare lanes repeat the last. All jobs have a context. */
  const inLanes = (body: FunctionBody, job: Local, end: Local, each: (lane: Local, digest: number) => Code): Code => {
    const lanes = body.locals(I32, LANES);
    const last = i32.sub(end, JOB_OCTETS);
    const isThere = (i: number): Code => i32.ltU(i32.add(job, i * JOB_OCTETS), end);
    return block(
      // Lanes without a job cost as much as others: one or two packets are as fast one after the other.
      whileLoop(
        i32.gtU(end, i32.add(job, 2 * JOB_OCTETS)),
        ...lanes.map((lane, i) => set(lane, i32.select(i32.add(job, i * JOB_OCTETS), last, isThere(i)))),
        call(hmac4, ...lanes),
        ...lanes.map((lane, i) => when(isThere(i), each(lane, DIGESTS + 32 * i))),
        set(job, i32.add(job, LANES * JOB_OCTETS)),
      ),
      whileLoop(i32.ltU(job, end), call(hmac, job), each(job, DIGESTS), set(job, i32.add(job, JOB_OCTETS))),
    );
  };
  module.function("sealBatch", [I32, I32], [], (body, first, end) => {
    const job = body.hold(I32, first as Local);
    body.emit(
      whileLoop(i32.ltU(job, end as Local), crypt(job), set(job, i32.add(job, JOB_OCTETS))),
      inLanes(body, first as Local, end as Local, (lane, digest) => call(writeTag, lane, digest)),
    );
  });
  module.function("openBatch", [I32, I32], [], (body, first, end) => {
    body.emit(
      inLanes(body, first as Local, end as Local, (lane, digest) =>
        block(i32.store(lane, call(checkTag, lane, digest), JOB.authentic), when(i32.load(lane, JOB.authentic), crypt(lane))),
      ),
    );
  });
  addCounters(module);
  return { combine };
}

function emitCombine(body: FunctionBody, ...parameters: Local[]): void {
  const [to, keystream, length] = parameters as [Local, Local, Local];
  const vector = (at: number): Code => v128.store(to, v128.xor(v128.load(to, at), v128.load(keystream, at)), at);
  const advance = (by: number): Code =>
    block(set(to, i32.add(to, by)), set(keystream, i32.add(keystream, by)), set(length, i32.sub(length, by)));
  body.emit(
    whileLoop(i32.geU(length, 64), vector(0), vector(16), vector(32), vector(48), advance(64)),
    whileLoop(i32.geU(length, 16), vector(0), advance(16)),
    whileLoop(i32.geU(length, 4), i32.store(to, i32.xor(i32.load(to), i32.load(keystream))), advance(4)),
    whileLoop(length, i32.store8(to, i32.xor(i32.load8(to), i32.load8(keystream))), advance(1)),
  );
}

function emitWriteTag(body: FunctionBody, ...parameters: Local[]): void {
  const [job, digest] = parameters as [Local, Local];
  const to = body.hold(I32, i32.add(i32.load(job, JOB.packet), i32.load(job, JOB.tagAt)));
  const length = body.hold(I32, i32.load(job, JOB.tagLength));
  const words = (...offsets: number[]): Code => block(...offsets.map((at) => i32.store(to, i32.load(digest, at), at)));
  body.emit(
    ifElse(
      i32.eq(length, 10),
      block(words(0, 4), i32.store16(to, i32.load16(digest, 8), 8)),
      ifElse(
        i32.eq(length, 4),
        words(0),
        whileLoop(
          length,
          i32.store8(to, i32.load8(digest)),
          set(to, i32.add(to, 1)),
          set(digest, i32.add(digest, 1)),
          set(length, i32.sub(length, 1)),
        ),
      ),
    ),
  );
}

/** Every octet is compared, whatever the ones before it were. */
function emitCheckTag(body: FunctionBody, ...parameters: Local[]): void {
  const [job, digest] = parameters as [Local, Local];
  const at = body.hold(I32, i32.add(i32.load(job, JOB.packet), i32.load(job, JOB.tagAt)));
  const length = body.hold(I32, i32.load(job, JOB.tagLength));
  const difference = body.hold(I32, 0);
  const word = (offset: number): Code => i32.xor(i32.load(at, offset), i32.load(digest, offset));
  body.emit(
    ifElse(
      i32.eq(length, 10),
      set(difference, i32.or(i32.or(word(0), word(4)), i32.xor(i32.load16(at, 8), i32.load16(digest, 8)))),
      whileLoop(
        length,
        set(difference, i32.or(difference, i32.xor(i32.load8(at), i32.load8(digest)))),
        set(at, i32.add(at, 1)),
        set(digest, i32.add(digest, 1)),
        set(length, i32.sub(length, 1)),
      ),
    ),
  );
  body.result(i32.eqz(difference));
}

/**
 * Counter blocks of packets that follow each other: base XOR (SEQ in word `lane`), then counted up in the last word. With AES-CM the
 * SEQ stands above the block number in the last word (RFC 3711 §4.1.1), with AEAD at the end of the word before it (RFC 7714 §8.1).
 */
function addCounters(module: ModuleBuilder): void {
  const swapAt = module.constant(SWAP_WORDS);
  const oneAt = module.constant([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
  const build =
    (shift: number, lane: number) =>
    (body: FunctionBody, ...parameters: Local[]): void => {
      const [to, sequence, packets, blocks] = parameters as [Local, Local, Local, Local];
      const base = body.hold(V128, v128.load(COUNTER_BASE));
      const swap = body.hold(V128, v128.load(swapAt));
      const one = body.hold(V128, v128.load(oneAt));
      const counter = body.local(V128);
      const left = body.local(I32);
      body.emit(
        whileLoop(
          packets,
          set(counter, v128.xor(base, i32x4.replaceLane(i32x4.splat(0), lane, i32.shl(sequence, shift)))),
          set(left, blocks),
          whileLoop(
            left,
            v128.store(to, i8x16.swizzle(counter, swap)),
            set(counter, i32x4.add(counter, one)),
            set(to, i32.add(to, 16)),
            set(left, i32.sub(left, 1)),
          ),
          set(sequence, i32.add(sequence, 1)),
          set(packets, i32.sub(packets, 1)),
        ),
      );
    };
  module.function("layCounters", [I32, I32, I32, I32], [], build(16, 3));
  module.function("layAeadCounters", [I32, I32, I32, I32], [], build(0, 2));
}
