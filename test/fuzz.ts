/**
 * `npm run fuzz -- SECONDS [--seed N] [--target NAME]`: mutates seeds and feeds them to everything that reads foreign octets.
 * What goes wrong is kept as test/corpus/TARGET/crash-HASH and replayed by the tests from then on. Exit status 1 on a crash.
 */
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { corpusOf, crashFile, type FuzzTarget, fuzzTargets } from "./fuzz-targets.js";

/** An input that keeps a target busy for so long is a crash. */
const HANG_MS = 10_000;
const MAX_INPUT = 16_384;
/** Inputs kept beside the seeds because they were accepted. */
const MAX_POOL = 300;

interface Job {
  readonly seconds: number;
  readonly seed: number;
  readonly target: string | undefined;
  /** Where the worker leaves what it is doing: runs so far, target, length, then the input. */
  readonly shared: SharedArrayBuffer;
}

/** Deterministic numbers from 0 to 2^32 - 1 (xorshift32). */
function numbers(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const INTERESTING = [0, 1, 2, 4, 9, 10, 13, 20, 21, 32, 34, 44, 58, 59, 61, 64, 127, 128, 241, 254, 255];

/** One to four small changes of one input, or two inputs joined. */
function mutate(input: Uint8Array, other: Uint8Array, below: (limit: number) => number): Uint8Array {
  let octets = Array.from(input);
  const changes = 1 + below(4);
  for (let i = 0; i < changes; i++) {
    const at = below(octets.length + 1);
    switch (below(9)) {
      case 0:
        if (at < octets.length) octets[at] = (octets[at] as number) ^ (1 << below(8));
        break;
      case 1:
        if (at < octets.length) octets[at] = INTERESTING[below(INTERESTING.length)] as number;
        break;
      case 2:
        if (at < octets.length) octets[at] = below(256);
        break;
      case 3:
        octets.splice(at, 0, ...Array.from({ length: 1 + below(8) }, () => below(256)));
        break;
      case 4:
        octets.splice(at, 1 + below(16));
        break;
      case 5:
        octets.length = at;
        break;
      case 6: {
        const piece = octets.slice(at, at + 1 + below(64));
        for (let copies = 1 + below(1 + below(64)); copies > 0 && octets.length < MAX_INPUT; copies--)
          octets.splice(at, 0, ...piece);
        break;
      }
      case 7: {
        const from = below(other.length + 1);
        octets = [...octets.slice(0, at), ...other.subarray(from)];
        break;
      }
      default: {
        const from = below(other.length + 1);
        octets.splice(at, 0, ...other.subarray(from, from + 1 + below(32)));
      }
    }
  }
  return Uint8Array.from(octets.slice(0, MAX_INPUT));
}

/** At once, also from a worker whose end is near. */
function print(text: string): void {
  writeSync(1, text);
}

function keepCrash(target: string, input: Uint8Array, reason: string): void {
  const file = crashFile(target, createHash("sha256").update(input).digest("hex").slice(0, 16));
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, input);
  print(`CRASH ${target}: ${reason}\n  ${file}\n`);
}

async function work({ seconds, seed, target, shared }: Job): Promise<void> {
  const state = new Int32Array(shared, 0, 3);
  const current = new Uint8Array(shared, 12);
  const targets = fuzzTargets.filter(({ name }) => target === undefined || name === target);
  const crashes = new Set<string>();
  for (const one of targets) {
    const until = Date.now() + (seconds * 1000) / targets.length;
    const { runs, accepted } = await fuzzOne(
      one,
      numbers(seed),
      () => Date.now() < until,
      (input) => {
        current.set(input);
        state[1] = fuzzTargets.indexOf(one);
        state[2] = input.length;
        Atomics.add(state, 0, 1);
      },
      (input, reason) => {
        // The same fault over and over is one crash.
        if (crashes.size < 20 && !crashes.has(`${one.name} ${reason}`)) {
          crashes.add(`${one.name} ${reason}`);
          keepCrash(one.name, input, reason);
        }
      },
    );
    print(`${one.name.padEnd(16)} ${String(runs).padStart(9)} inputs, ${accepted} accepted\n`);
  }
  parentPort?.postMessage(crashes.size);
}

async function fuzzOne(
  target: FuzzTarget,
  below: (limit: number) => number,
  more: () => boolean,
  begin: (input: Uint8Array) => void,
  crash: (input: Uint8Array, reason: string) => void,
): Promise<{ readonly runs: number; readonly accepted: number }> {
  const pool = [...target.seeds(), ...corpusOf(target.name).values()];
  let runs = 0;
  let accepted = 0;
  const run = async (input: Uint8Array): Promise<boolean> => {
    begin(input);
    runs++;
    try {
      const accepted = target.run(input);
      // Most targets answer at once, and a turn for each of their inputs would halve what is tried.
      return typeof accepted === "boolean" ? accepted : await accepted;
    } catch (error) {
      crash(input, error instanceof Error ? `${error.name}: ${error.message}`.slice(0, 200) : String(error));
      return false;
    }
  };
  for (const seed of [...pool]) await run(seed);
  const seeds = pool.length;
  while (more()) {
    for (let i = 0; i < 50; i++) {
      const input = mutate(pool[below(pool.length)] as Uint8Array, pool[below(pool.length)] as Uint8Array, below);
      if (!(await run(input))) continue;
      accepted++;
      if (pool.length < seeds + MAX_POOL) pool.push(input);
      else pool[seeds + below(MAX_POOL)] = input;
    }
  }
  return { runs, accepted };
}

function supervise(): void {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { seed: { type: "string" }, target: { type: "string" } },
  });
  const seconds = Number(positionals[0] ?? 60);
  const seed = Number(values.seed ?? Date.now() % 2 ** 31);
  if (
    !(seconds > 0) ||
    !Number.isInteger(seed) ||
    (values.target !== undefined && !fuzzTargets.some(({ name }) => name === values.target))
  ) {
    process.stderr.write(`usage: npm run fuzz -- SECONDS [--seed N] [--target ${fuzzTargets.map(({ name }) => name).join("|")}]\n`);
    process.exit(2);
  }
  print(`seed ${seed}\n`);
  const shared = new SharedArrayBuffer(12 + MAX_INPUT);
  const state = new Int32Array(shared, 0, 3);
  const job: Job = { seconds, seed, target: values.target, shared };
  // A worker does not inherit the loader that reads TypeScript: it registers its own.
  const start = `import("${import.meta.resolve("tsx/esm/api")}").then((tsx) => { tsx.register(); return import("${import.meta.url}"); });`;
  const worker = new Worker(start, { eval: true, workerData: job, execArgv: [] });
  let seen = 0;
  let since = Date.now();
  const watch = setInterval(() => {
    const runs = Atomics.load(state, 0);
    if (runs !== seen || runs === 0) {
      seen = runs;
      since = Date.now();
    } else if (Date.now() - since > HANG_MS) {
      const name = fuzzTargets[state[1] as number]?.name ?? "";
      keepCrash(name, new Uint8Array(shared, 12, state[2]).slice(), `no end within ${HANG_MS} ms`);
      process.exit(1);
    }
  }, 500);
  worker.on("message", (crashes: number) => {
    clearInterval(watch);
    process.exitCode = crashes > 0 ? 1 : 0;
  });
  worker.on("error", (error) => {
    process.stderr.write(`${String(error)}\n`);
    process.exit(1);
  });
}

if (isMainThread) supervise();
else await work(workerData as Job);
