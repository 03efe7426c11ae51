import { WatchwordError } from "../bytes/index.js";
import type { Timer } from "../io/index.js";
import { type RtspResponse, sequenceNumber } from "./message.js";

interface Pending {
  readonly resolve: (response: RtspResponse) => void;
  readonly reject: (error: Error) => void;
  readonly timer: Timer;
}

/** The requests of one end of a connection that wait for their answer, by CSeq. */
export class PendingRequests {
  readonly #pending = new Map<number, Pending>();
  readonly #after: (milliseconds: number, callback: () => void) => Timer;

  constructor(after: (milliseconds: number, callback: () => void) => Timer) {
    this.#after = after;
  }

  /** @param late what is said where no answer comes in time @throws (rejects) WatchwordError `rtsp.timeout`, or as `rejectAll` says */
  expect(sequence: number, timeout: number, late: string): Promise<RtspResponse> {
    return new Promise((resolve, reject) => {
      const timer = this.#after(timeout, () => {
        this.#pending.delete(sequence);
        reject(new WatchwordError("rtsp.timeout", late));
      });
      this.#pending.set(sequence, { resolve, reject, timer });
    });
  }

  /** Takes an answer. A 1xx is not yet one (RFC 2326 §7.1.1), and nobody waits for one that was given before. */
  settle(response: RtspResponse): void {
    const sequence = sequenceNumber(response);
    const pending = sequence === undefined ? undefined : this.#pending.get(sequence);
    if (sequence === undefined || pending === undefined || response.status < 200) return;
    this.#pending.delete(sequence);
    pending.timer.cancel();
    pending.resolve(response);
  }

  rejectAll(error: WatchwordError): void {
    for (const { reject, timer } of this.#pending.values()) {
      timer.cancel();
      reject(error);
    }
    this.#pending.clear();
  }
}
