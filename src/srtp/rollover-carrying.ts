import { WatchwordError } from "../bytes/index.js";
import type { RolloverCarrying } from "./contracts.js";
import { readU32, rtpSequence, writeU32 } from "./headers.js";
import type { Suite } from "./suites.js";

/** Octets of a rollover counter in a tag. */
export const CARRIED_ROLLOVER = 4;
/** A MAC shorter than this (RFC 4771 §5 warns of short ones) is no protection. */
const SHORTEST_MAC = 4;
const LONGEST_TAG = 20;
const MAX_RATE = 0xffff;

/**
 * Rollover counter carrying (RFC 4771), checked against its suite. A carrier is a packet whose sequence number is a multiple of the
 * rate: its tag is the rollover counter and a MAC that is four octets shorter than the tag.
 */
export interface ResolvedCarrying {
  readonly mode: 1 | 2 | 3;
  readonly rate: number;
  /** Octets of MAC in carriers; with AEAD those of its tag, which stands before the MKI. */
  readonly carrierMac: number;
  /** Octets of MAC in all other packets. */
  readonly otherMac: number;
  /** Octets between the carried counter and the end of the packet. */
  readonly behindRollover: number;
  /** Whether every packet is authenticated: only then is what the receiver remembers of packets worth more than the next carrier. */
  readonly everyPacketAuthentic: boolean;
  /** Whether no packet is authenticated: the counter itself may then be forged. */
  readonly isUnauthenticated: boolean;
}

/** @throws WatchwordError `srtp.policy` */
export function resolveCarrying(
  suite: Suite,
  authenticateRtp: boolean,
  carrying: RolloverCarrying | undefined,
): ResolvedCarrying | undefined {
  if (carrying === undefined) return undefined;
  const { mode, rate = 1 } = carrying;
  const isAead = suite.cipher === "gcm";
  const tagLength = carrying.tagLength ?? defaultCarryingTag(suite, mode);
  if (mode !== 1 && mode !== 2 && mode !== 3) throw refused("the mode of rollover counter carrying is 1, 2 or 3");
  if (!Number.isInteger(rate) || rate < 1 || rate > MAX_RATE) {
    throw refused("the rate of rollover counter carrying is an integer from 1 to 65535");
  }
  if (!authenticateRtp) throw refused("rollover counter carrying without authentication is its mode 3");
  if (isAead && mode !== 3)
    throw refused(`${suite.name} has no authentication but its own: only mode 3 carries a rollover counter`);
  if (mode === 3 && tagLength !== CARRIED_ROLLOVER) throw refused("a tag of mode 3 is the rollover counter: four octets");
  const shortest = mode === 3 ? CARRIED_ROLLOVER : CARRIED_ROLLOVER + SHORTEST_MAC;
  if (!Number.isInteger(tagLength) || tagLength < shortest || tagLength > LONGEST_TAG) {
    throw refused(`a tag that carries a rollover counter has ${shortest} to ${LONGEST_TAG} octets`);
  }
  const behindRollover = tagLength - CARRIED_ROLLOVER;
  return {
    mode,
    rate,
    carrierMac: isAead ? suite.rtpTagLength : behindRollover,
    otherMac: isAead ? suite.rtpTagLength : mode === 2 ? tagLength : 0,
    behindRollover,
    everyPacketAuthentic: isAead || mode === 2,
    isUnauthenticated: !isAead && mode === 3,
  };
}

/** Octets of the tag where none are named: the suite's MAC and the counter, which is what RFC 4771 §5 recommends; four in mode 3. */
export function defaultCarryingTag(suite: Suite, mode: RolloverCarrying["mode"]): number {
  return mode === 3 ? CARRIED_ROLLOVER : suite.rtpTagLength + CARRIED_ROLLOVER;
}

/** Whether this packet, known to be long enough for an RTP header, carries its rollover counter. */
export function isCarrier({ rate }: ResolvedCarrying, packet: Uint8Array): boolean {
  return rtpSequence(packet) % rate === 0;
}

/**
 * Puts the rollover counter before the MAC at the end of a sealed packet.
 * @param sealed memory with room behind the packet
 * @param end octets of the packet so far
 * @returns octets with the counter
 */
export function insertRollover(carrying: ResolvedCarrying, sealed: Uint8Array, end: number, rolloverCounter: number): number {
  const at = end - carrying.behindRollover;
  if (carrying.behindRollover > 0) sealed.copyWithin(at + CARRIED_ROLLOVER, at, end);
  writeU32(sealed, at, rolloverCounter);
  return end + CARRIED_ROLLOVER;
}

/** Takes rollover counters out of carriers. */
export class CarrierReader {
  /** The counter of the packet read last; nobody has authenticated it yet. */
  rolloverCounter = 0;
  readonly #behind: number;
  #scratch = new Uint8Array(0);

  constructor({ behindRollover }: ResolvedCarrying) {
    this.#behind = behindRollover;
  }

  /** The packet without its counter: a view of it, or a copy that holds until the next call. */
  read(packet: Uint8Array): Uint8Array {
    const at = packet.length - this.#behind - CARRIED_ROLLOVER;
    this.rolloverCounter = readU32(packet, at);
    if (this.#behind === 0) return packet.subarray(0, at);
    const length = packet.length - CARRIED_ROLLOVER;
    if (this.#scratch.length < length) this.#scratch = new Uint8Array(2 * length);
    this.#scratch.set(packet.subarray(0, at));
    this.#scratch.set(packet.subarray(at + CARRIED_ROLLOVER), at);
    return this.#scratch.subarray(0, length);
  }
}

function refused(detail: string): WatchwordError {
  return new WatchwordError("srtp.policy", `${detail} (RFC 4771)`);
}
