import { formatHex, Reader, utf8, utf8Text, WatchwordError, Writer } from "../bytes/index.js";
import type { Random } from "../io/index.js";
import { checkName } from "./checks.js";
import { NO_VERSION, type Rec, type Store, type Ver } from "./contracts.js";
import { StoreConflict } from "./errors.js";

/**
 * Who may not come back. Kept apart from the state of the group and, where there is a second store, in both: after a backup of one was
 * restored, the other still knows.
 */
export interface Expulsions {
  /** Resolves when it is durable everywhere. @param member 1 to 512 octets of UTF-8 */
  expel(group: string, member: string): Promise<void>;
  /** Takes an expulsion back. */
  readmit(group: string, member: string): Promise<void>;
  isExpelled(group: string, member: string): Promise<boolean>;
  expelled(group: string): Promise<ReadonlySet<string>>;
}

/** What was said last of a member. */
interface Change {
  readonly member: string;
  readonly expelled: boolean;
  /** Grows with every change of the group: of two, the greater one holds. */
  readonly count: number;
}

/** One group as one store has it. */
interface Copy {
  readonly store: Store;
  at: Ver;
  gseq: number;
  readonly changes: Map<string, Change>;
  sinceSnapshot: number;
}

/** Records of a log between two snapshots. */
const RECORDS = 256;
const FORMAT = 1;

/**
 * The expulsions of groups, in the log `.expelled/GROUP` of each store. What one store lacks and another has is written to it again.
 * @param stores the second one is best the witness's (`openWitnessedStore`): no backup of the first contains it
 */
export function createExpulsions(stores: readonly Store[], options: { readonly random: Random }): Expulsions {
  const groups = new Map<string, readonly Copy[]>();
  /** The step under way in each group. */
  const turns = new Map<string, Promise<unknown>>();

  function inTurn<T>(group: string, step: (log: string, copies: readonly Copy[]) => Promise<T>): Promise<T> {
    const log = `.expelled/${group}`;
    const turn = (turns.get(group) ?? Promise.resolve()).then(async () => {
      let copies = groups.get(group);
      if (copies === undefined) {
        copies = stores.map((store) => ({ store, at: NO_VERSION, gseq: 0, changes: new Map(), sinceSnapshot: 0 }));
        groups.set(group, copies);
      }
      return await step(log, copies);
    });
    turns.set(
      group,
      turn.catch(() => undefined),
    );
    return turn;
  }

  async function change(group: string, member: string, expelled: boolean): Promise<void> {
    checkName(member, "member");
    await inTurn(group, async (log, copies) => {
      const merged = await synchronize(log, copies);
      if ((merged.get(member)?.expelled ?? false) === expelled) return;
      const count = 1 + Math.max(...copies.map(({ gseq }) => gseq), ...[...merged.values()].map((known) => known.count));
      // The store that outlives the other comes first: what it knows is never lost.
      for (const copy of [...copies].reverse()) await write(log, copy, [{ member, expelled, count }]);
    });
  }

  /** Appends changes to one copy, over others who do the same. */
  async function write(log: string, copy: Copy, changes: readonly Change[]): Promise<void> {
    for (;;) {
      const gseq = 1 + Math.max(copy.gseq, ...changes.map(({ count }) => count - 1));
      const record = { gseq, id: formatHex(options.random.bytes(16)), data: encodeChanges(changes) };
      try {
        const ver = await copy.store.append(log, copy.at, record);
        apply(copy, ver, gseq, changes);
        break;
      } catch (error) {
        if (!(error instanceof StoreConflict)) throw error;
        await load(log, copy);
      }
    }
    if (copy.sinceSnapshot < RECORDS) return;
    copy.sinceSnapshot = 0;
    await copy.store.putSnapshot(log, copy.at, encodeChanges([...copy.changes.values()])).catch((error: unknown) => {
      if (!(error instanceof StoreConflict)) throw error;
    });
  }

  /** Brings every copy up to date and to the same content. */
  async function synchronize(log: string, copies: readonly Copy[]): Promise<ReadonlyMap<string, Change>> {
    for (const copy of copies) await load(log, copy);
    const merged = new Map<string, Change>();
    for (const { changes } of copies) {
      for (const known of changes.values()) if (isNewer(known, merged.get(known.member))) merged.set(known.member, known);
    }
    for (const copy of copies) {
      const lacking = [...merged.values()].filter((known) => isNewer(known, copy.changes.get(known.member)));
      if (lacking.length > 0) await write(log, copy, lacking);
    }
    return merged;
  }

  return {
    expel: (group, member) => change(group, member, true),
    readmit: (group, member) => change(group, member, false),
    async isExpelled(group, member) {
      checkName(member, "member");
      return await inTurn(group, async (log, copies) => (await synchronize(log, copies)).get(member)?.expelled ?? false);
    },
    async expelled(group) {
      return await inTurn(group, async (log, copies) => {
        const merged = await synchronize(log, copies);
        return new Set([...merged.values()].filter(({ expelled }) => expelled).map(({ member }) => member));
      });
    },
  };
}

/** Of two changes with one count, made by two controllers at once, the expulsion holds. */
function isNewer(change: Change, known: Change | undefined): boolean {
  if (known === undefined || change.count !== known.count) return change.count > (known?.count ?? 0);
  return change.expelled && !known.expelled;
}

function apply(copy: Copy, ver: Ver, gseq: number, changes: readonly Change[]): void {
  copy.at = ver;
  copy.gseq = gseq;
  copy.sinceSnapshot++;
  for (const change of changes) if (isNewer(change, copy.changes.get(change.member))) copy.changes.set(change.member, change);
}

/** Reads what has come to a copy, from its snapshot where the records before were dropped. */
async function load(log: string, copy: Copy): Promise<void> {
  const follow = async (): Promise<void> => {
    for await (const { ver, gseq, data } of copy.store.read(log, copy.at) as AsyncIterable<Rec>) {
      apply(copy, ver, gseq, decodeChanges(data));
    }
  };
  for (;;) {
    try {
      return await follow();
    } catch (error) {
      if (!(error instanceof WatchwordError) || error.code !== "store.dropped") throw error;
      const snapshot = await copy.store.getSnapshot(log);
      if (snapshot === null) throw error;
      apply(copy, snapshot.at, snapshot.gseq, decodeChanges(snapshot.data));
      copy.sinceSnapshot = 0;
    }
  }
}

/** Format (1), then for each change: expelled (1), count (8), member (2 + its octets). */
function encodeChanges(changes: readonly Change[]): Uint8Array {
  const writer = new Writer("expulsions");
  writer.u8("format", FORMAT);
  for (const { member, expelled, count } of changes) {
    writer.u8("expelled", expelled ? 1 : 0);
    writer.u32("count", Math.floor(count / 0x1_0000_0000));
    writer.u32("count", count % 0x1_0000_0000);
    writer.prefixed("member", 2, () => writer.bytes(utf8(member)));
  }
  return writer.finish();
}

/** @throws WatchwordError `store.corrupt` */
function decodeChanges(data: Uint8Array): Change[] {
  const changes: Change[] = [];
  try {
    const reader = new Reader(data, "expulsions");
    if (reader.u8("format") !== FORMAT) throw reader.error("store.corrupt", "format", "unknown");
    while (reader.remaining > 0) {
      const expelled = reader.u8("expelled") !== 0;
      const count = reader.u32("count") * 0x1_0000_0000 + reader.u32("count");
      const member = utf8Text(reader.bytes("member", reader.length("member", 2)));
      if (member === undefined) throw reader.error("store.corrupt", "member", "not text");
      changes.push({ member, expelled, count });
    }
  } catch (cause) {
    throw new WatchwordError("store.corrupt", "a record of expulsions cannot be read", { cause });
  }
  return changes;
}
