import { CodecError } from "./errors.js";

/** Joins octet strings into a new array. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/**
 * Compares without an early exit, so that the time does not tell where two secrets or tags differ.
 * Unequal lengths return false at once: lengths are public.
 */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= (a[i] as number) ^ (b[i] as number);
  return difference === 0;
}

/** Overwrites secrets with zeros. JavaScript may hold copies elsewhere; this shortens their life, it does not end it. */
export function wipe(...secrets: readonly (Uint8Array | undefined)[]): void {
  for (const secret of secrets) secret?.fill(0);
}

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const HEX_DIGITS = utf8Encoder.encode("0123456789abcdef");

/** Lower-case hexadecimal, no separators. */
export function formatHex(octets: Uint8Array): string {
  // Decoded and not put together digit by digit: V8 keeps such a text as a tree of its pieces, many times as large, for as long as it lives.
  const digits = new Uint8Array(2 * octets.length);
  for (let i = 0; i < octets.length; i++) {
    const octet = octets[i] as number;
    digits[2 * i] = HEX_DIGITS[octet >> 4] as number;
    digits[2 * i + 1] = HEX_DIGITS[octet & 15] as number;
  }
  return utf8Decoder.decode(digits);
}

/**
 * Reads hexadecimal of either case without separators.
 * @throws CodecError `bytes.hex` for odd length or a character that is not a hexadecimal digit.
 */
export function parseHex(text: string, path = "hex"): Uint8Array {
  if (text.length % 2 !== 0) throw new CodecError("bytes.hex", path, text.length, "odd number of hexadecimal digits");
  const out = new Uint8Array(text.length / 2);
  for (let i = 0; i < out.length; i++) {
    const high = hexDigit(text.charCodeAt(2 * i));
    const low = hexDigit(text.charCodeAt(2 * i + 1));
    if (high < 0 || low < 0) throw new CodecError("bytes.hex", path, high < 0 ? 2 * i : 2 * i + 1, "not a hexadecimal digit");
    out[i] = (high << 4) | low;
  }
  return out;
}

function hexDigit(unit: number): number {
  if (unit >= 0x30 && unit <= 0x39) return unit - 0x30;
  const lower = unit | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_VALUE = new Int8Array(128).fill(-1);
for (let i = 0; i < 64; i++) BASE64_VALUE[BASE64.charCodeAt(i)] = i;

/** Standard base64 (RFC 4648 §4) with padding and without line breaks. */
export function formatBase64(octets: Uint8Array): string {
  let text = "";
  for (let i = 0; i < octets.length; i += 3) {
    const a = octets[i] as number;
    const b = octets[i + 1];
    const c = octets[i + 2];
    text += BASE64.charAt(a >> 2) + BASE64.charAt(((a & 3) << 4) | ((b ?? 0) >> 4));
    text += b === undefined ? "=" : BASE64.charAt(((b & 15) << 2) | ((c ?? 0) >> 6));
    text += c === undefined ? "=" : BASE64.charAt(c & 63);
  }
  return text;
}

/**
 * Reads standard base64 (RFC 4648 §4). Padding may be absent; white space is not skipped and
 * left-over bits must be zero, so that one octet string has one text.
 * @throws CodecError `bytes.base64` with the offset of the offending character.
 */
export function parseBase64(text: string, path = "base64"): Uint8Array {
  let end = text.length;
  if (end % 4 === 0 && text.endsWith("=")) end -= text.endsWith("==") ? 2 : 1;
  const out = new Uint8Array(Math.floor((end * 3) / 4));
  let bits = 0;
  let held = 0;
  let at = 0;
  for (let i = 0; i < end; i++) {
    const unit = text.charCodeAt(i);
    const value = unit < 128 ? (BASE64_VALUE[unit] as number) : -1;
    if (value < 0) throw new CodecError("bytes.base64", path, i, "not a base64 character");
    bits = ((bits << 6) | value) & 0xffffff;
    held += 6;
    if (held >= 8) {
      held -= 8;
      out[at++] = (bits >> held) & 0xff;
    }
  }
  if (end % 4 === 1) throw new CodecError("bytes.base64", path, end, "incomplete base64 group");
  if ((bits & ((1 << held) - 1)) !== 0) throw new CodecError("bytes.base64", path, end - 1, "left-over bits are not zero");
  return out;
}

/** UTF-8 octets of a string. */
export function utf8(text: string): Uint8Array {
  return utf8Encoder.encode(text);
}

/** The string of UTF-8 octets, or undefined where they are not well-formed UTF-8. */
export function utf8Text(octets: Uint8Array): string | undefined {
  try {
    return utf8Decoder.decode(octets);
  } catch {
    return undefined;
  }
}
