import { WatchwordError, wipe } from "../bytes/index.js";
import { type CryptoProvider, defaultCrypto } from "../crypto/index.js";
import type { Clock, Timers } from "../io/index.js";
import {
  type BeginRequest,
  type Credential,
  type Csb,
  createInitiator,
  createReplayCache,
  createResponder,
  createTimestampSource,
  DhGroup,
  decodeMessage,
  EncrAlg,
  type GeneralExtensionPayload,
  type Identity,
  type Initiator,
  type KeyKind,
  type KeyPairCredential,
  MacAlg,
  MikeyError,
  type MikeyPolicy,
  MODES,
  modeNamed,
  modeNameOf,
  type PendingExchange,
  PrfFunc,
  type ReplayCache,
  type Responder,
  type ResponderOptions,
  type SpDialect,
  spiOf,
  type TimestampSource,
  type ToleranceName,
  wipeCsb,
} from "../mikey/index.js";
import { protectsEverything, type SrtpPolicy, type SrtpToleranceName } from "../srtp/index.js";
import type { ForkableOffer, KeyExport, KeyedMedia, MediaAnswer, StreamProposal } from "./contracts.js";
import { createKeyedMedia, keysFor, nullKeyKind, sharedKeyKind } from "./keyed-media.js";
import { answeringHello, helloExtension } from "./pop.js";
import type { SharedSender } from "./shared-sender.js";
import { createSenderPool, type Direction, directionsOf } from "./stream.js";

/**
 * Whose key protects which direction where keys are NULL-keyed (RFC 3830 knows one Initiator; peers differ):
 * `each`: everybody's message keys what its sender sends. `one`: a single key both ways, the answer's where there is one, otherwise
 * the offer's. `answerer`: the answer's key both ways; an offer's is never used. `by-mki`: as `each` where the answer's key has no MKI,
 * otherwise as `one`.
 */
export type NullDirections = "each" | "one" | "answerer" | "by-mki";

/** What we send, in so far as kinds of peers want it differently (the rows of src/peers). */
export interface KeyingDialect {
  readonly spDialect: SpDialect;
  /** How a NULL-keyed message carries the key: with suites that have a MAC of their own, and with AEAD. */
  readonly keyKind: { readonly hmac: KeyKind; readonly aead: KeyKind };
  /** Tolerances for what is received. */
  readonly tolerances: readonly ToleranceName[];
  /** Octets of the MKI that we announce and send; 0 for none. */
  readonly mkiLength: number;
  /** Tolerances for packets. Default none. */
  readonly srtpTolerances?: readonly SrtpToleranceName[];
  /** Default `each`. */
  readonly nullDirections?: NullDirections;
  /** Refuse NULL-keyed answers whose key has no MKI. Default false. */
  readonly requireMki?: boolean;
  /**
   * How a NULL-keyed key is replaced: by an update (RFC 3830 §4.5), by a complete message under another CSB ID, or not at all.
   * Default `update`.
   */
  readonly nullRekey?: "update" | "replacement" | "never";
}

/** Most packets under one key of our making, all SSRCs of a stream together (RFC 3711 §9.2). */
export interface KeyLifetime {
  readonly rtp?: number;
  readonly rtcp?: number;
}

/** What one end needs to key media, made once per server path, per client or per user agent. */
export interface MediaKeyingOptions {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly dialect: KeyingDialect;
  /** Default: the platform's. */
  readonly crypto?: CryptoProvider;
  /** Who we are in ID payloads. */
  readonly identity?: Identity;
  /** The pre-shared key of an Initiator, for the modes PSK and DHHMAC. Default: there is none. */
  readonly findCredential?: ResponderOptions["findCredential"];
  /** Our key pairs as a Responder, for the modes PK, DH and RSA-R, in the order of our preference. Default none. */
  readonly keyPairs?: readonly KeyPairCredential[];
  /**
   * What is acceptable in key messages, either way, and how keys of peers are judged: modes, algorithms, groups, suites, certificates.
   * Default: every mode, and no certificate.
   */
  readonly policy?: MikeyPolicy;
  /** Refuse NULL keying whatever else is allowed: a credential is required. */
  readonly requirePsk?: boolean;
  /** NULL keying outside TLS, asked for by name. Default false. */
  readonly allowNullKeying?: boolean;
  /** Which proposed policies are taken. Default: all that encrypt and authenticate. */
  readonly policyAccepted?: (policy: SrtpPolicy) => boolean;
  /** Accepted distance of the clocks, milliseconds. Default 5 minutes. */
  readonly skewMs?: number;
  /** Shared by everything that uses the same long-term keys. Defaults: one of its own. */
  readonly replayCache?: ReplayCache;
  readonly timestamps?: TimestampSource;
  /** Default 2^48 SRTP and 2^31 SRTCP packets. */
  readonly keyLifetime?: KeyLifetime;
  /** How long old keys go on opening packets after a rekey, milliseconds. Default 30 s. */
  readonly overlapMs?: number;
}

export interface OfferRequest {
  readonly credential: Credential;
  /** In the order of the m= lines. Exactly one with NULL keying. */
  readonly streams: readonly StreamProposal[];
  /** Whether TLS protects the channel end to end. */
  readonly secure: boolean;
  /** Whom the offer is meant for. In DH and RSA-R it may be left open: whoever answers proves who it is (RFC 4738 §4). */
  readonly responderId?: Identity;
  /** Whether somebody whom `responderId` left open may answer. Default: everybody whose key is good. */
  readonly acceptsResponder?: (responderId: Identity) => boolean;
  /** Key management protocols that the SDP offers, in its order (RFC 4567 §4.1.4). */
  readonly sdpIds?: readonly string[];
  /** Say HELLO: the peer announced docs/protocol.md, or the carrier lets us try (§4.2, §8). */
  readonly peerAnnounced?: boolean;
  /** Whose key protects what, where it is not as the dialect says: nobody offered before, and both ends know it. */
  readonly nullDirections?: NullDirections;
  /** Hands the SRTP master keys out. Default: they never leave. */
  readonly exportKeys?: KeyExport;
  /**
   * What this party sends on its one m= line, it sends to other receivers too: the message tells the key of this sender, and keys
   * nothing that comes back. Only in modes that transport the Initiator's key: PSK, PK.
   */
  readonly shared?: SharedSender;
  /** Ask for no response: the message tells a receiver of a shared stream what it may have missed. Default false. */
  readonly unanswered?: boolean;
}

export interface AnswerRequest {
  /** Whether TLS protects the channel end to end. */
  readonly secure: boolean;
  /** SSRC that this party sends on each m= line, 0 where unknown. */
  readonly ssrcs: readonly number[];
  /** The dialog or session; a repeated message is answered again in the same one only. */
  readonly scope: string;
  /** The Initiator's identity where the message may lack one. */
  readonly peerId?: Identity;
  readonly sdpIds?: readonly string[];
  /** With NULL keying: answer with a NULL-keyed message of our own, which keys what we send. Default false: we send nothing. */
  readonly keyOwnDirection?: boolean;
  /** With NULL keying: which of how many m= lines that the message covers this answer is for. Default: the only one. */
  readonly line?: { readonly index: number; readonly count: number };
  /** With NULL keying: the policy of our own key. Default: as the message has it. */
  readonly policy?: SrtpPolicy;
  /** Whose key protects what, where it is not as the dialect says. */
  readonly nullDirections?: NullDirections;
  /** Hands the SRTP master keys out. Default: they never leave. */
  readonly exportKeys?: KeyExport;
}

/** Makes and answers offers of keys. */
export interface MediaKeying {
  readonly options: MediaKeyingOptions;
  /** @throws MikeyError `mikey.null-keying`, `mikey.option`; WatchwordError `gsa.streams` */
  offer(request: OfferRequest): Promise<ForkableOffer>;
  /**
   * Answers an I_MESSAGE. A message that was answered before in the same scope gives the same response and no new media.
   * @throws CodecError, MikeyError (with the ERR message in `reply`)
   */
  answer(octets: Uint8Array, request: AnswerRequest): Promise<MediaAnswer>;
}

const DEFAULT_OVERLAP_MS = 30_000;

/** What the pieces of one end share. */
export interface KeyingContext {
  readonly options: MediaKeyingOptions;
  readonly crypto: CryptoProvider;
  readonly initiator: Initiator;
  readonly responder: Responder;
  readonly overlapMs: number;
}

/** @throws WatchwordError `gsa.mki-length` */
export function createMediaKeying(options: MediaKeyingOptions): MediaKeying {
  const { clock, dialect } = options;
  if (!Number.isInteger(dialect.mkiLength) || dialect.mkiLength < 0 || dialect.mkiLength > 255) {
    throw new WatchwordError("gsa.mki-length", `an MKI has 0 to 255 octets, not ${dialect.mkiLength}`);
  }
  const crypto = options.crypto ?? defaultCrypto;
  const allowNullKeying = options.allowNullKeying ?? false;
  const context: KeyingContext = {
    options,
    crypto,
    overlapMs: options.overlapMs ?? DEFAULT_OVERLAP_MS,
    initiator: createInitiator({
      crypto,
      clock,
      timestamps: options.timestamps ?? createTimestampSource(clock),
      allowNullKeying,
      tolerances: dialect.tolerances,
      ...(options.policy === undefined ? {} : { policy: options.policy }),
    }),
    responder: createResponder({
      crypto,
      clock,
      allowNullKeying,
      tolerances: dialect.tolerances,
      findCredential: options.findCredential ?? (() => undefined),
      replayCache: options.replayCache ?? createReplayCache(),
      ...(options.keyPairs === undefined ? {} : { keyPairs: options.keyPairs }),
      ...(options.policy === undefined ? {} : { policy: options.policy }),
      ...(options.skewMs === undefined ? {} : { skewMs: options.skewMs }),
      ...(options.identity === undefined ? {} : { identity: options.identity }),
      ...(options.policyAccepted === undefined ? {} : { policyAccepted: policyGate(options.policyAccepted) }),
    }),
  };
  return {
    options,
    offer: async (request) => offerMedia(context, request),
    answer: async (octets, request) => answerMedia(context, octets, request),
  };
}

/** A caller's choice narrows what the exchange accepts; it never widens it to plaintext. */
function policyGate(accepted: (policy: SrtpPolicy) => boolean): (policy: SrtpPolicy) => boolean {
  return (policy) => protectsEverything(policy) && accepted(policy);
}

async function offerMedia(context: KeyingContext, request: OfferRequest): Promise<ForkableOffer> {
  const nullKeyed = "nullKeying" in request.credential;
  if (request.streams.length === 0 || (nullKeyed && request.streams.length > 1)) {
    throw new WatchwordError("gsa.streams", "an exchange covers at least one m= line, and exactly one with NULL keying");
  }
  if (request.shared !== undefined && request.streams.length > 1) {
    throw new WatchwordError("gsa.streams", "a shared stream has an exchange of its own");
  }
  const pending = await (nullKeyed ? beginNull(context, request) : beginKeyed(context, request));
  const pool = createSenderPool(context.crypto);
  return {
    octets: pending.octets,
    ...(request.peerAnnounced === true && hasPrivateNumbers(pending.octets)
      ? { privateNumbers: mayDoWithoutHello(context, request.credential) ? "preferred" : "required" }
      : {}),
    async fork(answer) {
      if (nullKeyed) throw new WatchwordError("gsa.null-fork", "without a credential nothing tells the branches of an offer apart");
      const csb = await pending.fork(answer);
      const bundle = { primary: csb, current: csb, streams: directionsOf(csb, request.streams.length) };
      return createKeyedMedia(context, bundle, { answer, secure: request.secure, shared: request.shared }, pool);
    },
    async accept(answer) {
      if (nullKeyed) return acceptNullAnswer(context, request, pending, answer);
      if (answer === undefined) throw new WatchwordError("gsa.no-answer", "the peer did not answer the key message");
      const csb = await pending.complete(answer);
      return createKeyedMedia(
        context,
        { primary: csb, current: csb, streams: directionsOf(csb, request.streams.length) },
        { answer, secure: request.secure, shared: request.shared, exportKeys: request.exportKeys },
      );
    },
    abandon: () => pending.abandon(),
  };
}

/**
 * Two consecutive crypto sessions per m= line (RFC 4567 §7.1): odd for what the Initiator sends, even for the Responder. A shared
 * stream has the odd one only: under one key for all, two receivers that chose the same SSRC would use the same keystream (RFC 3711 §9.1).
 */
async function beginKeyed(context: KeyingContext, request: OfferRequest): Promise<PendingExchange> {
  const { options } = context;
  const { shared } = request;
  const mode = modeNamed(modeNameOf(request.credential));
  if (shared !== undefined && mode.keys !== "initiator")
    throw new WatchwordError("gsa.streams", `the key of a shared stream cannot be told in mode ${mode.name}`);
  const key = shared?.keyRequest(sharedKeyKind(context, shared.policy, "psk"));
  const policies = new Map(request.streams.map((stream, index) => [index, stream.policy]));
  const extensions: GeneralExtensionPayload[] = request.peerAnnounced === true ? [helloExtension(context.crypto)] : [];
  const begin: BeginRequest = {
    credential: request.credential,
    secure: request.secure,
    policies,
    cryptoSessions: request.streams.flatMap((stream, policyNo) => [
      { policyNo, ssrc: stream.ssrc ?? 0, roc: stream.rolloverCounter ?? 0 },
      ...(shared === undefined ? [{ policyNo }] : []),
    ]),
    keys: key === undefined ? keysFor(mode, spiRequest(context)) : [key],
    spDialect: options.dialect.spDialect,
    extensions,
    ...(request.unanswered === true ? { requestResponse: false } : {}),
    ...(options.identity === undefined ? {} : { initiatorId: options.identity }),
    ...(request.responderId === undefined ? {} : { responderId: request.responderId }),
    ...(request.acceptsResponder === undefined ? {} : { acceptsResponder: request.acceptsResponder }),
    ...(request.sdpIds === undefined ? {} : { sdpIds: request.sdpIds }),
  };
  try {
    return await context.initiator.begin(begin);
  } finally {
    wipe(key?.value, key?.salt);
  }
}

/** One crypto session, one TEK, nothing that the peers of this dialect choke on. */
async function beginNull(context: KeyingContext, request: OfferRequest): Promise<PendingExchange> {
  const { dialect } = context.options;
  const { shared } = request;
  const stream = request.streams[0] as StreamProposal;
  const key = shared?.keyRequest(sharedKeyKind(context, shared.policy, "null"));
  try {
    return await context.initiator.begin({
      credential: { nullKeying: true },
      secure: request.secure,
      policies: new Map([[0, stream.policy]]),
      cryptoSessions: [{ policyNo: 0, ssrc: stream.ssrc ?? 0, roc: stream.rolloverCounter ?? 0 }],
      keys: [key ?? { kind: nullKeyKind(context, stream.policy), ...spiRequest(context) }],
      spDialect: dialect.spDialect,
    });
  } finally {
    wipe(key?.value, key?.salt);
  }
}

/** Whether a message has anything that only docs/protocol.md knows, beside HELLO, or that RFC 3830 does not. */
function hasPrivateNumbers(octets: Uint8Array): boolean {
  const { header, payloads } = decodeMessage(octets);
  const foreign = payloads.some(
    (payload) =>
      payload.kind === "SIGNX" ||
      (payload.kind === "DH" && payload.group > DhGroup.OAKLEY_2) ||
      (payload.kind === "KEMAC" && (payload.macAlg > MacAlg.HMAC_SHA_1_160 || payload.encrAlg > EncrAlg.AES_KW_128)),
  );
  return foreign || header.prf !== PrfFunc.MIKEY_1;
}

function mayDoWithoutHello({ options, initiator }: KeyingContext, credential: Credential): boolean {
  return (options.policy?.fallback ?? true) && !initiator.needsHello(credential);
}

function spiRequest(context: KeyingContext): { spi?: Uint8Array } {
  const { mkiLength } = context.options.dialect;
  return mkiLength === 0 ? {} : { spi: context.crypto.randomBytes(mkiLength) };
}

/**
 * In the NULL dialect the answer is a message of the peer's own, or there is none: then the peer sends nothing that could be opened, or
 * (`one`) sends under our key too.
 */
async function acceptNullAnswer(
  context: KeyingContext,
  request: OfferRequest,
  pending: PendingExchange,
  answer: Uint8Array | undefined,
): Promise<KeyedMedia> {
  const offered: Direction = { csb: pending.csb, csId: 1 };
  const answered = answer === undefined ? undefined : await receiveNullAnswer(context, answer, request.secure);
  // What is sent to many is under the key of the many, whatever one of them brings.
  const wanted = request.shared === undefined ? (request.nullDirections ?? context.options.dialect.nullDirections) : "each";
  const directions = directionsFor(wanted, answered?.csb);
  if (directions === "answerer" && answered === undefined)
    throw new MikeyError("mikey.absent", "the answer brings no key, and no other is used here");
  const stream =
    directions === "each"
      ? { outbound: offered, ...(answered === undefined ? {} : { inbound: answered }) }
      : { outbound: answered ?? offered, inbound: answered ?? offered };
  const bundle = { primary: pending.csb, current: stream.outbound.csb, streams: [stream] };
  return createKeyedMedia(context, bundle, {
    answer: answer ?? new Uint8Array(0),
    secure: request.secure,
    exportKeys: request.exportKeys,
    shared: request.shared,
  });
}

async function receiveNullAnswer(context: KeyingContext, answer: Uint8Array, secure: boolean): Promise<Direction | undefined> {
  const received = await context.responder.receive(answer, { secure });
  if (received.kind !== "new") return undefined;
  const { csb } = received;
  if (context.options.dialect.requireMki === true && csb.keys.some((key) => spiOf(key) === undefined)) {
    wipeCsb(csb);
    throw new MikeyError("mikey.key-data", "the key has no MKI, and packets are to carry one");
  }
  return { csb, csId: csb.cryptoSessions[0]?.csId ?? 1 };
}

function directionsFor(wanted: NullDirections = "each", received: Csb | undefined): Exclude<NullDirections, "by-mki"> {
  if (wanted !== "by-mki") return wanted;
  return received === undefined || received.keys.some((key) => spiOf(key) !== undefined) ? "one" : "each";
}

async function answerMedia(context: KeyingContext, octets: Uint8Array, request: AnswerRequest): Promise<MediaAnswer> {
  const { options } = context;
  const received = await context.responder.receive(octets, {
    secure: request.secure,
    scope: request.scope,
    requirePsk: options.requirePsk ?? false,
    ssrcFor: (csId) => request.ssrcs[Math.floor((csId - 1) / 2)],
    responseExtensions: (csb) => answeringHello(context.crypto, csb),
    accept: (csb) => {
      if (!csb.nullKeyed) directionsOf(csb, request.ssrcs.length);
    },
    keys: () => keysFor(MODES.PSK, spiRequest(context)),
    ...(request.peerId === undefined ? {} : { peerId: request.peerId }),
    ...(request.sdpIds === undefined ? {} : { sdpIds: request.sdpIds }),
  });
  if (received.kind === "repeated") return { kind: "repeated", response: received.response };
  if (received.kind === "update") throw new WatchwordError("gsa.rekey", "an update where an initial message belongs");
  const { csb } = received;
  if (!csb.nullKeyed) {
    const media = createKeyedMedia(
      context,
      { primary: csb, current: csb, streams: directionsOf(csb, request.ssrcs.length) },
      {
        answer: received.response ?? new Uint8Array(0),
        secure: request.secure,
        exportKeys: request.exportKeys,
      },
    );
    return { kind: "new", media, response: received.response };
  }
  return answerNull(context, csb, request);
}

/** What comes in is under the message's key, or under ours; what we send is under ours, or under the message's (`NullDirections`). */
async function answerNull(context: KeyingContext, received: Csb, request: AnswerRequest): Promise<MediaAnswer> {
  const directions = directionsFor(request.nullDirections ?? context.options.dialect.nullDirections, received);
  const { csId, tolerances } = sessionOfLine(context, received, request.line);
  const theirs: Direction = { csb: { ...received, tolerances: [...received.tolerances, ...tolerances] }, csId };
  const keyed = directions === "answerer" || (directions !== "one" && request.keyOwnDirection === true);
  const own = keyed ? await beginOwnDirection(context, theirs, request) : undefined;
  const ours: Direction | undefined = own === undefined ? undefined : { csb: own.csb, csId: 1 };
  const inbound = directions === "answerer" && ours !== undefined ? ours : theirs;
  const outbound = directions === "one" ? theirs : ours;
  const stream = { inbound, ...(outbound === undefined ? {} : { outbound }) };
  const media = createKeyedMedia(
    context,
    { primary: theirs.csb, current: inbound.csb, streams: [stream] },
    { answer: own?.octets ?? new Uint8Array(0), secure: request.secure, exportKeys: request.exportKeys },
  );
  return { kind: "new", media, response: own?.octets };
}

/**
 * The crypto session of one of several m= lines that a NULL-keyed message at session level covers: two per line (RFC 4567 §7.1), or
 * one per line; where there are fewer, the first serves all (`one-key-for-all-streams`): packets differ by SSRC.
 * @throws WatchwordError `gsa.streams`
 */
function sessionOfLine(
  { options }: KeyingContext,
  csb: Csb,
  line: AnswerRequest["line"],
): { readonly csId: number; readonly tolerances: readonly ToleranceName[] } {
  const { cryptoSessions } = csb;
  const first = cryptoSessions[0]?.csId ?? 1;
  if (line === undefined || line.count === 1) return { csId: first, tolerances: [] };
  const step = cryptoSessions.length >= 2 * line.count ? 2 : 1;
  const own = cryptoSessions.length >= line.count ? cryptoSessions[step * line.index]?.csId : undefined;
  if (own !== undefined) return { csId: own, tolerances: [] };
  if (!options.dialect.tolerances.includes("one-key-for-all-streams")) {
    wipeCsb(csb);
    throw new WatchwordError("gsa.streams", `${cryptoSessions.length} crypto sessions for ${line.count} m= lines`);
  }
  return { csId: first, tolerances: ["one-key-for-all-streams"] };
}

/** Our direction in the policy that the peer chose for its own, unless the caller knows better. */
async function beginOwnDirection(
  context: KeyingContext,
  { csb, csId }: Direction,
  request: AnswerRequest,
): Promise<PendingExchange> {
  const session = csb.cryptoSessions.find((candidate) => candidate.csId === csId);
  const policy = request.policy ?? csb.policies.get(session?.policyNo ?? 0);
  if (policy === undefined) {
    wipeCsb(csb);
    throw new WatchwordError("gsa.streams", "the message names no policy for its crypto session");
  }
  return beginNull(context, {
    credential: { nullKeying: true },
    streams: [{ policy, ssrc: request.ssrcs[0] ?? 0 }],
    secure: request.secure,
  });
}
