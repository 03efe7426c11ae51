import { type Invitation, Inviter, type Session, type SessionDescriptionHandler, UserAgent, type UserAgentOptions } from "sip.js";
import { vi } from "vitest";
import { createSimulatedNetwork, type Datagrams, type SimulatedHost, type SimulatedNetwork } from "../../../src/io/index.js";
import { guardSession, type SipSockets, SipTransport, type SipTransportOptions } from "../../../src/node/sip/index.js";

/** Says whether a datagram gets lost on its way out, or what becomes of it. */
export type Loss = (message: string) => boolean | string;

/**
 * Wraps sockets so that datagrams may get lost or changed, and notes what was sent.
 * @param arriving what becomes of a message that comes
 */
export function lossySockets(
  sockets: SipSockets,
  lose: Loss,
  sent: string[] = [],
  arriving?: (message: string) => string,
): SipSockets {
  return {
    ...sockets,
    datagrams: {
      ...sockets.datagrams,
      async bind(local) {
        const inner = await sockets.datagrams.bind(local);
        const outer: Datagrams = {
          get local() {
            return inner.local;
          },
          onDatagram: undefined,
          send(datagram, to) {
            const text = new TextDecoder().decode(datagram);
            sent.push(text);
            const fate = lose(text);
            if (fate !== true) inner.send(typeof fate === "string" ? new TextEncoder().encode(fate) : datagram, to);
          },
          close: () => inner.close(),
        };
        inner.onDatagram = (datagram, from) =>
          outer.onDatagram?.(
            arriving === undefined ? datagram : new TextEncoder().encode(arriving(new TextDecoder().decode(datagram))),
            from,
          );
        return outer;
      },
    },
  };
}

/** The sockets of a simulated host; it has no WebSocket. */
export function simulatedSockets(network: SimulatedNetwork, host: SimulatedHost): SipSockets {
  return {
    timers: network.timers,
    datagrams: host.datagrams,
    streams: host.streams,
    listen: (local, onStream) => {
      const stop = host.listen(local.port, onStream);
      return Promise.resolve({
        local: { host: host.name, port: local.port },
        close: () => {
          stop();
          return Promise.resolve();
        },
      });
    },
    connectWebSocket: () => Promise.reject(new Error("no WebSocket here")),
    listenWebSocket: () => Promise.reject(new Error("no WebSocket here")),
  };
}

/** A network whose time and sip.js' own timers run together. The caller restores real timers. */
export function createSharedTime(seed = 1): { readonly network: SimulatedNetwork; advance(milliseconds: number): Promise<void> } {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
  const network = createSimulatedNetwork({ seed });
  const STEP = 10;
  return {
    network,
    async advance(milliseconds) {
      for (let done = 0; done < milliseconds; done += STEP) {
        await network.advance(STEP);
        await vi.advanceTimersByTimeAsync(STEP);
      }
    },
  };
}

/** A description of a stream that nobody sends: transports do not look into it. */
export function descriptionOf(padding = 0): string {
  const filler = padding === 0 ? "" : `a=x-filler:${"f".repeat(padding)}\r\n`;
  return `v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n${filler}m=audio 4000 RTP/AVP 0\r\n`;
}

/** A user agent of sip.js whose descriptions are fixed, on our transport. */
export interface TestAgent {
  readonly userAgent: UserAgent;
  readonly transport: SipTransport;
  readonly invitations: Invitation[];
  /** Bodies of BYE requests that came in. */
  readonly byes: string[];
  /** Descriptions that came in. */
  readonly descriptions: string[];
  /** Datagrams that were sent, lost ones included. */
  readonly sent: string[];
}

export interface TestAgentOptions {
  readonly user: string;
  readonly transport: Omit<SipTransportOptions, "onBound">;
  readonly lose?: Loss;
  readonly sdp?: string;
  readonly onInvite?: (invitation: Invitation) => void;
  readonly agent?: Partial<UserAgentOptions>;
}

export function createTestAgent(options: TestAgentOptions): TestAgent {
  const { user, sdp = descriptionOf() } = options;
  const invitations: Invitation[] = [];
  const byes: string[] = [];
  const descriptions: string[] = [];
  const sent: string[] = [];
  const sockets = options.transport.sockets;
  const transport: SipTransportOptions = {
    ...options.transport,
    ...(sockets === undefined ? {} : { sockets: lossySockets(sockets, options.lose ?? (() => false), sent) }),
    onBound: ({ host, port }) => {
      userAgent.contact.uri.host = host;
      userAgent.contact.uri.port = port;
    },
  };
  const handler = (): SessionDescriptionHandler => ({
    close() {},
    hasDescription: (type) => type === "application/sdp",
    getDescription: () => Promise.resolve({ body: sdp, contentType: "application/sdp" }),
    setDescription: (text) => {
      descriptions.push(text);
      return Promise.resolve();
    },
    sendDtmf: () => false,
  });
  const uri = UserAgent.makeURI(`sip:${user}@example.test`);
  if (uri === undefined) throw new Error(user);
  const userAgent = new UserAgent({
    uri,
    transportConstructor: SipTransport,
    transportOptions: transport,
    contactParams: { transport: options.transport.transport },
    sessionDescriptionHandlerFactory: handler,
    logBuiltinEnabled: false,
    logConfiguration: false,
    gracefulShutdown: false,
    delegate: {
      onInvite(invitation) {
        guardSession(invitation);
        invitations.push(invitation);
        invitation.delegate = {
          onBye(bye) {
            byes.push(bye.request.body);
            void bye.accept({
              statusCode: 200,
              body: { contentDisposition: "signal", contentType: "text/plain", content: "good bye" },
            });
          },
        };
        (options.onInvite ?? ((call) => void call.accept()))(invitation);
      },
    },
    ...options.agent,
  });
  return { userAgent, transport: userAgent.transport as SipTransport, invitations, byes, descriptions, sent };
}

/** Begins a call. */
export function callTo(agent: TestAgent, target: string): Inviter {
  const uri = UserAgent.makeURI(target);
  if (uri === undefined) throw new Error(target);
  const inviter = new Inviter(agent.userAgent, uri);
  guardSession(inviter);
  inviter.invite().catch(() => {});
  return inviter;
}

/** Ends a call; resolves with the body of the answer. */
export function hangUp(session: Session): Promise<string> {
  return new Promise((resolve, reject) => {
    session
      .bye({
        requestDelegate: {
          onAccept: (response) => resolve(response.message.body),
          onReject: (response) => reject(new Error(String(response.message.statusCode))),
        },
        requestOptions: { body: { contentDisposition: "signal", contentType: "text/plain", content: "over" } },
      })
      .catch(reject);
  });
}
