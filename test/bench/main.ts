/**
 * `npm run bench`: every measurement in one run. `-- --quick` measures less, `-- --write` puts the tables into
 * docs/performance.md, between their markers.
 */
import { benchMikey } from "./mikey.js";
import { benchPool } from "./pool.js";
import { environment, mikeyReport, poolReport, srtpReport, writeReport } from "./report.js";
import { benchSrtp } from "./srtp.js";

const words = new Set(process.argv.slice(2));
const quick = words.has("--quick");

const srtp = await benchSrtp(
  quick ? { quick, rounds: 5, warmUp: 2, milliseconds: 10 } : { quick, rounds: 11, warmUp: 5, milliseconds: 25 },
);
const pool = await benchPool(quick ? { rounds: 3, packets: 500 } : { rounds: 7, packets: 2000 });
const mikey = benchMikey(quick ? 200 : 1000);
const text = [environment(), srtpReport(srtp), poolReport(pool), mikeyReport(mikey)].join("\n\n");
console.log(text);
if (words.has("--write")) writeReport("bench", text);
