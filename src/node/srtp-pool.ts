import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { WatchwordError } from "../bytes/index.js";
import type { SrtpMasterKey, SrtpOptions, SrtpReceiverOptions, SrtpStatistics } from "../srtp/index.js";
import { PacketRing, packetRingLayout, RingOperation, type RingOperationCode } from "./packet-ring.js";

/** The worker's program stands beside this file, compiled or not. */
const PROGRAM = new URL(import.meta.url.replace(/srtp-pool(\.\w+)$/, "srtp-pool-worker$1"));
const MAX_SLOTS = 0x1_0000;
const MAX_SLOT_OCTETS = 0x1_0000;

export interface SrtpPoolOptions {
  /** Threads, started as sessions need them. Default: one fewer than the machine has cores, at least 1. */
  readonly workers?: number;
  /** Packets that may be under way in each worker: a power of two up to 65,536. Default 1024. */
  readonly slots?: number;
  /** Octets of the longest packet with its tag, a multiple of 16 up to 65,536. Default 2048. A worker has `slots` times as much memory. */
  readonly slotOctets?: number;
  /** Node options of the workers. Default: those of the process. */
  readonly execArgv?: readonly string[];
}

/** What can be told to another thread: keys and policy, but no functions. The provider is that of Node. */
export type PooledSenderOptions = Omit<SrtpOptions, "crypto" | "cipherFactory">;
export type PooledReceiverOptions = Omit<SrtpReceiverOptions, "crypto" | "cipherFactory" | "isRolloverSynchronized">;

/** Where the results of a session go. */
export interface PooledSessionEvents {
  /**
   * A packet came back; packets come back in the order in which they were taken.
   * @param result octets of the packet, or a negative `SrtpFailure`
   * @param packet the result, in memory that is used again as soon as this returns
   * @param token what the packet was submitted with
   */
  packet(result: number, packet: Uint8Array, token: number): void;
  /**
   * The session's worker has died, and the session with it.
   * @param error `node.pool-worker`
   * @param lost tokens of the packets that were taken and do not come back, in order
   */
  failed(error: WatchwordError, lost: readonly number[]): void;
}

/** A session in a worker. Requests take effect between the packets before and after them. */
export interface PooledSession {
  /** Resolves when packets will be taken again, at the latest when half the queue is free. @throws WatchwordError `node.pool-worker`, `node.pool-closed` */
  ready(): Promise<void>;
  /** @throws WatchwordError as `SrtpSession.addKey` */
  addKey(key: SrtpMasterKey): Promise<void>;
  removeKey(mki?: Uint8Array): Promise<boolean>;
  rolloverCounter(ssrc: number): Promise<number | undefined>;
  /** Wipes the keys, when the packets taken are done. */
  close(): Promise<void>;
}

export interface PooledSrtpSender extends PooledSession {
  /**
   * Takes a packet to be protected. The caller's memory is free at once.
   * @param token any 32-bit integer, given back with the result. Default 0
   * @returns false where the worker's queue is full: the packet is not taken, `ready` tells when to try again
   * @throws WatchwordError `node.pool-packet`, `node.pool-worker`, `node.pool-closed`
   */
  protect(packet: Uint8Array, token?: number): boolean;
  /** Takes an RTCP packet; see `protect`. */
  protectRtcp(packet: Uint8Array, token?: number): boolean;
  /** @throws WatchwordError as `SrtpSender.useKey` */
  useKey(mki?: Uint8Array): Promise<void>;
  /** @throws WatchwordError as `SrtpSender.setRolloverCounter` */
  setRolloverCounter(ssrc: number, rolloverCounter: number): Promise<void>;
}

export interface PooledSrtpReceiver extends PooledSession {
  /** Takes a packet to be opened; see `PooledSrtpSender.protect`. */
  unprotect(packet: Uint8Array, token?: number): boolean;
  unprotectRtcp(packet: Uint8Array, token?: number): boolean;
  /** @throws WatchwordError as `SrtpReceiver.setRolloverCounter` */
  setRolloverCounter(ssrc: number, rolloverCounter: number, sequence?: number): Promise<void>;
  statistics(): Promise<{ readonly rtp: SrtpStatistics; readonly rtcp: SrtpStatistics }>;
}

/**
 * SRTP sessions spread over threads. A session, and so each of its SSRCs, stays in one worker and keeps its order; queues are bounded;
 * what is taken comes back or is named when its worker dies.
 */
export interface SrtpPool {
  /** @throws WatchwordError as `createSrtpSender`, `node.pool-worker`, `node.pool-closed` */
  sender(options: PooledSenderOptions, events: PooledSessionEvents): Promise<PooledSrtpSender>;
  /** @throws WatchwordError as `createSrtpReceiver`, `node.pool-worker`, `node.pool-closed` */
  receiver(options: PooledReceiverOptions, events: PooledSessionEvents): Promise<PooledSrtpReceiver>;
  /** Ends the workers when the packets taken are done; every key is wiped, and so is the memory of the packets. */
  close(): Promise<void>;
}

type Request =
  | { readonly kind: "sender"; readonly session: number; readonly options: PooledSenderOptions }
  | { readonly kind: "receiver"; readonly session: number; readonly options: PooledReceiverOptions }
  | { readonly kind: "add-key"; readonly session: number; readonly key: SrtpMasterKey }
  | { readonly kind: "remove-key" | "use-key"; readonly session: number; readonly mki: Uint8Array | undefined }
  | {
      readonly kind: "set-rollover-counter";
      readonly session: number;
      readonly ssrc: number;
      readonly rolloverCounter: number;
      readonly sequence?: number | undefined;
    }
  | { readonly kind: "rollover-counter"; readonly session: number; readonly ssrc: number }
  | { readonly kind: "statistics" | "close"; readonly session: number }
  | { readonly kind: "end" };

/** A request to a worker, to be carried out when the packets before `at` are done. */
export type PoolRequest = Request & { readonly id: number; readonly at: number };

export interface PoolAnswer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: { readonly code: string; readonly message: string };
}

/**
 * A pool of threads for SRTP. Worth its while from several busy sessions on: each packet costs two copies and a share of a call
 * between threads.
 * @throws WatchwordError `node.pool-option`
 */
export function createSrtpPool(options: SrtpPoolOptions = {}): SrtpPool {
  const { workers = Math.max(1, availableParallelism() - 1), slots = 1024, slotOctets = 2048, execArgv } = options;
  checkOption(Number.isInteger(workers) && workers >= 1, "workers is a positive integer");
  checkOption(
    Number.isInteger(slots) && slots >= 2 && slots <= MAX_SLOTS && (slots & (slots - 1)) === 0,
    `slots is a power of two from 2 to ${MAX_SLOTS}`,
  );
  checkOption(
    Number.isInteger(slotOctets) && slotOctets >= 64 && slotOctets <= MAX_SLOT_OCTETS && slotOctets % 16 === 0,
    `slotOctets is a multiple of 16 from 64 to ${MAX_SLOT_OCTETS}`,
  );
  return new Pool(workers, () => new PoolWorker(slots, slotOctets, execArgv));
}

function checkOption(holds: boolean, meaning: string): void {
  if (!holds) throw new WatchwordError("node.pool-option", meaning);
}

class Pool implements SrtpPool {
  readonly #most: number;
  readonly #start: () => PoolWorker;
  #workers: PoolWorker[] = [];
  #nextSession = 1;
  #closed = false;

  constructor(most: number, start: () => PoolWorker) {
    this.#most = most;
    this.#start = start;
  }

  async sender(options: PooledSenderOptions, events: PooledSessionEvents): Promise<PooledSrtpSender> {
    const [worker, session] = this.#place();
    await worker.open({ kind: "sender", session, options: { ...options, keys: options.keys.map(ownKey) } }, events);
    return {
      ...common(worker, session),
      protect: (packet, token = 0) => worker.submit(session, RingOperation.protect, packet, token),
      protectRtcp: (packet, token = 0) => worker.submit(session, RingOperation.protectRtcp, packet, token),
      useKey: async (mki) => void (await worker.request({ kind: "use-key", session, mki })),
      setRolloverCounter: async (ssrc, rolloverCounter) =>
        void (await worker.request({ kind: "set-rollover-counter", session, ssrc, rolloverCounter })),
    };
  }

  async receiver(options: PooledReceiverOptions, events: PooledSessionEvents): Promise<PooledSrtpReceiver> {
    const [worker, session] = this.#place();
    await worker.open({ kind: "receiver", session, options: { ...options, keys: options.keys.map(ownKey) } }, events);
    return {
      ...common(worker, session),
      unprotect: (packet, token = 0) => worker.submit(session, RingOperation.unprotect, packet, token),
      unprotectRtcp: (packet, token = 0) => worker.submit(session, RingOperation.unprotectRtcp, packet, token),
      setRolloverCounter: async (ssrc, rolloverCounter, sequence) =>
        void (await worker.request({ kind: "set-rollover-counter", session, ssrc, rolloverCounter, sequence })),
      statistics: async () =>
        (await worker.request({ kind: "statistics", session })) as { rtp: SrtpStatistics; rtcp: SrtpStatistics },
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#workers.splice(0).map((worker) => worker.end()));
  }

  /** A new worker while there may be more, else the one with the fewest sessions. */
  #place(): [worker: PoolWorker, session: number] {
    if (this.#closed) throw new WatchwordError("node.pool-closed", "the pool is closed");
    this.#workers = this.#workers.filter((worker) => worker.isAlive);
    let least = this.#workers.toSorted((a, b) => a.load - b.load)[0];
    if (least === undefined || (least.load > 0 && this.#workers.length < this.#most)) {
      least = this.#start();
      this.#workers.push(least);
    }
    return [least, this.#nextSession++];
  }
}

function common(worker: PoolWorker, session: number): PooledSession {
  return {
    ready: () => worker.ready(session),
    addKey: async (key) => void (await worker.request({ kind: "add-key", session, key: ownKey(key) })),
    removeKey: async (mki) => (await worker.request({ kind: "remove-key", session, mki })) as boolean,
    rolloverCounter: async (ssrc) => (await worker.request({ kind: "rollover-counter", session, ssrc })) as number | undefined,
    close: () => worker.closeSession(session),
  };
}

/** Octets that are handed over to the worker, so that no copy stays here. */
function ownKey(key: SrtpMasterKey): SrtpMasterKey {
  return { ...key, key: new Uint8Array(key.key), salt: new Uint8Array(key.salt) };
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: WatchwordError): void;
}

/** One thread as the pool sees it. */
class PoolWorker {
  readonly #thread: Worker;
  readonly #ring: PacketRing;
  readonly #sessions = new Map<number, PooledSessionEvents>();
  /** Sessions that take no more packets, while those under way come back. */
  readonly #closing = new Map<number, PooledSessionEvents>();
  readonly #pending = new Map<number, Pending>();
  readonly #exited: Promise<void>;
  #waiting: Pending[] = [];
  #nextRequest = 1;
  /** Slots whose results were taken out. */
  #consumed = 0;
  #failure: WatchwordError | undefined;
  #ending = false;

  constructor(slots: number, slotOctets: number, execArgv: readonly string[] | undefined) {
    const layout = packetRingLayout(slots, slotOctets);
    this.#ring = new PacketRing(layout);
    this.#thread = new Worker(PROGRAM, { workerData: layout, ...(execArgv && { execArgv: [...execArgv] }) });
    this.#thread.on("message", (message: PoolAnswer | undefined) => {
      this.#ring.answerCall();
      this.#drain();
      if (message !== undefined) this.#settle(message);
    });
    this.#thread.on("error", (cause) => this.#fail(cause));
    this.#exited = new Promise((resolve) => {
      this.#thread.on("exit", () => {
        if (!this.#ending || this.#pending.size > 0) this.#fail(undefined);
        this.#ring.wipe();
        resolve();
      });
    });
  }

  get isAlive(): boolean {
    return this.#failure === undefined && !this.#ending;
  }

  /** Sessions, those being opened included. */
  get load(): number {
    return this.#sessions.size;
  }

  async open(request: Extract<Request, { kind: "sender" | "receiver" }>, events: PooledSessionEvents): Promise<void> {
    const { session } = request;
    this.#sessions.set(session, events);
    try {
      await this.request(request);
    } catch (error) {
      this.#sessions.delete(session);
      throw error;
    }
  }

  submit(session: number, operation: RingOperationCode, packet: Uint8Array, token: number): boolean {
    this.#check(session);
    if (packet.length > this.#ring.slotOctets) {
      throw new WatchwordError("node.pool-packet", `a packet of ${packet.length} octets, slots have ${this.#ring.slotOctets}`);
    }
    if (this.#ring.room(this.#consumed) === 0) return false;
    this.#ring.submit(session, operation, packet, token);
    return true;
  }

  async ready(session: number): Promise<void> {
    this.#check(session);
    if (this.#hasMuchRoom()) return;
    await new Promise<unknown>((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  async request(request: Request): Promise<unknown> {
    if (request.kind !== "end") this.#check(request.session);
    const id = this.#nextRequest++;
    const keys = request.kind === "sender" || request.kind === "receiver" ? request.options.keys : [];
    const handedOver = (request.kind === "add-key" ? [request.key] : keys).flatMap(({ key, salt }) => [key.buffer, salt.buffer]);
    const answered = new Promise<unknown>((resolve, reject) => this.#pending.set(id, { resolve, reject }));
    this.#thread.postMessage({ ...request, id, at: this.#ring.submitted }, handedOver as ArrayBuffer[]);
    this.#ring.announceRequest();
    return answered;
  }

  async closeSession(session: number): Promise<void> {
    if (!this.isAlive || !this.#sessions.has(session)) return;
    const answered = this.request({ kind: "close", session });
    const events = this.#sessions.get(session) as PooledSessionEvents;
    this.#sessions.delete(session);
    this.#closing.set(session, events);
    await answered.finally(() => this.#closing.delete(session));
  }

  async end(): Promise<void> {
    if (this.isAlive) {
      const answered = this.request({ kind: "end" });
      this.#ending = true;
      for (const [session, events] of this.#sessions) this.#closing.set(session, events);
      this.#sessions.clear();
      await answered.catch(() => undefined);
      this.#release(new WatchwordError("node.pool-closed", "the pool is closed"));
    }
    await this.#exited;
  }

  #check(session: number): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (!this.#sessions.has(session)) throw new WatchwordError("node.pool-closed", "the session or its pool is closed");
  }

  /** Takes out every result. */
  #drain(): void {
    const { done } = this.#ring;
    while (this.#consumed !== done) {
      const counter = this.#consumed;
      const session = this.#ring.session(counter);
      const result = this.#ring.length(counter);
      const events = this.#sessions.get(session) ?? this.#closing.get(session);
      try {
        events?.packet(result, this.#ring.slot(counter).subarray(0, Math.max(0, result)), this.#ring.token(counter));
      } catch (error) {
        // A fault of the handler is the program's to see, but takes no other packet with it.
        queueMicrotask(() => {
          throw error;
        });
      }
      this.#consumed = (counter + 1) | 0;
    }
    if (!this.#hasMuchRoom()) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { resolve } of waiting) resolve(undefined);
  }

  /** Half the ring: whoever waits then has many packets taken at once, instead of waiting again for each. */
  #hasMuchRoom(): boolean {
    return this.#ring.room(this.#consumed) >= this.#ring.slots >> 1;
  }

  #settle({ id, value, error }: PoolAnswer): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (error === undefined) pending?.resolve(value);
    else pending?.reject(new WatchwordError(error.code, error.message));
  }

  /** The thread is gone: what it had done is delivered, what it had not is named. */
  #fail(cause: unknown): void {
    if (this.#failure !== undefined) return;
    const failure = new WatchwordError("node.pool-worker", "a worker of the SRTP pool has ended", { cause });
    this.#failure = failure;
    this.#drain();
    const lost = new Map<number, number[]>();
    for (let counter = this.#consumed; counter !== this.#ring.submitted; counter = (counter + 1) | 0) {
      const session = this.#ring.session(counter);
      const tokens = lost.get(session) ?? [];
      lost.set(session, tokens);
      tokens.push(this.#ring.token(counter));
    }
    this.#release(failure);
    for (const { reject } of this.#pending.values()) reject(failure);
    this.#pending.clear();
    for (const [session, events] of [...this.#sessions, ...this.#closing]) events.failed(failure, lost.get(session) ?? []);
    this.#sessions.clear();
    this.#closing.clear();
  }

  #release(error: WatchwordError): void {
    for (const { reject } of this.#waiting) reject(error);
    this.#waiting = [];
  }
}
