import { parseBase64, parseHex, utf8Text, WatchwordError, wipe } from "../bytes/index.js";
import { SEALING_KEY_OCTETS } from "../store/index.js";
import { readPrivateFile } from "./private-file.js";

/** Where a sealing key is: in a file, or in a variable of the environment. */
export type SealingKeySource = { readonly file: string } | { readonly environment: string };

/**
 * Reads the key that seals a store: 32 octets, as they are (in a file), as 64 hexadecimal digits, or in base64. A file has to be one
 * that belongs to this user or to root and that nobody else may read.
 * @throws WatchwordError `node.store-file`: the file is open to others; `node.sealing-key`: there is no such variable, or no key in it;
 * `node.file`, `node.permission`
 */
export function readSealingKey(source: SealingKeySource): Uint8Array {
  if ("file" in source) {
    const octets = readPrivateFile(source.file);
    try {
      if (octets.length === SEALING_KEY_OCTETS) return octets.slice();
      return parseKey(utf8Text(octets) ?? "", source.file);
    } finally {
      wipe(octets);
    }
  }
  const text = process.env[source.environment];
  if (text === undefined) throw new WatchwordError("node.sealing-key", `the environment has no ${source.environment}`);
  return parseKey(text, source.environment);
}

function parseKey(text: string, where: string): Uint8Array {
  const trimmed = text.trim();
  try {
    const key = /^[0-9a-f]{64}$/i.test(trimmed) ? parseHex(trimmed) : parseBase64(trimmed);
    if (key.length === SEALING_KEY_OCTETS) return key;
  } catch {
    // What it is instead is nobody's business: it may be another secret.
  }
  throw new WatchwordError(
    "node.sealing-key",
    `${where} holds no key of ${SEALING_KEY_OCTETS} octets (raw, hexadecimal or base64)`,
  );
}
