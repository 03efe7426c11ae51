import { readFileSync } from "node:fs";
import { InvalidArgumentError, Option } from "commander";
import { parseHex, WatchwordError, wipe } from "../bytes/index.js";
import { type Endpoint, isMulticast } from "../io/index.js";
import { readPrivateFile } from "../node/index.js";
import { type PeerProfile, peerProfile, peerProfileNames } from "../peers/index.js";
import { isSuiteName, type SuiteName, suiteNames } from "../srtp/index.js";
import { type ExportFormat, exportFormats } from "../tools/index.js";

/** Options that do not belong together; exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** A named pre-shared key. */
export interface Psk {
  readonly id: string;
  readonly key: Uint8Array;
}

/** Shortest pre-shared key that is taken: 128 bits. */
const PSK_MIN_OCTETS = 16;

/** `HOST:PORT`, `[IPv6]:PORT` or `:PORT`. @throws InvalidArgumentError */
export function parseEndpoint(text: string): Endpoint {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) throw new InvalidArgumentError("expected HOST:PORT, for example 127.0.0.1:8554");
  return { host: match[1] ?? (match[2] || "127.0.0.1"), port };
}

/** `GROUP`, `GROUP:PORT`, `[IPv6]` or `[IPv6]:PORT` of a multicast group; port 5004 (RFC 3551 §8) unless given. @throws InvalidArgumentError */
export function parseGroup(text: string): Endpoint {
  const endpoint = /^(\[.*\]|[^:]*)$/.test(text) ? parseEndpoint(`${text}:5004`) : parseEndpoint(text);
  if (!isMulticast(endpoint.host))
    throw new InvalidArgumentError("expected a multicast group, for example 239.1.2.3 or 239.1.2.3:5004");
  if (endpoint.port % 2 !== 0 || endpoint.port === 0) throw new InvalidArgumentError("the port of RTP is even; RTCP has the next");
  return endpoint;
}

/** `ID:HEX`. @throws InvalidArgumentError whose text never holds the key */
export function parsePsk(text: string): Psk {
  const at = text.lastIndexOf(":");
  if (at < 1) throw new InvalidArgumentError("expected ID:HEX, for example camera7:8f2c…; make one with `watchword keygen psk`");
  let key: Uint8Array;
  try {
    key = parseHex(text.slice(at + 1).trim());
  } catch {
    throw new InvalidArgumentError("what follows the last colon is not hexadecimal");
  }
  if (key.length < PSK_MIN_OCTETS) {
    wipe(key);
    throw new InvalidArgumentError(
      `the key has fewer than ${2 * PSK_MIN_OCTETS} hexadecimal digits; make one with \`watchword keygen psk\``,
    );
  }
  return { id: text.slice(0, at), key };
}

/** Collects a repeatable `--psk`. */
export function collectPsk(text: string, previous: readonly Psk[] | undefined): readonly Psk[] {
  return [...(previous ?? []), parsePsk(text)];
}

/** A file of `ID:HEX` lines; empty lines and lines that begin with `#` are skipped. @throws InvalidArgumentError */
export function readPskFile(path: string): readonly Psk[] {
  return parseLines(readTextFile(path), path, parsePsk);
}

/**
 * One thing a line; empty lines and lines that begin with `#` are skipped.
 * @param path names the file in messages
 * @throws InvalidArgumentError
 */
export function parseLines<T>(text: string, path: string, parse: (line: string) => T): readonly T[] {
  const found = text
    .split(/\r?\n/)
    .map((line, index) => ({ line: line.trim(), number: index + 1 }))
    .filter(({ line }) => line !== "" && !line.startsWith("#"))
    .map(({ line, number }) => {
      try {
        return parse(line);
      } catch (error) {
        throw new InvalidArgumentError(`${path}, line ${number}: ${(error as Error).message}`);
      }
    });
  if (found.length === 0) throw new InvalidArgumentError(`${path} holds nothing`);
  return found;
}

/** @throws InvalidArgumentError naming the file */
export function readTextFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new InvalidArgumentError(`cannot read ${path}: ${(error as NodeJS.ErrnoException).code ?? "unknown error"}`);
  }
}

/** A file that nobody else may read. @throws InvalidArgumentError naming the file */
export function readSecretFile(path: string): string {
  try {
    return new TextDecoder().decode(readPrivateFile(path));
  } catch (error) {
    if (error instanceof WatchwordError) throw new InvalidArgumentError(error.message);
    throw error;
  }
}

/** Who may use RTSP. */
export interface User {
  readonly name: string;
  readonly password: string;
}

/** `NAME:PASSWORD`. @throws InvalidArgumentError */
export function parseUser(text: string): User {
  const at = text.indexOf(":");
  if (at < 1) throw new InvalidArgumentError("expected NAME:PASSWORD");
  return { name: text.slice(0, at), password: text.slice(at + 1) };
}

/** Collects a repeatable `--user`. */
export function collectUser(text: string, previous: readonly User[] | undefined): readonly User[] {
  return [...(previous ?? []), parseUser(text)];
}

/** @throws InvalidArgumentError listing the names */
export function parseSuite(text: string): SuiteName {
  if (isSuiteName(text)) return text;
  throw new InvalidArgumentError(`known suites: ${suiteNames.join(", ")}`);
}

/** What `--profile` takes beside the names of profiles: find out, or serve all kinds. */
export type ProfileChoice = PeerProfile | "auto";

const CHOICES = [...peerProfileNames, "auto"].join(", ");

/** `--profile`, the same for every command. */
export function profileOption(description: string): Option {
  return new Option("--profile <name>", `${description}: ${CHOICES}`)
    .argParser(parseProfile)
    .default(peerProfile("strict"), "strict");
}

/** @throws InvalidArgumentError listing the names */
function parseProfile(text: string): ProfileChoice {
  if (text === "auto") return text;
  if (!(peerProfileNames as readonly string[]).includes(text)) throw new InvalidArgumentError(`known profiles: ${CHOICES}`);
  return peerProfile(text);
}

/** @throws UsageError for a suite that a kind of peer does not have */
export function checkSuite(profile: ProfileChoice, suite: SuiteName): void {
  if (profile === "auto" || profile.suites === undefined || profile.suites.includes(suite)) return;
  throw new UsageError(`--profile ${profile.name} goes with ${profile.suites.join(", ")}, not with ${suite}`);
}

/** @throws InvalidArgumentError listing the formats */
export function parseExportFormat(text: string): ExportFormat {
  const format = exportFormats.find((name) => name === text);
  if (format === undefined) throw new InvalidArgumentError(`known formats: ${exportFormats.join(", ")}`);
  return format;
}

/** A whole number between bounds. @throws InvalidArgumentError */
export function integerBetween(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most)
      throw new InvalidArgumentError(`expected a whole number from ${least} to ${most}`);
    return value;
  };
}

/** A positive number of seconds. @throws InvalidArgumentError */
export function parseSeconds(text: string): number {
  const value = Number(text);
  if (!(value > 0) || value > 1e9) throw new InvalidArgumentError("expected a number of seconds greater than 0");
  return value;
}

/** A path that begins with a slash. @throws InvalidArgumentError */
export function parsePath(text: string): string {
  if (!/^\/[\w.~!$&'()*+,;=:@%/-]*$/.test(text)) throw new InvalidArgumentError("expected a path such as /camera");
  return text;
}
