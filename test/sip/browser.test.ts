import { existsSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { expect, it } from "vitest";

const DIST = resolve(import.meta.dirname, "../../dist");
const manifest = JSON.parse(readFileSync(resolve(DIST, "../package.json"), "utf8")) as {
  imports: Record<string, { default: string }>;
};

/** Every module that a bundle for browsers would have, and the packages that it would take along. */
function bundled(entry: string): { readonly files: readonly string[]; readonly packages: readonly string[] } {
  const files = new Set<string>();
  const packages = new Set<string>();
  const walk = (file: string): void => {
    if (files.has(file)) return;
    files.add(file);
    for (const [, specifier = ""] of readFileSync(file, "utf8").matchAll(/(?:\bfrom\s+|\bimport\s*\(?\s*)"([^"\s]+)"/g)) {
      const inner = manifest.imports[specifier]?.default;
      if (inner !== undefined) walk(resolve(DIST, "..", inner));
      else if (specifier.startsWith(".")) walk(resolve(dirname(file), specifier));
      else
        packages.add(
          specifier
            .split("/")
            .slice(0, specifier.startsWith("@") ? 2 : 1)
            .join("/"),
        );
    }
  };
  walk(resolve(DIST, entry));
  return { files: [...files], packages: [...packages].sort() };
}

it.each(["sip/index.js", "sip/sipjs/index.js"])(
  "%s runs in a browser: nothing of Node, nothing but portable packages, no sip.js",
  (entry) => {
    const { files, packages } = bundled(entry);
    expect(files.length).toBeGreaterThan(30);
    expect(files.every((file) => existsSync(file))).toBe(true);
    expect(files.filter((file) => file.startsWith(resolve(DIST, "node/")))).toEqual([]);
    expect(packages).toEqual(["@noble/ciphers", "@noble/hashes", "sdp-transform"]);
  },
);
