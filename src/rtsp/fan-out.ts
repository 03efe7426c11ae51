import type { Clock, Logger, Timers } from "../io/index.js";

/** How a source's packets reach its receivers; times in milliseconds. */
export interface FanOutOptions {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  /** Sends one packet to everybody. The octets are good during the call. */
  readonly send: (track: number, packet: Uint8Array) => void;
}

/** Work at a stretch, after which requests and other sources get their turn. */
const STRETCH = 30;
/** Media that waited longer is too late to be worth sending. */
const MAX_AGE = 250;
/** Packets that wait at most, whatever their age. */
const MAX_WAITING = 1024;
/** Between two lines of the log. */
const LOG_INTERVAL = 5000;

interface Waiting {
  readonly track: number;
  readonly packet: Uint8Array;
  readonly at: number;
}

/**
 * Hands packets on at once while there is time for it. Where there is more to send than the processor can, packets are dropped for
 * everybody alike and requests are still answered: a live stream that falls behind does not catch up, and a server that only sends can no
 * longer be told to stop.
 */
export class FanOut {
  readonly #options: FanOutOptions;
  readonly #waiting: Waiting[] = [];
  /** Milliseconds of work since others had their turn. */
  #worked = 0;
  #yielding = false;
  #dropped = 0;
  #loggedAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: FanOutOptions) {
    this.#options = options;
  }

  /** Takes a packet; a copy where it has to wait. */
  push(track: number, packet: Uint8Array): void {
    if (this.#closed) return;
    if (!this.#yielding) {
      this.#send(track, packet);
      return;
    }
    if (this.#waiting.length >= MAX_WAITING) this.#drop();
    this.#waiting.push({ track, packet: packet.slice(), at: this.#options.clock.now() });
  }

  close(): void {
    this.#closed = true;
    this.#waiting.length = 0;
  }

  #send(track: number, packet: Uint8Array): void {
    const { clock, timers, send } = this.#options;
    const from = clock.now();
    send(track, packet);
    // A clock that is set back is no work.
    this.#worked += Math.max(0, clock.now() - from);
    if (this.#worked < STRETCH || this.#yielding) return;
    this.#yielding = true;
    timers.after(0, () => this.#resume());
  }

  #resume(): void {
    const { clock } = this.#options;
    this.#worked = 0;
    this.#yielding = false;
    const oldest = clock.now() - MAX_AGE;
    let next = this.#waiting.findIndex(({ at }) => at >= oldest);
    if (next < 0) next = this.#waiting.length;
    if (next > 0) this.#drop(next);
    let sent = 0;
    for (; sent < this.#waiting.length && !this.#yielding; sent++) {
      const { track, packet } = this.#waiting[sent] as Waiting;
      this.#send(track, packet);
    }
    this.#waiting.splice(0, sent);
  }

  #drop(count = 1): void {
    const { clock, logger } = this.#options;
    this.#waiting.splice(0, count);
    this.#dropped += count;
    if (clock.now() - this.#loggedAt < LOG_INTERVAL) return;
    this.#loggedAt = clock.now();
    logger.warn("more media than can be sent", { dropped: this.#dropped });
  }
}
