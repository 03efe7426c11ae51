/** What of a group's log is larger than a store takes at once, or than others should wait for: it lies in parts, in a log beside it. */
import { concatBytes, formatHex, Reader, WatchwordError, Writer, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import { NO_VERSION, type Store } from "../store/index.js";

/** Octets of a part: as much as is sealed and copied while others wait for their turn. */
const PART_OCTETS = 0x200_0000;
/** First octet of what stands for parts; records and snapshots begin with their format. */
const IN_PARTS = 255;
const NOTHING = new Uint8Array(0);

export interface GroupPartsContext {
  readonly crypto: CryptoProvider;
  readonly store: Store;
  /** Octets of a part. Default 32 MiB. */
  readonly partOctets?: number;
}

/** The parts of one group, those of one record or snapshot behind the other. One call at a time. */
export class GroupParts {
  readonly #context: GroupPartsContext;
  readonly #log: string;

  constructor(context: GroupPartsContext, name: string) {
    this.#context = context;
    this.#log = `parts/${name}`;
  }

  /** Makes octets durable in parts where they are many. @returns what to keep in their place: themselves, or where they are. @throws (rejects) what the store throws */
  async put(data: Uint8Array): Promise<Uint8Array> {
    const { store, crypto, partOctets = PART_OCTETS } = this.#context;
    if (data.length <= partOctets) return data;
    let head = await store.head(this.#log);
    const after = head?.ver ?? NO_VERSION;
    const count = Math.ceil(data.length / partOctets);
    for (let part = 0; part <= count; part++) {
      // Behind the parts stands an empty record: the newest of a log stays, whatever is dropped.
      const octets = part < count ? data.subarray(part * partOctets, (part + 1) * partOctets) : NOTHING;
      const record = { gseq: (head?.gseq ?? 0) + 1, id: formatHex(crypto.randomBytes(16)), data: octets };
      const prev = head?.ver ?? NO_VERSION;
      head = { ...record, group: this.#log, ver: await store.append(this.#log, prev, record), prev };
    }
    const writer = new Writer("ledger", 13);
    writer.u8("format", IN_PARTS);
    writer.u32("after", Number(after >> 32n));
    writer.u32("after", Number(after & 0xffff_ffffn));
    writer.u32("count", count);
    return writer.finish();
  }

  /** The octets that `put` kept. @throws (rejects) WatchwordError `gcks.ledger`; what the store throws */
  async get(kept: Uint8Array): Promise<Uint8Array> {
    if (kept[0] !== IN_PARTS) return kept;
    const reader = new Reader(kept, "ledger");
    reader.u8("format");
    const after = (BigInt(reader.u32("after")) << 32n) | BigInt(reader.u32("after"));
    const count = reader.u32("count");
    reader.expectEnd();
    const parts: Uint8Array[] = [];
    for await (const { data } of this.#context.store.read(this.#log, after, count)) parts.push(data);
    if (parts.length !== count) throw new WatchwordError("gcks.ledger", "a part is missing");
    const data = concatBytes(...parts);
    wipe(...parts);
    return data;
  }

  /** Puts a snapshot by `write`, in whose place it is kept, and drops all parts of before, which nobody reads any more then. @throws (rejects) what the store throws */
  async supersede(snapshot: Uint8Array, write: (kept: Uint8Array) => Promise<void>): Promise<void> {
    const { store } = this.#context;
    const before = await store.head(this.#log);
    await write(await this.put(snapshot));
    if (before !== null) await store.putSnapshot(this.#log, before.ver, NOTHING);
  }
}
