import { type Invitation, Inviter, type Session, SessionState, type UserAgent, type UserAgentDelegate } from "sip.js";
import { WatchwordError } from "../../bytes/index.js";
import { defaultCrypto } from "../../crypto/index.js";
import type { OfferTerms } from "../../gsa/index.js";
import type { DatagramsFactory, Endpoint } from "../../io/index.js";
import type { SipKeying } from "../../sip/index.js";
import { createSessionDescriptionHandlerFactory } from "../../sip/sipjs/index.js";
import { createDatagramsFactory, formatEndpoint, resolveHost } from "../datagrams.js";
import { steadyClock, systemTimers } from "../time.js";
import { Call, type CallMedia, type SipCall } from "./call.js";
import type { IncomingCall, PlaceOptions, SipUserAgent, SipUserAgentOptions } from "./contracts.js";
import { untilTaken } from "./placing.js";
import { Registration } from "./registration.js";
import { createRtpMedia } from "./rtp-media.js";
import { guardSession } from "./sipjs-defects.js";
import { addressOf, createSipStack } from "./stack.js";
import type { SipTransport, SipTransportStatistics } from "./transport.js";

const RING_TIME = 60_000;
const MEDIA_TIMEOUT = 60_000;
/** Milliseconds that the answer to a BYE stays repeatable over UDP: the peer asks again after T1, and once more after 2 T1. */
const LAST_ANSWER_TIME = 1600;

/** Milliseconds that a peer which does not answer may hold the end of a user agent up, for each of the steps. */
const CLOSE_TIME = 4000;

/** Waits for a step of the end. @returns false where it takes too long */
async function inTime(step: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), CLOSE_TIME);
  });
  const result = await Promise.race([step.then(() => true), late]);
  clearTimeout(timer);
  return result;
}

/**
 * Starts a user agent. Times, sockets and randomness are Node's.
 * @throws (rejects) WatchwordError `node.sip-address`, `node.sip-transport`, and those of the sockets
 */
export async function startSipUserAgent(options: SipUserAgentOptions): Promise<SipUserAgent> {
  const agent = new Agent(options);
  await agent.start();
  return agent;
}

class Agent implements SipUserAgent {
  readonly #options: SipUserAgentOptions;
  readonly #userAgent: UserAgent;
  readonly #transport: SipTransport;
  readonly #datagrams: DatagramsFactory;
  readonly #calls = new Map<Session, Call>();
  readonly #media = new WeakMap<Session, CallMedia>();
  /** Told what the dialog advises after a refusal: the terms of another call, or that there is none. */
  readonly #advised = new WeakMap<Session, (terms: OfferTerms | undefined) => void>();
  #registration: Registration | undefined;
  #closing: Promise<void> | undefined;
  #lastRemoteEnd = Number.NEGATIVE_INFINITY;

  constructor(options: SipUserAgentOptions) {
    this.#options = options;
    this.#datagrams = options.datagrams ?? createDatagramsFactory();
    const stack = createSipStack({
      ...options,
      sessionDescriptionHandlerFactory: this.#factory(),
      delegate: this.#delegate(),
    });
    this.#userAgent = stack.userAgent;
    this.#transport = stack.transport;
  }

  get address(): Endpoint | undefined {
    return this.#transport.address;
  }

  get uri(): string {
    const { address, route = [], transport } = this.#options;
    const endpoint = this.address;
    if (endpoint === undefined || route.length > 0) return address;
    // Whom a key message is for is compared with whom was called.
    const suffix = transport.transport === "udp" ? "" : `;transport=${transport.transport}`;
    return `sip:${addressOf(address).user ?? ""}@${formatEndpoint(endpoint)}${suffix}`;
  }

  get calls(): readonly SipCall[] {
    return [...this.#calls.values()];
  }

  get transport(): SipTransportStatistics {
    return this.#transport.statistics;
  }

  start(): Promise<void> {
    return this.#userAgent.start();
  }

  async register(): Promise<void> {
    const { transport, onRegistration } = this.#options;
    const registration = new Registration({
      userAgent: this.#userAgent,
      timers: transport.sockets?.timers ?? systemTimers,
      random: { bytes: (length) => defaultCrypto.randomBytes(length) },
      onEvent: onRegistration,
    });
    await registration.begin();
    this.#registration = registration;
  }

  async call(target: string, options: PlaceOptions = {}): Promise<SipCall> {
    const uri = addressOf(target);
    for (let attempt = 1; ; attempt++) {
      const inviter = new Inviter(this.#userAgent, uri, { inviteWithoutSdp: options.lateOffer === true, earlyMedia: false });
      const call = this.#begin(inviter, "outgoing", target);
      this.#media.set(inviter, options);
      const advice = new Promise<OfferTerms | undefined>((resolve) => this.#advised.set(inviter, resolve));
      try {
        await untilTaken(inviter, options.ringTime ?? RING_TIME);
        return call;
      } catch (error) {
        const failure =
          error instanceof WatchwordError ? error : new WatchwordError("node.sip-call", "the call failed", { cause: error });
        call.noteError(failure);
        await this.#leave(inviter, call);
        // The advice comes from the body of a refusal, whose signature may have to be verified first.
        const refused = /^node\.sip-status-[456]/.test(failure.code);
        const terms = refused && (await inTime(advice)) ? await advice : undefined;
        if (terms === undefined || attempt > 1) throw call.error;
        this.#options.onRetry?.(target, failure, terms);
      }
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#calls].map(([session, call]) => this.#leave(session, call)));
    const since = steadyClock.now() - this.#lastRemoteEnd;
    // The answer to the other party's BYE may have been lost: it has to be there when the BYE is repeated.
    if (this.#options.transport.transport === "udp" && since < LAST_ANSWER_TIME) {
      await new Promise((resolve) => setTimeout(resolve, LAST_ANSWER_TIME - since));
    }
    if (this.#registration !== undefined) await inTime(this.#registration.close());
    await inTime(this.#userAgent.stop());
    await this.#transport.disconnect();
  }

  /** Ends a call as far as the other party lets us. */
  async #leave(session: Session, call: Call): Promise<void> {
    const ended = await inTime(session.state === SessionState.Established ? call.hangUp() : this.#giveUp(session, call));
    if (!ended) await call.abandon();
  }

  async #giveUp(session: Session, call: Call): Promise<void> {
    if (session.state === SessionState.Established) await call.hangUp();
    else if (session instanceof Inviter && session.state === SessionState.Establishing) await session.cancel();
    else if (session.state !== SessionState.Terminated) await session.dispose();
    await call.ended;
  }

  #begin(session: Session, direction: "outgoing" | "incoming", remote: string): Call {
    guardSession(session);
    const call = new Call({
      session,
      direction,
      remote,
      timers: systemTimers,
      random: { bytes: (length) => defaultCrypto.randomBytes(length) },
      onKeyed: this.#options.onKeyed,
    });
    this.#calls.set(session, call);
    void call.ended.then((end) => {
      this.#calls.delete(session);
      if (end.by === "remote") this.#lastRemoteEnd = steadyClock.now();
    });
    return call;
  }

  #factory() {
    let keying: SipKeying | undefined;
    const options = this.#options;
    const own = () => this.#userAgent.configuration.uri.toString();
    return createSessionDescriptionHandlerFactory({
      get keying() {
        keying ??= options.keying(own());
        return keying;
      },
      media: (session) => {
        const random = defaultCrypto.randomBytes(8);
        const view = new DataView(random.buffer, random.byteOffset);
        const host = this.#options.mediaHost ?? this.#transport.address?.host ?? "127.0.0.1";
        const media = createRtpMedia({
          ...this.#media.get(session),
          host,
          datagrams: this.#datagrams,
          resolve: (name) => resolveHost(name, host),
          steady: steadyClock,
          timers: systemTimers,
          sessionId: String(view.getUint32(0)),
          ssrc: view.getUint32(4),
          onError: (error) => this.#options.onMediaError?.(error),
          mediaTimeout: this.#options.mediaTimeout ?? MEDIA_TIMEOUT,
          onSilence: () => this.#calls.get(session)?.fallSilent(),
        });
        const call = this.#calls.get(session);
        if (call !== undefined) call.media = media;
        return media;
      },
      onKeyed: (session, handler) => this.#calls.get(session)?.noteKeyed(handler),
      onRefused: (session, refusal) => {
        const call = this.#calls.get(session);
        if (call !== undefined) call.refusal = refusal;
      },
      onProof: (session, { by, verdict }) => this.#calls.get(session)?.noteProof(by, verdict),
      onRefusedByPeer: (session, { abort, status, retry, withoutHello = false, policy }) => {
        if (abort) this.#calls.get(session)?.abort(status);
        this.#advised.get(session)?.(retry ? { withoutHello, ...(policy === undefined ? {} : { policy }) } : undefined);
      },
    });
  }

  #delegate(): UserAgentDelegate {
    return {
      onInvite: (invitation) => {
        const { onCall } = this.#options;
        if (onCall === undefined) void invitation.reject({ statusCode: 486 }).catch(() => {});
        else onCall(this.#incoming(invitation));
      },
      onDisconnect: (error) => {
        if (error === undefined) return;
        this.#registration?.disconnected(error);
        this.#options.onDisconnect?.(error);
      },
    };
  }

  #incoming(invitation: Invitation): IncomingCall {
    const from = invitation.remoteIdentity.uri.toString();
    const call = this.#begin(invitation, "incoming", from);
    return {
      from,
      accept: async (media) => {
        this.#media.set(invitation, media);
        try {
          await invitation.accept();
        } catch (error) {
          await call.ended;
          throw call.error ?? new WatchwordError("node.sip-call", "the caller gave up", { cause: error });
        }
        return call;
      },
      reject: async (status) => {
        await invitation.reject({ statusCode: status }).catch(() => {});
        await call.ended;
      },
    };
  }
}
