import { wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import type { PacketCipher, PacketCipherFactory, PacketCipherParameters, PacketJob } from "./contracts.js";
import { writeU32 } from "./headers.js";
import { type Kernel, STAGE_SLOT } from "./kernel.js";
import { type KernelBlocks, KernelKeystream } from "./kernel-keystream.js";
import { HMAC_CONTEXT, JOB, JOB_OCTETS, JOBS, KEY, MAX_JOBS, STAGE, STAGE_END } from "./kernel-layout.js";
import { INDEX_WORD, indexWord, packetCipherFactory } from "./packet-cipher.js";
import { rolloverOf } from "./rollover.js";

/** Words from one job to the next. */
const JOB_WORDS = JOB_OCTETS >> 2;
const FIRST_JOB = JOBS >> 2;
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
  authentic: JOB.authentic >> 2,
} as const;

/** What a cipher holds in the kernel's memory. It knows nothing of the cipher, so that it outlives one that is dropped unwiped. */
class Holding {
  readonly #kernel: Kernel;
  readonly #keystream: KernelKeystream | undefined;
  /** 0: none, or given back. */
  #context: number;

  constructor(kernel: Kernel, context: number, keystream: KernelKeystream | undefined) {
    this.#kernel = kernel;
    this.#context = context;
    this.#keystream = keystream;
  }

  release(): void {
    this.#keystream?.wipe();
    if (this.#context !== 0) this.#kernel.discard(this.#context, HMAC_CONTEXT);
    this.#context = 0;
  }
}

/** Gives back what sessions hold that were dropped without being closed. */
const dropped = new FinalizationRegistry<Holding>((holding) => holding.release());

/**
 * Packet transforms in the kernel. Keystream comes from the block cipher of `crypto`. Where the kernel's memory is used up, a
 * session gets the portable transforms.
 */
export function kernelCipherFactory(kernel: Kernel, crypto: CryptoProvider): PacketCipherFactory {
  const portable = packetCipherFactory(crypto);
  return (parameters) => {
    if (parameters.suite.cipher === "gcm") return portable(parameters);
    const context = parameters.tagLength > 0 ? kernel.heap.allocate(HMAC_CONTEXT) : 0;
    if (parameters.tagLength > 0 && context === 0) return portable(parameters);
    return new KernelHmacCipher(kernel, context, blocksOf(kernel, crypto, parameters), parameters);
  };
}

function blocksOf(kernel: Kernel, crypto: CryptoProvider, { suite, keys }: PacketCipherParameters): KernelBlocks | undefined {
  if (suite.cipher === "null") return undefined;
  const blocks = crypto.aesBlocks(keys.encryptionKey);
  const { octets } = kernel;
  return {
    encrypt: (from, to, length) => blocks.encrypt(octets.subarray(from, from + length), octets.subarray(to, to + length)),
    wipe: () => blocks.wipe(),
  };
}

/** AES-CM or NULL encryption with HMAC-SHA1 (RFC 3711 §3.1, §3.4, §4.1, §4.2; RFC 6188). */
class KernelHmacCipher implements PacketCipher {
  readonly overhead: number;
  readonly #kernel: Kernel;
  readonly #context: number;
  readonly #keystream: KernelKeystream | undefined;
  readonly #holding: Holding;
  readonly #tagLength: number;
  readonly #mki: Uint8Array;
  readonly #isRtcp: boolean;

  constructor(
    kernel: Kernel,
    context: number,
    blocks: KernelBlocks | undefined,
    { protocol, keys, tagLength, mki }: PacketCipherParameters,
  ) {
    this.#kernel = kernel;
    this.#isRtcp = protocol === "rtcp";
    this.overhead = tagLength + mki.length + (this.#isRtcp ? INDEX_WORD : 0);
    this.#tagLength = tagLength;
    this.#mki = mki.slice();
    this.#context = context;
    // SRTCP packets are far apart: keystream made ahead would lie about unused.
    this.#keystream = blocks && new KernelKeystream(kernel, blocks, keys.salt, false, !this.#isRtcp);
    if (context !== 0) {
      kernel.octets.set(keys.authenticationKey, KEY);
      kernel.exports.prepareHmac(context);
      kernel.octets.fill(0, KEY, KEY + keys.authenticationKey.length);
    }
    this.#holding = new Holding(kernel, context, this.#keystream);
    dropped.register(this, this.#holding, this);
  }

  seal(jobs: readonly PacketJob[], count: number, results: Int32Array): void {
    const kernel = this.#kernel;
    let first = 0;
    for (let i = 0; i < count; i++) {
      const job = jobs[i] as PacketJob;
      const { input, output } = job;
      const length = input.length;
      const isStaged = !kernel.holds(output);
      // A packet that is longer than its place on the stage goes there alone.
      if (i - first === MAX_JOBS || (isStaged && i > first && length + this.overhead > STAGE_SLOT)) {
        this.#sealFrom(jobs, first, i, results);
        first = i;
      }
      const at = isStaged ? STAGE + (i - first) * STAGE_SLOT : output.byteOffset;
      if (isStaged || !isInPlace(input, output)) kernel.octets.set(input, at);
      let keystream = 0;
      const cryptLength = job.encrypted ? length - job.headerLength : 0;
      if (this.#keystream !== undefined && cryptLength > 0) {
        keystream = this.#keystream.find(job.ssrc, job.index, cryptLength);
        if (keystream === 0) {
          // Making keystream may take the place of what the jobs before this one wait for.
          if (i > first) {
            this.#sealFrom(jobs, first, i, results);
            // On the stage this packet moves to the first place.
            first = i;
            i--;
            continue;
          }
          keystream = this.#keystream.make(job.ssrc, job.index, cryptLength);
        } else {
          this.#keystream.note(job.ssrc, cryptLength);
        }
      }
      let covered = length;
      if (this.#isRtcp) {
        writeU32(kernel.octets, at + covered, indexWord(job));
        covered += INDEX_WORD;
      }
      // The MKI is not authenticated and stands before the tag (RFC 3711 §3.1).
      const mki = this.#mki;
      for (let k = 0; k < mki.length; k++) kernel.octets[at + covered + k] = mki[k] as number;
      this.#describe(i - first, job, at, covered, cryptLength, keystream);
      results[i] = length + this.overhead;
      if (isStaged && length + this.overhead > STAGE_SLOT) {
        this.#sealFrom(jobs, first, i + 1, results);
        first = i + 1;
      }
    }
    if (first < count) this.#sealFrom(jobs, first, count, results);
  }

  open(jobs: readonly PacketJob[], count: number, results: Int32Array): void {
    let first = 0;
    for (let i = 0; i < count; i++) {
      const job = jobs[i] as PacketJob;
      const { input, output } = job;
      const isStaged = !(isInPlace(input, output) && this.#kernel.holds(input));
      const isLong = isStaged && input.length > STAGE_SLOT;
      if (i - first === MAX_JOBS || (isLong && i > first)) {
        this.#openFrom(jobs, first, i, results);
        first = i;
      }
      const at = isStaged ? STAGE + (i - first) * STAGE_SLOT : input.byteOffset;
      if (isStaged) this.#kernel.octets.set(input, at);
      const end = input.length - this.overhead;
      const cryptLength = job.encrypted && this.#keystream !== undefined ? end - job.headerLength : 0;
      const keystream = cryptLength > 0 ? (this.#keystream as KernelKeystream).find(job.ssrc, job.index, cryptLength) : 0;
      this.#describe(i - first, job, at, this.#isRtcp ? end + INDEX_WORD : end, cryptLength, keystream);
      if (isLong) {
        this.#openFrom(jobs, first, i + 1, results);
        first = i + 1;
      }
    }
    if (first < count) this.#openFrom(jobs, first, count, results);
  }

  wipe(): void {
    dropped.unregister(this);
    this.#holding.release();
    this.#kernel.wipeScratch();
    wipe(this.#mki);
  }

  #describe(slot: number, job: PacketJob, at: number, covered: number, cryptLength: number, keystream: number): void {
    const { words } = this.#kernel;
    const word = FIRST_JOB + slot * JOB_WORDS;
    words[word + WORD.context] = this.#context;
    words[word + WORD.packet] = at;
    words[word + WORD.covered] = covered;
    words[word + WORD.cryptAt] = job.headerLength;
    words[word + WORD.cryptLength] = cryptLength;
    words[word + WORD.keystream] = keystream;
    // SRTP authenticates the packet and the ROC, SRTCP everything up to the index word (RFC 3711 §4.2).
    words[word + WORD.trailer] = rolloverOf(job.index);
    words[word + WORD.trailerLength] = this.#isRtcp ? 0 : 4;
    words[word + WORD.tagAt] = covered + this.#mki.length;
    words[word + WORD.tagLength] = this.#tagLength;
  }

  /** Seals the jobs that are described, and brings those on the stage to where they are wanted. */
  #sealFrom(jobs: readonly PacketJob[], first: number, end: number, results: Int32Array): void {
    const { exports, words } = this.#kernel;
    const last = JOBS + (end - first) * JOB_OCTETS;
    if (this.#context !== 0 && end - first > 1) exports.sealBatch(JOBS, last);
    else for (let job = JOBS; job < last; job += JOB_OCTETS) exports.seal(job);
    for (let i = first; i < end; i++) {
      const at = words[FIRST_JOB + (i - first) * JOB_WORDS + WORD.packet] as number;
      if (at < STAGE_END) (jobs[i] as PacketJob).output.set(this.#kernel.staged(i - first, results[i] as number));
    }
  }

  #openFrom(jobs: readonly PacketJob[], first: number, end: number, results: Int32Array): void {
    const { exports, words } = this.#kernel;
    const isBatch = this.#context !== 0 && end - first > 1;
    if (isBatch) exports.openBatch(JOBS, JOBS + (end - first) * JOB_OCTETS);
    for (let i = first; i < end; i++) {
      const slot = i - first;
      const word = FIRST_JOB + slot * JOB_WORDS;
      const authentic = isBatch ? words[word + WORD.authentic] : exports.open(JOBS + slot * JOB_OCTETS);
      if (authentic === 0) {
        results[i] = -1;
        continue;
      }
      const job = jobs[i] as PacketJob;
      const length = job.input.length - this.overhead;
      const at = words[word + WORD.packet] as number;
      const cryptLength = words[word + WORD.cryptLength] as number;
      if (cryptLength > 0) this.#decrypt(job, at, cryptLength, words[word + WORD.keystream] === 0);
      if (at < STAGE_END) job.output.set(this.#kernel.staged(slot, length));
      results[i] = length;
    }
  }

  /** An authentic packet whose keystream was not there is decrypted now. */
  #decrypt(job: PacketJob, at: number, length: number, isLate: boolean): void {
    const keystream = this.#keystream as KernelKeystream;
    if (!isLate) {
      keystream.note(job.ssrc, length);
      return;
    }
    const found = keystream.find(job.ssrc, job.index, length);
    if (found !== 0) keystream.note(job.ssrc, length);
    this.#kernel.exports.combine(at + job.headerLength, found === 0 ? keystream.make(job.ssrc, job.index, length) : found, length);
  }
}

/** Asking a view for its buffer costs ten times as much as its offset, so that comes first. */
function isInPlace(input: Uint8Array, output: Uint8Array): boolean {
  return input === output || (input.byteOffset === output.byteOffset && input.buffer === output.buffer);
}
