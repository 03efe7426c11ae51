/**
 * `npm run bench`: every measurement in one run, save the fan-out, the calls, the groups, the modes, the raw public-key operations and the store, which
 * are `npm run bench -- fan-out`, `-- sip`, `-- groups`, `-- modes`, `-- asymmetric` and `-- store`.
 * `--quick` measures less, `--write` puts the tables into docs/performance.md, between their markers.
 */
import { benchAsymmetric } from "./asymmetric.js";
import { benchFanOut } from "./fan-out.js";
import { benchGkma } from "./gkma.js";
import { benchMikey } from "./mikey.js";
import { benchModes } from "./modes.js";
import { benchPool } from "./pool.js";
import { benchMemberMemory, benchRegistrations } from "./registrations.js";
import {
  asymmetricReport,
  environment,
  fanOutReport,
  gkmaReport,
  mikeyReport,
  modesReport,
  poolReport,
  registrationsReport,
  sipReport,
  srtpReport,
  storeReport,
  writeReport,
} from "./report.js";
import { benchSip } from "./sip.js";
import { benchSrtp } from "./srtp.js";
import { benchStore } from "./store.js";

const words = new Set(process.argv.slice(2));
const quick = words.has("--quick");

async function everything(): Promise<string> {
  const srtp = await benchSrtp(
    quick ? { quick, rounds: 15, warmUp: 150, milliseconds: 5 } : { quick, rounds: 101, warmUp: 300, milliseconds: 5 },
  );
  const pool = await benchPool(quick ? { rounds: 5, packets: 400 } : { rounds: 31, packets: 400 });
  const mikey = await benchMikey(quick ? 200 : 1000);
  return [srtpReport(srtp), poolReport(pool), mikeyReport(mikey)].join("\n\n");
}

async function sip(): Promise<string> {
  return sipReport(await benchSip(quick ? 200 : 2000));
}

async function asymmetric(): Promise<string> {
  return asymmetricReport(await benchAsymmetric(quick ? 50 : 500));
}

async function modes(): Promise<string> {
  return modesReport(await benchModes(quick ? 20 : 400));
}

async function fanOut(): Promise<string> {
  const receivers = quick ? 100 : 1000;
  return fanOutReport(await benchFanOut({ receivers, rounds: 7, packets: quick ? 50 : 20 }), receivers);
}

async function groups(): Promise<string> {
  const rekeying = await benchGkma(quick ? { rounds: 30, batches: 1 } : { rounds: 100, batches: 3 });
  const registrations = await benchRegistrations(quick ? 100 : 400);
  return [gkmaReport(rekeying), registrationsReport(registrations, await benchMemberMemory(quick ? 500 : 2000))].join("\n\n");
}

async function store(): Promise<string> {
  return storeReport(await benchStore(quick ? { rounds: 1, milliseconds: 300 } : { rounds: 5, milliseconds: 1000 }));
}

const sections = { "fan-out": fanOut, sip, groups, modes, asymmetric, store, bench: everything };
const section = (["fan-out", "sip", "groups", "modes", "asymmetric", "store"] as const).find((name) => words.has(name)) ?? "bench";
const text = `${environment()}\n\n${await sections[section]()}`;
console.log(text);
if (words.has("--write")) writeReport(section, text);
