import { WatchwordError } from "../bytes/index.js";
import type { PacketCipher, PacketJob, SrtpKeyUsage, SrtpMasterKey, SrtpOptions, SrtpPolicy, SrtpSender } from "./contracts.js";
import { SrtpFailure, srtpError } from "./failures.js";
import { isRtcp, RTCP_CLEAR_HEADER, rtcpSsrc, rtpHeaderLength, rtpSequence, rtpSsrc } from "./headers.js";
import { type HeldKey, KeyRing } from "./key-ring.js";
import { ReplayWindow } from "./replay-window.js";
import { estimateIndex, ROLLOVER_SPAN, rolloverOf, SEQUENCE_SPAN } from "./rollover.js";
import { insertRollover, isCarrier } from "./rollover-carrying.js";
import { RTCP_LIFETIME, RTP_LIFETIME } from "./suites.js";

/** Most packets that are sealed or opened together. */
export const MAX_BATCH = 128;
/** Longest packet that any transport carries; it also keeps AES-CM within its 2^16 blocks per packet (RFC 3711 §4.1.1). */
export const MAX_PACKET = 0xffff;

interface SendingStream {
  readonly ssrc: number;
  rolloverCounter: number;
  /** Highest sequence number sent, -1 before the first. */
  highest: number;
  /** Indices used, so that none is used twice. */
  readonly window: ReplayWindow;
  rtcpIndex: number;
}

/**
 * A sender of SRTP and SRTCP (RFC 3711 §3.3).
 * @throws WatchwordError `srtp.suite`, `srtp.policy`, `srtp.option`, `srtp.no-kernel`, and as `addKey`
 */
export function createSrtpSender(options: SrtpOptions): SrtpSender {
  return new Sender(options);
}

class Sender implements SrtpSender {
  readonly policy: SrtpPolicy;
  readonly rtpOverhead: number;
  readonly rtcpOverhead: number;
  readonly #ring: KeyRing;
  readonly #streams = new Map<number, SendingStream>();
  readonly #jobs: PacketJob[] = [emptyJob()];
  readonly #results = new Int32Array(MAX_BATCH);
  /** Whether nothing happens to packets after they are sealed, and their cipher does not change with the index. */
  readonly #canGather: boolean;
  /** In a batch jobs are gathered, and sealed together. */
  #isGathering = false;
  #gathered = 0;
  #cipher: PacketCipher | undefined;
  #current: HeldKey | undefined;
  #last: SendingStream | undefined;

  constructor(options: SrtpOptions) {
    this.policy = { ...options.policy };
    this.#ring = new KeyRing(options);
    this.rtpOverhead = this.#ring.rtpOverhead;
    this.rtcpOverhead = this.#ring.rtcpOverhead;
    this.#current = this.#ring.newest;
    const { carrying, keyDerivationRate } = this.#ring.policy;
    this.#canGather = carrying === undefined && keyDerivationRate === 0;
  }

  get backend(): string {
    return this.#ring.backend;
  }

  get ssrcs(): readonly number[] {
    return [...this.#streams.keys()];
  }

  protect(packet: Uint8Array, out: Uint8Array): number {
    return orThrow(this.#protect(packet, out));
  }

  protectBatch(packets: readonly Uint8Array[], outs: readonly Uint8Array[], lengths: Int32Array): number {
    if (this.#ring.closed) throw srtpError(SrtpFailure.closed);
    this.#isGathering = this.#canGather;
    let done = 0;
    for (let i = 0; i < packets.length; i++) {
      const length = this.#protect(packets[i] as Uint8Array, outs[i] as Uint8Array);
      lengths[i] = length;
      if (length > 0) done++;
    }
    this.#sealGathered();
    this.#isGathering = false;
    return done;
  }

  protectRtcp(packet: Uint8Array, out: Uint8Array): number {
    return orThrow(this.#protectRtcp(packet, out));
  }

  addKey(key: SrtpMasterKey): void {
    this.#ring.add(key);
  }

  useKey(mki?: Uint8Array): void {
    const key = mki === undefined || mki.length === 0 ? this.#ring.newest : this.#ring.byMki(mki);
    if (key === undefined) throw srtpError(this.#ring.closed ? SrtpFailure.closed : SrtpFailure.unknownMki);
    this.#current = key;
  }

  removeKey(mki?: Uint8Array): boolean {
    const removed = this.#ring.remove(mki);
    if (removed !== undefined && removed === this.#current) this.#current = undefined;
    return removed !== undefined;
  }

  keyUsage(mki?: Uint8Array): SrtpKeyUsage | undefined {
    return this.#ring.usage(mki);
  }

  rolloverCounter(ssrc: number): number | undefined {
    return this.#streams.get(ssrc >>> 0)?.rolloverCounter;
  }

  highestSequence(ssrc: number): number | undefined {
    const highest = this.#streams.get(ssrc >>> 0)?.highest ?? -1;
    return highest < 0 ? undefined : highest;
  }

  setRolloverCounter(ssrc: number, rolloverCounter: number): void {
    checkRollover(rolloverCounter);
    const stream = this.#streams.get(ssrc >>> 0) ?? this.#begin(ssrc >>> 0);
    if (stream === undefined) throw srtpError(SrtpFailure.ssrcLimit);
    if (stream.highest >= 0 && rolloverCounter < stream.rolloverCounter) {
      throw new WatchwordError("srtp.index-reuse", "a rollover counter cannot go back: packet indices would be used twice");
    }
    stream.rolloverCounter = rolloverCounter;
  }

  close(): void {
    this.#ring.close();
    this.#streams.clear();
    this.#last = undefined;
    this.#current = undefined;
  }

  #protect(packet: Uint8Array, out: Uint8Array): number {
    const key = this.#current;
    if (key === undefined) return SrtpFailure.closed;
    const headerLength = rtpHeaderLength(packet);
    if (headerLength < 0 || packet.length > MAX_PACKET) return SrtpFailure.malformed;
    const { carrying, encryptRtp } = this.#ring.policy;
    const { elements } = this.#ring;
    if (elements !== undefined && !elements.scan(packet, headerLength)) return SrtpFailure.malformed;
    if (out.length < packet.length + this.rtpOverhead) return SrtpFailure.outputSpace;
    const stream = this.#stream(rtpSsrc(packet));
    if (stream === undefined) return SrtpFailure.ssrcLimit;
    const sequence = rtpSequence(packet);
    const index =
      stream.highest < 0
        ? stream.rolloverCounter * SEQUENCE_SPAN + sequence
        : estimateIndex(stream.rolloverCounter, stream.highest, sequence);
    if (index >= RTP_LIFETIME || key.rtpPackets >= key.rtpLifetime) return SrtpFailure.lifetime;
    // One keystream for two packets would give both away (RFC 3711 §9.1).
    if (index < 0 || !stream.window.isNew(index)) return SrtpFailure.replay;
    stream.window.mark(index);
    if (index === stream.window.highest) {
      stream.rolloverCounter = rolloverOf(index);
      stream.highest = sequence;
    }
    key.rtpPackets++;
    let input = packet;
    if (elements !== undefined && elements.count > 0) {
      // Before authentication (RFC 6904 §3), and not in the caller's packet: the copy is then sealed in place.
      out.set(packet);
      input = out.subarray(0, packet.length);
      key.headerCipher(index)?.apply(input, elements, stream.ssrc, index);
    }
    if (carrying === undefined || !isCarrier(carrying, packet)) {
      return this.#seal(key.rtpCipher(index), input, out, headerLength, encryptRtp, stream.ssrc, index);
    }
    const end = this.#seal(key.carrierCipher(index), input, out, headerLength, encryptRtp, stream.ssrc, index);
    return insertRollover(carrying, out, end, rolloverOf(index));
  }

  #protectRtcp(packet: Uint8Array, out: Uint8Array): number {
    const key = this.#current;
    if (key === undefined) return SrtpFailure.closed;
    if (!isRtcp(packet) || packet.length > MAX_PACKET) return SrtpFailure.malformed;
    if (out.length < packet.length + this.rtcpOverhead) return SrtpFailure.outputSpace;
    const stream = this.#stream(rtcpSsrc(packet));
    if (stream === undefined) return SrtpFailure.ssrcLimit;
    // The count of a key reaches its limit no later than the index of any SSRC returns, so the index may go round (RFC 3711 §3.4).
    if (key.rtcpPackets >= key.rtcpLifetime) return SrtpFailure.lifetime;
    const index = stream.rtcpIndex;
    stream.rtcpIndex = (index + 1) % RTCP_LIFETIME;
    key.rtcpPackets++;
    return this.#seal(key.rtcpCipher(index), packet, out, RTCP_CLEAR_HEADER, this.#ring.policy.encryptRtcp, stream.ssrc, index);
  }

  #seal(
    cipher: PacketCipher,
    packet: Uint8Array,
    out: Uint8Array,
    headerLength: number,
    encrypted: boolean,
    ssrc: number,
    index: number,
  ): number {
    const job = this.#jobs[this.#gathered] as PacketJob;
    job.input = packet;
    job.output = out;
    job.headerLength = headerLength;
    job.encrypted = encrypted;
    job.ssrc = ssrc;
    job.index = index;
    if (!this.#isGathering) {
      cipher.seal(this.#jobs, 1, this.#results);
      return this.#results[0] as number;
    }
    this.#cipher = cipher;
    this.#gathered++;
    if (this.#gathered === this.#jobs.length) this.#jobs.push(emptyJob());
    if (this.#gathered === MAX_BATCH) this.#sealGathered();
    return packet.length + cipher.overhead;
  }

  #sealGathered(): void {
    if (this.#gathered > 0) this.#cipher?.seal(this.#jobs, this.#gathered, this.#results);
    this.#gathered = 0;
  }

  #stream(ssrc: number): SendingStream | undefined {
    let stream = this.#last;
    if (stream === undefined || stream.ssrc !== ssrc) {
      stream = this.#streams.get(ssrc) ?? this.#begin(ssrc);
      this.#last = stream;
    }
    return stream;
  }

  #begin(ssrc: number): SendingStream | undefined {
    if (this.#streams.size >= this.#ring.policy.maxSsrcs) return undefined;
    const window = new ReplayWindow(this.#ring.policy.replayWindow);
    const stream = { ssrc, rolloverCounter: 0, highest: -1, window, rtcpIndex: 0 };
    this.#streams.set(ssrc, stream);
    return stream;
  }
}

/** @throws WatchwordError `srtp.option` */
export function checkRollover(rolloverCounter: number): void {
  if (!Number.isInteger(rolloverCounter) || rolloverCounter < 0 || rolloverCounter >= ROLLOVER_SPAN) {
    throw new WatchwordError("srtp.option", "a rollover counter is an integer from 0 to 2^32 - 1");
  }
}

/** A job to be filled packet after packet. */
export function emptyJob(): PacketJob {
  const nothing = new Uint8Array(0);
  return { input: nothing, output: nothing, headerLength: 0, encrypted: false, ssrc: 0, index: 0 };
}

function orThrow(result: number): number {
  if (result >= 0) return result;
  if (result === SrtpFailure.replay) {
    throw new WatchwordError("srtp.index-reuse", "the packet index was used before or is older than the window");
  }
  throw srtpError(result);
}
