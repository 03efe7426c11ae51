import type { KeyedMedia, MediaKeying, ProofVerdict } from "../gsa/index.js";
import type { Credential } from "../mikey/index.js";
import type { MediaDirection } from "../sdp/index.js";
import type { SrtpPolicy } from "../srtp/index.js";

export type { MediaDirection } from "../sdp/index.js";

/** A message body as any SIP stack takes it. */
export interface SipBody {
  /** `application/mikey` or `application/sdp`. */
  readonly contentType: string;
  /** Value of Content-Disposition: `signal;handling=optional` beside BYE and its 200, `session` for SDP. */
  readonly contentDisposition: string;
  /** Text that every stack carries unchanged: SDP, or the key message in base64. */
  readonly content: string;
  /** The key message as octets, for stacks that carry binary bodies. Absent for SDP. */
  readonly octets?: Uint8Array;
}

/** A body that came: text or octets; `application/mikey` may be binary or base64. */
export interface ReceivedBody {
  readonly contentType: string;
  readonly content: string | Uint8Array;
}

/** A Warning header (RFC 3261 §20.43). */
export interface SipWarning {
  readonly code: 306 | 399;
  readonly text: string;
}

/** What tells one dialog from all others, and what its keys depend on. */
export interface DialogFacts {
  readonly callId: string;
  /** The From tag of the INVITE. The other tag is not known yet where the offer is made or answered. */
  readonly callerTag: string;
  /** URI of the other party: says which credential is meant (To of an INVITE that is sent, From of one that came). */
  readonly remote: string;
  /** Whether TLS protects the signalling end to end; false with any proxy in between. Default false. */
  readonly secure?: boolean;
  /** SSRC of what this party sends on an m= line, where it is known when the key message is made. Default: unknown, 0. */
  readonly ssrcFor?: (index: number) => number | undefined;
}

/** Where an offer/answer exchange of a dialog stands (RFC 3264; the names are those of JSEP). */
export type SignalingState = "stable" | "have-local-offer" | "have-remote-offer" | "closed";

/** Packets of an m= line that came to nothing, and why. */
export interface StreamDrops {
  /** Came before the keys and were dropped, by policy or because the buffer was full. */
  readonly early: number;
  /** Not authentic, replayed, malformed, or under an unknown key. */
  readonly refused: number;
  /** Not sent: no key yet, or the direction of the m= line forbids it. */
  readonly unsent: number;
}

/**
 * The SRTP of one m= line, from the offer to the end of the dialog, over every rekey. Plaintext never passes: what comes before the keys
 * is kept or dropped, what leaves without a key does not leave.
 */
export interface SipStream {
  /** Index of the m= line. */
  readonly index: number;
  /** Whether both directions that were negotiated have a key. */
  readonly ready: boolean;
  /** As negotiated last, seen from here; `inactive` before the answer and for a rejected line. */
  readonly direction: MediaDirection;
  /** How packets are protected; undefined before the keys are there. */
  readonly policy: SrtpPolicy | undefined;
  /** Eight hexadecimal digits that tell keys apart and reveal nothing; undefined before the keys are there. */
  readonly fingerprint: string | undefined;
  readonly drops: StreamDrops;
  /** Gets every opened RTP packet, those that came early first. */
  onRtp: ((packet: Uint8Array) => void) | undefined;
  onRtcp: ((packet: Uint8Array) => void) | undefined;
  /** One packet from the network, RTP or RTCP on one port or two (they are told apart, RFC 5761 §4). Never throws. */
  receive(packet: Uint8Array): void;
  /** RTP to send: the SRTP packet, or undefined where nothing may be sent. @throws WatchwordError as `SrtpSender.protect` */
  protect(packet: Uint8Array): Uint8Array | undefined;
  /** RTCP to send; it flows on hold too (RFC 3264 §5.1). */
  protectRtcp(packet: Uint8Array): Uint8Array | undefined;
}

/** What came of a refusal by the other party. */
export interface RefusalAdvice {
  /**
   * The same call may be tried once more: without HELLO, which the other end may not know (docs/protocol.md §8), or under a policy that it
   * named. `createOffer` of any dialog with this party does so from now on.
   */
  readonly retry: boolean;
  /** With `retry`: HELLO, and the numbers that it announces, are left out from now on. */
  readonly withoutHello?: boolean;
  /** With `retry`: the party names this policy in place of ours, in an authenticated error, and `suites` of our policy lists it. */
  readonly policy?: SrtpPolicy;
  /**
   * New keys were refused and the session is to be aborted (RFC 4567 §4.1.2; `refusedRekey`). Nothing is sent or opened any more; hang up,
   * with what `end` gives. False for a first offer, and where something else than the keys was refused.
   */
  readonly abort: boolean;
  /** Numbers of the MIKEY ERR message (RFC 3830 §6.12), where one came. It is not authenticated unless said. */
  readonly errorNos: readonly number[];
  readonly authenticated: boolean;
}

/**
 * The keys of one dialog: session descriptions and bodies in, session descriptions and bodies out, whatever SIP stack is around it.
 * Offers and answers go by RFC 3264, whoever sent the INVITE:
 *
 *     offerer:   createOffer(local)  -> send;  acceptAnswer(remote)
 *     answerer:  acceptOffer(remote);  createAnswer(local) -> send
 *
 * and `rollback` where the other party refused or this party gave up. Every later offer (re-INVITE, UPDATE: hold, rekey, more media)
 * takes the same steps and brings new keys; the old ones stay in use until the exchange is complete.
 */
export interface SipDialog {
  readonly state: SignalingState;
  /** m= lines so far, rejected ones included. Lines are never taken away (RFC 3264 §8). */
  readonly streams: readonly SipStream[];
  /** How the other end said that it implements docs/protocol.md: authenticated by HELLO, or by the SDP attribute alone. */
  readonly announced: "hello" | "attribute" | "no";
  /** The keyed media in force: one for a message at session level, one per m= line for messages at media level. */
  readonly media: readonly KeyedMedia[];
  /**
   * A local description made into an offer: RTP/AVP becomes RTP/SAVP (AVPF SAVPF), a=key-mgmt is added. Every other octet stays.
   * @throws WatchwordError `sip.state` (glare: an offer of the other party is being answered), `sip.credential`, `sip.media`; SDP CodecErrors
   */
  createOffer(localSdp: string): Promise<string>;
  /**
   * The answer to the last offer. Anything but a well-formed answer with an authentic key message for every accepted m= line is refused:
   * no key-mgmt, RTP/AVP, a=crypto alone. A refused answer ends the session (RFC 4567 §4.1.2): ACK and BYE for a new one. Only where the
   * other party answered a first offer with a MIKEY error (`mikey.peer-error`; the `cause` has its report) may it be offered other keys
   * in the same dialog instead.
   * @throws SipRefusal
   */
  acceptAnswer(remoteSdp: string): Promise<void>;
  /**
   * An offer of the other party, verified. Nothing is sent under its keys before `createAnswer`.
   * @throws SipRefusal with status, warnings and body of the response; 491 where an offer of ours is under way
   */
  acceptOffer(remoteSdp: string): Promise<void>;
  /**
   * A local description made into the answer to the offer that was accepted; its keys are in use from now on. The same offer again
   * (a retried request) gives the same key message. @throws WatchwordError `sip.state`, `sip.media`
   */
  createAnswer(localSdp: string): Promise<string>;
  /**
   * In place of a 488, where the other party shall offer other keys in the same dialog (RFC 4567 §4.1.2): the answer to the first offer,
   * which `acceptOffer` has just refused with a MIKEY error. Every m= line is rejected, the error is inside; no media flows before a later
   * offer is accepted. A rekey is refused with 488 only.
   * @throws WatchwordError `sip.state` where no such offer was refused, `sip.media`
   */
  createErrorAnswer(localSdp: string): string;
  /** Back to the last agreement: the offer under way, either side's, is void. The old keys are in use. */
  rollback(): void;
  /**
   * The other party refused the offer with a final response (488 and its like). Rolls back, or aborts.
   * @param body of the response: SDP or `application/mikey` with an ERR message
   * @param warnings values of its Warning headers
   */
  refused(status: number, body?: ReceivedBody, warnings?: readonly string[]): Promise<RefusalAdvice>;
  /**
   * One early dialog of a forked INVITE, by the To tag of its response. Each branch gets keyed media of its own from the one offer;
   * packets that came early are opened by whichever branch can. Valid while the first offer is unanswered on this dialog itself.
   * New keys (UPDATE in an early dialog) need an only branch, and no other one may come after them.
   * @throws WatchwordError `sip.state`, `sip.branches` beyond 16, or after new keys
   */
  fork(remoteTag: string): SipDialog;
  /**
   * The dialog is confirmed (2xx, ACK): every other branch of a forked offer is closed. Until then an answered call that ends keeps its keys
   * for 32 s, in case the same offer comes again in a retried INVITE.
   */
  confirm(): void;
  /** The body for BYE, or undefined where there is nothing to prove or nobody to read it (docs/protocol.md §8). */
  end(): SipBody | undefined;
  /** Judges what came with a BYE; `body` is for its 200. The dialog ends whatever the verdict (docs/protocol.md §6.3). */
  acceptEnd(body: ReceivedBody | undefined): { readonly verdict: ProofVerdict; readonly body?: SipBody };
  /** Judges what came with the 200 to our BYE. */
  acceptEndAnswer(body: ReceivedBody | undefined): ProofVerdict;
  /** Wipes every key. */
  close(): void;
}

/** Makes the dialogs of one user agent. */
export interface SipKeying {
  readonly options: SipKeyingOptions;
  dialog(facts: DialogFacts): SipDialog;
  /** Closes what was kept for retried requests. Dialogs live on. */
  close(): void;
}

/** What a user agent's media is keyed with. */
export interface SipKeyingOptions {
  /** Makes and answers key messages: `createMediaKeying` of `watchword/gsa`. */
  readonly keying: MediaKeying;
  /** The credential for a party that is called, of any mode; undefined where there is none: the call is then not placed. */
  readonly credentialFor: (remote: string) => Credential | undefined;
  /** For every m= line of an offer. Default the first of `suites` of the keying's policy, or AES_CM_128_HMAC_SHA1_80, which every SRTP endpoint has. */
  readonly policy?: SrtpPolicy;
  /** Where the key message of an offer stands: one for all m= lines, or one each. Answers follow their offer. Default `session`. */
  readonly level?: "session" | "media";
  /**
   * Transport profiles that may be keyed. A browser's WebRTC needs `UDP/TLS/RTP/SAVPF` here. An offer with another one on an active m=
   * line is refused. Default `RTP/SAVP`, `RTP/SAVPF`.
   */
  readonly profiles?: readonly string[];
  /**
   * How a first offer asks for SRTP. `secure`: RTP/SAVP and a=key-mgmt. `capability`: m= lines that are plain RTP stay so, with SRTP and the
   * key message as their potential configuration (RFC 5939), for parties that take keys in no other way. Who knows none answers in the
   * clear, and may send so: such an answer is a downgrade and is refused, but the other party has taken the call by then. Default `secure`.
   */
  readonly offerAs?: "secure" | "capability";
  /**
   * What becomes of a session whose new keys the other party refused with 488 or 606, and a Warning 306 or a MIKEY error: `abort`, as
   * RFC 4567 §4.1.2 demands, or `keep` it under the old keys, where a call is not to end because somebody damaged a re-INVITE on its way.
   * Default `abort`.
   */
  readonly refusedRekey?: "abort" | "keep";
  /** Say HELLO in first offers, and try once more without where that is refused; or never. Default `retry`. */
  readonly hello?: "retry" | "never";
  /** Whether BYE carries a de-registration: to parties that announced docs/protocol.md, to all, to none. Default `announced`. */
  readonly proof?: "announced" | "always" | "never";
  /** RTP before the keys: kept, at most 64 packets per m= line, or dropped. Default `buffer`. */
  readonly earlyMedia?: "buffer" | "drop";
}
