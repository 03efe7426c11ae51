import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { utf8, type WatchwordError } from "../../src/bytes/index.js";
import {
  MemoryDisk,
  NO_VERSION,
  openSealedStore,
  openWitnessedStore,
  type Rec,
  type Store,
  type Ver,
  type WitnessedStore,
} from "../../src/store/index.js";
import { describeStore } from "../suites/store.js";
import { createFaultyStore, createMemoryRig } from "./rigs.js";

const GROUP = "sip:team@example.org";

describeStore("beside a witness", async () => {
  const { open, advance, random } = createMemoryRig();
  const [disk, outside] = [new MemoryDisk(), new MemoryDisk()];
  return { open: () => openWitnessedStore(open(disk), open(outside), { random }), advance, dispose: async () => {} };
});

describeStore("sealed, beside a witness", async () => {
  const { open, advance, random } = createMemoryRig();
  const [disk, outside] = [new MemoryDisk(), new MemoryDisk()];
  const key = new Uint8Array(32).fill(1);
  return {
    open: async () => openSealedStore(await openWitnessedStore(open(disk), open(outside), { random }), key),
    advance,
    dispose: async () => {},
  };
});

function rig(seed = 1) {
  const { open, random } = createMemoryRig(seed);
  const [disk, outside] = [new MemoryDisk(), new MemoryDisk()];
  return {
    disk,
    outside,
    witnessed: (store = disk, witness = outside): Promise<WitnessedStore> =>
      openWitnessedStore(open(store), open(witness), { random }),
    open,
    random,
  };
}

async function add(store: Store, count = 1): Promise<Ver> {
  let head = await store.head(GROUP);
  let ver = head?.ver ?? NO_VERSION;
  for (let i = 0; i < count; i++) {
    const gseq = (head?.gseq ?? 0) + 1;
    ver = await store.append(GROUP, ver, { gseq, id: `${gseq}`, data: utf8(`${gseq}`) });
    head = await store.head(GROUP);
  }
  return ver;
}

describe("a witness", () => {
  it("finds nothing to say where nothing was lost", async () => {
    const { witnessed } = rig();
    const first = await witnessed();
    expect(first.regression).toBeUndefined();
    await add(first, 5);
    await first.close();
    for (let i = 0; i < 3; i++) {
      const again = await witnessed();
      expect(again.regression).toBeUndefined();
      await add(again);
      await again.close();
    }
  });

  it("sees that a backup was restored, by a single record", async () => {
    const { disk, witnessed } = rig();
    const store = await witnessed();
    await add(store, 3);
    const backup = disk.copy();
    const lost = await add(store);
    await store.close();
    const restored = await witnessed(backup);
    expect(restored.regression).toEqual({ kind: "older", witnessed: lost, found: lost - 1n });
  });

  it("sees every restored backup, whenever it was made and whatever was done then and after", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(3), { minLength: 1, maxLength: 12 }), fc.nat(11), async (steps, at) => {
        const { disk, witnessed } = rig();
        const store = await witnessed();
        let backup = disk.copy();
        let later = 0;
        for (const [i, step] of steps.entries()) {
          if (i === at) [backup, later] = [disk.copy(), 0];
          if (step === 0) await store.claim(`${i}`, "1h");
          else if (step === 1 && (await store.head(GROUP)) !== null) {
            await store.putSnapshot(GROUP, ((await store.head(GROUP)) as Rec).ver, utf8("state"));
          } else later += Number((await add(store)) > NO_VERSION);
        }
        expect((await witnessed(backup)).regression?.kind).toBe(later > 0 ? "older" : undefined);
      }),
      { numRuns: 40 },
    );
  });

  it("says so at every opening, until the regression is accepted", async () => {
    const { disk, witnessed } = rig();
    const store = await witnessed();
    const backup = disk.copy();
    const lost = await add(store, 4);
    await store.close();
    for (let i = 0; i < 3; i++) {
      const restored = await witnessed(backup);
      expect(restored.regression).toMatchObject({ kind: "older", witnessed: lost });
      // The store grows beyond what was lost: that heals nothing.
      await add(restored, 3);
      await restored.close();
    }
    const accepting = await witnessed(backup);
    await accepting.acceptRegression();
    expect(accepting.regression).toBeUndefined();
    const after = backup.copy();
    await add(accepting, 2);
    await accepting.close();
    expect((await witnessed(backup)).regression).toBeUndefined();
    expect((await witnessed(after)).regression?.kind).toBe("older");
  });

  it("witnesses for those who were open before another one accepted", async () => {
    const { disk, witnessed } = rig();
    const store = await witnessed();
    const backup = disk.copy();
    await add(store, 4);
    const [one, two] = [await witnessed(backup), await witnessed(backup)];
    await one.acceptRegression();
    const before = backup.copy();
    await add(two);
    expect((await witnessed(before)).regression?.kind).toBe("older");
  });

  it("sees another store in place of its own, and one that it does not know", async () => {
    const { witnessed } = rig();
    await add(await witnessed(), 2);
    const other = rig(2);
    await add(await other.witnessed(), 30);
    expect((await witnessed(other.disk)).regression?.kind).toBe("another");
    const unknown = rig(3);
    await add(await unknown.witnessed(), 1);
    expect((await unknown.witnessed(unknown.disk, new MemoryDisk())).regression?.kind).toBe("unwitnessed");
    expect((await witnessed(new MemoryDisk())).regression?.kind).toBe("another");
  });

  it("lets nothing be acknowledged or seen that it does not know", async () => {
    const { disk, outside, open, random, witnessed } = rig();
    const faulty = createFaultyStore(open(outside));
    const store = await openWitnessedStore(open(disk), faulty, { random });
    await add(store);
    const backup = disk.copy();
    const head = (await store.head(GROUP)) as Rec;
    const record = { gseq: 2, id: "two", data: utf8("two") };
    faulty.faults.push("before");
    await expect(store.append(GROUP, head.ver, record)).rejects.toMatchObject({ code: "store.ambiguous" });
    // The record is there, but nobody learned of it: to lose it is no regression.
    expect((await witnessed(backup.copy())).regression).toBeUndefined();
    faulty.faults.push("before");
    await expect(store.head(GROUP)).rejects.toMatchObject({ code: "store.ambiguous" });
    const again = await store.append(GROUP, head.ver, record);
    expect((await store.head(GROUP))?.ver).toBe(again);
    expect((await witnessed(backup)).regression).toMatchObject({ kind: "older", witnessed: again });
  });

  it("shares its commits among the appends under way, and stays small", async () => {
    const { outside, witnessed } = rig();
    const store = await witnessed();
    await Promise.all(
      Array.from({ length: 100 }, (_, i) => store.append(`g${i}`, NO_VERSION, { gseq: 1, id: "a", data: new Uint8Array(1) })),
    );
    expect(outside.latest).toBeLessThan(20n);
    await add(store, 1000);
    expect(outside.logs.get(".witness")?.records.length).toBeLessThan(300);
  });

  it("is kept right by two processes", async () => {
    const { disk, outside, witnessed } = rig();
    const stores = [await witnessed(), await witnessed()] as const;
    for (let i = 0; i < 40; i++) {
      const backup = disk.copy();
      const appended = await Promise.all(
        stores.map((store, s) => store.append(`log ${s} ${i}`, NO_VERSION, { gseq: 1, id: "a", data: new Uint8Array(1) })),
      );
      const last = appended.reduce((a, b) => (a > b ? a : b));
      const restored = await witnessed(backup, outside.copy());
      expect(restored.regression).toMatchObject({ kind: "older", witnessed: last });
      expect((await witnessed(disk.copy(), outside.copy())).regression).toBeUndefined();
    }
  });

  it.each([[""], ["01"], ["0200"], [`0109${"00".repeat(16)}6161`], [`0100${"00".repeat(16)}ff`]])(
    "refuses a witness that says %s",
    async (hex) => {
      const { disk, outside, open, witnessed } = rig();
      await open(outside).append(".witness", NO_VERSION, { gseq: 1, id: "a", data: Uint8Array.from(Buffer.from(hex, "hex")) });
      expect(await witnessed(disk).catch((error: WatchwordError) => error.code)).toBe("store.corrupt");
    },
  );
});
