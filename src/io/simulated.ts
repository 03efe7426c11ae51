import { WatchwordError } from "../bytes/index.js";
import {
  type ChannelInfo,
  type Clock,
  type Datagrams,
  type DatagramsFactory,
  type Endpoint,
  isMulticast,
  isSourceSpecific,
  type MulticastBinding,
  type Random,
  type Stream,
  type StreamFactory,
  type Timer,
  type Timers,
} from "./contracts.js";

/** How a link treats what crosses it. Probabilities are 0 to 1; times are milliseconds. Streams are delayed and cut, never lossy. */
export interface LinkQuality {
  /** One-way delay. Default 1. */
  readonly delay?: number;
  /** Datagrams wait up to this much longer, at random; more than the sending interval reorders them. Default 0. */
  readonly jitter?: number;
  readonly loss?: number;
  readonly duplicate?: number;
  /** Nothing crosses: datagrams are lost, streams stall until it heals. */
  readonly partitioned?: boolean;
}

/** One host of the simulated network. */
export interface SimulatedHost {
  readonly name: string;
  readonly streams: StreamFactory;
  readonly datagrams: DatagramsFactory;
  /** Accepts streams on a port until the returned function is called. `secure` makes their channels look like TLS. */
  listen(port: number, accept: (stream: Stream) => void, options?: { readonly secure?: boolean }): () => void;
  /** Sockets bound, groups joined and streams open: what a test checks for leaks. */
  readonly open: { readonly datagrams: number; readonly streams: number };
}

/**
 * A network in one process with a clock of its own: everything that happens follows from the seed. Its hosts are neighbours: what is
 * sent to a multicast group with a TTL above 0 reaches every member, over the link between the two hosts.
 */
export interface SimulatedNetwork {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  host(name: string): SimulatedHost;
  /** Sets the quality of the link between two hosts, both ways; without names, of every link. */
  setLink(quality: LinkQuality, between?: readonly [string, string]): void;
  /** Every datagram that is delivered passes here, as does every chunk of a stream. */
  onTraffic:
    | ((event: {
        readonly kind: "datagram" | "stream";
        readonly from: Endpoint;
        readonly to: Endpoint;
        readonly octets: Uint8Array;
      }) => void)
    | undefined;
  /** Lets time pass: runs everything that falls due, in order, and lets promises settle in between. */
  advance(milliseconds: number): Promise<void>;
  /** Timers and deliveries that are still due. */
  readonly pending: number;
}

/** What a simulation starts from. */
export interface SimulatedNetworkOptions {
  /** Default 1. */
  readonly seed?: number;
  /** Milliseconds since 1970 at the start. Default 2026-01-01T00:00:00Z. */
  readonly now?: number;
  /** Octets a sender may have under way before `buffered` counts. Default 65536. */
  readonly streamWindow?: number;
  /** Streams deliver at most so many octets at a time: 1 splits messages everywhere. Default 65536. */
  readonly streamChunk?: number;
  /** Lets promises settle. Default: a number of microtask turns; pass a macrotask where something waits for more. */
  readonly settle?: () => Promise<void>;
}

interface Scheduled {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
  cancelled: boolean;
}

/** Creates a simulated network of hosts with streams, datagrams, clock, timers and a reproducible random source. */
export function createSimulatedNetwork(options: SimulatedNetworkOptions = {}): SimulatedNetwork {
  const network = new Network(options);
  return network;
}

class Network implements SimulatedNetwork {
  onTraffic: SimulatedNetwork["onTraffic"];
  readonly clock: Clock = { now: () => this.#now };
  readonly random: Random;
  readonly timers: Timers;
  readonly window: number;
  readonly chunk: number;
  readonly #settle: () => Promise<void>;
  readonly #hosts = new Map<string, Host>();
  readonly #links = new Map<string, LinkQuality>();
  readonly members = new Set<Socket>();
  #everywhere: LinkQuality = {};
  #queue: Scheduled[] = [];
  #now: number;
  #order = 0;
  #state: number;
  #heal: (() => void)[] = [];

  constructor(options: SimulatedNetworkOptions) {
    this.#now = options.now ?? 1_767_225_600_000;
    this.#state = options.seed ?? 1;
    this.window = options.streamWindow ?? 65_536;
    this.chunk = options.streamChunk ?? 65_536;
    this.#settle = options.settle ?? microtasks;
    this.random = { bytes: (length) => Uint8Array.from({ length }, () => Math.floor(this.chance() * 256)) };
    this.timers = {
      after: (milliseconds, callback) => this.schedule(milliseconds, callback),
      every: (milliseconds, callback) => {
        let current: Timer;
        const again = (): void => {
          current = this.schedule(milliseconds, again);
          callback();
        };
        current = this.schedule(milliseconds, again);
        return { cancel: () => current.cancel() };
      },
    };
  }

  get pending(): number {
    return this.#queue.filter((entry) => !entry.cancelled).length;
  }

  host(name: string): Host {
    let host = this.#hosts.get(name);
    if (host === undefined) {
      host = new Host(this, name);
      this.#hosts.set(name, host);
    }
    return host;
  }

  existing(name: string): Host | undefined {
    return this.#hosts.get(name);
  }

  setLink(quality: LinkQuality, between?: readonly [string, string]): void {
    if (between === undefined) {
      this.#everywhere = quality;
      this.#links.clear();
    } else {
      this.#links.set(linkName(...between), quality);
    }
    const waiting = this.#heal;
    this.#heal = [];
    for (const retry of waiting) retry();
  }

  link(a: string, b: string): LinkQuality {
    return this.#links.get(linkName(a, b)) ?? this.#everywhere;
  }

  /** Calls when a link has changed: a stream that a partition stalled tries again. */
  onLinkChange(retry: () => void): void {
    this.#heal.push(retry);
  }

  /** Uniform in [0, 1), reproducible. */
  chance(): number {
    // A 32-bit mixing generator: quality enough to decide about losses, and the same everywhere.
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  schedule(milliseconds: number, run: () => void): Timer {
    const entry: Scheduled = { at: this.#now + Math.max(0, milliseconds), order: this.#order++, run, cancelled: false };
    let low = 0;
    let high = this.#queue.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#queue[middle] as Scheduled).at <= entry.at) low = middle + 1;
      else high = middle;
    }
    this.#queue.splice(low, 0, entry);
    return {
      cancel: () => {
        entry.cancelled = true;
      },
    };
  }

  async advance(milliseconds: number): Promise<void> {
    const until = this.#now + milliseconds;
    await this.#settle();
    for (;;) {
      const next = this.#queue[0];
      if (next === undefined || next.at > until) break;
      this.#queue.shift();
      if (next.cancelled) continue;
      this.#now = Math.max(this.#now, next.at);
      next.run();
      await this.#settle();
    }
    this.#now = until;
  }
}

async function microtasks(): Promise<void> {
  for (let turn = 0; turn < 40; turn++) await Promise.resolve();
}

function linkName(a: string, b: string): string {
  return a < b ? `${a}|${b}` : `${b}|${a}`;
}

class Host implements SimulatedHost {
  readonly name: string;
  readonly streams: StreamFactory;
  readonly datagrams: DatagramsFactory;
  readonly sockets = new Map<number, Socket>();
  /** Sockets of multicast groups, which share ports. */
  readonly groupSockets = new Set<Socket>();
  readonly listeners = new Map<number, { accept: (stream: Stream) => void; secure: boolean }>();
  streamCount = 0;
  readonly #network: Network;
  #nextPort = 20_000;

  constructor(network: Network, name: string) {
    this.name = name;
    this.#network = network;
    this.streams = { connect: (remote, options) => this.#connect(remote, options?.secure ?? false) };
    this.datagrams = {
      bind: (local) => Promise.resolve().then(() => this.#bind(local.port === 0 ? this.freePort(1) : local.port)),
      bindPair: () =>
        Promise.resolve().then(() => {
          const port = this.freePort(2);
          return [this.#bind(port), this.#bind(port + 1)] as const;
        }),
      bindMulticast: (binding) => Promise.resolve().then(() => this.#bindMulticast(binding)),
    };
  }

  get open(): { datagrams: number; streams: number } {
    return { datagrams: this.sockets.size + this.groupSockets.size, streams: this.streamCount };
  }

  listen(port: number, accept: (stream: Stream) => void, options?: { readonly secure?: boolean }): () => void {
    if (this.listeners.has(port)) throw new WatchwordError("io.address-in-use", `port ${port} is taken`);
    this.listeners.set(port, { accept, secure: options?.secure ?? false });
    return () => this.listeners.delete(port);
  }

  freePort(width: 1 | 2): number {
    let port = this.#nextPort;
    while (port % width !== 0 || this.sockets.has(port) || this.sockets.has(port + width - 1)) port++;
    this.#nextPort = port + width > 60_000 ? 20_000 : port + width;
    return port;
  }

  #bind(port: number): Socket {
    if (this.sockets.has(port)) throw new WatchwordError("io.address-in-use", `port ${port} is taken`);
    const socket = new Socket(this.#network, this, port);
    this.sockets.set(port, socket);
    return socket;
  }

  #bindMulticast(binding: MulticastBinding): Socket {
    if (!isMulticast(binding.group)) throw new WatchwordError("io.multicast", `${binding.group} is not a multicast group`);
    if (isSourceSpecific(binding.group) && binding.source === undefined && binding.port !== 0) {
      throw new WatchwordError("io.multicast", `${binding.group} is joined together with a source (RFC 4607)`);
    }
    const socket = new Socket(this.#network, this, binding.port === 0 ? this.freePort(1) : binding.port, binding);
    this.groupSockets.add(socket);
    if (binding.port !== 0) this.#network.members.add(socket);
    return socket;
  }

  #connect(remote: Endpoint, secure: boolean): Promise<Stream> {
    const { delay = 1 } = this.#network.link(this.name, remote.host);
    return new Promise((resolve, reject) => {
      this.#network.schedule(2 * delay, () => {
        const listener = this.#network.existing(remote.host)?.listeners.get(remote.port);
        if (this.#network.link(this.name, remote.host).partitioned === true) {
          reject(new WatchwordError("io.timeout", `no answer from ${remote.host}:${remote.port}`));
        } else if (listener === undefined || listener.secure !== secure) {
          reject(new WatchwordError("io.refused", `${remote.host}:${remote.port} refused the connection`));
        } else {
          const local = { host: this.name, port: this.freePort(1) };
          const [near, far] = streamPair(this.#network, this, this.#network.host(remote.host), local, remote, secure);
          listener.accept(far);
          resolve(near);
        }
      });
    });
  }
}

class Socket implements Datagrams {
  readonly local: Endpoint;
  onDatagram: ((datagram: Uint8Array, from: Endpoint) => void) | undefined;
  readonly #network: Network;
  readonly #host: Host;
  readonly #binding: MulticastBinding | undefined;
  #closed = false;

  constructor(network: Network, host: Host, port: number, binding?: MulticastBinding) {
    this.#network = network;
    this.#host = host;
    this.#binding = binding;
    this.local = { host: host.name, port };
  }

  send(datagram: Uint8Array, to: Endpoint): void {
    if (this.#closed) return;
    if (!isMulticast(to.host)) {
      this.#cross(datagram, to, to.host, () => this.#network.existing(to.host)?.sockets.get(to.port));
      return;
    }
    for (const member of this.#network.members) {
      if (member.#hears(this.local.host, to) && ((this.#binding?.ttl ?? 1) > 0 || member.#host === this.#host)) {
        this.#cross(datagram, to, member.local.host, () => (member.#closed ? undefined : member));
      }
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onDatagram = undefined;
    if (this.#binding === undefined) this.#host.sockets.delete(this.local.port);
    this.#host.groupSockets.delete(this);
    this.#network.members.delete(this);
  }

  #hears(from: string, to: Endpoint): boolean {
    const { group, source } = this.#binding as MulticastBinding;
    return group === to.host && this.local.port === to.port && (source === undefined || source === from);
  }

  #cross(datagram: Uint8Array, to: Endpoint, host: string, receiver: () => Socket | undefined): void {
    const link = this.#network.link(this.local.host, host);
    if (link.partitioned === true || this.#network.chance() < (link.loss ?? 0)) return;
    const octets = datagram.slice();
    const copies = this.#network.chance() < (link.duplicate ?? 0) ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const wait = (link.delay ?? 1) + this.#network.chance() * (link.jitter ?? 0);
      this.#network.schedule(wait, () => {
        const receive = receiver()?.onDatagram;
        if (receive === undefined) return;
        this.#network.onTraffic?.({ kind: "datagram", from: this.local, to, octets });
        receive(octets.slice(), this.local);
      });
    }
  }
}

function streamPair(
  network: Network,
  nearHost: Host,
  farHost: Host,
  local: Endpoint,
  remote: Endpoint,
  secure: boolean,
): readonly [End, End] {
  const near = new End(network, nearHost, { local, remote, secure });
  const far = new End(network, farHost, { local: remote, remote: local, secure });
  near.peer = far;
  far.peer = near;
  return [near, far];
}

class End implements Stream {
  readonly channel: ChannelInfo;
  onDrain: (() => void) | undefined;
  peer: End | undefined;
  readonly #network: Network;
  readonly #host: Host;
  #onData: ((octets: Uint8Array) => void) | undefined;
  #onClose: ((error?: Error) => void) | undefined;
  /** Written here and not yet read by the peer. */
  #outstanding = 0;
  /** Arrived here and not yet read. */
  readonly #arrived: Uint8Array[] = [];
  /** Waiting to be sent, because the link is cut. */
  readonly #stalled: (() => void)[] = [];
  #ending = false;
  #peerEnded = false;
  #closed: { readonly error: Error | undefined } | undefined;
  #told = false;

  constructor(network: Network, host: Host, channel: ChannelInfo) {
    this.#network = network;
    this.#host = host;
    this.channel = channel;
    host.streamCount++;
  }

  get buffered(): number {
    return Math.max(0, this.#outstanding - this.#network.window);
  }

  get onData(): ((octets: Uint8Array) => void) | undefined {
    return this.#onData;
  }

  set onData(callback: ((octets: Uint8Array) => void) | undefined) {
    this.#onData = callback;
    if (callback !== undefined) this.#network.schedule(0, () => this.#read());
  }

  get onClose(): ((error?: Error) => void) | undefined {
    return this.#onClose;
  }

  set onClose(callback: ((error?: Error) => void) | undefined) {
    this.#onClose = callback;
    this.#tell();
  }

  write(octets: Uint8Array): void {
    if (this.#ending || this.#closed !== undefined) return;
    this.#outstanding += octets.length;
    for (let at = 0; at < octets.length; at += this.#network.chunk) {
      const chunk = octets.slice(at, at + this.#network.chunk);
      this.#cross(() => this.peer?.arrive(chunk));
    }
  }

  end(): void {
    if (this.#ending || this.#closed !== undefined) return;
    this.#ending = true;
    this.#cross(() => this.peer?.arriveEnd());
  }

  destroy(): void {
    if (this.#closed !== undefined) return;
    this.#close(undefined);
    this.#cross(() => this.peer?.arriveReset());
  }

  arrive(octets: Uint8Array): void {
    if (this.#closed !== undefined) return;
    this.#arrived.push(octets);
    this.#read();
  }

  arriveEnd(): void {
    this.#peerEnded = true;
    this.#read();
  }

  arriveReset(): void {
    this.#close(new WatchwordError("io.reset", `${this.channel.remote.host}:${this.channel.remote.port} reset the connection`));
  }

  acknowledge(length: number): void {
    const before = this.buffered;
    this.#outstanding -= length;
    if (before > 0 && this.buffered === 0) this.onDrain?.();
  }

  #read(): void {
    while (this.#onData !== undefined && this.#arrived.length > 0 && this.#closed === undefined) {
      const octets = this.#arrived.shift() as Uint8Array;
      this.peer?.acknowledge(octets.length);
      this.#network.onTraffic?.({ kind: "stream", from: this.channel.remote, to: this.channel.local, octets });
      this.#onData(octets);
    }
    if (this.#peerEnded && this.#arrived.length === 0 && this.#closed === undefined) {
      this.end();
      this.#close(undefined);
      this.peer?.finish();
    }
  }

  /** Both directions have ended. */
  finish(): void {
    if (this.#ending) this.#cross(() => this.#close(undefined));
  }

  /** Reliable and in order: what cannot cross waits until the link heals. */
  #cross(deliver: () => void): void {
    const { partitioned, delay = 1 } = this.#network.link(this.channel.local.host, this.channel.remote.host);
    if (partitioned !== true && this.#stalled.length === 0) {
      this.#network.schedule(delay, deliver);
      return;
    }
    this.#stalled.push(deliver);
    if (this.#stalled.length === 1) this.#network.onLinkChange(() => this.#flush());
  }

  #flush(): void {
    const waiting = this.#stalled.splice(0);
    for (const deliver of waiting) this.#cross(deliver);
  }

  #close(error: Error | undefined): void {
    if (this.#closed !== undefined) return;
    this.#closed = { error };
    this.#host.streamCount--;
    this.#tell();
  }

  #tell(): void {
    if (this.#closed === undefined || this.#told || this.#onClose === undefined) return;
    this.#told = true;
    const { error } = this.#closed;
    const callback = this.#onClose;
    this.#network.schedule(0, () => callback(error));
  }
}
