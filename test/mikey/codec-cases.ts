import { parseHex } from "../../src/bytes/index.js";
import type {
  CredentialData,
  CsMap,
  GkmaData,
  Hello,
  InnerPayload,
  KeyData,
  Payload,
  PossessionClaim,
  SyncData,
} from "../../src/mikey/index.js";

const hex = (text: string): Uint8Array => parseHex(text.replaceAll(/\s/g, ""));
const fill = (length: number, first = 0): Uint8Array => Uint8Array.from({ length }, (_, i) => (first + i) & 0xff);
const hexFill = (length: number, first = 0): string =>
  Array.from(fill(length, first), (octet) => octet.toString(16).padStart(2, "0")).join("");

export interface Case<T> {
  readonly name: string;
  readonly value: T;
  readonly octets: Uint8Array;
}

const one = <T>(name: string, text: string, value: T): Case<T> => ({ name, value, octets: hex(text) });

/** One row per layout and per branch of a layout. The octets are those of the payload as the last one of a message. */
export const payloadCases: readonly Case<Payload>[] = [
  one("KEMAC, AES-CM-128, HMAC-SHA-1", `00 01 0004 0badc0de 01 ${hexFill(20)}`, {
    kind: "KEMAC",
    encrAlg: 1,
    encrData: hex("0badc0de"),
    macAlg: 1,
    mac: fill(20),
  }),
  one("KEMAC, NULL and NULL", "00 00 0006 00 20 0002 aabb 00", {
    kind: "KEMAC",
    encrAlg: 0,
    encrData: hex("00200002aabb"),
    macAlg: 0,
    mac: hex(""),
  }),
  one("KEMAC, AES-CM-256, HMAC-SHA-256", `00 03 0000 02 ${hexFill(32)}`, {
    kind: "KEMAC",
    encrAlg: 3,
    encrData: hex(""),
    macAlg: 2,
    mac: fill(32),
  }),
  one("KEMAC, private algorithms, last: the MAC is the rest", "00 fe 0001 55 f5 010203", {
    kind: "KEMAC",
    encrAlg: 0xfe,
    encrData: hex("55"),
    macAlg: 0xf5,
    mac: hex("010203"),
  }),
  one("PKE, cache", "00 4003 010203", { kind: "PKE", cache: 1, data: hex("010203") }),
  one("PKE, unassigned C", `00 c100 ${hexFill(256)}`, { kind: "PKE", cache: 3, data: fill(256) }),
  one("DH, OAKLEY 5, KV null", `00 00 ${hexFill(192)} 00`, {
    kind: "DH",
    group: 0,
    value: fill(192),
    reserved: 0,
    validity: { kv: "null" },
  }),
  one("DH, OAKLEY 1, SPI, reserved bits set", `00 01 ${hexFill(96)} a1 04 01020304`, {
    kind: "DH",
    group: 1,
    value: fill(96),
    reserved: 10,
    validity: { kv: "spi", spi: hex("01020304") },
  }),
  one("DH, OAKLEY 2, interval", `00 02 ${hexFill(128)} 02 06 000000000001 06 00000000ffff`, {
    kind: "DH",
    group: 2,
    value: fill(128),
    reserved: 0,
    validity: { kv: "interval", from: hex("000000000001"), to: hex("00000000ffff") },
  }),
  one("SIGN, RSA", `0080 ${hexFill(128)}`, { kind: "SIGN", signatureType: 0, signature: fill(128) }),
  one("SIGN, ECCSI", `2081 ${hexFill(129)}`, { kind: "SIGN", signatureType: 2, signature: fill(129) }),
  one("T, NTP-UTC", "00 00 ec898da800000000", { kind: "T", tsType: 0, value: hex("ec898da800000000") }),
  one("T, COUNTER", "00 02 00000007", { kind: "T", tsType: 2, value: hex("00000007") }),
  one("T, NTP-UTC-32", "00 03 ec898da8", { kind: "T", tsType: 3, value: hex("ec898da8") }),
  one("T, private type, last: the value is the rest", "00 f1 0102", { kind: "T", tsType: 0xf1, value: hex("0102") }),
  one("ID, NAI", "00 00 0003 406578", { kind: "ID", idType: 0, data: hex("406578") }),
  one("ID, private type, empty", "00 ff 0000", { kind: "ID", idType: 0xff, data: hex("") }),
  one("CERT, URL", "00 01 0002 2f2f", { kind: "CERT", certType: 1, data: hex("2f2f") }),
  one("CHASH, SHA-1", `00 00 ${hexFill(20)}`, { kind: "CHASH", hashFunc: 0, hash: fill(20) }),
  one("CHASH, MD5", `00 01 ${hexFill(16)}`, { kind: "CHASH", hashFunc: 1, hash: fill(16) }),
  one("CHASH, SHA-256", `00 02 ${hexFill(32)}`, { kind: "CHASH", hashFunc: 2, hash: fill(32) }),
  one("V, HMAC-SHA-1", `00 01 ${hexFill(20)}`, { kind: "V", authAlg: 1, data: fill(20) }),
  one("V, NULL", "00 00", { kind: "V", authAlg: 0, data: hex("") }),
  one("SP, all defaults", "00 00 00 0000", { kind: "SP", policyNo: 0, protType: 0, params: [] }),
  one("SP, known, unknown, empty and long parameters", "00 07 00 0010 000101 f1020102 0d0200ff 6300 0b0104", {
    kind: "SP",
    policyNo: 7,
    protType: 0,
    params: [
      { type: 0, value: hex("01") },
      { type: 0xf1, value: hex("0102") },
      { type: 13, value: hex("00ff") },
      { type: 99, value: hex("") },
      { type: 11, value: hex("04") },
    ],
  }),
  one("SP, TESLA", "00 01 01 0006 010100 030100", {
    kind: "SP",
    policyNo: 1,
    protType: 1,
    params: [
      { type: 1, value: hex("00") },
      { type: 3, value: hex("00") },
    ],
  }),
  one("RAND", `00 10 ${hexFill(16)}`, { kind: "RAND", rand: fill(16) }),
  one("RAND, empty", "00 00", { kind: "RAND", rand: hex("") }),
  one("ERR", "00 01 0000", { kind: "ERR", errorNo: 1, reserved: 0 }),
  one("ERR, unassigned, reserved bits set", "00 c8 8001", { kind: "ERR", errorNo: 200, reserved: 0x8001 }),
  one("EXT, SDP IDs", "00 01 0005 6d696b6579", { kind: "EXT", extType: 1, data: hex("6d696b6579") }),
  one("EXT, private type", "00 f5 0001 00", { kind: "EXT", extType: 0xf5, data: hex("00") }),
  one("TR, start of validity", "00 02 00 0102030405060708", { kind: "TR", role: 2, tsType: 0, value: hex("0102030405060708") }),
  one("IDR, hashed identity under type URI", `00 08 01 0020 ${hexFill(32, 0x80)}`, {
    kind: "IDR",
    role: 8,
    idType: 1,
    data: fill(32, 0x80),
  }),
  one("RANDR", "00 03 04 deadbeef", { kind: "RANDR", role: 3, rand: hex("deadbeef") }),
  one("TP, flags and reserved bits", "00 0001 01 01 03bc4b 0001 00", {
    kind: "TP",
    ticketType: 1,
    subtype: 1,
    version: 1,
    prf: 1,
    flags: 0xde2,
    reserved: 0x0b,
    tpData: hex("00"),
  }),
  one("TICKET", "00 0002 05 06 ffffff 0000 0002 a1a2 0003 b1b2b3", {
    kind: "TICKET",
    ticketType: 2,
    subtype: 5,
    version: 6,
    prf: 127,
    flags: 0xfff,
    reserved: 31,
    tpData: hex(""),
    ticketData: hex("a1a2"),
    initiatorData: hex("b1b2b3"),
  }),
  one("IBAKE", "00 0003 c1c2c3", { kind: "IBAKE", encrData: hex("c1c2c3") }),
  one("ESK", "00 0002 d1d2", { kind: "ESK", encrData: hex("d1d2") }),
  one("SAKKE", `00 01 02 0111 ${hexFill(273)}`, { kind: "SAKKE", params: 1, idScheme: 2, data: fill(273) }),
  one("SIGNX", `00 01 0102030405060708 0040 ${hexFill(64)}`, {
    kind: "SIGNX",
    alg: 1,
    keyId: hex("0102030405060708"),
    signature: fill(64),
  }),
  one("V, HMAC-SHA-256-128", `00 f1 ${hexFill(16)}`, { kind: "V", authAlg: 241, data: fill(16) }),
  one("SP, rekey SA", "00 fd f2 000a 0003030102 0601f1 7f00", {
    kind: "SP",
    policyNo: 253,
    protType: 242,
    params: [
      { type: 0, value: hex("030102") },
      { type: 6, value: hex("f1") },
      { type: 127, value: hex("") },
    ],
  }),
];

/** #CS, map type and map info. */
export const csMapCases: readonly Case<CsMap>[] = [
  one("SRTP-ID, none", "00 00", { type: 0, entries: [] }),
  one("SRTP-ID, two", "02 00 00 cafebabe 00000000 ff 00000000 ffffffff", {
    type: 0,
    entries: [
      { policyNo: 0, ssrc: 0xcafebabe, roc: 0 },
      { policyNo: 255, ssrc: 0, roc: 0xffffffff },
    ],
  }),
  one("Empty map", "00 01", { type: 1, count: 0 }),
  one("Empty map, three crypto sessions", "03 01", { type: 1, count: 3 }),
  one("unassigned map type, no crypto session", "00 f1", { type: 0xf1, count: 0 }),
  one("GENERIC-ID, none", "00 02", { type: 2, entries: [] }),
  one("GENERIC-ID, with and without ROC and SEQ", "02 02 05 00 82 0102 000a 00112233 00000001 ffff 04 00000007 06 01 00 0000 00", {
    type: 2,
    entries: [
      {
        csId: 5,
        protType: 0,
        rocAndSeqPresent: true,
        policyNos: [1, 2],
        sessionData: hex("00112233 00000001 ffff"),
        spi: hex("00000007"),
      },
      { csId: 6, protType: 1, rocAndSeqPresent: false, policyNos: [], sessionData: hex(""), spi: hex("") },
    ],
  }),
];

/** Chains of key data. */
export const keyDataCases: readonly Case<readonly KeyData[]>[] = [
  one("no key", "", []),
  one("TGK", "00 00 0002 aabb", [{ type: 0, key: hex("aabb"), validity: { kv: "null" } }]),
  one("TGK+SALT with SPI", "00 11 0002 aabb 0001 cc 04 000000aa", [
    { type: 1, key: hex("aabb"), salt: hex("cc"), validity: { kv: "spi", spi: hex("000000aa") } },
  ]),
  one("TEK with interval", "00 22 0001 aa 06 000000000000 06 ffffffffffff", [
    { type: 2, key: hex("aa"), validity: { kv: "interval", from: hex("000000000000"), to: hex("ffffffffffff") } },
  ]),
  one("TEK+SALT, empty salt and SPI", "00 31 0001 aa 0000 00", [
    { type: 3, key: hex("aa"), salt: hex(""), validity: { kv: "spi", spi: hex("") } },
  ]),
  one("GTGK, GTGK+SALT, MPK, K_PR in one chain", "14 40 0001 01 14 50 0001 02 0001 03 14 61 0001 04 01 05 00 70 0001 06", [
    { type: 4, key: hex("01"), validity: { kv: "null" } },
    { type: 5, key: hex("02"), salt: hex("03"), validity: { kv: "null" } },
    { type: 6, key: hex("04"), validity: { kv: "spi", spi: hex("05") } },
    { type: 7, key: hex("06"), validity: { kv: "null" } },
  ]),
];

/** Payloads that stand only inside encrypted data, as the only payload of a chain. */
export const innerPayloadCases: readonly Case<InnerPayload>[] = [
  one("ECCPT, P-256 uncompressed", `00 08 04 ${hexFill(64)} 00 01 0010 00`, {
    kind: "ECCPT",
    curve: 8,
    point: hex(`04 ${hexFill(64)}`),
    padding: hex("00"),
    authAlg: 1,
    tgkLength: 16,
    reserved: 0,
    validity: { kv: "null" },
  }),
  one("ECCPT, P-384 compressed, padding and reserved bits set, SPI", `00 0b 03 ${hexFill(48)} 77 00 0000 51 01 09`, {
    kind: "ECCPT",
    curve: 11,
    point: hex(`03 ${hexFill(48)}`),
    padding: hex("77"),
    authAlg: 0,
    tgkLength: 0,
    reserved: 5,
    validity: { kv: "spi", spi: hex("09") },
  }),
  one("ECCPT, P-521 at infinity", "00 0e 00 01 02 0300 00", {
    kind: "ECCPT",
    curve: 14,
    point: hex("00"),
    padding: hex("01"),
    authAlg: 2,
    tgkLength: 0x0300,
    reserved: 0,
    validity: { kv: "null" },
  }),
  one("SK", "00 10 0003 010203", { kind: "SK", type: 1, key: hex("010203"), validity: { kv: "null" } }),
  one("SK, unassigned type, SPI", "00 f1 0000 01 aa", {
    kind: "SK",
    type: 15,
    key: hex(""),
    validity: { kv: "spi", spi: hex("aa") },
  }),
];

/** Data of HELLO extensions (docs/protocol.md §4.2, §12.1). */
export const helloCases: readonly Case<Hello>[] = [
  one("HELLO between two", `01 ${hexFill(16)} 00`, { version: 1, nonce: fill(16), group: hex("") }),
  one("HELLO for a group", `01 ${hexFill(16)} 02 6162 03`, { version: 1, nonce: fill(16), group: hex("6162"), role: 3 }),
];

/** Data of PoP extensions (§6.1). */
export const possessionCases: readonly Case<PossessionClaim>[] = [
  one("PoP of one key without SPI", `01 01 00 ${hexFill(32)}`, { version: 1, spis: [hex("")], transcript: fill(32) }),
  one("PoP of three keys, a prefix first", `01 03 01 05 02 0500 01 06 ${hexFill(32)}`, {
    version: 1,
    spis: [hex("05"), hex("0500"), hex("06")],
    transcript: fill(32),
  }),
];

const edge = (child: string): string => `${child} ${hexFill(24, 0x80)}`;

/** Data of GKMA extensions (§16.5). */
export const gkmaCases: readonly Case<GkmaData>[] = [
  one("GKMA, two edges", `03 01 02 00 00000006 0000 0001 00000003 00000006 00015180 0000 ${edge("00000006")} ${edge("00000001")}`, {
    algorithm: 3,
    version: 1,
    degree: 2,
    flags: 0,
    largestId: 6,
    index: 0,
    count: 1,
    firstLeaf: 3,
    lastLeaf: 6,
    lifetime: 86_400,
    refreshed: hex(""),
    edges: hex(`${edge("00000006")} ${edge("00000001")}`),
  }),
  one("GKMA, refreshed nodes alone", "02 01 04 01 ffffffff ffff ffff 00000009 00000003 0000003c 0002 00000000 00000002", {
    algorithm: 2,
    version: 1,
    degree: 4,
    flags: 1,
    largestId: 0xffffffff,
    index: 0xffff,
    count: 0xffff,
    firstLeaf: 9,
    lastLeaf: 3,
    lifetime: 60,
    refreshed: hex("0000000000000002"),
    edges: hex(""),
  }),
];

/** Data of sync extensions (§16.6). */
export const syncCases: readonly Case<SyncData>[] = [
  one("sync, nothing", "00", { end: false, restart: false, entries: [] }),
  one("sync, end with restart", "07 ee00000080000000", { end: true, restart: true, time: hex("ee00000080000000"), entries: [] }),
  one(
    "sync, every kind of entry",
    "04 ee00000080000000 00 00000001 02 00000002 0d cafebabe 00000001 fde8 02 03 626f62 0b 00000003 00000000 0000 00",
    {
      end: false,
      restart: false,
      time: hex("ee00000080000000"),
      entries: [
        { ssrc: 1, gone: false },
        { ssrc: 2, gone: true },
        { ssrc: 0xcafebabe, running: { roc: 1, seq: 65_000 }, gone: false, dataSa: 2, identity: hex("626f62") },
        { ssrc: 3, running: { roc: 0, seq: 0 }, gone: true, identity: hex("") },
      ],
    },
  ),
];

/** Data of credential extensions (§15.3). */
export const credentialCases: readonly Case<CredentialData>[] = [
  one("credential", `01 01 0102030405060708 ed00000000000000 ef00000000000000 01 67 0002 6964 0003 6b6579 01 0040 ${hexFill(64)}`, {
    version: 1,
    role: 1,
    ownerKeyId: hex("0102030405060708"),
    notBefore: hex("ed00000000000000"),
    notAfter: hex("ef00000000000000"),
    group: hex("67"),
    identity: hex("6964"),
    key: hex("6b6579"),
    alg: 1,
    signature: fill(64),
  }),
];
