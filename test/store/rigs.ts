import { createSimulatedNetwork } from "../../src/io/index.js";
import { createMemoryStore, MemoryDisk, type NewRec, type Store, type Ver } from "../../src/store/index.js";

/** Simulated time with memory stores in it. */
export function createMemoryRig(seed = 1) {
  const network = createSimulatedNetwork({ now: 1_000_000, seed });
  const { clock, timers, random } = network;
  return {
    random,
    advance: (milliseconds: number): Promise<void> => network.advance(milliseconds),
    open: (disk: MemoryDisk = new MemoryDisk()): Store => createMemoryStore({ clock, timers, disk, leaseMilliseconds: 1000 }),
  };
}

/** What a fault does to an append: it fails before it is done, or after. */
export type Fault = "before" | "after";

/** A store whose next appends fail: those that are done and those that are not look alike to the caller. */
export function createFaultyStore(store: Store): Store & { readonly faults: (Fault | undefined)[] } {
  const faults: (Fault | undefined)[] = [];
  const append = async (group: string, expected: Ver, record: NewRec): Promise<Ver> => {
    const fault = faults.shift();
    const lost = Object.assign(new Error("lost"), { code: "store.ambiguous" });
    if (fault === "before") throw lost;
    const ver = await store.append(group, expected, record);
    if (fault === "after") throw lost;
    return ver;
  };
  return new Proxy(store, {
    get(target, name) {
      if (name === "faults") return faults;
      if (name === "append") return append;
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  }) as Store & { readonly faults: (Fault | undefined)[] };
}
