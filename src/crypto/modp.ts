import { bytesToNumberBE } from "@noble/curves/utils.js";
import { agreementLengths } from "./asymmetric.js";

/** The prime of the 1536-bit MODP group (RFC 3526 §2), OAKLEY group 5; its generator is 2, which generates the subgroup of order (p-1)/2. */
export const modp1536Prime = BigInt(
  "0xffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd" +
    "ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed" +
    "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f" +
    "83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca237327ffffffffffffffff",
);

/**
 * Whether a peer's public value is acceptable in the 1536-bit group: 192 octets, 2 to p-2, in the subgroup of prime order q
 * (RFC 2631 §2.1.5: y^q = 1). The prime is safe, so that subgroup is that of the squares, and the Jacobi symbol tells at a twentieth of the cost.
 * The value is public: nothing here is, or needs to be, constant in time.
 */
export function isModp1536Value(octets: Uint8Array): boolean {
  if (octets.length !== agreementLengths.modp1536.publicValue) return false;
  const value = bytesToNumberBE(octets);
  return value >= 2n && value <= modp1536Prime - 2n && jacobiSymbol(value, modp1536Prime) === 1;
}

/** The Jacobi symbol (a/n) for odd positive n, by reciprocity (Cohen, A Course in Computational Algebraic Number Theory, 1.4.10). */
function jacobiSymbol(a: bigint, n: bigint): -1 | 0 | 1 {
  let [top, bottom] = [a % n, n];
  // Low bits are kept as numbers: taking them from a BigInt costs as much as dividing it.
  let bottomLow = lowBits(bottom);
  let isNegative = false;
  while (top !== 0n) {
    let topLow = lowBits(top);
    while ((topLow & 1) === 0) {
      const twos = topLow === 0 ? LOW_BITS : 31 - Math.clz32(topLow & -topLow);
      top >>= BigInt(twos);
      const eighth = bottomLow & 7;
      if ((twos & 1) === 1 && (eighth === 3 || eighth === 5)) isNegative = !isNegative;
      topLow = lowBits(top);
    }
    if ((bottomLow & topLow & 3) === 3) isNegative = !isNegative;
    [top, bottom] = [bottom % top, top];
    bottomLow = topLow;
  }
  if (bottom !== 1n) return 0;
  return isNegative ? -1 : 1;
}

const LOW_BITS = 30;

function lowBits(value: bigint): number {
  return Number(BigInt.asUintN(LOW_BITS, value));
}
