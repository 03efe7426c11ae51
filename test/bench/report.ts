import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import type { AsymmetricBenchResult } from "./asymmetric.js";
import { OURS } from "./contenders/index.js";
import type { FanOutResult } from "./fan-out.js";
import { type GkmaBench, type GkmaBenchResult, GROUP_CHANGES, type Yardstick } from "./gkma.js";
import type { MikeyBenchResult } from "./mikey.js";
import type { ModeBenchResult } from "./modes.js";
import { OPERATIONS } from "./paired-rounds.js";
import type { PoolBenchResult } from "./pool.js";
import type { RegistrationBenchResult } from "./registrations.js";
import type { SipBenchResult } from "./sip.js";
import { type Comparison, microseconds, PAYLOADS, ratio, type SrtpBench, YARDSTICKS } from "./srtp.js";
import type { StoreBench } from "./store.js";
import { targetResults } from "./targets.js";

const DOCUMENT = new URL("../../docs/performance.md", import.meta.url);

/** What a later reader needs to judge the numbers. */
export function environment(): string {
  const manifest = new URL("../../node_modules/werift-rtp/package.json", import.meta.url);
  const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
  return `Node ${process.versions.node} (OpenSSL ${process.versions.openssl}), ${processor()}, ${cpus().length} cores, werift-rtp ${version}.`;
}

/** Hosts of virtual machines shorten the names of processors; family and model, where Linux says them, tell which one it is. */
function processor(): string {
  const name = cpus()[0]?.model.trim() ?? "unknown processor";
  const description = existsSync("/proc/cpuinfo") ? readFileSync("/proc/cpuinfo", "utf8") : "";
  const [family, model] = ["cpu family", "model"].map((key) => new RegExp(`^${key}\\s*: (\\d+)$`, "m").exec(description)?.[1]);
  return family === undefined ? name : `${name} (family ${family}, model ${model})`;
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function number(value: number | undefined, digits = 2): string {
  return value === undefined ? "-" : value.toFixed(digits);
}

/** One suite and size: everyone against every yardstick. */
function comparisonTable(comparison: Comparison): string {
  const head = OPERATIONS.flatMap((operation) => [`${operation}, us`, ...YARDSTICKS.map((name) => `x ${name}`)]);
  const rows = [...comparison.times.keys()].map((name) => [
    name,
    ...OPERATIONS.flatMap((operation) => [
      number(microseconds(comparison, name, operation)),
      ...YARDSTICKS.map((other) => (other === name ? "1" : number(ratio(comparison, name, other, operation)))),
    ]),
  ]);
  return `#### ${comparison.suite}, ${comparison.payload} octets\n\n${table(["", ...head], rows)}`;
}

function otherSuitesTable(others: readonly Comparison[]): string {
  const columns = PAYLOADS.flatMap((payload) => OPERATIONS.map((operation) => ({ payload, operation })));
  const suites = [...new Set(others.map(({ suite }) => suite))];
  const rows = suites.flatMap((suite) =>
    OURS.map((name) => [
      suite,
      name,
      ...columns.map(({ payload, operation }) => {
        const comparison = others.find((one) => one.suite === suite && one.payload === payload);
        return number(comparison && microseconds(comparison, name, operation));
      }),
    ]),
  );
  return table(["suite", "ours", ...columns.map(({ payload, operation }) => `${operation} ${payload}, us`)], rows);
}

function latencyTable({ latencies }: SrtpBench): string {
  const rows = latencies.map(({ name, suite, percentiles }) => [
    suite,
    name,
    ...percentiles.map((nanoseconds) => number(nanoseconds / 1000)),
  ]);
  return table(["suite", "", "protect p50, us", "p99", "unprotect p50, us", "p99"], rows);
}

function targetsTable(bench: SrtpBench): string {
  const rows = targetResults(bench, OURS).map(({ suite, payload, operation, kind, against, least, best, reached }) => [
    `${suite}, ${payload} octets, ${operation}, ${kind}`,
    `${least} x ${against}`,
    best === undefined ? "not measured" : `${best[1].toFixed(2)} (${best[0]})`,
    reached ? "yes" : "no",
  ]);
  return table(["what", "target", "measured", "reached (5 % tolerance)"], rows);
}

/** Everything about SRTP, as Markdown. */
export function srtpReport(bench: SrtpBench): string {
  const memory = bench.memories.map(({ name, perSession }) => [name, (perSession / 1024).toFixed(1)]);
  return [
    "### SRTP: microseconds per packet, and how many times as fast as others",
    ...bench.absent,
    ...bench.compared.map(comparisonTable),
    "#### Targets",
    targetsTable(bench),
    ...(bench.others.length > 0 ? ["#### Every other suite", otherSuitesTable(bench.others)] : []),
    "#### Latency of single calls, 160 octets, the clock included",
    latencyTable(bench),
    ...(memory.length > 0
      ? [
          "#### Resident memory: a sender and a receiver of AES_CM_128_HMAC_SHA1_80 after 64 packets of 160 octets",
          table(["", "KiB per session"], memory),
        ]
      : []),
  ].join("\n\n");
}

export function mikeyReport(results: readonly MikeyBenchResult[]): string {
  const rows = results.map(({ what, backend, perSecond }) => [what, backend, Math.round(perSecond).toLocaleString("en")]);
  return `### MIKEY\n\n${table(["what", "backend", "per second"], rows)}`;
}

export function modesReport(results: readonly ModeBenchResult[]): string {
  const rows = results.map(({ mode, side, backend, perSecond, overRaw }) => [
    mode,
    side,
    backend,
    perSecond.toFixed(0),
    overRaw === undefined ? "-" : overRaw.alone.toFixed(2),
    overRaw === undefined ? "-" : overRaw.atOnce.toFixed(2),
  ]);
  const titles = ["mode", "side", "backend", "exchanges per second", "x raw operations, alone", "x raw operations, busy"];
  return `### MIKEY, every mode, each side\n\n${table(titles, rows)}`;
}

export function asymmetricReport(results: readonly AsymmetricBenchResult[]): string {
  const backends = [...new Set(results.map(({ backend }) => backend))];
  const rows = [...new Set(results.map(({ what }) => what))].map((operation) => [
    operation,
    ...backends.map((name) => {
      const result = results.find(({ what, backend }) => what === operation && backend === name);
      return result === undefined ? "-" : Math.round(result.perSecond).toLocaleString("en");
    }),
  ]);
  return `### Public keys: raw operations per second\n\n${table(["what", ...backends], rows)}`;
}

export function sipReport(results: readonly SipBenchResult[]): string {
  const rows = results.map(({ backend, callsPerSecond, milliseconds, octets }) => [
    backend,
    Math.round(callsPerSecond).toLocaleString("en"),
    ...[milliseconds.offer, milliseconds.acceptOffer, milliseconds.answer, milliseconds.acceptAnswer].map((value) => number(value)),
    ...[octets.invite, octets.ok, octets.bye, octets.byeOk].map(String),
  ]);
  const times = ["INVITE: offer, ms", "accept it, ms", "200: answer, ms", "accept it, ms"];
  const sizes = ["INVITE, octets more", "200", "BYE", "200 to BYE"];
  const title = "### SIP: calls keyed by PSK, offer to acknowledged BYE, both ends in one thread";
  return `${title}\n\n${table(["backend", "calls per second", ...times, ...sizes], rows)}`;
}

export function poolReport(results: readonly PoolBenchResult[]): string {
  const rows = results.map(({ where, payload, packetsPerSecond }) => [
    where,
    `${payload}`,
    Math.round(packetsPerSecond).toLocaleString("en"),
  ]);
  return `### Threads: 16 sessions of AES_CM_128_HMAC_SHA1_80\n\n${table(["where", "octets", "packets per second"], rows)}`;
}

export function fanOutReport(results: readonly FanOutResult[], receivers: number): string {
  const rows = results.map(({ backend, payload, packetsPerSecond, cpuPerPacket, loss }) => [
    backend,
    `${payload}`,
    Math.round(packetsPerSecond).toLocaleString("en"),
    number(cpuPerPacket),
    `${number(100 * loss, 1)} %`,
  ]);
  const head = ["backend of the server", "octets", "packets per second", "processor time of the server per packet, us", "lost"];
  return `### Fan-out: one source, \`watchword serve\`, ${receivers} receivers over UDP\n\n${table(head, rows)}`;
}

/** One change in every size: everybody's cost, side by side. */
function groupTable(results: readonly GkmaBenchResult[]): string {
  const names = [...new Set(results.map(({ contender }) => contender))];
  const sizes = [...new Set(results.map(({ members }) => members))];
  const rows = sizes.map((members) => [
    members.toLocaleString("en"),
    ...names.flatMap((name) => {
      const cost = results.find((one) => one.contender === name && one.members === members)?.cost;
      return [number(cost?.controller), cost?.octets.toLocaleString("en") ?? "-", number(cost?.member)];
    }),
  ]);
  return table(["members", ...names.flatMap((name) => [`${name}: key server, ms`, "octets", "member, ms"])], rows);
}

export function gkmaReport({ results, bars, yardsticks }: GkmaBench): string {
  const changes = GROUP_CHANGES.map((change) => {
    const title = `#### ${change === "join" ? "One joins" : change === "leave" ? "One leaves" : "One in a hundred leave at once"}`;
    return `${title}\n\n${groupTable(results.filter((one) => one.change === change))}`;
  });
  const yards = (Object.keys(yardsticks) as Yardstick[]).map((name) => `${name} ${number(yardsticks[name], 0)} µs`);
  const rows = bars.map(({ what, most, least, unit, measured }) => {
    const value = unit === "times" ? number(measured) : Math.round(measured).toLocaleString("en");
    const bar = most === undefined ? `at least ${least?.toLocaleString("en")}` : `at most ${most.toLocaleString("en")}`;
    const held = measured <= (most ?? measured) && measured >= (least ?? measured);
    return [what, `${bar} ${unit}`, value, held ? "yes" : "no"];
  });
  return [
    "### Rekeying a group: complete messages, signed, with a new TEK",
    `In the same run: ${yards.join(", ")}.`,
    ...changes,
    "#### Bars",
    table(["what", "bar", "measured", "held"], rows),
  ].join("\n\n");
}

export function storeReport({ syncsPerSecond, results }: StoreBench): string {
  const whole = (value: number): string => Math.round(value).toLocaleString("en");
  const rows = results.map((result) => [
    result.store,
    whole(result.appendsOneByOne),
    whole(result.appendsTogether),
    whole(result.claimsOneByOne),
    whole(result.claimsTogether),
    whole(result.reservations),
    whole(result.reads),
  ]);
  const head = [
    "store",
    "appends one by one",
    "appends, 64 at once",
    "claims one by one",
    "claims, 1024 at once",
    "numbers reserved",
    "records read",
  ];
  return `### The store: per second, durable\n\n${table(head, rows)}\n\nA page written and synchronized, in a loop: ${whole(syncsPerSecond)} per second.`;
}

/** @param memory octets per member */
export function registrationsReport(results: readonly RegistrationBenchResult[], memory: number): string {
  const rows = results.map(({ store, rekeyOnJoin, together, perSecond }) => [
    store,
    rekeyOnJoin,
    `${together}`,
    Math.round(perSecond).toLocaleString("en"),
  ]);
  const head = ["store", "rekey on join", "under way", "per second"];
  const text = `Memory of the key server per member at rest: ${Math.round(memory).toLocaleString("en")} octets.`;
  return `#### Registrations by PSK, end to end, both ends in one thread, durable\n\n${table(head, rows)}\n\n${text}`;
}

/** Puts a report between the markers `<!-- NAME -->` and `<!-- /NAME -->` of docs/performance.md. */
export function writeReport(name: string, text: string): void {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const document = readFileSync(DOCUMENT, "utf8");
  const from = document.indexOf(begin) + begin.length;
  const to = document.indexOf(end);
  if (from < begin.length || to < from) throw new Error(`docs/performance.md has no markers for ${name}`);
  writeFileSync(DOCUMENT, `${document.slice(0, from)}\n\n${text}\n\n${document.slice(to)}`);
}
