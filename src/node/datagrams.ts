import { createSocket, type Socket } from "node:dgram";
import { lookup } from "node:dns";
import { isIP, isIPv6 } from "node:net";
import { networkInterfaces } from "node:os";
import { WatchwordError } from "../bytes/index.js";
import {
  type Datagrams,
  type DatagramsFactory,
  type Endpoint,
  isMulticast,
  isSourceSpecific,
  type MulticastBinding,
} from "../io/index.js";
import { nodeError } from "./errors.js";
import { plainOctets } from "./octets.js";

/** Options of a factory; sizes in octets. */
export interface DatagramsOptions {
  /** Asked of the kernel for receiving; it may give less. Default 4 MiB: a key frame arrives as a burst. */
  readonly receiveBuffer?: number;
  /** Asked of the kernel for sending. Default 1 MiB. */
  readonly sendBuffer?: number;
  /** Octets that may wait inside Node for a full kernel buffer; beyond them datagrams are lost. Default 1 MiB. */
  readonly maxQueued?: number;
}

/** Datagrams between two looks at the length of the queue. */
const QUEUE_CHECK = 16;
const DEFAULT_MAX_QUEUED = 1 << 20;
/** How often a pair of adjacent ports is looked for before giving up. */
const PAIR_ATTEMPTS = 64;

/**
 * Datagram sockets over UDP.
 * The promises reject with WatchwordError `node.address-in-use`, `node.address-not-available`, `node.permission`,
 * `node.no-port-pair`, `node.multicast` for a group, interface or source that is none, or `node.io`.
 */
export function createDatagramsFactory(options: DatagramsOptions = {}): DatagramsFactory {
  const bind = async (local: Endpoint): Promise<Datagrams> =>
    new UdpDatagrams(await openSocket(local, options, false), options.maxQueued ?? DEFAULT_MAX_QUEUED);
  return { bind, bindPair: (host) => bindPair(host, bind), bindMulticast: (binding) => bindMulticast(binding, options) };
}

async function bindPair(host: string, bind: (local: Endpoint) => Promise<Datagrams>): Promise<readonly [Datagrams, Datagrams]> {
  for (let attempt = 0; attempt < PAIR_ATTEMPTS; attempt++) {
    const first = await bind({ host, port: 0 });
    // RFC 3550 §11: RTP on the even port, RTCP on the next. The kernel chose one; its sibling is the other half.
    try {
      const second = await bind({ host, port: first.local.port ^ 1 });
      return first.local.port % 2 === 0 ? [first, second] : [second, first];
    } catch (error) {
      first.close();
      if (!(error instanceof WatchwordError) || error.code !== "node.address-in-use") throw error;
    }
  }
  throw new WatchwordError("node.no-port-pair", `bind a pair of ports on ${host}: no two adjacent ports are free`);
}

/** @throws (rejects) WatchwordError `node.multicast` and those of `openSocket` */
async function bindMulticast(binding: MulticastBinding, options: DatagramsOptions): Promise<Datagrams> {
  const { group, port, source, ttl = 1 } = binding;
  if (!isMulticast(group) || isIP(group) === 0) throw new WatchwordError("node.multicast", `${group} is not a multicast group`);
  if (isSourceSpecific(group) && source === undefined && port !== 0) {
    throw new WatchwordError("node.multicast", `${group} is joined together with a source (RFC 4607)`);
  }
  const device = binding.interface === undefined ? undefined : interfaceFor(binding.interface, isIPv6(group));
  // Bound to the group a socket hears nothing that is sent to the same port of this host or of another group; Windows cannot.
  const receiving = process.platform === "win32" ? anyAddress(group) : group;
  const sending = device === undefined || isIPv6(group) ? anyAddress(group) : device;
  const socket = await openSocket({ host: port === 0 ? sending : receiving, port }, options, port !== 0);
  try {
    if (device !== undefined) socket.setMulticastInterface(device);
    socket.setMulticastTTL(ttl);
    socket.setMulticastLoopback(true);
    if (port !== 0 && source === undefined) socket.addMembership(group, device);
    else if (port !== 0 && source !== undefined) socket.addSourceSpecificMembership(source, group, device);
  } catch (error) {
    socket.close();
    throw new WatchwordError("node.multicast", `join ${group}: the system refuses`, { cause: error });
  }
  return new UdpDatagrams(socket, options.maxQueued ?? DEFAULT_MAX_QUEUED);
}

function anyAddress(group: string): string {
  return isIPv6(group) ? "::" : "0.0.0.0";
}

/**
 * An interface by its name or by one of its addresses, as the system calls for multicast want it: by address with IPv4, by scope with IPv6.
 * @throws WatchwordError `node.multicast` where there is none
 */
function interfaceFor(nameOrAddress: string, ipv6: boolean): string {
  const found = networkInterfaces();
  const family = ipv6 ? "IPv6" : "IPv4";
  for (const [name, addresses = []] of Object.entries(found)) {
    const own = addresses.filter((candidate) => candidate.family === family);
    const match = name === nameOrAddress ? own[0] : own.find(({ address }) => address === nameOrAddress);
    if (match !== undefined) return ipv6 ? `::%${process.platform === "win32" ? match.scopeid : name}` : match.address;
  }
  throw new WatchwordError("node.multicast", `no network interface ${nameOrAddress} with an ${family} address`);
}

function openSocket(local: Endpoint, options: DatagramsOptions, shared: boolean): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket({
      type: isIPv6(local.host) ? "udp6" : "udp4",
      reuseAddr: shared,
      lookup: lookupAtOnce as NonNullable<Parameters<typeof createSocket>[0] & object>["lookup"],
    });
    const what = `bind UDP ${formatEndpoint(local)}`;
    socket.once("error", (error) => {
      socket.close();
      reject(nodeError(error, what));
    });
    socket.bind({ address: local.host, port: local.port, exclusive: true }, () => {
      socket.removeAllListeners("error");
      enlarge(() => socket.setRecvBufferSize(options.receiveBuffer ?? 4 << 20));
      enlarge(() => socket.setSendBufferSize(options.sendBuffer ?? 1 << 20));
      resolve(socket);
    });
  });
}

/** A kernel that refuses a larger buffer leaves the one it has. */
function enlarge(set: () => void): void {
  try {
    set();
  } catch {
    return;
  }
}

type LookupCallback = (error: NodeJS.ErrnoException | null, address: string, family: number) => void;

/** Addresses need no name service, and without its detour a datagram is with the kernel when `send` returns. */
function lookupAtOnce(host: string, family: number, callback: LookupCallback): void {
  if (isIP(host) !== 0) callback(null, host, isIP(host));
  else lookup(host, family, callback);
}

/**
 * The address of a host that a socket of ours can send to: itself, or what the name service says; undefined where that knows none.
 * @param local address that the socket is bound to
 */
export async function resolveHost(host: string, local: string): Promise<string | undefined> {
  if (isIP(host) !== 0) return host;
  const family = isIPv6(local) ? 6 : 4;
  return new Promise((done) => lookup(host, family, (error, address) => done(error === null ? address : undefined)));
}

class UdpDatagrams implements Datagrams {
  readonly local: Endpoint;
  onDatagram: ((datagram: Uint8Array, from: Endpoint) => void) | undefined;
  readonly #socket: Socket;
  readonly #maxQueued: number;
  #closed = false;
  #unchecked = 0;
  #full = false;

  constructor(socket: Socket, maxQueued: number) {
    const address = socket.address();
    this.local = { host: address.address, port: address.port };
    this.#socket = socket;
    this.#maxQueued = maxQueued;
    socket.on("message", (datagram, from) => this.onDatagram?.(plainOctets(datagram), { host: from.address, port: from.port }));
    // What the network says about an earlier datagram (ICMP) is of no more interest than its loss.
    socket.on("error", () => {});
  }

  send(datagram: Uint8Array, to: Endpoint): void {
    if (this.#closed || to.port < 1 || to.port > 65535) return;
    // The queue is empty nearly always, and asking for its length costs a good part of what sending costs.
    if (this.#full || ++this.#unchecked === QUEUE_CHECK) {
      this.#unchecked = 0;
      this.#full = this.#socket.getSendQueueSize() + datagram.length > this.#maxQueued;
      if (this.#full) return;
    }
    // Node refers to the octets until the kernel took them, and the caller may reuse them at once: hence the copy. What a callback
    // would tell is of no interest either, and costs a turn of the event loop for each datagram.
    this.#socket.send(Buffer.from(datagram), to.port, to.host);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onDatagram = undefined;
    this.#socket.close();
  }
}

/** `host:port`, with brackets around an IPv6 address. */
export function formatEndpoint(endpoint: Endpoint): string {
  return isIPv6(endpoint.host) ? `[${endpoint.host}]:${endpoint.port}` : `${endpoint.host}:${endpoint.port}`;
}
