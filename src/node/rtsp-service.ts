import { defaultCrypto } from "../crypto/index.js";
import { createRtspServer, type RtspServer, type RtspServerOptions } from "../rtsp/index.js";
import { createDatagramsFactory, formatEndpoint } from "./datagrams.js";
import { createStreamListener, type StreamListenerOptions } from "./streams.js";
import { systemClock, systemTimers } from "./time.js";

/** An RTSP server and where it listens. Clock, timers, randomness and sockets are Node's. */
export type RtspServiceOptions = Omit<RtspServerOptions, "clock" | "timers" | "random" | "datagrams"> &
  Pick<StreamListenerOptions, "host" | "port" | "tls" | "onFailure">;

/** A server at work. */
export interface RtspService {
  readonly server: RtspServer;
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
  const rtsp = createRtspServer({
    ...server,
    clock: systemClock,
    timers: systemTimers,
    random: { bytes: (length) => defaultCrypto.randomBytes(length) },
    datagrams: createDatagramsFactory(),
  });
  const listener = await createStreamListener({
    host,
    port,
    onStream: (stream) => rtsp.accept(stream),
    ...(options.maxConnections === undefined ? {} : { maxConnections: options.maxConnections }),
    ...(tls === undefined ? {} : { tls }),
    ...(onFailure === undefined ? {} : { onFailure }),
  }).catch((error: unknown) => {
    rtsp.close();
    throw error;
  });
  const base = `${tls === undefined ? "rtsp" : "rtsps"}://${formatEndpoint(listener.local)}`;
  return {
    server: rtsp,
    url: (path) => base + path,
    async close() {
      rtsp.close();
      await listener.close();
    },
  };
}
