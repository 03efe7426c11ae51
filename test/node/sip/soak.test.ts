import { expect, it } from "vitest";
import { sipFaults, soakSip } from "./soak.js";

it.each(["udp", "tcp"] as const)(
  "sets twenty calls up, rekeys them and ends them with proof over %s, and leaves no socket",
  async (transport) => {
    const calls = 20;
    const result = await soakSip({ calls, atOnce: 5, transport, settle: 0 });
    expect(sipFaults(result, calls)).toEqual([]);
    expect(result.packets).toBeGreaterThan(calls);
  },
);
