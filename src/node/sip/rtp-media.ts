import type { Clock, Datagrams, DatagramsFactory, Endpoint, Timer, Timers } from "../../io/index.js";
import {
  createReceptionStatistics,
  encodeReceiverReport,
  type MediaSource,
  type MediaTrack,
  type ReceptionStatistics,
  readRtpHeader,
  readSenderReport,
} from "../../rtsp/index.js";
import type { MediaDirection, SipStream } from "../../sip/index.js";
import type { MediaPort } from "../../sip/sipjs/index.js";
import type { MediaSink } from "../media.js";
import { TONE_CLOCK_RATE } from "../tone.js";
import {
  answeredDirection,
  formatSessionDescription,
  type LocalLine,
  mayReceive,
  maySend,
  type RemoteLine,
  readRemoteLines,
} from "./session-description.js";

/** The media of one call: plain RTP on our side, SRTP on the wire. */
export interface RtpMediaOptions {
  /** Address to bind, and to name in descriptions. */
  readonly host: string;
  /** What we send; nothing where it is absent. Stopped at the end. */
  readonly source?: MediaSource;
  /** What we do with what comes, once it is known which tracks there are. Closed at the end. */
  readonly sink?: (tracks: readonly MediaTrack[]) => Promise<MediaSink>;
  readonly datagrams: DatagramsFactory;
  /** The address of a host that a description names, undefined where there is none. Default: names are left to `datagrams`, packet by packet. */
  readonly resolve?: (host: string) => Promise<string | undefined>;
  readonly steady: Clock;
  readonly timers: Timers;
  /** Decimal digits, unique for this call (RFC 4566 §5.2). */
  readonly sessionId: string;
  /** Our SSRC in receiver reports where we send nothing. */
  readonly ssrc: number;
  /** Told of a sink that could not be opened, and of a source that does not start. */
  readonly onError?: (error: unknown) => void;
  /** Milliseconds without anything authentic, on lines where the other party is to send, after which `onSilence` is told; 0 for never. Default 0. */
  readonly mediaTimeout?: number;
  readonly onSilence?: () => void;
}

/** Counts of one m= line. */
export interface RtpMediaStatistics {
  readonly index: number;
  readonly direction: MediaDirection;
  /** Packets and payload-bearing octets (headers included) that came and were authentic. */
  readonly packets: number;
  readonly octets: number;
  /** Expected by sequence number and not seen. */
  readonly lost: number;
  readonly sent: number;
  /** Not authentic, replayed or malformed. */
  readonly refused: number;
  /** Came before the keys and could not be kept. */
  readonly early: number;
}

/** A media port on UDP port pairs, with the knobs of a telephone. */
export interface RtpMedia extends MediaPort {
  /** What the next offer wants: `sendonly` puts the other party on hold (RFC 3264 §8.4). */
  direction: MediaDirection;
  readonly tracks: readonly MediaTrack[];
  readonly statistics: readonly RtpMediaStatistics[];
  /** Resolves when the sink has everything. */
  readonly closed: Promise<void>;
}

/** RFC 3550 §6.2: a fixed interval of five seconds suits two parties. */
const REPORT_INTERVAL = 5000;
const CNAME = "call@watchword";
/** A line that only receives has to say some format; this one every telephone has. */
const DEFAULT_TRACK: MediaTrack = { media: "audio", payloadType: 0, rtpmap: "PCMU/8000", clockRate: TONE_CLOCK_RATE };

export function createRtpMedia(options: RtpMediaOptions): RtpMedia {
  return new Media(options);
}

/** What both descriptions have agreed on for one line. */
interface Agreement {
  readonly direction: MediaDirection;
  readonly rtp: Endpoint | undefined;
  readonly rtcp: Endpoint | undefined;
}

/** The hold of old (RFC 3264 §8.4): neither RTP nor RTCP goes there. */
const NOWHERE = "0.0.0.0";

const NOTHING: Agreement = { direction: "inactive", rtp: undefined, rtcp: undefined };

/** One m= line. */
interface Line {
  track: MediaTrack;
  /** Which track of the source is sent here. */
  sourceTrack: number | undefined;
  sockets: readonly [rtp: Datagrams, rtcp: Datagrams] | undefined;
  agreed: Agreement;
  /** What was agreed before the exchange under way. */
  before: Agreement;
  /** Of the exchange under way, as we described it. */
  described: MediaDirection;
  rejected: boolean;
  packets: number;
  octets: number;
  sent: number;
  /** Packets of the source that were not sent. */
  skipped: number;
  readonly reception: Map<number, ReceptionStatistics>;
}

/** Octets of the shortest RTP packet (RFC 3550 §5.1). */
const RTP_HEADER = 12;
/** Sources of one line that are counted apart. */
const MAX_SOURCES = 16;

class Media implements RtpMedia {
  direction: MediaDirection = "sendrecv";
  readonly closed: Promise<void>;
  readonly #options: RtpMediaOptions;
  readonly #lines: Line[] = [];
  /** The SRTP of each line, by its index; it may be there before the line is. */
  readonly #streams = new Map<number, SipStream>();
  #finish: () => void = () => {};
  #version = 0;
  #sink: Promise<MediaSink | undefined> | undefined;
  #openSink: MediaSink | undefined;
  #reports: Timer | undefined;
  #started = false;
  #closing = false;
  /** When something authentic last came, or nothing was to come. */
  #heardAt = 0;

  constructor(options: RtpMediaOptions) {
    this.#options = options;
    this.closed = new Promise((resolve) => {
      this.#finish = resolve;
    });
    const { source } = options;
    if (source !== undefined) {
      source.onRtp = (track, packet) => this.#send(track, packet);
      source.onRtcp = (track, packet) => this.#sendReport(this.#indexOf(track), packet);
    }
  }

  get tracks(): readonly MediaTrack[] {
    return this.#lines.map(({ track }) => track);
  }

  get statistics(): readonly RtpMediaStatistics[] {
    return this.#lines.map((line, index) => ({
      index,
      direction: line.agreed.direction,
      packets: line.packets,
      octets: line.octets,
      lost: [...line.reception.values()].reduce((sum, { lost }) => sum + lost, 0),
      sent: line.sent,
      refused: this.#streams.get(index)?.drops.refused ?? 0,
      early: this.#streams.get(index)?.drops.early ?? 0,
    }));
  }

  ssrcFor(index: number): number | undefined {
    const line = this.#lines[index];
    const track = line === undefined ? index : line.sourceTrack;
    return track === undefined ? undefined : this.#options.source?.tracks[track]?.ssrc;
  }

  async describe(type: "offer" | "answer", remote: string | undefined): Promise<string> {
    const lines = type === "offer" ? this.#offer() : this.#answer(await this.#located(readRemoteLines(remote ?? "")));
    for (const [index, line] of this.#lines.entries()) if (!line.rejected) await this.#bind(line, index);
    const { host, sessionId } = this.#options;
    return formatSessionDescription(host, sessionId, this.#version++, lines());
  }

  async setRemote(type: "offer" | "answer", remote: string): Promise<void> {
    const described = readRemoteLines(remote);
    if (type === "offer") return;
    const remoteLines = await this.#located(described);
    for (const [index, line] of this.#lines.entries()) {
      const described = remoteLines[index];
      if (described?.usable !== true) line.rejected = true;
      line.agreed = agreementOf(line, described, answeredDirection(described?.direction ?? "inactive", line.described));
    }
    await this.#flow();
  }

  attach(stream: SipStream): void {
    this.#streams.set(stream.index, stream);
    stream.onRtp = (packet) => this.#received(stream.index, packet);
    stream.onRtcp = (packet) => this.#receivedReport(stream.index, packet);
  }

  rollback(): void {
    for (const line of this.#lines) {
      line.agreed = line.before;
      line.described = line.agreed.direction;
    }
  }

  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#options.source?.stop();
    this.#reports?.cancel();
    for (const { sockets } of this.#lines) for (const socket of sockets ?? []) socket.close();
    void Promise.resolve(this.#sink)
      .then((sink) => sink?.close())
      .catch((error: unknown) => this.#options.onError?.(error))
      .finally(() => this.#finish());
  }

  /** With addresses in place of names: looked up once, and not for every packet. What has none is sent nothing. */
  async #located(lines: readonly RemoteLine[]): Promise<readonly RemoteLine[]> {
    const { resolve } = this.#options;
    if (resolve === undefined) return lines;
    const hosts = new Set(lines.flatMap(({ rtp, rtcp }) => [rtp.host, rtcp.host]));
    const found = new Map(await Promise.all([...hosts].map(async (host) => [host, (await resolve(host)) ?? NOWHERE] as const)));
    const at = ({ host, port }: Endpoint): Endpoint => ({ host: found.get(host) ?? NOWHERE, port });
    return lines.map((line) => ({ ...line, rtp: at(line.rtp), rtcp: at(line.rtcp) }));
  }

  #offer(): () => LocalLine[] {
    const { source } = this.#options;
    if (this.#lines.length === 0) {
      const tracks = source?.tracks ?? [DEFAULT_TRACK];
      for (const [index, track] of tracks.entries()) this.#lines.push(newLine(track, source === undefined ? undefined : index));
    }
    for (const line of this.#lines) {
      line.before = line.agreed;
      line.described = this.#wanted(line);
    }
    return () => this.#localLines();
  }

  #answer(offered: readonly RemoteLine[]): () => LocalLine[] {
    for (const [index, described] of offered.entries()) {
      const line = this.#lines[index] ?? this.#newAnswerLine(described);
      if (this.#lines[index] === undefined) this.#lines.push(line);
      if (!described.usable || described.tracks.length === 0) line.rejected = true;
      line.described = line.rejected ? "inactive" : answeredDirection(described.direction, this.#wanted(line));
      line.before = line.agreed;
      line.agreed = agreementOf(line, described, line.described);
    }
    void this.#flow();
    return () => this.#localLines();
  }

  /** A line of an offer gets the source's track of the same format; where there is none, it is received only. */
  #newAnswerLine(described: RemoteLine): Line {
    const taken = new Set(this.#lines.map(({ sourceTrack }) => sourceTrack));
    const tracks = this.#options.source?.tracks ?? [];
    for (const candidate of described.tracks) {
      const index = tracks.findIndex(
        (track, at) => !taken.has(at) && track.media === candidate.media && sameFormat(track, candidate),
      );
      if (index >= 0) return newLine(candidate, index);
    }
    return newLine(described.tracks[0] ?? DEFAULT_TRACK, undefined);
  }

  #wanted(line: Line): MediaDirection {
    if (line.rejected) return "inactive";
    if (line.sourceTrack !== undefined) return this.direction;
    return mayReceive(this.direction) ? "recvonly" : "inactive";
  }

  #localLines(): LocalLine[] {
    return this.#lines.map(({ track, sockets, described, rejected }) => ({
      track,
      port: rejected ? 0 : (sockets?.[0].local.port ?? 0),
      direction: described,
    }));
  }

  async #bind(line: Line, index: number): Promise<void> {
    if (line.sockets !== undefined) return;
    const sockets = await this.#options.datagrams.bindPair(this.#options.host);
    if (this.#closing) for (const socket of sockets) socket.close();
    line.sockets = sockets;
    // RTP and RTCP are told apart by what they are, not by where they come (RFC 5761 §4).
    for (const socket of sockets) socket.onDatagram = (packet) => this.#streams.get(index)?.receive(packet);
  }

  /** Starts what has to run now that an agreement is there. */
  async #flow(): Promise<void> {
    this.#sink ??= this.#options.sink?.(this.tracks).catch((error: unknown) => {
      this.#options.onError?.(error);
      return undefined;
    });
    this.#openSink ??= await this.#sink;
    if (this.#started || this.#closing) return;
    this.#started = true;
    this.#heardAt = this.#options.steady.now();
    this.#reports = this.#options.timers.every(REPORT_INTERVAL, () => this.#report());
    try {
      await this.#options.source?.start();
    } catch (error) {
      // What comes in is heard all the same.
      this.#options.onError?.(error);
    }
  }

  #send(track: number, packet: Uint8Array): void {
    const index = this.#indexOf(track);
    const line = this.#lines[index];
    if (line === undefined || packet.length < RTP_HEADER) return;
    const { rtp, direction } = line.agreed;
    const sealed =
      rtp === undefined || !maySend(direction) ? undefined : this.#streams.get(index)?.protect(renumbered(packet, line));
    if (sealed === undefined || rtp === undefined) {
      line.skipped++;
      return;
    }
    line.sent++;
    line.sockets?.[0].send(sealed, rtp);
  }

  #sendReport(index: number, packet: Uint8Array): void {
    const line = this.#lines[index];
    if (line?.agreed.rtcp === undefined) return;
    const sealed = this.#streams.get(index)?.protectRtcp(packet);
    if (sealed !== undefined) line.sockets?.[1].send(sealed, line.agreed.rtcp);
  }

  /** The line that a track of the source is sent on, -1 where there is none. */
  #indexOf(track: number): number {
    return this.#lines.findIndex(({ sourceTrack }) => sourceTrack === track);
  }

  #received(index: number, packet: Uint8Array): void {
    const line = this.#lines[index];
    if (line === undefined) return;
    this.#heardAt = this.#options.steady.now();
    line.packets++;
    line.octets += packet.length;
    const fields = readRtpHeader(packet);
    if (fields !== undefined) {
      let reception = line.reception.get(fields.ssrc);
      if (reception === undefined && line.reception.size < MAX_SOURCES) {
        reception = createReceptionStatistics(fields.ssrc, line.track.clockRate);
        line.reception.set(fields.ssrc, reception);
      }
      reception?.packet(fields.sequence, fields.timestamp, this.#options.steady.now());
    }
    this.#openSink?.rtp(index, packet);
  }

  #receivedReport(index: number, packet: Uint8Array): void {
    this.#heardAt = this.#options.steady.now();
    const report = readSenderReport(packet);
    if (report !== undefined)
      this.#lines[index]?.reception.get(report.ssrc)?.senderReport(report.ntpMiddle, this.#options.steady.now());
    this.#openSink?.rtcp(index, packet);
  }

  #report(): void {
    const now = this.#options.steady.now();
    for (const [index, line] of this.#lines.entries()) {
      const blocks = [...line.reception.values()].flatMap((reception) => reception.report(now) ?? []);
      if (blocks.length > 0)
        this.#sendReport(index, encodeReceiverReport(this.ssrcFor(index) ?? this.#options.ssrc, CNAME, blocks));
    }
    this.#checkSilence(now);
  }

  /** A party that has gone says nothing of it, and no request of ours would have to be answered. Who holds the call may be silent. */
  #checkSilence(now: number): void {
    const { mediaTimeout = 0, onSilence } = this.#options;
    const expected = this.#lines.some((line) => {
      const { direction, rtp } = line.agreed;
      return rtp !== undefined && mayReceive(direction) && direction === this.#wanted(line);
    });
    if (!expected) this.#heardAt = now;
    else if (mediaTimeout > 0 && now - this.#heardAt > mediaTimeout) onSilence?.();
  }
}

function newLine(track: MediaTrack, sourceTrack: number | undefined): Line {
  const counts = { packets: 0, octets: 0, sent: 0, skipped: 0, reception: new Map<number, ReceptionStatistics>() };
  return {
    track,
    sourceTrack,
    sockets: undefined,
    agreed: NOTHING,
    before: NOTHING,
    described: "inactive",
    rejected: false,
    ...counts,
  };
}

function agreementOf(line: Line, remote: RemoteLine | undefined, direction: MediaDirection): Agreement {
  if (line.rejected || remote === undefined) return NOTHING;
  if (remote.rtp.host === NOWHERE || remote.rtp.host === "::") return { direction, rtp: undefined, rtcp: undefined };
  return { direction, rtp: remote.rtp, rtcp: remote.rtcp };
}

function sameFormat(a: MediaTrack, b: MediaTrack): boolean {
  return a.rtpmap.toLowerCase() === b.rtpmap.toLowerCase();
}

/**
 * The packet under the payload type that the offer gave its format, and with the sequence number that it has among the packets which
 * are sent (RFC 3550 §5.1): those that a hold keeps back are none.
 */
function renumbered(packet: Uint8Array, { track, skipped }: Line): Uint8Array {
  const copy = packet.slice();
  const view = new DataView(copy.buffer, copy.byteOffset, copy.length);
  copy[1] = ((packet[1] as number) & 0x80) | track.payloadType;
  view.setUint16(2, (view.getUint16(2) - skipped) & 0xffff);
  return copy;
}
