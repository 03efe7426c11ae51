import type { WatchwordError } from "../bytes/index.js";
import type { Selector } from "./contracts.js";

/** One turn of waiting. */
export interface Wake {
  /** Resolves with a record that may be wanted, or with `cancel`; rejects when the store ends. */
  readonly woken: Promise<void>;
  readonly cancel: () => void;
}

interface Waiting {
  readonly selector: Selector;
  readonly wake: () => void;
  readonly fail: (error: WatchwordError) => void;
}

/** Who waits for records to come. */
export class Watchers {
  readonly #waiting = new Set<Waiting>();

  /** Whether anybody waits. */
  get waiting(): boolean {
    return this.#waiting.size > 0;
  }

  wait(selector: Selector): Wake {
    let cancel = (): void => {};
    const woken = new Promise<void>((resolve, reject) => {
      const one: Waiting = {
        selector,
        wake: () => {
          this.#waiting.delete(one);
          resolve();
        },
        fail: (error) => {
          this.#waiting.delete(one);
          reject(error);
        },
      };
      this.#waiting.add(one);
      cancel = one.wake;
    });
    // Who waits may be busy with records when the store ends, and learns of it at the next page.
    woken.catch(() => undefined);
    return { woken, cancel };
  }

  /** A record has come to `group`, or, where that is not known, perhaps to any. */
  wake(group?: string): void {
    for (const one of [...this.#waiting]) {
      if (group === undefined || ("group" in one.selector ? one.selector.group === group : group.startsWith(one.selector.prefix))) {
        one.wake();
      }
    }
  }

  end(error: WatchwordError): void {
    for (const one of [...this.#waiting]) one.fail(error);
  }
}
