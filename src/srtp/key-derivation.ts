import { wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import type { Suite } from "./suites.js";

/** Session keys of SRTP or SRTCP (RFC 3711 §4.3.1, §4.3.2). */
export interface SessionKeys {
  readonly encryptionKey: Uint8Array;
  /** Empty with AEAD. */
  readonly authenticationKey: Uint8Array;
  readonly salt: Uint8Array;
}

/** Keys of encrypted header extension elements (RFC 6904 §3). */
export type HeaderExtensionKeys = Pick<SessionKeys, "encryptionKey" | "salt">;

const HEADER_EXTENSION_LABELS = { encryption: 6, salt: 7 } as const;

/** Key derivation labels (RFC 3711 §4.3.1, §4.3.2). */
const LABELS = {
  rtp: { encryption: 0, authentication: 1, salt: 2 },
  rtcp: { encryption: 3, authentication: 4, salt: 5 },
} as const;

/**
 * The `r` of key derivation: index DIV key derivation rate, 0 where the rate is 0 (RFC 3711 §4.3.1). The 31-bit SRTCP index is
 * taken as a 48-bit number (erratum 3712).
 */
export function derivationEpoch(index: number, keyDerivationRate: number): number {
  return keyDerivationRate === 0 ? 0 : Math.floor(index / keyDerivationRate);
}

/**
 * PRF_n(master key, x) with x = (label ‖ r) XOR master salt: AES in counter mode from IV x·2^16, cut to `length` octets
 * (RFC 3711 §4.3.1, §4.3.3; with 192 and 256-bit keys RFC 6188 §3).
 * @param salt 14 octets; 12 octets are padded with zeros on the right (RFC 7714 §11, erratum 4938)
 */
export function deriveKey(
  crypto: CryptoProvider,
  key: Uint8Array,
  salt: Uint8Array,
  label: number,
  epoch: number,
  length: number,
): Uint8Array {
  const counters = new Uint8Array(16 * Math.ceil(length / 16));
  const view = new DataView(counters.buffer);
  for (let block = 0; block * 16 < length; block++) {
    const at = 16 * block;
    counters.set(salt, at);
    // key_id = label ‖ r is aligned with the end of the 14 octets: the label at octet 7, r at octets 8 to 13.
    counters[at + 7] = (counters[at + 7] as number) ^ label;
    view.setUint16(at + 8, view.getUint16(at + 8) ^ Math.floor(epoch / 2 ** 32));
    view.setUint32(at + 10, view.getUint32(at + 10) ^ (epoch >>> 0));
    view.setUint16(at + 14, block);
  }
  const blocks = crypto.aesBlocks(key);
  blocks.encrypt(counters, counters);
  blocks.wipe();
  const derived = counters.slice(0, length);
  wipe(counters);
  return derived;
}

/** All session keys of one protocol for one epoch. The caller wipes them. */
export function deriveSessionKeys(
  crypto: CryptoProvider,
  suite: Suite,
  key: Uint8Array,
  salt: Uint8Array,
  protocol: "rtp" | "rtcp",
  epoch: number,
): SessionKeys {
  const labels = LABELS[protocol];
  return {
    encryptionKey: deriveKey(crypto, key, salt, labels.encryption, epoch, suite.keyLength),
    authenticationKey: deriveKey(crypto, key, salt, labels.authentication, epoch, suite.authKeyLength),
    salt: deriveKey(crypto, key, salt, labels.salt, epoch, suite.saltLength),
  };
}

/** The keys of encrypted header extension elements for one epoch, of the same lengths as those of the payload. The caller wipes them. */
export function deriveHeaderExtensionKeys(
  crypto: CryptoProvider,
  suite: Suite,
  key: Uint8Array,
  salt: Uint8Array,
  epoch: number,
): HeaderExtensionKeys {
  return {
    encryptionKey: deriveKey(crypto, key, salt, HEADER_EXTENSION_LABELS.encryption, epoch, suite.keyLength),
    salt: deriveKey(crypto, key, salt, HEADER_EXTENSION_LABELS.salt, epoch, suite.saltLength),
  };
}
