/** Smallest window that RFC 3711 §3.3.2 allows. */
export const MIN_REPLAY_WINDOW = 64;
/** Beyond this distance an index cannot be told from one of another turn of the sequence number. */
export const MAX_REPLAY_WINDOW = 0x8000;

/**
 * Which of the last `size` packet indices were seen (RFC 3711 §3.3.2): a ring of bits behind the highest index. Looking and
 * marking are apart, because only authentic packets may mark.
 */
export class ReplayWindow {
  readonly #bits: Uint32Array;
  readonly #size: number;
  readonly #mask: number;
  #highest = -1;

  /** @param size a power of two from 64 to 2^15 */
  constructor(size: number) {
    this.#size = size;
    this.#mask = size - 1;
    this.#bits = new Uint32Array(size / 32);
  }

  /** The highest index marked, -1 before the first. */
  get highest(): number {
    return this.#highest;
  }

  /** Whether an index is new: ahead of the window, or within it and not marked. */
  isNew(index: number): boolean {
    const behind = this.#highest - index;
    if (behind < 0) return true;
    if (behind >= this.#size) return false;
    return !this.#marked(index);
  }

  /** Marks an index that `isNew`. */
  mark(index: number): void {
    const ahead = index - this.#highest;
    if (ahead > 0) {
      if (ahead >= this.#size) this.#bits.fill(0);
      else for (let passed = this.#highest + 1; passed < index; passed++) this.#clear(passed);
      this.#highest = index;
    }
    const bit = index & this.#mask;
    this.#bits[bit >> 5] = (this.#bits[bit >> 5] as number) | (1 << (bit & 31));
  }

  /** Forgets every index. */
  reset(): void {
    this.#bits.fill(0);
    this.#highest = -1;
  }

  #marked(index: number): boolean {
    const bit = index & this.#mask;
    return ((this.#bits[bit >> 5] as number) & (1 << (bit & 31))) !== 0;
  }

  #clear(index: number): void {
    const bit = index & this.#mask;
    this.#bits[bit >> 5] = (this.#bits[bit >> 5] as number) & ~(1 << (bit & 31));
  }
}
