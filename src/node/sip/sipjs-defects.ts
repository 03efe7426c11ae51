import { type Invitation, SessionState } from "sip.js";

/**
 * sip.js 0.21 throws out of a timer, which ends the process, where a caller hangs up a call that was answered without having sent its
 * ACK: 32 s later it tries to end the session once more. To be called for every invitation, in `onInvite`.
 */
export function guardInvitation(invitation: Invitation): void {
  const internal = invitation as unknown as { onAckTimeout(): void };
  const onAckTimeout = internal.onAckTimeout.bind(invitation);
  internal.onAckTimeout = () => {
    if (invitation.state === SessionState.Established) onAckTimeout();
  };
}
