import { type Core, type Inviter, SessionState } from "sip.js";
import { WatchwordError } from "../../bytes/index.js";
import { statusError } from "./call.js";

/**
 * Sends the INVITE; resolves when the call stands.
 * @param ringTime milliseconds
 * @throws (rejects) WatchwordError `node.sip-status-…`, `node.sip-call`
 */
export async function untilTaken(inviter: Inviter, ringTime: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(() => reject(new WatchwordError("node.sip-call", "the other party does not answer")), ringTime);
      const refused = ({ message }: Core.IncomingResponse): void =>
        reject(statusError("INVITE", message.statusCode ?? 500, reasonOf(message)));
      inviter.stateChange.addListener((state) => {
        if (state === SessionState.Established) resolve();
        // Rejections come a moment later, with their status.
        else if (state === SessionState.Terminated)
          setTimeout(() => reject(new WatchwordError("node.sip-call", "the call failed")), 0);
      });
      inviter.invite({ requestDelegate: { onReject: refused, onRedirect: refused } }).catch(reject);
    });
  } finally {
    clearTimeout(timer);
  }
}

/** The reason that a Warning gives, or the phrase of the status line. */
function reasonOf(message: Core.IncomingResponseMessage): string {
  const texts = message.getHeaders("warning").flatMap((warning) => /"((?:[^"\\]|\\.)*)"/.exec(warning)?.[1] ?? []);
  return texts.length === 0 ? (message.reasonPhrase ?? "") : `(${texts.join("; ")})`;
}
