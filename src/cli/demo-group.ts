import { WatchwordError } from "../bytes/index.js";
import { defaultCrypto } from "../crypto/index.js";
import { readGroupDefinition } from "../gcks/index.js";
import type { Datagrams, DatagramsFactory, Endpoint } from "../io/index.js";
import type { JoinedGroup } from "../node/group/index.js";
import { createDatagramsFactory, createToneSource, formatEndpoint, systemClock, systemTimers } from "../node/index.js";
import { createMemoryStore } from "../store/index.js";
import { formatHex32 } from "./hex32.js";
import { loadGroup } from "./sip-js.js";

const IDENTITY = "sip:gcks@127.0.0.1";
/** Administratively scoped (RFC 2365); everything stays on loopback. */
const CONTROL = "239.255.46.1:2270";
const MEDIA = { host: "239.255.46.2", port: 46_004 };
/** Packets of 20 ms that have to be heard at each step. */
const PACKETS = 25;
/** Milliseconds in which a datagram to a group comes back on loopback. */
const PROBE = 500;
/** Milliseconds for what takes two or three seconds. */
const PATIENCE = 20_000;

/** One member of the demonstration. */
interface DemoMember {
  readonly name: string;
  readonly group: JoinedGroup;
  heard: number;
}

/** A key server, three members that come by SIP and RTSP, a tone; one is expelled, the others hear on, leave with a proof, and the group ends. */
export async function demonstrateGroup(
  step: (name: string, text: string) => void,
  { multicast }: { readonly multicast?: boolean } = {},
): Promise<void> {
  const { startGcksService, joinGroup } = await loadGroup();
  const network = createDatagramsFactory();
  const isMulticast = multicast ?? (await takesMulticast(network));
  const server = isMulticast ? undefined : await freeAddress(network);
  const datagrams = isMulticast ? network : createFanOut(network);
  const keys = new Map(["alice", "bob", "mallory"].map((name) => [`sip:${name}@example.org`, defaultCrypto.randomBytes(32)]));
  const { pkcs8 } = await defaultCrypto.generateKeyPair("ed25519");
  const definition = readGroupDefinition({
    name: "blue",
    members: [
      { identity: "sip:alice@example.org", role: "both" },
      { identity: "sip:*@example.org", role: "receiver" },
    ],
    streams: [{ media: "audio", formats: [0], lines: ["a=rtpmap:0 PCMU/8000"], address: MEDIA.host, port: MEDIA.port }],
    rekey: {
      ...(server === undefined ? { address: CONTROL } : { server: formatEndpoint(server) }),
      activationDelay: 0.5,
      deactivationDelay: 4,
      heartbeat: 2,
    },
  });
  const service = await startGcksService({
    identity: IDENTITY,
    groups: [definition],
    store: createMemoryStore({ clock: systemClock, timers: systemTimers }),
    findCredential: (identity) => {
      const psk = keys.get(new TextDecoder().decode(identity?.data));
      return psk === undefined ? undefined : { psk };
    },
    signer: defaultCrypto.importPrivateKey(pkcs8),
    sip: [{ transport: "udp", local: { host: "127.0.0.1", port: 0 } }],
    rtsp: [{ local: { host: "127.0.0.1", port: 0 } }],
    control: { interface: "127.0.0.1", ttl: 0, ...(server === undefined ? {} : { local: server }) },
  });
  const members: DemoMember[] = [];
  const tone = createToneSource();
  try {
    const [sip = "", rtsp = ""] = service.urisOf("blue");
    step("gcks", `group "blue" at ${sip}`);
    step("", `and at ${rtsp}: AEAD_AES_128_GCM, one-way function chain tree, rekeys signed by Ed25519`);
    if (!isMulticast) step("", "no multicast on this machine: rekey messages and media go by unicast to each member");
    const join = async (name: string, uri: string, how: string): Promise<DemoMember> => {
      const identity = `sip:${name}@example.org`;
      const group = await joinGroup({
        uri,
        identity,
        gcks: IDENTITY,
        credential: { psk: keys.get(identity) ?? new Uint8Array(0) },
        role: { send: name === "alice", receive: true },
        interface: "127.0.0.1",
        datagrams,
        onRtp: () => {
          member.heard++;
        },
      });
      const member: DemoMember = { name, group, heard: 0 };
      members.push(member);
      const { sequence, streams } = group.membership;
      step(
        "JOIN",
        `${name} by ${how}: one round trip brought keys, policy and SSRC ${idOf(streams[0]?.ssrc)}; sequence ${sequence}`,
      );
      return member;
    };
    const alice = await join("alice", sip, "SIP (INVITE)");
    const bob = await join("bob", rtsp, "RTSP (SETUP)");
    const mallory = await join("mallory", sip.replace("transport=udp", "transport=tcp"), "SIP (INVITE)");
    tone.onRtp = (_track, packet) => void alice.group.send(0, packet);
    await tone.start();
    await hear([bob, mallory]);
    step("TONE", `alice speaks to the group ${MEDIA.host}:${MEDIA.port}; bob and mallory hear it, MKI ${mkiOf(alice)}`);
    const before = mkiOf(alice);
    await service.gcks.expel("blue", "sip:mallory@example.org");
    await until(() => mkiOf(alice) !== before, "the new key does not become active");
    const { rekeys, rekeyOctets, rekeyPackets } = service.gcks.metrics;
    step(
      "EXPEL",
      `mallory is out: new keys for the others, MKI ${mkiOf(alice)} (${rekeys} rekeys so far, ${rekeyPackets} packets, ${rekeyOctets} octets)`,
    );
    const silent = mallory.heard;
    await hear([bob]);
    step("", `bob hears on; mallory opened ${mallory.heard - silent} packets since`);
    if (mallory.heard > silent + 1) throw failure("who was expelled heard on");
    for (const { name, group } of [bob, alice]) {
      if (name === "alice") tone.stop();
      const proof = await group.leave();
      if (proof !== "verified") throw failure("a proof was not acknowledged");
      step("LEAVE", `${name} proved possession of the group's keys; the key server proved it in return: ${proof}`);
    }
    await service.gcks.end("blue");
    step("END", "the key server said farewell, signed; the group is over");
  } finally {
    tone.stop();
    for (const { group } of members) await group.close();
    await service.close();
  }
}

/** Whether what is sent to a group on loopback is heard there: containers and firewalls may be against it. */
async function takesMulticast(factory: DatagramsFactory): Promise<boolean> {
  let socket: Datagrams;
  try {
    socket = await factory.bindMulticast({ group: MEDIA.host, port: MEDIA.port, interface: "127.0.0.1", ttl: 0 });
  } catch (error) {
    if (error instanceof WatchwordError) return false;
    throw error;
  }
  let heard = false;
  socket.onDatagram = () => {
    heard = true;
  };
  const end = systemClock.now() + PROBE;
  while (!heard && systemClock.now() < end) {
    socket.send(Uint8Array.of(0), MEDIA);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  socket.close();
  return heard;
}

async function freeAddress(factory: DatagramsFactory): Promise<Endpoint> {
  const socket = await factory.bind({ host: "127.0.0.1", port: 0 });
  socket.close();
  return socket.local;
}

/** In place of a network with multicast: what is sent to a group goes by unicast to every socket of this process that has joined it. */
function createFanOut(factory: DatagramsFactory): DatagramsFactory {
  const joined = new Map<string, Set<Endpoint>>();
  return {
    ...factory,
    async bindMulticast({ group, port }) {
      const socket = await factory.bind({ host: "127.0.0.1", port: 0 });
      const name = formatEndpoint({ host: group, port });
      const members = joined.get(name) ?? new Set();
      joined.set(name, members.add(socket.local));
      const binding: Datagrams = {
        local: socket.local,
        onDatagram: undefined,
        send: (datagram, to) => {
          for (const member of joined.get(formatEndpoint(to)) ?? []) socket.send(datagram, member);
        },
        close: () => {
          members.delete(socket.local);
          socket.close();
        },
      };
      socket.onDatagram = (datagram, from) => binding.onDatagram?.(datagram, from);
      return binding;
    },
  };
}

/** Waits until each of them has heard some more. */
async function hear(members: readonly DemoMember[]): Promise<void> {
  const from = members.map(({ heard }) => heard);
  await until(() => members.every(({ heard }, index) => heard >= (from[index] ?? 0) + PACKETS), "nothing is heard");
}

async function until(condition: () => boolean, otherwise: string): Promise<void> {
  const end = systemClock.now() + PATIENCE;
  while (!condition()) {
    if (systemClock.now() > end) throw failure(otherwise);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function failure(detail: string): WatchwordError {
  return new WatchwordError("cli.demo", `the demonstration did not go as it should: ${detail}`);
}

function mkiOf({ group }: DemoMember): string {
  return idOf(group.membership.streams[0]?.mki);
}

function idOf(value: number | undefined): string {
  return value === undefined ? "none" : formatHex32(value);
}
