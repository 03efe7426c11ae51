import type { Reader } from "./reader.js";
import type { Writer } from "./writer.js";

/**
 * A field or structure that can be read and written. Payloads are declared as tables of these, so that one line
 * gives decoding, encoding, the error path and the inspector's octet map.
 */
export interface Codec<T> {
  read(reader: Reader, name: string): T;
  write(writer: Writer, name: string, value: T): void;
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

/** Exactly `length` octets. */
export function octets(length: number): Codec<Uint8Array> {
  return {
    read: (reader, name) => reader.bytes(name, length),
    write: (writer, name, value) => {
      if (value.length !== length) throw writer.error("bytes.length", name, `${value.length} octets where ${length} belong`);
      writer.bytes(value);
    },
  };
}

/** Octets preceded by their number in `width` octets. */
export function prefixedOctets(width: 1 | 2): Codec<Uint8Array> {
  return {
    read: (reader, name) => {
      const length = width === 1 ? reader.u8(`${name}Length`) : reader.u16(`${name}Length`);
      return reader.bytes(name, length);
    },
    write: (writer, name, value) => writer.prefixed(name, width, () => writer.bytes(value)),
  };
}

/** All octets up to the wall. */
export const restOctets: Codec<Uint8Array> = {
  read: (reader, name) => reader.rest(name),
  write: (writer, _name, value) => writer.bytes(value),
};

/** A sequence that fills a length-prefixed space: item after item up to the wall. */
export function prefixedList<T>(width: 1 | 2, item: Codec<T>): Codec<T[]> {
  return {
    read: (reader, name) => {
      const length = width === 1 ? reader.u8(`${name}Length`) : reader.u16(`${name}Length`);
      const inner = reader.sub(name, length);
      const items: T[] = [];
      while (inner.remaining > 0) items.push(item.read(inner, `[${items.length}]`));
      return items;
    },
    write: (writer, name, value) => {
      writer.prefixed(name, width, () => {
        value.forEach((entry, index) => {
          item.write(writer, `${name}[${index}]`, entry);
        });
      });
    },
  };
}

/** Fields in order. The value is an object with one property per field. */
export function struct<F extends Record<string, Codec<never> | Codec<unknown>>>(
  fields: F,
): Codec<{ [K in keyof F]: Carried<F[K]> }> {
  const entries = Object.entries(fields) as [string, Codec<unknown>][];
  return {
    read: (reader, name) => {
      const inner = reader.within(name);
      const value: Record<string, unknown> = {};
      for (const [field, codec] of entries) value[field] = codec.read(inner, field);
      reader.resume(inner);
      return value as { [K in keyof F]: Carried<F[K]> };
    },
    write: (writer, name, value) => {
      const prefix = name === "" ? "" : `${name}.`;
      for (const [field, codec] of entries) codec.write(writer, prefix + field, (value as Record<string, unknown>)[field]);
    },
  };
}
