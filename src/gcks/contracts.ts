import type { GroupPolicies, MemberRole, ProofVerdict, ProvisionedRegistration } from "../gsa/index.js";
import type { Endpoint } from "../io/index.js";

/**
 * What a carrier offers for one registration: a SIP dialog or an RTSP session towards the member (docs/protocol.md §23). The key
 * server hands over one message at a time and waits for the outcome, so that messages arrive in the order of their sequence.
 */
export interface MemberChannel {
  /** Sends a GSA or rekey message: MESSAGE or INFO, SET_PARAMETER. @throws (rejects) where the member does not take it, or is gone */
  deliver(message: Uint8Array): Promise<void>;
  /** The key server ends the dialog or session: the member was expelled, or the group has ended. Idempotent. */
  close(): void;
}

/** Whom a carrier has at the other end. MIKEY proves by itself who registers; this is beside it. */
export interface CarrierPeer {
  readonly remote: Endpoint;
  /** Who proved a password by Digest. */
  readonly user?: string;
  /** Whom the client certificate of TLS names. */
  readonly certified?: readonly string[];
}

/** An I_MESSAGE that asks for membership in groups, and what the carrier knows of it. */
export interface RegistrationRequest {
  readonly iMessage: Uint8Array;
  readonly peer: CarrierPeer;
  /** Whether TLS protects the channel end to end. */
  readonly secure: boolean;
  /** Dialog or session: a repeated message is answered again only in the same one. */
  readonly scope: string;
  /** m= lines that the member described: it gets an SSRC for each that the group has. */
  readonly streams: number;
  readonly channel: MemberChannel;
}

/** A group to which a registration admits. */
export interface GrantedGroup {
  readonly group: Uint8Array;
  readonly role: MemberRole;
  /** As the GSA says it to this member. */
  readonly policies: GroupPolicies;
  readonly description: GroupDescription;
}

/** What came of a registration. Everything in it is durable. */
export interface RegistrationAnswer {
  /** The R_MESSAGE, with a HELLO and a nested GSA message for each group (docs/protocol.md §12.2). */
  readonly response: Uint8Array;
  readonly groups: readonly GrantedGroup[];
  readonly session: MemberSession;
}

/** The memberships of one registration, as its carrier sees them. */
export interface MemberSession {
  /**
   * A message of the member in its dialog or session: a report, the de-registration from one of several groups.
   * @returns what goes back with the carrier's answer, if anything. @throws GcksRefusal
   */
  receive(message: Uint8Array): Promise<Uint8Array | undefined>;
  /** The dialog or session ends (BYE, TEARDOWN), with a proof or without (docs/protocol.md §19). */
  end(proof: Uint8Array | undefined): Promise<{ readonly verdict: ProofVerdict; readonly acknowledgement?: Uint8Array }>;
  /** The dialog or connection is gone without an end: the memberships live on until their lifetime. */
  lost(): void;
}

/** One m= line of a group, for descriptions. */
export interface GroupStreamDescription {
  /** `audio`, `video`, `application`. */
  readonly media: string;
  /** `RTP/SAVP` or `RTP/SAVPF`. */
  readonly profile: string;
  /** RTP payload types, in the order of preference. */
  readonly formats: readonly number[];
  /** Further lines below the m= line, without line ends: a=rtpmap, a=fmtp, b=. */
  readonly lines: readonly string[];
  /** Where packets go. RTCP goes to the next port. */
  readonly destination: Endpoint & { readonly ttl?: number };
}

/** What DESCRIBE and the answers to offers tell of a group. Nothing in it is secret. */
export interface GroupDescription {
  readonly group: Uint8Array;
  readonly title?: string;
  readonly streams: readonly GroupStreamDescription[];
}

/** One thing that happened, for the audit log. Never holds keys. */
export interface AuditEvent {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly type:
    | "group-created"
    | "group-restored"
    | "group-restarted"
    | "group-ended"
    | "admitted"
    | "refused"
    | "confirmed"
    | "left"
    | "removed"
    | "replaced"
    | "expelled"
    | "rekeyed"
    | "report-refused"
    | "delivery-failed";
  /** Name of the group. */
  readonly group?: string;
  /** Identity of the member or joiner. */
  readonly member?: string;
  readonly detail?: Readonly<Record<string, string | number | boolean>>;
}

/** What is counted, over all groups, since the start. */
export interface GcksMetrics {
  readonly groups: number;
  readonly members: number;
  /** Registrations that are remembered to be answered again, for a while, and those that came from a file. */
  readonly sessions: number;
  readonly registrations: number;
  readonly refusals: number;
  readonly rekeys: number;
  readonly rekeyPackets: number;
  readonly rekeyOctets: number;
  readonly wraps: number;
  readonly departures: number;
  readonly expulsions: number;
  readonly reports: number;
  readonly reportsRefused: number;
}

/** A member as operators see it. */
export interface MemberView {
  readonly number: number;
  readonly identity: string;
  readonly role: MemberRole;
  readonly state: "provisional" | "confirmed" | "lapsing";
  /** Milliseconds since 1970. */
  readonly admittedAt: number;
  readonly ssrcs: readonly number[];
}

/** A group as operators see it. */
export interface GroupView {
  readonly name: string;
  readonly state: "active" | "ended";
  readonly members: number;
  readonly sequence: number;
  /** SPI of the KEK in force; undefined in groups without a rekey SA. */
  readonly kekSpi: number | undefined;
  readonly mkis: readonly number[];
}

/** A group controller and key server (RFC 4046 §2.1, §3). */
export interface Gcks {
  readonly metrics: GcksMetrics;
  readonly groups: readonly GroupView[];
  /** @throws WatchwordError `gcks.unknown-group` */
  members(group: string): readonly MemberView[];
  /** What descriptions tell of a group; undefined where there is none of this name, or it has ended. */
  describe(group: string): GroupDescription | undefined;
  /**
   * Admits to groups, or says the same again to the same message. What it answers is durable.
   * @throws (rejects) GcksRefusal
   */
  register(request: RegistrationRequest): Promise<RegistrationAnswer>;
  /**
   * Admits a member whose registration SA came from a file instead of an exchange (docs/protocol.md §12.5); its GSA messages go out by the
   * channel. @throws (rejects) GcksRefusal where the groups of the file do not let it in
   */
  provision(
    registration: ProvisionedRegistration,
    role: MemberRole,
    channel: MemberChannel,
    streams: number,
  ): Promise<MemberSession>;
  /** A report by UDP. Never throws. */
  receiveDatagram(datagram: Uint8Array, from: Endpoint): void;
  /** Removes a member, or everybody of this identity, and replaces their keys at once. The identity is refused from now on. @returns how many were removed */
  expel(group: string, member: string | number): Promise<number>;
  /** Lets an identity that was expelled join again. */
  readmit(group: string, identity: string): Promise<void>;
  /** New keys for everybody. */
  rekey(group: string): Promise<void>;
  /** Replaces every key of the group, those of the tree included: some of them are in wrong hands. */
  replace(group: string): Promise<void>;
  /** Disbands the group; members register again. */
  restart(group: string): Promise<void>;
  /** Ends the group with a signed farewell. */
  end(group: string): Promise<void>;
  /** Stops without a word to members: what is durable goes on at the next start. */
  close(): Promise<void>;
}
