import { formatHex, WatchwordError } from "../bytes/index.js";
import type { Random } from "../io/index.js";
import { NO_VERSION, type Store } from "./contracts.js";
import { StoreConflict } from "./errors.js";

export interface ReservationOptions {
  /** For the ids of attempts. */
  readonly random: Random;
  /** Numbers that are taken out of the store at once: more cost fewer commits, and a restart skips more. Default 64. */
  readonly ahead?: number;
  /** The greatest number: 2^32 - 1 for a KEK SPI, an MKI of four octets and an SSRC, which is the default. */
  readonly limit?: number;
}

/** Numbers of a group that are given out once: KEK SPIs, MKIs, SSRCs, sequence numbers. */
export interface Reservations {
  /**
   * The first of `count` numbers in a row, each greater than 0. Nobody else gets them, now or after a restart: the high-water mark is
   * durable before this resolves. Numbers that were reserved and not used are never given out.
   * @param name what is counted: 1 to 64 letters, digits and hyphens
   * @throws WatchwordError `store.exhausted`: the limit is reached; `store.option`; those of `Store.append`
   */
  reserve(group: string, name: string, count?: number): Promise<number>;
  /** Skips `by` numbers above everything that the store knows to be reserved: after a regression, what it does not know. */
  skip(group: string, name: string, by: number): Promise<void>;
}

/** Attempts against others who reserve at the same time. Each one that fails is one of theirs that did not. */
const ATTEMPTS = 1000;
/** Reservations between two snapshots of a log. */
const RECORDS = 64;

interface Block {
  next: number;
  /** The last number of the block. */
  last: number;
  taken: number;
  /** The reservation before this one: they are carried out one after the other. */
  before: Promise<unknown>;
}

/**
 * High-water marks in a store. Each mark is a log of its own, `.mark/NAME/GROUP`, and the `gseq` of its newest record is the greatest number
 * that was ever reserved: the store itself sees to it that it only grows.
 */
export function createReservations(store: Store, options: ReservationOptions): Reservations {
  const { random, ahead = 64, limit = 0xffff_ffff } = options;
  const blocks = new Map<string, Block>();

  /** Raises the mark by `by` and answers what it was. @param least how many are enough where the limit is near */
  async function raise(
    log: string,
    block: Block,
    by: number,
    least: number,
  ): Promise<{ readonly mark: number; readonly by: number }> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const head = await store.head(log);
      const mark = head?.gseq ?? 0;
      const granted = Math.min(by, limit - mark);
      if (granted < least) throw new WatchwordError("store.exhausted", `${log} has reached ${mark} of ${limit}`);
      const record = { gseq: mark + granted, id: formatHex(random.bytes(16)), data: new Uint8Array(0) };
      try {
        const ver = await store.append(log, head?.ver ?? NO_VERSION, record);
        if (++block.taken % RECORDS === 0) await store.putSnapshot(log, ver, new Uint8Array(0)).catch(ignoreConflict);
        return { mark, by: granted };
      } catch (error) {
        ignoreConflict(error);
      }
    }
    throw new WatchwordError("store.unavailable", `${log}: others were faster ${ATTEMPTS} times`);
  }

  /** One after the other for each mark. */
  function inTurn<T>(group: string, name: string, step: (log: string, block: Block) => Promise<T>): Promise<T> {
    const log = `.mark/${name}/${group}`;
    let block = blocks.get(log);
    if (block === undefined) {
      block = { next: 1, last: 0, taken: 0, before: Promise.resolve() };
      blocks.set(log, block);
    }
    const own = block;
    const turn = own.before.then(() => step(log, own));
    own.before = turn.catch(() => undefined);
    return turn;
  }

  return {
    async reserve(group, name, count = 1) {
      checkCount(name, count, limit);
      return await inTurn(group, name, async (log, block) => {
        if (block.last - block.next + 1 < count) {
          const { mark, by } = await raise(log, block, Math.max(count, ahead), count);
          // Where the new block follows the old one, nothing is skipped.
          if (mark !== block.last) block.next = mark + 1;
          block.last = mark + by;
        }
        const first = block.next;
        block.next += count;
        return first;
      });
    },
    async skip(group, name, by) {
      checkCount(name, by, limit);
      await inTurn(group, name, async (log, block) => {
        await raise(log, block, by, by);
        block.next = block.last + 1;
      });
    },
  };
}

function checkCount(name: string, count: number, limit: number): void {
  if (!/^[A-Za-z0-9-]{1,64}$/.test(name))
    throw new WatchwordError("store.option", "the name of a mark has 1 to 64 letters, digits and hyphens");
  if (!Number.isInteger(count) || count < 1 || count > limit)
    throw new WatchwordError("store.option", `${count} numbers cannot be reserved`);
}

function ignoreConflict(error: unknown): void {
  if (!(error instanceof StoreConflict)) throw error;
}
