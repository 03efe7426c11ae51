import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatHex, parseHex, WatchwordError } from "../../src/bytes/index.js";
import { certificateHash, formatPem, nobleCrypto, parsePem } from "../../src/crypto/index.js";

const BLOCK = "-----BEGIN PRIVATE KEY-----\nAAEC\n-----END PRIVATE KEY-----\n";

describe("PEM", () => {
  it("comes back", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({ label: fc.constantFrom("CERTIFICATE", "PRIVATE KEY", "X509 CRL"), der: fc.uint8Array({ maxLength: 300 }) }),
        ),
        (blocks) => {
          const text = blocks.map(({ label, der }) => formatPem(label, der)).join("some text between\n");
          expect(parsePem(text)).toEqual(blocks);
          expect(parsePem(text.replaceAll("\n", "\r\n"))).toEqual(blocks);
          for (const line of text.split("\n")) expect(line.length).toBeLessThanOrEqual(64);
        },
      ),
    );
  });

  it("takes any text as blocks or as a typed error", () => {
    const lines = fc.constantFrom(
      "-----BEGIN A-----",
      "-----END A-----",
      "-----BEGIN B-----",
      "-----END B-----",
      "AAEC",
      "A===",
      "§",
      "",
    );
    fc.assert(
      fc.property(fc.array(lines), fc.string(), (parts, tail) => {
        try {
          parsePem(parts.join("\n") + tail);
        } catch (error) {
          expect(error).toBeInstanceOf(WatchwordError);
          expect((error as WatchwordError).code).toBe("crypto.pem");
        }
      }),
    );
  });

  it.each([
    { what: "no end", text: BLOCK.slice(0, 40) },
    { what: "no beginning", text: BLOCK.slice(33) },
    { what: "another end", text: BLOCK.replace("END PRIVATE KEY", "END CERTIFICATE") },
    { what: "a beginning within", text: `-----BEGIN CERTIFICATE-----\n${BLOCK}` },
    { what: "an encrypted key", text: BLOCK.replace("AAEC", "Proc-Type: 4,ENCRYPTED\n\nAAEC") },
    { what: "too much", text: "x".repeat((1 << 20) + 1) },
  ])("refuses $what, and does not repeat the key", ({ text }) => {
    expect(() => parsePem(text)).toThrow(
      expect.objectContaining({ code: "crypto.pem", message: expect.not.stringContaining("AAEC") }),
    );
  });

  it("takes none for an empty list", () => {
    expect(parsePem("no block here")).toEqual([]);
  });
});

describe("hashes of certificates", () => {
  it.each([
    { name: "sha1", hash: "a9993e364706816aba3e25717850c26c9cd0d89d" },
    { name: "md5", hash: "900150983cd24fb0d6963f7d28e17f72" },
    { name: "sha256", hash: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
  ] as const)("$name", ({ name, hash }) => {
    expect(formatHex(certificateHash(nobleCrypto, name, parseHex("616263")))).toBe(hash);
  });
});
