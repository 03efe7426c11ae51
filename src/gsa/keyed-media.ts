import { equalBytes, WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import type { Timer } from "../io/index.js";
import {
  type CryptoSessionRequest,
  type Csb,
  type CsbMasterKey,
  createTurns,
  encodeNtp,
  type KeyKind,
  type KeyMaterial,
  type KeyRequest,
  MODES,
  type Mode,
  type ModeName,
  type PendingExchange,
  sameIdentity,
  samePolicy,
  srtpMasterKeys,
  type ToleranceName,
  type UpdateRequest,
  updateModeOf,
  wipeCsb,
} from "../mikey/index.js";
import { RTCP_LIFETIME, RTP_LIFETIME, type SrtpPolicy, type SrtpToleranceName, suiteOf } from "../srtp/index.js";
import type {
  AcceptRenewalRequest,
  KeyExport,
  KeyedBy,
  KeyedMedia,
  KeyedPeer,
  KeyedStream,
  PendingRekey,
  RenewalAnswer,
  RenewalRequest,
  StreamProposal,
} from "./contracts.js";
import { type ExchangeFacts, registrationOf } from "./exchange-registration.js";
import type { KeyingContext } from "./media-keying.js";
import { answeringHello, helloExtension, helloNonce } from "./pop.js";
import type { ProofVerdict } from "./proof.js";
import type { RegistrationSa } from "./registration.js";
import { keyFingerprint, nextSpi, type SharedSender, sameSpi } from "./shared-sender.js";
import {
  type Direction,
  directionsOf,
  exportDirection,
  policyOf,
  type SenderPool,
  Stream,
  type StreamContext,
  type StreamDirections,
  wipeMasterKeys,
} from "./stream.js";

const KEYED_BY: Readonly<Record<ModeName, KeyedBy>> = { PSK: "psk", PK: "pk", DH: "dh", DHHMAC: "dhhmac", "RSA-R": "rsa-r" };

/** What an exchange agreed on, ready to become media. */
export interface Bundle {
  /** The CSB of the I_MESSAGE: whose registration. */
  readonly primary: Csb;
  /** The CSB whose policy and key the media are known by; NULL keying may have another than `primary`. */
  readonly current: Csb;
  readonly streams: readonly StreamDirections[];
}

/** Installs the keys of a bundle. The bundle's key material is wiped; what an update needs stays. */
export function createKeyedMedia(context: KeyingContext, bundle: Bundle, exchange: ExchangeFacts, pool?: SenderPool): KeyedMedia {
  return new Media(context, bundle, exchange, pool);
}

/** A CSB whose keys are in use, as it is now. */
interface HeldBundle {
  readonly csb: Csb;
  readonly mki: Uint8Array | undefined;
  readonly fingerprint: string;
}

/** How long an answer may take longer than media, milliseconds: signalling goes through proxies. */
const ANSWER_MS = 1000;

/** Share of a key's packets after which a new one is due. */
const DUE = 0.75;

/** New keys that were installed for receiving, and are not sent under yet. */
interface Renewal {
  readonly csb: Csb;
  /** What these keys protect; in the NULL dialect it may be one direction only. */
  readonly directions: readonly StreamDirections[];
  /** m= lines that there were before. */
  readonly before: number;
}

class Media implements KeyedMedia {
  readonly keyedBy: KeyedBy;
  readonly peer: KeyedPeer | undefined;
  readonly helloExchanged: boolean;
  readonly #context: KeyingContext;
  readonly #streamContext: StreamContext;
  readonly #registration: RegistrationSa | undefined;
  readonly #secure: boolean;
  readonly #shared: SharedSender | undefined;
  readonly #tolerances: Set<ToleranceName | SrtpToleranceName>;
  readonly #exportKeys: KeyExport | undefined;
  readonly #overlaps = new Set<Timer>();
  /** Until this party sends under a key that its answer has told. */
  #switch: Timer | undefined;
  /** What changes keys waits for what changed them before. */
  readonly #turns = createTurns();
  readonly #streams: Stream[];
  /** By our role in it: what we made, we replace; what the peer made, the peer replaces. */
  readonly #held: { initiator?: HeldBundle; responder?: HeldBundle } = {};
  #directions: readonly StreamDirections[];
  /** The bundle that the media are known by. */
  #currentRole: Csb["role"];
  #pending: PendingExchange | undefined;
  #accepted: Renewal | undefined;
  #lastRequest: Uint8Array | undefined;
  #closed = false;

  constructor(context: KeyingContext, bundle: Bundle, exchange: ExchangeFacts, pool: SenderPool | undefined) {
    const { primary, current, streams } = bundle;
    this.#context = context;
    this.#shared = exchange.shared;
    this.#streamContext = {
      keying: context,
      pool,
      shared: exchange.shared,
      onMissingMki: () => this.#tolerances.add("mki-missing-in-packets"),
    };
    this.#directions = streams;
    this.#secure = exchange.secure;
    this.#currentRole = current.role;
    this.keyedBy = primary.nullKeyed ? "null" : KEYED_BY[primary.mode];
    const { peerKey } = primary;
    this.peer = peerKey === undefined ? undefined : { identities: peerKey.identities, fingerprint: peerKey.fingerprint };
    this.helloExchanged = [primary.exchange.initiatorExtensions, primary.exchange.responderExtensions].every(
      (extensions) => helloNonce(extensions) !== undefined,
    );
    this.#tolerances = new Set(csbsOf(bundle).flatMap((csb) => csb.tolerances));
    this.#streams = streams.map(({ outbound, inbound }) => {
      const stated = [outbound, inbound].find((direction) => direction?.csb === current) ?? ((outbound ?? inbound) as Direction);
      const stream = new Stream(this.#streamContext, policyOf(stated.csb, stated.csId));
      if (outbound !== undefined) stream.send(outbound);
      if (inbound !== undefined) stream.receive(inbound);
      return stream;
    });
    this.#registration = registrationOf(context.crypto, primary, exchange);
    for (const csb of csbsOf({ streams })) this.#hold(csb);
    this.#exportKeys = exchange.exportKeys;
    this.#export(streams);
    for (const csb of csbsOf(bundle)) wipeKeyMaterial(csb);
  }

  get streams(): readonly KeyedStream[] {
    return this.#streams;
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
    const mki = this.#held.initiator?.mki;
    // The key of a shared stream is made for all its receivers: one of them is told of it, if it does not know it yet.
    return !this.#closed && !never && mki !== undefined && (this.#shared === undefined || !sameSpi(this.#shared.mki, mki));
  }

  get rekeyDue(): boolean {
    if (!this.canRekey || this.#pending !== undefined || this.#shared !== undefined) return false;
    const mki = this.#held.initiator?.mki;
    const { rtp = RTP_LIFETIME, rtcp = RTCP_LIFETIME } = this.#context.options.keyLifetime ?? {};
    return this.#streams.some((stream, index) => {
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

  startRekey(): Promise<PendingRekey> {
    return this.#turns(() => this.#startRekey());
  }

  async #startRekey(): Promise<PendingRekey> {
    const mine = this.#held.initiator;
    if (!this.canRekey || mine?.mki === undefined) {
      throw new WatchwordError("gsa.rekey", "rekeying needs a key of our own making with an MKI, and a peer that takes another");
    }
    if (!mine.csb.nullKeyed) return this.#startRenewal({});
    this.#checkIdle();
    const kind = nullKeyKind(this.#context, policyOf(mine.csb, mine.csb.cryptoSessions[0]?.csId ?? 1));
    const key = this.#sharedKey() ?? { kind, spi: nextSpi(mine.mki) };
    return this.#renew(await this.#beginNullRekey(mine.csb, key), this.#streams.length);
  }

  startRenewal(request: RenewalRequest = {}): Promise<PendingRekey> {
    return this.#turns(() => this.#startRenewal(request));
  }

  async #startRenewal({ added = [], sdpIds }: RenewalRequest): Promise<PendingRekey> {
    this.#checkIdle();
    if (this.keyedBy === "null" || this.mki === undefined) {
      throw new WatchwordError("gsa.rekey", "a renewal needs a credential and keys with an MKI");
    }
    const mine = this.#held.initiator;
    const pending = await (mine === undefined ? this.#beginOwn(added, sdpIds) : this.#updateOwn(mine.csb, added, sdpIds));
    return this.#renew(pending, this.#streams.length + added.length);
  }

  #renew(pending: PendingExchange, streamCount: number): PendingRekey {
    if (this.#closed) {
      pending.abandon();
      throw new WatchwordError("gsa.rekey", "the session has ended");
    }
    // The peer may send under the new key as soon as it has the message (RFC 3830 §4.5), save where it has a part in the key.
    const early = pending.csb.keys.length === 0 ? undefined : this.#installed(pending, streamCount);
    if (early !== undefined) this.#export(early.directions);
    this.#pending = pending;
    return {
      octets: pending.octets,
      complete: (response) => this.#turns(() => this.#complete(pending, early, streamCount, response)),
      abandon: () => {
        if (this.#pending !== pending) return;
        this.#pending = undefined;
        if (early !== undefined) this.#uninstall(early);
        pending.abandon();
      },
    };
  }

  #installed(pending: PendingExchange, streamCount: number): Renewal {
    try {
      return this.#install(pending.csb, streamCount);
    } catch (error) {
      pending.abandon();
      throw error;
    }
  }

  async #complete(
    pending: PendingExchange,
    early: Renewal | undefined,
    streamCount: number,
    response: Uint8Array | undefined,
  ): Promise<void> {
    const over = (): WatchwordError => new WatchwordError("gsa.rekey", "this rekey is over");
    if (this.#pending !== pending) throw over();
    if (response === undefined && pending.responseRequested)
      throw new WatchwordError("gsa.no-answer", "the peer did not answer the rekey");
    const csb = response === undefined || !pending.responseRequested ? pending.csb : await pending.complete(response);
    if (this.#pending !== pending) {
      wipeCsb(csb);
      throw over();
    }
    if (early !== undefined) {
      this.#pending = undefined;
      this.#switchTo({ ...early, csb, directions: directionsUnder(csb, early.directions) });
      return;
    }
    try {
      const spi = firstKeySpi(csb);
      if (spi === undefined || this.#inUse(spi))
        throw new WatchwordError("gsa.rekey", "the peer made no key with an SPI of its own");
      const renewal = this.#install(csb, streamCount);
      this.#export(renewal.directions);
      this.#switchTo(renewal);
    } catch (error) {
      wipeCsb(csb);
      throw error;
    } finally {
      this.#pending = undefined;
    }
  }

  async acceptRekey(update: Uint8Array): Promise<Uint8Array | undefined> {
    const answer = await this.#turns(() => this.#accept(update, {}, false));
    if (answer.kind === "new") answer.commit();
    return answer.response;
  }

  acceptRenewal(message: Uint8Array, request: AcceptRenewalRequest = {}): Promise<RenewalAnswer> {
    return this.#turns(() => this.#accept(message, request, true));
  }

  async #accept(message: Uint8Array, request: AcceptRenewalRequest, mayBegin: boolean): Promise<RenewalAnswer> {
    if (this.#closed) throw new WatchwordError("gsa.closed", "the session has ended");
    const theirs = this.#held.responder;
    const { ssrcs } = request;
    let installed: Renewal | undefined;
    let unchanged = false;
    // Whatever is refused here, was never answered: the same message again is refused again.
    const accept = (csb: Csb, kind: "new" | "update"): void => {
      if (this.#closed) throw new WatchwordError("gsa.closed", "the session has ended");
      this.#checkIdle();
      if (kind === "new") this.#checkOwnBundle(csb, mayBegin);
      unchanged = kind === "update" && mayBegin && theirs !== undefined && bringsNoKey(csb, theirs.csb);
      if (unchanged) return;
      const spi = firstKeySpi(csb);
      if (spi === undefined || this.#inUse(spi)) {
        throw new WatchwordError("gsa.rekey", "an update without a new key with an SPI of its own");
      }
      installed = this.#install(csb, Math.max(request.streamCount ?? 0, this.#streams.length));
    };
    const undo = (): void => {
      if (installed !== undefined && !this.#closed) this.#uninstall(installed);
    };
    const received = await this.#context.responder
      .receive(message, {
        ...(theirs === undefined ? {} : { csb: theirs.csb }),
        requirePsk: this.keyedBy !== "null",
        secure: this.#secure,
        accept,
        // In RSA-R the new key is of our making.
        keys: () => keysFor(MODES.PSK, { spi: this.#freshSpi() }),
        ...(request.scope === undefined ? {} : { scope: request.scope }),
        ...(request.sdpIds === undefined ? {} : { sdpIds: request.sdpIds }),
        ...(ssrcs === undefined ? {} : { ssrcFor: (csId: number) => ssrcs[Math.floor((csId - 1) / 2)] }),
        ...(mayBegin ? { responseExtensions: (csb: Csb) => answeringHello(this.#context.crypto, csb) } : {}),
      })
      .catch((error: unknown) => {
        undo();
        throw error;
      });
    if (received.kind === "repeated") {
      undo();
      return { kind: "repeated", response: received.response };
    }
    const { csb, response } = received;
    if (this.#closed) {
      wipeCsb(csb);
      throw new WatchwordError("gsa.closed", "the session has ended");
    }
    if (unchanged || installed === undefined) return this.#acceptUnchanged(csb, response);
    const renewal: Renewal = { ...(installed as Renewal), csb };
    const mode = received.kind === "new" || theirs === undefined ? MODES[csb.mode] : updateModeOf(theirs.csb);
    return this.#answer({ ...renewal, directions: directionsUnder(csb, renewal.directions) }, response, mode);
  }

  #answer(renewal: Renewal, response: Uint8Array | undefined, mode: Mode): RenewalAnswer {
    const { csb } = renewal;
    this.#export(renewal.directions);
    this.#accepted = renewal;
    for (const tolerance of csb.tolerances) this.#tolerances.add(tolerance);
    return {
      kind: "new",
      response,
      commit: () => {
        if (this.#accepted !== renewal) return;
        this.#accepted = undefined;
        this.#switchTo(renewal, mode.keys !== "initiator");
      },
      rollback: () => {
        if (this.#accepted !== renewal) return;
        this.#accepted = undefined;
        this.#uninstall(renewal);
        wipeCsb(csb);
      },
    };
  }

  acceptCurrent(octets: Uint8Array): Promise<void> {
    return this.#turns(() => this.#acceptCurrent(octets));
  }

  async #acceptCurrent(octets: Uint8Array): Promise<void> {
    if (this.#closed) throw new WatchwordError("gsa.closed", "the session has ended");
    const received = await this.#context.responder.receive(octets, { secure: this.#secure, requirePsk: this.keyedBy !== "null" });
    if (received.kind !== "new") return;
    const { csb } = received;
    try {
      if (this.#closed) throw new WatchwordError("gsa.closed", "the session has ended");
      for (const [index, { inbound }] of this.#directions.entries()) {
        if (inbound?.csb.role === "responder") this.#streams[index]?.catchUp({ csb, csId: inbound.csId });
      }
    } finally {
      wipeCsb(csb);
    }
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
    this.#switch?.cancel();
    for (const timer of this.#overlaps) timer.cancel();
    this.#overlaps.clear();
    this.#pending?.abandon();
    this.#pending = undefined;
    if (this.#accepted !== undefined) wipeCsb(this.#accepted.csb);
    this.#accepted = undefined;
    for (const stream of this.#streams) stream.close();
    for (const held of [this.#held.initiator, this.#held.responder]) if (held !== undefined) wipeCsb(held.csb);
    this.#registration?.wipe();
  }

  /** One exchange at a time (RFC 3264 §4), and none while a key of ours could be another branch's too. */
  #checkIdle(): void {
    if (this.#closed) throw new WatchwordError("gsa.rekey", "the session has ended");
    if (this.#pending !== undefined || this.#accepted !== undefined) throw new WatchwordError("gsa.rekey", "a rekey is under way");
    if (this.#streams.some((stream) => stream.senderIsShared)) {
      throw new WatchwordError("gsa.rekey", "other branches of the offer are open");
    }
  }

  /** A bundle of the peer's own: only from the party that the first exchange authenticated, and only where the carrier has such. */
  #checkOwnBundle(csb: Csb, mayBegin: boolean): void {
    if (!mayBegin || csb.nullKeyed || this.keyedBy === "null" || this.#shared !== undefined) {
      throw new WatchwordError("gsa.rekey", "a message that begins a bundle where an update belongs");
    }
    if (KEYED_BY[csb.mode] !== this.keyedBy) throw new WatchwordError("gsa.rekey", "a bundle of another mode than the session's");
    const { initiator, responder } = this.#held;
    const known = responder === undefined ? initiator?.csb.responderId : responder.csb.initiatorId;
    if (!sameIdentity(known, csb.initiatorId)) {
      throw new WatchwordError("gsa.rekey", "the message is of another party than the session's");
    }
  }

  /** The key of now of a shared stream, as messages of this exchange carry it. */
  #sharedKey(): KeyRequest | undefined {
    return this.#shared?.keyRequest(sharedKeyKind(this.#context, this.#shared.policy, this.keyedBy));
  }

  async #updateOwn(csb: Csb, added: readonly StreamProposal[], sdpIds: readonly string[] | undefined): Promise<PendingExchange> {
    // The peer's own bundle may have brought m= lines that this one does not know yet.
    const unknown = this.#proposals().slice(Math.ceil(csb.cryptoSessions.length / 2));
    const news = [...unknown, ...added];
    const firstPolicy = csb.policies.size === 0 ? 0 : Math.max(...csb.policies.keys()) + 1;
    const key = this.#sharedKey();
    const keys = key === undefined ? keysFor(updateModeOf(csb), { spi: this.#freshSpi() }) : [key];
    const update: UpdateRequest = {
      ...(keys.length === 0 ? {} : { keys }),
      cryptoSessions: [...this.#currentSessions(csb), ...sessionsFor(news, firstPolicy)],
      ...(news.length === 0
        ? {}
        : { policies: policiesFor(news, firstPolicy), spDialect: this.#context.options.dialect.spDialect }),
      ...(sdpIds === undefined ? {} : { sdpIds }),
      requestResponse: true,
    };
    try {
      return await this.#context.initiator.update(csb, update);
    } finally {
      wipe(key?.value, key?.salt);
    }
  }

  /** The party that answered the first exchange begins a bundle of its own: only an Initiator updates (RFC 3830 §4.5). */
  #beginOwn(added: readonly StreamProposal[], sdpIds: readonly string[] | undefined): Promise<PendingExchange> {
    const base = (this.#held.responder as HeldBundle).csb;
    const proposals = [...this.#proposals(), ...added];
    return this.#context.initiator.begin({
      credential: base.credential,
      policies: policiesFor(proposals, 0),
      cryptoSessions: sessionsFor(proposals, 0),
      keys: keysFor(MODES[base.mode], { spi: this.#freshSpi() }),
      // What the first exchange announced holds for the session.
      ...(this.helloExchanged ? { extensions: [helloExtension(this.#context.crypto)] } : {}),
      spDialect: this.#context.options.dialect.spDialect,
      ...(base.responderId === undefined ? {} : { initiatorId: base.responderId }),
      ...(base.responderId === undefined || base.initiatorId === undefined ? {} : { responderId: base.initiatorId }),
      ...(sdpIds === undefined ? {} : { sdpIds }),
    });
  }

  /** The m= lines that there are, with what is known of what this party sends. */
  #proposals(): StreamProposal[] {
    return this.#streams.map(({ policy, sender }) => {
      const [ssrc = 0, ...others] = sender?.ssrcs ?? [];
      return others.length > 0 ? { policy } : { policy, ssrc, rolloverCounter: sender?.rolloverCounter(ssrc) ?? 0 };
    });
  }

  /** An update without a key: the bundle goes on under the keys that are there (RFC 3830 §4.5). */
  #acceptUnchanged(csb: Csb, response: Uint8Array | undefined): RenewalAnswer {
    const { timestamp } = csb;
    wipeCsb(csb);
    return {
      kind: "new",
      response,
      commit: () => {
        const theirs = this.#held.responder;
        if (this.#closed || theirs === undefined) return;
        // The sessions and policies of before stay: without a key nothing new could be protected.
        this.#held.responder = { ...theirs, csb: { ...theirs.csb, timestamp } };
        this.#registration?.noteTimestamp(timestamp.value);
      },
      rollback: () => undefined,
    };
  }

  /** A new NULL-keyed key in the shape of the first, as an update of the bundle or as a message of its own. */
  async #beginNullRekey(csb: Csb, key: KeyRequest): Promise<PendingExchange> {
    const { dialect } = this.#context.options;
    const { initiator } = this.#context;
    const { policies } = csb;
    const common = { keys: [key], policies, spDialect: dialect.spDialect, cryptoSessions: this.#currentSessions(csb) };
    try {
      return await (dialect.nullRekey === "replacement"
        ? initiator.begin({ ...common, credential: { nullKeying: true }, secure: this.#secure })
        : initiator.update(csb, common));
    } finally {
      wipe(key.value, key.salt);
    }
  }

  /** The sessions of the CSB with the rollover counters of now (RFC 3830 §6.1.1): what this party sends, it knows. */
  #currentSessions(csb: Csb): CryptoSessionRequest[] {
    return csb.cryptoSessions.map((session) => {
      const index = csb.nullKeyed ? 0 : Math.floor((session.csId - 1) / 2);
      const outbound = this.#directions[index]?.outbound;
      const mine = csb.nullKeyed ? outbound?.csb.role === csb.role && outbound.csId === session.csId : session.csId % 2 === 1;
      const roc = mine ? this.#streams[index]?.sender?.rolloverCounter(session.ssrc) : undefined;
      return { csId: session.csId, policyNo: session.policyNo ?? 0, ssrc: session.ssrc, roc: roc ?? session.roc };
    });
  }

  #inUse(spi: Uint8Array): boolean {
    const { initiator, responder } = this.#held;
    return [initiator, responder].some((held) => held?.mki !== undefined && equalBytes(held.mki, spi));
  }

  /** An SPI unlike all that may still be in use. */
  #freshSpi(): Uint8Array {
    const known = (spi: Uint8Array): boolean =>
      this.#streams.some(({ receiver, sender }) => (receiver?.keyUsage(spi) ?? sender?.keyUsage(spi)) !== undefined);
    let spi = nextSpi(this.mki as Uint8Array);
    while (this.#inUse(spi) || known(spi)) spi = nextSpi(spi);
    return spi;
  }

  /** The new keys open what comes in; m= lines that are new get their sessions. Nothing is left behind where it fails. */
  #install(csb: Csb, streamCount: number): Renewal {
    const before = this.#streams.length;
    const directions = csb.nullKeyed ? directionsUnder(csb, this.#directions, csb.role) : directionsOf(csb, streamCount);
    const renewal = { csb, before, directions };
    try {
      directions.forEach(({ outbound, inbound }, index) => {
        const stated = outbound ?? inbound;
        if (stated === undefined) return;
        const policy = policyOf(csb, stated.csId);
        const stream = this.#streams[index] ?? new Stream(this.#streamContext, policy);
        if (index >= before) this.#streams.push(stream);
        else if (!csb.nullKeyed && !samePolicy(policy, stream.policy)) {
          throw new WatchwordError("gsa.rekey", "a rekey under another security policy");
        }
        if (inbound !== undefined && (index >= before || stream.receiver !== undefined)) stream.receive(inbound);
      });
    } catch (error) {
      this.#uninstall(renewal);
      throw error;
    }
    return renewal;
  }

  /** Hands out copies of the master keys of these directions where the caller asked for them; otherwise none is made. */
  #export(directions: readonly StreamDirections[]): void {
    const exportKeys = this.#exportKeys;
    if (exportKeys === undefined) return;
    const { crypto } = this.#context;
    directions.forEach(({ outbound, inbound }, stream) => {
      exportKeys({
        stream,
        outbound: outbound && exportDirection(crypto, outbound),
        inbound: inbound && exportDirection(crypto, inbound),
      });
    });
  }

  #uninstall({ csb, before, directions }: Renewal): void {
    const spi = firstKeySpi(csb);
    if (spi !== undefined && !this.#inUse(spi)) {
      for (const [index, stream] of this.#streams.slice(0, before).entries()) {
        if (directions[index]?.inbound !== undefined) stream.receiver?.removeKey(spi);
      }
    }
    for (const stream of this.#streams.splice(before)) stream.close();
  }

  /** @param later the peer learns the new key from the answer, which media may overtake: they go on under the old one for a while */
  #switchTo({ csb, directions, before }: Renewal, later = false): void {
    const { role } = csb;
    this.#switch?.cancel();
    this.#switch = undefined;
    directions.forEach(({ outbound }, index) => {
      const stream = this.#streams[index];
      if (stream === undefined || outbound === undefined) return;
      if (index >= before || stream.sender !== undefined) stream.send(outbound, later && index < before);
    });
    if (later) this.#switchSoon(firstKeySpi(csb));
    const replacedRole = csb.nullKeyed ? role : this.#currentRole;
    const replaced = this.#held[replacedRole]?.mki;
    const superseded = this.#held[role]?.csb;
    // NULL-keyed bundles protect a direction each, so both stay; with a credential the newest protects everything.
    if (!csb.nullKeyed) this.#currentRole = role;
    this.#directions = directions.map((direction, index) => ({ ...this.#directions[index], ...direction }));
    this.#registration?.noteTimestamp(csb.timestamp.value);
    this.#hold(csb);
    wipeKeyMaterial(csb);
    if (superseded !== undefined) wipeCsb(superseded);
    if (replaced !== undefined) this.#dropAfterOverlap(replacedRole, replaced, directions);
  }

  #switchSoon(mki: Uint8Array | undefined): void {
    if (mki === undefined) return;
    const { options, overlapMs } = this.#context;
    this.#switch = options.timers.after(Math.min(ANSWER_MS, overlapMs / 2), () => {
      for (const stream of this.#streams) if (stream.sender?.keyUsage(mki) !== undefined) stream.use(mki);
      this.#switch = undefined;
    });
  }

  /** Notes a CSB as the one in use in its role; its keys are still there. */
  #hold(csb: Csb): void {
    const first = firstKey(this.#context.crypto, csb);
    this.#held[csb.role] = { csb, mki: first.mki, fingerprint: keyFingerprint(this.#context.crypto, first) };
    if (csb.role === this.#currentRole) this.#registration?.hold(first.mki ?? new Uint8Array(0), first.key);
    wipeMasterKeys([first]);
  }

  /** Old keys open what is still on its way, then go (RFC 3711 §8.1). */
  #dropAfterOverlap(role: Csb["role"], mki: Uint8Array, directions: readonly StreamDirections[]): void {
    const proven = role === this.#currentRole || this.keyedBy !== "null";
    const timer = this.#context.options.timers.after(this.#context.overlapMs, () => {
      this.#overlaps.delete(timer);
      this.#streams.forEach((stream, index) => {
        stream.forget(mki, directions[index] ?? {});
      });
      if (proven) this.#registration?.forget(mki);
    });
    this.#overlaps.add(timer);
  }
}

/** Two crypto sessions per m= line (RFC 4567 §7.1), each line with a policy of its own. */
function sessionsFor(lines: readonly StreamProposal[], firstPolicy: number): CryptoSessionRequest[] {
  return lines.flatMap(({ ssrc = 0, rolloverCounter = 0 }, index) => [
    { policyNo: firstPolicy + index, ssrc, roc: rolloverCounter },
    { policyNo: firstPolicy + index },
  ]);
}

function policiesFor(lines: readonly StreamProposal[], firstPolicy: number): ReadonlyMap<number, SrtpPolicy> {
  return new Map(lines.map(({ policy }, index) => [firstPolicy + index, policy]));
}

/** The same crypto sessions under another bundle: all, or those that a bundle of this role protects. */
function directionsUnder(csb: Csb, directions: readonly StreamDirections[], role?: Csb["role"]): StreamDirections[] {
  const under = (direction: Direction | undefined): Direction | undefined =>
    direction === undefined || (role !== undefined && direction.csb.role !== role) ? undefined : { csb, csId: direction.csId };
  return directions.map((stream) => {
    const [outbound, inbound] = [under(stream.outbound), under(stream.inbound)];
    return { ...(outbound === undefined ? {} : { outbound }), ...(inbound === undefined ? {} : { inbound }) };
  });
}

/** The keys of a bundle are wiped once they are installed; an update that brings none repeats the wiped ones. */
function bringsNoKey(csb: Csb, base: Csb): boolean {
  return (
    csb.cryptoSessions.length === base.cryptoSessions.length &&
    csb.keys.length === base.keys.length &&
    csb.keys.every(({ key }, index) => equalBytes(key, (base.keys[index] as KeyMaterial).key))
  );
}

/** How messages carry the key of a shared stream: as it is, since what is derived from a TGK depends on the message. */
export function sharedKeyKind(context: KeyingContext, policy: SrtpPolicy, keyedBy: KeyedBy): "TEK" | "TEK+SALT" {
  return keyedBy === "null" && nullKeyKind(context, policy) === "TEK" ? "TEK" : "TEK+SALT";
}

/** The key of a message of ours: 256 bits, of which an agreement takes the validity alone; none where the Responder makes it. */
export function keysFor(mode: Mode, spi: { readonly spi?: Uint8Array }): readonly KeyRequest[] {
  if (mode.keys === "responder") return [];
  return [{ kind: "TGK", ...(mode.keys === "initiator" ? { length: 32 } : {}), ...spi }];
}

/** The shape of a NULL-keyed key for a policy. */
export function nullKeyKind({ options }: KeyingContext, policy: SrtpPolicy): KeyKind {
  const { keyKind } = options.dialect;
  return suiteOf(policy.suite).cipher === "gcm" ? keyKind.aead : keyKind.hmac;
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

/** Keys go once the SRTP sessions and the registration have what they need; what updates are under stays. */
function wipeKeyMaterial(csb: Csb): void {
  for (const { key, salt } of csb.keys) wipe(key, salt);
  if (csb.envelope?.cached === false) wipe(csb.envelope.key);
}
