import { formatHex, WatchwordError } from "../bytes/index.js";
import type { ProofVerdict } from "../gsa/index.js";
import {
  type Clock,
  type DatagramsFactory,
  type Logger,
  type Random,
  type Stream,
  silentLogger,
  type Timer,
  type Timers,
} from "../io/index.js";
import type { Authenticator } from "./authentication.js";
import { createDatagramPorts, type DatagramPorts } from "./datagram-ports.js";
import { FanOut } from "./fan-out.js";
import { type GroupPresentations, GroupSessions } from "./group-sessions.js";
import type { ServerKeying } from "./keying.js";
import type { Backchannel, MediaSource } from "./media.js";
import { createResponse, RTSP_VERSION, RTSP_VERSION_2, type RtspRequest, type RtspResponse, sequenceNumber } from "./message.js";
import type { Publishing } from "./publishing.js";
import { RtspRefusal } from "./refusal.js";
import { readRtpHeader } from "./rtcp.js";
import { randomSsrc } from "./rtp-numbers.js";
import { Scratch } from "./scratch.js";
import { type ConnectionHandler, type ConnectionLimits, ServerConnection } from "./server-connection.js";
import { checkMulticast, type MulticastDelivery, MulticastGroup } from "./server-group.js";
import { handleRequest } from "./server-methods.js";
import { MAX_PACKET, type RtspSessionInfo, ServerSession, type SessionEnd, type SessionFacts } from "./server-session.js";
import { answerVersion2, tellEnd } from "./server-version2.js";

/** Transport profiles that are served. */
export type MediaProfile = "RTP/AVP" | "RTP/AVPF" | "RTP/SAVP" | "RTP/SAVPF";

/** One path of a server and what it plays. */
export interface Presentation {
  /** `/name`, without a trailing slash. */
  readonly path: string;
  /** The s= line. */
  readonly name?: string;
  readonly source: MediaSource;
  /** RTP/SAVP or RTP/SAVPF with `keying`, RTP/AVP or RTP/AVPF without: keys are never announced for plain RTP. */
  readonly profile: MediaProfile;
  readonly keying?: ServerKeying;
  /** What clients may send, where they ask for it. */
  readonly backchannel?: Backchannel;
  /** Who may see it. Without it, anybody. */
  readonly authenticator?: Authenticator;
  /** Seconds between new keys while playing, where the client's keys can be changed. Default 0: never. */
  readonly rekeyInterval?: number;
  /** Send it once, to a multicast group, instead of to every client. */
  readonly multicast?: MulticastDelivery;
  /** Clients may publish what the path plays. `source` is then what they publish into. */
  readonly publish?: Publishing;
  /** Say `a=x-watchword:1` (docs/protocol.md §4.1). Default: where there is keying. */
  readonly announce?: boolean;
  /**
   * Describe the streams as RTP/AVP with SRTP and its keys as a potential configuration (RFC 5939), for clients that know capabilities.
   * They are served as `profile` says all the same. Default false.
   */
  readonly capabilities?: boolean;
}

/** What happens in a server, for logs and tests. Nothing here holds a key. */
export type RtspServerEvent =
  | { readonly type: "setup" | "playing" | "recording" | "paused"; readonly session: RtspSessionInfo }
  | { readonly type: "rekeyed"; readonly session: RtspSessionInfo; readonly streams: number }
  | {
      readonly type: "ended";
      readonly session: RtspSessionInfo;
      readonly reason: SessionEnd;
      /** What TEARDOWN proved (docs/protocol.md §6.3); undefined where there are no keys or no TEARDOWN. */
      readonly proof: ProofVerdict | undefined;
    }
  | {
      readonly type: "refused";
      readonly method: string;
      readonly uri: string;
      readonly status: number;
      readonly code: string | undefined;
    };

/** How a server is made. */
export interface RtspServerOptions {
  readonly presentations: readonly Presentation[];
  /** Groups of a key server, beside the presentations. */
  readonly groups?: GroupPresentations;
  readonly clock: Clock;
  /** What silence and pacing are measured by: a clock that never jumps, whatever time it tells. Default `clock`. */
  readonly steady?: Clock;
  readonly timers: Timers;
  readonly random: Random;
  /** Without it, only interleaved transport is served. */
  readonly datagrams?: DatagramsFactory;
  readonly logger?: Logger;
  readonly onEvent?: (event: RtspServerEvent) => void;
  /** The Server header. Default `watchword`. */
  readonly name?: string;
  /** Default 1024. A session more is refused with 453. */
  readonly maxSessions?: number;
  /**
   * Default twice `maxSessions`. One more makes the connection leave that has said nothing for longest, where there is one without a
   * session that has been silent for a second.
   */
  readonly maxConnections?: number;
  /** Seconds without a sign of life after which a session ends. Default 60. */
  readonly sessionTimeout?: number;
  readonly limits?: ConnectionLimits;
}

/** An RTSP 1.0 server over streams that somebody else accepts. */
export interface RtspServer {
  /** Serves one connection until it ends. */
  accept(stream: Stream): void;
  readonly sessions: readonly RtspSessionInfo[];
  readonly connections: number;
  /**
   * Gives a session new keys now; a multicast one together with all members of its group.
   * @returns how many streams were rekeyed, or how many members of the group
   * @throws WatchwordError `rtsp.session` where there is none, `rtsp.rekey`
   */
  rekey(sessionId: string): Promise<number>;
  /** Ends every session and connection and stops the sources. */
  close(): void;
}

/** Milliseconds of silence after which a connection without a session may make room for another. */
const LEAST_SILENCE = 1000;

const DEFAULT_LIMITS: Required<ConnectionLimits> = {
  maxHeader: 32_768,
  maxHeaderLines: 128,
  maxBody: 262_144,
  dropAbove: 512 * 1024,
  closeAbove: 2 * 1024 * 1024,
  closeIdleAbove: 256 * 1024,
  stallTimeout: 10_000,
  idleTimeout: 60_000,
  messageTimeout: 20_000,
  maxSessionsPerConnection: 32,
  maxPipelined: 32,
  requestTimeout: 10_000,
};

/**
 * Creates a server.
 * @throws WatchwordError `rtsp.profile` for a presentation whose profile and keying do not belong together, `rtsp.path` for a path that is
 * none or is there twice, `rtsp.multicast` for a group that is none or whose keying cannot be shared
 */
export function createRtspServer(options: RtspServerOptions): RtspServer {
  const core = new ServerCore(options);
  return {
    accept: (stream) => core.accept(stream),
    get sessions() {
      return core.sessions.map(({ info }) => info);
    },
    get connections() {
      return core.connectionCount;
    },
    rekey: async (sessionId) => {
      const session = core.session(sessionId);
      if (session === undefined) throw new WatchwordError("rtsp.session", "no such session");
      const group = core.running.find(({ presentation }) => presentation.path === session.facts.path)?.group;
      return group === undefined ? session.rekey() : group.rekey();
    },
    close: () => core.close(),
  };
}

/** A presentation at work: its source and who listens. */
export interface RunningPresentation {
  readonly presentation: Presentation;
  readonly sessions: Set<ServerSession>;
  /** The session of who publishes it. */
  publisher: ServerSession | undefined;
  /** Whom it is sent to, where that is not every session by itself. */
  readonly group: MulticastGroup | undefined;
  /** Resolves when the source runs; rejects when it cannot. */
  readonly started: Promise<void>;
}

interface SessionEntry {
  readonly session: ServerSession;
  readonly running: RunningPresentation;
  /** The connection that the session was last spoken of on. */
  connection: ServerConnection;
}

/** The state of a server, as its methods see it. */
export class ServerCore implements ConnectionHandler {
  readonly options: RtspServerOptions;
  readonly logger: Logger;
  readonly limits: Required<ConnectionLimits>;
  /** Seconds. */
  readonly sessionTimeout: number;
  readonly running: readonly RunningPresentation[];
  /** UDP ports of all sessions; undefined where only interleaved transport is served. */
  readonly ports: DatagramPorts | undefined;
  readonly groups: GroupSessions | undefined;
  readonly #entries = new Map<string, SessionEntry>();
  readonly #connections = new Set<ServerConnection>();
  /** What a source sent, while it goes to every session; and what goes to one of them. */
  readonly #packet = new Scratch(MAX_PACKET);
  readonly #scratch = new Scratch(MAX_PACKET + 1536);
  readonly #timers: Timer[] = [];
  readonly #steady: Clock;
  readonly #startedAt: number;
  readonly #fanOuts: FanOut[] = [];
  #closed = false;

  constructor(options: RtspServerOptions) {
    checkPresentations(options.presentations);
    this.options = options;
    this.#steady = options.steady ?? options.clock;
    this.#startedAt = this.#steady.now();
    this.logger = options.logger ?? silentLogger;
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.sessionTimeout = options.sessionTimeout ?? 60;
    this.ports = options.datagrams === undefined ? undefined : createDatagramPorts(options.datagrams);
    this.groups = options.groups === undefined ? undefined : new GroupSessions(options.groups, this);
    this.running = options.presentations.map((presentation) => this.#start(presentation));
    this.#timers.push(options.timers.every(1000, () => this.#checkTime()));
  }

  get sessions(): readonly ServerSession[] {
    return [...this.#entries.values()].map(({ session }) => session);
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  get full(): boolean {
    return this.#entries.size + (this.groups?.size ?? 0) >= maxSessionsOf(this.options);
  }

  accept(stream: Stream): void {
    if (this.#connections.size >= maxConnectionsOf(this.options)) this.#makeRoom();
    if (this.#closed || this.#connections.size >= maxConnectionsOf(this.options)) {
      this.logger.warn("connection refused", { remote: stream.channel.remote.host, connections: this.#connections.size });
      stream.destroy();
      return;
    }
    this.#connections.add(new ServerConnection(stream, this));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#timers) timer.cancel();
    for (const fanOut of this.#fanOuts) fanOut.close();
    for (const { session, connection } of [...this.#entries.values()]) {
      tellEnd(this, session, connection);
      session.end("server-closed");
    }
    this.groups?.close();
    for (const connection of this.#connections) connection.end();
    for (const { presentation, group } of this.running) {
      group?.close();
      presentation.source.onRtp = undefined;
      presentation.source.onRtcp = undefined;
      presentation.source.stop();
    }
  }

  session(id: string): ServerSession | undefined {
    return this.#entries.get(id)?.session;
  }

  /** A session identifier that cannot be guessed (RFC 2326 §3.4). */
  newSessionId(): string {
    return formatHex(this.options.random.bytes(16));
  }

  newSsrc(): number {
    return randomSsrc((length) => this.options.random.bytes(length));
  }

  createSession(connection: ServerConnection, running: RunningPresentation, facts: SessionFacts): ServerSession {
    const session: ServerSession = new ServerSession(facts, {
      clock: this.#steady,
      timers: this.options.timers,
      logger: this.logger,
      random: (length) => this.options.random.bytes(length),
      scratch: this.#scratch,
      request: (method, uri, fields, body) => {
        const current = this.#entries.get(facts.id)?.connection;
        return current === undefined
          ? Promise.reject(new WatchwordError("rtsp.connection-closed", "the client has left"))
          : current.request(method, uri, fields, body);
      },
      onRekey: (streams) => this.emit({ type: "rekeyed", session: session.info, streams }),
      onEnd: (_session, reason, proof) => {
        this.#entries.get(facts.id)?.connection.sessions.delete(session);
        this.#entries.delete(facts.id);
        if (running.publisher === session) this.#unpublish(running);
        else if (running.sessions.delete(session)) running.group?.left();
        this.logger.info("session ended", { session: facts.id, path: facts.path, reason, proof });
        this.emit({ type: "ended", session: session.info, reason, proof });
      },
    });
    this.#entries.set(facts.id, { session, running, connection });
    connection.sessions.add(session);
    if (facts.publish === undefined) running.sessions.add(session);
    else running.publisher = session;
    return session;
  }

  /** The publisher is gone: who plays has nothing more to expect, and what comes next may be another thing. */
  #unpublish(running: RunningPresentation): void {
    running.publisher = undefined;
    running.presentation.publish?.into.end();
    for (const session of [...running.sessions]) {
      const connection = this.#entries.get(session.facts.id)?.connection;
      if (connection !== undefined) tellEnd(this, session, connection);
      session.end("unpublished");
      connection?.endUnlessOccupied();
    }
  }

  /** Notes that a session is spoken of on this connection. */
  bind(session: ServerSession, connection: ServerConnection): void {
    const entry = this.#entries.get(session.facts.id);
    if (entry === undefined || entry.connection === connection) return;
    entry.connection.sessions.delete(session);
    entry.connection = connection;
    connection.sessions.add(session);
  }

  emit(event: RtspServerEvent): void {
    this.options.onEvent?.(event);
  }

  async handle(
    connection: ServerConnection,
    request: RtspRequest,
  ): Promise<{ readonly response: RtspResponse; readonly after?: () => void }> {
    if (request.version === RTSP_VERSION_2) return answerVersion2(this, connection, request);
    connection.version = RTSP_VERSION;
    return this.answer(connection, request);
  }

  /** Seconds since the server began: the position of live media. */
  get position(): number {
    return (this.now() - this.#startedAt) / 1000;
  }

  /** Answers a request in the terms of RTSP 1.0. */
  async answer(
    connection: ServerConnection,
    request: RtspRequest,
  ): Promise<{ readonly response: RtspResponse; readonly after?: () => void }> {
    try {
      if (request.version !== RTSP_VERSION && request.version !== RTSP_VERSION_2) throw new RtspRefusal(505);
      if (sequenceNumber(request) === undefined) throw new RtspRefusal(400);
      const { status, fields, body, after } = await handleRequest(this, connection, request);
      const response = createResponse(status, [...this.#commonFields(request), ...fields], body);
      return after === undefined ? { response } : { response, after };
    } catch (error) {
      return { response: this.refuse({ ...request, version: RTSP_VERSION }, error) };
    }
  }

  /** What a request is answered with that failed, in its version. */
  refuse(request: RtspRequest, error: unknown): RtspResponse {
    const refusal = error instanceof RtspRefusal ? error : new RtspRefusal(500, [], { cause: error });
    const code = codeOf(refusal.cause);
    if (refusal.status === 500) this.logger.error("request failed", { method: request.method, code, error: String(refusal.cause) });
    else this.logger.info("request refused", { method: request.method, uri: request.uri, status: refusal.status, code });
    this.emit({ type: "refused", method: request.method, uri: request.uri, status: refusal.status, code });
    const fields = [...this.#commonFields(request), ...refusal.fields];
    return createResponse(refusal.status, fields, undefined, undefined, request.version);
  }

  #commonFields(request: RtspRequest): [string, string][] {
    const sequence = sequenceNumber(request);
    const server: [string, string] = ["Server", this.options.name ?? "watchword"];
    return sequence === undefined ? [server] : [["CSeq", String(sequence)], server];
  }

  now(): number {
    return this.#steady.now();
  }

  after(milliseconds: number, callback: () => void): Timer {
    return this.options.timers.after(milliseconds, callback);
  }

  onClose(connection: ServerConnection, reason: "connection-closed" | "slow-reader"): void {
    this.#connections.delete(connection);
    this.groups?.closed(connection);
    // A session over UDP outlives its connection (RFC 2326 §1.1) until it times out; interleaved media has no other way.
    for (const session of [...connection.sessions])
      if (session.tracks.some(({ carrier }) => carrier.kind === "tcp")) session.end(reason);
  }

  log(level: "warn" | "error", message: string, fields: Readonly<Record<string, unknown>>): void {
    this.logger[level](message, fields);
  }

  #start(presentation: Presentation): RunningPresentation {
    const sessions = new Set<ServerSession>();
    const { source, path } = presentation;
    const group = this.#createGroup(presentation, sessions);
    const fanOut = new FanOut({
      clock: this.#steady,
      timers: this.options.timers,
      logger: this.logger,
      send: (track, packet) => {
        const fields = packet.length > MAX_PACKET ? undefined : readRtpHeader(packet);
        if (fields === undefined) return;
        const copy = this.#packet.hold(packet);
        if (group !== undefined) group.sendRtp(track, copy, fields.sequence);
        else for (const session of sessions) session.sendRtp(track, copy, fields.sequence);
      },
    });
    this.#fanOuts.push(fanOut);
    source.onRtp = (track, packet) => fanOut.push(track, packet);
    source.onRtcp = (track, packet) => {
      if (packet.length > MAX_PACKET) return;
      if (group !== undefined) group.sendRtcp(track, packet);
      else for (const session of sessions) session.sendRtcp(track, packet);
    };
    const started = source.start();
    started.catch((error: unknown) => this.logger.error("the source does not start", { path, error: String(error) }));
    return { presentation, sessions, publisher: undefined, group, started };
  }

  #createGroup(presentation: Presentation, members: ReadonlySet<ServerSession>): MulticastGroup | undefined {
    const { multicast, source, keying, rekeyInterval = 0, path } = presentation;
    if (multicast === undefined) return undefined;
    const { datagrams, timers, random } = this.options;
    const group = new MulticastGroup({
      delivery: multicast,
      source,
      share: keying?.share?.bind(keying),
      datagrams,
      timers,
      logger: this.logger,
      random: (length) => random.bytes(length),
      scratch: this.#scratch,
      members,
    });
    if (rekeyInterval > 0) {
      const rekey = (): void => {
        group.rekey().catch((error: unknown) => this.logger.warn("rekey failed", { path, error: String(error) }));
      };
      this.#timers.push(timers.every(rekeyInterval * 1000, rekey));
    }
    return group;
  }

  /** Connections are cheap to open: those that never come to anything must not keep others out. */
  #makeRoom(): void {
    let longest: ServerConnection | undefined;
    let since = this.now() - LEAST_SILENCE;
    for (const connection of this.#connections) {
      const { idleSince } = connection;
      if (idleSince === undefined || idleSince > since) continue;
      longest = connection;
      since = idleSince;
    }
    if (longest === undefined) return;
    this.logger.warn("a silent connection makes room", { remote: longest.stream.channel.remote.host });
    longest.destroy("connection-closed");
  }

  #checkTime(): void {
    this.groups?.checkTime();
    for (const { session, connection } of [...this.#entries.values()]) {
      if (session.expired || (connection.closed && session.abandoned)) session.end("timeout");
      else session.rekeyIfDue();
    }
    for (const connection of [...this.#connections]) connection.checkIdle();
  }
}

/** Sessions that a server holds at most. */
function maxSessionsOf({ maxSessions }: Pick<RtspServerOptions, "maxSessions">): number {
  return maxSessions ?? 1024;
}

/** Connections that a server holds at most. */
export function maxConnectionsOf(options: Pick<RtspServerOptions, "maxSessions" | "maxConnections">): number {
  return options.maxConnections ?? 2 * maxSessionsOf(options);
}

function checkPresentations(presentations: readonly Presentation[]): void {
  const paths = new Set<string>();
  for (const { path, profile, keying, multicast, publish, source, backchannel } of presentations) {
    if (!/^(\/[\x21\x24-\x2e\x30-\x3e\x40-\x7e]+)+$/.test(path) || paths.has(path)) {
      throw new WatchwordError("rtsp.path", `"${path}" is not a path of its own`);
    }
    paths.add(path);
    // GStreamer takes ciphertext for media where RTP/AVP stands beside key-mgmt.
    if (profile.startsWith("RTP/SAVP") !== (keying !== undefined)) {
      throw new WatchwordError(
        "rtsp.profile",
        `${path}: ${profile} ${keying === undefined ? "needs keying" : "must not be keyed"}`,
      );
    }
    if (publish !== undefined && publish.into !== source) {
      throw new WatchwordError("rtsp.profile", `${path}: what is published has to be what is played`);
    }
    if (multicast === undefined) continue;
    checkMulticast(multicast, source.tracks.length);
    if (backchannel !== undefined) throw new WatchwordError("rtsp.multicast", `${path}: a multicast path has no backchannel`);
    if (keying !== undefined && keying.share === undefined) {
      throw new WatchwordError("rtsp.multicast", `${path}: its keying makes a key per session`);
    }
  }
}

function codeOf(error: unknown): string | undefined {
  const code = (error as { readonly code?: unknown } | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}
