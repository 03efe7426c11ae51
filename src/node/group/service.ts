import { defaultCrypto } from "../../crypto/index.js";
import { type AuditEvent, type Gcks, openGcks } from "../../gcks/index.js";
import { type Logger, silentLogger } from "../../io/index.js";
import { sipIdentity } from "../../sip/index.js";
import { createDatagramsFactory } from "../datagrams.js";
import { startRtspService } from "../rtsp-service.js";
import { steadyClock, systemClock, systemTimers } from "../time.js";
import { startAdminServer } from "./admin.js";
import type { GcksService, GcksServiceOptions } from "./contracts.js";
import { openControlSockets } from "./control.js";
import { createCarrierAuthenticator, startSipGroupServer } from "./sip-server.js";

/**
 * Starts a key server: one controller behind every SIP and RTSP listener, its control groups, and its administration.
 * @throws (rejects) WatchwordError of `openGcks` and of the listeners; what was started before is closed
 */
export async function startGcksService(options: GcksServiceOptions): Promise<GcksService> {
  const { identity, sip = [], rtsp = [], control = {}, admin, logger = silentLogger, audit, ...gcksOptions } = options;
  const closers: (() => Promise<void> | void)[] = [];
  let opened: Gcks | undefined;
  const close = async (): Promise<void> => {
    // Before the dialogs and sessions: that they end now says nothing of the members.
    await opened?.close();
    for (const step of closers.splice(0).toReversed()) await step();
  };
  try {
    const sockets = await openControlSockets(createDatagramsFactory(), options.groups, control);
    closers.push(() => sockets.close());
    const gcks = await openGcks({
      ...gcksOptions,
      clock: systemClock,
      steady: steadyClock,
      timers: systemTimers,
      crypto: defaultCrypto,
      identity: sipIdentity(identity),
      multicast: sockets.multicast,
      ...(sockets.unicast === undefined ? {} : { unicast: sockets.unicast }),
      audit: (event) => {
        note(logger, event);
        audit?.(event);
      },
    });
    opened = gcks;
    sockets.onReport = (datagram, from) => gcks.receiveDatagram(datagram, from);
    // The realm of Digest is the key server's domain: users have their names in it.
    const realm = identity.replace(/^sips?:[^@]*@/, "");
    const sipUris: string[] = [];
    for (const listener of sip) {
      const server = await startSipGroupServer(listener, gcks, realm, logger);
      closers.push(() => server.close());
      sipUris.push(server.uri);
    }
    const rtspUrls: string[] = [];
    for (const { local, tls, password } of rtsp) {
      const server = await startRtspService({
        ...local,
        presentations: [],
        groups: { gcks, ...(password === undefined ? {} : { authenticator: createCarrierAuthenticator(realm, password) }) },
        logger,
        ...(tls === undefined ? {} : { tls }),
      });
      closers.push(() => server.close());
      rtspUrls.push(server.url(""));
    }
    const administration = admin === undefined ? undefined : await startAdminServer(admin, gcks, logger);
    if (administration !== undefined) closers.push(() => administration.close());
    return {
      gcks,
      sip: sipUris,
      rtsp: rtspUrls,
      admin: administration?.url,
      control: sockets.local,
      urisOf: (group) => {
        const name = encodeURIComponent(group);
        return [...sipUris.map((uri) => uri.replace(/^sip:/, `sip:${name}@`)), ...rtspUrls.map((url) => `${url}/${name}`)];
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The audit is part of the log. */
function note(logger: Logger, { type, group, member, detail }: AuditEvent): void {
  const fields = { ...detail, ...(group === undefined ? {} : { group }), ...(member === undefined ? {} : { member }) };
  if (type === "refused" || type === "report-refused" || type === "delivery-failed") logger.warn(type, fields);
  else logger.info(type, fields);
}
