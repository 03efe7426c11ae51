import { CodecError, utf8, utf8Text, WatchwordError } from "../bytes/index.js";
import type { KeyedMedia, MediaOffer } from "../gsa/index.js";
import { MikeyError } from "../mikey/index.js";
import {
  type Connection,
  formatDescription,
  formatKeyMgmtAttribute,
  formatPotentialConfiguration,
  formatTransportCapability,
  type KeyMgmtSpec,
  type SdpToleranceName,
} from "../sdp/index.js";
import type { Authenticator } from "./authentication.js";
import type { MediaCarrier } from "./carrier.js";
import { formatRange, formatRtpInfo, formatSession, parseRange, parseSession, parseTokenList } from "./headers.js";
import { type CarriedKeyMgmt, carriedKeyMgmt, carryKeyMgmt, type KeyMgmtCarriage, soleMessage } from "./key-mgmt-carriage.js";
import { emptyUriTolerated, type KeyingPeer, type KeyingStream, keyingFailure, type ServerKeying } from "./keying.js";
import { BACKCHANNEL, type MediaTrack } from "./media.js";
import { header, headers, type RtspHeaders, type RtspRequest } from "./message.js";
import { type AnnouncedTrack, type Announcement, readAnnouncement } from "./publishing.js";
import { RtspRefusal } from "./refusal.js";
import type { Presentation, RunningPresentation, ServerCore } from "./server.js";
import type { DescribedKeys, ServerConnection } from "./server-connection.js";
import type { MulticastGroup } from "./server-group.js";
import type { ServerSession } from "./server-session.js";
import { formatTransport, parseTransport, type TransportSpec } from "./transport.js";
import { parseRtspUri, type RtspUri } from "./uri.js";

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
  ANNOUNCE: announce,
  RECORD: record,
};
/** Methods of RFC 2326 §10 that exist and are not for every resource. */
const NOT_EVERYWHERE = ["ANNOUNCE", "RECORD", "REDIRECT"];

const OK: Answer = { status: 200, fields: [] };

/** Answers one request. @throws RtspRefusal for every other status */
export async function handleRequest(core: ServerCore, connection: ServerConnection, request: RtspRequest): Promise<Answer> {
  // RFC 2326 §12.32, §12.27: what is required and not there is unsupported.
  const missing = requiredOptions(request).filter((option) => option !== BACKCHANNEL || !hasBackchannel(core, request));
  if (missing.length > 0) throw new RtspRefusal(551, [["Unsupported", missing.filter(isPrintable).join(", ")]]);
  const method = METHODS[request.method];
  if (method === undefined || !Object.hasOwn(METHODS, request.method)) {
    throw new RtspRefusal(NOT_EVERYWHERE.includes(request.method) ? 405 : 501, [["Allow", methodsOf(core)]]);
  }
  return method({ core, connection, request });
}

function requiredOptions(request: RtspRequest): string[] {
  return [...headers(request, "Require"), ...headers(request, "Proxy-Require")].flatMap(parseTokenList);
}

function hasBackchannel(core: ServerCore, request: RtspRequest): boolean {
  try {
    return locate({ core, request }).running.presentation.backchannel !== undefined;
  } catch (error) {
    if (error instanceof RtspRefusal) return false;
    throw error;
  }
}

/** The streams of a presentation, its backchannel behind what it plays. */
function streamsOf({ source, backchannel }: Presentation): readonly MediaTrack[] {
  return [...source.tracks, ...(backchannel?.tracks ?? [])];
}

/** What is offered at all: publishing only where a path takes it. */
function methodsOf({ running }: ServerCore): string {
  const publishing = running.some(({ presentation }) => presentation.publish !== undefined);
  return Object.keys(METHODS)
    .filter((name) => publishing || !NOT_EVERYWHERE.includes(name))
    .join(", ");
}

function options({ core, request }: Exchange): Answer {
  // Unauthenticated, as everywhere: it says nothing of the resource, but keeps an existing session alive.
  const id = header(request, "Session");
  if (id !== undefined) findSession(core, id)?.touch();
  return { status: 200, fields: [["Public", methodsOf(core)]] };
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
  const asked = presentation.backchannel !== undefined && requiredOptions(request).includes(BACKCHANNEL);
  const tracks = asked ? streamsOf(presentation) : source.tracks;
  const { described, attributes, shared } = await describeKeys(target.running, peer, tracks.length, core.now());
  if (keying !== undefined) connection.described = described;

  const announced = (presentation.announce ?? keying !== undefined) ? ["x-watchword:1"] : [];
  const body = formatDescription({
    sessionId: String(core.options.clock.now()),
    sessionVersion: 1,
    address: connection.stream.channel.local.host,
    name: presentation.name ?? presentation.path.slice(1),
    attributes: [...announced, ...shared],
    media: tracks.map((track, index) => ({
      kind: track.media,
      profile: presentation.capabilities === true && keying !== undefined ? profile.replace("SAVP", "AVP") : profile,
      payloadType: track.payloadType,
      rtpmap: track.rtpmap,
      control: trackName(index),
      attributes: attributes[index] ?? [],
      // As the client sees it.
      ...(asked ? { direction: index < source.tracks.length ? "recvonly" : "sendonly" } : {}),
      ...groupAddress(target.running, index),
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
  running: RunningPresentation,
  peer: KeyingPeer,
  count: number,
  at: number,
): Promise<{ readonly described: DescribedKeys; readonly attributes: readonly string[][]; readonly shared: readonly string[] }> {
  const { presentation, group } = running;
  const { keying, profile, capabilities } = presentation;
  const described: DescribedKeys = { presentation, peer, offers: [], offerForAll: undefined, session: undefined, at };
  const attributes: string[][] = [];
  let first = 1;
  const lines = (offer: MediaOffer | undefined): string[] => {
    const messages = offer === undefined ? [] : [offer.octets, ...(offer.further ?? [])];
    if (capabilities !== true) return messages.map((message) => `key-mgmt:${formatKeyMgmtAttribute("mikey", message)}`);
    first += messages.length;
    return messages.length === 0 ? [] : formatPotentialConfiguration(messages, first - messages.length);
  };
  try {
    // Streams that are shared have a sender, and so an exchange, each.
    if (keying?.offerAll !== undefined && capabilities !== true && group === undefined) {
      described.offerForAll = await keying.offerAll(
        Array.from({ length: count }, (_, index) => stream(running, index)),
        peer,
      );
      return { described, attributes, shared: lines(described.offerForAll) };
    }
    for (let index = 0; index < count; index++) {
      const offer = await keying?.offer(stream(running, index), peer);
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
  if (connection.announced !== undefined && /;\s*mode="?[^;,]*RECORD/i.test(headers(request, "Transport").join(","))) {
    return setupPublisher(exchange, connection.announced);
  }
  const target = locate(exchange);
  const peer = authenticate(exchange, target);
  const { presentation } = target.running;
  const tracks = streamsOf(presentation);
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
  if (existing === undefined && noRoom(exchange)) throw new RtspRefusal(453);

  const { group } = target.running;
  const transport = chooseTransport(exchange, presentation);
  const { carrier, answer } =
    group === undefined ? await openCarrier(exchange, transport) : await joinGroup(exchange, group, index, transport);
  const id = existing?.facts.id ?? core.newSessionId();
  const trackUri = `${target.base}/${trackName(index)}`;
  let keyed: KeyedTrack | undefined;
  try {
    if (presentation.keying !== undefined) keyed = await keyTrack(exchange, target, index, id, peer, trackUri, existing);
    // The session may have ended, or the client may have left, while keys were made.
    if (connection.closed || existing?.state === "ended") throw new RtspRefusal(454);
    if (existing?.tracks.some((candidate) => candidate.index === index)) throw new RtspRefusal(455);
    if (existing === undefined && noRoom(exchange)) throw new RtspRefusal(453);
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
  session.addTrack({
    index,
    track,
    carrier,
    uri: trackUri,
    media: keyed?.media,
    tolerances: keyed?.tolerances ?? [],
    ...receiverOf(presentation, index),
    ...(group === undefined ? {} : { group: group.stream(index) }),
  });
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
    // A group may have got a new key after the description.
    ...(group === undefined ? {} : { after: () => void group.tell(session) }),
  };
}

/** Where the packets of a backchannel stream go. */
function receiverOf({ source, backchannel }: Presentation, index: number): { receive?: (packet: Uint8Array) => void } {
  const track = index - source.tracks.length;
  return backchannel === undefined || track < 0 ? {} : { receive: (packet) => backchannel.receive(track, packet) };
}

function noRoom({ core, connection }: Exchange): boolean {
  return core.full || connection.sessions.size >= core.limits.maxSessionsPerConnection;
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
    const outcome = await keying.accept(offer, message, stream(target.running, index), peer, sessionId);
    const { streams } = outcome.media;
    const keyed = streams[streams.length === 1 ? 0 : index];
    if (index >= presentation.source.tracks.length ? keyed?.receiver === undefined : keyed?.sender === undefined) {
      outcome.media.close();
      throw index >= presentation.source.tracks.length
        ? new WatchwordError("rtsp.no-receiver-key", "the exchange gave no key for what the client sends")
        : new WatchwordError("rtsp.no-sender-key", "the exchange gave no key for what the server sends");
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
  if (session.facts.publish !== undefined) throw new RtspRefusal(455);
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
      session.play(running?.group === undefined ? (running?.presentation.rekeyInterval ?? 0) : 0);
      core.emit({ type: "playing", session: session.info });
    },
  };
}

/** RFC 2326 §10.3: a client describes what it will send. RFC 4567 leaves the keys of it open; the form is GStreamer's. */
async function announce(exchange: Exchange): Promise<Answer> {
  const { core, connection, request } = exchange;
  const target = locate(exchange);
  const { path, publish, keying: presentationKeying } = target.running.presentation;
  if (publish === undefined || target.track !== undefined) throw notHere(core);
  const peer = authenticate(exchange, target, publish.authenticator);
  if (!/^application\/sdp\s*(;|$)/i.test(header(request, "Content-Type") ?? "")) throw new RtspRefusal(415);
  if (target.running.publisher !== undefined) throw occupied();
  connection.dropAnnounced();
  let tracks: readonly AnnouncedTrack[];
  const keying = publish.keying ?? presentationKeying;
  try {
    tracks = readAnnouncement(request.body, target.base, keying !== undefined, () => core.newSsrc());
  } catch (error) {
    const plain = error instanceof WatchwordError && error.code === "rtsp.plain-refused";
    throw new RtspRefusal(plain ? 403 : 400, [], { cause: error });
  }
  const announced: Announcement = { path, peer, tracks, offers: [] };
  try {
    for (const [index, { reportSsrc }] of tracks.entries()) {
      announced.offers.push(await keying?.offer({ index, ssrc: reportSsrc }, peer));
    }
  } catch (error) {
    for (const offer of announced.offers) offer?.abandon();
    throw new RtspRefusal(403, [], { cause: error });
  }
  if (connection.closed) for (const offer of announced.offers) offer?.abandon();
  else connection.announced = announced;
  const specs = tracks.flatMap(({ uri }, index) => {
    const data = announced.offers[index]?.octets;
    return data === undefined ? [] : [{ protocol: "mikey", uri, data }];
  });
  const { fields, body } = carryKeyMgmt(specs);
  return { status: 200, fields, ...(body === undefined ? {} : { body }) };
}

function notHere(core: ServerCore): RtspRefusal {
  return new RtspRefusal(405, [["Allow", methodsOf(core)]]);
}

/** Somebody else publishes there. */
function occupied(): RtspRefusal {
  return new RtspRefusal(403, [], { cause: new WatchwordError("rtsp.published", "somebody publishes there already") });
}

/** SETUP of a stream that the client announced: its message keys what it sends. */
async function setupPublisher(exchange: Exchange, announced: Announcement): Promise<Answer> {
  const { core, connection, request } = exchange;
  const running = core.running.find(({ presentation }) => presentation.path === announced.path);
  const publish = running?.presentation.publish;
  if (running === undefined || publish === undefined) throw new RtspRefusal(500);
  const peer = authenticateFor(exchange, publish.authenticator ?? running.presentation.authenticator);
  if (peer.user !== announced.peer.user) throw new RtspRefusal(403);
  const index = announced.tracks.findIndex(({ uri }) => pathOf(uri) === pathOf(request.uri));
  const stream = announced.tracks[index];
  if (stream === undefined) throw new RtspRefusal(404);
  const existing = header(request, "Session") === undefined ? undefined : ownSession(exchange, peer);
  if (running.publisher !== existing) throw existing === undefined ? occupied() : new RtspRefusal(459);
  if (existing?.tracks.some((candidate) => candidate.index === index)) throw new RtspRefusal(455);
  if (existing === undefined && noRoom(exchange)) throw new RtspRefusal(453);
  const transport = chooseTransport(exchange, { profile: stream.profile }, /(^|,)\s*RECORD\s*(,|$)/);
  const { carrier, answer } = await openCarrier(exchange, transport);
  const id = existing?.facts.id ?? core.newSessionId();
  let media: KeyedMedia | undefined;
  try {
    const keying = publish.keying ?? running.presentation.keying;
    if (keying !== undefined) media = await keyPublisher(exchange, announced, index, keying, peer, id);
    if (connection.closed || existing?.state === "ended") throw new RtspRefusal(454);
    if (running.publisher !== existing) throw occupied();
  } catch (error) {
    carrier.close();
    media?.close();
    throw error;
  }
  const session =
    existing ??
    core.createSession(connection, running, {
      id,
      path: announced.path,
      uri: stream.uri.slice(0, Math.max(0, stream.uri.lastIndexOf("/"))),
      user: peer.user,
      remote: peer.remote,
      timeout: core.sessionTimeout * 1000,
      publish: { into: publish.into, announced: announced.tracks },
    });
  session.addTrack({ index, track: stream.track, carrier, uri: stream.uri, media });
  session.touch();
  core.emit({ type: "setup", session: session.info });
  return {
    status: 200,
    fields: [
      ["Transport", formatTransport([{ ...answer, mode: "RECORD" }])],
      ["Session", formatSession({ id, timeout: core.sessionTimeout })],
    ],
  };
}

/** @throws RtspRefusal 403, 463 */
async function keyPublisher(
  { request }: Exchange,
  announced: Announcement,
  index: number,
  keying: ServerKeying,
  peer: KeyingPeer,
  sessionId: string,
): Promise<KeyedMedia> {
  const { reportSsrc, uri, message: described } = announced.tracks[index] as AnnouncedTrack;
  const offer = announced.offers[index];
  announced.offers[index] = undefined;
  let present = true;
  try {
    const carried = carriedKeyMgmt(request);
    present = carried !== undefined;
    const brought = messageFor(carried?.specs ?? [], [uri, request.uri], emptyUriTolerated(keying.habits));
    const message = brought.message ?? described;
    if (message === undefined) throw new MikeyError("mikey.absent", "the publisher gave no key for what it sends");
    const { media } = await keying.accept(offer, message, { index, ssrc: reportSsrc }, peer, sessionId);
    if (media.streams[0]?.receiver !== undefined) return media;
    media.close();
    throw new WatchwordError("rtsp.no-receiver-key", "the exchange gave no key for what the client sends");
  } catch (error) {
    throw keyingRefusal(error, present, uri);
  }
}

/** RFC 2326 §10.11: from now on what the client sends is for who plays the path. */
function record(exchange: Exchange): Answer {
  if (locate(exchange).running.presentation.publish === undefined) throw notHere(exchange.core);
  const session = sessionFor(exchange);
  if (session.facts.publish === undefined) throw new RtspRefusal(455);
  return {
    status: 200,
    fields: [["Session", session.facts.id]],
    after: () => {
      if (session.state !== "ready") return;
      session.record();
      exchange.core.emit({ type: "recording", session: session.info });
    },
  };
}

function pause(exchange: Exchange): Answer {
  const session = sessionFor(exchange);
  // RFC 2326 appendix A.2: there is nothing to pause before PLAY.
  if (session.state !== "playing" && session.state !== "recording") throw new RtspRefusal(455);
  session.pause();
  exchange.core.emit({ type: "paused", session: session.info });
  return { status: 200, fields: [["Session", session.facts.id]] };
}

async function getParameter(exchange: Exchange): Promise<Answer> {
  const session = optionalSession(exchange);
  const common: RtspHeaders = session === undefined ? [] : [["Session", session.facts.id]];
  const { body } = exchange.request;
  // RFC 2326 §10.8: without a body it is a sign of life.
  if (body.length === 0) return { status: 200, fields: common };
  const names = (utf8Text(body) ?? "").split(/[\r\n]+/).map((line) => line.trim().toLowerCase());
  const [name, ...others] = names.filter((line) => line !== "");
  if (name !== "mikey" || others.length > 0) throw new RtspRefusal(451);
  const data = await currentKeys(exchange, session);
  const { fields, body: answer } = carryKeyMgmt([{ protocol: "mikey", data }], "mikey");
  return {
    status: 200,
    fields: [...common, ...fields, ["Cache-Control", "no-cache"]],
    ...(answer === undefined ? {} : { body: answer }),
  };
}

/**
 * The key message of now of a multicast stream (ONVIF Streaming Specification, multicast), made for this client and this
 * moment: its rollover counter is only right now. It is for members: who is keyed has set up a stream.
 * @throws RtspRefusal 451 for what is not multicast, 454 without a session, 459 where it is not clear which stream is meant
 */
async function currentKeys(exchange: Exchange, session: ServerSession | undefined): Promise<Uint8Array> {
  const target = locate(exchange);
  const { running } = target;
  const { keying, source } = running.presentation;
  if (running.group === undefined || keying === undefined) throw new RtspRefusal(451);
  if (session === undefined) throw new RtspRefusal(454);
  const index = target.track ?? (source.tracks.length === 1 ? 0 : undefined);
  if (index === undefined) throw new RtspRefusal(459);
  if (!session.tracks.some((track) => track.index === index)) throw new RtspRefusal(404);
  try {
    const offer = await keying.offer({ ...stream(running, index), unanswered: true }, authenticate(exchange, target));
    if (offer === undefined) throw new WatchwordError("rtsp.shared-key", "the keying of the path has no message to give");
    offer.abandon();
    return offer.octets;
  } catch (error) {
    throw new RtspRefusal(keyingFailure(error, true).status, [], { cause: error });
  }
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

/** A stream as keying sees it. */
function stream({ presentation, group }: RunningPresentation, index: number): KeyingStream {
  const ssrc = streamsOf(presentation)[index]?.ssrc;
  const shared = group?.stream(index).shared;
  return { index, ...(ssrc === undefined ? {} : { ssrc }), ...(shared === undefined ? {} : { shared }) };
}

/** Port and group of a stream that is multicast, for its m= and c= lines (RFC 4566 §5.7). */
function groupAddress({ group }: RunningPresentation, index: number): { port?: number; connection?: Connection } {
  if (group === undefined) return {};
  const { group: address, ports, ttl } = group.addressOf(index);
  const connection: Connection = address.includes(":") ? { family: 6, address } : { family: 4, address, ttl };
  return { port: ports[0], connection };
}

function isPrintable(text: string): boolean {
  return /^[\x20-\x7e]+$/.test(text);
}

async function ready(running: RunningPresentation): Promise<void> {
  // Nobody publishes: there is nothing yet.
  if (running.presentation.publish?.into.published === false) throw new RtspRefusal(404);
  try {
    await running.started;
  } catch (error) {
    throw new RtspRefusal(503, [], { cause: error });
  }
}

/** @throws RtspRefusal 400 for what is no URI, 404 for what is not served */
function locate({ core, request }: Pick<Exchange, "core" | "request">): Target {
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
function authenticate(exchange: Exchange, { running }: Target, own?: Authenticator): KeyingPeer {
  return authenticateFor(exchange, own ?? authenticatorOf(exchange, running));
}

/** Who publishes proves another thing than who plays. */
function authenticatorOf({ core, request }: Exchange, { presentation }: RunningPresentation): Authenticator | undefined {
  const value = header(request, "Session");
  const publishes = value !== undefined && findSession(core, value)?.facts.publish !== undefined;
  return (publishes ? presentation.publish?.authenticator : undefined) ?? presentation.authenticator;
}

/** @throws RtspRefusal 401 */
function authenticateFor({ connection, request }: Exchange, authenticator: Authenticator | undefined): KeyingPeer {
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
function chooseTransport(
  { core, connection, request }: Exchange,
  { profile, multicast }: Pick<Presentation, "multicast"> & { readonly profile: string },
  mode = /(^|,)\s*PLAY\s*(,|$)/,
): TransportSpec {
  const value = headers(request, "Transport").join(",");
  let specs: readonly TransportSpec[];
  try {
    specs = parseTransport(value);
  } catch (error) {
    throw new RtspRefusal(value === "" ? 400 : 461, [], { cause: error });
  }
  const { host } = connection.stream.channel.remote;
  const chosen = specs.find((spec) => {
    if (spec.profile !== profile || spec.delivery !== (multicast === undefined ? "unicast" : "multicast")) return false;
    if (spec.mode !== undefined && !mode.test(spec.mode)) return false;
    if (multicast !== undefined) return spec.lower === "UDP" && (spec.destination ?? multicast.group) === multicast.group;
    // RFC 2326 §12.39: media goes nowhere but to who asks for it.
    if (spec.destination !== undefined && spec.destination !== host) return false;
    if (spec.lower === "TCP") return connection.channels.choose(spec.interleaved) !== undefined;
    const [rtp, rtcp] = spec.clientPort ?? [0, 0];
    return core.ports !== undefined && rtp > 0 && rtcp > 0 && rtp !== rtcp;
  });
  if (chosen === undefined) throw new RtspRefusal(461);
  return chosen;
}

/** RFC 2326 §12.39: of a group the server says address, ports and TTL, whatever the client would have liked. */
async function joinGroup(
  { connection }: Exchange,
  group: MulticastGroup,
  index: number,
  { profile, lower }: TransportSpec,
): Promise<{ readonly carrier: MediaCarrier; readonly answer: TransportSpec }> {
  const { local, remote } = connection.stream.channel;
  try {
    const { carrier, address } = await group.join(index, remote.host);
    const { ports: port, ttl, source = local.host } = address;
    return { carrier, answer: { profile, lower, delivery: "multicast", destination: address.group, source, ttl, port } };
  } catch (error) {
    throw new RtspRefusal(503, [], { cause: error });
  }
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
