/** What the store has of one group: a snapshot and the records behind it (docs/protocol.md §24). */
import { formatHex, WatchwordError, wipe } from "../bytes/index.js";
import { type Clock, createSteadiedClock } from "../io/index.js";
import { NO_VERSION, type Ver } from "../store/index.js";
import type { GroupDefinition } from "./definition.js";
import { GroupParts, type GroupPartsContext } from "./group-parts.js";
import { GroupState } from "./group-state.js";
import { decodeRecord } from "./ledger.js";

/** Records between two snapshots, at least. */
const RECORDS = 256;
/** A snapshot is made once the records behind the last one have this share of its octets, or after this time: a large group's is not written all the time. */
const SNAPSHOT_SHARE = 8;
const SNAPSHOT_MS = 3_600_000;
/** How far the wall clock may be set until what was written before has to be written anew, by the clock of now. */
const JUMP_MS = 10_000;
/** Attempts to append what may be appended already. */
const ATTEMPTS = 3;

export interface GroupLogContext extends GroupPartsContext {
  readonly clock: Clock;
  /** Monotonic. */
  readonly steady: Clock;
}

export class GroupLog {
  readonly #context: GroupLogContext;
  readonly #definition: GroupDefinition;
  readonly #name: string;
  readonly #parts: GroupParts;
  #ver = NO_VERSION as Ver;
  #gseq = 0;
  /** Since the last snapshot: records, and their octets. */
  #records = 0;
  #octets = 0;
  /** Of the last snapshot. */
  #snapshotOctets = 0;
  #snapshotAt: number;
  /** What the time of the state goes by since it was loaded. */
  #time: Clock;
  /** By how much the wall clock was ahead of that at the last snapshot. */
  #ahead = 0;
  #inDoubt = false;

  constructor(context: GroupLogContext, definition: GroupDefinition) {
    this.#context = context;
    this.#definition = definition;
    this.#name = `group/${definition.name}`;
    this.#parts = new GroupParts(context, definition.name);
    this.#snapshotAt = context.steady.now();
    this.#time = createSteadiedClock(context.clock, context.steady);
  }

  /** The time by which everything in the state lasts: the wall clock's when it was loaded, and steady since. Records have the wall clock's. */
  get time(): Clock {
    return this.#time;
  }

  /** By how much the wall clock is ahead of `time`, because it was set. */
  get ahead(): number {
    return this.#context.clock.now() - this.#time.now();
  }

  /** Whether what was appended last is perhaps not what is in the store: `load` tells. */
  get inDoubt(): boolean {
    return this.#inDoubt;
  }

  /**
   * What the store has of the group, and the last rekey packets; undefined where it has nothing.
   * @throws WatchwordError `gcks.ledger`, and what the store throws
   */
  async load(): Promise<{ state: GroupState; packets: readonly Uint8Array[] } | undefined> {
    const { store, crypto } = this.#context;
    const snapshot = await store.getSnapshot(this.#name);
    let state: GroupState | undefined;
    let ver = NO_VERSION;
    let gseq = 0;
    let packets: readonly Uint8Array[] = [];
    if (snapshot !== null) {
      const data = await this.#parts.get(snapshot.data);
      state = GroupState.restore(crypto, this.#definition, data);
      this.#snapshotOctets = data.length;
      ver = snapshot.at;
      gseq = snapshot.gseq;
    }
    for await (const record of store.read(this.#name, ver)) {
      const content = decodeRecord(await this.#parts.get(record.data));
      if (content.kind === "birth") {
        state?.wipe();
        state = new GroupState(crypto, this.#definition, content.birth);
      } else if (state === undefined) throw new WatchwordError("gcks.ledger", "a step of a group that was never made");
      else state.prepare(content.step).commit();
      if (content.packets.length > 0) packets = content.packets;
      ver = record.ver;
      gseq = record.gseq;
    }
    if (state === undefined) return undefined;
    this.#time = createSteadiedClock(this.#context.clock, this.#context.steady);
    this.#ahead = 0;
    // A clock that was set back since prolongs nothing.
    state.restored(this.#time.now());
    this.#ver = ver;
    this.#gseq = gseq;
    this.#inDoubt = false;
    return { state, packets };
  }

  /** Makes a record durable. @throws WatchwordError `gcks.unavailable` */
  async append(data: Uint8Array): Promise<void> {
    const { store, crypto } = this.#context;
    const kept = await this.#parts.put(data).catch((error: unknown) => {
      throw unavailable(error);
    });
    const record = { gseq: this.#gseq + 1, id: formatHex(crypto.randomBytes(16)), data: kept };
    for (let attempt = 1; ; attempt++) {
      try {
        this.#ver = await store.append(this.#name, this.#ver, record);
        this.#gseq = record.gseq;
        this.#records++;
        this.#octets += data.length;
        return;
      } catch (error) {
        // Nobody knows whether it happened: the same attempt again tells, and happens once.
        const code = error instanceof WatchwordError ? error.code : "";
        if ((code === "store.ambiguous" || code === "store.unavailable") && attempt < ATTEMPTS) continue;
        // What was or was not written cannot be told any more, or another controller writes: go on from the store, not from memory.
        this.#inDoubt = code !== "store.unavailable";
        throw unavailable(error);
      }
    }
  }

  /** The group began again: the last snapshot is of another one. */
  beginAgain(): void {
    this.#snapshotOctets = 0;
  }

  /** Puts a snapshot in the place of the records, where enough have come. */
  async snapshotIfDue(state: GroupState, pause: () => Promise<void>): Promise<void> {
    const { steady, store } = this.#context;
    const { ahead } = this;
    const isWorth = SNAPSHOT_SHARE * this.#octets >= this.#snapshotOctets || steady.now() - this.#snapshotAt >= SNAPSHOT_MS;
    const wasSet = Math.abs(ahead - this.#ahead) > JUMP_MS;
    if ((this.#records < RECORDS || !isWorth) && !wasSet) return;
    // Where it fails, records stay where they are, and the next one is made when it is due.
    this.#records = 0;
    this.#octets = 0;
    this.#snapshotAt = steady.now();
    this.#ahead = ahead;
    const snapshot = await state.snapshot(pause, ahead);
    this.#snapshotOctets = snapshot.length;
    // Records below it go, and with them the seeds of past epochs.
    await this.#parts.supersede(snapshot, (kept) => store.putSnapshot(this.#name, this.#ver, kept)).catch(() => undefined);
    wipe(snapshot);
  }
}

/** The group cannot be changed now. */
export function unavailable(cause: unknown): WatchwordError {
  return new WatchwordError("gcks.unavailable", "the group cannot be changed now", cause === undefined ? undefined : { cause });
}
