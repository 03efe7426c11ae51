import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError, type FieldSpan, formatHex } from "../../src/bytes/index.js";
import {
  decodeKeyData,
  decodeMessage,
  decodePayloadChain,
  encodeKeyData,
  encodeMessage,
  MAX_MESSAGE_OCTETS,
} from "../../src/mikey/index.js";
import { keyDataArbitrary, messageArbitrary } from "./codec-arbitraries.js";

/** A message that encodes to the same octets, or a CodecError: nothing else. */
function decodeTotally(octets: Uint8Array): void {
  try {
    const message = decodeMessage(octets, { trailing: "keep" });
    expect(formatHex(encodeMessage(message))).toBe(formatHex(octets));
  } catch (error) {
    expect(error).toBeInstanceOf(CodecError);
    const { code, path, offset } = error as CodecError;
    expect(code).toMatch(/^(bytes|mikey)\./);
    expect(path).toMatch(/^mikey/);
    expect(offset).toBeGreaterThanOrEqual(0);
    expect(offset).toBeLessThanOrEqual(octets.length);
  }
}

describe("codec", () => {
  it("any message survives encoding and decoding", () => {
    fc.assert(
      fc.property(messageArbitrary, (message) => {
        const octets = encodeMessage(message);
        fc.pre(octets.length <= MAX_MESSAGE_OCTETS);
        const decoded = decodeMessage(octets);
        expect(decoded.header).toEqual(message.header);
        expect(decoded.payloads).toEqual(message.payloads);
        expect(formatHex(encodeMessage(decoded))).toBe(formatHex(octets));
        expect(decoded.spans.at(-1)?.end ?? octets.length).toBe(octets.length);
      }),
    );
  });

  it("any octets give a message or a typed error", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), decodeTotally), { numRuns: 500 });
  });

  it("any octets after a header that looks right give a message or a typed error", () => {
    fc.assert(
      fc.property(fc.constantFrom(1, 3, 4, 5, 6, 9, 10, 11, 16, 17, 21, 241), fc.uint8Array({ maxLength: 400 }), (next, rest) => {
        decodeTotally(Uint8Array.of(1, 0, next, 0, 0, 0, 0, 0, 0, 0, ...rest));
      }),
      { numRuns: 500 },
    );
  });

  it("a message cut at any octet, or with any octet changed, gives a message or a typed error", () => {
    fc.assert(
      fc.property(messageArbitrary, fc.integer({ min: 1, max: 255 }), (message, difference) => {
        const octets = encodeMessage(message);
        const step = Math.max(1, Math.floor(octets.length / 150));
        for (let at = 0; at < octets.length; at += step) {
          decodeTotally(octets.subarray(0, at));
          const changed = octets.slice();
          changed[at] = (changed[at] as number) ^ difference;
          decodeTotally(changed);
        }
      }),
      { numRuns: 20 },
    );
  });

  it("tracing changes nothing", () => {
    fc.assert(
      fc.property(messageArbitrary, (message) => {
        const octets = encodeMessage(message);
        const trace: FieldSpan[] = [];
        expect(decodeMessage(octets, { trace })).toEqual(decodeMessage(octets));
        expect(trace.length).toBeGreaterThan(5);
      }),
      { numRuns: 30 },
    );
  });

  it("any key data survive; any octets give key data that encode alike, or a typed error", () => {
    fc.assert(
      fc.property(fc.array(keyDataArbitrary, { maxLength: 8 }), (keys) => {
        expect(decodeKeyData(encodeKeyData(keys))).toEqual(keys);
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (octets) => {
        try {
          expect(encodeKeyData(decodeKeyData(octets))).toEqual(octets);
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError);
        }
        try {
          decodePayloadChain(octets);
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("a small message cannot claim much memory or time: work is bounded by the octets that are there", () => {
    const claims = ["010005000000000000ff00", "010005000000000000ff02", "01000a0000000000000100010000000000000000ffff"];
    for (const text of claims) {
      expect(() => decodeMessage(Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)))).toThrow(
        CodecError,
      );
    }
  });
});
