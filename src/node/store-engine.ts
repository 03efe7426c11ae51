import { WatchwordError } from "../bytes/index.js";

/** What is used of the interface that `node:sqlite` and @photostructure/sqlite share. */
export interface SqliteStatement {
  run(...parameters: readonly SqliteValue[]): { readonly changes: number | bigint; readonly lastInsertRowid: number | bigint };
  get(...parameters: readonly SqliteValue[]): Readonly<Record<string, unknown>> | undefined;
  all(...parameters: readonly SqliteValue[]): readonly Readonly<Record<string, unknown>>[];
}
export interface SqliteConnection {
  exec(sql: string): void;
  prepare(sql: string): SqliteStatement;
  close(): void;
}
export type SqliteValue = string | number | Uint8Array;

/** A SQLite that was found. */
export interface SqliteEngine {
  /** Where it comes from and its version, for people. */
  readonly name: string;
  open(path: string): SqliteConnection;
}

/**
 * Versions 3.7.0 to 3.51.2 may corrupt a WAL file when it is reset while other connections use it (https://sqlite.org/wal.html,
 * "The WAL-Reset Bug").
 */
const LEAST_VERSION = [3, 51, 3] as const;

/** Whether a version of SQLite is fit for files that several connections use. */
export function isFitVersion(version: string): boolean {
  const parts = version.split(".").map(Number);
  for (const [i, least] of LEAST_VERSION.entries()) {
    const part = parts[i] ?? Number.NaN;
    if (part !== least) return part > least;
  }
  return true;
}

type Constructor = new (path: string) => SqliteConnection;

/**
 * The SQLite of Node (from 22 on), or where it is missing or too old that of the package @photostructure/sqlite.
 * @throws WatchwordError `node.store-engine`
 */
export async function findSqlite(): Promise<SqliteEngine> {
  const looked: string[] = [];
  for (const [source, load] of SOURCES) {
    const database = await load();
    const version = database && versionOf(database);
    if (database !== undefined && version !== undefined && isFitVersion(version)) {
      return { name: `SQLite ${version} of ${source}`, open: (path) => new database(path) };
    }
    looked.push(`${source} ${version === undefined ? "is not there" : `has SQLite ${version}`}`);
  }
  throw new WatchwordError(
    "node.store-engine",
    `the store needs SQLite ${LEAST_VERSION.join(".")} or newer, but ${looked.join(", and ")}: install @photostructure/sqlite`,
  );
}

const SOURCES: readonly (readonly [source: string, load: () => Promise<Constructor | undefined>])[] = [
  [
    "node:sqlite",
    async () => (process.getBuiltinModule("node:sqlite") as { readonly DatabaseSync: Constructor } | undefined)?.DatabaseSync,
  ],
  [
    "@photostructure/sqlite",
    async () => {
      try {
        return (await import("@photostructure/sqlite")).DatabaseSync as unknown as Constructor;
      } catch {
        // Not installed, or there is no binary for this platform.
        return undefined;
      }
    },
  ],
];

function versionOf(database: Constructor): string {
  const connection = new database(":memory:");
  try {
    return String(connection.prepare("SELECT sqlite_version() AS version").get()?.["version"]);
  } finally {
    connection.close();
  }
}
