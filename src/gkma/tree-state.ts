import { WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import type { KeyTreeShape } from "./contracts.js";
import type { Derivation } from "./derivation.js";
import { internalNodes, leftmostLeaf, MAX_NODES, nodesForLeaves, originOf } from "./heap.js";

/** Octets of a seed. */
export const SEED_OCTETS = 32;

/** A tree between two changes: integers and octets in a few arrays, nothing per node. */
export interface TreeState extends KeyTreeShape {
  readonly crypto: CryptoProvider;
  readonly derivation: Derivation;
  /** Children of a node; `FLAT` for the degree 0. */
  readonly arity: number;
  /** Ids in use: `largestId` + 1. */
  nodes: number;
  /** Of the last rekey. */
  version: number;
  /** Counts steps, so that one that was prepared before another was taken is found out. */
  revision: number;
  members: number;
  /** The key of every node, by id. Of a one-way function chain these are the wrapping keys; its secrets live no longer than a rekey is prepared. */
  keys: Uint8Array;
  /**
   * The version in which a node got its key, by id. 0: it has none, since nobody is below it, or since the leaf is free. Greater than the tree's
   * version: the leaf of an admitted member that no rekey has included yet.
   */
  versions: Uint32Array;
  /** Leaves that nobody has, the next to be given away last. */
  free: Uint32Array;
  freeCount: number;
  /** Leaves of admitted members that no rekey has included yet. */
  pending: Uint32Array;
}

/** Growth of memory, beyond what is needed. */
const SLACK = 1.25;

/** Makes room for so many ids. Keys that move are wiped where they were. */
export function reserve(state: TreeState, nodes: number, slack = SLACK): void {
  if (nodes <= state.versions.length) return;
  const capacity = state.versions.length === 0 ? nodes : Math.max(nodes, Math.ceil(state.versions.length * slack));
  const keys = new Uint8Array(capacity * state.keyLength);
  keys.set(state.keys);
  wipe(state.keys);
  state.keys = keys;
  const versions = new Uint32Array(capacity);
  versions.set(state.versions);
  state.versions = versions;
}

/** The memory of a node's key. */
export function keyOf(state: TreeState, id: number): Uint8Array {
  return state.keys.subarray(id * state.keyLength, (id + 1) * state.keyLength);
}

export function isOccupied(state: TreeState, leaf: number): boolean {
  return (
    Number.isInteger(leaf) &&
    leaf >= internalNodes(state.arity, state.nodes) &&
    leaf < state.nodes &&
    (state.versions[leaf] as number) !== 0
  );
}

export function isPending(state: TreeState, leaf: number): boolean {
  return (state.versions[leaf] as number) > state.version;
}

/** Which leaves newcomers get, and what that does to others. */
export interface Seating {
  /** Leaves that become free, in the order in which they are given away again. */
  readonly left: Uint32Array;
  /** The same in ascending order. */
  readonly leftSorted: Uint32Array;
  /** The newcomers' leaves: first those that become free, then free ones, then new ones. */
  readonly seats: Uint32Array;
  /** How many of them have become free in this step. */
  readonly reused: number;
  /** How many of them were free before. */
  readonly taken: number;
  /** Ids after the step. */
  readonly nodes: number;
  /** Pairs of old and new id. */
  readonly moved: Uint32Array;
}

/** @throws WatchwordError `gkma.leaf`, `gkma.change`, `gkma.full` */
export function seat(state: TreeState, leave: ArrayLike<number>, count: number): Seating {
  const { arity } = state;
  for (let i = 0; i < leave.length; i++) {
    if (!isOccupied(state, leave[i] as number)) throw new WatchwordError("gkma.leaf", `nobody has leaf ${leave[i]}`);
  }
  const left = new Uint32Array(leave);
  const leftSorted = left.length > 1 ? left.slice().sort() : left;
  for (let i = 1; i < leftSorted.length; i++) {
    if (leftSorted[i] === leftSorted[i - 1]) throw new WatchwordError("gkma.leaf", `leaf ${leftSorted[i]} is to be left twice`);
  }
  if (!Number.isInteger(count) || count < 0) throw new WatchwordError("gkma.change", `${count} members cannot join`);
  const reused = Math.min(count, left.length);
  const taken = Math.min(count - reused, state.freeCount);
  const added = count - reused - taken;
  const leaves = state.nodes - internalNodes(arity, state.nodes);
  const nodes = added === 0 ? state.nodes : nodesForLeaves(arity, leaves + added);
  if (!(nodes <= MAX_NODES)) throw new WatchwordError("gkma.full", `a tree of ${nodes} nodes is too large`);

  const seats = new Uint32Array(count);
  let at = 0;
  for (; at < reused; at++) seats[at] = leftmostLeaf(arity, nodes, left[at] as number);
  for (let i = 1; i <= taken; i++) seats[at++] = leftmostLeaf(arity, nodes, state.free[state.freeCount - i] as number);
  for (let id = Math.max(state.nodes, internalNodes(arity, nodes)); at < count; id++) {
    if (originOf(arity, state.nodes, id) < 0) seats[at++] = id;
  }
  return { left, leftSorted, seats, reused, taken, nodes, moved: movedMembers(state, nodes, leftSorted) };
}

/** Calls back for every member that stays, in ascending order of leaves. @param end leaves below this only */
export function forEachStaying(state: TreeState, leftSorted: Uint32Array, end: number, found: (leaf: number) => void): void {
  let next = 0;
  for (let leaf = internalNodes(state.arity, state.nodes); leaf < end; leaf++) {
    if (leftSorted[next] === leaf) next++;
    else if (state.versions[leaf] !== 0) found(leaf);
  }
}

const NOBODY = new Uint32Array(0);

/** Leaves that have children when the tree has grown (`TreeExtent`). */
function movedMembers(state: TreeState, nodes: number, leftSorted: Uint32Array): Uint32Array {
  if (nodes === state.nodes) return NOBODY;
  const moved: number[] = [];
  forEachStaying(state, leftSorted, Math.min(state.nodes, internalNodes(state.arity, nodes)), (leaf) => {
    moved.push(leaf, leftmostLeaf(state.arity, nodes, leaf));
  });
  return Uint32Array.from(moved);
}

/** Does to the tree what a seating says; the newcomers' leaves are without keys after it. */
export function takeSeats(state: TreeState, { left, seats, reused, taken, nodes, moved }: Seating): void {
  const { keyLength } = state;
  reserve(state, nodes);
  for (const leaf of left) forget(state, leaf);
  for (let i = 0; i < moved.length; i += 2) {
    const [from, to] = [moved[i] as number, moved[i + 1] as number];
    state.keys.copyWithin(to * keyLength, from * keyLength, (from + 1) * keyLength);
    state.versions[to] = state.versions[from] as number;
    forget(state, from);
  }
  state.nodes = nodes;
  state.members += seats.length - left.length;
  state.freeCount -= taken;
  const freed = left.subarray(reused);
  if (freed.length > 0) {
    const needed = state.freeCount + freed.length;
    if (needed > state.free.length) {
      const grown = new Uint32Array(Math.ceil(needed * SLACK));
      grown.set(state.free.subarray(0, state.freeCount));
      state.free = grown;
    }
    // The first to be left is the first to be given away.
    for (let i = freed.length - 1; i >= 0; i--) state.free[state.freeCount++] = freed[i] as number;
  }
  state.revision++;
}

function forget(state: TreeState, id: number): void {
  const { keyLength } = state;
  state.keys.fill(0, id * keyLength, (id + 1) * keyLength);
  state.versions[id] = 0;
}

/** @throws WatchwordError `gkma.seed` */
export function checkSeed(seed: Uint8Array): void {
  if (seed.length !== SEED_OCTETS)
    throw new WatchwordError("gkma.seed", `a seed of ${seed.length} octets where ${SEED_OCTETS} belong`);
}
