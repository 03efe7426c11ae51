import { renameSync, rmSync, writeFileSync } from "node:fs";
import { InvalidArgumentError } from "commander";
import { WatchwordError, wipe } from "../bytes/index.js";
import { defaultCrypto, formatPem, type PemBlock, type PrivateKey, type PublicKey, parsePem } from "../crypto/index.js";
import { readSecretFile, readTextFile, UsageError } from "./options.js";

/** @throws InvalidArgumentError naming the file, whose text never holds what is in it */
function readPemFile(path: string, read: (path: string) => string = readTextFile): readonly PemBlock[] {
  const text = read(path);
  try {
    return parsePem(text);
  } catch (error) {
    throw new InvalidArgumentError(`${path}: ${(error as Error).message}`);
  }
}

function blockOf(path: string, read: (path: string) => string, ...labels: readonly string[]): PemBlock {
  const blocks = readPemFile(path, read);
  const block = blocks.find(({ label }) => labels.includes(label));
  if (block !== undefined) return block;
  const others = blocks.map(({ label }) => label);
  const hint = others.some((label) => / PRIVATE KEY$/.test(label))
    ? `; turn ${others[0]} into PKCS#8 with \`openssl pkcs8 -topk8 -nocrypt -in ${path}\``
    : "";
  throw new InvalidArgumentError(`${path} holds no ${labels.join(" and no ")}${hint}`);
}

/** The private key of a PEM file that nobody else may read, PKCS#8 and not encrypted. @throws InvalidArgumentError */
export function readPrivateKeyFile(path: string): PrivateKey {
  const { der } = blockOf(path, readKeyText, "PRIVATE KEY");
  try {
    return defaultCrypto.importPrivateKey(der);
  } catch (error) {
    throw new InvalidArgumentError(`${path}: ${(error as Error).message}`);
  } finally {
    wipe(der);
  }
}

/** A file in which something else is than a key is not what it should be, whoever may read it. @throws InvalidArgumentError */
function readKeyText(path: string): string {
  try {
    return readSecretFile(path);
  } catch (error) {
    const text = readTextFile(path);
    if (/PRIVATE KEY-----/.test(text)) throw error;
    return text;
  }
}

/** The public key of a PEM file that holds it, or the private key to it. @throws InvalidArgumentError */
export function readPublicKeyFile(path: string): PublicKey {
  const { label, der } = blockOf(path, readTextFile, "PUBLIC KEY", "PRIVATE KEY");
  if (label === "PRIVATE KEY") {
    wipe(der);
    return readPrivateKeyFile(path).publicKey;
  }
  try {
    return defaultCrypto.importPublicKey(der);
  } catch (error) {
    throw new InvalidArgumentError(`${path}: ${(error as Error).message}`);
  }
}

/** The certificates of a PEM file in DER, in their order; at least one. They are not looked into. @throws InvalidArgumentError */
export function readCertificateFile(path: string): readonly Uint8Array[] {
  const certificates = readPemFile(path).filter(({ label }) => label === "CERTIFICATE");
  if (certificates.length === 0) throw new InvalidArgumentError(`${path} holds no CERTIFICATE`);
  return certificates.map(({ der }) => der);
}

/** The revocation lists of a PEM file in DER. @throws InvalidArgumentError */
export function readRevocationListFile(path: string): readonly Uint8Array[] {
  const lists = readPemFile(path).filter(({ label }) => label === "X509 CRL");
  if (lists.length === 0) throw new InvalidArgumentError(`${path} holds no X509 CRL`);
  return lists.map(({ der }) => der);
}

/** How a PEM file is written. */
export interface PemFileOptions {
  /** Nobody but the owner may read it. */
  readonly secret?: boolean;
  /** In place of a file that is there. */
  readonly force?: boolean;
}

/** @throws UsageError where the file is there already, WatchwordError `node.file` where it cannot be written */
export function writePemFile(
  path: string,
  blocks: readonly PemBlock[],
  { secret = false, force = false }: PemFileOptions = {},
): void {
  const text = blocks.map(({ label, der }) => formatPem(label, der)).join("");
  // A new file takes the place of one that is there, which would keep its mode, and perhaps a reader; until it is whole the old one stays.
  const place = force ? `${path}.${process.pid}.new` : path;
  try {
    writeFileSync(place, text, { mode: secret ? 0o600 : 0o644, flag: "wx", flush: force });
    if (force) renameSync(place, path);
  } catch (error) {
    if (force) rmSync(place, { force: true });
    const { code = "unknown error" } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") throw new UsageError(`${path} is there already; --force replaces it`);
    throw new WatchwordError("node.file", `cannot write ${path}: ${code}`, { cause: error });
  }
}
