import { WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import type { PacketCipher, PacketCipherFactory, PacketCipherParameters, PacketJob } from "./contracts.js";
import { readU32, writeU32 } from "./headers.js";
import { isSameOctet, type Kernel, STAGE_SLOT } from "./kernel.js";
import { aesContextLength, kernelAes } from "./kernel-aes.js";
import { type KernelBlocks, KernelKeystream } from "./kernel-keystream.js";
import {
  GHASH_CONTEXT,
  HMAC_CONTEXT,
  JOB,
  JOB_OCTETS,
  JOBS,
  KEY,
  MAX_JOBS,
  MAX_KERNEL_PACKET,
  STAGE,
  STAGE_END,
  TAG_MASKS,
} from "./kernel-layout.js";
import { AEAD_TAG, INDEX_WORD, indexWord, packetCipherFactory } from "./packet-cipher.js";
import { rolloverOf } from "./rollover.js";

const FIRST_JOB = JOBS >> 2;
/** Words from one job to the next. */
const JOB_WORDS = JOB_OCTETS >> 2;
/** Words of a job, from its first. */
const WORD = {
  context: JOB.context >> 2,
  packet: JOB.packet >> 2,
  covered: JOB.covered >> 2,
  cryptAt: JOB.cryptAt >> 2,
  cryptLength: JOB.cryptLength >> 2,
  keystream: JOB.keystream >> 2,
  trailer: JOB.trailer >> 2,
  trailerLength: JOB.trailerLength >> 2,
  tagAt: JOB.tagAt >> 2,
  tagLength: JOB.tagLength >> 2,
  tagMask: JOB.tagMask >> 2,
  authentic: JOB.authentic >> 2,
} as const;
const BLOCK = 16;

/**
 * Packet transforms in the kernel.
 * @param crypto where AES comes from, if it is native; else it is the kernel's own. A session that finds the kernel's memory used up
 *   gets the portable transforms over it
 */
export function kernelCipherFactory(kernel: Kernel, crypto: CryptoProvider): PacketCipherFactory {
  const portable = packetCipherFactory(crypto);
  return (parameters) => {
    const holding = new Holding(kernel);
    const cipher = makeCipher(kernel, crypto, parameters, holding);
    if (cipher !== undefined) return cipher;
    holding.release();
    return portable(parameters);
  };
}

/** What a cipher holds in the kernel's memory. It knows nothing of the cipher, so that it outlives one that is dropped unwiped. */
class Holding {
  keystream: KernelKeystream | undefined;
  readonly #kernel: Kernel;
  readonly #pieces: { readonly at: number; readonly octets: number }[] = [];

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** @returns 0 where the kernel's memory is used up */
  allocate(octets: number): number {
    const at = this.#kernel.heap.allocate(octets);
    if (at !== 0) this.#pieces.push({ at, octets });
    return at;
  }

  release(): void {
    this.keystream?.wipe();
    for (const { at, octets } of this.#pieces) this.#kernel.discard(at, octets);
    this.#pieces.length = 0;
  }
}

/** Gives back what sessions hold that were dropped without being closed. */
const dropped = new FinalizationRegistry<Holding>((holding) => holding.release());

/** @returns undefined where the kernel's memory is used up */
function makeCipher(
  kernel: Kernel,
  crypto: CryptoProvider,
  parameters: PacketCipherParameters,
  holding: Holding,
): PacketCipher | undefined {
  const { protocol, suite, keys, tagLength } = parameters;
  const isAead = suite.cipher === "gcm";
  const contextLength = isAead ? GHASH_CONTEXT : HMAC_CONTEXT;
  const context = tagLength > 0 ? holding.allocate(contextLength) : 0;
  if (tagLength > 0 && context === 0) return undefined;
  if (suite.cipher !== "null") {
    const blocks = makeBlocks(kernel, crypto, keys.encryptionKey, holding);
    if (blocks === undefined) return undefined;
    // SRTCP packets are far apart: keystream made ahead would lie about unused.
    holding.keystream = new KernelKeystream(kernel, blocks, keys.salt, isAead, protocol === "rtp");
    if (isAead) {
      // H is the encrypted zero block (NIST SP 800-38D §7.1).
      kernel.octets.fill(0, KEY, KEY + BLOCK);
      blocks.encrypt(KEY, KEY, BLOCK);
      kernel.exports.prepareGhash(context);
    }
  }
  if (!isAead && context !== 0) {
    kernel.octets.set(keys.authenticationKey, KEY);
    kernel.exports.prepareHmac(context);
  }
  kernel.octets.fill(0, KEY, KEY + 64);
  return new (isAead ? KernelAeadCipher : KernelHmacCipher)(kernel, context, holding, parameters);
}

function makeBlocks(kernel: Kernel, crypto: CryptoProvider, key: Uint8Array, holding: Holding): KernelBlocks | undefined {
  if (!crypto.callsAreCostly) {
    const context = holding.allocate(aesContextLength(key.length));
    return context === 0 ? undefined : kernelAes(kernel, key, context);
  }
  const blocks = crypto.aesBlocks(key);
  const { octets } = kernel;
  return {
    encrypt: (from, to, length) => blocks.encrypt(octets.subarray(from, from + length), octets.subarray(to, to + length)),
    wipe: () => blocks.wipe(),
  };
}

/** Behind the areas for one packet lies the memory of others. */
function checkLength(length: number): void {
  if (length > MAX_KERNEL_PACKET) throw new WatchwordError("srtp.malformed", "the packet is longer than any transport carries");
}

/** What is common to all transforms: where packets lie while the kernel works on them, and when their keystream is made. */
abstract class KernelCipher implements PacketCipher {
  readonly overhead: number;
  protected readonly kernel: Kernel;
  protected readonly context: number;
  protected readonly keystream: KernelKeystream | undefined;
  protected readonly tagLength: number;
  protected readonly mki: Uint8Array;
  protected readonly isRtcp: boolean;
  readonly #holding: Holding;

  constructor(kernel: Kernel, context: number, holding: Holding, { protocol, tagLength, mki }: PacketCipherParameters) {
    this.kernel = kernel;
    this.context = context;
    this.keystream = holding.keystream;
    this.isRtcp = protocol === "rtcp";
    this.tagLength = tagLength;
    this.mki = mki.slice();
    this.overhead = tagLength + mki.length + (this.isRtcp ? INDEX_WORD : 0);
    this.#holding = holding;
    dropped.register(this, holding, this);
  }

  /** Octets of keystream that a packet needs, 0 for none. */
  protected abstract needs(job: PacketJob, cryptLength: number): number;
  /** Describes a packet of `length` octets at `at` to the kernel, and writes what protection adds but the tag. */
  protected abstract describeSeal(word: number, job: PacketJob, at: number, length: number, keystream: number): void;
  /** Describes a packet that has `length` octets when it is open. Its keystream may be 0: not made. */
  protected abstract describeOpen(word: number, job: PacketJob, at: number, length: number, keystream: number): void;
  protected abstract sealJobs(count: number): void;
  /** Leaves in every job whether it is authentic. */
  protected abstract openJobs(count: number): void;

  seal(jobs: readonly PacketJob[], count: number, results: Int32Array): void {
    const { kernel, keystream, overhead } = this;
    let first = 0;
    let i = 0;
    while (i < count) {
      const job = jobs[i] as PacketJob;
      const { input, output } = job;
      const length = input.length;
      checkLength(length + overhead);
      const slot = kernel.addressOf(output);
      const isStaged = slot === 0;
      const isLong = isStaged && length + overhead > STAGE_SLOT;
      const needed = this.needs(job, job.encrypted ? length - job.headerLength : 0);
      const found = needed > 0 ? (keystream as KernelKeystream).find(job.ssrc, job.index, needed, true) : 0;
      // A packet that is longer than its place on the stage goes there alone; and making keystream may take the place of what the
      // packets before this one wait for.
      if (i > first && (isLong || (found === 0 && needed > 0) || i - first === MAX_JOBS)) {
        this.#sealFrom(jobs, first, i, results);
        first = i;
      }
      const at = isStaged ? STAGE + (i - first) * STAGE_SLOT : slot;
      if (isStaged || !isSameOctet(input, 0, output, 0)) kernel.octets.set(input, at);
      const isMissing = found === 0 && needed > 0;
      const keystreamAt = isMissing ? (keystream as KernelKeystream).make(job.ssrc, job.index, needed) : found;
      this.describeSeal(FIRST_JOB + (i - first) * JOB_WORDS, job, at, length, keystreamAt);
      results[i] = length + overhead;
      i++;
      if (isLong) {
        this.#sealFrom(jobs, first, i, results);
        first = i;
      }
    }
    if (first < count) this.#sealFrom(jobs, first, count, results);
  }

  open(jobs: readonly PacketJob[], count: number, results: Int32Array): void {
    const { kernel, keystream, overhead } = this;
    let first = 0;
    let i = 0;
    while (i < count) {
      const job = jobs[i] as PacketJob;
      const { input, output } = job;
      const length = input.length - overhead;
      checkLength(input.length);
      const slot = kernel.addressOf(input);
      const isStaged = slot === 0 || !isSameOctet(input, 0, output, 0);
      const isLong = isStaged && input.length > STAGE_SLOT;
      const needed = this.needs(job, job.encrypted ? length - job.headerLength : 0);
      const found = needed > 0 ? (keystream as KernelKeystream).find(job.ssrc, job.index, needed, false) : 0;
      // A packet whose keystream is not there goes first in its turn, so that it is there for those behind it.
      const isLate = found === 0 && needed > 0;
      if (i > first && (isLong || isLate || i - first === MAX_JOBS)) {
        this.#openFrom(jobs, first, i, results);
        first = i;
      }
      const at = isStaged ? STAGE + (i - first) * STAGE_SLOT : slot;
      if (isStaged) kernel.octets.set(input, at);
      this.describeOpen(FIRST_JOB + (i - first) * JOB_WORDS, job, at, length, found);
      i++;
      if (isLong || isLate) {
        this.#openFrom(jobs, first, i, results);
        first = i;
      }
    }
    if (first < count) this.#openFrom(jobs, first, count, results);
  }

  wipe(): void {
    dropped.unregister(this);
    this.#holding.release();
    this.kernel.wipeScratch();
    wipe(this.mki);
  }

  /** Seals the packets that are described, and brings those on the stage to where they are wanted. */
  #sealFrom(jobs: readonly PacketJob[], first: number, end: number, results: Int32Array): void {
    const { kernel } = this;
    const { words } = kernel;
    this.sealJobs(end - first);
    for (let i = first, word = FIRST_JOB + WORD.packet; i < end; i++, word += JOB_WORDS) {
      if ((words[word] as number) < STAGE_END) (jobs[i] as PacketJob).output.set(kernel.staged(i - first, results[i] as number));
    }
  }

  #openFrom(jobs: readonly PacketJob[], first: number, end: number, results: Int32Array): void {
    const { words } = this.kernel;
    this.openJobs(end - first);
    for (let i = first; i < end; i++) {
      const word = FIRST_JOB + (i - first) * JOB_WORDS;
      if (words[word + WORD.authentic] === 0) {
        results[i] = -1;
        continue;
      }
      const job = jobs[i] as PacketJob;
      const length = job.input.length - this.overhead;
      const at = words[word + WORD.packet] as number;
      const cryptLength = words[word + WORD.cryptLength] as number;
      const needed = this.needs(job, cryptLength);
      if (needed > 0) this.#noteOrDecrypt(job, words[word + WORD.keystream] as number, at, cryptLength, needed);
      if (at < STAGE_END) job.output.set(this.kernel.staged(i - first, length));
      results[i] = length;
    }
  }

  /** An authentic packet whose keystream was not there is decrypted now. */
  #noteOrDecrypt(job: PacketJob, known: number, at: number, cryptLength: number, needed: number): void {
    const keystream = this.keystream as KernelKeystream;
    if (known !== 0) {
      keystream.note(job.ssrc, needed);
      return;
    }
    const made = keystream.make(job.ssrc, job.index, needed);
    if (cryptLength > 0) this.kernel.exports.combine(at + job.headerLength, made + needed - cryptLength, cryptLength);
  }

  protected writeMki(at: number): void {
    const { octets } = this.kernel;
    for (let k = 0; k < this.mki.length; k++) octets[at + k] = this.mki[k] as number;
  }
}

/** AES-CM or NULL encryption with HMAC-SHA1 (RFC 3711 §3.1, §3.4, §4.1, §4.2; RFC 6188). */
class KernelHmacCipher extends KernelCipher {
  protected needs(_job: PacketJob, cryptLength: number): number {
    return this.keystream === undefined ? 0 : cryptLength;
  }

  protected describeSeal(word: number, job: PacketJob, at: number, length: number, keystream: number): void {
    let covered = length;
    if (this.isRtcp) {
      writeU32(this.kernel.octets, at + length, indexWord(job));
      covered += INDEX_WORD;
    }
    // The MKI is not authenticated and stands before the tag (RFC 3711 §3.1).
    this.writeMki(at + covered);
    this.#describe(word, job, at, covered, length, keystream);
  }

  protected describeOpen(word: number, job: PacketJob, at: number, length: number, keystream: number): void {
    this.#describe(word, job, at, this.isRtcp ? length + INDEX_WORD : length, length, keystream);
  }

  protected sealJobs(count: number): void {
    const { exports } = this.kernel;
    if (count > 1 && this.context !== 0) exports.sealBatch(JOBS, JOBS + count * JOB_OCTETS);
    else for (let i = 0; i < count; i++) exports.seal(JOBS + i * JOB_OCTETS);
  }

  protected openJobs(count: number): void {
    const { exports, words } = this.kernel;
    if (count > 1 && this.context !== 0) exports.openBatch(JOBS, JOBS + count * JOB_OCTETS);
    else {
      for (let i = 0; i < count; i++) {
        words[FIRST_JOB + i * JOB_WORDS + WORD.authentic] = exports.open(JOBS + i * JOB_OCTETS);
      }
    }
  }

  #describe(word: number, job: PacketJob, at: number, covered: number, length: number, keystream: number): void {
    const { words } = this.kernel;
    words[word + WORD.context] = this.context;
    words[word + WORD.packet] = at;
    words[word + WORD.covered] = covered;
    words[word + WORD.cryptAt] = job.headerLength;
    words[word + WORD.cryptLength] = job.encrypted ? length - job.headerLength : 0;
    words[word + WORD.keystream] = keystream;
    // SRTP authenticates the packet and the ROC, SRTCP everything up to the index word (RFC 3711 §4.2).
    words[word + WORD.trailer] = rolloverOf(job.index);
    words[word + WORD.trailerLength] = this.isRtcp ? 0 : 4;
    words[word + WORD.tagAt] = covered + this.mki.length;
    words[word + WORD.tagLength] = this.tagLength;
  }
}

/** AES-GCM (RFC 7714). */
class KernelAeadCipher extends KernelCipher {
  /** The block that masks the tag comes first. */
  protected needs(_job: PacketJob, cryptLength: number): number {
    return cryptLength + BLOCK;
  }

  protected describeSeal(word: number, job: PacketJob, at: number, length: number, keystream: number): void {
    let end = length + AEAD_TAG;
    if (this.isRtcp) {
      // The tag is part of the ciphertext and stands before the index word (RFC 7714 §9.2).
      writeU32(this.kernel.octets, at + end, indexWord(job));
      end += INDEX_WORD;
    }
    this.writeMki(at + end);
    this.#describe(word, job, at, length, keystream, indexWord(job));
  }

  protected describeOpen(word: number, job: PacketJob, at: number, length: number, keystream: number): void {
    const associatedWord = this.isRtcp ? readU32(this.kernel.octets, at + length + AEAD_TAG) : 0;
    this.#describe(word, job, at, length, keystream, associatedWord);
    if (keystream !== 0) return;
    const mask = TAG_MASKS + ((word - FIRST_JOB) / JOB_WORDS) * BLOCK;
    this.keystream?.mask(job.ssrc, job.index, mask);
    const { words } = this.kernel;
    words[word + WORD.tagMask] = mask;
    words[word + WORD.keystream] = 0;
  }

  protected sealJobs(count: number): void {
    this.kernel.exports.sealAead(JOBS, JOBS + count * JOB_OCTETS);
  }

  protected openJobs(count: number): void {
    this.kernel.exports.openAead(JOBS, JOBS + count * JOB_OCTETS);
  }

  #describe(word: number, job: PacketJob, at: number, length: number, keystream: number, associatedWord: number): void {
    const { words } = this.kernel;
    words[word + WORD.context] = this.context;
    words[word + WORD.packet] = at;
    // With E = 0 the whole SRTCP packet is associated data and nothing is plaintext (RFC 7714 §9.3).
    words[word + WORD.covered] = job.encrypted ? job.headerLength : length;
    words[word + WORD.cryptAt] = job.headerLength;
    words[word + WORD.cryptLength] = job.encrypted ? length - job.headerLength : 0;
    words[word + WORD.keystream] = keystream + BLOCK;
    words[word + WORD.trailer] = associatedWord;
    words[word + WORD.trailerLength] = this.isRtcp ? INDEX_WORD : 0;
    words[word + WORD.tagAt] = length;
    words[word + WORD.tagMask] = keystream;
  }
}
