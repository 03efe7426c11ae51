import { randomBytes } from "node:crypto";
import { utf8, Writer } from "../bytes/index.js";
import type { Clock, Timer, Timers } from "../io/index.js";
import type { MediaSource, MediaTrack } from "../rtsp/index.js";
import { steadyClock, systemClock, systemTimers } from "./time.js";
import { TONE_CLOCK_RATE, TONE_FRAME, toneFrame } from "./tone.js";

/** Where a tone source begins and what paces it; everything has a default. */
export interface ToneSourceOptions {
  /** 32 bits; default random. */
  readonly ssrc?: number;
  /** Sequence number of the first packet, 16 bits; default random below 2^15 (RFC 3711 §3.3.1). */
  readonly firstSequence?: number;
  /** Timestamp of the first packet, 32 bits; default random. */
  readonly firstTimestamp?: number;
  /** Paces the packets; must not jump. */
  readonly steady?: Clock;
  /** Wall clock for sender reports. */
  readonly clock?: Clock;
  readonly timers?: Timers;
}

const FRAME_MILLISECONDS = 20;
/** A source that slept longer than this (a suspended machine) skips what it missed. */
const MAX_BEHIND = 50;
/** Frames between two sender reports: 2.5 seconds. */
const REPORT_FRAMES = 125;
/** Seconds from 1900 to 1970. */
const NTP_OFFSET = 2_208_988_800;

/**
 * The built-in source: PCMU (payload type 0), 8 kHz, one packet of 160 octets every 20 ms, and RTCP sender reports.
 * The payload of the n-th packet is `toneFrame(n)`. Packets fall due by the steady clock, so that late timers do not add up.
 */
export function createToneSource(options: ToneSourceOptions = {}): MediaSource {
  return new ToneSource(options);
}

class ToneSource implements MediaSource {
  readonly tracks: readonly MediaTrack[];
  onRtp: ((track: number, packet: Uint8Array) => void) | undefined;
  onRtcp: ((track: number, packet: Uint8Array) => void) | undefined;
  readonly #ssrc: number;
  readonly #firstSequence: number;
  readonly #firstTimestamp: number;
  readonly #steady: Clock;
  readonly #clock: Clock;
  readonly #timers: Timers;
  #running = false;
  #timer: Timer | undefined;
  #startedAt = 0;
  #frame = 0;
  #sentPackets = 0;

  constructor(options: ToneSourceOptions) {
    const random = randomBytes(10);
    this.#ssrc = options.ssrc ?? random.readUInt32BE(0);
    this.#firstSequence = options.firstSequence ?? random.readUInt16BE(4) & 0x7fff;
    this.#firstTimestamp = options.firstTimestamp ?? random.readUInt32BE(6);
    this.#steady = options.steady ?? steadyClock;
    this.#clock = options.clock ?? systemClock;
    this.#timers = options.timers ?? systemTimers;
    this.tracks = [{ media: "audio", payloadType: 0, rtpmap: "PCMU/8000", clockRate: TONE_CLOCK_RATE, ssrc: this.#ssrc }];
  }

  start(): Promise<void> {
    if (!this.#running) {
      this.#running = true;
      this.#startedAt = this.#steady.now() - this.#frame * FRAME_MILLISECONDS;
      this.#schedule();
    }
    return Promise.resolve();
  }

  stop(): void {
    this.#running = false;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #schedule(): void {
    const wait = this.#startedAt + this.#frame * FRAME_MILLISECONDS - this.#steady.now();
    this.#timer = this.#timers.after(Math.max(0, Math.ceil(wait)), () => this.#tick());
  }

  #tick(): void {
    const due = Math.floor((this.#steady.now() - this.#startedAt) / FRAME_MILLISECONDS);
    if (due - this.#frame > MAX_BEHIND) this.#frame = due;
    while (this.#running && this.#frame <= due) this.#send();
    if (this.#running) this.#schedule();
  }

  #send(): void {
    if (this.#sentPackets % REPORT_FRAMES === 0) this.onRtcp?.(0, this.#senderReport());
    const packet = new Uint8Array(12 + TONE_FRAME);
    const view = new DataView(packet.buffer);
    packet[0] = 0x80;
    // RFC 3551 §4.1: the marker says that a talk spurt begins.
    packet[1] = this.#sentPackets === 0 ? 0x80 : 0;
    view.setUint16(2, this.#firstSequence + this.#frame);
    view.setUint32(4, this.#timestamp());
    view.setUint32(8, this.#ssrc);
    packet.set(toneFrame(this.#frame), 12);
    this.#frame++;
    this.#sentPackets++;
    this.onRtp?.(0, packet);
  }

  #timestamp(): number {
    return (this.#firstTimestamp + this.#frame * TONE_FRAME) % 2 ** 32;
  }

  /** SR and SDES with a CNAME, as a compound packet (RFC 3550 §6.1, §6.4.1, §6.5). */
  #senderReport(): Uint8Array {
    const now = this.#clock.now() / 1000 + NTP_OFFSET;
    const cname = utf8("tone@watchword");
    const writer = new Writer("rtcp");
    writer.u8("version", 0x80);
    writer.u8("packetType", 200);
    writer.u16("length", 6);
    writer.u32("ssrc", this.#ssrc);
    writer.u32("ntpSeconds", Math.floor(now) % 2 ** 32);
    writer.u32("ntpFraction", Math.floor((now % 1) * 2 ** 32));
    writer.u32("rtpTimestamp", this.#timestamp());
    writer.u32("packets", this.#sentPackets % 2 ** 32);
    writer.u32("octets", (this.#sentPackets * TONE_FRAME) % 2 ** 32);
    // One chunk: SSRC, the item, and at least one zero octet up to the next word (RFC 3550 §6.5).
    const item = 2 + cname.length;
    const padding = 4 - (item % 4);
    writer.u8("version", 0x81);
    writer.u8("packetType", 202);
    writer.u16("length", 1 + (item + padding) / 4);
    writer.u32("ssrc", this.#ssrc);
    writer.u8("item", 1);
    writer.u8("itemLength", cname.length);
    writer.bytes(cname);
    writer.bytes(new Uint8Array(padding));
    return writer.finish();
  }
}
