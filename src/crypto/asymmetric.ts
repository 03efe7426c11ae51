/** Kinds of key pairs that sign, and for RSA decrypt. */
export type PublicKeyKind = "rsa" | "ec-p256" | "ed25519";

/**
 * How octets are signed. RSASSA-PKCS1-v1_5 and RSASSA-PSS of RFC 8017 (a PSS salt is as long as the digest), ECDSA over P-256 as
 * 64 octets r‖s, and Ed25519 of RFC 8032.
 */
export type SignatureScheme =
  | "rsa-pkcs1-sha1"
  | "rsa-pkcs1-sha256"
  | "rsa-pss-sha1"
  | "rsa-pss-sha256"
  | "ecdsa-p256-sha256"
  | "ed25519";

/** How a short secret is encrypted to an RSA key: RSAES-PKCS1-v1_5 or RSAES-OAEP with an empty label (RFC 8017 §7). */
export type EncryptionScheme = "rsa-pkcs1" | "rsa-oaep-sha1" | "rsa-oaep-sha256";

/** A public key. Any object of this shape works with any provider; one that a provider imported is faster there. */
export interface PublicKey {
  readonly kind: PublicKeyKind;
  /** SubjectPublicKeyInfo, DER (RFC 5280 §4.1.2.7). */
  readonly spki: Uint8Array;
  /** Bits of the modulus; 256 for the curves. */
  readonly bits: number;
}

/** Whatever can sign: a key in memory, a key of WebCrypto that cannot be extracted, a hardware module. */
export interface Signer {
  readonly publicKey: PublicKey;
  /** What `sign` can do. Empty for a key that may only decrypt. */
  readonly signatureSchemes: readonly SignatureScheme[];
  /** @throws WatchwordError `crypto.scheme` for a scheme that is not among `signatureSchemes` */
  sign(scheme: SignatureScheme, message: Uint8Array): Promise<Uint8Array>;
}

/** Whatever can decrypt what was encrypted to its public key. */
export interface Decrypter {
  readonly publicKey: PublicKey;
  /** What `decrypt` can do. Empty for a key that may only sign. */
  readonly encryptionSchemes: readonly EncryptionScheme[];
  /**
   * Decrypts a secret of exactly `octets` octets. Rejection is implicit: where length, padding or number are wrong the result is
   * `octets` pseudo-random octets, the same ones for the same ciphertext, so that nobody learns from us whether a padding was right.
   * The caller finds out when a MAC under a key from these octets does not match.
   * @throws WatchwordError `crypto.scheme` for a scheme that is not among `encryptionSchemes`
   * @throws WatchwordError `crypto.length` for a number of octets that the key cannot carry, whatever the ciphertext
   */
  decrypt(scheme: EncryptionScheme, ciphertext: Uint8Array, octets: number): Promise<Uint8Array>;
}

/** A private key in memory. */
export interface PrivateKey extends Signer, Decrypter {}

/**
 * Groups of key agreement: OAKLEY groups 1, 2 and 5 of RFC 3830 §6.4 (RFC 2409 §6, RFC 3526 §2) and two of our own.
 * The first two are known so that a message can be read; an agreement in them is refused, they are too short.
 */
export type AgreementGroup = "modp768" | "modp1024" | "modp1536" | "x25519" | "p256";

/** Octets of a public value and of the shared secret, both of fixed length. */
export const agreementLengths: Readonly<Record<AgreementGroup, { readonly publicValue: number; readonly secret: number }>> = {
  modp768: { publicValue: 96, secret: 96 },
  modp1024: { publicValue: 128, secret: 128 },
  modp1536: { publicValue: 192, secret: 192 },
  x25519: { publicValue: 32, secret: 32 },
  p256: { publicValue: 65, secret: 32 },
};

/** One end of a Diffie-Hellman agreement, for one exchange. */
export interface Agreement {
  readonly group: AgreementGroup;
  /** What the peer gets, of the group's fixed length: a number left-padded with zeros, the X25519 u-coordinate, or 0x04‖x‖y. */
  readonly publicValue: Uint8Array;
  /**
   * The shared secret, of the group's fixed length: for P-256 the x-coordinate. Undefined, and never why, where the peer's value is
   * not acceptable: of another length, outside 2 to p-2, outside the subgroup of prime order (RFC 2631 §2.1.5), off the curve, of small order.
   */
  agree(peerValue: Uint8Array): Promise<Uint8Array | undefined>;
  /** Forgets the private value. `agree` throws WatchwordError `crypto.wiped` afterwards. */
  wipe(): void;
}

/** What an RSA key is held to. */
export interface KeyLimits {
  /** Shortest RSA modulus that is accepted, 1024 to 8192 bits. Default 2048. */
  readonly leastRsaBits?: number;
}

/** A key pair as it is stored. */
export interface EncodedKeyPair {
  /** PrivateKeyInfo, DER (RFC 5208 §5). A secret: the caller wipes it. */
  readonly pkcs8: Uint8Array;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
}

/** Public-key primitives. What a private key does is asynchronous, so that a hardware module or a key of WebCrypto fits. */
export interface AsymmetricProvider {
  /** @throws WatchwordError `crypto.key` for octets that are no SubjectPublicKeyInfo of a known kind, and for keys beyond the limits */
  importPublicKey(spki: Uint8Array, limits?: KeyLimits): PublicKey;
  /** @throws WatchwordError `crypto.key` for octets that are no PrivateKeyInfo of a known kind, and for keys beyond the limits */
  importPrivateKey(pkcs8: Uint8Array, limits?: KeyLimits): PrivateKey;
  /**
   * @param bits of an RSA modulus: 2048 to 8192, a multiple of 8. Default 2048; the curves have no choice.
   * @throws WatchwordError `crypto.key` for another length, and where the platform cannot make RSA keys
   */
  generateKeyPair(kind: PublicKeyKind, bits?: number): Promise<EncodedKeyPair>;
  /** Whether the signature is right. Malformed signatures and schemes of another kind of key are false, never an error. */
  verify(key: PublicKey, scheme: SignatureScheme, message: Uint8Array, signature: Uint8Array): Promise<boolean>;
  /**
   * Encrypts a short secret to an RSA key.
   * @param padding for test vectors alone: the padding string of RSAES-PKCS1-v1_5 or the seed of OAEP, otherwise random
   * @throws WatchwordError `crypto.scheme` for a key that cannot encrypt
   * @throws WatchwordError `crypto.length` for a plaintext or padding of a length that does not fit
   */
  encrypt(key: PublicKey, scheme: EncryptionScheme, plaintext: Uint8Array, padding?: Uint8Array): Promise<Uint8Array>;
  /**
   * Begins an agreement with a fresh private value.
   * @param privateValue for test vectors alone: a scalar of 32 octets, or an exponent for the MODP groups
   * @throws WatchwordError `crypto.group` for the groups that are too short to agree in
   * @throws WatchwordError `crypto.length` for a private value that is none
   */
  agreement(group: AgreementGroup, privateValue?: Uint8Array): Promise<Agreement>;
}
