import { describe, expect, it } from "vitest";
import { formatBase64 } from "../../src/bytes/index.js";
import { ErrorNo, type MikeyPeerError } from "../../src/mikey/index.js";
import { readKeyMgmt } from "../../src/sdp/index.js";
import {
  AUDIO_VIDEO,
  bothWays,
  carry,
  dialogs,
  errorTo,
  exchange,
  hellosIn,
  refusal,
  rtcp,
  rtp,
  scene,
  sdpOf,
  spoiled,
} from "./support.js";

const WARNING_306 = '306 host "key-mgmt attribute not understood"';

/** A call whose rekey by the caller is being refused by the callee, as it refuses damaged keys. */
async function refusedRekey(options: Parameters<typeof scene>[0] = {}) {
  const call = dialogs(scene(options));
  await exchange(call.caller, call.callee);
  const error = await refusal(call.callee.acceptOffer(spoiled(await call.caller.createOffer(sdpOf()))));
  const warnings = error.warningHeaders("host").map((line) => line.replace(/^Warning: /, ""));
  return { ...call, error, refuse: () => call.caller.refused(error.status, error.body, warnings) };
}

describe("new keys that are refused (RFC 4567 §4.1.2)", () => {
  it("end the session of who offered them: nothing flows any more, and the end is proven", async () => {
    const call = await refusedRekey();
    expect(await call.refuse()).toMatchObject({ abort: true, retry: false });
    expect(call.caller.state).toBe("closed");
    expect(call.caller.streams[0]?.protect(rtp(1, 1))).toBeUndefined();
    expect(call.caller.streams[0]?.protectRtcp(rtcp(1))).toBeUndefined();
    expect(carry(call.callee, call.caller, rtp(2, 1))).toBeUndefined();
    await expect(call.caller.createOffer(sdpOf())).rejects.toMatchObject({ code: "sip.state" });
    expect(await refusal(call.caller.acceptOffer(sdpOf()))).toMatchObject({ status: 481 });
    const { verdict, body } = call.callee.acceptEnd(call.caller.end());
    expect([verdict, call.caller.acceptEndAnswer(body)]).toEqual(["verified", "verified"]);
    call.caller.close();
    expect(call.caller.end()).toBeUndefined();
  });

  it("leave the session as it was where policy says so, and may be offered again", async () => {
    const call = await refusedRekey({ refusedRekey: "keep" });
    expect(await call.refuse()).toMatchObject({ abort: false });
    bothWays(call, 1);
    await exchange(call.caller, call.callee);
    bothWays(call, 2);
  });

  it("bring the answerer down by nothing but the BYE", async () => {
    const call = await refusedRekey();
    expect(call.callee.state).toBe("stable");
    await call.refuse();
    expect(call.callee.streams[0]?.protect(rtp(1, 1))).toBeDefined();
  });

  it.each<[name: string, status: number, warnings: readonly string[], abort: boolean]>([
    ["488 with Warning 306", 488, [WARNING_306], true],
    ["606 with Warning 306 behind another", 606, [`399 host "so, 306 it is", ${WARNING_306}`], true],
    ["488 with 306 in the second header", 488, ['399 host "x"', WARNING_306], true],
    ["488 that gives no reason: RFC 3261 §14.1 holds", 488, [], false],
    ["488 about the media", 488, ['305 host "Incompatible media format"'], false],
    ["488 with 306 in a text", 488, ['399 host "a, 306 b", 399 host "c'], false],
    ["491, a collision", 491, [WARNING_306], false],
    ["500", 500, [WARNING_306], false],
  ])("%s", async (_name, status, warnings, abort) => {
    const call = dialogs(scene());
    await exchange(call.caller, call.callee);
    await call.caller.createOffer(sdpOf());
    expect((await call.caller.refused(status, undefined, warnings)).abort).toBe(abort);
    expect(call.caller.state).toBe(abort ? "closed" : "stable");
    if (!abort) bothWays(call, 1);
  });

  it("a MIKEY error says it too, damaged ones say nothing", async () => {
    for (const [body, abort] of [
      [(await refusedRekey()).error.body, true],
      [{ contentType: "application/mikey", content: "AQYF" }, false],
      [undefined, false],
    ] as const) {
      const call = dialogs(scene());
      await exchange(call.caller, call.callee);
      await call.caller.createOffer(sdpOf());
      expect((await call.caller.refused(488, body)).abort).toBe(abort);
    }
  });

  it("a refusal of the first offer aborts nothing: there is nothing yet, and another may follow", async () => {
    const call = dialogs(scene());
    await call.caller.createOffer(sdpOf());
    expect(await call.caller.refused(488, undefined, [WARNING_306])).toMatchObject({ abort: false, retry: true });
    await exchange(call.caller, call.callee);
    bothWays(call, 1);
  });
});

describe("a MIKEY error as answer (RFC 4567 §4.1.2)", () => {
  const GCM = { suite: "AEAD_AES_128_GCM" } as const;

  it.each(["session", "media"] as const)(
    "rejects every m= line at %s level, says why, and an offer of other keys follows",
    async (level) => {
      const world = scene({ level }, { policy: GCM, policyAccepted: ({ suite }) => suite === GCM.suite });
      const call = dialogs(world);
      const offer = await call.caller.createOffer(AUDIO_VIDEO);
      await refusal(call.callee.acceptOffer(offer));
      const answer = call.callee.createErrorAnswer(AUDIO_VIDEO);
      expect(answer.match(/^m=.*$/gm)).toEqual(["m=audio 0 RTP/SAVP 0", "m=video 0 RTP/SAVP 0"]);
      expect(readKeyMgmt(answer).attributes.map(({ section }) => section)).toEqual([level === "session" ? "session" : 0]);
      const error = await refusal(call.caller.acceptAnswer(answer));
      expect(error.code).toBe("mikey.peer-error");
      expect((error.cause as MikeyPeerError).report).toMatchObject({ errorNos: [ErrorNo.INVALID_SP_PAR], authenticated: true });
      for (const dialog of [call.caller, call.callee]) {
        expect([dialog.state, dialog.media.length]).toEqual(["stable", 0]);
        expect(dialog.streams.map(({ direction }) => direction)).toEqual(["inactive", "inactive"]);
      }
      // In the same dialog the callee offers what it wants.
      const { answer: agreed } = await exchange(call.callee, call.caller, AUDIO_VIDEO);
      expect(agreed).toContain("a=key-mgmt:mikey");
      bothWays(call, 1, 1);
      expect(call.callee.acceptEnd(call.caller.end()).verdict).toBe("verified");
    },
  );

  it("an error that names no cause may mean HELLO: the next offer is without", async () => {
    const world = scene();
    const call = dialogs(world);
    const offer = await call.caller.createOffer(sdpOf());
    expect(hellosIn(offer)).toBe(1);
    const answer = sdpOf(
      [{ port: 0, profile: "RTP/SAVP" }],
      [`a=key-mgmt:mikey ${formatBase64(errorTo(offer, ErrorNo.UNSPECIFIED))}`],
    );
    expect((await refusal(call.caller.acceptAnswer(answer))).code).toBe("mikey.peer-error");
    const second = await call.caller.createOffer(sdpOf());
    expect(hellosIn(second)).toBe(0);
    await call.callee.acceptOffer(second);
    await call.caller.acceptAnswer(await call.callee.createAnswer(sdpOf()));
    bothWays(call, 1);
    await expect(call.caller.createOffer(sdpOf([]))).rejects.toMatchObject({ code: "sip.media" });
  });

  it("is there only for a first offer that was refused with one, once", async () => {
    const call = dialogs(scene({}, { policyAccepted: () => false }));
    const state = expect.objectContaining({ code: "sip.state" });
    expect(() => call.callee.createErrorAnswer(sdpOf())).toThrow(state);
    await refusal(call.callee.acceptOffer(sdpOf()));
    expect(() => call.callee.createErrorAnswer(sdpOf()), "no key message, no error").toThrow(state);
    await refusal(call.callee.acceptOffer(await call.caller.createOffer(sdpOf())));
    expect(() => call.callee.createErrorAnswer(AUDIO_VIDEO)).toThrow(expect.objectContaining({ code: "sip.media" }));
    call.callee.createErrorAnswer(sdpOf());
    expect(() => call.callee.createErrorAnswer(sdpOf())).toThrow(state);
    const rekey = await refusedRekey();
    expect(() => rekey.callee.createErrorAnswer(sdpOf()), "RFC 4567: 488").toThrow(state);
  });
});
