import { createSocket } from "node:dgram";
import { afterEach, describe, expect, it } from "vitest";
import type { Datagrams, Endpoint, MulticastBinding } from "../../src/io/index.js";
import { createDatagramsFactory, formatEndpoint } from "../../src/node/index.js";

const open: Datagrams[] = [];
const factory = createDatagramsFactory();

async function bind(host = "127.0.0.1", port = 0): Promise<Datagrams> {
  const socket = await factory.bind({ host, port });
  open.push(socket);
  return socket;
}

function next(socket: Datagrams): Promise<{ octets: Uint8Array; from: Endpoint }> {
  return new Promise((resolve) => {
    socket.onDatagram = (octets, from) => resolve({ octets, from });
  });
}

afterEach(() => {
  for (const socket of open.splice(0)) socket.close();
});

describe("createDatagramsFactory", () => {
  it.each(["127.0.0.1", "::1"])("carries datagrams both ways on %s and says who sent them", async (host) => {
    const a = await bind(host);
    const b = await bind(host);
    const atB = next(b);
    a.send(Uint8Array.of(1, 2, 3), b.local);
    const got = await atB;
    expect(got.octets).toEqual(Uint8Array.of(1, 2, 3));
    expect(got.octets.constructor).toBe(Uint8Array);
    expect(got.from).toEqual(a.local);
    const atA = next(a);
    b.send(Uint8Array.of(4), got.from);
    expect((await atA).octets).toEqual(Uint8Array.of(4));
  });

  it("does not refer to the caller's octets after send", async () => {
    const a = await bind();
    const b = await bind();
    const octets: number[] = [];
    const done = new Promise<void>((resolve) => {
      b.onDatagram = (datagram) => {
        octets.push(datagram[0] as number);
        if (octets.length === 50) resolve();
      };
    });
    const memory = new Uint8Array(1);
    for (let i = 0; i < 50; i++) {
      memory[0] = i;
      a.send(memory, b.local);
    }
    await done;
    expect(octets).toEqual(Array.from({ length: 50 }, (_, i) => i));
  });

  it("sends to a host by name", async () => {
    const b = await bind();
    const a = await bind();
    const got = next(b);
    a.send(Uint8Array.of(7), { host: "localhost", port: b.local.port });
    expect((await got).octets).toEqual(Uint8Array.of(7));
  });

  it("binds pairs of an even port and the odd one above it, many at a time", async () => {
    const pairs = await Promise.all(Array.from({ length: 20 }, () => factory.bindPair("127.0.0.1")));
    for (const [rtp, rtcp] of pairs) {
      open.push(rtp, rtcp);
      expect(rtp.local.port % 2).toBe(0);
      expect(rtcp.local.port).toBe(rtp.local.port + 1);
    }
  });

  it("refuses an address in use and one that this machine has not", async () => {
    const a = await bind();
    await expect(bind("127.0.0.1", a.local.port)).rejects.toMatchObject({ code: "node.address-in-use" });
    await expect(bind("192.0.2.1")).rejects.toMatchObject({ code: "node.address-not-available" });
  });

  it("frees the port on close and ignores what comes after", async () => {
    const a = await bind();
    const { port } = a.local;
    a.close();
    a.close();
    a.send(Uint8Array.of(1), { host: "127.0.0.1", port });
    expect((await bind("127.0.0.1", port)).local.port).toBe(port);
  });

  it("loses what cannot be sent, and goes on", async () => {
    const a = await bind();
    const b = await bind();
    const got = next(b);
    a.send(new Uint8Array(70_000), b.local);
    a.send(Uint8Array.of(1), { host: "127.0.0.1", port: 0 });
    a.send(Uint8Array.of(1), { host: "::1", port: b.local.port });
    a.send(Uint8Array.of(1), { host: "127.0.0.1", port: 1 });
    a.send(Uint8Array.of(9), b.local);
    expect((await got).octets).toEqual(Uint8Array.of(9));
  });

  it("drops what arrives before anybody asks", async () => {
    const b = await bind();
    const a = await bind();
    a.send(Uint8Array.of(1), b.local);
    const echo = createSocket("udp4");
    await new Promise<void>((resolve) => echo.send(Uint8Array.of(0), a.local.port, "127.0.0.1", () => resolve()));
    await next(a);
    const got = next(b);
    a.send(Uint8Array.of(2), b.local);
    expect((await got).octets).toEqual(Uint8Array.of(2));
    echo.close();
  });
});

describe("bindMulticast", () => {
  const LOOPBACK = "127.0.0.1";
  const join = async (
    binding: Partial<MulticastBinding> & { readonly group: string; readonly port: number },
  ): Promise<Datagrams> => {
    const socket = await factory.bindMulticast({ interface: LOOPBACK, ...binding });
    open.push(socket);
    return socket;
  };
  const freePort = async (): Promise<number> => {
    const socket = await factory.bind({ host: "0.0.0.0", port: 0 });
    socket.close();
    return socket.local.port;
  };

  it.each(["239.255.77.1", "232.77.1.1"])(
    "reaches every member of %s on the port, by address or by name of the interface",
    async (group) => {
      const port = await freePort();
      const source = group.startsWith("232.") ? { source: LOOPBACK } : {};
      const members = [await join({ group, port, ...source }), await join({ group, port, ...source, interface: "lo" })];
      const sender = await join({ group, port: 0 });
      expect(sender.local.host).toBe(LOOPBACK);
      const got = members.map(next);
      sender.send(Uint8Array.of(5), { host: group, port });
      for (const { octets, from } of await Promise.all(got)) {
        expect(octets).toEqual(Uint8Array.of(5));
        expect(from).toEqual(sender.local);
      }
    },
  );

  it("hears neither other groups nor, where it names a source, other senders", async () => {
    const port = await freePort();
    const heard: number[] = [];
    const member = await join({ group: "239.255.77.2", port });
    const choosy = await join({ group: "232.77.1.2", port, source: "127.0.0.2" });
    for (const socket of [member, choosy]) socket.onDatagram = ([octet]) => heard.push(octet as number);
    const sender = await join({ group: "239.255.77.2", port: 0 });
    sender.send(Uint8Array.of(1), { host: "239.255.77.3", port });
    sender.send(Uint8Array.of(2), { host: LOOPBACK, port });
    sender.send(Uint8Array.of(3), { host: "232.77.1.2", port });
    const got = next(member);
    sender.send(Uint8Array.of(4), { host: "239.255.77.2", port });
    expect((await got).octets).toEqual(Uint8Array.of(4));
    expect(heard).toEqual([]);
  });

  it("refuses what is no group, an interface that is not there, and a source-specific group without a source", async () => {
    for (const binding of [
      { group: "127.0.0.1", port: 5004 },
      { group: "239.300.0.1", port: 5004 },
      { group: "239.255.77.4", port: 5004, interface: "no-such-interface" },
      { group: "239.255.77.4", port: 5004, interface: "192.0.2.1" },
      { group: "239.255.77.4", port: 5004, ttl: 256 },
      { group: "232.77.1.3", port: 5004 },
    ]) {
      await expect(join(binding)).rejects.toMatchObject({ code: "node.multicast" });
    }
  });
});

describe("formatEndpoint", () => {
  it("brackets IPv6", () => {
    expect(formatEndpoint({ host: "127.0.0.1", port: 554 })).toBe("127.0.0.1:554");
    expect(formatEndpoint({ host: "::1", port: 554 })).toBe("[::1]:554");
  });
});
