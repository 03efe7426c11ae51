import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatHex, parseHex } from "../../src/bytes/index.js";
import {
  checkTimestamp,
  createTimestampSource,
  decodeNtp,
  encodeNtp,
  isNewer,
  MikeyError,
  TimestampType,
  timestamp64,
} from "../../src/mikey/index.js";

const { NTP_UTC, NTP, COUNTER, NTP_UTC_32 } = TimestampType;
/** 2036-02-07T06:28:16Z, where the NTP seconds begin again. */
const ROLLOVER = Date.UTC(2036, 1, 7, 6, 28, 16);

describe("NTP timestamps", () => {
  it.each([
    [Date.UTC(1970, 0, 1), "83aa7e8000000000"],
    [Date.UTC(2006, 9, 20, 13, 43, 6), "c8e350ea00000000"],
    [Date.UTC(1970, 0, 1) + 500, "83aa7e8080000000"],
    [ROLLOVER - 1000, "ffffffff00000000"],
    [ROLLOVER, "0000000000000000"],
    [ROLLOVER + 1000, "0000000100000000"],
  ])("%d is %s", (time, hex) => {
    expect(formatHex(encodeNtp(time))).toBe(hex);
    expect(decodeNtp(parseHex(hex), time + 86_400_000)).toBe(time);
  });

  it("come back from any time within 68 years of the clock", () => {
    const span = 68 * 365 * 86_400_000;
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 200 * 365 * 86_400_000 }), fc.integer({ min: -span, max: span }), (near, distance) => {
        expect(Math.abs(decodeNtp(encodeNtp(near + distance), near) - (near + distance))).toBeLessThan(1);
      }),
    );
  });

  it("NTP-UTC-32 reads times up to 2104 (RFC 6043 §6.3)", () => {
    const time = Date.UTC(2103, 0, 1);
    expect(decodeNtp(encodeNtp(time).subarray(0, 4), Date.UTC(2100, 0, 1))).toBe(time);
  });
});

it("is padded to 64 bits with leading zeros for COUNTER, trailing ones for NTP-UTC-32", () => {
  const value = parseHex("01020304");
  expect(formatHex(timestamp64({ tsType: COUNTER, value }))).toBe("0000000001020304");
  expect(formatHex(timestamp64({ tsType: NTP_UTC_32, value }))).toBe("0102030400000000");
  expect(formatHex(timestamp64({ tsType: NTP, value: parseHex("0102030405060708") }))).toBe("0102030405060708");
});

describe("isNewer", () => {
  it.each([
    ["0000000100000000", "0000000000000000", NTP_UTC, true],
    ["0000000100000000", "00000000ffffffff", NTP_UTC, true],
    ["0000000100000001", "0000000100000000", NTP_UTC, true],
    ["0000000100000000", "0000000100000000", NTP_UTC, false],
    ["0000000000000005", "ffffffff00000000", NTP_UTC, true],
    ["ffffffff00000000", "0000000000000005", NTP_UTC, false],
    ["00000002", "00000001", COUNTER, true],
    ["ffffffff", "00000001", COUNTER, true],
    ["00000001", "ffffffff", COUNTER, false],
  ])("%s after %s (type %i): %s", (later, earlier, tsType, newer) => {
    expect(isNewer({ tsType, value: parseHex(later) }, { tsType, value: parseHex(earlier) })).toBe(newer);
  });

  it("compares no counter with a time", () => {
    const value = parseHex("00000001");
    expect(isNewer({ tsType: COUNTER, value: parseHex("ffffffff") }, { tsType: NTP_UTC_32, value })).toBe(false);
    expect(isNewer({ tsType: NTP_UTC_32, value: parseHex("ffffffff") }, { tsType: COUNTER, value })).toBe(false);
  });
});

describe("checkTimestamp", () => {
  const now = Date.UTC(2030, 0, 1);
  const check = (time: number, skew = 300_000) => checkTimestamp({ tsType: NTP_UTC, value: encodeNtp(time) }, now, skew);

  it("accepts up to the skew, either way", () => {
    expect(check(now)).toBe(now);
    expect(check(now - 300_000)).toBe(now - 300_000);
    expect(check(now + 300_000)).toBe(now + 300_000);
  });

  it.each([
    [-301_000, "the sender's clock is 5 min behind ours, 5 min are accepted: set the clocks (NTP)"],
    [301_000, "the sender's clock is 5 min ahead of ours, 5 min are accepted: set the clocks (NTP)"],
    [-86_400_000 * 30, "the sender's clock is 30 days behind ours, 5 min are accepted: set the clocks (NTP)"],
    [10 * 3_600_000, "the sender's clock is 10 h ahead of ours, 5 min are accepted: set the clocks (NTP)"],
  ])("%i ms off: %s", (offset, message) => {
    expect(() => check(now + offset)).toThrow(new MikeyError("mikey.timestamp", message));
  });

  it("says seconds where they are few", () => {
    expect(() => check(now + 45_000, 30_000)).toThrow(/45 s ahead of ours, 30 s are accepted/);
  });

  it("works across the rollover of 2036", () => {
    const value = encodeNtp(ROLLOVER + 2000);
    expect(checkTimestamp({ tsType: NTP_UTC, value }, ROLLOVER - 2000, 300_000)).toBe(ROLLOVER + 2000);
  });

  it("lets counters pass and refuses unknown types", () => {
    expect(checkTimestamp({ tsType: COUNTER, value: parseHex("00000001") }, now, 1)).toBeUndefined();
    expect(() => checkTimestamp({ tsType: 77, value: parseHex("0000000000000000") }, now, 1)).toThrow(MikeyError);
  });
});

describe("a source of timestamps", () => {
  it.each([NTP_UTC, NTP, COUNTER, NTP_UTC_32])("of type %i increases strictly whatever the clock does", (tsType) => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -5000, max: 5000 }), { minLength: 2, maxLength: 30 }), (steps) => {
        let time = ROLLOVER;
        const source = createTimestampSource({ now: () => time }, { tsType });
        let last = source.next();
        for (const step of steps) {
          time += step;
          const next = source.next();
          expect(isNewer(next, last)).toBe(true);
          last = next;
        }
      }),
      { numRuns: 50 },
    );
  });

  it("goes on after a restart, and after a timestamp from elsewhere", () => {
    const clock = { now: () => 0 };
    const source = createTimestampSource(clock, { last: parseHex("f000000000000000") });
    expect(formatHex(source.next().value)).toBe("f000000000000001");
    expect(formatHex(source.next({ tsType: NTP_UTC, value: parseHex("f1000000ffffffff") }).value)).toBe("f100000100000000");
    expect(formatHex(source.next({ tsType: NTP_UTC, value: parseHex("f000000000000000") }).value)).toBe("f100000100000001");
  });

  it("a counter counts from 1 and ends", () => {
    const clock = { now: () => 0 };
    expect(formatHex(createTimestampSource(clock, { tsType: COUNTER }).next().value)).toBe("00000001");
    const exhausted = createTimestampSource(clock, { tsType: COUNTER, last: parseHex("ffffffff") });
    expect(() => exhausted.next()).toThrow(MikeyError);
  });

  it("refuses what it cannot continue", () => {
    const clock = { now: () => 0 };
    expect(() => createTimestampSource(clock, { tsType: 9 })).toThrow(MikeyError);
    expect(() => createTimestampSource(clock, { last: parseHex("00") })).toThrow(MikeyError);
    expect(() => createTimestampSource(clock).next({ tsType: COUNTER, value: parseHex("00000001") })).toThrow(MikeyError);
  });
});
