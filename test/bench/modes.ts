import { type CryptoProvider, nobleCrypto } from "../../src/crypto/index.js";
import type { ModeName } from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { MODE_CASES, type ModeCase, modePair, modeRequest } from "../mikey/mode-fixture.js";
import { asymmetricOperations } from "./asymmetric.js";

/** One side of one mode on one backend. */
export interface ModeBenchResult {
  readonly mode: ModeName;
  readonly side: "initiator" | "responder";
  readonly backend: string;
  /** One exchange after the other. */
  readonly perSecond: number;
  /** The exchange over its raw public-key operations; undefined where there are none. */
  readonly overRaw: OverRaw | undefined;
}

interface OverRaw {
  /** Time, one exchange after the other: the median of all rounds. */
  readonly alone: number;
  /** Processor time of all threads, `AT_ONCE` exchanges at once: all rounds together, with what collecting garbage took. */
  readonly atOnce: number;
}

const SIGN = "sign rsa-pss-sha256";
const VERIFY = "verify rsa-pss-sha256";
const ENCRYPT = "encrypt rsa-oaep-sha1";
const DECRYPT = "decrypt rsa-oaep-sha1";
const AGREEMENT = "agreement modp1536";
const AGREE = "agree modp1536";

/** Exchanges that a busy server has under way. */
const AT_ONCE = 8;
const SIDES = ["initiator", "responder"] as const;
type Side = (typeof SIDES)[number];

/** The public-key operations of RFC 3830 §3.2, §3.3, RFC 4650 §3 and RFC 4738 §3, by side. */
const RAW: Readonly<Record<ModeName, Readonly<Record<"initiator" | "responder", readonly string[]>>>> = {
  PSK: { initiator: [], responder: [] },
  PK: { initiator: [ENCRYPT, SIGN], responder: [VERIFY, DECRYPT] },
  DH: { initiator: [AGREEMENT, SIGN, VERIFY, AGREE], responder: [VERIFY, AGREEMENT, AGREE, SIGN] },
  DHHMAC: { initiator: [AGREEMENT, AGREE], responder: [AGREEMENT, AGREE] },
  "RSA-R": { initiator: [SIGN, VERIFY, DECRYPT], responder: [VERIFY, ENCRYPT, SIGN] },
};

const TITLES = ["PSK", "PK, envelope key cached", "DH", "DHHMAC", "RSA-R, envelope key cached"];

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >>> 1] ?? Number.NaN;
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** Milliseconds that this process has used of the processors, all threads together. */
function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** What the sides took in every round: the exchange, and its raw operations before and after it. */
type Rounds = Readonly<Record<Side, { readonly exchange: number[]; readonly raw: number[] }>>;

/**
 * Whole exchanges, each side by itself, and in turn with them the operations that no engine can do without. Certificates are remembered ones.
 * @param rounds exchanges that count, after `warmUp` that do not
 */
async function benchMode(crypto: CryptoProvider, row: ModeCase, rounds: number, warmUp: number): Promise<ModeBenchResult[]> {
  const { initiator, responder } = modePair(row, crypto);
  const request = modeRequest(crypto, row);
  const operations = await asymmetricOperations(crypto);

  /** `atOnce` exchanges, measured by `clock`. */
  async function exchange(atOnce: number, clock: () => number): Promise<Record<Side, number>> {
    const start = clock();
    const pending = await Promise.all(Array.from({ length: atOnce }, () => initiator.begin(request)));
    const begun = clock();
    const received = await Promise.all(pending.map(({ octets }) => responder.receive(octets)));
    const answered = clock();
    await Promise.all(
      received.map((answer, i) => {
        if (answer.kind === "repeated") throw new Error("a fresh request was taken for a repetition");
        return pending[i]?.complete(answer.response as Uint8Array);
      }),
    );
    return { initiator: begun - start + clock() - answered, responder: answered - begun };
  }

  async function raw(side: Side, atOnce: number, clock: () => number): Promise<number> {
    const start = clock();
    await Promise.all(
      Array.from({ length: atOnce }, async () => {
        for (const name of RAW[row.mode][side]) await operations.get(name)?.();
      }),
    );
    return clock() - start;
  }

  /** Neighbours in time are compared: the machine is shared. */
  async function measure(count: number, atOnce: number, clock: () => number): Promise<Rounds> {
    const times: Rounds = { initiator: { exchange: [], raw: [] }, responder: { exchange: [], raw: [] } };
    for (let round = 0; round < count; round++) {
      const before = { initiator: await raw("initiator", atOnce, clock), responder: await raw("responder", atOnce, clock) };
      const took = await exchange(atOnce, clock);
      const after = { initiator: await raw("initiator", atOnce, clock), responder: await raw("responder", atOnce, clock) };
      for (const side of SIDES) {
        times[side].exchange.push(took[side]);
        times[side].raw.push((before[side] + after[side]) / 2);
      }
    }
    return times;
  }

  // A server runs for days: the compiler has seen the engine often, and is done with it after thousands of calls. The operations are the library's, and are compiled already.
  for (let call = 0; call < warmUp; call++) await exchange(1, performance.now.bind(performance));
  const alone = await measure(rounds, 1, performance.now.bind(performance));
  const atOnce = await measure(Math.ceil(rounds / 2), AT_ONCE, processorTime);
  return SIDES.map((side) => ({
    mode: row.mode,
    side,
    backend: crypto.name,
    perSecond: 1000 / median(alone[side].exchange),
    overRaw:
      RAW[row.mode][side].length === 0
        ? undefined
        : {
            alone: median(alone[side].exchange.map((time, i) => time / (alone[side].raw[i] as number))),
            atOnce: sum(atOnce[side].exchange) / sum(atOnce[side].raw),
          },
  }));
}

/** Exchanges per second of every mode, each side, both backends, next to the raw operations in the same run. */
export async function benchModes(rounds = 200): Promise<ModeBenchResult[]> {
  const results: ModeBenchResult[] = [];
  for (const crypto of [nodeCrypto, nobleCrypto]) {
    // Integers of JavaScript take so much longer that a tenth of the rounds tells as much.
    const isNode = crypto === nodeCrypto;
    const count = isNode ? rounds : Math.ceil(rounds / 10);
    for (const title of TITLES) {
      const row = MODE_CASES.find((one) => one.title === title);
      if (row !== undefined) results.push(...(await benchMode(crypto, row, count, isNode ? 10 * count : 4 * count)));
    }
  }
  return results;
}

if (import.meta.url === `file://${process.argv[1]}`) {
  for (const { mode, side, backend, perSecond, overRaw } of await benchModes())
    console.log(
      `${mode.padEnd(7)} ${side.padEnd(10)} ${backend.padEnd(6)} ${perSecond.toFixed(1).padStart(8)}/s  ${overRaw === undefined ? "" : `x ${overRaw.alone.toFixed(3)} of its raw operations alone, ${overRaw.atOnce.toFixed(3)} with others`}`,
    );
}
