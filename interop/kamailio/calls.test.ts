import { Inviter, type URI, UserAgent } from "sip.js";
import { afterAll, beforeAll, expect, it } from "vitest";
import { WebSocket } from "ws";
import { createSampleMedia } from "../../samples/softphone-media.js";
import { utf8 } from "../../src/bytes/index.js";
import { createToneSource, type MediaSink, systemClock, systemTimers } from "../../src/node/index.js";
import { type CallEnd, type SipCall, type SipUserAgent, startSipUserAgent } from "../../src/node/sip/index.js";
import { createPskSipKeying } from "../../src/sip/index.js";
import { createSessionDescriptionHandlerFactory } from "../../src/sip/sipjs/index.js";
import { frameHashesOf, toneHashesFrom } from "../media.js";
import { describePeer } from "../peers.js";
import type { Finishing } from "../process.js";
import { until } from "../until.js";
import { DOMAIN, type Kamailio, PASSWORD, startKamailio } from "./proxy.js";

const PSK = utf8("what alice and bob have agreed on");
type Transport = "udp" | "tcp" | "tls" | "ws";

const cleanUps: (() => void | Promise<void>)[] = [];
const wholeFile: Finishing = { onTestFinished: (callback) => void cleanUps.push(callback) };

/** A user agent at the proxy, and everything that it heard and said. */
interface User {
  readonly agent: SipUserAgent;
  readonly packets: Uint8Array[];
  readonly sink: () => Promise<MediaSink>;
  readonly incoming: SipCall[];
  readonly ends: CallEnd[];
  /** Descriptions, as sip.js handed them over and got them. */
  readonly sent: string[];
  readonly received: string[];
  readonly messages: string[];
}

async function startUser(test: Finishing, kamailio: Kamailio, name: string, transport: Transport): Promise<User> {
  const { port, certificate } = kamailio;
  const server = transport === "tls" ? port.tls : port.sip;
  const packets: Uint8Array[] = [];
  const [sent, received, messages]: [string[], string[], string[]] = [[], [], []];
  const incoming: SipCall[] = [];
  const ends: CallEnd[] = [];
  const sink = (): Promise<MediaSink> =>
    Promise.resolve({ rtp: (_, packet) => void packets.push(packet.slice()), rtcp() {}, close: () => Promise.resolve() });
  const agent = await startSipUserAgent({
    address: `sip:${name}@${DOMAIN}`,
    transport: {
      transport,
      ...(transport === "ws" ? { url: `ws://127.0.0.1:${port.ws}` } : { proxy: { host: "127.0.0.1", port: server } }),
      tls: { ca: certificate },
      trace: (direction, message) => {
        messages.push(message);
        const body = message.split("\r\n\r\n")[1] ?? "";
        if (/Content-Type: application\/sdp/i.test(message)) (direction === "sent" ? sent : received).push(body);
      },
    },
    ...(transport === "ws" ? {} : { route: [`sip:127.0.0.1:${server};transport=${transport};lr`] }),
    credentials: { user: name, password: PASSWORD },
    keying: (uri) => createPskSipKeying({ uri, keys: { find: () => PSK }, clock: systemClock, timers: systemTimers }),
    mediaHost: "127.0.0.1",
    onCall: (call) => {
      void call.accept({ source: createToneSource(), sink }).then((accepted) => {
        incoming.push(accepted);
        void accepted.ended.then((end) => ends.push(end));
      });
    },
  });
  test.onTestFinished(() => agent.close());
  return { agent, packets, sink, incoming, ends, sent, received, messages };
}

async function grow({ packets }: User, by: number): Promise<void> {
  const wanted = packets.length + by;
  await until(`${by} packets more`, () => packets.length >= wanted);
}

/** What came is the tone, frame after frame, from wherever it began. */
function expectTone({ packets }: User): void {
  const hashes = packets.flatMap((packet) => frameHashesOf(packet.subarray(12)));
  expect(hashes.length).toBeGreaterThan(0);
  expect(hashes).toEqual(toneHashesFrom(hashes[0], hashes.length));
}

const PAIRS: readonly (readonly [Transport, Transport])[] = [
  ["ws", "ws"],
  ["udp", "udp"],
  ["tcp", "tcp"],
  ["tls", "tls"],
  ["udp", "ws"],
  ["tls", "udp"],
];

describePeer("kamailio", "two user agents through it [carries our calls]", () => {
  let kamailio: Kamailio;
  beforeAll(async () => {
    kamailio = await startKamailio(wholeFile);
  });
  afterAll(async () => {
    for (const cleanUp of cleanUps.reverse()) await cleanUp();
  });

  it.concurrent.for(PAIRS)("%s to %s: register, call, media both ways, rekey, hold, end with proof", async ([from, to], test) => {
    const names = [`alice-${from}-${to}`, `bob-${from}-${to}`] as const;
    const [alice, bob] = [await startUser(test, kamailio, names[0], from), await startUser(test, kamailio, names[1], to)];
    await Promise.all([alice.agent.register(), bob.agent.register()]);
    expect(alice.messages.some((message) => /^REGISTER [\s\S]*\r\nAuthorization: Digest/.test(message))).toBe(true);

    const call = await alice.agent.call(`sip:${names[1]}@${DOMAIN}`, { source: createToneSource(), sink: alice.sink });
    expect(alice.messages.some((message) => /^INVITE [\s\S]*\r\nProxy-Authorization: Digest/.test(message))).toBe(true);
    await Promise.all([grow(alice, 25), grow(bob, 25)]);
    const answered = bob.incoming[0] as SipCall;
    const first = call.keys?.fingerprint;
    expect(answered.keys?.fingerprint).toBe(first);

    // New keys from either side, while media goes on.
    await call.rekey();
    await Promise.all([grow(alice, 15), grow(bob, 15)]);
    await answered.rekey();
    await Promise.all([grow(alice, 15), grow(bob, 15)]);
    expect(call.keys?.fingerprint).not.toBe(first);
    expect(answered.keys?.fingerprint).toBe(call.keys?.fingerprint);
    expectTone(alice);
    expectTone(bob);

    // Whoever is held hears on and is not heard: what was on its way has come when ten more packets have gone the other way.
    await call.hold();
    await grow(bob, 10);
    const heard = alice.packets.length;
    await grow(bob, 10);
    expect(alice.packets.length).toBe(heard);
    expect(call.statistics[0]?.direction).toBe("sendonly");
    expect(answered.statistics[0]?.direction).toBe("recvonly");
    await call.resume();
    await grow(alice, 10);
    for (const { statistics } of [call, answered]) expect(statistics).toMatchObject([{ lost: 0, refused: 0 }]);

    expect(await call.hangUp()).toMatchObject({ by: "local", proof: "verified" });
    await until("the end at the other side", () => bob.ends.length > 0);
    expect(bob.ends).toMatchObject([{ by: "remote", proof: "verified" }]);
    // Each description arrived as it was sent, octet for octet.
    expect(new Set(bob.received)).toEqual(new Set(alice.sent));
    expect(new Set(alice.received)).toEqual(new Set(bob.sent));
    expect(alice.sent.every((sdp) => sdp.includes("a=key-mgmt:mikey "))).toBe(true);
  });

  it.concurrent("a stock sip.js user agent on its own WebSocket transport calls ours", async (test) => {
    // What a browser has, Node 20 does not.
    Object.assign(globalThis, { WebSocket });
    const bob = await startUser(test, kamailio, "bob-stock", "udp");
    await bob.agent.register();
    const uri = `sip:alice-stock@${DOMAIN}`;
    let packets = 0;
    const events: string[] = [];
    const keying = createPskSipKeying({ uri, keys: { find: () => PSK }, clock: systemClock, timers: systemTimers });
    const alice = new UserAgent({
      uri: UserAgent.makeURI(uri) as URI,
      transportOptions: { server: `ws://127.0.0.1:${kamailio.port.ws}` },
      authorizationUsername: "alice-stock",
      authorizationPassword: PASSWORD,
      logBuiltinEnabled: false,
      sessionDescriptionHandlerFactory: createSessionDescriptionHandlerFactory({
        keying,
        media: () => createSampleMedia(uri, () => packets++),
        onKeyed: (_session, { dialog }) => events.push(`keyed ${dialog.streams[0]?.fingerprint}`),
        onProof: (_session, { by, verdict }) => events.push(`${by} ${verdict}`),
      }),
    });
    test.onTestFinished(() => alice.stop());
    await alice.start();
    const call = new Inviter(alice, UserAgent.makeURI(`sip:bob-stock@${DOMAIN}`) as URI);
    await call.invite();
    await until("keys", () => events.length === 1);
    await Promise.all([grow(bob, 15), until("media", () => packets > 15)]);
    await call.invite();
    await until("new keys", () => events.length === 2);
    expect(events[1]).toBe(`keyed ${bob.incoming[0]?.keys?.fingerprint}`);
    await grow(bob, 15);
    expect(bob.incoming[0]?.statistics).toMatchObject([{ lost: 0, refused: 0 }]);
    await call.bye();
    await until("the end", () => events.length === 3);
    expect(events[2]).toBe("acknowledged verified");
    await until("the end at the other side", () => bob.ends.length > 0);
    expect(bob.ends).toMatchObject([{ by: "remote", proof: "verified" }]);
  });

  it.concurrent("refuses whoever does not know the password", async (test) => {
    const mallory = await startUser(test, { ...kamailio }, "mallory", "udp");
    const stranger = await startSipUserAgent({
      address: `sip:stranger@${DOMAIN}`,
      transport: { transport: "udp" },
      route: [`sip:127.0.0.1:${kamailio.port.sip};lr`],
      credentials: { user: "stranger", password: "guessed" },
      keying: (uri) => createPskSipKeying({ uri, keys: { find: () => PSK }, clock: systemClock, timers: systemTimers }),
    });
    test.onTestFinished(() => stranger.close());
    await mallory.agent.register();
    await expect(stranger.register()).rejects.toMatchObject({ code: "node.sip-status-401" });
    await expect(stranger.call(`sip:mallory@${DOMAIN}`)).rejects.toMatchObject({ code: "node.sip-status-407" });
    await expect(mallory.agent.call(`sip:nobody@${DOMAIN}`)).rejects.toMatchObject({ code: "node.sip-status-404" });
  });
});
