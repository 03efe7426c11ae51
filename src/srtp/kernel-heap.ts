import { HEAP, HEAP_END } from "./kernel-layout.js";

/** Smallest and largest piece, as powers of two: 64 octets to 1 MiB. */
const LEAST = 6;
const MOST = 20;

/**
 * Gives out pieces of the kernel's memory: a buddy system. A piece has a power of two octets and begins at a multiple of its size;
 * pieces given back join with their other half, so that memory does not crumble however long sessions come and go.
 */
export class KernelHeap {
  readonly #free: readonly Set<number>[] = Array.from({ length: MOST + 1 }, () => new Set<number>());

  constructor() {
    for (let at = HEAP; at + 2 ** MOST <= HEAP_END; at += 2 ** MOST) this.#free[MOST]?.add(at);
  }

  /** @returns the address of at least `octets` octets, or 0 where there are none left */
  allocate(octets: number): number {
    const wanted = orderOf(octets);
    let order = wanted;
    while (order <= MOST && this.#free[order]?.size === 0) order++;
    if (order > MOST) return 0;
    const from = this.#free[order] as Set<number>;
    const at = from.values().next().value as number;
    from.delete(at);
    while (order > wanted) {
      order--;
      this.#free[order]?.add(at + 2 ** order);
    }
    return at;
  }

  /** Takes back what `allocate(octets)` gave; the caller has wiped it. */
  release(at: number, octets: number): void {
    let piece = at;
    let order = orderOf(octets);
    for (; order < MOST; order++) {
      const other = piece ^ (2 ** order);
      if (this.#free[order]?.delete(other) !== true) break;
      piece = Math.min(piece, other);
    }
    this.#free[order]?.add(piece);
  }
}

/** The power of two that holds so many octets. */
function orderOf(octets: number): number {
  return Math.max(LEAST, 32 - Math.clz32(octets - 1));
}
