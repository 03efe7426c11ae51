/**
 * `npm run bench`: every measurement in one run; `-- --write` puts the tables into docs/performance.md, between its markers.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { benchMikey } from "./mikey.js";
import { benchSrtp, type SrtpBenchRow } from "./srtp.js";

const DOCUMENT = new URL("../../docs/performance.md", import.meta.url);
const [BEGIN, END] = ["<!-- bench -->", "<!-- /bench -->"];

/** What a later reader needs to judge the numbers. */
function environment(): string {
  const manifest = new URL("../../node_modules/werift-rtp/package.json", import.meta.url);
  const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
  const [processor] = cpus();
  return `Node ${process.versions.node} (OpenSSL ${process.versions.openssl}), ${processor?.model.trim()}, ${cpus().length} cores, werift-rtp ${version}.`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function srtpTable(rows: readonly SrtpBenchRow[]): string {
  const cell = (row: SrtpBenchRow | undefined): string => {
    if (row === undefined) return "-";
    const ratio = row.ratioToWerift === undefined ? "" : ` (${row.ratioToWerift.toFixed(1)}x)`;
    return `${row.microseconds.toFixed(2)} us${row.implementation === "werift-rtp" ? "" : ratio}`;
  };
  const lines = new Map(rows.map((row) => [`${row.suite} ${row.payload} ${row.operation}`, row]));
  return table(
    ["suite", "octets", "operation", "node:crypto", "noble", "werift-rtp"],
    [...lines].map(([key, { suite, payload, operation }]) => {
      const of = (name: string): SrtpBenchRow | undefined =>
        rows.find((row) => row.implementation === name && `${row.suite} ${row.payload} ${row.operation}` === key);
      return [suite, `${payload}`, operation, cell(of("node")), cell(of("noble")), cell(of("werift-rtp"))];
    }),
  );
}

const srtp = srtpTable(benchSrtp());
const mikey = table(
  ["what", "backend", "per second"],
  benchMikey().map(({ what, backend, perSecond }) => [what, backend, Math.round(perSecond).toLocaleString("en")]),
);
const text = `${environment()}\n\n### SRTP: microseconds per packet, and how many times as fast as werift-rtp\n\n${srtp}\n\n### MIKEY\n\n${mikey}`;
console.log(text);

if (process.argv.includes("--write")) {
  const document = readFileSync(DOCUMENT, "utf8");
  const [before, rest] = document.split(BEGIN) as [string, string];
  writeFileSync(DOCUMENT, `${before}${BEGIN}\n\n${text}\n\n${END}${rest.split(END)[1]}`);
}
