import { describe, expect, it } from "vitest";
import { crashRounds } from "./gcks-crash/rounds.js";

const SMALL = { members: 8, atOnce: 4 };

describe("a key server that is killed under load", { timeout: 120_000 }, () => {
  it("loses nothing that it acknowledged and uses no number twice; members follow, also after a backup was restored", async () => {
    const { failures, counts, spoken, heard, replaysRefused } = await crashRounds({
      ...SMALL,
      rounds: 3,
      least: 15,
      operations: 40,
      restores: true,
    });
    expect(failures).toEqual([]);
    expect(counts.admissions).toBeGreaterThan(5);
    expect(counts.messages).toBeGreaterThan(5);
    expect(spoken).toBeGreaterThan(0);
    expect(heard).toBeGreaterThan(0);
    expect(replaysRefused).toBeGreaterThan(0);
  });

  it("is caught by the witness where it forgets", async () => {
    const { failures } = await crashRounds({ ...SMALL, rounds: 1, least: 30, operations: 40, forgetful: true });
    expect(failures).toContainEqual(expect.stringMatching(/^(?:blue|red): the admission of \S+ is lost$/));
  });
});
