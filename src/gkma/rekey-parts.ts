import { WatchwordError } from "../bytes/index.js";
import { edgeOctets, type RekeyPart } from "./contracts.js";
import { copyOctets, writeId } from "./derivation.js";
import { firstLeaf, lastLeaf, leafBefore, leftmostLeaf } from "./heap.js";
import { type ComputedRekey, RekeyPlaces } from "./rekey-walk.js";
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
}

type Part = Pick<RekeyPart, "first" | "last" | "edges" | "refreshed">;

/**
 * Cuts a rekey into parts that each have, for every leaf they are for, all edges from that leaf to the root. What is on the way from the root
 * to the current place is repeated in every part: some ten edges, as few as can be when a part is to suffice by itself.
 */
export class RekeyParts {
  readonly #state: TreeState;
  readonly #computed: ComputedRekey;
  readonly #limit: number;
  readonly #edgeSize: number;
  readonly #edges: Uint8Array;
  readonly #refreshed: Uint8Array;
  #edgesEnd = 0;
  #refreshedEnd = 0;
  #parts = 0;
  #first: number;
  readonly #way: Waypoint[];
  /** The edges of the way. */
  readonly #held: Uint8Array;
  /** Waypoints that are in the part already. */
  #written = 0;

  /** @param limit octets of edges and refreshed ids in one part */
  constructor(state: TreeState, computed: ComputedRekey, limit: number) {
    const edgeSize = edgeOctets(state.keyLength);
    this.#state = state;
    this.#computed = computed;
    this.#limit = limit;
    this.#edgeSize = edgeSize;
    this.#edges = new Uint8Array(Math.min(limit, computed.wraps * edgeSize));
    this.#refreshed = new Uint8Array(Math.min(limit, computed.refreshes * REFRESH_OCTETS));
    this.#first = firstLeaf(state.arity, computed.nodes);
    this.#way = [this.#waypoint(computed.touched.ids.length - 1, 0, false)];
    this.#held = new Uint8Array(MAX_DEPTH * edgeSize);
  }

  /** @throws WatchwordError `gkma.part-size` */
  *cut(): Generator<Part> {
    const { arity } = this.#state;
    const { nodes } = this.#computed;
    const limit = this.#limit;
    const places = new RekeyPlaces(this.#state, this.#computed);
    while (places.next()) {
      const { id, index, isSent, depth } = places;
      if (index >= 0) {
        if (isSent) places.writeEdge(this.#held, depth * this.#edgeSize);
        this.#way[depth] = this.#waypoint(index, id, isSent);
        this.#written = Math.min(this.#written, depth);
        continue;
      }
      const own = isSent ? this.#edgeSize : 0;
      const held = this.#edgesEnd + this.#refreshedEnd;
      if (held > 0 && held + this.#needed(depth, own) > limit) {
        const start = leftmostLeaf(arity, nodes, id);
        yield this.#finish(leafBefore(arity, nodes, start));
        this.#first = start;
      }
      if (this.#edgesEnd + this.#refreshedEnd === 0) this.#checkFits(id, this.#needed(depth, own));
      this.#writeWay(depth);
      if (!isSent) continue;
      places.writeEdge(this.#edges, this.#edgesEnd);
      this.#edgesEnd += own;
    }
    yield this.#finish(lastLeaf(arity, nodes));
  }

  #waypoint(index: number, id: number, isSent: boolean): Waypoint {
    const isRefreshed = ((this.#computed.flags[index] as number) & REFRESHED) !== 0;
    return { id, isSent, isRefreshed, size: (isSent ? this.#edgeSize : 0) + (isRefreshed ? REFRESH_OCTETS : 0) };
  }

  /** Octets that a place and what is above it and not yet in the part add to it. */
  #needed(depth: number, own: number): number {
    let size = own;
    for (let i = this.#written; i < depth; i++) size += (this.#way[i] as Waypoint).size;
    return size;
  }

  #checkFits(id: number, size: number): void {
    if (size <= this.#limit) return;
    const leaf = leftmostLeaf(this.#state.arity, this.#computed.nodes, id);
    throw new WatchwordError("gkma.part-size", `the keys of leaf ${leaf} need ${size} octets, not ${this.#limit}`);
  }

  /** Puts what is above a place of this depth into the part. */
  #writeWay(depth: number): void {
    for (; this.#written < depth; this.#written++) {
      const { id, isSent, isRefreshed } = this.#way[this.#written] as Waypoint;
      if (isSent) {
        copyOctets(this.#held, this.#written * this.#edgeSize, this.#edges, this.#edgesEnd, this.#edgeSize);
        this.#edgesEnd += this.#edgeSize;
      }
      if (isRefreshed) {
        writeId(id, this.#refreshed, this.#refreshedEnd);
        this.#refreshedEnd += REFRESH_OCTETS;
      }
    }
  }

  #finish(last: number): Part {
    const edges = this.#edges;
    // The memory is not needed again where it is full, since it is as large as a part may be or as all edges are: those of the only part.
    const isWhole = this.#parts === 0 && this.#edgesEnd === this.#computed.wraps * this.#edgeSize;
    const part = {
      first: this.#first,
      last,
      edges: isWhole ? edges : edges.slice(0, this.#edgesEnd),
      refreshed: this.#refreshed.slice(0, this.#refreshedEnd),
    };
    this.#edgesEnd = 0;
    this.#refreshedEnd = 0;
    this.#written = 0;
    this.#parts++;
    return part;
  }
}
