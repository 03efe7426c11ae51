import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError } from "../../src/bytes/index.js";
import { mikeyBody, namesParty, parseMikeyBody, partyOf, SipRefusal, sipIdentity } from "../../src/sip/index.js";
import { carry, dialogs, exchange, rtp, scene, sdpOf } from "./support.js";

const line = fc.record({
  kind: fc.constantFrom("audio", "video", "text"),
  port: fc.constantFrom(0, 4000, 4002, 65_534),
  profile: fc.constantFrom("RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF"),
  attributes: fc.subarray(["a=rtpmap:0 PCMU/8000", "a=fmtp:0 x=1", "b=AS:64", "a=unknown", "a=rtcp:5001", "i=x", "k=prompt"]),
});
const session = fc.subarray(["a=tool:x", "a=key-mgmt:keyp1 AAAA", "a=group:LS 1", "a=key-mgmt:keyp2 BBBB"]);

describe("any description", () => {
  it("becomes an offer and an answer: keyed where it is active, otherwise as it was, and media flows on every active line", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { minLength: 1, maxLength: 5 }),
        session,
        fc.constantFrom("session" as const, "media" as const),
        fc.constantFrom("\r\n", "\n"),
        fc.boolean(),
        async (lines, attributes, level, ending, reversed) => {
          const world = scene({ level });
          const { caller, callee } = dialogs(world);
          const [from, to] = reversed ? [callee, caller] : [caller, callee];
          const local = sdpOf(lines, attributes).replaceAll("\r\n", ending);
          const answering = sdpOf(lines.map(({ kind, port }) => ({ kind, port })));
          const { offer, answer } = await exchange(from, to, local, answering);
          for (const [sdp, source] of [
            [offer, local],
            [answer, answering],
          ] as const) {
            const others = (text: string) => text.split(/\r?\n/).filter((row) => !/^a=(key-mgmt:mikey|x-watchword)|^m=/.test(row));
            expect(others(sdp)).toEqual(others(source));
            for (const row of sdp.split(/\r?\n/).filter((text) => text.startsWith("m="))) expect(row).toMatch(/RTP\/SAVPF?/);
          }
          lines.forEach(({ port }, index) => {
            for (const [sender, receiver, ssrc] of [
              [from, to, 1],
              [to, from, 2],
            ] as const) {
              const packet = rtp(ssrc, 7);
              expect(carry(sender, receiver, packet, index)).toEqual(port === 0 ? undefined : packet);
            }
          });
        },
      ),
      { numRuns: 60 },
    );
  });
});

type Step =
  | { readonly kind: "exchange" | "lost" | "refused" | "glare" | "rollback"; readonly byCaller: boolean }
  | { readonly kind: "more"; readonly byCaller: boolean };

const steps = fc.array(
  fc.record({
    kind: fc.constantFrom("exchange", "exchange", "lost", "refused", "glare", "rollback", "more"),
    byCaller: fc.boolean(),
  }) as fc.Arbitrary<Step>,
  { maxLength: 12 },
);

describe("any order of steps", () => {
  it("loses no packet, keeps both ends under one key, and ends with a proof", async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.constantFrom("session" as const, "media" as const), async (order, level) => {
        const world = scene({ level });
        const { caller, callee } = dialogs(world);
        let lines = 1;
        const local = (): string => sdpOf(Array.from({ length: lines }, () => ({})));
        await exchange(caller, callee, local());
        let sequence = 65_530;
        const flow = (): void => {
          sequence++;
          for (let index = 0; index < lines; index++) {
            expect(carry(caller, callee, rtp(10 + index, sequence), index)).toBeDefined();
            expect(carry(callee, caller, rtp(20 + index, sequence), index)).toBeDefined();
          }
        };
        for (const { kind, byCaller } of order) {
          const [from, to] = byCaller ? [caller, callee] : [callee, caller];
          const offer = async (): Promise<string> => from.createOffer(local());
          if (kind === "more") {
            lines = Math.min(lines + 1, 4);
            await exchange(from, to, local());
          } else if (kind === "glare") {
            const mine = await offer();
            const theirs = await to.createOffer(local());
            await expect(to.acceptOffer(mine)).rejects.toMatchObject({ status: 491 });
            flow();
            await expect(from.acceptOffer(theirs)).rejects.toMatchObject({ status: 491 });
            await from.refused(491);
            to.rollback();
          } else if (kind === "refused") {
            await offer();
            await from.refused(488);
          } else if (kind === "rollback") {
            await to.acceptOffer(await offer());
            flow();
            to.rollback();
            from.rollback();
          } else {
            const text = await offer();
            await to.acceptOffer(text);
            flow();
            let answer = await to.createAnswer(local());
            flow();
            if (kind === "lost") {
              await to.acceptOffer(text);
              answer = await to.createAnswer(local());
            }
            await from.acceptAnswer(answer);
          }
          flow();
          expect(caller.streams[0]?.fingerprint).toBe(callee.streams[0]?.fingerprint);
          expect([caller.state, callee.state]).toEqual(["stable", "stable"]);
        }
        for (const { streams } of [caller, callee]) expect(streams.every(({ drops }) => drops.refused === 0)).toBe(true);
        const { verdict, body } = callee.acceptEnd(caller.end());
        expect([verdict, caller.acceptEndAnswer(body)]).toEqual(["verified", "verified"]);
      }),
      { numRuns: 40 },
    );
  });
});

/** Damage as a network, a proxy or an attacker does it. */
const damage = fc.oneof(
  fc.record({ kind: fc.constant("cut" as const), at: fc.nat(4000), length: fc.integer({ min: 1, max: 200 }) }),
  fc.record({ kind: fc.constant("put" as const), at: fc.nat(4000), text: fc.string({ maxLength: 20 }) }),
  fc.record({ kind: fc.constant("line" as const), at: fc.nat(20), to: fc.nat(20) }),
);

function damaged(sdp: string, changes: readonly (typeof damage extends fc.Arbitrary<infer T> ? T : never)[]): string {
  return changes.reduce((text, change) => {
    if (change.kind === "line") {
      const rows = text.split("\r\n");
      rows.splice(change.to % rows.length, 0, rows[change.at % rows.length] as string);
      return rows.join("\r\n");
    }
    const at = change.at % (text.length + 1);
    return change.kind === "cut"
      ? text.slice(0, at) + text.slice(at + change.length)
      : text.slice(0, at) + change.text + text.slice(at);
  }, sdp);
}

let counter = 0;

describe("whatever comes", () => {
  it("an offer or answer is taken or refused with a SipRefusal, and a taken one never leaves a line in the clear", async () => {
    const world = scene();
    const as = fc.constantFrom("secure" as const, "capability" as const);
    const offers = await Promise.all(
      [world, world, scene({ offerAs: "capability" })].map((from, index) =>
        dialogs(from).caller.createOffer(sdpOf(Array.from({ length: 1 + (index % 2) }, () => ({})))),
      ),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...offers),
        fc.array(damage, { minLength: 1, maxLength: 4 }),
        as,
        async (offer, changes, offerAs) => {
          const { callee } = dialogs(scene());
          await callee.acceptOffer(damaged(offer, changes)).then(
            () => expect(callee.state).toBe("have-remote-offer"),
            (error) => {
              expect(error).toBeInstanceOf(SipRefusal);
              expect(error.warningHeaders("h").join()).not.toMatch(/[\r\n]/);
              expect(callee.media).toEqual([]);
            },
          );
          const call = dialogs(scene({ offerAs }));
          await call.callee.acceptOffer(await call.caller.createOffer(sdpOf()));
          const answer = damaged(await call.callee.createAnswer(sdpOf()), changes);
          await call.caller.acceptAnswer(answer).then(
            () =>
              expect(call.caller.streams.every(({ direction, policy }) => direction === "inactive" || policy !== undefined)).toBe(
                true,
              ),
            (error) => expect(error).toBeInstanceOf(SipRefusal),
          );
        },
      ),
      { numRuns: 150 },
    );
  });

  it("a refusal is advice, whatever is in it, and only a rekey is aborted", async () => {
    const world = scene();
    const warning = fc.oneof(
      fc.constantFrom('306 host "text"', '399 host "306 \\" 306"', "306", '1 a, 306 b "c', '306 "x'),
      fc.string({ maxLength: 60 }),
    );
    const body = fc.option(
      fc.record({
        contentType: fc.constantFrom("application/mikey", "application/sdp", "text/plain"),
        content: fc.oneof(
          fc.string(),
          fc.base64String(),
          fc.uint8Array(),
          fc.base64String().map((text) => `a=key-mgmt:mikey ${text}`),
        ),
      }),
      { nil: undefined },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 300, max: 699 }),
        body,
        fc.array(warning, { maxLength: 4 }),
        fc.boolean(),
        async (status, content, warnings, rekey) => {
          const call = dialogs(world, { callId: `${counter++}` });
          if (rekey) await exchange(call.caller, call.callee);
          await call.caller.createOffer(sdpOf());
          const { abort, retry, authenticated } = await call.caller.refused(status, content, warnings);
          expect(call.caller.state).toBe(abort ? "closed" : "stable");
          expect([abort && !rekey, abort && status !== 488 && status !== 606, retry && rekey, authenticated]).toEqual([
            false,
            false,
            false,
            false,
          ]);
          if (rekey && !abort) expect(carry(call.caller, call.callee, rtp(1, 1))).toBeDefined();
          for (const dialog of [call.caller, call.callee]) dialog.close();
        },
      ),
      { numRuns: 150 },
    );
  });

  it("a body is a key message, none, or a typed error", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.base64String(), fc.uint8Array()),
        fc.constantFrom("application/mikey", "APPLICATION/MIKEY;a=b", "text/plain", ""),
        (content, contentType) => {
          try {
            const octets = parseMikeyBody({ contentType, content });
            expect(octets === undefined).toBe(!/^application\/mikey/i.test(contentType));
          } catch (error) {
            expect(error).toBeInstanceOf(CodecError);
          }
        },
      ),
    );
  });

  it("a key message comes back from its body in every form", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (rest) => {
        const octets = Uint8Array.of(1, ...rest);
        const { content, contentType } = mikeyBody(octets);
        for (const form of [content, octets, String.fromCharCode(...octets), content.replace(/(.{60})/g, "$1\r\n")]) {
          expect(parseMikeyBody({ contentType, content: form })).toEqual(octets);
        }
      }),
    );
  });
});

describe("a party", () => {
  it.each([
    ["sip:bob@Example.ORG", "sip:bob@example.org"],
    ['"Bob" <sips:bob@example.org;transport=tls>;tag=1', "sip:bob@example.org"],
    ["bob@example.org", "sip:bob@example.org"],
    ["sip:example.org:5070", "sip:example.org:5070"],
    ["sip:bob:secret@example.org?x=y", "sip:bob:secret@example.org"],
  ])("%s is %s", (uri, expected) => {
    expect(partyOf(uri)).toBe(expected);
    expect(namesParty(sipIdentity(uri), expected)).toBe(true);
  });

  it("has one name, whatever else is in the URI; what is none is refused", () => {
    expect(namesParty(sipIdentity("sip:bob@example.org"), "sip:Bob@example.org"), "users are case-sensitive").toBe(false);
    expect(namesParty({ idType: 1, data: Uint8Array.of(0xff) }, "sip:bob@example.org")).toBe(false);
    expect(namesParty({ idType: 2, data: sipIdentity("sip:bob@example.org").data }, "sip:bob@example.org")).toBe(false);
    expect(namesParty(sipIdentity("sip:bob@example.org"), "")).toBe(false);
    for (const uri of ["", "sip:", "sip:b ob@x", "sip:bob@"]) {
      expect(() => partyOf(uri)).toThrow(expect.objectContaining({ code: "sip.uri" }));
    }
  });
});
