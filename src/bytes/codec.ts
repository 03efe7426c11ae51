import type { Name } from "./errors.js";
import type { Reader } from "./reader.js";
import type { Writer } from "./writer.js";

/**
 * What a field may know of the structure around it: fields before it whose values decide its length or presence.
 */
export interface Scope {
  /** The fields read so far, or, when writing, all of them. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** Nothing of another structure follows before the wall: a last field of unknown length may take the rest. */
  readonly last: boolean;
}

/**
 * A field or structure that can be read and written. Payloads are declared as tables of these, so that one line
 * gives decoding, encoding, the error path and the inspector's octet map.
 */
export interface Codec<T> {
  read(reader: Reader, name: Name, scope?: Scope): T;
  write(writer: Writer, name: Name, value: T, scope?: Scope): void;
}

/** The type that a codec carries. */
export type Carried<C> = C extends Codec<infer T> ? T : never;

export const u8: Codec<number> = {
  read: (reader, name) => reader.u8(name),
  write: (writer, name, value) => writer.u8(name, value),
};

export const u16: Codec<number> = {
  read: (reader, name) => reader.u16(name),
  write: (writer, name, value) => writer.u16(name, value),
};

export const u32: Codec<number> = {
  read: (reader, name) => reader.u32(name),
  write: (writer, name, value) => writer.u32(name, value),
};

/** A number of 1 to 16 bits. The bit fields of a structure must add up to whole octets. */
export function bits(width: number): Codec<number> {
  return {
    read: (reader, name) => reader.bits(name, width),
    write: (writer, name, value) => writer.bits(name, value, width),
  };
}

/** One bit. */
export const flag: Codec<boolean> = {
  read: (reader, name) => reader.bits(name, 1) === 1,
  write: (writer, name, value) => writer.bits(name, value ? 1 : 0, 1),
};

/** Exactly `length` octets. */
export function octets(length: number): Codec<Uint8Array> {
  return {
    read: (reader, name) => reader.bytes(name, length),
    write: (writer, name, value) => writeExactly(writer, name, value, length),
  };
}

/** Octets preceded by their number in `width` octets. */
export function prefixedOctets(width: 1 | 2): Codec<Uint8Array> {
  return {
    read: (reader, name) => reader.bytes(name, reader.length(name, width)),
    write: (writer, name, value) => {
      writer.lengthOf(name, value.length, width);
      writer.bytes(value);
    },
  };
}

/** Octets preceded by their number in `width` bits; the bits before it must leave it ending an octet. */
export function bitPrefixedOctets(width: number): Codec<Uint8Array> {
  return {
    read: (reader, name) => reader.bytes(name, reader.bits(`${name}Length`, width)),
    write: (writer, name, value) => {
      writer.bits(`${name}Length`, value.length, width);
      writer.bytes(value);
    },
  };
}

/**
 * Octets whose number follows from an earlier field. Where `lengthOf` does not know it (an unassigned algorithm), a
 * structure's last field may take the rest if nothing else follows; otherwise the layout is unknown.
 * @throws CodecError `bytes.layout` where the length is unknown and something follows
 */
export function sizedOctets(
  lengthOf: (fields: Readonly<Record<string, unknown>>) => number | undefined,
  unknown: "rest" | "refuse" = "rest",
): Codec<Uint8Array> {
  return {
    read: (reader, name, scope) => {
      const length = scope && lengthOf(scope.fields);
      if (length !== undefined) return reader.bytes(name, length);
      if (scope?.last && unknown === "rest") return reader.rest(name);
      throw reader.error("bytes.layout", name, UNKNOWN_LENGTH);
    },
    write: (writer, name, value, scope) => {
      const length = scope && lengthOf(scope.fields);
      if (length !== undefined) writeExactly(writer, name, value, length);
      else if (scope?.last && unknown === "rest") writer.bytes(value);
      else throw writer.error("bytes.layout", name, UNKNOWN_LENGTH);
    },
  };
}

const UNKNOWN_LENGTH = "its length is unknown and other fields follow";

/** All octets up to the wall. */
export const restOctets: Codec<Uint8Array> = {
  read: (reader, name) => reader.rest(name),
  write: (writer, _name, value) => writer.bytes(value),
};

/** Item after item up to the wall. */
export function list<T>(item: Codec<T>): Codec<T[]> {
  return {
    read: (reader, name) => readToWall(reader, name, reader.remaining, item),
    write: (writer, name, value) => writeItems(writer, name, value, item),
  };
}

/** A sequence that fills a length-prefixed space: item after item up to the wall. */
export function prefixedList<T>(width: 1 | 2, item: Codec<T>): Codec<T[]> {
  return {
    read: (reader, name) => readToWall(reader, name, reader.length(name, width), item),
    write: (writer, name, value) => writer.prefixed(name, width, () => writeItems(writer, name, value, item)),
  };
}

function readToWall<T>(reader: Reader, name: Name, length: number, item: Codec<T>): T[] {
  const wall = reader.enter(name, length);
  const items: T[] = [];
  while (reader.remaining > 0) items.push(item.read(reader, items.length));
  reader.leave(wall);
  return items;
}

/** Items preceded by their count in `width` bits; the bits before it must leave it ending an octet. */
export function bitCountedList<T>(width: number, item: Codec<T>): Codec<T[]> {
  return {
    read: (reader, name) => readItems(reader, name, reader.bits(`${name}Count`, width), item),
    write: (writer, name, value) => {
      writer.bits(`${name}Count`, value.length, width);
      writeItems(writer, name, value, item);
    },
  };
}

/** Reads `count` items; a count is never trusted with memory before its items are there. */
export function readItems<T>(reader: Reader, name: Name, count: number, item: Codec<T>): T[] {
  const wall = reader.enter(name);
  const items: T[] = [];
  for (let i = 0; i < count; i++) items.push(item.read(reader, i));
  reader.leave(wall);
  return items;
}

/** Writes items one after the other. */
export function writeItems<T>(writer: Writer, name: Name, items: readonly T[], item: Codec<T>): void {
  writer.enter(name);
  for (let i = 0; i < items.length; i++) item.write(writer, i, items[i] as T);
  writer.leave();
}

/** The value of a structure declared by `struct`. */
export type Fields<F extends Record<string, Codec<never> | Codec<unknown>>> = { [K in keyof F]: Carried<F[K]> };

/** Fields in order. The value is an object with one property per field; among several structures, `kind` before them says which it is. */
export function struct<F extends Record<string, Codec<never> | Codec<unknown>>>(fields: F): Codec<Fields<F>>;
export function struct<F extends Record<string, Codec<never> | Codec<unknown>>, const K extends string>(
  fields: F,
  kind: K,
): Codec<Fields<F> & { kind: K }>;
export function struct<F extends Record<string, Codec<never> | Codec<unknown>>>(
  fields: F,
  kind?: string,
): Codec<Fields<F> & { kind?: string }> {
  const names = Object.keys(fields);
  const codecs = Object.values(fields) as Codec<unknown>[];
  return {
    read: (reader, name, scope) => {
      const wall = reader.enter(name);
      // Filled from empty: V8 clones an object of one shape among many more slowly than it adds the properties.
      const value: Record<string, unknown> & { kind?: string } = {};
      if (kind !== undefined) value.kind = kind;
      const own: Scope = { fields: value, last: scope?.last ?? false };
      for (let i = 0; i < names.length; i++) {
        const field = names[i] as string;
        value[field] = (codecs[i] as Codec<unknown>).read(reader, field, own);
      }
      reader.leave(wall);
      return value as Fields<F>;
    },
    write: (writer, name, value, scope) => {
      writer.enter(name);
      const all = value as Record<string, unknown>;
      const own: Scope = { fields: all, last: scope?.last ?? false };
      for (let i = 0; i < names.length; i++) {
        const field = names[i] as string;
        (codecs[i] as Codec<unknown>).write(writer, field, all[field], own);
      }
      writer.leave();
    },
  };
}

function writeExactly(writer: Writer, name: Name, value: Uint8Array, length: number): void {
  if (value.length !== length) throw writer.error("bytes.length", name, `${value.length} octets where ${length} belong`);
  writer.bytes(value);
}
