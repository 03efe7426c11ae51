import { WatchwordError } from "../bytes/index.js";
import { type KeyedMedia, reportOfRefusal } from "../gsa/index.js";
import { type DatagramsFactory, isMulticast, isSourceSpecific, type Stream } from "../io/index.js";
import type { ErrorReport } from "../mikey/index.js";
import {
  type Connection,
  formatProtocolList,
  type KeyMgmtAttribute,
  type KeyMgmtSpec,
  type PotentialConfiguration,
  type SdpToleranceName,
} from "../sdp/index.js";
import { createDatagramCarrier, type FrameChannels, type MediaCarrier } from "./carrier.js";
import { carriedKeyMgmt } from "./key-mgmt-carriage.js";
import { type ClientKeying, type ClientKeyingRequest, findSpec, type KeyingStream, keyMgmtUri } from "./keying.js";
import { header, type RtspResponse } from "./message.js";
import { type NumberPair, parseTransport, type TransportSpec } from "./transport.js";

/** What is known of a stream when its keys are prepared. */
export interface StreamKeysContext {
  readonly keying: ClientKeying | undefined;
  /** The key management that applies to the m= line. */
  readonly lines: readonly KeyMgmtAttribute[];
  readonly profile: string;
  /** The m= line, and all of the description with our SSRCs. */
  readonly index: number;
  readonly streams: readonly KeyingStream[];
  /** Control URIs of the stream and of the whole. */
  readonly uri: string;
  readonly aggregateUri: string;
  readonly channel: Stream["channel"];
  readonly announced: boolean;
  /** Keys that an earlier SETUP established at session level. */
  readonly aggregateMedia: KeyedMedia | undefined;
  /** The stream is multicast: its key is not for us alone. */
  readonly shared: boolean;
}

/** How an m= line is secured: its own profile and key management, or those of its potential configuration (RFC 5939). */
export interface LineSecurity {
  readonly profile: string;
  readonly lines: readonly KeyMgmtAttribute[];
  readonly tolerances: readonly SdpToleranceName[];
}

/** Capabilities count where nothing else secures the line, and where this keying puts up with them. */
export function lineSecurity(
  keying: ClientKeying | undefined,
  profile: string,
  lines: readonly KeyMgmtAttribute[],
  potential: PotentialConfiguration | undefined,
): LineSecurity {
  const tolerated = keying?.habits?.sdpTolerances?.includes("capability-without-negotiation") === true;
  if (potential === undefined || lines.length > 0 || !tolerated) return { profile, lines, tolerances: [] };
  return { profile: potential.profile, lines: potential.keyMgmt, tolerances: ["capability-without-negotiation"] };
}

/** Keys of a stream, half way. */
export interface PreparedKeys {
  /** The keys serve all streams. */
  readonly aggregate: boolean;
  /** What SETUP has to carry. */
  readonly spec: KeyMgmtSpec | undefined;
  /** Takes what the response of SETUP brought. @throws MikeyError, WatchwordError, CodecError */
  complete(response: RtspResponse): Promise<KeyedMedia>;
  /** What the server's refusal says of the message, verified where it can be. Undefined where it says nothing. */
  refusal(response: RtspResponse): Promise<ErrorReport | undefined>;
  /** Wipes what was prepared or completed. */
  abandon(): void;
}

const MIKEY = "mikey";

/**
 * Answers the description's key message for a stream, or begins an exchange (RFC 4567 §4.2).
 * @returns undefined for plain RTP
 * @throws WatchwordError `rtsp.plain-refused`, `rtsp.keying-required`, `rtsp.key-mgmt`; MikeyError
 */
export async function prepareKeys(context: StreamKeysContext): Promise<PreparedKeys | undefined> {
  const { keying, lines, profile, index, streams } = context;
  if (!/^RTP\/SAVPF?$/.test(profile)) {
    // Key management without SRTP would have ciphertext taken for media, and plain media taken for protected.
    if (lines.length > 0 || keying !== undefined) {
      throw new WatchwordError("rtsp.plain-refused", `stream ${index} is ${profile}: it would not be protected`);
    }
    return undefined;
  }
  if (keying === undefined) throw new WatchwordError("rtsp.keying-required", `stream ${index} is ${profile} and needs keys`);
  const line = chosenLine(keying, lines);
  const perStream = line?.data !== undefined && keying.answeredPerStream?.(line.data) === true;
  const aggregate = line?.section === "session" && !perStream;
  // RFC 4567 §4.2: keys at session level are established by the first SETUP.
  const { aggregateMedia } = context;
  if (aggregate && aggregateMedia !== undefined) {
    return { aggregate, spec: undefined, complete: () => Promise.resolve(aggregateMedia), refusal: nothing, abandon: () => {} };
  }
  const { remote, secure } = context.channel;
  const request: ClientKeyingRequest = {
    streams: aggregate ? streams : streams.filter((stream) => stream.index === index),
    peer: { remote, secure },
    announced: context.announced,
    shared: context.shared,
    protocols: lines.length === 0 ? [MIKEY] : formatProtocolList(lines).split(";"),
    ...(line?.section === "session" ? { line: { index, count: streams.length } } : {}),
  };
  if (line === undefined) return initiate(keying, request, context.uri);
  if (line.data === undefined) {
    throw new WatchwordError("rtsp.key-mgmt", "the description's key message is malformed", { cause: line.problem });
  }
  const { media, response } = await keying.answer(line.data, request);
  const uri = keyMgmtUri(keying.habits, aggregate ? context.aggregateUri : context.uri);
  return {
    aggregate,
    spec: response === undefined ? undefined : { protocol: MIKEY, uri, data: response },
    complete: () => Promise.resolve(media),
    refusal: nothing,
    abandon: () => media.close(),
  };
}

/**
 * The message that is answered, of several the one that this keying prefers. A line that cannot be read is a failure, not absent.
 * @throws WatchwordError `rtsp.key-mgmt`
 */
function chosenLine(keying: ClientKeying, lines: readonly KeyMgmtAttribute[]): KeyMgmtAttribute | undefined {
  const known = lines.filter(({ protocol }) => protocol === MIKEY);
  if (known.length === 0 && lines.length > 0) throw new WatchwordError("rtsp.key-mgmt", "no key management protocol that is known");
  const messages = known.flatMap(({ data }) => data ?? []);
  if (messages.length < 2 || messages.length < known.length) return known.find(({ data }) => data === undefined) ?? known[0];
  return known[keying.choose?.(messages) ?? 0];
}

const nothing = (): Promise<undefined> => Promise.resolve(undefined);

async function initiate(keying: ClientKeying, request: ClientKeyingRequest, uri: string): Promise<PreparedKeys> {
  if (keying.initiate === undefined) throw new WatchwordError("rtsp.key-mgmt", "the description has no key message");
  const offer = await keying.initiate(request);
  const answerIn = (response: RtspResponse) => findSpec(carriedKeyMgmt(response)?.specs ?? [], uri, 1)?.data;
  let media: KeyedMedia | undefined;
  return {
    aggregate: false,
    spec: { protocol: MIKEY, uri: keyMgmtUri(keying.habits, uri), data: offer.octets },
    complete: async (response) => {
      media = await offer.accept(answerIn(response));
      return media;
    },
    refusal: async (response) => {
      try {
        const octets = answerIn(response);
        return octets === undefined ? undefined : await reportOfRefusal([offer], octets);
      } catch (error) {
        if (error instanceof WatchwordError) return undefined;
        throw error;
      }
    },
    abandon: () => {
      if (media === undefined) offer.abandon();
      else media.close();
    },
  };
}

/** A transport that is offered to the server. */
export interface OfferedTransport {
  readonly spec: TransportSpec;
  /** Opens what the server chose. @throws WatchwordError `rtsp.transport-answer`, CodecError `rtsp.transport`; everything is closed then */
  complete(response: RtspResponse): MediaCarrier | Promise<MediaCarrier>;
  abandon(): void;
}

/** Offers a pair of interleaved channels. @throws WatchwordError `rtsp.transport-answer` */
export function offerInterleaved(profile: string, channels: FrameChannels): OfferedTransport {
  const wanted = channels.choose(undefined);
  if (wanted === undefined) throw new WatchwordError("rtsp.transport-answer", "no interleaved channel is free");
  return {
    spec: { profile, lower: "TCP", delivery: "unicast", interleaved: wanted },
    complete: (response) => {
      // The server decides (RFC 2326 §12.39); without a word it took what was asked.
      const pair = transportAnswer(response, profile, "TCP").interleaved ?? wanted;
      if (pair[0] === pair[1] || channels.taken(pair[0]) || channels.taken(pair[1])) {
        throw new WatchwordError("rtsp.transport-answer", "the server chose channels that are in use");
      }
      return channels.open(pair);
    },
    abandon: () => {},
  };
}

/** Binds and offers a pair of UDP ports. @throws WatchwordError `rtsp.transport-answer`, and what the factory throws */
export async function offerDatagrams(
  profile: string,
  datagrams: DatagramsFactory | undefined,
  channel: Stream["channel"],
): Promise<OfferedTransport> {
  if (datagrams === undefined) throw new WatchwordError("rtsp.transport-answer", "no UDP sockets here");
  const sockets = await datagrams.bindPair(channel.local.host);
  const abandon = (): void => {
    for (const socket of sockets) socket.close();
  };
  return {
    spec: { profile, lower: "UDP", delivery: "unicast", clientPort: [sockets[0].local.port, sockets[1].local.port] },
    complete: (response) => {
      try {
        const { serverPort, source } = transportAnswer(response, profile, "UDP");
        if (serverPort === undefined) throw new WatchwordError("rtsp.transport-answer", "the server named no ports");
        const host = source !== undefined && isAddress(source) ? bare(source) : channel.remote.host;
        return createDatagramCarrier(sockets, { host, ports: serverPort });
      } catch (error) {
        abandon();
        throw error;
      }
    },
    abandon,
  };
}

/** What is known of a multicast stream before SETUP. */
export interface MulticastWish {
  readonly datagrams: DatagramsFactory | undefined;
  readonly channel: Stream["channel"];
  /** Name or address of the interface to join on. */
  readonly interface: string | undefined;
  /** The m= line's c= line and port, which stand in for what the server does not say in its answer. */
  readonly connection: Connection | undefined;
  readonly port: number;
}

/** Asks for the stream of a multicast group, whose address is the server's to say (RFC 2326 §12.39). @throws WatchwordError `rtsp.transport-answer` */
export function offerMulticast(profile: string, wish: MulticastWish): OfferedTransport {
  const { datagrams, channel } = wish;
  if (datagrams === undefined) throw new WatchwordError("rtsp.transport-answer", "no UDP sockets here");
  return {
    spec: { profile, lower: "UDP", delivery: "multicast" },
    complete: async (response) => {
      const answer = transportAnswer(response, profile, "UDP", "multicast");
      const group = answer.destination ?? wish.connection?.address ?? "";
      const ports: NumberPair = answer.port ?? [wish.port, wish.port + 1];
      if (!isMulticast(group) || ports[0] < 1 || ports[1] < 1 || ports[0] === ports[1] || ports[1] > 65_535) {
        throw new WatchwordError("rtsp.transport-answer", "the server named no multicast group and ports");
      }
      const source = answer.source !== undefined && isAddress(answer.source) ? bare(answer.source) : channel.remote.host;
      const specific = isSourceSpecific(group);
      const binding = {
        group,
        ttl: answer.ttl ?? wish.connection?.ttl ?? 1,
        ...(wish.interface === undefined ? {} : { interface: wish.interface }),
        ...(specific ? { source } : {}),
      };
      const rtp = await datagrams.bindMulticast({ ...binding, port: ports[0] });
      try {
        const rtcp = await datagrams.bindMulticast({ ...binding, port: ports[1] });
        return createDatagramCarrier([rtp, rtcp], { host: source, ports, group: { address: group, mute: specific } });
      } catch (error) {
        rtp.close();
        throw error;
      }
    },
    abandon: () => {},
  };
}

/** A name cannot be compared with where datagrams come from. */
function isAddress(host: string): boolean {
  return /^[\d.]+$|:/.test(host);
}

function bare(host: string): string {
  return host.replace(/^\[|\]$/g, "");
}

function transportAnswer(
  response: RtspResponse,
  profile: string,
  lower: "UDP" | "TCP",
  delivery: TransportSpec["delivery"] = "unicast",
): TransportSpec {
  const value = header(response, "Transport");
  if (value === undefined) throw new WatchwordError("rtsp.transport-answer", "the server named no transport");
  const [spec] = parseTransport(value);
  if (spec === undefined || spec.profile !== profile || spec.lower !== lower || spec.delivery !== delivery) {
    throw new WatchwordError("rtsp.transport-answer", "the server chose a transport that was not offered");
  }
  return spec;
}
