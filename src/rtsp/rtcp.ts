import { utf8, Writer } from "../bytes/index.js";

/** A reception report block (RFC 3550 §6.4.1). */
export interface ReportBlock {
  readonly ssrc: number;
  /** 1/256 of the packets expected since the last report. */
  readonly fractionLost: number;
  /** 24 bits, signed: duplicates count against it. */
  readonly cumulativeLost: number;
  readonly extendedHighestSequence: number;
  /** In units of the media clock. */
  readonly jitter: number;
  /** Middle 32 bits of the NTP time of the last sender report, 0 before one. */
  readonly lastSenderReport: number;
  /** In 1/65536 seconds. */
  readonly delaySinceLastSenderReport: number;
}

/** What a receiver knows of one source (RFC 3550 §6.4, appendix A). */
export interface ReceptionStatistics {
  /** Notes a packet that was accepted. @param atMs arrival, any steady clock */
  packet(sequence: number, timestamp: number, atMs: number): void;
  /** Notes a sender report. @param ntpMiddle middle 32 bits of its NTP time */
  senderReport(ntpMiddle: number, atMs: number): void;
  /** Packets expected less packets received, at least 0. */
  readonly lost: number;
  readonly received: number;
  /** The next report block; undefined before the first packet. */
  report(nowMs: number): ReportBlock | undefined;
}

const MAX_DROPOUT = 3000;

/** Creates the statistics of one source. @param clockRate Hz of its media clock */
export function createReceptionStatistics(ssrc: number, clockRate: number): ReceptionStatistics {
  let base: number | undefined;
  let highest = 0;
  let cycles = 0;
  let received = 0;
  let jitter = 0;
  let lastTransit: number | undefined;
  let expectedPrior = 0;
  let receivedPrior = 0;
  let reportNtp = 0;
  let reportAt = 0;

  const extended = (): number => cycles + highest;
  const expected = (): number => (base === undefined ? 0 : extended() - base + 1);

  return {
    packet(sequence, timestamp, atMs) {
      received++;
      if (base === undefined) {
        base = sequence;
        highest = sequence;
      } else {
        // RFC 3550 A.1: a step forward, across the wrap included; anything else is a late or repeated packet.
        const step = (sequence - highest) & 0xffff;
        if (step > 0 && step < 0x8000) {
          if (sequence < highest) cycles += 65_536;
          highest = sequence;
          // A jump: the source went on elsewhere, and what lies between was never sent.
          if (step >= MAX_DROPOUT) base += step - 1;
        }
      }
      // RFC 3550 §6.4.1, A.8.
      const transit = (atMs * clockRate) / 1000 - timestamp;
      if (lastTransit !== undefined) {
        const difference = Math.abs(transit - lastTransit);
        // A wrapped timestamp is no jitter.
        if (difference < 2 ** 31) jitter += (difference - jitter) / 16;
      }
      lastTransit = transit;
    },
    senderReport(ntpMiddle, atMs) {
      reportNtp = ntpMiddle;
      reportAt = atMs;
    },
    get lost() {
      return Math.max(0, expected() - received);
    },
    get received() {
      return received;
    },
    report(nowMs) {
      if (base === undefined) return undefined;
      // RFC 3550 A.3.
      const expectedNow = expected();
      const expectedInterval = expectedNow - expectedPrior;
      const lostInterval = expectedInterval - (received - receivedPrior);
      expectedPrior = expectedNow;
      receivedPrior = received;
      return {
        ssrc,
        fractionLost:
          expectedInterval <= 0 || lostInterval <= 0 ? 0 : Math.min(255, Math.floor((lostInterval * 256) / expectedInterval)),
        cumulativeLost: Math.max(-0x800000, Math.min(0x7fffff, expectedNow - received)),
        extendedHighestSequence: extended() % 2 ** 32,
        jitter: Math.floor(jitter) % 2 ** 32,
        lastSenderReport: reportNtp,
        // A clock that was set back must not make a report that cannot be written.
        delaySinceLastSenderReport: reportNtp === 0 ? 0 : Math.floor((Math.max(0, nowMs - reportAt) * 65_536) / 1000) % 2 ** 32,
      };
    },
  };
}

/** A receiver report and a source description with a CNAME: the least compound packet (RFC 3550 §6.1, §6.4.2, §6.5). At most 31 blocks. */
export function encodeReceiverReport(ssrc: number, cname: string, blocks: readonly ReportBlock[]): Uint8Array {
  const writer = new Writer("rtcp");
  writer.u8("version", 0x80 | blocks.length);
  writer.u8("packetType", 201);
  writer.u16("length", 1 + 6 * blocks.length);
  writer.u32("ssrc", ssrc);
  for (const block of blocks) {
    writer.u32("source", block.ssrc);
    writer.u8("fractionLost", block.fractionLost);
    writer.u24("cumulativeLost", block.cumulativeLost & 0xffffff);
    writer.u32("extendedHighestSequence", block.extendedHighestSequence);
    writer.u32("jitter", block.jitter);
    writer.u32("lastSenderReport", block.lastSenderReport);
    writer.u32("delaySinceLastSenderReport", block.delaySinceLastSenderReport);
  }
  const name = utf8(cname).subarray(0, 255);
  // One chunk: SSRC, the item, and at least one zero octet up to the next word.
  const item = 2 + name.length;
  const padding = 4 - (item % 4);
  writer.u8("version", 0x81);
  writer.u8("packetType", 202);
  writer.u16("length", 1 + (item + padding) / 4);
  writer.u32("ssrc", ssrc);
  writer.u8("item", 1);
  writer.u8("itemLength", name.length);
  writer.bytes(name);
  writer.bytes(new Uint8Array(padding));
  return writer.finish();
}

/** The sender report at the front of a compound packet, or undefined. */
export function readSenderReport(
  packet: Uint8Array,
): { readonly ssrc: number /** Middle 32 bits of the NTP time. */; readonly ntpMiddle: number } | undefined {
  if (packet.length < 28 || (packet[0] as number) >> 6 !== 2 || packet[1] !== 200) return undefined;
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  return { ssrc: view.getUint32(4), ntpMiddle: view.getUint32(10) };
}

/** Whether octets look like RTCP and not RTP or junk: version 2 and a packet type of RFC 5761 §4. */
export function looksLikeRtcp(packet: Uint8Array): boolean {
  return packet.length >= 8 && (packet[0] as number) >> 6 === 2 && (packet[1] as number) >= 192 && (packet[1] as number) <= 223;
}

/** Sequence number, timestamp and SSRC of an RTP packet, or undefined where it is none. */
export function readRtpHeader(
  packet: Uint8Array,
): { readonly sequence: number; readonly timestamp: number; readonly ssrc: number } | undefined {
  if (packet.length < 12 || (packet[0] as number) >> 6 !== 2) return undefined;
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  return { sequence: view.getUint16(2), timestamp: view.getUint32(4), ssrc: view.getUint32(8) };
}
