import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  bitCountedList,
  bitPrefixedOctets,
  bits,
  type Codec,
  CodecError,
  type FieldSpan,
  flag,
  list,
  octets,
  parseHex,
  prefixedList,
  prefixedOctets,
  Reader,
  restOctets,
  sizedOctets,
  struct,
  u8,
  u16,
  u32,
  Writer,
} from "../../src/bytes/index.js";

function encode<T>(codec: Codec<T>, value: T, last = true): Uint8Array {
  const writer = new Writer("x");
  codec.write(writer, "value", value, { fields: {}, last });
  return writer.finish();
}

function decode<T>(codec: Codec<T>, input: Uint8Array, last = true, trace?: FieldSpan[]): T {
  const reader = new Reader(input, "x", trace);
  const value = codec.read(reader, "value", { fields: {}, last });
  reader.expectEnd();
  return value;
}

interface Row {
  readonly name: string;
  readonly codec: Codec<unknown>;
  readonly value: unknown;
  readonly hex: string;
}

const row = <T>(name: string, codec: Codec<T>, value: T, hex: string): Row => ({
  name,
  codec: codec as Codec<unknown>,
  value,
  hex: hex.replaceAll(" ", ""),
});

const bySize = sizedOctets((fields) => (fields["size"] as number) || undefined);

const cases: readonly Row[] = [
  row("u8", u8, 0xff, "ff"),
  row("u16", u16, 0xfffe, "fffe"),
  row("u32", u32, 0xfffffffd, "fffffffd"),
  row("octets", octets(3), parseHex("010203"), "010203"),
  row("prefixedOctets, 1", prefixedOctets(1), parseHex("0102"), "02 0102"),
  row("prefixedOctets, 2", prefixedOctets(2), parseHex(""), "0000"),
  row("restOctets", restOctets, parseHex("aabb"), "aabb"),
  row("list", list(u16), [1, 2], "0001 0002"),
  row("prefixedList, 1", prefixedList(1, prefixedOctets(1)), [parseHex("aa"), parseHex("")], "03 01aa 00"),
  row("prefixedList, 2", prefixedList(2, u32), [], "0000"),
  row("struct", struct({ a: u8, b: struct({ c: u16 }) }), { a: 1, b: { c: 2 } }, "01 0002"),
  row("struct of a kind", struct({ a: u8 }, "A"), { kind: "A", a: 1 }, "01"),
  row(
    "bit fields",
    struct({ a: flag, b: bits(7), c: bits(2), d: bitPrefixedOctets(14) }),
    {
      a: true,
      b: 1,
      c: 2,
      d: parseHex("aabb"),
    },
    "81 8002 aabb",
  ),
  row("bitCountedList", struct({ s: flag, p: bitCountedList(7, u8) }), { s: false, p: [7, 8] }, "02 07 08"),
  row(
    "sizedOctets, known",
    struct({ size: u8, data: bySize, more: u8 }),
    { size: 2, data: parseHex("aabb"), more: 9 },
    "02 aabb 09",
  ),
  row("sizedOctets, unknown and last", struct({ size: u8, data: bySize }), { size: 0, data: parseHex("aabbcc") }, "00 aabbcc"),
];

describe("combinators", () => {
  it.each(cases)("$name decodes", ({ codec, value, hex }) => {
    expect(decode(codec, parseHex(hex))).toEqual(value);
  });

  it.each(cases)("$name encodes", ({ codec, value, hex }) => {
    expect(encode(codec, value)).toEqual(parseHex(hex));
  });

  it.each(cases)("$name is total and lossless for any octets, and its trace covers what it read", ({ codec }) => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (input) => {
        const trace: FieldSpan[] = [];
        const reader = new Reader(input, "x", trace);
        let value: unknown;
        try {
          value = codec.read(reader, "value", { fields: {}, last: true });
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError);
          return;
        }
        expect(encode(codec, value)).toEqual(input.subarray(0, reader.offset));
        const covered = trace.reduce((sum, span) => sum + (span.bits ?? span.length * 8), 0);
        expect(covered).toBe(reader.offset * 8);
      }),
    );
  });

  it("refuses a length that is not the declared one", () => {
    expect(() => encode(octets(3), new Uint8Array(2))).toThrow("x.value: 2 octets where 3 belong");
    expect(() => encode(struct({ size: u8, data: bySize }), { size: 2, data: new Uint8Array(3) })).toThrow(
      expect.objectContaining({ code: "bytes.length", path: "x.value.data" }),
    );
    expect(() => encode(prefixedOctets(1), new Uint8Array(256))).toThrow(expect.objectContaining({ code: "bytes.range" }));
    expect(() => encode(prefixedList(1, u8), new Array(256).fill(0))).toThrow(expect.objectContaining({ code: "bytes.range" }));
    expect(() => encode(struct({ s: flag, p: bitCountedList(7, u8) }), { s: true, p: new Array(128).fill(0) })).toThrow(CodecError);
  });

  it("refuses an unknown length where something follows, both ways", () => {
    const codec = struct({ size: u8, data: bySize });
    expect(() => decode(codec, parseHex("00aabb"), false)).toThrow(
      expect.objectContaining({ code: "bytes.layout", path: "x.value.data", offset: 1 }),
    );
    expect(() => encode(codec, { size: 0, data: parseHex("aabb") }, false)).toThrow(
      expect.objectContaining({ code: "bytes.layout" }),
    );
    const strict = struct({ size: u8, data: sizedOctets(() => undefined, "refuse") });
    expect(() => decode(strict, parseHex("00"))).toThrow(expect.objectContaining({ code: "bytes.layout" }));
    expect(() => encode(strict, { size: 0, data: new Uint8Array() })).toThrow(expect.objectContaining({ code: "bytes.layout" }));
  });

  it("a length field is a wall for what is inside", () => {
    const codec = struct({ items: prefixedList(1, prefixedOctets(1)), after: u8 });
    expect(() => decode(codec, parseHex("0205aaaaaaaaaa"))).toThrow("x.value.items[0] @2: need 5 octets, have 1");
  });
});
