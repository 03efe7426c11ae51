import { WatchwordError } from "../bytes/index.js";
import type { MediaOffer } from "../gsa/index.js";
import type { Stream, Timer } from "../io/index.js";
import { createFrameChannels, type FrameChannels } from "./carrier.js";
import type { KeyingPeer } from "./keying.js";
import {
  createRequest,
  createResponse,
  encodeFrameInto,
  encodeRtsp,
  header,
  RTSP_VERSION,
  type RtspHeaders,
  type RtspItem,
  type RtspRequest,
  type RtspResponse,
  sequenceNumber,
} from "./message.js";
import { createRtspParser, type RtspLimits, type RtspParser, RtspSyntaxError } from "./parser.js";
import { PendingRequests } from "./pending-requests.js";
import type { Announcement } from "./publishing.js";
import { Scratch } from "./scratch.js";
import type { Presentation } from "./server.js";
import type { ServerSession } from "./server-session.js";

/** How a connection is treated; times in milliseconds, sizes in octets. */
export interface ConnectionLimits extends RtspLimits {
  /** Media is dropped while more than this waits for the reader. Default 512 KiB. */
  readonly dropAbove?: number;
  /** The connection ends when more than this waits, or when media was dropped for `stallTimeout`. Default 2 MiB. */
  readonly closeAbove?: number;
  /** Default 10 s. */
  readonly stallTimeout?: number;
  /** A connection without a session that says nothing complete for so long ends; so do keys that DESCRIBE promised. Default 60 s. */
  readonly idleTimeout?: number;
  /** A message or frame that was begun has to be complete after so long, whatever else the connection is good for. Default 20 s. */
  readonly messageTimeout?: number;
  /** Responses that may wait for the reader of a connection without a session. Default 256 KiB. */
  readonly closeIdleAbove?: number;
  /** Sessions that one connection may hold. Default 32. */
  readonly maxSessionsPerConnection?: number;
  /** Requests that may wait while one is worked on. Default 32. */
  readonly maxPipelined?: number;
  /** How long the client may take to answer a request of ours. Default 10 s. */
  readonly requestTimeout?: number;
}

/** Keys that DESCRIBE promised on this connection, not yet bound to a session. */
export interface DescribedKeys {
  readonly presentation: Presentation;
  readonly peer: KeyingPeer;
  /** One per m= line; taken away as SETUP uses them. */
  readonly offers: (MediaOffer | undefined)[];
  /** One for all m= lines, in place of those: the first SETUP takes it. */
  offerForAll: MediaOffer | undefined;
  /** The session that the first SETUP made; the promise is for one session only. */
  session: string | undefined;
  /** When it was promised, milliseconds. */
  readonly at: number;
}

/** Frames on their way to a stream; longer ones than 65535 octets are none (RFC 2326 §10.12). */
const frames = new Scratch(4 + 0xffff);

/** What a connection asks its server. */
export interface ConnectionHandler {
  readonly limits: Required<ConnectionLimits>;
  /** Answers a request; never rejects. What is returned is sent before `after` runs. */
  handle(
    connection: ServerConnection,
    request: RtspRequest,
  ): Promise<{ readonly response: RtspResponse; readonly after?: () => void }>;
  now(): number;
  after(milliseconds: number, callback: () => void): Timer;
  onClose(connection: ServerConnection, reason: "connection-closed" | "slow-reader"): void;
  log(level: "warn" | "error", message: string, fields: Readonly<Record<string, unknown>>): void;
}

/** One connection of a server: framing, order, flow control. What requests mean is the handler's business. */
export class ServerConnection {
  readonly stream: Stream;
  readonly channels: FrameChannels;
  /** The sessions that were last spoken of here. */
  readonly sessions = new Set<ServerSession>();
  /** Sessions of members of groups. */
  members = 0;
  readonly #handler: ConnectionHandler;
  readonly #queue: RtspRequest[] = [];
  readonly #pending: PendingRequests;
  #working = false;
  #ending = false;
  #closed = false;
  #sequence = 1;
  readonly #parser: RtspParser;
  #idleSince: number;
  /** Since when a message is under way; undefined between messages. */
  #partialSince: number | undefined;
  #stalledSince: number | undefined;
  /** What the client spoke last, and is spoken to in. */
  version: string = RTSP_VERSION;
  /** CSeq of the last request in RTSP 2.0. */
  lastSequence: number | undefined;
  /** Sessions by what Pipelined-Requests names them (RFC 7826 §18.33). */
  readonly pipelines = new Map<string, string>();
  /** What DESCRIBE last promised here. */
  described: DescribedKeys | undefined;
  /** What ANNOUNCE last promised here. */
  announced: Announcement | undefined;

  constructor(stream: Stream, handler: ConnectionHandler) {
    this.stream = stream;
    this.#handler = handler;
    this.#pending = new PendingRequests((milliseconds, callback) => handler.after(milliseconds, callback));
    this.#idleSince = handler.now();
    this.channels = createFrameChannels((channel, data) => this.#sendFrame(channel, data));
    this.#parser = createRtspParser(handler.limits);
    stream.onClose = () => this.#close("connection-closed");
    stream.onData = (octets) => {
      if (this.#ending) return;
      try {
        this.#parser.push(octets, (item) => this.#receive(item));
      } catch (error) {
        this.#syntaxError(error);
      }
    };
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Since when nothing complete was said, milliseconds; undefined where sessions live here or a request is being answered. */
  get idleSince(): number | undefined {
    return this.#occupied || this.#working ? undefined : this.#idleSince;
  }

  /** Called from time to time: ends a connection on which nothing happens, or on which a message never ends. */
  checkIdle(): void {
    const now = this.#handler.now();
    const { idleTimeout, messageTimeout } = this.#handler.limits;
    if (this.described !== undefined && now - this.described.at > idleTimeout) this.dropDescribed();
    if (this.#parser.idle || this.#ending) this.#partialSince = undefined;
    else this.#partialSince ??= now;
    if (this.#partialSince !== undefined && now - this.#partialSince > messageTimeout) {
      this.#handler.log("warn", "a message does not end", { remote: this.stream.channel.remote.host });
      this.#write(encodeRtsp(createResponse(408, [])));
      this.end();
    } else if (this.#occupied) this.#idleSince = now;
    else if (now - this.#idleSince > idleTimeout) this.destroy("connection-closed");
  }

  /** Sends a request to the client. @throws WatchwordError `rtsp.timeout`, `rtsp.connection-closed` */
  request(method: string, uri: string, fields: RtspHeaders, body?: Uint8Array): Promise<RtspResponse> {
    if (this.#closed || this.#ending) return Promise.reject(new WatchwordError("rtsp.connection-closed", "the client has left"));
    const sequence = this.#sequence++;
    const answered = this.#pending.expect(sequence, this.#handler.limits.requestTimeout, `the client did not answer ${method}`);
    this.#write(encodeRtsp(createRequest(method, uri, [["CSeq", String(sequence)], ...fields], body, this.version)));
    return answered;
  }

  /** Forgets what DESCRIBE promised. */
  dropDescribed(): void {
    for (const offer of [...(this.described?.offers ?? []), this.described?.offerForAll]) offer?.abandon();
    this.described = undefined;
  }

  /** Forgets what ANNOUNCE promised. */
  dropAnnounced(): void {
    for (const offer of this.announced?.offers ?? []) offer?.abandon();
    this.announced = undefined;
  }

  /** RTSP 1.0 has no request by which a server ends a session: where those that ended were all that the connection was for, that ends. */
  endUnlessOccupied(): void {
    if (!this.#occupied) this.end();
  }

  /** Ends after what was written is sent. */
  end(): void {
    this.#ending = true;
    this.stream.end();
  }

  destroy(reason: "connection-closed" | "slow-reader"): void {
    this.stream.destroy();
    this.#close(reason);
  }

  get #occupied(): boolean {
    return this.sessions.size > 0 || this.members > 0;
  }

  #receive(item: RtspItem): void {
    if (this.#ending) return;
    this.#partialSince = undefined;
    switch (item.kind) {
      case "frame":
        this.channels.receive(item.channel, item.data);
        break;
      case "response":
        this.#pending.settle(item);
        break;
      case "request":
        this.#idleSince = this.#handler.now();
        if (this.#queue.length >= this.#handler.limits.maxPipelined) {
          this.#handler.log("warn", "too many requests at once", { remote: this.stream.channel.remote.host });
          this.#write(encodeRtsp(createResponse(400, sequenceHeader(sequenceNumber(item)))));
          this.end();
          break;
        }
        this.#queue.push(item);
        if (!this.#working) void this.#work();
    }
  }

  async #work(): Promise<void> {
    this.#working = true;
    try {
      for (let request = this.#queue.shift(); request !== undefined && !this.#closed; request = this.#queue.shift()) {
        const { response, after } = await this.#handler.handle(this, request);
        if (this.#closed) break;
        this.#write(encodeRtsp(response));
        after?.();
        if (header(request, "Connection")?.toLowerCase() === "close") this.end();
      }
    } catch (error) {
      this.#abort(error);
    }
    this.#working = false;
  }

  /** A fault of ours, or of a callback: it ends this connection, not the server. */
  #abort(error: unknown): void {
    this.#handler.log("error", "connection aborted", { remote: this.stream.channel.remote.host, error: String(error) });
    this.destroy("connection-closed");
  }

  #syntaxError(error: unknown): void {
    if (!(error instanceof RtspSyntaxError)) {
      this.#abort(error);
      return;
    }
    this.#handler.log("warn", "not RTSP", { remote: this.stream.channel.remote.host, code: error.code, detail: error.message });
    this.#write(encodeRtsp(createResponse(error.status, sequenceHeader(error.sequenceNumber))));
    this.end();
  }

  #sendFrame(channel: number, data: Uint8Array): boolean {
    if (this.#closed || this.#ending) return false;
    const { dropAbove, stallTimeout } = this.#handler.limits;
    if (this.stream.buffered <= dropAbove) {
      this.#stalledSince = undefined;
      // The stream keeps no octets of its caller's: one frame after another has room in the same memory.
      this.#write(frames.view(encodeFrameInto(frames.octets, channel, data)));
      return true;
    }
    this.#stalledSince ??= this.#handler.now();
    if (this.#handler.now() - this.#stalledSince > stallTimeout) {
      this.#handler.log("warn", "the client does not read", { remote: this.stream.channel.remote.host });
      this.destroy("slow-reader");
    }
    return false;
  }

  #write(octets: Uint8Array): void {
    if (this.#closed) return;
    this.stream.write(octets);
    const { closeAbove, closeIdleAbove } = this.#handler.limits;
    if (this.stream.buffered > (this.#occupied ? closeAbove : Math.min(closeAbove, closeIdleAbove))) {
      this.#handler.log("warn", "the client does not read", { remote: this.stream.channel.remote.host });
      this.destroy("slow-reader");
    }
  }

  #close(reason: "connection-closed" | "slow-reader"): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue.length = 0;
    this.#pending.rejectAll(new WatchwordError("rtsp.connection-closed", "the client has left"));
    this.dropDescribed();
    this.dropAnnounced();
    this.#handler.onClose(this, reason);
  }
}

function sequenceHeader(sequence: number | undefined): RtspHeaders {
  return sequence === undefined ? [] : [["CSeq", String(sequence)]];
}
