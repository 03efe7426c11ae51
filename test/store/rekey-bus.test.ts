import { describe, expect, it } from "vitest";
import { utf8, utf8Text } from "../../src/bytes/index.js";
import { createRekeyBus, MemoryDisk, type Rekey } from "../../src/store/index.js";
import { createFaultyStore, createMemoryRig } from "./rigs.js";

const GROUP = "sip:team@example.org";

function texts(rekeys: readonly Rekey[]): string[] {
  return rekeys.map(({ rseq, message }) => `${rseq} ${utf8Text(message)}`);
}

async function settle(): Promise<void> {
  for (let i = 0; i < 50; i++) await Promise.resolve();
}

describe("the rekey log", () => {
  it("gives back what went out, from any number on", async () => {
    const { open } = createMemoryRig();
    const bus = createRekeyBus(open());
    expect(await bus.readFrom(GROUP, 0, 10)).toEqual([]);
    for (const rseq of [3, 4, 6, 70_000]) await bus.publish(GROUP, rseq, utf8(`m${rseq}`));
    await bus.publish("another", 1, utf8("x"));
    expect(texts(await bus.readFrom(GROUP, 0, 10))).toEqual(["3 m3", "4 m4", "6 m6", "70000 m70000"]);
    expect(texts(await bus.readFrom(GROUP, 4, 2))).toEqual(["4 m4", "6 m6"]);
    expect(texts(await bus.readFrom(GROUP, 5, 1))).toEqual(["6 m6"]);
    expect(await bus.readFrom(GROUP, 70_001, 5)).toEqual([]);
    expect(await bus.readFrom(GROUP, 3, 0)).toEqual([]);
  });

  it("takes a message once, however often and by however many it is projected", async () => {
    const { open } = createMemoryRig();
    const disk = new MemoryDisk();
    const [one, two] = [createRekeyBus(open(disk)), createRekeyBus(open(disk))];
    for (let rseq = 1; rseq <= 20; rseq++) {
      await Promise.all([one, two, one].map((bus) => bus.publish(GROUP, rseq, utf8(`m${rseq}`))));
    }
    for (let rseq = 1; rseq <= 20; rseq++) await two.publish(GROUP, rseq, utf8(`m${rseq}`));
    expect(disk.logs.get(`.rekey/${GROUP}`)?.records).toHaveLength(20);
    expect(texts(await two.readFrom(GROUP, 19, 9))).toEqual(["19 m19", "20 m20"]);
  });

  it("does not take two messages under one number, nor one that comes after a later one", async () => {
    const { open } = createMemoryRig();
    const bus = createRekeyBus(open());
    await bus.publish(GROUP, 1, utf8("one"));
    await bus.publish(GROUP, 3, utf8("three"));
    await expect(bus.publish(GROUP, 1, utf8("other"))).rejects.toMatchObject({ code: "store.conflict" });
    await expect(bus.publish(GROUP, 2, utf8("two"))).rejects.toMatchObject({ code: "store.sequence" });
    await expect(bus.publish(GROUP, 0, utf8("nought"))).rejects.toMatchObject({ code: "store.sequence" });
    await expect(bus.publish("another", -1, utf8("two"))).rejects.toMatchObject({ code: "store.sequence" });
  });

  it("can be published again after nobody knew whether it was", async () => {
    const { open } = createMemoryRig();
    const store = createFaultyStore(open());
    const bus = createRekeyBus(store);
    for (const fault of ["before", "after"] as const) {
      store.faults.push(fault);
      await expect(bus.publish(fault, 1, utf8("m"))).rejects.toMatchObject({ code: "store.ambiguous" });
      await bus.publish(fault, 1, utf8("m"));
      expect(texts(await bus.readFrom(fault, 0, 9))).toEqual(["1 m"]);
    }
  });

  it("keeps the newest messages, and takes older ones at their word", async () => {
    const { open } = createMemoryRig();
    const disk = new MemoryDisk();
    const [one, two] = [createRekeyBus(open(disk), { keep: 8 }), createRekeyBus(open(disk), { keep: 8 })];
    await two.readFrom(GROUP, 0, 1);
    for (let rseq = 1; rseq <= 50; rseq++) {
      await one.publish(GROUP, rseq, utf8(`m${rseq}`));
      if (rseq === 5) expect(await two.readFrom(GROUP, 0, 100)).toHaveLength(5);
      const kept = await one.readFrom(GROUP, 0, 100);
      expect(kept.at(-1)?.rseq).toBe(rseq);
      expect(kept.length).toBeGreaterThanOrEqual(Math.min(rseq, 8));
      expect(kept.length).toBeLessThanOrEqual(10);
    }
    for (const bus of [two, createRekeyBus(open(disk))]) {
      expect((await bus.readFrom(GROUP, 0, 100)).at(-1)?.rseq).toBe(50);
      expect(texts(await bus.readFrom(GROUP, 49, 1))).toEqual(["49 m49"]);
      await bus.publish(GROUP, 2, utf8("m2"));
    }
  });

  it("tells subscribers of what comes, until they have had enough", async () => {
    const { open, advance } = createMemoryRig();
    const disk = new MemoryDisk();
    const [bus, other] = [createRekeyBus(open(disk)), createRekeyBus(open(disk))];
    await bus.publish(GROUP, 1, utf8("before"));
    const [seen, alsoSeen]: [Rekey[], Rekey[]] = [[], []];
    const end = bus.subscribe(GROUP, (rekey) => seen.push(rekey));
    const alsoEnd = other.subscribe(GROUP, (rekey) => alsoSeen.push(rekey));
    for (const rseq of [2, 3]) await bus.publish(GROUP, rseq, utf8(`m${rseq}`));
    await bus.publish("another", 9, utf8("x"));
    await settle();
    end();
    await other.publish(GROUP, 4, utf8("m4"));
    await advance(10);
    await settle();
    alsoEnd();
    expect(texts(seen)).toEqual(["2 m2", "3 m3"]);
    expect(texts(alsoSeen)).toEqual(["2 m2", "3 m3", "4 m4"]);
  });

  it("lets a slow subscriber see a gap, and says when a subscription fails", async () => {
    const { open } = createMemoryRig();
    const store = open();
    const errors: unknown[] = [];
    const bus = createRekeyBus(store, { keep: 4, onError: (group, error) => errors.push([group, error]) });
    const seen: number[] = [];
    bus.subscribe(GROUP, ({ rseq }) => seen.push(rseq));
    // All at once: the subscriber has its turn when most are gone again.
    const publishing = [];
    for (let rseq = 1; rseq <= 40; rseq++) publishing.push(bus.publish(GROUP, rseq, utf8("m")).catch(() => undefined));
    await Promise.all(publishing);
    for (let rseq = 41; rseq <= 45; rseq++) await bus.publish(GROUP, rseq, utf8("m"));
    await settle();
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen.at(-1)).toBe(45);
    expect(errors).toEqual([]);
    await store.close();
    await settle();
    expect(errors).toMatchObject([[GROUP, { code: "store.closed" }]]);
  });
});
