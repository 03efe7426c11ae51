/** The octet map of a message with what is nested in its payloads, and which of its octets are key material. */
import { CodecError, type FieldSpan } from "../bytes/index.js";
import {
  type ChainOptions,
  decodeCredential,
  decodeGkma,
  decodeHello,
  decodeKeyData,
  decodeKeyIds,
  decodeMessage,
  decodeOmaBcast,
  decodePayloadChain,
  decodePossessionClaim,
  decodeSync,
  decodeTicketData,
  EncrAlg,
  ExtensionType,
  TicketType,
} from "../mikey/index.js";
import type { Problem } from "./contracts.js";
import type { FieldValues } from "./fields.js";

/** Fields in the order of their octets. */
export interface OctetMap {
  readonly fields: readonly FieldSpan[];
  readonly values: FieldValues;
  /** What could not be decoded inside payloads. */
  readonly problems: readonly Problem[];
  /** For each octet: is it key material, or may it be? */
  readonly secret: readonly boolean[];
}

/** How deep messages are looked for inside messages. */
const MAX_DEPTH = 3;

/** HDR up to the CS ID map info: numbers that are no keys whatever happened to the message. */
const FIXED_HEADER = 10;
/** A RAND has 16 octets; a longer string in a damaged message may have swallowed a key. */
const HARMLESS_OCTETS = 16;

/**
 * Maps the octets of a message.
 * @param trace what `decodeMessage` left, also where it failed
 * @param failure why it failed: one wrong length makes keys look like something else, so that of a damaged message
 *   the payload that failed, all behind it and every long octet string are treated as key material
 */
export function mapOctets(octets: Uint8Array, trace: readonly FieldSpan[], failure?: CodecError): OctetMap {
  const builder = new MapBuilder(octets);
  builder.addAll(trace, 0);
  if (failure !== undefined) {
    const payload = failure.path.split(".")[1];
    const start = trace.find(({ path }) => payload !== undefined && path.split(".")[1] === payload)?.offset ?? failure.offset;
    builder.hide(Math.max(start, Math.min(FIXED_HEADER, failure.offset)), octets.length);
    for (const { offset, length, value } of trace) {
      if (value instanceof Uint8Array && length > HARMLESS_OCTETS) builder.hide(offset, offset + length);
    }
  }
  return builder;
}

/** Extensions whose data have fields of their own. */
const EXTENSION_CONTENTS = new Map<number, (octets: Uint8Array, options: ChainOptions) => unknown>([
  [ExtensionType.KEY_ID, decodeKeyIds],
  [ExtensionType.OMA_BCAST, decodeOmaBcast],
  [ExtensionType.HELLO, decodeHello],
  [ExtensionType.GKMA, decodeGkma],
  [ExtensionType.PROOF_OF_POSSESSION, decodePossessionClaim],
  [ExtensionType.SYNC, decodeSync],
  [ExtensionType.CREDENTIAL, decodeCredential],
]);

class MapBuilder implements OctetMap {
  readonly fields: FieldSpan[] = [];
  readonly values = new Map<string, number | Uint8Array>();
  readonly problems: Problem[] = [];
  readonly secret: boolean[];
  readonly #octets: Uint8Array;

  constructor(octets: Uint8Array) {
    this.#octets = octets;
    this.secret = new Array<boolean>(octets.length).fill(false);
  }

  hide(start: number, end: number): void {
    this.secret.fill(true, start, end);
  }

  addAll(trace: readonly FieldSpan[], depth: number): void {
    for (const span of trace) {
      this.values.set(span.path, span.value);
      if (span.value instanceof Uint8Array && span.length > 0 && this.#expand(span, depth)) continue;
      this.fields.push(span);
    }
  }

  /** Puts the fields of nested content in the place of the field that holds it. False where it holds none. */
  #expand(span: FieldSpan, depth: number): boolean {
    const name = span.path.slice(span.path.lastIndexOf(".") + 1);
    const owner = span.path.slice(0, span.path.lastIndexOf("."));
    const end = span.offset + span.length;
    if (name === "trailing") {
      if (this.#octets.subarray(span.offset, end).some((octet) => octet !== 0)) this.hide(span.offset, end);
      return false;
    }
    if (name === "encrData" && /KEMAC(\[\d+\])?$/.test(owner)) {
      if (this.values.get(`${owner}.encrAlg`) !== EncrAlg.NULL) return false;
      return this.#nested(span, depth, "error", (trace) => {
        for (const key of readKeys(this.#octets, span, trace)) if (key.end > key.start) this.hide(key.start, key.end);
      });
    }
    if (name === "tpData" || name === "initiatorData") {
      return this.#nested(span, depth, "error", (trace) => {
        decodePayloadChain(this.#octets, { path: span.path, trace, start: span.offset, end });
      });
    }
    if (name === "ticketData") {
      if (this.values.get(`${owner}.ticketType`) !== TicketType.MIKEY_BASE) return false;
      return this.#nested(span, depth, "warning", (trace) => {
        decodeTicketData(this.#octets, { path: span.path, trace, start: span.offset, end });
      });
    }
    const content = name === "data" ? EXTENSION_CONTENTS.get(this.values.get(`${owner}.extType`) as number) : undefined;
    if (content !== undefined) {
      return this.#nested(span, depth, "error", (trace) => {
        content(this.#octets, { path: span.path, trace, start: span.offset, end });
      });
    }
    if (name === "data" && this.values.get(`${owner}.extType`) === ExtensionType.NESTED_MESSAGE) {
      return this.#nested(span, depth, "error", (trace) => {
        const inner: FieldSpan[] = [];
        try {
          decodeMessage(this.#octets.subarray(span.offset, end), { trace: inner });
        } finally {
          for (const field of inner) {
            trace.push({ ...field, path: field.path.replace(/^mikey/, span.path), offset: field.offset + span.offset });
          }
        }
      });
    }
    return false;
  }

  /** Decodes nested content; what cannot be decoded is kept whole, and hidden: nobody knows what it is. */
  #nested(span: FieldSpan, depth: number, severity: Problem["severity"], decode: (trace: FieldSpan[]) => void): boolean {
    const trace: FieldSpan[] = [];
    try {
      if (depth === MAX_DEPTH) throw new CodecError("tools.too-deep", span.path, span.offset, "nested too deep to be looked into");
      decode(trace);
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      this.problems.push({ code: error.code, severity, path: error.path, message: error.message });
      this.hide(span.offset, span.offset + span.length);
      return false;
    }
    this.addAll(trace, depth + 1);
    return true;
  }
}

/** Decodes key data into the trace and tells where keys and salts stand. */
function readKeys(octets: Uint8Array, span: FieldSpan, trace: FieldSpan[]): { start: number; end: number }[] {
  decodeKeyData(octets, { path: span.path, trace, start: span.offset, end: span.offset + span.length });
  return trace
    .filter(({ path }) => path.endsWith(".key") || path.endsWith(".salt"))
    .map(({ offset, length }) => ({ start: offset, end: offset + length }));
}

/** True where a range has key material. */
export function holdsSecret({ secret }: Pick<OctetMap, "secret">, start: number, end: number): boolean {
  return secret.slice(start, end).includes(true);
}

/** Hexadecimal of a range; `**` stands for each octet of key material unless it is to be revealed. */
export function hexOf(octets: Uint8Array, map: Pick<OctetMap, "secret">, start: number, end: number, reveal: boolean): string {
  let text = "";
  for (let at = start; at < end; at++) {
    text += !reveal && map.secret[at] === true ? "**" : (octets[at] as number).toString(16).padStart(2, "0");
  }
  return text;
}
