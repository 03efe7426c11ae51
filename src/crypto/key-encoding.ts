import { bytesToNumberBE } from "@noble/curves/utils.js";
import { equalBytes, Reader, WatchwordError, wipe } from "../bytes/index.js";
import type { KeyLimits, PublicKey } from "./asymmetric.js";
import { BIT_STRING, element, encodeInteger, INTEGER, integer, OCTET_STRING, SEQUENCE, tlv } from "./der.js";

/** Numbers of an RSA public key: unsigned, big-endian, without leading zeros (RFC 8017 A.1.1). */
export interface RsaPublicNumbers {
  readonly kind: "rsa";
  readonly modulus: Uint8Array;
  readonly publicExponent: Uint8Array;
}

/** Numbers of an RSA private key of two primes (RFC 8017 A.1.2). */
export interface RsaPrivateNumbers extends RsaPublicNumbers {
  readonly privateExponent: Uint8Array;
  readonly prime1: Uint8Array;
  readonly prime2: Uint8Array;
  readonly exponent1: Uint8Array;
  readonly exponent2: Uint8Array;
  readonly coefficient: Uint8Array;
}

/** What a SubjectPublicKeyInfo says: an RSA key, a P-256 point as 0x04‖x‖y, or an Ed25519 point. */
export type PublicNumbers = RsaPublicNumbers | { readonly kind: "ec-p256" | "ed25519"; readonly point: Uint8Array };

/** What a PrivateKeyInfo says: an RSA key, a P-256 scalar or an Ed25519 seed, both of 32 octets. */
export type PrivateNumbers = RsaPrivateNumbers | { readonly kind: "ec-p256" | "ed25519"; readonly scalar: Uint8Array };

/** Contents of an AlgorithmIdentifier (RFC 3279 §2.3.1, RFC 5480 §2.1.1, RFC 8410 §3): the whole of it, parameters included. */
const ALGORITHMS = {
  rsa: Uint8Array.of(0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0),
  "ec-p256": Uint8Array.of(0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7),
  ed25519: Uint8Array.of(0x06, 3, 0x2b, 0x65, 0x70),
} as const;

/** Longest encodings that are looked at: a private key of 8192 bits has 4.7 kB. */
const MAX_OCTETS = 8192;
const MAX_RSA_BITS = 8192;
const LEAST_RSA_BITS = { default: 2048, ever: 1024 } as const;
/** Longest public exponent: a longer one would make each check of a signature as dear as its making. */
const MAX_EXPONENT_OCTETS = 4;

const ZERO = Uint8Array.of(0);

/**
 * Encodings in little-endian of the y-coordinates of all points of small order of edwards25519, canonical or not, the sign bit clear.
 * Under such a public key a signature that fits every message is easily made.
 */
const SMALL_ORDER: readonly Uint8Array[] = [
  littleEndian(0n),
  littleEndian(1n),
  littleEndian(0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n),
  littleEndian(0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n),
  littleEndian(2n ** 255n - 20n),
  littleEndian(2n ** 255n - 19n),
  littleEndian(2n ** 255n - 18n),
];

function littleEndian(value: bigint): Uint8Array {
  return Uint8Array.from({ length: 32 }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

/**
 * Reads a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7), strictly DER. Points are not checked to be on their curve here.
 * @throws WatchwordError `crypto.key`
 */
export function decodePublicKey(spki: Uint8Array, limits: KeyLimits = {}): PublicNumbers {
  return reading("public key", spki, (reader) => {
    const info = element(reader, "subjectPublicKeyInfo", SEQUENCE);
    reader.expectEnd();
    const kind = algorithm(info);
    const bits = element(info, "subjectPublicKey", BIT_STRING);
    info.expectEnd();
    if (bits.u8("unusedBits") !== 0) throw bits.error("crypto.key", "unusedBits", "not whole octets");
    if (kind === "rsa") {
      const numbers = element(bits, "rsaPublicKey", SEQUENCE);
      bits.expectEnd();
      const key = { kind, modulus: integer(numbers, "modulus"), publicExponent: integer(numbers, "publicExponent") };
      numbers.expectEnd();
      checkRsa(key, limits);
      return key;
    }
    const point = bits.rest("point");
    if (kind === "ec-p256" ? point.length !== 65 || point[0] !== 4 : point.length !== 32)
      throw info.error("crypto.key", "point", "not a point of the curve's form");
    if (kind === "ed25519") checkOrder(point);
    return { kind, point };
  });
}

/** The canonical SubjectPublicKeyInfo of a key. */
export function encodePublicKey(numbers: PublicNumbers): Uint8Array {
  const content =
    numbers.kind === "rsa" ? tlv(SEQUENCE, encodeInteger(numbers.modulus), encodeInteger(numbers.publicExponent)) : numbers.point;
  return tlv(SEQUENCE, tlv(SEQUENCE, ALGORITHMS[numbers.kind]), tlv(BIT_STRING, ZERO, content));
}

/** A public key of the shape that everybody takes. */
export function publicKeyOf(numbers: PublicNumbers): PublicKey {
  const bits = numbers.kind === "rsa" ? bitLength(numbers.modulus) : 256;
  return { kind: numbers.kind, spki: encodePublicKey(numbers), bits };
}

/**
 * Reads a PrivateKeyInfo (RFC 5208 §5, RFC 5958 §2), strictly DER. The numbers of an RSA key have to belong together; whether its primes are
 * prime is not checked: who can write the key file needs no such trick.
 * @throws WatchwordError `crypto.key`, whose text holds nothing of the key
 */
export function decodePrivateKey(pkcs8: Uint8Array, limits: KeyLimits = {}): PrivateNumbers {
  return reading("private key", pkcs8, (reader) => {
    const info = element(reader, "privateKeyInfo", SEQUENCE);
    reader.expectEnd();
    const version = element(info, "version", INTEGER).rest("version");
    if (version.length !== 1 || (version[0] as number) > 1) throw info.error("crypto.key", "version", "unknown version");
    const kind = algorithm(info);
    const privateKey = element(info, "privateKey", OCTET_STRING);
    // Attributes [0] and the public key [1] may follow (RFC 5958 §2); neither adds anything.
    while (info.remaining > 0) element(info, "optional", info.peek() === 0xa0 ? 0xa0 : 0x81);
    const numbers = kind === "rsa" ? rsaPrivateKey(privateKey, limits) : { kind, scalar: curveScalar(privateKey, kind) };
    privateKey.expectEnd();
    return numbers;
  });
}

/** The public numbers of an RSA private key. */
export function publicPart({ kind, modulus, publicExponent }: RsaPrivateNumbers): RsaPublicNumbers {
  return { kind, modulus, publicExponent };
}

/** Overwrites what is secret of a private key. */
export function wipePrivateNumbers(numbers: PrivateNumbers): void {
  if (numbers.kind === "rsa") {
    const { privateExponent, prime1, prime2, exponent1, exponent2, coefficient } = numbers;
    wipe(privateExponent, prime1, prime2, exponent1, exponent2, coefficient);
  } else wipe(numbers.scalar);
}

/** The PrivateKeyInfo of a key: a secret. */
export function encodePrivateKey(numbers: PrivateNumbers): Uint8Array {
  const inner = privateKeyContent(numbers);
  const pkcs8 = tlv(SEQUENCE, encodeInteger(ZERO), tlv(SEQUENCE, ALGORITHMS[numbers.kind]), tlv(OCTET_STRING, inner));
  wipe(inner);
  return pkcs8;
}

function privateKeyContent(numbers: PrivateNumbers): Uint8Array {
  if (numbers.kind === "rsa") {
    const { modulus, publicExponent, privateExponent, prime1, prime2, exponent1, exponent2, coefficient } = numbers;
    const integers = [ZERO, modulus, publicExponent, privateExponent, prime1, prime2, exponent1, exponent2, coefficient];
    return tlv(SEQUENCE, ...integers.map(encodeInteger));
  }
  const scalar = tlv(OCTET_STRING, numbers.scalar);
  // RFC 8410 §7: an OCTET STRING in the OCTET STRING. RFC 5915 §3, without the optional parts: the curve stands in the algorithm.
  return numbers.kind === "ed25519" ? scalar : tlv(SEQUENCE, encodeInteger(Uint8Array.of(1)), scalar);
}

function rsaPrivateKey(reader: Reader, limits: KeyLimits): RsaPrivateNumbers {
  const numbers = element(reader, "rsaPrivateKey", SEQUENCE);
  // Version 1 has more than two primes (RFC 8017 A.1.2): nobody makes them.
  if (integer(numbers, "version").length !== 0) throw numbers.error("crypto.key", "version", "unknown version");
  const key = {
    kind: "rsa",
    modulus: integer(numbers, "modulus"),
    publicExponent: integer(numbers, "publicExponent"),
    privateExponent: integer(numbers, "privateExponent"),
    prime1: integer(numbers, "prime1"),
    prime2: integer(numbers, "prime2"),
    exponent1: integer(numbers, "exponent1"),
    exponent2: integer(numbers, "exponent2"),
    coefficient: integer(numbers, "coefficient"),
  } as const;
  numbers.expectEnd();
  checkRsa(key, limits);
  checkRsaNumbers(key);
  return key;
}

function curveScalar(reader: Reader, kind: "ec-p256" | "ed25519"): Uint8Array {
  let inner = reader;
  if (kind === "ec-p256") {
    inner = element(reader, "ecPrivateKey", SEQUENCE);
    const version = integer(inner, "version");
    if (version.length !== 1 || version[0] !== 1) throw inner.error("crypto.key", "version", "unknown version");
  }
  const scalar = element(inner, "scalar", OCTET_STRING).rest("scalar");
  if (scalar.length !== 32) throw inner.error("crypto.key", "scalar", "not 32 octets");
  if (kind === "ec-p256" && !isP256Scalar(bytesToNumberBE(scalar))) throw inner.error("crypto.key", "scalar", "out of range");
  // Parameters [0] and the public key [1] of RFC 5915 §3: the curve is known, the point follows from the scalar.
  while (inner.remaining > 0) element(inner, "optional", inner.peek() === 0xa0 ? 0xa0 : 0xa1);
  return scalar;
}

/** SEC 1 §3.2.1: 1 to n-1. */
function isP256Scalar(scalar: bigint): boolean {
  return scalar > 0n && scalar < 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
}

function checkRsa(key: RsaPublicNumbers, limits: KeyLimits): void {
  const least = Math.max(limits.leastRsaBits ?? LEAST_RSA_BITS.default, LEAST_RSA_BITS.ever);
  const bits = bitLength(key.modulus);
  const exponent = key.publicExponent;
  if (bits < least || bits > MAX_RSA_BITS)
    throw new WatchwordError("crypto.key", `RSA modulus of ${bits} bits, where ${least} to ${MAX_RSA_BITS} are accepted`);
  if (
    !isOdd(key.modulus) ||
    !isOdd(exponent) ||
    exponent.length > MAX_EXPONENT_OCTETS ||
    (exponent.length === 1 && exponent[0] === 1)
  )
    throw new WatchwordError("crypto.key", "RSA modulus or public exponent that no key has");
}

/** RFC 8017 §3.2. A key whose numbers do not fit each other would give wrong results that betray its primes. */
function checkRsaNumbers(key: RsaPrivateNumbers): void {
  const [n, e, d] = [key.modulus, key.publicExponent, key.privateExponent].map(bytesToNumberBE) as [bigint, bigint, bigint];
  const [p, q, dP, dQ] = [key.prime1, key.prime2, key.exponent1, key.exponent2].map(bytesToNumberBE) as [
    bigint,
    bigint,
    bigint,
    bigint,
  ];
  const right =
    p > 1n &&
    q > 1n &&
    p !== q &&
    p * q === n &&
    d < n &&
    (e * d) % (p - 1n) === 1n &&
    (e * d) % (q - 1n) === 1n &&
    dP === d % (p - 1n) &&
    dQ === d % (q - 1n) &&
    (bytesToNumberBE(key.coefficient) * q) % p === 1n;
  if (!right) throw new WatchwordError("crypto.key", "RSA private key whose numbers do not belong together");
}

function checkOrder(point: Uint8Array): void {
  const y = point.slice();
  y[31] = (y[31] as number) & 0x7f;
  if (SMALL_ORDER.some((small) => equalBytes(small, y))) throw new WatchwordError("crypto.key", "Ed25519 point of small order");
}

function isOdd(number: Uint8Array): boolean {
  return ((number.at(-1) ?? 0) & 1) === 1;
}

/** Bits of a number without leading zeros. */
export function bitLength(number: Uint8Array): number {
  return number.length === 0 ? 0 : 8 * number.length - Math.clz32(number[0] as number) + 24;
}

/** @throws WatchwordError `crypto.key` for a modulus that is not made: 2048 to 8192 bits, whole octets */
export function checkNewRsaBits(bits: number): void {
  if (!(bits >= LEAST_RSA_BITS.default && bits <= MAX_RSA_BITS && bits % 8 === 0))
    throw new WatchwordError(
      "crypto.key",
      `RSA modulus of ${bits} bits, where ${LEAST_RSA_BITS.default} to ${MAX_RSA_BITS} are made`,
    );
}

/** Turns every failure of a reader into one code. */
function reading<T>(what: string, octets: Uint8Array, read: (reader: Reader) => T): T {
  if (octets.length > MAX_OCTETS) throw new WatchwordError("crypto.key", `${what} of ${octets.length} octets`);
  try {
    return read(new Reader(octets, what));
  } catch (error) {
    if (error instanceof WatchwordError && error.code !== "crypto.key")
      throw new WatchwordError("crypto.key", `not a ${what}: ${error.message}`, { cause: error });
    throw error;
  }
}

function algorithm(reader: Reader): keyof typeof ALGORITHMS {
  const content = element(reader, "algorithm", SEQUENCE).rest("algorithm");
  for (const [kind, known] of Object.entries(ALGORITHMS)) {
    if (equalBytes(content, known)) return kind as keyof typeof ALGORITHMS;
  }
  throw reader.error("crypto.key", "algorithm", "neither RSA, P-256 nor Ed25519");
}
