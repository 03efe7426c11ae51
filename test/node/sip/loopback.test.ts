import { createSocket } from "node:dgram";
import { connect, createServer, type Socket } from "node:net";
import { SessionState } from "sip.js";
import { describe, expect, it, onTestFinished } from "vitest";
import { type WebSocket, WebSocketServer } from "ws";
import type { Endpoint } from "../../../src/io/index.js";
import type { SipTransportOptions } from "../../../src/node/sip/index.js";
import { makeSelfSigned } from "../self-signed.js";
import { callTo, createTestAgent, descriptionOf, hangUp, type TestAgent } from "./support.js";

const certificate = makeSelfSigned();

async function startAgent(user: string, transport: Omit<SipTransportOptions, "onBound">): Promise<TestAgent> {
  const agent = createTestAgent({ user, transport });
  onTestFinished(() => agent.userAgent.stop());
  await agent.userAgent.start();
  return agent;
}

function addressOf(agent: TestAgent): Endpoint {
  const { address } = agent.transport;
  if (address === undefined) throw new Error("not bound");
  return address;
}

async function callThrough(alice: TestAgent, bob: TestAgent, target: string): Promise<void> {
  const call = callTo(alice, target);
  await expect.poll(() => call.state, { timeout: 10_000 }).toBe(SessionState.Established);
  await expect.poll(() => bob.invitations.at(-1)?.state, { timeout: 10_000 }).toBe(SessionState.Established);
  expect(bob.descriptions.at(-1)).toBe(descriptionOf());
  expect(await hangUp(call)).toBe("good bye");
}

describe("calls over real sockets", () => {
  it.each(["udp", "tcp"] as const)("run over %s", async (transport) => {
    const [alice, bob] = [await startAgent("alice", { transport }), await startAgent("bob", { transport })];
    await callThrough(alice, bob, `sip:bob@127.0.0.1:${addressOf(bob).port}`);
    const asked = bob.invitations[0]?.request.getHeader("via") ?? "";
    expect(asked).toContain(`127.0.0.1:${addressOf(alice).port}`);
    expect(asked).toMatch(/rport=\d+/);
  });

  it("run over TLS", async () => {
    const tls = { ca: certificate.cert, credentials: certificate };
    const [alice, bob] = [await startAgent("alice", { transport: "tls", tls }), await startAgent("bob", { transport: "tls", tls })];
    await callThrough(alice, bob, `sip:bob@127.0.0.1:${addressOf(bob).port}`);
  });

  it("do not run over TLS with a certificate that nobody vouches for", async () => {
    const alice = await startAgent("alice", { transport: "tls", tls: { credentials: certificate } });
    const bob = await startAgent("bob", { transport: "tls", tls: { credentials: certificate } });
    const call = callTo(alice, `sip:bob@127.0.0.1:${addressOf(bob).port}`);
    await expect.poll(() => call.state, { timeout: 10_000 }).toBe(SessionState.Terminated);
    expect(bob.invitations).toEqual([]);
  });

  it("run over WebSocket", async () => {
    const relay = await startRelay();
    const [alice, bob] = [
      await startAgent("alice", { transport: "ws", url: relay.url }),
      await startAgent("bob", { transport: "ws", url: relay.url }),
    ];
    await callThrough(alice, bob, "sip:bob@example.test");
    expect(bob.invitations[0]?.request.getHeader("via")).toMatch(/^SIP\/2\.0\/WS \w+\.invalid;/);
  });

  it("run from UDP to TCP where the address says so", async () => {
    const [alice, bob] = [await startAgent("alice", { transport: "udp" }), await startAgent("bob", { transport: "tcp" })];
    await callThrough(alice, bob, `sip:bob@127.0.0.1:${addressOf(bob).port};transport=tcp`);
  });

  it("run while a peer answers from behind a proxy whose connection breaks, and after it is back", async () => {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => sockets.add(socket.on("error", () => {})));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as { port: number };
    const lost: (Error | undefined)[] = [];
    const agent = createTestAgent({
      user: "alice",
      transport: { transport: "tcp", proxy: { host: "127.0.0.1", port } },
      agent: { delegate: { onDisconnect: (error) => lost.push(error) } },
    });
    onTestFinished(() => agent.userAgent.stop());
    await agent.userAgent.start();
    const before = addressOf(agent);
    await expect.poll(() => sockets.size).toBe(1);
    for (const socket of sockets) socket.destroy();
    await expect.poll(() => lost.length).toBe(1);
    expect(lost[0]).toMatchObject({ code: "node.connection-reset" });
    await expect(agent.transport.send("x")).rejects.toMatchObject({ code: "node.sip-closed" });
    await agent.userAgent.reconnect();
    expect(agent.transport.isConnected()).toBe(true);
    expect(addressOf(agent)).toEqual(before);
    expect(sockets.size).toBe(2);
    await agent.userAgent.stop();
    await agent.userAgent.stop();
    expect(lost.length).toBe(1);
  });

  it("report a server that is not there", async () => {
    const transport = (options: SipTransportOptions) => createTestAgent({ user: "alice", transport: options }).userAgent.start();
    const free = createServer();
    await new Promise<void>((resolve) => free.listen(0, "127.0.0.1", resolve));
    const { port } = free.address() as { port: number };
    await new Promise((resolve) => free.close(resolve));
    await expect(transport({ transport: "tcp", proxy: { host: "127.0.0.1", port } })).rejects.toMatchObject({
      code: "node.connection-refused",
    });
    await expect(transport({ transport: "ws", url: `ws://127.0.0.1:${port}` })).rejects.toMatchObject({
      code: "node.connection-refused",
    });
    await expect(transport({ transport: "udp", local: { host: "0.0.0.0", port: 0 } })).rejects.toMatchObject({
      code: "node.sip-transport",
    });
    await expect(transport({ transport: "tls" })).rejects.toMatchObject({ code: "node.sip-transport" });
    expect(() => transport({ transport: "ws" })).toThrow(expect.objectContaining({ code: "node.sip-transport" }));
  });
});

describe("a request from behind a translator of addresses", () => {
  const options = (via: string): string =>
    [
      "OPTIONS sip:bob@127.0.0.1 SIP/2.0",
      `Via: SIP/2.0/UDP ${via}`,
      "Max-Forwards: 70",
      "From: <sip:alice@example.test>;tag=1",
      "To: <sip:bob@example.test>",
      `Call-ID: ${/branch=(\w+)/.exec(via)?.[1]}`,
      "CSeq: 1 OPTIONS",
      "Content-Length: 0",
      "",
      "",
    ].join("\r\n");

  it("is answered where it came from: to its port where it asks so by rport, else to the port that it names (RFC 3581, RFC 3261 §18.2.2)", async () => {
    const bob = await startAgent("bob", { transport: "udp" });
    const { port } = addressOf(bob);
    const [outer, named] = [createSocket("udp4"), createSocket("udp4")];
    onTestFinished(() => {
      outer.close();
      named.close();
    });
    const got = { outer: [] as string[], named: [] as string[] };
    outer.on("message", (octets) => got.outer.push(String(octets)));
    named.on("message", (octets) => got.named.push(String(octets)));
    for (const socket of [outer, named]) await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
    const inside = `192.0.2.9:${named.address().port}`;

    outer.send(options(`${inside};branch=z9hG4bK1;rport`), port, "127.0.0.1");
    await expect.poll(() => got.outer.length).toBe(1);
    expect(got.outer[0]).toContain(`Via: SIP/2.0/UDP ${inside};branch=z9hG4bK1;rport=${outer.address().port};received=127.0.0.1`);
    outer.send(options(`${inside};branch=z9hG4bK2`), port, "127.0.0.1");
    await expect.poll(() => got.named.length).toBe(1);
    expect(got.named[0]).toContain(`Via: SIP/2.0/UDP ${inside};branch=z9hG4bK2;received=127.0.0.1`);
    expect(got.outer.length).toBe(1);
  });
});

describe("hostile input", () => {
  const GARBAGE: readonly (readonly [string, string])[] = [
    ["nothing", ""],
    ["binary", "\x00\x01\x02\x03".repeat(100)],
    ["a request without anything", "INVITE sip:bob@x SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n"],
    [
      "a method nobody knows",
      "FROB sip:bob@x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKf\r\nCSeq: 1 FROB\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:bob@x>\r\nCall-ID: f\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
    ],
    [
      "headers that do not parse",
      "INVITE sip:bob@x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKg\r\nCSeq: 1 INVITE\r\nFrom: <<<\r\nTo: >>>\r\nCall-ID: \r\nContact: ,,,\r\nMax-Forwards: x\r\nContent-Length: 0\r\n\r\n",
    ],
    [
      "a response to nothing",
      "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKh\r\nCSeq: 1 INVITE\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:bob@x>;tag=2\r\nCall-ID: h\r\nContent-Length: 0\r\n\r\n",
    ],
    [
      "a CANCEL of nothing",
      "CANCEL sip:bob@x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKi\r\nCSeq: 1 CANCEL\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:bob@x>\r\nCall-ID: i\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
    ],
    [
      "an address that cannot be answered",
      "OPTIONS sip:bob@x SIP/2.0\r\nVia: SIP/2.0/UDP x:0;branch=z9hG4bKj;received=;rport=99999\r\nCSeq: 1 OPTIONS\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:bob@x>\r\nCall-ID: j\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
    ],
  ];

  it("leaves a user agent on UDP working", async () => {
    const [alice, bob] = [await startAgent("alice", { transport: "udp" }), await startAgent("bob", { transport: "udp" })];
    const { port } = addressOf(bob);
    const socket = createSocket("udp4");
    onTestFinished(() => void socket.close());
    for (const [, text] of GARBAGE) socket.send(text, port, "127.0.0.1");
    socket.send(Buffer.alloc(60_000, "x"), port, "127.0.0.1");
    await expect.poll(() => bob.transport.statistics.dropped).toBeGreaterThan(2);
    await callThrough(alice, bob, `sip:bob@127.0.0.1:${port}`);
    expect(bob.invitations.length).toBe(1);
  });

  it("ends the connection that it came by and no other", async () => {
    const [alice, bob] = [await startAgent("alice", { transport: "tcp" }), await startAgent("bob", { transport: "tcp" })];
    const { port } = addressOf(bob);
    const ended = await Promise.all(
      [
        "\x00".repeat(20_000),
        "INVITE sip:bob@x SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n",
        `BYE sip:b SIP/2.0\r\nCSeq: 1 BYE\r\nContent-Length: 999999\r\n\r\n`,
      ].map(
        (text) =>
          new Promise<boolean>((resolve) => {
            const socket = connect(port, "127.0.0.1", () => socket.write(text));
            socket.on("error", () => {});
            socket.once("close", () => resolve(true));
          }),
      ),
    );
    expect(ended).toEqual([true, true, true]);
    await callThrough(alice, bob, `sip:bob@127.0.0.1:${port}`);
  });

  it("answers keep-alives on a connection, and survives a peer that goes in the middle of a message", async () => {
    const bob = await startAgent("bob", { transport: "tcp" });
    const socket = connect(addressOf(bob).port, "127.0.0.1", () => socket.write("\r\n\r\n"));
    const answer = await new Promise<string>((resolve) => socket.once("data", (octets) => resolve(octets.toString())));
    expect(answer).toBe("\r\n");
    socket.write("INVITE sip:bob@x SIP/2.0\r\nVia: ");
    socket.destroy();
    await expect.poll(() => bob.transport.statistics.connections).toBe(0);
  });
});

/** A WebSocket server that hands each message to the other client. */
async function startRelay(): Promise<{ readonly url: string }> {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  const clients = new Set<WebSocket>();
  server.on("connection", (client) => {
    clients.add(client);
    client.on("message", (data) => {
      for (const other of clients) if (other !== client) other.send(String(data));
    });
    client.on("close", () => clients.delete(client));
  });
  await new Promise((resolve) => server.once("listening", resolve));
  onTestFinished(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
      }),
  );
  return { url: `ws://127.0.0.1:${(server.address() as { port: number }).port}` };
}
