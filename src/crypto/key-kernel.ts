import { parseBase64, WatchwordError } from "../bytes/index.js";
import type { CryptoProvider, HashName } from "./contracts.js";
import { relaxSwizzles } from "./kernel-engine.js";
import {
  DIGEST,
  GROUP,
  HASH_MOST,
  HMAC_KEY,
  HMAC_MOST,
  KEYS,
  MEMORY_PAGES,
  MESSAGE,
  PARTS,
  STATE,
  WRAP_END,
} from "./key-kernel-layout.js";
import { KEY_KERNEL_MODULE } from "./key-kernel-module.js";

/** Keys that are wrapped at once. */
const LANES = 8;
const BLOCK = 16;
const HALF = 8;
/** The constant part of the alternative initial value (RFC 5649 §3). */
const INITIAL_VALUE = [0xa6, 0x59, 0x59, 0xa6];
/** Octets of a block of both hash functions, and of their digests (FIPS 180-4 §1). */
const HASH_BLOCK = 64;
const DIGEST_OCTETS: Readonly<Record<HashName, number>> = { sha1: 20, sha256: 32 };
/** Octets that say how long a message was, at the end of its padding. */
const LENGTH_OCTETS = 8;
/** From so many octets on it is cheaper to have them copied than to copy them one by one. */
const WORTH_A_CALL = 48;

/** The key kernel: what derives, makes and wraps keys, in WebAssembly. One serves the thread; nothing in its memory outlives a call. */
interface KeyKernel {
  readonly area: Uint8Array;
  /** Make the digest or the tag of what lies in its place. @param length octets of the message */
  sha1(length: number): void;
  sha256(length: number): void;
  sha1Hmac(length: number): void;
  sha256Hmac(length: number): void;
  /** Make the first block of P_hash. @param length octets of the seed */
  sha1PHash(length: number): void;
  sha256PHash(length: number): void;
  /** Encrypts what lies in eight lanes under keys of so many octets. */
  encrypt(keyLength: number): void;
  /** Wraps what lies in eight lanes under keys of so many octets. @param parts 64-bit parts of the key data, but for one */
  wrap(keyLength: number, parts: number): void;
}

let kernel: KeyKernel | undefined;
let isRefused = false;

/** Undefined where WebAssembly, its vectors or leave to compile are missing. */
function keyKernel(): KeyKernel | undefined {
  if (kernel !== undefined || isRefused) return kernel;
  try {
    const octets = new Uint8Array(parseBase64(KEY_KERNEL_MODULE, "kernel"));
    const relaxed = relaxSwizzles(octets);
    const module = new WebAssembly.Module(WebAssembly.validate(relaxed) ? relaxed : octets);
    const memory = new WebAssembly.Memory({ initial: MEMORY_PAGES, maximum: MEMORY_PAGES });
    const exports = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Omit<KeyKernel, "area">;
    kernel = { ...exports, area: new Uint8Array(memory.buffer) };
  } catch {
    isRefused = true;
  }
  return kernel;
}

/** `hash` by the kernel for short messages, such as masks are made of, where a call into a library costs more than its work. Otherwise by `portable`. */
export function hashBy(portable: CryptoProvider["hash"]): CryptoProvider["hash"] {
  return (name, ...parts) => {
    const length = lengthOf(parts);
    const run = length <= HASH_MOST[name] ? keyKernel() : undefined;
    if (run === undefined) return portable(name, ...parts);
    layMessage(run.area, MESSAGE, parts);
    if (name === "sha1") run.sha1(length);
    else run.sha256(length);
    return collectDigest(run.area, name, length);
  };
}

/**
 * `hmacOnce` by the kernel for short messages: for keys that are derived one from the other and messages that make and move them, where a call into
 * a library costs more than its work. Otherwise, and where the kernel cannot run, by `portable`.
 */
export function hmacOnceBy(portable: CryptoProvider["hmacOnce"]): CryptoProvider["hmacOnce"] {
  return (name, key, ...parts) => {
    const length = lengthOf(parts);
    const run = key.length <= HASH_BLOCK && length <= HMAC_MOST[name] ? keyKernel() : undefined;
    if (run === undefined) return portable(name, key, ...parts);
    layMessage(run.area, MESSAGE, parts);
    copy(key, run.area, HMAC_KEY);
    if (name === "sha1") run.sha1Hmac(length);
    else run.sha256Hmac(length);
    return collectDigest(run.area, name, length);
  };
}

/** `pHashOnce` by the kernel, which prepares the key once for both HMACs; otherwise by `hmacOnce`. */
export function pHashOnceBy(hmacOnce: CryptoProvider["hmacOnce"]): CryptoProvider["pHashOnce"] {
  return (name, key, seed) => {
    const octets = DIGEST_OCTETS[name];
    const run = key.length <= HASH_BLOCK && octets + seed.length <= HMAC_MOST[name] ? keyKernel() : undefined;
    if (run === undefined) return hmacOnce(name, key, hmacOnce(name, key, seed), seed);
    copy(seed, run.area, MESSAGE + octets);
    copy(key, run.area, HMAC_KEY);
    if (name === "sha1") run.sha1PHash(seed.length);
    else run.sha256PHash(seed.length);
    return collectDigest(run.area, name, octets + seed.length);
  };
}

function lengthOf(parts: readonly Uint8Array[]): number {
  let length = 0;
  for (const part of parts) length += part.length;
  return length;
}

function layMessage(area: Uint8Array, at: number, parts: readonly Uint8Array[]): void {
  let end = at;
  for (const part of parts) {
    copy(part, area, end);
    end += part.length;
  }
}

/** Takes what a hash or an HMAC gave. @param length octets of the message */
function collectDigest(area: Uint8Array, name: HashName, length: number): Uint8Array {
  const digest = new Uint8Array(DIGEST_OCTETS[name]);
  for (let i = 0; i < digest.length; i++) digest[i] = area[DIGEST + i] as number;
  // What is left must be zeros behind the next key and message, too.
  area.fill(0, HMAC_KEY, MESSAGE + length + HASH_BLOCK + LENGTH_OCTETS);
  return digest;
}

function copy(octets: Uint8Array, area: Uint8Array, at: number): void {
  if (octets.length >= WORTH_A_CALL) area.set(octets, at);
  else for (let i = 0; i < octets.length; i++) area[at + i] = octets[i] as number;
}

/**
 * `aesOnce` by the kernel for up to eight blocks: an object per key costs node:crypto more than these, and eight at once cost the kernel as much as one.
 * Otherwise, and where the kernel cannot run, by an object.
 */
export function aesOnceBy(aesBlocks: CryptoProvider["aesBlocks"]): CryptoProvider["aesOnce"] {
  return (key, blocks) => {
    const isShort = (key.length === 16 || key.length === 32) && blocks.length % BLOCK === 0 && blocks.length <= LANES * BLOCK;
    const run = isShort ? keyKernel() : undefined;
    if (run === undefined) {
      const aes = aesBlocks(key);
      aes.encrypt(blocks, blocks);
      aes.wipe();
      return;
    }
    const { area } = run;
    for (let lane = 0; lane < blocks.length; lane += BLOCK) layKey(area, lane, key, 0, key.length);
    copy(blocks, area, STATE);
    run.encrypt(key.length);
    for (let i = 0; i < blocks.length; i++) blocks[i] = area[STATE + i] as number;
    area.fill(0, STATE, WRAP_END);
  };
}

/**
 * `aesKeyWrapPadMany` by the kernel, or where it cannot run one key after the other. An object per wrap costs node:crypto more than the wrap itself,
 * and eight at once cost the kernel as much as one.
 */
export function wrapManyBy(wrapOne: CryptoProvider["aesKeyWrapPad"]): CryptoProvider["aesKeyWrapPadMany"] {
  return (keys, plaintexts, length, out) => {
    if ((length !== 16 && length !== 32) || keys.length % length !== 0 || plaintexts.length !== keys.length) {
      throw new WatchwordError(
        "crypto.wrap-length",
        `${keys.length} octets of keys for ${plaintexts.length} octets of keys of ${length}`,
      );
    }
    const count = keys.length / length;
    if (out.length < count * (length + HALF)) {
      throw new WatchwordError("crypto.wrap-length", `${out.length} octets for ${count} wrapped keys`);
    }
    const run = keyKernel();
    if (run === undefined) {
      for (let i = 0; i < count; i++) {
        const [from, to] = [i * length, (i + 1) * length];
        out.set(wrapOne(keys.subarray(from, to), plaintexts.subarray(from, to)), i * (length + HALF));
      }
      return;
    }
    const { area } = run;
    const parts = length / HALF - 1;
    for (let first = 0; first < count; first += LANES) {
      const lanes = Math.min(LANES, count - first);
      for (let lane = 0; lane < lanes; lane++) lay(area, lane, keys, plaintexts, (first + lane) * length, length);
      run.wrap(length, parts);
      for (let lane = 0; lane < lanes; lane++) collect(area, lane, out, (first + lane) * (length + HALF), parts);
    }
    area.fill(0, STATE, WRAP_END);
  };
}

/** Puts a key and what it wraps into a lane: A ‖ P[1] in the state, P[2] and so on in the parts (RFC 5649 §4.1). */
function lay(area: Uint8Array, lane: number, keys: Uint8Array, plaintexts: Uint8Array, from: number, length: number): void {
  const at = BLOCK * lane;
  layKey(area, at, keys, from, length);
  for (let i = 0; i < 4; i++) area[STATE + at + i] = INITIAL_VALUE[i] as number;
  area[STATE + at + 4] = 0;
  area[STATE + at + 5] = 0;
  area[STATE + at + 6] = 0;
  area[STATE + at + 7] = length;
  for (let i = 0; i < HALF; i++) area[STATE + at + HALF + i] = plaintexts[from + i] as number;
  for (let part = 0, next = from + HALF; next < from + length; part++, next += HALF) {
    for (let i = 0; i < HALF; i++) area[PARTS + GROUP * part + at + HALF + i] = plaintexts[next + i] as number;
  }
}

/** Puts a key into the lane that begins at `at`: the first 16 octets, and in a place of their own the others. */
function layKey(area: Uint8Array, at: number, keys: Uint8Array, from: number, length: number): void {
  for (let i = 0; i < BLOCK; i++) area[KEYS + at + i] = keys[from + i] as number;
  if (length > BLOCK) for (let i = 0; i < BLOCK; i++) area[KEYS + GROUP + at + i] = keys[from + BLOCK + i] as number;
}

/** Takes A ‖ R[1] ‖ … ‖ R[n] out of a lane. Parts take turns in their places, and the last one is in the state. */
function collect(area: Uint8Array, lane: number, out: Uint8Array, to: number, parts: number): void {
  const at = BLOCK * lane;
  for (let i = 0; i < HALF; i++) out[to + i] = area[STATE + at + i] as number;
  for (let r = 1; r <= parts; r++) {
    // The part of step s is put aside in place s - 1 of those in use, and R[r] was last in hand in step 5(parts + 1) + r.
    const place = PARTS + GROUP * ((5 * (parts + 1) + r - 1) % parts) + at + HALF;
    for (let i = 0; i < HALF; i++) out[to + HALF * r + i] = area[place + i] as number;
  }
  for (let i = 0; i < HALF; i++) out[to + HALF * (parts + 1) + i] = area[STATE + at + HALF + i] as number;
}
