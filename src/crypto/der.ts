import { concatBytes, type Reader } from "../bytes/index.js";

/** Tags of X.690 §8 that keys and signatures are made of. */
export const INTEGER = 0x02;
export const BIT_STRING = 0x03;
export const OCTET_STRING = 0x04;
export const SEQUENCE = 0x30;
export const SET = 0x31;

/**
 * The content of the next element, which has to have this tag and the shortest definite length (X.690 §10.1), at most 2^24-1 octets.
 * @throws CodecError `crypto.der`, `bytes.truncated`
 */
export function element(reader: Reader, name: string, tag: number): Reader {
  if (reader.u8(`${name}.tag`) !== tag) throw reader.error("crypto.der", name, "another type than expected");
  let length = reader.u8(`${name}.length`);
  if (length >= 0x80) {
    const width = length - 0x80;
    if (width < 1 || width > 3) throw reader.error("crypto.der", name, "length that is not definite and short");
    length = 0;
    for (let i = 0; i < width; i++) length = length * 256 + reader.u8(`${name}.length`);
    if (length < (width === 1 ? 0x80 : 256 ** (width - 1)))
      throw reader.error("crypto.der", name, "length not in its shortest form");
  }
  return reader.sub(name, length);
}

/** An INTEGER that is not negative, without its leading zero; zero is no octets. @throws CodecError `crypto.der`, `bytes.truncated` */
export function integer(reader: Reader, name: string): Uint8Array {
  const content = element(reader, name, INTEGER).rest(name);
  const [first, second] = content;
  if (first === undefined || first >= 0x80) throw reader.error("crypto.der", name, "negative or empty number");
  if (first === 0 && second !== undefined && second < 0x80)
    throw reader.error("crypto.der", name, "number not in its shortest form");
  return first === 0 ? content.slice(1) : content;
}

/** An INTEGER from big-endian octets, with or without leading zeros; no octets are zero. */
export function encodeInteger(number: Uint8Array): Uint8Array {
  let at = 0;
  while (at < number.length && number[at] === 0) at++;
  const digits = number.subarray(at);
  const signed = (digits[0] ?? 0x80) < 0x80 ? digits : concatBytes(Uint8Array.of(0), digits);
  return tlv(INTEGER, signed);
}

/** One element of at most 65535 octets. */
export function tlv(tag: number, ...content: readonly Uint8Array[]): Uint8Array {
  const octets = concatBytes(...content);
  const { length } = octets;
  if (length < 0x80) return concatBytes(Uint8Array.of(tag, length), octets);
  if (length < 0x100) return concatBytes(Uint8Array.of(tag, 0x81, length), octets);
  return concatBytes(Uint8Array.of(tag, 0x82, length >> 8, length & 0xff), octets);
}
