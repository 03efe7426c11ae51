import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { formatBase64 } from "../src/bytes/index.js";
import { buildKernel } from "../src/srtp/kernel/module.js";

/** Where the SRTP kernel stands, ready to be compiled: `npm run kernel` writes it, `--check` compares. */
const FILE = fileURLToPath(new URL("../src/srtp/kernel-module.ts", import.meta.url));

/** The source file that embeds the kernel. */
export function kernelSource(): string {
  const module = formatBase64(buildKernel());
  return [
    "/** The SRTP kernel, a WebAssembly module in base64: written by `npm run kernel` from `kernel/`, never by hand. */",
    `export const KERNEL_MODULE =\n  "${module}";`,
    "",
  ].join("\n");
}

if (process.argv.includes("--check")) {
  if (readFileSync(FILE, "utf8") !== kernelSource()) {
    console.error("src/srtp/kernel-module.ts is not what src/srtp/kernel makes: run `npm run kernel`");
    process.exitCode = 1;
  }
} else if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(FILE, kernelSource());
}
