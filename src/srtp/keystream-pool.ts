import type { KernelHeap } from "./kernel-heap.js";

/** Most octets of keystream in the kernel's memory, all sessions together. */
const BUDGET = 0x200_0000;
/** Octets of keystream made in one call: large enough to hide the price of the call, small enough for the cache. */
const LARGEST = 0x8000;
const LEAST = 0x200;

/** Keystream of successive packets: `count` slots of `slot` octets from address `at`, the first for packet index `base`. */
export interface Stretch {
  base: number;
  count: number;
  slot: number;
  at: number;
  /** Octets of memory behind it, 0 for none. */
  octets: number;
}

export function emptyStretch(): Stretch {
  return { base: 0, count: 0, slot: 0, at: 0, octets: 0 };
}

/**
 * The memory for keystream, shared by all sessions of a kernel. Where it comes to an end, the stretch that was made longest ago is
 * wiped; and where there are more streams than it can serve, each gets less, down to none.
 */
export class KeystreamPool {
  /** Streams that want keystream made ahead. */
  streams = 0;
  readonly #heap: KernelHeap;
  readonly #octets: Uint8Array;
  /** In the order in which they were made. */
  readonly #stretches = new Set<Stretch>();
  #used = 0;

  constructor(heap: KernelHeap, octets: Uint8Array) {
    this.#heap = heap;
    this.#octets = octets;
  }

  /** Most octets that a stretch may have now: a stream has two. */
  get most(): number {
    const share = BUDGET / (2 * Math.max(1, this.streams));
    return share >= LARGEST ? LARGEST : 2 ** Math.floor(Math.log2(share));
  }

  /** Gives a stretch memory of at least `octets` octets and makes it the youngest. @returns false where there is none */
  reserve(stretch: Stretch, octets: number): boolean {
    if (stretch.octets < octets) {
      this.release(stretch);
      const size = Math.max(LEAST, 2 ** Math.ceil(Math.log2(octets)));
      for (;;) {
        stretch.at = this.#used + size <= BUDGET ? this.#heap.allocate(size) : 0;
        if (stretch.at !== 0) break;
        const oldest = this.#stretches.values().next().value;
        if (oldest === undefined) return false;
        this.release(oldest);
      }
      stretch.octets = size;
      this.#used += size;
    } else {
      this.#stretches.delete(stretch);
    }
    this.#stretches.add(stretch);
    return true;
  }

  /** Wipes a stretch and takes its memory back. */
  release(stretch: Stretch): void {
    stretch.count = 0;
    if (stretch.octets === 0) return;
    this.#octets.fill(0, stretch.at, stretch.at + stretch.octets);
    this.#heap.release(stretch.at, stretch.octets);
    this.#used -= stretch.octets;
    this.#stretches.delete(stretch);
    stretch.at = 0;
    stretch.octets = 0;
  }
}
