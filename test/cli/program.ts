import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, expect, onTestFinished } from "vitest";

export const MAIN = resolve(import.meta.dirname, "../../dist/cli/main.js");

/** What a command left behind. */
export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command at work. */
export interface Running {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<Outcome>;
  /** Both outputs so far. */
  said(): string;
  /** The first match in either output. @throws where the command ends without one */
  match(pattern: RegExp): Promise<RegExpExecArray>;
}

/** The compiled program, in a folder of its own that goes when the tests of the file are over. */
export interface Program {
  readonly folder: string;
  /** Starts a command, which is killed at the end of the test, or of the file. */
  start(args: readonly string[], until?: "test" | "file"): Running;
  /** Runs a command to its end. */
  run(...args: readonly string[]): Promise<Outcome>;
  /** Runs a command that has to succeed. @returns its standard output */
  succeed(...args: readonly string[]): Promise<string>;
}

export function createProgram(name: string): Program {
  const folder = mkdtempSync(join(tmpdir(), `watchword-${name}-`));
  const children = new Set<ChildProcessWithoutNullStreams>();
  afterAll(() => {
    for (const child of children) child.kill("SIGKILL");
    rmSync(folder, { recursive: true });
  });

  function launch(args: readonly string[]): Running {
    const child = spawn(process.execPath, [MAIN, ...args], { cwd: folder });
    child.stdin.end();
    children.add(child);
    const output = { stdout: "", stderr: "" };
    const waiting = new Set<() => void>();
    for (const stream of ["stdout", "stderr"] as const) {
      child[stream].on("data", (text) => {
        output[stream] += text;
        for (const look of waiting) look();
      });
    }
    const ended = new Promise<Outcome>((done) => {
      child.on("close", (code) => {
        children.delete(child);
        done({ code, ...output });
      });
    });
    const match = (pattern: RegExp): Promise<RegExpExecArray> =>
      new Promise((done, failed) => {
        const look = (): void => {
          const found = pattern.exec(output.stdout) ?? pattern.exec(output.stderr);
          if (found === null) return;
          waiting.delete(look);
          done(found);
        };
        waiting.add(look);
        void ended.then(({ code, stderr }) => failed(new Error(`ended with ${code}, without ${pattern}: ${stderr}`)));
        look();
      });
    return { child, ended, said: () => output.stdout + output.stderr, match };
  }

  return {
    folder,
    start(args, until = "test") {
      const running = launch(args);
      if (until === "test") onTestFinished(() => void running.child.kill("SIGKILL"));
      return running;
    },
    run: (...args) => launch(args).ended,
    async succeed(...args) {
      const { code, stdout, stderr } = await launch(args).ended;
      expect(code, stderr).toBe(0);
      return stdout;
    },
  };
}

/** The JSON that is the last line of standard output of a command that succeeded. */
export function lastJson({ code, stdout, stderr }: Outcome): Record<string, unknown> {
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout.trim().split("\n").at(-1) as string) as Record<string, unknown>;
}
