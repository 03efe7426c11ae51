import { SessionState } from "sip.js";
import { afterEach, describe, expect, it, vi } from "vitest";
import {
  callTo,
  createSharedTime,
  createTestAgent,
  descriptionOf,
  hangUp,
  type Loss,
  simulatedSockets,
  type TestAgent,
} from "./support.js";

afterEach(() => {
  vi.useRealTimers();
});

interface Pair {
  readonly alice: TestAgent;
  readonly bob: TestAgent;
  advance(milliseconds: number): Promise<void>;
  open(): { readonly datagrams: number; readonly streams: number };
}

async function createPair(
  lose: Loss,
  options: { readonly refuse?: boolean; readonly sdp?: string; readonly seed?: number; readonly ring?: number } = {},
): Promise<Pair> {
  const { network, advance } = createSharedTime(options.seed);
  const hosts = [network.host("alice"), network.host("bob")] as const;
  const transport = (index: 0 | 1) => ({
    transport: "udp" as const,
    local: { host: hosts[index].name, port: 5060 },
    sockets: simulatedSockets(network, hosts[index]),
  });
  const sdp = options.sdp === undefined ? {} : { sdp: options.sdp };
  const alice = createTestAgent({ user: "alice", transport: transport(0), lose, ...sdp });
  const bob = createTestAgent({
    user: "bob",
    transport: transport(1),
    lose,
    ...sdp,
    onInvite: (invitation) => {
      if (options.refuse === true) void invitation.reject({ statusCode: 486 });
      else if (options.ring === undefined) void invitation.accept();
      else setTimeout(() => void invitation.accept(), options.ring);
    },
  });
  const started = [alice.userAgent.start(), bob.userAgent.start()];
  await advance(50);
  await Promise.all(started);
  return {
    alice,
    bob,
    advance,
    open: () => {
      const [a, b] = hosts;
      return { datagrams: a.open.datagrams + b.open.datagrams, streams: a.open.streams + b.open.streams };
    },
  };
}

/** Loses the first message that a pattern matches. */
function losingFirst(pattern: RegExp, times = 1): Loss & { readonly lost: () => number } {
  let lost = 0;
  const lose = (message: string): boolean => {
    if (lost >= times || !pattern.test(message)) return false;
    lost++;
    return true;
  };
  return Object.assign(lose, { lost: () => lost });
}

async function stop({ alice, bob, advance, open }: Pair): Promise<void> {
  const stopping = [alice.userAgent.stop(), bob.userAgent.stop()];
  await advance(4000);
  await Promise.all(stopping);
  expect(open()).toEqual({ datagrams: 0, streams: 0 });
}

const OF_A_CALL: readonly (readonly [string, RegExp])[] = [
  ["INVITE", /^INVITE /],
  ["100", /^SIP\/2\.0 100 /],
  ["180", /^SIP\/2\.0 180 /],
  ["200 to INVITE", /^SIP\/2\.0 200 [\s\S]*CSeq: 1 INVITE/],
  ["ACK", /^ACK /],
  ["re-INVITE", /^INVITE [\s\S]*CSeq: 2 INVITE/],
  ["200 to re-INVITE", /^SIP\/2\.0 200 [\s\S]*CSeq: 2 INVITE/],
  ["ACK to re-INVITE", /^ACK [\s\S]*CSeq: 2 ACK/],
  ["BYE", /^BYE /],
  ["200 to BYE", /^SIP\/2\.0 200 [\s\S]*CSeq: 3 BYE/],
];

describe("a call over UDP that loses messages", () => {
  it.each(OF_A_CALL.flatMap(([name, pattern]) => [1, 3].map((times) => ({ name, pattern, times }))))(
    "survives the loss of $name, $times times",
    async ({ pattern, times }) => {
      const lose = losingFirst(pattern, times);
      const pair = await createPair(lose);
      const { alice, bob, advance } = pair;
      const call = callTo(alice, "sip:bob@bob");
      await advance(16_000);
      expect(call.state).toBe(SessionState.Established);
      expect(bob.invitations.map(({ state }) => state)).toEqual([SessionState.Established]);

      await call.invite();
      await advance(16_000);
      expect(alice.descriptions.length).toBe(2);
      expect(bob.descriptions.length).toBe(2);

      const answer = hangUp(call);
      await advance(16_000);
      expect(await answer).toBe("good bye");
      expect(bob.byes).toEqual(["over"]);
      expect(lose.lost()).toBeGreaterThan(0);
      await stop(pair);
    },
  );

  it.each([
    ["INVITE", /^INVITE /],
    ["486", /^SIP\/2\.0 486 /],
    ["ACK", /^ACK /],
  ] as const)("survives the loss of %s where the call is refused", async (_name, pattern) => {
    const lose = losingFirst(pattern, 2);
    const pair = await createPair(lose, { refuse: true });
    const call = callTo(pair.alice, "sip:bob@bob");
    await pair.advance(20_000);
    expect(call.state).toBe(SessionState.Terminated);
    // The refusal was acknowledged: it is not repeated any more, and no second call has appeared.
    const refusals = pair.bob.sent.filter((message) => message.startsWith("SIP/2.0 486")).length;
    await pair.advance(20_000);
    expect(pair.bob.sent.filter((message) => message.startsWith("SIP/2.0 486")).length).toBe(refusals);
    expect(pair.bob.invitations.length).toBe(1);
    expect(lose.lost()).toBe(2);
    await stop(pair);
  });

  it.each([
    ["CANCEL", /^CANCEL /],
    ["200 to CANCEL", /^SIP\/2\.0 200 [\s\S]*CSeq: 1 CANCEL/],
    ["487", /^SIP\/2\.0 487 /],
    ["ACK to 487", /^ACK /],
  ] as const)("survives the loss of %s where the caller gives up", async (_name, pattern) => {
    const lose = losingFirst(pattern, 2);
    const pair = await createPair(lose, { ring: 1_000_000 });
    const call = callTo(pair.alice, "sip:bob@bob");
    await pair.advance(1000);
    expect(call.state).toBe(SessionState.Establishing);
    void call.cancel();
    await pair.advance(30_000);
    expect(call.state).toBe(SessionState.Terminated);
    expect(pair.bob.invitations.map(({ state }) => state)).toEqual([SessionState.Terminated]);
    expect(lose.lost()).toBe(2);
    await stop(pair);
  });

  it("answers each repeated BYE with the same octets and tells the application once", async () => {
    const lose = losingFirst(/^SIP\/2\.0 200 [\s\S]*CSeq: 2 BYE/, 4);
    const pair = await createPair(lose);
    const call = callTo(pair.alice, "sip:bob@bob");
    await pair.advance(2000);
    const answer = hangUp(call);
    await pair.advance(20_000);
    expect(await answer).toBe("good bye");
    const answers = pair.bob.sent.filter((message) => /^SIP\/2\.0 200 [\s\S]*CSeq: 2 BYE/.test(message));
    expect(answers.length).toBe(5);
    expect(new Set(answers).size).toBe(1);
    expect(pair.bob.byes.length).toBe(1);
    await stop(pair);
  });

  it("gives an INVITE up after 64 T1, having sent it seven times with doubling intervals", async () => {
    const pair = await createPair((message) => message.startsWith("INVITE "));
    const call = callTo(pair.alice, "sip:bob@bob");
    await pair.advance(40_000);
    expect(call.state).toBe(SessionState.Terminated);
    expect(pair.alice.sent.filter((message) => message.startsWith("INVITE ")).length).toBe(7);
    await stop(pair);
  });

  it.each([1, 2, 3, 4, 5])("comes through a network that loses a fifth and doubles a tenth, seed %i", async (seed) => {
    const { network, advance } = createSharedTime(seed);
    network.setLink({ loss: 0.2, duplicate: 0.1, jitter: 30 });
    const hosts = [network.host("alice"), network.host("bob")] as const;
    const [alice, bob] = hosts.map((host) =>
      createTestAgent({
        user: host.name,
        transport: { transport: "udp", local: { host: host.name, port: 5060 }, sockets: simulatedSockets(network, host) },
      }),
    ) as [TestAgent, TestAgent];
    const started = [alice.userAgent.start(), bob.userAgent.start()];
    await advance(100);
    await Promise.all(started);
    for (let round = 0; round < 5; round++) {
      const call = callTo(alice, "sip:bob@bob");
      await advance(15_000);
      expect(call.state).toBe(SessionState.Established);
      const answer = hangUp(call);
      await advance(15_000);
      expect(await answer).toBe("good bye");
    }
    expect(bob.invitations.length).toBe(5);
    expect(bob.byes.length).toBe(5);
  });
});

describe("requests over 1300 octets", () => {
  it("go by TCP, as do their CANCEL and the answers", async () => {
    const pair = await createPair(() => false, { sdp: descriptionOf(1200) });
    const call = callTo(pair.alice, "sip:bob@bob");
    await pair.advance(1000);
    expect(call.state).toBe(SessionState.Established);
    expect(pair.alice.sent.filter((message) => message.startsWith("INVITE "))).toEqual([]);
    expect(pair.bob.sent).toEqual([]);
    expect(pair.alice.transport.statistics.connections).toBe(1);
    // The ACK and the BYE are small.
    expect(pair.alice.sent.map((message) => message.split(" ")[0])).toEqual(["ACK"]);
    const answer = hangUp(call);
    await pair.advance(1000);
    expect(await answer).toBe("good bye");
    await stop(pair);
  });

  it("go by UDP where the peer does not take TCP", async () => {
    const { network, advance } = createSharedTime();
    const [a, b] = [network.host("alice"), network.host("bob")];
    const deaf = {
      ...simulatedSockets(network, b),
      listen: (local: { host: string; port: number }) => Promise.resolve({ local, close: () => Promise.resolve() }),
    };
    const alice = createTestAgent({
      user: "alice",
      sdp: descriptionOf(1200),
      transport: { transport: "udp", local: { host: "alice", port: 5060 }, sockets: simulatedSockets(network, a) },
    });
    const bob = createTestAgent({
      user: "bob",
      transport: { transport: "udp", local: { host: "bob", port: 5060 }, sockets: deaf },
    });
    const started = [alice.userAgent.start(), bob.userAgent.start()];
    await advance(50);
    await Promise.all(started);
    const call = callTo(alice, "sip:bob@bob");
    await advance(2000);
    expect(call.state).toBe(SessionState.Established);
    expect(alice.sent.filter((message) => message.startsWith("INVITE ")).length).toBe(1);
    expect(bob.descriptions).toEqual([descriptionOf(1200)]);
  });
});
