import { WatchwordError } from "../../bytes/index.js";
import { defaultCrypto } from "../../crypto/index.js";
import type { Gcks } from "../../gcks/index.js";
import type { Logger } from "../../io/index.js";
import { createGroupInvitations } from "../../sip/sipjs/index.js";
import { formatEndpoint } from "../datagrams.js";
import { guardSession } from "../sip/sipjs-defects.js";
import { createSipStack } from "../sip/stack.js";
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
export async function startSipGroupServer(options: SipListenerOptions, gcks: Gcks, logger: Logger): Promise<SipGroupServer> {
  const { transport, local, publicHost, tls } = options;
  if (transport === "tls" && tls === undefined)
    throw new WatchwordError("node.sip-transport", "a TLS listener needs a certificate and its key");
  const invitations = createGroupInvitations({
    gcks,
    host: () => stack.transport.address?.host ?? local.host,
    sessionId: randomDigits,
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

/** For o= lines (RFC 4566 §5.2). */
export function randomDigits(): string {
  const octets = defaultCrypto.randomBytes(4);
  return String(new DataView(octets.buffer, octets.byteOffset).getUint32(0));
}
