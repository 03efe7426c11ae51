import { describe, expect, it } from "vitest";
import { silentLogger } from "../../src/io/index.js";
import { FanOut } from "../../src/rtsp/fan-out.js";

/** A fan-out for which a packet takes `cost` milliseconds; `turn` lets others have theirs. */
function setting(cost: number) {
  let now = 0;
  let timer: (() => void) | undefined;
  const sent: number[] = [];
  const warnings: unknown[] = [];
  const fanOut = new FanOut({
    clock: { now: () => now },
    timers: {
      after: (_milliseconds, callback) => {
        timer = callback;
        return { cancel: () => {} };
      },
      every: () => ({ cancel: () => {} }),
    },
    logger: { ...silentLogger, warn: (_message, fields) => warnings.push(fields) },
    send: (_track, packet) => {
      now += cost;
      sent.push(packet[0] as number);
    },
  });
  return {
    fanOut,
    sent,
    warnings,
    push: (...numbers: readonly number[]) => {
      // The source uses its memory again.
      const packet = new Uint8Array(1);
      for (const number of numbers) {
        packet[0] = number;
        fanOut.push(0, packet);
      }
    },
    turn: (milliseconds = 1): boolean => {
      now += milliseconds;
      const callback = timer;
      timer = undefined;
      callback?.();
      return callback !== undefined;
    },
  };
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

describe("the fan-out", () => {
  it("sends at once what costs nothing", () => {
    const { push, sent, turn } = setting(0);
    push(...upTo(200));
    expect(sent).toEqual(upTo(200));
    expect(turn()).toBe(false);
  });

  it("gives others their turn after a stretch of work, and keeps order", () => {
    const { push, sent, turn, warnings } = setting(10);
    push(...upTo(10));
    expect(sent).toEqual(upTo(3));
    turn();
    expect(sent).toEqual(upTo(6));
    push(10);
    expect(sent).toEqual(upTo(6));
    turn();
    turn();
    expect(sent).toEqual(upTo(11));
    expect(warnings).toEqual([]);
  });

  it("sends one packet a turn where one takes longer than a stretch", () => {
    const { push, sent, turn } = setting(40);
    push(...upTo(3));
    expect(sent).toEqual([0]);
    turn();
    turn();
    expect(sent).toEqual(upTo(3));
  });

  it("drops what is too late, and says so", () => {
    const { push, sent, turn, warnings } = setting(30);
    push(...upTo(100));
    turn(300);
    expect(sent).toEqual([0]);
    push(200);
    expect(sent).toEqual([0, 200]);
    expect(warnings).toEqual([{ dropped: 99 }]);
  });

  it("lets a bounded number wait, the newest", () => {
    const { push, sent, turn } = setting(30);
    for (let round = 0; round < 8; round++) push(...upTo(250));
    for (let turns = 0; turns < 5; turns++) turn();
    // The first at once; of 1999 others the last 1024 wait, and these begin with the 976th.
    expect(sent).toEqual([0, 226, 227, 228, 229, 230].slice(0, sent.length));
    expect(sent).toHaveLength(6);
  });

  it("that is closed sends nothing more", () => {
    const { fanOut, push, sent, turn } = setting(30);
    push(1, 2, 3);
    fanOut.close();
    turn();
    push(4);
    expect(sent).toEqual([1]);
  });
});
