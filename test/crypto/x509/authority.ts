import { CertificateError, type CertificateRefusal, type PrivateKey } from "../../../src/crypto/index.js";
import { type CertificateContent, type Issuer, issueCertificate } from "../../../src/crypto/x509/index.js";
import { nodeCrypto } from "../../../src/node/crypto.js";

export const DAY = 86_400_000;
export const NOW = Date.UTC(2026, 10, 28, 12);
export const ALICE = "sip:alice@example.org";

export async function makeKey(kind: "ec-p256" | "ed25519" | "rsa" = "ec-p256"): Promise<PrivateKey> {
  return nodeCrypto.importPrivateKey((await nodeCrypto.generateKeyPair(kind)).pkcs8);
}

type Content = Partial<Omit<CertificateContent, "publicKey" | "issuer">>;

/** An authority: of its own, or under another. */
export async function makeAuthority(content: Content = {}, parent?: Issuer, key?: PrivateKey): Promise<Issuer> {
  const signer = key ?? (await makeKey());
  const certificate = await issueCertificate({
    commonName: parent === undefined ? "root" : "intermediate",
    notBefore: NOW - DAY,
    notAfter: NOW + DAY,
    authority: {},
    publicKey: signer.publicKey,
    issuer: parent ?? signer,
    ...content,
  });
  return { certificate, signer };
}

/** A certificate for Alice, signed by an authority, or by herself. */
export async function makeLeaf(issuer: Issuer | undefined, content: Content = {}, key?: PrivateKey): Promise<Uint8Array> {
  const own = key ?? (await makeKey());
  return issueCertificate({
    commonName: "alice",
    notBefore: NOW - DAY,
    notAfter: NOW + DAY,
    uris: [ALICE],
    usages: ["signature"],
    publicKey: own.publicKey,
    issuer: issuer ?? own,
    ...content,
  });
}

/** Why a promise was refused; every refusal has the same code and message. */
export async function reasonOf(attempt: Promise<unknown>): Promise<CertificateRefusal | "accepted"> {
  try {
    await attempt;
    return "accepted";
  } catch (error) {
    if (!(error instanceof CertificateError)) throw error;
    if (error.code !== "x509.certificate" || error.message !== "the certificate is not accepted") throw error;
    return error.reason;
  }
}
