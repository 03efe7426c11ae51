import { describe, expect, it } from "vitest";
import { formatHex, utf8, utf8Text } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createMediaKeying } from "../../src/gsa/index.js";
import type { SimulatedNetwork } from "../../src/io/index.js";
import { decodeMessage } from "../../src/mikey/index.js";
import { type PeerProfileName, peerProfile } from "../../src/peers/index.js";
import {
  type ClientKeying,
  createAuthenticator,
  createMikeyClientKeying,
  createMikeyServerKeying,
  createPskDirectory,
  createRtspServer,
  header,
  identityOf,
  type MulticastDelivery,
  nameOfIdentity,
  type RtspResponse,
  type ServerKeying,
} from "../../src/rtsp/index.js";
import { parseDescription, parseKeyMgmtParameter, readKeyMgmt } from "../../src/sdp/index.js";
import type { SuiteName } from "../../src/srtp/index.js";
import { createSetting, H264, manualSource, payloads, type Setting, type SettingOptions, sequences } from "./support.js";
import { talk } from "./talk.js";

const GROUP = "239.1.2.3";
const KEYS: readonly (readonly [string, Uint8Array])[] = ["ann", "bob", "cy"].map((name) => [
  name,
  utf8(`${name.padEnd(4, "-")}0123456789abcdef0123456789ab`),
]);
const pskOf = (name: string): Uint8Array => KEYS.find(([id]) => id === name)?.[1] as Uint8Array;

interface Choice {
  readonly psk?: boolean;
  readonly peer?: PeerProfileName;
  readonly suite?: SuiteName;
  readonly delivery?: Partial<MulticastDelivery>;
  readonly rekeyInterval?: number;
}

function serverKeying(
  network: SimulatedNetwork,
  { psk = true, peer = "strict", suite = "AES_CM_128_HMAC_SHA1_80" }: Choice,
): ServerKeying {
  const directory = createPskDirectory(psk ? KEYS : []);
  const keying = createMediaKeying({
    clock: network.clock,
    timers: network.timers,
    crypto: nobleCrypto,
    dialect: peerProfile(peer),
    identity: identityOf("server"),
    requirePsk: psk,
    allowNullKeying: !psk,
    findCredential: (id) => ({ psk: directory.find(nameOfIdentity(id) ?? "") ?? new Uint8Array(16) }),
  });
  return createMikeyServerKeying({ keying, policy: { suite }, ...(psk ? { directory } : {}) });
}

function clientKeying(network: SimulatedNetwork, name: string, { psk = true, peer = "strict" }: Choice): ClientKeying {
  const keying = createMediaKeying({
    clock: network.clock,
    timers: network.timers,
    crypto: nobleCrypto,
    dialect: peerProfile(peer),
    identity: identityOf(name),
    allowNullKeying: !psk,
    requirePsk: psk,
    ...(psk ? { findCredential: () => ({ psk: pskOf(name) }) } : {}),
  });
  return createMikeyClientKeying({ keying, scope: name });
}

function groupSetting(choice: Choice = {}, options: SettingOptions = {}): Setting {
  return createSetting((network) => ({
    ...options,
    presentation: {
      profile: "RTP/SAVP",
      keying: serverKeying(network, choice),
      multicast: { group: GROUP, port: 5004, ...choice.delivery },
      ...(choice.rekeyInterval === undefined ? {} : { rekeyInterval: choice.rekeyInterval }),
      ...options.presentation,
    },
  }));
}

/** A member on a host of its own. */
async function join(
  setting: Setting,
  name: string,
  choice: Choice = {},
  options: { readonly tracks?: readonly number[]; readonly mediaTimeout?: number } = {},
) {
  const { tracks = [0], ...rest } = options;
  const player = await setting.client({
    host: name,
    from: name,
    keying: clientKeying(setting.network, name, choice),
    mediaTimeout: 0,
    ...rest,
  });
  await setting.run(player.describe());
  for (const track of tracks) await setting.run(player.setup(track, "multicast"));
  await setting.run(player.play());
  return player;
}

const WAYS: readonly (readonly [string, Choice])[] = [
  ["a pre-shared key for each", {}],
  ["NULL keying, strict", { psk: false }],
  ["NULL keying as GStreamer", { psk: false, peer: "gstreamer" }],
  ["NULL keying as ONVIF, GCM", { psk: false, peer: "onvif", suite: "AEAD_AES_128_GCM" }],
  ["a pre-shared key for each, GCM", { suite: "AEAD_AES_256_GCM" }],
];

describe.each(WAYS)("a multicast stream, %s", (_name, choice) => {
  it("reaches every member, is sent once, and under one key", async () => {
    const setting = groupSetting(choice);
    const { network, source, server, run } = setting;
    const players = [await join(setting, "ann", choice), await join(setting, "bob", choice)];
    const wire: string[] = [];
    network.onTraffic = ({ kind, to, octets }) => {
      if (kind === "datagram" && to.port === 5004) wire.push(formatHex(octets));
    };
    source.report(0);
    for (const word of ["one", "two", "three"]) source.rtp(0, utf8(word));
    await network.advance(10);
    for (const player of players) {
      expect(payloads(player.received)).toEqual(["one", "two", "three"]);
      expect(player.statistics).toMatchObject([
        { packets: 3, lost: 0, authenticationFailures: 0, keyedBy: choice.psk === false ? "null" : "psk" },
      ]);
    }
    expect(wire).toHaveLength(6);
    expect(new Set(wire).size).toBe(3);
    const [ann, bob] = server.sessions;
    expect(ann?.tracks[0]).toMatchObject({ transport: "multicast", packets: 3 });
    expect(
      new Set([
        ann?.tracks[0]?.fingerprint,
        bob?.tracks[0]?.fingerprint,
        ...players.map(({ statistics }) => statistics[0]?.fingerprint),
      ]).size,
    ).toBe(1);
    for (const player of players) await run(player.teardown());
    await network.advance(10);
    expect(["server", "ann", "bob"].map((host) => network.host(host).open.datagrams)).toEqual([0, 0, 0]);
  });

  it("is heard by a late joiner after the sequence number wrapped, and goes on where it stopped when nobody listened", async () => {
    const setting = groupSetting(choice);
    const { network, source, run } = setting;
    const ann = await join(setting, "ann", choice);
    for (let i = 0; i < 65_536 + 40; i += 8000) {
      source.next += 7999;
      source.rtp(0, utf8("x"));
      await network.advance(2);
    }
    const bob = await join(setting, "bob", choice);
    source.rtp(0, utf8("together"));
    await network.advance(10);
    expect(payloads(bob.received)).toEqual(["together"]);
    expect(payloads(ann.received).at(-1)).toBe("together");
    expect(sequences(ann.received).at(-1)).toBe(sequences(bob.received)[0]);
    await run(ann.teardown());
    await run(bob.teardown());
    source.rtp(0, utf8("nobody"));
    const cy = await join(setting, "cy", choice);
    source.rtp(0, utf8("again"));
    await network.advance(10);
    expect(payloads(cy.received)).toEqual(["again"]);
    expect(sequences(cy.received)[0]).toBe(((sequences(bob.received)[0] ?? 0) + 1) & 0xffff);
    expect(cy.statistics).toMatchObject([{ authenticationFailures: 0 }]);
  });
});

describe("a multicast presentation", () => {
  it("says where it is in SDP and in the Transport of SETUP, with TTL, source and SSRC", async () => {
    const setting = groupSetting(
      { psk: false, delivery: { ttl: 7, port: 6000 } },
      { tracks: [manualSource().tracks[0] as never, H264] },
    );
    const { say } = await talk(setting);
    const [described] = await say("DESCRIBE rtsp://server:554/s RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    const sdp = utf8Text((described as RtspResponse).body) ?? "";
    expect(parseDescription(sdp).media).toMatchObject([
      { port: 6000, connection: { address: GROUP, ttl: 7 } },
      { port: 6002, connection: { address: GROUP, ttl: 7 } },
    ]);
    const setup = async (transport: string) =>
      (await say(`SETUP rtsp://server:554/s/track2 RTSP/1.0\r\nCSeq: 2\r\nTransport: ${transport}\r\n\r\n`))[0] as RtspResponse;
    expect((await setup("RTP/SAVP;unicast;client_port=5000-5001")).status).toBe(461);
    expect((await setup("RTP/SAVP/TCP;unicast;interleaved=0-1")).status).toBe(461);
    expect((await setup("RTP/SAVP;multicast;destination=239.9.9.9")).status).toBe(461);
    expect((await setup("RTP/AVP;multicast")).status).toBe(461);
    const answer = await setup(`RTP/SAVP;multicast;destination=${GROUP};ttl=200;port=9-10`);
    expect(answer.status).toBe(200);
    expect(header(answer, "Transport")).toBe(
      `RTP/SAVP;multicast;destination=${GROUP};source=server;ttl=7;port=6002-6003;ssrc=55667788;mode="PLAY"`,
    );
  });

  it("carries several streams, each under a key of its own", async () => {
    const setting = groupSetting({}, { tracks: [manualSource().tracks[0] as never, H264] });
    const ann = await join(setting, "ann", {}, { tracks: [0, 1] });
    setting.source.rtp(0, utf8("sound"));
    setting.source.rtp(1, utf8("picture"));
    await setting.network.advance(10);
    expect(payloads(ann.received).toSorted()).toEqual(["picture", "sound"]);
    expect(new Set(ann.statistics.map(({ fingerprint }) => fingerprint)).size).toBe(2);
    await setting.run(ann.teardown());
    expect(setting.events.at(-1)).toMatchObject({ type: "ended", proof: "verified" });
  });

  it("is plain where nothing is keyed", async () => {
    const setting = createSetting({ presentation: { multicast: { group: GROUP, port: 5004 } } });
    const player = await setting.client();
    await setting.run(player.describe());
    await setting.run(player.setup(0, "multicast"));
    await setting.run(player.play());
    setting.source.rtp(0, utf8("open"));
    await setting.network.advance(10);
    expect(payloads(player.received)).toEqual(["open"]);
    await expect(setting.server.rekey(setting.server.sessions[0]?.id ?? "")).rejects.toMatchObject({ code: "rtsp.rekey" });
  });

  it("of a source-specific group is joined by its source, and members do not speak", async () => {
    const choice: Choice = { psk: false, delivery: { group: "232.1.2.3" } };
    const setting = groupSetting(choice);
    const { network, source } = setting;
    const ann = await join(setting, "ann", choice);
    const other = await network.host("other").datagrams.bindMulticast({ group: "232.1.2.3", port: 0 });
    const senders = new Set<string>();
    network.onTraffic = ({ kind, from }) => {
      if (kind === "datagram") senders.add(from.host);
    };
    source.report(0);
    source.rtp(0, utf8("one"));
    other.send(new Uint8Array(200).fill(0x80), { host: "232.1.2.3", port: 5004 });
    await network.advance(20_000);
    expect(payloads(ann.received)).toEqual(["one"]);
    expect(ann.statistics).toMatchObject([{ packets: 1, authenticationFailures: 0, discarded: 0 }]);
    expect([...senders]).toEqual(["server"]);
    expect(setting.server.sessions).toHaveLength(1);
  });

  it("takes the reports of NULL-keyed members, each under a key of its own, and members ignore each other's", async () => {
    const choice: Choice = { psk: false };
    const setting = groupSetting(choice, { server: { sessionTimeout: 20 } });
    const players = [await join(setting, "ann", choice), await join(setting, "bob", choice)];
    for (let second = 0; second < 30; second++) {
      setting.source.rtp(0, utf8("x"));
      if (second % 5 === 1) setting.source.report(0);
      await setting.network.advance(1000);
    }
    for (const player of players)
      expect(player.statistics).toMatchObject([{ packets: 30, authenticationFailures: 0, rtcpPackets: 6 }]);
    for (const { tracks } of setting.server.sessions) {
      expect(tracks[0]?.reports).toBeGreaterThan(2);
      expect(tracks[0]?.authenticationFailures).toBe(0);
    }
  });

  it("keeps a member out that does not prove who it is", async () => {
    const setting = groupSetting();
    const stranger = await setting.client({ host: "eve", from: "ann", keying: clientKeying(setting.network, "bob", {}) });
    await setting.run(stranger.describe());
    await expect(setting.run(stranger.setup(0, "multicast"))).rejects.toMatchObject({ code: "mikey.authentication" });
    const nobody = await setting.client({ host: "eve", keying: clientKeying(setting.network, "bob", {}) });
    await expect(setting.run(nobody.describe())).rejects.toMatchObject({ status: 403 });
    expect(setting.server.sessions).toEqual([]);
  });

  it("does not let a client choose the key", async () => {
    const setting = groupSetting();
    const { network } = setting;
    const ann = createMediaKeying({
      clock: network.clock,
      timers: network.timers,
      crypto: nobleCrypto,
      dialect: peerProfile("strict"),
      identity: identityOf("ann"),
    });
    const offer = await ann.offer({
      credential: { psk: pskOf("ann") },
      streams: [{ policy: { suite: "AES_CM_128_HMAC_SHA1_80" } }],
      secure: false,
    });
    const { say } = await talk(setting);
    const data = Buffer.from(offer.octets).toString("base64");
    const [answer] = await say(
      `SETUP rtsp://server:554/s/track1 RTSP/1.0\r\nCSeq: 1\r\nFrom: ann\r\nTransport: RTP/SAVP;multicast\r\nKeyMgmt: prot=mikey;data="${data}"\r\n\r\n`,
    );
    expect((answer as RtspResponse).status).toBe(463);
    expect(setting.events.at(-1)).toMatchObject({ code: "rtsp.shared-key" });
  });

  it("is refused with a group, port, TTL or keying that cannot be", () => {
    const setting = groupSetting();
    const { network } = setting;
    const make = (multicast: MulticastDelivery, keying = serverKeying(network, {})): (() => void) => {
      return () =>
        createRtspServer({
          presentations: [{ path: "/s", source: manualSource(), profile: "RTP/SAVP", keying, multicast }],
          clock: network.clock,
          timers: network.timers,
          random: network.random,
        });
    };
    const good = { group: GROUP, port: 5004 };
    for (const wrong of [
      { group: "10.0.0.1" },
      { port: 5003 },
      { port: 0 },
      { port: 65_536 },
      { ttl: -1 },
      { ttl: 256 },
      { group: "ff02::zz" },
    ].slice(0, 6)) {
      expect(make({ ...good, ...wrong })).toThrow(expect.objectContaining({ code: "rtsp.multicast" }));
    }
    const { offer, accept } = serverKeying(network, {});
    expect(make(good, { offer, accept })).toThrow(expect.objectContaining({ code: "rtsp.multicast" }));
  });
});

describe("new keys for a multicast stream", () => {
  it.each(WAYS.filter(([, { peer }]) => peer !== "gstreamer"))(
    "reach every member before they are used: %s",
    async (_name, choice) => {
      const setting = groupSetting(choice);
      const { network, source, server, run } = setting;
      const players = [await join(setting, "ann", choice), await join(setting, "bob", choice), await join(setting, "cy", choice)];
      source.rtp(0, utf8("0"));
      await network.advance(10);
      for (let round = 1; round <= 3; round++) {
        const rekeyed = server.rekey(server.sessions[0]?.id ?? "");
        source.rtp(0, utf8(`${round} under way`));
        expect(await run(rekeyed)).toBe(3);
        source.rtp(0, utf8(`${round} done`));
        await network.advance(10);
      }
      const prints = new Set<string | undefined>();
      for (const player of players) {
        expect(payloads(player.received)).toEqual(["0", "1 under way", "1 done", "2 under way", "2 done", "3 under way", "3 done"]);
        expect(player.statistics).toMatchObject([{ authenticationFailures: 0, lost: 0, discarded: 0 }]);
        expect(player.received.rekeys).toBe(3);
        prints.add(player.statistics[0]?.fingerprint);
      }
      expect(prints.size).toBe(1);
      for (const player of players) {
        const proof = await run(player.teardown());
        if (choice.psk !== false) expect(proof).toBe("verified");
      }
    },
  );

  it("keep out who left, when asked to", async () => {
    const setting = groupSetting({ delivery: { rekeyOnLeave: true } });
    const { network, source, run } = setting;
    const bob = await join(setting, "bob");
    const ann = await join(setting, "ann");
    const eavesdropper = await network.host("ann").datagrams.bindMulticast({ group: GROUP, port: 5004 });
    const overheard: Uint8Array[] = [];
    eavesdropper.onDatagram = (packet) => overheard.push(packet);
    source.rtp(0, utf8("with ann"));
    await network.advance(10);
    const before = bob.statistics[0]?.mki;
    await run(ann.teardown());
    await network.advance(100);
    source.rtp(0, utf8("without ann"));
    await network.advance(10);
    expect(payloads(bob.received)).toEqual(["with ann", "without ann"]);
    expect(bob.statistics[0]?.mki).not.toBe(before);
    const mkis = overheard.map((packet) => formatHex(packet.subarray(packet.length - 14, packet.length - 10)));
    expect(mkis).toEqual([before, bob.statistics[0]?.mki]);
  });

  it("keep out who left while new keys were being told because of another", async () => {
    const setting = groupSetting({ delivery: { rekeyOnLeave: true } });
    const { network, source, run } = setting;
    const [ann, bob, cy] = [await join(setting, "ann"), await join(setting, "bob"), await join(setting, "cy")];
    const eavesdropper = await network.host("bob").datagrams.bindMulticast({ group: GROUP, port: 5004 });
    const overheard: string[] = [];
    eavesdropper.onDatagram = (packet) => overheard.push(formatHex(packet.subarray(packet.length - 14, packet.length - 10)));
    const before = bob.statistics[0]?.mki;
    // Who does not answer holds up the new keys, which bob has by then.
    network.setLink({ partitioned: true }, ["server", "cy"]);
    await run(ann.teardown());
    await network.advance(200);
    const known = bob.statistics[0]?.mki;
    expect(known).not.toBe(before);
    await run(bob.teardown());
    network.setLink({}, ["server", "cy"]);
    await network.advance(10_000);
    source.rtp(0, utf8("without both"));
    await network.advance(10);
    expect(overheard).toHaveLength(1);
    expect([before, known]).not.toContain(overheard[0]);
    expect(payloads(cy.received)).toEqual(["without both"]);
  });

  it("wait for who does not answer only so long; who missed one asks for it", async () => {
    const setting = groupSetting();
    const { network, source, server, run } = setting;
    const ann = await join(setting, "ann");
    const bob = await join(setting, "bob");
    source.rtp(0, utf8("0"));
    await network.advance(10);
    network.setLink({ partitioned: true }, ["server", "bob"]);
    const rekeyed = server.rekey(server.sessions[0]?.id ?? "");
    await network.advance(4000);
    expect(await rekeyed).toBe(1);
    source.rtp(0, utf8("1"));
    await network.advance(12_000);
    // The request that the link held back arrives after its time: the server has given up on it.
    network.setLink({}, ["server", "bob"]);
    for (const word of ["2", "3", "4"]) {
      source.rtp(0, utf8(word));
      await network.advance(3000);
    }
    expect(payloads(ann.received)).toEqual(["0", "1", "2", "3", "4"]);
    expect(payloads(bob.received).at(-1)).toBe("4");
    expect(await run(bob.teardown())).toBeDefined();
  });

  it("come by the clock", async () => {
    const setting = groupSetting({ rekeyInterval: 5 });
    const ann = await join(setting, "ann");
    const before = ann.statistics[0]?.mki;
    for (let second = 0; second < 12; second++) {
      setting.source.rtp(0, utf8("x"));
      await setting.network.advance(1000);
    }
    expect(ann.received.rekeys).toBe(2);
    expect(ann.statistics[0]?.mki).not.toBe(before);
    expect(ann.statistics).toMatchObject([{ packets: 12, authenticationFailures: 0 }]);
  });

  it("reach who set up after they were made with what was described before", async () => {
    const setting = groupSetting();
    const { network, source, server, run } = setting;
    await join(setting, "ann");
    const bob = await setting.client({ host: "bob", from: "bob", keying: clientKeying(network, "bob", {}) });
    await run(bob.describe());
    await run(server.rekey(server.sessions[0]?.id ?? ""));
    await run(bob.setup(0, "multicast"));
    await run(bob.play());
    await network.advance(10);
    source.rtp(0, utf8("new"));
    await network.advance(10);
    expect(payloads(bob.received)).toEqual(["new"]);
  });

  it("need an MKI", async () => {
    const choice: Choice = { psk: false, peer: "gstreamer" };
    const setting = groupSetting(choice);
    await join(setting, "ann", choice);
    await expect(setting.run(setting.server.rekey(setting.server.sessions[0]?.id ?? ""))).rejects.toMatchObject({
      code: "gsa.rekey",
    });
  });
});

describe("GET_PARAMETER mikey", () => {
  const ask = (uri: string, session: string, body = "mikey\r\n"): string =>
    `GET_PARAMETER ${uri} RTSP/1.0\r\nCSeq: 9\r\nSession: ${session}\r\nContent-Type: text/parameters\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const rocOf = (response: RtspResponse): number => {
    const data = parseKeyMgmtParameter(utf8Text(response.body) ?? "")?.specs[0]?.data as Uint8Array;
    const { csMap } = decodeMessage(data).header;
    return "entries" in csMap ? (csMap.entries[0] as { roc: number }).roc : -1;
  };

  it("tells members the rollover counter of now, every time anew", async () => {
    const choice: Choice = { psk: false, peer: "onvif" };
    const setting = groupSetting(choice);
    const { network, source } = setting;
    const { say } = await talk(setting);
    const [described] = await say("DESCRIBE rtsp://server:554/s RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    const first = readKeyMgmt(utf8Text((described as RtspResponse).body) ?? "").effective[0]?.[0]?.data as Uint8Array;
    const [setup] = await say("SETUP rtsp://server:554/s/track1 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/SAVP;multicast\r\n\r\n");
    const session = (header(setup as RtspResponse, "Session") ?? "").split(";")[0] as string;
    await say(`PLAY rtsp://server:554/s RTSP/1.0\r\nCSeq: 3\r\nSession: ${session}\r\n\r\n`);
    const answers: RtspResponse[] = [];
    for (let wrap = 0; wrap < 3; wrap++) {
      const [answer] = await say(ask("rtsp://server:554/s", session));
      answers.push(answer as RtspResponse);
      for (let i = 0; i < 65_536; i += 8192) {
        source.next += 8191;
        source.rtp(0, utf8("x"));
        await network.advance(1);
      }
    }
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(answers.map(rocOf)).toEqual([0, 1, 2]);
    expect(answers.map((answer) => header(answer, "Cache-Control"))).toEqual(["no-cache", "no-cache", "no-cache"]);
    expect(new Set(answers.map(({ body }) => utf8Text(body))).size).toBe(3);
    const kemac = (octets: Uint8Array) => decodeMessage(octets).payloads.find(({ kind }) => kind === "KEMAC");
    const data = parseKeyMgmtParameter(utf8Text((answers[2] as RtspResponse).body) ?? "")?.specs[0]?.data as Uint8Array;
    expect(kemac(data)).toEqual(kemac(first));
  });

  it("is for members of a multicast stream only, and knows nothing else", async () => {
    const setting = groupSetting({ psk: false });
    const { say } = await talk(setting);
    const status = async (text: string): Promise<number | undefined> => (await say(text))[0]?.status;
    const body = "mikey\r\n";
    expect(
      await status(`GET_PARAMETER rtsp://server:554/s RTSP/1.0\r\nCSeq: 9\r\nContent-Length: ${body.length}\r\n\r\n${body}`),
    ).toBe(454);
    expect(await status(ask("rtsp://server:554/s", "0123456789abcdef"))).toBe(454);
    const [setup] = await say("SETUP rtsp://server:554/s/track1 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/SAVP;multicast\r\n\r\n");
    expect(setup?.status).toBe(403);
  });

  it("is 451 on a unicast path", async () => {
    const setting = createSetting({});
    const { say } = await talk(setting);
    const body = "mikey\r\n";
    const [answer] = await say(
      `GET_PARAMETER rtsp://server:554/s RTSP/1.0\r\nCSeq: 9\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    expect(answer?.status).toBe(451);
  });

  it("asks for authentication as everything else", async () => {
    const setting = groupSetting({ psk: false }, {});
    const guarded = createSetting((network) => ({
      presentation: {
        profile: "RTP/SAVP",
        keying: serverKeying(network, { psk: false }),
        multicast: { group: GROUP, port: 5004 },
        authenticator: createAuthenticator({ realm: "s", crypto: nobleCrypto, clock: network.clock, password: () => "secret" }),
      },
    }));
    setting.server.close();
    const { say } = await talk(guarded);
    expect((await say(ask("rtsp://server:554/s", "0123456789abcdef")))[0]?.status).toBe(401);
  });

  it("brings a member back whose rollover counter was out of date when it began to listen", async () => {
    const choice: Choice = { psk: false, peer: "onvif" };
    const setting = groupSetting(choice);
    const { network, source, run } = setting;
    await join(setting, "ann", choice);
    source.rtp(0, utf8("first"));
    const bob = await setting.client({ host: "bob", keying: clientKeying(network, "bob", choice), mediaTimeout: 0 });
    await run(bob.describe());
    for (let i = 0; i < 4 * 65_536; i += 8192) {
      source.next += 8191;
      source.rtp(0, utf8("meanwhile"));
      await network.advance(1);
    }
    await run(bob.setup(0, "multicast"));
    await run(bob.play());
    for (let second = 0; second < 6; second++) {
      source.rtp(0, utf8(`${second}`));
      await network.advance(1000);
    }
    expect(payloads(bob.received).at(-1)).toBe("5");
    expect(payloads(bob.received).length).toBeGreaterThan(2);
  });
});
