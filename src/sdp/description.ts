import { parse } from "sdp-transform";
import { CodecError } from "../bytes/index.js";
import { withoutZone } from "../io/index.js";
import { checkText, createSdpEditor, type SdpEditor, type SdpLimits } from "./lines.js";

/** Where media comes from or goes to (c= line, RFC 4566 §5.7). */
export interface Connection {
  readonly family: 4 | 6;
  /** Without a TTL or count suffix. */
  readonly address: string;
  /** Time to live of an IPv4 multicast address. */
  readonly ttl?: number;
}

/** `a=rtpmap` (RFC 4566 §6). */
export interface RtpMap {
  readonly payloadType: number;
  readonly encoding: string;
  /** Hz. */
  readonly clockRate: number;
  readonly channels?: number;
}

/** Who sends, as the reader of the description sees it. */
export type MediaDirection = "sendrecv" | "sendonly" | "recvonly" | "inactive";

const DIRECTIONS: readonly string[] = ["sendrecv", "sendonly", "recvonly", "inactive"] satisfies MediaDirection[];

/** One m= section as an RTSP client or server needs it. */
export interface MediaSection {
  /** `audio`, `video`, `application`, … */
  readonly kind: string;
  readonly port: number;
  /** Transport profile: `RTP/AVP`, `RTP/SAVP`, `RTP/SAVPF`, … */
  readonly profile: string;
  readonly formats: readonly string[];
  readonly connection?: Connection;
  readonly rtpMaps: readonly RtpMap[];
  readonly formatParameters: readonly { readonly payloadType: number; readonly config: string }[];
  /** `a=control`, absolute or relative (RFC 2326 §C.1.1). */
  readonly control?: string;
  /** `a=sendonly`, `a=recvonly`, … of the section, else of the session (RFC 4566 §6); undefined where neither says. */
  readonly direction?: MediaDirection;
  /** Synchronisation sources of `a=ssrc` (RFC 5576), each once. */
  readonly ssrcs: readonly number[];
}

/** A session description as an RTSP client or server needs it. */
export interface Description {
  readonly name: string;
  readonly connection?: Connection;
  readonly control?: string;
  /** `a=range` (RFC 2326 §C.1.5). */
  readonly range?: string;
  readonly media: readonly MediaSection[];
}

/** Attribute names that reach the parser: the rest of a description is somebody else's and may be of any shape. */
const ATTRIBUTES = new Set(["rtpmap", "fmtp", "control", "ssrc"]);
const MAX_MEDIA = 64;
const MAX_LINE = 8192;

/**
 * Reads what playing needs from a session description. Lines that it does not understand are passed over.
 * @throws CodecError `sdp.too-large`, `sdp.media` for an m= line that is not one
 */
export function parseDescription(sdp: string, limits?: SdpLimits): Description {
  const editor = createSdpEditor(sdp, limits);
  if (editor.mediaCount > MAX_MEDIA) throw new CodecError("sdp.too-large", "sdp", -1, `more than ${MAX_MEDIA} media sections`);
  const transformed = parse(relevantLines(editor));
  const range = editor.attributes({ section: "session", name: "range" })[0]?.value;
  return {
    name: editor.lines.find((line) => line.type === "s")?.value ?? "",
    ...optional("connection", readConnection(editor, "session")),
    ...optional("control", text(transformed.control)),
    ...optional("range", range),
    media: transformed.media.map((media, index) => {
      const line = editor.lines.find((candidate) => candidate.type === "m" && candidate.section === index);
      const match = /^(\S+) +(\d{1,5})(?:\/\d+)? +(\S+)((?: +\S+)*) *$/.exec(line?.value ?? "");
      if (match === null || Number(match[2]) > 65_535) {
        throw new CodecError("sdp.media", `sdp.media[${index}]`, -1, "m= line: media port profile formats expected");
      }
      return {
        kind: match[1] as string,
        port: Number(match[2]),
        profile: match[3] as string,
        formats: (match[4] as string).split(" ").filter((format) => format !== ""),
        ...optional("connection", readConnection(editor, index)),
        rtpMaps: media.rtp.flatMap((map) => {
          const payloadType = Number(map.payload);
          const clockRate = Number(map.rate);
          if (!isPayloadType(payloadType) || !(clockRate > 0)) return [];
          const channels = Number(map.encoding ?? Number.NaN);
          return [{ payloadType, encoding: String(map.codec), clockRate, ...(channels > 0 ? { channels } : {}) }];
        }),
        formatParameters: media.fmtp
          .filter(({ payload }) => isPayloadType(Number(payload)))
          .map(({ payload, config }) => ({ payloadType: Number(payload), config: String(config) })),
        ...optional("control", text(media.control)),
        ...optional("direction", readDirection(editor, index) ?? readDirection(editor, "session")),
        ssrcs: [...new Set((media.ssrcs ?? []).map(({ id }) => Number(id)).filter((id) => id >= 0 && id <= 0xffffffff))],
      };
    }),
  };
}

/** What a server says of one stream. */
export interface MediaDescriptionInput {
  readonly kind: string;
  /** 0 in RTSP, where SETUP negotiates ports (RFC 2326 §C.1.2). */
  readonly port?: number;
  /** Where it is sent to; default the presentation's. */
  readonly connection?: Connection;
  readonly profile: string;
  readonly payloadType: number;
  /** Value of a=rtpmap behind the payload type: `PCMU/8000`. */
  readonly rtpmap: string;
  /** Value of a=fmtp behind the payload type. */
  readonly formatParameters?: string;
  /** kbit/s for `b=AS`. */
  readonly bandwidth?: number;
  readonly control: string;
  readonly direction?: MediaDirection;
  /** Further attributes behind a=control in order, `name:value` or `name`: key-mgmt lines belong here. */
  readonly attributes?: readonly string[];
  readonly ssrc?: number;
  readonly cname?: string;
}

/** What a server says of a presentation. */
export interface DescriptionInput {
  readonly sessionId: string;
  readonly sessionVersion: number;
  /** Host address of the origin. */
  readonly address: string;
  readonly name: string;
  /** Value of a=range; default `npt=now-`, a live stream. */
  readonly range?: string;
  /** Attributes at session level in order, behind a=control. */
  readonly attributes?: readonly string[];
  readonly connection?: Connection;
  readonly media: readonly MediaDescriptionInput[];
}

/**
 * Writes the description of a presentation, line order as GStreamer's server has it, so that clients meet what they know:
 * per stream m=, c=, b=, rtpmap, fmtp, control, then the given attributes (key-mgmt), then ssrc.
 * @throws CodecError `sdp.text` for a value that would break its line
 */
export function formatDescription(input: DescriptionInput): string {
  const lines = [
    "v=0",
    `o=- ${input.sessionId} ${input.sessionVersion} IN ${family(input.address)} ${withoutZone(input.address)}`,
    `s=${input.name === "" ? " " : input.name}`,
    "t=0 0",
    "a=tool:watchword",
    "a=type:broadcast",
    "a=control:*",
    `a=range:${input.range ?? "npt=now-"}`,
    ...(input.attributes ?? []).map((attribute) => `a=${attribute}`),
  ];
  for (const media of input.media) {
    const connection = media.connection ?? input.connection;
    lines.push(`m=${media.kind} ${media.port ?? 0} ${media.profile} ${media.payloadType}`);
    lines.push(
      connection === undefined
        ? `c=IN ${family(input.address)} ${family(input.address) === "IP6" ? "::" : "0.0.0.0"}`
        : `c=IN IP${connection.family} ${connection.address}${connection.ttl === undefined ? "" : `/${connection.ttl}`}`,
    );
    if (media.bandwidth !== undefined) lines.push(`b=AS:${media.bandwidth}`);
    lines.push(`a=rtpmap:${media.payloadType} ${media.rtpmap}`);
    if (media.formatParameters !== undefined) lines.push(`a=fmtp:${media.payloadType} ${media.formatParameters}`);
    lines.push(`a=control:${media.control}`);
    if (media.direction !== undefined) lines.push(`a=${media.direction}`);
    lines.push(...(media.attributes ?? []).map((attribute) => `a=${attribute}`));
    if (media.ssrc !== undefined) lines.push(`a=ssrc:${media.ssrc} cname:${media.cname ?? "watchword"}`);
  }
  lines.forEach(checkText);
  return `${lines.join("\r\n")}\r\n`;
}

function family(address: string): "IP4" | "IP6" {
  return address.includes(":") ? "IP6" : "IP4";
}

function isPayloadType(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 127;
}

/** The parser turns what looks like a number into one. */
function text(value: unknown): string | undefined {
  return value === undefined || value === null ? undefined : String(value);
}

function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: V });
}

function relevantLines(editor: SdpEditor): string {
  const kept: string[] = [];
  for (const line of editor.lines) {
    const name = line.type === "a" ? /^[^:]*/.exec(line.value)?.[0] : undefined;
    if (line.type === "m") kept.push(line.text);
    if (name !== undefined && ATTRIBUTES.has(name) && line.text.length <= MAX_LINE) kept.push(line.text);
  }
  return kept.join("\r\n");
}

function readDirection(editor: SdpEditor, section: "session" | number): MediaDirection | undefined {
  const found = editor.attributes({ section }).find(({ name, value }) => value === undefined && DIRECTIONS.includes(name));
  return found?.name as MediaDirection | undefined;
}

function readConnection(editor: SdpEditor, section: "session" | number): Connection | undefined {
  const line = editor.section(section).find((candidate) => candidate.type === "c");
  const match = /^IN IP([46]) ([^ /]{1,255})(?:\/(\d{1,3}))?(?:\/\d+)?$/.exec(line?.value.trim() ?? "");
  // RFC 4566 §5.7: a TTL is 0 to 255.
  if (match === null || (match[1] === "4" && Number(match[3] ?? 0) > 255)) return undefined;
  const version = match[1] === "4" ? 4 : 6;
  // An IPv6 address has a count but no TTL (RFC 4566 §5.7).
  const ttl = version === 4 && match[3] !== undefined ? { ttl: Number(match[3]) } : {};
  return { family: version, address: match[2] as string, ...ttl };
}
