import { equalBytes, WatchwordError, wipe } from "../bytes/index.js";
import { type CryptoProvider, defaultCrypto } from "../crypto/index.js";
import { packetBackend } from "./backends.js";
import type { PacketCipher, PacketCipherFactory, SrtpKeyUsage, SrtpMasterKey, SrtpOptions } from "./contracts.js";
import { EncryptedElements, HeaderExtensionCipher } from "./header-extensions.js";
import { derivationEpoch, deriveHeaderExtensionKeys, deriveSessionKeys } from "./key-derivation.js";
import { INDEX_WORD } from "./packet-cipher.js";
import { MAX_REPLAY_WINDOW, MIN_REPLAY_WINDOW } from "./replay-window.js";
import { CARRIED_ROLLOVER, type ResolvedCarrying, resolveCarrying } from "./rollover-carrying.js";
import { RTCP_LIFETIME, RTP_LIFETIME, type Suite, suiteOf } from "./suites.js";

const MAX_KEY_DERIVATION_RATE = 2 ** 24;
/** An SPI of MIKEY has up to 255 octets (RFC 3830 §6.14). */
const MAX_MKI = 255;
const HMAC_LENGTH = 20;
/** Sets of session keys kept per master key and protocol where the key derivation rate makes several. */
const MAX_EPOCHS = 8;
const NO_MKI = new Uint8Array(0);

/** A policy with its defaults filled in, checked against its suite. */
export interface ResolvedPolicy {
  readonly suite: Suite;
  readonly encryptRtp: boolean;
  readonly encryptRtcp: boolean;
  readonly rtpTagLength: number;
  readonly rtcpTagLength: number;
  readonly keyDerivationRate: number;
  readonly replayWindow: number;
  readonly maxSsrcs: number;
  readonly encryptedExtensionIds: readonly number[];
  readonly carrying: ResolvedCarrying | undefined;
}

/** @throws WatchwordError `srtp.suite`, `srtp.policy`, `srtp.option` */
function resolvePolicy({ policy, replayWindow = 128, maxSsrcs = 1024 }: SrtpOptions): ResolvedPolicy {
  const suite = suiteOf(policy.suite);
  const { encryptRtp = true, encryptRtcp = true, authenticateRtp = true, keyDerivationRate = 0 } = policy;
  if (suite.cipher === "gcm" && !(encryptRtp && authenticateRtp)) {
    throw new WatchwordError("srtp.policy", `${suite.name} always encrypts and authenticates SRTP (RFC 7714 §8.2)`);
  }
  if (!isPowerOfTwo(keyDerivationRate, 1, MAX_KEY_DERIVATION_RATE) && keyDerivationRate !== 0) {
    throw new WatchwordError("srtp.policy", "the key derivation rate is 0 or a power of two up to 2^24 (RFC 3711 §4.3.1)");
  }
  const rtcpTagLength = policy.rtcpTagLength ?? suite.rtcpTagLength;
  const possible =
    suite.cipher === "gcm" ? rtcpTagLength === suite.rtcpTagLength : rtcpTagLength >= 4 && rtcpTagLength <= HMAC_LENGTH;
  if (!possible || !Number.isInteger(rtcpTagLength)) {
    throw new WatchwordError("srtp.policy", `${suite.name} has no SRTCP tag of ${rtcpTagLength} octets`);
  }
  if (!isPowerOfTwo(replayWindow, MIN_REPLAY_WINDOW, MAX_REPLAY_WINDOW)) {
    throw new WatchwordError("srtp.option", `a replay window is a power of two from ${MIN_REPLAY_WINDOW} to ${MAX_REPLAY_WINDOW}`);
  }
  if (!Number.isInteger(maxSsrcs) || maxSsrcs < 1) throw new WatchwordError("srtp.option", "maxSsrcs is a positive integer");
  const encrypts = suite.cipher !== "null";
  const carrying = resolveCarrying(suite, authenticateRtp, policy.rolloverCarrying);
  return {
    suite,
    encryptRtp: encrypts && encryptRtp,
    encryptRtcp: encrypts && encryptRtcp,
    rtpTagLength: carrying?.otherMac ?? (authenticateRtp ? suite.rtpTagLength : 0),
    rtcpTagLength,
    keyDerivationRate,
    replayWindow,
    maxSsrcs,
    // The keystream of the NULL transform is zeros, for header extensions too (RFC 6904 §3.2).
    encryptedExtensionIds: encrypts && encryptRtp ? (policy.encryptedExtensionIds ?? []) : [],
    carrying,
  };
}

function isPowerOfTwo(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most && (value & (value - 1)) === 0;
}

interface Epoch {
  readonly epoch: number;
  readonly cipher: PacketCipher;
  /** For packets that carry their rollover counter, whose MACs are shorter; else `cipher`. */
  readonly carrierCipher: PacketCipher;
  /** Where header extension elements are encrypted. */
  readonly headerCipher: HeaderExtensionCipher | undefined;
}

function wipeEpoch({ cipher, carrierCipher, headerCipher }: Epoch): void {
  cipher.wipe();
  carrierCipher.wipe();
  headerCipher?.wipe();
}

/** One master key in use: its session keys as packet ciphers, and how many packets it has protected or opened. */
export class HeldKey {
  readonly mki: Uint8Array;
  readonly rtpLifetime: number;
  readonly rtcpLifetime: number;
  rtpPackets = 0;
  rtcpPackets = 0;
  readonly #make: (protocol: "rtp" | "rtcp", epoch: number) => Epoch;
  readonly #rate: number;
  readonly #master: readonly Uint8Array[];
  readonly #rtp: Epoch[] = [];
  readonly #rtcp: Epoch[] = [];

  constructor(
    crypto: CryptoProvider,
    factory: PacketCipherFactory,
    policy: ResolvedPolicy,
    key: SrtpMasterKey,
    wireMki: Uint8Array,
  ) {
    this.mki = key.mki?.slice() ?? NO_MKI;
    this.rtpLifetime = key.rtpLifetime ?? RTP_LIFETIME;
    this.rtcpLifetime = key.rtcpLifetime ?? RTCP_LIFETIME;
    this.#rate = policy.keyDerivationRate;
    const [masterKey, masterSalt] = [key.key.slice(), key.salt.slice()];
    this.#master = [masterKey, masterSalt];
    const { suite } = policy;
    this.#make = (protocol, epoch) => {
      const keys = deriveSessionKeys(crypto, suite, masterKey, masterSalt, protocol, epoch);
      const isRtp = protocol === "rtp";
      const tagLength = isRtp ? policy.rtpTagLength : policy.rtcpTagLength;
      const cipher = factory({ protocol, suite, keys, tagLength, mki: wireMki });
      const carrierMac = (isRtp ? policy.carrying?.carrierMac : undefined) ?? tagLength;
      const carrierCipher =
        carrierMac === tagLength ? cipher : factory({ protocol, suite, keys, tagLength: carrierMac, mki: wireMki });
      wipe(keys.encryptionKey, keys.authenticationKey, keys.salt);
      const encryptsElements = isRtp && policy.encryptedExtensionIds.length > 0;
      const headerCipher = encryptsElements ? headerExtensionCipher(crypto, suite, masterKey, masterSalt, epoch) : undefined;
      return { epoch, cipher, carrierCipher, headerCipher };
    };
    if (this.#rate === 0) {
      this.#rtp.push(this.#make("rtp", 0));
      this.#rtcp.push(this.#make("rtcp", 0));
      wipe(...this.#master);
    }
  }

  rtpCipher(index: number): PacketCipher {
    return this.#epochOf(this.#rtp, "rtp", index).cipher;
  }

  /** For packets that carry their rollover counter. */
  carrierCipher(index: number): PacketCipher {
    return this.#epochOf(this.#rtp, "rtp", index).carrierCipher;
  }

  /** For encrypted header extension elements; undefined where the policy names none. */
  headerCipher(index: number): HeaderExtensionCipher | undefined {
    return this.#epochOf(this.#rtp, "rtp", index).headerCipher;
  }

  rtcpCipher(index: number): PacketCipher {
    return this.#epochOf(this.#rtcp, "rtcp", index).cipher;
  }

  wipe(): void {
    for (const epoch of [...this.#rtp, ...this.#rtcp]) wipeEpoch(epoch);
    wipe(...this.#master);
  }

  /** A packet is under the session keys of its own index, however late it comes (RFC 3711 §4.3.1). */
  #epochOf(epochs: Epoch[], protocol: "rtp" | "rtcp", index: number): Epoch {
    if (this.#rate === 0) return epochs[0] as Epoch;
    const epoch = derivationEpoch(index, this.#rate);
    const known = epochs.find((candidate) => candidate.epoch === epoch);
    if (known !== undefined) return known;
    const made = this.#make(protocol, epoch);
    epochs.push(made);
    if (epochs.length > MAX_EPOCHS) wipeEpoch(epochs.shift() as Epoch);
    return made;
  }
}

function headerExtensionCipher(
  crypto: CryptoProvider,
  suite: Suite,
  masterKey: Uint8Array,
  masterSalt: Uint8Array,
  epoch: number,
): HeaderExtensionCipher {
  const keys = deriveHeaderExtensionKeys(crypto, suite, masterKey, masterSalt, epoch);
  const cipher = new HeaderExtensionCipher(crypto.aesBlocks(keys.encryptionKey), keys.salt, crypto.callsAreCostly);
  wipe(keys.encryptionKey, keys.salt);
  return cipher;
}

/** The master keys of a session, oldest first. */
export class KeyRing {
  readonly policy: ResolvedPolicy;
  readonly keys: HeldKey[] = [];
  /** Octets of MKI in every packet. */
  readonly wireMkiLength: number;
  /** Most octets that protection adds. */
  readonly rtpOverhead: number;
  readonly rtcpOverhead: number;
  /** Undefined where no header extension elements are encrypted. */
  readonly elements: EncryptedElements | undefined;
  /** See `SrtpSession.backend`. */
  readonly backend: string;
  closed = false;
  readonly #mkiLength: number;
  readonly #crypto: CryptoProvider;
  readonly #factory: PacketCipherFactory;

  /** @throws WatchwordError as `resolvePolicy`, `packetBackend` and `add` */
  constructor(options: SrtpOptions) {
    this.policy = resolvePolicy(options);
    this.#crypto = options.crypto ?? defaultCrypto;
    const { name, factory } =
      options.cipherFactory === undefined
        ? packetBackend(this.#crypto, options.backend ?? "auto")
        : { name: "custom", factory: options.cipherFactory };
    this.backend = name;
    this.#factory = factory;
    this.#mkiLength = options.keys[0]?.mki?.length ?? 0;
    this.wireMkiLength = options.mkiOnWire === "absent" ? 0 : this.#mkiLength;
    const { carrying, encryptedExtensionIds, rtpTagLength } = this.policy;
    const longestTag = carrying === undefined ? rtpTagLength : Math.max(rtpTagLength, carrying.carrierMac + CARRIED_ROLLOVER);
    this.rtpOverhead = longestTag + this.wireMkiLength;
    this.elements = encryptedExtensionIds.length > 0 ? new EncryptedElements(encryptedExtensionIds) : undefined;
    this.rtcpOverhead = this.policy.rtcpTagLength + this.wireMkiLength + INDEX_WORD;
    if (options.keys.length === 0) throw new WatchwordError("srtp.option", "a session begins with a key");
    for (const key of options.keys) this.add(key);
  }

  get newest(): HeldKey | undefined {
    return this.keys.at(-1);
  }

  /** @throws WatchwordError `srtp.key-length`, `srtp.mki-length`, `srtp.mki-duplicate`, `srtp.lifetime-range`, `srtp.closed` */
  add(key: SrtpMasterKey): HeldKey {
    if (this.closed) throw new WatchwordError("srtp.closed", "the session is closed");
    const { suite } = this.policy;
    if (key.key.length !== suite.keyLength || key.salt.length !== suite.saltLength) {
      throw new WatchwordError(
        "srtp.key-length",
        `${suite.name} needs a key of ${suite.keyLength} and a salt of ${suite.saltLength} octets, not ${key.key.length} and ${key.salt.length}`,
      );
    }
    const mki = key.mki ?? NO_MKI;
    if (mki.length !== this.#mkiLength || mki.length > MAX_MKI) {
      throw new WatchwordError(
        "srtp.mki-length",
        `an MKI of ${mki.length} octets where all have ${this.#mkiLength}, at most ${MAX_MKI}`,
      );
    }
    if (mki.length > 0 && this.byMki(mki) !== undefined)
      throw new WatchwordError("srtp.mki-duplicate", "a key with this MKI is there");
    checkLifetime(key.rtpLifetime, suite.rtpLifetime);
    checkLifetime(key.rtcpLifetime, suite.rtcpLifetime);
    const held = new HeldKey(this.#crypto, this.#factory, this.policy, key, this.wireMkiLength > 0 ? mki : NO_MKI);
    this.keys.push(held);
    return held;
  }

  byMki(mki: Uint8Array): HeldKey | undefined {
    return this.keys.find((key) => equalBytes(key.mki, mki));
  }

  /** The key that a packet names at `at`; nothing is allocated on the way. */
  named(packet: Uint8Array, at: number): HeldKey | undefined {
    for (let i = this.keys.length - 1; i >= 0; i--) {
      const key = this.keys[i] as HeldKey;
      let k = 0;
      while (k < key.mki.length && packet[at + k] === key.mki[k]) k++;
      if (k === key.mki.length) return key;
    }
    return undefined;
  }

  remove(mki: Uint8Array | undefined): HeldKey | undefined {
    const at = mki === undefined || mki.length === 0 ? 0 : this.keys.findIndex((key) => equalBytes(key.mki, mki));
    const [removed] = at < 0 ? [] : this.keys.splice(at, 1);
    removed?.wipe();
    return removed;
  }

  usage(mki: Uint8Array | undefined): SrtpKeyUsage | undefined {
    const key = mki === undefined || mki.length === 0 ? this.newest : this.byMki(mki);
    return key === undefined ? undefined : { rtp: key.rtpPackets, rtcp: key.rtcpPackets };
  }

  close(): void {
    this.closed = true;
    for (const key of this.keys) key.wipe();
    this.keys.length = 0;
  }
}

function checkLifetime(lifetime: number | undefined, most: number): void {
  if (lifetime === undefined) return;
  if (!Number.isInteger(lifetime) || lifetime < 1 || lifetime > most) {
    throw new WatchwordError("srtp.lifetime-range", `a key lifetime is an integer from 1 to ${most} packets`);
  }
}
