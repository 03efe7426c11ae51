/** MIKEY messages and payload chains: octets to structures and back, lossless and total. */
import { type Codec, type FieldSpan, Reader, type Scope, Writer } from "../bytes/index.js";
import type { DecodedMessage, Header, InnerPayload, MikeyMessage, Payload, PayloadSpan } from "./message.js";
import { headerLayout, innerPayloadLayouts, payloadLayouts } from "./payloads.js";
import { entryOf, nameOf, PayloadType } from "./registry.js";

/** Largest message that is read or written. */
export const MAX_MESSAGE_OCTETS = 65_536;
/** Most payloads in one message or chain. */
export const MAX_PAYLOADS = 1024;

/** How to decode a message. */
export interface DecodeOptions {
  /** Octets after the last payload: refused (the default), or kept in `message.trailing`, a named tolerance. */
  readonly trailing?: "refuse" | "keep";
  /** Receives one entry per field: the octet map. */
  readonly trace?: FieldSpan[];
}

/** Where octets of a nested chain stand, so that errors and the octet map speak of the whole message. */
export interface ChainOptions {
  /** Path of the field that holds the chain; default `mikey`. */
  readonly path?: string;
  /** Receives one entry per field. */
  readonly trace?: FieldSpan[];
  /** The range of the given octets that holds the chain; default all of them. */
  readonly start?: number;
  readonly end?: number;
}

type AnyPayload = Payload | InnerPayload;

interface Row {
  readonly number: number;
  readonly kind: AnyPayload["kind"];
  /** Of the first payload of its kind in a message. */
  readonly path: string;
  readonly layout: Codec<AnyPayload>;
  /** The field that authenticates everything before it. It is the last of its payload. */
  readonly authenticator: "mac" | "data" | "signature" | undefined;
}

const AUTHENTICATORS: Readonly<Partial<Record<AnyPayload["kind"], Row["authenticator"]>>> = {
  KEMAC: "mac",
  V: "data",
  SIGN: "signature",
  SIGNX: "signature",
};

/** Payloads by their numbers. */
type Rows = readonly (Row | undefined)[];

function rows(layouts: Readonly<Partial<Record<AnyPayload["kind"], unknown>>>): Rows {
  const byNumber: (Row | undefined)[] = new Array(256).fill(undefined);
  for (const [name, layout] of Object.entries(layouts)) {
    const kind = name as AnyPayload["kind"];
    const authenticator = AUTHENTICATORS[kind];
    const number = PayloadType[kind];
    byNumber[number] = { number, kind, path: `mikey.${kind}`, layout: layout as Codec<AnyPayload>, authenticator };
  }
  return byNumber;
}

const MESSAGE_ROWS = rows(payloadLayouts);
const INNER_ROWS = rows({ ...payloadLayouts, ...innerPayloadLayouts });

/**
 * Decodes one MIKEY message (RFC 3830 §6). Everything received is kept, and `encodeMessage` gives the same octets
 * again. Values without a published meaning survive wherever the layout does not depend on them; an algorithm whose
 * length is unknown is accepted only in the last field of the last payload, which then takes the rest.
 * @throws CodecError `mikey.version`, `mikey.payload-unknown`, `mikey.payload-misplaced`, `mikey.too-large`,
 *   `mikey.too-many-payloads`, `bytes.layout`, `bytes.truncated`, `bytes.trailing`
 */
export function decodeMessage(octets: Uint8Array, options: DecodeOptions = {}): DecodedMessage {
  // Not `slice`, which gives no copy of a Buffer.
  const own = new Uint8Array(octets);
  const reader = new Reader(own, "mikey", options.trace, 0, own.length, true);
  if (own.length > MAX_MESSAGE_OCTETS) {
    throw reader.error("mikey.too-large", "", `${own.length} octets, at most ${MAX_MESSAGE_OCTETS} are read`);
  }
  const { version, dataType, nextPayload, verificationRequested, prf, csbId, csMap } = headerLayout.read(reader, "HDR");
  const header: Header = { version, dataType, verificationRequested, prf, csbId, csMap };
  const spans: PayloadSpan[] = [];
  const payloads = readPayloads(reader, nextPayload, MESSAGE_ROWS, spans) as Payload[];
  if (reader.remaining === 0) return { header, payloads, octets: own, spans };
  if (options.trailing !== "keep") reader.expectEnd();
  return { header, payloads, trailing: reader.rest("trailing"), octets: own, spans };
}

/**
 * Encodes a message. Next-payload octets follow from the order.
 * @throws CodecError `bytes.range`, `bytes.length`, `bytes.layout`, `mikey.version`, `mikey.sign-not-last`,
 *   `mikey.too-large`, `mikey.too-many-payloads`
 */
export function encodeMessage(message: MikeyMessage): Uint8Array {
  const writer = new Writer("mikey", capacityFor(message.payloads));
  const { version, dataType, verificationRequested, prf, csbId, csMap } = message.header;
  const nextPayload = numberOf(message.payloads[0]);
  headerLayout.write(writer, "HDR", { version, dataType, nextPayload, verificationRequested, prf, csbId, csMap });
  writePayloads(writer, message.payloads, MESSAGE_ROWS, message.trailing === undefined || message.trailing.length === 0);
  if (message.trailing !== undefined) writer.bytes(message.trailing);
  if (writer.length > MAX_MESSAGE_OCTETS) {
    throw writer.error("mikey.too-large", "", `${writer.length} octets, at most ${MAX_MESSAGE_OCTETS} are written`);
  }
  return writer.finish();
}

/** Room for all that is not a certificate, as a rule, and for the certificates: a message of 2 kB does not grow there in steps. */
function capacityFor(payloads: readonly Payload[]): number {
  let octets = 1024;
  for (const payload of payloads) if (payload.kind === "CERT") octets += 4 + payload.data.length;
  return octets;
}

/**
 * Decodes payloads whose first type is known from elsewhere, e.g. the plaintext of an IBAKE payload (RFC 6267 §6.1.1).
 * SK and ECCPT are accepted here. 0 as the first type means no payload.
 * @throws CodecError as `decodeMessage`
 */
export function decodePayloads(octets: Uint8Array, firstType: number, options: ChainOptions = {}): AnyPayload[] {
  const reader = chainReader(octets, options);
  const payloads = readPayloads(reader, firstType, INNER_ROWS, undefined);
  reader.expectEnd();
  return payloads;
}

/** The inverse of `decodePayloads`. @throws CodecError as `encodeMessage` */
export function encodePayloads(payloads: readonly AnyPayload[]): Uint8Array {
  const writer = new Writer("mikey");
  writePayloads(writer, payloads, INNER_ROWS, true);
  return writer.finish();
}

/**
 * Decodes a chain that begins with its first payload type: TP Data, Initiator Data (RFC 6043 §6.10).
 * No octets at all are an absent chain: no payloads.
 * @throws CodecError as `decodeMessage`
 */
export function decodePayloadChain(octets: Uint8Array, options: ChainOptions = {}): AnyPayload[] {
  const reader = chainReader(octets, options);
  if (reader.remaining === 0) return [];
  const payloads = readPayloads(reader, reader.u8("firstPayload"), INNER_ROWS, undefined);
  reader.expectEnd();
  return payloads;
}

/**
 * The inverse of `decodePayloadChain`. Without payloads: one octet 0 (a chain that says that it is empty).
 * @throws CodecError as `encodeMessage`
 */
export function encodePayloadChain(payloads: readonly AnyPayload[]): Uint8Array {
  const writer = new Writer("mikey");
  writer.u8("firstPayload", numberOf(payloads[0]));
  writePayloads(writer, payloads, INNER_ROWS, true);
  return writer.finish();
}

/** A reader of the range that the options name, with their path and trace. */
export function chainReader(octets: Uint8Array, options: ChainOptions): Reader {
  return new Reader(octets, options.path ?? "mikey", options.trace, options.start ?? 0, options.end ?? octets.length);
}

/** The next-payload number that announces a payload; 0 where there is none. */
function numberOf(payload: AnyPayload | undefined): number {
  return payload === undefined ? PayloadType.LAST : PayloadType[payload.kind];
}

/** Follows the chain of next-payload octets until it ends with 0 or with a SIGN, which has none (RFC 3830 §6.5). */
function readPayloads(reader: Reader, first: number, table: Rows, spans: PayloadSpan[] | undefined): AnyPayload[] {
  const payloads: AnyPayload[] = [];
  let type = first;
  while (type !== PayloadType.LAST) {
    const row = table[type];
    if (row === undefined) throw unknownPayload(reader, type);
    if (payloads.length === MAX_PAYLOADS) {
      throw reader.error("mikey.too-many-payloads", "", `more than ${MAX_PAYLOADS} payloads`);
    }
    const { kind } = row;
    const earlier = countOf(payloads, kind);
    const index = earlier === 0 ? "" : `[${earlier}]`;
    const name = index === "" ? kind : kind + index;
    const start = reader.offset;
    let next: number = PayloadType.LAST;
    if (kind !== "SIGN") {
      const wall = reader.enter(name);
      next = reader.u8("nextPayload");
      reader.leave(wall);
    }
    const payload = row.layout.read(reader, name, scope(next === PayloadType.LAST));
    payloads.push(payload);
    spans?.push(spanOf(row, payload as Payload, row.path + index, start, reader.offset));
    type = next;
  }
  return payloads;
}

/** How many payloads of a kind there are. */
function countOf(payloads: readonly AnyPayload[], kind: AnyPayload["kind"]): number {
  let count = 0;
  for (const payload of payloads) if (payload.kind === kind) count++;
  return count;
}

function writePayloads(writer: Writer, payloads: readonly AnyPayload[], table: Rows, nothingAfter: boolean): void {
  if (payloads.length > MAX_PAYLOADS) {
    throw writer.error("mikey.too-many-payloads", "", `${payloads.length} payloads, at most ${MAX_PAYLOADS} are written`);
  }
  for (let i = 0; i < payloads.length; i++) {
    const payload = payloads[i] as AnyPayload;
    const { kind } = payload;
    const row = table[numberOf(payload)];
    if (row === undefined) throw writer.error("mikey.payload-misplaced", "", `${kind} does not stand here`);
    const last = i === payloads.length - 1;
    // The number of a kind fits: no error needs to say where.
    if (kind !== "SIGN") writer.u8("nextPayload", numberOf(payloads[i + 1]));
    else if (!last) throw writer.error("mikey.sign-not-last", kind, "a SIGN payload has no next payload");
    row.layout.write(writer, kind, payload, scope(last && nothingAfter));
  }
}

const LAST: Scope = { fields: {}, last: true };
const NOT_LAST: Scope = { fields: {}, last: false };

function scope(last: boolean): Scope {
  return last ? LAST : NOT_LAST;
}

function spanOf(row: Row, payload: Payload, path: string, start: number, end: number): PayloadSpan {
  if (row.authenticator === undefined) return { kind: payload.kind, path, start, end };
  const value = (payload as unknown as Record<string, Uint8Array>)[row.authenticator] as Uint8Array;
  return { kind: payload.kind, path, start, end, valueStart: end - value.length };
}

function unknownPayload(reader: Reader, type: number): Error {
  const entry = entryOf(PayloadType, type);
  return entry === undefined
    ? reader.error("mikey.payload-unknown", "", `payload type ${type} (${nameOf(PayloadType, type)}) has no known layout`)
    : reader.error("mikey.payload-misplaced", "", `${entry.name} does not stand here`);
}
