import type { Contender } from "../workload.js";
import { nobleObjects, nodeObjects } from "./objects.js";
import { nodeBatch, nodeSingle, portableSingle } from "./ours.js";
import { werift } from "./werift.js";

/** Everything in TypeScript that is measured, in the order of the tables. Each runs in a process of its own. */
export const CONTENDERS = {
  "node, single": nodeSingle,
  "node, batch": nodeBatch,
  "portable, single": portableSingle,
  "werift-rtp": werift,
  "node:crypto objects": nodeObjects,
  "@noble objects": nobleObjects,
} satisfies Record<string, Contender>;

export type ContenderName = keyof typeof CONTENDERS;

/** Contenders that are this project's, for tables that show nothing else. */
export const OURS: readonly ContenderName[] = ["node, single", "node, batch", "portable, single"];
