import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createReservations, MemoryDisk, NO_VERSION, openSealedStore } from "../../src/store/index.js";
import { createFaultyStore, createMemoryRig, type Fault } from "./rigs.js";

const GROUP = "sip:team@example.org";

describe("reserved numbers", () => {
  it("begin at 1 and follow each other, for each group and name apart", async () => {
    const { open, random } = createMemoryRig();
    const numbers = createReservations(open(), { random });
    expect(await numbers.reserve(GROUP, "spi")).toBe(1);
    expect(await numbers.reserve(GROUP, "spi", 5)).toBe(2);
    expect(await numbers.reserve(GROUP, "spi")).toBe(7);
    expect(await numbers.reserve(GROUP, "ssrc", 1000)).toBe(1);
    expect(await numbers.reserve(GROUP, "ssrc")).toBe(1001);
    expect(await numbers.reserve("another", "spi")).toBe(1);
  });

  it("go on above everything that was reserved, whoever reserves and however often it is restarted", async () => {
    const step = fc.record({
      by: fc.nat(2),
      count: fc.integer({ min: 1, max: 200 }),
      restart: fc.boolean(),
      fault: fc.constantFrom<Fault | undefined>("before", "after", undefined, undefined),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 100 }), async (steps, ahead) => {
        const { open, random } = createMemoryRig();
        const disk = new MemoryDisk();
        const start = () => {
          const store = createFaultyStore(open(disk));
          return { store, numbers: createReservations(store, { random, ahead }) };
        };
        const processes = [start(), start(), start()];
        const given = new Set<number>();
        for (const { by, count, restart, fault } of steps) {
          if (restart) processes[by] = start();
          const { store, numbers } = processes[by] as ReturnType<typeof start>;
          store.faults.splice(0, 1, fault);
          const first = await numbers.reserve(GROUP, "spi", count).catch((error: { code: string }) => error.code);
          if (typeof first === "string") {
            expect(first).toBe("store.ambiguous");
            continue;
          }
          const mark = disk.logs.get(`.mark/spi/${GROUP}`)?.records.at(-1)?.gseq as number;
          expect(first + count - 1).toBeLessThanOrEqual(mark);
          for (let i = first; i < first + count; i++) {
            expect(given.has(i)).toBe(false);
            given.add(i);
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it("are given out once to many who ask at once", async () => {
    const { open, random } = createMemoryRig();
    const disk = new MemoryDisk();
    const all = [1, 2, 3].map(() => createReservations(open(disk), { random, ahead: 3 }));
    const given = await Promise.all(
      Array.from({ length: 300 }, (_, i) => (all[i % 3] as (typeof all)[0]).reserve(GROUP, "mki", 2)),
    );
    const numbers = given.flatMap((first) => [first, first + 1]);
    expect(new Set(numbers).size).toBe(600);
  });

  it("skip what a regression may have taken", async () => {
    const { open, random } = createMemoryRig();
    const numbers = createReservations(open(), { random, ahead: 10 });
    expect(await numbers.reserve(GROUP, "spi")).toBe(1);
    await numbers.skip(GROUP, "spi", 65_536);
    expect(await numbers.reserve(GROUP, "spi")).toBe(10 + 65_536 + 1);
    await numbers.skip("fresh", "spi", 5);
    expect(await numbers.reserve("fresh", "spi")).toBe(6);
  });

  it("come to an end, and never round it", async () => {
    const { open, random } = createMemoryRig();
    const numbers = createReservations(open(), { random, ahead: 64, limit: 100 });
    expect(await numbers.reserve(GROUP, "ssrc", 90)).toBe(1);
    expect(await numbers.reserve(GROUP, "ssrc", 10)).toBe(91);
    const exhausted = { code: "store.exhausted" };
    await expect(numbers.reserve(GROUP, "ssrc")).rejects.toMatchObject(exhausted);
    await expect(numbers.skip(GROUP, "ssrc", 1)).rejects.toMatchObject(exhausted);
  });

  it("keep a short log, whose marks are authentic in a sealed store", async () => {
    const { open, random } = createMemoryRig();
    const disk = new MemoryDisk();
    const key = new Uint8Array(32).fill(1);
    const numbers = createReservations(await openSealedStore(open(disk), key), { random, ahead: 1 });
    for (let i = 1; i <= 300; i++) expect(await numbers.reserve(GROUP, "spi")).toBe(i);
    const log = disk.logs.get(`.mark/spi/${GROUP}`);
    expect(log?.records.length).toBeLessThanOrEqual(65);
    const mark = log?.records.at(-1);
    log?.records.splice(-1, 1, { ...(mark as NonNullable<typeof mark>), gseq: 5 });
    const reopened = createReservations(await openSealedStore(open(disk), key), { random, ahead: 1 });
    await expect(reopened.reserve(GROUP, "spi")).rejects.toMatchObject({ code: "store.corrupt" });
  });

  it.each([
    ["spi", 0],
    ["spi", -1],
    ["spi", 1.5],
    ["spi", 2 ** 32],
    ["", 1],
    ["a/b", 1],
    ["x".repeat(65), 1],
  ])("refuse the name %j with the count %d", async (name, count) => {
    const { open, random } = createMemoryRig();
    const store = open();
    await expect(createReservations(store, { random }).reserve(GROUP, name, count)).rejects.toMatchObject({ code: "store.option" });
    expect(await store.latest()).toBe(NO_VERSION);
  });
});
