/** What of a report a restart needs (docs/protocol.md §18, §24): every other one costs no write. */
import type { ReceivedReport } from "../gsa/index.js";
import type { Endpoint } from "../io/index.js";
import type { GroupDefinition } from "./definition.js";
import type { GroupState } from "./group-state.js";
import type { SenderPosition } from "./ledger.js";
import type { Member } from "./members.js";

/** Reports of a member, one after the other, that may go by without a record: so many may be accepted once more after a restart. */
export const MOST_UNWRITTEN = 16;
/** Share of the membership lifetime: what comes later after the one before is written. With `MOST_UNWRITTEN` it bounds how much older memberships are after a restart. */
const UNWRITTEN_SHARE = 1 / 64;

/** A report that is good, as far as it changes something. */
export interface Report {
  readonly number: number;
  readonly counter: number;
  /** By UDP. */
  readonly address: Endpoint | undefined;
  readonly senders: readonly SenderPosition[];
}

/** Who only receives reports no position: the list of senders in a GSA is finite. */
export function sendersIn({ streams }: ReceivedReport, { role }: Member): readonly SenderPosition[] {
  return role.send ? streams.flatMap(({ ssrc, running }) => (running === undefined ? [] : [{ ssrc, ...running }])) : [];
}

/** Whether a report by UDP came from where the member is known to be. */
export function isWhereKnown({ addresses }: GroupState, number: number, from: Endpoint): boolean {
  const known = addresses.get(number);
  return known !== undefined && known.host === from.host && known.port === from.port;
}

/** Whether a report has to be written before it counts. @param now by the clock of the group */
export function needsRecord(
  { membershipLifetime }: GroupDefinition,
  state: GroupState,
  member: Member,
  report: Report,
  now: number,
): boolean {
  const { number, counter, address, senders } = report;
  return (
    member.state !== "confirmed" ||
    counter - member.writtenCounter >= MOST_UNWRITTEN ||
    now - member.renewedAt >= 1000 * membershipLifetime * UNWRITTEN_SHARE ||
    (address !== undefined && !isWhereKnown(state, number, address)) ||
    // Within a rollover period late joiners find the place by themselves.
    senders.some(({ ssrc, roc }) => state.senders.get(ssrc)?.roc !== roc)
  );
}
