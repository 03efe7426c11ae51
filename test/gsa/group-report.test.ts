import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WatchwordError } from "../../src/bytes/index.js";
import { decodeReport, type Report, sealReport, verifyReport } from "../../src/gsa/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { constants, octets } from "./group-fixture.js";

const upKey = octets("kUp");
const report: Omit<Report, "group" | "csbId"> = {
  counter: 1,
  member: 42,
  kekSpi: 8,
  streams: [{ ssrc: 7, running: { roc: 2, seq: 3 }, gone: false }],
};
const seal = (changes: Partial<Report> = {}): Uint8Array => sealReport(nodeCrypto, upKey, constants, { ...report, ...changes });

describe("reports", () => {
  it("say whose they are, and are believed with K_up", () => {
    const received = decodeReport(seal());
    expect(received).toMatchObject({ ...report, group: constants.group, csbId: constants.csbId });
    expect(verifyReport(nodeCrypto, upKey, constants, received)).toBe(true);
    expect(verifyReport(nodeCrypto, octets("kDown"), constants, received)).toBe(false);
    for (const other of [{ group: Uint8Array.of(1) }, { csbId: 1 }, { rand: new Uint8Array(32) }])
      expect(verifyReport(nodeCrypto, upKey, { ...constants, ...other }, received)).toBe(false);
  });

  it("of a member without KEK name none", () => {
    const received = decodeReport(seal({ kekSpi: undefined, streams: [] }));
    expect([received.kekSpi, received.streams]).toEqual([undefined, []]);
    expect(verifyReport(nodeCrypto, upKey, constants, received)).toBe(true);
  });

  it("with any octet changed, cut or added are refused", () => {
    const sealed = seal();
    const judge = (candidate: Uint8Array): boolean => {
      try {
        return verifyReport(nodeCrypto, upKey, constants, decodeReport(candidate));
      } catch (error) {
        expect(error).toBeInstanceOf(WatchwordError);
        return false;
      }
    };
    expect(judge(sealed)).toBe(true);
    for (let at = 0; at < sealed.length; at++) {
      expect(judge(sealed.with(at, (sealed[at] as number) ^ 1)), `octet ${at}`).toBe(false);
      expect(judge(sealed.subarray(0, at))).toBe(false);
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (candidate) => {
        expect(judge(candidate)).toBe(false);
      }),
    );
  });
});
