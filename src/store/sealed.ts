import { concatBytes, formatHex, Reader, utf8, WatchwordError, Writer, wipe } from "../bytes/index.js";
import { type AesGcm, type CryptoProvider, defaultCrypto, type Hmac } from "../crypto/index.js";
import { checkRecord, checkSnapshot } from "./checks.js";
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
import type { Regression, WitnessedStore } from "./witness.js";

/** Octets of a sealing key. */
export const SEALING_KEY_OCTETS = 32;

/** The log that holds the data keys, wrapped. */
const KEY_LOG = ".sealing";
/** What is sealed: format (1), generation of the data key (4), nonce (12), ciphertext, tag (16). */
const FORMAT = 1;
const HEADER_OCTETS = 5;
const NONCE_OCTETS = 12;
/** Octets that sealing adds to a record or snapshot. */
const SEALING_OCTETS = HEADER_OCTETS + NONCE_OCTETS + 16;
const DATA_KEY_OCTETS = 32;
const WRAPPED_OCTETS = DATA_KEY_OCTETS + 8;
/** Logs whose keys are held ready. */
const MOST_CIPHERS = 256;

export interface SealingOptions {
  /** Default: the platform's. */
  readonly crypto?: CryptoProvider;
  /** The key before this one: a store that it opens is rotated to the new one. */
  readonly previousKey?: Uint8Array;
}

/**
 * A store whose records and snapshots are encrypted and authenticated before they reach `store`.
 *
 * Each generation of data keys is random and stands in the log `.sealing`, wrapped under the sealing key (RFC 3394). Per log, AES-256-GCM runs
 * under a key derived from it, with the first 12 octets of an HMAC over place and digest of the content as nonce: no random generator and no restored
 * backup makes one nonce stand for two contents. Log, version before, gseq and id (of a snapshot: its version) are authenticated, so that
 * nothing can be moved to another place or another log. Names, ids, sequence numbers, claims and leases are not hidden.
 *
 * What the witness of a witnessed store found is told by the sealed one too.
 *
 * @param key `SEALING_KEY_OCTETS` octets; it is not kept
 * @throws WatchwordError `store.sealing-key`: this key does not open the store; `store.corrupt`: it holds logs, but no data keys
 */
export async function openSealedStore(store: WitnessedStore, key: Uint8Array, options?: SealingOptions): Promise<WitnessedStore>;
export async function openSealedStore(store: Store, key: Uint8Array, options?: SealingOptions): Promise<Store>;
export async function openSealedStore(store: Store, key: Uint8Array, options: SealingOptions = {}): Promise<Store> {
  const { crypto = defaultCrypto, previousKey } = options;
  const wrapper = wrappingKey(crypto, key);
  try {
    let ring = await loadRing(store, crypto, wrapper);
    if (ring === "locked" && previousKey !== undefined) {
      // Where another process has done it already, the previous key opens nothing any more.
      await rotateSealingKey(store, previousKey, key, options).catch(ignoring("store.sealing-key"));
      ring = await loadRing(store, crypto, wrapper);
    }
    if (ring === "none") ring = await createRing(store, crypto, wrapper);
    if (ring === "locked") throw keyError();
    return isWitnessed(store)
      ? new SealedWitnessedStore(store, crypto, wrapper, ring)
      : new SealedStore(store, crypto, wrapper, ring);
  } catch (error) {
    wipe(wrapper);
    throw error;
  }
}

/**
 * Makes `next` the sealing key in place of `key`. What is written from now on is sealed under a new data key; snapshots are sealed anew.
 * Records stay under their data keys, wrapped under `next`, until a snapshot drops them. Other processes have to open the store anew.
 * @throws WatchwordError `store.sealing-key`: `key` does not open the store, or one of the two is no key
 */
export async function rotateSealingKey(
  store: Store,
  key: Uint8Array,
  next: Uint8Array,
  options: SealingOptions = {},
): Promise<void> {
  const { crypto = defaultCrypto } = options;
  const [wrapper, nextWrapper] = [wrappingKey(crypto, key), wrappingKey(crypto, next)];
  try {
    for (;;) {
      const ring = await loadRing(store, crypto, wrapper);
      if (ring === "none" || ring === "locked") throw keyError();
      ring.keys.set(ring.newest + 1, crypto.randomBytes(DATA_KEY_OCTETS));
      const stored = await storeRing(store, crypto, nextWrapper, ring);
      ring.wipe();
      if (stored) break;
    }
    const sealed = await openSealedStore(store, next, { crypto });
    for (const group of await sealed.groups("")) {
      const snapshot = await sealed.getSnapshot(group);
      if (snapshot === null) continue;
      // A newer one, put there meanwhile, is sealed already.
      await sealed.putSnapshot(group, snapshot.at, snapshot.data).catch(ignoring("store.conflict"));
      wipe(snapshot.data);
    }
  } finally {
    wipe(wrapper, nextWrapper);
  }
}

/** Takes one error for an answer. */
function ignoring(code: string): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof WatchwordError) || error.code !== code) throw error;
  };
}

function keyError(): WatchwordError {
  return new WatchwordError("store.sealing-key", "the sealing key does not open this store");
}

function wrappingKey(crypto: CryptoProvider, key: Uint8Array): Uint8Array {
  if (key.length !== SEALING_KEY_OCTETS) {
    throw new WatchwordError("store.sealing-key", `a sealing key has ${SEALING_KEY_OCTETS} octets, not ${key.length}`);
  }
  return derive(crypto, key, "ww1 seal wrap");
}

function derive(crypto: CryptoProvider, key: Uint8Array, label: string, group = ""): Uint8Array {
  const hmac = crypto.hmac("sha256", key);
  const derived = hmac.compute(utf8(label), Uint8Array.of(0), utf8(group));
  hmac.wipe();
  return derived;
}

/** The data keys by generation. */
class KeyRing {
  readonly keys = new Map<number, Uint8Array>();
  /** Of the record that holds them. */
  readonly ver: Ver;
  readonly gseq: number;

  constructor(ver: Ver, gseq: number) {
    this.ver = ver;
    this.gseq = gseq;
  }

  get newest(): number {
    return Math.max(0, ...this.keys.keys());
  }

  wipe(): void {
    wipe(...this.keys.values());
    this.keys.clear();
  }
}

/** RFC 3394 §2.2.3.2: the initial value holds what the wrapped key is for. */
function initialValue(generation: number): Uint8Array {
  const writer = new Writer("sealing.initialValue", 8);
  writer.bytes(utf8("ww1s"));
  writer.u32("generation", generation);
  return writer.finish();
}

async function loadRing(store: Store, crypto: CryptoProvider, wrapper: Uint8Array): Promise<KeyRing | "none" | "locked"> {
  const head = await store.head(KEY_LOG);
  if (head === null) return "none";
  const ring = new KeyRing(head.ver, head.gseq);
  try {
    const reader = new Reader(head.data, "sealing");
    if (reader.u8("format") !== FORMAT) throw reader.error("store.corrupt", "format", "unknown");
    do {
      const generation = reader.u32("generation");
      const key = crypto.aesKeyUnwrap(wrapper, initialValue(generation), reader.bytes("key", WRAPPED_OCTETS));
      if (key === undefined) {
        ring.wipe();
        return "locked";
      }
      ring.keys.set(generation, key);
    } while (reader.remaining > 0);
  } catch (error) {
    ring.wipe();
    throw new WatchwordError("store.corrupt", "the sealed data keys cannot be read", { cause: error });
  }
  return ring;
}

async function createRing(store: Store, crypto: CryptoProvider, wrapper: Uint8Array): Promise<KeyRing | "locked"> {
  const others = await store.groups("");
  if (others.length > 0 && !others.includes(KEY_LOG)) {
    throw new WatchwordError("store.corrupt", "the store holds logs, but not the data keys that would have sealed them");
  }
  const ring = new KeyRing(NO_VERSION, 0);
  ring.keys.set(1, crypto.randomBytes(DATA_KEY_OCTETS));
  await storeRing(store, crypto, wrapper, ring);
  ring.wipe();
  // Perhaps another process was faster.
  return (await loadRing(store, crypto, wrapper)) as KeyRing | "locked";
}

/** @returns false where another process has changed the ring meanwhile */
async function storeRing(store: Store, crypto: CryptoProvider, wrapper: Uint8Array, ring: KeyRing): Promise<boolean> {
  const writer = new Writer("sealing");
  writer.u8("format", FORMAT);
  for (const [generation, key] of ring.keys) {
    writer.u32("generation", generation);
    writer.bytes(crypto.aesKeyWrap(wrapper, initialValue(generation), key));
  }
  try {
    const gseq = ring.gseq + 1;
    const ver = await store.append(KEY_LOG, ring.ver, { gseq, id: formatHex(crypto.randomBytes(16)), data: writer.finish() });
    // Drops the keys as the key before wrapped them.
    await store.putSnapshot(KEY_LOG, ver, new Uint8Array(0));
    return true;
  } catch (error) {
    if (error instanceof StoreConflict) return false;
    throw error;
  }
}

interface Cipher {
  readonly gcm: AesGcm;
  readonly nonces: Hmac;
}

class SealedStore implements Store {
  readonly #store: Store;
  readonly #crypto: CryptoProvider;
  readonly #wrapper: Uint8Array;
  #ring: KeyRing;
  /** By generation and log; the one used last is last. */
  readonly #ciphers = new Map<string, Cipher>();

  constructor(store: Store, crypto: CryptoProvider, wrapper: Uint8Array, ring: KeyRing) {
    this.#store = store;
    this.#crypto = crypto;
    this.#wrapper = wrapper;
    this.#ring = ring;
  }

  async append(group: string, expected: Ver, record: NewRec): Promise<Ver> {
    this.#checkGroup(group);
    checkRecord(group, record);
    const { gseq, id } = record;
    const sealed = this.#seal(group, recordPlace(group, expected, gseq, id), record.data);
    return await this.#store.append(group, expected, { gseq, id, data: sealed });
  }

  async head(group: string): Promise<Rec | null> {
    this.#checkGroup(group);
    const record = await this.#store.head(group);
    return record === null ? null : await this.#openRecord(record);
  }

  async *read(group: string, after: Ver, limit?: number): AsyncGenerator<Rec, void, undefined> {
    this.#checkGroup(group);
    for await (const record of this.#store.read(group, after, limit)) yield await this.#openRecord(record);
  }

  async *watch(selector: Selector, after: Ver, signal: AbortSignal): AsyncGenerator<Rec, void, undefined> {
    if ("group" in selector) this.#checkGroup(selector.group);
    for await (const record of this.#store.watch(selector, after, signal)) {
      if (record.group !== KEY_LOG) yield await this.#openRecord(record);
    }
  }

  latest(): Promise<Ver> {
    return this.#store.latest();
  }

  async groups(prefix: string): Promise<readonly string[]> {
    return (await this.#store.groups(prefix)).filter((group) => group !== KEY_LOG);
  }

  async putSnapshot(group: string, at: Ver, data: Uint8Array): Promise<void> {
    this.#checkGroup(group);
    checkSnapshot(group, data);
    await this.#store.putSnapshot(group, at, this.#seal(group, snapshotPlace(group, at), data));
  }

  async getSnapshot(group: string): Promise<Snapshot | null> {
    this.#checkGroup(group);
    const snapshot = await this.#store.getSnapshot(group);
    if (snapshot === null) return null;
    const what = `the snapshot of ${group}`;
    return { ...snapshot, data: await this.#open(group, snapshotPlace(group, snapshot.at), snapshot.data, what) };
  }

  claim(key: string, ttlClass: TtlClass): Promise<boolean> {
    return this.#store.claim(key, ttlClass);
  }

  lease(group: string, owner: string): Promise<Lease | null> {
    return this.#store.lease(group, owner);
  }

  async close(): Promise<void> {
    await this.#store.close();
    for (const cipher of this.#ciphers.values()) wipeCipher(cipher);
    this.#ciphers.clear();
    this.#ring.wipe();
    wipe(this.#wrapper);
  }

  async #openRecord(record: Rec): Promise<Rec> {
    const { group, ver, prev, gseq, id, data } = record;
    return { ...record, data: await this.#open(group, recordPlace(group, prev, gseq, id), data, `record ${ver} of ${group}`) };
  }

  #seal(group: string, place: Uint8Array, data: Uint8Array): Uint8Array {
    const generation = this.#ring.newest;
    const { gcm, nonces } = this.#cipher(generation, group);
    const writer = new Writer("sealed", HEADER_OCTETS);
    writer.u8("format", FORMAT);
    writer.u32("generation", generation);
    const header = writer.finish();
    const associated = concatBytes(header, place);
    const nonce = nonces.compute(associated, this.#crypto.hash("sha256", data)).subarray(0, NONCE_OCTETS);
    const sealed = new Uint8Array(data.length + SEALING_OCTETS);
    sealed.set(header);
    sealed.set(nonce, HEADER_OCTETS);
    gcm.seal(nonce, associated, data, sealed.subarray(HEADER_OCTETS + NONCE_OCTETS));
    return sealed;
  }

  async #open(group: string, place: Uint8Array, sealed: Uint8Array, what: string): Promise<Uint8Array> {
    const refuse = (): never => {
      throw new WatchwordError("store.corrupt", `${what} is not what was sealed`);
    };
    if (sealed.length < SEALING_OCTETS || sealed[0] !== FORMAT) refuse();
    const generation = new Reader(sealed.subarray(1, HEADER_OCTETS), "sealed").u32("generation");
    if (!this.#ring.keys.has(generation)) await this.#reloadRing();
    if (!this.#ring.keys.has(generation)) refuse();
    const data = new Uint8Array(sealed.length - SEALING_OCTETS);
    const nonce = sealed.subarray(HEADER_OCTETS, HEADER_OCTETS + NONCE_OCTETS);
    const associated = concatBytes(sealed.subarray(0, HEADER_OCTETS), place);
    const { gcm } = this.#cipher(generation, group);
    if (!gcm.open(nonce, associated, sealed.subarray(HEADER_OCTETS + NONCE_OCTETS), data)) refuse();
    return data;
  }

  /** Another process has begun a generation. @throws WatchwordError `store.sealing-key`: it has rotated the key */
  async #reloadRing(): Promise<void> {
    const ring = await loadRing(this.#store, this.#crypto, this.#wrapper);
    if (ring === "locked") throw keyError();
    if (ring === "none") return;
    this.#ring.wipe();
    this.#ring = ring;
  }

  #cipher(generation: number, group: string): Cipher {
    const name = `${generation} ${group}`;
    const known = this.#ciphers.get(name);
    if (known !== undefined) {
      this.#ciphers.delete(name);
      this.#ciphers.set(name, known);
      return known;
    }
    const dataKey = this.#ring.keys.get(generation);
    if (dataKey === undefined) throw new WatchwordError("store.closed", "the store is closed");
    const [contentKey, nonceKey] = [
      derive(this.#crypto, dataKey, "ww1 seal content", group),
      derive(this.#crypto, dataKey, "ww1 seal nonce", group),
    ];
    const cipher = { gcm: this.#crypto.aesGcm(contentKey), nonces: this.#crypto.hmac("sha256", nonceKey) };
    wipe(contentKey, nonceKey);
    const oldest = this.#ciphers.size < MOST_CIPHERS ? undefined : this.#ciphers.entries().next().value;
    if (oldest !== undefined) {
      wipeCipher(oldest[1]);
      this.#ciphers.delete(oldest[0]);
    }
    this.#ciphers.set(name, cipher);
    return cipher;
  }

  #checkGroup(group: string): void {
    if (group === KEY_LOG) throw new WatchwordError("store.name", `group: ${KEY_LOG} is the sealed store's own`);
  }
}

class SealedWitnessedStore extends SealedStore implements WitnessedStore {
  readonly #witnessed: WitnessedStore;

  constructor(store: WitnessedStore, crypto: CryptoProvider, wrapper: Uint8Array, ring: KeyRing) {
    super(store, crypto, wrapper, ring);
    this.#witnessed = store;
  }

  get regression(): Regression | undefined {
    return this.#witnessed.regression;
  }

  acceptRegression(): Promise<void> {
    return this.#witnessed.acceptRegression();
  }
}

function isWitnessed(store: Store): store is WitnessedStore {
  return "acceptRegression" in store;
}

function wipeCipher({ gcm, nonces }: Cipher): void {
  gcm.wipe();
  nonces.wipe();
}

/** Where a record belongs. Its version is not known before it is there; that of the record before it is, and says as much. */
function recordPlace(group: string, prev: Ver, gseq: number, id: string): Uint8Array {
  const writer = new Writer("sealed.place");
  writer.bytes(utf8("record\0"));
  writeNumber(writer, "prev", prev);
  writeNumber(writer, "gseq", BigInt(gseq));
  writer.prefixed("id", 2, () => writer.bytes(utf8(id)));
  writer.prefixed("group", 2, () => writer.bytes(utf8(group)));
  return writer.finish();
}

function snapshotPlace(group: string, at: Ver): Uint8Array {
  const writer = new Writer("sealed.place");
  writer.bytes(utf8("snapshot\0"));
  writeNumber(writer, "at", at);
  writer.prefixed("group", 2, () => writer.bytes(utf8(group)));
  return writer.finish();
}

/** Eight octets. What is outside them is no version or sequence number, which the store finds out. */
function writeNumber(writer: Writer, name: string, value: bigint): void {
  const octets = BigInt.asUintN(64, value);
  writer.u32(name, Number(octets >> 32n));
  writer.u32(name, Number(octets & 0xffff_ffffn));
}
