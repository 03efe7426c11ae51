import { Core, type Session, SessionState } from "sip.js";
import { formatHex, WatchwordError } from "../../bytes/index.js";
import type { KeyedBy, KeyedMedia, ProofVerdict } from "../../gsa/index.js";
import type { Random, Timers } from "../../io/index.js";
import type { MediaSource, MediaTrack } from "../../rtsp/index.js";
import type { SipRefusal } from "../../sip/index.js";
import type { KeyedSessionDescriptionHandler } from "../../sip/sipjs/index.js";
import type { MediaSink } from "../media.js";
import type { RtpMedia, RtpMediaStatistics } from "./rtp-media.js";

/** What one call sends and what becomes of what it receives; both optional. */
export interface CallMedia {
  readonly source?: MediaSource;
  /** Called once it is known which tracks there are. */
  readonly sink?: (tracks: readonly MediaTrack[]) => Promise<MediaSink>;
}

/** The keys in force. */
export interface CallKeys {
  readonly suite: string;
  readonly keyedBy: KeyedBy;
  /** Eight hexadecimal digits that tell keys apart and reveal nothing. */
  readonly fingerprint: string;
  /** Hexadecimal; undefined where packets carry none. */
  readonly mki: string | undefined;
  readonly tolerances: readonly string[];
}

/** How a call ended. */
export interface CallEnd {
  /** Who hung up; `failure` where the call was refused or broke, or was given up because the other party refused new keys. */
  readonly by: "local" | "remote" | "failure";
  /** Of the BYE that came, or of the answer to ours (docs/protocol.md §6). */
  readonly proof: ProofVerdict;
  readonly error?: WatchwordError;
}

/** A call that stands. */
export interface SipCall {
  /** The Call-ID. */
  readonly id: string;
  readonly direction: "outgoing" | "incoming";
  /** URI of the other party, as the dialog began. */
  readonly remote: string;
  readonly keys: CallKeys | undefined;
  /** How often the keys were replaced, by either side. */
  readonly rekeys: number;
  readonly statistics: readonly RtpMediaStatistics[];
  /** Resolves when the call is over and the media is closed; never rejects. */
  readonly ended: Promise<CallEnd>;
  /** @throws (rejects) WatchwordError `node.sip-status-…` where the other party refuses, `node.sip-call` where the call is over */
  hold(): Promise<void>;
  /** @throws as `hold` */
  resume(): Promise<void>;
  /**
   * New keys by a re-INVITE; media goes on meanwhile. Where the other party refuses them the call is given up, unless the keying is to
   * keep the old ones (`refusedRekey`); `hold` and `resume` bring new keys too. @throws as `hold`
   */
  rekey(): Promise<void>;
  /** BYE with the proof of possession; resolves with `ended`. */
  hangUp(): Promise<CallEnd>;
}

export interface CallContext {
  readonly session: Session;
  readonly direction: "outgoing" | "incoming";
  readonly remote: string;
  readonly timers: Timers;
  readonly random: Random;
  readonly onKeyed: ((call: SipCall) => void) | undefined;
}

/** Attempts of a re-INVITE that collides with one of the other party. */
const GLARE_ATTEMPTS = 4;
/** Milliseconds between two looks for an ACK, and until it does not come any more (RFC 3261 §13.3.1.4). */
const ACK_POLL = 20;
const ACK_TIME = 32_000;
/** RFC 3261 §17.1.2.2, timer F, and a little: no answer to BYE comes later. */
const BYE_TIME = 33_000;

/** A call from its beginning; the user agent shows it to the application once it stands. */
export class Call implements SipCall {
  readonly direction: "outgoing" | "incoming";
  readonly remote: string;
  readonly ended: Promise<CallEnd>;
  rekeys = -1;
  media: RtpMedia | undefined;
  /** Why it failed, where that is known better than from the response. */
  refusal: SipRefusal | undefined;
  readonly #context: CallContext;
  readonly #session: Session;
  #finish: (end: CallEnd) => void = () => {};
  #keyed: KeyedMedia | undefined;
  #suite = "";
  #lastKeys: CallKeys | undefined;
  #lastStatistics: readonly RtpMediaStatistics[] = [];
  #proof: ProofVerdict = "absent";
  #by: CallEnd["by"] = "failure";
  /** Our BYE is on its way: the call ends with the answer to it. */
  #leaving = false;
  #error: WatchwordError | undefined;
  #over = false;

  constructor(context: CallContext) {
    this.#context = context;
    this.#session = context.session;
    this.direction = context.direction;
    this.remote = context.remote;
    this.ended = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.#session.stateChange.addListener((state) => {
      if (state === SessionState.Terminated && !this.#leaving) this.#end();
    });
  }

  get id(): string {
    return this.#session.id;
  }

  get keys(): CallKeys | undefined {
    if (this.#keyed === undefined || this.#over) return this.#lastKeys;
    const { keyedBy, fingerprint, mki, tolerances } = this.#keyed;
    return { suite: this.#suite, keyedBy, fingerprint, mki: mki === undefined ? undefined : formatHex(mki), tolerances };
  }

  get statistics(): readonly RtpMediaStatistics[] {
    return this.#over ? this.#lastStatistics : (this.media?.statistics ?? []);
  }

  hold(): Promise<void> {
    return this.#direct("sendonly");
  }

  resume(): Promise<void> {
    return this.#direct("sendrecv");
  }

  rekey(): Promise<void> {
    return this.#reinvite(1);
  }

  async hangUp(): Promise<CallEnd> {
    if (!this.#over && this.#session.state === SessionState.Established) {
      this.#by = "local";
      await this.#leave([]);
    }
    return this.ended;
  }

  /** The other party refused new keys: RFC 4567 §4.1.2 lets the call go on under no others. */
  abort(status: number): void {
    if (this.#over || this.#session.state !== SessionState.Established) return;
    this.noteError(statusError("re-INVITE", status, "and takes no new keys"));
    void this.#leave([`Reason: SIP;cause=${status};text="new keys were refused"`]);
  }

  /** Nothing comes any more from a party that is to send. */
  fallSilent(): void {
    if (this.#over || this.#leaving || this.#session.state !== SessionState.Established) return;
    this.noteError(new WatchwordError("node.sip-media-timeout", "nothing comes any more from the other party"));
    void this.#leave(['Reason: SIP;cause=408;text="no media"']);
  }

  /** Gives up waiting for the other party. */
  abandon(): Promise<CallEnd> {
    this.#end();
    return this.ended;
  }

  /** Keys came into force. */
  noteKeyed(handler: KeyedSessionDescriptionHandler): void {
    const [media] = handler.dialog.media;
    this.#keyed = media ?? this.#keyed;
    this.#suite = handler.dialog.streams.find(({ policy }) => policy !== undefined)?.policy?.suite ?? this.#suite;
    this.#lastKeys = this.keys;
    this.refusal = undefined;
    this.rekeys++;
    this.#context.onKeyed?.(this);
  }

  noteProof(by: "received" | "acknowledged", verdict: ProofVerdict): void {
    this.#proof = verdict;
    if (by === "received") this.#by = "remote";
  }

  /** The reason for a failure that is about to end the call. */
  noteError(error: WatchwordError): void {
    this.#error ??= error;
  }

  get error(): WatchwordError | undefined {
    return this.refusal ?? this.#error;
  }

  /** BYE; the call is over when it is answered. */
  async #leave(extraHeaders: string[]): Promise<void> {
    this.#leaving = true;
    await new Promise<void>((resolve) => {
      const timer = this.#context.timers.after(BYE_TIME, resolve);
      const done = (): void => {
        timer.cancel();
        resolve();
      };
      const requestDelegate = { onAccept: done, onReject: done, onRedirect: done };
      // A BYE that waits for the ACK of its call goes nowhere when the other party hangs up first.
      void this.ended.then(done);
      try {
        this.#session.bye({ requestDelegate, requestOptions: { extraHeaders } }).catch(done);
      } catch {
        done();
      }
    });
    // The verdict comes from the same response, after its bodies were read.
    await Promise.resolve();
    this.#end();
  }

  #end(): void {
    if (this.#over) return;
    this.#lastKeys = this.keys;
    this.#lastStatistics = this.media?.statistics ?? [];
    this.#over = true;
    const { error } = this;
    const end: CallEnd = { by: this.#by, proof: this.#proof, ...(error === undefined ? {} : { error }) };
    this.media?.close();
    void (this.media?.closed ?? Promise.resolve()).then(() => this.#finish(end));
  }

  async #direct(direction: "sendonly" | "sendrecv"): Promise<void> {
    if (this.media === undefined) throw over();
    const before = this.media.direction;
    this.media.direction = direction;
    try {
      await this.#reinvite(1);
    } catch (error) {
      this.media.direction = before;
      throw error;
    }
  }

  async #reinvite(attempt: number): Promise<void> {
    await this.#acknowledged();
    const { status, retryAfter } = await this.#sendReinvite();
    if ((status === 491 || (status === 500 && retryAfter !== undefined)) && attempt < GLARE_ATTEMPTS) {
      // RFC 3261 §14.1: who chose the Call-ID waits 2.1 to 4 s, the other 0 to 2 s, in units of 10 ms. §14.2: 500 says itself how long.
      const unit = (this.#context.random.bytes(1)[0] as number) % 190;
      const wait = retryAfter ?? (this.direction === "outgoing" ? 2100 + 10 * unit : 10 * unit);
      await new Promise<void>((resolve) => void this.#context.timers.after(wait, resolve));
      await this.#reinvite(attempt + 1);
    } else if (status >= 300) {
      throw statusError("re-INVITE", status, "");
    }
  }

  /** RFC 3261 §14.1: no re-INVITE while another INVITE is under way; for who answered one it is, until the ACK has come. */
  async #acknowledged(): Promise<void> {
    for (let waited = 0; !this.#over && awaitsAck(this.#session) && waited < ACK_TIME; waited += ACK_POLL) {
      await new Promise<void>((resolve) => void this.#context.timers.after(ACK_POLL, resolve));
    }
  }

  #sendReinvite(): Promise<FinalResponse> {
    if (this.#over || this.#session.state !== SessionState.Established) return Promise.reject(over());
    return new Promise((resolve, reject) => {
      const answered = (response: Core.IncomingResponse): void => {
        // sip.js ends the session where the answer was not acceptable.
        if ((response.message.statusCode ?? 500) < 300 && this.#session.state !== SessionState.Established)
          reject(this.error ?? over());
        else resolve({ status: response.message.statusCode ?? 500, retryAfter: retryAfterOf(response) });
      };
      void this.ended.then(() => reject(this.error ?? over()));
      const requestDelegate = { onAccept: answered, onReject: answered, onRedirect: answered };
      this.#session.invite({ requestDelegate }).catch((error: unknown) => this.#notSent(error).then(resolve, reject));
    });
  }

  /** A re-INVITE that was not sent because another one came first waits like one that was answered 491. */
  async #notSent(error: unknown): Promise<FinalResponse> {
    if (error instanceof Error && error.name === "RequestPendingError") return COLLISION;
    if (error instanceof WatchwordError && error.code === "sip.state") return COLLISION;
    if (this.#over || !awaitsAck(this.#session)) throw error;
    await this.#session.sessionDescriptionHandler?.rollbackDescription?.();
    return COLLISION;
  }
}

/** What a re-INVITE came to. */
interface FinalResponse {
  readonly status: number;
  /** Milliseconds. */
  readonly retryAfter?: number | undefined;
}

const COLLISION: FinalResponse = { status: 491 };
/** Milliseconds: no more than ten seconds are asked for in a collision (RFC 3261 §14.2). */
const LONGEST_RETRY = 10_000;

function retryAfterOf({ message }: Core.IncomingResponse): number | undefined {
  const seconds = /^\d{1,5}/.exec(message.getHeader("retry-after") ?? "")?.[0];
  return seconds === undefined ? undefined : Math.min(Number(seconds) * 1000, LONGEST_RETRY);
}

/** Whether a 2xx of ours waits for its ACK. sip.js keeps the re-INVITE that it answered until then. */
function awaitsAck({ dialog }: Session): boolean {
  if (dialog?.sessionState === Core.SessionState.AckWait) return true;
  return (dialog as Partial<Core.SessionDialog> | undefined)?.reinviteUserAgentServer !== undefined;
}

function over(): WatchwordError {
  return new WatchwordError("node.sip-call", "the call is over");
}

/** A final response as an error: the code ends in the status. */
export function statusError(what: string, status: number, reason: string): WatchwordError {
  return new WatchwordError(
    `node.sip-status-${status}`,
    `${what}: the other party answered ${status}${reason === "" ? "" : ` ${reason}`}`,
  );
}
