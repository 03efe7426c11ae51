#!/usr/bin/env node
import { Command, CommanderError } from "commander";
import { describeError, errorObject, exitCodeOf, ReportedError } from "./errors.js";

/** Each is loaded where it is asked for: to read all of the library takes longer than most commands do. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  serve: async () => (await import("./serve.js")).serveCommand(),
  play: async () => (await import("./play.js")).playCommand(),
  call: async () => (await import("./call.js")).callCommand(),
  answer: async () => (await import("./answer.js")).answerCommand(),
  gcks: async () => (await import("./gcks.js")).gcksCommand(),
  join: async () => (await import("./join.js")).joinCommand(),
  admin: async () => (await import("./admin.js")).adminCommand(),
  inspect: async () => (await import("./inspect.js")).inspectCommand(),
  keygen: async () => (await import("./keygen.js")).keygenCommand(),
  cert: async () => (await import("./cert.js")).certCommand(),
  demo: async () => (await import("./demo.js")).demoCommand(),
};
/** What is there for `npm start` alone. */
const HIDDEN = ["demo"];

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

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 refused for good (join).`,
  );

const asked = process.argv[2] ?? "";
for (const name of Object.hasOwn(COMMANDS, asked) ? [asked] : Object.keys(COMMANDS))
  program.addCommand(await (COMMANDS[name] as () => Promise<Command>)(), { hidden: HIDDEN.includes(name) });

/** Options whose values are secrets: one that is mistyped is a secret all the same, and must not get into a log. */
const SECRET_ARGUMENT = /(option '--(?:psk|user|publish-user) [^']*') argument '.*' is invalid/s;
const withoutSecrets = (text: string): string => text.replace(SECRET_ARGUMENT, "$1 is invalid");

/** Commander exits with 1 on its own; here 1 means refused or failed and 2 means usage. */
function configure(command: Command): void {
  command.exitOverride().configureOutput({ outputError: (text, write) => write(withoutSecrets(text)) });
  for (const child of command.commands) configure(child);
}
configure(program);

// Who reads us has gone (`| head`): that ends us as a signal does, with the proof where there is something to end.
let isHeard = true;
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  if (isHeard) process.kill(process.pid, "SIGTERM");
  isHeard = false;
});

/** Options may be what is wrong, so that nobody has parsed them. */
const isForPrograms = process.argv.includes("--json");

try {
  await program.parseAsync();
} catch (thrown) {
  const isHelp = thrown instanceof CommanderError && thrown.exitCode === 0;
  const error = thrown instanceof ReportedError ? thrown.cause : thrown;
  if (!(error instanceof CommanderError)) process.stderr.write(`watchword: ${describeError(error)}\n`);
  process.exitCode = isHelp ? 0 : exitCodeOf(error);
  if (isForPrograms && !isHelp && !(thrown instanceof ReportedError)) {
    const { code, message } = errorObject(error);
    process.stdout.write(`${JSON.stringify({ error: { code, message: withoutSecrets(message) } })}\n`);
  }
}
