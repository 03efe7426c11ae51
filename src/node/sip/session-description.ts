import { isIP } from "node:net";
import { WatchwordError } from "../../bytes/index.js";
import type { Endpoint } from "../../io/index.js";
import type { MediaTrack } from "../../rtsp/index.js";
import { createSdpEditor, type MediaSection, parseDescription } from "../../sdp/index.js";
import type { MediaDirection } from "../../sip/index.js";

/** One m= line of our own description. */
export interface LocalLine {
  readonly track: MediaTrack;
  /** Even port of the pair; 0 rejects the line. */
  readonly port: number;
  readonly direction: MediaDirection;
}

/** One m= line of the other party's description. */
export interface RemoteLine {
  readonly kind: string;
  readonly rtp: Endpoint;
  readonly rtcp: Endpoint;
  /** Port 0, or a kind or profile that is not RTP audio or video. */
  readonly usable: boolean;
  /** As the other party sees it. */
  readonly direction: MediaDirection;
  /** In its order of preference. */
  readonly tracks: readonly MediaTrack[];
}

const DIRECTIONS: readonly MediaDirection[] = ["sendrecv", "sendonly", "recvonly", "inactive"];
/** Payload types that need no a=rtpmap (RFC 3551 §6), of those that telephones use. */
const STATIC_RTPMAPS: Readonly<Record<string, string>> = {
  "0": "PCMU/8000",
  "8": "PCMA/8000",
  "9": "G722/8000",
  "18": "G729/8000",
};

/** A description (RFC 4566) in plain RTP/AVP: what makes it secure is added where the keys are. */
export function formatSessionDescription(host: string, sessionId: string, version: number, lines: readonly LocalLine[]): string {
  const address = `IN IP${isIP(host) === 6 ? 6 : 4} ${host}`;
  const text = ["v=0", `o=- ${sessionId} ${version} ${address}`, "s=-", `c=${address}`, "t=0 0"];
  for (const { track, port, direction } of lines) {
    text.push(`m=${track.media} ${port} RTP/AVP ${track.payloadType}`, `a=rtpmap:${track.payloadType} ${track.rtpmap}`);
    if (track.fmtp !== undefined) text.push(`a=fmtp:${track.payloadType} ${track.fmtp}`);
    if (port !== 0) text.push(`a=${direction}`);
  }
  return `${text.join("\r\n")}\r\n`;
}

/** Reads where the other party's media goes. @throws CodecError of `parseDescription`; WatchwordError `node.sip-description` */
export function readRemoteLines(sdp: string): RemoteLine[] {
  const description = parseDescription(sdp);
  const editor = createSdpEditor(sdp);
  return description.media.map((section, index): RemoteLine => {
    const host = (section.connection ?? description.connection)?.address;
    if (host === undefined)
      throw new WatchwordError("node.sip-description", "the other party's description has no address for its media");
    const attributes = editor.attributes({ section: index });
    const direction = DIRECTIONS.find((name) => attributes.some((attribute) => attribute.name === name));
    const ofSession = DIRECTIONS.find((name) => editor.attributes({ section: "session", name }).length > 0);
    const muxed = attributes.some(({ name }) => name === "rtcp-mux");
    // RFC 3605: a=rtcp names another port than the next.
    const named = Number(attributes.find(({ name }) => name === "rtcp")?.value?.split(" ")[0]);
    const rtcpPort = muxed ? section.port : named > 0 && named < 65_536 ? named : section.port + 1;
    return {
      kind: section.kind,
      rtp: { host, port: section.port },
      rtcp: { host, port: rtcpPort },
      usable: section.port > 0 && (section.kind === "audio" || section.kind === "video") && /RTP\/S?AVPF?$/.test(section.profile),
      direction: direction ?? ofSession ?? "sendrecv",
      tracks: tracksOf(section),
    };
  });
}

function tracksOf(section: MediaSection): MediaTrack[] {
  return section.formats.flatMap((format) => {
    const payloadType = Number(format);
    const map = section.rtpMaps.find((entry) => entry.payloadType === payloadType);
    const channels = map?.channels === undefined ? "" : `/${map.channels}`;
    const rtpmap = map === undefined ? STATIC_RTPMAPS[format] : `${map.encoding}/${map.clockRate}${channels}`;
    if (rtpmap === undefined) return [];
    const fmtp = section.formatParameters.find((entry) => entry.payloadType === payloadType)?.config;
    const clockRate = Number(rtpmap.split("/")[1]);
    const media = section.kind === "video" ? "video" : "audio";
    return [{ media, payloadType, rtpmap, clockRate, ...(fmtp === undefined ? {} : { fmtp }) }];
  });
}

/** RFC 3264 §6.1: what we may answer to a direction that was offered, given what we want. */
export function answeredDirection(offered: MediaDirection, wanted: MediaDirection): MediaDirection {
  const sends = mayReceive(offered) && maySend(wanted);
  const receives = maySend(offered) && mayReceive(wanted);
  return sends ? (receives ? "sendrecv" : "sendonly") : receives ? "recvonly" : "inactive";
}

export function maySend(direction: MediaDirection): boolean {
  return direction === "sendrecv" || direction === "sendonly";
}

export function mayReceive(direction: MediaDirection): boolean {
  return direction === "sendrecv" || direction === "recvonly";
}
