import { concatBytes, formatBase64, parseBase64, utf8, WatchwordError } from "../../bytes/index.js";

/** One header field line; folded lines are joined (RFC 3261 §7.3.1). */
export interface SipHeader {
  /** Lower case, the long form. */
  readonly name: string;
  readonly value: string;
}

interface MessageParts {
  readonly headers: readonly SipHeader[];
  /** Octets as they were on the wire. */
  readonly body: Uint8Array;
  /** The method of the transaction: that of the CSeq header (RFC 3261 §8.1.1.5). */
  readonly method: string;
  readonly startLine: string;
}

export interface SipRequest extends MessageParts {
  readonly kind: "request";
  readonly uri: string;
}

export interface SipResponse extends MessageParts {
  readonly kind: "response";
  readonly status: number;
}

/** A message as a transport sees it: enough to route, to match with transactions, and to edit without touching the rest. */
export type SipMessage = SipRequest | SipResponse;

/** A Via header field value (RFC 3261 §20.42). */
export interface Via {
  /** Upper case: UDP, TCP, TLS, WS, WSS. */
  readonly transport: string;
  readonly host: string;
  readonly port: number | undefined;
  readonly parameters: readonly (readonly [name: string, value: string | undefined])[];
}

/** Octets of the start line and the header together. */
export const MAX_HEAD = 16_384;
/** Octets of a body. */
export const MAX_BODY = 65_536;
const MAX_HEADERS = 200;

/** Compact forms (RFC 3261 §7.3.3, RFC 3515). */
const COMPACT: Readonly<Record<string, string>> = {
  c: "content-type",
  e: "content-encoding",
  f: "from",
  i: "call-id",
  k: "supported",
  l: "content-length",
  m: "contact",
  r: "refer-to",
  s: "subject",
  t: "to",
  v: "via",
};

/** All but tab, those of ISO 8859 included: they end lines for some readers, and are orders to terminals. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not get further.
const CONTROL = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/;
const MIKEY_TYPE = /^application\/mikey\s*(?:;|$)/i;
const ENCODING = "content-transfer-encoding";
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Where the head ends (behind the empty line), or undefined where the octets hold no complete one. */
export function endOfHead(octets: Uint8Array, from = 0): number | undefined {
  for (let at = octets.indexOf(0x0d, from); at >= 0; at = octets.indexOf(0x0d, at + 1)) {
    if (octets[at + 1] === 0x0a && octets[at + 2] === 0x0d && octets[at + 3] === 0x0a) return at + 4;
  }
  return undefined;
}

/**
 * Reads a message. The body is what follows the head; Content-Length is for the caller to compare (RFC 3261 §18.3).
 * @throws WatchwordError `node.sip-message`
 */
export function parseSipMessage(octets: Uint8Array): SipMessage {
  const end = endOfHead(octets);
  if (end === undefined || end > MAX_HEAD)
    throw malformed(end === undefined ? "it has no end of its header" : "its header is too long");
  const body = octets.subarray(end);
  if (body.length > MAX_BODY) throw malformed("its body is too long");
  return parseHead(octets.subarray(0, end), body);
}

/** Reads the head that ends with an empty line. @throws WatchwordError `node.sip-message` */
export function parseHead(head: Uint8Array, body: Uint8Array): SipMessage {
  const [startLine = "", ...lines] = decoder
    .decode(head.subarray(0, head.length - 4))
    .replace(/\r\n[ \t]+/g, " ")
    .split("\r\n");
  if (CONTROL.test(startLine)) throw malformed("its first line has control characters");
  if (lines.length > MAX_HEADERS) throw malformed("it has too many header fields");
  const headers = lines.map((line): SipHeader => {
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(colon, 0)).trim().toLowerCase();
    if (!/^[a-z0-9.!%*_+`'~-]+$/.test(name)) throw malformed("a header field has no name");
    if (CONTROL.test(line)) throw malformed("a header field has control characters");
    return { name: COMPACT[name] ?? name, value: line.slice(colon + 1).trim() };
  });
  const cseq = /^\d{1,10}\s+([A-Za-z0-9.!%*_+`'~-]+)$/.exec(headerOf(headers, "cseq") ?? "");
  const method = cseq?.[1];
  if (method === undefined) throw malformed("it has no CSeq");
  const status = /^SIP\/2\.0 (\d{3}) ?/.exec(startLine)?.[1];
  if (status !== undefined) return { kind: "response", status: Number(status), method, startLine, headers, body };
  const request = /^([A-Za-z0-9.!%*_+`'~-]+) (\S+) SIP\/2\.0$/.exec(startLine);
  if (request === null || request[1] !== method) throw malformed("it begins with neither a request line nor a status line");
  return { kind: "request", uri: request[2] as string, method, startLine, headers, body };
}

/** The octets of a message; Content-Length is that of the body. */
export function encodeSipMessage(message: SipMessage): Uint8Array {
  const lines = [message.startLine];
  for (const { name, value } of message.headers) if (name !== "content-length") lines.push(`${titleCase(name)}: ${value}`);
  lines.push(`Content-Length: ${message.body.length}`, "", "");
  return concatBytes(utf8(lines.join("\r\n")), message.body);
}

/** The message as sip.js takes it: text, whose body is text as well. */
export function sipMessageText(message: SipMessage): string {
  return decoder.decode(encodeSipMessage(message));
}

/** The first header field of that name (long form, lower case). */
export function headerOf(headers: readonly SipHeader[], name: string): string | undefined {
  return headers.find((header) => header.name === name)?.value;
}

/** The stated length of the body; undefined where there is none. @throws WatchwordError `node.sip-message` for one that is no number */
export function contentLengthOf({ headers }: SipMessage): number | undefined {
  const value = headerOf(headers, "content-length");
  if (value === undefined) return undefined;
  if (!/^\d{1,9}$/.test(value)) throw malformed("its Content-Length is no number");
  return Number(value);
}

/** The Via that the sender of the message, or of the request that it answers, has put there. @throws WatchwordError `node.sip-message` */
export function topVia({ headers }: SipMessage): Via {
  const value = headerOf(headers, "via");
  if (value === undefined) throw malformed("it has no Via");
  return firstVia(value);
}

/** The first of the values of a Via header field. @throws WatchwordError `node.sip-message` */
export function firstVia(value: string): Via {
  return parseVia(splitFirst(value)[0]);
}

/** The same message with another top Via. */
export function withTopVia<T extends SipMessage>(message: T, via: Via): T {
  const index = message.headers.findIndex(({ name }) => name === "via");
  const rest = splitFirst(message.headers[index]?.value ?? "")[1];
  const headers = [...message.headers];
  headers[index] = { name: "via", value: `${formatVia(via)}${rest}` };
  return { ...message, headers };
}

/** A parameter of a Via: undefined where it is absent, the empty text where it has no value. */
export function viaParameter(via: Via, name: string): string | undefined {
  const found = via.parameters.find((parameter) => parameter[0] === name);
  return found === undefined ? undefined : (found[1] ?? "");
}

/** The same Via with a parameter set, or, for undefined, without it. */
export function withViaParameter(via: Via, name: string, value: string | undefined): Via {
  const parameters = via.parameters.filter((parameter) => parameter[0] !== name);
  return { ...via, parameters: value === undefined ? parameters : [...parameters, [name, value === "" ? undefined : value]] };
}

/**
 * A body of type application/mikey may be octets (RFC 3830 messages begin with the version, 1), which text would destroy:
 * it becomes base64, the other form that receivers of ours take. Every other message is returned as it is.
 */
export function withTextualBody<T extends SipMessage>(message: T): T {
  const [first] = message.body;
  if (first !== 1 || !MIKEY_TYPE.test(headerOf(message.headers, "content-type") ?? "")) return message;
  const headers = message.headers.filter(({ name }) => name !== ENCODING);
  return { ...message, headers: [...headers, { name: ENCODING, value: "base64" }], body: utf8(formatBase64(message.body)) };
}

/**
 * The other way round: a key message that sip.js sends in base64, marked as such, becomes the octets that its type stands for
 * (RFC 3830 §10.1). Every other message is returned as it is. @throws CodecError `bytes.base64`
 */
export function withBinaryBody<T extends SipMessage>(message: T): T {
  if (!MIKEY_TYPE.test(headerOf(message.headers, "content-type") ?? "")) return message;
  if (headerOf(message.headers, ENCODING)?.toLowerCase() !== "base64") return message;
  const headers = message.headers.filter(({ name }) => name !== ENCODING);
  return { ...message, headers, body: parseBase64(decoder.decode(message.body)) };
}

const VIA = /^SIP\s*\/\s*2\.0\s*\/\s*([A-Za-z0-9-]+)\s+(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)\s*(?::\s*(\d{1,5}))?\s*(?:;(.*))?$/;

function parseVia(text: string): Via {
  const match = VIA.exec(text);
  if (match === null) throw malformed("its Via cannot be read");
  const [, transport = "", host = "", port, tail] = match;
  const parameters = (tail === undefined ? [] : splitOutsideQuotes(tail, ";")).map((parameter) => {
    const equals = parameter.indexOf("=");
    const name = (equals < 0 ? parameter : parameter.slice(0, equals)).trim().toLowerCase();
    return [name, equals < 0 ? undefined : parameter.slice(equals + 1).trim()] as const;
  });
  return { transport: transport.toUpperCase(), host, port: port === undefined ? undefined : Number(port), parameters };
}

function formatVia({ transport, host, port, parameters }: Via): string {
  const sentBy = port === undefined ? host : `${host}:${port}`;
  const tail = parameters.map(([name, value]) => (value === undefined ? `;${name}` : `;${name}=${value}`)).join("");
  return `SIP/2.0/${transport} ${sentBy}${tail}`;
}

/** A list's first element, and the rest with the comma before it. */
function splitFirst(value: string): readonly [string, string] {
  const [first = ""] = splitOutsideQuotes(value, ",");
  return [first.trim(), value.slice(first.length)];
}

function splitOutsideQuotes(text: string, separator: "," | ";"): string[] {
  const parts: string[] = [];
  let start = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (quoted && character === "\\") at++;
    else if (character === '"') quoted = !quoted;
    else if (character === separator && !quoted) {
      parts.push(text.slice(start, at));
      start = at + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

/** Header field names as people and other implementations write them. */
const TITLES: Readonly<Record<string, string>> = { "call-id": "Call-ID", cseq: "CSeq", "www-authenticate": "WWW-Authenticate" };

function titleCase(name: string): string {
  return TITLES[name] ?? name.replace(/(^|-)([a-z])/g, (_, dash: string, letter: string) => dash + letter.toUpperCase());
}

function malformed(reason: string): WatchwordError {
  return new WatchwordError("node.sip-message", `a SIP message cannot be read: ${reason}`);
}
