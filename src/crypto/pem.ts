import { formatBase64, parseBase64, WatchwordError } from "../bytes/index.js";

/** Text with one or more PEM blocks may have this many characters: a chain of a few certificates has 10 thousand. */
const MAX_CHARACTERS = 1 << 20;

/** One block of PEM (RFC 7468). */
export interface PemBlock {
  /** What stands between `BEGIN` and the dashes, e.g. `CERTIFICATE`, `PRIVATE KEY`, `X509 CRL`. */
  readonly label: string;
  readonly der: Uint8Array;
}

/**
 * Reads every block of a PEM text (RFC 7468 §3); what stands between blocks is skipped.
 * @throws WatchwordError `crypto.pem` for a block without its end or that is not base64, whose text holds nothing of the block
 */
export function parsePem(text: string): readonly PemBlock[] {
  if (text.length > MAX_CHARACTERS) throw new WatchwordError("crypto.pem", `${text.length} characters of PEM`);
  const blocks: PemBlock[] = [];
  let open: { readonly label: string; readonly lines: string[] } | undefined;
  for (const line of text.split(/\r\n|\n|\r/)) {
    const boundary = /^-----(BEGIN|END) ([A-Z0-9][A-Z0-9 ]*)-----\s*$/.exec(line);
    if (boundary === null) {
      open?.lines.push(line.trim());
      continue;
    }
    const [, word, label = ""] = boundary;
    if (word === "BEGIN") {
      if (open !== undefined) throw new WatchwordError("crypto.pem", `${open.label} without its end`);
      open = { label, lines: [] };
    } else {
      if (open?.label !== label) throw new WatchwordError("crypto.pem", `end of ${label} without its beginning`);
      blocks.push({ label, der: decode(open.lines.join(""), label) });
      open = undefined;
    }
  }
  if (open !== undefined) throw new WatchwordError("crypto.pem", `${open.label} without its end`);
  return blocks;
}

function decode(base64: string, label: string): Uint8Array {
  try {
    return parseBase64(base64);
  } catch {
    throw new WatchwordError("crypto.pem", `${label} that is not base64; encrypted keys are not read`);
  }
}

/** One PEM block, lines of 64 characters, with a newline at the end. */
export function formatPem(label: string, der: Uint8Array): string {
  const lines = formatBase64(der).match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.map((line) => `${line}\n`).join("")}-----END ${label}-----\n`;
}
