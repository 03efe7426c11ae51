import { connect, createServer } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { concatBytes, utf8, utf8Text } from "../../src/bytes/index.js";
import type { Stream } from "../../src/io/index.js";
import { connectStream, createStreamFactory, createStreamListener, type StreamListener } from "../../src/node/index.js";
import { makeSelfSigned, type SelfSigned } from "./self-signed.js";

const listeners: StreamListener[] = [];
const streams: Stream[] = [];
const credentials = makeSelfSigned();

afterEach(async () => {
  for (const stream of streams.splice(0)) stream.destroy();
  await Promise.all(listeners.splice(0).map((listener) => listener.close()));
});

async function listen(onStream: (stream: Stream) => void, tls?: SelfSigned): Promise<StreamListener> {
  const listener = await createStreamListener({ host: "127.0.0.1", port: 0, onStream, ...(tls === undefined ? {} : { tls }) });
  listeners.push(listener);
  return listener;
}

async function open(...args: Parameters<typeof connectStream>): Promise<Stream> {
  const stream = await connectStream(...args);
  streams.push(stream);
  return stream;
}

function closed(stream: Stream): Promise<Error | undefined> {
  return new Promise((resolve) => {
    stream.onClose = resolve;
  });
}

function readAll(stream: Stream): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  stream.onData = (octets) => parts.push(octets);
  return closed(stream).then(() => concatBytes(...parts));
}

const echo = (stream: Stream): void => {
  stream.onData = (octets) => stream.write(octets);
};

describe.each([
  ["TCP", false],
  ["TLS", true],
])("streams over %s", (_name, secure) => {
  const connectOptions = () => (secure ? { secure, ca: credentials.cert } : {});
  const start = (onStream: (stream: Stream) => void) => listen(onStream, secure ? credentials : undefined);

  it("carries octets both ways and knows its channel", async () => {
    const accepted: Stream[] = [];
    const listener = await start((stream) => {
      accepted.push(stream);
      echo(stream);
    });
    const stream = await open(listener.local, connectOptions());
    const answer = new Promise<Uint8Array>((resolve) => {
      stream.onData = resolve;
    });
    stream.write(utf8("OPTIONS * RTSP/1.0"));
    const octets = await answer;
    expect(utf8Text(octets)).toBe("OPTIONS * RTSP/1.0");
    expect(octets.constructor).toBe(Uint8Array);
    expect(stream.channel).toEqual({ local: accepted[0]?.channel.remote, remote: listener.local, secure });
    expect(accepted[0]?.channel.secure).toBe(secure);
  });

  it("keeps what arrives before anybody asks, and stops reading on request", async () => {
    const listener = await start((stream) => {
      stream.write(utf8("first"));
      stream.end();
    });
    const stream = await open(listener.local, connectOptions());
    const all = readAll(stream);
    expect(utf8Text(await all)).toBe("first");
  });

  it("sends everything written before end", async () => {
    const received: Promise<Uint8Array>[] = [];
    const listener = await start((stream) => received.push(readAll(stream)));
    const stream = await open(listener.local, connectOptions());
    const memory = new Uint8Array(100_000);
    for (let i = 0; i < 20; i++) {
      memory.fill(i);
      stream.write(memory);
    }
    stream.end();
    stream.write(utf8("too late"));
    await closed(stream);
    const octets = await (received[0] as Promise<Uint8Array>);
    expect(octets.length).toBe(2_000_000);
    expect([octets[0], octets[999_999], octets[1_999_999]]).toEqual([0, 9, 19]);
  });

  it("shows what a peer that does not read leaves behind, and drains when it does", async () => {
    const accepted: Stream[] = [];
    const listener = await start((stream) => accepted.push(stream));
    const stream = await open(listener.local, connectOptions());
    const block = new Uint8Array(1 << 20);
    for (let i = 0; i < 32; i++) stream.write(block);
    expect(stream.buffered).toBeGreaterThan(1 << 20);
    const drained = new Promise<void>((resolve) => {
      stream.onDrain = resolve;
    });
    let total = 0;
    while (accepted.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const peer = accepted[0] as Stream;
    peer.onData = (octets) => {
      total += octets.length;
    };
    await drained;
    expect(stream.buffered).toBe(0);
    stream.end();
    await closed(stream);
    expect(total).toBeGreaterThan(0);
  });

  it("tells once how it ended, also to who asks late", async () => {
    const accepted: Stream[] = [];
    const listener = await start((stream) => {
      stream.write(utf8("welcome"));
      stream.onData = () => {};
      accepted.push(stream);
    });
    const stream = await open(listener.local, connectOptions());
    await new Promise<Uint8Array>((resolve) => {
      stream.onData = resolve;
    });
    const ended = closed(stream);
    stream.destroy();
    expect(await ended).toBeUndefined();
    let calls = 0;
    stream.onClose = () => calls++;
    await listener.close();
    expect(calls).toBe(0);
    const peer = accepted[0] as Stream;
    await closed(peer);
    peer.write(utf8("nobody hears"));
    peer.end();
    peer.destroy();
  });

  it("ends all its connections when the listener closes", async () => {
    const listener = await start(echo);
    const clients = await Promise.all([1, 2, 3].map(() => open(listener.local, connectOptions())));
    const ends = clients.map((stream) => {
      stream.onData = () => {};
      return closed(stream);
    });
    await listener.close();
    await Promise.all(ends);
    await expect(connectStream(listener.local, connectOptions())).rejects.toMatchObject({ code: "node.connection-refused" });
  });

  it("cuts a client that neither reads nor leaves when the listener closes", async () => {
    const listener = await start((stream) => {
      for (let i = 0; i < 32; i++) stream.write(new Uint8Array(1 << 20));
    });
    const stream = await open(listener.local, connectOptions());
    expect(stream.buffered).toBe(0);
    await listener.close();
  });
});

describe("connectStream", () => {
  it("says that nothing listens", async () => {
    const listener = await listen(echo);
    await listener.close();
    const failure = connectStream(listener.local);
    await expect(failure).rejects.toMatchObject({ code: "node.connection-refused", name: "WatchwordError" });
  });

  it("says that a name does not resolve", async () => {
    await expect(connectStream({ host: "no-such-host.invalid", port: 554 })).rejects.toMatchObject({ code: "node.name-not-found" });
  });

  it("gives up on a peer that accepts and then is silent in the TLS handshake", async () => {
    const server = createServer(() => {});
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const port = address !== null && typeof address === "object" ? address.port : 0;
    const failure = connectStream({ host: "127.0.0.1", port }, { secure: true, connectTimeout: 100 });
    await expect(failure).rejects.toMatchObject({ code: "node.connection-timeout" });
    server.close();
  });

  it("refuses a certificate that is not trusted, unless told to accept any", async () => {
    const listener = await listen(echo, credentials);
    await expect(connectStream(listener.local, { secure: true })).rejects.toMatchObject({ code: "node.certificate-untrusted" });
    const stream = await createStreamFactory({ insecure: true }).connect(listener.local, { secure: true });
    streams.push(stream);
    expect(stream.channel.secure).toBe(true);
  });

  it("checks the certificate's name", async () => {
    const other = makeSelfSigned("camera.example");
    const listener = await listen(echo, other);
    const named = { secure: true, ca: other.cert };
    streams.push(await connectStream(listener.local, { ...named, serverName: "camera.example" }));
    const wrong = connectStream(listener.local, { ...named, serverName: "other.example" });
    await expect(wrong).rejects.toMatchObject({ code: "node.certificate-untrusted" });
  });

  it("says that the peer does not speak TLS", async () => {
    const listener = await listen((stream) => {
      stream.onData = () => stream.write(utf8("RTSP/1.0 400 Bad Request\r\n\r\n"));
    });
    await expect(connectStream(listener.local, { secure: true })).rejects.toMatchObject({ code: "node.tls" });
  });

  it("names a connection that the peer reset", async () => {
    const server = createServer((socket) => socket.once("data", () => socket.resetAndDestroy()));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const stream = await open({ host: "127.0.0.1", port: address !== null && typeof address === "object" ? address.port : 0 });
    stream.onData = () => {};
    stream.write(utf8("x"));
    expect(await closed(stream)).toMatchObject({ code: "node.connection-reset" });
    server.close();
  });
});

describe("createStreamListener", () => {
  it("refuses a port in use", async () => {
    const first = await listen(echo);
    const second = createStreamListener({ ...first.local, onStream: echo });
    await expect(second).rejects.toMatchObject({ code: "node.address-in-use" });
  });

  it("refuses credentials that are none, without quoting them", async () => {
    const other = makeSelfSigned();
    const start = (tls: SelfSigned) => createStreamListener({ host: "127.0.0.1", port: 0, tls, onStream: echo });
    await expect(start({ cert: "no", key: "SECRET" })).rejects.toMatchObject({ code: "node.tls-credentials" });
    await expect(start({ cert: "no", key: "SECRET" })).rejects.not.toThrow(/SECRET/);
    await expect(start({ cert: credentials.cert, key: other.key })).rejects.toThrow(/do not belong together/);
  });

  it("survives a client that speaks no TLS and serves the next", async () => {
    const failures: string[] = [];
    const listener = await createStreamListener({
      host: "127.0.0.1",
      port: 0,
      tls: credentials,
      onStream: echo,
      onFailure: (error) => failures.push(error.code),
    });
    listeners.push(listener);
    await new Promise<void>((resolve) => {
      const socket = connect(listener.local.port, "127.0.0.1", () => socket.write("OPTIONS * RTSP/1.0\r\n\r\n"));
      socket.on("error", () => {});
      socket.once("close", () => resolve());
      socket.resume();
    });
    expect(failures).toEqual(["node.tls"]);
    const stream = await open(listener.local, { secure: true, ca: credentials.cert });
    const answer = new Promise<Uint8Array>((resolve) => {
      stream.onData = resolve;
    });
    stream.write(utf8("hello"));
    expect(utf8Text(await answer)).toBe("hello");
  });

  it("closes with a client still in its TLS handshake", async () => {
    const listener = await listen(echo, credentials);
    const socket = connect(listener.local.port, "127.0.0.1");
    await new Promise<void>((resolve) => socket.once("connect", resolve));
    const gone = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    socket.on("error", () => {});
    socket.resume();
    await listener.close();
    await gone;
  });

  it("turns away connections beyond its limit", async () => {
    const listener = await createStreamListener({ host: "127.0.0.1", port: 0, maxConnections: 1, onStream: echo });
    listeners.push(listener);
    const first = await open(listener.local);
    const answer = new Promise<Uint8Array>((resolve) => {
      first.onData = resolve;
    });
    first.write(utf8("1"));
    await answer;
    const second = await open(listener.local);
    second.onData = () => {};
    await closed(second);
  });
});
