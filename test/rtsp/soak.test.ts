import { describe, expect, it } from "vitest";
import { faults, soak } from "./soak.js";

describe("the compiled server", () => {
  it("plays to many over UDP and TCP at once, every packet right, and lets go of everything", async () => {
    const sessions = 40;
    const result = await soak({ sessions, seconds: 2, warmUp: 0, rate: 50, octets: 160 });
    expect(faults(result, sessions)).toEqual([]);
    expect(result.proven).toBe(sessions);
    expect(result.compared).toBeGreaterThan(0);
    // One listener, two ports of the encoder's, one pair for all over UDP, and a connection for each.
    if (result.sockets.before !== undefined) expect(result.sockets.playing).toBe(result.sockets.before + 2 + sessions);
  });
});
