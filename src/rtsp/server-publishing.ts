import { WatchwordError } from "../bytes/index.js";
import type { KeyedMedia } from "../gsa/index.js";
import { MikeyError } from "../mikey/index.js";
import { formatSession } from "./headers.js";
import { carriedKeyMgmt, carryKeyMgmt } from "./key-mgmt-carriage.js";
import { emptyUriTolerated, type KeyingPeer, type ServerKeying } from "./keying.js";
import { header } from "./message.js";
import { type AnnouncedTrack, type Announcement, readAnnouncement } from "./publishing.js";
import { RtspRefusal } from "./refusal.js";
import {
  type Answer,
  authenticate,
  authenticateFor,
  type Exchange,
  keyingRefusal,
  locate,
  messageFor,
  noRoom,
  ownSession,
  pathOf,
  sessionFor,
} from "./server-exchange.js";
import { chooseTransport, openCarrier } from "./server-transport.js";
import { formatTransport } from "./transport.js";

/** What is answered to descriptions that can be read and are not acceptable. */
const REFUSALS: Readonly<Record<string, number>> = { "rtsp.plain-refused": 403, "rtsp.key-mgmt": 463 };

/** RFC 2326 §10.3: a client describes what it will send. RFC 4567 leaves the keys of it open; the form is GStreamer's. */
export async function announce(exchange: Exchange): Promise<Answer> {
  const { core, connection, request } = exchange;
  const target = locate(exchange);
  const { path, publish, keying: presentationKeying } = target.running.presentation;
  if (publish === undefined || target.track !== undefined) throw new RtspRefusal(405);
  const peer = authenticate(exchange, target, publish.authenticator);
  if (!/^application\/sdp\s*(;|$)/i.test(header(request, "Content-Type") ?? "")) throw new RtspRefusal(415);
  if (target.running.publisher !== undefined) throw occupied();
  connection.dropAnnounced();
  let tracks: readonly AnnouncedTrack[];
  const keying = publish.keying ?? presentationKeying;
  try {
    tracks = readAnnouncement(request.body, target.base, keying !== undefined, () => core.newSsrc());
  } catch (error) {
    throw new RtspRefusal((error instanceof WatchwordError ? REFUSALS[error.code] : undefined) ?? 400, [], { cause: error });
  }
  const announced: Announcement = { path, peer, tracks, offers: [] };
  try {
    for (const [index, { reportSsrc }] of tracks.entries()) {
      announced.offers.push(await keying?.offer({ index, ssrc: reportSsrc }, peer));
    }
  } catch (error) {
    for (const offer of announced.offers) offer?.abandon();
    throw error instanceof RtspRefusal ? error : new RtspRefusal(403, [], { cause: error });
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

/** Somebody else publishes there. */
function occupied(): RtspRefusal {
  return new RtspRefusal(403, [], { cause: new WatchwordError("rtsp.published", "somebody publishes there already") });
}

/** SETUP of a stream that the client announced: its message keys what it sends. */
export async function setupPublisher(exchange: Exchange, announced: Announcement): Promise<Answer> {
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
    if (existing === undefined && noRoom(exchange)) throw new RtspRefusal(453);
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
export function record(exchange: Exchange): Answer {
  if (locate(exchange).running.presentation.publish === undefined) throw new RtspRefusal(405);
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
