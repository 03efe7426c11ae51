import type { Clock } from "./contracts.js";

/** How often something may happen: at once, and in the long run. */
export interface Rate {
  readonly burst: number;
  readonly perSecond: number;
}

/** Lets something happen at a rate. */
export interface TokenBucket {
  /** Whether it may happen once more. */
  take(): boolean;
}

/** A full bucket. @param clock one that does not go back; where it does, nothing is filled in meanwhile */
export function createTokenBucket(clock: Clock, { burst, perSecond }: Rate): TokenBucket {
  let tokens = burst;
  let at = clock.now();
  return {
    take() {
      const now = clock.now();
      tokens = Math.min(burst, tokens + (Math.max(0, now - at) / 1000) * perSecond);
      at = now;
      if (tokens < 1) return false;
      tokens--;
      return true;
    },
  };
}
