import { CodecError, concatBytes, utf8 } from "../bytes/index.js";

/** Header fields in order, names as received. Look them up with `header` and `headers`: names compare without case (RFC 2326 §4.2). */
export type RtspHeaders = readonly (readonly [name: string, value: string])[];

/** A request (RFC 2326 §6). */
export interface RtspRequest {
  readonly kind: "request";
  readonly method: string;
  readonly uri: string;
  /** `RTSP/1.0` or `RTSP/2.0`; another version is for the receiver to refuse. */
  readonly version: string;
  readonly headers: RtspHeaders;
  readonly body: Uint8Array;
}

/** A response (RFC 2326 §7). */
export interface RtspResponse {
  readonly kind: "response";
  readonly version: string;
  readonly status: number;
  readonly reason: string;
  readonly headers: RtspHeaders;
  readonly body: Uint8Array;
}

/** A packet between messages: `$`, channel, length (RFC 2326 §10.12). */
export interface InterleavedFrame {
  readonly kind: "frame";
  readonly channel: number;
  readonly data: Uint8Array;
}

export type RtspMessage = RtspRequest | RtspResponse;
export type RtspItem = RtspMessage | InterleavedFrame;

export const RTSP_VERSION = "RTSP/1.0";
/** RFC 7826. */
export const RTSP_VERSION_2 = "RTSP/2.0";

const NO_BODY = new Uint8Array(0);

/** The value of the first header of that name, or undefined. */
export function header(message: { readonly headers: RtspHeaders }, name: string): string | undefined {
  const wanted = name.toLowerCase();
  return message.headers.find(([candidate]) => candidate.toLowerCase() === wanted)?.[1];
}

/** The values of all headers of that name, in order. */
export function headers(message: { readonly headers: RtspHeaders }, name: string): string[] {
  const wanted = name.toLowerCase();
  return message.headers.filter(([candidate]) => candidate.toLowerCase() === wanted).map(([, value]) => value);
}

/** The values of a header whose value is a list, as one list (RFC 2326 §4.2, RFC 2616 §4.2); undefined where it is absent. */
export function listHeader(message: { readonly headers: RtspHeaders }, name: string): string | undefined {
  const values = headers(message, name);
  return values.length === 0 ? undefined : values.join(", ");
}

/** The CSeq of a message, or undefined where it is absent or not a number (RFC 2326 §12.17). */
export function sequenceNumber(message: { readonly headers: RtspHeaders }): number | undefined {
  const text = header(message, "CSeq")?.trim() ?? "";
  return /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}

/** A request without kind to write out. */
export function createRequest(
  method: string,
  uri: string,
  fields: RtspHeaders,
  body: Uint8Array = NO_BODY,
  version: string = RTSP_VERSION,
): RtspRequest {
  return { kind: "request", method, uri, version, headers: fields, body };
}

/** A response; the reason phrase is that of the status unless given. */
export function createResponse(
  status: number,
  fields: RtspHeaders,
  body: Uint8Array = NO_BODY,
  reason?: string,
  version: string = RTSP_VERSION,
): RtspResponse {
  return { kind: "response", version, status, reason: reason ?? reasonPhrase(status, version), headers: fields, body };
}

/**
 * Writes a message: CRLF everywhere, Content-Length added where there is a body (RFC 2326 §12.14).
 * @throws CodecError `rtsp.format` for a method, URI, reason, header name or value that would not read back
 */
export function encodeRtsp(message: RtspMessage): Uint8Array {
  const lines = [
    message.kind === "request"
      ? `${token(message.method, "method")} ${uriText(message.uri)} ${versionText(message.version)}`
      : `${versionText(message.version)} ${statusText(message.status)} ${lineText(message.reason, "reason")}`,
  ];
  for (const [name, value] of message.headers) {
    if (name.toLowerCase() === "content-length") continue;
    lines.push(`${token(name, "header")}: ${lineText(value, name)}`);
  }
  if (message.body.length > 0) lines.push(`Content-Length: ${message.body.length}`);
  return concatBytes(utf8(`${lines.join("\r\n")}\r\n\r\n`), message.body);
}

/** Writes an interleaved frame. @throws CodecError `rtsp.format` for a channel above 255 or more than 65535 octets */
export function encodeFrame(channel: number, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(4 + data.length);
  encodeFrameInto(out, channel, data);
  return out;
}

/** Writes an interleaved frame into memory that has room for it. @returns octets written @throws as `encodeFrame` */
export function encodeFrameInto(out: Uint8Array, channel: number, data: Uint8Array): number {
  if (!Number.isInteger(channel) || channel < 0 || channel > 255) throw unwritable("channel", "0 to 255");
  if (data.length > 0xffff) throw unwritable("frame", "at most 65535 octets");
  out[0] = 0x24;
  out[1] = channel;
  out[2] = data.length >> 8;
  out[3] = data.length & 0xff;
  out.set(data, 4);
  return 4 + data.length;
}

/** Status codes of RFC 2326 §7.1.1 and RFC 4567 §3.2 with their reason phrases. */
export const RTSP_STATUS: Readonly<Record<number, string>> = {
  100: "Continue",
  200: "OK",
  201: "Created",
  250: "Low on Storage Space",
  300: "Multiple Choices",
  301: "Moved Permanently",
  302: "Moved Temporarily",
  303: "See Other",
  304: "Not Modified",
  305: "Use Proxy",
  400: "Bad Request",
  401: "Unauthorized",
  402: "Payment Required",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  406: "Not Acceptable",
  407: "Proxy Authentication Required",
  408: "Request Time-out",
  410: "Gone",
  411: "Length Required",
  412: "Precondition Failed",
  413: "Request Entity Too Large",
  414: "Request-URI Too Large",
  415: "Unsupported Media Type",
  451: "Parameter Not Understood",
  452: "Conference Not Found",
  453: "Not Enough Bandwidth",
  454: "Session Not Found",
  455: "Method Not Valid in This State",
  456: "Header Field Not Valid for Resource",
  457: "Invalid Range",
  458: "Parameter Is Read-Only",
  459: "Aggregate operation not allowed",
  460: "Only aggregate operation allowed",
  461: "Unsupported transport",
  462: "Destination unreachable",
  463: "Key management failure",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Time-out",
  505: "RTSP Version not supported",
  551: "Option not supported",
};

/** Statuses that RFC 7826 §8.1.1 adds, or gives another meaning than RFC 2326. */
const RTSP_STATUS_2: Readonly<Record<number, string>> = {
  463: "Destination Prohibited",
  464: "Data Transport Not Ready Yet",
  465: "Notification Reason Unknown",
  466: "Key Management Error",
  470: "Connection Authorization Required",
  471: "Connection Credentials Not Accepted",
  472: "Failure to Establish Secure Connection",
};

/** The reason phrase of a status in a version of RTSP. */
export function reasonPhrase(status: number, version: string = RTSP_VERSION): string {
  return (version === RTSP_VERSION_2 ? RTSP_STATUS_2[status] : undefined) ?? RTSP_STATUS[status] ?? "Unknown";
}

/** RFC 2326 §15.1: the characters of a token. */
export const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

function unwritable(field: string, detail: string): CodecError {
  return new CodecError("rtsp.format", `rtsp.${field}`, -1, detail);
}

function token(text: string, field: string): string {
  if (!TOKEN.test(text)) throw unwritable(field, "not a token");
  return text;
}

function versionText(text: string): string {
  if (text !== RTSP_VERSION && text !== RTSP_VERSION_2) throw unwritable("version", "RTSP/1.0 or RTSP/2.0");
  return text;
}

function uriText(text: string): string {
  // A URI is visible ASCII; a space would end the field.
  if (!/^[\x21-\x7e]+$/.test(text)) throw unwritable("uri", "visible characters expected");
  return text;
}

function lineText(text: string, field: string): string {
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if ((unit < 32 && unit !== 9) || unit === 127) throw unwritable(field, "control character");
  }
  return text;
}

function statusText(status: number): string {
  if (!Number.isInteger(status) || status < 100 || status > 999) throw unwritable("status", "three digits");
  return String(status);
}
