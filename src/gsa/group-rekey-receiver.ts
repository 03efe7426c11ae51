/** The rekey SA at a member: what comes of rekey messages, heartbeats and the end (docs/protocol.md §16.9). */
import { concatBytes, equalBytes, WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider, Hmac, PublicKey } from "../crypto/index.js";
import type { KeyPath, PathUpdate, RekeyPart } from "../gkma/index.js";
import {
  type CredentialData,
  checkGrammar,
  createTurns,
  DataType,
  type DecodedMessage,
  decodeCredential,
  decodeGkma,
  decodeKeyData,
  decodeKeyIds,
  decodeMessage,
  decodeSync,
  ExtensionType,
  type GkmaData,
  GkmaFlag,
  type Grammar,
  type Identity,
  type KemacPayload,
  KeyIdType,
  MacAlg,
  openKeyData,
  payloadOf,
  payloadsOf,
  type SignxPayload,
  type SyncData,
  TimestampType,
  wipeMessageKeys,
} from "../mikey/index.js";
import { verifyCredential } from "./group-credential.js";
import { checkDataKey, dataKeyOf, formError, onlyExtension } from "./group-gsa.js";
import {
  type DataKey,
  type GroupConstants,
  type GroupKek,
  groupMessageKeys,
  isGroupHeader,
  octetsNumber,
  publicKeyId,
  sequenceTimestamp,
  signatureHead,
  signxOf,
  verificationKeyOf,
  wipeDataKeys,
} from "./group-keys.js";
import {
  belowMinimum,
  GROUP_LIMITS,
  type GroupPolicies,
  kekEncryptionOf,
  type MinimumGroupPolicy,
  macAlgOf,
  type RekeyPolicy,
} from "./group-policy.js";
import { decodeGroupPolicies, gkmaNumber, signxAlgOf } from "./group-policy-params.js";
import { ntp64, ntpMilliseconds } from "./proof.js";

/** A rekey message, heartbeat or end as it was decoded; nothing of it is believed yet. */
export interface RekeyMessage {
  readonly kind: "rekey" | "heartbeat" | "end";
  readonly csbId: number;
  readonly sequence: number;
  /** SPI of the KEK before the message. */
  readonly kekSpi: number;
  /** MKI and data SA number of each data key, in order. */
  readonly dataKeyIds: readonly { readonly mki: number; readonly dataSa: number }[];
  readonly gkma: GkmaData | undefined;
  readonly sync: SyncData | undefined;
  readonly policies: GroupPolicies;
  readonly credential: CredentialData | undefined;
  readonly kemac: KemacPayload | undefined;
  readonly authAlg: number;
  readonly v: Uint8Array;
  /** Octets that V covers. */
  readonly covered: Uint8Array;
  readonly signx: { readonly payload: SignxPayload; readonly covered: Uint8Array } | undefined;
}

const FEW = 255;
const AUTHENTICATORS = { V: [1, 1], SIGNX: [0, 1] } as const;
const REKEY: Grammar = { counts: { T: [1, 1], EXT: [1, 4], SP: [0, FEW], KEMAC: [1, 1], ...AUTHENTICATORS } };
const SYNC: Grammar = { counts: { T: [1, 1], EXT: [2, 2], ...AUTHENTICATORS } };

/**
 * Decodes a message of data type 242 (docs/protocol.md §16, step 1 of §16.9).
 * @throws CodecError; MikeyError `mikey.grammar`, `mikey.policy-parameter`; WatchwordError `gsa.group-message`, `gsa.group-policy`
 */
export function decodeRekey(octets: Uint8Array): RekeyMessage {
  const message = decodeMessage(octets);
  if (!isGroupHeader(message.header, DataType.REKEY)) throw formError("no rekey message");
  const kemac = payloadOf(message, "KEMAC");
  checkGrammar(message, kemac === undefined ? SYNC : REKEY);
  const { v, covered, authAlg, signx } = authenticatorsOf(message);
  const extensions = payloadsOf(message, "EXT");
  const optional = (extType: number): Uint8Array | undefined =>
    extensions.some((candidate) => candidate.extType === extType) ? onlyExtension(extensions, extType) : undefined;
  const [t] = payloadsOf(message, "T");
  if (t?.tsType !== TimestampType.COUNTER) throw formError("T is no COUNTER");
  const { kekSpi, dataKeyIds } = keyIdsOf(onlyExtension(extensions, ExtensionType.KEY_ID));
  const gkma = optional(ExtensionType.GKMA);
  const syncOctets = optional(ExtensionType.SYNC);
  const credential = optional(ExtensionType.CREDENTIAL);
  const known = [gkma, syncOctets, credential].filter((data) => data !== undefined).length + 1;
  if (extensions.length !== known) throw formError("an extension does not belong here");
  const sync = syncOctets === undefined ? undefined : decodeSync(syncOctets);
  const kind = kemac !== undefined ? "rekey" : sync?.end === true ? "end" : "heartbeat";
  if (kind === "rekey" ? sync?.end === true || sync?.time !== undefined : sync?.time === undefined || dataKeyIds.length > 0)
    throw formError("sync does not fit the kind of message");
  if (kemac !== undefined && kemac.macAlg !== MacAlg.NULL) throw formError("the KEMAC has a MAC");
  return {
    kind,
    csbId: message.header.csbId,
    sequence: octetsNumber(t.value),
    kekSpi,
    dataKeyIds,
    gkma: gkma === undefined ? undefined : decodeGkma(gkma),
    sync,
    policies: decodeGroupPolicies(payloadsOf(message, "SP")),
    credential: credential === undefined ? undefined : decodeCredential(credential),
    kemac,
    authAlg,
    v,
    covered,
    signx,
  };
}

/** V, then SIGNX where there is one, at the end. */
function authenticatorsOf(message: DecodedMessage): Pick<RekeyMessage, "v" | "covered" | "authAlg" | "signx"> {
  const { octets, payloads, spans } = message;
  const last = payloads.at(-1);
  const signed = last?.kind === "SIGNX";
  const v = payloads.at(signed ? -2 : -1);
  if (v?.kind !== "V") throw formError("V is not at the end");
  const covered = (back: number): Uint8Array => octets.subarray(0, spans.at(back)?.valueStart ?? 0);
  return {
    v: v.data,
    authAlg: v.authAlg,
    covered: covered(signed ? -2 : -1),
    signx: signed ? { payload: last, covered: covered(-1) } : undefined,
  };
}

function keyIdsOf(data: Uint8Array): Pick<RekeyMessage, "kekSpi" | "dataKeyIds"> {
  const [first, ...rest] = decodeKeyIds(data);
  if (first?.type !== KeyIdType.KEK_SPI || first.id.length !== 4) throw formError("no KEK SPI");
  const dataKeyIds = rest.map(({ type, id }) => {
    if (type !== KeyIdType.MKI || id.length !== 5) throw formError("a key id of another kind");
    return { mki: octetsNumber(id), dataSa: id[4] as number };
  });
  return { kekSpi: octetsNumber(first.id), dataKeyIds };
}

/** What came of a message. */
export type RekeyOutcome =
  /** Not for this SA, malformed, forged or not to be judged: nothing changes. `reason` is for local logs. */
  | { readonly kind: "discarded"; readonly reason: string }
  /** Seen before, or older than what the member has. */
  | { readonly kind: "old" }
  /** Under a KEK that the member does not hold, and not to be judged now: there is no token, or no signature. Whoever sent it, nothing follows from it. */
  | { readonly kind: "unverifiable" }
  /** Authentic, but of a KEK that the member does not hold yet: keep the octets, and try again when the sequence has moved. */
  | { readonly kind: "behind"; readonly sequence: number }
  /** Authentic; another packet of this sequence is for the member's leaf. */
  | { readonly kind: "elsewhere"; readonly sequence: number }
  /** Authentic, but the member's keys do not fit: it has lost the key server and has to be resynchronised. */
  | { readonly kind: "lost"; readonly sequence: number }
  | InstalledRekey
  /** `missed`: the key server is at a later sequence than the member. */
  | { readonly kind: "heartbeat"; readonly missed: boolean }
  | { readonly kind: "end"; readonly restart: boolean };

/** What changed. */
export interface InstalledRekey {
  readonly kind: "installed";
  readonly sequence: number;
  /** The new KEK; undefined where it stays. A copy, the caller's to wipe. */
  readonly kek: GroupKek | undefined;
  /** New keys of data SAs. The caller's to wipe. */
  readonly dataKeys: readonly DataKey[];
  /** Senders switch at receipt. */
  readonly immediate: boolean;
  /** Seconds that the new KEK lives. */
  readonly lifetime: number | undefined;
  /** SSRCs that end or begin. */
  readonly sync: SyncData["entries"];
  /** All policies after the message; the same object as before where none changed. */
  readonly policies: GroupPolicies;
  /** The message brought a key of every data SA. */
  readonly complete: boolean;
  /** A message before this one was missed, and with it perhaps the key of another data SA: resynchronise. */
  readonly gap: boolean;
}

export interface RekeyReceiverOptions {
  readonly crypto: CryptoProvider;
  readonly gcks: Identity;
  readonly constants: GroupConstants;
  /** From the GSA. */
  readonly policies: GroupPolicies & { readonly rekey: RekeyPolicy };
  /** The member's keys of the tree; the receiver applies messages to them and wipes them. */
  readonly keyPath: KeyPath;
  /** From the GSA. */
  readonly sequence: number;
  /** The key server's time in the GSA, NTP, and the member's monotonic clock at its receipt, milliseconds. */
  readonly time: Uint8Array;
  readonly receivedAtMs: number;
  /**
   * The rekey SA before this one, under the same registration: the times of heartbeats go on from there, so that no GSA that was held back
   * makes old ones new again.
   */
  readonly previous?: RekeyReceiver;
  readonly minimum?: MinimumGroupPolicy;
  /** The owner's key, where the member knows it: a new verification key then needs a credential. */
  readonly ownerKey?: PublicKey;
}

export interface ReceiveRekeyRequest {
  /** The member's monotonic clock, milliseconds. */
  readonly nowMs: number;
  /** Milliseconds since 1970, for a new credential. */
  readonly wallClockMs: number;
  /** Takes a token for a signature check without a good V; false where there is none (docs/protocol.md §21). */
  readonly takeToken: () => boolean;
}

/** A member's rekey SA: <GCKS, group, KEK SPI> (docs/protocol.md §13). */
export interface RekeyReceiver {
  readonly gcks: Identity;
  readonly constants: GroupConstants;
  /** Undefined before the first KEK (docs/protocol.md §15.2). */
  readonly kekSpi: number | undefined;
  readonly sequence: number;
  readonly policies: GroupPolicies & { readonly rekey: RekeyPolicy };
  /** A copy of the KEK, e.g. to leave with; undefined before the first. */
  kek(): GroupKek | undefined;
  /** Judges a message and installs what it brings, one after the other (docs/protocol.md §16.9). Never throws for what the octets are. */
  receive(octets: Uint8Array, request: ReceiveRekeyRequest): Promise<RekeyOutcome>;
  wipe(): void;
}

/** @throws WatchwordError `crypto.key` for a verification key that is none */
export function createRekeyReceiver(options: RekeyReceiverOptions): RekeyReceiver {
  return new Receiver(options);
}

const FORGED: RekeyOutcome = { kind: "discarded", reason: "not authentic" };

class Receiver implements RekeyReceiver {
  readonly gcks: Identity;
  readonly constants: GroupConstants;
  readonly #options: RekeyReceiverOptions;
  readonly #crypto: CryptoProvider;
  readonly #keyPath: KeyPath;
  readonly #turns = createTurns();
  #policies: GroupPolicies & { readonly rekey: RekeyPolicy };
  #sequence: number;
  #kekSpi: number | undefined;
  #v: Hmac | undefined;
  #verificationKey: PublicKey | undefined;
  /** Time of the newest heartbeat, as 64 bits of NTP. */
  #heartbeat: bigint;
  /** The key server's time, and the member's clock then. */
  readonly #baseline: { readonly time: bigint; readonly atMs: number };

  constructor(options: RekeyReceiverOptions) {
    this.#options = options;
    this.#crypto = options.crypto;
    this.gcks = options.gcks;
    this.constants = options.constants;
    this.#keyPath = options.keyPath;
    this.#policies = options.policies;
    this.#sequence = options.sequence;
    const time = ntp64(options.time);
    const { previous } = options;
    this.#baseline = previous instanceof Receiver ? previous.#baseline : { time, atMs: options.receivedAtMs };
    this.#heartbeat = previous instanceof Receiver ? previous.#heartbeat : time;
    this.#verificationKey = this.#import(options.policies.rekey);
    this.#useKek();
  }

  get kekSpi(): number | undefined {
    return this.#kekSpi;
  }

  get sequence(): number {
    return this.#sequence;
  }

  get policies(): GroupPolicies & { readonly rekey: RekeyPolicy } {
    return this.#policies;
  }

  kek(): GroupKek | undefined {
    const key = this.#keyPath.groupKey();
    return key === undefined || this.#kekSpi === undefined ? undefined : { spi: this.#kekSpi, key };
  }

  receive(octets: Uint8Array, request: ReceiveRekeyRequest): Promise<RekeyOutcome> {
    return this.#turns(() => this.#receive(octets, request));
  }

  wipe(): void {
    this.#v?.wipe();
    this.#v = undefined;
    this.#kekSpi = undefined;
    this.#keyPath.wipe();
  }

  async #receive(octets: Uint8Array, request: ReceiveRekeyRequest): Promise<RekeyOutcome> {
    let message: RekeyMessage;
    try {
      message = decodeRekey(octets);
    } catch (error) {
      if (error instanceof WatchwordError) return { kind: "discarded", reason: error.message };
      throw error;
    }
    if (message.csbId !== this.constants.csbId) return { kind: "discarded", reason: "of another group" };
    if (message.kind === "heartbeat" ? message.sequence < this.#sequence : message.sequence <= this.#sequence)
      return { kind: "old" };
    const inStep = message.kekSpi === this.#kekSpi;
    const { rekey } = this.#policies;
    if (inStep) {
      if (!this.#verifies(message, rekey)) return FORGED;
    } else if (rekey.signature === "none" || !this.#concerns(message) || !request.takeToken()) {
      return { kind: "unverifiable" };
    }
    if (!(await this.#isSigned(message, rekey))) return FORGED;
    if (message.kind === "end") return { kind: "end", restart: message.sync?.restart === true };
    if (message.kind === "heartbeat") return this.#beat(message, request);
    return this.#install(message, request);
  }

  /** A message to many has more packets than there are tokens: only this member's is worth one. */
  #concerns({ gkma }: RekeyMessage): boolean {
    if (gkma === undefined) return true;
    const { largestId, firstLeaf: first, lastLeaf: last } = gkma;
    return this.#keyPath.concerns({ largestId, first, last });
  }

  /** Step 4. */
  #verifies({ authAlg, v, covered }: RekeyMessage, rekey: RekeyPolicy): boolean {
    if (authAlg !== macAlgOf(rekey) || this.#v === undefined) return false;
    return equalBytes(this.#v.compute(covered).subarray(0, rekey.macLength), v);
  }

  /** Step 5. */
  async #isSigned({ signx }: RekeyMessage, rekey: RekeyPolicy): Promise<boolean> {
    const key = this.#verificationKey;
    if (key === undefined) return signx === undefined;
    const scheme = signxOf(key)?.scheme;
    if (signx === undefined || scheme === undefined) return false;
    const { alg, keyId, signature } = signx.payload;
    if (alg !== signxAlgOf(rekey.signature) || !equalBytes(keyId, publicKeyId(this.#crypto, key))) return false;
    return this.#crypto.verify(key, scheme, concatBytes(signatureHead(this.constants.group), signx.covered), signature);
  }

  /** Step 6: fresh by its own order, and by the member's clock not held back for longer than 3H. */
  #beat({ sync, sequence }: RekeyMessage, { nowMs }: ReceiveRekeyRequest): RekeyOutcome {
    const time = ntp64(sync?.time ?? new Uint8Array(0));
    const { heartbeatMs } = this.#policies.rekey;
    const { time: begin, atMs } = this.#baseline;
    const age = nowMs - atMs - ntpMilliseconds(time, begin);
    if (ntpMilliseconds(time, this.#heartbeat) <= 0 || (heartbeatMs > 0 && age > 3 * heartbeatMs)) return { kind: "old" };
    this.#heartbeat = time;
    return { kind: "heartbeat", missed: sequence > this.#sequence };
  }

  /** Steps 7 and 8. The message is the key server's. */
  async #install(message: RekeyMessage, request: ReceiveRekeyRequest): Promise<RekeyOutcome> {
    const { sequence, gkma } = message;
    const lost: RekeyOutcome = { kind: "lost", sequence };
    let policies = this.#policies;
    let verificationKey = this.#verificationKey;
    try {
      policies = await this.#changedPolicies(message, request);
      if (policies.rekey !== this.#policies.rekey) verificationKey = this.#import(policies.rekey);
      if (gkma !== undefined) checkTree(gkma, policies.rekey);
    } catch (error) {
      if (error instanceof WatchwordError) return lost;
      throw error;
    }
    const inStep = message.kekSpi === this.#kekSpi;
    let dataKeys: DataKey[] | undefined;
    let opened = false;
    const open = (kek: Uint8Array): boolean => {
      opened = true;
      dataKeys = this.#dataKeys(message, policies, kek);
      return dataKeys !== undefined;
    };
    if (gkma === undefined) {
      if (!inStep) return { kind: "behind", sequence };
      const kek = this.#keyPath.groupKey();
      if (kek !== undefined) open(kek);
      wipe(kek);
    } else {
      const update = this.#apply(partOf(message, gkma), open);
      if (update === "elsewhere") return { kind: "elsewhere", sequence };
      // Where an earlier message is still under way the keys may come.
      if (update !== "applied") return inStep || opened ? lost : { kind: "behind", sequence };
      this.#useKek();
    }
    // Nothing has changed so far where the data keys do not fit (step 8).
    if (dataKeys === undefined) return lost;
    const complete = policies.data.every(({ number }) => message.dataKeyIds.some(({ dataSa }) => dataSa === number));
    const gap = sequence > this.#sequence + 1 && !complete;
    this.#sequence = sequence;
    this.#policies = policies;
    this.#verificationKey = verificationKey;
    return {
      kind: "installed",
      sequence,
      kek: gkma === undefined ? undefined : this.kek(),
      dataKeys,
      immediate: ((gkma?.flags ?? 0) & GkmaFlag.IMMEDIATE) !== 0,
      lifetime: gkma?.lifetime,
      sync: message.sync?.entries ?? [],
      policies,
      complete,
      gap,
    };
  }

  #apply(part: RekeyPart, accepts: (groupKey: Uint8Array) => boolean): PathUpdate["kind"] {
    try {
      const update = this.#keyPath.apply(part, accepts);
      if (update.kind === "applied") wipe(update.groupKey);
      return update.kind;
    } catch (error) {
      // A part that no key server makes.
      if (error instanceof WatchwordError) return "missing";
      throw error;
    }
  }

  /** The keys of the KEMAC, under the KEK after the message; undefined where they do not fit. */
  #dataKeys({ kemac, dataKeyIds, sequence }: RekeyMessage, policies: GroupPolicies, kek: Uint8Array): DataKey[] | undefined {
    const encrAlg = kekEncryptionOf(this.#policies.rekey);
    if (kemac === undefined || kemac.encrAlg !== encrAlg) return undefined;
    const keys = groupMessageKeys(this.#crypto, this.constants, kek, encrAlg, MacAlg.NULL);
    const context = { csbId: this.constants.csbId, timestamp: sequenceTimestamp(sequence) };
    const opened: DataKey[] = [];
    try {
      const plaintext = openKeyData(this.#crypto, encrAlg, keys, context, kemac.encrData);
      const keyData = decodeKeyData(plaintext);
      wipe(plaintext);
      if (keyData.length !== dataKeyIds.length) return undefined;
      keyData.forEach((data, index) => {
        opened.push(dataKeyOf(data, (mki) => (dataKeyIds[index]?.mki === mki ? dataKeyIds[index]?.dataSa : undefined)));
      });
      for (const key of opened) {
        const policy = policies.data.find(({ number }) => number === key.dataSa);
        if (policy === undefined) throw formError("a key of no data SA");
        checkDataKey(policy, key);
      }
      return opened;
    } catch (error) {
      wipeDataKeys(opened);
      if (error instanceof WatchwordError) return undefined;
      throw error;
    } finally {
      wipeMessageKeys(keys);
    }
  }

  /** Policies after the message. @throws WatchwordError */
  async #changedPolicies(message: RekeyMessage, request: ReceiveRekeyRequest): Promise<Receiver["policies"]> {
    const { group, rekey, data } = message.policies;
    const current = this.#policies;
    if (group === undefined && rekey === undefined && data.length === 0) return current;
    if (group !== undefined && (group.member !== undefined || !equalBytes(group.group, this.constants.group)))
      throw formError("the policy of another group, or for one member");
    if (rekey !== undefined) checkSameTree(current.rekey, rekey);
    const replaced = current.data.filter(({ number }) => !data.some((changed) => changed.number === number));
    const member = current.group?.member;
    const merged = {
      ...current,
      ...(group === undefined ? {} : { group: member === undefined ? group : { ...group, member } }),
      ...(rekey === undefined ? {} : { rekey }),
      data: [...replaced, ...data].sort((a, b) => a.number - b.number),
    };
    const below = belowMinimum(merged, this.#options.minimum ?? {});
    if (below !== undefined) throw new WatchwordError("gsa.minimum", below);
    await this.#checkCredential(message, merged.rekey, request.wallClockMs);
    return merged;
  }

  /** A new verification key comes with a credential for it, where the member knows the owner (docs/protocol.md §15.3). */
  async #checkCredential({ credential }: RekeyMessage, rekey: RekeyPolicy, now: number): Promise<void> {
    const { ownerKey } = this.#options;
    const { verificationKey: key } = rekey;
    const before = this.#policies.rekey.verificationKey;
    if (ownerKey === undefined || key === undefined || (before !== undefined && equalBytes(before, key))) return;
    const expected = { group: this.constants.group, identity: this.gcks.data, key, now };
    if (credential === undefined || !(await verifyCredential(this.#crypto, ownerKey, credential, expected)))
      throw new WatchwordError("gsa.credential", "no valid credential for a new signing key");
  }

  #import({ verificationKey }: RekeyPolicy): PublicKey | undefined {
    return verificationKey === undefined ? undefined : this.#crypto.importPublicKey(verificationKey);
  }

  /** Takes the SPI and the V key from the tree. */
  #useKek(): void {
    this.#v?.wipe();
    this.#v = undefined;
    const key = this.#keyPath.groupKey();
    this.#kekSpi = key === undefined ? undefined : this.#keyPath.version;
    if (key === undefined || this.#kekSpi === undefined) return;
    const vKey = verificationKeyOf(this.#crypto, this.constants.group, { spi: this.#kekSpi, key });
    this.#v = this.#crypto.hmac("sha256", vKey);
    wipe(key, vKey);
  }
}

function partOf({ sequence, kekSpi }: RekeyMessage, gkma: GkmaData): RekeyPart {
  const { largestId, firstLeaf: first, lastLeaf: last, edges, refreshed } = gkma;
  return { version: sequence, previous: kekSpi, largestId, first, last, edges, refreshed };
}

/** @throws WatchwordError `gsa.group-message` */
function checkTree(gkma: GkmaData, rekey: RekeyPolicy): void {
  const keys256 = (gkma.flags & GkmaFlag.KEYS_OF_256_BITS) !== 0;
  const unknown = gkma.flags & ~(GkmaFlag.IMMEDIATE | GkmaFlag.KEYS_OF_256_BITS);
  if (
    gkma.algorithm !== gkmaNumber(rekey.algorithm) ||
    gkma.version !== rekey.algorithmVersion ||
    gkma.degree !== rekey.degree ||
    keys256 !== (rekey.keyLength === 32) ||
    unknown !== 0 ||
    gkma.index >= gkma.count ||
    gkma.lifetime < GROUP_LIMITS.lifetime.least ||
    gkma.lifetime > GROUP_LIMITS.lifetime.most
  )
    throw formError("the tree is another one than the policy's");
}

/** What a tree is cannot change under its members. @throws WatchwordError `gsa.group-message` */
function checkSameTree(before: RekeyPolicy, after: RekeyPolicy): void {
  const same =
    before.algorithm === after.algorithm &&
    before.algorithmVersion === after.algorithmVersion &&
    before.degree === after.degree &&
    before.keyLength === after.keyLength;
  if (!same || after.tree !== undefined) throw formError("a policy of another tree");
}
