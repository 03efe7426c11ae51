import {
  CsMapType,
  DataType,
  decodeKeyData,
  decodeMessage,
  encodeKeyData,
  encodeMessage,
  type KemacPayload,
  type KeyData,
  KeyDataType,
  type MikeyMessage,
  type Payload,
} from "../../src/mikey/index.js";

/** What rtspsrc does with a key message in the description: decrypts, plays nothing and says nothing, or never comes back. */
export type Outcome = "plays" | "silent" | "hangs";

/** A departure from the message that watchword sends to GStreamer, and what GStreamer up to 1.24.12 makes of it. */
export interface Variant {
  readonly name: string;
  readonly outcome: Outcome;
  /** Our message, whose key stays the one that the packets are under. */
  vary(octets: Uint8Array): Uint8Array;
}

const bytes = (length: number): Uint8Array => new Uint8Array(length).fill(7);

function variant(name: string, outcome: Outcome, change: (message: MikeyMessage) => MikeyMessage): Variant {
  return { name, outcome, vary: (octets) => encodeMessage(change(decodeMessage(octets))) };
}

function payloads(name: string, outcome: Outcome, change: (payloads: readonly Payload[]) => readonly Payload[]): Variant {
  return variant(name, outcome, (message) => ({ ...message, payloads: change(message.payloads) }));
}

const without = (name: string, ...kinds: readonly Payload["kind"][]): Variant =>
  payloads(name, "plays", (all) => all.filter(({ kind }) => !kinds.includes(kind)));

const before = (name: string, kind: Payload["kind"], added: Payload): Variant =>
  payloads(name, "hangs", (all) => all.flatMap((payload) => (payload.kind === kind ? [added, payload] : [payload])));

const after = (name: string, added: Payload): Variant => payloads(name, "hangs", (all) => [...all, added]);

function kemac(name: string, outcome: Outcome, change: (payload: KemacPayload) => KemacPayload): Variant {
  return payloads(name, outcome, (all) => all.map((payload) => (payload.kind === "KEMAC" ? change(payload) : payload)));
}

function keys(name: string, outcome: Outcome, change: (key: KeyData) => readonly KeyData[]): Variant {
  return kemac(name, outcome, (payload) => ({
    ...payload,
    encrData: encodeKeyData(decodeKeyData(payload.encrData).flatMap((key) => change(key))),
  }));
}

const entries = (message: MikeyMessage) => ("entries" in message.header.csMap ? (message.header.csMap.entries ?? []) : []);

/** RFC 3830 §6: by payload, then by field. The names are those of the table in docs/peers.md. */
export const VARIANTS: readonly Variant[] = [
  variant("as sent", "plays", (message) => message),
  without("no RAND, no T", "T", "RAND"),
  without("no SP", "SP"),
  without("KEMAC only", "T", "RAND", "SP"),
  payloads("no KEMAC", "silent", (all) => all.filter(({ kind }) => kind !== "KEMAC")),
  payloads("T is a counter", "plays", (all) =>
    all.map((payload) => (payload.kind === "T" ? { ...payload, tsType: 2, value: bytes(4) } : payload)),
  ),
  payloads("RAND of 32 octets", "plays", (all) =>
    all.map((payload) => (payload.kind === "RAND" ? { ...payload, rand: bytes(32) } : payload)),
  ),
  before("ID", "SP", { kind: "ID", idType: 0, data: bytes(14) }),
  after("ID behind KEMAC", { kind: "ID", idType: 0, data: bytes(14) }),
  before("General Extension", "KEMAC", { kind: "EXT", extType: 0, data: bytes(4) }),
  after("General Extension last", { kind: "EXT", extType: 0, data: bytes(4) }),
  after("V", { kind: "V", authAlg: 1, data: bytes(20) }),
  after("SIGN", { kind: "SIGN", signatureType: 0, signature: bytes(64) }),
  after("CERT", { kind: "CERT", certType: 0, data: bytes(64) }),
  {
    name: "unknown payload",
    outcome: "hangs",
    vary: (octets) => {
      const message = decodeMessage(octets);
      // Its number goes where KEMAC says what comes next: KEMAC is the last payload, and begins with that octet.
      const start = octets.length - encodedLength(message);
      const varied = Uint8Array.of(...octets, 0, 0, 0, 0, 0);
      varied[start] = 99;
      return varied;
    },
  },
  variant("public-key message", "hangs", (message) => ({ ...message, header: { ...message.header, dataType: DataType.PK_INIT } })),
  variant("response", "silent", (message) => ({ ...message, header: { ...message.header, dataType: DataType.PSK_RESP } })),
  {
    name: "version 2",
    outcome: "silent",
    vary: (octets) => Uint8Array.of(2, ...octets.subarray(1)),
  },
  variant("V flag", "plays", (message) => ({ ...message, header: { ...message.header, verificationRequested: true } })),
  variant("two crypto sessions", "plays", (message) => ({
    ...message,
    header: {
      ...message.header,
      csMap: { type: 0, entries: [...entries(message), { policyNo: 0, ssrc: 0x55667788, roc: 0 }] as never },
    },
  })),
  variant("no crypto session", "plays", (message) => ({
    ...message,
    header: { ...message.header, csMap: { type: 0, entries: [] } },
  })),
  {
    name: "map type 1",
    outcome: "plays",
    vary: (octets) => {
      const varied = octets.slice();
      // GStreamer reads the entries of any map type as those of SRTP-ID.
      varied[9] = CsMapType.EMPTY;
      return varied;
    },
  },
  variant("policy 5", "plays", (message) => ({
    ...message,
    header: {
      ...message.header,
      csMap: { type: 0, entries: entries(message).map((entry) => ({ ...entry, policyNo: 5 })) as never },
    },
    payloads: message.payloads.map((payload) => (payload.kind === "SP" ? { ...payload, policyNo: 5 } : payload)),
  })),
  keys("SPI", "plays", (key) => [{ ...key, validity: { kv: "spi", spi: Uint8Array.of(1) } }]),
  keys("interval", "plays", (key) => [{ ...key, validity: { kv: "interval", from: new Uint8Array(6), to: bytes(6) } }]),
  keys("two keys", "plays", (key) => [key, { ...key, key: bytes(30) }]),
  keys("TGK", "plays", (key) => [{ ...key, type: KeyDataType.TGK }]),
  keys("TEK and salt apart", "silent", (key) => [
    { ...key, type: KeyDataType.TEK_SALT, key: key.key.slice(0, 16), salt: key.key.slice(16) },
  ]),
  keys("TEK with its salt, and the salt again", "plays", (key) => [
    { ...key, type: KeyDataType.TEK_SALT, salt: key.key.slice(16) },
  ]),
  kemac("encrypted", "silent", (payload) => ({ ...payload, encrAlg: 1, encrData: bytes(34), macAlg: 1, mac: bytes(20) })),
  kemac("MAC", "silent", (payload) => ({ ...payload, macAlg: 1, mac: bytes(20) })),
  { name: "trailing octets", outcome: "plays", vary: (octets) => Uint8Array.of(...octets, 0xde, 0xad, 0xbe, 0xef) },
];

/** Octets of the KEMAC of our message: its fixed fields, the keys, and no MAC. */
function encodedLength(message: MikeyMessage): number {
  const last = message.payloads.at(-1);
  if (last?.kind !== "KEMAC") throw new Error("our message ends with KEMAC");
  return 5 + last.encrData.length + last.mac.length;
}
