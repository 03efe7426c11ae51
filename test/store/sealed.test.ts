import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatHex, utf8, WatchwordError } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { nodeCrypto } from "../../src/node/index.js";
import {
  MemoryDisk,
  NO_VERSION,
  openSealedStore,
  type Rec,
  rotateSealingKey,
  type Snapshot,
  type Store,
} from "../../src/store/index.js";
import { describeStore } from "../suites/store.js";
import { createMemoryRig } from "./rigs.js";

const KEY = new Uint8Array(32).fill(7);
const NEXT_KEY = new Uint8Array(32).fill(8);
const GROUP = "sip:team@example.org";

for (const crypto of [nodeCrypto, nobleCrypto]) {
  describeStore(`sealed by ${crypto.name}`, async () => {
    const { open, advance } = createMemoryRig();
    const disk = new MemoryDisk();
    return { open: () => openSealedStore(open(disk), KEY, { crypto }), advance, dispose: async () => {} };
  });
}

/** A disk with a sealed log of three records and a snapshot at the second. */
async function sealedDisk() {
  const rig = createMemoryRig();
  const disk = new MemoryDisk();
  const store = await openSealedStore(rig.open(disk), KEY);
  let ver = NO_VERSION;
  for (const [i, text] of ["one", "two", "three"].entries()) {
    ver = await store.append(GROUP, ver, { gseq: i + 1, id: `id ${i}`, data: utf8(`secret ${text}`) });
    if (i === 1) await store.putSnapshot(GROUP, ver, utf8("secret state"));
  }
  return {
    rig,
    disk,
    store,
    open: (key = KEY, previousKey?: Uint8Array) => openSealedStore(rig.open(disk), key, previousKey && { previousKey }),
  };
}

async function fillLog(store: Store, group: string): Promise<Rec[]> {
  const made: Rec[] = [];
  for (let gseq = 1; gseq <= 3; gseq++) {
    const record = { gseq, id: `${gseq}`, data: utf8(`${gseq}`) };
    const prev = made.at(-1)?.ver ?? NO_VERSION;
    made.push({ group, ver: await store.append(group, prev, record), prev, ...record });
  }
  return made;
}

/** Everything that can be read of a log. */
async function contents(store: Store, group = GROUP): Promise<{ readonly records: Rec[]; readonly snapshot: Snapshot | null }> {
  const snapshot = await store.getSnapshot(group);
  const records: Rec[] = [];
  for await (const record of store.read(group, snapshot === null ? NO_VERSION : snapshot.at - 1n)) records.push(record);
  return { records, snapshot };
}

/** Every octet string on the disk, as text. */
function allOctets(disk: MemoryDisk): string {
  return [...disk.logs.values()]
    .flatMap(({ records, snapshot }) => [...records.map(({ data }) => data), ...(snapshot === undefined ? [] : [snapshot.data])])
    .map((data) => Buffer.from(data).toString("latin1"))
    .join("\n");
}

function logOf(disk: MemoryDisk, group = GROUP): typeof disk.logs extends Map<string, infer Log> ? Log : never {
  return disk.logs.get(group) as never;
}

describe("a sealed store", () => {
  it("shows no octet of what it holds, and gives it back to whoever has the key", async () => {
    const { disk, store, open } = await sealedDisk();
    expect(allOctets(disk)).not.toMatch(/secret/);
    const before = await contents(store);
    await store.close();
    const again = await contents(await open());
    expect(again).toEqual(before);
    expect(again.records.map(({ data }) => Buffer.from(data).toString())).toEqual(["secret two", "secret three"]);
    expect(Buffer.from(again.snapshot?.data as Uint8Array).toString()).toBe("secret state");
  });

  it("is the same octets whichever provider seals", async () => {
    const { disk, rig, store } = await sealedDisk();
    for (const crypto of [nodeCrypto, nobleCrypto]) {
      expect(await contents(await openSealedStore(rig.open(disk), KEY, { crypto }))).toEqual(await contents(store));
    }
    const [one, two] = [nodeCrypto, nobleCrypto].map(async (crypto) => {
      const copy = disk.copy();
      const head = await store.head(GROUP);
      const sealed = await openSealedStore(rig.open(copy), KEY, { crypto });
      await sealed.append(GROUP, head?.ver as bigint, { gseq: 9, id: "same", data: utf8("same") });
      return formatHex(logOf(copy).records.at(-1)?.data as Uint8Array);
    });
    expect(await one).toBe(await two);
  });

  it("never uses a nonce for two contents, also after a backup was restored", async () => {
    const { disk, rig } = await sealedDisk();
    const nonces = new Set<string>();
    for (let i = 0; i < 50; i++) {
      const copy = disk.copy();
      const store = await openSealedStore(rig.open(copy), KEY);
      const head = await store.head(GROUP);
      // The same place each time, with another content.
      await store.append(GROUP, head?.ver as bigint, { gseq: 4, id: "next", data: utf8(`content ${i}`) });
      const sealed = logOf(copy).records.at(-1) as Rec;
      nonces.add(formatHex(sealed.data.subarray(5, 17)));
    }
    expect(nonces.size).toBe(50);
  });

  it("does not open with another key, and serves nothing then", async () => {
    const { disk, open } = await sealedDisk();
    const before = allOctets(disk);
    await expect(open(NEXT_KEY)).rejects.toMatchObject({ code: "store.sealing-key" });
    await expect(open(NEXT_KEY, new Uint8Array(32).fill(9))).rejects.toMatchObject({ code: "store.sealing-key" });
    for (const length of [0, 16, 31, 33]) {
      await expect(open(new Uint8Array(length))).rejects.toMatchObject({ code: "store.sealing-key" });
    }
    expect(allOctets(disk)).toBe(before);
  });

  it("does not take a store that was written without it, or whose keys are gone", async () => {
    const { rig, disk, open } = await sealedDisk();
    disk.logs.delete(".sealing");
    await expect(open()).rejects.toMatchObject({ code: "store.corrupt" });
    const plain = new MemoryDisk();
    await rig.open(plain).append(GROUP, NO_VERSION, { gseq: 1, id: "a", data: utf8("in the clear") });
    await expect(openSealedStore(rig.open(plain), KEY)).rejects.toMatchObject({ code: "store.corrupt" });
  });

  it("keeps its own log out of reach", async () => {
    const { store } = await sealedDisk();
    const own = { code: "store.name" };
    expect(await store.groups("")).toEqual([GROUP]);
    await expect(store.head(".sealing")).rejects.toMatchObject(own);
    await expect(store.append(".sealing", NO_VERSION, { gseq: 1, id: "a", data: new Uint8Array(1) })).rejects.toMatchObject(own);
    await expect(store.putSnapshot(".sealing", 1n, new Uint8Array(1))).rejects.toMatchObject(own);
  });

  const places: readonly (readonly [string, (disk: MemoryDisk) => void])[] = [
    [
      "to another log",
      (disk) =>
        disk.logs.set("other", { ...logOf(disk), records: logOf(disk).records.map((record) => ({ ...record, group: "other" })) }),
    ],
    ["to another sequence number", (disk) => replace(disk, (record) => ({ ...record, gseq: record.gseq + 100 }))],
    ["to another id", (disk) => replace(disk, (record) => ({ ...record, id: `${record.id}x` }))],
    ["behind another record", (disk) => replace(disk, (record) => ({ ...record, prev: 0n }))],
    ["into the place of another", (disk) => swap(disk)],
    ["into the snapshot", (disk) => snapshotFrom(disk, (logOf(disk).records[0] as Rec).data)],
    ["out of the snapshot", (disk) => replace(disk, (record) => ({ ...record, data: logOf(disk).snapshot?.data as Uint8Array }))],
  ];
  it.each(places)("sees that something was moved %s", async (_name, move) => {
    const { disk, open } = await sealedDisk();
    move(disk);
    const store = await open();
    const group = disk.logs.has("other") ? "other" : GROUP;
    await expect(contents(store, group)).rejects.toMatchObject({ code: "store.corrupt" });
  });

  it("sees that a record was taken out of the middle, and the one after it made to follow the one before", async () => {
    const { rig, disk, store } = await sealedDisk();
    const [kept, , last] = (await fillLog(store, "whole")) as [Rec, Rec, Rec];
    const log = logOf(disk, "whole");
    log.records = [log.records[0] as Rec, { ...(log.records[2] as Rec), prev: kept.ver }];
    const reopened = await openSealedStore(rig.open(disk), KEY);
    await expect(reopened.head("whole")).rejects.toMatchObject({ code: "store.corrupt" });
    log.records = [log.records[0] as Rec, { ...(log.records[1] as Rec), prev: last.prev }];
    expect((await reopened.head("whole"))?.data).toEqual(last.data);
    await expect(contents(reopened, "whole")).rejects.toMatchObject({ code: "store.dropped" });
  });

  it("sees that a snapshot was taken for one of another record", async () => {
    const { disk, open } = await sealedDisk();
    const log = logOf(disk);
    log.snapshot = { ...(log.snapshot as Snapshot), at: (log.records[1] as Rec).ver };
    await expect((await open()).getSnapshot(GROUP)).rejects.toMatchObject({ code: "store.corrupt" });
  });

  it("sees every changed octet and every cut, with one message for all of them", async () => {
    const { disk, open } = await sealedDisk();
    const intact = logOf(disk).records.at(-1) as Rec;
    const messages = new Set<string>();
    const store = await open();
    const tampered = async (data: Uint8Array): Promise<void> => {
      logOf(disk).records[1] = { ...intact, data };
      const error = await store.head(GROUP).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(WatchwordError);
      expect((error as WatchwordError).code).toBe("store.corrupt");
      messages.add((error as WatchwordError).message);
    };
    for (let i = 0; i < intact.data.length; i++) {
      await tampered(intact.data.map((octet, at) => (at === i ? octet ^ 1 : octet)));
      await tampered(intact.data.slice(0, i));
    }
    await tampered(new Uint8Array([...intact.data, 0]));
    expect(messages.size).toBe(1);
  });

  it("opens whatever stands in the key log, or says why not", async () => {
    const { disk } = await sealedDisk();
    const rig = createMemoryRig();
    const head = logOf(disk, ".sealing").records[0] as Rec;
    const codes = new Set<string>();
    const attempt = async (data: Uint8Array): Promise<void> => {
      const copy = disk.copy();
      logOf(copy, ".sealing").records[0] = { ...head, data };
      const outcome = await openSealedStore(rig.open(copy), KEY).catch((error: WatchwordError) => error.code);
      codes.add(typeof outcome === "string" ? outcome : "opened");
    };
    for (let i = 0; i < head.data.length; i++) {
      await attempt(head.data.slice(0, i));
      await attempt(head.data.map((octet, at) => (at === i ? octet ^ 1 : octet)));
    }
    expect([...codes].sort()).toEqual(["store.corrupt", "store.sealing-key"]);
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 100 }), attempt), { numRuns: 50 });
    expect([...codes].sort()).toEqual(["store.corrupt", "store.sealing-key"]);
  });

  it("wipes what it holds when it closes", async () => {
    const { store } = await sealedDisk();
    await store.close();
    await expect(store.head(GROUP)).rejects.toMatchObject({ code: "store.closed" });
    await expect(store.append(GROUP, NO_VERSION, { gseq: 1, id: "a", data: utf8("x") })).rejects.toMatchObject({
      code: "store.closed",
    });
  });
});

describe("rotating the sealing key", () => {
  it("leaves everything readable under the new key alone", async () => {
    const { rig, disk, store, open } = await sealedDisk();
    const before = await contents(store);
    await rotateSealingKey(rig.open(disk), KEY, NEXT_KEY);
    await expect(open(KEY)).rejects.toMatchObject({ code: "store.sealing-key" });
    const rotated = await open(NEXT_KEY);
    expect(await contents(rotated)).toEqual(before);
    // Snapshots and what comes now stand under the new data key, older records under theirs.
    await rotated.append(GROUP, (await rotated.head(GROUP))?.ver as bigint, { gseq: 4, id: "d", data: utf8("four") });
    const generation = (data: Uint8Array | undefined): number => data?.[4] as number;
    expect(logOf(disk).records.map(({ data }) => generation(data))).toEqual([1, 1, 2]);
    expect(generation(logOf(disk).snapshot?.data)).toBe(2);
    // What the old key wrapped is gone.
    expect(logOf(disk, ".sealing").records).toHaveLength(1);
    await expect(rotateSealingKey(rig.open(disk), KEY, NEXT_KEY)).rejects.toMatchObject({ code: "store.sealing-key" });
  });

  it("happens at the opening where the previous key is given, once", async () => {
    const { disk, store, open } = await sealedDisk();
    const before = await contents(store);
    const [one, two] = await Promise.all([open(NEXT_KEY, KEY), open(NEXT_KEY, KEY)]);
    expect(await contents(one)).toEqual(before);
    expect(await contents(two)).toEqual(before);
    expect(await contents(await open(NEXT_KEY, KEY))).toEqual(before);
    expect(logOf(disk, ".sealing").records.at(-1)?.gseq).toBe(2);
  });

  it("tells a store that is open under the old key as soon as it meets what came after", async () => {
    const { rig, disk, store, open } = await sealedDisk();
    await rotateSealingKey(rig.open(disk), KEY, NEXT_KEY);
    expect((await store.head(GROUP))?.gseq).toBe(3);
    const rotated = await open(NEXT_KEY);
    await rotated.append(GROUP, (await rotated.head(GROUP))?.ver as bigint, { gseq: 4, id: "d", data: utf8("four") });
    await expect(store.head(GROUP)).rejects.toMatchObject({ code: "store.sealing-key" });
    // What it still writes under the old data key is not lost.
    await store.append("other", NO_VERSION, { gseq: 1, id: "a", data: utf8("late") });
    expect((await rotated.head("other"))?.data).toEqual(utf8("late"));
  });
});

function replace(disk: MemoryDisk, change: (record: Rec) => Rec): void {
  const log = logOf(disk);
  log.records = log.records.map((record, i) => (i === 1 ? change(record) : record));
}

function swap(disk: MemoryDisk): void {
  const log = logOf(disk);
  const [one, two] = log.records as [Rec, Rec];
  log.records = [
    { ...one, data: two.data },
    { ...two, data: one.data },
  ];
}

function snapshotFrom(disk: MemoryDisk, data: Uint8Array): void {
  const log = logOf(disk);
  log.snapshot = { ...(log.snapshot as Snapshot), data };
}
