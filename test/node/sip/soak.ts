/**
 * `npm run soak:sip -- [--calls N] [--rounds N] [--at-once N] [--transport udp|tcp]`: two user agents over loopback; every call is set up,
 * talks, gets new keys, and is torn down with a proof. Says after every round what memory and sockets do, and exits with 1 where a call
 * fails, something is left of a call, or a socket stays.
 */
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { queryObjects } from "node:v8";
import { utf8 } from "../../../src/bytes/index.js";
import { createReplayCache } from "../../../src/mikey/index.js";
import { createToneSource, steadyClock, systemClock, systemTimers } from "../../../src/node/index.js";
import { type CallEnd, type SipCall, type SipUserAgent, startSipUserAgent } from "../../../src/node/sip/index.js";
import type { MediaSource } from "../../../src/rtsp/index.js";
import { createPskSipKeying } from "../../../src/sip/index.js";

export interface SipSoakOptions {
  readonly calls: number;
  /** Memory is measured after each. Default 1. */
  readonly rounds?: number;
  /** Calls at a time. */
  readonly atOnce: number;
  readonly transport?: "udp" | "tcp";
  /** Milliseconds to wait before memory is measured: sip.js remembers transactions for 32 s. 0: memory is not measured. */
  readonly settle: number;
  readonly say?: (line: string) => void;
}

export interface SipSoakResult {
  /** Calls that stood, were rekeyed, and whose end both sides proved to each other. */
  readonly good: number;
  /** Packets that came to the caller. */
  readonly packets: number;
  readonly lost: number;
  /** Of those, the ones that came long before the answer, on a machine that stood still: more than a call keeps for its keys. */
  readonly early: number;
  readonly refused: number;
  readonly failures: readonly string[];
  /** Before the first round, and after each; empty where it was not measured. */
  readonly memory: readonly SipSoakMemory[];
  /** Sockets of the process: without calls before, and after, and when both agents are closed. */
  readonly sockets: { readonly before: number; readonly after: number; readonly closed: number };
  readonly seconds: number;
}

/** What is in use after a collection. */
export interface SipSoakMemory {
  /** Calls that were over by then, those of the warm-up included. */
  readonly calls: number;
  /** Octets of heap: code that was compiled meanwhile is among them. */
  readonly heap: number;
  /** Octets outside of the heap. */
  readonly buffers: number;
  /** Objects of any kind. A call that leaves something behind leaves at least one. */
  readonly objects: number;
}

const PSK = utf8("a key for as many calls as you like");
/** Milliseconds that the clock of a source goes on by at most: one that has slept for a second skips frames, which would look like loss. */
const LONGEST_STEP = 500;
/** Milliseconds that a call talks before and after its rekey. */
const TALK = 150;

interface Party {
  readonly agent: SipUserAgent;
  readonly ends: Map<string, Promise<CallEnd>>;
}

/** The tone, however long the machine stands still. */
function tone(): MediaSource {
  let [last, lag] = [steadyClock.now(), 0];
  const now = (): number => {
    const passed = steadyClock.now() - lag - last;
    lag += Math.max(0, passed - LONGEST_STEP);
    last += Math.min(passed, LONGEST_STEP);
    return last;
  };
  return createToneSource({ steady: { now } });
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
    onCall: (ringing) => void ringing.accept({ source: tone() }).then((call) => ends.set(call.keys?.fingerprint ?? "", call.ended)),
  });
  return { agent, ends };
}

export async function soakSip({
  calls,
  rounds = 1,
  atOnce,
  transport = "udp",
  settle,
  say = () => {},
}: SipSoakOptions): Promise<SipSoakResult> {
  const [alice, bob] = [await startParty("alice", transport), await startParty("bob", transport)];
  const counts = { good: 0, packets: 0, lost: 0, early: 0, refused: 0 };
  const failures: string[] = [];

  const talk = async (): Promise<void> => {
    const call = await alice.agent.call(bob.agent.uri, { source: tone() });
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
    for (const { packets, lost, early, refused } of statistics) {
      counts.packets += packets;
      counts.lost += lost;
      counts.early += early;
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

  const memory: SipSoakMemory[] = [];
  const measure = async (): Promise<void> => {
    if (settle === 0) return;
    await delay(settle);
    const now = memoryInUse(counts.good);
    memory.push(now);
    say(`after ${now.calls} calls: heap ${now.heap}, buffers ${now.buffers}, ${now.objects} objects, ${openSockets()} sockets`);
  };

  // Connections, caches and compiled code come with the first calls.
  await batch(Math.ceil(calls / 4));
  await measure();
  const before = openSockets();
  const warm = { ...counts };
  let seconds = 0;
  for (let round = 1; round <= rounds; round++) {
    const started = performance.now();
    await batch(Math.floor((calls * round) / rounds) - Math.floor((calls * (round - 1)) / rounds));
    seconds += (performance.now() - started) / 1000;
    await measure();
  }
  const after = openSockets();
  await Promise.all([alice.agent.close(), bob.agent.close()]);
  await delay(50);
  return {
    good: counts.good - warm.good,
    packets: counts.packets - warm.packets,
    lost: counts.lost,
    early: counts.early,
    refused: counts.refused,
    failures,
    memory,
    sockets: { before, after, closed: openSockets() },
    seconds,
  };
}

/** Counting objects collects the garbage first. */
function memoryInUse(calls: number): SipSoakMemory {
  const objects = queryObjects(Object, { format: "count" });
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return { calls, heap: heapUsed, buffers: arrayBuffers, objects };
}

function openSockets(): number {
  return process.getActiveResourcesInfo().filter((name) => /UDPWrap|TCP/i.test(name)).length;
}

/** What is wrong with a result. */
export function sipFaults(result: SipSoakResult, calls: number): string[] {
  const { memory, sockets } = result;
  const grown = (what: keyof SipSoakMemory): number => (memory.at(-1)?.[what] ?? 0) - (memory[0]?.[what] ?? 0);
  return [
    ...result.failures,
    ...(result.good === calls ? [] : [`${result.good} of ${calls} calls were good`]),
    ...(result.lost <= result.early ? [] : [`${result.lost} packets lost, of which ${result.early} came before the keys`]),
    // A port goes to the next call, or to another program, while somebody may still send to who had it before.
    ...(result.refused <= result.packets / 1000 ? [] : [`${result.refused} packets refused`]),
    ...(grown("objects") < calls / 4 ? [] : [`${grown("objects")} objects stayed`]),
    ...(grown("buffers") < 50_000 ? [] : [`buffers grew by ${grown("buffers")} octets`]),
    // The engine goes on compiling for hundreds of calls.
    ...(grown("heap") < 1_000_000 ? [] : [`the heap grew by ${grown("heap")} octets`]),
    ...(sockets.after <= sockets.before ? [] : [`${sockets.after - sockets.before} sockets stayed`]),
    ...(sockets.closed === 0 ? [] : [`${sockets.closed} sockets are open after the end`]),
  ];
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const { values } = parseArgs({
    options: {
      calls: { type: "string", default: "500" },
      rounds: { type: "string", default: "5" },
      "at-once": { type: "string", default: "10" },
      transport: { type: "string", default: "udp" },
    },
  });
  const calls = Number(values.calls);
  const transport = values.transport === "tcp" ? "tcp" : "udp";
  const result = await soakSip({
    calls,
    rounds: Number(values.rounds),
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
