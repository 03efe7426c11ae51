import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Timers } from "../../src/io/index.js";
import { createToneSource, encodeMuLaw, TONE_FRAME, TONE_PERIOD, toneFrame } from "../../src/node/index.js";

/** ITU-T G.711 decoding, to check the encoder against. */
function decodeMuLaw(octet: number): number {
  const inverted = ~octet & 0xff;
  const magnitude = ((((inverted & 0x0f) << 3) + 132) << ((inverted >> 4) & 7)) - 132;
  return (inverted & 0x80) === 0 ? magnitude : -magnitude;
}

describe("encodeMuLaw", () => {
  it.each([
    [0, 0xff],
    [-1, 0x7f],
    [32_767, 0x80],
    [-32_768, 0x00],
    [1000, 0xce],
    [-1000, 0x4e],
  ])("sample %i is octet %i", (sample, octet) => {
    expect(encodeMuLaw(sample)).toBe(octet);
  });

  it("is the nearest step for every sample", () => {
    fc.assert(
      fc.property(fc.integer({ min: -32_635, max: 32_635 }), (sample) => {
        const error = Math.abs(decodeMuLaw(encodeMuLaw(sample)) - sample);
        // Half a step: 4 in the lowest segment, doubling with each.
        expect(error).toBeLessThanOrEqual(Math.max(4, (Math.abs(sample) + 132) / 32));
      }),
    );
  });
});

describe("toneFrame", () => {
  it("has 160 octets, repeats after its period and is different throughout it", () => {
    const frames = Array.from({ length: TONE_PERIOD }, (_, index) => Buffer.from(toneFrame(index)).toString("hex"));
    expect(new Set(frames).size).toBe(TONE_PERIOD);
    expect(toneFrame(0).length).toBe(TONE_FRAME);
    expect(toneFrame(TONE_PERIOD + 7)).toEqual(toneFrame(7));
  });

  it("is audible and does not clip", () => {
    const peaks = Array.from({ length: TONE_PERIOD }, (_, index) =>
      Math.max(...toneFrame(index).map((octet) => Math.abs(decodeMuLaw(octet)) >> 8)),
    );
    expect(Math.max(...peaks)).toBeGreaterThan(40);
    expect(Math.max(...peaks)).toBeLessThan(60);
  });

  it("gives each caller its own octets", () => {
    toneFrame(3).fill(0);
    expect(toneFrame(3)).not.toEqual(new Uint8Array(TONE_FRAME));
  });
});

/** A clock that only its timers move. */
function simulatedTime() {
  let now = 1000;
  const pending = new Set<{ at: number; callback: () => void }>();
  const timers: Timers = {
    after(milliseconds, callback) {
      const entry = { at: now + milliseconds, callback };
      pending.add(entry);
      return { cancel: () => pending.delete(entry) };
    },
    every() {
      throw new Error("the source uses single timers");
    },
  };
  /** Moves on to the next timer, which fires `late` milliseconds after it is due. */
  const step = (late = 0): void => {
    const [next] = [...pending].sort((a, b) => a.at - b.at);
    if (next === undefined) throw new Error("nothing is pending");
    pending.delete(next);
    now = next.at + late;
    next.callback();
  };
  return { clock: { now: () => now }, timers, step, pending };
}

function start(options: Parameters<typeof createToneSource>[0] = {}) {
  const time = simulatedTime();
  const source = createToneSource({ ...options, steady: time.clock, clock: { now: () => 1_700_000_000_500 }, timers: time.timers });
  const rtp: Uint8Array[] = [];
  const rtcp: Uint8Array[] = [];
  source.onRtp = (_track, packet) => rtp.push(packet);
  source.onRtcp = (_track, packet) => rtcp.push(packet);
  void source.start();
  return { ...time, source, rtp, rtcp };
}

const view = (packet: Uint8Array): DataView => new DataView(packet.buffer, packet.byteOffset);

describe("createToneSource", () => {
  it("sends a PCMU packet every 20 ms", () => {
    const run = start({ ssrc: 0xdecafbad, firstSequence: 65_534, firstTimestamp: 0xffff_ff00 });
    for (let i = 0; i < 5; i++) run.step();
    expect(run.rtp.length).toBe(5);
    run.rtp.forEach((packet, index) => {
      expect(packet.length).toBe(172);
      expect(packet[0]).toBe(0x80);
      expect(packet[1]).toBe(index === 0 ? 0x80 : 0);
      expect(view(packet).getUint16(2)).toBe((65_534 + index) % 65_536);
      expect(view(packet).getUint32(4)).toBe((0xffff_ff00 + 160 * index) % 2 ** 32);
      expect(view(packet).getUint32(8)).toBe(0xdecafbad);
      expect(packet.subarray(12)).toEqual(toneFrame(index));
    });
    expect(run.clock.now()).toBe(1000 + 4 * 20);
    expect(run.source.tracks).toEqual([{ media: "audio", payloadType: 0, rtpmap: "PCMU/8000", clockRate: 8000, ssrc: 0xdecafbad }]);
  });

  it("does not drift when its timers are late", () => {
    const run = start();
    for (let i = 0; i < 500; i++) run.step(7);
    const elapsed = run.clock.now() - 1000;
    expect(run.rtp.length).toBe(Math.floor(elapsed / 20) + 1);
  });

  it("catches up after a short stall and skips what a long one missed", () => {
    const run = start({ firstSequence: 0 });
    run.step();
    run.step(200);
    expect(run.rtp.length).toBe(12);
    run.step(5000);
    expect(run.rtp.length).toBe(13);
    const last = run.rtp[12] as Uint8Array;
    expect(last.subarray(12)).toEqual(toneFrame(view(last).getUint16(2)));
  });

  it("reports as a sender: SR and SDES, well formed", () => {
    const run = start({ ssrc: 7, firstTimestamp: 0 });
    for (let i = 0; i < 126; i++) run.step();
    expect(run.rtcp.length).toBe(2);
    const report = run.rtcp[1] as Uint8Array;
    expect([report[0], report[1], view(report).getUint16(2)]).toEqual([0x80, 200, 6]);
    expect(view(report).getUint32(4)).toBe(7);
    expect(view(report).getUint32(8)).toBe(1_700_000_000 + 2_208_988_800);
    expect(view(report).getUint32(12)).toBe(0x8000_0000);
    expect(view(report).getUint32(16)).toBe(125 * 160);
    expect(view(report).getUint32(20)).toBe(125);
    expect(view(report).getUint32(24)).toBe(125 * 160);
    expect([report[28], report[29]]).toEqual([0x81, 202]);
    expect(28 + 4 * (view(report).getUint16(30) + 1)).toBe(report.length);
    expect(report.at(-1)).toBe(0);
  });

  it("stops at once, also from within its own callback, and can go on", () => {
    const run = start({ firstSequence: 10 });
    run.step();
    run.source.onRtp = () => run.source.stop();
    run.step();
    expect(run.pending.size).toBe(0);
    run.source.onRtp = (_track, packet) => run.rtp.push(packet);
    void run.source.start();
    void run.source.start();
    run.step();
    expect(run.pending.size).toBe(1);
    expect(run.rtp.map((packet) => view(packet).getUint16(2))).toEqual([10, 12]);
  });

  it("begins at random by itself", () => {
    const [a, b] = [createToneSource(), createToneSource()];
    expect(a.tracks[0]?.ssrc).not.toBe(b.tracks[0]?.ssrc);
  });
});
