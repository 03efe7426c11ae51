import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Worker } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { utf8, type WatchwordError } from "../../src/bytes/index.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import { openSqliteStore, readSealingKey, type SqliteStoreOptions } from "../../src/node/index.js";
import { StoreDatabase } from "../../src/node/store-database.js";
import { findSqlite, isFitVersion, type SqliteConnection } from "../../src/node/store-engine.js";
import { NO_VERSION, openSealedStore, openWitnessedStore, type Store } from "../../src/store/index.js";
import { describeStore } from "../suites/store.js";

const TYPESCRIPT = ["--import", new URL("../typescript-worker.js", import.meta.url).href];
const GROUP = "sip:team@example.org";

const threads = vi.hoisted(() => [] as Worker[]);

/** The threads that stores start, so that a test can kill them. */
vi.mock("node:worker_threads", async (original) => {
  const actual = await original<typeof import("node:worker_threads")>();
  return {
    ...actual,
    Worker: class extends actual.Worker {
      constructor(...args: ConstructorParameters<typeof Worker>) {
        super(...args);
        threads.push(this);
      }
    },
  };
});

let folder: string;
let path: string;
const opened: Store[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "watchword-store-"));
  path = join(folder, "store.db");
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((store) => store.close()));
  threads.length = 0;
  rmSync(folder, { recursive: true });
});

async function open(options: Partial<SqliteStoreOptions> = {}) {
  const store = await openSqliteStore({ path, execArgv: TYPESCRIPT, ...options });
  opened.push(store);
  return store;
}

describeStore("in SQLite", async () => {
  const network = createSimulatedNetwork({ now: 1_000_000 });
  const { clock, timers } = network;
  return {
    open: () => open({ leaseMilliseconds: 1000, clock, timers }),
    advance: (milliseconds) => network.advance(milliseconds),
    dispose: async () => {},
  };
});

describe("the file of a store", () => {
  it("is closed to others, with all that SQLite puts beside it", async () => {
    const before = process.umask(0);
    try {
      const store = await open();
      await store.append(GROUP, NO_VERSION, { gseq: 1, id: "a", data: utf8("x") });
      for (const name of [path, `${path}-wal`, `${path}-shm`]) expect((statSync(name).mode & 0o777).toString(8)).toBe("600");
    } finally {
      process.umask(before);
    }
  });

  it.runIf(process.platform !== "win32")("is refused where others may read it, or where it is no file", async () => {
    await (await open()).close();
    chmodSync(path, 0o640);
    await expect(open()).rejects.toMatchObject({ code: "node.store-file" });
    chmodSync(path, 0o600);
    symlinkSync(path, join(folder, "link.db"));
    await open({ path: join(folder, "link.db") });
    mkdirSync(join(folder, "folder.db"), { mode: 0o700 });
    await expect(open({ path: join(folder, "folder.db") })).rejects.toMatchObject({ code: "node.store-file" });
    await expect(open({ path: join(folder, "none", "store.db") })).rejects.toMatchObject({ code: "node.file" });
  });

  it("is refused where it belongs to another program, or to a later version of this one", async () => {
    const engine = await findSqlite();
    const prepare = (name: string, sql: string): string => {
      const file = join(folder, name);
      writeFileSync(file, "", { mode: 0o600 });
      const connection = engine.open(file);
      connection.exec(sql);
      connection.close();
      return file;
    };
    const foreign = prepare("foreign.db", "CREATE TABLE mails (id INTEGER)");
    await expect(open({ path: foreign })).rejects.toMatchObject({ code: "node.store-file" });
    await (await open()).close();
    const later = engine.open(path);
    later.exec("PRAGMA user_version = 2");
    later.close();
    await expect(open()).rejects.toMatchObject({ code: "node.store-file", message: expect.stringContaining("format 2") });
  });

  it("is refused where it is no database, and where it is a damaged one", async () => {
    writeFileSync(path, "this is not a database, however long it may be".repeat(100), { mode: 0o600 });
    await expect(open()).rejects.toMatchObject({ code: "store.corrupt" });
    const other = join(folder, "damaged.db");
    const store = await open({ path: other });
    let ver = NO_VERSION;
    for (let gseq = 1; gseq <= 50; gseq++)
      ver = await store.append(GROUP, ver, { gseq, id: `${gseq}`, data: new Uint8Array(5000) });
    await store.close();
    const octets = readFileSync(other);
    // Everything but the header and the schema.
    octets.fill(0xaa, 4096 * 2);
    writeFileSync(other, octets);
    const damaged = await open({ path: other });
    await expect(damaged.head(GROUP)).rejects.toMatchObject({ code: "store.corrupt" });
    await expect(damaged.append(GROUP, ver, { gseq: 99, id: "x", data: utf8("x") })).rejects.toMatchObject({
      code: "store.corrupt",
    });
  });

  it("holds nothing any more of what was dropped below a snapshot", async () => {
    const store = await open();
    let ver = NO_VERSION;
    for (let gseq = 1; gseq <= 20; gseq++) {
      ver = await store.append(GROUP, ver, { gseq, id: `${gseq}`, data: utf8(`seed-of-epoch-${gseq}-`.repeat(50)) });
    }
    const everything = (): string =>
      [path, `${path}-wal`].map((name) => (existsSync(name) ? readFileSync(name, "latin1") : "")).join();
    expect(everything()).toMatch(/seed-of-epoch-7-/);
    await store.putSnapshot(GROUP, ver, utf8("state"));
    // The log of changes is cut off a second later.
    for (let waited = 0; /seed-of-epoch-7-/.test(everything()) && waited < 100; waited++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(everything()).not.toMatch(/seed-of-epoch-(?:[1-9]|1[0-9])-/);
    expect(everything()).toMatch(/seed-of-epoch-20-/);
  });

  it.each([{ leaseMilliseconds: 0 }, { pollMilliseconds: 1.5 }, { busyMilliseconds: -1 }, { busyMilliseconds: 2 ** 31 }])(
    "does not open with %j",
    async (options) => {
      await expect(open(options)).rejects.toMatchObject({ code: "node.store-option" });
    },
  );

  it("waits for another writer, and says when that takes too long", async () => {
    const store = await open({ busyMilliseconds: 50 });
    const engine = await findSqlite();
    const other = engine.open(path);
    other.exec("BEGIN IMMEDIATE");
    const record = { gseq: 1, id: "a", data: utf8("x") };
    await expect(store.append(GROUP, NO_VERSION, record)).rejects.toMatchObject({ code: "store.unavailable" });
    expect(await store.head(GROUP)).toBeNull();
    other.exec("ROLLBACK");
    const patient = await open({ busyMilliseconds: 10_000 });
    other.exec("BEGIN IMMEDIATE");
    const appending = patient.append(GROUP, NO_VERSION, record);
    await new Promise((resolve) => setTimeout(resolve, 100));
    other.exec("COMMIT");
    other.close();
    expect(await appending).toBe((await store.head(GROUP))?.ver);
  });
});

describe("the SQLite that is found", () => {
  it.each([
    ["3.51.3", true],
    ["3.51.10", true],
    ["3.52.0", true],
    ["4.0.0", true],
    ["3.51.2", false],
    ["3.50.7", false],
    ["3.9.99", false],
    ["2.99.99", false],
    ["", false],
    ["3.51", false],
  ])("with version %s is fit: %s", (version, fit) => {
    expect(isFitVersion(version)).toBe(fit);
  });

  it("is named by the store", async () => {
    expect((await open()).engine).toMatch(/^SQLite 3\.\d+\.\d+ of (?:node:sqlite|@photostructure\/sqlite)$/);
  });

  it.each([
    // What a WAL file that is opened again has by itself in many builds.
    ["synchronous", "PRAGMA synchronous = FULL;", "PRAGMA synchronous = NORMAL;"],
    ["secure_delete", "PRAGMA secure_delete = ON;", "PRAGMA secure_delete = OFF;"],
    ["journal_mode", "PRAGMA journal_mode = WAL;", "PRAGMA journal_mode = DELETE;"],
  ])("is refused where it does not take %s", async (pragma, statement, instead) => {
    await (await open()).close();
    const engine = await findSqlite();
    const deaf = {
      name: "deaf SQLite",
      open(file: string): SqliteConnection {
        const connection = engine.open(file);
        return {
          exec: (sql) => connection.exec(sql.replace(statement, instead)),
          prepare: (sql) => connection.prepare(sql),
          close: () => connection.close(),
        };
      },
    };
    expect(() => new StoreDatabase(deaf, path, 100)).toThrow(
      expect.objectContaining({ code: "node.store-engine", message: expect.stringContaining(pragma) }),
    );
    new StoreDatabase(engine, path, 100).close();
  });

  it("syncs every commit to the disk, also where the file was there before", async () => {
    const engine = await findSqlite();
    await (await open()).close();
    let connection: SqliteConnection | undefined;
    const database = new StoreDatabase(
      {
        ...engine,
        open(file) {
          connection = engine.open(file);
          return connection;
        },
      },
      path,
      100,
    );
    const pragma = (name: string): unknown => Object.values(connection?.prepare(`PRAGMA ${name}`).get() ?? {})[0];
    expect(["journal_mode", "synchronous", "secure_delete", "fullfsync"].map(pragma)).toEqual(["wal", 2, 1, 1]);
    database.close();
  });
});

describe("a disk that fails", () => {
  it("in the middle of a transaction, or by being full, changes nothing; in a commit it leaves that in doubt", async () => {
    const engine = await findSqlite();
    let failing: RegExp | undefined;
    const [ioError, full] = [10 | (4 << 8), 13];
    const fault = Object.assign(new Error("the disk"), { code: "ERR_SQLITE_ERROR", errcode: ioError });
    const database = new StoreDatabase(
      {
        name: engine.name,
        open(file) {
          const connection = engine.open(file);
          const guard = <T>(sql: string, work: () => T): T => {
            if (failing?.test(sql)) throw fault;
            return work();
          };
          return {
            exec: (sql) => guard(sql, () => connection.exec(sql)),
            prepare(sql) {
              const statement = connection.prepare(sql);
              return {
                run: (...parameters) => guard(sql, () => statement.run(...parameters)),
                get: (...parameters) => guard(sql, () => statement.get(...parameters)),
                all: (...parameters) => guard(sql, () => statement.all(...parameters)),
              };
            },
            close: () => connection.close(),
          };
        },
      },
      path,
      100,
    );
    const append = (id: string, expected: bigint) =>
      database.run([
        { kind: "claim", key: id, now: 0, expires: 1 },
        { kind: "append", group: GROUP, expected, record: { gseq: 1, id, data: utf8("x") } },
      ]);
    failing = /INSERT INTO records/;
    expect(() => append("a", NO_VERSION)).toThrow(expect.objectContaining({ code: "store.unavailable" }));
    failing = undefined;
    expect(database.run([{ kind: "head", group: GROUP }])).toEqual([{ value: null }]);
    expect(append("a", NO_VERSION)).toEqual([{ value: true }, { value: 1n }]);
    failing = /COMMIT/;
    fault.errcode = full;
    expect(() => append("full", 1n)).toThrow(expect.objectContaining({ code: "store.unavailable" }));
    failing = undefined;
    expect(database.run([{ kind: "claim", key: "full", now: 0, expires: 1 }])).toEqual([{ value: true }]);
    failing = /COMMIT/;
    fault.errcode = ioError;
    expect(() => append("b", 1n)).toThrow(expect.objectContaining({ code: "store.ambiguous" }));
    failing = undefined;
    database.close();
  });
});

describe("a thread that dies", () => {
  it("leaves every write either acknowledged or in doubt, and every reader with an error", async () => {
    const store = await open();
    const watching = (async () => {
      for await (const _ of store.watch({ group: "idle" }, NO_VERSION, new AbortController().signal));
    })();
    const ended = expect(watching).rejects.toMatchObject({ code: "store.unavailable" });
    const lease = await store.lease(GROUP, "me");
    const record = { gseq: 1, id: "a", data: utf8("x") };
    // More than three transactions take: when the thread ends, some are done, some are with it, some wait.
    const appending = Array.from({ length: 3500 }, (_, i) =>
      store.append(`log ${i}`, NO_VERSION, record).then(
        (ver) => ({ i, outcome: ver }),
        (error: WatchwordError) => ({ i, outcome: error.code }),
      ),
    );
    const reading = store.head(GROUP).catch((error: WatchwordError) => error.code);
    await appending[0];
    // Not terminate(): the add-on is in the middle of its work, and ends the process where JavaScript stops under it.
    const thread = threads[0] as Worker;
    thread.postMessage({ kind: "run" });
    await new Promise((resolve) => thread.once("exit", resolve));
    const outcomes = await Promise.all(appending);
    const codes = new Set(outcomes.map(({ outcome }) => (typeof outcome === "string" ? outcome : "done")));
    expect([...codes].sort()).toEqual(["done", "store.ambiguous", "store.unavailable"]);
    expect(await reading).toBe("store.unavailable");
    await ended;
    for (const call of [() => store.append(GROUP, NO_VERSION, record), () => store.head(GROUP), () => store.claim("k", "1h")]) {
      await expect(call()).rejects.toMatchObject({ code: "store.unavailable" });
    }
    await expect(lease?.renew()).rejects.toMatchObject({ code: "store.unavailable" });
    await store.close();
    const again = await open();
    for (const { i, outcome } of outcomes) {
      const head = await again.head(`log ${i}`);
      if (typeof outcome === "bigint") expect(head?.ver).toBe(outcome);
      // What was refused has not happened; what is in doubt is decided by doing it again.
      else if (outcome === "store.unavailable") expect(head).toBeNull();
      else expect(await again.append(`log ${i}`, NO_VERSION, record)).toBe((await again.head(`log ${i}`))?.ver);
    }
  });
});

describe("a store all in all", () => {
  it("sealed, with a witness on another file, is what it was after a restart", async () => {
    const keyFile = join(folder, "key");
    writeFileSync(keyFile, Buffer.alloc(32, 5).toString("hex"), { mode: 0o600 });
    const random = createSimulatedNetwork().random;
    const start = async () => {
      const witnessed = await openWitnessedStore(await open(), await open({ path: join(folder, "witness.db") }), { random });
      return await openSealedStore(witnessed, readSealingKey({ file: keyFile }));
    };
    const first = await start();
    expect(first.regression).toBeUndefined();
    const ver = await first.append(GROUP, NO_VERSION, { gseq: 1, id: "a", data: utf8("secret-state") });
    await first.close();
    expect(readFileSync(path, "latin1")).not.toMatch(/secret-state/);
    const backup = readFileSync(path);
    const second = await start();
    expect(second.regression).toBeUndefined();
    await second.append(GROUP, ver, { gseq: 2, id: "b", data: utf8("more") });
    await second.close();
    writeFileSync(path, backup);
    const third = await start();
    expect(third.regression).toMatchObject({ kind: "older" });
    expect((await third.head(GROUP))?.data).toEqual(utf8("secret-state"));
    await third.acceptRegression();
    expect(third.regression).toBeUndefined();
    await third.close();
    expect((await start()).regression).toBeUndefined();
  });
});

describe("the sealing key", () => {
  const KEY = Uint8Array.from({ length: 32 }, (_, i) => 200 + i);
  const file = (content: string | Uint8Array, mode = 0o600): string => {
    const name = join(folder, "key");
    writeFileSync(name, content);
    chmodSync(name, mode);
    return name;
  };

  it.each([
    ["raw", KEY],
    ["hexadecimal", `${Buffer.from(KEY).toString("hex")}\n`],
    ["base64", Buffer.from(KEY).toString("base64")],
  ])("is read from a file as %s", (_form, content) => {
    expect(readSealingKey({ file: file(content) })).toEqual(KEY);
  });

  it("is read from the environment", () => {
    process.env["WATCHWORD_TEST_KEY"] = Buffer.from(KEY).toString("hex");
    try {
      expect(readSealingKey({ environment: "WATCHWORD_TEST_KEY" })).toEqual(KEY);
      process.env["WATCHWORD_TEST_KEY"] = "short";
      expect(() => readSealingKey({ environment: "WATCHWORD_TEST_KEY" })).toThrow(
        expect.objectContaining({ code: "node.sealing-key" }),
      );
    } finally {
      delete process.env["WATCHWORD_TEST_KEY"];
    }
    expect(() => readSealingKey({ environment: "WATCHWORD_TEST_KEY" })).toThrow(
      expect.objectContaining({ code: "node.sealing-key" }),
    );
  });

  it.runIf(process.platform !== "win32")("is refused from a file that others may read, or that is none", () => {
    for (const mode of [0o644, 0o640, 0o604, 0o620]) {
      expect(() => readSealingKey({ file: file(KEY, mode) })).toThrow(expect.objectContaining({ code: "node.store-file" }));
    }
    expect(readSealingKey({ file: file(KEY, 0o400) })).toEqual(KEY);
    expect(() => readSealingKey({ file: folder })).toThrow(expect.objectContaining({ code: "node.store-file" }));
    expect(() => readSealingKey({ file: join(folder, "none") })).toThrow(expect.objectContaining({ code: "node.file" }));
  });

  it.each(["", "secret password", "00".repeat(31), "00".repeat(33), "\xff\xfe", "A".repeat(42), "A".repeat(300)])(
    "is not %j, and the message does not repeat it",
    (content) => {
      let message = "";
      try {
        readSealingKey({ file: file(content) });
        expect.unreachable();
      } catch (error) {
        expect(error).toMatchObject({ code: "node.sealing-key" });
        message = (error as Error).message;
      }
      if (content !== "") expect(message).not.toContain(content);
    },
  );
});
