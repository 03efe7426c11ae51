import { WatchwordError } from "../bytes/index.js";
import { CHILD_ID_OCTETS, edgeOctets, type RekeyPart } from "./contracts.js";
import { copyOctets } from "./derivation.js";
import { firstLeaf, lastLeaf, leafBefore, leftmostLeaf } from "./heap.js";
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
  readonly wraps: number;
  readonly refreshes: number;
}

type Part = Pick<RekeyPart, "first" | "last" | "edges" | "refreshed">;

const REFRESH_OCTETS = 4;

/** A touched node on the way from the root to where the walk is. */
interface Step {
  /** Index in `touched.ids`. */
  readonly index: number;
  /** Children that were not visited yet: ids from `next` to `end`, touched ones by index, which descends while ids ascend. */
  next: number;
  readonly end: number;
  child: number;
  leaf: number;
  /** Whether there is an edge from the node to its parent: not where the parent's key follows otherwise. */
  readonly isSent: boolean;
  /** Octets that the step adds to a part. */
  readonly size: number;
  /** The last part that it was put into. */
  part: number;
}

/**
 * Cuts a rekey into parts that each have, for every leaf they are for, all edges from that leaf to the root. The tree is walked from left to
 * right, and what is on the way from the root to the current place is repeated in every part: some ten edges, as few as can be when a part is to
 * suffice by itself. Keys are wrapped when the walk comes to them, once.
 * @throws WatchwordError `gkma.part-size`
 */
export function* cutIntoParts(state: TreeState, computed: ComputedRekey, limit: number | undefined): Generator<Part> {
  const { crypto, arity, keyLength } = state;
  const { touched, nodes, flags, keys, payloads } = computed;
  const { ids, leaves, childStart, leafStart } = touched;
  const edgeSize = edgeOctets(keyLength);
  const most = limit ?? Number.POSITIVE_INFINITY;
  const edges = new Uint8Array(Math.min(most, computed.wraps * edgeSize));
  const refreshed = new Uint8Array(Math.min(most, computed.refreshes * REFRESH_OCTETS));
  const refreshedIds = new DataView(refreshed.buffer);
  let [edgesEnd, refreshedEnd, parts, empty] = [0, 0, 0, true];
  let first = firstLeaf(arity, nodes);
  /** The edges of `way`, and behind them that of the leaf or untouched node where the walk is. */
  const wrapped = new Uint8Array(33 * edgeSize);
  const childKey = new Uint8Array(keyLength);
  const payload = new Uint8Array(keyLength);

  /** Makes the edge from a child, whose key is at `keyAt` of `memory`, to the last node of the way. */
  function wrap(id: number, memory: Uint8Array, keyAt: number): void {
    const place = way.length * edgeSize;
    copyOctets(memory, keyAt * keyLength, childKey, 0, keyLength);
    copyOctets(payloads, (way[way.length - 1] as Step).index * keyLength, payload, 0, keyLength);
    for (let i = 0; i < CHILD_ID_OCTETS; i++) wrapped[place + i] = id >>> (8 * (CHILD_ID_OCTETS - 1 - i));
    copyOctets(crypto.aesKeyWrapPad(childKey, payload), 0, wrapped, place + CHILD_ID_OCTETS, edgeSize - CHILD_ID_OCTETS);
  }

  function enter(index: number, isSent: boolean): Step {
    const id = ids[index] as number;
    const isRefreshed = ((flags[index] as number) & REFRESHED) !== 0;
    return {
      index,
      next: arity * id + 1,
      end: Math.min(arity * id + arity, nodes - 1),
      child: (childStart[index + 1] as number) - 1,
      leaf: (leafStart[index + 1] as number) - 1,
      isSent,
      size: (isSent ? edgeSize : 0) + (isRefreshed ? REFRESH_OCTETS : 0),
      part: -1,
    };
  }

  /** Puts the edge of a place of the way into the part. */
  function put(place: number): void {
    copyOctets(wrapped, place * edgeSize, edges, edgesEnd, edgeSize);
    edgesEnd += edgeSize;
  }

  function finish(last: number): Part {
    const part = { first, last, edges: edges.slice(0, edgesEnd), refreshed: refreshed.slice(0, refreshedEnd) };
    [edgesEnd, refreshedEnd, empty] = [0, 0, true];
    parts++;
    return part;
  }

  const root = ids.length - 1;
  const way: Step[] = ((flags[root] as number) & AUDIENCE) === 0 ? [] : [enter(root, false)];
  while (way.length > 0) {
    const step = way[way.length - 1] as Step;
    if (step.next > step.end) {
      way.pop();
      continue;
    }
    const id = step.next++;
    let child = -1;
    let below = AUDIENCE;
    if (step.child >= (childStart[step.index] as number) && ids[step.child] === id) {
      child = step.child--;
      below = flags[child] as number;
    } else if (step.leaf >= (leafStart[step.index] as number) && leafId(leaves[step.leaf] as number) === id) {
      below = leafFlags(leaves[step.leaf--] as number);
    } else if (state.versions[untouchedOrigin(state, id)] === 0) {
      below = 0;
    }
    if ((below & AUDIENCE) === 0) continue;
    // A key that is a function of itself is sent to those only who cannot have its predecessor.
    const isSent = ((flags[step.index] as number) & REFRESHED) !== 0 ? (below & ADMITTED) !== 0 : (below & CHAINED) === 0;
    if (isSent) wrap(id, child < 0 ? state.keys : keys, child < 0 ? untouchedOrigin(state, id) : child);
    if (child >= 0) {
      way.push(enter(child, isSent));
      continue;
    }
    const own = isSent ? edgeSize : 0;
    let size = own;
    for (const above of way) if (above.part !== parts) size += above.size;
    if (edgesEnd + refreshedEnd + size > most && !empty) {
      const start = leftmostLeaf(arity, nodes, id);
      yield finish(leafBefore(arity, nodes, start));
      first = start;
      size = own;
      for (const above of way) size += above.size;
    }
    if (size > most) {
      throw new WatchwordError(
        "gkma.part-size",
        `the keys of leaf ${leftmostLeaf(arity, nodes, id)} need ${size} octets, not ${most}`,
      );
    }
    for (let place = 0; place < way.length; place++) {
      const above = way[place] as Step;
      if (above.part === parts) continue;
      above.part = parts;
      if (above.isSent) put(place);
      if (((flags[above.index] as number) & REFRESHED) !== 0) {
        refreshedIds.setUint32(refreshedEnd, ids[above.index] as number);
        refreshedEnd += REFRESH_OCTETS;
      }
    }
    if (isSent) put(way.length);
    empty = false;
  }
  yield finish(lastLeaf(arity, nodes));
}
