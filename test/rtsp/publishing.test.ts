import { describe, expect, it } from "vitest";
import { formatBase64, utf8 } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createMediaKeying, type KeyedMedia, type MediaKeying } from "../../src/gsa/index.js";
import type { SimulatedNetwork } from "../../src/io/index.js";
import { peerProfile } from "../../src/peers/index.js";
import {
  createAuthenticator,
  createMikeyClientKeying,
  createMikeyServerKeying,
  createPskDirectory,
  createPublishedSource,
  encodeFrame,
  header,
  identityOf,
  nameOfIdentity,
  type PublishedSource,
  type RtspResponse,
} from "../../src/rtsp/index.js";
import { parseKeyMgmtHeader } from "../../src/sdp/index.js";
import { createSetting, manualSource, payloads, type Setting, type SettingOptions } from "./support.js";
import { type Talk, talk } from "./talk.js";

const R = "rtsp://server:554/s";
const PSK = utf8("0123456789abcdef0123456789abcdef");
const SDP = [
  "v=0",
  "o=- 1 1 IN IP4 127.0.0.1",
  "s=studio",
  "t=0 0",
  "m=audio 0 RTP/SAVP 0",
  "c=IN IP4 0.0.0.0",
  "a=rtpmap:0 PCMU/8000",
  "a=control:stream=0",
  "m=video 0 RTP/SAVP 96",
  "a=rtpmap:96 H264/90000",
  "a=fmtp:96 packetization-mode=1",
  "a=control:stream=1",
  "",
].join("\r\n");

function mediaKeying(network: SimulatedNetwork, psk: boolean, name: string): MediaKeying {
  return createMediaKeying({
    clock: network.clock,
    timers: network.timers,
    crypto: nobleCrypto,
    dialect: peerProfile(psk ? "strict" : "gstreamer"),
    identity: identityOf(name),
    requirePsk: psk,
    allowNullKeying: !psk,
    ...(psk
      ? { findCredential: (id) => (["studio", "server", "viewer"].includes(nameOfIdentity(id) ?? "") ? { psk: PSK } : undefined) }
      : {}),
  });
}

interface Studio extends Setting {
  readonly into: PublishedSource;
}

function studio(options: { readonly psk?: boolean; readonly plain?: boolean } & SettingOptions = {}): Studio {
  const { psk = false, plain = false, ...rest } = options;
  const into = createPublishedSource();
  const setting = createSetting((network) => {
    const directory = createPskDirectory([
      ["studio", PSK],
      ["viewer", PSK],
    ]);
    const keying = createMikeyServerKeying({
      keying: mediaKeying(network, psk, "server"),
      policy: { suite: "AES_CM_128_HMAC_SHA1_80" },
      ...(psk ? { directory } : {}),
    });
    return {
      ...rest,
      presentation: {
        source: into,
        publish: { into },
        ...(plain ? { profile: "RTP/AVP" as const } : { profile: "RTP/SAVP" as const, keying }),
        ...rest.presentation,
      },
    };
  });
  return { ...setting, into };
}

const announce = (sdp: string, fields = ""): string =>
  `ANNOUNCE ${R} RTSP/1.0\r\nCSeq: 1\r\nFrom: studio\r\n${fields}Content-Type: application/sdp\r\nContent-Length: ${sdp.length}\r\n\r\n${sdp}`;

const sessionOf = (response: RtspResponse | undefined): string =>
  (header(response as RtspResponse, "Session") ?? "").split(";")[0] as string;

/** A publisher of both streams over one connection, interleaved. */
async function publish(setting: Studio, psk: boolean, from = "studio") {
  const conversation: Talk = await talk(setting, from);
  const { say } = conversation;
  const [announced] = await say(announce(SDP));
  expect(announced?.status).toBe(200);
  const offers = parseKeyMgmtHeader(header(announced as RtspResponse, "KeyMgmt") ?? "");
  expect(offers.map(({ uri }) => uri)).toEqual([`${R}/stream=0`, `${R}/stream=1`]);
  const keying = mediaKeying(setting.network, psk, "studio");
  const media: KeyedMedia[] = [];
  let session = "";
  for (const [index, { uri, data }] of offers.entries()) {
    const answer = await keying.answer(data, {
      secure: false,
      ssrcs: [100 + index],
      scope: "studio",
      keyOwnDirection: true,
      ...(psk ? { sdpIds: ["mikey"] } : {}),
    });
    if (answer.kind !== "new") throw new Error("repeated");
    media.push(answer.media);
    const [setup] = await say(
      `SETUP ${uri} RTSP/1.0\r\nCSeq: 2\r\nFrom: studio\r\n${session === "" ? "" : `Session: ${session}\r\n`}` +
        `KeyMgmt: prot=mikey;uri="${uri}";data="${formatBase64(answer.response as Uint8Array)}"\r\n` +
        `Transport: RTP/SAVP/TCP;unicast;interleaved=${2 * index}-${2 * index + 1};mode=RECORD\r\n\r\n`,
    );
    expect(setup?.status).toBe(200);
    expect(header(setup as RtspResponse, "Transport")).toContain('mode="RECORD"');
    session = sessionOf(setup);
  }
  let sequence = 7;
  const send = (index: number, text: string): void => {
    const payload = utf8(text);
    const packet = new Uint8Array(12 + payload.length);
    packet.set([0x80, index === 0 ? 0 : 96, 0, sequence++, 0, 0, 0, 0, 0, 0, 0, 100 + index]);
    packet.set(payload, 12);
    const out = new Uint8Array(packet.length + 64);
    const length = media[index]?.streams[0]?.sender?.protect(packet, out) ?? 0;
    conversation.stream.write(encodeFrame(2 * index, out.subarray(0, length)));
  };
  const request = (method: string): string => `${method} ${R} RTSP/1.0\r\nCSeq: 5\r\nSession: ${session}\r\n\r\n`;
  return { ...conversation, media, session, send, request };
}

async function viewer(setting: Studio, psk: boolean, tracks: readonly number[] = [0]) {
  const player = await setting.client({
    from: "viewer",
    keying: createMikeyClientKeying({ keying: mediaKeying(setting.network, psk, "viewer"), scope: "viewer" }),
    mediaTimeout: 0,
  });
  const described = await setting.run(player.describe());
  for (const track of tracks) await setting.run(player.setup(track, "tcp"));
  await setting.run(player.play());
  return Object.assign(player, { described });
}

describe.each([
  ["NULL-keyed, as GStreamer", false],
  ["under a pre-shared key", true],
])("what is published, %s", (_name, psk) => {
  it("reaches who plays the path, under keys of their own", async () => {
    const setting = studio({ psk });
    const { network, run, server, events } = setting;
    const publisher = await publish(setting, psk);
    const early = await setting.client();
    await expect(run(early.describe())).rejects.toMatchObject({ status: 404 });
    const [recording] = await publisher.say(publisher.request("RECORD"));
    expect(recording?.status).toBe(200);
    const player = await viewer(setting, psk, [0, 1]);
    expect(player.described.description.media).toMatchObject([
      { kind: "audio", formats: ["0"], rtpMaps: [{ encoding: "PCMU" }] },
      { kind: "video", formats: ["96"], formatParameters: [{ config: "packetization-mode=1" }] },
    ]);
    publisher.send(0, "sound");
    publisher.send(1, "picture");
    await network.advance(20);
    expect(payloads(player.received).toSorted()).toEqual(["picture", "sound"]);
    const [studioSession, viewerSession] = server.sessions;
    expect(studioSession).toMatchObject({ state: "recording", publishes: true, tracks: [{ packets: 1 }, { packets: 1 }] });
    expect(viewerSession).toMatchObject({ state: "playing", publishes: false });
    expect(viewerSession?.tracks[0]?.fingerprint).not.toBe(studioSession?.tracks[0]?.fingerprint);
    await network.advance(6000);
    const reports = publisher.items.filter((item) => item.kind === "frame");
    expect(reports.map(({ channel }) => channel).toSorted()).toEqual([1, 3]);
    for (const { channel, data } of reports) {
      expect(
        publisher.media[(channel - 1) / 2]?.streams[0]?.receiver?.unprotectRtcp(data, new Uint8Array(data.length)),
      ).toBeGreaterThan(0);
    }
    expect((await publisher.say(publisher.request("PAUSE")))[0]?.status).toBe(200);
    publisher.send(0, "unheard");
    await publisher.say(publisher.request("RECORD"));
    publisher.send(0, "again");
    await network.advance(20);
    expect(payloads(player.received).at(-1)).toBe("again");
    await publisher.say(publisher.request("TEARDOWN"));
    await network.advance(100);
    expect(player.received.ends).toEqual(["rtsp.connection-closed"]);
    expect(events.filter(({ type }) => type === "ended")).toMatchObject([{ reason: "unpublished" }, { reason: "teardown" }]);
    expect(server.sessions).toEqual([]);
    await publish(setting, psk, "other");
  });
});

describe("publishing", () => {
  it("is for one at a time, and ends with who publishes", async () => {
    const setting = studio();
    const first = await publish(setting, false);
    const rival = await talk(setting, "rival");
    expect((await rival.say(announce(SDP)))[0]?.status).toBe(403);
    expect(setting.events.at(-1)).toMatchObject({ type: "refused", code: "rtsp.published" });
    await first.say(first.request("RECORD"));
    const player = await viewer(setting, false);
    first.stream.destroy();
    await setting.network.advance(100);
    expect(setting.into.published).toBe(false);
    expect(player.received.ends).toEqual(["rtsp.connection-closed"]);
    expect((await rival.say(announce(SDP)))[0]?.status).toBe(200);
  });

  it("ends when nothing comes", async () => {
    const setting = studio({ server: { sessionTimeout: 20 } });
    const publisher = await publish(setting, false);
    await publisher.say(publisher.request("RECORD"));
    for (let second = 0; second < 40; second++) {
      publisher.send(0, "x");
      await setting.network.advance(1000);
    }
    expect(setting.server.sessions).toHaveLength(1);
    await setting.network.advance(25_000);
    expect(setting.events.at(-1)).toMatchObject({ type: "ended", reason: "timeout" });
    expect(setting.into.published).toBe(false);
  });

  it("is refused where nobody asked for it", async () => {
    const setting = createSetting();
    const { say } = await talk(setting);
    for (const text of [announce(SDP), `RECORD ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`]) {
      const [answer] = await say(text);
      expect(answer?.status).toBe(405);
      expect(header(answer as RtspResponse, "Allow")).not.toMatch(/ANNOUNCE|RECORD/);
    }
    const [elsewhere] = await say(announce(SDP).replace(R, "rtsp://server:554/elsewhere"));
    expect(elsewhere?.status).toBe(404);
  });

  it("needs who may do it, and who plays needs something else", async () => {
    const only = (user: string) =>
      createAuthenticator({
        realm: "s",
        crypto: nobleCrypto,
        clock: { now: () => 0 },
        password: (name) => (name === user ? "pw" : undefined),
        basic: true,
      });
    const into = createPublishedSource();
    const setting = createSetting({
      secure: true,
      presentation: { source: into, publish: { into, authenticator: only("studio") }, authenticator: only("viewer") },
    });
    const { say } = await talk(setting);
    const plain = SDP.replaceAll("RTP/SAVP", "RTP/AVP");
    const basic = (user: string): string => `Authorization: Basic ${formatBase64(utf8(`${user}:pw`))}\r\n`;
    const status = async (text: string): Promise<number | undefined> =>
      (await say(text.replaceAll("rtsp://", "rtsps://")))[0]?.status;
    expect(await status(announce(plain))).toBe(401);
    expect(await status(announce(plain, basic("viewer")))).toBe(401);
    expect(await status(announce(plain, basic("studio")))).toBe(200);
    const setup = `SETUP ${R}/stream=0 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=RECORD\r\n`;
    expect(await status(`${setup}\r\n`)).toBe(401);
    const [answer] = await say(`${setup}${basic("studio")}\r\n`.replaceAll("rtsp://", "rtsps://"));
    const session = sessionOf(answer);
    const record = `RECORD ${R} RTSP/1.0\r\nCSeq: 3\r\nSession: ${session}\r\n`;
    expect(await status(`${record}${basic("viewer")}\r\n`)).toBe(401);
    expect(await status(`${record}${basic("studio")}\r\n`)).toBe(200);
    expect(await status(`DESCRIBE ${R} RTSP/1.0\r\nCSeq: 4\r\n${basic("studio")}\r\n`)).toBe(401);
    expect(await status(`DESCRIBE ${R} RTSP/1.0\r\nCSeq: 4\r\n${basic("viewer")}\r\n`)).toBe(200);
    expect(await status(`PLAY ${R} RTSP/1.0\r\nCSeq: 5\r\nSession: ${session}\r\n${basic("studio")}\r\n`)).toBe(455);
  });

  it.each([
    ["no description", "", 400],
    ["a description without streams", "v=0\r\ns=x\r\n", 400],
    ["plain RTP on a keyed path", SDP.replaceAll("RTP/SAVP", "RTP/AVP"), 403],
    ["neither audio nor video", SDP.replace("m=audio", "m=application"), 400],
    ["no rtpmap", SDP.replace("a=rtpmap:0 PCMU/8000\r\n", ""), 400],
    ["two streams under one URI", SDP.replace("stream=1", "stream=0"), 400],
    ["too many streams", `v=0\r\ns=x\r\n${"m=audio 0 RTP/SAVP 0\r\na=rtpmap:0 PCMU/8000\r\n".repeat(9)}`, 400],
    ["a key message that cannot be read", SDP.replace("a=control:stream=0", "a=key-mgmt:mikey *\r\na=control:stream=0"), 463],
    ["no text", "v=0\r\ns=\u0000\r\n", 400],
  ])("refuses %s", async (_what, sdp, status) => {
    const setting = studio();
    const { say } = await talk(setting);
    expect((await say(announce(sdp)))[0]?.status).toBe(status);
    expect(setting.server.sessions).toEqual([]);
  });

  it("refuses another type, a stream that was not announced, a stream without a key, and a session of somebody else", async () => {
    const setting = studio();
    const { say } = await talk(setting);
    const setup = (uri: string, more = ""): string =>
      `SETUP ${uri} RTSP/1.0\r\nCSeq: 2\r\n${more}Transport: RTP/SAVP/TCP;unicast;interleaved=0-1;mode="RECORD"\r\n\r\n`;
    expect((await say(setup(`${R}/stream=0`)))[0]?.status).toBe(404);
    expect((await say(announce(SDP).replace("application/sdp", "text/plain")))[0]?.status).toBe(415);
    expect((await say(announce(SDP)))[0]?.status).toBe(200);
    expect((await say(setup(`${R}/stream=7`)))[0]?.status).toBe(404);
    expect((await say(setup(`${R}/stream=0`)))[0]?.status).toBe(403);
    expect((await say(setup(`${R}/stream=0`, 'KeyMgmt: prot=mikey;data="AAAA"\r\n')))[0]?.status).toBe(463);
    expect((await say(setup(`${R}/stream=0`, "Session: 0123456789abcdef\r\n")))[0]?.status).toBe(454);
    expect(setting.server.sessions).toEqual([]);
    expect(setting.network.host("server").open.datagrams).toBe(0);
  });

  it("takes no place that somebody else got meanwhile", async () => {
    const into = createPublishedSource();
    const setting = createSetting((network) => {
      const { datagrams } = network.host("server");
      const bindPair: typeof datagrams.bindPair = async (host) => {
        await new Promise<void>((resolve) => {
          network.timers.after(50, resolve);
        });
        return datagrams.bindPair(host);
      };
      return {
        server: {
          maxSessions: 1,
          datagrams: { ...datagrams, bindPair },
          presentations: [
            { path: "/s", source: into, profile: "RTP/AVP", publish: { into } },
            { path: "/t", source: manualSource(), profile: "RTP/AVP" },
          ],
        },
      };
    });
    const [studio, viewer] = [await talk(setting, "studio"), await talk(setting, "viewer")];
    expect((await studio.say(announce(SDP.replaceAll("RTP/SAVP", "RTP/AVP"))))[0]?.status).toBe(200);
    const setup = (uri: string, more = "") =>
      `SETUP ${uri} RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP;unicast;client_port=5000-5001${more}\r\n\r\n`;
    await viewer.say(setup("rtsp://server/t/track1"));
    await studio.say(setup(`${R}/stream=0`, ";mode=RECORD"));
    await setting.network.advance(100);
    expect([viewer, studio].map(({ items }) => items.at(-1))).toMatchObject([{ status: 200 }, { status: 453 }]);
    expect(setting.server.sessions.map(({ path }) => path)).toEqual(["/t"]);
  });

  it("says that it is offered", async () => {
    const { say } = await talk(studio());
    const [answer] = await say(`OPTIONS ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`);
    expect(header(answer as RtspResponse, "Public")).toContain("ANNOUNCE, RECORD");
  });
});
