/** A member of groups of one key server (RFC 4046 §3, docs/protocol.md Part II). */
import { equalBytes, formatHex, WatchwordError } from "../bytes/index.js";
import { type CryptoProvider, defaultCrypto, type PublicKey } from "../crypto/index.js";
import {
  createSecurityAssociationDatabase,
  createSecurityPolicyDatabase,
  GROUP_LIMITS,
  type GroupRegistration,
  type GsaExpectation,
  type MemberRole,
  type MinimumGroupPolicy,
  openGsa,
  openLeaveAcknowledgement,
  type ProofVerdict,
  type ProvisionedRegistration,
  provisionedRegistration,
  sealLeave,
  wipeGroupRegistration,
  wipeGsa,
} from "../gsa/index.js";
import type { Clock, Timer, Timers } from "../io/index.js";
import {
  type Credential,
  createInitiator,
  createTimestampSource,
  createTurns,
  DataType,
  DEFAULT_SKEW_MS,
  encodeNtp,
  type Identity,
  type InitiatorOptions,
  type PeerKey,
  type TimestampSource,
} from "../mikey/index.js";
import type { GroupMember, GroupMembership, MemberCarrier, MembershipState } from "./contracts.js";
import { Membership, type MembershipContext } from "./membership.js";
import { register } from "./registration.js";

/** A group to join. */
export interface GroupToJoin {
  readonly group: Uint8Array;
  readonly role: MemberRole;
  /** The owner's key: the key server's credential is then checked, and needed where the minimum says so. */
  readonly ownerKey?: PublicKey;
}

export interface GroupMemberOptions extends Pick<InitiatorOptions, "policy"> {
  readonly groups: readonly GroupToJoin[];
  readonly credential: Credential;
  /** Who we are, and whom we register with, as ID payloads say it. */
  readonly identity: Identity;
  readonly gcks: Identity;
  readonly carrier: MemberCarrier;
  /** m= lines that this member describes. */
  readonly streams: number;
  readonly clock: Clock;
  /** Monotonic. Default: `clock`. */
  readonly steady?: Clock;
  readonly timers: Timers;
  /** Default: the platform's. */
  readonly crypto?: CryptoProvider;
  /** Shared by everything that uses the same long-term key. */
  readonly timestamps?: TimestampSource;
  /** What groups have to offer at least. Default: signed rekey messages, suites that encrypt and authenticate. */
  readonly minimum?: MinimumGroupPolicy;
  /** How often a sender reports, milliseconds. Default 60 s. */
  readonly reportIntervalMs?: number;
  /** Rekey messages by unicast UDP, from key servers that offer it. Default: in the dialog or session where there is no multicast. */
  readonly unicast?: UnicastOptions;
  /** A membership entered another state, and why. */
  readonly onState?: (membership: GroupMembership, state: MembershipState, reason: string) => void;
  /** New keys were installed, by a rekey message or a later GSA; addresses may be others. */
  readonly onRekey?: (membership: GroupMembership) => void;
  /** A registration after the first one failed; it is tried again. */
  readonly onFailure?: (error: unknown) => void;
  /**
   * The key server proved that it refuses this member, which was expelled, or whose group is gone: all memberships have ended, nothing is tried
   * again. @param error `member.refused`, with the MikeyPeerError as its cause
   */
  readonly onRefused?: (error: WatchwordError) => void;
}

/** How a member gets rekey messages by unicast (docs/protocol.md §18). */
export interface UnicastOptions {
  /** Sends a datagram to `udp://192.0.2.1:2269`. What comes back to the same socket goes to `receiveControl`. */
  readonly send: (server: string, datagram: Uint8Array) => void;
  /** Where the group has multicast too: this member has none. Default false. */
  readonly always?: boolean;
}

const REPORT_INTERVAL_MS = 60_000;
/** How often the delay before a new registration doubles (docs/protocol.md §20.2: up to 64 times the delay). */
const MOST_DOUBLINGS = 6;
const LEAST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 600_000;
/** Octets of data that wait to be judged. */
const MOST_WAITING = 64;
/** Messages that wait for the GSA that says what they are worth. */
const MOST_EARLY = 16;

/** @throws WatchwordError `member.groups` */
export function createGroupMember(options: GroupMemberOptions): GroupMember {
  return new Member(options);
}

class Member implements GroupMember {
  readonly memberships: readonly Membership[];
  readonly #options: GroupMemberOptions;
  readonly #crypto: CryptoProvider;
  readonly #timestamps: TimestampSource;
  readonly #associations = createSecurityAssociationDatabase();
  readonly #turns = createTurns();
  #registration: GroupRegistration | undefined;
  /** The key server's own, as the last registration showed it. */
  #peerKey: PeerKey | undefined;
  #retry: Timer | undefined;
  #failures = 0;
  #registering = false;
  /** Messages of groups that are not known yet, which overtook the GSA. */
  #early: Uint8Array[] = [];
  #waiting = 0;
  #lastT: bigint | undefined;
  #closed = false;

  constructor(options: GroupMemberOptions) {
    const { groups, carrier } = options;
    const names = new Set(groups.map(({ group }) => formatHex(group)));
    if (groups.length === 0 || names.size < groups.length)
      throw new WatchwordError("member.groups", "one group at least, and none twice");
    this.#options = options;
    this.#crypto = options.crypto ?? defaultCrypto;
    this.#timestamps = options.timestamps ?? createTimestampSource(options.clock);
    const policies = createSecurityPolicyDatabase();
    const context: MembershipContext = {
      crypto: this.#crypto,
      clock: options.clock,
      steady: options.steady ?? options.clock,
      timers: options.timers,
      gcks: options.gcks,
      associations: this.#associations,
      policies,
      minimum: options.minimum ?? {},
      streams: options.streams,
      reportIntervalMs: options.reportIntervalMs ?? REPORT_INTERVAL_MS,
      onState: (membership, state, reason) => options.onState?.(membership, state, reason),
      onRekey: (membership) => options.onRekey?.(membership),
      onMissing: (_, delayMs) => this.#registerLater(delayMs),
      unicast: options.unicast === undefined ? "never" : options.unicast.always === true ? "always" : "without-multicast",
      report: (octets, server) => this.#report(octets, server),
      expire: () => this.#expire(),
    };
    this.memberships = groups.map(({ group, ownerKey }) => new Membership(context, group, ownerKey));
    carrier.onMessage = (message) => this.#receive(message);
    carrier.onLost = () => {
      for (const membership of this.memberships) membership.lost();
    };
  }

  async join(): Promise<void> {
    for (const membership of this.memberships) membership.enter("joining", "asked to join");
    try {
      await this.#turns(() => this.#register());
    } catch (error) {
      for (const membership of this.memberships) if (membership.state === "joining") membership.enter("idle", reasonOf(error));
      throw error;
    }
  }

  provision(provisioned: ProvisionedRegistration): void {
    const known = (group: Uint8Array): boolean => provisioned.groups.some((other) => equalBytes(group, other));
    if (!this.memberships.every(({ group }) => known(group)))
      throw new WatchwordError("member.groups", "the registration SA is for other groups");
    this.#registration = provisionedRegistration(this.#crypto, provisioned, "member");
    for (const membership of this.memberships) membership.enter("joining", "provisioned");
  }

  receiveControl(datagram: Uint8Array): void {
    if (datagram.length <= GROUP_LIMITS.rekeyPacketOctets) this.#receive(datagram);
  }

  async leave(): Promise<ProofVerdict> {
    this.#retry?.cancel();
    return this.#turns(async () => {
      try {
        return await this.#end().catch(async (error: unknown) => {
          if (this.#registration === undefined) throw error;
          // A key server that was restarted knows the membership, and not the dialog or session: one of now carries the proof.
          await this.#register();
          return this.#end();
        });
      } finally {
        this.close();
      }
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#retry?.cancel();
    for (const membership of this.memberships) {
      membership.enter("idle", "closed");
      membership.close();
    }
    // One from a file, which no GSA has come under, is nobody's but ours.
    if (this.#registration !== undefined) wipeGroupRegistration(this.#registration);
    this.#options.carrier.onMessage = undefined;
    this.#options.carrier.onLost = undefined;
    this.#options.carrier.close();
  }

  /** Ends the dialog or session, with a proof where there is something to prove. */
  async #end(): Promise<ProofVerdict> {
    const registration = this.#registration;
    const left = this.memberships.filter(
      (membership) => membership.registration === registration && membership.deregistration !== "none",
    );
    const keys = left.flatMap((membership) => membership.proof() ?? []);
    if (registration === undefined || keys.length === 0) {
      await this.#options.carrier.end(undefined);
      return "absent";
    }
    const acknowledge = left.some(({ deregistration }) => deregistration === "acknowledged");
    const now = encodeNtp(this.#options.clock.now());
    const { octets, t } = sealLeave(this.#crypto, registration, keys, now, acknowledge, this.#lastT);
    this.#lastT = t;
    const acknowledgement = await this.#options.carrier.end(octets);
    return openLeaveAcknowledgement(this.#crypto, registration, octets, acknowledgement, keys);
  }

  async #register(): Promise<void> {
    const options = this.#options;
    if (this.#closed) throw closedError();
    this.#registering = true;
    const { registration, gsas, peerKey } = await register(
      {
        crypto: this.#crypto,
        initiator: createInitiator({
          crypto: this.#crypto,
          clock: options.clock,
          timestamps: this.#timestamps,
          ...(options.policy === undefined ? {} : { policy: options.policy }),
        }),
        credential: options.credential,
        identity: options.identity,
        gcks: options.gcks,
        secure: options.carrier.secure,
        groups: options.groups,
        knownKey: this.#peerKey,
        expectation: (group) => this.#expectation(group, undefined),
      },
      (iMessage) => options.carrier.register(iMessage),
    ).finally(() => {
      this.#registering = false;
    });
    if (this.#closed) {
      // Nobody is there any more to wipe what would be installed now.
      for (const gsa of gsas) wipeGsa(gsa);
      wipeGroupRegistration(registration);
      throw closedError();
    }
    const early = this.#early;
    this.#early = [];
    this.#registration = registration;
    this.#peerKey = peerKey;
    this.#lastT = undefined;
    this.#failures = 0;
    for (const membership of this.memberships) {
      const gsa = gsas.find(({ constants }) => equalBytes(constants.group, membership.group));
      if (gsa !== undefined) membership.install(gsa, registration);
      else {
        membership.enter("idle", "the key server does not admit to this group");
        membership.close();
      }
    }
    for (const octets of early) this.#receive(octets);
  }

  /** @param known where the GSA comes under a registration that is there; a new one may be in a group that began again (docs/protocol.md §15.6) */
  #expectation(group: Uint8Array, known: GsaExpectation["known"]) {
    const { minimum, groups, clock } = this.#options;
    const ownerKey = groups.find((candidate) => equalBytes(candidate.group, group))?.ownerKey;
    return {
      now: clock.now(),
      ...(known === undefined ? {} : { known }),
      ...(minimum === undefined ? {} : { minimum }),
      ...(ownerKey === undefined ? {} : { ownerKey: async () => ownerKey }),
    };
  }

  /** After a random delay, so that not everybody comes at once; twice as long after every failure (docs/protocol.md §20.2). */
  #registerLater(delayMs: number): void {
    if (this.#closed || this.#retry !== undefined) return;
    const spread = this.#random();
    const first = delayMs * spread;
    const doubled = Math.max(delayMs, LEAST_DELAY_MS) * 2 ** Math.min(this.#failures, MOST_DOUBLINGS);
    const backedOff = Math.min(doubled, LONGEST_DELAY_MS) * (0.75 + spread / 2);
    this.#retry = this.#options.timers.after(this.#failures === 0 ? first : backedOff, () => {
      this.#retry = undefined;
      void this.#turns(() => this.#registerAgain(delayMs));
    });
  }

  async #registerAgain(delayMs: number): Promise<void> {
    // What was missing may have come meanwhile.
    if (this.#closed || this.memberships.every(({ state }) => state !== "missing")) return;
    try {
      await this.#register();
    } catch (error) {
      if (this.#closed) return;
      if (error instanceof WatchwordError && error.code === "member.refused") {
        this.#refused(error);
        return;
      }
      this.#failures++;
      this.#options.onFailure?.(error);
      this.#registerLater(delayMs);
    }
  }

  /** What this member holds is of no use any more, and neither is asking again (docs/protocol.md §20.2). */
  #refused(error: WatchwordError): void {
    for (const membership of this.memberships) membership.enter("idle", error.message);
    this.close();
    this.#options.onRefused?.(error);
  }

  /** One message of the key server, in the dialog, by multicast or unicast. */
  #receive(octets: Uint8Array): void {
    const csbId = csbIdOf(octets);
    // Under a registration SA from a file the first GSA says which CSB ID the group has.
    const membership =
      this.memberships.find(({ constants }) => constants !== undefined && constants.csbId === csbId) ??
      (octets[1] === DataType.GSA
        ? this.memberships.find(({ constants, state }) => constants === undefined && state === "joining")
        : undefined);
    if (membership === undefined && this.#registering && octets[1] === DataType.REKEY) {
      if (this.#early.push(octets.slice()) > MOST_EARLY) this.#early.shift();
    }
    if (membership === undefined || this.#waiting >= MOST_WAITING) return;
    const copy = octets.slice();
    this.#waiting++;
    this.#turns(() => (copy[1] === DataType.GSA ? this.#receiveGsa(membership, copy) : membership.receive(copy)))
      .catch((error: unknown) => {
        // Between two registrations everything fails silently (docs/protocol.md §22); what is no refusal of the octets is a defect.
        if (!(error instanceof WatchwordError)) this.#options.onFailure?.(error);
      })
      .finally(() => {
        this.#waiting--;
      });
  }

  /** A GSA in the dialog or session, under the registration that is there (docs/protocol.md §15.6). */
  async #receiveGsa(membership: Membership, octets: Uint8Array): Promise<void> {
    const { state, known } = membership;
    const registration = membership.registration ?? this.#registration;
    if (registration === undefined || state === "ended" || state === "idle") return;
    const waiting = this.memberships.filter((candidate) => candidate === membership || candidate.constants === undefined);
    const gsa = await openGsa(this.#crypto, registration.downKey, octets, {
      gcks: registration.gcks,
      member: registration.member,
      groups: waiting.map(({ group }) => group),
      ...this.#expectation(membership.group, known),
      // No exchange says that the first one under a registration SA from a file is of now.
      ...(known === undefined ? { skewMs: DEFAULT_SKEW_MS } : {}),
    });
    const meant = waiting.find(({ group }) => equalBytes(group, gsa.constants.group));
    if (meant === undefined || this.#closed) wipeGsa(gsa);
    else meant.install(gsa, registration);
  }

  #report(octets: Uint8Array, server: string | undefined): void {
    if (server !== undefined) {
      this.#options.unicast?.send(server, octets);
      return;
    }
    this.#options.carrier
      .send(octets)
      .then((answer) => {
        if (answer !== undefined) this.#receive(answer);
      })
      .catch((error: unknown) => {
        if (this.#closed) return;
        this.#options.onFailure?.(error);
        if (this.#options.carrier.open) return;
        // Without a dialog or session nothing that this member has to say is heard, and its membership ends at its lifetime.
        for (const membership of this.memberships) membership.unheard();
      });
  }

  #expire(): void {
    const nowMs = (this.#options.steady ?? this.#options.clock).now();
    for (const { group, dataSa, mki } of this.#associations.expire(nowMs)) {
      for (const membership of this.memberships) if (equalBytes(membership.group, group)) membership.media.remove(dataSa, mki);
    }
  }

  /** 0 to 1. */
  #random(): number {
    const octets = this.#crypto.randomBytes(4);
    return new DataView(octets.buffer, octets.byteOffset).getUint32(0) / 2 ** 32;
  }
}

/** CSB ID of a message, which finds the group (docs/protocol.md §13). */
function csbIdOf(octets: Uint8Array): number | undefined {
  return octets.length < 10 ? undefined : new DataView(octets.buffer, octets.byteOffset).getUint32(4);
}

function closedError(): WatchwordError {
  return new WatchwordError("member.closed", "the member was closed");
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : "failed";
}
