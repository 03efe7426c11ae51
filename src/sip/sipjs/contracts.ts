import type {
  Session,
  SessionDescriptionHandler,
  SessionDescriptionHandlerFactory,
  SessionDescriptionHandlerOptions,
} from "sip.js";
import type { ProofVerdict } from "../../gsa/index.js";
import type { RefusalAdvice, SipDialog, SipKeying, SipRefusal, SipStream } from "../index.js";

/**
 * The media of one session as the adapter needs it: anything that can describe itself and takes streams. Descriptions are plain; the
 * adapter makes them secure on the way out, and has verified what it hands in.
 */
export interface MediaPort {
  /** SSRC of what it sends on an m= line, where it knows it before its description is made. */
  ssrcFor?(index: number): number | undefined;
  /** A local description: an offer, or the answer to `remote`. RTP/AVP is turned into RTP/SAVP afterwards. */
  describe(type: "offer" | "answer", remote: string | undefined, options?: SessionDescriptionHandlerOptions): Promise<string>;
  /** The verified description of the other party, key messages taken out, profile as it was on the wire. */
  setRemote(type: "offer" | "answer", remote: string): Promise<void>;
  /** An m= line's SRTP: packets from the network go into `receive`, packets to send through `protect`. Called once per line, before keys. */
  attach(stream: SipStream): void;
  /** Back to the last agreement. */
  rollback?(): void;
  /** Stops sending and receiving. */
  close(): void;
}

export type MediaPortFactory = (session: Session) => MediaPort;

/** What an application may want to know of a keyed session. */
export interface KeyedSessionEvents {
  /** Keys are in force: after the first exchange, and after every rekey. */
  onKeyed?(session: Session, handler: KeyedSessionDescriptionHandler): void;
  /** An offer or answer of the other party was refused; sip.js then answers, or hangs up. */
  onRefused?(session: Session, refusal: SipRefusal): void;
  /**
   * The other party refused the INVITE, or a re-INVITE. With `retry` the call may be placed once more: the next offer differs as the
   * advice says. With `abort`, new keys were refused, and the session is being hung up.
   */
  onRefusedByPeer?(session: Session, refusal: RefusalAdvice & { readonly status: number }): void;
  /** How the session ended: `received` with the BYE of the other party, `acknowledged` with the answer to ours. */
  onProof?(session: Session, proof: { readonly by: "received" | "acknowledged"; readonly verdict: ProofVerdict }): void;
  /** A key message in INFO or MESSAGE. True: it was taken (200); otherwise 415. */
  onMikey?(session: Session, octets: Uint8Array, method: "INFO" | "MESSAGE"): boolean | Promise<boolean>;
}

export interface KeyedFactoryOptions extends KeyedSessionEvents {
  readonly keying: SipKeying;
  /** Media of our own (Node). Exactly one of `media` and `inner`. */
  readonly media?: MediaPortFactory;
  /** A handler to wrap: its descriptions get keys. `inner` sees descriptions without key messages. */
  readonly inner?: SessionDescriptionHandlerFactory;
  /** With `inner`: shows it RTP/AVP where the wire has RTP/SAVP. Default false. */
  readonly innerIsPlain?: boolean;
  /** With `inner`: gets every m= line's SRTP, before keys. */
  readonly onStream?: (session: Session, stream: SipStream) => void;
  /** Whether TLS protects the signalling of a session end to end. Default: never. */
  readonly secure?: (session: Session) => boolean;
}

/** What `session.sessionDescriptionHandler` is under `createSessionDescriptionHandlerFactory`. */
export interface KeyedSessionDescriptionHandler extends SessionDescriptionHandler {
  readonly dialog: SipDialog;
  /** Of the BYE that came, or of the answer to ours; undefined before. */
  readonly verdict: ProofVerdict | undefined;
}
