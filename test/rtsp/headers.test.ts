import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError } from "../../src/bytes/index.js";
import {
  formatRange,
  formatRtpInfo,
  formatSession,
  formatTransport,
  parseRange,
  parseRtpInfo,
  parseRtspUri,
  parseSession,
  parseTokenList,
  parseTransport,
  resolveControl,
  type TransportSpec,
} from "../../src/rtsp/index.js";

const udp = { profile: "RTP/AVP", lower: "UDP", delivery: "unicast" } as const;

describe("Transport", () => {
  it.each<[text: string, specs: readonly object[]]>([
    ["RTP/AVP;unicast;client_port=3456-3457", [{ ...udp, clientPort: [3456, 3457] }]],
    ["RTP/AVP;unicast;client_port=3456", [{ ...udp, clientPort: [3456, 3457] }]],
    ["RTP/SAVP/TCP;unicast;interleaved=0-1", [{ profile: "RTP/SAVP", lower: "TCP", delivery: "unicast", interleaved: [0, 1] }]],
    ["RTP/SAVPF/UDP; unicast ;client_port=2-3", [{ ...udp, profile: "RTP/SAVPF", clientPort: [2, 3] }]],
    ["rtp/avp/tcp;interleaved=4-5", [{ ...udp, lower: "TCP", interleaved: [4, 5] }]],
    ["RTP/AVP;client_port=4-5", [{ ...udp, clientPort: [4, 5] }]],
    ["RTP/AVP", [{ ...udp, delivery: "multicast" }]],
    [
      'RTP/AVP;multicast;ttl=127;mode="PLAY", RTP/AVP;unicast;client_port=3456-3457;mode="PLAY,RECORD"',
      [
        { ...udp, delivery: "multicast", ttl: 127, mode: "PLAY" },
        { ...udp, clientPort: [3456, 3457], mode: "PLAY,RECORD" },
      ],
    ],
    [
      "RTP/SAVP;unicast;client_port=1-2;server_port=3-4;ssrc=5389079B;source=192.0.2.1;destination=[2001:db8::1];mode=play",
      [
        {
          ...udp,
          profile: "RTP/SAVP",
          clientPort: [1, 2],
          serverPort: [3, 4],
          ssrc: 0x5389079b,
          source: "192.0.2.1",
          destination: "[2001:db8::1]",
          mode: "PLAY",
        },
      ],
    ],
    [
      "RTP/AVP;multicast;destination=239.1.2.3;port=5004-5005;ttl=16;layers=2;append",
      [{ ttl: 16, layers: 2, port: [5004, 5005], append: true, destination: "239.1.2.3" }],
    ],
    ["RTP/AVP;unicast;client_port=1-2;x-custom=7;flag", [{ other: ["x-custom=7", "flag"] }]],
    ["RTP/AVP;unicast;ssrc=ABC;destination;", [{ ...udp, ssrc: 0xabc }]],
  ])("reads %s", (text, specs) => {
    expect(parseTransport(text)).toMatchObject(specs);
  });

  it.each([
    [""],
    ["RTP"],
    ["RAW/RAW/UDP;unicast"],
    ["RTP/AVP;client_port=x"],
    ["RTP/AVP;client_port=65536-65537"],
    ["RTP/AVP;client_port="],
    ["RTP/AVP/TCP;interleaved=256-257"],
    ["RTP/AVP;ssrc=123456789"],
    ["RTP/AVP;ssrc=x"],
    ["RTP/AVP;ttl=256"],
    ["RTP/AVP;destination=a b"],
    ["RTP/AVP,"],
    ["RTP/AVP,".repeat(40)],
    ["x".repeat(20_000)],
  ])("refuses %.40j", (text) => {
    expect(() => parseTransport(text)).toThrow(expect.objectContaining({ code: "rtsp.transport" }));
  });

  it("writes what peers read", () => {
    expect(
      formatTransport([{ ...udp, profile: "RTP/SAVP", clientPort: [1, 2], serverPort: [3, 4], ssrc: 0xb7250df, mode: "PLAY" }]),
    ).toBe('RTP/SAVP;unicast;client_port=1-2;server_port=3-4;ssrc=0B7250DF;mode="PLAY"');
    expect(formatTransport([{ profile: "RTP/SAVP", lower: "TCP", delivery: "unicast", interleaved: [0, 1] }, udp])).toBe(
      "RTP/SAVP/TCP;unicast;interleaved=0-1,RTP/AVP;unicast",
    );
  });

  it.each<[readonly TransportSpec[]]>([
    [[]],
    [[{ ...udp, profile: "RTP/A;B" }]],
    [[{ ...udp, destination: "a;b" }]],
    [[{ ...udp, clientPort: [1, 70_000] }]],
    [[{ ...udp, ssrc: -1 }]],
    [[{ ...udp, other: ["a,b"] }]],
    [[{ ...udp, mode: '"' }]],
  ])("does not write %j", (specs) => {
    expect(() => formatTransport(specs)).toThrow(CodecError);
  });

  it("reads what it writes", () => {
    const port = fc.tuple(fc.integer({ min: 0, max: 65_535 }), fc.integer({ min: 0, max: 65_535 }));
    const spec = fc.record(
      {
        profile: fc.constantFrom("RTP/AVP", "RTP/SAVP", "RTP/SAVPF"),
        lower: fc.constantFrom("UDP" as const, "TCP" as const),
        delivery: fc.constantFrom("unicast" as const, "multicast" as const),
        destination: fc.ipV4(),
        source: fc.ipV4(),
        ttl: fc.integer({ min: 0, max: 255 }),
        port,
        clientPort: port,
        serverPort: port,
        interleaved: fc.tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 0, max: 255 })),
        ssrc: fc.integer({ min: 0, max: 0xffffffff }),
        mode: fc.constantFrom("PLAY", "RECORD", "PLAY,RECORD"),
        append: fc.constant(true),
        other: fc.constant(["x=1"]),
      },
      { requiredKeys: ["profile", "lower", "delivery"] },
    );
    fc.assert(
      fc.property(fc.array(spec, { minLength: 1, maxLength: 4 }), (specs) => {
        expect(parseTransport(formatTransport(specs as TransportSpec[]))).toEqual(specs);
      }),
    );
  });
});

describe("Session", () => {
  it.each([
    ["4jmmoaOHhBhB0P_8", { id: "4jmmoaOHhBhB0P_8" }],
    [" 12345678 ; timeout = 60", { id: "12345678", timeout: 60 }],
    ["1;x=2;timeout=5", { id: "1", timeout: 5 }],
    ["1;timeout=0", { id: "1" }],
    ["1;timeout=x", { id: "1" }],
  ])("reads %s", (text, session) => expect(parseSession(text)).toEqual(session));

  it.each([[""], [";timeout=5"], ["a b"], ["x".repeat(600)]])("refuses %.20j", (text) => {
    expect(() => parseSession(text)).toThrow(CodecError);
  });

  it("writes", () => {
    expect(formatSession({ id: "a", timeout: 60 })).toBe("a;timeout=60");
    expect(formatSession({ id: "a" })).toBe("a");
  });
});

describe("Range", () => {
  it.each([
    ["npt=now-", { unit: "npt", start: "now" }],
    ["npt=0.000-", { unit: "npt", start: "0.000" }],
    ["npt=0-12:30:01.5", { unit: "npt", start: "0", end: "12:30:01.5" }],
    ["npt=-7", { unit: "npt", end: "7" }],
    ["clock=19961108T142300Z-19961108T143520.25Z", { unit: "clock", start: "19961108T142300Z", end: "19961108T143520.25Z" }],
    ["smpte-25=10:07:00-10:07:33:05.01", { unit: "smpte", start: "10:07:00", end: "10:07:33:05.01" }],
    ["npt=1-2;time=19970123T143720Z", { unit: "npt", start: "1", end: "2" }],
  ])("reads %s", (text, range) => expect(parseRange(text)).toEqual(range));

  it.each([[""], ["npt="], ["npt=-"], ["npt=x-"], ["bytes=0-1"], ["npt=1"], ["clock=now-"], ["npt=1-2-3"]])(
    "refuses %j",
    (text) => {
      expect(() => parseRange(text)).toThrow(expect.objectContaining({ code: "rtsp.range" }));
    },
  );

  it("writes", () => expect(formatRange({ unit: "npt", start: "now" })).toBe("npt=now-"));
});

describe("RTP-Info", () => {
  it("reads what servers send and writes it again", () => {
    const text = "url=rtsp://h/s/stream=0;seq=15046;rtptime=1216901532,url=rtsp://h/s/a,b;seq=1";
    const entries = [
      { url: "rtsp://h/s/stream=0", seq: 15_046, rtptime: 1_216_901_532 },
      { url: "rtsp://h/s/a,b", seq: 1 },
    ];
    expect(parseRtpInfo(text)).toEqual(entries);
    expect(parseRtpInfo(text.replaceAll(",url", ", url"))).toEqual(entries);
    expect(formatRtpInfo(entries)).toBe(text);
  });

  it("passes over what makes no sense", () => {
    expect(parseRtpInfo("seq=1, url=a;seq=70000;rtptime=x;;=")).toEqual([{ url: "a" }]);
    expect(parseRtpInfo("")).toEqual([]);
  });
});

describe("lists", () => {
  it("are split at commas", () => expect(parseTokenList("OPTIONS, DESCRIBE,,PLAY ")).toEqual(["OPTIONS", "DESCRIBE", "PLAY"]));
});

describe("URIs", () => {
  it.each([
    ["rtsp://h/s", { secure: false, host: "h", port: 554, path: "/s", query: "", text: "rtsp://h/s" }],
    [
      "RTSPS://h:8322/a/b?c=d#e",
      { secure: true, host: "h", port: 8322, path: "/a/b", query: "?c=d", text: "rtsps://h:8322/a/b?c=d" },
    ],
    ["rtsps://h", { secure: true, port: 322, path: "/", text: "rtsps://h" }],
    ["rtsp://[2001:db8::1]:99/s", { host: "2001:db8::1", port: 99, text: "rtsp://[2001:db8::1]:99/s" }],
    ["rtsp://us%40er:p%3Aw@h/s", { user: "us@er", password: "p:w", text: "rtsp://h/s" }],
    ["rtsp://%zz@h/s", { user: "%zz" }],
    ['rtsp://user:p"w@h/s', { password: 'p"w', text: "rtsp://h/s" }],
  ])("reads %s", (text, uri) => expect(parseRtspUri(text)).toMatchObject(uri));

  it.each([
    [""],
    ["http://h/"],
    ["rtsp:///s"],
    ["rtsp://h:70000/"],
    ["rtsp://h/a b"],
    ["rtsp://a@b@h/"],
    // Neither is a character of a URI (RFC 3986 §2), and both would end or change the quoted strings that URIs stand in.
    ['rtsp://h/a"b'],
    ["rtsp://h/a\\b"],
    ['rtsp://h/s?"'],
    [`rtsp://h/${"x".repeat(5000)}`],
  ])("refuses %.30j", (text) => {
    expect(() => parseRtspUri(text)).toThrow(expect.objectContaining({ code: "rtsp.uri" }));
  });

  it.each([
    ["rtsp://h/s/", "track1", "rtsp://h/s/track1"],
    ["rtsp://h/s", "stream=0", "rtsp://h/s/stream=0"],
    ["rtsp://h/s", "*", "rtsp://h/s"],
    ["rtsp://h/s/", undefined, "rtsp://h/s/"],
    ["rtsp://h/s", "rtsp://x/t", "rtsp://x/t"],
  ])("resolves %s and %s", (base, control, resolved) => expect(resolveControl(base, control)).toBe(resolved));
});
