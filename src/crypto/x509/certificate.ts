import { AsnConvert } from "@peculiar/asn1-schema";
import * as asn1 from "@peculiar/asn1-x509";
import { equalBytes, formatHex, Reader } from "../../bytes/index.js";
import type { PublicKey } from "../asymmetric.js";
import { CertificateError } from "../certificates.js";
import type { CryptoProvider } from "../contracts.js";
import { BIT_STRING, element, INTEGER, OCTET_STRING, SEQUENCE, SET } from "../der.js";
import { defaultCrypto } from "../index.js";
import { namesIdentity } from "./names.js";

/** One name of a subjectAltName or of a constraint; kinds that nobody here compares are `other`. */
export interface GeneralName {
  readonly kind: "uri" | "dns" | "email" | "ip" | "directory" | "other";
  /** The text; an address, in a constraint with its prefix length; for a directory name its RDNs, in hexadecimal DER, one a line. */
  readonly value: string;
}

/** RFC 5280 §4.2.1.10. */
export interface NameConstraints {
  readonly permitted: readonly GeneralName[];
  readonly excluded: readonly GeneralName[];
}

/** A signature over a certificate or a revocation list. */
export interface SignedOctets {
  /** What is signed, as received. */
  readonly octets: Uint8Array;
  /** The AlgorithmIdentifier, DER. */
  readonly identifier: Uint8Array;
  readonly signature: Uint8Array;
}

/** As much of a certificate as it takes to find out who signed it. It costs little, whatever its octets. */
export interface OpenedCertificate {
  readonly der: Uint8Array;
  /** SHA-256 of the DER. */
  readonly fingerprint: Uint8Array;
  readonly signed: SignedOctets;
  /** Distinguished names, DER. */
  readonly subjectName: Uint8Array;
  readonly issuerName: Uint8Array;
  /** Distinguished names for comparison: their RDNs in hexadecimal DER, one a line. */
  readonly subjectRdns: string;
  readonly issuerRdns: string;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  /** The key, where it is of a kind and length that this package uses. */
  readonly publicKey: PublicKey | undefined;
  /** Key identifiers in hexadecimal. */
  readonly subjectKeyId: string | undefined;
  readonly authorityKeyId: string | undefined;
}

/** What a certificate says. Nothing of it is trusted: that takes a CertificateVerifier. */
export interface Certificate extends OpenedCertificate {
  /** Serial number in hexadecimal. */
  readonly serial: string;
  /** Distinguished names as text, for people. */
  readonly subject: string;
  readonly issuer: string;
  /** E-mail addresses in the subject, which old certificates have and constraints apply to. */
  readonly subjectEmails: readonly string[];
  /** Milliseconds since 1970; both ends belong to the validity. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** The subjectAltName. */
  readonly names: readonly GeneralName[];
  /** Whom it names: the URIs, e-mail addresses (network access identifiers), host names without wildcard and addresses of its subjectAltName. */
  readonly identities: readonly string[];
  readonly isCa: boolean;
  /** How many certificates may stand between this issuer and the last of the path. */
  readonly pathLength: number | undefined;
  readonly keyUsage: ReadonlySet<string> | undefined;
  /** Object identifiers. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly nameConstraints: NameConstraints | undefined;
  /** Critical extensions that are not understood here. */
  readonly unknownCritical: readonly string[];
}

/** Longest certificate that is read. */
export const MAX_CERTIFICATE_OCTETS = 16 * 1024;

/** Beside those that are read. Policies are understood as RFC 5280 §6.1 does where every policy will do and none is required. */
const UNDERSTOOD: readonly string[] = [asn1.id_ce_certificatePolicies];

/** Elements of ASN.1 that the library reads of one certificate: it takes a tenth of a millisecond for each name. */
const READING = { berOptions: { maxNodes: 1000 } } as const;

/**
 * Reads a certificate, and trusts nothing in it.
 * @throws CertificateError `x509.certificate` with the reason `malformed` or `too-large`
 */
export function readCertificate(der: Uint8Array, crypto: CryptoProvider = defaultCrypto): Certificate {
  return completeCertificate(openCertificate(der, crypto));
}

/** Opens a certificate, without the library and without its content. @throws CertificateError as `readCertificate` */
export function openCertificate(der: Uint8Array, crypto: CryptoProvider): OpenedCertificate {
  if (der.length > MAX_CERTIFICATE_OCTETS) throw new CertificateError("too-large", `${der.length} octets`);
  return reading(() => {
    const own = der.slice();
    const { tbs: fields, signed } = openSigned(own, "certificate");
    if (fields.peek() === 0xa0) element(fields, "version", 0xa0);
    element(fields, "serialNumber", INTEGER);
    checkAlgorithm(fields, own, signed);
    const issuerName = raw(fields, own, "issuer");
    element(fields, "validity", SEQUENCE);
    const subjectName = raw(fields, own, "subject");
    const spki = raw(fields, own, "subjectPublicKeyInfo").slice();
    let key: { readonly imported: PublicKey | undefined } | undefined;
    return {
      der: own,
      fingerprint: crypto.hash("sha256", own),
      signed,
      subjectName,
      issuerName,
      subjectRdns: rdnsOf(subjectName),
      issuerRdns: rdnsOf(issuerName),
      spki,
      // Whether a point is on its curve costs more than all the rest: nobody asks where no anchor vouches.
      get publicKey() {
        key ??= { imported: importable(spki, crypto) };
        return key.imported;
      },
      ...keyIdentifiers(fields),
    };
  });
}

/** Reads the rest of a certificate, which may cost milliseconds: not before it is known to be signed by somebody. @throws CertificateError */
export function completeCertificate(opened: OpenedCertificate): Certificate {
  return reading(() => {
    const { tbsCertificate: tbs } = AsnConvert.parse(opened.der, asn1.Certificate, READING);
    return {
      ...opened,
      serial: formatHex(new Uint8Array(tbs.serialNumber)),
      subject: nameText(tbs.subject),
      issuer: nameText(tbs.issuer),
      subjectEmails: [...tbs.subject].flatMap((rdn) => [...rdn]).flatMap(emailOf),
      notBefore: timeOf(tbs.validity.notBefore),
      notAfter: timeOf(tbs.validity.notAfter),
      ...readExtensions(tbs.extensions ?? []),
    };
  });
}

const SUBJECT_KEY_ID = "551d0e";
const AUTHORITY_KEY_ID = "551d23";
const OBJECT_IDENTIFIER = 0x06;
const BOOLEAN = 0x01;

/** The key identifiers among the extensions (RFC 5280 §4.2.1.1, §4.2.1.2). @throws CodecError */
function keyIdentifiers(fields: Reader): Pick<OpenedCertificate, "subjectKeyId" | "authorityKeyId"> {
  // The unique identifiers of version 2 stand before the extensions.
  for (const tag of [0x81, 0x82]) if (fields.peek() === tag) element(fields, "uniqueId", tag);
  let subjectKeyId: string | undefined;
  let authorityKeyId: string | undefined;
  if (fields.remaining > 0) {
    const extensions = element(element(fields, "extensions", 0xa3), "extensions", SEQUENCE);
    fields.expectEnd();
    while (extensions.remaining > 0) {
      const extension = element(extensions, "extension", SEQUENCE);
      const id = formatHex(element(extension, "extnID", OBJECT_IDENTIFIER).rest("extnID"));
      if (extension.peek() === BOOLEAN) element(extension, "critical", BOOLEAN);
      const value = element(extension, "extnValue", OCTET_STRING);
      extension.expectEnd();
      if (id === SUBJECT_KEY_ID) subjectKeyId = formatHex(element(value, "subjectKeyId", OCTET_STRING).rest("subjectKeyId"));
      if (id !== AUTHORITY_KEY_ID) continue;
      const parts = element(value, "authorityKeyId", SEQUENCE);
      if (parts.peek() === 0x80) authorityKeyId = formatHex(element(parts, "keyIdentifier", 0x80).rest("keyIdentifier"));
    }
  }
  return { subjectKeyId, authorityKeyId };
}

/** Runs what parses hostile octets: whatever it throws becomes one error. */
export function reading<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof CertificateError) throw error;
    throw new CertificateError("malformed", error instanceof Error ? error.message : "", { cause: error });
  }
}

/**
 * Opens what is signed like a certificate (RFC 5280 §4.1.1), without the library, which reads other encodings too. What stands around the signed octets
 * has to be DER to the bit: nobody signed it, and a certificate that can be written in two ways has two hashes. @throws CodecError
 */
export function openSigned(der: Uint8Array, what: string): { readonly tbs: Reader; readonly signed: SignedOctets } {
  const reader = new Reader(der, what);
  const outer = element(reader, what, SEQUENCE);
  reader.expectEnd();
  const start = outer.offset;
  const tbs = element(outer, "toBeSigned", SEQUENCE);
  const octets = der.slice(start, outer.offset);
  const identifier = raw(outer, der, "signatureAlgorithm").slice();
  const bits = element(outer, "signature", BIT_STRING);
  outer.expectEnd();
  if (bits.u8("unusedBits") !== 0) throw bits.error("crypto.der", "unusedBits", "not whole octets");
  return { tbs, signed: { octets, identifier, signature: bits.rest("signature") } };
}

/** The next field is the algorithm inside, which is signed, and has to be that outside (RFC 5280 §4.1.1.2). @throws CertificateError, CodecError */
export function checkAlgorithm(fields: Reader, der: Uint8Array, { identifier }: SignedOctets): void {
  if (!equalBytes(raw(fields, der, "signature"), identifier)) throw new CertificateError("malformed", "two signature algorithms");
}

/** The whole of the next element, a SEQUENCE, header and all. @throws CodecError */
export function raw(reader: Reader, der: Uint8Array, name: string): Uint8Array {
  const start = reader.offset;
  element(reader, name, SEQUENCE);
  return der.subarray(start, reader.offset);
}

export function octetsOf(value: unknown): Uint8Array {
  return new Uint8Array(AsnConvert.serialize(value));
}

export function timeOf(time: asn1.Time): number {
  const milliseconds = time.getTime().getTime();
  if (Number.isNaN(milliseconds)) throw new CertificateError("malformed", "no time");
  return milliseconds;
}

/**
 * The RDNs of a name in DER as text that is equal exactly where their encodings are (RFC 5280 §7.1 allows more, which nobody needs): hexadecimal, one a line.
 * @throws CodecError
 */
export function rdnsOf(name: Uint8Array): string {
  const outer = new Reader(name, "name");
  const rdns = element(outer, "name", SEQUENCE);
  outer.expectEnd();
  const lines: string[] = [];
  while (rdns.remaining > 0) {
    const start = rdns.offset;
    element(rdns, "rdn", SET);
    lines.push(formatHex(name.subarray(start, rdns.offset)));
  }
  return lines.join("\n");
}

function importable(spki: Uint8Array, crypto: CryptoProvider): PublicKey | undefined {
  try {
    return crypto.importPublicKey(spki);
  } catch {
    return undefined;
  }
}

type Extensions = Pick<
  Certificate,
  "names" | "identities" | "isCa" | "pathLength" | "keyUsage" | "extendedKeyUsage" | "nameConstraints" | "unknownCritical"
>;

function readExtensions(extensions: readonly asn1.Extension[]): Extensions {
  const byId = new Map<string, asn1.Extension>();
  for (const extension of extensions) {
    // RFC 5280 §4.2: not more than one of each.
    if (byId.has(extension.extnID)) throw new CertificateError("malformed", `${extension.extnID} twice`);
    byId.set(extension.extnID, extension);
  }
  const read = new Set([...UNDERSTOOD, asn1.id_ce_subjectKeyIdentifier, asn1.id_ce_authorityKeyIdentifier]);
  const parse = <T>(id: string, type: new () => T): T | undefined => {
    read.add(id);
    const value = byId.get(id)?.extnValue.buffer;
    return value === undefined ? undefined : AsnConvert.parse(value, type, READING);
  };
  const names = [...(parse(asn1.id_ce_subjectAltName, asn1.SubjectAlternativeName) ?? [])].map(generalName);
  const constraints = parse(asn1.id_ce_basicConstraints, asn1.BasicConstraints);
  const purposes = parse(asn1.id_ce_extKeyUsage, asn1.ExtendedKeyUsage);
  const keyUsage = parse(asn1.id_ce_keyUsage, asn1.KeyUsage);
  const nameConstraints = parse(asn1.id_ce_nameConstraints, asn1.NameConstraints);
  const pathLength = constraints?.pathLenConstraint;
  if (pathLength !== undefined && !(Number.isInteger(pathLength) && pathLength >= 0))
    throw new CertificateError("malformed", "no path length");
  return {
    names,
    identities: names.filter(isIdentity).map(({ value }) => value),
    isCa: constraints?.cA === true,
    pathLength,
    keyUsage: keyUsage && new Set<string>(keyUsage.toJSON()),
    extendedKeyUsage: purposes && [...purposes],
    nameConstraints: nameConstraints && readConstraints(nameConstraints, byId.get(asn1.id_ce_nameConstraints) as asn1.Extension),
    unknownCritical: [...extensions].filter(({ extnID, critical }) => critical && !read.has(extnID)).map(({ extnID }) => extnID),
  };
}

function readConstraints(constraints: asn1.NameConstraints, { extnValue }: asn1.Extension): NameConstraints {
  // The library turns a mask into a prefix length. Of a mask with holes the encoding does not come back: nobody may guess what it permits.
  if (!equalBytes(octetsOf(constraints), new Uint8Array(extnValue.buffer)))
    throw new CertificateError("malformed", "name constraints");
  const names = (subtrees: asn1.GeneralSubtrees | undefined): GeneralName[] =>
    [...(subtrees ?? [])].map(({ base, minimum, maximum }) => {
      // RFC 5280 §4.2.1.10: minimum is 0, maximum is absent.
      if (minimum !== 0 || maximum !== undefined) throw new CertificateError("malformed", "name constraints with bounds");
      return generalName(base);
    });
  return { permitted: names(constraints.permittedSubtrees), excluded: names(constraints.excludedSubtrees) };
}

function generalName(name: asn1.GeneralName): GeneralName {
  if (name.uniformResourceIdentifier !== undefined) return { kind: "uri", value: name.uniformResourceIdentifier };
  if (name.dNSName !== undefined) return { kind: "dns", value: name.dNSName };
  if (name.rfc822Name !== undefined) return { kind: "email", value: name.rfc822Name };
  if (name.iPAddress !== undefined) return { kind: "ip", value: name.iPAddress };
  if (name.directoryName !== undefined) return { kind: "directory", value: rdnsOf(octetsOf(name.directoryName)) };
  return { kind: "other", value: formatHex(octetsOf(name)) };
}

/**
 * A text says nothing of its kind: only what is read as what it is names anybody, a wildcard names nobody, and no name has characters that do something
 * in a terminal.
 */
function isIdentity(name: GeneralName): boolean {
  return /^[\x21-\x7e]+$/.test(name.value) && namesIdentity({ names: [name] }, name.value, false);
}

const ATTRIBUTES: Readonly<Record<string, string>> = {
  "2.5.4.3": "CN",
  "2.5.4.6": "C",
  "2.5.4.7": "L",
  "2.5.4.8": "ST",
  "2.5.4.10": "O",
  "2.5.4.11": "OU",
  "0.9.2342.19200300.100.1.25": "DC",
};

const EMAIL_ADDRESS = "1.2.840.113549.1.9.1";

function emailOf({ type, value }: asn1.AttributeTypeAndValue): string[] {
  return type === EMAIL_ADDRESS ? [value.toString()] : [];
}

/** Longest name that is put into words for people before anybody vouched for it. */
const MAX_NAME_OCTETS = 512;

/** A name for people, of a certificate that nobody vouches for yet. */
export function describeName(name: Uint8Array): string {
  if (name.length > MAX_NAME_OCTETS) return "a long name";
  try {
    return nameText(AsnConvert.parse(name, asn1.Name, READING));
  } catch {
    return "a name that cannot be read";
  }
}

/** For people: what is not printable ASCII is replaced, so that a name can do no harm in a log or terminal. */
function nameText(name: asn1.Name): string {
  const attribute = ({ type, value }: asn1.AttributeTypeAndValue): string => `${ATTRIBUTES[type] ?? type}=${value}`;
  const text = [...name].map((rdn) => [...rdn].map(attribute).join("+")).join(", ");
  return text.replace(/[^ -~]/g, "?").slice(0, 256);
}
