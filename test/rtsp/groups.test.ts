import { afterEach, describe, expect, it } from "vitest";
import { utf8, utf8Text } from "../../src/bytes/index.js";
import { defaultCrypto, nobleCrypto } from "../../src/crypto/index.js";
import { type Gcks, openGcks, readGroupDefinition } from "../../src/gcks/index.js";
import { createSimulatedNetwork, type SimulatedNetwork, type Stream } from "../../src/io/index.js";
import { createGroupMember, type GroupMember } from "../../src/member/index.js";
import {
  createPublishedSource,
  createRtspMemberCarrier,
  createRtspServer,
  type RtspMemberCarrier,
  type RtspMemberCarrierOptions,
  type RtspServer,
  type RtspServerOptions,
} from "../../src/rtsp/index.js";
import { createMemoryStore } from "../../src/store/index.js";
import { definition, GCKS, PSK, uri } from "../group/rig.js";

interface House {
  readonly network: SimulatedNetwork;
  readonly gcks: Gcks;
  readonly server: RtspServer;
  /** A way to the group `blue`. */
  carrier(options?: Partial<RtspMemberCarrierOptions> & { readonly host?: string }): RtspMemberCarrier;
  member(carrier: RtspMemberCarrier, name?: string): GroupMember;
  dial(host?: string): Promise<Stream>;
  /** Runs a promise to its end, letting time pass. */
  run<T>(promise: Promise<T>): Promise<T>;
}

const houses: House[] = [];
afterEach(async () => {
  for (const { gcks, server } of houses.splice(0)) {
    server.close();
    await gcks.close();
  }
});

/** A key server at `server:554`, by RTSP alone. */
async function build(
  server: Partial<RtspServerOptions> = {},
  changes: Record<string, unknown> = {},
  authorise?: (network: SimulatedNetwork) => Promise<boolean>,
): Promise<House> {
  const network = createSimulatedNetwork({ settle: macrotasks });
  const { pkcs8 } = await defaultCrypto.generateKeyPair("ed25519");
  const gcks = await openGcks({
    store: createMemoryStore({ clock: network.clock, timers: network.timers }),
    clock: network.clock,
    timers: network.timers,
    identity: GCKS,
    groups: [readGroupDefinition(definition(changes, { address: undefined }))],
    findCredential: () => ({ psk: PSK }),
    signer: defaultCrypto.importPrivateKey(pkcs8),
    ...(authorise === undefined ? {} : { authorise: () => authorise(network) }),
  });
  const rtsp = createRtspServer({
    presentations: [],
    groups: { gcks },
    clock: network.clock,
    timers: network.timers,
    random: network.random,
    ...server,
  });
  network.host("server").listen(554, (stream) => rtsp.accept(stream));
  const dial = (host = "client") => network.host(host).streams.connect({ host: "server", port: 554 });
  const house: House = {
    network,
    gcks,
    server: rtsp,
    carrier: ({ host, ...options } = {}) =>
      createRtspMemberCarrier({
        url: "rtsp://server/blue",
        connect: () => dial(host),
        timers: network.timers,
        crypto: nobleCrypto,
        ...options,
      }),
    member: (carrier, name = "listener1") =>
      createGroupMember({
        groups: [{ group: utf8("blue"), role: { send: false, receive: true } }],
        credential: { psk: PSK },
        identity: uri(`sip:${name}@example.org`),
        gcks: GCKS,
        carrier,
        streams: 1,
        clock: network.clock,
        timers: network.timers,
      }),
    dial,
    async run(promise) {
      let settled = false;
      const mark = (): void => {
        settled = true;
      };
      promise.then(mark, mark);
      for (let step = 0; step < 2000 && !settled; step++) await network.advance(20);
      return promise;
    },
  };
  houses.push(house);
  return house;
}

/** Private keys answer by macrotasks. */
async function macrotasks(): Promise<void> {
  for (let turn = 0; turn < 12; turn++) await new Promise((resolve) => setImmediate(resolve));
}

const openStreams = ({ network }: House): number => network.host("client").open.streams;

describe("a member's way to its key server by RTSP", () => {
  it("is closed for good, also while it is being opened", async () => {
    const house = await build();
    for (const turns of [0, 1, 2, 3, 4, 5]) {
      const carrier = house.carrier();
      const joining = house.member(carrier).join();
      joining.catch(() => undefined);
      await house.network.advance(turns);
      carrier.close();
      await expect(house.run(joining)).rejects.toThrow();
      await house.network.advance(100);
      expect(openStreams(house), `closed after ${turns} ms`).toBe(0);
      await expect(house.run(carrier.describe())).rejects.toMatchObject({ code: "rtsp.state" });
      expect(openStreams(house)).toBe(0);
    }
  });

  it("leaves no session where not every stream could be set up", async () => {
    const stream = (port: number) => ({ media: "audio", formats: [0], address: "239.0.0.2", port });
    const house = await build({}, { streams: [stream(5004), stream(5006)] });
    const { network } = house;
    network.onTraffic = ({ octets }) => {
      if (utf8Text(octets)?.startsWith("SETUP rtsp://server/blue/track2 ") === true) network.setLink({ partitioned: true });
    };
    const carrier = house.carrier();
    await expect(house.run(house.member(carrier).join())).rejects.toMatchObject({ code: "rtsp.timeout" });
    expect(carrier.open).toBe(false);
    network.onTraffic = undefined;
    network.setLink({});
    await network.advance(1000);
    expect([openStreams(house), house.server.connections]).toEqual([0, 0]);
    const again = house.member(carrier);
    await house.run(again.join());
    expect(again.memberships[0]?.state).toBe("in-step");
    again.close();
  });

  it("is lost where the key server does not answer its sign of life", async () => {
    const house = await build({ sessionTimeout: 30 });
    const carrier = house.carrier();
    const lost: (Error | undefined)[] = [];
    const member = house.member(carrier);
    carrier.onLost = (error) => lost.push(error);
    await house.run(member.join());
    await house.network.advance(60_000);
    expect([lost, carrier.open]).toEqual([[], true]);
    house.network.setLink({ partitioned: true });
    await house.network.advance(60_000);
    expect(lost).toEqual([expect.objectContaining({ code: "rtsp.timeout" })]);
    expect(carrier.open).toBe(false);
    member.close();
  });
});

describe("a server of groups", () => {
  it("takes no more sessions than it may, of members that come at once", async () => {
    const slowly = ({ timers }: SimulatedNetwork) =>
      new Promise<boolean>((resolve) => {
        timers.after(50, () => resolve(true));
      });
    const house = await build({ maxSessions: 1 }, {}, slowly);
    const members = ["listener1", "listener2"].map((name) => house.member(house.carrier(), name));
    const outcomes = await house.run(Promise.allSettled(members.map((member) => member.join())));
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    expect(outcomes.find(({ status }) => status === "rejected")).toMatchObject({ reason: { code: "rtsp.status-453" } });
    for (const member of members) member.close();
    await house.network.advance(1000);
    const later = house.member(house.carrier(), "listener2");
    await house.run(later.join());
    later.close();
  });

  it("says that it knows no other key management, and none that cannot be read", async () => {
    const house = await build();
    let stream: Stream | undefined;
    let session = "";
    const answers: string[] = [];
    const carrier = house.carrier({
      connect: async () => {
        stream = await house.dial();
        return stream;
      },
    });
    house.network.onTraffic = ({ octets, to }) => {
      const text = utf8Text(octets) ?? "";
      session = /^Session: ([0-9a-f]+)/m.exec(text)?.[1] ?? session;
      if (to.host === "client" && /^CSeq: 9\d\d\r$/m.test(text)) answers.push(text.slice(9, 12));
    };
    const member = house.member(carrier);
    await house.run(member.join());
    for (const [index, value] of ['prot=other;data="AQID"', 'prot=mikey;data="*"', "prot=mikey"].entries()) {
      const lines = [
        "SET_PARAMETER rtsp://server/blue RTSP/1.0",
        `CSeq: ${900 + index}`,
        `Session: ${session}`,
        `KeyMgmt: ${value}`,
      ];
      stream?.write(utf8(`${lines.join("\r\n")}\r\n\r\n`));
      await house.network.advance(10);
    }
    expect(answers).toEqual(["463", "463", "463"]);
    member.close();
  });

  it("ends no connection with members because what else was played on it is over", async () => {
    const into = createPublishedSource();
    const house = await build({ presentations: [{ path: "/s", source: into, profile: "RTP/AVP", publish: { into } }] });
    const ask = (stream: Stream, method: string, url: string, fields: readonly string[], body = ""): Promise<void> => {
      const length = body === "" ? [] : [`Content-Length: ${body.length}`];
      stream.write(utf8(`${[`${method} ${url} RTSP/1.0`, "CSeq: 900", ...fields, ...length].join("\r\n")}\r\n\r\n${body}`));
      return house.network.advance(10);
    };
    const transport = (mode: string) => `Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=${mode}`;
    const studio = await house.run(house.dial("studio"));
    studio.onData = () => {};
    const sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:a\r\n";
    await ask(studio, "ANNOUNCE", "rtsp://server/s", ["Content-Type: application/sdp"], sdp);
    await ask(studio, "SETUP", "rtsp://server/s/a", [transport("RECORD")]);
    const recording = () => house.server.sessions.find(({ publishes }) => publishes)?.id ?? "none";
    await ask(studio, "RECORD", "rtsp://server/s", [`Session: ${recording()}`]);
    let stream: Stream | undefined;
    const carrier = house.carrier({
      connect: async () => {
        stream = await house.dial();
        return stream;
      },
    });
    const member = house.member(carrier);
    await house.run(member.join());
    await ask(stream as Stream, "SETUP", "rtsp://server/s/track1", [transport("PLAY")]);
    expect(house.server.sessions.map(({ publishes }) => publishes)).toEqual([true, false]);
    await ask(studio, "TEARDOWN", "rtsp://server/s", [`Session: ${recording()}`]);
    await house.network.advance(1000);
    expect(house.server.sessions).toEqual([]);
    expect(carrier.open).toBe(true);
    member.close();
  });
});
