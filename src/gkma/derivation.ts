import { concatBytes, utf8, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";

/** What a key is derived for. Keys of different purposes, nodes or versions are independent. */
const LABELS = {
  /** From the seed of a change: the new key of a node, or the secret at the beginning of a chain. */
  fresh: "ww1 fresh",
  /** From the seed of a change: the key of a new member's leaf. */
  leaf: "ww1 leaf",
  /** From a secret of the one-way function chain: the node's key, then the secret of the node above. */
  chain: "ww1 chain",
  /** From a key: its successor at a join. */
  refresh: "ww1 refresh",
} as const;

/** Octets behind the label: node (32 bits), version (32 bits), counter (8 bits). */
const CONTEXT = 4 + 4 + 1;

export type Purpose = keyof typeof LABELS;

/**
 * Keys from secrets: the octets of HMAC-SHA-256(secret, label ‖ node ‖ version ‖ counter) for counter = 1, 2, … (RFC 5869 §2.3 without its
 * feedback, which inputs of fixed length do not need).
 */
export interface Derivation {
  /** At least so many octets, the caller's to wipe. Each step of a chain of 128-bit keys takes one HMAC: half for the key, half for the next secret. */
  derive(purpose: Purpose, secret: Uint8Array, node: number, version: number, octets: number): Uint8Array;
}

export function createDerivation(crypto: CryptoProvider): Derivation {
  const inputs = Object.fromEntries(
    Object.entries(LABELS).map(([purpose, label]) => {
      const input = new Uint8Array(label.length + CONTEXT);
      input.set(utf8(label));
      return [purpose, { input, context: new DataView(input.buffer, label.length) }];
    }),
  ) as Record<Purpose, { input: Uint8Array; context: DataView }>;
  return {
    derive(purpose, secret, node, version, octets) {
      const { input, context } = inputs[purpose];
      context.setUint32(0, node);
      context.setUint32(4, version);
      context.setUint8(8, 1);
      const tag = crypto.hmacOnce("sha256", secret, input);
      if (octets <= tag.length) return tag;
      context.setUint8(8, 2);
      const second = crypto.hmacOnce("sha256", secret, input);
      const both = concatBytes(tag, second);
      wipe(tag, second);
      return both;
    },
  };
}

/** `octets` octets from one place to another. For keys this is faster than a view of each. */
export function copyOctets(from: Uint8Array, fromAt: number, to: Uint8Array, toAt: number, octets: number): void {
  for (let i = 0; i < octets; i++) to[toAt + i] = from[fromAt + i] as number;
}

/** A node's id, 4 octets. */
export function writeId(id: number, to: Uint8Array, at: number): void {
  for (let i = 0; i < 4; i++) to[at + i] = id >>> (8 * (3 - i));
}
