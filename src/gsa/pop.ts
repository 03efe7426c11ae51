import { type Codec, octets, prefixedOctets, Reader, struct, u8, Writer } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import { type Csb, ExtensionType, type GeneralExtensionPayload } from "../mikey/index.js";

/** The version of docs/protocol.md that this code speaks. */
export const PROTOCOL_VERSION = 1;

/** HELLO extension (docs/protocol.md §4.2). */
export interface Hello {
  readonly version: number;
  /** 16 octets. */
  readonly nonce: Uint8Array;
  /** Empty in two-party sessions. */
  readonly group: Uint8Array;
}

const hello: Codec<Hello> = struct({ version: u8, nonce: octets(16), group: prefixedOctets(1) });

/** Reads the data of a HELLO extension. @throws CodecError `bytes.truncated`, `bytes.trailing` */
export function decodeHello(data: Uint8Array): Hello {
  const reader = new Reader(data, "hello");
  const value = hello.read(reader, "");
  reader.expectEnd();
  return value;
}

/** Writes the data of a HELLO extension. @throws CodecError `bytes.length`, `bytes.range` */
export function encodeHello(value: Hello): Uint8Array {
  const writer = new Writer("hello", 64);
  hello.write(writer, "", value);
  return writer.finish();
}

/** A HELLO for a two-party session, with a fresh nonce. */
export function helloExtension(crypto: CryptoProvider): GeneralExtensionPayload {
  const data = encodeHello({ version: PROTOCOL_VERSION, nonce: crypto.randomBytes(16), group: new Uint8Array(0) });
  return { kind: "EXT", extType: ExtensionType.HELLO, data };
}

/** What a response says to the extensions of its request: HELLO to HELLO (docs/protocol.md §4.2). */
export function answeringHello(crypto: CryptoProvider, { initiatorExtensions }: Pick<Csb, "initiatorExtensions">) {
  return helloNonce(initiatorExtensions) === undefined ? [] : [helloExtension(crypto)];
}

/** The nonce of the HELLO among extensions; undefined where there is none that this version understands. */
export function helloNonce(extensions: readonly GeneralExtensionPayload[]): Uint8Array | undefined {
  for (const { extType, data } of extensions) {
    if (extType !== ExtensionType.HELLO) continue;
    try {
      const { version, nonce } = decodeHello(data);
      return version === PROTOCOL_VERSION ? nonce : undefined;
    } catch {
      return undefined;
    }
  }
  return undefined;
}

/** PoP extension (docs/protocol.md §6.1). */
export interface PossessionClaim {
  readonly version: number;
  /** Ascending, without duplicates, at least one. */
  readonly spis: readonly Uint8Array[];
  /** SHA-256 of the exchange, 32 octets. */
  readonly transcript: Uint8Array;
}

const spi = prefixedOctets(1);
const transcript = octets(32);

/** Reads the data of a PoP extension. @throws CodecError `bytes.truncated`, `bytes.trailing`, `gsa.pop-order` */
export function decodePossessionClaim(data: Uint8Array): PossessionClaim {
  const reader = new Reader(data, "pop");
  const version = reader.u8("version");
  const count = reader.u8("n");
  const spis: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    const next = spi.read(reader, `spis[${i}]`);
    const previous = spis.at(-1);
    if (previous !== undefined && compareOctets(previous, next) >= 0)
      throw reader.error("gsa.pop-order", `spis[${i}]`, "SPIs do not ascend");
    spis.push(next);
  }
  if (count === 0) throw reader.error("gsa.pop-order", "n", "no SPI");
  const th = transcript.read(reader, "transcript");
  reader.expectEnd();
  return { version, spis, transcript: th };
}

/** Writes the data of a PoP extension; sorts the SPIs. @throws CodecError `bytes.length`, `bytes.range` */
export function encodePossessionClaim(claim: PossessionClaim): Uint8Array {
  const writer = new Writer("pop", 64);
  writer.u8("version", claim.version);
  writer.u8("n", claim.spis.length);
  [...claim.spis].sort(compareOctets).forEach((value, i) => {
    spi.write(writer, `spis[${i}]`, value);
  });
  transcript.write(writer, "transcript", claim.transcript);
  return writer.finish();
}

/** Octet-wise order; a prefix sorts first. */
function compareOctets(a: Uint8Array, b: Uint8Array): number {
  const shorter = Math.min(a.length, b.length);
  for (let i = 0; i < shorter; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}
