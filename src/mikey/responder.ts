import { CodecError, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import { protectsEverything, type SrtpPolicy } from "../srtp/index.js";
import { decodeMessage } from "./codec.js";
import { composeResponse } from "./compose.js";
import { answeredSessions, cryptoSessionsFor, cryptoSessionsOf } from "./cs-map.js";
import {
  type CryptoSession,
  type Csb,
  type CsbDraft,
  checkKeys,
  copyCredential,
  type Identity,
  identityKey,
  sameIdentity,
  updateModeOf,
  wipeCsb,
  withGroup,
} from "./csb.js";
import { encodeErrorMessage, encodeSignedErrorMessage, MikeyPeerError, unverifiedError } from "./error-message.js";
import { MikeyError } from "./errors.js";
import { prfHash, wipeMessageKeys } from "./keys.js";
import type { DecodedMessage, GeneralExtensionPayload } from "./message.js";
import { verificationAlg } from "./modes/envelope.js";
import { checkGrammar, coveredOctets, payloadOf, payloadsOf, requiredPayload } from "./modes/grammar.js";
import { isNullKeyed } from "./modes/mac.js";
import { type Mode, modeOf } from "./modes/modes.js";
import { decodeSdpIds, encodeCsbIdExtension } from "./payloads-content.js";
import { announces, type CompiledPolicy, compilePolicy, preferred } from "./policy.js";
import { CsMapType, DataType, EncrAlg, ErrorNo, ExtensionType, entryOf, MacAlg, ProtType } from "./registry.js";
import { type ReplayClaim, replayClaim } from "./replay.js";
import {
  type Authentic,
  authenticateRequest,
  claimedInitiator,
  identitiesOf,
  type ReceivedRequest,
  signingPair,
} from "./request.js";
import { agreeOnKey, type Keying, makeKeys, readEnvelope, readKeys, wipeKeyData } from "./request-keys.js";
import type { ReceiveContext, Received, Responder, ResponderOptions } from "./responder-contracts.js";
import { srtpPolicyOf } from "./srtp-policy.js";
import { checkTimestamp, isNewer, type Timestamp } from "./timestamp.js";
import { createToleranceUse, type ToleranceUse } from "./tolerances.js";

/** Accepted distance of the clocks either way (RFC 3830 §5.4 leaves it to local policy). */
export const DEFAULT_SKEW_MS = 5 * 60_000;

export function createResponder(options: ResponderOptions): Responder {
  const engine: Engine = {
    options,
    policy: compilePolicy(options.crypto, options.policy),
    nobody: options.crypto.randomBytes(32),
    underWay: new Map(),
  };
  return {
    receive: (octets, context = {}) => receive(engine, octets, context),
  };
}

async function receive(engine: Engine, octets: Uint8Array, context: ReceiveContext): Promise<Received> {
  const use = createToleranceUse(engine.options.tolerances ?? []);
  const message = decodeMessage(octets, { trailing: use.allows("trailing-zero") ? "keep" : "refuse" });
  const reception = new Reception(engine, message, context, use);
  try {
    return await reception.run();
  } catch (error) {
    throw await reception.withReply(error);
  } finally {
    reception.wipe();
  }
}

interface Engine extends Pick<ReceivedRequest, "options" | "policy" | "nobody"> {
  /** Authentic messages that are being worked at, by the key of their claim. */
  readonly underWay: Map<string, Promise<unknown>>;
}

/** One message on its way through the checks, in the order of RFC 3830 §5.3. */
class Reception {
  readonly #engine: Engine;
  readonly #options: ResponderOptions;
  readonly #policy: CompiledPolicy;
  readonly #crypto: CryptoProvider;
  readonly #message: DecodedMessage;
  readonly #context: ReceiveContext;
  readonly #use: ToleranceUse;
  readonly #now: number;
  readonly #secrets: ReceivedRequest["secrets"] = [];
  /** Set once T is read: before that nothing can be answered. */
  #timestamp: Timestamp | undefined;
  /** What errors are authenticated by, once the Initiator was. */
  #proof: Authentic["proof"];

  constructor(engine: Engine, message: DecodedMessage, context: ReceiveContext, use: ToleranceUse) {
    this.#engine = engine;
    this.#options = engine.options;
    this.#policy = engine.policy;
    this.#crypto = engine.options.crypto;
    this.#message = message;
    this.#context = context;
    this.#use = use;
    this.#now = engine.options.clock.now();
  }

  /** Overwrites the secrets of the message, but for those of its bundle. */
  wipe(): void {
    for (const secret of this.#secrets) {
      if ("agree" in secret) secret.wipe();
      else wipeMessageKeys(secret);
    }
  }

  async run(): Promise<Received> {
    const request = this.#request();
    if (request.nullKeyed) return this.#process(request, this.#acceptNullKeying(request), undefined);
    const time = this.#checkTime(request);
    const authentic = await authenticateRequest(request);
    this.#proof = authentic.proof;
    const claim = this.#claim(request, authentic, time);
    const { underWay } = this.#engine;
    // The same message may come again while it is worked at: it waits, and gets the same answer.
    for (let before = underWay.get(claim.key); before !== undefined; before = underWay.get(claim.key)) {
      await before.catch(() => undefined);
    }
    const work = this.#process(request, authentic, claim);
    underWay.set(claim.key, work);
    try {
      return await work;
    } finally {
      underWay.delete(claim.key);
    }
  }

  /** What is behind authentication. */
  async #process(request: ReceivedRequest, authentic: Authentic, claim: ReplayClaim | undefined): Promise<Received> {
    const { mode, base, nullKeyed } = request;
    const before = this.#answeredBefore(claim);
    if (before !== undefined) return before;
    const { agreed, keying } = await this.#bundle(request, authentic);
    const kind = base === undefined ? "new" : "update";
    try {
      this.#context.accept?.(agreed, kind);
      const verify = !nullKeyed && (mode.answers === "always" || this.#message.header.verificationRequested);
      const { csb, response } = verify ? await this.#respond(request, agreed, keying) : { csb: agreed, response: undefined };
      // A responder beside this one may share the cache, and have got a message with the same timestamp meanwhile.
      const meanwhile = this.#answeredBefore(claim);
      if (meanwhile === undefined) {
        if (claim !== undefined) this.#options.replayCache?.claim(claim, response, this.#now);
        return { kind, csb, response, claim };
      }
      wipeCsb(agreed);
      return meanwhile;
    } catch (error) {
      wipeCsb(agreed);
      throw error;
    }
  }

  /** RFC 3830 §5.4. @throws MikeyError `mikey.replay` */
  #answeredBefore(claim: ReplayClaim | undefined): Received | undefined {
    if (claim === undefined) return undefined;
    const verdict = this.#options.replayCache?.check(claim, this.#now);
    if (verdict?.kind === "refused") throw new MikeyError("mikey.replay", verdict.reason);
    return verdict?.kind === "repeated" ? { kind: "repeated", response: verdict.response, claim } : undefined;
  }

  /** What a message says in the clear: its mode, T, what it updates, whether it has the right payloads. */
  #request(): ReceivedRequest {
    const message = this.#message;
    const mode = this.#mode();
    const nullKeyed = this.#nullKeyed();
    const base = this.#updatedCsb(nullKeyed);
    const { tsType, value } = requiredPayload(message, "T");
    // Replay caches and bundles keep it longer than the message, which a view would hold.
    const timestamp = { tsType, value: value.slice() };
    this.#timestamp = timestamp;
    this.#checkMode(mode, base, nullKeyed);
    checkGrammar(message, this.#isComplete(mode, base, nullKeyed) ? mode.request : mode.update);
    this.#checkTrailing(nullKeyed);
    const { prf } = message.header;
    prfHash(prf);
    if (!this.#policy.prfs.includes(prf)) throw new MikeyError("mikey.prf", `PRF func ${prf} is not acceptable here`);
    const announced = announces(base?.exchange.initiatorExtensions ?? payloadsOf(message, "EXT"));
    return {
      options: this.#options,
      policy: this.#policy,
      crypto: this.#crypto,
      nobody: this.#engine.nobody,
      message,
      context: this.#context,
      use: this.#use,
      now: this.#now,
      mode,
      timestamp,
      nullKeyed,
      base,
      announced,
      identities: identitiesOf(message, mode),
      pair: mode.credential === "key-pair" ? signingPair(this.#options, this.#policy, announced) : undefined,
      secrets: this.#secrets,
    };
  }

  #mode(): Mode {
    const { dataType } = this.#message.header;
    const mode = modeOf(dataType);
    if (mode !== undefined) return mode;
    // Neither an ERR (RFC 6043 §5.4) nor a response that nobody waits for is answered: T is not noted yet.
    if (dataType === DataType.ERROR) throw new MikeyPeerError(unverifiedError(this.#message));
    if (entryOf(DataType, dataType)?.from === "responder") throw new MikeyError("mikey.response", "a response without a request");
    const t = payloadOf(this.#message, "T");
    if (t !== undefined) this.#timestamp = { tsType: t.tsType, value: t.value };
    throw new MikeyError("mikey.data-type", `messages of type ${dataType} are not supported`);
  }

  /** The CSB that this message updates: the same CSB ID and no RAND (RFC 3830 §4.5). */
  #updatedCsb(nullKeyed: boolean): Csb | undefined {
    const { csb } = this.#context;
    if (csb === undefined || csb.role !== "responder" || csb.nullKeyed !== nullKeyed) return undefined;
    if (csb.csbId === this.#message.header.csbId && payloadOf(this.#message, "RAND") === undefined) return csb;
    // Without keys of its own nothing is authentic but by the channel; of the bundle the policies stay where the message names none.
    return csb.nullKeyed && this.#use.take("rekey-under-new-csb") ? csb : undefined;
  }

  /** A mode of the policy for a new bundle; for an update the one that the bundle has (RFC 3830 §4.5). */
  #checkMode(mode: Mode, base: Csb | undefined, nullKeyed: boolean): void {
    if (nullKeyed) return;
    const acceptable = base === undefined ? this.#policy.modes.includes(mode.name) : updateModeOf(base) === mode;
    if (acceptable) return;
    throw new MikeyError(
      "mikey.data-type",
      base === undefined
        ? `mode ${mode.name} is not acceptable here`
        : `a bundle of mode ${base.mode} is not updated by ${mode.name}`,
    );
  }

  /**
   * Whether this is an initial message. Without a known CSB a message without RAND is no update; a NULL-keyed one may be a first message
   * all the same, which then looks like an update.
   */
  #isComplete(mode: Mode, base: Csb | undefined, nullKeyed: boolean): boolean {
    if (this.#hasRand()) return true;
    if (base !== undefined) return false;
    if (mode.rand === "either") return true;
    if (nullKeyed) return !this.#use.take("rand-absent");
    throw new MikeyError("mikey.unknown-csb", "no RAND: an update for a crypto session bundle that this session does not have");
  }

  #nullKeyed(): boolean {
    const kemac = payloadOf(this.#message, "KEMAC");
    return this.#message.header.dataType === DataType.PSK_INIT && kemac !== undefined && isNullKeyed(kemac);
  }

  #checkTrailing(nullKeyed: boolean): void {
    const { trailing } = this.#message;
    if (trailing === undefined) return;
    if (trailing.length !== 1 || trailing[0] !== 0 || !nullKeyed || !this.#use.take("trailing-zero")) {
      throw new MikeyError("mikey.grammar", `${trailing.length} octets follow the last payload`);
    }
  }

  /** NULL keying: nothing here is authentic, the channel has to answer for it (RFC 3830 §4.2.3). */
  #acceptNullKeying(request: ReceivedRequest): Authentic {
    if (this.#context.requirePsk === true)
      throw new MikeyError("mikey.null-keying", "a credential is required here, the message is NULL-keyed");
    if (this.#context.secure !== true && this.#options.allowNullKeying !== true) {
      throw new MikeyError(
        "mikey.null-keying",
        "NULL keying on a channel without TLS: use TLS or a credential, or allow NULL keying by name",
      );
    }
    const { timestamp, base } = request;
    try {
      const time = checkTimestamp(timestamp, this.#now, this.#options.skewMs ?? DEFAULT_SKEW_MS);
      if (time === undefined) throw this.#noCounter();
      if (base !== undefined) this.#checkNewer(timestamp, base);
    } catch (error) {
      if (!(error instanceof MikeyError) || !this.#use.take("timestamp-unchecked")) throw error;
    }
    if (this.#message.header.verificationRequested && !this.#use.take("v-flag-without-meaning")) {
      throw new MikeyError("mikey.v-flag", "a NULL-keyed message asks for a verification, which needs a key");
    }
    const initiatorId = claimedInitiator(request);
    return { credential: { nullKeying: true }, initiatorId, messageKeys: undefined, peerKey: undefined, proof: undefined };
  }

  /** T as milliseconds since 1970, undefined for a COUNTER (RFC 3830 §5.3). @throws MikeyError `mikey.timestamp` */
  #checkTime({ timestamp }: ReceivedRequest): number | undefined {
    const time = checkTimestamp(timestamp, this.#now, this.#options.skewMs ?? DEFAULT_SKEW_MS);
    if (time === undefined && this.#options.acceptCounter !== true) throw this.#noCounter();
    return time;
  }

  #claim({ timestamp }: ReceivedRequest, { initiatorId }: Authentic, time: number | undefined): ReplayClaim {
    return replayClaim(this.#crypto, coveredOctets(this.#message), {
      peer: identityKey(initiatorId),
      scope: this.#context.scope ?? "",
      csbId: this.#message.header.csbId,
      timestamp,
      time,
      expires: (time ?? this.#now) + (this.#options.skewMs ?? DEFAULT_SKEW_MS),
    });
  }

  #noCounter(): MikeyError {
    return new MikeyError("mikey.timestamp", "a COUNTER timestamp, which tells no time; NTP is needed");
  }

  /** An update has a greater T than what it updates (RFC 3830 §4.5, §5.2). */
  #checkNewer(timestamp: Timestamp, base: Csb): void {
    if (!isNewer(timestamp, base.timestamp)) {
      throw new MikeyError("mikey.replay", "the timestamp of an update is not greater than the last one of its bundle");
    }
  }

  /** Everything behind authentication: identity, protocols, policies, sessions, keys (RFC 3830 §5.3). What costs most comes last. */
  async #bundle(request: ReceivedRequest, authentic: Authentic): Promise<{ readonly agreed: Csb; readonly keying: Keying }> {
    const { mode, base, timestamp, nullKeyed } = request;
    if (base !== undefined && !nullKeyed) this.#checkNewer(timestamp, base);
    this.#checkSdpIds(nullKeyed);
    // Both know the envelope key: what is refused from here on is refused under V.
    const opened = mode.envelope && mode.keys === "initiator" ? await readEnvelope(request, authentic) : undefined;
    this.#proof = opened?.proof ?? this.#proof;
    let csb: CsbDraft | undefined;
    try {
      csb = this.#draft(request, authentic, opened);
      this.#checkSessions(csb);
      const keying = opened ?? (await keysOf(request, authentic, csb));
      const { agreement } = keying;
      if (agreement !== undefined) csb.credential = withGroup(csb.credential, agreement.group);
      csb.keys = keying.keys;
      csb.envelope = keying.envelope;
      if (nullKeyed) this.#checkNullKeyed(csb);
      checkKeys(csb, this.#use);
      csb.tolerances = [...new Set([...(base?.tolerances ?? []), ...this.#use.used])];
      return { agreed: csb, keying };
    } catch (error) {
      if (csb !== undefined) wipeCsb(csb);
      wipeKeyData(opened?.keys ?? []);
      wipe(opened?.envelope?.key);
      throw error;
    }
  }

  /** The bundle but for its keys. @param opened what an envelope held */
  #draft(request: ReceivedRequest, authentic: Authentic, opened: Keying | undefined): CsbDraft {
    const message = this.#message;
    const { header } = message;
    const { mode, base, timestamp, nullKeyed } = request;
    const group = mode.keys === "responder" ? this.#context.group : undefined;
    const received = this.#policies(mode, nullKeyed);
    if (group !== undefined && received.size > 0)
      throw new MikeyError("mikey.policy", "the policy of a group is not the Initiator's (RFC 4738 §3.2)");
    const known =
      base === undefined && group === undefined ? received : new Map([...(base?.policies ?? []), ...(group?.policies ?? received)]);
    const sessions = group === undefined ? this.#sessions(mode, known) : cryptoSessionsFor(CsMapType.SRTP_ID, group.cryptoSessions);
    const initiatorExtensions = payloadsOf(message, "EXT");
    const { encrAlg, macAlg } = this.#algorithms(request);
    return {
      mode: base?.mode ?? mode.name,
      csbId: header.csbId,
      groupCsbId: group?.csbId,
      role: "responder",
      prf: header.prf,
      encrAlg,
      macAlg,
      rand: base?.rand ?? group?.rand.slice() ?? payloadOf(message, "RAND")?.rand ?? this.#ownRand(mode),
      timestamp,
      initiatorId: opened?.initiatorId ?? authentic.initiatorId,
      responderId: this.#responderId(request),
      mapType: group === undefined ? header.csMap.type : CsMapType.SRTP_ID,
      cryptoSessions: sessions,
      policies: known,
      keys: [],
      credential: copyCredential(authentic.credential),
      envelope: undefined,
      peerKey: authentic.peerKey,
      nullKeyed,
      peerAuthenticated: !nullKeyed,
      initiatorExtensions,
      responderExtensions: [],
      tolerances: [],
      exchange: base?.exchange ?? {
        dataType: header.dataType,
        request: message.octets,
        response: NOTHING,
        timestamp,
        initiatorExtensions,
        responderExtensions: [],
      },
    };
  }

  /** Encr alg and MAC alg of the KEMAC: the message's, or in RSA-R ours. */
  #algorithms({ mode, base, announced }: ReceivedRequest): Pick<Csb, "encrAlg" | "macAlg"> {
    if (mode.keys === "responder") {
      if (base !== undefined) return { encrAlg: base.encrAlg, macAlg: base.macAlg };
      const encrAlg = preferred(this.#policy.encrAlgs, announced, (value) => value === EncrAlg.AES_CM_128);
      return { encrAlg, macAlg: preferred(this.#policy.macAlgs, announced, (value) => value === MacAlg.HMAC_SHA_1_160) };
    }
    const kemac = payloadOf(this.#message, "KEMAC");
    if (kemac === undefined) return { encrAlg: EncrAlg.NULL, macAlg: MacAlg.NULL };
    return { encrAlg: kemac.encrAlg, macAlg: mode.envelope ? verificationAlg(kemac.macAlg) : kemac.macAlg };
  }

  /** RAND that an Initiator of RSA-R left to us (RFC 4738 §3.6). */
  #ownRand(mode: Mode): Uint8Array {
    return mode.rand === "either" ? this.#crypto.randomBytes(16) : NOTHING;
  }

  /** Our identity in this exchange, or the one that the Initiator named. @throws MikeyError `mikey.identity` */
  #responderId({ base, identities }: ReceivedRequest): Identity | undefined {
    const named = identities.responder;
    const { identity, isLocalIdentity } = this.#options;
    if (named !== undefined) {
      const ours = isLocalIdentity?.(named) ?? (identity === undefined || sameIdentity(identity, named));
      if (!ours) throw new MikeyError("mikey.identity", "the message is meant for another responder");
      return named;
    }
    return base === undefined ? identity : base.responderId;
  }

  /** What was authenticated is what the SDP must have offered (RFC 4567 §4.1.4). */
  #checkSdpIds(nullKeyed: boolean): void {
    const expected = this.#context.sdpIds;
    if (expected === undefined || nullKeyed) return;
    const extension = payloadsOf(this.#message, "EXT").find(({ extType }) => extType === ExtensionType.SDP_IDS);
    if (extension === undefined) {
      if (expected.length === 1 && this.#use.take("sdp-ids-absent")) return;
      throw new MikeyError("mikey.sdp-ids", "the offered key management protocols are not authenticated (no SDP IDs extension)");
    }
    if (decodeSdpIds(extension.data).join(";") !== expected.join(";")) {
      throw new MikeyError("mikey.sdp-ids", "the SDP offers other key management protocols than were authenticated");
    }
  }

  #policies(mode: Mode, nullKeyed: boolean): ReadonlyMap<number, SrtpPolicy> {
    const policies = new Map<number, SrtpPolicy>();
    const payloads = payloadsOf(this.#message, "SP");
    if (new Set(payloads.map(({ policyNo }) => policyNo)).size < payloads.length)
      throw new MikeyError("mikey.policy", "two policies have one number");
    let refused: MikeyError | undefined;
    for (const { policyNo, protType, params } of payloads) {
      try {
        if (protType !== ProtType.SRTP)
          throw new MikeyError("mikey.policy", `policy ${policyNo} is for protocol ${protType}; only SRTP is supported`);
        // Absent parameters are SRTP's defaults; only where nothing authenticates the message an empty policy says too little.
        if (params.length === 0 && nullKeyed) throw new MikeyError("mikey.policy", `policy ${policyNo} is empty`);
        const policy = srtpPolicyOf(params, this.#use);
        const accepted = this.#options.policyAccepted?.(policy, policyNo, this.#context) ?? protectsEverything(policy);
        if (!accepted || !this.#policy.allowsSuite(policy))
          // "SP parameters not supported": its type is SRTP (RFC 3830 §6.12; RFC 4738 §3.4).
          throw new MikeyError("mikey.policy-parameter", `policy ${policyNo} (${policy.suite}) is not accepted`);
        policies.set(policyNo, policy);
      } catch (error) {
        // An Initiator of RSA-R sends all that it supports, and is content with any of them (RFC 4738 §3.4).
        if (mode.keys !== "responder" || !(error instanceof MikeyError)) throw error;
        refused = error;
      }
    }
    if (refused !== undefined && policies.size === 0)
      throw new MikeyError("mikey.policy-parameter", "none of the policies is accepted", { cause: refused });
    return policies;
  }

  /** Sessions under the policies that the Initiator wants, or of RSA-R under the first of those that we accept (RFC 4738 §3.6). */
  #sessions(mode: Mode, policies: ReadonlyMap<number, SrtpPolicy>): readonly CryptoSession[] {
    const sessions = cryptoSessionsOf(this.#message.header.csMap);
    const [first] = policies.keys();
    if (mode.keys !== "responder" || first === undefined) return sessions;
    return sessions.map((session) =>
      session.policyNo === undefined || policies.has(session.policyNo) ? session : { ...session, policyNo: first },
    );
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

  /** The R_MESSAGE of the mode, with the Initiator's T (RFC 3830 §5.2) and our SSRCs (§6.1.1). */
  async #respond(request: ReceivedRequest, agreed: Csb, keying: Keying): Promise<{ csb: Csb; response: Uint8Array }> {
    const { mode, base } = request;
    const { group, ssrcFor = () => undefined, responseExtensions } = this.#context;
    const { agreement, initiatorValue, messageKeys, recipient } = keying;
    const brings = mode.keys === "responder";
    const { pair } = request;
    const sendsRand = brings && base === undefined && (group !== undefined || !this.#hasRand());
    const responderExtensions = [
      ...(brings && group !== undefined ? [csbIdExtension(group.csbId)] : []),
      ...(responseExtensions === undefined ? [] : await responseExtensions(agreed)),
    ];
    const cryptoSessions = answeredSessions(agreed.mapType, agreed.cryptoSessions, agreed.keys, ssrcFor);
    const csb: CsbDraft = { ...agreed, cryptoSessions, responderExtensions };
    const response = await composeResponse(this.#crypto, {
      mode,
      csb,
      policies: brings ? this.#chosenPolicies(csb) : new Map(),
      spDialect: undefined,
      keys: brings ? csb.keys : [],
      messageKeys,
      agreement,
      validity: initiatorValue?.validity,
      initiatorValue,
      keyPair: pair?.keyPair,
      signing: pair?.signing,
      recipient,
      rand: sendsRand ? csb.rand : undefined,
      padKeyWrap: false,
      certificatesKnown: base !== undefined,
    });
    if (base === undefined) csb.exchange = { ...csb.exchange, response, responderExtensions };
    return { csb, response };
  }

  /** The policies that are in use; of the ones that were proposed and are not, nothing is said (RFC 4738 §3.6). */
  #chosenPolicies({ policies, cryptoSessions }: Csb): ReadonlyMap<number, SrtpPolicy> {
    if (this.#context.group === undefined && payloadOf(this.#message, "SP") === undefined) return new Map();
    if (cryptoSessions.length === 0) return policies;
    const used = new Map<number, SrtpPolicy>();
    for (const [policyNo, policy] of policies) {
      if (cryptoSessions.some((session) => session.policyNo === policyNo)) used.set(policyNo, policy);
    }
    return used;
  }

  #hasRand(): boolean {
    return payloadOf(this.#message, "RAND") !== undefined;
  }

  /** Adds the ERR message that says it (RFC 3830 §5.1.2), authenticated once the Initiator was. */
  async withReply(error: unknown): Promise<unknown> {
    if (error instanceof MikeyPeerError || !(error instanceof MikeyError || error instanceof CodecError)) return error;
    const failure =
      error instanceof MikeyError
        ? error
        : new MikeyError("mikey.grammar", "a field of the message cannot be read", { cause: error });
    const errorNo = this.#errorNo(failure);
    if (this.#timestamp === undefined || errorNo === undefined) return failure;
    const { header } = this.#message;
    const supported = this.#options.supported ?? this.#policy.supported;
    // What says that authentication failed is not authenticated (RFC 3830 §5.1.2), and so looks alike whatever failed. Nor is what anybody can bring
    // about who sends a message of somebody else's again: each time would cost a signature.
    const isAnybodys = failure.code === "mikey.authentication" || failure.code === "mikey.replay" || !failure.provable;
    const proof = isAnybodys ? undefined : this.#proof;
    const reply =
      proof !== undefined && "signing" in proof
        ? await encodeSignedErrorMessage(this.#crypto, proof.signing, header, this.#timestamp, errorNo, { supported })
        : encodeErrorMessage(this.#crypto, header, this.#timestamp, errorNo, { ...proof, supported });
    return failure.withReply(reply);
  }

  /** RFC 4738 §3.5 has a number of its own for messages that cannot be parsed. */
  #errorNo({ code, errorNo }: MikeyError): number | undefined {
    const isRsaR = this.#message.header.dataType === DataType.RSAR_INIT;
    return isRsaR && code === "mikey.grammar" ? ErrorNo.UNSUPPORTED_MESSAGE : errorNo;
  }
}

const NOTHING = new Uint8Array(0);

/** Keys of the kind of the mode; those of an envelope were read before. */
function keysOf(request: ReceivedRequest, authentic: Authentic, draft: Csb): Keying | Promise<Keying> {
  const { keys } = request.mode;
  if (keys === "agreement") return agreeOnKey(request, authentic);
  return keys === "responder" ? makeKeys(request, draft) : readKeys(request, authentic);
}

function csbIdExtension(csbId: number): GeneralExtensionPayload {
  return { kind: "EXT", extType: ExtensionType.CSB_ID, data: encodeCsbIdExtension(csbId) };
}
