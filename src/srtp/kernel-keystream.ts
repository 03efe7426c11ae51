import type { Kernel } from "./kernel.js";
import { COUNTER_BASE, COUNTERS, SINGLE_KEYSTREAM } from "./kernel-layout.js";
import { emptyStretch, type Stretch } from "./keystream-pool.js";
import { rolloverOf, SEQUENCE_SPAN } from "./rollover.js";

/** Packets in the first stretch of a stream; each stretch that is used up is followed by one twice as long. */
const FIRST_STRETCH = 4;
/** Streams of one key that keep keystream; the one that began first makes room. */
const MAX_STREAMS = 4096;

/** A block cipher over the kernel's memory: AES under one key. */
export interface KernelBlocks {
  /** Encrypts `octets` octets of counter blocks at `from` to `to`. */
  encrypt(from: number, to: number, octets: number): void;
  wipe(): void;
}

interface Stream {
  readonly ssrc: number;
  /** What sequence numbers run through now, and the stretch before it for packets out of order. */
  current: Stretch;
  previous: Stretch;
  /** Longest packets met while the current and the previous stretch were in use: what the next slots must hold. */
  longest: number;
  longestBefore: number;
}

/**
 * Keystream of AES-CM (RFC 3711 §4.1.1) or AES-GCM (RFC 7714 §8.1, §9.1) under one session key and salt in the kernel's memory, made
 * for many packets at a time. With AEAD the block that masks the tag comes first. Callers have received packets authenticated before
 * they call `make`, so that forged packets cost no keystream.
 */
export class KernelKeystream {
  readonly #kernel: Kernel;
  readonly #blocks: KernelBlocks;
  readonly #salt: DataView;
  readonly #isAead: boolean;
  readonly #prefetch: boolean;
  readonly #streams = new Map<number, Stream>();
  #last: Stream | undefined;

  constructor(kernel: Kernel, blocks: KernelBlocks, salt: Uint8Array, isAead: boolean, prefetch: boolean) {
    this.#kernel = kernel;
    this.#blocks = blocks;
    const padded = new Uint8Array(16);
    padded.set(salt);
    this.#salt = new DataView(padded.buffer);
    this.#isAead = isAead;
    this.#prefetch = prefetch;
  }

  /**
   * @param isAuthentic whether the packet may be remembered for its length: that of the next stretch depends on it
   * @returns the address of the keystream of this packet, at least `length` octets, or 0 where it has not been made
   */
  find(ssrc: number, index: number, length: number, isAuthentic: boolean): number {
    const last = this.#last;
    const stream = last !== undefined && last.ssrc === ssrc ? last : this.#stream(ssrc);
    if (stream === undefined) return 0;
    if (isAuthentic && length > stream.longest) stream.longest = length;
    const { current } = stream;
    const ahead = index - current.base;
    if (ahead >= 0) return ahead < current.count && length <= current.slot ? current.at + ahead * current.slot : 0;
    const { previous } = stream;
    const behind = index - previous.base;
    return behind >= 0 && behind < previous.count && length <= previous.slot ? previous.at + behind * previous.slot : 0;
  }

  /** Remembers that a packet of an authentic stream needed so many octets. */
  note(ssrc: number, length: number): void {
    const stream = this.#stream(ssrc);
    if (stream !== undefined && length > stream.longest) stream.longest = length;
  }

  /** Makes the keystream of a packet that `find` has not found. It is there until the next call. @returns its address */
  make(ssrc: number, index: number, length: number): number {
    if (!this.#prefetch) return this.#single(ssrc, index, length);
    const stream = this.#stream(ssrc) ?? this.#begin(ssrc, index);
    if (length > stream.longest) stream.longest = length;
    // What is late, or longer than its slot, does not move the stretches.
    if (index < stream.current.base + stream.current.count) return this.#single(ssrc, index, length);
    return this.#advance(stream, index, length);
  }

  /** The block that masks the tag of a packet with AEAD, at `to`: for a packet that is not yet authenticated. */
  mask(ssrc: number, index: number, to: number): void {
    this.#fill(to, ssrc, index, 1, 1);
  }

  wipe(): void {
    const pool = this.#kernel.keystreams;
    for (const { current, previous } of this.#streams.values()) {
      pool.release(current);
      pool.release(previous);
    }
    pool.streams -= this.#streams.size;
    this.#streams.clear();
    this.#last = undefined;
    new Uint8Array(this.#salt.buffer).fill(0);
    this.#blocks.wipe();
  }

  #stream(ssrc: number): Stream | undefined {
    const last = this.#last;
    if (last !== undefined && last.ssrc === ssrc) return last;
    const stream = this.#streams.get(ssrc);
    if (stream !== undefined) this.#last = stream;
    return stream;
  }

  #begin(ssrc: number, index: number): Stream {
    const pool = this.#kernel.keystreams;
    if (this.#streams.size >= MAX_STREAMS) {
      const oldest = this.#streams.values().next().value as Stream;
      pool.release(oldest.current);
      pool.release(oldest.previous);
      this.#streams.delete(oldest.ssrc);
      pool.streams--;
    }
    const stream = { ssrc, current: emptyStretch(), previous: emptyStretch(), longest: 0, longestBefore: 0 };
    stream.current.base = index;
    this.#streams.set(ssrc, stream);
    pool.streams++;
    this.#last = stream;
    return stream;
  }

  /** Makes the stretch that begins with `index`, which lies behind the current one. */
  #advance(stream: Stream, index: number, length: number): number {
    const { current, previous } = stream;
    const pool = this.#kernel.keystreams;
    const slot = (Math.max(stream.longest, stream.longestBefore) + 15) & ~15;
    stream.longestBefore = stream.longest;
    stream.longest = length;
    const { most } = pool;
    const skipped = index - current.base - current.count;
    const wanted = current.count > 0 && skipped < current.count ? 2 * current.count : FIRST_STRETCH;
    // Memory comes in powers of two: what there is, is filled. A stretch has one ROC, so it ends where the sequence number turns over.
    const octets = Math.min(most, 2 ** Math.ceil(Math.log2(wanted * slot)));
    const count = Math.min(Math.floor(octets / slot), SEQUENCE_SPAN - (index & 0xffff));
    if (count < 2 || !pool.reserve(previous, count * slot)) return this.#single(stream.ssrc, index, length);
    previous.base = index;
    previous.count = count;
    previous.slot = slot;
    stream.current = previous;
    stream.previous = current;
    this.#fill(previous.at, stream.ssrc, index, count, slot >> 4);
    return previous.at;
  }

  /** Keystream for this packet alone. */
  #single(ssrc: number, index: number, length: number): number {
    this.#fill(SINGLE_KEYSTREAM, ssrc, index, 1, (length + 15) >> 4);
    return SINGLE_KEYSTREAM;
  }

  /**
   * Counter blocks of AES-CM are (k_s * 2^16) XOR (SSRC * 2^64) XOR (i * 2^16) + block; those of AES-GCM are salt XOR
   * (0000 ‖ SSRC ‖ ROC ‖ SEQ), then 1 and up. SEQ comes in where they are laid out.
   */
  #fill(to: number, ssrc: number, index: number, count: number, blocks: number): void {
    const { words, exports } = this.#kernel;
    const salt = this.#salt;
    const base = COUNTER_BASE >> 2;
    const rollover = rolloverOf(index);
    if (this.#isAead) {
      words[base] = salt.getInt32(0) ^ (ssrc >>> 16);
      words[base + 1] = salt.getInt32(4) ^ (ssrc << 16) ^ (rollover >>> 16);
      words[base + 2] = salt.getInt32(8) ^ (rollover << 16);
      words[base + 3] = 1;
      exports.layAeadCounters(COUNTERS, index & 0xffff, count, blocks);
    } else {
      words[base] = salt.getInt32(0);
      words[base + 1] = salt.getInt32(4) ^ ssrc;
      words[base + 2] = salt.getInt32(8) ^ rollover;
      words[base + 3] = salt.getInt32(12);
      exports.layCounters(COUNTERS, index & 0xffff, count, blocks);
    }
    const octets = 16 * count * blocks;
    this.#kernel.counterOctets = Math.max(this.#kernel.counterOctets, octets);
    this.#blocks.encrypt(COUNTERS, to, octets);
  }
}
