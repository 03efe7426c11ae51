import { WatchwordError } from "../bytes/index.js";

/** An rtsp or rtsps URI taken apart (RFC 2326 §3.2). */
export interface RtspUri {
  readonly secure: boolean;
  readonly host: string;
  /** 554, or 322 for rtsps, unless given. */
  readonly port: number;
  /** From the first `/`, without query and fragment; at least `/`. */
  readonly path: string;
  /** With its `?`, or empty. */
  readonly query: string;
  readonly user?: string;
  readonly password?: string;
  /** The URI as it goes into requests: without user information and fragment. */
  readonly text: string;
}

/**
 * Reads an absolute rtsp: or rtsps: URI. Of the characters that no URI has, those are refused that would end or change the quoted strings
 * that URIs stand in, in KeyMgmt and Authorization.
 * @throws WatchwordError `rtsp.uri`
 */
export function parseRtspUri(text: string): RtspUri {
  const match =
    /^(rtsps?):\/\/(?:([^@/?#:]*)(?::([^@/?#]*))?@)?(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~%-]+)(?::(\d{1,5}))?(\/[^?#"\\]*)?(\?[^#"\\]*)?(?:#.*)?$/i.exec(
      text,
    );
  const port = Number(match?.[5] ?? 0);
  if (match === null || text.length > 4096 || !/^[\x21-\x7e]+$/.test(text) || port > 65_535) {
    throw new WatchwordError("rtsp.uri", "not an rtsp:// or rtsps:// URI");
  }
  const secure = match[1]?.toLowerCase() === "rtsps";
  const host = match[4] as string;
  const path = match[6] ?? "/";
  const query = match[7] ?? "";
  const authority = match[5] === undefined ? host : `${host}:${port}`;
  return {
    secure,
    host: host.replace(/^\[(.*)\]$/, "$1"),
    port: match[5] === undefined ? (secure ? 322 : 554) : port,
    path,
    query,
    ...(match[2] === undefined ? {} : { user: decode(match[2]) }),
    ...(match[3] === undefined ? {} : { password: decode(match[3]) }),
    text: `${secure ? "rtsps" : "rtsp"}://${authority}${match[6] ?? ""}${query}`,
  };
}

/**
 * The URI that controls a stream or the whole presentation (RFC 2326 §C.1.1): absolute as it is, `*` or nothing the base itself,
 * anything else appended to the base, as every known server expects.
 */
export function resolveControl(base: string, control: string | undefined): string {
  if (control === undefined || control === "*" || control === "") return base;
  if (/^rtsps?:\/\//i.test(control)) return control;
  return base.endsWith("/") ? base + control : `${base}/${control}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
