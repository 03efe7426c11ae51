/** A member's way to its key server by RTSP: SETUP registers, SET_PARAMETER goes both ways, TEARDOWN leaves (docs/protocol.md §23.3). */
import { WatchwordError } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import type { GroupDescription, GroupStreamDescription } from "../gcks/index.js";
import type { Stream, Timer, Timers } from "../io/index.js";
import type { MemberCarrier } from "../member/index.js";
import { peerErrorOf } from "../mikey/index.js";
import { parseDescription, readGroupAttribute, readMediaLines } from "../sdp/index.js";
import { type Credentials, createAuthorizer } from "./authentication.js";
import { baseUri, bodyText, type ClientAnswer, ClientConnection, RtspStatusError } from "./client-connection.js";
import { parseSession } from "./headers.js";
import { carriedKeyMgmt, carryKeyMgmt, soleMessage } from "./key-mgmt-carriage.js";
import { header, RTSP_VERSION_2, type RtspHeaders, type RtspRequest, type RtspResponse } from "./message.js";
import { formatTransport } from "./transport.js";
import { parseRtspUri, resolveControl } from "./uri.js";

export interface RtspMemberCarrierOptions {
  /** `rtsp://gcks/group`, or rtsps://. */
  readonly url: string;
  /** Connects to the host and port of the URL, with TLS for rtsps. */
  readonly connect: () => Promise<Stream>;
  readonly timers: Timers;
  readonly crypto: CryptoProvider;
  readonly credentials?: Credentials;
  /** `auto`: 2.0 where the server speaks it. Default 1.0. */
  readonly version?: "1.0" | "2.0" | "auto";
  /** Milliseconds. Default 10 s. */
  readonly requestTimeout?: number;
}

export interface RtspMemberCarrier extends MemberCarrier {
  /** What the key server tells of the group, before anything is registered. @throws (rejects) WatchwordError `rtsp.no-group`; as RtspClient */
  describe(): Promise<GroupDescription>;
}

/** RFC 2326 §12.37. */
const DEFAULT_SESSION_TIMEOUT = 60;
const MIKEY = "mikey";
const MIKEY_TYPE = "application/mikey";

/** @throws WatchwordError `rtsp.uri` */
export function createRtspMemberCarrier(options: RtspMemberCarrierOptions): RtspMemberCarrier {
  return new Carrier(options);
}

/** One m= line and the URI that controls it. */
interface ControlledStream {
  readonly uri: string;
  readonly profile: string;
}

/** What DESCRIBE told. */
interface Described {
  readonly description: GroupDescription;
  readonly uri: string;
  readonly streams: readonly ControlledStream[];
}

class Carrier implements RtspMemberCarrier {
  readonly secure: boolean;
  onMessage: ((message: Uint8Array) => void) | undefined;
  onLost: ((error?: Error) => void) | undefined;
  readonly #options: RtspMemberCarrierOptions;
  readonly #uri: string;
  #connection: ClientConnection | undefined;
  #connecting: Promise<ClientConnection> | undefined;
  #described: Described | undefined;
  #session: string | undefined;
  #keepAlive: Timer | undefined;
  #closed = false;

  constructor(options: RtspMemberCarrierOptions) {
    const { secure, text } = parseRtspUri(options.url);
    this.#options = options;
    this.#uri = text;
    this.secure = secure;
  }

  get open(): boolean {
    return this.#session !== undefined && this.#connection?.closed === false;
  }

  async describe(): Promise<GroupDescription> {
    return (await this.#describe()).description;
  }

  async register(iMessage: Uint8Array): Promise<Uint8Array> {
    const { uri, streams } = await this.#describe();
    // Within a session the first SETUP again is a new registration; the streams are set up already.
    const [first, ...others] = this.#session === undefined ? streams : streams.slice(0, 1);
    if (first === undefined) throw new WatchwordError("rtsp.no-group", "the group has no streams");
    const { fields, body } = carryKeyMgmt([{ protocol: MIKEY, uri, data: iMessage }]);
    const response = await this.#setup(first, fields, body);
    this.#noteSession(response);
    try {
      for (const stream of others) await this.#setup(stream, []);
      const message = carriedKeyMgmt(response)?.specs.find(({ protocol }) => protocol === MIKEY)?.data;
      if (message === undefined) throw new WatchwordError("rtsp.group-answer", "the answer to SETUP has no key message");
      return message;
    } catch (error) {
      // With its connection the session ends at the key server too: half of one would be kept alive for nothing.
      if (others.length > 0) this.#drop();
      throw error;
    }
  }

  #setup({ uri, profile }: ControlledStream, keys: RtspHeaders, body?: Uint8Array): Promise<RtspResponse> {
    const transport = formatTransport([{ profile, lower: "UDP", delivery: "multicast" }]);
    return this.#request("SETUP", uri, [["Transport", transport], ...this.#sessionHeader(), ...keys], body);
  }

  async send(message: Uint8Array): Promise<Uint8Array | undefined> {
    const fields: RtspHeaders = [...this.#sessionHeader(), ["Content-Type", MIKEY_TYPE]];
    try {
      const response = await this.#request("SET_PARAMETER", this.#aggregate, fields, message);
      return carriedKeyMgmt(response)?.specs.find(({ protocol }) => protocol === MIKEY)?.data;
    } catch (error) {
      if (error instanceof RtspStatusError && error.status === 454) this.#lost(error);
      throw errorIn(error);
    }
  }

  async end(proof: Uint8Array | undefined): Promise<Uint8Array | undefined> {
    const uri = this.#aggregate;
    const { fields, body } = carryKeyMgmt(proof === undefined ? [] : [{ protocol: MIKEY, uri, data: proof }]);
    const session = this.#sessionHeader();
    this.#session = undefined;
    return soleMessage(await this.#request("TEARDOWN", uri, [...session, ...fields], body));
  }

  close(): void {
    this.#closed = true;
    this.#drop();
  }

  get #aggregate(): string {
    return this.#described?.uri ?? this.#uri;
  }

  #sessionHeader(): RtspHeaders {
    return this.#session === undefined ? [] : [["Session", this.#session]];
  }

  /** The description, anew on every connection. */
  async #describe(): Promise<Described> {
    const connection = await this.#connect();
    if (this.#described !== undefined) return this.#described;
    const response = await connection.request("DESCRIBE", this.#uri, [["Accept", "application/sdp"]]);
    const sdp = bodyText(response);
    const group = readGroupAttribute(sdp);
    if (group === undefined) throw new WatchwordError("rtsp.no-group", "what is described there is no group of a key server");
    const { media, control, name } = parseDescription(sdp);
    const uri = resolveControl(baseUri(response, this.#uri), control).replace(/\/+$/, "");
    const lines = readMediaLines(sdp);
    if (lines.length === 0) throw new WatchwordError("rtsp.no-group", "the group has no streams");
    this.#described = {
      uri,
      description: { group, title: name, streams: lines.flatMap(described) },
      streams: media.map((section) => ({ uri: resolveControl(`${uri}/`, section.control), profile: section.profile })),
    };
    return this.#described;
  }

  #connect(): Promise<ClientConnection> {
    if (this.#connection !== undefined && !this.#connection.closed) return Promise.resolve(this.#connection);
    this.#connecting ??= this.#open().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #open(): Promise<ClientConnection> {
    if (this.#closed) throw closedError();
    const { timers, crypto, credentials, version, requestTimeout = 10_000 } = this.#options;
    const stream = await this.#options.connect();
    if (this.#closed) {
      stream.destroy();
      throw closedError();
    }
    if (this.secure && !stream.channel.secure) {
      stream.destroy();
      throw new WatchwordError("rtsp.insecure-channel", "an rtsps URI over a channel without TLS");
    }
    const connection = new ClientConnection({
      stream,
      timers,
      userAgent: "watchword",
      from: undefined,
      authorizer:
        credentials === undefined
          ? undefined
          : createAuthorizer({ credentials, crypto, secure: stream.channel.secure, allowOpenBasic: false }),
      limits: undefined,
      requestTimeout,
      onRequest: (request) => this.#answer(request),
      onClose: (error) => {
        if (this.#connection === connection) this.#lost(error);
      },
    });
    if (version === "2.0") connection.version = RTSP_VERSION_2;
    this.#connection = connection;
    this.#described = undefined;
    this.#session = undefined;
    if (version === "auto") await connection.negotiate(this.#uri);
    return connection;
  }

  async #request(method: string, uri: string, fields: RtspHeaders, body?: Uint8Array): Promise<RtspResponse> {
    const connection = this.#connection;
    if (connection === undefined) throw new WatchwordError("rtsp.state", "there is no connection with the key server");
    try {
      return await connection.request(method, uri, fields, body);
    } catch (error) {
      throw method === "SET_PARAMETER" ? error : errorIn(error);
    }
  }

  #noteSession(response: RtspResponse): void {
    const value = header(response, "Session");
    if (value === undefined) throw new WatchwordError("rtsp.group-answer", "the server named no session");
    const { id, timeout = DEFAULT_SESSION_TIMEOUT } = parseSession(value);
    this.#session = id;
    this.#keepAlive?.cancel();
    const connection = this.#connection;
    this.#keepAlive = this.#options.timers.every((timeout * 1000) / 3, () => {
      connection?.request("GET_PARAMETER", this.#aggregate, this.#sessionHeader()).catch((error: unknown) => {
        // Who does not answer is not there any more, whatever the network says of the connection.
        const answered = error instanceof RtspStatusError && error.status !== 454;
        if (!answered && connection === this.#connection) this.#lost(error as Error);
      });
    });
  }

  async #answer(request: RtspRequest): Promise<ClientAnswer> {
    const value = header(request, "Session");
    if (value !== undefined && parseSession(value).id !== this.#session) return { status: 454, fields: [] };
    if (request.method === "OPTIONS") return { status: 200, fields: [["Public", "OPTIONS, SET_PARAMETER"]] };
    if (request.method !== "SET_PARAMETER") return { status: 501, fields: [["Allow", "OPTIONS, SET_PARAMETER"]] };
    const message = soleMessage(request);
    if (message === undefined || message.length === 0) return { status: 451, fields: [] };
    this.onMessage?.(message);
    return { status: 200, fields: value === undefined ? [] : [["Session", value]] };
  }

  #lost(error?: Error): void {
    const had = this.#session !== undefined;
    this.#drop();
    if (had) this.onLost?.(error);
  }

  /** Forgets session and connection. */
  #drop(): void {
    this.#keepAlive?.cancel();
    const connection = this.#connection;
    this.#connection = undefined;
    this.#session = undefined;
    connection?.end();
  }
}

function closedError(): WatchwordError {
  return new WatchwordError("rtsp.state", "the way to the key server was closed");
}

function described({
  connection,
  port,
  lines = [],
  ...stream
}: ReturnType<typeof readMediaLines>[number]): GroupStreamDescription[] {
  return connection === undefined ? [] : [{ ...stream, lines, destination: { ...connection, port } }];
}

/** The MIKEY error that a refusal carries, or the refusal itself. */
function errorIn(error: unknown): unknown {
  if (!(error instanceof RtspStatusError)) return error;
  const octets = soleMessage(error.response);
  if (octets === undefined || octets.length === 0) return error;
  try {
    return peerErrorOf(octets) ?? error;
  } catch (problem) {
    if (problem instanceof WatchwordError) return error;
    throw problem;
  }
}
