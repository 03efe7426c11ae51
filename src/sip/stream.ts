import type { KeyedMedia, KeyedStream } from "../gsa/index.js";
import type { SrtpPolicy } from "../srtp/index.js";
import type { MediaDirection, SipStream, StreamDrops } from "./contracts.js";
import { receives, sends } from "./description.js";

/** What may wait for keys, per m= line: more than a second of audio. */
const EARLY_PACKETS = 64;
const EARLY_OCTETS = 131_072;

/** What protects an m= line now: by the only dialog, or by one branch of a forked offer. */
export interface StreamSource {
  readonly media: KeyedMedia;
  /** Place of the m= line in `media.streams`. */
  readonly at: number;
}

/** The SRTP of one m= line. Branches of one offer share it, because they share the port. */
export class GatedStream implements SipStream {
  readonly index: number;
  onRtp: ((packet: Uint8Array) => void) | undefined;
  onRtcp: ((packet: Uint8Array) => void) | undefined;
  direction: MediaDirection = "inactive";
  readonly #buffers: boolean;
  readonly #sources: StreamSource[] = [];
  readonly #drops = { early: 0, refused: 0, unsent: 0 };
  #early: Uint8Array[] = [];
  #earlyOctets = 0;
  #closed = false;

  constructor(index: number, earlyMedia: "buffer" | "drop") {
    this.index = index;
    this.#buffers = earlyMedia === "buffer";
  }

  get ready(): boolean {
    const stream = this.#first();
    if (stream === undefined) return false;
    return (!sends(this.direction) || stream.sender !== undefined) && (!receives(this.direction) || stream.receiver !== undefined);
  }

  get policy(): SrtpPolicy | undefined {
    return this.#first()?.policy;
  }

  get fingerprint(): string | undefined {
    return this.#sources[0]?.media.fingerprint;
  }

  get drops(): StreamDrops {
    return { ...this.#drops };
  }

  receive(packet: Uint8Array): void {
    if (this.#sources.length === 0) this.#keep(packet);
    else this.#open(packet);
  }

  protect(packet: Uint8Array): Uint8Array | undefined {
    const sender = this.#first()?.sender;
    if (sender === undefined || !sends(this.direction)) {
      this.#drops.unsent++;
      return undefined;
    }
    const out = new Uint8Array(packet.length + sender.rtpOverhead);
    return out.subarray(0, sender.protect(packet, out));
  }

  protectRtcp(packet: Uint8Array): Uint8Array | undefined {
    const sender = this.#first()?.sender;
    if (sender === undefined) {
      this.#drops.unsent++;
      return undefined;
    }
    const out = new Uint8Array(packet.length + sender.rtcpOverhead);
    return out.subarray(0, sender.protectRtcp(packet, out));
  }

  /** Opens packets by this source too; the first one is also what is sent under. What came early is opened now. */
  addSource(source: StreamSource): void {
    if (this.#sources.some(({ media, at }) => media === source.media && at === source.at)) return;
    this.#sources.push(source);
    const early = this.#early;
    this.#forgetEarly();
    for (const packet of early) this.#open(packet);
  }

  removeSource(media: KeyedMedia): void {
    const at = this.#sources.findIndex((source) => source.media === media);
    if (at >= 0) this.#sources.splice(at, 1);
  }

  /** The offer that packets waited for is void. */
  forgetEarly(): void {
    this.#drops.early += this.#early.length;
    this.#forgetEarly();
  }

  /** Sends and opens nothing more. */
  close(): void {
    this.#closed = true;
    this.#sources.length = 0;
    this.#forgetEarly();
    this.direction = "inactive";
  }

  #first(): KeyedStream | undefined {
    const [source] = this.#sources;
    return source?.media.streams[source.at];
  }

  #forgetEarly(): void {
    this.#early = [];
    this.#earlyOctets = 0;
  }

  /** RFC 4567 §4.1.2: media may be there before the answer. Plaintext never gets out, so it waits, or it goes. */
  #keep(packet: Uint8Array): void {
    const full = this.#early.length >= EARLY_PACKETS || this.#earlyOctets + packet.length > EARLY_OCTETS;
    if (!this.#buffers || full || this.#closed) {
      this.#drops.early++;
      return;
    }
    this.#early.push(packet.slice());
    this.#earlyOctets += packet.length;
  }

  #open(packet: Uint8Array): void {
    const rtcp = looksLikeRtcp(packet);
    const out = new Uint8Array(packet.length);
    for (const { media, at } of this.#sources) {
      const receiver = media.streams[at]?.receiver;
      const length = (rtcp ? receiver?.unprotectRtcp(packet, out) : receiver?.unprotect(packet, out)) ?? -1;
      if (length < 0) continue;
      (rtcp ? this.onRtcp : this.onRtp)?.(out.subarray(0, length));
      return;
    }
    this.#drops.refused++;
  }
}

/** RFC 5761 §4: the packet types of RTCP stand where RTP has marker and payload types 64 to 95, which it then does not use. */
function looksLikeRtcp(packet: Uint8Array): boolean {
  const type = packet[1] ?? 0;
  return type >= 192 && type <= 223;
}
