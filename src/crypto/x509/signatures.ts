import { concatBytes, formatHex, Reader } from "../../bytes/index.js";
import type { PublicKey, SignatureScheme } from "../asymmetric.js";
import type { CryptoProvider } from "../contracts.js";
import { element, encodeInteger, integer, SEQUENCE, tlv } from "../der.js";
import { raw, type SignedOctets } from "./certificate.js";

type Hash = "SHA-256" | "SHA-384" | "SHA-512";

interface SignatureAlgorithm {
  readonly name: "RSASSA-PKCS1-v1_5" | "RSA-PSS" | "ECDSA" | "Ed25519";
  readonly hash?: Hash;
  readonly saltLength?: number;
  /** What the CryptoProvider calls it, for the kind of key that it knows. */
  readonly scheme?: SignatureScheme;
}

const RSA = "06092a864886f70d0101";
const ECDSA = "06082a8648ce3d0403";

/**
 * Signature algorithms that are accepted, by their AlgorithmIdentifiers in hexadecimal DER (RFC 4055 §5 and §2.1: RSA with NULL or nothing; RFC 5758 §3.2;
 * RFC 8410 §3). SHA-1 and MD5 can be forged and are not among them. RSASSA-PSS has the same hash for its mask, and a salt as long.
 */
const ALGORITHMS: Readonly<Record<string, SignatureAlgorithm>> = {
  [`300d${RSA}0b0500`]: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256", scheme: "rsa-pkcs1-sha256" },
  [`300b${RSA}0b`]: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256", scheme: "rsa-pkcs1-sha256" },
  [`300d${RSA}0c0500`]: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-384" },
  [`300b${RSA}0c`]: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-384" },
  [`300d${RSA}0d0500`]: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-512" },
  [`300b${RSA}0d`]: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-512" },
  [pss("01", 32)]: { name: "RSA-PSS", hash: "SHA-256", saltLength: 32, scheme: "rsa-pss-sha256" },
  [pss("02", 48)]: { name: "RSA-PSS", hash: "SHA-384", saltLength: 48 },
  [pss("03", 64)]: { name: "RSA-PSS", hash: "SHA-512", saltLength: 64 },
  [`300a${ECDSA}02`]: { name: "ECDSA", hash: "SHA-256", scheme: "ecdsa-p256-sha256" },
  [`300a${ECDSA}03`]: { name: "ECDSA", hash: "SHA-384" },
  [`300a${ECDSA}04`]: { name: "ECDSA", hash: "SHA-512" },
  "300506032b6570": { name: "Ed25519", scheme: "ed25519" },
};

/** RFC 4055 §3.1. @param hash last octet of the object identifier of a hash of the SHA-2 family */
function pss(hash: string, saltLength: number): string {
  const identifier = `300d06096086480165030402${hash}0500`;
  return `3041${RSA}0a3034a00f${identifier}a11c301a${RSA}08${identifier}a2030201${saltLength.toString(16)}`;
}

/** Curves of issuers, by the AlgorithmIdentifiers of their keys in hexadecimal DER (RFC 5480 §2.1.1), and octets of a coordinate. */
const CURVES: Readonly<Record<string, { readonly namedCurve: string; readonly octets: number }>> = {
  "301306072a8648ce3d020106082a8648ce3d030107": { namedCurve: "P-256", octets: 32 },
  "301006072a8648ce3d020106052b81040022": { namedCurve: "P-384", octets: 48 },
  "301006072a8648ce3d020106052b81040023": { namedCurve: "P-521", octets: 66 },
};

/** What of an issuer its signatures are checked with. */
export interface IssuerKey {
  readonly spki: Uint8Array;
  readonly publicKey: PublicKey | undefined;
}

/** Whether a certificate or revocation list was signed with the issuer's key; false for everything that is not accepted. */
export async function isSignedBy(crypto: CryptoProvider, signed: SignedOctets, issuer: IssuerKey): Promise<boolean> {
  const algorithm = ALGORITHMS[formatHex(signed.identifier)];
  if (algorithm === undefined) return false;
  const { publicKey } = issuer;
  const { name, scheme } = algorithm;
  const { octets, signature } = signed;
  if (publicKey !== undefined && scheme !== undefined) {
    if (name !== "ECDSA") return crypto.verify(publicKey, scheme, octets, signature);
    if (publicKey.kind === "ec-p256") {
      const plain = plainEcdsa(signature, 32);
      return plain !== undefined && crypto.verify(publicKey, scheme, octets, plain);
    }
  }
  return isSignedByWebCrypto(algorithm, signed, issuer);
}

/** The algorithms and curves that issuers have and this package has no other use for are those of WebCrypto. */
async function isSignedByWebCrypto(
  { name, hash, saltLength }: SignatureAlgorithm,
  signed: SignedOctets,
  { spki, publicKey }: IssuerKey,
): Promise<boolean> {
  const subtle = globalThis.crypto?.subtle as SubtleCrypto | undefined;
  if (subtle === undefined || hash === undefined) return false;
  let { signature } = signed;
  let parameters: RsaHashedImportParams | EcKeyImportParams = { name, hash };
  if (name === "ECDSA") {
    const curve = curveOf(spki);
    const plain = curve && plainEcdsa(signature, curve.octets);
    if (curve === undefined || plain === undefined) return false;
    signature = plain;
    parameters = { name, namedCurve: curve.namedCurve };
    // An RSA key counts where the provider took it: that is where its length was checked.
  } else if (publicKey?.kind !== "rsa") return false;
  try {
    const key = await subtle.importKey("spki", new Uint8Array(spki), parameters, false, ["verify"]);
    return await subtle.verify(
      { name, hash, ...(saltLength && { saltLength }) },
      key,
      new Uint8Array(signature),
      new Uint8Array(signed.octets),
    );
  } catch {
    return false;
  }
}

/** The curve of an issuer's key, or undefined. */
export function curveOf(spki: Uint8Array): { readonly namedCurve: string; readonly octets: number } | undefined {
  try {
    const info = element(new Reader(spki, "issuer"), "subjectPublicKeyInfo", SEQUENCE);
    return CURVES[formatHex(raw(info, spki, "algorithm"))];
  } catch {
    return undefined;
  }
}

/** r‖s from Ecdsa-Sig-Value (RFC 3279 §2.2.3), or undefined where it is none. */
function plainEcdsa(signature: Uint8Array, octets: number): Uint8Array | undefined {
  try {
    const outer = new Reader(signature, "ecdsa");
    const pair = element(outer, "signature", SEQUENCE);
    outer.expectEnd();
    const numbers = [integer(pair, "r"), integer(pair, "s")];
    pair.expectEnd();
    const plain = new Uint8Array(2 * octets);
    for (const [at, number] of numbers.entries()) plain.set(number, octets * (at + 1) - number.length);
    return numbers.every((number) => number.length <= octets) ? plain : undefined;
  } catch {
    return undefined;
  }
}

/** How certificates are signed with a key of ours: the scheme, and the AlgorithmIdentifier's object identifier. */
export const SIGNING = {
  rsa: { scheme: "rsa-pkcs1-sha256", algorithm: "1.2.840.113549.1.1.11" },
  "ec-p256": { scheme: "ecdsa-p256-sha256", algorithm: "1.2.840.10045.4.3.2" },
  ed25519: { scheme: "ed25519", algorithm: "1.3.101.112" },
} as const;

/** Ecdsa-Sig-Value from r‖s. */
export function encodeEcdsa(plain: Uint8Array): Uint8Array {
  const half = plain.length / 2;
  return tlv(SEQUENCE, concatBytes(encodeInteger(plain.subarray(0, half)), encodeInteger(plain.subarray(half))));
}
