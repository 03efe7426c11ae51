import { existsSync, readFileSync, statSync } from "node:fs";
import { Command } from "commander";
import { formatHex, parseHex, utf8, WatchwordError } from "../bytes/index.js";
import type { PrivateKey, PublicKey } from "../crypto/index.js";
import { identityText, KeyDataType, type MikeyPolicy, nameOf } from "../mikey/index.js";
import { systemClock } from "../node/index.js";
import {
  type ExportFormat,
  exportFormats,
  exportMessage,
  exportStreams,
  formatInspections,
  type Inspection,
  inspectionJson,
  inspectOctets,
  MAX_INPUT,
  type Verification,
  verifyMessages,
} from "../tools/index.js";
import { certificatesIn, collectChain } from "./credentials.js";
import { describeError } from "./errors.js";
import { collectPsk, type Psk, parseExportFormat, readPskFile, readTextFile, UsageError } from "./options.js";
import { readCertificateFile, readPrivateKeyFile, readPublicKeyFile } from "./pem.js";

interface InspectFlags extends VerifyFlags {
  readonly json?: boolean;
  readonly reveal?: boolean;
  readonly export?: ExportFormat;
}

interface VerifyFlags {
  readonly verify?: true;
  readonly psk?: readonly Psk[];
  readonly pskFile?: readonly Psk[];
  readonly key?: PrivateKey;
  readonly cert?: readonly Uint8Array[];
  readonly ca?: string;
  readonly peerCert?: readonly (readonly Uint8Array[])[];
  readonly peerKey?: readonly PublicKey[];
}

/** `watchword inspect`: shows what a MIKEY message says, octet by octet. Exit status 1 when one is invalid or none is there. */
export function inspectCommand(): Command {
  return new Command("inspect")
    .description("find MIKEY messages in base64, hexadecimal, binary, SDP, RTSP or SIP text and show what they say")
    .argument("[input]", "a file, - for standard input, or the message itself in base64 or hexadecimal", "-")
    .option("--json", "print a JSON array, one entry per message")
    .option("--reveal", "show keys and salts instead of **")
    .option("--export <format>", `print the SRTP keys of NULL-keyed messages for ${exportFormats.join(", ")}`, parseExportFormat)
    .option("--verify", "check MACs, signatures and certificates with these credentials, and decrypt keys")
    .option("--psk <id:hex>", "pre-shared key; repeatable", collectPsk)
    .option("--psk-file <file>", "file of ID:HEX lines", readPskFile)
    .option("--key <file>", "private key of one of the parties, PEM", readPrivateKeyFile)
    .option("--cert <file>", "its certificate: not needed to verify", readCertificateFile)
    .option("--ca <file>", "PEM certificates of the issuers to trust", readTextFile)
    .option("--peer-cert <file>", "certificate of a party whose messages carry none; repeatable", collectChain)
    .option(
      "--peer-key <file>",
      "public key, PEM, of a party whose messages carry no certificate, whoever they say it is; repeatable",
      (path: string, previous: readonly PublicKey[] = []) => [...previous, readPublicKeyFile(path)],
    )
    .addHelpText(
      "after",
      `
Examples:
  watchword inspect AQAFAP1td9ABAADCD1UcAAAAAAoA...
  watchword inspect camera.sdp
  tcpflow -C port 554 | watchword inspect --json -
  watchword inspect camera.sdp --export sdes --reveal
  watchword inspect --verify dialogue.txt --psk viewer:8f2c…
  watchword inspect --verify dialogue.txt --key bob.key --ca ca.pem --json

Exit status: 0 every message is valid, and with --verify none is false; 1 one is not or none was found, 2 wrong usage.`,
    )
    .action(async (input: string, flags: InspectFlags) => {
      if (flags.export !== undefined && flags.reveal !== true) throw new UsageError("--export prints keys: say so with --reveal");
      checkVerify(flags);
      const octets = input === "-" ? await readStandardInput() : readInput(input);
      const inspections = inspectOctets(octets, { reveal: flags.reveal === true });
      if (inspections.length === 0)
        process.stderr.write("no MIKEY message found: expected base64, hexadecimal, binary, SDP, RTSP or SIP text\n");
      if (flags.export !== undefined) {
        if (!(await exportKeys(inspections, flags.export))) process.exitCode = 1;
        return;
      }
      const verified = flags.verify === true ? await verify(inspectOctets(octets, { reveal: true }), flags) : undefined;
      process.stdout.write(
        flags.json === true ? formatJson(inspections, verified, flags) : formatText(inspections, verified, flags),
      );
      if (verified?.some(({ verdict }) => verdict === "false")) process.exitCode = 1;
      if (inspections.length === 0 || inspections.some(({ valid }) => !valid)) process.exitCode = 1;
    });
}

/** Prints what can be exported and says what cannot. @returns whether every message could, and there was one */
async function exportKeys(inspections: readonly Inspection[], format: ExportFormat): Promise<boolean> {
  let done = inspections.length > 0;
  for (const { where, octets } of inspections) {
    try {
      process.stdout.write(exportStreams(format, await exportMessage(parseHex(octets))));
    } catch (error) {
      if (!(error instanceof WatchwordError)) throw error;
      process.stderr.write(`${where}: ${describeError(error)}\n`);
      done = false;
    }
  }
  return done;
}

/** @throws UsageError for options that do not belong together */
function checkVerify({ verify: wanted, export: format, cert, ...flags }: InspectFlags): void {
  const credentials = [flags.psk, flags.pskFile, flags.key, flags.ca, flags.peerCert, flags.peerKey];
  const given = [...credentials, cert].some((value) => value !== undefined);
  if (wanted !== true && given) throw new UsageError("a credential is there for --verify");
  if (wanted !== true) return;
  if (format !== undefined) throw new UsageError("give --verify or --export, not both");
  if (credentials.every((value) => value === undefined))
    throw new UsageError("--verify needs --psk, --psk-file, --key, --ca, --peer-cert or --peer-key");
}

async function verify(inspections: readonly Inspection[], flags: VerifyFlags): Promise<readonly Verification[]> {
  const { psk = [], pskFile = [], key, ca, peerCert = [], peerKey = [] } = flags;
  const { createCertificateVerifier, readCertificate } = await import("../crypto/x509/index.js");
  const roots = ca === undefined ? [] : certificatesIn(ca);
  const known = peerCert.map(([der]) => readCertificate(der as Uint8Array));
  const bare = known.flatMap(({ publicKey, identities }) => (publicKey === undefined ? [] : [{ publicKey, identities }]));
  const policy: MikeyPolicy = {
    // Whatever was sent can be looked at: what is acceptable was for the parties to say.
    signatureSchemes: ["rsa-pss-sha256", "rsa-pkcs1-sha256", "rsa-pss-sha1", "rsa-pkcs1-sha1", "ecdsa-p256-sha256", "ed25519"],
    encryptionSchemes: ["rsa-oaep-sha1", "rsa-oaep-sha256", "rsa-pkcs1"],
    leastRsaBits: 1024,
    ...(roots.length === 0 ? {} : { certificates: createCertificateVerifier({ roots }) }),
    findPublicKey: (identity) => {
      const text = identity === undefined ? undefined : identityText(identity);
      return known.find(({ identities }) => text !== undefined && identities.includes(text))?.publicKey;
    },
  };
  return verifyMessages(
    inspections.map(({ octets }) => parseHex(octets)),
    {
      psks: [...psk, ...pskFile].map(({ key: octets }) => octets),
      keyPairs: key === undefined ? [] : [{ privateKey: key, chain: [] }],
      peerKeys: [...bare, ...peerKey.map((publicKey) => ({ publicKey, identities: [] }))],
      policy,
      now: systemClock.now(),
    },
  );
}

/** What is said of a key; its octets only with --reveal. */
function keysOf({ keys }: Verification, { reveal }: InspectFlags) {
  const shown = (octets: Uint8Array): string => (reveal === true ? formatHex(octets) : "**".repeat(octets.length));
  return keys.map(({ type, key, salt, validity }) => ({
    type: nameOf(KeyDataType, type),
    key: shown(key),
    ...(salt === undefined ? {} : { salt: shown(salt) }),
    ...(validity.kv === "spi" ? { spi: formatHex(validity.spi) } : {}),
  }));
}

function formatJson(
  inspections: readonly Inspection[],
  verified: readonly Verification[] | undefined,
  flags: InspectFlags,
): string {
  const all = inspections.map((inspection, index) => {
    const verification = verified?.[index];
    if (verification === undefined) return inspectionJson(inspection);
    const { verdict, reason, signer } = verification;
    return { ...inspectionJson(inspection), verification: { verdict, reason, signer, keys: keysOf(verification, flags) } };
  });
  return `${JSON.stringify(all, undefined, 2)}\n`;
}

function formatText(
  inspections: readonly Inspection[],
  verified: readonly Verification[] | undefined,
  flags: InspectFlags,
): string {
  if (inspections.length === 0) return "";
  const lines = (verified ?? []).flatMap((verification, index) => {
    const { verdict, reason, signer } = verification;
    const who = signer.length === 0 ? "" : `, by ${signer.join(", ")}`;
    const keys = keysOf(verification, flags).map(
      ({ type, key, salt, spi }) =>
        `          ${type} ${key}${salt === undefined ? "" : ` salt ${salt}`}${spi === undefined ? "" : ` SPI ${spi}`}`,
    );
    const said = `${VERDICTS[verdict]}${who}: ${reason}`.replace(/[^ -~]/g, "?");
    return [`message ${index + 1} of ${inspections.length}: ${said}`, ...keys];
  });
  return `${formatInspections(inspections)}${lines.length === 0 ? "" : "\n"}${lines.map((line) => `${line}\n`).join("")}`;
}

const VERDICTS: Readonly<Record<Verification["verdict"], string>> = {
  authentic: "authentic",
  false: "NOT AUTHENTIC",
  unprotected: "not protected",
  unknown: "not checked",
};

/** @throws UsageError where the argument is neither a file nor a message */
function readInput(input: string): Uint8Array {
  if (existsSync(input)) {
    const status = statSync(input);
    if (status.isDirectory()) throw new UsageError(`${input} is a directory`);
    if (status.size > MAX_INPUT) throw new UsageError(`${input} is larger than ${MAX_INPUT} octets: cut out the dialogue`);
    return readFileSync(input);
  }
  if (/^[A-Za-z0-9+/\s]{12,}={0,2}\s*$/.test(input)) return utf8(input);
  throw new UsageError(`${input.slice(0, 60)}: there is no such file, and it is no base64 or hexadecimal`);
}

/** Reads until the end, or until there is more than the inspector takes. */
async function readStandardInput(): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of process.stdin as AsyncIterable<Uint8Array>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_INPUT) break;
  }
  // There may be more of them than a call has arguments.
  return Buffer.concat(chunks);
}
