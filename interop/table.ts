/**
 * The table "peer x feature" of README.md, from what the suites in interop/ showed.
 *
 *     table.ts REPORT.json            writes interop/features.json and the table, from a run in which no suite of a peer failed or was skipped,
 *                                     but for those that need network namespaces where none can be made: their rows stay
 *     table.ts --check REPORT.json    fails unless the run showed exactly what interop/features.json says
 *     table.ts --check                fails unless the table is the one that interop/features.json gives
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { differences, type Features, lacksRight, placeTable, type Report, readFeatures } from "./features.js";

const ROOT = resolve(import.meta.dirname, "..");
const DATA = join(import.meta.dirname, "features.json");
const README = join(ROOT, "README.md");

const check = process.argv.includes("--check");
const [reportPath] = process.argv.slice(2).filter((argument) => argument !== "--check");
const known: Features = existsSync(DATA) ? (JSON.parse(readFileSync(DATA, "utf8")) as Features) : { peers: {}, features: {} };
const report = reportPath === undefined ? undefined : readReport(reportPath);

const problems = check ? checkTable(report) : report === undefined ? ["a report is needed"] : writeTable(report);
for (const problem of problems) console.error(problem);
if (problems.length > 0) {
  console.error("peers: npm run peers:table runs the suites and writes the table");
  process.exitCode = 1;
} else {
  console.log(check ? "peers: the table is true" : "peers: interop/features.json and README.md are written");
}

/** The suites of peers in a report; the rest of it is not looked at. */
function readReport(path: string): Report {
  const { testResults } = JSON.parse(readFileSync(path, "utf8")) as Report;
  return { testResults: testResults.filter(({ name }) => name.startsWith(`${import.meta.dirname}/`)) };
}

function checkTable(run: Report | undefined): string[] {
  if (run !== undefined) return differences(known, readFeatures(run, known));
  const readme = readFileSync(README, "utf8");
  return placeTable(readme, known) === readme ? [] : ["README.md: the table is not the one of interop/features.json"];
}

function writeTable(run: Report): string[] {
  const tests = run.testResults.flatMap(({ assertionResults }) => assertionResults);
  const unfit = tests
    .filter((test) => test.status !== "passed" && !lacksRight(test))
    .map(({ ancestorTitles, title, status }) => `${status}: ${[...ancestorTitles, title].join(" > ")}`);
  if (unfit.length > 0 || tests.length === 0) return [...unfit, "the table is written from a full run in which everything passed"];
  const features = readFeatures(run, known);
  writeFileSync(DATA, formatData(features));
  writeFileSync(README, placeTable(readFileSync(README, "utf8"), features));
  for (const line of differences(known, features))
    console.log(line.replace(/^shown and not claimed/, "new").replace(/^claimed and not shown/, "gone"));
  return [];
}

/** One line for each peer and feature, as the formatter leaves it. */
function formatData(features: Features): string {
  const text = JSON.stringify(features, undefined, 2);
  return `${text.replace(/\[\s+([^\]]*?)\s+\]/g, (_, items: string) => `[${items.split(/,\s+/).join(", ")}]`)}\n`;
}
