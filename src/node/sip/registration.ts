import { Registerer, type RegistererRegisterOptions, RegistererState, RequestPendingError, type UserAgent } from "sip.js";
import { WatchwordError } from "../../bytes/index.js";
import type { Random, Timer, Timers } from "../../io/index.js";
import { statusError } from "./call.js";

/** Seconds of a registration. */
const REGISTRATION_TIME = 300;
/** Percent of it after which it is renewed: what is left is for another attempt. */
const RENEWAL = 80;
/** Milliseconds for an answer: longer than a transaction lasts (RFC 3261 §17.1.2.2, timer F). What sip.js drops has none. */
const ANSWER_TIME = 40_000;
/** RFC 5626 §4.5, where no flow is left: 30 s times two for every failure in a row, at most half an hour, the half of it at random. */
const BASE_TIME = 30_000;
const MAX_TIME = 1_800_000;

/** What becomes of a registration that once stood. */
export type RegistrationEvent =
  /** It was not renewed, or its connection was lost; the next attempt comes after so many milliseconds. */
  | { readonly state: "failed"; readonly error: WatchwordError; readonly retryIn: number }
  /** It stands again. */
  | { readonly state: "registered" };

export interface RegistrationOptions {
  readonly userAgent: UserAgent;
  readonly timers: Timers;
  readonly random: Random;
  readonly onEvent?: ((event: RegistrationEvent) => void) | undefined;
}

interface Failure {
  readonly error: WatchwordError;
  /** Milliseconds. */
  readonly retryAfter: number;
}

/** Tells what became of every REGISTER, those included that sip.js sends by itself to renew. */
class ReportingRegisterer extends Registerer {
  onAccept: () => void = () => {};
  onFailure: (failure: Failure) => void = () => {};

  override register(options: RegistererRegisterOptions = {}): ReturnType<Registerer["register"]> {
    const sent = super.register({
      ...options,
      requestDelegate: {
        onAccept: () => this.onAccept(),
        onRedirect: ({ message }) => this.#failed(message.statusCode ?? 300, message.reasonPhrase),
        onReject: ({ message }) => this.#failed(message.statusCode ?? 500, message.reasonPhrase),
      },
    });
    // Nobody waits for renewals.
    sent.catch(() => {});
    return sent;
  }

  #failed(status: number, reason = ""): void {
    this.onFailure({ error: statusError("REGISTER", status, reason), retryAfter: 1000 * (this.retryAfter ?? 0) });
  }
}

/** A user agent's registration (RFC 3261 §10), renewed in time, and made anew where it was lost. */
export class Registration {
  readonly #options: RegistrationOptions;
  #registerer: ReportingRegisterer;
  #retry: Timer | undefined;
  /** In a row. */
  #failures = 0;
  /** It stood once. */
  #begun = false;
  #closed = false;

  constructor(options: RegistrationOptions) {
    this.#options = options;
    this.#registerer = this.#make();
  }

  /** The first time; where it fails, it is not tried again. @throws (rejects) WatchwordError `node.sip-status-…`, `node.sip-register` */
  async begin(): Promise<void> {
    const failure = await this.#attempt();
    if (failure !== undefined) throw failure.error;
    this.#begun = true;
  }

  /** The connection to the server was lost: nothing reaches us by it. */
  disconnected(error: Error): void {
    this.#lost({ error: asFailure(error), retryAfter: 0 });
  }

  /** Takes the registration back; resolves when that is answered, however. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#retry?.cancel();
    if (this.#registerer.state !== RegistererState.Registered || !this.#options.userAgent.isConnected()) return;
    await new Promise<void>((resolve) => {
      const done = (): void => resolve();
      this.#registerer.unregister({ requestDelegate: { onAccept: done, onReject: done } }).catch(done);
    });
  }

  #make(): ReportingRegisterer {
    const registerer = new ReportingRegisterer(this.#options.userAgent, {
      expires: REGISTRATION_TIME,
      refreshFrequency: RENEWAL,
    });
    registerer.stateChange.addListener((state) => {
      if (state !== RegistererState.Unregistered) return;
      // Who was refused hears why right behind it; who hears nothing more has run out.
      const expired = { error: new WatchwordError("node.sip-register", "the registration has ended"), retryAfter: 0 };
      queueMicrotask(() => this.#lost(expired));
    });
    return registerer;
  }

  /** One REGISTER and its answer; what comes of it later is told by `#lost`. */
  async #attempt(): Promise<Failure | undefined> {
    const { userAgent, timers } = this.#options;
    try {
      if (!userAgent.isConnected()) await userAgent.reconnect();
    } catch (error) {
      return { error: asFailure(error), retryAfter: 0 };
    }
    const failure = await new Promise<Failure | undefined>((resolve) => {
      const late = { error: new WatchwordError("node.sip-register", "the registrar does not answer"), retryAfter: 0 };
      const deadline = timers.after(ANSWER_TIME, () => settle(late));
      const settle = (found: Failure | undefined): void => {
        deadline.cancel();
        resolve(found);
      };
      const ask = (registerer: ReportingRegisterer): Promise<unknown> => {
        registerer.onAccept = () => settle(undefined);
        registerer.onFailure = settle;
        return registerer.register();
      };
      ask(this.#registerer)
        .catch((error: unknown) => {
          if (!(error instanceof RequestPendingError)) throw error;
          // An answer without Contact leaves sip.js waiting for ever.
          this.#registerer = this.#make();
          return ask(this.#registerer);
        })
        .catch((error: unknown) => settle({ error: asFailure(error), retryAfter: 0 }));
    });
    this.#registerer.onAccept = () => {};
    this.#registerer.onFailure = (found) => this.#lost(found);
    if (failure === undefined) this.#failures = 0;
    return failure;
  }

  #lost({ error, retryAfter }: Failure): void {
    if (!this.#begun || this.#closed || this.#retry !== undefined) return;
    const { timers, random, onEvent } = this.#options;
    this.#failures++;
    const most = Math.min(MAX_TIME, BASE_TIME * 2 ** this.#failures);
    const [part = 0] = random.bytes(1);
    const retryIn = Math.max(Math.min(retryAfter, MAX_TIME), Math.round((most * (1 + part / 255)) / 2));
    this.#retry = timers.after(retryIn, () => void this.#again());
    onEvent?.({ state: "failed", error, retryIn });
  }

  async #again(): Promise<void> {
    const failure = await this.#attempt();
    this.#retry = undefined;
    if (this.#closed) return;
    if (failure !== undefined) this.#lost(failure);
    else this.#options.onEvent?.({ state: "registered" });
  }
}

function asFailure(error: unknown): WatchwordError {
  if (error instanceof WatchwordError) return error;
  return new WatchwordError("node.sip-register", "the registration could not be sent", { cause: error });
}
