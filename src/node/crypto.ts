import * as crypto from "node:crypto";
import { WatchwordError, wipe } from "../bytes/index.js";
import type { AesBlocks, AesGcm, CryptoProvider, HashName, Hmac } from "../crypto/index.js";

/** Octets of a block and of a digest (FIPS 180-4 §1). */
const HASHES = { sha1: { block: 64, digest: 20 }, sha256: { block: 64, digest: 32 } } as const;

/** `crypto.hash` came with Node 20.12 and 21.7; it spares the object per call that costs more than the hash itself. */
const oneShot: (name: HashName, data: Uint8Array) => Uint8Array =
  typeof crypto.hash === "function"
    ? (name, data) => crypto.hash(name, data, "buffer")
    : (name, data) => crypto.createHash(name).update(data).digest();

function hash(name: HashName, ...parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return plain(oneShot(name, parts[0] as Uint8Array));
  const running = crypto.createHash(name);
  for (const part of parts) running.update(part);
  return plain(running.digest());
}

/** A Buffer's `slice` shares memory and its JSON differs: callers of this package see plain octets only. */
function plain(octets: Uint8Array): Uint8Array {
  return new Uint8Array(octets.buffer, octets.byteOffset, octets.byteLength);
}

/** HMAC (RFC 2104 §2) as two one-shot hashes over prepared blocks: K XOR ipad ‖ text, then K XOR opad ‖ inner digest. */
function createHmac(name: HashName, key: Uint8Array): Hmac {
  const { block, digest } = HASHES[name];
  const prepared = new Uint8Array(block);
  if (key.length > block) prepared.set(oneShot(name, key));
  else prepared.set(key);
  let inner = new Uint8Array(block + 512);
  const outer = new Uint8Array(block + digest);
  for (let i = 0; i < block; i++) {
    inner[i] = (prepared[i] as number) ^ 0x36;
    outer[i] = (prepared[i] as number) ^ 0x5c;
  }
  wipe(prepared);
  return {
    length: digest,
    compute(...parts) {
      let length = block;
      for (const part of parts) length += part.length;
      if (length > inner.length) {
        const grown = new Uint8Array(2 * length);
        grown.set(inner.subarray(0, block));
        wipe(inner);
        inner = grown;
      }
      let at = block;
      for (const part of parts) {
        inner.set(part, at);
        at += part.length;
      }
      outer.set(oneShot(name, inner.subarray(0, length)), block);
      return plain(oneShot(name, outer));
    },
    wipe() {
      wipe(inner, outer);
    },
  };
}

function checkKey(key: Uint8Array, lengths: readonly number[]): void {
  if (!lengths.includes(key.length)) {
    throw new WatchwordError("crypto.key-length", `AES key of ${key.length} octets where ${lengths.join(" or ")} belong`);
  }
}

function createAesBlocks(key: Uint8Array): AesBlocks {
  checkKey(key, [16, 24, 32]);
  let cipher: crypto.Cipher | undefined = crypto.createCipheriv(`aes-${8 * key.length}-ecb`, key, null).setAutoPadding(false);
  return {
    encrypt(input, output) {
      if (cipher === undefined) throw new WatchwordError("crypto.wiped", "the key has been wiped");
      output.set(cipher.update(input));
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
        out.fill(0, 0, length);
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

/** The backend on node:crypto: what `#platform` gives on Node. */
export const nodeCrypto: CryptoProvider = {
  name: "node",
  randomBytes: (length) => plain(crypto.randomBytes(length)),
  hash,
  hmac: createHmac,
  aesBlocks: createAesBlocks,
  aesGcm: createAesGcm,
  aesKeyWrap(key, initialValue, plaintext) {
    const algorithm = wrapName(key, initialValue);
    if (plaintext.length < 16 || plaintext.length % 8 !== 0) {
      throw new WatchwordError("crypto.wrap-length", `${plaintext.length} octets to wrap: a multiple of 8, at least 16, belongs`);
    }
    return plain(crypto.createCipheriv(algorithm, key, initialValue).update(plaintext));
  },
  aesKeyUnwrap(key, initialValue, wrapped) {
    const algorithm = wrapName(key, initialValue);
    if (wrapped.length < 24 || wrapped.length % 8 !== 0) return undefined;
    try {
      return plain(crypto.createDecipheriv(algorithm, key, initialValue).update(wrapped));
    } catch {
      return undefined;
    }
  },
};
