import { concatBytes, formatHex } from "../../src/bytes/index.js";
import type { CryptoProvider } from "../../src/crypto/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";

/**
 * Who knows what, when cryptography is perfect: a secret is known to whoever was told it, or knows all from which it follows. A wrapped key on
 * the wire follows from the key that wraps it; the output of a one-way function from its input.
 */
export interface Rule {
  readonly from: readonly string[];
  readonly to: string;
}

/** The key of a group between two changes, and who may have it. */
export interface Epoch {
  readonly version: number;
  readonly key: string;
  readonly members: ReadonlySet<number>;
}

/** All that happened in a group. */
export interface History {
  /** What was told to each member in private, in all its life. */
  readonly told: ReadonlyMap<number, readonly string[]>;
  /** All recorded traffic, and all functions that the algorithm uses. */
  readonly rules: readonly Rule[];
  readonly epochs: readonly Epoch[];
}

/** Everything that follows from what is known. */
export function closure(rules: readonly Rule[], known: Iterable<string>): Set<string> {
  const waiting = new Map<string, { missing: number; to: string }[]>();
  for (const { from, to } of rules) {
    const rule = { missing: new Set(from).size, to };
    for (const premise of new Set(from)) {
      const others = waiting.get(premise);
      if (others === undefined) waiting.set(premise, [rule]);
      else others.push(rule);
    }
  }
  const found = new Set<string>();
  const next = [...known];
  for (let secret = next.pop(); secret !== undefined; secret = next.pop()) {
    if (found.has(secret)) continue;
    found.add(secret);
    for (const rule of waiting.get(secret) ?? []) if (--rule.missing === 0) next.push(rule.to);
  }
  return found;
}

/**
 * The first epoch whose key the others can find out if all of them work together: those who left before, those who came later, those who wait.
 * They have kept everything that they were ever told, and recorded all traffic.
 */
export function firstBreach({ told, rules, epochs }: History): { version: number; outsiders: readonly number[] } | undefined {
  const known = new Map<string, Set<string>>();
  for (const { version, key, members } of epochs) {
    const outsiders = [...told.keys()].filter((member) => !members.has(member));
    const name = outsiders.join();
    const found =
      known.get(name) ??
      closure(
        rules,
        outsiders.flatMap((member) => told.get(member) ?? []),
      );
    known.set(name, found);
    if (found.has(key)) return { version, outsiders };
  }
  return undefined;
}

/** The first epoch whose key a member cannot find out alone from what it was told and the traffic: the oracle sees what members see. */
export function firstGap({ told, rules, epochs }: History): { version: number; member: number } | undefined {
  for (const { version, key, members } of epochs) {
    for (const member of members) {
      if (!closure(rules, told.get(member) ?? []).has(key)) return { version, member };
    }
  }
  return undefined;
}

/** What a provider did. */
export interface Recording {
  readonly crypto: CryptoProvider;
  readonly rules: Rule[];
  /** Inputs and outputs of all derivations, in hexadecimal. */
  readonly derivations: Map<string, string>;
}

/** The real provider, and rules for every one-way function and every wrapping. @param keyLength octets into which outputs are cut */
export function recordingCrypto(keyLength: number): Recording {
  const rules: Rule[] = [];
  const derivations = new Map<string, string>();
  const crypto: CryptoProvider = {
    ...nodeCrypto,
    hmacOnce(name, key, ...parts) {
      const tag = nodeCrypto.hmacOnce(name, key, ...parts);
      const from = formatHex(key);
      derivations.set(`${from} ${formatHex(concatBytes(...parts))}`, formatHex(tag));
      for (let at = 0; at + keyLength <= tag.length; at += keyLength) {
        rules.push({ from: [from], to: formatHex(tag.subarray(at, at + keyLength)) });
      }
      return tag;
    },
    aesKeyWrapPadMany(keys, plaintexts, length, out) {
      for (let at = 0; at < keys.length; at += length) {
        rules.push({ from: [formatHex(keys.subarray(at, at + length))], to: formatHex(plaintexts.subarray(at, at + length)) });
      }
      nodeCrypto.aesKeyWrapPadMany(keys, plaintexts, length, out);
    },
  };
  return { crypto, rules, derivations };
}
