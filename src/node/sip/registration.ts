import { Registerer, RegistererState, type UserAgent } from "sip.js";
import { WatchwordError } from "../../bytes/index.js";
import { statusError } from "./call.js";

/** Seconds of a registration. */
const REGISTRATION_TIME = 300;

/**
 * Registers a user agent (RFC 3261 §10) and keeps it registered.
 * @throws (rejects) WatchwordError `node.sip-status-…`, `node.sip-register`
 */
export async function register(userAgent: UserAgent): Promise<Registerer> {
  const registerer = new Registerer(userAgent, { expires: REGISTRATION_TIME });
  await new Promise<void>((resolve, reject) => {
    registerer.stateChange.addListener((state) => {
      if (state === RegistererState.Registered) resolve();
      else if (state === RegistererState.Terminated) reject(new WatchwordError("node.sip-register", "the registration has ended"));
    });
    registerer
      .register({
        requestDelegate: {
          onReject: ({ message }) => reject(statusError("REGISTER", message.statusCode ?? 500, message.reasonPhrase ?? "")),
        },
      })
      .catch(reject);
  });
  return registerer;
}

/** Takes a registration back; resolves when that is answered, however. */
export async function unregister(registerer: Registerer): Promise<void> {
  if (registerer.state !== RegistererState.Registered) return;
  await new Promise<void>((resolve) => {
    const done = (): void => resolve();
    registerer.unregister({ requestDelegate: { onAccept: done, onReject: done } }).catch(done);
  });
}
