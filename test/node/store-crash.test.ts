import { expect, it } from "vitest";
import { crashStore } from "./store-soak.js";

it("loses nothing that was acknowledged when processes on one store are killed under load", { timeout: 120_000 }, async () => {
  const { kills, failures, ...acknowledged } = await crashStore({ rounds: 3, processes: 2 });
  expect(failures).toEqual([]);
  expect(kills).toBe(6);
  for (const [what, count] of Object.entries(acknowledged)) expect(count, what).toBeGreaterThan(0);
});
