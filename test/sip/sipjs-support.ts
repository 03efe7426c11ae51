import {
  type Core,
  EmitterImpl,
  type Invitation,
  Inviter,
  type Session,
  SessionState,
  type Transport,
  TransportState,
  UserAgent,
  type UserAgentOptions,
} from "sip.js";
import type { SipKeying, SipStream } from "../../src/sip/index.js";
import {
  createSessionDescriptionHandlerFactory,
  type KeyedFactoryOptions,
  type KeyedSessionDescriptionHandler,
  type MediaPort,
} from "../../src/sip/sipjs/index.js";
import { rtp, sdpOf } from "./support.js";

/** Two ends of a wire: what one sends, the other gets, unless it is tampered with or lost. */
export class Wire {
  readonly sent: string[] = [];
  /** May change a message, or lose it. */
  tamper: (message: string) => string | undefined = (message) => message;
  readonly #ends: WireTransport[] = [];

  join(end: WireTransport): void {
    this.#ends.push(end);
  }

  carry(from: WireTransport, message: string): void {
    this.sent.push(message);
    const arriving = this.tamper(message);
    const to = this.#ends.find((end) => end !== from);
    if (arriving !== undefined) setTimeout(() => to?.onMessage?.(arriving), 0);
  }

  /** The last message whose first line matches. */
  last(start: RegExp): string | undefined {
    return this.sent.findLast((message) => start.test(message.split("\r\n")[0] as string));
  }
}

class WireTransport implements Transport {
  readonly protocol = "WS";
  readonly stateChange = new EmitterImpl<TransportState>();
  state = TransportState.Disconnected;
  onConnect: (() => void) | undefined;
  onDisconnect: ((error?: Error) => void) | undefined;
  onMessage: ((message: string) => void) | undefined;
  readonly #wire: Wire;

  constructor(_logger: Core.Logger, options: { wire: Wire }) {
    this.#wire = options.wire;
    this.#wire.join(this);
  }

  async connect(): Promise<void> {
    this.state = TransportState.Connected;
    this.onConnect?.();
  }

  async disconnect(): Promise<void> {
    this.state = TransportState.Disconnected;
  }

  async dispose(): Promise<void> {
    this.state = TransportState.Disconnected;
  }

  isConnected(): boolean {
    return this.state === TransportState.Connected;
  }

  async send(message: string): Promise<void> {
    if (this.isConnected()) this.#wire.carry(this, message);
  }
}

/** A media port without sockets. */
export class TestPort implements MediaPort {
  readonly streams: SipStream[] = [];
  readonly got: Uint8Array[] = [];
  readonly seen: string[] = [];
  direction = "sendrecv";
  refuses = false;
  closed = false;

  async describe(): Promise<string> {
    return sdpOf([{ attributes: ["a=rtpmap:0 PCMU/8000", `a=${this.direction}`] }]);
  }

  async setRemote(_type: "offer" | "answer", remote: string): Promise<void> {
    if (this.refuses) throw new Error("the media does not fit");
    this.seen.push(remote);
  }

  attach(stream: SipStream): void {
    this.streams.push(stream);
    stream.onRtp = (packet) => this.got.push(packet.slice());
  }

  close(): void {
    this.closed = true;
  }
}

export interface Phone {
  readonly agent: UserAgent;
  readonly events: string[];
  /** Of the session that was made last. */
  readonly port: () => TestPort;
}

/** A user agent on the wire. `events` says what happened, in order. */
export function phone(
  wire: Wire,
  uri: string,
  keying: SipKeying,
  more: Partial<UserAgentOptions> = {},
  factory: Partial<KeyedFactoryOptions> = {},
): Phone {
  const ports: TestPort[] = [];
  const events: string[] = [];
  const agent = new UserAgent({
    uri: UserAgent.makeURI(uri) as NonNullable<ReturnType<typeof UserAgent.makeURI>>,
    transportConstructor: WireTransport,
    transportOptions: { wire },
    logBuiltinEnabled: false,
    logConfiguration: false,
    sessionDescriptionHandlerFactory: createSessionDescriptionHandlerFactory({
      keying,
      ...(factory.inner === undefined
        ? {
            media: () => {
              const port = new TestPort();
              ports.push(port);
              return port;
            },
          }
        : {}),
      onKeyed: (_session, handler) => events.push(`keyed ${handler.dialog.streams[0]?.fingerprint}`),
      onRefused: (_session, refusal) => events.push(`refused ${refusal.code}`),
      onRefusedByPeer: (_session, { status, errorNos, retry, abort }) =>
        events.push(`by peer ${status} [${errorNos}] ${retry}${abort ? " aborts" : ""}`),
      onProof: (_session, { by, verdict }) => events.push(`${by} ${verdict}`),
      ...factory,
    }),
    ...more,
  });
  return { agent, events, port: () => ports.at(-1) as TestPort };
}

export async function until(what: () => unknown): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    if (what()) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  throw new Error(`never came: ${what}`);
}

export function answering(agent: UserAgent, answer: (invitation: Invitation) => unknown): void {
  agent.delegate = { onInvite: (invitation) => void answer(invitation) };
}

/** A call from one phone to the other, established at both ends. */
export async function call(from: Phone, to: Phone, target: string, options = {}): Promise<{ caller: Inviter; callee: Invitation }> {
  let callee: Invitation | undefined;
  answering(to.agent, (invitation) => {
    callee = invitation;
    return invitation.accept().catch(() => undefined);
  });
  const caller = new Inviter(from.agent, UserAgent.makeURI(target) as NonNullable<ReturnType<typeof UserAgent.makeURI>>, options);
  await caller.invite();
  await until(() => caller.state === SessionState.Terminated || caller.state === SessionState.Established);
  await until(() => callee?.state === SessionState.Terminated || callee?.state === SessionState.Established);
  // The ACK is on its way.
  await new Promise((resolve) => setTimeout(resolve, 10));
  return { caller, callee: callee as Invitation };
}

export function handlerOf(session: Session): KeyedSessionDescriptionHandler {
  return session.sessionDescriptionHandler as KeyedSessionDescriptionHandler;
}

/** One packet each way; true where both arrive as they were. */
export function talk(a: Phone, b: Phone, sequence: number): boolean {
  return [
    [a, b, 1],
    [b, a, 2],
  ].every(([from, to, ssrc]) => {
    const packet = rtp(ssrc as number, sequence);
    const sent = (from as Phone).port().streams[0]?.protect(packet);
    if (sent !== undefined) (to as Phone).port().streams[0]?.receive(sent);
    const got = (to as Phone).port().got.at(-1);
    return got !== undefined && got.join() === packet.join();
  });
}
