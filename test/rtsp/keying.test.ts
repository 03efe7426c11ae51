import { describe, expect, it } from "vitest";
import { formatBase64, formatHex, utf8, utf8Text } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createMediaKeying, type MediaKeyingOptions } from "../../src/gsa/index.js";
import { createSimulatedNetwork, type SimulatedNetwork } from "../../src/io/index.js";
import { type PeerProfileName, peerProfile } from "../../src/peers/index.js";
import {
  type ClientKeying,
  type ClientTransport,
  createAuthenticator,
  createMikeyClientKeying,
  createMikeyServerKeying,
  createPskDirectory,
  identityOf,
  type MediaProfile,
  nameOfIdentity,
  type RtspClientOptions,
  type ServerKeying,
} from "../../src/rtsp/index.js";
import { addKeyMgmt } from "../../src/sdp/index.js";
import type { SuiteName } from "../../src/srtp/index.js";
import { createSetting, H264, PCMU, payloads, type Setting, type SettingOptions, sequences } from "./support.js";

const PSK = utf8("0123456789abcdef0123456789abcdef");
const OTHER_PSK = utf8("fedcba9876543210fedcba9876543210");

interface Choice {
  readonly suite?: SuiteName;
  readonly peer?: PeerProfileName;
  /** Pre-shared keys of the server; none means NULL keying. */
  readonly psks?: readonly (readonly [string, Uint8Array])[];
  readonly allowNullKeying?: boolean;
}

function keying(network: SimulatedNetwork, options: Partial<MediaKeyingOptions> & { readonly peer?: PeerProfileName }) {
  const { peer = "strict", ...rest } = options;
  return createMediaKeying({
    clock: network.clock,
    timers: network.timers,
    crypto: nobleCrypto,
    dialect: peerProfile(peer),
    ...rest,
  });
}

function serverKeying(
  network: SimulatedNetwork,
  { suite = "AES_CM_128_HMAC_SHA1_80", peer, psks, allowNullKeying }: Choice,
): ServerKeying {
  const directory = psks === undefined ? undefined : createPskDirectory(psks);
  return createMikeyServerKeying({
    keying: keying(network, {
      identity: identityOf("server"),
      ...(peer === undefined ? {} : { peer }),
      ...(allowNullKeying === undefined ? {} : { allowNullKeying }),
      ...(directory === undefined
        ? {}
        : {
            requirePsk: true,
            findCredential: (id) => {
              const psk = directory.find(nameOfIdentity(id) ?? "");
              return psk === undefined ? undefined : { psk };
            },
          }),
    }),
    policy: { suite },
    ...(directory === undefined ? {} : { directory }),
  });
}

function clientKeying(
  network: SimulatedNetwork,
  {
    psk,
    name = "viewer",
    initiate = false,
    ...options
  }: Partial<MediaKeyingOptions> & { psk?: Uint8Array; name?: string; initiate?: boolean; peer?: PeerProfileName },
): ClientKeying {
  return createMikeyClientKeying({
    keying: keying(network, {
      identity: identityOf(name),
      ...(psk === undefined ? {} : { findCredential: () => ({ psk }) }),
      ...options,
    }),
    scope: name,
    ...(initiate && psk !== undefined ? { initiate: { credential: { psk }, policy: { suite: "AES_CM_128_HMAC_SHA1_80" } } } : {}),
  });
}

function keyedSetting(
  choice: Choice,
  options: Partial<SettingOptions> & { profile?: MediaProfile; rekeyInterval?: number } = {},
): Setting {
  const { profile = "RTP/SAVP", rekeyInterval, ...rest } = options;
  return createSetting((network) => ({
    ...rest,
    presentation: {
      profile,
      keying: serverKeying(network, choice),
      ...(rekeyInterval === undefined ? {} : { rekeyInterval }),
      ...rest.presentation,
    },
  }));
}

async function playing(
  setting: Setting,
  options: Partial<RtspClientOptions>,
  transport: ClientTransport = "tcp",
  tracks: readonly number[] = [0],
) {
  const player = await setting.client(options);
  await setting.run(player.describe());
  for (const track of tracks) await setting.run(player.setup(track, transport));
  await setting.run(player.play());
  return player;
}

const SUITES: readonly SuiteName[] = [
  "AES_CM_128_HMAC_SHA1_80",
  "AES_CM_128_HMAC_SHA1_32",
  "AES_256_CM_HMAC_SHA1_80",
  "AEAD_AES_128_GCM",
  "AEAD_AES_256_GCM",
];
const WAYS = SUITES.flatMap((suite) =>
  (["udp", "tcp"] as const).flatMap((transport) =>
    (["RTP/SAVP", "RTP/SAVPF"] as const).map((profile) => [suite, transport, profile] as const),
  ),
);

describe("a pre-shared key", () => {
  it.each(WAYS)("keys %s over %s as %s, both ways, with a proven teardown", async (suite, transport, profile) => {
    const setting = keyedSetting({ suite, psks: [["viewer", PSK]] }, { profile });
    const { network, source, server, events, run } = setting;
    const wire: Uint8Array[] = [];
    network.onTraffic = ({ octets }) => wire.push(octets);
    const player = await playing(setting, { keying: clientKeying(network, { psk: PSK }) }, transport);
    source.report(0);
    source.rtp(0, utf8("a secret word"));
    await network.advance(8000);
    expect(payloads(player.received)).toEqual(["a secret word"]);
    expect(player.received.rtcp).toHaveLength(1);
    expect(
      wire.some((octets) => (utf8Text(octets) ?? "").includes("secret") || formatHex(octets).includes(formatHex(utf8("secret")))),
    ).toBe(false);
    expect(player.statistics).toMatchObject([{ packets: 1, authenticationFailures: 0, keyedBy: "psk", suite }]);
    const [session] = server.sessions;
    expect(session?.tracks).toMatchObject([
      { keyedBy: "psk", suite, authenticationFailures: 0, fingerprint: player.statistics[0]?.fingerprint },
    ]);
    expect(session?.tracks[0]?.reports).toBeGreaterThan(0);
    expect(await run(player.teardown())).toBe("verified");
    await network.advance(100);
    expect(events.at(-1)).toMatchObject({ type: "ended", reason: "teardown", proof: "verified" });
    expect(network.host("server").open).toEqual({ datagrams: 0, streams: 0 });
  });

  it("keys two streams by two exchanges; the proof is of the first", async () => {
    const setting = keyedSetting({ psks: [["viewer", PSK]] }, { tracks: [PCMU, H264] });
    const player = await playing(setting, { keying: clientKeying(setting.network, { psk: PSK }) }, "udp", [1, 0]);
    setting.source.rtp(0, utf8("sound"));
    setting.source.rtp(1, utf8("picture"));
    await setting.network.advance(10);
    expect(payloads(player.received).toSorted()).toEqual(["picture", "sound"]);
    const [a, b] = player.statistics;
    expect(a?.fingerprint).not.toBe(b?.fingerprint);
    expect(await setting.run(player.teardown())).toBe("verified");
    expect(setting.events.at(-1)).toMatchObject({ proof: "verified" });
  });

  it("gives every client keys of its own", async () => {
    const setting = keyedSetting({ psks: [["viewer", PSK]] });
    const first = await playing(setting, { keying: clientKeying(setting.network, { psk: PSK }) });
    const second = await playing(setting, { keying: clientKeying(setting.network, { psk: PSK }) });
    setting.source.rtp(0, utf8("x"));
    await setting.network.advance(10);
    expect([payloads(first.received), payloads(second.received)]).toEqual([["x"], ["x"]]);
    expect(first.statistics[0]?.fingerprint).not.toBe(second.statistics[0]?.fingerprint);
  });

  it("is found by the From header where there are several", async () => {
    const setting = keyedSetting({
      psks: [
        ["alice", OTHER_PSK],
        ["viewer", PSK],
      ],
    });
    const player = await playing(setting, { keying: clientKeying(setting.network, { psk: PSK }), from: "viewer" });
    expect(player.statistics).toMatchObject([{ keyedBy: "psk" }]);
    const nameless = await setting.client({ keying: clientKeying(setting.network, { psk: PSK }) });
    await expect(setting.run(nameless.describe())).rejects.toMatchObject({ code: "rtsp.status-403" });
  });

  it("is found by the user that RTSP authenticated, whatever From says", async () => {
    const passwords: Readonly<Record<string, string>> = { alice: "a", viewer: "v" };
    const setting = createSetting((network) => ({
      presentation: {
        profile: "RTP/SAVP",
        keying: serverKeying(network, {
          psks: [
            ["alice", OTHER_PSK],
            ["viewer", PSK],
          ],
        }),
        authenticator: createAuthenticator({
          realm: "w",
          password: (user) => passwords[user],
          crypto: nobleCrypto,
          clock: network.clock,
        }),
      },
    }));
    for (const [name, psk] of [
      ["alice", OTHER_PSK],
      ["viewer", PSK],
    ] as const) {
      const credentials = { user: name, password: passwords[name] ?? "" };
      const player = await playing(
        setting,
        { credentials, from: "alice", keying: clientKeying(setting.network, { psk, name }) },
        "udp",
      );
      expect(await setting.run(player.teardown())).toBe("verified");
    }
    expect(setting.events.filter(({ type }) => type === "ended")).toMatchObject([
      { session: { user: "alice" }, proof: "verified" },
      { session: { user: "viewer" }, proof: "verified" },
    ]);
  });

  it("survives loss, doubles and disorder: nothing is delivered twice, nothing false", async () => {
    const setting = keyedSetting({ psks: [["viewer", PSK]] }, { rekeyInterval: 2 });
    const player = await playing(setting, { keying: clientKeying(setting.network, { psk: PSK }) }, "udp");
    setting.network.setLink({ loss: 0.1, duplicate: 0.2, jitter: 50 });
    for (let count = 0; count < 500; count++) {
      setting.source.rtp(0, utf8(`${count}`));
      await setting.network.advance(20);
    }
    setting.network.setLink({});
    await setting.network.advance(200);
    const received = payloads(player.received);
    expect(new Set(received).size).toBe(received.length);
    expect(received.length).toBeGreaterThan(400);
    const [statistics] = player.statistics;
    expect(statistics).toMatchObject({ authenticationFailures: 0, discarded: 0, lost: 500 - received.length });
    expect(statistics?.replays).toBeGreaterThan(50);
    expect(setting.events.filter(({ type }) => type === "rekeyed").length).toBeGreaterThan(2);
    expect(await setting.run(player.teardown())).toBe("verified");
  });

  it("opens nothing that was changed on the way", async () => {
    const setting = keyedSetting({ psks: [["viewer", PSK]] });
    const player = await playing(setting, { keying: clientKeying(setting.network, { psk: PSK }) }, "udp");
    const forged: Uint8Array[] = [];
    setting.network.onTraffic = ({ kind, octets }) => {
      if (kind === "datagram")
        for (let at = 0; at < octets.length; at++) forged.push(octets.map((octet, index) => (index === at ? octet ^ 1 : octet)));
    };
    setting.source.rtp(0, utf8("true"));
    await setting.network.advance(2);
    setting.network.onTraffic = undefined;
    expect(forged.length).toBeGreaterThan(20);
    const socket = await setting.network.host("server").datagrams.bind({ host: "server", port: 9 });
    for (const packet of forged) for (let port = 20_000; port < 20_004; port++) socket.send(packet, { host: "client", port });
    await setting.network.advance(10);
    expect(payloads(player.received)).toEqual(["true"]);
    const { authenticationFailures = 0, replays = 0, discarded = 0 } = player.statistics[0] ?? {};
    expect(authenticationFailures).toBeGreaterThan(0);
    expect(authenticationFailures + replays + discarded).toBeGreaterThanOrEqual(forged.length);
  });

  it("that is wrong is noticed by the client, which sets nothing up", async () => {
    const setting = keyedSetting({ psks: [["viewer", PSK]] });
    const player = await setting.client({ keying: clientKeying(setting.network, { psk: OTHER_PSK }) });
    await setting.run(player.describe());
    await expect(setting.run(player.setup(0, "udp"))).rejects.toMatchObject({ code: "mikey.authentication" });
    expect(setting.server.sessions).toEqual([]);
    expect(setting.network.host("client").open.datagrams).toBe(0);
  });

  it("is asked for even where the channel is TLS", async () => {
    const setting = keyedSetting({ psks: [["viewer", PSK]] }, { secure: true });
    const player = await setting.client({ keying: clientKeying(setting.network, { peer: "gstreamer" }) });
    await setting.run(player.describe());
    await expect(setting.run(player.setup(0, "udp"))).rejects.toMatchObject({ code: "mikey.authentication" });
  });
});

describe("NULL keying", () => {
  it.each(["strict", "gstreamer", "onvif"] as const)("inside TLS keys a %s peer, with a proof", async (peer) => {
    const setting = keyedSetting({ peer }, { secure: true });
    const player = await playing(setting, { keying: clientKeying(setting.network, { peer }) }, "udp");
    setting.source.rtp(0, utf8("x"));
    await setting.network.advance(8000);
    expect(payloads(player.received)).toEqual(["x"]);
    expect(setting.server.sessions[0]?.tracks).toMatchObject([{ keyedBy: "null", authenticationFailures: 0 }]);
    expect(setting.server.sessions[0]?.tracks[0]?.reports).toBeGreaterThan(0);
    expect(await setting.run(player.teardown())).toBe("verified");
  });

  it("in the clear is refused by both ends unless both are told", async () => {
    const refusing = keyedSetting({});
    const asking = await refusing.client({ keying: clientKeying(refusing.network, { allowNullKeying: true }) });
    await expect(refusing.run(asking.describe())).rejects.toMatchObject({ code: "rtsp.status-403" });

    const allowing = keyedSetting({ allowNullKeying: true });
    const careful = await allowing.client({ keying: clientKeying(allowing.network, {}) });
    await allowing.run(careful.describe());
    await expect(allowing.run(careful.setup(0, "tcp"))).rejects.toMatchObject({ code: "mikey.null-keying" });

    const player = await playing(allowing, { keying: clientKeying(allowing.network, { allowNullKeying: true }) });
    allowing.source.rtp(0, utf8("x"));
    await allowing.network.advance(10);
    expect(payloads(player.received)).toEqual(["x"]);
    // No secret stands behind it, so nothing can be proven.
    expect(await allowing.run(player.teardown())).toBeUndefined();
  });
});

describe("a client that begins the exchange itself", () => {
  it("is answered in the response of SETUP", async () => {
    const setting = createSetting((network) => {
      const inner = serverKeying(network, { psks: [["viewer", PSK]] });
      // A server whose description has no key message.
      const silent: ServerKeying = { ...inner, offer: () => Promise.resolve(undefined) };
      return { presentation: { profile: "RTP/SAVP", keying: silent } };
    });
    const player = await playing(setting, { keying: clientKeying(setting.network, { psk: PSK, initiate: true }) });
    setting.source.rtp(0, utf8("x"));
    await setting.network.advance(8000);
    expect(payloads(player.received)).toEqual(["x"]);
    expect(setting.server.sessions[0]?.tracks[0]).toMatchObject({ keyedBy: "psk", authenticationFailures: 0 });
    expect(await setting.run(player.rekey())).toBe(1);
    setting.source.rtp(0, utf8("y"));
    await setting.network.advance(10);
    expect(payloads(player.received)).toEqual(["x", "y"]);
    expect(await setting.run(player.teardown())).toBe("verified");
  });
});

describe("new keys while playing", () => {
  it("come by the interval, and nothing is lost", async () => {
    const setting = keyedSetting({ psks: [["viewer", PSK]] }, { rekeyInterval: 10, tracks: [PCMU, H264] });
    const player = await playing(setting, { keying: clientKeying(setting.network, { psk: PSK }) }, "udp", [0, 1]);
    const fingerprints = new Set<string | undefined>();
    for (let count = 0; count < 450; count++) {
      setting.source.rtp(0, utf8(`${count}`));
      await setting.network.advance(100);
      fingerprints.add(player.statistics[0]?.fingerprint);
    }
    expect(payloads(player.received)).toEqual(Array.from({ length: 450 }, (_, count) => `${count}`));
    const [first = 0] = sequences(player.received);
    expect(sequences(player.received).at(-1)).toBe((first + 449) & 0xffff);
    expect(fingerprints.size).toBe(5);
    expect(player.received.rekeys).toBe(8);
    expect(setting.events.filter(({ type }) => type === "rekeyed")).toHaveLength(4);
    expect(setting.server.sessions[0]?.tracks).toMatchObject([{ authenticationFailures: 0 }, { authenticationFailures: 0 }]);
    expect(await setting.run(player.teardown())).toBe("verified");
  });

  it("come when asked for; a client that is away keeps the old ones", async () => {
    const setting = keyedSetting({ psks: [["viewer", PSK]] });
    const player = await playing(setting, { keying: clientKeying(setting.network, { psk: PSK }), mediaTimeout: 0 }, "udp");
    const id = setting.server.sessions[0]?.id ?? "";
    expect(await setting.run(setting.server.rekey(id))).toBe(1);
    const before = setting.server.sessions[0]?.tracks[0]?.fingerprint;
    setting.network.setLink({ partitioned: true });
    await expect(setting.run(setting.server.rekey(id), 2000)).rejects.toMatchObject({ code: "rtsp.rekey" });
    expect(setting.server.sessions[0]?.tracks[0]?.fingerprint).toBe(before);
    setting.network.setLink({});
    await setting.network.advance(1000);
    setting.source.rtp(0, utf8("still here"));
    await setting.network.advance(10);
    await expect(setting.server.rekey("nobody")).rejects.toMatchObject({ code: "rtsp.session" });
    expect(player.received.ends).toEqual([]);
  });
});

describe("a client of many kinds", () => {
  const REQUESTS: readonly (readonly [name: string, keyMgmt: string | undefined, status: number])[] = [
    ["no KeyMgmt", undefined, 403],
    ["a header that is none", "hello", 463],
    ["another protocol only", 'prot=keyp1;data="AAAA"', 403],
    ["base64 that is none", 'prot=mikey;data="!"', 463],
    ["a message that is none", `prot=mikey;data="${formatBase64(utf8("hello"))}"`, 463],
    ["a message for another path", 'prot=mikey;uri="rtsp://server/other";data="AQAFAA=="', 463],
    ["a version that is none", `prot=mikey;data="${formatBase64(Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 1, 0, 0))}"`, 463],
  ];

  it.each(REQUESTS)("is refused with %s", async (_name, keyMgmt, status) => {
    const setting = keyedSetting({ psks: [["viewer", PSK]] });
    const stream = await setting.dial();
    const answers: string[] = [];
    stream.onData = (octets) => answers.push(utf8Text(octets) ?? "");
    stream.write(utf8("DESCRIBE rtsp://server/s RTSP/1.0\r\nCSeq: 1\r\n\r\n"));
    const field = keyMgmt === undefined ? "" : `KeyMgmt: ${keyMgmt}\r\n`;
    stream.write(
      utf8(`SETUP rtsp://server/s/track1 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/SAVP;unicast;client_port=5000-5001\r\n${field}\r\n`),
    );
    await setting.network.advance(10);
    expect(answers.join("")).toMatch(new RegExp(`RTSP/1.0 ${status} `));
    expect(setting.server.sessions).toEqual([]);
    expect(setting.network.host("server").open.datagrams).toBe(0);
    // The next client is served.
    const player = await playing(setting, { keying: clientKeying(setting.network, { psk: PSK }) });
    setting.source.rtp(0, utf8("x"));
    await setting.network.advance(10);
    expect(payloads(player.received)).toEqual(["x"]);
  });

  it("cannot set up a second session with the keys of one description", async () => {
    const setting = keyedSetting({ allowNullKeying: true });
    const stream = await setting.dial();
    const answers: string[] = [];
    stream.onData = (octets) => answers.push(utf8Text(octets) ?? "");
    stream.write(utf8("DESCRIBE rtsp://server/s RTSP/1.0\r\nCSeq: 1\r\n\r\n"));
    for (const sequence of [2, 3]) {
      stream.write(
        utf8(
          `SETUP rtsp://server/s/track1 RTSP/1.0\r\nCSeq: ${sequence}\r\nTransport: RTP/SAVP/TCP;unicast;interleaved=0-1\r\n\r\n`,
        ),
      );
    }
    await setting.network.advance(10);
    expect(answers.join("").match(/RTSP\/1.0 \d+/g)).toEqual(["RTSP/1.0 200", "RTSP/1.0 200", "RTSP/1.0 403"]);
    expect(setting.server.sessions).toHaveLength(1);
  });
});

describe("what a client refuses", () => {
  it("is plain media where keys are wanted, keys where none can be had, and ciphertext under a plain profile", async () => {
    const plain = createSetting();
    const wanting = await plain.client({ keying: clientKeying(plain.network, { psk: PSK }) });
    await plain.run(wanting.describe());
    await expect(plain.run(wanting.setup(0, "tcp"))).rejects.toMatchObject({ code: "rtsp.plain-refused" });

    const keyed = keyedSetting({ psks: [["viewer", PSK]] });
    const keyless = await keyed.client();
    await keyed.run(keyless.describe());
    await expect(keyed.run(keyless.setup(0, "tcp"))).rejects.toMatchObject({ code: "rtsp.keying-required" });
  });

  it.each<[name: string, sdp: (sdp: string) => string, code: string]>([
    ["key-mgmt under RTP/AVP", (sdp) => sdp.replace("RTP/SAVP", "RTP/AVP"), "rtsp.plain-refused"],
    ["no key message", (sdp) => sdp.replace(/a=key-mgmt.*\r\n/, ""), "rtsp.key-mgmt"],
    ["a malformed key message", (sdp) => sdp.replace(/a=key-mgmt:mikey /, "a=key-mgmt:mikey !"), "rtsp.key-mgmt"],
    ["another protocol only", (sdp) => sdp.replace("a=key-mgmt:mikey", "a=key-mgmt:keyp1"), "rtsp.key-mgmt"],
    [
      "a damaged key message",
      (sdp) =>
        sdp
          .replace(/(a=key-mgmt:mikey .{60})./, (_all, start: string) => `${start}9`)
          .replace(/(a=key-mgmt:mikey .{61})./, (_all, start: string) => `${start}8`),
      "mikey.authentication",
    ],
    [
      "another protocol added (bidding down)",
      (sdp) => addKeyMgmt(sdp, { section: 0, protocol: "keyp1", data: Uint8Array.of(1) }),
      "mikey.sdp-ids",
    ],
  ])("is a description with %s", async (_name, change, code) => {
    const network = createSimulatedNetwork();
    const setting = keyedSetting({ psks: [["viewer", PSK]] });
    const player = await setting.client({
      keying: clientKeying(setting.network, { psk: PSK }),
      stream: tampered(await setting.dial(), change),
    });
    await setting.run(player.describe());
    await expect(setting.run(player.setup(0, "tcp"))).rejects.toMatchObject({ code });
    player.close();
    await network.advance(1);
  });
});

/** A stream whose descriptions somebody changes on the way. */
function tampered(stream: Awaited<ReturnType<Setting["dial"]>>, change: (sdp: string) => string): typeof stream {
  return new Proxy(stream, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
    set: (target, name, value: unknown) => {
      if (name !== "onData") return Reflect.set(target, name, value, target);
      target.onData = (octets) => {
        const text = utf8Text(octets) ?? "";
        const at = text.indexOf("\r\n\r\n") + 4;
        const body = change(text.slice(at));
        const head = text.slice(0, at).replace(/Content-Length: \d+/, `Content-Length: ${utf8(body).length}`);
        (value as (octets: Uint8Array) => void)(text.includes("v=0") ? utf8(head + body) : octets);
      };
      return true;
    },
  });
}
