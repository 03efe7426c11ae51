import type { CryptoProvider } from "../crypto/index.js";

/**
 * The group key management algorithms (RFC 4046 §5.6, §6.2.1), by the name that is on the wire (§5.8).
 *
 * - `none`: a rekey is the group key, wrapped for each member alone. For small groups.
 * - `lkh`: a logical key hierarchy (RFC 2627 §5.4). Every key on the path of who joins or leaves is replaced, and wrapped for each child.
 * - `lkh+`: the same, but a join replaces a key by a one-way function of itself, which costs no wrap, wherever nobody who
 *   departed knows it: where the same change has no departure below it.
 * - `ofc`: a one-way function chain. On the path of who joins or leaves, each secret is a one-way function of the one below it, so
 *   that it is wrapped only for the other children: (k - 1)d wraps where LKH needs kd - 1.
 */
export const GKMA_NAMES = ["none", "lkh", "lkh+", "ofc"] as const;
export type GkmaName = (typeof GKMA_NAMES)[number];

/** Version of all algorithms here (RFC 4046 §5.8): layout of the tree, derivations, order of edges. */
export const GKMA_VERSION = 1;

/** What both ends know of a tree besides its keys. */
export interface KeyTreeShape {
  readonly algorithm: GkmaName;
  /** Children of a node, 2 to 255. `none` has one node above all leaves, and 0 here. */
  readonly degree: number;
  /** Octets of every key of the tree, the group key included. */
  readonly keyLength: 16 | 32;
}

/** Octets of the child id in front of a wrapped key. */
export const CHILD_ID_OCTETS = 4;

/** Octets of one edge: the id of the child, then the parent's key wrapped under the child's (RFC 5649 adds 8). */
export function edgeOctets(keyLength: number): number {
  return CHILD_ID_OCTETS + keyLength + 8;
}

/**
 * Ids from 0 (the root) to `largestId`, in heap order: the children of node i are k·i + 1 to k·i + k. An id without children within
 * `largestId` is a leaf, except for the root. A tree grows by one leaf as follows: where the last parent has room for one more child, by that
 * child; otherwise by two, the children of the first leaf, and whoever had that leaf now has the first of the two. So a member knows from
 * `largestId` alone how its own id has changed (RFC 4046 §5.8): as long as the id has children, it is replaced by the first of them.
 */
export interface TreeExtent {
  readonly largestId: number;
}

/** Who joins and who leaves, in one step. At least one part says something. */
export interface MembershipChange {
  /** Leaves whose members leave or are expelled, without duplicates. */
  readonly leave?: ArrayLike<number>;
  /** How many join and are told their path by a download of their own. */
  readonly join?: number;
  /** Replaces every key above the leaves, whoever knows them. */
  readonly replace?: boolean;
}

/** What a change needs besides itself; the change and these two, replayed on the same tree, give the same keys and the same edges. */
export interface RekeyInputs {
  /** Sequence number of the change: 32 bits, greater than the tree's version. It may skip. */
  readonly version: number;
  /** 32 random octets, used for no other change. All new keys of the change derive from them. */
  readonly seed: Uint8Array;
}

/** Part of a rekey, for one packet: it holds all that the members of its leaves need. */
export interface RekeyPart extends TreeExtent {
  readonly version: number;
  /** Version of the tree before this change. */
  readonly previous: number;
  /**
   * The leaves that this part is for, both included. They count in the order of the tree from left to right: the leaves of the deepest level in
   * ascending order, then those of the level above in ascending order; `first` is greater than `last` where the part has leaves of both levels.
   */
  readonly first: number;
  readonly last: number;
  /** Edges one after the other, each `edgeOctets(keyLength)` long. */
  readonly edges: Uint8Array;
  /** Nodes whose key is replaced by a one-way function of itself (`lkh+` only), 4 octets each. */
  readonly refreshed: Uint8Array;
}

/** A step that was computed but not taken. It changes nothing until it is committed, and may simply be dropped. */
interface PreparedStep extends TreeExtent {
  /** Pairs of old and new id of the members that get another leaf, in the order of the old ids (RFC 4046 §5.8). */
  readonly moved: Uint32Array;
  /** Takes the step. Call it once what a replay needs is durable. @throws WatchwordError `gkma.stale` if another step was taken, or this one is over */
  commit(): void;
  /** Wipes what was computed. */
  drop(): void;
}

/** Leaves given away, without a rekey: each new member knows its leaf key, and its path is wrapped for it in the next rekey. */
export interface PreparedAdmission extends PreparedStep {
  /** The new members' leaves. */
  readonly admitted: Uint32Array;
}

/** A rekey, before it is committed. */
export interface PreparedRekey extends PreparedStep {
  readonly version: number;
  readonly previous: number;
  /** Leaves of those who join, in ascending order of joining; downloads are to be had from the tree after the commit. */
  readonly joined: Uint32Array;
  /** The new group key: the key encryption key of the rekey SA of this version. The tree keeps its own. */
  readonly groupKey: Uint8Array;
  /** Wrapped keys in the whole rekey, each counted once. */
  readonly wraps: number;
  /** Keys replaced by a one-way function of themselves. */
  readonly refreshes: number;
  /**
   * The rekey in parts, in the order of the leaves from left to right, at least one. Together they are for all leaves. Keys are wrapped as they are
   * asked for, each once per pass, so that a long rekey can be made bit by bit. To be used before commit or drop.
   * @param limit octets of edges and refreshed ids in one part; without it there is one part
   * @throws WatchwordError `gkma.part-size` if not even the edges of one leaf fit; `gkma.stale` after commit or drop
   */
  parts(limit?: number): IterableIterator<RekeyPart>;
}

/** A node's key, as a member is told it. */
export interface NodeKey {
  readonly node: number;
  readonly key: Uint8Array;
}

/**
 * What a member is told about its place in the tree, under a key that it shares with the key server alone. It holds no key of an epoch that
 * began before the member's admission.
 */
export interface PathDownload extends KeyTreeShape, TreeExtent {
  readonly version: number;
  readonly leaf: number;
  readonly leafKey: Uint8Array;
  /** Keys of the nodes above the leaf, from its parent to the root, whose key is the group key. Empty before the first rekey after an admission. */
  readonly path: readonly NodeKey[];
}

/** The key server's tree. Keys that it returns are copies, the caller's to wipe. */
export interface KeyTree extends KeyTreeShape, TreeExtent {
  /** Version of the last rekey that was committed; 0 before the first. */
  readonly version: number;
  /** Members, admitted ones included. */
  readonly members: number;
  /** Admitted members that no rekey has included yet. */
  readonly pending: number;
  /** Octets of memory of all keys, versions and ids. */
  readonly byteLength: number;
  /** Whether somebody has this leaf. */
  has(leaf: number): boolean;
  /** Gives leaves to `count` new members. @throws WatchwordError `gkma.change`, `gkma.seed`, `gkma.full` */
  prepareAdmission(count: number, seed: Uint8Array): PreparedAdmission;
  /**
   * Computes a rekey. Members admitted before it are included.
   * @throws WatchwordError `gkma.change`, `gkma.version`, `gkma.seed`, `gkma.leaf`, `gkma.full`
   */
  prepareRekey(change: MembershipChange, inputs: RekeyInputs): PreparedRekey;
  /**
   * The same, with pauses while a long one is computed: one for every few thousand keys, none in a short one.
   * @param pause waits for others' turns. Whoever changes the tree in one makes this reject with `gkma.stale`
   * @throws (rejects) WatchwordError as `prepareRekey`; `gkma.stale`
   */
  prepareRekeyInTurns(change: MembershipChange, inputs: RekeyInputs, pause: () => Promise<void>): Promise<PreparedRekey>;
  /** A copy of the group key of the last committed rekey. @throws WatchwordError `gkma.version` before the first */
  groupKey(): Uint8Array;
  /** For one who joined, or who has to be resynchronised. @throws WatchwordError `gkma.leaf` */
  download(leaf: number): PathDownload;
  /** The whole tree, secrets included, to be sealed by the caller. `restoreKeyTree` makes it a tree again. */
  snapshot(): Uint8Array;
  wipe(): void;
}

export interface KeyTreeOptions {
  readonly crypto: CryptoProvider;
  readonly algorithm: GkmaName;
  /** 2 by default. @throws WatchwordError `gkma.option` */
  readonly degree?: number;
  /** Octets; 16 by default. @throws WatchwordError `gkma.option` */
  readonly keyLength?: 16 | 32;
  /** How many members to set memory aside for. The tree grows beyond it. */
  readonly capacity?: number;
}

/**
 * What became of a part of a rekey.
 *
 * - `applied`: the member has the keys of this version; all keys that they replace are wiped.
 * - `old`: nothing new.
 * - `elsewhere`: another part of this rekey is for the member's leaf, `leaf`.
 * - `missing`: the member lacks keys that the part takes for granted. It has missed a rekey and has to be resynchronised.
 *
 * Nothing changes unless the part is applied.
 */
export type PathUpdate =
  | { readonly kind: "applied"; readonly groupKey: Uint8Array }
  | { readonly kind: "old" }
  | { readonly kind: "elsewhere"; readonly leaf: number }
  | { readonly kind: "missing" };

/** A member's keys: those of its leaf and of all nodes above it. Whoever calls has authenticated what it passes in. */
export interface KeyPath extends KeyTreeShape, TreeExtent {
  readonly version: number;
  readonly leaf: number;
  /** Keys that are held (RFC 2627 Table 1: d + 1). */
  readonly keys: number;
  /** A copy of the group key, undefined before the first rekey after an admission. */
  groupKey(): Uint8Array | undefined;
  /** Whether a part is for this leaf. Nobody need have authenticated it: nothing follows but whether it is worth being judged. */
  concerns(part: Pick<RekeyPart, "largestId" | "first" | "last">): boolean;
  /**
   * @param accepts judges what comes with the part by the new group key, which is not its to keep; where it is not content nothing changes, and the
   *   part counts as `missing`
   * @throws WatchwordError `gkma.part` for a part that no key server makes
   */
  apply(part: RekeyPart, accepts?: (groupKey: Uint8Array) => boolean): PathUpdate;
  wipe(): void;
}
