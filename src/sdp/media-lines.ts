import { formatBase64, parseBase64 } from "../bytes/index.js";
import { parseDescription } from "./description.js";
import { checkText, createSdpEditor } from "./lines.js";

/** What a codec is said to be: the lines that are read back. */
const FORMAT_LINES = ["rtpmap", "fmtp"];

/** One m= line and what stands below it. */
export interface MediaLines {
  readonly media: string;
  readonly port: number;
  readonly profile: string;
  /** RTP payload types. */
  readonly formats: readonly number[];
  /** Where packets go, where that is not as at session level; `ttl` of an IPv4 multicast group. */
  readonly connection?: { readonly host: string; readonly ttl?: number };
  /** Lines below, without line ends. */
  readonly lines?: readonly string[];
}

/** Writes an m= line with its c= and further lines (RFC 4566 §5). @throws CodecError `sdp.text` for what would break a line */
export function formatMediaLines({ media, port, profile, formats, connection, lines = [] }: MediaLines): string[] {
  const all = [
    `m=${media} ${port} ${profile} ${formats.join(" ")}`,
    ...(connection === undefined ? [] : [`c=${formatConnection(connection)}`]),
    ...lines,
  ];
  all.forEach(checkText);
  return all;
}

/** The m= lines of a description, with their codecs and the c= that applies. @throws CodecError as `parseDescription` */
export function readMediaLines(sdp: string): MediaLines[] {
  const { media, connection: ofSession } = parseDescription(sdp);
  const editor = createSdpEditor(sdp);
  return media.map(({ kind, port, profile, formats, connection = ofSession }, index) => ({
    media: kind,
    port,
    profile,
    formats: formats.map(Number).filter((format) => Number.isInteger(format) && format >= 0 && format <= 127),
    ...(connection === undefined
      ? {}
      : { connection: { host: connection.address, ...(connection.ttl === undefined ? {} : { ttl: connection.ttl }) } }),
    lines: FORMAT_LINES.flatMap((name) => editor.attributes({ section: index, name }).map(({ line }) => line.text)),
  }));
}

/** `IN IP4 239.0.0.2/1`: multicast groups of IPv4 have a TTL (RFC 4566 §5.7). */
function formatConnection({ host, ttl }: { readonly host: string; readonly ttl?: number }): string {
  if (host.includes(":")) return `IN IP6 ${host}`;
  const multicast = /^2(?:2[4-9]|3\d)\./.test(host);
  return `IN IP4 ${host}${multicast ? `/${ttl ?? 1}` : ""}`;
}

/** The attributes by which a description names the group of its streams (docs/protocol.md §4.1, §23.3). */
export function formatGroupAttributes(group: Uint8Array): string[] {
  return ["a=x-watchword:1", `a=x-watchword-group:${formatBase64(group)}`];
}

/** The group that a description is of; undefined where it names none, or not in a version that is known. @throws CodecError `bytes.base64` */
export function readGroupAttribute(sdp: string): Uint8Array | undefined {
  const editor = createSdpEditor(sdp);
  const announced = editor.attributes({ section: "session", name: "x-watchword" }).some(({ value }) => value?.trim() === "1");
  const [group] = editor.attributes({ section: "session", name: "x-watchword-group" });
  if (!announced || group?.value === undefined) return undefined;
  return parseBase64(group.value.trim(), "sdp.x-watchword-group");
}
