import { describe, expect, it } from "vitest";
import { createMediaKeying } from "../../src/gsa/index.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import {
  type DecodedMessage,
  decodeMessage,
  ErrorNo,
  encodeErrorMessage,
  type MikeyPolicy,
  requiredPayload,
  srtpPolicyParams,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { peerProfile } from "../../src/peers/index.js";
import { readKeyMgmt } from "../../src/sdp/index.js";
import { createSipKeying, mikeyBody, type SipKeying, type SipKeyingOptions, sipIdentity } from "../../src/sip/index.js";
import { PSK } from "../mikey/exchange-fixture.js";
import { caseNamed, credentialOf, MODE_CASES, type ModeCase, partyOf } from "../mikey/mode-fixture.js";
import {
  ALICE,
  AUDIO_VIDEO,
  BOB,
  bothWays,
  CALL,
  type Call,
  dialogs,
  exchange,
  hellosIn,
  lineOf,
  refusal,
  rtp,
  sdpOf,
  spoiled,
} from "./support.js";

const NAMES = [ALICE, BOB] as const;

/** Two user agents that key calls in one mode. */
function scene(row: ModeCase, options: Partial<SipKeyingOptions> = {}) {
  const network = createSimulatedNetwork();
  const make = (side: 0 | 1): SipKeying =>
    createSipKeying({
      keying: createMediaKeying({
        clock: network.clock,
        timers: network.timers,
        crypto: nodeCrypto,
        dialect: peerProfile("strict"),
        identity: sipIdentity(NAMES[side]),
        findCredential: async () => ({ psk: PSK }),
        requirePsk: true,
        ...partyOf(nodeCrypto, row, side),
      }),
      credentialFor: () => credentialOf(nodeCrypto, row, side),
      ...options,
    });
  return { network, alice: make(0), bob: make(1) };
}

function proven({ caller, callee }: Call): void {
  const { verdict, body } = callee.acceptEnd(caller.end());
  expect([verdict, caller.acceptEndAnswer(body)]).toEqual(["verified", "verified"]);
}

describe.each(MODE_CASES.map((row) => [row.title, row] as const))("a call keyed by %s", (_title, row) => {
  it.each(["caller", "callee"] as const)(
    "offered by the %s: media both ways, new keys and m= lines from either side, a proven end",
    async (side) => {
      const call = dialogs(scene(row));
      const { caller, callee } = call;
      const [from, to] = side === "caller" ? [caller, callee] : [callee, caller];
      await exchange(from, to);
      bothWays(call, 1);
      expect(from.media[0]?.keyedBy).toBe(row.mode.toLowerCase());
      const fingerprints = new Set([caller.streams[0]?.fingerprint]);
      for (const [index, [offerer, answerer]] of [
        [from, to],
        [to, from],
        [from, to],
      ].entries()) {
        await exchange(offerer as never, answerer as never, AUDIO_VIDEO);
        bothWays(call, 2 + index, 0);
        bothWays(call, 2 + index, 1);
        expect(caller.streams[0]?.fingerprint).toBe(callee.streams[0]?.fingerprint);
        fingerprints.add(caller.streams[0]?.fingerprint);
      }
      expect(fingerprints.size).toBe(4);
      expect(caller.streams[0]?.drops.refused).toBe(0);
      proven(call);
    },
  );

  it("under another name, changed on the way, or answered in the clear is refused; a refused rekey ends with a proof", async () => {
    const world = scene(row);
    const call = dialogs(world);
    const offer = await call.caller.createOffer(sdpOf());
    const other = world.bob.dialog({ ...CALL, callId: "other", remote: "sip:boss@example.org" });
    expect(await refusal(other.acceptOffer(offer))).toMatchObject({ code: "sip.identity" });
    expect((await refusal(call.callee.acceptOffer(spoiled(offer)))).status).toBe(488);
    await call.callee.acceptOffer(offer);
    await call.caller.acceptAnswer(await call.callee.createAnswer(sdpOf()));
    const rekey = await refusal(call.callee.acceptOffer(spoiled(await call.caller.createOffer(sdpOf()))));
    expect(rekey.warnings[0]?.code).toBe(306);
    bothWays(call, 1);
    expect(await call.caller.refused(rekey.status, rekey.body, ['306 host "x"'])).toMatchObject({ abort: true });
    proven(call);
    const plain = dialogs(world, { callId: "plain" });
    await plain.caller.createOffer(sdpOf());
    expect(await refusal(plain.caller.acceptAnswer(sdpOf()))).toMatchObject({ code: "sip.downgrade" });
  });

  it("that comes back to who sent it is refused", async () => {
    const { alice } = scene(row);
    const offer = await alice.dialog({ ...CALL, remote: BOB }).createOffer(sdpOf());
    // From is the sender's in the one, in the other whose the attacker likes.
    for (const [remote, code] of [
      [ALICE, "mikey.authentication"],
      [BOB, "sip.identity"],
    ] as const) {
      const back = alice.dialog({ ...CALL, remote });
      expect(await refusal(back.acceptOffer(offer))).toMatchObject({ status: 488, code });
      expect(back.streams.flatMap((stream) => stream.protect(rtp(1, 1)) ?? [])).toEqual([]);
    }
  });

  it("rings in two places, as a capability, at media level", async () => {
    const world = scene(row, { level: "media", offerAs: "capability" });
    const call = dialogs(world);
    const offer = await call.caller.createOffer(AUDIO_VIDEO);
    expect(lineOf(offer, "m=audio")).toContain("RTP/AVP");
    const phones = [call.callee, dialogs(scene(row)).callee];
    for (const [index, phone] of phones.entries()) {
      await phone.acceptOffer(offer);
      const branch = call.caller.fork(`tag-${index}`);
      await branch.acceptAnswer(await phone.createAnswer(AUDIO_VIDEO));
      if (index === 0) continue;
      branch.confirm();
      bothWays({ caller: branch, callee: phone }, 1, 1);
      proven({ caller: branch, callee: phone });
    }
  });
});

describe("numbers of docs/protocol.md that are refused", () => {
  const row = caseNamed("DHHMAC over X25519");
  const groups = ["x25519", "modp1536"] as const;
  const party = (policy: MikeyPolicy) => scene({ ...row, policy: { ...row.policy, groups, ...policy } });

  it.each([
    ["groups", { groups: ["modp1536"] }, ErrorNo.INVALID_DH],
    ["MACs", { macAlgs: [1] }, ErrorNo.INVALID_MAC],
    ["PRFs", { prfs: [0] }, ErrorNo.INVALID_PRF],
  ] as const)("%s: the next offer to the same party is without them", async (_, wanted, errorNo) => {
    const world = { ...party({}), bob: party(wanted).bob };
    const first = dialogs(world);
    const error = await refusal(first.callee.acceptOffer(await first.caller.createOffer(sdpOf())));
    expect(await first.caller.refused(error.status, error.body)).toMatchObject({ retry: true, errorNos: [errorNo] });
    const second = dialogs(world, { callId: "second" });
    const { offer } = await exchange(second.caller, second.callee);
    expect(hellosIn(offer)).toBe(0);
    bothWays(second, 1);
    proven(second);
  });

  it("there is no other offer where policy has nothing else, and none for another cause", async () => {
    const strict = { ...party({ fallback: false }), bob: party({ groups: ["modp1536"] }).bob };
    const call = dialogs(strict);
    const error = await refusal(call.callee.acceptOffer(await call.caller.createOffer(sdpOf())));
    expect(await call.caller.refused(error.status, error.body)).toMatchObject({ retry: false, errorNos: [ErrorNo.INVALID_DH] });
    await call.caller.createOffer(sdpOf());
    expect(await call.caller.refused(488), "nor for no cause").toMatchObject({ retry: false });
    const only = party({ groups: ["x25519"] });
    const alone = dialogs({ ...only, bob: party({ groups: ["modp1536"] }).bob });
    const theirs = await refusal(alone.callee.acceptOffer(await alone.caller.createOffer(sdpOf())));
    expect(await alone.caller.refused(theirs.status, theirs.body), "nothing else is listed").toMatchObject({ retry: false });
    const suites = dialogs({ ...party({}), bob: party({ suites: ["AEAD_AES_256_GCM"] }).bob });
    const other = await refusal(suites.callee.acceptOffer(await suites.caller.createOffer(sdpOf())));
    expect(await suites.caller.refused(other.status, other.body)).toMatchObject({
      retry: false,
      errorNos: [ErrorNo.INVALID_SP_PAR],
    });
  });
});

function messageIn(offer: string): DecodedMessage {
  return decodeMessage(readKeyMgmt(offer).attributes[0]?.data as Uint8Array);
}

describe("a suite that is refused", () => {
  const row = caseNamed("PSK");
  const [GCM, AES80] = ["AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"] as const;
  const party = (suites: MikeyPolicy["suites"]) => scene({ ...row, policy: { ...row.policy, ...(suites && { suites }) } });

  it("gives place to the next of ours that the other party names, in the offers to it alone", async () => {
    const world = { ...party([GCM, AES80]), bob: party([AES80]).bob };
    const first = dialogs(world);
    const error = await refusal(first.callee.acceptOffer(await first.caller.createOffer(sdpOf())));
    const advice = { retry: true, withoutHello: false, policy: { suite: AES80 }, authenticated: true };
    expect(await first.caller.refused(error.status, error.body)).toMatchObject(advice);
    const second = dialogs(world, { callId: "second" });
    await exchange(second.caller, second.callee);
    expect(second.caller.streams[0]?.policy?.suite).toBe(AES80);
    bothWays(second, 1);
    proven(second);
    const later = dialogs(world, { callId: "later" });
    await exchange(later.caller, later.callee);
    expect(later.caller.streams[0]?.policy?.suite).toBe(AES80);
    const stranger = world.alice.dialog({ ...CALL, callId: "else", remote: "sip:carol@example.org" });
    expect(messageIn(await stranger.createOffer(sdpOf())).payloads).toContainEqual(
      expect.objectContaining({ kind: "SP", params: srtpPolicyParams({ suite: GCM }) }),
    );
  });

  it.each([
    ["of theirs is ours", [GCM], [AES80]],
    ["of ours comes behind it", [AES80, GCM], ["AEAD_AES_256_GCM"]],
  ] as const)("has no second offer where none %s", async (_, ours, theirs) => {
    const call = dialogs({ ...party(ours), bob: party(theirs).bob });
    const error = await refusal(call.callee.acceptOffer(await call.caller.createOffer(sdpOf())));
    expect(await call.caller.refused(error.status, error.body)).toMatchObject({ retry: false, errorNos: [ErrorNo.INVALID_SP_PAR] });
  });

  it("is learnt although the stack closes the dialog at once", async () => {
    const world = { ...party([GCM, AES80]), bob: party([AES80]).bob };
    const call = dialogs(world);
    const error = await refusal(call.callee.acceptOffer(await call.caller.createOffer(sdpOf())));
    const advice = call.caller.refused(error.status, error.body);
    call.caller.close();
    expect(await advice).toMatchObject({ retry: true, authenticated: true });
  });

  it("is not replaced where nobody vouches for the error", async () => {
    const world = { ...party([GCM, AES80]), bob: party([AES80]).bob };
    const call = dialogs(world);
    const message = messageIn(await call.caller.createOffer(sdpOf()));
    const t = requiredPayload(message, "T");
    const forged = encodeErrorMessage(nodeCrypto, message.header, t, ErrorNo.INVALID_SP_PAR, { supported: [{ suite: AES80 }] });
    expect(await call.caller.refused(488, mikeyBody(forged))).toMatchObject({ retry: false, authenticated: false });
  });
});
