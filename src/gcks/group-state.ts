/** A group as its steps have made it: members, tree, keys. The same steps make the same group, live and after a restart. */
import { concatBytes, parseHex, Reader, utf8, utf8Text, WatchwordError, Writer, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import { createKeyTree, type KeyTree, type PreparedAdmission, type PreparedRekey, restoreKeyTree } from "../gkma/index.js";
import { type DataKey, type GroupConstants, heldGroupKey, wipeDataKeys } from "../gsa/index.js";
import type { Endpoint } from "../io/index.js";
import { suiteOf } from "../srtp/index.js";
import type { GroupDefinition } from "./definition.js";
import { type GroupBirth, type GroupStep, parse, type SenderPosition, stringify } from "./ledger.js";
import { type Member, Roster, readMember, writeMember } from "./members.js";
import { MOST_UNWRITTEN, type Report } from "./reports.js";

/** A key of the group as proofs of possession name it, kept in place of the key (docs/protocol.md §19). */
export interface HeldEpoch {
  readonly kind: "kek" | "data";
  readonly spi: number;
  readonly g: Uint8Array;
  /** Of a data key. */
  readonly dataSa?: number;
  /** Sequence up to which it was in use; undefined while it is. */
  retiredIn: number | undefined;
}

/** docs/protocol.md §21: epochs whose `g` is kept, of the KEK and of each data SA. */
const EPOCHS = 64;
/** Label of what data keys derive from a step's seed by; nobody but the key server computes it. */
const DATA_KEY = utf8("gcks data");
const ROUNDS = 4;

/** What a step will do to the tree and the keys, before it is durable. */
export interface PreparedStep {
  readonly step: GroupStep;
  readonly tree: PreparedRekey | PreparedAdmission | undefined;
  readonly dataKeys: readonly DataKey[];
  /** Numbers of who is admitted, in order. */
  readonly numbers: readonly number[];
  /** Takes the step. @param at when, by what lifetimes go by. Default: as the step says */
  commit(at?: number): void;
  drop(): void;
}

/** A sender as it last reported, and who it is. */
export interface Sender extends SenderPosition {
  readonly member: Member | undefined;
}

/** Format of a snapshot. */
const SNAPSHOT = 2;
/** Members whose part of a snapshot is made at a stretch. */
const STRETCH = 4096;
/** Octets of a member in a snapshot, about. */
const MEMBER_OCTETS = 224;

export class GroupState {
  readonly constants: GroupConstants;
  readonly members = new Roster();
  readonly senders = new Map<number, Sender>();
  /** Where members are reached by unicast UDP, by number: nobody tells a key server that starts again. */
  readonly addresses = new Map<number, Endpoint>();
  readonly #crypto: CryptoProvider;
  readonly #definition: GroupDefinition;
  readonly #birth: GroupBirth;
  /** Leaves of members who have left, and their numbers, until the next rekey. */
  readonly #departed = new Map<number, number>();
  #tree: KeyTree | undefined;
  #dataKeys: DataKey[] = [];
  #epochs: HeldEpoch[] = [];
  #sequence = 0;
  #ended = false;
  #treeAt = 0;
  #dataKeysAt = 0;

  constructor(crypto: CryptoProvider, definition: GroupDefinition, birth: GroupBirth) {
    this.#crypto = crypto;
    this.#definition = definition;
    this.#birth = birth;
    this.constants = { group: definition.group, csbId: birth.csbId, rand: birth.rand };
    const { rekey } = definition;
    if (rekey !== undefined) {
      this.#tree = createKeyTree({
        crypto,
        algorithm: rekey.algorithm,
        keyLength: rekey.keyLength,
        ...(rekey.algorithm === "none" ? {} : { degree: rekey.degree }),
      });
    }
  }

  get tree(): KeyTree | undefined {
    return this.#tree;
  }

  /** Keys in force, one for each data SA that has one. */
  get dataKeys(): readonly DataKey[] {
    return this.#dataKeys;
  }

  /** Of the last message; 0 before the first. */
  get sequence(): number {
    return this.#sequence;
  }

  /** When the KEK was last replaced. */
  get treeAt(): number {
    return this.#treeAt;
  }

  /** When all data keys were last replaced. */
  get dataKeysAt(): number {
    return this.#dataKeysAt;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** How many have left and still have their leaf, until the next rekey. */
  get departed(): number {
    return this.#departed.size;
  }

  /** Whether there is a KEK, and so somebody who could receive a rekey message. */
  get hasKek(): boolean {
    return this.#tree !== undefined && this.#tree.version > 0;
  }

  /** SPI of the KEK in force: the version of the tree. */
  get kekSpi(): number | undefined {
    return this.hasKek ? this.#tree?.version : undefined;
  }

  /** `g` of a key that was in use at or after an admission (docs/protocol.md §19). */
  held(kind: HeldEpoch["kind"], spi: number, admittedIn: number): Uint8Array | undefined {
    const epoch = this.#epochs.find((candidate) => candidate.kind === kind && candidate.spi === spi);
    return epoch !== undefined && (epoch.retiredIn === undefined || epoch.retiredIn > admittedIn) ? epoch.g : undefined;
  }

  /** The SSRC of a number that was reserved: a keyed permutation, so that none comes twice (docs/protocol.md §15.5). */
  ssrcOf(counter: number): number {
    let left = counter >>> 16;
    let right = counter & 0xffff;
    const hmac = this.#crypto.hmac("sha256", this.#birth.ssrcKey);
    for (let round = 0; round < ROUNDS; round++) {
      const mixed = hmac.compute(Uint8Array.of(round, right >>> 8, right & 0xff));
      [left, right] = [right, left ^ (((mixed[0] as number) << 8) | (mixed[1] as number))];
    }
    hmac.wipe();
    return ((left << 16) | right) >>> 0;
  }

  /** Computes a step. Nothing changes before `commit`. @throws WatchwordError of `gkma`, `gcks.ledger` */
  prepare(step: GroupStep): PreparedStep {
    const change = this.#treeChange(step);
    if (change === undefined) return this.#prepared(step, undefined);
    const { tree, admissions, membership, inputs } = change;
    const { seed } = inputs;
    return this.#prepared(step, admissions > 0 ? tree.prepareAdmission(admissions, seed) : tree.prepareRekey(membership, inputs));
  }

  /** The same with pauses where it takes long, in which nothing may change. @param pause waits for others' turns */
  async prepareInTurns(step: GroupStep, pause: () => Promise<void>): Promise<PreparedStep> {
    const change = this.#treeChange(step);
    if (change === undefined || change.admissions > 0) return this.prepare(step);
    return this.#prepared(step, await change.tree.prepareRekeyInTurns(change.membership, change.inputs, pause));
  }

  #prepared(step: GroupStep, prepared: PreparedStep["tree"]): PreparedStep {
    const { rekey, admit = [] } = step;
    const numbers = step.numbers ?? [];
    const leaves = prepared === undefined ? numbers : [...("admitted" in prepared ? prepared.admitted : prepared.joined)];
    if (numbers.length !== admit.length || leaves.length !== admit.length)
      throw new WatchwordError("gcks.ledger", "members without a place");
    const dataKeys = rekey === undefined ? [] : rekey.dataKeys.map(({ dataSa, mki }) => this.#dataKey(rekey.seed, dataSa, mki));
    return {
      step,
      tree: prepared,
      dataKeys,
      numbers,
      commit: (at = step.at) => this.#commit(step, at, prepared, leaves, dataKeys),
      drop: () => {
        prepared?.drop();
        if (prepared !== undefined && "groupKey" in prepared) wipe(prepared.groupKey);
        wipeDataKeys(dataKeys);
      },
    };
  }

  /**
   * Everything, the tree included, secrets in the clear. Nothing may change before it resolves.
   * @param pause waits for others' turns: a million members take a while
   * @param ahead by how much the wall clock, which times are written by, is ahead of the one that they are kept by
   */
  async snapshot(pause: () => Promise<void>, ahead = 0): Promise<Uint8Array> {
    const tree = this.#tree?.snapshot() ?? new Uint8Array(0);
    const head = {
      birth: this.#birth,
      sequence: this.#sequence,
      ended: this.#ended,
      treeAt: this.#treeAt + ahead,
      dataKeysAt: this.#dataKeysAt + ahead,
      dataKeys: this.#dataKeys,
      epochs: this.#epochs,
      departed: [...this.#departed].map(([leaf, number]) => ({ number, leaf })),
    } satisfies SnapshotHead;
    const content = utf8(stringify(head));
    const writer = new Writer("ledger", content.length + tree.length + MEMBER_OCTETS * (this.members.size + 4));
    writer.u8("format", SNAPSHOT);
    writer.u32("length", content.length);
    writer.bytes(content);
    writer.u32("members", this.members.size);
    let written = 0;
    for (const member of this.members) {
      writeMember(writer, member, ahead);
      if (++written % STRETCH === 0) await pause();
    }
    writer.u32("senders", this.senders.size);
    for (const { ssrc, roc, seq } of this.senders.values()) {
      writer.u32("ssrc", ssrc);
      writer.u32("roc", roc);
      writer.u16("seq", seq);
    }
    writer.u32("addresses", this.addresses.size);
    for (const [number, { host, port }] of this.addresses) {
      const name = utf8(host);
      writer.u32("number", number);
      writer.u16("port", port);
      writer.u8("host", name.length);
      writer.bytes(name);
    }
    writer.u32("tree", tree.length);
    writer.bytes(tree);
    wipe(tree);
    return writer.finish();
  }

  /** The group of a snapshot. @throws WatchwordError `gcks.ledger`, `gkma.snapshot`; CodecError */
  static restore(crypto: CryptoProvider, definition: GroupDefinition, snapshot: Uint8Array): GroupState {
    const reader = new Reader(snapshot, "ledger");
    if (reader.u8("format") !== SNAPSHOT) throw new WatchwordError("gcks.ledger", "a snapshot of another version");
    const head = parse(utf8Text(reader.bytes("content", reader.u32("length"))) ?? "") as SnapshotHead;
    const group = new GroupState(crypto, definition, head.birth);
    group.#sequence = head.sequence;
    group.#ended = head.ended;
    group.#treeAt = head.treeAt;
    group.#dataKeysAt = head.dataKeysAt;
    group.#dataKeys = [...head.dataKeys];
    group.#epochs = [...head.epochs];
    for (const { number, leaf } of head.departed) group.#departed.set(leaf, number);
    for (let left = reader.u32("members"); left > 0; left--) readMember(reader, group.members);
    const positions = Array.from({ length: reader.u32("senders") }, () => ({
      ssrc: reader.u32("ssrc"),
      roc: reader.u32("roc"),
      seq: reader.u16("seq"),
    }));
    if (positions.length > 0) {
      const members = bySsrc(group.members);
      for (const position of positions) group.senders.set(position.ssrc, { ...position, member: members.get(position.ssrc) });
    }
    for (let left = reader.u32("addresses"); left > 0; left--) {
      const number = reader.u32("number");
      const port = reader.u16("port");
      group.addresses.set(number, { host: utf8Text(reader.bytes("host", reader.u8("host"))) ?? "", port });
    }
    const tree = reader.bytes("tree", reader.u32("tree"));
    reader.expectEnd();
    if (tree.length > 0) group.#tree = restoreKeyTree(crypto, tree);
    return group;
  }

  /** Takes a report that needs no record. @param at by the clock of the group */
  take({ number, senders }: Report, at: number): void {
    const member = this.members.get(number);
    if (member === undefined) return;
    member.renewedAt = at;
    for (const position of senders) this.senders.set(position.ssrc, { ...position, member });
  }

  /** What comes out of a store: nothing in it is later than `now`, and some reports are not in it. */
  restored(now: number): void {
    this.#treeAt = Math.min(this.#treeAt, now);
    this.#dataKeysAt = Math.min(this.#dataKeysAt, now);
    for (const member of this.members) {
      member.admittedAt = Math.min(member.admittedAt, now);
      member.renewedAt = Math.min(member.renewedAt, now);
      member.repeatableBelow = member.counter + MOST_UNWRITTEN;
    }
  }

  wipe(): void {
    this.#tree?.wipe();
    wipeDataKeys(this.#dataKeys);
    this.members.wipe();
    for (const { g } of this.#epochs) wipe(g);
  }

  /** What a step does to the tree; undefined for nothing. */
  #treeChange(step: GroupStep) {
    const { rekey, admit = [], leave = [] } = step;
    const tree = this.#tree;
    if (rekey === undefined || rekey.keepTree === true || tree === undefined) return undefined;
    const isAdmission = rekey.admissionOnly === true;
    const leaves = [...this.#departed.keys(), ...leave.flatMap((number) => this.members.get(number)?.leaf ?? [])];
    return {
      tree,
      /** How many get leaves without a rekey. */
      admissions: isAdmission ? admit.length : 0,
      membership: { leave: leaves, join: admit.length, ...(rekey.replace === true ? { replace: true } : {}) },
      inputs: { version: rekey.sequence, seed: parseHex(rekey.seed) },
    };
  }

  #commit(
    step: GroupStep,
    at: number,
    prepared: PreparedStep["tree"],
    leaves: readonly number[],
    dataKeys: readonly DataKey[],
  ): void {
    const { rekey, numbers = [] } = step;
    prepared?.commit();
    const rekeyed = prepared !== undefined && !("admitted" in prepared);
    for (const number of step.leave ?? []) this.#depart(number, rekeyed || this.#tree === undefined);
    if (rekeyed) {
      this.#treeAt = at;
      this.#departed.clear();
    }
    if (prepared !== undefined) this.#move(prepared.moved);
    if (rekey !== undefined) {
      if (rekey.admissionOnly !== true) this.#sequence = rekey.sequence;
      if (rekeyed) {
        this.#hold({ kek: { spi: rekey.sequence, key: prepared.groupKey } }, "kek", rekey.sequence);
        wipe(prepared.groupKey);
      }
      if (dataKeys.length > 0) this.#dataKeysAt = at;
      this.#replaceDataKeys(dataKeys);
    }
    (step.admit ?? []).forEach((member, index) => {
      this.members.add(member, {
        number: numbers[index] as number,
        leaf: leaves[index] as number,
        admittedIn: this.#sequence,
        admittedAt: at,
        state: "provisional",
        counter: 0,
        renewedAt: at,
      });
    });
    for (const { number, keys } of step.bind ?? []) this.members.get(number)?.bind(keys);
    for (const { number, counter, address } of step.confirm ?? []) {
      const member = this.members.get(number);
      if (member === undefined) continue;
      member.state = "confirmed";
      member.counter = Math.max(member.counter, counter);
      member.writtenCounter = counter;
      member.renewedAt = at;
      if (address !== undefined) this.addresses.set(number, address);
    }
    for (const number of step.lapse ?? []) {
      const member = this.members.get(number);
      // Whoever has to confirm yet has no more time for it by that.
      if (member?.state === "confirmed") member.state = "lapsing";
      this.addresses.delete(number);
    }
    if (step.senders !== undefined) {
      // Whoever says where a sender is in a step is confirmed by it.
      const reporters = (step.confirm ?? []).flatMap(({ number }) => this.members.get(number) ?? []);
      const members = bySsrc(reporters);
      for (const sender of step.senders) this.senders.set(sender.ssrc, { ...sender, member: members.get(sender.ssrc) });
    }
    if (step.end === true) this.#ended = true;
  }

  #depart(number: number, leafIsFree: boolean): void {
    const member = this.members.get(number);
    if (member === undefined) return;
    for (const ssrc of member.ssrcs) this.senders.delete(ssrc);
    this.members.remove(member);
    this.addresses.delete(number);
    if (!leafIsFree) this.#departed.set(member.leaf, number);
  }

  /** Leaves that have another id now, whether somebody is there or has left (RFC 4046 §5.8). */
  #move(moved: Uint32Array): void {
    this.members.move(moved);
    if (this.#departed.size === 0) return;
    for (let i = 0; i + 1 < moved.length; i += 2) {
      const leaf = moved[i] as number;
      const number = this.#departed.get(leaf);
      if (number === undefined) continue;
      this.#departed.delete(leaf);
      this.#departed.set(moved[i + 1] as number, number);
    }
  }

  #replaceDataKeys(keys: readonly DataKey[]): void {
    for (const key of keys) {
      const old = this.#dataKeys.findIndex(({ dataSa }) => dataSa === key.dataSa);
      if (old >= 0) wipeDataKeys(this.#dataKeys.splice(old, 1));
      this.#dataKeys.push(key);
      this.#hold({ dataKey: key }, "data", key.mki, key.dataSa);
    }
  }

  /** Keeps `g` of a key in place of it. */
  #hold(proven: Parameters<typeof heldGroupKey>[2], kind: HeldEpoch["kind"], spi: number, dataSa?: number): void {
    for (const epoch of this.#epochs) {
      if (epoch.kind === kind && epoch.dataSa === dataSa && epoch.retiredIn === undefined) epoch.retiredIn = this.#sequence;
    }
    const { g } = heldGroupKey(this.#crypto, this.constants, proven);
    this.#epochs.push({ kind, spi, g, retiredIn: undefined, ...(dataSa === undefined ? {} : { dataSa }) });
    const ofKind = this.#epochs.filter((epoch) => epoch.kind === kind && epoch.dataSa === dataSa);
    for (const old of ofKind.slice(0, Math.max(0, ofKind.length - EPOCHS))) {
      wipe(old.g);
      this.#epochs.splice(this.#epochs.indexOf(old), 1);
    }
  }

  /** A key of a data SA from the seed of the step that makes it. */
  #dataKey(seed: string, dataSa: number, mki: number): DataKey {
    const policy = this.#definition.data.find(({ number }) => number === dataSa);
    if (policy === undefined) throw new WatchwordError("gcks.ledger", `the group has no data SA ${dataSa}`);
    const { keyLength, saltLength } = suiteOf(policy.srtp.suite);
    const secret = parseHex(seed);
    const hmac = this.#crypto.hmac("sha256", secret);
    const derive = (part: number, octets: number): Uint8Array => {
      const context = new Uint8Array(6);
      const view = new DataView(context.buffer);
      view.setUint8(0, part);
      view.setUint8(1, dataSa);
      view.setUint32(2, mki);
      return hmac.compute(concatBytes(DATA_KEY, context)).slice(0, octets);
    };
    const key = derive(0, policy.arrangement === "shared" ? keyLength : keyLength > 16 ? 32 : 16);
    const made: DataKey = { dataSa, mki, key, ...(policy.arrangement === "shared" ? { salt: derive(1, saltLength) } : {}) };
    hmac.wipe();
    wipe(secret);
    return made;
  }
}

function bySsrc(members: Iterable<Member>): ReadonlyMap<number, Member> {
  const found = new Map<number, Member>();
  for (const member of members) for (const ssrc of member.ssrcs) found.set(ssrc, member);
  return found;
}

/** What of a snapshot is text: what does not grow with the members. */
interface SnapshotHead {
  readonly birth: GroupBirth;
  readonly sequence: number;
  readonly ended: boolean;
  readonly treeAt: number;
  readonly dataKeysAt: number;
  readonly dataKeys: readonly DataKey[];
  readonly epochs: readonly HeldEpoch[];
  readonly departed: readonly { readonly number: number; readonly leaf: number }[];
}
