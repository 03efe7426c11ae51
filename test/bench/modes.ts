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
  readonly perSecond: number;
  /** Time of the exchange over that of its raw public-key operations; undefined where there are none. */
  readonly overRaw: number | undefined;
}

const SIGN = "sign rsa-pss-sha256";
const VERIFY = "verify rsa-pss-sha256";
const ENCRYPT = "encrypt rsa-oaep-sha1";
const DECRYPT = "decrypt rsa-oaep-sha1";
const AGREEMENT = "agreement modp1536";
const AGREE = "agree modp1536";

/** The public-key operations of RFC 3830 §3.2, §3.3, RFC 4650 §3 and RFC 4738 §3, by side. */
const RAW: Readonly<Record<ModeName, Readonly<Record<"initiator" | "responder", readonly string[]>>>> = {
  PSK: { initiator: [], responder: [] },
  PK: { initiator: [ENCRYPT, SIGN], responder: [VERIFY, DECRYPT] },
  DH: { initiator: [AGREEMENT, SIGN, VERIFY, AGREE], responder: [VERIFY, AGREEMENT, AGREE, SIGN] },
  DHHMAC: { initiator: [AGREEMENT, AGREE], responder: [AGREEMENT, AGREE] },
  "RSA-R": { initiator: [SIGN, VERIFY, DECRYPT], responder: [VERIFY, ENCRYPT, SIGN] },
};

const TITLES = ["PSK", "PK, envelope key cached", "DH", "DHHMAC", "RSA-R, envelope key cached"];

async function timed<T>(call: () => Promise<T>): Promise<readonly [milliseconds: number, value: T]> {
  const start = performance.now();
  const value = await call();
  return [performance.now() - start, value];
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >>> 1] ?? Number.NaN;

/**
 * Whole exchanges, each side by itself, and in turn with them the operations that no engine can do without. Certificates are remembered ones.
 * @param rounds exchanges that count, after `warmUp` that do not
 */
async function benchMode(crypto: CryptoProvider, row: ModeCase, rounds: number, warmUp: number): Promise<ModeBenchResult[]> {
  const { initiator, responder } = modePair(row, crypto);
  const request = modeRequest(crypto, row);
  const operations = await asymmetricOperations(crypto);
  const exchange = async (): Promise<Record<"initiator" | "responder", number>> => {
    const [begun, pending] = await timed(() => initiator.begin(request));
    const [answered, received] = await timed(() => responder.receive(pending.octets));
    if (received.kind === "repeated") throw new Error("a fresh request was taken for a repetition");
    const [completed] = await timed(() => pending.complete(received.response as Uint8Array));
    return { initiator: begun + completed, responder: answered };
  };
  const raw = async (side: "initiator" | "responder"): Promise<number> => {
    const [milliseconds] = await timed(async () => {
      for (const name of RAW[row.mode][side]) await operations.get(name)?.();
    });
    return milliseconds;
  };
  const sides = ["initiator", "responder"] as const;
  const times = { initiator: [] as number[], responder: [] as number[] };
  const ratios = { initiator: [] as number[], responder: [] as number[] };
  // A server runs for days: the compiler has seen the engine often, and is done with it after thousands of calls. The operations are the library's, and are compiled already.
  for (let call = 0; call < warmUp; call++) await exchange();
  for (let round = 0; round < rounds; round++) {
    // Neighbours in time are compared: the machine is shared.
    const before = { initiator: await raw("initiator"), responder: await raw("responder") };
    const took = await exchange();
    const after = { initiator: await raw("initiator"), responder: await raw("responder") };
    for (const side of sides) {
      times[side].push(took[side]);
      ratios[side].push((2 * took[side]) / (before[side] + after[side]));
    }
  }
  return sides.map((side) => ({
    mode: row.mode,
    side,
    backend: crypto.name,
    perSecond: 1000 / median(times[side]),
    overRaw: RAW[row.mode][side].length === 0 ? undefined : median(ratios[side]),
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
      `${mode.padEnd(7)} ${side.padEnd(10)} ${backend.padEnd(6)} ${perSecond.toFixed(1).padStart(8)}/s  ${overRaw === undefined ? "" : `x ${overRaw.toFixed(3)} of its raw operations`}`,
    );
}
