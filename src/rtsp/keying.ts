import type { KeyedMedia, MediaOffer, SharedSender } from "../gsa/index.js";
import type { Endpoint } from "../io/index.js";
import type { CarrierStatus, ErrorReport } from "../mikey/index.js";
import type { KeyMgmtBodyForm, KeyMgmtSpec, SdpToleranceName } from "../sdp/index.js";

/** Whom keys are exchanged with. */
export interface KeyingPeer {
  /** Name proven by RTSP authentication (RFC 4567 §7): says which credential is meant. */
  readonly user?: string;
  /** The From header, where there is no authentication. */
  readonly from?: string;
  readonly remote: Endpoint;
  /** Whether TLS protects the channel end to end. */
  readonly secure: boolean;
}

/** One m= line as keying sees it. */
export interface KeyingStream {
  /** Index of the m= line. */
  readonly index: number;
  /** SSRC of what this party sends on it: media of a server, RTCP of a client. Absent where it is not known yet. */
  readonly ssrc?: number;
  /** The stream is sent once for many receivers, under the keys of this sender. */
  readonly shared?: SharedSender;
  /** The message is for information: nothing comes back. */
  readonly unanswered?: boolean;
}

/** How a kind of peer wants key management to be carried (the rows of src/peers). Default: as RFC 4567 has it, and no tolerance. */
export interface KeyingHabits {
  /** What stands as uri in KeyMgmt. Default `absolute`. */
  readonly keyMgmtUri?: "absolute" | "empty";
  /** Where SET_PARAMETER carries new keys. Default `header`. */
  readonly rekeyForm?: "header" | KeyMgmtBodyForm;
  readonly sdpTolerances?: readonly SdpToleranceName[];
}

/** Keys for one session, and what goes back to the peer with them. */
export interface KeyingOutcome {
  readonly media: KeyedMedia;
  readonly response: Uint8Array | undefined;
}

/**
 * How the sessions of one presentation are keyed, server side. Every m= line is keyed by an exchange of its own, and every client gets
 * keys of its own, unless the stream is shared.
 */
export interface ServerKeying {
  readonly habits?: KeyingHabits;
  /** `session`: the messages of the first m= line stand at session level, and clients answer them at every SETUP. Default `media`. */
  readonly level?: "session" | "media";
  /**
   * One I_MESSAGE for all m= lines, at session level, which the first SETUP answers (RFC 4567 §4.2); in place of `offer` where it is
   * there. @throws as `offer`
   */
  offerAll?(streams: readonly KeyingStream[], peer: KeyingPeer): Promise<MediaOffer | undefined>;
  /**
   * The I_MESSAGE of one m= line for the description (RFC 4567 §4.2: the server is the Initiator), or nothing where the client is to begin.
   * @throws MikeyError and others: the description is then refused
   */
  offer(stream: KeyingStream, peer: KeyingPeer): Promise<MediaOffer | undefined>;
  /**
   * What SETUP brought: the answer to `offer`, or an I_MESSAGE of the client's own, or nothing. Takes `offer` over: completes or abandons it.
   * @param scope tells sessions apart: a repeated message is answered again only in its own
   * @throws MikeyError and others; the session is then refused with 403 or 463
   */
  accept(
    offer: MediaOffer | undefined,
    message: Uint8Array | undefined,
    stream: KeyingStream,
    peer: KeyingPeer,
    scope: string,
  ): Promise<KeyingOutcome>;
  /** A sender for all receivers of a stream. Without this method a presentation cannot be multicast. */
  share?(): SharedSender;
}

/** What a client's keying is asked to do. */
export interface ClientKeyingRequest {
  /** The m= lines that one exchange covers: one for a message at media level, all for one at session level. */
  readonly streams: readonly KeyingStream[];
  readonly peer: KeyingPeer;
  /** The server's description said `a=x-watchword:1` (docs/protocol.md §4.1). */
  readonly announced: boolean;
  /** The stream is multicast: what comes in is under a key that others have too, which must not protect what goes out. */
  readonly shared?: boolean;
  /** Key management protocols of that level, in order (RFC 4567 §4.1.4). */
  readonly protocols: readonly string[];
  /** Which of how many m= lines a message at session level is answered for, where it is answered per stream. */
  readonly line?: { readonly index: number; readonly count: number };
}

/** How a client keys a presentation. */
export interface ClientKeying {
  readonly habits?: KeyingHabits;
  /** What kind of server this keying is for; with a ladder, the step that it stands on. */
  readonly profile?: string;
  /** Which of several messages at one level is answered. Default: the first. */
  choose?(messages: readonly Uint8Array[]): number;
  /** Whether a message at session level is answered anew at every SETUP, not by the first for all. Default false. */
  answeredPerStream?(message: Uint8Array): boolean;
  /**
   * The server refused SETUP with this status, and, where it did, this MIKEY error.
   * @returns whether another way of keying is worth trying: the next call takes it. It is false after a bounded number of calls
   */
  climb?(status: number, report?: ErrorReport): boolean;
  /** Answers the I_MESSAGE of the description. @throws MikeyError and others: the session is then not set up */
  answer(message: Uint8Array, request: ClientKeyingRequest): Promise<KeyingOutcome>;
  /** Begins an exchange where the description has no message. Without this method such media is refused. */
  initiate?(request: ClientKeyingRequest): Promise<MediaOffer>;
}

/** What a failure of keying becomes in a response. */
export interface KeyingFailure {
  readonly status: number;
  /** MIKEY ERR message to carry back. */
  readonly reply?: Uint8Array;
}

/**
 * The status of a failure (RFC 4567 §4.2): 403 where key management was expected and none came, 463 for anything else.
 * Errors that know better say so themselves.
 */
export function keyingFailure(error: unknown, messagePresent: boolean): KeyingFailure {
  const { status, reply } = error as { readonly status?: Partial<CarrierStatus>; readonly reply?: unknown };
  const said = typeof status?.rtsp === "number" ? status.rtsp : undefined;
  const fallback = messagePresent ? 463 : 403;
  return { status: messagePresent && said !== undefined ? said : fallback, ...(reply instanceof Uint8Array ? { reply } : {}) };
}

/** The specification for a stream: by its URI, or the only one where there is one stream. */
export function findSpec(specs: readonly KeyMgmtSpec[], uri: string, streams: number): KeyMgmtSpec | undefined {
  const mikey = specs.filter(({ protocol }) => protocol === "mikey");
  return mikey.find((spec) => spec.uri === uri) ?? (streams === 1 && mikey.length === 1 ? mikey[0] : undefined);
}

/** The uri of a KeyMgmt header for one message, as the peer wants it. */
export function keyMgmtUri(habits: KeyingHabits | undefined, absolute: string): string {
  return habits?.keyMgmtUri === "empty" ? "" : absolute;
}

/** Whether uri="" may stand for the request URI. */
export function emptyUriTolerated(habits: KeyingHabits | undefined): boolean {
  return habits?.sdpTolerances?.includes("empty-key-mgmt-uri") === true;
}
