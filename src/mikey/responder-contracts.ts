import type { CryptoProvider } from "../crypto/index.js";
import type { Clock } from "../io/index.js";
import type { SrtpPolicy } from "../srtp/index.js";
import type { CryptoSessionRequest } from "./cs-map.js";
import type { Csb, Identity, KeyPairCredential } from "./csb.js";
import type { KeyRequest } from "./key-request.js";
import type { GeneralExtensionPayload } from "./message.js";
import type { MikeyPolicy } from "./policy.js";
import type { ReplayCache, ReplayClaim } from "./replay.js";
import type { ToleranceName } from "./tolerances.js";

export interface ResponderOptions {
  readonly crypto: CryptoProvider;
  readonly clock: Clock;
  /** The pre-shared key of an Initiator; undefined where there is none. The identity is the one of the message, else of the context. */
  readonly findCredential: (
    initiatorId: Identity | undefined,
    context: ReceiveContext,
  ) => { readonly psk: Uint8Array } | undefined | Promise<{ readonly psk: Uint8Array } | undefined>;
  /** Our key pairs, for the modes that need one, in the order of our preference. Default none. */
  readonly keyPairs?: readonly KeyPairCredential[];
  /** What is acceptable, and whom the keys of Initiators belong to. Default: no certificate is good. */
  readonly policy?: MikeyPolicy;
  /** Claims by itself. Without it the caller has to make the reported claim before anything comes of the message. */
  readonly replayCache?: ReplayCache;
  /** Accepted distance of the clocks either way, milliseconds. Default 5 minutes. */
  readonly skewMs?: number;
  /**
   * Accept COUNTER timestamps of who is authenticated. They have no time that could go out of date, so the greatest one has
   * to outlive restarts: only with a durable cache. Default false.
   */
  readonly acceptCounter?: boolean;
  /** Named departures from RFC 3830 that are put up with. Default none. */
  readonly tolerances?: readonly ToleranceName[];
  /** Accept NULL keying outside TLS. Default false. */
  readonly allowNullKeying?: boolean;
  /** Who we are: sent as IDr, what a received IDr has to be, and under a shared key what no IDi may be: it would be a message of our own that came back. */
  readonly identity?: Identity;
  /** Which IDr are ours, where it is more than `identity`. */
  readonly isLocalIdentity?: (responderId: Identity) => boolean;
  /** Narrows or widens what SRTP policies are taken. Default: everything that encrypts and authenticates both RTP and RTCP. */
  readonly policyAccepted?: (policy: SrtpPolicy, policyNo: number, context: ReceiveContext) => boolean;
  /** Policies to name in an ERR where none of the proposed is accepted (RFC 3830 §5.1.1). Default: the suites of the policy. */
  readonly supported?: readonly SrtpPolicy[];
}

/** The keys of a group, as a Responder gives them to each member that asks in mode RSA-R (RFC 4738 §3.2, §3.6). */
export interface GroupKeys {
  /** The group's own, with which keys are derived. */
  readonly csbId: number;
  readonly rand: Uint8Array;
  readonly policies: ReadonlyMap<number, SrtpPolicy>;
  readonly cryptoSessions: readonly CryptoSessionRequest[];
  readonly keys: readonly KeyRequest[];
}

/** What the carrier knows of a message beside its octets. */
export interface ReceiveContext {
  /** Whether TLS protects the channel end to end. Default false. */
  readonly secure?: boolean;
  /** True where a credential is required: NULL keying is then refused whatever else is allowed. */
  readonly requirePsk?: boolean;
  /** The Initiator's identity where the message has none: From, authentication (RFC 4567 §4.2, §7). */
  readonly peerId?: Identity;
  /** Dialog or session: a repeated message is answered again only in the same one. */
  readonly scope?: string;
  /** The bundle that this dialog or session has; an update can only be for it. */
  readonly csb?: Csb;
  /** The key management protocols that the SDP offered, in its order; compared with the SDP IDs extension (RFC 4567 §4.1.4). */
  readonly sdpIds?: readonly string[];
  /** SSRC for a session that the Initiator left open because the Responder sends it. */
  readonly ssrcFor?: (csId: number) => number | undefined;
  /** Mode RSA-R: the keys that this party makes. Default: one TGK of 32 octets. */
  readonly keys?: () => readonly KeyRequest[];
  /** Mode RSA-R: give the keys of this group. */
  readonly group?: GroupKeys;
  /** The last word on a bundle that is good in itself: refuses by throwing, before the message is claimed and answered. */
  readonly accept?: (csb: Csb, kind: "new" | "update") => void;
  /**
   * General Extensions for the response, from the CSB that was just agreed; what they say may first have to be made durable. Where it throws a
   * MikeyError, the message is refused with it.
   */
  readonly responseExtensions?: (csb: Csb) => readonly GeneralExtensionPayload[] | Promise<readonly GeneralExtensionPayload[]>;
}

export type Received =
  | {
      /** `update`: the CSB of the context, changed (RFC 3830 §4.5). */
      readonly kind: "new" | "update";
      readonly csb: Csb;
      /** The R_MESSAGE, where one was requested. */
      readonly response: Uint8Array | undefined;
      /** To be made durable before anything comes of the message; undefined with NULL keying, where nothing is authentic. */
      readonly claim: ReplayClaim | undefined;
    }
  /** The same message again: send the same response, change nothing. */
  | { readonly kind: "repeated"; readonly response: Uint8Array | undefined; readonly claim: ReplayClaim };

/** Answers initial messages and updates. */
export interface Responder {
  /**
   * One I_MESSAGE (RFC 3830 §5.3).
   * @throws CodecError where the octets are no MIKEY message; MikeyError where they are refused, with the ERR message to
   *   send in `reply` where one may be sent; MikeyPeerError for an ERR message
   */
  receive(octets: Uint8Array, context?: ReceiveContext): Promise<Received>;
}
