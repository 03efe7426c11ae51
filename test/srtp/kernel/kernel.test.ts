import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { describe, expect, it } from "vitest";
import { formatHex } from "../../../src/bytes/index.js";
import { relaxSwizzles } from "../../../src/crypto/index.js";
import { buildKernel } from "../../../src/srtp/kernel/module.js";
import { kernelSource, SRTP_KERNEL } from "../../kernel.js";
import { kernelSuite } from "../../suites/kernel.js";

const octetsOfModule = buildKernel();
const relaxed = relaxSwizzles(octetsOfModule);
// Node 20 has relaxed vectors, but wants to be asked.
if (!WebAssembly.validate(relaxed)) setFlagsFromString("--experimental-wasm-relaxed-simd");

describe("the module", () => {
  it("is what the source makes, octet for octet, and small", () => {
    expect(readFileSync(SRTP_KERNEL.file, "utf8")).toBe(kernelSource(SRTP_KERNEL));
    expect(formatHex(buildKernel())).toBe(formatHex(octetsOfModule));
    expect(octetsOfModule.length).toBeLessThan(60_000);
  });

  it("has relaxed swizzles in as many octets, where the engine has them", () => {
    expect(relaxed.length).toBe(octetsOfModule.length);
    expect(formatHex(relaxed)).not.toBe(formatHex(octetsOfModule));
    expect(WebAssembly.validate(relaxed)).toBe(true);
  });
});

kernelSuite("the kernel", octetsOfModule);
kernelSuite("the kernel with relaxed swizzles", relaxed);
