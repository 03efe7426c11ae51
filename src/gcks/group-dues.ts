/** What is due in a group when (docs/protocol.md §16.1, §20.1): new keys, and the end of memberships. */
import type { GroupDefinition } from "./definition.js";
import type { GroupState } from "./group-state.js";
import type { Member } from "./members.js";

/** Share of a lifetime after which new keys are made. */
const RENEW_AT = 0.8;

/** When keys have to be made, by the clock of the group (`GroupLog.time`). It is counted from when those of now were: neither a restart nor a rekey that leaves some of them puts it off. */
export function keysDueAt({ rekey, data }: GroupDefinition, { dataKeysAt, treeAt }: GroupState): number {
  const lifetimes = data.map(({ lifetime }) => lifetime).filter((lifetime) => lifetime > 0);
  const period = Math.min(rekey?.period ?? Number.POSITIVE_INFINITY, RENEW_AT * Math.min(...lifetimes));
  return Math.min(
    dataKeysAt + 1000 * period,
    rekey === undefined ? Number.POSITIVE_INFINITY : treeAt + 1000 * RENEW_AT * rekey.kekLifetime,
  );
}

/** Whether the keys of the tree have to be replaced before the next periodic rekey. */
export function isKekOld({ rekey }: GroupDefinition, { treeAt }: GroupState, now: number): boolean {
  return rekey !== undefined && now - treeAt + 1000 * (rekey.period ?? 0) >= 1000 * RENEW_AT * rekey.kekLifetime;
}

/** Whether a member has yet to confirm that it got its keys. */
function isUnconfirmed({ confirmation }: GroupDefinition, { state, isBound, role }: Member): boolean {
  return state === "provisional" && (!isBound || confirmation || role.send);
}

/** Members that did not confirm, or were not heard of for their lifetime (§20.1), and when to look again. */
export function overdueMembers(
  definition: GroupDefinition,
  { members }: GroupState,
  now: number,
): { readonly overdue: readonly number[]; readonly nextDue: number } {
  const { confirmationMs, membershipLifetime } = definition;
  const overdue: number[] = [];
  let next = Number.POSITIVE_INFINITY;
  for (const member of members) {
    const due = Math.min(
      isUnconfirmed(definition, member) ? member.admittedAt + confirmationMs : Number.POSITIVE_INFINITY,
      member.renewedAt + 1000 * membershipLifetime,
    );
    if (now > due) overdue.push(member.number);
    else next = Math.min(next, due);
  }
  // Whoever is admitted from now on is due later than all others that confirm, and what renews a membership puts it off.
  return { overdue, nextDue: Math.min(next, now + Math.min(confirmationMs, 1000 * membershipLifetime)) };
}

/** Memberships in whose place newer ones of the same identity are. What was perhaps never answered replaces nothing. */
export function replacedMembers(
  definition: GroupDefinition,
  { members }: GroupState,
): {
  readonly replaced: readonly number[] /** Whether identities have more memberships than they may have. */;
  readonly crowded: boolean;
} {
  const most = definition.membershipsPerIdentity;
  const crowds = [...members.several()].filter((several) => several.length > most);
  const replaced = crowds.flatMap((several) => {
    let standing = 0;
    return several
      .toReversed()
      .filter((member) => (isUnconfirmed(definition, member) ? standing >= most : standing++ >= most))
      .map(({ number }) => number);
  });
  return { replaced, crowded: crowds.length > 0 };
}
