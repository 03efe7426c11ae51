/** Key data chains: what the encrypted data of a KEMAC hold (RFC 3830 §6.2, §6.13). */
import { type Name, type Reader, Writer } from "../bytes/index.js";
import { type ChainOptions, chainReader, MAX_PAYLOADS } from "./codec.js";
import type { IdPayload, KeyData } from "./message.js";
import { keyDataLayout, payloadLayouts } from "./payloads.js";
import { PayloadType } from "./registry.js";

/**
 * Decodes a chain of key data. The first type is fixed by the mode, so the chain begins with a key data
 * sub-payload; no octets are no keys (an update message may carry none, RFC 3830 §4.5).
 * @throws CodecError `bytes.truncated`, `bytes.trailing`, `bytes.layout`, `mikey.key-data-chain`, `mikey.too-many-payloads`
 */
export function decodeKeyData(octets: Uint8Array, options: ChainOptions = {}): KeyData[] {
  const reader = chainReader(octets, options);
  return reader.remaining === 0 ? [] : readKeys(reader, PayloadType.KEY_DATA);
}

/** The inverse of `decodeKeyData`. @throws CodecError `bytes.range`, `bytes.layout` */
export function encodeKeyData(keys: readonly KeyData[]): Uint8Array {
  // As much as a TEK, its salt and its SPI take: what holds keys does not grow, and leave a copy behind.
  const writer = new Writer("mikey", 64 * keys.length);
  writeKeys(writer, keys);
  return writer.finish();
}

/** The plaintext of a KEMAC in the public-key and RSA-R modes and in the IBAKE key response. */
export interface IdentifiedKeys {
  /** The identity of the sender, a complete ID payload inside the encryption (RFC 3830 §3.2). */
  readonly id: IdPayload;
  readonly keys: readonly KeyData[];
}

/**
 * Decodes an ID payload followed by key data.
 * @throws CodecError as `decodeKeyData`
 */
export function decodeIdentifiedKeys(octets: Uint8Array, options: ChainOptions = {}): IdentifiedKeys {
  const reader = chainReader(octets, options);
  const next = readNext(reader, "ID");
  const id = payloadLayouts.ID.read(reader, "ID");
  return { id, keys: readKeys(reader, next) };
}

/** The inverse of `decodeIdentifiedKeys`. @throws CodecError `bytes.range`, `bytes.layout` */
export function encodeIdentifiedKeys({ id, keys }: IdentifiedKeys): Uint8Array {
  const writer = new Writer("mikey");
  writer.u8("ID.nextPayload", keys.length > 0 ? PayloadType.KEY_DATA : PayloadType.LAST);
  payloadLayouts.ID.write(writer, "ID", id);
  writeKeys(writer, keys);
  return writer.finish();
}

function readKeys(reader: Reader, first: number): KeyData[] {
  const keys: KeyData[] = [];
  let next = first;
  while (next !== PayloadType.LAST) {
    if (keys.length === MAX_PAYLOADS) throw reader.error("mikey.too-many-payloads", "", `more than ${MAX_PAYLOADS} keys`);
    next = readNext(reader, keys.length);
    keys.push(keyDataLayout.read(reader, keys.length));
  }
  reader.expectEnd();
  return keys;
}

/** Only key data and the end may follow inside a KEMAC. */
function readNext(reader: Reader, name: Name): number {
  const wall = reader.enter(name);
  const next = reader.peek();
  if (next !== undefined && next !== PayloadType.KEY_DATA && next !== PayloadType.LAST) {
    throw reader.error("mikey.key-data-chain", "nextPayload", `payload type ${next} does not follow inside a KEMAC`);
  }
  reader.u8("nextPayload");
  reader.leave(wall);
  return next as number;
}

function writeKeys(writer: Writer, keys: readonly KeyData[]): void {
  keys.forEach((key, index) => {
    writer.u8("nextPayload", index + 1 < keys.length ? PayloadType.KEY_DATA : PayloadType.LAST);
    keyDataLayout.write(writer, index, key);
  });
}
