import { afterEach, describe, expect, it, vi } from "vitest";
import { utf8 } from "../../../src/bytes/index.js";
import type { Datagrams } from "../../../src/io/index.js";
import { Registration, type RegistrationEvent } from "../../../src/node/sip/index.js";
import { createSharedTime, createTestAgent, type Loss, simulatedSockets } from "./support.js";

afterEach(() => vi.useRealTimers());

/** Seconds that the registrar grants; sip.js renews after four fifths. */
const GRANTED = 20;

/** What a registrar answers to a REGISTER: a status, or header lines of a 200; nothing where it is silent. */
type Answer = { readonly status: number; readonly headers?: readonly string[] } | "granted" | "silent";

/** A telephone and its registrar on a simulated network. Times of the telephone's events are in seconds. */
async function scene(lose: Loss = () => false) {
  const { network, advance } = createSharedTime();
  const telephone = createTestAgent({
    user: "alice",
    transport: {
      transport: "udp",
      local: { host: "alice", port: 5060 },
      sockets: simulatedSockets(network, network.host("alice")),
    },
    lose,
    agent: { preloadedRouteSet: ["<sip:registrar:5060;lr>"] },
  });
  const asked: string[] = [];
  const registrar = { answer: "granted" as Answer, asked };
  const socket: Datagrams = await network.host("registrar").datagrams.bind({ host: "registrar", port: 5060 });
  const answered = new Map<string, Uint8Array>();
  socket.onDatagram = (octets, from) => {
    const text = new TextDecoder().decode(octets);
    const cseq = text.match(/^(?:CSeq|Call-ID): .*$/gm)?.join() ?? "";
    if (!text.startsWith("REGISTER")) return;
    if (!answered.has(cseq)) asked.push(text);
    if (registrar.answer === "silent") return;
    const header = (name: string): string => new RegExp(`^${name}: .*$`, "im").exec(text)?.[0].trim() ?? "";
    const { status, headers = [] } =
      registrar.answer === "granted"
        ? { status: 200, headers: [header("Contact").replace(/;expires=\d+/, `;expires=${/expires=0/.test(text) ? 0 : GRANTED}`)] }
        : registrar.answer;
    const lines = [`SIP/2.0 ${status} x`, ...["Via", "From", "Call-ID", "CSeq"].map(header), `${header("To")};tag=r`, ...headers];
    const answer = answered.get(cseq) ?? utf8(`${lines.join("\r\n")}\r\nContent-Length: 0\r\n\r\n`);
    answered.set(cseq, answer);
    socket.send(answer, from);
  };
  const started = telephone.userAgent.start();
  await advance(50);
  await started;
  const events: RegistrationEvent[] = [];
  const { timers } = network;
  const registration = new Registration({
    userAgent: telephone.userAgent,
    timers,
    // The shortest wait.
    random: { bytes: (length) => new Uint8Array(length) },
    onEvent: (event) => events.push(event),
  });
  const begin = async (): Promise<unknown> => {
    const outcome = registration.begin().then(
      () => "registered",
      (error: { code?: string }) => error.code,
    );
    await advance(500);
    return Promise.race([outcome, Promise.resolve("waiting")]);
  };
  return { telephone, registrar, registration, events, begin, advance };
}

const failed = (code: string, seconds: number) => ({ state: "failed", error: { code }, retryIn: 1000 * seconds });

describe("a registration", () => {
  it("that is refused the first time is not tried again", async () => {
    const { registrar, events, begin, advance } = await scene();
    registrar.answer = { status: 403 };
    expect(await begin()).toBe("node.sip-status-403");
    await advance(70_000);
    expect([registrar.asked.length, events]).toEqual([1, []]);
  });

  it("is renewed before it ends, and taken back at the end", async () => {
    const { registrar, registration, events, begin, advance } = await scene();
    expect(await begin()).toBe("registered");
    await advance(17_000);
    expect([registrar.asked.length, events]).toEqual([2, []]);
    const closing = registration.close();
    await advance(500);
    await closing;
    expect(registrar.asked.at(-1)).toMatch(/^Contact: .*;expires=0/m);
    await advance(40_000);
    expect(registrar.asked).toHaveLength(3);
  });

  it("that is not renewed says so, and is tried again, less and less often, until it stands", async () => {
    const { registrar, events, begin, advance } = await scene();
    await begin();
    registrar.answer = { status: 500 };
    await advance(17_000);
    expect(events).toMatchObject([failed("node.sip-status-500", 30)]);
    await advance(31_000);
    expect(events.slice(1)).toMatchObject([failed("node.sip-status-500", 60)]);
    registrar.answer = "granted";
    await advance(61_000);
    expect(events.slice(2)).toEqual([{ state: "registered" }]);
    // Renewals go on, and the next failure counts from the start.
    registrar.answer = { status: 503, headers: ["Retry-After: 45"] };
    await advance(17_000);
    expect(events.slice(3)).toMatchObject([failed("node.sip-status-503", 45)]);
  });

  it.each([
    ["does not answer", "silent", "node.sip-register"],
    ["forgets Contact", { status: 200 }, "node.sip-register"],
    ["sends elsewhere", { status: 302, headers: ["Contact: <sip:x@y>"] }, "node.sip-status-302"],
  ] as const)("whose registrar %s stands again after it", async (_what, answer, code) => {
    const { registrar, events, begin, advance } = await scene();
    await begin();
    registrar.answer = answer;
    await advance(49_000);
    expect(events[0]).toMatchObject({ state: "failed", error: { code } });
    registrar.answer = "granted";
    await advance(120_000);
    expect(events.at(-1)).toEqual({ state: "registered" });
  });

  it("is made anew where the connection was lost", async () => {
    const { telephone, registrar, registration, events, begin, advance } = await scene();
    await begin();
    const gone = telephone.transport.disconnect();
    await advance(50);
    await gone;
    registration.disconnected(new Error("gone"));
    expect(events).toMatchObject([failed("node.sip-register", 30)]);
    await advance(31_000);
    expect(events.at(-1)).toEqual({ state: "registered" });
    expect(registrar.asked.length).toBeGreaterThan(1);
  });
});
