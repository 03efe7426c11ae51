import { CodecError } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import type { Clock } from "../io/index.js";
import { protectsEverything, type SrtpPolicy } from "../srtp/index.js";
import { decodeMessage } from "./codec.js";
import { answeredSessions, cryptoSessionsOf, csMapOf } from "./cs-map.js";
import {
  type Credential,
  type CryptoSession,
  type Csb,
  checkKeys,
  copyCredential,
  copyKeys,
  type Identity,
  identityKey,
  type KeyMaterial,
  keyMaterialOf,
  sameIdentity,
  wipeCsb,
} from "./csb.js";
import { encodeErrorMessage, MikeyPeerError, readErrorMessage } from "./error-message.js";
import { authenticationError, MikeyError } from "./errors.js";
import { deriveMessageKeys, type MessageKeys, prfHash, wipeMessageKeys } from "./keys.js";
import type { DecodedMessage, GeneralExtensionPayload, Payload } from "./message.js";
import { checkGrammar, coveredOctets, type Mode, payloadOf, payloadsOf, requiredPayload } from "./modes/grammar.js";
import { modeOf } from "./modes/modes.js";
import { checkPskAlgorithms, encodeWithV, isNullKeyed, readKemac, verificationSuffix, verifyKemac } from "./modes/psk.js";
import { decodeSdpIds } from "./payloads-content.js";
import { CsMapType, DataType, ExtensionType, entryOf, MacAlg, ProtType } from "./registry.js";
import { type ReplayCache, type ReplayClaim, replayClaim } from "./replay.js";
import { srtpPolicyOf } from "./srtp-policy.js";
import { checkTimestamp, isNewer, type Timestamp } from "./timestamp.js";
import { createToleranceUse, type ToleranceName, type ToleranceUse } from "./tolerances.js";

/** Accepted distance of the clocks either way (RFC 3830 §5.4 leaves it to local policy). */
export const DEFAULT_SKEW_MS = 5 * 60_000;
/** RFC 3830 §6.11 recommends 16 octets; below, the freshness of derived keys rests on the PSK alone. */
const LEAST_RAND = 16;
const MOST_KEYS = 64;

export interface ResponderOptions {
  readonly crypto: CryptoProvider;
  readonly clock: Clock;
  /** The pre-shared key of an Initiator; undefined where there is none. The identity is the one of the message, else of the context. */
  readonly findCredential: (initiatorId: Identity | undefined, context: ReceiveContext) => { readonly psk: Uint8Array } | undefined;
  /** Claims by itself. Without it the caller has to make the reported claim before anything comes of the message. */
  readonly replayCache?: ReplayCache;
  /** Accepted distance of the clocks either way, milliseconds. Default 5 minutes. */
  readonly skewMs?: number;
  /**
   * Accept COUNTER timestamps under a pre-shared key. They have no time that could go out of date, so the greatest one has
   * to outlive restarts: only with a durable cache. Default false.
   */
  readonly acceptCounter?: boolean;
  /** Named departures from RFC 3830 that are put up with. Default none. */
  readonly tolerances?: readonly ToleranceName[];
  /** Accept NULL keying outside TLS. Default false. */
  readonly allowNullKeying?: boolean;
  /** Who we are: sent as IDr, and what a received IDr has to be. */
  readonly identity?: Identity;
  /** Which IDr are ours, where it is more than `identity`. */
  readonly isLocalIdentity?: (responderId: Identity) => boolean;
  /** Default: everything that encrypts and authenticates both RTP and RTCP. */
  readonly policyAccepted?: (policy: SrtpPolicy, policyNo: number, context: ReceiveContext) => boolean;
  /** Policies to name in an ERR where none of the proposed is accepted (RFC 3830 §5.1.1). */
  readonly supported?: readonly SrtpPolicy[];
}

/** What the carrier knows of a message beside its octets. */
export interface ReceiveContext {
  /** Whether TLS protects the channel end to end. Default false. */
  readonly secure?: boolean;
  /** True where a pre-shared key is required: NULL keying is then refused whatever else is allowed. */
  readonly requirePsk?: boolean;
  /** The Initiator's identity where the message has none: From, authentication (RFC 4567 §4.2, §7). */
  readonly peerId?: Identity;
  /** Dialog or session: a repeated message is answered again only in the same one. */
  readonly scope?: string;
  /** The bundle that this dialog or session has; an update can only be for it. */
  readonly csb?: Csb;
  /** The key management protocols that the SDP offered, in its order; compared with the SDP IDs extension (RFC 4567 §4.1.4). */
  readonly sdpIds?: readonly string[];
  /** SSRC for a session that the Initiator left open because the Responder sends it. */
  readonly ssrcFor?: (csId: number) => number | undefined;
  /** General Extensions for the response, from the CSB that was just agreed. */
  readonly responseExtensions?: (csb: Csb) => readonly GeneralExtensionPayload[];
}

export type Received =
  | {
      /** `update`: the CSB of the context, changed (RFC 3830 §4.5). */
      readonly kind: "new" | "update";
      readonly csb: Csb;
      /** The R_MESSAGE, where one was requested. */
      readonly response: Uint8Array | undefined;
      /** To be made durable before anything comes of the message; undefined with NULL keying, where nothing is authentic. */
      readonly claim: ReplayClaim | undefined;
    }
  /** The same message again: send the same response, change nothing. */
  | { readonly kind: "repeated"; readonly response: Uint8Array | undefined; readonly claim: ReplayClaim };

/** Answers initial messages and updates. */
export interface Responder {
  /**
   * One I_MESSAGE (RFC 3830 §5.3).
   * @throws CodecError where the octets are no MIKEY message; MikeyError where they are refused, with the ERR message to
   *   send in `reply` where one may be sent; MikeyPeerError for an ERR message
   */
  receive(octets: Uint8Array, context?: ReceiveContext): Promise<Received>;
}

export function createResponder(options: ResponderOptions): Responder {
  // Stands in for the key of an identity that is not known, so that the answer takes as long.
  const nobody = options.crypto.randomBytes(32);
  return {
    async receive(octets, context = {}) {
      const use = createToleranceUse(options.tolerances ?? []);
      const message = decodeMessage(octets, { trailing: (options.tolerances ?? []).includes("trailing-zero") ? "keep" : "refuse" });
      return new Reception(options, nobody, message, context, use).run();
    },
  };
}

/** What the checks up to authentication find out. */
interface Authentic {
  readonly credential: Credential;
  readonly initiatorId: Identity | undefined;
  readonly messageKeys: MessageKeys | undefined;
  readonly claim: ReplayClaim | undefined;
  readonly verify: boolean;
}

/** One message on its way through the checks, in the order of RFC 3830 §5.3. */
class Reception {
  readonly #options: ResponderOptions;
  readonly #crypto: CryptoProvider;
  readonly #nobody: Uint8Array;
  readonly #message: DecodedMessage;
  readonly #context: ReceiveContext;
  readonly #use: ToleranceUse;
  readonly #now: number;
  #timestamp: Timestamp | undefined;
  /** Set once the MAC was verified: errors are authenticated from then on. */
  #messageKeys: MessageKeys | undefined;

  constructor(options: ResponderOptions, nobody: Uint8Array, message: DecodedMessage, context: ReceiveContext, use: ToleranceUse) {
    this.#options = options;
    this.#crypto = options.crypto;
    this.#nobody = nobody;
    this.#message = message;
    this.#context = context;
    this.#use = use;
    this.#now = options.clock.now();
  }

  async run(): Promise<Received> {
    try {
      return await this.#receive();
    } catch (error) {
      throw this.#withReply(error);
    } finally {
      if (this.#messageKeys !== undefined) wipeMessageKeys(this.#messageKeys);
    }
  }

  async #receive(): Promise<Received> {
    const { header } = this.#message;
    const mode = this.#mode();
    const base = this.#updatedCsb();
    const t = requiredPayload(this.#message, "T");
    this.#timestamp = { tsType: t.tsType, value: t.value };
    const complete = payloadOf(this.#message, "RAND") !== undefined || (base === undefined && !this.#randTolerated());
    checkGrammar(this.#message, complete ? mode.request : mode.update);
    this.#checkTrailing();
    prfHash(header.prf);
    const authentic = this.#nullKeyed() ? this.#acceptNullKeying(base) : this.#authenticate(base);
    const { claim } = authentic;
    const before = this.#answeredBefore(claim);
    if (before !== undefined) return before;
    const agreed = this.#bundle(base, authentic);
    const { csb, response } = authentic.verify ? this.#respond(mode, agreed) : { csb: agreed, response: undefined };
    if (claim !== undefined) {
      // The same message may have come a second time while this one was worked at.
      const meanwhile = this.#answeredBefore(claim);
      if (meanwhile !== undefined) {
        wipeCsb(csb);
        return meanwhile;
      }
      this.#options.replayCache?.claim(claim, response, this.#now);
    }
    return { kind: base === undefined ? "new" : "update", csb, response, claim };
  }

  /** RFC 3830 §5.4. @throws MikeyError `mikey.replay` */
  #answeredBefore(claim: ReplayClaim | undefined): Received | undefined {
    if (claim === undefined) return undefined;
    const verdict = this.#options.replayCache?.check(claim, this.#now);
    if (verdict?.kind === "refused") throw new MikeyError("mikey.replay", verdict.reason);
    return verdict?.kind === "repeated" ? { kind: "repeated", response: verdict.response, claim } : undefined;
  }

  #mode(): Mode {
    const { dataType } = this.#message.header;
    const mode = modeOf(dataType);
    if (mode !== undefined) return mode;
    // Neither an ERR (RFC 6043 §5.4) nor a response that nobody waits for is answered: T is not noted yet.
    if (dataType === DataType.ERROR)
      throw new MikeyPeerError(readErrorMessage(this.#crypto, this.#message, undefined, MacAlg.NULL));
    if (entryOf(DataType, dataType)?.from === "responder") throw new MikeyError("mikey.response", "a response without a request");
    const t = payloadOf(this.#message, "T");
    if (t !== undefined) this.#timestamp = { tsType: t.tsType, value: t.value };
    throw new MikeyError("mikey.data-type", `messages of type ${dataType} are not supported`);
  }

  /** The CSB that this message updates: the same CSB ID and no RAND (RFC 3830 §4.5). */
  #updatedCsb(): Csb | undefined {
    const { csb } = this.#context;
    if (csb === undefined || csb.role !== "responder" || csb.nullKeyed !== this.#nullKeyed()) return undefined;
    if (csb.csbId === this.#message.header.csbId && payloadOf(this.#message, "RAND") === undefined) return csb;
    // Without keys of its own nothing is authentic but by the channel; of the bundle the policies stay where the message names none.
    return csb.nullKeyed && this.#use.take("rekey-under-new-csb") ? csb : undefined;
  }

  /** Without a known CSB a message without RAND is no update; a NULL-keyed one may be a first message all the same. */
  #randTolerated(): boolean {
    if (payloadOf(this.#message, "RAND") !== undefined) return false;
    if (this.#nullKeyed()) return this.#use.take("rand-absent");
    throw new MikeyError("mikey.unknown-csb", "no RAND: an update for a crypto session bundle that this session does not have");
  }

  #nullKeyed(): boolean {
    const kemac = payloadOf(this.#message, "KEMAC");
    return kemac !== undefined && isNullKeyed(kemac);
  }

  #checkTrailing(): void {
    const { trailing } = this.#message;
    if (trailing === undefined) return;
    if (trailing.length !== 1 || trailing[0] !== 0 || !this.#nullKeyed() || !this.#use.take("trailing-zero")) {
      throw new MikeyError("mikey.grammar", `${trailing.length} octets follow the last payload`);
    }
  }

  /** NULL keying: nothing here is authentic, the channel has to answer for it (RFC 3830 §4.2.3). */
  #acceptNullKeying(base: Csb | undefined): Authentic {
    if (this.#context.requirePsk === true)
      throw new MikeyError("mikey.null-keying", "a pre-shared key is required here, the message is NULL-keyed");
    if (this.#context.secure !== true && this.#options.allowNullKeying !== true) {
      throw new MikeyError(
        "mikey.null-keying",
        "NULL keying on a channel without TLS: use TLS or a pre-shared key, or allow NULL keying by name",
      );
    }
    const timestamp = this.#timestamp as Timestamp;
    try {
      const time = checkTimestamp(timestamp, this.#now, this.#options.skewMs ?? DEFAULT_SKEW_MS);
      if (time === undefined) throw this.#noCounter();
      if (base !== undefined) this.#checkNewer(base);
    } catch (error) {
      if (!(error instanceof MikeyError) || !this.#use.take("timestamp-unchecked")) throw error;
    }
    if (this.#message.header.verificationRequested && !this.#use.take("v-flag-without-meaning")) {
      throw new MikeyError("mikey.v-flag", "a NULL-keyed message asks for a verification, which needs a key");
    }
    const initiatorId = this.#initiatorId(base);
    return { credential: { nullKeying: true }, initiatorId, messageKeys: undefined, claim: undefined, verify: false };
  }

  /** T, identity, MAC, in this order (RFC 3830 §5.3). */
  #authenticate(base: Csb | undefined): Authentic {
    const { header } = this.#message;
    const timestamp = this.#timestamp as Timestamp;
    const skew = this.#options.skewMs ?? DEFAULT_SKEW_MS;
    const time = checkTimestamp(timestamp, this.#now, skew);
    if (time === undefined && this.#options.acceptCounter !== true) throw this.#noCounter();
    const rand = base?.rand ?? requiredPayload(this.#message, "RAND").rand;
    if (rand.length < LEAST_RAND)
      throw new MikeyError("mikey.grammar", `RAND has ${rand.length} octets, at least ${LEAST_RAND} are accepted`);
    const { encrAlg, macAlg } = requiredPayload(this.#message, "KEMAC");
    checkPskAlgorithms(encrAlg, macAlg);
    const initiatorId = this.#initiatorId(base);
    const known = base === undefined ? this.#options.findCredential(initiatorId, this.#context) : base.credential;
    const psk = known !== undefined && "psk" in known ? known.psk : undefined;
    // RFC 3830 §5.1.2: whoever tries learns nothing about which identities exist, so the MAC is computed for unknown ones too.
    const messageKeys = deriveMessageKeys(
      this.#crypto,
      { prf: header.prf, csbId: header.csbId, rand },
      psk ?? this.#nobody,
      encrAlg,
      macAlg,
    );
    try {
      verifyKemac(this.#crypto, this.#message, messageKeys);
      if (psk === undefined || (base !== undefined && !sameIdentity(base.initiatorId, initiatorId))) throw authenticationError();
    } catch (error) {
      wipeMessageKeys(messageKeys);
      throw error;
    }
    this.#messageKeys = messageKeys;
    if (base !== undefined && header.prf !== base.prf)
      throw new MikeyError("mikey.prf", "an update names another PRF than its bundle has");
    const claim = replayClaim(this.#crypto, coveredOctets(this.#message), {
      peer: identityKey(initiatorId),
      scope: this.#context.scope ?? "",
      csbId: header.csbId,
      timestamp,
      time,
      expires: (time ?? this.#now) + skew,
    });
    return { credential: { psk }, initiatorId, messageKeys, claim, verify: header.verificationRequested };
  }

  #noCounter(): MikeyError {
    return new MikeyError("mikey.timestamp", "a COUNTER timestamp, which tells no time; NTP is needed");
  }

  /** An update has a greater T than what it updates (RFC 3830 §4.5, §5.2). */
  #checkNewer(base: Csb): void {
    if (!isNewer(this.#timestamp as Timestamp, base.timestamp)) {
      throw new MikeyError("mikey.replay", "the timestamp of an update is not greater than the last one of its bundle");
    }
  }

  /** The first ID payload is the Initiator's, the second the Responder's (RFC 3830 §3.1). */
  #initiatorId(base: Csb | undefined): Identity | undefined {
    const id = payloadsOf(this.#message, "ID")[0];
    if (id !== undefined) return { idType: id.idType, data: id.data };
    return base === undefined ? this.#context.peerId : base.initiatorId;
  }

  /** Everything behind authentication: keys, identity, protocols, policies, sessions (RFC 3830 §5.3). */
  #bundle(base: Csb | undefined, authentic: Authentic): Csb {
    const message = this.#message;
    const { header } = message;
    const timestamp = this.#timestamp as Timestamp;
    if (base !== undefined && !base.nullKeyed) this.#checkNewer(base);
    const { encrAlg, macAlg } = requiredPayload(message, "KEMAC");
    const keys = this.#keys(authentic.messageKeys);
    if (base === undefined && keys.length === 0) {
      throw new MikeyError("mikey.empty-kemac", "the message carries no key; media would go out in the clear");
    }
    this.#checkSdpIds(authentic);
    const cryptoSessions = cryptoSessionsOf(header.csMap);
    const policies = new Map([...(base?.policies ?? []), ...this.#policies()]);
    const initiatorExtensions = payloadsOf(message, "EXT");
    const nullKeyed = authentic.messageKeys === undefined;
    const csb: Csb = {
      csbId: header.csbId,
      role: "responder",
      prf: header.prf,
      encrAlg,
      macAlg,
      rand: payloadOf(message, "RAND")?.rand ?? base?.rand ?? new Uint8Array(0),
      timestamp,
      initiatorId: authentic.initiatorId,
      responderId: this.#responderId(base),
      mapType: header.csMap.type,
      cryptoSessions,
      policies,
      keys: keys.length > 0 ? keys : copyKeys(base?.keys ?? []),
      credential: copyCredential(authentic.credential),
      nullKeyed,
      peerAuthenticated: !nullKeyed,
      initiatorExtensions,
      responderExtensions: [],
      tolerances: [],
      exchange: base?.exchange ?? {
        dataType: header.dataType,
        request: message.octets,
        response: new Uint8Array(0),
        timestamp,
        initiatorExtensions,
        responderExtensions: [],
      },
    };
    this.#checkSessions(csb);
    if (nullKeyed) this.#checkNullKeyed(csb);
    checkKeys(csb, this.#use);
    return { ...csb, tolerances: [...new Set([...(base?.tolerances ?? []), ...this.#use.used])] };
  }

  #keys(messageKeys: MessageKeys | undefined): KeyMaterial[] {
    const data = readKemac(this.#crypto, this.#message, this.#timestamp as Timestamp, messageKeys);
    if (data.length > MOST_KEYS) throw new MikeyError("mikey.key-data", `${data.length} keys, at most ${MOST_KEYS} are accepted`);
    return data.map((key) => {
      const material = keyMaterialOf(key);
      if (material.validity.kv !== "spi" || material.validity.spi.length > 0) return material;
      if (messageKeys !== undefined || !this.#use.take("empty-spi"))
        throw new MikeyError("mikey.key-data", "an SPI without octets");
      return { ...material, validity: { kv: "null" } };
    });
  }

  /** Our identity in this exchange, or the one that the Initiator named. @throws MikeyError `mikey.identity` */
  #responderId(base: Csb | undefined): Identity | undefined {
    const { identity, isLocalIdentity } = this.#options;
    const second = payloadsOf(this.#message, "ID")[1];
    const named = second === undefined ? undefined : { idType: second.idType, data: second.data };
    if (named !== undefined) {
      const ours = isLocalIdentity?.(named) ?? (identity === undefined || sameIdentity(identity, named));
      if (!ours) throw new MikeyError("mikey.identity", "the message is meant for another responder");
      return named;
    }
    return base === undefined ? identity : base.responderId;
  }

  /** What was authenticated is what the SDP must have offered (RFC 4567 §4.1.4). */
  #checkSdpIds({ messageKeys }: Authentic): void {
    const expected = this.#context.sdpIds;
    if (expected === undefined || messageKeys === undefined) return;
    const extension = payloadsOf(this.#message, "EXT").find(({ extType }) => extType === ExtensionType.SDP_IDS);
    if (extension === undefined) {
      if (expected.length === 1 && this.#use.take("sdp-ids-absent")) return;
      throw new MikeyError("mikey.sdp-ids", "the offered key management protocols are not authenticated (no SDP IDs extension)");
    }
    if (decodeSdpIds(extension.data).join(";") !== expected.join(";")) {
      throw new MikeyError("mikey.sdp-ids", "the SDP offers other key management protocols than were authenticated");
    }
  }

  #policies(): Map<number, SrtpPolicy> {
    const policies = new Map<number, SrtpPolicy>();
    for (const { policyNo, protType, params } of payloadsOf(this.#message, "SP")) {
      if (protType !== ProtType.SRTP)
        throw new MikeyError("mikey.policy", `policy ${policyNo} is for protocol ${protType}; only SRTP is supported`);
      if (policies.has(policyNo)) throw new MikeyError("mikey.policy", `policy ${policyNo} is there twice`);
      // Absent parameters are SRTP's defaults; only where nothing authenticates the message an empty policy says too little.
      if (params.length === 0 && this.#nullKeyed()) throw new MikeyError("mikey.policy", `policy ${policyNo} is empty`);
      const policy = srtpPolicyOf(params, this.#use);
      const accepted = this.#options.policyAccepted?.(policy, policyNo, this.#context) ?? protectsEverything(policy);
      if (!accepted) throw new MikeyError("mikey.policy", `policy ${policyNo} (${policy.suite}) is not accepted`);
      policies.set(policyNo, policy);
    }
    return policies;
  }

  #checkSessions(csb: Csb): void {
    if (csb.mapType === CsMapType.EMPTY && csb.policies.size > 0) {
      throw new MikeyError("mikey.cs-map", "with an Empty map no policy is sent (RFC 4563 §5)");
    }
    for (const { csId, policyNo } of csb.cryptoSessions) {
      if (policyNo !== undefined && !csb.policies.has(policyNo)) {
        throw new MikeyError(
          "mikey.policy",
          `crypto session ${csId} has no security policy; nothing says how its media is protected`,
        );
      }
    }
  }

  /** What RFC 3830 leaves to keys of its own, or to the response, a NULL-keyed message has to say itself. */
  #checkNullKeyed(csb: Csb): void {
    const { cryptoSessions, keys } = csb;
    if (cryptoSessions.length === 0) throw new MikeyError("mikey.cs-map", "there is no crypto session");
    for (const { csId, policyNo, ssrc } of cryptoSessions) {
      if (policyNo === undefined)
        throw new MikeyError(
          "mikey.policy",
          `crypto session ${csId} has no security policy; nothing says how its media is protected`,
        );
      if (ssrc === 0 && !this.#use.take("ssrc-zero-or-random"))
        throw new MikeyError("mikey.cs-map", `the SSRC of crypto session ${csId} is left open, and no response can fill it in`);
    }
    if (cryptoSessions.length > 1 && keys.some(({ kind }) => kind === "TEK") && !this.#use.take("several-cs-one-policy")) {
      throw new MikeyError("mikey.cs-map", "several crypto sessions share one TEK");
    }
    for (const { validity } of keys) {
      if (validity.kv === "spi" && validity.spi.length !== 4 && !this.#use.take("mki-length")) {
        throw new MikeyError("mikey.key-data", `the MKI has ${validity.spi.length} octets, not 4`);
      }
    }
  }

  /** R_MESSAGE = HDR, T, [IDr], V with the Initiator's T (RFC 3830 §3.1, §5.2) and our SSRCs (§6.1.1). */
  #respond(mode: Mode, agreed: Csb): { csb: Csb; response: Uint8Array } {
    const messageKeys = this.#messageKeys as MessageKeys;
    const cryptoSessions: CryptoSession[] = answeredSessions(
      agreed.mapType,
      agreed.cryptoSessions,
      agreed.keys,
      this.#context.ssrcFor ?? (() => undefined),
    );
    const responderExtensions = this.#context.responseExtensions?.(agreed) ?? [];
    const id = agreed.responderId;
    const payloads: Payload[] = [
      { kind: "T", tsType: agreed.timestamp.tsType, value: agreed.timestamp.value },
      ...responderExtensions,
      ...(id === undefined ? [] : [{ kind: "ID" as const, idType: id.idType, data: id.data }]),
    ];
    const response = encodeWithV(
      this.#crypto,
      {
        version: 1,
        dataType: mode.responseType,
        verificationRequested: false,
        prf: agreed.prf,
        csbId: agreed.csbId,
        csMap: csMapOf(agreed.mapType, cryptoSessions),
      },
      payloads,
      agreed.macAlg,
      messageKeys,
      verificationSuffix(agreed.initiatorId, id, agreed.timestamp),
    );
    const first = this.#context.csb === undefined || agreed.exchange !== this.#context.csb.exchange;
    return {
      csb: {
        ...agreed,
        cryptoSessions,
        responderExtensions,
        exchange: first ? { ...agreed.exchange, response, responderExtensions } : agreed.exchange,
      },
      response,
    };
  }

  /** Adds the ERR message that says it (RFC 3830 §5.1.2), authenticated once the Initiator was. */
  #withReply(error: unknown): unknown {
    if (error instanceof MikeyPeerError || !(error instanceof MikeyError || error instanceof CodecError)) return error;
    const failure =
      error instanceof MikeyError
        ? error
        : new MikeyError("mikey.grammar", "a field of the message cannot be read", { cause: error });
    const { errorNo } = failure;
    if (this.#timestamp === undefined || errorNo === undefined) return failure;
    const { header } = this.#message;
    const reply = encodeErrorMessage(this.#crypto, header, this.#timestamp, errorNo, {
      keys: this.#messageKeys,
      macAlg: payloadOf(this.#message, "KEMAC")?.macAlg ?? MacAlg.NULL,
      ...(this.#options.supported === undefined ? {} : { supported: this.#options.supported }),
    });
    return failure.withReply(reply);
  }
}
