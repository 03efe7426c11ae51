/** The members of a group, in as little memory as a million of them can live with. */
import { type Reader, utf8, utf8Text, WatchwordError, type Writer, wipe } from "../bytes/index.js";
import type { MemberRole } from "../gsa/index.js";
import type { Identity } from "../mikey/index.js";
import type { AdmittedMember, MemberKeys } from "./ledger.js";

const STATES = ["provisional", "confirmed", "lapsing"] as const;
export type MembershipState = (typeof STATES)[number];

/** The four roles, each once. */
const ROLES = [0, 1, 2, 3].map((bits): MemberRole => ({ send: (bits & 1) !== 0, receive: (bits & 2) !== 0 }));

function roleNumber({ send, receive }: MemberRole): number {
  return (send ? 1 : 0) + (receive ? 2 : 0);
}

/** What is known of a member beside its identity, role and keys. */
export interface MemberFacts {
  /** Nobody else's in the group's life: what is said of a membership that has ended is never taken for another one. */
  readonly number: number;
  /** Its leaf of now. */
  readonly leaf: number;
  /** Sequence at its admission: proofs name keys that were in use since. */
  readonly admittedIn: number;
  /** By the clock of its group, which nobody sets (`GroupLog.time`). */
  readonly admittedAt: number;
  readonly state: MembershipState;
  /** Counter of the last report. */
  readonly counter: number;
  /** When it was last heard of: the lifetime counts from there. */
  readonly renewedAt: number;
}

/** A membership (docs/protocol.md §20.1). */
export class Member {
  readonly number: number;
  leaf: number;
  readonly admittedIn: number;
  admittedAt: number;
  state: MembershipState;
  counter: number;
  /** Counter of the last report that was written. */
  writtenCounter: number;
  /** Reports up to this counter, not included, may be of before a restart, and sent again by anybody: they name no other address. */
  repeatableBelow: number;
  renewedAt: number;
  readonly role: MemberRole;
  /** By number of the m= line, from 1. */
  readonly ssrcs: readonly number[];
  readonly #idType: number;
  /** Text wherever it is some: it takes a quarter of the memory of octets. */
  readonly #identity: string | Uint8Array;
  readonly #vault: KeyVault;
  /** Its place in the vault; -1 until the exchange is complete. */
  #place = -1;

  constructor(vault: KeyVault, { identity, role, ssrcs }: AdmittedMember, facts: MemberFacts) {
    this.number = facts.number;
    this.leaf = facts.leaf;
    this.admittedIn = facts.admittedIn;
    this.admittedAt = facts.admittedAt;
    this.state = facts.state;
    this.counter = facts.counter;
    this.writtenCounter = facts.counter;
    this.repeatableBelow = 0;
    this.renewedAt = facts.renewedAt;
    this.role = ROLES[roleNumber(role)] as MemberRole;
    // A copy is as long as it has to be; a list that was filled bit by bit has room for more.
    this.ssrcs = ssrcs.slice();
    this.#idType = identity.idType;
    this.#identity = utf8Text(identity.data) ?? identity.data.slice();
    this.#vault = vault;
  }

  /** As text, for policies and logs; empty where it is none. */
  get name(): string {
    return typeof this.#identity === "string" ? this.#identity : "";
  }

  get identity(): Identity {
    return { idType: this.#idType, data: typeof this.#identity === "string" ? utf8(this.#identity) : this.#identity };
  }

  get isBound(): boolean {
    return this.#place >= 0;
  }

  /** Undefined until the exchange is complete. Views of what is kept, zeros once the membership ends: not to be held beyond a turn. */
  get keys(): MemberKeys | undefined {
    return this.#place < 0 ? undefined : this.#vault.at(this.#place);
  }

  /** Keeps a copy. @throws WatchwordError `gcks.ledger` */
  bind(keys: MemberKeys): void {
    this.wipe();
    this.#place = this.#vault.put(keys);
  }

  wipe(): void {
    if (this.#place >= 0) this.#vault.drop(this.#place);
    this.#place = -1;
  }
}

/** Octets of TH, K_pop, K_down and K_up. */
const KEY = 32;
/** Where they begin: flag, PRF func, CSB ID and T stand before them. */
const FIRST_KEY = 16;
const PLACE_OCTETS = FIRST_KEY + 4 * KEY;
const PLACES = 1024;

/** The keys of members, many in one piece of memory: as objects they would take ten times as much. */
export class KeyVault {
  readonly #chunks: Uint8Array[] = [];
  readonly #free: number[] = [];
  #end = 0;

  put({ memberInitiated, prfFunc, csbId, t, transcript, proofKey, downKey, upKey }: MemberKeys): number {
    const keys = [transcript, proofKey, downKey, upKey];
    if (keys.some(({ length }) => length !== KEY)) throw new WatchwordError("gcks.ledger", "keys of another length");
    const place = this.#free.pop() ?? this.#end++;
    if (place >= this.#chunks.length * PLACES) this.#chunks.push(new Uint8Array(PLACES * PLACE_OCTETS));
    const octets = this.#octets(place);
    const view = new DataView(octets.buffer, octets.byteOffset);
    octets[0] = memberInitiated ? 1 : 0;
    octets[1] = prfFunc;
    view.setUint32(4, csbId);
    view.setBigUint64(8, t);
    keys.forEach((key, i) => {
      octets.set(key, FIRST_KEY + i * KEY);
    });
    return place;
  }

  at(place: number): MemberKeys {
    const octets = this.#octets(place);
    const view = new DataView(octets.buffer, octets.byteOffset);
    const key = (i: number): Uint8Array => octets.subarray(FIRST_KEY + i * KEY, FIRST_KEY + (i + 1) * KEY);
    return {
      memberInitiated: octets[0] === 1,
      prfFunc: octets[1] as number,
      csbId: view.getUint32(4),
      t: view.getBigUint64(8),
      transcript: key(0),
      proofKey: key(1),
      downKey: key(2),
      upKey: key(3),
    };
  }

  drop(place: number): void {
    wipe(this.#octets(place));
    this.#free.push(place);
  }

  wipe(): void {
    wipe(...this.#chunks);
  }

  #octets(place: number): Uint8Array {
    const at = (place % PLACES) * PLACE_OCTETS;
    return (this.#chunks[Math.floor(place / PLACES)] as Uint8Array).subarray(at, at + PLACE_OCTETS);
  }
}

/** All members of a group, found by number, leaf and identity. */
export class Roster {
  readonly #vault = new KeyVault();
  readonly #byNumber = new Map<number, Member>();
  readonly #byLeaf = new Map<number, Member>();
  /** As a rule an identity has one membership. */
  readonly #byName = new Map<string, Member | Member[]>();

  get size(): number {
    return this.#byNumber.size;
  }

  has(number: number): boolean {
    return this.#byNumber.has(number);
  }

  get(number: number): Member | undefined {
    return this.#byNumber.get(number);
  }

  /** In the order of admission. */
  [Symbol.iterator](): IterableIterator<Member> {
    return this.#byNumber.values();
  }

  /** Memberships of an identity, in the order of admission. */
  named(name: string): readonly Member[] {
    const found = this.#byName.get(name);
    return found === undefined ? [] : Array.isArray(found) ? found : [found];
  }

  /** Memberships of every identity that has several. */
  *several(): IterableIterator<readonly Member[]> {
    for (const members of this.#byName.values()) if (Array.isArray(members)) yield members;
  }

  /** Who has this leaf now. */
  atLeaf(leaf: number): Member | undefined {
    return this.#byLeaf.get(leaf);
  }

  add(admitted: AdmittedMember, facts: MemberFacts): Member {
    const member = new Member(this.#vault, admitted, facts);
    this.#byNumber.set(member.number, member);
    this.#byLeaf.set(member.leaf, member);
    const others = this.#byName.get(member.name);
    if (others === undefined) this.#byName.set(member.name, member);
    else if (Array.isArray(others)) others.push(member);
    else this.#byName.set(member.name, [others, member]);
    return member;
  }

  remove(member: Member): void {
    this.#byNumber.delete(member.number);
    this.#byLeaf.delete(member.leaf);
    const rest = this.named(member.name).filter((other) => other !== member);
    const [only] = rest;
    if (only === undefined) this.#byName.delete(member.name);
    else this.#byName.set(member.name, rest.length === 1 ? only : rest);
    member.wipe();
  }

  /** Members whose leaf has another id now (RFC 4046 §5.8). @param moved pairs of old and new id */
  move(moved: Uint32Array): void {
    for (let i = 0; i + 1 < moved.length; i += 2) {
      const member = this.atLeaf(moved[i] as number);
      if (member === undefined) continue;
      this.#byLeaf.delete(member.leaf);
      member.leaf = moved[i + 1] as number;
      this.#byLeaf.set(member.leaf, member);
    }
  }

  wipe(): void {
    this.#vault.wipe();
  }
}

/** For a snapshot. @param ahead by how much the wall clock is ahead of the one that times are kept by */
export function writeMember(writer: Writer, member: Member, ahead: number): void {
  const { identity, keys, ssrcs } = member;
  writer.u32("number", member.number);
  writer.u32("leaf", member.leaf);
  writer.u32("admittedIn", member.admittedIn);
  writeTime(writer, "admittedAt", member.admittedAt + ahead);
  writeTime(writer, "renewedAt", member.renewedAt + ahead);
  writer.u32("counter", member.counter);
  writer.u8("flags", STATES.indexOf(member.state) | (roleNumber(member.role) << 2) | (keys === undefined ? 0 : BOUND));
  writer.u8("ssrcs", ssrcs.length);
  for (const ssrc of ssrcs) writer.u32("ssrc", ssrc);
  writer.u8("idType", identity.idType);
  writer.u16("identity", identity.data.length);
  writer.bytes(identity.data);
  if (keys === undefined) return;
  writer.u8("memberInitiated", keys.memberInitiated ? 1 : 0);
  writer.u8("prfFunc", keys.prfFunc);
  writer.u32("csbId", keys.csbId);
  writer.u32("t", Number(keys.t >> 32n));
  writer.u32("t", Number(keys.t & 0xffff_ffffn));
  for (const key of [keys.transcript, keys.proofKey, keys.downKey, keys.upKey]) writer.bytes(key);
}

/** Among the flags, above state and role. */
const BOUND = 16;

/** Adds the member of a snapshot. @throws CodecError, WatchwordError `gcks.ledger` */
export function readMember(reader: Reader, roster: Roster): void {
  const number = reader.u32("number");
  const leaf = reader.u32("leaf");
  const admittedIn = reader.u32("admittedIn");
  const admittedAt = readTime(reader, "admittedAt");
  const renewedAt = readTime(reader, "renewedAt");
  const counter = reader.u32("counter");
  const flags = reader.u8("flags");
  const state = STATES[flags & 3];
  if (state === undefined || flags >= 2 * BOUND) throw new WatchwordError("gcks.ledger", "a member in no state");
  const ssrcs = Array.from({ length: reader.u8("ssrcs") }, () => reader.u32("ssrc"));
  const idType = reader.u8("idType");
  const data = reader.bytes("identity", reader.u16("identity"));
  const role = ROLES[(flags >> 2) & 3] as MemberRole;
  const facts = { number, leaf, admittedIn, admittedAt, renewedAt, counter, state };
  const member = roster.add({ identity: { idType, data }, role, ssrcs }, facts);
  if ((flags & BOUND) === 0) return;
  member.bind({
    memberInitiated: reader.u8("memberInitiated") === 1,
    prfFunc: reader.u8("prfFunc"),
    csbId: reader.u32("csbId"),
    t: (BigInt(reader.u32("t")) << 32n) | BigInt(reader.u32("t")),
    transcript: reader.bytes("transcript", KEY),
    proofKey: reader.bytes("proofKey", KEY),
    downKey: reader.bytes("downKey", KEY),
    upKey: reader.bytes("upKey", KEY),
  });
}

/** Milliseconds since 1970 in 48 bits. */
function writeTime(writer: Writer, name: string, time: number): void {
  const whole = Math.max(0, Math.floor(time));
  writer.u16(name, Math.floor(whole / 2 ** 32));
  writer.u32(name, whole % 2 ** 32);
}

function readTime(reader: Reader, name: string): number {
  return reader.u16(name) * 2 ** 32 + reader.u32(name);
}
