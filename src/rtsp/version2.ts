import { CodecError, formatBase64, parseBase64 } from "../bytes/index.js";
import { withoutZone } from "../io/index.js";
import { formatKeyMgmtHeader, type KeyMgmtSpec, parseKeyMgmtHeader } from "../sdp/index.js";
import { formatRtpInfo, parseRtpInfo, parseTokenList } from "./headers.js";
import { header, headers, listHeader, RTSP_VERSION_2, type RtspRequest, type RtspResponse, reasonPhrase } from "./message.js";
import { RtspRefusal } from "./refusal.js";
import { formatTransport, parseTransport, type TransportSpec } from "./transport.js";

/**
 * RTSP 2.0 (RFC 7826) at the edge of a connection: what it says otherwise than RTSP 1.0 is translated, so that both versions are served
 * and played by one state machine. Where RFC 2326 has client_port and server_port, RFC 7826 has dest_addr and src_addr; keys ride in the
 * Transport header (appendix C.1.4.1) and not in the description.
 */

/** Methods of RTSP 1.0 that RFC 7826 does not have (appendix H). */
export const NOT_IN_VERSION_2: readonly string[] = ["ANNOUNCE", "RECORD"];
/** Feature tags that are there (RFC 7826 §11). */
const FEATURES = ["play.basic"];
/** Statuses with another meaning in the other version: key management failure. */
const KEY_MANAGEMENT_FAILURE = { version1: 463, version2: 466 };
const MIKEY = "mikey";

/** What a server adds to its answers in RTSP 2.0. */
export interface Version2Facts {
  /** Seconds that the presentation has run: the position of what is live (RFC 7826 §13.4.6). */
  readonly position: number;
  readonly remoteHost: string;
  readonly localHost: string;
  /** The session that Pipelined-Requests stood for. */
  readonly session: string | undefined;
  /** SSRC of a stream by its URI, for RTP-Info. */
  readonly ssrcOf: (uri: string) => number | undefined;
}

/**
 * A request of RTSP 2.0 in the terms of 1.0. The Session that Pipelined-Requests stands for is the caller's to add.
 * @throws RtspRefusal 461 for a Transport that is none, 463 where media is to go to somebody else, 466 for a MIKEY parameter that is no base64
 */
export function requestFromVersion2(request: RtspRequest, remoteHost: string): RtspRequest {
  const required = headers(request, "Require")
    .flatMap(parseTokenList)
    .filter((option) => !FEATURES.includes(option));
  const fields: [string, string][] = [];
  for (const [name, value] of request.headers) {
    if (!["require", "transport", "keymgmt"].includes(name.toLowerCase())) fields.push([name, value]);
    else if (name.toLowerCase() === "keymgmt" && request.method !== "SETUP") fields.push([name, value]);
  }
  if (required.length > 0) fields.push(["Require", required.join(", ")]);
  const transport = headers(request, "Transport").join(",");
  if (request.method !== "SETUP" || transport === "") return { ...request, headers: fields };

  const specs = knownSpecs(transport);
  if (specs.length === 0) throw new RtspRefusal(461);
  const own = withoutZone(remoteHost);
  if (specs.every(({ destination }) => destination !== undefined && destination !== own)) throw new RtspRefusal(463);
  try {
    fields.push(["Transport", formatTransport(specs.map(({ mikey: _mikey, ...spec }) => spec))]);
  } catch (error) {
    throw new RtspRefusal(461, [], { cause: error });
  }
  const keyed = specs.find(({ mikey }) => mikey !== undefined)?.mikey;
  if (keyed !== undefined)
    fields.push(["KeyMgmt", formatKeyMgmtHeader([{ protocol: MIKEY, uri: request.uri, data: octetsOf(keyed) }])]);
  return { ...request, headers: fields };
}

/** Packets over a connection of their own (setup=, connection=) and RTCP on the port of RTP are not there. @throws RtspRefusal 461 */
function knownSpecs(transport: string): TransportSpec[] {
  try {
    return parseTransport(transport)
      .filter(({ lower, interleaved, other }) => (lower === "UDP" || interleaved !== undefined) && !isMultiplexed(other))
      .map(({ other: _other, ...spec }) => spec);
  } catch (error) {
    throw new RtspRefusal(461, [], { cause: error });
  }
}

function isMultiplexed(parameters: readonly string[] = []): boolean {
  return parameters.some((parameter) => parameter.toLowerCase() === "rtcp-mux");
}

/** The answer to a request of RTSP 2.0 in its terms. */
export function responseToVersion2(request: RtspRequest, response: RtspResponse, facts: Version2Facts): RtspResponse {
  const { position } = facts;
  const setup = request.method === "SETUP";
  const fields: [string, string][] = [];
  const mikey = setup ? mikeyOf(response) : undefined;
  for (const [name, value] of response.headers) {
    switch (name.toLowerCase()) {
      case "transport":
        fields.push([name, formatTransport(parseTransport(value).map((spec) => ({ ...answered(spec, facts), ...mikey })))]);
        break;
      case "public":
      case "allow":
        fields.push([
          name,
          parseTokenList(value)
            .filter((method) => !NOT_IN_VERSION_2.includes(method))
            .join(", "),
        ]);
        break;
      case "keymgmt":
        if (!setup) fields.push([name, value]);
        break;
      case "range":
        fields.push([name, `npt=${position.toFixed(2)}-`]);
        break;
      case "rtp-info": {
        const entries = rtpInfo(value, facts);
        if (entries !== "") fields.push([name, entries]);
        break;
      }
      default:
        fields.push([name, value]);
    }
  }
  if (setup && response.status === 200) {
    // RFC 7826 §13.4.6, §18.29, §18.30: live media, of which nothing is kept.
    fields.push(["Accept-Ranges", "npt"], ["Media-Properties", "No-Seeking, Time-Progressing, Time-Duration=0.0"]);
    fields.push(["Media-Range", `npt=${position.toFixed(2)}-${position.toFixed(2)}`]);
  }
  // An error has no transport to carry the MIKEY message that describes it: the profile that was asked for says what it belongs to.
  if (mikey !== undefined && header(response, "Transport") === undefined) {
    const [spec] = knownSpecs(headers(request, "Transport").join(","));
    if (spec !== undefined)
      fields.push([
        "Transport",
        formatTransport([{ profile: spec.profile, lower: spec.lower, delivery: spec.delivery, ...mikey }]),
      ]);
  }
  if (headers(request, "Supported").length > 0) fields.push(["Supported", FEATURES.join(", ")]);
  const pipeline = header(request, "Pipelined-Requests");
  if (pipeline !== undefined && response.status === 200) fields.push(["Pipelined-Requests", pipeline]);
  if (facts.session !== undefined && header(response, "Session") === undefined) fields.push(["Session", facts.session]);
  const status = response.status === KEY_MANAGEMENT_FAILURE.version1 ? KEY_MANAGEMENT_FAILURE.version2 : response.status;
  return { ...response, version: RTSP_VERSION_2, status, reason: reasonPhrase(status, RTSP_VERSION_2), headers: fields };
}

/** A client's request in the terms of RTSP 2.0. @throws CodecError as the Transport and KeyMgmt codecs */
export function requestToVersion2(request: RtspRequest): RtspRequest {
  const setup = request.method === "SETUP";
  const mikey = setup ? mikeyOf(request) : undefined;
  const fields: [string, string][] = [];
  for (const [name, value] of request.headers) {
    const key = name.toLowerCase();
    if (key === "transport") {
      const specs = parseTransport(value).map((spec) =>
        spec.profile.startsWith("RTP/SAVP") ? { ...addressed(spec), ...mikey } : addressed(spec),
      );
      fields.push([name, formatTransport(specs)]);
    } else if (key !== "keymgmt" || !setup) fields.push([name, value]);
  }
  if (setup) fields.push(["Accept-Ranges", "npt"]);
  return { ...request, version: RTSP_VERSION_2, headers: fields };
}

/** What a server of RTSP 2.0 answered, in the terms of 1.0. @throws CodecError as the Transport codec, `bytes.base64` */
export function responseFromVersion2(request: RtspRequest, response: RtspResponse): RtspResponse {
  const fields: [string, string][] = [];
  for (const [name, value] of response.headers) {
    if (name.toLowerCase() !== "transport" || request.method !== "SETUP") {
      fields.push([name, value]);
      continue;
    }
    const [spec] = parseTransport(value);
    if (spec === undefined) continue;
    const { mikey, ...rest } = spec;
    fields.push([name, formatTransport([rest])]);
    if (mikey !== undefined) {
      const data = parseBase64(mikey, "rtsp.Transport.MIKEY");
      fields.push(["KeyMgmt", formatKeyMgmtHeader([{ protocol: MIKEY, uri: request.uri, data }])]);
    }
  }
  return { ...response, headers: fields };
}

/** Sequence numbers with the SSRC that RFC 7826 §18.45 wants; a stream whose SSRC is not known yet is left out. */
function rtpInfo(value: string, { ssrcOf }: Version2Facts): string {
  return parseRtpInfo(value)
    .flatMap((entry) => {
      const ssrc = ssrcOf(entry.url);
      return ssrc === undefined ? [] : [formatRtpInfo([{ ...entry, ssrc }])];
    })
    .join(",");
}

/** Where media of a stream of ours comes from and goes to (RFC 7826 §18.54): both whole, in an answer. */
function answered(spec: TransportSpec, { remoteHost, localHost }: Version2Facts): TransportSpec {
  if (spec.lower === "TCP") return spec;
  return { destination: remoteHost, source: localHost, ...addressed(spec) };
}

function addressed(spec: TransportSpec): TransportSpec {
  return { ...spec, addressed: true };
}

function mikeyOf(message: RtspRequest | RtspResponse): { mikey: string } | undefined {
  const value = listHeader(message, "KeyMgmt");
  const specs: readonly KeyMgmtSpec[] = value === undefined ? [] : parseKeyMgmtHeader(value);
  const spec = specs.find(({ protocol }) => protocol === MIKEY);
  return spec === undefined ? undefined : { mikey: formatBase64(spec.data) };
}

function octetsOf(mikey: string): Uint8Array {
  try {
    return parseBase64(mikey, "rtsp.Transport.MIKEY");
  } catch (error) {
    if (error instanceof CodecError) throw new RtspRefusal(KEY_MANAGEMENT_FAILURE.version2, [], { cause: error });
    throw error;
  }
}
