import { formatHex } from "../../bytes/index.js";
import { CertificateError, type CertificateUsage } from "../certificates.js";
import type { CryptoProvider } from "../contracts.js";
import { type Certificate, completeCertificate, describeName, type OpenedCertificate } from "./certificate.js";
import { withinConstraints } from "./names.js";
import { curveOf, isSignedBy } from "./signatures.js";

/** Certificates in a path, the trust anchor's among them. */
export const MAX_PATH = 8;

/** Signatures that are checked while a path is looked for: enough for every honest chain, and what a hostile one can cost us. */
const MAX_SIGNATURE_CHECKS = 24;

/** Any purpose (RFC 5280 §4.2.1.12). */
const ANY_PURPOSE = "2.5.29.37.0";

/** A path from the holder's certificate to a trust anchor, whose signatures are right. */
export type Path = readonly [Certificate, ...Certificate[]];

/**
 * Looks for paths, the anchors first, and gives each whose signatures are right to `accept`, which throws a CertificateError where it is not good.
 * Certificates are read whole where an anchor vouches for them: before that they cost a stranger's message no more than signatures.
 */
export async function findPath(
  crypto: CryptoProvider,
  leaf: OpenedCertificate,
  intermediates: readonly OpenedCertificate[],
  anchors: readonly Certificate[],
  accept: (path: Path) => Promise<void>,
): Promise<Path> {
  let checks = 0;
  // What is wrong with the first path that was found tells more than that others lead nowhere.
  let refusal: CertificateError | undefined;

  async function extend(path: readonly OpenedCertificate[]): Promise<Path | undefined> {
    const last = path[path.length - 1] as OpenedCertificate;
    for (const [isAnchor, candidates] of [
      [true, anchors as readonly OpenedCertificate[]],
      [false, intermediates],
    ] as const) {
      for (const issuer of candidates.filter((candidate) => mayHaveIssued(candidate, last, path))) {
        if (++checks > MAX_SIGNATURE_CHECKS) throw new CertificateError("too-large", "more issuers than are tried");
        if (!(await isSignedBy(crypto, last.signed, issuer))) {
          refusal ??= new CertificateError("signature", `of ${describeName(last.subjectName)}`);
          continue;
        }
        const longer = [...path, issuer];
        const found = isAnchor
          ? await accepted(() => [...path.map(completeCertificate), issuer as Certificate] as unknown as Path)
          : longer.length < MAX_PATH
            ? await extend(longer)
            : undefined;
        if (found !== undefined) return found;
      }
    }
    return undefined;
  }

  async function accepted(complete: () => Path): Promise<Path | undefined> {
    try {
      const path = complete();
      await accept(path);
      return path;
    } catch (error) {
      if (!(error instanceof CertificateError)) throw error;
      // A path that was followed to its end says more than a signature that led nowhere.
      if (refusal === undefined || refusal.reason === "signature") refusal = error;
      return undefined;
    }
  }

  const pinned = anchors.find((anchor) => formatHex(anchor.fingerprint) === formatHex(leaf.fingerprint));
  const found = pinned === undefined ? await extend([leaf]) : await accepted(() => [pinned]);
  if (found === undefined) throw refusal ?? new CertificateError("untrusted", `no anchor for ${describeName(leaf.issuerName)}`);
  return found;
}

/** Names chain (RFC 5280 §6.1.3 a.4), key identifiers do not contradict, and no key stands twice in a path: loops end there. */
function mayHaveIssued(issuer: OpenedCertificate, certificate: OpenedCertificate, path: readonly OpenedCertificate[]): boolean {
  if (issuer.subjectRdns !== certificate.issuerRdns) return false;
  const { authorityKeyId } = certificate;
  if (authorityKeyId !== undefined && issuer.subjectKeyId !== undefined && authorityKeyId !== issuer.subjectKeyId) return false;
  return !path.some(({ subjectRdns, spki }) => subjectRdns === issuer.subjectRdns && formatHex(spki) === formatHex(issuer.spki));
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
