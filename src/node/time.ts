import type { Clock, Timers } from "../io/index.js";

/** The machine's wall clock. */
export const systemClock: Clock = { now: () => Date.now() };

/**
 * Milliseconds that never jump, for pacing and for measuring; not a wall clock.
 */
export const steadyClock: Clock = { now: () => performance.now() };

/**
 * Node's timers. They do not keep the process alive: what a program waits for is a socket, and a session's timeout or a
 * cache's sweep must not delay its end.
 */
export const systemTimers: Timers = {
  after(milliseconds, callback) {
    const handle = setTimeout(callback, milliseconds).unref();
    return { cancel: () => clearTimeout(handle) };
  },
  every(milliseconds, callback) {
    const handle = setInterval(callback, milliseconds).unref();
    return { cancel: () => clearInterval(handle) };
  },
};
