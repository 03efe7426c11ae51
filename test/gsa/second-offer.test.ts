import { describe, expect, it } from "vitest";
import { createMediaKeying, type OfferTerms, type RefusedOffer, reportOfRefusal, secondOffer } from "../../src/gsa/index.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import {
  createTimestampSource,
  decodeMessage,
  ErrorNo,
  type ErrorReport,
  encodeErrorMessage,
  type MikeyPolicy,
  peerErrorOf,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { peerProfile } from "../../src/peers/index.js";
import type { SrtpPolicy, SuiteName } from "../../src/srtp/index.js";
import { PSK } from "../mikey/exchange-fixture.js";

const [GCM_256, GCM, AES80, AES32] = [
  "AEAD_AES_256_GCM",
  "AEAD_AES_128_GCM",
  "AES_CM_128_HMAC_SHA1_80",
  "AES_CM_128_HMAC_SHA1_32",
] as const satisfies readonly SuiteName[];

function keyingOf(policy: MikeyPolicy = {}, policyAccepted?: (policy: SrtpPolicy) => boolean) {
  const { clock, timers } = createSimulatedNetwork();
  return createMediaKeying({
    clock,
    timers,
    crypto: nodeCrypto,
    dialect: peerProfile("strict"),
    findCredential: () => ({ psk: PSK }),
    policy,
    ...(policyAccepted === undefined ? {} : { policyAccepted }),
  });
}

function report(errorNos: readonly number[], suites: readonly SuiteName[] = [], authenticated = true): ErrorReport {
  return { errorNos, policies: suites.map((suite) => ({ suite })), authenticated };
}

const REFUSED: RefusedOffer = {
  offers: [{ privateNumbers: "preferred" }],
  saidHello: true,
  policy: { suite: GCM_256 },
  terms: undefined,
};
const { INVALID_DH, INVALID_ID, INVALID_SP_PAR, UNSPECIFIED } = ErrorNo;
const listed = { suites: [GCM_256, GCM, AES80] } as const;

describe("after a refusal", () => {
  it.each<[string, Partial<RefusedOffer>, ErrorReport | undefined, OfferTerms | undefined]>([
    ["without a cause", {}, undefined, { withoutHello: true }],
    ["without a cause, where nothing was announced", { saidHello: false }, undefined, undefined],
    ["for a cause that has no name", {}, report([UNSPECIFIED]), { withoutHello: true }],
    ["for numbers", {}, report([INVALID_DH], [], false), { withoutHello: true }],
    ["for numbers that it did not have", { offers: [{}] }, report([INVALID_DH]), undefined],
    ["for numbers that policy needs", { offers: [{}, { privateNumbers: "required" }] }, report([INVALID_DH]), undefined],
    ["for another cause", {}, report([INVALID_ID]), undefined],
    ["for numbers and another cause", {}, report([INVALID_DH, INVALID_ID]), undefined],
    ["for its suite", {}, report([INVALID_SP_PAR], [AES80]), { withoutHello: false, policy: { suite: AES80 } }],
    ["for its suite: our preference counts", {}, report([10], [AES80, GCM]), { withoutHello: false, policy: { suite: GCM } }],
    ["for its suite, and nobody vouches for it", {}, report([INVALID_SP_PAR], [AES80], false), undefined],
    ["for its suite, without another one", {}, report([INVALID_SP_PAR]), undefined],
    ["for its suite, in favour of one that is not ours", {}, report([INVALID_SP_PAR], [AES32]), undefined],
    ["for its suite, in favour of the same", {}, report([INVALID_SP_PAR], [GCM_256]), undefined],
    ["for its suite, in favour of an earlier one", { policy: { suite: AES80 } }, report([INVALID_SP_PAR], [GCM]), undefined],
    ["for both", {}, report([INVALID_SP_PAR, INVALID_DH], [GCM]), { withoutHello: true, policy: { suite: GCM } }],
    ["for both, and its numbers are needed", { offers: [{ privateNumbers: "required" }] }, report([10, 6], [GCM]), undefined],
    [
      "for its suite, after one for numbers",
      { saidHello: false, terms: { withoutHello: true } },
      report([INVALID_SP_PAR], [GCM]),
      { withoutHello: true, policy: { suite: GCM } },
    ],
  ])("%s", (_, changes, said, terms) => {
    expect(secondOffer(keyingOf(listed), { ...REFUSED, ...changes }, said)).toEqual(terms);
  });

  it("a suite that is not listed, not accepted, or leaves something open is not proposed", () => {
    const said = report([INVALID_SP_PAR], [AES80]);
    expect(secondOffer(keyingOf(), REFUSED, said)).toBeUndefined();
    expect(
      secondOffer(
        keyingOf(listed, ({ suite }) => suite !== AES80),
        REFUSED,
        said,
      ),
    ).toBeUndefined();
    const open = { ...said, policies: [{ suite: AES80, encryptRtp: false }] };
    expect(secondOffer(keyingOf(listed), REFUSED, open)).toBeUndefined();
  });

  it("what else was proposed stays, and nothing else that the peer wrote is taken", () => {
    const refused = {
      ...REFUSED,
      policy: { suite: GCM_256, keyDerivationRate: 16, rolloverCarrying: { mode: 3 }, rtcpTagLength: 10 },
    } as const;
    const said = { ...report([INVALID_SP_PAR]), policies: [{ suite: AES80, keyDerivationRate: 1, rtcpTagLength: 4 }] };
    expect(secondOffer(keyingOf(listed), refused, said)?.policy).toEqual({ suite: AES80, keyDerivationRate: 16 });
  });

  it("a peer that names what was not offered, whatever is offered, is asked no more often than there are suites", () => {
    const keying = keyingOf(listed);
    let refused = REFUSED;
    let rounds = 0;
    for (;;) {
      const others = listed.suites.filter((suite) => suite !== refused.policy.suite);
      const terms = secondOffer(keying, refused, report([INVALID_SP_PAR], others));
      if (terms === undefined) break;
      refused = { ...refused, policy: terms.policy as SrtpPolicy, terms };
      rounds++;
    }
    expect(rounds).toBe(listed.suites.length - 1);
  });
});

describe("what a refusal says", () => {
  const offer = async () => {
    const keying = keyingOf();
    const made = await keying.offer({ credential: { psk: PSK }, streams: [{ policy: { suite: AES80 } }], secure: false });
    return { keying, made };
  };

  it("is authenticated where the offer can tell", async () => {
    const { made } = await offer();
    const callee = keyingOf({ suites: [GCM] });
    const error = await callee.answer(made.octets, { secure: false, ssrcs: [0], scope: "d" }).catch((caught: unknown) => caught);
    const { reply } = error as { reply: Uint8Array };
    const said = { errorNos: [INVALID_SP_PAR], policies: [expect.objectContaining({ suite: GCM })] };
    expect(await reportOfRefusal([made], reply)).toMatchObject({ ...said, authenticated: true });
    const other = await offer();
    expect(await reportOfRefusal([other.made], reply), "of another exchange").toMatchObject({ authenticated: false });
    expect(await reportOfRefusal([other.made, made], reply)).toMatchObject({ ...said, authenticated: true });
    expect(await reportOfRefusal([], reply)).toEqual(peerErrorOf(reply)?.report);
    const spoiled = reply.with(-1, (reply.at(-1) as number) ^ 1);
    expect(await reportOfRefusal([made], spoiled), "with a wrong V").toMatchObject({ authenticated: false });
  });

  it("is nothing where it is no error, or none that can be read", async () => {
    const { made, keying } = await offer();
    expect(await reportOfRefusal([made], made.octets)).toBeUndefined();
    const { header } = decodeMessage(made.octets);
    const t = createTimestampSource(keying.options.clock).next();
    const bare = encodeErrorMessage(nodeCrypto, header, t, UNSPECIFIED);
    expect(await reportOfRefusal([made], bare)).toMatchObject({ errorNos: [UNSPECIFIED], authenticated: false });
    for (let length = 0; length < bare.length; length++)
      expect(await reportOfRefusal([made], bare.subarray(0, length))).toBeUndefined();
  });
});
