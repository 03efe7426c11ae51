/** A key server behind sip.js: INVITE registers, MESSAGE and INFO go both ways, BYE leaves (docs/protocol.md §23.2). */
import type { BodyAndContentType, Bye, Core, Info, Invitation, Message, Session, SessionDescriptionHandler } from "sip.js";
import { WatchwordError } from "../../bytes/index.js";
import { type CarrierPeer, type Gcks, GcksRefusal, type MemberChannel, type MemberSession } from "../../gcks/index.js";
import { type Logger, silentLogger } from "../../io/index.js";
import {
  formatGroupAnswer,
  groupRefusalOf,
  type MemberMethod,
  mediaType,
  memberMethodOf,
  mikeyBody,
  parseMikeyBody,
  proofIn,
  readGroupOffer,
  SipRefusal,
} from "../index.js";
import { bodyOf, hookReinvite, isInvitationToAnswer, withMikey } from "./hooks.js";
import { rejectOptions } from "./responses.js";

export interface GroupInvitationsOptions {
  readonly gcks: Gcks;
  /** Our address in descriptions. */
  readonly host: () => string;
  /** Decimal digits for o= of a dialog. */
  readonly sessionId: () => string;
  /** Where an INVITE that came by UDP is sent instead, from its Request-URI; default: the same with `;transport=tcp`. */
  readonly redirect?: (uri: string) => string;
  /** Asks who sends an INVITE, by Digest (RFC 3261 §22.2). Default: nobody is asked. */
  readonly authenticate?: (request: InviteAuthentication) => InviteVerdict;
  /** Whom the client certificate names of the TLS connection that a request came by. @param via its topmost Via */
  readonly certified?: (via: string) => readonly string[] | undefined;
  readonly logger?: Logger;
}

/** An INVITE as far as Digest looks at it. */
export interface InviteAuthentication {
  readonly method: "INVITE";
  /** The Request-URI as it came. */
  readonly uri: string;
  readonly authorization: string | undefined;
  readonly secure: boolean;
}

/** Who sent it, or the values of WWW-Authenticate by which it is asked. */
export type InviteVerdict =
  | { readonly ok: true; readonly user: string }
  | { readonly ok: false; readonly challenges: readonly string[] };

/** What a user agent needs to be a key server. */
export interface GroupInvitations {
  readonly sessionDescriptionHandlerFactory: (session: Session) => SessionDescriptionHandler;
  /** For `delegate.onInvite`. */
  onInvite(invitation: Invitation): void;
  /** Dialogs with members. */
  readonly dialogs: number;
}

const SDP_TYPE = "application/sdp";
/** RFC 3261 §20.42. */
const VIA = /^\s*SIP\s*\/\s*2\.0\s*\/\s*(\w+)\s+(\[[^\]]*\]|[^\s:;,]+)(?::(\d{1,5}))?/i;

/** Makes the handlers of a key server's user agent. */
export function createGroupInvitations(options: GroupInvitationsOptions): GroupInvitations {
  const dialogs = new Map<Session, MemberDialog>();
  return {
    sessionDescriptionHandlerFactory: (session) => {
      const dialog = dialogs.get(session);
      if (dialog === undefined) throw new WatchwordError("sip.state", "a key server calls nobody");
      return dialog;
    },
    get dialogs() {
      return dialogs.size;
    },
    onInvite(invitation) {
      // RFC 3261 §8.2.2.3, which sip.js leaves to us. It is also how we say that we keep no session timers (RFC 4028).
      const required = invitation.request.getHeaders("Require").flatMap((value) => value.split(/\s*,\s*/).filter(Boolean));
      if (required.length > 0) {
        const extraHeaders = [`Unsupported: ${required.join(", ")}`];
        invitation.reject({ statusCode: 420, reasonPhrase: "Bad Extension", extraHeaders }).catch(() => undefined);
        return;
      }
      if (viaOf(invitation.request).transport === "UDP") {
        // The answer is too long for UDP, and nothing is worth a key exchange before it is known that it can arrive.
        const uri = invitation.request.ruri?.toString() ?? "";
        const contact = (options.redirect ?? throughTcp)(uri);
        invitation.reject({ statusCode: 302, extraHeaders: [`Contact: <${contact}>`] }).catch(() => undefined);
        return;
      }
      const asked = authenticate(invitation.request, options);
      if (!asked.ok) {
        invitation.reject({ statusCode: 401, extraHeaders: challengesOf(asked) }).catch(() => undefined);
        return;
      }
      const dialog = new MemberDialog(invitation, asked, options);
      dialogs.set(invitation, dialog);
      invitation.stateChange.addListener((state) => {
        if (state === "Terminated") dialogs.delete(invitation);
      });
      invitation.accept().catch((error: unknown) => dialog.failed(error));
    },
  };
}

/** Where the INVITE came from, as the transport noted it (RFC 3261 §18.2.1, RFC 3581). */
function viaOf(request: Core.IncomingRequestMessage): { readonly transport: string; readonly host: string; readonly port: number } {
  const via = request.getHeader("Via") ?? "";
  const match = VIA.exec(via);
  const parameter = (name: string): string | undefined => new RegExp(`;\\s*${name}=([^;,\\s]+)`, "i").exec(via)?.[1];
  return {
    transport: match?.[1]?.toUpperCase() ?? "",
    host: (parameter("received") ?? match?.[2] ?? "").replace(/^\[|\]$/g, ""),
    port: Number(parameter("rport") ?? match?.[3] ?? 0),
  };
}

type Asked =
  | { readonly ok: true; readonly peer: CarrierPeer; readonly secure: boolean }
  | { readonly ok: false; readonly challenges: readonly string[] };

/** Who sends an INVITE or re-INVITE, as far as it is asked. */
function authenticate(
  request: Core.IncomingRequestMessage,
  { authenticate: ask, certified: certifiedBy, logger = silentLogger }: GroupInvitationsOptions,
): Asked {
  const { transport, host, port } = viaOf(request);
  // Beyond a proxy nobody knows how it goes on, and its certificate is not the member's.
  const direct = request.getHeaders("Via").length === 1;
  const secure = direct && (transport === "TLS" || transport === "WSS");
  const uri = /^INVITE (\S+) /.exec(request.data)?.[1] ?? "";
  const verdict = ask?.({ method: "INVITE", uri, authorization: request.getHeader("Authorization"), secure });
  if (verdict?.ok === false) {
    // Without credentials it is how every registration begins.
    if (request.hasHeader("Authorization")) logger.warn("INVITE not authenticated", { callId: request.callId, from: host });
    return verdict;
  }
  const certified = certifiedBy?.(request.getHeader("Via") ?? "");
  return {
    ok: true,
    secure,
    peer: {
      remote: { host, port },
      ...(verdict === undefined ? {} : { user: verdict.user }),
      // A member that is behind somebody who has a certificate has shown none.
      ...(certified === undefined ? {} : { certified: direct ? certified : [] }),
    },
  };
}

function challengesOf({ challenges }: { readonly challenges: readonly string[] }): string[] {
  return challenges.map((challenge) => `WWW-Authenticate: ${challenge}`);
}

function throughTcp(uri: string): string {
  return `${uri.replace(/;transport=[^;?>]*/gi, "")};transport=tcp`;
}

/** One dialog with a member. */
class MemberDialog implements SessionDescriptionHandler {
  /** Why the last offer was refused. */
  refusal: SipRefusal | undefined;
  /** Who sent it. */
  #sender: Extract<Asked, { ok: true }>;
  readonly #session: Invitation;
  readonly #options: GroupInvitationsOptions;
  readonly #logger: Logger;
  readonly #sessionId: string;
  readonly #method: MemberMethod;
  readonly #acknowledged: Promise<void>;
  #noteAcknowledged: () => void = () => {};
  #version = 0;
  #answer: string | undefined;
  #member: MemberSession | undefined;
  #channel: MemberChannel | undefined;
  /** Messages of the member are worked on one after another. */
  #last: Promise<unknown> = Promise.resolve();
  /** Ended by a BYE, or by us. */
  #over = false;

  constructor(session: Invitation, sender: Extract<Asked, { ok: true }>, options: GroupInvitationsOptions) {
    this.#session = session;
    this.#sender = sender;
    this.#options = options;
    this.#logger = options.logger ?? silentLogger;
    this.#sessionId = options.sessionId();
    this.#method = memberMethodOf(session.request.getHeaders("Allow"));
    this.#acknowledged = new Promise((resolve) => {
      this.#noteAcknowledged = resolve;
    });
    session.delegate = {
      onAck: () => this.#noteAcknowledged(),
      onBye: (bye) => this.#bye(bye),
      onMessage: (message) => this.#message(message),
      onInfo: (info) => this.#message(info),
    };
    hookReinvite(
      session,
      () => this,
      (request) => this.#ask(request),
    );
    session.stateChange.addListener((state) => {
      if (state === "Terminated") this.#terminated();
    });
  }

  hasDescription(contentType: string): boolean {
    return mediaType(contentType) === SDP_TYPE;
  }

  async setDescription(sdp: string): Promise<void> {
    const { request } = this.#session;
    this.refusal = undefined;
    const before = this.#channel;
    const channel = this.#createChannel();
    this.#channel = channel;
    try {
      const offer = readGroupOffer(sdp);
      const { groups, response, session } = await this.#options.gcks.register({
        iMessage: offer.iMessage,
        peer: this.#sender.peer,
        secure: this.#sender.secure,
        scope: `${request.callId} ${request.fromTag}`,
        streams: offer.lines.length,
        channel,
      });
      this.#member = session;
      const [group] = groups;
      if (group === undefined) throw new SipRefusal("sip.group-offer", "no group was granted");
      if (this.#session.state === "Terminated") {
        session.lost();
        throw new SipRefusal("sip.state", "the caller gave up");
      }
      this.#answer = formatGroupAnswer({
        host: this.#options.host(),
        sessionId: this.#sessionId,
        version: this.#version++,
        offer,
        response,
        description: group.description,
        role: group.role,
      });
    } catch (error) {
      this.#channel = before;
      const refusal = groupRefusalOf(error);
      this.refusal = refusal;
      if (isInvitationToAnswer(this.#session)) await this.#session.reject(rejectOptions(refusal));
      throw refusal;
    }
  }

  getDescription(): Promise<BodyAndContentType> {
    const body = this.#answer;
    if (body === undefined) return Promise.reject(new WatchwordError("sip.state", "a member makes the offer"));
    return Promise.resolve({ body, contentType: SDP_TYPE });
  }

  rollbackDescription(): Promise<void> {
    return Promise.resolve();
  }

  sendDtmf(): boolean {
    return false;
  }

  close(): void {}

  /** The INVITE came to nothing. */
  failed(error: unknown): void {
    if (this.refusal === undefined)
      this.#logger.warn("INVITE failed", { callId: this.#session.request.callId, error: String(error) });
    this.#member?.lost();
    if (isInvitationToAnswer(this.#session)) this.#session.reject({ statusCode: 488 }).catch(() => undefined);
  }

  /** A re-INVITE registers as an INVITE does, and whoever sends it is asked likewise. */
  #ask(request: Core.IncomingInviteRequest): boolean {
    const asked = authenticate(request.message, this.#options);
    if (asked.ok) this.#sender = asked;
    else request.reject({ statusCode: 401, extraHeaders: challengesOf(asked) });
    return asked.ok;
  }

  #createChannel(): MemberChannel {
    let last: Promise<unknown> = this.#acknowledged;
    const channel: MemberChannel = {
      deliver: (message) => {
        const delivery = last.then(() => this.#deliver(message));
        last = delivery.catch(() => undefined);
        return delivery;
      },
      close: () => {
        // A registration that took the place of this one goes on in the same dialog.
        if (this.#channel === channel) this.#hangUp();
      },
    };
    return channel;
  }

  #deliver(message: Uint8Array): Promise<void> {
    const session = this.#session;
    return new Promise((resolve, reject) => {
      const refused = ({ message: { statusCode = 500 } }: Core.IncomingResponse): void => {
        // RFC 3261 §12.2.1.2: the dialog is not known any more, or nobody is there.
        if (statusCode === 481 || statusCode === 408) this.#hangUp();
        reject(new WatchwordError("sip.not-delivered", `the member answered ${this.#method} with ${statusCode}`));
      };
      const options = {
        requestDelegate: { onAccept: () => resolve(), onReject: refused, onRedirect: refused },
        requestOptions: withMikey<Core.RequestOptions>({}, mikeyBody(message)),
      };
      const sent = this.#method === "MESSAGE" ? session.message(options) : session.info(options);
      sent.catch((error: unknown) => reject(new WatchwordError("sip.not-delivered", "the dialog has ended", { cause: error })));
    });
  }

  #hangUp(): void {
    if (this.#over || this.#session.state !== "Established") return;
    this.#over = true;
    this.#session.bye().catch(() => undefined);
    this.#member?.lost();
  }

  /** MESSAGE and INFO: reports, and the de-registration from one of several groups. */
  #message(message: Message | Info): void {
    this.#inTurn(async () => {
      const response = await this.#answerTo(message.request);
      if (response.statusCode < 300) await message.accept(response);
      else await message.reject(response);
    });
  }

  /** An answer for which it is too late, because the transaction is over, must not keep later ones from being given. */
  #inTurn(answer: () => Promise<void>): void {
    this.#last = this.#last.then(answer).catch((error: unknown) => {
      this.#logger.warn("no answer", { callId: this.#session.request.callId, error: String(error) });
    });
  }

  async #answerTo(request: Core.IncomingRequestMessage): Promise<Core.ResponseOptions> {
    try {
      const octets = parseMikeyBody(bodyOf(request));
      if (octets === undefined || this.#member === undefined) return { statusCode: 415 };
      const answer = await this.#member.receive(octets);
      return responseWith({ statusCode: 200 }, answer);
    } catch (error) {
      if (!(error instanceof GcksRefusal)) return { statusCode: error instanceof WatchwordError ? 400 : 500 };
      const { status, retryAfter, reply } = error;
      const extraHeaders = retryAfter === undefined ? [] : [`Retry-After: ${retryAfter}`];
      return responseWith({ statusCode: status.sip, extraHeaders }, reply);
    }
  }

  /** The answer is 200 whatever the verdict (docs/protocol.md §6.3); it says what the key server acknowledges. */
  #bye(bye: Bye): void {
    this.#over = true;
    const proof = proofIn(bodyOf(bye.request));
    this.#inTurn(async () => {
      let acknowledgement: Uint8Array | undefined;
      try {
        acknowledgement = (await this.#member?.end(proof))?.acknowledgement;
      } catch (error) {
        this.#logger.error("leaving failed", { callId: this.#session.request.callId, error: String(error) });
      }
      await bye.accept(responseWith({ statusCode: 200 }, acknowledgement));
    });
  }

  #terminated(): void {
    this.#noteAcknowledged();
    if (this.#over) return;
    this.#over = true;
    this.#member?.lost();
  }
}

function responseWith(options: Core.ResponseOptions, message: Uint8Array | undefined): Core.ResponseOptions {
  return message === undefined ? options : withMikey(options, mikeyBody(message));
}
