import { formatHex, WatchwordError } from "../bytes/index.js";
import type { KeyedBy, KeyedMedia, KeyedStream } from "../gsa/index.js";
import { SrtpFailure } from "../srtp/index.js";
import type { MediaCarrier } from "./carrier.js";
import {
  createReceptionStatistics,
  encodeReceiverReport,
  looksLikeRtcp,
  type ReceptionStatistics,
  readRtpHeader,
  readSenderReport,
} from "./rtcp.js";

/** What one stream of a client has received. */
export interface ClientTrackStatistics {
  readonly index: number;
  /** RTP packets and octets delivered, headers included. */
  readonly packets: number;
  readonly octets: number;
  /** Expected and not received, all sources together (RFC 3550 §6.4.1). */
  readonly lost: number;
  readonly authenticationFailures: number;
  readonly replays: number;
  /** Neither RTP nor RTCP, or under an unknown MKI. */
  readonly discarded: number;
  readonly rtcpPackets: number;
  readonly reportsSent: number;
  readonly keyedBy: "none" | KeyedBy;
  /** SRTP suite, undefined for plain RTP. */
  readonly suite: string | undefined;
  readonly fingerprint: string | undefined;
  /** Hexadecimal. */
  readonly mki: string | undefined;
  readonly tolerances: readonly string[];
  /** Who sends authentic packets, and the rollover counter of each now; undefined for plain RTP. */
  readonly sources: readonly { readonly ssrc: number; readonly rolloverCounter: number | undefined }[];
}

/** What a stream is made of. */
export interface ClientTrackOptions {
  readonly index: number;
  /** Absolute control URI. */
  readonly uri: string;
  readonly clockRate: number;
  readonly carrier: MediaCarrier;
  /** Undefined for plain RTP. */
  readonly media: KeyedMedia | undefined;
  readonly stream: KeyedStream | undefined;
  /** Where the description departed from the standard and was allowed to. */
  readonly tolerances: readonly string[];
  /** SSRC of our receiver reports. */
  readonly ssrc: number;
  readonly cname: string;
  readonly now: () => number;
  readonly onRtp: (packet: Uint8Array) => void;
  readonly onRtcp: (packet: Uint8Array) => void;
  /** Packets as they came, once they proved authentic. */
  readonly onSealedRtp?: ((packet: Uint8Array) => void) | undefined;
  readonly onSealedRtcp?: ((packet: Uint8Array) => void) | undefined;
}

/** Most sources of one stream that are reported on: what fits one report. */
const MAX_SOURCES = 31;
/** Room for what SRTCP adds: tag, index, MKI. */
const OVERHEAD = 512;

/** One stream of a playing client: opens what arrives, counts it, reports on it. */
export class ClientTrack {
  readonly options: ClientTrackOptions;
  readonly #sources = new Map<number, ReceptionStatistics>();
  #packets = 0;
  #octets = 0;
  #authenticationFailures = 0;
  #replays = 0;
  #discarded = 0;
  #unopened = 0;
  #rtcpPackets = 0;
  #reportsSent = 0;
  /** Packets opened, and packets of a known form that could not be, when `takeDeafness` was last called. */
  #heard = { opened: 0, unopened: 0 };

  constructor(options: ClientTrackOptions) {
    this.options = options;
    options.carrier.onRtp = (packet) => this.#receiveRtp(packet);
    options.carrier.onRtcp = (packet) => this.#receiveRtcp(packet);
  }

  /** Packets of either kind that were authentic: what shows that the server lives. */
  get signsOfLife(): number {
    return this.#packets + this.#rtcpPackets;
  }

  /** Whether, since the last call, packets came and none could be opened. */
  takeDeafness(): boolean {
    const before = this.#heard;
    this.#heard = { opened: this.signsOfLife, unopened: this.#unopened };
    return this.#heard.opened === before.opened && this.#heard.unopened > before.unopened;
  }

  get statistics(): ClientTrackStatistics {
    const { index, media, stream, tolerances } = this.options;
    let lost = 0;
    for (const source of this.#sources.values()) lost += source.lost;
    return {
      index,
      packets: this.#packets,
      octets: this.#octets,
      lost,
      authenticationFailures: this.#authenticationFailures,
      replays: this.#replays,
      discarded: this.#discarded,
      rtcpPackets: this.#rtcpPackets,
      reportsSent: this.#reportsSent,
      keyedBy: media?.keyedBy ?? "none",
      suite: stream?.policy.suite,
      fingerprint: media?.fingerprint,
      mki: media?.mki === undefined ? undefined : formatHex(media.mki),
      tolerances: [...tolerances, ...(media?.tolerances ?? [])],
      sources: [...this.#sources.keys()].map((ssrc) => ({ ssrc, rolloverCounter: stream?.receiver?.rolloverCounter(ssrc) })),
    };
  }

  /** Sends a receiver report (RFC 3550 §6.4.2), under our key where there are keys; without a key of ours nothing is sent. */
  sendReport(): void {
    const { ssrc, cname, media, stream, carrier, now } = this.options;
    const blocks = [...this.#sources.values()].flatMap((source) => source.report(now()) ?? []);
    const report = encodeReceiverReport(ssrc, cname, blocks);
    if (media === undefined) {
      carrier.sendRtcp(report);
    } else {
      const sender = stream?.sender;
      if (sender === undefined) return;
      const out = new Uint8Array(report.length + OVERHEAD);
      try {
        carrier.sendRtcp(out.subarray(0, sender.protectRtcp(report, out)));
      } catch (error) {
        // A key at its end protects nothing more; requests still keep the session alive.
        if (error instanceof WatchwordError) return;
        throw error;
      }
    }
    this.#reportsSent++;
  }

  /**
   * Sends a packet of ours, under our key where there are keys. Its SSRC becomes ours: where one key serves both directions, nothing
   * else keeps two packets from one keystream (RFC 3711 §9.1).
   * @throws WatchwordError of srtp
   */
  send(packet: Uint8Array): void {
    const { ssrc, media, stream, carrier } = this.options;
    const out = new Uint8Array(packet.length + OVERHEAD);
    out.set(packet);
    new DataView(out.buffer).setUint32(8, ssrc);
    const own = out.subarray(0, packet.length);
    if (media === undefined) carrier.sendRtp(own);
    else if (stream?.sender !== undefined) carrier.sendRtp(out.subarray(0, stream.sender.protect(own, out)));
  }

  close(): void {
    this.options.carrier.close();
  }

  #receiveRtp(packet: Uint8Array): void {
    const opened = this.#open(packet, "rtp");
    const fields = opened === undefined ? undefined : readRtpHeader(opened);
    if (opened === undefined || fields === undefined) {
      if (opened !== undefined) this.#discarded++;
      return;
    }
    this.#packets++;
    this.#octets += opened.length;
    let source = this.#sources.get(fields.ssrc);
    if (source === undefined && this.#sources.size < MAX_SOURCES) {
      source = createReceptionStatistics(fields.ssrc, this.options.clockRate);
      this.#sources.set(fields.ssrc, source);
    }
    source?.packet(fields.sequence, fields.timestamp, this.options.now());
    this.options.onSealedRtp?.(packet);
    this.options.onRtp(opened);
  }

  #receiveRtcp(packet: Uint8Array): void {
    if (!looksLikeRtcp(packet)) {
      this.#discarded++;
      return;
    }
    // Members of a group see each other's reports, which are under keys of theirs.
    if (this.options.carrier.kind === "multicast" && this.#sources.size > 0 && !this.#sources.has(senderOf(packet))) {
      this.#discarded++;
      return;
    }
    const opened = this.#open(packet, "rtcp");
    if (opened === undefined) return;
    this.#rtcpPackets++;
    const report = readSenderReport(opened);
    if (report !== undefined) this.#sources.get(report.ssrc)?.senderReport(report.ntpMiddle, this.options.now());
    this.options.onSealedRtcp?.(packet);
    this.options.onRtcp(opened);
  }

  #open(packet: Uint8Array, kind: "rtp" | "rtcp"): Uint8Array | undefined {
    const { media, stream } = this.options;
    if (media === undefined) return packet;
    const receiver = stream?.receiver;
    if (receiver === undefined) return undefined;
    const out = new Uint8Array(packet.length);
    const length = kind === "rtp" ? receiver.unprotect(packet, out) : receiver.unprotectRtcp(packet, out);
    if (length >= 0) return out.subarray(0, length);
    this.#unopened++;
    if (length === SrtpFailure.authentication) this.#authenticationFailures++;
    else if (length === SrtpFailure.replay) this.#replays++;
    else this.#discarded++;
    return undefined;
  }
}

/** SSRC of who sent an RTCP packet (RFC 3550 §6.4.1), in the clear in SRTCP too. */
function senderOf(packet: Uint8Array): number {
  return new DataView(packet.buffer, packet.byteOffset).getUint32(4);
}
