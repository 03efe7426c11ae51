import type { Description } from "../sdp/index.js";

/** One RTP stream of a source, in SDP's terms (RFC 4566 §5.14, RFC 3551). */
export interface MediaTrack {
  readonly media: "audio" | "video";
  readonly payloadType: number;
  /** The rtpmap value after the payload type, e.g. `PCMU/8000`. */
  readonly rtpmap: string;
  /** The fmtp value after the payload type. */
  readonly fmtp?: string;
  /** Hz. */
  readonly clockRate: number;
  /** Known from the start, or as soon as the first packet came. */
  readonly ssrc?: number;
}

/** Plain RTP and RTCP in real time; sender reports are the source's. Packets are the receiver's to keep, not to change. */
export interface MediaSource {
  readonly tracks: readonly MediaTrack[];
  onRtp: ((track: number, packet: Uint8Array) => void) | undefined;
  onRtcp: ((track: number, packet: Uint8Array) => void) | undefined;
  /** Resolves when packets can flow. */
  start(): Promise<void>;
  stop(): void;
}

/** What the m= lines of a description carry, in the first of their formats: what a sink has to be told. */
export function mediaTracksOf({ media }: Description): MediaTrack[] {
  return media.map((section): MediaTrack => {
    const payloadType = Number(section.formats[0] ?? 0);
    const map = section.rtpMaps.find((entry) => entry.payloadType === payloadType);
    const parameters = section.formatParameters.find((entry) => entry.payloadType === payloadType);
    const channels = map?.channels === undefined ? "" : `/${map.channels}`;
    return {
      media: section.kind === "video" ? "video" : "audio",
      payloadType,
      rtpmap: map === undefined ? "PCMU/8000" : `${map.encoding}/${map.clockRate}${channels}`,
      clockRate: map?.clockRate ?? 8000,
      ...(parameters === undefined ? {} : { fmtp: parameters.config }),
    };
  });
}

/** What the client sends to a path that is played: the ONVIF backchannel. Its streams come behind those of the source. */
export interface Backchannel {
  /** `ssrc` is that of our reports. */
  readonly tracks: readonly MediaTrack[];
  /** One plain, authentic packet of a client, while it plays. @param track index in `tracks` */
  receive(track: number, packet: Uint8Array): void;
}

/** The feature tag by which a client asks for the backchannel (ONVIF Streaming, back channel connection). */
export const BACKCHANNEL = "www.onvif.org/ver20/backchannel";
