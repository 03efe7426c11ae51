import type { PublicKey } from "./asymmetric.js";

/** What a certified key is to be used for: to check signatures, or to encrypt a secret to its holder. */
export type CertificateUsage = "signature" | "encryption";

/** A certificate as a message carries it: X.509 in DER, or where to fetch it (RFC 3830 §6.7). */
export type CertificateReference = Uint8Array | { readonly url: string };

/** What a chain has to satisfy. */
export interface CertificateRequirements {
  /** Milliseconds since 1970 at which every certificate has to be valid. */
  readonly now: number;
  /** Everything that the key will be used for. */
  readonly usage: CertificateUsage | readonly CertificateUsage[];
  /**
   * Who the holder has to be: a SIP, SIPS or RTSP URI, a network access identifier, or a host name or address (RFC 5922 §7).
   * Absent, any holder will do, and the caller decides by `identities`.
   */
  readonly identity?: string;
}

/** The first certificate of a chain that was found good. */
export interface VerifiedCertificate {
  readonly publicKey: PublicKey;
  /** Whom the certificate names: the URIs, network access identifiers, host names and addresses of its subjectAltName. */
  readonly identities: readonly string[];
  /** SHA-256 of the certificate: what logs show. */
  readonly fingerprint: Uint8Array;
  /** Milliseconds since 1970 at which the first certificate of the path ends. */
  readonly notAfter: number;
  /** The certificates from the holder's to the one below the trust anchor, in DER; URLs are resolved. */
  readonly chain: readonly Uint8Array[];
}

/** Decides whether the holder of a certificate is who it should be. `watchword/crypto/x509` has the implementation. */
export interface CertificateVerifier {
  /**
   * @param chain the holder's certificate first, then those that certify it, in any order
   * @throws WatchwordError `x509.certificate` for every refusal alike; the error's `reason` is for local logs and must not reach the peer
   */
  verify(chain: readonly CertificateReference[], requirements: CertificateRequirements): Promise<VerifiedCertificate>;
}
