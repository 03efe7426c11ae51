import type { Clock, Timer, Timers } from "../io/index.js";

/** The machine's wall clock. */
export const systemClock: Clock = { now: () => Date.now() };

/**
 * Milliseconds that never jump, for pacing and for measuring; not a wall clock.
 */
export const steadyClock: Clock = { now: () => performance.now() };

/** Node takes what is longer for 1 ms. */
const LONGEST_MS = 2 ** 31 - 1;

/**
 * Node's timers, for any time. They do not keep the process alive: what a program waits for is a socket, and a session's timeout or a
 * cache's sweep must not delay its end.
 */
export const systemTimers: Timers = {
  after(milliseconds, callback) {
    const due = performance.now() + milliseconds;
    let handle: NodeJS.Timeout;
    const wait = (left: number): void => {
      handle = setTimeout(fire, Math.min(Math.ceil(left), LONGEST_MS)).unref();
    };
    // Node counts from when the event loop last looked at the clock, and so calls early by what this turn of the loop has taken.
    const fire = (): void => {
      const left = due - performance.now();
      if (left > 0) wait(left);
      else callback();
    };
    wait(milliseconds);
    return { cancel: () => clearTimeout(handle) };
  },
  every(milliseconds, callback) {
    if (milliseconds <= LONGEST_MS) {
      const handle = setInterval(callback, milliseconds).unref();
      return { cancel: () => clearInterval(handle) };
    }
    let timer: Timer;
    const wait = (): void => {
      timer = systemTimers.after(milliseconds, () => {
        wait();
        callback();
      });
    };
    wait();
    return { cancel: () => timer.cancel() };
  },
};
