import type { CryptoProvider } from "../crypto/index.js";
import { type SrtpPolicy, suiteOf } from "../srtp/index.js";
import type { KeyMaterial } from "./csb.js";
import { MikeyError } from "./errors.js";
import type { KeyValidity } from "./message.js";

/** What a key data sub-payload carries (RFC 3830 §6.13). `TEK` alone is master key and salt in one field. */
export type KeyKind = "TGK" | "TGK+SALT" | "TEK" | "TEK+SALT";

/** A key to transport. Random where no value is given; lengths follow the policy. */
export interface KeyRequest {
  readonly kind: KeyKind;
  readonly value?: Uint8Array;
  readonly salt?: Uint8Array;
  /** Octets of a random TGK. Default: the longest master key that a policy needs, at least 16. */
  readonly length?: number;
  /** SPI, which SRTP carries as MKI. Not together with `interval`. */
  readonly spi?: Uint8Array;
  /** First and last packet index of the key, 48 bits (RFC 3711 §8.1.1). */
  readonly interval?: { readonly from: number; readonly to: number };
}

/** Makes a key. @throws MikeyError `mikey.option` */
export function createKey(crypto: CryptoProvider, request: KeyRequest, policies: ReadonlyMap<number, SrtpPolicy>): KeyMaterial {
  const suites = [...policies.values()].map(({ suite }) => suiteOf(suite));
  const first = suites[0];
  const kind = request.kind.startsWith("TGK") ? "TGK" : "TEK";
  const salted = request.kind.endsWith("+SALT");
  if (first === undefined && request.kind !== "TGK" && (request.value === undefined || (salted && request.salt === undefined))) {
    throw new MikeyError("mikey.option", "without a policy only a TGK can be made; give the value of the key");
  }
  const keyLength = first?.keyLength ?? 16;
  const saltLength = first?.saltLength ?? 14;
  const length =
    kind === "TGK"
      ? (request.length ?? Math.max(16, ...suites.map((suite) => suite.keyLength)))
      : salted
        ? keyLength
        : keyLength + saltLength;
  if (!salted && request.salt !== undefined) throw new MikeyError("mikey.option", `a ${request.kind} has no salt field`);
  return {
    kind,
    key: request.value?.slice() ?? crypto.randomBytes(length),
    ...(salted ? { salt: request.salt?.slice() ?? crypto.randomBytes(saltLength) } : {}),
    validity: validityOf(request),
  };
}

/**
 * What is said of the key that an agreement will give: its validity, and nothing else, since nobody chooses it (RFC 3830 §6.4).
 * @throws MikeyError `mikey.option`
 */
export function agreedValidity(requests: readonly KeyRequest[]): KeyValidity {
  const [request = { kind: "TGK" }, ...others] = requests;
  if (others.length > 0 || request.kind !== "TGK" || request.value !== undefined)
    throw new MikeyError("mikey.option", "a Diffie-Hellman agreement gives one TGK, whose value nobody chooses");
  return validityOf(request);
}

function validityOf({ spi, interval }: KeyRequest): KeyValidity {
  if (spi !== undefined && interval !== undefined)
    throw new MikeyError("mikey.option", "a key has an SPI or an interval, not both (RFC 3830 §6.13)");
  if (interval !== undefined) return { kv: "interval", from: indexOctets(interval.from), to: indexOctets(interval.to) };
  if (spi === undefined) return { kv: "null" };
  if (spi.length === 0 || spi.length > 255) throw new MikeyError("mikey.option", `an SPI has 1 to 255 octets, not ${spi.length}`);
  return { kv: "spi", spi: spi.slice() };
}

/** A packet index of 48 bits, 6 octets (RFC 3830 §6.14). */
function indexOctets(index: number): Uint8Array {
  if (!Number.isInteger(index) || index < 0 || index >= 2 ** 48)
    throw new MikeyError("mikey.option", `${index} is no packet index of 48 bits`);
  return Uint8Array.from({ length: 6 }, (_, i) => Math.floor(index / 256 ** (5 - i)));
}
