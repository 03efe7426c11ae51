import { describe, expect, it } from "vitest";
import { utf8, utf8Text } from "../../src/bytes/index.js";
import { createSimulatedNetwork, type Datagrams, type DatagramsFactory } from "../../src/io/index.js";
import { createDatagramPorts } from "../../src/rtsp/datagram-ports.js";

function setting(wrap: (factory: DatagramsFactory) => DatagramsFactory = (factory) => factory) {
  const network = createSimulatedNetwork();
  const server = network.host("server");
  let pairs = 0;
  const ports = createDatagramPorts(
    wrap({
      ...server.datagrams,
      bindPair: (host) => {
        pairs++;
        return server.datagrams.bindPair(host);
      },
    }),
  );
  const open = (host: string, rtp: number, rtcp = rtp + 1) => ports.open("server", { host, ports: [rtp, rtcp] });
  const bind = (host: string, port: number): Promise<Datagrams> => network.host(host).datagrams.bind({ host, port });
  return { network, server, open, bind, pairs: () => pairs };
}

describe("the ports of a server", () => {
  it("serve all clients, and tell their packets apart by where they come from", async () => {
    const { network, server, open, bind, pairs } = setting();
    const ways = await Promise.all([open("a", 5000), open("a", 5002), open("b", 5000)]);
    expect(pairs()).toBe(1);
    expect(new Set(ways.map(({ ports }) => ports.join())).size).toBe(1);
    const heard: string[] = [];
    ways.forEach(({ carrier }, index) => {
      carrier.onRtp = (packet) => heard.push(`${index} rtp ${utf8Text(packet)}`);
      carrier.onRtcp = (packet) => heard.push(`${index} rtcp ${utf8Text(packet)}`);
    });
    const sockets = await Promise.all([
      bind("a", 5000),
      bind("a", 5001),
      bind("a", 5003),
      bind("b", 5001),
      bind("a", 6001),
      bind("c", 5000),
    ]);
    const [rtpPort, rtcpPort] = ways[0]?.ports ?? [0, 0];
    const got: string[] = [];
    sockets.forEach((socket, index) => {
      socket.onDatagram = (packet, from) => got.push(`${index} ${utf8Text(packet)} from ${from.port - rtpPort}`);
    });
    sockets[0]?.send(utf8("1"), { host: "server", port: rtpPort });
    for (const [index, socket] of sockets.slice(1).entries())
      socket.send(utf8(String(index + 2)), { host: "server", port: rtcpPort });
    for (const { carrier } of ways) {
      carrier.sendRtp(utf8("media"));
      carrier.sendRtcp(utf8("report"));
    }
    await network.advance(100);
    // Neither a third port of an address with two streams nor an unknown address is anybody's.
    expect(heard.toSorted()).toEqual(["0 rtcp 2", "0 rtp 1", "1 rtcp 3", "2 rtcp 4"]);
    expect(got.toSorted()).toEqual(["0 media from 0", "1 report from 1", "2 report from 1", "3 report from 1"]);
    for (const { carrier } of ways) carrier.close();
    for (const socket of sockets) socket.close();
    await network.advance(100);
    expect(server.open.datagrams).toBe(0);
  });

  it("hear the only stream of an address from any port: a translator chose it", async () => {
    const { network, open, bind } = setting();
    const { carrier, ports } = await open("nat", 5000);
    const heard: string[] = [];
    carrier.onRtcp = (packet) => heard.push(utf8Text(packet) ?? "");
    const other = await bind("nat", 40_001);
    other.send(utf8("report"), { host: "server", port: ports[1] });
    await network.advance(100);
    expect(heard).toEqual(["report"]);
  });

  it("are another pair for a client address that is taken, and the same pair again when it is free", async () => {
    const { open, pairs } = setting();
    const first = await open("a", 5000);
    const second = await open("a", 5000);
    const third = await open("a", 4999, 5000);
    expect(pairs()).toBe(2);
    expect(second.ports).not.toEqual(first.ports);
    expect(third.ports).toEqual(first.ports);
    first.carrier.close();
    first.carrier.close();
    expect((await open("a", 5000)).ports).toEqual(first.ports);
    expect(pairs()).toBe(2);
  });

  it("that cannot be bound leave nothing behind", async () => {
    let broken = true;
    const { network, server, open } = setting((factory) => ({
      ...factory,
      bindPair: (host) => (broken ? Promise.reject(new Error("no descriptors")) : factory.bindPair(host)),
    }));
    const results = await Promise.allSettled([open("a", 5000), open("b", 5000)]);
    expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    broken = false;
    const { carrier } = await open("a", 5000);
    expect(server.open.datagrams).toBe(2);
    carrier.close();
    await network.advance(1);
    expect(server.open.datagrams).toBe(0);
  });
});
