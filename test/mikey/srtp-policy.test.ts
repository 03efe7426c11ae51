import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatHex, parseHex } from "../../src/bytes/index.js";
import {
  createToleranceUse,
  MikeyError,
  type PolicyParam,
  type SpDialect,
  samePolicy,
  srtpPolicyOf,
  srtpPolicyParams,
  type ToleranceName,
} from "../../src/mikey/index.js";
import { type SrtpPolicy, suiteNames } from "../../src/srtp/index.js";

/** `0=01 1=10` for parameters. */
function text(params: readonly PolicyParam[]): string {
  return params.map(({ type, value }) => `${type}=${formatHex(value)}`).join(" ");
}

function params(line: string): PolicyParam[] {
  return line === ""
    ? []
    : line.split(" ").map((pair) => {
        const [type, value] = pair.split("=") as [string, string];
        return { type: Number(type), value: parseHex(value) };
      });
}

function read(line: string, allowed: readonly ToleranceName[] = []) {
  const use = createToleranceUse(allowed);
  return { policy: srtpPolicyOf(params(line), use), used: use.used };
}

const written: readonly (readonly [SrtpPolicy, SpDialect, string])[] = [
  [{ suite: "AES_CM_128_HMAC_SHA1_80" }, "base", "0=01 1=10 2=01 3=14 7=01 8=01 10=01 11=0a"],
  [{ suite: "AES_CM_128_HMAC_SHA1_32" }, "base", "0=01 1=10 2=01 3=14 7=01 8=01 10=01 11=04"],
  [{ suite: "AES_CM_128_HMAC_SHA1_32", rtcpTagLength: 4 }, "base", "0=01 1=10 2=01 3=14 7=01 8=01 10=01 11=04 19=04"],
  [{ suite: "AES_192_CM_HMAC_SHA1_80" }, "base", "0=01 1=18 2=01 3=14 7=01 8=01 10=01 11=0a"],
  [{ suite: "AES_256_CM_HMAC_SHA1_32" }, "base", "0=01 1=20 2=01 3=14 7=01 8=01 10=01 11=04"],
  [{ suite: "AEAD_AES_128_GCM" }, "base", "0=06 1=10 2=00 4=0c 5=00 7=01 8=01 20=10"],
  [{ suite: "NULL_HMAC_SHA1_80" }, "base", "0=00 1=10 2=01 3=14 7=01 8=01 10=01 11=0a"],
  [
    { suite: "AES_CM_128_HMAC_SHA1_80", encryptRtp: false, encryptRtcp: false, authenticateRtp: false, keyDerivationRate: 2 ** 24 },
    "base",
    "0=01 1=10 2=01 3=14 6=01000000 7=00 8=00 10=00 11=0a",
  ],
  [{ suite: "AES_CM_128_HMAC_SHA1_80" }, "onvif", "0=01 1=10 2=01 3=14 4=0e 5=00 7=01 8=01 11=0a"],
  [{ suite: "AEAD_AES_256_GCM" }, "onvif", "0=06 1=20 2=00 4=0c 5=00 7=01 8=01 20=10"],
  [{ suite: "AES_CM_128_HMAC_SHA1_80" }, "gstreamer", "0=01 1=10 2=01 3=0a 7=01 8=01 10=01"],
  [{ suite: "AES_CM_128_HMAC_SHA1_32", rtcpTagLength: 4 }, "gstreamer", "0=01 1=10 2=01 3=04 7=01 8=01 10=01"],
  [{ suite: "AES_256_CM_HMAC_SHA1_80" }, "gstreamer", "0=01 1=20 2=01 3=0a 7=01 8=01 10=01"],
  [{ suite: "AEAD_AES_128_GCM" }, "gstreamer", "0=06 1=10 2=00 3=00 7=01 8=01 10=01"],
  [
    { suite: "AES_CM_128_HMAC_SHA1_80", rolloverCarrying: { mode: 1 } },
    "base",
    "0=01 1=10 2=01 3=14 7=01 8=01 10=01 11=0a 13=01 14=02 18=0e",
  ],
  [
    { suite: "AES_CM_128_HMAC_SHA1_32", rolloverCarrying: { mode: 2, rate: 50 } },
    "base",
    "0=01 1=10 2=01 3=14 7=01 8=01 10=01 11=0a 13=32 14=03 18=08",
  ],
  [
    { suite: "AES_256_CM_HMAC_SHA1_80", rolloverCarrying: { mode: 2, rate: 0xffff, tagLength: 20 } },
    "base",
    "0=01 1=20 2=01 3=14 7=01 8=01 10=01 11=0a 13=ffff 14=03 18=14",
  ],
  [
    { suite: "AES_CM_128_HMAC_SHA1_80", rolloverCarrying: { mode: 3 } },
    "base",
    "0=01 1=10 2=01 3=14 7=01 8=01 10=01 11=0a 13=01 14=04 18=04",
  ],
  [
    { suite: "AEAD_AES_128_GCM", rolloverCarrying: { mode: 3, rate: 4 } },
    "base",
    "0=06 1=10 2=00 4=0c 5=00 7=01 8=01 13=04 14=04 18=04 20=10",
  ],
];

const refused: readonly (readonly [string, string])[] = [
  ["an unknown parameter", "0=01 21=01"],
  ["a private parameter", "241=01"],
  ["a repeated parameter", "0=01 0=01"],
  ["a parameter without octets", "0="],
  ["a parameter of five octets", "1=0000000010"],
  ["AES-F8", "0=02"],
  ["ARIA-GCM", "0=08"],
  ["a key length that no suite has", "0=01 1=11"],
  ["GCM with 24-octet keys", "0=06 1=18"],
  ["NULL authentication", "0=01 2=00"],
  ["ROC carrying in SRTCP", "2=04"],
  ["ROC carrying in SRTCP alone", "15=02"],
  ["a rate without ROC carrying", "13=0001"],
  ["a rate of 0", "13=0000 14=02 18=0e"],
  ["a rate above 16 bits", "13=010000 14=02 18=0e"],
  ["a MAC of three octets beside a ROC", "14=03 18=07"],
  ["a tag longer than a MAC", "14=03 18=15"],
  ["mode 3 with a MAC", "14=04 18=0e"],
  ["ROC carrying without authentication", "10=00 14=02 18=0e"],
  ["ROC carrying with the tag length in parameter 3", "3=0a 14=02"],
  ["a MAC beside that of GCM", "0=06 14=02 18=0e"],
  ["ROC carrying in SRTCP of GCM", "0=06 14=04 15=04 18=04"],
  ["GCM with a MAC beside the ROC", "0=06 14=04 18=0e"],
  ["a 10-octet authentication key without the tolerance", "3=0a"],
  ["another SRTP PRF", "5=01"],
  ["a derivation rate that is no power of two", "6=03"],
  ["a derivation rate above 2^24", "6=02000000"],
  ["a switch that is neither on nor off", "7=02"],
  ["a FEC order", "9=01"],
  ["a prefix", "12=04"],
  ["a tag of eight octets", "11=08"],
  ["a short SRTCP tag", "11=04 19=04"],
  ["a salt of 12 octets with AES-CM", "4=0c"],
  ["a salt of 14 octets with GCM", "0=06 4=0e"],
  ["an AEAD tag length with AES-CM", "20=10"],
  ["an AEAD tag of eight octets", "0=06 20=08"],
  ["GCM without encryption", "0=06 7=00"],
  ["GCM without authentication", "0=06 10=00"],
  ["GCM with HMAC", "0=06 2=01"],
  ["a third authentication algorithm for SRTCP", "15=02"],
];

describe("an SRTP policy in SP parameters", () => {
  it.each(written)("%j in %s", (policy, dialect, line) => {
    expect(text(srtpPolicyParams(policy, dialect))).toBe(line);
  });

  it.each(written)("%j comes back from %s", (policy, dialect, line) => {
    const short = dialect === "gstreamer" || policy.rtcpTagLength === 4;
    const allowed: ToleranceName[] = dialect === "gstreamer" ? ["tag-length-in-auth-key-length"] : [];
    expect(read(line, short ? [...allowed, "short-srtcp-tag"] : allowed).policy).toEqual(policy);
  });

  const base = written.filter(([, dialect]) => dialect === "base");

  it.each(base)("%j in %s is the same as itself with its defaults stated, and as no other", (policy, _dialect, line) => {
    const stated = { encryptRtp: true, encryptRtcp: true, authenticateRtp: true, keyDerivationRate: 0, ...policy };
    for (const [other, , otherLine] of base) expect(samePolicy(stated, other)).toBe(line === otherLine);
  });

  it("of a suite that MIKEY cannot name is the same as none", () => {
    const unknown = { suite: "F8_128_HMAC_SHA1_80" } as unknown as SrtpPolicy;
    expect(() => samePolicy(unknown, unknown)).toThrow(expect.objectContaining({ code: "mikey.option" }));
  });

  it("comes back from every dialect that can say it", () => {
    const policy = fc
      .record(
        {
          suite: fc.constantFrom(...suiteNames.filter((name) => !name.startsWith("AEAD"))),
          encryptRtp: fc.constant(false),
          encryptRtcp: fc.constant(false),
          authenticateRtp: fc.constant(false),
          keyDerivationRate: fc.integer({ min: 0, max: 24 }).map((exponent) => 2 ** exponent),
        },
        { requiredKeys: ["suite"] },
      )
      .map((value) => ({ ...value }) as SrtpPolicy);
    fc.assert(
      fc.property(policy, fc.constantFrom<SpDialect>("base", "onvif"), (value, dialect) => {
        expect(srtpPolicyOf(srtpPolicyParams(value, dialect), createToleranceUse([]))).toEqual(value);
      }),
    );
  });

  it.each([
    [{ suite: "AEAD_AES_128_GCM", encryptRtp: false }, "base"],
    [{ suite: "AEAD_AES_128_GCM", authenticateRtp: false }, "onvif"],
    [{ suite: "AES_CM_128_HMAC_SHA1_80", keyDerivationRate: 4 }, "gstreamer"],
    [{ suite: "AES_CM_128_HMAC_SHA1_80", rolloverCarrying: { mode: 1 } }, "gstreamer"],
    [{ suite: "AES_CM_128_HMAC_SHA1_80", rolloverCarrying: { mode: 1 } }, "onvif"],
    [{ suite: "AES_CM_128_HMAC_SHA1_80", rolloverCarrying: { mode: 3, tagLength: 14 } }, "base"],
    [{ suite: "AES_CM_128_HMAC_SHA1_80", authenticateRtp: false, rolloverCarrying: { mode: 2 } }, "base"],
    [{ suite: "AEAD_AES_128_GCM", rolloverCarrying: { mode: 2 } }, "base"],
  ] as const)("%j cannot be said in %s", (policy, dialect) => {
    expect(() => srtpPolicyParams(policy, dialect)).toThrow(expect.objectContaining({ code: "mikey.option" }));
  });
});

describe("SP parameters as an SRTP policy", () => {
  it("absent parameters have SRTP's defaults", () => {
    expect(read("").policy).toEqual({ suite: "AES_CM_128_HMAC_SHA1_80" });
    expect(read("1=20").policy).toEqual({ suite: "AES_256_CM_HMAC_SHA1_80" });
    expect(read("0=06").policy).toEqual({ suite: "AEAD_AES_128_GCM" });
  });

  it("values may be longer than they need to be", () => {
    expect(read("0=0001 1=00000010 11=0004").policy).toEqual({ suite: "AES_CM_128_HMAC_SHA1_32" });
  });

  it("RFC 4771 overrides are understood where they change nothing", () => {
    expect(read("0=01 14=01 15=01 16=14 17=14 18=04 19=0a").policy).toEqual({ suite: "AES_CM_128_HMAC_SHA1_32" });
  });

  it("ROC carrying is read from the general parameters too, where SRTCP has its own", () => {
    const suite = "AES_CM_128_HMAC_SHA1_80";
    expect(read("2=02 11=0e 15=01").policy).toEqual({ suite, rolloverCarrying: { mode: 1 } });
    expect(read("2=04 11=04 15=01 16=00").policy).toEqual({ suite, rolloverCarrying: { mode: 3 } });
    expect(read("14=04").policy).toEqual({ suite, rolloverCarrying: { mode: 3 } });
    // RFC 3830's default tag of 80 bits, that of the ROC included.
    expect(read("14=03 13=0010").policy).toEqual({ suite, rolloverCarrying: { mode: 2, rate: 16, tagLength: 10 } });
    expect(read("14=03 18=0e 19=04", ["short-srtcp-tag"]).policy).toEqual({
      suite,
      rtcpTagLength: 4,
      rolloverCarrying: { mode: 2 },
    });
  });

  it("the group profile of TS 33.180 is understood", () => {
    expect(read("0=06 1=10 2=04 4=0c 5=00 6=00 13=01 18=04 19=00 20=10").policy).toEqual({
      suite: "AEAD_AES_128_GCM",
      rolloverCarrying: { mode: 3 },
    });
  });

  it("the tag length in parameter 3 is read, and reported", () => {
    const allowed = ["tag-length-in-auth-key-length", "short-srtcp-tag"] as const;
    expect(read("0=01 3=0a", allowed)).toEqual({ policy: { suite: "AES_CM_128_HMAC_SHA1_80" }, used: [allowed[0]] });
    expect(read("0=01 3=04", allowed)).toEqual({
      policy: { suite: "AES_CM_128_HMAC_SHA1_32", rtcpTagLength: 4 },
      used: [...allowed],
    });
    // Where parameter 11 says the tag length, 3 is wrong and nothing else.
    expect(() => read("3=0a 11=0a", allowed)).toThrow(MikeyError);
    expect(() => read("3=08", allowed)).toThrow(MikeyError);
    expect(read("3=14 11=0a", allowed).used).toEqual([]);
  });

  it.each(refused)("refuses %s", (_name, line) => {
    expect(() => read(line)).toThrow(expect.objectContaining({ code: "mikey.policy-parameter" }));
  });

  it("ROC carrying comes back", () => {
    const policy = fc.record({
      suite: fc.constantFrom("AES_CM_128_HMAC_SHA1_80", "AES_192_CM_HMAC_SHA1_32", "NULL_HMAC_SHA1_80"),
      rolloverCarrying: fc.record(
        { mode: fc.constantFrom(1, 2), rate: fc.integer({ min: 2, max: 0xffff }), tagLength: fc.integer({ min: 9, max: 13 }) },
        { requiredKeys: ["mode"] },
      ),
    });
    fc.assert(
      fc.property(policy, (value) => {
        const back = srtpPolicyOf(srtpPolicyParams(value as SrtpPolicy), createToleranceUse([]));
        // A tag length of its own says as much as the suite's name: the name is then that with the longer tag.
        const suite = value.rolloverCarrying.tagLength === undefined ? value.suite : value.suite.replace("_32", "_80");
        expect(back).toEqual({ suite, rolloverCarrying: { ...value.rolloverCarrying } });
      }),
    );
  });

  it("gives a policy or a typed error for any parameters", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ type: fc.integer({ min: 0, max: 22 }), value: fc.uint8Array({ maxLength: 5 }) }), { maxLength: 8 }),
        (any) => {
          try {
            expect(suiteNames).toContain(srtpPolicyOf(any, createToleranceUse(["short-srtcp-tag"])).suite);
          } catch (error) {
            expect(error).toBeInstanceOf(MikeyError);
          }
        },
      ),
    );
  });
});
