import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError, formatHex, parseHex } from "../../src/bytes/index.js";
import { type CryptoAttribute, formatCrypto, isInlineKey, parseCrypto } from "../../src/sdp/index.js";

/** Lines of RFC 4568 §4 to §7 and their parts. */
const LINES: readonly (readonly [line: string, keys: unknown, parameters: unknown])[] = [
  [
    "1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20|1:32",
    [{ lifetime: { exponent: 20 }, mki: parseHex(`${"00".repeat(31)}01`) }],
    [],
  ],
  [
    "1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20|1:4 KDR=1 UNENCRYPTED_SRTCP",
    [{ lifetime: { exponent: 20 }, mki: parseHex("00000001") }],
    [{ name: "KDR", exponent: 1 }, { name: "UNENCRYPTED_SRTCP" }],
  ],
  [
    "2 F8_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5QUJjZGVm|2^20|1:4;inline:QUJjZGVmMTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5|2^20|2:4 FEC_ORDER=FEC_SRTP",
    [{ mki: parseHex("00000001") }, { mki: parseHex("00000002") }],
    [{ name: "FEC_ORDER", order: "FEC_SRTP" }],
  ],
  ["01 AES_CM_128_HMAC_SHA1_32 inline:AQID|1066:4", [{ mki: parseHex("0000042a") }], []],
  ["1 AES_CM_128_HMAC_SHA1_32 inline:AQID|1048576", [{ lifetime: { packets: 1_048_576 } }], []],
  [
    "999999999 X inline:AQID UNENCRYPTED_SRTP UNAUTHENTICATED_SRTP WSH=64 FEC_KEY=inline:BAUG|2^31 -optional must=1",
    [{ keySalt: Uint8Array.of(1, 2, 3) }],
    [
      { name: "UNENCRYPTED_SRTP" },
      { name: "UNAUTHENTICATED_SRTP" },
      { name: "WSH", packets: 64 },
      { name: "FEC_KEY", keys: [{ method: "inline", keySalt: Uint8Array.of(4, 5, 6), lifetime: { exponent: 31 } }] },
      { name: "unknown", text: "-optional", mandatory: false },
      { name: "unknown", text: "must=1", mandatory: true },
    ],
  ],
  ["1 X other_method:a|b:c", [{ method: "other_method", info: "a|b:c" }], []],
];

describe("a=crypto", () => {
  it.each(LINES)("reads and rewrites %s", (line, keys, parameters) => {
    const attribute = parseCrypto(line);
    expect(attribute.keys).toMatchObject(keys as object);
    expect(attribute.sessionParameters).toEqual(parameters);
    expect(formatCrypto(attribute)).toBe(line);
  });

  it("tells inline keys from others and keeps the octets of key and salt", () => {
    const [inline] = parseCrypto(LINES[0]?.[0] as string).keys;
    const [other] = parseCrypto("1 X other:info").keys;
    expect(inline && isInlineKey(inline) && formatHex(inline.keySalt)).toBe(
      "3d2d6e40255e7821426a75667239293f2c2335685c603d265d7b71695051",
    );
    expect(other && isInlineKey(other)).toBe(false);
  });

  it("tolerates tabs and several spaces", () => {
    expect(formatCrypto(parseCrypto(" 1\tX   inline:AQID "))).toBe("1 X inline:AQID");
  });

  it.each([
    [""],
    ["1"],
    ["1 X"],
    ["x X inline:AQID"],
    ["1234567890 X inline:AQID"],
    ["1 X-Y inline:AQID"],
    ["1 X inline"],
    ["1 X inline:"],
    ["1 X inline:A"],
    ["1 X inline:AQID|0"],
    ["1 X inline:AQID|2^49"],
    ["1 X inline:AQID|2^20|1:4|x"],
    ["1 X inline:AQID|2^20|7"],
    ["1 X inline:AQID|1:0"],
    ["1 X inline:AQID|1:129"],
    ["1 X inline:AQID|256:1"],
    ["1 X inline:AQID;inline:BAUG"],
    ["1 X inline:AQID|1:4;inline:BAUG|2:2"],
    ["1 X inline:AQID|1:4;inline:BAUG|1:4"],
    ["1 X inline:AQID KDR=25"],
    ["1 X inline:AQID KDR=x"],
    ["1 X inline:AQID WSH=63"],
    ["1 X inline:AQID FEC_ORDER=x"],
    ["1 X inline:AQID FEC_KEY=x"],
    ["1 X inline:AQID KDR=1 KDR=2"],
    ["1 X inline:AQID --x"],
    ["1 X inline:AQID é"],
    ["1 X inline:AQID;"],
    [`1 X inline:${"A".repeat(16_400)}`],
  ])("refuses %.70j", (line) => {
    expect(() => parseCrypto(line)).toThrow(CodecError);
  });

  it.each<[CryptoAttribute]>([
    [{ tag: "", suite: "X", keys: [{ method: "inline", keySalt: Uint8Array.of(1) }], sessionParameters: [] }],
    [{ tag: "1", suite: "X Y", keys: [{ method: "inline", keySalt: Uint8Array.of(1) }], sessionParameters: [] }],
    [{ tag: "1", suite: "X", keys: [], sessionParameters: [] }],
    [{ tag: "1", suite: "X", keys: [{ method: "inline", info: "x" }], sessionParameters: [] }],
    [{ tag: "1", suite: "X", keys: [{ method: "inline", keySalt: new Uint8Array() }], sessionParameters: [] }],
    [
      {
        tag: "1",
        suite: "X",
        keys: [{ method: "inline", keySalt: Uint8Array.of(1), mki: new Uint8Array() }],
        sessionParameters: [],
      },
    ],
    [{ tag: "1", suite: "X", keys: [{ method: "other", info: "a b" }], sessionParameters: [] }],
    [{ tag: "1", suite: "X", keys: [{ method: "other", info: "a" }], sessionParameters: [{ name: "KDR", exponent: 1.5 }] }],
    [
      {
        tag: "1",
        suite: "X",
        keys: [{ method: "other", info: "a" }],
        sessionParameters: [{ name: "unknown", text: "a b", mandatory: true }],
      },
    ],
  ])("does not write %j", (attribute) => {
    expect(() => formatCrypto(attribute)).toThrow(CodecError);
  });

  it("reads what it writes", () => {
    const key = fc.record(
      {
        method: fc.constant("inline" as const),
        keySalt: fc.uint8Array({ minLength: 1, maxLength: 46 }),
        lifetime: fc.oneof(
          fc.record({ exponent: fc.integer({ min: 0, max: 48 }) }),
          fc.record({ packets: fc.integer({ min: 1, max: 2 ** 48 }) }),
        ),
        mki: fc.uint8Array({ minLength: 1, maxLength: 128 }),
      },
      { requiredKeys: ["method", "keySalt"] },
    );
    fc.assert(
      fc.property(key, fc.integer({ min: 0, max: 24 }), (inline, exponent) => {
        const attribute = { tag: "1", suite: "S", keys: [inline], sessionParameters: [{ name: "KDR" as const, exponent }] };
        expect(parseCrypto(formatCrypto(attribute as CryptoAttribute))).toEqual(attribute);
      }),
    );
  });

  it("gives a value or a CodecError for any text", () => {
    const piece = fc.constantFrom("1", " ", "AES_CM", "inline:", "AQID", "|", "2^", ":", ";", "KDR=", "FEC_KEY=", "-", "é");
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (parts) => {
        const text = parts.join("");
        try {
          expect(parseCrypto(formatCrypto(parseCrypto(text)))).toEqual(parseCrypto(text));
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError);
        }
      }),
    );
  });
});
