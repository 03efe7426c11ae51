import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { formatBase64, parseHex, utf8 } from "../../src/bytes/index.js";
import { encodeMessage, type MikeyMessage, type Payload } from "../../src/mikey/index.js";
import { formatInspections, inspectText, type Problem } from "../../src/tools/index.js";
import { KEY, kemac, STRICT, STRICT_BASE64, TEK, variant } from "./messages.js";

function problemsOf(message: MikeyMessage): readonly Problem[] {
  const [inspection] = inspectText(formatBase64(encodeMessage(message)));
  return inspection?.problems ?? [];
}

/** `warning lint.x path`, as the tables below have it. */
const brief = ({ severity, code, path }: Problem): string => `${severity} ${code} ${path}`;

const COMMON = ["warning lint.null-keying mikey.KEMAC", "info lint.tek-with-salt mikey.KEMAC.encrData[0].key"];

/** SP of the strict message with parameters replaced, added (ascending) or taken away. */
function policy(changes: Readonly<Record<number, readonly number[] | undefined>>): Payload {
  const strict = STRICT.payloads.find(({ kind }) => kind === "SP") as Extract<Payload, { kind: "SP" }>;
  const params = new Map(strict.params.map(({ type, value }) => [type, value]));
  for (const [type, value] of Object.entries(changes)) {
    if (value === undefined) params.delete(Number(type));
    else params.set(Number(type), Uint8Array.from(value));
  }
  return { ...strict, params: [...params].sort(([a], [b]) => a - b).map(([type, value]) => ({ type, value })) };
}

const header = (changes: Partial<MikeyMessage["header"]>): MikeyMessage => ({
  ...STRICT,
  header: { ...STRICT.header, ...changes },
});
const append = (...payloads: readonly Payload[]): MikeyMessage => ({
  ...STRICT,
  payloads: [...STRICT.payloads.slice(0, -1), ...payloads, STRICT.payloads.at(-1) as Payload],
});

const V: Payload = { kind: "V", authAlg: 1, data: new Uint8Array(20) };
const T = (hex: string): Payload => ({ kind: "T", tsType: 0, value: parseHex(hex) });

/** What each departure is called, beside what every NULL-keyed message hears. */
const rows: readonly (readonly [name: string, message: MikeyMessage, expected: readonly string[]])[] = [
  [
    "GStreamer: type 3 carries the tag length",
    variant("SP", policy({ 3: [10], 11: undefined })),
    ["warning lint.tag-length-in-type-3 mikey.SP.params[3]"],
  ],
  [
    "GStreamer, 32-bit tag",
    variant("SP", policy({ 3: [4], 11: undefined })),
    ["warning lint.tag-length-in-type-3 mikey.SP.params[3]"],
  ],
  [
    "a type 3 that means nothing",
    variant("SP", policy({ 3: [7] })),
    ["warning lint.auth-key-length mikey.SP.params[3]", "warning lint.policy-unsupported mikey.SP"],
  ],
  ["no RAND", variant("RAND"), ["warning lint.rand-absent mikey"]],
  ["a short RAND", variant("RAND", { kind: "RAND", rand: new Uint8Array(8) }), ["warning lint.rand-short mikey.RAND"]],
  ["FILETIME", variant("T", T("01d38e19cef95c3d")), ["warning lint.t-filetime mikey.T.value"]],
  ["a clock that was never set", variant("T", T("0000000000000000")), ["warning lint.t-zero mikey.T.value"]],
  ["no T", variant("T"), ["error lint.t-absent mikey"]],
  ["no SP", variant("SP"), ["warning lint.sp-absent mikey"]],
  ["an empty SP", variant("SP", { kind: "SP", policyNo: 0, protType: 0, params: [] }), ["info lint.sp-empty mikey.SP"]],
  [
    "a policy that is not there",
    variant("SP", { kind: "SP", policyNo: 3, protType: 0, params: [] }),
    ["error lint.policy-unknown mikey.HDR.csMap", "info lint.sp-empty mikey.SP"],
  ],
  ["encryption off", variant("SP", policy({ 7: [0] })), ["warning lint.srtp-unencrypted mikey.SP"]],
  ["authentication off", variant("SP", policy({ 10: [0] })), ["warning lint.srtp-unauthenticated mikey.SP"]],
  ["ROC carrying without a MAC", variant("SP", policy({ 14: [4], 18: [4] })), ["warning lint.srtp-unauthenticated mikey.SP"]],
  [
    "an unassigned parameter",
    variant("SP", policy({ 99: [1] })),
    ["warning lint.policy-unsupported mikey.SP", "warning lint.unassigned mikey.SP.params[8].type"],
  ],
  [
    "a private parameter without a value",
    variant("SP", policy({ 250: [] })),
    [
      "warning lint.param-empty mikey.SP.params[8]",
      "warning lint.policy-unsupported mikey.SP",
      "info lint.private-use mikey.SP.params[8].type",
    ],
  ],
  [
    "SSRC 0",
    header({ csMap: { type: 0, entries: [{ policyNo: 0, ssrc: 0, roc: 0 }] } }),
    ["info lint.ssrc-zero mikey.HDR.csMap[0]"],
  ],
  [
    "a stream under way",
    header({ csMap: { type: 0, entries: [{ policyNo: 0, ssrc: 1, roc: 7 }] } }),
    ["info lint.roc mikey.HDR.csMap[0]"],
  ],
  ["no crypto session", header({ csMap: { type: 0, entries: [] } }), ["warning lint.no-crypto-session mikey.HDR.csMap"]],
  ["an empty map beside SP", header({ csMap: { type: 1, count: 0 } }), ["info lint.policy-with-empty-map mikey.HDR.csMap"]],
  ["V = 1 without a key", header({ verificationRequested: true }), ["info lint.v-without-key mikey.HDR.verificationRequested"]],
  ["a PRF that nobody assigned", header({ prf: 9 }), ["warning lint.unassigned mikey.HDR.prf"]],
  ["a PRF for private use", header({ prf: 120 }), ["info lint.private-use mikey.HDR.prf"]],
  ["an identity", append({ kind: "ID", idType: 0, data: utf8("a@example.org") }), ["info lint.hangs-gstreamer mikey.ID"]],
  [
    "raw octets as a URI",
    append({ kind: "ID", idType: 1, data: parseHex("ff00") }),
    ["info lint.id-not-text mikey.ID.data", "info lint.hangs-gstreamer mikey.ID"],
  ],
  [
    "reserved bits",
    append({ kind: "ERR", errorNo: 0, reserved: 1 }),
    ["info lint.hangs-gstreamer mikey.ERR", "info lint.reserved-bits mikey.ERR.reserved"],
  ],
  ["two RAND", append({ kind: "RAND", rand: new Uint8Array(16) }), ["error lint.rand-repeated mikey.RAND[1]"]],
  [
    "an empty identity",
    append({ kind: "ID", idType: 0, data: new Uint8Array() }),
    ["warning lint.id-empty mikey.ID.data", "info lint.hangs-gstreamer mikey.ID"],
  ],
  ["two T", append(T("eeade88000000000")), ["error lint.t-repeated mikey.T[1]"]],
  ["two SP of one number", append(policy({})), ["error lint.sp-repeated mikey.SP"]],
  [
    "a parameter twice",
    variant("SP", { kind: "SP", policyNo: 0, protType: 0, params: [0, 0].map((type) => ({ type, value: Uint8Array.of(1) })) }),
    ["error lint.param-repeated mikey.SP.params[1]", "warning lint.policy-unsupported mikey.SP"],
  ],
  ["one trailing zero", { ...STRICT, trailing: Uint8Array.of(0) }, ["warning lint.trailing-zero mikey"]],
  ["other trailing octets", { ...STRICT, trailing: Uint8Array.of(0, 1) }, ["error lint.trailing mikey"]],
];

/** Departures that concern the keys. */
const keyRows: readonly (readonly [name: string, message: MikeyMessage, expected: readonly string[]])[] = [
  ["no key", variant("KEMAC", kemac([])), ["warning lint.null-keying mikey.KEMAC", "error lint.kemac-empty mikey.KEMAC"]],
  [
    "no key under a MAC",
    variant("KEMAC", { kind: "KEMAC", encrAlg: 1, encrData: new Uint8Array(), macAlg: 1, mac: new Uint8Array(20) }),
    ["warning lint.kemac-empty mikey.KEMAC"],
  ],
  ["no KEMAC", variant("KEMAC"), ["error lint.kemac-absent mikey"]],
  [
    "no MKI",
    variant("KEMAC", kemac([{ ...TEK, validity: { kv: "null" } }])),
    [...COMMON, "info lint.mki-absent mikey.KEMAC.encrData[0]"],
  ],
  [
    "an empty SPI",
    variant("KEMAC", kemac([{ ...TEK, validity: { kv: "spi", spi: new Uint8Array() } }])),
    [...COMMON, "warning lint.spi-empty mikey.KEMAC.encrData[0].spi"],
  ],
  [
    "an SPI of 1 octet",
    variant("KEMAC", kemac([{ ...TEK, validity: { kv: "spi", spi: Uint8Array.of(1) } }])),
    [...COMMON, "info lint.spi-length mikey.KEMAC.encrData[0].spi"],
  ],
  [
    "the same SPI twice",
    variant("KEMAC", kemac([TEK, TEK])),
    [...COMMON, "info lint.tek-with-salt mikey.KEMAC.encrData[1].key", "error lint.spi-repeated mikey.KEMAC.encrData[1].spi"],
  ],
  [
    "an interval of 48-bit indices",
    variant("KEMAC", kemac([{ ...TEK, validity: { kv: "interval", from: new Uint8Array(6), to: new Uint8Array(4) } }])),
    [...COMMON, "error lint.interval-length mikey.KEMAC.encrData[0].validTo"],
  ],
  [
    "a TEK without salt",
    variant("KEMAC", kemac([{ ...TEK, key: KEY.subarray(0, 16) }])),
    ["warning lint.null-keying mikey.KEMAC", "warning lint.tek-without-salt mikey.KEMAC.encrData[0].key"],
  ],
  [
    "TEK+SALT",
    variant("KEMAC", kemac([{ ...TEK, type: 3, key: KEY.subarray(0, 16), salt: KEY.subarray(16) }])),
    ["warning lint.null-keying mikey.KEMAC", "info lint.tek-salt-field mikey.KEMAC.encrData[0]"],
  ],
  [
    "a TGK in the clear",
    variant("KEMAC", kemac([{ ...TEK, type: 0 }])),
    ["warning lint.null-keying mikey.KEMAC", "warning lint.tgk-in-clear mikey.KEMAC.encrData[0]"],
  ],
  [
    "key data cut short",
    variant("KEMAC", { kind: "KEMAC", encrAlg: 0, encrData: parseHex("0020001ec0"), macAlg: 0, mac: new Uint8Array() }),
    ["error bytes.truncated mikey.KEMAC.encrData[0].key", "warning lint.null-keying mikey.KEMAC"],
  ],
  [
    "encryption without a MAC",
    variant("KEMAC", { kind: "KEMAC", encrAlg: 1, encrData: KEY, macAlg: 0, mac: new Uint8Array() }),
    ["error lint.null-mac mikey.KEMAC"],
  ],
  [
    "a MAC without encryption",
    variant("KEMAC", { kind: "KEMAC", encrAlg: 0, encrData: parseHex("002000010104"), macAlg: 1, mac: new Uint8Array(20) }),
    ["error bytes.trailing mikey.KEMAC.encrData", "warning lint.null-encryption mikey.KEMAC"],
  ],
  [
    "V before KEMAC",
    append(V),
    [
      "info lint.tek-with-salt mikey.KEMAC.encrData[0].key",
      "error lint.not-last mikey.V",
      "warning lint.null-encryption mikey.KEMAC",
      "info lint.hangs-gstreamer mikey.V",
    ],
  ],
];

describe("lint", () => {
  it("docs/inspect.md lists exactly the codes that there are", () => {
    const sources = ["lint.ts", "find.ts", "inspect.ts"]
      .map((name) => readFileSync(new URL(`../../src/tools/${name}`, import.meta.url), "utf8"))
      .join("");
    const reported = [...sources.matchAll(/report\(\s*"([a-z0-9-]+)"/g)].map(([, code]) => `lint.${code}`);
    const written = [...sources.matchAll(/"(lint\.[a-z0-9-]+)"/g)].map(([, code]) => code as string);
    const numbers = ["lint.private-use", "lint.unassigned"];
    const listed = [
      ...readFileSync(new URL("../../docs/inspect.md", import.meta.url), "utf8").matchAll(/^\| `(lint\.[a-z0-9-]+)`/gm),
    ];
    expect(listed.map(([, code]) => code)).toEqual([...new Set([...reported, ...written, ...numbers])].sort());
  });

  it("the strict message hears what cannot be avoided, and is valid", () => {
    expect(problemsOf(STRICT).map(brief)).toEqual(COMMON);
  });

  it.each(rows)("%s", (_name, message, expected) => {
    expect(problemsOf(message).map(brief).sort()).toEqual([...COMMON, ...expected].sort());
  });

  it.each(keyRows)("%s", (_name, message, expected) => {
    expect(problemsOf(message).map(brief).sort()).toEqual([...expected].sort());
  });

  it("V in an answer, as in RFC 4567 §5.1; an answer needs V", () => {
    const answer = header({ dataType: 1, verificationRequested: true });
    const v: MikeyMessage = { ...answer, payloads: [STRICT.payloads[0] as Payload, V] };
    expect(problemsOf(v).map(brief)).toEqual(["info lint.v-in-answer mikey.HDR.verificationRequested"]);
    expect(problemsOf({ ...v, payloads: v.payloads.slice(0, 1) }).map(brief)).toContain("error lint.v-absent mikey");
  });

  it("weak algorithms", () => {
    const message: MikeyMessage = {
      ...header({ dataType: 4 }),
      payloads: [
        ...STRICT.payloads.slice(0, 3),
        { kind: "CHASH", hashFunc: 1, hash: new Uint8Array(16) },
        { kind: "DH", group: 1, value: new Uint8Array(96), reserved: 0, validity: { kv: "null" } },
        { kind: "SIGN", signatureType: 0, signature: new Uint8Array(128) },
      ],
    };
    expect(problemsOf(message).map(brief)).toEqual(["warning lint.weak-group mikey.DH", "warning lint.weak-hash mikey.CHASH"]);
  });

  it("ticket flags that contradict each other (RFC 6043 §6.10)", () => {
    const ticket = (flags: number): MikeyMessage => ({
      ...header({ dataType: 11, csMap: { type: 1, count: 0 } }),
      payloads: [
        STRICT.payloads[0] as Payload,
        { kind: "TP", ticketType: 1, subtype: 1, version: 1, prf: 1, flags, reserved: 0, tpData: new Uint8Array() },
        V,
      ],
    });
    const legal = 0x800 | 0x200 | 0x100 | 0x080;
    expect(problemsOf(ticket(legal))).toEqual([]);
    expect(problemsOf(ticket(legal & ~0x800)).map(({ message }) => message)).toEqual(["not D implies L (RFC 6043 §6.10)"]);
    expect(problemsOf(ticket(legal | 0x040)).map(({ message }) => message)).toEqual(["I implies E (RFC 6043 §6.10)"]);
    expect(problemsOf(ticket(0))).toHaveLength(3);
  });

  it("SDP IDs against the SDP around (RFC 4567 §4.1.4)", () => {
    const offer = (ids: string | undefined, ...others: readonly string[]): string[] => {
      const message = ids === undefined ? STRICT : append({ kind: "EXT", extType: 1, data: utf8(ids) });
      const lines = [`a=key-mgmt:mikey ${formatBase64(encodeMessage(message))}`, ...others.map((id) => `a=key-mgmt:${id} AAAA`)];
      const [inspection] = inspectText(lines.join("\r\n"));
      return (inspection?.problems ?? []).map(brief).filter((text) => text.includes("sdp-ids"));
    };
    expect(offer("mikey")).toEqual([]);
    expect(offer("mikey;keyp1", "keyp1")).toEqual([]);
    expect(offer("mikey;keyp1")).toEqual(["error lint.sdp-ids-differ mikey.EXT"]);
    expect(offer("mikey", "keyp1")).toEqual(["error lint.sdp-ids-differ mikey.EXT"]);
    expect(offer(" ; ")).toEqual(["error lint.sdp-ids mikey.EXT"]);
    expect(offer(undefined)).toEqual(["info lint.sdp-ids-absent mikey"]);
    expect(offer(undefined, "keyp1")).toEqual(["warning lint.sdp-ids-absent mikey"]);
  });

  it("what stands around a message in the words of whoever wrote it, without what a terminal would mind", () => {
    const message = append({ kind: "EXT", extType: 1, data: utf8("mikey") });
    const lines = [`a=key-mgmt:mikey ${formatBase64(encodeMessage(message))}`, "a=key-mgmt:\u001b]0;title\u0007\u202e AAAA"];
    const inspections = inspectText(lines.join("\r\n"));
    expect(inspections[0]?.problems.map(brief)).toContain("error lint.sdp-ids-differ mikey.EXT");
    expect(formatInspections(inspections)).toContain("the SDP mikey;?]0;title??: somebody changed the offer");
    expect(formatInspections(inspections)).not.toMatch(/[^\P{C}\n]/u);
  });

  it("what is wrong around a message", () => {
    const codes = (text: string): string[] => (inspectText(text)[0]?.problems ?? []).map(({ code }) => code);
    expect(codes(`KeyMgmt: prot=mikey;data="${STRICT_BASE64}"`)).toContain("lint.uri-absent");
    expect(codes(`KeyMgmt: prot=mikey;uri="rtsp://a/";data="${STRICT_BASE64}"`)).not.toContain("lint.uri-absent");
    expect(codes(`a=key-mgmt:Mikey ${STRICT_BASE64}`)).toContain("lint.protocol-case");
  });

  it("a message with very many problems tells the first and stays invalid", () => {
    const params = Array.from({ length: 5000 }, () => ({ type: 99, value: new Uint8Array() }));
    const [inspection] = inspectText(formatBase64(encodeMessage(variant("SP", { kind: "SP", policyNo: 0, protType: 0, params }))));
    expect(inspection?.problems).toHaveLength(201);
    expect(inspection?.problems.at(-1)).toMatchObject({ code: "lint.more", severity: "error" });
    expect(inspection?.valid).toBe(false);
  });
});
