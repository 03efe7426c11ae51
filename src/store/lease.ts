import type { Timers } from "../io/index.js";
import type { Lease } from "./contracts.js";

/** What an engine does for a lease. */
export interface LeaseOperations {
  /** The token, or undefined while another owner has the lease. */
  acquire(): Promise<bigint | undefined>;
  /** Whether the lease with this token still stood, and now lasts anew. */
  renew(token: bigint): Promise<boolean>;
  release(token: bigint): Promise<void>;
}

/** The leases that one store holds. A lease ends here before the engine gives it to anybody else: its time counts from before it was asked for. */
export class Leases {
  readonly #timers: Timers;
  readonly #milliseconds: number;
  readonly #held = new Set<HeldLease>();

  constructor(timers: Timers, milliseconds: number) {
    this.#timers = timers;
    this.#milliseconds = milliseconds;
  }

  async acquire(operations: LeaseOperations): Promise<Lease | null> {
    const lease = new HeldLease(operations, this.#timers, this.#milliseconds, () => this.#held.delete(lease));
    this.#held.add(lease);
    return (await lease.acquire()) ? lease : null;
  }

  /** Gives all of them back; what cannot be given back runs out. */
  async releaseAll(): Promise<void> {
    await Promise.allSettled([...this.#held].map((lease) => lease.release()));
  }
}

class HeldLease implements Lease {
  token = 0n;
  readonly #operations: LeaseOperations;
  readonly #timers: Timers;
  readonly #milliseconds: number;
  readonly #ended: () => void;
  readonly #over = new AbortController();
  #expiry: ReturnType<Timers["after"]>;

  constructor(operations: LeaseOperations, timers: Timers, milliseconds: number, ended: () => void) {
    this.#operations = operations;
    this.#timers = timers;
    this.#milliseconds = milliseconds;
    this.#ended = ended;
    this.#expiry = this.#startExpiry();
  }

  get lost(): AbortSignal {
    return this.#over.signal;
  }

  async acquire(): Promise<boolean> {
    let token: bigint | undefined;
    try {
      token = await this.#operations.acquire();
    } finally {
      if (token === undefined) this.#end();
    }
    this.token = token ?? 0n;
    if (token === undefined || !this.lost.aborted) return token !== undefined;
    // It came too late to be sure of: others need not wait for it.
    await this.#operations.release(token).catch(() => undefined);
    return false;
  }

  async renew(): Promise<boolean> {
    if (this.lost.aborted) return false;
    const expiry = this.#startExpiry();
    let held = false;
    try {
      held = await this.#operations.renew(this.token);
    } catch (error) {
      // It may have been renewed or not: what it had before is sure.
      expiry.cancel();
      throw error;
    }
    if (held && !this.lost.aborted) {
      this.#expiry.cancel();
      this.#expiry = expiry;
      return true;
    }
    expiry.cancel();
    this.#end();
    return false;
  }

  async release(): Promise<void> {
    if (this.lost.aborted) return;
    this.#end();
    await this.#operations.release(this.token);
  }

  #startExpiry(): ReturnType<Timers["after"]> {
    return this.#timers.after(this.#milliseconds, () => this.#end());
  }

  #end(): void {
    this.#expiry.cancel();
    this.#ended();
    this.#over.abort();
  }
}
