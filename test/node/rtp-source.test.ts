import { afterEach, describe, expect, it } from "vitest";
import type { Datagrams, Endpoint } from "../../src/io/index.js";
import { createDatagramsFactory, createRtpForwarder, createRtpSource } from "../../src/node/index.js";
import type { MediaSource } from "../../src/rtsp/index.js";

const factory = createDatagramsFactory();
const sources: MediaSource[] = [];
const sockets: Datagrams[] = [];

afterEach(() => {
  for (const source of sources.splice(0)) source.stop();
  for (const socket of sockets.splice(0)) socket.close();
});

/** Ports that were free a moment ago. */
async function freePair(): Promise<number> {
  const [rtp, rtcp] = await factory.bindPair("127.0.0.1");
  rtp.close();
  rtcp.close();
  return rtp.local.port;
}

function makeSource(sdp: string): MediaSource {
  const source = createRtpSource({ sdp });
  sources.push(source);
  return source;
}

function section(port: number, ...lines: readonly string[]): string {
  return [
    "v=0",
    "o=- 0 0 IN IP4 127.0.0.1",
    "s=test",
    "c=IN IP4 127.0.0.1",
    "t=0 0",
    `m=video ${port} RTP/AVP 96`,
    ...lines,
    "",
  ].join("\r\n");
}

const H264 = ["a=rtpmap:96 H264/90000", "a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0IAKeKQ,aM48gA=="];

function rtpPacket(payloadType: number, ssrc: number, ...payload: readonly number[]): Uint8Array {
  const packet = Uint8Array.of(0x80, payloadType, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, ...payload);
  new DataView(packet.buffer).setUint32(8, ssrc);
  return packet;
}

const REPORT = Uint8Array.of(0x80, 201, 0, 1, 0, 0, 0, 9);

/** Resolves with the first `count` things that the source delivers. */
function collect(source: MediaSource, count: number): Promise<(readonly ["rtp" | "rtcp", number, Uint8Array])[]> {
  return new Promise((resolve) => {
    const got: (readonly ["rtp" | "rtcp", number, Uint8Array])[] = [];
    const push = (kind: "rtp" | "rtcp") => (track: number, packet: Uint8Array) => {
      got.push([kind, track, packet]);
      if (got.length === count) resolve(got);
    };
    source.onRtp = push("rtp");
    source.onRtcp = push("rtcp");
  });
}

async function sender(): Promise<(packet: Uint8Array, port: number) => void> {
  const socket = await factory.bind({ host: "127.0.0.1", port: 0 });
  sockets.push(socket);
  return (packet, port) => socket.send(packet, { host: "127.0.0.1", port });
}

describe("createRtpSource", () => {
  it("reads tracks from a description as ffmpeg writes it", () => {
    const sdp = [
      "SDP:",
      "v=0",
      "o=- 0 0 IN IP4 127.0.0.1",
      "s=No Name",
      "c=IN IP4 127.0.0.1",
      "t=0 0",
      "a=tool:libavformat 59.27.100",
      "m=video 5004 RTP/AVP 96",
      "b=AS:200",
      "a=rtpmap:96 H264/90000",
      "a=fmtp:96 packetization-mode=1",
      "m=audio 5006 RTP/AVP 97",
      "b=AS:96",
      "a=rtpmap:97 opus/48000/2",
      "m=audio 5008 RTP/AVP 0",
      "",
    ];
    expect(makeSource(sdp.slice(1).join("\n")).tracks).toEqual([
      { media: "video", payloadType: 96, rtpmap: "H264/90000", clockRate: 90_000, fmtp: "packetization-mode=1" },
      { media: "audio", payloadType: 97, rtpmap: "opus/48000/2", clockRate: 48_000 },
      { media: "audio", payloadType: 0, rtpmap: "PCMU/8000", clockRate: 8000 },
    ]);
  });

  it("delivers RTP and RTCP of each track and learns the SSRC", async () => {
    const [video, audio] = [await freePair(), await freePair()];
    const source = makeSource(`${section(video, ...H264)}m=audio ${audio} RTP/AVP 0\r\n`);
    await source.start();
    const got = collect(source, 4);
    const send = await sender();
    send(rtpPacket(96, 0xfeed_beef, 1, 2, 3), video);
    send(REPORT, video + 1);
    send(rtpPacket(0x80, 5), audio);
    send(REPORT, audio);
    const delivered = await got;
    const sorted = [...delivered].sort((a, b) => a[1] - b[1] || b[0].localeCompare(a[0]));
    expect(sorted).toEqual([
      ["rtp", 0, rtpPacket(96, 0xfeed_beef, 1, 2, 3)],
      ["rtcp", 0, REPORT],
      ["rtp", 1, rtpPacket(0x80, 5)],
      ["rtcp", 1, REPORT],
    ]);
    expect(source.tracks.map((track) => track.ssrc)).toEqual([0xfeed_beef, 5]);
  });

  it("drops what is no packet of the stream", async () => {
    const port = await freePair();
    const source = makeSource(section(port, ...H264));
    await source.start();
    const got = collect(source, 1);
    const send = await sender();
    for (const junk of [[], [0x80], [0x40, 96], [0x80, 96, 0, 0], [0x80, 201], new Array(200).fill(0)])
      send(Uint8Array.from(junk), port);
    send(rtpPacket(97, 1), port);
    send(rtpPacket(96, 2), port);
    expect(await got).toEqual([["rtp", 0, rtpPacket(96, 2)]]);
  });

  it.each([
    ["a=rtcp-mux", 0],
    ["a=rtcp:%d IN IP4 127.0.0.1", 5],
  ])("honours %s", async (line, ahead) => {
    const port = await freePair();
    const source = makeSource(section(port, ...H264, line.replace("%d", String(port + ahead))));
    await source.start();
    const got = collect(source, 1);
    (await sender())(REPORT, port + ahead);
    expect(await got).toEqual([["rtcp", 0, REPORT]]);
  });

  it.each([
    ["an empty text", ""],
    ["no m= line", "v=0\r\ns=x\r\n"],
    ["SRTP", section(5004, ...H264).replace("RTP/AVP", "RTP/SAVP")],
    ["an application", section(5004, ...H264).replace("m=video", "m=application")],
    ["port 0", section(0, ...H264)],
    ["port 65535", section(65_535, ...H264)],
    ["port 99999", section(99_999, ...H264)],
    ["no rtpmap for a dynamic type", section(5004)],
    ["payload type 200", section(5004).replace("AVP 96", "AVP 200")],
    ["a clock rate of 0", section(5004, "a=rtpmap:96 H264/0")],
    ["a broken a=rtcp", section(5004, ...H264, "a=rtcp:soon")],
    ["a multicast group", section(5004, ...H264).replace("c=IN IP4 127.0.0.1", "c=IN IP4 239.1.2.3/16")],
    ["an IPv6 multicast group", section(5004, ...H264).replace("c=IN IP4 127.0.0.1", "c=IN IP6 ff15::1")],
    ["streams that share a port", `${section(5004, ...H264)}m=audio 5005 RTP/AVP 0\r\n`],
    ["a long text", `${section(5004, ...H264)}${"a=x\r\n".repeat(50_000)}`],
  ])("refuses %s", (_name, sdp) => {
    expect(() => createRtpSource({ sdp })).toThrow(expect.objectContaining({ code: "node.source-sdp" }));
  });

  it("lets all ports go when one of them is taken, and when stopped", async () => {
    const [first, second] = [await freePair(), await freePair()];
    const sdp = `${section(first, ...H264)}m=audio ${second} RTP/AVP 0\r\n`;
    const taken = await factory.bind({ host: "127.0.0.1", port: second });
    const source = makeSource(sdp);
    await expect(source.start()).rejects.toMatchObject({ code: "node.address-in-use" });
    taken.close();
    await source.start();
    source.stop();
    await makeSource(sdp).start();
  });

  it("leaves nothing behind when stopped while it starts", async () => {
    const port = await freePair();
    const source = makeSource(section(port, ...H264));
    const started = source.start();
    source.stop();
    await started;
    sockets.push(await factory.bind({ host: "127.0.0.1", port }));
    sockets.push(await factory.bind({ host: "127.0.0.1", port: port + 1 }));
  });
});

describe("createRtpForwarder", () => {
  const AUDIO = { media: "audio", payloadType: 0, rtpmap: "PCMU/8000", clockRate: 8000 } as const;
  const VIDEO = { media: "video", payloadType: 96, rtpmap: "H264/90000", clockRate: 90_000, fmtp: "packetization-mode=1" } as const;

  it("sends each track to its own pair of ports, and the description leads a source there", async () => {
    let target: Endpoint = { host: "127.0.0.1", port: 0 };
    do target = { host: "127.0.0.1", port: await freePair() };
    while (target.port > 65_530);
    const forwarder = await createRtpForwarder({ target, tracks: [AUDIO, VIDEO], name: "door\r\na=x" });
    const source = makeSource(forwarder.sdp);
    expect(source.tracks).toEqual([AUDIO, VIDEO]);
    expect(forwarder.sdp).toContain("s=door  a=x\r\n");
    await source.start();
    const got = collect(source, 4);
    const memory = rtpPacket(0, 1, 42);
    forwarder.rtp(0, memory);
    memory.fill(0);
    forwarder.rtcp(0, REPORT);
    forwarder.rtp(1, rtpPacket(96, 2));
    forwarder.rtcp(1, REPORT);
    const delivered = (await got).map(([kind, track, packet]) => `${kind} ${track} ${packet.length}`);
    expect(delivered.sort()).toEqual(["rtcp 0 8", "rtcp 1 8", "rtp 0 13", "rtp 1 12"]);
    await forwarder.close();
    forwarder.rtp(0, REPORT);
  });

  it("describes IPv6 and resolves names", async () => {
    const six = await createRtpForwarder({ target: { host: "::1", port: 5004 }, tracks: [AUDIO] });
    expect(six.sdp).toContain("c=IN IP6 ::1\r\n");
    await six.close();
    const named = await createRtpForwarder({ target: { host: "localhost", port: 5004 }, tracks: [AUDIO] });
    expect(named.sdp).toMatch(/c=IN IP[46] (127\.0\.0\.1|::1)\r\n/);
    await named.close();
  });

  it.each([0, 65_534, -2, 1.5])("refuses port %d for two tracks", async (port) => {
    const made = createRtpForwarder({ target: { host: "127.0.0.1", port }, tracks: [AUDIO, VIDEO] });
    await expect(made).rejects.toMatchObject({ code: "node.sink-port" });
  });

  it("says that a name does not resolve", async () => {
    const made = createRtpForwarder({ target: { host: "no-such-host.invalid", port: 5004 }, tracks: [AUDIO] });
    await expect(made).rejects.toMatchObject({ code: "node.name-not-found" });
  });
});
