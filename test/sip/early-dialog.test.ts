import { describe, expect, it } from "vitest";
import type { SipDialog } from "../../src/sip/index.js";
import { bothWays, carry, dialogs, exchange, refusal, rtp, type Scene, scene, sdpOf } from "./support.js";

const HELD = sdpOf([{ attributes: ["a=sendonly"] }]);
const HOLDING = sdpOf([{ attributes: ["a=recvonly"] }]);

/** A call whose answer came in a reliable 183: it rings, and its media flows. */
async function ringing(world: Scene = scene()) {
  const call = dialogs(world);
  await exchange(call.caller, call.callee);
  bothWays(call, 1);
  return { ...call, world };
}

describe("UPDATE (RFC 3311), which carries offers and answers as INVITE does", () => {
  it.each(["caller", "callee"] as const)(
    "of the %s replaces keys before and after the call is taken, no packet lost",
    async (side) => {
      const call = await ringing();
      const [from, to] = side === "caller" ? [call.caller, call.callee] : [call.callee, call.caller];
      const fingerprints = new Set([call.caller.streams[0]?.fingerprint]);
      let sequence = 1;
      for (const step of ["ringing", "taken"]) {
        const offer = await from.createOffer(sdpOf());
        bothWays(call, ++sequence);
        await to.acceptOffer(offer);
        bothWays(call, ++sequence);
        const answer = await to.createAnswer(sdpOf());
        bothWays(call, ++sequence);
        await from.acceptAnswer(answer);
        bothWays(call, ++sequence);
        fingerprints.add(call.caller.streams[0]?.fingerprint);
        if (step === "ringing") for (const dialog of [call.caller, call.callee]) dialog.confirm();
      }
      expect(fingerprints.size).toBe(3);
      expect(call.caller.streams[0]?.drops.refused).toBe(0);
      expect(call.callee.acceptEnd(call.caller.end()).verdict).toBe("verified");
    },
  );

  it("puts a ringing call on hold", async () => {
    const call = await ringing();
    await exchange(call.callee, call.caller, HELD, HOLDING);
    expect(carry(call.caller, call.callee, rtp(1, 2))).toBeUndefined();
    expect(carry(call.callee, call.caller, rtp(2, 2))).toBeDefined();
    await exchange(call.caller, call.callee);
    bothWays(call, 3);
  });

  it("collides with another: 491, and 500 where the one before is not answered (RFC 3311 §5.2)", async () => {
    const call = await ringing();
    const mine = await call.caller.createOffer(sdpOf());
    const theirs = await call.callee.createOffer(sdpOf());
    expect(await refusal(call.callee.acceptOffer(mine))).toMatchObject({ status: 491 });
    expect(await call.caller.refused(491)).toMatchObject({ abort: false });
    await call.caller.acceptOffer(theirs);
    expect(await refusal(call.caller.acceptOffer(`${theirs}a=x\r\n`))).toMatchObject({ status: 500 });
    await call.callee.acceptAnswer(await call.caller.createAnswer(sdpOf()));
    bothWays(call, 2);
  });

  it("before the first offer is answered is refused", async () => {
    const call = dialogs(scene());
    const offer = await call.caller.createOffer(sdpOf());
    await call.callee.acceptOffer(offer);
    expect(await refusal(call.callee.acceptOffer(`${offer}a=x\r\n`))).toMatchObject({ status: 500 });
    await expect(call.callee.createOffer(sdpOf())).rejects.toMatchObject({ code: "sip.state" });
  });

  it("in one of several branches waits for the one that has the call: till then a new key could be another branch's too", async () => {
    const call = dialogs(scene());
    const offer = await call.caller.createOffer(sdpOf());
    const phones = [call.callee, dialogs(scene()).callee] as const;
    const branches: SipDialog[] = [];
    for (const [index, phone] of phones.entries()) {
      await phone.acceptOffer(offer);
      const branch = call.caller.fork(`tag-${index}`);
      await branch.acceptAnswer(await phone.createAnswer(sdpOf()));
      branches.push(branch);
    }
    const [branch] = branches as [SipDialog];
    await expect(branch.createOffer(sdpOf())).rejects.toMatchObject({ code: "gsa.rekey" });
    expect(await refusal(branch.acceptOffer(await call.callee.createOffer(sdpOf())))).toMatchObject({ status: 491 });
    call.callee.rollback();
    branch.confirm();
    await exchange(branch, call.callee);
    bothWays({ caller: branch, callee: call.callee }, 2);
  });

  it("in the only branch replaces its keys, after which there is no other one", async () => {
    const call = dialogs(scene());
    await call.callee.acceptOffer(await call.caller.createOffer(sdpOf()));
    const branch = call.caller.fork("tag");
    await branch.acceptAnswer(await call.callee.createAnswer(sdpOf()));
    await exchange(branch, call.callee);
    bothWays({ caller: branch, callee: call.callee }, 2);
    expect(() => call.caller.fork("other")).toThrow(expect.objectContaining({ code: "sip.branches" }));
    expect(call.caller.fork("tag")).toBe(branch);
  });
});

describe("PRACK (RFC 3262)", () => {
  it("carries the answer to an offer in a reliable 183", async () => {
    const call = dialogs(scene());
    const offer = await call.callee.createOffer(sdpOf());
    await call.caller.acceptOffer(offer);
    await call.callee.acceptAnswer(await call.caller.createAnswer(sdpOf()));
    bothWays(call, 1);
    expect(call.callee.acceptEnd(call.caller.end()).verdict).toBe("verified");
  });

  it("carries an offer of its own, which its 200 answers", async () => {
    const call = await ringing();
    const { offer } = await exchange(call.caller, call.callee, sdpOf([{}, { kind: "video", port: 4002 }]));
    expect(offer).toContain("a=key-mgmt:mikey");
    bothWays(call, 2, 1);
  });
});
