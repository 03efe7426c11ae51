/**
 * `npm run soak:sip -- [--calls N] [--at-once N] [--transport udp|tcp]`: two user agents over loopback; every call is set up, talks, gets
 * new keys, and is torn down with a proof. Says what memory and sockets do, and exits with 1 where a call fails, memory grows or a socket
 * stays.
 */
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { utf8 } from "../../../src/bytes/index.js";
import { createReplayCache } from "../../../src/mikey/index.js";
import { createToneSource, systemClock, systemTimers } from "../../../src/node/index.js";
import { type CallEnd, type SipCall, type SipUserAgent, startSipUserAgent } from "../../../src/node/sip/index.js";
import { createPskSipKeying } from "../../../src/sip/index.js";

export interface SipSoakOptions {
  readonly calls: number;
  /** Calls at a time. */
  readonly atOnce: number;
  readonly transport?: "udp" | "tcp";
  /** Milliseconds to wait before memory is measured: sip.js remembers transactions for 32 s. */
  readonly settle: number;
  readonly say?: (line: string) => void;
}

export interface SipSoakResult {
  /** Calls that stood, were rekeyed, and whose end both sides proved to each other. */
  readonly good: number;
  /** Packets that came, over both sides. */
  readonly packets: number;
  readonly lost: number;
  readonly refused: number;
  readonly failures: readonly string[];
  /** Octets of heap in use before and after; undefined where the collector cannot be asked (`--expose-gc`). */
  readonly heap: { readonly before: number | undefined; readonly after: number | undefined };
  /** Sockets of the process: without calls before, and after, and when both agents are closed. */
  readonly sockets: { readonly before: number; readonly after: number; readonly closed: number };
  readonly seconds: number;
}

const PSK = utf8("a key for as many calls as you like");
/** Milliseconds that a call talks before and after its rekey. */
const TALK = 150;

interface Party {
  readonly agent: SipUserAgent;
  readonly ends: Map<string, Promise<CallEnd>>;
}

async function startParty(name: string, transport: "udp" | "tcp"): Promise<Party> {
  const ends = new Map<string, Promise<CallEnd>>();
  const agent = await startSipUserAgent({
    address: `sip:${name}@127.0.0.1:0`,
    transport: { transport },
    keying: (uri) =>
      createPskSipKeying({
        uri,
        keys: { find: () => PSK },
        clock: systemClock,
        timers: systemTimers,
        // A replay cache grows up to its capacity, on purpose; full from the start it does not hide a leak.
        replayCache: createReplayCache({ capacity: 64 }),
      }),
    onCall: (ringing) =>
      void ringing.accept({ source: createToneSource() }).then((call) => ends.set(call.keys?.fingerprint ?? "", call.ended)),
  });
  return { agent, ends };
}

export async function soakSip({
  calls,
  atOnce,
  transport = "udp",
  settle,
  say = () => {},
}: SipSoakOptions): Promise<SipSoakResult> {
  const [alice, bob] = [await startParty("alice", transport), await startParty("bob", transport)];
  const counts = { good: 0, packets: 0, lost: 0, refused: 0 };
  const failures: string[] = [];

  const talk = async (): Promise<void> => {
    const call = await alice.agent.call(bob.agent.uri, { source: createToneSource() });
    const first = call.keys?.fingerprint ?? "";
    await delay(TALK);
    await call.rekey();
    await delay(TALK);
    const end = await call.hangUp();
    const other = await bob.ends.get(first);
    bob.ends.delete(first);
    if (end.proof !== "verified" || other?.proof !== "verified") throw new Error(`proofs: ${end.proof}, ${other?.proof ?? "none"}`);
    if (call.rekeys !== 1) throw new Error(`${call.rekeys} rekeys`);
    count(call);
    counts.good++;
  };
  const count = ({ statistics }: SipCall): void => {
    for (const { packets, lost, refused } of statistics) {
      counts.packets += packets;
      counts.lost += lost;
      counts.refused += refused;
    }
  };
  const batch = async (number: number): Promise<void> => {
    let left = number;
    const worker = async (): Promise<void> => {
      while (left-- > 0) {
        await talk().catch((error: unknown) => failures.push(error instanceof Error ? error.message : String(error)));
        if (left > 0 && left % 50 === 0) say(`${left} calls to go`);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
  };

  // Connections, caches and compiled code come with the first calls.
  await batch(Math.ceil(calls / 4));
  await delay(settle);
  const heapBefore = heap();
  const before = openSockets();
  const warm = { ...counts };
  const started = performance.now();
  await batch(calls);
  const seconds = (performance.now() - started) / 1000;
  await delay(settle);
  const heapAfter = heap();
  const after = openSockets();
  await Promise.all([alice.agent.close(), bob.agent.close()]);
  await delay(50);
  return {
    good: counts.good - warm.good,
    packets: counts.packets - warm.packets,
    lost: counts.lost,
    refused: counts.refused,
    failures,
    heap: { before: heapBefore, after: heapAfter },
    sockets: { before, after, closed: openSockets() },
    seconds,
  };
}

function heap(): number | undefined {
  const { gc } = globalThis;
  if (gc === undefined) return undefined;
  gc();
  gc();
  return process.memoryUsage().heapUsed;
}

function openSockets(): number {
  return process.getActiveResourcesInfo().filter((name) => /UDPWrap|TCP/i.test(name)).length;
}

/** What is wrong with a result. */
export function sipFaults(result: SipSoakResult, calls: number): string[] {
  const { heap: memory, sockets } = result;
  const grown = memory.before === undefined || memory.after === undefined ? 0 : memory.after - memory.before;
  return [
    ...result.failures,
    ...(result.good === calls ? [] : [`${result.good} of ${calls} calls were good`]),
    ...(result.lost === 0 && result.refused === 0 ? [] : [`${result.lost} packets lost, ${result.refused} refused`]),
    // Less than two kilobytes a call: no call leaves anything behind.
    ...(grown < calls * 2048 + 1_000_000 ? [] : [`memory grew by ${grown} octets`]),
    ...(sockets.after <= sockets.before ? [] : [`${sockets.after - sockets.before} sockets stayed`]),
    ...(sockets.closed === 0 ? [] : [`${sockets.closed} sockets are open after the end`]),
  ];
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const { values } = parseArgs({
    options: {
      calls: { type: "string", default: "500" },
      "at-once": { type: "string", default: "10" },
      transport: { type: "string", default: "udp" },
    },
  });
  const calls = Number(values.calls);
  const transport = values.transport === "tcp" ? "tcp" : "udp";
  const result = await soakSip({
    calls,
    atOnce: Number(values["at-once"]),
    transport,
    settle: 40_000,
    say: (line) => console.log(line),
  });
  console.log(result);
  const faults = sipFaults(result, calls);
  for (const fault of faults) console.error(fault);
  process.exitCode = faults.length === 0 ? 0 : 1;
}
