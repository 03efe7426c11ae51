import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { untilStopped } from "../../src/cli/lifetime.js";

const DAY = 24 * 3600;

/** What ended the wait so far. */
async function reason(over: Promise<string>): Promise<string | undefined> {
  return Promise.race([over, Promise.resolve(undefined)]);
}

describe("how long a command runs", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("is for ever where no time is given: a server does not stop after the longest timer of the platform", async () => {
    const waiting = untilStopped();
    await vi.advanceTimersByTimeAsync(100 * DAY * 1000);
    expect(await reason(waiting.over)).toBeUndefined();
    waiting.cancel();
    expect(vi.getTimerCount()).toBe(0);
  });

  it.each([2, DAY, 24 * DAY, 25 * DAY, 80 * DAY])("is %i s where that is given, and not less", async (seconds) => {
    const waiting = untilStopped(seconds);
    await vi.advanceTimersByTimeAsync(seconds * 1000 - 1);
    expect(await reason(waiting.over)).toBeUndefined();
    await vi.advanceTimersByTimeAsync(1);
    expect(await reason(waiting.over)).toBe("time");
    waiting.cancel();
    expect(vi.getTimerCount()).toBe(0);
  });
});
