import type { Contender } from "../workload.js";
import { nobleObjects, nodeObjects } from "./objects.js";
import { ours } from "./ours.js";
import { werift } from "./werift.js";

/** Everything in TypeScript that is measured, in the order of the tables. Each runs in a process of its own. */
export const CONTENDERS = {
  ...ours,
  "werift-rtp": werift,
  "node:crypto objects": nodeObjects,
  "@noble objects": nobleObjects,
} satisfies Record<string, Contender>;

export type ContenderName = keyof typeof CONTENDERS;

/** Contenders that are this project's, for tables that show nothing else. */
export const OURS: readonly ContenderName[] = Object.keys(ours) as ContenderName[];
