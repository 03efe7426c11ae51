/**
 * Runs the commands of README.md that say they can be run: code blocks whose info string is `sh ci` or `ts ci`.
 *
 * They run in order in one new folder that has the build installed as a user would: `npx watchword` runs, `watchword/…` can be
 * imported. A shell block runs under `bash -euo pipefail`, and what it leaves in the background is ended with it.
 * With --check nothing runs: the blocks have to be closed and at least one of them marked.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

interface Block {
  readonly language: "sh" | "ts";
  readonly line: number;
  readonly text: string;
}

const ROOT = resolve(import.meta.dirname, "..");
const BIN = "node_modules/.bin";
const TSX = import.meta.resolve("tsx");
const LIMIT = 120_000;

/** The marked blocks, in order. @throws Error for a fence that is not closed */
function readBlocks(markdown: string): Block[] {
  const blocks: Block[] = [];
  const lines = markdown.split("\n");
  for (let at = 0; at < lines.length; at++) {
    const info = /^```(.*)$/.exec(lines[at] as string)?.[1];
    if (info === undefined) continue;
    const end = lines.indexOf("```", at + 1);
    if (end < 0) throw new Error(`README.md:${at + 1}: the code block is not closed`);
    const [language, mark] = info.trim().split(/\s+/);
    if (mark === "ci" && (language === "sh" || language === "ts")) {
      blocks.push({ language, line: at + 1, text: `${lines.slice(at + 1, end).join("\n")}\n` });
    }
    at = end;
  }
  return blocks;
}

/** Runs one block; resolves with its output when it failed. */
function runBlock(block: Block, folder: string): Promise<string | undefined> {
  const file = join(folder, `block-${block.line}.${block.language}`);
  writeFileSync(file, block.text);
  const [command, ...args] =
    block.language === "ts" ? [process.execPath, "--import", TSX, file] : ["bash", "-euo", "pipefail", file];
  return new Promise((resolve_) => {
    const child = spawn(command as string, args, {
      cwd: folder,
      // A group of its own, so that servers started in the background can be ended with it.
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, PATH: `${join(folder, BIN)}:${process.env["PATH"]}` },
    });
    let output = "";
    let expired = false;
    child.stdout.on("data", (text) => (output += text));
    child.stderr.on("data", (text) => (output += text));
    const endGroup = (): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {
        return;
      }
    };
    const timer = setTimeout(() => {
      expired = true;
      endGroup();
    }, LIMIT);
    child.once("error", (error) => (output += error.message));
    child.once("exit", endGroup);
    child.once("close", (code) => {
      clearTimeout(timer);
      if (code === 0) resolve_(undefined);
      else resolve_(`${output}\n${expired ? "did not end in time" : `exit ${code}`}`);
    });
  });
}

/** A folder with this package installed. */
function install(): string {
  const folder = mkdtempSync(join(tmpdir(), "watchword-readme-"));
  mkdirSync(join(folder, BIN), { recursive: true });
  symlinkSync(ROOT, join(folder, "node_modules/watchword"));
  const bin = `#!/bin/sh\nexec "${process.execPath}" "${join(ROOT, "dist/cli/main.js")}" "$@"\n`;
  writeFileSync(join(folder, BIN, "watchword"), bin, { mode: 0o755 });
  writeFileSync(join(folder, "package.json"), '{ "private": true, "type": "module" }\n');
  return folder;
}

async function main(): Promise<number> {
  const blocks = readBlocks(readFileSync(join(ROOT, "README.md"), "utf8"));
  if (blocks.length === 0) {
    console.error("README.md: no code block is marked `sh ci` or `ts ci`");
    return 1;
  }
  if (process.argv.includes("--check")) {
    console.log(`readme: ${blocks.length} blocks can be run`);
    return 0;
  }
  const folder = install();
  let failed = 0;
  try {
    for (const block of blocks) {
      const failure = await runBlock(block, folder);
      console.log(`README.md:${block.line} (${block.language}): ${failure === undefined ? "ok" : "FAILED"}`);
      if (failure === undefined) continue;
      failed++;
      console.error(failure);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  console.log(`readme: ${blocks.length - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

process.exitCode = await main();
