import type { ToleranceName } from "../mikey/index.js";
import type { SrtpMasterKey, SrtpPolicy, SrtpReceiver, SrtpSender, SrtpToleranceName } from "../srtp/index.js";
import type { ProofVerdict } from "./proof.js";

/** One m= line of a keyed session. */
export interface KeyedStream {
  readonly policy: SrtpPolicy;
  /** Protects what this party sends (RTP and RTCP); undefined where no key for that direction was agreed. */
  readonly sender: SrtpSender | undefined;
  /** Opens what the other party sends; undefined where no key for that direction was agreed: then nothing is accepted. */
  readonly receiver: SrtpReceiver | undefined;
}

/** How keys came: by a mode of MIKEY, or NULL-keyed (as safe as the channel). */
export type KeyedBy = "psk" | "pk" | "dh" | "dhhmac" | "rsa-r" | "null";

/**
 * The media of one session (or of one m= line, where each line is keyed by a message of its own) as keyed by one MIKEY exchange:
 * the data SAs as SRTP sessions, their rekeying, and the registration SA that proves their end.
 * Carriers (RTSP, SIP) move the octets; nothing here knows them.
 */
export interface KeyedMedia {
  /** In the order of the m= lines that the exchange covers. */
  readonly streams: readonly KeyedStream[];
  readonly keyedBy: KeyedBy;
  /** The other party, as the exchange authenticated it: its certificate, where it has one. Undefined without a public key of its own. */
  readonly peer: KeyedPeer | undefined;
  /** SPI of the newest key, which packets carry as MKI. */
  readonly mki: Uint8Array | undefined;
  /** Eight hexadecimal digits that tell keys apart and reveal nothing. */
  readonly fingerprint: string;
  /** Where the peer departed from the standard and was allowed to. Packets add to it as they come. */
  readonly tolerances: readonly (ToleranceName | SrtpToleranceName)[];
  /** Whether both parties said HELLO (docs/protocol.md §4.2), which the exchange authenticated. */
  readonly helloExchanged: boolean;
  /** Whether `startRekey` may be called: a key of this party's making is in use, has an MKI, and the peer takes new ones. */
  readonly canRekey: boolean;
  /** Whether three quarters of the packets that a key of this party's making may protect are used up (RFC 3711 §9.2). */
  readonly rekeyDue: boolean;
  /**
   * Begins a CSB update (RFC 3830 §4.5), or sends a message of its own where the peer knows no updates: the new key already opens
   * what comes in, save where the peer has a part in it (DH, DHHMAC, RSA-R). @throws WatchwordError `gsa.rekey`
   */
  startRekey(): Promise<PendingRekey>;
  /**
   * Answers a new key of the peer's: installs it, and sends under it from now on where this party sends under the peer's key.
   * @returns the R_MESSAGE if one is wanted. @throws MikeyError
   */
  acceptRekey(update: Uint8Array): Promise<Uint8Array | undefined>;
  /**
   * Begins an exchange that brings new keys and may add m= lines, whichever party began the first one: the Initiator updates its bundle
   * (RFC 3830 §4.5), the Responder begins one of its own under the same credential. The new keys already open what comes in, save where
   * the peer has a part in them; rollover counters and SRTCP indices go on; the registration stays that of the first exchange.
   * @throws WatchwordError `gsa.rekey`, `gsa.streams`
   */
  startRenewal(request?: RenewalRequest): Promise<PendingRekey>;
  /**
   * Verifies such a message of the peer. Nothing is sent under the new keys before `commit`.
   * @throws WatchwordError `gsa.rekey`, `gsa.streams`, `gsa.closed`; CodecError, MikeyError (with the ERR message in `reply`)
   */
  acceptRenewal(message: Uint8Array, request?: AcceptRenewalRequest): Promise<RenewalAnswer>;
  /**
   * Takes the message that a receiver of a shared stream gets when it asks for the keys of now: installs a key that it has not, and the
   * rollover counter of a stream that it has not heard yet. Everything else stays as it is.
   * @throws MikeyError, CodecError, WatchwordError `gsa.closed`
   */
  acceptCurrent(message: Uint8Array): Promise<void>;
  /** The de-registration to send at the end (docs/protocol.md §6), or undefined where no secret stands behind the session. */
  deregister(): Uint8Array | undefined;
  /** Judges the de-registration that came (or did not) with the end of the session. */
  acceptDeregistration(request: Uint8Array | undefined): { readonly verdict: ProofVerdict; readonly acknowledgement?: Uint8Array };
  /** Judges the answer to the last `deregister()`. */
  verifyAcknowledgement(acknowledgement: Uint8Array | undefined): ProofVerdict;
  /** Wipes every key. Proofs can be judged no more. */
  close(): void;
}

/** One m= line of an offer, as this party sends it. */
export interface StreamProposal {
  readonly policy: SrtpPolicy;
  /** SSRC of what this party sends; 0 or absent where it is not known yet. */
  readonly ssrc?: number;
  /** Current rollover counter of that SSRC. */
  readonly rolloverCounter?: number;
}

/** Who the other party proved to be. */
export interface KeyedPeer {
  /** Whom its certificate names; empty for a key that is known by identity. */
  readonly identities: readonly string[];
  /** SHA-256 of the certificate. */
  readonly fingerprint: Uint8Array | undefined;
}

/** What a renewal changes beside the keys. */
export interface RenewalRequest {
  /** m= lines behind those that are there. Default none. */
  readonly added?: readonly StreamProposal[];
  /** Key management protocols that the SDP offers, in its order (RFC 4567 §4.1.4). */
  readonly sdpIds?: readonly string[];
}

/** What a renewal by the peer is judged by. */
export interface AcceptRenewalRequest {
  /** m= lines that the peer's description has: as many as there are, or more. Default: as many. */
  readonly streamCount?: number;
  /** SSRC that this party sends on each m= line, 0 where unknown. */
  readonly ssrcs?: readonly number[];
  readonly scope?: string;
  readonly secure?: boolean;
  readonly sdpIds?: readonly string[];
}

/** The outcome of a renewal by the peer. */
export type RenewalAnswer =
  | {
      readonly kind: "new";
      readonly response: Uint8Array | undefined;
      /** Sends under the new keys from now on; to be called when the response goes out. */
      commit(): void;
      /** The response is not sent: the old keys stay in use, the new ones are dropped. */
      rollback(): void;
    }
  /** The same message again in the same scope: send the same response. */
  | { readonly kind: "repeated"; readonly response: Uint8Array | undefined };

/** An update under way. */
export interface PendingRekey {
  readonly octets: Uint8Array;
  /** Verifies the R_MESSAGE, where there is one with this keying, and sends under the new key from now on. @throws MikeyError; the old key then stays in use */
  complete(response: Uint8Array | undefined): Promise<void>;
  /** Gives up: the old key stays in use, the new one is dropped. */
  abandon(): void;
}

/** An I_MESSAGE under way. */
export interface MediaOffer {
  readonly octets: Uint8Array;
  /** Messages to offer behind `octets` at the same level, for peers that can take better; an answer to either completes the offer. */
  readonly further?: readonly Uint8Array[];
  /**
   * Where numbers of docs/protocol.md are in it, which a refusal may be about: whether policy lets one more offer be made without HELLO, and so with
   * those of RFC 3830 (`preferred`), or not (`required`).
   */
  readonly privateNumbers?: "preferred" | "required";
  /** Completes with the R_MESSAGE (or with the peer's own message in the NULL dialect, or with nothing where none is needed). @throws MikeyError */
  accept(answer: Uint8Array | undefined): Promise<KeyedMedia>;
  /** Wipes what was prepared. Media that were keyed stay. */
  abandon(): void;
}

/** An I_MESSAGE that may reach several parties. */
export interface ForkableOffer extends MediaOffer {
  /**
   * Completes with one of several R_MESSAGEs, where the message was forked: keyed media for each branch. Branches that share a key share
   * a sender, so that none repeats a packet index of another. The offer stays open until `abandon`. Not with NULL keying.
   * @throws MikeyError, WatchwordError `gsa.null-fork`
   */
  fork(answer: Uint8Array): Promise<KeyedMedia>;
}

/** The outcome of an I_MESSAGE that was accepted. */
export type MediaAnswer =
  | {
      readonly kind: "new";
      readonly media: KeyedMedia;
      /** To carry back, where one is wanted. */
      readonly response: Uint8Array | undefined;
    }
  /** The same message again in the same scope: send the same response; the media are those of the first time. */
  | { readonly kind: "repeated"; readonly response: Uint8Array | undefined };

/** The master keys of one direction of one m= line. */
export interface ExportedDirection {
  readonly policy: SrtpPolicy;
  /**
   * The newest last, with the MKI that was announced: a peer that needs the tolerance `mki-missing-in-packets` may send packets
   * without. Copies: the callee's to keep and to wipe.
   */
  readonly keys: readonly SrtpMasterKey[];
  /** As the key message says; 0 where it does not. */
  readonly ssrc: number;
  /** Of that SSRC, when the key message was made. */
  readonly rolloverCounter: number;
}

/** Keys that leave watchword, because the caller asked for them by `exportKeys`. Whoever has them can open and forge the media. */
export interface ExportedKeys {
  /** Which m= line: its place among those that the exchange covers. */
  readonly stream: number;
  /** What this party sends is protected by these; undefined where no key was agreed, or a rekey left it as it was. */
  readonly outbound: ExportedDirection | undefined;
  /** What the peer sends is protected by these; undefined where no key was agreed, or a rekey left it as it was. */
  readonly inbound: ExportedDirection | undefined;
}

/**
 * Takes the keys of an m= line: once when it is keyed, and once for every new key before the peer can use it (of a rekey that
 * then fails, too). It must not throw.
 */
export type KeyExport = (keys: ExportedKeys) => void;
