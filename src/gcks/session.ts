/** What is left of a registration once it is answered: its session, and for a while the answer. */
import { equalBytes } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import { type GroupRegistration, type LeaveVerdict, openLeave, type ProofVerdict } from "../gsa/index.js";
import type { Clock, Timer, Timers } from "../io/index.js";
import { DataType, type Identity, sameIdentity } from "../mikey/index.js";
import { type Membership, refusalOf } from "./admission.js";
import type { MemberChannel, MemberSession, RegistrationAnswer } from "./contracts.js";
import type { Group } from "./group.js";

/** docs/protocol.md §6.3: how long the same de-registration gets the same acknowledgement. */
const ACKNOWLEDGEMENT_MS = 32_000;
/** How long the same I_MESSAGE gets the same answer: SIP's transactions are over then (64*T1, RFC 3261 §17.1.1.2). */
const ANSWER_MS = 32_000;
/** Answers that are kept at a time, of some kilobytes each. */
const MOST_ANSWERS = 4096;
/** Answers at which those whose membership has ended are looked for. */
const LEAST_TO_PRUNE = 64;

/** What a session needs of its key server, the same for all. */
export interface SessionHost {
  readonly crypto: CryptoProvider;
  /** Who the key server is. */
  readonly identity: Identity;
  /** Monotonic. */
  readonly steady: Clock;
  readonly timers: Timers;
  readonly report: (message: Uint8Array, session: Session) => Promise<Uint8Array | undefined>;
}

/** The memberships of one registration. There are as many as members: it holds what it cannot ask for. */
export class Session implements MemberSession {
  readonly #host: SessionHost;
  /** Who the key server was on the wire. */
  readonly #gcks: Identity;
  readonly #channel: MemberChannel;
  #memberships: readonly Pick<Membership, "group" | "number">[];
  #answered: { readonly request: Uint8Array; readonly acknowledgement: Uint8Array | undefined; readonly until: number } | undefined;

  constructor(
    host: SessionHost,
    { gcks }: Pick<GroupRegistration, "gcks">,
    memberships: readonly Membership[],
    channel: MemberChannel,
  ) {
    this.#host = host;
    this.#gcks = sameIdentity(gcks, host.identity) ? host.identity : gcks;
    this.#memberships = memberships.map(({ group, number }) => ({ group, number }));
    this.#channel = channel;
  }

  get lives(): boolean {
    return this.#memberships.some(({ group, number }) => group.member(number) !== undefined);
  }

  has(group: Group, number: number): boolean {
    return this.#memberships.some((membership) => membership.group === group && membership.number === number);
  }

  async receive(message: Uint8Array): Promise<Uint8Array | undefined> {
    if (message[1] === DataType.DEREGISTRATION) return (await this.#leave(message)).acknowledgement;
    if (message[1] !== DataType.REPORT) return undefined;
    try {
      return await this.#host.report(message, this);
    } catch (error) {
      throw refusalOf(error);
    }
  }

  async end(proof: Uint8Array | undefined): Promise<{ verdict: ProofVerdict; acknowledgement?: Uint8Array }> {
    this.#host.timers.after(ACKNOWLEDGEMENT_MS, () => {
      // It proves and reports nothing any more.
      this.#memberships = [];
      this.#answered = undefined;
    });
    try {
      const { verdict, acknowledgement } = await this.#leave(proof);
      return { verdict, ...(acknowledgement === undefined ? {} : { acknowledgement }) };
    } finally {
      // The dialog or session is over, whatever came of the proof.
      for (const { group, number } of this.#memberships) {
        if (group.member(number) === undefined) continue;
        // An outsider that injects an end must not be able to throw members out (docs/protocol.md §19).
        if (group.definition.unprovenLeaves) await group.remove([number], "left").catch(() => undefined);
        else group.lost(number, this.#channel);
      }
    }
  }

  lost(): void {
    for (const { group, number } of this.#memberships) group.lost(number, this.#channel);
  }

  async #leave(
    octets: Uint8Array | undefined,
  ): Promise<{ verdict: LeaveVerdict["verdict"]; acknowledgement: Uint8Array | undefined }> {
    const answered = this.#answered;
    if (
      octets !== undefined &&
      answered !== undefined &&
      this.#host.steady.now() < answered.until &&
      equalBytes(answered.request, octets)
    )
      return { verdict: "verified", acknowledgement: answered.acknowledgement };
    const registration = this.#registration();
    // Where no membership is left there is nothing to leave.
    if (octets === undefined || registration === undefined)
      return { verdict: octets === undefined ? "absent" : "rejected", acknowledgement: undefined };
    const verdict = openLeave(this.#host.crypto, registration, octets, ({ csbId, kind, spi }) => {
      const membership = this.#memberships.find(({ group }) => group.csbId === csbId);
      return membership?.group.held(membership.number, kind, spi);
    });
    if (verdict.verdict !== "verified") return { verdict: verdict.verdict, acknowledgement: undefined };
    const left = this.#memberships.filter(({ group }) => verdict.groups.includes(group.csbId));
    // The acknowledgement says that it is so: first it has to be durable.
    await Promise.all(left.map(({ group, number }) => group.remove([number], "left")));
    this.#answered = {
      request: octets.slice(),
      acknowledgement: verdict.acknowledgement,
      until: this.#host.steady.now() + ACKNOWLEDGEMENT_MS,
    };
    this.#memberships = this.#memberships.filter((membership) => !left.includes(membership));
    return { verdict: "verified", acknowledgement: verdict.acknowledgement };
  }

  /** The registration SA as one of its groups keeps it; undefined where no membership is left. Good for this turn. */
  #registration(): GroupRegistration | undefined {
    for (const { group, number } of this.#memberships) {
      const member = group.member(number);
      const keys = member?.keys;
      if (member !== undefined && keys !== undefined) return { role: "gcks", gcks: this.#gcks, member: member.identity, ...keys };
    }
    return undefined;
  }
}

interface RecentAnswer {
  readonly scope: string;
  readonly answer: RegistrationAnswer;
  readonly session: Session;
  readonly until: number;
}

/** Answers to registrations, for whoever did not get one and asks again (docs/protocol.md §12.2): for a while, and not more than so many. */
export class RecentAnswers {
  readonly #steady: Clock;
  readonly #timers: Timers;
  /** The oldest first. */
  readonly #answers = new Map<string, RecentAnswer>();
  #timer: Timer | undefined;
  #pruneAt = LEAST_TO_PRUNE;

  constructor(steady: Clock, timers: Timers) {
    this.#steady = steady;
    this.#timers = timers;
  }

  get size(): number {
    return this.#answers.size;
  }

  /** The answer to a message, to the same peer in the same dialog or session and while the membership lives. */
  find(key: string, scope: string): RegistrationAnswer | undefined {
    const found = this.#answers.get(key);
    return found?.scope === scope && this.#steady.now() < found.until && found.session.lives ? found.answer : undefined;
  }

  keep(key: string, scope: string, answer: RegistrationAnswer, session: Session): void {
    this.#answers.set(key, { scope, answer, session, until: this.#steady.now() + ANSWER_MS });
    if (this.#answers.size >= this.#pruneAt) this.#prune();
    this.#timer ??= this.#timers.after(ANSWER_MS, () => this.#forget());
  }

  clear(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#answers.clear();
  }

  /** Drops what nobody gets any more. Each costs a look at one other, spread over those that come. */
  #prune(): void {
    for (const [key, { session }] of this.#answers) if (!session.lives) this.#answers.delete(key);
    const excess = this.#answers.size - MOST_ANSWERS;
    let dropped = 0;
    for (const key of this.#answers.keys()) {
      if (dropped++ >= excess) break;
      this.#answers.delete(key);
    }
    this.#pruneAt = Math.max(LEAST_TO_PRUNE, Math.min(2 * this.#answers.size, this.#answers.size + MOST_ANSWERS / 8));
  }

  #forget(): void {
    this.#timer = undefined;
    const now = this.#steady.now();
    for (const [key, { until }] of this.#answers) {
      if (until > now) {
        this.#timer = this.#timers.after(until - now, () => this.#forget());
        return;
      }
      this.#answers.delete(key);
    }
  }
}
