const SIGNALS = ["SIGINT", "SIGTERM"] as const;
/** The longest that Node's timers take, about 25 days. */
const LONGEST = 2 ** 31 - 1;

/** A wait that holds the process alive. */
export interface Waiting {
  readonly over: Promise<"time" | "signal">;
  /** Stops waiting: timer and signal handlers go. */
  cancel(): void;
}

/**
 * Waits until the time is over or the user stops the program (Ctrl-C, SIGTERM). After one signal the next ends the process
 * at once, for whoever does not want to wait for a clean end.
 */
export function untilStopped(seconds?: number): Waiting {
  let finish: (reason: "time" | "signal") => void = () => {};
  const over = new Promise<"time" | "signal">((resolve) => {
    finish = resolve;
  });
  const timer = setTimeout(() => finish("time"), seconds === undefined ? LONGEST : Math.min(seconds * 1000, LONGEST));
  const onSignal = (): void => {
    finish("signal");
    for (const signal of SIGNALS) process.once(signal, () => process.exit(1));
  };
  for (const signal of SIGNALS) process.once(signal, onSignal);
  return {
    over,
    cancel() {
      clearTimeout(timer);
      for (const signal of SIGNALS) process.removeListener(signal, onSignal);
    },
  };
}
