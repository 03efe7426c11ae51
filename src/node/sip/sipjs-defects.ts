import { type Core, type Invitation, Inviter, type Session, SessionState } from "sip.js";

/** Milliseconds: RFC 3261 §9.1, 64 T1. */
const CANCEL_TIME = 32_000;

/**
 * Keeps what sip.js 0.21 does wrong from doing harm. To be called for every session: an invitation in `onInvite`, an inviter when it is
 * made.
 */
export function guardSession(session: Session): void {
  session.stateChange.addListener((state) => {
    if (state !== SessionState.Terminated) return;
    // A 2xx to a re-INVITE is repeated until its ACK comes, even when the call is over: for ever, where two such answers overlapped.
    const dialog = session.dialog as Partial<Core.SessionDialog> | undefined;
    if (dialog !== undefined) dialog.reinviteUserAgentServer = undefined;
  });
  guardReferral(session);
  if (isInvitation(session)) guardAckTimeout(session);
  if (session instanceof Inviter) guardCancel(session);
}

/** A REFER that nobody looks at is followed: whoever is in a call, or knows its tags, could have anybody called at our expense. */
function guardReferral(session: Session): void {
  const internal = session as unknown as { onReferRequest(request: Core.IncomingReferRequest): void };
  const onReferRequest = internal.onReferRequest.bind(session);
  internal.onReferRequest = (request) => {
    if (session.delegate?.onRefer === undefined) request.reject({ statusCode: 603 });
    else onReferRequest(request);
  };
}

/** What ends an INVITE that was sent: as timer B does, which runs before the first provisional response only. */
interface CancelledInvite {
  readonly transaction: { stateTransition(state: "Terminated", forced: boolean): void };
  onRequestTimeout(): void;
}

/** RFC 3261 §9.1: an INVITE that was cancelled and is not answered for 64 T1 is over. sip.js waits for ever. */
function guardCancel(inviter: Inviter): void {
  const internal = inviter as unknown as { readonly outgoingInviteRequest?: CancelledInvite; readonly isCanceled: boolean };
  inviter.stateChange.addListener((state) => {
    const invite = internal.outgoingInviteRequest;
    if (state !== SessionState.Terminating || !internal.isCanceled || invite === undefined) return;
    const timer = setTimeout(() => {
      invite.onRequestTimeout();
      invite.transaction.stateTransition("Terminated", true);
    }, CANCEL_TIME).unref();
    inviter.stateChange.addListener(() => clearTimeout(timer), { once: true });
  });
}

/**
 * Where a caller hangs up a call that was answered without having sent its ACK, 32 s later the session is ended once more, and the
 * error that this throws out of a timer ends the process.
 */
function guardAckTimeout(invitation: Invitation): void {
  const internal = invitation as unknown as { onAckTimeout(): void };
  const onAckTimeout = internal.onAckTimeout.bind(invitation);
  internal.onAckTimeout = () => {
    if (invitation.state === SessionState.Established) onAckTimeout();
  };
}

function isInvitation(session: Session): session is Invitation {
  return "onAckTimeout" in session;
}
