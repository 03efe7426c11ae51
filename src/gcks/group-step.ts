/** What waits to be done in a group, and the one step that it comes to (docs/protocol.md §16, §20.1). */
import { formatHex } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import type { Clock } from "../io/index.js";
import type { Reservations } from "../store/index.js";
import type { GroupDefinition } from "./definition.js";
import type { GroupState } from "./group-state.js";
import type { AdmittedMember, GroupStep, MemberKeys } from "./ledger.js";
import type { Report } from "./reports.js";

/** Why a membership ends; `replaced` by another registration of the same identity, perhaps in the same dialog or session. */
export type Departure = "left" | "removed" | "expelled" | "replaced";

/** What waits to be done, together with everything else that waits. */
export type Operation = (
  | { readonly kind: "admit"; readonly member: Omit<AdmittedMember, "ssrcs">; readonly streams: number }
  | { readonly kind: "bind"; readonly number: number; readonly keys: MemberKeys }
  | { readonly kind: "leave"; readonly numbers: readonly number[]; readonly reason: Departure }
  | ({ readonly kind: "report" } & Report)
  | { readonly kind: "lapse"; readonly number: number }
  | { readonly kind: "rekey"; readonly replace: boolean }
  | { readonly kind: "end"; readonly restart: boolean }
) & { readonly done: (number: number | undefined) => void; readonly failed: (error: unknown) => void };

/** An operation without its outcome, whatever its kind. */
export type Wanted = { [K in Operation["kind"]]: Omit<Extract<Operation, { kind: K }>, "done" | "failed"> }[Operation["kind"]];

/** What a step is planned with. */
export interface StepContext {
  readonly crypto: CryptoProvider;
  readonly clock: Clock;
  readonly reservations: Reservations;
}

/** A step, and what follows from it. */
export interface PlannedStep {
  readonly step: GroupStep;
  /** Of the rekey message; undefined where none is sent. */
  readonly sequence: number | undefined;
  /** Who leaves, of those who are members. */
  readonly leaving: ReadonlySet<number>;
  /** SSRCs of those who leave, as many as a message tells of. */
  readonly gone: readonly number[];
  /** What somebody knows who should not is used no longer than until the new keys are here (docs/protocol.md §16.5). */
  readonly immediate: boolean;
  /** Somebody joined or left for whom the next batch brings keys. */
  readonly batched: boolean;
}

/**
 * Plans what operations come to together, as the policy of the group has it. Numbers that it takes are reserved; nothing else is changed.
 * @throws (rejects) what the store throws
 */
export async function planStep(
  context: StepContext,
  definition: GroupDefinition,
  state: GroupState,
  operations: readonly Operation[],
): Promise<PlannedStep> {
  const admissions = operations.filter((operation) => operation.kind === "admit");
  const leaving = new Set(
    operations.flatMap((operation) =>
      operation.kind === "leave" ? operation.numbers.filter((number) => state.members.has(number)) : [],
    ),
  );
  const expelled = operations.some((operation) => operation.kind === "leave" && operation.reason === "expelled");
  const wanted = operations.filter((operation) => operation.kind === "rekey");
  const replace = wanted.some((operation) => operation.replace);
  const tree = state.tree !== undefined;
  // The first KEK cannot come with a batch: there is none before it that could authenticate the batch (docs/protocol.md §16.2).
  const joinsNow = admissions.length > 0 && (definition.joins !== "batched" || !state.hasKek);
  const leavesNow = leaving.size > 0 && (definition.leaves === "at-once" || expelled);
  const rekeys = wanted.length > 0 || joinsNow || leavesNow;
  const membership = admissions.length > 0 || leaving.size > 0 || state.departed > 0 || (state.tree?.pending ?? 0) > 0;
  // Who has left is locked out by whatever message takes its leaf away, the one of a join too (docs/protocol.md §16.4).
  const lockedOut = rekeys && definition.leaves !== "none" && (leaving.size > 0 || state.departed > 0);
  const newDataKeys =
    wanted.length > 0 ||
    leavesNow ||
    lockedOut ||
    (joinsNow && definition.joins !== "none") ||
    ((admissions.length > 0 || !tree) && state.dataKeys.length === 0);
  const { crypto, clock, reservations } = context;
  const admit: AdmittedMember[] = [];
  for (const { member, streams } of admissions)
    admit.push({ ...member, ssrcs: await assignSsrcs(reservations, definition, state, streams) });
  const sequence = tree && rekeys ? await reserveSequence(reservations, definition, state) : undefined;
  const dataKeys = newDataKeys && (rekeys || !tree) ? await reserveMkis(reservations, definition) : [];
  const step: GroupStep = {
    at: clock.now(),
    ...(admit.length === 0 ? {} : { admit }),
    ...(admit.length === 0 ? {} : { numbers: await reserveNumbers(reservations, definition, admit.length) }),
    ...(leaving.size === 0 ? {} : { leave: [...leaving] }),
    ...listed("bind", operations, (operation) =>
      operation.kind === "bind" ? [{ number: operation.number, keys: operation.keys }] : [],
    ),
    ...listed("confirm", operations, (operation) =>
      operation.kind === "report"
        ? [
            {
              number: operation.number,
              counter: operation.counter,
              ...(operation.address === undefined ? {} : { address: operation.address }),
            },
          ]
        : [],
    ),
    ...listed("senders", operations, (operation) => (operation.kind === "report" ? operation.senders : [])),
    ...listed("lapse", operations, (operation) => (operation.kind === "lapse" ? [operation.number] : [])),
    ...(sequence === undefined && !(tree && admit.length > 0) && dataKeys.length === 0
      ? {}
      : {
          rekey: {
            sequence: sequence ?? Math.max(1, state.sequence),
            seed: formatHex(crypto.randomBytes(32)),
            ...(tree && sequence === undefined ? { admissionOnly: true } : {}),
            ...(replace ? { replace: true } : {}),
            ...(sequence !== undefined && !replace && !membership ? { keepTree: true } : {}),
            dataKeys,
          },
        }),
  };
  return {
    step,
    sequence,
    leaving,
    gone: ssrcsGone(state, leaving),
    immediate: replace || (expelled && definition.expulsions === "at-once"),
    batched: !rekeys && tree && (admissions.length > 0 || leaving.size > 0),
  };
}

/** SSRCs that a message tells of: with keys of 256 bits no more fit beside what one of a million members needs. */
const MOST_GONE = 12;

/** Those that were heard come first. The others nobody may have a place for, and all are useless with the keys that are replaced. */
function ssrcsGone({ members, senders }: GroupState, leaving: ReadonlySet<number>): readonly number[] {
  const ssrcs = [...leaving].flatMap((number) => members.get(number)?.ssrcs ?? []);
  const isHeard = (ssrc: number): boolean => senders.has(ssrc);
  return [...ssrcs.filter(isHeard), ...ssrcs.filter((ssrc) => !isHeard(ssrc))].slice(0, MOST_GONE);
}

/** Above the last message's: where another controller has been at work, numbers that were set aside before may be below it. */
export async function reserveSequence(reservations: Reservations, { name }: GroupDefinition, state: GroupState): Promise<number> {
  for (;;) {
    const sequence = await reservations.reserve(name, "sequence");
    if (sequence > state.sequence) return sequence;
  }
}

async function assignSsrcs(
  reservations: Reservations,
  definition: GroupDefinition,
  state: GroupState,
  streams: number,
): Promise<number[]> {
  const count = Math.min(streams, definition.streams.length);
  const ssrcs: number[] = [];
  while (ssrcs.length < count) {
    const ssrc = state.ssrcOf(await reservations.reserve(definition.name, "ssrc"));
    if (ssrc !== 0) ssrcs.push(ssrc);
  }
  return ssrcs;
}

async function reserveMkis(
  reservations: Reservations,
  { name, data }: GroupDefinition,
): Promise<{ readonly dataSa: number; readonly mki: number }[]> {
  const first = await reservations.reserve(name, "mki", data.length);
  return data.map(({ number }, index) => ({ dataSa: number, mki: first + index }));
}

async function reserveNumbers(reservations: Reservations, { name }: GroupDefinition, count: number): Promise<number[]> {
  const first = await reservations.reserve(name, "member", count);
  return Array.from({ length: count }, (_, index) => first + index);
}

function listed<K extends "bind" | "confirm" | "senders" | "lapse">(
  name: K,
  operations: readonly Operation[],
  pick: (operation: Operation) => NonNullable<GroupStep[K]> | readonly [],
): Pick<GroupStep, K> | Record<string, never> {
  const items = operations.flatMap((operation) => pick(operation) as readonly unknown[]);
  return items.length === 0 ? {} : ({ [name]: items } as unknown as Pick<GroupStep, K>);
}
