import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const run = (file: string): Promise<{ stdout: string }> =>
  promisify(execFile)(process.execPath, ["--import", "tsx", new URL(file, import.meta.url).pathname], { timeout: 25_000 });

describe("samples", () => {
  it("read-key-mgmt", async () => {
    const { stdout } = await run("read-key-mgmt.ts");
    expect(stdout).toContain("m= line 2: mikey at session level, Pre-shared key message: T RAND ID SP KEMAC");
    expect(stdout).toContain("written again: the same octets");
    expect(stdout).toContain("donald@duck.com");
  });

  it("encrypted-tone", async () => {
    const { stdout } = await run("encrypted-tone.ts");
    expect(stdout).toMatch(/^\d{2} packets, AEAD_AES_128_GCM, key [0-9a-f]{8}; end verified$/m);
  });
});
