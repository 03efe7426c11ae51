import fc from "fast-check";
import type { CsMap, Header, KeyData, KeyValidity, MikeyMessage, Payload } from "../../src/mikey/index.js";

const octet = fc.integer({ min: 0, max: 0xff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const upTo = (maxLength: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength });
const exactly = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });

const validity: fc.Arbitrary<KeyValidity> = fc.oneof(
  fc.constant<KeyValidity>({ kv: "null" }),
  fc.record({ kv: fc.constant("spi" as const), spi: upTo(255) }),
  fc.record({ kv: fc.constant("interval" as const), from: upTo(12), to: upTo(12) }),
);

export const keyDataArbitrary: fc.Arbitrary<KeyData> = fc.oneof(
  fc.record({ type: fc.constantFrom(0, 2, 4, 6, 7), key: upTo(300), validity }),
  fc.record({ type: fc.constantFrom(1, 3, 5), key: upTo(64), salt: upTo(20), validity }),
);

const csMap: fc.Arbitrary<CsMap> = fc.oneof(
  fc.record({
    type: fc.constant(0 as const),
    entries: fc.array(fc.record({ policyNo: octet, ssrc: u32, roc: u32 }), { maxLength: 255 }),
  }),
  fc.record({ type: fc.constant(1), count: octet }),
  fc.record({ type: fc.integer({ min: 3, max: 255 }), count: fc.constant(0) }),
  fc.record({
    type: fc.constant(2 as const),
    entries: fc.array(
      fc.record({
        csId: octet,
        protType: octet,
        rocAndSeqPresent: fc.boolean(),
        policyNos: fc.array(octet, { maxLength: 127 }),
        sessionData: upTo(300),
        spi: upTo(255),
      }),
      { maxLength: 20 },
    ),
  }),
);

export const headerArbitrary: fc.Arbitrary<Header> = fc.record({
  version: fc.constant(1),
  dataType: octet,
  verificationRequested: fc.boolean(),
  prf: fc.integer({ min: 0, max: 127 }),
  csbId: u32,
  csMap,
});

/** An algorithm number with data of the length that it implies. */
const sized = (lengths: Readonly<Record<number, number>>): fc.Arbitrary<{ alg: number; data: Uint8Array }> =>
  fc.oneof(...Object.entries(lengths).map(([alg, length]) => exactly(length).map((data) => ({ alg: Number(alg), data }))));

const mac = sized({ 0: 0, 1: 20, 2: 32, 241: 16 });
const unknownMac = fc.integer({ min: 3, max: 255 }).filter((alg) => alg !== 241);
const timestamp = sized({ 0: 8, 1: 8, 2: 4, 3: 4 });
const hash = sized({ 0: 20, 1: 16, 2: 32 });
const group = sized({ 0: 192, 1: 96, 2: 128, 241: 32, 242: 65 });

const policy = {
  ticketType: u16,
  subtype: octet,
  version: octet,
  prf: fc.integer({ min: 0, max: 127 }),
  flags: fc.integer({ min: 0, max: 0xfff }),
  reserved: fc.integer({ min: 0, max: 31 }),
  tpData: upTo(300),
};

const kind = <K extends Payload["kind"]>(name: K): fc.Arbitrary<K> => fc.constant(name);

/** Every payload except SIGN, with known algorithms wherever the algorithm decides a length. */
export const payloadArbitrary: fc.Arbitrary<Payload> = fc.oneof(
  fc.record({ encrAlg: octet, encrData: upTo(600), mac }).map(
    (kemac): Payload => ({
      kind: "KEMAC",
      encrAlg: kemac.encrAlg,
      encrData: kemac.encrData,
      macAlg: kemac.mac.alg,
      mac: kemac.mac.data,
    }),
  ),
  fc.record({ kind: kind("PKE"), cache: fc.integer({ min: 0, max: 3 }), data: upTo(600) }),
  fc
    .record({ group, reserved: fc.integer({ min: 0, max: 15 }), validity })
    .map(
      (dh): Payload => ({ kind: "DH", group: dh.group.alg, value: dh.group.data, reserved: dh.reserved, validity: dh.validity }),
    ),
  timestamp.map(({ alg, data }): Payload => ({ kind: "T", tsType: alg, value: data })),
  fc.record({ kind: kind("ID"), idType: octet, data: upTo(300) }),
  fc.record({ kind: kind("CERT"), certType: octet, data: upTo(600) }),
  hash.map(({ alg, data }): Payload => ({ kind: "CHASH", hashFunc: alg, hash: data })),
  mac.map(({ alg, data }): Payload => ({ kind: "V", authAlg: alg, data })),
  fc.record({
    kind: kind("SP"),
    policyNo: octet,
    protType: octet,
    params: fc.array(fc.record({ type: octet, value: upTo(255) }), { maxLength: 40 }),
  }),
  fc.record({ kind: kind("RAND"), rand: upTo(255) }),
  fc.record({ kind: kind("ERR"), errorNo: octet, reserved: u16 }),
  fc.record({ kind: kind("EXT"), extType: octet, data: upTo(600) }),
  fc
    .record({ role: octet, timestamp })
    .map((tr): Payload => ({ kind: "TR", role: tr.role, tsType: tr.timestamp.alg, value: tr.timestamp.data })),
  fc.record({ kind: kind("IDR"), role: octet, idType: octet, data: upTo(300) }),
  fc.record({ kind: kind("RANDR"), role: octet, rand: upTo(255) }),
  fc.record({ kind: kind("TP"), ...policy }),
  fc.record({ kind: kind("TICKET"), ...policy, ticketData: upTo(300), initiatorData: upTo(300) }),
  fc.record({ kind: kind("IBAKE"), encrData: upTo(600) }),
  fc.record({ kind: kind("ESK"), encrData: upTo(600) }),
  fc.record({ kind: kind("SAKKE"), params: octet, idScheme: octet, data: upTo(600) }),
  fc.record({ kind: kind("SIGNX"), alg: octet, keyId: exactly(8), signature: upTo(600) }),
);

/** What may stand at the end only: SIGN, and payloads whose algorithm does not tell a length. */
const lastPayload: fc.Arbitrary<Payload> = fc.oneof(
  fc.record({ kind: kind("SIGN"), signatureType: fc.integer({ min: 0, max: 15 }), signature: upTo(600) }),
  fc.record({ kind: kind("KEMAC"), encrAlg: octet, encrData: upTo(100), macAlg: unknownMac, mac: upTo(64) }),
  fc.record({ kind: kind("V"), authAlg: unknownMac, data: upTo(64) }),
  fc.record({ kind: kind("T"), tsType: fc.integer({ min: 4, max: 255 }), value: upTo(16) }),
  fc.record({ kind: kind("TR"), role: octet, tsType: fc.integer({ min: 4, max: 255 }), value: upTo(16) }),
  fc.record({ kind: kind("CHASH"), hashFunc: fc.integer({ min: 3, max: 255 }), hash: upTo(64) }),
);

export const messageArbitrary: fc.Arbitrary<MikeyMessage> = fc
  .record({
    header: headerArbitrary,
    payloads: fc.array(payloadArbitrary, { maxLength: 12 }),
    last: fc.option(lastPayload, { nil: undefined }),
  })
  .map(({ header, payloads, last }) => ({ header, payloads: last === undefined ? payloads : [...payloads, last] }));
