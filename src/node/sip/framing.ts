import { WatchwordError } from "../../bytes/index.js";
import { contentLengthOf, endOfHead, MAX_BODY, MAX_HEAD, parseHead, type SipMessage } from "./message.js";

/** Cuts a stream into messages. */
export interface SipFramer {
  /**
   * Takes what arrived and hands out what is complete. Line breaks between messages are keep-alives (RFC 5626 §3.5.1).
   * @throws WatchwordError `node.sip-message` where the stream cannot be followed any further
   */
  push(octets: Uint8Array): SipMessage[];
  /** Whether a message has begun and not ended. */
  readonly partial: boolean;
  /** How many keep-alive requests (CRLF CRLF) came since this was last asked. */
  takePings(): number;
}

/** A framer for one direction of one connection; holds one message of bounded size at the most. */
export function createSipFramer(): SipFramer {
  return new Framer();
}

class Framer implements SipFramer {
  /** Octets that came and belong to no message yet are `#memory` up to `#length`. */
  #memory: Uint8Array = new Uint8Array(0);
  #length = 0;
  /** Octets that were searched for the end of the head. */
  #searched = 0;
  #head: { readonly end: number; readonly length: number } | undefined;
  #lineBreaks = 0;
  #pings = 0;

  get partial(): boolean {
    return this.#length > 0;
  }

  takePings(): number {
    const pings = this.#pings;
    this.#pings = 0;
    return pings;
  }

  push(octets: Uint8Array): SipMessage[] {
    this.#append(octets);
    const messages: SipMessage[] = [];
    for (;;) {
      if (this.#head === undefined && this.#searched === 0) this.#skipLineBreaks();
      this.#head ??= this.#findHead();
      if (this.#head === undefined || this.#length < this.#head.length) return messages;
      const { end, length } = this.#head;
      messages.push(parseHead(this.#memory.subarray(0, end), this.#memory.slice(end, length)));
      this.#consume(length);
      this.#head = undefined;
      this.#searched = 0;
    }
  }

  /** Memory doubles: octets that dribble in one by one are not copied each time. */
  #append(octets: Uint8Array): void {
    const needed = this.#length + octets.length;
    if (needed > this.#memory.length) {
      const memory = new Uint8Array(Math.max(needed, 2 * this.#memory.length));
      memory.set(this.#memory.subarray(0, this.#length));
      this.#memory = memory;
    }
    this.#memory.set(octets, this.#length);
    this.#length = needed;
  }

  #consume(count: number): void {
    this.#memory = this.#memory.slice(count, this.#length);
    this.#length -= count;
  }

  #skipLineBreaks(): void {
    let at = 0;
    for (; at < this.#length && (this.#memory[at] === 0x0d || this.#memory[at] === 0x0a); at++) {
      if (this.#memory[at] === 0x0a && ++this.#lineBreaks % 2 === 0) this.#pings++;
    }
    if (at > 0) this.#consume(at);
    if (this.#length > 0) this.#lineBreaks = 0;
  }

  /** RFC 3261 §18.3: on a stream Content-Length says where a message ends, and has to be there. */
  #findHead(): { readonly end: number; readonly length: number } | undefined {
    const buffered = this.#memory.subarray(0, this.#length);
    const end = endOfHead(buffered, Math.max(0, this.#searched - 3));
    this.#searched = this.#length;
    if ((end ?? this.#length) > MAX_HEAD) throw malformed("its header is too long");
    if (end === undefined) return undefined;
    const length = contentLengthOf(parseHead(buffered.subarray(0, end), new Uint8Array(0)));
    if (length === undefined || length > MAX_BODY)
      throw malformed(length === undefined ? "it has no Content-Length" : "its body is too long");
    return { end, length: end + length };
  }
}

function malformed(reason: string): WatchwordError {
  return new WatchwordError("node.sip-message", `a SIP message cannot be read: ${reason}`);
}
