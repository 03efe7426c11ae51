import { afterEach, describe, expect, it } from "vitest";
import { utf8, utf8Text, type WatchwordError } from "../../src/bytes/index.js";
import { createMediaKeying } from "../../src/gsa/index.js";
import {
  connectRtspClient,
  connectStream,
  createToneSource,
  type RtspService,
  type RtspServiceOptions,
  startRtspService,
  systemClock,
  systemTimers,
  toneFrame,
} from "../../src/node/index.js";
import { peerProfile } from "../../src/peers/index.js";
import {
  createMikeyClientKeying,
  createMikeyServerKeying,
  createPskDirectory,
  identityOf,
  type MediaSource,
  type Presentation,
  type RtspClient,
  type RtspServerEvent,
} from "../../src/rtsp/index.js";
import { makeSelfSigned } from "./self-signed.js";

const psk = Uint8Array.from({ length: 32 }, (_, i) => 7 * i + 1);
const credentials = makeSelfSigned();
const dialect = peerProfile("strict");
const timing = { clock: systemClock, timers: systemTimers, dialect };

const services: RtspService[] = [];
const clients: RtspClient[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await Promise.all(services.splice(0).map((service) => service.close()));
});

function keyed(path: string): Presentation {
  const directory = createPskDirectory([["viewer", psk]]);
  const keying = createMediaKeying({
    ...timing,
    requirePsk: true,
    identity: identityOf("server"),
    findCredential: () => ({ psk }),
  });
  const policy = { suite: "AES_CM_128_HMAC_SHA1_80" } as const;
  return { path, source: createToneSource(), profile: "RTP/SAVP", keying: createMikeyServerKeying({ keying, policy, directory }) };
}

async function serve(presentation: Presentation, options: Partial<RtspServiceOptions> = {}): Promise<RtspService> {
  const service = await startRtspService({ host: "127.0.0.1", port: 0, presentations: [presentation], ...options });
  services.push(service);
  return service;
}

interface Viewer {
  readonly client: RtspClient;
  readonly packets: Uint8Array[];
  readonly ended: Promise<WatchwordError>;
}

/** A client that plays the only stream of a URL under the pre-shared key. */
async function view(url: string, transport: "udp" | "tcp"): Promise<Viewer> {
  const keying = createMediaKeying({
    ...timing,
    requirePsk: true,
    identity: identityOf("viewer"),
    findCredential: () => ({ psk }),
  });
  const packets: Uint8Array[] = [];
  let end: ((error: WatchwordError) => void) | undefined;
  const ended = new Promise<WatchwordError>((resolve) => {
    end = resolve;
  });
  const client = await connectRtspClient({
    url,
    ca: credentials.cert,
    keying: createMikeyClientKeying({ keying, scope: "test" }),
    onRtp: (_track, packet) => packets.push(packet),
    onEnd: (error) => end?.(error),
  });
  clients.push(client);
  await client.describe();
  await client.setup(0, transport);
  await client.play();
  return { client, packets, ended };
}

const TONE = Array.from({ length: 100 }, (_, index) => Buffer.from(toneFrame(index)).toString("hex"));

/** The payloads as positions in the tune. */
function positions(packets: readonly Uint8Array[]): number[] {
  return packets.map((packet) => TONE.indexOf(Buffer.from(packet.subarray(12)).toString("hex")));
}

describe("RTSP over real sockets", () => {
  it.each([
    ["udp", false],
    ["tcp", false],
    ["udp", true],
    ["tcp", true],
  ] as const)("plays a stream keyed by a pre-shared key over %s, TLS %s, and proves its end", async (transport, secure) => {
    const service = await serve(keyed("/tone"), secure ? { tls: credentials } : {});
    const url = service.url("/tone");
    expect(url).toMatch(secure ? /^rtsps:/ : /^rtsp:/);
    const { client, packets } = await view(url, transport);
    await expect.poll(() => packets.length, { timeout: 10_000 }).toBeGreaterThanOrEqual(10);
    expect(await client.teardown()).toBe("verified");
    const [first = -1, ...rest] = positions(packets);
    expect(first).toBeGreaterThanOrEqual(0);
    expect(rest).toEqual(rest.map((_, index) => (first + 1 + index) % 100));
    await expect.poll(() => service.server.sessions.length).toBe(0);
  });

  it("ends a player whose server goes away, and closes with players at work", async () => {
    const service = await serve(keyed("/tone"));
    const { packets, ended } = await view(service.url("/tone"), "tcp");
    await expect.poll(() => packets.length, { timeout: 10_000 }).toBeGreaterThan(0);
    await service.close();
    expect((await ended).code).toMatch(/^rtsp\./);
  });

  it("drops a client that stops reading, and serves the next one meanwhile", async () => {
    const events: RtspServerEvent[] = [];
    const source = floodSource();
    const service = await serve(
      { path: "/flood", source, profile: "RTP/AVP" },
      { limits: { dropAbove: 65_536, closeAbove: 1 << 20, stallTimeout: 300 }, onEvent: (event) => events.push(event) },
    );
    const url = service.url("/flood");
    const stuck = await connectStream({ host: "127.0.0.1", port: Number(new URL(url).port) });
    let answers = "";
    stuck.onData = (octets) => {
      answers += utf8Text(octets) ?? "";
    };
    stuck.write(utf8(`SETUP ${url}/track1 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n`));
    await expect.poll(() => /^Session: *([^;\r]+)/m.exec(answers)?.[1]).toBeDefined();
    const session = /^Session: *([^;\r]+)/m.exec(answers)?.[1];
    stuck.onData = undefined;
    stuck.write(utf8(`PLAY ${url} RTSP/1.0\r\nCSeq: 2\r\nSession: ${session}\r\n\r\n`));
    await expect.poll(() => events.some(({ type }) => type === "playing")).toBe(true);

    const packets: Uint8Array[] = [];
    const other = await connectRtspClient({ url, onRtp: (_track, packet) => packets.push(packet) });
    clients.push(other);
    await other.describe();
    await other.setup(0, "tcp");
    await other.play();
    await expect.poll(() => packets.length, { timeout: 10_000 }).toBeGreaterThan(100);

    // The stuck one is gone, the one that reads is still there.
    await expect.poll(() => events.some(({ type }) => type === "ended"), { timeout: 10_000 }).toBe(true);
    expect(service.server.sessions.length).toBe(1);
    const seen = packets.length;
    await expect.poll(() => packets.length, { timeout: 10_000 }).toBeGreaterThan(seen);
    stuck.destroy();
  });
});

/** Big packets as fast as a timer goes: fills the buffers of a connection that is not read. */
function floodSource(): MediaSource {
  let timer: NodeJS.Timeout | undefined;
  let sequence = 0;
  const source: MediaSource = {
    tracks: [{ media: "video", payloadType: 96, rtpmap: "X-FLOOD/90000", clockRate: 90_000, ssrc: 1 }],
    onRtp: undefined,
    onRtcp: undefined,
    start() {
      timer ??= setInterval(() => {
        for (let i = 0; i < 40; i++) {
          const packet = new Uint8Array(1400);
          packet.set([0x80, 96, (sequence >> 8) & 0xff, sequence++ & 0xff, 0, 0, 0, 0, 0, 0, 0, 1]);
          source.onRtp?.(0, packet);
        }
      }, 5);
      return Promise.resolve();
    },
    stop() {
      clearInterval(timer);
    },
  };
  return source;
}
