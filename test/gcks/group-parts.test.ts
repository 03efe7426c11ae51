import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WatchwordError } from "../../src/bytes/index.js";
import { GroupLog } from "../../src/gcks/group-log.js";
import { GroupParts } from "../../src/gcks/group-parts.js";
import { readGroupDefinition } from "../../src/gcks/index.js";
import { encodeBirth, encodeStep } from "../../src/gcks/ledger.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { createMemoryStore, MemoryDisk, NO_VERSION, openSealedStore, type Store, type Ver } from "../../src/store/index.js";
import { definition, uri } from "../group/rig.js";
import { createMemoryRig } from "../store/rigs.js";

const LOG = "group/blue";
const PARTS = "parts/blue";

/** A log with a record, and where its snapshots go. @param fails whether a change of the store fails: before it happens, after, or not at all */
async function createLog(fails: () => "before" | "after" | undefined = () => undefined) {
  const store = await openSealedStore(createMemoryRig().open(), new Uint8Array(32), { crypto: nodeCrypto });
  let gseq = 0;
  let ver = NO_VERSION;
  const record = async () => {
    gseq++;
    ver = await store.append(LOG, ver, { gseq, id: String(gseq), data: Uint8Array.of(1) });
    return ver;
  };
  const faulty =
    (change: (...given: never[]) => Promise<unknown>) =>
    async (...given: never[]): Promise<unknown> => {
      const fault = fails();
      if (fault === "before") throw new WatchwordError("store.unavailable", "the disk is full");
      const done = await change(...given);
      if (fault === "after") throw new WatchwordError("store.ambiguous", "nobody knows");
      return done;
    };
  const failing = new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return name === "append" || name === "putSnapshot" ? faulty(value.bind(target)) : value.bind(target);
    },
  }) as Store;
  const all = new GroupParts({ crypto: nodeCrypto, store: failing, partOctets: 10 }, "blue");
  const snapshots = {
    put: (at: Ver, data: Uint8Array) => all.supersede(data, (kept) => failing.putSnapshot(LOG, at, kept)),
    async get() {
      const found = await store.getSnapshot(LOG);
      return found === null ? null : { at: found.at, data: await all.get(found.data) };
    },
  };
  const parts = async (): Promise<number> => {
    let count = 0;
    const at = (await store.getSnapshot(PARTS))?.at ?? NO_VERSION;
    for await (const { data } of store.read(PARTS, at)) count += data.length === 0 ? 0 : 1;
    return count;
  };
  return { store, snapshots, record, parts };
}

const octets = (length: number, first: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i === 0 ? first : i));

describe("snapshots of a group", () => {
  it("come back whole, whatever their length, the newest in place of the one before", async () => {
    const { snapshots, record, parts } = await createLog();
    expect(await snapshots.get()).toBeNull();
    for (const length of [9, 10, 11, 100, 101, 5, 25, 10]) {
      const at = await record();
      await snapshots.put(at, octets(length, 2));
      expect(await snapshots.get()).toMatchObject({ at, data: octets(length, 2) });
      expect(await parts()).toBe(length > 10 ? Math.ceil(length / 10) : 0);
    }
  });

  it("are the one before or the new one where the store failed on the way", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.tuple(
            fc.integer({ min: 1, max: 60 }),
            fc.option(fc.tuple(fc.nat(8), fc.constantFrom("before" as const, "after" as const))),
          ),
          {
            minLength: 1,
            maxLength: 8,
          },
        ),
        async (puts) => {
          let [calls, fault] = [0, undefined as (typeof puts)[number][1] | undefined];
          const { snapshots, record, parts } = await createLog(() => (fault?.[0] === calls++ ? fault[1] : undefined));
          let possible: readonly (Uint8Array | undefined)[] = [undefined];
          for (const [index, [length, wanted]] of puts.entries()) {
            const data = octets(length, index);
            [calls, fault] = [0, wanted];
            const done = await snapshots.put(await record(), data).then(
              () => true,
              () => false,
            );
            fault = undefined;
            possible = done ? [data] : [...possible, data];
            expect(possible).toContainEqual((await snapshots.get())?.data);
          }
          // What was left on the way goes with the next one.
          await snapshots.put(await record(), octets(31, 9));
          await snapshots.put(await record(), octets(31, 9));
          expect(await parts()).toBe(4);
        },
      ),
      { numRuns: 200 },
    );
  });

  it("are refused where a part is missing", async () => {
    const { store, snapshots, record } = await createLog();
    await snapshots.put(await record(), octets(31, 2));
    const head = await store.head(PARTS);
    await store.putSnapshot(PARTS, head?.ver ?? NO_VERSION, new Uint8Array(0));
    await expect(snapshots.get()).rejects.toMatchObject({ code: expect.stringMatching(/^(?:store\.dropped|gcks\.ledger)$/) });
  });
});

describe("the log of a group", () => {
  it("takes records and snapshots that are longer than a part", async () => {
    const { clock, timers } = createSimulatedNetwork();
    let jump = 0;
    const disk = new MemoryDisk();
    const context = {
      crypto: nodeCrypto,
      store: createMemoryStore({ clock, timers, disk }),
      clock: { now: () => clock.now() + jump },
      steady: clock,
      partOctets: 256,
    };
    const group = readGroupDefinition(definition());
    const birth = { csbId: 5, rand: octets(32, 1), ssrcKey: octets(32, 2) };
    const numbers = Array.from({ length: 40 }, (_, index) => index + 1);
    const admit = numbers.map((number) => ({
      identity: uri(`sip:${number}@example.org`),
      role: { send: false, receive: true },
      ssrcs: [number],
    }));
    const step = {
      at: clock.now(),
      admit,
      numbers,
      rekey: { sequence: 1, seed: "07".repeat(32), dataKeys: [{ dataSa: 1, mki: 1 }] },
    };
    const packets = [octets(1200, 3), octets(700, 4)];
    const log = new GroupLog(context, group);
    await log.append(encodeBirth(birth, []));
    await log.append(encodeStep(step, packets));
    const loaded = await new GroupLog(context, group).load();
    expect(loaded?.state.members.size).toBe(40);
    expect(loaded?.packets).toEqual(packets);
    // A clock that was set has a snapshot made.
    jump = 3_600_000;
    await log.snapshotIfDue(loaded?.state ?? expect.unreachable(), async () => undefined);
    expect((await context.store.getSnapshot(LOG))?.data.length).toBe(13);
    await log.append(encodeStep({ at: clock.now(), lapse: [1] }, packets));
    const again = await new GroupLog(context, group).load();
    expect(again?.state.members.size).toBe(40);
    expect(again?.packets).toEqual(packets);
  });
});
