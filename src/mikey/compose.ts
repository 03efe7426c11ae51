/** Messages as they are sent: which payloads, in the order that RFC 3830 §3 recommends, and what authenticates them. */
import {
  type Agreement,
  type CryptoProvider,
  certificateHash,
  type Decrypter,
  type EncryptionScheme,
  type SignatureScheme,
} from "../crypto/index.js";
import type { SrtpPolicy } from "../srtp/index.js";
import { csMapOf } from "./cs-map.js";
import { type Csb, derivationOf, type Identity, type KeyMaterial, type KeyPairCredential, keyDataOf } from "./csb.js";
import { MikeyError } from "./errors.js";
import type { MessageKeys } from "./keys.js";
import type { DhPayload, GeneralExtensionPayload, Header, KeyValidity, Payload } from "./message.js";
import { sealEnvelope } from "./modes/envelope.js";
import { encodeWithKemac, encodeWithMac, encodeWithV, verificationSuffix } from "./modes/mac.js";
import type { Mode } from "./modes/modes.js";
import { encodeSigned, isStandardScheme, type Signing } from "./modes/signature.js";
import { certPayloads, type PeerKey } from "./peer-keys.js";
import { dhGroupOf } from "./policy.js";
import { CacheIndicator, CertType, ExtensionType, HashFunc, ProtType } from "./registry.js";
import { type SpDialect, srtpPolicyParams } from "./srtp-policy.js";
import type { Timestamp } from "./timestamp.js";

/** What both messages of an exchange are made of. */
interface MessageParts {
  /** Of the message: an update may have another than its bundle. */
  readonly mode: Mode;
  readonly csb: Csb;
  /** SP payloads to send. */
  readonly policies: ReadonlyMap<number, SrtpPolicy>;
  readonly spDialect: SpDialect | undefined;
  /** Keys to transport. */
  readonly keys: readonly KeyMaterial[];
  /** Of KEMAC and V; undefined with NULL keying and where signatures alone authenticate. */
  readonly messageKeys: MessageKeys | undefined;
  readonly agreement: Agreement | undefined;
  /** Of the key that an agreement gives. */
  readonly validity: KeyValidity | undefined;
  readonly keyPair: KeyPairCredential | undefined;
  readonly signing: Signing | undefined;
  /** Whom the envelope key is encrypted to, and how. */
  readonly recipient: { readonly key: PeerKey; readonly scheme: EncryptionScheme } | undefined;
  readonly rand: Uint8Array | undefined;
  readonly padKeyWrap: boolean;
  /** Certificates were shown before (RFC 3830 §4.5). */
  readonly certificatesKnown: boolean;
}

export interface RequestParts extends MessageParts {
  readonly verificationRequested: boolean;
  readonly initiatorId: Identity | undefined;
  readonly responderId: Identity | undefined;
}

/** Encodes an initial message or an update. @throws MikeyError `mikey.option` */
export async function composeRequest(crypto: CryptoProvider, parts: RequestParts): Promise<Uint8Array> {
  const { mode, csb, agreement, validity } = parts;
  const header = headerOf(csb, mode.requestType, parts.verificationRequested);
  const payloads = [timestampPayload(csb.timestamp)];
  addRand(payloads, parts.rand);
  addIdentity(payloads, parts.initiatorId);
  addCertificates(payloads, parts);
  addIdentity(payloads, parts.responderId);
  addPolicies(payloads, parts);
  payloads.push(...csb.initiatorExtensions);
  if (mode.credential === "key-pair" && mode.keys === "initiator") await addEnvelope(crypto, payloads, parts, csb.initiatorId);
  if (agreement !== undefined && validity !== undefined) payloads.push(dhPayload(agreement, validity));
  if (mode.credential === "key-pair") return encodeSigned(crypto, parts.signing as Signing, header, payloads);
  const { encrAlg, macAlg } = csb;
  if (mode.keys === "agreement") return encodeWithMac(crypto, header, payloads, macAlg, parts.messageKeys as MessageKeys);
  const protection = { encrAlg, macAlg, keys: parts.messageKeys };
  return encodeWithKemac(crypto, header, payloads, csb.timestamp, parts.keys.map(keyDataOf), protection, parts);
}

export interface ResponseParts extends MessageParts {
  /** DHi, which the response repeats (RFC 3830 §3.3). */
  readonly initiatorValue: DhPayload | undefined;
}

/** Encodes a response: the Initiator's CSB ID and T, our SSRCs in its map (RFC 3830 §3, §6.1.1). */
export async function composeResponse(crypto: CryptoProvider, parts: ResponseParts): Promise<Uint8Array> {
  const { mode, csb, agreement, initiatorValue, messageKeys } = parts;
  const header = headerOf(csb, mode.responseType, false);
  const payloads: Payload[] = [];
  // The one extension that has its place before T (RFC 4738 §3.1).
  for (const extension of csb.responderExtensions) if (isCsbId(extension)) payloads.push(extension);
  payloads.push(timestampPayload(csb.timestamp));
  for (const extension of csb.responderExtensions) if (!isCsbId(extension)) payloads.push(extension);
  addRand(payloads, parts.rand);
  addIdentity(payloads, csb.responderId);
  // V proves a key that both have (RFC 3830 §3.2).
  if (mode.keys !== "initiator") addCertificates(payloads, parts);
  if (mode.keys === "agreement") addIdentity(payloads, csb.initiatorId);
  addPolicies(payloads, parts);
  const suffix = mode.suffix ? verificationSuffix(csb.initiatorId, csb.responderId, csb.timestamp) : [];
  if (mode.keys === "initiator") return encodeWithV(crypto, header, payloads, csb.macAlg, messageKeys as MessageKeys, suffix);
  if (mode.keys === "responder") await addEnvelope(crypto, payloads, parts, csb.responderId);
  else if (agreement !== undefined && initiatorValue !== undefined)
    payloads.push(dhPayload(agreement, initiatorValue.validity), initiatorValue);
  return mode.credential === "psk"
    ? encodeWithMac(crypto, header, payloads, csb.macAlg, messageKeys as MessageKeys)
    : encodeSigned(crypto, parts.signing as Signing, header, payloads, suffix);
}

function isCsbId({ extType }: GeneralExtensionPayload): boolean {
  return extType === ExtensionType.CSB_ID;
}

/** KEMAC, [CHASH], PKE (RFC 3830 §3.2). @throws MikeyError `mikey.option` without an identity to encrypt */
async function addEnvelope(
  crypto: CryptoProvider,
  payloads: Payload[],
  parts: MessageParts,
  sender: Identity | undefined,
): Promise<void> {
  const { csb, keys, messageKeys, recipient, padKeyWrap } = parts;
  const { envelope, encrAlg, macAlg } = csb;
  if (sender === undefined || envelope === undefined || messageKeys === undefined || recipient === undefined)
    throw new MikeyError("mikey.option", "an envelope has a sender's identity, a key and a recipient (RFC 3830 §3.2)");
  const context = { timestamp: csb.timestamp, ...derivationOf(csb) };
  const protection = { encrAlg, macAlg, keys: messageKeys };
  const kemac = sealEnvelope(crypto, context, sender, keys.map(keyDataOf), protection, { padKeyWrap });
  const data = await crypto.encrypt(recipient.key.publicKey, recipient.scheme, envelope.key);
  const cache = envelope.cached ? CacheIndicator.CACHE_FOR_CSB : CacheIndicator.NO_CACHE;
  payloads.push(kemac);
  // In a response it would name the Initiator's certificate, which RFC 4738 §3.1 has no place for.
  if (parts.mode.keys === "initiator") addCertificateHash(crypto, payloads, recipient.key);
  payloads.push({ kind: "PKE", cache, data });
}

/** Names the certificate that the envelope key is encrypted for, in case there are several; SHA-1 is what everybody knows (RFC 3830 §6.8). */
function addCertificateHash(crypto: CryptoProvider, payloads: Payload[], { chain }: PeerKey): void {
  const [certificate] = chain;
  if (!(certificate instanceof Uint8Array)) return;
  payloads.push({ kind: "CHASH", hashFunc: HashFunc.SHA_1, hash: certificateHash(crypto, "sha1", certificate) });
}

function addCertificates(payloads: Payload[], { mode, keyPair, certificatesKnown }: MessageParts): void {
  if (keyPair === undefined || mode.credential !== "key-pair" || certificatesKnown) return;
  const { chain, encryption } = keyPair;
  payloads.push(...certPayloads(chain, encryption === undefined ? CertType.X509V3 : CertType.X509V3_SIGN));
  if (encryption !== undefined) payloads.push(...certPayloads(encryption.chain, CertType.X509V3_ENCR));
}

function headerOf(csb: Csb, dataType: number, verificationRequested: boolean): Header {
  const { prf, csbId, mapType, cryptoSessions } = csb;
  return { version: 1, dataType, verificationRequested, prf, csbId, csMap: csMapOf(mapType, cryptoSessions) };
}

function timestampPayload({ tsType, value }: Timestamp): Payload {
  return { kind: "T", tsType, value };
}

function addRand(payloads: Payload[], rand: Uint8Array | undefined): void {
  if (rand !== undefined) payloads.push({ kind: "RAND", rand });
}

function addIdentity(payloads: Payload[], id: Identity | undefined): void {
  if (id !== undefined) payloads.push({ kind: "ID", idType: id.idType, data: id.data });
}

function dhPayload({ group, publicValue }: Agreement, validity: KeyValidity): DhPayload {
  return { kind: "DH", group: dhGroupOf(group), value: publicValue, reserved: 0, validity };
}

function addPolicies(payloads: Payload[], { policies, spDialect }: MessageParts): void {
  for (const [policyNo, policy] of policies)
    payloads.push({ kind: "SP", policyNo, protType: ProtType.SRTP, params: srtpPolicyParams(policy, spDialect) });
}

/** How a key pair signs: by the first of these schemes that it can. Undefined where there is none. */
export function signingOf(
  { privateKey }: KeyPairCredential,
  schemes: readonly SignatureScheme[],
  announced: boolean,
): Signing | undefined {
  const { signatureSchemes } = privateKey;
  const scheme = schemes.find((one) => (announced || isStandardScheme(one)) && signatureSchemes.includes(one));
  return scheme === undefined ? undefined : { signer: privateKey, scheme };
}

/** What a key pair decrypts with; undefined where it does not. */
export function decrypterOf({ privateKey, encryption }: KeyPairCredential): Decrypter | undefined {
  if (encryption !== undefined) return encryption.privateKey;
  const { encryptionSchemes = [], decrypt } = privateKey;
  return decrypt === undefined || encryptionSchemes.length === 0 ? undefined : (privateKey as Decrypter);
}
