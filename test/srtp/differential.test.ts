import { expect, it } from "vitest";
import { runDifferential } from "./differential.js";

it("random packets come to the same in every backend, one by one, in batches and in slots", () => {
  const report = runDifferential(3000, 7);
  expect(report.opened).toBeGreaterThan(1500);
  expect(report.refused).toBeGreaterThan(100);
});

it("a negative index in a batch is a replay, as it is alone", () => {
  expect(runDifferential(1, 20261903).scenarios).toBe(1);
});
