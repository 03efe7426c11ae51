import { CodecError, equalBytes, wipe } from "../bytes/index.js";
import {
  type Agreement,
  type CertificateHashName,
  type CryptoProvider,
  certificateHash,
  type Decrypter,
  type EncryptionScheme,
} from "../crypto/index.js";
import type { Clock } from "../io/index.js";
import { protectsEverything, type SrtpPolicy } from "../srtp/index.js";
import { decodeMessage } from "./codec.js";
import { composeResponse, decrypterOf, signingOf } from "./compose.js";
import { answeredSessions, type CryptoSessionRequest, cryptoSessionsFor, cryptoSessionsOf } from "./cs-map.js";
import {
  type Credential,
  type CryptoSession,
  type Csb,
  checkKeys,
  copyCredential,
  copyKeys,
  derivationOf,
  type EnvelopeKey,
  type Identity,
  identityKey,
  type KeyMaterial,
  type KeyPairCredential,
  keyMaterialOf,
  sameIdentity,
  updateModeOf,
  wipeCsb,
} from "./csb.js";
import { encodeErrorMessage, encodeSignedErrorMessage, MikeyPeerError, unverifiedError } from "./error-message.js";
import { authenticationError, MikeyError } from "./errors.js";
import { createKey, type KeyRequest } from "./key-request.js";
import { deriveMessageKeys, LEAST_RAND, type MessageKeys, prfHash, wipeMessageKeys } from "./keys.js";
import type { DecodedMessage, DhPayload, GeneralExtensionPayload, KeyData } from "./message.js";
import { envelopeKeyOctets, openEnvelope, verificationAlg } from "./modes/envelope.js";
import { checkGrammar, coveredOctets, payloadOf, payloadsOf, requiredPayload } from "./modes/grammar.js";
import { checkKemacAlgorithms, isNullKeyed, readKemac, verifyKemac } from "./modes/mac.js";
import { MODES, type Mode, modeOf } from "./modes/modes.js";
import { type Signing, verifySignature } from "./modes/signature.js";
import { decodeSdpIds, encodeCsbIdExtension } from "./payloads-content.js";
import { chainsOf, identityOfKey, type PeerKey } from "./peer-keys.js";
import {
  announces,
  type CompiledPolicy,
  compilePolicy,
  groupOf,
  isStandardGroup,
  type MikeyPolicy,
  preferred,
  usableSchemes,
} from "./policy.js";
import {
  CacheIndicator,
  CsMapType,
  DataType,
  EncrAlg,
  ErrorNo,
  ExtensionType,
  entryOf,
  HashFunc,
  MacAlg,
  ProtType,
} from "./registry.js";
import { type ReplayCache, type ReplayClaim, replayClaim } from "./replay.js";
import { srtpPolicyOf } from "./srtp-policy.js";
import { checkTimestamp, isNewer, type Timestamp } from "./timestamp.js";
import { createToleranceUse, type ToleranceName, type ToleranceUse } from "./tolerances.js";

/** Accepted distance of the clocks either way (RFC 3830 §5.4 leaves it to local policy). */
export const DEFAULT_SKEW_MS = 5 * 60_000;
const MOST_KEYS = 64;

export interface ResponderOptions {
  readonly crypto: CryptoProvider;
  readonly clock: Clock;
  /** The pre-shared key of an Initiator; undefined where there is none. The identity is the one of the message, else of the context. */
  readonly findCredential: (
    initiatorId: Identity | undefined,
    context: ReceiveContext,
  ) => { readonly psk: Uint8Array } | undefined | Promise<{ readonly psk: Uint8Array } | undefined>;
  /** Our key pairs, for the modes that need one, in the order of our preference. Default none. */
  readonly keyPairs?: readonly KeyPairCredential[];
  /** What is acceptable, and whom the keys of Initiators belong to. Default: no certificate is good. */
  readonly policy?: MikeyPolicy;
  /** Claims by itself. Without it the caller has to make the reported claim before anything comes of the message. */
  readonly replayCache?: ReplayCache;
  /** Accepted distance of the clocks either way, milliseconds. Default 5 minutes. */
  readonly skewMs?: number;
  /**
   * Accept COUNTER timestamps of who is authenticated. They have no time that could go out of date, so the greatest one has
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
  /** Narrows or widens what SRTP policies are taken. Default: everything that encrypts and authenticates both RTP and RTCP. */
  readonly policyAccepted?: (policy: SrtpPolicy, policyNo: number, context: ReceiveContext) => boolean;
  /** Policies to name in an ERR where none of the proposed is accepted (RFC 3830 §5.1.1). Default: the suites of the policy. */
  readonly supported?: readonly SrtpPolicy[];
}

/** The keys of a group, as a Responder gives them to each member that asks in mode RSA-R (RFC 4738 §3.2, §3.6). */
export interface GroupKeys {
  /** The group's own, with which keys are derived. */
  readonly csbId: number;
  readonly rand: Uint8Array;
  readonly policies: ReadonlyMap<number, SrtpPolicy>;
  readonly cryptoSessions: readonly CryptoSessionRequest[];
  readonly keys: readonly KeyRequest[];
}

/** What the carrier knows of a message beside its octets. */
export interface ReceiveContext {
  /** Whether TLS protects the channel end to end. Default false. */
  readonly secure?: boolean;
  /** True where a credential is required: NULL keying is then refused whatever else is allowed. */
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
  /** Mode RSA-R: the keys that this party makes. Default: one TGK of 32 octets. */
  readonly keys?: readonly KeyRequest[];
  /** Mode RSA-R: give the keys of this group. */
  readonly group?: GroupKeys;
  /** The last word on a bundle that is good in itself: refuses by throwing, before the message is claimed and answered. */
  readonly accept?: (csb: Csb, kind: "new" | "update") => void;
  /**
   * General Extensions for the response, from the CSB that was just agreed; what they say may first have to be made durable. Where it throws a
   * MikeyError, the message is refused with it.
   */
  readonly responseExtensions?: (csb: Csb) => readonly GeneralExtensionPayload[] | Promise<readonly GeneralExtensionPayload[]>;
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
  const policy = compilePolicy(options.crypto, options.policy);
  // Stands in for the key of an identity that is not known, so that the answer takes as long.
  const nobody = options.crypto.randomBytes(32);
  return {
    async receive(octets, context = {}) {
      const use = createToleranceUse(options.tolerances ?? []);
      const message = decodeMessage(octets, { trailing: (options.tolerances ?? []).includes("trailing-zero") ? "keep" : "refuse" });
      return new Reception({ options, policy, nobody }, message, context, use).run();
    },
  };
}

interface Engine {
  readonly options: ResponderOptions;
  readonly policy: CompiledPolicy;
  readonly nobody: Uint8Array;
}

/** What the checks up to authentication find out. */
interface Authentic {
  /** What an exchange of our own with the same party would use. */
  readonly credential: Credential;
  readonly initiatorId: Identity | undefined;
  /** From a key that both parties have: of KEMAC and V. */
  readonly messageKeys: MessageKeys | undefined;
  readonly peerKey: PeerKey | undefined;
  readonly claim: ReplayClaim | undefined;
}

/** The keys of a bundle, and what came with them. */
interface Keying {
  readonly keys: readonly KeyMaterial[];
  readonly envelope?: EnvelopeKey;
  /** What KEMAC and V of the response are under. */
  readonly messageKeys?: MessageKeys | undefined;
  /** Our half of an agreement, and the Initiator's. */
  readonly agreement?: Agreement;
  readonly initiatorValue?: DhPayload;
  /** Mode RSA-R: whom our envelope key is encrypted to. */
  readonly recipient?: { readonly key: PeerKey; readonly scheme: EncryptionScheme };
}

/** One message on its way through the checks, in the order of RFC 3830 §5.3. */
class Reception {
  readonly #options: ResponderOptions;
  readonly #policy: CompiledPolicy;
  readonly #crypto: CryptoProvider;
  readonly #nobody: Uint8Array;
  readonly #message: DecodedMessage;
  readonly #context: ReceiveContext;
  readonly #use: ToleranceUse;
  readonly #now: number;
  /** May the message and its answer have numbers of docs/protocol.md? */
  #announced = false;
  #timestamp: Timestamp | undefined;
  /** What errors are authenticated by, once the Initiator was: the keys of V, or our key. */
  #proof: { readonly keys: MessageKeys; readonly macAlg: number } | { readonly signing: Signing } | undefined;
  /** To be wiped at the end. */
  readonly #secrets: (Uint8Array | MessageKeys | Agreement)[] = [];

  constructor({ options, policy, nobody }: Engine, message: DecodedMessage, context: ReceiveContext, use: ToleranceUse) {
    this.#options = options;
    this.#policy = policy;
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
      throw await this.#withReply(error);
    } finally {
      for (const secret of this.#secrets) {
        if (secret instanceof Uint8Array) wipe(secret);
        else if ("agree" in secret) secret.wipe();
        else wipeMessageKeys(secret);
      }
    }
  }

  async #receive(): Promise<Received> {
    const message = this.#message;
    const mode = this.#mode();
    const nullKeyed = this.#nullKeyed();
    const base = this.#updatedCsb(nullKeyed);
    const t = requiredPayload(message, "T");
    this.#timestamp = { tsType: t.tsType, value: t.value };
    this.#checkMode(mode, base, nullKeyed);
    checkGrammar(message, this.#isComplete(mode, base, nullKeyed) ? mode.request : mode.update);
    this.#checkTrailing(nullKeyed);
    const { prf } = message.header;
    prfHash(prf);
    if (!this.#policy.prfs.includes(prf)) throw new MikeyError("mikey.prf", `PRF func ${prf} is not acceptable here`);
    this.#announced = announces(base?.exchange.initiatorExtensions ?? payloadsOf(message, "EXT"));
    const authentic = nullKeyed ? this.#acceptNullKeying(base) : await this.#authenticate(mode, base);
    const { claim } = authentic;
    const before = this.#answeredBefore(claim);
    if (before !== undefined) return before;
    const { agreed, keying } = await this.#bundle(mode, base, authentic);
    const kind = base === undefined ? "new" : "update";
    this.#accept(agreed, kind);
    const verify = !nullKeyed && (mode.answers === "always" || message.header.verificationRequested);
    const { csb, response } = verify ? await this.#respond(mode, base, agreed, keying) : { csb: agreed, response: undefined };
    if (claim !== undefined) {
      // The same message may have come a second time while this one was worked at.
      const meanwhile = this.#answeredBefore(claim);
      if (meanwhile !== undefined) {
        wipeCsb(csb);
        return meanwhile;
      }
      this.#options.replayCache?.claim(claim, response, this.#now);
    }
    return { kind, csb, response, claim };
  }

  #accept(csb: Csb, kind: "new" | "update"): void {
    try {
      this.#context.accept?.(csb, kind);
    } catch (error) {
      wipeCsb(csb);
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
  #acceptNullKeying(base: Csb | undefined): Authentic {
    if (this.#context.requirePsk === true)
      throw new MikeyError("mikey.null-keying", "a credential is required here, the message is NULL-keyed");
    if (this.#context.secure !== true && this.#options.allowNullKeying !== true) {
      throw new MikeyError(
        "mikey.null-keying",
        "NULL keying on a channel without TLS: use TLS or a credential, or allow NULL keying by name",
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
    const initiatorId = this.#names(MODES.PSK).initiator ?? (base === undefined ? this.#context.peerId : base.initiatorId);
    return { credential: { nullKeying: true }, initiatorId, messageKeys: undefined, peerKey: undefined, claim: undefined };
  }

  /** T, identity, MAC or signature, in this order (RFC 3830 §5.3). */
  async #authenticate(mode: Mode, base: Csb | undefined): Promise<Authentic> {
    const { csbId } = this.#message.header;
    const timestamp = this.#timestamp as Timestamp;
    const skew = this.#options.skewMs ?? DEFAULT_SKEW_MS;
    const time = checkTimestamp(timestamp, this.#now, skew);
    if (time === undefined && this.#options.acceptCounter !== true) throw this.#noCounter();
    const rand = base?.rand ?? payloadOf(this.#message, "RAND")?.rand;
    if (rand !== undefined && rand.length < LEAST_RAND)
      throw new MikeyError("mikey.grammar", `RAND has ${rand.length} octets, at least ${LEAST_RAND} are accepted`);
    const authentic =
      mode.credential === "psk" ? await this.#verifyMac(mode, base, rand ?? NOTHING) : await this.#verifySignature(mode, base);
    if (base !== undefined && this.#message.header.prf !== base.prf)
      throw new MikeyError("mikey.prf", "an update names another PRF than its bundle has");
    const claim = replayClaim(this.#crypto, coveredOctets(this.#message), {
      peer: identityKey(authentic.initiatorId),
      scope: this.#context.scope ?? "",
      csbId,
      timestamp,
      time,
      expires: (time ?? this.#now) + skew,
    });
    return { ...authentic, claim };
  }

  /** The MAC over the message in its KEMAC (RFC 3830 §3.1, §5.2; RFC 4650 §3). */
  async #verifyMac(mode: Mode, base: Csb | undefined, rand: Uint8Array): Promise<Omit<Authentic, "claim">> {
    const { prf, csbId } = this.#message.header;
    const { encrAlg, macAlg, encrData } = requiredPayload(this.#message, "KEMAC");
    checkKemacAlgorithms(mode, encrAlg, macAlg);
    this.#checkAcceptable(encrAlg, macAlg);
    if (mode.keys === "agreement" && encrData.length > 0)
      throw new MikeyError("mikey.grammar", "a KEMAC of DHHMAC holds no key data (RFC 4650 §4.2)");
    const initiatorId = this.#names(mode).initiator ?? (base === undefined ? this.#context.peerId : base.initiatorId);
    const psk = base === undefined ? (await this.#options.findCredential(initiatorId, this.#context))?.psk : secretOf(base);
    // RFC 3830 §5.1.2: whoever tries learns nothing about which identities exist, so the MAC is computed for unknown ones too.
    const context = base === undefined ? { prf, csbId, rand } : { ...derivationOf(base), prf };
    const messageKeys = deriveMessageKeys(this.#crypto, context, psk ?? this.#nobody, encrAlg, macAlg);
    this.#secrets.push(messageKeys);
    verifyKemac(this.#crypto, this.#message, messageKeys);
    if (psk === undefined || (base !== undefined && !sameIdentity(base.initiatorId, initiatorId))) throw authenticationError();
    // RFC 4650 §4.1 has no V for its ERR messages.
    if (mode.keys !== "agreement") this.#proof = { keys: messageKeys, macAlg };
    const credential: Credential = base?.credential ?? (mode.name === "DHHMAC" ? { psk, mode: "DHHMAC" } : { psk });
    return { credential, initiatorId, messageKeys, peerKey: base?.peerKey };
  }

  /**
   * The signature over the message, by a key that is good for its Initiator (RFC 3830 §3.2, §3.3; RFC 4738 §3.5). It is checked whether
   * the key is good or not, with nobody's key where there is none: failures look and take alike. What a private key of ours has to do comes after.
   */
  async #verifySignature(mode: Mode, base: Csb | undefined): Promise<Omit<Authentic, "claim">> {
    const message = this.#message;
    const chain = chainsOf(message).signature;
    const named = this.#names(mode).initiator ?? (base === undefined ? this.#context.peerId : base.initiatorId);
    const known = chain.length === 0 ? base?.peerKey : undefined;
    const peerKey = known ?? (await this.#policy.peerKeys.find(chain, named, "signature", this.#now));
    const schemes = usableSchemes(this.#policy.signatureSchemes, this.#announced);
    const key = peerKey?.publicKey ?? this.#policy.nobody;
    const right = await verifySignature(this.#crypto, message, key, schemes, this.#use);
    if (peerKey !== undefined && !right) this.#policy.refused("the signature is wrong, or of a scheme that is not acceptable");
    const initiatorId = named ?? (peerKey === undefined ? undefined : identityOfKey(peerKey));
    if (peerKey === undefined || !right || (base !== undefined && !sameIdentity(base.initiatorId, initiatorId)))
      throw authenticationError();
    const keyPair = this.#signingPair();
    if (keyPair !== undefined) this.#proof = { signing: keyPair.signing };
    return { credential: this.#keyPairCredential(mode, base), initiatorId, messageKeys: undefined, peerKey };
  }

  /** What we would use towards the same party: the pair that answers it, and its certificates. */
  #keyPairCredential(mode: Mode, base: Csb | undefined): Credential {
    if (base !== undefined) return base.credential;
    const keyPair = this.#signingPair()?.keyPair ?? this.#options.keyPairs?.[0];
    if (keyPair === undefined) throw new MikeyError("mikey.certificate", "there is no key pair here to answer with");
    const chain = chainsOf(this.#message).encryption;
    return {
      mode: mode.name as "PK" | "DH" | "RSA-R",
      keyPair,
      ...(chain.length === 0 ? {} : { peer: { chain } }),
    };
  }

  /** Our first pair that can sign as the policy has it. */
  #signingPair(): { readonly keyPair: KeyPairCredential; readonly signing: Signing } | undefined {
    for (const keyPair of this.#options.keyPairs ?? []) {
      const signing = signingOf(keyPair, this.#policy, this.#announced);
      if (signing !== undefined) return { keyPair, signing };
    }
    return undefined;
  }

  #checkAcceptable(encrAlg: number, macAlg: number): void {
    const { macAlgs, encrAlgs } = this.#policy;
    if (!macAlgs.includes(verificationAlg(macAlg)))
      throw new MikeyError("mikey.mac-algorithm", `MAC alg ${macAlg} is not acceptable here`);
    if (encrAlg !== EncrAlg.NULL && !encrAlgs.includes(encrAlg))
      throw new MikeyError("mikey.encryption-algorithm", `Encr alg ${encrAlg} is not acceptable here`);
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

  /**
   * The first ID payload is the Initiator's, the second the Responder's (RFC 3830 §3.1). A lone one is the Initiator's, but behind a certificate,
   * which takes the Initiator's place (§3.2), and in DHHMAC, where IDr is always there (RFC 4650 §3), it is the Responder's.
   */
  #names(mode: Mode): { readonly initiator: Identity | undefined; readonly responder: Identity | undefined } {
    const { payloads } = this.#message;
    const [first, second] = payloadsOf(this.#message, "ID").map(({ idType, data }): Identity => ({ idType, data }));
    if (second !== undefined) return { initiator: first, responder: second };
    const id = payloads.findIndex(({ kind }) => kind === "ID");
    const cert = payloads.findIndex(({ kind }) => kind === "CERT");
    const isResponder = mode.loneId === "responder" || (cert !== -1 && cert < id);
    return isResponder ? { initiator: undefined, responder: first } : { initiator: first, responder: undefined };
  }

  /** Everything behind authentication: identity, protocols, policies, sessions, keys (RFC 3830 §5.3). What costs most comes last. */
  async #bundle(
    mode: Mode,
    base: Csb | undefined,
    authentic: Authentic,
  ): Promise<{ readonly agreed: Csb; readonly keying: Keying }> {
    const message = this.#message;
    const { header } = message;
    const timestamp = this.#timestamp as Timestamp;
    const group = mode.keys === "responder" ? this.#context.group : undefined;
    const nullKeyed = "nullKeying" in authentic.credential;
    if (base !== undefined && !base.nullKeyed) this.#checkNewer(base);
    this.#checkSdpIds(nullKeyed);
    const opened = mode.envelope && mode.keys === "initiator" ? await this.#openEnvelope(base, authentic) : undefined;
    const received = this.#policies(mode, nullKeyed);
    if (group !== undefined && received.size > 0)
      throw new MikeyError("mikey.policy", "the policy of a group is not the Initiator's (RFC 4738 §3.2)");
    const known = new Map([...(base?.policies ?? []), ...(group?.policies ?? received)]);
    const sessions = group === undefined ? this.#sessions(mode, known) : cryptoSessionsFor(CsMapType.SRTP_ID, group.cryptoSessions);
    const initiatorExtensions = payloadsOf(message, "EXT");
    const draft: Csb = {
      mode: base?.mode ?? mode.name,
      csbId: header.csbId,
      ...(group === undefined ? {} : { groupCsbId: group.csbId }),
      role: "responder",
      prf: header.prf,
      ...this.#algorithms(mode, base),
      rand: base?.rand ?? group?.rand.slice() ?? payloadOf(message, "RAND")?.rand ?? this.#ownRand(mode),
      timestamp,
      initiatorId: authentic.initiatorId,
      responderId: this.#responderId(mode, base),
      mapType: group === undefined ? header.csMap.type : CsMapType.SRTP_ID,
      cryptoSessions: sessions,
      policies: known,
      keys: [],
      credential: authentic.credential,
      nullKeyed,
      ...(authentic.peerKey === undefined ? {} : { peerKey: authentic.peerKey }),
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
    this.#checkSessions(draft);
    const keying = opened ?? (await this.#keying(mode, base, authentic, draft));
    const { envelope } = keying;
    const csb: Csb = {
      ...draft,
      keys: keying.keys,
      ...(envelope === undefined ? {} : { envelope }),
      credential: copyCredential(this.#agreedCredential(draft, keying)),
    };
    try {
      if (nullKeyed) this.#checkNullKeyed(csb);
      checkKeys(csb, this.#use);
    } catch (error) {
      wipeCsb(csb);
      throw error;
    }
    const tolerances = [...new Set([...(base?.tolerances ?? []), ...this.#use.used])];
    return { agreed: { ...csb, tolerances }, keying };
  }

  /** The credential with the group that was agreed in. */
  #agreedCredential({ credential }: Csb, { agreement }: Keying): Credential {
    if (agreement === undefined || "nullKeying" in credential) return credential;
    return { ...credential, group: agreement.group } as Credential;
  }

  /** Encr alg and MAC alg of the KEMAC: the message's, or in RSA-R ours. */
  #algorithms(mode: Mode, base: Csb | undefined): Pick<Csb, "encrAlg" | "macAlg"> {
    if (mode.keys === "responder") {
      if (base !== undefined) return base;
      const encrAlg = preferred(this.#policy.encrAlgs, this.#announced, (value) => value === EncrAlg.AES_CM_128);
      return { encrAlg, macAlg: preferred(this.#policy.macAlgs, this.#announced, (value) => value === MacAlg.HMAC_SHA_1_160) };
    }
    const kemac = payloadOf(this.#message, "KEMAC");
    if (kemac === undefined) return { encrAlg: EncrAlg.NULL, macAlg: MacAlg.NULL };
    return { encrAlg: kemac.encrAlg, macAlg: mode.envelope ? verificationAlg(kemac.macAlg) : kemac.macAlg };
  }

  /** RAND that an Initiator of RSA-R left to us (RFC 4738 §3.6). */
  #ownRand(mode: Mode): Uint8Array {
    return mode.rand === "either" ? this.#crypto.randomBytes(16) : NOTHING;
  }

  #keying(mode: Mode, base: Csb | undefined, authentic: Authentic, draft: Csb): Promise<Keying> {
    if (mode.keys === "agreement") return this.#agree(base, authentic, draft);
    if (mode.keys === "responder") return this.#makeKeys(base, draft);
    return this.#readKeys(base, authentic, draft);
  }

  /** E(encr_key, {TGK}) under a key that both parties have, or in the clear (RFC 3830 §3.1). */
  async #readKeys(base: Csb | undefined, { messageKeys }: Authentic, draft: Csb): Promise<Keying> {
    const data = readKemac(this.#crypto, this.#message, draft.timestamp, messageKeys);
    const envelope = base?.envelope;
    return {
      keys: this.#materials(data, base, messageKeys === undefined),
      messageKeys,
      ...(envelope === undefined ? {} : { envelope: { ...envelope, key: envelope.key.slice() } }),
    };
  }

  /** The envelope key is decrypted by our private key, and with it the Initiator's identity and keys (RFC 3830 §3.2). */
  async #openEnvelope(base: Csb | undefined, { initiatorId, peerKey }: Authentic): Promise<Keying> {
    const message = this.#message;
    const { prf, csbId } = message.header;
    const { encrAlg, macAlg } = requiredPayload(message, "KEMAC");
    checkKemacAlgorithms(MODES.PK, encrAlg, macAlg);
    this.#checkAcceptable(encrAlg, macAlg);
    const { cache } = requiredPayload(message, "PKE");
    if (entryOf(CacheIndicator, cache) === undefined)
      throw new MikeyError("mikey.grammar", `cache indicator ${cache} has no meaning (RFC 3830 §6.3)`);
    const rand = base?.rand ?? requiredPayload(message, "RAND").rand;
    const context = { prf, csbId, rand, timestamp: this.#timestamp as Timestamp };
    const opened = await openEnvelope(this.#crypto, message, this.#decrypter(), this.#policy.encryptionSchemes, context);
    this.#secrets.push(opened.messageKeys);
    const envelope = { key: opened.envelopeKey, cached: cache !== CacheIndicator.NO_CACHE };
    try {
      if (!(await this.#isInitiator(opened.id, initiatorId, peerKey))) {
        this.#policy.refused("the encrypted identity is another than the Initiator's");
        throw authenticationError();
      }
      this.#proof = { keys: opened.messageKeys, macAlg: verificationAlg(macAlg) };
      return { keys: this.#materials(opened.keys, base, false), envelope, messageKeys: opened.messageKeys };
    } catch (error) {
      wipe(envelope.key);
      throw error;
    }
  }

  /** "The encrypted IDi MUST always be verified to be equal with the expected IDi" (RFC 3830 §3.2). */
  async #isInitiator(encrypted: Identity, initiatorId: Identity | undefined, peerKey: PeerKey | undefined): Promise<boolean> {
    if (sameIdentity(encrypted, initiatorId)) return true;
    const { chain = [] } = peerKey ?? {};
    const said = this.#names(MODES.PK).initiator ?? this.#context.peerId;
    // Where nothing but the certificate says who it is, any of the identities that it names will do.
    return said === undefined && (await this.#policy.peerKeys.find(chain, encrypted, "signature", this.#now)) !== undefined;
  }

  /** The private key that PKE is encrypted to: the one whose certificate CHASH names, otherwise our first (RFC 3830 §3.2, §6.8). */
  #decrypter(): Decrypter {
    const chash = payloadOf(this.#message, "CHASH");
    const hash = chash === undefined ? undefined : CHASH_FUNCTIONS.get(chash.hashFunc);
    if (chash !== undefined && hash === undefined)
      throw new MikeyError("mikey.hash-function", `Hash func ${chash.hashFunc} is not supported`);
    const pairs = (this.#options.keyPairs ?? []).filter(({ chain, encryption }) => {
      const [certificate] = encryption?.chain ?? chain;
      if (chash === undefined || hash === undefined) return true;
      return certificate instanceof Uint8Array && equalBytes(certificateHash(this.#crypto, hash, certificate), chash.hash);
    });
    const decrypter = pairs.map(decrypterOf).find((candidate) => candidate !== undefined);
    if (decrypter === undefined) throw new MikeyError("mikey.certificate", "no key of ours decrypts what was encrypted to it");
    return decrypter;
  }

  /** DHi, and a value of our own in the same group; without DHi the keys stay (RFC 3830 §3.3, §4.5). */
  async #agree(base: Csb | undefined, { messageKeys }: Authentic, draft: Csb): Promise<Keying> {
    const initiatorValue = payloadOf(this.#message, "DH");
    if (initiatorValue === undefined) return { keys: copyKeys(base?.keys ?? []), messageKeys };
    const group = groupOf(initiatorValue.group);
    const usable = group !== undefined && this.#policy.groups.includes(group) && (this.#announced || isStandardGroup(group));
    if (!usable) throw new MikeyError("mikey.group", `DH-Group ${initiatorValue.group} is not acceptable here`);
    if (draft.mode === "DH" && this.#signingPair() === undefined)
      throw new MikeyError("mikey.certificate", "no key of ours signs as this message and the policy have it");
    const agreement = await this.#crypto.agreement(group);
    this.#secrets.push(agreement);
    const secret = await agreement.agree(initiatorValue.value);
    if (secret === undefined) {
      this.#policy.refused("a Diffie-Hellman value that is not acceptable");
      throw authenticationError();
    }
    const keys: readonly KeyMaterial[] = [{ kind: "TGK", key: secret, validity: initiatorValue.validity }];
    return { keys, messageKeys, agreement, initiatorValue };
  }

  /** Keys of our making under an envelope key that is encrypted to the Initiator (RFC 4738 §3.6). */
  async #makeKeys(base: Csb | undefined, draft: Csb): Promise<Keying> {
    const { keys: wanted = [{ kind: "TGK", length: 32 }], group } = this.#context;
    const { credential, initiatorId } = draft;
    const chain =
      "keyPair" in credential && credential.peer !== undefined && "chain" in credential.peer ? credential.peer.chain : [];
    const key = await this.#policy.peerKeys.find(chain, initiatorId, "encryption", this.#now);
    if (key === undefined || key.publicKey.kind !== "rsa")
      throw new MikeyError("mikey.certificate", "there is no good RSA key of the Initiator to encrypt to");
    if (this.#signingPair() === undefined)
      throw new MikeyError("mikey.certificate", "no key of ours signs as this message and the policy have it");
    const envelope = {
      key: this.#crypto.randomBytes(envelopeKeyOctets(draft.encrAlg)),
      // Whoever has the group's envelope key cached could give the group another key (RFC 4738 §3.6 has one for all).
      cached: group === undefined && (base?.envelope?.cached ?? this.#policy.cacheEnvelopeKeys),
    };
    const messageKeys = deriveMessageKeys(this.#crypto, derivationOf(draft), envelope.key, draft.encrAlg, draft.macAlg);
    this.#secrets.push(messageKeys);
    const recipient = { key, scheme: this.#policy.encryptionSchemes[0] as EncryptionScheme };
    const keys = (group?.keys ?? wanted).map((request) => createKey(this.#crypto, request, draft.policies));
    return { keys, envelope, messageKeys, recipient };
  }

  /** Key data as they were transported; in an update none means that the keys stay (RFC 3830 §4.5). */
  #materials(data: readonly KeyData[], base: Csb | undefined, nullKeyed: boolean): readonly KeyMaterial[] {
    if (data.length > MOST_KEYS) throw new MikeyError("mikey.key-data", `${data.length} keys, at most ${MOST_KEYS} are accepted`);
    if (data.length === 0 && base !== undefined) return copyKeys(base.keys);
    if (data.length === 0) throw new MikeyError("mikey.empty-kemac", "the message carries no key; media would go out in the clear");
    return data.map((key) => {
      const material = keyMaterialOf(key);
      if (material.validity.kv !== "spi" || material.validity.spi.length > 0) return material;
      if (!nullKeyed || !this.#use.take("empty-spi")) throw new MikeyError("mikey.key-data", "an SPI without octets");
      return { ...material, validity: { kv: "null" } };
    });
  }

  /** Our identity in this exchange, or the one that the Initiator named. @throws MikeyError `mikey.identity` */
  #responderId(mode: Mode, base: Csb | undefined): Identity | undefined {
    const { identity, isLocalIdentity } = this.#options;
    const named = this.#names(mode).responder;
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
  async #respond(mode: Mode, base: Csb | undefined, agreed: Csb, keying: Keying): Promise<{ csb: Csb; response: Uint8Array }> {
    const { group, ssrcFor, responseExtensions } = this.#context;
    const cryptoSessions: CryptoSession[] = answeredSessions(
      agreed.mapType,
      agreed.cryptoSessions,
      agreed.keys,
      ssrcFor ?? (() => undefined),
    );
    const pair = mode.credential === "key-pair" ? this.#signingPair() : undefined;
    const sentRand = base === undefined && mode.keys === "responder" && (group !== undefined || !this.#hasRand());
    try {
      const responderExtensions = [
        ...(mode.keys === "responder" && group !== undefined ? [csbIdExtension(group.csbId)] : []),
        ...((await responseExtensions?.(agreed)) ?? []),
      ];
      const csb: Csb = { ...agreed, cryptoSessions, responderExtensions };
      const response = await composeResponse(this.#crypto, {
        mode,
        csb,
        policies: mode.keys === "responder" ? this.#chosenPolicies(csb) : new Map(),
        spDialect: undefined,
        keys: mode.keys === "responder" ? csb.keys : [],
        messageKeys: keying.messageKeys,
        agreement: keying.agreement,
        validity: keying.initiatorValue?.validity,
        initiatorValue: keying.initiatorValue,
        keyPair: pair?.keyPair,
        signing: pair?.signing,
        recipient: keying.recipient,
        rand: sentRand ? csb.rand : undefined,
        padKeyWrap: false,
        certificatesKnown: base !== undefined,
      });
      const exchange = base === undefined ? { ...csb.exchange, response, responderExtensions } : csb.exchange;
      return { csb: { ...csb, exchange }, response };
    } catch (error) {
      wipeCsb(agreed);
      throw error;
    }
  }

  /** The policies that are in use; of the ones that were proposed and are not, nothing is said (RFC 4738 §3.6). */
  #chosenPolicies({ policies, cryptoSessions }: Csb): ReadonlyMap<number, SrtpPolicy> {
    if (this.#context.group === undefined && payloadOf(this.#message, "SP") === undefined) return new Map();
    const used = new Set(cryptoSessions.map(({ policyNo }) => policyNo));
    return used.size === 0 ? policies : new Map([...policies].filter(([policyNo]) => used.has(policyNo)));
  }

  #hasRand(): boolean {
    return payloadOf(this.#message, "RAND") !== undefined;
  }

  /** Adds the ERR message that says it (RFC 3830 §5.1.2), authenticated once the Initiator was. */
  async #withReply(error: unknown): Promise<unknown> {
    if (error instanceof MikeyPeerError || !(error instanceof MikeyError || error instanceof CodecError)) return error;
    const failure =
      error instanceof MikeyError
        ? error
        : new MikeyError("mikey.grammar", "a field of the message cannot be read", { cause: error });
    const errorNo = this.#errorNo(failure);
    if (this.#timestamp === undefined || errorNo === undefined) return failure;
    const { header } = this.#message;
    const supported = this.#options.supported ?? this.#policy.supported;
    // What says that authentication failed is not authenticated (RFC 3830 §5.1.2), and so looks alike whatever failed.
    const proof = failure.code === "mikey.authentication" ? undefined : this.#proof;
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

/** A hash only finds a certificate of ours; what it finds proves itself by decrypting. */
const CHASH_FUNCTIONS: ReadonlyMap<number, CertificateHashName> = new Map([
  [HashFunc.SHA_1, "sha1"],
  [HashFunc.MD5, "md5"],
  [HashFunc.SHA_256, "sha256"],
]);

/** The key that updates of a bundle are under where that is a shared one: the cached envelope key, or the pre-shared key (RFC 3830 §4.5). */
function secretOf({ envelope, credential }: Csb): Uint8Array | undefined {
  return envelope?.key ?? ("psk" in credential ? credential.psk : undefined);
}

function csbIdExtension(csbId: number): GeneralExtensionPayload {
  return { kind: "EXT", extType: ExtensionType.CSB_ID, data: encodeCsbIdExtension(csbId) };
}
