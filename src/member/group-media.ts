/** The data SAs of one group at a member, as SRTP sessions (docs/protocol.md §11.2, §16.10). */
import { WatchwordError } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import {
  type DataSaPolicy,
  type InstalledDataKey,
  type MemberRole,
  masterKeyOf,
  type PolicyDecision,
  type PolicyFacts,
  type SecurityPolicyDatabase,
} from "../gsa/index.js";
import type { Identity, SyncEntry } from "../mikey/index.js";
import {
  createSrtpReceiver,
  createSrtpSender,
  isRtcp,
  rtcpSsrc,
  rtpHeaderLength,
  rtpSequence,
  rtpSsrc,
  SrtpFailure,
  type SrtpReceiver,
  type SrtpSender,
  suiteOf,
} from "../srtp/index.js";
import type { GroupStream, GroupStreamStatistics } from "./contracts.js";
import { Renumbering } from "./outbound.js";

export interface GroupMediaOptions {
  readonly crypto: CryptoProvider;
  readonly gcks: Identity;
  readonly group: Uint8Array;
  readonly policies: SecurityPolicyDatabase;
  /** Monotonic clock, milliseconds. */
  readonly now: () => number;
  /** An SSRC of this member's began to send or came into another rollover period: a report is due (docs/protocol.md §18). */
  readonly onSending: () => void;
  /** A packet came under a key that this member does not have. */
  readonly onUnknownKey: () => void;
  /** An authentic packet of this member's own SSRC that it did not send (docs/protocol.md §15.5). */
  readonly onCollision: () => void;
}

/** Receivers of SSRCs under a key per SSRC: most at a time. */
const MOST_SOURCES = 1024;
/** SSRCs under one key for all: senders and, by their reports, receivers. Who has the key can use it under any number of them. */
const MOST_SSRCS = 16_384;
/** SSRCs whose places are kept while they have no receiver. */
const MOST_POSITIONS = 4096;
const MKI_OCTETS = 4;
const SEQUENCES = 0x1_0000;

/** A place in the packets of an SSRC that outlives the keys: rollover counters go on over every change of keys. */
interface Position {
  readonly roc: number;
  readonly seq: number | undefined;
}

/** All m= lines of one group. */
export class GroupMedia {
  readonly #options: GroupMediaOptions;
  readonly #streams: Stream[] = [];
  /** Keys in force by data SA, oldest first. */
  readonly #keys = new Map<number, InstalledDataKey[]>();
  readonly #receivers = new Map<string, SrtpReceiver>();
  /** Where SSRCs are that nothing was received of yet, or whose receiver is gone. */
  readonly #positions = new Map<number, Position>();
  /** By the policy of this group alone. */
  readonly #decide: (facts: PolicyFacts) => PolicyDecision;
  #dataSas: readonly DataSaPolicy[] = [];
  #halted = false;

  constructor(options: GroupMediaOptions) {
    const { policies, gcks, group } = options;
    this.#options = options;
    this.#decide = policies.within(gcks, group);
  }

  get streams(): readonly GroupStream[] {
    return this.#streams;
  }

  /** Takes the policies of now. @param ssrcs the member's own, by number of the m= line */
  configure(dataSas: readonly DataSaPolicy[], role: MemberRole, ssrcs: ReadonlyMap<number, number>, streamCount: number): void {
    const { gcks, group, policies } = this.#options;
    this.#dataSas = dataSas;
    policies.putGroup(gcks, group, dataSas, role, [...ssrcs.values()]);
    while (this.#streams.length < streamCount) this.#streams.push(new Stream(this, this.#streams.length + 1));
    for (const stream of this.#streams) stream.assign(ssrcs.get(stream.number));
  }

  /** Opens packets under this key from now on. Senders are to be switched by `activate`. */
  install(key: InstalledDataKey): void {
    const keys = this.#keys.get(key.dataSa) ?? [];
    if (keys.some(({ mki }) => mki === key.mki)) return;
    this.#keys.set(key.dataSa, [...keys, key]);
    for (const [name, receiver] of this.#receivers) {
      const { dataSa, ssrc } = parseName(name);
      if (dataSa === key.dataSa) receiver.addKey(this.#masterKey(key, ssrc));
    }
    for (const stream of this.#streams) stream.addKey(key);
  }

  /** Sends under the newest key that is active by now. */
  activate(): void {
    for (const stream of this.#streams) stream.activate();
  }

  get now(): number {
    return this.#options.now();
  }

  /** A key has expired. */
  remove(dataSa: number, mki: number): void {
    const left = (this.#keys.get(dataSa) ?? []).filter((key) => key.mki !== mki);
    this.#keys.set(dataSa, left);
    const octets = mkiOctets(mki);
    for (const [name, receiver] of this.#receivers) {
      if (parseName(name).dataSa !== dataSa) continue;
      if (left.length > 0) receiver.removeKey(octets);
      else this.#retire(name, receiver);
    }
    for (const stream of this.#streams) stream.removeKey(mki, left.length);
  }

  /** What the key server knows of senders: where they are, and which have gone. */
  synchronise(entries: readonly SyncEntry[]): void {
    const { gcks, group, policies } = this.#options;
    const gone = entries.filter((entry) => entry.gone).map(({ ssrc }) => ssrc);
    policies.discard(gcks, group, gone);
    // An SSRC is never used again (docs/protocol.md §15.5): without this, those who come and go would leave no room for others.
    for (const ssrc of gone) {
      this.#positions.delete(ssrc);
      for (const [name, receiver] of this.#receivers) {
        const { ssrc: own } = parseName(name);
        if (own === ssrc) this.#drop(name, receiver);
        else if (own === 0) receiver.forget(ssrc);
      }
    }
    for (const { ssrc, running } of entries) {
      const heard = [...this.#receivers.values()].some((receiver) => receiver.highestSequence(ssrc) !== undefined);
      // What was received tells more than what was reported.
      if (running === undefined || heard) continue;
      this.#remember(ssrc, { roc: running.roc, seq: undefined });
      for (const [name, receiver] of this.#receivers) {
        const own = parseName(name).ssrc;
        if (own === ssrc || own === 0) place(receiver, ssrc, { roc: running.roc, seq: undefined });
      }
    }
  }

  /** Stops sending until `resume`: the member is not sure to be in step (docs/protocol.md §16.10). */
  halt(): void {
    this.#halted = true;
  }

  resume(): void {
    this.#halted = false;
  }

  /** For reports: the member's SSRCs that send. */
  running(): SyncEntry[] {
    return this.#streams.flatMap((stream) => stream.running());
  }

  close(): void {
    for (const receiver of this.#receivers.values()) receiver.close();
    this.#receivers.clear();
    this.#keys.clear();
    for (const stream of this.#streams) stream.close();
  }

  /** Keys for what an SSRC of this member's sends on an m= line, oldest first; undefined where the policies do not let it. */
  keysToSend(stream: number, ssrc: number, rtcp: boolean): { dataSa: DataSaPolicy; keys: readonly InstalledDataKey[] } | undefined {
    if (this.#halted) return undefined;
    const decision = this.#decide({ direction: "out", stream, ssrc, rtcp });
    if (decision.action === "discard") return undefined;
    return { dataSa: decision.dataSa, keys: this.#keys.get(decision.dataSa.number) ?? [] };
  }

  createSender({ srtp }: DataSaPolicy, keys: readonly InstalledDataKey[], ssrc: number): SrtpSender {
    const { crypto } = this.#options;
    return createSrtpSender({ crypto, policy: srtp, keys: keys.map((key) => this.#masterKey(key, ssrc, srtp)) });
  }

  masterKey(key: InstalledDataKey, ssrc: number) {
    return this.#masterKey(key, ssrc);
  }

  onSending(): void {
    this.#options.onSending();
  }

  /** Opens a packet of another member. @returns octets of the packet in `out`, or a negative `SrtpFailure`; undefined where policies drop it */
  open(stream: number, ssrc: number, packet: Uint8Array, out: Uint8Array, rtcp: boolean): number | undefined {
    const decision = this.#decide({ direction: "in", stream, ssrc, rtcp });
    if (decision.action === "discard") return undefined;
    const receiver = this.#receiver(decision.dataSa, ssrc);
    if (receiver === undefined) {
      this.#options.onUnknownKey();
      return SrtpFailure.unknownMki;
    }
    const length = rtcp ? receiver.unprotectRtcp(packet, out) : receiver.unprotect(packet, out);
    if (length === SrtpFailure.unknownMki && this.#isNewer(decision.dataSa, packet, rtcp)) this.#options.onUnknownKey();
    return length;
  }

  /**
   * Whether a packet's MKI is above all that are here. MKIs rise (docs/protocol.md §13): one that is below is of a key from before this
   * member joined, which others send under until the new one is active, or of one that has expired. No rekey message is missing then.
   */
  #isNewer({ number, srtp }: DataSaPolicy, packet: Uint8Array, rtcp: boolean): boolean {
    const { cipher, rtpTagLength, rtcpTagLength } = suiteOf(srtp.suite);
    // HMAC: … | MKI | tag (RFC 3711 §3.1, §3.4). AEAD: the MKI is last (RFC 7714 §8.2, §9.2).
    const behind = cipher === "gcm" ? 0 : rtcp ? rtcpTagLength : rtpTagLength;
    const at = packet.length - behind - MKI_OCTETS;
    if (at < 0) return false;
    const mki = new DataView(packet.buffer, packet.byteOffset).getUint32(at);
    return (this.#keys.get(number) ?? []).every((key) => key.mki < mki);
  }

  /**
   * An SSRC of this member's own, in a packet that looks like a later one: whether somebody who has the group's keys sent it.
   * @param last sequence number of the newest packet that this member sent; undefined where it sent none
   */
  checkCollision(stream: number, ssrc: number, packet: Uint8Array, last: number | undefined): void {
    const decision = this.#decide({ direction: "out", stream, ssrc, rtcp: true });
    const dataSa = decision.action === "protect" ? decision.dataSa : undefined;
    const keys = dataSa === undefined ? [] : (this.#keys.get(dataSa.number) ?? []);
    if (dataSa === undefined || keys.length === 0) return;
    const judge = createSrtpReceiver({
      crypto: this.#options.crypto,
      policy: dataSa.srtp,
      keys: keys.map((key) => this.#masterKey(key, ssrc, dataSa.srtp)),
      initialRolloverCounter: this.#streams[stream - 1]?.rolloverCounter ?? 0,
      searchRolloverCounter: true,
    });
    const rolloverCounter = this.#streams[stream - 1]?.rolloverCounter ?? 0;
    const authentic = judge.unprotect(packet, new Uint8Array(packet.length)) > 0;
    // Anybody can send again what this member sent itself, in an earlier turn of the sequence numbers too.
    const index = (judge.rolloverCounter(ssrc) ?? 0) * SEQUENCES + rtpSequence(packet);
    if (authentic && (last === undefined || index > rolloverCounter * SEQUENCES + last)) this.#options.onCollision();
    judge.close();
  }

  #receiver(dataSa: DataSaPolicy, ssrc: number): SrtpReceiver | undefined {
    const own = dataSa.arrangement === "shared" ? 0 : ssrc;
    const name = `${dataSa.number} ${own}`;
    const known = this.#receivers.get(name);
    if (known !== undefined) return known;
    const keys = this.#keys.get(dataSa.number) ?? [];
    if (keys.length === 0) return undefined;
    const receiver = createSrtpReceiver({
      crypto: this.#options.crypto,
      policy: dataSa.srtp,
      keys: keys.map((key) => this.#masterKey(key, own, dataSa.srtp)),
      searchRolloverCounter: true,
      maxSsrcs: MOST_SSRCS,
    });
    for (const [source, position] of this.#positions) if (own === 0 || own === source) place(receiver, source, position);
    // Anybody can make up SSRCs: those that nothing authentic came from make room.
    if (own !== 0 && this.#receivers.size >= MOST_SOURCES) {
      const [idle] = [...this.#receivers].find(([, { statistics }]) => statistics.packets === 0) ?? this.#receivers.keys();
      if (typeof idle === "string") this.#retire(idle, this.#receivers.get(idle) as SrtpReceiver);
    }
    this.#receivers.set(name, receiver);
    return receiver;
  }

  #retire(name: string, receiver: SrtpReceiver): void {
    for (const ssrc of receiver.ssrcs) {
      const roc = receiver.rolloverCounter(ssrc);
      if (roc !== undefined) this.#remember(ssrc, { roc, seq: receiver.highestSequence(ssrc) });
    }
    this.#drop(name, receiver);
  }

  /** Those that were told or heard of last: who has the group's keys can make up any number of SSRCs. */
  #remember(ssrc: number, position: Position): void {
    this.#positions.delete(ssrc);
    this.#positions.set(ssrc, position);
    const [oldest] = this.#positions.keys();
    if (this.#positions.size > MOST_POSITIONS && oldest !== undefined) this.#positions.delete(oldest);
  }

  /** SSRCs whose places are known without a receiver of theirs. */
  get remembered(): number {
    return this.#positions.size;
  }

  #drop(name: string, receiver: SrtpReceiver): void {
    receiver.close();
    this.#receivers.delete(name);
  }

  #masterKey(key: InstalledDataKey, ssrc: number, srtp = this.#dataSas.find(({ number }) => number === key.dataSa)?.srtp) {
    const { crypto, group } = this.#options;
    return masterKeyOf(crypto, group, key, srtp?.suite ?? "AES_CM_128_HMAC_SHA1_80", ssrc);
  }

  destinationOf(stream: number): string | undefined {
    return this.#dataSas.find(({ streams }) => streams.length === 0 || streams.includes(stream))?.destinations[0];
  }
}

/** Tells a receiver where an SSRC is. For one that it has no room for, it finds out by itself, if there is room then. */
function place(receiver: SrtpReceiver, ssrc: number, { roc, seq }: Position): void {
  try {
    receiver.setRolloverCounter(ssrc, roc, seq);
  } catch (error) {
    if (!(error instanceof WatchwordError) || error.code !== "srtp.ssrc-limit") throw error;
  }
}

/** One m= line. */
class Stream implements GroupStream {
  readonly number: number;
  onRtp: GroupStream["onRtp"] = undefined;
  onRtcp: GroupStream["onRtcp"] = undefined;
  readonly #media: GroupMedia;
  readonly #counts = { sent: 0, unsent: 0, received: 0, refused: 0, unknownKey: 0 };
  readonly #renumbering = new Map<number, Renumbering>();
  #ssrc: number | undefined;
  #sender: { readonly session: SrtpSender; readonly dataSa: number; readonly mkis: Set<number> } | undefined;
  #mki: number | undefined;
  #position: number | undefined;
  #reportedRoc: number | undefined;

  constructor(media: GroupMedia, number: number) {
    this.#media = media;
    this.number = number;
  }

  get destination(): string | undefined {
    return this.#media.destinationOf(this.number);
  }

  get ssrc(): number | undefined {
    return this.#ssrc;
  }

  get mki(): number | undefined {
    return this.#mki;
  }

  get statistics(): GroupStreamStatistics {
    return this.#counts;
  }

  get rolloverCounter(): number {
    return this.#ssrc === undefined ? 0 : (this.#sender?.session.rolloverCounter(this.#ssrc) ?? this.#position ?? 0);
  }

  /** The SSRC of now. Another one begins with sequence numbers of its own. */
  assign(ssrc: number | undefined): void {
    if (ssrc === this.#ssrc) return;
    this.#dropSender();
    this.#ssrc = ssrc;
    this.#position = undefined;
    this.#reportedRoc = undefined;
    this.#renumbering.clear();
  }

  protect(packet: Uint8Array): Uint8Array | undefined {
    return this.#protect(packet, false);
  }

  protectRtcp(packet: Uint8Array): Uint8Array | undefined {
    return this.#protect(packet, true);
  }

  #protect(packet: Uint8Array, rtcp: boolean): Uint8Array | undefined {
    const sender = this.#ssrc === undefined ? undefined : this.#senderFor(this.#ssrc, rtcp);
    if (sender === undefined || this.#ssrc === undefined) return this.#unsent();
    let numbers = this.#renumbering.get(this.#ssrc);
    if (numbers === undefined) {
      numbers = new Renumbering();
      this.#renumbering.set(this.#ssrc, numbers);
    }
    const plain = rtcp
      ? numbers.rtcp(packet, this.#ssrc, sender.rtcpOverhead)
      : numbers.rtp(packet, this.#ssrc, sender.rtpOverhead);
    if (plain === undefined) return this.#unsent();
    const whole = new Uint8Array(plain.buffer);
    let length: number;
    try {
      length = rtcp ? sender.protectRtcp(plain, whole) : sender.protect(plain, whole);
    } catch {
      // An index that was used before, or a key at its end: what may not be protected does not leave.
      return this.#unsent();
    }
    this.#counts.sent++;
    if (!rtcp && this.rolloverCounter !== this.#reportedRoc) {
      this.#reportedRoc = this.rolloverCounter;
      this.#media.onSending();
    }
    return whole.subarray(0, length);
  }

  receive(packet: Uint8Array): void {
    const rtcp = isRtcpByType(packet);
    if (rtcp ? !isRtcp(packet) : rtpHeaderLength(packet) < 0) {
      this.#counts.refused++;
      return;
    }
    const ssrc = rtcp ? rtcpSsrc(packet) : rtpSsrc(packet);
    if (ssrc === this.#ssrc) {
      if (!rtcp) this.#checkOwn(packet, ssrc);
      return;
    }
    const out = new Uint8Array(packet.length);
    const length = this.#media.open(this.number, ssrc, packet, out, rtcp);
    if (length === undefined || (length < 0 && length !== SrtpFailure.unknownMki)) this.#counts.refused++;
    else if (length < 0) this.#counts.unknownKey++;
    else {
      this.#counts.received++;
      (rtcp ? this.onRtcp : this.onRtp)?.(out.subarray(0, length), ssrc);
    }
  }

  /** Multicast brings back what was sent. What is ahead of it somebody else sent. */
  #checkOwn(packet: Uint8Array, ssrc: number): void {
    const last = this.#renumbering.get(ssrc)?.last;
    const ahead = last === undefined ? 1 : (rtpSequence(packet) - last + SEQUENCES) % SEQUENCES;
    if (ahead > 0 && ahead < SEQUENCES / 2) this.#media.checkCollision(this.number, ssrc, packet, last);
  }

  addKey(key: InstalledDataKey): void {
    const sender = this.#sender;
    if (sender === undefined || sender.dataSa !== key.dataSa || this.#ssrc === undefined) return;
    sender.session.addKey(this.#media.masterKey(key, this.#ssrc));
    sender.mkis.add(key.mki);
  }

  activate(): void {
    const sender = this.#sender;
    if (sender === undefined || this.#ssrc === undefined) return;
    const allowed = this.#media.keysToSend(this.number, this.#ssrc, true);
    const key = allowed?.keys.findLast(({ activeAtMs, mki }) => activeAtMs <= this.#media.now && sender.mkis.has(mki));
    if (key === undefined || key.mki === this.#mki) return;
    sender.session.useKey(mkiOctets(key.mki));
    this.#mki = key.mki;
  }

  removeKey(mki: number, left: number): void {
    const sender = this.#sender;
    if (sender === undefined || !sender.mkis.delete(mki)) return;
    if (left === 0 || sender.mkis.size === 0 || mki === this.#mki) this.#dropSender();
    else sender.session.removeKey(mkiOctets(mki));
  }

  running(): SyncEntry[] {
    const seq = this.#ssrc === undefined ? undefined : this.#renumbering.get(this.#ssrc)?.last;
    if (this.#ssrc === undefined || seq === undefined) return [];
    return [{ ssrc: this.#ssrc, running: { roc: this.rolloverCounter, seq }, gone: false }];
  }

  close(): void {
    this.#dropSender();
    this.#ssrc = undefined;
  }

  #senderFor(ssrc: number, rtcp: boolean): SrtpSender | undefined {
    const allowed = this.#media.keysToSend(this.number, ssrc, rtcp);
    if (allowed === undefined) return undefined;
    if (this.#sender?.dataSa === allowed.dataSa.number) return this.#sender.session;
    const { keys } = allowed;
    const [first] = keys;
    if (first === undefined) return undefined;
    this.#dropSender();
    // The oldest key that is there is active; newer ones are when their time has come.
    const session = this.#media.createSender(allowed.dataSa, keys, ssrc);
    if (this.#position !== undefined) session.setRolloverCounter(ssrc, this.#position);
    session.useKey(mkiOctets(first.mki));
    this.#mki = first.mki;
    this.#sender = { session, dataSa: allowed.dataSa.number, mkis: new Set(keys.map(({ mki }) => mki)) };
    this.activate();
    return session;
  }

  #dropSender(): void {
    if (this.#sender !== undefined && this.#ssrc !== undefined)
      this.#position = this.#sender.session.rolloverCounter(this.#ssrc) ?? this.#position;
    this.#sender?.session.close();
    this.#sender = undefined;
    this.#mki = undefined;
  }

  #unsent(): undefined {
    this.#counts.unsent++;
    return undefined;
  }
}

/** RTCP by its packet type, where both come by one port (RFC 5761 §4). */
function isRtcpByType(packet: Uint8Array): boolean {
  const type = packet[1] ?? 0;
  return type >= 192 && type <= 223;
}

function parseName(name: string): { dataSa: number; ssrc: number } {
  const [dataSa, ssrc] = name.split(" ");
  return { dataSa: Number(dataSa), ssrc: Number(ssrc) };
}

function mkiOctets(mki: number): Uint8Array {
  const octets = new Uint8Array(MKI_OCTETS);
  new DataView(octets.buffer).setUint32(0, mki);
  return octets;
}
