import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Datagrams, Endpoint } from "../../../src/io/index.js";
import type { GcksServiceOptions, JoinGroupOptions } from "../../../src/node/group/index.js";
import { createDatagramsFactory, systemClock, systemTimers } from "../../../src/node/index.js";
import { createMemoryStore } from "../../../src/store/index.js";
import { definitionOn, join, localhost, type Server, startServer, type TestMember, until } from "./support.js";

const REPORT = 245;
const REKEY = 242;
const factory = createDatagramsFactory();

/** A translator of addresses between members and their key server: each member gets a port of its own, and another one when asked. */
class Translator {
  readonly #inside: Datagrams;
  readonly #server: Endpoint;
  readonly #ways = new Map<string, Promise<Datagrams>>();
  /** Data types of MIKEY messages that passed: to the key server, and back. */
  readonly passed = { up: [] as number[], down: [] as number[] };

  constructor(inside: Datagrams, server: Endpoint) {
    this.#inside = inside;
    this.#server = server;
    inside.onDatagram = (datagram, from) => {
      this.passed.up.push(datagram[1] ?? 0);
      const name = `${from.host}:${from.port}`;
      const way = this.#ways.get(name) ?? this.#open(from);
      this.#ways.set(name, way);
      way.then((socket) => socket.send(datagram, this.#server));
    };
  }

  /** Forgets who is where. */
  async forget(): Promise<void> {
    for (const way of this.#ways.values()) (await way).close();
    this.#ways.clear();
  }

  async close(): Promise<void> {
    this.#inside.close();
    await this.forget();
  }

  async #open(to: Endpoint): Promise<Datagrams> {
    const socket = await factory.bind(localhost());
    socket.onDatagram = (datagram) => {
      this.passed.down.push(datagram[1] ?? 0);
      this.#inside.send(datagram, to);
    };
    return socket;
  }
}

describe("rekey messages by unicast UDP", () => {
  let server: Server | undefined;
  let translator: Translator | undefined;
  const members: TestMember[] = [];

  let inside: Datagrams;
  const groups = (port: number, rekey: Record<string, unknown>) => [
    definitionOn(port, {}, { address: undefined, server: `127.0.0.1:${inside.local.port}`, ...rekey }),
  ];

  /** A key server behind a translator. */
  const start = async (
    port: number,
    rekey: Record<string, unknown> = {},
    options: Partial<GcksServiceOptions> = {},
  ): Promise<Server> => {
    inside = await factory.bind(localhost());
    server = await startServer({ groups: groups(port, rekey), ...options });
    translator = new Translator(inside, server.service.control as Endpoint);
    return server;
  };
  const joining = async (uri: string, name: string, options: Partial<JoinGroupOptions> = {}): Promise<TestMember> => {
    const member = await join(uri, name, options);
    members.push(member);
    return member;
  };
  const newest = () => server?.service.gcks.groups[0]?.sequence ?? 0;
  const allHave = () => until(() => members.every(({ joined }) => joined.membership.sequence === newest()));
  const count = (types: readonly number[], type: number): number => types.filter((found) => found === type).length;

  beforeEach(() => {
    server = undefined;
    translator = undefined;
  });

  afterEach(async () => {
    for (const { joined } of members.splice(0)) await joined.close();
    await server?.service.close();
    await translator?.close();
  });

  it("come to the address that reports come from, by SIP and by RTSP", async () => {
    const { service } = await start(47_070);
    const [sip = "", rtsp = ""] = service.urisOf("blue");
    const speaker = await joining(sip, "speaker");
    const listener = await joining(rtsp, "listener");
    const { passed } = translator as Translator;
    for (const { joined } of members) {
      expect(joined.membership.control).toBeUndefined();
      expect(joined.membership.server).toMatch(/^udp:\/\/127\.0\.0\.1:/);
    }
    await until(() => service.gcks.members("blue").every(({ state }) => state === "confirmed"));
    await service.gcks.rekey("blue");
    await allHave();
    // Each of them got the message, and again as often as the policy says.
    await until(() => count(passed.down, REKEY) >= 2 * 4);
    let number = 0;
    await until(() => {
      speaker.speak(number++);
      return listener.heard.length > 5;
    });
    for (const { joined } of members.toReversed()) expect(await joined.leave()).toBe("verified");
    expect(listener.states).toEqual(["joining: asked to join", "in-step: GSA installed", "idle: closed"]);
  });

  it("follow a member to another address with its next report", async () => {
    const { service } = await start(47_080, { heartbeat: 0, retransmissions: 0 });
    const [sip = ""] = service.urisOf("blue");
    const { joined } = await joining(sip, "listener", { reportIntervalMs: 300 });
    const { passed } = translator as Translator;
    await until(() => service.gcks.members("blue").every(({ state }) => state === "confirmed"));
    await translator?.forget();
    // What is sent meanwhile is lost: the member gets it where its next report came from.
    const reports = count(passed.up, REPORT);
    await service.gcks.rekey("blue");
    await allHave();
    expect(count(passed.up, REPORT)).toBeGreaterThan(reports);
    expect(service.gcks.metrics.registrations).toBe(1);
    expect(joined.membership.state).toBe("in-step");
    await translator?.forget();
    // Under another KEK the report says by itself that it has missed a message, however many there were.
    for (let turn = 0; turn < 2; turn++) await service.gcks.replace("blue");
    await allHave();
    expect(service.gcks.metrics.registrations).toBe(1);
  });

  it("reach members after a restart that knew nothing of it", async () => {
    const store = createMemoryStore({ clock: systemClock, timers: systemTimers });
    const { service } = await start(47_100, {}, { store });
    const { joined } = await joining(service.urisOf("blue")[1] ?? "", "listener");
    await until(() => service.gcks.members("blue").every(({ state }) => state === "confirmed"));
    // The reports that repeat the first one are over: the next comes in 15 s.
    const { passed } = translator as Translator;
    await until(() => count(passed.up, REPORT) === 4);
    await service.close();
    server = await startServer({
      groups: groups(47_100, {}),
      store,
      control: { interface: "127.0.0.1", local: service.control as Endpoint },
    });
    await server.service.gcks.rekey("blue");
    await allHave();
    expect(count(passed.up, REPORT)).toBe(4);
    expect(server.service.gcks.metrics.registrations).toBe(0);
    await until(() => joined.membership.state === "in-step");
  });

  it("are for members without multicast in a group that has it", async () => {
    const { service } = await start(47_090, { address: "239.255.7.1:47090" });
    const [sip = "", rtsp = ""] = service.urisOf("blue");
    const { joined: far } = await joining(sip, "speaker", { unicast: true });
    const { joined: near } = await joining(rtsp, "listener");
    expect(far.membership).toMatchObject({ control: undefined, server: expect.stringMatching(/^udp:/) });
    expect(near.membership).toMatchObject({ control: "udp://239.255.7.1:47090", server: undefined });
    const { passed } = translator as Translator;
    await until(() => count(passed.up, REPORT) > 0);
    await service.gcks.rekey("blue");
    await allHave();
    expect(count(passed.down, REKEY)).toBeGreaterThan(0);
    expect(service.gcks.metrics.registrations).toBe(2);
  });
});
