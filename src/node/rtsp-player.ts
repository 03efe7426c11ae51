import { defaultCrypto } from "../crypto/index.js";
import { createRtspClient, parseRtspUri, type RtspClient, type RtspClientOptions } from "../rtsp/index.js";
import { createDatagramsFactory } from "./datagrams.js";
import { connectStream, type StreamOptions } from "./streams.js";
import { steadyClock, systemClock, systemTimers } from "./time.js";

/** An RTSP client and how it connects. Clock, timers, randomness and sockets are Node's. */
export type RtspConnectOptions = Omit<
  RtspClientOptions,
  "stream" | "clock" | "steady" | "timers" | "random" | "crypto" | "datagrams"
> &
  StreamOptions;

/**
 * Connects to the host of an rtsp:// URI, or with TLS to that of an rtsps:// URI, and makes a client of the connection.
 * @throws (rejects) WatchwordError of `parseRtspUri` and `connectStream`
 */
export async function connectRtspClient(options: RtspConnectOptions): Promise<RtspClient> {
  const { host, port, secure } = parseRtspUri(options.url);
  const stream = await connectStream({ host, port }, { ...options, secure });
  return createRtspClient({
    ...options,
    stream,
    clock: systemClock,
    steady: steadyClock,
    timers: systemTimers,
    crypto: defaultCrypto,
    random: { bytes: (length) => defaultCrypto.randomBytes(length) },
    datagrams: createDatagramsFactory(),
  });
}
