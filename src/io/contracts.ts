/** Wall-clock time. */
export interface Clock {
  /** Milliseconds since 1970-01-01T00:00:00Z. */
  now(): number;
}

/** A timer that was started; `cancel` is idempotent. */
export interface Timer {
  cancel(): void;
}

/** Delayed and repeated calls. A callback must not throw. */
export interface Timers {
  /** Calls once after `milliseconds`, never before: whoever looks at a clock then finds that they have passed. */
  after(milliseconds: number, callback: () => void): Timer;
  /** Calls every `milliseconds` until cancelled. */
  every(milliseconds: number, callback: () => void): Timer;
}

/** A cryptographically strong random source. */
export interface Random {
  bytes(length: number): Uint8Array;
}

/** An IP address and port. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** A bound datagram socket. Datagrams received before `onDatagram` is set are dropped. */
export interface Datagrams {
  readonly local: Endpoint;
  onDatagram: ((datagram: Uint8Array, from: Endpoint) => void) | undefined;
  /** Sends without waiting; a datagram that cannot be sent is lost like any other. The octets are not kept after the call returns. */
  send(datagram: Uint8Array, to: Endpoint): void;
  close(): void;
}

/** A multicast group, as a socket of a member or sender needs it. */
export interface MulticastBinding {
  /** IPv4 or IPv6 address of the group. */
  readonly group: string;
  /** Receives what is sent to this port of the group, beside every other socket that does. 0: only sends, from a free port. */
  readonly port: number;
  /** Receive from this address only: source-specific multicast (RFC 4607). Default: from anybody. */
  readonly source?: string;
  /** Name or address of the network interface to join on and send from. Default: the system's choice. */
  readonly interface?: string;
  /** How many hops what is sent may go, 0 to 255; 0 stays on this host. Default 1, this network. */
  readonly ttl?: number;
}

/** How to make datagram sockets. */
export interface DatagramsFactory {
  /** Binds one socket; port 0 picks a free one. */
  bind(local: Endpoint): Promise<Datagrams>;
  /** Binds an even port and the odd one above it (RFC 3550 §11). */
  bindPair(host: string): Promise<readonly [rtp: Datagrams, rtcp: Datagrams]>;
  /** Joins a multicast group, or binds a socket that sends to it. What it sends also reaches the members on this host. */
  bindMulticast(binding: MulticastBinding): Promise<Datagrams>;
}

/** Whether an address is that of a multicast group (RFC 5771, RFC 4291 §2.7). */
export function isMulticast(address: string): boolean {
  const first = /^(\d{1,3})(?:\.\d{1,3}){3}$/.exec(address)?.[1];
  return first === undefined ? /^ff[0-9a-f]{2}:/i.test(address) : Number(first) >= 224 && Number(first) <= 239;
}

/** Whether a group is source-specific: its receivers name the sender whom they want to hear (RFC 4607 §1). */
export function isSourceSpecific(group: string): boolean {
  return /^232\./.test(group) || /^ff3[0-9a-f]:0*:/i.test(group);
}

/** An address as it is told to others: the zone of a link-local one means something on this host alone (RFC 4007 §11). */
export function withoutZone(address: string): string {
  return address.replace(/%.*$/s, "");
}

/** What is known of the channel that a stream runs over. */
export interface ChannelInfo {
  readonly local: Endpoint;
  readonly remote: Endpoint;
  /** True where TLS protects the stream end to end; keys in the clear are acceptable nowhere else. */
  readonly secure: boolean;
  /** Whom the peer's certificate names, where TLS asked for one and found it good. */
  readonly certified?: readonly string[];
}

/** A reliable, ordered octet stream. */
export interface Stream {
  readonly channel: ChannelInfo;
  onData: ((octets: Uint8Array) => void) | undefined;
  /** Called exactly once, when both directions have ended, with the error that ended them if there was one. */
  onClose: ((error?: Error) => void) | undefined;
  /** Called when a full send buffer has drained. */
  onDrain: (() => void) | undefined;
  /** Octets accepted but not yet handed to the network. */
  readonly buffered: number;
  write(octets: Uint8Array): void;
  /** Ends gracefully: what was written is still sent. */
  end(): void;
  /** Ends at once. */
  destroy(): void;
}

/** How to open streams. */
export interface StreamFactory {
  connect(remote: Endpoint, options?: { readonly secure?: boolean; readonly serverName?: string }): Promise<Stream>;
}

/** Structured log lines. Values never hold keys: callers log fingerprints. */
export interface Logger {
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** A logger that says nothing. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };
