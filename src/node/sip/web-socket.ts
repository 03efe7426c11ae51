import { createServer, type IncomingMessage, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, Socket } from "node:net";
import { type RawData, WebSocket, WebSocketServer } from "ws";
import { concatBytes, WatchwordError } from "../../bytes/index.js";
import type { Endpoint } from "../../io/index.js";
import { formatEndpoint } from "../datagrams.js";
import { nodeError } from "../errors.js";
import { plainOctets } from "../octets.js";
import type { StreamOptions } from "../streams.js";
import { MAX_BODY, MAX_HEAD } from "./message.js";

/** A WebSocket as SIP uses it. */
export interface WebSocketChannel {
  readonly secure: boolean;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly open: boolean;
  /** Octets accepted but not yet handed to the network. */
  readonly buffered: number;
  onMessage: ((octets: Uint8Array) => void) | undefined;
  onClose: ((error: Error | undefined) => void) | undefined;
  send(octets: Uint8Array): void;
  close(): void;
  destroy(): void;
}

export interface WebSocketOptions extends StreamOptions {
  /** Milliseconds between ping frames; a peer that answered none until the next is gone. 0 for none. */
  readonly keepAlive: number;
}

/** Milliseconds that a peer has for its part of the closing handshake. */
const CLOSE_TIME = 1000;

/**
 * Connects to the WebSocket of a SIP server: subprotocol `sip` (RFC 7118 §4).
 * @throws (rejects) WatchwordError as `connectStream`, and `node.web-socket` where the server refuses the handshake
 */
export function connectWebSocket(url: string, options: WebSocketOptions): Promise<WebSocketChannel> {
  const { ca, insecure, connectTimeout, keepAlive } = options;
  const socket = new WebSocket(url, "sip", {
    handshakeTimeout: connectTimeout ?? 10_000,
    maxPayload: MAX_HEAD + MAX_BODY,
    perMessageDeflate: false,
    rejectUnauthorized: insecure !== true,
    ...(ca === undefined ? {} : { ca: typeof ca === "string" ? ca : [...ca] }),
  });
  return new Promise((resolve, reject) => {
    let carrier: Socket | undefined;
    socket.once("upgrade", (response) => {
      carrier = response.socket;
    });
    socket.once("unexpected-response", (_, response) => {
      socket.terminate();
      reject(
        new WatchwordError(
          "node.web-socket",
          `connect to ${url}: the server answered ${response.statusCode ?? 0} and no WebSocket`,
        ),
      );
    });
    socket.on("error", (error) => {
      const text = /handshake has timed out/.test(error.message);
      const refused = /subprotocol|Sec-WebSocket|Unexpected server response/i.test(error.message);
      if (text) reject(new WatchwordError("node.connection-timeout", `connect to ${url}: no answer in time`));
      else if (refused) reject(new WatchwordError("node.web-socket", `connect to ${url}: ${error.message}`));
      else reject(nodeError(error, `connect to ${url}`));
    });
    socket.once("open", () => resolve(new Channel(socket, carrier ?? new Socket(), url.startsWith("wss:"), keepAlive)));
  });
}

/** What a WebSocket listener needs. */
export interface WebSocketListenerOptions {
  readonly local: Endpoint;
  /** PEM certificate chain and private key; with them it is WSS. */
  readonly tls?: { readonly cert: string | Uint8Array; readonly key: string | Uint8Array };
  readonly keepAlive: number;
  readonly maxConnections: number;
  readonly onChannel: (channel: WebSocketChannel) => void;
}

/**
 * Accepts WebSockets of the subprotocol `sip` (RFC 7118 §4).
 * @throws (rejects) WatchwordError of the socket
 */
export async function listenWebSocket(
  options: WebSocketListenerOptions,
): Promise<{ readonly local: Endpoint; close(): Promise<void> }> {
  const { local, tls, keepAlive, maxConnections, onChannel } = options;
  const server: Server =
    tls === undefined
      ? createServer()
      : createTlsServer({ cert: certificateText(tls.cert), key: certificateText(tls.key), minVersion: "TLSv1.2" });
  server.maxConnections = maxConnections;
  const sockets = new WebSocketServer({
    server,
    maxPayload: MAX_HEAD + MAX_BODY,
    perMessageDeflate: false,
    handleProtocols: () => "sip",
    verifyClient: ({ req }: { readonly req: IncomingMessage }) =>
      (req.headers["sec-websocket-protocol"] ?? "").split(",").some((name) => name.trim() === "sip"),
  });
  // The server reports the same errors.
  sockets.on("error", () => {});
  sockets.on("connection", (socket, request) => onChannel(new Channel(socket, request.socket, tls !== undefined, keepAlive)));
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(nodeError(error, `listen on ${formatEndpoint(local)}`)));
    server.listen(local.port, local.host, resolve);
  });
  const { address, port } = server.address() as AddressInfo;
  return {
    local: { host: address, port },
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets.clients) socket.terminate();
        sockets.close();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function certificateText(pem: string | Uint8Array): string | Buffer {
  return typeof pem === "string" ? pem : Buffer.from(pem);
}

class Channel implements WebSocketChannel {
  readonly secure: boolean;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  onMessage: ((octets: Uint8Array) => void) | undefined;
  onClose: ((error: Error | undefined) => void) | undefined;
  readonly #socket: WebSocket;
  #alive = true;
  #closing = false;
  #error: Error | undefined;

  constructor(socket: WebSocket, carrier: Socket, secure: boolean, keepAlive: number) {
    this.secure = secure;
    this.local = { host: carrier.localAddress ?? "", port: carrier.localPort ?? 0 };
    this.remote = { host: carrier.remoteAddress ?? "", port: carrier.remotePort ?? 0 };
    this.#socket = socket;
    const pinger = keepAlive > 0 ? setInterval(() => this.#ping(), keepAlive).unref() : undefined;
    socket.on("message", (data) => this.onMessage?.(octetsOf(data)));
    socket.on("pong", () => {
      this.#alive = true;
    });
    socket.on("error", (error) => {
      this.#error ??= error;
    });
    socket.once("close", () => {
      clearInterval(pinger);
      this.onClose?.(
        this.#closing ? undefined : (this.#error ?? new WatchwordError("node.connection-reset", "the WebSocket was closed")),
      );
    });
  }

  get open(): boolean {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  get buffered(): number {
    return this.#socket.bufferedAmount;
  }

  send(octets: Uint8Array): void {
    // Text, as every SIP WebSocket peer takes it; messages of ours are text throughout.
    this.#socket.send(octets, { binary: false }, () => {});
  }

  close(): void {
    this.#closing = true;
    this.#socket.close(1000);
    setTimeout(() => this.#socket.terminate(), CLOSE_TIME).unref();
  }

  destroy(): void {
    this.#socket.terminate();
  }

  #ping(): void {
    if (!this.#alive) this.#socket.terminate();
    else if (this.open) {
      this.#alive = false;
      this.#socket.ping();
    }
  }
}

function octetsOf(data: RawData): Uint8Array {
  if (Array.isArray(data)) return concatBytes(...data.map(plainOctets));
  return data instanceof ArrayBuffer ? new Uint8Array(data) : plainOctets(data as Buffer);
}
