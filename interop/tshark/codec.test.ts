import { X509Certificate } from "node:crypto";
import { beforeAll, expect, it } from "vitest";
import { formatHex } from "../../src/bytes/index.js";
import {
  type CsMap,
  DataType,
  EncrAlg,
  ErrorNo,
  ExtensionType,
  encodeKeyData,
  encodeMessage,
  entriesOf,
  type Header,
  IdType,
  type KeyData,
  KeyDataType,
  MacAlg,
  type Payload,
  TimestampType,
} from "../../src/mikey/index.js";
import { csMapCases, keyDataCases, payloadCases } from "../../test/mikey/codec-cases.js";
import { makeSelfSigned } from "../../test/node/self-signed.js";
import { describePeer } from "../peers.js";
import { type Dissection, dissect } from "./dissect.js";

const fill = (length: number, first = 0): Uint8Array => Uint8Array.from({ length }, (_, i) => (first + i) & 0xff);

/** tshark writes octets as `00:01:02`. */
const shown = (octets: Uint8Array): string => formatHex(octets).replace(/..(?=.)/g, "$&:");

/** A payload that stands last, so that a dissector that understood the payload before it finds these octets. */
const MARKER = fill(16, 0xa0);

function message(csMap: CsMap, payloads: readonly Payload[], header: Partial<Header> = {}): Uint8Array {
  const base = { version: 1, dataType: 0, verificationRequested: false, prf: 0, csbId: 0x01020304, csMap };
  return encodeMessage({ header: { ...base, ...header }, payloads });
}

const EMPTY_MAP: CsMap = { type: 1, count: 1 };

/** What tshark 4.0 does not know: its dissector stops there without a complaint, so what follows is not looked at. */
const UNKNOWN_PAYLOADS = new Set(["CHASH", "TR", "RANDR", "TP", "TICKET", "IBAKE", "ESK", "SIGNX"]);
/** The same for variants of payloads that it knows: HMAC-SHA-256, NTP-UTC-32, and a DH value with a validity. */
const UNKNOWN_VARIANTS = /HMAC-SHA-256|NTP-UTC-32|^DH.*(SPI|interval)|private/;
/** Payloads that end a message, or whose length only the end of the message tells. */
const ENDS_MESSAGE = /^SIGN|the rest$/;

const certificate = new X509Certificate(makeSelfSigned().cert).raw;

/** tshark takes every CERT for a DER certificate, also the type that is a URL: that row gets one. */
const cases = payloadCases.map(({ name, value }) =>
  value.kind === "CERT"
    ? { name: "CERT, X.509v3", value: { ...value, certType: 0, data: new Uint8Array(certificate) } }
    : { name, value },
);

describePeer("tshark", "payloads of src/mikey [dissects our messages]", () => {
  const rows = cases.map(({ name, value }) => ({
    name,
    marked: !ENDS_MESSAGE.test(name),
    walkedPast: !UNKNOWN_PAYLOADS.has(value.kind) && !UNKNOWN_VARIANTS.test(name),
    octets: message(EMPTY_MAP, ENDS_MESSAGE.test(name) ? [value] : [value, { kind: "RAND", rand: MARKER }]),
  }));
  let seen: Dissection[];
  beforeAll(async () => {
    seen = await dissect(rows.map(({ octets }) => octets));
  });

  it.each(rows.map((row, index) => ({ ...row, index })))("$name", ({ index, marked, walkedPast }) => {
    const dissection = seen[index] as Dissection;
    expect(dissection.isMikey).toBe(true);
    expect(dissection.complaints).toEqual([]);
    if (marked && walkedPast) expect(dissection.values("mikey.rand.data")).toContain(shown(MARKER));
  });
});

describePeer("tshark", "CS ID maps and key data of src/mikey", () => {
  const maps = csMapCases.map(({ name, value }) => ({
    name: `map: ${name}`,
    octets: message(value, [{ kind: "RAND", rand: MARKER }]),
  }));
  const keys = keyDataCases.map(({ name, value }) => ({ name: `key data: ${name}`, octets: message(EMPTY_MAP, [kemac(value)]) }));
  const rows = [...maps, ...keys];
  let seen: Dissection[];
  beforeAll(async () => {
    seen = await dissect(rows.map(({ octets }) => octets));
  });

  it.each(rows.map((row, index) => ({ ...row, index })))("$name", ({ name, index }) => {
    const dissection = seen[index] as Dissection;
    expect(dissection.isMikey).toBe(true);
    expect(dissection.complaints).toEqual([]);
    // tshark 4.0 does not know GENERIC-ID and reads its octets as payloads.
    if (name.startsWith("map") && !/GENERIC-ID, with/.test(name)) {
      expect(dissection.values("mikey.rand.data")).toEqual([shown(MARKER)]);
    }
  });
});

function kemac(keys: readonly KeyData[]): Payload {
  return { kind: "KEMAC", encrAlg: EncrAlg.NULL, encrData: encodeKeyData(keys), macAlg: MacAlg.NULL, mac: new Uint8Array() };
}

const T: Payload = { kind: "T", tsType: TimestampType.NTP_UTC, value: Uint8Array.of(0xec, 0x89, 0x8d, 0xa8, 0x80, 0, 0, 0) };
const RAND: Payload = { kind: "RAND", rand: fill(16) };
const SRTP_MAP: CsMap = {
  type: 0,
  entries: [
    { policyNo: 0, ssrc: 0xcafebabe, roc: 0 },
    { policyNo: 1, ssrc: 0x11223344, roc: 7 },
  ],
};
const srtpPolicy = (...params: readonly (readonly [type: number, value: number])[]): Payload => ({
  kind: "SP",
  policyNo: 0,
  protType: 0,
  params: params.map(([type, value]) => ({ type, value: Uint8Array.of(value) })),
});
/** GStreamer's parameters for AES_CM_128_HMAC_SHA1_80: type 3 carries the tag's length. */
const GSTREAMER_POLICY = srtpPolicy([0, 1], [1, 16], [2, 1], [3, 10], [7, 1], [8, 1], [10, 1]);
const FULL_POLICY = srtpPolicy(...[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map((type) => [type, 1] as const));

describePeer("tshark", "whole messages, field by field", () => {
  it("reads the header and the SRTP-ID map", async () => {
    const [seen] = await dissect([message(SRTP_MAP, [T, RAND], { verificationRequested: true, dataType: DataType.PSK_INIT })]);
    expect(seen?.complaints).toEqual([]);
    expect(seen?.values("mikey.version")).toEqual(["1"]);
    expect(seen?.values("mikey.type")).toEqual(["0"]);
    expect(seen?.values("mikey.v.set")).toEqual(["1"]);
    expect(seen?.values("mikey.csb_id").map(Number)).toEqual([0x01020304]);
    expect(seen?.values("mikey.cs_count")).toEqual(["2"]);
    expect(seen?.values("mikey.srtp_id.policy_no")).toEqual(["0", "1"]);
    expect(seen?.values("mikey.srtp_id.ssrc").map(Number)).toEqual([0xcafebabe, 0x11223344]);
    expect(seen?.values("mikey.srtp_id.roc").map(Number)).toEqual([0, 7]);
    expect(seen?.values("mikey.next_payload")).toEqual(["5", "11", "0"]);
  });

  it("reads the NULL-keyed dialect down to the key", async () => {
    const key = fill(30);
    const tek: KeyData = { type: KeyDataType.TEK, key, validity: { kv: "spi", spi: fill(4) } };
    const [seen] = await dissect([message(SRTP_MAP, [T, RAND, GSTREAMER_POLICY, kemac([tek])])]);
    expect(seen?.complaints).toEqual([]);
    expect(seen?.values("mikey.next_payload")).toEqual(["5", "11", "10", "1", "0"]);
    expect(seen?.values("mikey.sp.encr_alg")).toEqual(["1"]);
    expect(seen?.values("mikey.sp.encr_len")).toEqual(["16"]);
    expect(seen?.values("mikey.sp.auth_key_len")).toEqual(["10"]);
    expect(seen?.values("mikey.kemac.encr_alg")).toEqual(["0"]);
    expect(seen?.values("mikey.key.type")).toEqual(["2"]);
    expect(seen?.values("mikey.key.data")).toEqual([shown(key)]);
    expect(seen?.values("mikey.key.kv.spi")).toEqual([shown(fill(4))]);
  });

  it("reads every SRTP policy parameter of RFC 3830", async () => {
    const [seen] = await dissect([message(SRTP_MAP, [FULL_POLICY, RAND])]);
    expect(seen?.complaints).toEqual([]);
    expect(seen?.values("mikey.sp.param.type").map(Number)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  });

  it("reads every error number as an error message", async () => {
    const numbers = entriesOf(ErrorNo).map(({ value }) => value);
    const errors = numbers.map((errorNo) =>
      message({ type: 1, count: 0 }, [T, { kind: "ERR", errorNo, reserved: 0 }], { dataType: DataType.ERROR }),
    );
    const seen = await dissect(errors);
    expect(seen.flatMap(({ complaints }) => complaints)).toEqual([]);
    expect(seen.map(({ values }) => values("mikey.type")[0])).toEqual(numbers.map(() => "6"));
    expect(seen.map(({ values }) => Number(values("mikey.err.no")[0]))).toEqual(numbers);
  });

  it("reads a verification message", async () => {
    const verification: Payload = { kind: "V", authAlg: MacAlg.HMAC_SHA_1_160, data: fill(20) };
    const [seen] = await dissect([message(SRTP_MAP, [T, verification], { dataType: DataType.PSK_RESP })]);
    expect(seen?.complaints).toEqual([]);
    expect(seen?.values("mikey.type")).toEqual(["1"]);
    expect(seen?.values("mikey.v.ver_data")).toEqual([shown(fill(20))]);
  });

  it("reads identities and the SDP IDs extension", async () => {
    const uri = new TextEncoder().encode("sip:alice@example.com");
    const extension: Payload = { kind: "EXT", extType: ExtensionType.SDP_IDS, data: new TextEncoder().encode("mikey") };
    const [seen] = await dissect([message(SRTP_MAP, [T, { kind: "ID", idType: IdType.URI, data: uri }, extension, RAND])]);
    expect(seen?.complaints).toEqual([]);
    expect(seen?.values("mikey.id.data")).toEqual(["sip:alice@example.com"]);
    expect(seen?.values("mikey.ext.value")).toEqual(["mikey"]);
    expect(seen?.values("mikey.rand.data")).toEqual([shown(fill(16))]);
  });

  it("complains about a message that is cut short, so that silence above means something", async () => {
    const whole = message(SRTP_MAP, [T, RAND, GSTREAMER_POLICY]);
    const [good, cut] = await dissect([whole, whole.subarray(0, whole.length - 3)]);
    expect(good?.complaints).toEqual([]);
    expect(cut?.complaints).not.toEqual([]);
  });
});
