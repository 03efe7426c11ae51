import { concatBytes, formatBase64, parseHex } from "../../src/bytes/index.js";
import { encodeKeyData, encodeMessage, type KeyData, type MikeyMessage, type Payload } from "../../src/mikey/index.js";

/** 16 octets of master key and 14 of master salt that must never be seen in an output. */
export const KEY = Uint8Array.from({ length: 30 }, (_, i) => 0xc0 + i);
export const KEY_HEX = Buffer.from(KEY).toString("hex");

export const TEK: KeyData = { type: 2, key: KEY, validity: { kv: "spi", spi: parseHex("00000001") } };

export function kemac(keys: readonly KeyData[]): Payload {
  return { kind: "KEMAC", encrAlg: 0, encrData: encodeKeyData(keys), macAlg: 0, mac: new Uint8Array() };
}

const one = (type: number, value: number): { type: number; value: Uint8Array } => ({ type, value: Uint8Array.of(value) });

/** The message that every known receiver accepts; T is 2026-11-22T22:17:36Z. */
export const STRICT: MikeyMessage = {
  header: {
    version: 1,
    dataType: 0,
    verificationRequested: false,
    prf: 0,
    csbId: 0x01020304,
    csMap: { type: 0, entries: [{ policyNo: 0, ssrc: 0x0a0b0c0d, roc: 0 }] },
  },
  payloads: [
    { kind: "T", tsType: 0, value: parseHex("eeade88000000000") },
    { kind: "RAND", rand: parseHex("000102030405060708090a0b0c0d0e0f") },
    {
      kind: "SP",
      policyNo: 0,
      protType: 0,
      params: [one(0, 1), one(1, 16), one(2, 1), one(3, 20), one(7, 1), one(8, 1), one(10, 1), one(11, 10)],
    },
    kemac([TEK]),
  ],
};

export const STRICT_OCTETS = encodeMessage(STRICT);
export const STRICT_BASE64 = formatBase64(STRICT_OCTETS);

/** The message with one payload kind replaced, added at its place, or (without a replacement) left out. */
export function variant(kind: Payload["kind"], ...payloads: readonly Payload[]): MikeyMessage {
  return { ...STRICT, payloads: STRICT.payloads.flatMap((payload) => (payload.kind === kind ? payloads : [payload])) };
}

/** A binary body inside a text. */
export function octetsOf(...parts: readonly (string | Uint8Array)[]): Uint8Array {
  return concatBytes(...parts.map((part) => (typeof part === "string" ? new TextEncoder().encode(part) : part)));
}
