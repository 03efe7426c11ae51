import { parseBase64 } from "../bytes/index.js";
import { relaxSwizzles } from "../crypto/index.js";
import { KernelHeap } from "./kernel-heap.js";
import {
  COUNTERS,
  GHASH_BUFFER,
  GHASH_GROUP,
  HEAP,
  HEAP_END,
  JOBS,
  MAX_JOBS,
  MEMORY_PAGES,
  SHA1_STATE,
  SINGLE_KEYSTREAM,
  STAGE,
  TAG_MASKS,
} from "./kernel-layout.js";
import { KERNEL_MODULE } from "./kernel-module.js";
import { KeystreamPool } from "./keystream-pool.js";

/** What the module exports. Addresses are octets in its memory; see `kernel-layout.ts` for what lies where. */
export interface KernelExports {
  /** Makes an HMAC-SHA1 context from the 64 octets at `KEY`. */
  prepareHmac(context: number): void;
  /** Encrypts and tags one job. */
  seal(job: number): void;
  /** Checks and decrypts one job. @returns 1 where the tag is right */
  open(job: number): number;
  /** The same for the jobs from `first` to before `end`, four at a time. */
  sealBatch(first: number, end: number): void;
  openBatch(first: number, end: number): void;
  /** Makes a GHASH context from the 16 octets of H at `KEY`. */
  prepareGhash(context: number): void;
  /** Encrypts and tags the jobs from `first` to before `end`. */
  sealAead(first: number, end: number): void;
  /** Checks and decrypts them. */
  openAead(first: number, end: number): void;
  /** The S-box without its constant on the 128 octets at `AES_BLOCKS`. */
  substitute(): void;
  /** Puts the 16 octets at `AES_BLOCKS`, each XOR `constant`, at `to` as a round key of `encryptBlocks`. */
  prepareRoundKey(to: number, constant: number): void;
  encryptBlocks(context: number, rounds: number, from: number, to: number, blocks: number): void;
  /** XORs `length` octets at `to` with those at `keystream`. */
  combine(to: number, keystream: number, length: number): void;
  /** Counter blocks of AES-CM, and of AES-GCM with the block that masks the tag, for packets from `sequence` on. */
  layCounters(to: number, sequence: number, packets: number, blocks: number): void;
  layAeadCounters(to: number, sequence: number, packets: number, blocks: number): void;
}

/** Octets between packets on the stage, and how many lie there at once: longer packets are there alone. */
export const STAGE_SLOT = 2048;
/** Most views that are kept of places on the stage: a view costs as much as the packet that it is for. */
const MAX_VIEWS = 4096;

/**
 * The kernel: one WebAssembly instance and its memory, shared by every session of the thread. The memory never grows, so views into
 * it never become detached; nothing in it outlives a call but contexts, keystream and slots from the heap.
 */
export class Kernel {
  readonly exports: KernelExports;
  readonly buffer: ArrayBuffer;
  readonly octets: Uint8Array;
  readonly words: Int32Array;
  readonly heap = new KernelHeap();
  readonly keystreams: KeystreamPool;
  readonly #views: readonly (Uint8Array | undefined)[][] = Array.from({ length: MAX_JOBS }, () => []);
  /** Most octets of counters, and so of keystream for one packet alone, since the last wiping. */
  counterOctets = 0;
  #viewCount = 0;
  #stageUsed = 0;
  /** Packet slots that are given out: without any, no view that comes is of this memory. */
  #slotsInUse = 0;
  /** Where the last slot was, and how far from the one before it. */
  #lastAddress = 0;
  #stride = 0;

  constructor(module: WebAssembly.Module) {
    const memory = new WebAssembly.Memory({ initial: MEMORY_PAGES, maximum: MEMORY_PAGES });
    this.exports = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as KernelExports;
    this.buffer = memory.buffer as ArrayBuffer;
    this.octets = new Uint8Array(this.buffer);
    this.words = new Int32Array(this.buffer);
    this.keystreams = new KeystreamPool(this.heap, this.octets);
  }

  /** Memory for a packet of the caller. @returns 0 where the kernel's memory is used up */
  allocateSlot(octets: number): number {
    const at = this.heap.allocate(octets);
    if (at !== 0) this.#slotsInUse++;
    return at;
  }

  giveBackSlot(at: number, octets: number): void {
    this.discard(at, octets);
    this.#slotsInUse--;
  }

  /**
   * Where a view of a slot, not an empty one, begins in the kernel's memory, or 0 for a view of anything else. Asking a view for its buffer or offset is a
   * call into the engine that costs more than all else here, so the offset is guessed first: packets mostly lie in slots that follow
   * each other at equal distances.
   */
  addressOf(view: Uint8Array): number {
    if (this.#slotsInUse === 0) return 0;
    let at = this.#lastAddress + this.#stride;
    if (!this.#begins(view, at)) {
      at = view.byteOffset;
      if (!this.#begins(view, at)) return 0;
      this.#stride = at - this.#lastAddress;
    }
    this.#lastAddress = at;
    return at;
  }

  #begins(view: Uint8Array, at: number): boolean {
    return at >= HEAP && at < HEAP_END && isSameOctet(view, 0, this.octets, at);
  }

  /** The first octets of a place on the stage. */
  staged(slot: number, length: number): Uint8Array {
    this.#stageUsed = Math.max(this.#stageUsed, slot * STAGE_SLOT + length);
    const row = this.#views[slot] as (Uint8Array | undefined)[];
    const known = row[length];
    if (known !== undefined) return known;
    const at = STAGE + slot * STAGE_SLOT;
    const view = this.octets.subarray(at, at + length);
    if (length <= STAGE_SLOT && this.#viewCount < MAX_VIEWS) {
      row[length] = view;
      this.#viewCount++;
    }
    return view;
  }

  /** Overwrites a piece of the heap and gives it back. */
  discard(at: number, octets: number): void {
    this.octets.fill(0, at, at + octets);
    this.heap.release(at, octets);
  }

  /** Overwrites what packets and keys have left outside the heap. */
  wipeScratch(): void {
    for (const area of [COUNTERS, SINGLE_KEYSTREAM]) this.octets.fill(0, area, area + this.counterOctets);
    this.octets.fill(0, GHASH_BUFFER, GHASH_BUFFER + GHASH_GROUP * 16);
    this.octets.fill(0, TAG_MASKS, TAG_MASKS + 16 * MAX_JOBS);
    this.octets.fill(0, SHA1_STATE, JOBS);
    this.counterOctets = 0;
    this.octets.fill(0, STAGE, STAGE + this.#stageUsed);
    this.#stageUsed = 0;
  }
}

/** Whether octets of two views are one: a change of the one, undone at once, is seen in the other. Neither view may be empty. */
export function isSameOctet(a: Uint8Array, i: number, b: Uint8Array, k: number): boolean {
  const octet = a[i] as number;
  if (b[k] !== octet) return false;
  a[i] = octet ^ 0xff;
  const isSeen = b[k] !== octet;
  a[i] = octet;
  return isSeen;
}

let module: WebAssembly.Module | undefined;
let shared: Kernel | undefined;
let isRefused = false;

/**
 * The kernel of this thread, made at the first call; undefined where WebAssembly, its vectors or leave to compile are missing.
 * Browsers may refuse to compile on the main thread without waiting: `loadKernel` does it in the background.
 */
export function sharedKernel(): Kernel | undefined {
  if (shared !== undefined || isRefused) return shared;
  try {
    module ??= new WebAssembly.Module(kernelOctets());
    shared = new Kernel(module);
  } catch {
    isRefused = true;
  }
  return shared;
}

/**
 * Compiles the kernel without holding up the thread: for browsers, before the first session. Sessions made before have the portable
 * transforms and keep them.
 * @returns whether sessions made from now on have the kernel
 */
export async function loadSrtpKernel(): Promise<boolean> {
  if (shared !== undefined) return true;
  try {
    module ??= await WebAssembly.compile(kernelOctets());
    isRefused = false;
  } catch {
    return false;
  }
  return sharedKernel() !== undefined;
}

function kernelOctets(): Uint8Array<ArrayBuffer> {
  const octets = new Uint8Array(parseBase64(KERNEL_MODULE, "kernel"));
  const relaxed = relaxSwizzles(octets);
  return WebAssembly.validate(relaxed) ? relaxed : octets;
}
