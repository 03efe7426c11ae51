import { equalBytes, formatHex, wipe } from "../bytes/index.js";
import type {
  AgreementGroup,
  CertificateReference,
  CryptoProvider,
  Decrypter,
  EncryptionScheme,
  PublicKey,
  SignatureScheme,
  Signer,
} from "../crypto/index.js";
import { type SrtpMasterKey, type SrtpPolicy, type SuiteName, suiteOf } from "../srtp/index.js";
import { MikeyError } from "./errors.js";
import { type DerivationContext, deriveFromTgk } from "./keys.js";
import type { GeneralExtensionPayload, KeyData, KeyValidity } from "./message.js";
import { MODES, type Mode, type ModeName } from "./modes/modes.js";
import type { PeerKey } from "./peer-keys.js";
import { KeyDataType } from "./registry.js";
import type { Timestamp } from "./timestamp.js";
import { createToleranceUse, type ToleranceName, type ToleranceUse } from "./tolerances.js";

/** An identity as the ID payload carries it (RFC 3830 §6.7). */
export interface Identity {
  readonly idType: number;
  readonly data: Uint8Array;
}

/** Our key pair, and how others know it. */
export interface KeyPairCredential {
  /** Signs, and where it can, decrypts: a key in memory, in WebCrypto or in a hardware module. */
  readonly privateKey: Signer & Partial<Decrypter>;
  /** Our certificate, then those that certify it. Empty where peers know the key by our identity (`findPublicKey`). */
  readonly chain: readonly CertificateReference[];
  /** A pair of its own for decryption (RFC 3830 §6.7), where `privateKey` does not decrypt or is not to. */
  readonly encryption?: { readonly privateKey: Decrypter; readonly chain: readonly CertificateReference[] };
}

/** A key pair as the credential of an Initiator. The mode says how it is used; the rest is chosen by policy where it is absent. */
export interface PublicKeyCredential {
  readonly mode: "PK" | "DH" | "RSA-R";
  readonly keyPair: KeyPairCredential;
  /**
   * Mode PK: whom the keys are encrypted to. A chain is judged like a received one, a bare key is taken as it is.
   * Default: what `findPublicKey` of the policy knows of the Responder.
   */
  readonly peer?: { readonly chain: readonly CertificateReference[] } | { readonly publicKey: PublicKey };
  /** Mode DH. */
  readonly group?: AgreementGroup;
  readonly signatureScheme?: SignatureScheme;
  /** Mode PK. */
  readonly encryptionScheme?: EncryptionScheme;
}

/** What protects an exchange: a shared key, a key pair, or nothing of its own (NULL keying: the channel has to). */
export type Credential =
  | { readonly psk: Uint8Array; readonly mode?: "PSK" }
  | { readonly psk: Uint8Array; readonly mode: "DHHMAC"; readonly group?: AgreementGroup }
  | PublicKeyCredential
  | { readonly nullKeying: true };

/** The mode of a credential; NULL keying is mode PSK without a key. */
export function modeNameOf(credential: Credential): ModeName {
  return "nullKeying" in credential ? "PSK" : (credential.mode ?? "PSK");
}

/** One crypto session (RFC 3830 §1.3): for SRTP one stream in one direction. */
export interface CryptoSession {
  readonly csId: number;
  /** Undefined with an Empty map (RFC 4563 §5): the policy then comes from elsewhere. */
  readonly policyNo: number | undefined;
  /** 0 with map type 0: not chosen (yet). */
  readonly ssrc: number;
  readonly roc: number;
  /** Map type 2 only. */
  readonly seq?: number;
  /** Map type 2 only: SPI of the key that this session uses first. */
  readonly spi?: Uint8Array;
}

/** A key as it was agreed on. */
export interface KeyMaterial {
  readonly kind: "TGK" | "TEK";
  /** As transported: a TEK without `salt` is master key and master salt in one. */
  readonly key: Uint8Array;
  readonly salt?: Uint8Array;
  readonly validity: KeyValidity;
}

/** The exchange that made a CSB. Updates do not change it (docs/protocol.md §2). */
export interface InitialExchange {
  readonly dataType: number;
  /** The complete I_MESSAGE. */
  readonly request: Uint8Array;
  /** The complete R_MESSAGE; empty where none was sent (yet). */
  readonly response: Uint8Array;
  readonly timestamp: Timestamp;
  /** General Extensions of the two messages. */
  readonly initiatorExtensions: readonly GeneralExtensionPayload[];
  readonly responderExtensions: readonly GeneralExtensionPayload[];
}

/** An envelope key (RFC 3830 §3.2). */
export interface EnvelopeKey {
  readonly key: Uint8Array;
  /** Whether the party that made it wants it kept: updates are then pre-shared key messages under it (RFC 3830 §4.5). */
  readonly cached: boolean;
}

/**
 * A crypto session bundle: what an exchange agreed on (RFC 3830 §1.3). It does not change; an update makes a new one,
 * whose keys replace the old ones after an overlap that is the media's business.
 */
export interface Csb {
  /** How the bundle was made, and is updated. */
  readonly mode: ModeName;
  readonly csbId: number;
  /** The CSB ID that keys are derived with, where it is the group's (RFC 4738 §3.6). */
  readonly groupCsbId?: number | undefined;
  readonly role: "initiator" | "responder";
  /** PRF func. */
  readonly prf: number;
  /** Of KEMAC; NULL also where the mode has nothing to encrypt. */
  readonly encrAlg: number;
  /** Of KEMAC and V; NULL also where signatures authenticate. */
  readonly macAlg: number;
  /** Empty where a NULL-keyed message had none, and as long as the Responder has not sent it. */
  readonly rand: Uint8Array;
  /** T of the last message of the Initiator. */
  readonly timestamp: Timestamp;
  readonly initiatorId: Identity | undefined;
  readonly responderId: Identity | undefined;
  readonly mapType: number;
  readonly cryptoSessions: readonly CryptoSession[];
  readonly policies: ReadonlyMap<number, SrtpPolicy>;
  /** The keys now in force, as the last message that carried any has them. None as long as the Responder's part is missing. */
  readonly keys: readonly KeyMaterial[];
  /** A copy of what protected the exchange; updates are protected by it too. For a Responder: what an exchange of its own would use. */
  readonly credential: Credential;
  /** Modes with an envelope. */
  readonly envelope?: EnvelopeKey | undefined;
  /** The other party's key, once it is known. */
  readonly peerKey?: PeerKey | undefined;
  /** True where nothing but the channel protected the keys. */
  readonly nullKeyed: boolean;
  /** Whether the other party has proven its key: always for the responder, by the response for the initiator. */
  readonly peerAuthenticated: boolean;
  /** General Extensions of the last message of each party. */
  readonly initiatorExtensions: readonly GeneralExtensionPayload[];
  readonly responderExtensions: readonly GeneralExtensionPayload[];
  /** Tolerances that the peer's messages needed. */
  readonly tolerances: readonly ToleranceName[];
  readonly exchange: InitialExchange;
}

/**
 * How a bundle is updated: with a cached envelope key by pre-shared key messages under it, and only so, otherwise as it was made
 * (RFC 3830 §4.5, RFC 4738 §3.6).
 */
export function updateModeOf(csb: Pick<Csb, "mode" | "envelope">): Mode {
  return csb.envelope?.cached === true ? MODES.PSK : MODES[csb.mode];
}

/** What the keys of a bundle are derived with. */
export function derivationOf({
  prf,
  csbId,
  groupCsbId,
  rand,
}: Pick<Csb, "prf" | "csbId" | "groupCsbId" | "rand">): DerivationContext {
  return { prf, csbId: groupCsbId ?? csbId, rand };
}

/** A master key of a crypto session as MIKEY delivers it. */
export interface CsbMasterKey extends SrtpMasterKey {
  /** Where the key is bound to packet indices instead of an MKI (RFC 3711 §8.1.1): first and last index, inclusive. */
  readonly interval?: { readonly from: number; readonly to: number };
}

/** Two absent identities are the same. */
export function sameIdentity(a: Identity | undefined, b: Identity | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.idType === b.idType && equalBytes(a.data, b.data);
}

/** An identity as a key for maps and logs. */
export function identityKey(identity: Identity | undefined): string {
  return identity === undefined ? "" : `${identity.idType}:${formatHex(identity.data)}`;
}

/** Overwrites the keys of a CSB and its copy of the credential. Key pairs are whoever's they are. */
export function wipeCsb(csb: Csb): void {
  for (const { key, salt } of csb.keys) wipe(key, salt);
  wipe(csb.envelope?.key);
  if ("psk" in csb.credential) wipe(csb.credential.psk);
}

/**
 * A bundle that is being put together. What may be absent is there as undefined: an object that was spread into another and then gets a property that it
 * did not have costs as much as fifty that only change what they have.
 */
export type CsbDraft = { -readonly [K in keyof Csb]: Csb[K] };

/** A copy that is wiped on its own. */
export function copyCredential(credential: Credential): Credential {
  return "psk" in credential ? { ...credential, psk: credential.psk.slice() } : credential;
}

/** The credential of an agreement with the group that it is in. NULL keying agrees on nothing. */
export function withGroup(credential: Credential, group: AgreementGroup): Credential {
  return "nullKeying" in credential ? credential : ({ ...UNSETTLED, ...credential, group } as Credential);
}

const UNSETTLED = { group: undefined };

/** The same bundle with secrets of its own, which are wiped on their own. */
export function copyCsb(csb: Csb): Csb {
  return {
    ...csb,
    keys: copyKeys(csb.keys),
    credential: copyCredential(csb.credential),
    envelope: copyEnvelope(csb.envelope),
  };
}

/** A copy that is wiped on its own. */
export function copyEnvelope(envelope: EnvelopeKey | undefined): EnvelopeKey | undefined {
  return envelope === undefined ? undefined : { key: envelope.key.slice(), cached: envelope.cached };
}

/** Copies that are wiped on their own. */
export function copyKeys(keys: readonly KeyMaterial[]): KeyMaterial[] {
  return keys.map((key) => ({ ...key, key: key.key.slice(), ...(key.salt === undefined ? {} : { salt: key.salt.slice() }) }));
}

const KIND_OF_TYPE: ReadonlyMap<number, KeyMaterial["kind"]> = new Map([
  [KeyDataType.TGK, "TGK"],
  [KeyDataType.TGK_SALT, "TGK"],
  [KeyDataType.TEK, "TEK"],
  [KeyDataType.TEK_SALT, "TEK"],
]);

/** Key data of the types of RFC 3830 §6.13. @throws MikeyError `mikey.key-data` for types of other modes */
export function keyMaterialOf(data: KeyData): KeyMaterial {
  const kind = KIND_OF_TYPE.get(data.type);
  if (kind === undefined) throw new MikeyError("mikey.key-data", `key data of type ${data.type} do not belong into this mode`);
  const { key, salt, validity } = data;
  return salt === undefined ? { kind, key, validity } : { kind, key, salt, validity };
}

/** The inverse of `keyMaterialOf`. */
export function keyDataOf(key: KeyMaterial): KeyData {
  const salted = key.salt !== undefined;
  const type =
    key.kind === "TGK" ? (salted ? KeyDataType.TGK_SALT : KeyDataType.TGK) : salted ? KeyDataType.TEK_SALT : KeyDataType.TEK;
  const { validity } = key;
  return key.salt === undefined ? { type, key: key.key, validity } : { type, key: key.key, salt: key.salt, validity };
}

/** SPI of a key, which SRTP packets carry as MKI; undefined where it has none. */
export function spiOf(key: KeyMaterial): Uint8Array | undefined {
  return key.validity.kv === "spi" && key.validity.spi.length > 0 ? key.validity.spi : undefined;
}

/**
 * Checks that the keys fit each other and the policies of the sessions (RFC 3830 §6.13, §6.14), without deriving any.
 * @throws MikeyError `mikey.key-data`
 */
export function checkKeys(csb: Pick<Csb, "keys" | "cryptoSessions" | "policies" | "rand">, use: ToleranceUse): void {
  const { keys } = csb;
  const spis: Uint8Array[] = [];
  for (const key of keys) {
    const spi = spiOf(key);
    if (spi !== undefined) spis.push(spi);
  }
  // Base MIKEY links several keys to sessions by nothing but their validity (§6.14).
  if (keys.length > 1 && spis.length < keys.length && !keys.every((key) => key.validity.kv === "interval")) {
    throw new MikeyError("mikey.key-data", "several keys are told apart by SPIs or by intervals, and not all have one");
  }
  if (spis.some((spi) => spi.length !== spis[0]?.length)) {
    throw new MikeyError("mikey.key-data", "the SPIs differ in length; an MKI has one length (RFC 3711 §3.2.1)");
  }
  if (spis.length > 1 && new Set(spis.map(formatHex)).size < spis.length)
    throw new MikeyError("mikey.key-data", "two keys have the same SPI");
  for (const key of keys) {
    if (key.validity.kv === "interval") intervalOf(key.validity.from, key.validity.to);
    if (key.kind === "TGK" && csb.rand.length === 0) throw new MikeyError("mikey.key-data", "a TGK derives nothing without RAND");
  }
  for (const session of csb.cryptoSessions) {
    const policy = session.policyNo === undefined ? undefined : csb.policies.get(session.policyNo);
    if (policy === undefined) continue;
    const own = keysOf(csb, session);
    if (own.length === 0) throw new MikeyError("mikey.key-data", `no key has the SPI of crypto session ${session.csId}`);
    for (const key of own) checkShape(key, policy.suite, use);
  }
}

function checkShape(key: KeyMaterial, suiteName: SuiteName, use: ToleranceUse): void {
  const suite = suiteOf(suiteName);
  const wrong = (what: string, length: number, wanted: string): MikeyError =>
    new MikeyError("mikey.key-data", `a ${what} of ${length} octets where ${suiteName} needs ${wanted}`);
  if (key.salt !== undefined && key.salt.length !== suite.saltLength) throw wrong("salt", key.salt.length, `${suite.saltLength}`);
  if (key.kind === "TGK") {
    if (key.key.length < 16) throw wrong("TGK", key.key.length, "at least 16");
    return;
  }
  if (key.salt !== undefined) {
    if (key.key.length !== suite.keyLength) throw wrong("TEK", key.key.length, `${suite.keyLength}`);
    return;
  }
  // RFC 3830 defines no salt for a bare TEK; the one reading in use is master key and master salt in one field.
  const both = suite.keyLength + suite.saltLength;
  if (key.key.length !== both) throw wrong("TEK without salt", key.key.length, `${both} (key and salt)`);
  if (!use.take("concatenated-key-and-salt")) {
    throw new MikeyError("mikey.key-data", "a TEK without a salt field, whose meaning RFC 3830 leaves open");
  }
}

/** The keys that a session may use: those with its SPI where the map names one (RFC 6043 §6.1.1), otherwise all. */
function keysOf(csb: Pick<Csb, "keys">, session: CryptoSession): readonly KeyMaterial[] {
  const { spi } = session;
  if (spi === undefined || spi.length === 0) return csb.keys;
  return csb.keys.filter((key) => {
    const own = spiOf(key);
    return own === undefined || equalBytes(own, spi);
  });
}

/**
 * The SRTP master keys of a crypto session, in the order of the key data (RFC 3830 §4.1.3, §6.13; RFC 3711 §8.2): a TEK as
 * transported or derived with the session's CS ID; the salt of the key data where there is one, otherwise derived; MKI = SPI.
 * @param policy overrides the CSB's, and is needed where the map is empty
 * @throws MikeyError `mikey.option` for an unknown CS ID, `mikey.policy` without policy, `mikey.key-data` where the keys do not fit it
 */
export function srtpMasterKeys(crypto: CryptoProvider, csb: Csb, csId: number, policy?: SrtpPolicy): CsbMasterKey[] {
  const session = csb.cryptoSessions.find((candidate) => candidate.csId === csId);
  if (session === undefined) throw new MikeyError("mikey.option", `there is no crypto session ${csId}`);
  const used = policy ?? (session.policyNo === undefined ? undefined : csb.policies.get(session.policyNo));
  if (used === undefined) throw new MikeyError("mikey.policy", `no security policy is known for crypto session ${csId}`);
  const suite = suiteOf(used.suite);
  const allowed = createToleranceUse(["concatenated-key-and-salt"]);
  return keysOf(csb, session).map((material) => {
    checkShape(material, used.suite, allowed);
    return { ...keyAndSalt(crypto, csb, csId, material, suite.keyLength, suite.saltLength), ...validityOf(material) };
  });
}

function keyAndSalt(
  crypto: CryptoProvider,
  csb: Csb,
  csId: number,
  material: KeyMaterial,
  keyLength: number,
  saltLength: number,
): { key: Uint8Array; salt: Uint8Array } {
  if (material.kind === "TGK") {
    const context = derivationOf(csb);
    return {
      key: deriveFromTgk(crypto, context, material.key, csId, "tek", keyLength),
      salt: material.salt?.slice() ?? deriveFromTgk(crypto, context, material.key, csId, "salt", saltLength),
    };
  }
  return material.salt === undefined
    ? { key: material.key.slice(0, keyLength), salt: material.key.slice(keyLength) }
    : { key: material.key.slice(), salt: material.salt.slice() };
}

function validityOf(material: KeyMaterial): Pick<CsbMasterKey, "mki" | "interval" | "rtpLifetime"> {
  const mki = spiOf(material);
  if (mki !== undefined) return { mki: mki.slice() };
  if (material.validity.kv !== "interval") return {};
  const interval = intervalOf(material.validity.from, material.validity.to);
  return { interval, rtpLifetime: interval.to - interval.from + 1 };
}

/** For SRTP both ends are packet indices of 6 octets (RFC 3830 §6.14). */
function intervalOf(from: Uint8Array, to: Uint8Array): { from: number; to: number } {
  if (from.length !== 6 || to.length !== 6) {
    throw new MikeyError("mikey.key-data", "the interval of an SRTP key has indices of 6 octets (RFC 3830 §6.14)");
  }
  const interval = { from: index48(from), to: index48(to) };
  if (interval.from > interval.to) throw new MikeyError("mikey.key-data", "the interval of a key ends before it begins");
  return interval;
}

function index48(octets: Uint8Array): number {
  return octets.reduce((index, octet) => index * 256 + octet, 0);
}
