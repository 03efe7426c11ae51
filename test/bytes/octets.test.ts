import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  CodecError,
  concatBytes,
  equalBytes,
  formatBase64,
  formatHex,
  parseBase64,
  parseHex,
  utf8,
  utf8Text,
  WatchwordError,
  wipe,
} from "../../src/bytes/index.js";

const anyOctets = fc.uint8Array({ maxLength: 100 });

/** Character of a text and the offset that the error must name. */
const refusedHex: readonly (readonly [string, number])[] = [
  ["0", 1],
  ["0g", 1],
  ["g0", 0],
  ["00 0", 2],
  ["0x00", 1],
  ["00\u0130\u0131", 2],
];

describe("hexadecimal", () => {
  it("reads either case, writes lower case", () => {
    expect(parseHex("00fFaB")).toEqual(Uint8Array.of(0, 255, 171));
    expect(formatHex(Uint8Array.of(0, 255, 171))).toBe("00ffab");
    expect(parseHex("")).toEqual(new Uint8Array());
  });

  it.each(refusedHex)("refuses %j at character %i", (text, offset) => {
    expect(() => parseHex(text, "key")).toThrow(expect.objectContaining({ code: "bytes.hex", path: "key", offset }));
  });

  it("round trip, and agreement with the platform", () => {
    fc.assert(
      fc.property(anyOctets, (octets) => {
        expect(parseHex(formatHex(octets))).toEqual(octets);
        expect(formatHex(octets)).toBe(Buffer.from(octets).toString("hex"));
        expect(parseHex(formatHex(octets).toUpperCase())).toEqual(octets);
      }),
    );
  });
});

describe("base64", () => {
  it("round trip, and agreement with the platform, padded or not", () => {
    fc.assert(
      fc.property(anyOctets, (octets) => {
        const text = formatBase64(octets);
        expect(text).toBe(Buffer.from(octets).toString("base64"));
        expect(parseBase64(text)).toEqual(octets);
        expect(parseBase64(text.replaceAll("=", ""))).toEqual(octets);
      }),
    );
  });

  it.each([
    ["A", 1],
    ["AAAAA", 5],
    ["AA=A", 2],
    ["A===", 1],
    ["AAA==", 3],
    ["AA A", 2],
    ["AA\nAA", 2],
    ["AA-_", 2],
    ["AB==", 1],
    ["AAB=", 2],
    ["AAé=", 2],
    ["====", 0],
  ])("refuses %j", (text, offset) => {
    expect(() => parseBase64(text)).toThrow(expect.objectContaining({ code: "bytes.base64", offset }));
  });

  it("one octet string has one padded text", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 12 }), (text) => {
        try {
          const octets = parseBase64(text);
          expect(formatBase64(octets).replaceAll("=", "")).toBe(text.replaceAll("=", ""));
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("text", () => {
  it("well-formed UTF-8 survives, with a byte order mark; anything else is no text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        expect(utf8Text(utf8(text))).toBe(text);
      }),
    );
    expect(utf8Text(Uint8Array.of(0xef, 0xbb, 0xbf, 0x41))).toBe("\ufeffA");
    expect(utf8Text(Uint8Array.of(0xff))).toBeUndefined();
    expect(utf8Text(Uint8Array.of(0xc3))).toBeUndefined();
  });
});

describe("octets", () => {
  it("concatenation, comparison and wiping", () => {
    fc.assert(
      fc.property(anyOctets, anyOctets, (a, b) => {
        const joined = concatBytes(a, b);
        expect(equalBytes(joined.subarray(0, a.length), a)).toBe(true);
        expect(equalBytes(joined.subarray(a.length), b)).toBe(true);
        expect(equalBytes(a, b)).toBe(formatHex(a) === formatHex(b));
        const secret = joined.slice();
        wipe(secret, undefined);
        expect(secret.every((octet) => octet === 0)).toBe(true);
      }),
    );
  });

  it("any single difference is seen", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 40 }),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        (a, at, difference) => {
          const b = a.slice();
          b[at % b.length] = (b[at % b.length] as number) ^ difference;
          expect(equalBytes(a, b)).toBe(false);
        },
      ),
    );
  });
});

describe("errors", () => {
  it("carry code, path, offset and cause, and read in one line", () => {
    const cause = new Error("deeper");
    const decoding = new CodecError("bytes.truncated", "mikey.SP", 5, "need 9 octets, have 1", { cause });
    expect(decoding).toBeInstanceOf(WatchwordError);
    expect(decoding).toMatchObject({ name: "CodecError", code: "bytes.truncated", path: "mikey.SP", offset: 5, cause });
    expect(decoding.message).toBe("mikey.SP @5: need 9 octets, have 1");
    expect(new CodecError("bytes.range", "mikey.SP", -1, "too large").message).toBe("mikey.SP: too large");
  });
});
