import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { formatHex } from "../../src/bytes/index.js";
import { steadyClock, systemClock, systemRandom, systemTimers } from "../../src/node/index.js";

describe("systemRandom", () => {
  it("gives the octets asked for, never the same ones, in memory of their own", () => {
    const drawn = Array.from({ length: 100 }, () => systemRandom.bytes(16));
    expect(new Set(drawn.map(formatHex)).size).toBe(100);
    expect(drawn.every((octets) => octets.length === 16 && octets.buffer.byteLength === 16)).toBe(true);
    expect(systemRandom.bytes(0).length).toBe(0);
  });
});

describe("clocks", () => {
  it("tell milliseconds since 1970, and milliseconds that never go back", () => {
    expect(systemClock.now()).toBeGreaterThan(1.7e12);
    const readings = Array.from({ length: 1000 }, () => steadyClock.now());
    expect(readings).toEqual([...readings].sort((a, b) => a - b));
  });
});

describe("systemTimers", () => {
  /** Something has to keep the process up while they run: they do not. */
  async function waitFor(condition: () => boolean): Promise<void> {
    await expect.poll(condition).toBe(true);
  }

  it("call once after, and again and again until cancelled", async () => {
    let once = 0;
    let often = 0;
    systemTimers.after(1, () => once++);
    const repeated = systemTimers.every(1, () => often++);
    await waitFor(() => once === 1 && often >= 3);
    repeated.cancel();
    repeated.cancel();
    const seen = often;
    let later = false;
    systemTimers.after(20, () => {
      later = true;
    });
    await waitFor(() => later);
    expect([once, often]).toEqual([1, seen]);
  });

  it("never call before the time, whatever this turn of the event loop has taken", async () => {
    const early: number[] = [];
    let called = 0;
    for (let round = 0; round < 10; round++) {
      const begun = steadyClock.now();
      while (steadyClock.now() < begun + 4);
      const due = steadyClock.now() + 5.5;
      systemTimers.after(5.5, () => {
        called++;
        if (steadyClock.now() < due) early.push(due - steadyClock.now());
      });
      await waitFor(() => called === round + 1);
    }
    expect(early).toEqual([]);
  });

  it("do not call what was cancelled", async () => {
    let called = false;
    systemTimers
      .after(1, () => {
        called = true;
      })
      .cancel();
    let later = false;
    systemTimers.after(20, () => {
      later = true;
    });
    await waitFor(() => later);
    expect(called).toBe(false);
  });

  it("do not keep a process alive", () => {
    const source = new URL("../../src/node/time.ts", import.meta.url);
    const program = `const { systemTimers } = await import(${JSON.stringify(source.href)}); systemTimers.after(60_000, () => {}); systemTimers.every(60_000, () => {});`;
    const result = spawnSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", program], { timeout: 20_000 });
    expect(result.status).toBe(0);
  });
});
