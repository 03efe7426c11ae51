import { CodecError } from "../bytes/index.js";
import { withoutZone } from "../io/index.js";

/** Two adjacent numbers, RTP's and RTCP's: ports or channels. */
export type NumberPair = readonly [first: number, second: number];

/** One transport-spec (RFC 2326 §12.39). */
export interface TransportSpec {
  /** `RTP/AVP`, `RTP/SAVP`, `RTP/SAVPF`, … */
  readonly profile: string;
  readonly lower: "UDP" | "TCP";
  /** RFC 2326's default is multicast; a spec with client_port or interleaved and neither word means unicast in practice. */
  readonly delivery: "unicast" | "multicast";
  readonly destination?: string;
  readonly source?: string;
  readonly ttl?: number;
  readonly layers?: number;
  /** Multicast ports. */
  readonly port?: NumberPair;
  readonly clientPort?: NumberPair;
  readonly serverPort?: NumberPair;
  readonly interleaved?: NumberPair;
  readonly ssrc?: number;
  /** Methods in capitals: `PLAY`, `RECORD`. */
  readonly mode?: string;
  readonly append?: boolean;
  /** RTSP 2.0: where media comes from and goes to is written as src_addr and dest_addr (RFC 7826 §18.54). */
  readonly addressed?: boolean;
  /** RTSP 2.0: the MIKEY message, in base64 as written (RFC 7826 appendix C.1.4.1). */
  readonly mikey?: string;
  /** Parameters that are none of these, as written. */
  readonly other?: readonly string[];
}

const MAX_LENGTH = 16_384;
const MAX_SPECS = 32;

/**
 * Reads a Transport header: alternatives in order of preference.
 * @throws CodecError `rtsp.transport`
 */
export function parseTransport(value: string): TransportSpec[] {
  if (value.length > MAX_LENGTH) throw fault("too long");
  const specs = splitQuoted(value, ",");
  if (specs.length > MAX_SPECS) throw fault(`more than ${MAX_SPECS} alternatives`);
  return specs.map(parseSpec);
}

/** Writes a Transport header, addresses without their zones. @throws CodecError `rtsp.transport` for values that would not read back */
export function formatTransport(specs: readonly TransportSpec[]): string {
  if (specs.length === 0) throw fault("no transport");
  return specs.map(formatSpec).join(",");
}

function parseSpec(text: string): TransportSpec {
  const [name = "", ...parameters] = splitQuoted(text, ";").map((part) => part.trim());
  const match = /^(RTP\/[A-Za-z0-9]+)(?:\/(TCP|UDP))?$/i.exec(name);
  if (match === null) throw fault("protocol/profile/lower-transport expected");
  const lower = match[2]?.toUpperCase() === "TCP" ? "TCP" : "UDP";
  const spec: { -readonly [K in keyof TransportSpec]?: TransportSpec[K] } = {};
  const other: string[] = [];
  for (const parameter of parameters.filter((part) => part !== "")) {
    const equals = parameter.indexOf("=");
    const key = (equals < 0 ? parameter : parameter.slice(0, equals)).trim().toLowerCase();
    const argument = equals < 0 ? "" : parameter.slice(equals + 1).trim();
    switch (key) {
      case "unicast":
      case "multicast":
        spec.delivery = key;
        break;
      case "destination":
        if (argument !== "") spec.destination = address(argument);
        break;
      case "source":
        if (argument !== "") spec.source = address(argument);
        break;
      case "ttl":
        spec.ttl = integer(argument, 255, key);
        break;
      case "layers":
        spec.layers = integer(argument, 65_535, key);
        break;
      case "port":
        spec.port = pair(argument, 65_535, key);
        break;
      case "client_port":
        spec.clientPort = pair(argument, 65_535, key);
        break;
      case "server_port":
        spec.serverPort = pair(argument, 65_535, key);
        break;
      case "interleaved":
        spec.interleaved = pair(argument, 255, key);
        break;
      case "ssrc":
        // RFC 2326 has eight digits; peers leave zeros out. RFC 7826 has a list: the first is the one.
        if (!/^[0-9a-f]{1,8}(\/[0-9a-f]{8})*$/i.test(argument)) throw fault("ssrc is up to eight hexadecimal digits");
        spec.ssrc = Number.parseInt(argument, 16);
        break;
      case "mode":
        spec.mode = argument.replace(/^"|"$/g, "").trim().toUpperCase();
        break;
      case "append":
        spec.append = true;
        break;
      case "dest_addr": {
        const { host, ports } = addressPair(argument);
        spec.addressed = true;
        if (host !== "") spec.destination = host;
        if (ports !== undefined) spec.clientPort = ports;
        break;
      }
      case "src_addr": {
        const { host, ports } = addressPair(argument);
        spec.addressed = true;
        if (host !== "") spec.source = host;
        if (ports !== undefined) spec.serverPort = ports;
        break;
      }
      case "mikey":
        spec.mikey = argument;
        break;
      default:
        other.push(parameter);
    }
  }
  const { delivery = spec.clientPort !== undefined || spec.interleaved !== undefined ? "unicast" : "multicast", ...rest } = spec;
  const profile = (match[1] as string).toUpperCase();
  return { profile, lower, delivery, ...rest, ...(other.length === 0 ? {} : { other }) };
}

function formatSpec(spec: TransportSpec): string {
  const name = spec.lower === "TCP" ? `${spec.profile}/TCP` : spec.profile;
  if (!/^RTP\/[A-Z0-9]+(\/TCP)?$/.test(name)) throw fault("protocol/profile/lower-transport expected");
  const parts = [name, spec.delivery];
  if (spec.addressed === true) {
    if (spec.clientPort !== undefined) parts.push(`dest_addr=${formatAddresses(spec.destination, spec.clientPort)}`);
    if (spec.serverPort !== undefined) parts.push(`src_addr=${formatAddresses(spec.source, spec.serverPort)}`);
  } else {
    if (spec.destination !== undefined) parts.push(`destination=${address(withoutZone(spec.destination))}`);
    if (spec.source !== undefined) parts.push(`source=${address(withoutZone(spec.source))}`);
  }
  if (spec.interleaved !== undefined) parts.push(`interleaved=${formatPair(spec.interleaved, 255, "interleaved")}`);
  if (spec.append === true) parts.push("append");
  if (spec.ttl !== undefined) parts.push(`ttl=${within(spec.ttl, 255, "ttl")}`);
  if (spec.layers !== undefined) parts.push(`layers=${within(spec.layers, 65_535, "layers")}`);
  if (spec.port !== undefined) parts.push(`port=${formatPair(spec.port, 65_535, "port")}`);
  if (spec.clientPort !== undefined && spec.addressed !== true)
    parts.push(`client_port=${formatPair(spec.clientPort, 65_535, "client_port")}`);
  if (spec.serverPort !== undefined && spec.addressed !== true)
    parts.push(`server_port=${formatPair(spec.serverPort, 65_535, "server_port")}`);
  if (spec.ssrc !== undefined) {
    parts.push(`ssrc=${within(spec.ssrc, 0xffffffff, "ssrc").toString(16).toUpperCase().padStart(8, "0")}`);
  }
  for (const parameter of spec.other ?? []) {
    if (!/^[\x20-\x2b\x2d-\x3a\x3c-\x7e]+$/.test(parameter)) throw fault("a parameter holds no , or ;");
    parts.push(parameter);
  }
  if (spec.mikey !== undefined) {
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(spec.mikey)) throw fault("MIKEY is base64");
    parts.push(`MIKEY=${spec.mikey}`);
  }
  if (spec.mode !== undefined) {
    if (!/^[A-Z, ]+$/.test(spec.mode)) throw fault("mode is a list of methods");
    parts.push(`mode="${spec.mode}"`);
  }
  return parts.join(";");
}

function fault(detail: string): CodecError {
  return new CodecError("rtsp.transport", "rtsp.Transport", -1, detail);
}

function address(text: string): string {
  const host = text.replace(/^"(.*)"$/, "$1");
  if (!/^[A-Za-z0-9.:_[\]-]{1,255}$/.test(host)) throw fault("not a host address");
  return host;
}

function integer(text: string, most: number, field: string): number {
  if (!/^\d{1,6}$/.test(text)) throw fault(`${field} is a number`);
  return within(Number(text), most, field);
}

function within(value: number, most: number, field: string): number {
  if (!Number.isInteger(value) || value < 0 || value > most) throw fault(`${field} is 0 to ${most}`);
  return value;
}

/** `"host:port"/"host:port"`, RTP and RTCP; hosts may be left out, and are the same (RFC 7826 §18.54). */
function addressPair(text: string): { readonly host: string; readonly ports: NumberPair | undefined } {
  const parts = splitQuoted(text, "/").map((part) => {
    const match = /^"(\[[0-9A-Fa-f:.]{2,64}\]|[A-Za-z0-9._-]{0,255})(?::(\d{1,5}))?"$/.exec(part);
    if (match === null) throw fault("quoted host:port expected");
    return { host: (match[1] ?? "").replace(/^\[|\]$/g, ""), port: match[2] };
  });
  const [first, second] = parts;
  if (first === undefined || parts.length > 2 || (second !== undefined && second.host !== first.host)) {
    throw fault("one address for RTP and one for RTCP, on one host");
  }
  const port = first.port === undefined ? undefined : within(Number(first.port), 65_535, "port");
  if (port === undefined) return { host: first.host, ports: undefined };
  // One address for both stands for RTCP multiplexed with RTP, which pairs of ports are not.
  return { host: first.host, ports: [port, second?.port === undefined ? port : within(Number(second.port), 65_535, "port")] };
}

function formatAddresses(host: string | undefined, [rtp, rtcp]: NumberPair): string {
  const name = host === undefined ? "" : address(withoutZone(host));
  const written = name.includes(":") && !name.startsWith("[") ? `[${name}]` : name;
  return `"${written}:${within(rtp, 65_535, "port")}"/"${written}:${within(rtcp, 65_535, "port")}"`;
}

/** `a-b`, or `a` alone, which stands for a and the next. */
function pair(text: string, most: number, field: string): NumberPair {
  const [first = "", second] = text.split("-", 2).map((part) => part.trim());
  const low = integer(first, most, field);
  return [low, second === undefined ? within(low + 1, most + 1, field) : integer(second, most, field)];
}

function formatPair([first, second]: NumberPair, most: number, field: string): string {
  return `${within(first, most, field)}-${within(second, most, field)}`;
}

/** Splits outside quotation marks, so that `mode="PLAY,RECORD"` stays whole. */
export function splitQuoted(text: string, separator: string): string[] {
  const parts: string[] = [];
  let start = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charAt(at);
    if (unit === '"') quoted = !quoted;
    else if (unit === separator && !quoted) {
      parts.push(text.slice(start, at));
      start = at + 1;
    }
  }
  parts.push(text.slice(start));
  return parts.map((part) => part.trim());
}
