import { afterEach, describe, expect, it } from "vitest";
import { utf8 } from "../../../src/bytes/index.js";
import { createSimulatedNetwork, type SimulatedNetwork } from "../../../src/io/index.js";
import { createToneSource, type MediaSink, toneFrame } from "../../../src/node/index.js";
import { createRtpMedia, type RtpMedia } from "../../../src/node/sip/index.js";
import type { MediaSource, MediaTrack } from "../../../src/rtsp/index.js";
import { createPskSipKeying, type SipDialog } from "../../../src/sip/index.js";

const PSK = utf8("a key that only two parties have");

interface Party {
  readonly media: RtpMedia;
  readonly dialog: SipDialog;
  readonly received: Uint8Array[];
  readonly reports: Uint8Array[];
  readonly tracks: MediaTrack[];
  /** When it was told that nothing comes. */
  readonly silences: number[];
  readonly errors: unknown[];
}

interface Call {
  readonly network: SimulatedNetwork;
  readonly alice: Party;
  readonly bob: Party;
}

const open: Party[] = [];
afterEach(() => {
  for (const { media, dialog } of open.splice(0)) {
    media.close();
    dialog.close();
  }
});

type Resolve = (host: string) => Promise<string | undefined>;

function party(network: SimulatedNetwork, name: string, other: string, source: MediaSource | undefined, resolve?: Resolve): Party {
  const received: Uint8Array[] = [];
  const reports: Uint8Array[] = [];
  const tracks: MediaTrack[] = [];
  const silences: number[] = [];
  const errors: unknown[] = [];
  const sink: MediaSink = {
    rtp: (_, packet) => void received.push(packet.slice()),
    rtcp: (_, packet) => void reports.push(packet.slice()),
    close: () => Promise.resolve(),
  };
  const media = createRtpMedia({
    host: name,
    ...(resolve === undefined ? {} : { resolve }),
    ...(source === undefined ? {} : { source }),
    sink: (known) => {
      tracks.push(...known);
      return Promise.resolve(sink);
    },
    datagrams: network.host(name).datagrams,
    steady: network.clock,
    timers: network.timers,
    sessionId: "1",
    ssrc: 99,
    mediaTimeout: 30_000,
    onError: (error) => errors.push(error),
    onSilence: () => silences.push(network.clock.now()),
  });
  const { clock, timers } = network;
  const uri = (user: string): string => `sip:${user}@example.test`;
  const keying = createPskSipKeying({ uri: uri(name), keys: new Map([[uri(other), PSK]]), clock, timers });
  const dialog = keying.dialog({ callId: "c", callerTag: "t", remote: uri(other), ssrcFor: (index) => media.ssrcFor?.(index) });
  const result = { media, dialog, received, reports, tracks, silences, errors };
  open.push(result);
  return result;
}

function tone(network: SimulatedNetwork, ssrc: number): MediaSource {
  return createToneSource({ ssrc, steady: network.clock, clock: network.clock, timers: network.timers });
}

/** One offer/answer exchange, as the adapter leads it. */
async function negotiate(from: Party, to: Party): Promise<{ readonly offer: string; readonly answer: string }> {
  const attach = ({ dialog, media }: Party): void => {
    for (const stream of dialog.streams) if (stream.onRtp === undefined) media.attach(stream);
  };
  const offer = await from.dialog.createOffer(await from.media.describe("offer", undefined));
  attach(from);
  await to.dialog.acceptOffer(offer);
  attach(to);
  await to.media.setRemote("offer", offer);
  const answer = await to.dialog.createAnswer(await to.media.describe("answer", offer));
  await from.dialog.acceptAnswer(answer);
  await from.media.setRemote("answer", answer);
  return { offer, answer };
}

function createCall(sources: { readonly alice?: boolean; readonly bob?: boolean } = {}, resolve?: Resolve): Call {
  const network = createSimulatedNetwork();
  return {
    network,
    alice: party(network, "alice", "bob", sources.alice === false ? undefined : tone(network, 11), resolve),
    bob: party(network, "bob", "alice", sources.bob === false ? undefined : tone(network, 22), resolve),
  };
}

/** The payloads are consecutive frames of the tone. */
function expectTone(packets: readonly Uint8Array[], atLeast: number): void {
  expect(packets.length).toBeGreaterThanOrEqual(atLeast);
  const first = Array.from({ length: 100 }, (_, index) => index).find((index) => same(toneFrame(index), packets[0]?.subarray(12)));
  expect(first).toBeDefined();
  for (const [index, packet] of packets.entries())
    expect(same(toneFrame((first as number) + index), packet.subarray(12))).toBe(true);
}

function same(a: Uint8Array, b: Uint8Array | undefined): boolean {
  return b !== undefined && Buffer.from(a).equals(b);
}

describe("the media of a call", () => {
  it("flows both ways under the keys of the exchange, and nothing of it in the clear", async () => {
    const { network, alice, bob } = createCall();
    const wire: Uint8Array[] = [];
    network.onTraffic = ({ octets }) => void wire.push(octets.slice());
    const { offer, answer } = await negotiate(alice, bob);
    expect(offer).toMatch(/m=audio \d+ RTP\/SAVP 0\r\na=rtpmap:0 PCMU\/8000\r\na=sendrecv/);
    expect(answer).toContain("a=sendrecv");
    await network.advance(2000);
    expectTone(alice.received, 95);
    expectTone(bob.received, 95);
    expect(alice.media.statistics).toMatchObject([{ direction: "sendrecv", lost: 0, refused: 0 }]);
    // A sender report comes at once, receiver reports after five seconds.
    expect(bob.reports.length).toBe(1);
    await network.advance(5000);
    expect(bob.reports.map((report) => report[1])).toContain(201);
    const frames = new Set(Array.from({ length: 100 }, (_, index) => Buffer.from(toneFrame(index)).toString("hex")));
    expect(wire.length).toBeGreaterThan(600);
    expect(wire.filter((octets) => frames.has(Buffer.from(octets.subarray(12, 172)).toString("hex")))).toEqual([]);
  });

  it("comes in although the source does not start, and says so", async () => {
    const network = createSimulatedNetwork();
    const taken = new Error("the port is taken");
    const dumb = tone(network, 22);
    dumb.start = () => Promise.reject(taken);
    const [alice, bob] = [party(network, "alice", "bob", tone(network, 11)), party(network, "bob", "alice", dumb)];
    await negotiate(alice, bob);
    await network.advance(500);
    expect(bob.errors).toEqual([taken]);
    expectTone(bob.received, 20);
  });

  it("stops one way on hold and comes back", async () => {
    const { network, alice, bob } = createCall();
    await negotiate(alice, bob);
    await network.advance(200);
    alice.media.direction = "sendonly";
    const held = await negotiate(alice, bob);
    expect(held.offer).toContain("a=sendonly");
    expect(held.answer).toContain("a=recvonly");
    await network.advance(50);
    const [before, bobBefore] = [alice.received.length, bob.received.length];
    await network.advance(1000);
    expect(alice.received.length).toBe(before);
    expect(bob.received.length).toBeGreaterThan(bobBefore + 45);
    alice.media.direction = "sendrecv";
    await negotiate(alice, bob);
    await network.advance(1000);
    expect(alice.received.length).toBeGreaterThan(before + 45);
    expect(bob.media.statistics[0]).toMatchObject({ lost: 0, refused: 0 });
  });

  it("loses no packet when the keys are replaced, from either side", async () => {
    const { network, alice, bob } = createCall();
    await negotiate(alice, bob);
    await network.advance(500);
    const before = alice.dialog.media[0]?.fingerprint;
    await negotiate(alice, bob);
    await network.advance(500);
    await negotiate(bob, alice);
    await network.advance(500);
    expect(alice.dialog.media[0]?.fingerprint).not.toBe(before);
    expect(alice.dialog.media[0]?.fingerprint).toBe(bob.dialog.media[0]?.fingerprint);
    expectTone(alice.received, 70);
    expectTone(bob.received, 70);
    for (const { media } of [alice, bob]) expect(media.statistics).toMatchObject([{ lost: 0, refused: 0 }]);
  });

  it("is missed where the other party has gone, and not where it holds the call", async () => {
    const { network, alice, bob } = createCall();
    await negotiate(alice, bob);
    await network.advance(60_000);
    bob.media.direction = "sendonly";
    await negotiate(bob, alice);
    await network.advance(120_000);
    bob.media.direction = "sendrecv";
    await negotiate(bob, alice);
    await network.advance(1000);
    expect([alice.silences, bob.silences]).toEqual([[], []]);
    bob.media.close();
    await network.advance(29_000);
    expect(alice.silences).toEqual([]);
    await network.advance(10_000);
    expect(alice.silences.length).toBeGreaterThan(0);
  });

  it("goes nowhere, reports included, while the other party holds by an address of zeros (RFC 3264 §8.4)", async () => {
    const { network, alice, bob } = createCall();
    await negotiate(alice, bob);
    await network.advance(6000);
    const offer = (await bob.dialog.createOffer(await bob.media.describe("offer", undefined))).replaceAll(
      "IN IP4 bob",
      "IN IP4 0.0.0.0",
    );
    expect(offer).toContain("c=IN IP4 0.0.0.0");
    await alice.dialog.acceptOffer(offer);
    await alice.media.setRemote("offer", offer);
    const answer = await alice.dialog.createAnswer(await alice.media.describe("answer", offer));
    await bob.dialog.acceptAnswer(answer);
    await bob.media.setRemote("answer", answer);
    const port = Number(/m=audio (\d+)/.exec(offer)?.[1]);
    let strayed = 0;
    for (const own of [port, port + 1]) {
      const here = await network.host("0.0.0.0").datagrams.bind({ host: "0.0.0.0", port: own });
      here.onDatagram = () => strayed++;
    }
    await network.advance(20_000);
    expect(strayed).toBe(0);
    expect(alice.silences).toEqual([]);
  });

  it("finds a host that a description names once, and sends nothing where there is none", async () => {
    const asked: string[] = [];
    const known: Readonly<Record<string, string>> = { alice: "alice", "bobs.example": "bob" };
    const call = createCall({}, async (host) => {
      asked.push(host);
      return known[host];
    });
    const { network, alice, bob } = call;
    const { answer } = await negotiate(alice, bob);
    await alice.media.setRemote("answer", answer.replace(/^c=.*$/m, "c=IN IP4 bobs.example"));
    await network.advance(500);
    expectTone(bob.received, 20);
    await alice.media.setRemote("answer", answer.replace(/^c=.*$/m, "c=IN IP4 nowhere.example"));
    await network.advance(50);
    const before = bob.received.length;
    await network.advance(500);
    expect(bob.received).toHaveLength(before);
    expect(asked).toEqual(["alice", "bob", "bobs.example", "nowhere.example"]);
  });

  it("is received only where there is nothing to send", async () => {
    const { network, alice, bob } = createCall({ bob: false });
    const { answer } = await negotiate(alice, bob);
    expect(answer).toContain("a=recvonly");
    await network.advance(500);
    expectTone(bob.received, 20);
    expect(alice.received).toEqual([]);
    expect(bob.tracks).toMatchObject([{ media: "audio", payloadType: 0, rtpmap: "PCMU/8000" }]);
  });

  it("keeps the payload type of the offer, and refuses lines that it cannot have", async () => {
    const { network, alice, bob } = createCall();
    const describe_ = alice.media.describe.bind(alice.media);
    alice.media.describe = async (type, remote) =>
      `${(await describe_(type, remote)).replace(/RTP\/AVP 0\r\na=rtpmap:0/, "RTP/AVP 107\r\na=rtpmap:107")}m=application 9 UDP/BFCP *\r\n`;
    const offer = (await alice.media.describe("offer", undefined)) as string;
    await bob.media.setRemote("offer", offer);
    const answer = await bob.media.describe("answer", offer);
    expect(answer).toMatch(/m=audio [1-9]\d* RTP\/AVP 107\r\na=rtpmap:107 PCMU\/8000/);
    expect(answer).toMatch(/m=\w+ 0 /);
    await network.advance(10);
  });

  it("goes back to what was agreed where an offer is refused", async () => {
    const { network, alice, bob } = createCall();
    await negotiate(alice, bob);
    await network.advance(200);
    await alice.dialog.createOffer(await alice.media.describe("offer", undefined));
    alice.dialog.rollback();
    alice.media.rollback?.();
    await network.advance(500);
    expectTone(alice.received, 30);
    expect(alice.media.statistics[0]).toMatchObject({ direction: "sendrecv", lost: 0 });
  });

  it("closes its sockets and its sink", async () => {
    const { network, alice, bob } = createCall();
    await negotiate(alice, bob);
    await network.advance(100);
    expect(network.host("alice").open.datagrams).toBe(2);
    alice.media.close();
    alice.media.close();
    await alice.media.closed;
    bob.media.close();
    await bob.media.closed;
    expect(network.host("alice").open.datagrams + network.host("bob").open.datagrams).toBe(0);
  });
});
