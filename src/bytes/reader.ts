import { CodecError, type Name, pathTo } from "./errors.js";

/** One decoded field: where its octets stand in the outermost input. The inspector's octet map is a list of these. */
export interface FieldSpan {
  /** Dotted path, e.g. `mikey.SP.params[2].value`. */
  readonly path: string;
  readonly offset: number;
  readonly length: number;
  /** The value as read: a number, or the octets themselves. */
  readonly value: number | Uint8Array;
  /** For a field of bits: its first bit, counted from the most significant bit of the octet at `offset`. */
  readonly bit?: number;
  /** For a field of bits: how many. */
  readonly bits?: number;
}

/**
 * A bounded cursor over octets. Every read names its field: a short input becomes
 * `mikey.SP.params @5: need 9 octets, have 1`, and with a trace every field leaves its span.
 * A sub-reader is a wall: what is inside a length field cannot read past it.
 */
export class Reader {
  readonly #octets: Uint8Array;
  readonly #path: string;
  /** The reader under which this one was made; its path precedes. Paths are put together only when they are needed. */
  #parent: Reader | undefined;
  /** The structures that were entered, outermost first. */
  readonly #entered: Name[] = [];
  #end: number;
  readonly #trace: FieldSpan[] | undefined;
  /** What octets are given out of without a copy; undefined where they are copied. */
  readonly #shared: ArrayBufferLike | undefined;
  #at: number;
  /** Bits already read of the octet at `#at`; 0 between octets. */
  #bit = 0;

  /**
   * @param trace when given, receives one entry per field read
   * @param sharing whether octets are given out as views instead of copies: whoever holds one holds the whole input, and sees what becomes of it
   */
  constructor(octets: Uint8Array, path: string, trace?: FieldSpan[], start = 0, end = octets.length, sharing = false) {
    this.#octets = octets;
    this.#path = path;
    this.#trace = trace;
    this.#at = start;
    this.#end = end;
    this.#shared = sharing ? octets.buffer : undefined;
  }

  /** Dotted path of what is being read. */
  get path(): string {
    const path = this.#parent === undefined ? this.#path : pathTo(this.#parent.path, this.#path);
    return this.#entered.reduce(pathTo, path);
  }

  /** Offset of the next octet in the outermost input. */
  get offset(): number {
    return this.#at;
  }

  /** Octets left before the wall. */
  get remaining(): number {
    return this.#end - this.#at;
  }

  /** One octet. @throws CodecError `bytes.truncated` */
  u8(name: Name): number {
    const start = this.#advance(name, 1);
    const value = this.#octets[start] as number;
    this.#trace?.push({ path: pathTo(this.path, name), offset: start, length: 1, value });
    return value;
  }

  /** Two octets, network byte order. @throws CodecError `bytes.truncated` */
  u16(name: Name): number {
    return this.#number(name, 2);
  }

  /** Three octets, network byte order. @throws CodecError `bytes.truncated` */
  u24(name: Name): number {
    return this.#number(name, 3);
  }

  /** Four octets, network byte order, unsigned. @throws CodecError `bytes.truncated` */
  u32(name: Name): number {
    return this.#number(name, 4);
  }

  /**
   * The next 1 to 16 bits, most significant first. Octet reads may follow once the bits read add up to whole octets.
   * @throws CodecError `bytes.truncated`
   */
  bits(name: Name, width: number): number {
    const start = this.#at;
    const first = this.#bit;
    const span = (first + width + 7) >> 3;
    if (span > this.#end - start) throw this.error("bytes.truncated", name, `need ${span} octets, have ${this.#end - start}`);
    let held = 0;
    for (let i = 0; i < span; i++) held = (held << 8) | (this.#octets[start + i] as number);
    const after = first + width;
    const value = (held >>> (span * 8 - after)) & ((1 << width) - 1);
    this.#at = start + (after >> 3);
    this.#bit = after & 7;
    this.#trace?.push({ path: pathTo(this.path, name), offset: start, length: span, value, bit: first, bits: width });
    return value;
  }

  /** The next `length` octets: a copy, or where this reader shares, a view. @throws CodecError `bytes.truncated` */
  bytes(name: Name, length: number): Uint8Array {
    const start = this.#advance(name, length);
    const value =
      this.#shared === undefined
        ? this.#octets.slice(start, start + length)
        : new Uint8Array(this.#shared, this.#octets.byteOffset + start, length);
    this.#trace?.push({ path: pathTo(this.path, name), offset: start, length, value });
    return value;
  }

  /** The length, in 1 or 2 octets, of what follows; its path is the name with `Length` after it. @throws CodecError `bytes.truncated` */
  length(name: Name, width: 1 | 2): number {
    const start = this.#at;
    if (width > this.#end - start) {
      throw this.error("bytes.truncated", `${name}Length`, `need ${width} octets, have ${this.#end - start}`);
    }
    const first = this.#octets[start] as number;
    const value = width === 1 ? first : (first << 8) | (this.#octets[start + 1] as number);
    this.#at = start + width;
    this.#trace?.push({ path: pathTo(this.path, `${name}Length`), offset: start, length: width, value });
    return value;
  }

  /** Everything before the wall, as `bytes` gives it. */
  rest(name: Name): Uint8Array {
    return this.bytes(name, this.remaining);
  }

  /** A reader of exactly the next `length` octets; this reader moves past them. @throws CodecError `bytes.truncated` */
  sub(name: string, length: number): Reader {
    const start = this.#advance(name, length);
    const inner = new Reader(this.#octets, name, this.#trace, start, start + length, this.#shared !== undefined);
    inner.#parent = this;
    return inner;
  }

  /**
   * What is read from here on until `leave` stands under a longer path and, where a length is given, before a wall.
   * @returns the wall as it was, for `leave`
   * @throws CodecError `bytes.truncated`
   */
  enter(name: Name, length?: number): number {
    const wall = this.#end;
    if (length !== undefined) {
      if (length > wall - this.#at) throw this.#truncated(name, length);
      this.#end = this.#at + length;
    }
    this.#entered.push(name);
    return wall;
  }

  /** The end of what was entered last. @param wall what `enter` gave */
  leave(wall: number): void {
    this.#end = wall;
    this.#entered.pop();
  }

  /** An octet ahead, without moving; undefined past the wall. */
  peek(ahead = 0): number | undefined {
    return this.#at + ahead < this.#end ? this.#octets[this.#at + ahead] : undefined;
  }

  /** @throws CodecError `bytes.trailing` if octets are left before the wall */
  expectEnd(): void {
    if (this.remaining > 0) throw this.error("bytes.trailing", "", `${this.remaining} octets after the end`);
  }

  /** An error at the current position, under this reader's path. */
  error(code: string, name: Name, detail: string): CodecError {
    return new CodecError(code, pathTo(this.path, name), this.#at, detail);
  }

  #number(name: Name, width: number): number {
    const start = this.#advance(name, width);
    let value = 0;
    for (let i = 0; i < width; i++) value = value * 256 + (this.#octets[start + i] as number);
    this.#trace?.push({ path: pathTo(this.path, name), offset: start, length: width, value });
    return value;
  }

  #advance(name: Name, length: number): number {
    const start = this.#at;
    if (length > this.#end - start) throw this.#truncated(name, length);
    this.#at = start + length;
    return start;
  }

  #truncated(name: Name, length: number): CodecError {
    return this.error("bytes.truncated", name, `need ${length} octets, have ${this.remaining}`);
  }
}
