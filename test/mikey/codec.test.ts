import { describe, expect, it } from "vitest";
import { CodecError, concatBytes, type FieldSpan, formatHex, parseHex } from "../../src/bytes/index.js";
import {
  decodeIdentifiedKeys,
  decodeKeyData,
  decodeMessage,
  decodePayloadChain,
  decodePayloads,
  encodeIdentifiedKeys,
  encodeKeyData,
  encodeMessage,
  encodePayloadChain,
  encodePayloads,
  entriesOf,
  type Header,
  MAX_MESSAGE_OCTETS,
  MAX_PAYLOADS,
  type MikeyMessage,
  type Payload,
  PayloadType,
} from "../../src/mikey/index.js";
import { csMapCases, innerPayloadCases, keyDataCases, payloadCases } from "./codec-cases.js";

const HEADER: Header = {
  version: 1,
  dataType: 0,
  verificationRequested: true,
  prf: 1,
  csbId: 0x01020304,
  csMap: { type: 1, count: 0 },
};

/** The header above, announcing `next`. */
const header = (next: number): Uint8Array => parseHex(`0100${next.toString(16).padStart(2, "0")}81010203040001`);

function failure(decode: () => unknown): CodecError {
  try {
    decode();
  } catch (error) {
    expect(error).toBeInstanceOf(CodecError);
    return error as CodecError;
  }
  throw new Error("it was accepted");
}

describe("payloads", () => {
  it("the cases reach every payload type that has a layout", () => {
    const tested = new Set<string>([...payloadCases, ...innerPayloadCases].map(({ value }) => value.kind));
    for (const { name } of entriesOf(PayloadType)) {
      if (name !== "LAST" && name !== "KEY_DATA") expect(tested, name).toContain(name);
    }
  });

  it.each(payloadCases)("decodes $name", ({ value, octets }) => {
    const message = decodeMessage(concatBytes(header(PayloadType[value.kind]), octets));
    expect(message.header).toEqual(HEADER);
    expect(message.payloads).toEqual([value]);
    expect(message.trailing).toBeUndefined();
  });

  it.each(payloadCases)("encodes $name", ({ value, octets }) => {
    const encoded = encodeMessage({ header: HEADER, payloads: [value] });
    expect(formatHex(encoded)).toBe(formatHex(header(PayloadType[value.kind])) + formatHex(octets));
  });

  it.each(innerPayloadCases)("decodes and encodes $name", ({ value, octets }) => {
    expect(decodePayloads(octets, PayloadType[value.kind])).toEqual([value]);
    expect(encodePayloads([value])).toEqual(octets);
  });

  it.each(innerPayloadCases)("refuses $name outside of encrypted data", ({ value, octets }) => {
    const error = failure(() => decodeMessage(concatBytes(header(PayloadType[value.kind]), octets)));
    expect(error.code).toBe("mikey.payload-misplaced");
    expect(failure(() => encodeMessage({ header: HEADER, payloads: [value as unknown as Payload] })).code).toBe(
      "mikey.payload-misplaced",
    );
  });

  it.each(payloadCases)("refuses $name cut short at every octet", ({ value, octets }) => {
    const whole = concatBytes(header(PayloadType[value.kind]), octets);
    const restTakesAll = value.kind === "KEMAC" && value.macAlg > 2;
    for (let length = 0; length < whole.length; length++) {
      const cut = whole.subarray(0, length);
      if ((restTakesAll && length >= whole.length - 3) || (value.kind === "T" && value.tsType > 3 && length >= whole.length - 2)) {
        expect(encodeMessage(decodeMessage(cut))).toEqual(cut);
      } else {
        const error = failure(() => decodeMessage(cut));
        expect(error.code).toBe("bytes.truncated");
        expect(error.offset).toBeLessThanOrEqual(length);
        expect(error.path).toMatch(/^mikey\./);
      }
    }
  });
});

describe("CS ID map", () => {
  const start = "01000080" + "01020304";

  it.each(csMapCases)("decodes and encodes $name", ({ value, octets }) => {
    const whole = concatBytes(parseHex(start), octets);
    const message = decodeMessage(whole);
    expect(message.header.csMap).toEqual(value);
    expect(encodeMessage(message)).toEqual(whole);
  });

  it("carries 255 crypto sessions and refuses 256", () => {
    const entries = Array.from({ length: 255 }, (_, i) => ({ policyNo: i, ssrc: i * 0x01010101, roc: i }));
    const message: MikeyMessage = { header: { ...HEADER, csMap: { type: 0, entries } }, payloads: [] };
    expect(decodeMessage(encodeMessage(message)).header.csMap).toEqual({ type: 0, entries });
    const more: MikeyMessage = {
      header: { ...HEADER, csMap: { type: 0, entries: [...entries, { policyNo: 0, ssrc: 0, roc: 0 }] } },
      payloads: [],
    };
    expect(failure(() => encodeMessage(more)).code).toBe("bytes.range");
  });

  it("refuses entries of an unassigned map type, both ways", () => {
    expect(failure(() => decodeMessage(parseHex(`${start}01f1000000`)))).toMatchObject({
      code: "bytes.layout",
      path: "mikey.HDR.csMap",
      offset: 10,
    });
    const message: MikeyMessage = { header: { ...HEADER, csMap: { type: 0xf1, count: 1 } }, payloads: [] };
    expect(failure(() => encodeMessage(message)).code).toBe("bytes.layout");
  });

  it("refuses to encode map type 0 with a count but no entries", () => {
    const message: MikeyMessage = { header: { ...HEADER, csMap: { type: 0, count: 2 } as never }, payloads: [] };
    expect(failure(() => encodeMessage(message)).code).toBe("bytes.layout");
  });
});

describe("messages", () => {
  it("refuses every version but 1, before anything else", () => {
    for (const version of [0, 2, 255]) {
      expect(failure(() => decodeMessage(Uint8Array.of(version)))).toMatchObject({
        code: "mikey.version",
        path: "mikey.HDR.version",
        offset: 0,
      });
    }
    expect(failure(() => encodeMessage({ header: { ...HEADER, version: 2 }, payloads: [] })).code).toBe("mikey.version");
  });

  it("names the field, its offset and what is missing", () => {
    expect(() => decodeMessage(concatBytes(header(10), parseHex("0000000009000101")))).toThrow(
      "mikey.SP.params @15: need 9 octets, have 3",
    );
    expect(() => decodeMessage(new Uint8Array())).toThrow("mikey.HDR.version @0: need 1 octets, have 0");
  });

  it("refuses payload types without a layout and says which", () => {
    for (const type of [18, 19, 27, 240, 255]) {
      expect(failure(() => decodeMessage(concatBytes(header(type), parseHex("0000"))))).toMatchObject({
        code: "mikey.payload-unknown",
        offset: 10,
      });
    }
    expect(failure(() => decodeMessage(concatBytes(header(PayloadType.KEY_DATA), parseHex("00000000")))).code).toBe(
      "mikey.payload-misplaced",
    );
  });

  it.each([
    ["MAC alg of KEMAC", PayloadType.KEMAC, "05 00 0000 09 0102030405"],
    ["Auth alg of V", PayloadType.V, "05 f2 0102"],
    ["TS type of T", PayloadType.T, "0b 09 0102"],
    ["Hash func of CHASH", PayloadType.CHASH, "05 09 0102"],
    ["DH-Group, even in the last payload", PayloadType.DH, "00 09 0102"],
  ])("refuses an unassigned %s that hides where the payload ends", (_name, type, text) => {
    const error = failure(() => decodeMessage(concatBytes(header(type), parseHex(text.replaceAll(" ", "")))));
    expect(error.code).toBe("bytes.layout");
  });

  it("refuses to encode what it would not decode", () => {
    const unknownMac: Payload = { kind: "V", authAlg: 200, data: Uint8Array.of(1) };
    const rand: Payload = { kind: "RAND", rand: new Uint8Array(16) };
    const sign: Payload = { kind: "SIGN", signatureType: 0, signature: new Uint8Array(4) };
    expect(failure(() => encodeMessage({ header: HEADER, payloads: [unknownMac, rand] })).code).toBe("bytes.layout");
    expect(failure(() => encodeMessage({ header: HEADER, payloads: [unknownMac], trailing: Uint8Array.of(0) })).code).toBe(
      "bytes.layout",
    );
    expect(failure(() => encodeMessage({ header: HEADER, payloads: [sign, rand] })).code).toBe("mikey.sign-not-last");
    expect(
      failure(() => encodeMessage({ header: HEADER, payloads: [{ kind: "V", authAlg: 1, data: new Uint8Array(19) }] })),
    ).toMatchObject({ code: "bytes.length", path: "mikey.V.data", offset: -1 });
    expect(failure(() => encodeMessage({ header: HEADER, payloads: [{ kind: "RAND", rand: new Uint8Array(256) }] })).code).toBe(
      "bytes.range",
    );
    expect(failure(() => encodeMessage({ header: { ...HEADER, prf: 128 }, payloads: [] })).code).toBe("bytes.range");
  });

  it("refuses or keeps octets after the last payload, and encodes kept ones again", () => {
    const octets = concatBytes(header(PayloadType.RAND), parseHex("0002abcd"), parseHex("0000ff"));
    expect(failure(() => decodeMessage(octets))).toMatchObject({ code: "bytes.trailing", offset: 14 });
    const message = decodeMessage(octets, { trailing: "keep" });
    expect(message.trailing).toEqual(parseHex("0000ff"));
    expect(encodeMessage(message)).toEqual(octets);
    expect(decodeMessage(octets.subarray(0, 14), { trailing: "keep" }).trailing).toBeUndefined();
  });

  it("bounds octets and payloads, both ways", () => {
    expect(failure(() => decodeMessage(new Uint8Array(MAX_MESSAGE_OCTETS + 1)))).toMatchObject({ code: "mikey.too-large" });
    const rand: Payload = { kind: "RAND", rand: new Uint8Array() };
    const full: MikeyMessage = { header: HEADER, payloads: Array.from({ length: MAX_PAYLOADS }, () => rand) };
    const octets = encodeMessage(full);
    expect(decodeMessage(octets).payloads).toHaveLength(MAX_PAYLOADS);
    expect(failure(() => encodeMessage({ ...full, payloads: [...full.payloads, rand] })).code).toBe("mikey.too-many-payloads");
    const endless = concatBytes(octets.subarray(0, octets.length - 2), parseHex("0b00".repeat(20_000)));
    expect(failure(() => decodeMessage(endless)).code).toBe("mikey.too-many-payloads");
    const large: Payload = { kind: "CERT", certType: 0, data: new Uint8Array(65_535) };
    expect(failure(() => encodeMessage({ header: HEADER, payloads: [large, large] })).code).toBe("mikey.too-large");
  });

  it.each([
    ["octets", (octets: Uint8Array) => octets],
    ["a Buffer, whose slices are no copies", (octets: Uint8Array) => Buffer.from(octets)],
    ["a view", (octets: Uint8Array) => concatBytes(octets, octets).subarray(octets.length)],
  ])("keeps a copy of its own of %s, which its payloads share", (_what, given) => {
    const octets = given(concatBytes(header(PayloadType.RAND), parseHex("0002abcd")));
    const message = decodeMessage(octets);
    octets.fill(0);
    expect(formatHex(message.octets)).toBe(`${formatHex(header(11))}0002abcd`);
    expect(message.payloads).toEqual([{ kind: "RAND", rand: parseHex("abcd") }]);
    message.octets.set([0xef], message.octets.length - 1);
    expect(message.payloads).toEqual([{ kind: "RAND", rand: parseHex("abef") }]);
  });

  it("key data are copies: who wipes them leaves what they were read from", () => {
    const octets = encodeKeyData([{ type: 3, key: parseHex("0102"), salt: parseHex("03"), validity: { kv: "null" } }]);
    const before = formatHex(octets);
    for (const { key, salt } of decodeKeyData(octets)) for (const secret of [key, salt]) secret?.fill(0);
    expect(formatHex(octets)).toBe(before);
  });

  it("tells where payloads stand and what authenticators cover", () => {
    const octets = concatBytes(header(5), parseHex("060200000001" + "0600000141" + "0100000142" + "0001000000"));
    const payloads: Payload[] = [
      { kind: "T", tsType: 2, value: parseHex("00000001") },
      { kind: "ID", idType: 0, data: parseHex("41") },
      { kind: "ID", idType: 0, data: parseHex("42") },
      { kind: "KEMAC", encrAlg: 1, encrData: new Uint8Array(), macAlg: 0, mac: new Uint8Array() },
    ];
    expect(encodeMessage({ header: HEADER, payloads })).toEqual(octets);
    expect(decodeMessage(octets).spans).toEqual([
      { kind: "T", path: "mikey.T", start: 10, end: 16 },
      { kind: "ID", path: "mikey.ID", start: 16, end: 21 },
      { kind: "ID", path: "mikey.ID[1]", start: 21, end: 26 },
      { kind: "KEMAC", path: "mikey.KEMAC", start: 26, end: 31, valueStart: 31 },
    ]);
    const authenticated: Payload[] = [
      { kind: "KEMAC", encrAlg: 0, encrData: parseHex("aa"), macAlg: 1, mac: new Uint8Array(20) },
      { kind: "V", authAlg: 2, data: new Uint8Array(32) },
      { kind: "SIGNX", alg: 1, keyId: new Uint8Array(8), signature: new Uint8Array(64) },
      { kind: "SIGN", signatureType: 2, signature: new Uint8Array(129) },
    ];
    const spans = decodeMessage(encodeMessage({ header: HEADER, payloads: authenticated })).spans;
    expect(spans.map(({ end, valueStart }) => end - (valueStart as number))).toEqual([20, 32, 64, 129]);
  });

  it("the trace accounts for every octet once, in order, bits included", () => {
    for (const { value, octets } of payloadCases) {
      const whole = concatBytes(header(PayloadType[value.kind]), octets);
      const trace: FieldSpan[] = [];
      decodeMessage(whole, { trace });
      let bit = 0;
      for (const span of trace) {
        expect(span.offset * 8 + (span.bit ?? 0), span.path).toBe(bit);
        bit += span.bits ?? span.length * 8;
      }
      expect(bit).toBe(whole.length * 8);
    }
  });
});

describe("nested chains", () => {
  const payloads: Payload[] = [
    { kind: "IDR", role: 3, idType: 1, data: parseHex("6b6d73") },
    { kind: "TR", role: 4, tsType: 3, value: parseHex("00000e10") },
  ];

  it("TP Data begin with the first payload type", () => {
    const octets = parseHex("0e0d0301" + "00036b6d73" + "00040300000e10");
    expect(encodePayloadChain(payloads)).toEqual(octets);
    expect(decodePayloadChain(octets)).toEqual(payloads);
  });

  it("no octets and an empty chain are no payloads", () => {
    expect(decodePayloadChain(new Uint8Array())).toEqual([]);
    expect(decodePayloadChain(Uint8Array.of(0))).toEqual([]);
    expect(encodePayloadChain([])).toEqual(Uint8Array.of(0));
    expect(decodePayloads(new Uint8Array(), 0)).toEqual([]);
  });

  it("refuse what follows the last payload", () => {
    expect(failure(() => decodePayloadChain(parseHex("0000"))).code).toBe("bytes.trailing");
    expect(failure(() => decodePayloads(parseHex("000200"), 11)).code).toBe("bytes.truncated");
  });

  it("the plaintext of an IBAKE payload mixes identities and points", () => {
    const first = innerPayloadCases[0];
    if (first === undefined) throw new Error("no case");
    const mixed = [payloads[0] as Payload, first.value, payloads[0] as Payload];
    const octets = encodePayloads(mixed);
    expect(decodePayloads(octets, PayloadType.IDR)).toEqual(mixed);
  });

  it("speak in the offsets of the octets around them", () => {
    const around = concatBytes(new Uint8Array(7), parseHex("0e000301"));
    const trace: FieldSpan[] = [];
    const error = failure(() => decodePayloadChain(around, { path: "mikey.TP.tpData", start: 7, trace }));
    expect(error).toMatchObject({ code: "bytes.truncated", path: "mikey.TP.tpData.IDR.dataLength", offset: 11 });
    expect(trace[0]).toEqual({ path: "mikey.TP.tpData.firstPayload", offset: 7, length: 1, value: 14 });
  });
});

describe("key data", () => {
  it.each(keyDataCases)("decodes and encodes $name", ({ value, octets }) => {
    expect(decodeKeyData(octets)).toEqual(value);
    expect(encodeKeyData(value)).toEqual(octets);
  });

  it.each(keyDataCases)("refuses $name cut short, and octets after it", ({ octets }) => {
    for (let length = 1; length < octets.length; length++) {
      expect(failure(() => decodeKeyData(octets.subarray(0, length))).code).toBe("bytes.truncated");
    }
    if (octets.length > 0) expect(failure(() => decodeKeyData(concatBytes(octets, Uint8Array.of(0)))).code).toBe("bytes.trailing");
  });

  it("refuses another payload in the chain, unassigned types and unassigned KV", () => {
    expect(failure(() => decodeKeyData(parseHex("0b200001aa")))).toMatchObject({
      code: "mikey.key-data-chain",
      path: "mikey[0].nextPayload",
      offset: 0,
    });
    expect(failure(() => decodeKeyData(parseHex("00800001aa"))).code).toBe("bytes.layout");
    expect(failure(() => decodeKeyData(parseHex("00230001aa"))).code).toBe("bytes.layout");
  });

  it("refuses to encode a salt where the type has none, and the reverse", () => {
    const key = Uint8Array.of(1);
    expect(failure(() => encodeKeyData([{ type: 2, key, salt: key, validity: { kv: "null" } }])).code).toBe("bytes.layout");
    expect(failure(() => encodeKeyData([{ type: 3, key, validity: { kv: "null" } }])).code).toBe("bytes.layout");
    expect(failure(() => encodeKeyData([{ type: 9, key, validity: { kv: "null" } }])).code).toBe("bytes.layout");
  });

  it("the public-key modes put the sender's identity first", () => {
    const id: Payload = { kind: "ID", idType: 0, data: parseHex("61") };
    const keys = [{ type: 0, key: parseHex("aabb"), validity: { kv: "null" } as const }];
    const octets = parseHex("14 00 0001 61 00 00 0002 aabb".replaceAll(" ", ""));
    expect(encodeIdentifiedKeys({ id, keys })).toEqual(octets);
    expect(decodeIdentifiedKeys(octets)).toEqual({ id, keys });
    const bare = parseHex("0000000161");
    expect(encodeIdentifiedKeys({ id, keys: [] })).toEqual(bare);
    expect(decodeIdentifiedKeys(bare)).toEqual({ id, keys: [] });
    expect(failure(() => decodeIdentifiedKeys(parseHex("0500000161"))).code).toBe("mikey.key-data-chain");
  });
});
