/**
 * Version of a record. Versions grow over all logs of a store in the order in which records became durable, and have gaps;
 * nothing else is to be read out of them.
 */
export type Ver = bigint;

/** Before every record: what an empty log's head is expected to be, and where a reader begins. */
export const NO_VERSION: Ver = 0n;

/** What a caller appends. */
export interface NewRec {
  /** The log's own count, chosen by the caller: greater than that of the record before, at most 2^53 - 1. It may skip. */
  readonly gseq: number;
  /** Names this attempt: an append that is repeated with the same `expected`, `gseq` and `id` happens once. 1 to 512 octets of UTF-8. */
  readonly id: string;
  /** At most `MAX_RECORD_OCTETS`. */
  readonly data: Uint8Array;
}

/** A record of a log. */
export interface Rec extends NewRec {
  /** The log, mostly a group. */
  readonly group: string;
  readonly ver: Ver;
  /** Version of the log's record before this one, `NO_VERSION` for the first: who follows a log sees by it that none is missing. */
  readonly prev: Ver;
}

/** The state of a log as of one of its records, in place of the records before it. */
export interface Snapshot {
  readonly at: Ver;
  /** `gseq` of that record. */
  readonly gseq: number;
  readonly data: Uint8Array;
}

/** Whose records a watcher wants: those of one log, or of all logs whose name begins with `prefix` (an empty one: of all). */
export type Selector = { readonly group: string } | { readonly prefix: string };

/**
 * How long a claim is kept at least, in milliseconds. What is claimed for the skew that a timestamp may have has to be kept for
 * both sides of it; a COUNTER does not age.
 */
export const TTL_CLASSES = { "10m": 600_000, "1h": 3_600_000, "1d": 86_400_000, forever: Number.POSITIVE_INFINITY } as const;
export type TtlClass = keyof typeof TTL_CLASSES;

/** The shortest class that keeps a claim for so many milliseconds. */
export function ttlClassFor(milliseconds: number): TtlClass {
  const classes = Object.entries(TTL_CLASSES) as [TtlClass, number][];
  return classes.find(([, kept]) => kept >= milliseconds)?.[0] ?? "forever";
}

/** Octets of the longest name: of a log, an id, a claim or an owner. The shortest name has one octet. */
export const MAX_NAME_OCTETS = 512;
/** Octets of the largest record. */
export const MAX_RECORD_OCTETS = 0x400_0000;
/** Octets of the largest snapshot. */
export const MAX_SNAPSHOT_OCTETS = 0x1000_0000;

/** One owner's turn to work on a group. It avoids contention; that nothing goes wrong comes from `expected` alone. */
export interface Lease {
  /** Greater than that of every lease of the group before. */
  readonly token: bigint;
  /** Aborts when the lease is over for any reason: expired, taken over, released, or the store closed. */
  readonly lost: AbortSignal;
  /** Lets it last anew from now. False where it is lost. @throws WatchwordError `store.unavailable`, `store.ambiguous`: it may still run out */
  renew(): Promise<boolean>;
  /** Lets others have it at once. Does nothing where it is lost. */
  release(): Promise<void>;
}

/**
 * What a key server remembers: logs of records with a compare-and-set at their end, snapshots, claims, leases. Engines: in memory,
 * SQLite; all pass one suite (`test/suites/store.ts`). What was acknowledged is durable. Several stores, in one process or many, may
 * share what is stored.
 *
 * Every call may fail with `store.closed`, `store.unavailable` (nothing has happened, and it may be tried again), `store.name` (a name that
 * is empty, longer than `MAX_NAME_OCTETS` or not well-formed) and `store.corrupt`. Calls that change something may fail with
 * `store.ambiguous`: nobody knows whether it happened.
 */
export interface Store {
  /**
   * Appends one record, one atomic change, if the log's newest record is still `expected` (`NO_VERSION`: if the log is empty).
   * The octets are copied at once.
   * @returns its version, once it is durable; that of the first time where the append is a repeated one, while the record is kept
   * @throws StoreConflict `store.conflict`: another record is there. WatchwordError `store.sequence`: `gseq` is not greater than that of the
   * record before, or no integer from 0 to 2^53 - 1; `store.too-large`; `store.ambiguous`: append again with the same `expected` and `id`
   */
  append(group: string, expected: Ver, record: NewRec): Promise<Ver>;
  /** The newest record of a log, or null where there is none. A snapshot does not drop it. */
  head(group: string): Promise<Rec | null>;
  /**
   * Records of one log with versions above `after`, oldest first, as many as were there when the last of them is reached.
   * @throws WatchwordError `store.dropped`: records above `after` were dropped below a snapshot, now or while it reads
   */
  read(group: string, after: Ver, limit?: number): AsyncIterable<Rec>;
  /**
   * Records above `after` in the order of their versions: first those that are there, then those that come, until `signal` aborts (the
   * iteration ends) or the store closes (`store.closed`). Records wait in the store, not in memory, while the watcher works.
   * @throws WatchwordError `store.dropped` as `read`, where one log is watched. Where more are, a record's `prev` tells that others were dropped.
   */
  watch(selector: Selector, after: Ver, signal: AbortSignal): AsyncIterable<Rec>;
  /** Version of the newest record in any log, or `NO_VERSION`. */
  latest(): Promise<Ver>;
  /** Names of the logs that begin with `prefix`, in the order of their octets. */
  groups(prefix: string): Promise<readonly string[]>;
  /**
   * Puts the state of a log as of its record `at` in place of the snapshot before; records before `at` are dropped, and what they held is
   * overwritten as far as the engine can. The same `at` again replaces it.
   * @throws StoreConflict `store.conflict`: a newer snapshot is there, or the log has no record `at`. WatchwordError `store.too-large`
   */
  putSnapshot(group: string, at: Ver, data: Uint8Array): Promise<void>;
  getSnapshot(group: string): Promise<Snapshot | null>;
  /**
   * Claims a key: true once per key for at least as long as its class says, over all stores that share it, and durable before true.
   * After `store.ambiguous` the key counts as claimed.
   */
  claim(key: string, ttlClass: TtlClass): Promise<boolean>;
  /**
   * The lease of a group for `owner`, or null while another owner has it. The same owner gets it anew, and what it had of it before is lost:
   * a controller that was restarted under its name need not wait.
   */
  lease(group: string, owner: string): Promise<Lease | null>;
  /** Finishes what was begun, releases this store's leases, and ends its watchers. Idempotent. */
  close(): Promise<void>;
}

/** A message of a group's rekey log. */
export interface Rekey {
  readonly rseq: number;
  readonly message: Uint8Array;
}

/**
 * The rekey messages of groups as they went out, for those who have to send them again (RFC 4046 §5.3): a projection of the store, which a
 * controller repeats from the last projected place after it took over.
 */
export interface RekeyBus {
  /**
   * Keeps a message; resolves once it is durable. Idempotent by (group, rseq).
   * @throws StoreConflict `store.conflict`: other octets went out under this number. WatchwordError `store.sequence`: a newer message is there
   * and this one never was
   */
  publish(group: string, rseq: number, message: Uint8Array): Promise<void>;
  /** At most `limit` kept messages from number `rseq` on, in their order. */
  readFrom(group: string, rseq: number, limit: number): Promise<readonly Rekey[]>;
  /**
   * Calls back for each message that is published from now on, at most once each; who sees a gap reads back. `callback` must not throw.
   * @returns how to end it
   */
  subscribe(group: string, callback: (rekey: Rekey) => void): () => void;
}
