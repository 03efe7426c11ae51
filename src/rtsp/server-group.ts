import { WatchwordError } from "../bytes/index.js";
import type { SharedSender } from "../gsa/index.js";
import {
  type Datagrams,
  type DatagramsFactory,
  isMulticast,
  isSourceSpecific,
  type Logger,
  type Timer,
  type Timers,
} from "../io/index.js";
import type { MediaCarrier } from "./carrier.js";
import type { MediaSource } from "./media.js";
import { randomSequenceNumber } from "./rtp-numbers.js";
import type { Scratch } from "./scratch.js";
import type { ServerSession } from "./server-session.js";
import type { NumberPair } from "./transport.js";

/** How a presentation is multicast. It is then not sent to anybody alone: one key would protect two different streams. */
export interface MulticastDelivery {
  /** Address of the group. With a source-specific one (232/8, ff3x::/96) clients send no RTCP: nobody would hear it (RFC 4607). */
  readonly group: string;
  /** RTP port of the first stream, even; each stream has two, RTP's and RTCP's. */
  readonly port: number;
  /** Hops, 0 to 255. Default 1: the network that the server is on. */
  readonly ttl?: number;
  /** Name or address of the network interface. Default: the system's choice. */
  readonly interface?: string;
  /** Give those who stay a new key when somebody leaves, so that who left cannot go on listening. Default false. */
  readonly rekeyOnLeave?: boolean;
}

/** @throws WatchwordError `rtsp.multicast` */
export function checkMulticast({ group, port, ttl = 1 }: MulticastDelivery, streams: number): void {
  if (!isMulticast(group)) throw new WatchwordError("rtsp.multicast", `${group} is not a multicast group`);
  // RFC 3550 §11: RTP on an even port.
  if (!Number.isInteger(port) || port % 2 !== 0 || port < 2 || port + 2 * Math.max(1, streams) > 65_536) {
    throw new WatchwordError("rtsp.multicast", `${port} is not an even port with room for ${streams} streams`);
  }
  if (!Number.isInteger(ttl) || ttl < 0 || ttl > 255) throw new WatchwordError("rtsp.multicast", `a TTL of ${ttl}`);
}

/** What a group needs of its server. */
export interface GroupContext {
  readonly delivery: MulticastDelivery;
  readonly source: MediaSource;
  /** Makes the sender of a stream; undefined for plain RTP. */
  readonly share: (() => SharedSender) | undefined;
  readonly datagrams: DatagramsFactory | undefined;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly random: (length: number) => Uint8Array;
  /** Memory for one packet at a time, with room for what SRTP adds. */
  readonly scratch: Scratch;
  readonly members: ReadonlySet<ServerSession>;
}

/** One stream of a group: sent once, whoever listens. */
export interface GroupStream {
  readonly shared: SharedSender | undefined;
  /** RTP packets and octets sent so far. */
  readonly packets: number;
  readonly octets: number;
  /** Sequence number of the next packet. */
  readonly next: number;
}

/** Where a stream is to be had. */
export interface GroupAddress {
  readonly group: string;
  readonly ports: NumberPair;
  readonly ttl: number;
  /** Who sends; undefined where the system chooses. */
  readonly source: string | undefined;
}

interface OpenSockets {
  readonly rtp: Datagrams;
  readonly rtcp: Datagrams;
}

class Stream implements GroupStream {
  readonly shared: SharedSender | undefined;
  packets = 0;
  octets = 0;
  next: number;
  /** Added to the source's sequence numbers; undefined until the next packet. */
  offset: number | undefined;
  sockets: Promise<OpenSockets> | undefined;
  open: OpenSockets | undefined;
  readonly carriers = new Map<MediaCarrier, string>();

  constructor(shared: SharedSender | undefined, next: number) {
    this.shared = shared;
    this.next = next;
  }
}

/** Milliseconds that members have to confirm a new key before it is used; who is later has missed nothing but the packets in between. */
const REKEY_GUARD = 3000;

/** A presentation that is sent once to a multicast group. Its members are sessions, keyed one by one and told the same key. */
export class MulticastGroup {
  readonly #context: GroupContext;
  readonly #streams = new Map<number, Stream>();
  #rekeying: Promise<number> | undefined;
  /** Somebody left while new keys were being told, and may have got them. */
  #leftMeanwhile = false;
  #closed = false;

  constructor(context: GroupContext) {
    this.#context = context;
  }

  stream(index: number): GroupStream {
    return this.#stream(index);
  }

  /** Where the description says that a stream is. */
  addressOf(index: number): Omit<GroupAddress, "source"> {
    const { group, port, ttl = 1 } = this.#context.delivery;
    return { group, ports: [port + 2 * index, port + 2 * index + 1], ttl };
  }

  /** Opens the sockets of a stream, if nobody has. @param host of the member: reports are taken from there @throws what the factory throws */
  async join(index: number, host: string): Promise<{ readonly carrier: MediaCarrier; readonly address: GroupAddress }> {
    const stream = this.#stream(index);
    const carrier: MediaCarrier = {
      kind: "multicast",
      onRtp: undefined,
      onRtcp: undefined,
      sendRtp: () => false,
      sendRtcp: () => false,
      close: () => {
        carrier.onRtcp = undefined;
        stream.carriers.delete(carrier);
        if (stream.carriers.size === 0) closeSockets(stream);
      },
    };
    stream.carriers.set(carrier, host);
    try {
      const { rtp } = await this.#open(index, stream);
      if (this.#closed) throw new WatchwordError("rtsp.multicast", "the server has ended");
      const { host: local } = rtp.local;
      const source = local === "0.0.0.0" || local === "::" ? undefined : local;
      return { carrier, address: { ...this.addressOf(index), source } };
    } catch (error) {
      carrier.close();
      throw error;
    }
  }

  /**
   * Sends one packet of the source to the group, while anybody plays. Sequence numbers go on where they stopped.
   * @param packet at least 12 and at most `MAX_PACKET` octets, not in `scratch`; its sequence number is overwritten
   * @param sequence the source's
   */
  sendRtp(index: number, packet: Uint8Array, sequence: number): void {
    const stream = this.#listened(index);
    if (stream === undefined) {
      this.#stream(index).offset = undefined;
      return;
    }
    stream.offset ??= stream.next - sequence;
    const own = (sequence + stream.offset) & 0xffff;
    packet[2] = own >> 8;
    packet[3] = own & 0xff;
    const sealed = this.#protect(stream, packet, "rtp");
    if (sealed === undefined) return;
    if (((own - stream.next) & 0xffff) < 0x8000) stream.next = (own + 1) & 0xffff;
    const { group, ports } = this.addressOf(index);
    stream.open?.rtp.send(sealed, { host: group, port: ports[0] });
    stream.packets++;
    stream.octets += packet.length;
  }

  /** Sends one compound RTCP packet of the source, at most `MAX_PACKET` octets. */
  sendRtcp(index: number, packet: Uint8Array): void {
    const stream = this.#listened(index);
    if (stream === undefined) return;
    const sealed = this.#protect(stream, packet, "rtcp");
    const { group, ports } = this.addressOf(index);
    if (sealed !== undefined) stream.open?.rtcp.send(sealed, { host: group, port: ports[1] });
  }

  /**
   * Gives every member a new key, by SET_PARAMETER to each, and then sends under it. Who does not confirm it in time keeps its session and may
   * ask for the key (GET_PARAMETER).
   * @returns members that have the new key
   * @throws WatchwordError `gsa.rekey` where packets carry no MKI, `rtsp.rekey` for plain RTP
   */
  rekey(): Promise<number> {
    this.#rekeying ??= this.#rekey().finally(() => {
      this.#rekeying = undefined;
      if (this.#leftMeanwhile) this.left();
    });
    return this.#rekeying;
  }

  async #rekey(): Promise<number> {
    const shared = this.#context.source.tracks.map((_track, index) => this.#stream(index).shared);
    if (shared.some((sender) => sender === undefined)) throw new WatchwordError("rtsp.rekey", "plain RTP has no key");
    for (const sender of shared) sender?.prepare();
    let told = 0;
    const all = [...this.#context.members].map(async (member) => {
      if (await this.tell(member)) told++;
    });
    let timer: Timer | undefined;
    const guard = new Promise<void>((resolve) => {
      timer = this.#context.timers.after(REKEY_GUARD, resolve);
    });
    await Promise.race([Promise.all(all), guard]);
    timer?.cancel();
    if (!this.#closed) for (const sender of shared) sender?.commit();
    return told;
  }

  /** Tells a member the key of now, if it does not know it. @returns whether it does */
  async tell(member: ServerSession): Promise<boolean> {
    try {
      // What it is being told already is an older key.
      if (member.rekeying) await member.rekey().catch(() => 0);
      await member.rekey();
      return true;
    } catch (error) {
      this.#context.logger.warn("a member was not told the new key", { session: member.facts.id, error: String(error) });
      return false;
    }
  }

  /** Called when a member is gone. */
  left(): void {
    const { delivery, share } = this.#context;
    if (delivery.rekeyOnLeave !== true || share === undefined || this.#closed) return;
    this.#leftMeanwhile = this.#rekeying !== undefined;
    if (this.#leftMeanwhile) return;
    this.rekey().catch((error: unknown) => this.#context.logger.warn("rekey failed", { error: String(error) }));
  }

  close(): void {
    this.#closed = true;
    for (const stream of this.#streams.values()) {
      closeSockets(stream);
      stream.shared?.close();
    }
  }

  #stream(index: number): Stream {
    let stream = this.#streams.get(index);
    if (stream === undefined) {
      stream = new Stream(this.#context.share?.(), randomSequenceNumber(this.#context.random));
      this.#streams.set(index, stream);
    }
    return stream;
  }

  /** The stream, if it is open and a member plays. */
  #listened(index: number): Stream | undefined {
    const stream = this.#streams.get(index);
    if (stream?.open === undefined) return undefined;
    for (const { state } of this.#context.members) if (state === "playing") return stream;
    return undefined;
  }

  #open(index: number, stream: Stream): Promise<OpenSockets> {
    stream.sockets ??= this.#bind(index, stream).catch((error: unknown) => {
      stream.sockets = undefined;
      throw error;
    });
    return stream.sockets;
  }

  async #bind(index: number, stream: Stream): Promise<OpenSockets> {
    const { datagrams, delivery } = this.#context;
    if (datagrams === undefined) throw new WatchwordError("rtsp.multicast", "no UDP sockets here");
    const { group, ports, ttl } = this.addressOf(index);
    const common = { group, ttl, ...(delivery.interface === undefined ? {} : { interface: delivery.interface }) };
    const rtp = await datagrams.bindMulticast({ ...common, port: 0 });
    try {
      const rtcp = await datagrams.bindMulticast({ ...common, port: isSourceSpecific(group) ? 0 : ports[1] });
      rtcp.onDatagram = (packet, from) => {
        for (const [carrier, host] of stream.carriers) if (host === from.host) carrier.onRtcp?.(packet);
      };
      const open = { rtp, rtcp };
      stream.open = open;
      // Everybody may have left, or the server ended, while the sockets were made.
      if (this.#closed || stream.carriers.size === 0) closeSockets(stream);
      return open;
    } catch (error) {
      rtp.close();
      throw error;
    }
  }

  #protect({ shared }: Stream, packet: Uint8Array, kind: "rtp" | "rtcp"): Uint8Array | undefined {
    const { scratch, share, logger } = this.#context;
    if (shared === undefined) return share === undefined ? packet : undefined;
    try {
      const { sender } = shared;
      return scratch.view(kind === "rtp" ? sender.protect(packet, scratch.octets) : sender.protectRtcp(packet, scratch.octets));
    } catch (error) {
      if (!(error instanceof WatchwordError)) throw error;
      if (error.code === "srtp.lifetime") logger.error("a multicast stream needs a new key", { code: error.code });
      return undefined;
    }
  }
}

/** Sockets that are still being made are closed by who makes them. */
function closeSockets(stream: Stream): void {
  if (stream.open === undefined) return;
  stream.open.rtp.close();
  stream.open.rtcp.close();
  stream.open = undefined;
  stream.sockets = undefined;
  stream.offset = undefined;
}
