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
  type KeyKind,
  type PendingExchange,
  srtpMasterKeys,
  type ToleranceName,
  wipeCsb,
} from "../mikey/index.js";
import {
  createSrtpReceiver,
  createSrtpSender,
  createUndecidedSrtpReceiver,
  RTCP_LIFETIME,
  RTP_LIFETIME,
  type SrtpPolicy,
  type SrtpReceiver,
  type SrtpReceiverOptions,
  type SrtpSender,
  type SrtpToleranceName,
  suiteOf,
} from "../srtp/index.js";
import type { KeyedMedia, KeyedStream, PendingRekey } from "./contracts.js";
import type { KeyingContext, KeyLifetime } from "./media-keying.js";
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
  /** The CSB of the I_MESSAGE: whose registration. */
  readonly primary: Csb;
  /** The CSB whose policy and key the media are known by; NULL keying may have another than `primary`. */
  readonly current: Csb;
  readonly streams: readonly StreamDirections[];
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

  constructor(context: KeyingContext, current: Csb, { outbound, inbound }: StreamDirections, onMissingMki: () => void) {
    const { crypto, options } = context;
    const stated = [outbound, inbound].find((direction) => direction?.csb === current) ?? ((outbound ?? inbound) as Direction);
    this.policy = policyOf(stated.csb, stated.csId);
    if (outbound !== undefined) {
      const session = sessionOf(outbound);
      const keys = srtpMasterKeys(crypto, outbound.csb, outbound.csId);
      this.sender = createSrtpSender({
        policy: policyOf(outbound.csb, outbound.csId),
        keys: keys.map((key) => limited(key, outbound.csb.role, options.keyLifetime)),
        crypto,
      });
      if (session.ssrc !== 0 && session.roc !== 0) this.sender.setRolloverCounter(session.ssrc, session.roc);
      wipeMasterKeys(keys);
    }
    if (inbound !== undefined) {
      const session = sessionOf(inbound);
      const keys = srtpMasterKeys(crypto, inbound.csb, inbound.csId);
      const receiverOptions: SrtpReceiverOptions = {
        policy: policyOf(inbound.csb, inbound.csId),
        keys,
        crypto,
        // The SSRC of the map may be 0 or unrelated, so its ROC holds for whichever SSRC comes; and it may have moved on.
        initialRolloverCounter: session.roc,
        searchRolloverCounter: session.roc !== 0,
      };
      const doubtful = keys[0]?.mki !== undefined && options.dialect.srtpTolerances?.includes("mki-missing-in-packets") === true;
      this.receiver = doubtful ? createUndecidedSrtpReceiver(receiverOptions, onMissingMki) : createSrtpReceiver(receiverOptions);
      wipeMasterKeys(keys);
    }
  }

  close(): void {
    this.sender?.close();
    this.receiver?.close();
  }
}

/** A key of our making may protect fewer packets than SRTP allows; the peer's lifetimes are the peer's. */
function limited(key: CsbMasterKey, role: Csb["role"], lifetime: KeyLifetime | undefined): CsbMasterKey {
  if (role !== "initiator" || lifetime === undefined) return key;
  const { rtp, rtcp } = lifetime;
  return {
    ...key,
    ...(rtp === undefined ? {} : { rtpLifetime: Math.min(rtp, key.rtpLifetime ?? rtp) }),
    ...(rtcp === undefined ? {} : { rtcpLifetime: rtcp }),
  };
}

/** A CSB whose keys are in use, as it is now. */
interface HeldBundle {
  readonly csb: Csb;
  readonly mki: Uint8Array | undefined;
  readonly fingerprint: string;
}

/** Share of a key's packets after which a new one is due. */
const DUE = 0.75;

class Media implements KeyedMedia {
  readonly streams: readonly Stream[];
  readonly keyedBy: "psk" | "null";
  readonly #context: KeyingContext;
  readonly #directions: readonly StreamDirections[];
  readonly #registration: RegistrationSa | undefined;
  readonly #secure: boolean;
  readonly #currentRole: Csb["role"];
  readonly #tolerances: Set<ToleranceName | SrtpToleranceName>;
  readonly #overlaps = new Set<Timer>();
  /** By our role in it: what we made, we replace; what the peer made, the peer replaces. */
  readonly #held: { initiator?: HeldBundle; responder?: HeldBundle } = {};
  #pending: PendingExchange | undefined;
  #lastRequest: Uint8Array | undefined;
  #closed = false;

  constructor(context: KeyingContext, bundle: Bundle, exchange: ExchangeFacts) {
    const { primary, current, streams } = bundle;
    this.#context = context;
    this.#directions = streams;
    this.#secure = exchange.secure;
    this.#currentRole = current.role;
    this.keyedBy = primary.nullKeyed ? "null" : "psk";
    this.#tolerances = new Set(csbsOf(bundle).flatMap((csb) => csb.tolerances));
    this.streams = streams.map(
      (stream) => new Stream(context, current, stream, () => this.#tolerances.add("mki-missing-in-packets")),
    );
    this.#registration = registrationOf(context.crypto, primary, exchange);
    for (const csb of csbsOf({ streams })) this.#hold(csb);
    for (const csb of csbsOf(bundle)) wipeKeyMaterial(csb);
  }

  get tolerances(): readonly (ToleranceName | SrtpToleranceName)[] {
    return [...this.#tolerances];
  }

  get mki(): Uint8Array | undefined {
    return this.#held[this.#currentRole]?.mki;
  }

  get fingerprint(): string {
    return this.#held[this.#currentRole]?.fingerprint ?? "";
  }

  get canRekey(): boolean {
    const never = this.keyedBy === "null" && this.#context.options.dialect.nullRekey === "never";
    return !this.#closed && !never && this.#held.initiator?.mki !== undefined;
  }

  get rekeyDue(): boolean {
    if (!this.canRekey || this.#pending !== undefined) return false;
    const mki = this.#held.initiator?.mki;
    const { rtp = RTP_LIFETIME, rtcp = RTCP_LIFETIME } = this.#context.options.keyLifetime ?? {};
    return this.streams.some((stream, index) => {
      const { outbound, inbound } = this.#directions[index] as StreamDirections;
      return [
        outbound?.csb.role === "initiator" ? stream.sender : undefined,
        inbound?.csb.role === "initiator" ? stream.receiver : undefined,
      ].some((session) => {
        const usage = session?.keyUsage(mki);
        return usage !== undefined && (usage.rtp >= DUE * rtp || usage.rtcp >= DUE * rtcp);
      });
    });
  }

  async startRekey(): Promise<PendingRekey> {
    const mine = this.#held.initiator;
    if (!this.canRekey || mine?.mki === undefined) {
      throw new WatchwordError("gsa.rekey", "rekeying needs a key of our own making with an MKI, and a peer that takes another");
    }
    if (this.#pending !== undefined) throw new WatchwordError("gsa.rekey", "a rekey is under way");
    const spi = nextSpi(mine.mki);
    const pending = mine.csb.nullKeyed
      ? this.#beginNullRekey(mine.csb, spi)
      : this.#context.initiator.update(mine.csb, {
          keys: [{ kind: "TGK", length: 32, spi }],
          cryptoSessions: this.#currentSessions(mine.csb),
          requestResponse: true,
        });
    this.#pending = pending;
    // The peer may send under the new key as soon as it has the message (RFC 3830 §4.5).
    this.#installInbound(pending.csb);
    return {
      octets: pending.octets,
      complete: async (response) => {
        if (this.#pending !== pending) throw new WatchwordError("gsa.rekey", "this rekey is over");
        if (response === undefined && pending.responseRequested)
          throw new WatchwordError("gsa.no-answer", "the peer did not answer the rekey");
        const csb = response === undefined || !pending.responseRequested ? pending.csb : pending.complete(response);
        this.#pending = undefined;
        this.#switchTo(csb);
      },
      abandon: () => {
        if (this.#pending !== pending) return;
        this.#pending = undefined;
        const unused = firstKeySpi(pending.csb);
        this.#each("initiator", (stream, { inbound }) => {
          if (inbound) stream.receiver?.removeKey(unused);
        });
        pending.abandon();
      },
    };
  }

  async acceptRekey(update: Uint8Array): Promise<Uint8Array | undefined> {
    if (this.#closed) throw new WatchwordError("gsa.closed", "the session has ended");
    const theirs = this.#held.responder;
    const received = this.#context.responder.receive(update, {
      ...(theirs === undefined ? {} : { csb: theirs.csb }),
      requirePsk: this.keyedBy === "psk",
      secure: this.#secure,
    });
    if (received.kind === "repeated") return received.response;
    if (received.kind === "new") {
      wipeCsb(received.csb);
      throw new WatchwordError("gsa.rekey", "a message that begins a bundle where an update belongs");
    }
    const { csb } = received;
    const spi = firstKeySpi(csb);
    if (spi === undefined || theirs?.mki === undefined || equalBytes(spi, theirs.mki)) {
      wipeKeyMaterial(csb);
      throw new WatchwordError("gsa.rekey", "an update without a new key with an SPI of its own");
    }
    this.#installInbound(csb);
    this.#switchTo(csb);
    for (const tolerance of csb.tolerances) this.#tolerances.add(tolerance);
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
    for (const held of [this.#held.initiator, this.#held.responder]) if (held !== undefined) wipeCsb(held.csb);
    this.#registration?.wipe();
  }

  /** A new NULL-keyed key in the shape of the first, as an update of the bundle or as a message of its own. */
  #beginNullRekey(csb: Csb, spi: Uint8Array): PendingExchange {
    const { dialect } = this.#context.options;
    const { policies } = csb;
    const kind = nullKeyKind(this.#context, policyOf(csb, csb.cryptoSessions[0]?.csId ?? 1));
    const common = { keys: [{ kind, spi }], policies, spDialect: dialect.spDialect, cryptoSessions: this.#currentSessions(csb) };
    if (dialect.nullRekey !== "replacement") return this.#context.initiator.update(csb, common);
    return this.#context.initiator.begin({ ...common, credential: { nullKeying: true }, secure: this.#secure });
  }

  /** The sessions of the CSB with the rollover counters of now (RFC 3830 §6.1.1): what this party sends, it knows. */
  #currentSessions(csb: Csb): CryptoSessionRequest[] {
    return csb.cryptoSessions.map((session) => {
      const index = csb.nullKeyed ? 0 : Math.floor((session.csId - 1) / 2);
      const outbound = this.#directions[index]?.outbound;
      const mine = outbound?.csb.role === csb.role && outbound.csId === session.csId;
      const roc = mine ? this.streams[index]?.sender?.rolloverCounter(session.ssrc) : undefined;
      return { csId: session.csId, policyNo: session.policyNo ?? 0, ssrc: session.ssrc, roc: roc ?? session.roc };
    });
  }

  #installInbound(csb: Csb): void {
    this.#each(csb.role, ({ receiver }, { inbound }) => {
      if (receiver !== undefined && inbound) this.#addKeys(receiver, csb, inbound.csId);
    });
  }

  #switchTo(csb: Csb): void {
    const { role } = csb;
    this.#each(role, ({ sender }, { outbound }) => {
      if (sender === undefined || outbound === undefined) return;
      this.#addKeys(sender, csb, outbound.csId);
      sender.useKey(firstKeySpi(csb));
    });
    const old = this.#held[role];
    this.#registration?.noteTimestamp(csb.timestamp.value);
    this.#hold(csb);
    wipeKeyMaterial(csb);
    if (old === undefined) return;
    wipeCsb(old.csb);
    if (old.mki !== undefined) this.#dropAfterOverlap(role, old.mki);
  }

  /** Notes a CSB as the one in use in its role; its keys are still there. */
  #hold(csb: Csb): void {
    const first = firstKey(this.#context.crypto, csb);
    this.#held[csb.role] = { csb, mki: first.mki, fingerprint: fingerprintOf(this.#context.crypto, first) };
    if (csb.role === this.#currentRole) this.#registration?.hold(first.mki ?? new Uint8Array(0), first.key);
    wipeMasterKeys([first]);
  }

  /** Old keys open what is still on its way, then go (RFC 3711 §8.1). */
  #dropAfterOverlap(role: Csb["role"], mki: Uint8Array): void {
    const timer = this.#context.options.timers.after(this.#context.overlapMs, () => {
      this.#overlaps.delete(timer);
      this.#each(role, (stream, { outbound, inbound }) => {
        if (inbound) stream.receiver?.removeKey(mki);
        if (outbound) stream.sender?.removeKey(mki);
      });
      if (role === this.#currentRole) this.#registration?.forget(mki);
    });
    this.#overlaps.add(timer);
  }

  #addKeys(session: SrtpSender | SrtpReceiver, csb: Csb, csId: number): void {
    const keys = srtpMasterKeys(this.#context.crypto, csb, csId);
    const sending = "protect" in session;
    for (const key of keys) session.addKey(sending ? limited(key, csb.role, this.#context.options.keyLifetime) : key);
    wipeMasterKeys(keys);
  }

  /** Every stream with those of its directions that a CSB of this role protects. */
  #each(role: Csb["role"], visit: (stream: Stream, directions: StreamDirections) => void): void {
    this.streams.forEach((stream, index) => {
      const { outbound, inbound } = this.#directions[index] as StreamDirections;
      visit(stream, {
        ...(outbound?.csb.role === role ? { outbound } : {}),
        ...(inbound?.csb.role === role ? { inbound } : {}),
      });
    });
  }
}

/** The shape of a NULL-keyed key for a policy. */
export function nullKeyKind({ options }: KeyingContext, policy: SrtpPolicy): KeyKind {
  const { keyKind } = options.dialect;
  return suiteOf(policy.suite).cipher === "gcm" ? keyKind.aead : keyKind.hmac;
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

function csbsOf({ primary, streams }: Pick<Bundle, "streams"> & Partial<Bundle>): readonly Csb[] {
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
