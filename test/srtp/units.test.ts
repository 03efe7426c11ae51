import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WatchwordError } from "../../src/bytes/index.js";
import { isRtcp, isSuiteName, rtpHeaderLength, SrtpFailure, srtpError, suiteNames, suiteOf } from "../../src/srtp/index.js";
import { ReplayWindow } from "../../src/srtp/replay-window.js";
import { estimateIndex } from "../../src/srtp/rollover.js";
import { anyRtp, rtpHeaderOctets, rtpPacket } from "./packets.js";

describe("suites", () => {
  /** Key, salt, SRTP tag, SRTCP tag in octets: RFC 4568 §6.2, RFC 6188 §5, RFC 7714 §12. */
  it.each([
    ["AES_CM_128_HMAC_SHA1_80", 16, 14, 10, 10],
    ["AES_CM_128_HMAC_SHA1_32", 16, 14, 4, 10],
    ["AES_192_CM_HMAC_SHA1_80", 24, 14, 10, 10],
    ["AES_192_CM_HMAC_SHA1_32", 24, 14, 4, 10],
    ["AES_256_CM_HMAC_SHA1_80", 32, 14, 10, 10],
    ["AES_256_CM_HMAC_SHA1_32", 32, 14, 4, 10],
    ["AEAD_AES_128_GCM", 16, 12, 16, 16],
    ["AEAD_AES_256_GCM", 32, 12, 16, 16],
    ["NULL_HMAC_SHA1_80", 16, 14, 10, 10],
    ["NULL_HMAC_SHA1_32", 16, 14, 4, 10],
  ])("%s", (name, keyLength, saltLength, rtpTagLength, rtcpTagLength) => {
    expect(suiteOf(name)).toMatchObject({ name, keyLength, saltLength, rtpTagLength, rtcpTagLength });
    expect(suiteOf(name).sdesName).toBe(name.startsWith("NULL") ? undefined : name);
  });

  it("no name is known but those of the table", () => {
    expect(suiteNames).toHaveLength(10);
    for (const name of ["", "toString", "__proto__", "aes_cm_128_hmac_sha1_80", "F8_128_HMAC_SHA1_80"]) {
      expect(isSuiteName(name)).toBe(false);
      expect(() => suiteOf(name)).toThrow(expect.objectContaining({ code: "srtp.suite" }));
    }
  });
});

describe("failures", () => {
  it("every failure is a negative number with an error of its own; other numbers are malformed", () => {
    const codes = Object.values(SrtpFailure).map((failure) => srtpError(failure).code);
    expect(new Set(codes).size).toBe(codes.length);
    for (const failure of Object.values(SrtpFailure)) expect(failure).toBeLessThan(0);
    expect(srtpError(SrtpFailure.authentication)).toBeInstanceOf(WatchwordError);
    expect(srtpError(-99).code).toBe("srtp.malformed");
  });
});

describe("RTP and RTCP headers", () => {
  it("header length with CSRCs and extension", () => {
    fc.assert(
      fc.property(anyRtp, (shape) => {
        const packet = rtpPacket(shape);
        expect(rtpHeaderLength(packet)).toBe(rtpHeaderOctets(shape));
        for (let end = 0; end < rtpHeaderOctets(shape); end++) expect(rtpHeaderLength(packet, end)).toBe(-1);
        expect(rtpHeaderLength(packet, rtpHeaderOctets(shape))).toBe(rtpHeaderOctets(shape));
      }),
    );
  });

  it("is total", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (octets) => {
        const length = rtpHeaderLength(octets);
        expect(length === -1 || (length >= 12 && length <= octets.length)).toBe(true);
        if (isRtcp(octets)) expect(octets.length).toBeGreaterThanOrEqual(8);
      }),
    );
  });

  it.each([0, 1, 3])("version %i is refused", (version) => {
    const packet = rtpPacket({ sequence: 1 });
    packet[0] = (version << 6) | 1;
    expect(rtpHeaderLength(packet)).toBe(-1);
    expect(isRtcp(packet)).toBe(false);
  });
});

describe("packet index (RFC 3711 §3.3.1)", () => {
  it.each([
    [0, 10, 11, 11],
    [0, 10, 5, 5],
    [0, 10, 0x800a, 0x800a],
    [0, 10, 0x800b, 0x800b - 0x10000],
    [1, 10, 0xffff, 0xffff],
    [0, 0xffff, 0, 0x10000],
    [0, 0x8000, 0, 0],
    [0, 0x8001, 0, 0x10000],
    [7, 0xfff0, 5, 8 * 0x10000 + 5],
    [0xffffffff, 0xffff, 0, 2 ** 48],
  ])("ROC %i, s_l %i, SEQ %i", (rollover, highest, sequence, index) => {
    expect(estimateIndex(rollover, highest, sequence)).toBe(index);
  });

  it("is the candidate nearest to the highest index", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), fc.nat(0xffff), fc.nat(0xffff), (rollover, highest, sequence) => {
        const from = rollover * 0x10000 + highest;
        const distance = Math.abs(estimateIndex(rollover, highest, sequence) - from);
        for (const other of [rollover - 1, rollover, rollover + 1]) {
          expect(distance).toBeLessThanOrEqual(Math.abs(other * 0x10000 + sequence - from));
        }
      }),
    );
  });
});

describe("replay window (RFC 3711 §3.3.2)", () => {
  it("agrees with a list of everything seen", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(64, 128, 1024),
        fc.constantFrom(0, 0xffffff00, 2 ** 47),
        fc.array(fc.integer({ min: -1100, max: 200 }), { maxLength: 300 }),
        (size, start, steps) => {
          const window = new ReplayWindow(size);
          const seen = new Set<number>();
          let highest = -1;
          for (const step of steps) {
            const index = Math.max(0, (highest < 0 ? start : highest) + step);
            const expected = !seen.has(index) && index > highest - size;
            expect(window.isNew(index)).toBe(expected);
            if (!expected) continue;
            window.mark(index);
            seen.add(index);
            highest = Math.max(highest, index);
            expect(window.highest).toBe(highest);
          }
        },
      ),
    );
  });

  it("forgets everything at reset", () => {
    const window = new ReplayWindow(64);
    window.mark(100);
    window.reset();
    expect(window.isNew(100)).toBe(true);
    expect(window.highest).toBe(-1);
  });
});
