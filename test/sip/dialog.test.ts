import { describe, expect, it } from "vitest";
import { parseBase64, utf8 } from "../../src/bytes/index.js";
import { DataType, decodeMessage, ErrorNo } from "../../src/mikey/index.js";
import { addKeyMgmt, readKeyMgmt, removeKeyMgmt } from "../../src/sdp/index.js";
import { mikeyBody, type SipDialog } from "../../src/sip/index.js";
import {
  AUDIO_VIDEO,
  BOB,
  bothWays,
  CALL,
  carry,
  dialogs,
  errorTo,
  exchange,
  hellosIn,
  lineOf,
  messageIn,
  refusal,
  rtcp,
  rtp,
  scene,
  sdpOf,
  spoiled,
} from "./support.js";

describe("an offer and its answer", () => {
  it("key a plain description: SAVP, key-mgmt and the announcement, every other line as it was", async () => {
    const call = dialogs(scene());
    const { offer, answer } = await exchange(call.caller, call.callee);
    for (const sdp of [offer, answer]) {
      const kept = sdp.split("\r\n").filter((line) => !/^a=(key-mgmt|x-watchword)/.test(line));
      expect(kept.join("\r\n")).toBe(sdpOf().replace("RTP/AVP", "RTP/SAVP"));
      expect(lineOf(sdp, "a=x-watchword")).toBe("a=x-watchword:1");
    }
    bothWays(call, 1);
    expect(call.caller.streams[0]).toMatchObject({ ready: true, direction: "sendrecv" });
    expect(call.caller.streams[0]?.fingerprint).toBe(call.callee.streams[0]?.fingerprint);
    expect([call.caller.announced, call.callee.announced]).toEqual(["hello", "hello"]);
  });

  it("RTCP flows on the same stream and is told apart", async () => {
    const call = dialogs(scene());
    await exchange(call.caller, call.callee);
    const got: Uint8Array[] = [];
    const stream = call.callee.streams[0];
    if (stream === undefined) throw new Error("no stream");
    stream.onRtcp = (packet) => got.push(packet.slice());
    stream.receive(call.caller.streams[0]?.protectRtcp(rtcp(7)) as Uint8Array);
    expect(got).toEqual([rtcp(7)]);
  });

  it.each(["session", "media"] as const)("at %s level, two crypto sessions for each of two m= lines", async (level) => {
    const call = dialogs(scene({ level }));
    const { offer, answer } = await exchange(call.caller, call.callee, AUDIO_VIDEO);
    for (const sdp of [offer, answer]) {
      const { attributes } = readKeyMgmt(sdp);
      expect(attributes.map(({ section }) => section)).toEqual(level === "session" ? ["session"] : [0, 1]);
    }
    const { csMap } = messageIn(offer).header;
    expect(csMap.entries?.length).toBe(level === "session" ? 4 : 2);
    bothWays(call, 1, 0);
    bothWays(call, 1, 1);
    expect(call.caller.media.length).toBe(level === "session" ? 1 : 2);
  });

  it.each(["RTP/SAVP", "RTP/SAVPF", "RTP/AVPF"])("%s", async (profile) => {
    const call = dialogs(scene());
    const { offer, answer } = await exchange(call.caller, call.callee, sdpOf([{ profile }]), sdpOf([{ profile: "RTP/AVP" }]));
    const wanted = profile === "RTP/AVPF" ? "RTP/SAVPF" : profile;
    expect([lineOf(offer, "m="), lineOf(answer, "m=")]).toEqual([`m=audio 4000 ${wanted} 0`, `m=audio 4000 ${wanted} 0`]);
    bothWays(call, 1);
  });

  it("names our protocol before others, and all of them in the SDP IDs", async () => {
    const call = dialogs(scene());
    const local = sdpOf([{}], ["a=key-mgmt:keyp1 AAAA"]);
    const offer = await call.caller.createOffer(local);
    expect(readKeyMgmt(offer).attributes.map(({ protocol }) => protocol)).toEqual(["mikey", "keyp1"]);
    await call.callee.acceptOffer(offer);
    await call.caller.acceptAnswer(await call.callee.createAnswer(sdpOf()));
    bothWays(call, 1);
  });

  it("a protocol that was taken out on the way is bidding down", async () => {
    const call = dialogs(scene());
    const offer = await call.caller.createOffer(sdpOf([{}], ["a=key-mgmt:keyp1 AAAA"]));
    expect(await refusal(call.callee.acceptOffer(removeKeyMgmt(offer, { protocol: "keyp1" })))).toMatchObject({
      code: "mikey.sdp-ids",
      status: 488,
    });
  });

  it("late: the offer in the 200, the answer in the ACK", async () => {
    const call = dialogs(scene());
    await exchange(call.callee, call.caller);
    bothWays(call, 1);
    const end = call.caller.end();
    expect(call.callee.acceptEnd(end).verdict).toBe("verified");
  });

  it("a rejected m= line has no media, and may come back", async () => {
    const call = dialogs(scene());
    await exchange(call.caller, call.callee, AUDIO_VIDEO, sdpOf([{}, { kind: "video", port: 0 }]));
    bothWays(call, 1);
    expect(call.caller.streams[1]?.direction).toBe("inactive");
    expect(carry(call.caller, call.callee, rtp(1, 1), 1)).toBeUndefined();
    await exchange(call.callee, call.caller, AUDIO_VIDEO);
    bothWays(call, 2, 1);
  });

  it("the same answer in 183 and 200 counts once", async () => {
    const call = dialogs(scene());
    const { answer } = await exchange(call.caller, call.callee);
    await call.caller.acceptAnswer(answer);
    bothWays(call, 1);
    await expect(call.caller.acceptAnswer(`${answer}a=x\r\n`)).rejects.toMatchObject({ code: "sip.state" });
  });

  it("an INVITE that is retried after a challenge gets the same answer, and its media", async () => {
    const world = scene();
    const call = dialogs(world);
    const offer = await call.caller.createOffer(sdpOf());
    await call.callee.acceptOffer(offer);
    const first = await call.callee.createAnswer(sdpOf());
    call.callee.close();
    const again = world.bob.dialog({ ...CALL, remote: "sip:alice@example.org" });
    await again.acceptOffer(offer);
    const second = await again.createAnswer(sdpOf());
    expect(lineOf(second, "a=key-mgmt")).toBe(lineOf(first, "a=key-mgmt"));
    await call.caller.acceptAnswer(second);
    bothWays({ caller: call.caller, callee: again }, 1);
  });

  it("the same INVITE in another dialog, or after the call, is a replay", async () => {
    const world = scene();
    const call = dialogs(world);
    const { offer } = await exchange(call.caller, call.callee);
    call.callee.confirm();
    const other = world.bob.dialog({ ...CALL, callId: "call-2", remote: "sip:alice@example.org" });
    expect(await refusal(other.acceptOffer(offer))).toMatchObject({ code: "mikey.replay", status: 488 });
    call.callee.close();
    const after = world.bob.dialog({ ...CALL, remote: "sip:alice@example.org" });
    expect(await refusal(after.acceptOffer(offer))).toMatchObject({ code: "mikey.replay" });
  });

  it("what was parked for a retry goes after 32 seconds", async () => {
    const world = scene();
    const call = dialogs(world);
    const { offer } = await exchange(call.caller, call.callee);
    call.callee.close();
    await world.network.advance(32_001);
    const again = world.bob.dialog({ ...CALL, remote: "sip:alice@example.org" });
    expect(await refusal(again.acceptOffer(offer))).toMatchObject({ code: "mikey.replay" });
  });

  it("a potential configuration with a key message is taken (RFC 5939)", async () => {
    const call = dialogs(scene());
    const offer = await call.caller.createOffer(sdpOf());
    const key = lineOf(offer, "a=key-mgmt")?.slice(2);
    const potential = sdpOf(
      [{ attributes: ["a=pcfg:1 t=9 a=1", "a=pcfg:2 t=2|1 a=7|4"] }],
      ["a=tcap:1 RTP/SAVPF RTP/SAVP", `a=acap:4 ${key}`],
    );
    await call.callee.acceptOffer(potential);
    const answer = await call.callee.createAnswer(sdpOf());
    expect(answer).toContain("m=audio 4000 RTP/SAVP 0");
    expect(answer).toContain("a=acfg:2 t=2 a=4");
    await call.caller.acceptAnswer(answer);
    bothWays(call, 1);
  });

  it.each([
    ["an extension that has to be understood", "a=pcfg:1 t=1 a=4 +x=1"],
    ["no keyable transport", "a=pcfg:1 t=3 a=4"],
    ["no key message", "a=pcfg:1 t=1 a=5"],
  ])("a potential configuration with %s is none, and plain RTP is refused", async (_name, pcfg) => {
    const call = dialogs(scene());
    const key = lineOf(await call.caller.createOffer(sdpOf()), "a=key-mgmt")?.slice(2);
    const potential = sdpOf([{ attributes: [pcfg] }], ["a=tcap:1 RTP/SAVP", "a=tcap:3 UDP/TLS/RTP/SAVP", `a=acap:4 ${key}`]);
    expect(await refusal(call.callee.acceptOffer(potential))).toMatchObject({ code: "mikey.absent" });
  });
});

describe("an offer is refused", () => {
  it("from a stranger, with another key, changed on the way: 488 with Warning 399, all alike, the ERR message unauthenticated", async () => {
    const outcomes = new Set<string>();
    for (const change of ["key", "octet"] as const) {
      const world = scene(
        {},
        change === "key" ? { keys: [["sip:alice@example.org", utf8("another key of 32 octets, really")]] } : {},
      );
      const call = dialogs(world);
      const offer = await call.caller.createOffer(sdpOf());
      const data = readKeyMgmt(offer).attributes[0]?.data as Uint8Array;
      if (change === "octet") data[data.length - 1] = (data.at(-1) as number) ^ 1;
      const sent = addKeyMgmt(removeKeyMgmt(offer), { section: "session", protocol: "mikey", data });
      const error = await refusal(call.callee.acceptOffer(sent));
      outcomes.add(`${error.code} ${error.message} ${error.status} ${error.warningHeaders("host").join()}`);
      const advice = await call.caller.refused(error.status, error.body);
      expect(advice, "HELLO is not what is wrong").toEqual({
        retry: false,
        abort: false,
        errorNos: [ErrorNo.AUTH_FAILURE],
        authenticated: false,
      });
      expect(call.callee.state).toBe("stable");
    }
    expect([...outcomes]).toEqual([
      'mikey.authentication MIKEY authentication failed 488 Warning: 399 host "MIKEY authentication failed"',
    ]);
  });

  it("under a policy that is not taken: 488 with Warning 306 and an authenticated ERR message", async () => {
    const call = dialogs(scene({}, { policyAccepted: () => false }));
    const error = await refusal(call.callee.acceptOffer(await call.caller.createOffer(sdpOf())));
    expect(error.warnings.map(({ code }) => code)).toEqual([306, 399]);
    expect(await call.caller.refused(488, error.body)).toMatchObject({ errorNos: [ErrorNo.INVALID_SP_PAR], authenticated: true });
  });

  it.each([
    ["RTP/AVP", sdpOf(), "mikey.absent"],
    ["SAVP without key-mgmt", sdpOf([{ profile: "RTP/SAVP" }]), "mikey.absent"],
    [
      "SAVP with a=crypto alone",
      sdpOf([{ profile: "RTP/SAVP", attributes: ["a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x"] }]),
      "mikey.absent",
    ],
    ["base64 that is none", sdpOf([{ profile: "RTP/SAVP" }], ["a=key-mgmt:mikey A?"]), "bytes.base64"],
    ["a key-mgmt line without data", sdpOf([{ profile: "RTP/SAVP" }], ["a=key-mgmt:mikey"]), "sdp.key-mgmt"],
    ["octets that are no message", sdpOf([{ profile: "RTP/SAVP" }], ["a=key-mgmt:mikey AQAF"]), "bytes.truncated"],
    ["a message of another party", sdpOf([{ profile: "RTP/SAVP" }], [rfcMessage()]), "sip.identity"],
    ["an m= line that is none", sdpOf().replace("m=audio 4000", "m=audio"), "sdp.media"],
    ["33 m= lines", sdpOf(Array.from({ length: 33 }, () => ({ profile: "RTP/SAVP" }))), "sip.media"],
  ])("%s", async (_name, offer, code) => {
    const { callee } = dialogs(scene());
    const error = await refusal(callee.acceptOffer(offer));
    expect(error).toMatchObject({ code, status: 488 });
    expect(callee.state).toBe("stable");
    expect(callee.media).toEqual([]);
  });

  it("where one of two m= lines has no key, both fail (RFC 4567 §4.1.2)", async () => {
    const call = dialogs(scene({ level: "media" }));
    const offer = await call.caller.createOffer(AUDIO_VIDEO);
    expect(await refusal(call.callee.acceptOffer(removeKeyMgmt(offer, { section: 1 })))).toMatchObject({ code: "mikey.absent" });
    const video = offer.indexOf("m=video");
    const damaged = offer.slice(0, video) + spoiled(offer.slice(video));
    expect(await refusal(call.callee.acceptOffer(damaged))).toMatchObject({ name: "SipRefusal" });
    await call.callee.acceptOffer(offer);
    await call.caller.acceptAnswer(await call.callee.createAnswer(AUDIO_VIDEO));
    bothWays(call, 1, 1);
  });

  it("an identity that is not the caller's, whatever key it has", async () => {
    const world = scene();
    const offer = await world.alice.dialog({ ...CALL, remote: BOB }).createOffer(sdpOf());
    const callee = world.bob.dialog({ ...CALL, remote: "sip:boss@example.org" });
    expect(await refusal(callee.acceptOffer(offer))).toMatchObject({ code: "sip.identity" });
  });

  it("an old offer is told apart", async () => {
    const world = scene();
    const call = dialogs(world);
    const offer = await call.caller.createOffer(sdpOf());
    await world.network.advance(600_000);
    const error = await refusal(call.callee.acceptOffer(offer));
    expect(error).toMatchObject({ code: "mikey.timestamp" });
    expect((await call.caller.refused(488, error.body)).errorNos).toEqual([ErrorNo.INVALID_TS]);
  });
});

/** The key message of the example of RFC 4567 §5.1, of another party. */
function rfcMessage(): string {
  return "a=key-mgmt:mikey AQAFgM0XflABAAAAAAAAAAAAAAsAyONQ6gAAAAAGEEoo2pee4hp2UaDX8ZE22YwKAAAPZG9uYWxkQGR1Y2suY29tAQAAAAAAAQAk0JKpgaVkDaawi9whVBtBt0KZ14ymNuu62+Nv3ozPLygwK/GbAV9iemnGUIZ19fWQUOSrzKTAv9zV";
}

describe("an answer is refused", () => {
  it.each<[string, (answer: string) => string, string]>([
    ["without key-mgmt", (answer) => removeKeyMgmt(answer), "sip.downgrade"],
    ["RTP/AVP", (answer) => answer.replace("RTP/SAVP", "RTP/AVP"), "sip.downgrade"],
    ["RTP/AVP without key-mgmt", (answer) => removeKeyMgmt(answer).replace("RTP/SAVP", "RTP/AVP"), "sip.downgrade"],
    ["SAVPF for SAVP", (answer) => answer.replace("RTP/SAVP", "RTP/SAVPF"), "sip.downgrade"],
    [
      "a=crypto alone",
      (answer) => `${removeKeyMgmt(answer)}a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n`,
      "sip.downgrade",
    ],
    ["another number of m= lines", (answer) => `${answer}m=video 4002 RTP/SAVP 31\r\n`, "sip.answer"],
    ["key-mgmt at another level", (answer) => answer.replace(/(a=key-mgmt[^\r]*\r\n)([\s\S]*)$/, "$2$1"), "sip.answer"],
    ["a message that is none", (answer) => answer.replace(/(a=key-mgmt:mikey ).*/, "$1AQAF"), "bytes.truncated"],
    ["a=key-mgmt that cannot be read", (answer) => answer.replace(/(a=key-mgmt:mikey ).*/, "$1!!"), "bytes.base64"],
  ])("%s, and the session ends without media", async (_name, change, code) => {
    const call = dialogs(scene());
    await call.callee.acceptOffer(await call.caller.createOffer(sdpOf()));
    const answer = change(await call.callee.createAnswer(sdpOf()));
    expect(await refusal(call.caller.acceptAnswer(answer))).toMatchObject({ code, status: 488 });
    expect(call.caller.state).toBe("stable");
    expect(call.caller.streams[0]?.protect(rtp(1, 1))).toBeUndefined();
    expect(call.caller.end()).toBeUndefined();
  });

  it("with the verification of another call, and with a MIKEY error", async () => {
    const world = scene();
    const call = dialogs(world);
    const other = dialogs(world, { callId: "call-2" });
    await call.callee.acceptOffer(await call.caller.createOffer(sdpOf()));
    await other.callee.acceptOffer(await other.caller.createOffer(sdpOf()));
    expect(await refusal(call.caller.acceptAnswer(await other.callee.createAnswer(sdpOf())))).toMatchObject({
      code: "mikey.response",
    });
    const third = dialogs(scene({}, { policyAccepted: () => false }));
    const error = await refusal(third.callee.acceptOffer(await third.caller.createOffer(sdpOf())));
    const answer = sdpOf([{ profile: "RTP/SAVP" }], [lineOf(error.body?.content ?? "", "a=key-mgmt") ?? ""]);
    expect(await refusal(third.caller.acceptAnswer(answer))).toMatchObject({ code: "mikey.peer-error" });
  });

  it("that takes an m= line that was rejected", async () => {
    const call = dialogs(scene());
    await call.callee.acceptOffer(await call.caller.createOffer(sdpOf([{}, { kind: "video", port: 0 }])));
    const answer = await call.callee.createAnswer(AUDIO_VIDEO);
    expect(await refusal(call.caller.acceptAnswer(answer))).toMatchObject({ code: "sip.answer" });
  });
});

describe("HELLO", () => {
  it("is left out of the second attempt after a refusal, once", async () => {
    const world = scene();
    const first = dialogs(world).caller;
    expect(hellosIn(await first.createOffer(sdpOf()))).toBe(1);
    expect(await first.refused(488)).toMatchObject({ retry: true });
    const second = dialogs(world, { callId: "call-2" });
    const { offer } = await exchange(second.caller, second.callee);
    expect(hellosIn(offer)).toBe(0);
    expect(second.caller.announced).toBe("attribute");
    expect(second.callee.acceptEnd(second.caller.end()).verdict).toBe("verified");
    const third = dialogs(world, { callId: "call-3" }).caller;
    await third.createOffer(sdpOf());
    expect(await third.refused(488)).toMatchObject({ retry: false });
  });

  it("is never said where policy says so, and no other response asks for a retry", async () => {
    const never = dialogs(scene({ hello: "never" })).caller;
    expect(hellosIn(await never.createOffer(sdpOf()))).toBe(0);
    const unspecified = dialogs(scene());
    const offer = await unspecified.caller.createOffer(sdpOf());
    const octets = errorTo(offer, ErrorNo.UNSPECIFIED);
    expect(await unspecified.caller.refused(480, mikeyBody(octets))).toEqual({
      retry: true,
      withoutHello: true,
      abort: false,
      errorNos: [ErrorNo.UNSPECIFIED],
      authenticated: false,
    });
    const busy = dialogs(scene()).caller;
    await busy.createOffer(sdpOf());
    expect(await busy.refused(486)).toMatchObject({ retry: false });
    expect(busy.state).toBe("stable");
  });
});

describe("later offers", () => {
  it("rekey without losing a packet, whoever offers; rollover counters go on; proofs hold", async () => {
    const world = scene();
    const call = dialogs(world);
    await exchange(call.caller, call.callee);
    let sequence = 65_500;
    const flow = (): void => bothWays(call, sequence++);
    flow();
    const fingerprints = new Set<string | undefined>();
    for (let round = 0; round < 6; round++) {
      const [from, to] = round % 2 === 0 ? [call.caller, call.callee] : [call.callee, call.caller];
      const offer = await from.createOffer(sdpOf());
      flow();
      await to.acceptOffer(offer);
      flow();
      const answer = await to.createAnswer(sdpOf());
      flow();
      await from.acceptAnswer(answer);
      for (let i = 0; i < 12; i++) flow();
      fingerprints.add(call.caller.streams[0]?.fingerprint);
      expect(call.caller.streams[0]?.fingerprint).toBe(call.callee.streams[0]?.fingerprint);
    }
    expect(fingerprints.size).toBe(6);
    expect(call.callee.streams[0]?.drops.refused).toBe(0);
    await world.network.advance(31_000);
    flow();
    const { verdict, body } = call.callee.acceptEnd(call.caller.end());
    expect([verdict, call.caller.acceptEndAnswer(body)]).toEqual(["verified", "verified"]);
  });

  it("are updates of the caller's bundle: same CSB ID, no RAND, another SPI", async () => {
    const call = dialogs(scene());
    const { offer } = await exchange(call.caller, call.callee);
    const { offer: second } = await exchange(call.caller, call.callee);
    expect(messageIn(second).header.csbId).toBe(messageIn(offer).header.csbId);
    expect(messageIn(second).payloads.map(({ kind }) => kind)).toEqual(["T", "EXT", "KEMAC"]);
  });

  it.each(["session", "media"] as const)("add m= lines (%s level)", async (level) => {
    const call = dialogs(scene({ level }));
    await exchange(call.caller, call.callee);
    await exchange(call.callee, call.caller, AUDIO_VIDEO);
    await exchange(call.caller, call.callee, sdpOf([{}, { kind: "video" }, { kind: "text", port: 4006 }]));
    for (const line of [0, 1, 2]) bothWays(call, 5, line);
    await expect(call.caller.createOffer(sdpOf())).rejects.toMatchObject({ code: "sip.media" });
  });

  it.each<[string, string, string, [boolean, boolean]]>([
    ["sendonly", "recvonly", "sendonly", [true, false]],
    ["recvonly", "sendonly", "recvonly", [false, true]],
    ["inactive", "inactive", "inactive", [false, false]],
    ["sendrecv", "recvonly", "sendonly", [true, false]],
  ])("hold: offered %s, answered %s", async (offered, answered, agreed, [down, up]) => {
    const call = dialogs(scene());
    await exchange(call.caller, call.callee);
    const line = (direction: string) => sdpOf([{ attributes: [`a=${direction}`] }]);
    await exchange(call.caller, call.callee, line(offered), line(answered));
    expect(call.caller.streams[0]?.direction).toBe(agreed);
    expect(carry(call.caller, call.callee, rtp(1, 1)) !== undefined).toBe(down);
    expect(carry(call.callee, call.caller, rtp(2, 1)) !== undefined).toBe(up);
    expect(call.caller.streams[0]?.protectRtcp(rtcp(1))).toBeDefined();
    await exchange(call.callee, call.caller);
    bothWays(call, 9);
  });

  it("the hold of old, c=0.0.0.0, means that nothing is sent there; with ICE it means nothing", async () => {
    const call = dialogs(scene());
    await exchange(call.caller, call.callee);
    const held = sdpOf().replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0");
    await exchange(call.caller, call.callee, held, sdpOf());
    expect(call.callee.streams[0]?.direction).toBe("recvonly");
    await exchange(call.caller, call.callee, held.replace("t=0 0", "t=0 0\r\na=ice-ufrag:x"), sdpOf());
    expect(call.callee.streams[0]?.direction).toBe("sendrecv");
  });

  it("glare is 491 on both sides, and after rollback either may try again", async () => {
    const call = dialogs(scene());
    await exchange(call.caller, call.callee);
    const one = await call.caller.createOffer(sdpOf());
    const two = await call.callee.createOffer(sdpOf());
    expect(await refusal(call.callee.acceptOffer(one))).toMatchObject({ code: "sip.glare", status: 491 });
    expect(await refusal(call.caller.acceptOffer(two))).toMatchObject({ code: "sip.glare", status: 491 });
    bothWays(call, 1);
    await call.caller.refused(491);
    call.callee.rollback();
    bothWays(call, 2);
    await exchange(call.callee, call.caller);
    bothWays(call, 3);
  });

  it("an offer that comes while one of ours is being made is glare too; during another step it is asked for later (RFC 3261 §14.2)", async () => {
    const call = dialogs(scene());
    await exchange(call.caller, call.callee);
    const offer = await call.callee.createOffer(sdpOf());
    const making = call.caller.createOffer(sdpOf());
    expect(await refusal(call.caller.acceptOffer(offer))).toMatchObject({ code: "sip.glare", status: 491 });
    await making;
    call.caller.rollback();
    const accepting = call.caller.acceptOffer(offer);
    expect(await refusal(call.caller.acceptOffer(offer))).toMatchObject({ code: "sip.state", status: 500, retryAfter: 1 });
    await accepting;
    await call.callee.acceptAnswer(await call.caller.createAnswer(sdpOf()));
    bothWays(call, 1);
  });

  it("an offer that is not answered is void; the one after it is taken", async () => {
    const call = dialogs(scene());
    await exchange(call.caller, call.callee);
    const mki = call.callee.media[0]?.mki;
    const offer = await call.caller.createOffer(AUDIO_VIDEO);
    await call.callee.acceptOffer(offer);
    await call.callee.acceptOffer(offer);
    expect(await refusal(call.callee.acceptOffer(`${offer}a=x\r\n`))).toMatchObject({ status: 500 });
    call.callee.rollback();
    call.caller.rollback();
    expect(call.callee.media[0]?.mki).toEqual(mki);
    bothWays(call, 1);
    await exchange(call.caller, call.callee);
    bothWays(call, 2);
  });

  it("a wrong key in a rekey is refused, and the old one is in use until the offerer hangs up; without a key it is a downgrade", async () => {
    const call = dialogs(scene());
    await exchange(call.caller, call.callee);
    const offer = await call.caller.createOffer(sdpOf());
    const error = await refusal(call.callee.acceptOffer(spoiled(offer)));
    expect([error.status, ...error.warnings.map(({ code }) => code)], "RFC 4567 §4.1.2: at least a 306").toEqual([488, 306, 399]);
    expect(await refusal(call.callee.acceptOffer(removeKeyMgmt(offer)))).toMatchObject({ code: "mikey.absent" });
    bothWays(call, 1);
    await call.callee.acceptOffer(offer);
    await call.caller.acceptAnswer(await call.callee.createAnswer(sdpOf()));
    bothWays(call, 2);
  });

  it("key messages that move between levels are refused", async () => {
    const call = dialogs(scene());
    await exchange(call.caller, call.callee);
    const other = dialogs(scene({ level: "media" }));
    const offer = await other.caller.createOffer(sdpOf());
    expect(await refusal(call.callee.acceptOffer(offer))).toMatchObject({ code: "sip.level" });
    bothWays(call, 1);
  });

  it("the same re-INVITE again gets the same answer", async () => {
    const call = dialogs(scene());
    await exchange(call.caller, call.callee);
    const offer = await call.caller.createOffer(sdpOf());
    await call.callee.acceptOffer(offer);
    const lost = await call.callee.createAnswer(sdpOf());
    await call.callee.acceptOffer(offer);
    const again = await call.callee.createAnswer(sdpOf());
    expect(again).toBe(lost);
    await call.caller.acceptAnswer(again);
    bothWays(call, 1);
  });
});

describe("forking", () => {
  it("every branch has its own answer; the one that is confirmed has the call, the others are closed", async () => {
    const world = scene();
    const root = world.alice.dialog({ ...CALL, remote: BOB });
    const offer = await root.createOffer(sdpOf());
    const phones = [scene(), scene(), scene()].map(({ bob }) => bob.dialog({ ...CALL, remote: "sip:alice@example.org" }));
    const branches: SipDialog[] = [];
    for (const [index, phone] of phones.entries()) {
      await phone.acceptOffer(offer);
      const branch = root.fork(`tag-${index}`);
      expect(root.fork(`tag-${index}`)).toBe(branch);
      await branch.acceptAnswer(await phone.createAnswer(sdpOf()));
      branches.push(branch);
    }
    await expect(root.acceptAnswer(offer)).rejects.toMatchObject({ code: "sip.state" });
    const got: number[] = [];
    const stream = root.streams[0];
    if (stream === undefined) throw new Error("no stream");
    stream.onRtp = (packet) => got.push(packet[11] as number);
    for (const [index, phone] of phones.entries()) stream.receive(phone.streams[0]?.protect(rtp(index + 1, 1)) as Uint8Array);
    expect(got, "early media of every branch").toEqual([1, 2, 3]);
    branches[1]?.confirm();
    expect(branches.map(({ state }) => state)).toEqual(["closed", "stable", "closed"]);
    expect(root.state).toBe("closed");
    const winner = { caller: branches[1] as SipDialog, callee: phones[1] as SipDialog };
    bothWays(winner, 5);
    await exchange(winner.caller, winner.callee);
    bothWays(winner, 6);
    expect(winner.callee.acceptEnd(winner.caller.end()).verdict).toBe("verified");
    expect(phones[0]?.acceptEnd(winner.caller.end()).verdict, "a proof for another branch").toBe("rejected");
    winner.caller.close();
    expect(stream.protect(rtp(1, 99))).toBeUndefined();
  });

  it("branches are bounded, and an answered offer does not fork", async () => {
    const call = dialogs(scene());
    const offer = await call.caller.createOffer(sdpOf());
    for (let i = 0; i < 16; i++) call.caller.fork(`${i}`);
    expect(() => call.caller.fork("16")).toThrow(expect.objectContaining({ code: "sip.branches" }));
    call.caller.close();
    const other = dialogs(scene());
    await exchange(other.caller, other.callee);
    expect(() => other.caller.fork("x")).toThrow(expect.objectContaining({ code: "sip.state" }));
    expect(offer).toContain("key-mgmt");
  });
});

describe("early media", () => {
  it("waits for the answer, in order, and never comes out before it", async () => {
    const call = dialogs(scene());
    const offer = await call.caller.createOffer(sdpOf());
    const got: number[] = [];
    const stream = call.caller.streams[0];
    if (stream === undefined) throw new Error("no stream");
    stream.onRtp = (packet) => got.push(packet[3] as number);
    await call.callee.acceptOffer(offer);
    const answer = await call.callee.createAnswer(sdpOf());
    for (let sequence = 1; sequence <= 70; sequence++)
      stream.receive(call.callee.streams[0]?.protect(rtp(9, sequence)) as Uint8Array);
    stream.receive(rtp(10, 1));
    expect(got).toEqual([]);
    await call.caller.acceptAnswer(answer);
    expect(got).toEqual(Array.from({ length: 64 }, (_, index) => index + 1));
    expect(stream.drops).toEqual({ early: 7, refused: 0, unsent: 0 });
    stream.receive(rtp(10, 2));
    expect(stream.drops.refused, "plain RTP").toBe(1);
  });

  it("is dropped where policy says so, and with the offer that it waited for", async () => {
    const dropping = dialogs(scene({ earlyMedia: "drop" }));
    await dropping.caller.createOffer(sdpOf());
    dropping.caller.streams[0]?.receive(rtp(1, 1));
    expect(dropping.caller.streams[0]?.drops.early).toBe(1);
    const buffering = dialogs(scene());
    await buffering.caller.createOffer(sdpOf());
    buffering.caller.streams[0]?.receive(rtp(1, 1));
    buffering.caller.rollback();
    expect(buffering.caller.streams[0]?.drops.early).toBe(1);
  });

  it("nothing is sent before there is a key", async () => {
    const { caller } = dialogs(scene());
    await caller.createOffer(sdpOf());
    expect(caller.streams[0]?.protect(rtp(1, 1))).toBeUndefined();
    expect(caller.streams[0]?.protectRtcp(rtcp(1))).toBeUndefined();
    expect(caller.streams[0]?.drops.unsent).toBe(2);
  });
});

describe("the end", () => {
  it("is proven and acknowledged from either side, in base64 or binary", async () => {
    for (const form of ["base64", "octets", "text"] as const) {
      const call = dialogs(scene());
      await exchange(call.caller, call.callee);
      const body = call.callee.end();
      expect(body).toMatchObject({ contentType: "application/mikey", contentDisposition: "signal;handling=optional" });
      const octets = body?.octets as Uint8Array;
      expect(parseBase64(body?.content as string)).toEqual(octets);
      const content = { base64: body?.content as string, octets, text: String.fromCharCode(...octets) }[form];
      const { verdict, body: reply } = call.caller.acceptEnd({ contentType: "Application/MIKEY; x=y", content });
      expect(verdict).toBe("verified");
      expect(decodeMessage(reply?.octets as Uint8Array).header.dataType).toBe(DataType.DEREGISTRATION_ACK);
      expect(call.callee.acceptEndAnswer(reply)).toBe("verified");
    }
  });

  it("without a proof, with one of another dialog, with a damaged one, with a reflected one", async () => {
    const world = scene();
    const call = dialogs(world);
    await exchange(call.caller, call.callee);
    const other = dialogs(world, { callId: "call-2" });
    await exchange(other.caller, other.callee);
    const body = call.caller.end();
    const type = "application/mikey";
    expect(call.callee.acceptEnd(undefined)).toEqual({ verdict: "absent" });
    expect(call.callee.acceptEnd({ contentType: "text/plain", content: "bye" })).toEqual({ verdict: "absent" });
    expect(call.callee.acceptEnd(other.caller.end())).toEqual({ verdict: "rejected" });
    expect(call.caller.acceptEnd(body)).toEqual({ verdict: "rejected" });
    expect(call.callee.acceptEnd({ contentType: type, content: "AQ!" })).toEqual({ verdict: "rejected" });
    expect(call.callee.acceptEnd({ contentType: type, content: "\u0001\u1234" })).toEqual({ verdict: "rejected" });
    expect(call.callee.acceptEnd({ contentType: type, content: "A".repeat(70_000) })).toEqual({ verdict: "rejected" });
    expect(call.callee.acceptEnd(body).verdict).toBe("verified");
    expect(call.caller.acceptEndAnswer(undefined)).toBe("absent");
    expect(call.caller.acceptEndAnswer({ contentType: type, content: "AQ" })).toBe("rejected");
    expect(call.caller.acceptEndAnswer(body)).toBe("rejected");
  });

  it("with a proof from before a rekey: the T is too old", async () => {
    const world = scene();
    const call = dialogs(world);
    await exchange(call.caller, call.callee);
    const old = call.caller.end();
    await world.network.advance(1000);
    await exchange(call.caller, call.callee);
    expect(call.callee.acceptEnd(old).verdict).toBe("rejected");
    expect(call.callee.acceptEnd(call.caller.end()).verdict).toBe("verified");
  });

  it("carries no proof to a party that did not announce itself, unless told to", async () => {
    const strip = (sdp: string): string => sdp.replace(/a=x-watchword:1\r\n/, "");
    for (const [proof, expected] of [
      ["announced", false],
      ["always", true],
      ["never", false],
    ] as const) {
      const call = dialogs(scene({ hello: "never", proof }));
      await call.callee.acceptOffer(strip(await call.caller.createOffer(sdpOf())));
      await call.caller.acceptAnswer(strip(await call.callee.createAnswer(sdpOf())));
      expect(call.caller.announced).toBe("no");
      expect(call.caller.end() !== undefined).toBe(expected);
    }
  });

  it("after close nothing flows and nothing is proven", async () => {
    const call = dialogs(scene());
    await exchange(call.caller, call.callee);
    call.callee.confirm();
    const body = call.caller.end();
    call.callee.close();
    call.callee.close();
    expect(call.callee.state).toBe("closed");
    expect(call.callee.acceptEnd(body).verdict).toBe("rejected");
    expect(call.callee.end()).toBeUndefined();
    expect(call.callee.streams[0]?.protect(rtp(1, 1))).toBeUndefined();
    await expect(call.callee.createOffer(sdpOf())).rejects.toMatchObject({ code: "sip.state" });
    expect(await refusal(call.callee.acceptOffer(sdpOf()))).toMatchObject({ status: 481 });
  });

  it("in the middle of a step leaves nothing behind", async () => {
    const call = dialogs(scene());
    const step = call.caller.createOffer(sdpOf());
    await expect(call.caller.createOffer(sdpOf())).rejects.toMatchObject({ code: "sip.state" });
    call.caller.close();
    await step;
    expect(call.caller.state).toBe("closed");
    expect(call.caller.media).toEqual([]);
  });
});

describe("calls that are not placed", () => {
  it("without a credential, with media that cannot be keyed", async () => {
    const world = scene();
    const stranger = world.alice.dialog({ ...CALL, remote: "sip:carol@example.org" });
    await expect(stranger.createOffer(sdpOf())).rejects.toMatchObject({ code: "sip.credential" });
    const { caller } = dialogs(world);
    await expect(caller.createOffer(sdpOf([{ profile: "UDP/TLS/RTP/SAVPF" }]))).rejects.toMatchObject({ code: "sip.media" });
    await expect(caller.createAnswer(sdpOf())).rejects.toMatchObject({ code: "sip.state" });
    expect(caller.state).toBe("stable");
  });

  it("a browser's profile is keyed where it is allowed by name", async () => {
    const profile = "UDP/TLS/RTP/SAVPF";
    const call = dialogs(scene({ profiles: [profile] }));
    await exchange(call.caller, call.callee, sdpOf([{ profile }]));
    bothWays(call, 1);
  });
});
