import { AsnConvert, OctetString } from "@peculiar/asn1-schema";
import * as asn1 from "@peculiar/asn1-x509";
import { parseHex, WatchwordError } from "../../bytes/index.js";
import type { PublicKey, Signer } from "../asymmetric.js";
import type { CertificateUsage } from "../certificates.js";
import type { CryptoProvider } from "../contracts.js";
import { defaultCrypto } from "../index.js";
import { octetsOf } from "./certificate.js";
import { addressOctets } from "./names.js";
import { encodeEcdsa, SIGNING } from "./signatures.js";

/** Names by kind. */
export interface NamesByKind {
  /** `sip:alice@example.org`, `rtsp://camera.example.org/` */
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  /** E-mail addresses, which are network access identifiers too. */
  readonly emails?: readonly string[];
  /** IPv4 or IPv6 addresses; in constraints with a prefix length, `10.0.0.0/8`. */
  readonly addresses?: readonly string[];
}

/** Whoever issues: a certificate of an authority and its private key. */
export interface Issuer {
  readonly certificate: Uint8Array;
  readonly signer: Signer;
}

export interface CertificateContent extends NamesByKind {
  /** The common name of the subject; nothing is decided by it. */
  readonly commonName: string;
  readonly publicKey: PublicKey;
  /** Who issues it; a Signer alone, of `publicKey`, makes it self-signed. */
  readonly issuer: Issuer | Signer;
  /** Milliseconds since 1970; seconds count. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** What the key is for; absent, for everything (no keyUsage). Of an authority: certificates and revocation lists, and nothing else. */
  readonly usages?: readonly CertificateUsage[];
  /** Object identifiers of purposes. Default: none stated. */
  readonly extendedKeyUsages?: readonly string[];
  /** Makes it an authority. */
  readonly authority?: {
    /** How many authorities may stand between it and the holder. Default: any number. */
    readonly pathLength?: number;
    readonly permitted?: NamesByKind;
    readonly excluded?: NamesByKind;
  };
}

/** Revoked certificates of one issuer. */
export interface RevocationListContent {
  readonly issuer: Issuer;
  /** Milliseconds since 1970. */
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Serial numbers in hexadecimal, as `readCertificate` gives them. */
  readonly revoked: readonly string[];
}

/** Octets of a serial number: more than 64 random bits (RFC 5280 §4.1.2.2; CA/Browser Forum Baseline Requirements §7.1). */
const SERIAL_OCTETS = 16;

/**
 * Issues a certificate (RFC 5280 §4), DER: test credentials, and those of a small deployment.
 * @throws WatchwordError `crypto.key` where the self-signing key is not that of the certificate, `crypto.length` for a name that is none
 */
export async function issueCertificate(content: CertificateContent, crypto: CryptoProvider = defaultCrypto): Promise<Uint8Array> {
  const { publicKey, issuer, authority, commonName } = content;
  const signer = "signer" in issuer ? issuer.signer : issuer;
  const subject = nameOf(commonName);
  if (!("signer" in issuer) && signer.publicKey.spki.join() !== publicKey.spki.join())
    throw new WatchwordError("crypto.key", "a self-signed certificate is signed with its own key");
  const algorithm = algorithmOf(signer);
  const serial = crypto.randomBytes(SERIAL_OCTETS);
  // Positive and of full length.
  serial[0] = ((serial[0] as number) & 0x3f) | 0x40;
  const tbsCertificate = new asn1.TBSCertificate({
    version: asn1.Version.v3,
    serialNumber: bufferOf(serial),
    signature: algorithm,
    issuer: "signer" in issuer ? subjectOf(issuer.certificate) : subject,
    validity: new asn1.Validity({ notBefore: new Date(content.notBefore), notAfter: new Date(content.notAfter) }),
    subject,
    subjectPublicKeyInfo: AsnConvert.parse(publicKey.spki, asn1.SubjectPublicKeyInfo),
    extensions: new asn1.Extensions([
      extension(asn1.id_ce_subjectKeyIdentifier, new asn1.SubjectKeyIdentifier(keyIdentifier(crypto, publicKey))),
      extension(asn1.id_ce_authorityKeyIdentifier, authorityKeyIdentifier(crypto, signer.publicKey)),
      ...(authority === undefined ? leafExtensions(content) : authorityExtensions(authority)),
      ...subjectAltName(content),
    ]),
  });
  const signatureValue = await signed(signer, octetsOf(tbsCertificate));
  return octetsOf(new asn1.Certificate({ tbsCertificate, signatureAlgorithm: algorithm, signatureValue }));
}

/** Issues a certificate revocation list (RFC 5280 §5), DER. */
export async function issueRevocationList(
  content: RevocationListContent,
  crypto: CryptoProvider = defaultCrypto,
): Promise<Uint8Array> {
  const { certificate, signer } = content.issuer;
  const algorithm = algorithmOf(signer);
  const revocationDate = new asn1.Time(content.thisUpdate);
  const tbsCertList = new asn1.TBSCertList({
    version: asn1.Version.v2,
    signature: algorithm,
    issuer: subjectOf(certificate),
    thisUpdate: new asn1.Time(content.thisUpdate),
    nextUpdate: new asn1.Time(content.nextUpdate),
    crlExtensions: [extension(asn1.id_ce_authorityKeyIdentifier, authorityKeyIdentifier(crypto, signer.publicKey))],
  });
  if (content.revoked.length > 0) {
    tbsCertList.revokedCertificates = content.revoked.map(
      (serial) => new asn1.RevokedCertificate({ userCertificate: bufferOf(parseHex(serial)), revocationDate }),
    );
  }
  const signature = await signed(signer, octetsOf(tbsCertList));
  return octetsOf(new asn1.CertificateList({ tbsCertList, signatureAlgorithm: algorithm, signature }));
}

function algorithmOf({ publicKey }: Signer): asn1.AlgorithmIdentifier {
  const { algorithm } = SIGNING[publicKey.kind];
  // RFC 4055 §5: RSA has NULL there; RFC 5758 §3.2 and RFC 8410 §3: the curves have nothing.
  return new asn1.AlgorithmIdentifier(publicKey.kind === "rsa" ? { algorithm, parameters: null } : { algorithm });
}

async function signed(signer: Signer, octets: Uint8Array): Promise<ArrayBuffer> {
  const { kind } = signer.publicKey;
  const signature = await signer.sign(SIGNING[kind].scheme, octets);
  return bufferOf(kind === "ec-p256" ? encodeEcdsa(signature) : signature);
}

function subjectOf(certificate: Uint8Array): asn1.Name {
  return AsnConvert.parse(certificate, asn1.Certificate).tbsCertificate.subject;
}

function nameOf(commonName: string): asn1.Name {
  const value = new asn1.AttributeValue({ utf8String: commonName });
  return new asn1.Name([new asn1.RelativeDistinguishedName([new asn1.AttributeTypeAndValue({ type: "2.5.4.3", value })])]);
}

/** SHA-1 of the key's bits (RFC 5280 §4.2.1.2, method 1): a name for a key, not a proof. */
function keyIdentifier(crypto: CryptoProvider, { spki }: PublicKey): Uint8Array {
  return crypto.hash("sha1", new Uint8Array(AsnConvert.parse(spki, asn1.SubjectPublicKeyInfo).subjectPublicKey));
}

function authorityKeyIdentifier(crypto: CryptoProvider, key: PublicKey): asn1.AuthorityKeyIdentifier {
  return new asn1.AuthorityKeyIdentifier({ keyIdentifier: new asn1.KeyIdentifier(keyIdentifier(crypto, key)) });
}

function extension(extnID: string, value: unknown, critical = false): asn1.Extension {
  return new asn1.Extension({ extnID, critical, extnValue: new OctetString(AsnConvert.serialize(value)) });
}

function authorityExtensions({ pathLength, permitted, excluded }: NonNullable<CertificateContent["authority"]>): asn1.Extension[] {
  const { keyCertSign, cRLSign } = asn1.KeyUsageFlags;
  const constraints = new asn1.BasicConstraints(
    pathLength === undefined ? { cA: true } : { cA: true, pathLenConstraint: pathLength },
  );
  const extensions = [
    extension(asn1.id_ce_basicConstraints, constraints, true),
    extension(asn1.id_ce_keyUsage, new asn1.KeyUsage(keyCertSign | cRLSign), true),
  ];
  if (permitted !== undefined || excluded !== undefined) {
    const subtrees = (names: NamesByKind): asn1.GeneralSubtrees =>
      new asn1.GeneralSubtrees(generalNames(names).map((base) => new asn1.GeneralSubtree({ base })));
    const value = new asn1.NameConstraints({
      ...(permitted && { permittedSubtrees: subtrees(permitted) }),
      ...(excluded && { excludedSubtrees: subtrees(excluded) }),
    });
    extensions.push(extension(asn1.id_ce_nameConstraints, value, true));
  }
  return extensions;
}

function leafExtensions({ usages, extendedKeyUsages }: CertificateContent): asn1.Extension[] {
  const extensions = [extension(asn1.id_ce_basicConstraints, new asn1.BasicConstraints({ cA: false }), true)];
  if (usages !== undefined) {
    const { digitalSignature, keyEncipherment } = asn1.KeyUsageFlags;
    const flags = (usages.includes("signature") ? digitalSignature : 0) | (usages.includes("encryption") ? keyEncipherment : 0);
    extensions.push(extension(asn1.id_ce_keyUsage, new asn1.KeyUsage(flags), true));
  }
  if (extendedKeyUsages !== undefined)
    extensions.push(extension(asn1.id_ce_extKeyUsage, new asn1.ExtendedKeyUsage([...extendedKeyUsages])));
  return extensions;
}

function subjectAltName(names: NamesByKind): asn1.Extension[] {
  const all = generalNames(names);
  return all.length === 0 ? [] : [extension(asn1.id_ce_subjectAltName, new asn1.SubjectAlternativeName(all))];
}

function generalNames({ uris = [], dnsNames = [], emails = [], addresses = [] }: NamesByKind): asn1.GeneralName[] {
  for (const text of [...uris, ...dnsNames, ...emails]) {
    // RFC 5280 §4.2.1.6: IA5String.
    if (!/^[\x21-\x7e]+$/.test(text)) throw new WatchwordError("crypto.length", "a name that is empty or not printable ASCII");
  }
  for (const text of addresses) {
    if (addressOctets(text.split("/")[0] as string) === undefined)
      throw new WatchwordError("crypto.length", `${text} is no address`);
  }
  return [
    ...uris.map((uniformResourceIdentifier) => new asn1.GeneralName({ uniformResourceIdentifier })),
    ...dnsNames.map((dNSName) => new asn1.GeneralName({ dNSName })),
    ...emails.map((rfc822Name) => new asn1.GeneralName({ rfc822Name })),
    ...addresses.map((iPAddress) => new asn1.GeneralName({ iPAddress })),
  ];
}

function bufferOf(octets: Uint8Array): ArrayBuffer {
  return octets.slice().buffer as ArrayBuffer;
}
