import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { formatHex, parseBase64, parseHex, utf8, utf8Text } from "../../src/bytes/index.js";
import type { Datagrams, Stream } from "../../src/io/index.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import { decodeKeyData, decodeMessage, decodeNtp, payloadOf } from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { type PeerProfileName, peerProfile } from "../../src/peers/index.js";
import { createRtspClient } from "../../src/rtsp/index.js";
import { createSrtpReceiver } from "../../src/srtp/index.js";
import { AES80, autoKeying, clientKeying, serverKeying } from "./keyed-support.js";
import { createSetting, type Setting } from "./support.js";

/** Captures of real peers and messages that others published stay outside of the package. */
const SHARED = new URL("../../../shared/", import.meta.url);

function shared(path: string): string | undefined {
  const file = fileURLToPath(new URL(path, SHARED));
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}

interface Capture {
  readonly rtsp_dialogue: readonly { readonly t: number; readonly dir: string; readonly text: string }[];
  readonly srtp_packets_hex: readonly string[];
  readonly plaintext_rtp_hex: readonly string[];
  readonly client_srtcp_hex?: readonly string[];
}

const capture = (name: string): Capture | undefined => {
  const text = shared(`golden/gst/${name}.json`);
  return text === undefined ? undefined : (JSON.parse(text) as Capture);
};

describe("rtspsrc's own octets, heard by our server", () => {
  const recorded = capture("fakeserver-to-rtspsrc-base");

  it.skipIf(recorded === undefined)("are a whole session, its reports authentic (needs ../shared/golden)", async () => {
    const { rtsp_dialogue: said, client_srtcp_hex: reports = [] } = recorded as Capture;
    const requests = said.filter(({ dir }) => dir === "C->S");
    const setting = createSetting(
      (network) => ({
        presentation: {
          profile: "RTP/SAVP",
          keying: serverKeying(network, peerProfile("gstreamer"), { allowNullKeying: true }),
        },
      }),
      { now: said[0]?.t ?? 0 },
    );
    const stream = await setting.dial();
    const answers: string[] = [];
    stream.onData = (octets) => answers.push(utf8Text(octets) ?? "");
    let session = "";
    let rtcp: Datagrams | undefined;
    for (const { text } of requests) {
      stream.write(utf8(text.replace(/^Session: .*$/m, `Session: ${session}`)));
      await setting.network.advance(20);
      const answer = answers.at(-1) ?? "";
      expect(answer, text.split("\r\n")[0]).toMatch(/^RTSP\/1\.0 200 OK\r\n/);
      session = /^Session: ([^;\r]+)/m.exec(answer)?.[1] ?? session;
      const port = /client_port=\d+-(\d+)/.exec(text)?.[1];
      if (port !== undefined) rtcp = await setting.network.host("client").datagrams.bind({ host: "client", port: Number(port) });
      if (!text.startsWith("PLAY ")) continue;
      const to = Number(/server_port=\d+-(\d+)/.exec(answers.join(""))?.[1]);
      for (const report of reports) rtcp?.send(parseHex(report), { host: "server", port: to });
      await setting.network.advance(20);
      expect(setting.server.sessions).toMatchObject([
        { state: "playing", tracks: [{ keyedBy: "null", reports: reports.length, authenticationFailures: 0 }] },
      ]);
    }
    expect(reports.length).toBeGreaterThan(0);
    expect(setting.events.at(-1)).toMatchObject({ type: "ended", reason: "teardown" });
  });
});

describe("gst-rtsp-server's own octets, heard by our client", () => {
  const CASES = [
    "gst-savp-udp",
    "gst-aes256",
    "gst-gcm128",
    "gst-rocwrap",
    "gst-teardown-keymgmt",
    "fakeclient-to-gstserver-base",
  ].flatMap((name) => (["gstreamer", "auto"] as const).map((profile) => [name, profile] as const));

  it.skipIf(capture("gst-savp-udp") === undefined).each(CASES)("%s plays as %s (needs ../shared/golden)", async (name, profile) => {
    const { rtsp_dialogue: said, srtp_packets_hex: packets, plaintext_rtp_hex: plain } = capture(name) as Capture;
    const responses = answersOf(said);
    const network = createSimulatedNetwork({ now: said[0]?.t ?? 0 });
    const host = network.host("server");
    const setups: { readonly ports: readonly number[]; readonly ssrc: number; readonly socket: Datagrams }[] = [];
    host.listen(554, (stream) => {
      stream.onData = (octets) => void answer(stream, utf8Text(octets) ?? "");
    });
    const answer = async (stream: Stream, request: string): Promise<void> => {
      const method = /^[A-Z_]+/.exec(request)?.[0] ?? "";
      const text = responses.get(method)?.shift() ?? "RTSP/1.0 501 Not Implemented\r\nCSeq: 0\r\n\r\n";
      if (method === "SETUP") {
        const [first = "0", second = "0"] = /server_port=(\d+)-(\d+)/.exec(text)?.slice(1) ?? [];
        const socket = await host.datagrams.bind({ host: "server", port: Number(first) });
        await host.datagrams.bind({ host: "server", port: Number(second) });
        const ports = (/client_port=(\d+)-(\d+)/.exec(request)?.slice(1) ?? []).map(Number);
        setups.push({ ports, ssrc: Number.parseInt(/ssrc=([0-9A-F]+)/i.exec(text)?.[1] ?? "0", 16), socket });
      }
      stream.write(utf8(text.replace(/^CSeq: \d+/m, /^CSeq: \d+/m.exec(request)?.[0] ?? "")));
    };
    const run = async <T>(promise: Promise<T>): Promise<T> => {
      let settled = false;
      void promise.finally(() => (settled = true)).catch(() => {});
      for (let step = 0; step < 200 && !settled; step++) await network.advance(10);
      return promise;
    };
    const received: string[] = [];
    const open = { allowNullKeying: true };
    const keying = profile === "auto" ? autoKeying(network, [], open) : clientKeying(network, profile, open);
    const client = createRtspClient({
      url: "rtsp://server/test",
      stream: await run(network.host("client").streams.connect({ host: "server", port: 554 })),
      clock: network.clock,
      timers: network.timers,
      random: network.random,
      crypto: nodeCrypto,
      datagrams: network.host("client").datagrams,
      keying,
      onRtp: (_track, packet) => received.push(formatHex(packet)),
    });
    const { description } = await run(client.describe());
    for (const index of description.media.keys()) await run(client.setup(index, "udp"));
    await run(client.play());
    for (const packet of packets.map((text) => parseHex(text))) {
      const ssrc = new DataView(packet.buffer, packet.byteOffset).getUint32(8);
      const track = setups.find((setup) => setup.ssrc === ssrc);
      track?.socket.send(packet, { host: "client", port: track.ports[0] as number });
      await network.advance(20);
    }
    expect(received).toEqual(plain);
    expect(client.statistics.every(({ authenticationFailures }) => authenticationFailures === 0)).toBe(true);
    expect(client.statistics[0]?.tolerances).toContain("concatenated-key-and-salt");
    expect(keying.profile).toBe("gstreamer");
    await run(client.teardown());
  });
});

/** Responses by the method that they answer, in order. */
function answersOf(said: Capture["rtsp_dialogue"]): Map<string, string[]> {
  const responses = new Map<string, string[]>();
  let method = "";
  for (const { dir, text } of said) {
    if (dir === "C->S") method = /^[A-Z_]+/.exec(text)?.[0] ?? "";
    else responses.set(method, [...(responses.get(method) ?? []), text]);
  }
  return responses;
}

interface Wild {
  readonly source: string;
  readonly base64: string;
  readonly srtcpPacketBase64?: string;
  readonly srtcpPlainHex?: string;
}

const wildText = shared("vectors/third-party/wild-mikey-messages.json");
const WILD = wildText === undefined ? [] : (JSON.parse(wildText) as Wild[]);
const wild = (source: string): Wild => {
  const found = WILD.find((entry) => entry.source.includes(source));
  if (found === undefined) throw new Error(`there is no message from ${source}`);
  return found;
};

interface Received {
  readonly octets: Uint8Array;
  readonly key: Uint8Array;
  readonly mki: string | null;
  readonly time: number;
}

function reading({ base64 }: Wild): Received {
  const octets = parseBase64(base64);
  const message = decodeMessage(octets, { trailing: "keep" });
  const [data] = decodeKeyData(payloadOf(message, "KEMAC")?.encrData ?? new Uint8Array(0));
  if (data === undefined) throw new Error("no key");
  return {
    octets,
    key: data.key,
    mki: data.validity.kv === "spi" ? formatHex(data.validity.spi) : null,
    time: decodeNtp(payloadOf(message, "T")?.value ?? new Uint8Array(8), Date.UTC(2026, 0, 1)),
  };
}

/** A server for a kind of peer at the time of a message, and what it sends to a client of that kind, opened under that client's key. */
async function served(profile: PeerProfileName, time: number) {
  const sent: Uint8Array[] = [];
  const setting = createSetting(
    (network) => ({
      secure: true,
      presentation: { profile: "RTP/SAVP", announce: false, keying: serverKeying(network, peerProfile(profile)) },
    }),
    { now: time },
  );
  const stream = await setting.dial();
  const answers: string[] = [];
  stream.onData = (octets) => {
    if (octets[0] === 0x24) sent.push(octets.slice(4));
    else answers.push(utf8Text(octets) ?? "");
  };
  let sequence = 0;
  const ask = async (line: string, fields: readonly string[], body = ""): Promise<string> => {
    const extra = body === "" ? [] : ["Content-Type: text/parameters", `Content-Length: ${body.length}`];
    stream.write(utf8(`${[`${line} RTSP/1.0`, `CSeq: ${++sequence}`, ...fields, ...extra].join("\r\n")}\r\n\r\n${body}`));
    await setting.network.advance(20);
    return answers.at(-1) ?? "";
  };
  return { setting, ask, sent };
}

function opened(packet: Uint8Array, { key }: Received, mki: string): number {
  const receiver = createSrtpReceiver({
    policy: { suite: AES80 },
    keys: [{ key: key.slice(0, 16), salt: key.slice(16), mki: parseHex(mki) }],
    crypto: nodeCrypto,
  });
  return receiver.unprotect(packet, new Uint8Array(packet.length));
}

async function plays(setting: Setting, sent: readonly Uint8Array[]): Promise<Uint8Array> {
  setting.source.rtp(0, utf8("media"));
  await setting.network.advance(10);
  return sent.at(-1) ?? new Uint8Array(0);
}

describe.skipIf(wildText === undefined)("messages of recorders, heard by our server (needs ../shared/vectors/third-party)", () => {
  it.each([
    ["genetec", "Stream Initialization", "Client Re-Keying"],
    ["hanwha", "Stream Initialization", "captured Genetec Omnicast -> Hanwha"],
    ["onvif", "Stream Initialization", "Client Re-Keying"],
  ] as const)("%s: the key of SETUP serves both ways, SET_PARAMETER replaces it", async (profile, setup, rekey) => {
    const first = wild(setup);
    const second = wild(rekey);
    const { setting, ask, sent } = await served(profile, Date.UTC(2026, 0, 1));
    await ask("DESCRIBE rtsps://server/s", ["User-Agent: OmnicastRTSPClient/1.0"]);
    const answer = await ask("SETUP rtsps://server/s/track1", [
      "Transport: RTP/SAVP/TCP;unicast;interleaved=0-1",
      `KeyMgmt: prot=mikey;uri="";data="${first.base64}"`,
    ]);
    expect(answer).toMatch(/^RTSP\/1\.0 200 OK/);
    expect(answer).toMatch(/;ssrc=[0-9A-F]{8}/);
    const session = `Session: ${/^Session: ([^;\r]+)/m.exec(answer)?.[1]}`;
    await ask("PLAY rtsps://server/s", [session]);
    expect(opened(await plays(setting, sent), reading(first), "0000002f")).toBe(12 + 5);
    expect(setting.server.sessions[0]?.tracks[0]).toMatchObject({
      mki: "0000002f",
      tolerances: expect.arrayContaining(["empty-key-mgmt-uri", "rand-absent", "timestamp-unchecked"]),
    });
    expect(await ask("SET_PARAMETER rtsps://server/s", [session], `mikey: ${second.base64}\r\n`)).toMatch(/^RTSP\/1\.0 200 OK/);
    expect(opened(await plays(setting, sent), reading(second), reading(second).mki ?? "")).toBe(12 + 5);
    expect(setting.server.sessions[0]?.tracks[0]?.tolerances).toContain("rekey-under-new-csb");
  });

  it("live555: VLC's key, with MKI, serves both ways", async () => {
    const message = wild("MikeyTest #1");
    const { setting, ask, sent } = await served("live555", reading(message).time);
    await ask("DESCRIBE rtsps://server/s", []);
    const answer = await ask("SETUP rtsps://server/s/track1", [
      "User-Agent: LibVLC/3.0.23 (LIVE555 Streaming Media v2020.11.05)",
      "Transport: RTP/SAVP/TCP;unicast;interleaved=0-1",
      `KeyMgmt: prot=mikey; uri="rtsps://server/s/track1"; data="${message.base64}"`,
    ]);
    await ask("PLAY rtsps://server/s", [`Session: ${/^Session: ([^;\r]+)/m.exec(answer)?.[1]}`]);
    expect(opened(await plays(setting, sent), reading(message), "09fa4021")).toBe(12 + 5);
  });

  it.each([
    ["milestone", "Extra padding at the end", "trailing-zero"],
    ["gortsplib", 'message_test.go case "a"', "tag-length-in-auth-key-length"],
    ["gortsplib", 'message_test.go case "b"', "tag-length-in-auth-key-length"],
    ["gortsplib", 'message_test.go case "c"', "several-cs-one-policy"],
    ["gstreamer", "key_mgmt_test.go", "tag-length-in-auth-key-length"],
    ["nx", "key_mgmt_test.go", "tag-length-in-auth-key-length"],
  ] as const)("%s: %s keys what the client sends, no more", async (profile, source, tolerance) => {
    const message = wild(source);
    const { setting, ask, sent } = await served(profile, reading(message).time);
    await ask("DESCRIBE rtsps://server/s", []);
    const answer = await ask("SETUP rtsps://server/s/track1", [
      "Transport: RTP/SAVP/TCP;unicast;interleaved=0-1",
      `KeyMgmt: prot=mikey;uri="rtsps://server/s/track1";data="${message.base64}"`,
    ]);
    expect(answer).toMatch(/^RTSP\/1\.0 200 OK/);
    await ask("PLAY rtsps://server/s", [`Session: ${/^Session: ([^;\r]+)/m.exec(answer)?.[1]}`]);
    expect(setting.server.sessions[0]?.tracks[0]).toMatchObject({ mki: undefined, keyedBy: "null" });
    expect(setting.server.sessions[0]?.tracks[0]?.tolerances).toContain(tolerance);
    expect((await plays(setting, sent)).length).toBe(12 + 5 + 10);
  });

  it("an SRTCP packet opens under the key of the message that came with it", async () => {
    const message = wild("SrtcpProtectRoundTripTest");
    const { setting, ask } = await served("onvif", reading(message).time);
    const stream = await setting.dial();
    await ask("DESCRIBE rtsps://server/s", []);
    let answer = "";
    stream.onData = (octets) => {
      answer += utf8Text(octets) ?? "";
    };
    stream.write(
      utf8(
        `SETUP rtsps://server/s/track1 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/SAVP/TCP;unicast;interleaved=0-1\r\nKeyMgmt: prot=mikey;data="${message.base64}"\r\n\r\n`,
      ),
    );
    await setting.network.advance(20);
    expect(answer).toMatch(/^RTSP\/1\.0 200 OK/);
    const packet = parseBase64(message.srtcpPacketBase64 ?? "");
    stream.write(Uint8Array.of(0x24, 1, packet.length >> 8, packet.length & 0xff, ...packet));
    await setting.network.advance(20);
    expect(setting.server.sessions.find(({ tracks }) => tracks[0]?.mki === "00000001")?.tracks[0]).toMatchObject({
      reports: 1,
      authenticationFailures: 0,
    });
  });
});

describe.skipIf(wildText === undefined)("messages of cameras, heard by our client (needs ../shared/vectors/third-party)", () => {
  it.each([
    ["kAxisMikey", "gstreamer", true],
    ["kAes256CmMikey", "gstreamer", false],
    ['MikeyTest "gstreamer"', "gstreamer", false],
    ["Multicast considerations", "live555", false],
    ["ANNOUNCE SDP test", "onvif", false],
    ["Extra padding at the end", "gortsplib", false],
  ] as const)("%s is first taken for %s", async (source, first, sessionLevel) => {
    const message = reading(wild(source));
    const network = createSimulatedNetwork({ now: message.time });
    const steps: string[] = [];
    const keying = autoKeying(network, steps);
    const request = {
      streams: [{ index: 0, ssrc: 0x01020304 }],
      peer: { remote: { host: "camera", port: 322 }, secure: true },
      announced: false,
      protocols: ["mikey"],
      ...(sessionLevel ? { line: { index: 0, count: 1 } } : {}),
    };
    const answered = keying.answer(message.octets, request);
    if (source === "Extra padding at the end") {
      // Only a recorder sends that octet; whoever names the profile has it.
      await expect(answered).rejects.toMatchObject({ code: "bytes.trailing" });
      await expect(clientKeying(network, "milestone").answer(message.octets, request)).resolves.toMatchObject({ response: {} });
    } else {
      const { media } = await answered;
      expect(media.streams[0]?.receiver).toBeDefined();
      expect(media.mki === undefined ? null : formatHex(media.mki)).toBe(message.mki);
    }
    expect(steps).toEqual([first]);
  });
});
