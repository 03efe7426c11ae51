import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError, concatBytes, type FieldSpan, parseHex } from "../../src/bytes/index.js";
import {
  decodeCredential,
  decodeGkma,
  decodeHello,
  decodePossessionClaim,
  decodeSync,
  encodeCredential,
  encodeGkma,
  encodeHello,
  encodePossessionClaim,
  encodeSync,
} from "../../src/mikey/index.js";
import { type Case, credentialCases, gkmaCases, helloCases, possessionCases, syncCases } from "./codec-cases.js";

interface Extension {
  readonly name: string;
  readonly cases: readonly Case<unknown>[];
  readonly decode: (data: Uint8Array, options?: { trace?: FieldSpan[] }) => unknown;
  readonly encode: (value: never) => Uint8Array;
  /** Whether octets behind a whole value are more of it. */
  readonly open: boolean;
}

const extensions: readonly Extension[] = [
  { name: "HELLO", cases: helloCases, decode: decodeHello, encode: encodeHello, open: false },
  { name: "PoP", cases: possessionCases, decode: decodePossessionClaim, encode: encodePossessionClaim, open: false },
  { name: "GKMA", cases: gkmaCases, decode: decodeGkma, encode: encodeGkma, open: true },
  { name: "sync", cases: syncCases, decode: decodeSync, encode: encodeSync, open: true },
  { name: "credential", cases: credentialCases, decode: decodeCredential, encode: encodeCredential, open: false },
];

function failure(action: () => unknown): CodecError {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(CodecError);
    return error as CodecError;
  }
  throw new Error("it was accepted");
}

describe.each(extensions)("$name extension", ({ cases, decode, encode, open }) => {
  it.each(cases)("decodes and encodes $name", ({ value, octets }) => {
    expect(decode(octets)).toEqual(value);
    expect(encode(value as never)).toEqual(octets);
  });

  it.each(cases)("its octet map covers every octet of $name once", ({ octets }) => {
    const trace: FieldSpan[] = [];
    decode(octets, { trace });
    let at = 0;
    for (const span of trace) {
      expect(span.offset, span.path).toBe(at);
      at += span.length;
    }
    expect(at).toBe(octets.length);
  });

  it.each(cases)("cut anywhere, $name is refused or reads as what is left", ({ octets }) => {
    for (let length = 0; length < octets.length; length++) {
      const cut = octets.subarray(0, length);
      try {
        expect(encode(decode(cut) as never)).toEqual(cut);
      } catch (error) {
        expect(error).toBeInstanceOf(CodecError);
      }
    }
    if (!open) expect(failure(() => decode(concatBytes(octets, Uint8Array.of(0)))).code).toBe("bytes.trailing");
  });

  it("any octets give a value that encodes alike, or a typed error", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(...cases), fc.nat(), (tail, { octets }, at) => {
        const data = concatBytes(octets.subarray(0, at % (octets.length + 1)), tail);
        try {
          expect(encode(decode(data) as never)).toEqual(data);
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe("what the extensions refuse", () => {
  it("a HELLO with a role and no group, or the reverse", () => {
    const nonce = new Uint8Array(16);
    const hello = { version: 1, nonce, group: new Uint8Array(0) };
    expect(failure(() => encodeHello({ ...hello, role: 1 })).code).toBe("bytes.layout");
    expect(failure(() => encodeHello({ ...hello, group: Uint8Array.of(1) })).code).toBe("bytes.layout");
  });

  it("proofs of nothing, and SPIs that do not ascend", () => {
    const th = "00".repeat(32);
    for (const text of [`0100${th}`, `0102010501${"05"}${th}`, `01020106010${"5"}${th}`])
      expect(failure(() => decodePossessionClaim(parseHex(text))).code).toBe("mikey.pop-order");
  });

  it("flags that nobody defined, and a restart that is no end", () => {
    for (const text of ["08", "02", "0010cafebabe"]) expect(failure(() => decodeSync(parseHex(text))).code).toBe("bytes.layout");
    expect(failure(() => encodeSync({ end: false, restart: true, entries: [] })).code).toBe("bytes.layout");
  });

  it("ids of refreshed nodes that are cut", () => {
    const [whole] = gkmaCases;
    if (whole === undefined) throw new Error("no case");
    expect(failure(() => encodeGkma({ ...whole.value, refreshed: new Uint8Array(5) })).code).toBe("bytes.length");
  });
});
