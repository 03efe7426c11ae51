import { WatchwordError } from "../bytes/index.js";
import type { PublicKey } from "./asymmetric.js";
import type { CryptoProvider } from "./contracts.js";
import { md5 } from "./md5.js";

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
  /** The distinguished name as text, for people: nothing is decided by it. */
  readonly subject: string;
  /** SHA-256 of the certificate: what logs show. */
  readonly fingerprint: Uint8Array;
  /** Milliseconds since 1970 at which the first certificate of the path ends. */
  readonly notAfter: number;
  /** Why it is trusted: an anchor vouches for it; it is itself among the anchors; or it only has its own signature, where that is allowed. */
  readonly trust: "anchor" | "pinned" | "self-signed";
  /**
   * Who vouches for it: SHA-256 of the certificates above the holder's, the trust anchor's last; of its own where that is itself the anchor. Empty for
   * one that only has its own signature.
   */
  readonly issuers: readonly Uint8Array[];
  /** The certificates from the holder's to the one below the trust anchor, in DER, as they were given; URLs are resolved. */
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

/**
 * Takes the certificates of these holders alone: the server that was addressed, and not everybody else whom the same authorities vouch for.
 * @param identities one of them has to be named by the certificate, as `CertificateRequirements.identity` has it
 */
export function certificatesOf(verifier: CertificateVerifier, identities: readonly string[]): CertificateVerifier {
  return {
    async verify(chain, requirements) {
      const verified = await verifier.verify(chain, requirements);
      let refusal: unknown = new CertificateError("identity", "nobody is expected");
      for (const identity of identities) {
        try {
          await verifier.verify(chain, { ...requirements, identity });
          return verified;
        } catch (error) {
          refusal = error;
        }
      }
      throw refusal;
    },
  };
}

/** Why a certificate was not accepted. */
export type CertificateRefusal =
  /** Not DER, not X.509, or a field that has no meaning. */
  | "malformed"
  /** More certificates, or longer ones, than are looked at. */
  | "too-large"
  /** A certificate was named by a URL, and there is nobody to fetch it, or it could not be fetched. */
  | "fetch"
  /** No path leads to a trust anchor; or the certificate is self-signed and none. */
  | "untrusted"
  /** A signature is wrong, or made with an algorithm that is not accepted. */
  | "signature"
  | "not-yet-valid"
  | "expired"
  /** An issuer that may not issue certificates, or none that far down. */
  | "not-a-ca"
  | "path-length"
  | "name-constraints"
  /** A critical extension that is not understood. */
  | "critical-extension"
  /** The key is of a kind or length that is not accepted. */
  | "key"
  | "key-usage"
  | "extended-key-usage"
  /** The certificate names somebody else. */
  | "identity"
  | "revoked"
  /** A revocation list that cannot be used, or nobody who knows. */
  | "revocation-unknown";

/** A certificate was not accepted: one code and one message for every cause. */
export class CertificateError extends WatchwordError {
  override readonly name: string = "CertificateError";
  /** For local logs: a peer that learns it learns what to try next. */
  readonly reason: CertificateRefusal;
  /** More for local logs, or empty. */
  readonly detail: string;

  constructor(reason: CertificateRefusal, detail = "", options?: { readonly cause?: unknown }) {
    super("x509.certificate", "the certificate is not accepted", options);
    this.reason = reason;
    this.detail = detail;
  }
}

/** Hashes of certificates (RFC 3830 §6.8, RFC 6043 §6.7). The first two find a certificate, they do not prove one. */
export type CertificateHashName = "sha1" | "md5" | "sha256";

/** The hash of a certificate in DER: 20, 16 or 32 octets. */
export function certificateHash(
  crypto: Pick<CryptoProvider, "hash">,
  name: CertificateHashName,
  certificate: Uint8Array,
): Uint8Array {
  return name === "md5" ? md5(certificate) : crypto.hash(name, certificate);
}
