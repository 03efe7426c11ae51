/** The keys of a session in the terms of the programs that take SRTP with keys: what they print can open and forge the media. */
import { concatBytes, formatBase64, formatHex, WatchwordError } from "../bytes/index.js";
import type { Endpoint } from "../io/index.js";
import { type CryptoSessionParameter, formatCrypto, type InlineKey } from "../sdp/index.js";
import { type SrtpMasterKey, type SuiteName, suiteOf } from "../srtp/index.js";
import { checkPolicy, type ExportStream, rtcpTagOf, unsupported } from "./export-contracts.js";
import { libsrtpPolicy, libsrtpSource } from "./export-libsrtp.js";

/** A stream with everything that a description says. */
export type DescribedExportStream = ExportStream & Required<Pick<ExportStream, "track" | "target">>;

/**
 * Master key and master salt as SDES and most programs write them: one string in base64.
 * @throws WatchwordError `tools.export-keys` unless there is exactly one key, and it has no MKI
 */
function onlyKey({ keys }: ExportStream, program: string): string {
  const [first] = keys;
  if (first === undefined || keys.length > 1 || first.mki !== undefined) {
    throw new WatchwordError("tools.export-keys", `${program} takes one key, and packets without MKI`);
  }
  return formatBase64(concatBytes(first.key, first.salt));
}

/**
 * The suite under the program's own name.
 * @throws WatchwordError `tools.export-suite` where the program does not have the suite, or not with this policy
 */
function namedSuite<Name extends string | number>(
  { policy }: ExportStream,
  program: string,
  names: Partial<Record<SuiteName, Name>>,
  rtcpTag?: number,
): Name {
  const name = names[policy.suite];
  if (name === undefined) throw unsupported(program, policy.suite);
  checkPolicy(policy, program, { derivationRate: false, openPackets: false });
  if (rtcpTag !== undefined && rtcpTagOf(policy) !== rtcpTag) {
    throw unsupported(program, `${policy.suite} with SRTCP tags of ${rtcpTagOf(policy)} octets`);
  }
  return name;
}

/**
 * SDES has no field for the rollover counter: a receiver begins at 0 (RFC 4568 §6.4.1).
 * @throws WatchwordError `tools.export-rollover`
 */
function refuseRollover({ rolloverCounter = 0 }: ExportStream, program: string): void {
  if (rolloverCounter !== 0) {
    throw new WatchwordError(
      "tools.export-rollover",
      `${program} begins at rollover counter 0, the stream is at ${rolloverCounter}`,
    );
  }
}

/** @throws WatchwordError `tools.export-media` */
function described(stream: ExportStream): DescribedExportStream {
  const { track, target } = stream;
  if (track === undefined || target === undefined) {
    throw new WatchwordError(
      "tools.export-media",
      "this format says what the packets carry and where they arrive, which is not known",
    );
  }
  return { ...stream, track, target };
}

/**
 * The value of an a=crypto attribute (RFC 4568 §4), what follows `crypto:`.
 * @throws WatchwordError `tools.export-suite`, `tools.export-rollover`
 */
export function exportCrypto(stream: ExportStream, tag = 1): string {
  const { policy, keys } = stream;
  const suite = suiteOf(policy.suite);
  const parameters: CryptoSessionParameter[] = [];
  checkPolicy(policy, "a=crypto", { derivationRate: true, openPackets: true });
  if (suite.sdesName === undefined) throw unsupported("a=crypto", policy.suite);
  if (rtcpTagOf(policy) !== suite.rtcpTagLength) throw unsupported("a=crypto", "other SRTCP tags than the suite's");
  refuseRollover(stream, "a=crypto");
  if ((policy.keyDerivationRate ?? 0) !== 0) {
    parameters.push({ name: "KDR", exponent: Math.log2(policy.keyDerivationRate as number) });
  }
  if (policy.encryptRtp === false) parameters.push({ name: "UNENCRYPTED_SRTP" });
  if (policy.encryptRtcp === false) parameters.push({ name: "UNENCRYPTED_SRTCP" });
  if (policy.authenticateRtp === false) parameters.push({ name: "UNAUTHENTICATED_SRTP" });
  return formatCrypto({ tag: `${tag}`, suite: suite.sdesName, keys: keys.map(inlineKey), sessionParameters: parameters });
}

function inlineKey({ key, salt, mki, rtpLifetime }: SrtpMasterKey): InlineKey {
  return {
    method: "inline",
    keySalt: concatBytes(key, salt),
    ...(rtpLifetime === undefined ? {} : { lifetime: { packets: rtpLifetime } }),
    ...(mki === undefined ? {} : { mki }),
  };
}

/** FFmpeg's own spelling of the _32 suite shortens the SRTCP tag, the other follows RFC 3711 §5.2 (seen with 5.1). */
function ffmpegSuite(stream: ExportStream): string {
  const short = stream.policy.suite === "AES_CM_128_HMAC_SHA1_32" && stream.policy.rtcpTagLength === 4;
  return namedSuite(
    stream,
    "FFmpeg",
    {
      AES_CM_128_HMAC_SHA1_80: "AES_CM_128_HMAC_SHA1_80",
      AES_CM_128_HMAC_SHA1_32: short ? "AES_CM_128_HMAC_SHA1_32" : "SRTP_AES128_CM_HMAC_SHA1_32",
    },
    short ? 4 : 10,
  );
}

/**
 * The description that FFmpeg opens to read SRTP: `ffmpeg -protocol_whitelist file,udp,rtp,srtp,crypto -i FILE`.
 * @throws WatchwordError `tools.export-suite`, `tools.export-keys`, `tools.export-rollover`, `tools.export-media`
 */
export function exportFfmpegDescription(streams: readonly ExportStream[]): string {
  return formatDescription(streams.map(described), (stream) => {
    refuseRollover(stream, "FFmpeg");
    return `1 ${ffmpegSuite(stream)} inline:${onlyKey(stream, "FFmpeg")}`;
  });
}

/**
 * The arguments, for before the output, with which FFmpeg sends under these keys: `… -f rtp ARGUMENTS srtp://HOST:PORT`.
 * @throws WatchwordError `tools.export-suite`, `tools.export-keys`, `tools.export-rollover`
 */
export function exportFfmpegArguments(stream: ExportStream): string[] {
  refuseRollover(stream, "FFmpeg");
  return ["-srtp_out_suite", ffmpegSuite(stream), "-srtp_out_params", onlyKey(stream, "FFmpeg")];
}

function formatDescription(streams: readonly DescribedExportStream[], crypto: (stream: DescribedExportStream) => string): string {
  const address = ({ host }: Endpoint): string => `IN IP${host.includes(":") ? 6 : 4} ${host}`;
  const origin = streams[0]?.target ?? { host: "127.0.0.1", port: 0 };
  const lines = ["v=0", `o=- 0 0 ${address(origin)}`, "s=watchword", `c=${address(origin)}`, "t=0 0"];
  for (const stream of streams) {
    const { track, target } = stream;
    lines.push(`m=${track.media} ${target.port} RTP/SAVP ${track.payloadType}`, `c=${address(target)}`);
    lines.push(`a=rtpmap:${track.payloadType} ${track.rtpmap}`);
    if (track.fmtp !== undefined) lines.push(`a=fmtp:${track.payloadType} ${track.fmtp}`);
    lines.push(`a=crypto:${crypto(stream)}`, "a=sendonly");
  }
  return `${lines.join("\r\n")}\r\n`;
}

/** Names of srtpdec and srtpenc. */
const GSTREAMER_CIPHERS: Partial<Record<SuiteName, string>> = {
  AES_CM_128_HMAC_SHA1_80: "aes-128-icm",
  AES_CM_128_HMAC_SHA1_32: "aes-128-icm",
  AES_256_CM_HMAC_SHA1_80: "aes-256-icm",
  AES_256_CM_HMAC_SHA1_32: "aes-256-icm",
  AEAD_AES_128_GCM: "aes-128-gcm",
  AEAD_AES_256_GCM: "aes-256-gcm",
};

/**
 * Caps for what goes into GStreamer's `srtpdec`: `udpsrc port=… caps="CAPS" ! srtpdec ! …`. srtpdec reads keys from caps only where
 * they name the SSRC, and at most two of them.
 * @throws WatchwordError `tools.export-suite`, `tools.export-keys`, `tools.export-ssrc`
 */
export function exportGstreamerCaps(stream: ExportStream): string {
  const { policy, keys, ssrc = 0, rolloverCounter = 0, track } = stream;
  const cipher = namedSuite(stream, "GStreamer", GSTREAMER_CIPHERS);
  const suite = suiteOf(policy.suite);
  const auth = (tag: number): string => (suite.cipher === "gcm" ? "null" : `hmac-sha1-${8 * tag}`);
  if (ssrc === 0) {
    throw new WatchwordError("tools.export-ssrc", "GStreamer looks keys up by SSRC, and the SSRC of the packets is not known");
  }
  if (keys.length === 0 || keys.length > 2 || (keys.length === 2 && keys.some(({ mki }) => mki === undefined))) {
    throw new WatchwordError("tools.export-keys", "GStreamer takes one key, or two that an MKI tells apart");
  }
  const [encoding = "", clockRate = "", channels] = track?.rtpmap.split("/") ?? [];
  const fields = [
    "application/x-srtp",
    ...(track === undefined
      ? []
      : [
          `media=(string)${track.media}`,
          `payload=(int)${track.payloadType}`,
          `clock-rate=(int)${clockRate}`,
          `encoding-name=(string)${gstreamerText(encoding.toUpperCase())}`,
          ...(channels === undefined ? [] : [`encoding-params=(string)${channels}`]),
        ]),
    `ssrc=(uint)${ssrc}`,
    ...keys.flatMap(({ key, salt, mki }, index) => {
      const number = index === 0 ? "" : `${index + 1}`;
      return [
        `srtp-key${number}=(buffer)${formatHex(concatBytes(key, salt))}`,
        ...(mki === undefined ? [] : [`mki${number}=(buffer)${formatHex(mki)}`]),
      ];
    }),
    `srtp-cipher=(string)${cipher}`,
    `srtp-auth=(string)${auth(suite.rtpTagLength)}`,
    `srtcp-cipher=(string)${cipher}`,
    `srtcp-auth=(string)${auth(rtcpTagOf(policy))}`,
    `roc=(uint)${rolloverCounter}`,
  ];
  return fields.join(", ");
}

/** A string in caps: quoted where it is more than a word. */
function gstreamerText(text: string): string {
  return /^[\w.+-]+$/.test(text) ? text : `"${text.replace(/["\\]/g, "\\$&")}"`;
}

/** What mediasoup's `router.createPlainTransport` and then `transport.connect` are given. */
export interface MediasoupTransport {
  readonly enableSrtp: true;
  readonly srtpCryptoSuite: string;
  /** Of the peer, for `connect`. mediasoup answers with keys of its own for what it sends. */
  readonly srtpParameters: { readonly cryptoSuite: string; readonly keyBase64: string };
}

/**
 * PlainTransport parameters of mediasoup 3. Its SRTCP tags have 10 octets.
 * @throws WatchwordError `tools.export-suite`, `tools.export-keys`, `tools.export-rollover`
 */
export function exportMediasoup(stream: ExportStream): MediasoupTransport {
  const { suite } = stream.policy;
  const cryptoSuite = namedSuite(
    stream,
    "mediasoup",
    {
      AES_CM_128_HMAC_SHA1_80: suite,
      AES_CM_128_HMAC_SHA1_32: suite,
      AEAD_AES_128_GCM: suite,
      AEAD_AES_256_GCM: suite,
    },
    suiteOf(suite).rtcpTagLength,
  );
  refuseRollover(stream, "mediasoup");
  const keyBase64 = onlyKey(stream, "mediasoup");
  return { enableSrtp: true, srtpCryptoSuite: cryptoSuite, srtpParameters: { cryptoSuite, keyBase64 } };
}

/** A `create` request of Janus' Streaming plugin, or the part of it that says the keys. */
export interface JanusMountpoint {
  readonly srtpsuite: 32 | 80;
  readonly srtpcrypto: string;
  readonly type?: "rtp";
  readonly media?: readonly { readonly [field: string]: string | number }[];
}

/**
 * A mountpoint of Janus' Streaming plugin that takes the stream in: one key for all of a mountpoint, so one mountpoint a stream. Janus
 * reads no RTCP under these keys.
 * @throws WatchwordError `tools.export-suite`, `tools.export-keys`, `tools.export-rollover`
 */
export function exportJanus(stream: ExportStream): JanusMountpoint {
  const srtpsuite = namedSuite(stream, "Janus", { AES_CM_128_HMAC_SHA1_80: 80, AES_CM_128_HMAC_SHA1_32: 32 } as const);
  refuseRollover(stream, "Janus");
  const srtpcrypto = onlyKey(stream, "Janus");
  const { track, target } = stream;
  if (track === undefined || target === undefined) return { srtpsuite, srtpcrypto };
  return {
    type: "rtp",
    srtpsuite,
    srtpcrypto,
    media: [
      {
        type: track.media,
        mid: track.media,
        port: target.port,
        pt: track.payloadType,
        codec: (track.rtpmap.split("/")[0] ?? "").toLowerCase(),
        ...(track.fmtp === undefined ? {} : { fmtp: track.fmtp }),
      },
    ],
  };
}

/** The parameters of an `offer` of rtpengine's ng protocol; the caller adds `call-id` and `from-tag`. */
export interface RtpengineOffer {
  readonly command: "offer";
  readonly sdp: string;
  readonly "transport-protocol": "RTP/AVP";
  readonly ICE: "remove";
  readonly DTLS: "off";
}

/**
 * The offer that has rtpengine take SRTP in and hand plain RTP on: the answer's SDP says where the packets have to be sent.
 * @throws WatchwordError `tools.export-suite`, `tools.export-rollover`, `tools.export-media`
 */
export function exportRtpengine(streams: readonly ExportStream[]): RtpengineOffer {
  return {
    command: "offer",
    sdp: formatDescription(streams.map(described), (stream) => exportCrypto(stream)),
    "transport-protocol": "RTP/AVP",
    ICE: "remove",
    DTLS: "off",
  };
}

/** The formats, and what of a stream each needs. */
const FORMATS = {
  sdes: (streams) => lines(streams.map((stream) => `a=crypto:${exportCrypto(stream)}`)),
  ffmpeg: exportFfmpegDescription,
  "ffmpeg-out": (streams) => lines(streams.map((stream) => exportFfmpegArguments(stream).join(" "))),
  gstreamer: (streams) => lines(streams.map(exportGstreamerCaps)),
  libsrtp: (streams) => json(streams.map((stream) => libsrtpPolicy(stream))),
  "libsrtp-c": (streams) => streams.map((stream, index) => libsrtpSource(stream, `stream_${index}`)).join("\n"),
  mediasoup: (streams) => json(streams.map(exportMediasoup)),
  janus: (streams) => json(streams.map(exportJanus)),
  rtpengine: (streams) => json([exportRtpengine(streams)]),
} as const satisfies Readonly<Record<string, (streams: readonly ExportStream[]) => string>>;

/** A name that `exportStreams` knows. */
export type ExportFormat = keyof typeof FORMATS;

export const exportFormats: readonly ExportFormat[] = Object.keys(FORMATS) as ExportFormat[];

/**
 * Streams in the words of a program: one line, one object or one block each, or one description of all. The text holds the keys.
 * @throws WatchwordError `tools.export-suite`, `tools.export-keys`, `tools.export-rollover`, `tools.export-ssrc`, `tools.export-media`
 * where the program cannot take them
 */
export function exportStreams(format: ExportFormat, streams: readonly ExportStream[]): string {
  return FORMATS[format](streams);
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join("");
}

function json(values: readonly unknown[]): string {
  return lines(values.map((value) => JSON.stringify(value)));
}
