/** The owner's statement that a key server serves a group (docs/protocol.md §15.3). */
import { concatBytes, equalBytes } from "../bytes/index.js";
import type { CryptoProvider, PublicKey, Signer } from "../crypto/index.js";
import { type CredentialData, decodeNtp, encodeCredential, encodeNtp, PROTOCOL_VERSION } from "../mikey/index.js";
import { signingKeyId, signxOf } from "./group-keys.js";
import { LABEL } from "./labels.js";

/** Controller of the whole group; the other roles are reserved. */
const CONTROLLER = 1;

export interface CredentialRequest {
  readonly group: Uint8Array;
  /** Data of the key server's ID payload. */
  readonly identity: Uint8Array;
  /** SubjectPublicKeyInfo of its signing key. */
  readonly key: Uint8Array;
  /** Milliseconds since 1970. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** Signs a credential as the owner. @throws WatchwordError `crypto.scheme` for a key that does not sign these */
export async function issueCredential(crypto: CryptoProvider, owner: Signer, request: CredentialRequest): Promise<CredentialData> {
  const signx = signxOf(owner.publicKey) ?? { alg: 0, scheme: "ed25519" as const };
  const unsigned: CredentialData = {
    version: PROTOCOL_VERSION,
    role: CONTROLLER,
    ownerKeyId: signingKeyId(crypto, owner.publicKey.spki),
    notBefore: encodeNtp(request.notBefore),
    notAfter: encodeNtp(request.notAfter),
    group: request.group,
    identity: request.identity,
    key: request.key,
    alg: signx.alg,
    signature: new Uint8Array(0),
  };
  return { ...unsigned, signature: await owner.sign(signx.scheme, signed(unsigned)) };
}

/** What a credential has to say. */
export interface CredentialExpectation {
  readonly group: Uint8Array;
  readonly identity: Uint8Array;
  /** SubjectPublicKeyInfo of the verification key; undefined where rekey messages are not signed, so that no key is compared. */
  readonly key: Uint8Array | undefined;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** Whether an owner says so. Every failure looks alike. */
export async function verifyCredential(
  crypto: CryptoProvider,
  owner: PublicKey,
  credential: CredentialData,
  expected: CredentialExpectation,
): Promise<boolean> {
  const signx = signxOf(owner);
  const { now } = expected;
  if (credential.version !== PROTOCOL_VERSION || credential.role !== CONTROLLER || signx?.alg !== credential.alg) return false;
  if (!equalBytes(credential.ownerKeyId, signingKeyId(crypto, owner.spki))) return false;
  if (now < decodeNtp(credential.notBefore, now) || now > decodeNtp(credential.notAfter, now)) return false;
  if (!equalBytes(credential.group, expected.group) || !equalBytes(credential.identity, expected.identity)) return false;
  if (expected.key !== undefined && !equalBytes(credential.key, expected.key)) return false;
  return crypto.verify(owner, signx.scheme, signed(credential), credential.signature);
}

/** Everything before the length of the signature (docs/protocol.md §15.3). */
function signed(credential: CredentialData): Uint8Array {
  const octets = encodeCredential({ ...credential, signature: new Uint8Array(0) });
  return concatBytes(LABEL.credential, octets.subarray(0, octets.length - 2));
}
