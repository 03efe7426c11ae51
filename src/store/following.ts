import { WatchwordError } from "../bytes/index.js";
import { checkSelector } from "./checks.js";
import type { Rec, Selector, Ver } from "./contracts.js";
import type { Wake } from "./watchers.js";

/** A stretch of records. */
export interface Page {
  readonly records: readonly Rec[];
  /** Everything up to here was looked at: the next page begins after it. */
  readonly next: Ver;
  /** Whether there may be more at once. */
  readonly more: boolean;
}

/** What an engine has to give, so that its records can be read and watched. */
export interface PageSource {
  /** The records that `selector` wants above `after`, at most `limit` and not many octets, at least one where there is one. */
  page(selector: Selector, after: Ver, limit: number): Promise<Page>;
  /** Tells of records that `selector` may want and that come from now on. @throws WatchwordError `store.closed` */
  changed(selector: Selector): Wake;
}

/** `Store.read` of an engine. */
export async function* readLog(source: PageSource, group: string, after: Ver, limit: number): AsyncGenerator<Rec, void, undefined> {
  checkSelector({ group });
  const follower = new Follower({ group }, after);
  for (let left = limit; left > 0; ) {
    const { records, next, more } = await source.page({ group }, follower.at, left);
    for (const record of records) yield follower.follow(record);
    left -= records.length;
    follower.at = next;
    if (!more) return;
  }
}

/** `Store.watch` of an engine. */
export async function* watchLog(
  source: PageSource,
  selector: Selector,
  after: Ver,
  signal: AbortSignal,
): AsyncGenerator<Rec, void, undefined> {
  checkSelector(selector);
  const follower = new Follower(selector, after);
  while (!signal.aborted) {
    // Asked before the page is read: a record that comes in between wakes the watcher too.
    const wake = source.changed(selector);
    signal.addEventListener("abort", wake.cancel);
    try {
      const { records, next, more } = await source.page(selector, follower.at, Number.POSITIVE_INFINITY);
      for (const record of records) {
        if (signal.aborted) return;
        yield follower.follow(record);
      }
      follower.at = next;
      if (!more && !signal.aborted) await wake.woken;
    } finally {
      signal.removeEventListener("abort", wake.cancel);
      wake.cancel();
    }
  }
}

/** Sees to it that no record of a log is skipped. */
class Follower {
  readonly #single: boolean;
  at: Ver;
  /** The record delivered last, whose successor names it. */
  #last: Ver | undefined;

  constructor(selector: Selector, after: Ver) {
    this.#single = "group" in selector;
    this.at = after;
  }

  follow(record: Rec): Rec {
    if (this.#single) {
      if (record.prev > (this.#last ?? this.at)) {
        throw new WatchwordError(
          "store.dropped",
          `records of ${record.group} after ${this.#last ?? this.at} were dropped below a snapshot`,
        );
      }
      if (this.#last !== undefined && record.prev !== this.#last) {
        throw new WatchwordError("store.corrupt", `record ${record.ver} of ${record.group} does not follow record ${this.#last}`);
      }
      this.#last = record.ver;
    }
    return record;
  }
}
