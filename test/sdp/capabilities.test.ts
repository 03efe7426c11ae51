import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError, formatBase64, utf8 } from "../../src/bytes/index.js";
import { formatPotentialConfiguration, formatTransportCapability, readPotentialConfigurations } from "../../src/sdp/index.js";

const KEY = formatBase64(utf8("key"));
const OTHER = formatBase64(utf8("other"));

function sdp(session: readonly string[], ...media: readonly (readonly string[])[]): string {
  const sections = media.map(([profile = "RTP/AVP", ...lines]) => [`m=audio 0 ${profile} 0`, ...lines]);
  return [`v=0`, `s= `, `t=0 0`, ...session, ...sections.flat()].map((line) => `${line}\r\n`).join("");
}

const read = (text: string) =>
  readPotentialConfigurations(text).map(
    (found) => found && [found.profile, ...found.keyMgmt.map(({ data }) => data && formatBase64(data))],
  );

describe("potential configurations (RFC 5939)", () => {
  it.each<readonly [string, string, unknown]>([
    ["none", sdp([], ["RTP/SAVP", "a=key-mgmt:mikey AAAA"]), [undefined]],
    [
      "of one stream",
      sdp(["a=tcap:1 RTP/SAVP RTP/SAVPF"], ["RTP/AVP", `a=acap:1 key-mgmt:mikey ${KEY}`, "a=pcfg:1 t=1 a=1"]),
      [["RTP/SAVP", KEY]],
    ],
    [
      "the second of a list of transports",
      sdp(["a=tcap:1 RTP/SAVP RTP/SAVPF"], ["RTP/AVP", `a=acap:1 key-mgmt:mikey ${KEY}`, "a=pcfg:1 t=2 a=1"]),
      [["RTP/SAVPF", KEY]],
    ],
    [
      "the lowest number first, whatever the order",
      sdp(
        ["a=tcap:5 RTP/SAVP"],
        ["RTP/AVP", `a=acap:7 key-mgmt:mikey ${KEY}`, `a=acap:8 key-mgmt:mikey ${OTHER}`, "a=pcfg:9 t=5 a=7", "a=pcfg:2 t=5 a=8"],
      ),
      [["RTP/SAVP", OTHER]],
    ],
    [
      "several messages, deletions and optional ones passed over",
      sdp(
        ["a=tcap:1 RTP/SAVP"],
        ["RTP/AVP", `a=acap:1 key-mgmt:mikey ${KEY}`, `a=acap:2 key-mgmt:mikey ${OTHER}`, "a=pcfg:1 t=1 a=-m:1,2,[3]"],
      ),
      [["RTP/SAVP", KEY, OTHER]],
    ],
    [
      "of the session for every stream",
      sdp([`a=acap:1 key-mgmt:mikey ${KEY}`, "a=tcap:1 RTP/SAVP"], ["RTP/AVP", "a=pcfg:1 t=1 a=1"], ["RTP/AVP"]),
      [["RTP/SAVP", KEY], undefined],
    ],
    [
      "no configuration where the profile is secure: the capability as it stands",
      sdp([], ["RTP/SAVPF", `a=acap:3 key-mgmt:mikey ${KEY}`]),
      [["RTP/SAVPF", KEY]],
    ],
    ["no configuration where it is not", sdp([], ["RTP/AVP", `a=acap:3 key-mgmt:mikey ${KEY}`]), [undefined]],
    [
      "a transport that is not secure",
      sdp(["a=tcap:1 RTP/AVPF"], ["RTP/AVP", `a=acap:1 key-mgmt:mikey ${KEY}`, "a=pcfg:1 t=1 a=1"]),
      [undefined],
    ],
    [
      "capabilities that are not there",
      sdp(["a=tcap:1 RTP/SAVP"], ["RTP/AVP", `a=acap:1 key-mgmt:mikey ${KEY}`, "a=pcfg:1 t=2 a=1", "a=pcfg:2 t=1 a=9", "a=pcfg:x"]),
      [undefined],
    ],
  ])("%s", (_name, text, expected) => {
    expect(read(text)).toEqual(expected);
  });

  it.each<readonly [string, string, string | undefined]>([
    ["what is optional is left out", "1 t=1 a=1,[3,4]", "1 t=1 a=1"],
    ["what is deleted is said again", "1 t=1 a=-ms:1,2", "1 t=1 a=-ms:1,2"],
    ["of alternatives the one that is taken", "1 t=9|1 a=5|2|1", "1 t=1 a=2"],
    ["a list that is none", "1 t=1 a=1,x|2", "1 t=1 a=2"],
    ["a number that is none", "1 t=1 a=0", undefined],
    ["no list", "1 t=1 a=", undefined],
    // RFC 5939 §3.6.2: the answerer supports all that is mandatory, or does not take it.
    ["what is mandatory and of another kind", "1 t=1 a=1,3", undefined],
    ["what is mandatory and not there", "1 t=1 a=1,9", undefined],
  ])("are accepted in the words of a=acfg: %s", (_name, configuration, accepted) => {
    const capabilities = [`a=acap:1 key-mgmt:mikey ${KEY}`, `a=acap:2 key-mgmt:mikey ${OTHER}`, "a=acap:3 rtcp-fb:0 nack"];
    const zero = `a=acap:0 key-mgmt:mikey ${KEY}`;
    const text = sdp(["a=tcap:1 RTP/SAVP"], ["RTP/AVP", zero, ...capabilities, `a=pcfg:${configuration}`]);
    expect(readPotentialConfigurations(text)[0]?.accepted).toBe(accepted);
  });

  it("that are written are read", () => {
    const text = sdp(
      [`a=${formatTransportCapability("RTP/SAVPF")}`],
      ["RTP/AVPF", ...formatPotentialConfiguration([utf8("key"), utf8("other")], 1).map((line) => `a=${line}`)],
      ["RTP/AVPF", ...formatPotentialConfiguration([utf8("key")], 3).map((line) => `a=${line}`)],
    );
    expect(read(text)).toEqual([
      ["RTP/SAVPF", KEY, OTHER],
      ["RTP/SAVPF", KEY],
    ]);
  });

  it("are not written for plain RTP, without messages or under numbers that are none", () => {
    expect(() => formatTransportCapability("RTP/AVP")).toThrow(expect.objectContaining({ code: "sdp.key-mgmt" }));
    expect(() => formatPotentialConfiguration([], 1)).toThrow(expect.objectContaining({ code: "sdp.key-mgmt" }));
    expect(() => formatPotentialConfiguration([utf8("x")], 0)).toThrow(expect.objectContaining({ code: "sdp.key-mgmt" }));
  });

  it("of any text are a value or a typed error", () => {
    const line = fc.constantFrom("a=tcap:", "a=acap:", "a=pcfg:", "m=", "a=");
    const lines = fc.array(
      fc.tuple(line, fc.string({ maxLength: 60 })).map(([start, rest]) => start + rest),
      { maxLength: 20 },
    );
    fc.assert(
      fc.property(lines, (all) => {
        try {
          readPotentialConfigurations(all.join("\r\n"));
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError);
        }
      }),
    );
  });
});
