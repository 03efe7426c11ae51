import { SUITES, type SuiteName, suiteNames } from "../../src/srtp/index.js";
import { buildCDrivers, type CDriverName } from "./c-drivers.js";
import { CONTENDERS, type ContenderName, OURS } from "./contenders/index.js";
import { DriverProcess } from "./driver-process.js";
import { median, type Operation, pairedRounds, type RoundOptions, type Times, timesAsFast } from "./paired-rounds.js";

/** Suites and sizes in which everyone is compared. */
const COMPARED: readonly SuiteName[] = ["AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"];
export const PAYLOADS: readonly number[] = [160, 1200];

/** What others are measured against. */
export const YARDSTICKS = ["werift-rtp", "libsrtp2", "OpenSSL EVP loop"] as const;
type Yardstick = (typeof YARDSTICKS)[number];

/** One suite and size: the rounds of every contender. */
export interface Comparison {
  readonly suite: SuiteName;
  readonly payload: number;
  readonly times: ReadonlyMap<string, Times>;
}

/** Nanoseconds of single calls. */
export interface Latency {
  readonly name: string;
  readonly suite: SuiteName;
  /** protect p50, p99, unprotect p50, p99. */
  readonly percentiles: readonly number[];
}

export interface Memory {
  readonly name: string;
  /** Octets of one sender and one receiver that have carried 64 packets. */
  readonly perSession: number;
}

export interface SrtpBench {
  /** Everyone, in the suites that others have. */
  readonly compared: readonly Comparison[];
  /** Ours alone, in every other suite. */
  readonly others: readonly Comparison[];
  readonly latencies: readonly Latency[];
  readonly memories: readonly Memory[];
  /** Contenders that could not be built, with the reason. */
  readonly absent: readonly string[];
}

export interface SrtpBenchOptions extends RoundOptions {
  /** Leaves out suites in which nobody is compared, and memory, for which processes have to start. */
  readonly quick: boolean;
}

/** Suites that only ours have are measured less: the code is warm from those before. */
const OTHERS = { rounds: 9, warmUp: 50 };
/** Bursts for percentiles, and fewer for a quick look. */
const [LATENCY_BURSTS, QUICK_LATENCY_BURSTS] = [20, 4];
const MEMORY_SESSIONS = 500;
/** Calls of these are more than one packet. */
const isSingle = (name: string): boolean => !/batch|zero-copy/.test(name);

/** Microseconds per packet, the median of the rounds. */
export function microseconds({ times }: Comparison, name: string, operation: Operation): number | undefined {
  const own = times.get(name)?.[operation];
  return own === undefined ? undefined : median(own) / 1000;
}

/** How many times as fast as another contender; undefined where one of them is absent. */
export function ratio({ times }: Comparison, name: string, other: Yardstick, operation: Operation): number | undefined {
  const [own, others] = [times.get(name)?.[operation], times.get(other)?.[operation]];
  return own === undefined || others === undefined ? undefined : timesAsFast(own, others);
}

/** Measures SRTP: every contender in its own process, taking turns. */
export async function benchSrtp(options: SrtpBenchOptions): Promise<SrtpBench> {
  const c = buildCDrivers();
  const names = Object.keys(CONTENDERS) as ContenderName[];
  const drivers = [...names.map((name) => new DriverProcess(name)), ...fromC(c.built)];
  try {
    const compared: Comparison[] = [];
    const latencies: Latency[] = [];
    const memories: Memory[] = [];
    for (const suite of COMPARED) {
      for (const payload of PAYLOADS) {
        compared.push({ suite, payload, times: await pairedRounds(drivers, suite, payload, options) });
      }
      for (const driver of drivers.filter(({ name }) => isSingle(name))) {
        if (!(await driver.begin(suite, 160, 512))) continue;
        latencies.push({
          name: driver.name,
          suite,
          percentiles: await driver.latency(options.quick ? QUICK_LATENCY_BURSTS : LATENCY_BURSTS),
        });
      }
    }
    const others: Comparison[] = [];
    const ours = drivers.filter(({ name }) => OURS.includes(name as ContenderName));
    for (const suite of options.quick ? [] : suiteNames.filter((name) => !COMPARED.includes(name))) {
      for (const payload of PAYLOADS) {
        others.push({ suite, payload, times: await pairedRounds(ours, suite, payload, { ...options, ...OTHERS }) });
      }
    }
    const remembered = drivers.filter(({ name }) => isSingle(name) && !name.includes("objects"));
    for (const { name, command } of options.quick ? [] : remembered) {
      // In a fresh process: one that has worked has memory to spare.
      const fresh = new DriverProcess(name, command);
      await fresh.begin(SUITES.AES_CM_128_HMAC_SHA1_80.name, 160, 64);
      memories.push({ name, perSession: await fresh.memory(MEMORY_SESSIONS) });
      fresh.close();
    }
    return { compared, others, latencies, memories, absent: c.absent };
  } finally {
    for (const driver of drivers) driver.close();
    c.remove();
  }
}

function fromC(built: ReadonlyMap<CDriverName, string>): DriverProcess[] {
  return [...built].map(([name, program]) => new DriverProcess(name, program));
}
