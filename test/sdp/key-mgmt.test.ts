import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError } from "../../src/bytes/index.js";
import { addKeyMgmt, formatProtocolList, readKeyMgmt, removeKeyMgmt } from "../../src/sdp/index.js";

const SDP = [
  "v=0",
  "o=- 1 1 IN IP4 127.0.0.1",
  "s=Cool stuff",
  "t=0 0",
  "a=key-mgmt:mikey AQID",
  "a=key-mgmt:keyp1 BAUG",
  "m=audio 49000 RTP/SAVP 98",
  "a=rtpmap:98 AMR/8000",
  "m=video 52230 RTP/SAVP 31",
  "a=key-mgmt: mikey  BwgJ ",
  "a=key-mgmt:other CgsMDQ",
  "m=audio 1 RTP/AVP 0",
  "a=acap:4 key-mgmt:mikey DQ==",
  "m=audio 1 RTP/SAVP 0",
  "a=key-mgmt:mikey ???",
  "",
].join("\r\n");

describe("a=key-mgmt", () => {
  const set = readKeyMgmt(SDP);

  it("finds every line with its level, number and octets", () => {
    expect(
      set.attributes.map(({ protocol, data, section, line, capability }) => [protocol, data?.join(), section, line, capability]),
    ).toEqual([
      ["mikey", "1,2,3", "session", 5, undefined],
      ["keyp1", "4,5,6", "session", 6, undefined],
      ["mikey", "7,8,9", 1, 10, undefined],
      ["other", "10,11,12,13", 1, 11, undefined],
      ["mikey", "13", 2, 13, 4],
      ["mikey", undefined, 3, 15, undefined],
    ]);
  });

  it("lets the media level override the session level, even where its line is malformed", () => {
    expect(set.effective.map((media) => media.map(({ line }) => line))).toEqual([[5, 6], [10, 11], [5, 6], [15]]);
    expect(set.effective[3]?.[0]?.problem).toBeInstanceOf(CodecError);
  });

  it("lists protocols in the order of the description", () => {
    expect(formatProtocolList(set.effective[0] ?? [])).toBe("mikey;keyp1");
  });

  it.each([
    ["a=key-mgmt:mikey", "sdp.key-mgmt"],
    ["a=key-mgmt:", "sdp.key-mgmt"],
    ["a=key-mgmt", "sdp.key-mgmt"],
    ["a=key-mgmt:mi-key AQID", "sdp.key-mgmt"],
    ["a=key-mgmt:mikey A", "bytes.base64"],
    ["a=key-mgmt:mikey AQ ID", "bytes.base64"],
  ])("%s is malformed, not absent", (line, code) => {
    const [attribute] = readKeyMgmt(`v=0\r\n${line}\r\n`).attributes;
    expect(attribute).toMatchObject({ data: undefined, problem: { code } });
  });

  it("adds behind the others, or first, and keeps the rest octet for octet", () => {
    const base = "v=0\nm=audio 0 RTP/SAVP 0\na=control:x\nm=video 0 RTP/SAVP 96";
    const data = Uint8Array.of(1);
    const one = addKeyMgmt(base, { section: 0, protocol: "mikey", data });
    expect(one).toBe("v=0\nm=audio 0 RTP/SAVP 0\na=control:x\na=key-mgmt:mikey AQ==\r\nm=video 0 RTP/SAVP 96");
    const two = addKeyMgmt(one, { section: 0, protocol: "keyp1", data });
    expect(two).toContain("a=key-mgmt:mikey AQ==\r\na=key-mgmt:keyp1 AQ==\r\nm=video");
    const three = addKeyMgmt(two, { section: 0, protocol: "first", data, first: true });
    expect(three).toContain("a=control:x\na=key-mgmt:first AQ==\r\na=key-mgmt:mikey AQ==\r\n");
    const last = addKeyMgmt(addKeyMgmt(base, { section: 1, protocol: "mikey", data }), { section: 1, protocol: "keyp1", data });
    expect(last).toBe(`${base}\r\na=key-mgmt:mikey AQ==\r\na=key-mgmt:keyp1 AQ==\r\n`);
    expect(removeKeyMgmt(three)).toBe(base);
    expect(removeKeyMgmt(two, { protocol: "keyp1" })).toBe(one);
    expect(removeKeyMgmt(SDP, { section: "session" }).split("\r\n")).toHaveLength(SDP.split("\r\n").length - 2);
  });

  it("refuses an illegal protocol identifier and an absent section", () => {
    const data = Uint8Array.of(1);
    expect(() => addKeyMgmt("v=0\r\n", { section: "session", protocol: "a b", data })).toThrow(
      expect.objectContaining({ code: "sdp.key-mgmt" }),
    );
    expect(() => addKeyMgmt("v=0\r\n", { section: 0, protocol: "mikey", data })).toThrow(
      expect.objectContaining({ code: "sdp.section" }),
    );
  });

  it("adds what it reads, removes what it added", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        fc.constantFrom<"session" | number>("session", 0, 1),
        (data, section) => {
          const base = "v=0\r\nm=audio 0 RTP/SAVP 0\r\nm=video 0 RTP/SAVP 96\r\n";
          const added = addKeyMgmt(base, { section, protocol: "mikey", data });
          expect(readKeyMgmt(added).attributes).toMatchObject([{ protocol: "mikey", section, data }]);
          expect(removeKeyMgmt(added)).toBe(base);
        },
      ),
    );
  });

  it("is total", () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom("a=key-mgmt:", "mikey ", "AQID", "=", "\r\n", "\n", "m=", "a=acap:1 key-mgmt:", " ", "x"), {
          maxLength: 30,
        }),
        (parts) => {
          readKeyMgmt(parts.join(""));
        },
      ),
    );
  });
});
