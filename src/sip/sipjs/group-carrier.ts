/** A member's way to its key server by sip.js: INVITE registers, MESSAGE and INFO go both ways, BYE leaves (docs/protocol.md §23.2). */
import type { BodyAndContentType, Core, Inviter, Session, SessionDescriptionHandler } from "sip.js";
import { WatchwordError } from "../../bytes/index.js";
import type { GroupStreamDescription } from "../../gcks/index.js";
import type { MemberRole } from "../../gsa/index.js";
import type { MemberCarrier } from "../../member/index.js";
import { peerErrorOf } from "../../mikey/index.js";
import {
  errorMessageIn,
  formatGroupOffer,
  type GroupOfferStream,
  type MemberMethod,
  mediaType,
  memberMethodOf,
  mikeyBody,
  parseMikeyBody,
  proofIn,
  type ReceivedBody,
  readGroupAnswer,
} from "../index.js";
import { bodyOf, withMikey } from "./hooks.js";

export interface SipMemberCarrierOptions {
  /**
   * Makes an inviter to a URI: of a user agent that is connected, and was made with `sessionDescriptionHandlerFactory` of `createGroupCalls`.
   * @throws (rejects) where there is no way
   */
  readonly inviterTo: (uri: string) => Promise<Inviter>;
  /** `sip:group@gcks`, with parameters. */
  readonly target: string;
  /** m= lines of the offer. */
  readonly streams: readonly GroupOfferStream[];
  readonly role: MemberRole;
  /** Our address in descriptions. */
  readonly host: () => string;
  /** Decimal digits for o= of a dialog. */
  readonly sessionId: () => string;
  /** Whether TLS protects the way to the key server end to end. */
  readonly secure: boolean;
}

export interface SipMemberCarrier extends MemberCarrier {
  /** The m= lines as the last answer repeats them. */
  readonly streams: readonly (GroupStreamDescription | undefined)[];
  /** The only connection to the key server is gone, and the dialog with it. */
  disconnected(): void;
}

/** The dialogs of members: one factory for a user agent, and the carriers that call through it. */
export interface GroupCalls {
  readonly sessionDescriptionHandlerFactory: (session: Session) => SessionDescriptionHandler;
  carrier(options: SipMemberCarrierOptions): SipMemberCarrier;
}

const SDP_TYPE = "application/sdp";
/** A key server sends us by UDP to TCP, and perhaps to another place. */
const MOST_REDIRECTIONS = 3;

export function createGroupCalls(): GroupCalls {
  const handlers = new WeakMap<Session, OfferHandler>();
  return {
    sessionDescriptionHandlerFactory: (session) => {
      const handler = handlers.get(session);
      if (handler === undefined) throw new WatchwordError("sip.state", "a member is called by nobody");
      return handler;
    },
    carrier: (options) => new Carrier(options, handlers),
  };
}

/** Puts one I_MESSAGE after the other into offers, and takes the answers. */
class OfferHandler implements SessionDescriptionHandler {
  iMessage: Uint8Array = new Uint8Array(0);
  answer: ReturnType<typeof readGroupAnswer> | undefined;
  readonly #options: SipMemberCarrierOptions;
  readonly #sessionId: string;
  #version = 0;

  constructor(options: SipMemberCarrierOptions) {
    this.#options = options;
    this.#sessionId = options.sessionId();
  }

  hasDescription(contentType: string): boolean {
    return mediaType(contentType) === SDP_TYPE;
  }

  async getDescription(): Promise<BodyAndContentType> {
    const { host, streams, role } = this.#options;
    const { iMessage } = this;
    this.answer = undefined;
    const body = formatGroupOffer({
      host: host(),
      sessionId: this.#sessionId,
      version: this.#version++,
      streams,
      role,
      iMessage,
    });
    return { body, contentType: SDP_TYPE };
  }

  async setDescription(sdp: string): Promise<void> {
    this.answer = readGroupAnswer(sdp);
  }

  rollbackDescription(): Promise<void> {
    return Promise.resolve();
  }

  sendDtmf(): boolean {
    return false;
  }

  close(): void {}
}

/** A final response that was no success. */
class Refused extends WatchwordError {
  override readonly name = "Refused";
  readonly status: number;
  readonly redirection: string | undefined;

  constructor({ message }: Core.IncomingResponse) {
    const { statusCode = 500, reasonPhrase = "" } = message;
    super(
      "sip.refused",
      `the key server answered ${statusCode} ${reasonPhrase.replace(/[^\x20-\x7e]+/g, "?").slice(0, 120)}`.trimEnd(),
    );
    this.status = statusCode;
    const contact = /<(sips?:[^<>]+)>|^\s*(sips?:[^\s;,]+)/i.exec(message.getHeader("Contact") ?? "");
    this.redirection = statusCode >= 300 && statusCode < 400 ? (contact?.[1] ?? contact?.[2]) : undefined;
  }
}

class Carrier implements SipMemberCarrier {
  readonly secure: boolean;
  onMessage: ((message: Uint8Array) => void) | undefined;
  onLost: ((error?: Error) => void) | undefined;
  streams: readonly (GroupStreamDescription | undefined)[] = [];
  readonly #options: SipMemberCarrierOptions;
  readonly #handlers: WeakMap<Session, OfferHandler>;
  #session: Inviter | undefined;
  #handler: OfferHandler | undefined;
  #method: MemberMethod = "MESSAGE";
  /** Ends the wait for the answer to an INVITE. */
  #abandon: ((error: Error) => void) | undefined;
  /** We hang up, or have. */
  #leaving = false;
  #closed = false;

  constructor(options: SipMemberCarrierOptions, handlers: WeakMap<Session, OfferHandler>) {
    this.#options = options;
    this.#handlers = handlers;
    this.secure = options.secure;
  }

  get open(): boolean {
    return this.#session?.state === "Established";
  }

  async register(iMessage: Uint8Array): Promise<Uint8Array> {
    const handler = (this.open ? await this.#reinvite(iMessage) : undefined) ?? (await this.#invite(iMessage));
    if (handler.answer === undefined) throw new WatchwordError("sip.group-answer", "the key server's answer is not acceptable");
    this.streams = handler.answer.streams;
    return handler.answer.response;
  }

  async send(message: Uint8Array): Promise<Uint8Array | undefined> {
    const session = this.#established();
    const requestOptions = withMikey<Core.RequestOptions>({}, mikeyBody(message));
    const send = (requestDelegate: Core.OutgoingRequestDelegate): Promise<unknown> =>
      this.#method === "MESSAGE"
        ? session.message({ requestDelegate, requestOptions })
        : session.info({ requestDelegate, requestOptions });
    const body = await bodyOfAnswer(send, (status, error) => {
      // RFC 3261 §12.2.1.2: the key server does not know the dialog any more.
      if (status === 481) this.#lost(error);
    });
    return parseMikeyBody(body);
  }

  async end(proof: Uint8Array | undefined): Promise<Uint8Array | undefined> {
    const session = this.#established();
    this.#leaving = true;
    const requestOptions = proof === undefined ? {} : withMikey<Core.RequestOptions>({}, mikeyBody(proof));
    return proofIn(await bodyOfAnswer((requestDelegate) => session.bye({ requestDelegate, requestOptions })));
  }

  close(): void {
    this.#closed = true;
    this.#leaving = true;
    this.#abandon?.(closedError());
    const session = this.#session;
    this.#session = undefined;
    if (session === undefined || session.state === "Terminated") return;
    session.dispose().catch(() => undefined);
  }

  disconnected(): void {
    this.#abandon?.(new WatchwordError("sip.group-answer", "the connection ended before the key server answered"));
    this.#lost();
  }

  #established(): Inviter {
    if (this.#session?.state !== "Established") throw new WatchwordError("sip.state", "there is no dialog with the key server");
    return this.#session;
  }

  async #invite(iMessage: Uint8Array): Promise<OfferHandler> {
    let target = this.#options.target;
    for (let redirections = 0; ; redirections++) {
      try {
        return await this.#call(target, iMessage);
      } catch (error) {
        const redirection = error instanceof Refused ? error.redirection : undefined;
        if (redirection === undefined || redirections >= MOST_REDIRECTIONS) throw error;
        // A way without TLS in place of one with it would give away what NULL keying trusts in.
        if (this.secure && !/^sips:|;transport=(tls|wss)/i.test(redirection)) throw error;
        target = redirection;
      }
    }
  }

  async #call(target: string, iMessage: Uint8Array): Promise<OfferHandler> {
    if (this.#closed) throw closedError();
    const session = await this.#options.inviterTo(target);
    if (this.#closed) throw closedError();
    const handler = new OfferHandler(this.#options);
    handler.iMessage = iMessage;
    this.#handlers.set(session, handler);
    this.#leaving = false;
    this.#watch(session);
    const answered = new Promise<void>((resolve, reject) => {
      this.#abandon = reject;
      session.stateChange.addListener((state) => {
        if (state === "Established") resolve();
        // A refusal comes a moment later, with its status.
        else if (state === "Terminated")
          queueMicrotask(() => queueMicrotask(() => reject(new WatchwordError("sip.group-answer", "the registration failed"))));
      });
      const refused = (response: Core.IncomingResponse): void => reject(refusalIn(response));
      const requestDelegate: Core.OutgoingRequestDelegate = {
        onAccept: ({ message }) => {
          this.#method = memberMethodOf(message.getHeaders("Allow"));
        },
        onReject: refused,
        onRedirect: refused,
      };
      session.invite({ requestDelegate }).catch(reject);
    }).finally(() => {
      this.#abandon = undefined;
    });
    try {
      await answered;
      // It may have been closed with the answer.
      if (this.#closed) throw closedError();
    } catch (error) {
      // Cancels what was not answered, and hangs up what was.
      session.dispose().catch(() => undefined);
      throw error;
    }
    this.#session = session;
    this.#handler = handler;
    return handler;
  }

  /** @returns undefined where the key server does not know the dialog any more, which is then forgotten here too (RFC 3261 §12.2.1.2) */
  async #reinvite(iMessage: Uint8Array): Promise<OfferHandler | undefined> {
    const session = this.#established();
    const handler = this.#handler as OfferHandler;
    handler.iMessage = iMessage;
    const known = await new Promise<boolean>((resolve, reject) => {
      this.#abandon = reject;
      const refused = (response: Core.IncomingResponse): void => {
        const { statusCode } = response.message;
        if (statusCode === 481 || statusCode === 408) resolve(false);
        else reject(refusalIn(response));
      };
      session.invite({ requestDelegate: { onAccept: () => resolve(true), onReject: refused, onRedirect: refused } }).catch(reject);
    }).finally(() => {
      this.#abandon = undefined;
    });
    if (known) return handler;
    if (session === this.#session) this.#session = undefined;
    session.dispose().catch(() => undefined);
    return undefined;
  }

  #watch(session: Inviter): void {
    const receive = (message: {
      request: Core.IncomingRequestMessage;
      accept(): Promise<void>;
      reject(o: { statusCode: number }): Promise<void>;
    }) => {
      const octets = proofIn(bodyOf(message.request));
      if (octets === undefined || octets.length === 0) {
        message.reject({ statusCode: 415 }).catch(() => undefined);
        return;
      }
      // 200 says that it was received, not that it is installed (docs/protocol.md §23.2).
      message.accept().catch(() => undefined);
      if (session === this.#session) this.onMessage?.(octets);
    };
    session.delegate = { onMessage: receive, onInfo: receive };
    session.stateChange.addListener((state) => {
      if (state === "Terminated" && session === this.#session) this.#lost();
    });
  }

  #lost(error?: Error): void {
    if (this.#session === undefined) return;
    const session = this.#session;
    this.#session = undefined;
    if (session.state === "Established") session.dispose().catch(() => undefined);
    if (!this.#leaving) this.onLost?.(error);
  }
}

function closedError(): WatchwordError {
  return new WatchwordError("sip.state", "the way to the key server was closed");
}

/** The body of the final response. @throws (rejects) Refused, MikeyPeerError */
function bodyOfAnswer(
  send: (delegate: Core.OutgoingRequestDelegate) => Promise<unknown>,
  onRefused?: (status: number, error: Error) => void,
): Promise<ReceivedBody | undefined> {
  return new Promise((resolve, reject) => {
    const refused = (response: Core.IncomingResponse): void => {
      const error = refusalIn(response);
      onRefused?.(response.message.statusCode ?? 500, error);
      reject(error);
    };
    send({ onAccept: ({ message }) => resolve(bodyOf(message)), onReject: refused, onRedirect: refused }).catch(reject);
  });
}

/** What a refusal says: the MIKEY error in it, or its status. */
function refusalIn(response: Core.IncomingResponse): Error {
  const octets = errorMessageIn(bodyOf(response.message));
  try {
    const error = octets === undefined ? undefined : peerErrorOf(octets);
    if (error !== undefined) return error;
  } catch (error) {
    if (!(error instanceof WatchwordError)) throw error;
  }
  return new Refused(response);
}
