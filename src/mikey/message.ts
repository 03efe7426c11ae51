/**
 * The decoded form of a MIKEY message (RFC 3830 §5, §6): plain discriminated unions, one `kind` per payload.
 * Numbers stay numbers here, so that unknown and private-use values survive; `registry.ts` gives them names.
 * Next-payload octets are not stored: they follow from the order.
 */

/** HDR (RFC 3830 §6.1). */
export interface Header {
  /** 1 in every published version. */
  readonly version: number;
  readonly dataType: number;
  /** V flag: the Initiator wants a response. */
  readonly verificationRequested: boolean;
  /** PRF func, 7 bits. */
  readonly prf: number;
  /** CSB ID, 32 bits. */
  readonly csbId: number;
  readonly csMap: CsMap;
}

/** CS ID map info. Types 0 and 2 always have `entries` when decoded, even where #CS is 0. */
export type CsMap = SrtpIdMap | EmptyMap | GenericIdMap;

/** Map type 0 (RFC 3830 §6.1.1). The CS ID of entry i (from 0) is i + 1. */
export interface SrtpIdMap {
  readonly type: 0;
  readonly entries: readonly SrtpIdEntry[];
}

export interface SrtpIdEntry {
  readonly policyNo: number;
  /** 0: not chosen yet; the stream's sender fills it in. */
  readonly ssrc: number;
  readonly roc: number;
}

/** Map type 1 (RFC 4563 §5), or an unassigned map type with #CS = 0: nothing follows. */
export interface EmptyMap {
  readonly type: number;
  /** #CS. */
  readonly count: number;
  readonly entries?: never;
}

/** Map type 2 (RFC 6043 §6.1.1). */
export interface GenericIdMap {
  readonly type: 2;
  readonly entries: readonly GenericIdEntry[];
}

export interface GenericIdEntry {
  readonly csId: number;
  readonly protType: number;
  /** S flag: ROC and SEQ are in the session data. */
  readonly rocAndSeqPresent: boolean;
  readonly policyNos: readonly number[];
  /** For SRTP: SSRC (4) [ROC (4) SEQ (2)]. */
  readonly sessionData: Uint8Array;
  readonly spi: Uint8Array;
}

/** KEMAC (RFC 3830 §6.2). */
export interface KemacPayload {
  readonly kind: "KEMAC";
  readonly encrAlg: number;
  /** Encrypted octets, or with NULL encryption the key-data chain itself. */
  readonly encrData: Uint8Array;
  readonly macAlg: number;
  readonly mac: Uint8Array;
}

/** PKE (RFC 3830 §6.3). */
export interface PkePayload {
  readonly kind: "PKE";
  /** C, 2 bits. */
  readonly cache: number;
  readonly data: Uint8Array;
}

/** DH (RFC 3830 §6.4). */
export interface DhPayload {
  readonly kind: "DH";
  readonly group: number;
  readonly value: Uint8Array;
  /** 4 bits, zero on output. */
  readonly reserved: number;
  readonly validity: KeyValidity;
}

/** SIGN (RFC 3830 §6.5). Always last; has no next-payload octet. */
export interface SignPayload {
  readonly kind: "SIGN";
  readonly signatureType: number;
  readonly signature: Uint8Array;
}

/** T (RFC 3830 §6.6). */
export interface TimestampPayload {
  readonly kind: "T";
  readonly tsType: number;
  readonly value: Uint8Array;
}

/** ID (RFC 3830 §6.7). Data are octets: 3GPP puts raw hashes under type URI. */
export interface IdPayload {
  readonly kind: "ID";
  readonly idType: number;
  readonly data: Uint8Array;
}

/** CERT (RFC 3830 §6.7). */
export interface CertPayload {
  readonly kind: "CERT";
  readonly certType: number;
  readonly data: Uint8Array;
}

/** CHASH (RFC 3830 §6.8). */
export interface ChashPayload {
  readonly kind: "CHASH";
  readonly hashFunc: number;
  readonly hash: Uint8Array;
}

/** V (RFC 3830 §6.9). */
export interface VerificationPayload {
  readonly kind: "V";
  readonly authAlg: number;
  readonly data: Uint8Array;
}

/** SP (RFC 3830 §6.10). */
export interface SecurityPolicyPayload {
  readonly kind: "SP";
  readonly policyNo: number;
  readonly protType: number;
  readonly params: readonly PolicyParam[];
}

export interface PolicyParam {
  readonly type: number;
  readonly value: Uint8Array;
}

/** RAND (RFC 3830 §6.11). */
export interface RandPayload {
  readonly kind: "RAND";
  readonly rand: Uint8Array;
}

/** ERR (RFC 3830 §6.12). */
export interface ErrorPayload {
  readonly kind: "ERR";
  readonly errorNo: number;
  /** 16 bits, zero on output. */
  readonly reserved: number;
}

/** General Extension (RFC 3830 §6.15). */
export interface GeneralExtensionPayload {
  readonly kind: "EXT";
  readonly extType: number;
  readonly data: Uint8Array;
}

/** TR, timestamp with a role (RFC 6043 §6.4). */
export interface TimestampRolePayload {
  readonly kind: "TR";
  readonly role: number;
  readonly tsType: number;
  readonly value: Uint8Array;
}

/** IDR, identity with a role (RFC 6043 §6.6). */
export interface IdRolePayload {
  readonly kind: "IDR";
  readonly role: number;
  readonly idType: number;
  readonly data: Uint8Array;
}

/** RANDR, random value with a role (RFC 6043 §6.8). */
export interface RandRolePayload {
  readonly kind: "RANDR";
  readonly role: number;
  readonly rand: Uint8Array;
}

/** What TP and TICKET share (RFC 6043 §6.10). */
export interface TicketPolicy {
  readonly ticketType: number;
  readonly subtype: number;
  readonly version: number;
  /** PRF func, 7 bits. */
  readonly prf: number;
  /** Flags D (most significant) to O, 12 bits. */
  readonly flags: number;
  /** 5 bits, zero on output. */
  readonly reserved: number;
  /** One octet "first payload type", then payloads. */
  readonly tpData: Uint8Array;
}

/** TP (RFC 6043 §6.10). */
export interface TicketPolicyPayload extends TicketPolicy {
  readonly kind: "TP";
}

/** TICKET (RFC 6043 §6.10). */
export interface TicketPayload extends TicketPolicy {
  readonly kind: "TICKET";
  readonly ticketData: Uint8Array;
  readonly initiatorData: Uint8Array;
}

/** IBAKE (RFC 6267 §6.1.1). */
export interface IbakePayload {
  readonly kind: "IBAKE";
  readonly encrData: Uint8Array;
}

/** ESK (RFC 6267 §6.1.2). */
export interface EncryptedSecretKeyPayload {
  readonly kind: "ESK";
  readonly encrData: Uint8Array;
}

/** SAKKE (RFC 6509 §4.2). */
export interface SakkePayload {
  readonly kind: "SAKKE";
  readonly params: number;
  readonly idScheme: number;
  readonly data: Uint8Array;
}

/** SIGNX, private use (docs/protocol.md). */
export interface SignxPayload {
  readonly kind: "SIGNX";
  readonly alg: number;
  /** 8 octets. */
  readonly keyId: Uint8Array;
  readonly signature: Uint8Array;
}

export type Payload =
  | KemacPayload
  | PkePayload
  | DhPayload
  | SignPayload
  | TimestampPayload
  | IdPayload
  | CertPayload
  | ChashPayload
  | VerificationPayload
  | SecurityPolicyPayload
  | RandPayload
  | ErrorPayload
  | GeneralExtensionPayload
  | TimestampRolePayload
  | IdRolePayload
  | RandRolePayload
  | TicketPolicyPayload
  | TicketPayload
  | IbakePayload
  | EncryptedSecretKeyPayload
  | SakkePayload
  | SignxPayload;

export type PayloadKind = Payload["kind"];

/** Key data sub-payload (RFC 3830 §6.13), inside the KEMAC's encrypted data. */
export interface KeyData {
  /** 0 TGK, 1 TGK+SALT, 2 TEK, 3 TEK+SALT, 4 GTGK, 5 GTGK+SALT, 6 MPK, 7 K_PR. */
  readonly type: number;
  readonly key: Uint8Array;
  /** Present exactly for the types with a salt: 1, 3, 5. */
  readonly salt?: Uint8Array;
  readonly validity: KeyValidity;
}

/** What the session data of a GENERIC-ID entry say for SRTP (RFC 6043 §6.1.1). */
export interface SrtpSessionData {
  /** 0 is an ordinary value here. */
  readonly ssrc: number;
  /** Present with the S flag. */
  readonly roc?: number;
  /** Present with the S flag. */
  readonly seq?: number;
}

/** ECCPT (RFC 6267 §6.1.4), inside the IBAKE payload's encrypted data. */
export interface EccPointPayload {
  readonly kind: "ECCPT";
  readonly curve: number;
  /** SEC 1 octet string. */
  readonly point: Uint8Array;
  /** Up to 3 octets that end the point on a 32-bit boundary, zero on output. */
  readonly padding: Uint8Array;
  /** Ignored. */
  readonly authAlg: number;
  /** Ignored. */
  readonly tgkLength: number;
  /** 4 bits, zero on output. */
  readonly reserved: number;
  readonly validity: KeyValidity;
}

/** SK (RFC 6267 §6.1.5), inside the ESK payload's encrypted data. */
export interface SecretKeyPayload {
  readonly kind: "SK";
  /** 4 bits. */
  readonly type: number;
  readonly key: Uint8Array;
  readonly validity: KeyValidity;
}

/** What stands only inside encrypted data. */
export type InnerPayload = EccPointPayload | SecretKeyPayload;

/** KV data (RFC 3830 §6.14). */
export type KeyValidity =
  | { readonly kv: "null" }
  | { readonly kv: "spi"; readonly spi: Uint8Array }
  | { readonly kv: "interval"; readonly from: Uint8Array; readonly to: Uint8Array };

/** A message to encode. */
export interface MikeyMessage {
  readonly header: Header;
  readonly payloads: readonly Payload[];
  /** Octets after the last payload; only where the named tolerance kept them. */
  readonly trailing?: Uint8Array;
}

/** Where a payload stands in the received octets. */
export interface PayloadSpan {
  readonly kind: PayloadKind;
  /** Dotted path, e.g. `mikey.ID` for the first identity and `mikey.ID[1]` for the second. */
  readonly path: string;
  /** Offset of the payload's first octet. */
  readonly start: number;
  /** Offset after its last octet. */
  readonly end: number;
  /** For KEMAC, V, SIGN, SIGNX: offset of the MAC or signature value. What precedes it is what the value covers. */
  readonly valueStart?: number;
}

/** A message as received. MACs and signatures are checked over `octets`, never over a re-encoding. */
export interface DecodedMessage extends MikeyMessage {
  /** A private copy of the octets that were decoded. What the payloads have of octets are views of it. */
  readonly octets: Uint8Array;
  /** One per payload, in order. */
  readonly spans: readonly PayloadSpan[];
}
