import { depthOf, internalNodes, leftmostLeaf, originOf, parentOf } from "./heap.js";
import { forEachStaying, isPending, type Seating, type TreeState } from "./tree-state.js";

/** Somebody is below the node. */
export const ALIVE = 1;
/** Somebody below it has to be told keys by the rekey itself. */
export const AUDIENCE = 2;
/** An admitted member, who knows its leaf key only, is below it. */
export const ADMITTED = 4;
/** Somebody below it leaves. */
export const DEPARTURE = 8;
/** Its key is replaced by a function of itself. */
export const REFRESHED = 16;
/** The secret of the node above follows from its own. */
export const CHAINED = 32;

/** What happens at a leaf, and what follows from it for the nodes above; the index stands in the low bits of a touched leaf. */
const EVENT_FLAGS = [
  /* left */ DEPARTURE,
  /* joined */ ALIVE,
  /* left by one and joined by another */ ALIVE | DEPARTURE,
  /* admitted before, included now */ ALIVE | AUDIENCE | ADMITTED,
  /* stays, and every key is replaced */ ALIVE | AUDIENCE,
] as const;
const [LEFT, JOINED, REJOINED, INCLUDED, STAYS] = [0, 1, 2, 3, 4] as const;
const EVENT_BITS = 3;

/** The nodes whose keys a change replaces, and the leaves that are the reason. Both descend: children stand before parents, the root is last. */
export interface TouchedNodes {
  /** Ids of nodes above leaves. */
  readonly ids: Uint32Array;
  /** Leaves: id and event in one number. */
  readonly leaves: Uint32Array;
  /** The touched children of a node are those of `ids` from its `childStart` to the next node's. */
  readonly childStart: Uint32Array;
  /** The same in `leaves`. */
  readonly leafStart: Uint32Array;
}

export function leafId(touchedLeaf: number): number {
  return touchedLeaf >>> EVENT_BITS;
}

export function leafFlags(touchedLeaf: number): number {
  return EVENT_FLAGS[touchedLeaf & ((1 << EVENT_BITS) - 1)] as number;
}

/** The leaves at which a change happens, under their ids after it. @param replace every leaf is touched */
export function touchedLeaves(state: TreeState, seating: Seating, replace: boolean): Uint32Array {
  const { left, leftSorted, seats, reused, nodes } = seating;
  const freed = left.length - reused;
  const touched = new Uint32Array(freed + seats.length + (replace ? state.members - left.length : state.pending.length));
  let count = 0;
  // Where leaves stay free the tree has not grown.
  for (let i = reused; i < left.length; i++) touched[count++] = touchedLeaf(left[i] as number, LEFT);
  for (let i = 0; i < seats.length; i++) touched[count++] = touchedLeaf(seats[i] as number, i < reused ? REJOINED : JOINED);
  if (replace) {
    forEachStaying(state, leftSorted, state.nodes, (leaf) => {
      touched[count++] = touchedLeaf(leftmostLeaf(state.arity, nodes, leaf), isPending(state, leaf) ? INCLUDED : STAYS);
    });
  } else {
    for (const leaf of stillPending(state, leftSorted)) {
      touched[count++] = touchedLeaf(leftmostLeaf(state.arity, nodes, leaf), INCLUDED);
    }
  }
  return count > 1 ? touched.subarray(0, count).sort().reverse() : touched.subarray(0, count);
}

function touchedLeaf(leaf: number, event: number): number {
  return (leaf << EVENT_BITS) | event;
}

/** Admitted members that wait for a rekey and do not leave in this one. */
export function stillPending(state: TreeState, leftSorted: Uint32Array): Uint32Array {
  return leftSorted.length === 0 || state.pending.length === 0
    ? state.pending
    : state.pending.filter((leaf) => !includes(leftSorted, leaf));
}

function includes(sorted: Uint32Array, value: number): boolean {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return sorted[low] === value;
}

/** Everything above the touched leaves. In descending order parents come in descending order too, so that one pass without a search finds them. */
export function touchedNodes(arity: number, nodes: number, leaves: Uint32Array): TouchedNodes {
  const most = Math.max(1, Math.min(internalNodes(arity, nodes), leaves.length * depthOf(arity, nodes)));
  const memory = new Uint32Array(3 * most + 2);
  const ids = memory.subarray(0, most);
  const childStart = memory.subarray(most, 2 * most + 1);
  const leafStart = memory.subarray(2 * most + 1);
  let [count, child, leaf] = [0, 0, 0];
  for (;;) {
    const nextChild = child < count ? (ids[child] as number) : 0;
    const nextLeaf = leaf < leaves.length ? leafId(leaves[leaf] as number) : 0;
    const next = Math.max(nextChild, nextLeaf);
    // Every other node has been passed when the root is all that is left.
    const parent = next === 0 ? 0 : parentOf(arity, next);
    if (count === 0 || ids[count - 1] !== parent) {
      ids[count] = parent;
      childStart[count] = child;
      leafStart[count] = leaf;
      count++;
    }
    if (next === 0) break;
    if (next === nextChild) child++;
    else leaf++;
  }
  childStart[count] = count - 1;
  leafStart[count] = leaves.length;
  return { ids: trimmed(ids, count), leaves, childStart: trimmed(childStart, count + 1), leafStart: trimmed(leafStart, count + 1) };
}

/** The first ones, in memory of their own where most of it would be kept for nothing. */
function trimmed(numbers: Uint32Array, count: number): Uint32Array {
  return numbers.length > 1024 && 2 * count < numbers.length ? numbers.slice(0, count) : numbers.subarray(0, count);
}

/** The id before the change of a node that the change does not touch; only members' leaves move. */
export function untouchedOrigin(state: TreeState, id: number): number {
  return id < state.nodes ? id : originOf(state.arity, state.nodes, id);
}
