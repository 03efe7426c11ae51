import { equalBytes, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import type { Clock } from "../io/index.js";
import { type SrtpPolicy, suiteOf } from "../srtp/index.js";
import { decodeMessage } from "./codec.js";
import { type CryptoSessionRequest, completedSessions, cryptoSessionsFor, csMapOf } from "./cs-map.js";
import {
  type Credential,
  type Csb,
  checkKeys,
  copyCredential,
  copyKeys,
  type Identity,
  type KeyMaterial,
  keyDataOf,
  sameIdentity,
  wipeCsb,
} from "./csb.js";
import { MikeyPeerError, readErrorMessage } from "./error-message.js";
import { authenticationError, MikeyError } from "./errors.js";
import { deriveMessageKeys, type MessageKeys, wipeMessageKeys } from "./keys.js";
import type { DecodedMessage, GeneralExtensionPayload, Header, KeyValidity, Payload } from "./message.js";
import { checkGrammar, payloadOf, payloadsOf } from "./modes/grammar.js";
import { checkPskAlgorithms, encodeWithKemac, PSK, verificationSuffix, verifyV } from "./modes/psk.js";
import { encodeSdpIds } from "./payloads-content.js";
import { CsMapType, DataType, EncrAlg, ExtensionType, MacAlg, PrfFunc, ProtType } from "./registry.js";
import { type SpDialect, srtpPolicyParams } from "./srtp-policy.js";
import { createTimestampSource, type Timestamp, type TimestampSource } from "./timestamp.js";
import { createToleranceUse } from "./tolerances.js";
import { createTurns } from "./turns.js";

export interface InitiatorOptions {
  readonly crypto: CryptoProvider;
  readonly clock: Clock;
  /** One source per long-term key, shared by everything that uses it: its T are unique (RFC 3830 §5.2). Default: NTP-UTC on `clock`. */
  readonly timestamps?: TimestampSource;
  /** NULL keying outside TLS; keys then travel in the clear. Default false. */
  readonly allowNullKeying?: boolean;
  /** True for CSB IDs that live towards the same Responder (RFC 3830 §6.1). */
  readonly csbIdInUse?: (csbId: number) => boolean;
}

/** What a key data sub-payload carries (RFC 3830 §6.13). `TEK` alone is master key and salt in one field. */
export type KeyKind = "TGK" | "TGK+SALT" | "TEK" | "TEK+SALT";

/** A key to transport. Random where no value is given; lengths follow the policy. */
export interface KeyRequest {
  readonly kind: KeyKind;
  readonly value?: Uint8Array;
  readonly salt?: Uint8Array;
  /** Octets of a random TGK. Default: the longest master key that a policy needs, at least 16. */
  readonly length?: number;
  /** SPI, which SRTP carries as MKI. Not together with `interval`. */
  readonly spi?: Uint8Array;
  /** First and last packet index of the key, 48 bits (RFC 3711 §8.1.1). */
  readonly interval?: { readonly from: number; readonly to: number };
}

interface MessageRequest {
  /** SP payloads are written in this dialect. Default `base`. */
  readonly spDialect?: SpDialect;
  /** Ask for a verification message. Default true with a pre-shared key; impossible without. */
  readonly requestResponse?: boolean;
  /** Key management protocols that the SDP offers, in its order, against bidding down (RFC 4567 §4.1.4). */
  readonly sdpIds?: readonly string[];
  /** General Extensions to send along. */
  readonly extensions?: readonly GeneralExtensionPayload[];
  /** Zero-pad key data for AES key wrap. Default false. */
  readonly padKeyWrap?: boolean;
}

/** A new CSB to begin. */
export interface BeginRequest extends MessageRequest {
  readonly credential: Credential;
  /** Whether TLS protects the channel end to end; NULL keying needs it. Default false. */
  readonly secure?: boolean;
  readonly initiatorId?: Identity;
  readonly responderId?: Identity;
  /** Leave the ID payloads out: both sides know the identities from elsewhere, and V covers them all the same. Default false. */
  readonly omitIdentities?: boolean;
  /** Default 0, SRTP-ID. */
  readonly mapType?: 0 | 1 | 2;
  readonly cryptoSessions: readonly CryptoSessionRequest[];
  /** By policy number. Empty with map type 1. */
  readonly policies: ReadonlyMap<number, SrtpPolicy>;
  readonly keys: readonly KeyRequest[];
  /** PRF func. Default 0, MIKEY-1. */
  readonly prf?: number;
  /** Default AES-CM-128. Ignored with NULL keying. */
  readonly encrAlg?: number;
  /** Default HMAC-SHA-1-160. Ignored with NULL keying. */
  readonly macAlg?: number;
  /** Default: random. */
  readonly csbId?: number;
  /** Default: 16 random octets. */
  readonly rand?: Uint8Array;
}

/** What an update changes (RFC 3830 §4.5). Everything left out stays as it is. */
export interface UpdateRequest extends MessageRequest {
  readonly keys?: readonly KeyRequest[];
  /** All sessions of the CSB, with their current ROC. Default: as they are. */
  readonly cryptoSessions?: readonly CryptoSessionRequest[];
  /** New or changed policies. */
  readonly policies?: ReadonlyMap<number, SrtpPolicy>;
}

/** A request under way. */
export interface PendingExchange {
  /** The I_MESSAGE. A retransmission sends the same octets. */
  readonly octets: Uint8Array;
  /** As proposed: keys and own SSRCs are valid at once, nothing of the Responder is known yet. */
  readonly csb: Csb;
  readonly responseRequested: boolean;
  /**
   * Verifies the R_MESSAGE and gives the CSB as agreed. A response that fails changes nothing: the right one may still come.
   * @throws MikeyPeerError `mikey.peer-error` for an ERR message; MikeyError `mikey.authentication`, `mikey.response`,
   *   `mikey.grammar`; CodecError
   */
  complete(response: Uint8Array): Promise<Csb>;
  /**
   * As `complete`, for one of several responses to a message that was forked: each makes a CSB that is wiped on its own, and more may
   * come until `abandon`. @throws as `complete`
   */
  fork(response: Uint8Array): Promise<Csb>;
  /** Gives up and wipes the keys. Not after `complete`. */
  abandon(): void;
}

/** Begins and updates crypto session bundles. */
export interface Initiator {
  /**
   * A new CSB.
   * @throws MikeyError `mikey.null-keying`, `mikey.option`, `mikey.key-data`, `mikey.prf`, `mikey.encryption-algorithm`,
   *   `mikey.mac-algorithm`, `mikey.repeating-key`
   */
  begin(request: BeginRequest): Promise<PendingExchange>;
  /** Same CSB ID, greater T, no RAND (RFC 3830 §4.5). @throws MikeyError as `begin` */
  update(csb: Csb, request: UpdateRequest): Promise<PendingExchange>;
}

export function createInitiator(options: InitiatorOptions): Initiator {
  const { crypto } = options;
  const timestamps = options.timestamps ?? createTimestampSource(options.clock);
  return {
    begin: async (request) => beginExchange(options, timestamps, request),
    update: async (csb, request) => beginUpdate(crypto, timestamps, csb, request),
  };
}

function beginExchange(options: InitiatorOptions, timestamps: TimestampSource, request: BeginRequest): PendingExchange {
  const { crypto } = options;
  const nullKeyed = "nullKeying" in request.credential;
  if (nullKeyed && request.secure !== true && options.allowNullKeying !== true) {
    throw new MikeyError(
      "mikey.null-keying",
      "NULL keying sends keys in the clear: use TLS or a pre-shared key, or allow NULL keying by name",
    );
  }
  if (request.keys.length === 0) throw new MikeyError("mikey.option", "the first message of an exchange carries a key");
  const mapType = request.mapType ?? CsMapType.SRTP_ID;
  const policies = new Map(request.policies);
  const cryptoSessions = cryptoSessionsFor(mapType, request.cryptoSessions);
  const timestamp = timestamps.next();
  const rand = request.rand?.slice() ?? crypto.randomBytes(16);
  const csbId = request.csbId ?? freshCsbId(options);
  const keys = request.keys.map((key) => createKey(crypto, key, policies));
  const draft: Csb = {
    csbId,
    role: "initiator",
    prf: request.prf ?? PrfFunc.MIKEY_1,
    encrAlg: nullKeyed ? EncrAlg.NULL : (request.encrAlg ?? EncrAlg.AES_CM_128),
    macAlg: nullKeyed ? MacAlg.NULL : (request.macAlg ?? MacAlg.HMAC_SHA_1_160),
    rand,
    timestamp,
    initiatorId: request.initiatorId,
    responderId: request.responderId,
    mapType,
    cryptoSessions,
    policies,
    keys,
    credential: copyCredential(request.credential),
    nullKeyed,
    peerAuthenticated: false,
    initiatorExtensions: extensionsOf(request),
    responderExtensions: [],
    tolerances: [],
    exchange: EMPTY_EXCHANGE,
  };
  checkSessions(draft);
  const ids = request.omitIdentities === true ? [] : identityPayloads(request.initiatorId, request.responderId);
  const octetsOf = (messageKeys: MessageKeys | undefined, responseRequested: boolean): Uint8Array =>
    encodeWithKemac(
      crypto,
      headerOf(draft, responseRequested),
      [
        timestampPayload(timestamp),
        { kind: "RAND", rand },
        ...ids,
        ...policyPayloads(policies, request.spDialect),
        ...draft.initiatorExtensions,
      ],
      timestamp,
      keys.map(keyDataOf),
      { encrAlg: draft.encrAlg, macAlg: draft.macAlg, keys: messageKeys },
      request,
    );
  return pend(crypto, draft, request, octetsOf, (octets) => ({
    ...EMPTY_EXCHANGE,
    request: octets,
    timestamp,
    initiatorExtensions: draft.initiatorExtensions,
  }));
}

const EMPTY_EXCHANGE: Csb["exchange"] = {
  dataType: PSK.requestType,
  request: new Uint8Array(0),
  response: new Uint8Array(0),
  timestamp: { tsType: 0, value: new Uint8Array(8) },
  initiatorExtensions: [],
  responderExtensions: [],
};

function beginUpdate(crypto: CryptoProvider, timestamps: TimestampSource, csb: Csb, request: UpdateRequest): PendingExchange {
  if (csb.role !== "initiator")
    throw new MikeyError("mikey.option", "only the Initiator of a crypto session bundle updates it (RFC 3830 §4.5)");
  const timestamp = timestamps.next(csb.timestamp);
  const policies = new Map([...csb.policies, ...(request.policies ?? [])]);
  const keys = request.keys?.map((key) => createKey(crypto, key, policies));
  const used = new Set(csb.keys.map(spiText));
  if (keys?.some((key) => used.has(spiText(key)) && spiText(key) !== "") === true) {
    throw new MikeyError("mikey.option", "a new key has a new SPI, or packets under the old key could not be told apart");
  }
  const draft: Csb = {
    ...csb,
    timestamp,
    cryptoSessions:
      request.cryptoSessions === undefined ? csb.cryptoSessions : cryptoSessionsFor(csb.mapType, request.cryptoSessions),
    policies,
    keys: keys ?? copyKeys(csb.keys),
    credential: copyCredential(csb.credential),
    peerAuthenticated: false,
    initiatorExtensions: extensionsOf(request),
    responderExtensions: [],
  };
  checkSessions(draft);
  const octetsOf = (messageKeys: MessageKeys | undefined, responseRequested: boolean): Uint8Array =>
    encodeWithKemac(
      crypto,
      headerOf(draft, responseRequested),
      [
        timestampPayload(timestamp),
        ...policyPayloads(request.policies ?? new Map(), request.spDialect),
        ...draft.initiatorExtensions,
      ],
      timestamp,
      (keys ?? []).map(keyDataOf),
      { encrAlg: draft.encrAlg, macAlg: draft.macAlg, keys: messageKeys },
      request,
    );
  return pend(crypto, draft, request, octetsOf, () => csb.exchange, true);
}

/** Everything that `begin` and `update` have in common once the CSB is drafted. */
function pend(
  crypto: CryptoProvider,
  draft: Csb,
  request: MessageRequest,
  octetsOf: (keys: MessageKeys | undefined, responseRequested: boolean) => Uint8Array,
  exchangeOf: (octets: Uint8Array) => Csb["exchange"],
  update = false,
): PendingExchange {
  const responseRequested = request.requestResponse ?? !draft.nullKeyed;
  if (responseRequested && draft.nullKeyed) {
    throw new MikeyError("mikey.option", "without a pre-shared key no verification can be asked for");
  }
  const messageKeys = messageKeysOf(crypto, draft);
  const octets = octetsOf(messageKeys, responseRequested);
  if (messageKeys !== undefined && !responseRequested) wipeMessageKeys(messageKeys);
  const csb: Csb = { ...draft, exchange: exchangeOf(octets) };
  const turns = createTurns();
  let done: { readonly response: Uint8Array; readonly csb: Csb } | undefined;
  let abandoned = false;
  const waiting = (response: Uint8Array): Promise<Csb> => {
    if (abandoned || messageKeys === undefined || !responseRequested)
      throw new MikeyError("mikey.response", "no response is waited for");
    return completeExchange(crypto, csb, messageKeys, decodeMessage(response), update);
  };
  return {
    octets,
    csb,
    responseRequested,
    complete: (response) =>
      turns(async () => {
        // A duplicate of the response that was accepted says nothing new.
        if (done !== undefined && equalBytes(done.response, response)) return done.csb;
        const completed = await waiting(response);
        if (messageKeys !== undefined) wipeMessageKeys(messageKeys);
        done = { response: response.slice(), csb: completed };
        return completed;
      }),
    fork: (response) =>
      turns(async () => {
        if (done !== undefined) throw new MikeyError("mikey.response", "no response is waited for");
        const branch = await waiting(response);
        return { ...branch, keys: copyKeys(branch.keys), credential: copyCredential(branch.credential) };
      }),
    abandon() {
      abandoned = true;
      if (messageKeys !== undefined) wipeMessageKeys(messageKeys);
      wipeCsb(csb);
    },
  };
}

/** RFC 3830 §3.1, §5.2: the response repeats CSB ID and T; V is verified before anything else is read. */
async function completeExchange(
  crypto: CryptoProvider,
  csb: Csb,
  keys: MessageKeys,
  message: DecodedMessage,
  update: boolean,
): Promise<Csb> {
  const { header } = message;
  const t = payloadOf(message, "T");
  if (header.csbId !== csb.csbId || t === undefined || !sameTimestamp(t, csb.timestamp)) {
    throw new MikeyError("mikey.response", "the response belongs to another request: CSB ID or timestamp differ");
  }
  if (header.dataType === DataType.ERROR) throw new MikeyPeerError(readErrorMessage(crypto, message, keys, csb.macAlg));
  if (header.dataType !== PSK.responseType)
    throw new MikeyError("mikey.response", `a message of type ${header.dataType} is no response to a pre-shared key message`);
  checkGrammar(message, PSK.response);
  const id = payloadOf(message, "ID");
  const responderId: Identity | undefined = id === undefined ? csb.responderId : { idType: id.idType, data: id.data };
  verifyV(crypto, message, csb.macAlg, keys, verificationSuffix(csb.initiatorId, responderId, csb.timestamp));
  if (csb.responderId !== undefined && !sameIdentity(csb.responderId, responderId)) throw authenticationError();
  if (header.prf !== csb.prf) throw new MikeyError("mikey.response", "the response names another PRF");
  const responderExtensions = payloadsOf(message, "EXT");
  return {
    ...csb,
    responderId,
    cryptoSessions: completedSessions(csb.mapType, csb.cryptoSessions, header.csMap),
    peerAuthenticated: true,
    responderExtensions,
    exchange: update ? csb.exchange : { ...csb.exchange, response: message.octets, responderExtensions },
  };
}

function messageKeysOf(crypto: CryptoProvider, csb: Csb): MessageKeys | undefined {
  if (!("psk" in csb.credential)) return undefined;
  checkPskAlgorithms(csb.encrAlg, csb.macAlg);
  return deriveMessageKeys(crypto, csb, csb.credential.psk, csb.encrAlg, csb.macAlg);
}

/** What is about to be proposed is checked as strictly as what is received. */
function checkSessions(csb: Csb): void {
  for (const { csId, policyNo } of csb.cryptoSessions) {
    if (policyNo !== undefined && !csb.policies.has(policyNo)) {
      throw new MikeyError("mikey.option", `crypto session ${csId} names policy ${policyNo}, which is not given`);
    }
  }
  if (csb.mapType === CsMapType.EMPTY && csb.policies.size > 0) {
    throw new MikeyError("mikey.option", "with an Empty map no policy is sent (RFC 4563 §5)");
  }
  checkKeys(csb, createToleranceUse(["concatenated-key-and-salt"]));
}

function createKey(crypto: CryptoProvider, request: KeyRequest, policies: ReadonlyMap<number, SrtpPolicy>): KeyMaterial {
  const suites = [...policies.values()].map(({ suite }) => suiteOf(suite));
  const first = suites[0];
  const kind = request.kind.startsWith("TGK") ? "TGK" : "TEK";
  const salted = request.kind.endsWith("+SALT");
  if (first === undefined && request.kind !== "TGK" && (request.value === undefined || (salted && request.salt === undefined))) {
    throw new MikeyError("mikey.option", "without a policy only a TGK can be made; give the value of the key");
  }
  const keyLength = first?.keyLength ?? 16;
  const saltLength = first?.saltLength ?? 14;
  const length =
    kind === "TGK"
      ? (request.length ?? Math.max(16, ...suites.map((suite) => suite.keyLength)))
      : salted
        ? keyLength
        : keyLength + saltLength;
  if (!salted && request.salt !== undefined) throw new MikeyError("mikey.option", `a ${request.kind} has no salt field`);
  return {
    kind,
    key: request.value?.slice() ?? crypto.randomBytes(length),
    ...(salted ? { salt: request.salt?.slice() ?? crypto.randomBytes(saltLength) } : {}),
    validity: validityFor(request),
  };
}

function validityFor({ spi, interval }: KeyRequest): KeyValidity {
  if (spi !== undefined && interval !== undefined)
    throw new MikeyError("mikey.option", "a key has an SPI or an interval, not both (RFC 3830 §6.13)");
  if (interval !== undefined) return { kv: "interval", from: indexOctets(interval.from), to: indexOctets(interval.to) };
  if (spi === undefined) return { kv: "null" };
  if (spi.length === 0 || spi.length > 255) throw new MikeyError("mikey.option", `an SPI has 1 to 255 octets, not ${spi.length}`);
  return { kv: "spi", spi: spi.slice() };
}

/** A packet index of 48 bits, 6 octets (RFC 3830 §6.14). */
function indexOctets(index: number): Uint8Array {
  if (!Number.isInteger(index) || index < 0 || index >= 2 ** 48)
    throw new MikeyError("mikey.option", `${index} is no packet index of 48 bits`);
  return Uint8Array.from({ length: 6 }, (_, i) => Math.floor(index / 256 ** (5 - i)));
}

function freshCsbId({ crypto, csbIdInUse }: InitiatorOptions): number {
  for (;;) {
    const octets = crypto.randomBytes(4);
    const csbId = new DataView(octets.buffer, octets.byteOffset).getUint32(0);
    wipe(octets);
    if (csbIdInUse?.(csbId) !== true) return csbId;
  }
}

function headerOf(csb: Csb, verificationRequested: boolean): Header {
  return {
    version: 1,
    dataType: PSK.requestType,
    verificationRequested,
    prf: csb.prf,
    csbId: csb.csbId,
    csMap: csMapOf(csb.mapType, csb.cryptoSessions),
  };
}

function extensionsOf({ sdpIds, extensions }: MessageRequest): GeneralExtensionPayload[] {
  const ids: GeneralExtensionPayload[] =
    sdpIds === undefined ? [] : [{ kind: "EXT", extType: ExtensionType.SDP_IDS, data: encodeSdpIds(sdpIds) }];
  return [...ids, ...(extensions ?? [])];
}

function identityPayloads(initiator: Identity | undefined, responder: Identity | undefined): Payload[] {
  // A lone ID is read as the Initiator's (RFC 3830 §3.1 tells them apart by order only).
  if (initiator === undefined && responder !== undefined) {
    throw new MikeyError("mikey.option", "an ID payload for the Responder needs one for the Initiator before it");
  }
  return [initiator, responder].filter((id) => id !== undefined).map((id) => ({ kind: "ID", idType: id.idType, data: id.data }));
}

function timestampPayload({ tsType, value }: Timestamp): Payload {
  return { kind: "T", tsType, value };
}

function policyPayloads(policies: ReadonlyMap<number, SrtpPolicy>, dialect: SpDialect | undefined): Payload[] {
  return [...policies].map(([policyNo, policy]) => ({
    kind: "SP",
    policyNo,
    protType: ProtType.SRTP,
    params: srtpPolicyParams(policy, dialect),
  }));
}

function sameTimestamp(a: Timestamp, b: Timestamp): boolean {
  return a.tsType === b.tsType && equalBytes(a.value, b.value);
}

function spiText(key: KeyMaterial): string {
  return key.validity.kv === "spi" ? key.validity.spi.join() : "";
}
