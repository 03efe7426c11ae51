import { describe, expect, it } from "vitest";
import { utf8 } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { type ClientTransport, createAuthenticator } from "../../src/rtsp/index.js";
import { createSetting, H264, PCMU, payloads, sequences } from "./support.js";

describe.each<ClientTransport>(["udp", "tcp"])("plain RTP over %s", (transport) => {
  it("plays, pauses, goes on without a gap, and tears down", async () => {
    const { client, run, source, network, server, events } = createSetting();
    const player = await client();
    expect(await run(player.options())).toContain("DESCRIBE");
    const { description, uri } = await run(player.describe());
    expect(description.media).toMatchObject([{ profile: "RTP/AVP", control: "track1" }]);
    expect(uri).toBe("rtsp://server:554/s/");
    await run(player.setup(0, transport));
    source.rtp(0, utf8("unheard"));
    await run(player.play());
    source.report(0);
    for (const word of ["one", "two"]) source.rtp(0, utf8(word));
    await network.advance(10);
    await run(player.pause());
    source.rtp(0, utf8("unheard"));
    await network.advance(10);
    await run(player.play());
    source.next += 40_000;
    source.rtp(0, utf8("three"));
    await network.advance(10);
    expect(payloads(player.received)).toEqual(["one", "two", "three"]);
    const [first = 0] = sequences(player.received);
    expect(first).toBeLessThan(0x8000);
    expect(sequences(player.received)).toEqual([first, first + 1, first + 2]);
    expect(player.received.rtcp).toHaveLength(1);
    expect(player.statistics).toMatchObject([{ packets: 3, lost: 0, rtcpPackets: 1, keyedBy: "none" }]);
    expect(server.sessions).toMatchObject([{ state: "playing", tracks: [{ transport, packets: 3 }] }]);
    expect(await run(player.teardown())).toBeUndefined();
    await network.advance(10);
    expect(events.map(({ type }) => type)).toEqual(["setup", "playing", "paused", "playing", "ended"]);
    expect(events.at(-1)).toMatchObject({ reason: "teardown", proof: undefined });
    expect(player.received.ends).toEqual([]);
    expect([server.sessions.length, server.connections]).toEqual([0, 0]);
    expect([network.host("server").open, network.host("client").open]).toEqual([
      { datagrams: 0, streams: 0 },
      { datagrams: 0, streams: 0 },
    ]);
    server.close();
    expect(source.running).toBe(false);
    await network.advance(100);
    expect(network.pending).toBe(0);
  });

  it("plays two streams and takes them for what they are", async () => {
    const { client, run, source, network } = createSetting({ tracks: [PCMU, H264] });
    const player = await client();
    await run(player.describe());
    await run(player.setup(1, transport));
    await run(player.setup(0, transport));
    await run(player.play());
    source.rtp(0, utf8("sound"));
    source.rtp(1, utf8("picture"));
    await network.advance(10);
    expect(player.received.rtp.map(([track]) => track).toSorted()).toEqual([0, 1]);
    expect(payloads(player.received).toSorted()).toEqual(["picture", "sound"]);
    await run(player.teardown());
  });

  it("lives by keep-alives and reports, and counts loss", async () => {
    const { client, run, source, network, server } = createSetting({ server: { sessionTimeout: 10 } });
    const player = await client({ mediaTimeout: 0 });
    await run(player.describe());
    await run(player.setup(0, transport));
    await run(player.play());
    for (let second = 0; second < 40; second++) {
      source.rtp(0, utf8("x"));
      if (second % 10 === 5) source.next++;
      await network.advance(1000);
    }
    expect(server.sessions).toHaveLength(1);
    expect(player.statistics).toMatchObject([{ packets: 40, lost: 4 }]);
    expect(player.statistics[0]?.reportsSent).toBeGreaterThan(4);
    expect(server.sessions[0]?.tracks[0]?.reports).toBe(player.statistics[0]?.reportsSent);
  });

  it("ends with a clear error when the server falls silent, and the server ends the session", async () => {
    const { client, run, source, network, server, events } = createSetting();
    const player = await client();
    await run(player.describe());
    await run(player.setup(0, transport));
    await run(player.play());
    source.rtp(0, utf8("x"));
    await network.advance(100);
    network.setLink({ partitioned: true });
    await network.advance(20_000);
    expect(player.received.ends).toEqual(["rtsp.media-timeout"]);
    await network.advance(60_000);
    expect(events.at(-1)).toMatchObject({ type: "ended", reason: "timeout" });
    expect(server.sessions).toEqual([]);
    expect(network.host("server").open.datagrams).toBe(0);
    expect(network.host("client").open.datagrams).toBe(0);
    network.setLink({});
    await network.advance(1000);
    const next = await client();
    await run(next.describe());
    await run(next.setup(0, transport));
    await run(next.play());
  });
});

describe("a server that dies", () => {
  it("in mid-stream ends the client with a clear error", async () => {
    const { client, run, network, server } = createSetting();
    const player = await client();
    await run(player.describe());
    await run(player.setup(0, "tcp"));
    await run(player.play());
    server.close();
    await network.advance(10);
    expect(player.received.ends).toEqual(["rtsp.connection-closed"]);
    await expect(player.play()).rejects.toMatchObject({ code: "rtsp.state" });
    await expect(player.options()).rejects.toMatchObject({ code: "rtsp.connection-closed" });
  });

  it("before it answers ends the request in time", async () => {
    const { client, run, network } = createSetting();
    const player = await client();
    network.setLink({ partitioned: true });
    await expect(run(player.describe(), 2000)).rejects.toMatchObject({ code: "rtsp.timeout" });
  });
});

describe("a client that dies", () => {
  it("over TCP ends its session at once, over UDP after the timeout", async () => {
    const { client, run, network, events, server } = createSetting();
    for (const transport of ["tcp", "udp"] as const) {
      const player = await client();
      await run(player.describe());
      await run(player.setup(0, transport));
      await run(player.play());
      player.close();
      await network.advance(100);
    }
    expect(events.filter(({ type }) => type === "ended")).toMatchObject([{ reason: "connection-closed" }]);
    await network.advance(62_000);
    expect(events.filter(({ type }) => type === "ended")).toMatchObject([{ reason: "connection-closed" }, { reason: "timeout" }]);
    expect(server.sessions).toEqual([]);
    expect(network.host("server").open).toEqual({ datagrams: 0, streams: 0 });
  });

  it("by not reading is dropped, the others go on", async () => {
    const { client, run, network, source, events, dial } = createSetting({
      network: { streamWindow: 4096 },
      server: { limits: { dropAbove: 8192, stallTimeout: 5000 } },
    });
    const player = await client({ host: "other" });
    await run(player.describe());
    await run(player.setup(0, "tcp"));
    await run(player.play());
    const lazy = await dial();
    const send = async (text: string): Promise<void> => {
      lazy.write(utf8(text));
      await network.advance(10);
    };
    await send("SETUP rtsp://server/s/track1 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n");
    const session = events.flatMap((event) => (event.type === "setup" ? [event.session.id] : [])).at(-1) ?? "";
    await send(`PLAY rtsp://server/s RTSP/1.0\r\nCSeq: 2\r\nSession: ${session}\r\n\r\n`);
    for (let step = 0; step < 100; step++) {
      source.rtp(0, new Uint8Array(1000));
      await network.advance(100);
    }
    expect(events.at(-1)).toMatchObject({ type: "ended", reason: "slow-reader", session: { id: session } });
    expect(player.received.rtp).toHaveLength(100);
  });

  it("by asking without reading is cut off", async () => {
    const { network, server, dial } = createSetting({ network: { streamWindow: 1024 }, server: { limits: { closeAbove: 4096 } } });
    const stream = await dial();
    for (let sequence = 0; sequence < 100; sequence++) {
      stream.write(utf8(`OPTIONS * RTSP/1.0\r\nCSeq: ${sequence}\r\n\r\n`));
      await network.advance(5);
    }
    expect(server.connections).toBe(0);
  });
});

describe("the network between", () => {
  it("may lose, double and reorder datagrams", async () => {
    const { client, run, network, source } = createSetting();
    const player = await client();
    await run(player.describe());
    await run(player.setup(0, "udp"));
    await run(player.play());
    network.setLink({ loss: 0.1, duplicate: 0.1, jitter: 40 });
    for (let count = 0; count < 200; count++) {
      source.rtp(0, utf8(`${count}`));
      await network.advance(20);
    }
    await network.advance(100);
    expect(player.received.rtp.length).toBeGreaterThan(150);
    await run(player.teardown());
  });

  it("may split everything at every octet", async () => {
    const { client, run, network, source } = createSetting({ network: { streamChunk: 1 } });
    const player = await client();
    await run(player.describe());
    await run(player.setup(0, "tcp"));
    await run(player.play());
    source.rtp(0, utf8("hello"));
    await network.advance(10);
    expect(payloads(player.received)).toEqual(["hello"]);
    await run(player.teardown());
  });

  it("may bring packets from elsewhere, which are not taken", async () => {
    const { client, run, network, events, source } = createSetting();
    const player = await client();
    await run(player.describe());
    await run(player.setup(0, "udp"));
    await run(player.play());
    const stranger = await network.host("stranger").datagrams.bind({ host: "stranger", port: 9 });
    for (let port = 20_000; port < 20_010; port++) {
      stranger.send(new Uint8Array([0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]), { host: "client", port });
      stranger.send(new Uint8Array([0x80, 201, 0, 1, 0, 0, 0, 1]), { host: "server", port });
    }
    source.rtp(0, utf8("real"));
    await network.advance(10);
    expect(payloads(player.received)).toEqual(["real"]);
    expect(events.flatMap((event) => (event.type === "playing" ? event.session.tracks : []))).toMatchObject([{ reports: 0 }]);
    await run(player.teardown());
  });
});

describe("authentication", () => {
  const authenticated = (basic: boolean) =>
    createSetting((network) => ({
      secure: basic,
      presentation: {
        authenticator: createAuthenticator({
          realm: "watchword",
          password: (user) => (user === "alice" ? "s3cret" : undefined),
          crypto: nobleCrypto,
          clock: network.clock,
          basic,
          ...(basic ? { algorithms: [] } : {}),
        }),
      },
    }));

  it.each([
    ["Digest", false],
    ["Basic over TLS", true],
  ] as const)("by %s opens the whole session", async (_name, basic) => {
    const { client, run, source, network, server } = authenticated(basic);
    const player = await client({ url: "rtsp://alice:s3cret@server/s" });
    await run(player.describe());
    await run(player.setup(0, "tcp"));
    await run(player.play());
    source.rtp(0, utf8("x"));
    await network.advance(10);
    expect(server.sessions).toMatchObject([{ user: "alice" }]);
    expect(player.received.rtp).toHaveLength(1);
    await run(player.teardown());
  });

  it("goes on when nonces go stale in a long session", async () => {
    const { client, run, source, network, server } = authenticated(false);
    const player = await client({ credentials: { user: "alice", password: "s3cret" }, mediaTimeout: 0 });
    await run(player.describe());
    await run(player.setup(0, "tcp"));
    await run(player.play());
    await network.advance(900_000);
    source.rtp(0, utf8("x"));
    await network.advance(10);
    expect(server.sessions).toHaveLength(1);
    expect(player.received.rtp).toHaveLength(1);
    await run(player.teardown());
  });

  it("refuses who is not known", async () => {
    const { client, run } = authenticated(false);
    const wrong = await client({ credentials: { user: "alice", password: "x" } });
    await expect(run(wrong.describe())).rejects.toMatchObject({ code: "rtsp.unauthorized" });
    const none = await client();
    await expect(run(none.describe())).rejects.toMatchObject({ code: "rtsp.unauthorized" });
    expect(await run(none.options())).toContain("PLAY");
  });
});
