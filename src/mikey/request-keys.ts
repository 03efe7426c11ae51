/** Where the keys of a bundle come from, at its Responder: one function for each kind of mode. */
import { equalBytes, wipe } from "../bytes/index.js";
import {
  type Agreement,
  type CertificateHashName,
  type CryptoProvider,
  certificateHash,
  type Decrypter,
  type EncryptionScheme,
} from "../crypto/index.js";
import { decrypterOf } from "./compose.js";
import {
  type Csb,
  copyEnvelope,
  copyKeys,
  derivationOf,
  type EnvelopeKey,
  type Identity,
  type KeyMaterial,
  keyMaterialOf,
  sameIdentity,
} from "./csb.js";
import { authenticationError, MikeyError } from "./errors.js";
import { createKey, type KeyRequest } from "./key-request.js";
import { deriveMessageKeys, type MessageKeys } from "./keys.js";
import type { DhPayload, KeyData } from "./message.js";
import { envelopeKeyOctets, openEnvelope, verificationAlg } from "./modes/envelope.js";
import { payloadOf, requiredPayload } from "./modes/grammar.js";
import { checkKemacAlgorithms, readKemac } from "./modes/mac.js";
import type { PeerKey } from "./peer-keys.js";
import { groupOf, isStandardGroup } from "./policy.js";
import { HashFunc } from "./registry.js";
import { type Authentic, checkAcceptable, claimedInitiator, type ErrorProofMaker, type ReceivedRequest } from "./request.js";

const MOST_KEYS = 64;

/** The keys of a bundle, and what came with them. */
export interface Keying {
  readonly keys: readonly KeyMaterial[];
  /** The Initiator as the envelope names it: one of those whom its certificate names. */
  readonly initiatorId?: Identity;
  readonly envelope?: EnvelopeKey | undefined;
  /** What KEMAC and V of the response are under. */
  readonly messageKeys?: MessageKeys | undefined;
  /** What errors are authenticated by from here on. */
  readonly proof?: ErrorProofMaker;
  /** Our half of an agreement, and the Initiator's. */
  readonly agreement?: Agreement;
  readonly initiatorValue?: DhPayload;
  /** Mode RSA-R: whom our envelope key is encrypted to. */
  readonly recipient?: { readonly key: PeerKey; readonly scheme: EncryptionScheme };
}

/** E(encr_key, {TGK}) under a key that both parties have, or in the clear (RFC 3830 §3.1). */
export function readKeys(request: ReceivedRequest, { messageKeys }: Authentic): Keying {
  const { crypto, message, timestamp, base } = request;
  const data = readKemac(crypto, message, timestamp, messageKeys);
  try {
    return { keys: materials(request, data), messageKeys, envelope: copyEnvelope(base?.envelope) };
  } catch (error) {
    wipeKeyData(data);
    throw error;
  }
}

/** The envelope key is decrypted by our private key, and with it the Initiator's identity and keys (RFC 3830 §3.2). */
export async function readEnvelope(request: ReceivedRequest, { initiatorId, peerKey }: Authentic): Promise<Keying> {
  const { crypto, policy, message, mode, base, timestamp } = request;
  const { prf, csbId } = message.header;
  const { encrAlg, macAlg } = requiredPayload(message, "KEMAC");
  checkKemacAlgorithms(mode, encrAlg, macAlg);
  checkAcceptable(request, encrAlg, macAlg);
  const rand = base?.rand ?? requiredPayload(message, "RAND").rand;
  const context = { prf, csbId, rand, timestamp };
  const opened = await openEnvelope(crypto, message, decrypterFor(request), policy.encryptionSchemes, context);
  const { messageKeys, envelopeKey, cached } = opened;
  request.secrets.push(messageKeys);
  try {
    if (!(await isInitiator(request, opened.id, initiatorId, peerKey))) {
      policy.refused("the encrypted identity is another than the Initiator's");
      throw authenticationError();
    }
    return {
      keys: materials(request, opened.keys),
      initiatorId: opened.id,
      envelope: { key: envelopeKey, cached },
      messageKeys,
      proof: { keys: messageKeys, macAlg: verificationAlg(macAlg) },
    };
  } catch (error) {
    wipe(envelopeKey);
    wipeKeyData(opened.keys);
    throw error;
  }
}

/** "The encrypted IDi MUST always be verified to be equal with the expected IDi" (RFC 3830 §3.2). */
async function isInitiator(
  request: ReceivedRequest,
  encrypted: Identity,
  initiatorId: Identity | undefined,
  peerKey: PeerKey | undefined,
): Promise<boolean> {
  if (sameIdentity(encrypted, initiatorId)) return true;
  // Where nothing but the certificate says who it is, any of the identities that it names will do.
  if (claimedInitiator(request) !== undefined || peerKey === undefined) return false;
  return request.policy.peerKeys.isOf(peerKey, encrypted, "signature", request.now);
}

/** A hash only finds a certificate of ours; what it finds proves itself by decrypting. */
const CHASH_FUNCTIONS: ReadonlyMap<number, CertificateHashName> = new Map([
  [HashFunc.SHA_1, "sha1"],
  [HashFunc.MD5, "md5"],
  [HashFunc.SHA_256, "sha256"],
]);

/** Hashes of our own certificates, each made once. */
const ownHashes = new WeakMap<Uint8Array, Map<CertificateHashName, Uint8Array>>();

function ownHash(crypto: CryptoProvider, name: CertificateHashName, certificate: Uint8Array): Uint8Array {
  const known = ownHashes.get(certificate) ?? new Map<CertificateHashName, Uint8Array>();
  ownHashes.set(certificate, known);
  const hash = known.get(name) ?? certificateHash(crypto, name, certificate);
  known.set(name, hash);
  return hash;
}

/** The private key that PKE is encrypted to: the one whose certificate CHASH names, otherwise our first (RFC 3830 §3.2, §6.8). */
function decrypterFor({ crypto, options, message }: ReceivedRequest): Decrypter {
  const chash = payloadOf(message, "CHASH");
  const hash = chash === undefined ? undefined : CHASH_FUNCTIONS.get(chash.hashFunc);
  if (chash !== undefined && hash === undefined)
    throw new MikeyError("mikey.hash-function", `Hash func ${chash.hashFunc} is not supported`);
  const pairs = (options.keyPairs ?? []).filter(({ chain, encryption }) => {
    const [certificate] = encryption?.chain ?? chain;
    if (chash === undefined || hash === undefined) return true;
    return certificate instanceof Uint8Array && equalBytes(ownHash(crypto, hash, certificate), chash.hash);
  });
  const decrypter = pairs.map(decrypterOf).find((candidate) => candidate !== undefined);
  if (decrypter === undefined) throw new MikeyError("mikey.certificate", "no key of ours decrypts what was encrypted to it");
  return decrypter;
}

/** DHi, and a value of our own in the same group; without DHi the keys stay (RFC 3830 §3.3, §4.5). */
export async function agreeOnKey(request: ReceivedRequest, { messageKeys }: Authentic): Promise<Keying> {
  const { crypto, policy, message, mode, base } = request;
  const initiatorValue = payloadOf(message, "DH");
  if (mode.credential === "key-pair") requireSigningPair(request);
  if (initiatorValue === undefined) return { keys: copyKeys(base?.keys ?? []), messageKeys };
  const group = groupOf(initiatorValue.group);
  if (group === undefined || !policy.groups.includes(group) || !(request.announced || isStandardGroup(group)))
    throw new MikeyError("mikey.group", `DH-Group ${initiatorValue.group} is not acceptable here`);
  const agreement = await crypto.agreement(group);
  request.secrets.push(agreement);
  const key = await agreement.agree(initiatorValue.value);
  if (key === undefined) {
    policy.refused("a Diffie-Hellman value that is not acceptable");
    throw authenticationError();
  }
  return { keys: [{ kind: "TGK", key, validity: initiatorValue.validity }], messageKeys, agreement, initiatorValue };
}

const oneTgk = (): readonly KeyRequest[] => [{ kind: "TGK", length: 32 }];

/** Keys of our making under an envelope key that is encrypted to the Initiator (RFC 4738 §3.6). */
export async function makeKeys(request: ReceivedRequest, draft: Csb): Promise<Keying> {
  const { crypto, policy, base, context } = request;
  const { keys: wanted = oneTgk, group } = context;
  const { credential, initiatorId, encrAlg, macAlg } = draft;
  const chain = "keyPair" in credential && credential.peer !== undefined && "chain" in credential.peer ? credential.peer.chain : [];
  const key = await policy.peerKeys.find(chain, initiatorId, "encryption", request.now);
  if (key === undefined || key.publicKey.kind !== "rsa")
    throw new MikeyError("mikey.certificate", "there is no good RSA key of the Initiator to encrypt to");
  requireSigningPair(request);
  const envelope = {
    key: crypto.randomBytes(envelopeKeyOctets(encrAlg)),
    // Whoever has the group's envelope key cached could give the group another key (RFC 4738 §3.6 has one for all).
    cached: group === undefined && (base?.envelope?.cached ?? policy.cacheEnvelopeKeys),
  };
  const messageKeys = deriveMessageKeys(crypto, derivationOf(draft), envelope.key, encrAlg, macAlg);
  request.secrets.push(messageKeys);
  const keys = (group?.keys ?? wanted()).map((wish) => createKey(crypto, wish, draft.policies));
  return { keys, envelope, messageKeys, recipient: { key, scheme: policy.encryptionSchemes[0] as EncryptionScheme } };
}

/** @throws MikeyError `mikey.certificate` */
function requireSigningPair(request: ReceivedRequest): void {
  if (request.pair === undefined)
    throw new MikeyError("mikey.certificate", "no key of ours signs as this message and the policy have it");
}

/** Overwrites keys of a message that is refused. */
export function wipeKeyData(keys: readonly Pick<KeyMaterial, "key" | "salt">[]): void {
  for (const { key, salt } of keys) wipe(key, salt);
}

/** Key data as they were transported; in an update none means that the keys stay (RFC 3830 §4.5). */
function materials({ base, nullKeyed, use }: ReceivedRequest, data: readonly KeyData[]): readonly KeyMaterial[] {
  if (data.length > MOST_KEYS) throw new MikeyError("mikey.key-data", `${data.length} keys, at most ${MOST_KEYS} are accepted`);
  if (data.length === 0 && base !== undefined) return copyKeys(base.keys);
  if (data.length === 0) throw new MikeyError("mikey.empty-kemac", "the message carries no key; media would go out in the clear");
  return data.map((key) => {
    const material = keyMaterialOf(key);
    if (material.validity.kv !== "spi" || material.validity.spi.length > 0) return material;
    if (!nullKeyed || !use.take("empty-spi")) throw new MikeyError("mikey.key-data", "an SPI without octets");
    return { ...material, validity: { kv: "null" } };
  });
}
