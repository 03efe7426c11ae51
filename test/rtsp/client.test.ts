import { describe, expect, it } from "vitest";
import { concatBytes, formatBase64, utf8, utf8Text } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createMediaKeying, type KeyedMedia, type MediaOffer } from "../../src/gsa/index.js";
import { createSimulatedNetwork, type SimulatedNetwork, type Stream } from "../../src/io/index.js";
import { peerProfile } from "../../src/peers/index.js";
import {
  type ClientKeying,
  createMikeyClientKeying,
  createRequest,
  createRtspClient,
  createRtspParser,
  encodeFrame,
  encodeRtsp,
  header,
  identityOf,
  type RtspClient,
  type RtspClientOptions,
  type RtspRequest,
  type RtspResponse,
  RtspStatusError,
} from "../../src/rtsp/index.js";
import { parseKeyMgmtHeader, parseKeyMgmtParameter } from "../../src/sdp/index.js";

const SDP = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\na=control:*\r\nm=audio 0 RTP/AVP 0\r\na=control:t\r\n";

type Script = (request: RtspRequest) => string | Promise<string>;

interface Stage {
  readonly network: SimulatedNetwork;
  readonly client: RtspClient;
  /** What the client asked, `METHOD uri`. */
  readonly asked: string[];
  readonly requests: RtspRequest[];
  readonly responses: RtspResponse[];
  readonly ends: string[];
  readonly rtp: string[];
  /** The server's end. */
  readonly far: Stream;
  run<T>(promise: Promise<T>): Promise<T>;
}

/** A server that says what the test wants: text behind the status line's version, `CSeq` filled in. */
async function stage(script: Script, options: Partial<RtspClientOptions> = {}): Promise<Stage> {
  const network = createSimulatedNetwork();
  const asked: string[] = [];
  const requests: RtspRequest[] = [];
  const responses: RtspResponse[] = [];
  const ends: string[] = [];
  const rtp: string[] = [];
  let far: Stream | undefined;
  network.host("server").listen(554, (stream) => {
    far = stream;
    const parser = createRtspParser();
    stream.onData = (octets) =>
      parser.push(octets, (item) => {
        if (item.kind === "response") responses.push(item);
        if (item.kind !== "request") return;
        asked.push(`${item.method} ${item.uri}`);
        requests.push(item);
        void Promise.resolve(script(item)).then((answer) => {
          if (answer === "") return;
          const [head = "", body = ""] = answer.split("\n\n");
          const lines = head.split("\n");
          const length = body === "" ? [] : [`Content-Length: ${utf8(body).length}`];
          stream.write(
            utf8(
              `${[`RTSP/1.0 ${lines[0]}`, `CSeq: ${header(item, "CSeq")}`, ...lines.slice(1), ...length].join("\r\n")}\r\n\r\n${body}`,
            ),
          );
        });
      });
  });
  const run = async <T>(promise: Promise<T>): Promise<T> => {
    promise.catch(() => {});
    for (let step = 0; step < 30; step++) await network.advance(500);
    return promise;
  };
  const stream = await run(network.host("client").streams.connect({ host: "server", port: 554 }));
  const client = createRtspClient({
    url: "rtsp://server/s",
    stream,
    clock: network.clock,
    timers: network.timers,
    random: network.random,
    crypto: nobleCrypto,
    datagrams: network.host("client").datagrams,
    mediaTimeout: 0,
    onEnd: (error) => ends.push(error.code),
    onRtp: (_track, packet) => rtp.push(utf8Text(packet.subarray(12)) ?? "?"),
    ...options,
  });
  return { network, client, asked, requests, responses, ends, rtp, far: far as Stream, run };
}

const GOOD: Readonly<Record<string, string>> = {
  OPTIONS: "200 OK\nPublic: OPTIONS, GET_PARAMETER",
  DESCRIBE: `200 OK\nContent-Type: application/sdp\n\n${SDP}`,
  SETUP: "200 OK\nSession: 42;timeout=10\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1",
};
const good =
  (changes: Readonly<Record<string, string>> = {}): Script =>
  (request) =>
    ({ ...GOOD, ...changes })[request.method] ?? "200 OK";

describe("a client", () => {
  it("follows Content-Base and control URIs", async () => {
    const { client, run, asked } = await stage(good({ DESCRIBE: `200 OK\nContent-Base: rtsp://other:8554/deep/\n\n${SDP}` }));
    await run(client.describe());
    await run(client.setup(0, "tcp"));
    await run(client.play());
    await run(client.teardown());
    expect(asked.filter((line) => !line.startsWith("GET_PARAMETER"))).toEqual([
      "DESCRIBE rtsp://server/s",
      "SETUP rtsp://other:8554/deep/t",
      "PLAY rtsp://other:8554/deep/",
      "TEARDOWN rtsp://other:8554/deep/",
    ]);
  });

  it("sends signs of life, in the way the server knows", async () => {
    for (const [method, answer] of [
      ["GET_PARAMETER", "200 OK"],
      ["OPTIONS", "501 Not Implemented"],
    ] as const) {
      const { client, run, asked, network, requests } = await stage(good({ GET_PARAMETER: answer }));
      await run(client.describe());
      await run(client.setup(0, "tcp"));
      await run(client.play());
      await network.advance(20_000);
      expect(asked.filter((line) => line.startsWith(method)).length).toBeGreaterThan(3);
      expect(header(requests.at(-1) as RtspRequest, "Session")).toBe("42");
    }
  });

  it("ends when the server does not know the session any more", async () => {
    let forgotten = false;
    const { client, run, ends, network } = await stage((request) =>
      forgotten && request.method === "GET_PARAMETER" ? "454 Session Not Found" : good()(request),
    );
    await run(client.describe());
    await run(client.setup(0, "tcp"));
    await run(client.play());
    forgotten = true;
    await network.advance(10_000);
    expect(ends).toEqual(["rtsp.status-454"]);
    expect(network.host("client").open).toEqual({ datagrams: 0, streams: 0 });
    await expect(client.pause()).rejects.toMatchObject({ code: "rtsp.state" });
  });

  it.each<[name: string, changes: Readonly<Record<string, string>>, code: string]>([
    ["a status", { DESCRIBE: "404 Not Found" }, "rtsp.status-404"],
    ["a redirection", { DESCRIBE: "302 Moved\nLocation: rtsp://elsewhere/" }, "rtsp.status-302"],
    [
      "an endless challenge",
      { DESCRIBE: '401 Unauthorized\nWWW-Authenticate: Digest realm="a", nonce="b", stale=true' },
      "rtsp.unauthorized",
    ],
    ["a challenge of an unknown scheme", { DESCRIBE: "401 Unauthorized\nWWW-Authenticate: Bearer" }, "rtsp.unauthorized"],
    ["no answer", { DESCRIBE: "" }, "rtsp.timeout"],
    ["another type", { DESCRIBE: "200 OK\nContent-Type: text/html\n\n<html>" }, "rtsp.content"],
    ["a description that is none", { DESCRIBE: "200 OK\n\nm=nonsense\r\n" }, "sdp.media"],
    ["no streams", { DESCRIBE: "200 OK\n\nv=0\r\n" }, "rtsp.track"],
    ["461", { SETUP: "461 Unsupported transport" }, "rtsp.status-461"],
    ["no session", { SETUP: "200 OK\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1" }, "rtsp.transport-answer"],
    ["a session that is none", { SETUP: "200 OK\nSession: ;\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1" }, "rtsp.header"],
    ["no transport", { SETUP: "200 OK\nSession: 1" }, "rtsp.transport-answer"],
    ["a transport that is none", { SETUP: "200 OK\nSession: 1\nTransport: x" }, "rtsp.transport"],
    [
      "another transport",
      { SETUP: "200 OK\nSession: 1\nTransport: RTP/AVP;unicast;client_port=1-2;server_port=3-4" },
      "rtsp.transport-answer",
    ],
    ["another profile", { SETUP: "200 OK\nSession: 1\nTransport: RTP/SAVP/TCP;unicast;interleaved=0-1" }, "rtsp.transport-answer"],
    [
      "one channel for two",
      { SETUP: "200 OK\nSession: 1\nTransport: RTP/AVP/TCP;unicast;interleaved=1-1" },
      "rtsp.transport-answer",
    ],
    ["a refusal to play", { PLAY: "455 Method Not Valid in This State" }, "rtsp.status-455"],
  ])("gives a clear error for %s", async (_name, changes, code) => {
    const { client, run, network } = await stage(good(changes), { credentials: { user: "a", password: "b" } });
    const attempt = async (): Promise<void> => {
      await client.describe();
      await client.setup(0, "tcp");
      await client.play();
    };
    await expect(run(attempt())).rejects.toMatchObject({ code });
    client.close();
    await network.advance(100);
    expect(network.host("client").open).toEqual({ datagrams: 0, streams: 0 });
  });

  it("needs ports of the server over UDP, and closes its own when there are none", async () => {
    const { client, run, network } = await stage(good({ SETUP: "200 OK\nSession: 1\nTransport: RTP/AVP;unicast;client_port=1-2" }));
    await run(client.describe());
    await expect(run(client.setup(0, "udp"))).rejects.toMatchObject({ code: "rtsp.transport-answer" });
    expect(network.host("client").open.datagrams).toBe(0);
  });

  it("tells status, reason and response, without what a terminal would mind", async () => {
    const { client, run } = await stage(good({ DESCRIBE: "404 No\u001b[31m such\nX: y" }));
    const error = await run(client.describe().catch((caught: unknown) => caught));
    expect(error).toBeInstanceOf(RtspStatusError);
    expect(error).toMatchObject({ status: 404, method: "DESCRIBE", message: "the server answered DESCRIBE with 404 No?[31m such" });
    expect(header((error as RtspStatusError).response, "x")).toBe("y");
  });

  it("does not speak of keys where TLS was meant and is not there", async () => {
    const { network, far } = await stage(good());
    const { clock, timers, random } = network;
    expect(() => createRtspClient({ url: "rtsps://server/s", stream: far, clock, timers, random, crypto: nobleCrypto })).toThrow(
      expect.objectContaining({ code: "rtsp.insecure-channel" }),
    );
  });

  it("does things in their order only", async () => {
    const { client, run } = await stage(good());
    await expect(client.setup(0, "tcp")).rejects.toMatchObject({ code: "rtsp.state" });
    await expect(client.play()).rejects.toMatchObject({ code: "rtsp.state" });
    await expect(client.pause()).rejects.toMatchObject({ code: "rtsp.state" });
    await run(client.describe());
    await run(client.setup(0, "tcp"));
    await expect(client.setup(0, "tcp")).rejects.toMatchObject({ code: "rtsp.state" });
    expect(await run(client.teardown())).toBeUndefined();
    expect(await client.teardown()).toBeUndefined();
  });

  it.each([
    ["junk", utf8("junk\r\n\r\n")],
    ["a header of 64 KiB", utf8(`RTSP/1.0 200 OK\r\nX: ${"x".repeat(65_536)}\r\n\r\n`)],
    ["a flood of requests", utf8("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n".repeat(100))],
  ])("ends with a clear error when the server sends %s", async (_name, octets) => {
    const { client, run, far, ends, network } = await stage(good());
    await run(client.describe());
    await run(client.setup(0, "tcp"));
    await run(client.play());
    far.write(octets);
    await network.advance(100);
    expect(ends).toEqual(["rtsp.peer-syntax"]);
    expect(network.host("client").open).toEqual({ datagrams: 0, streams: 0 });
  });

  it("takes media, drops what is none, and answers the server's questions", async () => {
    const { client, run, far, rtp, responses, network } = await stage(good());
    await run(client.describe());
    await run(client.setup(0, "tcp"));
    await run(client.play());
    far.write(encodeFrame(0, Uint8Array.from([0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, ...utf8("hello")])));
    far.write(encodeFrame(0, utf8("junk")));
    far.write(encodeFrame(1, utf8("junk")));
    far.write(encodeFrame(9, utf8("nobody's")));
    const questions = ["OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "REDIRECT"].map((method, index) =>
      createRequest(method, "rtsp://server/s", [
        ["CSeq", String(index)],
        ["Session", "42"],
      ]),
    );
    questions.push(
      createRequest("GET_PARAMETER", "*", [
        ["CSeq", "9"],
        ["Session", "43"],
      ]),
    );
    questions.push(createRequest("SET_PARAMETER", "*", [["CSeq", "10"]], utf8("a: b\r\n")));
    questions.push(
      createRequest("SET_PARAMETER", "*", [
        ["CSeq", "11"],
        ["KeyMgmt", "x"],
      ]),
    );
    questions.push(
      createRequest("SET_PARAMETER", "*", [
        ["CSeq", "12"],
        ["KeyMgmt", 'prot=mikey;data="AAAA"'],
      ]),
    );
    questions.push(
      createRequest("SET_PARAMETER", "*", [
        ["CSeq", "13"],
        ["KeyMgmt", 'prot=other;data="AAAA"'],
      ]),
    );
    questions.push(createRequest("OPTIONS", "*", []));
    for (const question of questions) far.write(encodeRtsp(question));
    await network.advance(100);
    expect(rtp).toEqual(["hello"]);
    expect(client.statistics).toMatchObject([{ packets: 1, octets: 17, discarded: 2 }]);
    expect(responses.map(({ status }) => status)).toEqual([200, 200, 200, 501, 454, 451, 463, 463, 463, 400]);
  });

  it("answers questions in versions that nobody knows in one that it speaks", async () => {
    const { client, run, far, responses, network, ends } = await stage(good());
    await run(client.describe());
    for (const [index, version] of ["RTSP/3.0", "RTSP/0.9", "RTSP/999.999", "RTSP/2.0"].entries())
      far.write(utf8(`OPTIONS * ${version}\r\nCSeq: ${index}\r\n\r\n`));
    await network.advance(100);
    expect(responses.map(({ version, status }) => `${version} ${status}`)).toEqual([
      "RTSP/1.0 505",
      "RTSP/1.0 505",
      "RTSP/1.0 505",
      "RTSP/2.0 200",
    ]);
    expect(ends).toEqual([]);
  });
});

describe("a client that is over", () => {
  const FRAME = encodeFrame(0, Uint8Array.from([0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, ...utf8("last")]));

  it.each([
    ["because the application closed it", FRAME, []],
    ["because the server broke off", utf8("junk\r\n\r\n"), ["rtsp.peer-syntax"]],
  ])("%s does not begin anew when PAUSE is answered at the same time", async (_name, behind, expected) => {
    const { client, run, far, ends, network, requests } = await stage(good({ PAUSE: "" }), { onRtp: () => client.close() });
    await run(client.describe());
    await run(client.setup(0, "tcp"));
    await run(client.play());
    const pausing = client.pause();
    pausing.catch(() => {});
    await network.advance(10);
    const sequence = header(requests.at(-1) as RtspRequest, "CSeq");
    far.write(concatBytes(utf8(`RTSP/1.0 200 OK\r\nCSeq: ${sequence}\r\n\r\n`), behind));
    await expect(run(pausing)).rejects.toMatchObject({ code: "rtsp.connection-closed" });
    await network.advance(120_000);
    expect(ends).toEqual(expected);
    expect(network.pending).toBe(0);
  });

  it("is over where the server asks and asks and reads no answer", async () => {
    const { client, run, far, ends, network } = await stage(good());
    await run(client.describe());
    await run(client.setup(0, "tcp"));
    far.onData = undefined;
    for (let round = 0; round < 2000 && ends.length === 0; round++) {
      const questions = Array.from({ length: 12 }, (_, index) =>
        createRequest("OPTIONS", "*", [["CSeq", `${round * 12 + index}`]]),
      );
      far.write(concatBytes(...questions.map((question) => encodeRtsp(question))));
      await network.advance(1);
    }
    expect(ends).toEqual(["rtsp.peer-syntax"]);
  });
});

const PSK = utf8("0123456789abcdef0123456789abcdef");

describe("keys at session level (RFC 4567 §5.3)", () => {
  /** A server that keys all streams by one message, and answers rekeys in the form that it was asked in. */
  async function sessionLevel() {
    let media: KeyedMedia | undefined;
    let offer: MediaOffer | undefined;
    const keyings = (network: SimulatedNetwork) => {
      const make = (name: string) =>
        createMediaKeying({
          clock: network.clock,
          timers: network.timers,
          crypto: nobleCrypto,
          dialect: peerProfile("strict"),
          identity: identityOf(name),
          findCredential: () => ({ psk: PSK }),
        });
      return { server: make("server"), client: make("viewer") };
    };
    const holder: { keying?: ClientKeying } = {};
    const lazy: ClientKeying = { answer: (message, request) => (holder.keying as ClientKeying).answer(message, request) };
    const setting = await stage(
      async (request) => {
        if (request.method === "DESCRIBE") {
          const { server, client } = keyings(setting.network);
          holder.keying = createMikeyClientKeying({ keying: client, scope: "viewer" });
          const policy = { suite: "AES_CM_128_HMAC_SHA1_80" } as const;
          offer = await server.offer({
            credential: { psk: PSK },
            secure: false,
            streams: [{ policy }, { policy }],
            responderId: identityOf("viewer"),
            sdpIds: ["mikey"],
          });
          const keyMgmt = `a=key-mgmt:mikey ${formatBase64(offer.octets)}`;
          return `200 OK\n\nv=0\r\ns=x\r\na=control:rtsp://server/s\r\na=x-watchword:1\r\n${keyMgmt}\r\nm=audio 0 RTP/SAVP 0\r\na=control:a\r\nm=video 0 RTP/SAVP 96\r\na=control:v\r\n`;
        }
        if (request.method === "SETUP") {
          const value = header(request, "KeyMgmt");
          if (value !== undefined) media = await offer?.accept(parseKeyMgmtHeader(value)[0]?.data);
          const channels = /interleaved=(\d+-\d+)/.exec(header(request, "Transport") ?? "")?.[1];
          return `200 OK\nSession: 7\nTransport: RTP/SAVP/TCP;unicast;interleaved=${channels}`;
        }
        if (request.method === "TEARDOWN") {
          const proof = media?.acceptDeregistration(parseKeyMgmtHeader(header(request, "KeyMgmt") ?? "")[0]?.data);
          return `200 OK\nKeyMgmt: prot=mikey;data="${formatBase64(proof?.acknowledgement ?? new Uint8Array(0))}"`;
        }
        return "200 OK";
      },
      { keying: lazy },
    );
    await setting.run(setting.client.describe());
    await setting.run(setting.client.setup(0, "tcp"));
    await setting.run(setting.client.setup(1, "tcp"));
    await setting.run(setting.client.play());
    const send = (line: number, text: string): void => {
      const packet = Uint8Array.from([0x80, 0, 0, sequence++, 0, 0, 0, 1, 0, 0, 0, line + 1, ...utf8(text)]);
      const out = new Uint8Array(200);
      const length = media?.streams[line]?.sender?.protect(packet, out) ?? 0;
      setting.far.write(encodeFrame(2 * line, out.subarray(0, length)));
    };
    let sequence = 1;
    return { ...setting, send, media: media as KeyedMedia };
  }

  it("come in the first SETUP under the aggregate's URI, serve every stream, and prove the end", async () => {
    const { requests, send, network, rtp, client, run } = await sessionLevel();
    const setups = requests.filter(({ method }) => method === "SETUP").map((request) => header(request, "KeyMgmt"));
    expect(parseKeyMgmtHeader(setups[0] ?? "")).toMatchObject([{ protocol: "mikey", uri: "rtsp://server/s" }]);
    expect(setups[1]).toBeUndefined();
    send(0, "sound");
    send(1, "picture");
    await network.advance(10);
    expect(rtp).toEqual(["sound", "picture"]);
    expect(await run(client.teardown())).toBe("verified");
  });

  it.each(["header", "mikey", "KeyMgmt"] as const)("are replaced by SET_PARAMETER in the form %s", async (form) => {
    const { far, media, send, network, rtp, responses, client } = await sessionLevel();
    const rekey = await media.startRekey();
    const base64 = formatBase64(rekey.octets);
    const spec = `prot=mikey;uri="rtsp://server/s";data="${base64}"`;
    const fields: [string, string][] = [
      ["CSeq", "1"],
      ["Session", "7"],
    ];
    const request =
      form === "header"
        ? createRequest("SET_PARAMETER", "rtsp://server/s", [...fields, ["KeyMgmt", spec]])
        : createRequest(
            "SET_PARAMETER",
            "rtsp://server/s",
            fields,
            utf8(form === "mikey" ? `mikey: ${base64}\r\n` : `KeyMgmt: ${spec}\r\n`),
          );
    far.write(encodeRtsp(request));
    await network.advance(10);
    const response = responses.at(-1) as RtspResponse;
    expect(response.status).toBe(200);
    const specs =
      form === "header"
        ? parseKeyMgmtHeader(header(response, "KeyMgmt") ?? "")
        : parseKeyMgmtParameter(utf8Text(response.body) ?? "")?.specs;
    await rekey.complete(specs?.[0]?.data);
    send(0, "new");
    send(1, "keys");
    await network.advance(10);
    expect(rtp).toEqual(["new", "keys"]);
    expect(client.statistics.map(({ authenticationFailures }) => authenticationFailures)).toEqual([0, 0]);
  });
});
