import { existsSync, readFileSync, statSync } from "node:fs";
import { Command } from "commander";
import { concatBytes, parseHex, utf8, WatchwordError } from "../bytes/index.js";
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
} from "../tools/index.js";
import { describeError } from "./errors.js";
import { parseExportFormat, UsageError } from "./options.js";

interface InspectFlags {
  readonly json?: boolean;
  readonly reveal?: boolean;
  readonly export?: ExportFormat;
}

/** `watchword inspect`: shows what a MIKEY message says, octet by octet. Exit status 1 when one is invalid or none is there. */
export function inspectCommand(): Command {
  return new Command("inspect")
    .description("find MIKEY messages in base64, hexadecimal, binary, SDP, RTSP or SIP text and show what they say")
    .argument("[input]", "a file, - for standard input, or the message itself in base64 or hexadecimal", "-")
    .option("--json", "print a JSON array, one entry per message")
    .option("--reveal", "show keys and salts instead of **")
    .option("--export <format>", `print the SRTP keys of NULL-keyed messages for ${exportFormats.join(", ")}`, parseExportFormat)
    .addHelpText(
      "after",
      `
Examples:
  watchword inspect AQAFAP1td9ABAADCD1UcAAAAAAoA...
  watchword inspect camera.sdp
  tcpflow -C port 554 | watchword inspect --json -
  watchword inspect camera.sdp --export sdes --reveal

Exit status: 0 every message is valid, 1 one is not or none was found, 2 wrong usage.`,
    )
    .action(async (input: string, flags: InspectFlags) => {
      if (flags.export !== undefined && flags.reveal !== true) throw new UsageError("--export prints keys: say so with --reveal");
      const inspections = inspectOctets(input === "-" ? await readStandardInput() : readInput(input), {
        reveal: flags.reveal === true,
      });
      if (inspections.length === 0)
        process.stderr.write("no MIKEY message found: expected base64, hexadecimal, binary, SDP, RTSP or SIP text\n");
      if (flags.export !== undefined) {
        if (!(await exportKeys(inspections, flags.export))) process.exitCode = 1;
        return;
      }
      process.stdout.write(flags.json === true ? formatJson(inspections) : formatText(inspections));
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

function formatJson(inspections: readonly Inspection[]): string {
  return `${JSON.stringify(inspections.map(inspectionJson), undefined, 2)}\n`;
}

function formatText(inspections: readonly Inspection[]): string {
  return inspections.length === 0 ? "" : formatInspections(inspections);
}

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
  return concatBytes(...chunks);
}
