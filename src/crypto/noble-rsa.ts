import { invert } from "@noble/curves/abstract/modular.js";
import { bytesToNumberBE, numberToBytesBE } from "@noble/curves/utils.js";
import { WatchwordError } from "../bytes/index.js";
import type { CryptoProvider } from "./contracts.js";
import type { RsaPrivateNumbers, RsaPublicNumbers } from "./key-encoding.js";

/** Random octets that are added to a private exponent as a multiple of the group's order. */
const EXPONENT_BLINDING_OCTETS = 8;

/** RSAEP and RSAVP1 (RFC 8017 §5.1.1, §5.2.2). Undefined for a number that is not below the modulus, or of another length. */
export function rsaPublicOperation({ modulus, publicExponent }: RsaPublicNumbers, octets: Uint8Array): Uint8Array | undefined {
  const n = bytesToNumberBE(modulus);
  const value = bytesToNumberBE(octets);
  if (octets.length !== modulus.length || value >= n) return undefined;
  return numberToBytesBE(powerOf(value, bytesToNumberBE(publicExponent), n), modulus.length);
}

/**
 * RSADP and RSASP1 (RFC 8017 §5.1.2, §5.2.1) by the Chinese remainder theorem. What the attacker chose is blinded before and unblinded after, and the
 * exponents are blinded too, since BigInt takes a time that depends on its numbers. The result is checked with the public exponent before
 * anybody sees it: a fault in one of the halves would give the primes away (Boneh, DeMillo, Lipton).
 * @throws WatchwordError `crypto.fault`
 */
export function createRsaPrivateOperation(
  numbers: RsaPrivateNumbers,
  randomBytes: CryptoProvider["randomBytes"],
): (octets: Uint8Array) => Uint8Array {
  const size = numbers.modulus.length;
  const n = bytesToNumberBE(numbers.modulus);
  const e = bytesToNumberBE(numbers.publicExponent);
  const p = bytesToNumberBE(numbers.prime1);
  const q = bytesToNumberBE(numbers.prime2);
  const dP = bytesToNumberBE(numbers.exponent1);
  const dQ = bytesToNumberBE(numbers.exponent2);
  const qInverse = bytesToNumberBE(numbers.coefficient);

  /** value^exponent mod prime, under an exponent that is another one each time and does the same (Fermat). */
  function half(value: bigint, exponent: bigint, prime: bigint): bigint {
    const blind = bytesToNumberBE(randomBytes(EXPONENT_BLINDING_OCTETS));
    return powerOf(value % prime, exponent + blind * (prime - 1n), prime);
  }

  return (octets) => {
    const blind = (bytesToNumberBE(randomBytes(size + 8)) % (n - 2n)) + 2n;
    const blinded = (bytesToNumberBE(octets) * powerOf(blind, e, n)) % n;
    const first = half(blinded, dP, p);
    const second = half(blinded, dQ, q);
    const difference = (((first - second) % p) + p) % p;
    const result = second + q * ((difference * qInverse) % p);
    if (powerOf(result, e, n) !== blinded) throw new WatchwordError("crypto.fault", "the private operation went wrong");
    return numberToBytesBE((result * invert(blind, n)) % n, size);
  };
}

/**
 * base^exponent mod modulus in windows of four bits: the same squarings and multiplications for every exponent of a length.
 * The exponent's length is not hidden.
 */
export function powerOf(base: bigint, exponent: bigint, modulus: bigint): bigint {
  const powers = [1n, base];
  for (let i = 2; i < 16; i++) powers.push(((powers[i - 1] as bigint) * base) % modulus);
  let result = 1n;
  for (const digit of exponent.toString(16)) {
    for (let i = 0; i < 4; i++) result = (result * result) % modulus;
    result = (result * (powers[Number.parseInt(digit, 16)] as bigint)) % modulus;
  }
  return result;
}
