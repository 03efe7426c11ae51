import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSqliteStore, systemRandom } from "../../src/node/index.js";
import {
  createReservations,
  NO_VERSION,
  openSealedStore,
  openWitnessedStore,
  type Store,
  type Ver,
} from "../../src/store/index.js";
import { median } from "./paired-rounds.js";

/** What a store does in a second; everything is durable when it counts. */
export interface StoreBenchResult {
  readonly store: string;
  readonly appendsOneByOne: number;
  /** 64 under way. */
  readonly appendsTogether: number;
  readonly claimsOneByOne: number;
  /** 1024 under way. */
  readonly claimsTogether: number;
  /** One number each, 64 ahead. */
  readonly reservations: number;
  /** Records that are read back, in order. */
  readonly reads: number;
}

export interface StoreBench {
  /** A page written to the end of a file and synchronized, in a loop: what the disk allows one after the other. */
  readonly syncsPerSecond: number;
  readonly results: readonly StoreBenchResult[];
}

export interface StoreBenchOptions {
  readonly rounds: number;
  /** Of each measurement in a round. */
  readonly milliseconds: number;
}

const TYPESCRIPT = ["--import", new URL("../typescript-worker.js", import.meta.url).href];
/** About what a change of a group of a million members takes, without its rekey message. */
const RECORD = new Uint8Array(300).fill(7);

interface Contender {
  readonly name: string;
  readonly store: Store;
  count: number;
}

/** The numbers of a store in SQLite, bare and with what stands around it in a server, in turns. */
export async function benchStore({ rounds, milliseconds }: StoreBenchOptions): Promise<StoreBench> {
  const folder = mkdtempSync(join(tmpdir(), "watchword-bench-"));
  const open = (name: string) => openSqliteStore({ path: join(folder, name), execArgv: TYPESCRIPT });
  const key = new Uint8Array(32).fill(1);
  const witnessed = async (name: string) =>
    await openWitnessedStore(await open(`${name}.db`), await open(`${name}-witness.db`), { random: systemRandom });
  const contenders: Contender[] = [
    { name: "SQLite", store: await open("bare.db"), count: 0 },
    { name: "sealed", store: await openSealedStore(await open("sealed.db"), key), count: 0 },
    { name: "with a witness", store: await witnessed("witnessed"), count: 0 },
    { name: "sealed, with a witness", store: await openSealedStore(await witnessed("both"), key), count: 0 },
  ];
  const samples = contenders.map(() => [] as Omit<StoreBenchResult, "store">[]);
  const syncs: number[] = [];
  try {
    for (let round = 0; round < rounds; round++) {
      syncs.push(syncsPerSecond(join(folder, "syncs"), milliseconds));
      for (const [i, contender] of contenders.entries()) samples[i]?.push(await measure(contender, milliseconds));
    }
  } finally {
    await Promise.all(contenders.map(({ store }) => store.close()));
    rmSync(folder, { recursive: true });
  }
  const results = contenders.map(({ name }, i) => {
    const own = samples[i] as Omit<StoreBenchResult, "store">[];
    const of = (what: keyof Omit<StoreBenchResult, "store">): number => median(own.map((sample) => sample[what]));
    return {
      store: name,
      appendsOneByOne: of("appendsOneByOne"),
      appendsTogether: of("appendsTogether"),
      claimsOneByOne: of("claimsOneByOne"),
      claimsTogether: of("claimsTogether"),
      reservations: of("reservations"),
      reads: of("reads"),
    };
  });
  return { syncsPerSecond: median(syncs), results };
}

async function measure(contender: Contender, milliseconds: number): Promise<Omit<StoreBenchResult, "store">> {
  const { store } = contender;
  const round = ++contender.count;
  const reservations = createReservations(store, { random: systemRandom });
  const appender = (group: string) => {
    let [expected, gseq]: [Ver, number] = [NO_VERSION, 0];
    return async (): Promise<void> => {
      gseq++;
      expected = await store.append(group, expected, { gseq, id: `${gseq}`, data: RECORD });
    };
  };
  let claims = 0;
  const claim = async (): Promise<void> => void (await store.claim(`${round} ${claims++}`, "10m"));
  const appendsOneByOne = await perSecond(milliseconds, 1, [appender(`one ${round}`)]);
  const appendsTogether = await perSecond(
    milliseconds,
    64,
    Array.from({ length: 64 }, (_, i) => appender(`together ${round} ${i}`)),
  );
  const claimsOneByOne = await perSecond(milliseconds, 1, [claim]);
  const claimsTogether = await perSecond(milliseconds, 1024, [claim]);
  const reserve = async (): Promise<void> => void (await reservations.reserve(`${round}`, "spi"));
  const reserved = await perSecond(milliseconds, 1, [reserve]);
  const since = performance.now();
  let read = 0;
  for await (const _ of store.read(`one ${round}`, NO_VERSION)) read++;
  const reads = (1000 * read) / (performance.now() - since);
  return { appendsOneByOne, appendsTogether, claimsOneByOne, claimsTogether, reservations: reserved, reads };
}

/** Does work for a while, `atOnce` under way, each lane with its own of `lanes` or all with the only one. */
async function perSecond(milliseconds: number, atOnce: number, lanes: readonly (() => Promise<void>)[]): Promise<number> {
  const since = performance.now();
  let done = 0;
  await Promise.all(
    Array.from({ length: atOnce }, async (_, i) => {
      const work = lanes[i % lanes.length] as () => Promise<void>;
      while (performance.now() - since < milliseconds) {
        await work();
        done++;
      }
    }),
  );
  return (1000 * done) / (performance.now() - since);
}

function syncsPerSecond(path: string, milliseconds: number): number {
  const page = new Uint8Array(4096).fill(1);
  const descriptor = openSync(path, "a");
  const since = performance.now();
  let done = 0;
  while (performance.now() - since < milliseconds) {
    writeSync(descriptor, page);
    fsyncSync(descriptor);
    done++;
  }
  closeSync(descriptor);
  return (1000 * done) / (performance.now() - since);
}
