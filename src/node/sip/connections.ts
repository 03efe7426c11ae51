import { utf8, WatchwordError } from "../../bytes/index.js";
import type { Endpoint, Stream, Timer, Timers } from "../../io/index.js";
import { formatEndpoint } from "../datagrams.js";
import { createSipFramer } from "./framing.js";
import { headerOf, parseSipMessage, type SipMessage } from "./message.js";
import type { WebSocketChannel } from "./web-socket.js";

/** A connection that carries whole messages, in order and without loss. */
export interface SipConnection {
  /** As a Via names it: TCP, TLS, WS or WSS. */
  readonly transport: string;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  /** Whom the peer's certificate names, where TLS asked for one. */
  readonly certified?: readonly string[] | undefined;
  /** @throws WatchwordError `node.sip-closed`, `node.sip-overflow` where the peer does not read */
  send(octets: Uint8Array): void;
  /** Told every message that came or goes by it. */
  note(message: SipMessage): void;
  /** Ends gracefully. */
  close(): void;
}

/** Who uses a connection. */
export interface SipConnectionUser {
  message(message: SipMessage, connection: SipConnection): void;
  /** Called once; no message follows. */
  closed(connection: SipConnection, error: Error | undefined): void;
}

export interface SipConnectionOptions {
  readonly timers: Timers;
  /** Milliseconds between the keep-alives that we send; 0 for none. */
  readonly keepAlive: number;
  /** Milliseconds after which a connection without any traffic is closed; 0 for never. */
  readonly idle: number;
  /** The same while no call goes by it, and then keep-alives are no traffic. Default as `idle`. */
  readonly idleWithoutCall?: number;
}

/** Milliseconds from the first octet of a message to its last, and to the first message: a peer that dribbles holds nothing for longer. */
const MESSAGE_TIME = 30_000;
/** Calls that are counted of one connection. */
const MAX_CALLS = 1024;
/** Octets that may wait for a peer that does not read. */
const MAX_UNSENT = 1 << 20;
const PING = utf8("\r\n\r\n");
const PONG = utf8("\r\n");

/** SIP over TCP or TLS: framed by Content-Length (RFC 3261 §18.3), kept alive by line breaks (RFC 5626 §3.5.1). */
export function createStreamConnection(stream: Stream, user: SipConnectionUser, options: SipConnectionOptions): SipConnection {
  return new StreamConnection(stream, user, options);
}

class StreamConnection implements SipConnection {
  readonly transport: string;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly certified: readonly string[] | undefined;
  readonly #stream: Stream;
  readonly #user: SipConnectionUser;
  readonly #options: SipConnectionOptions;
  readonly #framer = createSipFramer();
  /** Calls by their Call-ID, and whether they were taken. */
  readonly #calls = new Map<string, boolean>();
  #keepAlive: Timer | undefined;
  #idle: Timer | undefined;
  #deadline: Timer | undefined;
  #error: Error | undefined;
  #open = true;
  /** A message came or went: before, it is a stranger's connection. */
  #used = false;

  constructor(stream: Stream, user: SipConnectionUser, options: SipConnectionOptions) {
    this.transport = stream.channel.secure ? "TLS" : "TCP";
    this.local = stream.channel.local;
    this.remote = stream.channel.remote;
    this.certified = stream.channel.certified;
    this.#stream = stream;
    this.#user = user;
    this.#options = options;
    const { timers, keepAlive } = options;
    this.#deadline = timers.after(MESSAGE_TIME, () => this.#late());
    if (keepAlive > 0) this.#keepAlive = timers.every(keepAlive, () => stream.buffered === 0 && stream.write(PING));
    this.#traffic();
    stream.onClose = (error) => this.#closed(error);
    stream.onData = (octets) => this.#received(octets);
  }

  send(octets: Uint8Array): void {
    if (!this.#open) throw new WatchwordError("node.sip-closed", `the connection with ${formatEndpoint(this.remote)} is closed`);
    if (this.#stream.buffered + octets.length > MAX_UNSENT) {
      this.#fail(new WatchwordError("node.sip-overflow", `${formatEndpoint(this.remote)} does not read what is sent to it`));
      throw this.#error;
    }
    this.#traffic();
    this.#noteUse();
    this.#stream.write(octets);
  }

  /** A call is an INVITE that is not refused, until the answer to a BYE. */
  note(message: SipMessage): void {
    const id = headerOf(message.headers, "call-id") ?? "";
    const status = message.kind === "response" ? message.status : undefined;
    if (message.method === "INVITE" && status === undefined && this.#calls.size < MAX_CALLS)
      this.#calls.set(id, this.#calls.get(id) ?? false);
    else if (message.method === "INVITE" && status !== undefined && status >= 200 && status < 300 && this.#calls.has(id))
      this.#calls.set(id, true);
    else if (message.method === "INVITE" && status !== undefined && status >= 300 && this.#calls.get(id) === false)
      this.#calls.delete(id);
    else if (message.method === "BYE" && status !== undefined && status >= 200) this.#calls.delete(id);
    this.#traffic();
  }

  close(): void {
    this.#stopTimers();
    this.#stream.end();
  }

  #received(octets: Uint8Array): void {
    if (this.#calls.size > 0 || this.#options.idleWithoutCall === undefined) this.#traffic();
    try {
      const messages = this.#framer.push(octets);
      // A flood of keep-alives is answered once.
      if (this.#framer.takePings() > 0 && this.#stream.buffered === 0) this.#stream.write(PONG);
      const complete = messages.length > 0;
      if (complete) this.#used = true;
      this.#watch(complete);
      this.#deliver(messages);
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  /** The message that is under way has a time of its own, however many came before it without a pause. */
  #watch(complete: boolean): void {
    if (!complete && !this.#used) return;
    if (complete || !this.#framer.partial) this.#stopDeadline();
    if (this.#framer.partial && this.#open) this.#deadline ??= this.#options.timers.after(MESSAGE_TIME, () => this.#late());
  }

  #late(): void {
    this.#fail(new WatchwordError("node.sip-message", "a SIP message cannot be read: it did not end in time"));
  }

  #noteUse(): void {
    if (this.#used) return;
    this.#used = true;
    if (!this.#framer.partial) this.#stopDeadline();
  }

  #stopDeadline(): void {
    this.#deadline?.cancel();
    this.#deadline = undefined;
  }

  /**
   * One message at a time: sip.js deals with some of them in promises, and refuses a re-INVITE that comes before it has dealt with the
   * ACK ahead of it. Nothing is read meanwhile.
   */
  #deliver(messages: SipMessage[]): void {
    const message = messages.shift();
    if (message === undefined || !this.#open) return;
    this.#user.message(message, this);
    if (messages.length === 0) {
      this.#stream.onData = (octets) => this.#received(octets);
      return;
    }
    this.#stream.onData = undefined;
    this.#options.timers.after(0, () => this.#deliver(messages));
  }

  #traffic(): void {
    this.#idle?.cancel();
    const { idle: always, idleWithoutCall = always, timers } = this.#options;
    const idle = this.#calls.size > 0 ? always : idleWithoutCall;
    if (idle > 0 && this.#open) this.#idle = timers.after(idle, () => this.close());
  }

  #fail(error: Error): void {
    this.#error ??= error;
    this.#stream.destroy();
    this.#closed(error);
  }

  #closed(error: Error | undefined): void {
    if (!this.#open) return;
    this.#open = false;
    this.#stopTimers();
    this.#user.closed(this, this.#error ?? error);
  }

  #stopTimers(): void {
    this.#keepAlive?.cancel();
    this.#idle?.cancel();
    this.#stopDeadline();
  }
}

/** SIP over WebSocket: one message per WebSocket message, text or binary (RFC 7118 §5). */
export function createWebSocketConnection(channel: WebSocketChannel, user: SipConnectionUser): SipConnection {
  const connection: SipConnection = {
    transport: channel.secure ? "WSS" : "WS",
    local: channel.local,
    remote: channel.remote,
    note: () => {},
    send(octets) {
      if (!channel.open)
        throw new WatchwordError("node.sip-closed", `the connection with ${formatEndpoint(channel.remote)} is closed`);
      if (channel.buffered + octets.length > MAX_UNSENT) {
        channel.destroy();
        throw new WatchwordError("node.sip-overflow", `${formatEndpoint(channel.remote)} does not read what is sent to it`);
      }
      channel.send(octets);
    },
    close: () => channel.close(),
  };
  channel.onMessage = (octets) => {
    // Keep-alives of the stream transports; RFC 7118 §6 has ping frames, which the channel answers.
    if (octets.every((octet) => octet === 0x0d || octet === 0x0a)) {
      if (octets.length === PING.length) channel.send(PONG);
      return;
    }
    try {
      user.message(parseSipMessage(octets), connection);
    } catch {
      channel.destroy();
    }
  };
  channel.onClose = (error) => user.closed(connection, error);
  return connection;
}
