import { Inviter, TransportState } from "sip.js";
import { utf8, WatchwordError } from "../../bytes/index.js";
import { defaultCrypto, type PublicKey } from "../../crypto/index.js";
import type { MemberRole, MinimumGroupPolicy, ProofVerdict } from "../../gsa/index.js";
import type { Datagrams, DatagramsFactory, Endpoint } from "../../io/index.js";
import {
  createGroupMember,
  type GroupMember,
  type GroupMemberOptions,
  type GroupMembership,
  type GroupStream,
  type MemberCarrier,
} from "../../member/index.js";
import type { Credential } from "../../mikey/index.js";
import { type Credentials, createRtspMemberCarrier, parseRtspUri } from "../../rtsp/index.js";
import { type GroupOfferStream, partyOf, sipIdentity } from "../../sip/index.js";
import { createGroupCalls } from "../../sip/sipjs/index.js";
import { createDatagramsFactory, formatEndpoint } from "../datagrams.js";
import { guardSession } from "../sip/sipjs-defects.js";
import { localHostTowards } from "../sip/sockets.js";
import { addressOf, createSipStack } from "../sip/stack.js";
import { connectStream, type StreamOptions } from "../streams.js";
import { steadyClock, systemClock, systemTimers } from "../time.js";
import { parseAddress } from "./control.js";
import { openStreamBridge, type StreamBridge, type StreamBridgeOptions } from "./media.js";
import { randomDigits } from "./sip-server.js";

/** One more group of the same key server, joined by the same registration. */
export interface AlsoJoined {
  readonly name: string;
  readonly role: MemberRole;
  readonly ownerKey?: PublicKey;
  /** As those of `JoinGroupOptions`. */
  readonly input?: Endpoint;
  readonly output?: Endpoint;
  readonly onRtp?: (stream: number, packet: Uint8Array, ssrc: number) => void;
}

/** How a group is joined. */
export interface JoinGroupOptions
  extends StreamOptions,
    Pick<GroupMemberOptions, "policy" | "reportIntervalMs" | "onFailure" | "onRefused"> {
  /** `sip:group@gcks:5060;transport=tcp`, `rtsp://gcks:8554/group`, `rtsps://…`. */
  readonly uri: string;
  /** Who we are: a SIP URI. */
  readonly identity: string;
  /** Who the key server has to be. Default: `sip:gcks@` and the host of `uri`. */
  readonly gcks?: string;
  readonly credential: Credential;
  readonly role: MemberRole;
  /** The owner of the group: its statement that this key server serves it is then needed. */
  readonly ownerKey?: PublicKey;
  readonly minimum?: MinimumGroupPolicy;
  /** Groups beside that of `uri`, in one registration (docs/protocol.md §12.1). Their policies say where their packets go. */
  readonly also?: readonly AlsoJoined[];
  /** By SIP: m= lines of the offer. Default: one of audio. By RTSP the description says what there is. */
  readonly streams?: readonly GroupOfferStream[];
  /** Version of RTSP; `auto`: 2.0 where the key server speaks it. Default 1.0. */
  readonly rtspVersion?: "1.0" | "2.0" | "auto";
  /** Name and password for Digest authentication. */
  readonly login?: Credentials;
  /** Name or address of the network interface for multicast. Default: the system's choice. */
  readonly interface?: string;
  /** Rekey messages by unicast UDP even where the group has multicast, from key servers that offer it. Default false. */
  readonly unicast?: boolean;
  /** Plain RTP of the m= line i comes in at port + 2 i, RTCP on the next port. */
  readonly input?: Endpoint;
  /** Plain RTP of the m= line i goes to port + 2 i, RTCP to the next port. */
  readonly output?: Endpoint;
  readonly onRtp?: (stream: number, packet: Uint8Array, ssrc: number) => void;
  readonly onState?: (membership: GroupMembership, reason: string) => void;
  readonly onRekey?: (membership: GroupMembership) => void;
  readonly datagrams?: DatagramsFactory;
}

/** A group that was joined. */
export interface JoinedGroup {
  readonly member: GroupMember;
  readonly membership: GroupMembership;
  /** In the groups of `also` as well, in their order. One that the key server does not admit to is `idle`. */
  readonly memberships: readonly GroupMembership[];
  /**
   * Sends plain RTP on an m= line, from 0.
   * @param group which of the memberships. Default the first
   * @returns whether it was sent: not without a key, or without the role
   */
  send(stream: number, packet: Uint8Array, group?: number): boolean;
  sendRtcp(stream: number, packet: Uint8Array, group?: number): boolean;
  /** Where plain RTP of each m= line comes in, of one membership after the other. */
  readonly inputs: readonly (Endpoint | undefined)[];
  /** Leaves with a proof and closes everything. @returns what the key server proved in return */
  leave(): Promise<ProofVerdict>;
  /** Closes everything without a word. */
  close(): Promise<void>;
}

/** What is joined by SIP where nobody says otherwise: G.711 and Opus. */
const AUDIO: GroupOfferStream = {
  media: "audio",
  profile: "RTP/SAVP",
  formats: [0, 8, 96],
  lines: ["a=rtpmap:96 opus/48000/2"],
};

/** A carrier and what is around it. */
interface Way {
  readonly carrier: MemberCarrier;
  readonly group: Uint8Array;
  readonly host: string;
  readonly streams: number;
  /** Where packets of an m= line go, as the description says. */
  readonly described: (stream: number) => (Endpoint & { readonly ttl?: number }) | undefined;
  close(): Promise<void>;
}

/**
 * Joins a group and stays in it: follows rekeys, registers again where that is needed, and bridges plain RTP.
 * @throws (rejects) WatchwordError of the carrier (`sip.refused`, `rtsp.status-…`), of the member (`member.refused`) and of the sockets; MikeyPeerError where
 *   somebody said why the key server refuses, and did not prove it; MikeyError
 */
export async function joinGroup(options: JoinGroupOptions): Promise<JoinedGroup> {
  const way = /^rtsps?:/i.test(options.uri) ? await rtspWay(options) : await sipWay(options);
  const joined = new Joined(options, way);
  try {
    await joined.join();
    return joined;
  } catch (error) {
    await joined.close();
    throw error;
  }
}

class Joined implements JoinedGroup {
  readonly member: GroupMember;
  readonly #options: JoinGroupOptions;
  readonly #way: Way;
  readonly #datagrams: DatagramsFactory;
  /** Of each membership. */
  readonly #bridges: StreamBridge[][] = [];
  /** Sockets of the multicast groups of rekey messages, by address. */
  readonly #controls = new Map<string, Datagrams>();
  #server: { readonly socket: Promise<Datagrams>; readonly address: string } | undefined;
  /** What follows new keys, one at a time. */
  #following: Promise<void> = Promise.resolve();
  #joined = false;
  #closing: Promise<void> | undefined;

  constructor(options: JoinGroupOptions, way: Way) {
    this.#options = options;
    this.#way = way;
    this.#datagrams = options.datagrams ?? createDatagramsFactory();
    const {
      also = [],
      credential,
      identity,
      gcks,
      role,
      ownerKey,
      minimum,
      policy,
      reportIntervalMs,
      onFailure,
      onRefused,
    } = options;
    this.member = createGroupMember({
      groups: [{ group: way.group, role, ownerKey }, ...also.map(({ name, ...group }) => ({ ...group, group: utf8(name) }))].map(
        ({ group, role, ownerKey }) => ({ group, role, ...(ownerKey === undefined ? {} : { ownerKey }) }),
      ),
      credential,
      identity: sipIdentity(identity),
      gcks: sipIdentity(gcks ?? `sip:gcks@${way.host.includes(":") ? `[${way.host}]` : way.host}`),
      carrier: way.carrier,
      streams: way.streams,
      clock: systemClock,
      steady: steadyClock,
      timers: systemTimers,
      crypto: defaultCrypto,
      unicast: { send: (server, datagram) => this.#tell(server, datagram), always: options.unicast === true },
      minimum: { ...(ownerKey === undefined ? {} : { credential: true }), ...minimum },
      ...(policy === undefined ? {} : { policy }),
      ...(reportIntervalMs === undefined ? {} : { reportIntervalMs }),
      ...(onFailure === undefined ? {} : { onFailure }),
      ...(onRefused === undefined ? {} : { onRefused }),
      onState: (membership, _state, reason) => options.onState?.(membership, reason),
      onRekey: (membership) => {
        this.#follow();
        options.onRekey?.(membership);
      },
    });
  }

  get membership(): GroupMembership {
    return this.member.memberships[0] as GroupMembership;
  }

  get memberships(): readonly GroupMembership[] {
    return this.member.memberships;
  }

  get inputs(): readonly (Endpoint | undefined)[] {
    return this.#bridges.flat().map(({ input }) => input);
  }

  async join(): Promise<void> {
    await this.member.join();
    await this.#listen();
    for (const [at, ends] of [this.#options, ...(this.#options.also ?? [])].entries()) {
      const bridges: StreamBridge[] = [];
      this.#bridges.push(bridges);
      for (const [index, stream] of (this.memberships[at]?.streams ?? []).entries())
        bridges.push(await this.#bridge(stream, at === 0 ? this.#way.described(index) : undefined, index, ends));
    }
    this.#joined = true;
  }

  #bridge(
    stream: GroupStream,
    described: StreamBridgeOptions["described"],
    index: number,
    { input, output, onRtp }: Pick<JoinGroupOptions, "input" | "output" | "onRtp">,
  ): Promise<StreamBridge> {
    const { interface: device } = this.#options;
    return openStreamBridge({
      stream,
      described,
      datagrams: this.#datagrams,
      ...(device === undefined ? {} : { interface: device }),
      ...(input === undefined ? {} : { input: portAt(input, index) }),
      ...(output === undefined ? {} : { output: portAt(output, index) }),
      ...(onRtp === undefined ? {} : { onRtp: (packet, ssrc) => onRtp(index, packet, ssrc) }),
    });
  }

  send(stream: number, packet: Uint8Array, group = 0): boolean {
    return this.#bridges[group]?.[stream]?.send(packet) ?? false;
  }

  sendRtcp(stream: number, packet: Uint8Array, group = 0): boolean {
    return this.#bridges[group]?.[stream]?.sendRtcp(packet) ?? false;
  }

  async leave(): Promise<ProofVerdict> {
    try {
      return await this.member.leave();
    } finally {
      await this.close();
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.member.close();
    await this.#following;
    for (const bridge of this.#bridges.flat()) bridge.close();
    for (const socket of this.#controls.values()) socket.close();
    this.#closeServer();
    await this.#way.close();
  }

  /** A new registration may have brought other addresses. */
  #follow(): void {
    if (!this.#joined || this.#closing !== undefined) return;
    this.#following = this.#following.then(async () => {
      try {
        await this.#listen();
        for (const bridge of this.#bridges.flat()) await bridge.follow();
      } catch (error) {
        this.#options.onFailure?.(error);
      }
    });
  }

  /** A report by UDP. Rekey messages come back to the socket that it left by, through whatever translates addresses on the way. */
  #tell(server: string, datagram: Uint8Array): void {
    if (this.#closing !== undefined) return;
    const octets = datagram.slice();
    let to: Endpoint;
    try {
      to = parseAddress(server);
    } catch (error) {
      this.#options.onFailure?.(error);
      return;
    }
    if (this.#server?.address !== server) {
      this.#closeServer();
      const socket = this.#datagrams.bind({ host: to.host.includes(":") ? "::" : "0.0.0.0", port: 0 });
      this.#server = { socket, address: server };
      socket.then(
        (bound) => {
          bound.onDatagram = (received) => this.member.receiveControl(received);
        },
        (error: unknown) => this.#options.onFailure?.(error),
      );
    }
    this.#server.socket.then((socket) => socket.send(octets, to)).catch(() => undefined);
  }

  #closeServer(): void {
    this.#server?.socket.then((socket) => socket.close()).catch(() => undefined);
    this.#server = undefined;
  }

  /** The multicast groups of rekey messages; where there is none they come by unicast, or in the dialog or session. */
  async #listen(): Promise<void> {
    const { interface: device } = this.#options;
    const wanted = new Set(this.memberships.flatMap(({ control }) => control ?? []));
    for (const [address, socket] of this.#controls) {
      if (wanted.has(address)) continue;
      socket.close();
      this.#controls.delete(address);
    }
    for (const address of wanted) {
      if (this.#controls.has(address)) continue;
      const { host, port } = parseAddress(address);
      const socket = await this.#datagrams.bindMulticast({
        group: host,
        port,
        ...(device === undefined ? {} : { interface: device }),
      });
      socket.onDatagram = (datagram) => this.member.receiveControl(datagram);
      this.#controls.set(address, socket);
    }
  }
}

async function rtspWay({
  uri,
  rtspVersion,
  login,
  ca,
  insecure,
  connectTimeout,
  clientCertificate,
}: JoinGroupOptions): Promise<Way> {
  const { host, port, secure } = parseRtspUri(uri);
  const tls = {
    ...(ca === undefined ? {} : { ca }),
    ...(insecure === undefined ? {} : { insecure }),
    ...(clientCertificate === undefined ? {} : { clientCertificate }),
  };
  const carrier = createRtspMemberCarrier({
    url: uri,
    connect: () => connectStream({ host, port }, { ...tls, ...(connectTimeout === undefined ? {} : { connectTimeout }), secure }),
    timers: systemTimers,
    crypto: defaultCrypto,
    ...(rtspVersion === undefined ? {} : { version: rtspVersion }),
    ...(login === undefined ? {} : { credentials: login }),
  });
  try {
    const { group, streams } = await carrier.describe();
    return {
      carrier,
      group,
      host,
      streams: streams.length,
      described: (stream) => streams[stream]?.destination,
      close: async () => carrier.close(),
    };
  } catch (error) {
    carrier.close();
    throw error;
  }
}

async function sipWay(options: JoinGroupOptions): Promise<Way> {
  const { uri, identity, login, role, streams = [AUDIO], ca, insecure, connectTimeout, clientCertificate } = options;
  const target = addressOf(uri);
  const name = decodeURIComponent(target.user ?? "");
  if (name === "") throw new WatchwordError("node.sip-address", `${partyOf(uri)} names no group: sip:group@host`);
  const sips = /^sips:/i.test(uri);
  const stated = /;transport=(udp|tcp|tls|ws)\b/i.exec(uri)?.[1]?.toLowerCase() as "udp" | "tcp" | "tls" | "ws" | undefined;
  const transport = sips && stated !== "ws" ? "tls" : (stated ?? "tcp");
  const secure = sips || transport === "tls";
  const host = target.host.replace(/^\[|\]$/g, "");
  const server = { host, port: target.port ?? (secure ? 5061 : 5060) };
  const own = await localHostTowards(server);
  const calls = createGroupCalls();
  const stack = createSipStack({
    address: identity,
    transport: {
      transport,
      local: { host: own, port: 0 },
      publicHost: own,
      tls: {
        ...(ca === undefined ? {} : { ca }),
        ...(insecure === undefined ? {} : { insecure }),
        ...(clientCertificate === undefined ? {} : { clientCertificate }),
        ...(connectTimeout === undefined ? {} : { connectTimeout }),
      },
      // Who listens nowhere is reached by the connection that it keeps.
      ...(transport === "tls" ? { proxy: server } : {}),
      ...(transport === "ws" ? { url: `${sips ? "wss" : "ws"}://${formatEndpoint(server)}` } : {}),
    },
    ...(login === undefined ? {} : { credentials: login }),
    sessionDescriptionHandlerFactory: calls.sessionDescriptionHandlerFactory,
  });
  const carrier = calls.carrier({
    inviterTo: async (uri) => {
      // A connection that was kept to the key server may have ended with it.
      if (!stack.userAgent.isConnected()) await stack.userAgent.reconnect();
      const inviter = new Inviter(stack.userAgent, addressOf(uri), { earlyMedia: false });
      guardSession(inviter);
      return inviter;
    },
    // sip.js knows no sips: URI; what it stands for is the transport.
    target: `sip:${encodeURIComponent(name)}@${formatEndpoint(server)};transport=${transport}`,
    streams,
    role,
    host: () => own,
    sessionId: randomDigits,
    secure,
  });
  stack.transport.stateChange.addListener((state) => {
    if (state === TransportState.Disconnected) carrier.disconnected();
  });
  try {
    await stack.userAgent.start();
  } catch (error) {
    await stack.transport.disconnect();
    throw error;
  }
  return {
    carrier,
    group: utf8(name),
    host,
    streams: streams.length,
    described: (stream) => carrier.streams[stream]?.destination,
    async close() {
      carrier.close();
      await stack.userAgent.stop().catch(() => undefined);
      await stack.transport.disconnect();
    },
  };
}

function portAt({ host, port }: Endpoint, stream: number): Endpoint {
  return { host, port: port === 0 ? 0 : port + 2 * stream };
}
