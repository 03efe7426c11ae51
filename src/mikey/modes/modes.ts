import type { Mode } from "./grammar.js";
import { PSK } from "./psk.js";

/** The modes that are spoken here. */
export const MODES: readonly Mode[] = [PSK];

/** The mode whose initial message or update has this data type; undefined where none is spoken. */
export function modeOf(dataType: number): Mode | undefined {
  return MODES.find(({ requestType }) => requestType === dataType);
}
