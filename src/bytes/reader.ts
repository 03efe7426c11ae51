import { CodecError } from "./errors.js";

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
  readonly #name: string;
  /** The reader under which this one was made; its path precedes the name. Paths are put together only when they are needed. */
  #parent: Reader | undefined;
  readonly #octets: Uint8Array;
  readonly #end: number;
  readonly #trace: FieldSpan[] | undefined;
  #at: number;
  /** Bits already read of the octet at `#at`; 0 between octets. */
  #bit = 0;

  /** @param trace when given, receives one entry per field read */
  constructor(octets: Uint8Array, path: string, trace?: FieldSpan[], start = 0, end = octets.length) {
    this.#octets = octets;
    this.#name = path;
    this.#trace = trace;
    this.#at = start;
    this.#end = end;
  }

  /** Dotted path of what is being read. */
  get path(): string {
    if (this.#parent === undefined) return this.#name;
    return this.#parent.#child(this.#name);
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
  u8(name: string): number {
    return this.#number(name, 1);
  }

  /** Two octets, network byte order. @throws CodecError `bytes.truncated` */
  u16(name: string): number {
    return this.#number(name, 2);
  }

  /** Three octets, network byte order. @throws CodecError `bytes.truncated` */
  u24(name: string): number {
    return this.#number(name, 3);
  }

  /** Four octets, network byte order, unsigned. @throws CodecError `bytes.truncated` */
  u32(name: string): number {
    return this.#number(name, 4);
  }

  /**
   * The next 1 to 16 bits, most significant first. Octet reads may follow once the bits read add up to whole octets.
   * @throws CodecError `bytes.truncated`
   */
  bits(name: string, width: number): number {
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
    this.#trace?.push({ path: this.#child(name), offset: start, length: span, value, bit: first, bits: width });
    return value;
  }

  /** A copy of the next `length` octets. @throws CodecError `bytes.truncated` */
  bytes(name: string, length: number): Uint8Array {
    const start = this.#advance(name, length);
    const value = this.#octets.slice(start, start + length);
    this.#trace?.push({ path: this.#child(name), offset: start, length, value });
    return value;
  }

  /** The length, in 1 or 2 octets, of what follows; its path is the name with `Length` after it. @throws CodecError `bytes.truncated` */
  length(name: string, width: 1 | 2): number {
    const start = this.#at;
    if (width > this.#end - start) {
      throw this.error("bytes.truncated", `${name}Length`, `need ${width} octets, have ${this.#end - start}`);
    }
    const first = this.#octets[start] as number;
    const value = width === 1 ? first : (first << 8) | (this.#octets[start + 1] as number);
    this.#at = start + width;
    this.#trace?.push({ path: this.#child(`${name}Length`), offset: start, length: width, value });
    return value;
  }

  /** A copy of everything before the wall. */
  rest(name: string): Uint8Array {
    return this.bytes(name, this.remaining);
  }

  /** A reader of exactly the next `length` octets; this reader moves past them. @throws CodecError `bytes.truncated` */
  sub(name: string, length: number): Reader {
    const start = this.#advance(name, length);
    const inner = new Reader(this.#octets, name, this.#trace, start, start + length);
    inner.#parent = this;
    return inner;
  }

  /** The same cursor position and wall under a longer path; the two share nothing, so use `sub` where a length is known. */
  within(name: string): Reader {
    const inner = new Reader(this.#octets, name, this.#trace, this.#at, this.#end);
    inner.#parent = this;
    inner.#bit = this.#bit;
    return inner;
  }

  /** Moves to where a reader made by `within` has come. */
  resume(inner: Reader): void {
    this.#at = inner.#at;
    this.#bit = inner.#bit;
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
  error(code: string, name: string, detail: string): CodecError {
    return new CodecError(code, this.#child(name), this.#at, detail);
  }

  #child(name: string): string {
    const path = this.path;
    if (name === "") return path;
    return name.startsWith("[") ? path + name : `${path}.${name}`;
  }

  #number(name: string, width: number): number {
    const start = this.#advance(name, width);
    let value = 0;
    for (let i = 0; i < width; i++) value = value * 256 + (this.#octets[start + i] as number);
    this.#trace?.push({ path: this.#child(name), offset: start, length: width, value });
    return value;
  }

  #advance(name: string, length: number): number {
    const start = this.#at;
    if (length > this.#end - start) {
      throw this.error("bytes.truncated", name, `need ${length} octets, have ${this.#end - start}`);
    }
    this.#at = start + length;
    return start;
  }
}
