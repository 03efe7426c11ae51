import { wipe } from "../bytes/index.js";
import type { AesBlocks } from "../crypto/index.js";
import { rolloverOf, SEQUENCE_SPAN } from "./rollover.js";

/** Octets of keystream made in one call: large enough to hide the price of the call, small enough for the cache. */
const STRETCH_OCTETS = 0x8000;
/** Packets in the first stretch of a stream; each stretch that is used up is followed by one twice as long. */
const FIRST_STRETCH = 4;
/** Streams that keep keystream; the one that began first makes room. Bounds the memory of a cipher to 4 MiB. */
const MAX_STREAMS = 64;

/** Keystream of successive packets: `count` slots of `slot` octets, the first for packet index `base`. */
interface Stretch {
  base: number;
  count: number;
  slot: number;
  memory: Memory;
}

/** The same memory as octets and as words. Combining with XOR is blind to the order of octets in a word. */
interface Memory {
  readonly octets: Uint8Array;
  readonly words: Int32Array;
}

function allocate(length: number): Memory {
  const octets = new Uint8Array(length);
  return { octets, words: new Int32Array(octets.buffer) };
}

interface KeystreamOf {
  readonly ssrc: number;
  /** What sequence numbers run through now, and the stretch before it for packets out of order. */
  current: Stretch;
  previous: Stretch;
  /** Longest packets met while the current and the previous stretch were in use: what the next slots must hold. */
  longest: number;
  longestBefore: number;
}

const NONE = allocate(0);

function emptyStretch(): Stretch {
  return { base: 0, count: 0, slot: 0, memory: NONE };
}

/**
 * AES-CM keystream (RFC 3711 §4.1.1) under one session key and salt. Where calls to the block cipher are costly, the keystream of
 * the packets to come is made along with that of the packet asked for. Callers ask for received packets only after these are
 * authenticated, so that forged packets cost no keystream.
 */
export class Keystream {
  /** What the offset returned by `find` points into, until the next call; as words at a quarter of it. */
  octets: Uint8Array = NONE.octets;
  words: Int32Array = NONE.words;
  readonly #blocks: AesBlocks;
  readonly #salt: DataView;
  readonly #prefetch: boolean;
  readonly #streams = new Map<number, KeystreamOf>();
  #last: KeystreamOf | undefined;
  #counters = new Uint8Array(0);
  #view = new DataView(this.#counters.buffer);
  #single = NONE;
  /** SSRC and ROC that the counters hold in their first 12 octets, and how many octets hold them. */
  #laidSsrc = 0;
  #laidRollover = 0;
  #laidOctets = 0;

  /** @param salt session salt, 14 octets */
  constructor(blocks: AesBlocks, salt: Uint8Array, prefetch: boolean) {
    this.#blocks = blocks;
    const padded = new Uint8Array(16);
    padded.set(salt);
    this.#salt = new DataView(padded.buffer);
    this.#prefetch = prefetch;
  }

  /** @returns the offset in `octets` of the keystream of this packet, at least `length` octets */
  find(ssrc: number, index: number, length: number): number {
    if (!this.#prefetch) return this.#one(ssrc, index, length);
    let stream = this.#last;
    if (stream === undefined || stream.ssrc !== ssrc) {
      stream = this.#streams.get(ssrc) ?? this.#begin(ssrc, index);
      this.#last = stream;
    }
    if (length > stream.longest) stream.longest = length;
    const { current } = stream;
    const ahead = index - current.base;
    if (ahead >= 0 && ahead < current.count) return this.#slotOf(current, ssrc, index, length);
    if (ahead < 0) return this.#slotOf(stream.previous, ssrc, index, length);
    return this.#advance(stream, index, length);
  }

  wipe(): void {
    for (const stream of this.#streams.values()) wipe(stream.current.memory.octets, stream.previous.memory.octets);
    this.#streams.clear();
    this.#last = undefined;
    wipe(this.#single.octets, this.#counters, new Uint8Array(this.#salt.buffer));
    this.#laidOctets = 0;
    this.#blocks.wipe();
  }

  #slotOf(stretch: Stretch, ssrc: number, index: number, length: number): number {
    const ahead = index - stretch.base;
    if (ahead < 0 || ahead >= stretch.count || length > stretch.slot) return this.#one(ssrc, index, length);
    return this.#at(stretch.memory, ahead * stretch.slot);
  }

  #begin(ssrc: number, index: number): KeystreamOf {
    if (this.#streams.size >= MAX_STREAMS) {
      for (const oldest of this.#streams.values()) {
        wipe(oldest.current.memory.octets, oldest.previous.memory.octets);
        this.#streams.delete(oldest.ssrc);
        break;
      }
    }
    const stream = { ssrc, current: emptyStretch(), previous: emptyStretch(), longest: 0, longestBefore: 0 };
    stream.current.base = index;
    this.#streams.set(ssrc, stream);
    return stream;
  }

  /** Makes the stretch that begins with `index`, which lies behind the current one. */
  #advance(stream: KeystreamOf, index: number, length: number): number {
    const { current, previous } = stream;
    const slot = 16 * Math.ceil(Math.max(stream.longest, stream.longestBefore) / 16);
    stream.longestBefore = stream.longest;
    stream.longest = length;
    const skipped = index - current.base - current.count;
    const wanted = current.count > 0 && skipped < current.count ? 2 * current.count : FIRST_STRETCH;
    // A stretch has one ROC, so it ends where the sequence number turns over.
    const count = Math.min(wanted, Math.floor(STRETCH_OCTETS / slot), SEQUENCE_SPAN - (index & 0xffff));
    if (count < 2) return this.#one(stream.ssrc, index, length);
    const octets = count * slot;
    if (previous.memory.octets.length < octets) {
      wipe(previous.memory.octets);
      previous.memory = allocate(octets);
    }
    previous.base = index;
    previous.count = count;
    previous.slot = slot;
    stream.current = previous;
    stream.previous = current;
    this.#layOut(stream.ssrc, index, count, slot / 16);
    this.#blocks.encrypt(this.#counters.subarray(0, octets), previous.memory.octets.subarray(0, octets));
    return this.#at(previous.memory, 0);
  }

  /** Keystream for this packet alone. */
  #one(ssrc: number, index: number, length: number): number {
    const blocks = Math.ceil(length / 16);
    if (this.#single.octets.length < 16 * blocks) {
      wipe(this.#single.octets);
      this.#single = allocate(16 * blocks);
    }
    this.#layOut(ssrc, index, 1, blocks);
    this.#blocks.encrypt(this.#counters.subarray(0, 16 * blocks), this.#single.octets.subarray(0, 16 * blocks));
    return this.#at(this.#single, 0);
  }

  #at(memory: Memory, offset: number): number {
    this.octets = memory.octets;
    this.words = memory.words;
    return offset;
  }

  /**
   * Counter blocks of `count` packets of one ROC: (k_s * 2^16) XOR (SSRC * 2^64) XOR (i * 2^16) + block (RFC 3711 §4.1.1).
   * SEQ and the block number share the last word; the words before are the same for all and stay from call to call.
   */
  #layOut(ssrc: number, index: number, count: number, blocks: number): void {
    const octets = 16 * count * blocks;
    if (this.#counters.length < octets) {
      this.#counters = new Uint8Array(octets);
      this.#view = new DataView(this.#counters.buffer);
      this.#laidOctets = 0;
    }
    const view = this.#view;
    const salt = this.#salt;
    const rollover = rolloverOf(index);
    if (ssrc !== this.#laidSsrc || rollover !== this.#laidRollover) this.#laidOctets = 0;
    if (this.#laidOctets < octets) {
      const word0 = salt.getInt32(0);
      const word1 = salt.getInt32(4) ^ ssrc;
      const word2 = salt.getInt32(8) ^ rollover;
      for (let at = this.#laidOctets; at < octets; at += 16) {
        view.setInt32(at, word0);
        view.setInt32(at + 4, word1);
        view.setInt32(at + 8, word2);
      }
      this.#laidSsrc = ssrc;
      this.#laidRollover = rollover;
      this.#laidOctets = octets;
    }
    const word3 = salt.getInt32(12);
    let at = 12;
    for (let packet = 0; packet < count; packet++) {
      const first = word3 ^ ((index + packet) << 16);
      for (let block = 0; block < blocks; block++, at += 16) view.setInt32(at, first | block);
    }
  }
}
