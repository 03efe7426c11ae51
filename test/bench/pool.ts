import { availableParallelism } from "node:os";
import { createSrtpPool, nodeCrypto, type PooledSrtpSender } from "../../src/node/index.js";
import { createSrtpSender, SUITES } from "../../src/srtp/index.js";
import { median } from "./paired-rounds.js";
import { HEADER, MASTER_KEY, MASTER_SALT, plainPacket, writeSequence } from "./workload.js";

/** One line: packets of many sessions, protected here or in threads. */
export interface PoolBenchResult {
  readonly where: string;
  readonly payload: number;
  readonly packetsPerSecond: number;
}

export interface PoolBenchOptions {
  readonly rounds: number;
  /** Packets of each session in a round. Few: where others use the processors too, a short round is more often left in peace. */
  readonly packets: number;
}

const SUITE = SUITES.AES_CM_128_HMAC_SHA1_80;
const SESSIONS = 16;
/** Rounds until every thread has compiled what it needs. */
const WARM_UP = 20;
const KEY = { key: new Uint8Array(SUITE.keyLength).fill(MASTER_KEY), salt: new Uint8Array(SUITE.saltLength).fill(MASTER_SALT) };
const TYPESCRIPT = ["--import", new URL("../typescript-worker.js", import.meta.url).href];
const OPTIONS = { policy: { suite: SUITE.name }, keys: [KEY] };

/** Protects `packets` packets of every session in turn, from one sequence number on; resolves when all are there. */
type Work = (packet: Uint8Array, first: number, packets: number) => Promise<void>;

function here(): { work: Work; close(): Promise<void> } {
  const senders = Array.from({ length: SESSIONS }, () => createSrtpSender({ ...OPTIONS, crypto: nodeCrypto }));
  return {
    async work(packet, first, packets) {
      const out = new Uint8Array(packet.length + SUITE.rtpTagLength);
      for (let i = 0; i < packets; i++) {
        writeSequence(packet, first + i);
        for (const sender of senders) sender.protect(packet, out);
      }
    },
    async close() {
      for (const sender of senders) sender.close();
    },
  };
}

async function pooled(workers: number): Promise<{ work: Work; close(): Promise<void> }> {
  const pool = createSrtpPool({ workers, execArgv: TYPESCRIPT });
  let [back, wanted, finish] = [0, 0, () => {}];
  const events = {
    packet(result: number) {
      if (result < HEADER) throw new Error(`a packet was not protected: ${result}`);
      if (++back === wanted) finish();
    },
    failed(error: Error) {
      throw error;
    },
  };
  const senders: PooledSrtpSender[] = [];
  for (let i = 0; i < SESSIONS; i++) senders.push(await pool.sender(OPTIONS, events));
  return {
    async work(packet, first, packets) {
      wanted += SESSIONS * packets;
      const finished = new Promise<void>((resolve) => {
        finish = resolve;
      });
      for (let i = 0; i < packets; i++) {
        writeSequence(packet, first + i);
        for (const sender of senders) while (!sender.protect(packet)) await sender.ready();
      }
      await finished;
    },
    close: () => pool.close(),
  };
}

/** How many packets a second 16 sessions protect: in this thread, and in pools of one and of as many threads as there are cores. */
export async function benchPool({ rounds, packets }: PoolBenchOptions): Promise<PoolBenchResult[]> {
  const sizes = [...new Set([1, availableParallelism()])];
  const places = [
    { where: "this thread", ...here() },
    ...(await Promise.all(
      sizes.map(async (size) => ({ where: `pool of ${size} ${size === 1 ? "thread" : "threads"}`, ...(await pooled(size)) })),
    )),
  ];
  const results: PoolBenchResult[] = [];
  let first = 0;
  for (const payload of [160, 1200]) {
    const packet = plainPacket(payload);
    const rates = places.map(() => [] as number[]);
    for (let round = -WARM_UP; round < rounds; round++) {
      for (const [i, { work }] of places.entries()) {
        const start = performance.now();
        await work(packet, first, packets);
        if (round >= 0) rates[i]?.push((SESSIONS * packets * 1000) / (performance.now() - start));
      }
      first += packets;
    }
    places.forEach(({ where }, i) => {
      results.push({ where, payload, packetsPerSecond: median(rates[i] as number[]) });
    });
  }
  await Promise.all(places.map(({ close }) => close()));
  return results;
}
