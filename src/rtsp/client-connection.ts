import { utf8Text, WatchwordError } from "../bytes/index.js";
import type { Stream, Timers } from "../io/index.js";
import type { Authorizer } from "./authentication.js";
import { createFrameChannels, type FrameChannels } from "./carrier.js";
import {
  createRequest,
  createResponse,
  encodeFrame,
  encodeRtsp,
  header,
  headers,
  RTSP_VERSION,
  RTSP_VERSION_2,
  type RtspHeaders,
  type RtspItem,
  type RtspRequest,
  type RtspResponse,
  sequenceNumber,
} from "./message.js";
import { createRtspParser, type RtspLimits } from "./parser.js";
import { PendingRequests } from "./pending-requests.js";
import { requestToVersion2, responseFromVersion2 } from "./version2.js";

/** A response that is not a success. */
export class RtspStatusError extends WatchwordError {
  override readonly name = "RtspStatusError";
  readonly method: string;
  readonly status: number;
  readonly response: RtspResponse;

  constructor(method: string, response: RtspResponse) {
    // The reason phrase is the server's text: only what is printable of it, and not at any length.
    const reason = response.reason.replace(/[^\x20-\x7e]+/g, "?").slice(0, 120);
    super(`rtsp.status-${response.status}`, `the server answered ${method} with ${response.status} ${reason}`.trimEnd());
    this.method = method;
    this.status = response.status;
    this.response = response;
  }
}

/** What a client says to a request of the server's. */
export interface ClientAnswer {
  readonly status: number;
  readonly fields: RtspHeaders;
  readonly body?: Uint8Array;
}

const BAD_REQUEST: ClientAnswer = { status: 400, fields: [] };
/** RFC 2326 §7.1.1. */
const UNKNOWN_VERSION: ClientAnswer = { status: 505, fields: [] };
const FAULT: ClientAnswer = { status: 500, fields: [] };

/** What a client's connection is made of. */
export interface ClientConnectionOptions {
  readonly stream: Stream;
  readonly timers: Timers;
  readonly userAgent: string;
  readonly from: string | undefined;
  readonly authorizer: Authorizer | undefined;
  readonly limits: RtspLimits | undefined;
  /** Milliseconds. */
  readonly requestTimeout: number;
  /** Answers a request of the server's. */
  readonly onRequest: (request: RtspRequest) => Promise<ClientAnswer>;
  /** The connection is gone; called once. */
  readonly onClose: (error: WatchwordError) => void;
}

/** Most requests of the server's that may wait for their answer. */
const MAX_INCOMING = 16;
/** Octets that may wait for a server that does not read: media is dropped above. */
const MAX_BUFFERED = 1024 * 1024;
/** With what is answered to a server that asks all the same; then the connection ends. */
const MOST_BUFFERED = 2 * MAX_BUFFERED;

/** The connection of a client: requests and their answers, frames, and the server's own requests. */
export class ClientConnection {
  readonly channels: FrameChannels;
  /** What requests are said in. */
  version: string = RTSP_VERSION;
  readonly #options: ClientConnectionOptions;
  readonly #pending: PendingRequests;
  readonly #incoming: RtspRequest[] = [];
  #working = false;
  #sequence = 1;
  #closed = false;

  constructor(options: ClientConnectionOptions) {
    this.#options = options;
    const { stream, timers } = options;
    this.#pending = new PendingRequests((milliseconds, callback) => timers.after(milliseconds, callback));
    this.channels = createFrameChannels((channel, data) => {
      if (this.#closed || stream.buffered > MAX_BUFFERED) return false;
      stream.write(encodeFrame(channel, data));
      return true;
    });
    const parser = createRtspParser(options.limits);
    stream.onClose = (error) => this.#close("rtsp.connection-closed", "the server closed the connection", error);
    stream.onData = (octets) => {
      if (this.#closed) return;
      try {
        parser.push(octets, (item) => this.#receive(item));
      } catch (error) {
        this.#close("rtsp.peer-syntax", "the server sent something that is not RTSP", error);
        stream.destroy();
      }
    };
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Sends a request and waits for its answer; answers a challenge once.
   * @throws RtspStatusError for anything but a success; WatchwordError `rtsp.timeout`, `rtsp.connection-closed`, `rtsp.peer-syntax`,
   * `rtsp.unauthorized`
   */
  async request(method: string, uri: string, fields: RtspHeaders, body?: Uint8Array): Promise<RtspResponse> {
    const { authorizer } = this.#options;
    for (let attempt = 0; ; attempt++) {
      const response = await this.#exchange(method, uri, fields, body);
      if (response.status >= 200 && response.status < 300) {
        authorizer?.accepted();
        return response;
      }
      if (response.status !== 401) {
        // The credentials were not what the server minded.
        authorizer?.accepted();
        throw new RtspStatusError(method, response);
      }
      // A stale nonce and a change of scheme are worth another attempt, endless challenges are not.
      if (attempt === 2 || authorizer?.challenge(headers(response, "WWW-Authenticate")) !== true) {
        const detail =
          authorizer === undefined ? "the server wants a user name and password" : "the server refused the user name or password";
        throw new WatchwordError("rtsp.unauthorized", detail, { cause: new RtspStatusError(method, response) });
      }
    }
  }

  /**
   * Asks in RTSP 2.0 and goes on in it where the server does (RFC 7826 appendix H).
   * @throws as `request`
   */
  async negotiate(uri: string): Promise<void> {
    this.version = RTSP_VERSION_2;
    try {
      const response = await this.request("OPTIONS", uri, [["Supported", "play.basic"]]);
      this.version = response.version === RTSP_VERSION_2 ? RTSP_VERSION_2 : RTSP_VERSION;
    } catch (error) {
      if (!(error instanceof RtspStatusError) || (error.status !== 505 && error.response.version === RTSP_VERSION_2)) throw error;
      this.version = RTSP_VERSION;
    }
  }

  /** Ends after what was written is sent. Requests under way fail. */
  end(): void {
    this.#close("rtsp.connection-closed", "the client closed the connection");
    this.#options.stream.end();
  }

  destroy(): void {
    this.#close("rtsp.connection-closed", "the client closed the connection");
    this.#options.stream.destroy();
  }

  async #exchange(method: string, uri: string, fields: RtspHeaders, body: Uint8Array | undefined): Promise<RtspResponse> {
    const { stream, userAgent, from, authorizer, requestTimeout } = this.#options;
    if (this.#closed) throw new WatchwordError("rtsp.connection-closed", "the connection is closed");
    const sequence = this.#sequence++;
    const authorization = authorizer?.authorize(method, uri);
    const all: [string, string][] = [
      ["CSeq", String(sequence)],
      ["User-Agent", userAgent],
    ];
    if (from !== undefined) all.push(["From", from]);
    if (authorization !== undefined) all.push(["Authorization", authorization]);
    for (const [name, value] of fields) all.push([name, value]);
    const request = createRequest(method, uri, all, body);
    const two = this.version === RTSP_VERSION_2;
    const octets = encodeRtsp(two ? requestToVersion2(request) : request);
    const late = `the server did not answer ${method} within ${requestTimeout} ms`;
    const answered = this.#pending.expect(sequence, requestTimeout, late);
    stream.write(octets);
    const response = await answered;
    if (!two) return response;
    try {
      return responseFromVersion2(request, response);
    } catch (error) {
      throw new WatchwordError("rtsp.peer-syntax", "the answer cannot be read", { cause: error });
    }
  }

  #receive(item: RtspItem): void {
    switch (item.kind) {
      case "frame":
        this.channels.receive(item.channel, item.data);
        break;
      case "response":
        this.#pending.settle(item);
        break;
      case "request":
        if (this.#incoming.length >= MAX_INCOMING || this.#options.stream.buffered > MOST_BUFFERED) {
          this.#close("rtsp.peer-syntax", "the server sends more requests than can be answered, or reads no answers");
          this.#options.stream.destroy();
          break;
        }
        this.#incoming.push(item);
        if (!this.#working) void this.#work();
    }
  }

  async #work(): Promise<void> {
    this.#working = true;
    try {
      for (let request = this.#incoming.shift(); request !== undefined && !this.#closed; request = this.#incoming.shift()) {
        const response = await this.#answer(request);
        if (!this.#closed) this.#options.stream.write(encodeRtsp(response));
      }
    } catch (error) {
      // An answer that cannot be written: a fault of ours, which ends this connection and not the process.
      this.#close("rtsp.format", "a request of the server's could not be answered", error);
      this.#options.stream.destroy();
    }
    this.#working = false;
  }

  async #answer(request: RtspRequest): Promise<RtspResponse> {
    const sequence = sequenceNumber(request);
    const known = request.version === RTSP_VERSION || request.version === RTSP_VERSION_2;
    const refusal = !known ? UNKNOWN_VERSION : sequence === undefined ? BAD_REQUEST : undefined;
    const { status, fields, body } = refusal ?? (await this.#options.onRequest(request).catch(() => FAULT));
    const common: RtspHeaders = [
      ...(sequence === undefined ? [] : [["CSeq", String(sequence)] as const]),
      ["User-Agent", this.#options.userAgent],
    ];
    return createResponse(status, [...common, ...fields], body, undefined, known ? request.version : RTSP_VERSION);
  }

  #close(code: string, detail: string, cause?: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    const error = new WatchwordError(code, detail, cause === undefined ? {} : { cause });
    this.#pending.rejectAll(error);
    this.#incoming.length = 0;
    this.#options.onClose(error);
  }
}

/** The body of a message as text. @throws WatchwordError `rtsp.peer-syntax` where it is not UTF-8 */
export function bodyText(response: RtspResponse): string {
  const text = utf8Text(response.body);
  if (text === undefined) throw new WatchwordError("rtsp.peer-syntax", "the server sent text that is not UTF-8");
  return text;
}

/** The URI that relative control URIs of a description refer to (RFC 2326 §C.1.1). */
export function baseUri(response: RtspResponse, requested: string): string {
  const named = header(response, "Content-Base") ?? header(response, "Content-Location");
  return named !== undefined && /^rtsps?:\/\/[\x21-\x7e]+$/i.test(named) ? named : requested;
}
