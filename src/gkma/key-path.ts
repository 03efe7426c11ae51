import { WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import { CHILD_ID_OCTETS, edgeOctets, type KeyPath, type PathDownload, type PathUpdate, type RekeyPart } from "./contracts.js";
import { createDerivation } from "./derivation.js";
import { FLAT, isWithin, leftmostLeaf, MAX_NODES, parentOf } from "./heap.js";

/** Ids from a leaf to the root. */
function idsAbove(arity: number, leaf: number): number[] {
  const ids = [leaf];
  for (let id = leaf; id > 0; ) {
    id = parentOf(arity, id);
    ids.push(id);
  }
  return ids;
}

function view(octets: Uint8Array): DataView {
  return new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
}

/** The keys of a member, from what the key server told it. @throws WatchwordError `gkma.download` */
export function createKeyPath(crypto: CryptoProvider, download: PathDownload): KeyPath {
  const { algorithm, degree, keyLength } = download;
  const arity = algorithm === "none" ? FLAT : degree;
  const chains = algorithm === "ofc";
  const derivation = createDerivation(crypto);
  let { version, largestId, leaf } = download;
  checkDownload(download, arity);
  let ids = idsAbove(arity, leaf);
  /** In the order of `ids`; undefined where no key was told yet. */
  let keys: (Uint8Array | undefined)[] = ids.map((id) => download.path.find(({ node }) => node === id)?.key.slice());
  keys[0] = download.leafKey.slice();
  if (keys.filter((key) => key !== undefined).length !== download.path.length + 1) {
    throw new WatchwordError("gkma.download", "a key of a node that is not above the leaf");
  }

  /** What is held when the tree has grown: whoever has got another leaf takes its key along, and knows none in its place. */
  function grown(part: RekeyPart): { ids: number[]; keys: (Uint8Array | undefined)[] } {
    const nextLeaf = leftmostLeaf(arity, part.largestId + 1, leaf);
    if (nextLeaf === leaf) return { ids, keys: keys.slice() };
    const nextIds = idsAbove(arity, nextLeaf);
    const unknown: undefined[] = new Array(nextIds.length - ids.length).fill(undefined);
    return { ids: nextIds, keys: [keys[0], ...unknown, ...keys.slice(1)] };
  }

  function concerns(part: Pick<RekeyPart, "largestId" | "first" | "last">): boolean {
    if (part.largestId < largestId || part.largestId >= MAX_NODES) return false;
    return isWithin(leftmostLeaf(arity, part.largestId + 1, leaf), part.first, part.last);
  }

  function apply(part: RekeyPart, accepts: (groupKey: Uint8Array) => boolean = () => true): PathUpdate {
    const edgeSize = edgeOctets(keyLength);
    if (
      part.edges.length % edgeSize !== 0 ||
      part.refreshed.length % 4 !== 0 ||
      !(part.largestId >= 0 && part.largestId < MAX_NODES) ||
      part.previous >= part.version
    ) {
      throw new WatchwordError("gkma.part", "not a part of a rekey");
    }
    if (part.version <= version) return { kind: "old" };
    if (part.largestId < largestId) return { kind: "missing" };
    const next = grown(part);
    const nextLeaf = next.ids[0] as number;
    if (!isWithin(nextLeaf, part.first, part.last)) return { kind: "elsewhere", leaf: nextLeaf };
    const made = climb(part, next);
    const root = made?.[next.ids.length - 1];
    if (made === undefined || root === undefined) return { kind: "missing" };
    if (!accepts(root)) {
      wipe(...made);
      return { kind: "missing" };
    }
    for (let i = 0; i < made.length; i++) {
      if (made[i] === undefined) continue;
      wipe(next.keys[i]);
      next.keys[i] = made[i];
    }
    ({ version, largestId } = part);
    leaf = nextLeaf;
    ({ ids, keys } = next);
    return { kind: "applied", groupKey: root.slice() };
  }

  /**
   * The new keys of the way from the leaf to the root, in the order of `ids`; undefined where keys are missing. All that a rekey replaces lies
   * together and ends at the root. The lowest new key comes under a key that is held: if a rekey was missed that had changed that one or any below it, it
   * cannot be opened. So a member that has missed a rekey finds out, or is whole again.
   */
  function climb(part: RekeyPart, held: { ids: readonly number[]; keys: readonly (Uint8Array | undefined)[] }) {
    const edges = edgesTo(part, held.ids);
    const refreshed = nodesAmong(part.refreshed, held.ids);
    const made: (Uint8Array | undefined)[] = new Array(held.ids.length).fill(undefined);
    /** In a chain: the secret of the next node. */
    let secret: Uint8Array | undefined;
    let begun = false;
    const step = (i: number): boolean => {
      const id = held.ids[i] as number;
      const edge = edges[i - 1];
      const old = held.keys[i];
      let from = secret;
      if (edge !== undefined) {
        const key = made[i - 1] ?? held.keys[i - 1];
        const sent = key && crypto.aesKeyUnwrapPad(key, edge);
        if (sent?.length !== keyLength) return false;
        if (!chains) made[i] = sent;
        wipe(from);
        from = sent;
      } else if (refreshed[i] === true) {
        // A function of the key of the version before: of an older one it is another key, and nothing would tell.
        if (old === undefined || part.previous !== version) return false;
        const tag = derivation.derive("refresh", old, id, part.version, keyLength);
        made[i] = tag.slice(0, keyLength);
        wipe(tag);
      } else if (from === undefined) {
        return !begun;
      }
      begun = true;
      if (chains && from !== undefined) {
        const tag = derivation.derive("chain", from, id, part.version, 2 * keyLength);
        made[i] = tag.slice(0, keyLength);
        secret = tag.slice(keyLength, 2 * keyLength);
        wipe(from, tag);
      }
      return true;
    };
    let whole = true;
    for (let i = 1; whole && i < held.ids.length; i++) whole = step(i);
    wipe(secret);
    if (whole) return made;
    wipe(...made);
    return undefined;
  }

  /** The wrapped keys whose child is on the way, by its place there. */
  function edgesTo(part: RekeyPart, wayIds: readonly number[]): (Uint8Array | undefined)[] {
    const octets = view(part.edges);
    const edges: (Uint8Array | undefined)[] = new Array(wayIds.length).fill(undefined);
    const edgeSize = edgeOctets(keyLength);
    for (let at = 0; at < part.edges.length; at += edgeSize) {
      const place = wayIds.indexOf(octets.getUint32(at));
      if (place >= 0) edges[place] ??= part.edges.subarray(at + CHILD_ID_OCTETS, at + edgeSize);
    }
    return edges;
  }

  return {
    algorithm,
    degree,
    keyLength,
    get version() {
      return version;
    },
    get largestId() {
      return largestId;
    },
    get leaf() {
      return leaf;
    },
    get keys() {
      return keys.filter((key) => key !== undefined).length;
    },
    groupKey: () => keys[keys.length - 1]?.slice(),
    concerns,
    apply,
    wipe: () => wipe(...keys),
  };
}

/** Which of the ids on the way are listed. */
function nodesAmong(listed: Uint8Array, wayIds: readonly number[]): boolean[] {
  const octets = view(listed);
  const found: boolean[] = new Array(wayIds.length).fill(false);
  for (let at = 0; at < listed.length; at += 4) {
    const place = wayIds.indexOf(octets.getUint32(at));
    if (place >= 0) found[place] = true;
  }
  return found;
}

/** @throws WatchwordError `gkma.download` */
function checkDownload({ algorithm, degree, keyLength, largestId, leaf, leafKey, path }: PathDownload, arity: number): void {
  const refuse = (what: string): never => {
    throw new WatchwordError("gkma.download", `not a place in a key tree: ${what}`);
  };
  const isDegree = algorithm === "none" ? degree === 0 : Number.isInteger(degree) && degree >= 2 && degree <= 255;
  if (!isDegree) refuse(`${algorithm} of degree ${degree}`);
  if (keyLength !== 16 && keyLength !== 32) refuse(`keys of ${keyLength} octets`);
  if (!Number.isInteger(largestId) || largestId < 1 || largestId >= MAX_NODES) refuse(`largest id ${largestId}`);
  if (!Number.isInteger(leaf) || leaf < 1 || leaf > largestId || leftmostLeaf(arity, largestId + 1, leaf) !== leaf) {
    refuse(`${leaf} is no leaf`);
  }
  if (leafKey.length !== keyLength || path.some(({ key }) => key.length !== keyLength)) refuse("a key of another length");
}
