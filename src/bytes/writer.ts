import { CodecError, type Name, pathTo } from "./errors.js";

/**
 * Memory that one writer after the other takes and gives back wiped: memory of its own would cost it more than what it writes. A writer that finds
 * it gone, since another is at work or came to no end, makes it anew.
 */
let spare: Uint8Array | undefined;
const SPARE_OCTETS = 4096;

/** What is as short is copied sooner than another function is called to do it. */
const SHORT_OCTETS = 8;

/** The greatest number of so many octets. */
const MOST = [0, 0xff, 0xffff, 0xff_ffff, 0xffff_ffff];

function takeMemory(capacity: number): Uint8Array {
  if (capacity > SPARE_OCTETS) return new Uint8Array(capacity);
  const octets = spare ?? new Uint8Array(SPARE_OCTETS);
  spare = undefined;
  return octets;
}

/** @param used octets that were written */
function giveBack(octets: Uint8Array, used: number): void {
  if (octets.length !== SPARE_OCTETS) return;
  octets.fill(0, 0, used);
  spare = octets;
}

/** A growing octet string, network byte order. Values that do not fit their field throw instead of being cut. */
export class Writer {
  readonly #path: string;
  /** The structures that were entered, outermost first. */
  readonly #entered: Name[] = [];
  #octets: Uint8Array;
  #length = 0;
  /** True where `#octets` is what `finish` gave: it is somebody else's, and does not change. */
  #isHandedOut = false;
  /** Bits not yet making up an octet, and how many. */
  #held = 0;
  #heldBits = 0;

  constructor(path: string, capacity = 256) {
    this.#path = path;
    this.#octets = takeMemory(capacity);
  }

  get length(): number {
    return this.#length;
  }

  /** @throws CodecError `bytes.range` */
  u8(name: Name, value: number): void {
    if (value !== (value & 0xff)) throw this.#unfit(name, value, 1);
    this.#reserve(1);
    this.#octets[this.#length++] = value;
  }

  /** @throws CodecError `bytes.range` */
  u16(name: Name, value: number): void {
    this.#number(name, value, 2);
  }

  /** @throws CodecError `bytes.range` */
  u24(name: Name, value: number): void {
    this.#number(name, value, 3);
  }

  /** @throws CodecError `bytes.range` */
  u32(name: Name, value: number): void {
    this.#number(name, value, 4);
  }

  /** 1 to 16 bits, most significant first; they reach the output as soon as they make up an octet. @throws CodecError `bytes.range` */
  bits(name: Name, value: number, width: number): void {
    if (!Number.isInteger(value) || value < 0 || value >= 1 << width) {
      throw this.error("bytes.range", name, `${value} does not fit ${width} bits`);
    }
    this.#held = (this.#held << width) | value;
    this.#heldBits += width;
    while (this.#heldBits >= 8) {
      this.#heldBits -= 8;
      this.#reserve(1);
      this.#octets[this.#length++] = this.#held >>> this.#heldBits;
    }
    this.#held &= (1 << this.#heldBits) - 1;
  }

  /** The length, in 1 or 2 octets, of what follows; its path is the name with `Length` after it. @throws CodecError `bytes.range` */
  lengthOf(name: Name, value: number, width: 1 | 2): void {
    if (value >= 1 << (8 * width)) throw this.#unfit(`${name}Length`, value, width);
    this.#reserve(width);
    if (width === 2) this.#octets[this.#length++] = value >> 8;
    this.#octets[this.#length++] = value;
  }

  bytes(value: Uint8Array): void {
    const { length } = value;
    this.#reserve(length);
    if (length > SHORT_OCTETS) this.#octets.set(value, this.#length);
    else for (let i = 0; i < length; i++) this.#octets[this.#length + i] = value[i] as number;
    this.#length += length;
  }

  /** Overwrites one octet already written, e.g. a next-payload field that becomes known later. */
  patchU8(offset: number, value: number): void {
    if (this.#isHandedOut) this.#octets = this.#octets.slice();
    this.#isHandedOut = false;
    this.#octets[offset] = value;
  }

  /** Writes what `body` writes, preceded by its length. @throws CodecError `bytes.range` if the length does not fit */
  prefixed(name: Name, width: 1 | 2 | 4, body: () => void): void {
    const at = this.#length;
    this.#reserve(width);
    this.#length += width;
    body();
    const length = this.#length - at - width;
    this.#check(name, length, width);
    for (let i = 0; i < width; i++) this.#octets[at + i] = length >>> (8 * (width - 1 - i));
  }

  /** A copy of what was written. */
  finish(): Uint8Array {
    const octets = this.#octets;
    const written = octets.slice(0, this.#length);
    if (this.#isHandedOut) return written;
    this.#octets = written;
    this.#isHandedOut = true;
    giveBack(octets, written.length);
    return written;
  }

  /** What is written from here on until `leave` stands under a longer path: errors name it. */
  enter(name: Name): void {
    this.#entered.push(name);
  }

  /** The end of what was entered last. */
  leave(): void {
    this.#entered.pop();
  }

  error(code: string, name: Name, detail: string): CodecError {
    return new CodecError(code, pathTo(this.#entered.reduce(pathTo, this.#path), name), -1, detail);
  }

  #number(name: Name, value: number, width: number): void {
    this.#check(name, value, width);
    this.#reserve(width);
    for (let shift = 8 * (width - 1); shift >= 0; shift -= 8) this.#octets[this.#length++] = value >>> shift;
  }

  #check(name: Name, value: number, width: number): void {
    if (!Number.isInteger(value) || value < 0 || value > (MOST[width] as number)) throw this.#unfit(name, value, width);
  }

  #unfit(name: Name, value: number, width: number): CodecError {
    return this.error("bytes.range", name, `${value} does not fit ${width} octets`);
  }

  #reserve(extra: number): void {
    const needed = this.#length + extra;
    if (needed <= this.#octets.length) return;
    const grown = new Uint8Array(Math.max(needed, 2 * this.#octets.length));
    grown.set(this.#octets.subarray(0, this.#length));
    if (!this.#isHandedOut) giveBack(this.#octets, this.#length);
    this.#isHandedOut = false;
    this.#octets = grown;
  }
}
