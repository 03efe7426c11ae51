import { createSimulatedNetwork } from "../../src/io/index.js";
import { createMemoryStore, MemoryDisk } from "../../src/store/index.js";
import { describeStore } from "../suites/store.js";

describeStore("in memory", async () => {
  const { clock, timers, advance } = simulatedTime();
  const disk = new MemoryDisk();
  return {
    open: async () => createMemoryStore({ clock, timers, disk, leaseMilliseconds: 1000 }),
    advance,
    dispose: async () => {},
  };
});

function simulatedTime() {
  const network = createSimulatedNetwork({ now: 1_000_000 });
  return { clock: network.clock, timers: network.timers, advance: (milliseconds: number) => network.advance(milliseconds) };
}
