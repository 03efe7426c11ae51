import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { describe, expect, it } from "vitest";

const SRC = resolve(import.meta.dirname, "../src");

/** From left to right (docs/architecture.md). A room may import the rooms of the columns before its own. */
const COLUMNS: readonly (readonly string[])[] = [
  ["bytes"],
  ["io"],
  ["crypto"],
  ["srtp", "sdp", "gkma", "store"],
  ["mikey"],
  ["gsa"],
  ["gcks", "member", "kms"],
  ["peers"],
  ["sip", "rtsp"],
  ["tools"],
  ["node", "web"],
  ["cli"],
];

/** Web imports tools, never node. */
const NEVER: Readonly<Record<string, readonly string[]>> = { web: ["node"] };

/** Parts that stand on a package of their own, which whoever does not use them need not have. */
const ENTRANCES: Readonly<Record<string, readonly string[]>> = {
  crypto: [join("crypto", "x509", "index.js")],
  sip: [join("sip", "sipjs", "index.js")],
  node: [join("node", "sip", "index.js"), join("node", "group", "index.js")],
};

/** What providers of a room to the right are built from, beside the index, which would wait for the provider. */
const BACKENDS: Readonly<Record<string, string>> = { crypto: join("crypto", "backend.js") };

/** What the generators of WebAssembly, all in folders of this name, share. */
const KERNEL = "kernel";

/** Packages that a room may import; every other bare import is a mistake. */
const PACKAGES: Readonly<Record<string, readonly RegExp[]>> = {
  crypto: [/^@noble\//, /^@peculiar\/asn1-(?:schema|x509)$/, /^#platform$/],
  sdp: [/^sdp-transform$/],
  sip: [/^sip\.js/],
  node: [/^node:/, /^sip\.js$/, /^ws$/, /^pino$/, /^@photostructure\/sqlite$/],
  cli: [/^node:/, /^commander$/, /^yaml$/],
};

/** Every row that cannot run where there is no Node: a room left of node has no clock, randomness, socket or timer of its own. */
const BANNED = [
  /\bDate\.now\b/,
  /\bnew Date\(\)/,
  /\bMath\.random\b/,
  /\bsetTimeout\(/,
  /\bsetInterval\(/,
  /\bfetch\(/,
  /\bprocess\./,
  /\bBuffer\./,
];

function sources(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => join(entry.parentPath, entry.name));
}

function column(room: string): number {
  return COLUMNS.findIndex((rooms) => rooms.includes(room));
}

describe("rooms", () => {
  const files = sources(SRC);

  it("load sip.js, ws and ASN.1 only where somebody asks for SIP or certificates", () => {
    const optional = Object.values(ENTRANCES).flatMap((entrances) => entrances.map((entrance) => dirname(entrance)));
    const within = (name: string): boolean => optional.some((folder) => name.startsWith(folder + sep));
    for (const file of files.filter((candidate) => !within(relative(SRC, candidate)))) {
      // Types vanish, and `await import` runs when it is reached.
      const statements = readFileSync(file, "utf8").matchAll(/^(?:import|export)\b(?! type\b)[^;"(]*"([^"\s]+)"/gm);
      for (const [, specifier = ""] of statements) {
        const target = specifier.startsWith(".") ? relative(SRC, resolve(dirname(file), specifier)) : specifier;
        expect(within(target) || /^(?:sip\.js$|ws$|@peculiar\/)/.test(target), `${relative(SRC, file)} imports ${specifier}`).toBe(
          false,
        );
      }
    }
  });

  it("choose a provider that does not wait for the index that chooses it", () => {
    const reached = new Set<string>();
    const follow = (file: string): void => {
      if (reached.has(file)) return;
      reached.add(file);
      const statements = readFileSync(file, "utf8").matchAll(/^(?:import|export)\b(?! type\b)[^;"(]*"(\.[^"\s]+)\.js"/gm);
      for (const [, specifier = ""] of statements) follow(resolve(dirname(file), `${specifier}.ts`));
    };
    follow(join(SRC, "node", "platform.ts"));
    expect([...reached].map((file) => relative(SRC, file))).toContain(BACKENDS["crypto"]?.replace(".js", ".ts"));
    expect([...reached].map((file) => relative(SRC, file))).not.toContain(join("crypto", "index.ts"));
  });

  it("every folder of src is a known room", () => {
    const rooms = new Set(files.map((file) => relative(SRC, file).split(sep)[0] as string));
    for (const room of rooms) expect(column(room), room).toBeGreaterThanOrEqual(0);
  });

  it.each(files.map((file) => relative(SRC, file)))("%s imports only its own folder and rooms to its left", (name) => {
    const file = join(SRC, name);
    const room = name.split(sep)[0] as string;
    const text = readFileSync(file, "utf8");
    const imports = [...text.matchAll(/(?:\bfrom\s+|\bimport\s*\(?\s*)"([^"\s]+)"/g)].map((match) => match[1] as string);
    for (const specifier of imports) {
      if (!specifier.startsWith(".")) {
        const allowed = PACKAGES[room] ?? [];
        expect(
          allowed.some((pattern) => pattern.test(specifier)),
          `${name} imports ${specifier}`,
        ).toBe(true);
        continue;
      }
      const target = relative(SRC, resolve(dirname(file), specifier));
      const targetRoom = target.split(sep)[0] as string;
      if (targetRoom === room) continue;
      const entrances = [join(targetRoom, "index.js"), ...(ENTRANCES[targetRoom] ?? [])];
      if (room === "node") entrances.push(BACKENDS[targetRoom] ?? "");
      if (name.split(sep)[1] === KERNEL) entrances.push(join(targetRoom, KERNEL, "index.js"));
      expect(entrances, `${name} looks past the index of ${targetRoom}`).toContain(target);
      expect(column(targetRoom), `${name} looks to the right or sideways, at ${targetRoom}`).toBeLessThan(column(room));
      expect(NEVER[room] ?? [], `${name} must not import ${targetRoom}`).not.toContain(targetRoom);
    }
    if (column(room) < column("node")) {
      const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
      for (const pattern of BANNED) expect(code, `${name} uses ${pattern.source}`).not.toMatch(pattern);
    }
  });
});
