/** Keys of a group and what is derived from them (docs/protocol.md §12.4, §15.4, §16). */
import { concatBytes, wipe } from "../bytes/index.js";
import type { CryptoProvider, PublicKey, SignatureScheme } from "../crypto/index.js";
import {
  CsMapType,
  deriveMessageKeys,
  type Header,
  type MessageKeys,
  MIKEY_VERSION,
  PrfFunc,
  prf,
  SignxAlg,
  type Timestamp,
  TimestampType,
} from "../mikey/index.js";
import { type SrtpMasterKey, type SuiteName, suiteOf } from "../srtp/index.js";
import { bigEndian, LABEL, prefixed } from "./labels.js";
import { type HeldKey, heldValue } from "./proof.js";

/** What stays the same for a group's life and in all its messages (docs/protocol.md §13). */
export interface GroupConstants {
  /** 1 to 255 octets. */
  readonly group: Uint8Array;
  /** Random, unique per key server and signing key. */
  readonly csbId: number;
  /** 32 random octets. */
  readonly rand: Uint8Array;
}

/** A group KEK; its SPI is the sequence of the message that made it. */
export interface GroupKek {
  readonly spi: number;
  readonly key: Uint8Array;
}

/** A key of a data SA. */
export interface DataKey {
  /** Number of the data SA. */
  readonly dataSa: number;
  readonly mki: number;
  /** The TEK, or for a data SA of arrangement `per-ssrc` the GTGK. */
  readonly key: Uint8Array;
  /** Master salt; absent exactly with a GTGK. */
  readonly salt?: Uint8Array;
}

/** Overwrites data keys. */
export function wipeDataKeys(keys: readonly DataKey[]): void {
  for (const { key, salt } of keys) wipe(key, salt);
}

/** The header of every message of a group. */
export function groupHeader({ csbId }: GroupConstants, dataType: number): Header {
  return {
    version: MIKEY_VERSION,
    dataType,
    verificationRequested: false,
    prf: PrfFunc.HMAC_SHA_256,
    csbId,
    csMap: { type: CsMapType.SRTP_ID, entries: [] },
  };
}

/** Whether a header has the form of `groupHeader`, for whatever group. */
export function isGroupHeader(header: Header, dataType: number): boolean {
  const { version, verificationRequested, prf: prfFunc, csMap } = header;
  return (
    version === MIKEY_VERSION &&
    header.dataType === dataType &&
    !verificationRequested &&
    prfFunc === PrfFunc.HMAC_SHA_256 &&
    csMap.type === CsMapType.SRTP_ID &&
    csMap.entries?.length === 0
  );
}

/** A sequence as T (docs/protocol.md §13). */
export function sequenceTimestamp(sequence: number): Timestamp {
  return { tsType: TimestampType.COUNTER, value: bigEndian(sequence, 4) };
}

/** Four octets as a number: KEK SPIs, MKIs, ids. */
export function octetsNumber(octets: Uint8Array): number {
  return new DataView(octets.buffer, octets.byteOffset).getUint32(0);
}

/** Keys that protect messages of a group under a pre-shared key or KEK (RFC 3830 §4.1.4 with the group's CSB ID and RAND). */
export function groupMessageKeys(
  crypto: CryptoProvider,
  { csbId, rand }: GroupConstants,
  key: Uint8Array,
  encrAlg: number,
  macAlg: number,
): MessageKeys {
  return deriveMessageKeys(crypto, { prf: PrfFunc.HMAC_SHA_256, csbId, rand }, key, encrAlg, macAlg);
}

/** Key of V in rekey messages: PRF(KEK, "ww1 v" ‖ L8 group ‖ L8 SPI, 256) (docs/protocol.md §16.2). */
export function verificationKeyOf(crypto: CryptoProvider, group: Uint8Array, { spi, key }: GroupKek): Uint8Array {
  const context = concatBytes(LABEL.verification, prefixed(1, group), prefixed(1, bigEndian(spi, 4)));
  return prf(crypto, "sha256", key, context, 256);
}

/** What of a group's keys a proof names: a KEK, or a data key where there is no KEK (docs/protocol.md §19). */
export type ProvenKey = { readonly kek: GroupKek } | { readonly dataKey: Pick<DataKey, "mki" | "key"> };

/** The 9 octets that name a key of a group in a proof (docs/protocol.md §19). */
export function provenKeyId(csbId: number, key: { readonly kekSpi: number } | { readonly mki: number }): Uint8Array {
  const [kind, spi] = "kekSpi" in key ? [0, key.kekSpi] : [1, key.mki];
  return concatBytes(bigEndian(csbId, 4), Uint8Array.of(kind), bigEndian(spi, 4));
}

/** What a proof needs of a key of a group, and what the key server keeps of it (docs/protocol.md §19). */
export function heldGroupKey(crypto: CryptoProvider, { group, csbId }: GroupConstants, proven: ProvenKey): HeldKey {
  const [spi, key] =
    "kek" in proven
      ? [provenKeyId(csbId, { kekSpi: proven.kek.spi }), proven.kek.key]
      : [provenKeyId(csbId, { mki: proven.dataKey.mki }), proven.dataKey.key];
  return { spi, g: heldValue(crypto, key, group, spi) };
}

/**
 * The SRTP master key of a data key (docs/protocol.md §15.4): itself, or for a GTGK the one of an SSRC.
 * @param ssrc whose packets it protects
 */
export function masterKeyOf(
  crypto: CryptoProvider,
  group: Uint8Array,
  { mki, key, salt }: DataKey,
  suite: SuiteName,
  ssrc: number,
): SrtpMasterKey {
  const mkiOctets = bigEndian(mki, 4);
  if (salt !== undefined) return { key: key.slice(), salt: salt.slice(), mki: mkiOctets };
  const { keyLength, saltLength } = suiteOf(suite);
  const context = concatBytes(prefixed(1, group), prefixed(1, mkiOctets), bigEndian(ssrc, 4));
  return {
    key: prf(crypto, "sha256", key, concatBytes(LABEL.tek, context), 8 * keyLength),
    salt: prf(crypto, "sha256", key, concatBytes(LABEL.salt, context), 8 * saltLength),
    mki: mkiOctets,
  };
}

/** First 64 bits of the SHA-256 of a SubjectPublicKeyInfo: what SIGNX and credentials call a key (docs/protocol.md §15.3, §16.3). */
export function signingKeyId(crypto: CryptoProvider, spki: Uint8Array): Uint8Array {
  return crypto.hash("sha256", spki).slice(0, 8);
}

const keyIds = new WeakMap<PublicKey, Uint8Array>();

/** `signingKeyId` of a key that is used again and again: computed once. Not the caller's to change. */
export function publicKeyId(crypto: CryptoProvider, key: PublicKey): Uint8Array {
  let id = keyIds.get(key);
  if (id === undefined) {
    id = signingKeyId(crypto, key.spki);
    keyIds.set(key, id);
  }
  return id;
}

/** What stands before the octets that a signature of a rekey message covers (docs/protocol.md §16.3). */
export function signatureHead(group: Uint8Array): Uint8Array {
  return concatBytes(LABEL.signature, prefixed(1, group));
}

/** Octets of both kinds of signature. */
export const SIGNATURE_OCTETS = 64;

/** How a key signs rekey messages and credentials; undefined for a kind of key that does not (docs/protocol.md §16.3). */
export function signxOf({ kind }: Pick<PublicKey, "kind">): { readonly alg: number; readonly scheme: SignatureScheme } | undefined {
  if (kind === "ed25519") return { alg: SignxAlg.ED25519, scheme: "ed25519" };
  if (kind === "ec-p256") return { alg: SignxAlg.ECDSA_P256_SHA256, scheme: "ecdsa-p256-sha256" };
  return undefined;
}
