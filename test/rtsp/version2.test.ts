import { describe, expect, it } from "vitest";
import { formatBase64, utf8, utf8Text } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createMediaKeying } from "../../src/gsa/index.js";
import type { SimulatedNetwork, Stream } from "../../src/io/index.js";
import { peerProfile } from "../../src/peers/index.js";
import {
  type ClientKeying,
  type ClientTransport,
  createMikeyClientKeying,
  createMikeyServerKeying,
  createPskDirectory,
  formatRtpInfo,
  formatTransport,
  header,
  identityOf,
  nameOfIdentity,
  parseRtpInfo,
  parseTransport,
  type RtspResponse,
  type ServerKeying,
} from "../../src/rtsp/index.js";
import { createSetting, H264, PCMU, payloads, type SettingOptions } from "./support.js";
import { type Talk, talk } from "./talk.js";

const PSK = utf8("0123456789abcdef0123456789abcdef");
const R = "rtsp://server/s";
const UDP2 = 'Transport: RTP/AVP;unicast;dest_addr=":5000"/":5001"\r\n';
const TCP2 = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";

/** One request, answered. */
async function ask({ say }: Talk, text: string): Promise<RtspResponse> {
  const [response, ...others] = await say(`${text}\r\n`);
  if (response === undefined || others.length > 0) throw new Error("one answer expected");
  return response;
}

const shape = ({ version, status, reason }: RtspResponse): string => `${version} ${status} ${reason}`;

describe("versions", () => {
  it.each([
    ["RTSP/1.0", "RTSP/1.0 200 OK"],
    ["RTSP/2.0", "RTSP/2.0 200 OK"],
    ["RTSP/2.1", "RTSP/1.0 505 RTSP Version not supported"],
    ["RTSP/3.0", "RTSP/1.0 505 RTSP Version not supported"],
    ["RTSP/0.9", "RTSP/1.0 505 RTSP Version not supported"],
  ])("%s is answered with %s", async (version, answer) => {
    const dialogue = await talk(createSetting());
    expect(shape(await ask(dialogue, `OPTIONS ${R} ${version}\r\nCSeq: 1\r\n`))).toBe(answer);
  });

  it("may change from request to request", async () => {
    const dialogue = await talk(createSetting());
    expect((await ask(dialogue, `OPTIONS ${R} RTSP/2.0\r\nCSeq: 1\r\n`)).version).toBe("RTSP/2.0");
    expect((await ask(dialogue, `OPTIONS ${R} RTSP/1.0\r\nCSeq: 1\r\n`)).version).toBe("RTSP/1.0");
  });
});

describe("a dialogue in RTSP 2.0", () => {
  it("has its own headers", async () => {
    const setting = createSetting({ tracks: [PCMU, H264] });
    const dialogue = await talk(setting);
    const options = await ask(dialogue, `OPTIONS ${R} RTSP/2.0\r\nCSeq: 1\r\nRequire: play.basic\r\nSupported: play.basic, x\r\n`);
    expect([header(options, "Supported"), header(options, "Public")]).toEqual([
      "play.basic",
      "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, GET_PARAMETER, SET_PARAMETER, TEARDOWN",
    ]);
    await setting.network.advance(1000);
    const setup = await ask(dialogue, `SETUP ${R}/track1 RTSP/2.0\r\nCSeq: 2\r\n${UDP2}Accept-Ranges: npt\r\n`);
    expect(shape(setup)).toBe("RTSP/2.0 200 OK");
    expect(header(setup, "Transport")).toMatch(
      /^RTP\/AVP;unicast;dest_addr="client:5000"\/"client:5001";src_addr="server:\d+"\/"server:\d+";ssrc=11223344;mode="PLAY"$/,
    );
    expect(header(setup, "Accept-Ranges")).toBe("npt");
    expect(header(setup, "Media-Properties")).toBe("No-Seeking, Time-Progressing, Time-Duration=0.0");
    expect(header(setup, "Media-Range")).toMatch(/^npt=1\.\d\d-1\.\d\d$/);
    const session = header(setup, "Session")?.split(";")[0];
    const play = await ask(dialogue, `PLAY ${R} RTSP/2.0\r\nCSeq: 3\r\nSession: ${session}\r\nRange: npt=now-\r\n`);
    expect(shape(play)).toBe("RTSP/2.0 200 OK");
    expect(header(play, "Range")).toMatch(/^npt=1\.\d\d-$/);
    expect(header(play, "RTP-Info")).toMatch(/^url="rtsp:\/\/server\/s\/track1" ssrc=11223344:seq=\d+$/);
    const end = await ask(dialogue, `TEARDOWN ${R} RTSP/2.0\r\nCSeq: 4\r\nSession: ${session}\r\n`);
    expect(shape(end)).toBe("RTSP/2.0 200 OK");
  });

  it("pipelines requests before the session has a name", async () => {
    const setting = createSetting({ tracks: [PCMU, H264] });
    const dialogue = await talk(setting);
    const responses = await dialogue.say(
      [
        `SETUP ${R}/track1 RTSP/2.0\r\nCSeq: 1\r\nPipelined-Requests: 7654\r\n${TCP2}\r\n`,
        `SETUP ${R}/track2 RTSP/2.0\r\nCSeq: 2\r\nPipelined-Requests: 7654\r\nTransport: RTP/AVP/TCP;unicast;interleaved=2-3\r\n\r\n`,
        `PLAY ${R} RTSP/2.0\r\nCSeq: 3\r\nPipelined-Requests: 7654\r\n\r\n`,
        `SETUP ${R}/track1 RTSP/2.0\r\nCSeq: 4\r\nPipelined-Requests: other\r\nTransport: RTP/AVP/TCP;unicast;interleaved=4-5\r\n\r\n`,
      ].join(""),
    );
    expect(responses.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    expect(responses.map((response) => header(response, "Pipelined-Requests"))).toEqual(["7654", "7654", "7654", "other"]);
    const names = responses.map((response) => header(response, "Session")?.split(";")[0]);
    expect(new Set(names.slice(0, 3)).size).toBe(1);
    expect(names[3]).not.toBe(names[0]);
    expect(setting.server.sessions.map(({ state, tracks }) => [state, tracks.length])).toEqual([
      ["playing", 2],
      ["ready", 1],
    ]);
    // The name goes with its session, is nobody else's, and is ignored beside a Session.
    const stranger = await talk(setting);
    expect((await ask(stranger, `PLAY ${R} RTSP/2.0\r\nCSeq: 1\r\nPipelined-Requests: 7654\r\n`)).status).toBe(454);
    expect((await ask(dialogue, `PLAY ${R} RTSP/2.0\r\nCSeq: 5\r\nSession: x\r\nPipelined-Requests: 7654\r\n`)).status).toBe(454);
    expect((await ask(dialogue, `TEARDOWN ${R} RTSP/2.0\r\nCSeq: 6\r\nPipelined-Requests: 7654\r\n`)).status).toBe(200);
    expect((await ask(dialogue, `PLAY ${R} RTSP/2.0\r\nCSeq: 7\r\nPipelined-Requests: 7654\r\n`)).status).toBe(454);
  });

  it.each<[name: string, text: string, answer: string]>([
    ["no CSeq", `OPTIONS ${R} RTSP/2.0\r\n`, "400 Bad Request"],
    [
      "a feature that is not there",
      `OPTIONS ${R} RTSP/2.0\r\nCSeq: 9\r\nRequire: play.basic, play.scale\r\n`,
      "551 Option not supported",
    ],
    ["ANNOUNCE, which is of RTSP 1.0", `ANNOUNCE ${R} RTSP/2.0\r\nCSeq: 9\r\n`, "501 Not Implemented"],
    ["RECORD, which is of RTSP 1.0", `RECORD ${R} RTSP/2.0\r\nCSeq: 9\r\n`, "501 Not Implemented"],
    [
      "media for somebody else",
      `SETUP ${R}/track1 RTSP/2.0\r\nCSeq: 9\r\nTransport: RTP/AVP;unicast;dest_addr="victim:5000"/"victim:5001"\r\n`,
      "463 Destination Prohibited",
    ],
    [
      "RTCP on the port of RTP",
      `SETUP ${R}/track1 RTSP/2.0\r\nCSeq: 9\r\nTransport: RTP/AVP;unicast;dest_addr=":5000";RTCP-mux\r\n`,
      "461 Unsupported transport",
    ],
    [
      "a TCP connection for media alone",
      `SETUP ${R}/track1 RTSP/2.0\r\nCSeq: 9\r\nTransport: RTP/AVP/TCP;unicast;dest_addr=":9"/":9";setup=active;connection=new\r\n`,
      "461 Unsupported transport",
    ],
    ["a Transport that is none", `SETUP ${R}/track1 RTSP/2.0\r\nCSeq: 9\r\nTransport: x\r\n`, "461 Unsupported transport"],
    ["no Transport", `SETUP ${R}/track1 RTSP/2.0\r\nCSeq: 9\r\n`, "400 Bad Request"],
    ["PLAY without a session", `PLAY ${R} RTSP/2.0\r\nCSeq: 9\r\n`, "454 Session Not Found"],
  ])("refuses %s", async (_name, text, answer) => {
    const response = await ask(await talk(createSetting()), text);
    expect(shape(response)).toBe(`RTSP/2.0 ${answer}`);
    if (answer.startsWith("551")) expect(header(response, "Unsupported")).toBe("play.scale");
  });

  it("wants CSeq to rise, and live media from now on", async () => {
    const dialogue = await talk(createSetting());
    expect((await ask(dialogue, `OPTIONS ${R} RTSP/2.0\r\nCSeq: 7\r\n`)).status).toBe(200);
    expect((await ask(dialogue, `OPTIONS ${R} RTSP/2.0\r\nCSeq: 7\r\n`)).status).toBe(400);
    expect((await ask(dialogue, `OPTIONS ${R} RTSP/2.0\r\nCSeq: 6\r\n`)).status).toBe(400);
    await ask(dialogue, `SETUP ${R}/track1 RTSP/2.0\r\nCSeq: 8\r\nPipelined-Requests: 1\r\n${TCP2}`);
    expect((await ask(dialogue, `PLAY ${R} RTSP/2.0\r\nCSeq: 9\r\nPipelined-Requests: 1\r\nRange: npt=5-\r\n`)).status).toBe(457);
    expect((await ask(dialogue, `PLAY ${R} RTSP/2.0\r\nCSeq: 10\r\nPipelined-Requests: 1\r\n`)).status).toBe(200);
  });

  it("says no zone of a link-local address, which means nothing elsewhere (RFC 4007 §11)", async () => {
    const setting = createSetting();
    const player = await setting.client({ host: "fe80::2%eth0", version: "2.0" });
    const said: string[] = [];
    setting.network.onTraffic = ({ kind, octets }) => {
      if (kind === "stream") said.push(utf8Text(octets) ?? "");
    };
    await setting.run(player.describe());
    await setting.run(player.setup(0, "udp"));
    await setting.run(player.play());
    setting.source.rtp(0, utf8("local"));
    await setting.network.advance(10);
    expect(payloads(player.received)).toEqual(["local"]);
    expect(said.join("")).toMatch(/dest_addr="\[fe80::2\]:\d+"\/"\[fe80::2\]:\d+"/);
    const dialogue = await talk(setting, "fe80::3%eth0");
    const own = 'Transport: RTP/AVP;unicast;dest_addr="[fe80::3]:5000"/"[fe80::3]:5001"\r\n';
    expect(await ask(dialogue, `SETUP ${R}/track1 RTSP/2.0\r\nCSeq: 1\r\n${own}`)).toMatchObject({ status: 200 });
    const other = 'Transport: RTP/AVP;unicast;dest_addr="[fe80::4]:5000"/"[fe80::4]:5001"\r\n';
    expect(await ask(dialogue, `SETUP ${R}/track1 RTSP/2.0\r\nCSeq: 2\r\n${other}`)).toMatchObject({ status: 463 });
  });

  it("tells who plays that the stream has ended", async () => {
    const setting = createSetting();
    const dialogue = await talk(setting);
    await ask(dialogue, `SETUP ${R}/track1 RTSP/2.0\r\nCSeq: 1\r\nPipelined-Requests: 1\r\n${TCP2}`);
    await ask(dialogue, `PLAY ${R} RTSP/2.0\r\nCSeq: 2\r\nPipelined-Requests: 1\r\n`);
    const old = await talk(setting);
    await ask(old, `SETUP ${R}/track1 RTSP/1.0\r\nCSeq: 1\r\n${TCP2}`);
    setting.server.close();
    await setting.network.advance(20);
    const told = [dialogue, old].map(({ items }) => items.filter((item) => item.kind === "request"));
    expect(told).toMatchObject([[{ method: "PLAY_NOTIFY", uri: R, version: "RTSP/2.0" }], []]);
    expect(told[0]?.map((request) => header(request, "Notify-Reason"))).toEqual(["end-of-stream"]);
  });
});

function keyed(network: SimulatedNetwork): SettingOptions & { presentation: { keying: ServerKeying } } {
  const directory = createPskDirectory([["viewer", PSK]]);
  const media = createMediaKeying({
    clock: network.clock,
    timers: network.timers,
    crypto: nobleCrypto,
    dialect: peerProfile("strict"),
    requirePsk: true,
    identity: identityOf("server"),
    findCredential: (id) => {
      const psk = directory.find(nameOfIdentity(id) ?? "");
      return psk === undefined ? undefined : { psk };
    },
  });
  const keying = createMikeyServerKeying({ keying: media, policy: { suite: "AES_CM_128_HMAC_SHA1_80" }, directory });
  return { presentation: { profile: "RTP/SAVP", keying } } as SettingOptions & { presentation: { keying: ServerKeying } };
}

function viewer(network: SimulatedNetwork, psk = PSK): ClientKeying {
  const media = createMediaKeying({
    clock: network.clock,
    timers: network.timers,
    crypto: nobleCrypto,
    dialect: peerProfile("strict"),
    requirePsk: true,
    identity: identityOf("viewer"),
    findCredential: () => ({ psk }),
  });
  return createMikeyClientKeying({
    keying: media,
    scope: "test",
    initiate: { credential: { psk }, policy: { suite: "AES_CM_128_HMAC_SHA1_80" } },
  });
}

describe("keys in RTSP 2.0", () => {
  it.each<[version: "2.0" | "auto", transport: ClientTransport]>([
    ["2.0", "udp"],
    ["2.0", "tcp"],
    ["auto", "udp"],
    ["auto", "tcp"],
  ])("come from the client in SETUP (%s, %s), change while playing, and prove the end", async (version, transport) => {
    const setting = createSetting(keyed);
    const { client, run, network, source, server, events } = setting;
    const player = await client({ version, keying: viewer(network) });
    const { sdp } = await run(player.describe());
    expect(sdp).toContain("m=audio 0 RTP/SAVP 0");
    expect(sdp).not.toContain("key-mgmt");
    await run(player.setup(0, transport));
    await run(player.play());
    source.rtp(0, utf8("one"));
    await network.advance(10);
    expect(await run(player.rekey())).toBe(1);
    source.rtp(0, utf8("two"));
    await network.advance(10);
    expect(payloads(player.received)).toEqual(["one", "two"]);
    expect(player.statistics).toMatchObject([{ keyedBy: "psk", authenticationFailures: 0 }]);
    expect(server.sessions[0]?.tracks[0]?.fingerprint).toBe(player.statistics[0]?.fingerprint);
    expect(await run(player.teardown())).toBe("verified");
    expect(events.at(-1)).toMatchObject({ type: "ended", proof: "verified" });
  });

  it("are wanted: without them 403, with wrong ones 466", async () => {
    const setting = createSetting(keyed);
    const dialogue = await talk(setting);
    const setup = (transport: string): string =>
      `SETUP ${R}/track1 RTSP/2.0\r\nCSeq: ${++sequence}\r\nTransport: RTP/SAVP/TCP;unicast;interleaved=0-1${transport}\r\n`;
    let sequence = 0;
    expect(shape(await ask(dialogue, setup("")))).toBe("RTSP/2.0 403 Forbidden");
    expect(shape(await ask(dialogue, setup(";MIKEY=!!")))).toBe("RTSP/2.0 466 Key Management Error");
    expect(shape(await ask(dialogue, setup(`;MIKEY=${formatBase64(utf8("not a MIKEY message"))}`)))).toBe(
      "RTSP/2.0 466 Key Management Error",
    );
    // Keys in the header of RFC 4567 are not for RTSP 2.0.
    expect(shape(await ask(dialogue, `${setup("")}KeyMgmt: prot=mikey;uri="";data="AAAA"\r\n`))).toBe("RTSP/2.0 403 Forbidden");
    expect(setting.server.sessions).toEqual([]);
    const stranger = await setting.client({
      version: "2.0",
      keying: viewer(setting.network, utf8("another key of 32 octets........")),
    });
    await setting.run(stranger.describe());
    await expect(setting.run(stranger.setup(0, "tcp"))).rejects.toMatchObject({ code: "rtsp.status-466" });
  });

  it("fall back to RTSP 1.0 where the server knows no other", async () => {
    const setting = createSetting(keyed);
    const { network, run, source } = setting;
    // A server of RTSP 1.0 alone: what it is told in another version it refuses.
    setting.network.host("old").listen(554, (stream) => {
      const inner: Stream = {
        channel: stream.channel,
        buffered: 0,
        onData: undefined,
        onClose: undefined,
        onDrain: undefined,
        write: (octets) => stream.write(octets),
        end: () => stream.end(),
        destroy: () => stream.destroy(),
      };
      stream.onClose = () => inner.onClose?.();
      stream.onData = (octets) => {
        if (utf8Text(octets)?.includes("RTSP/2.0") !== true) inner.onData?.(octets);
        else stream.write(utf8("RTSP/1.0 505 RTSP Version not supported\r\nCSeq: 1\r\n\r\n"));
      };
      setting.server.accept(inner);
    });
    const stream = await run(network.host("client").streams.connect({ host: "old", port: 554 }));
    const player = await setting.client({ version: "auto", keying: viewer(network), from: "viewer", stream });
    expect((await run(player.describe())).sdp).toContain("key-mgmt");
    await run(player.setup(0, "tcp"));
    await run(player.play());
    source.rtp(0, utf8("old"));
    await network.advance(10);
    expect(payloads(player.received)).toEqual(["old"]);
    await run(player.teardown());
  });

  it("end with the stream, when the server says so", async () => {
    const setting = createSetting(keyed);
    const player = await setting.client({ version: "2.0", keying: viewer(setting.network) });
    await setting.run(player.describe());
    await setting.run(player.setup(0, "tcp"));
    await setting.run(player.play());
    setting.server.close();
    await setting.network.advance(100);
    expect(player.received.ends).toEqual(["rtsp.end-of-stream"]);
  });
});

describe("headers of RTSP 2.0", () => {
  it.each<[text: string, spec: object]>([
    ['RTP/AVP;unicast;dest_addr=":8000"/":8001"', { clientPort: [8000, 8001], addressed: true }],
    [
      'RTP/SAVP;unicast;dest_addr="192.0.2.53:8000"/"192.0.2.53:8001";src_addr="198.51.100.5:9000"/"198.51.100.5:9001";ssrc=93CB001E;MIKEY=TUlL/+8=',
      {
        destination: "192.0.2.53",
        clientPort: [8000, 8001],
        source: "198.51.100.5",
        serverPort: [9000, 9001],
        ssrc: 0x93cb001e,
        mikey: "TUlL/+8=",
        addressed: true,
      },
    ],
    ['RTP/AVP;unicast;dest_addr="[2001:db8::1]:6"/"[2001:db8::1]:7"', { destination: "2001:db8::1", clientPort: [6, 7] }],
  ])("%s reads and writes", (text, spec) => {
    const specs = parseTransport(text);
    expect(specs).toMatchObject([spec]);
    expect(formatTransport(specs)).toBe(text);
  });

  it.each(['dest_addr=":1"/":2"/":3"', 'dest_addr="a:1"/"b:2"', "dest_addr=:1", 'dest_addr=":70000"', 'src_addr="a b:1"'])(
    "%s is refused",
    (parameter) => {
      expect(() => parseTransport(`RTP/AVP;unicast;${parameter}`)).toThrow(expect.objectContaining({ code: "rtsp.transport" }));
    },
  );

  it("RTP-Info names the SSRC", () => {
    const entries = [
      { url: "rtsp://h/a,b", ssrc: 0xd12f123, seq: 5, rtptime: 7 },
      { url: "rtsp://h/c", ssrc: 1 },
    ];
    const text = 'url="rtsp://h/a,b" ssrc=0D12F123:seq=5;rtptime=7,url="rtsp://h/c" ssrc=00000001';
    expect(formatRtpInfo(entries)).toBe(text);
    expect(parseRtpInfo(text)).toEqual(entries);
  });
});
