import {
  CertificateError,
  type CertificateReference,
  type CertificateUsage,
  type CertificateVerifier,
  type VerifiedCertificate,
} from "../certificates.js";
import type { CryptoProvider } from "../contracts.js";
import { defaultCrypto } from "../index.js";
import {
  type Certificate,
  completeCertificate,
  describeName,
  MAX_CERTIFICATE_OCTETS,
  type OpenedCertificate,
  openCertificate,
  readCertificate,
} from "./certificate.js";
import { namesIdentity } from "./names.js";
import { findPath, MAX_PATH, type Path, validatePath } from "./path.js";
import { RevocationLists } from "./revocation.js";
import { isSignedBy } from "./signatures.js";

/** Purposes that a certificate for calls and media may state: SIP domain (RFC 5924), TLS server, TLS client. */
export const defaultExtendedKeyUsages: readonly string[] = ["1.3.6.1.5.5.7.3.20", "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"];

const MAX_URL_CHARACTERS = 2048;

/** Paths whose signatures were checked are remembered, so that a peer who comes again costs no signature. */
const REMEMBERED_PATHS = 256;
/** Identities per path of which it is remembered that the holder's certificate names them. */
const REMEMBERED_IDENTITIES = 16;

interface Remembered {
  /** Octet by octet as it came. */
  readonly chain: readonly Uint8Array[];
  readonly path: Path;
  /** Where in the chain the certificates of the path stand, but the anchor's. */
  readonly places: readonly number[];
  readonly trust: VerifiedCertificate["trust"];
  /** Milliseconds since 1970 between which all of its certificates are in their time. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** What it was found good for. */
  readonly usages: Set<CertificateUsage>;
  /** Names are compared by their parts; whom a certificate names does not change. */
  readonly identities: Set<string>;
}

/** What somebody who was asked, by OCSP or otherwise, knows of a certificate. */
export type RevocationStatus = "good" | "revoked" | "unknown";

export interface CertificateVerifierOptions {
  /**
   * Whom to trust: certificates in DER, of authorities, or of single holders that are trusted as they are.
   * May be empty where `allowSelfSigned` is set.
   */
  readonly roots: readonly Uint8Array[];
  /** Certificate revocation lists in DER. Of an issuer that has one here, a list has to be in its time and signed. */
  readonly crls?: readonly Uint8Array[];
  /** Asked for every certificate of the path but the anchor's, with its issuer's: the place for OCSP. An error counts as `unknown`. */
  readonly revocation?: (certificate: Uint8Array, issuer: Uint8Array, now: number) => Promise<RevocationStatus>;
  /** Refuses a path of which neither a list nor the hook knows that it was not revoked. Default false. */
  readonly requireRevocation?: boolean;
  /** Fetches a certificate, DER, that a message names by URL (RFC 3830 §6.7). Without it such messages are refused. The URL is the peer's choice. */
  readonly fetchCertificate?: (url: string) => Promise<Uint8Array>;
  /** Takes a self-signed certificate that no anchor is of: it proves only that its holder has its key. Default false. */
  readonly allowSelfSigned?: boolean;
  /** Takes a certificate of a SIP domain for the users of that domain (RFC 5922). Default false. */
  readonly acceptDomains?: boolean;
  /** Object identifiers of purposes, of which a certificate that states any has to have one. Default `defaultExtendedKeyUsages`. */
  readonly extendedKeyUsages?: readonly string[];
  readonly crypto?: CryptoProvider;
}

/**
 * A verifier of certificates: finds a path to a trust anchor and validates it (RFC 5280 §6), then looks whether the holder's certificate names who it
 * should and is for what it should be.
 * @throws CertificateError `x509.certificate` for roots or lists that cannot be read
 */
export function createCertificateVerifier(options: CertificateVerifierOptions): CertificateVerifier {
  const { crypto = defaultCrypto, allowSelfSigned = false, requireRevocation = false, acceptDomains = false } = options;
  const { fetchCertificate, revocation, extendedKeyUsages = defaultExtendedKeyUsages } = options;
  const anchors = options.roots.map((der) => readCertificate(der, crypto));
  const lists = new RevocationLists(crypto, options.crls ?? []);
  const mayBeRevoked = requireRevocation || revocation !== undefined || (options.crls ?? []).length > 0;
  const remembered = new Map<number, Remembered>();

  async function resolve(reference: CertificateReference): Promise<Uint8Array> {
    if (!("url" in reference)) return reference;
    const { url } = reference;
    if (fetchCertificate === undefined) throw new CertificateError("fetch", "nobody fetches certificates");
    if (url.length > MAX_URL_CHARACTERS || !/^https?:\/\/[\x21-\x7e]+$/i.test(url))
      throw new CertificateError("fetch", "not an HTTP URL");
    try {
      return await fetchCertificate(url);
    } catch (error) {
      throw new CertificateError("fetch", error instanceof Error ? error.message : "", { cause: error });
    }
  }

  async function check(path: Path, now: number, usages: readonly CertificateUsage[]): Promise<void> {
    validatePath(path, { now, usages, extendedKeyUsages });
    if (mayBeRevoked) await checkRevocation(path, now);
  }

  async function checkRevocation(path: Path, now: number): Promise<void> {
    for (const [depth, certificate] of path.slice(0, -1).entries()) {
      const issuer = path[depth + 1] as Certificate;
      const listed = await lists.statusOf(certificate, issuer, now);
      if (listed === "revoked") throw new CertificateError("revoked", certificate.subject);
      const asked = revocation && (await ask(certificate, issuer, now));
      if (asked === "revoked") throw new CertificateError("revoked", certificate.subject);
      const known = listed === "good" || asked === "good";
      if (!known && (requireRevocation || listed === "unknown"))
        throw new CertificateError("revocation-unknown", certificate.subject);
    }
  }

  async function ask(certificate: Certificate, issuer: Certificate, now: number): Promise<RevocationStatus> {
    try {
      return (await revocation?.(certificate.der, issuer.der, now)) ?? "unknown";
    } catch {
      return "unknown";
    }
  }

  function recall(chain: readonly Uint8Array[]): Remembered | undefined {
    const known = remembered.get(placeOf(chain));
    return known !== undefined && sameChain(known.chain, chain) ? known : undefined;
  }

  /** The path of a chain: the one that was good before if it still is, otherwise one that is looked for. */
  async function pathOf(chain: readonly Uint8Array[], now: number, usages: readonly CertificateUsage[]): Promise<Remembered> {
    const accept = (path: Path): Promise<void> => check(path, now, usages);
    const place = placeOf(chain);
    const known = recall(chain);
    if (known !== undefined) {
      try {
        await accept(known.path);
        for (const usage of usages) known.usages.add(usage);
        return known;
      } catch (error) {
        // Time has passed: another path may be good where this one is no longer.
        if (!(error instanceof CertificateError)) throw error;
        remembered.delete(place);
      }
    }
    const [leaf, ...others] = chain.map((der) => openCertificate(der, crypto)) as [OpenedCertificate, ...OpenedCertificate[]];
    const path = await findPath(crypto, leaf, others, anchors, accept).catch((error: unknown) => selfSigned(leaf, error, accept));
    if (remembered.size >= REMEMBERED_PATHS) remembered.delete(remembered.keys().next().value as number);
    const found = rememberedOf(chain, path, anchors, usages);
    remembered.set(place, found);
    return found;
  }

  function holder(found: Remembered, identity: string | undefined, given: readonly Uint8Array[]): VerifiedCertificate {
    if (identity !== undefined && !names(found, identity)) throw new CertificateError("identity", found.path[0].subject);
    return verified(found, given);
  }

  function names({ path: [leaf], identities }: Remembered, identity: string): boolean {
    if (identities.has(identity)) return true;
    if (!namesIdentity(leaf, identity, acceptDomains)) return false;
    if (identities.size >= REMEMBERED_IDENTITIES) identities.clear();
    identities.add(identity);
    return true;
  }

  /** A certificate that is its own issuer, where that is allowed and nothing but an anchor was missing. */
  async function selfSigned(leaf: OpenedCertificate, error: unknown, accept: (path: Path) => Promise<void>): Promise<Path> {
    const isMissing = error instanceof CertificateError && error.reason === "untrusted";
    if (!allowSelfSigned || !isMissing || leaf.subjectRdns !== leaf.issuerRdns) throw error;
    if (!(await isSignedBy(crypto, leaf.signed, leaf)))
      throw new CertificateError("signature", `of ${describeName(leaf.subjectName)}`);
    const path: Path = [completeCertificate(leaf)];
    await accept(path);
    return path;
  }

  return {
    async verify(references, { now, usage, identity }) {
      if (references.length < 1 || references.length > MAX_PATH)
        throw new CertificateError("too-large", `${references.length} certificates`);
      if (!Number.isFinite(now)) throw new CertificateError("not-yet-valid", "no time");
      const isHere = references.every((reference) => reference instanceof Uint8Array);
      const chain = isHere ? (references as readonly Uint8Array[]) : await Promise.all(references.map(resolve));
      for (const { length } of chain)
        if (length > MAX_CERTIFICATE_OCTETS) throw new CertificateError("too-large", `certificate of ${length} octets`);
      const usages: readonly CertificateUsage[] = typeof usage === "string" ? [usage] : usage;
      const known = mayBeRevoked ? undefined : recall(chain);
      if (known !== undefined && isGoodFor(known, now, usages)) return holder(known, identity, chain);
      // The caller may change its octets meanwhile.
      const own = chain.map((der) => der.slice());
      return holder(await pathOf(own, now, usages), identity, own);
    },
  };
}

/**
 * Where a chain is remembered: the last octets of the holder's certificate are of a signature, as good as random where the path was found good. Others
 * may make theirs end alike; then one chain takes the place of the other, and costs its signatures again.
 */
function placeOf([leaf]: readonly Uint8Array[]): number {
  const octets = leaf as Uint8Array;
  let place = 0;
  for (let at = Math.max(0, octets.length - 6); at < octets.length; at++) place = place * 256 + (octets[at] as number);
  return place;
}

function sameChain(a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean {
  return a.length === b.length && a.every((der, i) => sameOctets(der, b[i] as Uint8Array));
}

/** Certificates are public: the comparison may end early. They are long: four octets at a time take half as long. */
function sameOctets(a: Uint8Array, b: Uint8Array): boolean {
  const { length } = a;
  if (length !== b.length) return false;
  const viewA = new DataView(a.buffer, a.byteOffset, length);
  const viewB = new DataView(b.buffer, b.byteOffset, length);
  let at = 0;
  for (; at + 4 <= length; at += 4) if (viewA.getInt32(at) !== viewB.getInt32(at)) return false;
  for (; at < length; at++) if (a[at] !== b[at]) return false;
  return true;
}

function rememberedOf(
  chain: readonly Uint8Array[],
  path: Path,
  anchors: readonly Certificate[],
  usages: readonly CertificateUsage[],
): Remembered {
  const anchored = anchors.includes(path[path.length - 1] as Certificate);
  const below = path.slice(0, Math.max(1, path.length - 1));
  return {
    chain: chain.map((der) => der.slice()),
    path,
    places: below.map(({ der }) => chain.findIndex((given) => sameOctets(given, der))),
    trust: path.length > 1 ? "anchor" : anchored ? "pinned" : "self-signed",
    notBefore: Math.max(...path.map(({ notBefore }) => notBefore)),
    notAfter: Math.min(...path.map(({ notAfter }) => notAfter)),
    usages: new Set(usages),
    identities: new Set(),
  };
}

/** What was found good stays so for as long as its certificates are in their time, but for revocations. */
function isGoodFor({ notBefore, notAfter, usages }: Remembered, now: number, wanted: readonly CertificateUsage[]): boolean {
  if (now < notBefore || now > notAfter) return false;
  for (const usage of wanted) if (!usages.has(usage)) return false;
  return true;
}

/**
 * What is remembered must not change in the hands of a caller: of short octets it gets copies, of certificates the ones that it gave, which are the same
 * octet by octet.
 */
function verified({ path, places, trust, notAfter }: Remembered, given: readonly Uint8Array[]): VerifiedCertificate {
  const [leaf] = path;
  const issuers: Uint8Array[] = [];
  // A certificate that only has its own signature has nobody who vouches for it.
  for (let at = trust === "anchor" ? 1 : 0; at < path.length && trust !== "self-signed"; at++)
    issuers.push((path[at] as Certificate).fingerprint.slice());
  return {
    // Validated: the last certificate of a good path has a key that this package uses.
    publicKey: leaf.publicKey as NonNullable<typeof leaf.publicKey>,
    identities: leaf.identities,
    subject: leaf.subject,
    fingerprint: leaf.fingerprint.slice(),
    notAfter,
    trust,
    issuers,
    chain: places.map((place) => given[place] as Uint8Array),
  };
}
