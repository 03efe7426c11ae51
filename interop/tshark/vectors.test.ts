import { beforeAll, expect, it } from "vitest";
import { parseHex } from "../../src/bytes/index.js";
import { type LocatedMessage, type VectorField, vectorMessages } from "../../test/mikey/mikey-vectors.js";
import { describePeer } from "../peers.js";
import { type Dissection, dissect } from "./dissect.js";

/** tshark writes octets as `00:01:02`. */
const shown = (hex: string): string => hex.replaceAll(/..(?=.)/g, "$&:");

/** A payload of a message, as the vector's own breakdown has it. */
interface Part {
  readonly name: string;
  readonly fields: readonly VectorField[];
  field(name: string): string | undefined;
}

/** The payloads behind HDR. */
function partsOf(fields: readonly VectorField[]): Part[] {
  const parts = new Map<string, VectorField[]>();
  for (const field of fields) {
    const [prefix = "", name = ""] = /^(.*?)\.(.*)$/.exec(field.field)?.slice(1) ?? [];
    if (prefix === "HDR") continue;
    parts.set(prefix, [...(parts.get(prefix) ?? []), { ...field, field: name }]);
  }
  return [...parts].map(([prefix, own]) => ({
    name: prefix.replace(/\[\d+\]$/, ""),
    fields: own,
    field: (name) => own.find(({ field }) => field === name)?.hex,
  }));
}

/** Where tshark 4.0 stops reading, without a complaint (interop/README.md). */
function stops({ name, field }: Part): boolean {
  return (
    name === "CHASH" ||
    name === "SIGNX" ||
    (name === "T" && field("TS type") === "03") ||
    (name === "DH" && (field("Reserved, KV") !== "00" || Number.parseInt(field("DH-Group") as string, 16) > 240)) ||
    (name === "KEMAC" && field("MAC alg") === "02") ||
    (name === "V" && field("Auth alg") === "02")
  );
}

/** A GENERIC-ID map is taken for payloads, and a certificate's URL for a certificate. */
function isMisread({ vector, message }: LocatedMessage): boolean {
  return vector.mapType === 2 || message.fields.some(({ field, hex }) => field.endsWith("Cert type") && hex === "01");
}

/** Fields of the vector by the names that tshark has for them. */
const FIELDS: readonly (readonly [payload: string, field: string, tshark: string])[] = [
  ["RAND", "RAND", "mikey.rand.data"],
  ["KEMAC", "Encr data", "mikey.kemac.key_data"],
  ["KEMAC", "MAC", "mikey.kemac.mac"],
  ["PKE", "Data", "mikey.pke.data"],
  ["DH", "DH-value", "mikey.dh.value"],
  ["SIGN", "Signature", "mikey.sign.data"],
  ["V", "Ver data", "mikey.v.ver_data"],
];

describePeer("tshark", "the published vectors [dissects our messages]", () => {
  let seen: Dissection[];
  beforeAll(async () => {
    seen = await dissect(vectorMessages.map(({ message }) => parseHex(message.octets)));
  });

  it.each(vectorMessages.map((located, index) => [located.title, located, index] as const))("%s", (_title, located, index) => {
    const { vector, exchange, message } = located;
    const dissection = seen[index] as Dissection;
    expect(dissection.isMikey).toBe(true);
    expect(dissection.values("mikey.type").map(Number)).toEqual([Number.parseInt(message.octets.slice(2, 4), 16)]);
    expect(dissection.values("mikey.csb_id").map(Number)).toEqual([Number.parseInt(vector.csbId, 16)]);
    if (isMisread(located)) return;
    expect(dissection.complaints).toEqual([]);

    const parts = partsOf(message.fields);
    const stop = parts.findIndex(stops);
    const read = stop === -1 ? parts : parts.slice(0, stop + 1);
    const first = message.fields.find(({ field }) => field === "HDR.next payload")?.hex as string;
    const chain = [first, ...read.map((part) => part.field("next payload"))].filter((next) => next !== undefined);
    expect(dissection.values("mikey.next_payload").map(Number)).toEqual(chain.map((next) => Number.parseInt(next, 16)));

    const whole = stop === -1 ? parts : parts.slice(0, stop);
    // What is not encrypted is dissected down to the key.
    const readable = message.kemac?.encrAlg === 0 && message.kemac.keyData !== "";
    expect(dissection.values("mikey.key.data")).toEqual(readable ? exchange.keys.map(({ key }) => shown(key)) : []);
    for (const [payload, field, name] of FIELDS) {
      if (readable && field === "Encr data") continue;
      const own = whole.filter((part) => part.name === payload).map((part) => part.field(field));
      expect(dissection.values(name).slice(0, own.length), name).toEqual(own.map((hex) => shown(hex ?? "")));
    }
  });
});
