// Prints what the tests were: counts by room, each interop suite by name, and the closing line 'N passed, N failed'.
// Arguments: the JSON report of the test runner and, when a step failed, its name. Exit 1 unless everything passed.
import { existsSync, readFileSync } from "node:fs";
import { relative } from "node:path";

const [reportPath, failedStep] = process.argv.slice(2);
const report = existsSync(reportPath) ? JSON.parse(readFileSync(reportPath, "utf8")) : { testResults: [] };

const STATES = ["passed", "failed", "skipped"];
const total = { passed: 0, failed: 0, skipped: 0 };
const rooms = new Map();
const interop = new Map();

function count(groups, name, state) {
  const counts = groups.get(name) ?? { passed: 0, failed: 0, skipped: 0 };
  groups.set(name, counts);
  counts[state]++;
}

function line(name, counts) {
  console.log(
    `  ${name}: ${STATES.filter((state) => counts[state] > 0)
      .map((state) => `${counts[state]} ${state}`)
      .join(", ")}`,
  );
}

for (const file of report.testResults) {
  const path = relative(process.cwd(), file.name);
  if (file.status === "failed" && file.assertionResults.length === 0) {
    total.failed++;
    count(rooms, `${path} did not load`, "failed");
  }
  for (const test of file.assertionResults) {
    const state = STATES.includes(test.status) ? test.status : "skipped";
    total[state]++;
    if (path.startsWith("interop/")) count(interop, test.ancestorTitles[0] ?? path, state);
    else count(rooms, path.split("/").slice(0, 2).join("/"), state);
  }
}

console.log("\nSuites:");
for (const [name, counts] of [...rooms].sort()) line(name, counts);
console.log("\nInterop suites:");
for (const [name, counts] of [...interop].sort()) line(name, counts);
if (failedStep !== undefined) {
  console.log(`\nStep that failed: ${failedStep}`);
  if (total.failed === 0) total.failed = 1;
}
const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
console.log(`\n${total.passed} passed, ${total.failed} failed${skipped}`);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
