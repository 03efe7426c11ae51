import type { Worker } from "node:worker_threads";
import { afterEach, describe, expect, it, vi } from "vitest";
import { equalBytes, formatHex, type WatchwordError } from "../../src/bytes/index.js";
import { createSrtpPool, nodeCrypto, type PooledSessionEvents, type SrtpPool, type SrtpPoolOptions } from "../../src/node/index.js";
import { createSrtpReceiver, createSrtpSender, SrtpFailure, type SuiteName } from "../../src/srtp/index.js";
import { masterKey, rtcpPacket, rtpPacket } from "../srtp/packets.js";

const threads = vi.hoisted(() => [] as Worker[]);

/** The threads that pools start, so that a test can kill them. */
vi.mock("node:worker_threads", async (original) => {
  const actual = await original<typeof import("node:worker_threads")>();
  return {
    ...actual,
    Worker: class extends actual.Worker {
      constructor(...args: ConstructorParameters<typeof Worker>) {
        super(...args);
        threads.push(this);
      }
    },
  };
});

const SUITE = "AES_CM_128_HMAC_SHA1_80";
const SSRC = 0xcafebabe;
const TYPESCRIPT = ["--import", new URL("../typescript-worker.js", import.meta.url).href];
const pools: SrtpPool[] = [];

function pool(options: SrtpPoolOptions = {}): SrtpPool {
  const made = createSrtpPool({ workers: 2, slots: 64, slotOctets: 512, execArgv: TYPESCRIPT, ...options });
  pools.push(made);
  return made;
}

afterEach(async () => {
  await Promise.all(pools.splice(0).map((one) => one.close()));
  threads.length = 0;
});

/** Keeps what comes back. */
function collector() {
  const results: { result: number; packet: Uint8Array; token: number }[] = [];
  const failures: { error: WatchwordError; lost: readonly number[] }[] = [];
  let wake = () => {};
  const events: PooledSessionEvents = {
    packet(result, packet, token) {
      results.push({ result, packet: packet.slice(), token });
      wake();
    },
    failed(error, lost) {
      failures.push({ error, lost });
      wake();
    },
  };
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return { results, failures, events, until };
}

function session(suite: SuiteName = SUITE, seed = 1) {
  return { policy: { suite }, keys: [masterKey(suite, seed)] };
}

describe("a pool of SRTP workers", () => {
  it.each(["AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM", "NULL_HMAC_SHA1_32"] as const)(
    "%s: makes the packets that a session here makes, and opens them, in order",
    async (suite) => {
      const workers = pool();
      const [out, back] = [collector(), collector()];
      const sender = await workers.sender(session(suite), out.events);
      const receiver = await workers.receiver(session(suite), back.events);
      const local = createSrtpSender({ ...session(suite), crypto: nodeCrypto });
      const packets = Array.from({ length: 300 }, (_, i) =>
        rtpPacket({ sequence: (65_400 + i) & 0xffff, ssrc: SSRC + (i % 3), payload: new Uint8Array(i % 200).fill(i) }),
      );
      for (const [i, packet] of packets.entries()) {
        while (!sender.protect(packet, i)) await sender.ready();
      }
      await out.until(() => out.results.length === packets.length);
      for (const [i, { result, packet, token }] of out.results.entries()) {
        const expected = new Uint8Array(packet.length);
        expect(token).toBe(i);
        expect(local.protect(packets[i] as Uint8Array, expected)).toBe(result);
        expect(formatHex(packet)).toBe(formatHex(expected));
        while (!receiver.unprotect(packet, i)) await receiver.ready();
      }
      await back.until(() => back.results.length === packets.length);
      back.results.forEach(({ packet, token }, i) => {
        expect(token).toBe(i);
        expect(equalBytes(packet, packets[i] as Uint8Array)).toBe(true);
      });
      expect(await receiver.rolloverCounter(SSRC)).toBe(1);
      expect((await receiver.statistics()).rtp.packets).toBe(packets.length);
    },
  );

  it("carries SRTCP, and failures as numbers", async () => {
    const workers = pool();
    const [out, back] = [collector(), collector()];
    const sender = await workers.sender(session(), out.events);
    const receiver = await workers.receiver(session(), back.events);
    sender.protectRtcp(rtcpPacket(3), 7);
    sender.protectRtcp(new Uint8Array(3), 8);
    sender.protect(new Uint8Array(3), 9);
    sender.protect(rtpPacket({ sequence: 5 }), 10);
    sender.protect(rtpPacket({ sequence: 5 }), 11);
    await out.until(() => out.results.length === 5);
    const { malformed, replay, authentication } = SrtpFailure;
    expect(out.results.map(({ token, result }) => [token, result])).toEqual([
      [7, 34],
      [8, malformed],
      [9, malformed],
      [10, 42],
      [11, replay],
    ]);
    const [rtcp, , , rtp] = out.results.map(({ packet }) => packet) as Uint8Array[];
    receiver.unprotectRtcp(rtcp as Uint8Array);
    receiver.unprotectRtcp(rtcp as Uint8Array);
    receiver.unprotect((rtp as Uint8Array).map((octet, i) => (i === 20 ? octet ^ 1 : octet)));
    await back.until(() => back.results.length === 3);
    expect(back.results.map(({ result }) => result)).toEqual([20, replay, authentication]);
    expect(await receiver.statistics()).toMatchObject({ rtp: { authenticationFailures: 1 }, rtcp: { packets: 1, replays: 1 } });
  });

  it("changes keys and counters exactly between the packets before and after", async () => {
    const workers = pool();
    const [out, back] = [collector(), collector()];
    const [one, two] = [Uint8Array.of(1), Uint8Array.of(2)];
    const keys = [masterKey(SUITE, 1, one)];
    const sender = await workers.sender({ policy: { suite: SUITE }, keys }, out.events);
    const requests: Promise<unknown>[] = [];
    for (let sequence = 0; sequence < 40; sequence++) {
      if (sequence === 10) requests.push(sender.addKey(masterKey(SUITE, 2, two)));
      if (sequence === 20) requests.push(sender.useKey(two));
      if (sequence === 30) requests.push(sender.setRolloverCounter(SSRC, 5), sender.removeKey(one));
      expect(sender.protect(rtpPacket({ sequence }), sequence)).toBe(true);
    }
    expect(await Promise.all(requests)).toEqual([undefined, undefined, undefined, true]);
    await out.until(() => out.results.length === 40);
    const local = createSrtpReceiver({ policy: { suite: SUITE }, keys: [...keys, masterKey(SUITE, 2, two)] });
    out.results.forEach(({ packet }, sequence) => {
      expect(packet.at(-11)).toBe(sequence < 20 ? 1 : 2);
      if (sequence === 30) local.setRolloverCounter(SSRC, 5);
      expect(local.unprotect(packet, new Uint8Array(100))).toBe(32);
    });
    await expect(sender.useKey(one)).rejects.toMatchObject({ code: "srtp.unknown-mki" });
    await expect(sender.addKey(masterKey(SUITE, 2, two))).rejects.toMatchObject({ code: "srtp.mki-duplicate" });
    expect(back.results).toEqual([]);
  });

  it("takes no more than its queue holds, and says when it takes more", async () => {
    const workers = pool({ workers: 1, slots: 8 });
    const out = collector();
    const sender = await workers.sender(session(), out.events);
    let refused = 0;
    // Results come out between turns of the event loop only: within one turn the queue fills.
    for (let sequence = 0; sequence < 20; sequence++) if (!sender.protect(rtpPacket({ sequence }), sequence)) refused++;
    expect(refused).toBe(12);
    await sender.ready();
    expect(sender.protect(rtpPacket({ sequence: 30 }), 30)).toBe(true);
    await out.until(() => out.results.length === 9);
    expect(out.results.map(({ token }) => token)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 30]);
    await sender.ready();
  });

  it("refuses what it cannot do with typed errors, and goes on", async () => {
    const workers = pool({ workers: 1 });
    const out = collector();
    await expect(workers.sender({ policy: { suite: SUITE }, keys: [] }, out.events)).rejects.toMatchObject({ code: "srtp.option" });
    const sender = await workers.sender(session(), out.events);
    expect(() => sender.protect(new Uint8Array(513))).toThrow(expect.objectContaining({ code: "node.pool-packet" }));
    const longest = rtpPacket({ sequence: 1, payload: new Uint8Array(500) });
    expect(sender.protect(longest)).toBe(true);
    await out.until(() => out.results.length === 1);
    expect(out.results[0]?.result).toBe(SrtpFailure.outputSpace);
    await sender.close();
    await sender.close();
    expect(() => sender.protect(longest)).toThrow(expect.objectContaining({ code: "node.pool-closed" }));
    await expect(sender.addKey(masterKey(SUITE))).rejects.toMatchObject({ code: "node.pool-closed" });
    for (const options of [{ workers: 0 }, { slots: 100 }, { slots: 1 }, { slotOctets: 100 }, { slotOctets: 32 }]) {
      expect(() => createSrtpPool(options)).toThrow(expect.objectContaining({ code: "node.pool-option" }));
    }
  });

  it("closing gives back everything that was taken, and leaves no packet in the shared memory", async () => {
    const workers = pool({ workers: 1, slots: 256 });
    const memories: SharedArrayBuffer[] = [];
    const out = collector();
    const sender = await workers.sender(session(), {
      ...out.events,
      packet(result, packet, token) {
        memories.push(packet.buffer as SharedArrayBuffer);
        out.events.packet(result, packet, token);
      },
    });
    for (let sequence = 0; sequence < 200; sequence++) sender.protect(rtpPacket({ sequence }), sequence);
    await workers.close();
    expect(out.results.map(({ token }) => token)).toEqual(Array.from({ length: 200 }, (_, i) => i));
    const packets = new Uint8Array(memories[0] as SharedArrayBuffer, 64 + 16 * 256);
    expect(packets.every((octet) => octet === 0)).toBe(true);
    expect(() => sender.protect(rtpPacket({ sequence: 300 }))).toThrow(expect.objectContaining({ code: "node.pool-closed" }));
    await expect(workers.sender(session(), out.events)).rejects.toMatchObject({ code: "node.pool-closed" });
    await workers.close();
  });

  it("a handler that throws takes no other packet with it", async () => {
    const workers = pool({ workers: 1 });
    const thrown: unknown[] = [];
    const listeners = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.on("uncaughtException", (error) => thrown.push(error));
    try {
      const out = collector();
      const sender = await workers.sender(session(), {
        ...out.events,
        packet(result, packet, token) {
          out.events.packet(result, packet, token);
          if (token === 3) throw new Error("a fault of the program");
        },
      });
      for (let sequence = 0; sequence < 10; sequence++) sender.protect(rtpPacket({ sequence }), sequence);
      await out.until(() => out.results.length === 10);
      await new Promise((resolve) => setImmediate(resolve));
    } finally {
      process.removeAllListeners("uncaughtException");
      for (const listener of listeners) process.on("uncaughtException", listener);
    }
    expect(thrown).toMatchObject([{ message: "a fault of the program" }]);
  });
});

describe("a worker that dies", () => {
  it("is a typed error to its sessions alone, with every packet either back or named", async () => {
    const workers = pool({ workers: 2, slots: 1024 });
    const [dead, alive] = [collector(), collector()];
    const sender = await workers.sender(session(), dead.events);
    const other = await workers.sender(session(), alive.events);
    expect(threads).toHaveLength(2);
    for (let sequence = 0; sequence < 1000; sequence++) expect(sender.protect(rtpPacket({ sequence }), sequence)).toBe(true);
    const pending = sender.rolloverCounter(SSRC).catch((error: WatchwordError) => error.code);
    await threads[0]?.terminate();
    await dead.until(() => dead.failures.length > 0);
    expect([SSRC, 0, "node.pool-worker"]).toContain(await pending);
    expect(dead.failures).toHaveLength(1);
    expect(dead.failures[0]?.error.code).toBe("node.pool-worker");
    const tokens = [...dead.results.map(({ token }) => token), ...(dead.failures[0]?.lost ?? [])];
    expect(tokens).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect(() => sender.protect(rtpPacket({ sequence: 2000 }))).toThrow(expect.objectContaining({ code: "node.pool-worker" }));
    await expect(sender.ready()).rejects.toMatchObject({ code: "node.pool-worker" });
    await expect(sender.addKey(masterKey(SUITE))).rejects.toMatchObject({ code: "node.pool-worker" });
    await sender.close();

    expect(other.protect(rtpPacket({ sequence: 1 }), 1)).toBe(true);
    await alive.until(() => alive.results.length === 1);
    expect(alive.failures).toEqual([]);
    // The next session gets a fresh worker in its place.
    const next = collector();
    const fresh = await workers.sender(session(), next.events);
    expect(threads).toHaveLength(3);
    fresh.protect(rtpPacket({ sequence: 1 }));
    await next.until(() => next.results.length === 1);
  });

  it("while the queue is full, those who wait for room hear of it", async () => {
    const workers = pool({ workers: 1, slots: 8 });
    const out = collector();
    const sender = await workers.sender(session(), out.events);
    for (let sequence = 0; sequence < 8; sequence++) sender.protect(rtpPacket({ sequence }), sequence);
    const waiting = Promise.allSettled([sender.ready(), threads[0]?.terminate()]);
    await out.until(() => out.failures.length === 1);
    const [ready] = await waiting;
    // The results may have been quicker than the end.
    if (ready.status === "rejected") expect(ready.reason).toMatchObject({ code: "node.pool-worker" });
    expect(out.results.length + (out.failures[0]?.lost.length ?? 0)).toBe(8);
  });
});
