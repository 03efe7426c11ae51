import type { Datagrams, DatagramsFactory, Endpoint } from "../io/index.js";
import type { DatagramPeer, MediaCarrier } from "./carrier.js";
import type { NumberPair } from "./transport.js";

/** UDP ports of a server, shared by the streams of all its sessions: the client's address and port tell them apart. */
export interface DatagramPorts {
  /**
   * Opens a way to a client over a pair of ports on a local address. Another pair is bound only where that client address and port is
   * taken on every pair there is; the last way that closes closes its pair.
   * @throws (rejects) what the factory throws
   */
  open(host: string, peer: DatagramPeer): Promise<{ readonly carrier: MediaCarrier; readonly ports: NumberPair }>;
}

/** One stream of one client. */
interface Way {
  readonly carrier: MediaCarrier;
  readonly peer: DatagramPeer;
}

/** Creates the ports of a server. Nothing is bound before it is needed. */
export function createDatagramPorts(factory: DatagramsFactory): DatagramPorts {
  const pairs = new Map<string, Set<SharedPair>>();
  return {
    async open(host, peer) {
      const here = pairs.get(host) ?? new Set();
      pairs.set(host, here);
      let pair = [...here].find((candidate) => candidate.isFree(peer));
      if (pair === undefined) {
        const bound: SharedPair = new SharedPair(factory.bindPair(host), () => {
          here.delete(bound);
          if (here.size === 0 && pairs.get(host) === here) pairs.delete(host);
        });
        here.add(bound);
        pair = bound;
      }
      return pair.open(peer);
    },
  };
}

class SharedPair {
  readonly #bound: Promise<readonly [rtp: Datagrams, rtcp: Datagrams]>;
  readonly #onUnused: () => void;
  readonly #ways = new Set<Way>();
  /** By client address and port. */
  readonly #rtp = new Map<string, Way>();
  readonly #rtcp = new Map<string, Way>();
  readonly #byHost = new Map<string, Set<Way>>();
  #sockets: readonly [rtp: Datagrams, rtcp: Datagrams] | undefined;

  constructor(bound: Promise<readonly [rtp: Datagrams, rtcp: Datagrams]>, onUnused: () => void) {
    this.#bound = bound;
    this.#onUnused = onUnused;
  }

  isFree({ host, ports: [rtp, rtcp] }: DatagramPeer): boolean {
    return !this.#rtp.has(keyOf(host, rtp)) && !this.#rtcp.has(keyOf(host, rtcp));
  }

  async open(peer: DatagramPeer): Promise<{ readonly carrier: MediaCarrier; readonly ports: NumberPair }> {
    // The place is taken before the sockets are there: nobody else gets it meanwhile.
    const way: Way = { peer, carrier: this.#createCarrier(peer, () => this.#remove(way)) };
    this.#add(way);
    try {
      const sockets = await this.#bound;
      if (this.#sockets === undefined) {
        this.#sockets = sockets;
        sockets[0].onDatagram = (packet, from) => this.#find(this.#rtp, from)?.carrier.onRtp?.(packet);
        sockets[1].onDatagram = (packet, from) => this.#find(this.#rtcp, from)?.carrier.onRtcp?.(packet);
      }
      return { carrier: way.carrier, ports: [sockets[0].local.port, sockets[1].local.port] };
    } catch (error) {
      way.carrier.close();
      throw error;
    }
  }

  #createCarrier({ host, ports }: DatagramPeer, remove: () => void): MediaCarrier {
    const to: readonly [Endpoint, Endpoint] = [
      { host, port: ports[0] },
      { host, port: ports[1] },
    ];
    const carrier: MediaCarrier = {
      kind: "udp",
      onRtp: undefined,
      onRtcp: undefined,
      sendRtp: (packet) => {
        this.#sockets?.[0].send(packet, to[0]);
        return true;
      },
      sendRtcp: (packet) => {
        this.#sockets?.[1].send(packet, to[1]);
        return true;
      },
      close: () => {
        carrier.onRtp = undefined;
        carrier.onRtcp = undefined;
        remove();
      },
    };
    return carrier;
  }

  #add(way: Way): void {
    const { host, ports } = way.peer;
    this.#ways.add(way);
    this.#rtp.set(keyOf(host, ports[0]), way);
    this.#rtcp.set(keyOf(host, ports[1]), way);
    const neighbours = this.#byHost.get(host) ?? new Set();
    this.#byHost.set(host, neighbours.add(way));
  }

  #remove(way: Way): void {
    if (!this.#ways.delete(way)) return;
    const { host, ports } = way.peer;
    this.#rtp.delete(keyOf(host, ports[0]));
    this.#rtcp.delete(keyOf(host, ports[1]));
    const neighbours = this.#byHost.get(host);
    neighbours?.delete(way);
    if (neighbours?.size === 0) this.#byHost.delete(host);
    if (this.#ways.size > 0) return;
    this.#onUnused();
    this.#bound.then(
      (sockets) => {
        for (const socket of sockets) socket.close();
      },
      // Whoever opened the way was told.
      () => {},
    );
  }

  /** Behind a translator a client's port is not the one it named: where only one stream goes to that address, it is meant. */
  #find(exact: ReadonlyMap<string, Way>, from: Endpoint): Way | undefined {
    const way = exact.get(keyOf(from.host, from.port));
    if (way !== undefined) return way;
    const neighbours = this.#byHost.get(from.host);
    if (neighbours?.size !== 1) return undefined;
    for (const only of neighbours) return only;
    return undefined;
  }
}

function keyOf(host: string, port: number): string {
  return `${host} ${port}`;
}
