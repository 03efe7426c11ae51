import { WatchwordError } from "../bytes/index.js";
import type {
  PacketCipher,
  PacketJob,
  SrtpKeyUsage,
  SrtpMasterKey,
  SrtpPolicy,
  SrtpReceiver,
  SrtpReceiverOptions,
  SrtpStatistics,
} from "./contracts.js";
import { SrtpFailure, srtpError } from "./failures.js";
import { isRtcp, RTCP_CLEAR_HEADER, readU32, rtcpSsrc, rtpHeaderLength, rtpSequence, rtpSsrc } from "./headers.js";
import { type HeldKey, KeyRing } from "./key-ring.js";
import { INDEX_WORD } from "./packet-cipher.js";
import { ReplayWindow } from "./replay-window.js";
import { estimateIndex, ROLLOVER_SPAN, rolloverOf, SEQUENCE_SPAN } from "./rollover.js";
import { CARRIED_ROLLOVER, CarrierReader, isCarrier } from "./rollover-carrying.js";
import { checkRollover, emptyJob, MAX_BATCH, MAX_PACKET } from "./sender.js";
import { RTP_LIFETIME } from "./suites.js";

interface ReceivingStream {
  readonly ssrc: number;
  rolloverCounter: number;
  /** s_l, the highest authentic sequence number; -1 before the first. */
  highest: number;
  readonly window: ReplayWindow;
  readonly rtcpWindow: ReplayWindow;
  /** Authentic carriers, in the rollover carrying mode in which other packets are not authenticated. */
  readonly carrierWindow: ReplayWindow | undefined;
  /** The key that opened the last packet: where packets name no key, it is tried first. */
  key: HeldKey | undefined;
  /** The highest index that waits in a batch, -1 for none. */
  gathered: number;
}

/** Indices nearer than this to the highest one are estimated alike whichever of them is the highest: half of RFC 3711 §3.3.1's 2^15. */
const NEAR = 0x4000;

/**
 * A receiver of SRTP and SRTCP (RFC 3711 §3.3).
 * @throws WatchwordError `srtp.suite`, `srtp.policy`, `srtp.option`, `srtp.no-kernel`, and as `addKey`
 */
export function createSrtpReceiver(options: SrtpReceiverOptions): SrtpReceiver {
  return new Receiver(options);
}

class Receiver implements SrtpReceiver {
  readonly policy: SrtpPolicy;
  readonly statistics = noStatistics();
  readonly rtcpStatistics = noStatistics();
  readonly #ring: KeyRing;
  readonly #aead: boolean;
  readonly #initialRollover: number;
  readonly #searchRollover: boolean;
  readonly #isSynchronized: (ssrc: number) => boolean;
  readonly #carriers: CarrierReader | undefined;
  /** Whether the packet under way carries its rollover counter. */
  #carries = false;
  readonly #streams = new Map<number, ReceivingStream>();
  readonly #jobs: [PacketJob, ...PacketJob[]] = [emptyJob()];
  readonly #results = new Int32Array(MAX_BATCH);
  /** Whether nothing happens to packets after they are opened, and their cipher does not change with the index. */
  readonly #canGather: boolean;
  /** Packets of a batch that wait to be opened together: how many, their key, and of each the SSRC and its place in the batch. */
  #gathered = 0;
  #gatheredKey: HeldKey | undefined;
  readonly #gatheredStreams: ReceivingStream[] = [];
  readonly #places = new Int32Array(MAX_BATCH);
  #last: ReceivingStream | undefined;
  /** The key that opened the last packet of `#openUnnamed`. */
  #opened: HeldKey | undefined;

  constructor(options: SrtpReceiverOptions) {
    const { initialRolloverCounter = 0, searchRolloverCounter = false, isRolloverSynchronized = () => false } = options;
    checkRollover(initialRolloverCounter);
    this.policy = { ...options.policy };
    this.#ring = new KeyRing(options);
    this.#aead = this.#ring.policy.suite.cipher === "gcm";
    this.#initialRollover = initialRolloverCounter;
    this.#searchRollover = searchRolloverCounter;
    this.#isSynchronized = isRolloverSynchronized;
    const { carrying, keyDerivationRate } = this.#ring.policy;
    this.#canGather = carrying === undefined && keyDerivationRate === 0 && this.#ring.elements === undefined;
    this.#carriers = carrying === undefined ? undefined : new CarrierReader(carrying);
  }

  get backend(): string {
    return this.#ring.backend;
  }

  get ssrcs(): readonly number[] {
    return [...this.#streams.keys()];
  }

  unprotect(packet: Uint8Array, out: Uint8Array): number {
    const result = this.#unprotect(packet, out);
    countResult(this.statistics, result);
    return result;
  }

  unprotectBatch(packets: readonly Uint8Array[], outs: readonly Uint8Array[], lengths: Int32Array): number {
    let done = 0;
    for (let i = 0; i < packets.length; i++) {
      const packet = packets[i] as Uint8Array;
      const out = outs[i] as Uint8Array;
      if (this.#gather(packet, out, i)) continue;
      done += this.#openGathered(lengths);
      if (this.#gather(packet, out, i)) continue;
      const length = this.unprotect(packet, out);
      lengths[i] = length;
      if (length > 0) done++;
    }
    return done + this.#openGathered(lengths);
  }

  unprotectRtcp(packet: Uint8Array, out: Uint8Array): number {
    const result = this.#unprotectRtcp(packet, out);
    countResult(this.rtcpStatistics, result);
    return result;
  }

  addKey(key: SrtpMasterKey): void {
    this.#ring.add(key);
  }

  removeKey(mki?: Uint8Array): boolean {
    const removed = this.#ring.remove(mki);
    if (removed === undefined) return false;
    for (const stream of this.#streams.values()) if (stream.key === removed) stream.key = undefined;
    if (this.#opened === removed) this.#opened = undefined;
    if (this.#gatheredKey === removed) this.#gatheredKey = undefined;
    return true;
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

  setRolloverCounter(ssrc: number, rolloverCounter: number, sequence?: number): void {
    checkRollover(rolloverCounter);
    if (sequence !== undefined && (!Number.isInteger(sequence) || sequence < 0 || sequence >= SEQUENCE_SPAN)) {
      throw new WatchwordError("srtp.option", "a sequence number is an integer from 0 to 2^16 - 1");
    }
    let stream = this.#streams.get(ssrc >>> 0);
    if (stream === undefined) {
      if (this.#isFull()) throw srtpError(SrtpFailure.ssrcLimit);
      stream = this.#begin(ssrc >>> 0);
    }
    stream.rolloverCounter = rolloverCounter;
    stream.highest = sequence ?? -1;
    stream.window.reset();
    stream.carrierWindow?.reset();
  }

  forget(ssrc: number): boolean {
    if (this.#last?.ssrc === ssrc >>> 0) this.#last = undefined;
    return this.#streams.delete(ssrc >>> 0);
  }

  close(): void {
    this.#ring.close();
    this.#streams.clear();
    this.#last = undefined;
    this.#opened = undefined;
    this.#gatheredKey = undefined;
    this.#gatheredStreams.length = 0;
  }

  /**
   * Takes a packet of a batch along to be opened with others, if that comes to the same as opening one after the other: its SSRC is
   * known, there is one key for it, and neither its index nor whether that is new depends on which of the packets before it are authentic.
   */
  #gather(packet: Uint8Array, out: Uint8Array, place: number): boolean {
    const ring = this.#ring;
    const at = this.#gathered;
    if (!this.#canGather || at === MAX_BATCH) return false;
    const end = packet.length - ring.rtpOverhead;
    const headerLength = rtpHeaderLength(packet, end);
    if (headerLength < 0 || packet.length > MAX_PACKET || out.length < end) return false;
    const isNamed = ring.wireMkiLength > 0;
    if (!isNamed && ring.keys.length !== 1) return false;
    const key = isNamed ? ring.named(packet, this.#aead ? packet.length - ring.wireMkiLength : end) : ring.keys[0];
    if (key === undefined || key.rtpPackets + at >= key.rtpLifetime) return false;
    const stream = this.#find(rtpSsrc(packet));
    if (stream === undefined) return false;
    const { highest } = stream.window;
    const index = estimateIndex(stream.rolloverCounter, stream.highest, rtpSequence(packet));
    if (highest < 0 || index < 0 || index >= RTP_LIFETIME) return false;
    if (Math.abs(index - highest) >= NEAR || !stream.window.isNew(index)) return false;
    if (at > 0 && (this.#gatheredKey !== key || index <= stream.gathered)) return false;
    stream.gathered = index;
    if (at === this.#jobs.length) this.#jobs.push(emptyJob());
    const job = this.#jobs[at] as PacketJob;
    job.input = packet;
    job.output = out;
    job.headerLength = headerLength;
    job.encrypted = ring.policy.encryptRtp;
    job.ssrc = stream.ssrc;
    job.index = index;
    this.#gatheredKey = key;
    this.#gatheredStreams[at] = stream;
    this.#places[at] = place;
    this.#gathered++;
    return true;
  }

  /** Opens what was gathered. @returns how many packets were opened */
  #openGathered(lengths: Int32Array): number {
    const key = this.#gatheredKey;
    const count = this.#gathered;
    if (count === 0 || key === undefined) return 0;
    this.#gathered = 0;
    key.rtpCipher(0).open(this.#jobs, count, this.#results);
    let done = 0;
    for (let i = 0; i < count; i++) {
      const stream = this.#gatheredStreams[i] as ReceivingStream;
      const { index } = this.#jobs[i] as PacketJob;
      const opened = this.#results[i] as number;
      const result = opened < 0 ? SrtpFailure.authentication : opened;
      if (result >= 0) {
        key.rtpPackets++;
        stream.key = key;
        this.#opened = key;
        accept(stream, index, index & 0xffff);
        done++;
      }
      stream.gathered = -1;
      lengths[this.#places[i] as number] = result;
      countResult(this.statistics, result);
    }
    return done;
  }

  /** RFC 3711 §3.3, steps 1 to 8. */
  #unprotect(packet: Uint8Array, out: Uint8Array): number {
    const ring = this.#ring;
    if (ring.keys.length === 0) return SrtpFailure.closed;
    const end = packet.length - this.#rtpOverhead(packet);
    const headerLength = rtpHeaderLength(packet, end);
    if (headerLength < 0 || packet.length > MAX_PACKET) return SrtpFailure.malformed;
    if (ring.elements !== undefined && !ring.elements.scan(packet, headerLength)) return SrtpFailure.malformed;
    if (out.length < end) return SrtpFailure.outputSpace;
    let named: HeldKey | undefined;
    if (ring.wireMkiLength > 0) {
      const behindMki = this.#carries ? CARRIED_ROLLOVER : 0;
      named = ring.named(packet, this.#aead ? packet.length - behindMki - ring.wireMkiLength : end);
      if (named === undefined) return SrtpFailure.unknownMki;
    }
    const ssrc = rtpSsrc(packet);
    const stream = this.#find(ssrc);
    if (stream === undefined && this.#isFull()) return SrtpFailure.ssrcLimit;
    const sequence = rtpSequence(packet);
    const input = this.#carries ? (this.#carriers as CarrierReader).read(packet) : packet;
    this.#fill(input, out, headerLength, ring.policy.encryptRtp, ssrc);
    if (this.#carries && !(ring.policy.carrying?.isUnauthenticated && this.#isSynchronized(ssrc))) {
      return this.#openCarrier(stream, named, ssrc, sequence);
    }
    if (stream === undefined || stream.window.highest < 0) return this.#openFirst(stream, named, ssrc, sequence);

    const index = estimateIndex(stream.rolloverCounter, stream.highest, sequence);
    if (index >= RTP_LIFETIME) return SrtpFailure.lifetime;
    if (index < 0 || !stream.window.isNew(index)) return SrtpFailure.replay;
    const result = this.#openRtp(stream, named, index);
    if (result >= 0) accept(stream, index, sequence);
    return result;
  }

  /** Octets behind the payload: with rollover carrying they depend on the sequence number. */
  #rtpOverhead(packet: Uint8Array): number {
    const { policy, rtpOverhead, wireMkiLength } = this.#ring;
    const { carrying } = policy;
    if (carrying === undefined) return rtpOverhead;
    this.#carries = rtpHeaderLength(packet) >= 0 && isCarrier(carrying, packet);
    return wireMkiLength + (this.#carries ? CARRIED_ROLLOVER + carrying.carrierMac : carrying.otherMac);
  }

  /**
   * A packet that carries its rollover counter is opened under that, and the receiver's own is set to it once the packet is
   * authentic (RFC 4771 §2). In mode 3 without AEAD nothing is: the counter is taken as it is (§3).
   */
  #openCarrier(stream: ReceivingStream | undefined, named: HeldKey | undefined, ssrc: number, sequence: number): number {
    const index = (this.#carriers as CarrierReader).rolloverCounter * SEQUENCE_SPAN + sequence;
    const known = stream !== undefined && stream.window.highest >= 0;
    const isExpected = known && estimateIndex(stream.rolloverCounter, stream.highest, sequence) === index;
    const trusted = this.#ring.policy.carrying?.everyPacketAuthentic === true;
    // What unauthenticated packets have left in the window must not keep an authentic counter out.
    const window = trusted || (isExpected && stream.carrierWindow === undefined) ? stream?.window : stream?.carrierWindow;
    if (window !== undefined && !window.isNew(index)) return SrtpFailure.replay;
    const result = this.#openRtp(stream, named, index);
    if (result < 0) return result;
    const receiving = stream ?? this.#begin(ssrc);
    receiving.key = this.#opened;
    receiving.carrierWindow?.mark(index);
    if (!trusted && !(isExpected && receiving.window.isNew(index))) receiving.window.reset();
    accept(receiving, index, sequence);
    return result;
  }

  /** Before the first authentic packet the ROC is the one signalled, or else is searched for. */
  #openFirst(stream: ReceivingStream | undefined, named: HeldKey | undefined, ssrc: number, sequence: number): number {
    const rollover = stream?.rolloverCounter ?? this.#initialRollover;
    const known = stream?.highest ?? -1;
    let index = known < 0 ? rollover * SEQUENCE_SPAN + sequence : estimateIndex(rollover, known, sequence);
    let result: number =
      index < 0 ? SrtpFailure.replay : index >= RTP_LIFETIME ? SrtpFailure.lifetime : this.#openRtp(stream, named, index);
    if (result === SrtpFailure.authentication && this.#searchRollover) {
      const tried = rolloverOf(index);
      for (let trial = 0; trial < 3 && result === SrtpFailure.authentication; trial++) {
        const other = trial === 0 ? tried + 1 : trial === 1 ? tried - 1 : 0;
        if (other < 0 || other >= ROLLOVER_SPAN || (trial === 2 && tried <= 1)) continue;
        index = other * SEQUENCE_SPAN + sequence;
        result = this.#openRtp(stream, named, index);
      }
    }
    if (result < 0) return result;
    const begun = stream ?? this.#begin(ssrc);
    begun.key = this.#opened;
    accept(begun, index, sequence);
    return result;
  }

  #unprotectRtcp(packet: Uint8Array, out: Uint8Array): number {
    const ring = this.#ring;
    if (ring.keys.length === 0) return SrtpFailure.closed;
    const end = packet.length - ring.rtcpOverhead;
    if (!isRtcp(packet, end) || packet.length > MAX_PACKET) return SrtpFailure.malformed;
    if (out.length < end) return SrtpFailure.outputSpace;
    // HMAC: … | index word | MKI | tag (RFC 3711 §3.4). AEAD: … tag | index word | MKI (RFC 7714 §9.2).
    const wordAt = this.#aead ? packet.length - ring.wireMkiLength - INDEX_WORD : end;
    let named: HeldKey | undefined;
    if (ring.wireMkiLength > 0) {
      named = ring.named(packet, wordAt + INDEX_WORD);
      if (named === undefined) return SrtpFailure.unknownMki;
    }
    const ssrc = rtcpSsrc(packet);
    const stream = this.#find(ssrc);
    if (stream === undefined && this.#isFull()) return SrtpFailure.ssrcLimit;
    const word = readU32(packet, wordAt);
    const index = word & 0x7fff_ffff;
    if (stream !== undefined && !stream.rtcpWindow.isNew(index)) return SrtpFailure.replay;
    this.#fill(packet, out, RTCP_CLEAR_HEADER, word >= 0x8000_0000, ssrc);
    const result = this.#openRtcp(stream, named, index);
    if (result >= 0) (stream ?? this.#begin(ssrc)).rtcpWindow.mark(index);
    return result;
  }

  #openRtp(stream: ReceivingStream | undefined, named: HeldKey | undefined, index: number): number {
    if (named !== undefined) return this.#openRtpUnder(named, index);
    const likely = stream?.key;
    let result: number = SrtpFailure.authentication;
    if (likely !== undefined) {
      result = this.#openRtpUnder(likely, index);
      if (result >= 0) return result;
    }
    const { keys } = this.#ring;
    for (let i = keys.length - 1; i >= 0; i--) {
      const key = keys[i] as HeldKey;
      if (key === likely) continue;
      const other = this.#openRtpUnder(key, index);
      if (other >= 0) {
        if (stream !== undefined) stream.key = key;
        return other;
      }
      if (other === SrtpFailure.lifetime) result = other;
    }
    return result;
  }

  #openRtpUnder(key: HeldKey, index: number): number {
    if (key.rtpPackets >= key.rtpLifetime) return SrtpFailure.lifetime;
    const result = this.#open(this.#carries ? key.carrierCipher(index) : key.rtpCipher(index), index);
    if (result < 0) return SrtpFailure.authentication;
    const { elements } = this.#ring;
    if (elements !== undefined && elements.count > 0) {
      const [job] = this.#jobs;
      key.headerCipher(index)?.apply(job.output, elements, job.ssrc, index);
    }
    key.rtpPackets++;
    this.#opened = key;
    return result;
  }

  #openRtcp(stream: ReceivingStream | undefined, named: HeldKey | undefined, index: number): number {
    if (named !== undefined) return this.#openRtcpUnder(named, index);
    const likely = stream?.key;
    let result: number = likely === undefined ? SrtpFailure.authentication : this.#openRtcpUnder(likely, index);
    const { keys } = this.#ring;
    for (let i = keys.length - 1; i >= 0 && result < 0; i--) {
      const key = keys[i] as HeldKey;
      if (key !== likely) result = this.#openRtcpUnder(key, index);
    }
    return result;
  }

  #openRtcpUnder(key: HeldKey, index: number): number {
    if (key.rtcpPackets >= key.rtcpLifetime) return SrtpFailure.lifetime;
    const result = this.#open(key.rtcpCipher(index), index);
    if (result < 0) return SrtpFailure.authentication;
    key.rtcpPackets++;
    return result;
  }

  #fill(packet: Uint8Array, out: Uint8Array, headerLength: number, encrypted: boolean, ssrc: number): void {
    const job = this.#jobs[0];
    job.input = packet;
    job.output = out;
    job.headerLength = headerLength;
    job.encrypted = encrypted;
    job.ssrc = ssrc;
  }

  #open(cipher: PacketCipher, index: number): number {
    this.#jobs[0].index = index;
    cipher.open(this.#jobs, 1, this.#results);
    return this.#results[0] as number;
  }

  #find(ssrc: number): ReceivingStream | undefined {
    const last = this.#last;
    if (last !== undefined && last.ssrc === ssrc) return last;
    const stream = this.#streams.get(ssrc);
    if (stream !== undefined) this.#last = stream;
    return stream;
  }

  #isFull(): boolean {
    return this.#streams.size >= this.#ring.policy.maxSsrcs;
  }

  #begin(ssrc: number): ReceivingStream {
    const { replayWindow, carrying } = this.#ring.policy;
    const hasCarrierWindow = carrying !== undefined && !carrying.everyPacketAuthentic && !carrying.isUnauthenticated;
    const stream: ReceivingStream = {
      ssrc,
      rolloverCounter: this.#initialRollover,
      highest: -1,
      window: new ReplayWindow(replayWindow),
      rtcpWindow: new ReplayWindow(replayWindow),
      carrierWindow: hasCarrierWindow ? new ReplayWindow(replayWindow) : undefined,
      key: undefined,
      gathered: -1,
    };
    this.#streams.set(ssrc, stream);
    return stream;
  }
}

/** After authentication: the index is seen, and the highest one moves with it (RFC 3711 §3.3.1). */
function accept(stream: ReceivingStream, index: number, sequence: number): void {
  stream.window.mark(index);
  if (index === stream.window.highest) {
    stream.rolloverCounter = rolloverOf(index);
    stream.highest = sequence;
  }
}

function noStatistics(): SrtpStatistics {
  return { packets: 0, octets: 0, authenticationFailures: 0, replays: 0, unknownMki: 0, malformed: 0, discarded: 0 };
}

function countResult(statistics: SrtpStatistics, result: number): void {
  if (result >= 0) {
    statistics.packets++;
    statistics.octets += result;
  } else if (result === SrtpFailure.authentication) statistics.authenticationFailures++;
  else if (result === SrtpFailure.replay) statistics.replays++;
  else if (result === SrtpFailure.unknownMki) statistics.unknownMki++;
  else if (result === SrtpFailure.malformed) statistics.malformed++;
  else statistics.discarded++;
}
