import { describe, expect, it } from "vitest";
import { corpusOf, fuzzTargets } from "./fuzz-targets.js";

describe.each(fuzzTargets)("corpus of $name", (target) => {
  it("its seeds are accepted", async () => {
    const seeds = target.seeds();
    expect(seeds.length).toBeGreaterThan(0);
    for (const seed of seeds) expect(await target.run(seed), Buffer.from(seed).toString("latin1").slice(0, 80)).toBe(true);
  });

  it("every input ever kept does no harm", async () => {
    for (const [name, input] of corpusOf(target.name))
      await expect((async () => target.run(input))(), name).resolves.toBeTypeOf("boolean");
  });

  it("no seed cut short anywhere does harm", async () => {
    for (const seed of target.seeds()) {
      for (let length = 0; length < seed.length; length += Math.max(1, Math.floor(seed.length / 60)))
        await target.run(seed.subarray(0, length));
    }
  });
});
