import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError, parseHex, utf8 } from "../../src/bytes/index.js";
import {
  decodeCsbIdExtension,
  decodeKeyIds,
  decodeOmaBcast,
  decodeSdpIds,
  decodeSrtpSessionData,
  decodeTicketData,
  encodeCsbIdExtension,
  encodeKeyIds,
  encodeOmaBcast,
  encodeSdpIds,
  encodeSrtpSessionData,
  encodeTicketData,
  type Payload,
  policyNumber,
  policyValue,
} from "../../src/mikey/index.js";

const code = (expected: string): unknown => expect.objectContaining({ code: expected });

describe("SDP IDs (RFC 4567 §4.1.4)", () => {
  it("is the list in the order of the SDP", () => {
    expect(encodeSdpIds(["mikey", "keyp1", "keyp2"])).toEqual(utf8("mikey;keyp1;keyp2"));
    expect(decodeSdpIds(utf8("mikey;keyp1;keyp2"))).toEqual(["mikey", "keyp1", "keyp2"]);
    expect(decodeSdpIds(utf8("mikey"))).toEqual(["mikey"]);
  });

  it.each(["", ";", "mikey;", "mi key", "mikey\0", "mikéy"])("refuses %j", (text) => {
    expect(() => decodeSdpIds(utf8(text))).toThrow(code("mikey.sdp-ids"));
    expect(() => encodeSdpIds(text.split(";"))).toThrow(code("mikey.sdp-ids"));
  });

  it("refuses octets that are no text, and an empty list", () => {
    expect(() => decodeSdpIds(Uint8Array.of(0xff))).toThrow(code("mikey.sdp-ids"));
    expect(() => encodeSdpIds([])).toThrow(code("mikey.sdp-ids"));
  });
});

describe("Key ID (RFC 4563 §4)", () => {
  const ids = [
    { type: 0, id: parseHex("112233") },
    { type: 1, id: parseHex("00010002") },
    { type: 241, id: parseHex("") },
  ];
  const octets = parseHex("0003112233" + "010400010002" + "f100");

  it("lists types and identities", () => {
    expect(decodeKeyIds(octets)).toEqual(ids);
    expect(encodeKeyIds(ids)).toEqual(octets);
    expect(decodeKeyIds(new Uint8Array())).toEqual([]);
  });

  it("any octets give a list that encodes alike, or a typed error", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (data) => {
        try {
          expect(encodeKeyIds(decodeKeyIds(data))).toEqual(data);
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError);
        }
      }),
    );
  });

  it("names the offending entry", () => {
    expect(() => decodeKeyIds(parseHex("0001aa0105"))).toThrow("mikey.keyIds[1].id @5: need 5 octets, have 0");
  });
});

describe("CSB ID (RFC 4738 §3.6) and OMA BCAST (RFC 5410 §3)", () => {
  it("four octets, no more, no less", () => {
    expect(encodeCsbIdExtension(0xfedcba98)).toEqual(parseHex("fedcba98"));
    expect(decodeCsbIdExtension(parseHex("fedcba98"))).toBe(0xfedcba98);
    expect(() => decodeCsbIdExtension(parseHex("fedcba"))).toThrow(code("bytes.truncated"));
    expect(() => decodeCsbIdExtension(parseHex("fedcba9800"))).toThrow(code("bytes.trailing"));
  });

  it("a subtype and its data", () => {
    expect(decodeOmaBcast(parseHex("02aabb"))).toEqual({ subtype: 2, data: parseHex("aabb") });
    expect(encodeOmaBcast({ subtype: 2, data: parseHex("aabb") })).toEqual(parseHex("02aabb"));
    expect(() => decodeOmaBcast(new Uint8Array())).toThrow(code("bytes.truncated"));
  });
});

describe("ticket data (RFC 6043 App. A)", () => {
  const payloads: Payload[] = [
    { kind: "T", tsType: 2, value: parseHex("00000001") },
    { kind: "RAND", rand: parseHex("aabb") },
    { kind: "V", authAlg: 0, data: new Uint8Array() },
  ];
  const octets = parseHex("050002beef" + "0b0200000001" + "0902aabb" + "0000");

  it("begins with the header, whose data are whoever's", () => {
    expect(decodeTicketData(octets)).toEqual({ header: parseHex("beef"), payloads });
    expect(encodeTicketData({ header: parseHex("beef"), payloads })).toEqual(octets);
    expect(encodeTicketData({ header: parseHex(""), payloads: [] })).toEqual(parseHex("000000"));
    expect(decodeTicketData(parseHex("000000"))).toEqual({ header: new Uint8Array(), payloads: [] });
  });

  it("is refused when cut short", () => {
    for (let length = 0; length < octets.length; length++) {
      expect(() => decodeTicketData(octets.subarray(0, length))).toThrow(code("bytes.truncated"));
    }
    expect(() => decodeTicketData(Uint8Array.of(...octets, 0))).toThrow(code("bytes.trailing"));
  });
});

describe("SRTP session data (RFC 6043 §6.1.1)", () => {
  it("SSRC alone, or with ROC and SEQ", () => {
    expect(decodeSrtpSessionData(parseHex("cafebabe"), false)).toEqual({ ssrc: 0xcafebabe });
    const full = { ssrc: 1, roc: 2, seq: 3 };
    expect(decodeSrtpSessionData(parseHex("00000001000000020003"), true)).toEqual(full);
    expect(encodeSrtpSessionData(full)).toEqual(parseHex("00000001000000020003"));
    expect(encodeSrtpSessionData({ ssrc: 0xcafebabe })).toEqual(parseHex("cafebabe"));
    expect(() => decodeSrtpSessionData(parseHex("cafebabe"), true)).toThrow(code("bytes.truncated"));
    expect(() => decodeSrtpSessionData(parseHex("cafebabe00"), false)).toThrow(code("bytes.trailing"));
    expect(() => encodeSrtpSessionData({ ssrc: 1, roc: 1 })).toThrow(code("mikey.session-data"));
  });
});

describe("policy parameter values", () => {
  it("are numbers of 1 to 4 octets", () => {
    expect(policyNumber(parseHex("10"))).toBe(16);
    expect(policyNumber(parseHex("ffffffff"))).toBe(0xffffffff);
    expect(policyNumber(new Uint8Array())).toBeUndefined();
    expect(policyNumber(parseHex("0000000001"))).toBeUndefined();
  });

  it("are written in as few octets as possible", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), (number) => {
        const value = policyValue(number);
        expect(policyNumber(value)).toBe(number);
        expect(value.length).toBe(Math.max(1, Math.ceil(Math.log2(number + 1) / 8)));
      }),
    );
    expect(() => policyValue(2 ** 32)).toThrow(code("bytes.range"));
  });
});
