import { equalBytes, utf8, utf8Text, WatchwordError } from "../bytes/index.js";
import type { CertificateReference, CertificateUsage, PublicKey, VerifiedCertificate } from "../crypto/index.js";
import type { Identity } from "./csb.js";
import { MikeyError } from "./errors.js";
import type { CertPayload, DecodedMessage, Payload } from "./message.js";
import { payloadsOf } from "./modes/grammar.js";
import type { MikeyPolicy } from "./policy.js";
import { CertType, entryOf, IdType } from "./registry.js";

/** The public key of another party, found good. */
export interface PeerKey {
  readonly publicKey: PublicKey;
  /** Whom its certificate names; empty for a key that is known by identity. */
  readonly identities: readonly string[];
  /** The certificates; empty for a key that is known by identity. */
  readonly chain: readonly CertificateReference[];
  /** SHA-256 of the certificate; undefined for a key that is known by identity. */
  readonly fingerprint: Uint8Array | undefined;
  /** SHA-256 of the certificates of who vouches for it, as `VerifiedCertificate.issuers`. */
  readonly issuers: readonly Uint8Array[];
}

/** Finds the keys of peers and judges them. */
export interface PeerKeys {
  /**
   * The key of a party: as its identity is known here, otherwise by its certificates.
   * @param identity absent where the certificate alone says who it is
   * @param now milliseconds since 1970
   * @returns undefined where none is good; why not is for local logs (`onRefusal`)
   */
  find(
    chain: readonly CertificateReference[],
    identity: Identity | undefined,
    usage: CertificateUsage,
    now: number,
  ): Promise<PeerKey | undefined>;
  /** The key of a party that is known by identity. */
  known(identity: Identity | undefined, usage: CertificateUsage): Promise<PeerKey | undefined>;
  /** Whether a key that was found good is this identity's too: its certificate has to name it, or the key has to be known as its. */
  isOf(peer: PeerKey, identity: Identity, usage: CertificateUsage, now: number): Promise<boolean>;
  /** A bare key, as long as it is long enough. */
  accept(publicKey: PublicKey): PeerKey | undefined;
}

const DEFAULT_LEAST_RSA_BITS = 2048;

export function createPeerKeys(policy: MikeyPolicy): PeerKeys {
  const { certificates, findPublicKey, leastRsaBits = DEFAULT_LEAST_RSA_BITS } = policy;

  function accept(publicKey: PublicKey, by?: VerifiedCertificate): PeerKey | undefined {
    if (publicKey.kind === "rsa" && publicKey.bits < leastRsaBits)
      return refuse(`an RSA key of ${publicKey.bits} bits, at least ${leastRsaBits} are accepted`);
    if (by === undefined) return { publicKey, identities: [], chain: [], fingerprint: undefined, issuers: [] };
    const { identities, chain, fingerprint, issuers } = by;
    return { publicKey, identities, chain, fingerprint, issuers };
  }

  function refuse(reason: string): undefined {
    policy.onRefusal?.(reason);
    return undefined;
  }

  const peerKeys: PeerKeys = {
    accept: (publicKey) => accept(publicKey),
    async known(identity, usage) {
      const key = await findPublicKey?.(identity, usage);
      return key === undefined ? undefined : accept(key);
    },
    async isOf(peer, identity, usage, now) {
      // What is found may be another key, by which that identity is known.
      const found = await peerKeys.find(peer.chain, identity, usage, now);
      return found !== undefined && equalBytes(found.publicKey.spki, peer.publicKey.spki);
    },
    async find(chain, identity, usage, now) {
      const known = findPublicKey === undefined ? undefined : await findPublicKey(identity, usage);
      if (known !== undefined) return accept(known);
      if (chain.length === 0) return refuse("neither a certificate nor a key that is known by identity");
      if (certificates === undefined) return refuse("there are certificates, and no verifier for them");
      const text = identity === undefined ? undefined : identityText(identity);
      if (identity !== undefined && text === undefined) return refuse("an identity that no certificate can name");
      try {
        const requirements = text === undefined ? { now, usage } : { now, usage, identity: text };
        const verified = await certificates.verify(chain, requirements);
        return accept(verified.publicKey, verified);
      } catch (error) {
        if (!(error instanceof WatchwordError)) throw error;
        const { reason, detail = "" } = error as WatchwordError & { reason?: string; detail?: string };
        return refuse(`${error.message}: ${reason ?? error.code} ${detail}`.trim());
      }
    },
  };
  return peerKeys;
}

/** An identity as a certificate names it; undefined for octets that are no text. */
export function identityText({ idType, data }: Identity): string | undefined {
  return idType === IdType.BYTE_STRING ? undefined : utf8Text(data);
}

/** The identity that a certificate names, in an ID payload: a network access identifier has no scheme (RFC 3830 §6.7, RFC 4282). */
export function identityNamed(text: string): Identity {
  return { idType: /^[a-z][a-z0-9+.-]*:/i.test(text) ? IdType.URI : IdType.NAI, data: utf8(text) };
}

/** Whom a certificate names, where no message says it. */
export function identityOfKey({ identities }: PeerKey): Identity | undefined {
  const [name] = identities;
  return name === undefined ? undefined : identityNamed(name);
}

/**
 * The certificates of a message by what their keys are for (RFC 3830 §6.7): without ones for encryption, all serve for both.
 * @throws MikeyError `mikey.certificate` for a kind of certificate that is not read here (RFC 3830 §6.12, error 8)
 */
export function chainsOf(message: DecodedMessage): Readonly<Record<CertificateUsage, readonly CertificateReference[]>> {
  const certs = payloadsOf(message, "CERT");
  const signature = certs.filter(({ certType }) => certType !== CertType.X509V3_ENCR).map(referenceOf);
  const encryption = certs.filter(({ certType }) => certType === CertType.X509V3_ENCR).map(referenceOf);
  return { signature, encryption: encryption.length > 0 ? encryption : signature };
}

function referenceOf({ certType, data }: CertPayload): CertificateReference {
  if (entryOf(CertType, certType) === undefined)
    throw new MikeyError("mikey.certificate", `certificates of type ${certType} are not supported`);
  return certType === CertType.X509V3_URL ? { url: utf8Text(data) ?? "" } : data;
}

/** The CERT payloads that show our certificates. @param separate whether another pair decrypts */
export function certPayloads(
  chain: readonly CertificateReference[],
  certType: typeof CertType.X509V3 | typeof CertType.X509V3_SIGN | typeof CertType.X509V3_ENCR,
): Payload[] {
  return chain.map((reference) =>
    reference instanceof Uint8Array
      ? { kind: "CERT", certType, data: reference }
      : { kind: "CERT", certType: CertType.X509V3_URL, data: utf8(reference.url) },
  );
}
