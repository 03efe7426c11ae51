import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createReplayCache, encodeNtp, type ReplayClaim, replayClaim, TimestampType } from "../../src/mikey/index.js";

const SKEW = 300_000;
const NOW = Date.UTC(2030, 0, 1);

function claim(name: string, changes: Partial<ReplayClaim> = {}, time = NOW): ReplayClaim {
  return {
    ...replayClaim(nobleCrypto, new TextEncoder().encode(name), {
      peer: "0:61",
      scope: "dialog",
      csbId: 1,
      timestamp: { tsType: TimestampType.NTP_UTC, value: encodeNtp(time) },
      time,
      expires: time + SKEW,
    }),
    ...changes,
  };
}

function counter(name: string, count: number, peer = "0:61"): ReplayClaim {
  return claim(name, { peer, timestamp: { tsType: TimestampType.COUNTER, value: Uint8Array.of(0, 0, 0, count) }, time: undefined });
}

describe("the replay cache", () => {
  it("answers the same message with the same response, in the same scope only", () => {
    const cache = createReplayCache();
    expect(cache.check(claim("a"), NOW)).toEqual({ kind: "fresh" });
    cache.claim(claim("a"), Uint8Array.of(1, 2), NOW);
    expect(cache.check(claim("a"), NOW)).toEqual({ kind: "repeated", response: Uint8Array.of(1, 2) });
    expect(cache.check(claim("a", { scope: "another" }), NOW).kind).toBe("refused");
    expect(cache.check(claim("a", { peer: "0:62" }), NOW).kind).toBe("refused");
    cache.claim(claim("b", {}, NOW + 1), undefined, NOW);
    expect(cache.check(claim("b", {}, NOW + 1), NOW)).toEqual({ kind: "repeated", response: undefined });
    expect(cache.size).toBe(2);
  });

  it("keeps its own copy of the response", () => {
    const cache = createReplayCache();
    const response = Uint8Array.of(5);
    cache.claim(claim("a"), response, NOW);
    response[0] = 0;
    const verdict = cache.check(claim("a"), NOW);
    expect(verdict).toEqual({ kind: "repeated", response: Uint8Array.of(5) });
    if (verdict.kind === "repeated") verdict.response?.fill(0);
    expect(cache.check(claim("a"), NOW)).toEqual({ kind: "repeated", response: Uint8Array.of(5) });
  });

  it("refuses another message with the same peer, CSB ID and timestamp", () => {
    const cache = createReplayCache();
    cache.claim(claim("a"), undefined, NOW);
    expect(cache.check(claim("b"), NOW).kind).toBe("refused");
    expect(cache.check(claim("b", { csbId: 2 }), NOW).kind).toBe("fresh");
    expect(cache.check(claim("b", { peer: "0:62" }), NOW).kind).toBe("fresh");
  });

  it("a counter has to increase, per peer, and does not age", () => {
    const cache = createReplayCache({ capacity: 2 });
    cache.claim(counter("a", 5), undefined, NOW);
    expect(cache.check(counter("b", 5), NOW).kind).toBe("refused");
    expect(cache.check(counter("b", 4), NOW + 100 * SKEW).kind).toBe("refused");
    expect(cache.check(counter("b", 6), NOW).kind).toBe("fresh");
    expect(cache.check(counter("b", 1, "0:62"), NOW).kind).toBe("fresh");
    cache.claim(counter("c", 1, "0:62"), undefined, NOW);
    expect(cache.check(counter("d", 1, "0:63"), NOW)).toEqual({ kind: "refused", reason: "no room to remember another counter" });
    expect(cache.check(counter("e", 2, "0:62"), NOW).kind).toBe("fresh");
  });

  it("refuses what is not newer than its floor", () => {
    const cache = createReplayCache({ floor: NOW });
    expect(cache.check(claim("a"), NOW).kind).toBe("refused");
    expect(cache.check(claim("a", {}, NOW + 1), NOW).kind).toBe("fresh");
  });

  it("forgets what its timestamp makes unacceptable", () => {
    const cache = createReplayCache({ capacity: 8 });
    for (let i = 0; i < 8; i++) cache.claim(claim(`${i}`, {}, NOW + i), undefined, NOW);
    const later = NOW + 2 * SKEW;
    cache.claim(claim("later", {}, later), undefined, later);
    expect(cache.size).toBe(1);
    // Nothing was forgotten too early, so nothing that is still acceptable is refused.
    expect(cache.check(claim("other", {}, later - SKEW + 1), later).kind).toBe("fresh");
  });

  it.each([
    { order: "youngest first", times: [7, 6, 5, 4, 3, 2, 1, 0] },
    { order: "of one time", times: [0, 0, 0, 0, 0, 0, 0, 0] },
  ])("forgets the oldest eighth where it is full, and what is as old: $order", ({ times }) => {
    const cache = createReplayCache({ capacity: 8 });
    const claims = times.map((time, i) => claim(`${i}`, { csbId: i }, NOW + time));
    for (const one of claims) cache.claim(one, undefined, NOW);
    cache.claim(claim("next", { csbId: 8 }, NOW + 8), undefined, NOW);
    expect(cache.size).toBe(8);
    const verdicts = claims.map((one) => cache.check(one, NOW).kind);
    expect(verdicts.filter((kind) => kind === "repeated")).toHaveLength(7);
    expect(verdicts.filter((kind) => kind === "refused")).toHaveLength(1);
    expect(cache.check(claim("as old", { csbId: 9 }, NOW), NOW).kind).toBe("refused");
    expect(cache.check(claim("younger", { csbId: 9 }, NOW + 1), NOW).kind).toBe("fresh");
  });

  it("never takes a message twice, stays within its capacity, and refuses only what is old when full", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ name: fc.integer({ min: 0, max: 60 }), wait: fc.integer({ min: 0, max: 20_000 }) }), {
          maxLength: 200,
        }),
        (arrivals) => {
          const cache = createReplayCache({ capacity: 16 });
          const taken = new Set<number>();
          let now = NOW;
          for (const { name, wait } of arrivals) {
            now += wait;
            // Every message has a timestamp of its own, and is sent only while that is acceptable.
            const time = NOW + name * 5000;
            if (Math.abs(time - now) > SKEW) continue;
            const wanted = claim(`${name}`, {}, time);
            const verdict = cache.check(wanted, now);
            if (verdict.kind === "fresh") {
              expect(taken.has(name)).toBe(false);
              taken.add(name);
              cache.claim(wanted, undefined, now);
            }
            expect(cache.size).toBeLessThanOrEqual(16);
          }
        },
      ),
    );
  });
});
