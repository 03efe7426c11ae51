import { wipe } from "../bytes/index.js";
import { CHILD_ID_OCTETS } from "./contracts.js";
import { copyOctets, writeId } from "./derivation.js";
import { ADMITTED, AUDIENCE, CHAINED, leafFlags, leafId, REFRESHED, type TouchedNodes, untouchedOrigin } from "./touched-nodes.js";
import type { TreeState } from "./tree-state.js";

/** The new keys of a change. */
export interface ComputedRekey {
  readonly touched: TouchedNodes;
  /** Ids after the change. */
  readonly nodes: number;
  /** What was found out about each of `touched.ids`. */
  readonly flags: Uint8Array;
  /** Their new keys. */
  readonly keys: Uint8Array;
  /** What their children are sent: in a chain the secret from which the key follows, otherwise the key. */
  readonly payloads: Uint8Array;
  /** The keys of those who join, in the order of joining. */
  readonly leafKeys: Uint8Array;
  readonly wraps: number;
  readonly refreshes: number;
}

/** A touched node on the way from the root to where a walk is. */
interface Step {
  /** Index in `touched.ids`. */
  readonly index: number;
  /** Children that were not visited yet: ids from `next` to `end`; touched ones by index, which descends while ids ascend. */
  next: number;
  readonly end: number;
  child: number;
  leaf: number;
}

/**
 * A walk through the children of touched nodes, from left to right. It passes over those below which nobody has to be told anything, and goes
 * down into those that are touched nodes themselves.
 */
export class RekeyWalk {
  readonly #state: TreeState;
  readonly #computed: ComputedRekey;
  /** The touched nodes above where the walk is, from the root. */
  readonly #way: Step[] = [];
  /** The node where the walk is. */
  id = 0;
  /** Its index in `touched.ids`; -1 for a leaf or an untouched node. */
  index: number;
  /** Whether it is sent its parent's key or secret. */
  isSent = false;
  /** How many nodes are above it. */
  depth = 0;
  /** The index of its parent in `touched.ids`. */
  parent = -1;

  constructor(state: TreeState, computed: ComputedRekey) {
    this.#state = state;
    this.#computed = computed;
    const root = computed.touched.ids.length - 1;
    this.index = ((computed.flags[root] as number) & AUDIENCE) === 0 ? -1 : root;
  }

  /** Goes on, from the root at first. @returns false at the end */
  next(): boolean {
    const { versions } = this.#state;
    const { touched, flags } = this.#computed;
    const { ids, leaves, childStart, leafStart } = touched;
    const way = this.#way;
    if (this.index >= 0) way.push(this.#enter(this.index));
    for (let step = way.at(-1); step !== undefined; step = way.at(-1)) {
      if (step.next > step.end) {
        way.pop();
        continue;
      }
      const id = step.next++;
      let index = -1;
      let below = 0;
      if (step.child >= (childStart[step.index] as number) && ids[step.child] === id) {
        index = step.child--;
        below = flags[index] as number;
      } else if (step.leaf >= (leafStart[step.index] as number) && leafId(leaves[step.leaf] as number) === id) {
        below = leafFlags(leaves[step.leaf--] as number);
      } else if (versions[untouchedOrigin(this.#state, id)] !== 0) {
        below = AUDIENCE;
      }
      if ((below & AUDIENCE) === 0) continue;
      this.id = id;
      this.index = index;
      this.depth = way.length;
      this.parent = step.index;
      // A key that is a function of itself is sent to those only who cannot have its predecessor.
      this.isSent = ((flags[step.index] as number) & REFRESHED) !== 0 ? (below & ADMITTED) !== 0 : (below & CHAINED) === 0;
      return true;
    }
    this.index = -1;
    return false;
  }

  #enter(index: number): Step {
    const { arity } = this.#state;
    const { touched, nodes } = this.#computed;
    const id = touched.ids[index] as number;
    return {
      index,
      next: arity * id + 1,
      end: Math.min(arity * id + arity, nodes - 1),
      child: (touched.childStart[index + 1] as number) - 1,
      leaf: (touched.leafStart[index + 1] as number) - 1,
    };
  }
}

/** Edges that are made at a time. */
const BATCH = 256;

/**
 * The edges of a rekey in the order of a walk. They are made some ahead of where they are needed, since many keys are wrapped at once faster than
 * one by one, and not all at the beginning, since there may be a million.
 */
export class EdgeSource {
  readonly #state: TreeState;
  readonly #computed: ComputedRekey;
  readonly #walk: RekeyWalk;
  readonly #batch: number;
  /** Children, as far as edges are made. */
  readonly #ids: number[] = [];
  readonly #keys: Uint8Array;
  readonly #payloads: Uint8Array;
  readonly #wrapped: Uint8Array;
  #made = 0;
  #taken = 0;

  constructor(state: TreeState, computed: ComputedRekey) {
    const { keyLength } = state;
    const batch = Math.min(BATCH, computed.wraps);
    this.#state = state;
    this.#computed = computed;
    this.#walk = new RekeyWalk(state, computed);
    this.#batch = batch;
    const octets = batch * keyLength;
    const memory = new Uint8Array(2 * octets + batch * (keyLength + 8));
    this.#keys = memory.subarray(0, octets);
    this.#payloads = memory.subarray(octets, 2 * octets);
    this.#wrapped = memory.subarray(2 * octets);
  }

  /** Writes the next edge. */
  take(into: Uint8Array, at: number): void {
    if (this.#taken === this.#made) this.#make();
    const id = this.#ids[this.#taken] as number;
    const wrappedLength = this.#state.keyLength + 8;
    writeId(id, into, at);
    copyOctets(this.#wrapped, this.#taken * wrappedLength, into, at + CHILD_ID_OCTETS, wrappedLength);
    this.#taken++;
  }

  #make(): void {
    const { crypto, keyLength, keys } = this.#state;
    const { keys: newKeys, payloads } = this.#computed;
    const walk = this.#walk;
    let count = 0;
    while (count < this.#batch && walk.next()) {
      if (!walk.isSent) continue;
      this.#ids[count] = walk.id;
      // The new key of a touched node, otherwise the key that is there.
      const [memory, index] = walk.index >= 0 ? [newKeys, walk.index] : [keys, untouchedOrigin(this.#state, walk.id)];
      copyOctets(memory, index * keyLength, this.#keys, count * keyLength, keyLength);
      copyOctets(payloads, walk.parent * keyLength, this.#payloads, count * keyLength, keyLength);
      count++;
    }
    crypto.aesKeyWrapPadMany(
      this.#keys.subarray(0, count * keyLength),
      this.#payloads.subarray(0, count * keyLength),
      keyLength,
      this.#wrapped,
    );
    wipe(this.#keys, this.#payloads);
    this.#made = count;
    this.#taken = 0;
  }
}
