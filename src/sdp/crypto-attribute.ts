import { CodecError, formatBase64, parseBase64 } from "../bytes/index.js";

/** Most packets under one master key: a plain number or a power of two, as written (RFC 4568 §6.1). */
export type CryptoLifetime = { readonly exponent: number } | { readonly packets: number };

/** One `inline` key (RFC 4568 §6.1). */
export interface InlineKey {
  readonly method: "inline";
  /** Master key followed by master salt. */
  readonly keySalt: Uint8Array;
  readonly lifetime?: CryptoLifetime;
  /** The MKI as packets carry it: 1 to 128 octets. */
  readonly mki?: Uint8Array;
}

/** A key method that this package does not know, kept as written. */
export interface OtherKey {
  readonly method: string;
  readonly info: string;
}

export type CryptoKey = InlineKey | OtherKey;

/** A session parameter (RFC 4568 §6.3). Unknown ones are kept; without a leading `-` they are mandatory and the line must be refused. */
export type CryptoSessionParameter =
  /** Exponent of two, 0 to 24. */
  | { readonly name: "KDR"; readonly exponent: number }
  | { readonly name: "UNENCRYPTED_SRTP" | "UNENCRYPTED_SRTCP" | "UNAUTHENTICATED_SRTP" }
  | { readonly name: "FEC_ORDER"; readonly order: "FEC_SRTP" | "SRTP_FEC" }
  | { readonly name: "FEC_KEY"; readonly keys: readonly CryptoKey[] }
  /** At least 64 packets. */
  | { readonly name: "WSH"; readonly packets: number }
  | { readonly name: "unknown"; readonly text: string; readonly mandatory: boolean };

/** One `a=crypto` line (RFC 4568 §4). */
export interface CryptoAttribute {
  /** As written, 1 to 9 digits; compare as numbers. */
  readonly tag: string;
  readonly suite: string;
  readonly keys: readonly CryptoKey[];
  readonly sessionParameters: readonly CryptoSessionParameter[];
}

const MAX_LINE = 16_384;
const FLAGS = ["UNENCRYPTED_SRTP", "UNENCRYPTED_SRTCP", "UNAUTHENTICATED_SRTP"] as const;

/** True for a key that `parseCrypto` understood. */
export function isInlineKey(key: CryptoKey): key is InlineKey {
  return "keySalt" in key;
}

/**
 * Reads the value of an a=crypto attribute, what follows `crypto:` (RFC 4568 §9.1, §9.2).
 * @throws CodecError `sdp.crypto`, `bytes.base64`, `sdp.too-large`
 */
export function parseCrypto(value: string): CryptoAttribute {
  if (value.length > MAX_LINE) throw new CodecError("sdp.too-large", "crypto", MAX_LINE, `more than ${MAX_LINE} characters`);
  const [tag = "", suite = "", keys = "", ...parameters] = value.trim().split(/[ \t]+/);
  if (!/^\d{1,9}$/.test(tag)) throw fault("tag", "1 to 9 digits expected");
  if (!/^[A-Za-z0-9_]+$/.test(suite)) throw fault("suite", "no crypto suite");
  const attribute = {
    tag,
    suite,
    keys: parseKeys(keys, "keys"),
    sessionParameters: parameters.map((text) => parseSessionParameter(text)),
  };
  checkRepeats(attribute.sessionParameters);
  return attribute;
}

/** The value of an a=crypto attribute. @throws CodecError `sdp.crypto` for what `parseCrypto` would refuse */
export function formatCrypto(attribute: CryptoAttribute): string {
  if (!/^\d{1,9}$/.test(attribute.tag)) throw fault("tag", "1 to 9 digits expected");
  if (!/^[A-Za-z0-9_]+$/.test(attribute.suite)) throw fault("suite", "no crypto suite");
  checkRepeats(attribute.sessionParameters);
  return [
    attribute.tag,
    attribute.suite,
    formatKeys(attribute.keys, "keys"),
    ...attribute.sessionParameters.map(formatSessionParameter),
  ].join(" ");
}

function fault(field: string, detail: string): CodecError {
  return new CodecError("sdp.crypto", `crypto.${field}`, -1, detail);
}

function parseKeys(text: string, path: string): CryptoKey[] {
  const keys = text.split(";").map((param, index) => parseKey(param, `${path}[${index}]`));
  checkKeys(keys, path);
  return keys;
}

function parseKey(text: string, path: string): CryptoKey {
  const colon = text.indexOf(":");
  const method = text.slice(0, Math.max(colon, 0));
  const info = text.slice(colon + 1);
  if (!/^[A-Za-z0-9_]+$/.test(method)) throw fault(path, "method:information expected");
  if (method !== "inline") {
    checkInfo(info, path);
    return { method, info };
  }
  const [base64 = "", ...rest] = info.split("|");
  if (base64 === "" || rest.length > 2) throw fault(path, "key||salt|lifetime|MKI:length expected");
  const keySalt = parseBase64(base64, `crypto.${path}.key`);
  const mkiText = rest.at(-1)?.includes(":") === true ? rest.pop() : undefined;
  if (rest.length > 1) throw fault(path, "two lifetimes");
  return {
    method: "inline",
    keySalt,
    ...(rest[0] === undefined ? {} : { lifetime: parseLifetime(rest[0], path) }),
    ...(mkiText === undefined ? {} : { mki: parseMki(mkiText, path) }),
  };
}

/** §6.1: not zero; no suite allows more than 2^48 packets (RFC 3711 §9.2). */
function parseLifetime(text: string, path: string): CryptoLifetime {
  const match = /^(2\^)?(\d{1,15})$/.exec(text);
  if (match === null) throw fault(`${path}.lifetime`, "decimal or 2^n expected");
  const lifetime = match[1] === undefined ? { packets: Number(match[2]) } : { exponent: Number(match[2]) };
  checkLifetime(lifetime, path);
  return lifetime;
}

function checkLifetime(lifetime: CryptoLifetime, path: string): void {
  const packets = "packets" in lifetime ? lifetime.packets : 2 ** lifetime.exponent;
  if (!Number.isInteger(packets) || packets < 1 || packets > 2 ** 48) throw fault(`${path}.lifetime`, "1 to 2^48 packets");
}

function parseMki(text: string, path: string): Uint8Array {
  const match = /^(\d{1,310}):(\d{1,3})$/.exec(text);
  const length = Number(match?.[2] ?? 0);
  if (match === null || length < 1 || length > 128) throw fault(`${path}.mki`, "value:length with a length of 1 to 128 expected");
  const octets = new Uint8Array(length);
  let value = BigInt(match[1] as string);
  for (let at = length - 1; at >= 0; at--) {
    octets[at] = Number(value & 0xffn);
    value >>= 8n;
  }
  if (value !== 0n) throw fault(`${path}.mki`, `the value does not fit ${length} octets`);
  return octets;
}

/** §6.1: several keys on a line all have an MKI, of one length, each value once. */
function checkKeys(keys: readonly CryptoKey[], path: string): void {
  const inline = keys.filter(isInlineKey);
  if (inline.length < 2) return;
  const seen = new Set<string>();
  for (const { mki } of inline) {
    if (mki === undefined) throw fault(path, "several keys need an MKI each");
    if (mki.length !== inline[0]?.mki?.length) throw fault(path, "MKI lengths differ");
    seen.add(mki.join());
  }
  if (seen.size !== inline.length) throw fault(path, "an MKI is used twice");
}

function parseSessionParameter(text: string): CryptoSessionParameter {
  const flag = FLAGS.find((name) => name === text);
  if (flag !== undefined) return { name: flag };
  if (text.startsWith("KDR=")) {
    const exponent = number(text, 4, /^\d{1,2}$/);
    if (exponent > 24) throw fault("KDR", "0 to 24");
    return { name: "KDR", exponent };
  }
  if (text.startsWith("WSH=")) {
    const packets = number(text, 4, /^\d{2,9}$/);
    if (packets < 64) throw fault("WSH", "at least 64");
    return { name: "WSH", packets };
  }
  if (text.startsWith("FEC_ORDER=")) {
    const order = text.slice(10);
    if (order !== "FEC_SRTP" && order !== "SRTP_FEC") throw fault("FEC_ORDER", "FEC_SRTP or SRTP_FEC expected");
    return { name: "FEC_ORDER", order };
  }
  if (text.startsWith("FEC_KEY=")) return { name: "FEC_KEY", keys: parseKeys(text.slice(8), "FEC_KEY") };
  checkUnknown(text);
  return { name: "unknown", text, mandatory: !text.startsWith("-") };
}

function number(text: string, from: number, form: RegExp): number {
  const digits = text.slice(from);
  if (!form.test(digits)) throw fault(text.slice(0, from - 1), "decimal number expected");
  return Number(digits);
}

/** A parameter that is declared twice would let two readers understand two things. */
function checkRepeats(parameters: readonly CryptoSessionParameter[]): void {
  const known = parameters.filter(({ name }) => name !== "unknown").map(({ name }) => name);
  if (new Set(known).size !== known.length) throw fault("sessionParameters", "a parameter is given twice");
}

function checkInfo(info: string, path: string): void {
  if (!/^[\x21-\x3a\x3c-\x7e]+$/.test(info)) throw fault(path, "visible characters without ; expected");
}

function checkUnknown(text: string): void {
  if (!/^-?[\x21-\x2c\x2e-\x7e][\x21-\x7e]*$/.test(text)) throw fault("sessionParameters", "visible characters expected");
}

function formatKeys(keys: readonly CryptoKey[], path: string): string {
  if (keys.length === 0) throw fault(path, "no key");
  checkKeys(keys, path);
  return keys.map((key, index) => formatKey(key, `${path}[${index}]`)).join(";");
}

function formatKey(key: CryptoKey, path: string): string {
  if (!isInlineKey(key)) {
    if (key.method === "inline" || !/^[A-Za-z0-9_]+$/.test(key.method)) throw fault(path, "unknown key method expected");
    checkInfo(key.info, path);
    return `${key.method}:${key.info}`;
  }
  if (key.keySalt.length === 0) throw fault(path, "empty key");
  let text = `inline:${formatBase64(key.keySalt)}`;
  if (key.lifetime !== undefined) {
    checkLifetime(key.lifetime, path);
    text += "packets" in key.lifetime ? `|${key.lifetime.packets}` : `|2^${key.lifetime.exponent}`;
  }
  if (key.mki !== undefined) {
    if (key.mki.length < 1 || key.mki.length > 128) throw fault(`${path}.mki`, "1 to 128 octets");
    let value = 0n;
    for (const octet of key.mki) value = (value << 8n) | BigInt(octet);
    text += `|${value}:${key.mki.length}`;
  }
  return text;
}

function formatSessionParameter(parameter: CryptoSessionParameter): string {
  switch (parameter.name) {
    case "KDR":
      return formatBounded("KDR", parameter.exponent, 0, 24);
    case "WSH":
      return formatBounded("WSH", parameter.packets, 64, 999_999_999);
    case "FEC_ORDER":
      return `FEC_ORDER=${parameter.order}`;
    case "FEC_KEY":
      return `FEC_KEY=${formatKeys(parameter.keys, "FEC_KEY")}`;
    case "unknown":
      checkUnknown(parameter.text);
      return parameter.text;
    default:
      return parameter.name;
  }
}

function formatBounded(name: string, value: number, least: number, most: number): string {
  if (!Number.isInteger(value) || value < least || value > most) throw fault(name, `${least} to ${most}`);
  return `${name}=${value}`;
}
