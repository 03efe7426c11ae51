import { nobleCrypto } from "../../src/crypto/index.js";
import { createSimulatedNetwork, type SimulatedNetwork, type SimulatedNetworkOptions, type Stream } from "../../src/io/index.js";
import {
  createRtspClient,
  createRtspServer,
  type MediaSource,
  type MediaTrack,
  type Presentation,
  type RtspClient,
  type RtspClientOptions,
  type RtspServer,
  type RtspServerEvent,
  type RtspServerOptions,
} from "../../src/rtsp/index.js";

/** A source that sends what the test tells it to. */
export interface ManualSource extends MediaSource {
  /** Sends one RTP packet with the next sequence number. */
  rtp(track: number, payload: Uint8Array): void;
  /** Sends a sender report. */
  report(track: number): void;
  /** Sequence number of the next packet. */
  next: number;
  readonly running: boolean;
}

export const PCMU: MediaTrack = { media: "audio", payloadType: 0, rtpmap: "PCMU/8000", clockRate: 8000, ssrc: 0x11223344 };
export const H264: MediaTrack = {
  media: "video",
  payloadType: 96,
  rtpmap: "H264/90000",
  fmtp: "packetization-mode=1",
  clockRate: 90_000,
  ssrc: 0x55667788,
};

export function manualSource(tracks: readonly MediaTrack[] = [PCMU]): ManualSource {
  let running = false;
  const source: ManualSource = {
    tracks,
    onRtp: undefined,
    onRtcp: undefined,
    next: 1000,
    get running() {
      return running;
    },
    start: () => {
      running = true;
      return Promise.resolve();
    },
    stop: () => {
      running = false;
    },
    rtp: (track, payload) => {
      const packet = new Uint8Array(12 + payload.length);
      const view = new DataView(packet.buffer);
      packet[0] = 0x80;
      packet[1] = tracks[track]?.payloadType ?? 0;
      view.setUint16(2, source.next++ & 0xffff);
      view.setUint32(4, (source.next * 160) >>> 0);
      view.setUint32(8, tracks[track]?.ssrc ?? 0);
      packet.set(payload, 12);
      source.onRtp?.(track, packet);
    },
    report: (track) => {
      const packet = new Uint8Array(28);
      const view = new DataView(packet.buffer);
      packet[0] = 0x80;
      packet[1] = 200;
      view.setUint16(2, 6);
      view.setUint32(4, tracks[track]?.ssrc ?? 0);
      view.setUint32(8, 0xabcd1234);
      view.setUint32(12, 0x56789abc);
      source.onRtcp?.(track, packet);
    },
  };
  return source;
}

export interface Setting {
  readonly network: SimulatedNetwork;
  readonly server: RtspServer;
  readonly events: RtspServerEvent[];
  readonly source: ManualSource;
  /** A raw stream to the server. */
  dial(from?: string): Promise<Stream>;
  client(options?: Partial<RtspClientOptions> & { readonly host?: string }): Promise<RtspClient & { readonly received: Received }>;
  /** Runs a promise to its end, letting time pass. */
  run<T>(promise: Promise<T>, milliseconds?: number): Promise<T>;
}

export interface Received {
  readonly rtp: (readonly [track: number, packet: Uint8Array])[];
  readonly rtcp: (readonly [track: number, packet: Uint8Array])[];
  readonly ends: string[];
  rekeys: number;
}

export interface SettingOptions {
  readonly network?: SimulatedNetworkOptions;
  readonly server?: Partial<RtspServerOptions>;
  readonly presentation?: Partial<Presentation>;
  readonly tracks?: readonly MediaTrack[];
  readonly secure?: boolean;
  /** Waits for what takes real time; simulated time stands still meanwhile. */
  readonly idle?: () => Promise<void>;
}

/** A server at `server:554/s` in a network of its own. */
export function createSetting(
  options: SettingOptions | ((network: SimulatedNetwork) => SettingOptions) = {},
  networkOptions: SimulatedNetworkOptions = {},
): Setting {
  let given: SettingOptions = typeof options === "function" ? { network: networkOptions } : options;
  const network = createSimulatedNetwork(given.network);
  if (typeof options === "function") given = options(network);
  const secure = given.secure ?? false;
  const source = manualSource(given.tracks);
  const events: RtspServerEvent[] = [];
  const host = network.host("server");
  const server = createRtspServer({
    presentations: [{ path: "/s", source, profile: "RTP/AVP", ...given.presentation }],
    clock: network.clock,
    timers: network.timers,
    random: network.random,
    datagrams: host.datagrams,
    onEvent: (event) => events.push(event),
    ...given.server,
  });
  host.listen(554, (stream) => server.accept(stream), { secure });
  const run = async <T>(promise: Promise<T>, milliseconds = 100): Promise<T> => {
    let settled = false;
    const mark = (): void => {
      settled = true;
    };
    promise.then(mark, mark);
    for (let step = 0; step < 1000 && !settled; step++) {
      await given.idle?.();
      await network.advance(milliseconds / 10);
    }
    return promise;
  };
  const dial = (from = "client"): Promise<Stream> =>
    run(network.host(from).streams.connect({ host: "server", port: 554 }, { secure }));
  return {
    network,
    server,
    events,
    source,
    dial,
    run,
    client: async ({ host: from = "client", ...rest } = {}) => {
      const received: Received = { rtp: [], rtcp: [], ends: [], rekeys: 0 };
      const client = createRtspClient({
        url: `${secure ? "rtsps" : "rtsp"}://server:554/s`,
        stream: await dial(from),
        clock: network.clock,
        timers: network.timers,
        random: network.random,
        crypto: nobleCrypto,
        datagrams: network.host(from).datagrams,
        onRtp: (track, packet) => received.rtp.push([track, packet]),
        onRtcp: (track, packet) => received.rtcp.push([track, packet]),
        onEnd: (error) => received.ends.push(error.code),
        onRekey: (streams) => {
          received.rekeys += streams;
        },
        ...rest,
      });
      return Object.defineProperty(client, "received", { value: received }) as RtspClient & { readonly received: Received };
    },
  };
}

/** Sequence numbers of received RTP. */
export function sequences(received: Received): number[] {
  return received.rtp.map(([, packet]) => new DataView(packet.buffer, packet.byteOffset).getUint16(2));
}

/** Payloads of received RTP as text. */
export function payloads(received: Received): string[] {
  return received.rtp.map(([, packet]) => new TextDecoder().decode(packet.subarray(12)));
}
