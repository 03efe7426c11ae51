import { WatchwordError } from "../bytes/index.js";
import { NO_VERSION, type Ver } from "./contracts.js";

/** Another record, or another snapshot, is where the caller expected to put its own. Nothing has changed. */
export class StoreConflict extends WatchwordError {
  override readonly name: string = "StoreConflict";
  /** Version of the log's newest record, `NO_VERSION` where it has none. */
  readonly head: Ver;

  constructor(head: Ver, message: string, options?: { readonly cause?: unknown }) {
    super("store.conflict", message, options);
    this.head = head;
  }
}

/** What an append meets where the log's newest record is not the expected one. */
export function conflictError(group: string, head: Ver, expected: Ver): StoreConflict {
  return new StoreConflict(head, `the newest record of ${group} is ${head === NO_VERSION ? "none" : head}, not ${expected}`);
}

/** What a snapshot meets where its record is not there, or not any more. */
export function snapshotConflictError(group: string, head: Ver, at: Ver): StoreConflict {
  return new StoreConflict(head, `${group} has no record ${at}, or a newer snapshot`);
}

/** What an append meets whose `gseq` is not greater than that of the record before. */
export function sequenceError(last: number, gseq: number): WatchwordError {
  return new WatchwordError("store.sequence", `gseq ${gseq} is not greater than ${last}, that of the record before`);
}
