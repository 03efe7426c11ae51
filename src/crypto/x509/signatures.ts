import { AsnConvert } from "@peculiar/asn1-schema";
import { SubjectPublicKeyInfo } from "@peculiar/asn1-x509";
import { concatBytes, formatHex, Reader } from "../../bytes/index.js";
import type { PublicKey, SignatureScheme } from "../asymmetric.js";
import type { CryptoProvider } from "../contracts.js";
import { element, encodeInteger, integer, SEQUENCE, tlv } from "../der.js";
import type { SignedOctets } from "./certificate.js";

type Hash = "SHA-256" | "SHA-384" | "SHA-512";

interface SignatureAlgorithm {
  readonly name: "RSASSA-PKCS1-v1_5" | "RSA-PSS" | "ECDSA" | "Ed25519";
  readonly hash?: Hash;
  /** What the CryptoProvider calls it, for the kind of key that it knows. */
  readonly scheme?: SignatureScheme;
}

/** Signature algorithms that are accepted (RFC 4055, RFC 5758, RFC 8410). SHA-1 and MD5 can be forged and are not among them. */
const ALGORITHMS: Readonly<Record<string, SignatureAlgorithm>> = {
  "1.2.840.113549.1.1.11": { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256", scheme: "rsa-pkcs1-sha256" },
  "1.2.840.113549.1.1.12": { name: "RSASSA-PKCS1-v1_5", hash: "SHA-384" },
  "1.2.840.113549.1.1.13": { name: "RSASSA-PKCS1-v1_5", hash: "SHA-512" },
  "1.2.840.10045.4.3.2": { name: "ECDSA", hash: "SHA-256", scheme: "ecdsa-p256-sha256" },
  "1.2.840.10045.4.3.3": { name: "ECDSA", hash: "SHA-384" },
  "1.2.840.10045.4.3.4": { name: "ECDSA", hash: "SHA-512" },
  "1.3.101.112": { name: "Ed25519", scheme: "ed25519" },
};

const RSASSA_PSS = "1.2.840.113549.1.1.10";

/** RSASSA-PSS says in its parameters which hash it has (RFC 4055 §3.1): these three, with the mask of the same hash and a salt as long. */
const PSS: readonly (SignatureAlgorithm & { readonly octet: number; readonly salt: number })[] = [
  { name: "RSA-PSS", hash: "SHA-256", scheme: "rsa-pss-sha256", octet: 1, salt: 32 },
  { name: "RSA-PSS", hash: "SHA-384", octet: 2, salt: 48 },
  { name: "RSA-PSS", hash: "SHA-512", octet: 3, salt: 64 },
];

function pssParameters({ octet, salt }: { readonly octet: number; readonly salt: number }): string {
  const hash = `300d060960864801650304020${octet}0500`;
  return `3034a00f${hash}a11c301a06092a864886f70d010108${hash}a2030201${salt.toString(16).padStart(2, "0")}`;
}

/** Curves of issuers, by their object identifiers in hexadecimal DER (RFC 5480 §2.1.1.1), and octets of a coordinate. */
const CURVES: Readonly<Record<string, { readonly namedCurve: string; readonly octets: number }>> = {
  "06082a8648ce3d030107": { namedCurve: "P-256", octets: 32 },
  "06052b81040022": { namedCurve: "P-384", octets: 48 },
  "06052b81040023": { namedCurve: "P-521", octets: 66 },
};

/** What of an issuer its signatures are checked with. */
export interface IssuerKey {
  readonly spki: Uint8Array;
  readonly publicKey: PublicKey | undefined;
}

function algorithmOf({ algorithm, parameters }: SignedOctets): SignatureAlgorithm | undefined {
  if (algorithm !== RSASSA_PSS) return ALGORITHMS[algorithm];
  const given = parameters && formatHex(parameters);
  return PSS.find((candidate) => pssParameters(candidate) === given);
}

/** Whether a certificate or revocation list was signed with the issuer's key; false for everything that is not accepted. */
export async function isSignedBy(crypto: CryptoProvider, signed: SignedOctets, issuer: IssuerKey): Promise<boolean> {
  const algorithm = algorithmOf(signed);
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
  { name, hash }: SignatureAlgorithm,
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
    const saltLength = PSS.find((pss) => pss.hash === hash)?.salt;
    return await subtle.verify({ name, hash, saltLength }, key, new Uint8Array(signature), new Uint8Array(signed.octets));
  } catch {
    return false;
  }
}

/** The curve of an issuer's key, or undefined. */
export function curveOf(spki: Uint8Array): { readonly namedCurve: string; readonly octets: number } | undefined {
  const { algorithm } = AsnConvert.parse(spki, SubjectPublicKeyInfo);
  if (algorithm.algorithm !== "1.2.840.10045.2.1" || !algorithm.parameters) return undefined;
  return CURVES[formatHex(new Uint8Array(algorithm.parameters))];
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
