import { formatHex } from "../../bytes/index.js";
import { CertificateError, type CertificateUsage } from "../certificates.js";
import type { CryptoProvider } from "../contracts.js";
import { type Certificate, completeCertificate, describeName, type OpenedCertificate } from "./certificate.js";
import { withinConstraints } from "./names.js";
import { curveOf, isSignedBy } from "./signatures.js";

/** Certificates in a path, the trust anchor's among them. */
export const MAX_PATH = 8;

/** Signatures that are checked for one chain: enough for every honest one, and what a hostile one can cost us. */
const MAX_SIGNATURE_CHECKS = 24;

/** Any purpose (RFC 5280 §4.2.1.12). */
const ANY_PURPOSE = "2.5.29.37.0";

/** A path from the holder's certificate to a trust anchor, whose signatures are right. */
export type Path = readonly [Certificate, ...Certificate[]];

/**
 * Looks for paths, the anchors first, and gives each whose signatures are right to `accept`, which throws a CertificateError where it is not good.
 * Signatures are checked from the anchors down, and those alone that names lead to: whoever no anchor vouches for never has us use a key of its choice,
 * and its certificates are not read whole.
 */
export async function findPath(
  crypto: CryptoProvider,
  leaf: OpenedCertificate,
  intermediates: readonly OpenedCertificate[],
  anchors: readonly Certificate[],
  accept: (path: Path) => Promise<void>,
): Promise<Path> {
  const pinned = anchors.find((anchor) => formatHex(anchor.fingerprint) === formatHex(leaf.fingerprint));
  // What is wrong with the first path that was found tells more than that others lead nowhere.
  let refusal: CertificateError | undefined;

  async function accepted(complete: () => Path): Promise<Path | undefined> {
    try {
      const path = complete();
      await accept(path);
      return path;
    } catch (error) {
      if (!(error instanceof CertificateError)) throw error;
      refusal ??= error;
      return undefined;
    }
  }

  async function follow(path: readonly OpenedCertificate[], issuersOf: IssuersOf): Promise<Path | undefined> {
    const last = path[path.length - 1] as OpenedCertificate;
    for (const { issuer, isAnchor } of issuersOf.get(last) ?? []) {
      if (path.some((other) => isSame(other, issuer))) continue;
      const found = isAnchor
        ? await accepted(() => [...path.map(completeCertificate), issuer as Certificate] as unknown as Path)
        : path.length + 1 < MAX_PATH
          ? await follow([...path, issuer], issuersOf)
          : undefined;
      if (found !== undefined) return found;
    }
    return undefined;
  }

  if (pinned !== undefined) {
    const found = await accepted(() => [pinned]);
    if (found !== undefined) return found;
  } else {
    const { issuersOf, wrong } = await vouchedFor(crypto, leaf, intermediates, anchors);
    const found = await follow([leaf], issuersOf);
    if (found !== undefined) return found;
    // A path that was followed to its end says more than a signature that led nowhere.
    if (wrong !== undefined) refusal ??= new CertificateError("signature", `of ${describeName(wrong.subjectName)}`);
  }
  throw refusal ?? new CertificateError("untrusted", `no anchor for ${describeName(leaf.issuerName)}`);
}

/** By certificate: who signed it, anchors first, of those that an anchor vouches for, itself or through others. */
type IssuersOf = ReadonlyMap<OpenedCertificate, readonly Candidate[]>;

interface Candidate {
  readonly issuer: OpenedCertificate;
  readonly isAnchor: boolean;
}

/**
 * @returns `wrong`: the first certificate that somebody who is vouched for should have signed, and did not
 * @throws CertificateError `too-large` for more signatures than are checked
 */
async function vouchedFor(
  crypto: CryptoProvider,
  leaf: OpenedCertificate,
  intermediates: readonly OpenedCertificate[],
  anchors: readonly Certificate[],
): Promise<{ readonly issuersOf: IssuersOf; readonly wrong: OpenedCertificate | undefined }> {
  const issuersOf = new Map<OpenedCertificate, Candidate[]>();
  const below = namedBelow(leaf, intermediates);
  let wrong: OpenedCertificate | undefined;
  let checks = 0;
  const vouching: Candidate[] = anchors.map((issuer) => ({ issuer, isAnchor: true }));
  // It grows while it is gone through.
  for (const candidate of vouching) {
    for (const certificate of below) {
      if (!mayHaveIssued(candidate.issuer, certificate)) continue;
      if (++checks > MAX_SIGNATURE_CHECKS) throw new CertificateError("too-large", "more issuers than are tried");
      if (!(await isSignedBy(crypto, certificate.signed, candidate.issuer))) {
        wrong ??= certificate;
        continue;
      }
      const known = issuersOf.get(certificate);
      if (known !== undefined) {
        known.push(candidate);
        continue;
      }
      issuersOf.set(certificate, [candidate]);
      vouching.push({ issuer: certificate, isAnchor: false });
    }
  }
  return { issuersOf, wrong };
}

/** The certificate and, of the others, those that names lead to from it. */
function namedBelow(leaf: OpenedCertificate, intermediates: readonly OpenedCertificate[]): readonly OpenedCertificate[] {
  const found = [leaf];
  for (const certificate of found)
    for (const issuer of intermediates) if (!found.includes(issuer) && mayHaveIssued(issuer, certificate)) found.push(issuer);
  return found;
}

/** Names chain (RFC 5280 §6.1.3 a.4), key identifiers do not contradict, and nobody vouches for itself. */
function mayHaveIssued(issuer: OpenedCertificate, certificate: OpenedCertificate): boolean {
  if (issuer.subjectRdns !== certificate.issuerRdns) return false;
  const { authorityKeyId } = certificate;
  if (authorityKeyId !== undefined && issuer.subjectKeyId !== undefined && authorityKeyId !== issuer.subjectKeyId) return false;
  return !isSame(issuer, certificate);
}

/** One name with one key stands once in a path: loops end there. */
function isSame(a: OpenedCertificate, b: OpenedCertificate): boolean {
  return a.subjectRdns === b.subjectRdns && formatHex(a.spki) === formatHex(b.spki);
}

/** What a path has to satisfy beside its signatures. */
export interface PathRequirements {
  readonly now: number;
  readonly usages: readonly CertificateUsage[];
  /** Purposes of which the holder's certificate has to have one, if it states any. */
  readonly extendedKeyUsages: readonly string[];
}

/**
 * Path validation (RFC 5280 §6.1) without policies; the anchor is held to its own dates, basic constraints and name constraints too.
 * @throws CertificateError
 */
export function validatePath(path: Path, { now, usages, extendedKeyUsages }: PathRequirements): void {
  for (const { notBefore, notAfter, subject, unknownCritical } of path) {
    if (now < notBefore) throw new CertificateError("not-yet-valid", subject);
    if (now > notAfter) throw new CertificateError("expired", subject);
    if (unknownCritical.length > 0) throw new CertificateError("critical-extension", `${unknownCritical.join(" ")} of ${subject}`);
  }
  let below = 0;
  for (const [depth, issuer] of path.entries()) {
    if (depth === 0) continue;
    checkIssuer(issuer, below);
    const { nameConstraints } = issuer;
    for (const [under, certificate] of path.slice(0, depth).entries()) {
      // §6.1.3 b: certificates that issuers made for themselves are exempt, but for the last.
      if (nameConstraints === undefined || (under > 0 && isSelfIssued(certificate))) continue;
      if (!withinConstraints(certificate, nameConstraints))
        throw new CertificateError("name-constraints", `${certificate.subject} under ${issuer.subject}`);
    }
    // §6.1.4 l.
    if (!isSelfIssued(issuer)) below++;
  }
  checkPurpose(path, extendedKeyUsages);
  checkLeaf(path[0], usages);
}

function isSelfIssued({ subjectRdns, issuerRdns }: Certificate): boolean {
  return subjectRdns === issuerRdns;
}

/** RFC 5280 §6.1.4 k, m, n. @param below certificates between this issuer and the last one, those that issuers made for themselves not counted */
function checkIssuer(issuer: Certificate, below: number): void {
  const { isCa, keyUsage, pathLength, publicKey, spki, subject } = issuer;
  if (!isCa || keyUsage?.has("keyCertSign") === false) throw new CertificateError("not-a-ca", subject);
  if (pathLength !== undefined && below > pathLength) throw new CertificateError("path-length", subject);
  if (publicKey === undefined && curveOf(spki) === undefined) throw new CertificateError("key", subject);
}

/** Purposes nest: what an issuer is not for, it cannot give (CA/Browser Forum Baseline Requirements §7.1.2.4). The anchor's are not looked at. */
function checkPurpose(path: Path, wanted: readonly string[]): void {
  let left = wanted;
  for (const { extendedKeyUsage, subject } of path.slice(0, Math.max(1, path.length - 1))) {
    if (extendedKeyUsage === undefined || extendedKeyUsage.includes(ANY_PURPOSE)) continue;
    left = left.filter((purpose) => extendedKeyUsage.includes(purpose));
    if (left.length === 0) throw new CertificateError("extended-key-usage", subject);
  }
}

/** RFC 5280 §4.2.1.3: a certificate without key usage is for everything. */
function checkLeaf({ keyUsage, publicKey, subject }: Certificate, usages: readonly CertificateUsage[]): void {
  if (publicKey === undefined) throw new CertificateError("key", subject);
  for (const usage of usages) {
    if (usage === "encryption" && publicKey.kind !== "rsa") throw new CertificateError("key", `${subject} cannot encrypt`);
    const needed = usage === "signature" ? "digitalSignature" : "keyEncipherment";
    if (keyUsage?.has(needed) === false) throw new CertificateError("key-usage", subject);
  }
}
