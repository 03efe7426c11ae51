/**
 * One contender in a process of its own, so that neither compiler feedback nor garbage of one weighs on another. It speaks what
 * the C drivers speak (driver.h): one line per request, one per answer, times taken here.
 */
import { createInterface } from "node:readline";
import type { SuiteName } from "../../src/srtp/index.js";
import { CONTENDERS, type ContenderName } from "./contenders/index.js";
import type { Pair, Workload } from "./workload.js";

const contender = CONTENDERS[process.argv[2] as ContenderName];
/** Packets that a session has carried when its memory is taken. */
const WARM_PACKETS = 64;

let workload: Workload | undefined;
let suite: SuiteName;
let count = 0;

function begin(name: SuiteName, payload: number, packets: number): string {
  suite = name;
  count = packets;
  workload = contender(name, payload, packets);
  return workload === undefined ? "none" : "ok";
}

/** Nanoseconds of protect and of unprotect in one fresh session, after a burst that brings memory into the caches. */
function round(bursts: number): string {
  const { layOut, open } = workload as Workload;
  const pair = open();
  let [sealing, opening] = [0n, 0n];
  for (let burst = 0; burst <= bursts; burst++) {
    layOut(burst * count);
    const start = process.hrtime.bigint();
    pair.protect(0, count);
    const between = process.hrtime.bigint();
    pair.unprotect(0, count);
    const end = process.hrtime.bigint();
    if (burst === 0) continue;
    sealing += between - start;
    opening += end - between;
  }
  pair.close();
  return `${sealing} ${opening}`;
}

/** Percentiles of single calls: protect p50, p99, unprotect p50, p99. The clock itself is within. */
function latency(bursts: number): string {
  const { layOut, open } = workload as Workload;
  const pair = open();
  const sealing = new Float64Array(bursts * count);
  const opening = new Float64Array(bursts * count);
  for (let burst = 0; burst < bursts; burst++) {
    layOut(burst * count);
    time(pair, "protect", sealing.subarray(burst * count, (burst + 1) * count));
    time(pair, "unprotect", opening.subarray(burst * count, (burst + 1) * count));
  }
  pair.close();
  return [sealing, opening].flatMap((times) => [0.5, 0.99].map((share) => percentile(times, share))).join(" ");
}

function time(pair: Pair, operation: "protect" | "unprotect", times: Float64Array): void {
  for (let i = 0; i < times.length; i++) {
    const start = performance.now();
    pair[operation](i, i + 1);
    times[i] = performance.now() - start;
  }
}

function percentile(milliseconds: Float64Array, share: number): number {
  const sorted = milliseconds.slice().sort();
  return Math.round((sorted[Math.floor(sorted.length * share)] as number) * 1e6);
}

/** Resident octets per session that has carried some packets, with as many sessions there before: what comes once is not counted. */
function memory(sessions: number): string {
  const { layOut, open } = contender(suite, 160, WARM_PACKETS) as Workload;
  layOut(0);
  const held: Pair[] = [];
  const resident = [0, 0].map(() => {
    for (let i = 0; i < sessions; i++) {
      const pair = open();
      pair.protect(0, WARM_PACKETS);
      pair.unprotect(0, WARM_PACKETS);
      held.push(pair);
    }
    globalThis.gc?.();
    return process.memoryUsage.rss();
  }) as [number, number];
  for (const pair of held) pair.close();
  return `${Math.round((resident[1] - resident[0]) / sessions)}`;
}

function answer(line: string): string {
  const [request, ...words] = line.split(" ");
  if (request === "begin") return begin(words[0] as SuiteName, Number(words[1]), Number(words[2]));
  const number = Number(words[0]);
  if (request === "round") return round(number);
  if (request === "latency") return latency(number);
  if (request === "memory") return memory(number);
  return "error unknown request";
}

for await (const line of createInterface({ input: process.stdin })) {
  try {
    console.log(answer(line));
  } catch (error) {
    console.log(`error ${(error as Error).message}`);
  }
}
