import { wipe } from "../../bytes/index.js";
import type { CryptoProvider } from "../../crypto/index.js";
import { type ChainOptions, encodeMessage } from "../codec.js";
import type { Identity } from "../csb.js";
import { MikeyError } from "../errors.js";
import {
  computeMac,
  isAuthentication,
  isKeyEncryption,
  mayBePadded,
  openKeyData,
  type SealOptions,
  sealKeyData,
  verifyMac,
} from "../kemac.js";
import type { MessageKeys } from "../keys.js";
import type { DecodedMessage, Header, KemacPayload, KeyData, Payload } from "../message.js";
import { decodeKeyData, encodeKeyData } from "../payloads-key-data.js";
import { EncrAlg, entryOf, MacAlg } from "../registry.js";
import type { Timestamp } from "../timestamp.js";
import { coveredOctets, requiredPayload } from "./grammar.js";
import type { Mode } from "./modes.js";

/** How a KEMAC is protected. */
export interface KemacProtection {
  readonly encrAlg: number;
  readonly macAlg: number;
  /** Undefined for NULL keying. */
  readonly keys: MessageKeys | undefined;
}

/** NULL keying: no encryption and no MAC (RFC 3830 §4.2.3, §4.2.4). One of the two alone protects nothing that needs it. */
export function isNullKeyed(kemac: Pick<KemacPayload, "encrAlg" | "macAlg">): boolean {
  return kemac.encrAlg === EncrAlg.NULL && kemac.macAlg === MacAlg.NULL;
}

/**
 * Refuses algorithms that do not protect what the mode has them protect: keys in the clear, or a message without the MAC that covers it
 * (RFC 3830 §4.2.3). In DHHMAC a KEMAC has nothing to encrypt (RFC 4650 §4.2); under an envelope key AES key wrap is its own
 * integrity check, and the NULL MAC beside it is what RFC 3830 §4.2.3 recommends.
 * @throws MikeyError `mikey.encryption-algorithm`, `mikey.mac-algorithm`
 */
export function checkKemacAlgorithms(mode: Mode, encrAlg: number, macAlg: number): void {
  const wrapped = mode.envelope && encrAlg === EncrAlg.AES_KW_128 && macAlg === MacAlg.NULL;
  if (!wrapped && !isAuthentication(macAlg))
    throw new MikeyError("mikey.mac-algorithm", `MAC alg ${macAlg} does not authenticate a message of mode ${mode.name}`);
  const fits = mode.keys === "agreement" ? encrAlg === EncrAlg.NULL : isKeyEncryption(encrAlg);
  if (!fits) throw new MikeyError("mikey.encryption-algorithm", `Encr alg ${encrAlg} does not belong into mode ${mode.name}`);
}

/**
 * Encodes a message that ends with a KEMAC: encrypts the keys and puts the MAC over everything before it (RFC 3830 §5.2).
 * @param payloads all payloads before the KEMAC
 */
export function encodeWithKemac(
  crypto: CryptoProvider,
  header: Header,
  payloads: readonly Payload[],
  timestamp: Timestamp,
  keys: readonly KeyData[],
  protection: KemacProtection,
  options: SealOptions,
): Uint8Array {
  const plaintext = encodeKeyData(keys);
  const { encrAlg, macAlg } = protection;
  const context = { csbId: header.csbId, timestamp };
  const encrData =
    protection.keys === undefined ? plaintext : sealKeyData(crypto, encrAlg, protection.keys, context, plaintext, options);
  const octets = encodeMessage({
    header,
    payloads: [...payloads, { kind: "KEMAC", encrAlg, encrData, macAlg, mac: new Uint8Array(macOctets(macAlg)) }],
  });
  if (protection.keys !== undefined) {
    wipe(plaintext);
    setMac(octets, computeMac(crypto, macAlg, protection.keys, withoutMac(octets, macAlg)));
  }
  return octets;
}

/** Encodes a message whose KEMAC holds nothing but the MAC over it (RFC 4650 §4.2). @param payloads all payloads before the KEMAC */
export function encodeWithMac(
  crypto: CryptoProvider,
  header: Header,
  payloads: readonly Payload[],
  macAlg: number,
  keys: MessageKeys,
): Uint8Array {
  const kemac: Payload = {
    kind: "KEMAC",
    encrAlg: EncrAlg.NULL,
    encrData: new Uint8Array(0),
    macAlg,
    mac: new Uint8Array(macOctets(macAlg)),
  };
  const octets = encodeMessage({ header, payloads: [...payloads, kemac] });
  setMac(octets, computeMac(crypto, macAlg, keys, withoutMac(octets, macAlg)));
  return octets;
}

/** Verifies the MAC over a message in the KEMAC that ends it (RFC 3830 §5.3). @throws MikeyError `mikey.authentication` */
export function verifyKemac(crypto: CryptoProvider, message: DecodedMessage, keys: MessageKeys): void {
  const kemac = requiredPayload(message, "KEMAC");
  verifyMac(crypto, kemac.macAlg, keys, kemac.mac, coveredOctets(message));
}

/**
 * The keys of a KEMAC whose MAC was verified, or of a NULL-keyed one.
 * @throws MikeyError `mikey.key-data` where they cannot be read, `mikey.authentication` where a key wrap does not open
 */
export function readKemac(
  crypto: CryptoProvider,
  message: DecodedMessage,
  timestamp: Timestamp,
  keys: MessageKeys | undefined,
): KeyData[] {
  const { encrAlg, encrData } = requiredPayload(message, "KEMAC");
  const context = { csbId: message.header.csbId, timestamp };
  const plaintext = keys === undefined ? encrData : openKeyData(crypto, encrAlg, keys, context, encrData);
  try {
    return mayBePadded(encrAlg) ? decodePadded(plaintext, decodeKeyData) : decodeKeyData(plaintext);
  } catch (cause) {
    throw new MikeyError("mikey.key-data", "the key data cannot be read", { cause });
  } finally {
    if (keys !== undefined) wipe(plaintext);
  }
}

/** RFC 3830 has no rule for the padding that AES key wrap needs; zeros at the end are taken as such where nothing else fits. */
export function decodePadded<T>(plaintext: Uint8Array, decode: (octets: Uint8Array, options: ChainOptions) => T): T {
  let end = plaintext.length;
  for (;;) {
    try {
      return decode(plaintext, { end });
    } catch (error) {
      if (end === 0 || plaintext.length - end >= 15 || plaintext[end - 1] !== 0) throw error;
      end--;
    }
  }
}

/**
 * Encodes a verification message: V = MAC over the message, Identity_i, Identity_r and T (RFC 3830 §3.1, §5.2). The
 * identities are the data of the ID payloads, T is the TS value.
 * @param payloads all payloads before V
 */
export function encodeWithV(
  crypto: CryptoProvider,
  header: Header,
  payloads: readonly Payload[],
  macAlg: number,
  keys: MessageKeys,
  suffix: readonly Uint8Array[],
): Uint8Array {
  const octets = encodeMessage({
    header,
    payloads: [...payloads, { kind: "V", authAlg: macAlg, data: new Uint8Array(macOctets(macAlg)) }],
  });
  setMac(octets, computeMac(crypto, macAlg, keys, withoutMac(octets, macAlg), ...suffix));
  return octets;
}

/** Verifies V. @throws MikeyError `mikey.authentication` */
export function verifyV(
  crypto: CryptoProvider,
  message: DecodedMessage,
  macAlg: number,
  keys: MessageKeys,
  suffix: readonly Uint8Array[],
): void {
  const { data } = requiredPayload(message, "V");
  // The algorithm is the request's, whatever V names: a weaker one cannot be put in its place.
  verifyMac(crypto, macAlg, keys, data, coveredOctets(message), ...suffix);
}

/**
 * Identity_i || Identity_r || Timestamp, behind a verification message in its MAC (RFC 3830 §5.2) and behind the R_MESSAGE of RSA-R in its
 * signature (RFC 4738 §3.6).
 */
export function verificationSuffix(
  initiator: Identity | undefined,
  responder: Identity | undefined,
  timestamp: Timestamp,
): Uint8Array[] {
  return [initiator?.data ?? new Uint8Array(0), responder?.data ?? new Uint8Array(0), timestamp.value];
}

function macOctets(macAlg: number): number {
  return entryOf(MacAlg, macAlg)?.octets ?? 0;
}

function withoutMac(octets: Uint8Array, macAlg: number): Uint8Array {
  return octets.subarray(0, octets.length - macOctets(macAlg));
}

function setMac(octets: Uint8Array, mac: Uint8Array): void {
  octets.set(mac, octets.length - mac.length);
}
