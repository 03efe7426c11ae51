import { MemoryDisk } from "../../src/store/index.js";
import { describeStore } from "../suites/store.js";
import { createMemoryRig } from "./rigs.js";

describeStore("in memory", async () => {
  const { open, advance } = createMemoryRig();
  const disk = new MemoryDisk();
  return { open: async () => open(disk), advance, dispose: async () => {} };
});
