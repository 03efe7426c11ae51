/** Leaving groups with a proof, and its acknowledgement (docs/protocol.md §19). */
import { formatHex } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import { octetsNumber } from "./group-keys.js";
import { type GroupRegistration, groupProofParty } from "./group-registration.js";
import {
  type HeldKey,
  ntp64,
  ntpOctets,
  openAcknowledgement,
  openProof,
  type ProofVerdict,
  sealAcknowledgement,
  sealProof,
} from "./proof.js";

/** A leave under way. */
export interface SealedLeave {
  readonly octets: Uint8Array;
  /** T as 64 bits of NTP: a later proof of this registration needs a greater one. */
  readonly t: bigint;
}

/**
 * A de-registration from groups.
 * @param keys one for each group that is left: its newest KEK, or data key where there is none (`heldGroupKey`)
 * @param nowNtp the clock, NTP, 8 octets
 * @param lastT the greatest T that this party sent or received under the registration; default that of the exchange
 */
export function sealLeave(
  crypto: CryptoProvider,
  registration: GroupRegistration,
  keys: readonly HeldKey[],
  nowNtp: Uint8Array,
  acknowledge: boolean,
  lastT: bigint = registration.t,
): SealedLeave {
  const now = ntp64(nowNtp);
  const t = now > lastT ? now : lastT + 1n;
  return { octets: sealProof(crypto, groupProofParty(registration), ntpOctets(t), keys, acknowledge), t };
}

/** The key that an SPI of a proof names (docs/protocol.md §19). */
export interface NamedGroupKey {
  /** CSB ID of the group. */
  readonly csbId: number;
  readonly kind: "kek" | "data";
  /** KEK SPI or MKI. */
  readonly spi: number;
}

/** Reads an SPI of a proof for groups; undefined where it is none. */
export function readProvenKey(spi: Uint8Array): NamedGroupKey | undefined {
  const kind = ([0, 1] as const).find((number) => number === spi[4]);
  if (spi.length !== 9 || kind === undefined) return undefined;
  return { csbId: octetsNumber(spi), kind: kind === 0 ? "kek" : "data", spi: octetsNumber(spi.subarray(5)) };
}

/** What a key server concludes from a de-registration. */
export type LeaveVerdict =
  | { readonly verdict: Exclude<ProofVerdict, "verified"> }
  | {
      readonly verdict: "verified";
      /** The groups that are left, by CSB ID. */
      readonly groups: readonly number[];
      /** To carry back, where it was wanted; the same again to the same octets for 32 s (docs/protocol.md §6.3). */
      readonly acknowledgement: Uint8Array | undefined;
    };

/**
 * Judges a de-registration from groups (docs/protocol.md §6.3, §19).
 * @param find `g` of a key that was delivered to this member, in a group in which it is; undefined for every other
 */
export function openLeave(
  crypto: CryptoProvider,
  registration: GroupRegistration,
  octets: Uint8Array | undefined,
  find: (key: NamedGroupKey) => Uint8Array | undefined,
  lastT: bigint = registration.t,
): LeaveVerdict {
  if (octets === undefined) return { verdict: "absent" };
  const party = groupProofParty(registration);
  const groups: number[] = [];
  const proof = openProof(crypto, party, octets, (spi) => {
    const named = readProvenKey(spi);
    // A group is left once (§19).
    if (named === undefined || groups.includes(named.csbId)) return undefined;
    groups.push(named.csbId);
    const g = find(named);
    return g === undefined ? undefined : { spi, g };
  });
  if (proof === undefined || ntp64(proof.t) <= lastT) return { verdict: "rejected" };
  return {
    verdict: "verified",
    groups,
    acknowledgement: proof.acknowledge ? sealAcknowledgement(crypto, party, octets, proof) : undefined,
  };
}

/** Judges the acknowledgement of a leave (docs/protocol.md §6.4). @param keys as for `sealLeave` */
export function openLeaveAcknowledgement(
  crypto: CryptoProvider,
  registration: GroupRegistration,
  request: Uint8Array,
  acknowledgement: Uint8Array | undefined,
  keys: readonly HeldKey[],
): ProofVerdict {
  const held = new Map(keys.map((key) => [formatHex(key.spi), key]));
  return openAcknowledgement(crypto, groupProofParty(registration), request, acknowledgement, (spi) => held.get(formatHex(spi)));
}
