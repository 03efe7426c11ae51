/** A request on its way through a Responder: what is known of it, and who sent it (RFC 3830 §5.3). */
import { equalBytes } from "../bytes/index.js";
import type { Agreement, CertificateReference, CryptoProvider } from "../crypto/index.js";
import { signingOf } from "./compose.js";
import { type Credential, type Csb, derivationOf, type Identity, type KeyPairCredential, sameIdentity } from "./csb.js";
import { authenticationError, MikeyError } from "./errors.js";
import { deriveMessageKeys, LEAST_RAND, type MessageKeys } from "./keys.js";
import type { DecodedMessage } from "./message.js";
import { verificationAlg } from "./modes/envelope.js";
import { payloadOf, payloadsOf, requiredPayload } from "./modes/grammar.js";
import { checkKemacAlgorithms, verifyKemac } from "./modes/mac.js";
import { type Mode, modeOf } from "./modes/modes.js";
import type { Signing } from "./modes/signature.js";
import { chainsOf, identityOfKey, type PeerKey } from "./peer-keys.js";
import { type CompiledPolicy, isSignedByPeer } from "./policy.js";
import { EncrAlg } from "./registry.js";
import type { ReceiveContext, ResponderOptions } from "./responder-contracts.js";
import type { Timestamp } from "./timestamp.js";
import type { ToleranceUse } from "./tolerances.js";

/** One request, and what it is judged by. */
export interface ReceivedRequest {
  readonly options: ResponderOptions;
  readonly policy: CompiledPolicy;
  readonly crypto: CryptoProvider;
  /** Stands in for the key of an identity that is not known, so that the answer takes as long. */
  readonly nobody: Uint8Array;
  readonly message: DecodedMessage;
  readonly context: ReceiveContext;
  readonly use: ToleranceUse;
  readonly now: number;
  readonly mode: Mode;
  readonly timestamp: Timestamp;
  readonly nullKeyed: boolean;
  /** The CSB that it updates. */
  readonly base: Csb | undefined;
  /** May the message and its answer have numbers of docs/protocol.md? */
  readonly announced: boolean;
  /** Whom it names. */
  readonly identities: NamedIdentities;
  /** Our first pair that can sign as the policy has it; undefined also where the mode has none. */
  readonly pair: SigningPair | undefined;
  /** Wiped when the request is done with. */
  readonly secrets: (MessageKeys | Agreement)[];
}

/** Whom the ID payloads of a request name. */
export interface NamedIdentities {
  readonly initiator: Identity | undefined;
  readonly responder: Identity | undefined;
}

/** A pair of ours, and how it signs. */
export interface SigningPair {
  readonly keyPair: KeyPairCredential;
  readonly signing: Signing;
}

/** What errors are authenticated by, once the Initiator was: the keys of V, or our key (RFC 3830 §5.1.2). */
export type ErrorProofMaker = { readonly keys: MessageKeys; readonly macAlg: number } | { readonly signing: Signing };

/** Who sent a request, found out by its MAC or signature. */
export interface Authentic {
  /** What an exchange of our own with the same party would use. */
  readonly credential: Credential;
  readonly initiatorId: Identity | undefined;
  /** From a key that both parties have: of KEMAC and V. */
  readonly messageKeys: MessageKeys | undefined;
  readonly peerKey: PeerKey | undefined;
  readonly proof: ErrorProofMaker | undefined;
}

/** Verifies the MAC or the signature of a request. @throws MikeyError `mikey.authentication`, and what is wrong in the clear */
export async function authenticateRequest(request: ReceivedRequest): Promise<Authentic> {
  const { base, message } = request;
  const rand = base?.rand ?? payloadOf(message, "RAND")?.rand;
  if (rand !== undefined && rand.length < LEAST_RAND)
    throw new MikeyError("mikey.grammar", `RAND has ${rand.length} octets, at least ${LEAST_RAND} are accepted`);
  const authentic = request.mode.credential === "psk" ? await verifyMac(request) : await verifySender(request);
  if (isOurOwn(request, authentic)) {
    request.policy.refused("the message is of our own identity or key: it came back, or two parties share what only one may have");
    throw authenticationError();
  }
  if (base !== undefined && message.header.prf !== base.prf)
    throw new MikeyError("mikey.prf", "an update names another PRF than its bundle has");
  return authentic;
}

/**
 * Whether somebody sent a request of ours back to us. A shared key proves the other party and us alike: there the identity says which of the two it was.
 * Where a signature does, another device of ours may have our identity, as long as it has not our key. An update is for a bundle that was checked so.
 */
function isOurOwn({ options, mode, base }: ReceivedRequest, { initiatorId, peerKey }: Authentic): boolean {
  if (base !== undefined) return false;
  if (mode.credential === "psk") return options.identity !== undefined && sameIdentity(options.identity, initiatorId);
  const spki = peerKey?.publicKey.spki;
  return spki !== undefined && (options.keyPairs ?? []).some(({ privateKey }) => equalBytes(privateKey.publicKey.spki, spki));
}

/** The MAC over the message in its KEMAC (RFC 3830 §3.1, §5.2; RFC 4650 §3). */
async function verifyMac(request: ReceivedRequest): Promise<Authentic> {
  const { crypto, options, context, message, mode, base } = request;
  const { prf, csbId } = message.header;
  const { encrAlg, macAlg, encrData } = requiredPayload(message, "KEMAC");
  checkKemacAlgorithms(mode, encrAlg, macAlg);
  checkAcceptable(request, encrAlg, macAlg);
  if (mode.keys === "agreement" && encrData.length > 0)
    throw new MikeyError("mikey.grammar", "a KEMAC of DHHMAC holds no key data (RFC 4650 §4.2)");
  const initiatorId = claimedInitiator(request);
  const psk = base === undefined ? (await options.findCredential(initiatorId, context))?.psk : secretOf(base);
  // RFC 3830 §5.1.2: whoever tries learns nothing about which identities exist, so the MAC is computed for unknown ones too.
  const derivation =
    base === undefined ? { prf, csbId, rand: requiredPayload(message, "RAND").rand } : { ...derivationOf(base), prf };
  const messageKeys = deriveMessageKeys(crypto, derivation, psk ?? request.nobody, encrAlg, macAlg);
  request.secrets.push(messageKeys);
  verifyKemac(crypto, message, messageKeys);
  if (psk === undefined || (base !== undefined && !sameIdentity(base.initiatorId, initiatorId))) throw authenticationError();
  const credential: Credential = base?.credential ?? (mode.name === "DHHMAC" ? { psk, mode: "DHHMAC" } : { psk });
  // RFC 4650 §4.1 has no V for its ERR messages.
  const proof = mode.keys === "agreement" ? undefined : { keys: messageKeys, macAlg };
  return { credential, initiatorId, messageKeys, peerKey: base?.peerKey, proof };
}

/** The key that updates of a bundle are under where that is a shared one: the cached envelope key, or the pre-shared key (RFC 3830 §4.5). */
function secretOf({ envelope, credential }: Csb): Uint8Array | undefined {
  return envelope?.key ?? ("psk" in credential ? credential.psk : undefined);
}

/**
 * The signature over the message, by a key that is good for its Initiator (RFC 3830 §3.2, §3.3; RFC 4738 §3.5). What a private key of ours has to
 * do comes after.
 */
async function verifySender(request: ReceivedRequest): Promise<Authentic> {
  const { crypto, policy, message, base, now } = request;
  const { signature: shown, encryption } = chainsOf(message);
  const claimed = claimedInitiator(request);
  // The certificate of an update was shown before (RFC 3830 §4.5), and may have ended or been revoked since.
  const chain = shown.length === 0 ? (base?.peerKey?.chain ?? []) : shown;
  const peerKey = await policy.peerKeys.find(chain, claimed, "signature", now);
  const right = await isSignedByPeer(crypto, policy, message, peerKey, request.announced, request.use);
  if (peerKey !== undefined && !right) policy.refused("the signature is wrong, or of a scheme that is not acceptable");
  const initiatorId = claimed ?? (peerKey === undefined ? undefined : identityOfKey(peerKey));
  if (peerKey === undefined || !right || (base !== undefined && !sameIdentity(base.initiatorId, initiatorId)))
    throw authenticationError();
  const proof = request.pair && { signing: request.pair.signing };
  return { credential: keyPairCredential(request, encryption), initiatorId, messageKeys: undefined, peerKey, proof };
}

/** What we would use towards the same party: the pair that answers it, and its certificates. */
function keyPairCredential({ base, mode, options, pair }: ReceivedRequest, chain: readonly CertificateReference[]): Credential {
  if (base !== undefined) return base.credential;
  const keyPair = pair?.keyPair ?? options.keyPairs?.[0];
  if (keyPair === undefined) throw new MikeyError("mikey.certificate", "there is no key pair here to answer with");
  const name = mode.name as "PK" | "DH" | "RSA-R";
  return chain.length === 0 ? { mode: name, keyPair } : { mode: name, keyPair, peer: { chain } };
}

/** Our first pair that can sign as the policy has it. */
export function signingPair(
  { keyPairs = [] }: ResponderOptions,
  policy: CompiledPolicy,
  announced: boolean,
): SigningPair | undefined {
  for (const keyPair of keyPairs) {
    const signing = signingOf(keyPair, policy.signatureSchemes, announced);
    if (signing !== undefined) return { keyPair, signing };
  }
  return undefined;
}

/** Algorithms of a KEMAC that the mode allows may still not be acceptable here. */
export function checkAcceptable({ policy }: ReceivedRequest, encrAlg: number, macAlg: number): void {
  if (!policy.macAlgs.includes(verificationAlg(macAlg)))
    throw new MikeyError("mikey.mac-algorithm", `MAC alg ${macAlg} is not acceptable here`);
  if (encrAlg !== EncrAlg.NULL && !policy.encrAlgs.includes(encrAlg))
    throw new MikeyError("mikey.encryption-algorithm", `Encr alg ${encrAlg} is not acceptable here`);
}

/** Who the Initiator says to be, in the message or elsewhere. Where it says nothing, its certificate does. */
export function claimedInitiator({ identities, base, context }: ReceivedRequest): Identity | undefined {
  return identities.initiator ?? (base === undefined ? context.peerId : base.initiatorId);
}

/** Who a request says that its Initiator is; undefined where it says nothing, or is no request. Nothing of it is authentic. */
export function initiatorNamedIn(message: DecodedMessage): Identity | undefined {
  const mode = modeOf(message.header.dataType);
  return mode && identitiesOf(message, mode).initiator;
}

/**
 * The first ID payload is the Initiator's, the second the Responder's (RFC 3830 §3.1). A lone one is the Initiator's, but behind a certificate,
 * which takes the Initiator's place (§3.2), and in DHHMAC, where IDr is always there (RFC 4650 §3), it is the Responder's.
 */
export function identitiesOf(message: DecodedMessage, mode: Mode): NamedIdentities {
  const { payloads } = message;
  const [first, second] = payloadsOf(message, "ID").map(({ idType, data }): Identity => ({ idType, data }));
  if (second !== undefined) return { initiator: first, responder: second };
  const id = payloads.findIndex(({ kind }) => kind === "ID");
  const cert = payloads.findIndex(({ kind }) => kind === "CERT");
  const isResponder = mode.loneId === "responder" || (cert !== -1 && cert < id);
  return isResponder ? { initiator: undefined, responder: first } : { initiator: first, responder: undefined };
}
