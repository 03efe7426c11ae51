/** What strangers, and parties that behave badly, do to a user agent. */
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { type Inviter, SessionState } from "sip.js";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { WebSocket } from "ws";
import type { Endpoint } from "../../../src/io/index.js";
import { createToneSource, systemClock, systemTimers } from "../../../src/node/index.js";
import { type SipTransport, type SipTransportOptions, startSipUserAgent } from "../../../src/node/sip/index.js";
import type { MediaSource } from "../../../src/rtsp/index.js";
import { createPskSipKeying } from "../../../src/sip/index.js";
import { callTo, createSharedTime, createTestAgent, simulatedSockets, type TestAgent } from "./support.js";

const WAIT = { timeout: 10_000, interval: 10 };

async function startAgent(user: string, transport: Omit<SipTransportOptions, "onBound">): Promise<TestAgent> {
  const agent = createTestAgent({ user, transport, onInvite: (invitation) => void invitation.accept().catch(() => {}) });
  onTestFinished(() => agent.userAgent.stop());
  await agent.userAgent.start();
  return agent;
}

/** A user agent that is reached by TCP, in simulated time, and somebody's connection to it. */
async function connectedTo(peer: string) {
  const { network, advance } = createSharedTime();
  const bob = createTestAgent({
    user: "bob",
    transport: { transport: "tcp", local: { host: "bob", port: 5060 }, sockets: simulatedSockets(network, network.host("bob")) },
  });
  onTestFinished(async () => {
    const stopping = bob.userAgent.stop();
    await advance(4000);
    await stopping;
    vi.useRealTimers();
  });
  const starting = bob.userAgent.start();
  await advance(50);
  await starting;
  const connecting = network.host(peer).streams.connect({ host: "bob", port: 5060 }, { secure: false });
  await advance(50);
  return { bob, stream: await connecting, network, advance };
}

function addressOf({ transport }: { readonly transport: SipTransport }): Endpoint {
  if (transport.address === undefined) throw new Error("not bound");
  return transport.address;
}

/** A socket of somebody, and what came to it. */
async function udp(): Promise<{ readonly socket: UdpSocket; readonly port: number; readonly got: string[] }> {
  const socket = createSocket("udp4");
  onTestFinished(() => void socket.close());
  const got: string[] = [];
  socket.on("message", (octets) => got.push(String(octets)));
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  return { socket, port: socket.address().port, got };
}

function request(method: string, uri: string, headers: readonly string[]): string {
  return [`${method} ${uri} SIP/2.0`, "Max-Forwards: 70", ...headers, "Content-Length: 0", "", ""].join("\r\n");
}

function value(message: string, name: string): string {
  return new RegExp(`^${name}: (.*)$`, "m").exec(message)?.[1]?.trim() ?? "";
}

const IDENTITY = ["From: <sip:mallory@example.test>;tag=1", "To: <sip:bob@example.test>", "CSeq: 1 OPTIONS"];

describe("a stranger", () => {
  it("cannot have answers sent to somebody else: `received` is ours to say (RFC 3261 §18.2.1)", async () => {
    const bob = await startAgent("bob", { transport: "udp" });
    const [mallory, victim] = [await udp(), await udp()];
    const via = `SIP/2.0/UDP 127.0.0.1:${victim.port};branch=z9hG4bKr;received=127.0.0.2`;
    mallory.socket.send(
      request("OPTIONS", "sip:bob@127.0.0.1", [`Via: ${via}`, ...IDENTITY, "Call-ID: r"]),
      addressOf(bob).port,
      "127.0.0.1",
    );
    await expect.poll(() => victim.got.length, WAIT).toBe(1);
    expect(value(victim.got[0] as string, "Via")).not.toContain("127.0.0.2");
  });

  it("cannot bring control characters to a terminal or a log by a status line", async () => {
    const alice = await startAgent("alice", { transport: "udp" });
    const mallory = await udp();
    const call = callTo(alice, `sip:mallory@127.0.0.1:${mallory.port}`);
    await expect.poll(() => mallory.got.length, WAIT).toBeGreaterThan(0);
    const invite = mallory.got[0] as string;
    const { dropped } = alice.transport.statistics;
    const answer = (line: string): string =>
      [
        line,
        ...["Via", "From", "Call-ID", "CSeq"].map((name) => `${name}: ${value(invite, name)}`),
        `To: ${value(invite, "To")};tag=m`,
        "Content-Length: 0",
        "",
        "",
      ].join("\r\n");
    for (const line of ["SIP/2.0 486 \x1b[2J", "SIP/2.0 486 Busy\nX: y", "SIP/2.0 486 \x9b2J", "SIP/2.0 486 \x7f"])
      mallory.socket.send(answer(line), addressOf(alice).port, "127.0.0.1");
    await expect.poll(() => alice.transport.statistics.dropped, WAIT).toBe(dropped + 4);
    expect(call.state).toBe(SessionState.Establishing);
    mallory.socket.send(answer("SIP/2.0 486 Occupé"), addressOf(alice).port, "127.0.0.1");
    await expect.poll(() => call.state, WAIT).toBe(SessionState.Terminated);
  });

  it("does not get the requests of a dialog that came by another WebSocket", async () => {
    const bob = await startAgent("bob", { transport: "ws", local: { host: "127.0.0.1", port: 0 } });
    const { port } = addressOf(bob);
    const url = `ws://127.0.0.1:${port}`;
    const alice = await startAgent("alice", { transport: "ws", url });
    const call = callTo(alice, `sip:bob@127.0.0.1:${port};transport=ws`);
    await expect.poll(() => call.state, WAIT).toBe(SessionState.Established);
    await expect.poll(() => bob.invitations[0]?.state, WAIT).toBe(SessionState.Established);
    const mallory = new WebSocket(url, "sip");
    onTestFinished(() => mallory.terminate());
    const got: string[] = [];
    mallory.on("message", (data) => got.push(String(data)));
    await new Promise((resolve) => mallory.once("open", resolve));
    mallory.send(
      request("INVITE", `sip:bob@127.0.0.1:${port}`, [
        "Via: SIP/2.0/WS mallory.invalid;branch=z9hG4bKm",
        "From: <sip:mallory@example.test>;tag=m",
        "To: <sip:bob@example.test>",
        `Call-ID: ${call.request.callId}`,
        "CSeq: 1 INVITE",
        "Contact: <sip:mallory@mallory.invalid;transport=ws>",
      ]),
    );
    await expect.poll(() => bob.invitations.length, WAIT).toBe(2);
    await bob.invitations[0]?.bye();
    await expect.poll(() => call.state, WAIT).toBe(SessionState.Terminated);
    expect(got.filter((message) => message.startsWith("BYE"))).toEqual([]);
  });

  it("does not occupy connections without a word for longer than a message may take", async () => {
    const { bob, stream, advance } = await connectedTo("mallory");
    stream.onData = () => {};
    // Keep-alives are no message.
    for (let second = 0; second < 40; second++) {
      stream.write(new TextEncoder().encode("\r\n\r\n"));
      await advance(1000);
    }
    expect(bob.transport.statistics.connections).toBe(0);
  });
});

describe("a connection", () => {
  it("by which nobody calls is not kept for a request, whatever keep-alives come", async () => {
    const { bob, stream, advance } = await connectedTo("peer");
    stream.onData = () => {};
    const options = request("OPTIONS", "sip:bob@bob", ["Via: SIP/2.0/TCP peer;branch=z9hG4bKo", ...IDENTITY, "Call-ID: o"]);
    stream.write(new TextEncoder().encode(options));
    for (const connections of [1, 0]) {
      for (let second = 0; second < 20; second++) {
        stream.write(new TextEncoder().encode("\r\n\r\n"));
        await advance(1000);
      }
      expect(bob.transport.statistics.connections).toBe(connections);
    }
  });

  it("by which a call was taken is kept", async () => {
    const { bob, stream, network, advance } = await connectedTo("peer");
    stream.end();
    const sockets = simulatedSockets(network, network.host("alice"));
    const alice = createTestAgent({
      user: "alice",
      transport: { transport: "tcp", local: { host: "alice", port: 5060 }, sockets },
    });
    const starting = alice.userAgent.start();
    await advance(50);
    await starting;
    callTo(alice, "sip:bob@bob:5060;transport=tcp");
    await advance(60_000);
    expect(bob.transport.statistics.connections).toBe(1);
    const stopping = alice.userAgent.stop();
    await advance(4000);
    await stopping;
  });

  it("is not cut because one message begins before another has ended, for however long", async () => {
    const { bob, stream, advance } = await connectedTo("peer");
    const answers: string[] = [];
    stream.onData = (octets) => void answers.push(new TextDecoder().decode(octets));
    const message = (n: number): string =>
      request("OPTIONS", "sip:bob@bob", [`Via: SIP/2.0/TCP peer;branch=z9hG4bK${n}`, ...IDENTITY, `Call-ID: o${n}`]);
    // The end of each and the beginning of the next arrive together.
    for (let n = 0; n < 45; n++) {
      const [before, own] = [n === 0 ? "" : message(n - 1).slice(20), message(n).slice(0, 20)];
      stream.write(new TextEncoder().encode(before + own));
      await advance(1000);
    }
    expect(bob.transport.statistics.connections).toBe(1);
    expect(answers.join("").match(/^SIP\/2\.0 200/gm)?.length).toBe(44);
  });
});

const PSK = new Uint8Array(32).fill(7);

describe("a party", () => {
  const telephone = (name: string, trace?: (direction: string, message: string) => void) =>
    startSipUserAgent({
      address: `sip:${name}@127.0.0.1:0`,
      transport: { transport: "udp", ...(trace === undefined ? {} : { trace }) },
      keying: (uri) => createPskSipKeying({ uri, keys: { find: () => PSK }, clock: systemClock, timers: systemTimers }),
      onCall: (ringing) => void ringing.accept({ source: mute() }).catch(() => {}),
      mediaTimeout: 100,
    });
  /** A source that says what it will send, and sends nothing. */
  const mute = (): MediaSource => ({
    tracks: createToneSource().tracks,
    onRtp: undefined,
    onRtcp: undefined,
    start: () => Promise.resolve(),
    stop: () => {},
  });

  it("that has gone without a word does not hold a call for ever", async () => {
    const [alice, bob] = [await telephone("alice"), await telephone("bob")];
    onTestFinished(() => Promise.all([alice.close(), bob.close()]).then(() => {}));
    const call = await alice.call(bob.uri, { source: mute() });
    const end = await call.ended;
    // Both notice; who is first says so to the other.
    if (end.by === "failure") expect(end.error).toMatchObject({ code: "node.sip-media-timeout" });
    else expect(end).toMatchObject({ by: "remote", proof: "verified" });
    await expect.poll(() => bob.calls, WAIT).toEqual([]);
  });

  it("cannot make us call somebody by REFER", async () => {
    const sent: string[] = [];
    const bob = await telephone("bob");
    const alice = await telephone("alice", (direction, message) => direction === "sent" && sent.push(message));
    onTestFinished(() => Promise.all([alice.close(), bob.close()]).then(() => {}));
    await alice.call(bob.uri);
    const ack = sent.find((message) => message.startsWith("ACK ")) as string;
    const [mallory, victim] = [await udp(), await udp()];
    mallory.socket.send(
      request("REFER", ack.split(" ")[1] as string, [
        `Via: SIP/2.0/UDP 127.0.0.1:${mallory.port};branch=z9hG4bKrefer`,
        ...["From", "To", "Call-ID"].map((name) => `${name}: ${value(ack, name)}`),
        "CSeq: 2 REFER",
        `Contact: <sip:alice@127.0.0.1:${mallory.port}>`,
        `Refer-To: <sip:victim@127.0.0.1:${victim.port}>`,
      ]),
      bob.address?.port as number,
      "127.0.0.1",
    );
    await expect.poll(() => mallory.got.length, WAIT).toBeGreaterThan(0);
    expect(mallory.got[0]).toMatch(/^SIP\/2\.0 603 /);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(victim.got).toEqual([]);
  });

  it("that rings and never says more is given up, CANCEL or not", async () => {
    const alice = await telephone("alice");
    onTestFinished(() => alice.close());
    const mute = await udp();
    mute.socket.on("message", (octets, from) => {
      const text = String(octets);
      if (!/^(INVITE|CANCEL) /.test(text)) return;
      const line = text.startsWith("INVITE") ? "SIP/2.0 180 Ringing" : "SIP/2.0 200 OK";
      const headers = ["Via", "From", "Call-ID", "CSeq"].map((name) => `${name}: ${value(text, name)}`);
      const answer = [line, ...headers, `To: ${value(text, "To")};tag=m`, "Content-Length: 0", "", ""].join("\r\n");
      mute.socket.send(answer, from.port, from.address);
    });
    const calling = alice.call(`sip:mute@127.0.0.1:${mute.port}`, { ringTime: 300 });
    await expect(calling).rejects.toMatchObject({ code: "node.sip-call", message: "the other party does not answer" });
    expect(mute.got.some((message) => message.startsWith("CANCEL "))).toBe(true);
    expect(alice.calls).toEqual([]);
  });
});

describe("a cancelled INVITE", () => {
  it("that is never answered is over after 64 T1 (RFC 3261 §9.1)", async () => {
    const { network, advance } = createSharedTime();
    onTestFinished(() => void vi.useRealTimers());
    const host = network.host("alice");
    const alice = createTestAgent({
      user: "alice",
      transport: { transport: "udp", local: { host: "alice", port: 5060 }, sockets: simulatedSockets(network, host) },
    });
    const bobHost = network.host("bob");
    const socket = await bobHost.datagrams.bind({ host: "bob", port: 5060 });
    socket.onDatagram = (octets, from) => {
      const text = new TextDecoder().decode(octets);
      if (!text.startsWith("INVITE ")) return;
      const headers = ["Via", "From", "Call-ID", "CSeq"].map((name) => `${name}: ${value(text, name)}`);
      const answer = ["SIP/2.0 180 Ringing", ...headers, `To: ${value(text, "To")};tag=m`, "Content-Length: 0", "", ""].join(
        "\r\n",
      );
      socket.send(new TextEncoder().encode(answer), from);
    };
    const starting = alice.userAgent.start();
    await advance(50);
    await starting;
    const call: Inviter = callTo(alice, "sip:bob@bob");
    await advance(1000);
    expect(call.state).toBe(SessionState.Establishing);
    void call.cancel();
    await advance(31_000);
    expect(call.state).toBe(SessionState.Terminating);
    await advance(2000);
    expect(call.state).toBe(SessionState.Terminated);
    expect(alice.userAgent.userAgentCore.userAgentClients.size).toBe(0);
    socket.close();
    const stopping = alice.userAgent.stop();
    await advance(4000);
    await stopping;
  });
});
