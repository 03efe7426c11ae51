import { WatchwordError, wipe } from "../bytes/index.js";
import type { GkmaName, MembershipChange, PreparedRekey, RekeyInputs, RekeyPart } from "./contracts.js";
import { copyOctets } from "./derivation.js";
import { internalNodes, leftmostLeaf } from "./heap.js";
import { RekeyParts } from "./rekey-parts.js";
import type { ComputedRekey } from "./rekey-walk.js";
import {
  ADMITTED,
  ALIVE,
  AUDIENCE,
  CHAINED,
  DEPARTURE,
  leafFlags,
  leafId,
  REFRESHED,
  stillPending,
  type TouchedNodes,
  touchedLeaves,
  touchedNodes,
  untouchedOrigin,
} from "./touched-nodes.js";
import { checkSeed, type Seating, seat, type TreeState, takeSeats } from "./tree-state.js";

/** Whether the secret of a node follows from one below it, and whether a join may replace a key by a function of itself. */
const METHODS: Readonly<Record<GkmaName, { readonly chains: boolean; readonly refreshes: boolean }>> = {
  none: { chains: false, refreshes: false },
  lkh: { chains: false, refreshes: false },
  "lkh+": { chains: false, refreshes: true },
  ofc: { chains: true, refreshes: false },
};

/** @throws WatchwordError `gkma.change`, `gkma.version`, `gkma.seed`, `gkma.leaf`, `gkma.full` */
export function prepareRekey(state: TreeState, change: MembershipChange, inputs: RekeyInputs): PreparedRekey {
  const computation = new Computation(state, change, inputs);
  while (!computation.advance());
  return computation.finish();
}

/** @throws (rejects) WatchwordError as `prepareRekey`; `gkma.stale` */
export async function prepareRekeyInTurns(
  state: TreeState,
  change: MembershipChange,
  inputs: RekeyInputs,
  pause: () => Promise<void>,
): Promise<PreparedRekey> {
  const computation = new Computation(state, change, inputs);
  while (!computation.advance()) {
    await pause();
    computation.checkState();
  }
  return computation.finish();
}

/** A rekey that was computed but not taken. */
class Rekey implements PreparedRekey {
  readonly version: number;
  readonly previous: number;
  readonly largestId: number;
  readonly joined: Uint32Array;
  readonly moved: Uint32Array;
  readonly groupKey: Uint8Array;
  readonly wraps: number;
  readonly refreshes: number;
  readonly #state: TreeState;
  readonly #revision: number;
  readonly #seating: Seating;
  /** Until the step is taken or dropped; then no key of it is held any more. */
  #open: ComputedRekey | undefined;

  constructor(state: TreeState, seating: Seating, computed: ComputedRekey, version: number) {
    this.version = version;
    this.previous = state.version;
    this.largestId = seating.nodes - 1;
    this.joined = seating.seats;
    this.moved = seating.moved;
    this.groupKey = computed.keys.slice(-state.keyLength);
    this.wraps = computed.wraps;
    this.refreshes = computed.refreshes;
    this.#state = state;
    this.#revision = state.revision;
    this.#seating = seating;
    this.#open = computed;
  }

  *parts(limit = Number.POSITIVE_INFINITY): IterableIterator<RekeyPart> {
    const { version, previous, largestId } = this;
    for (const { first, last, edges, refreshed } of new RekeyParts(this.#state, this.#computed(), limit).cut()) {
      yield { version, previous, largestId, first, last, edges, refreshed };
      this.#computed();
    }
  }

  commit(): void {
    take(this.#state, this.#seating, this.#computed(), this.version);
    this.drop();
  }

  drop(): void {
    wipe(this.#open?.keys, this.#open?.payloads, this.#open?.leafKeys);
    this.#open = undefined;
  }

  #computed(): ComputedRekey {
    if (this.#open === undefined || this.#state.revision !== this.#revision) {
      throw staleError();
    }
    return this.#open;
  }
}

/** The keys of newcomers' leaves, in the order of the leaves given. */
export function newLeafKeys(state: TreeState, leaves: Uint32Array, seed: Uint8Array, version: number): Uint8Array {
  const { keyLength, derivation } = state;
  const keys = new Uint8Array(leaves.length * keyLength);
  for (let i = 0; i < leaves.length; i++) {
    const made = derivation.derive("leaf", seed, leaves[i] as number, version, keyLength);
    copyOctets(made, 0, keys, i * keyLength, keyLength);
    wipe(made);
  }
  return keys;
}

/** Nodes whose keys are made at a stretch. */
const STRETCH = 4096;

/** Finds out who is below each touched node, and replaces its key; children come before their parents. */
class Computation {
  readonly #state: TreeState;
  readonly #revision: number;
  readonly #version: number;
  readonly #seed: Uint8Array;
  readonly #replace: boolean;
  readonly #seating: Seating;
  readonly #touched: TouchedNodes;
  readonly #flags: Uint8Array;
  readonly #keys: Uint8Array;
  readonly #secrets: Uint8Array;
  /** The secrets that a chain gives to the nodes above. */
  readonly #above: Uint8Array;
  #wraps = 0;
  #refreshed = 0;
  /** The next node. */
  #at = 0;

  constructor(state: TreeState, { leave = [], join = 0, replace = false }: MembershipChange, { version, seed }: RekeyInputs) {
    if (!Number.isInteger(version) || version <= state.version || version > 0xffff_ffff) {
      throw new WatchwordError("gkma.version", `version ${version} cannot follow version ${state.version}`);
    }
    checkSeed(seed);
    const { arity, keyLength } = state;
    const seating = seat(state, leave, join);
    const leaves = touchedLeaves(state, seating, replace);
    if (leaves.length === 0 && !replace) throw new WatchwordError("gkma.change", "nobody joins, leaves or waits for keys");
    this.#state = state;
    this.#revision = state.revision;
    this.#version = version;
    this.#seed = seed;
    this.#replace = replace;
    this.#seating = seating;
    this.#touched = touchedNodes(arity, seating.nodes, leaves);
    const { chains } = METHODS[state.algorithm];
    const nodes = this.#touched.ids.length;
    this.#flags = new Uint8Array(nodes);
    const octets = nodes * keyLength;
    const memory = new Uint8Array(chains ? 3 * octets : octets);
    this.#keys = memory.subarray(0, octets);
    this.#secrets = chains ? memory.subarray(octets, 2 * octets) : this.#keys;
    this.#above = memory.subarray(chains ? 2 * octets : octets);
  }

  /** @throws WatchwordError `gkma.stale` where the tree has changed meanwhile; then nothing of this is held any more */
  checkState(): void {
    if (this.#state.revision === this.#revision) return;
    wipe(this.#keys, this.#secrets, this.#above);
    throw staleError();
  }

  /** Makes the keys of the next nodes. @returns whether those were the last */
  advance(): boolean {
    const state = this.#state;
    const { arity, keyLength, derivation, versions } = state;
    const { chains, refreshes } = METHODS[state.algorithm];
    const { nodes } = this.#seating;
    const { ids, leaves, childStart, leafStart } = this.#touched;
    const [version, seed, replace] = [this.#version, this.#seed, this.#replace];
    const [flags, keys, secrets, above] = [this.#flags, this.#keys, this.#secrets, this.#above];
    const internalBefore = internalNodes(arity, state.nodes);
    const secret = new Uint8Array(keyLength);
    const end = Math.min(ids.length, this.#at + STRETCH);
    let wraps = 0;
    let refreshed = 0;
    for (let i = this.#at; i < end; i++) {
      const id = ids[i] as number;
      let inherited = 0;
      let audiences = 0;
      let admissions = 0;
      let chainedChild = -1;
      let child = childStart[i] as number;
      let leaf = leafStart[i] as number;
      const childEnd = childStart[i + 1] as number;
      const leafEnd = leafStart[i + 1] as number;
      for (let childId = Math.min(arity * id + arity, nodes - 1); childId > arity * id; childId--) {
        let below = 0;
        if (child < childEnd && ids[child] === childId) {
          below = flags[child] as number;
          if ((below & AUDIENCE) !== 0) chainedChild = child;
          child++;
        } else if (leaf < leafEnd && leafId(leaves[leaf] as number) === childId) {
          below = leafFlags(leaves[leaf++] as number);
        } else if (versions[untouchedOrigin(state, childId)] !== 0) {
          below = ALIVE | AUDIENCE;
        }
        if ((below & AUDIENCE) !== 0) audiences++;
        if ((below & ADMITTED) !== 0) admissions++;
        inherited |= below & (ALIVE | AUDIENCE | ADMITTED | DEPARTURE);
      }
      flags[i] = inherited;
      // An empty subtree needs no key; an empty group has one all the same, so that no key outlives a departure.
      if ((inherited & ALIVE) === 0 && id !== 0) continue;

      const at = i * keyLength;
      let made: Uint8Array;
      // Whoever departs in this very change knows the old key, and all that follows from it.
      if (refreshes && !replace && (inherited & DEPARTURE) === 0 && id < internalBefore && versions[id] !== 0) {
        flags[i] = inherited | REFRESHED;
        copyOctets(state.keys, id * keyLength, secret, 0, keyLength);
        made = derivation.derive("refresh", secret, id, version, keyLength);
        refreshed++;
        wraps += admissions;
      } else if (!chains || (inherited & AUDIENCE) === 0) {
        // Where nobody has to be told, no chain leads on.
        made = derivation.derive("fresh", seed, id, version, keyLength);
        wraps += audiences;
      } else {
        if (chainedChild < 0) {
          const start = derivation.derive("fresh", seed, id, version, keyLength);
          copyOctets(start, 0, secrets, at, keyLength);
          wipe(start);
          wraps += audiences;
        } else {
          flags[chainedChild] = (flags[chainedChild] as number) | CHAINED;
          copyOctets(above, chainedChild * keyLength, secrets, at, keyLength);
          wraps += audiences - 1;
        }
        copyOctets(secrets, at, secret, 0, keyLength);
        made = derivation.derive("chain", secret, id, version, 2 * keyLength);
        copyOctets(made, keyLength, above, at, keyLength);
      }
      copyOctets(made, 0, keys, at, keyLength);
      wipe(made);
    }
    wipe(secret);
    this.#at = end;
    this.#wraps += wraps;
    this.#refreshed += refreshed;
    return end === ids.length;
  }

  finish(): PreparedRekey {
    wipe(this.#above);
    const seating = this.#seating;
    const computed: ComputedRekey = {
      touched: this.#touched,
      nodes: seating.nodes,
      flags: this.#flags,
      keys: this.#keys,
      payloads: this.#secrets,
      leafKeys: newLeafKeys(this.#state, seating.seats, this.#seed, this.#version),
      wraps: this.#wraps,
      refreshes: this.#refreshed,
    };
    return new Rekey(this.#state, seating, computed, this.#version);
  }
}

function staleError(): WatchwordError {
  return new WatchwordError("gkma.stale", "a change that was taken, dropped or overtaken");
}

/** Makes the tree what the rekey says. */
function take(state: TreeState, seating: Seating, computed: ComputedRekey, version: number): void {
  const { keyLength } = state;
  const { touched, flags, keys, leafKeys } = computed;
  const included = stillPending(state, seating.leftSorted);
  takeSeats(state, seating);
  state.version = version;
  state.pending = new Uint32Array(0);
  for (const leaf of included) state.versions[leftmostLeaf(state.arity, state.nodes, leaf)] = version;
  for (let i = 0; i < seating.seats.length; i++) {
    const leaf = seating.seats[i] as number;
    copyOctets(leafKeys, i * keyLength, state.keys, leaf * keyLength, keyLength);
    state.versions[leaf] = version;
  }
  for (let i = 0; i < touched.ids.length; i++) {
    const id = touched.ids[i] as number;
    copyOctets(keys, i * keyLength, state.keys, id * keyLength, keyLength);
    state.versions[id] = id === 0 || ((flags[i] as number) & ALIVE) !== 0 ? version : 0;
  }
}
