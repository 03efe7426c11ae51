import fc from "fast-check";
import { expect } from "vitest";
import { CodecError } from "../../src/bytes/index.js";

/** A parser gives a value or a CodecError for any text, above all for what is put together from the pieces of its grammar. */
export function expectTotal(parse: (text: string) => unknown, pieces: readonly string[]): void {
  const grammatical = fc.array(fc.constantFrom(...pieces), { maxLength: 40 }).map((parts) => parts.join(""));
  fc.assert(
    fc.property(fc.oneof(fc.string(), grammatical), (text) => {
      try {
        parse(text);
      } catch (error) {
        expect(error).toBeInstanceOf(CodecError);
      }
    }),
  );
}
