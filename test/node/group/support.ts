/** A key server on loopback, and members that join it by SIP and RTSP. */
import { afterEach } from "vitest";
import { defaultCrypto, type Signer } from "../../../src/crypto/index.js";
import { type AuditEvent, readGroupDefinition } from "../../../src/gcks/index.js";
import {
  type GcksService,
  type GcksServiceOptions,
  type JoinedGroup,
  type JoinGroupOptions,
  joinGroup,
  startGcksService,
} from "../../../src/node/group/index.js";
import { systemClock, systemTimers } from "../../../src/node/index.js";
import { createMemoryStore } from "../../../src/store/index.js";

export const PSK = Uint8Array.from({ length: 32 }, (_, index) => index + 1);
export const IDENTITY = "sip:gcks@127.0.0.1";
export const TOKEN = "0123456789abcdef";

export const localhost = (port = 0) => ({ host: "127.0.0.1", port });

/** Ports of its own for each group, beside every other that runs on this machine. */
export function definitionOn(port: number, changes: Record<string, unknown> = {}, rekey: Record<string, unknown> | null = {}) {
  return readGroupDefinition({
    name: "blue",
    title: "Blue group",
    members: [
      { identity: "sip:speaker*", role: "both" },
      { identity: "sip:listener*", role: "receiver" },
    ],
    streams: [{ media: "audio", formats: [0], lines: ["a=rtpmap:0 PCMU/8000"], address: "239.255.7.2", port }],
    rekey:
      rekey === null
        ? null
        : {
            address: `239.255.7.1:${port}`,
            activationDelay: 0.3,
            deactivationDelay: 4,
            heartbeat: 1,
            retransmissionInterval: 0.1,
            ...rekey,
          },
    ...changes,
  });
}

let signer: Promise<Signer> | undefined;

export interface Server {
  readonly service: GcksService;
  readonly audit: AuditEvent[];
}

export async function startServer(options: Partial<GcksServiceOptions> & Pick<GcksServiceOptions, "groups">): Promise<Server> {
  signer ??= defaultCrypto.generateKeyPair("ed25519").then(({ pkcs8 }) => defaultCrypto.importPrivateKey(pkcs8));
  const audit: AuditEvent[] = [];
  const service = await startGcksService({
    identity: IDENTITY,
    store: createMemoryStore({ clock: systemClock, timers: systemTimers }),
    findCredential: () => ({ psk: PSK }),
    signer: await signer,
    sip: [{ transport: "udp", local: localhost() }],
    rtsp: [{ local: localhost() }],
    control: { interface: "127.0.0.1", local: localhost() },
    admin: { local: localhost(), token: TOKEN },
    audit: (event) => audit.push(event),
    ...options,
  });
  return { service, audit };
}

export interface TestMember {
  readonly joined: JoinedGroup;
  /** Last 32 bits of what it heard. */
  readonly heard: number[];
  readonly states: string[];
  speak(number: number): boolean;
}

export async function join(uri: string, name: string, options: Partial<JoinGroupOptions> = {}): Promise<TestMember> {
  const heard: number[] = [];
  const states: string[] = [];
  const joined = await joinGroup({
    uri,
    identity: `sip:${name}@example.org`,
    gcks: IDENTITY,
    credential: { psk: PSK },
    role: { send: name.startsWith("speaker"), receive: true },
    interface: "127.0.0.1",
    onRtp: (_stream, packet) => heard.push(new DataView(packet.buffer, packet.byteOffset).getUint32(12)),
    onState: (membership, reason) => states.push(`${membership.state}: ${reason}`),
    ...options,
  });
  return { joined, heard, states, speak: (number) => joined.send(0, rtp(number)) };
}

/** A key server and its members, gone when each test is over. */
export function createParty() {
  let server: Server | undefined;
  const members: TestMember[] = [];
  afterEach(async () => {
    for (const { joined } of members.splice(0)) await joined.close();
    await server?.service.close();
    server = undefined;
  });
  return {
    members,
    async serve(options: Parameters<typeof startServer>[0]): Promise<Server> {
      server = await startServer(options);
      return server;
    },
    async joining(uri: string, name: string, options?: Partial<JoinGroupOptions>): Promise<TestMember> {
      const member = await join(uri, name, options);
      members.push(member);
      return member;
    },
  };
}

export function rtp(number: number): Uint8Array {
  const packet = new Uint8Array(32);
  const view = new DataView(packet.buffer);
  view.setUint8(0, 0x80);
  view.setUint16(2, number & 0xffff);
  view.setUint32(4, 160 * number);
  view.setUint32(8, 0x7777_7777);
  view.setUint32(12, number);
  return packet;
}

/** Waits for something that has to come; the test's timeout says when it does not. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10));
}
