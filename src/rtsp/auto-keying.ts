import { WatchwordError } from "../bytes/index.js";
import type { KeyExport, MediaKeying, MediaOffer } from "../gsa/index.js";
import type { Credential, ErrorReport, Identity } from "../mikey/index.js";
import {
  anyClientProfile,
  clientLadder,
  isNullKeyedMessage,
  type LadderStep,
  type PeerProfile,
  peerPolicy,
  peerProfile,
} from "../peers/index.js";
import type { SuiteName } from "../srtp/index.js";
import type { ClientKeying, ClientKeyingRequest, KeyingHabits, KeyingOutcome } from "./keying.js";
import { chooseMessage, createMikeyClientKeying } from "./mikey-keying.js";

/** How a client is keyed that does not know what kind of server it talks to. */
export interface AutoClientKeyingOptions {
  /** A keying in the dialect and with the tolerances of a profile. */
  readonly keyingFor: (profile: PeerProfile) => MediaKeying;
  /** Tells this client's sessions from others' that share a replay cache. */
  readonly scope: string;
  /** What protects the keys. Default: nothing but the channel. */
  readonly credential?: Credential;
  /** As in `ClientBeginning`. */
  readonly responderId?: Identity;
  /** The suite to propose where the server leaves the keys to us. */
  readonly suite: SuiteName;
  /** As in `MikeyClientKeyingOptions`. */
  readonly exportKeys?: KeyExport;
  /** Called when another step is taken, with its profile. */
  readonly onStep?: (profile: string) => void;
}

/**
 * Keys a client by what the server's messages look like, and climbs on where the server refuses (src/peers/ladder.ts): no MKI, MKI,
 * AEAD. One object serves one server: the step that was found stays.
 */
export function createAutoClientKeying(options: AutoClientKeyingOptions): ClientKeying {
  return new AutoKeying(options);
}

class AutoKeying implements ClientKeying {
  readonly #options: AutoClientKeyingOptions;
  readonly #keyings = new Map<string, MediaKeying>();
  #client: { readonly at: number; readonly keying: ClientKeying } | undefined;
  #steps: readonly LadderStep[] = [];
  #at = 0;

  constructor(options: AutoClientKeyingOptions) {
    this.#options = options;
  }

  get habits(): KeyingHabits {
    // Descriptions are read before their messages tell who wrote them.
    return { ...this.#step.profile, sdpTolerances: anyClientProfile().sdpTolerances };
  }

  get profile(): string {
    return this.#step.profile.name;
  }

  choose(messages: readonly Uint8Array[]): number {
    return chooseMessage(messages, this.#options.credential !== undefined);
  }

  answeredPerStream(message: Uint8Array): boolean {
    return isNullKeyedMessage(message);
  }

  answer(message: Uint8Array, request: ClientKeyingRequest): Promise<KeyingOutcome> {
    this.#begin(() => clientLadder(message, request.announced));
    return this.#current.answer(message, request);
  }

  async initiate(request: ClientKeyingRequest): Promise<MediaOffer> {
    const { credential } = this.#options;
    this.#begin(() =>
      credential === undefined ? clientLadder(undefined, request.announced) : [{ profile: peerProfile("strict") }],
    );
    const { initiate } = this.#current;
    if (initiate === undefined) throw new WatchwordError("rtsp.key-mgmt", "the description has no key message");
    return initiate(request);
  }

  climb(status: number, report?: ErrorReport): boolean {
    if (this.#current.climb?.(status, report) === true) return true;
    const next = this.#steps[this.#at + 1];
    if (next === undefined || !this.#step.profile.refusals.includes(status)) return false;
    this.#at++;
    this.#options.onStep?.(next.profile.name);
    return true;
  }

  #begin(steps: () => readonly LadderStep[]): void {
    if (this.#steps.length > 0) return;
    this.#steps = steps();
    this.#client = undefined;
    this.#options.onStep?.(this.profile);
  }

  get #step(): LadderStep {
    return this.#steps[this.#at] ?? { profile: peerProfile("strict") };
  }

  /** One object as long as a step is stood on: it knows what the server refused. */
  get #current(): ClientKeying {
    if (this.#client?.at !== this.#at) this.#client = { at: this.#at, keying: this.#keyingOfStep() };
    return this.#client.keying;
  }

  #keyingOfStep(): ClientKeying {
    const { scope, credential, responderId, suite: wanted, exportKeys } = this.#options;
    const { profile, suite } = this.#step;
    let keying = this.#keyings.get(profile.name);
    if (keying === undefined) {
      keying = this.#options.keyingFor(profile);
      this.#keyings.set(profile.name, keying);
    }
    return createMikeyClientKeying({
      keying,
      scope,
      profile,
      initiate: {
        policy: peerPolicy(profile, suite ?? wanted),
        ...(credential === undefined ? {} : { credential }),
        ...(responderId === undefined ? {} : { responderId }),
      },
      ...(suite === undefined ? {} : { policy: peerPolicy(profile, suite) }),
      ...(exportKeys === undefined ? {} : { exportKeys }),
    });
  }
}
