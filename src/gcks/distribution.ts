/** How rekey messages reach members (docs/protocol.md §16.8, §23): multicast, unicast, or in the dialog or session of each. */
import type { CryptoProvider } from "../crypto/index.js";
import { isWithin } from "../gkma/index.js";
import { decodeRekey, type RekeyPolicy } from "../gsa/index.js";
import type { Endpoint, Timer, Timers } from "../io/index.js";
import type { MemberChannel } from "./contracts.js";

export interface DistributionOptions {
  readonly crypto: CryptoProvider;
  readonly timers: Timers;
  readonly retransmission: RekeyPolicy["retransmission"];
  /** Sends to the control group; absent where the group has none: then messages go to each member. */
  readonly multicast?: ((datagram: Uint8Array) => void) | undefined;
  /** Where members are reached by unicast, because verified reports came from there: by number. */
  readonly addresses: () => ReadonlyMap<number, Endpoint>;
  /** Sends to one of these addresses. */
  readonly unicast?: ((datagram: Uint8Array, to: Endpoint) => void) | undefined;
  /** Leaf of a member; undefined where it has left. */
  readonly leafOf: (number: number) => number | undefined;
  readonly onSent: (packets: number, octets: number) => void;
  readonly onFailed: (number: number, error: unknown) => void;
}

/** Messages that wait for a member that takes them slowly. Beyond that it has to resynchronise. */
const MOST_WAITING = 32;
/** Datagrams sent at a stretch; then others have their turn. */
const BURST = 64;

interface Way {
  readonly channel: MemberChannel;
  waiting: number;
  /** The last message that waits; undefined where none does. */
  last: Promise<void> | undefined;
}

/** What is sent for one sequence. */
interface Packet {
  readonly octets: Uint8Array;
  /** The leaves that it is for, once somebody wanted to know; null: for everybody. */
  leaves?: { readonly first: number; readonly last: number } | null;
}

function leavesOf(packet: Packet): NonNullable<Packet["leaves"]> | null {
  if (packet.leaves === undefined) {
    const { gkma } = decodeRekey(packet.octets);
    packet.leaves = gkma === undefined ? null : { first: gkma.firstLeaf, last: gkma.lastLeaf };
  }
  return packet.leaves;
}

export class Distribution {
  readonly #options: DistributionOptions;
  readonly #ways = new Map<number, Way>();
  /** Packets of the newest sequence. */
  #newest: readonly Packet[] = [];
  readonly #retransmissions = new Set<Timer>();
  /** Of what is sent for the first time: a newer sequence does not cut it short, or the members of its last packets would have missed it. */
  readonly #firsts = new Set<Timer>();
  #closed = false;

  constructor(options: DistributionOptions) {
    this.#options = options;
  }

  /** The dialog or session of a member; a new registration replaces the one before. */
  attach(number: number, channel: MemberChannel): void {
    this.#ways.set(number, { channel, waiting: 0, last: undefined });
  }

  detach(number: number): MemberChannel | undefined {
    const way = this.#ways.get(number);
    this.#ways.delete(number);
    return way?.channel;
  }

  channelOf(number: number): MemberChannel | undefined {
    return this.#ways.get(number)?.channel;
  }

  /** Sends the newest sequence to where a member is reached by unicast. */
  repeatTo(number: number): void {
    const address = this.#options.addresses().get(number);
    if (address !== undefined) this.#sendTo(number, address, this.#newest);
  }

  /** Sends the packets of a new sequence, and the same octets again later; those of the sequence before stop. */
  send(octets: readonly Uint8Array[]): void {
    this.#stop();
    if (this.#closed) return;
    const packets = octets.map((packet): Packet => ({ octets: packet }));
    this.#newest = packets;
    this.#datagrams(packets, this.#firsts);
    this.#deliver(packets);
    const { count, firstMs } = this.#options.retransmission;
    if (this.#options.multicast !== undefined || this.#options.unicast !== undefined) this.#again(packets, count, firstMs);
  }

  /** A heartbeat: once, to everybody. */
  beat(octets: Uint8Array): void {
    if (this.#closed) return;
    const packets = [{ octets, leaves: null }];
    this.#datagrams(packets, this.#firsts);
    this.#deliver(packets);
  }

  /** One message to one member, in its dialog or session. */
  deliverTo(number: number, octets: Uint8Array): void {
    const way = this.#ways.get(number);
    if (way === undefined) return;
    if (way.waiting >= MOST_WAITING) {
      this.#options.onFailed(number, new Error("too many messages wait"));
      return;
    }
    way.waiting++;
    way.last = (way.last ?? Promise.resolve())
      .then(() => way.channel.deliver(octets))
      .catch((error: unknown) => {
        if (this.#ways.get(number) === way) this.#options.onFailed(number, error);
      })
      .finally(() => {
        if (--way.waiting === 0) way.last = undefined;
      });
  }

  close(): void {
    this.#closed = true;
    this.#stop();
    for (const timer of this.#firsts) timer.cancel();
    this.#firsts.clear();
    this.#ways.clear();
  }

  #stop(): void {
    for (const timer of this.#retransmissions) timer.cancel();
    this.#retransmissions.clear();
  }

  /** Each wait is twice the last, with a random part of a quarter either way. */
  #again(packets: readonly Packet[], left: number, waitMs: number): void {
    if (left === 0 || this.#closed) return;
    const [octet] = this.#options.crypto.randomBytes(1);
    const timer = this.#options.timers.after(waitMs * (0.75 + ((octet as number) / 255) * 0.5), () => {
      this.#retransmissions.delete(timer);
      this.#datagrams(packets, this.#retransmissions);
      this.#again(packets, left - 1, 2 * waitMs);
    });
    this.#retransmissions.add(timer);
  }

  #datagrams(packets: readonly Packet[], timers: Set<Timer>): void {
    const { multicast } = this.#options;
    if (multicast !== undefined) this.#paced(packets, ({ octets }) => multicast(octets), timers);
    for (const [number, address] of this.#options.addresses()) this.#sendTo(number, address, packets);
  }

  #sendTo(number: number, address: Endpoint, packets: readonly Packet[]): void {
    const { unicast } = this.#options;
    if (unicast === undefined) return;
    for (const { octets } of this.#covering(packets, number)) {
      unicast(octets, address);
      this.#options.onSent(1, octets.length);
    }
  }

  /** Many packets are sent in bursts, so that neither the process nor the network's queues are held up. */
  #paced(packets: readonly Packet[], send: (packet: Packet) => void, timers: Set<Timer>, from = 0): void {
    const burst = packets.slice(from, from + BURST);
    for (const packet of burst) send(packet);
    this.#options.onSent(
      burst.length,
      burst.reduce((sum, { octets }) => sum + octets.length, 0),
    );
    if (from + BURST >= packets.length) return;
    const timer = this.#options.timers.after(1, () => {
      timers.delete(timer);
      this.#paced(packets, send, timers, from + BURST);
    });
    timers.add(timer);
  }

  #deliver(packets: readonly Packet[]): void {
    const { multicast, unicast } = this.#options;
    if (multicast !== undefined) return;
    const addresses = this.#options.addresses();
    for (const number of this.#ways.keys()) {
      if (unicast !== undefined && addresses.has(number)) continue;
      for (const { octets } of this.#covering(packets, number)) {
        this.deliverTo(number, octets);
        this.#options.onSent(1, octets.length);
      }
    }
  }

  /** All that one member needs is in one packet. */
  #covering(packets: readonly Packet[], number: number): readonly Packet[] {
    const leaf = this.#options.leafOf(number);
    if (leaf === undefined) return [];
    return packets.filter((packet) => {
      const leaves = leavesOf(packet);
      return leaves === null || isWithin(leaf, leaves.first, leaves.last);
    });
  }
}
