/**
 * Every number of the MIKEY family, once, beside its name and its source. The tables dispatch: a row carries what
 * the code needs to know about its value (lengths, nested tables), so that nothing else switches on a bare number.
 * Titles are for people (the inspector prints them).
 */

/** What every row says. */
export interface RegistryRow {
  readonly value: number;
  /** Meaning, for people. */
  readonly title: string;
  readonly reference: string;
}

/** A row as found by number: with the name of its constant. */
export type RegistryEntry<R extends RegistryRow = RegistryRow> = R & { readonly name: string };

const ENTRIES: unique symbol = Symbol("entries");
const LABEL: unique symbol = Symbol("label");
const PRIVATE_FROM: unique symbol = Symbol("private range");

/** A table of numbers: `MacAlg.HMAC_SHA_1_160` is 1, `entryOf(MacAlg, 1)` is the row. */
export type Registry<T extends Readonly<Record<string, RegistryRow>> = Readonly<Record<string, RegistryRow>>> = {
  readonly [K in keyof T]: T[K]["value"];
} & {
  readonly [ENTRIES]: readonly (RegistryEntry<T[keyof T]> | undefined)[];
  readonly [LABEL]: string;
  readonly [PRIVATE_FROM]: number;
};

/** Any registry, for code that only looks numbers up. */
export interface AnyRegistry {
  readonly [ENTRIES]: readonly (RegistryEntry | undefined)[];
  readonly [LABEL]: string;
  readonly [PRIVATE_FROM]: number;
}

function registry<const T extends Readonly<Record<string, RegistryRow>>>(label: string, privateFrom: number, rows: T): Registry<T> {
  const entries: (RegistryEntry<T[keyof T]> | undefined)[] = [];
  const numbers: Record<string, number> = {};
  for (const [name, row] of Object.entries(rows) as [string, T[keyof T]][]) {
    entries[row.value] = { ...row, name };
    numbers[name] = row.value;
  }
  // A dense array: holes would make every look-up of an unassigned value walk the prototype chain.
  const dense = Array.from({ length: entries.length }, (_, value) => entries[value]);
  return Object.freeze({ ...numbers, [ENTRIES]: dense, [LABEL]: label, [PRIVATE_FROM]: privateFrom }) as unknown as Registry<T>;
}

/** The row of a number, or undefined where the number is not assigned. */
export function entryOf<T extends Readonly<Record<string, RegistryRow>>>(
  table: Registry<T>,
  value: number,
): RegistryEntry<T[keyof T]> | undefined;
export function entryOf(table: AnyRegistry, value: number): RegistryEntry | undefined;
export function entryOf(table: AnyRegistry, value: number): RegistryEntry | undefined {
  return table[ENTRIES][value];
}

/** All assigned rows in the order of their numbers. */
export function entriesOf(table: AnyRegistry): RegistryEntry[] {
  return table[ENTRIES].filter((entry) => entry !== undefined);
}

/** The name of a number, `private` or `unassigned`. */
export function nameOf(table: AnyRegistry, value: number): string {
  return entryOf(table, value)?.name ?? (value >= table[PRIVATE_FROM] ? "private" : "unassigned");
}

/** The meaning of a number for people: `HMAC-SHA-1, 160 bits`, `private use`, `unassigned`. */
export function titleOf(table: AnyRegistry, value: number): string {
  return entryOf(table, value)?.title ?? (value >= table[PRIVATE_FROM] ? "private use" : "unassigned");
}

/** What the numbers of a table are called in the RFC, e.g. `MAC alg`. */
export function labelOf(table: AnyRegistry): string {
  return table[LABEL];
}

const PRIVATE = 241;
const NO_PRIVATE_RANGE = Number.POSITIVE_INFINITY;

/** The only published version (RFC 3830 §6.1). */
export const MIKEY_VERSION = 1;

/** Data type, HDR octet 1 (RFC 3830 §6.1; private use of docs/protocol.md from 241). `from`: who sends it. */
export const DataType = registry("data type", PRIVATE, {
  PSK_INIT: { value: 0, title: "Pre-shared key message", from: "initiator", reference: "RFC 3830 §6.1" },
  PSK_RESP: { value: 1, title: "Pre-shared key verification message", from: "responder", reference: "RFC 3830 §6.1" },
  PK_INIT: { value: 2, title: "Public-key message", from: "initiator", reference: "RFC 3830 §6.1" },
  PK_RESP: { value: 3, title: "Public-key verification message", from: "responder", reference: "RFC 3830 §6.1" },
  DH_INIT: { value: 4, title: "Diffie-Hellman initiation", from: "initiator", reference: "RFC 3830 §6.1" },
  DH_RESP: { value: 5, title: "Diffie-Hellman response", from: "responder", reference: "RFC 3830 §6.1" },
  ERROR: { value: 6, title: "Error message", from: "responder", reference: "RFC 3830 §6.1" },
  DHHMAC_INIT: { value: 7, title: "DHHMAC initiation", from: "initiator", reference: "RFC 4650 §4.1" },
  DHHMAC_RESP: { value: 8, title: "DHHMAC response", from: "responder", reference: "RFC 4650 §4.1" },
  RSAR_INIT: { value: 9, title: "RSA-R initiation", from: "initiator", reference: "RFC 4738 §3.4" },
  RSAR_RESP: { value: 10, title: "RSA-R response", from: "responder", reference: "RFC 4738 §3.4" },
  REQUEST_INIT_PSK: { value: 11, title: "Ticket request, pre-shared key", from: "initiator", reference: "RFC 6043 §6.1" },
  REQUEST_INIT_PK: { value: 12, title: "Ticket request, public key", from: "initiator", reference: "RFC 6043 §6.1" },
  REQUEST_RESP: { value: 13, title: "Ticket request response", from: "responder", reference: "RFC 6043 §6.1" },
  TRANSFER_INIT: { value: 14, title: "Ticket transfer", from: "initiator", reference: "RFC 6043 §6.1" },
  TRANSFER_RESP: { value: 15, title: "Ticket transfer response", from: "responder", reference: "RFC 6043 §6.1" },
  RESOLVE_INIT_PSK: { value: 16, title: "Ticket resolve, pre-shared key", from: "initiator", reference: "RFC 6043 §6.1" },
  RESOLVE_INIT_PK: { value: 17, title: "Ticket resolve, public key", from: "initiator", reference: "RFC 6043 §6.1" },
  RESOLVE_RESP: { value: 18, title: "Ticket resolve response", from: "responder", reference: "RFC 6043 §6.1" },
  REQUEST_KEY_PSK: { value: 19, title: "IBAKE private key request, pre-shared key", from: "initiator", reference: "RFC 6267 §6.1" },
  REQUEST_KEY_PKE: { value: 20, title: "IBAKE private key request, public key", from: "initiator", reference: "RFC 6267 §6.1" },
  REQUEST_KEY_RESP: { value: 21, title: "IBAKE private key response", from: "responder", reference: "RFC 6267 §6.1" },
  I_MESSAGE_1: { value: 22, title: "IBAKE first message", from: "initiator", reference: "RFC 6267 §6.1" },
  R_MESSAGE_1: { value: 23, title: "IBAKE second message", from: "responder", reference: "RFC 6267 §6.1" },
  I_MESSAGE_2: { value: 24, title: "IBAKE third message", from: "initiator", reference: "RFC 6267 §6.1" },
  R_MESSAGE_2: { value: 25, title: "IBAKE fourth message", from: "responder", reference: "RFC 6267 §6.1" },
  SAKKE: { value: 26, title: "SAKKE message", from: "initiator", reference: "RFC 6509 §4.1" },
  GSA: { value: 241, title: "Group security association", from: "responder", reference: "docs/protocol.md" },
  REKEY: { value: 242, title: "Group rekey, heartbeat or end", from: "initiator", reference: "docs/protocol.md" },
  DEREGISTRATION: { value: 243, title: "De-registration", from: "initiator", reference: "docs/protocol.md" },
  DEREGISTRATION_ACK: { value: 244, title: "De-registration acknowledgement", from: "responder", reference: "docs/protocol.md" },
  REPORT: { value: 245, title: "Member report", from: "initiator", reference: "docs/protocol.md" },
});

/** Next payload (RFC 3830 §6.1). The names are the `kind`s of message.ts. */
export const PayloadType = registry("next payload", PRIVATE, {
  LAST: { value: 0, title: "last payload", reference: "RFC 3830 §6.1" },
  KEMAC: { value: 1, title: "Key data transport", reference: "RFC 3830 §6.2" },
  PKE: { value: 2, title: "Envelope data", reference: "RFC 3830 §6.3" },
  DH: { value: 3, title: "Diffie-Hellman data", reference: "RFC 3830 §6.4" },
  SIGN: { value: 4, title: "Signature", reference: "RFC 3830 §6.5" },
  T: { value: 5, title: "Timestamp", reference: "RFC 3830 §6.6" },
  ID: { value: 6, title: "Identity", reference: "RFC 3830 §6.7" },
  CERT: { value: 7, title: "Certificate", reference: "RFC 3830 §6.7" },
  CHASH: { value: 8, title: "Certificate hash", reference: "RFC 3830 §6.8" },
  V: { value: 9, title: "Verification", reference: "RFC 3830 §6.9" },
  SP: { value: 10, title: "Security policy", reference: "RFC 3830 §6.10" },
  RAND: { value: 11, title: "Random value", reference: "RFC 3830 §6.11" },
  ERR: { value: 12, title: "Error", reference: "RFC 3830 §6.12" },
  TR: { value: 13, title: "Timestamp with a role", reference: "RFC 6043 §6.4" },
  IDR: { value: 14, title: "Identity with a role", reference: "RFC 6043 §6.6" },
  RANDR: { value: 15, title: "Random value with a role", reference: "RFC 6043 §6.8" },
  TP: { value: 16, title: "Ticket policy", reference: "RFC 6043 §6.10" },
  TICKET: { value: 17, title: "Ticket", reference: "RFC 6043 §6.10" },
  KEY_DATA: { value: 20, title: "Key data", reference: "RFC 3830 §6.13" },
  EXT: { value: 21, title: "General extension", reference: "RFC 3830 §6.15" },
  IBAKE: { value: 22, title: "IBAKE encrypted data", reference: "RFC 6267 §6.1.1" },
  ESK: { value: 23, title: "Encrypted secret key", reference: "RFC 6267 §6.1.2" },
  SK: { value: 24, title: "Secret key", reference: "RFC 6267 §6.1.5" },
  ECCPT: { value: 25, title: "Elliptic-curve Diffie-Hellman point", reference: "RFC 6267 §6.1.4" },
  SAKKE: { value: 26, title: "SAKKE encapsulated data", reference: "RFC 6509 §4.2" },
  SIGNX: { value: 241, title: "Signature with key identifier", reference: "docs/protocol.md" },
});

/** PRF func, 7 bits (RFC 3830 §6.1, RFC 6043 §6.1). */
export const PrfFunc = registry("PRF func", 112, {
  MIKEY_1: { value: 0, title: "MIKEY-1 (HMAC-SHA-1)", hash: "sha1", reference: "RFC 3830 §4.1.2" },
  HMAC_SHA_256: { value: 1, title: "PRF-HMAC-SHA-256", hash: "sha256", reference: "RFC 6043 §6.1" },
});

/** CS ID map type (RFC 3830 §6.1). */
export const CsMapType = registry("CS ID map type", PRIVATE, {
  SRTP_ID: { value: 0, title: "SRTP-ID", reference: "RFC 3830 §6.1.1" },
  EMPTY: { value: 1, title: "Empty map", reference: "RFC 4563 §5" },
  GENERIC_ID: { value: 2, title: "GENERIC-ID", reference: "RFC 6043 §6.1.1" },
});

/** Encr alg of KEMAC. `keyOctets` and `saltOctets`: what RFC 3830 §4.2.3 has derived for it. */
export const EncrAlg = registry("Encr alg", PRIVATE, {
  NULL: { value: 0, title: "no encryption", keyOctets: 0, saltOctets: 0, reference: "RFC 3830 §4.2.3" },
  AES_CM_128: { value: 1, title: "AES-CM, 128-bit key", keyOctets: 16, saltOctets: 14, reference: "RFC 3830 §4.2.3" },
  AES_KW_128: { value: 2, title: "AES key wrap, 128-bit key", keyOctets: 16, saltOctets: 8, reference: "RFC 3830 §4.2.3" },
  AES_CM_256: { value: 3, title: "AES-CM, 256-bit key", keyOctets: 32, saltOctets: 14, reference: "RFC 6043 §6.2" },
  AES_KWP_128: {
    value: 241,
    title: "AES key wrap with padding, 128-bit key",
    keyOctets: 16,
    saltOctets: 0,
    reference: "docs/protocol.md",
  },
  AES_KWP_256: {
    value: 242,
    title: "AES key wrap with padding, 256-bit key",
    keyOctets: 32,
    saltOctets: 0,
    reference: "docs/protocol.md",
  },
});

/** MAC alg of KEMAC and Auth alg of V. `octets`: length of the MAC; `keyOctets`: of its key (RFC 3830 §4.2.4, RFC 6043 §6.2). */
export const MacAlg = registry("MAC alg", PRIVATE, {
  NULL: { value: 0, title: "no MAC", octets: 0, keyOctets: 0, reference: "RFC 3830 §6.2" },
  HMAC_SHA_1_160: { value: 1, title: "HMAC-SHA-1, 160 bits", octets: 20, keyOctets: 20, reference: "RFC 3830 §6.2" },
  HMAC_SHA_256_256: { value: 2, title: "HMAC-SHA-256, 256 bits", octets: 32, keyOctets: 32, reference: "RFC 6043 §6.2" },
  HMAC_SHA_256_128: { value: 241, title: "HMAC-SHA-256, 128 bits", octets: 16, keyOctets: 32, reference: "docs/protocol.md" },
});

/** C of PKE, 2 bits: may the envelope key be cached? */
export const CacheIndicator = registry("C", NO_PRIVATE_RANGE, {
  NO_CACHE: { value: 0, title: "the envelope key must not be cached", reference: "RFC 3830 §6.3" },
  CACHE: { value: 1, title: "the envelope key may be cached", reference: "RFC 3830 §6.3" },
  CACHE_FOR_CSB: { value: 2, title: "the envelope key may be cached for this CSB", reference: "RFC 3830 §6.3" },
});

/** DH-Group. `octets`: length of a public value, left-padded. `group`: what src/crypto calls it. */
export const DhGroup = registry("DH-Group", PRIVATE, {
  OAKLEY_5: { value: 0, title: "OAKLEY group 5, 1536 bits", octets: 192, group: "modp1536", reference: "RFC 3830 §6.4" },
  OAKLEY_1: { value: 1, title: "OAKLEY group 1, 768 bits", octets: 96, group: "modp768", reference: "RFC 3830 §6.4" },
  OAKLEY_2: { value: 2, title: "OAKLEY group 2, 1024 bits", octets: 128, group: "modp1024", reference: "RFC 3830 §6.4" },
  X25519: { value: 241, title: "X25519", octets: 32, group: "x25519", reference: "docs/protocol.md" },
  P_256: { value: 242, title: "NIST P-256, uncompressed point", octets: 65, group: "p256", reference: "docs/protocol.md" },
});

/** S type of SIGN, 4 bits. */
export const SignatureType = registry("S type", NO_PRIVATE_RANGE, {
  RSA_PKCS1_V1_5: { value: 0, title: "RSASSA-PKCS1-v1_5", reference: "RFC 3830 §6.5" },
  RSA_PSS: { value: 1, title: "RSASSA-PSS", reference: "RFC 3830 §6.5" },
  ECCSI: { value: 2, title: "ECCSI", reference: "RFC 6509 §4.3" },
});

/** TS type of T and TR. `octets`: length of the value. */
export const TimestampType = registry("TS type", PRIVATE, {
  NTP_UTC: { value: 0, title: "NTP-UTC", octets: 8, reference: "RFC 3830 §6.6" },
  NTP: { value: 1, title: "NTP", octets: 8, reference: "RFC 3830 §6.6" },
  COUNTER: { value: 2, title: "COUNTER", octets: 4, reference: "RFC 3830 §6.6" },
  NTP_UTC_32: { value: 3, title: "NTP-UTC-32", octets: 4, reference: "RFC 6043 §6.3" },
});

/** ID type of ID and IDR. */
export const IdType = registry("ID type", PRIVATE, {
  NAI: { value: 0, title: "NAI", reference: "RFC 3830 §6.7" },
  URI: { value: 1, title: "URI", reference: "RFC 3830 §6.7" },
  BYTE_STRING: { value: 2, title: "byte string", reference: "RFC 6043 §6.5" },
});

/** Cert type of CERT. */
export const CertType = registry("Cert type", PRIVATE, {
  X509V3: { value: 0, title: "X.509v3", reference: "RFC 3830 §6.7" },
  X509V3_URL: { value: 1, title: "X.509v3 URL", reference: "RFC 3830 §6.7" },
  X509V3_SIGN: { value: 2, title: "X.509v3, signing only", reference: "RFC 3830 §6.7" },
  X509V3_ENCR: { value: 3, title: "X.509v3, encryption only", reference: "RFC 3830 §6.7" },
});

/** Hash func of CHASH. `octets`: length of the hash. */
export const HashFunc = registry("Hash func", PRIVATE, {
  SHA_1: { value: 0, title: "SHA-1", octets: 20, reference: "RFC 3830 §6.8" },
  MD5: { value: 1, title: "MD5", octets: 16, reference: "RFC 3830 §6.8" },
  SHA_256: { value: 2, title: "SHA-256", octets: 32, reference: "RFC 6043 §6.7" },
});

/** Error no of ERR. */
export const ErrorNo = registry("Error no", PRIVATE, {
  AUTH_FAILURE: { value: 0, title: "authentication failure", reference: "RFC 3830 §6.12" },
  INVALID_TS: { value: 1, title: "invalid timestamp", reference: "RFC 3830 §6.12" },
  INVALID_PRF: { value: 2, title: "PRF function not supported", reference: "RFC 3830 §6.12" },
  INVALID_MAC: { value: 3, title: "MAC algorithm not supported", reference: "RFC 3830 §6.12" },
  INVALID_EA: { value: 4, title: "encryption algorithm not supported", reference: "RFC 3830 §6.12" },
  INVALID_HA: { value: 5, title: "hash function not supported", reference: "RFC 3830 §6.12" },
  INVALID_DH: { value: 6, title: "DH group not supported", reference: "RFC 3830 §6.12" },
  INVALID_ID: { value: 7, title: "identity not supported", reference: "RFC 3830 §6.12" },
  INVALID_CERT: { value: 8, title: "certificate not supported", reference: "RFC 3830 §6.12" },
  INVALID_SP: { value: 9, title: "SP type not supported", reference: "RFC 3830 §6.12" },
  INVALID_SP_PAR: { value: 10, title: "SP parameters not supported", reference: "RFC 3830 §6.12" },
  INVALID_DT: { value: 11, title: "data type not supported", reference: "RFC 3830 §6.12" },
  UNSPECIFIED: { value: 12, title: "unspecified error", reference: "RFC 3830 §6.12" },
  UNSUPPORTED_MESSAGE: { value: 13, title: "unsupported message type", reference: "RFC 4738 §3.9.2" },
  INVALID_TICKET: { value: 14, title: "ticket type not supported", reference: "RFC 6043 §6.9" },
  INVALID_TP_PAR: { value: 15, title: "TP parameters not supported", reference: "RFC 6043 §6.9" },
  UNKNOWN_GROUP: { value: 241, title: "unknown group", reference: "docs/protocol.md" },
  NOT_A_MEMBER: { value: 242, title: "not a member", reference: "docs/protocol.md" },
  RESYNCHRONISE: { value: 243, title: "resynchronise", reference: "docs/protocol.md" },
});

/** Type of a key data sub-payload, 4 bits. `salted`: the salt fields are present. */
export const KeyDataType = registry("key data type", NO_PRIVATE_RANGE, {
  TGK: { value: 0, title: "TEK generation key", salted: false, reference: "RFC 3830 §6.13" },
  TGK_SALT: { value: 1, title: "TEK generation key with salt", salted: true, reference: "RFC 3830 §6.13" },
  TEK: { value: 2, title: "traffic-encrypting key", salted: false, reference: "RFC 3830 §6.13" },
  TEK_SALT: { value: 3, title: "traffic-encrypting key with salt", salted: true, reference: "RFC 3830 §6.13" },
  GTGK: { value: 4, title: "group TEK generation key", salted: false, reference: "RFC 6043 §6.2.1" },
  GTGK_SALT: { value: 5, title: "group TEK generation key with salt", salted: true, reference: "RFC 6043 §6.2.1" },
  MPK: { value: 6, title: "MIKEY protection key", salted: false, reference: "RFC 6043 §6.2.1" },
  K_PR: { value: 7, title: "identity-based private key", salted: false, reference: "RFC 6267 §6.1.3" },
});

/** Type of an SK sub-payload, 4 bits. */
export const SecretKeyType = registry("secret key type", NO_PRIVATE_RANGE, {
  SK: { value: 1, title: "secret key", reference: "RFC 6267 §6.1.5" },
});

/** KV, 4 bits. `kv` is the discriminant of KeyValidity in message.ts. */
export const KeyValidityType = registry("KV", NO_PRIVATE_RANGE, {
  NULL: { value: 0, title: "no restriction", kv: "null", reference: "RFC 3830 §6.13" },
  SPI: { value: 1, title: "SPI (MKI)", kv: "spi", reference: "RFC 3830 §6.13" },
  INTERVAL: { value: 2, title: "interval", kv: "interval", reference: "RFC 3830 §6.13" },
});

/** Type of a General Extension. */
export const ExtensionType = registry("extension type", PRIVATE, {
  VENDOR_ID: { value: 0, title: "vendor identifier", reference: "RFC 3830 §6.15" },
  SDP_IDS: { value: 1, title: "SDP IDs", reference: "RFC 4567 §4.1.4" },
  TESLA_I_KEY: { value: 2, title: "TESLA I-Key", reference: "RFC 4442 §4.4" },
  KEY_ID: { value: 3, title: "Key ID", reference: "RFC 4563 §4" },
  CSB_ID: { value: 4, title: "CSB ID", reference: "RFC 4738 §3.6" },
  OMA_BCAST: { value: 5, title: "OMA BCAST", reference: "RFC 5410 §3" },
  SAKKE_TO_SELF: { value: 6, title: "SAKKE-to-self", reference: "3GPP TS 33.180" },
  KEY_PARAMETERS: { value: 7, title: "3GPP key parameters", reference: "3GPP TS 33.180" },
  HELLO: { value: 241, title: "hello: version, nonce, group", reference: "docs/protocol.md" },
  NESTED_MESSAGE: { value: 242, title: "nested MIKEY message", reference: "docs/protocol.md" },
  GKMA: { value: 243, title: "group key management algorithm", reference: "docs/protocol.md" },
  PROOF_OF_POSSESSION: { value: 244, title: "proof of possession", reference: "docs/protocol.md" },
  SYNC: { value: 245, title: "time and stream synchronisation", reference: "docs/protocol.md" },
  CREDENTIAL: { value: 246, title: "credential of a key server", reference: "docs/protocol.md" },
});

/** Key ID type in the Key ID extension. */
export const KeyIdType = registry("key ID type", PRIVATE, {
  MBMS_KEY_DOMAIN: { value: 0, title: "MBMS key domain ID", reference: "RFC 4563 §4" },
  MBMS_MSK: { value: 1, title: "MBMS service key ID (MSK ID)", reference: "RFC 4563 §4" },
  MBMS_MTK: { value: 2, title: "MBMS traffic key ID (MTK ID)", reference: "RFC 4563 §4" },
  GROUP: { value: 241, title: "group", reference: "docs/protocol.md" },
  KEK_SPI: { value: 242, title: "SPI of the key-encrypting key", reference: "docs/protocol.md" },
  MKI: { value: 243, title: "MKI and data SA", reference: "docs/protocol.md" },
  MEMBER: { value: 244, title: "member number", reference: "docs/protocol.md" },
});

/** Subtype in the OMA BCAST extension. */
export const OmaBcastSubtype = registry("OMA BCAST subtype", PRIVATE, {
  LTKM: { value: 1, title: "long-term key message", reference: "RFC 5410 §3" },
  STKM: { value: 2, title: "short-term key message", reference: "RFC 5410 §3" },
  LTKM_REPORTING: { value: 3, title: "long-term key reporting", reference: "RFC 5410 §3" },
  PARENTAL_CONTROL: { value: 4, title: "parental control", reference: "RFC 5410 §3" },
});

/** TS Role of TR. */
export const TimestampRole = registry("TS Role", NO_PRIVATE_RANGE, {
  ISSUE: { value: 1, title: "time of issue", reference: "RFC 6043 §6.4" },
  START: { value: 2, title: "start of validity", reference: "RFC 6043 §6.4" },
  END: { value: 3, title: "end of validity", reference: "RFC 6043 §6.4" },
  REKEY: { value: 4, title: "rekeying interval", reference: "RFC 6043 §6.4" },
});

/** ID Role of IDR. */
export const IdRole = registry("ID Role", NO_PRIVATE_RANGE, {
  INITIATOR: { value: 1, title: "IDRi, Initiator", reference: "RFC 6043 §6.6" },
  RESPONDER: { value: 2, title: "IDRr, Responder", reference: "RFC 6043 §6.6" },
  KMS: { value: 3, title: "IDRkms, key management service", reference: "RFC 6043 §6.6" },
  PSK: { value: 4, title: "IDRpsk, pre-shared key", reference: "RFC 6043 §6.6" },
  APPLICATION: { value: 5, title: "IDRapp, application", reference: "RFC 6043 §6.6" },
  KMS_INITIATOR: { value: 6, title: "IDRkmsi, the Initiator's KMS", reference: "RFC 6509 §4.4" },
  KMS_RESPONDER: { value: 7, title: "IDRkmsr, the Responder's KMS", reference: "RFC 6509 §4.4" },
  UID_INITIATOR: { value: 8, title: "IDRuidi, the Initiator's hashed identity", reference: "3GPP TS 33.180" },
  UID_RESPONDER: { value: 9, title: "IDRuidr, the Responder's hashed identity", reference: "3GPP TS 33.180" },
});

/** RAND Role of RANDR. */
export const RandRole = registry("RAND Role", NO_PRIVATE_RANGE, {
  INITIATOR: { value: 1, title: "RANDRi, Initiator", reference: "RFC 6043 §6.8" },
  RESPONDER: { value: 2, title: "RANDRr, Responder", reference: "RFC 6043 §6.8" },
  KMS: { value: 3, title: "RANDRkms, key management service", reference: "RFC 6043 §6.8" },
});

/** Ticket Type of TP and TICKET, 16 bits. */
export const TicketType = registry("Ticket Type", NO_PRIVATE_RANGE, {
  MIKEY_BASE: { value: 1, title: "MIKEY Base Ticket", reference: "RFC 6043 §6.10" },
  TGPP_BASE: { value: 2, title: "3GPP Base Ticket", reference: "RFC 6043 §6.10" },
});

/** Flags of TP and TICKET; `value` is the mask in the 12 bits, D the most significant. */
export const TicketFlag = {
  D: { value: 0x800, title: "the KMS made the ticket" },
  E: { value: 0x400, title: "the Responder must resolve the ticket" },
  F: { value: 0x200, title: "TRANSFER_RESP is sent" },
  G: { value: 0x100, title: "the Responder generates RANDRr" },
  H: { value: 0x080, title: "RANDRi is used to derive keys from a TGK or GTGK" },
  I: { value: 0x040, title: "key forking" },
  J: { value: 0x020, title: "the ticket may be reused" },
  K: { value: 0x010, title: "the KMS changed the policy" },
  L: { value: 0x008, title: "the Initiator may supply session keys" },
  M: { value: 0x004, title: "the Responder may supply session keys" },
  N: { value: 0x002, title: "base processing suffices for the Initiator" },
  O: { value: 0x001, title: "base processing suffices for the Responder" },
} as const;

/** ECC Curve of ECCPT. `fieldOctets`: length of a coordinate. */
export const EccCurve = registry("ECC Curve", NO_PRIVATE_RANGE, {
  SECP192R1: { value: 1, title: "P-192", fieldOctets: 24, reference: "RFC 6267 §6.1.4" },
  SECT163R2: { value: 2, title: "B-163", fieldOctets: 21, reference: "RFC 6267 §6.1.4" },
  SECT163K1: { value: 3, title: "K-163", fieldOctets: 21, reference: "RFC 6267 §6.1.4" },
  SECT163R1: { value: 4, title: "sect163r1", fieldOctets: 21, reference: "RFC 6267 §6.1.4" },
  SECP224R1: { value: 5, title: "P-224", fieldOctets: 28, reference: "RFC 6267 §6.1.4" },
  SECT233R1: { value: 6, title: "B-233", fieldOctets: 30, reference: "RFC 6267 §6.1.4" },
  SECT233K1: { value: 7, title: "K-233", fieldOctets: 30, reference: "RFC 6267 §6.1.4" },
  SECP256R1: { value: 8, title: "P-256", fieldOctets: 32, reference: "RFC 6267 §6.1.4" },
  SECT283R1: { value: 9, title: "B-283", fieldOctets: 36, reference: "RFC 6267 §6.1.4" },
  SECT283K1: { value: 10, title: "K-283", fieldOctets: 36, reference: "RFC 6267 §6.1.4" },
  SECP384R1: { value: 11, title: "P-384", fieldOctets: 48, reference: "RFC 6267 §6.1.4" },
  SECT409R1: { value: 12, title: "B-409", fieldOctets: 52, reference: "RFC 6267 §6.1.4" },
  SECT409K1: { value: 13, title: "K-409", fieldOctets: 52, reference: "RFC 6267 §6.1.4" },
  SECP521R1: { value: 14, title: "P-521", fieldOctets: 66, reference: "RFC 6267 §6.1.4" },
  SECT571R1: { value: 15, title: "B-571", fieldOctets: 72, reference: "RFC 6267 §6.1.4" },
  SECT571K1: { value: 16, title: "K-571", fieldOctets: 72, reference: "RFC 6267 §6.1.4" },
});

/** SAKKE params. */
export const SakkeParams = registry("SAKKE params", 240, {
  SET_1: { value: 1, title: "Parameter Set 1", dataOctets: 273, reference: "RFC 6509 §4.2, App. A" },
});

/** ID scheme of SAKKE. */
export const SakkeIdScheme = registry("ID scheme", 240, {
  TEL_MONTHLY: { value: 1, title: "tel URI with monthly keys", reference: "RFC 6509 §3.2" },
  MCX_UID: { value: 2, title: "3GPP MCX hashed UID", reference: "3GPP TS 33.180" },
});

/** Alg of SIGNX. */
export const SignxAlg = registry("SIGNX alg", NO_PRIVATE_RANGE, {
  ED25519: { value: 1, title: "Ed25519", reference: "docs/protocol.md" },
  ECDSA_P256_SHA256: { value: 2, title: "ECDSA P-256 with SHA-256", reference: "docs/protocol.md" },
});

/** SRTP encryption algorithm, SP parameter 0. */
export const SrtpEncrAlg = registry("SRTP encryption algorithm", PRIVATE, {
  NULL: { value: 0, title: "NULL", reference: "RFC 3830 §6.10.1" },
  AES_CM: { value: 1, title: "AES-CM", reference: "RFC 3830 §6.10.1" },
  AES_F8: { value: 2, title: "AES-F8", reference: "RFC 3830 §6.10.1" },
  SEED_CTR: { value: 3, title: "SEED-CTR", reference: "RFC 5748" },
  SEED_CCM: { value: 4, title: "SEED-CCM", reference: "RFC 5748" },
  SEED_GCM: { value: 5, title: "SEED-GCM", reference: "RFC 5748" },
  AES_GCM: { value: 6, title: "AES-GCM", reference: "RFC 7714 §14.3" },
  ARIA_CTR: { value: 7, title: "ARIA-CTR", reference: "RFC 8269" },
  ARIA_GCM: { value: 8, title: "ARIA-GCM", reference: "RFC 8269" },
});

/** SRTP authentication algorithm, SP parameters 2, 14, 15. */
export const SrtpAuthAlg = registry("SRTP authentication algorithm", PRIVATE, {
  NULL: { value: 0, title: "NULL", reference: "RFC 3830 §6.10.1" },
  HMAC_SHA_1: { value: 1, title: "HMAC-SHA-1", reference: "RFC 3830 §6.10.1" },
  RCCM1: { value: 2, title: "RCCm1", reference: "RFC 4771 §4" },
  RCCM2: { value: 3, title: "RCCm2", reference: "RFC 4771 §4" },
  RCCM3: { value: 4, title: "RCCm3", reference: "RFC 4771 §4" },
});

/** SRTP PRF, SP parameter 5. */
export const SrtpPrf = registry("SRTP PRF", PRIVATE, {
  AES_CM: { value: 0, title: "AES-CM", reference: "RFC 3830 §6.10.1" },
  SEED_CTR: { value: 1, title: "SEED-CTR", reference: "RFC 5748" },
  ARIA_CTR: { value: 2, title: "ARIA-CTR", reference: "RFC 8269" },
});

/** Sender's FEC order, SP parameter 9. */
export const FecOrder = registry("FEC order", PRIVATE, {
  FEC_SRTP: { value: 0, title: "FEC, then SRTP", reference: "RFC 3830 §6.10.1" },
});

/** Parameters that switch something: 7, 8, 10. */
export const OnOff = registry("switch", NO_PRIVATE_RANGE, {
  OFF: { value: 0, title: "off", reference: "RFC 3830 §6.10.1" },
  ON: { value: 1, title: "on", reference: "RFC 3830 §6.10.1" },
});

/** SP parameters for Prot type SRTP. `values` names the numbers of the value, `unit` says what a plain number counts. */
export const SrtpParam = registry("SRTP parameter", PRIVATE, {
  ENCR_ALG: { value: 0, title: "encryption algorithm", values: SrtpEncrAlg, reference: "RFC 3830 §6.10.1" },
  SESSION_ENCR_KEY_LENGTH: { value: 1, title: "session encryption key length", unit: "octets", reference: "RFC 3830 §6.10.1" },
  AUTH_ALG: { value: 2, title: "authentication algorithm", values: SrtpAuthAlg, reference: "RFC 3830 §6.10.1" },
  SESSION_AUTH_KEY_LENGTH: { value: 3, title: "session authentication key length", unit: "octets", reference: "RFC 3830 §6.10.1" },
  SESSION_SALT_LENGTH: { value: 4, title: "session salt length", unit: "octets", reference: "RFC 3830 §6.10.1" },
  PRF: { value: 5, title: "SRTP pseudo-random function", values: SrtpPrf, reference: "RFC 3830 §6.10.1" },
  KEY_DERIVATION_RATE: { value: 6, title: "key derivation rate", reference: "RFC 3830 §6.10.1" },
  SRTP_ENCRYPTION: { value: 7, title: "SRTP encryption", values: OnOff, reference: "RFC 3830 §6.10.1" },
  SRTCP_ENCRYPTION: { value: 8, title: "SRTCP encryption", values: OnOff, reference: "RFC 3830 §6.10.1" },
  FEC_ORDER: { value: 9, title: "sender's FEC order", values: FecOrder, reference: "RFC 3830 §6.10.1" },
  SRTP_AUTHENTICATION: { value: 10, title: "SRTP authentication", values: OnOff, reference: "RFC 3830 §6.10.1" },
  AUTH_TAG_LENGTH: { value: 11, title: "authentication tag length", unit: "octets", reference: "RFC 3830 §6.10.1" },
  PREFIX_LENGTH: { value: 12, title: "SRTP prefix length", unit: "octets", reference: "RFC 3830 §6.10.1" },
  ROC_RATE: { value: 13, title: "ROC transmission rate", unit: "packets", reference: "RFC 4771 §4" },
  SRTP_AUTH_ALG: { value: 14, title: "SRTP authentication algorithm", values: SrtpAuthAlg, reference: "RFC 4771 §4" },
  SRTCP_AUTH_ALG: { value: 15, title: "SRTCP authentication algorithm", values: SrtpAuthAlg, reference: "RFC 4771 §4" },
  SRTP_AUTH_KEY_LENGTH: { value: 16, title: "SRTP authentication key length", unit: "octets", reference: "RFC 4771 §4" },
  SRTCP_AUTH_KEY_LENGTH: { value: 17, title: "SRTCP authentication key length", unit: "octets", reference: "RFC 4771 §4" },
  SRTP_TAG_LENGTH: { value: 18, title: "SRTP authentication tag length", unit: "octets", reference: "RFC 4771 §4" },
  SRTCP_TAG_LENGTH: { value: 19, title: "SRTCP authentication tag length", unit: "octets", reference: "RFC 4771 §4" },
  AEAD_TAG_LENGTH: { value: 20, title: "AEAD authentication tag length", unit: "octets", reference: "RFC 7714 §14.3" },
});

/** TESLA PRF and MAC, SP parameters 1 and 3 of Prot type TESLA. */
export const TeslaFunc = registry("TESLA function", PRIVATE, {
  HMAC_SHA_1: { value: 0, title: "HMAC-SHA-1", reference: "RFC 4442 §4.2" },
});

/** SP parameters for Prot type TESLA. The text's "parameter 11" for the receiver's local time is type 9. */
export const TeslaParam = registry("TESLA parameter", PRIVATE, {
  PRF: { value: 1, title: "PRF identifier", values: TeslaFunc, reference: "RFC 4442 §4.2" },
  PRF_OUTPUT_LENGTH: { value: 2, title: "length of the PRF f' output", unit: "bits", reference: "RFC 4442 §4.2" },
  MAC: { value: 3, title: "TESLA MAC identifier", values: TeslaFunc, reference: "RFC 4442 §4.2" },
  MAC_OUTPUT_LENGTH: { value: 4, title: "length of the MAC output", unit: "bits", reference: "RFC 4442 §4.2" },
  SESSION_START: { value: 5, title: "start of the session", unit: "NTP", reference: "RFC 4442 §4.2" },
  INTERVAL: { value: 6, title: "interval duration", unit: "ms", reference: "RFC 4442 §4.2" },
  DISCLOSURE_DELAY: { value: 7, title: "key disclosure delay", unit: "intervals", reference: "RFC 4442 §4.2" },
  CHAIN_LENGTH: { value: 8, title: "key chain length", unit: "intervals", reference: "RFC 4442 §4.2" },
  RECEIVER_TIME: { value: 9, title: "local timestamp of the media receiver", unit: "NTP", reference: "RFC 4442 §4.2" },
});

/** Group key management algorithm: parameter 0 of a rekey SA, and the GKMA extension. */
export const GkmaAlgorithm = registry("GKMA", PRIVATE, {
  NONE: { value: 0, title: "none: the group KEK under each member's key", reference: "docs/protocol.md" },
  LKH: { value: 1, title: "logical key hierarchy (RFC 2627)", reference: "docs/protocol.md" },
  LKH_PLUS: { value: 2, title: "LKH+: joins by a one-way function", reference: "docs/protocol.md" },
  OFC: { value: 3, title: "one-way function chains", reference: "docs/protocol.md" },
});

/** Arrangement of a data SA. */
export const DataArrangement = registry("arrangement", NO_PRIVATE_RANGE, {
  SHARED: { value: 0, title: "one TEK for all senders of the SA", reference: "docs/protocol.md" },
  PER_SSRC: { value: 1, title: "a TEK for each SSRC", reference: "docs/protocol.md" },
});

/** What a group wants of a leaver. */
export const DeregistrationWish = registry("de-registration", NO_PRIVATE_RANGE, {
  NONE: { value: 0, title: "not wanted", reference: "docs/protocol.md" },
  ONE_WAY: { value: 1, title: "one-way", reference: "docs/protocol.md" },
  ACKNOWLEDGED: { value: 2, title: "acknowledged", reference: "docs/protocol.md" },
});

/** SP parameters for Prot type GROUP. `octets`: length of the value, where it is fixed. `text`: the value is text. */
export const GroupParam = registry("group parameter", PRIVATE, {
  GROUP: { value: 0, title: "group", text: true, reference: "docs/protocol.md" },
  MEMBER_NUMBER: { value: 1, title: "member number", octets: 4, reference: "docs/protocol.md" },
  ROLE: { value: 2, title: "role", octets: 1, reference: "docs/protocol.md" },
  SSRC: { value: 3, title: "SSRC of this member", octets: 5, repeated: true, reference: "docs/protocol.md" },
  MEMBERSHIP_LIFETIME: { value: 4, title: "membership lifetime", octets: 4, unit: "s", reference: "docs/protocol.md" },
  ACCESS_CONTROL: { value: 5, title: "access control", octets: 1, reference: "docs/protocol.md" },
  BATCH_INTERVAL: { value: 6, title: "batch interval", octets: 4, unit: "ms", reference: "docs/protocol.md" },
  DEREGISTRATION: { value: 7, title: "de-registration", octets: 1, values: DeregistrationWish, reference: "docs/protocol.md" },
  DEREGISTRATION_SPREAD: { value: 8, title: "de-registration spread", octets: 4, unit: "ms", reference: "docs/protocol.md" },
  CONFIRMATION: { value: 9, title: "confirmation", octets: 1, values: OnOff, reference: "docs/protocol.md" },
  OWNER: { value: 10, title: "owner", text: true, reference: "docs/protocol.md" },
  POLICY_VERSION: { value: 11, title: "policy version", octets: 4, reference: "docs/protocol.md" },
  MEMBERS: { value: 128, title: "members", octets: 4, reference: "docs/protocol.md" },
  REGISTRATION_MODES: { value: 129, title: "registration modes", reference: "docs/protocol.md" },
  TITLE: { value: 130, title: "title", text: true, reference: "docs/protocol.md" },
});

/** SP parameters for Prot type REKEY. */
export const RekeyParam = registry("rekey parameter", PRIVATE, {
  GKMA: { value: 0, title: "GKMA, version, degree", octets: 3, reference: "docs/protocol.md" },
  KEK_ENCRYPTION: { value: 1, title: "KEK encryption", octets: 1, values: EncrAlg, reference: "docs/protocol.md" },
  V: { value: 2, title: "V", octets: 1, values: MacAlg, reference: "docs/protocol.md" },
  SIGNATURE: { value: 3, title: "signature", octets: 1, reference: "docs/protocol.md" },
  VERIFICATION_KEY: { value: 4, title: "verification key", reference: "docs/protocol.md" },
  CONTROL_ADDRESS: { value: 5, title: "control group address", text: true, reference: "docs/protocol.md" },
  SERVER_ADDRESS: { value: 6, title: "rekey server address", text: true, reference: "docs/protocol.md" },
  KEK_LIFETIME: { value: 7, title: "KEK lifetime", octets: 4, unit: "s", reference: "docs/protocol.md" },
  HEARTBEAT: { value: 8, title: "heartbeat", octets: 4, unit: "ms", reference: "docs/protocol.md" },
  ACTIVATION_DELAY: { value: 9, title: "activation delay", octets: 4, unit: "ms", reference: "docs/protocol.md" },
  DEACTIVATION_DELAY: { value: 10, title: "deactivation delay", octets: 4, unit: "ms", reference: "docs/protocol.md" },
  RETRANSMISSION: { value: 11, title: "retransmissions and first interval", octets: 3, reference: "docs/protocol.md" },
  RESYNCHRONISATION: { value: 12, title: "methods of resynchronisation", reference: "docs/protocol.md" },
  RESYNCHRONISATION_DELAY: { value: 13, title: "resynchronisation delay", octets: 4, unit: "ms", reference: "docs/protocol.md" },
  LARGEST_ID: { value: 14, title: "largest node id", octets: 4, reference: "docs/protocol.md" },
  PERIOD: { value: 15, title: "periodic rekeying", octets: 4, unit: "s", reference: "docs/protocol.md" },
  LEAF: { value: 16, title: "leaf of this member", octets: 4, reference: "docs/protocol.md" },
  REPAIR_SERVER: { value: 128, title: "repair server", text: true, repeated: true, reference: "docs/protocol.md" },
});

/** SP parameters for Prot type DATA. */
export const DataParam = registry("data SA parameter", PRIVATE, {
  SRTP_POLICY: { value: 0, title: "SRTP policy number", octets: 1, reference: "docs/protocol.md" },
  ARRANGEMENT: { value: 1, title: "arrangement", octets: 1, values: DataArrangement, reference: "docs/protocol.md" },
  STREAM: { value: 2, title: "stream", octets: 1, repeated: true, reference: "docs/protocol.md" },
  SOURCE: { value: 3, title: "source SSRC", octets: 4, repeated: true, reference: "docs/protocol.md" },
  DESTINATION: { value: 4, title: "destination", text: true, repeated: true, reference: "docs/protocol.md" },
  LIFETIME: { value: 5, title: "key lifetime", octets: 4, unit: "s", reference: "docs/protocol.md" },
  MKI: { value: 6, title: "MKI", octets: 4, repeated: true, reference: "docs/protocol.md" },
  SOURCE_AUTHENTICATION: { value: 7, title: "source authentication", octets: 1, reference: "docs/protocol.md" },
});

/** Prot type of SP and GENERIC-ID. `params` is the table of its SP parameters. */
export const ProtType = registry("Prot type", PRIVATE, {
  SRTP: { value: 0, title: "SRTP", params: SrtpParam, reference: "RFC 3830 §6.10" },
  TESLA: { value: 1, title: "TESLA", params: TeslaParam, reference: "RFC 4442 §4.1" },
  GROUP: { value: 241, title: "group", params: GroupParam, reference: "docs/protocol.md" },
  REKEY: { value: 242, title: "rekey SA", params: RekeyParam, reference: "docs/protocol.md" },
  DATA: { value: 243, title: "data SA", params: DataParam, reference: "docs/protocol.md" },
});
