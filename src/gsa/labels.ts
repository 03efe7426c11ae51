/** The labels of docs/protocol.md, once; they never begin as MIKEY's constants do. */
import { concatBytes, utf8 } from "../bytes/index.js";

export const LABEL = {
  registration: utf8("ww1 reg"),
  proof: utf8("ww1 pop"),
  held: utf8("ww1 held"),
  request: utf8("ww1 req"),
  acknowledgement: utf8("ww1 ack"),
  down: utf8("ww1 down"),
  up: utf8("ww1 up"),
  verification: utf8("ww1 v"),
  tek: utf8("ww1 tek"),
  salt: utf8("ww1 salt"),
  signature: utf8("ww1 sign"),
  credential: utf8("ww1 credential"),
} as const;

/** A number in `width` octets, network byte order. */
export function bigEndian(value: number, width: number): Uint8Array {
  const out = new Uint8Array(width);
  for (let i = width - 1, rest = value; i >= 0; i--, rest = Math.floor(rest / 256)) out[i] = rest;
  return out;
}

/** `Ln x`: octets preceded by their number in `width` octets. */
export function prefixed(width: number, octets: Uint8Array): Uint8Array {
  return concatBytes(bigEndian(octets.length, width), octets);
}
