import type { SuiteName } from "../../src/srtp/index.js";

/** Octets of the RTP header of every packet of the bench. */
export const HEADER = 12;
/** Every octet of master keys and of master salts. */
export const [MASTER_KEY, MASTER_SALT] = [0x5a, 0xa5];

/** One sending and one receiving session under the same key. Packets are named by their place in the workload. */
export interface Pair {
  /** Protects packets `from` to `to - 1`. */
  protect(from: number, to: number): void;
  /** Opens what `protect` made. @throws Error where a packet does not open */
  unprotect(from: number, to: number): void;
  close(): void;
}

/** Packets of one suite and size, in memory laid out beforehand as a caller with a packet pool has it. */
export interface Workload {
  /** Makes plain packets; `first` is the sequence number of packet 0. */
  layOut(first: number): void;
  /** Fresh sessions over that memory. */
  open(): Pair;
}

/** What is measured: a workload of `count` packets with `payload` octets, or undefined where the suite is not there. */
export type Contender = (suite: SuiteName, payload: number, count: number) => Workload | undefined;

/** A plain RTP packet of SSRC 1; its sequence number is written later. */
export function plainPacket(payload: number): Uint8Array {
  const packet = new Uint8Array(HEADER + payload).fill(0x42, HEADER);
  packet[0] = 0x80;
  packet[11] = 1;
  return packet;
}

export function writeSequence(packet: Uint8Array, sequence: number): void {
  packet[2] = sequence >> 8;
  packet[3] = sequence;
}
