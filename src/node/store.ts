import { resolve } from "node:path";
import { Worker } from "node:worker_threads";
import { WatchwordError } from "../bytes/index.js";
import type { Clock, Timers } from "../io/index.js";
import {
  checkName,
  checkRecord,
  checkSelector,
  checkSnapshot,
  conflictError,
  type Lease,
  Leases,
  type NewRec,
  type Page,
  type PageSource,
  type Rec,
  readLog,
  type Selector,
  type Snapshot,
  type Store,
  sequenceError,
  snapshotConflictError,
  TTL_CLASSES,
  type TtlClass,
  type Ver,
  type Wake,
  Watchers,
  watchLog,
} from "../store/index.js";
import { isWrite, type StoreOperation, type StoreOutcome } from "./store-database.js";
import { systemClock, systemTimers } from "./time.js";

/** The worker's program stands beside this file, compiled or not. */
const PROGRAM = new URL(import.meta.url.replace(/store(\.\w+)$/, "store-worker$1"));

/** Operations and octets of one transaction: other processes want their turn too. */
const BATCH_OPERATIONS = 1024;
const BATCH_OCTETS = 0x80_0000;
/** Operations and octets that may wait. */
const MOST_WAITING = 0x1_0000;
const MOST_WAITING_OCTETS = 0x2000_0000;

export interface SqliteStoreOptions {
  /** The file, on a local disk; it is made if it is not there, with mode 600. Two more are beside it while it is open, with `-wal` and `-shm` behind the name. */
  readonly path: string;
  /** How long a lease lasts, in milliseconds. Default 10,000. */
  readonly leaseMilliseconds?: number;
  /** How often a watcher looks whether other processes have written, in milliseconds. Default 50. */
  readonly pollMilliseconds?: number;
  /** How long a write waits for those of other processes, in milliseconds. Default 5000. */
  readonly busyMilliseconds?: number;
  /** For the ages of claims and leases, the same for all who share the file. Default: the machine's. */
  readonly clock?: Clock;
  readonly timers?: Timers;
  /** Node options of the store's thread. Default: those of the process. */
  readonly execArgv?: readonly string[];
}

export interface SqliteStore extends Store {
  /** Which SQLite it is, for people. */
  readonly engine: string;
}

export interface StoreThreadData {
  readonly path: string;
  readonly busyMilliseconds: number;
}

export type StoreRequest = { readonly kind: "run"; readonly operations: readonly StoreOperation[] } | { readonly kind: "end" };

export type StoreAnswer =
  | { readonly kind: "ready"; readonly engine: string }
  | { readonly kind: "done"; readonly outcomes: readonly StoreOutcome[] }
  /** Of the opening, or of every operation of a batch. */
  | { readonly kind: "failed"; readonly code: string; readonly message: string };

/**
 * Opens the store in a SQLite file, in a thread of its own. Operations that come while the disk is busy are committed together: each is
 * acknowledged after its commit has reached the disk.
 * @throws WatchwordError `node.store-engine`: no SQLite that is new enough or keeps its promises; `node.store-file`: not a local file of ours
 * that is closed to others; `node.file`, `node.permission`; `store.corrupt`; `store.unavailable`
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<SqliteStore> {
  const { leaseMilliseconds = 10_000, pollMilliseconds = 50, busyMilliseconds = 5000, execArgv } = options;
  for (const [name, value] of Object.entries({ leaseMilliseconds, pollMilliseconds, busyMilliseconds })) {
    if (!Number.isInteger(value) || value < 1 || value > 0x7fff_ffff) {
      throw new WatchwordError("node.store-option", `${name} is a positive number of milliseconds`);
    }
  }
  const data: StoreThreadData = { path: resolve(options.path), busyMilliseconds };
  const thread = new StoreThread(new Worker(PROGRAM, { workerData: data, ...(execArgv && { execArgv: [...execArgv] }) }));
  const engine = await thread.opened;
  const { clock = systemClock, timers = systemTimers } = options;
  return new ThreadStore(engine, thread, { clock, timers, leaseMilliseconds, pollMilliseconds });
}

interface Pending {
  readonly operation: StoreOperation;
  readonly octets: number;
  resolve(value: unknown): void;
  reject(error: WatchwordError): void;
}

/** The thread as the store sees it: one batch is with it, the next one gathers. */
class StoreThread {
  readonly opened: Promise<string>;
  readonly #thread: Worker;
  readonly #exited: Promise<void>;
  #queue: Pending[] = [];
  #underWay: Pending[] = [];
  #waitingOctets = 0;
  #flushes = false;
  #failure: WatchwordError | undefined;
  #ending = false;
  #settleOpening: { resolve(engine: string): void; reject(error: WatchwordError): void } | undefined;
  #idle: (() => void) | undefined;

  constructor(thread: Worker) {
    this.#thread = thread;
    this.opened = new Promise((resolve, reject) => {
      this.#settleOpening = { resolve, reject };
    });
    thread.on("message", (answer: StoreAnswer) => this.#take(answer));
    thread.on("error", (cause) =>
      this.#fail(new WatchwordError("store.unavailable", `the store's thread failed: ${cause}`, { cause })),
    );
    this.#exited = new Promise((resolve) => {
      thread.on("exit", () => {
        this.#fail(new WatchwordError("store.unavailable", "the store's thread has ended: the store has to be opened anew"));
        resolve();
      });
    });
  }

  /** Called when the thread has ended without being asked to. */
  onFailure: ((error: WatchwordError) => void) | undefined;

  /** @param owned octets of the operation, of which nobody else has a view: they are handed over */
  async submit(operation: StoreOperation, owned?: Uint8Array): Promise<unknown> {
    if (this.#failure !== undefined) throw this.#failure;
    const octets = owned?.length ?? 0;
    if (this.#queue.length >= MOST_WAITING || this.#waitingOctets + octets > MOST_WAITING_OCTETS) {
      throw new WatchwordError("store.unavailable", "too much waits to be stored");
    }
    return await new Promise<unknown>((resolve, reject) => {
      this.#queue.push({ operation, octets, resolve, reject });
      this.#waitingOctets += octets;
      if (this.#underWay.length > 0 || this.#flushes) return;
      // What else is asked in the same turn goes into the same transaction.
      this.#flushes = true;
      queueMicrotask(() => {
        this.#flushes = false;
        this.#flush();
      });
    });
  }

  /** Ends the thread when all is done that was asked. */
  async end(): Promise<void> {
    if (this.#failure === undefined) {
      if (this.#queue.length > 0 || this.#underWay.length > 0) {
        await new Promise<void>((resolve) => {
          this.#idle = resolve;
        });
      }
      this.#ending = true;
      this.#thread.ref();
      this.#thread.postMessage({ kind: "end" } satisfies StoreRequest);
    }
    await this.#exited;
  }

  #flush(): void {
    if (this.#failure !== undefined || this.#underWay.length > 0) return;
    let [count, octets] = [0, 0];
    for (const pending of this.#queue) {
      octets += pending.octets;
      if (count === BATCH_OPERATIONS || (count > 0 && octets > BATCH_OCTETS)) break;
      count++;
    }
    if (count === 0) {
      // An idle store does not keep the process alive: what was acknowledged is on the disk.
      this.#thread.unref();
      this.#idle?.();
      return;
    }
    this.#underWay = this.#queue.splice(0, count);
    const operations = this.#underWay.map(({ operation }) => operation);
    const handedOver: ArrayBuffer[] = [];
    for (const { operation, octets: own } of this.#underWay) {
      this.#waitingOctets -= own;
      if (operation.kind === "append") handedOver.push(operation.record.data.buffer as ArrayBuffer);
      else if (operation.kind === "put-snapshot") handedOver.push(operation.data.buffer as ArrayBuffer);
    }
    this.#thread.ref();
    this.#thread.postMessage({ kind: "run", operations } satisfies StoreRequest, handedOver);
  }

  #take(answer: StoreAnswer): void {
    if (answer.kind === "ready") {
      this.#thread.unref();
      this.#settleOpening?.resolve(answer.engine);
      this.#settleOpening = undefined;
      return;
    }
    if (this.#settleOpening !== undefined) {
      if (answer.kind === "failed") this.#fail(new WatchwordError(answer.code, answer.message));
      return;
    }
    if (answer.kind === "failed" && answer.code === "store.ambiguous") {
      this.#fail(new WatchwordError("store.unavailable", `${answer.message}: the store has to be opened anew`));
      return;
    }
    const done = this.#underWay;
    this.#underWay = [];
    done.forEach((pending, i) => {
      if (answer.kind === "failed") pending.reject(new WatchwordError(answer.code, answer.message));
      else settle(pending, answer.outcomes[i] as StoreOutcome);
    });
    this.#flush();
  }

  /** Who asked for a change that was under way cannot know whether it happened. */
  #fail(error: WatchwordError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#settleOpening?.reject(error);
    this.#settleOpening = undefined;
    for (const { operation, reject } of this.#underWay.splice(0)) {
      reject(isWrite(operation) ? new WatchwordError("store.ambiguous", error.message, { cause: error }) : error);
    }
    for (const { reject } of this.#queue.splice(0)) reject(error);
    this.#idle?.();
    if (!this.#ending) this.onFailure?.(error);
  }
}

function settle({ operation, resolve, reject }: Pending, outcome: StoreOutcome): void {
  if ("value" in outcome) resolve(outcome.value);
  else if (operation.kind === "append" && "sequence" in outcome) reject(sequenceError(outcome.sequence, operation.record.gseq));
  else if (operation.kind === "append" && "conflict" in outcome) {
    reject(conflictError(operation.group, outcome.conflict, operation.expected));
  } else if (operation.kind === "put-snapshot" && "conflict" in outcome) {
    reject(snapshotConflictError(operation.group, outcome.conflict, operation.at));
  }
}

interface StoreTimes {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly leaseMilliseconds: number;
  readonly pollMilliseconds: number;
}

class ThreadStore implements SqliteStore, PageSource {
  readonly engine: string;
  readonly #thread: StoreThread;
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #leaseMilliseconds: number;
  readonly #pollMilliseconds: number;
  readonly #leases: Leases;
  readonly #watchers = new Watchers();
  #poll: ReturnType<Timers["every"]> | undefined;
  #polls = false;
  #closing: Promise<void> | undefined;

  constructor(engine: string, thread: StoreThread, { clock, timers, leaseMilliseconds, pollMilliseconds }: StoreTimes) {
    this.engine = engine;
    this.#thread = thread;
    this.#clock = clock;
    this.#timers = timers;
    this.#leaseMilliseconds = leaseMilliseconds;
    this.#pollMilliseconds = pollMilliseconds;
    this.#leases = new Leases(timers, leaseMilliseconds);
    thread.onFailure = (error) => this.#endWatchers(error);
  }

  async append(group: string, expected: Ver, record: NewRec): Promise<Ver> {
    checkRecord(group, record);
    this.#checkOpen();
    const { gseq, id } = record;
    const data = new Uint8Array(record.data);
    const ver = (await this.#thread.submit({ kind: "append", group, expected, record: { gseq, id, data } }, data)) as Ver;
    this.#watchers.wake(group);
    return ver;
  }

  async head(group: string): Promise<Rec | null> {
    checkName(group, "group");
    return (await this.#ask({ kind: "head", group })) as Rec | null;
  }

  read(group: string, after: Ver, limit = Number.POSITIVE_INFINITY): AsyncIterable<Rec> {
    return readLog(this, group, after, limit);
  }

  watch(selector: Selector, after: Ver, signal: AbortSignal): AsyncIterable<Rec> {
    return watchLog(this, selector, after, signal);
  }

  async page(selector: Selector, after: Ver, limit: number): Promise<Page> {
    return (await this.#ask({ kind: "page", selector, after, limit })) as Page;
  }

  changed(selector: Selector): Wake {
    this.#checkOpen();
    this.#poll ??= this.#timers.every(this.#pollMilliseconds, () => void this.#lookForOthers());
    return this.#watchers.wait(selector);
  }

  async latest(): Promise<Ver> {
    return (await this.#ask({ kind: "latest" })) as Ver;
  }

  async groups(prefix: string): Promise<readonly string[]> {
    checkSelector({ prefix });
    return (await this.#ask({ kind: "groups", prefix })) as readonly string[];
  }

  async putSnapshot(group: string, at: Ver, data: Uint8Array): Promise<void> {
    checkSnapshot(group, data);
    this.#checkOpen();
    const own = new Uint8Array(data);
    await this.#thread.submit({ kind: "put-snapshot", group, at, data: own }, own);
  }

  async getSnapshot(group: string): Promise<Snapshot | null> {
    checkName(group, "group");
    return (await this.#ask({ kind: "get-snapshot", group })) as Snapshot | null;
  }

  async claim(key: string, ttlClass: TtlClass): Promise<boolean> {
    checkName(key, "claim");
    const now = this.#clock.now();
    const expires = Math.min(now + TTL_CLASSES[ttlClass], Number.MAX_SAFE_INTEGER);
    return (await this.#ask({ kind: "claim", key, now, expires })) as boolean;
  }

  async lease(group: string, owner: string): Promise<Lease | null> {
    checkName(group, "group");
    checkName(owner, "owner");
    this.#checkOpen();
    const lasting = () => ({ now: this.#clock.now(), expires: this.#clock.now() + this.#leaseMilliseconds });
    return await this.#leases.acquire({
      acquire: async () => (await this.#ask({ kind: "acquire", group, owner, ...lasting() })) as bigint | undefined,
      renew: async (token) => (await this.#ask({ kind: "renew", group, token, ...lasting() })) as boolean,
      release: async (token) => void (await this.#thread.submit({ kind: "release", group, token })),
    });
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#endWatchers(closedError());
    await this.#leases.releaseAll();
    await this.#thread.end();
  }

  async #ask(operation: StoreOperation): Promise<unknown> {
    this.#checkOpen();
    return await this.#thread.submit(operation);
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw closedError();
  }

  async #lookForOthers(): Promise<void> {
    if (this.#polls) return;
    if (!this.#watchers.waiting) {
      this.#poll?.cancel();
      this.#poll = undefined;
      return;
    }
    this.#polls = true;
    try {
      if (await this.#ask({ kind: "others-wrote" })) this.#watchers.wake();
    } catch {
      // The watchers learn of it where they read.
      this.#watchers.wake();
    } finally {
      this.#polls = false;
    }
  }

  #endWatchers(error: WatchwordError): void {
    this.#poll?.cancel();
    this.#poll = undefined;
    this.#watchers.end(error);
  }
}

function closedError(): WatchwordError {
  return new WatchwordError("store.closed", "the store is closed");
}
