import { aeskwp, gcm, unsafe } from "@noble/ciphers/aes.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha1 } from "@noble/hashes/legacy.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { randomBytes } from "@noble/hashes/utils.js";
import { equalBytes, WatchwordError, wipe } from "../bytes/index.js";
import type { AesBlocks, AesGcm, CryptoProvider, HashName, Hmac } from "./contracts.js";
import { aesOnceBy, hashBy, hmacOnceBy, pHashOnceBy, wrapManyBy } from "./key-kernel.js";
import { createNobleAsymmetric } from "./noble-asymmetric.js";

const HASHES = { sha1, sha256 } as const;

function createHmac(name: HashName, key: Uint8Array): Hmac {
  const prepared = hmac.create(HASHES[name], key);
  const scratch = prepared.clone();
  return {
    length: prepared.outputLen,
    compute(...parts) {
      const running = prepared.clone();
      for (const part of parts) running.update(part);
      return running.digest();
    },
    computeInto(out, message, length, suffix) {
      prepared._cloneInto(scratch);
      scratch.update(length === message.length ? message : message.subarray(0, length));
      if (suffix !== undefined) scratch.update(suffix);
      scratch.digestInto(out);
    },
    wipe() {
      scratch.destroy();
      prepared.destroy();
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
  const schedule = unsafe.expandKeyLE(key);
  return {
    encrypt(input, output) {
      const from = new DataView(input.buffer, input.byteOffset, input.byteLength);
      const to = new DataView(output.buffer, output.byteOffset, output.byteLength);
      for (let at = 0; at < input.length; at += 16) {
        const block = unsafe.encrypt(
          schedule,
          from.getUint32(at, true),
          from.getUint32(at + 4, true),
          from.getUint32(at + 8, true),
          from.getUint32(at + 12, true),
        );
        to.setUint32(at, block.s0, true);
        to.setUint32(at + 4, block.s1, true);
        to.setUint32(at + 8, block.s2, true);
        to.setUint32(at + 12, block.s3, true);
      }
    },
    wipe() {
      schedule.fill(0);
    },
  };
}

function createAesGcm(key: Uint8Array): AesGcm {
  checkKey(key, [16, 32]);
  const held = key.slice();
  return {
    seal(nonce, additional, plaintext, out) {
      out.set(gcm(held, nonce, additional).encrypt(plaintext));
    },
    open(nonce, additional, sealed, out) {
      try {
        out.set(gcm(held, nonce, additional).decrypt(sealed));
        return true;
      } catch {
        return false;
      }
    },
    wipe() {
      wipe(held);
    },
  };
}

/** RFC 3394 §2.2.1, the index based form: A is kept in the first 8 octets of `out`, R[1..n] in the rest. */
function aesKeyWrap(key: Uint8Array, initialValue: Uint8Array, plaintext: Uint8Array): Uint8Array {
  checkKey(key, [16, 24, 32]);
  checkInitialValue(initialValue);
  if (plaintext.length < 16 || plaintext.length % 8 !== 0) {
    throw new WatchwordError("crypto.wrap-length", `${plaintext.length} octets to wrap: a multiple of 8, at least 16, belongs`);
  }
  const schedule = unsafe.expandKeyLE(key);
  const blocks = plaintext.length / 8;
  const out = new Uint8Array(plaintext.length + 8);
  out.set(initialValue);
  out.set(plaintext, 8);
  const block = new Uint8Array(16);
  for (let step = 1; step <= 6 * blocks; step++) {
    const at = 8 * (((step - 1) % blocks) + 1);
    block.set(out.subarray(0, 8));
    block.set(out.subarray(at, at + 8), 8);
    unsafe.encryptBlock(schedule, block);
    xorStep(block, step);
    out.set(block.subarray(0, 8));
    out.set(block.subarray(8), at);
  }
  schedule.fill(0);
  wipe(block);
  return out;
}

/** RFC 3394 §2.2.2. */
function aesKeyUnwrap(key: Uint8Array, initialValue: Uint8Array, wrapped: Uint8Array): Uint8Array | undefined {
  checkKey(key, [16, 24, 32]);
  checkInitialValue(initialValue);
  if (wrapped.length < 24 || wrapped.length % 8 !== 0) return undefined;
  const schedule = unsafe.expandKeyDecLE(key);
  const blocks = wrapped.length / 8 - 1;
  const held = wrapped.slice();
  const block = new Uint8Array(16);
  for (let step = 6 * blocks; step >= 1; step--) {
    const at = 8 * (((step - 1) % blocks) + 1);
    block.set(held.subarray(0, 8));
    block.set(held.subarray(at, at + 8), 8);
    xorStep(block, step);
    unsafe.decryptBlock(schedule, block);
    held.set(block.subarray(0, 8));
    held.set(block.subarray(8), at);
  }
  const plaintext = equalBytes(held.subarray(0, 8), initialValue) ? held.slice(8) : undefined;
  schedule.fill(0);
  wipe(block, held);
  return plaintext;
}

function aesKeyWrapPad(key: Uint8Array, plaintext: Uint8Array): Uint8Array {
  checkKey(key, [16, 24, 32]);
  if (plaintext.length === 0) throw new WatchwordError("crypto.wrap-length", "nothing to wrap");
  return aeskwp(key).encrypt(plaintext);
}

function aesKeyUnwrapPad(key: Uint8Array, wrapped: Uint8Array): Uint8Array | undefined {
  checkKey(key, [16, 24, 32]);
  try {
    // What the library gives is a view of the padded octets.
    return aeskwp(key).decrypt(wrapped).slice();
  } catch {
    return undefined;
  }
}

function checkInitialValue(initialValue: Uint8Array): void {
  if (initialValue.length !== 8) {
    throw new WatchwordError("crypto.wrap-length", `initial value of ${initialValue.length} octets where 8 belong`);
  }
}

/** A = MSB(64, B) XOR t (RFC 3394 §2.2.1); t stays below 2^32 for everything that fits memory. */
function xorStep(block: Uint8Array, step: number): void {
  const view = new DataView(block.buffer);
  view.setUint32(4, view.getUint32(4) ^ step);
}

const primitives = {
  randomBytes: (length: number): Uint8Array => randomBytes(length),
  hash: hashBy((name, ...parts) => {
    const running = HASHES[name].create();
    for (const part of parts) running.update(part);
    return running.digest();
  }),
  hmacOnce: hmacOnceBy((name, key, ...parts) => {
    const running = hmac.create(HASHES[name], key);
    for (const part of parts) running.update(part);
    return running.digest();
  }),
};

/** The portable backend: runs wherever JavaScript with `crypto.getRandomValues` runs. */
export const nobleCrypto: CryptoProvider = {
  name: "noble",
  callsAreCostly: false,
  ...primitives,
  hmac: createHmac,
  pHashOnce: pHashOnceBy(primitives.hmacOnce),
  aesBlocks: createAesBlocks,
  aesOnce: aesOnceBy(createAesBlocks),
  aesGcm: createAesGcm,
  aesKeyWrap,
  aesKeyUnwrap,
  aesKeyWrapPad,
  aesKeyWrapPadMany: wrapManyBy(aesKeyWrapPad),
  aesKeyUnwrapPad,
  ...createNobleAsymmetric(primitives),
};
