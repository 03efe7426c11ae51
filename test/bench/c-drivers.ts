import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Contenders in C: what they are built of, and what Debian calls the package that is missing when they do not build. */
const SOURCES = [
  { name: "libsrtp2", source: "libsrtp.c", library: "-lsrtp2", header: "srtp2/srtp.h", package: "libsrtp2-dev" },
  { name: "OpenSSL EVP loop", source: "evp-loop.c", library: "-lcrypto", header: "openssl/evp.h", package: "libssl-dev" },
] as const;

const COMPILER = process.env["CC"] ?? "cc";

export type CDriverName = (typeof SOURCES)[number]["name"];

export interface CDrivers {
  /** Programs by contender. */
  readonly built: ReadonlyMap<CDriverName, string>;
  /** One line for each that is absent, with the reason. */
  readonly absent: readonly string[];
  remove(): void;
}

function succeeds(file: string, args: readonly string[], input = ""): boolean {
  try {
    execFileSync(file, args, { input, stdio: ["pipe", "ignore", "ignore"] });
    return true;
  } catch {
    return false;
  }
}

/** Builds the C drivers into a temporary folder, as far as compiler and headers are there. */
export function buildCDrivers(): CDrivers {
  const folder = mkdtempSync(join(tmpdir(), "watchword-bench-"));
  const built = new Map<CDriverName, string>();
  const absent: string[] = [];
  const hasCompiler = succeeds(COMPILER, ["--version"]);
  for (const { name, source, library, header, package: wanted } of SOURCES) {
    if (!hasCompiler) {
      absent.push(`${name} is absent: there is no C compiler (${COMPILER}).`);
    } else if (!succeeds(COMPILER, ["-fsyntax-only", "-x", "c", "-"], `#include <${header}>\n`)) {
      absent.push(`${name} is absent: there is no header ${header} (Debian: ${wanted}).`);
    } else {
      const program = join(folder, source.replace(".c", ""));
      execFileSync(COMPILER, ["-O2", "-o", program, join(import.meta.dirname, source), library], { stdio: "inherit" });
      built.set(name, program);
    }
  }
  return { built, absent, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
