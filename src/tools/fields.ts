/** What the fields of the octet map are called and what their numbers mean. */
import type { FieldSpan } from "../bytes/index.js";
import { formatHex, utf8Text } from "../bytes/index.js";
import {
  type AnyRegistry,
  CacheIndicator,
  CertType,
  CsMapType,
  DataType,
  DhGroup,
  decodeNtp,
  EccCurve,
  EncrAlg,
  ErrorNo,
  ExtensionType,
  entryOf,
  GkmaAlgorithm,
  HashFunc,
  IdRole,
  IdType,
  KeyDataType,
  KeyIdType,
  KeyValidityType,
  MacAlg,
  nameOf,
  OmaBcastSubtype,
  PayloadType,
  PrfFunc,
  ProtType,
  policyNumber,
  RandRole,
  SakkeIdScheme,
  SakkeParams,
  SecretKeyType,
  SignatureType,
  SignxAlg,
  TicketFlag,
  TicketType,
  TimestampRole,
  TimestampType,
  titleOf,
} from "../mikey/index.js";

/** The table that gives a field's numbers their names, by the last two steps of its path, or by the last alone. */
const TABLES: Readonly<Record<string, AnyRegistry>> = {
  nextPayload: PayloadType,
  firstPayload: PayloadType,
  kv: KeyValidityType,
  protType: ProtType,
  csMapType: CsMapType,
  prf: PrfFunc,
  dataType: DataType,
  encrAlg: EncrAlg,
  macAlg: MacAlg,
  authAlg: MacAlg,
  cache: CacheIndicator,
  group: DhGroup,
  signatureType: SignatureType,
  tsType: TimestampType,
  idType: IdType,
  certType: CertType,
  hashFunc: HashFunc,
  errorNo: ErrorNo,
  extType: ExtensionType,
  ticketType: TicketType,
  curve: EccCurve,
  idScheme: SakkeIdScheme,
  "TR.role": TimestampRole,
  "IDR.role": IdRole,
  "RANDR.role": RandRole,
  "SAKKE.params": SakkeParams,
  "SIGNX.alg": SignxAlg,
  "SK.type": SecretKeyType,
  "encrData.type": KeyDataType,
  "keyIds.type": KeyIdType,
  "data.subtype": OmaBcastSubtype,
  "data.algorithm": GkmaAlgorithm,
  "data.alg": SignxAlg,
};

/** The table of a field, by its path in the octet map. */
export function tableOf(path: string): AnyRegistry | undefined {
  const steps = path.replaceAll(/\[\d+\]/g, "").split(".");
  return TABLES[steps.slice(-2).join(".")] ?? TABLES[steps.at(-1) as string];
}

const LABELS: Readonly<Record<string, string>> = {
  verificationRequested: "V",
  prf: "PRF func",
  csbId: "CSB ID",
  csId: "CS ID",
  csCount: "#CS",
  csMapType: "CS ID map type",
  ssrc: "SSRC",
  roc: "ROC",
  spi: "SPI",
  spiLength: "SPI length",
  kv: "KV",
  mac: "MAC",
  macAlg: "MAC alg",
  policyNosCount: "#P",
  rocAndSeqPresent: "S",
  tpData: "TP data",
  tpDataLength: "TP data length",
  tsType: "TS type",
  idType: "ID type",
  idScheme: "ID scheme",
  group: "DH group",
  keyId: "key ID",
  keyIdLength: "key ID length",
  "data.group": "group",
  seq: "SEQ",
  dataSa: "data SA",
  transcript: "TH",
};

/** What a field is called: `encr data length`, `CSB ID`. */
export function labelOfField(path: string): string {
  const steps = path.replaceAll(/\[\d+\]/g, "").split(".");
  const name = steps.at(-1) as string;
  return LABELS[steps.slice(-2).join(".")] ?? LABELS[name] ?? name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

/** `1 AES_CM_128: AES-CM, 128-bit key`. */
export function describeNumber(table: AnyRegistry, value: number): string {
  const name = nameOf(table, value);
  const title = titleOf(table, value);
  const plain = (text: string): string => text.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
  return entryOf(table, value) === undefined || plain(name) === plain(title) ? `${value} ${title}` : `${value} ${name}: ${title}`;
}

/** Values of the fields read, by path: meanings may hang on a neighbour. */
export type FieldValues = ReadonlyMap<string, number | Uint8Array>;

/** Times in the extensions of docs/protocol.md. */
const NTP_FIELDS: ReadonlySet<string> = new Set(["time", "notBefore", "notAfter"]);

/** What a field says, for people; an empty string where its octets say it all. */
export function meaningOf(span: FieldSpan, values: FieldValues): string {
  const { path, value } = span;
  const name = (path.split(".").at(-1) as string).replace(/\[\d+\]$/, "");
  const beside = (field: string): number | Uint8Array | undefined => values.get(`${path.slice(0, path.lastIndexOf("."))}.${field}`);
  if (typeof value === "number") {
    const table = tableOf(path);
    if (table !== undefined) return describeNumber(table, value);
    if (name === "verificationRequested") return value === 1 ? "1 a response is wanted" : "0 no response is wanted";
    if (name === "csbId") return hex32(value);
    if (name === "flags" && /\.(TP|TICKET)(\[\d+\])?\.flags$/.test(path)) return describeFlags(value);
    return String(value);
  }
  if (name === "value" && typeof beside("tsType") === "number") return describeTime(beside("tsType") as number, value) ?? "";
  if (name === "data" && (typeof beside("idType") === "number" || beside("extType") === ExtensionType.SDP_IDS)) {
    return printable(value) ?? "not text";
  }
  if (NTP_FIELDS.has(name)) return describeTime(TimestampType.NTP_UTC, value) ?? "";
  return value.length > 16 ? `${value.length} octets` : "";
}

/** 8 hexadecimal digits. */
export function hex32(value: number): string {
  return value.toString(16).padStart(8, "0");
}

/** Letters of the ticket flags that are set, each with its meaning. */
function describeFlags(flags: number): string {
  const set = Object.entries(TicketFlag).filter(([, { value }]) => (flags & value) !== 0);
  return set.length === 0 ? "none" : set.map(([letter, { title }]) => `${letter}: ${title}`).join("; ");
}

interface ParamRow {
  readonly values?: AnyRegistry;
  readonly unit?: string;
  readonly text?: boolean;
}

/** An SP parameter: `0 encryption algorithm = 1 AES-CM`. */
export function describeParam(protType: number, type: number, value: Uint8Array): string {
  const params: AnyRegistry | undefined = entryOf(ProtType, protType)?.params;
  const row = params === undefined ? undefined : (entryOf(params, type) as ParamRow | undefined);
  const title = params === undefined ? "parameter" : titleOf(params, type);
  if (row?.text === true) return `${title} = ${printable(value) ?? formatHex(value)}`;
  const number = policyNumber(value);
  if (number === undefined || row?.unit === "NTP") return `${title} = ${formatHex(value)}`;
  if (row?.values !== undefined) return `${title} = ${number} ${titleOf(row.values, number)}`;
  return `${title} = ${number}${row?.unit === undefined ? "" : ` ${row.unit}`}`;
}

/** The middle of the years in which timestamps are expected: decides the NTP era (RFC 4330 §3). */
const NEAR = Date.UTC(2030, 0, 1);
/** 1601 to 1970. */
const FILETIME_EPOCH_MS = 11_644_473_600_000;

/** A Windows FILETIME of 1990 to 2110 in the octets of a timestamp: as NTP it would be the first days of an era. */
export function fileTime(value: Uint8Array): Date | undefined {
  if (value.length !== 8) return undefined;
  const ticks = new DataView(value.buffer, value.byteOffset).getBigUint64(0);
  const date = new Date(Number(ticks / 10_000n) - FILETIME_EPOCH_MS);
  const year = date.getUTCFullYear();
  return year >= 1990 && year <= 2110 ? date : undefined;
}

/** What a T or TR says: a date, or a counter. */
export function describeTime(tsType: number, value: Uint8Array): string | undefined {
  if (tsType === TimestampType.COUNTER) return `counter ${policyNumber(value) ?? ""}`;
  const ntp = tsType === TimestampType.NTP_UTC_32 ? Uint8Array.of(...value, 0, 0, 0, 0) : value;
  if (ntp.length !== 8 || entryOf(TimestampType, tsType) === undefined) return undefined;
  const windows = fileTime(ntp);
  if (windows !== undefined) return `${windows.toISOString()} as a Windows FILETIME; no plausible NTP time`;
  return new Date(decodeNtp(ntp, NEAR)).toISOString();
}

/** Octets as text where they are printable text. */
export function printable(octets: Uint8Array): string | undefined {
  const text = utf8Text(octets);
  return text !== undefined && /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]+$/u.test(text) ? text : undefined;
}
