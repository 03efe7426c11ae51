import { randomFillSync } from "node:crypto";
import type { Random } from "../io/index.js";

/** The operating system's cryptographically strong generator. */
export const systemRandom: Random = { bytes: (length) => randomFillSync(new Uint8Array(length)) };
