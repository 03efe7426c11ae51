import { parseBase64, WatchwordError } from "../bytes/index.js";
import type { CryptoProvider } from "./contracts.js";
import { relaxSwizzles } from "./kernel-engine.js";
import { END, GROUP, KEYS, MEMORY_PAGES, PARTS, STATE } from "./key-wrap-layout.js";
import { KEY_WRAP_MODULE } from "./key-wrap-module.js";

/** Keys that are wrapped at once. */
const LANES = 8;
const BLOCK = 16;
const HALF = 8;
/** The constant part of the alternative initial value (RFC 5649 §3). */
const INITIAL_VALUE = [0xa6, 0x59, 0x59, 0xa6];

type WrapMany = CryptoProvider["aesKeyWrapPadMany"];

let kernel: WrapMany | undefined;
let isRefused = false;

/** The kernel of this thread, made at the first call; undefined where WebAssembly, its vectors or leave to compile are missing. */
function keyWrapKernel(): WrapMany | undefined {
  if (kernel !== undefined || isRefused) return kernel;
  try {
    kernel = instantiate();
  } catch {
    isRefused = true;
  }
  return kernel;
}

/**
 * `aesKeyWrapPadMany` by the kernel, or where it cannot run one key after the other. An object per wrap costs node:crypto more than the wrap itself,
 * and eight at once cost the kernel as much as one.
 */
export function wrapMany(wrapOne: CryptoProvider["aesKeyWrapPad"]): WrapMany {
  return (keys, plaintexts, length, out) => {
    if ((length !== 16 && length !== 32) || keys.length % length !== 0 || plaintexts.length !== keys.length) {
      throw new WatchwordError(
        "crypto.wrap-length",
        `${keys.length} octets of keys for ${plaintexts.length} octets of keys of ${length}`,
      );
    }
    const count = keys.length / length;
    if (out.length < count * (length + HALF))
      throw new WatchwordError("crypto.wrap-length", `${out.length} octets for ${count} wrapped keys`);
    const run = keyWrapKernel();
    if (run !== undefined) return run(keys, plaintexts, length, out);
    for (let i = 0; i < count; i++) {
      const [from, to] = [i * length, (i + 1) * length];
      out.set(wrapOne(keys.subarray(from, to), plaintexts.subarray(from, to)), i * (length + HALF));
    }
  };
}

function instantiate(): WrapMany {
  const octets = new Uint8Array(parseBase64(KEY_WRAP_MODULE, "kernel"));
  const relaxed = relaxSwizzles(octets);
  const module = new WebAssembly.Module(WebAssembly.validate(relaxed) ? relaxed : octets);
  const memory = new WebAssembly.Memory({ initial: MEMORY_PAGES, maximum: MEMORY_PAGES });
  const { wrap } = new WebAssembly.Instance(module, { env: { memory } }).exports as {
    wrap(keyLength: number, parts: number): void;
  };
  const area = new Uint8Array(memory.buffer);
  return (keys, plaintexts, length, out) => {
    const parts = length / HALF - 1;
    const count = keys.length / length;
    for (let first = 0; first < count; first += LANES) {
      const lanes = Math.min(LANES, count - first);
      for (let lane = 0; lane < lanes; lane++) lay(area, lane, keys, plaintexts, (first + lane) * length, length);
      wrap(length, parts);
      for (let lane = 0; lane < lanes; lane++) collect(area, lane, out, (first + lane) * (length + HALF), parts);
    }
    area.fill(0, STATE, END);
  };
}

/** Puts a key and what it wraps into a lane: A ‖ P[1] in the state, P[2] and so on in the parts (RFC 5649 §4.1). */
function lay(area: Uint8Array, lane: number, keys: Uint8Array, plaintexts: Uint8Array, from: number, length: number): void {
  const at = BLOCK * lane;
  for (let i = 0; i < BLOCK; i++) area[KEYS + at + i] = keys[from + i] as number;
  if (length > BLOCK) for (let i = 0; i < BLOCK; i++) area[KEYS + GROUP + at + i] = keys[from + BLOCK + i] as number;
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
