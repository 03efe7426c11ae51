import { describe, expect, it } from "vitest";
import { utf8, utf8Text } from "../../src/bytes/index.js";
import { createSimulatedNetwork, type SimulatedNetwork, type Stream } from "../../src/io/index.js";

async function connected(network: SimulatedNetwork): Promise<readonly [Stream, Stream]> {
  let far: Stream | undefined;
  network.host("b").listen(80, (stream) => {
    far = stream;
  });
  const near = network.host("a").streams.connect({ host: "b", port: 80 });
  await network.advance(10);
  return [await near, far as Stream];
}

function collect(stream: Stream): { text: () => string; closed: () => string } {
  const parts: Uint8Array[] = [];
  let closed = "open";
  stream.onData = (octets) => parts.push(octets);
  stream.onClose = (error) => {
    closed = error === undefined ? "closed" : `closed: ${(error as { code?: string }).code}`;
  };
  return { text: () => parts.map((part) => utf8Text(part)).join(""), closed: () => closed };
}

describe("simulated time", () => {
  it("runs timers in order at their time", async () => {
    const network = createSimulatedNetwork({ now: 1000 });
    const seen: (readonly [string, number])[] = [];
    network.timers.after(20, () => seen.push(["b", network.clock.now()]));
    network.timers.after(10, () => seen.push(["a", network.clock.now()]));
    const every = network.timers.every(15, () => seen.push(["e", network.clock.now()]));
    network.timers.after(5, () => seen.push(["never", 0])).cancel();
    await network.advance(35);
    every.cancel();
    await network.advance(100);
    expect(seen).toEqual([
      ["a", 1010],
      ["e", 1015],
      ["b", 1020],
      ["e", 1030],
    ]);
    expect(network.clock.now()).toBe(1135);
    expect(network.pending).toBe(0);
  });

  it("is reproducible by its seed", () => {
    const bytes = (seed: number): string => createSimulatedNetwork({ seed }).random.bytes(16).join();
    expect(bytes(7)).toBe(bytes(7));
    expect(bytes(7)).not.toBe(bytes(8));
  });
});

describe("simulated datagrams", () => {
  it("arrive after the delay, from the sender's address", async () => {
    const network = createSimulatedNetwork();
    network.setLink({ delay: 30 });
    const a = await network.host("a").datagrams.bind({ host: "a", port: 0 });
    const [b, bRtcp] = await network.host("b").datagrams.bindPair("b");
    expect(b.local.port % 2).toBe(0);
    expect(bRtcp.local.port).toBe(b.local.port + 1);
    const got: unknown[] = [];
    b.onDatagram = (octets, from) => got.push([utf8Text(octets), from, network.clock.now()]);
    const start = network.clock.now();
    a.send(utf8("hello"), b.local);
    await network.advance(29);
    expect(got).toEqual([]);
    await network.advance(1);
    expect(got).toEqual([["hello", a.local, start + 30]]);
    a.close();
    a.send(utf8("x"), b.local);
    b.close();
    bRtcp.close();
    expect(network.host("b").open).toEqual({ datagrams: 0, streams: 0 });
  });

  it("are lost, doubled, reordered and cut as the link says", async () => {
    const network = createSimulatedNetwork({ seed: 3 });
    const a = await network.host("a").datagrams.bind({ host: "a", port: 9 });
    const b = await network.host("b").datagrams.bind({ host: "b", port: 9 });
    const run = async (quality: Parameters<SimulatedNetwork["setLink"]>[0]): Promise<number[]> => {
      const got: number[] = [];
      b.onDatagram = (octets) => got.push(octets[0] as number);
      network.setLink(quality, ["a", "b"]);
      for (let i = 0; i < 100; i++) a.send(Uint8Array.of(i), b.local);
      await network.advance(1000);
      return got;
    };
    const lossy = (await run({ loss: 0.5 })).length;
    expect(lossy).toBeGreaterThan(20);
    expect(lossy).toBeLessThan(80);
    expect((await run({ duplicate: 1 })).length).toBe(200);
    const reordered = await run({ jitter: 100 });
    expect(reordered).not.toEqual(reordered.toSorted((x, y) => x - y));
    expect(await run({ partitioned: true })).toEqual([]);
    expect((await run({})).length).toBe(100);
  });

  it("refuses a port that is taken", async () => {
    const { datagrams } = createSimulatedNetwork().host("a");
    await datagrams.bind({ host: "a", port: 9 });
    await expect(datagrams.bind({ host: "a", port: 9 })).rejects.toMatchObject({ code: "io.address-in-use" });
  });
});

describe("simulated streams", () => {
  it("deliver in order, in chunks, and end after what was written", async () => {
    const network = createSimulatedNetwork({ streamChunk: 3 });
    const [near, far] = await connected(network);
    const nearSide = collect(near);
    const farSide = collect(far);
    near.write(utf8("hello "));
    near.write(utf8("world"));
    near.end();
    near.write(utf8("late"));
    await network.advance(20);
    expect(farSide.text()).toBe("hello world");
    expect([nearSide.closed(), farSide.closed()]).toEqual(["closed", "closed"]);
    expect(network.host("a").open.streams + network.host("b").open.streams).toBe(0);
  });

  it("buffer when the reader stops, and drain when it reads", async () => {
    const network = createSimulatedNetwork({ streamWindow: 10 });
    const [near, far] = await connected(network);
    let drained = 0;
    near.onDrain = () => drained++;
    near.write(new Uint8Array(25));
    await network.advance(10);
    expect(near.buffered).toBe(15);
    const farSide = collect(far);
    await network.advance(10);
    expect(near.buffered).toBe(0);
    expect(drained).toBe(1);
    expect(farSide.text().length).toBe(25);
  });

  it("tell the other end of a reset", async () => {
    const network = createSimulatedNetwork();
    const [near, far] = await connected(network);
    const farSide = collect(far);
    near.destroy();
    await network.advance(10);
    expect(farSide.closed()).toBe("closed: io.reset");
  });

  it("stall in a partition and go on when it heals", async () => {
    const network = createSimulatedNetwork();
    const [near, far] = await connected(network);
    const farSide = collect(far);
    network.setLink({ partitioned: true });
    near.write(utf8("one "));
    await network.advance(1000);
    near.write(utf8("two"));
    expect(farSide.text()).toBe("");
    network.setLink({});
    await network.advance(10);
    expect(farSide.text()).toBe("one two");
  });

  it("are refused where nobody listens, or in the other security", async () => {
    const network = createSimulatedNetwork();
    const stop = network.host("b").listen(443, () => {}, { secure: true });
    const outcomes = await Promise.all([
      settled(network, network.host("a").streams.connect({ host: "b", port: 80 })),
      settled(network, network.host("a").streams.connect({ host: "b", port: 443 })),
      settled(network, network.host("a").streams.connect({ host: "b", port: 443 }, { secure: true })),
    ]);
    expect(outcomes).toEqual(["io.refused", "io.refused", "secure"]);
    stop();
    expect(await settled(network, network.host("a").streams.connect({ host: "b", port: 443 }, { secure: true }))).toBe(
      "io.refused",
    );
  });
});

async function settled(network: SimulatedNetwork, connecting: Promise<Stream>): Promise<string> {
  const outcome = connecting.then(
    (stream) => (stream.channel.secure ? "secure" : "plain"),
    (error: { code: string }) => error.code,
  );
  await network.advance(10);
  return outcome;
}
