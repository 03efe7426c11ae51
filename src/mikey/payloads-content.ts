/** What stands inside octet fields of payloads: the data of General Extensions, ticket data, SRTP session data. */
import { CodecError, list, prefixedOctets, Reader, struct, u8, utf8, utf8Text, Writer } from "../bytes/index.js";
import { type ChainOptions, chainReader, decodePayloads, encodePayloads } from "./codec.js";
import type { InnerPayload, Payload, SrtpSessionData } from "./message.js";
import { PayloadType } from "./registry.js";

/** RFC 4567 §3: KMPID is a token. */
const KMPID = /^[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+$/;

/**
 * The protocol list of the SDP IDs extension: identifiers separated by `;`, in the order of the SDP (RFC 4567 §4.1.4).
 * @throws CodecError `mikey.sdp-ids`
 */
export function decodeSdpIds(data: Uint8Array): string[] {
  const ids = (utf8Text(data) ?? "").split(";");
  checkSdpIds(ids);
  return ids;
}

/** The inverse of `decodeSdpIds`. @throws CodecError `mikey.sdp-ids` */
export function encodeSdpIds(ids: readonly string[]): Uint8Array {
  checkSdpIds(ids);
  return utf8(ids.join(";"));
}

function checkSdpIds(ids: readonly string[]): void {
  if (ids.length === 0 || !ids.every((id) => KMPID.test(id))) {
    throw new CodecError("mikey.sdp-ids", "mikey.EXT.data", -1, "not a list of protocol identifiers separated by ;");
  }
}

/** One sub-payload of the Key ID extension (RFC 4563 §4). */
export interface KeyId {
  /** See `KeyIdType`. */
  readonly type: number;
  readonly id: Uint8Array;
}

const keyIds = list<KeyId>(struct({ type: u8, id: prefixedOctets(1) }));

/** The data of the Key ID extension (RFC 4563 §4). @throws CodecError `bytes.truncated` */
export function decodeKeyIds(data: Uint8Array, options: ChainOptions = {}): KeyId[] {
  return keyIds.read(chainReader(data, options), "keyIds");
}

/** The inverse of `decodeKeyIds`. @throws CodecError `bytes.range` */
export function encodeKeyIds(ids: readonly KeyId[]): Uint8Array {
  const writer = new Writer("mikey");
  keyIds.write(writer, "keyIds", [...ids]);
  return writer.finish();
}

/** The CSB ID extension: the Responder's CSB ID of a group, 32 bits (RFC 4738 §3.6). @throws CodecError `bytes.truncated`, `bytes.trailing` */
export function decodeCsbIdExtension(data: Uint8Array): number {
  const reader = new Reader(data, "mikey.EXT");
  const csbId = reader.u32("csbId");
  reader.expectEnd();
  return csbId;
}

/** The inverse of `decodeCsbIdExtension`. @throws CodecError `bytes.range` */
export function encodeCsbIdExtension(csbId: number): Uint8Array {
  const writer = new Writer("mikey.EXT", 4);
  writer.u32("csbId", csbId);
  return writer.finish();
}

/** The OMA BCAST extension (RFC 5410 §3); OMA defines the data. */
export interface OmaBcastData {
  /** See `OmaBcastSubtype`. */
  readonly subtype: number;
  readonly data: Uint8Array;
}

/** @throws CodecError `bytes.truncated` */
export function decodeOmaBcast(octets: Uint8Array, options: ChainOptions = {}): OmaBcastData {
  const reader = chainReader(octets, { path: "mikey.EXT.data", ...options });
  return { subtype: reader.u8("subtype"), data: reader.rest("data") };
}

/** The inverse of `decodeOmaBcast`. @throws CodecError `bytes.range` */
export function encodeOmaBcast({ subtype, data }: OmaBcastData): Uint8Array {
  const writer = new Writer("mikey.EXT", 1 + data.length);
  writer.u8("subtype", subtype);
  writer.bytes(data);
  return writer.finish();
}

/** Ticket Data of the MIKEY Base Ticket (RFC 6043 App. A.1): THDR, then payloads. */
export interface TicketData {
  /** The data of the Ticket Header payload (App. A.3): specific to whoever made the ticket. */
  readonly header: Uint8Array;
  readonly payloads: readonly (Payload | InnerPayload)[];
}

const thdrData = prefixedOctets(2);

/** @throws CodecError as `decodeMessage` */
export function decodeTicketData(octets: Uint8Array, options: ChainOptions = {}): TicketData {
  const reader = chainReader(octets, options);
  const next = reader.u8("THDR.nextPayload");
  const header = thdrData.read(reader, "THDR.data");
  const end = reader.offset + reader.remaining;
  return { header, payloads: decodePayloads(octets, next, { ...options, start: reader.offset, end }) };
}

/** The inverse of `decodeTicketData`. @throws CodecError as `encodeMessage` */
export function encodeTicketData({ header, payloads }: TicketData): Uint8Array {
  const writer = new Writer("mikey");
  const first = payloads[0];
  writer.u8("THDR.nextPayload", first === undefined ? PayloadType.LAST : PayloadType[first.kind]);
  thdrData.write(writer, "THDR.data", header);
  writer.bytes(encodePayloads(payloads));
  return writer.finish();
}

/**
 * Session data of a GENERIC-ID entry for SRTP (RFC 6043 §6.1.1).
 * @param rocAndSeqPresent the entry's S flag
 * @throws CodecError `bytes.truncated`, `bytes.trailing`
 */
export function decodeSrtpSessionData(data: Uint8Array, rocAndSeqPresent: boolean): SrtpSessionData {
  const reader = new Reader(data, "mikey.HDR.csMap.sessionData");
  const ssrc = reader.u32("ssrc");
  const value = rocAndSeqPresent ? { ssrc, roc: reader.u32("roc"), seq: reader.u16("seq") } : { ssrc };
  reader.expectEnd();
  return value;
}

/**
 * The inverse of `decodeSrtpSessionData`; set the entry's S flag where there are ROC and SEQ.
 * @throws CodecError `bytes.range`, `mikey.session-data` where only one of ROC and SEQ is given
 */
export function encodeSrtpSessionData({ ssrc, roc, seq }: SrtpSessionData): Uint8Array {
  const writer = new Writer("mikey.HDR.csMap.sessionData", 10);
  writer.u32("ssrc", ssrc);
  if (roc !== undefined && seq !== undefined) {
    writer.u32("roc", roc);
    writer.u16("seq", seq);
  } else if (roc !== undefined || seq !== undefined) {
    throw writer.error("mikey.session-data", "", "ROC and SEQ go together");
  }
  return writer.finish();
}

/**
 * The value of a policy parameter as a number: 1 to 4 octets, network byte order. One octet is the norm, longer
 * values are met. Undefined for another length.
 */
export function policyNumber(value: Uint8Array): number | undefined {
  if (value.length < 1 || value.length > 4) return undefined;
  let number = 0;
  for (const octet of value) number = number * 256 + octet;
  return number;
}

/** The shortest octet string of a policy parameter's number. @throws CodecError `bytes.range` for more than 32 bits */
export function policyValue(number: number): Uint8Array {
  if (!Number.isInteger(number) || number < 0 || number > 0xffff_ffff)
    throw new CodecError("bytes.range", "mikey.SP.params.value", -1, `${number} does not fit 4 octets`);
  const octets = new Uint8Array(number > 0xff_ffff ? 4 : number > 0xffff ? 3 : number > 0xff ? 2 : 1);
  for (let i = 0; i < octets.length; i++) octets[octets.length - 1 - i] = number >>> (8 * i);
  return octets;
}
