import { CodecError } from "../bytes/index.js";
import { splitQuoted } from "./transport.js";

/** Session header (RFC 2326 §12.37). */
export interface SessionHeader {
  readonly id: string;
  /** Seconds of silence after which the server ends the session; RFC 2326's default is 60. */
  readonly timeout?: number;
}

/** Reads a Session header. @throws CodecError `rtsp.header` */
export function parseSession(value: string): SessionHeader {
  const [id = "", ...parameters] = value.split(";").map((part) => part.trim());
  // RFC 2326 §3.4 has letters, digits and safe characters; a peer's own alphabet is its business as long as it is visible.
  if (!/^[\x21-\x7e]{1,512}$/.test(id)) throw fault("Session", "no session identifier");
  for (const parameter of parameters) {
    const match = /^timeout\s*=\s*(\d{1,9})$/i.exec(parameter);
    if (match !== null && Number(match[1]) > 0) return { id, timeout: Number(match[1]) };
  }
  return { id };
}

/** Writes a Session header. */
export function formatSession(session: SessionHeader): string {
  return session.timeout === undefined ? session.id : `${session.id};timeout=${session.timeout}`;
}

/** Range header in the units of RFC 2326 §3.5 to §3.7, ends as written. */
export interface RangeHeader {
  readonly unit: "npt" | "clock" | "smpte";
  /** `now`, seconds, `hh:mm:ss.f`, a time code or a UTC time. */
  readonly start?: string;
  readonly end?: string;
}

const RANGE_FORMS = {
  npt: /^(now|\d+(?:\.\d*)?|\d+:\d{1,2}:\d{1,2}(?:\.\d*)?)?$/,
  clock: /^(\d{8}T\d{6}(?:\.\d+)?Z)?$/,
  smpte: /^(\d{1,2}:\d{1,2}:\d{1,2}(?::\d{1,2}(?:\.\d{1,2})?)?)?$/,
} as const;

/** Reads a Range header. @throws CodecError `rtsp.range` */
export function parseRange(value: string): RangeHeader {
  const match = /^(npt|clock|smpte(?:-30-drop|-25)?)\s*=\s*([^;-]*)-([^;-]*)(?:;.*)?$/i.exec(value.slice(0, 512).trim());
  const unit = (match?.[1]?.toLowerCase().replace(/-.*/, "") ?? "") as RangeHeader["unit"];
  const form = RANGE_FORMS[unit];
  const start = match?.[2]?.trim() ?? "";
  const end = match?.[3]?.trim() ?? "";
  if (form === undefined || !form.test(start) || !form.test(end) || (start === "" && end === "")) {
    throw new CodecError("rtsp.range", "rtsp.Range", -1, "npt, clock or smpte range expected");
  }
  return { unit, ...(start === "" ? {} : { start }), ...(end === "" ? {} : { end }) };
}

/** Writes a Range header. */
export function formatRange(range: RangeHeader): string {
  return `${range.unit}=${range.start ?? ""}-${range.end ?? ""}`;
}

/** One stream of an RTP-Info header (RFC 2326 §12.33). */
export interface RtpInfo {
  readonly url: string;
  /** RTSP 2.0 only (RFC 7826 §18.45); an entry with it is written in that form. */
  readonly ssrc?: number;
  /** Sequence number of the first packet. */
  readonly seq?: number;
  readonly rtptime?: number;
}

/** Reads an RTP-Info header; entries without a url are passed over, as are values out of range. */
export function parseRtpInfo(value: string): RtpInfo[] {
  // A URL may hold commas: an entry begins where url= follows one.
  return value
    .slice(0, 32_768)
    .split(/,(?=\s*url\s*=)/i)
    .flatMap((text) => {
      // RFC 7826: url="…" ssrc=…:seq=…;rtptime=…
      const two = /^\s*url\s*=\s*"([^"]*)"\s+ssrc\s*=\s*([0-9a-f]{1,8})(?::(.*))?$/i.exec(text);
      const entry = two === null ? text : `url=${two[1]};${two[3] ?? ""}`;
      const ssrc = two === null ? undefined : Number.parseInt(two[2] as string, 16);
      const fields = new Map<string, string>();
      for (const part of entry.split(";")) {
        const equals = part.indexOf("=");
        if (equals > 0)
          fields.set(
            part.slice(0, equals).trim().toLowerCase(),
            part
              .slice(equals + 1)
              .trim()
              .replace(/^"|"$/g, ""),
          );
      }
      const url = fields.get("url");
      if (url === undefined || url === "") return [];
      const seq = bounded(fields.get("seq"), 0xffff);
      const rtptime = bounded(fields.get("rtptime"), 0xffffffff);
      return [
        {
          url,
          ...(ssrc === undefined ? {} : { ssrc }),
          ...(seq === undefined ? {} : { seq }),
          ...(rtptime === undefined ? {} : { rtptime }),
        },
      ];
    });
}

/** Writes an RTP-Info header. */
export function formatRtpInfo(entries: readonly RtpInfo[]): string {
  return entries
    .map(({ url, ssrc, seq, rtptime }) => {
      const parameters = [
        ...(seq === undefined ? [] : [`seq=${seq}`]),
        ...(rtptime === undefined ? [] : [`rtptime=${rtptime}`]),
      ].join(";");
      const separator = parameters === "" ? "" : ssrc === undefined ? ";" : ":";
      const start = ssrc === undefined ? `url=${url}` : `url="${url}" ssrc=${ssrc.toString(16).toUpperCase().padStart(8, "0")}`;
      return start + separator + parameters;
    })
    .join(",");
}

/** Reads a comma-separated list of tokens: Public, Allow, Require. */
export function parseTokenList(value: string): string[] {
  return splitQuoted(value.slice(0, 16_384), ",").filter((part) => part !== "");
}

function bounded(text: string | undefined, most: number): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) && Number(text) <= most ? Number(text) : undefined;
}

function fault(field: string, detail: string): CodecError {
  return new CodecError("rtsp.header", `rtsp.${field}`, -1, detail);
}
