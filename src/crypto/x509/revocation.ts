import { AsnConvert } from "@peculiar/asn1-schema";
import * as asn1 from "@peculiar/asn1-x509";
import { formatHex } from "../../bytes/index.js";
import { CertificateError } from "../certificates.js";
import type { CryptoProvider } from "../contracts.js";
import { element, INTEGER } from "../der.js";
import { type Certificate, checkAlgorithm, openSigned, raw, rdnsOf, reading, type SignedOctets, timeOf } from "./certificate.js";
import { isSignedBy } from "./signatures.js";

/** A list has this many octets at most: some hundred thousand entries. */
const MAX_LIST_OCTETS = 16 * 1024 * 1024;
const MAX_LIST_NODES = 4_000_000;

/** Extensions of a list that change nothing about whom it covers (RFC 5280 §5.2.1, §5.2.3, §5.2.7). */
const HARMLESS: readonly string[] = [asn1.id_ce_authorityKeyIdentifier, asn1.id_ce_cRLNumber, asn1.id_ce_issuerAltName];

/**
 * Extensions of lists that hold a part of the revoked certificates, or changes to another list (§5.2.4, §5.2.5). They have to be critical: where an
 * issuer forgot that, the list is no more complete.
 */
const PARTIAL: readonly string[] = [asn1.id_ce_deltaCRLIndicator, asn1.id_ce_issuingDistributionPoint];

/** A certificate revocation list (RFC 5280 §5), read and not trusted. */
export interface RevocationList {
  readonly signed: SignedOctets;
  readonly issuerRdns: string;
  /** Milliseconds since 1970. */
  readonly thisUpdate: number;
  /** Absent in lists that RFC 5280 §5.1.2.5 forbids: they would never grow old. */
  readonly nextUpdate: number | undefined;
  /** Serial numbers in hexadecimal. */
  readonly revoked: ReadonlySet<string>;
  /** False for lists that say less than all about their issuer's certificates, or say it in ways that are not understood here. */
  readonly isComplete: boolean;
}

/** @throws CertificateError `x509.certificate` with the reason `malformed` or `too-large` */
export function readRevocationList(der: Uint8Array): RevocationList {
  if (der.length > MAX_LIST_OCTETS) throw new CertificateError("too-large", `revocation list of ${der.length} octets`);
  return reading(() => {
    const { tbs: fields, signed } = openSigned(der, "revocationList");
    if (fields.peek() === INTEGER) element(fields, "version", INTEGER);
    checkAlgorithm(fields, der, signed);
    const issuerRdns = rdnsOf(raw(fields, der, "issuer"));
    const { tbsCertList: tbs } = AsnConvert.parse(der, asn1.CertificateList, { berOptions: { maxNodes: MAX_LIST_NODES } });
    const revoked = tbs.revokedCertificates ?? [];
    const critical = revoked.some(({ crlEntryExtensions }) => crlEntryExtensions?.some((extension) => extension.critical));
    return {
      signed,
      issuerRdns,
      thisUpdate: timeOf(tbs.thisUpdate),
      nextUpdate: tbs.nextUpdate && timeOf(tbs.nextUpdate),
      revoked: new Set(revoked.map(({ userCertificate }) => formatHex(new Uint8Array(userCertificate)))),
      isComplete: !critical && (tbs.crlExtensions ?? []).every(isHarmless),
    };
  });
}

function isHarmless({ extnID, critical }: asn1.Extension): boolean {
  return critical ? HARMLESS.includes(extnID) : !PARTIAL.includes(extnID);
}

/** What revocation lists say of a certificate. */
type ListedStatus = "good" | "revoked" | "unknown" | "unlisted";

/** Revocation lists, each with what is known about its signature under which key. */
export class RevocationLists {
  readonly #crypto: CryptoProvider;
  readonly #lists: readonly { readonly list: RevocationList; readonly signedBy: Map<string, Promise<boolean>> }[];

  constructor(crypto: CryptoProvider, lists: readonly Uint8Array[]) {
    this.#crypto = crypto;
    this.#lists = lists.map((der) => ({ list: readRevocationList(der), signedBy: new Map() }));
  }

  /**
   * `unlisted` where no list is of this issuer. Where there is one, it has to be usable: signed by the issuer, in its time, complete. A list that
   * is not is `unknown`, since whoever can keep a fresh list away from us must not gain by it.
   */
  async statusOf(certificate: Certificate, issuer: Certificate, now: number): Promise<ListedStatus> {
    const lists = this.#lists.filter(({ list }) => list.issuerRdns === certificate.issuerRdns);
    if (lists.length === 0) return "unlisted";
    let status: ListedStatus = "unknown";
    for (const { list, signedBy } of lists) {
      if (
        !list.isComplete ||
        issuer.keyUsage?.has("crlSign") === false ||
        list.thisUpdate > now ||
        !(now <= (list.nextUpdate ?? Number.NEGATIVE_INFINITY))
      )
        continue;
      const key = formatHex(issuer.spki);
      const right = signedBy.get(key) ?? isSignedBy(this.#crypto, list.signed, issuer);
      signedBy.set(key, right);
      if (!(await right)) continue;
      if (list.revoked.has(certificate.serial)) return "revoked";
      status = "good";
    }
    return status;
  }
}
