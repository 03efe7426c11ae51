/** The policy of a group as members see it (docs/protocol.md §14), and a member's minimum. */
import type { GkmaName } from "../gkma/index.js";
import { EncrAlg, GroupRole, MacAlg } from "../mikey/index.js";
import { protectsEverything, type SrtpPolicy, type SuiteName } from "../srtp/index.js";

/** What a member may do. */
export interface MemberRole {
  readonly send: boolean;
  readonly receive: boolean;
}

/** What a GSA says to one member alone. */
export interface MembershipTerms {
  readonly number: number;
  readonly role: MemberRole;
  /** The member's SSRC on each m= line, counted from 1. It sends under no other. */
  readonly ssrcs: readonly { readonly stream: number; readonly ssrc: number }[];
  /** Seconds from receipt after which the membership ends unless it is renewed. */
  readonly lifetime: number;
}

/** How an end of a membership is announced (docs/protocol.md §19). */
export type DeregistrationPolicy = "none" | "one-way" | "acknowledged";

/** The group as a whole (docs/protocol.md §14.1; RFC 4046 §6.2.2). What is optional is there where the owner lets members see it. */
export interface GroupPolicy {
  readonly group: Uint8Array;
  /** Present exactly in a GSA. */
  readonly member?: MembershipTerms;
  readonly access: {
    /** New keys when members join: backward access control. */
    readonly joins: boolean;
    /** New keys when members leave: forward access control. */
    readonly leaves: boolean;
    readonly joinsBatched: boolean;
    readonly leavesBatched: boolean;
  };
  readonly batchIntervalMs?: number;
  readonly deregistration: DeregistrationPolicy;
  readonly deregistrationSpreadMs?: number;
  /** Whether every member sends a first report. */
  readonly confirmation: boolean;
  /** Identity of the owner. */
  readonly owner?: string;
  readonly version?: number;
  readonly members?: number;
  /** Data types of the I_MESSAGEs by which members may register. */
  readonly registrationModes?: readonly number[];
  readonly title?: string;
}

/** How rekey messages are signed; `none` for groups of mutual trust. */
export type RekeySignature = "none" | "ed25519" | "ecdsa-p256-sha256";

/** Where resynchronisation is to be had, best first (docs/protocol.md §14.2). */
export type ResynchronisationMethod = "registration" | "fetch" | "posting" | "repair-server" | "negative-acknowledgement";

/** The rekey SA (docs/protocol.md §14.2; RFC 4046 §6.2.1). */
export interface RekeyPolicy {
  readonly algorithm: GkmaName;
  readonly algorithmVersion: number;
  readonly degree: number;
  /** Octets of the KEK and of the node keys. */
  readonly keyLength: 16 | 32;
  /** Octets of V: 16 with signatures, 32 without. */
  readonly macLength: 16 | 32;
  readonly signature: RekeySignature;
  /** SubjectPublicKeyInfo; absent exactly without signatures. */
  readonly verificationKey?: Uint8Array;
  /** URI of the multicast group of rekey messages. */
  readonly controlAddress?: string;
  /** URI for reports and resynchronisation, where it is another than the registration's. */
  readonly serverAddress?: string;
  /** Seconds from receipt. */
  readonly kekLifetime: number;
  /** 0: none. */
  readonly heartbeatMs: number;
  readonly activationDelayMs: number;
  readonly deactivationDelayMs: number;
  readonly retransmission: { readonly count: number; readonly firstMs: number };
  readonly resynchronisation: readonly ResynchronisationMethod[];
  readonly resynchronisationDelayMs?: number;
  /** Seconds between periodic rekeys. */
  readonly period?: number;
  readonly repairServers: readonly string[];
  /** Place in the tree; only in a GSA. */
  readonly tree?: { readonly largestId: number; readonly leaf: number };
}

/** A data SA (docs/protocol.md §14.3; RFC 4046 §6.3). */
export interface DataSaPolicy {
  /** 1 to 200. */
  readonly number: number;
  readonly srtp: SrtpPolicy;
  /** `shared`: the key is the TEK. `per-ssrc`: one TEK per SSRC is derived from it. */
  readonly arrangement: "shared" | "per-ssrc";
  /** Numbers of m= lines from 1; empty: all. */
  readonly streams: readonly number[];
  /** SSRCs; empty: every SSRC that no other data SA names. */
  readonly sources: readonly number[];
  /** URIs of where packets go. */
  readonly destinations: readonly string[];
  /** Seconds from receipt that a key lives. 0: the data SA ends. */
  readonly lifetime: number;
  /** MKIs of this SA's keys in the same message, the newest last. Empty in a GSA without its key, and in rekey messages. */
  readonly mkis: readonly number[];
}

/** Everything that policy payloads of one message say. In rekey messages each part is there where it changes. */
export interface GroupPolicies {
  readonly group?: GroupPolicy;
  readonly rekey?: RekeyPolicy;
  readonly data: readonly DataSaPolicy[];
}

const DAY = 86_400;
/** docs/protocol.md §21. */
export const GROUP_LIMITS = {
  groupOctets: 255,
  groupsPerRegistration: 16,
  dataSas: 200,
  keysInGsa: 512,
  nodeKeys: 64,
  syncEntries: 1024,
  rekeyPacketOctets: 1200,
  lifetime: { least: 60, most: 31 * DAY },
  heartbeatMs: { least: 1000, most: 3_600_000 },
  activationDelayMs: { least: 0, most: 60_000 },
  deactivationDelayMs: { least: 0, most: 600_000 },
  retransmissions: { least: 0, most: 10 },
  retransmissionMs: { least: 20, most: 10_000 },
  batchIntervalMs: { least: 0, most: 3_600_000 },
  delayMs: { least: 0, most: 600_000 },
  period: { least: 1, most: 31 * DAY },
} as const;

/** The time from the first to the last copy of a rekey message (docs/protocol.md §16.8), without the random part, rounded up for it. */
export function retransmissionSpanMs({ count, firstMs }: RekeyPolicy["retransmission"]): number {
  return Math.ceil(1.25 * firstMs * (2 ** count - 1));
}

/** Role bits of HELLO and of the policy. */
export function roleBits({ send, receive }: MemberRole): number {
  return (send ? GroupRole.SEND : 0) | (receive ? GroupRole.RECEIVE : 0);
}

/** The role that bits mean; undefined for bits that nobody defined, or none. */
export function roleOf(bits: number): MemberRole | undefined {
  if (bits === 0 || (bits & ~(GroupRole.SEND | GroupRole.RECEIVE)) !== 0) return undefined;
  return { send: (bits & GroupRole.SEND) !== 0, receive: (bits & GroupRole.RECEIVE) !== 0 };
}

/** Encr alg of KEMACs in rekey messages (docs/protocol.md §16.4). */
export function kekEncryptionOf({ keyLength }: Pick<RekeyPolicy, "keyLength">): number {
  return keyLength === 16 ? EncrAlg.AES_KWP_128 : EncrAlg.AES_KWP_256;
}

/** Auth alg of V in rekey messages (docs/protocol.md §16.2). */
export function macAlgOf({ macLength }: Pick<RekeyPolicy, "macLength">): number {
  return macLength === 16 ? MacAlg.HMAC_SHA_256_128 : MacAlg.HMAC_SHA_256_256;
}

/** What a member insists on (docs/protocol.md §14.4). */
export interface MinimumGroupPolicy {
  /** Acceptable suites. Default: all that encrypt and authenticate everything. */
  readonly suites?: readonly SuiteName[];
  /** Least octets of KEK and node keys. Default 16. */
  readonly keyLength?: 16 | 32;
  /** Rekey messages have to be signed. Default true: otherwise every member can pose as the key server. */
  readonly signed?: boolean;
  /** A credential by an owner that the member knows has to be there. Default false. */
  readonly credential?: boolean;
  /** Insist on new keys when members join, or leave. Default false. */
  readonly joins?: boolean;
  readonly leaves?: boolean;
  /** Longest lifetime of a KEK or data key, seconds. */
  readonly keyLifetime?: number;
  readonly deactivationDelayMs?: number;
}

/**
 * Why policies are below a member's minimum; undefined where they are not. A credential is checked elsewhere (`group-credential.ts`).
 */
export function belowMinimum({ group, rekey, data }: GroupPolicies, minimum: MinimumGroupPolicy): string | undefined {
  for (const { number, srtp, lifetime } of data) {
    const acceptable = minimum.suites === undefined ? true : minimum.suites.includes(srtp.suite);
    if (!acceptable || !protectsEverything(srtp)) return `data SA ${number} has ${srtp.suite}, which is not acceptable`;
    if (minimum.keyLifetime !== undefined && lifetime > minimum.keyLifetime)
      return `data SA ${number} keeps keys for ${lifetime} s`;
  }
  if (rekey !== undefined) {
    if (rekey.signature === "none" && minimum.signed !== false) return "rekey messages are not signed";
    if (rekey.keyLength < (minimum.keyLength ?? 16)) return `KEKs have ${rekey.keyLength} octets`;
    if (minimum.keyLifetime !== undefined && rekey.kekLifetime > minimum.keyLifetime) return `KEKs live ${rekey.kekLifetime} s`;
    if (minimum.deactivationDelayMs !== undefined && rekey.deactivationDelayMs > minimum.deactivationDelayMs)
      return `old keys live ${rekey.deactivationDelayMs} ms`;
  }
  if (group !== undefined) {
    if (minimum.joins === true && !group.access.joins) return "joins bring no new keys";
    if (minimum.leaves === true && !group.access.leaves) return "leaves bring no new keys";
  }
  return undefined;
}
