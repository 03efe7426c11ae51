import { type ChildProcess, spawn } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { SuiteName } from "../../src/srtp/index.js";

const DRIVER = fileURLToPath(new URL("driver.ts", import.meta.url));

/** A contender in its own long-lived process. It works only between a request and its answer, so that contenders take turns. */
export class DriverProcess {
  readonly name: string;
  readonly command: string | undefined;
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #waiting: ((line: string) => void)[] = [];
  #ended = false;

  /** @param command default: the TypeScript contender of that name */
  constructor(name: string, command?: string) {
    this.name = name;
    this.command = command;
    const [file, ...args] =
      command === undefined ? [process.execPath, "--expose-gc", "--import", "tsx", DRIVER, name] : ([command] as const);
    this.#child = spawn(file as string, args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream });
    this.#lines.on("line", (line) => this.#waiting.shift()?.(line));
    this.#child.on("exit", () => {
      this.#ended = true;
      for (const wake of this.#waiting.splice(0)) wake("error the driver ended");
    });
  }

  /** Lays out a workload. @returns false where the contender has no such suite */
  async begin(suite: SuiteName, payload: number, packets: number): Promise<boolean> {
    return (await this.#ask(`begin ${suite} ${payload} ${packets}`)) === "ok";
  }

  /** Nanoseconds of protecting and of opening `bursts` times the packets of the workload, in fresh sessions. */
  async round(bursts: number): Promise<readonly [protect: number, unprotect: number]> {
    return (await this.#numbers(`round ${bursts}`)) as [number, number];
  }

  /** Nanoseconds of single calls: protect p50, p99, unprotect p50, p99. */
  latency(bursts: number): Promise<readonly number[]> {
    return this.#numbers(`latency ${bursts}`);
  }

  /** Resident octets per session (sender and receiver) of the suite laid out last. */
  async memory(sessions: number): Promise<number> {
    return (await this.#numbers(`memory ${sessions}`))[0] as number;
  }

  close(): void {
    this.#child.stdin?.end();
  }

  async #numbers(request: string): Promise<number[]> {
    return (await this.#ask(request)).split(" ").map(Number);
  }

  async #ask(request: string): Promise<string> {
    const line = this.#ended
      ? "error the driver ended"
      : await new Promise<string>((resolve) => {
          this.#waiting.push(resolve);
          this.#child.stdin?.write(`${request}\n`);
        });
    if (line.startsWith("error")) throw new Error(`${this.name}: ${line.slice(6)}`);
    return line;
  }
}
