import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { formatBase64 } from "../src/bytes/index.js";
import { buildKeyKernel } from "../src/crypto/kernel/key-module.js";
import { buildKernel } from "../src/srtp/kernel/module.js";

interface KernelFile {
  readonly name: string;
  readonly constant: string;
  /** Where the module stands, ready to be compiled: `npm run kernel` writes it, `--check` compares. */
  readonly file: URL;
  readonly build: () => Uint8Array;
}

export const SRTP_KERNEL: KernelFile = {
  name: "SRTP kernel",
  constant: "KERNEL_MODULE",
  file: new URL("../src/srtp/kernel-module.ts", import.meta.url),
  build: buildKernel,
};

export const KEY_KERNEL: KernelFile = {
  name: "key kernel",
  constant: "KEY_KERNEL_MODULE",
  file: new URL("../src/crypto/key-kernel-module.ts", import.meta.url),
  build: buildKeyKernel,
};

/** The source file that embeds a kernel. */
export function kernelSource({ name, constant, build }: KernelFile): string {
  return [
    `/** The ${name}, a WebAssembly module in base64: written by \`npm run kernel\` from \`kernel/\`, never by hand. */`,
    `export const ${constant} =\n  "${formatBase64(build())}";`,
    "",
  ].join("\n");
}

for (const kernel of [SRTP_KERNEL, KEY_KERNEL]) {
  if (process.argv.includes("--check")) {
    if (readFileSync(kernel.file, "utf8") !== kernelSource(kernel)) {
      console.error(`${fileURLToPath(kernel.file)} is not what its source makes: run \`npm run kernel\``);
      process.exitCode = 1;
    }
  } else if (process.argv[1] === fileURLToPath(import.meta.url)) {
    writeFileSync(kernel.file, kernelSource(kernel));
  }
}
