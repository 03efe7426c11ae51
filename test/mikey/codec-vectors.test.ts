import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { formatHex, parseBase64, parseHex, utf8Text } from "../../src/bytes/index.js";
import { DataType, decodeKeyData, decodeMessage, encodeKeyData, encodeMessage, type Payload } from "../../src/mikey/index.js";

function readVectors(path: string): unknown {
  return JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
}

/** Decodes, encodes again, and does the same with key data that are not encrypted. */
function reencode(octets: Uint8Array): ReturnType<typeof decodeMessage> {
  const message = decodeMessage(octets, { trailing: "keep" });
  expect(formatHex(encodeMessage(message))).toBe(formatHex(octets));
  for (const payload of message.payloads) {
    if (payload.kind === "KEMAC" && payload.encrAlg === 0) {
      expect(formatHex(encodeKeyData(decodeKeyData(payload.encrData)))).toBe(formatHex(payload.encrData));
    }
  }
  return message;
}

/** What the vectors' own decoder says of a payload, as far as the comparison goes. */
interface ListedPayload {
  readonly type: number | string;
  readonly [field: string]: unknown;
}

interface Vector {
  readonly name?: string;
  readonly source?: string;
  readonly hex?: string;
  readonly base64?: string;
  readonly expected?: { readonly payloads?: readonly ListedPayload[]; readonly csbId?: string; readonly dataType?: number };
}

const vectorOctets = (vector: Vector): Uint8Array =>
  vector.hex === undefined ? parseBase64((vector.base64 as string).replaceAll(/\s/g, "")) : parseHex(vector.hex);

describe("RFC 4567 §5.1", () => {
  const { vectors } = readVectors("../vectors/rfc4567-example-messages.json") as { vectors: readonly Vector[] };

  it("the offer", () => {
    const message = reencode(vectorOctets(vectors[0] as Vector));
    expect(message.header).toEqual({
      version: 1,
      dataType: DataType.PSK_INIT,
      verificationRequested: true,
      prf: 0,
      csbId: 0xcd177e50,
      csMap: { type: 0, entries: [{ policyNo: 0, ssrc: 0, roc: 0 }] },
    });
    expect(message.payloads.map(({ kind }) => kind)).toEqual(["T", "RAND", "ID", "SP", "KEMAC"]);
    const id = message.payloads[2] as Extract<Payload, { kind: "ID" }>;
    expect(utf8Text(id.data)).toBe("donald@duck.com");
    expect(message.spans.at(-1)).toMatchObject({ start: 71, valueStart: 112, end: 132 });
  });

  it("the answer", () => {
    const message = reencode(vectorOctets(vectors[1] as Vector));
    expect(message.header).toMatchObject({ dataType: DataType.PSK_RESP, verificationRequested: true });
    expect(message.payloads.map(({ kind }) => kind)).toEqual(["T", "ID", "V"]);
    expect(message.spans.at(-1)).toMatchObject({ start: 49, valueStart: 51, end: 71 });
  });
});

describe("derived PSK exchange", () => {
  const { vectors } = readVectors("../vectors/derived-mikey-psk-exchange.json") as {
    vectors: readonly { name: string; message?: string; keyDataPlain?: string; keyDataCipher?: string }[];
  };

  it.each(vectors.filter(({ message }) => message !== undefined))("$name", ({ message, keyDataPlain, keyDataCipher }) => {
    const decoded = reencode(parseHex(message as string));
    const kemac = decoded.payloads.find((payload) => payload.kind === "KEMAC");
    if (keyDataCipher !== undefined) expect(formatHex(kemac?.encrData as Uint8Array)).toBe(keyDataCipher);
    if (keyDataPlain !== undefined) {
      const keys = decodeKeyData(parseHex(keyDataPlain));
      expect(formatHex(encodeKeyData(keys))).toBe(keyDataPlain);
    }
  });
});

const THIRD_PARTY = "../../../shared/vectors/third-party/";

function thirdParty(file: string): readonly Vector[] {
  if (!existsSync(new URL(THIRD_PARTY + file, import.meta.url))) return [];
  const data = readVectors(THIRD_PARTY + file) as readonly Vector[] | { readonly vectors: readonly Vector[] };
  const vectors = "vectors" in data ? data.vectors : data;
  return vectors
    .filter(({ hex, base64 }) => hex !== undefined || base64 !== undefined)
    .map((vector, index) => ({ ...vector, name: `${index}: ${vector.name ?? vector.source ?? ""}`.slice(0, 100) }));
}

describe.each([
  "wild-mikey-messages.json",
  "onvif-example-messages.json",
  "gortsplib-messages.json",
  "mcx-streamwide-THIRDPARTY-LGPL.json",
])("%s", (file) => {
  const vectors = thirdParty(file);

  it.skipIf(vectors.length === 0)(`${file}: there are messages to decode`, () => {
    expect(vectors.length).toBeGreaterThan(0);
  });

  it.each(vectors)("$name", (vector) => {
    const octets = vectorOctets(vector);
    const message = reencode(octets);
    if (vector.expected?.csbId !== undefined) expect(message.header.csbId).toBe(Number.parseInt(vector.expected.csbId, 16));
    if (vector.expected?.dataType !== undefined) expect(message.header.dataType).toBe(vector.expected.dataType);
    const kinds = vector.expected?.payloads?.map(({ type }) => (type === "GENEXT" ? "EXT" : type));
    if (kinds?.every((type) => typeof type === "string")) expect(message.payloads.map(({ kind }) => kind)).toEqual(kinds);
  });
});
