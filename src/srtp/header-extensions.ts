import { WatchwordError } from "../bytes/index.js";
import type { AesBlocks } from "../crypto/index.js";
import { Keystream } from "./keystream.js";

/** Octets of the fixed RTP header, and of the word with profile and length that a header extension begins with (RFC 3550 §5.3.1). */
const [FIXED_HEADER, EXTENSION_WORD] = [12, 4];
const MAX_ID = 255;
const ONE_BYTE_PROFILE = 0xbede;
/** The upper twelve bits of the profile of two-byte headers (RFC 8285 §4.3). */
const TWO_BYTE_PROFILE = 0x100;
/** The id that ends a one-byte extension (RFC 8285 §4.2). */
const ONE_BYTE_STOP = 15;

/**
 * Which octets of a packet's header extension are encrypted: the bodies of the elements with the negotiated ids, not their
 * headers and not padding (RFC 6904 §3). Kept for the packet scanned last.
 */
export class EncryptedElements {
  /** Bodies found: pairs of first octet and end, as offsets into the packet. */
  readonly ranges: number[] = [];
  count = 0;
  /** Offset of the first element, where keystream and mask begin. */
  base = 0;
  readonly #isEncrypted = new Uint8Array(MAX_ID + 1);

  /** @throws WatchwordError `srtp.policy` for an id that is not an integer from 1 to 255 */
  constructor(ids: readonly number[]) {
    for (const id of ids) {
      if (!Number.isInteger(id) || id < 1 || id > MAX_ID) {
        throw new WatchwordError("srtp.policy", `the id of a header extension element is an integer from 1 to ${MAX_ID}`);
      }
      this.#isEncrypted[id] = 1;
    }
  }

  /**
   * Finds the bodies in a packet whose header is known to fit. Ids and lengths are never encrypted, so sender and receiver find the same.
   * @returns false where an element reaches beyond the extension: its body could not be told from what follows
   */
  scan(packet: Uint8Array, headerLength: number): boolean {
    this.count = 0;
    const first = packet[0] as number;
    if ((first & 0x10) === 0) return true;
    const word = FIXED_HEADER + 4 * (first & 0x0f);
    const profile = ((packet[word] as number) << 8) | (packet[word + 1] as number);
    this.base = word + EXTENSION_WORD;
    if (profile === ONE_BYTE_PROFILE) return this.#scanOneByte(packet, headerLength);
    // Other profiles have no elements.
    return profile >> 4 !== TWO_BYTE_PROFILE || this.#scanTwoByte(packet, headerLength);
  }

  /** RFC 8285 §4.2. */
  #scanOneByte(packet: Uint8Array, end: number): boolean {
    for (let at = this.base; at < end; ) {
      const header = packet[at] as number;
      const id = header >> 4;
      if (header === 0) {
        at++;
        continue;
      }
      // Id 0 with a length, like id 15, ends the elements.
      if (id === 0 || id === ONE_BYTE_STOP) return true;
      const bodyEnd = at + 2 + (header & 0x0f);
      if (bodyEnd > end) return false;
      this.#note(id, at + 1, bodyEnd);
      at = bodyEnd;
    }
    return true;
  }

  /** RFC 8285 §4.3. */
  #scanTwoByte(packet: Uint8Array, end: number): boolean {
    for (let at = this.base; at < end; ) {
      const id = packet[at] as number;
      if (id === 0) {
        at++;
        continue;
      }
      if (at + 1 >= end) return false;
      const bodyEnd = at + 2 + (packet[at + 1] as number);
      if (bodyEnd > end) return false;
      this.#note(id, at + 2, bodyEnd);
      at = bodyEnd;
    }
    return true;
  }

  #note(id: number, from: number, to: number): void {
    if (this.#isEncrypted[id] === 0 || from === to) return;
    this.ranges[2 * this.count] = from;
    this.ranges[2 * this.count + 1] = to;
    this.count++;
  }
}

/**
 * Encrypts and decrypts header extension elements under k_he and k_hs of one master key: AES-CM with the IV of the payload
 * (RFC 6904 §3.2), with AEAD_AES_GCM too (RFC 7714 §8.3), whose salt of 12 octets is padded with zeros on the right.
 */
export class HeaderExtensionCipher {
  readonly #keystream: Keystream;

  /** @param prefetch whether keystream is made ahead, as for payloads */
  constructor(blocks: AesBlocks, salt: Uint8Array, prefetch: boolean) {
    this.#keystream = new Keystream(blocks, salt, prefetch);
  }

  /** Encrypts or decrypts, which is the same, the elements that were scanned last, in place. */
  apply(packet: Uint8Array, elements: EncryptedElements, ssrc: number, index: number): void {
    const { base, count, ranges } = elements;
    const keystreamAt = this.#keystream.find(ssrc, index, (ranges[2 * count - 1] as number) - base) - base;
    const { octets } = this.#keystream;
    for (let i = 0; i < count; i++) {
      const to = ranges[2 * i + 1] as number;
      for (let at = ranges[2 * i] as number; at < to; at++) {
        packet[at] = (packet[at] as number) ^ (octets[keystreamAt + at] as number);
      }
    }
  }

  wipe(): void {
    this.#keystream.wipe();
  }
}
