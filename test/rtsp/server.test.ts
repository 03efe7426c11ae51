import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { concatBytes, utf8, utf8Text } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createMediaKeying } from "../../src/gsa/index.js";
import { peerProfile } from "../../src/peers/index.js";
import {
  createMikeyServerKeying,
  createRtspParser,
  createRtspServer,
  encodeFrame,
  header,
  type MediaSource,
  type Presentation,
  type RtspResponse,
} from "../../src/rtsp/index.js";
import { createSetting, H264, manualSource, PCMU, type Setting } from "./support.js";
import { talk } from "./talk.js";

const R = "rtsp://server/s";
const TCP = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
const UDP = "Transport: RTP/AVP;unicast;client_port=5000-5001\r\n";

const WRONG: readonly (readonly [name: string, text: string, status: number])[] = [
  ["no CSeq", `OPTIONS ${R} RTSP/1.0\r\n\r\n`, 400],
  ["a CSeq that is none", `OPTIONS ${R} RTSP/1.0\r\nCSeq: x\r\n\r\n`, 400],
  ["RTSP 3.0", `OPTIONS ${R} RTSP/3.0\r\nCSeq: 1\r\n\r\n`, 505],
  ["an unknown method", `BREW ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`, 501],
  ["a method of every object", `constructor ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`, 501],
  ["ANNOUNCE", `ANNOUNCE ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`, 405],
  ["RECORD", `RECORD ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`, 405],
  ["an option that is required", `SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\nRequire: implicit-play\r\n\r\n`, 551],
  ["a proxy's option", `PLAY ${R} RTSP/1.0\r\nCSeq: 1\r\nProxy-Require: x\r\n\r\n`, 551],
  ["DESCRIBE of nothing", "DESCRIBE rtsp://server/nothing RTSP/1.0\r\nCSeq: 1\r\n\r\n", 404],
  ["DESCRIBE of a longer name", "DESCRIBE rtsp://server/sa RTSP/1.0\r\nCSeq: 1\r\n\r\n", 404],
  ["DESCRIBE of a stream", `DESCRIBE ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\n\r\n`, 404],
  ["DESCRIBE of *", "DESCRIBE * RTSP/1.0\r\nCSeq: 1\r\n\r\n", 400],
  ["DESCRIBE by HTTP URI", "DESCRIBE http://server/s RTSP/1.0\r\nCSeq: 1\r\n\r\n", 400],
  ["DESCRIBE in a format that we have not", `DESCRIBE ${R} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/rtsl\r\n\r\n`, 406],
  ["SETUP of a stream that is not there", `SETUP ${R}/track9 RTSP/1.0\r\nCSeq: 1\r\n${TCP}\r\n`, 404],
  ["SETUP of the whole of several streams", `SETUP ${R} RTSP/1.0\r\nCSeq: 1\r\n${TCP}\r\n`, 459],
  ["SETUP without Transport", `SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\n\r\n`, 400],
  ["SETUP with a Transport that is none", `SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\nTransport: pigeon\r\n\r\n`, 461],
  ["SETUP by multicast", `SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP;multicast\r\n\r\n`, 461],
  [
    "SETUP of SRTP where there is none",
    `SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/SAVP/TCP;unicast;interleaved=0-1\r\n\r\n`,
    461,
  ],
  [
    "SETUP for recording",
    `SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;interleaved=0-1;mode=RECORD\r\n\r\n`,
    461,
  ],
  [
    "SETUP towards somebody else",
    `SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP;unicast;client_port=9-10;destination=victim\r\n\r\n`,
    461,
  ],
  ["SETUP to port 0", `SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP;unicast;client_port=0-1\r\n\r\n`, 461],
  ["SETUP in a session that is not there", `SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\nSession: 42\r\n${TCP}\r\n`, 454],
  ["SETUP in a session whose name is none", `SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\nSession: ;\r\n${TCP}\r\n`, 454],
  ["PLAY without a session", `PLAY ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`, 454],
  ["PLAY in a session that is not there", `PLAY ${R} RTSP/1.0\r\nCSeq: 1\r\nSession: 42\r\n\r\n`, 454],
  ["PAUSE without a session", `PAUSE ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`, 454],
  ["TEARDOWN without a session", `TEARDOWN ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`, 454],
  ["GET_PARAMETER of something", `GET_PARAMETER ${R} RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 3\r\n\r\na\r\n`, 451],
  ["GET_PARAMETER in a session that is not there", `GET_PARAMETER ${R} RTSP/1.0\r\nCSeq: 1\r\nSession: 42\r\n\r\n`, 454],
  ["SET_PARAMETER of something", `SET_PARAMETER ${R} RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 6\r\n\r\na: b\r\n`, 451],
  [
    "SET_PARAMETER of keys without a session",
    `SET_PARAMETER ${R} RTSP/1.0\r\nCSeq: 1\r\nKeyMgmt: prot=mikey;data="AAAA"\r\n\r\n`,
    454,
  ],
  ["SET_PARAMETER of keys that are none", `SET_PARAMETER ${R} RTSP/1.0\r\nCSeq: 1\r\nKeyMgmt: x\r\n\r\n`, 463],
];

describe("wrong requests", () => {
  const two = () => createSetting({ tracks: [PCMU, H264] });

  it.each(WRONG)("%s", async (_name, text, status) => {
    const setting = two();
    const { say, stream } = await talk(setting);
    const [response, ...more] = await say(text);
    expect(response?.status).toBe(status);
    expect(more).toEqual([]);
    expect(setting.network.host("server").open.datagrams).toBe(0);
    // The connection goes on.
    expect((await say(`OPTIONS ${R} RTSP/1.0\r\nCSeq: 9\r\n\r\n`)).map((next) => [next.status, header(next, "CSeq")])).toEqual([
      [200, "9"],
    ]);
    stream.end();
  });

  it("names what it has and what it has not", async () => {
    const { say } = await talk(two());
    const [required] = await say(`PLAY ${R} RTSP/1.0\r\nCSeq: 1\r\nRequire: a, b\r\n\r\n`);
    expect(header(required as RtspResponse, "Unsupported")).toBe("a, b");
    const [announce] = await say(`ANNOUNCE ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`);
    expect(header(announce as RtspResponse, "Allow")).toContain("DESCRIBE");
    const [options] = await say("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    expect(header(options as RtspResponse, "Public")).toBe(
      "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, GET_PARAMETER, SET_PARAMETER, TEARDOWN",
    );
  });

  it.each([
    ["junk", "hello\r\n\r\n", 400],
    ["a header of 64 KiB", `OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: ${"x".repeat(65_536)}\r\n\r\n`, 400],
    ["a body of a gigabyte", "OPTIONS * RTSP/1.0\r\nCSeq: 5\r\nContent-Length: 1000000000\r\n\r\n", 413],
    ["a URI of 5000 octets", `OPTIONS rtsp://${"x".repeat(5000)} RTSP/1.0\r\nCSeq: 1\r\n\r\n`, 414],
    ["more requests than may wait", "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n".repeat(200), 400],
  ])("%s is answered and the connection closed, the next client served", async (_name, text, status) => {
    const setting = two();
    const conversation = await talk(setting);
    const responses = await conversation.say(text);
    expect(responses.at(-1)?.status).toBe(status);
    await setting.network.advance(100);
    expect(conversation.closed).toBe(true);
    expect(setting.server.connections).toBe(0);
    const next = await talk(setting);
    expect((await next.say(`DESCRIBE ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`))[0]?.status).toBe(200);
  });

  it("of any shape leave the server alive", async () => {
    const pieces = fc.constantFrom(
      `SETUP ${R}/track1 RTSP/1.0\r\n`,
      `PLAY ${R} RTSP/1.0\r\n`,
      `DESCRIBE ${R} RTSP/1.0\r\n`,
      "CSeq: 1\r\n",
      TCP,
      UDP,
      "Session: 1\r\n",
      "KeyMgmt: prot=mikey\r\n",
      "\r\n",
      "$\x00\x00\x04abcd",
      "x",
    );
    await fc.assert(
      fc.asyncProperty(fc.array(pieces, { maxLength: 20 }), async (parts) => {
        const setting = two();
        const first = await talk(setting);
        await first.say(concatBytes(...parts.map(utf8)));
        const next = await talk(setting);
        expect((await next.say(`OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n`))[0]?.status).toBe(200);
        first.stream.destroy();
        await setting.network.advance(61_000);
        expect(setting.network.host("server").open.datagrams).toBe(0);
      }),
      { numRuns: 60 },
    );
  });
});

describe("a session", () => {
  async function started(setting: Setting, from?: string) {
    const conversation = await talk(setting, from);
    const [response] = await conversation.say(`SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\n${UDP}\r\n`);
    const session = header(response as RtspResponse, "Session")?.split(";")[0] ?? "";
    return { ...conversation, session, response };
  }
  const two = () => createSetting({ tracks: [PCMU, H264] });

  it("tells what was chosen", async () => {
    const { response } = await started(two());
    expect(response?.status).toBe(200);
    expect(header(response as RtspResponse, "Transport")).toMatch(
      /^RTP\/AVP;unicast;client_port=5000-5001;server_port=\d+-\d+;ssrc=11223344;mode="PLAY"$/,
    );
    expect(header(response as RtspResponse, "Session")).toMatch(/^[0-9a-f]{32};timeout=60$/);
  });

  it("goes through its states and no others", async () => {
    const setting = two();
    const { say, session } = await started(setting);
    const ask = async (method: string, uri = R, more = ""): Promise<number | undefined> =>
      (await say(`${method} ${uri} RTSP/1.0\r\nCSeq: 1\r\nSession: ${session}\r\n${more}\r\n`))[0]?.status;
    expect(await ask("PAUSE")).toBe(455);
    expect(await ask("SETUP", `${R}/track1`, UDP)).toBe(455);
    expect(await ask("SETUP", `${R}/track2`, "Transport: RTP/AVP;unicast;client_port=5002-5003\r\n")).toBe(200);
    expect(await ask("PLAY", `${R}/track1`)).toBe(460);
    expect(await ask("PLAY", R, "Range: bytes=0-\r\n")).toBe(457);
    expect(await ask("PLAY", `${R}/`, "Range: npt=0-\r\n")).toBe(200);
    expect(await ask("PLAY")).toBe(200);
    expect(await ask("GET_PARAMETER")).toBe(200);
    expect(await ask("SET_PARAMETER")).toBe(200);
    expect(await ask("PAUSE")).toBe(200);
    expect(await ask("PAUSE")).toBe(455);
    expect(await ask("TEARDOWN", `${R}/track2`)).toBe(200);
    expect(await ask("PLAY", `${R}/track2`)).toBe(404);
    expect(await ask("PLAY", `${R}/track1`)).toBe(200);
    expect(await ask("TEARDOWN")).toBe(200);
    expect(await ask("TEARDOWN")).toBe(454);
    expect(setting.network.host("server").open.datagrams).toBe(0);
  });

  it("says where its packets begin, and begins there", async () => {
    const setting = createSetting();
    const conversation = await talk(setting);
    const [setup] = await conversation.say(`SETUP ${R} RTSP/1.0\r\nCSeq: 1\r\n${TCP}\r\n`);
    const session = header(setup as RtspResponse, "Session")?.split(";")[0];
    const [play] = await conversation.say(`PLAY ${R} RTSP/1.0\r\nCSeq: 2\r\nSession: ${session}\r\n\r\n`);
    setting.source.rtp(0, utf8("x"));
    await setting.network.advance(10);
    const frame = conversation.items.at(-1);
    if (frame?.kind !== "frame") throw new Error("no frame");
    const sequence = new DataView(frame.data.buffer, frame.data.byteOffset).getUint16(2);
    expect(header(play as RtspResponse, "RTP-Info")).toBe(`url=${R}/track1;seq=${sequence}`);
    expect(header(play as RtspResponse, "Range")).toBe("npt=now-");
  });

  it("is nobody else's", async () => {
    const setting = two();
    const { session } = await started(setting);
    const stranger = await talk(setting, "stranger");
    const [response] = await stranger.say(`TEARDOWN ${R} RTSP/1.0\r\nCSeq: 1\r\nSession: ${session}\r\n\r\n`);
    expect(response?.status).toBe(454);
    expect(setting.server.sessions).toHaveLength(1);
  });

  it("over UDP can be gone on with on another connection of the same client", async () => {
    const setting = two();
    const { session, stream } = await started(setting);
    stream.end();
    const again = await talk(setting);
    expect((await again.say(`PLAY ${R} RTSP/1.0\r\nCSeq: 1\r\nSession: ${session}\r\n\r\n`))[0]?.status).toBe(200);
  });

  it("times out in silence, not before; requests and reports keep it", async () => {
    const setting = two();
    const { say, session, response } = await started(setting);
    await setting.network.advance(59_000);
    await say(`OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nSession: ${session}\r\n\r\n`);
    await setting.network.advance(59_000);
    const [, rtcp] = /server_port=\d+-(\d+)/.exec(header(response as RtspResponse, "Transport") ?? "") ?? [];
    const socket = await setting.network.host("client").datagrams.bind({ host: "client", port: 5001 });
    // What rtspsrc sends to open a firewall is no sign of life.
    socket.send(new Uint8Array(200), { host: "server", port: Number(rtcp) });
    socket.send(Uint8Array.of(0x80, 201, 0, 1, 0, 0, 0, 7), { host: "server", port: Number(rtcp) });
    await setting.network.advance(59_000);
    expect(setting.server.sessions).toHaveLength(1);
    await setting.network.advance(3000);
    expect(setting.server.sessions).toEqual([]);
    expect(setting.events.at(-1)).toMatchObject({ reason: "timeout" });
  });

  it("does not end, nor lives on, because somebody sets the clock", async () => {
    let jump = 0;
    const setting = createSetting((network) => ({
      server: { clock: { now: () => network.clock.now() + jump }, steady: network.clock },
    }));
    const { session } = await started(setting);
    for (const hours of [48, -48]) {
      jump = hours * 3_600_000;
      await setting.network.advance(30_000);
      expect(setting.server.sessions.map(({ id }) => id)).toEqual([session]);
    }
    await setting.network.advance(32_000);
    expect(setting.events.at(-1)).toMatchObject({ reason: "timeout" });
  });

  it("is one of a limited number", async () => {
    const setting = createSetting({ server: { maxSessions: 2 } });
    const statuses: (number | undefined)[] = [];
    for (const from of ["a", "b", "c"]) statuses.push((await started(setting, from)).response?.status);
    expect(statuses).toEqual([200, 200, 453]);
  });

  it("takes the next channels where the wanted ones are in use, and drops frames of none", async () => {
    const setting = two();
    const { say } = await talk(setting);
    const [first] = await say(`SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\n${TCP}\r\n`);
    const session = header(first as RtspResponse, "Session")?.split(";")[0];
    const [second] = await say(`SETUP ${R}/track2 RTSP/1.0\r\nCSeq: 2\r\nSession: ${session}\r\n${TCP}\r\n`);
    expect(header(second as RtspResponse, "Transport")).toContain("interleaved=2-3");
    expect(await say(encodeFrame(77, new Uint8Array(10)))).toEqual([]);
  });

  it("is set up by the first alternative that can be served", async () => {
    const setting = two();
    const { say } = await talk(setting);
    const [response] = await say(
      `SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/SAVP;unicast;client_port=1-2,RTP/AVP;multicast\r\nTransport: RTP/AVP/TCP;unicast\r\n\r\n`,
    );
    expect(header(response as RtspResponse, "Transport")).toContain("RTP/AVP/TCP;unicast;interleaved=0-1");
  });
});

describe("a connection", () => {
  it("on which nothing happens is closed", async () => {
    const setting = createSetting();
    const conversation = await talk(setting);
    conversation.stream.write(utf8("OPTIONS * RTSP/1.0\r\n"));
    await setting.network.advance(50_000);
    conversation.stream.write(utf8("X: y\r\n"));
    await setting.network.advance(12_000);
    expect(conversation.closed).toBe(true);
    expect(setting.server.connections).toBe(0);
  });

  it("is one of a limited number", async () => {
    const setting = createSetting({ server: { maxConnections: 1 } });
    const first = await talk(setting);
    const second = await talk(setting);
    await setting.network.advance(10);
    expect([first.closed, second.closed]).toEqual([false, true]);
  });

  it("closes after the answer when asked to", async () => {
    const setting = createSetting();
    const conversation = await talk(setting);
    expect((await conversation.say("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nConnection: close\r\n\r\n"))[0]?.status).toBe(200);
    await setting.network.advance(10);
    expect(conversation.closed).toBe(true);
  });

  it("suffers alone from a fault in a callback", async () => {
    const setting = createSetting({
      server: {
        onEvent: ({ type }) => {
          if (type === "setup" || type === "playing") throw new Error("a fault");
        },
      },
    });
    const faulty = await talk(setting);
    expect((await faulty.say(`SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\n${TCP}\r\n`))[0]?.status).toBe(500);
    const session = setting.server.sessions[0]?.id;
    await faulty.say(`PLAY ${R} RTSP/1.0\r\nCSeq: 2\r\nSession: ${session}\r\n\r\n`);
    await setting.network.advance(10);
    expect(faulty.closed).toBe(true);
    expect(setting.server.sessions).toEqual([]);
    const next = await talk(setting);
    expect((await next.say("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"))[0]?.status).toBe(200);
  });

  it("answers pipelined requests in order", async () => {
    const { say } = await talk(createSetting());
    const responses = await say([1, 2, 3].map((sequence) => `DESCRIBE ${R} RTSP/1.0\r\nCSeq: ${sequence}\r\n\r\n`).join(""));
    expect(responses.map((response) => header(response, "CSeq"))).toEqual(["1", "2", "3"]);
  });
});

describe("a server", () => {
  const source = (): MediaSource => manualSource();
  const environment = () => {
    const { network } = createSetting();
    return { clock: network.clock, timers: network.timers, random: network.random };
  };

  it.each<[name: string, presentations: readonly Presentation[], code: string]>([
    ["SRTP without keys", [{ path: "/s", source: source(), profile: "RTP/SAVP" }], "rtsp.profile"],
    ["keys for plain RTP", [{ path: "/s", source: source(), profile: "RTP/AVP", keying: {} as never }], "rtsp.profile"],
    ["a path without a slash", [{ path: "s", source: source(), profile: "RTP/AVP" }], "rtsp.path"],
    ["a path with a slash at its end", [{ path: "/s/", source: source(), profile: "RTP/AVP" }], "rtsp.path"],
    ["a path with a space", [{ path: "/a b", source: source(), profile: "RTP/AVP" }], "rtsp.path"],
    [
      "a path twice",
      [
        { path: "/s", source: source(), profile: "RTP/AVP" },
        { path: "/s", source: source(), profile: "RTP/AVP" },
      ],
      "rtsp.path",
    ],
  ])("is not made with %s", (_name, presentations, code) => {
    expect(() => createRtspServer({ presentations, ...environment() })).toThrow(expect.objectContaining({ code }));
  });

  it("whose source does not start says so", async () => {
    const broken: MediaSource = { ...manualSource(), start: () => Promise.reject(new Error("no camera")) };
    const setting = createSetting({ presentation: { source: broken } });
    const { say } = await talk(setting);
    expect((await say(`DESCRIBE ${R} RTSP/1.0\r\nCSeq: 1\r\n\r\n`))[0]?.status).toBe(503);
  });

  it("whose ports are gone says so", async () => {
    const none = (): Promise<never> => Promise.reject(new Error("none"));
    const setting = createSetting({
      server: { datagrams: { bind: none, bindPair: none, bindMulticast: none } },
    });
    const { say } = await talk(setting);
    expect((await say(`SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\n${UDP}\r\n`))[0]?.status).toBe(503);
    expect((await say(`SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\n${TCP}\r\n`))[0]?.status).toBe(200);
  });

  it("that closes ends everything, once", async () => {
    const setting = createSetting();
    const { say, items } = await talk(setting);
    await say(`SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\n${UDP}\r\n`);
    setting.server.close();
    setting.server.close();
    await setting.network.advance(100);
    expect(setting.events.at(-1)).toMatchObject({ reason: "server-closed" });
    expect(setting.network.host("server").open).toEqual({ datagrams: 0, streams: 0 });
    expect(setting.network.pending).toBe(0);
    expect(items).toHaveLength(1);
    const late = await talk(setting);
    await setting.network.advance(10);
    expect(late.closed).toBe(true);
  });
});

const capture = resolve(import.meta.dirname, "../../../shared/golden/gst/gst-savp-tcp.json");
describe.skipIf(!existsSync(capture))("the requests of a captured rtspsrc", () => {
  it("are answered as GStreamer's own server answers them", async () => {
    const { rtsp_dialogue } = JSON.parse(readFileSync(capture, "utf8")) as {
      rtsp_dialogue: { t: number; dir: string; text: string }[];
    };
    const setting = createSetting({ network: { now: rtsp_dialogue[0]?.t ?? 0 }, tracks: [H264, PCMU] });
    setting.server.close();
    const { network } = setting;
    const server = createRtspServer({
      presentations: [
        {
          path: "/test",
          source: manualSource([H264, PCMU]),
          profile: "RTP/SAVP",
          keying: createMikeyServerKeying({
            keying: createMediaKeying({
              clock: network.clock,
              timers: network.timers,
              crypto: nobleCrypto,
              dialect: peerProfile("gstreamer"),
              allowNullKeying: true,
            }),
            policy: { suite: "AES_CM_128_HMAC_SHA1_80" },
          }),
        },
      ],
      clock: network.clock,
      timers: network.timers,
      random: network.random,
    });
    network.host("gst").listen(8555, (stream) => server.accept(stream));
    const stream = await setting.run(network.host("client").streams.connect({ host: "gst", port: 8555 }));
    const parser = createRtspParser();
    const responses: RtspResponse[] = [];
    stream.onData = (octets) => parser.push(octets, (item) => item.kind === "response" && responses.push(item));
    let session = "";
    for (const { text } of rtsp_dialogue.filter(({ dir }) => dir === "C->S")) {
      const own = text
        .replace(/stream=(\d)/g, (_all, index: string) => `track${Number(index) + 1}`)
        .replace(/Session: .*/, `Session: ${session}`);
      stream.write(utf8(own));
      await network.advance(20);
      session = header(responses.at(-1) as RtspResponse, "Session")?.split(";")[0] ?? session;
    }
    expect(responses.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200, 200]);
    expect(utf8Text(responses[1]?.body as Uint8Array)).toContain("m=video 0 RTP/SAVP 96");
    expect(header(responses[2] as RtspResponse, "Transport")).toContain("RTP/SAVP/TCP;unicast;interleaved=0-1");
    server.close();
  });
});
