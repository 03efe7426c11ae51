/** The thread of a store (store.ts): SQLite lives here, because it waits for the disk. */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { WatchwordError } from "../bytes/index.js";
import type { StoreAnswer, StoreRequest, StoreThreadData } from "./store.js";
import { StoreDatabase } from "./store-database.js";
import { findSqlite } from "./store-engine.js";
import { prepareStoreFile } from "./store-file.js";

/** Milliseconds after a snapshot, in which others may follow, until the log of changes is cut off. */
const TRUNCATION_DELAY = 1000;

const port = parentPort as MessagePort;
const { path, busyMilliseconds } = workerData as StoreThreadData;

let truncation: NodeJS.Timeout | undefined;

try {
  const engine = await findSqlite();
  prepareStoreFile(path);
  const database = new StoreDatabase(engine, path, busyMilliseconds);
  port.on("message", (request: StoreRequest) => answer(database, request));
  post({ kind: "ready", engine: engine.name });
} catch (error) {
  post({ kind: "failed", ...known(error) });
}

function post(message: StoreAnswer): void {
  port.postMessage(message);
}

function answer(database: StoreDatabase, request: StoreRequest): void {
  if (request.kind === "end") {
    clearTimeout(truncation);
    database.close();
    port.close();
    return;
  }
  try {
    const outcomes = database.run(request.operations);
    post({ kind: "done", outcomes });
    if (request.operations.some(({ kind }) => kind === "put-snapshot")) scheduleTruncation(database);
  } catch (error) {
    const failure = known(error);
    post({ kind: "failed", ...failure });
    if (failure.code !== "store.ambiguous") return;
    clearTimeout(truncation);
    database.close();
    port.close();
  }
}

function scheduleTruncation(database: StoreDatabase): void {
  truncation ??= setTimeout(() => {
    truncation = undefined;
    if (!database.truncateLog()) scheduleTruncation(database);
  }, TRUNCATION_DELAY);
}

/** What can be told to another thread of an error; one that is not ours ends this thread. */
function known(error: unknown): { readonly code: string; readonly message: string } {
  if (!(error instanceof WatchwordError)) throw error;
  return { code: error.code, message: error.message };
}
