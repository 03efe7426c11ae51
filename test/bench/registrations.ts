import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type Gcks, openGcks, readGroupDefinition } from "../../src/gcks/index.js";
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
  /** Octets of memory that the key server has gained for each member that it has. */
  readonly memory: number;
}

const TYPESCRIPT = ["--import", new URL("../typescript-worker.js", import.meta.url).href];
const CASES = [
  { rekeyOnJoin: "batched", together: 1, share: 0.2 },
  { rekeyOnJoin: "batched", together: 64, share: 1 },
  { rekeyOnJoin: "at-once", together: 64, share: 1 },
] as const;

/** Durable: in SQLite, sealed, and synchronized before anything is answered. */
export async function benchRegistrations(members: number): Promise<RegistrationBenchResult[]> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const folder = mkdtempSync(join(tmpdir(), "watchword-bench-"));
  const results: RegistrationBenchResult[] = [];
  try {
    for (const [index, { rekeyOnJoin, together, share }] of CASES.entries()) {
      const sqlite = await openSqliteStore({ path: join(folder, `${index}.db`), execArgv: TYPESCRIPT });
      const store = await openSealedStore(sqlite, new Uint8Array(32).fill(1), { crypto: nodeCrypto });
      const gcks = await openServer(store, rekeyOnJoin);
      await registerMany(gcks, 0, 100, together);
      const before = await occupied(collect);
      const since = performance.now();
      const count = Math.ceil(members * share);
      await registerMany(gcks, 100, count, together);
      const perSecond = (1000 * count) / (performance.now() - since);
      const memory = ((await occupied(collect)) - before) / count;
      results.push({ store: "SQLite, sealed", rekeyOnJoin, together, perSecond, memory });
      await gcks.close();
      await store.close();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return results;
}

async function occupied(collect: () => void): Promise<number> {
  // What a collection finds free is given back after it.
  for (let i = 0; i < 5; i++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

async function openServer(store: Store, rekeyOnJoin: string): Promise<Gcks> {
  const { pkcs8 } = await nodeCrypto.generateKeyPair("ed25519");
  return openGcks({
    crypto: nodeCrypto,
    store,
    clock: systemClock,
    timers: systemTimers,
    identity: GCKS,
    groups: [readGroupDefinition(definition({ rekeyOnJoin }))],
    findCredential: () => ({ psk: PSK }),
    signer: nodeCrypto.importPrivateKey(pkcs8),
    multicast: () => undefined,
    audit: () => undefined,
  });
}

async function registerMany(gcks: Gcks, first: number, count: number, together: number): Promise<void> {
  let next = first;
  const lane = async (): Promise<void> => {
    while (next < first + count) await register(gcks, next++);
  };
  await Promise.all(Array.from({ length: together }, lane));
}

async function register(gcks: Gcks, index: number): Promise<void> {
  const member = createGroupMember({
    crypto: nodeCrypto,
    groups: [{ group: readGroupDefinition(definition()).group, role: { send: true, receive: true } }],
    credential: { psk: PSK },
    identity: uri(`sip:speaker${index}@example.org`),
    gcks: GCKS,
    carrier: carrierTo(gcks, `${index}`),
    streams: 1,
    clock: systemClock,
    timers: systemTimers,
    onState: () => undefined,
  });
  await member.join();
  member.close();
}

function carrierTo(gcks: Gcks, scope: string): MemberCarrier {
  return {
    secure: false,
    open: true,
    onMessage: undefined,
    onLost: undefined,
    async register(iMessage) {
      const { response } = await gcks.register({
        iMessage,
        peer: { remote: { host: "192.0.2.1", port: 5060 } },
        secure: false,
        scope,
        streams: 1,
        channel: { deliver: async () => undefined, close: () => undefined },
      });
      return response;
    },
    send: async () => undefined,
    end: async () => undefined,
    close: () => undefined,
  };
}
