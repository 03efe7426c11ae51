import { existsSync, readFileSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");
const manifest = JSON.parse(readFileSync(resolve(ROOT, "package.json"), "utf8")) as {
  exports: Record<string, string>;
  bin: Record<string, string>;
  dependencies: Record<string, string>;
  optionalDependencies: Record<string, string>;
  devDependencies: Record<string, string>;
};

describe("the package", () => {
  it.each(Object.entries(manifest.exports))("%s leads to a compiled file that loads", async (_name, target) => {
    const file = resolve(ROOT, target);
    expect(existsSync(file)).toBe(true);
    if (target.endsWith(".js")) expect(Object.keys(await import(file)).length).toBeGreaterThan(0);
  });

  it("has an executable that begins with a hash-bang line", () => {
    const file = resolve(ROOT, manifest.bin["watchword"] as string);
    expect(readFileSync(file, "utf8").startsWith("#!/usr/bin/env node\n")).toBe(true);
    expect(statSync(file).isFile()).toBe(true);
  });

  it("justifies every dependency in docs/dependencies.md", () => {
    const text = readFileSync(resolve(ROOT, "docs/dependencies.md"), "utf8");
    const { dependencies, optionalDependencies, devDependencies } = manifest;
    const names = Object.keys({ ...dependencies, ...optionalDependencies, ...devDependencies }).filter(
      (name) => !name.startsWith("@types/"),
    );
    expect(names.filter((name) => !text.includes(`| ${name}`))).toEqual([]);
  });
});
