import { WatchwordError } from "../bytes/index.js";
import type { Clock, Timers } from "../io/index.js";
import { checkName, checkRecord, checkSelector, checkSnapshot } from "./checks.js";
import {
  type Lease,
  type NewRec,
  NO_VERSION,
  type Rec,
  type Selector,
  type Snapshot,
  type Store,
  TTL_CLASSES,
  type TtlClass,
  type Ver,
} from "./contracts.js";
import { conflictError, sequenceError, snapshotConflictError } from "./errors.js";
import { type Page, type PageSource, readLog, watchLog } from "./following.js";
import { Leases } from "./lease.js";
import { type Wake, Watchers } from "./watchers.js";

/** Records that are read at once. */
const PAGE_RECORDS = 64;

interface Log {
  records: Rec[];
  snapshot: Snapshot | undefined;
}

/** What memory stores share and what outlives them: the disk of a test. */
export class MemoryDisk {
  /** Every log by name. */
  readonly logs = new Map<string, Log>();
  /** When each claim may be forgotten, in milliseconds since 1970. */
  readonly claims = new Map<string, number>();
  readonly leases = new Map<string, { readonly owner: string; readonly token: bigint; readonly expires: number }>();
  readonly watchers = new Set<Watchers>();
  latest = NO_VERSION;

  /** A backup: what is stored now. */
  copy(): MemoryDisk {
    const copy = new MemoryDisk();
    // Records and snapshots are never changed, only replaced.
    for (const [group, { records, snapshot }] of this.logs) copy.logs.set(group, { records: [...records], snapshot });
    for (const [key, expires] of this.claims) copy.claims.set(key, expires);
    for (const [group, lease] of this.leases) copy.leases.set(group, lease);
    copy.latest = this.latest;
    return copy;
  }
}

export interface MemoryStoreOptions {
  readonly clock: Clock;
  readonly timers: Timers;
  /** What it shares with other stores, and finds again after a restart. Default: its own. */
  readonly disk?: MemoryDisk;
  /** How long a lease lasts. Default 10,000. */
  readonly leaseMilliseconds?: number;
}

/** The store in memory: the whole contract but for what a power failure leaves. For tests and demonstrations. */
export function createMemoryStore(options: MemoryStoreOptions): Store {
  return new MemoryStore(options);
}

class MemoryStore implements Store, PageSource {
  readonly #clock: Clock;
  readonly #disk: MemoryDisk;
  readonly #leases: Leases;
  readonly #leaseMilliseconds: number;
  readonly #watchers = new Watchers();
  #closed = false;

  constructor({ clock, timers, disk = new MemoryDisk(), leaseMilliseconds = 10_000 }: MemoryStoreOptions) {
    this.#clock = clock;
    this.#disk = disk;
    this.#leases = new Leases(timers, leaseMilliseconds);
    this.#leaseMilliseconds = leaseMilliseconds;
    disk.watchers.add(this.#watchers);
  }

  async append(group: string, expected: Ver, record: NewRec): Promise<Ver> {
    checkRecord(group, record);
    this.#checkOpen();
    const records = this.#disk.logs.get(group)?.records ?? [];
    const head = records.at(-1);
    if ((head?.ver ?? NO_VERSION) !== expected) {
      const next = records.find(({ prev }) => prev === expected);
      if (next !== undefined && next.id === record.id && next.gseq === record.gseq) return next.ver;
      throw conflictError(group, head?.ver ?? NO_VERSION, expected);
    }
    if (head !== undefined && record.gseq <= head.gseq) throw sequenceError(head.gseq, record.gseq);
    this.#disk.latest += 1n;
    const ver = this.#disk.latest;
    const { gseq, id, data } = record;
    const log = this.#disk.logs.get(group);
    const appended: Rec = { group, ver, prev: expected, gseq, id, data: data.slice() };
    if (log === undefined) this.#disk.logs.set(group, { records: [appended], snapshot: undefined });
    else log.records.push(appended);
    for (const watchers of this.#disk.watchers) watchers.wake(group);
    return ver;
  }

  async head(group: string): Promise<Rec | null> {
    checkName(group, "group");
    this.#checkOpen();
    const head = this.#disk.logs.get(group)?.records.at(-1);
    return head === undefined ? null : ownRecord(head);
  }

  read(group: string, after: Ver, limit = Number.POSITIVE_INFINITY): AsyncIterable<Rec> {
    return readLog(this, group, after, limit);
  }

  watch(selector: Selector, after: Ver, signal: AbortSignal): AsyncIterable<Rec> {
    return watchLog(this, selector, after, signal);
  }

  async page(selector: Selector, after: Ver, limit: number): Promise<Page> {
    this.#checkOpen();
    const wanted =
      "group" in selector
        ? recordsAfter(this.#disk.logs.get(selector.group)?.records ?? [], after)
        : [...this.#disk.logs]
            .filter(([group]) => group.startsWith(selector.prefix))
            .flatMap(([, { records }]) => recordsAfter(records, after))
            .sort((a, b) => (a.ver < b.ver ? -1 : 1));
    const records = wanted.slice(0, Math.min(limit, PAGE_RECORDS)).map(ownRecord);
    return { records, next: records.at(-1)?.ver ?? after, more: records.length < wanted.length };
  }

  changed(selector: Selector): Wake {
    this.#checkOpen();
    return this.#watchers.wait(selector);
  }

  async latest(): Promise<Ver> {
    this.#checkOpen();
    return this.#disk.latest;
  }

  async groups(prefix: string): Promise<readonly string[]> {
    checkSelector({ prefix });
    this.#checkOpen();
    return [...this.#disk.logs.keys()].filter((group) => group.startsWith(prefix)).sort(compareOctets);
  }

  async putSnapshot(group: string, at: Ver, data: Uint8Array): Promise<void> {
    checkSnapshot(group, data);
    this.#checkOpen();
    const log = this.#disk.logs.get(group);
    const place = log?.records.findIndex(({ ver }) => ver === at) ?? -1;
    // A snapshot drops the records before its own: a record that is there is not older than the snapshot.
    if (log === undefined || place < 0) {
      throw snapshotConflictError(group, log?.records.at(-1)?.ver ?? NO_VERSION, at);
    }
    log.records = log.records.slice(place);
    log.snapshot = { at, gseq: (log.records[0] as Rec).gseq, data: data.slice() };
  }

  async getSnapshot(group: string): Promise<Snapshot | null> {
    checkName(group, "group");
    this.#checkOpen();
    const snapshot = this.#disk.logs.get(group)?.snapshot;
    return snapshot === undefined ? null : { ...snapshot, data: snapshot.data.slice() };
  }

  async claim(key: string, ttlClass: TtlClass): Promise<boolean> {
    checkName(key, "claim");
    this.#checkOpen();
    const now = this.#clock.now();
    const expires = this.#disk.claims.get(key);
    if (expires !== undefined && expires > now) return false;
    this.#disk.claims.set(key, now + TTL_CLASSES[ttlClass]);
    return true;
  }

  async lease(group: string, owner: string): Promise<Lease | null> {
    checkName(group, "group");
    checkName(owner, "owner");
    this.#checkOpen();
    const { leases } = this.#disk;
    const stands = (token: bigint) => {
      const known = leases.get(group);
      return known !== undefined && known.token === token && known.expires > this.#clock.now();
    };
    return await this.#leases.acquire({
      acquire: async () => {
        const known = leases.get(group);
        if (known !== undefined && known.owner !== owner && known.expires > this.#clock.now()) return undefined;
        const token = (known?.token ?? 0n) + 1n;
        leases.set(group, { owner, token, expires: this.#clock.now() + this.#leaseMilliseconds });
        return token;
      },
      renew: async (token) => {
        this.#checkOpen();
        if (!stands(token)) return false;
        leases.set(group, { owner, token, expires: this.#clock.now() + this.#leaseMilliseconds });
        return true;
      },
      release: async (token) => {
        if (stands(token)) leases.set(group, { owner, token, expires: 0 });
      },
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#leases.releaseAll();
    this.#disk.watchers.delete(this.#watchers);
    this.#watchers.end(closedError());
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError();
  }
}

function closedError(): WatchwordError {
  return new WatchwordError("store.closed", "the store is closed");
}

/** Records above `after`, found from the end: watchers are mostly near it. */
function recordsAfter(records: readonly Rec[], after: Ver): readonly Rec[] {
  let from = records.length;
  while (from > 0 && (records[from - 1] as Rec).ver > after) from--;
  return records.slice(from);
}

/** A copy for the caller, who may wipe it. */
function ownRecord(record: Rec): Rec {
  return { ...record, data: record.data.slice() };
}

/** The order of UTF-8 octets, which is that of code points; that of strings is of UTF-16 units. */
function compareOctets(a: string, b: string): number {
  const [left, right] = [Array.from(a), Array.from(b)];
  for (let i = 0; i < left.length && i < right.length; i++) {
    const difference = (left[i]?.codePointAt(0) ?? 0) - (right[i]?.codePointAt(0) ?? 0);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}
