/**
 * A key server with a large group, over a store on disk, sealed: what it takes to be there, to change, and to start again. Takes minutes.
 *
 *   npm run soak:large -- MEMBERS [REGISTERED]
 *
 * The last REGISTERED members register by complete exchanges, 256 at a time; those before are put into the store as they would be there.
 * Both ends are in one thread.
 */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { formatHex } from "../../src/bytes/index.js";
import { GroupParts } from "../../src/gcks/group-parts.js";
import { GroupState } from "../../src/gcks/group-state.js";
import { type Gcks, readGroupDefinition } from "../../src/gcks/index.js";
import { encodeBirth } from "../../src/gcks/ledger.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { openSqliteStore } from "../../src/node/index.js";
import { createReservations, NO_VERSION, openSealedStore, type Store } from "../../src/store/index.js";
import { openServer, registerMany, SYSTEM } from "../bench/registrations.js";
import { definition, uri } from "../group/rig.js";

const [members = 100_000, registered = members] = process.argv.slice(2).map(Number);
const POLICY = {
  rekeyOnJoin: "batched",
  confirmation: false,
  batchInterval: 5,
  membershipLifetime: 86_400,
  mostMembers: 16_000_000,
};
const TOGETHER = 256;
/** Octets of a key of a registration. */
const KEY = 32;
const MIB = 2 ** 20;

const folder = mkdtempSync(join(tmpdir(), "watchword-large-"));
const delays = monitorEventLoopDelay({ resolution: 5 });

async function openStore(): Promise<Store> {
  const sqlite = await openSqliteStore({ path: join(folder, "gcks.db") });
  return openSealedStore(sqlite, new Uint8Array(32).fill(1), { crypto: nodeCrypto });
}

/** Does something, and says how long it took and how long others had to wait for a turn. */
async function measure<T>(what: string, work: () => Promise<T>, per = 1): Promise<T> {
  delays.reset();
  delays.enable();
  const since = performance.now();
  const done = await work();
  const took = performance.now() - since;
  delays.disable();
  const { rss } = process.memoryUsage();
  process.stdout.write(
    `${what.padEnd(46)} ${(took / per).toFixed(2).padStart(12)} ms${per > 1 ? " each" : "     "} longest turn ${(delays.max / 1e6).toFixed(0).padStart(6)} ms, RSS ${(rss / MIB).toFixed(0)} MiB\n`,
  );
  return done;
}

/** Puts members into an empty store: a group as it is after a batch that admitted them. */
async function seed(store: Store, count: number): Promise<void> {
  const group = readGroupDefinition(definition(POLICY));
  const birth = { csbId: 77, rand: nodeCrypto.randomBytes(KEY), ssrcKey: nodeCrypto.randomBytes(KEY) };
  const state = new GroupState(nodeCrypto, group, birth);
  const at = SYSTEM.clock.now();
  const numbers = Array.from({ length: count }, (_, index) => index + 1);
  const admit = numbers.map((number) => ({
    identity: uri(`sip:listener${number - 1}@example.org`),
    role: { send: false, receive: true },
    ssrcs: [state.ssrcOf(number)],
  }));
  state
    .prepare({
      at,
      admit,
      numbers,
      rekey: { sequence: 1, seed: formatHex(nodeCrypto.randomBytes(KEY)), dataKeys: [{ dataSa: 1, mki: 1 }] },
    })
    .commit();
  const key = (): Uint8Array => nodeCrypto.randomBytes(KEY);
  const bind = numbers.map((number) => ({
    number,
    keys: {
      memberInitiated: true,
      prfFunc: 1,
      csbId: number,
      t: BigInt(number),
      transcript: key(),
      proofKey: key(),
      downKey: key(),
      upKey: key(),
    },
  }));
  state.prepare({ at, bind, confirm: numbers.map((number) => ({ number, counter: 1 })) }).commit();
  const reservations = createReservations(store, { random: { bytes: (length) => nodeCrypto.randomBytes(length) } });
  for (const mark of ["sequence", "mki", "ssrc", "member"]) await reservations.skip(group.name, mark, count + 2);
  const log = `group/${group.name}`;
  const ver = await store.append(log, NO_VERSION, { gseq: 1, id: "seed", data: encodeBirth(birth, []) });
  const snapshot = await state.snapshot(async () => undefined);
  process.stdout.write(`a snapshot of ${(snapshot.length / MIB).toFixed(1)} MiB\n`);
  await new GroupParts({ crypto: nodeCrypto, store }, group.name).supersede(snapshot, (kept) => store.putSnapshot(log, ver, kept));
}

async function settled(gcks: Gcks): Promise<void> {
  const { sequence = 0 } = gcks.groups[0] ?? {};
  while (gcks.groups[0]?.sequence === sequence) await new Promise((resolve) => setTimeout(resolve, 20));
}

// Timers of the key server do not keep a process alive.
const hold = setInterval(() => undefined, 1000);
try {
  let store = await openStore();
  const seeded = members - registered;
  if (seeded > 0) await measure(`${seeded} members put into the store`, () => seed(store, seeded));
  let gcks = await measure("start", () => openServer(store, POLICY, SYSTEM));
  await measure(
    `${registered} registrations, ${TOGETHER} at a time`,
    () => registerMany(gcks, seeded, registered, TOGETHER, SYSTEM, undefined, "listener"),
    registered,
  );
  if (gcks.metrics.members !== members) throw new Error(`${gcks.metrics.members} members`);
  await measure("until the last batch has its keys", () => settled(gcks));
  await measure(
    "expulsions, one after the other",
    async () => {
      for (let i = 0; i < 300; i++) await gcks.expel("blue", `sip:listener${7 * i}@example.org`);
    },
    300,
  );
  await measure("expulsions of 1 %, at once", async () => {
    const count = Math.floor(members / 100);
    await Promise.all(Array.from({ length: count }, (_, i) => gcks.expel("blue", `sip:listener${3000 + 50 * i}@example.org`)));
  });
  await measure("new keys for everybody", () => gcks.rekey("blue"));
  await measure("every key of the tree replaced", () => gcks.replace("blue"));
  const left = gcks.metrics.members;
  await measure("stop", async () => {
    await gcks.close();
    await store.close();
  });
  process.stdout.write(`the store has ${(statSync(join(folder, "gcks.db")).size / MIB).toFixed(0)} MiB\n`);
  store = await openStore();
  gcks = await measure("start again", () => openServer(store, POLICY, SYSTEM));
  if (gcks.metrics.members !== left) throw new Error(`${gcks.metrics.members} members of ${left}`);
  await measure("a registration", () => registerMany(gcks, members, 1, 1, SYSTEM, undefined, "listener"));
  await gcks.close();
  await store.close();
} finally {
  clearInterval(hold);
  rmSync(folder, { recursive: true, force: true });
}
