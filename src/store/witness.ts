import { formatHex, Reader, utf8, utf8Text, WatchwordError, Writer } from "../bytes/index.js";
import type { Random } from "../io/index.js";
import {
  type Lease,
  type NewRec,
  NO_VERSION,
  type Rec,
  type Selector,
  type Snapshot,
  type Store,
  type TtlClass,
  type Ver,
} from "./contracts.js";
import { StoreConflict } from "./errors.js";

/**
 * What the witness found at the opening: `older`, the store lacks records that were acknowledged (a backup was restored); `another`, it is not
 * the store that was witnessed; `unwitnessed`, it holds records and the witness knows nothing of it.
 */
export interface Regression {
  readonly kind: "older" | "another" | "unwitnessed";
  /** The newest version that was acknowledged, as the witness has it. */
  readonly witnessed: Ver;
  /** The newest version that the store had then. */
  readonly found: Ver;
}

/** A store beside which a witness stands. */
export interface WitnessedStore extends Store {
  /**
   * Numbers, keys and SSRCs that the store does not know may be in use. Who sees one skips far ahead in every sequence, replaces every key
   * and has everybody register anew; then it calls `acceptRegression`. Until then every opening reports it.
   */
  readonly regression: Regression | undefined;
  /** Begins to witness the store as it is now. */
  acceptRegression(): Promise<void>;
}

/** The log in either store. */
const LOG = ".witness";
/** Records of the witness between two snapshots of it. */
const RECORDS = 256;
const FORMAT = 1;
const IDENTITY_OCTETS = 16;

/**
 * Stands a witness beside a store: every acknowledged version is also in `outside`, before it is acknowledged. `outside` is a store that no
 * backup of `store` contains, best on another disk; one for each store. It costs a second commit, which appends under way share.
 *
 * An append that the store took and the witness did not fails with `store.ambiguous`. The two are closed together, this one first.
 *
 * @throws WatchwordError `store.corrupt`: the witness cannot be read
 */
export async function openWitnessedStore(
  store: Store,
  outside: Store,
  options: { readonly random: Random },
): Promise<WitnessedStore> {
  const identity = await storeIdentity(store, options.random);
  const witness = new Witness(outside, identity);
  let statement = await witness.load();
  const isUsed = (await store.groups("")).some((group) => group !== LOG);
  // Whoever uses the store has told the witness before: perhaps it began to a moment ago.
  if (statement === undefined && isUsed) statement = await witness.load();
  // Asked after the witness, which others may be telling of versions all the time.
  const found = await store.latest();
  let regression: Regression | undefined;
  if (statement === undefined) {
    if (isUsed) regression = { kind: "unwitnessed", witnessed: NO_VERSION, found };
  } else if (statement.regression !== undefined) {
    regression = statement.regression;
  } else if (statement.identity !== identity) {
    regression = { kind: "another", witnessed: statement.witnessed, found };
  } else if (found < statement.witnessed) {
    regression = { kind: "older", witnessed: statement.witnessed, found };
  }
  const opened = new StoreBesideWitness(store, outside, witness, regression);
  if (regression === undefined) await witness.note(await store.latest());
  else await witness.report(regression);
  return opened;
}

/** The name by which the witness knows the store again: the id of the first record of a log of its own. */
async function storeIdentity(store: Store, random: Random): Promise<string> {
  const known = await store.head(LOG);
  if (known !== null) return known.id;
  const id = formatHex(random.bytes(IDENTITY_OCTETS));
  try {
    await store.append(LOG, NO_VERSION, { gseq: 1, id, data: new Uint8Array(0) });
    return id;
  } catch (error) {
    if (!(error instanceof StoreConflict)) throw error;
    return await storeIdentity(store, random);
  }
}

const KINDS = ["older", "another", "unwitnessed"] as const;

/** What the witness says. */
interface Statement {
  readonly identity: string;
  readonly witnessed: Ver;
  /** One that nobody has accepted yet. */
  readonly regression: Regression | undefined;
}

class Witness {
  readonly #outside: Store;
  readonly #identity: string;
  #head: Rec | undefined;
  #statement: Statement | undefined;
  /** The greatest version that has to be noted. */
  #wanted = NO_VERSION;
  #noting: Promise<void> | undefined;
  #sinceSnapshot = 0;

  constructor(outside: Store, identity: string) {
    this.#outside = outside;
    this.#identity = identity;
  }

  async load(): Promise<Statement | undefined> {
    this.#head = (await this.#outside.head(LOG)) ?? undefined;
    this.#statement = this.#head && decodeStatement(this.#head.data);
    return this.#statement;
  }

  /** Resolves when it is durable that `ver` was there. */
  async note(ver: Ver): Promise<void> {
    if (this.#wanted < ver) this.#wanted = ver;
    // While a regression stands, every opening reports it, and nothing more need be known; but another process may have accepted it.
    if (this.#statement?.regression !== undefined) await this.load();
    while (this.#lacks(ver)) {
      // One at a time: what comes meanwhile goes into the next one.
      this.#noting ??= this.#noteWanted().finally(() => {
        this.#noting = undefined;
      });
      await this.#noting;
    }
  }

  report(regression: Regression): Promise<void> {
    return this.#state(() => ({ identity: this.#identity, witnessed: regression.witnessed, regression }));
  }

  accept(latest: Ver): Promise<void> {
    return this.#state(() => ({ identity: this.#identity, witnessed: latest, regression: undefined }));
  }

  #lacks(ver: Ver): boolean {
    return this.#statement?.regression === undefined && (this.#statement?.witnessed ?? NO_VERSION) < ver;
  }

  async #noteWanted(): Promise<void> {
    await this.#state((known) => {
      if (known?.regression !== undefined || (known?.witnessed ?? NO_VERSION) >= this.#wanted) return known;
      return { identity: this.#identity, witnessed: this.#wanted, regression: undefined };
    });
  }

  /** Writes the next statement, over others who do the same. */
  async #state(next: (known: Statement | undefined) => Statement | undefined): Promise<void> {
    for (;;) {
      const statement = next(this.#statement);
      if (statement === undefined || statement === this.#statement) return;
      const head = this.#head;
      const [prev, gseq] = [head?.ver ?? NO_VERSION, (head?.gseq ?? 0) + 1];
      const data = encodeStatement(statement);
      const record = { gseq, id: formatHex(data), data };
      try {
        const ver = await this.#outside.append(LOG, prev, record);
        this.#head = { group: LOG, ver, prev, ...record };
        this.#statement = statement;
      } catch (error) {
        if (!(error instanceof StoreConflict)) throw error;
        await this.load();
        continue;
      }
      await this.#trim();
      return;
    }
  }

  async #trim(): Promise<void> {
    if (++this.#sinceSnapshot < RECORDS || this.#head === undefined) return;
    this.#sinceSnapshot = 0;
    await this.#outside.putSnapshot(LOG, this.#head.ver, new Uint8Array(0)).catch(() => {
      // Another process was faster; the statement itself is there.
    });
  }
}

/** Format (1), regression (1: 0 for none), witnessed (8), found (8), identity (the rest). */
function encodeStatement({ identity, witnessed, regression }: Statement): Uint8Array {
  const writer = new Writer("witness");
  writer.u8("format", FORMAT);
  writer.u8("regression", regression === undefined ? 0 : 1 + KINDS.indexOf(regression.kind));
  for (const ver of [witnessed, regression?.found ?? NO_VERSION]) {
    writer.u32("ver", Number(ver >> 32n));
    writer.u32("ver", Number(ver & 0xffff_ffffn));
  }
  writer.bytes(utf8(identity));
  return writer.finish();
}

/** @throws WatchwordError `store.corrupt` */
function decodeStatement(data: Uint8Array): Statement {
  try {
    const reader = new Reader(data, "witness");
    if (reader.u8("format") !== FORMAT) throw reader.error("store.corrupt", "format", "unknown");
    const kind = reader.u8("regression");
    const ver = (): Ver => (BigInt(reader.u32("ver")) << 32n) | BigInt(reader.u32("ver"));
    const [witnessed, found] = [ver(), ver()];
    const identity = utf8Text(reader.rest("identity"));
    const regression = kind === 0 ? undefined : KINDS[kind - 1];
    if (identity === undefined || (kind !== 0 && regression === undefined)) {
      throw reader.error("store.corrupt", "statement", "unknown");
    }
    return { identity, witnessed, regression: regression && { kind: regression, witnessed, found } };
  } catch (error) {
    throw new WatchwordError("store.corrupt", "the witness cannot be read", { cause: error });
  }
}

class StoreBesideWitness implements WitnessedStore {
  readonly #store: Store;
  readonly #outside: Store;
  readonly #witness: Witness;
  readonly #appending = new Set<Promise<Ver>>();
  #closing: Promise<void> | undefined;
  regression: Regression | undefined;

  constructor(store: Store, outside: Store, witness: Witness, regression: Regression | undefined) {
    this.#store = store;
    this.#outside = outside;
    this.#witness = witness;
    this.regression = regression;
  }

  async acceptRegression(): Promise<void> {
    await this.#witness.accept(await this.#store.latest());
    this.regression = undefined;
  }

  append(group: string, expected: Ver, record: NewRec): Promise<Ver> {
    const appending = this.#append(group, expected, record);
    this.#appending.add(appending);
    const done = (): void => void this.#appending.delete(appending);
    appending.then(done, done);
    return appending;
  }

  async #append(group: string, expected: Ver, record: NewRec): Promise<Ver> {
    const ver = await this.#store.append(group, expected, record);
    try {
      await this.#witness.note(ver);
    } catch (cause) {
      throw new WatchwordError("store.ambiguous", `the record is there, but the witness does not know: ${cause}`, { cause });
    }
    return ver;
  }

  async head(group: string): Promise<Rec | null> {
    const record = await this.#store.head(group);
    return record === null ? null : await this.#noted(record);
  }

  async *read(group: string, after: Ver, limit?: number): AsyncGenerator<Rec, void, undefined> {
    for await (const record of this.#store.read(group, after, limit)) yield await this.#noted(record);
  }

  async *watch(selector: Selector, after: Ver, signal: AbortSignal): AsyncGenerator<Rec, void, undefined> {
    for await (const record of this.#store.watch(selector, after, signal)) {
      if (record.group !== LOG) yield await this.#noted(record);
    }
  }

  latest(): Promise<Ver> {
    return this.#store.latest();
  }

  async groups(prefix: string): Promise<readonly string[]> {
    return (await this.#store.groups(prefix)).filter((group) => group !== LOG);
  }

  putSnapshot(group: string, at: Ver, data: Uint8Array): Promise<void> {
    return this.#store.putSnapshot(group, at, data);
  }

  getSnapshot(group: string): Promise<Snapshot | null> {
    return this.#store.getSnapshot(group);
  }

  claim(key: string, ttlClass: TtlClass): Promise<boolean> {
    return this.#store.claim(key, ttlClass);
  }

  lease(group: string, owner: string): Promise<Lease | null> {
    return this.#store.lease(group, owner);
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#store.close();
      await Promise.allSettled(this.#appending);
      await this.#outside.close();
    })();
    return this.#closing;
  }

  /** Another store may have appended it and not come to its witness yet: nobody acts upon what could be lost unseen. */
  async #noted(record: Rec): Promise<Rec> {
    await this.#witness.note(record.ver);
    return record;
  }
}
