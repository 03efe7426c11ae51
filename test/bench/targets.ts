import type { SuiteName } from "../../src/srtp/index.js";
import type { Operation } from "./paired-rounds.js";
import { ratio, type SrtpBench, type YARDSTICKS } from "./srtp.js";

/** A ratio that the fastest of our contenders of a kind is to reach. */
interface Target {
  readonly suite: SuiteName;
  readonly payload: number;
  readonly operation: Operation;
  /** How contenders of this kind are called. */
  readonly kind: "single" | "batch" | "zero-copy";
  readonly against: (typeof YARDSTICKS)[number];
  readonly least: number;
}

const CM = "AES_CM_128_HMAC_SHA1_80";
const GCM = "AEAD_AES_128_GCM";

const TARGETS: readonly Target[] = [
  { suite: CM, payload: 160, operation: "protect", kind: "single", against: "OpenSSL EVP loop", least: 0.55 },
  { suite: CM, payload: 1200, operation: "protect", kind: "single", against: "OpenSSL EVP loop", least: 0.4 },
  { suite: CM, payload: 160, operation: "protect", kind: "zero-copy", against: "OpenSSL EVP loop", least: 1.15 },
  { suite: CM, payload: 1200, operation: "protect", kind: "zero-copy", against: "OpenSSL EVP loop", least: 0.75 },
  { suite: CM, payload: 160, operation: "protect", kind: "single", against: "werift-rtp", least: 12 },
  { suite: CM, payload: 160, operation: "unprotect", kind: "single", against: "werift-rtp", least: 25 },
  { suite: CM, payload: 160, operation: "protect", kind: "single", against: "libsrtp2", least: 3.5 },
  { suite: GCM, payload: 160, operation: "protect", kind: "single", against: "werift-rtp", least: 5 },
  { suite: GCM, payload: 160, operation: "protect", kind: "batch", against: "werift-rtp", least: 15 },
];

/** Noise that a target forgives. */
const TOLERANCE = 0.05;

export interface TargetResult extends Target {
  /** The contender that came nearest, and its ratio; undefined where nobody could be measured. */
  readonly best: readonly [name: string, ratio: number] | undefined;
  readonly reached: boolean;
}

/** What each target asks and what the run gave. */
export function targetResults({ compared }: SrtpBench, ours: readonly string[]): TargetResult[] {
  return TARGETS.map((target) => {
    const { suite, payload, operation, kind, against, least } = target;
    const comparison = compared.find((one) => one.suite === suite && one.payload === payload);
    const measured = ours
      .filter((name) => name.endsWith(kind))
      .map((name) => [name, comparison && ratio(comparison, name, against, operation)] as const)
      .filter((entry): entry is [string, number] => entry[1] !== undefined)
      .sort(([, a], [, b]) => b - a);
    return { ...target, best: measured[0], reached: (measured[0]?.[1] ?? 0) >= least * (1 - TOLERANCE) };
  });
}
