import { WatchwordError } from "../bytes/index.js";
import type { Ver } from "./contracts.js";

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
