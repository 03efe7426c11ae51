import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

const source = (path: string): string => new URL(`./src/${path}`, import.meta.url).pathname;

export default defineConfig({
  resolve: {
    alias: [
      { find: "#platform", replacement: source("node/platform.ts") },
      { find: /^watchword\/(.*)$/, replacement: source("$1/index.ts") },
    ],
  },
  test: {
    include: ["test/**/*.test.ts", "interop/**/*.test.ts", "samples/**/*.test.ts"],
    // Much of the time sockets and processes are waited for: two at once also where there are two processors.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // Real peers, real sockets and a machine that others use: a test that fails is tried once more in CI, and the report names it.
    retry: process.env["CI"] === undefined ? 0 : 1,
  },
});
