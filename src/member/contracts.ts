import type { MemberRole, ProofVerdict, ProvisionedRegistration } from "../gsa/index.js";

/**
 * A member's way to its key server: a SIP dialog or an RTSP session (docs/protocol.md §23), that is opened by the first registration and
 * opened anew by one after it has ended.
 */
export interface MemberCarrier {
  /** Whether TLS protects the channel end to end. Known before anything is sent. */
  readonly secure: boolean;
  /** Whether there is a dialog or session, as far as this end knows. */
  readonly open: boolean;
  /**
   * Carries an I_MESSAGE: INVITE or re-INVITE, SETUP. @returns the R_MESSAGE
   * @throws (rejects) MikeyPeerError with its octets where an ERR message came; WatchwordError of the carrier otherwise
   */
  register(iMessage: Uint8Array): Promise<Uint8Array>;
  /** Carries a report or the de-registration from one of several groups. @returns what came back with the carrier's answer */
  send(message: Uint8Array): Promise<Uint8Array | undefined>;
  /** Ends the dialog or session: BYE, TEARDOWN. @returns the acknowledgement, if one came */
  end(proof: Uint8Array | undefined): Promise<Uint8Array | undefined>;
  /** Closes for good and without a word, where the member gives up; what is under way fails. */
  close(): void;
  /** GSA and rekey messages in the dialog or session. */
  onMessage: ((message: Uint8Array) => void) | undefined;
  /** The dialog or session ended, by the key server or by a failure. */
  onLost: ((error?: Error) => void) | undefined;
}

/** State of a membership (docs/protocol.md §20.2). */
export type MembershipState = "idle" | "joining" | "waiting" | "in-step" | "behind" | "missing" | "ended";

/** One m= line of a group: SRTP under the group's data SA. Plaintext never passes, whatever happens to the keys. */
export interface GroupStream {
  /** Number of the m= line, from 1. */
  readonly number: number;
  /** URI of where packets go, as the group's policy says: `rtp://239.0.0.2:5004`. */
  readonly destination: string | undefined;
  /** SSRC that the key server assigned; undefined before the first GSA. New at every registration. */
  readonly ssrc: number | undefined;
  /** MKI under which this member sends now. */
  readonly mki: number | undefined;
  /**
   * RTP of an application, whatever its SSRC, as SRTP under the assigned one; undefined where the member may not send now (no key, no
   * role, out of step for too long).
   */
  protect(packet: Uint8Array): Uint8Array | undefined;
  /** RTCP to send; its SSRC becomes the assigned one. */
  protectRtcp(packet: Uint8Array): Uint8Array | undefined;
  /** One packet from the network, RTP or RTCP. Never throws. */
  receive(packet: Uint8Array): void;
  onRtp: ((packet: Uint8Array, ssrc: number) => void) | undefined;
  onRtcp: ((packet: Uint8Array, ssrc: number) => void) | undefined;
  readonly statistics: GroupStreamStatistics;
}

export interface GroupStreamStatistics {
  readonly sent: number;
  readonly unsent: number;
  readonly received: number;
  /** Not authentic, replayed or malformed. */
  readonly refused: number;
  /** Under an MKI that this member does not have (yet, or any more). */
  readonly unknownKey: number;
}

/** A membership in one group. */
export interface GroupMembership {
  readonly group: Uint8Array;
  readonly state: MembershipState;
  readonly role: MemberRole | undefined;
  readonly streams: readonly GroupStream[];
  /** Sequence of the newest message that was installed. */
  readonly sequence: number | undefined;
  /** URI of the multicast group of rekey messages: `udp://239.0.0.1:2269`; undefined where they come by unicast, or in the dialog or session. */
  readonly control: string | undefined;
  /** URI of the rekey server address, `udp://192.0.2.1:2269`, where rekey messages come from by unicast, because reports go there. */
  readonly server: string | undefined;
}

/** One registration: membership in one or several groups of one key server. */
export interface GroupMember {
  readonly memberships: readonly GroupMembership[];
  /**
   * Registers and waits for the GSAs.
   * @throws (rejects) WatchwordError `member.refused` where the key server proved that it refuses this member, `member.…`, `member.closed` after `close`;
   *   MikeyPeerError for a refusal that anybody could have sent; MikeyError
   */
  join(): Promise<void>;
  /**
   * Takes a registration SA from a file instead of an exchange (docs/protocol.md §12.5) and waits for GSA messages under it, which the
   * carrier or the control group brings. @throws WatchwordError `member.groups` where the file is of other groups
   */
  provision(registration: ProvisionedRegistration): void;
  /** A datagram from the control group address, or from the key server by unicast. Never throws. */
  receiveControl(datagram: Uint8Array): void;
  /** Leaves all groups with a proof, and says what the key server proved in return. */
  leave(): Promise<ProofVerdict>;
  /** Stops without a word and wipes every key. */
  close(): void;
}
