import { isIP } from "node:net";
import { WatchwordError } from "../bytes/index.js";
import type { Datagrams, DatagramsFactory } from "../io/index.js";
import type { MediaSource, MediaTrack } from "../rtsp/index.js";
import {
  type Connection,
  createSdpEditor,
  type Description,
  type MediaSection,
  parseDescription,
  type SdpEditor,
} from "../sdp/index.js";
import { createDatagramsFactory } from "./datagrams.js";

/** What an RTP source listens to. */
export interface RtpSourceOptions {
  /** The description of the encoder's output, as ffmpeg's `-sdp_file` or a hand writes it. */
  readonly sdp: string;
  /** Address to listen on. Default 127.0.0.1: anybody who can reach the ports can speak for the encoder. */
  readonly host?: string;
  readonly datagrams?: DatagramsFactory;
}

/** A media section of the description, as far as a plain RTP source needs it. */
interface RtpSection {
  readonly track: MediaTrack;
  readonly port: number;
  readonly rtcpPort: number;
}

/** RFC 3551 §6: the static payload types that encoders leave without an rtpmap. */
const STATIC_RTPMAPS: Readonly<Record<number, string>> = {
  0: "PCMU/8000",
  3: "GSM/8000",
  4: "G723/8000",
  8: "PCMA/8000",
  9: "G722/8000",
  10: "L16/44100/2",
  11: "L16/44100",
  14: "MPA/90000",
  18: "G729/8000",
  26: "JPEG/90000",
  31: "H261/90000",
  32: "MPV/90000",
  33: "MP2T/90000",
  34: "H263/90000",
};

/**
 * Plain RTP and RTCP that an encoder (ffmpeg, GStreamer) sends to local ports. The description's m= lines name the ports
 * (RTCP on the next, or as a=rtcp says), its rtpmap and fmtp values are carried over; several media give several tracks.
 * A track's SSRC is known once its first packet came.
 * @throws WatchwordError `node.source-sdp` when the description has no usable media; `start` rejects with the errors of
 * `createDatagramsFactory`
 */
export function createRtpSource(options: RtpSourceOptions): MediaSource {
  return new RtpSource(parseSections(options.sdp), options);
}

class RtpSource implements MediaSource {
  onRtp: ((track: number, packet: Uint8Array) => void) | undefined;
  onRtcp: ((track: number, packet: Uint8Array) => void) | undefined;
  readonly #sections: readonly RtpSection[];
  readonly #ssrcs: (number | undefined)[];
  readonly #host: string;
  readonly #datagrams: DatagramsFactory;
  #sockets: Datagrams[] = [];
  #wanted = false;

  constructor(sections: readonly RtpSection[], options: RtpSourceOptions) {
    this.#sections = sections;
    this.#ssrcs = sections.map(() => undefined);
    this.#host = options.host ?? "127.0.0.1";
    this.#datagrams = options.datagrams ?? createDatagramsFactory();
  }

  get tracks(): readonly MediaTrack[] {
    return this.#sections.map(({ track }, index) => {
      const ssrc = this.#ssrcs[index];
      return ssrc === undefined ? track : { ...track, ssrc };
    });
  }

  async start(): Promise<void> {
    if (this.#wanted) return;
    this.#wanted = true;
    try {
      for (const [index, section] of this.#sections.entries()) {
        const rtp = await this.#datagrams.bind({ host: this.#host, port: section.port });
        this.#sockets.push(rtp);
        rtp.onDatagram = (packet) => this.#receive(index, packet);
        if (section.rtcpPort === section.port) continue;
        const rtcp = await this.#datagrams.bind({ host: this.#host, port: section.rtcpPort });
        this.#sockets.push(rtcp);
        rtcp.onDatagram = (packet) => this.#receive(index, packet);
      }
    } catch (error) {
      this.stop();
      throw error;
    }
    // Stopped while the ports were being bound.
    if (!this.#wanted) this.stop();
  }

  stop(): void {
    this.#wanted = false;
    for (const socket of this.#sockets) socket.close();
    this.#sockets = [];
  }

  /** Tells RTP from RTCP by the packet type (RFC 5761 §4); what is neither is dropped. */
  #receive(index: number, packet: Uint8Array): void {
    const first = packet[0];
    const second = packet[1];
    if (first === undefined || second === undefined || first >> 6 !== 2) return;
    if (second >= 192 && second <= 223) {
      if (packet.length >= 8) this.onRtcp?.(index, packet);
      return;
    }
    if (packet.length < 12 || (second & 0x7f) !== this.#sections[index]?.track.payloadType) return;
    this.#ssrcs[index] = new DataView(packet.buffer, packet.byteOffset).getUint32(8);
    this.onRtp?.(index, packet);
  }
}

function parseSections(sdp: string): RtpSection[] {
  const { description, editor } = parseSdp(sdp);
  if (description.media.length === 0) throw unusable("it has no m= line");
  const sections = description.media.map((media, index) => readSection(media, index, editor, description.connection));
  const ports = sections.flatMap((section) => [...new Set([section.port, section.rtcpPort])]);
  if (new Set(ports).size !== ports.length) throw unusable("two streams would share a port");
  return sections;
}

function parseSdp(sdp: string): { readonly description: Description; readonly editor: SdpEditor } {
  try {
    return { description: parseDescription(sdp), editor: createSdpEditor(sdp) };
  } catch (error) {
    if (error instanceof WatchwordError) throw unusable(error.message, error);
    throw error;
  }
}

function readSection(
  section: MediaSection,
  index: number,
  editor: SdpEditor,
  sessionConnection: Connection | undefined,
): RtpSection {
  const { kind, port, profile } = section;
  const media = kind === "audio" || kind === "video" ? kind : undefined;
  if (media === undefined || !/^RTP\/AVPF?$/.test(profile))
    throw unusable(`m=${kind} ${profile} is not audio or video over RTP/AVP`);
  if (port < 1 || port > 65_534) throw unusable(`port ${port} is not one to listen on`);
  const payloadType = Number(section.formats[0]);
  if (!Number.isInteger(payloadType) || payloadType < 0 || payloadType > 127) throw unusable(`m=${kind} has no payload type`);
  const map = section.rtpMaps.find((candidate) => candidate.payloadType === payloadType);
  const channels = map?.channels === undefined ? "" : `/${map.channels}`;
  const rtpmap = map === undefined ? STATIC_RTPMAPS[payloadType] : `${map.encoding}/${map.clockRate}${channels}`;
  if (rtpmap === undefined) throw unusable(`payload type ${payloadType} has no a=rtpmap with a clock rate`);
  checkUnicast(section.connection ?? sessionConnection);
  const fmtp = section.formatParameters.find((candidate) => candidate.payloadType === payloadType)?.config;
  const clockRate = Number(rtpmap.split("/")[1]);
  const track: MediaTrack = { media, payloadType, rtpmap, clockRate, ...(fmtp === undefined ? {} : { fmtp }) };
  return { track, port, rtcpPort: readRtcpPort(port, index, editor) };
}

/** The next port, unless a=rtcp names another (RFC 3605) or a=rtcp-mux says the same (RFC 5761). */
function readRtcpPort(port: number, index: number, editor: SdpEditor): number {
  if (editor.attributes({ section: index, name: "rtcp-mux" }).length > 0) return port;
  const value = editor.attributes({ section: index, name: "rtcp" })[0]?.value;
  if (value === undefined) return port + 1;
  const named = Number(value.trim().split(" ")[0]);
  if (!Number.isInteger(named) || named < 1 || named > 65_535) throw unusable("a=rtcp has no port");
  return named;
}

function checkUnicast(connection: Connection | undefined): void {
  const address = connection?.address.toLowerCase() ?? "";
  const multicast = isIP(address) === 4 ? Number(address.split(".")[0]) >= 224 : isIP(address) === 6 && address.startsWith("ff");
  if (multicast) throw unusable(`it is sent to the multicast group ${address}; send it to a local port`);
}

function unusable(reason: string, cause?: unknown): WatchwordError {
  return new WatchwordError("node.source-sdp", `the source's description cannot be used: ${reason}`, { cause });
}
