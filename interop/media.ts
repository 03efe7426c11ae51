import { createHash } from "node:crypto";
import { Writer } from "../src/bytes/index.js";
import { TONE_FRAME, TONE_PERIOD, toneFrame } from "../src/node/index.js";
import {
  createSrtpReceiver,
  createSrtpSender,
  type SrtpPolicy,
  type SrtpReceiver,
  type SrtpSender,
  type SuiteName,
  suiteOf,
} from "../src/srtp/index.js";

/** Where a stream of test packets begins. */
export interface StreamStart {
  readonly ssrc: number;
  readonly sequence: number;
  readonly timestamp?: number;
}

/** PCMU packets that carry the frames of the built-in tone from frame 0 on. */
export function tonePackets(count: number, start: StreamStart): Uint8Array[] {
  return Array.from({ length: count }, (_, index) => {
    const writer = new Writer("rtp", 12 + TONE_FRAME);
    writer.u8("version", 0x80);
    writer.u8("payloadType", 0);
    writer.u16("sequence", (start.sequence + index) % 0x10000);
    writer.u32("timestamp", ((start.timestamp ?? 0) + index * TONE_FRAME) % 2 ** 32);
    writer.u32("ssrc", start.ssrc);
    writer.bytes(toneFrame(index));
    return writer.finish();
  });
}

/** An RTCP receiver report without blocks and an SDES CNAME, as a compound packet. */
export function rtcpReport(ssrc: number): Uint8Array {
  const writer = new Writer("rtcp", 28);
  writer.u32("receiverReport", 0x80c90001);
  writer.u32("ssrc", ssrc);
  writer.u32("sdes", 0x81ca0003);
  writer.u32("ssrc", ssrc);
  writer.u32("cname", 0x0104_7465);
  writer.u32("cname", 0x7374_0000);
  return writer.finish();
}

/** Master key and salt for a suite, as one string of octets: what peers call the key. */
export function masterKey(suite: SuiteName, first = 1): Uint8Array {
  const { keyLength, saltLength } = suiteOf(suite);
  return Uint8Array.from({ length: keyLength + saltLength }, (_, i) => (first + 7 * i) & 0xff);
}

/** Options that a sender and a receiver share. */
export interface SessionInput {
  readonly suite: SuiteName;
  readonly octets: Uint8Array;
  readonly mki?: Uint8Array;
  /** Where a peer departs from the suite. */
  readonly policy?: Partial<SrtpPolicy>;
}

function sessionOptions({ suite, octets, mki, policy }: SessionInput) {
  const { keyLength } = suiteOf(suite);
  const key = { key: octets.subarray(0, keyLength), salt: octets.subarray(keyLength), ...(mki === undefined ? {} : { mki }) };
  return { policy: { suite, ...policy }, keys: [key] };
}

export function srtpSender(input: SessionInput): SrtpSender {
  return createSrtpSender(sessionOptions(input));
}

export function srtpReceiver(input: SessionInput): SrtpReceiver {
  return createSrtpReceiver(sessionOptions(input));
}

/** One packet protected; `rtcp` takes the SRTCP way. */
export function protect(sender: SrtpSender, packet: Uint8Array, kind: "rtp" | "rtcp" = "rtp"): Uint8Array {
  const out = new Uint8Array(packet.length + Math.max(sender.rtpOverhead, sender.rtcpOverhead));
  return out.slice(0, kind === "rtp" ? sender.protect(packet, out) : sender.protectRtcp(packet, out));
}

/** One packet opened, or the negative number that says why not. */
export function unprotect(receiver: SrtpReceiver, packet: Uint8Array, kind: "rtp" | "rtcp" = "rtp"): Uint8Array | number {
  const out = new Uint8Array(packet.length);
  const length = kind === "rtp" ? receiver.unprotect(packet, out) : receiver.unprotectRtcp(packet, out);
  return length < 0 ? length : out.slice(0, length);
}

export function sha256(octets: Uint8Array): string {
  return createHash("sha256").update(octets).digest("hex");
}

const frameHashes = Array.from({ length: TONE_PERIOD }, (_, index) => sha256(toneFrame(index)));

/** Frames of the tone as hashes, from the one that `first` names: what a receiver that began there has to have got. */
export function toneHashesFrom(first: string | undefined, count: number): string[] {
  const at = frameHashes.indexOf(first ?? "");
  if (at < 0) throw new Error("what was received first is not a frame of the tone");
  return Array.from({ length: count }, (_, index) => frameHashes[(at + index) % TONE_PERIOD] as string);
}

/** The hashes of octets cut into frames of 20 ms of PCMU; an incomplete last one is left out. */
export function frameHashesOf(octets: Uint8Array): string[] {
  const count = Math.floor(octets.length / TONE_FRAME);
  return Array.from({ length: count }, (_, index) => sha256(octets.subarray(index * TONE_FRAME, (index + 1) * TONE_FRAME)));
}
