/** Groups of a key server as presentations: SETUP registers, SET_PARAMETER goes both ways, TEARDOWN leaves (docs/protocol.md §23.3). */
import { utf8, WatchwordError } from "../bytes/index.js";
import { type Gcks, GcksRefusal, type GroupDescription, type MemberChannel, type MemberSession } from "../gcks/index.js";
import { withoutZone } from "../io/index.js";
import { formatGroupAttributes, formatMediaLines } from "../sdp/index.js";
import type { Authenticator } from "./authentication.js";
import { formatSession, parseSession } from "./headers.js";
import { type CarriedKeyMgmt, carriedKeyMgmt, carryKeyMgmt, soleMessage } from "./key-mgmt-carriage.js";
import { header, headers, type RtspRequest } from "./message.js";
import { RtspRefusal } from "./refusal.js";
import type { ServerCore } from "./server.js";
import type { ServerConnection } from "./server-connection.js";
import { type Answer, authenticateFor, checkAccept, type Exchange, keyingRefusal, messageFor } from "./server-exchange.js";
import { formatTransport, parseTransport, type TransportSpec } from "./transport.js";
import { parseRtspUri } from "./uri.js";

/** A key server whose groups are served: the group `blue` at the path `/blue`. */
export interface GroupPresentations {
  readonly gcks: Gcks;
  /** Who may see descriptions and register. Without it, anybody may try. */
  readonly authenticator?: Authenticator;
}

/** Where a request for a group points. */
interface GroupTarget {
  readonly name: string;
  /** Index of the stream, undefined for the whole. */
  readonly stream: number | undefined;
  /** The URI of the whole as the client writes it. */
  readonly base: string;
}

/** One member's session. */
interface GroupSession {
  readonly id: string;
  readonly target: GroupTarget;
  readonly user: string | undefined;
  readonly connection: ServerConnection;
  readonly opened: Promise<void>;
  readonly streams: Set<number>;
  open: () => void;
  member: MemberSession | undefined;
  channel: MemberChannel | undefined;
  touchedAt: number;
  ended: boolean;
}

const METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, RECORD, GET_PARAMETER, SET_PARAMETER, TEARDOWN";
const MIKEY_TYPE = "application/mikey";
/** Characters of a group's name in a path, percent-encoded: 255 octets (docs/protocol.md §12.1), and room. */
const MOST_NAME = 1024;

/** The members' sessions of a server. */
export class GroupSessions {
  readonly #options: GroupPresentations;
  readonly #core: ServerCore;
  readonly #sessions = new Map<string, GroupSession>();

  constructor(options: GroupPresentations, core: ServerCore) {
    this.#options = options;
    this.#core = core;
  }

  get size(): number {
    return this.#sessions.size;
  }

  /** The group that a request is for; undefined where it is for something else, or there is none. */
  find({ uri }: RtspRequest): GroupTarget | undefined {
    let parsed: ReturnType<typeof parseRtspUri>;
    try {
      parsed = parseRtspUri(uri);
    } catch {
      return undefined;
    }
    const match = /^\/([^/]+)(?:\/track([1-9]\d{0,2}))?\/?$/.exec(parsed.path);
    const [, encoded = "", track] = match ?? [];
    const name = decodeName(encoded);
    if (name === undefined) return undefined;
    const known =
      this.#options.gcks.describe(name) !== undefined || [...this.#sessions.values()].some(({ target }) => target.name === name);
    if (!known) return undefined;
    const base = parsed.text.slice(0, parsed.text.length - parsed.query.length - parsed.path.length);
    return { name, stream: track === undefined ? undefined : Number(track) - 1, base: `${base}/${encoded}` };
  }

  /** @throws RtspRefusal for every other status than 200 */
  async handle(exchange: Exchange, target: GroupTarget): Promise<Answer> {
    const { request } = exchange;
    const { user } = authenticateFor(exchange, this.#options.authenticator);
    switch (request.method) {
      case "OPTIONS":
        this.#touch(request);
        return { status: 200, fields: [["Public", METHODS]] };
      case "DESCRIBE":
        return this.#describe(exchange, target);
      case "SETUP":
        return this.#setup(exchange, target, user);
      // Media goes to the group whatever a member says here; what it may do with it say its keys.
      case "PLAY":
      case "RECORD":
      case "PAUSE":
      case "GET_PARAMETER":
        if (request.method === "GET_PARAMETER" && request.body.length > 0) throw new RtspRefusal(451);
        return { status: 200, fields: [["Session", this.#own(exchange, target, user).id]] };
      case "SET_PARAMETER":
        return this.#setParameter(exchange, this.#own(exchange, target, user));
      case "TEARDOWN":
        return this.#teardown(exchange, this.#own(exchange, target, user), target);
      default:
        throw new RtspRefusal(405, [["Allow", METHODS]]);
    }
  }

  /** The connection is gone, and every way to its members with it. */
  closed(connection: ServerConnection): void {
    for (const session of this.#sessions.values()) if (session.connection === connection) this.#end(session);
  }

  /** Called from time to time: who gives no sign of life is gone (RFC 2326 §12.37). */
  checkTime(): void {
    const before = this.#core.now() - this.#core.sessionTimeout * 1000;
    for (const session of this.#sessions.values()) {
      if (session.touchedAt >= before) continue;
      this.#end(session);
      session.connection.endUnlessOccupied();
    }
  }

  close(): void {
    for (const session of this.#sessions.values()) this.#end(session);
  }

  #describe({ core, connection, request }: Exchange, target: GroupTarget): Answer {
    if (target.stream !== undefined) throw new RtspRefusal(404);
    checkAccept(request);
    const description = this.#description(target);
    const host = withoutZone(connection.stream.channel.local.host);
    const lines = [
      "v=0",
      `o=- ${core.options.clock.now()} 1 IN IP${host.includes(":") ? 6 : 4} ${host}`,
      `s=${description.title ?? target.name.replace(/[^\x20-\x7e]/g, "?")}`,
      "t=0 0",
      "a=control:*",
      ...formatGroupAttributes(description.group),
      ...description.streams.flatMap(({ destination: { host: group, port, ttl }, ...stream }, index) =>
        formatMediaLines({
          ...stream,
          port,
          connection: { host: group, ...(ttl === undefined ? {} : { ttl }) },
          lines: [...stream.lines, `a=control:track${index + 1}`],
        }),
      ),
    ];
    return {
      status: 200,
      fields: [
        ["Content-Type", "application/sdp"],
        ["Content-Base", `${target.base}/`],
      ],
      body: utf8(`${lines.join("\r\n")}\r\n`),
    };
  }

  async #setup(exchange: Exchange, target: GroupTarget, user: string | undefined): Promise<Answer> {
    const { core, connection, request } = exchange;
    const description = this.#description(target);
    const existing = header(request, "Session") === undefined ? undefined : this.#own(exchange, target, user);
    const index = target.stream ?? (description.streams.length === 1 ? 0 : undefined);
    // RFC 2326 §11.3.10: a presentation of several streams is set up stream by stream.
    if (index === undefined) throw new RtspRefusal(459);
    const stream = description.streams[index];
    if (stream === undefined) throw new RtspRefusal(404);
    const transport = transportFor(request, stream.profile, stream.destination);
    const message = messageIn(request, target, index);
    if (existing === undefined && message === undefined) throw new RtspRefusal(463);
    if (existing === undefined && (core.full || connection.members >= core.limits.maxSessionsPerConnection))
      throw new RtspRefusal(453);
    const session = existing ?? this.#create(connection, target, user);
    try {
      const response = message === undefined ? undefined : await this.#register(session, message, description, user);
      const specs = response === undefined ? [] : [{ protocol: "mikey", uri: session.target.base, data: response }];
      const { fields, body } = carryKeyMgmt(specs);
      session.streams.add(index);
      return {
        status: 200,
        fields: [
          ["Transport", formatTransport([transport])],
          ["Session", formatSession({ id: session.id, timeout: core.sessionTimeout })],
          ...fields,
        ],
        ...(body === undefined ? {} : { body }),
        after: session.open,
      };
    } catch (error) {
      if (existing === undefined) this.#end(session);
      throw error;
    }
  }

  #create(connection: ServerConnection, target: GroupTarget, user: string | undefined): GroupSession {
    let open: () => void = () => {};
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    const session: GroupSession = {
      id: this.#core.newSessionId(),
      target: { ...target, stream: undefined },
      user,
      connection,
      opened,
      open,
      streams: new Set(),
      member: undefined,
      channel: undefined,
      touchedAt: this.#core.now(),
      ended: false,
    };
    // Its place is taken before anybody is admitted: nobody else gets it meanwhile.
    this.#sessions.set(session.id, session);
    connection.members++;
    return session;
  }

  async #register(
    session: GroupSession,
    iMessage: Uint8Array,
    description: GroupDescription,
    user: string | undefined,
  ): Promise<Uint8Array> {
    const { connection } = session;
    const { remote, secure, certified } = connection.stream.channel;
    const before = session.channel;
    const channel = this.#createChannel(session);
    session.channel = channel;
    try {
      const { response, session: member } = await this.#options.gcks.register({
        iMessage,
        peer: { remote, ...(user === undefined ? {} : { user }), ...(certified === undefined ? {} : { certified }) },
        secure,
        scope: session.id,
        streams: description.streams.length,
        channel,
      });
      if (connection.closed || session.ended) {
        member.lost();
        throw new RtspRefusal(454);
      }
      session.member = member;
      return response;
    } catch (error) {
      session.channel = before;
      throw groupRefusal(error, session.target.base);
    }
  }

  #createChannel(session: GroupSession): MemberChannel {
    let last: Promise<unknown> = session.opened;
    const channel: MemberChannel = {
      deliver: (message) => {
        const delivery = last.then(() => this.#deliver(session, message));
        last = delivery.catch(() => undefined);
        return delivery;
      },
      close: () => {
        // A registration that took the place of this one goes on in the same session.
        if (session.channel !== channel || session.ended) return;
        this.#end(session);
        session.connection.endUnlessOccupied();
      },
    };
    return channel;
  }

  async #deliver(session: GroupSession, message: Uint8Array): Promise<void> {
    if (session.ended) throw new WatchwordError("rtsp.not-delivered", "the session has ended");
    const fields = [
      ["Session", session.id],
      ["Content-Type", MIKEY_TYPE],
    ] as const;
    const { status } = await session.connection.request("SET_PARAMETER", session.target.base, fields, message);
    if (status === 200) return;
    if (status === 454) this.#end(session);
    throw new WatchwordError("rtsp.not-delivered", `the member answered SET_PARAMETER with ${status}`);
  }

  async #setParameter({ request }: Exchange, session: GroupSession): Promise<Answer> {
    const { id, member, target } = session;
    let carried: CarriedKeyMgmt | undefined;
    try {
      carried = carriedKeyMgmt(request);
    } catch (error) {
      throw new RtspRefusal(463, [], { cause: error });
    }
    if (carried === undefined && request.body.length > 0) throw new RtspRefusal(451);
    if (carried === undefined || member === undefined) return { status: 200, fields: [["Session", id]] };
    const octets = carried.specs.find(({ protocol }) => protocol === "mikey")?.data;
    if (octets === undefined) throw new RtspRefusal(463);
    try {
      const answer = await member.receive(octets);
      if (answer === undefined) return { status: 200, fields: [["Session", id]] };
      const { fields, body } = carryKeyMgmt([{ protocol: "mikey", uri: target.base, data: answer }], "body");
      return { status: 200, fields: [["Session", id], ...fields], ...(body === undefined ? {} : { body }) };
    } catch (error) {
      throw groupRefusal(error, target.base);
    }
  }

  async #teardown({ request }: Exchange, session: GroupSession, { stream }: GroupTarget): Promise<Answer> {
    // A stream of several is taken away by its own URI; it carries no proof (docs/protocol.md §7).
    if (stream !== undefined && session.streams.size > 1) {
      session.streams.delete(stream);
      return { status: 200, fields: [["Session", session.id]] };
    }
    const { member } = session;
    session.member = undefined;
    this.#end(session);
    // A header that cannot be read is a proof that fails, not one that is absent.
    const { acknowledgement } = (await member?.end(soleMessage(request))) ?? {};
    const specs = acknowledgement === undefined ? [] : [{ protocol: "mikey", uri: session.target.base, data: acknowledgement }];
    const { fields, body } = carryKeyMgmt(specs);
    return { status: 200, fields: [["Session", session.id], ...fields], ...(body === undefined ? {} : { body }) };
  }

  #end(session: GroupSession): void {
    if (session.ended) return;
    session.ended = true;
    session.open();
    this.#sessions.delete(session.id);
    session.connection.members--;
    session.member?.lost();
  }

  #touch(request: RtspRequest): GroupSession | undefined {
    const session = this.#sessions.get(sessionIdOf(request) ?? "");
    if (session !== undefined) session.touchedAt = this.#core.now();
    return session;
  }

  /** Somebody else's session does not exist for you. @throws RtspRefusal 454 */
  #own({ connection, request }: Exchange, target: GroupTarget, user: string | undefined): GroupSession {
    const session = this.#sessions.get(sessionIdOf(request) ?? "");
    if (session?.connection !== connection || session.user !== user || session.target.name !== target.name)
      throw new RtspRefusal(454);
    session.touchedAt = this.#core.now();
    return session;
  }

  /** @throws RtspRefusal 404 */
  #description({ name }: GroupTarget): GroupDescription {
    const description = this.#options.gcks.describe(name);
    if (description === undefined) throw new RtspRefusal(404);
    return description;
  }
}

/** A group's name in a path. */
export function decodeName(encoded: string): string | undefined {
  if (encoded === "" || encoded.length > MOST_NAME) return undefined;
  try {
    return decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
}

function sessionIdOf(request: RtspRequest): string | undefined {
  const value = header(request, "Session");
  try {
    return value === undefined ? undefined : parseSession(value).id;
  } catch {
    return undefined;
  }
}

/** @throws RtspRefusal 463 */
function messageIn(request: RtspRequest, { base }: GroupTarget, index: number): Uint8Array | undefined {
  try {
    const carried = carriedKeyMgmt(request);
    return carried === undefined ? undefined : messageFor(carried.specs, [base, `${base}/track${index + 1}`], false).message;
  } catch (error) {
    throw keyingRefusal(error, true);
  }
}

/** The transport to the group, for a client that asked for what can be. @throws RtspRefusal 461 */
function transportFor(
  request: RtspRequest,
  profile: string,
  { host, port, ttl }: { readonly host: string; readonly port: number; readonly ttl?: number },
): TransportSpec {
  let asked: readonly TransportSpec[];
  try {
    asked = parseTransport(headers(request, "Transport").join(","));
  } catch (error) {
    throw new RtspRefusal(400, [], { cause: error });
  }
  const spec = asked.find(
    (candidate) => candidate.profile === profile && candidate.lower === "UDP" && candidate.delivery === "multicast",
  );
  if (spec === undefined) throw new RtspRefusal(461);
  return {
    profile,
    lower: "UDP",
    delivery: "multicast",
    destination: host,
    port: [port, port + 1],
    ...(ttl === undefined ? {} : { ttl }),
    ...(spec.mode === undefined ? {} : { mode: spec.mode }),
  };
}

/** How RTSP says that a registration or request was refused (docs/protocol.md §22). */
function groupRefusal(error: unknown, uri: string): RtspRefusal {
  if (error instanceof RtspRefusal) return error;
  if (!(error instanceof GcksRefusal)) return keyingRefusal(error, true, uri);
  const { status, reply, retryAfter } = error;
  const { fields } = carryKeyMgmt(reply === undefined ? [] : [{ protocol: "mikey", uri, data: reply }]);
  const later = retryAfter === undefined ? [] : [["Retry-After", String(retryAfter)] as const];
  return new RtspRefusal(status.rtsp, [...fields, ...later], { cause: error });
}
