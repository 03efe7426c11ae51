import { CodecError, utf8Text, WatchwordError } from "../bytes/index.js";
import type { MediaOffer } from "../gsa/index.js";
import { type MediaSection, parseDescription, readKeyMgmt } from "../sdp/index.js";
import type { Authenticator } from "./authentication.js";
import type { KeyingPeer, ServerKeying } from "./keying.js";
import type { MediaSource, MediaTrack } from "./media.js";
import { readRtpHeader } from "./rtcp.js";
import { resolveControl } from "./uri.js";

/** Who may publish on a path, and how that is keyed (RFC 2326 §10.3, §10.11). */
export interface Publishing {
  /** The source of the presentation: what is published goes there. */
  readonly into: PublishedSource;
  /** Keys what the publisher sends. Default: the presentation's keying. */
  readonly keying?: ServerKeying;
  /** Who may publish. Default: the presentation's authenticator. */
  readonly authenticator?: Authenticator;
}

/** A source whose media somebody publishes. It has tracks while somebody does. */
export interface PublishedSource extends MediaSource {
  readonly published: boolean;
  begin(tracks: readonly MediaTrack[]): void;
  end(): void;
  /** Plain packets of the publisher. */
  rtp(track: number, packet: Uint8Array): void;
  rtcp(track: number, packet: Uint8Array): void;
}

/** Creates a source for what a client publishes by ANNOUNCE and RECORD. */
export function createPublishedSource(): PublishedSource {
  let tracks: readonly MediaTrack[] | undefined;
  const source: PublishedSource = {
    get tracks() {
      return tracks ?? [];
    },
    get published() {
      return tracks !== undefined;
    },
    onRtp: undefined,
    onRtcp: undefined,
    start: () => Promise.resolve(),
    stop: () => {
      tracks = undefined;
    },
    begin: (announced) => {
      tracks = announced;
    },
    end: () => {
      tracks = undefined;
    },
    rtp: (index, packet) => {
      const ssrc = readRtpHeader(packet)?.ssrc;
      const track = tracks?.[index];
      if (ssrc === undefined || track === undefined) return;
      // The description may not have said it, or said another.
      if (track.ssrc !== ssrc) tracks = tracks?.with(index, { ...track, ssrc });
      source.onRtp?.(index, packet);
    },
    rtcp: (index, packet) => source.onRtcp?.(index, packet),
  };
  return source;
}

/** One stream that a client announced. */
export interface AnnouncedTrack {
  readonly track: MediaTrack;
  /** Transport profile of its m= line. */
  readonly profile: string;
  /** Absolute control URI. */
  readonly uri: string;
  /** SSRC of our reports on it, which the key message of the response names. */
  readonly reportSsrc: number;
  /** Key message of the description, which stands in for one that SETUP does not bring. */
  readonly message: Uint8Array | undefined;
}

/** What ANNOUNCE promised on a connection, until SETUP makes a session of it. */
export interface Announcement {
  readonly path: string;
  readonly peer: KeyingPeer;
  readonly tracks: readonly AnnouncedTrack[];
  /** One per m= line; taken away as SETUP uses them. */
  readonly offers: (MediaOffer | undefined)[];
}

const MAX_TRACKS = 8;

/**
 * Reads the description of ANNOUNCE.
 * @param base URI that relative control URIs are for
 * @param keyed whether the streams have to be SRTP
 * @param newSsrc an SSRC for our reports
 * @throws CodecError of sdp; WatchwordError `rtsp.content` for media that cannot be served on, `rtsp.plain-refused` for streams that would not be
 * protected, `rtsp.key-mgmt` for a key message that is malformed
 */
export function readAnnouncement(body: Uint8Array, base: string, keyed: boolean, newSsrc: () => number): AnnouncedTrack[] {
  const sdp = utf8Text(body);
  if (sdp === undefined) throw new WatchwordError("rtsp.content", "the description is no text");
  const { media } = parseDescription(sdp);
  const { effective } = readKeyMgmt(sdp);
  if (media.length === 0 || media.length > MAX_TRACKS) {
    throw new WatchwordError("rtsp.content", `${media.length} streams; 1 to ${MAX_TRACKS} can be published`);
  }
  const announced = media.map((section, index): AnnouncedTrack => {
    if (!(keyed ? /^RTP\/SAVPF?$/ : /^RTP\/AVPF?$/).test(section.profile)) {
      throw new WatchwordError(
        "rtsp.plain-refused",
        `stream ${index} is ${section.profile}: this path is ${keyed ? "" : "not "}keyed`,
      );
    }
    const line = effective[index]?.find(({ protocol }) => protocol === "mikey");
    if (line?.problem !== undefined)
      throw new WatchwordError("rtsp.key-mgmt", `the key message of stream ${index} cannot be read`, { cause: line.problem });
    return {
      track: trackOf(section, index),
      profile: section.profile,
      uri: resolveControl(base, section.control),
      reportSsrc: newSsrc(),
      message: line?.data,
    };
  });
  if (new Set(announced.map(({ uri }) => uri)).size < announced.length) {
    throw new WatchwordError("rtsp.content", "two streams have the same control URI");
  }
  return announced;
}

/** @throws WatchwordError `rtsp.content`; CodecError where a value would break a description of ours */
function trackOf(section: MediaSection, index: number): MediaTrack {
  const { kind, formats, rtpMaps, formatParameters, ssrcs } = section;
  const payloadType = Number(formats[0]);
  const map = rtpMaps.find((candidate) => candidate.payloadType === payloadType);
  if ((kind !== "audio" && kind !== "video") || map === undefined) {
    throw new WatchwordError("rtsp.content", `stream ${index} is not audio or video with an rtpmap`);
  }
  const channels = map.channels === undefined ? "" : `/${map.channels}`;
  const fmtp = formatParameters.find((candidate) => candidate.payloadType === payloadType)?.config;
  for (const text of [map.encoding, fmtp ?? ""]) {
    if (!/^[\x20-\x7e]*$/.test(text)) throw new CodecError("rtsp.format", "sdp", -1, "a codec parameter that is not printable");
  }
  return {
    media: kind,
    payloadType,
    rtpmap: `${map.encoding}/${map.clockRate}${channels}`,
    clockRate: map.clockRate,
    ...(fmtp === undefined ? {} : { fmtp }),
    ...(ssrcs.length === 1 ? { ssrc: ssrcs[0] as number } : {}),
  };
}
