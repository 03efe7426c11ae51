import { concatBytes, equalBytes, formatHex, WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import { prf } from "../mikey/index.js";
import { bigEndian, LABEL, prefixed } from "./labels.js";
import {
  type HeldKey,
  heldValue,
  ntp64,
  ntpOctets,
  openAcknowledgement,
  openProof,
  type ProofParty,
  type ProofVerdict,
  sealAcknowledgement,
  sealProof,
} from "./proof.js";

/** The exchange that a registration stands on (docs/protocol.md §5). Identities and nonces are empty where there were none. */
export interface RegistrationFacts {
  readonly iMessage: Uint8Array;
  /** Empty where no response was sent. */
  readonly rMessage: Uint8Array;
  readonly dataType: number;
  readonly csbId: number;
  readonly prfFunc: number;
  readonly rand: Uint8Array;
  /** TS value of the I_MESSAGE. */
  readonly t: Uint8Array;
  readonly initiatorId: Uint8Array;
  readonly responderId: Uint8Array;
  readonly initiatorNonce: Uint8Array;
  readonly responderNonce: Uint8Array;
  readonly role: "initiator" | "responder";
}

/** How long an acknowledgement is given again (docs/protocol.md §6.3). */
const ACKNOWLEDGEMENT_LIFE_MS = 32_000;

/**
 * The registration SA of a two-party session: what is left of the exchange once the traffic keys are installed.
 * It proves, and checks proofs, that a party holds both the exchange's secret and a traffic key.
 */
export interface RegistrationSa {
  /** SHA-256 over both messages of the exchange; binds proofs to this exchange. */
  readonly transcript: Uint8Array;
  /** Keeps what a proof needs of the traffic key with this SPI (`TEK_1`, docs/protocol.md §5) instead of the key. The newest is proven. */
  hold(spi: Uint8Array, tek1: Uint8Array): void;
  /** Drops it once the key's overlap has ended. The newest is never dropped. */
  forget(spi: Uint8Array): void;
  /** Notes a T of this CSB that was sent, or received and verified, so that a request's T exceeds it (§6). */
  noteTimestamp(t: Uint8Array): void;
  /** A de-registration. @param nowNtp the clock as NTP-UTC, 8 octets. @throws WatchwordError `gsa.no-key` before `hold` */
  request(nowNtp: Uint8Array): Uint8Array;
  /** Checks a de-registration from the other party. @param nowMs the clock, for the life of the cached acknowledgement */
  verifyRequest(request: Uint8Array, nowMs: number): { readonly verdict: ProofVerdict; readonly acknowledgement?: Uint8Array };
  /** Checks the acknowledgement of `request`, which this party sent. */
  verifyAcknowledgement(request: Uint8Array, acknowledgement: Uint8Array | undefined): ProofVerdict;
  wipe(): void;
}

/**
 * Derives a registration SA (docs/protocol.md §5).
 * @param secret S; the caller erases it afterwards
 * @throws MikeyError `mikey.repeating-key` where S repeats itself in 256-bit blocks, which the PRF would cancel (§5)
 */
export function createRegistrationSa(crypto: CryptoProvider, facts: RegistrationFacts, secret: Uint8Array): RegistrationSa {
  const root = deriveRegistrationRoot(crypto, facts, secret);
  const transcript = transcriptOf(crypto, facts.iMessage, facts.rMessage);
  const proofKey = root.proofKey(transcript);
  root.wipe();
  return new Registration(crypto, facts, { ...proofParty(facts), transcript, proofKey });
}

/** LK of docs/protocol.md §5, from which the keys of a registration are derived. */
export interface RegistrationRoot {
  /** K_down (docs/protocol.md §12.4). */
  downKey(): Uint8Array;
  /** K_up (docs/protocol.md §12.4). */
  upKey(): Uint8Array;
  /** K_pop, which depends on both messages. */
  proofKey(transcript: Uint8Array): Uint8Array;
  /** Wipes LK; the keys given out stay. */
  wipe(): void;
}

/** What is known of an exchange before its response is made. */
export type RequestFacts = Omit<RegistrationFacts, "iMessage" | "rMessage" | "role">;

/** @throws MikeyError `mikey.repeating-key` */
export function deriveRegistrationRoot(crypto: CryptoProvider, facts: RequestFacts, secret: Uint8Array): RegistrationRoot {
  const bind = crypto.hash(
    "sha256",
    Uint8Array.of(facts.dataType),
    bigEndian(facts.csbId, 4),
    prefixed(1, facts.rand),
    prefixed(1, facts.t),
    prefixed(2, facts.initiatorId),
    prefixed(2, facts.responderId),
    prefixed(1, facts.initiatorNonce),
    prefixed(1, facts.responderNonce),
  );
  const lk = prf(crypto, "sha256", secret, concatBytes(LABEL.registration, bind), 256);
  const derive = (label: Uint8Array, context: Uint8Array): Uint8Array =>
    prf(crypto, "sha256", lk, concatBytes(label, context), 256);
  return {
    downKey: () => derive(LABEL.down, bind),
    upKey: () => derive(LABEL.up, bind),
    proofKey: (transcript) => derive(LABEL.proof, transcript),
    wipe: () => wipe(lk),
  };
}

/** TH (docs/protocol.md §5). */
export function transcriptOf(crypto: CryptoProvider, iMessage: Uint8Array, rMessage: Uint8Array): Uint8Array {
  return crypto.hash("sha256", prefixed(4, iMessage), prefixed(4, rMessage));
}

/** The part of a proof that the exchange decides. */
export function proofParty(
  facts: Pick<RegistrationFacts, "csbId" | "prfFunc" | "initiatorId" | "responderId" | "role">,
): Omit<ProofParty, "transcript" | "proofKey"> {
  const initiator = prefixed(2, facts.initiatorId);
  const responder = prefixed(2, facts.responderId);
  const fromInitiator = concatBytes(initiator, responder);
  const fromResponder = concatBytes(responder, initiator);
  const initiates = facts.role === "initiator";
  return {
    csbId: facts.csbId,
    prfFunc: facts.prfFunc,
    ownIds: initiates ? fromInitiator : fromResponder,
    peerIds: initiates ? fromResponder : fromInitiator,
  };
}

class Registration implements RegistrationSa {
  readonly transcript: Uint8Array;
  readonly #crypto: CryptoProvider;
  readonly #party: ProofParty;
  readonly #held = new Map<string, HeldKey>();
  #newest: string | undefined;
  /** Greatest T sent or received in this CSB. */
  #greatestT: bigint;
  /** Greatest T of the I_MESSAGE and of accepted updates: what a request must exceed. */
  #floorT: bigint;
  #answered: { readonly request: Uint8Array; readonly acknowledgement: Uint8Array; readonly until: number } | undefined;

  constructor(crypto: CryptoProvider, facts: RegistrationFacts, party: ProofParty) {
    this.#crypto = crypto;
    this.#party = party;
    this.transcript = party.transcript;
    this.#floorT = ntp64(facts.t);
    this.#greatestT = this.#floorT;
  }

  hold(spi: Uint8Array, tek1: Uint8Array): void {
    const g = heldValue(this.#crypto, tek1, new Uint8Array(0), spi);
    this.#newest = formatHex(spi);
    this.#held.set(this.#newest, { spi: spi.slice(), g });
  }

  forget(spi: Uint8Array): void {
    const name = formatHex(spi);
    if (name === this.#newest) return;
    wipe(this.#held.get(name)?.g);
    this.#held.delete(name);
  }

  noteTimestamp(t: Uint8Array): void {
    const value = ntp64(t);
    if (value > this.#floorT) this.#floorT = value;
    if (value > this.#greatestT) this.#greatestT = value;
  }

  request(nowNtp: Uint8Array): Uint8Array {
    const newest = this.#newest === undefined ? undefined : this.#held.get(this.#newest);
    if (newest === undefined) throw new WatchwordError("gsa.no-key", "no traffic key to prove possession of");
    const now = ntp64(nowNtp);
    this.#greatestT = now > this.#greatestT ? now : this.#greatestT + 1n;
    return sealProof(this.#crypto, this.#party, ntpOctets(this.#greatestT), [newest], true);
  }

  verifyRequest(request: Uint8Array, nowMs: number): { readonly verdict: ProofVerdict; readonly acknowledgement?: Uint8Array } {
    if (this.#answered !== undefined && nowMs < this.#answered.until && equalBytes(request, this.#answered.request)) {
      return { verdict: "verified", acknowledgement: this.#answered.acknowledgement };
    }
    const proof = openProof(this.#crypto, this.#party, request, this.#find);
    // §6.3 step 5: only after the MAC, so that an outsider learns nothing of the timestamps.
    if (proof === undefined || ntp64(proof.t) <= this.#floorT) return { verdict: "rejected" };
    if (!proof.acknowledge) return { verdict: "verified" };
    const acknowledgement = sealAcknowledgement(this.#crypto, this.#party, request, proof);
    this.#answered = { request: request.slice(), acknowledgement, until: nowMs + ACKNOWLEDGEMENT_LIFE_MS };
    return { verdict: "verified", acknowledgement };
  }

  verifyAcknowledgement(request: Uint8Array, acknowledgement: Uint8Array | undefined): ProofVerdict {
    return openAcknowledgement(this.#crypto, this.#party, request, acknowledgement, this.#find);
  }

  wipe(): void {
    wipe(this.#party.proofKey);
    for (const { g } of this.#held.values()) wipe(g);
    this.#held.clear();
    this.#newest = undefined;
  }

  readonly #find = (spi: Uint8Array): HeldKey | undefined => this.#held.get(formatHex(spi));
}
