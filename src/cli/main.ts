#!/usr/bin/env node
import { Command, CommanderError } from "commander";
import { adminCommand } from "./admin.js";
import { answerCommand } from "./answer.js";
import { callCommand } from "./call.js";
import { certCommand } from "./cert.js";
import { demoCommand } from "./demo.js";
import { describeError } from "./errors.js";
import { gcksCommand } from "./gcks.js";
import { inspectCommand } from "./inspect.js";
import { joinCommand } from "./join.js";
import { keygenCommand } from "./keygen.js";
import { UsageError } from "./options.js";
import { playCommand } from "./play.js";
import { serveCommand } from "./serve.js";

const program = new Command("watchword")
  .description("Key management for real-time media: MIKEY in RTSP and SIP call setup, SRTP, and an authenticated end.")
  .version("0.1.0")
  .showHelpAfterError("(add --help for the options and examples)")
  .addHelpText(
    "after",
    `
Examples:
  watchword keygen psk --id viewer > keys.txt
  watchword serve --psk-file keys.txt
  watchword play rtsp://127.0.0.1:8554/live --psk "$(cat keys.txt)"
  watchword answer --psk-file keys.txt
  watchword call sip:watchword@127.0.0.1:5060 --psk "$(cat keys.txt)"
  watchword gcks --config group.yaml
  watchword join rtsp://127.0.0.1:8554/blue --psk-file alice.txt --in rtp://127.0.0.1:5004
  watchword admin expel blue sip:mallory@example.org
  watchword inspect dialogue.txt

Exit codes: 0 done, 1 refused or failed, 2 usage.`,
  );

for (const command of [
  serveCommand(),
  playCommand(),
  callCommand(),
  answerCommand(),
  gcksCommand(),
  joinCommand(),
  adminCommand(),
  inspectCommand(),
  keygenCommand(),
  certCommand(),
])
  program.addCommand(command);
program.addCommand(demoCommand(), { hidden: true });

/** Commander exits with 1 on its own; here 1 means refused or failed and 2 means usage. */
function exitOverride(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) exitOverride(child);
}
exitOverride(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else {
    process.stderr.write(`watchword: ${describeError(error)}\n`);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
}
