/** What a key server tells of a group: to a member in its GSA, to all in rekey messages (docs/protocol.md §14 to §16). */
import { WatchwordError } from "../bytes/index.js";
import type { Signer } from "../crypto/index.js";
import type { GroupPolicies, GroupPolicy, GsaContent, RekeyPolicy, RekeySealing } from "../gsa/index.js";
import type { Clock } from "../io/index.js";
import { type CredentialData, encodeNtp, type Identity, type SyncEntry } from "../mikey/index.js";
import { type GroupDefinition, groupPolicies } from "./definition.js";
import type { GroupState } from "./group-state.js";
import type { Member } from "./members.js";

/** Senders in a GSA, and octets of their names: what its size allows, however long names members choose. */
const MOST_SENDERS = 512;
const SENDER_OCTETS = 16_384;
/** What the length of a name in a sync extension can say (docs/protocol.md §16.6). */
const MOST_NAME_OCTETS = 255;

export interface GroupContentContext {
  /** What messages say the time by: it never goes back, or members would take them for old ones. */
  readonly told: Clock;
  /** Who the key server is. */
  readonly identity: Identity;
  /** Signs rekey messages; undefined where no group is signed. */
  readonly signer: Signer | undefined;
  /** The owner's statement for a group. */
  readonly credentialFor: (group: Uint8Array) => CredentialData | undefined;
  readonly certificates: readonly Uint8Array[];
}

/** The policies as they are for all. */
export function policiesOf(
  { signer }: GroupContentContext,
  definition: GroupDefinition,
  state: GroupState,
): GroupPolicies & { readonly group: GroupPolicy } {
  const signed = definition.rekey !== undefined && definition.rekey.signature !== "none";
  return groupPolicies(definition, {
    members: state.members.size,
    ...(signed && signer !== undefined ? { verificationKey: signer.publicKey.spki } : {}),
  });
}

/** The GSA of a member. */
export function gsaContent(
  context: GroupContentContext,
  definition: GroupDefinition,
  state: GroupState,
  member: Member,
): GsaContent {
  const { tree, dataKeys, constants, sequence } = state;
  const path = tree?.download(member.leaf);
  const keys = path !== undefined && path.path.length === 0 ? [] : dataKeys;
  const policies = policiesOf(context, definition, state);
  const credential = context.credentialFor(constants.group);
  return {
    constants,
    sequence: Math.max(1, sequence),
    gcks: context.identity,
    member: member.identity,
    policies: {
      ...policies,
      group: {
        ...policies.group,
        member: {
          number: member.number,
          role: member.role,
          ssrcs: member.ssrcs.map((ssrc, index) => ({ stream: index + 1, ssrc })),
          lifetime: definition.membershipLifetime,
        },
      },
      data: policies.data.map((data) => ({
        ...data,
        mkis: keys.filter(({ dataSa }) => dataSa === data.number).map(({ mki }) => mki),
      })),
    },
    time: encodeNtp(context.told.now()),
    senders: runningSenders(state, definition.visible.has("senders")),
    ...(credential === undefined ? {} : { credential }),
    ...(context.certificates.length === 0 ? {} : { certificates: context.certificates }),
    ...(path === undefined ? {} : { path }),
    dataKeys: keys,
  };
}

function runningSenders({ senders }: GroupState, areNamed: boolean): SyncEntry[] {
  const running: SyncEntry[] = [];
  let room = SENDER_OCTETS;
  for (const { ssrc, roc, seq, member } of senders.values()) {
    if (running.length === MOST_SENDERS) break;
    const identity = areNamed ? member?.identity.data : undefined;
    room -= identity?.length ?? 0;
    const told = identity !== undefined && identity.length <= MOST_NAME_OCTETS && room >= 0;
    running.push({ ssrc, running: { roc, seq }, gone: false, ...(told ? { identity } : {}) });
  }
  return running;
}

/** What seals a message to all under the KEK of now. @throws WatchwordError `gcks.no-rekey-sa` */
export function rekeySealing(
  context: GroupContentContext,
  definition: GroupDefinition,
  state: GroupState,
): RekeySealing & { readonly rekey: RekeyPolicy } {
  const { signer } = context;
  const { rekey } = policiesOf(context, definition, state);
  if (rekey === undefined) throw new WatchwordError("gcks.no-rekey-sa", "the group has no rekey SA");
  const { kekSpi: spi, tree } = state;
  if (spi === undefined || tree === undefined) throw new WatchwordError("gcks.no-rekey-sa", "the group has no KEK yet");
  return {
    constants: state.constants,
    rekey,
    kek: { spi, key: tree.groupKey() },
    ...(rekey.signature === "none" || signer === undefined ? {} : { signer }),
  };
}
