import { describe, expect, it } from "vitest";
import { concatBytes, formatBase64, formatHex, parseHex } from "../../src/bytes/index.js";
import { encodeMessage, MacAlg } from "../../src/mikey/index.js";
import { parseCrypto } from "../../src/sdp/index.js";
import { type SrtpMasterKey, type SrtpPolicy, type SuiteName, suiteNames, suiteOf } from "../../src/srtp/index.js";
import {
  type ExportFormat,
  type ExportStream,
  exportCrypto,
  exportFormats,
  exportMessage,
  exportStreams,
  libsrtpPolicy,
} from "../../src/tools/index.js";
import { KEY, kemac, STRICT_OCTETS, TEK, variant } from "./messages.js";

const H264 = { media: "video", payloadType: 96, rtpmap: "H264/90000", fmtp: "packetization-mode=1", clockRate: 90_000 } as const;
const OPUS = { media: "audio", payloadType: 97, rtpmap: "opus/48000/2", clockRate: 48_000 } as const;

function masterKey(suite: SuiteName, mki?: Uint8Array, first = 1): SrtpMasterKey {
  const { keyLength, saltLength } = suiteOf(suite);
  return {
    key: Uint8Array.from({ length: keyLength }, (_, i) => first + i),
    salt: Uint8Array.from({ length: saltLength }, (_, i) => 0x80 + first + i),
    ...(mki === undefined ? {} : { mki }),
  };
}

function stream(policy: SuiteName | SrtpPolicy = "AES_CM_128_HMAC_SHA1_80", rest: Partial<ExportStream> = {}): ExportStream {
  const given = typeof policy === "string" ? { suite: policy } : policy;
  return {
    policy: given,
    keys: [masterKey(given.suite)],
    ssrc: 0x11223344,
    track: H264,
    target: { host: "127.0.0.1", port: 5004 },
    ...rest,
  };
}

/** Which suites, in the order of the table, a format takes: the rest is refused by name. */
const TAKEN: Readonly<Record<ExportFormat, readonly SuiteName[]>> = {
  sdes: suiteNames.filter((name) => !name.startsWith("NULL")),
  ffmpeg: ["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"],
  "ffmpeg-out": ["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"],
  gstreamer: suiteNames.filter((name) => !name.startsWith("NULL") && !name.startsWith("AES_192")),
  libsrtp: suiteNames.filter((name) => !name.startsWith("NULL") && !name.startsWith("AES_192")),
  "libsrtp-c": suiteNames.filter((name) => !name.startsWith("NULL") && !name.startsWith("AES_192")),
  mediasoup: ["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"],
  janus: ["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"],
  rtpengine: suiteNames.filter((name) => !name.startsWith("NULL")),
};

const failure = (format: ExportFormat, streams: readonly ExportStream[]): unknown => {
  try {
    return exportStreams(format, streams);
  } catch (error) {
    return (error as { code?: string }).code;
  }
};

describe.each(exportFormats)("exportStreams %s", (format) => {
  it("takes the suites that the program has, and refuses the others by name", () => {
    const taken = suiteNames.filter((suite) => failure(format, [stream(suite)]) !== "tools.export-suite");
    expect(taken).toEqual(TAKEN[format]);
  });

  it("holds key and salt, in base64 or hexadecimal, of every stream", () => {
    const streams = [stream(), stream("AES_CM_128_HMAC_SHA1_80", { keys: [masterKey("AES_CM_128_HMAC_SHA1_80", undefined, 50)] })];
    const text = exportStreams(format, streams).replaceAll(", 0x", "").replaceAll("0x", "");
    for (const { keys } of streams) {
      const octets = concatBytes(...keys.flatMap(({ key, salt }) => [key, salt]));
      expect([formatBase64(octets), formatHex(octets)].some((form) => text.includes(form))).toBe(true);
    }
    expect(text.endsWith("\n")).toBe(true);
  });

  it("takes an MKI, several keys, a rollover counter or a derivation rate only where the program does", () => {
    const suite = "AES_CM_128_HMAC_SHA1_80";
    const mki = (octet: number): Uint8Array => Uint8Array.of(0, octet);
    const outcome = (given: ExportStream): unknown => {
      const result = failure(format, [given]);
      return String(result).startsWith("tools.") ? result : "taken";
    };
    const gives = {
      mki: outcome(stream(suite, { keys: [masterKey(suite, mki(1))] })),
      two: outcome(stream(suite, { keys: [masterKey(suite, mki(1)), masterKey(suite, mki(2), 9)] })),
      rollover: outcome(stream(suite, { rolloverCounter: 3 })),
      rate: outcome(stream({ suite, keyDerivationRate: 1024 })),
    };
    const sdes = { mki: "taken", two: "taken", rollover: "tools.export-rollover", rate: "taken" };
    const simple = {
      mki: "tools.export-keys",
      two: "tools.export-keys",
      rollover: "tools.export-rollover",
      rate: "tools.export-suite",
    };
    const full = { mki: "taken", two: "taken", rollover: "taken", rate: "tools.export-suite" };
    const wanted = { sdes, rtpengine: sdes, gstreamer: full, libsrtp: full, "libsrtp-c": full } as Partial<
      Record<ExportFormat, object>
    >;
    expect(gives).toEqual(wanted[format] ?? simple);
  });

  it("has no word for carried rollover counters and encrypted header extensions", () => {
    for (const more of [{ rolloverCarrying: { mode: 2 } }, { encryptedExtensionIds: [1] }] as const) {
      expect(failure(format, [stream({ suite: "AES_CM_128_HMAC_SHA1_80", ...more })])).toBe("tools.export-suite");
    }
  });

  it("never turns a policy that leaves something open into one that does not", () => {
    for (const open of [{ encryptRtp: false }, { encryptRtcp: false }, { authenticateRtp: false }]) {
      const text = String(failure(format, [stream({ suite: "AES_CM_128_HMAC_SHA1_80", ...open })]));
      expect(text).toMatch(/tools\.export-suite|UNENCRYPTED_SRTC?P|UNAUTHENTICATED_SRTP|sec_serv_(auth|conf)\b/);
    }
  });
});

describe("what an export says", () => {
  it("a=crypto: suite, keys with their MKIs, session parameters", () => {
    const suite = "AES_CM_128_HMAC_SHA1_32";
    const keys = [masterKey(suite, Uint8Array.of(0, 1)), masterKey(suite, Uint8Array.of(0, 2), 9)];
    const attribute = parseCrypto(exportCrypto(stream({ suite, keyDerivationRate: 2 ** 10, encryptRtcp: false }, { keys }), 3));
    expect(attribute).toMatchObject({
      tag: "3",
      suite,
      keys: keys.map(({ key, salt, mki }) => ({ method: "inline", keySalt: concatBytes(key, salt), mki })),
      sessionParameters: [{ name: "KDR", exponent: 10 }, { name: "UNENCRYPTED_SRTCP" }],
    });
  });

  it("SDES means 10-octet SRTCP tags with _32; FFmpeg and GStreamer have a word for 4", () => {
    const short = stream({ suite: "AES_CM_128_HMAC_SHA1_32", rtcpTagLength: 4 });
    const long = stream("AES_CM_128_HMAC_SHA1_32");
    expect([failure("sdes", [short]), failure("mediasoup", [short])]).toEqual(["tools.export-suite", "tools.export-suite"]);
    expect(exportStreams("ffmpeg-out", [short])).toMatch(/^-srtp_out_suite AES_CM_128_HMAC_SHA1_32 /);
    expect(exportStreams("ffmpeg-out", [long])).toMatch(/^-srtp_out_suite SRTP_AES128_CM_HMAC_SHA1_32 /);
    expect(exportStreams("gstreamer", [short])).toContain(
      "srtp-auth=(string)hmac-sha1-32, srtcp-cipher=(string)aes-128-icm, srtcp-auth=(string)hmac-sha1-32",
    );
    expect(exportStreams("gstreamer", [long])).toContain("srtcp-auth=(string)hmac-sha1-80");
    expect(libsrtpPolicy(short).rtcp.auth_tag_len).toBe(4);
    expect(libsrtpPolicy(long).rtcp.auth_tag_len).toBe(10);
  });

  it("descriptions have an m= line for every stream, at its own port", () => {
    const audio = stream("AES_CM_128_HMAC_SHA1_80", { track: OPUS, target: { host: "::1", port: 5006 } });
    const sdp = exportStreams("ffmpeg", [stream(), audio]);
    expect(sdp.split("\r\n").filter((line) => /^(m|c)=|^a=(rtpmap|fmtp)/.test(line))).toEqual([
      "c=IN IP4 127.0.0.1",
      "m=video 5004 RTP/SAVP 96",
      "c=IN IP4 127.0.0.1",
      "a=rtpmap:96 H264/90000",
      "a=fmtp:96 packetization-mode=1",
      "m=audio 5006 RTP/SAVP 97",
      "c=IN IP6 ::1",
      "a=rtpmap:97 opus/48000/2",
    ]);
    expect(exportStreams("janus", [audio])).toContain(
      '"media":[{"type":"audio","mid":"audio","port":5006,"pt":97,"codec":"opus"}]',
    );
  });

  it("formats that describe media refuse what they do not know; GStreamer refuses an unknown SSRC", () => {
    const { track: _track, target: _target, ...bare } = stream();
    expect(exportFormats.filter((format) => failure(format, [bare]) === "tools.export-media")).toEqual(["ffmpeg", "rtpengine"]);
    const { ssrc: _ssrc, ...nameless } = stream();
    expect(exportFormats.filter((format) => failure(format, [nameless]) === "tools.export-ssrc")).toEqual(["gstreamer"]);
    expect(libsrtpPolicy(nameless).ssrc.type).toBe("ssrc_any_inbound");
    expect(failure("libsrtp", [{ ...nameless, rolloverCounter: 1 }])).toBe("tools.export-rollover");
  });

  it("an encoding name cannot leave its caps field", () => {
    const hostile = { ...H264, rtpmap: 'x", srtp-key=(buffer)00/90000' };
    expect(exportStreams("gstreamer", [stream("AES_CM_128_HMAC_SHA1_80", { track: hostile })])).toContain(
      'encoding-name=(string)"X\\", SRTP-KEY=(BUFFER)00"',
    );
  });
});

describe("exportMessage", () => {
  it("gives a stream for every crypto session of a NULL-keyed message", async () => {
    const [only, ...others] = await exportMessage(STRICT_OCTETS);
    expect(others).toEqual([]);
    expect(only).toMatchObject({ policy: { suite: "AES_CM_128_HMAC_SHA1_80" }, ssrc: 0x0a0b0c0d, rolloverCounter: 0 });
    expect(only?.keys).toMatchObject([{ key: KEY.subarray(0, 16), salt: KEY.subarray(16), mki: parseHex("00000001") }]);
  });

  it("knows the SRTCP tag of each dialect of a _32 suite", async () => {
    const one = (type: number, value: number) => ({ type, value: Uint8Array.of(value) });
    const message = (params: readonly ReturnType<typeof one>[]): Uint8Array =>
      encodeMessage(variant("SP", { kind: "SP", policyNo: 0, protType: 0, params: [one(0, 1), one(1, 16), one(2, 1), ...params] }));
    const [gstreamer] = await exportMessage(message([one(3, 4), one(7, 1), one(8, 1), one(10, 1)]));
    const [standard] = await exportMessage(message([one(3, 20), one(7, 1), one(8, 1), one(10, 1), one(11, 4)]));
    expect(gstreamer?.policy).toEqual({ suite: "AES_CM_128_HMAC_SHA1_32", rtcpTagLength: 4 });
    expect(standard?.policy).toEqual({ suite: "AES_CM_128_HMAC_SHA1_32" });
  });

  it("refuses a message whose keys are protected, or that has none", async () => {
    const protectedKemac = { ...kemac([TEK]), macAlg: MacAlg.HMAC_SHA_1_160, mac: new Uint8Array(20) } as ReturnType<typeof kemac>;
    for (const octets of [encodeMessage(variant("KEMAC", protectedKemac)), encodeMessage(variant("KEMAC"))]) {
      await expect(exportMessage(octets)).rejects.toMatchObject({ code: "tools.export-protected" });
    }
  });

  it("gives keys or a typed error for every truncation, and no key in an error", async () => {
    for (let length = 0; length < STRICT_OCTETS.length; length++) {
      await expect(exportMessage(STRICT_OCTETS.subarray(0, length))).rejects.toMatchObject({
        code: expect.stringMatching(/^[a-z]+\.[a-z-]+$/),
        message: expect.not.stringContaining(formatHex(KEY)),
      });
    }
  });
});
