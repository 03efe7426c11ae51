import type { SuiteName } from "../../src/srtp/index.js";
import type { DriverProcess } from "./driver-process.js";

export const OPERATIONS = ["protect", "unprotect"] as const;
export type Operation = (typeof OPERATIONS)[number];

/** Nanoseconds per packet in every round, rounds of all contenders in step. */
export type Times = Readonly<Record<Operation, readonly number[]>>;

export interface RoundOptions {
  /** Rounds that count. */
  readonly rounds: number;
  /** About how long each contender warms its compiler, milliseconds. */
  readonly warmUp: number;
  /**
   * About how long one contender works in a round, both operations together. Where others use the processors too, a process that has
   * slept is left to run for a few milliseconds: most rounds of that length are undisturbed, hardly any of a longer one are.
   */
  readonly milliseconds: number;
}

/** Packets laid out at a time: few, so that one round of the slowest is short too, and not disturbed more often than those of others. */
const PACKETS = 128;
/** Sequence numbers do not turn over within a round. */
const MAX_BURSTS = 240;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/**
 * Every contender in every round, so that ratios compare neighbours in time. Who begins changes from round to round.
 * @returns times by contender; those without the suite are missing
 */
export async function pairedRounds(
  drivers: readonly DriverProcess[],
  suite: SuiteName,
  payload: number,
  { rounds, warmUp, milliseconds }: RoundOptions,
): Promise<ReadonlyMap<string, Times>> {
  const entered: { driver: DriverProcess; bursts: number; times: Record<Operation, number[]> }[] = [];
  for (const driver of drivers) {
    if (!(await driver.begin(suite, payload, PACKETS))) continue;
    // The last round before this budget is used up tells how many bursts fill one.
    let [spent, burst] = [0, 0];
    while (spent < warmUp * 1e6) {
      const [protect, unprotect] = await driver.round(1);
      burst = protect + unprotect;
      spent += 2 * burst;
    }
    const bursts = Math.round((milliseconds * 1e6) / burst);
    entered.push({ driver, bursts: Math.min(MAX_BURSTS, Math.max(1, bursts)), times: { protect: [], unprotect: [] } });
  }
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < entered.length; turn++) {
      const { driver, bursts, times } = entered[(turn + round) % entered.length] as (typeof entered)[number];
      const [protect, unprotect] = await driver.round(bursts);
      times.protect.push(protect / (bursts * PACKETS));
      times.unprotect.push(unprotect / (bursts * PACKETS));
    }
  }
  return new Map(entered.map(({ driver, times }) => [driver.name, times]));
}

/** How many times as fast as `other`: the median of the ratios of the rounds. */
export function timesAsFast(own: readonly number[], other: readonly number[]): number {
  return median(own.map((time, round) => (other[round] as number) / time));
}
