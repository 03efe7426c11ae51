import { systemTimers } from "../node/index.js";

const SIGNALS = ["SIGINT", "SIGTERM"] as const;
/** Milliseconds between two calls of nothing, which hold the process alive. */
const HOLD = 3_600_000;

/** A wait that holds the process alive. */
export interface Waiting {
  readonly over: Promise<"time" | "signal">;
  /** Stops waiting: timer and signal handlers go. */
  cancel(): void;
}

/**
 * Waits until the time is over or the user stops the program (Ctrl-C, SIGTERM). After one signal the next ends the process
 * at once, for whoever does not want to wait for a clean end.
 * @param seconds default: for ever
 */
export function untilStopped(seconds = Number.POSITIVE_INFINITY): Waiting {
  let finish: (reason: "time" | "signal") => void = () => {};
  const over = new Promise<"time" | "signal">((resolve) => {
    finish = resolve;
  });
  const hold = setInterval(() => {}, HOLD);
  const timer = systemTimers.after(seconds * 1000, () => finish("time"));
  const onSignal = (): void => {
    finish("signal");
    for (const signal of SIGNALS) process.once(signal, () => process.exit(1));
  };
  for (const signal of SIGNALS) process.once(signal, onSignal);
  return {
    over,
    cancel() {
      clearInterval(hold);
      timer.cancel();
      for (const signal of SIGNALS) process.removeListener(signal, onSignal);
    },
  };
}
