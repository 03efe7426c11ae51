import { parseHex } from "../../src/bytes/index.js";
import {
  type CryptoProvider,
  encryptionSchemesOf,
  nobleCrypto,
  type PublicKeyKind,
  signatureSchemesOf,
} from "../../src/crypto/index.js";
import { createCertificateVerifier, issueCertificate } from "../../src/crypto/x509/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import vectors from "../vectors/asymmetric.json" with { type: "json" };
import { rate } from "./rate.js";

/** One line of the table of results. */
export interface AsymmetricBenchResult {
  readonly what: string;
  readonly backend: string;
  readonly perSecond: number;
}

/** The raw operations of a backend by name, each ready to be called again and again: what an exchange is measured against. */
export type AsymmetricOperations = ReadonlyMap<string, () => Promise<unknown>>;

const KEYS: readonly { readonly kind: PublicKeyKind; readonly pkcs8: string }[] = [
  { kind: "rsa", pkcs8: vectors.keys.rsa2048.pkcs8 },
  { kind: "ec-p256", pkcs8: vectors.keys["ec-p256"].pkcs8 },
  { kind: "ed25519", pkcs8: vectors.keys.ed25519.pkcs8 },
];

/**
 * Names are `sign SCHEME`, `verify SCHEME`, `encrypt SCHEME`, `decrypt SCHEME`, `agreement GROUP` (a fresh private value and its public value), `agree
 * GROUP` (the secret from the peer's), and `certificate again`, `certificate first` (a chain of one below the root, remembered or not). RSA has 2048 bits.
 */
export async function asymmetricOperations(crypto: CryptoProvider): Promise<AsymmetricOperations> {
  const operations = new Map<string, () => Promise<unknown>>();
  const message = new Uint8Array(300).fill(7);
  for (const { kind, pkcs8 } of KEYS) {
    const key = crypto.importPrivateKey(parseHex(pkcs8));
    for (const scheme of signatureSchemesOf(kind)) {
      const signature = await key.sign(scheme, message);
      operations.set(`sign ${scheme}`, () => key.sign(scheme, message));
      operations.set(`verify ${scheme}`, () => crypto.verify(key.publicKey, scheme, message, signature));
    }
    for (const scheme of encryptionSchemesOf(kind)) {
      const secret = crypto.randomBytes(16);
      const ciphertext = await crypto.encrypt(key.publicKey, scheme, secret);
      operations.set(`encrypt ${scheme}`, () => crypto.encrypt(key.publicKey, scheme, secret));
      operations.set(`decrypt ${scheme}`, () => key.decrypt(scheme, ciphertext, secret.length));
    }
  }
  for (const group of ["modp1536", "x25519", "p256"] as const) {
    const [ours, { publicValue }] = [await crypto.agreement(group), await crypto.agreement(group)];
    operations.set(`agreement ${group}`, () => crypto.agreement(group));
    operations.set(`agree ${group}`, () => ours.agree(publicValue));
  }
  await addCertificates(crypto, operations);
  return operations;
}

async function addCertificates(crypto: CryptoProvider, operations: Map<string, () => Promise<unknown>>): Promise<void> {
  const now = Date.UTC(2026, 10, 28);
  const signer = crypto.importPrivateKey(parseHex(vectors.keys["ec-p256"].pkcs8));
  const { publicKey } = crypto.importPrivateKey(parseHex(vectors.keys.rsa2048.pkcs8));
  const lifetime = { notBefore: now - 1000, notAfter: now + 1000 };
  const root = await issueCertificate(
    { commonName: "root", publicKey: signer.publicKey, issuer: signer, authority: {}, ...lifetime },
    crypto,
  );
  const identity = "sip:alice@example.org";
  const leaf = await issueCertificate(
    { commonName: "alice", publicKey, issuer: { certificate: root, signer }, uris: [identity], ...lifetime },
    crypto,
  );
  const requirements = { now, usage: "signature", identity } as const;
  const options = { roots: [root], crypto };
  const remembering = createCertificateVerifier(options);
  operations.set("certificate first", () => createCertificateVerifier(options).verify([leaf], requirements));
  operations.set("certificate again", () => remembering.verify([leaf], requirements));
}

/** Raw public-key operations per second, both backends. @param milliseconds time per measurement */
export async function benchAsymmetric(milliseconds = 500): Promise<AsymmetricBenchResult[]> {
  const results: AsymmetricBenchResult[] = [];
  for (const crypto of [nodeCrypto, nobleCrypto]) {
    for (const [what, call] of await asymmetricOperations(crypto))
      results.push({ what, backend: crypto.name, perSecond: await rate(milliseconds, call, 1) });
  }
  return results;
}

if (import.meta.url === `file://${process.argv[1]}`) {
  for (const { what, backend, perSecond } of await benchAsymmetric(300))
    console.log(`${what.padEnd(28)} ${backend.padEnd(6)} ${perSecond.toFixed(0).padStart(7)}/s`);
}
