/** A key server and its members on a simulated network: rekey messages by multicast datagrams, everything else by a carrier of calls. */
import { utf8 } from "../../src/bytes/index.js";
import { type CryptoProvider, defaultCrypto, type Signer } from "../../src/crypto/index.js";
import {
  type AuditEvent,
  type Gcks,
  type GcksOptions,
  type MemberSession,
  openGcks,
  readGroupDefinition,
} from "../../src/gcks/index.js";
import type { GroupPolicies } from "../../src/gsa/index.js";
import { createSimulatedNetwork, type Datagrams, type SimulatedNetwork } from "../../src/io/index.js";
import {
  createGroupMember,
  type GroupMember,
  type GroupMemberOptions,
  type MemberCarrier,
  type MembershipState,
} from "../../src/member/index.js";
import { type Identity, IdType, peerErrorOf } from "../../src/mikey/index.js";
import { createMemoryStore, MemoryDisk } from "../../src/store/index.js";

export const CONTROL = { host: "239.0.0.1", port: 2269 };
export const MEDIA = { host: "239.0.0.2", port: 5004 };

export const uri = (text: string): Identity => ({ idType: IdType.URI, data: utf8(text) });
export const GCKS = uri("sip:gcks@example.org");

/** What differs from a group of one audio stream, Ed25519 and OFC, rekeyed at once. */
export function definition(
  changes: Record<string, unknown> = {},
  rekey: Record<string, unknown> | null = {},
): Record<string, unknown> {
  return {
    name: "blue",
    members: [
      { identity: "sip:speaker*", role: "both" },
      { identity: "sip:listener*", role: "receiver" },
    ],
    streams: [{ media: "audio", formats: [0], address: MEDIA.host, port: MEDIA.port }],
    rekey: rekey === null ? null : { address: `${CONTROL.host}:${CONTROL.port}`, ...rekey },
    ...changes,
  };
}

export interface Rig {
  readonly network: SimulatedNetwork;
  readonly disk: MemoryDisk;
  readonly audit: AuditEvent[];
  gcks: Gcks;
  readonly observer: RigObserver | undefined;
  /** Every rekey message and heartbeat that went to the control group. */
  readonly control: Uint8Array[];
  /** kill -9 and start again: what was not durable is gone. @param changes what is different then */
  restart(changes?: Partial<GcksOptions>): Promise<void>;
  join(name: string, options?: JoinOptions): Promise<RigMember>;
  settle(milliseconds: number): Promise<void>;
  close(): Promise<void>;
}

export interface JoinOptions {
  readonly role?: { readonly send: boolean; readonly receive: boolean };
  readonly groups?: readonly string[];
  readonly psk?: Uint8Array;
  readonly member?: Partial<GroupMemberOptions>;
  /** Does not join by itself. */
  readonly idle?: boolean;
}

export interface RigMember {
  readonly name: string;
  readonly member: GroupMember;
  /** Payloads of the RTP that it opened. */
  readonly heard: number[];
  readonly states: { readonly state: MembershipState; readonly reason: string }[];
  readonly carrier: RigCarrier;
  /** Sends a packet with this sequence number to the group. */
  speak(sequence: number, onPacket?: (packet: Uint8Array) => void): boolean;
}

export interface RigCarrier extends MemberCarrier {
  /** Name of the member's host. */
  readonly host: string;
  session: MemberSession | undefined;
  /** What the key server told this member of the policy. */
  policies: GroupPolicies | undefined;
  readonly sent: { readonly iMessages: Uint8Array[]; readonly reports: Uint8Array[]; readonly responses: Uint8Array[] };
}

export interface RigOptions {
  readonly seed?: number;
  readonly definitions?: readonly Record<string, unknown>[];
  readonly gcks?: Partial<GcksOptions>;
  readonly signed?: "ed25519" | "ec-p256" | "none";
  /** Sees what the key server computes and says. */
  readonly observer?: (network: SimulatedNetwork) => RigObserver;
}

export interface RigObserver {
  /** The key server's. */
  readonly crypto: CryptoProvider;
  audit(event: AuditEvent): void;
  /** A message to the control group. */
  control(octets: Uint8Array): void;
  /** A message to one member. */
  told(octets: Uint8Array): void;
}

/** The same pre-shared key for everybody: who is who says the identity. */
export const PSK = Uint8Array.from({ length: 32 }, (_, i) => i + 1);

export async function createRig(options: RigOptions = {}): Promise<Rig> {
  const network = createSimulatedNetwork({ seed: options.seed ?? 1, settle: macrotasks });
  const disk = new MemoryDisk();
  const audit: AuditEvent[] = [];
  const control: Uint8Array[] = [];
  const server = network.host("gcks");
  let sending: Datagrams = await server.datagrams.bindMulticast({ group: CONTROL.host, port: 0 });
  const signer = await signerOf(options.signed ?? "ed25519");
  const definitions = (options.definitions ?? [definition()]).map((value) => readGroupDefinition(value));
  const observer = options.observer?.(network);
  const start = (changes: Partial<GcksOptions> = {}): Promise<Gcks> =>
    openGcks({
      store: createMemoryStore({ clock: network.clock, timers: network.timers, disk }),
      clock: network.clock,
      timers: network.timers,
      identity: GCKS,
      groups: definitions,
      findCredential: () => ({ psk: PSK }),
      ...(signer === undefined ? {} : { signer }),
      ...(observer === undefined ? {} : { crypto: observer.crypto }),
      multicast: (_address, datagram) => {
        observer?.control(datagram);
        control.push(datagram.slice());
        sending.send(datagram, CONTROL);
      },
      audit: (event) => {
        observer?.audit(event);
        audit.push(event);
      },
      ...options.gcks,
      ...changes,
    });
  const rig: Rig = {
    network,
    disk,
    audit,
    control,
    observer,
    gcks: await start(),
    async restart(changes) {
      // The one before goes on in memory, as a process that was killed does not: it may say nothing more.
      sending.close();
      sending = { local: CONTROL, onDatagram: undefined, send: () => undefined, close: () => undefined };
      await rig.gcks.close();
      sending = await server.datagrams.bindMulticast({ group: CONTROL.host, port: 0 });
      rig.gcks = await start(changes);
    },
    join: (name, joining = {}) => join(rig, name, joining),
    settle: (milliseconds) => network.advance(milliseconds),
    async close() {
      await rig.gcks.close();
      sending.close();
    },
  };
  return rig;
}

let hosts = 0;

async function join(rig: Rig, name: string, options: JoinOptions): Promise<RigMember> {
  const { network } = rig;
  const host = network.host(`${name} ${hosts++}`);
  const carrier = createCarrier(rig, host.name);
  const states: RigMember["states"] = [];
  const heard: number[] = [];
  const member = createGroupMember({
    groups: (options.groups ?? ["blue"]).map((group) => ({
      group: utf8(group),
      role: options.role ?? { send: name.startsWith("speaker"), receive: true },
    })),
    credential: { psk: options.psk ?? PSK },
    identity: uri(`sip:${name}@example.org`),
    gcks: GCKS,
    carrier,
    streams: 1,
    clock: network.clock,
    timers: network.timers,
    onState: (_membership, state, reason) => states.push({ state, reason }),
    ...options.member,
  });
  const listening = await host.datagrams.bindMulticast({ group: CONTROL.host, port: CONTROL.port });
  listening.onDatagram = (datagram) => member.receiveControl(datagram);
  const media = await host.datagrams.bindMulticast({ group: MEDIA.host, port: MEDIA.port });
  media.onDatagram = (datagram) => member.memberships[0]?.streams[0]?.receive(datagram);
  const joined: RigMember = {
    name,
    member,
    heard,
    states,
    carrier,
    speak(sequence, onPacket) {
      const packet = member.memberships[0]?.streams[0]?.protect(rtp(sequence));
      if (packet !== undefined) {
        onPacket?.(packet);
        media.send(packet, MEDIA);
      }
      return packet !== undefined;
    },
  };
  if (options.idle !== true) {
    const joining = member.join();
    joining.catch(() => undefined);
    await network.advance(50);
    await joining;
    listen(joined);
  }
  return joined;
}

/** Notes what is heard, from the first GSA on. */
export function listen({ member, heard }: RigMember): void {
  const stream = member.memberships[0]?.streams[0];
  if (stream !== undefined) stream.onRtp = (packet) => heard.push(new DataView(packet.buffer, packet.byteOffset).getUint32(12));
}

/** A packet whose payload is its number. */
export function rtp(number: number, ssrc = 0x7777_7777): Uint8Array {
  const packet = new Uint8Array(32);
  const view = new DataView(packet.buffer);
  view.setUint8(0, 0x80);
  view.setUint16(2, number & 0xffff);
  view.setUint32(4, 160 * number);
  view.setUint32(8, ssrc);
  view.setUint32(12, number);
  return packet;
}

function createCarrier(rig: Rig, host: string): RigCarrier {
  let dialogs = 0;
  let server: Gcks | undefined;
  /** A key server that was restarted knows no dialogs. */
  const known = (): MemberSession | undefined => {
    if (server !== undefined && server !== rig.gcks) {
      carrier.session = undefined;
      carrier.onLost?.();
      throw new Error("481");
    }
    return carrier.session;
  };
  const carrier: RigCarrier = {
    host,
    secure: false,
    get open() {
      return carrier.session !== undefined;
    },
    session: undefined,
    policies: undefined,
    sent: { iMessages: [], reports: [], responses: [] },
    onMessage: undefined,
    onLost: undefined,
    async register(iMessage) {
      carrier.sent.iMessages.push(iMessage.slice());
      const scope = `${host} ${dialogs++}`;
      try {
        const answer = await rig.gcks.register({
          iMessage,
          peer: { remote: { host, port: 5060 } },
          secure: false,
          scope,
          streams: 1,
          channel: {
            deliver: async (message) => {
              rig.observer?.told(message);
              carrier.onMessage?.(message);
            },
            close: () => carrier.onLost?.(),
          },
        });
        rig.observer?.told(answer.response);
        carrier.session = answer.session;
        server = rig.gcks;
        carrier.policies = answer.groups[0]?.policies;
        carrier.sent.responses.push(answer.response);
        return answer.response;
      } catch (error) {
        const reply = (error as { reply?: Uint8Array }).reply;
        throw (reply === undefined ? undefined : peerErrorOf(reply)) ?? error;
      }
    },
    async send(message) {
      carrier.sent.reports.push(message.slice());
      const answer = await known()?.receive(message);
      if (answer !== undefined) rig.observer?.told(answer);
      return answer;
    },
    async end(proof) {
      return (await known()?.end(proof))?.acknowledgement;
    },
    close() {
      carrier.session = undefined;
    },
  };
  return carrier;
}

async function signerOf(kind: "ed25519" | "ec-p256" | "none"): Promise<Signer | undefined> {
  if (kind === "none") return undefined;
  return defaultCrypto.importPrivateKey((await defaultCrypto.generateKeyPair(kind)).pkcs8);
}

/** Private keys answer by macrotasks. */
async function macrotasks(): Promise<void> {
  for (let turn = 0; turn < 12; turn++) await new Promise((resolve) => setImmediate(resolve));
}
