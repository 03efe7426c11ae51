/**
 * `npm run soak:store -- [--rounds N] [--processes N]`: processes work on one store until they are killed (SIGKILL), all at once or one of them,
 * again and again. What they said was acknowledged has to be there afterwards; exits with 1 where it is not.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { equalBytes } from "../../src/bytes/index.js";
import { NO_VERSION, type Rec } from "../../src/store/index.js";
import { contentOf, openAll } from "./store-load.js";

const PROGRAM = fileURLToPath(new URL("store-load.ts", import.meta.url));

export interface CrashOptions {
  readonly rounds: number;
  /** Processes that work at a time. */
  readonly processes: number;
  readonly say?: (line: string) => void;
}

export interface CrashResult {
  readonly kills: number;
  /** What was acknowledged over all rounds. */
  readonly appends: number;
  readonly snapshots: number;
  readonly claims: number;
  readonly reserved: number;
  readonly expulsions: number;
  /** What is wrong, one line each. */
  readonly failures: readonly string[];
}

interface Append {
  readonly gseq: number;
  readonly id: string;
}

/** What was acknowledged, as the witness outside has it. */
class Witness {
  /** Per log, by version. */
  readonly appends = new Map<string, Map<bigint, Append>>();
  readonly snapshots = new Map<string, bigint>();
  readonly claims = new Set<string>();
  readonly numbers = new Set<number>();
  readonly expelled = new Set<string>();
  readonly failures: string[] = [];
  appendCount = 0;
  snapshotCount = 0;

  hear(line: string): void {
    const [kind, ...fields] = line.split("\t");
    const [first = "", second = "", third = "", fourth = ""] = fields;
    if (kind === "ready") {
      if (first !== "") this.failures.push(`a process found a regression: ${first}`);
    } else if (kind === "append") {
      this.appendCount++;
      let log = this.appends.get(first);
      if (log === undefined) {
        log = new Map();
        this.appends.set(first, log);
      }
      if (log.has(BigInt(second))) this.failures.push(`version ${second} of ${first} was acknowledged twice`);
      log.set(BigInt(second), { gseq: Number(third), id: fourth });
    } else if (kind === "snapshot") {
      this.snapshotCount++;
      const at = BigInt(second);
      if ((this.snapshots.get(first) ?? NO_VERSION) < at) this.snapshots.set(first, at);
    } else if (kind === "claim") {
      if (this.claims.has(first)) this.failures.push(`${first} was granted twice`);
      this.claims.add(first);
    } else if (kind === "reserve") {
      for (let number = Number(first); number < Number(first) + Number(second); number++) {
        if (this.numbers.has(number)) this.failures.push(`number ${number} was reserved twice`);
        this.numbers.add(number);
      }
    } else if (kind === "expel") {
      this.expelled.add(first);
    } else {
      this.failures.push(`a process said ${line}`);
    }
  }

  /** Compares with what is stored after a crash. */
  async check(folder: string): Promise<void> {
    const { store, regression, reservations, expulsions } = await openAll(folder);
    try {
      if (regression !== undefined) this.failures.push(`a regression of kind ${regression.kind}`);
      for (const [group, appends] of this.appends) {
        const snapshot = await store.getSnapshot(group);
        const acknowledged = this.snapshots.get(group) ?? NO_VERSION;
        if ((snapshot?.at ?? NO_VERSION) < acknowledged) this.failures.push(`the snapshot of ${group} at ${acknowledged} is lost`);
        if (snapshot !== null && !equalBytes(snapshot.data, contentOf(group, `${snapshot.at}`))) {
          this.failures.push(`the snapshot of ${group} is another`);
        }
        const from = snapshot === null ? NO_VERSION : snapshot.at - 1n;
        const stored = new Map<bigint, Rec>();
        for await (const record of store.read(group, from)) stored.set(record.ver, record);
        for (const [ver, { gseq, id }] of appends) {
          const record = stored.get(ver);
          if (ver <= from) continue;
          if (record === undefined) this.failures.push(`record ${ver} of ${group} is lost`);
          else if (record.gseq !== gseq || record.id !== id || !equalBytes(record.data, contentOf(group, id))) {
            this.failures.push(`record ${ver} of ${group} is another`);
          }
        }
        const ids = [...stored.values()].map(({ id }) => id);
        if (new Set(ids).size !== ids.length) this.failures.push(`a record of ${group} is there twice`);
      }
      const again = await Promise.all([...this.claims].map(async (key) => [key, await store.claim(key, "1d")] as const));
      for (const [key, granted] of again) if (granted) this.failures.push(`${key} was granted twice`);
      this.hear(`reserve\t${await reservations.reserve("team", "spi", 3)}\t3`);
      const expelled = await expulsions.expelled("team");
      for (const member of this.expelled) if (!expelled.has(member)) this.failures.push(`${member} is no longer expelled`);
    } finally {
      await store.close();
    }
  }
}

interface Process {
  /** Resolves when so many more lines were heard, or none will be. */
  worked(lines: number): Promise<void>;
  kill(): Promise<void>;
}

function startProcess(folder: string, name: string, witness: Witness): Process {
  const child = spawn(process.execPath, ["--import", "tsx", PROGRAM, folder, name], {
    stdio: ["ignore", "ignore", "pipe", "pipe"],
  });
  let complaints = "";
  (child.stderr as Readable).on("data", (chunk: Buffer) => {
    complaints += chunk.toString();
  });
  const lines = createInterface({ input: child.stdio[3] as Readable });
  let killed = false;
  let heard = 0;
  let closed = false;
  let wake = (): void => {};
  lines.on("line", (line) => {
    witness.hear(line);
    heard++;
    wake();
  });
  lines.on("close", () => {
    closed = true;
    wake();
  });
  const ended = new Promise<void>((resolve) => {
    child.on("close", () => {
      if (!killed) witness.failures.push(`a process ended by itself: ${complaints}`);
      resolve();
    });
  });
  return {
    async worked(count) {
      const goal = heard + count;
      while (heard < goal && !closed) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    async kill() {
      killed = true;
      child.kill("SIGKILL");
      // Everything that was said is heard when the pipe has closed.
      await ended;
    },
  };
}

/** Kills processes under load, and compares what is left with what they said. */
export async function crashStore({ rounds, processes, say = () => {} }: CrashOptions): Promise<CrashResult> {
  const folder = mkdtempSync(join(tmpdir(), "watchword-crash-"));
  const witness = new Witness();
  let kills = 0;
  try {
    for (let round = 1; round <= rounds; round++) {
      const working = Array.from({ length: processes }, (_, i) => startProcess(folder, `r${round}p${i}`, witness));
      try {
        const some = (): number => 50 + Math.floor(Math.random() * 400);
        await Promise.all(working.map((one) => one.worked(some())));
        // In every third round one dies first, and the others go on for a while.
        if (round % 3 === 0 && processes > 1) {
          await working[0]?.kill();
          await working[1]?.worked(some());
        }
      } finally {
        await Promise.all(working.map((one) => one.kill()));
        kills += working.length;
      }
      await witness.check(folder);
      const { appendCount, claims, numbers, expelled, failures } = witness;
      say(
        `round ${round}: ${appendCount} appends, ${claims.size} claims, ${numbers.size} numbers, ${expelled.size} expulsions acknowledged; ${failures.length} failures`,
      );
      if (failures.length > 0) break;
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return {
    kills,
    appends: witness.appendCount,
    snapshots: witness.snapshotCount,
    claims: witness.claims.size,
    reserved: witness.numbers.size,
    expulsions: witness.expelled.size,
    failures: witness.failures,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: { rounds: { type: "string", default: "50" }, processes: { type: "string", default: "2" } },
  });
  const result = await crashStore({ rounds: Number(values.rounds), processes: Number(values.processes), say: console.log });
  console.log(result);
  if (result.failures.length > 0) process.exitCode = 1;
}
