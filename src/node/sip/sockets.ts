import { createSocket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { DatagramsFactory, Endpoint, Stream, StreamFactory, Timers } from "../../io/index.js";
import { createDatagramsFactory } from "../datagrams.js";
import { nodeError } from "../errors.js";
import { createStreamFactory, createStreamListener, type ListenerTls, type StreamOptions } from "../streams.js";
import { systemTimers } from "../time.js";
import { connectWebSocket, listenWebSocket, type WebSocketChannel } from "./web-socket.js";

/** What a SIP transport stands on: the machine's own, or a simulated network. */
export interface SipSockets {
  readonly timers: Timers;
  readonly datagrams: DatagramsFactory;
  readonly streams: StreamFactory;
  /** Accepts connections; port 0 picks a free one. */
  listen(local: Endpoint, onStream: (stream: Stream) => void): Promise<SipListener>;
  connectWebSocket(url: string, keepAlive: number): Promise<WebSocketChannel>;
  /** Accepts WebSockets; WSS with the credentials of `tls`. */
  listenWebSocket(local: Endpoint, keepAlive: number, onChannel: (channel: WebSocketChannel) => void): Promise<SipListener>;
}

export interface SipListener {
  readonly local: Endpoint;
  close(): Promise<void>;
}

/** How TLS and WebSocket connections are checked, and what a TLS listener shows. */
export interface SipTlsOptions extends StreamOptions {
  /** PEM certificate chain and private key of the listener. */
  readonly credentials?: ListenerTls;
}

/** Most connections that a listener holds at a time. */
const MAX_CONNECTIONS = 200;
/** Milliseconds until a connection has to stand: less than a transaction's 32 s, so that there is time for another way. */
const CONNECT_TIME = 5000;

/** The machine's sockets. With `listenTls` the listener speaks TLS, under the credentials of `tls`. */
export function nodeSipSockets(tls: SipTlsOptions = {}, listenTls = false): SipSockets {
  const options = { connectTimeout: CONNECT_TIME, ...tls };
  return {
    timers: systemTimers,
    datagrams: createDatagramsFactory(),
    streams: createStreamFactory(options),
    listen: (local, onStream) =>
      createStreamListener({
        ...local,
        maxConnections: MAX_CONNECTIONS,
        onStream,
        ...(listenTls && tls.credentials !== undefined ? { tls: tls.credentials } : {}),
      }),
    connectWebSocket: (url, keepAlive) => connectWebSocket(url, { ...options, keepAlive }),
    listenWebSocket: (local, keepAlive, onChannel) =>
      listenWebSocket({
        local,
        keepAlive,
        onChannel,
        maxConnections: MAX_CONNECTIONS,
        ...(tls.credentials === undefined ? {} : { tls: tls.credentials }),
      }),
  };
}

/**
 * The address of ours that leads to a peer: what a description names as ours. Nothing is sent.
 * @throws (rejects) WatchwordError `node.name-not-found`, `node.unreachable`, `node.io`
 */
export async function localHostTowards(peer: Endpoint): Promise<string> {
  const what = `find the way to ${peer.host}`;
  const { address } = await lookup(peer.host).catch((error: unknown) => {
    throw nodeError(error, what);
  });
  const socket = createSocket(isIP(address) === 6 ? "udp6" : "udp4");
  try {
    return await new Promise<string>((resolve, reject) => {
      socket.once("error", (error) => reject(nodeError(error, what)));
      // Connecting a datagram socket makes the kernel choose the route.
      socket.connect(peer.port, address, () => resolve(socket.address().address));
    });
  } finally {
    socket.close();
  }
}
