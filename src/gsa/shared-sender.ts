import { equalBytes, formatHex, utf8, WatchwordError, wipe } from "../bytes/index.js";
import { type CryptoProvider, defaultCrypto } from "../crypto/index.js";
import type { KeyKind, KeyRequest } from "../mikey/index.js";
import { createSrtpSender, type SrtpMasterKey, type SrtpPolicy, type SrtpSender, suiteOf } from "../srtp/index.js";

/** How a shared sender is made. */
export interface SharedSenderOptions {
  readonly policy: SrtpPolicy;
  /** Octets of the MKI in every packet; 0 for none, and then the key stays what it is. */
  readonly mkiLength: number;
  /** The receivers take no other key while they play. Default false. */
  readonly fixed?: boolean;
  /** Default: the platform's. */
  readonly crypto?: CryptoProvider;
}

/**
 * What is sent once for many receivers: one SRTP stream under one TEK, which every receiver is told in an exchange of its own
 * (RFC 3830 §4.3.2, §8.1). Whoever has the key can also seal packets: among themselves the receivers cannot tell who sent.
 */
export interface SharedSender {
  readonly policy: SrtpPolicy;
  readonly sender: SrtpSender;
  /** SPI of the key that receivers are told now: of the next one as soon as it is prepared. */
  readonly mki: Uint8Array | undefined;
  /** Eight hexadecimal digits that tell that key from others and reveal nothing. */
  readonly fingerprint: string;
  /** That key as a message carries it. The values are copies, the caller's to wipe. */
  keyRequest(kind: Extract<KeyKind, "TEK" | "TEK+SALT">): KeyRequest;
  /** Makes the next key. Packets stay under the old one until `commit`. @throws WatchwordError `gsa.rekey` for a fixed key or without an MKI, `gsa.closed` */
  prepare(): void;
  /** Sends under the prepared key from now on and forgets the one before. Without one it does nothing. */
  commit(): void;
  /** Wipes the keys. */
  close(): void;
}

/** @throws WatchwordError `gsa.mki-length`, `srtp.suite`, `srtp.policy` */
export function createSharedSender(options: SharedSenderOptions): SharedSender {
  return new Shared(options);
}

class Shared implements SharedSender {
  readonly policy: SrtpPolicy;
  readonly sender: SrtpSender;
  readonly #crypto: CryptoProvider;
  readonly #fixed: boolean;
  #current: SrtpMasterKey;
  #next: SrtpMasterKey | undefined;
  #closed = false;

  constructor({ policy, mkiLength, fixed = false, crypto = defaultCrypto }: SharedSenderOptions) {
    if (!Number.isInteger(mkiLength) || mkiLength < 0 || mkiLength > 255) {
      throw new WatchwordError("gsa.mki-length", `an MKI has 0 to 255 octets, not ${mkiLength}`);
    }
    this.policy = policy;
    this.#crypto = crypto;
    this.#fixed = fixed;
    this.#current = this.#makeKey(mkiLength === 0 ? undefined : crypto.randomBytes(mkiLength));
    this.sender = createSrtpSender({ policy, keys: [this.#current], crypto });
  }

  get #newest(): SrtpMasterKey {
    return this.#next ?? this.#current;
  }

  get mki(): Uint8Array | undefined {
    return this.#newest.mki;
  }

  get fingerprint(): string {
    return keyFingerprint(this.#crypto, this.#newest);
  }

  keyRequest(kind: "TEK" | "TEK+SALT"): KeyRequest {
    if (this.#closed) throw new WatchwordError("gsa.closed", "the stream has ended");
    const { key, salt, mki } = this.#newest;
    const spi = mki === undefined ? {} : { spi: mki };
    // A TEK alone is master key and master salt in one field, the one reading in use of what RFC 3830 leaves open.
    if (kind === "TEK") return { kind, value: Uint8Array.of(...key, ...salt), ...spi };
    return { kind, value: key.slice(), salt: salt.slice(), ...spi };
  }

  prepare(): void {
    if (this.#closed) throw new WatchwordError("gsa.closed", "the stream has ended");
    const { mki } = this.#newest;
    if (this.#fixed) throw new WatchwordError("gsa.rekey", "the receivers take no new key");
    if (mki === undefined) throw new WatchwordError("gsa.rekey", "without an MKI packets do not tell which key they are under");
    this.commit();
    this.#next = this.#makeKey(nextSpi(mki));
    this.sender.addKey(this.#next);
  }

  commit(): void {
    if (this.#next === undefined) return;
    const old = this.#current;
    this.#current = this.#next;
    this.#next = undefined;
    this.sender.useKey(this.#current.mki);
    this.sender.removeKey(old.mki);
    wipe(old.key, old.salt);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.sender.close();
    for (const key of [this.#current, this.#next]) wipe(key?.key, key?.salt);
  }

  #makeKey(mki: Uint8Array | undefined): SrtpMasterKey {
    const { keyLength, saltLength } = suiteOf(this.policy.suite);
    const [key, salt] = [this.#crypto.randomBytes(keyLength), this.#crypto.randomBytes(saltLength)];
    return { key, salt, ...(mki === undefined ? {} : { mki }) };
  }
}

/** The next SPI in line: unlike all that may still be in use. */
export function nextSpi(spi: Uint8Array): Uint8Array {
  const next = spi.slice();
  for (let i = next.length - 1; i >= 0; i--) {
    next[i] = ((next[i] as number) + 1) & 0xff;
    if (next[i] !== 0) break;
  }
  return next;
}

const FINGERPRINT = utf8("watchword fingerprint");

/** Eight hexadecimal digits that tell keys apart and reveal nothing. */
export function keyFingerprint(crypto: CryptoProvider, { key, salt }: SrtpMasterKey): string {
  return formatHex(crypto.hash("sha256", FINGERPRINT, key, salt).subarray(0, 4));
}

/** Whether two SPIs, either of which may be absent, are the same. */
export function sameSpi(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : equalBytes(a, b);
}
