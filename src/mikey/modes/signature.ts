import { concatBytes, utf8 } from "../../bytes/index.js";
import type { CryptoProvider, PublicKey, PublicKeyKind, SignatureScheme, Signer } from "../../crypto/index.js";
import { encodeMessage } from "../codec.js";
import { MikeyError } from "../errors.js";
import type { DecodedMessage, Header, Payload, SignPayload, SignxPayload } from "../message.js";
import { SignatureType, SignxAlg } from "../registry.js";
import type { ToleranceUse } from "../tolerances.js";
import { coveredOctets } from "./grammar.js";

/** How a signature scheme stands in a message: as S type of SIGN, which does not say the hash (RFC 3830 §6.5), or as alg of SIGNX. */
const ON_THE_WIRE: Readonly<Record<SignatureScheme, { readonly kind: "SIGN" | "SIGNX"; readonly type: number }>> = {
  "rsa-pkcs1-sha1": { kind: "SIGN", type: SignatureType.RSA_PKCS1_V1_5 },
  "rsa-pkcs1-sha256": { kind: "SIGN", type: SignatureType.RSA_PKCS1_V1_5 },
  "rsa-pss-sha1": { kind: "SIGN", type: SignatureType.RSA_PSS },
  "rsa-pss-sha256": { kind: "SIGN", type: SignatureType.RSA_PSS },
  "ecdsa-p256-sha256": { kind: "SIGNX", type: SignxAlg.ECDSA_P256_SHA256 },
  ed25519: { kind: "SIGNX", type: SignxAlg.ED25519 },
};

/** True for the schemes that RFC 3830 knows; the others are of docs/protocol.md. */
export function isStandardScheme(scheme: SignatureScheme): boolean {
  return ON_THE_WIRE[scheme].kind === "SIGN";
}

/** The kind of key that a message says to be signed by; of what has no meaning, RSA. */
export function signatureKind(message: DecodedMessage): PublicKeyKind {
  const payload = message.payloads.at(-1);
  if (payload?.kind !== "SIGNX") return "rsa";
  return payload.alg === SignxAlg.ED25519 ? "ed25519" : "ec-p256";
}

/** A key and how it signs here. */
export interface Signing {
  readonly signer: Signer;
  readonly scheme: SignatureScheme;
}

/** What a SIGNX covers begins with this and an empty group, so that it is no signature of a group's message (docs/protocol.md). */
const SIGNX_PREFIX = concatBytes(utf8("ww1 sign"), Uint8Array.of(0));

/** Zeros that stand for a signature that is not made yet, as long as the last one was. Nobody writes to them. */
let unsigned = new Uint8Array(256);

function unsignedOf(length: number): Uint8Array {
  if (unsigned.length !== length) unsigned = new Uint8Array(length);
  return unsigned;
}

/** S type and length: the two octets of SIGN before its value. */
const SIGN_HEADER = 2;
const SIGNX_KEY_ID = 8;

/**
 * Encodes a message that ends with a signature over everything before its value, so over the S type and length too (RFC 3830 §5.2).
 * @param payloads all payloads before the signature
 * @param suffix follows the message in what is signed (RFC 4738 §3.6)
 */
export async function encodeSigned(
  crypto: CryptoProvider,
  { signer, scheme }: Signing,
  header: Header,
  payloads: readonly Payload[],
  suffix: readonly Uint8Array[] = [],
): Promise<Uint8Array> {
  const { kind, type } = ON_THE_WIRE[scheme];
  const { publicKey } = signer;
  // The length stands before the value and is covered.
  const blank = unsignedOf(publicKey.kind === "rsa" ? Math.ceil(publicKey.bits / 8) : 64);
  const payload: SignPayload | SignxPayload =
    kind === "SIGN"
      ? { kind, signatureType: type, signature: blank }
      : { kind, alg: type, keyId: crypto.hash("sha256", publicKey.spki).slice(0, SIGNX_KEY_ID), signature: blank };
  const octets = encodeMessage({ header, payloads: [...payloads, payload] });
  const covered = octets.subarray(0, octets.length - blank.length);
  const signature = await signer.sign(scheme, signedOctets(kind, covered, suffix));
  if (signature.length !== blank.length)
    throw new MikeyError("mikey.option", `the key signed with ${signature.length} octets where ${blank.length} belong`);
  octets.set(signature, covered.length);
  return octets;
}

/**
 * Whether the signature that ends a message is of this key, by one of these schemes: the hash of an RSA signature is not on the wire, so
 * they are tried in their order.
 */
export async function verifySignature(
  crypto: CryptoProvider,
  message: DecodedMessage,
  key: PublicKey,
  schemes: readonly SignatureScheme[],
  use: ToleranceUse,
  suffix: readonly Uint8Array[] = [],
): Promise<boolean> {
  const payload = message.payloads.at(-1);
  if (payload?.kind !== "SIGN" && payload?.kind !== "SIGNX") return false;
  const type = payload.kind === "SIGN" ? payload.signatureType : payload.alg;
  const fitting = schemes.filter((scheme) => {
    const wire = ON_THE_WIRE[scheme];
    return wire.kind === payload.kind && wire.type === type;
  });
  const covered = coveredOctets(message);
  const input = signedOctets(payload.kind, covered, suffix);
  for (const scheme of fitting) if (await crypto.verify(key, scheme, input, payload.signature)) return true;
  if (payload.kind === "SIGNX" || !use.allows("signature-header-uncovered")) return false;
  const without = signedOctets("SIGN", covered.subarray(0, -SIGN_HEADER), suffix);
  for (const scheme of fitting) {
    if (await crypto.verify(key, scheme, without, payload.signature)) return use.take("signature-header-uncovered");
  }
  return false;
}

function signedOctets(kind: "SIGN" | "SIGNX", covered: Uint8Array, suffix: readonly Uint8Array[]): Uint8Array {
  if (kind === "SIGNX") return concatBytes(SIGNX_PREFIX, covered, ...suffix);
  return suffix.length === 0 ? covered : concatBytes(covered, ...suffix);
}
