/** The group controller and key server (RFC 4046 §3, docs/protocol.md Part II). */
import { equalBytes, formatHex, utf8Text, WatchwordError } from "../bytes/index.js";
import { type CryptoProvider, defaultCrypto, type Signer } from "../crypto/index.js";
import {
  decodeReport,
  type MemberRole,
  type ProvisionedRegistration,
  provisionedRegistration,
  type ReceivedReport,
  wipeGroupRegistration,
} from "../gsa/index.js";
import { type Clock, createAdvancingClock, type Endpoint, type Timers } from "../io/index.js";
import { type CredentialData, DataType, type Identity, type PeerKey, type ResponderOptions } from "../mikey/index.js";
import { createExpulsions, createReservations, type Expulsions, type Store, type WitnessedStore } from "../store/index.js";
import { type AdmissionOptions, type Admitted, admit, type Joiner, type Membership, refusalOf, type Verdict } from "./admission.js";
import type {
  AuditEvent,
  CarrierPeer,
  Gcks,
  GcksMetrics,
  GroupDescription,
  GroupView,
  MemberChannel,
  MemberSession,
  MemberView,
  RegistrationAnswer,
  RegistrationRequest,
} from "./contracts.js";
import { describeGroup, type GroupDefinition, isCarried, roleFor } from "./definition.js";
import { GcksRefusal, OVERLOAD } from "./errors.js";
import { type Counter, Group, type GroupContext } from "./group.js";
import { RecentAnswers, Session, type SessionHost } from "./session.js";

/** Who asks to join. */
export interface JoinRequest extends CarrierPeer {
  readonly identity: string;
  readonly group: string;
  /** What the definition of the group lets it do. */
  readonly role: MemberRole;
  /** What signed for the identity, and whom its certificate names; absent where a shared key proved it. */
  readonly peerKey?: PeerKey;
}

export interface GcksOptions
  extends Pick<ResponderOptions, "findCredential" | "keyPairs" | "policy" | "isLocalIdentity" | "skewMs"> {
  readonly store: Store;
  /** Where expulsions are kept beside `store`, so that a restored backup does not forget them. */
  readonly outside?: Store;
  readonly clock: Clock;
  /** Monotonic: lifetimes of memberships and keys go by it while the key server runs. Default: `clock`. */
  readonly steady?: Clock;
  readonly timers: Timers;
  /** Default: the platform's. */
  readonly crypto?: CryptoProvider;
  /** Who the key server is, in ID payloads. */
  readonly identity: Identity;
  readonly groups: readonly GroupDefinition[];
  /** Signs rekey messages; needed by every group that has a signature. */
  readonly signer?: Signer;
  /** The owner's statements, by name of the group. */
  readonly credentials?: ReadonlyMap<string, CredentialData>;
  /** Authorities that rules of access name: SHA-256 of their certificates, by name. */
  readonly issuers?: ReadonlyMap<string, readonly Uint8Array[]>;
  /** Certificates of the owner for members that know it by an authority, the owner's first. */
  readonly certificates?: readonly Uint8Array[];
  /**
   * Asked for everybody whom the definition of a group lets in (RFC 4046 §2, requirement 2): an AAA server, a user who accepts or rejects.
   * @returns what it may do, no more than asked; false: nothing
   */
  readonly authorise?: (request: JoinRequest) => Promise<MemberRole | boolean>;
  /** Sends to a control group: `udp://239.0.0.1:2269`. Without it, members are told in their dialogs and sessions. */
  readonly multicast?: (address: string, datagram: Uint8Array) => void;
  readonly unicast?: (datagram: Uint8Array, to: Endpoint) => void;
  readonly audit?: (event: AuditEvent) => void;
  /** Registrations at a time; beyond it 503. Default 256. */
  readonly mostRegistrations?: number;
}

const MOST_REGISTRATIONS = 256;
/** docs/protocol.md §21: reports of one address that are checked before one verifies, each second. */
const REPORTS_PER_SECOND = 10;
const MOST_ADDRESSES = 4096;
const REFUSED = { sip: 403, rtsp: 403 } as const;
const NOWHERE: Endpoint = { host: "", port: 0 };
/** docs/protocol.md §24. */
const REGRESSION_SKIP = 2 ** 16;
const MARKS = ["sequence", "mki", "ssrc", "member"] as const;

/**
 * Opens a key server over what its store has: groups that were there go on where they were (docs/protocol.md §24).
 * @throws (rejects) WatchwordError `gcks.signer` where a signed group has no signer, `gcks.definition`; those of the store
 */
export async function openGcks(options: GcksOptions): Promise<Gcks> {
  const names = new Set(options.groups.map(({ name }) => name));
  if (names.size < options.groups.length) throw new WatchwordError("gcks.definition", "two groups have one name");
  for (const { name, rekey, access } of options.groups) {
    for (const { issuer } of access) {
      if (issuer !== undefined && options.issuers?.has(issuer) !== true)
        throw new WatchwordError("gcks.definition", `group ${name} names ${issuer}, which is no authority of this key server`);
    }
    const kind = options.signer?.publicKey.kind;
    const needed =
      rekey === undefined || rekey.signature === "none" ? undefined : rekey.signature === "ed25519" ? "ed25519" : "ec-p256";
    if (needed !== undefined && kind !== needed)
      throw new WatchwordError("gcks.signer", `group ${name} is signed by ${needed}, and the signing key is ${kind ?? "missing"}`);
  }
  const controller = new Controller(options);
  try {
    await controller.start();
  } catch (error) {
    // Groups that were opened before it would go on, and say that they live.
    await controller.close();
    throw error;
  }
  return controller;
}

type MutableMetrics = { -readonly [K in Counter]: number };

class Controller implements Gcks {
  readonly #options: GcksOptions;
  readonly #crypto: CryptoProvider;
  readonly #steady: Clock;
  /** Ours, in which users of Digest have short names. */
  readonly #domain: string;
  readonly #expulsions: Expulsions;
  readonly #groups = new Map<string, Group>();
  readonly #answers: RecentAnswers;
  /** Of registration SAs that came from a file. */
  readonly #provisioned = new Map<string, Session>();
  /** Those of which members are being made. */
  readonly #provisioning = new Set<string>();
  readonly #host: SessionHost;
  readonly #counts: MutableMetrics = {
    registrations: 0,
    refusals: 0,
    rekeys: 0,
    rekeyPackets: 0,
    rekeyOctets: 0,
    wraps: 0,
    departures: 0,
    expulsions: 0,
    reports: 0,
    reportsRefused: 0,
  };
  /** Counts expulsions, so that a registration under way notices one that came in between. */
  #expelled = 0;
  readonly #reporters = new Map<string, { second: number; count: number }>();
  #underWay = 0;
  #closed = false;

  constructor(options: GcksOptions) {
    this.#options = options;
    this.#crypto = options.crypto ?? defaultCrypto;
    this.#domain = (utf8Text(options.identity.data) ?? "").replace(/^sips?:[^@]*@/, "");
    const { store, outside, clock, steady = clock, timers, identity } = options;
    this.#steady = steady;
    this.#answers = new RecentAnswers(steady, timers);
    this.#host = {
      crypto: this.#crypto,
      identity,
      steady,
      timers,
      report: async (message, session) => (await this.#report(message, undefined, session))?.answer,
    };
    this.#expulsions = createExpulsions(outside === undefined ? [store] : [store, outside], {
      random: { bytes: (length) => this.#crypto.randomBytes(length) },
    });
  }

  async start(): Promise<void> {
    const { store, groups, clock, timers, identity, signer, credentials, certificates = [], multicast, unicast } = this.#options;
    const reservations = createReservations(store, { random: { bytes: (length) => this.#crypto.randomBytes(length) } });
    const context: GroupContext = {
      crypto: this.#crypto,
      clock,
      steady: this.#steady,
      told: createAdvancingClock(clock, this.#steady),
      timers,
      store,
      reservations,
      identity,
      signer,
      credentialFor: (group) => credentials?.get(utf8Text(group) ?? ""),
      certificates,
      multicast,
      unicast,
      audit: (event) => this.#options.audit?.(event),
      count: (name, by = 1) => {
        this.#counts[name] += by;
      },
    };
    const { regression } = store as Partial<WitnessedStore>;
    if (regression !== undefined) {
      for (const { name } of groups) for (const mark of MARKS) await reservations.skip(name, mark, REGRESSION_SKIP);
    }
    for (const definition of groups) {
      const group = await Group.open(context, definition);
      this.#groups.set(definition.name, group);
      if (group.ended) continue;
      // Keys and numbers that the store does not know of may be in use: everybody registers again, before another word is said under the
      // numbers of the backup (docs/protocol.md §24).
      if (regression !== undefined) await group.end(true);
      else await group.removeReplaced().catch(() => undefined);
    }
    if (regression === undefined) return;
    await (store as WitnessedStore).acceptRegression();
  }

  get metrics(): GcksMetrics {
    const groups = [...this.#groups.values()];
    return {
      ...this.#counts,
      groups: groups.length,
      members: groups.reduce((sum, { size }) => sum + size, 0),
      sessions: this.#answers.size + this.#provisioned.size,
    };
  }

  get groups(): readonly GroupView[] {
    return [...this.#groups.values()].map(({ view }) => view);
  }

  members(group: string): readonly MemberView[] {
    return this.#group(group).members;
  }

  describe(name: string): GroupDescription | undefined {
    const group = this.#groups.get(name);
    return group === undefined || group.ended ? undefined : describeGroup(group.definition);
  }

  async register(request: RegistrationRequest): Promise<RegistrationAnswer> {
    const { mostRegistrations = MOST_REGISTRATIONS } = this.#options;
    if (this.#closed || this.#underWay >= mostRegistrations)
      throw new GcksRefusal("gcks.overload", "too many registrations at a time", OVERLOAD, { retryAfter: 2 });
    this.#underWay++;
    try {
      const result = await admit(this.#admission(), request, this.#answers);
      return result.kind === "repeated" ? result.answer : this.#open(request, result);
    } catch (error) {
      this.#counts.refusals++;
      const refusal = refusalOf(error);
      this.#options.audit?.({
        at: this.#options.clock.now(),
        type: "refused",
        ...memberOf(request.peer),
        detail: { from: request.peer.remote.host, code: causeCode(refusal) },
      });
      throw refusal;
    } finally {
      this.#underWay--;
    }
  }

  async provision(
    provisioned: ProvisionedRegistration,
    wanted: MemberRole,
    channel: MemberChannel,
    streams: number,
  ): Promise<MemberSession> {
    const key = `provisioned/${formatHex(provisioned.id)}`;
    for (const [name, { lives }] of this.#provisioned) if (!lives) this.#provisioned.delete(name);
    if (this.#provisioned.has(key) || this.#provisioning.has(key))
      throw new GcksRefusal("gcks.refused", "this registration SA is in use", REFUSED);
    this.#provisioning.add(key);
    try {
      const session = await this.#provision(key, provisioned, wanted, channel, streams);
      this.#provisioned.set(key, session);
      return session;
    } finally {
      this.#provisioning.delete(key);
    }
  }

  async #provision(
    key: string,
    provisioned: ProvisionedRegistration,
    wanted: MemberRole,
    channel: MemberChannel,
    streams: number,
  ): Promise<Session> {
    const registration = provisionedRegistration(this.#crypto, provisioned, "gcks");
    const request = { peer: { remote: NOWHERE }, secure: true, scope: key, streams, channel, iMessage: new Uint8Array(0) };
    const memberships: Membership[] = [];
    try {
      if (!equalBytes(registration.gcks.data, this.#options.identity.data))
        throw new GcksRefusal("gcks.refused", "the registration SA is of another key server", REFUSED);
      const { groupNamed, roleIn, expelledSince } = this.#admission();
      const joiner = { identity: provisioned.member };
      for (const name of provisioned.groups) {
        const group = groupNamed(name);
        const allowed = group === undefined ? undefined : (await roleIn(group, joiner, request.peer)).role;
        const role = { send: wanted.send && allowed?.send === true, receive: wanted.receive && allowed?.receive === true };
        if (group === undefined || !(role.send || role.receive))
          throw new GcksRefusal("gcks.refused", "the member may not join a group of its registration SA", REFUSED);
        const number = await group.admit({ identity: registration.member, role }, streams);
        memberships.push({ group, number, role });
        if (await expelledSince(group, provisioned.member))
          throw new GcksRefusal("gcks.refused", "the member was expelled meanwhile", REFUSED);
        const { role: _role, gcks: _gcks, member: _member, ...keys } = registration;
        await group.bind(number, keys, channel);
      }
      for (const { group, number } of memberships) await channel.deliver(group.gsa(number, registration.downKey));
    } catch (error) {
      await Promise.all(memberships.map(({ group, number }) => group.remove([number], "removed").catch(() => undefined)));
      throw refusalOf(error);
    } finally {
      // The groups have copies.
      wipeGroupRegistration(registration);
    }
    for (const { group, number } of memberships) group.replace(provisioned.member, number);
    return new Session(this.#host, registration, memberships, channel);
  }

  receiveDatagram(datagram: Uint8Array, from: Endpoint): void {
    if (datagram[1] !== DataType.REPORT || !this.#mayReport(from)) return;
    this.#report(datagram, from, undefined)
      .then((good) => {
        if (good === undefined) return;
        // Many members may be behind one address: what is limited is what fails (docs/protocol.md §21).
        this.#reporters.delete(from.host);
        if (good.answer !== undefined) this.#options.unicast?.(good.answer, from);
      })
      .catch(() => undefined);
  }

  async expel(name: string, member: string | number): Promise<number> {
    const group = this.#group(name);
    const identity = typeof member === "string" ? member : group.member(member)?.name;
    if (identity === undefined) throw new WatchwordError("gcks.unknown-member", "there is no such member");
    // First it is kept out, then thrown out: it must not come back in between.
    await this.#expulsions.expel(name, identity);
    this.#expelled++;
    const numbers = group.numbersOf(identity);
    await group.remove(numbers, "expelled");
    return numbers.length;
  }

  async readmit(name: string, identity: string): Promise<void> {
    this.#group(name);
    await this.#expulsions.readmit(name, identity);
  }

  rekey(group: string): Promise<void> {
    return this.#group(group).rekey();
  }

  replace(group: string): Promise<void> {
    return this.#group(group).rekey(true);
  }

  restart(group: string): Promise<void> {
    return this.#group(group).end(true);
  }

  end(group: string): Promise<void> {
    return this.#group(group).end(false);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const group of this.#groups.values()) await group.close();
    this.#answers.clear();
    this.#provisioned.clear();
  }

  #admission(): AdmissionOptions {
    const { clock, store, identity, findCredential, keyPairs, policy, isLocalIdentity, skewMs } = this.#options;
    const expelled = this.#expelled;
    return {
      crypto: this.#crypto,
      clock,
      store,
      identity,
      findCredential,
      ...(keyPairs === undefined ? {} : { keyPairs }),
      ...(policy === undefined ? {} : { policy }),
      ...(isLocalIdentity === undefined ? {} : { isLocalIdentity }),
      ...(skewMs === undefined ? {} : { skewMs }),
      groupNamed: (group) =>
        [...this.#groups.values()].find(({ definition, ended }) => !ended && equalBytes(definition.group, group)),
      isKnown: (joiner) => [...this.#groups.values()].some(({ definition }) => this.#roleBy(definition, joiner) !== undefined),
      roleIn: (group, joiner, peer) => this.#roleIn(group, joiner, peer),
      expelledSince: async ({ definition }, name) =>
        this.#expelled !== expelled && (await this.#expulsions.isExpelled(definition.name, name)),
    };
  }

  /** What the rules of a group say. */
  #roleBy(definition: GroupDefinition, { identity, peerKey }: Joiner): MemberRole | undefined {
    return roleFor(definition, identity, (issuer) => {
      const certificates = this.#options.issuers?.get(issuer) ?? [];
      return peerKey?.issuers.some((one) => certificates.some((certificate) => equalBytes(certificate, one))) === true;
    });
  }

  async #roleIn(group: Group, joiner: Joiner, peer: CarrierPeer): Promise<Verdict> {
    const { definition } = group;
    const { identity } = joiner;
    const role = this.#roleBy(definition, joiner);
    if (role === undefined || (await this.#expulsions.isExpelled(definition.name, identity)))
      return { role: undefined, provable: true };
    if (definition.carrierIdentity === "same" && !isCarried(identity, peer, this.#domain))
      return { role: undefined, provable: false };
    // Before anybody is asked; it counts once more who is admitted meanwhile.
    group.checkRoomFor(identity);
    const answer = (await this.#options.authorise?.({ ...joiner, ...peer, group: definition.name, role })) ?? true;
    if (answer === true) return { role, provable: true };
    const allowed = answer === false ? undefined : { send: role.send && answer.send, receive: role.receive && answer.receive };
    return { role: allowed, provable: false };
  }

  /** Everything is durable: the memberships that this identity had too many of end, and the new ones have a session. */
  #open(request: RegistrationRequest, admitted: Admitted): RegistrationAnswer {
    const { key, member, memberships, response } = admitted;
    const identity = utf8Text(member.data) ?? "";
    for (const { group, number } of memberships) group.replace(identity, number);
    const session = new Session(this.#host, admitted, memberships, request.channel);
    const answer: RegistrationAnswer = {
      response,
      session,
      groups: memberships.map(({ group, number, role }) => ({
        group: group.definition.group,
        role,
        policies: group.policiesFor(number),
        description: describeGroup(group.definition),
      })),
    };
    this.#answers.keep(key, request.scope, answer, session);
    return answer;
  }

  /** @throws (rejects) CodecError, WatchwordError for what is no report */
  async #report(octets: Uint8Array, from: Endpoint | undefined, session: Session | undefined) {
    let report: ReceivedReport;
    try {
      report = decodeReport(octets);
    } catch (error) {
      this.#counts.reportsRefused++;
      throw error;
    }
    const group = [...this.#groups.values()].find(
      ({ csbId, definition }) => csbId === report.csbId && equalBytes(definition.group, report.group),
    );
    // In a dialog or session only its own memberships report.
    if (group === undefined || (session !== undefined && !session.has(group, report.member))) {
      this.#counts.reportsRefused++;
      return undefined;
    }
    return group.report(report, from);
  }

  #mayReport({ host }: Endpoint): boolean {
    const second = Math.floor(this.#steady.now() / 1000);
    const known = this.#reporters.get(host);
    if (known?.second === second) return ++known.count <= REPORTS_PER_SECOND;
    if (this.#reporters.size >= MOST_ADDRESSES) this.#reporters.clear();
    this.#reporters.set(host, { second, count: 1 });
    return true;
  }

  #group(name: string): Group {
    const group = this.#groups.get(name);
    if (group === undefined) throw new WatchwordError("gcks.unknown-group", `there is no group ${name}`);
    return group;
  }
}

/** Who was refused, as far as the carrier knows. */
function memberOf({ user, certified = [] }: CarrierPeer): { readonly member?: string } {
  const member = user ?? certified[0];
  return member === undefined ? {} : { member };
}

function causeCode(refusal: GcksRefusal): string {
  return refusal.cause instanceof WatchwordError ? refusal.cause.code : refusal.code;
}
