import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { utf8, WatchwordError } from "../../src/bytes/index.js";
import { GcksRefusal, type GroupDescription } from "../../src/gcks/index.js";
import {
  errorMessageIn,
  formatGroupAnswer,
  formatGroupOffer,
  type GroupOffer,
  groupRefusalOf,
  memberMethodOf,
  proofIn,
  readGroupAnswer,
  readGroupOffer,
  SipRefusal,
} from "../../src/sip/index.js";

const AUDIO = { media: "audio", profile: "RTP/SAVP", formats: [0, 8], lines: ["a=rtpmap:0 PCMU/8000"] };
const VIDEO = { media: "video", profile: "RTP/SAVPF", formats: [96], lines: ["a=rtpmap:96 H264/90000"] };
const OFFER: GroupOffer = {
  host: "192.0.2.7",
  sessionId: "42",
  version: 0,
  streams: [AUDIO, VIDEO],
  role: { send: false, receive: true },
  iMessage: Uint8Array.of(1, 2, 3),
};
const GROUP: GroupDescription = {
  group: utf8("blue"),
  title: "Blue",
  streams: [{ ...AUDIO, formats: [0], destination: { host: "239.0.0.2", port: 5004, ttl: 3 } }],
};

function answerTo(offer: string): string {
  return formatGroupAnswer({
    host: "192.0.2.1",
    sessionId: "7",
    version: 0,
    offer: readGroupOffer(offer),
    response: Uint8Array.of(1, 9),
    description: GROUP,
    role: OFFER.role,
  });
}

describe("descriptions of groups in SIP", () => {
  it("ask for a group with the I_MESSAGE at session level, directed as the role", () => {
    const sdp = formatGroupOffer(OFFER);
    expect(sdp).toContain("a=x-watchword:1\r\na=key-mgmt:mikey AQID\r\nm=audio 9 RTP/SAVP 0 8\r\n");
    expect(sdp.match(/a=recvonly/g)).toHaveLength(2);
    expect(readGroupOffer(sdp)).toEqual({
      iMessage: OFFER.iMessage,
      lines: [
        { media: "audio", profile: "RTP/SAVP", formats: [0, 8], active: true },
        { media: "video", profile: "RTP/SAVPF", formats: [96], active: true },
      ],
    });
  });

  it("answer with the R_MESSAGE and where packets go; lines that the group does not have get port 0", () => {
    const sdp = answerTo(formatGroupOffer(OFFER));
    expect(sdp).toContain("m=audio 5004 RTP/SAVP 0\r\nc=IN IP4 239.0.0.2/3\r\na=rtpmap:0 PCMU/8000\r\na=sendonly\r\n");
    expect(sdp).toContain("m=video 0 RTP/SAVPF 96\r\n");
    expect(readGroupAnswer(sdp)).toEqual({ response: Uint8Array.of(1, 9), streams: [GROUP.streams[0], undefined] });
  });

  it.each([
    ["without a key message", (sdp: string) => sdp.replace(/a=key-mgmt.*\r\n/, "")],
    ["with a damaged one", (sdp: string) => sdp.replace("AQID", "A*ID")],
    ["without m= lines", (sdp: string) => sdp.slice(0, sdp.indexOf("m="))],
    ["that is none", () => "hello"],
  ])("are refused with 488 %s", (_name, change) => {
    const read = (): unknown => readGroupOffer(change(formatGroupOffer(OFFER)));
    expect(read).toThrow(SipRefusal);
    expect(read).toThrow(expect.objectContaining({ status: 488 }));
  });

  it("are read or refused, wherever they are cut or changed", () => {
    const sdp = formatGroupOffer(OFFER);
    const answer = answerTo(sdp);
    const damaged = (text: string) =>
      fc
        .tuple(fc.nat(text.length), fc.string({ maxLength: 8 }))
        .map(([at, junk]) => text.slice(0, at) + junk + text.slice(at + junk.length));
    const total = (read: (text: string) => unknown) => (text: string) => {
      try {
        read(text);
      } catch (error) {
        expect(error).toBeInstanceOf(WatchwordError);
      }
    };
    fc.assert(fc.property(fc.oneof(damaged(sdp), fc.string()), total(readGroupOffer)), { numRuns: 300 });
    fc.assert(fc.property(fc.oneof(damaged(answer), fc.string()), total(readGroupAnswer)), { numRuns: 300 });
    for (let end = 0; end < answer.length; end++) total(readGroupAnswer)(answer.slice(0, end));
  });
});

describe("refusals and bodies", () => {
  it("say what a key server says, with the ERR message and when to come again", () => {
    const reply = Uint8Array.of(1, 6, 0);
    const refusal = groupRefusalOf(new GcksRefusal("gcks.overload", "too many", { sip: 503, rtsp: 503 }, { reply, retryAfter: 2 }));
    expect(refusal).toMatchObject({ status: 503, retryAfter: 2 });
    const { body } = refusal;
    expect(body?.contentType).toBe("application/sdp");
    expect(errorMessageIn(body)).toEqual(reply);
    expect(groupRefusalOf(new WatchwordError("sip.uri", "x")).status).toBe(488);
  });

  it("are INFO only where the peer allows no MESSAGE", () => {
    expect(memberMethodOf([])).toBe("MESSAGE");
    expect(memberMethodOf(["INVITE, ACK, INFO"])).toBe("INFO");
    expect(memberMethodOf(["INVITE, INFO", "MESSAGE"])).toBe("MESSAGE");
  });

  it("prove nothing where they cannot be read", () => {
    expect(proofIn(undefined)).toBeUndefined();
    expect(proofIn({ contentType: "text/plain", content: "x" })).toBeUndefined();
    expect(proofIn({ contentType: "application/mikey", content: "A*" })).toEqual(new Uint8Array(0));
    expect(proofIn({ contentType: "application/mikey", content: "AQI=" })).toEqual(Uint8Array.of(1, 2));
  });
});
