import type {
  BodyAndContentType,
  Session,
  SessionDescriptionHandler,
  SessionDescriptionHandlerFactory,
  SessionDescriptionHandlerModifier,
  SessionDescriptionHandlerOptions,
} from "sip.js";
import type { ProofVerdict } from "../../gsa/index.js";
import type { Timer } from "../../io/index.js";
import { mediaType, plainDescription, type SipDialog, SipRefusal } from "../index.js";
import type { KeyedFactoryOptions, KeyedSessionDescriptionHandler, MediaPort } from "./contracts.js";
import { factsOf, hookSession, isInvitationToAnswer, type SessionHandler } from "./hooks.js";
import { rejectOptions } from "./responses.js";

const SDP_TYPE = "application/sdp";
/** What a BYE may take to be answered (RFC 3261 §17.1.2.2, timer F), and a little. */
const BYE_TIME_MS = 40_000;

/**
 * Handlers for sip.js that key its sessions: the one option that a stock `UserAgent` needs. The media is a `MediaPort`, or that of a
 * handler of another factory. BYE, its answers, INFO, MESSAGE and re-INVITE are hooked per session.
 */
export function createSessionDescriptionHandlerFactory(options: KeyedFactoryOptions): SessionDescriptionHandlerFactory {
  return (session, factoryOptions) => {
    const handler = new KeyedHandler(session, options, mediaOf(session, options, factoryOptions));
    hookSession(session, handler, options);
    return handler;
  };
}

/** The media behind a handler, whichever kind. */
interface Media {
  ssrcFor(index: number): number | undefined;
  describe(
    type: "offer" | "answer",
    remote: string | undefined,
    options?: SessionDescriptionHandlerOptions,
    modifiers?: SessionDescriptionHandlerModifier[],
  ): Promise<string>;
  setRemote(
    type: "offer" | "answer",
    remote: string,
    options?: SessionDescriptionHandlerOptions,
    modifiers?: SessionDescriptionHandlerModifier[],
  ): Promise<void>;
  readonly attach: MediaPort["attach"];
  rollback(): Promise<void>;
  sendDtmf(tones: string, options?: unknown): boolean;
  close(): void;
}

function mediaOf(session: Session, options: KeyedFactoryOptions, factoryOptions: object | undefined): Media {
  const { media, inner } = options;
  if (media !== undefined) return portMedia(media(session));
  if (inner === undefined) throw new SipRefusal("sip.state", "the factory has neither media nor a handler to wrap");
  return innerMedia(inner(session, factoryOptions), options, session);
}

function portMedia(port: MediaPort): Media {
  return {
    ssrcFor: (index) => port.ssrcFor?.(index),
    describe: async (type, remote, options, modifiers) => modified(modifiers, type, await port.describe(type, remote, options)),
    setRemote: async (type, remote, _options, modifiers) => port.setRemote(type, await modified(modifiers, type, remote)),
    attach: (stream) => port.attach(stream),
    rollback: async () => port.rollback?.(),
    sendDtmf: () => false,
    close: () => port.close(),
  };
}

/** Modifiers see descriptions of both sides, as with sip.js's own handler. */
async function modified(
  modifiers: readonly SessionDescriptionHandlerModifier[] = [],
  type: "offer" | "answer",
  sdp: string,
): Promise<string> {
  let description: { type: "offer" | "answer" | "pranswer" | "rollback"; sdp?: string } = { type, sdp };
  for (const modifier of modifiers) description = await modifier(description);
  return description.sdp ?? sdp;
}

function innerMedia(inner: SessionDescriptionHandler, { onStream }: KeyedFactoryOptions, session: Session): Media {
  return {
    ssrcFor: () => undefined,
    describe: async (_type, _remote, options, modifiers) => (await inner.getDescription(options, modifiers)).body,
    setRemote: (_type, remote, options, modifiers) => inner.setDescription(remote, options, modifiers),
    attach: (stream) => onStream?.(session, stream),
    rollback: async () => inner.rollbackDescription?.(),
    sendDtmf: (tones, options) => inner.sendDtmf(tones, options),
    close: () => inner.close(),
  };
}

class KeyedHandler implements KeyedSessionDescriptionHandler, SessionHandler {
  readonly dialog: SipDialog;
  verdict: ProofVerdict | undefined;
  refusal: SipRefusal | undefined;
  readonly #session: Session;
  readonly #options: KeyedFactoryOptions;
  readonly #media: Media;
  #attached = 0;
  #remoteOffer: string | undefined;
  #closed = false;
  #bye: Timer | undefined;

  constructor(session: Session, options: KeyedFactoryOptions, media: Media) {
    this.#session = session;
    this.#options = options;
    this.#media = media;
    this.dialog = options.keying.dialog({
      ...factsOf(session),
      secure: options.secure?.(session) ?? false,
      ssrcFor: (index) => media.ssrcFor(index),
    });
  }

  hasDescription(contentType: string): boolean {
    return mediaType(contentType) === SDP_TYPE;
  }

  async getDescription(
    options?: SessionDescriptionHandlerOptions,
    modifiers?: SessionDescriptionHandlerModifier[],
  ): Promise<BodyAndContentType> {
    const answers = this.dialog.state === "have-remote-offer";
    const local = await this.#media.describe(answers ? "answer" : "offer", this.#remoteOffer, options, modifiers);
    const body = answers ? await this.dialog.createAnswer(local) : await this.dialog.createOffer(local);
    this.#attach();
    if (answers) this.#keyed();
    return { body, contentType: SDP_TYPE };
  }

  async setDescription(
    sdp: string,
    options?: SessionDescriptionHandlerOptions,
    modifiers?: SessionDescriptionHandlerModifier[],
  ): Promise<void> {
    const type = this.dialog.state === "have-local-offer" ? "answer" : "offer";
    try {
      if (type === "answer") await this.dialog.acceptAnswer(sdp);
      else await this.dialog.acceptOffer(sdp);
    } catch (error) {
      if (error instanceof SipRefusal) await this.#refuse(error);
      throw error;
    }
    const verified = plainDescription(sdp, this.#options.inner !== undefined && this.#options.innerIsPlain === true);
    this.#remoteOffer = type === "offer" ? verified : undefined;
    this.#attach();
    await this.#media.setRemote(type, verified, options, modifiers);
    if (type === "answer") this.#keyed();
  }

  async rollbackDescription(): Promise<void> {
    this.dialog.rollback();
    this.#remoteOffer = undefined;
    this.#attached = Math.min(this.#attached, this.dialog.streams.length);
    await this.#media.rollback();
  }

  sendDtmf(tones: string, options?: unknown): boolean {
    return this.#media.sendDtmf(tones, options);
  }

  /** sip.js closes before it sends the BYE of `dispose`, so the proof outlives the media. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#media.close();
    void Promise.resolve().then(() => {
      if (this.#bye === undefined) this.dialog.close();
    });
  }

  beginBye(): void {
    const { timers } = this.#options.keying.options.keying.options;
    this.#bye ??= timers.after(BYE_TIME_MS, () => this.dialog.close());
  }

  endBye(): void {
    this.#bye?.cancel();
    this.dialog.close();
  }

  noteProof(by: "received" | "acknowledged", verdict: ProofVerdict): void {
    this.verdict = verdict;
    this.#options.onProof?.(this.#session, { by, verdict });
  }

  #attach(): void {
    const { streams } = this.dialog;
    for (const stream of streams.slice(this.#attached)) this.#media.attach(stream);
    this.#attached = streams.length;
  }

  #keyed(): void {
    this.refusal = undefined;
    if (this.dialog.media.length > 0) this.#options.onKeyed?.(this.#session, this);
  }

  /** The first offer is refused here with all that belongs to it: where a handler merely throws, sip.js answers 480. */
  async #refuse(refusal: SipRefusal): Promise<void> {
    this.refusal = refusal;
    this.#options.onRefused?.(this.#session, refusal);
    if (isInvitationToAnswer(this.#session)) await this.#session.reject(rejectOptions(refusal));
  }
}
