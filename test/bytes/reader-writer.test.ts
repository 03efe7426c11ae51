import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError, type FieldSpan, Reader, Writer } from "../../src/bytes/index.js";

describe("reader", () => {
  it("reads numbers in network byte order, unsigned", () => {
    const reader = new Reader(Uint8Array.of(0xff, 0x80, 0x01, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff), "x");
    expect(reader.u8("a")).toBe(0xff);
    expect(reader.u16("b")).toBe(0x8001);
    expect(reader.u24("c")).toBe(0xfffffe);
    expect(reader.u32("d")).toBe(0xffffffff);
    expect(reader.remaining).toBe(0);
    reader.expectEnd();
  });

  it("names the field that is cut short and does not move", () => {
    const reader = new Reader(Uint8Array.of(1, 2), "x", undefined, 1);
    expect(() => reader.u16("length")).toThrow("x.length @1: need 2 octets, have 1");
    expect(() => reader.bytes("", 9)).toThrow("x @1: need 9 octets, have 1");
    expect(() => reader.bits("flags", 9)).toThrow("x.flags @1: need 2 octets, have 1");
    expect(reader.offset).toBe(1);
    expect(() => reader.expectEnd()).toThrow(expect.objectContaining({ code: "bytes.trailing", offset: 1 }));
  });

  it("a sub-reader is a wall with a longer path", () => {
    const reader = new Reader(Uint8Array.of(1, 2, 3, 4), "x");
    const inner = reader.sub("inner", 2);
    expect(reader.offset).toBe(2);
    expect(inner.u8("a")).toBe(1);
    expect(() => inner.u16("b")).toThrow("x.inner.b @1: need 2 octets, have 1");
    expect(inner.rest("rest")).toEqual(Uint8Array.of(2));
    expect(inner.peek()).toBeUndefined();
    expect(reader.peek(1)).toBe(4);
    expect(() => reader.sub("more", 3)).toThrow(CodecError);
  });

  it("what is entered with a length has a wall, which stands again where it stood once it is left", () => {
    const reader = new Reader(Uint8Array.of(1, 2, 3, 4), "x");
    const wall = reader.enter("inner", 2);
    expect(() => reader.enter("more", 3)).toThrow("x.inner.more @0: need 3 octets, have 2");
    expect(() => reader.sub("part", 1).u16("a")).toThrow("x.inner.part.a @0: need 2 octets, have 1");
    expect(reader.rest("rest")).toEqual(Uint8Array.of(2));
    expect(reader.remaining).toBe(0);
    reader.leave(wall);
    expect(reader.path).toBe("x");
    expect(reader.u16("b")).toBe(0x0304);
  });

  it("shares its octets where it is told so, sub-readers too", () => {
    const octets = Uint8Array.of(0, 1, 2, 3).subarray(1);
    const reader = new Reader(octets, "x", undefined, 0, 3, true);
    const first = reader.bytes("first", 1);
    const second = reader.sub("inner", 2).bytes("second", 2);
    octets.set([7, 8, 9]);
    expect([first, second]).toEqual([Uint8Array.of(7), Uint8Array.of(8, 9)]);
  });

  it("returns copies", () => {
    const octets = Uint8Array.of(1, 2);
    const copy = new Reader(octets, "x").bytes("a", 2);
    octets.fill(0);
    expect(copy).toEqual(Uint8Array.of(1, 2));
  });

  it("lengths of one or two octets are named after what they count", () => {
    const trace: FieldSpan[] = [];
    const reader = new Reader(Uint8Array.of(1, 2, 3), "x", trace);
    expect(reader.length("data", 2)).toBe(0x0102);
    expect(reader.length("data", 1)).toBe(3);
    expect(trace.map(({ path, offset, length }) => [path, offset, length])).toEqual([
      ["x.dataLength", 0, 2],
      ["x.dataLength", 2, 1],
    ]);
    expect(() => reader.length("data", 2)).toThrow("x.dataLength @3: need 2 octets, have 0");
  });

  it("indexes join the path without a dot", () => {
    const reader = new Reader(new Uint8Array(), "x");
    reader.enter("list");
    reader.enter(3);
    reader.enter("");
    expect(() => reader.u8("value")).toThrow("x.list[3].value @0");
    expect(reader.path).toBe("x.list[3]");
  });

  it("traces every field with its place, bits too", () => {
    const trace: FieldSpan[] = [];
    const reader = new Reader(Uint8Array.of(0xab, 0xcd, 1, 2), "x", trace);
    reader.bits("high", 4);
    const wall = reader.enter("inner");
    reader.bits("low", 12);
    reader.leave(wall);
    reader.bytes("rest", 2);
    expect(trace).toEqual([
      { path: "x.high", offset: 0, length: 1, value: 0xa, bit: 0, bits: 4 },
      { path: "x.inner.low", offset: 0, length: 2, value: 0xbcd, bit: 4, bits: 12 },
      { path: "x.rest", offset: 2, length: 2, value: Uint8Array.of(1, 2) },
    ]);
  });
});

describe("writer", () => {
  it("errors name what was entered", () => {
    const writer = new Writer("x");
    writer.enter("list");
    writer.enter(3);
    expect(() => writer.u8("value", 256)).toThrow("x.list[3].value: 256 does not fit 1 octets");
    writer.leave();
    expect(() => writer.lengthOf("value", 256, 1)).toThrow("x.list.valueLength: 256 does not fit 1 octets");
    writer.leave();
    expect(() => writer.u16("value", -1)).toThrow("x.value: -1 does not fit 2 octets");
  });

  it("refuses values that do not fit, instead of cutting them", () => {
    const writer = new Writer("x", 1);
    for (const value of [-1, 256, 1.5, Number.NaN]) {
      expect(() => writer.u8("a", value)).toThrow(expect.objectContaining({ code: "bytes.range", path: "x.a", offset: -1 }));
    }
    expect(() => writer.u16("a", 0x10000)).toThrow("x.a: 65536 does not fit 2 octets");
    expect(() => writer.u24("a", 0x1000000)).toThrow(CodecError);
    expect(() => writer.u32("a", 2 ** 32)).toThrow(CodecError);
    expect(() => writer.bits("a", 8, 3)).toThrow("x.a: 8 does not fit 3 bits");
    expect(() => writer.bits("a", -1, 3)).toThrow(CodecError);
    expect(writer.finish()).toEqual(new Uint8Array());
    expect(writer.error("bytes.range", "", "empty name").path).toBe("x");
  });

  it("puts lengths before what they count, and refuses what they cannot count", () => {
    const writer = new Writer("x", 0);
    writer.prefixed("outer", 2, () => {
      writer.u8("a", 7);
      writer.prefixed("inner", 1, () => writer.bytes(Uint8Array.of(8, 9)));
    });
    expect(writer.finish()).toEqual(Uint8Array.of(0, 4, 7, 2, 8, 9));
    expect(() => writer.prefixed("long", 1, () => writer.bytes(new Uint8Array(256)))).toThrow("x.long: 256 does not fit 1 octets");
    const wide = new Writer("x");
    wide.prefixed("wide", 4, () => wide.u8("a", 1));
    expect(wide.finish()).toEqual(Uint8Array.of(0, 0, 0, 1, 1));
  });

  it("patches an octet and hands out copies", () => {
    const writer = new Writer("x");
    writer.u16("a", 0x0102);
    const before = writer.finish();
    writer.patchU8(1, 0xff);
    expect(before).toEqual(Uint8Array.of(1, 2));
    expect(writer.finish()).toEqual(Uint8Array.of(1, 0xff));
    expect(writer.length).toBe(2);
  });
});

/** What a Writer writes, a Reader reads back. */
const field = fc.oneof(
  fc.record({ type: fc.constant("u8" as const), value: fc.integer({ min: 0, max: 0xff }) }),
  fc.record({ type: fc.constant("u16" as const), value: fc.integer({ min: 0, max: 0xffff }) }),
  fc.record({ type: fc.constant("u24" as const), value: fc.integer({ min: 0, max: 0xffffff }) }),
  fc.record({ type: fc.constant("u32" as const), value: fc.integer({ min: 0, max: 0xffffffff }) }),
);

/** Widths of bit fields that make up whole octets, each with a value. */
const bitFields = fc
  .array(fc.integer({ min: 1, max: 16 }), { minLength: 1, maxLength: 8 })
  .map((widths) => {
    const rest = -widths.reduce((sum, width) => sum + width, 0) & 7;
    return rest === 0 ? widths : [...widths, rest];
  })
  .chain((widths) =>
    fc.tuple(
      ...widths.map((width) => fc.record({ width: fc.constant(width), value: fc.integer({ min: 0, max: 2 ** width - 1 }) })),
    ),
  );

describe("reader and writer", () => {
  it("numbers round trip", () => {
    fc.assert(
      fc.property(fc.array(field, { maxLength: 40 }), (fields) => {
        const writer = new Writer("x", 1);
        for (const { type, value } of fields) writer[type]("f", value);
        const reader = new Reader(writer.finish(), "x");
        for (const { type, value } of fields) expect(reader[type]("f")).toBe(value);
        reader.expectEnd();
      }),
    );
  });

  it("bits round trip, most significant first", () => {
    fc.assert(
      fc.property(bitFields, (fields) => {
        const writer = new Writer("x", 1);
        for (const { width, value } of fields) writer.bits("f", value, width);
        const octets = writer.finish();
        const text = fields.map(({ width, value }) => value.toString(2).padStart(width, "0")).join("");
        expect(Array.from(octets, (octet) => octet.toString(2).padStart(8, "0")).join("")).toBe(text);
        const reader = new Reader(octets, "x");
        for (const { width, value } of fields) expect(reader.bits("f", width)).toBe(value);
        reader.expectEnd();
      }),
    );
  });
});
