import { type ChildProcess, spawn } from "node:child_process";

/** The part of a vitest test context that a process needs: it must not outlive its test. */
export interface Finishing {
  onTestFinished(callback: () => void | Promise<void>): void;
}

export interface ProcessOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Milliseconds after which the process is killed, whatever it does. Default 30 000. */
  readonly limit?: number;
}

export interface ProcessResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process of a test. */
export interface RunningProcess {
  readonly pid: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Resolves when the process has ended and its output is complete. */
  readonly ended: Promise<ProcessResult>;
  /** The first match in standard output, or rejects with the output when the process ends without one. */
  match(pattern: RegExp): Promise<RegExpExecArray>;
  /** Sends a signal (default SIGTERM) and waits for the end; kills after five seconds. */
  stop(signal?: NodeJS.Signals): Promise<ProcessResult>;
}

/** Characters of each output that are kept: the first ones, for a report, are never lost to later noise. */
const MAX_OUTPUT = 4 << 20;
const running = new Set<ChildProcess>();

process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** Starts a process that ends with its test at the latest. Its standard input is empty. */
export function startProcess(
  test: Finishing,
  command: string,
  args: readonly string[],
  options: ProcessOptions = {},
): RunningProcess {
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  running.add(child);
  const output = { stdout: "", stderr: "" };
  const watchers = new Set<() => void>();
  const limit = setTimeout(() => child.kill("SIGKILL"), options.limit ?? 30_000);
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8");
    child[name].on("data", (text: string) => {
      if (output[name].length < MAX_OUTPUT) output[name] += text;
      for (const watch of watchers) watch();
    });
  }
  const ended = new Promise<ProcessResult>((resolve) => {
    child.once("error", (error) => {
      output.stderr += `${error.message}\n`;
    });
    child.once("close", (code, signal) => {
      running.delete(child);
      clearTimeout(limit);
      resolve({ code, signal, ...output });
      for (const watch of watchers) watch();
    });
  });
  const stop = async (signal: NodeJS.Signals = "SIGTERM"): Promise<ProcessResult> => {
    child.kill(signal);
    const kill = setTimeout(() => child.kill("SIGKILL"), 5000);
    const result = await ended;
    clearTimeout(kill);
    return result;
  };
  test.onTestFinished(async () => {
    await stop();
  });
  return {
    pid: child.pid ?? 0,
    get stdout() {
      return output.stdout;
    },
    get stderr() {
      return output.stderr;
    },
    ended,
    stop,
    match: (pattern) =>
      new Promise((resolve, reject) => {
        const watch = (): void => {
          const found = pattern.exec(output.stdout);
          if (found !== null) resolve(found);
          else if (!running.has(child))
            reject(new Error(`${command} ended without ${pattern}:\n${output.stdout}\n${output.stderr}`));
          else return;
          watchers.delete(watch);
        };
        watchers.add(watch);
        watch();
      }),
  };
}

/** Runs a process to its end. */
export function runProcess(
  test: Finishing,
  command: string,
  args: readonly string[],
  options?: ProcessOptions,
): Promise<ProcessResult> {
  return startProcess(test, command, args, options).ended;
}

/** The last line of a program's output, which is its report. */
export function lastJson<T>(result: ProcessResult): T {
  const line = result.stdout.trimEnd().split("\n").at(-1) ?? "";
  try {
    return JSON.parse(line) as T;
  } catch {
    throw new Error(
      `no report (exit ${result.code}, ${result.signal}):\n${result.stdout.slice(-2000)}\n${result.stderr.slice(-4000)}`,
    );
  }
}
