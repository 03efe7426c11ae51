import { writeFileSync } from "node:fs";
import { Command, InvalidArgumentError, Option } from "commander";
import { formatBase64, utf8, WatchwordError } from "../bytes/index.js";
import { defaultCrypto, type PrivateKey, type PublicKey } from "../crypto/index.js";
import { issueCredential } from "../gsa/index.js";
import { encodeCredential } from "../mikey/index.js";
import { createJsonLogger, type LogLevel, systemClock } from "../node/index.js";
import { partyOf } from "../sip/index.js";
import { openGcksConfig, parseGcksConfig } from "./gcks-config.js";
import { untilStopped } from "./lifetime.js";
import { integerBetween, readTextFile, UsageError } from "./options.js";
import { readPrivateKeyFile, readPublicKeyFile } from "./pem.js";
import { loadGroup } from "./sip-js.js";

interface GcksFlags {
  readonly config: string;
  readonly check?: true;
  readonly json?: true;
  readonly logLevel: LogLevel;
}

/** `watchword gcks`: a group controller and key server. */
export function gcksCommand(): Command {
  return new Command("gcks")
    .description("run a group controller and key server (RFC 4046): members join by SIP and RTSP")
    .option("--config <file>", "what it is, in YAML (docs/gcks.md)", "group.yaml")
    .option("--check", "read the configuration, say what is wrong with it, and end")
    .option("--json", "print where it listens as one JSON object")
    .addOption(
      new Option("--log-level <level>", "least of what is logged").choices(["debug", "info", "warn", "error"]).default("info"),
    )
    .addCommand(credentialCommand())
    .addHelpText(
      "after",
      `
Where it listens goes to standard output, the log to standard error, one JSON object a line.

Examples:
  watchword keygen ed25519 --out signing.key --public signing.pub
  watchword keygen psk --id sip:alice@example.org >> members.txt
  openssl rand -hex 32 > store.key && chmod 600 store.key
  watchword gcks --config group.yaml

Exit status: 0 stopped by a signal, 1 failed, 2 wrong usage.`,
    )
    .action(gcks);
}

async function gcks(flags: GcksFlags): Promise<void> {
  try {
    await run(flags);
  } catch (error) {
    // Commander says what is wrong with options; here it is a file that the configuration names.
    throw error instanceof InvalidArgumentError ? new UsageError(error.message) : error;
  }
}

async function run({ config, check, json, logLevel }: GcksFlags): Promise<void> {
  if (check === true) {
    const { groups } = parseGcksConfig(readTextFile(config));
    process.stdout.write(`${config}: ${groups.length === 1 ? "1 group" : `${groups.length} groups`}\n`);
    return;
  }
  const { startGcksService } = await loadGroup();
  const logger = createJsonLogger((line) => process.stderr.write(line), logLevel);
  const opened = await openGcksConfig(config, (line) => logger.warn(line));
  try {
    if (!opened.durable) logger.warn("no store is configured: nothing survives the end of this process");
    const service = await startGcksService({ ...opened.options, logger });
    const waiting = untilStopped();
    try {
      const { sip, rtsp, admin } = service;
      const groups = service.gcks.groups.map(({ name }) => ({ name, uris: service.urisOf(name) }));
      if (json === true) process.stdout.write(`${JSON.stringify({ sip, rtsp, admin, control: service.control, groups })}\n`);
      else {
        for (const { name, uris } of groups) for (const uri of uris) process.stdout.write(`${name}: ${uri}\n`);
        if (admin !== undefined) process.stdout.write(`administration: ${admin}\n`);
      }
      await waiting.over;
    } finally {
      waiting.cancel();
      await service.close();
    }
  } finally {
    await opened.close();
  }
}

interface CredentialFlags {
  readonly ownerKey: PrivateKey;
  readonly group: string;
  readonly identity: string;
  readonly signingKey: PublicKey;
  readonly days: number;
  readonly out: string;
}

const DAY_MS = 86_400_000;

/** `watchword gcks credential`: the owner of a group says who serves it. */
function credentialCommand(): Command {
  return new Command("credential")
    .description("as the owner of a group, sign that a key server serves it (docs/protocol.md §15.3)")
    .requiredOption("--owner-key <file>", "private key of the owner, PEM", readPrivateKeyFile)
    .requiredOption("--group <name>", "the group")
    .requiredOption("--identity <sip:uri>", "the key server", parseIdentity)
    .requiredOption("--signing-key <file>", "public key that the key server signs rekey messages with, PEM", readPublicKeyFile)
    .option("--days <n>", "for how long", integerBetween(1, 3650), 365)
    .requiredOption("--out <file>", "where it goes")
    .action(async ({ ownerKey, group, identity, signingKey, days, out }: CredentialFlags) => {
      const now = systemClock.now();
      const credential = await issueCredential(defaultCrypto, ownerKey, {
        group: utf8(group),
        identity: utf8(identity),
        key: signingKey.spki,
        notBefore: now,
        notAfter: now + days * DAY_MS,
      });
      try {
        writeFileSync(out, `${formatBase64(encodeCredential(credential))}\n`);
      } catch (error) {
        throw new WatchwordError("node.file", `cannot write ${out}: ${(error as NodeJS.ErrnoException).code}`, { cause: error });
      }
      process.stdout.write(`${out}: ${identity} serves ${group} for ${days} days\n`);
    });
}

/** A SIP URI that names a party. @throws InvalidArgumentError */
export function parseIdentity(text: string): string {
  try {
    return partyOf(text);
  } catch {
    throw new InvalidArgumentError("expected a SIP URI, for example sip:alice@example.org");
  }
}
