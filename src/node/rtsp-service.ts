import { defaultCrypto } from "../crypto/index.js";
import { createRtspServer, maxConnectionsOf, type RtspServer, type RtspServerOptions } from "../rtsp/index.js";
import { createDatagramsFactory, formatEndpoint } from "./datagrams.js";
import { openFileLimit } from "./descriptors.js";
import { createStreamListener, type StreamListenerOptions } from "./streams.js";
import { steadyClock, systemClock, systemTimers } from "./time.js";

/** An RTSP server and where it listens. Clock, timers, randomness and sockets are Node's. */
export type RtspServiceOptions = Omit<RtspServerOptions, "clock" | "steady" | "timers" | "random" | "datagrams"> &
  Pick<StreamListenerOptions, "host" | "port" | "tls" | "onFailure">;

/** Connections in their TLS handshake, and ones that are to take another's place. */
const SPARE_CONNECTIONS = 32;
/** Descriptors that are no client's: Node's own, the listener, a source, UDP ports, files to come. */
const OTHER_FILES = 64;

/** A server at work. */
export interface RtspService {
  readonly server: RtspServer;
  /** Connections at a time: as many as were asked for, or as the limit of open files leaves. */
  readonly maxConnections: number;
  /** `rtsp://host:port/path`, or `rtsps://` with TLS, with the port that was picked. */
  url(path: string): string;
  /** Ends every session and connection; resolves when the last one has closed. */
  close(): Promise<void>;
}

/**
 * Starts an RTSP server on TCP, or on TLS with `tls`.
 * @throws (rejects) WatchwordError of `createRtspServer` and `createStreamListener`
 */
export async function startRtspService(options: RtspServiceOptions): Promise<RtspService> {
  const { host, port, tls, onFailure, ...server } = options;
  // Where no descriptor is left the system closes connections without a word to anybody; and UDP ports could not be bound.
  const files = (openFileLimit() ?? Number.POSITIVE_INFINITY) - OTHER_FILES - SPARE_CONNECTIONS;
  const maxConnections = Math.max(1, Math.min(maxConnectionsOf(options), files));
  const rtsp = createRtspServer({
    ...server,
    maxConnections,
    clock: systemClock,
    steady: steadyClock,
    timers: systemTimers,
    random: { bytes: (length) => defaultCrypto.randomBytes(length) },
    datagrams: createDatagramsFactory(),
  });
  const listener = await createStreamListener({
    host,
    port,
    onStream: (stream) => rtsp.accept(stream),
    // The server knows which connection may go for another; the listener only stands behind it.
    maxConnections: maxConnections + SPARE_CONNECTIONS,
    ...(tls === undefined ? {} : { tls }),
    ...(onFailure === undefined ? {} : { onFailure }),
  }).catch((error: unknown) => {
    rtsp.close();
    throw error;
  });
  const base = `${tls === undefined ? "rtsp" : "rtsps"}://${formatEndpoint(listener.local)}`;
  return {
    server: rtsp,
    maxConnections,
    url: (path) => base + path,
    async close() {
      rtsp.close();
      await listener.close();
    },
  };
}
