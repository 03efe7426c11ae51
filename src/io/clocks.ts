import type { Clock } from "./contracts.js";

/**
 * The time of a wall clock that nobody sets: it begins as `clock` says, and goes on as `steady` does. For lifetimes, which last as long as they were
 * told to whatever happens to the wall clock meanwhile.
 */
export function createSteadiedClock(clock: Clock, steady: Clock): Clock {
  const ahead = clock.now() - steady.now();
  return { now: () => steady.now() + ahead };
}

/**
 * A wall clock that is never set back: where `clock` is, it goes on as `steady` does until that has caught up. For times in messages, which receivers take
 * for replayed where they are older than the last.
 */
export function createAdvancingClock(clock: Clock, steady: Clock): Clock {
  let ahead = clock.now() - steady.now();
  return {
    now() {
      const since = steady.now();
      ahead = Math.max(ahead, clock.now() - since);
      return since + ahead;
    },
  };
}
