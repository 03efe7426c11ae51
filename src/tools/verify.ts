/** Checks captured messages afterwards, with the credentials of one of the parties: MACs, signatures, certificates, and the keys inside. */
import { CodecError, formatHex, WatchwordError, wipe } from "../bytes/index.js";
import { type CryptoProvider, type Decrypter, defaultCrypto } from "../crypto/index.js";
import {
  CacheIndicator,
  type CompiledPolicy,
  chainsOf,
  checkGrammar,
  compilePolicy,
  createToleranceUse,
  DataType,
  type DecodedMessage,
  decodeCsbIdExtension,
  decodeMessage,
  decodeNtp,
  decrypterOf,
  deriveMessageKeys,
  EncrAlg,
  ExtensionType,
  type Grammar,
  type Identity,
  identitiesOf,
  identityOfKey,
  isCounter,
  isNullKeyed,
  type KeyData,
  type KeyPairCredential,
  MacAlg,
  type MessageKeys,
  MikeyError,
  type MikeyPolicy,
  MODES,
  type Mode,
  modeOf,
  openEnvelope,
  type PeerKey,
  payloadOf,
  payloadsOf,
  readKemac,
  requiredPayload,
  type Timestamp,
  verificationAlg,
  verificationSuffix,
  verifyKemac,
  verifySignature,
  verifyV,
  wipeMessageKeys,
} from "../mikey/index.js";

/** What one of the parties knows. */
export interface VerifyOptions {
  /** Pre-shared keys that the messages may be under: each is tried. */
  readonly psks?: readonly Uint8Array[];
  /** Private keys that envelopes may be encrypted to. */
  readonly keyPairs?: readonly KeyPairCredential[];
  /**
   * Keys of parties whose messages carry no certificate, and that `findPublicKey` of the policy does not find by name: each is tried. One
   * with identities is only for messages that name nobody.
   */
  readonly peerKeys?: readonly Pick<PeerKey, "publicKey" | "identities">[];
  /** How certificates are judged, at the time of the message; which algorithms are tried. */
  readonly policy?: MikeyPolicy;
  /** The parties, where no message names them (RFC 3830 §3: both know it from elsewhere). */
  readonly initiatorId?: Identity;
  readonly responderId?: Identity;
  /** Milliseconds since 1970, near which timestamps are. */
  readonly now: number;
  readonly crypto?: CryptoProvider;
}

/** What came of one message. */
export interface Verification {
  /**
   * `authentic`: the MAC or signature is right, and its key good. `false`: wrong, or of nobody who is believed. `unprotected`: NULL-keyed, there is
   * nothing to check. `unknown`: none of the credentials can tell, or what it answers or updates is not there.
   */
  readonly verdict: "authentic" | "false" | "unprotected" | "unknown";
  /** For people: by what, or why not. */
  readonly reason: string;
  /** Whom the certificate names that signed it; empty for a bare key. */
  readonly signer: readonly string[];
  /** The keys that it transports, where they could be decrypted. Secrets. */
  readonly keys: readonly KeyData[];
}

/** What later messages are checked by. */
interface Exchange {
  /** Of the last request: an update under a cached envelope key has another than its bundle. */
  readonly mode: Mode;
  readonly update: boolean;
  readonly timestamp: Timestamp;
  readonly prf: number;
  readonly csbId: number;
  readonly groupCsbId?: number;
  readonly rand: Uint8Array;
  readonly initiatorId: Identity | undefined;
  readonly responderId: Identity | undefined;
  readonly encrAlg: number;
  readonly macAlg: number;
  /** What KEMAC and V are under: the pre-shared key, or the envelope key. */
  readonly secret?: Uint8Array;
  /** Updates are pre-shared key messages under it (RFC 3830 §4.5). */
  readonly cached?: Uint8Array;
  readonly initiatorKey?: PeerKey;
  readonly responderKey?: PeerKey;
}

/**
 * Verifies messages in the order in which they were sent: an answer is checked against the request before it, an update against the first
 * message of its bundle.
 * @param messages those that do not decode are `unknown`
 */
export async function verifyMessages(messages: readonly Uint8Array[], options: VerifyOptions): Promise<Verification[]> {
  const checker = new Checker(options);
  const all: Verification[] = [];
  try {
    for (const octets of messages) all.push(await checker.check(octets));
  } finally {
    checker.wipe();
  }
  return all;
}

const unknown = (reason: string): Verification => ({ verdict: "unknown", reason, signer: [], keys: [] });

/**
 * What stands last authenticates, or a message is none of its mode (RFC 3830 §5.2). A first exchange is as the mode has it; of updates more may be
 * left out than this package leaves out (§4.5).
 * @throws MikeyError `mikey.grammar`
 */
function checkShape(message: DecodedMessage, grammar: Grammar, update: boolean): void {
  if (!update) {
    checkGrammar(message, grammar);
    return;
  }
  const kind = message.payloads.at(-1)?.kind;
  if (kind === undefined || ![grammar.last].flat().includes(kind))
    throw new MikeyError("mikey.grammar", "what authenticates the message is not its last payload");
}

/** @throws MikeyError for a KEMAC that nothing can be said of */
function isMacRight(crypto: CryptoProvider, message: DecodedMessage, keys: MessageKeys): boolean {
  try {
    verifyKemac(crypto, message, keys);
    return true;
  } catch (error) {
    if (error instanceof MikeyError && error.code === "mikey.authentication") return false;
    throw error;
  }
}

class Checker {
  readonly #options: VerifyOptions;
  readonly #crypto: CryptoProvider;
  readonly #policy: CompiledPolicy;
  /** By CSB ID: the last request of each. */
  readonly #exchanges = new Map<number, Exchange>();
  readonly #secrets: Uint8Array[] = [];
  /** Why no key was good. */
  #refusal = "";

  constructor(options: VerifyOptions) {
    this.#options = options;
    this.#crypto = options.crypto ?? defaultCrypto;
    const onRefusal = (reason: string): void => {
      this.#refusal = reason;
    };
    this.#policy = compilePolicy(this.#crypto, { ...options.policy, onRefusal });
  }

  wipe(): void {
    wipe(...this.#secrets);
  }

  async check(octets: Uint8Array): Promise<Verification> {
    this.#refusal = "";
    try {
      const message = decodeMessage(octets);
      const { dataType } = message.header;
      if (dataType === DataType.ERROR) return unknown("errors are not checked");
      const mode = modeOf(dataType);
      if (mode !== undefined) return await this.#request(message, mode);
      const answered = this.#exchanges.get(message.header.csbId);
      const responding = Object.values(MODES).find(({ responseType }) => responseType === dataType);
      if (responding === undefined) return unknown("a kind of message that is not checked");
      if (answered === undefined || responding !== answered.mode) return unknown("the request that it answers is not there");
      return await this.#response(message, answered);
    } catch (error) {
      if (error instanceof MikeyError) return { ...unknown(`${error.message}${this.#because()}`), verdict: "false" };
      if (error instanceof CodecError || error instanceof WatchwordError) return unknown(error.message);
      throw error;
    }
  }

  #because(): string {
    return this.#refusal === "" ? "" : `: ${this.#refusal}`;
  }

  async #request(message: DecodedMessage, mode: Mode): Promise<Verification> {
    const { prf, csbId } = message.header;
    const rand = payloadOf(message, "RAND")?.rand;
    const before = rand === undefined ? this.#exchanges.get(csbId) : undefined;
    // In RSA-R a first message may leave RAND to its answer (RFC 4738 §3.6).
    if (rand === undefined && before === undefined && mode.rand === "initiator")
      return unknown("an update, and the first message of its bundle is not there");
    checkShape(message, mode.request, before !== undefined);
    const { tsType, value } = requiredPayload(message, "T");
    const kemac = payloadOf(message, "KEMAC");
    const ids = identitiesOf(message, mode);
    const exchange: Exchange = {
      ...before,
      mode,
      update: before !== undefined,
      timestamp: { tsType, value },
      prf,
      csbId,
      rand: rand ?? before?.rand ?? new Uint8Array(0),
      initiatorId: ids.initiator ?? before?.initiatorId ?? this.#options.initiatorId,
      responderId: ids.responder ?? before?.responderId ?? this.#options.responderId,
      encrAlg: kemac?.encrAlg ?? before?.encrAlg ?? EncrAlg.NULL,
      macAlg: verificationAlg(kemac?.macAlg ?? before?.macAlg ?? MacAlg.NULL),
    };
    this.#exchanges.set(csbId, exchange);
    if (kemac !== undefined && isNullKeyed(kemac)) {
      const keys = readKemac(this.#crypto, message, exchange.timestamp, undefined);
      return { verdict: "unprotected", reason: "NULL-keyed: as safe as the channel", signer: [], keys };
    }
    return mode.credential === "psk" ? this.#maced(message, exchange) : this.#signed(message, exchange, "initiator");
  }

  async #response(message: DecodedMessage, exchange: Exchange): Promise<Verification> {
    const { mode, timestamp } = exchange;
    checkShape(message, mode.response, exchange.update);
    const t = requiredPayload(message, "T");
    if (formatHex(t.value) !== formatHex(timestamp.value)) return unknown("it answers another request: T differs");
    const [id] = payloadsOf(message, "ID");
    const named = mode.keys === "agreement" && payloadsOf(message, "ID").length < 2 ? undefined : id;
    const answered: Exchange = { ...exchange, responderId: named ?? exchange.responderId };
    if (mode.credential === "psk" && mode.keys === "agreement") return this.#maced(message, answered);
    if (mode.keys !== "initiator") return this.#signed(message, answered, "responder");
    const { secret } = answered;
    if (secret === undefined) return unknown("the key that it is under is not known");
    const keys = deriveMessageKeys(this.#crypto, answered, secret, answered.encrAlg, answered.macAlg);
    const suffix = verificationSuffix(answered.initiatorId, answered.responderId, timestamp);
    try {
      verifyV(this.#crypto, message, answered.macAlg, keys, suffix);
    } catch (error) {
      if (answered.initiatorId !== undefined && answered.responderId !== undefined) throw error;
      return unknown("the MAC covers who the parties are, and no message says it");
    } finally {
      wipeMessageKeys(keys);
    }
    return { verdict: "authentic", reason: "the MAC is right", signer: [], keys: [] };
  }

  /** KEMAC under a shared key: a pre-shared one, or the cached envelope key of the bundle. */
  #maced(message: DecodedMessage, exchange: Exchange): Verification {
    const crypto = this.#crypto;
    const kemac = requiredPayload(message, "KEMAC");
    const { psks = [] } = this.#options;
    const secrets = exchange.cached === undefined ? psks : [exchange.cached];
    if (secrets.length === 0) return unknown("the key that it is under is not known");
    for (const secret of secrets) {
      const keys = deriveMessageKeys(crypto, exchange, secret, kemac.encrAlg, kemac.macAlg);
      try {
        if (!isMacRight(crypto, message, keys)) continue;
        this.#exchanges.set(exchange.csbId, { ...exchange, secret });
        const under = exchange.cached === undefined ? "the pre-shared key" : "the cached envelope key";
        const clear = kemac.encrAlg === EncrAlg.NULL;
        const transported =
          exchange.mode.keys === "initiator" ? readKemac(crypto, message, exchange.timestamp, clear ? undefined : keys) : [];
        const agreed = exchange.mode.keys === "agreement" ? "; the keys are agreed on, and in no message" : "";
        return { verdict: "authentic", reason: `the MAC is right, under ${under}${agreed}`, signer: [], keys: transported };
      } finally {
        wipeMessageKeys(keys);
      }
    }
    return { verdict: "false", reason: "the MAC is wrong, or under another key", signer: [], keys: [] };
  }

  async #signed(message: DecodedMessage, exchange: Exchange, by: "initiator" | "responder"): Promise<Verification> {
    const { mode, timestamp } = exchange;
    const claimed = by === "initiator" ? exchange.initiatorId : exchange.responderId;
    const chain = chainsOf(message).signature;
    const before = by === "initiator" ? exchange.initiatorKey : exchange.responderKey;
    const now = isCounter(timestamp.tsType) ? this.#options.now : decodeNtp(timestamp.value, this.#options.now);
    const candidates = chain.length === 0 && before !== undefined ? [before] : await this.#keysOf(chain, claimed, now);
    if (candidates.length === 0) return { ...unknown(`its key is not good${this.#because()}`), verdict: "false" };
    const idOf = (key: PeerKey): Identity | undefined => claimed ?? identityOfKey(key);
    const { signatureSchemes } = this.#policy;
    let key: PeerKey | undefined;
    for (const candidate of candidates) {
      const suffix = by === "responder" && mode.suffix ? verificationSuffix(exchange.initiatorId, idOf(candidate), timestamp) : [];
      const { publicKey } = candidate;
      if (!(await verifySignature(this.#crypto, message, publicKey, signatureSchemes, createToleranceUse([]), suffix))) continue;
      key = candidate;
      break;
    }
    if (key === undefined) return { ...unknown("the signature is wrong"), verdict: "false" };
    const id = idOf(key);
    const found: Exchange =
      by === "initiator"
        ? { ...exchange, initiatorId: id, initiatorKey: key }
        : { ...exchange, responderId: id, responderKey: key };
    this.#exchanges.set(exchange.csbId, found);
    const authentic: Verification = { verdict: "authentic", reason: "the signature is right", signer: key.identities, keys: [] };
    if (mode.keys === "agreement")
      return { ...authentic, reason: `${authentic.reason}; the keys are agreed on, and in no message` };
    if (payloadOf(message, "PKE") === undefined) return authentic;
    if (payloadOf(message, "KEMAC") === undefined) {
      // Without the MAC of a KEMAC nothing tells whether an envelope key was decrypted rightly (RFC 3830 §3.2).
      const { secret: _secret, ...rest } = found;
      this.#exchanges.set(exchange.csbId, rest);
      return authentic;
    }
    return this.#opened(message, found, authentic);
  }

  /** What a message may be signed with: by name or certificate, otherwise what we were told to try. */
  async #keysOf(chain: PeerKey["chain"], claimed: Identity | undefined, now: number): Promise<readonly PeerKey[]> {
    const found = await this.#policy.peerKeys.find(chain, claimed, "signature", now);
    if (found !== undefined || chain.length > 0) return found === undefined ? [] : [found];
    return (this.#options.peerKeys ?? []).flatMap(({ publicKey, identities }) => {
      if (identities.length > 0 && claimed !== undefined) return [];
      const accepted = this.#policy.peerKeys.accept(publicKey);
      return accepted === undefined ? [] : [{ ...accepted, identities }];
    });
  }

  /** Decrypts an envelope, if it is for one of our keys. */
  async #opened(message: DecodedMessage, exchange: Exchange, authentic: Verification): Promise<Verification> {
    const group = payloadsOf(message, "EXT").find(({ extType }) => extType === ExtensionType.CSB_ID);
    const groupCsbId = group === undefined ? exchange.groupCsbId : decodeCsbIdExtension(group.data);
    const rand = payloadOf(message, "RAND")?.rand ?? exchange.rand;
    const { prf, csbId, timestamp } = exchange;
    const decrypters = (this.#options.keyPairs ?? []).map(decrypterOf).filter((key): key is Decrypter => key !== undefined);
    for (const decrypter of decrypters) {
      try {
        const context = { prf, csbId: groupCsbId ?? csbId, rand, timestamp };
        const opened = await openEnvelope(this.#crypto, message, decrypter, this.#policy.encryptionSchemes, context);
        const { encrAlg, macAlg } = requiredPayload(message, "KEMAC");
        const { cache } = requiredPayload(message, "PKE");
        this.#secrets.push(opened.envelopeKey);
        this.#exchanges.set(csbId, {
          ...exchange,
          rand,
          encrAlg,
          macAlg: verificationAlg(macAlg),
          secret: opened.envelopeKey,
          ...(groupCsbId === undefined ? {} : { groupCsbId }),
          ...(cache === CacheIndicator.NO_CACHE ? {} : { cached: opened.envelopeKey }),
        });
        return { ...authentic, keys: opened.keys };
      } catch (error) {
        if (!(error instanceof MikeyError) || error.code !== "mikey.authentication") throw error;
      }
    }
    return { ...authentic, reason: `${authentic.reason}; the keys are encrypted to somebody else` };
  }
}
