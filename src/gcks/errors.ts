import { WatchwordError } from "../bytes/index.js";
import type { CarrierStatus } from "../mikey/index.js";

/** Why a registration or request was refused, and how carriers say it (docs/protocol.md §22). */
export class GcksRefusal extends WatchwordError {
  override readonly name: string = "GcksRefusal";
  readonly status: CarrierStatus;
  /** ERR message to carry back. */
  readonly reply: Uint8Array | undefined;
  /** Seconds after which it may be tried again. */
  readonly retryAfter: number | undefined;

  constructor(
    code: "gcks.no-group" | "gcks.overload" | "gcks.refused",
    message: string,
    status: CarrierStatus,
    details: { readonly cause?: unknown; readonly reply?: Uint8Array | undefined; readonly retryAfter?: number } = {},
  ) {
    super(code, message, details.cause === undefined ? undefined : { cause: details.cause });
    this.status = status;
    this.reply = details.reply;
    this.retryAfter = details.retryAfter;
  }
}

/** Not now: how carriers say it. */
export const OVERLOAD: CarrierStatus = { sip: 503, rtsp: 503 };
