import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { getHeapCodeStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type Gcks, type MemberChannel, type MemberSession, openGcks, readGroupDefinition } from "../../src/gcks/index.js";
import { type Clock, createSimulatedNetwork, type SimulatedNetwork, type Timers } from "../../src/io/index.js";
import { createGroupMember, type MemberCarrier } from "../../src/member/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { openSqliteStore, systemClock, systemTimers } from "../../src/node/index.js";
import { openSealedStore, type Store } from "../../src/store/index.js";
import { definition, GCKS, PSK, uri } from "../group/rig.js";

/** Registrations by complete exchanges, both ends in this thread, without a network between them. */
export interface RegistrationBenchResult {
  readonly store: string;
  readonly rekeyOnJoin: string;
  /** How many are under way at a time. */
  readonly together: number;
  readonly perSecond: number;
}

const TYPESCRIPT = ["--import", new URL("../typescript-worker.js", import.meta.url).href];
const CASES = [
  { rekeyOnJoin: "batched", together: 1, share: 0.2 },
  { rekeyOnJoin: "batched", together: 64, share: 1 },
  { rekeyOnJoin: "at-once", together: 64, share: 1 },
] as const;

/** Durable: in SQLite, sealed, and synchronized before anything is answered. */
export async function benchRegistrations(members: number): Promise<RegistrationBenchResult[]> {
  const folder = mkdtempSync(join(tmpdir(), "watchword-bench-"));
  const results: RegistrationBenchResult[] = [];
  try {
    for (const [index, { rekeyOnJoin, together, share }] of CASES.entries()) {
      const sqlite = await openSqliteStore({ path: join(folder, `${index}.db`), execArgv: TYPESCRIPT });
      const store = await openSealedStore(sqlite, new Uint8Array(32).fill(1), { crypto: nodeCrypto });
      const gcks = await openServer(store, { rekeyOnJoin }, SYSTEM);
      await registerMany(gcks, 0, 100, together, SYSTEM);
      const since = performance.now();
      const count = Math.ceil(members * share);
      await registerMany(gcks, 100, count, together, SYSTEM);
      const perSecond = (1000 * count) / (performance.now() - since);
      results.push({ store: "SQLite, sealed", rekeyOnJoin, together, perSecond });
      await gcks.close();
      await store.close();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return results;
}

/**
 * Octets of memory that the key server keeps of each member a minute after its registration, with the session that its carrier holds and without
 * what the carrier itself needs. The time is a simulated one, the store is in SQLite.
 */
export async function benchMemberMemory(members: number): Promise<number> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const folder = mkdtempSync(join(tmpdir(), "watchword-bench-"));
  try {
    const store = await openSqliteStore({ path: join(folder, "memory.db"), execArgv: TYPESCRIPT });
    const network = createSimulatedNetwork({ now: Date.now(), settle: () => new Promise((resolve) => setImmediate(resolve)) });
    const gcks = await openServer(store, { rekeyOnJoin: "batched", confirmationTime: 600 }, network);
    const sessions: MemberSession[] = [];
    const rest = async (first: number, count: number): Promise<number> => {
      // What members had planned would stay in a simulated time until then.
      const registering = registerMany(gcks, first, count, 64, { clock: network.clock, timers: systemTimers }, sessions);
      await Promise.all([registering, passTime(network, registering)]);
      await network.advance(60_000);
      return await occupied(collect);
    };
    const before = await rest(0, members / 2);
    const after = await rest(members / 2, members);
    if (sessions.length !== gcks.metrics.members) throw new Error("a member is missing");
    await gcks.close();
    await store.close();
    return (after - before) / members;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The simulated time goes on as the real one does. */
async function passTime(network: SimulatedNetwork, until: Promise<unknown>): Promise<void> {
  let isOver = false;
  const over = (): void => {
    isOver = true;
  };
  until.then(over, over);
  for (let last = performance.now(); !isOver; ) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    const now = performance.now();
    await network.advance(now - last);
    last = now;
  }
}

async function occupied(collect: () => void): Promise<number> {
  // What a collection finds free is given back after it.
  for (let i = 0; i < 5; i++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { heapUsed, external } = process.memoryUsage();
  // Compiled code grows with time, and not with members.
  const { code_and_metadata_size, bytecode_and_metadata_size } = getHeapCodeStatistics();
  return heapUsed + external - code_and_metadata_size - bytecode_and_metadata_size;
}

interface Times {
  readonly clock: Clock;
  readonly timers: Timers;
}

export const SYSTEM: Times = { clock: systemClock, timers: systemTimers };

export async function openServer(store: Store, changes: Record<string, unknown>, { clock, timers }: Times): Promise<Gcks> {
  const { pkcs8 } = await nodeCrypto.generateKeyPair("ed25519");
  return openGcks({
    crypto: nodeCrypto,
    store,
    clock,
    timers,
    identity: GCKS,
    groups: [readGroupDefinition(definition(changes))],
    findCredential: () => ({ psk: PSK }),
    signer: nodeCrypto.importPrivateKey(pkcs8),
    multicast: () => undefined,
    audit: () => undefined,
  });
}

export async function registerMany(
  gcks: Gcks,
  first: number,
  count: number,
  together: number,
  times: Times,
  sessions?: MemberSession[],
  kind: "speaker" | "listener" = "speaker",
): Promise<void> {
  let next = first;
  const lane = async (): Promise<void> => {
    while (next < first + count) await register(gcks, `${kind}${next++}`, times, sessions);
  };
  await Promise.all(Array.from({ length: together }, lane));
}

async function register(gcks: Gcks, name: string, { clock, timers }: Times, sessions?: MemberSession[]): Promise<void> {
  const member = createGroupMember({
    crypto: nodeCrypto,
    groups: [{ group: GROUP, role: { send: name.startsWith("speaker"), receive: true } }],
    credential: { psk: PSK },
    identity: uri(`sip:${name}@example.org`),
    gcks: GCKS,
    carrier: carrierTo(gcks, name, sessions),
    streams: 1,
    clock,
    timers,
    onState: () => undefined,
  });
  await member.join();
  member.close();
}

const GROUP = readGroupDefinition(definition()).group;
/** One for all: what a carrier needs for each is its own. */
const CHANNEL: MemberChannel = { deliver: async () => undefined, close: () => undefined };

function carrierTo(gcks: Gcks, scope: string, sessions: MemberSession[] | undefined): MemberCarrier {
  return {
    secure: false,
    open: true,
    onMessage: undefined,
    onLost: undefined,
    async register(iMessage) {
      const { response, session } = await gcks.register({
        iMessage,
        peer: { remote: { host: "192.0.2.1", port: 5060 } },
        secure: false,
        scope,
        streams: 1,
        channel: CHANNEL,
      });
      sessions?.push(session);
      return response;
    },
    send: async () => undefined,
    end: async () => undefined,
    close: () => undefined,
  };
}
