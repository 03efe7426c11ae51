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
import { encodeSigned, type Signing } from "./modes/signature.js";
import { certPayloads, type PeerKey } from "./peer-keys.js";
import { dhGroupOf, usableSchemes } from "./policy.js";
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
  const before: Payload[] = [
    timestampPayload(csb.timestamp),
    ...randPayload(parts.rand),
    ...idPayload(parts.initiatorId),
    ...certificates(parts),
    ...idPayload(parts.responderId),
    ...policyPayloads(parts),
    ...csb.initiatorExtensions,
  ];
  const dh = agreement === undefined || validity === undefined ? [] : [dhPayload(agreement, validity)];
  if (mode.credential === "key-pair") {
    const envelope = mode.keys === "initiator" ? await envelopePayloads(crypto, parts, csb.initiatorId) : [];
    return encodeSigned(crypto, parts.signing as Signing, header, [...before, ...envelope, ...dh]);
  }
  const { encrAlg, macAlg } = csb;
  if (mode.keys === "agreement") return encodeWithMac(crypto, header, [...before, ...dh], macAlg, parts.messageKeys as MessageKeys);
  const protection = { encrAlg, macAlg, keys: parts.messageKeys };
  return encodeWithKemac(crypto, header, before, csb.timestamp, parts.keys.map(keyDataOf), protection, parts);
}

export interface ResponseParts extends MessageParts {
  /** DHi, which the response repeats (RFC 3830 §3.3). */
  readonly initiatorValue: DhPayload | undefined;
}

/** Encodes a response: the Initiator's CSB ID and T, our SSRCs in its map (RFC 3830 §3, §6.1.1). */
export async function composeResponse(crypto: CryptoProvider, parts: ResponseParts): Promise<Uint8Array> {
  const { mode, csb, agreement, initiatorValue, messageKeys } = parts;
  const header = headerOf(csb, mode.responseType, false);
  const isCsbId = ({ extType }: GeneralExtensionPayload): boolean => extType === ExtensionType.CSB_ID;
  const before: Payload[] = [
    // The one extension that has its place before T (RFC 4738 §3.1).
    ...csb.responderExtensions.filter(isCsbId),
    timestampPayload(csb.timestamp),
    ...csb.responderExtensions.filter((extension) => !isCsbId(extension)),
    ...randPayload(parts.rand),
    ...idPayload(csb.responderId),
    // V proves a key that both have (RFC 3830 §3.2).
    ...(mode.keys === "initiator" ? [] : certificates(parts)),
    ...(mode.keys === "agreement" ? idPayload(csb.initiatorId) : []),
    ...policyPayloads(parts),
  ];
  const suffix = mode.suffix ? verificationSuffix(csb.initiatorId, csb.responderId, csb.timestamp) : [];
  if (mode.keys === "initiator") return encodeWithV(crypto, header, before, csb.macAlg, messageKeys as MessageKeys, suffix);
  if (mode.keys === "responder") {
    const envelope = await envelopePayloads(crypto, parts, csb.responderId);
    return encodeSigned(crypto, parts.signing as Signing, header, [...before, ...envelope], suffix);
  }
  const values =
    agreement === undefined || initiatorValue === undefined ? [] : [dhPayload(agreement, initiatorValue.validity), initiatorValue];
  return mode.credential === "psk"
    ? encodeWithMac(crypto, header, [...before, ...values], csb.macAlg, messageKeys as MessageKeys)
    : encodeSigned(crypto, parts.signing as Signing, header, [...before, ...values], suffix);
}

/** KEMAC, [CHASH], PKE (RFC 3830 §3.2). @throws MikeyError `mikey.option` without an identity to encrypt */
async function envelopePayloads(crypto: CryptoProvider, parts: MessageParts, sender: Identity | undefined): Promise<Payload[]> {
  const { csb, keys, messageKeys, recipient, padKeyWrap } = parts;
  const { envelope, encrAlg, macAlg } = csb;
  if (sender === undefined || envelope === undefined || messageKeys === undefined || recipient === undefined)
    throw new MikeyError("mikey.option", "an envelope has a sender's identity, a key and a recipient (RFC 3830 §3.2)");
  const context = { timestamp: csb.timestamp, ...derivationOf(csb) };
  const protection = { encrAlg, macAlg, keys: messageKeys };
  const kemac = sealEnvelope(crypto, context, sender, keys.map(keyDataOf), protection, { padKeyWrap });
  const data = await crypto.encrypt(recipient.key.publicKey, recipient.scheme, envelope.key);
  const cache = envelope.cached ? CacheIndicator.CACHE_FOR_CSB : CacheIndicator.NO_CACHE;
  // In a response it would name the Initiator's certificate, which RFC 4738 §3.1 has no place for.
  const chash = parts.mode.keys === "initiator" ? chashPayload(crypto, recipient.key) : [];
  return [kemac, ...chash, { kind: "PKE", cache, data }];
}

/** Names the certificate that the envelope key is encrypted for, in case there are several; SHA-1 is what everybody knows (RFC 3830 §6.8). */
function chashPayload(crypto: CryptoProvider, { chain }: PeerKey): Payload[] {
  const [certificate] = chain;
  if (!(certificate instanceof Uint8Array)) return [];
  return [{ kind: "CHASH", hashFunc: HashFunc.SHA_1, hash: certificateHash(crypto, "sha1", certificate) }];
}

function certificates({ mode, keyPair, certificatesKnown }: MessageParts): Payload[] {
  if (keyPair === undefined || mode.credential !== "key-pair" || certificatesKnown) return [];
  const { chain, encryption } = keyPair;
  if (encryption === undefined) return certPayloads(chain, CertType.X509V3);
  return [...certPayloads(chain, CertType.X509V3_SIGN), ...certPayloads(encryption.chain, CertType.X509V3_ENCR)];
}

function headerOf(csb: Csb, dataType: number, verificationRequested: boolean): Header {
  const { prf, csbId, mapType, cryptoSessions } = csb;
  return { version: 1, dataType, verificationRequested, prf, csbId, csMap: csMapOf(mapType, cryptoSessions) };
}

function timestampPayload({ tsType, value }: Timestamp): Payload {
  return { kind: "T", tsType, value };
}

function randPayload(rand: Uint8Array | undefined): Payload[] {
  return rand === undefined ? [] : [{ kind: "RAND", rand }];
}

function idPayload(id: Identity | undefined): Payload[] {
  return id === undefined ? [] : [{ kind: "ID", idType: id.idType, data: id.data }];
}

function dhPayload({ group, publicValue }: Agreement, validity: KeyValidity): DhPayload {
  return { kind: "DH", group: dhGroupOf(group), value: publicValue, reserved: 0, validity };
}

function policyPayloads({ policies, spDialect }: MessageParts): Payload[] {
  return [...policies].map(([policyNo, policy]) => ({
    kind: "SP",
    policyNo,
    protType: ProtType.SRTP,
    params: srtpPolicyParams(policy, spDialect),
  }));
}

/** How a key pair signs: by the first of these schemes that it can. Undefined where there is none. */
export function signingOf(
  { privateKey }: KeyPairCredential,
  schemes: readonly SignatureScheme[],
  announced: boolean,
): Signing | undefined {
  const scheme = usableSchemes(schemes, announced).find((candidate) => privateKey.signatureSchemes.includes(candidate));
  return scheme === undefined ? undefined : { signer: privateKey, scheme };
}

/** What a key pair decrypts with; undefined where it does not. */
export function decrypterOf({ privateKey, encryption }: KeyPairCredential): Decrypter | undefined {
  if (encryption !== undefined) return encryption.privateKey;
  const { encryptionSchemes = [], decrypt } = privateKey;
  return decrypt === undefined || encryptionSchemes.length === 0 ? undefined : (privateKey as Decrypter);
}
