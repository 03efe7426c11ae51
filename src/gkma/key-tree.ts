import { WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import { GKMA_NAMES, GKMA_VERSION, type GkmaName, type KeyTree, type KeyTreeOptions, type PreparedAdmission } from "./contracts.js";
import { copyOctets, createDerivation } from "./derivation.js";
import { FLAT, internalNodes, leftmostLeaf, MAX_NODES, nodesForLeaves, parentOf } from "./heap.js";
import { newLeafKeys, prepareRekey, prepareRekeyInTurns } from "./rekey.js";
import { checkSeed, isOccupied, isPending, keyOf, reserve, seat, type TreeState, takeSeats } from "./tree-state.js";

/** @throws WatchwordError `gkma.option` */
function emptyState(crypto: CryptoProvider, algorithm: GkmaName, degree: number, keyLength: number, capacity: number): TreeState {
  const flat = algorithm === "none";
  if (!GKMA_NAMES.includes(algorithm)) throw new WatchwordError("gkma.option", `there is no algorithm "${algorithm}"`);
  if (!Number.isInteger(degree) || (flat ? degree !== 0 : degree < 2 || degree > 255)) {
    throw new WatchwordError("gkma.option", `${algorithm} of degree ${degree}`);
  }
  if (keyLength !== 16 && keyLength !== 32) throw new WatchwordError("gkma.option", `keys of ${keyLength} octets`);
  const arity = flat ? FLAT : degree;
  const nodes = nodesForLeaves(arity, capacity);
  if (!Number.isInteger(capacity) || capacity < 0 || nodes > MAX_NODES) {
    throw new WatchwordError("gkma.option", `a tree for ${capacity} members`);
  }
  const state: TreeState = {
    crypto,
    derivation: createDerivation(crypto),
    algorithm,
    degree,
    keyLength,
    arity,
    nodes: 1,
    version: 0,
    revision: 0,
    members: 0,
    keys: new Uint8Array(0),
    versions: new Uint32Array(0),
    free: new Uint32Array(0),
    freeCount: 0,
    pending: new Uint32Array(0),
  };
  reserve(state, nodes);
  return state;
}

/** A key tree without members. @throws WatchwordError `gkma.option` */
export function createKeyTree({ crypto, algorithm, degree, keyLength = 16, capacity = 0 }: KeyTreeOptions): KeyTree {
  return overState(emptyState(crypto, algorithm, degree ?? (algorithm === "none" ? 0 : 2), keyLength, capacity));
}

function overState(state: TreeState): KeyTree {
  return {
    algorithm: state.algorithm,
    degree: state.degree,
    keyLength: state.keyLength,
    get largestId() {
      return state.nodes - 1;
    },
    get version() {
      return state.version;
    },
    get members() {
      return state.members;
    },
    get pending() {
      return state.pending.length;
    },
    get byteLength() {
      return [state.keys, state.versions, state.free, state.pending].reduce((sum, { byteLength }) => sum + byteLength, 0);
    },
    has: (leaf) => isOccupied(state, leaf),
    prepareAdmission: (count, seed) => prepareAdmission(state, count, seed),
    prepareRekey: (change, inputs) => prepareRekey(state, change, inputs),
    prepareRekeyInTurns: (change, inputs, pause) => prepareRekeyInTurns(state, change, inputs, pause),
    groupKey() {
      if (state.version === 0) throw new WatchwordError("gkma.version", "the first rekey makes the first group key");
      return keyOf(state, 0).slice();
    },
    download(leaf) {
      if (!isOccupied(state, leaf)) throw new WatchwordError("gkma.leaf", `nobody has leaf ${leaf}`);
      const path: { node: number; key: Uint8Array }[] = [];
      // What is above a member that no rekey has included began before it was admitted.
      for (let id = leaf; id > 0 && !isPending(state, leaf); ) {
        id = parentOf(state.arity, id);
        // A tree that has grown for admitted members has nodes without keys until the next rekey.
        if (state.versions[id] !== 0) path.push({ node: id, key: keyOf(state, id).slice() });
      }
      const { algorithm, degree, keyLength, version, nodes } = state;
      return { algorithm, degree, keyLength, version, largestId: nodes - 1, leaf, leafKey: keyOf(state, leaf).slice(), path };
    },
    snapshot: () => encodeSnapshot(state),
    wipe() {
      wipe(state.keys);
      state.versions.fill(0);
      state.members = 0;
      state.revision++;
    },
  };
}

/** @throws WatchwordError `gkma.change`, `gkma.seed`, `gkma.full` */
function prepareAdmission(state: TreeState, count: number, seed: Uint8Array): PreparedAdmission {
  if (count === 0) throw new WatchwordError("gkma.change", "nobody is admitted");
  checkSeed(seed);
  const seating = seat(state, [], count);
  const { seats: admitted, nodes, moved } = seating;
  /** Greater than the tree's version, which marks them (`TreeState.versions`). */
  const version = state.version + 1;
  const { revision, keyLength } = state;
  const keys = newLeafKeys(state, admitted, seed, version);
  let over = false;
  const end = (): void => {
    over = true;
    wipe(keys);
  };
  return {
    largestId: nodes - 1,
    moved,
    admitted,
    commit() {
      if (over || state.revision !== revision)
        throw new WatchwordError("gkma.stale", "an admission that was taken, dropped or overtaken");
      takeSeats(state, seating);
      const pending = new Uint32Array(state.pending.length + admitted.length);
      state.pending.forEach((leaf, i) => {
        pending[i] = leftmostLeaf(state.arity, nodes, leaf);
      });
      pending.set(admitted, state.pending.length);
      state.pending = pending;
      for (let i = 0; i < admitted.length; i++) {
        const leaf = admitted[i] as number;
        copyOctets(keys, i * keyLength, state.keys, leaf * keyLength, keyLength);
        state.versions[leaf] = version;
      }
      end();
    },
    drop: end,
  };
}

/** Octets of a snapshot in front of its arrays: format, algorithm, degree, key length, then version, ids, free and pending leaves. */
const HEAD_OCTETS = 4 + 4 * 4;

/** The head, then versions, keys, free leaves and pending leaves; integers in network byte order. */
function encodeSnapshot({
  algorithm,
  degree,
  keyLength,
  version,
  nodes,
  versions,
  keys,
  free,
  freeCount,
  pending,
}: TreeState): Uint8Array {
  const octets = new Uint8Array(HEAD_OCTETS + nodes * (4 + keyLength) + 4 * (freeCount + pending.length));
  octets.set([GKMA_VERSION, GKMA_NAMES.indexOf(algorithm), degree, keyLength]);
  const view = new DataView(octets.buffer);
  let at = 4;
  const put = (values: Uint32Array): void => {
    for (let i = 0; i < values.length; i++, at += 4) view.setUint32(at, values[i] as number);
  };
  put(Uint32Array.of(version, nodes, freeCount, pending.length));
  put(versions.subarray(0, nodes));
  octets.set(keys.subarray(0, nodes * keyLength), at);
  at += nodes * keyLength;
  put(free.subarray(0, freeCount));
  put(pending);
  return octets;
}

/** The tree of which this is the snapshot. @throws WatchwordError `gkma.snapshot` */
export function restoreKeyTree(crypto: CryptoProvider, snapshot: Uint8Array): KeyTree {
  const view = new DataView(snapshot.buffer, snapshot.byteOffset, snapshot.byteLength);
  const refuse = (what: string): never => {
    throw new WatchwordError("gkma.snapshot", `not a snapshot of a key tree: ${what}`);
  };
  if (snapshot.length < HEAD_OCTETS) refuse("too short");
  const [format, algorithm, degree, keyLength] = snapshot as unknown as [number, number, number, number];
  const [version, nodes, freeCount, pendingCount] = [4, 8, 12, 16].map((at) => view.getUint32(at)) as [
    number,
    number,
    number,
    number,
  ];
  const name = GKMA_NAMES[algorithm];
  if (format !== GKMA_VERSION || name === undefined) return refuse("another format");
  if (nodes < 1 || nodes > MAX_NODES) refuse(`${nodes} nodes`);
  if (snapshot.length !== HEAD_OCTETS + nodes * (4 + keyLength) + 4 * (freeCount + pendingCount)) refuse("another length");
  let state: TreeState;
  try {
    state = emptyState(crypto, name, degree, keyLength, 0);
  } catch (cause) {
    throw new WatchwordError("gkma.snapshot", "not a snapshot of a key tree: impossible options", { cause });
  }
  reserve(state, nodes);
  let at = HEAD_OCTETS;
  const take = (into: Uint32Array, count: number): void => {
    for (let i = 0; i < count; i++, at += 4) into[i] = view.getUint32(at);
  };
  take(state.versions, nodes);
  state.keys.set(snapshot.subarray(at, at + nodes * keyLength));
  at += nodes * keyLength;
  state.free = new Uint32Array(freeCount);
  take(state.free, freeCount);
  state.pending = new Uint32Array(pendingCount);
  take(state.pending, pendingCount);
  const leaves = nodes - internalNodes(state.arity, nodes);
  if (nodes > 1 && nodesForLeaves(state.arity, leaves) !== nodes) refuse("no tree has this shape");
  Object.assign(state, { version, nodes, freeCount, members: leaves - freeCount });
  const isLeaf = (id: number): boolean => id >= internalNodes(state.arity, nodes) && id < nodes;
  if (!state.free.every((leaf) => isLeaf(leaf) && state.versions[leaf] === 0)) refuse("a free leaf that is none");
  if (!state.pending.every((leaf) => isLeaf(leaf) && isPending(state, leaf))) refuse("an admitted leaf that is none");
  return overState(state);
}
