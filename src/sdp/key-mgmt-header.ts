import { CodecError, formatBase64, parseBase64 } from "../bytes/index.js";
import { checkProtocol } from "./key-mgmt.js";

/** One key-mgmt-spec of a KeyMgmt header (RFC 4567 §3.2, §4.2). */
export interface KeyMgmtSpec {
  /** Protocol identifier, case-sensitive: `mikey`. */
  readonly protocol: string;
  /** The context that the data is for; absent means the request URI. An empty `uri=""`, which cameras send, is an empty string here. */
  readonly uri?: string;
  readonly data: Uint8Array;
}

const MAX_HEADER = 65_536;
const MAX_SPECS = 16;
const MAX_PARAMETERS = 16;

/**
 * Reads a KeyMgmt header value: comma-separated specs of `prot=…;uri="…";data="…"` in any order, quoted or not, with white space
 * around separators, an empty or absent uri, a trailing `;`, padded or unpadded base64. (The published ABNF lacks `data`; the text of
 * RFC 4567 §4.2 and its examples have it.) Unknown parameters are passed over.
 * @throws CodecError `sdp.key-mgmt-header`, `bytes.base64`, `sdp.too-large`
 */
export function parseKeyMgmtHeader(value: string): KeyMgmtSpec[] {
  if (value.length > MAX_HEADER) throw new CodecError("sdp.too-large", "KeyMgmt", MAX_HEADER, `more than ${MAX_HEADER} characters`);
  const specs: KeyMgmtSpec[] = [];
  let parameters = new Map<string, string>();
  const finish = (at: number): void => {
    if (parameters.size === 0) throw new CodecError("sdp.key-mgmt-header", "KeyMgmt", at, "empty specification");
    if (specs.length === MAX_SPECS)
      throw new CodecError("sdp.key-mgmt-header", "KeyMgmt", at, `more than ${MAX_SPECS} specifications`);
    specs.push(readSpec(parameters, specs.length, at));
    parameters = new Map();
  };

  let at = skipSpace(value, 0);
  while (at < value.length) {
    const unit = value.charAt(at);
    if (unit === ";") {
      at = skipSpace(value, at + 1);
      continue;
    }
    if (unit === ",") {
      finish(at);
      at = skipSpace(value, at + 1);
      if (at === value.length) throw new CodecError("sdp.key-mgmt-header", "KeyMgmt", at, "nothing after a comma");
      continue;
    }
    const equals = value.indexOf("=", at);
    const name = equals < 0 ? "" : value.slice(at, equals).trim().toLowerCase();
    if (!/^[a-z0-9-]+$/.test(name)) throw new CodecError("sdp.key-mgmt-header", "KeyMgmt", at, "name=value expected");
    if (parameters.has(name)) throw new CodecError("sdp.key-mgmt-header", `KeyMgmt.${name}`, at, "given twice");
    if (parameters.size === MAX_PARAMETERS) throw new CodecError("sdp.key-mgmt-header", "KeyMgmt", at, "too many parameters");
    const [text, end] = readValue(value, skipSpace(value, equals + 1), name);
    parameters.set(name, text);
    at = skipSpace(value, end);
    if (at < value.length && value.charAt(at) !== ";" && value.charAt(at) !== ",") {
      throw new CodecError("sdp.key-mgmt-header", `KeyMgmt.${name}`, at, "; or , expected");
    }
  }
  finish(at);
  return specs;
}

/** `prot=mikey;uri="rtsp://…";data="…"`, the one form that every known peer reads. @throws CodecError `sdp.key-mgmt`, `sdp.key-mgmt-header` */
export function formatKeyMgmtHeader(specs: readonly KeyMgmtSpec[]): string {
  if (specs.length === 0) throw new CodecError("sdp.key-mgmt-header", "KeyMgmt", -1, "at least one specification");
  return specs
    .map(({ protocol, uri, data }) => {
      checkProtocol(protocol);
      if (uri !== undefined && !/^[\x21\x23-\x5b\x5d-\x7e]*$/.test(uri)) {
        throw new CodecError("sdp.key-mgmt-header", "KeyMgmt.uri", -1, "not a URI");
      }
      return `prot=${protocol};${uri === undefined ? "" : `uri="${uri}";`}data="${formatBase64(data)}"`;
    })
    .join(", ");
}

/** How key management rides in the body of SET_PARAMETER or a GET_PARAMETER response. */
export type KeyMgmtBodyForm = "mikey" | "KeyMgmt";

/**
 * Reads a text/parameters body: `mikey: <base64>` (ONVIF Streaming) or `KeyMgmt: prot=…` (GStreamer). Other parameters are passed over.
 * @returns undefined when the body holds neither
 * @throws CodecError `sdp.key-mgmt-header`, `bytes.base64`, `sdp.too-large`
 */
export function parseKeyMgmtParameter(
  body: string,
): { readonly form: KeyMgmtBodyForm; readonly specs: readonly KeyMgmtSpec[] } | undefined {
  if (body.length > MAX_HEADER)
    throw new CodecError("sdp.too-large", "parameters", MAX_HEADER, `more than ${MAX_HEADER} characters`);
  for (const line of body.split(/\r\n|\r|\n/)) {
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(colon, 0)).trim().toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (name === "mikey") return { form: "mikey", specs: [{ protocol: "mikey", data: parseBase64(value, "parameters.mikey") }] };
    if (name === "keymgmt") return { form: "KeyMgmt", specs: parseKeyMgmtHeader(value) };
  }
  return undefined;
}

/** The body that `parseKeyMgmtParameter` reads, one line. The `mikey` form carries one message and no uri. @throws CodecError `sdp.key-mgmt-header` */
export function formatKeyMgmtParameter(form: KeyMgmtBodyForm, specs: readonly KeyMgmtSpec[]): string {
  if (form === "KeyMgmt") return `KeyMgmt: ${formatKeyMgmtHeader(specs)}\r\n`;
  const [spec] = specs;
  if (spec?.protocol !== "mikey" || specs.length !== 1) {
    throw new CodecError("sdp.key-mgmt-header", "parameters.mikey", -1, "exactly one MIKEY message");
  }
  return `mikey: ${formatBase64(spec.data)}\r\n`;
}

function readSpec(parameters: ReadonlyMap<string, string>, index: number, at: number): KeyMgmtSpec {
  const path = `KeyMgmt[${index}]`;
  const protocol = parameters.get("prot");
  const data = parameters.get("data");
  const uri = parameters.get("uri");
  if (protocol === undefined || !/^[A-Za-z0-9]+$/.test(protocol)) {
    throw new CodecError("sdp.key-mgmt-header", `${path}.prot`, at, "no protocol identifier");
  }
  if (data === undefined || data === "") throw new CodecError("sdp.key-mgmt-header", `${path}.data`, at, "no key management data");
  const octets = parseBase64(data.replace(/[ \t]+/g, ""), `${path}.data`);
  return uri === undefined ? { protocol, data: octets } : { protocol, uri, data: octets };
}

function readValue(text: string, start: number, name: string): readonly [value: string, end: number] {
  if (text.charAt(start) !== '"') {
    let end = start;
    while (end < text.length && text.charAt(end) !== ";" && text.charAt(end) !== ",") end++;
    return [text.slice(start, end).trimEnd(), end];
  }
  const close = text.indexOf('"', start + 1);
  if (close < 0) throw new CodecError("sdp.key-mgmt-header", `KeyMgmt.${name}`, start, "quotation mark not closed");
  return [text.slice(start + 1, close), close + 1];
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (at < text.length && (text.charAt(at) === " " || text.charAt(at) === "\t")) at++;
  return at;
}
