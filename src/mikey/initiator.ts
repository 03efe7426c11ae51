import { equalBytes } from "../bytes/index.js";
import type { Agreement, AgreementGroup, CryptoProvider, EncryptionScheme } from "../crypto/index.js";
import type { Clock } from "../io/index.js";
import type { SrtpPolicy } from "../srtp/index.js";
import { composeRequest, decrypterOf, signingOf } from "./compose.js";
import { type CryptoSessionRequest, cryptoSessionsFor } from "./cs-map.js";
import {
  type Credential,
  type Csb,
  type CsbDraft,
  checkKeys,
  copyCredential,
  copyEnvelope,
  copyKeys,
  derivationOf,
  type EnvelopeKey,
  type Identity,
  type KeyMaterial,
  modeNameOf,
  type PublicKeyCredential,
  sameIdentity,
  spiOf,
  updateModeOf,
  wipeCsb,
  withGroup,
} from "./csb.js";
import { MikeyError } from "./errors.js";
import { agreedValidity, createKey, type KeyRequest } from "./key-request.js";
import { deriveMessageKeys, type MessageKeys, wipeMessageKeys } from "./keys.js";
import type { GeneralExtensionPayload, KeyValidity } from "./message.js";
import { envelopeKeyOctets } from "./modes/envelope.js";
import { checkKemacAlgorithms } from "./modes/mac.js";
import { type Mode, modeNamed } from "./modes/modes.js";
import type { Signing } from "./modes/signature.js";
import { encodeSdpIds } from "./payloads-content.js";
import type { PeerKey } from "./peer-keys.js";
import { createPendingExchange, type PendingExchange } from "./pending.js";
import { announces, type CompiledPolicy, compilePolicy, isStandardGroup, type MikeyPolicy, preferred } from "./policy.js";
import { CsMapType, EncrAlg, ExtensionType, MacAlg, PrfFunc } from "./registry.js";
import type { SpDialect } from "./srtp-policy.js";
import { createTimestampSource, type TimestampSource } from "./timestamp.js";
import { createToleranceUse, type ToleranceName } from "./tolerances.js";

export interface InitiatorOptions {
  readonly crypto: CryptoProvider;
  readonly clock: Clock;
  /** One source per long-term key, shared by everything that uses it: its T are unique (RFC 3830 §5.2). Default: NTP-UTC on `clock`. */
  readonly timestamps?: TimestampSource;
  /** What is proposed, and whom the keys of responses belong to. Default: no certificate is good. */
  readonly policy?: MikeyPolicy;
  /** Named departures from RFC 3830 that are put up with in responses. Default none. */
  readonly tolerances?: readonly ToleranceName[];
  /** NULL keying outside TLS; keys then travel in the clear. Default false. */
  readonly allowNullKeying?: boolean;
  /** True for CSB IDs that live towards the same Responder (RFC 3830 §6.1). */
  readonly csbIdInUse?: (csbId: number) => boolean;
}

interface MessageRequest {
  /** SP payloads are written in this dialect. Default `base`. */
  readonly spDialect?: SpDialect;
  /** Ask for a verification message. Default true; impossible without a key of ours, and no choice where a mode always answers. */
  readonly requestResponse?: boolean;
  /** Key management protocols that the SDP offers, in its order, against bidding down (RFC 4567 §4.1.4). */
  readonly sdpIds?: readonly string[];
  /** General Extensions to send along. HELLO among them lets numbers of docs/protocol.md be used. */
  readonly extensions?: readonly GeneralExtensionPayload[];
  /** Zero-pad key data for AES key wrap. Default false. */
  readonly padKeyWrap?: boolean;
}

/** A new CSB to begin. */
export interface BeginRequest extends MessageRequest {
  readonly credential: Credential;
  /** Whether TLS protects the channel end to end; NULL keying needs it. Default false. */
  readonly secure?: boolean;
  /** Who we are. Needed in every mode but PSK. */
  readonly initiatorId?: Identity;
  /** Whom the message is meant for; under a shared key somebody else than `initiatorId`. Where it is absent, any Responder that proves a key of its own will do (RFC 4738 §4). */
  readonly responderId?: Identity;
  /** Whether a Responder that `responderId` leaves open is acceptable. Default: everybody whose key is good. */
  readonly acceptsResponder?: (responderId: Identity) => boolean;
  /** Key of the Responder as an exchange before showed it: what an ERR message, which carries no certificate, is verified by. */
  readonly knownResponder?: PeerKey;
  /**
   * Leave the ID payloads out: both sides know the identities from elsewhere, and V covers them all the same. In mode PSK nothing of the message then says
   * which of the two sent it: sent back to its sender it is taken for the other's. Default false.
   */
  readonly omitIdentities?: boolean;
  /** Default 0, SRTP-ID. */
  readonly mapType?: 0 | 1 | 2;
  readonly cryptoSessions: readonly CryptoSessionRequest[];
  /** By policy number. Empty with map type 1, and where the Responder sets the policy of a group. */
  readonly policies: ReadonlyMap<number, SrtpPolicy>;
  /** Of a Diffie-Hellman agreement at most one TGK, and only its validity; none in RSA-R, where the Responder makes the keys. */
  readonly keys: readonly KeyRequest[];
  /** Mode RSA-R: ask for the keys of a group (RFC 4738 §3.2). Default false. */
  readonly group?: boolean;
  /** PRF func. Default: by policy. */
  readonly prf?: number;
  /** Default: by policy. Ignored with NULL keying. */
  readonly encrAlg?: number;
  /** Default: by policy. Ignored with NULL keying. */
  readonly macAlg?: number;
  /** Default: random. */
  readonly csbId?: number;
  /** Default: 16 random octets. In RSA-R it may be left to the Responder, and is in a group. */
  readonly rand?: Uint8Array | "responder";
}

/** What an update changes (RFC 3830 §4.5). Everything left out stays as it is. */
export interface UpdateRequest extends MessageRequest {
  /** In RSA-R without a cached envelope key the Responder makes them, and none is asked for here. */
  readonly keys?: readonly KeyRequest[];
  /** All sessions of the CSB, with their current ROC. Default: as they are. */
  readonly cryptoSessions?: readonly CryptoSessionRequest[];
  /** New or changed policies. */
  readonly policies?: ReadonlyMap<number, SrtpPolicy>;
}

/** Begins and updates crypto session bundles. */
export interface Initiator {
  /**
   * A new CSB.
   * @throws MikeyError `mikey.null-keying`, `mikey.option`, `mikey.key-data`, `mikey.prf`, `mikey.encryption-algorithm`,
   *   `mikey.mac-algorithm`, `mikey.repeating-key`, `mikey.certificate` where the Responder's certificate is not good
   */
  begin(request: BeginRequest): Promise<PendingExchange>;
  /** Same CSB ID, greater T, no RAND (RFC 3830 §4.5). @throws MikeyError as `begin` */
  update(csb: Csb, request: UpdateRequest): Promise<PendingExchange>;
  /** Whether policy and credential leave no choice but numbers that HELLO announces: without it `begin` throws, or proposes the same. */
  needsHello(credential: Credential): boolean;
}

export function createInitiator(options: InitiatorOptions): Initiator {
  const engine: Engine = {
    options,
    crypto: options.crypto,
    policy: compilePolicy(options.crypto, options.policy),
    timestamps: options.timestamps ?? createTimestampSource(options.clock),
  };
  return {
    begin: (request) => beginExchange(engine, request),
    update: (csb, request) => beginUpdate(engine, csb, request),
    needsHello: (credential) => !hasStandardNumbers(engine.policy, credential),
  };
}

interface Engine {
  readonly options: InitiatorOptions;
  readonly crypto: CryptoProvider;
  readonly policy: CompiledPolicy;
  readonly timestamps: TimestampSource;
}

async function beginExchange(engine: Engine, request: BeginRequest): Promise<PendingExchange> {
  const { crypto, options, policy } = engine;
  const { credential } = request;
  const mode = modeNamed(modeNameOf(credential));
  checkBegin(engine, mode, request);
  const nullKeyed = "nullKeying" in credential;
  const mapType = request.mapType ?? CsMapType.SRTP_ID;
  const policies = new Map(request.policies);
  const initiatorExtensions = extensionsOf(request);
  const announced = announces(initiatorExtensions);
  const timestamp = engine.timestamps.next();
  const rand = request.rand ?? (request.group === true ? "responder" : crypto.randomBytes(16));
  const csbId = request.csbId ?? freshCsbId(options);
  const algorithms = algorithmsFor(mode, request, policy, announced);
  const draft: CsbDraft = {
    mode: mode.name,
    csbId,
    groupCsbId: undefined,
    role: "initiator",
    prf: algorithms.prf,
    encrAlg: algorithms.encrAlg,
    macAlg: algorithms.macAlg,
    rand: rand === "responder" ? new Uint8Array(0) : rand.slice(),
    timestamp,
    initiatorId: request.initiatorId,
    responderId: request.responderId,
    mapType,
    cryptoSessions: cryptoSessionsFor(mapType, request.cryptoSessions),
    policies,
    keys: mode.keys === "initiator" ? request.keys.map((key) => createKey(crypto, key, policies)) : [],
    credential: credentialFor(mode, credential, policy, announced),
    envelope: mode.name === "PK" ? freshEnvelope(engine, algorithms.encrAlg) : undefined,
    peerKey: undefined,
    nullKeyed,
    peerAuthenticated: false,
    initiatorExtensions,
    responderExtensions: [],
    tolerances: [],
    exchange: { ...EMPTY_EXCHANGE, initiatorExtensions },
  };
  const parts: DraftParts = {
    rand: rand === "responder" ? undefined : draft.rand,
    identities: request.omitIdentities === true ? "omitted" : "named",
    policies,
    keys: draft.keys,
    validity: mode.keys === "agreement" ? agreedValidity(request.keys) : undefined,
  };
  return propose(engine, mode, draft, request, parts, undefined);
}

const EMPTY_EXCHANGE: Csb["exchange"] = {
  dataType: 0,
  request: new Uint8Array(0),
  response: new Uint8Array(0),
  timestamp: { tsType: 0, value: new Uint8Array(8) },
  initiatorExtensions: [],
  responderExtensions: [],
};

async function beginUpdate(engine: Engine, csb: Csb, request: UpdateRequest): Promise<PendingExchange> {
  const { crypto, timestamps } = engine;
  if (csb.role !== "initiator")
    throw new MikeyError("mikey.option", "only the Initiator of a crypto session bundle updates it (RFC 3830 §4.5)");
  const mode = updateModeOf(csb);
  const policies = new Map([...csb.policies, ...(request.policies ?? [])]);
  const transported = mode.keys === "initiator";
  if (mode.keys === "responder" && request.keys !== undefined)
    throw new MikeyError("mikey.option", "in RSA-R the Responder makes the keys (RFC 4738 §3)");
  const keys = transported ? request.keys?.map((key) => createKey(crypto, key, policies)) : undefined;
  const validity = mode.keys === "agreement" && request.keys !== undefined ? agreedValidity(request.keys) : undefined;
  checkNewSpis(csb, [...(keys ?? []).map((key) => key.validity), ...(validity === undefined ? [] : [validity])]);
  const stays = transported ? keys === undefined : mode.keys === "agreement" && validity === undefined;
  const draft: CsbDraft = {
    ...csb,
    timestamp: timestamps.next(csb.timestamp),
    cryptoSessions:
      request.cryptoSessions === undefined ? csb.cryptoSessions : cryptoSessionsFor(csb.mapType, request.cryptoSessions),
    policies,
    keys: stays ? copyKeys(csb.keys) : (keys ?? []),
    credential: copyCredential(csb.credential),
    envelope: nextEnvelope(engine, mode, csb),
    peerAuthenticated: false,
    initiatorExtensions: extensionsOf(request),
    responderExtensions: [],
  };
  const parts: DraftParts = {
    rand: undefined,
    identities: "static",
    policies: request.policies ?? new Map(),
    keys: keys ?? [],
    validity,
  };
  return propose(engine, mode, draft, request, parts, csb);
}

/** An envelope that is not cached is made anew for every message (RFC 3830 §4.5). */
function nextEnvelope(engine: Engine, mode: Mode, { envelope, encrAlg }: Csb): EnvelopeKey | undefined {
  return mode.name === "PK" ? freshEnvelope(engine, encrAlg) : copyEnvelope(envelope);
}

function freshEnvelope({ crypto, policy }: Engine, encrAlg: number): EnvelopeKey {
  return { key: crypto.randomBytes(envelopeKeyOctets(encrAlg)), cached: policy.cacheEnvelopeKeys };
}

interface DraftParts {
  readonly rand: Uint8Array | undefined;
  /** `static`: an update leaves out what was said before (RFC 3830 §4.5). */
  readonly identities: "named" | "omitted" | "static";
  readonly policies: ReadonlyMap<number, SrtpPolicy>;
  readonly keys: readonly KeyMaterial[];
  /** Of the key of a new agreement. */
  readonly validity: KeyValidity | undefined;
}

/** Everything that `begin` and `update` have in common once the CSB is drafted, whose secrets are its own. */
async function propose(
  engine: Engine,
  mode: Mode,
  draft: CsbDraft,
  request: MessageRequest & Pick<BeginRequest, "acceptsResponder" | "knownResponder" | "group">,
  parts: DraftParts,
  updated: Csb | undefined,
): Promise<PendingExchange> {
  const { crypto, options, policy } = engine;
  const { credential } = draft;
  let agreement: Agreement | undefined;
  let messageKeys: MessageKeys | undefined;
  try {
    checkSessions(draft, draft.keys.length > 0);
    const keyPair = "keyPair" in credential ? credential.keyPair : undefined;
    const answered = request.requestResponse ?? (mode.answers === "always" || !draft.nullKeyed);
    if (answered && draft.nullKeyed)
      throw new MikeyError("mikey.option", "without a pre-shared key no verification can be asked for");
    if (!answered && mode.answers === "always") throw new MikeyError("mikey.option", `mode ${mode.name} is answered always`);
    const signing = mode.credential === "key-pair" ? signingFor(draft, policy) : undefined;
    const recipient = mode.name === "PK" ? await recipientOf(policy, draft, options.clock.now()) : undefined;
    if (parts.validity !== undefined) agreement = await crypto.agreement(groupIn(credential));
    messageKeys = messageKeysOf(crypto, mode, draft);
    const octets = await composeRequest(crypto, {
      mode,
      csb: draft,
      verificationRequested: answered,
      // RFC 4650 §3.1 has the Responder named in updates too.
      initiatorId: parts.identities === "named" ? draft.initiatorId : undefined,
      responderId: parts.identities === "named" || mode.name === "DHHMAC" ? draft.responderId : undefined,
      policies: parts.policies,
      spDialect: request.spDialect,
      keys: parts.keys,
      messageKeys,
      agreement,
      validity: parts.validity,
      keyPair,
      signing,
      recipient,
      rand: parts.rand,
      padKeyWrap: request.padKeyWrap ?? false,
      certificatesKnown: parts.identities === "static",
    });
    if (updated === undefined)
      draft.exchange = { ...draft.exchange, dataType: mode.requestType, request: octets, timestamp: draft.timestamp };
    if (recipient !== undefined) draft.peerKey = recipient.key;
    if (messageKeys !== undefined && !answered) wipeMessageKeys(messageKeys);
    return createPendingExchange({
      crypto,
      policy,
      clock: options.clock,
      tolerances: options.tolerances ?? [],
      mode,
      csb: draft,
      octets,
      updated,
      responseRequested: answered,
      group: request.group ?? updated?.groupCsbId !== undefined,
      messageKeys,
      agreement,
      validity: parts.validity,
      decrypter: keyPair === undefined ? undefined : decrypterOf(keyPair),
      recipient: recipient?.key,
      knownResponder: request.knownResponder,
      acceptsResponder: request.acceptsResponder,
    });
  } catch (error) {
    agreement?.wipe();
    if (messageKeys !== undefined) wipeMessageKeys(messageKeys);
    wipeCsb(draft);
    throw error;
  }
}

function signingFor(draft: Csb, policy: CompiledPolicy): Signing {
  const { credential } = draft;
  const announced = announces(draft.exchange.initiatorExtensions);
  if (!("keyPair" in credential)) throw new MikeyError("mikey.option", "a signature needs a key pair");
  const signing = signingBy(credential, policy, announced);
  if (signing !== undefined) return signing;
  throw new MikeyError(
    "mikey.option",
    `the key cannot sign as the policy has it${announced ? "" : ", and HELLO announced no SIGNX"}`,
  );
}

function signingBy(
  { keyPair, signatureScheme }: PublicKeyCredential,
  policy: CompiledPolicy,
  announced: boolean,
): Signing | undefined {
  return signingOf(keyPair, signatureScheme === undefined ? policy.signatureSchemes : [signatureScheme], announced);
}

/** The group of an agreement, settled when the bundle was drafted. */
function groupIn(credential: Credential): AgreementGroup {
  return ("group" in credential ? credential.group : undefined) ?? "modp1536";
}

/** Whom a public-key message is encrypted to: the Responder's certificate or key, found good (RFC 3830 §3.2). */
async function recipientOf(
  policy: CompiledPolicy,
  { credential, responderId }: Csb,
  now: number,
): Promise<{ readonly key: PeerKey; readonly scheme: EncryptionScheme }> {
  if (!("keyPair" in credential)) throw new MikeyError("mikey.option", "mode PK needs a key pair");
  const { peer, encryptionScheme } = credential;
  const { peerKeys, encryptionSchemes } = policy;
  const key =
    peer !== undefined && "publicKey" in peer
      ? peerKeys.accept(peer.publicKey)
      : await peerKeys.find(peer?.chain ?? [], responderId, "encryption", now);
  if (key === undefined || key.publicKey.kind !== "rsa")
    throw new MikeyError("mikey.certificate", "there is no good RSA key of the Responder to encrypt to");
  return { key, scheme: encryptionScheme ?? (encryptionSchemes[0] as EncryptionScheme) };
}

function messageKeysOf(crypto: CryptoProvider, mode: Mode, csb: Csb): MessageKeys | undefined {
  const { credential, envelope } = csb;
  const key = envelope?.key ?? ("psk" in credential ? credential.psk : undefined);
  if (key === undefined || mode.keys === "responder") return undefined;
  return deriveMessageKeys(crypto, derivationOf(csb), key, csb.encrAlg, csb.macAlg);
}

/** What the caller may ask for in a mode. */
function checkBegin({ options, policy }: Engine, mode: Mode, request: BeginRequest): void {
  const { credential } = request;
  const option = (detail: string): MikeyError => new MikeyError("mikey.option", detail);
  if ("nullKeying" in credential) {
    if (request.secure !== true && options.allowNullKeying !== true) {
      throw new MikeyError(
        "mikey.null-keying",
        "NULL keying sends keys in the clear: use TLS or a credential, or allow NULL keying by name",
      );
    }
  } else if (!policy.modes.includes(mode.name)) throw option(`the policy does not have mode ${mode.name}`);
  if (mode.keys === "initiator" && request.keys.length === 0) throw option("the first message of an exchange carries a key");
  if (mode.keys === "responder" && request.keys.length > 0) throw option("in RSA-R the Responder makes the keys (RFC 4738 §3)");
  if (mode.name !== "PSK" && request.initiatorId === undefined) throw option(`in mode ${mode.name} the Initiator has an identity`);
  if (mode.name === "DHHMAC" && request.responderId === undefined) throw option("DHHMAC names the Responder (RFC 4650 §3)");
  if ("psk" in credential && request.initiatorId !== undefined && sameIdentity(request.initiatorId, request.responderId))
    throw option(
      "a key that is shared with oneself: both parties have the same identity, and nothing else tells who sent a message",
    );
  if (mode.rand === "initiator" && request.rand === "responder") throw option("only in RSA-R the Responder may send RAND");
  // A lone ID is read as the Initiator's (RFC 3830 §3.1 tells them apart by order only).
  if (request.initiatorId === undefined && request.responderId !== undefined && request.omitIdentities !== true)
    throw option("an ID payload for the Responder needs one for the Initiator before it");
  if (request.group === true) {
    if (mode.name !== "RSA-R") throw option("the keys of a group are asked for in mode RSA-R (RFC 4738 §3.2)");
    if (request.policies.size > 0 || request.rand instanceof Uint8Array)
      throw option("policy and RAND of a group are the Responder's (RFC 4738 §3.2)");
  }
}

/** Whether what is sent without HELLO has numbers of RFC 3830 alone. */
function hasStandardNumbers(policy: CompiledPolicy, credential: Credential): boolean {
  const mode = modeNamed(modeNameOf(credential));
  const { prf, encrAlg, macAlg } = algorithmsFor(mode, { credential }, policy, false);
  const numbers = prf === PrfFunc.MIKEY_1 && encrAlg <= EncrAlg.AES_KW_128 && macAlg <= MacAlg.HMAC_SHA_1_160;
  if (!numbers || (mode.keys === "agreement" && !isStandardGroup(preferredGroup(credential, policy, false)))) return false;
  return !("keyPair" in credential) || signingBy(credential, policy, false) !== undefined;
}

/** PRF, Encr alg and MAC alg: the caller's choice or the policy's first; HMAC-SHA-256 and AES-CM-256 where HELLO announced them. */
function algorithmsFor(
  mode: Mode,
  request: Pick<BeginRequest, "credential" | "prf" | "encrAlg" | "macAlg">,
  policy: CompiledPolicy,
  announced: boolean,
): Pick<Csb, "prf" | "encrAlg" | "macAlg"> {
  const prf = request.prf ?? preferred(policy.prfs, announced, (value) => value === PrfFunc.MIKEY_1);
  // Where a mode signs, or the Responder makes the KEMAC, there is nothing of this kind in the request.
  if ("nullKeying" in request.credential || (mode.credential === "key-pair" && mode.keys !== "initiator"))
    return { prf, encrAlg: EncrAlg.NULL, macAlg: MacAlg.NULL };
  const standardEncryption = (value: number): boolean => value === EncrAlg.AES_CM_128 || value === EncrAlg.AES_KW_128;
  const encrAlg =
    mode.keys === "agreement" ? EncrAlg.NULL : (request.encrAlg ?? preferred(policy.encrAlgs, announced, standardEncryption));
  const macAlg = request.macAlg ?? preferred(policy.macAlgs, announced, (value) => value === MacAlg.HMAC_SHA_1_160);
  checkKemacAlgorithms(mode, encrAlg, macAlg);
  if (macAlg === MacAlg.NULL) throw new MikeyError("mikey.mac-algorithm", "a NULL MAC is not sent");
  return { prf, encrAlg, macAlg };
}

/** The credential with the group that the agreement is in. */
function credentialFor(mode: Mode, credential: Credential, policy: CompiledPolicy, announced: boolean): Credential {
  const copy = copyCredential(credential);
  if (mode.keys !== "agreement" || "nullKeying" in copy) return copy;
  const chosen = preferredGroup(copy, policy, announced);
  if (!announced && !isStandardGroup(chosen))
    throw new MikeyError("mikey.option", `group ${chosen} is of docs/protocol.md, and HELLO does not announce it`);
  return withGroup(copy, chosen);
}

function preferredGroup(credential: Credential, policy: CompiledPolicy, announced: boolean): AgreementGroup {
  return ("group" in credential ? credential.group : undefined) ?? preferred(policy.groups, announced, isStandardGroup);
}

/** What is about to be proposed is checked as strictly as what is received. */
function checkSessions(csb: Csb, hasKeys: boolean): void {
  for (const { csId, policyNo } of csb.cryptoSessions) {
    if (policyNo !== undefined && !csb.policies.has(policyNo)) {
      throw new MikeyError("mikey.option", `crypto session ${csId} names policy ${policyNo}, which is not given`);
    }
  }
  if (csb.mapType === CsMapType.EMPTY && csb.policies.size > 0) {
    throw new MikeyError("mikey.option", "with an Empty map no policy is sent (RFC 4563 §5)");
  }
  if (hasKeys) checkKeys(csb, createToleranceUse(["concatenated-key-and-salt"]));
}

/** @throws MikeyError `mikey.option` where a new key has an SPI that is in use */
function checkNewSpis(csb: Csb, validities: readonly KeyValidity[]): void {
  const used = csb.keys.map(spiOf).filter((spi) => spi !== undefined);
  for (const validity of validities) {
    if (validity.kv === "spi" && used.some((spi) => equalBytes(spi, validity.spi)))
      throw new MikeyError("mikey.option", "a new key has a new SPI, or packets under the old key could not be told apart");
  }
}

function freshCsbId({ crypto, csbIdInUse }: InitiatorOptions): number {
  for (;;) {
    const [a, b, c, d] = crypto.randomBytes(4) as unknown as [number, number, number, number];
    const csbId = ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
    if (csbIdInUse?.(csbId) !== true) return csbId;
  }
}

function extensionsOf({ sdpIds, extensions }: MessageRequest): GeneralExtensionPayload[] {
  const ids: GeneralExtensionPayload[] =
    sdpIds === undefined ? [] : [{ kind: "EXT", extType: ExtensionType.SDP_IDS, data: encodeSdpIds(sdpIds) }];
  return [...ids, ...(extensions ?? [])];
}
