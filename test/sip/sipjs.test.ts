import { type Bye, Inviter, type Session, SessionState, UserAgent } from "sip.js";
import { afterEach, describe, expect, it } from "vitest";
import { formatBase64, utf8 } from "../../src/bytes/index.js";
import { systemClock, systemTimers } from "../../src/node/time.js";
import { createPskSipKeying, type PskSipKeyingOptions } from "../../src/sip/index.js";
import { createSessionDescriptionHandlerFactory } from "../../src/sip/sipjs/index.js";
import { answering, call, handlerOf, type Phone, phone, talk, until, Wire } from "./sipjs-support.js";
import { ALICE, BOB, lineOf, PSK, rtp, spoiled } from "./support.js";

const running: Phone[] = [];

afterEach(async () => {
  await Promise.all(running.splice(0).map(({ agent }) => agent.stop()));
});

function keying(uri: string, peer: string, more: Partial<PskSipKeyingOptions> = {}) {
  return createPskSipKeying({ uri, keys: [[peer, PSK]], clock: systemClock, timers: systemTimers, ...more });
}

async function phones(
  bobs: Partial<PskSipKeyingOptions> = {},
  both: Partial<PskSipKeyingOptions> = {},
  ...more: Parameters<typeof phone> extends [unknown, unknown, unknown, ...infer R] ? R : never
) {
  const wire = new Wire();
  const alice = phone(wire, ALICE, keying(ALICE, BOB, both), ...more);
  const bob = phone(wire, BOB, keying(BOB, ALICE, { ...both, ...bobs }), ...more);
  running.push(alice, bob);
  await Promise.all([alice.agent.start(), bob.agent.start()]);
  return { wire, alice, bob };
}

describe("two sip.js user agents", () => {
  it("call: media both ways, keyed from INVITE and 200", async () => {
    const { wire, alice, bob } = await phones();
    const { caller, callee } = await call(alice, bob, BOB);
    expect([caller.state, callee.state]).toEqual([SessionState.Established, SessionState.Established]);
    expect(wire.last(/^INVITE/)).toMatch(/m=audio 4000 RTP\/SAVP 0[\s\S]*/);
    for (const message of [wire.last(/^INVITE/), wire.last(/^SIP\/2.0 200/)]) expect(message).toContain("a=key-mgmt:mikey AQ");
    expect(talk(alice, bob, 1)).toBe(true);
    expect(alice.events).toEqual(bob.events);
    expect(alice.port().seen[0]).not.toContain("key-mgmt");
  });

  it("hang up with a proof that is acknowledged, from either side", async () => {
    for (const side of ["caller", "callee"] as const) {
      const { wire, alice, bob } = await phones();
      const sessions = await call(alice, bob, BOB);
      await sessions[side].bye();
      await until(() => alice.events.length + bob.events.length === 4);
      const [ended, heard] = side === "caller" ? [alice, bob] : [bob, alice];
      expect(ended.events[1]).toBe("acknowledged verified");
      expect(heard.events[1]).toBe("received verified");
      for (const message of [wire.last(/^BYE/), wire.last(/^SIP\/2.0 200/)]) {
        expect(message).toContain("Content-Type: application/mikey");
        expect(message).toContain("Content-Disposition: signal;handling=optional");
      }
      expect([alice.port().closed, bob.port().closed]).toEqual([true, true]);
      expect(handlerOf(sessions.caller).verdict).toBe("verified");
      await until(
        () => handlerOf(sessions.caller).dialog.state === "closed" && handlerOf(sessions.callee).dialog.state === "closed",
      );
    }
  });

  it("prove the end in dispose() and in UserAgent.stop() too", async () => {
    for (const end of ["dispose", "stop"] as const) {
      const { alice, bob } = await phones();
      const { caller } = await call(alice, bob, BOB);
      await (end === "dispose" ? caller.dispose() : alice.agent.stop());
      expect(alice.events.at(-1)).toBe("acknowledged verified");
      expect(bob.events.at(-1)).toBe("received verified");
    }
  });

  it("rekey by re-INVITE from both sides, no packet lost", async () => {
    const { alice, bob } = await phones();
    const { caller, callee } = await call(alice, bob, BOB);
    let sequence = 0;
    const fingerprints = new Set([alice.events[0]]);
    for (const session of [caller, callee, caller] as Session[]) {
      const before = alice.events.length;
      await session.invite();
      for (let i = 0; i < 5; i++) {
        expect(talk(alice, bob, ++sequence)).toBe(true);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      await until(() => alice.events.length > before && bob.events.length > before);
      expect(talk(alice, bob, ++sequence)).toBe(true);
      await new Promise((resolve) => setTimeout(resolve, 10));
      fingerprints.add(alice.events.at(-1));
    }
    expect(fingerprints.size).toBe(4);
    expect(alice.events).toEqual(bob.events);
    expect(bob.port().streams[0]?.drops.refused).toBe(0);
  });

  it("hold and resume", async () => {
    const { alice, bob } = await phones();
    const { caller } = await call(alice, bob, BOB);
    for (const [mine, theirs, flows] of [
      ["inactive", "inactive", false],
      ["sendrecv", "sendrecv", true],
    ] as const) {
      alice.port().direction = mine;
      bob.port().direction = theirs;
      const before = alice.events.length;
      await caller.invite();
      await until(() => alice.events.length > before);
      expect(talk(alice, bob, before)).toBe(flows);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  });

  it("call without an offer: it comes in the 200, the answer in the ACK", async () => {
    const { wire, alice, bob } = await phones();
    await call(alice, bob, BOB, { inviteWithoutSdp: true });
    await until(() => bob.events.length === 1);
    expect(wire.last(/^ACK/)).toContain("a=key-mgmt:mikey");
    expect(talk(alice, bob, 1)).toBe(true);
  });

  it("183 with an answer, acknowledged by PRACK, is early media", async () => {
    const { wire, alice, bob } = await phones({}, {}, { sipExtension100rel: "Supported" as never });
    let ready = false;
    answering(bob.agent, async (invitation) => {
      await invitation.progress({ statusCode: 183, rel100: true });
      ready = true;
      await until(() => alice.events.length === 1);
      await invitation.accept();
    });
    const caller = new Inviter(alice.agent, UserAgent.makeURI(BOB) as never, { earlyMedia: true });
    await caller.invite();
    await until(() => ready && alice.events.length === 1);
    expect(caller.state).toBe(SessionState.Establishing);
    expect(talk(alice, bob, 1)).toBe(true);
    await until(() => caller.state === SessionState.Established);
    expect(talk(alice, bob, 2)).toBe(true);
    expect(wire.last(/^PRACK/)).toBeDefined();
  });
});

describe("what is refused", () => {
  it("another key: 488 with Warning and the MIKEY error, which is no matter of HELLO", async () => {
    const { wire, alice, bob } = await phones({ keys: [[ALICE, utf8("another key of 32 octets, really")]] });
    const { caller } = await call(alice, bob, BOB);
    expect(caller.state).toBe(SessionState.Terminated);
    const response = wire.last(/^SIP\/2.0 488/);
    expect(response).toContain('Warning: 399 watchword "MIKEY authentication failed"');
    expect(response).toContain("a=key-mgmt:mikey AQ");
    expect(bob.events).toEqual(["refused mikey.authentication"]);
    await until(() => alice.events.length === 1);
    expect(alice.events).toEqual(["by peer 488 [0] false"]);
  });

  it("a 488 that gives no reason: the call may be tried without HELLO, once", async () => {
    const { wire, alice, bob } = await phones();
    answering(bob.agent, (invitation) => invitation.reject({ statusCode: 488 }));
    for (const advice of ["true", "false"]) {
      const caller = new Inviter(alice.agent, UserAgent.makeURI(BOB) as never);
      await caller.invite();
      await until(() => alice.events.at(-1) === `by peer 488 [] ${advice}`);
    }
    const [first, second] = wire.sent.filter((message) => message.startsWith("INVITE")).map((message) => message.length);
    expect(second, "shorter by HELLO").toBeLessThan(first as number);
  });

  it("a plain INVITE", async () => {
    const { wire, alice, bob } = await phones();
    wire.tamper = (message) => (message.startsWith("INVITE") ? shorten(message, /a=key-mgmt[^\r]*\r\n/) : message);
    await call(alice, bob, BOB);
    expect(bob.events).toEqual(["refused mikey.absent"]);
    expect(wire.last(/^SIP\/2.0 488/)).toBeDefined();
  });

  it.each<[string, RegExp, string]>([
    ["key-mgmt", /a=key-mgmt[^\r]*\r\n/, "sip.downgrade"],
    ["its S", /(?<=RTP\/)S(?=AVP)/, "sip.downgrade"],
  ])("an answer without %s: ACK, then BYE with Reason", async (_name, gone, code) => {
    const { wire, alice, bob } = await phones();
    wire.tamper = (message) => (/^SIP\/2.0 200[\s\S]*application\/sdp/.test(message) ? shorten(message, gone) : message);
    const { caller } = await call(alice, bob, BOB).catch((error) => error);
    expect(caller.state).toBe(SessionState.Terminated);
    expect(alice.events).toEqual([`refused ${code}`]);
    await until(() => wire.last(/^BYE/));
    expect(wire.last(/^BYE/)).toMatch(/Reason: SIP;cause=488/);
  });

  const spoiling = (message: string): string => (message.startsWith("INVITE") ? spoiled(message) : message);

  it.each(["caller", "callee"] as const)(
    "a re-INVITE of the %s with a damaged key: 488 with Warning 306, upon which the session is aborted with a proof",
    async (side) => {
      const { wire, alice, bob } = await phones();
      const sessions = await call(alice, bob, BOB);
      const [from, to] = side === "caller" ? [alice, bob] : [bob, alice];
      wire.tamper = spoiling;
      await sessions[side].invite();
      await until(() => to.events.at(-1)?.startsWith("received"));
      expect(wire.last(/^SIP\/2.0 488/)).toMatch(/Warning: 306 [\s\S]*Warning: 399/);
      expect(wire.last(/^BYE/)).toMatch(/Reason: SIP;cause=488;text="new keys were refused"/);
      await until(() => from.events.length === 3);
      expect(from.events.slice(1)).toEqual([expect.stringMatching(/^by peer 488 .* aborts/), "acknowledged verified"]);
      expect(to.events.slice(1)).toEqual([expect.stringMatching(/^refused /), "received verified"]);
      expect([sessions.caller.state, sessions.callee.state]).toEqual([SessionState.Terminated, SessionState.Terminated]);
      expect(wire.sent.filter((message) => message.startsWith("BYE")).length).toBe(1);
      await until(() => handlerOf(sessions[side]).dialog.state === "closed");
    },
  );

  it("a re-INVITE with a damaged key where the old one is to be kept: it goes on, another follows, and the proof holds", async () => {
    const { wire, alice, bob } = await phones({}, { refusedRekey: "keep" });
    const { caller } = await call(alice, bob, BOB);
    wire.tamper = spoiling;
    await caller.invite();
    await until(() => alice.events.length === 2);
    expect(alice.events[1]).toMatch(/^by peer 488 \[.*\] false$/);
    wire.tamper = (message) => message;
    expect(talk(alice, bob, 1)).toBe(true);
    await caller.invite();
    await until(() => alice.events.length === 3);
    expect(talk(alice, bob, 2)).toBe(true);
    await caller.bye();
    await until(() => alice.events.at(-1) === "acknowledged verified");
  });

  it("a re-INVITE that the media cannot take leaves everything as it was", async () => {
    const { alice, bob } = await phones();
    const { caller } = await call(alice, bob, BOB);
    bob.port().refuses = true;
    await caller.invite();
    await until(() => alice.events.length === 2);
    expect(alice.events[1], "no matter of keys").toBe("by peer 488 [] false");
    expect(talk(alice, bob, 1)).toBe(true);
    bob.port().refuses = false;
    await caller.invite();
    await until(() => alice.events.length === 3);
    expect(talk(alice, bob, 2)).toBe(true);
  });

  it("the BYE of a call whose rekey was answered wrongly still proves its end", async () => {
    const { wire, alice, bob } = await phones();
    const { caller } = await call(alice, bob, BOB);
    wire.tamper = (message) =>
      /^SIP\/2.0 200[\s\S]*application\/sdp/.test(message) ? shorten(message, /a=key-mgmt[^\r]*\r\n/) : message;
    await caller.invite();
    await until(() => bob.events.at(-1)?.startsWith("received"));
    expect(bob.events.at(-1)).toBe("received verified");
    expect(wire.last(/^BYE/)).toMatch(/Reason: SIP;cause=488/);
  });
});

describe("the end of a call", () => {
  it("without a proof, with a damaged one, in binary", async () => {
    for (const [change, verdict] of [
      [(message: string) => shorten(message, /AQ[A-Za-z0-9+/=]*$/).replace(/Content-Type[^\r]*\r\n/, ""), "received absent"],
      [(message: string) => message.replace(/(AQ.{40})(.)/, (_m, head, c) => head + (c === "A" ? "B" : "A")), "received rejected"],
      [binary, "received verified"],
    ] as const) {
      const { wire, alice, bob } = await phones();
      const { caller } = await call(alice, bob, BOB);
      wire.tamper = (message) => (message.startsWith("BYE") ? change(message) : message);
      await caller.bye();
      await until(() => bob.events.length === 2 && alice.events.length === 2);
      expect(bob.events[1]).toBe(verdict);
      expect(alice.events[1]).toBe(verdict === "received verified" ? "acknowledged verified" : "acknowledged absent");
    }
  });

  it("a party that answers 415 gets an empty BYE", async () => {
    const { wire, alice, bob } = await phones();
    const { caller, callee } = await call(alice, bob, BOB);
    callee.delegate = { onBye: (bye: Bye) => void bye.reject({ statusCode: 415 }) };
    await caller.bye();
    await until(() => wire.sent.filter((message) => message.startsWith("BYE")).length === 2);
    expect(wire.last(/^BYE/)).toMatch(/Content-Length: 0/);
    expect(alice.events.at(-1)).toBe("acknowledged absent");
  });

  it("an application's own body in BYE and its answer is left alone", async () => {
    const { wire, alice, bob } = await phones();
    const { caller, callee } = await call(alice, bob, BOB);
    const body = { contentDisposition: "render", contentType: "text/plain", content: "so long" };
    callee.delegate = { onBye: (bye: Bye) => void bye.accept({ statusCode: 200, body }) };
    await caller.bye({ requestOptions: { body } });
    await until(() => wire.last(/^SIP\/2.0 200/)?.endsWith("so long"));
    expect(wire.last(/^BYE/)).toMatch(/so long$/);
    expect(bob.events.at(-1)).toBe("received absent");
  });

  it("a call that is cancelled, or refused by its user, leaves no key", async () => {
    const { alice, bob } = await phones();
    let handler: ReturnType<typeof handlerOf> | undefined;
    answering(bob.agent, () => undefined);
    const caller = new Inviter(alice.agent, UserAgent.makeURI(BOB) as never);
    await caller.invite();
    handler = handlerOf(caller);
    await new Promise((resolve) => setTimeout(resolve, 10));
    await caller.cancel();
    await until(() => caller.state === SessionState.Terminated);
    await until(() => handler?.dialog.state === "closed");
  });
});

describe("INFO and MESSAGE", () => {
  const body = (octets: Uint8Array) => ({
    contentDisposition: "render",
    contentType: "application/mikey",
    content: formatBase64(octets),
  });

  it("deliver key messages; what nobody takes is 415, what is damaged 400, and other bodies go their way", async () => {
    const got: string[] = [];
    const { wire, alice, bob } = await phones(
      {},
      {},
      {},
      {
        onMikey: (_session, octets, method) => {
          got.push(`${method} ${octets.length}`);
          return octets.length === 3;
        },
      },
    );
    const { caller, callee } = await call(alice, bob, BOB);
    const answered = async (send: () => Promise<unknown>): Promise<string | undefined> => {
      const before = wire.sent.length;
      await send();
      await until(() => wire.sent.length >= before + 2);
      return wire.sent.at(-1)?.slice(8, 11);
    };
    expect(await answered(() => caller.info({ requestOptions: { body: body(Uint8Array.of(1, 2, 3)) } }))).toBe("200");
    expect(await answered(() => caller.message({ requestOptions: { body: body(Uint8Array.of(1, 2, 3)) } }))).toBe("200");
    expect(await answered(() => caller.info({ requestOptions: { body: body(Uint8Array.of(1, 2)) } }))).toBe("415");
    expect(await answered(() => caller.info({ requestOptions: { body: { ...body(rtp(1, 1)), content: "A?" } } }))).toBe("400");
    expect(got).toEqual(["INFO 3", "MESSAGE 3", "INFO 2"]);
    let info = 0;
    callee.delegate = { onInfo: (request) => void request.accept().then(() => info++) };
    expect(await answered(() => caller.info({ requestOptions: { body: { ...body(rtp(1, 1)), contentType: "text/plain" } } }))).toBe(
      "200",
    );
    expect(info).toBe(1);
  });

  it("without a taker are not lost in silence, and an application's delegate gets them", async () => {
    const { wire, alice, bob } = await phones();
    const { caller, callee } = await call(alice, bob, BOB);
    await caller.info({ requestOptions: { body: body(Uint8Array.of(1, 2, 3)) } });
    await until(() => wire.last(/^SIP\/2.0 415/));
    let info: string | undefined;
    callee.delegate = {
      onInfo: (request) => {
        info = request.request.body;
        void request.accept();
      },
    };
    await caller.info({ requestOptions: { body: body(Uint8Array.of(1, 2, 3)) } });
    await until(() => info === "AQID");
  });
});

describe("a wrapped handler", () => {
  it("sees plain descriptions, and its own become keyed ones", async () => {
    const seen: string[] = [];
    const streams: string[] = [];
    const inner = () => ({
      close: () => undefined,
      hasDescription: () => true,
      getDescription: async () => ({
        body: "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n",
        contentType: "application/sdp",
      }),
      setDescription: async (sdp: string) => void seen.push(sdp),
      sendDtmf: (tones: string) => tones === "1",
    });
    const { wire, alice, bob } = await phones(
      {},
      {},
      {},
      {
        inner,
        innerIsPlain: true,
        onStream: (_session, stream) => streams.push(`${stream.index} ${stream.ready}`),
      },
    );
    const { caller } = await call(alice, bob, BOB);
    expect(caller.state).toBe(SessionState.Established);
    expect(lineOf(wire.last(/^INVITE/) ?? "", "m=")).toBe("m=audio 4000 RTP/SAVP 0");
    expect(seen.length).toBe(2);
    for (const sdp of seen) expect(sdp).toMatch(/RTP\/AVP 0/);
    for (const sdp of seen) expect(sdp).not.toContain("key-mgmt");
    expect(streams).toEqual(["0 false", "0 false"]);
    expect(caller.sessionDescriptionHandler?.sendDtmf("1")).toBe(true);
  });

  it("needs media or a handler", async () => {
    const { alice } = await phones();
    const factory = createSessionDescriptionHandlerFactory({ keying: keying(ALICE, BOB) });
    const session = new Inviter(alice.agent, UserAgent.makeURI(BOB) as never);
    expect(() => factory(session)).toThrow(expect.objectContaining({ code: "sip.state" }));
    await session.cancel();
  });
});

/** A message with something taken out of its body, and its length put right. */
function shorten(message: string, gone: RegExp): string {
  const [head = "", ...rest] = message.split("\r\n\r\n");
  const body = rest.join("\r\n\r\n").replace(gone, "");
  return `${head.replace(/Content-Length: \d+/, `Content-Length: ${body.length}`)}\r\n\r\n${body}`;
}

/** A message whose base64 body became what it stands for, one character per octet. */
function binary(message: string): string {
  const [head = "", body = ""] = message.split("\r\n\r\n");
  const text = Buffer.from(body, "base64").toString("latin1");
  return `${head.replace(/Content-Length: \d+/, `Content-Length: ${text.length}`)}\r\n\r\n${text}`;
}
