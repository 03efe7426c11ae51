import { wipe } from "../bytes/index.js";
import type { AesGcm, CryptoProvider, Hmac } from "../crypto/index.js";
import type { PacketCipher, PacketCipherFactory, PacketCipherParameters, PacketJob } from "./contracts.js";
import { RTCP_CLEAR_HEADER, readU32, writeU32 } from "./headers.js";
import { Keystream } from "./keystream.js";
import { rolloverOf } from "./rollover.js";

/** Octets of the word with E flag and SRTCP index (RFC 3711 §3.4). */
export const INDEX_WORD = 4;
const E_FLAG = 0x8000_0000;
export const AEAD_TAG = 16;

/** The portable transforms over the primitives of a CryptoProvider. */
export function packetCipherFactory(crypto: CryptoProvider): PacketCipherFactory {
  return (parameters) =>
    parameters.suite.cipher === "gcm" ? new AeadCipher(crypto, parameters) : new HmacCipher(crypto, parameters);
}

/**
 * Copies the first octets of a packet, for nothing where the output is the packet's own memory: to ask views for their buffers takes
 * longer.
 */
function copyStart(input: Uint8Array, output: Uint8Array, length: number): void {
  if (length < 64) for (let i = 0; i < length; i++) output[i] = input[i] as number;
  else output.set(length === input.length ? input : input.subarray(0, length));
}

/** AES-CM or NULL encryption with HMAC-SHA1 (RFC 3711 §3.1, §3.4, §4.1, §4.2; RFC 6188). */
class HmacCipher implements PacketCipher {
  readonly overhead: number;
  readonly #keystream: Keystream | undefined;
  readonly #hmac: Hmac;
  readonly #tag: Uint8Array;
  readonly #tagLength: number;
  readonly #mki: Uint8Array;
  readonly #isRtcp: boolean;
  readonly #rollover = new Uint8Array(4);
  /** A packet under way, aligned so that words can be combined: from 64 octets on that is 2 to 3 times as fast as octets. */
  #scratch = new Uint8Array(0);
  #words = new Int32Array(this.#scratch.buffer);

  constructor(crypto: CryptoProvider, { protocol, suite, keys, tagLength, mki }: PacketCipherParameters) {
    this.#isRtcp = protocol === "rtcp";
    this.overhead = tagLength + mki.length + (this.#isRtcp ? INDEX_WORD : 0);
    if (suite.cipher === "cm") {
      // SRTCP packets are far apart: keystream made ahead would lie about unused.
      this.#keystream = new Keystream(crypto.aesBlocks(keys.encryptionKey), keys.salt, crypto.callsAreCostly && !this.#isRtcp);
    }
    this.#hmac = crypto.hmac("sha1", keys.authenticationKey);
    this.#tag = new Uint8Array(this.#hmac.length);
    this.#tagLength = tagLength;
    this.#mki = mki.slice();
  }

  seal(jobs: readonly PacketJob[], count: number, results: Int32Array): void {
    for (let i = 0; i < count; i++) {
      const job = jobs[i] as PacketJob;
      const { output } = job;
      let end = job.input.length;
      this.#crypt(job, end);
      if (this.#isRtcp) {
        writeU32(output, end, indexWord(job));
        end += INDEX_WORD;
      }
      if (this.#tagLength > 0) this.#computeTag(output, end, job.index);
      // The MKI is not authenticated and stands before the tag (RFC 3711 §3.1).
      for (let k = 0; k < this.#mki.length; k++) output[end++] = this.#mki[k] as number;
      for (let k = 0; k < this.#tagLength; k++) output[end++] = this.#tag[k] as number;
      results[i] = end;
    }
  }

  open(jobs: readonly PacketJob[], count: number, results: Int32Array): void {
    for (let i = 0; i < count; i++) {
      const job = jobs[i] as PacketJob;
      const end = job.input.length - this.overhead;
      if (this.#tagLength > 0 && !this.#isAuthentic(job, this.#isRtcp ? end + INDEX_WORD : end)) {
        results[i] = -1;
        continue;
      }
      this.#crypt(job, end);
      results[i] = end;
    }
  }

  wipe(): void {
    this.#keystream?.wipe();
    this.#hmac.wipe();
    wipe(this.#tag, this.#scratch);
  }

  /** SRTP authenticates the packet and the ROC, SRTCP everything up to the index word (RFC 3711 §4.2). */
  #computeTag(packet: Uint8Array, length: number, index: number): void {
    if (this.#isRtcp) {
      this.#hmac.computeInto(this.#tag, packet, length);
    } else {
      writeU32(this.#rollover, 0, rolloverOf(index));
      this.#hmac.computeInto(this.#tag, packet, length, this.#rollover);
    }
  }

  #isAuthentic(job: PacketJob, length: number): boolean {
    const { input } = job;
    this.#computeTag(input, length, job.index);
    const at = input.length - this.#tagLength;
    let difference = 0;
    for (let k = 0; k < this.#tagLength; k++) difference |= (input[at + k] as number) ^ (this.#tag[k] as number);
    return difference === 0;
  }

  /** Copies the header and encrypts or decrypts the rest up to `end`, which is the same operation. */
  #crypt(job: PacketJob, end: number): void {
    const { input, output, headerLength } = job;
    const length = end - headerLength;
    if (this.#keystream === undefined || !job.encrypted || length === 0) {
      copyStart(input, output, end);
      return;
    }
    const offset = this.#keystream.find(job.ssrc, job.index, length);
    if (length < 64) {
      const keystream = this.#keystream.octets;
      const shift = offset - headerLength;
      copyStart(input, output, headerLength);
      for (let k = headerLength; k < end; k++) output[k] = (input[k] as number) ^ (keystream[shift + k] as number);
      return;
    }
    if (this.#scratch.length < end) {
      wipe(this.#scratch);
      this.#scratch = new Uint8Array((end + 3) & ~3);
      this.#words = new Int32Array(this.#scratch.buffer);
    }
    const words = this.#words;
    const keystream = this.#keystream.words;
    this.#scratch.set(input.length === end ? input : input.subarray(0, end));
    // Headers of RTP and RTCP are whole words, and keystream begins at a whole block.
    const shift = (offset - headerLength) >> 2;
    for (let k = headerLength >> 2; k << 2 < end; k++) words[k] = (words[k] as number) ^ (keystream[shift + k] as number);
    output.set(this.#scratch.length === end ? this.#scratch : this.#scratch.subarray(0, end));
  }
}

/** AES-GCM (RFC 7714). */
class AeadCipher implements PacketCipher {
  readonly overhead: number;
  readonly #gcm: AesGcm;
  readonly #salt: DataView;
  readonly #nonce = new Uint8Array(12);
  readonly #nonceView = new DataView(this.#nonce.buffer);
  readonly #mki: Uint8Array;
  readonly #isRtcp: boolean;
  /** Associated data of SRTCP, which lie apart in the packet: header (or whole packet) and index word. */
  #associated = new Uint8Array(RTCP_CLEAR_HEADER + INDEX_WORD);

  constructor(crypto: CryptoProvider, { protocol, keys, mki }: PacketCipherParameters) {
    this.#isRtcp = protocol === "rtcp";
    this.overhead = AEAD_TAG + mki.length + (this.#isRtcp ? INDEX_WORD : 0);
    this.#gcm = crypto.aesGcm(keys.encryptionKey);
    this.#salt = new DataView(keys.salt.slice().buffer);
    this.#mki = mki.slice();
  }

  seal(jobs: readonly PacketJob[], count: number, results: Int32Array): void {
    for (let i = 0; i < count; i++) {
      const job = jobs[i] as PacketJob;
      const { input, output } = job;
      const clear = this.#clearLength(job, input.length);
      const associated = this.#associatedData(input, clear, indexWord(job));
      copyStart(input, output, clear);
      let end = input.length + AEAD_TAG;
      this.#gcm.seal(this.#nonceOf(job), associated, input.subarray(clear), output.subarray(clear, end));
      if (this.#isRtcp) {
        // The tag is part of the ciphertext and stands before the index word (RFC 7714 §9.2).
        writeU32(output, end, indexWord(job));
        end += INDEX_WORD;
      }
      output.set(this.#mki, end);
      results[i] = end + this.#mki.length;
    }
  }

  open(jobs: readonly PacketJob[], count: number, results: Int32Array): void {
    for (let i = 0; i < count; i++) {
      const job = jobs[i] as PacketJob;
      const { input, output } = job;
      const end = input.length - this.overhead;
      const clear = this.#clearLength(job, end);
      const associated = this.#associatedData(input, clear, this.#isRtcp ? readU32(input, end + AEAD_TAG) : 0);
      const sealed = input.subarray(clear, end + AEAD_TAG);
      if (!this.#gcm.open(this.#nonceOf(job), associated, sealed, output.subarray(clear, end))) {
        results[i] = -1;
        continue;
      }
      copyStart(input, output, clear);
      results[i] = end;
    }
  }

  wipe(): void {
    this.#gcm.wipe();
    wipe(this.#nonce, this.#associated, new Uint8Array(this.#salt.buffer));
  }

  /** With E = 0 the whole SRTCP packet is associated data and nothing is plaintext (RFC 7714 §9.3). */
  #clearLength(job: PacketJob, end: number): number {
    return job.encrypted ? job.headerLength : end;
  }

  #associatedData(packet: Uint8Array, clear: number, word: number): Uint8Array {
    if (!this.#isRtcp) return packet.subarray(0, clear);
    const length = clear + INDEX_WORD;
    if (this.#associated.length < length) this.#associated = new Uint8Array(length);
    const associated = this.#associated.subarray(0, length);
    associated.set(packet.subarray(0, clear));
    writeU32(associated, clear, word);
    return associated;
  }

  /** Salt XOR (0000 ‖ SSRC ‖ ROC ‖ SEQ), and for SRTCP (0000 ‖ SSRC ‖ 0000 ‖ index): one form, as ROC ‖ SEQ is the index (RFC 7714 §8.1, §9.1). */
  #nonceOf(job: PacketJob): Uint8Array {
    const view = this.#nonceView;
    const salt = this.#salt;
    view.setUint16(0, salt.getUint16(0));
    view.setUint32(2, salt.getUint32(2) ^ job.ssrc);
    view.setUint32(6, salt.getUint32(6) ^ rolloverOf(job.index));
    view.setUint16(10, salt.getUint16(10) ^ (job.index & 0xffff));
    return this.#nonce;
  }
}

export function indexWord(job: PacketJob): number {
  return job.encrypted ? E_FLAG + job.index : job.index;
}
