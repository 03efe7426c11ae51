import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { formatHex } from "../../src/bytes/index.js";
import { inspectCommand } from "../../src/cli/inspect.js";
import { UsageError } from "../../src/cli/options.js";
import { KEY_HEX, STRICT_BASE64, STRICT_OCTETS } from "../tools/messages.js";

/** The offer of RFC 4567 §5.1. */
const PSK_BASE64 =
  "AQAFgM0XflABAAAAAAAAAAAAAAsAyONQ6gAAAAAGEEoo2pee4hp2UaDX8ZE22YwKAAAPZG9uYWxkQGR1Y2suY29tAQAAAAAAAQAk0JKpgaVkDaawi9whVBtBt0KZ14ymNuu62+Nv3ozPLygwK/GbAV9iemnGUIZ19fWQUOSrzKTAv9zV";
const directory = mkdtempSync(join(tmpdir(), "inspect-"));

afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

process.once("exit", () => rmSync(directory, { recursive: true, force: true }));

interface Run {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

async function run(...argv: readonly string[]): Promise<Run> {
  let stdout = "";
  let stderr = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    stdout += String(text);
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
  await inspectCommand().exitOverride().parseAsync(argv, { from: "user" });
  return { stdout, stderr, status: Number(process.exitCode ?? 0) };
}

function file(name: string, content: string | Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

describe("watchword inspect", () => {
  it("shows a message given as argument, keys hidden", async () => {
    const { stdout, status } = await run(STRICT_BASE64);
    expect(stdout).toContain("message 1 of 1, base64");
    expect(stdout.replaceAll(" ", "")).not.toContain(KEY_HEX.slice(0, 12));
    expect(status).toBe(0);
  });

  it("prints an array with --json, and keys with --reveal", async () => {
    const { stdout, status } = await run("--json", "--reveal", formatHex(STRICT_OCTETS));
    const parsed = JSON.parse(stdout) as { valid: boolean; octets: string }[];
    expect(parsed).toHaveLength(1);
    expect(parsed[0]).toMatchObject({ where: "hexadecimal", valid: true, octets: formatHex(STRICT_OCTETS) });
    expect(status).toBe(0);
  });

  it("reads files, text and binary", async () => {
    const sdp = await run("--json", file("a.sdp", `v=0\r\na=key-mgmt:mikey ${STRICT_BASE64}\r\n`));
    expect(JSON.parse(sdp.stdout)).toMatchObject([{ where: "line 2: a=key-mgmt, session level", valid: true }]);
    const binary = await run("--json", file("a.bin", STRICT_OCTETS));
    expect(JSON.parse(binary.stdout)).toMatchObject([{ where: "binary", valid: true }]);
  });

  it("--export prints the keys of NULL-keyed messages, and says of the others why not", async () => {
    const { stdout, status } = await run(STRICT_BASE64, "--export", "libsrtp", "--reveal");
    expect(JSON.parse(stdout)).toMatchObject({ keys: [{ key: KEY_HEX, mki_id: "00000001" }], ssrc: { value: 0x0a0b0c0d } });
    expect(status).toBe(0);
    vi.restoreAllMocks();
    const mixed = file("c.sdp", `a=key-mgmt:mikey ${PSK_BASE64}\r\na=key-mgmt:mikey ${STRICT_BASE64}\r\n`);
    const partly = await run(mixed, "--export", "sdes", "--reveal");
    expect(partly.stdout).toMatch(/^a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:\S+\|1:4\n$/);
    expect(partly.stderr).toContain("line 1: a=key-mgmt, session level: ");
    expect(partly.stderr).toContain("[tools.export-protected]");
    expect(partly.status).toBe(1);
    await expect(run(STRICT_BASE64, "--export", "sdes")).rejects.toThrow(UsageError);
  });

  it("ends with 1 when a message is invalid", async () => {
    const { stdout, status } = await run("--json", file("b.sdp", `a=key-mgmt:mikey ${STRICT_BASE64}\r\na=key-mgmt:mikey AgAF\r\n`));
    expect(JSON.parse(stdout)).toMatchObject([
      { valid: true },
      { valid: false, message: null, problems: [{ code: "mikey.version" }] },
    ]);
    expect(status).toBe(1);
  });

  it("ends with 1 and says so when there is none", async () => {
    const none = file("empty.sdp", "v=0\r\n");
    const text = await run(none);
    expect(text).toMatchObject({ stdout: "", status: 1 });
    expect(text.stderr).toContain("no MIKEY message found");
    expect(await run("--json", none)).toMatchObject({ stdout: "[]\n", status: 1 });
  });

  it("what is neither a file nor a message is wrong usage", async () => {
    await expect(run("no such file.sdp")).rejects.toThrow(UsageError);
    await expect(run(directory)).rejects.toThrow("is a directory");
  });
});
