import type { SrtpKeyUsage, SrtpMasterKey, SrtpPolicy, SrtpReceiver, SrtpReceiverOptions, SrtpStatistics } from "./contracts.js";
import { SrtpFailure } from "./failures.js";
import { createSrtpReceiver } from "./receiver.js";

/**
 * A receiver for a peer of which it is not known whether its packets carry the MKI that it announced. The first authentic packet
 * decides, once and for all; until then every packet costs two authentications.
 * @param onMissing called when packets turn out to have no MKI (`mki-missing-in-packets`)
 * @throws WatchwordError as `createSrtpReceiver`
 */
export function createUndecidedSrtpReceiver(options: SrtpReceiverOptions, onMissing: () => void): SrtpReceiver {
  return new UndecidedReceiver(options, onMissing);
}

class UndecidedReceiver implements SrtpReceiver {
  readonly policy: SrtpPolicy;
  readonly #onMissing: () => void;
  readonly #expecting: SrtpReceiver;
  readonly #missing: SrtpReceiver;
  #decided: SrtpReceiver | undefined;

  constructor(options: SrtpReceiverOptions, onMissing: () => void) {
    this.policy = { ...options.policy };
    this.#onMissing = onMissing;
    this.#expecting = createSrtpReceiver({ ...options, mkiOnWire: "expected" });
    this.#missing = createSrtpReceiver({ ...options, mkiOnWire: "absent" });
  }

  unprotect(packet: Uint8Array, out: Uint8Array): number {
    return this.#open(packet, out, (receiver, input) => receiver.unprotect(input, out));
  }

  unprotectBatch(packets: readonly Uint8Array[], outs: readonly Uint8Array[], lengths: Int32Array): number {
    let done = 0;
    for (let i = 0; i < packets.length; i++) {
      const length = this.unprotect(packets[i] as Uint8Array, outs[i] as Uint8Array);
      lengths[i] = length;
      if (length > 0) done++;
    }
    return done;
  }

  unprotectRtcp(packet: Uint8Array, out: Uint8Array): number {
    return this.#open(packet, out, (receiver, input) => receiver.unprotectRtcp(input, out));
  }

  addKey(key: SrtpMasterKey): void {
    for (const receiver of this.#all) receiver.addKey(key);
  }

  removeKey(mki?: Uint8Array): boolean {
    return this.#all.map((receiver) => receiver.removeKey(mki)).includes(true);
  }

  get backend(): SrtpReceiver["backend"] {
    return this.#likely.backend;
  }

  keyUsage(mki?: Uint8Array): SrtpKeyUsage | undefined {
    return this.#likely.keyUsage(mki);
  }

  get ssrcs(): readonly number[] {
    return this.#likely.ssrcs;
  }

  rolloverCounter(ssrc: number): number | undefined {
    return this.#likely.rolloverCounter(ssrc);
  }

  highestSequence(ssrc: number): number | undefined {
    return this.#likely.highestSequence(ssrc);
  }

  setRolloverCounter(ssrc: number, rolloverCounter: number, sequence?: number): void {
    for (const receiver of this.#all) receiver.setRolloverCounter(ssrc, rolloverCounter, sequence);
  }

  forget(ssrc: number): boolean {
    const known = this.#likely.ssrcs.includes(ssrc >>> 0);
    for (const receiver of this.#all) receiver.forget(ssrc);
    return known;
  }

  get statistics(): Readonly<SrtpStatistics> {
    return this.#likely.statistics;
  }

  get rtcpStatistics(): Readonly<SrtpStatistics> {
    return this.#likely.rtcpStatistics;
  }

  close(): void {
    for (const receiver of [this.#expecting, this.#missing]) receiver.close();
  }

  get #likely(): SrtpReceiver {
    return this.#decided ?? this.#expecting;
  }

  get #all(): readonly SrtpReceiver[] {
    return this.#decided === undefined ? [this.#expecting, this.#missing] : [this.#decided];
  }

  #open(packet: Uint8Array, out: Uint8Array, open: (receiver: SrtpReceiver, input: Uint8Array) => number): number {
    if (this.#decided !== undefined) return open(this.#decided, packet);
    // A first attempt that fails may have written over a packet that shares memory with `out`.
    const kept = packet.buffer === out.buffer ? packet.slice() : packet;
    const first = open(this.#expecting, packet);
    if (first >= 0) {
      this.#decide(this.#expecting, this.#missing);
      return first;
    }
    if (first !== SrtpFailure.unknownMki && first !== SrtpFailure.authentication && first !== SrtpFailure.malformed) return first;
    const second = open(this.#missing, kept);
    if (second < 0) return first;
    this.#decide(this.#missing, this.#expecting);
    this.#onMissing();
    return second;
  }

  #decide(chosen: SrtpReceiver, other: SrtpReceiver): void {
    this.#decided = chosen;
    other.close();
  }
}
