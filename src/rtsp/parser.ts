import { CodecError, utf8Text } from "../bytes/index.js";
import { type RtspHeaders, type RtspItem, TOKEN } from "./message.js";

/** How much of a message is accepted; sizes in octets. */
export interface RtspLimits {
  /** Start line and headers together. Default 32768: a MIKEY message in base64 fits many times. */
  readonly maxHeader?: number;
  /** Default 128. */
  readonly maxHeaderLines?: number;
  /** Default 262144. */
  readonly maxBody?: number;
}

/** What came over the connection is not RTSP: nothing behind it can be understood. */
export class RtspSyntaxError extends CodecError {
  override readonly name = "RtspSyntaxError";
  /** The status that tells the sender: 400, 413 or 414. */
  readonly status: number;
  /** CSeq of the message where it was already known. */
  readonly sequenceNumber: number | undefined;

  constructor(code: string, status: number, offset: number, detail: string, sequenceNumber?: number) {
    super(code, "rtsp", offset, detail);
    this.status = status;
    this.sequenceNumber = sequenceNumber;
  }
}

/** Splits a stream of octets into requests, responses and interleaved frames. */
export interface RtspParser {
  /**
   * Takes octets as they arrive, split anywhere, and hands over what they complete.
   * @throws RtspSyntaxError `rtsp.start-line`, `rtsp.header`, `rtsp.header-too-large`, `rtsp.body-too-large`; items before the
   * fault were handed over, and every later call throws the same error
   */
  push(octets: Uint8Array, deliver: (item: RtspItem) => void): void;
  /** True between messages: the stream may end here. */
  readonly idle: boolean;
}

const CR = 13;
const LF = 10;
const DOLLAR = 0x24;

interface Head {
  readonly start: readonly string[];
  readonly headers: RtspHeaders;
  readonly bodyLength: number;
}

/** Creates a parser for one direction of a connection. Time is linear in the input, memory bounded by the limits. */
export function createRtspParser(limits: RtspLimits = {}): RtspParser {
  return new Parser(limits);
}

class Parser implements RtspParser {
  readonly #maxHeader: number;
  readonly #maxHeaderLines: number;
  readonly #maxBody: number;
  #octets: Uint8Array = new Uint8Array(4096);
  #start = 0;
  #end = 0;
  /** Octets of the current message already searched for the end of the headers. */
  #searched = 0;
  #head: Head | undefined;
  /** Octets of the stream before `#start`, for error offsets. */
  #consumed = 0;
  #failure: RtspSyntaxError | undefined;

  constructor(limits: RtspLimits) {
    this.#maxHeader = limits.maxHeader ?? 32_768;
    this.#maxHeaderLines = limits.maxHeaderLines ?? 128;
    this.#maxBody = limits.maxBody ?? 262_144;
  }

  get idle(): boolean {
    return this.#start === this.#end && this.#head === undefined;
  }

  push(octets: Uint8Array, deliver: (item: RtspItem) => void): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#append(octets);
    try {
      for (let item = this.#next(); item !== undefined; item = this.#next()) deliver(item);
    } catch (error) {
      if (error instanceof RtspSyntaxError) {
        this.#failure = error;
        this.#octets = new Uint8Array(0);
        this.#start = 0;
        this.#end = 0;
      }
      throw error;
    }
  }

  #append(octets: Uint8Array): void {
    const held = this.#end - this.#start;
    if (held + octets.length > this.#octets.length) {
      const grown = new Uint8Array(Math.max(2 * this.#octets.length, held + octets.length));
      grown.set(this.#octets.subarray(this.#start, this.#end));
      this.#octets = grown;
      this.#start = 0;
      this.#end = held;
    } else if (this.#end + octets.length > this.#octets.length) {
      this.#octets.copyWithin(0, this.#start, this.#end);
      this.#start = 0;
      this.#end = held;
    }
    this.#octets.set(octets, this.#end);
    this.#end += octets.length;
  }

  #consume(length: number): Uint8Array {
    const taken = this.#octets.slice(this.#start, this.#start + length);
    this.#start += length;
    this.#consumed += length;
    return taken;
  }

  #next(): RtspItem | undefined {
    if (this.#head === undefined) {
      // RFC 2326 §4 (RFC 2616 §4.1): empty lines before a message are passed over.
      while (this.#start < this.#end && (this.#octets[this.#start] === CR || this.#octets[this.#start] === LF)) this.#consume(1);
      if (this.#octets[this.#start] === DOLLAR && this.#start < this.#end) return this.#frame();
      const length = this.#headLength();
      if (length === undefined) return undefined;
      this.#head = this.#parseHead(this.#consume(length));
      this.#searched = 0;
    }
    if (this.#end - this.#start < this.#head.bodyLength) return undefined;
    const { start, headers, bodyLength } = this.#head;
    this.#head = undefined;
    const body = this.#consume(bodyLength);
    const [first = "", second = "", third = ""] = start;
    if (first.startsWith("RTSP/"))
      return { kind: "response", version: first, status: Number(second), reason: third, headers, body };
    return { kind: "request", method: first, uri: second, version: third, headers, body };
  }

  #frame(): RtspItem | undefined {
    if (this.#end - this.#start < 4) return undefined;
    const channel = this.#octets[this.#start + 1] as number;
    const length = ((this.#octets[this.#start + 2] as number) << 8) | (this.#octets[this.#start + 3] as number);
    if (this.#end - this.#start < 4 + length) return undefined;
    this.#consume(4);
    return { kind: "frame", channel, data: this.#consume(length) };
  }

  /** Octets up to and including the empty line, or undefined while it has not arrived. A line may end with LF alone. */
  #headLength(): number | undefined {
    const available = this.#end - this.#start;
    let at = this.#searched;
    for (; at < available; at++) {
      if (at >= this.#maxHeader) {
        throw this.#fault("rtsp.header-too-large", 400, at, `headers of more than ${this.#maxHeader} octets`);
      }
      if (this.#octets[this.#start + at] !== LF) continue;
      const previous = at - 1 - (this.#octets[this.#start + at - 1] === CR ? 1 : 0);
      if (previous >= 0 && this.#octets[this.#start + previous] === LF) return at + 1;
    }
    this.#searched = at;
    return undefined;
  }

  #parseHead(octets: Uint8Array): Head {
    const text = utf8Text(octets) ?? latin1(octets);
    const lines = text.split(/\r?\n/);
    // The empty line and what the split leaves behind it.
    lines.length -= 2;
    if (lines.length - 1 > this.#maxHeaderLines) {
      throw this.#fault("rtsp.header-too-large", 400, 0, `more than ${this.#maxHeaderLines} header lines`);
    }
    const start = this.#parseStart(lines[0] ?? "");
    const fields: [name: string, value: string][] = [];
    for (const line of lines.slice(1)) {
      if (line.startsWith(" ") || line.startsWith("\t")) {
        // RFC 2326 §4.2 (RFC 2616 §2.2): a folded line continues the value.
        const last = fields.at(-1);
        if (last === undefined || hasControl(line)) throw this.#fault("rtsp.header", 400, 0, "a continuation of no header");
        last[1] = `${last[1]} ${line.trim()}`.trim();
        continue;
      }
      const colon = line.indexOf(":");
      const written = line.slice(0, Math.max(colon, 0));
      const name = written.trimEnd();
      if (!TOKEN.test(name) || hasControl(line)) {
        throw this.#fault("rtsp.header", 400, 0, "a header line is name: value", knownSequenceNumber(fields));
      }
      // Readers differ over a space before the colon (RFC 7230 §3.2.4), so it must not decide where the message ends.
      if (name !== written && FRAMING.test(name)) {
        throw this.#fault("rtsp.header", 400, 0, `a space between ${name} and its colon`, knownSequenceNumber(fields));
      }
      fields.push([name, line.slice(colon + 1).trim()]);
    }
    return { start, headers: fields, bodyLength: this.#bodyLength(fields) };
  }

  #parseStart(line: string): readonly string[] {
    const response = /^(RTSP\/\d{1,3}\.\d{1,3}) +(\d{3})(?: (.*))?$/.exec(line);
    if (response !== null) return [response[1] as string, response[2] as string, response[3] ?? ""];
    const request = /^([^ ]+) +([^ ]+) +(RTSP\/\d{1,3}\.\d{1,3}) *$/.exec(line);
    if (request === null || !TOKEN.test(request[1] as string)) {
      throw this.#fault("rtsp.start-line", 400, 0, "neither a request nor a status line");
    }
    const uri = request[2] as string;
    if (uri.length > 4096) throw this.#fault("rtsp.start-line", 414, 0, "a URI of more than 4096 characters");
    if (!/^[\x21-\x7e]+$/.test(uri)) throw this.#fault("rtsp.start-line", 400, 0, "a URI is visible ASCII");
    return [request[1] as string, uri, request[3] as string];
  }

  /** Two Content-Lengths that differ would let two readers see two messages. */
  #bodyLength(fields: RtspHeaders): number {
    // RTSP has no transfer codings (RFC 2326 §4.2): who sends one counts octets otherwise than we do.
    if (fields.some(([name]) => name.toLowerCase() === "transfer-encoding")) {
      throw this.#fault("rtsp.header", 400, 0, "RTSP has no Transfer-Encoding", knownSequenceNumber(fields));
    }
    const values = new Set(fields.filter(([name]) => name.toLowerCase() === "content-length").map(([, value]) => value));
    if (values.size === 0) return 0;
    const [value = ""] = values;
    if (values.size > 1 || !/^\d{1,10}$/.test(value)) {
      throw this.#fault("rtsp.header", 400, 0, "Content-Length is not one number", knownSequenceNumber(fields));
    }
    if (Number(value) > this.#maxBody) {
      throw this.#fault("rtsp.body-too-large", 413, 0, `a body of more than ${this.#maxBody} octets`, knownSequenceNumber(fields));
    }
    return Number(value);
  }

  #fault(code: string, status: number, at: number, detail: string, sequenceNumber?: number): RtspSyntaxError {
    return new RtspSyntaxError(code, status, this.#consumed + at, detail, sequenceNumber);
  }
}

/** Headers that say where a message ends, to us or to others. */
const FRAMING = /^(content-length|transfer-encoding)$/i;

/** A control character but tab: a carriage return alone is the end of a line to some readers. */
function hasControl(line: string): boolean {
  for (let at = 0; at < line.length; at++) {
    const unit = line.charCodeAt(at);
    if ((unit < 32 && unit !== 9) || unit === 127) return true;
  }
  return false;
}

function knownSequenceNumber(fields: RtspHeaders): number | undefined {
  const value = fields.find(([name]) => name.toLowerCase() === "cseq")?.[1] ?? "";
  return /^\d{1,10}$/.test(value) ? Number(value) : undefined;
}

function latin1(octets: Uint8Array): string {
  let text = "";
  for (const octet of octets) text += String.fromCharCode(octet);
  return text;
}
