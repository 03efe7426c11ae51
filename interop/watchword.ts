import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Finishing, lastJson, type ProcessOptions, type ProcessResult, type RunningProcess, startProcess } from "./process.js";

/** The compiled command line. */
export const MAIN = resolve(import.meta.dirname, "../dist/cli/main.js");

/** The compiled command line, as a user runs it. */
export function startWatchword(test: Finishing, args: readonly string[], options?: ProcessOptions): RunningProcess {
  if (!existsSync(MAIN)) throw new Error("dist/cli/main.js is missing: npm run build");
  return startProcess(test, process.execPath, [MAIN, ...args], options);
}

/** A server of ours that is ready. */
export interface Serving {
  readonly url: string;
  readonly port: number;
  readonly process: RunningProcess;
}

/** `watchword serve` on a free loopback port, with the built-in tone unless the arguments name another source. */
export async function serve(test: Finishing, args: readonly string[]): Promise<Serving> {
  const source = args.includes("--source") ? [] : ["--source", "tone"];
  const process_ = startWatchword(test, ["serve", "--listen", "127.0.0.1:0", "--path", "/tone", ...source, ...args]);
  const [, url] = await process_.match(/^listening (rtsps?:\/\/\S+)$/m);
  if (url === undefined) throw new Error("no address");
  return { url, port: Number(new URL(url).port), process: process_ };
}

/** The last line of `watchword play --json`. */
export interface PlayReport {
  readonly packets: number;
  readonly octets: number;
  readonly lost: number;
  readonly authenticationFailures: number;
  readonly replays: number;
  readonly suite: string;
  readonly mki: string | null;
  readonly keyedBy: string;
  readonly profile: string | null;
  readonly duration: number;
  readonly teardownProof: string;
}

/** `watchword play --json` to its end. */
export async function play(
  test: Finishing,
  args: readonly string[],
): Promise<{ readonly result: ProcessResult; readonly report: PlayReport }> {
  const result = await startWatchword(test, ["play", ...args, "--json"]).ended;
  return { result, report: lastJson<PlayReport>(result) };
}

/** A file of the suite for one peer. */
export function script(peer: string, name: string): string {
  return join(import.meta.dirname, peer, name);
}
