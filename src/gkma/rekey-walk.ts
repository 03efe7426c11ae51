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
  index: number;
  /** Children that were not visited yet: ids from `next` to `end`; touched ones by index, which descends while ids ascend. */
  next: number;
  end: number;
  child: number;
  leaf: number;
}

/**
 * A walk through the children of touched nodes, from left to right. It passes over those below which nobody has to be told anything, and goes
 * down into those that are touched nodes themselves.
 */
class RekeyWalk {
  readonly #state: TreeState;
  readonly #computed: ComputedRekey;
  /** The touched nodes above where the walk is, from the root: the first `depth` of these. */
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
    if (this.index >= 0) this.#enter(this.index);
    while (this.depth > 0) {
      const step = this.#way[this.depth - 1] as Step;
      if (step.next > step.end) {
        this.depth--;
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
      this.parent = step.index;
      // A key that is a function of itself is sent to those only who cannot have its predecessor.
      this.isSent = ((flags[step.index] as number) & REFRESHED) !== 0 ? (below & ADMITTED) !== 0 : (below & CHAINED) === 0;
      return true;
    }
    this.index = -1;
    return false;
  }

  #enter(index: number): void {
    const { arity } = this.#state;
    const { touched, nodes } = this.#computed;
    const id = touched.ids[index] as number;
    // The steps of the way are used again: a long rekey enters a million nodes.
    this.#way[this.depth] ??= { index: 0, next: 0, end: 0, child: 0, leaf: 0 };
    const step = this.#way[this.depth++] as Step;
    step.index = index;
    step.next = arity * id + 1;
    step.end = Math.min(arity * id + arity, nodes - 1);
    step.child = (touched.childStart[index + 1] as number) - 1;
    step.leaf = (touched.leafStart[index + 1] as number) - 1;
  }
}

/** Places whose edges are made at a time. */
const BATCH = 512;

/**
 * The places of a walk one after the other, with their edges. They are visited some ahead of where they are needed, since many keys are wrapped at
 * once faster than one by one, and not all at the beginning, since there may be a million.
 */
export class RekeyPlaces {
  readonly #state: TreeState;
  readonly #computed: ComputedRekey;
  readonly #walk: RekeyWalk;
  readonly #batch: number;
  /** Of each place that was visited ahead: its id, its index, its depth, and whether it is sent something. */
  readonly #places: Int32Array;
  readonly #keys: Uint8Array;
  readonly #payloads: Uint8Array;
  readonly #wrapped: Uint8Array;
  #made = 0;
  #taken = 0;
  /** Wrapped keys among those that were made, up to this place. */
  #edges = 0;
  /** As of the walk. */
  id = 0;
  index = -1;
  isSent = false;
  depth = 0;

  constructor(state: TreeState, computed: ComputedRekey) {
    const { keyLength, arity } = state;
    const batch = Math.min(BATCH, arity * computed.touched.ids.length);
    const wraps = Math.min(batch, computed.wraps);
    this.#state = state;
    this.#computed = computed;
    this.#walk = new RekeyWalk(state, computed);
    this.#batch = batch;
    this.#places = new Int32Array(PLACE * batch);
    const octets = wraps * keyLength;
    const memory = new Uint8Array(2 * octets + wraps * (keyLength + 8));
    this.#keys = memory.subarray(0, octets);
    this.#payloads = memory.subarray(octets, 2 * octets);
    this.#wrapped = memory.subarray(2 * octets);
  }

  /** Goes on to the next place. @returns false at the end */
  next(): boolean {
    if (this.#taken === this.#made && !this.#make()) return false;
    const at = PLACE * this.#taken++;
    const places = this.#places;
    this.id = places[at] as number;
    this.index = places[at + 1] as number;
    this.depth = places[at + 2] as number;
    this.isSent = places[at + 3] === 1;
    if (this.isSent) this.#edges++;
    return true;
  }

  /** Writes the edge of this place, to which something is sent. */
  writeEdge(into: Uint8Array, at: number): void {
    const wrappedLength = this.#state.keyLength + 8;
    writeId(this.id, into, at);
    copyOctets(this.#wrapped, (this.#edges - 1) * wrappedLength, into, at + CHILD_ID_OCTETS, wrappedLength);
  }

  #make(): boolean {
    const { crypto, keyLength, keys } = this.#state;
    const { keys: newKeys, payloads } = this.#computed;
    const walk = this.#walk;
    const places = this.#places;
    let [count, sent] = [0, 0];
    while (count < this.#batch && walk.next()) {
      const at = PLACE * count++;
      places[at] = walk.id;
      places[at + 1] = walk.index;
      places[at + 2] = walk.depth;
      places[at + 3] = walk.isSent ? 1 : 0;
      if (!walk.isSent) continue;
      // The new key of a touched node, otherwise the key that is there.
      if (walk.index >= 0) copyOctets(newKeys, walk.index * keyLength, this.#keys, sent * keyLength, keyLength);
      else copyOctets(keys, untouchedOrigin(this.#state, walk.id) * keyLength, this.#keys, sent * keyLength, keyLength);
      copyOctets(payloads, walk.parent * keyLength, this.#payloads, sent * keyLength, keyLength);
      sent++;
    }
    if (sent > 0) {
      const octets = sent * keyLength;
      crypto.aesKeyWrapPadMany(this.#keys.subarray(0, octets), this.#payloads.subarray(0, octets), keyLength, this.#wrapped);
      wipe(this.#keys, this.#payloads);
    }
    this.#made = count;
    this.#taken = 0;
    this.#edges = 0;
    return count > 0;
  }
}

/** Numbers that are kept of a place. */
const PLACE = 4;
