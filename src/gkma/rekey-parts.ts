import { WatchwordError } from "../bytes/index.js";
import { edgeOctets, type RekeyPart } from "./contracts.js";
import { copyOctets, writeId } from "./derivation.js";
import { firstLeaf, lastLeaf, leafBefore, leftmostLeaf } from "./heap.js";
import { type ComputedRekey, EdgeSource, RekeyWalk } from "./rekey-walk.js";
import { REFRESHED } from "./touched-nodes.js";
import type { TreeState } from "./tree-state.js";

const REFRESH_OCTETS = 4;
/** No tree is deeper (`MAX_NODES`). */
const MAX_DEPTH = 30;

/** A touched node on the way from the root to where the walk is. */
interface Waypoint {
  readonly id: number;
  readonly isSent: boolean;
  readonly isRefreshed: boolean;
  /** Octets that it adds to a part. */
  readonly size: number;
  /** The last part that it was put into. */
  part: number;
}

type Part = Pick<RekeyPart, "first" | "last" | "edges" | "refreshed">;

/**
 * Cuts a rekey into parts that each have, for every leaf they are for, all edges from that leaf to the root. What is on the way from the root
 * to the current place is repeated in every part: some ten edges, as few as can be when a part is to suffice by itself.
 * @throws WatchwordError `gkma.part-size`
 */
export function* cutIntoParts(state: TreeState, computed: ComputedRekey, limit = Number.POSITIVE_INFINITY): Generator<Part> {
  const { arity, keyLength } = state;
  const { touched, nodes, flags } = computed;
  const edgeSize = edgeOctets(keyLength);
  const edges = new Uint8Array(Math.min(limit, computed.wraps * edgeSize));
  const refreshed = new Uint8Array(Math.min(limit, computed.refreshes * REFRESH_OCTETS));
  let edgesEnd = 0;
  let refreshedEnd = 0;
  let parts = 0;
  let first = firstLeaf(arity, nodes);

  const waypoint = (index: number, id: number, isSent: boolean): Waypoint => {
    const isRefreshed = ((flags[index] as number) & REFRESHED) !== 0;
    return { id, isSent, isRefreshed, size: (isSent ? edgeSize : 0) + (isRefreshed ? REFRESH_OCTETS : 0), part: -1 };
  };
  const way: Waypoint[] = [waypoint(touched.ids.length - 1, 0, false)];
  /** The edges of the way, and behind them that of the place where the walk is. */
  const held = new Uint8Array((MAX_DEPTH + 1) * edgeSize);
  const put = (depth: number): void => {
    copyOctets(held, depth * edgeSize, edges, edgesEnd, edgeSize);
    edgesEnd += edgeSize;
  };
  const finish = (last: number): Part => {
    // The memory is not needed again where it is full, since it is as large as a part may be or as all edges are: those of the only part.
    const whole = parts === 0 && edgesEnd === computed.wraps * edgeSize;
    const part = { first, last, edges: whole ? edges : edges.slice(0, edgesEnd), refreshed: refreshed.slice(0, refreshedEnd) };
    edgesEnd = 0;
    refreshedEnd = 0;
    parts++;
    return part;
  };
  /** Octets that a place and what is above it and not yet in the part add to it. */
  const needed = (depth: number, own: number): number => {
    let size = own;
    for (let i = 0; i < depth; i++) {
      const above = way[i] as Waypoint;
      if (above.part !== parts) size += above.size;
    }
    return size;
  };

  const source = new EdgeSource(state, computed);
  const walk = new RekeyWalk(state, computed);
  while (walk.next()) {
    const { id, index, isSent, depth } = walk;
    if (isSent) source.take(held, depth * edgeSize);
    if (index >= 0) {
      way[depth] = waypoint(index, id, isSent);
      continue;
    }
    const own = isSent ? edgeSize : 0;
    let size = needed(depth, own);
    if (edgesEnd + refreshedEnd + size > limit && edgesEnd + refreshedEnd > 0) {
      const start = leftmostLeaf(arity, nodes, id);
      yield finish(leafBefore(arity, nodes, start));
      first = start;
      size = needed(depth, own);
    }
    if (size > limit) {
      throw new WatchwordError(
        "gkma.part-size",
        `the keys of leaf ${leftmostLeaf(arity, nodes, id)} need ${size} octets, not ${limit}`,
      );
    }
    for (let i = 0; i < depth; i++) {
      const above = way[i] as Waypoint;
      if (above.part === parts) continue;
      above.part = parts;
      if (above.isSent) put(i);
      if (above.isRefreshed) {
        writeId(above.id, refreshed, refreshedEnd);
        refreshedEnd += REFRESH_OCTETS;
      }
    }
    if (isSent) put(depth);
  }
  yield finish(lastLeaf(arity, nodes));
}
