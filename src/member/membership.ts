/** A membership in one group: its state machine (docs/protocol.md §20.2), timers and keys. */
import { wipe } from "../bytes/index.js";
import type { CryptoProvider, PublicKey } from "../crypto/index.js";
import { createKeyPath } from "../gkma/index.js";
import {
  createRekeyReceiver,
  type DataKey,
  type GroupConstants,
  type GroupKek,
  type GroupPolicies,
  type GroupRegistration,
  type GsaExpectation,
  heldGroupKey,
  type InstalledRekey,
  type MemberRole,
  type MinimumGroupPolicy,
  type OpenedGsa,
  type RekeyOutcome,
  type RekeyReceiver,
  retransmissionSpanMs,
  type SecurityAssociationDatabase,
  type SecurityPolicyDatabase,
  sealReport,
  wipeDataKeys,
} from "../gsa/index.js";
import { type Clock, createTokenBucket, type Timer, type Timers, type TokenBucket } from "../io/index.js";
import type { Identity } from "../mikey/index.js";
import type { GroupMembership, GroupStream, MembershipState } from "./contracts.js";
import { GroupMedia } from "./group-media.js";

/** What the memberships of one registration share. */
export interface MembershipContext {
  readonly crypto: CryptoProvider;
  readonly clock: Clock;
  /** Monotonic. */
  readonly steady: Clock;
  readonly timers: Timers;
  readonly gcks: Identity;
  readonly associations: SecurityAssociationDatabase;
  readonly policies: SecurityPolicyDatabase;
  readonly minimum: MinimumGroupPolicy;
  readonly reportIntervalMs: number;
  /** m= lines that the member described. */
  readonly streams: number;
  onState(membership: Membership, state: MembershipState, reason: string): void;
  onRekey(membership: Membership): void;
  /** The member has to register again, after a random delay of at most so many milliseconds. */
  onMissing(membership: Membership, delayMs: number): void;
  /** Which groups rekey this member by unicast UDP, of those that offer it. */
  readonly unicast: "never" | "without-multicast" | "always";
  /** Carries a report by UDP to a rekey server address, otherwise in the dialog or session; failures are the carrier's business. */
  report(octets: Uint8Array, server: string | undefined): void;
  /** Removes the keys of all groups that have expired. */
  expire(): void;
}

/** docs/protocol.md §21. */
const MOST_KEPT = 16;
const RATE = { burst: 10, perSecond: 2 } as const;
/** Where a group has no rekey SA and so no delays of its own. */
const DEFAULT_DELAYS = { activationDelayMs: 2000, deactivationDelayMs: 10_000, resynchronisationDelayMs: 5000 } as const;
/** How often a hint counts that anybody can give (docs/protocol.md §20.2). */
const HINT_MS = 60_000;
/** How much earlier than the end of a lifetime a member renews. */
const RENEW_AT = 0.9;
const REPORT_AT = 0.5;
/** How often a member says where it is reached by unicast (docs/protocol.md §18): translators of addresses forget within 30 s. */
const LOCATE_MS = 15_000;
/** Longest wait of a timer: Node takes 32 bits. */
const LONGEST_MS = 0x7fff_ffff;

type TimerName = "silence" | "halt" | "span" | "activate" | "expire" | "kek" | "data" | "membership" | "report" | "end";

interface MissOptions {
  /** An authentic message, or the want of one, tells that this member is out of step: it stops sending (docs/protocol.md §16.10). */
  readonly certain?: boolean;
  readonly needs?: "keys" | "registration";
  /** The random delay before the next registration is at most as long. */
  readonly delayMs?: number;
}

export class Membership implements GroupMembership {
  readonly group: Uint8Array;
  readonly media: GroupMedia;
  readonly #context: MembershipContext;
  readonly #ownerKey: PublicKey | undefined;
  readonly #timers = new Map<TimerName, Timer>();
  #state: MembershipState = "idle";
  #registration: GroupRegistration | undefined;
  #constants: GroupConstants | undefined;
  #policies: GroupPolicies | undefined;
  #rekey: RekeyReceiver | undefined;
  #sequence: number | undefined;
  #kept: Uint8Array[] = [];
  /** What brings this member into step again: whatever tells that it is, only keys of every data SA, or only another registration. */
  #needs: "nothing" | "keys" | "registration" = "nothing";
  /** What is awaited was told by the key server, and not by anybody. */
  #certain = false;
  #hintedAtMs = Number.NEGATIVE_INFINITY;
  /** NTP time of the newest GSA under the registration. */
  #gsaTime: Uint8Array | undefined;
  #counter = 0;
  /** A report did not get through, because there is no dialog or session: only a registration helps, whatever comes meanwhile. */
  #unheard = false;
  /** Reports that follow the first one by UDP, which may be lost. */
  #repeats = 0;
  readonly #tokens: TokenBucket;

  constructor(context: MembershipContext, group: Uint8Array, ownerKey: PublicKey | undefined) {
    this.#context = context;
    this.group = group;
    this.#ownerKey = ownerKey;
    this.#tokens = createTokenBucket(context.steady, RATE);
    this.media = new GroupMedia({
      crypto: context.crypto,
      gcks: context.gcks,
      group,
      policies: context.policies,
      now: () => context.steady.now(),
      onSending: () => this.report(),
      onUnknownKey: () => this.#hinted(),
      onCollision: () => this.#collided(),
    });
  }

  get state(): MembershipState {
    return this.#state;
  }

  get role(): MemberRole | undefined {
    return this.#policies?.group?.member?.role;
  }

  get streams(): readonly GroupStream[] {
    return this.media.streams;
  }

  get sequence(): number | undefined {
    return this.#rekey?.sequence ?? this.#sequence;
  }

  get control(): string | undefined {
    return this.server === undefined ? this.#policies?.rekey?.controlAddress : undefined;
  }

  get server(): string | undefined {
    const { unicast } = this.#context;
    const { controlAddress, serverAddress } = this.#policies?.rekey ?? {};
    if (unicast === "never" || serverAddress === undefined || !serverAddress.startsWith("udp://")) return undefined;
    return unicast === "always" || controlAddress === undefined ? serverAddress : undefined;
  }

  get constants(): GroupConstants | undefined {
    return this.#constants;
  }

  /** What a GSA under the registration that is there has to go on from. */
  get known(): GsaExpectation["known"] {
    const { sequence } = this;
    if (this.#constants === undefined || sequence === undefined) return undefined;
    return { constants: this.#constants, sequence, ...(this.#gsaTime === undefined ? {} : { time: this.#gsaTime }) };
  }

  /** A copy of the KEK in force, the caller's to wipe. */
  get kek(): GroupKek | undefined {
    return this.#rekey?.kek();
  }

  get registration(): GroupRegistration | undefined {
    return this.#registration;
  }

  /** Whether an acknowledgement of leaving is wanted, or a proof at all. */
  get deregistration() {
    return this.#policies?.group?.deregistration ?? "none";
  }

  /** What this member holds, to leave with: its newest KEK, or data key where there is none (docs/protocol.md §19). */
  proof() {
    const constants = this.#constants;
    if (constants === undefined) return undefined;
    const { crypto, associations, gcks } = this.#context;
    const { kek } = this;
    if (kek !== undefined) {
      const held = heldGroupKey(crypto, constants, { kek });
      wipe(kek.key);
      return held;
    }
    const dataKey = associations
      .dataSas(gcks, this.group)
      .find(({ keys }) => keys.length > 0)
      ?.keys.at(-1);
    return dataKey === undefined ? undefined : heldGroupKey(crypto, constants, { dataKey });
  }

  enter(state: MembershipState, reason: string): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#context.onState(this, state, reason);
  }

  /** Installs what a verified GSA says, all at once (docs/protocol.md §15.6). */
  install(gsa: OpenedGsa, registration: GroupRegistration): void {
    const { crypto, associations, gcks, steady } = this.#context;
    const nowMs = steady.now();
    const fresh = registration !== this.#registration;
    const first = this.#constants === undefined;
    if (fresh) {
      this.#counter = 0;
      this.#unheard = false;
      this.#repeats = gsa.policies.rekey?.retransmission.count ?? 0;
    }
    this.#registration = registration;
    associations.putRegistration(this.group, registration);
    this.#constants = gsa.constants;
    this.#sequence = gsa.sequence;
    this.#gsaTime = gsa.time;
    this.#kept = [];
    this.#needs = "nothing";
    const previous = this.#rekey;
    this.#rekey = undefined;
    const { rekey } = gsa.policies;
    if (rekey !== undefined && gsa.path !== undefined) {
      this.#rekey = createRekeyReceiver({
        crypto,
        gcks,
        constants: gsa.constants,
        policies: { ...gsa.policies, rekey },
        keyPath: createKeyPath(crypto, gsa.path),
        sequence: gsa.sequence,
        time: gsa.time,
        receivedAtMs: nowMs,
        minimum: this.#context.minimum,
        ...(fresh || previous === undefined ? {} : { previous }),
        ...(this.#ownerKey === undefined ? {} : { ownerKey: this.#ownerKey }),
      });
      associations.putRekey(this.#rekey);
    }
    previous?.wipe();
    this.#apply(gsa.policies);
    this.media.synchronise(gsa.senders);
    this.#installKeys(gsa.dataKeys, false);
    this.#after("membership", 1000 * REPORT_AT * (gsa.policies.group.member?.lifetime ?? 0), () => this.#renewMembership());
    if (gsa.kek !== undefined && rekey !== undefined) this.#renewAt("kek", rekey.kekLifetime, "the KEK ends");
    this.#renewKeys();
    this.#heard();
    this.enter(rekey === undefined || gsa.kek !== undefined ? "in-step" : "waiting", "GSA installed");
    const reports = gsa.policies.group.confirmation || this.role?.send === true || this.server !== undefined;
    if (fresh && reports) this.report();
    this.#inStep();
    if (!first) this.#context.onRekey(this);
  }

  /** A rekey message, heartbeat or end (docs/protocol.md §16.9). */
  receive(octets: Uint8Array): Promise<void> {
    return this.#receive(octets, () => this.#tokens.take());
  }

  async #receive(octets: Uint8Array, takeToken: () => boolean): Promise<void> {
    const rekey = this.#rekey;
    if (rekey === undefined || this.#state === "ended") return;
    const outcome = await rekey.receive(octets, {
      nowMs: this.#context.steady.now(),
      wallClockMs: this.#context.clock.now(),
      takeToken,
    });
    // Another GSA took its place meanwhile.
    if (rekey !== this.#rekey) return;
    this.#conclude(outcome, octets);
    if (outcome.kind === "installed") await this.#retryKept();
  }

  /** Tells the key server what this member holds and sends (docs/protocol.md §18). */
  report(): void {
    const member = this.#policies?.group?.member;
    const { crypto, report, reportIntervalMs } = this.#context;
    if (this.#registration === undefined || this.#constants === undefined || member === undefined) return;
    this.#counter++;
    const streams = this.media.running();
    const { server } = this;
    report(
      sealReport(crypto, this.#registration.upKey, this.#constants, {
        counter: this.#counter,
        member: member.number,
        kekSpi: this.#rekey?.kekSpi,
        streams,
      }),
      server,
    );
    if (server !== undefined) this.#after("report", this.#locateAfter(), () => this.report());
    else if (streams.length > 0) this.#after("report", reportIntervalMs, () => this.report());
  }

  /** At first as rekey messages are repeated: before the key server knows the address, nothing comes. */
  #locateAfter(): number {
    if (this.#repeats === 0) return Math.min(LOCATE_MS, this.#context.reportIntervalMs);
    const { count, firstMs } = this.#policies?.rekey?.retransmission ?? { count: 0, firstMs: 0 };
    return firstMs * 2 ** (count - this.#repeats--);
  }

  /** The dialog or session with the key server has gone. */
  lost(): void {
    if (this.#state === "ended" || this.#state === "idle" || this.#state === "joining") return;
    const heartbeatMs = this.#policies?.rekey?.heartbeatMs;
    // Without heartbeats nothing else would tell how long this member has been deaf.
    this.miss("the dialog or session with the key server ended", { certain: heartbeatMs === 0 });
  }

  /** What it reported did not reach the key server, and nothing will. */
  unheard(): void {
    this.#unheard = true;
    this.lost();
  }

  /** Has lost the key server, or is about to lose its keys: registers again. What it has goes on opening packets. */
  miss(reason: string, { certain = false, needs, delayMs = this.#resynchronisationDelay() }: MissOptions = {}): void {
    if (this.#state === "ended" || this.#state === "joining" || this.#state === "idle") return;
    if (needs !== undefined && this.#needs !== "registration") this.#needs = needs;
    if (certain && !this.#timers.has("halt"))
      this.#after("halt", this.#policies?.rekey?.deactivationDelayMs ?? 0, () => this.media.halt());
    if (this.#state === "missing") return;
    this.enter("missing", reason);
    this.#context.onMissing(this, delayMs);
  }

  close(): void {
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
    this.media.close();
    this.#kept = [];
    const { associations, policies, gcks } = this.#context;
    associations.removeGroup(gcks, this.group);
    policies.removeGroup(gcks, this.group);
    this.#rekey?.wipe();
    this.#rekey = undefined;
    this.#registration = undefined;
  }

  #conclude(outcome: RekeyOutcome, octets: Uint8Array): void {
    switch (outcome.kind) {
      case "installed":
        this.#heard();
        this.#installed(outcome);
        return;
      case "heartbeat":
        this.#heard();
        if (outcome.missed) this.#awaitStep("a heartbeat tells of a later message");
        else this.#inStep();
        return;
      case "behind":
        this.#heard();
        if (this.#kept.length < MOST_KEPT) this.#kept.push(octets.slice());
        this.#awaitStep("an earlier message is awaited");
        return;
      case "elsewhere":
        this.#heard();
        this.#awaitStep("another packet is needed");
        return;
      case "lost":
        this.miss("keys do not fit an authentic message", { certain: true, needs: "keys" });
        return;
      case "end":
        this.#ended(outcome.restart);
        return;
      // Nothing follows from what is not authentic, or not to be judged.
      case "old":
      case "unverifiable":
      case "discarded":
        return;
    }
  }

  #installed(outcome: InstalledRekey): void {
    if (outcome.policies !== this.#policies) this.#apply(outcome.policies);
    this.media.synchronise(outcome.sync);
    this.#installKeys(outcome.dataKeys, outcome.immediate);
    if (outcome.kek !== undefined) wipe(outcome.kek.key);
    if (outcome.lifetime !== undefined) this.#renewAt("kek", outcome.lifetime, "the KEK ends");
    if (outcome.complete) this.#renewKeys();
    this.#context.onRekey(this);
    if (outcome.gap) {
      this.miss("a message before this one was missed", { certain: true, needs: "keys" });
      return;
    }
    if (outcome.complete && this.#needs === "keys") this.#needs = "nothing";
    this.#inStep();
  }

  /** Messages that overtook others. */
  async #retryKept(): Promise<void> {
    const kept = this.#kept;
    this.#kept = [];
    // They were authentic when they came: that costs no token again.
    for (const octets of kept) await this.#receive(octets, () => true);
  }

  #apply(policies: GroupPolicies): void {
    const { associations, gcks, streams } = this.#context;
    this.#policies = policies;
    for (const data of policies.data) associations.putDataSa(gcks, this.group, data);
    const member = policies.group?.member;
    const ssrcs = new Map((member?.ssrcs ?? []).map(({ stream, ssrc }) => [stream, ssrc]));
    this.media.configure(policies.data, member?.role ?? { send: false, receive: false }, ssrcs, streams);
  }

  #installKeys(keys: readonly DataKey[], immediate: boolean): void {
    const { associations, gcks, steady } = this.#context;
    const nowMs = steady.now();
    const { activationDelayMs, deactivationDelayMs } = this.#policies?.rekey ?? DEFAULT_DELAYS;
    const delays = { activationDelayMs: immediate ? 0 : activationDelayMs, deactivationDelayMs };
    for (const key of keys) {
      const installed = associations.installDataKey(
        gcks,
        this.group,
        // The database keeps the octets; what was handed over is wiped below.
        { ...key, key: key.key.slice(), ...(key.salt === undefined ? {} : { salt: key.salt.slice() }) },
        nowMs,
        delays,
      );
      this.media.install(installed);
      if (installed.activeAtMs > nowMs) this.#after("activate", installed.activeAtMs - nowMs, () => this.media.activate());
    }
    wipeDataKeys(keys);
    this.media.activate();
    this.#scheduleExpiry();
  }

  #scheduleExpiry(): void {
    const { associations, gcks, steady } = this.#context;
    const ends = associations.dataSas(gcks, this.group).flatMap(({ keys }) => keys.map(({ expiresAtMs }) => expiresAtMs));
    if (ends.length === 0) return;
    this.#after("expire", Math.min(...ends) - steady.now() + 1, () => {
      this.#context.expire();
      this.#scheduleExpiry();
    });
  }

  /** Something authentic came: the key server lives (§16.10, 3H). */
  #heard(): void {
    const heartbeatMs = this.#policies?.rekey?.heartbeatMs ?? 0;
    if (heartbeatMs === 0) return;
    this.#after("silence", 3 * heartbeatMs, () => this.miss("nothing authentic for three heartbeats", { certain: true }));
  }

  #inStep(): void {
    this.#cancel("span");
    this.#certain = false;
    if (this.#needs !== "nothing") return;
    this.#cancel("halt");
    this.media.resume();
    if (this.#unheard) return;
    if (this.#state === "behind" || this.#state === "missing" || (this.#state === "waiting" && this.#rekey?.kekSpi !== undefined))
      this.enter("in-step", "in step");
  }

  /** Something is missing that may still come: one retransmission span later it has not (§16.9). */
  #awaitStep(reason: string, certain = true): void {
    this.#certain ||= certain;
    if (this.#state === "missing" && certain) this.miss(reason, { certain });
    if (this.#state === "in-step" || this.#state === "waiting") this.enter("behind", reason);
    if (this.#state !== "behind" || this.#timers.has("span")) return;
    const rekey = this.#policies?.rekey;
    this.#after("span", rekey === undefined ? 0 : retransmissionSpanMs(rekey.retransmission), () =>
      this.miss(reason, { certain: this.#certain }),
    );
  }

  /** Anybody can send packets under a key that nobody has: it counts once a minute (docs/protocol.md §20.2). */
  #hinted(): void {
    const nowMs = this.#context.steady.now();
    if (nowMs - this.#hintedAtMs < HINT_MS) return;
    this.#hintedAtMs = nowMs;
    this.#awaitStep("packets under a key that is not here", false);
  }

  #ended(restart: boolean): void {
    if (restart) {
      this.miss("the group begins again", { certain: true, needs: "registration" });
      return;
    }
    this.enter("ended", "the group has ended");
    this.media.halt();
    for (const name of ["silence", "halt", "span", "kek", "data", "membership", "report"] as const) this.#cancel(name);
    this.#after("end", this.#policies?.rekey?.deactivationDelayMs ?? 0, () => this.close());
  }

  #collided(): void {
    this.media.halt();
    this.miss("somebody else sends under this member's SSRC", { needs: "registration", delayMs: 0 });
  }

  #renewMembership(): void {
    this.report();
    this.#after("membership", 1000 * (RENEW_AT - REPORT_AT) * (this.#policies?.group?.member?.lifetime ?? 0), () => {
      this.report();
      this.#after("membership", 1000 * REPORT_AT * (this.#policies?.group?.member?.lifetime ?? 0), () => this.#renewMembership());
    });
  }

  #renewKeys(): void {
    const lifetimes = this.#policies?.data.map(({ lifetime }) => lifetime).filter((lifetime) => lifetime > 0) ?? [];
    if (lifetimes.length > 0) this.#renewAt("data", Math.min(...lifetimes), "a data key ends");
  }

  #renewAt(name: TimerName, seconds: number, reason: string): void {
    this.#after(name, 1000 * RENEW_AT * seconds, () => this.miss(reason, name === "data" ? { needs: "keys" } : {}));
  }

  #resynchronisationDelay(): number {
    return this.#policies?.rekey?.resynchronisationDelayMs ?? DEFAULT_DELAYS.resynchronisationDelayMs;
  }

  #after(name: TimerName, milliseconds: number, callback: () => void): void {
    this.#cancel(name);
    const timer = this.#context.timers.after(Math.min(LONGEST_MS, Math.max(0, milliseconds)), () => {
      if (this.#timers.get(name) === timer) this.#timers.delete(name);
      callback();
    });
    this.#timers.set(name, timer);
  }

  #cancel(name: TimerName): void {
    this.#timers.get(name)?.cancel();
    this.#timers.delete(name);
  }
}
