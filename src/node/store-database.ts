import { WatchwordError } from "../bytes/index.js";
import type { Page, Rec, Selector, Snapshot, Ver } from "../store/index.js";
import type { SqliteConnection, SqliteEngine, SqliteStatement, SqliteValue } from "./store-engine.js";

/** What can be asked of a store's file. Times are milliseconds since 1970. */
export type StoreOperation =
  | { readonly kind: "append"; readonly group: string; readonly expected: Ver; readonly record: Pick<Rec, "gseq" | "id" | "data"> }
  | { readonly kind: "head" | "get-snapshot"; readonly group: string }
  | { readonly kind: "page"; readonly selector: Selector; readonly after: Ver; readonly limit: number }
  | { readonly kind: "latest" | "others-wrote" }
  | { readonly kind: "groups"; readonly prefix: string }
  | { readonly kind: "put-snapshot"; readonly group: string; readonly at: Ver; readonly data: Uint8Array }
  | { readonly kind: "claim"; readonly key: string; readonly now: number; readonly expires: number }
  | { readonly kind: "acquire"; readonly group: string; readonly owner: string; readonly now: number; readonly expires: number }
  | { readonly kind: "renew"; readonly group: string; readonly token: bigint; readonly now: number; readonly expires: number }
  | { readonly kind: "release"; readonly group: string; readonly token: bigint };

/** What became of one operation: its value; or it was refused, because the newest record is another, or has this `gseq` already. */
export type StoreOutcome = { readonly value: unknown } | { readonly conflict: Ver } | { readonly sequence: number };

const WRITES: ReadonlySet<StoreOperation["kind"]> = new Set(["append", "put-snapshot", "claim", "acquire", "renew", "release"]);

/** Whether an operation changes what is stored. */
export function isWrite(operation: StoreOperation): boolean {
  return WRITES.has(operation.kind);
}

/** "ww01": files of this kind. */
const APPLICATION_ID = 0x77773031;
const SCHEMA_VERSION = 1;

/**
 * Versions are the row numbers of `records`. The newest record of every log is kept, so the greatest row number is, and none comes twice.
 * The index on `log` holds row numbers too: it is in the order of versions within a log.
 */
const SCHEMA = `
  CREATE TABLE logs (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
  CREATE TABLE records (
    ver INTEGER PRIMARY KEY, log INTEGER NOT NULL, prev INTEGER NOT NULL, gseq INTEGER NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL
  );
  CREATE INDEX records_by_log ON records (log);
  CREATE TABLE snapshots (log INTEGER PRIMARY KEY, at INTEGER NOT NULL, gseq INTEGER NOT NULL, data BLOB NOT NULL);
  CREATE TABLE claims (key TEXT PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX claims_by_expiry ON claims (expires);
  CREATE TABLE leases (name TEXT PRIMARY KEY, owner TEXT NOT NULL, token INTEGER NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;
  PRAGMA application_id = ${APPLICATION_ID};
  PRAGMA user_version = ${SCHEMA_VERSION};
`;

/** A parameter of octets. Node 22 makes NULL of an array that is empty. */
const OCTETS = "ifnull(?, x'')";

/** Octets and records of one page; a larger record is a page of its own. */
const PAGE_OCTETS = 0x10_0000;
const PAGE_RECORDS = 256;
/** Records that are looked at for one page, wanted or not. */
const PAGE_SCAN = 4096;
/** Expired claims that are forgotten for each one that is made. */
const SWEPT_PER_CLAIM = 4;
/** Octets of WAL that are kept for use again. */
const WAL_OCTETS = 0x400_0000;
/** Between two tries where another connection is in the way. */
const RETRY_MILLISECONDS = 0.5;

/** SQLite's primary result codes (https://sqlite.org/rescode.html). */
const SQLITE_BUSY = 5;
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_NOTADB = 26;

interface RecordRow {
  readonly ver: number;
  readonly name: string;
  readonly prev: number;
  readonly gseq: number;
  readonly id: string;
  readonly data: Uint8Array;
}

/**
 * The file of a store. Operations run in batches, each in one transaction: what one of them refuses is its own outcome, what the database
 * refuses is that of all.
 */
export class StoreDatabase {
  readonly #connection: SqliteConnection;
  readonly #statements = new Map<string, SqliteStatement>();
  readonly #busyMilliseconds: number;
  readonly #sleeper = new Int32Array(new SharedArrayBuffer(4));
  #dataVersion: number;

  /**
   * @param path absolute, of a file that is there
   * @throws WatchwordError `node.store-engine` where SQLite does not do what durability needs, `node.store-file`, `store.corrupt`,
   * `store.unavailable`
   */
  constructor(engine: SqliteEngine, path: string, busyMilliseconds: number) {
    this.#busyMilliseconds = busyMilliseconds;
    try {
      this.#connection = engine.open(path);
    } catch (error) {
      throw storeError(error);
    }
    try {
      this.#patiently(() => this.#settle(engine));
      this.#patiently(() => this.#createSchema(path));
      this.#dataVersion = this.#pragma("data_version") as number;
    } catch (error) {
      this.#connection.close();
      throw storeError(error);
    }
  }

  /**
   * @returns what became of each operation, once all of it is durable
   * @throws WatchwordError `store.unavailable`, `store.corrupt`: nothing has changed; `store.ambiguous`: it may have, and the file has to be
   * opened anew
   */
  run(operations: readonly StoreOperation[]): StoreOutcome[] {
    return this.#patiently(() => this.#transaction(operations));
  }

  #transaction(operations: readonly StoreOperation[]): StoreOutcome[] {
    // A transaction that begins by reading may find that it cannot write any more.
    this.#connection.exec(operations.some(isWrite) ? "BEGIN IMMEDIATE" : "BEGIN");
    let outcomes: StoreOutcome[];
    try {
      outcomes = operations.map((operation) => this.#outcome(operation));
    } catch (error) {
      this.#rollback();
      throw error;
    }
    try {
      this.#connection.exec("COMMIT");
    } catch (error) {
      this.#rollback();
      // Without room for its last page, a transaction is none.
      if (resultCode(error) === SQLITE_BUSY || resultCode(error) === SQLITE_FULL) throw error;
      // What the disk said it could not keep may be there after all, and what it says next is not to be trusted.
      throw new WatchwordError("store.ambiguous", `the commit failed: ${textOf(error)}`, { cause: error });
    }
    return outcomes;
  }

  /**
   * Does again what another connection was in the way of. SQLite's own patience grows to a tenth of a second between two tries, while
   * a commit takes a fraction of a millisecond; and it has none where it switches to WAL.
   */
  #patiently<T>(step: () => T): T {
    const end = performance.now() + this.#busyMilliseconds;
    for (;;) {
      try {
        return step();
      } catch (error) {
        if (resultCode(error) !== SQLITE_BUSY || performance.now() >= end) throw storeError(error);
        Atomics.wait(this.#sleeper, 0, 0, RETRY_MILLISECONDS);
      }
    }
  }

  /**
   * Cuts off the log of changes: what was dropped from the tables is in it still.
   * @returns false where another connection needs it just now
   * @throws WatchwordError `store.unavailable`, `store.corrupt`
   */
  truncateLog(): boolean {
    try {
      return this.#pragma("wal_checkpoint(TRUNCATE)") === 0;
    } catch (error) {
      if (resultCode(error) !== SQLITE_BUSY) throw storeError(error);
      return false;
    }
  }

  close(): void {
    this.#connection.close();
  }

  /** Sets what durability needs, and reads it back: a WAL file that is opened again has `synchronous` NORMAL unless it is said. */
  #settle(engine: SqliteEngine): void {
    this.#connection.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      PRAGMA fullfsync = ON;
      PRAGMA checkpoint_fullfsync = ON;
      PRAGMA secure_delete = ON;
      PRAGMA trusted_schema = OFF;
      PRAGMA cell_size_check = ON;
      PRAGMA temp_store = MEMORY;
      PRAGMA journal_size_limit = ${WAL_OCTETS};
    `);
    for (const [pragma, needed] of [
      ["journal_mode", "wal"],
      ["synchronous", 2],
      ["secure_delete", 1],
    ] as const) {
      const found = this.#pragma(pragma);
      if (found !== needed) {
        throw new WatchwordError("node.store-engine", `${engine.name} has ${pragma} ${found} where the store needs ${needed}`);
      }
    }
  }

  #createSchema(path: string): void {
    this.#connection.exec("BEGIN IMMEDIATE");
    try {
      const [application, version] = [this.#pragma("application_id"), this.#pragma("user_version")];
      const isEmpty = this.#get("SELECT 1 FROM sqlite_schema LIMIT 1") === undefined;
      if (application === 0 && version === 0 && isEmpty) {
        this.#connection.exec(SCHEMA);
      } else if (application !== APPLICATION_ID) {
        throw new WatchwordError("node.store-file", `${path} is the database of another program`);
      } else if (version !== SCHEMA_VERSION) {
        throw new WatchwordError(
          "node.store-file",
          `${path} has format ${version}, this version of watchword knows ${SCHEMA_VERSION}`,
        );
      }
      this.#connection.exec("COMMIT");
    } catch (error) {
      this.#rollback();
      throw error;
    }
  }

  #rollback(): void {
    try {
      this.#connection.exec("ROLLBACK");
    } catch {
      // SQLite has rolled back already.
    }
  }

  #outcome(operation: StoreOperation): StoreOutcome {
    switch (operation.kind) {
      case "append":
        return this.#append(operation.group, operation.expected, operation.record);
      case "head":
        return { value: this.#head(operation.group) };
      case "page":
        return { value: this.#page(operation.selector, operation.after, operation.limit) };
      case "latest":
        return { value: BigInt((this.#get("SELECT max(ver) AS ver FROM records")?.["ver"] as number | null) ?? 0) };
      case "others-wrote":
        return { value: this.#othersWrote() };
      case "groups":
        return { value: this.#groups(operation.prefix) };
      case "put-snapshot":
        return this.#putSnapshot(operation.group, operation.at, operation.data);
      case "get-snapshot":
        return { value: this.#getSnapshot(operation.group) };
      case "claim":
        return { value: this.#claim(operation.key, operation.now, operation.expires) };
      case "acquire":
        return { value: this.#acquire(operation.group, operation.owner, operation.now, operation.expires) };
      case "renew": {
        const { group, token, now, expires } = operation;
        const sql = "UPDATE leases SET expires = ? WHERE name = ? AND token = ? AND expires > ?";
        return { value: this.#run(sql, expires, group, Number(token), now) > 0 };
      }
      case "release":
        this.#run("UPDATE leases SET expires = 0 WHERE name = ? AND token = ?", operation.group, Number(operation.token));
        return { value: undefined };
    }
  }

  #append(group: string, expected: Ver, { gseq, id, data }: Pick<Rec, "gseq" | "id" | "data">): StoreOutcome {
    const log = this.#log(group);
    const head = log === undefined ? undefined : this.#headPlace(log);
    const place = BigInt(head?.ver ?? 0);
    if (place !== expected) {
      const next =
        log === undefined
          ? undefined
          : this.#get(
              "SELECT ver, prev, gseq, id FROM records WHERE log = ? AND ver > ? ORDER BY ver LIMIT 1",
              log,
              versionNumber(expected),
            );
      if (next !== undefined && BigInt(next["prev"] as number) === expected && next["id"] === id && next["gseq"] === gseq) {
        return { value: BigInt(next["ver"] as number) };
      }
      return { conflict: place };
    }
    if (head !== undefined && gseq <= head.gseq) return { sequence: head.gseq };
    const target = log ?? this.#insert("INSERT INTO logs (name) VALUES (?)", group);
    const sql = `INSERT INTO records (log, prev, gseq, id, data) VALUES (?, ?, ?, ?, ${OCTETS})`;
    return { value: BigInt(this.#insert(sql, target, versionNumber(expected), gseq, id, data)) };
  }

  #head(group: string): Rec | null {
    const log = this.#log(group);
    if (log === undefined) return null;
    const row = this.#get("SELECT ver, prev, gseq, id, data FROM records WHERE log = ? ORDER BY ver DESC LIMIT 1", log);
    return row === undefined ? null : recordOf({ ...row, name: group } as unknown as RecordRow);
  }

  /** Looks for the wanted ones first, and fetches their octets then. */
  #page(selector: Selector, after: Ver, limit: number): Page {
    const from = versionNumber(after);
    const scan = Math.min(PAGE_SCAN, "group" in selector ? Math.min(limit, PAGE_RECORDS) : PAGE_SCAN);
    const log = "group" in selector ? this.#log(selector.group) : undefined;
    if ("group" in selector && log === undefined) return { records: [], next: after, more: false };
    const rows = (
      log === undefined
        ? this.#all("SELECT ver, log, length(data) AS octets FROM records WHERE ver > ? ORDER BY ver LIMIT ?", from, scan)
        : this.#all(
            "SELECT ver, log, length(data) AS octets FROM records WHERE log = ? AND ver > ? ORDER BY ver LIMIT ?",
            log,
            from,
            scan,
          )
    ) as readonly { readonly ver: number; readonly log: number; readonly octets: number }[];
    const records: Rec[] = [];
    const names = new Map<number, string>();
    let next = after;
    let octets = 0;
    for (const row of rows) {
      const name = names.get(row.log) ?? (this.#get("SELECT name FROM logs WHERE id = ?", row.log)?.["name"] as string);
      names.set(row.log, name);
      if ("group" in selector || name.startsWith(selector.prefix)) {
        octets += row.octets;
        const isFull = records.length >= Math.min(limit, PAGE_RECORDS) || octets > PAGE_OCTETS;
        if (isFull && records.length > 0) return { records, next, more: true };
        const found = this.#get("SELECT ver, prev, gseq, id, data FROM records WHERE ver = ?", row.ver);
        records.push(recordOf({ ...found, name } as unknown as RecordRow));
      }
      next = BigInt(row.ver);
    }
    return { records, next, more: rows.length === scan };
  }

  #groups(prefix: string): readonly string[] {
    // Names with the prefix stand together, beginning with the prefix itself; what stands behind them all is not known as a text.
    const names: string[] = [];
    for (let from = prefix, inclusive = true; ; inclusive = false) {
      const sql = `SELECT name FROM logs WHERE name ${inclusive ? ">=" : ">"} ? ORDER BY name LIMIT ${PAGE_SCAN}`;
      const rows = this.#all(sql, from) as readonly { readonly name: string }[];
      for (const { name } of rows) {
        if (!name.startsWith(prefix)) return names;
        names.push(name);
        from = name;
      }
      if (rows.length < PAGE_SCAN) return names;
    }
  }

  #putSnapshot(group: string, at: Ver, data: Uint8Array): StoreOutcome {
    const log = this.#log(group);
    const ver = versionNumber(at);
    const record = log === undefined ? undefined : this.#get("SELECT gseq FROM records WHERE log = ? AND ver = ?", log, ver);
    // A snapshot drops the records before its own: a record that is there is not older than the snapshot.
    if (log === undefined || record === undefined) {
      return { conflict: BigInt((log === undefined ? undefined : this.#headPlace(log)?.ver) ?? 0) };
    }
    const sql = `INSERT OR REPLACE INTO snapshots (log, at, gseq, data) VALUES (?, ?, ?, ${OCTETS})`;
    this.#run(sql, log, ver, record["gseq"] as number, data);
    this.#run("DELETE FROM records WHERE log = ? AND ver < ?", log, ver);
    return { value: undefined };
  }

  #getSnapshot(group: string): Snapshot | null {
    const row = this.#get(
      "SELECT at, gseq, data FROM snapshots WHERE log = (SELECT id FROM logs WHERE name = ?)",
      group,
    ) as unknown as { readonly at: number; readonly gseq: number; readonly data: Uint8Array } | undefined;
    return row === undefined ? null : { at: BigInt(row.at), gseq: row.gseq, data: row.data };
  }

  #claim(key: string, now: number, expires: number): boolean {
    this.#run(
      `DELETE FROM claims WHERE key IN (SELECT key FROM claims WHERE expires <= ? ORDER BY expires LIMIT ${SWEPT_PER_CLAIM})`,
      now,
    );
    const sql = `INSERT INTO claims (key, expires) VALUES (?, ?)
      ON CONFLICT (key) DO UPDATE SET expires = excluded.expires WHERE expires <= ?`;
    return this.#run(sql, key, expires, now) > 0;
  }

  #acquire(group: string, owner: string, now: number, expires: number): bigint | undefined {
    const known = this.#get("SELECT owner, token, expires FROM leases WHERE name = ?", group);
    if (known !== undefined && known["owner"] !== owner && (known["expires"] as number) > now) return undefined;
    const token = ((known?.["token"] as number | undefined) ?? 0) + 1;
    this.#run("INSERT OR REPLACE INTO leases (name, owner, token, expires) VALUES (?, ?, ?, ?)", group, owner, token, expires);
    return BigInt(token);
  }

  /** Whether another connection has written since this was asked last. */
  #othersWrote(): boolean {
    const version = this.#pragma("data_version") as number;
    const wrote = version !== this.#dataVersion;
    this.#dataVersion = version;
    return wrote;
  }

  #log(group: string): number | undefined {
    return this.#get("SELECT id FROM logs WHERE name = ?", group)?.["id"] as number | undefined;
  }

  #headPlace(log: number): { readonly ver: number; readonly gseq: number } | undefined {
    return this.#get("SELECT ver, gseq FROM records WHERE log = ? ORDER BY ver DESC LIMIT 1", log) as
      | { readonly ver: number; readonly gseq: number }
      | undefined;
  }

  #pragma(name: string): unknown {
    return Object.values(this.#connection.prepare(`PRAGMA ${name}`).get() ?? {})[0];
  }

  #get(sql: string, ...parameters: readonly SqliteValue[]): Readonly<Record<string, unknown>> | undefined {
    return this.#prepared(sql).get(...parameters);
  }

  #all(sql: string, ...parameters: readonly SqliteValue[]): readonly unknown[] {
    return this.#prepared(sql).all(...parameters);
  }

  #run(sql: string, ...parameters: readonly SqliteValue[]): number {
    return Number(this.#prepared(sql).run(...parameters).changes);
  }

  /** @returns the row number */
  #insert(sql: string, ...parameters: readonly SqliteValue[]): number {
    return Number(this.#prepared(sql).run(...parameters).lastInsertRowid);
  }

  #prepared(sql: string): SqliteStatement {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#connection.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

function recordOf({ ver, name, prev, gseq, id, data }: RecordRow): Rec {
  return { group: name, ver: BigInt(ver), prev: BigInt(prev), gseq, id, data };
}

/** A version as SQLite compares it: one that no record can have stands before or behind all of them. */
function versionNumber(ver: Ver): number {
  if (ver < 0n) return 0;
  return ver > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(ver);
}

/** The primary result code of an error of SQLite. */
function resultCode(error: unknown): number | undefined {
  const code = (error as { readonly errcode?: unknown } | undefined)?.errcode;
  return typeof code === "number" ? code & 0xff : undefined;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** An error of SQLite as one of ours, where nothing has changed. */
function storeError(error: unknown): WatchwordError {
  if (error instanceof WatchwordError) return error;
  const code = resultCode(error);
  // Not one of SQLite: a mistake in the program.
  if (code === undefined) throw error;
  const isCorrupt = code === SQLITE_CORRUPT || code === SQLITE_NOTADB;
  return new WatchwordError(isCorrupt ? "store.corrupt" : "store.unavailable", textOf(error), { cause: error });
}
