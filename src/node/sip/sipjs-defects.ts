import { type Core, type Invitation, type Session, SessionState } from "sip.js";

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
  if (isInvitation(session)) guardAckTimeout(session);
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
