import { CodecError, WatchwordError } from "../bytes/index.js";
import type { KeyMgmtSpec, SdpToleranceName } from "../sdp/index.js";
import type { Authenticator } from "./authentication.js";
import { parseSession, parseTokenList } from "./headers.js";
import { carryKeyMgmt } from "./key-mgmt-carriage.js";
import { type KeyingPeer, keyingFailure } from "./keying.js";
import { header, headers, type RtspHeaders, type RtspRequest } from "./message.js";
import { RtspRefusal } from "./refusal.js";
import type { RunningPresentation, ServerCore } from "./server.js";
import type { ServerConnection } from "./server-connection.js";
import type { ServerSession } from "./server-session.js";
import { parseRtspUri, type RtspUri } from "./uri.js";

/** What a method answers; every status but 200 is a refusal. */
export interface Answer {
  readonly status: number;
  readonly fields: RtspHeaders;
  readonly body?: Uint8Array;
  /** Runs once the answer is on its way. */
  readonly after?: () => void;
}

/** Where a request points. */
export interface Target {
  readonly uri: RtspUri;
  readonly running: RunningPresentation;
  /** Index of the stream, undefined for the whole presentation. */
  readonly track: number | undefined;
  /** The URI of the whole presentation as this client writes it, without a trailing slash. */
  readonly base: string;
}

/** One request, where it came from, and who serves it. */
export interface Exchange {
  readonly core: ServerCore;
  readonly connection: ServerConnection;
  readonly request: RtspRequest;
}

/** Whether the server, or the connection, has all the sessions that it may have. */
export function noRoom({ core, connection }: Exchange): boolean {
  return core.full || connection.sessions.size >= core.limits.maxSessionsPerConnection;
}

/** @throws RtspRefusal 400 for what is no URI, 404 for what is not served */
export function locate({ core, request }: Pick<Exchange, "core" | "request">): Target {
  let uri: RtspUri;
  try {
    uri = parseRtspUri(request.uri);
  } catch (error) {
    throw new RtspRefusal(400, [], { cause: error });
  }
  const path = uri.path.replace(/\/+$/, "");
  for (const running of core.running) {
    const own = running.presentation.path;
    const rest = path.startsWith(own) ? path.slice(own.length) : undefined;
    const track = rest === undefined ? null : /^\/track([1-9]\d{0,2})$/.exec(rest);
    if (rest !== "" && track === null) continue;
    const base = uri.text.slice(0, uri.text.length - uri.query.length - uri.path.length) + own;
    return { uri, running, track: track === null ? undefined : Number(track[1]) - 1, base };
  }
  throw new RtspRefusal(404);
}

/** @param own who is asked instead of the presentation's authenticator @throws RtspRefusal 401 */
export function authenticate(exchange: Exchange, { running }: Target, own?: Authenticator): KeyingPeer {
  return authenticateFor(exchange, own ?? authenticatorOf(exchange, running));
}

/** Who publishes proves another thing than who plays. */
export function authenticatorOf({ core, request }: Exchange, { presentation }: RunningPresentation): Authenticator | undefined {
  const value = header(request, "Session");
  const publishes = value !== undefined && findSession(core, value)?.facts.publish !== undefined;
  return (publishes ? presentation.publish?.authenticator : undefined) ?? presentation.authenticator;
}

/** @throws RtspRefusal 401 */
export function authenticateFor({ connection, request }: Exchange, authenticator: Authenticator | undefined): KeyingPeer {
  const { remote, secure } = connection.stream.channel;
  const from = header(request, "From");
  const peer = { remote, secure, ...(from === undefined ? {} : { from }) };
  if (authenticator === undefined) return peer;
  const authorization = header(request, "Authorization");
  const verdict = authenticator.check({ method: request.method, uri: request.uri, authorization, secure });
  if (!verdict.ok)
    throw new RtspRefusal(
      401,
      verdict.challenges.map((value) => ["WWW-Authenticate", value] as const),
    );
  return { ...peer, user: verdict.user };
}

export function findSession(core: ServerCore, value: string): ServerSession | undefined {
  try {
    return core.session(parseSession(value).id);
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}

/** RFC 2326 §12.1: descriptions are SDP. @throws RtspRefusal 406 for who does not take that */
export function checkAccept(request: RtspRequest): void {
  const accept = headers(request, "Accept").flatMap(parseTokenList);
  if (accept.length > 0 && !accept.some((range) => /^(application\/(sdp|\*)|\*\/\*)\s*(;|$)/i.test(range)))
    throw new RtspRefusal(406);
}

/** The session of the Session header, if it is this client's. @throws RtspRefusal 454 */
export function ownSession({ core, connection, request }: Exchange, peer: KeyingPeer): ServerSession {
  const value = header(request, "Session");
  const session = value === undefined ? undefined : findSession(core, value);
  const mine = session !== undefined && session.facts.user === peer.user && session.facts.remote.host === peer.remote.host;
  // Somebody else's session does not exist for you.
  if (!mine) throw new RtspRefusal(454);
  session.touch();
  if (!session.tracks.some(({ carrier }) => carrier.kind === "tcp")) core.bind(session, connection);
  return session;
}

/** @throws RtspRefusal 454, 460 where a stream is addressed and only the whole can be */
export function sessionFor(exchange: Exchange, options: { readonly anyTrack?: boolean } = {}): ServerSession {
  const target = locate(exchange);
  const session = ownSession(exchange, authenticate(exchange, target));
  if (session.facts.path !== target.running.presentation.path) throw new RtspRefusal(454);
  if (target.track !== undefined) {
    if (!session.tracks.some(({ index }) => index === target.track)) throw new RtspRefusal(404);
    if (session.tracks.length > 1 && options.anyTrack !== true) throw new RtspRefusal(460);
  }
  return session;
}

export function optionalSession(exchange: Exchange): ServerSession | undefined {
  if (header(exchange.request, "Session") === undefined) return undefined;
  return sessionFor(exchange, { anyTrack: true });
}

/** A failure of key management as a response: its status, and the MIKEY ERR where one may be sent (RFC 4567 §4.2). */
export function keyingRefusal(error: unknown, present: boolean, uri?: string): RtspRefusal {
  const { status, reply } = keyingFailure(error, present);
  const spec = { protocol: "mikey", ...(uri === undefined ? {} : { uri }) };
  return new RtspRefusal(status, carryKeyMgmt(reply === undefined ? [] : [{ ...spec, data: reply }]).fields, { cause: error });
}

/** The MIKEY message whose uri means this request: absent, or one of these by path, since proxies and name services change hosts. */
export function messageFor(
  specs: readonly KeyMgmtSpec[],
  uris: readonly string[],
  emptyAllowed: boolean,
): { readonly message: Uint8Array | undefined; readonly tolerances: readonly SdpToleranceName[] } {
  const mikey = specs.filter(({ protocol }) => protocol === "mikey");
  if (mikey.length === 0) return { message: undefined, tolerances: [] };
  const paths = uris.map(pathOf);
  const match = mikey.find(({ uri }) => uri === undefined || (uri === "" ? emptyAllowed : paths.includes(pathOf(uri))));
  if (match === undefined) throw new WatchwordError("rtsp.key-mgmt-context", "the KeyMgmt header is for another URI");
  return { message: match.data, tolerances: match.uri === "" ? ["empty-key-mgmt-uri"] : [] };
}

/** The path of a URI, without a trailing slash. */
export function pathOf(uri: string): string {
  return uri.replace(/^[a-z]+:\/\/[^/]*/i, "").replace(/\/+$/, "");
}
