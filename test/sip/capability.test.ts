import { describe, expect, it } from "vitest";
import { readKeyMgmt } from "../../src/sdp/index.js";
import { AUDIO_VIDEO, bothWays, carry, dialogs, exchange, lineOf, refusal, rtp, scene, sdpOf } from "./support.js";

/** Lines of a description that are not in another one. */
function added(sdp: string, to: string): string[] {
  const known = new Set(to.split("\r\n"));
  return sdp
    .split("\r\n")
    .filter((line) => !known.has(line))
    .map((line) => line.replace(/mikey .*/, "mikey …"));
}

const capability = (options: Parameters<typeof scene>[0] = {}) => scene({ offerAs: "capability", ...options });

describe("keys offered as a capability (RFC 5939), asked for by name", () => {
  it("leave the m= lines plain, and every other octet as it was", async () => {
    const { caller } = dialogs(capability());
    expect(added(await caller.createOffer(sdpOf()), sdpOf())).toEqual([
      "a=tcap:1 RTP/SAVP",
      "a=acap:1 key-mgmt:mikey …",
      "a=x-watchword:1",
      "a=pcfg:1 t=1 a=1",
    ]);
    const local = sdpOf([{}, { kind: "video", profile: "RTP/AVPF" }, { kind: "text", port: 0 }]);
    const { caller: other } = dialogs(capability({ level: "media" }));
    expect(added(await other.createOffer(local), local)).toEqual([
      "a=tcap:1 RTP/SAVP RTP/SAVPF",
      "a=x-watchword:1",
      "a=acap:1 key-mgmt:mikey …",
      "a=pcfg:1 t=1 a=1",
      "a=acap:2 key-mgmt:mikey …",
      "a=pcfg:1 t=2 a=2",
    ]);
  });

  it.each(["session", "media"] as const)("key every m= line of an answer that takes them, at %s level", async (level) => {
    const call = dialogs(capability({ level }));
    const { answer } = await exchange(call.caller, call.callee, AUDIO_VIDEO);
    expect(answer.match(/^m=.*$/gm)).toEqual(["m=audio 4000 RTP/SAVP 0", "m=video 4002 RTP/SAVP 0"]);
    expect(answer.match(/^a=acfg.*$/gm)).toEqual(
      level === "session" ? ["a=acfg:1 t=1 a=1", "a=acfg:1 t=1 a=1"] : ["a=acfg:1 t=1 a=1", "a=acfg:1 t=1 a=2"],
    );
    bothWays(call, 1, 0);
    bothWays(call, 1, 1);
    // What was agreed is offered as it is from now on (RFC 5939 §3.6.3), by either side.
    for (const [from, to] of [
      [call.caller, call.callee],
      [call.callee, call.caller],
    ] as const) {
      const { offer } = await exchange(from, to, AUDIO_VIDEO);
      expect(offer).not.toMatch(/a=(tcap|acap|pcfg)/);
      expect(lineOf(offer, "m=audio")).toBe("m=audio 4000 RTP/SAVP 0");
    }
    bothWays(call, 2, 1);
    expect(call.callee.acceptEnd(call.caller.end()).verdict).toBe("verified");
  });

  it.each<[string, (answer: string) => string, string]>([
    ["in the clear", () => sdpOf(), "sip.downgrade"],
    ["in the clear, with the key message", (answer) => answer.replace("RTP/SAVP", "RTP/AVP"), "sip.downgrade"],
    ["without a key message", (answer) => answer.replace(/a=key-mgmt.*\r\n/, ""), "sip.downgrade"],
    ["that does not say what it took", (answer) => answer.replace(/a=acfg.*\r\n/, ""), "sip.answer"],
    ["that took another configuration", (answer) => answer.replace("a=acfg:1", "a=acfg:2"), "sip.answer"],
    ["that took another transport", (answer) => answer.replace("t=1", "t=2"), "sip.answer"],
  ])("an answer %s is refused", async (_name, change, code) => {
    const call = dialogs(capability());
    await call.callee.acceptOffer(await call.caller.createOffer(sdpOf()));
    const answer = change(await call.callee.createAnswer(sdpOf()));
    expect(await refusal(call.caller.acceptAnswer(answer))).toMatchObject({ code, status: 488 });
    expect(call.caller.streams[0]?.protect(rtp(1, 1))).toBeUndefined();
    call.caller.streams[0]?.receive(rtp(1, 2));
    expect(call.caller.end()).toBeUndefined();
  });

  it("an answer may have the parts of a=acfg in any order, and reject an m= line", async () => {
    const call = dialogs(capability());
    await call.callee.acceptOffer(await call.caller.createOffer(AUDIO_VIDEO));
    const answer = await call.callee.createAnswer(sdpOf([{}, { kind: "video", port: 0 }]));
    await call.caller.acceptAnswer(answer.replace("t=1 a=1", "a=1  t=1"));
    bothWays(call, 1);
    expect(carry(call.caller, call.callee, rtp(1, 1), 1)).toBeUndefined();
  });

  it("a branch of a forked call takes them too", async () => {
    const call = dialogs(capability());
    await call.callee.acceptOffer(await call.caller.createOffer(sdpOf()));
    const branch = call.caller.fork("tag");
    await branch.acceptAnswer(await call.callee.createAnswer(sdpOf()));
    bothWays({ caller: branch, callee: call.callee }, 1);
  });

  it("who takes capabilities away on the way gets a refusal, not a call in the clear", async () => {
    const call = dialogs(capability());
    const offer = await call.caller.createOffer(sdpOf());
    const stripped = offer.replace(/a=(tcap|acap|pcfg).*\r\n/g, "");
    expect(await refusal(call.callee.acceptOffer(stripped))).toMatchObject({ code: "mikey.absent" });
  });

  it("are not offered by default, nor beside a line that is secure already; a description with its own is refused", async () => {
    expect(await dialogs(scene()).caller.createOffer(sdpOf())).not.toMatch(/a=(tcap|acap|pcfg)/);
    const mixed = sdpOf([{}, { kind: "video", profile: "RTP/SAVP" }]);
    const call = dialogs(capability());
    const { offer } = await exchange(call.caller, call.callee, mixed, AUDIO_VIDEO);
    expect(offer.match(/^m=.*$/gm)).toEqual(["m=audio 4000 RTP/SAVP 0", "m=video 4000 RTP/SAVP 0"]);
    bothWays(call, 1, 1);
    await expect(dialogs(capability()).caller.createOffer(sdpOf([{}], ["a=tcap:1 RTP/AVPF"]))).rejects.toMatchObject({
      code: "sip.media",
    });
  });

  it("take the place of key messages that a local description has", async () => {
    const { caller } = dialogs(capability());
    const offer = await caller.createOffer(sdpOf([{}], ["a=key-mgmt:mikey AQAA"]));
    expect(readKeyMgmt(offer).attributes.map(({ capability: number }) => number)).toEqual([1]);
  });
});
