import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createExpulsions, MemoryDisk, NO_VERSION } from "../../src/store/index.js";
import { createFaultyStore, createMemoryRig } from "./rigs.js";

const GROUP = "sip:team@example.org";

function rig() {
  const { open, random } = createMemoryRig();
  const [disk, outside] = [new MemoryDisk(), new MemoryDisk()];
  return {
    open,
    random,
    disk,
    outside,
    start: (main = disk, other = outside) => createExpulsions([open(main), open(other)], { random }),
  };
}

describe("expulsions", () => {
  it("hold for one group, until they are taken back", async () => {
    const { start } = rig();
    const expulsions = start();
    expect(await expulsions.isExpelled(GROUP, "mallory")).toBe(false);
    await expulsions.expel(GROUP, "mallory");
    await expulsions.expel(GROUP, "mallory");
    await expulsions.expel(GROUP, "eve");
    expect(await expulsions.isExpelled(GROUP, "mallory")).toBe(true);
    expect(await expulsions.isExpelled("another", "mallory")).toBe(false);
    expect(await expulsions.expelled(GROUP)).toEqual(new Set(["mallory", "eve"]));
    await expulsions.readmit(GROUP, "mallory");
    expect(await expulsions.expelled(GROUP)).toEqual(new Set(["eve"]));
    expect(await start().expelled(GROUP)).toEqual(new Set(["eve"]));
  });

  it("outlive a backup of either store", async () => {
    const { disk, outside, start } = rig();
    const expulsions = start();
    await expulsions.expel(GROUP, "before");
    const [backup, otherBackup] = [disk.copy(), outside.copy()];
    await expulsions.expel(GROUP, "after");
    await expulsions.readmit(GROUP, "before");
    for (const [main, other] of [
      [backup, outside.copy()],
      [disk.copy(), otherBackup],
      [new MemoryDisk(), outside.copy()],
      [disk.copy(), new MemoryDisk()],
    ] as const) {
      expect(await start(main, other).expelled(GROUP)).toEqual(new Set(["after"]));
      // What one lacked was written to it again: it knows by itself now.
      for (const one of [main, other]) expect(await start(one, one.copy()).expelled(GROUP)).toEqual(new Set(["after"]));
    }
  });

  it("are known to a controller that was open before another one expelled", async () => {
    const { start } = rig();
    const [one, two] = [start(), start()];
    await one.expel(GROUP, "a");
    expect(await two.isExpelled(GROUP, "a")).toBe(true);
    await Promise.all([one.expel(GROUP, "b"), two.expel(GROUP, "c"), two.expel(GROUP, "d"), one.readmit(GROUP, "a")]);
    for (const expulsions of [one, two, start()]) {
      expect([...(await expulsions.expelled(GROUP))].sort()).toEqual(["b", "c", "d"]);
    }
  });

  it("are in the store that outlives the other before they are acknowledged", async () => {
    const { open, random, disk, outside, start } = rig();
    const main = createFaultyStore(open(disk));
    const expulsions = createExpulsions([main, open(outside)], { random });
    main.faults.push("before");
    await expect(expulsions.expel(GROUP, "mallory")).rejects.toMatchObject({ code: "store.ambiguous" });
    expect(await start(new MemoryDisk(), outside).isExpelled(GROUP, "mallory")).toBe(true);
    expect(await start().isExpelled(GROUP, "mallory")).toBe(true);
    expect(disk.logs.get(`.expelled/${GROUP}`)?.records).toHaveLength(1);
  });

  it("agree with their model over backups, faults and many changes", async () => {
    const step = fc.record({
      member: fc.nat(5),
      expelled: fc.boolean(),
      restore: fc.constantFrom(undefined, undefined, undefined, "main" as const, "outside" as const),
      restart: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const { start, disk, outside } = rig();
        let [main, other] = [disk, outside];
        let expulsions = start(main, other);
        const model = new Map<string, boolean>();
        for (const { member, expelled, restore, restart } of steps) {
          const backups = [main.copy(), other.copy()] as const;
          const name = `member ${member}`;
          await (expelled ? expulsions.expel(GROUP, name) : expulsions.readmit(GROUP, name));
          model.set(name, expelled);
          if (restore === "main") main = backups[0];
          if (restore === "outside") other = backups[1];
          if (restore !== undefined || restart) expulsions = start(main, other);
          const expected = [...model].filter(([, gone]) => gone).map(([gone]) => gone);
          expect([...(await expulsions.expelled(GROUP))].sort()).toEqual(expected.sort());
        }
      }),
      { numRuns: 50 },
    );
  });

  it("keep a short log", async () => {
    const { disk, outside, start } = rig();
    const expulsions = start();
    for (let i = 0; i < 600; i++) {
      if (i % 2 === 0) await expulsions.expel(GROUP, `member ${i % 40}`);
      else await expulsions.readmit(GROUP, `member ${(i + 20) % 40}`);
      await expulsions.expel(GROUP, "always");
    }
    for (const { logs } of [disk, outside]) expect(logs.get(`.expelled/${GROUP}`)?.records.length).toBeLessThanOrEqual(257);
    const before = await expulsions.expelled(GROUP);
    expect(before.has("always")).toBe(true);
    expect(await start().expelled(GROUP)).toEqual(before);
  });

  it("refuse what is no name and no record of theirs", async () => {
    const { start, open, disk } = rig();
    const expulsions = start();
    for (const member of ["", "a\nb", "x".repeat(513)]) {
      await expect(expulsions.expel(GROUP, member)).rejects.toMatchObject({ code: "store.name" });
      await expect(expulsions.isExpelled(GROUP, member)).rejects.toMatchObject({ code: "store.name" });
    }
    for (const data of [[], [2], [1, 1], [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 5, 65], [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0xff]]) {
      const group = `group ${data}`;
      const record = { gseq: 1, id: "a", data: Uint8Array.from(data) };
      await open(disk).append(`.expelled/${group}`, NO_VERSION, record);
      await expect(expulsions.expelled(group)).rejects.toMatchObject({ code: "store.corrupt" });
    }
  });
});
