import { equalBytes, wipe } from "../bytes/index.js";
import type { Agreement, CryptoProvider, Decrypter, PublicKey } from "../crypto/index.js";
import type { Clock } from "../io/index.js";
import { protectsEverything, type SrtpPolicy } from "../srtp/index.js";
import { decodeMessage } from "./codec.js";
import { completedSessions, cryptoSessionsOf } from "./cs-map.js";
import {
  type Csb,
  type CsbDraft,
  checkKeys,
  copyCsb,
  type Identity,
  type KeyMaterial,
  keyMaterialOf,
  sameIdentity,
  spiOf,
  wipeCsb,
} from "./csb.js";
import { MikeyPeerError, readErrorMessage } from "./error-message.js";
import { authenticationError, MikeyError } from "./errors.js";
import { LEAST_RAND, type MessageKeys, wipeMessageKeys } from "./keys.js";
import type { DecodedMessage, DhPayload, KeyValidity } from "./message.js";
import { openEnvelope, verificationAlg } from "./modes/envelope.js";
import { checkGrammar, payloadOf, payloadsOf, requiredPayload } from "./modes/grammar.js";
import { checkKemacAlgorithms, verificationSuffix, verifyKemac, verifyV } from "./modes/mac.js";
import type { Mode } from "./modes/modes.js";
import { verifySignature } from "./modes/signature.js";
import { decodeCsbIdExtension } from "./payloads-content.js";
import { chainsOf, identityOfKey, type PeerKey } from "./peer-keys.js";
import { announces, type CompiledPolicy, isSignedByPeer, usableSchemes } from "./policy.js";
import { CsMapType, DataType, ExtensionType, ProtType } from "./registry.js";
import { wipeKeyData } from "./request-keys.js";
import { samePolicy, srtpPolicyOf } from "./srtp-policy.js";
import type { Timestamp } from "./timestamp.js";
import { createToleranceUse, type ToleranceName, type ToleranceUse } from "./tolerances.js";
import { createTurns } from "./turns.js";

/** A request under way. */
export interface PendingExchange {
  /** The I_MESSAGE. A retransmission sends the same octets. */
  readonly octets: Uint8Array;
  /**
   * As proposed. Keys of this party's making and own SSRCs are valid at once; where the Responder has a part in the keys (DH, DHHMAC,
   * RSA-R) there are none yet. Nothing of the Responder is known.
   */
  readonly csb: Csb;
  readonly responseRequested: boolean;
  /**
   * Verifies the R_MESSAGE and gives the CSB as agreed. A response that fails changes nothing: the right one may still come.
   * @throws MikeyPeerError `mikey.peer-error` for an ERR message; MikeyError `mikey.authentication`, `mikey.response`,
   *   `mikey.grammar`, `mikey.identity`; CodecError
   */
  complete(response: Uint8Array): Promise<Csb>;
  /**
   * As `complete`, for one of several responses to a message that was forked: each makes a CSB that is wiped on its own, with keys of its
   * own where the Responder has a part in them, and more may come until `abandon`. @throws as `complete`
   */
  fork(response: Uint8Array): Promise<Csb>;
  /** Gives up and wipes the keys. Not after `complete`. */
  abandon(): void;
}

/** What an Initiator keeps of a request until its response comes. */
export interface Proposal {
  readonly crypto: CryptoProvider;
  readonly policy: CompiledPolicy;
  readonly clock: Clock;
  readonly tolerances: readonly ToleranceName[];
  /** Of the messages: an update under an envelope key has another than its bundle. */
  readonly mode: Mode;
  readonly csb: Csb;
  readonly octets: Uint8Array;
  /** The bundle that is updated. */
  readonly updated: Csb | undefined;
  readonly responseRequested: boolean;
  /** The keys of a group were asked for (RFC 4738 §3.2). */
  readonly group: boolean;
  readonly messageKeys: MessageKeys | undefined;
  readonly agreement: Agreement | undefined;
  /** Of the key that the agreement will give. */
  readonly validity: KeyValidity | undefined;
  readonly decrypter: Decrypter | undefined;
  /** Whom the envelope key was encrypted to. */
  readonly recipient: PeerKey | undefined;
  /** Who answered before, by a key of its own. */
  readonly knownResponder: PeerKey | undefined;
  readonly acceptsResponder: ((responderId: Identity) => boolean) | undefined;
}

export function createPendingExchange(proposal: Proposal): PendingExchange {
  const { csb, octets, messageKeys, agreement, responseRequested } = proposal;
  const turns = createTurns();
  let done: { readonly response: Uint8Array; readonly csb: Csb } | undefined;
  let abandoned = false;
  const wipeSecrets = (): void => {
    if (messageKeys !== undefined) wipeMessageKeys(messageKeys);
    agreement?.wipe();
  };
  const over = (): MikeyError => new MikeyError("mikey.response", "no response is waited for");
  const decode = (response: Uint8Array): DecodedMessage => {
    if (abandoned || !responseRequested) throw over();
    return decodeMessage(response);
  };
  const unlessAbandoned = (completed: Csb): Csb => {
    if (!abandoned) return completed;
    wipeCsb(completed);
    throw over();
  };
  return {
    octets,
    csb,
    responseRequested,
    complete: (response) =>
      turns(async () => {
        if (done !== undefined) {
          // A duplicate of the response that was accepted says nothing new.
          if (equalBytes(done.response, response)) return done.csb;
          checkBelongs(csb, decodeMessage(response));
          throw authenticationError();
        }
        const message = decode(response);
        const completed = unlessAbandoned(await new Completion(proposal, message).run());
        wipeSecrets();
        done = { response: message.octets, csb: completed };
        return completed;
      }),
    fork: (response) =>
      turns(async () => {
        if (done !== undefined) throw over();
        const completed = unlessAbandoned(await new Completion(proposal, decode(response)).run());
        const branch = copyCsb(completed);
        wipeReceived(completed, csb);
        return branch;
      }),
    abandon() {
      abandoned = true;
      wipeSecrets();
      wipeCsb(csb);
    },
  };
}

/** What a response may change of the keys and of what they are for. */
type Keying = Pick<Csb, "keys" | "rand" | "groupCsbId" | "policies" | "encrAlg" | "macAlg" | "envelope">;

/** One response on its way through the checks. Nothing is read of it before it is authentic (RFC 3830 §3.1, §5.2). */
class Completion {
  readonly #proposal: Proposal;
  readonly #message: DecodedMessage;
  readonly #use: ToleranceUse;
  readonly #now: number;

  constructor(proposal: Proposal, message: DecodedMessage) {
    this.#proposal = proposal;
    this.#message = message;
    this.#use = createToleranceUse(proposal.tolerances);
    this.#now = proposal.clock.now();
  }

  async run(): Promise<Csb> {
    const { mode, csb, updated } = this.#proposal;
    const message = this.#message;
    const { header } = message;
    checkBelongs(csb, message);
    if (header.dataType === DataType.ERROR) throw await this.#peerError();
    if (header.dataType !== mode.responseType)
      throw new MikeyError("mikey.response", `a message of type ${header.dataType} is no response in mode ${mode.name}`);
    checkGrammar(message, updated === undefined ? mode.response : mode.updateResponse);
    const { responderId, peerKey } = await this.#authenticate();
    if (header.prf !== csb.prf) throw new MikeyError("mikey.response", "the response names another PRF");
    const responderExtensions = payloadsOf(message, "EXT");
    const keying = mode.keys === "initiator" ? csb : await this.#keying(responderId);
    const group = mode.keys === "responder" && keying.groupCsbId !== undefined;
    try {
      const agreed: CsbDraft = {
        ...csb,
        groupCsbId: keying.groupCsbId,
        encrAlg: keying.encrAlg,
        macAlg: keying.macAlg,
        rand: keying.rand,
        responderId,
        mapType: group ? header.csMap.type : csb.mapType,
        cryptoSessions: this.#sessions(group),
        policies: keying.policies,
        keys: keying.keys,
        envelope: keying.envelope,
        peerKey: peerKey ?? csb.peerKey,
        peerAuthenticated: true,
        responderExtensions,
        exchange: updated === undefined ? { ...csb.exchange, response: message.octets, responderExtensions } : csb.exchange,
      };
      if (mode.keys === "initiator") return agreed;
      checkKeys(agreed, this.#use);
      agreed.tolerances = [...new Set([...csb.tolerances, ...this.#use.used])];
      return agreed;
    } catch (error) {
      wipeReceived(keying, csb);
      throw error;
    }
  }

  /** Who answered, by what the mode has for proof. @throws MikeyError `mikey.authentication`, `mikey.identity` */
  async #authenticate(): Promise<{ readonly responderId: Identity | undefined; readonly peerKey: PeerKey | undefined }> {
    const { crypto, mode, csb, messageKeys } = this.#proposal;
    const message = this.#message;
    const named = responseIdentities(message, mode);
    let responderId = named.responder ?? csb.responderId;
    let peerKey: PeerKey | undefined;
    if (mode.keys === "initiator") {
      const suffix = verificationSuffix(csb.initiatorId, responderId, csb.timestamp);
      verifyV(crypto, message, csb.macAlg, messageKeys as MessageKeys, suffix);
      await this.#checkRecipient(named.responder);
    } else if (mode.credential === "psk") {
      const { encrAlg, encrData, macAlg } = requiredPayload(message, "KEMAC");
      // The algorithm is the request's: a weaker one cannot be put in its place.
      if (macAlg !== csb.macAlg || encrAlg !== csb.encrAlg || encrData.length > 0) throw authenticationError();
      verifyKemac(crypto, message, messageKeys as MessageKeys);
    } else {
      peerKey = await this.#verifySigner(named.responder);
      responderId ??= identityOfKey(peerKey);
    }
    if (csb.responderId !== undefined && !sameIdentity(csb.responderId, responderId)) throw authenticationError();
    if (named.initiator !== undefined && !sameIdentity(csb.initiatorId, named.initiator)) throw authenticationError();
    const { acceptsResponder } = this.#proposal;
    if (csb.responderId === undefined && responderId !== undefined && acceptsResponder?.(responderId) === false)
      throw new MikeyError("mikey.identity", "a Responder answered that is not acceptable here");
    return { responderId, peerKey };
  }

  /**
   * V proves the private key that the envelope was for, and who named nobody takes whom that key's certificate names. A key that was given without
   * a certificate was taken as it is: its holder is called what it likes.
   */
  async #checkRecipient(named: Identity | undefined): Promise<void> {
    const { policy, csb } = this.#proposal;
    const { peerKey, responderId } = csb;
    if (responderId !== undefined || named === undefined || peerKey === undefined || peerKey.chain.length === 0) return;
    if (!(await policy.peerKeys.isOf(peerKey, named, "encryption", this.#now))) throw authenticationError();
  }

  /** The key that signed the response. */
  async #verifySigner(named: Identity | undefined): Promise<PeerKey> {
    const { crypto, policy, mode, csb, updated } = this.#proposal;
    const responderId = csb.responderId ?? named;
    const shown = chainsOf(this.#message).signature;
    // The certificate for an update was shown before (RFC 3830 §4.5), and may have ended or been revoked since.
    const chain = shown.length === 0 ? (updated?.peerKey?.chain ?? []) : shown;
    const peer = await policy.peerKeys.find(chain, responderId, "signature", this.#now);
    const suffix = mode.suffix
      ? verificationSuffix(csb.initiatorId, responderId ?? (peer === undefined ? undefined : identityOfKey(peer)), csb.timestamp)
      : [];
    const announced = announces(csb.exchange.initiatorExtensions);
    const right = await isSignedByPeer(crypto, policy, this.#message, peer, announced, this.#use, suffix);
    if (peer === undefined || !right) {
      if (peer !== undefined) policy.refused("the signature of the response is wrong");
      throw authenticationError();
    }
    return peer;
  }

  #schemes(): ReturnType<typeof usableSchemes> {
    const { policy, csb } = this.#proposal;
    return usableSchemes(policy, announces(csb.exchange.initiatorExtensions));
  }

  /** The keys, as far as the Responder has a part in them. */
  async #keying(responderId: Identity | undefined): Promise<Keying> {
    const { mode, csb } = this.#proposal;
    return mode.keys === "agreement" ? { ...csb, keys: await this.#agreedKeys() } : this.#transportedKeys(responderId);
  }

  /** DHr, DHi: ours unchanged, and an acceptable value of the Responder's in the same group (RFC 3830 §3.3, §4.5). */
  async #agreedKeys(): Promise<readonly KeyMaterial[]> {
    const { csb, agreement, validity } = this.#proposal;
    const [dhr, dhi, ...others] = payloadsOf(this.#message, "DH");
    if (agreement === undefined || validity === undefined) {
      if (dhr !== undefined) throw new MikeyError("mikey.response", "Diffie-Hellman values where none were sent (RFC 3830 §4.5)");
      return csb.keys;
    }
    if (dhr === undefined || dhi === undefined || others.length > 0)
      throw new MikeyError("mikey.response", "the response has both Diffie-Hellman values (RFC 3830 §4.5)");
    if (
      !equalBytes(dhi.value, agreement.publicValue) ||
      dhr.group !== dhi.group ||
      !sameValidity(dhi, validity) ||
      !sameValidity(dhr, validity)
    )
      throw new MikeyError("mikey.response", "the response does not repeat our Diffie-Hellman value");
    const secret = await agreement.agree(dhr.value);
    if (secret === undefined) {
      this.#proposal.policy.refused("a Diffie-Hellman value that is not acceptable");
      throw authenticationError();
    }
    return [{ kind: "TGK", key: secret, validity }];
  }

  /** E(IDr || {TGK}) under an envelope key that is encrypted to us (RFC 4738 §3.6, §3.7). */
  async #transportedKeys(responderId: Identity | undefined): Promise<Keying> {
    const { crypto, policy, mode, csb, decrypter, updated } = this.#proposal;
    const { encrAlg, macAlg } = requiredPayload(this.#message, "KEMAC");
    checkKemacAlgorithms(mode, encrAlg, macAlg);
    if (!policy.encrAlgs.includes(encrAlg) || !policy.macAlgs.includes(verificationAlg(macAlg)))
      throw new MikeyError("mikey.response", "the keys are protected by algorithms that are not acceptable");
    if (decrypter === undefined) throw new MikeyError("mikey.option", "our key does not decrypt");
    const { rand, groupCsbId } = this.#derivation();
    const policies = this.#policies(groupCsbId !== undefined);
    const context = { prf: csb.prf, csbId: groupCsbId ?? csb.csbId, rand, timestamp: csb.timestamp };
    const opened = await openEnvelope(crypto, this.#message, decrypter, policy.encryptionSchemes, context);
    wipeMessageKeys(opened.messageKeys);
    try {
      const keys = opened.keys.map(keyMaterialOf);
      const used = (updated?.keys ?? []).map(spiOf);
      if (!sameIdentity(opened.id, responderId)) throw authenticationError();
      if (keys.length === 0) throw new MikeyError("mikey.empty-kemac", "the response carries no key");
      if (keys.map(spiOf).some((spi) => spi !== undefined && used.some((old) => old !== undefined && equalBytes(old, spi))))
        throw new MikeyError("mikey.key-data", "a new key with the SPI of an old one");
      return {
        keys,
        rand,
        groupCsbId,
        policies,
        encrAlg,
        macAlg: verificationAlg(macAlg),
        envelope: { key: opened.envelopeKey, cached: opened.cached && groupCsbId === undefined },
      };
    } catch (error) {
      wipe(opened.envelopeKey);
      wipeKeyData(opened.keys);
      throw error;
    }
  }

  /** RAND of exactly one party; a CSB ID extension for a group and only for one (RFC 4738 §3.6, §3.7). */
  #derivation(): { readonly rand: Uint8Array; readonly groupCsbId: number | undefined } {
    const { csb, updated, group } = this.#proposal;
    const sent = payloadOf(this.#message, "RAND")?.rand;
    const extension = payloadsOf(this.#message, "EXT").find(({ extType }) => extType === ExtensionType.CSB_ID);
    if (updated !== undefined) return { rand: updated.rand, groupCsbId: updated.groupCsbId };
    if ((extension !== undefined) !== group)
      throw new MikeyError("mikey.response", group ? "the response is not for a group" : "the response is for a group");
    if ((sent === undefined) !== csb.rand.length > 0)
      throw new MikeyError("mikey.response", "RAND is sent by one of the parties, and by one only (RFC 4738 §3.7)");
    if (sent !== undefined && sent.length < LEAST_RAND)
      throw new MikeyError("mikey.response", `RAND has ${sent.length} octets, at least ${LEAST_RAND} are accepted`);
    return {
      rand: sent ?? csb.rand,
      groupCsbId: extension === undefined ? undefined : decodeCsbIdExtension(extension.data),
    };
  }

  /** The Responder picks among what was proposed; of a group it sets all (RFC 4738 §3.2, §3.6, §3.7). */
  #policies(group: boolean): ReadonlyMap<number, SrtpPolicy> {
    const { csb, policy } = this.#proposal;
    const received = new Map<number, SrtpPolicy>();
    for (const { policyNo, protType, params } of payloadsOf(this.#message, "SP")) {
      if (protType !== ProtType.SRTP) throw new MikeyError("mikey.policy", `policy ${policyNo} is not for SRTP`);
      const theirs = srtpPolicyOf(params, this.#use);
      const ours = csb.policies.get(policyNo);
      if (!group && (ours === undefined || !samePolicy(ours, theirs)))
        throw new MikeyError("mikey.response", "the response has a policy that was not proposed (RFC 4738 §3.7)");
      if (group && !(policy.allowsSuite(theirs) && protectsEverything(theirs)))
        throw new MikeyError("mikey.policy-parameter", `policy ${policyNo} is not accepted`);
      received.set(policyNo, theirs);
    }
    if (received.size === 0 && this.#proposal.updated === undefined && (group || csb.policies.size > 0))
      throw new MikeyError("mikey.response", "the response names no policy (RFC 4738 §3.6)");
    return group ? new Map([...csb.policies, ...received]) : csb.policies;
  }

  #sessions(group: boolean): Csb["cryptoSessions"] {
    const { csb, mode } = this.#proposal;
    const { csMap } = this.#message.header;
    const chosen = new Set(mode.keys === "responder" ? payloadsOf(this.#message, "SP").map(({ policyNo }) => policyNo) : []);
    const mayChoose = (policyNo: number | undefined): boolean => policyNo !== undefined && chosen.has(policyNo);
    if (!group) return completedSessions(csb.mapType, csb.cryptoSessions, csMap, mayChoose);
    if (csMap.type === CsMapType.EMPTY) throw new MikeyError("mikey.response", "the map of a group is the Responder's to fill");
    return cryptoSessionsOf(csMap);
  }

  async #peerError(): Promise<MikeyPeerError> {
    const { crypto, csb, messageKeys } = this.#proposal;
    const key = await this.#knownKey();
    const proof = {
      keys: messageKeys,
      macAlg: csb.macAlg,
      verifySignature:
        key === undefined ? undefined : () => verifySignature(crypto, this.#message, key, this.#schemes(), this.#use),
    };
    return new MikeyPeerError(await readErrorMessage(crypto, this.#message, proof));
  }

  /**
   * The Responder's signing key where it is known without its certificate, which an ERR message has no place for (RFC 3830 §5.1.2). A certificate
   * that was good to encrypt to need not be good for signatures.
   */
  async #knownKey(): Promise<PublicKey | undefined> {
    const { policy, csb, recipient, updated, knownResponder } = this.#proposal;
    const { peerKeys } = policy;
    const shown = updated?.peerKey ?? recipient ?? knownResponder;
    if (shown?.chain.length === 0) return shown.publicKey;
    const known =
      shown === undefined
        ? await peerKeys.known(csb.responderId, "signature")
        : await peerKeys.find(shown.chain, csb.responderId, "signature", this.#now);
    return known?.publicKey;
  }
}

/** Overwrites what a response brought, and nothing of what was proposed: the right response may still come, and other branches answer. */
function wipeReceived({ keys, envelope }: Pick<Csb, "keys" | "envelope">, proposed: Csb): void {
  if (keys !== proposed.keys) wipeKeyData(keys);
  if (envelope !== proposed.envelope) wipe(envelope?.key);
}

/** IDr comes first, and where the Initiator is named, as in DH, it is named last (RFC 3830 §3.3). */
function responseIdentities(
  message: DecodedMessage,
  mode: Mode,
): { readonly responder: Identity | undefined; readonly initiator: Identity | undefined } {
  const ids = payloadsOf(message, "ID").map(({ idType, data }): Identity => ({ idType, data }));
  if (mode.keys !== "agreement") return { responder: ids[0], initiator: undefined };
  return { responder: ids.length > 1 ? ids[0] : undefined, initiator: ids.at(-1) };
}

function sameValidity(dh: DhPayload, validity: KeyValidity): boolean {
  const theirs = dh.validity;
  if (theirs.kv === "spi" && validity.kv === "spi") return equalBytes(theirs.spi, validity.spi);
  if (theirs.kv === "interval" && validity.kv === "interval")
    return equalBytes(theirs.from, validity.from) && equalBytes(theirs.to, validity.to);
  return theirs.kv === validity.kv;
}

/** A response repeats CSB ID and T (RFC 3830 §3.1). @throws MikeyError `mikey.response` */
function checkBelongs(csb: Csb, message: DecodedMessage): void {
  const t = payloadOf(message, "T");
  if (message.header.csbId === csb.csbId && t !== undefined && sameTimestamp(t, csb.timestamp)) return;
  throw new MikeyError("mikey.response", "the response belongs to another request: CSB ID or timestamp differ");
}

function sameTimestamp(a: Timestamp, b: Timestamp): boolean {
  return a.tsType === b.tsType && equalBytes(a.value, b.value);
}
