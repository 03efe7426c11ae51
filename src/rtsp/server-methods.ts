import { CodecError, utf8, utf8Text, WatchwordError } from "../bytes/index.js";
import type { KeyedMedia, MediaOffer } from "../gsa/index.js";
import {
  type Connection,
  formatDescription,
  formatKeyMgmtAttribute,
  formatPotentialConfiguration,
  formatTransportCapability,
  type SdpToleranceName,
} from "../sdp/index.js";
import { formatRange, formatRtpInfo, formatSession, parseRange, parseTokenList } from "./headers.js";
import { type CarriedKeyMgmt, carriedKeyMgmt, carryKeyMgmt, type KeyMgmtCarriage, soleMessage } from "./key-mgmt-carriage.js";
import { emptyUriTolerated, type KeyingPeer, type KeyingStream, keyingFailure } from "./keying.js";
import { BACKCHANNEL, type MediaTrack } from "./media.js";
import { header, headers, RTSP_VERSION_2, type RtspHeaders, type RtspRequest } from "./message.js";
import { RtspRefusal } from "./refusal.js";
import type { Presentation, RunningPresentation, ServerCore } from "./server.js";
import type { DescribedKeys, ServerConnection } from "./server-connection.js";
import {
  type Answer,
  authenticate,
  checkAccept,
  type Exchange,
  findSession,
  keyingRefusal,
  locate,
  messageFor,
  noRoom,
  optionalSession,
  ownSession,
  sessionFor,
  type Target,
} from "./server-exchange.js";
import { announce, record, setupPublisher } from "./server-publishing.js";
import type { ServerSession } from "./server-session.js";
import { chooseTransport, joinGroup, openCarrier } from "./server-transport.js";
import { formatTransport } from "./transport.js";

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
  const group = core.groups?.find(request);
  if (core.groups !== undefined && group !== undefined) return core.groups.handle({ core, connection, request }, group);
  const method = METHODS[request.method];
  if (method === undefined || !Object.hasOwn(METHODS, request.method)) {
    throw new RtspRefusal(NOT_EVERYWHERE.includes(request.method) ? 405 : 501, [["Allow", methodsOf(core)]]);
  }
  try {
    return await method({ core, connection, request });
  } catch (error) {
    // RFC 2326 §11.3.6: who asks for what is not allowed here is told what is.
    const notAllowed = error instanceof RtspRefusal && error.status === 405;
    throw notAllowed ? new RtspRefusal(405, [...error.fields, ["Allow", methodsOf(core)]], { cause: error.cause }) : error;
  }
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
  checkAccept(request);
  const { presentation } = target.running;
  const { source, keying, profile } = presentation;
  await ready(target.running);

  connection.dropDescribed();
  const asked = presentation.backchannel !== undefined && requiredOptions(request).includes(BACKCHANNEL);
  const tracks = asked ? streamsOf(presentation) : source.tracks;
  // In RTSP 2.0 the client begins, in SETUP (RFC 7826 appendix C.1.4.1).
  const { described, attributes, shared } =
    request.version === RTSP_VERSION_2 ? NO_KEYS : await describeKeys(target.running, peer, tracks.length, core.now());
  if (keying !== undefined) connection.described = described;
  // The client may have left while its keys were made.
  if (connection.closed) connection.dropDescribed();

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

/** The keys of a description that has none. */
const NO_KEYS = { described: undefined, attributes: [], shared: [] };

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
    if (error instanceof RtspRefusal) throw error;
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

function play(exchange: Exchange): Answer {
  const { core, request } = exchange;
  const session = sessionFor(exchange);
  if (session.facts.publish !== undefined) throw new RtspRefusal(455);
  const range = header(request, "Range");
  try {
    const start = range === undefined ? "now" : parseRange(range).start;
    // RFC 7826 §13.4.6: of live media only what is now can be asked for.
    if (request.version === RTSP_VERSION_2 && start !== "now") throw new CodecError("rtsp.range", "rtsp.Range", -1, "only now");
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
