import { CodecError, utf8, WatchwordError } from "../bytes/index.js";
import type { KeyedMedia, MediaOffer } from "../gsa/index.js";
import {
  formatDescription,
  formatKeyMgmtAttribute,
  formatPotentialConfiguration,
  formatTransportCapability,
  type KeyMgmtSpec,
  type SdpToleranceName,
} from "../sdp/index.js";
import type { MediaCarrier } from "./carrier.js";
import { formatRange, formatRtpInfo, formatSession, parseRange, parseSession, parseTokenList } from "./headers.js";
import { type CarriedKeyMgmt, carriedKeyMgmt, carryKeyMgmt, type KeyMgmtCarriage, soleMessage } from "./key-mgmt-carriage.js";
import { emptyUriTolerated, type KeyingPeer, keyingFailure } from "./keying.js";
import { header, headers, type RtspHeaders, type RtspRequest } from "./message.js";
import type { Presentation, RunningPresentation, ServerCore } from "./server.js";
import type { DescribedKeys, ServerConnection } from "./server-connection.js";
import type { ServerSession } from "./server-session.js";
import { formatTransport, parseTransport, type TransportSpec } from "./transport.js";
import { parseRtspUri, type RtspUri } from "./uri.js";

/** Why a request is answered with something other than 200. */
export class RtspRefusal extends Error {
  readonly status: number;
  readonly fields: RtspHeaders;

  constructor(status: number, fields: RtspHeaders = [], options?: { readonly cause?: unknown }) {
    super(`RTSP ${status}`, options);
    this.status = status;
    this.fields = fields;
  }
}

interface Answer {
  readonly status: number;
  readonly fields: RtspHeaders;
  readonly body?: Uint8Array;
  /** Runs once the answer is on its way. */
  readonly after?: () => void;
}

/** Where a request points. */
interface Target {
  readonly uri: RtspUri;
  readonly running: RunningPresentation;
  /** Index of the stream, undefined for the whole presentation. */
  readonly track: number | undefined;
  /** The URI of the whole presentation as this client writes it, without a trailing slash. */
  readonly base: string;
}

interface Exchange {
  readonly core: ServerCore;
  readonly connection: ServerConnection;
  readonly request: RtspRequest;
}

type Method = (exchange: Exchange) => Promise<Answer> | Answer;

const METHODS: Readonly<Record<string, Method>> = {
  OPTIONS: options,
  DESCRIBE: describe,
  SETUP: setup,
  PLAY: play,
  PAUSE: pause,
  GET_PARAMETER: getParameter,
  SET_PARAMETER: setParameter,
  TEARDOWN: teardown,
};
const PUBLIC = Object.keys(METHODS).join(", ");
/** Methods of RFC 2326 §10 that exist and are not for this resource. */
const NOT_HERE = ["ANNOUNCE", "RECORD", "REDIRECT"];

const OK: Answer = { status: 200, fields: [] };

/** Answers one request. @throws RtspRefusal for every other status */
export async function handleRequest(core: ServerCore, connection: ServerConnection, request: RtspRequest): Promise<Answer> {
  // RFC 2326 §12.32, §12.27: no option is implemented, so every one that is required is unsupported.
  const required = [...headers(request, "Require"), ...headers(request, "Proxy-Require")].flatMap(parseTokenList);
  if (required.length > 0) throw new RtspRefusal(551, [["Unsupported", required.filter(isPrintable).join(", ")]]);
  const method = METHODS[request.method];
  if (method === undefined || !Object.hasOwn(METHODS, request.method)) {
    throw new RtspRefusal(NOT_HERE.includes(request.method) ? 405 : 501, [["Allow", PUBLIC]]);
  }
  return method({ core, connection, request });
}

function options({ core, request }: Exchange): Answer {
  // Unauthenticated, as everywhere: it says nothing of the resource, but keeps an existing session alive.
  const id = header(request, "Session");
  if (id !== undefined) findSession(core, id)?.touch();
  return { status: 200, fields: [["Public", PUBLIC]] };
}

async function describe(exchange: Exchange): Promise<Answer> {
  const { core, connection, request } = exchange;
  const target = locate(exchange);
  const peer = authenticate(exchange, target);
  if (target.track !== undefined) throw new RtspRefusal(404);
  const accept = headers(request, "Accept").flatMap(parseTokenList);
  if (accept.length > 0 && !accept.some((range) => /^(application\/(sdp|\*)|\*\/\*)\s*(;|$)/i.test(range)))
    throw new RtspRefusal(406);
  const { presentation } = target.running;
  const { source, keying, profile } = presentation;
  await ready(target.running);

  connection.dropDescribed();
  const { described, attributes, shared } = await describeKeys(presentation, peer);
  if (keying !== undefined) connection.described = described;

  const announced = (presentation.announce ?? keying !== undefined) ? ["x-watchword:1"] : [];
  const body = formatDescription({
    sessionId: String(core.options.clock.now()),
    sessionVersion: 1,
    address: connection.stream.channel.local.host,
    name: presentation.name ?? presentation.path.slice(1),
    attributes: [...announced, ...shared],
    media: source.tracks.map((track, index) => ({
      kind: track.media,
      profile: presentation.capabilities === true && keying !== undefined ? profile.replace("SAVP", "AVP") : profile,
      payloadType: track.payloadType,
      rtpmap: track.rtpmap,
      control: trackName(index),
      attributes: attributes[index] ?? [],
      ...(track.fmtp === undefined ? {} : { formatParameters: track.fmtp }),
      ...(track.ssrc === undefined ? {} : { ssrc: track.ssrc }),
    })),
  });
  return {
    status: 200,
    fields: [
      ["Content-Type", "application/sdp"],
      ["Content-Base", `${target.base}/`],
    ],
    body: utf8(body),
  };
}

/** The key messages of a description, at the level that the keying wants. @throws RtspRefusal 403 */
async function describeKeys(
  presentation: Presentation,
  peer: KeyingPeer,
): Promise<{ readonly described: DescribedKeys; readonly attributes: readonly string[][]; readonly shared: readonly string[] }> {
  const { keying, profile, capabilities, source } = presentation;
  const described: DescribedKeys = { presentation, peer, offers: [], offerForAll: undefined, session: undefined };
  const attributes: string[][] = [];
  let first = 1;
  const lines = (offer: MediaOffer | undefined): string[] => {
    const messages = offer === undefined ? [] : [offer.octets, ...(offer.further ?? [])];
    if (capabilities !== true) return messages.map((message) => `key-mgmt:${formatKeyMgmtAttribute("mikey", message)}`);
    first += messages.length;
    return messages.length === 0 ? [] : formatPotentialConfiguration(messages, first - messages.length);
  };
  try {
    if (keying?.offerAll !== undefined && capabilities !== true) {
      described.offerForAll = await keying.offerAll(
        source.tracks.map((track, index) => stream(index, track.ssrc)),
        peer,
      );
      return { described, attributes, shared: lines(described.offerForAll) };
    }
    for (const [index, track] of source.tracks.entries()) {
      const offer = await keying?.offer(stream(index, track.ssrc), peer);
      described.offers.push(offer);
      attributes.push(lines(offer));
    }
  } catch (error) {
    for (const offer of described.offers) offer?.abandon();
    // RFC 4567 has no status for a description that cannot be keyed; the reason is not the client's to see.
    throw new RtspRefusal(403, [], { cause: error });
  }
  if (keying !== undefined && capabilities === true) return { described, attributes, shared: [formatTransportCapability(profile)] };
  if (keying?.level !== "session") return { described, attributes, shared: [] };
  return { described, attributes: [], shared: attributes[0] ?? [] };
}

async function setup(exchange: Exchange): Promise<Answer> {
  const { core, connection, request } = exchange;
  const target = locate(exchange);
  const peer = authenticate(exchange, target);
  const { presentation } = target.running;
  const tracks = presentation.source.tracks;
  // RFC 2326 §11.3.10: a presentation of several streams is set up stream by stream.
  const index = target.track ?? (tracks.length === 1 ? 0 : undefined);
  if (index === undefined) throw new RtspRefusal(459);
  const track = tracks[index];
  if (track === undefined) throw new RtspRefusal(404);
  await ready(target.running);

  const existing = header(request, "Session") === undefined ? undefined : ownSession(exchange, peer);
  if (existing !== undefined && existing.facts.path !== presentation.path) throw new RtspRefusal(459);
  // Changing the transport of a stream that is set up is not offered (RFC 2326 §10.4 leaves it to the server).
  if (existing?.tracks.some((candidate) => candidate.index === index)) throw new RtspRefusal(455);
  if (existing === undefined && core.full) throw new RtspRefusal(453);

  const transport = chooseTransport(exchange, presentation.profile);
  const { carrier, answer } = await openCarrier(exchange, transport);
  const id = existing?.facts.id ?? core.newSessionId();
  const trackUri = `${target.base}/${trackName(index)}`;
  let keyed: KeyedTrack | undefined;
  try {
    if (presentation.keying !== undefined) keyed = await keyTrack(exchange, target, index, id, peer, trackUri, existing);
    // The session may have ended, or the client may have left, while keys were made.
    if (connection.closed || existing?.state === "ended") throw new RtspRefusal(454);
    if (existing?.tracks.some((candidate) => candidate.index === index)) throw new RtspRefusal(455);
  } catch (error) {
    carrier.close();
    if (keyed?.media !== existing?.mediaForAll) keyed?.media.close();
    throw error;
  }
  const session =
    existing ??
    core.createSession(connection, target.running, {
      id,
      path: presentation.path,
      uri: target.base,
      user: peer.user,
      remote: peer.remote,
      timeout: core.sessionTimeout * 1000,
      ...(presentation.keying?.habits === undefined ? {} : { habits: presentation.keying.habits }),
    });
  session.addTrack({ index, track, carrier, uri: trackUri, media: keyed?.media, tolerances: keyed?.tolerances ?? [] });
  session.touch();
  core.emit({ type: "setup", session: session.info });
  const ssrc = track.ssrc === undefined ? {} : { ssrc: track.ssrc };
  return {
    status: 200,
    fields: [
      ["Transport", formatTransport([{ ...answer, ...ssrc, mode: "PLAY" }])],
      ["Session", formatSession({ id, timeout: core.sessionTimeout })],
      ...(keyed?.carriage.fields ?? []),
    ],
    ...(keyed?.carriage.body === undefined ? {} : { body: keyed.carriage.body }),
  };
}

/** Keys for a stream, and what goes back with them. */
interface KeyedTrack {
  readonly media: KeyedMedia;
  readonly carriage: KeyMgmtCarriage;
  readonly tolerances: readonly SdpToleranceName[];
}

/** RFC 4567 §4.2: the client's message completes what DESCRIBE began, or begins itself. */
async function keyTrack(
  { connection, request }: Exchange,
  target: Target,
  index: number,
  sessionId: string,
  peer: KeyingPeer,
  trackUri: string,
  session: ServerSession | undefined,
): Promise<KeyedTrack> {
  const { presentation } = target.running;
  const { keying } = presentation;
  if (keying === undefined) throw new RtspRefusal(500);
  // One exchange at session level keyed every stream at the first SETUP.
  if (session?.mediaForAll !== undefined) return { media: session.mediaForAll, carriage: { fields: [] }, tolerances: [] };
  let present = true;
  try {
    const carried = carriedKeyMgmt(request);
    present = carried !== undefined;
    const uris = [target.base, trackUri, target.uri.text];
    const { message, tolerances } = messageFor(carried?.specs ?? [], uris, emptyUriTolerated(keying.habits));
    const offer = takeOffer(connection, presentation.path, index, sessionId);
    const track = presentation.source.tracks[index];
    const outcome = await keying.accept(offer, message, stream(index, track?.ssrc), peer, sessionId);
    const { streams } = outcome.media;
    if (streams[streams.length === 1 ? 0 : index]?.sender === undefined) {
      outcome.media.close();
      throw new WatchwordError("rtsp.no-sender-key", "the exchange gave no key for what the server sends");
    }
    const specs = outcome.response === undefined ? [] : [{ protocol: "mikey", uri: trackUri, data: outcome.response }];
    return { media: outcome.media, carriage: carryKeyMgmt(specs), tolerances };
  } catch (error) {
    throw keyingRefusal(error, present, trackUri);
  }
}

/** A failure of key management as a response: its status, and the MIKEY ERR where one may be sent (RFC 4567 §4.2). */
function keyingRefusal(error: unknown, present: boolean, uri?: string): RtspRefusal {
  const { status, reply } = keyingFailure(error, present);
  const spec = { protocol: "mikey", ...(uri === undefined ? {} : { uri }) };
  return new RtspRefusal(status, carryKeyMgmt(reply === undefined ? [] : [{ ...spec, data: reply }]).fields, { cause: error });
}

/** What DESCRIBE promised for a stream, once, and for one session only: two sessions never share keys. */
function takeOffer(connection: ServerConnection, path: string, index: number, sessionId: string): DescribedKeys["offers"][number] {
  const { described } = connection;
  if (described === undefined || described.presentation.path !== path) return undefined;
  described.session ??= sessionId;
  if (described.session !== sessionId) return undefined;
  const offer = described.offerForAll ?? described.offers[index];
  described.offerForAll = undefined;
  described.offers[index] = undefined;
  return offer;
}

/** The MIKEY message whose uri means this request: absent, or one of these by path, since proxies and name services change hosts. */
function messageFor(
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

function pathOf(uri: string): string {
  return uri.replace(/^[a-z]+:\/\/[^/]*/i, "").replace(/\/+$/, "");
}

function play(exchange: Exchange): Answer {
  const { core, request } = exchange;
  const session = sessionFor(exchange);
  const range = header(request, "Range");
  try {
    if (range !== undefined) parseRange(range);
  } catch (error) {
    throw new RtspRefusal(457, [], { cause: error });
  }
  const first = session.state === "ready";
  const running = core.running.find(({ presentation }) => presentation.path === session.facts.path);
  const information = session.nextSequences.map(({ uri, sequence }) => ({ url: uri, seq: sequence }));
  return {
    status: 200,
    fields: [
      ["Session", session.facts.id],
      ["Range", formatRange({ unit: "npt", start: "now" })],
      ...(first ? ([["RTP-Info", formatRtpInfo(information)]] as const) : []),
    ],
    after: () => {
      if (!first) return;
      session.play(running?.presentation.rekeyInterval ?? 0);
      core.emit({ type: "playing", session: session.info });
    },
  };
}

function pause(exchange: Exchange): Answer {
  const session = sessionFor(exchange);
  // RFC 2326 appendix A.2: there is nothing to pause before PLAY.
  if (session.state !== "playing") throw new RtspRefusal(455);
  session.pause();
  exchange.core.emit({ type: "paused", session: session.info });
  return { status: 200, fields: [["Session", session.facts.id]] };
}

function getParameter(exchange: Exchange): Answer {
  const session = optionalSession(exchange);
  // RFC 2326 §10.8: without a body it is a sign of life. No parameter is known.
  if (exchange.request.body.length > 0) throw new RtspRefusal(451);
  return session === undefined ? OK : { status: 200, fields: [["Session", session.facts.id]] };
}

async function setParameter(exchange: Exchange): Promise<Answer> {
  const { request } = exchange;
  const session = optionalSession(exchange);
  let carried: CarriedKeyMgmt | undefined;
  try {
    carried = carriedKeyMgmt(request, true);
  } catch (error) {
    throw new RtspRefusal(463, [], { cause: error });
  }
  if (carried === undefined && request.body.length > 0) throw new RtspRefusal(451);
  if (carried === undefined || carried.specs.length === 0) return OK;
  if (session === undefined) throw new RtspRefusal(454);
  try {
    const answers = await session.acceptRekey(carried.specs, locate(exchange).track);
    const { fields, body } = carryKeyMgmt(answers, carried.form);
    return { status: 200, fields: [["Session", session.facts.id], ...fields], ...(body === undefined ? {} : { body }) };
  } catch (error) {
    throw keyingRefusal(error, true);
  }
}

function teardown(exchange: Exchange): Answer {
  const { core, request } = exchange;
  const session = sessionFor(exchange, { anyTrack: true });
  const target = locate(exchange);
  // A stream of several is taken away by its own URI; it carries no proof (docs/protocol.md §7).
  if (target.track !== undefined && session.tracks.length > 1) {
    session.removeTrack(target.track);
    return { status: 200, fields: [["Session", session.facts.id]] };
  }
  // A header that cannot be read is a proof that fails, not one that is absent.
  const { verdict, acknowledgement } = session.acceptDeregistration(soleMessage(request));
  const specs = acknowledgement === undefined ? [] : [{ protocol: "mikey", uri: session.facts.uri, data: acknowledgement }];
  session.end("teardown", verdict);
  core.logger.debug("torn down", { session: session.facts.id, proof: verdict });
  return { status: 200, fields: [["Session", session.facts.id], ...carryKeyMgmt(specs).fields] };
}

function trackName(index: number): string {
  return `track${index + 1}`;
}

function stream(index: number, ssrc: number | undefined): { readonly index: number; readonly ssrc?: number } {
  return ssrc === undefined ? { index } : { index, ssrc };
}

function isPrintable(text: string): boolean {
  return /^[\x20-\x7e]+$/.test(text);
}

async function ready(running: RunningPresentation): Promise<void> {
  try {
    await running.started;
  } catch (error) {
    throw new RtspRefusal(503, [], { cause: error });
  }
}

/** @throws RtspRefusal 400 for what is no URI, 404 for what is not served */
function locate({ core, request }: Exchange): Target {
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

/** @throws RtspRefusal 401 */
function authenticate({ connection, request }: Exchange, target: Target): KeyingPeer {
  const { remote, secure } = connection.stream.channel;
  const from = header(request, "From");
  const peer = { remote, secure, ...(from === undefined ? {} : { from }) };
  const { authenticator } = target.running.presentation;
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

function findSession(core: ServerCore, value: string): ServerSession | undefined {
  try {
    return core.session(parseSession(value).id);
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}

/** The session of the Session header, if it is this client's. @throws RtspRefusal 454 */
function ownSession({ core, connection, request }: Exchange, peer: KeyingPeer): ServerSession {
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
function sessionFor(exchange: Exchange, options: { readonly anyTrack?: boolean } = {}): ServerSession {
  const target = locate(exchange);
  const session = ownSession(exchange, authenticate(exchange, target));
  if (session.facts.path !== target.running.presentation.path) throw new RtspRefusal(454);
  if (target.track !== undefined) {
    if (!session.tracks.some(({ index }) => index === target.track)) throw new RtspRefusal(404);
    if (session.tracks.length > 1 && options.anyTrack !== true) throw new RtspRefusal(460);
  }
  return session;
}

function optionalSession(exchange: Exchange): ServerSession | undefined {
  if (header(exchange.request, "Session") === undefined) return undefined;
  return sessionFor(exchange, { anyTrack: true });
}

/** The first alternative that can be served. @throws RtspRefusal 461; 400 for a header that is none */
function chooseTransport({ core, connection, request }: Exchange, profile: string): TransportSpec {
  const value = headers(request, "Transport").join(",");
  let specs: readonly TransportSpec[];
  try {
    specs = parseTransport(value);
  } catch (error) {
    throw new RtspRefusal(value === "" ? 400 : 461, [], { cause: error });
  }
  const { host } = connection.stream.channel.remote;
  const chosen = specs.find((spec) => {
    if (spec.profile !== profile || spec.delivery !== "unicast") return false;
    if (spec.mode !== undefined && !/(^|,)\s*PLAY\s*(,|$)/.test(spec.mode)) return false;
    // RFC 2326 §12.39: media goes nowhere but to who asks for it.
    if (spec.destination !== undefined && spec.destination !== host) return false;
    if (spec.lower === "TCP") return connection.channels.choose(spec.interleaved) !== undefined;
    const [rtp, rtcp] = spec.clientPort ?? [0, 0];
    return core.ports !== undefined && rtp > 0 && rtcp > 0 && rtp !== rtcp;
  });
  if (chosen === undefined) throw new RtspRefusal(461);
  return chosen;
}

async function openCarrier(
  { core, connection }: Exchange,
  spec: TransportSpec,
): Promise<{ readonly carrier: MediaCarrier; readonly answer: TransportSpec }> {
  const { profile, lower } = spec;
  if (lower === "TCP") {
    const channels = connection.channels.choose(spec.interleaved);
    if (channels === undefined) throw new RtspRefusal(461);
    return { carrier: connection.channels.open(channels), answer: { profile, lower, delivery: "unicast", interleaved: channels } };
  }
  const { local, remote } = connection.stream.channel;
  if (core.ports === undefined || spec.clientPort === undefined) throw new RtspRefusal(461);
  try {
    const { carrier, ports } = await core.ports.open(local.host, { host: remote.host, ports: spec.clientPort });
    return { carrier, answer: { profile, lower, delivery: "unicast", clientPort: spec.clientPort, serverPort: ports } };
  } catch (error) {
    throw new RtspRefusal(503, [], { cause: error });
  }
}
