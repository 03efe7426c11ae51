import { equalBytes, WatchwordError } from "../bytes/index.js";
import { NO_VERSION, type Rec, type Rekey, type RekeyBus, type Store, type Ver } from "./contracts.js";
import { StoreConflict } from "./errors.js";

export interface RekeyBusOptions {
  /** Messages that are kept per group. Default 256. */
  readonly keep?: number;
  /** Told when a subscription ends before it was ended: the store was closed or failed. */
  readonly onError?: (group: string, error: unknown) => void;
}

/** Where a message stands. */
interface Place {
  readonly rseq: number;
  readonly ver: Ver;
  readonly prev: Ver;
}

/** Groups whose places are held ready. */
const MOST_GROUPS = 1024;

/** The rekey log of each group, in the log `.rekey/GROUP`, with the rekey sequence number as `gseq`. */
export function createRekeyBus(store: Store, options: RekeyBusOptions = {}): RekeyBus {
  const { keep = 256, onError = () => {} } = options;
  const index = new Map<string, readonly Place[]>();

  /** The places of the messages that are kept, brought up to date. */
  async function places(log: string): Promise<readonly Place[]> {
    const known = await untilKept(async () => {
      // Its own copy: others may be doing the same.
      const own = [...(index.get(log) ?? [])];
      const from = own.at(-1)?.ver ?? (await beginning(log));
      for await (const { gseq, ver, prev } of store.read(log, from)) own.push({ rseq: gseq, ver, prev });
      return own;
    }, log);
    remember(log, known);
    return known;
  }

  /** Before the first record that is kept, which is that of the snapshot. */
  async function beginning(log: string): Promise<Ver> {
    const snapshot = await store.getSnapshot(log);
    return snapshot === null ? NO_VERSION : snapshot.at - 1n;
  }

  /** Tries again where the records were dropped meanwhile. */
  async function untilKept<T>(step: () => Promise<T>, log: string): Promise<T> {
    for (;;) {
      try {
        return await step();
      } catch (error) {
        if (!isDropped(error)) throw error;
        index.delete(log);
      }
    }
  }

  function remember(log: string, known: readonly Place[]): void {
    index.delete(log);
    if (index.size >= MOST_GROUPS) index.delete(index.keys().next().value as string);
    index.set(log, known);
  }

  async function recordAt(log: string, { prev, ver }: Place): Promise<Rec | undefined> {
    for await (const record of store.read(log, prev, 1)) if (record.ver === ver) return record;
    return undefined;
  }

  async function trim(log: string, known: readonly Place[]): Promise<void> {
    // Not with every message: those beyond `keep` go together.
    if (known.length < keep + Math.max(1, keep >> 2)) return;
    const oldest = known[known.length - keep] as Place;
    try {
      await store.putSnapshot(log, oldest.ver, new Uint8Array(0));
    } catch (error) {
      if (!(error instanceof StoreConflict)) throw error;
    }
    remember(log, known.slice(-keep));
  }

  return {
    async publish(group, rseq, message) {
      const log = logOf(group);
      for (;;) {
        const known = await places(log);
        const head = known.at(-1);
        if (head !== undefined && rseq <= head.rseq) {
          return await untilKept(async () => checkPublished(log, rseq, message, await places(log)), log);
        }
        try {
          const prev = head?.ver ?? NO_VERSION;
          const ver = await store.append(log, prev, { gseq: rseq, id: `${rseq}`, data: message });
          const after = [...known, { rseq, ver, prev }];
          remember(log, after);
          return await trim(log, after);
        } catch (error) {
          // Another controller projects the same change.
          if (!(error instanceof StoreConflict)) throw error;
        }
      }
    },

    async readFrom(group, rseq, limit) {
      const log = logOf(group);
      return await untilKept(async () => {
        const first = (await places(log)).find((place) => place.rseq >= rseq);
        const messages: Rekey[] = [];
        if (first === undefined || limit < 1) return messages;
        for await (const { gseq, data } of store.read(log, first.prev, limit)) messages.push({ rseq: gseq, message: data });
        return messages;
      }, log);
    },

    subscribe(group, callback) {
      const abort = new AbortController();
      const log = logOf(group);
      const follow = async (): Promise<void> => {
        let from = (await store.head(log))?.ver ?? NO_VERSION;
        while (!abort.signal.aborted) {
          try {
            for await (const { gseq, data } of store.watch({ group: log }, from, abort.signal))
              callback({ rseq: gseq, message: data });
          } catch (error) {
            // Too slow for what is kept: a gap, as any other.
            if (!isDropped(error)) throw error;
            from = await beginning(log);
          }
        }
      };
      follow().catch((error: unknown) => {
        if (!abort.signal.aborted) onError(group, error);
      });
      return () => abort.abort();
    },
  };

  /** That the message which went out under the number is this one. One that is no longer kept is taken at its word. */
  async function checkPublished(log: string, rseq: number, message: Uint8Array, known: readonly Place[]): Promise<void> {
    const head = (known.at(-1) as Place).ver;
    const place = known.find((one) => one.rseq === rseq);
    if (place === undefined) {
      const oldest = known[0] as Place;
      if (rseq < oldest.rseq && oldest.prev !== NO_VERSION) return;
      throw new WatchwordError("store.sequence", `a message after ${rseq} was published, and ${rseq} never was`);
    }
    const record = await recordAt(log, place);
    if (record !== undefined && !equalBytes(record.data, message)) {
      throw new StoreConflict(head, `another message was published as ${rseq}`);
    }
  }
}

function logOf(group: string): string {
  return `.rekey/${group}`;
}

function isDropped(error: unknown): boolean {
  return error instanceof WatchwordError && error.code === "store.dropped";
}
