/** One group at its key server: changes one after the other, each durable before anybody sees it (docs/protocol.md §20.1, §24). */
import { utf8Text, WatchwordError } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import {
  GROUP_LIMITS,
  type GroupPolicies,
  type ReceivedReport,
  sealEnd,
  sealGsa,
  sealHeartbeat,
  sealRekey,
  verifyReport,
} from "../gsa/index.js";
import type { Endpoint, Timer, Timers } from "../io/index.js";
import { encodeNtp, type SyncEntry } from "../mikey/index.js";
import type { AuditEvent, GroupView, MemberChannel, MemberView } from "./contracts.js";
import type { GroupDefinition } from "./definition.js";
import { Distribution } from "./distribution.js";
import { GcksRefusal, OVERLOAD } from "./errors.js";
import { type GroupContentContext, gsaContent, policiesOf, rekeySealing } from "./group-content.js";
import { isKekOld, keysDueAt, overdueMembers, replacedMembers } from "./group-dues.js";
import { GroupLog, type GroupLogContext, unavailable } from "./group-log.js";
import { GroupState, type PreparedStep } from "./group-state.js";
import { type Departure, type Operation, planStep, reserveSequence, type StepContext, type Wanted } from "./group-step.js";
import { type AdmittedMember, encodeBirth, encodeStep, type GroupBirth, type GroupStep, type MemberKeys } from "./ledger.js";
import type { Member } from "./members.js";
import { isWhereKnown, needsRecord, type Report, sendersIn } from "./reports.js";

export interface GroupContext extends GroupLogContext, GroupContentContext, StepContext {
  readonly timers: Timers;
  readonly multicast: ((address: string, datagram: Uint8Array) => void) | undefined;
  readonly unicast: ((datagram: Uint8Array, to: Endpoint) => void) | undefined;
  readonly audit: (event: AuditEvent) => void;
  readonly count: (name: Counter, by?: number) => void;
}

export type Counter =
  | "registrations"
  | "refusals"
  | "rekeys"
  | "rekeyPackets"
  | "rekeyOctets"
  | "wraps"
  | "departures"
  | "expulsions"
  | "reports"
  | "reportsRefused";

/** Operations in one step. */
const MOST_TOGETHER = 1024;
const SWEEP_MS = 5000;
const LONGEST_MS = 0x7fff_ffff;
/** Until a rekey that was due, and failed, is tried again. */
const RETRY_MS = 5000;

export class Group {
  readonly definition: GroupDefinition;
  readonly #context: GroupContext;
  readonly #log: GroupLog;
  #state: GroupState;
  #distribution: Distribution;
  #queue: Operation[] = [];
  /** Who is being admitted, by identity. */
  readonly #admitting: string[] = [];
  #working: Promise<void> | undefined;
  #timers = new Map<"batch" | "period" | "heartbeat" | "sweep", Timer>();
  /** Identities have more memberships than they may have, since the group was restored or since those could not be removed. */
  #crowded = false;
  /** Nobody's time is over before. */
  #nextDue = 0;
  #closed = false;

  private constructor(context: GroupContext, definition: GroupDefinition, log: GroupLog, state: GroupState) {
    this.#context = context;
    this.definition = definition;
    this.#log = log;
    this.#state = state;
    this.#distribution = this.#createDistribution();
  }

  /** Makes the group anew, or goes on with what the store has of it. */
  static async open(context: GroupContext, definition: GroupDefinition): Promise<Group> {
    const log = new GroupLog(context, definition);
    const found = await log.load();
    if (found !== undefined) {
      const group = new Group(context, definition, log, found.state);
      group.#audit("group-restored", undefined, { members: found.state.members.size, sequence: found.state.sequence });
      group.#start(found.packets);
      return group;
    }
    const birth = newBirth(context.crypto);
    await log.append(encodeBirth(birth, []));
    const group = new Group(context, definition, log, new GroupState(context.crypto, definition, birth));
    group.#audit("group-created");
    group.#start([]);
    return group;
  }

  get csbId(): number {
    return this.#state.constants.csbId;
  }

  get ended(): boolean {
    return this.#state.ended;
  }

  get view(): GroupView {
    const { members, sequence, kekSpi, dataKeys, ended } = this.#state;
    return {
      name: this.definition.name,
      state: ended ? "ended" : "active",
      members: members.size,
      sequence,
      kekSpi,
      mkis: dataKeys.map(({ mki }) => mki),
    };
  }

  get members(): readonly MemberView[] {
    const { ahead } = this.#log;
    return [...this.#state.members].map((member) => ({
      number: member.number,
      identity: member.name,
      role: member.role,
      state: member.state,
      admittedAt: member.admittedAt + ahead,
      ssrcs: member.ssrcs,
    }));
  }

  get size(): number {
    return this.#state.members.size;
  }

  member(number: number): Member | undefined {
    return this.#state.members.get(number);
  }

  /** Memberships of an identity, in the order of admission. */
  numbersOf(identity: string): number[] {
    return this.#state.members.named(identity).map(({ number }) => number);
  }

  /**
   * Whether there is room for one more membership of an identity, with all who are being admitted. In a full group whoever is in it may register
   * again, once at a time: the oldest of its memberships makes room.
   * @throws GcksRefusal `gcks.overload`
   */
  checkRoomFor(identity: string): void {
    const { mostMembers, membershipsPerIdentity } = this.definition;
    if (this.size + this.#admitting.length < mostMembers) return;
    const standing = this.#state.members.named(identity).length;
    if (standing === membershipsPerIdentity && !this.#admitting.includes(identity)) return;
    throw new GcksRefusal("gcks.overload", "the group is full", OVERLOAD, { retryAfter: 60 });
  }

  /**
   * Admits a member; resolves with its number once that is durable and, where joins bring new keys, those keys are.
   * @throws (rejects) GcksRefusal `gcks.overload` where the group is full
   */
  async admit(member: Omit<AdmittedMember, "ssrcs">, streams: number): Promise<number> {
    const identity = utf8Text(member.identity.data) ?? "";
    this.checkRoomFor(identity);
    this.#admitting.push(identity);
    try {
      return (await this.#enqueue({ kind: "admit", member, streams })) as number;
    } finally {
      this.#admitting.splice(this.#admitting.indexOf(identity), 1);
    }
  }

  /** The registration is complete: its keys are kept, and the member is reached by this channel. */
  async bind(number: number, keys: MemberKeys, channel: MemberChannel): Promise<void> {
    await this.#enqueue({ kind: "bind", number, keys });
    // Whoever took too long has been removed meanwhile.
    if (this.member(number) === undefined) throw new WatchwordError("gcks.not-a-member", "the membership has ended");
    this.#distribution.attach(number, channel);
  }

  async remove(numbers: readonly number[], reason: Departure): Promise<void> {
    if (numbers.length > 0) await this.#enqueue({ kind: "leave", numbers, reason });
  }

  /** Ends the oldest memberships of an identity that has too many of them with its newest, which has been answered. */
  replace(identity: string, newest: number): void {
    const others = this.numbersOf(identity).filter((other) => other !== newest);
    const excess = others.slice(0, Math.max(0, others.length + 1 - this.definition.membershipsPerIdentity));
    this.remove(excess, "replaced").catch(() => {
      // A leaver would stay in by its older membership.
      this.#crowded = true;
    });
  }

  async rekey(replace = false): Promise<void> {
    await this.#enqueue({ kind: "rekey", replace });
  }

  async end(restart: boolean): Promise<void> {
    await this.#enqueue({ kind: "end", restart });
  }

  /**
   * Ends memberships in whose place newer ones of the same identity are. A registration does that by itself; this is for where the process
   * died in between, and a leaver would stay in by its older membership. What was perhaps never answered replaces nothing.
   */
  async removeReplaced(): Promise<void> {
    const { replaced, crowded } = replacedMembers(this.definition, this.#state);
    this.#crowded = crowded;
    await this.remove(replaced, "removed");
  }

  /** The dialog or session of a member is gone. */
  lost(number: number, channel: MemberChannel): void {
    if (this.#distribution.channelOf(number) !== channel) return;
    this.#distribution.detach(number);
    if (this.member(number) !== undefined) this.#enqueue({ kind: "lapse", number }).catch(() => undefined);
  }

  /** `g` of a key that this member had, for proofs. */
  held(number: number, kind: "kek" | "data", spi: number): Uint8Array | undefined {
    const member = this.member(number);
    return member === undefined ? undefined : this.#state.held(kind, spi, member.admittedIn);
  }

  /** The GSA message of a member, under K_down. */
  gsa(number: number, downKey: Uint8Array): Uint8Array {
    const member = this.member(number);
    if (member === undefined) throw new WatchwordError("gcks.not-a-member", "the member has left");
    return sealGsa(this.#context.crypto, downKey, gsaContent(this.#context, this.definition, this.#state, member));
  }

  policiesFor(number: number): GroupPolicies {
    const member = this.member(number);
    const { definition } = this;
    return member === undefined
      ? policiesOf(this.#context, definition, this.#state)
      : gsaContent(this.#context, definition, this.#state, member).policies;
  }

  /**
   * A report (docs/protocol.md §18). @param from where a datagram came from
   * @returns what to answer, a GSA where the member is behind; undefined for a report that is not good
   */
  async report(report: ReceivedReport, from: Endpoint | undefined): Promise<{ readonly answer?: Uint8Array } | undefined> {
    const { crypto, count } = this.#context;
    if (this.#closed || this.ended) return undefined;
    const member = this.member(report.member);
    const good =
      member?.keys !== undefined &&
      verifyReport(crypto, member.keys.upKey, this.#state.constants, report) &&
      report.counter > member.counter &&
      (from === undefined || report.counter >= member.repeatableBelow || isWhereKnown(this.#state, member.number, from)) &&
      report.streams.every(({ ssrc }) => member.ssrcs.includes(ssrc));
    if (!good) {
      count("reportsRefused");
      this.#audit("report-refused", member?.name);
      return undefined;
    }
    count("reports");
    // Counted at once, so that the same report again is refused while this one becomes durable.
    member.counter = report.counter;
    const told: Report = { number: member.number, counter: report.counter, address: from, senders: sendersIn(report, member) };
    const hasMoved = from !== undefined && !isWhereKnown(this.#state, member.number, from);
    const now = this.#log.time.now();
    if (needsRecord(this.definition, this.#state, member, told, now)) await this.#enqueue({ kind: "report", ...told });
    else this.#state.take(told, now);
    // What went to another address, or nowhere, because this one was not known, may have been missed.
    if (hasMoved) this.#distribution.repeatTo(member.number);
    // Without a rekey SA every report asks for the keys of now (docs/protocol.md §18).
    const behind = this.#state.tree === undefined || (report.kekSpi !== this.#state.kekSpi && !this.#waits(member));
    const { keys } = member;
    if (!behind || keys === undefined || this.member(member.number) !== member) return {};
    const answer = this.gsa(member.number, keys.downKey);
    if (from === undefined || answer.length <= GROUP_LIMITS.rekeyPacketOctets) return { answer };
    // Too long for a datagram. Without a dialog or session the member hears of what it misses by a heartbeat, and registers.
    this.#distribution.deliverTo(member.number, answer);
    return {};
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
    await this.#working;
    this.#distribution.close();
    this.#state.wipe();
  }

  #start(packets: readonly Uint8Array[]): void {
    if (this.#state.ended) return;
    // What was durable before a crash may not have been sent, or not often enough (§16.8): the same octets again.
    if (packets.length > 0) this.#distribution.send(packets);
    if (this.#state.departed > 0 || (this.#state.tree?.pending ?? 0) > 0) this.#awaitBatch();
    this.#schedulePeriod();
    this.#scheduleHeartbeat();
    this.#timers.set(
      "sweep",
      this.#context.timers.every(Math.min(SWEEP_MS, this.definition.confirmationMs / 4), () => this.#sweep()),
    );
  }

  #enqueue(operation: Wanted): Promise<number | undefined> {
    if (this.#closed) return Promise.reject(unavailable(undefined));
    if (this.#state.ended) return Promise.reject(endedError());
    return new Promise((done, failed) => {
      this.#queue.push({ ...operation, done, failed });
      this.#working ??= this.#work();
    });
  }

  /** Everything that waits is done in one step: under load one rekey serves many. */
  async #work(): Promise<void> {
    try {
      while (this.#queue.length > 0) await this.#next();
    } finally {
      // At once, and not when somebody is told: what is put into the queue from now on needs another worker.
      this.#working = undefined;
    }
  }

  async #next(): Promise<void> {
    const first = this.#queue[0] as Operation;
    // The end of a group is a step of its own.
    const alone = first.kind === "end" ? 1 : this.#queue.findIndex(({ kind }) => kind === "end");
    const operations = this.#queue.splice(0, Math.min(MOST_TOGETHER, alone < 0 ? this.#queue.length : alone));
    try {
      if (this.#log.inDoubt) await this.#recover();
      // By what was written and not acknowledged, or by another controller.
      if (this.#state.ended) throw endedError();
      if (first.kind === "end") await this.#finish(first.restart, operations);
      else await this.#take(operations);
    } catch (error) {
      for (const { failed } of operations) failed(error);
    }
  }

  async #take(operations: readonly Operation[]): Promise<void> {
    const planned = await planStep(this.#context, this.definition, this.#state, operations);
    const { step, sequence, leaving, gone, immediate } = planned;
    const prepared = await this.#state.prepareInTurns(step, this.#pause);
    let packets: Uint8Array[] = [];
    try {
      if (sequence !== undefined && this.#state.hasKek) packets = await this.#seal(sequence, prepared, gone, immediate);
      await this.#log.append(encodeStep(step, packets));
    } catch (error) {
      prepared.drop();
      throw error;
    }
    const names = new Map([...leaving].map((number) => [number, this.#nameOf(number)]));
    const confirmed = new Set(
      (step.confirm ?? []).map(({ number }) => number).filter((number) => this.member(number)?.state === "provisional"),
    );
    prepared.commit(this.#log.time.now());
    if (sequence !== undefined) this.#rekeyed(prepared, packets);
    else if ((step.rekey?.dataKeys.length ?? 0) > 0) this.#schedulePeriod();
    this.#conclude(operations, prepared.numbers, names);
    for (const number of confirmed)
      if (this.member(number) !== undefined) this.#audit("confirmed", this.#nameOf(number), { number });
    if (planned.batched) this.#awaitBatch();
    await this.#log.snapshotIfDue(this.#state, this.#pause);
  }

  /** Tells who waits, and the audit log, what has happened. */
  #conclude(operations: readonly Operation[], numbers: readonly number[], names: ReadonlyMap<number, string>): void {
    const { count } = this.#context;
    let next = 0;
    for (const operation of operations) {
      if (operation.kind === "admit") {
        const number = numbers[next++] as number;
        count("registrations");
        this.#audit("admitted", this.#nameOf(number), { number, send: operation.member.role.send });
        operation.done(number);
        continue;
      }
      if (operation.kind === "leave") {
        for (const number of operation.numbers) {
          const name = names.get(number);
          const channel = this.#distribution.detach(number);
          if (name === undefined) continue;
          count("departures");
          if (operation.reason === "expelled") count("expulsions");
          this.#audit(operation.reason, name, { number });
          if (operation.reason === "removed" || operation.reason === "expelled") channel?.close();
        }
      }
      operation.done(undefined);
    }
  }

  async #seal(sequence: number, prepared: PreparedStep, gone: readonly number[], immediate: boolean): Promise<Uint8Array[]> {
    const { crypto } = this.#context;
    const { tree, dataKeys } = prepared;
    const streams: SyncEntry[] = gone.map((ssrc) => ({ ssrc, gone: true }));
    const sealing = this.#sealing();
    const packets = await sealRekey(
      crypto,
      {
        ...sealing,
        sequence,
        ...(tree === undefined || "admitted" in tree
          ? {}
          : { change: { prepared: tree, immediate, lifetime: sealing.rekey.kekLifetime } }),
        dataKeys,
        ...(streams.length === 0 ? {} : { streams }),
      },
      this.#pause,
    );
    if (tree !== undefined && !("admitted" in tree)) this.#context.count("wraps", tree.wraps);
    return packets;
  }

  #rekeyed(prepared: PreparedStep, packets: readonly Uint8Array[]): void {
    const { count } = this.#context;
    this.#cancel("batch");
    count("rekeys");
    if (packets.length > 0) this.#distribution.send(packets);
    const { tree } = prepared;
    this.#audit("rekeyed", undefined, {
      sequence: this.#state.sequence,
      packets: packets.length,
      wraps: tree !== undefined && !("admitted" in tree) ? tree.wraps : 0,
      members: this.#state.members.size,
    });
    this.#schedulePeriod();
    this.#scheduleHeartbeat();
  }

  #awaitBatch(): void {
    if (!this.#timers.has("batch")) this.#after("batch", this.definition.batchIntervalMs, () => this.#rekeyDue("batch", false));
  }

  /** Nobody waits for it: where it fails it is tried again, or who has left would stay in. */
  #rekeyDue(timer: "batch" | "period", replace: boolean): void {
    this.#enqueue({ kind: "rekey", replace }).catch(() => {
      if (!this.#closed && !this.#state.ended) this.#after(timer, RETRY_MS, () => this.#rekeyDue(timer, replace));
    });
  }

  /** Ends the group with a signed farewell (§20.2); after `restart` it begins again as another one of the same name. */
  async #finish(restart: boolean, operations: readonly Operation[]): Promise<void> {
    const { crypto, clock, told } = this.#context;
    const packets: Uint8Array[] = [];
    let sequence = this.#state.sequence;
    if (this.#state.hasKek) {
      sequence = await reserveSequence(this.#context.reservations, this.definition, this.#state);
      packets.push(await sealEnd(crypto, { ...this.#sealing(), sequence }, encodeNtp(told.now()), restart));
    }
    const step: GroupStep = { at: clock.now(), end: true };
    const prepared = this.#state.prepare(step);
    const birth = restart ? newBirth(crypto) : undefined;
    // The end and the new beginning are one record: nothing can come between them.
    await this.#log.append(birth === undefined ? encodeStep(step, packets) : encodeBirth(birth, packets));
    prepared.commit();
    const channels = [...this.#state.members].flatMap(({ number }) => this.#distribution.channelOf(number) ?? []);
    if (packets.length > 0) this.#distribution.send(packets);
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
    this.#audit(restart ? "group-restarted" : "group-ended");
    if (birth !== undefined) {
      const old = this.#state;
      this.#state = new GroupState(crypto, this.definition, birth);
      this.#log.beginAgain();
      old.wipe();
      this.#distribution = this.#createDistribution();
      this.#start([]);
    }
    for (const { done } of operations) done(undefined);
    // Dialogs stay open for a restart: members register again in them.
    if (!restart) for (const channel of channels) this.#context.timers.after(CLOSE_AFTER_MS, () => channel.close());
  }

  /** Goes on from what the store has, in place of what memory has. */
  async #recover(): Promise<void> {
    const found = await this.#log.load();
    if (found === undefined) throw unavailable(undefined);
    const old = this.#state;
    this.#state = found.state;
    this.#nextDue = 0;
    old.wipe();
    this.#audit("group-restored", undefined, { members: found.state.members.size, sequence: found.state.sequence });
    if (found.packets.length > 0) this.#distribution.send(found.packets);
    if (found.state.ended) {
      for (const timer of this.#timers.values()) timer.cancel();
      this.#timers.clear();
      return;
    }
    if (found.state.departed > 0 || (found.state.tree?.pending ?? 0) > 0) this.#awaitBatch();
    this.#schedulePeriod();
  }

  #sealing() {
    return rekeySealing(this.#context, this.definition, this.#state);
  }

  /** Whether the KEK comes to a member with the next batch. */
  #waits(member: Member): boolean {
    return this.#state.tree?.download(member.leaf).path.length === 0;
  }

  #schedulePeriod(): void {
    const due = keysDueAt(this.definition, this.#state);
    const wait = Math.min(LONGEST_MS, due - this.#log.time.now());
    this.#after("period", this.size === 0 ? LONGEST_MS : Math.max(1, wait), () => {
      const now = this.#log.time.now();
      // Nobody is there to be told, and the first who joins gets new keys. Nor is it due where a timer could not wait longer.
      if (this.size === 0 || now < due) this.#schedulePeriod();
      else this.#rekeyDue("period", isKekOld(this.definition, this.#state, now));
    });
  }

  #scheduleHeartbeat(): void {
    const heartbeatMs = this.definition.rekey?.heartbeatMs ?? 0;
    if (heartbeatMs > 0) this.#after("heartbeat", heartbeatMs, () => void this.#beat());
  }

  async #beat(): Promise<void> {
    try {
      if (this.#state.hasKek && this.#state.members.size > 0 && this.#working === undefined && !this.#log.inDoubt) {
        const { crypto, told } = this.#context;
        const { sequence } = this.#state;
        const octets = await sealHeartbeat(crypto, { ...this.#sealing(), sequence }, encodeNtp(told.now()));
        // A change that became durable meanwhile speaks for itself.
        if (sequence === this.#state.sequence && !this.#closed) this.#distribution.beat(octets);
      }
    } catch (error) {
      // A signing key elsewhere may be out of reach for a while.
      this.#audit("delivery-failed", undefined, { reason: error instanceof Error ? error.message : "failed" });
    } finally {
      if (!this.#closed && !this.#state.ended) this.#scheduleHeartbeat();
    }
  }

  /** Members that did not confirm, or were not heard of for their lifetime (§20.1). */
  #sweep(): void {
    const now = this.#log.time.now();
    if (this.#crowded) this.removeReplaced().catch(() => undefined);
    if (now <= this.#nextDue) return;
    const { overdue, nextDue } = overdueMembers(this.definition, this.#state, now);
    this.#nextDue = nextDue;
    this.remove(overdue, "removed").catch(() => {
      this.#nextDue = 0;
    });
  }

  /** Others have their turn. Operations go on to wait: nothing changes meanwhile. */
  readonly #pause = (): Promise<void> => new Promise((resolve) => this.#context.timers.after(0, resolve));

  #createDistribution(): Distribution {
    const { crypto, timers, multicast, unicast, count } = this.#context;
    const { rekey } = this.definition;
    const address = rekey?.controlAddress;
    return new Distribution({
      crypto,
      timers,
      retransmission: rekey?.retransmission ?? { count: 0, firstMs: 0 },
      multicast: address === undefined || multicast === undefined ? undefined : (datagram) => multicast(address, datagram),
      unicast,
      addresses: () => this.#state.addresses,
      leafOf: (number) => this.member(number)?.leaf,
      onSent: (packets, octets) => {
        count("rekeyPackets", packets);
        count("rekeyOctets", octets);
      },
      onFailed: (number, error) => {
        this.#audit("delivery-failed", this.#nameOf(number), { number, reason: error instanceof Error ? error.message : "failed" });
      },
    });
  }

  #nameOf(number: number): string {
    return this.member(number)?.name ?? "";
  }

  #audit(type: AuditEvent["type"], member?: string, detail?: AuditEvent["detail"]): void {
    this.#context.audit({
      at: this.#context.clock.now(),
      type,
      group: this.definition.name,
      ...(member === undefined ? {} : { member }),
      ...(detail === undefined ? {} : { detail }),
    });
  }

  #after(name: "batch" | "period" | "heartbeat", milliseconds: number, callback: () => void): void {
    this.#cancel(name);
    const timer = this.#context.timers.after(Math.min(LONGEST_MS, milliseconds), () => {
      if (this.#timers.get(name) === timer) this.#timers.delete(name);
      if (!this.#closed) callback();
    });
    this.#timers.set(name, timer);
  }

  #cancel(name: "batch" | "period" | "heartbeat"): void {
    this.#timers.get(name)?.cancel();
    this.#timers.delete(name);
  }
}

/** Time for the farewell to arrive before dialogs are ended. */
const CLOSE_AFTER_MS = 1000;

function endedError(): WatchwordError {
  return new WatchwordError("gcks.group-ended", "the group has ended");
}

function newBirth(crypto: CryptoProvider): GroupBirth {
  const octets = crypto.randomBytes(4);
  return {
    csbId: new DataView(octets.buffer, octets.byteOffset).getUint32(0),
    rand: crypto.randomBytes(32),
    ssrcKey: crypto.randomBytes(32),
  };
}
