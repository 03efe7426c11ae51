/** Finds MIKEY messages in what integrators have at hand: base64, hexadecimal, SDP, RTSP and SIP dialogues, logs. */
import { CodecError, parseBase64, parseHex } from "../bytes/index.js";
import { decodeMessage } from "../mikey/index.js";
import { type KeyMgmtSpec, parseKeyMgmtHeader, readKeyMgmt } from "../sdp/index.js";
import type { Found, Problem } from "./contracts.js";

/** Longest input that is searched. */
export const MAX_INPUT = 16 * 1024 * 1024;
/** Most messages that are reported from one input. */
export const MAX_FOUND = 1000;

/**
 * Finds every MIKEY message of a text. Characters above 255 do not occur in messages; a text made from octets one to one
 * may hold binary bodies.
 * @throws CodecError `tools.too-large`, `tools.too-many-messages`
 */
export function findMikey(text: string): Found[] {
  if (text.length > MAX_INPUT) throw new CodecError("tools.too-large", "input", MAX_INPUT, `more than ${MAX_INPUT} characters`);
  const bare = findBare(text);
  if (bare !== undefined) return [bare];
  const found = new TextScan(text).run();
  return found.length > 0 ? found : findTokens(text);
}

/** The whole text is one message in hexadecimal or base64, perhaps over several lines. */
function findBare(text: string): Found | undefined {
  const lines = text.trim().split(/\s+/);
  const first = lines[0] ?? "";
  // Several messages, one a line, are not one message.
  if (lines.length > 1 && octetsOfToken(first) !== undefined) return undefined;
  const joined = lines.join("");
  if (/^[0-9A-Fa-f]+$/.test(joined) && joined.length % 2 === 0 && joined.startsWith("0")) {
    return { where: "hexadecimal", octets: parseHex(joined), problems: [] };
  }
  if (!/^[A-Za-z0-9+/]{12,}={0,2}$/.test(joined)) return undefined;
  return fromBase64("base64", joined);
}

/** Words of a text that are messages by themselves: the last resort, for logs. */
function findTokens(text: string): Found[] {
  const found: Found[] = [];
  text.split(/\r\n|\r|\n/).forEach((line, index) => {
    for (const [token] of line.matchAll(/AQ[A-Za-z0-9+/]{12,}={0,2}|\b01[0-9a-fA-F]{20,}\b/g)) {
      const octets = octetsOfToken(token);
      if (octets !== undefined) add(found, { where: `line ${index + 1}`, octets, problems: [] });
    }
  });
  return found;
}

/** The octets of a word that is a whole message. */
function octetsOfToken(token: string): Uint8Array | undefined {
  try {
    const octets = /^[0-9a-fA-F]+$/.test(token) ? parseHex(token) : parseBase64(token);
    decodeMessage(octets, { trailing: "keep" });
    return octets;
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}

function fromBase64(where: string, text: string): Found {
  try {
    return { where, octets: parseBase64(text, "base64"), problems: [] };
  } catch (error) {
    return { where, octets: undefined, problems: [problemOf(error)] };
  }
}

/** A decoding failure as a problem. Anything else is not ours to swallow. */
export function problemOf(error: unknown): Problem {
  if (!(error instanceof CodecError)) throw error;
  return { code: error.code, severity: "error", path: error.path, message: error.message };
}

function add(found: Found[], one: Found): void {
  if (found.length === MAX_FOUND) {
    throw new CodecError("tools.too-many-messages", "input", 0, `more than ${MAX_FOUND} messages`);
  }
  found.push(one);
}

interface Line {
  readonly text: string;
  /** Offset of its first character. */
  readonly start: number;
}

/** Headers of the RTSP or SIP message (or MIME part) being read. */
interface Headers {
  /** `SETUP request`, `200 response`, or empty. */
  readonly of: string;
  type: string;
  length: number | undefined;
}

const START_LINE = /^(?:(?:RTSP|SIP)\/\d\.\d (\d{3})\b|([A-Z][A-Z_]*) \S+ (?:RTSP|SIP)\/\d\.\d$)/;
const HEADER = /^([A-Za-z][A-Za-z-]*)[ \t]*:[ \t]*(.*)$/;
const SDP_LINE = /^[ \t]*([a-zA-Z])=/;

/** One pass over the lines of a dialogue. */
class TextScan {
  readonly #text: string;
  readonly #lines: readonly Line[];
  readonly #found: Found[] = [];
  #at = 0;
  #headers: Headers = { of: "", type: "", length: undefined };

  constructor(text: string) {
    this.#text = text;
    this.#lines = splitLines(text);
  }

  run(): Found[] {
    while (this.#at < this.#lines.length) {
      const line = (this.#lines[this.#at] as Line).text;
      const start = START_LINE.exec(line.trim());
      if (start !== null) {
        this.#headers = {
          of: start[1] === undefined ? `${start[2]} request` : `${start[1]} response`,
          type: "",
          length: undefined,
        };
        this.#at++;
      } else if (SDP_LINE.test(line)) {
        this.#readSdp();
      } else if (line.trim() === "") {
        this.#at++;
        this.#readBody();
      } else {
        const header = HEADER.exec(line.trim());
        if (header === null) this.#at++;
        else this.#readHeader((header[1] as string).toLowerCase(), header[2] as string);
      }
    }
    return this.#found;
  }

  #where(line: number, what: string): string {
    const of = this.#headers.of === "" ? "" : `${this.#headers.of}, `;
    return `line ${line + 1}: ${of}${what}`;
  }

  /** Lines of the form letter=value, one after the other. */
  #readSdp(): void {
    const first = this.#at;
    const block: string[] = [];
    while (this.#at < this.#lines.length && SDP_LINE.test((this.#lines[this.#at] as Line).text)) {
      block.push((this.#lines[this.#at] as Line).text.trim());
      this.#at++;
    }
    if (!block.some((line) => line.includes("key-mgmt"))) return;
    const { attributes } = readKeyMgmt(block.join("\r\n"), { maxLength: MAX_INPUT, maxLines: Number.POSITIVE_INFINITY });
    const offers = new Map<string, string[]>();
    for (const { protocol, section, capability } of attributes) {
      const offer = offers.get(`${section} ${capability}`);
      if (offer === undefined) offers.set(`${section} ${capability}`, [protocol]);
      else offer.push(protocol);
    }
    for (const attribute of attributes) {
      const { protocol, section, line, capability, data, problem } = attribute;
      if (protocol.toLowerCase() !== "mikey") continue;
      const level = section === "session" ? "session level" : `media ${section}`;
      const name = capability === undefined ? "a=key-mgmt" : `a=acap:${capability} key-mgmt`;
      const problems: Problem[] = problem === undefined ? [] : [problemOf(problem)];
      if (protocol !== "mikey") {
        problems.push({
          code: "lint.protocol-case",
          severity: "warning",
          path: "sdp.key-mgmt",
          message: `the protocol identifier is case-sensitive: mikey, not ${protocol} (RFC 4567 §3)`,
        });
      }
      add(this.#found, {
        where: this.#where(first + line - 1, `${name}, ${level}`),
        octets: data,
        problems,
        protocols: offers.get(`${section} ${capability}`) ?? [protocol],
      });
    }
  }

  #readHeader(name: string, start: string): void {
    const first = this.#at;
    let value = start;
    this.#at++;
    // A header goes on in lines that begin with white space (RFC 2326 §4.2, RFC 3261 §7.3.1).
    while (this.#at < this.#lines.length && /^[ \t]+\S/.test((this.#lines[this.#at] as Line).text) && name !== "mikey") {
      value += ` ${(this.#lines[this.#at] as Line).text.trim()}`;
      this.#at++;
    }
    if (name === "content-type" || name === "c") this.#headers.type = value.toLowerCase().split(";", 1)[0]?.trim() ?? "";
    if ((name === "content-length" || name === "l") && /^\d{1,8}$/.test(value.trim())) this.#headers.length = Number(value);
    if (name === "keymgmt") this.#readKeyMgmt(first, value);
    if (name === "mikey") add(this.#found, fromBase64(this.#where(first, "mikey parameter"), value.trim()));
    if (name === "transport") {
      // RTSP 2.0 carries the message as a transport parameter (RFC 7826 App. C.1.4.1).
      for (const [, data] of value.matchAll(/;[ \t]*MIKEY="?([A-Za-z0-9+/]+={0,2})"?/gi)) {
        add(this.#found, fromBase64(this.#where(first, "Transport MIKEY"), data as string));
      }
    }
  }

  #readKeyMgmt(line: number, value: string): void {
    let specs: readonly KeyMgmtSpec[];
    try {
      specs = parseKeyMgmtHeader(value);
    } catch (error) {
      add(this.#found, { where: this.#where(line, "KeyMgmt"), octets: undefined, problems: [problemOf(error)] });
      return;
    }
    for (const { protocol, uri, data } of specs) {
      if (protocol !== "mikey") continue;
      const problems: Problem[] = [];
      if (uri === undefined || uri === "") {
        problems.push({
          code: "lint.uri-absent",
          severity: "info",
          path: "KeyMgmt.uri",
          message:
            "without a uri the request URI is meant (RFC 4567 §4.2); gortsplib wants one, Genetec and Hanwha send an empty one",
        });
      }
      add(this.#found, { where: this.#where(line, "KeyMgmt"), octets: data, problems });
    }
  }

  /** After the empty line that ends headers: a body that is a message by itself, binary or base64 (RFC 3830 §10.1). */
  #readBody(): void {
    const { type, length } = this.#headers;
    this.#headers = { ...this.#headers, type: "", length: undefined };
    if (type !== "application/mikey" || this.#at >= this.#lines.length) return;
    const first = this.#at;
    const start = (this.#lines[first] as Line).start;
    let end = start + (length ?? 0);
    if (length === undefined) {
      let next = first;
      while (next < this.#lines.length && !isBoundary((this.#lines[next] as Line).text)) next++;
      end = next < this.#lines.length ? (this.#lines[next] as Line).start : this.#text.length;
    }
    const body = this.#text.slice(start, end);
    while (this.#at < this.#lines.length && (this.#lines[this.#at] as Line).start < end) this.#at++;
    const where = this.#where(first, "application/mikey body");
    if (body.startsWith("\u0001")) {
      // Without a length, the line end before a boundary is not part of the body (RFC 2046 §5.1.1).
      const octets = Uint8Array.from(length === undefined ? body.replace(/\r?\n$/, "") : body, (char) => char.charCodeAt(0));
      add(this.#found, { where: `${where}, binary`, octets, problems: [] });
    } else {
      add(this.#found, fromBase64(`${where}, base64`, body.replaceAll(/\s/g, "")));
    }
  }
}

function isBoundary(line: string): boolean {
  return line.startsWith("--") || START_LINE.test(line.trim());
}

function splitLines(text: string): Line[] {
  const lines: Line[] = [];
  let start = 0;
  for (const { index, 0: ending } of text.matchAll(/\r\n|\r|\n/g)) {
    lines.push({ text: text.slice(start, index), start });
    start = index + ending.length;
  }
  if (start < text.length) lines.push({ text: text.slice(start), start });
  return lines;
}
