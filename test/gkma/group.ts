import { formatHex } from "../../src/bytes/index.js";
import type { CryptoProvider } from "../../src/crypto/index.js";
import {
  createKeyPath,
  createKeyTree,
  type GkmaName,
  type KeyPath,
  type KeyTree,
  type MembershipChange,
  type PathDownload,
  type PathUpdate,
  type PreparedRekey,
  type RekeyPart,
  restoreKeyTree,
} from "../../src/gkma/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";

/** An algorithm with a degree and a length of keys. */
export interface Variant {
  readonly algorithm: GkmaName;
  readonly degree?: number;
  readonly keyLength?: 16 | 32;
}

/** Every algorithm, in the degrees and lengths that tell their code apart. */
export const VARIANTS: readonly Variant[] = [
  { algorithm: "none" },
  { algorithm: "lkh", degree: 2 },
  { algorithm: "lkh", degree: 3, keyLength: 32 },
  { algorithm: "lkh", degree: 4 },
  { algorithm: "lkh", degree: 8 },
  { algorithm: "lkh+", degree: 2 },
  { algorithm: "lkh+", degree: 3, keyLength: 32 },
  { algorithm: "ofc" },
  { algorithm: "ofc", keyLength: 32 },
  { algorithm: "ofc", degree: 3 },
];

export function variantName({ algorithm, degree, keyLength }: Variant): string {
  return [algorithm, degree && `degree ${degree}`, keyLength === 32 && "256 bits"].filter(Boolean).join(", ");
}

/** 32 octets that no other number gives. */
export function seedOf(number: number): Uint8Array {
  const seed = new Uint8Array(32).fill(0x5e);
  new DataView(seed.buffer).setUint32(0, number);
  return seed;
}

export interface Member {
  readonly number: number;
  leaf: number;
  readonly path: KeyPath;
}

/** What was done to the tree: replayed on a snapshot from before, it gives the same tree. */
export type LogRecord =
  | { readonly kind: "admission"; readonly count: number; readonly seed: Uint8Array }
  | { readonly kind: "rekey"; readonly change: MembershipChange; readonly version: number; readonly seed: Uint8Array };

export interface Rekeyed {
  readonly rekey: PreparedRekey;
  readonly parts: readonly RekeyPart[];
  readonly joined: readonly Member[];
  readonly left: readonly Member[];
}

/** A key tree and its members, who are who they are while their leaves change. */
export class Group {
  readonly members = new Map<number, Member>();
  readonly log: LogRecord[] = [];
  tree: KeyTree;
  readonly #crypto: CryptoProvider;
  readonly #onDownload: (member: number, download: PathDownload) => void;
  #seeds = 0;
  #numbers = 0;

  constructor(variant: Variant, crypto = nodeCrypto, onDownload: (member: number, download: PathDownload) => void = () => {}) {
    this.#crypto = crypto;
    this.#onDownload = onDownload;
    this.tree = createKeyTree({ crypto, ...variant });
  }

  /** In the order in which they came. */
  get everybody(): Member[] {
    return [...this.members.values()];
  }

  admit(count: number): Member[] {
    const seed = seedOf(++this.#seeds);
    const admission = this.tree.prepareAdmission(count, seed);
    const { moved, admitted } = admission;
    admission.commit();
    this.log.push({ kind: "admission", count, seed });
    this.#move(moved);
    return Array.from(admitted, (leaf) => this.#enrol(leaf));
  }

  /** Changes the tree; what the members do with the parts is the caller's matter. */
  rekey(change: { leave?: readonly Member[]; join?: number; replace?: boolean }, { limit = 1000, skip = 1 } = {}): Rekeyed {
    const seed = seedOf(++this.#seeds);
    const version = this.tree.version + skip;
    const { leave: left = [], ...rest } = change;
    const leave = left.map(({ leaf }) => leaf);
    const rekey = this.tree.prepareRekey({ leave, ...rest }, { version, seed });
    const parts = [...rekey.parts(limit)];
    rekey.commit();
    this.log.push({ kind: "rekey", change: { leave, ...rest }, version, seed });
    for (const { number } of left) this.members.delete(number);
    this.#move(rekey.moved);
    const joined = Array.from(rekey.joined, (leaf) => this.#enrol(leaf));
    return { rekey, parts, joined, left };
  }

  /** As after a lost rekey: the member is told its place again. */
  resynchronise(member: Member): Member {
    this.members.delete(member.number);
    return this.#enrol(member.leaf, member.number);
  }

  /** As after a crash: a tree from a snapshot, and what happened since. */
  restore(snapshot: Uint8Array, records: readonly LogRecord[]): KeyTree {
    const tree = restoreKeyTree(this.#crypto, snapshot);
    for (const record of records) {
      if (record.kind === "admission") tree.prepareAdmission(record.count, record.seed).commit();
      else tree.prepareRekey(record.change, record).commit();
    }
    return tree;
  }

  #move(moved: Uint32Array): void {
    const byLeaf = new Map(this.everybody.map((member) => [member.leaf, member]));
    for (let i = 0; i < moved.length; i += 2) (byLeaf.get(moved[i] as number) as Member).leaf = moved[i + 1] as number;
  }

  #enrol(leaf: number, number = ++this.#numbers): Member {
    const download = this.tree.download(leaf);
    this.#onDownload(number, download);
    const member = { number, leaf, path: createKeyPath(nodeCrypto, download) };
    this.members.set(number, member);
    return member;
  }
}

/** What became of a rekey at one member that gets every part, in their order. */
export function applyAll(path: KeyPath, parts: readonly RekeyPart[]): PathUpdate["kind"][] {
  return parts.map((part) => path.apply(part).kind);
}

/** For messages of failed expectations: a key as text. */
export function hex(key: Uint8Array | undefined): string {
  return key === undefined ? "none" : formatHex(key);
}
