import * as crypto from "node:crypto";
import { WatchwordError, wipe } from "../bytes/index.js";
import {
  type AesBlocks,
  type AesGcm,
  aesOnceBy,
  type CryptoProvider,
  type HashName,
  type Hmac,
  hashBy,
  hmacOnceBy,
  pHashOnceBy,
  wrapManyBy,
} from "../crypto/backend.js";
import { createNodeAsymmetric } from "./crypto-asymmetric.js";
import { plainOctets } from "./octets.js";

/** Octets of a block and of a digest (FIPS 180-4 §1). */
const HASHES = { sha1: { block: 64, digest: 20 }, sha256: { block: 64, digest: 32 } } as const;

/** `crypto.hash` spares the object per call that costs more than the hash itself; other run times with node:crypto may lack it. */
const hasOneShot = typeof crypto.hash === "function";

function oneShot(name: HashName, data: Uint8Array): Uint8Array {
  return hasOneShot ? crypto.hash(name, data, "buffer") : crypto.createHash(name).update(data).digest();
}

function oneShotText(name: HashName, data: Uint8Array): string {
  return hasOneShot ? crypto.hash(name, data, "binary") : crypto.createHash(name).update(data).digest("binary");
}

function hash(name: HashName, ...parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) {
    const digest = new Uint8Array(HASHES[name].digest);
    copyLatin1(oneShotText(name, parts[0] as Uint8Array), digest, 0);
    return digest;
  }
  const running = crypto.createHash(name);
  for (const part of parts) running.update(part);
  return plainOctets(running.digest());
}

/**
 * HMAC (RFC 2104 §2) as two one-shot hashes over prepared blocks: K XOR ipad ‖ text, then K XOR opad ‖ inner digest.
 * Digests that are not secret are taken as Latin-1 strings, which cost a third of a Buffer (0.3 µs against 1 µs).
 */
function createHmac(name: HashName, key: Uint8Array): Hmac {
  const { block, digest } = HASHES[name];
  const prepared = new Uint8Array(block);
  if (key.length > block) prepared.set(oneShot(name, key));
  else prepared.set(key);
  let inner = new Uint8Array(block + 512);
  let text = inner;
  const outer = new Uint8Array(block + digest);
  for (let i = 0; i < block; i++) {
    inner[i] = (prepared[i] as number) ^ 0x36;
    outer[i] = (prepared[i] as number) ^ 0x5c;
  }
  wipe(prepared);

  function reserve(length: number): void {
    if (length <= inner.length) return;
    const grown = new Uint8Array(2 * length);
    grown.set(inner.subarray(0, block));
    wipe(inner);
    inner = grown;
    text = grown;
  }

  /** Hashes the first `length` octets of `inner` into the end of `outer`; the view is kept while packets keep their length. */
  function digestInner(length: number): void {
    if (text.length !== length) text = inner.subarray(0, length);
    copyLatin1(oneShotText(name, text), outer, block);
  }

  return {
    length: digest,
    compute(...parts) {
      let length = block;
      for (const part of parts) length += part.length;
      reserve(length);
      let at = block;
      for (const part of parts) {
        inner.set(part, at);
        at += part.length;
      }
      digestInner(length);
      return plainOctets(oneShot(name, outer));
    },
    computeInto(out, message, length, suffix) {
      const end = block + length;
      const total = suffix === undefined ? end : end + suffix.length;
      reserve(total);
      inner.set(length === message.length ? message : message.subarray(0, length), block);
      if (suffix !== undefined) inner.set(suffix, end);
      digestInner(total);
      copyLatin1(oneShotText(name, outer), out, 0);
    },
    wipe() {
      wipe(inner, outer);
    },
  };
}

/** For messages that are too long for the key kernel. */
function hmacOnce(name: HashName, key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const running = crypto.createHmac(name, key);
  for (const part of parts) running.update(part);
  return plainOctets(running.digest());
}

function copyLatin1(text: string, out: Uint8Array, at: number): void {
  for (let i = 0; i < text.length; i++) out[at + i] = text.charCodeAt(i);
}

function checkKey(key: Uint8Array, lengths: readonly number[]): void {
  if (!lengths.includes(key.length)) {
    throw new WatchwordError("crypto.key-length", `AES key of ${key.length} octets where ${lengths.join(" or ")} belong`);
  }
}

/** From so many octets on it costs less to give memory back than to have the next call work in memory that is in no cache. */
const WORTH_FREEING = 1024;

/**
 * Wipes what a cipher has made, as a rule keystream for packets yet to come, and gives its memory back at once, rather than when it is
 * collected. Node 20 cannot do the latter.
 */
function discard(made: Uint8Array): void {
  wipe(made);
  if (made.length < WORTH_FREEING) return;
  const memory = made.buffer as { readonly byteLength: number; transfer?(length: number): unknown };
  // Never what others have a part of.
  if (memory.byteLength === made.length) memory.transfer?.(0);
}

function createAesBlocks(key: Uint8Array): AesBlocks {
  checkKey(key, [16, 24, 32]);
  let cipher: crypto.Cipher | undefined = crypto.createCipheriv(`aes-${8 * key.length}-ecb`, key, null).setAutoPadding(false);
  return {
    encrypt(input, output) {
      if (cipher === undefined) throw new WatchwordError("crypto.wiped", "the key has been wiped");
      const made = cipher.update(input);
      output.set(made);
      discard(made);
    },
    wipe() {
      cipher?.final();
      cipher = undefined;
    },
  };
}

function createAesGcm(key: Uint8Array): AesGcm {
  checkKey(key, [16, 32]);
  const algorithm = `aes-${8 * key.length}-gcm` as crypto.CipherGCMTypes;
  let secret: crypto.KeyObject | undefined = crypto.createSecretKey(key);
  const held = (): crypto.KeyObject => {
    if (secret === undefined) throw new WatchwordError("crypto.wiped", "the key has been wiped");
    return secret;
  };
  return {
    seal(nonce, additional, plaintext, out) {
      const cipher = crypto.createCipheriv(algorithm, held(), nonce);
      cipher.setAAD(additional);
      out.set(cipher.update(plaintext));
      cipher.final();
      out.set(cipher.getAuthTag(), plaintext.length);
    },
    open(nonce, additional, sealed, out) {
      const length = sealed.length - 16;
      if (length < 0) return false;
      const decipher = crypto.createDecipheriv(algorithm, held(), nonce, { authTagLength: 16 });
      decipher.setAAD(additional);
      decipher.setAuthTag(sealed.subarray(length));
      const plaintext = decipher.update(sealed.subarray(0, length));
      try {
        decipher.final();
      } catch {
        wipe(plaintext);
        return false;
      }
      out.set(plaintext);
      return true;
    },
    wipe() {
      secret = undefined;
    },
  };
}

function wrapName(key: Uint8Array, initialValue: Uint8Array): string {
  checkKey(key, [16, 24, 32]);
  if (initialValue.length !== 8) {
    throw new WatchwordError("crypto.wrap-length", `initial value of ${initialValue.length} octets where 8 belong`);
  }
  return `id-aes${8 * key.length}-wrap`;
}

/** The constant part of the alternative initial value (RFC 5649 §3); the length follows from the plaintext. */
const PADDED_INITIAL_VALUE = Uint8Array.of(0xa6, 0x59, 0x59, 0xa6);

/** By length of the key. */
const WRAP_PAD: Readonly<Record<number, string>> = {
  16: "id-aes128-wrap-pad",
  24: "id-aes192-wrap-pad",
  32: "id-aes256-wrap-pad",
};

function aesKeyWrapPad(key: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const algorithm = wrapPadName(key);
  if (plaintext.length === 0) throw new WatchwordError("crypto.wrap-length", "nothing to wrap");
  return plainOctets(crypto.createCipheriv(algorithm, key, PADDED_INITIAL_VALUE).update(plaintext));
}

function wrapPadName(key: Uint8Array): string {
  checkKey(key, [16, 24, 32]);
  return WRAP_PAD[key.length] as string;
}

/** Random octets ahead: a call of the generator costs the same for one and for hundreds. What is given away is wiped here. */
const ahead = { octets: new Uint8Array(512), used: 512, most: 64 };

function randomBytes(length: number): Uint8Array {
  if (!(length <= ahead.most)) return plainOctets(crypto.randomBytes(length));
  if (ahead.used + length > ahead.octets.length) {
    crypto.randomFillSync(ahead.octets);
    ahead.used = 0;
  }
  const octets = ahead.octets.slice(ahead.used, ahead.used + length);
  ahead.octets.fill(0, ahead.used, ahead.used + length);
  ahead.used += length;
  return octets;
}

const primitives = {
  randomBytes,
  hash: hashBy(hash),
  hmacOnce: hmacOnceBy(hmacOnce),
};

/** The backend on node:crypto: what `#platform` gives on Node. */
export const nodeCrypto: CryptoProvider = {
  name: "node",
  callsAreCostly: true,
  ...primitives,
  hmac: createHmac,
  pHashOnce: pHashOnceBy(primitives.hmacOnce),
  aesBlocks: createAesBlocks,
  aesOnce: aesOnceBy(createAesBlocks),
  aesGcm: createAesGcm,
  aesKeyWrap(key, initialValue, plaintext) {
    const algorithm = wrapName(key, initialValue);
    if (plaintext.length < 16 || plaintext.length % 8 !== 0) {
      throw new WatchwordError("crypto.wrap-length", `${plaintext.length} octets to wrap: a multiple of 8, at least 16, belongs`);
    }
    return plainOctets(crypto.createCipheriv(algorithm, key, initialValue).update(plaintext));
  },
  aesKeyUnwrap(key, initialValue, wrapped) {
    const algorithm = wrapName(key, initialValue);
    if (wrapped.length < 24 || wrapped.length % 8 !== 0) return undefined;
    try {
      return plainOctets(crypto.createDecipheriv(algorithm, key, initialValue).update(wrapped));
    } catch {
      return undefined;
    }
  },
  aesKeyWrapPad,
  aesKeyWrapPadMany: wrapManyBy(aesKeyWrapPad),
  aesKeyUnwrapPad(key, wrapped) {
    const algorithm = wrapPadName(key);
    if (wrapped.length < 16 || wrapped.length % 8 !== 0) return undefined;
    try {
      return plainOctets(crypto.createDecipheriv(algorithm, key, PADDED_INITIAL_VALUE).update(wrapped));
    } catch {
      return undefined;
    }
  },
  ...createNodeAsymmetric(primitives),
};
