import type { Core, Invitation, Inviter, Session } from "sip.js";
import { WatchwordError } from "../../bytes/index.js";
import type { ProofVerdict } from "../../gsa/index.js";
import {
  type DialogFacts,
  MIKEY_TYPE,
  mediaType,
  parseMikeyBody,
  type ReceivedBody,
  type SipBody,
  type SipDialog,
  type SipRefusal,
} from "../index.js";
import type { KeyedSessionEvents } from "./contracts.js";
import { mikeyHeaders, rejectOptions } from "./responses.js";

/** What the hooks need of a handler. */
export interface SessionHandler {
  readonly dialog: SipDialog;
  /** Why the last description of the other party was refused. */
  refusal: SipRefusal | undefined;
  noteProof(by: "received" | "acknowledged", verdict: ProofVerdict): void;
  /** A BYE is on its way: keys of the proof are kept until `endBye`. */
  beginBye(): void;
  endBye(): void;
}

/**
 * What sip.js calls on its sessions and has no delegate for, or whose delegate belongs to the application. They are methods that it looks
 * up on the instance, so putting others in their place covers `bye()`, `dispose()` and `UserAgent.stop()` alike.
 */
interface Internals {
  _bye(delegate?: Core.OutgoingRequestDelegate, options?: Core.RequestOptions): Promise<Core.OutgoingByeRequest>;
  ackAndBye(response: Core.AckableIncomingResponseWithSession, statusCode?: number, reasonPhrase?: string): void;
  onByeRequest(request: Core.IncomingByeRequest): void;
  onInviteRequest(request: Core.IncomingInviteRequest): void;
  onInfoRequest(request: Core.IncomingInfoRequest): void;
  onMessageRequest(request: Core.IncomingMessageRequest): void;
  /** Of an `Inviter` only: the final response to its INVITE. */
  onReject?(response: Core.IncomingResponse): void;
}

/** One session may get several handlers, one for each early dialog with an offer of its own; the hooks ask for the one in use. */
const handlers = new WeakMap<Session, SessionHandler>();

export function hookSession(session: Session, handler: SessionHandler, events: KeyedSessionEvents): void {
  const known = handlers.has(session);
  handlers.set(session, handler);
  if (known) return;
  const current = (): SessionHandler => {
    const inUse = session.sessionDescriptionHandler as Partial<SessionHandler> | undefined;
    return inUse?.dialog === undefined ? (handlers.get(session) as SessionHandler) : (inUse as SessionHandler);
  };
  const internals = session as unknown as Internals;
  hookState(session, current, events);
  hookByeSent(internals, current);
  hookByeReceived(session, internals, current);
  hookReinvite(session, current);
  hookMessages(session, internals, events);
  hookRejection(session, internals, current, events);
}

function hookState(session: Session, current: () => SessionHandler, events: KeyedSessionEvents): void {
  session.stateChange.addListener((state) => {
    if (state !== "Established") return;
    current().dialog.confirm();
    hookReinviteSent(session, current, events);
  });
}

/**
 * The refusal of a re-INVITE may say that the new keys were not acceptable: then the session is aborted (RFC 4567 §4.1.2). It is read
 * before sip.js rolls the offer back.
 */
function hookReinviteSent(session: Session, current: () => SessionHandler, events: KeyedSessionEvents): void {
  const { dialog } = session;
  if (dialog === undefined) return;
  const send = dialog.invite;
  dialog.invite = (delegate, options) => {
    const onReject = (response: Core.IncomingResponse): void => {
      void current()
        .dialog.refused(...refusalIn(response))
        .then((advice) => {
          delegate?.onReject?.(response);
          const status = statusOf(response);
          events.onRefusedByPeer?.(session, { ...advice, status });
          // The application may have hung up by itself.
          if (advice.abort && session.state === "Established") void hangUp(session, status);
        });
    };
    return send.call(dialog, { ...delegate, onReject }, options);
  };
}

/** With the reason (RFC 3326); the proof is added as to every BYE. */
async function hangUp(session: Session, status: number): Promise<void> {
  const extraHeaders = [`Reason: SIP;cause=${status};text="new keys were refused"`];
  try {
    await session.bye({ requestOptions: { extraHeaders } });
  } catch {
    // It ended in the meantime.
  }
}

/** BYE carries the de-registration; a party that does not take it gets an empty one (docs/protocol.md §8). */
function hookByeSent(internals: Internals, current: () => SessionHandler): void {
  const send = internals._bye;
  internals._bye = function bye(this: Session, delegate = {}, options = {}) {
    const handler = current();
    const proof = options.body === undefined ? handler.dialog.end() : undefined;
    handler.beginBye();
    const done = (response: Core.IncomingResponse): void => {
      if (proof !== undefined) handler.noteProof("acknowledged", handler.dialog.acceptEndAnswer(bodyOf(response.message)));
      handler.endBye();
    };
    const watched: Core.OutgoingRequestDelegate = {
      ...delegate,
      onAccept: (response) => {
        done(response);
        delegate.onAccept?.(response);
      },
      onRedirect: (response) => {
        done(response);
        delegate.onRedirect?.(response);
      },
      onReject: (response) => {
        const { dialog } = this;
        if (proof !== undefined && response.message.statusCode === 415 && dialog !== undefined) {
          handler.noteProof("acknowledged", "absent");
          handler.endBye();
          dialog.bye(delegate, options);
          return;
        }
        done(response);
        delegate.onReject?.(response);
      },
    };
    return send.call(this, watched, proof === undefined ? options : withMikey(options, proof));
  };

  // After a refused answer sip.js hangs up past `_bye`: with the proof of the keys that are still in force, where there are any.
  const ackAndBye = internals.ackAndBye;
  internals.ackAndBye = function acknowledged(this: Session, response, statusCode, reasonPhrase) {
    const proof = current().dialog.end();
    const { session } = response;
    if (proof !== undefined && session.id === this.dialog?.id) {
      const bye = session.bye;
      session.bye = (delegate, options = {}) => bye.call(session, delegate, withMikey(options, proof));
    }
    ackAndBye.call(this, response, statusCode, reasonPhrase);
  };
}

/** Judged before sip.js closes the session; whatever the verdict, the answer is 200 (docs/protocol.md §6.3). */
function hookByeReceived(session: Session, internals: Internals, current: () => SessionHandler): void {
  const receive = internals.onByeRequest;
  internals.onByeRequest = function byeRequest(this: Session, request) {
    const handler = current();
    if (session.state !== "Established") {
      receive.call(this, request);
      return;
    }
    const { verdict, body } = handler.dialog.acceptEnd(bodyOf(request.message));
    if (body !== undefined) {
      const accept = request.accept.bind(request);
      request.accept = (options) => {
        const answer = options ?? { statusCode: 200 };
        return accept(answer.body === undefined ? withMikey(answer, body) : answer);
      };
    }
    handler.noteProof("received", verdict);
    receive.call(this, request);
  };
}

/**
 * A refused re-INVITE says why: sip.js sends a bare 488.
 * @param admit is asked first; where it says false it has answered
 */
export function hookReinvite(
  session: Session,
  current: () => Pick<SessionHandler, "refusal">,
  admit: (request: Core.IncomingInviteRequest) => boolean = () => true,
): void {
  const internals = session as unknown as Internals;
  const receive = internals.onInviteRequest;
  internals.onInviteRequest = function inviteRequest(this: Session, request) {
    if (!admit(request)) return;
    const handler = current();
    handler.refusal = undefined;
    const reject = request.reject.bind(request);
    request.reject = (options) => {
      const { refusal } = handler;
      if (refusal === undefined) return reject(options);
      const { statusCode, extraHeaders, body } = rejectOptions(refusal);
      return reject({
        ...options,
        statusCode,
        extraHeaders: [...(options?.extraHeaders ?? []), ...extraHeaders],
        ...(body === undefined
          ? {}
          : { body: { contentDisposition: "session", contentType: body.contentType, content: body.body } }),
      });
    };
    receive.call(this, request);
  };
}

/** INFO and MESSAGE with a key message: without a taker sip.js would say 200 and lose it. */
function hookMessages(session: Session, internals: Internals, { onMikey }: KeyedSessionEvents): void {
  const statusFor = async (method: "INFO" | "MESSAGE", body: ReceivedBody): Promise<number> => {
    try {
      const octets = parseMikeyBody(body);
      return octets !== undefined && (await onMikey?.(session, octets, method)) === true ? 200 : 415;
    } catch (error) {
      return error instanceof WatchwordError ? 400 : 500;
    }
  };
  const deliver = async (request: Core.IncomingRequest, method: "INFO" | "MESSAGE", body: ReceivedBody): Promise<void> => {
    const statusCode = await statusFor(method, body);
    // The session may have ended meanwhile; then nobody waits for an answer.
    if (session.state !== "Established") return;
    if (statusCode === 200) request.accept();
    else request.reject({ statusCode });
  };
  const hook = <R extends Core.IncomingRequest>(method: "INFO" | "MESSAGE", receive: (request: R) => void) =>
    function messageRequest(this: Session, request: R): void {
      const body = bodyOf(request.message);
      const isMikey = body !== undefined && mediaType(body.contentType) === MIKEY_TYPE;
      const forApplication =
        onMikey === undefined && (method === "INFO" ? session.delegate?.onInfo : session.delegate?.onMessage) !== undefined;
      if (!isMikey || forApplication || session.state !== "Established") receive.call(this, request);
      else void deliver(request, method, body);
    };
  internals.onInfoRequest = hook("INFO", internals.onInfoRequest);
  internals.onMessageRequest = hook("MESSAGE", internals.onMessageRequest);
}

/** The response that refused our INVITE may carry a MIKEY error, and advise to try once more. */
function hookRejection(session: Session, internals: Internals, current: () => SessionHandler, events: KeyedSessionEvents): void {
  const receive = internals.onReject;
  if (receive === undefined) return;
  internals.onReject = function rejected(this: Session, response) {
    const advice = current().dialog.refused(...refusalIn(response));
    void advice.then((refusal) => events.onRefusedByPeer?.(session, { ...refusal, status: statusOf(response) }));
    receive.call(this, response);
  };
}

/** sip.js writes Content-Type from a body and nothing of its disposition. */
export function withMikey<O extends Core.RequestOptions | Core.ResponseOptions>(options: O, proof: SipBody): O {
  return {
    ...options,
    extraHeaders: [...(options.extraHeaders ?? []), ...mikeyHeaders(proof)],
    body: { contentDisposition: proof.contentDisposition, contentType: proof.contentType, content: proof.content },
  };
}

function statusOf({ message }: Core.IncomingResponse): number {
  return message.statusCode ?? 500;
}

/** What a dialog wants to know of a final response that refuses an offer. */
function refusalIn(response: Core.IncomingResponse): Parameters<SipDialog["refused"]> {
  const { message } = response;
  return [statusOf(response), bodyOf(message), message.getHeaders("Warning")];
}

export function bodyOf(message: Core.IncomingRequestMessage | Core.IncomingResponseMessage): ReceivedBody | undefined {
  const contentType = message.getHeader("Content-Type");
  return message.body === "" || contentType === undefined ? undefined : { contentType, content: message.body };
}

/** What tells this dialog from others. The caller's tag is that of the first INVITE, whoever sent it. */
export function factsOf(session: Session): DialogFacts {
  const { callId, fromTag } = (session as Inviter | Invitation).request;
  return { callId, callerTag: fromTag, remote: session.remoteIdentity.uri.toString() };
}

/** Whether this is an INVITE that came and has no final response. */
export function isInvitationToAnswer(session: Session): session is Invitation {
  return "reject" in session && (session.state === "Initial" || session.state === "Establishing");
}
