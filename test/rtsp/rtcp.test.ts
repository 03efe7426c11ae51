import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatHex, parseHex } from "../../src/bytes/index.js";
import {
  createReceptionStatistics,
  encodeReceiverReport,
  looksLikeRtcp,
  readRtpHeader,
  readSenderReport,
} from "../../src/rtsp/index.js";

function run(sequences: readonly number[], clockRate = 8000) {
  const statistics = createReceptionStatistics(7, clockRate);
  sequences.forEach((sequence, index) => {
    statistics.packet(sequence & 0xffff, index * 160, index * 20);
  });
  return statistics;
}

describe("reception statistics (RFC 3550 appendix A)", () => {
  it.each<[name: string, sequences: readonly number[], lost: number, highest: number]>([
    ["nothing lost", [1, 2, 3], 0, 3],
    ["one lost", [1, 3], 1, 3],
    ["reordered", [1, 3, 2, 4], 0, 4],
    ["late packet from before the start", [5, 4, 6], -1, 6],
    ["doubled", [1, 2, 2, 3], -1, 3],
    ["across the wrap", [65_534, 65_535, 0, 1], 0, 65_537],
    ["across the wrap with loss", [65_534, 1], 2, 65_537],
    ["late from before the wrap", [65_534, 0, 65_535, 1], 0, 65_537],
    ["a jump, which is no loss", [1, 2, 20_000, 20_001], 0, 20_001],
    ["a jump across the wrap", [60_000, 10_000], 0, 75_536],
  ])("%s", (_name, sequences, lost, highest) => {
    const statistics = run(sequences);
    expect(statistics.report(0)).toMatchObject({ ssrc: 7, cumulativeLost: lost, extendedHighestSequence: highest });
    expect(statistics.lost).toBe(Math.max(0, lost));
    expect(statistics.received).toBe(sequences.length);
  });

  it("has nothing to report before the first packet", () => {
    expect(createReceptionStatistics(7, 8000).report(0)).toBeUndefined();
  });

  it("reports the loss of each interval on its own", () => {
    const statistics = run([1, 3]);
    expect(statistics.report(0)?.fractionLost).toBe(85);
    statistics.packet(4, 0, 0);
    expect(statistics.report(0)).toMatchObject({ fractionLost: 0, cumulativeLost: 1 });
  });

  it("measures jitter in media clock units", () => {
    expect(run([1, 2, 3]).report(0)?.jitter).toBe(0);
    const statistics = createReceptionStatistics(7, 8000);
    statistics.packet(1, 0, 0);
    // 10 ms late: 80 units, of which a sixteenth counts.
    statistics.packet(2, 160, 30);
    expect(statistics.report(0)?.jitter).toBe(5);
  });

  it("can be written whatever the clock does meanwhile", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(0xffff), fc.nat(0xffffffff), fc.integer()), { minLength: 1 }),
        fc.integer(),
        (packets, now) => {
          const statistics = createReceptionStatistics(7, 90_000);
          for (const [sequence, timestamp, at] of packets) {
            statistics.packet(sequence, timestamp, at);
            statistics.senderReport(timestamp, at);
            const block = statistics.report(now);
            expect(encodeReceiverReport(1, "a", block === undefined ? [] : [block])).toHaveLength(8 + 24 + 12);
          }
        },
      ),
    );
  });

  it("tells the age of the last sender report", () => {
    const statistics = run([1]);
    expect(statistics.report(5)).toMatchObject({ lastSenderReport: 0, delaySinceLastSenderReport: 0 });
    statistics.senderReport(0xabcd1234, 1000);
    expect(statistics.report(3500)).toMatchObject({ lastSenderReport: 0xabcd1234, delaySinceLastSenderReport: 2.5 * 65_536 });
  });

  it("fits its fields whatever arrives", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 0xffff }), fc.integer({ min: 0, max: 0xffffffff }), fc.nat()), {
          minLength: 1,
        }),
        (packets) => {
          const statistics = createReceptionStatistics(1, 90_000);
          for (const [sequence, timestamp, at] of packets) statistics.packet(sequence, timestamp, at);
          const block = statistics.report(0);
          if (block === undefined) throw new Error("nothing");
          expect(encodeReceiverReport(1, "x", [block]).length).toBe(8 + 24 + 8 + 4);
        },
      ),
    );
  });
});

describe("receiver reports", () => {
  it("are a report and a source description", () => {
    const block = {
      ssrc: 0x11223344,
      fractionLost: 64,
      cumulativeLost: -2,
      extendedHighestSequence: 0x00010002,
      jitter: 5,
      lastSenderReport: 0xabcd1234,
      delaySinceLastSenderReport: 0x00028000,
    };
    expect(formatHex(encodeReceiverReport(0x01020304, "a@b", [block]))).toBe(
      "81c9000701020304" + "1122334440fffffe0001000200000005abcd123400028000" + "81ca0003010203040103614062000000",
    );
    expect(formatHex(encodeReceiverReport(1, "ab", []))).toBe("80c9000100000001" + "81ca000300000001010261620000" + "0000");
  });
});

describe("looking at packets", () => {
  it("reads the front of sender reports", () => {
    expect(readSenderReport(parseHex(`80c8000611223344${"abcd1234567890ab"}${"00".repeat(12)}`))).toEqual({
      ssrc: 0x11223344,
      ntpMiddle: 0x12345678,
    });
    expect(readSenderReport(parseHex("80c9000111223344"))).toBeUndefined();
    expect(readSenderReport(new Uint8Array(0))).toBeUndefined();
  });

  it("tells RTP, RTCP and junk apart", () => {
    expect(looksLikeRtcp(parseHex("81c9000111223344"))).toBe(true);
    expect(looksLikeRtcp(new Uint8Array(200))).toBe(false);
    expect(looksLikeRtcp(parseHex("8060000111223344"))).toBe(false);
    expect(looksLikeRtcp(parseHex("81c9"))).toBe(false);
    expect(readRtpHeader(parseHex("80600102000000030000000a"))).toEqual({ sequence: 0x0102, timestamp: 3, ssrc: 10 });
    expect(readRtpHeader(new Uint8Array(200))).toBeUndefined();
    expect(readRtpHeader(new Uint8Array(0))).toBeUndefined();
  });
});
