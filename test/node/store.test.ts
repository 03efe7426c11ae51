import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSimulatedNetwork } from "../../src/io/index.js";
import { openSqliteStore } from "../../src/node/store.js";
import { describeStore } from "../suites/store.js";

const TYPESCRIPT = ["--import", new URL("../typescript-worker.js", import.meta.url).href];

describeStore("in SQLite", async () => {
  const network = createSimulatedNetwork({ now: 1_000_000 });
  const folder = mkdtempSync(join(tmpdir(), "watchword-store-"));
  return {
    open: () =>
      openSqliteStore({
        path: join(folder, "store.db"),
        leaseMilliseconds: 1000,
        clock: network.clock,
        timers: network.timers,
        execArgv: TYPESCRIPT,
      }),
    advance: (milliseconds) => network.advance(milliseconds),
    dispose: async () => rmSync(folder, { recursive: true }),
  };
});
