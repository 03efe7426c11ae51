import { describe, expect, it } from "vitest";
import { parseBase64, utf8, utf8Text } from "../../src/bytes/index.js";
import { decodeMessage } from "../../src/mikey/index.js";
import { anyClientProfile, type PeerProfileName, peerProfile, peerProfileNames } from "../../src/peers/index.js";
import { readKeyMgmt } from "../../src/sdp/index.js";
import type { SuiteName } from "../../src/srtp/index.js";
import { autoKeying, clientKeying, PSK, peerSetting, playing, type ServerChoice, serverKeying } from "./keyed-support.js";
import { createSetting, H264, PCMU, payloads, type Setting } from "./support.js";

/** Media down and reports up. */
async function expectBothWays(setting: Setting, player: Awaited<ReturnType<typeof playing>>): Promise<void> {
  setting.source.rtp(0, utf8("a word"));
  setting.source.report(0);
  await setting.network.advance(8000);
  expect(payloads(player.received)).toContain("a word");
  expect(player.received.rtcp.length).toBeGreaterThan(0);
  const [track] = setting.server.sessions[0]?.tracks ?? [];
  expect(track).toMatchObject({ authenticationFailures: 0 });
  expect(track?.reports).toBeGreaterThan(0);
  expect(player.statistics).toMatchObject([{ authenticationFailures: 0 }]);
}

const SUITES: readonly SuiteName[] = ["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"];
const PAIRS = peerProfileNames.flatMap((name) =>
  SUITES.filter((suite) => (peerProfile(name).suites ?? SUITES).includes(suite)).map((suite) => [name, suite] as const),
);

describe("NULL keying inside TLS, our server and our client by one profile", () => {
  it.each(PAIRS)("%s plays %s with reports under keys that the server knows", async (name, suite) => {
    const setting = peerSetting(peerProfile(name), { suite });
    const player = await playing(setting, { keying: clientKeying(setting.network, name) });
    await expectBothWays(setting, player);
    const [track] = setting.server.sessions[0]?.tracks ?? [];
    expect(track).toMatchObject({ keyedBy: "null", suite, fingerprint: player.statistics[0]?.fingerprint });
    await setting.run(player.teardown());
  });

  it.each(peerProfileNames)("a client that finds out plays from a server for %s", async (name) => {
    const setting = peerSetting(peerProfile(name));
    const steps: string[] = [];
    const keying = autoKeying(setting.network, steps);
    const player = await playing(setting, { keying });
    await expectBothWays(setting, player);
    expect(keying.profile).toBe(steps.at(-1));
  });

  it.each(peerProfileNames)("a client for %s plays from a server for anybody", async (name) => {
    const setting = peerSetting(anyClientProfile());
    if (["strict", "live555"].includes(name)) {
      // They do not read GStreamer's dialect: for strict that is the point, LIVE555 itself then makes a key of its own.
      const player = await setting.client({ keying: clientKeying(setting.network, name) });
      await setting.run(player.describe());
      await expect(setting.run(player.setup(0, "udp"))).rejects.toMatchObject({ code: "mikey.policy-parameter" });
      return;
    }
    await expectBothWays(setting, await playing(setting, { keying: clientKeying(setting.network, name) }));
  });
});

describe("the ladder", () => {
  const ladders: readonly (readonly [server: PeerProfileName, steps: readonly string[], found: string])[] = [
    ["gstreamer", ["gstreamer"], "gstreamer"],
    ["gortsplib", ["gortsplib"], "gortsplib"],
    ["onvif", ["onvif"], "onvif"],
    ["live555", ["onvif"], "onvif"],
  ];
  it.each(ladders)("takes the server of %s for what it is", async (server, steps, found) => {
    const setting = peerSetting(peerProfile(server));
    const taken: string[] = [];
    const keying = autoKeying(setting.network, taken);
    await playing(setting, { keying });
    expect([taken, keying.profile]).toEqual([steps, found]);
  });

  /** A camera as Axis makes it: GStreamer's message without MKI at session level, and 463 to a key without MKI. */
  const axisCamera = (choice: ServerChoice = {}) =>
    createSetting((network) => {
      const camera = serverKeying(network, peerProfile("axis"), choice);
      const shown = serverKeying(network, peerProfile("gstreamer"));
      return {
        secure: true,
        presentation: {
          profile: "RTP/SAVP",
          announce: false,
          keying: {
            ...camera,
            offer: async (stream, peer) => {
              const [own, other] = await Promise.all([camera.offer(stream, peer), shown.offer(stream, peer)]);
              return own === undefined || other === undefined ? undefined : { ...own, octets: other.octets };
            },
          },
        },
        tracks: [PCMU, H264],
      };
    });

  it("climbs to a key with MKI after 463, and stays there", async () => {
    const setting = axisCamera();
    const steps: string[] = [];
    const keying = autoKeying(setting.network, steps);
    const player = await playing(setting, { keying }, "udp", [0, 1]);
    setting.source.rtp(0, utf8("sound"));
    setting.source.rtp(1, utf8("picture"));
    await setting.network.advance(8000);
    expect(payloads(player.received).toSorted()).toEqual(["picture", "sound"]);
    expect([steps, keying.profile]).toEqual([["gstreamer", "axis"], "axis"]);
    expect(player.statistics).toMatchObject([{ mki: expect.stringMatching(/^[0-9a-f]{8}$/) }, { keyedBy: "null" }]);
    expect(setting.events.filter(({ type }) => type === "refused")).toMatchObject([{ status: 463, code: "mikey.key-data" }]);
    expect(setting.server.sessions[0]?.tracks.every(({ reports }) => reports > 0)).toBe(true);
    expect(setting.network.host("client").open.datagrams).toBe(4);
  });

  it("climbs on to AEAD where the server takes nothing else", async () => {
    const setting = axisCamera({ policyAccepted: ({ suite }) => suite === "AEAD_AES_128_GCM" });
    const steps: string[] = [];
    const keying = autoKeying(setting.network, steps);
    const player = await playing(setting, { keying }, "tcp");
    setting.source.rtp(0, utf8("x"));
    await setting.network.advance(10);
    expect(payloads(player.received)).toEqual(["x"]);
    expect([steps, keying.profile]).toEqual([["gstreamer", "axis", "axis"], "axis"]);
    expect(player.statistics).toMatchObject([{ suite: "AEAD_AES_128_GCM" }]);
  });

  it("ends with the server's last word, nothing set up and nothing open", async () => {
    const setting = axisCamera({ policyAccepted: () => false });
    const steps: string[] = [];
    const player = await setting.client({ keying: autoKeying(setting.network, steps) });
    await setting.run(player.describe());
    await expect(setting.run(player.setup(0, "udp"))).rejects.toMatchObject({ code: "rtsp.status-463" });
    expect(steps).toEqual(["gstreamer", "axis", "axis", "axis", "genetec"]);
    expect(setting.server.sessions).toEqual([]);
    expect(setting.network.host("client").open.datagrams).toBe(0);
  });

  it("does not climb for a profile that is named", async () => {
    const setting = axisCamera();
    const player = await setting.client({ keying: clientKeying(setting.network, "gstreamer") });
    await setting.run(player.describe());
    await expect(setting.run(player.setup(0, "udp"))).rejects.toMatchObject({ code: "rtsp.status-463" });
  });

  it("does not climb outside TLS, nor down from a pre-shared key", async () => {
    const open = peerSetting(peerProfile("gstreamer"), { allowNullKeying: true }, { secure: false });
    const careful = await open.client({ keying: autoKeying(open.network) });
    await open.run(careful.describe());
    await expect(open.run(careful.setup(0, "udp"))).rejects.toMatchObject({ code: "mikey.null-keying" });

    const plain = peerSetting(peerProfile("gstreamer"));
    const keyed = await plain.client({ keying: autoKeying(plain.network, [], { psk: PSK }) });
    await plain.run(keyed.describe());
    await expect(plain.run(keyed.setup(0, "udp"))).rejects.toMatchObject({ code: "mikey.null-keying" });
  });

  it("begins by itself where the description has no key message", async () => {
    const setting = createSetting((network) => {
      const inner = serverKeying(network, peerProfile("axis"));
      return {
        secure: true,
        presentation: {
          profile: "RTP/SAVP",
          announce: false,
          keying: { ...inner, offer: () => Promise.resolve(undefined) },
        },
      };
    });
    const steps: string[] = [];
    const player = await playing(setting, { keying: autoKeying(setting.network, steps) });
    await expectBothWays(setting, player);
    expect(steps).toEqual(["axis"]);
  });
});

describe("two key messages in one description", () => {
  const both = (secure = true) =>
    peerSetting(peerProfile("strict"), { psk: PSK, open: anyClientProfile() }, { secure, presentation: { announce: true } });

  it("stand GStreamer-shaped first, full second, and the list of protocols says that there are two", async () => {
    const setting = both();
    const player = await setting.client({});
    const { sdp } = await setting.run(player.describe());
    const [first, second, ...others] = readKeyMgmt(sdp).effective[0] ?? [];
    expect(others).toEqual([]);
    expect(decodeMessage(first?.data ?? new Uint8Array(0)).payloads.map(({ kind }) => kind)).toEqual(["T", "RAND", "SP", "KEMAC"]);
    const full = decodeMessage(second?.data ?? new Uint8Array(0));
    expect(full.payloads.map(({ kind }) => kind)).toContain("ID");
    expect(full.payloads.find(({ kind }) => kind === "EXT")).toMatchObject({ data: utf8("mikey;mikey") });
  });

  it("are taken by whom they are for", async () => {
    const setting = both();
    const keyed = await playing(setting, { keying: clientKeying(setting.network, "strict", { psk: PSK }), from: "viewer" });
    const plain = await playing(setting, { keying: clientKeying(setting.network, "gstreamer"), host: "other" } as never);
    const found = await playing(setting, { keying: autoKeying(setting.network, [], { psk: PSK }) });
    setting.source.rtp(0, utf8("x"));
    await setting.network.advance(10);
    for (const player of [keyed, plain, found]) expect(payloads(player.received)).toEqual(["x"]);
    expect([keyed, plain, found].map(({ statistics }) => statistics[0]?.keyedBy)).toEqual(["psk", "null", "psk"]);
    expect(await setting.run(keyed.teardown())).toBe("verified");
  });

  it("are one outside TLS: the one that needs no TLS", async () => {
    const setting = both(false);
    const player = await setting.client({});
    const { keyMgmt } = await setting.run(player.describe());
    expect(keyMgmt.attributes).toHaveLength(1);
    const keyed = await playing(setting, { keying: clientKeying(setting.network, "strict", { psk: PSK }) });
    expect(keyed.statistics).toMatchObject([{ keyedBy: "psk" }]);
  });

  it("cannot be cut down to the weaker one unnoticed", async () => {
    const setting = both();
    const player = await setting.client({ keying: clientKeying(setting.network, "strict", { psk: PSK }) });
    const { sdp } = await setting.run(player.describe());
    const lines = readKeyMgmt(sdp).attributes;
    const second = lines[1]?.data ?? new Uint8Array(0);
    const keying = clientKeying(setting.network, "strict", { psk: PSK });
    const request = {
      streams: [{ index: 0, ssrc: 1 }],
      peer: { remote: { host: "server", port: 1 }, secure: true },
      announced: true,
    };
    await expect(keying.answer(second, { ...request, protocols: ["mikey"] })).rejects.toMatchObject({ code: "mikey.sdp-ids" });
  });
});

describe("capabilities (RFC 5939)", () => {
  const capable = (tracks = [PCMU, H264]) =>
    peerSetting(peerProfile("onvif"), {}, { tracks, presentation: { capabilities: true } });

  it("are written beside RTP/AVP, and read by who puts up with them", async () => {
    const setting = capable();
    const player = await playing(setting, { keying: clientKeying(setting.network, "onvif") }, "udp", [0, 1]);
    setting.source.rtp(0, utf8("sound"));
    setting.source.rtp(1, utf8("picture"));
    await setting.network.advance(10);
    expect(payloads(player.received).toSorted()).toEqual(["picture", "sound"]);
    expect(player.statistics[0]?.tolerances).toContain("capability-without-negotiation");
    const { sdp } = await setting.run(player.describe());
    expect(sdp).toMatch(/^a=tcap:1 RTP\/SAVP\r\n/m);
    expect(sdp).toMatch(/^m=audio 0 RTP\/AVP 0\r\n/m);
    expect(sdp.match(/^a=acap:\d+/gm)).toEqual(["a=acap:1", "a=acap:2"]);
    expect(sdp.match(/^a=pcfg:.*$/gm)).toEqual(["a=pcfg:1 t=1 a=1", "a=pcfg:1 t=1 a=2"]);
  });

  it("are no reason for strict to take RTP/AVP for protected", async () => {
    const setting = capable([PCMU]);
    const player = await setting.client({ keying: clientKeying(setting.network, "strict") });
    await setting.run(player.describe());
    await expect(setting.run(player.setup(0, "udp"))).rejects.toMatchObject({ code: "rtsp.plain-refused" });
  });
});

describe("key messages at session level", () => {
  it("key all streams by one pre-shared-key exchange, in the first SETUP, with one proof and one rekey", async () => {
    const setting = peerSetting(peerProfile("strict"), { psk: PSK, level: "session" }, { tracks: [PCMU, H264], secure: false });
    const wire: string[] = [];
    setting.network.onTraffic = ({ octets }) => wire.push(utf8Text(octets) ?? "");
    const player = await playing(setting, { keying: clientKeying(setting.network, "strict", { psk: PSK }) }, "udp", [1, 0]);
    setting.source.rtp(0, utf8("sound"));
    setting.source.rtp(1, utf8("picture"));
    await setting.network.advance(8000);
    expect(payloads(player.received).toSorted()).toEqual(["picture", "sound"]);
    const setups = wire.filter((text) => text.startsWith("SETUP "));
    expect(setups.map((text) => text.includes("KeyMgmt:"))).toEqual([true, false]);
    const [session] = setting.server.sessions;
    expect(session?.tracks.every(({ reports, authenticationFailures }) => reports > 0 && authenticationFailures === 0)).toBe(true);
    expect(await setting.run(setting.server.rekey(session?.id ?? ""))).toBe(1);
    setting.source.rtp(1, utf8("again"));
    await setting.network.advance(10);
    expect(payloads(player.received)).toContain("again");
    expect(await setting.run(player.teardown())).toBe("verified");
    expect(setting.events.at(-1)).toMatchObject({ proof: "verified" });
  });

  it("of one stream taken away leave the other its keys", async () => {
    const setting = peerSetting(peerProfile("strict"), { psk: PSK, level: "session" }, { tracks: [PCMU, H264] });
    const player = await playing(setting, { keying: clientKeying(setting.network, "strict", { psk: PSK }) }, "udp", [0, 1]);
    const stream = await setting.dial();
    const id = setting.server.sessions[0]?.id;
    stream.write(utf8(`TEARDOWN rtsps://server/s/track1 RTSP/1.0\r\nCSeq: 1\r\nSession: ${id}\r\n\r\n`));
    await setting.network.advance(10);
    expect(setting.server.sessions[0]?.tracks).toMatchObject([{ index: 1 }]);
    setting.source.rtp(1, utf8("still"));
    await setting.network.advance(10);
    expect(payloads(player.received)).toEqual(["still"]);
  });

  it("that are NULL-keyed are answered by every SETUP; one key serves all streams only where that is tolerated", async () => {
    const setting = createSetting((network) => {
      const inner = serverKeying(network, peerProfile("gstreamer"));
      let shared: Awaited<ReturnType<typeof inner.offer>>;
      return {
        secure: true,
        tracks: [PCMU, H264],
        presentation: {
          profile: "RTP/SAVP",
          keying: {
            ...inner,
            level: "session",
            // As a camera does that has one key for all: the same message again.
            offer: async (stream, peer) => {
              shared ??= await inner.offer(stream, peer);
              return shared;
            },
          },
        },
      };
    });
    const client = await setting.client({ keying: clientKeying(setting.network, "milestone") });
    await setting.run(client.describe());
    await setting.run(client.setup(0, "udp"));
    await setting.run(client.setup(1, "udp"));
    expect(client.statistics.map(({ tolerances }) => tolerances.includes("one-key-for-all-streams"))).toEqual([true, true]);
    const strict = await setting.client({
      keying: clientKeying(setting.network, "nx", {
        dialect: {
          ...peerProfile("nx"),
          tolerances: ["concatenated-key-and-salt", "tag-length-in-auth-key-length", "ssrc-zero-or-random"],
        },
      }),
    });
    await setting.run(strict.describe());
    await expect(setting.run(strict.setup(0, "udp"))).rejects.toMatchObject({ code: "gsa.streams" });
  });
});

describe("the text of KeyMgmt", () => {
  const message =
    "AQAFAP1td9ABAADCD1UcAAAAAAoAAdOOGc75XD0BAAAAGAABAQEBEAIBAQMBFAcBAQgBAQoBAQsBCgAAACcAIQAeAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdBAAAAC8A";
  const setup = async (profile: PeerProfileName, keyMgmt: string) => {
    const setting = peerSetting(peerProfile(profile));
    const stream = await setting.dial();
    let answers = "";
    stream.onData = (octets) => {
      answers += utf8Text(octets) ?? "";
    };
    stream.write(utf8("DESCRIBE rtsps://server/s RTSP/1.0\r\nCSeq: 1\r\n\r\n"));
    stream.write(
      utf8(
        `SETUP rtsps://server/s/track1 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/SAVP/TCP;unicast;interleaved=0-1\r\n${keyMgmt}\r\n\r\n`,
      ),
    );
    await setting.network.advance(20);
    return { answers, setting };
  };

  it('may have uri="" where that is tolerated, and says so', async () => {
    const { answers, setting } = await setup("genetec", `KeyMgmt: prot=mikey; uri=""; data="${message}"`);
    expect(answers).toMatch(/RTSP\/1.0 200 OK\r\nCSeq: 2/);
    expect(setting.server.sessions[0]?.tracks[0]).toMatchObject({
      mki: "0000002f",
      tolerances: ["empty-key-mgmt-uri", "rand-absent", "timestamp-unchecked", "concatenated-key-and-salt"],
    });
    const strict = await setup("strict", `KeyMgmt: prot=mikey;uri="";data="${message}"`);
    expect(strict.answers).toMatch(/RTSP\/1.0 463 .*\r\nCSeq: 2/);
    expect(strict.setting.events.at(-1)).toMatchObject({ code: "rtsp.key-mgmt-context" });
  });

  it("may be a body of type application/mikey", async () => {
    const setting = peerSetting(peerProfile("genetec"));
    const stream = await setting.dial();
    let answers = "";
    stream.onData = (octets) => {
      answers += utf8Text(octets) ?? "";
    };
    const octets = parseBase64(message, "test");
    stream.write(utf8("DESCRIBE rtsps://server/s RTSP/1.0\r\nCSeq: 1\r\n\r\n"));
    stream.write(
      utf8(
        `SETUP rtsps://server/s/track1 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/SAVP/TCP;unicast;interleaved=0-1\r\nContent-Type: application/mikey\r\nContent-Length: ${octets.length}\r\n\r\n`,
      ),
    );
    stream.write(octets);
    await setting.network.advance(20);
    expect(answers).toMatch(/RTSP\/1.0 200 OK\r\nCSeq: 2/);
    expect(setting.server.sessions[0]?.tracks[0]).toMatchObject({ mki: "0000002f" });
  });
});
