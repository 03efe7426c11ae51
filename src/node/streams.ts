import { connect as connectTcp, createServer, isIP, type Server, type Socket } from "node:net";
import { connect as connectTls, createSecureContext, createServer as createTlsServer, TLSSocket } from "node:tls";
import { WatchwordError } from "../bytes/index.js";
import type { ChannelInfo, Endpoint, Stream, StreamFactory } from "../io/index.js";
import { formatEndpoint } from "./datagrams.js";
import { nodeError } from "./errors.js";
import { plainOctets } from "./octets.js";

/** How streams are opened. */
export interface StreamOptions {
  /** PEM certificates of the issuers to trust instead of the system's. */
  readonly ca?: string | readonly string[];
  /** Accept any certificate. The channel is then private only against a listener that does not interfere. Default false. */
  readonly insecure?: boolean;
  /** PEM certificate chain and private key, shown where the listener asks who we are. */
  readonly clientCertificate?: { readonly cert: string | Uint8Array; readonly key: string | Uint8Array };
  /** Milliseconds until a connection, TLS included, has to stand. Default 10 000. */
  readonly connectTimeout?: number;
}

/** What a TLS listener shows, and whom it takes. */
export interface ListenerTls {
  readonly cert: string | Uint8Array;
  readonly key: string | Uint8Array;
  /** PEM certificates of the issuers of clients' certificates: who has none of theirs is not let in. Default: nobody is asked for one. */
  readonly clientCa?: string;
  /**
   * PEM revocation lists of the issuers of clients' certificates, root and all. Where there is one, TLS lets nobody in of whose issuers one has no list that is
   * in its time (OpenSSL's X509_V_FLAG_CRL_CHECK_ALL). Default: none is asked.
   */
  readonly clientCrls?: readonly string[];
}

/** What a listener needs. */
export interface StreamListenerOptions {
  readonly host: string;
  /** 0 picks a free port. */
  readonly port: number;
  /** PEM certificate chain and private key; with them every stream is TLS (1.2 or later). */
  readonly tls?: ListenerTls;
  /** Most connections at a time; further ones are closed at once. Default 1000. */
  readonly maxConnections?: number;
  readonly onStream: (stream: Stream) => void;
  /** Told of connections that failed before they became a stream, for instance in the TLS handshake. */
  readonly onFailure?: (error: WatchwordError, remote: Endpoint) => void;
}

/** A listening socket. */
export interface StreamListener {
  /** The actual address and port. */
  readonly local: Endpoint;
  /** Stops listening and ends all connections; resolves when the last one has closed. */
  close(): Promise<void>;
}

/** Milliseconds that a peer has to take what was written before an ended stream is cut. */
const LINGER = 3000;
/** The same for the streams of a listener that closes. */
const CLOSE_LINGER = 500;
const HANDSHAKE_TIMEOUT = 10_000;

/** A factory whose connections share one set of options. */
export function createStreamFactory(options: StreamOptions = {}): StreamFactory {
  return { connect: (remote, how) => connectStream(remote, { ...options, ...how }) };
}

/**
 * Opens a TCP connection, or a TLS one with `secure`. `serverName` is the name that the certificate has to carry, default
 * the host.
 * @throws (rejects) WatchwordError `node.connection-refused`, `node.connection-timeout`, `node.name-not-found`,
 * `node.unreachable`, `node.certificate-untrusted`, `node.tls`, `node.io`
 */
export function connectStream(
  remote: Endpoint,
  options: StreamOptions & { readonly secure?: boolean; readonly serverName?: string } = {},
): Promise<Stream> {
  const what = `connect to ${formatEndpoint(remote)}`;
  return new Promise((resolve, reject) => {
    const secure = options.secure === true;
    const socket = secure
      ? connectTls({ host: remote.host, port: remote.port, ...tlsOptions(remote, options) })
      : connectTcp(remote);
    const timer = setTimeout(() => {
      socket.destroy(new WatchwordError("node.connection-timeout", `${what}: no answer in time`));
    }, options.connectTimeout ?? 10_000);
    const settle = (): void => {
      clearTimeout(timer);
      socket.removeListener("error", failed);
      socket.removeListener("close", closed);
    };
    const failed = (error: Error): void => {
      settle();
      socket.on("error", () => {});
      socket.destroy();
      reject(nodeError(error, what));
    };
    const closed = (): void => failed(new WatchwordError("node.connection-reset", `${what}: the peer closed the connection`));
    socket.once("error", failed);
    socket.once("close", closed);
    socket.once(secure ? "secureConnect" : "connect", () => {
      settle();
      resolve(new SocketStream(socket));
    });
  });
}

function tlsOptions(remote: Endpoint, options: StreamOptions & { readonly serverName?: string }) {
  // RFC 6066 §3 allows names only; with an empty one Node checks the certificate against the address.
  const serverName = options.serverName ?? (isIP(remote.host) === 0 ? remote.host : "");
  return {
    servername: isIP(serverName) === 0 ? serverName : "",
    rejectUnauthorized: options.insecure !== true,
    minVersion: "TLSv1.2" as const,
    ...(options.clientCertificate === undefined ? {} : pemOf(options.clientCertificate)),
    ...(options.ca === undefined ? {} : { ca: typeof options.ca === "string" ? options.ca : [...options.ca] }),
  };
}

/**
 * Listens for TCP or, with `tls`, TLS connections.
 * @throws (rejects) WatchwordError `node.address-in-use`, `node.address-not-available`, `node.permission`,
 * `node.tls-credentials` when certificate and key cannot be used, `node.io`
 */
export async function createStreamListener(options: StreamListenerOptions): Promise<StreamListener> {
  // ASN.1 is read where there are certificates, and nowhere else.
  const x509 = options.tls?.clientCa === undefined ? undefined : await import("../crypto/x509/index.js");
  const listener = new SocketListener(options, x509 && ((der) => x509.readCertificate(der).identities));
  await listener.listen();
  return listener;
}

class SocketListener implements StreamListener {
  local: Endpoint;
  readonly #options: StreamListenerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #streams = new Set<SocketStream>();

  readonly #namesIn: ((certificate: Uint8Array) => readonly string[]) | undefined;

  /** @param namesIn where clients show certificates: whom one names */
  constructor(options: StreamListenerOptions, namesIn: ((certificate: Uint8Array) => readonly string[]) | undefined) {
    this.#namesIn = namesIn;
    this.local = { host: options.host, port: options.port };
    this.#options = options;
    this.#server = options.tls === undefined ? createServer() : this.#createTls(options.tls);
    this.#server.maxConnections = options.maxConnections ?? 1000;
    this.#server.on("connection", (socket) => this.#track(socket));
    if (options.tls === undefined) this.#server.on("connection", (socket) => this.#accept(socket));
    else this.#server.on("secureConnection", (socket) => this.#accept(socket));
    this.#server.on("tlsClientError", (error: Error, socket: TLSSocket) => this.#failed(error, socket));
  }

  #createTls(tls: NonNullable<StreamListenerOptions["tls"]>): Server {
    const { clientCa: ca, clientCrls: crls = [] } = tls;
    const credentials = {
      ...pemOf(tls),
      ...(ca === undefined ? {} : { ca, ...(crls.length === 0 ? {} : { crl: [...crls] }) }),
    };
    try {
      createSecureContext(credentials);
    } catch (error) {
      // The cause is left out: OpenSSL's words may quote the key file.
      const code =
        error instanceof Error && /mismatch/i.test(error.message) ? "they do not belong together" : "not readable as PEM";
      const lists = crls.length === 0 ? "" : ", and the revocation lists";
      throw new WatchwordError("node.tls-credentials", `TLS certificate and key${lists}: ${code}`);
    }
    const asking = tls.clientCa === undefined ? {} : { requestCert: true, rejectUnauthorized: true };
    return createTlsServer({ ...credentials, ...asking, minVersion: "TLSv1.2", handshakeTimeout: HANDSHAKE_TIMEOUT });
  }

  listen(): Promise<void> {
    const what = `listen on ${formatEndpoint(this.local)}`;
    return new Promise((resolve, reject) => {
      this.#server.once("error", (error) => reject(nodeError(error, what)));
      this.#server.listen({ host: this.local.host, port: this.local.port, exclusive: true }, () => {
        this.#server.removeAllListeners("error");
        // A connection that could not be accepted (no descriptor left) is lost; the listener goes on.
        this.#server.on("error", (error) => this.#options.onFailure?.(nodeError(error, what), this.local));
        const address = this.#server.address();
        if (address !== null && typeof address === "object") this.local = { host: plainHost(address.address), port: address.port };
        resolve();
      });
    });
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => this.#sockets.delete(socket));
  }

  #accept(socket: Socket): void {
    let certified: readonly string[] | undefined;
    if (this.#namesIn !== undefined) {
      try {
        const certificate = (socket as TLSSocket).getPeerX509Certificate();
        certified = certificate && this.#namesIn(plainOctets(certificate.raw));
      } catch (error) {
        if (!(error instanceof WatchwordError)) throw error;
      }
      // Good for TLS, and yet none that can be read: it names nobody.
      certified ??= [];
    }
    const stream = new SocketStream(socket, certified);
    this.#streams.add(stream);
    socket.once("close", () => this.#streams.delete(stream));
    this.#options.onStream(stream);
  }

  #failed(error: Error, socket: Socket): void {
    const remote = { host: plainHost(socket.remoteAddress ?? ""), port: socket.remotePort ?? 0 };
    socket.destroy();
    this.#options.onFailure?.(nodeError(error, `TLS handshake with ${formatEndpoint(remote)}`), remote);
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        for (const socket of this.#sockets) socket.destroy();
      }, CLOSE_LINGER);
      this.#server.close(() => {
        clearTimeout(timer);
        resolve();
      });
      for (const stream of this.#streams) stream.end();
      // Without a stream there is nothing to be sent: such a connection is still in its handshake.
      if (this.#streams.size === 0) for (const socket of this.#sockets) socket.destroy();
    });
  }
}

function pemOf({ cert, key }: { readonly cert: string | Uint8Array; readonly key: string | Uint8Array }) {
  return {
    cert: typeof cert === "string" ? cert : Buffer.from(cert),
    key: typeof key === "string" ? key : Buffer.from(key),
  };
}

/** An IPv4 address that a dual-stack socket wrote as IPv6 (RFC 4291 §2.5.5.2) is itself again. */
function plainHost(address: string): string {
  return address.startsWith("::ffff:") && isIP(address.slice(7)) === 4 ? address.slice(7) : address;
}

/** Streams that were written to in this turn of the event loop. */
let written: SocketStream[] = [];

function flushWritten(): void {
  const all = written;
  written = [];
  for (const stream of all) stream.flush();
}

/** Reads nothing before `onData` is set and stops reading while it is undefined: what arrives early is not lost. */
class SocketStream implements Stream {
  readonly channel: ChannelInfo;
  onDrain: (() => void) | undefined;
  readonly #socket: Socket;
  #onData: ((octets: Uint8Array) => void) | undefined;
  #onClose: ((error?: Error) => void) | undefined;
  #error: Error | undefined;
  #closed = false;
  #told = false;
  #ending = false;
  /** Whether something was written in this turn of the event loop. */
  #wrote = false;

  constructor(socket: Socket, certified?: readonly string[]) {
    this.#socket = socket;
    const remote = { host: plainHost(socket.remoteAddress ?? ""), port: socket.remotePort ?? 0 };
    this.channel = {
      local: { host: plainHost(socket.localAddress ?? ""), port: socket.localPort ?? 0 },
      remote,
      secure: socket instanceof TLSSocket,
      ...(certified === undefined ? {} : { certified }),
    };
    socket.setNoDelay(true);
    socket.pause();
    socket.on("data", (octets) => this.#onData?.(plainOctets(octets)));
    socket.on("drain", () => this.onDrain?.());
    socket.on("error", (error) => {
      this.#error ??= nodeError(error, `connection with ${formatEndpoint(remote)}`);
    });
    socket.once("close", () => {
      this.#closed = true;
      this.#tell();
    });
  }

  get onData(): ((octets: Uint8Array) => void) | undefined {
    return this.#onData;
  }

  set onData(callback: ((octets: Uint8Array) => void) | undefined) {
    this.#onData = callback;
    if (callback === undefined) this.#socket.pause();
    else this.#socket.resume();
  }

  get onClose(): ((error?: Error) => void) | undefined {
    return this.#onClose;
  }

  set onClose(callback: ((error?: Error) => void) | undefined) {
    this.#onClose = callback;
    if (this.#closed) queueMicrotask(() => this.#tell());
  }

  #tell(): void {
    if (this.#told || this.#onClose === undefined) return;
    this.#told = true;
    this.#onClose(this.#error);
  }

  get buffered(): number {
    return this.#socket.writableLength;
  }

  write(octets: Uint8Array): void {
    if (this.#ending || this.#closed) return;
    if (!this.#wrote) {
      this.#wrote = true;
      if (written.push(this) === 1) setImmediate(flushWritten);
    } else if (this.#socket.writableCorked === 0) {
      // A burst, the packets of one picture for instance: the first goes at once, the others together.
      this.#socket.cork();
    }
    // Node refers to the octets until the kernel took them, and the caller may reuse them at once: hence the copy.
    this.#socket.write(Buffer.from(octets));
  }

  /** The turn of the event loop is over. */
  flush(): void {
    this.#wrote = false;
    this.#socket.uncork();
  }

  end(): void {
    if (this.#ending || this.#closed) return;
    this.#ending = true;
    // A reader that has stopped would hold the last octets, and with them the connection, for ever.
    const timer = setTimeout(() => this.#socket.destroy(), LINGER).unref();
    this.#socket.once("close", () => clearTimeout(timer));
    this.#socket.end();
    this.#socket.resume();
  }

  destroy(): void {
    this.#ending = true;
    this.#socket.destroy();
  }
}
