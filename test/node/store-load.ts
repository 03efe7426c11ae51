/**
 * The program that the crash test kills: it works on a store as a key server does, as fast as it can, and says on file descriptor 3 what was
 * acknowledged, a line each, before it does anything else. `tsx test/node/store-load.ts FOLDER NAME`
 */
import { writeSync } from "node:fs";
import { join } from "node:path";
import { openSqliteStore, systemRandom } from "../../src/node/index.js";
import {
  createExpulsions,
  createReservations,
  NO_VERSION,
  openSealedStore,
  openWitnessedStore,
  type Store,
  StoreConflict,
  type Ver,
} from "../../src/store/index.js";

export const SEALING_KEY = new Uint8Array(32).fill(42);
/** Needed where the thread's program is TypeScript. */
export const TYPESCRIPT = ["--import", new URL("../typescript-worker.js", import.meta.url).href];

/** The store with all that stands around it in a server. */
export async function openAll(folder: string) {
  const open = (name: string) => openSqliteStore({ path: join(folder, name), execArgv: TYPESCRIPT });
  const [inner, outside] = await Promise.all([open("store.db"), open("witness.db")]);
  const witnessed = await openWitnessedStore(inner, outside, { random: systemRandom });
  const store = await openSealedStore(witnessed, SEALING_KEY);
  return {
    store,
    regression: store.regression,
    reservations: createReservations(store, { random: systemRandom, ahead: 5 }),
    expulsions: createExpulsions([store, outside], { random: systemRandom }),
  };
}

/** What the content of a record is, so that the witness need not remember it. */
export function contentOf(group: string, id: string): Uint8Array {
  return Buffer.from(`${group} ${id} `.repeat(1 + (id.length % 7)));
}

const TURN = new Int32Array(new SharedArrayBuffer(4));

/** In the pipe when this returns: what the parent reads after a kill was acknowledged before. */
function say(line: string): void {
  const octets = Buffer.from(`${line}\n`);
  for (let at = 0; at < octets.length; ) {
    try {
      at += writeSync(3, octets, at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      Atomics.wait(TURN, 0, 0, 1);
    }
  }
}

/** Appends to the end of a log for ever, against whoever else does. */
async function appendForEver(store: Store, group: string, name: string): Promise<never> {
  let [expected, gseq]: [Ver, number] = [NO_VERSION, 0];
  for (let count = 0; ; count++) {
    const id = `${name} ${count}`;
    try {
      const ver = await store.append(group, expected, { gseq: gseq + 1, id, data: contentOf(group, id) });
      say(`append\t${group}\t${ver}\t${gseq + 1}\t${id}`);
      [expected, gseq] = [ver, gseq + 1];
      if (count % 5 === 4) {
        await store.putSnapshot(group, ver, contentOf(group, `${ver}`));
        say(`snapshot\t${group}\t${ver}`);
      }
    } catch (error) {
      if (!(error instanceof StoreConflict)) throw error;
      const head = await store.head(group);
      [expected, gseq] = [head?.ver ?? NO_VERSION, head?.gseq ?? 0];
    }
  }
}

/** Claims keys that others claim too, and those that were claimed before. */
async function claimForEver(store: Store): Promise<never> {
  for (;;) {
    const keys = Array.from({ length: 8 }, () => `claim ${Math.floor(Math.random() * 100_000)}`);
    await Promise.all(
      keys.map(async (key) => {
        if (await store.claim(key, "1d")) say(`claim\t${key}`);
      }),
    );
  }
}

async function load(folder: string, name: string): Promise<void> {
  const { store, regression, reservations, expulsions } = await openAll(folder);
  say(`ready\t${regression?.kind ?? ""}`);
  const reserveForEver = async (): Promise<never> => {
    for (;;) {
      const count = 1 + Math.floor(Math.random() * 9);
      say(`reserve\t${await reservations.reserve("team", "spi", count)}\t${count}`);
    }
  };
  const expelForEver = async (): Promise<never> => {
    for (let count = 0; ; count++) {
      const member = `${name} ${count}`;
      await expulsions.expel("team", member);
      say(`expel\t${member}`);
    }
  };
  await Promise.all([
    ...["shared/a", "shared/b", `own/${name}`].map((group) => appendForEver(store, group, `${name} ${group}`)),
    claimForEver(store),
    claimForEver(store),
    reserveForEver(),
    expelForEver(),
  ]);
}

const [folder, name] = process.argv.slice(2);
if (process.argv[1]?.endsWith("store-load.ts") && folder !== undefined && name !== undefined) await load(folder, name);
