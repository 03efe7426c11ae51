import { equalBytes, formatHex, utf8, WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import type { Timer } from "../io/index.js";
import {
  type CryptoSession,
  type CryptoSessionRequest,
  type Csb,
  type CsbMasterKey,
  decodeMessage,
  encodeNtp,
  type GeneralExtensionPayload,
  type PendingExchange,
  srtpMasterKeys,
  type ToleranceName,
  wipeCsb,
} from "../mikey/index.js";
import { createSrtpReceiver, createSrtpSender, type SrtpPolicy, type SrtpReceiver, type SrtpSender } from "../srtp/index.js";
import type { KeyedMedia, KeyedStream, PendingRekey } from "./contracts.js";
import type { KeyingContext } from "./media-keying.js";
import { helloNonce } from "./pop.js";
import { createRegistrationSa, type ProofVerdict, type RegistrationSa } from "./registration.js";

/** The crypto session that protects one direction of one m= line. */
export interface Direction {
  readonly csb: Csb;
  readonly csId: number;
}

/** Both directions of one m= line, as this party sees them; absent where no key was agreed. */
export interface StreamDirections {
  readonly outbound?: Direction;
  readonly inbound?: Direction;
}

/** What an exchange agreed on, ready to become media. */
export interface Bundle {
  /** The CSB of the I_MESSAGE: whose policies, whose registration. */
  readonly primary: Csb;
  readonly streams: readonly StreamDirections[];
}

export function bundleOf(primary: Csb, streams: readonly StreamDirections[]): Bundle {
  return { primary, streams };
}

/**
 * Crypto sessions of one exchange to m= lines: two consecutive ones per line (RFC 4567 §7.1), the odd for what the Initiator
 * sends, the even for what the Responder sends. A message with a single session keys only the Initiator's direction.
 * @throws WatchwordError `gsa.streams` where a line has none
 */
export function directionsOf(csb: Csb, streamCount: number): StreamDirections[] {
  return Array.from({ length: streamCount }, (_, index) => {
    const session = (csId: number): Direction | undefined =>
      csb.cryptoSessions.some((candidate) => candidate.csId === csId) ? { csb, csId } : undefined;
    const fromInitiator = session(2 * index + 1);
    const fromResponder = session(2 * index + 2);
    if (fromInitiator === undefined) {
      wipeCsb(csb);
      throw new WatchwordError("gsa.streams", `the key message has no crypto session for m= line ${index + 1}`);
    }
    const [outbound, inbound] = csb.role === "initiator" ? [fromInitiator, fromResponder] : [fromResponder, fromInitiator];
    return { ...(outbound === undefined ? {} : { outbound }), ...(inbound === undefined ? {} : { inbound }) };
  });
}

/** What is known of the exchange beside its CSB. */
export interface ExchangeFacts {
  /** The R_MESSAGE, or the peer's message in its place (docs/protocol.md §5); empty where there was none. */
  readonly answer: Uint8Array;
  readonly secure: boolean;
}

/** Installs the keys of a bundle. The bundle's key material is wiped; what an update needs stays. */
export function createKeyedMedia(context: KeyingContext, bundle: Bundle, exchange: ExchangeFacts): KeyedMedia {
  return new Media(context, bundle, exchange);
}

class Stream implements KeyedStream {
  readonly policy: SrtpPolicy;
  readonly sender: SrtpSender | undefined;
  readonly receiver: SrtpReceiver | undefined;

  constructor(context: KeyingContext, primary: Csb, { outbound, inbound }: StreamDirections) {
    const { crypto, options } = context;
    const stated = (outbound ?? inbound) as Direction;
    this.policy = policyOf(primary, stated.csId);
    if (outbound !== undefined) {
      const session = sessionOf(outbound);
      const keys = srtpMasterKeys(crypto, outbound.csb, outbound.csId);
      this.sender = createSrtpSender({ policy: policyOf(outbound.csb, outbound.csId), keys, crypto });
      if (session.ssrc !== 0 && session.roc !== 0) this.sender.setRolloverCounter(session.ssrc, session.roc);
      wipeMasterKeys(keys);
    }
    if (inbound !== undefined) {
      const session = sessionOf(inbound);
      const keys = srtpMasterKeys(crypto, inbound.csb, inbound.csId);
      this.receiver = createSrtpReceiver({
        policy: policyOf(inbound.csb, inbound.csId),
        keys,
        crypto,
        mkiOnWire: options.dialect.receivedMki ?? "expected",
        // The SSRC of the map may be 0 or unrelated, so its ROC holds for whichever SSRC comes; and it may have moved on.
        initialRolloverCounter: session.roc,
        searchRolloverCounter: session.roc !== 0,
      });
      wipeMasterKeys(keys);
    }
  }

  close(): void {
    this.sender?.close();
    this.receiver?.close();
  }
}

class Media implements KeyedMedia {
  readonly streams: readonly Stream[];
  readonly keyedBy: "psk" | "null";
  readonly tolerances: readonly ToleranceName[];
  readonly #context: KeyingContext;
  readonly #directions: readonly StreamDirections[];
  readonly #registration: RegistrationSa | undefined;
  readonly #overlaps = new Set<Timer>();
  #csb: Csb;
  #mki: Uint8Array | undefined;
  #fingerprint: string;
  #pending: PendingExchange | undefined;
  #lastRequest: Uint8Array | undefined;
  #closed = false;

  constructor(context: KeyingContext, bundle: Bundle, exchange: ExchangeFacts) {
    const { primary, streams } = bundle;
    this.#context = context;
    this.#directions = streams;
    this.#csb = primary;
    this.keyedBy = primary.nullKeyed ? "null" : "psk";
    this.tolerances = [...new Set(csbsOf(bundle).flatMap((csb) => csb.tolerances))];
    this.streams = streams.map((stream) => new Stream(context, primary, stream));
    this.#registration = registrationOf(context.crypto, primary, exchange);
    const first = firstKey(context.crypto, primary);
    this.#mki = first.mki;
    this.#fingerprint = fingerprintOf(context.crypto, first);
    this.#registration?.hold(first.mki ?? new Uint8Array(0), first.key);
    wipeMasterKeys([first]);
    for (const csb of csbsOf(bundle)) wipeKeyMaterial(csb);
  }

  get mki(): Uint8Array | undefined {
    return this.#mki;
  }

  get fingerprint(): string {
    return this.#fingerprint;
  }

  get canRekey(): boolean {
    return !this.#closed && this.#csb.role === "initiator" && this.keyedBy === "psk" && this.#mki !== undefined;
  }

  async startRekey(): Promise<PendingRekey> {
    const mki = this.#mki;
    if (!this.canRekey || mki === undefined) {
      throw new WatchwordError("gsa.rekey", "rekeying needs the Initiator, a pre-shared key and keys with an MKI");
    }
    if (this.#pending !== undefined) throw new WatchwordError("gsa.rekey", "a rekey is under way");
    const pending = this.#context.initiator.update(this.#csb, {
      keys: [{ kind: "TGK", length: 32, spi: nextSpi(mki) }],
      cryptoSessions: this.#currentSessions(),
      requestResponse: true,
    });
    this.#pending = pending;
    // The peer may send under the new key as soon as it has the message (RFC 3830 §4.5).
    this.#installInbound(pending.csb);
    return {
      octets: pending.octets,
      complete: async (response) => {
        if (this.#pending !== pending) throw new WatchwordError("gsa.rekey", "this rekey is over");
        if (response === undefined) throw new WatchwordError("gsa.no-answer", "the peer did not answer the rekey");
        const csb = pending.complete(response);
        this.#pending = undefined;
        this.#switchTo(csb);
      },
      abandon: () => {
        if (this.#pending !== pending) return;
        this.#pending = undefined;
        const spi = firstKeySpi(pending.csb);
        for (const stream of this.streams) stream.receiver?.removeKey(spi);
        pending.abandon();
      },
    };
  }

  async acceptRekey(update: Uint8Array): Promise<Uint8Array | undefined> {
    if (this.#closed) throw new WatchwordError("gsa.closed", "the session has ended");
    const received = this.#context.responder.receive(update, { csb: this.#csb, requirePsk: this.keyedBy === "psk" });
    if (received.kind === "repeated") return received.response;
    if (received.kind === "new") {
      wipeCsb(received.csb);
      throw new WatchwordError("gsa.rekey", "a message that begins a bundle where an update belongs");
    }
    const { csb } = received;
    const spi = firstKeySpi(csb);
    if (spi === undefined || this.#mki === undefined || equalBytes(spi, this.#mki)) {
      wipeKeyMaterial(csb);
      throw new WatchwordError("gsa.rekey", "an update without a new key with an SPI of its own");
    }
    this.#installInbound(csb);
    this.#switchTo(csb);
    return received.response;
  }

  deregister(): Uint8Array | undefined {
    this.#lastRequest = this.#registration?.request(encodeNtp(this.#context.options.clock.now()));
    return this.#lastRequest;
  }

  acceptDeregistration(request: Uint8Array | undefined): { readonly verdict: ProofVerdict; readonly acknowledgement?: Uint8Array } {
    if (request === undefined) return { verdict: "absent" };
    return this.#registration?.verifyRequest(request, this.#context.options.clock.now()) ?? { verdict: "rejected" };
  }

  verifyAcknowledgement(acknowledgement: Uint8Array | undefined): ProofVerdict {
    if (this.#lastRequest === undefined || this.#registration === undefined)
      return acknowledgement === undefined ? "absent" : "rejected";
    return this.#registration.verifyAcknowledgement(this.#lastRequest, acknowledgement);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#overlaps) timer.cancel();
    this.#overlaps.clear();
    this.#pending?.abandon();
    this.#pending = undefined;
    for (const stream of this.streams) stream.close();
    for (const csb of csbsOf({ primary: this.#csb, streams: this.#directions })) wipeCsb(csb);
    this.#registration?.wipe();
  }

  /** The sessions of the CSB with the rollover counters of now (RFC 3830 §6.1.1): what this party sends, it knows. */
  #currentSessions(): CryptoSessionRequest[] {
    return this.#csb.cryptoSessions.map((session) => {
      const index = Math.floor((session.csId - 1) / 2);
      const outbound = this.#directions[index]?.outbound;
      const roc = outbound?.csId === session.csId ? this.streams[index]?.sender?.rolloverCounter(session.ssrc) : undefined;
      return { csId: session.csId, policyNo: session.policyNo ?? 0, ssrc: session.ssrc, roc: roc ?? session.roc };
    });
  }

  #installInbound(csb: Csb): void {
    this.#each((stream, directions) => {
      if (stream.receiver === undefined || directions.inbound === undefined) return;
      this.#addKeys(stream.receiver, csb, directions.inbound.csId);
    });
  }

  #switchTo(csb: Csb): void {
    this.#each((stream, directions) => {
      if (stream.sender === undefined || directions.outbound === undefined) return;
      this.#addKeys(stream.sender, csb, directions.outbound.csId);
      stream.sender.useKey(firstKeySpi(csb));
    });
    const old = this.#mki;
    const first = firstKey(this.#context.crypto, csb);
    this.#mki = first.mki;
    this.#fingerprint = fingerprintOf(this.#context.crypto, first);
    this.#registration?.noteTimestamp(csb.timestamp.value);
    this.#registration?.hold(first.mki ?? new Uint8Array(0), first.key);
    wipeMasterKeys([first]);
    wipeKeyMaterial(csb);
    wipeCsb(this.#csb);
    this.#csb = csb;
    if (old !== undefined) this.#dropAfterOverlap(old);
  }

  /** Old keys open what is still on its way, then go (RFC 3711 §8.1). */
  #dropAfterOverlap(mki: Uint8Array): void {
    const timer = this.#context.options.timers.after(this.#context.overlapMs, () => {
      this.#overlaps.delete(timer);
      for (const stream of this.streams) {
        stream.receiver?.removeKey(mki);
        stream.sender?.removeKey(mki);
      }
      this.#registration?.forget(mki);
    });
    this.#overlaps.add(timer);
  }

  #addKeys(session: SrtpSender | SrtpReceiver, csb: Csb, csId: number): void {
    const keys = srtpMasterKeys(this.#context.crypto, csb, csId);
    for (const key of keys) session.addKey(key);
    wipeMasterKeys(keys);
  }

  #each(visit: (stream: Stream, directions: StreamDirections) => void): void {
    this.streams.forEach((stream, index) => {
      visit(stream, this.#directions[index] as StreamDirections);
    });
  }
}

function sessionOf({ csb, csId }: Direction): CryptoSession {
  const session = csb.cryptoSessions.find((candidate) => candidate.csId === csId);
  if (session === undefined) throw new WatchwordError("gsa.streams", `there is no crypto session ${csId}`);
  return session;
}

function policyOf(csb: Csb, csId: number): SrtpPolicy {
  const { policyNo } = sessionOf({ csb, csId });
  const policy = policyNo === undefined ? undefined : csb.policies.get(policyNo);
  if (policy === undefined) throw new WatchwordError("gsa.streams", `crypto session ${csId} has no policy`);
  return policy;
}

function csbsOf({ primary, streams }: Bundle): readonly Csb[] {
  return [...new Set([primary, ...streams.flatMap(({ outbound, inbound }) => [outbound?.csb, inbound?.csb])])].filter(
    (csb) => csb !== undefined,
  );
}

function firstKey(crypto: CryptoProvider, csb: Csb): CsbMasterKey {
  const [first, ...others] = srtpMasterKeys(crypto, csb, csb.cryptoSessions[0]?.csId ?? 1);
  wipeMasterKeys(others);
  if (first === undefined) throw new WatchwordError("gsa.no-key", "the key message carries no key");
  return first;
}

function firstKeySpi(csb: Csb): Uint8Array | undefined {
  const validity = csb.keys[0]?.validity;
  return validity?.kv === "spi" && validity.spi.length > 0 ? validity.spi : undefined;
}

function wipeMasterKeys(keys: readonly CsbMasterKey[]): void {
  for (const { key, salt } of keys) wipe(key, salt);
}

/** Keys go once the SRTP sessions and the registration have what they need; the credential stays for updates. */
function wipeKeyMaterial(csb: Csb): void {
  for (const { key, salt } of csb.keys) wipe(key, salt);
}

/** The registration SA of docs/protocol.md §5, or undefined where no secret stands behind the exchange. */
function registrationOf(crypto: CryptoProvider, csb: Csb, exchange: ExchangeFacts): RegistrationSa | undefined {
  const secret = secretOf(csb, exchange.secure);
  if (secret === undefined) return undefined;
  const { exchange: initial } = csb;
  const requestIds = identitiesIn(initial.request);
  return createRegistrationSa(
    crypto,
    {
      iMessage: initial.request,
      rMessage: exchange.answer,
      dataType: initial.dataType,
      csbId: csb.csbId,
      prfFunc: csb.prf,
      rand: csb.rand,
      t: initial.timestamp.value,
      initiatorId: requestIds[0] ?? NOBODY,
      responderId: requestIds[1] ?? identitiesIn(exchange.answer)[0] ?? NOBODY,
      initiatorNonce: nonceIn(initial.initiatorExtensions),
      responderNonce: nonceIn(initial.responderExtensions),
      role: csb.role,
    },
    secret,
  );
}

const NOBODY = new Uint8Array(0);

/** Identities as they were on the wire (docs/protocol.md §2): what a party knows otherwise, the other may not. */
function identitiesIn(octets: Uint8Array): Uint8Array[] {
  if (octets.length === 0) return [];
  return decodeMessage(octets, { trailing: "keep" }).payloads.flatMap((payload) => (payload.kind === "ID" ? [payload.data] : []));
}

/** S of docs/protocol.md §5. */
function secretOf(csb: Csb, secure: boolean): Uint8Array | undefined {
  const [first] = csb.keys;
  if (first?.kind === "TGK") return first.key;
  if ("psk" in csb.credential) return csb.credential.psk;
  return secure ? first?.key : undefined;
}

function nonceIn(extensions: readonly GeneralExtensionPayload[]): Uint8Array {
  return helloNonce(extensions) ?? new Uint8Array(0);
}

const FINGERPRINT = utf8("watchword fingerprint");

function fingerprintOf(crypto: CryptoProvider, { key, salt }: CsbMasterKey): string {
  return formatHex(crypto.hash("sha256", FINGERPRINT, key, salt).subarray(0, 4));
}

/** The next SPI in line: unlike all that may still be in use. */
function nextSpi(spi: Uint8Array): Uint8Array {
  const next = spi.slice();
  for (let i = next.length - 1; i >= 0; i--) {
    next[i] = ((next[i] as number) + 1) & 0xff;
    if (next[i] !== 0) break;
  }
  return next;
}
