import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createTokenBucket } from "../../src/io/index.js";

describe("a token bucket", () => {
  it("lets a burst through, and then what the rate fills in", () => {
    const clock = { time: 0, now: () => clock.time };
    const bucket = createTokenBucket(clock, { burst: 3, perSecond: 2 });
    const taken = (times: number): number => Array.from({ length: times }, () => bucket.take()).filter(Boolean).length;
    expect(taken(5)).toBe(3);
    clock.time = 499;
    expect(taken(5)).toBe(0);
    clock.time = 1000;
    expect(taken(5)).toBe(2);
    clock.time = 1_000_000;
    expect(taken(5)).toBe(3);
    clock.time = 0;
    expect(taken(5), "a clock that went back").toBe(0);
    clock.time = 500;
    expect(taken(5)).toBe(1);
  });

  it("never lets more through than burst and rate allow, whenever it is asked", () => {
    const steps = fc.array(fc.integer({ min: -500, max: 2000 }), { maxLength: 200 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }), (waits, burst, perSecond) => {
        const clock = { time: 0, now: () => clock.time };
        const bucket = createTokenBucket(clock, { burst, perSecond });
        let forward = 0;
        let taken = 0;
        for (const wait of waits) {
          clock.time += wait;
          forward += Math.max(0, wait);
          if (bucket.take()) taken++;
          expect(taken).toBeLessThanOrEqual(burst + (forward / 1000) * perSecond + 1e-6);
        }
      }),
    );
  });
});
