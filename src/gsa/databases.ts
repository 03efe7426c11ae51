/**
 * The security association database and the security policy database of a host (RFC 3740 §4, RFC 4046 §3.4): what group key management
 * installs and the data security protocol looks up. No clocks: times are arguments, of any monotonic clock, in milliseconds.
 */
import { formatHex, WatchwordError } from "../bytes/index.js";
import { type Identity, identityKey } from "../mikey/index.js";
import { type DataKey, wipeDataKeys } from "./group-keys.js";
import type { DataSaPolicy, MemberRole } from "./group-policy.js";
import { type GroupRegistration, wipeGroupRegistration } from "./group-registration.js";
import type { RekeyReceiver } from "./group-rekey-receiver.js";

/** When a data key is in use. */
export interface InstalledDataKey extends DataKey {
  readonly installedAtMs: number;
  /** Senders use it from then on. */
  readonly activeAtMs: number;
  /** It opens packets until then. */
  readonly expiresAtMs: number;
}

/** Delays of a change of keys (docs/protocol.md §16.10). */
export interface ActivationDelays {
  readonly activationDelayMs: number;
  readonly deactivationDelayMs: number;
}

/** A data SA with its keys. */
export interface DataSa {
  readonly gcks: Identity;
  readonly group: Uint8Array;
  readonly policy: DataSaPolicy;
  /** The newest last. */
  readonly keys: readonly InstalledDataKey[];
}

/** What a packet tells of its data SA. */
export interface PacketFacts {
  readonly mki: number;
  readonly ssrc: number;
  /** Where they are known: number of the m= line, from 1 ... */
  readonly stream?: number;
  /** ... and where the packet was sent to, as the policy writes it (`rtp://239.0.0.2:5004`). */
  readonly destination?: string;
}

/** A data SA and the key of it that a packet names. */
export interface FoundDataKey {
  readonly sa: DataSa;
  readonly key: InstalledDataKey;
}

/** The security associations of a member: registration, rekey and data SAs. */
export interface SecurityAssociationDatabase {
  /** The registration SA with a key server for a group. */
  registration(gcks: Identity, group: Uint8Array): GroupRegistration | undefined;
  /** Wipes the one before where no other group has it. */
  putRegistration(group: Uint8Array, registration: GroupRegistration): void;
  /** The rekey SA of a group, whatever its SPI. */
  rekey(gcks: Identity, group: Uint8Array): RekeyReceiver | undefined;
  /** <GCKS, group, SPI> (RFC 4046 §6.2.6): undefined where the KEK in force has another SPI. */
  rekeyBySpi(gcks: Identity, group: Uint8Array, spi: number): RekeyReceiver | undefined;
  /** The rekey SAs that a message may be for: two key servers may have drawn one CSB ID (docs/protocol.md §13). */
  rekeyByCsbId(csbId: number): readonly RekeyReceiver[];
  putRekey(rekey: RekeyReceiver): void;
  /** All data SAs of a group, by ascending number. */
  dataSas(gcks: Identity, group: Uint8Array): readonly DataSa[];
  /** Adds a data SA, or gives it another policy; its keys stay. */
  putDataSa(gcks: Identity, group: Uint8Array, policy: DataSaPolicy): void;
  /**
   * Installs a data key: it opens packets at once, senders switch after the activation delay, or at once where it is the first; older keys
   * end after the deactivation delay (docs/protocol.md §16.10). A key that is there already stays as it is.
   * @throws WatchwordError `gsa.no-data-sa`
   */
  installDataKey(gcks: Identity, group: Uint8Array, key: DataKey, nowMs: number, delays: ActivationDelays): InstalledDataKey;
  /** The data SA and key of a received packet, by MKI and SSRC and the other facts; undefined where there is none, or it has expired. */
  findDataKey(facts: PacketFacts, nowMs: number): FoundDataKey | undefined;
  /** The key under which an SSRC sends now. */
  sendingKey(gcks: Identity, group: Uint8Array, facts: Omit<PacketFacts, "mki">, nowMs: number): FoundDataKey | undefined;
  /** Removes and wipes keys that have expired, and data SAs that have ended. @returns the removed keys' data SA numbers and MKIs */
  expire(nowMs: number): readonly { readonly group: Uint8Array; readonly dataSa: number; readonly mki: number }[];
  /** Removes and wipes everything of a group. */
  removeGroup(gcks: Identity, group: Uint8Array): void;
}

export function createSecurityAssociationDatabase(): SecurityAssociationDatabase {
  return new Associations();
}

interface MutableDataSa extends DataSa {
  policy: DataSaPolicy;
  keys: InstalledDataKey[];
}

class Associations implements SecurityAssociationDatabase {
  readonly #registrations = new Map<string, GroupRegistration>();
  readonly #rekeys = new Map<string, RekeyReceiver>();
  readonly #dataSas = new Map<string, MutableDataSa[]>();
  /** Data SAs by the MKIs of their keys: groups count MKIs each for itself, so several may have one. */
  readonly #byMki = new Map<number, MutableDataSa[]>();

  registration(gcks: Identity, group: Uint8Array): GroupRegistration | undefined {
    return this.#registrations.get(nameOf(gcks, group));
  }

  putRegistration(group: Uint8Array, registration: GroupRegistration): void {
    const name = nameOf(registration.gcks, group);
    const before = this.#registrations.get(name);
    this.#registrations.set(name, registration);
    this.#wipeUnused(before);
  }

  rekey(gcks: Identity, group: Uint8Array): RekeyReceiver | undefined {
    return this.#rekeys.get(nameOf(gcks, group));
  }

  rekeyBySpi(gcks: Identity, group: Uint8Array, spi: number): RekeyReceiver | undefined {
    const rekey = this.rekey(gcks, group);
    return rekey?.kekSpi === spi ? rekey : undefined;
  }

  rekeyByCsbId(csbId: number): readonly RekeyReceiver[] {
    return [...this.#rekeys.values()].filter(({ constants }) => constants.csbId === csbId);
  }

  putRekey(rekey: RekeyReceiver): void {
    this.#rekeys.set(nameOf(rekey.gcks, rekey.constants.group), rekey);
  }

  dataSas(gcks: Identity, group: Uint8Array): readonly DataSa[] {
    return this.#dataSas.get(nameOf(gcks, group)) ?? [];
  }

  putDataSa(gcks: Identity, group: Uint8Array, policy: DataSaPolicy): void {
    const name = nameOf(gcks, group);
    const sas = this.#dataSas.get(name) ?? [];
    const known = sas.find((sa) => sa.policy.number === policy.number);
    if (known === undefined) sas.push({ gcks, group: group.slice(), policy, keys: [] });
    else known.policy = policy;
    sas.sort((a, b) => a.policy.number - b.policy.number);
    this.#dataSas.set(name, sas);
  }

  installDataKey(gcks: Identity, group: Uint8Array, key: DataKey, nowMs: number, delays: ActivationDelays): InstalledDataKey {
    const sa = this.#dataSas.get(nameOf(gcks, group))?.find(({ policy }) => policy.number === key.dataSa);
    if (sa === undefined) throw new WatchwordError("gsa.no-data-sa", `the group has no data SA ${key.dataSa}`);
    const known = sa.keys.find(({ mki }) => mki === key.mki);
    if (known !== undefined) return known;
    const installed: InstalledDataKey = {
      ...key,
      installedAtMs: nowMs,
      activeAtMs: sa.keys.length === 0 ? nowMs : nowMs + delays.activationDelayMs,
      expiresAtMs: nowMs + 1000 * sa.policy.lifetime,
    };
    const ends = nowMs + delays.deactivationDelayMs;
    sa.keys = [...sa.keys.map((old) => (old.expiresAtMs > ends ? { ...old, expiresAtMs: ends } : old)), installed];
    this.#byMki.set(key.mki, [...(this.#byMki.get(key.mki) ?? []), sa]);
    return installed;
  }

  findDataKey(facts: PacketFacts, nowMs: number): FoundDataKey | undefined {
    for (const sa of this.#byMki.get(facts.mki) ?? []) {
      const policies = this.dataSas(sa.gcks, sa.group).map(({ policy }) => policy);
      if (selectDataSa(policies, facts)?.number !== sa.policy.number) continue;
      const key = sa.keys.find(({ mki, expiresAtMs }) => mki === facts.mki && expiresAtMs > nowMs);
      if (key !== undefined) return { sa, key };
    }
    return undefined;
  }

  sendingKey(gcks: Identity, group: Uint8Array, facts: Omit<PacketFacts, "mki">, nowMs: number): FoundDataKey | undefined {
    const sas = this.#dataSas.get(nameOf(gcks, group)) ?? [];
    const number = selectDataSa(
      sas.map(({ policy }) => policy),
      facts,
    )?.number;
    const sa = sas.find(({ policy }) => policy.number === number);
    const key = sa?.keys.findLast(({ activeAtMs, expiresAtMs }) => activeAtMs <= nowMs && expiresAtMs > nowMs);
    return sa === undefined || key === undefined ? undefined : { sa, key };
  }

  expire(nowMs: number): readonly { readonly group: Uint8Array; readonly dataSa: number; readonly mki: number }[] {
    const expired: { group: Uint8Array; dataSa: number; mki: number }[] = [];
    for (const [name, sas] of this.#dataSas) {
      for (const sa of sas) {
        const gone = sa.keys.filter(({ expiresAtMs }) => expiresAtMs <= nowMs);
        expired.push(...gone.map(({ dataSa, mki }) => ({ group: sa.group, dataSa, mki })));
        this.#forget(sa, gone);
      }
      // A data SA of lifetime 0 has ended (§14.3), and goes with its last key.
      const left = sas.filter(({ policy, keys }) => policy.lifetime > 0 || keys.length > 0);
      if (left.length < sas.length) this.#dataSas.set(name, left);
    }
    return expired;
  }

  removeGroup(gcks: Identity, group: Uint8Array): void {
    const name = nameOf(gcks, group);
    for (const sa of this.#dataSas.get(name) ?? []) this.#forget(sa, sa.keys);
    this.#dataSas.delete(name);
    this.#rekeys.get(name)?.wipe();
    this.#rekeys.delete(name);
    const registration = this.#registrations.get(name);
    this.#registrations.delete(name);
    this.#wipeUnused(registration);
  }

  /** One registration may serve several groups. */
  #wipeUnused(registration: GroupRegistration | undefined): void {
    if (registration !== undefined && ![...this.#registrations.values()].includes(registration))
      wipeGroupRegistration(registration);
  }

  #forget(sa: MutableDataSa, keys: readonly InstalledDataKey[]): void {
    wipeDataKeys(keys);
    sa.keys = sa.keys.filter((key) => !keys.includes(key));
    for (const { mki } of keys) {
      const others = (this.#byMki.get(mki) ?? []).filter((other) => other !== sa);
      if (others.length === 0) this.#byMki.delete(mki);
      else this.#byMki.set(mki, others);
    }
  }
}

function nameOf(gcks: Identity, group: Uint8Array): string {
  return `${identityKey(gcks)}/${formatHex(group)}`;
}

/** A packet belongs to the row that names its SSRC, otherwise to the row that names none (docs/protocol.md §11.2). */
function selectDataSa(policies: readonly DataSaPolicy[], facts: Omit<PacketFacts, "mki">): DataSaPolicy | undefined {
  const { ssrc, stream, destination } = facts;
  const fits = policies.filter(
    ({ streams, destinations }) =>
      (stream === undefined || streams.length === 0 || streams.includes(stream)) &&
      (destination === undefined || destinations.length === 0 || destinations.includes(destination)),
  );
  return fits.find(({ sources }) => sources.includes(ssrc)) ?? fits.find(({ sources }) => sources.length === 0);
}

/** What a packet is asked by. */
export interface PolicyFacts extends Omit<PacketFacts, "mki"> {
  readonly direction: "in" | "out";
  /** RTCP, which receivers send too. Default false. */
  readonly rtcp?: boolean;
}

/** What is to be done with a packet. */
export type PolicyDecision =
  | { readonly action: "protect"; readonly gcks: Identity; readonly group: Uint8Array; readonly dataSa: DataSaPolicy }
  | { readonly action: "discard" };

/** The compiled policies of the groups that a member is in. What no policy protects is discarded. */
export interface SecurityPolicyDatabase {
  /** Replaces the policy of a group. @param ownSsrcs under which this member sends; it sends under no other (docs/protocol.md §15.5) */
  putGroup(
    gcks: Identity,
    group: Uint8Array,
    dataSas: readonly DataSaPolicy[],
    role: MemberRole,
    ownSsrcs: readonly number[],
  ): void;
  /** Packets of these SSRCs are discarded from now on: their senders have left or were expelled (docs/protocol.md §16.6). */
  discard(gcks: Identity, group: Uint8Array, ssrcs: readonly number[]): void;
  /** The first group whose policy protects the packet decides. */
  decide(facts: PolicyFacts): PolicyDecision;
  /** Decides by the policy of one group, for packets of which the group is known. */
  within(gcks: Identity, group: Uint8Array): (facts: PolicyFacts) => PolicyDecision;
  removeGroup(gcks: Identity, group: Uint8Array): void;
}

interface CompiledPolicy {
  readonly gcks: Identity;
  readonly group: Uint8Array;
  readonly dataSas: readonly DataSaPolicy[];
  readonly role: MemberRole;
  readonly ownSsrcs: ReadonlySet<number>;
  readonly gone: Set<number>;
}

const DISCARD: PolicyDecision = { action: "discard" };
/** SSRCs that are discarded, the newest ones. */
const MOST_GONE = 4096;

export function createSecurityPolicyDatabase(): SecurityPolicyDatabase {
  const groups = new Map<string, CompiledPolicy>();
  const allows = ({ role, ownSsrcs, gone }: CompiledPolicy, { direction, ssrc, rtcp = false }: PolicyFacts): boolean =>
    direction === "out" ? ownSsrcs.has(ssrc) && (role.send || rtcp) : (role.receive || rtcp) && !gone.has(ssrc);
  const decideBy = (policy: CompiledPolicy, facts: PolicyFacts): PolicyDecision | undefined => {
    const dataSa = selectDataSa(policy.dataSas, facts);
    if (dataSa === undefined || !allows(policy, facts)) return undefined;
    return { action: "protect", gcks: policy.gcks, group: policy.group, dataSa };
  };
  return {
    putGroup(gcks, group, dataSas, role, ownSsrcs) {
      const name = nameOf(gcks, group);
      const gone = groups.get(name)?.gone ?? new Set<number>();
      groups.set(name, { gcks, group: group.slice(), dataSas, role, ownSsrcs: new Set(ownSsrcs), gone });
    },
    discard(gcks, group, ssrcs) {
      const policy = groups.get(nameOf(gcks, group));
      if (policy === undefined) return;
      for (const ssrc of ssrcs) policy.gone.add(ssrc);
      // Those of long ago have no key any more.
      for (const ssrc of policy.gone) {
        if (policy.gone.size <= MOST_GONE) break;
        policy.gone.delete(ssrc);
      }
    },
    decide(facts) {
      for (const policy of groups.values()) {
        const decision = decideBy(policy, facts);
        if (decision !== undefined) return decision;
      }
      return DISCARD;
    },
    within(gcks, group) {
      const name = nameOf(gcks, group);
      return (facts) => {
        const policy = groups.get(name);
        return (policy === undefined ? undefined : decideBy(policy, facts)) ?? DISCARD;
      };
    },
    removeGroup(gcks, group) {
      groups.delete(nameOf(gcks, group));
    },
  };
}
