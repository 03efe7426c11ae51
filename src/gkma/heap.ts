/**
 * Arithmetic of trees in heap order (`TreeExtent` in contracts.ts). `nodes` is the number of ids, 1 for a tree that is only a root; `arity` the
 * number of children, `FLAT` for a root above any number of leaves.
 */

/** Ids stay below this, so that three bits beside them fit 32. */
export const MAX_NODES = 2 ** 29;

/** A degree that no tree exhausts. */
export const FLAT = 2 ** 30;

export function parentOf(arity: number, id: number): number {
  return ((id - 1) / arity) | 0;
}

/** Ids below this have children, or are the root. */
export function internalNodes(arity: number, nodes: number): number {
  return Math.max(1, Math.ceil((nodes - 1) / arity));
}

/** How many nodes the smallest tree with so many leaves has. */
export function nodesForLeaves(arity: number, leaves: number): number {
  return leaves + Math.max(1, Math.ceil((leaves - 1) / (arity - 1)));
}

/** The leaf on the far left among those below a node: where whoever had this id as a leaf is after the tree has grown. */
export function leftmostLeaf(arity: number, nodes: number, id: number): number {
  let leaf = id;
  while (arity * leaf + 1 < nodes) leaf = arity * leaf + 1;
  return leaf;
}

/** The leaf that a tree of `nodes` ids had where there is `leaf` in a larger one now; -1 where the leaf is new. */
export function originOf(arity: number, nodes: number, leaf: number): number {
  let id = leaf;
  while (id >= nodes) {
    if ((id - 1) % arity !== 0) return -1;
    id = parentOf(arity, id);
  }
  return id === 0 ? -1 : id;
}

/** How many nodes are above the deepest leaf. */
export function depthOf(arity: number, nodes: number): number {
  let depth = 0;
  for (let id = nodes - 1; id > 0; id = parentOf(arity, id)) depth++;
  return depth;
}

/** The first id of the deepest level: the leaf on the far left. */
export function firstLeaf(arity: number, nodes: number): number {
  return leftmostLeaf(arity, nodes, 0);
}

/** The leaf on the far right. */
export function lastLeaf(arity: number, nodes: number): number {
  const deepest = firstLeaf(arity, nodes);
  return internalNodes(arity, nodes) < deepest ? deepest - 1 : nodes - 1;
}

/** The leaf on the left of another one, which is not the first. */
export function leafBefore(arity: number, nodes: number, leaf: number): number {
  return leaf === internalNodes(arity, nodes) ? nodes - 1 : leaf - 1;
}

/** Whether a leaf is between two others, which count from left to right. */
export function isWithin(leaf: number, first: number, last: number): boolean {
  return first <= last ? first <= leaf && leaf <= last : first <= leaf || leaf <= last;
}
