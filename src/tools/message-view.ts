/** A message as plain JSON: numbers with their names, octets in hexadecimal, key material hidden. */
import type { FieldSpan } from "../bytes/index.js";
import { CodecError } from "../bytes/index.js";
import {
  CsMapType,
  type DecodedMessage,
  decodeKeyData,
  EncrAlg,
  ExtensionType,
  entryOf,
  type KeyData,
  MikeyError,
  nameOf,
  type Payload,
  ProtType,
  policyNumber,
  type SecurityPolicyPayload,
} from "../mikey/index.js";
import { describeTime, hex32, printable, tableOf } from "./fields.js";
import { policyOf } from "./lint.js";
import type { OctetMap } from "./octet-map.js";

/** A value as JSON has it. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [name: string]: JsonValue };
export type JsonObject = { readonly [name: string]: JsonValue };

/** The decoded form of message.ts with names beside the numbers (`macAlgName`), SSRC and CSB ID in hexadecimal. */
export interface MessageView {
  readonly header: JsonObject;
  readonly payloads: readonly JsonObject[];
  /** Octets behind the last payload, where there are any. */
  readonly trailing?: string;
}

type Hex = (start: number, end: number) => string;

/**
 * @param trace the octet map as the decoder left it
 * @param map the same with nested content
 * @param hex octets of a range, key material hidden
 */
export function viewMessage(message: DecodedMessage, trace: readonly FieldSpan[], map: OctetMap, hex: Hex): MessageView {
  const view = new Viewer(new Map([...trace, ...map.fields].map((span) => [span.path, span])), hex);
  const { trailing, octets } = message;
  const header = view.header(message);
  const payloads = message.payloads.map((payload, index) => view.payload(payload, message.spans[index]?.path ?? ""));
  if (trailing === undefined) return { header, payloads };
  return { header, payloads, trailing: hex(octets.length - trailing.length, octets.length) };
}

class Viewer {
  readonly #spans: ReadonlyMap<string, FieldSpan>;
  readonly #hex: Hex;

  constructor(spans: ReadonlyMap<string, FieldSpan>, hex: Hex) {
    this.#spans = spans;
    this.#hex = hex;
  }

  header({ header }: DecodedMessage): JsonObject {
    const { csMap, csbId, ...rest } = header;
    const entries: JsonValue[] = (csMap.entries ?? []).map((entry, index) => {
      const path = `mikey.HDR.csMap[${index}]`;
      if ("ssrc" in entry) return { csId: index + 1, policyNo: entry.policyNo, ssrc: hex32(entry.ssrc), roc: entry.roc };
      return this.#object(entry as unknown as Readonly<Record<string, unknown>>, path);
    });
    return {
      ...this.#object(rest as unknown as Readonly<Record<string, unknown>>, "mikey.HDR"),
      csbId: hex32(csbId),
      csMap: {
        type: csMap.type,
        typeName: nameOf(CsMapType, csMap.type),
        count: csMap.entries === undefined ? csMap.count : csMap.entries.length,
        entries,
      },
    };
  }

  payload(payload: Payload, path: string): JsonObject {
    const { kind, ...fields } = payload;
    const view: JsonObject = { kind, ...this.#object(fields as unknown as Readonly<Record<string, unknown>>, path) };
    switch (kind) {
      case "SP":
        return { ...view, ...viewPolicy(payload) };
      case "KEMAC": {
        const keys = payload.encrAlg === EncrAlg.NULL ? readKeys(payload.encrData) : undefined;
        return keys === undefined
          ? view
          : { ...view, keys: keys.map((key, index) => this.#object({ ...key }, `${path}.encrData[${index}]`)) };
      }
      case "T":
      case "TR": {
        const time = describeTime(payload.tsType, payload.value);
        return time === undefined ? view : { ...view, time };
      }
      case "ID":
      case "IDR":
      case "EXT": {
        const text = kind !== "EXT" || payload.extType === ExtensionType.SDP_IDS ? printable(payload.data) : undefined;
        return text === undefined ? view : { ...view, text };
      }
      default:
        return view;
    }
  }

  /** Each field, and beside a coded number its name. */
  #object(fields: Readonly<Record<string, unknown>>, path: string): { [name: string]: JsonValue } {
    const view: { [name: string]: JsonValue } = {};
    for (const [name, value] of Object.entries(fields)) {
      const at = `${path}.${name}`;
      if (typeof value === "number") {
        view[name] = value;
        const table = tableOf(at);
        if (table !== undefined) view[`${name}Name`] = nameOf(table, value);
      } else if (value instanceof Uint8Array) {
        const span = this.#spans.get(at);
        view[name] = span === undefined ? "" : this.#hex(span.offset, span.offset + span.length);
      } else if (Array.isArray(value)) {
        view[name] = value.map(
          (item, index): JsonValue =>
            typeof item === "number" ? item : this.#object(item as Readonly<Record<string, unknown>>, `${at}[${index}]`),
        );
      } else if (name === "validity") {
        view[name] = this.#validity(value as KeyData["validity"], path);
      } else {
        view[name] = value as JsonValue;
      }
    }
    return view;
  }

  /** KV data stand among the fields of their payload. */
  #validity(validity: KeyData["validity"], path: string): JsonValue {
    const octets = (field: string): string => {
      const span = this.#spans.get(`${path}.${field}`);
      return span === undefined ? "" : this.#hex(span.offset, span.offset + span.length);
    };
    if (validity.kv === "spi") return { kv: "spi", spi: octets("spi") };
    if (validity.kv === "interval") return { kv: "interval", from: octets("validFrom"), to: octets("validTo") };
    return { kv: "null" };
  }
}

/** Parameters by name, and the SRTP suite that they amount to. */
function viewPolicy(payload: SecurityPolicyPayload): JsonObject {
  const table = entryOf(ProtType, payload.protType)?.params;
  const named: { [name: string]: JsonValue } = {};
  for (const { type, value } of payload.params) {
    const number = policyNumber(value);
    if (table !== undefined && number !== undefined && entryOf(table, type) !== undefined) named[nameOf(table, type)] = number;
  }
  const suite = payload.protType === ProtType.SRTP ? suiteOfPolicy(payload) : undefined;
  return suite === undefined ? { named } : { named, suite };
}

/** The name of the SRTP suite, where the policy is one that we know. */
export function suiteOfPolicy(payload: SecurityPolicyPayload): string | undefined {
  try {
    return policyOf(payload).suite;
  } catch (error) {
    // Lint says so.
    if (error instanceof MikeyError) return undefined;
    throw error;
  }
}

function readKeys(encrData: Uint8Array): readonly KeyData[] | undefined {
  try {
    return decodeKeyData(encrData);
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}
