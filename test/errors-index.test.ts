import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");
const CODE =
  /["`]((?:bytes|io|crypto|x509|srtp|sdp|gkma|store|mikey|gsa|gcks|member|peers|sip|rtsp|tools|node|cli)\.[a-z0-9]+(?:-[a-z0-9]+)*)["`]/g;

it("docs/errors.md lists exactly the codes that the source uses", () => {
  const used = new Set<string>();
  for (const entry of readdirSync(join(ROOT, "src"), { withFileTypes: true, recursive: true })) {
    if (!entry.isFile() || !entry.name.endsWith(".ts")) continue;
    const code = readFileSync(join(entry.parentPath, entry.name), "utf8").replace(/\/\*[\s\S]*?\*\/|\bfrom "[^"]*"/g, "");
    for (const match of code.matchAll(CODE)) used.add((match[1] as string).replace(/status-\d+$/, "status-nnn"));
  }
  const listed = new Set([...readFileSync(join(ROOT, "docs/errors.md"), "utf8").matchAll(CODE)].map((match) => match[1] as string));
  expect([...used].filter((code) => !listed.has(code)).sort(), "used but not listed").toEqual([]);
  expect([...listed].filter((code) => !used.has(code)).sort(), "listed but not used").toEqual([]);
});
