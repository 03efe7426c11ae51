import { type Emitter, type Transport, TransportState } from "sip.js";
import { utf8, WatchwordError } from "../../bytes/index.js";
import type { Datagrams, Endpoint, Stream, Timer } from "../../io/index.js";
import { formatEndpoint } from "../datagrams.js";
import { createStreamConnection, createWebSocketConnection, type SipConnection, type SipConnectionUser } from "./connections.js";
import {
  contentLengthOf,
  encodeSipMessage,
  firstVia,
  headerOf,
  parseSipMessage,
  type SipMessage,
  type SipRequest,
  type SipResponse,
  sipMessageText,
  topVia,
  viaParameter,
  withBinaryBody,
  withTextualBody,
  withTopVia,
  withViaParameter,
} from "./message.js";
import { createRetransmission, type Retransmission, type TransactionTimes } from "./retransmission.js";
import { type Hop, type HopTransport, nextHop, responseHop } from "./routing.js";
import { nodeSipSockets, type SipListener, type SipSockets, type SipTlsOptions } from "./sockets.js";

/** How a user agent reaches the network. */
export interface SipTransportOptions {
  /** `ws` stands for WebSocket with and without TLS: the URL says which. */
  readonly transport: "udp" | "tcp" | "tls" | "ws";
  /** Where we listen; port 0 picks a free one. UDP listens on TCP too (RFC 3261 §18.1.1), TLS only with credentials. Default 127.0.0.1:0. */
  readonly local?: Endpoint;
  /** The host that peers reach us by, where it is not the one we listen on. */
  readonly publicHost?: string;
  /** The server that TCP and TLS stay connected to and UDP keeps alive. Which requests go there, sip.js decides (preloadedRouteSet). */
  readonly proxy?: Endpoint;
  /** ws:// or wss:// URL of the server that takes every message by WebSocket. Without it WebSockets are accepted, at `local`. */
  readonly url?: string;
  readonly tls?: SipTlsOptions;
  readonly times?: TransactionTimes;
  /** Milliseconds between keep-alives towards the proxy or server; 0 for none. Default 25 000. */
  readonly keepAlive?: number;
  /** Told the address that peers reach us by, before `onConnect`. Not called for WebSocket, which nobody connects to. */
  readonly onBound?: (address: Endpoint) => void;
  /**
   * Send key messages as octets and not in base64. For peers that take nothing else: one that runs sip.js on a transport of its own,
   * behind whatever proxy, gets them damaged. Not over WebSocket. Default false.
   */
  readonly binaryBodies?: boolean;
  readonly sockets?: SipSockets;
  /** Told every message once, as it was handed over by sip.js or is handed to it. */
  readonly trace?: (direction: "sent" | "received", message: string) => void;
}

/** Where sip.js wants a transport to write its log. */
interface SipLogger {
  debug(text: string): void;
}

/** What went through a transport, for tests and reports. */
export interface SipTransportStatistics {
  /** Messages that could not be read, or were not for us. */
  readonly dropped: number;
  /** Messages sent again because an answer did not come, or because the peer repeated itself. */
  readonly repetitions: number;
  /** Connections that are open. */
  readonly connections: number;
}

/** RFC 3261 §18.1.1: larger requests do not go by UDP, where their fragments would be lost together. */
const MAX_DATAGRAM_REQUEST = 1300;
const KEEP_ALIVE = 25_000;
/** Milliseconds without traffic after which a connection that a call no longer needs is closed. */
const IDLE = 600_000;
/** The same for one that was accepted and has no call: as long as a transaction lasts, and what asks again may come (RFC 3261 §17, 64 T1). */
const IDLE_WITHOUT_CALL = 32_000;
/** Milliseconds for which a destination that refused TCP is not asked again. */
const TCP_REFUSED_TIME = 60_000;
/** Milliseconds for which the ACK to a refusal may have to be sent again (RFC 3261 §17.1.1.2, timer D). */
const ANSWERED_TIME = 32_000;
/** Entries of each table that peers' behaviour fills. */
const MAX_REMEMBERED = 1024;
/** Dialogs over WebSockets that are accepted. */
const MAX_CALLERS = 65_536;
/** Characters of a Call-ID that is remembered. */
const MAX_CALL_ID = 256;
/** How often a port is looked for that is free for UDP and for TCP. */
const PORT_ATTEMPTS = 16;
/** A parameter of ours that travels in the Via between this transport and sip.js only: the connection that a request came by. */
const CONNECTION_PARAMETER = "x-connection";

/** Sends one message the way its transaction goes. */
type Way =
  | { readonly kind: "datagram"; readonly to: Endpoint }
  | { readonly kind: "connection"; readonly connection: SipConnection };

/**
 * A transport for sip.js (its option `transportConstructor`) over UDP, TCP, TLS or WebSocket.
 * It puts our address into Via and takes it out of responses, which sip.js expects as it wrote them; it notes in requests where they
 * came from (RFC 3261 §18.2.1, RFC 3581); it repeats what UDP may lose; and it lets binary bodies of type application/mikey through.
 */
export class SipTransport implements Transport {
  onConnect: (() => void) | undefined;
  onDisconnect: ((error?: Error) => void) | undefined;
  onMessage: ((message: string) => void) | undefined;
  readonly #options: SipTransportOptions;
  readonly #logger: SipLogger;
  readonly #sockets: SipSockets;
  readonly #stateChange = new StateEmitter();
  readonly #connections = new Map<string, SipConnection>();
  readonly #closed: (() => void)[] = [];
  /** Connections by where they lead, and those that are being opened. */
  readonly #hops = new Map<string, Promise<SipConnection>>();
  /** The way of each INVITE by its branch: its CANCEL and the ACK to a refusal go the same (RFC 3261 §9.1, §17.1.1.2). */
  readonly #ways = new Map<string, Promise<Way>>();
  /** Of those, the ones with a final response. */
  readonly #answered = new Map<string, Timer>();
  /** WebSockets by the Call-ID of the dialogs that came by them. */
  readonly #callers = new Map<string, SipConnection>();
  readonly #tcpRefused = new Map<string, Timer>();
  readonly #retransmission: Retransmission;
  #state = TransportState.Disconnected;
  #change: Promise<void> = Promise.resolve();
  #datagrams: Datagrams | undefined;
  #listener: SipListener | undefined;
  /** The connection to the proxy or WebSocket server: without it we are disconnected. */
  #lifeline: SipConnection | undefined;
  #keepAlive: Timer | undefined;
  #address: Endpoint | undefined;
  #port: number | undefined;
  /** The sent-by value as sip.js writes it. */
  #viaHost = "";
  #nextConnection = 1;
  #dropped = 0;

  constructor(logger: SipLogger, options: SipTransportOptions) {
    if (options.transport === "ws" && options.url === undefined && options.local === undefined) {
      throw new WatchwordError("node.sip-transport", "SIP over WebSocket needs the URL of a server, or an address to listen on");
    }
    this.#logger = logger;
    this.#options = options;
    this.#sockets = options.sockets ?? nodeSipSockets(options.tls, options.transport === "tls");
    this.#retransmission = createRetransmission({ timers: this.#sockets.timers, ...options.times });
  }

  get protocol(): string {
    const { transport, url } = this.#options;
    const secure = url?.startsWith("wss:") ?? this.#options.tls?.credentials !== undefined;
    return transport === "ws" && secure ? "WSS" : transport.toUpperCase();
  }

  get state(): TransportState {
    return this.#state;
  }

  get stateChange(): Emitter<TransportState> {
    return this.#stateChange;
  }

  /** The address that peers reach us by; undefined before the first `connect`, and for WebSocket. */
  get address(): Endpoint | undefined {
    return this.#address;
  }

  get statistics(): SipTransportStatistics {
    return { dropped: this.#dropped, repetitions: this.#retransmission.repetitions, connections: this.#connections.size };
  }

  /**
   * Whom the client certificate names of the TLS connection that a request came by.
   * @param via the request's Via, as sip.js has it
   * @throws WatchwordError `node.sip-message`
   */
  certifiedBy(via: string): readonly string[] | undefined {
    return this.#connections.get(viaParameter(firstVia(via), CONNECTION_PARAMETER) ?? "")?.certified;
  }

  isConnected(): boolean {
    return this.#state === TransportState.Connected;
  }

  /** @throws (rejects) WatchwordError of the sockets, `node.sip-transport` */
  connect(): Promise<void> {
    if (this.#state === TransportState.Connecting || this.#state === TransportState.Connected) return this.#change;
    const before = this.#change.catch(() => {});
    this.#to(TransportState.Connecting);
    this.#change = before.then(() => this.#open());
    return this.#change;
  }

  disconnect(): Promise<void> {
    if (this.#state === TransportState.Disconnecting || this.#state === TransportState.Disconnected)
      return this.#change.catch(() => {});
    const before = this.#change.catch(() => {});
    const connected = this.isConnected();
    this.#to(TransportState.Disconnecting);
    this.#change = before.then(async () => {
      await this.#closeAll();
      this.#to(TransportState.Disconnected);
      if (connected) this.onDisconnect?.();
    });
    return this.#change;
  }

  dispose(): Promise<void> {
    return this.disconnect();
  }

  /** @throws (rejects) WatchwordError `node.sip-closed`, `node.sip-unreachable`, `node.sip-overflow`, those of `connectStream` */
  async send(text: string): Promise<void> {
    if (!this.isConnected()) throw new WatchwordError("node.sip-closed", "the SIP transport is not connected");
    this.#options.trace?.("sent", text);
    const message = parseSipMessage(utf8(text));
    if (message.kind === "response") await this.#sendResponse(message);
    else await this.#sendRequest(message);
  }

  #to(state: TransportState): void {
    this.#state = state;
    this.#stateChange.emit(state);
  }

  async #open(): Promise<void> {
    try {
      const { transport, url } = this.#options;
      if (transport === "ws" && url !== undefined) await this.#openWebSocket(url);
      else await this.#bind(transport);
    } catch (error) {
      await this.#closeAll();
      if (this.#state === TransportState.Connecting) this.#to(TransportState.Disconnected);
      throw error;
    }
    if (this.#state !== TransportState.Connecting)
      throw new WatchwordError("node.sip-closed", "the SIP transport was disconnected");
    this.#to(TransportState.Connected);
    this.onConnect?.();
  }

  async #openWebSocket(url: string): Promise<void> {
    const channel = await this.#sockets.connectWebSocket(url, this.#options.keepAlive ?? KEEP_ALIVE);
    this.#lifeline = this.#adopt((user) => createWebSocketConnection(channel, user));
  }

  async #bind(transport: SipTransportOptions["transport"]): Promise<void> {
    const local = this.#options.local ?? { host: "127.0.0.1", port: 0 };
    const wanted = { host: local.host, port: this.#port ?? local.port };
    if (transport === "udp") await this.#bindBoth(wanted);
    else if (transport === "ws") this.#listener = await this.#listenWebSocket(wanted);
    else if (transport === "tcp" || this.#options.tls?.credentials !== undefined) this.#listener = await this.#listen(wanted);
    const { proxy } = this.#options;
    if (proxy !== undefined && transport === "udp") this.#keepUdpAlive(proxy);
    else if (proxy !== undefined)
      this.#lifeline = await this.#connection({ ...proxy, transport: transport === "tls" ? "TLS" : "TCP" });
    const bound = this.#datagrams?.local ?? this.#listener?.local;
    this.#port = bound?.port;
    const address = bound ?? this.#lifeline?.local;
    const host = this.#options.publicHost ?? address?.host;
    if (address === undefined || host === undefined)
      throw new WatchwordError("node.sip-transport", "SIP over TLS needs a proxy to connect to, or credentials to listen with");
    if (host === "0.0.0.0" || host === "::")
      throw new WatchwordError(
        "node.sip-transport",
        `${formatEndpoint(address)}: peers need an address; listen on one, or say by which host they reach us`,
      );
    this.#address = { host, port: address.port };
    this.#options.onBound?.(this.#address);
  }

  /** UDP and TCP on one port: who may send us requests by UDP sends the large ones by TCP (RFC 3261 §18.1.1, §18.2.1). */
  async #bindBoth(wanted: Endpoint): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const datagrams = await this.#sockets.datagrams.bind(wanted);
      try {
        this.#listener = await this.#listen({ host: wanted.host, port: datagrams.local.port });
      } catch (error) {
        datagrams.close();
        if (wanted.port !== 0 || attempt === PORT_ATTEMPTS) throw error;
        continue;
      }
      datagrams.onDatagram = (octets, from) => this.#datagram(octets, from);
      this.#datagrams = datagrams;
      return;
    }
  }

  #listen(local: Endpoint): Promise<SipListener> {
    return this.#sockets.listen(local, (stream) => this.#adoptStream(stream, 0));
  }

  #listenWebSocket(local: Endpoint): Promise<SipListener> {
    return this.#sockets.listenWebSocket(local, this.#options.keepAlive ?? KEEP_ALIVE, (channel) =>
      this.#adopt((user) => createWebSocketConnection(channel, user)),
    );
  }

  #keepUdpAlive(proxy: Endpoint): void {
    const interval = this.#options.keepAlive ?? KEEP_ALIVE;
    if (interval > 0) this.#keepAlive = this.#sockets.timers.every(interval, () => this.#datagrams?.send(utf8("\r\n\r\n"), proxy));
  }

  async #closeAll(): Promise<void> {
    this.#keepAlive?.cancel();
    this.#retransmission.close();
    for (const timer of [...this.#tcpRefused.values(), ...this.#answered.values()]) timer.cancel();
    this.#tcpRefused.clear();
    this.#answered.clear();
    this.#ways.clear();
    this.#lifeline = undefined;
    this.#datagrams?.close();
    this.#datagrams = undefined;
    const listener = this.#listener;
    this.#listener = undefined;
    await Promise.allSettled(this.#hops.values());
    for (const connection of this.#connections.values()) connection.close();
    await listener?.close();
    while (this.#connections.size > 0) await new Promise<void>((resolve) => this.#closed.push(resolve));
  }

  /** An open connection to a hop, made where there is none. */
  #connection(hop: Hop): Promise<SipConnection> {
    const key = hopKey(hop);
    const known = this.#hops.get(key);
    if (known !== undefined) return known;
    // Whoever listens nowhere names the end of its connection in Contact, and is reached there (compare RFC 5923).
    for (const connection of this.#connections.values()) {
      if (connection.transport === hop.transport && connection.remote.host === hop.host && connection.remote.port === hop.port) {
        return Promise.resolve(connection);
      }
    }
    const isProxy = hop.host === this.#options.proxy?.host && hop.port === this.#options.proxy.port;
    const opening = this.#sockets.streams
      .connect({ host: hop.host, port: hop.port }, { secure: hop.transport === "TLS" })
      .then((stream) => this.#adoptStream(stream, isProxy ? (this.#options.keepAlive ?? KEEP_ALIVE) : 0, key));
    this.#hops.set(key, opening);
    opening.catch(() => this.#hops.delete(key));
    return opening;
  }

  #adoptStream(stream: Stream, keepAlive: number, key?: string): SipConnection {
    const { timers } = this.#sockets;
    const idle = keepAlive > 0 ? 0 : IDLE;
    // Who came to us may be anybody.
    const options = { timers, keepAlive, idle, ...(key === undefined ? { idleWithoutCall: IDLE_WITHOUT_CALL } : {}) };
    return this.#adopt((user) => createStreamConnection(stream, user, options), key);
  }

  #adopt(create: (user: SipConnectionUser) => SipConnection, key?: string): SipConnection {
    const id = String(this.#nextConnection++);
    const connection = create({
      message: (message, from) => this.#received(message, from.remote, { id, connection: from }),
      closed: (ended, error) => {
        this.#connections.delete(id);
        for (const [callId, by] of this.#callers) if (by === ended) this.#callers.delete(callId);
        if (key !== undefined) this.#hops.delete(key);
        for (const resolve of this.#closed.splice(0)) resolve();
        if (ended === this.#lifeline)
          this.#lost(error ?? new WatchwordError("node.connection-reset", "the server closed the connection"));
      },
    });
    this.#connections.set(id, connection);
    // A connection that arrives while everything closes has to go, too.
    if (this.#state === TransportState.Disconnecting || this.#state === TransportState.Disconnected) connection.close();
    return connection;
  }

  #lost(error: Error): void {
    if (!this.isConnected()) return;
    this.#to(TransportState.Disconnected);
    this.#change = this.#closeAll();
    this.onDisconnect?.(error);
  }

  async #sendRequest(request: SipRequest): Promise<void> {
    const via = topVia(request);
    this.#viaHost = via.host;
    const own = this.#address;
    if (own === undefined) {
      this.#lifelineOrThrow().send(encodeSipMessage(request));
      return;
    }
    const branch = viaParameter(via, "branch") ?? "";
    const sentBy = { ...via, host: own.host.includes(":") ? `[${own.host}]` : own.host, port: own.port };
    // RFC 3581 §3: asks for the answer to the port that the request came from.
    const addressed = withTopVia(
      request,
      viaParameter(sentBy, "rport") === undefined ? withViaParameter(sentBy, "rport", "") : sentBy,
    );
    const { method } = request;
    const known = method === "ACK" || method === "CANCEL" ? this.#ways.get(branch) : undefined;
    const choosing = known ?? this.#choose(addressed);
    if (method === "INVITE") {
      remember(this.#ways, branch, choosing);
      choosing.catch(() => this.#ways.delete(branch));
    }
    const way = await choosing;
    const transport = way.kind === "datagram" ? "UDP" : way.connection.transport;
    this.#dispatch(withTopVia(addressed, { ...topVia(addressed), transport }), way);
  }

  async #choose(request: SipRequest): Promise<Way> {
    if (this.#options.transport === "ws") {
      // RFC 7118 §5: nobody connects to a WebSocket client; it is reached by the connection that its dialog came by.
      const connection = this.#callers.get(headerOf(request.headers, "call-id") ?? "");
      if (connection === undefined) throw new WatchwordError("node.sip-unreachable", "the WebSocket of the other party is closed");
      return { kind: "connection", connection };
    }
    const hop = nextHop(request, ownTransport(this.#options.transport));
    if (hop.transport !== "UDP") return { kind: "connection", connection: await this.#connection(hop) };
    const datagram: Way = { kind: "datagram", to: hop };
    const large = encodeSipMessage(request).length > MAX_DATAGRAM_REQUEST;
    if (this.#datagrams !== undefined && (!large || this.#tcpRefused.has(hopKey(hop)))) return datagram;
    try {
      return { kind: "connection", connection: await this.#connection({ ...hop, transport: "TCP" }) };
    } catch (error) {
      if (this.#datagrams === undefined) throw error;
      // RFC 3261 §18.1.1: who does not take TCP gets it by UDP after all.
      const key = hopKey(hop);
      remember(
        this.#tcpRefused,
        key,
        this.#sockets.timers.after(TCP_REFUSED_TIME, () => this.#tcpRefused.delete(key)),
      );
      return datagram;
    }
  }

  async #sendResponse(response: SipResponse): Promise<void> {
    const own = this.#address;
    if (own === undefined) {
      this.#lifelineOrThrow().send(encodeSipMessage(response));
      return;
    }
    const via = topVia(response);
    const plain = withTopVia(response, withViaParameter(via, CONNECTION_PARAMETER, undefined));
    const connection = this.#connections.get(viaParameter(via, CONNECTION_PARAMETER) ?? "");
    if (connection !== undefined) {
      this.#dispatch(plain, { kind: "connection", connection });
      return;
    }
    const hop = responseHop(topVia(plain));
    const way: Way =
      hop.transport === "UDP" ? { kind: "datagram", to: hop } : { kind: "connection", connection: await this.#connection(hop) };
    this.#dispatch(plain, way);
  }

  #dispatch(message: SipMessage, way: Way): void {
    const octets = encodeSipMessage(this.#options.binaryBodies === true ? withBinaryBody(message) : message);
    if (way.kind === "connection") {
      way.connection.note(message);
      way.connection.send(octets);
      return;
    }
    const put = (): void => this.#datagrams?.send(octets, way.to);
    this.#retransmission.sent(message, put);
    put();
  }

  #lifelineOrThrow(): SipConnection {
    if (this.#lifeline === undefined) throw new WatchwordError("node.sip-closed", "the SIP transport is not connected");
    return this.#lifeline;
  }

  #datagram(octets: Uint8Array, from: Endpoint): void {
    if (octets.every((octet) => octet === 0x0d || octet === 0x0a)) return;
    let message: SipMessage;
    try {
      message = parseSipMessage(octets);
      const length = contentLengthOf(message);
      // RFC 3261 §18.3: what follows the body is cut off; sip.js refuses a body that is cut short.
      if (length !== undefined && length < message.body.length) message = { ...message, body: message.body.subarray(0, length) };
      if (length !== undefined && length > message.body.length)
        throw new WatchwordError("node.sip-message", "a SIP message cannot be read: its body is cut short");
    } catch (error) {
      this.#drop(error, from);
      return;
    }
    this.#received(message, from, undefined);
  }

  #received(
    message: SipMessage,
    from: Endpoint,
    by: { readonly id: string; readonly connection: SipConnection } | undefined,
  ): void {
    try {
      by?.connection.note(message);
      if (by !== undefined && message.kind === "request" && message.method === "INVITE" && this.#options.transport === "ws")
        this.#noteCaller(headerOf(message.headers, "call-id") ?? "", by.connection);
      if (by === undefined && !this.#retransmission.received(message)) return;
      if (message.kind === "response" && message.method === "INVITE" && message.status >= 200) this.#forgetWay(message);
      const readable =
        this.#address === undefined
          ? message
          : message.kind === "request"
            ? this.#noteOrigin(message, from, by?.id)
            : this.#restoreVia(message);
      if (readable === undefined || this.#state !== TransportState.Connected) this.#dropped++;
      else this.#deliver(sipMessageText(withTextualBody(readable)));
    } catch (error) {
      // sip.js throws at what it did not foresee; such a message is lost, and nothing else.
      this.#drop(error, from);
    }
  }

  /** As long as its WebSocket is open a dialog stays there: anybody may write the Call-ID of another into an INVITE. */
  #noteCaller(callId: string, connection: SipConnection): void {
    if (callId.length > MAX_CALL_ID || this.#callers.has(callId)) return;
    remember(this.#callers, callId, connection, MAX_CALLERS);
  }

  /** The INVITE is answered: whatever refers to it goes out while the transaction lasts. */
  #forgetWay(response: SipResponse): void {
    const branch = viaParameter(topVia(response), "branch") ?? "";
    const way = this.#ways.get(branch);
    if (way === undefined || this.#answered.has(branch)) return;
    const timer = this.#sockets.timers.after(ANSWERED_TIME, () => {
      this.#ways.delete(branch);
      this.#answered.delete(branch);
    });
    this.#answered.set(branch, timer);
  }

  #deliver(text: string): void {
    this.#options.trace?.("received", text);
    this.onMessage?.(text);
  }

  /** RFC 3261 §18.2.1 and RFC 3581 §4. */
  #noteOrigin(request: SipRequest, from: Endpoint, connection: string | undefined): SipRequest {
    let via = withViaParameter(topVia(request), CONNECTION_PARAMETER, connection);
    const asked = viaParameter(via, "rport") !== undefined;
    if (asked) via = withViaParameter(via, "rport", String(from.port));
    // What the client itself wrote there would send the answer to somebody else.
    const named = !asked && via.host.replace(/^\[|\]$/g, "") === from.host;
    return withTopVia(request, withViaParameter(via, "received", named ? undefined : from.host));
  }

  /** RFC 3261 §18.1.2: a response whose sent-by is not ours is not for us. */
  #restoreVia(response: SipResponse): SipResponse | undefined {
    const via = topVia(response);
    const own = this.#address;
    if (via.host.replace(/^\[|\]$/g, "") !== own?.host || via.port !== own.port) return undefined;
    return withTopVia(response, { ...via, host: this.#viaHost, port: undefined });
  }

  #drop(error: unknown, from: Endpoint): void {
    this.#dropped++;
    this.#logger.debug(`dropped a message from ${formatEndpoint(from)}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** sip.js' observable, which it does not export for implementers. */
class StateEmitter implements Emitter<TransportState> {
  readonly #listeners = new Set<(state: TransportState) => void>();

  addListener(listener: (state: TransportState) => void, options?: { once?: boolean }): void {
    if (options?.once === true) this.once(listener);
    else this.#listeners.add(listener);
  }

  removeListener(listener: (state: TransportState) => void): void {
    this.#listeners.delete(listener);
  }

  on(listener: (state: TransportState) => void): void {
    this.#listeners.add(listener);
  }

  off(listener: (state: TransportState) => void): void {
    this.#listeners.delete(listener);
  }

  once(listener: (state: TransportState) => void): void {
    const wrapper = (state: TransportState): void => {
      this.#listeners.delete(wrapper);
      listener(state);
    };
    this.#listeners.add(wrapper);
  }

  emit(state: TransportState): void {
    for (const listener of [...this.#listeners]) listener(state);
  }
}

function ownTransport(transport: SipTransportOptions["transport"]): HopTransport {
  return transport === "tls" ? "TLS" : transport === "tcp" ? "TCP" : "UDP";
}

function hopKey({ transport, host, port }: Hop): string {
  return `${transport} ${host}:${port}`;
}

/** Adds to a table that forgets its oldest entry rather than grow without bound. */
function remember<T>(table: Map<string, T>, key: string, value: T, most = MAX_REMEMBERED): void {
  const [oldest] = table.keys();
  if (oldest !== undefined && table.size >= most) table.delete(oldest);
  table.set(key, value);
}
