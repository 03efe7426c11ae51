/**
 * The layout of every payload, as tables: one line per field. What precedes a layout on the wire is the
 * next-payload octet (RFC 3830 §6), which codec.ts reads and writes.
 */
import {
  bitCountedList,
  bitPrefixedOctets,
  bits,
  type Codec,
  flag,
  octets,
  prefixedList,
  prefixedOctets,
  readItems,
  sizedOctets,
  struct,
  u8,
  u16,
  u32,
  writeItems,
} from "../bytes/index.js";
import type {
  CsMap,
  EccPointPayload,
  GenericIdEntry,
  InnerPayload,
  KeyData,
  KeyValidity,
  Payload,
  PolicyParam,
  SecretKeyPayload,
  SrtpIdEntry,
} from "./message.js";
import {
  CsMapType,
  DhGroup,
  EccCurve,
  entriesOf,
  entryOf,
  HashFunc,
  KeyDataType,
  KeyValidityType,
  MacAlg,
  MIKEY_VERSION,
  nameOf,
  type RegistryEntry,
  TimestampType,
} from "./registry.js";

type LengthTable = typeof MacAlg | typeof DhGroup | typeof TimestampType | typeof HashFunc;

/** The length that a table gives to the algorithm named by an earlier field. */
function lengthBy(table: LengthTable, field: string): (fields: Readonly<Record<string, unknown>>) => number | undefined {
  const lengths: (number | undefined)[] = [];
  for (const { value, octets } of entriesOf(table) as (RegistryEntry & { octets: number })[]) lengths[value] = octets;
  return (fields) => lengths[fields[field] as number];
}

/** HDR octet 0. Anything but 1 has a layout that nobody published. */
const version: Codec<number> = {
  read: (reader, name) => {
    const value = reader.peek();
    if (value !== undefined && value !== MIKEY_VERSION)
      throw reader.error("mikey.version", name, `version ${value} is not supported`);
    return reader.u8(name);
  },
  write: (writer, name, value) => {
    if (value !== MIKEY_VERSION) throw writer.error("mikey.version", name, `version ${value} is not supported`);
    writer.u8(name, value);
  },
};

/** RFC 3830 §6.1.1. */
const srtpIdEntry: Codec<SrtpIdEntry> = struct({ policyNo: u8, ssrc: u32, roc: u32 });

/** RFC 6043 §6.1.1. */
const genericIdEntry: Codec<GenericIdEntry> = struct({
  csId: u8,
  protType: u8,
  rocAndSeqPresent: flag,
  policyNos: bitCountedList(7, u8),
  sessionData: prefixedOctets(2),
  spi: prefixedOctets(1),
});

/** #CS, CS ID map type and CS ID map info. The length of the info follows from #CS (RFC 3830 §6.1 prints 16 bits). */
const csMap: Codec<CsMap> = {
  read: (reader, name) => {
    const count = reader.u8("csCount");
    const type = reader.u8("csMapType");
    switch (type) {
      case CsMapType.SRTP_ID:
        return { type, entries: readItems(reader, name, count, srtpIdEntry) };
      case CsMapType.GENERIC_ID:
        return { type, entries: readItems(reader, name, count, genericIdEntry) };
      case CsMapType.EMPTY:
        return { type, count };
      default:
        if (count === 0) return { type, count };
        throw reader.error(
          "bytes.layout",
          name,
          `the entries of map type ${type} (${nameOf(CsMapType, type)}) have no known layout`,
        );
    }
  },
  write: (writer, name, map) => {
    const count = map.entries === undefined ? map.count : map.entries.length;
    writer.u8("csCount", count);
    writer.u8("csMapType", map.type);
    if (map.entries === undefined) {
      if (count > 0 && map.type !== CsMapType.EMPTY)
        throw writer.error("bytes.layout", name, `map type ${map.type} needs its entries`);
    } else if (map.type === CsMapType.SRTP_ID) {
      writeItems(writer, name, map.entries, srtpIdEntry);
    } else {
      writeItems(writer, name, map.entries, genericIdEntry);
    }
  },
};

/** HDR (RFC 3830 §6.1). */
export const headerLayout = struct({
  version,
  dataType: u8,
  nextPayload: u8,
  verificationRequested: flag,
  prf: bits(7),
  csbId: u32,
  csMap,
});

/** KV data (RFC 3830 §6.14) after a KV number read or written elsewhere. */
const keyValidityData = {
  read: (reader: Parameters<Codec<KeyValidity>["read"]>[0], kv: number): KeyValidity => {
    switch (kv) {
      case KeyValidityType.NULL:
        return { kv: "null" };
      case KeyValidityType.SPI:
        return { kv: "spi", spi: spi.read(reader, "spi") };
      case KeyValidityType.INTERVAL:
        return { kv: "interval", from: spi.read(reader, "validFrom"), to: spi.read(reader, "validTo") };
      default:
        throw reader.error("bytes.layout", "kv", `KV ${kv} has no known layout`);
    }
  },
  write: (writer: Parameters<Codec<KeyValidity>["write"]>[0], validity: KeyValidity): void => {
    if (validity.kv === "spi") {
      spi.write(writer, "spi", validity.spi);
    } else if (validity.kv === "interval") {
      spi.write(writer, "validFrom", validity.from);
      spi.write(writer, "validTo", validity.to);
    }
  },
};

/** SPI, VF and VT alike: octets preceded by their number. */
const spi = prefixedOctets(1);

const KV_NUMBER: Readonly<Record<KeyValidity["kv"], number>> = {
  null: KeyValidityType.NULL,
  spi: KeyValidityType.SPI,
  interval: KeyValidityType.INTERVAL,
};

/** KV in 4 bits and at once its data, as DH and ECCPT have them. */
const keyValidity: Codec<KeyValidity> = {
  read: (reader) => keyValidityData.read(reader, reader.bits("kv", 4)),
  write: (writer, name, validity) => {
    writer.enter(name);
    writer.bits("kv", KV_NUMBER[validity.kv], 4);
    keyValidityData.write(writer, validity);
    writer.leave();
  },
};

/**
 * Key data (RFC 3830 §6.13): Type and KV share an octet, the KV data stand at the end. An unassigned type has no
 * known layout: whether salt fields follow depends on the type.
 */
export const keyDataLayout: Codec<KeyData> = {
  read: (reader, name) => {
    const wall = reader.enter(name);
    const type = reader.bits("type", 4);
    const kv = reader.bits("kv", 4);
    const entry = entryOf(KeyDataType, type);
    if (entry === undefined) throw reader.error("bytes.layout", "type", `key data type ${type} has no known layout`);
    const key = keyOctets.read(reader, "key");
    const salt = entry.salted ? keyOctets.read(reader, "salt") : undefined;
    const validity = keyValidityData.read(reader, kv);
    reader.leave(wall);
    return salt === undefined ? { type, key, validity } : { type, key, salt, validity };
  },
  write: (writer, name, keyData) => {
    writer.enter(name);
    const entry = entryOf(KeyDataType, keyData.type);
    if (entry === undefined) throw writer.error("bytes.layout", "type", `key data type ${keyData.type} has no known layout`);
    if (entry.salted !== (keyData.salt !== undefined)) {
      throw writer.error("bytes.layout", "salt", `${entry.name} goes ${entry.salted ? "with" : "without"} a salt`);
    }
    writer.bits("type", keyData.type, 4);
    writer.bits("kv", KV_NUMBER[keyData.validity.kv], 4);
    keyOctets.write(writer, "key", keyData.key);
    if (keyData.salt !== undefined) keyOctets.write(writer, "salt", keyData.salt);
    keyValidityData.write(writer, keyData.validity);
    writer.leave();
  },
};

const keyOctets = prefixedOctets(2);

/** SK (RFC 6267 §6.1.5): key data without a salt, and with types of its own. */
const secretKeyLayout: Codec<SecretKeyPayload> = {
  read: (reader, name) => {
    const wall = reader.enter(name);
    const type = reader.bits("type", 4);
    const kv = reader.bits("kv", 4);
    const key = keyOctets.read(reader, "key");
    const validity = keyValidityData.read(reader, kv);
    reader.leave(wall);
    return { kind: "SK", type, key, validity };
  },
  write: (writer, name, secretKey) => {
    writer.enter(name);
    writer.bits("type", secretKey.type, 4);
    writer.bits("kv", KV_NUMBER[secretKey.validity.kv], 4);
    keyOctets.write(writer, "key", secretKey.key);
    keyValidityData.write(writer, secretKey.validity);
    writer.leave();
  },
};

/** A SEC 1 octet string; its length follows from the curve and the form, which is its first octet. */
const eccPoint: Codec<Uint8Array> = {
  read: (reader, name, scope) => {
    const length = eccPointLength(scope?.fields["curve"] as number, reader.peek());
    if (length === undefined) throw reader.error("bytes.layout", name, "unknown curve or form of point");
    return reader.bytes(name, length);
  },
  write: (writer, name, value, scope) => {
    const length = eccPointLength(scope?.fields["curve"] as number, value[0]);
    if (length !== value.length) throw writer.error("bytes.length", name, `${value.length} octets do not fit the curve and form`);
    writer.bytes(value);
  },
};

function eccPointLength(curve: number, form: number | undefined): number | undefined {
  const fieldOctets = entryOf(EccCurve, curve)?.fieldOctets;
  if (fieldOctets === undefined || form === undefined) return undefined;
  if (form === 4) return 1 + 2 * fieldOctets;
  if (form === 2 || form === 3) return 1 + fieldOctets;
  return form === 0 ? 1 : undefined;
}

/** Next payload, ECC Curve and ECC Point end on a 32-bit boundary (RFC 6267 §6.1.4). */
const eccPadding = sizedOctets((fields) => (4 - ((2 + (fields["point"] as Uint8Array).length) & 3)) & 3, "refuse");

const eccPointLayout: Codec<EccPointPayload> = struct(
  { curve: u8, point: eccPoint, padding: eccPadding, authAlg: u8, tgkLength: u16, reserved: bits(4), validity: keyValidity },
  "ECCPT",
);

/** RFC 3830 §6.10.1. Not a table: a message has more of these than of all other structures. */
const policyParam: Codec<PolicyParam> = {
  read: (reader, name) => {
    const wall = reader.enter(name);
    const type = reader.u8("type");
    const value = reader.bytes("value", reader.length("value", 1));
    reader.leave(wall);
    return { type, value };
  },
  write: (writer, name, { type, value }) => {
    writer.enter(name);
    writer.u8("type", type);
    writer.lengthOf("value", value.length, 1);
    writer.bytes(value);
    writer.leave();
  },
};

/** Flags and policy, common to TP and TICKET: 7 + 12 + 5 bits (RFC 6043 §6.10). */
const ticketPolicy = {
  ticketType: u16,
  subtype: u8,
  version: u8,
  prf: bits(7),
  flags: bits(12),
  reserved: bits(5),
  tpData: prefixedOctets(2),
};

type Layouts<P extends { readonly kind: string }> = { readonly [K in P["kind"]]: Codec<Extract<P, { kind: K }>> };

/** Every payload that may stand in a message. The keys are the names in the `PayloadType` registry. */
export const payloadLayouts: Layouts<Payload> = {
  KEMAC: struct({ encrAlg: u8, encrData: prefixedOctets(2), macAlg: u8, mac: sizedOctets(lengthBy(MacAlg, "macAlg")) }, "KEMAC"),
  PKE: struct({ cache: bits(2), data: bitPrefixedOctets(14) }, "PKE"),
  DH: struct(
    { group: u8, value: sizedOctets(lengthBy(DhGroup, "group"), "refuse"), reserved: bits(4), validity: keyValidity },
    "DH",
  ),
  SIGN: struct({ signatureType: bits(4), signature: bitPrefixedOctets(12) }, "SIGN"),
  T: struct({ tsType: u8, value: sizedOctets(lengthBy(TimestampType, "tsType")) }, "T"),
  ID: struct({ idType: u8, data: prefixedOctets(2) }, "ID"),
  CERT: struct({ certType: u8, data: prefixedOctets(2) }, "CERT"),
  CHASH: struct({ hashFunc: u8, hash: sizedOctets(lengthBy(HashFunc, "hashFunc")) }, "CHASH"),
  V: struct({ authAlg: u8, data: sizedOctets(lengthBy(MacAlg, "authAlg")) }, "V"),
  SP: struct({ policyNo: u8, protType: u8, params: prefixedList(2, policyParam) }, "SP"),
  RAND: struct({ rand: prefixedOctets(1) }, "RAND"),
  ERR: struct({ errorNo: u8, reserved: u16 }, "ERR"),
  EXT: struct({ extType: u8, data: prefixedOctets(2) }, "EXT"),
  TR: struct({ role: u8, tsType: u8, value: sizedOctets(lengthBy(TimestampType, "tsType")) }, "TR"),
  IDR: struct({ role: u8, idType: u8, data: prefixedOctets(2) }, "IDR"),
  RANDR: struct({ role: u8, rand: prefixedOctets(1) }, "RANDR"),
  TP: struct(ticketPolicy, "TP"),
  TICKET: struct({ ...ticketPolicy, ticketData: prefixedOctets(2), initiatorData: prefixedOctets(2) }, "TICKET"),
  IBAKE: struct({ encrData: prefixedOctets(2) }, "IBAKE"),
  ESK: struct({ encrData: prefixedOctets(2) }, "ESK"),
  SAKKE: struct({ params: u8, idScheme: u8, data: prefixedOctets(2) }, "SAKKE"),
  SIGNX: struct({ alg: u8, keyId: octets(8), signature: prefixedOctets(2) }, "SIGNX"),
};

/** What may stand only inside encrypted data. */
export const innerPayloadLayouts: Layouts<InnerPayload> = { SK: secretKeyLayout, ECCPT: eccPointLayout };
