import { WatchwordError } from "../../bytes/index.js";
import { defaultCrypto } from "../../crypto/index.js";
import type { Gcks } from "../../gcks/index.js";
import type { Logger } from "../../io/index.js";
import { type Authenticator, createAuthenticator, type DigestAlgorithm } from "../../rtsp/index.js";
import { createGroupInvitations } from "../../sip/sipjs/index.js";
import { formatEndpoint } from "../datagrams.js";
import { guardSession } from "../sip/sipjs-defects.js";
import { createSipStack } from "../sip/stack.js";
import { systemClock } from "../time.js";
import type { SipListenerOptions } from "./contracts.js";

/** A SIP listener of a key server. */
export interface SipGroupServer {
  readonly uri: string;
  close(): Promise<void>;
}

/**
 * Starts a user agent that answers for a key server.
 * @throws (rejects) WatchwordError `node.sip-transport`, and those of the sockets
 */
export async function startSipGroupServer(
  options: SipListenerOptions,
  gcks: Gcks,
  realm: string,
  logger: Logger,
): Promise<SipGroupServer> {
  const { transport, local, publicHost, tls, password } = options;
  if (transport === "tls" && tls === undefined)
    throw new WatchwordError("node.sip-transport", "a TLS listener needs a certificate and its key");
  // sip.js answers MD5 alone, and the first challenge.
  const authenticator = password === undefined ? undefined : createCarrierAuthenticator(realm, password, ["MD5"]);
  const invitations = createGroupInvitations({
    gcks,
    host: () => stack.transport.address?.host ?? local.host,
    sessionId: randomDigits,
    ...(authenticator === undefined ? {} : { authenticate: (request) => authenticator.check(request) }),
    ...(tls?.clientCa === undefined ? {} : { certified: (via) => stack.transport.certifiedBy(via) }),
    logger,
  });
  const stack = createSipStack({
    address: `sip:gcks@${formatEndpoint({ host: publicHost ?? local.host, port: 0 })}`,
    transport: {
      transport,
      local,
      ...(publicHost === undefined ? {} : { publicHost }),
      ...(tls === undefined ? {} : { tls: { credentials: tls } }),
    },
    everyUser: true,
    // What members send in a dialog is worth the connection that it came by.
    ...(transport === "udp" ? { contactTransport: "tcp" as const } : {}),
    sessionDescriptionHandlerFactory: invitations.sessionDescriptionHandlerFactory,
    delegate: {
      onInvite: (invitation) => {
        guardSession(invitation);
        invitations.onInvite(invitation);
      },
    },
    onWarning: (text) => logger.debug(text),
  });
  await stack.userAgent.start();
  const address = stack.transport.address ?? local;
  return {
    uri: `sip:${formatEndpoint(address)};transport=${transport}`,
    async close() {
      // Members keep their dialogs: the key server goes on at its next start. `stop` would hang up on all of them.
      await stack.transport.disconnect();
      // The timers of its transactions would hold the process for half a minute.
      stack.userAgent.userAgentCore.dispose();
    },
  };
}

/** Digest for who registers. A password is worth little without the key that MIKEY asks for, so counted digests are all that is taken. */
export function createCarrierAuthenticator(
  realm: string,
  password: (user: string) => string | undefined,
  algorithms?: readonly DigestAlgorithm[],
): Authenticator {
  return createAuthenticator({
    realm,
    password,
    crypto: defaultCrypto,
    clock: systemClock,
    withoutQop: false,
    ...(algorithms === undefined ? {} : { algorithms }),
  });
}

/** For o= lines (RFC 4566 §5.2). */
export function randomDigits(): string {
  const octets = defaultCrypto.randomBytes(4);
  return String(new DataView(octets.buffer, octets.byteOffset).getUint32(0));
}
