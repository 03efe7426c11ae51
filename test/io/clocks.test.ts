import { describe, expect, it } from "vitest";
import { createAdvancingClock, createSteadiedClock } from "../../src/io/index.js";

/** A wall clock that can be set, and the time that passes. */
function createTime() {
  let [wall, passed] = [1_000_000, 50];
  return {
    clock: { now: () => wall },
    steady: { now: () => passed },
    pass: (milliseconds: number): void => {
      wall += milliseconds;
      passed += milliseconds;
    },
    set: (milliseconds: number): void => {
      wall += milliseconds;
    },
  };
}

describe("a wall clock that is set", () => {
  it("does not touch what lasts", () => {
    const { clock, steady, pass, set } = createTime();
    const steadied = createSteadiedClock(clock, steady);
    expect(steadied.now()).toBe(1_000_000);
    pass(10);
    set(5000);
    expect(steadied.now()).toBe(1_000_010);
    pass(10);
    set(-9000);
    expect(steadied.now()).toBe(1_000_020);
  });

  it("does not go back in messages, and follows the clock ahead", () => {
    const { clock, steady, pass, set } = createTime();
    const advancing = createAdvancingClock(clock, steady);
    set(5000);
    expect(advancing.now()).toBe(1_005_000);
    set(-8000);
    pass(10);
    expect(advancing.now()).toBe(1_005_010);
    set(8000);
    expect(advancing.now()).toBe(1_005_010);
    set(1);
    expect(advancing.now()).toBe(1_005_011);
  });
});
