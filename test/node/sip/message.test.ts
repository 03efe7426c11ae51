import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { concatBytes, parseBase64, utf8, utf8Text, WatchwordError } from "../../../src/bytes/index.js";
import { createSipFramer } from "../../../src/node/sip/framing.js";
import {
  encodeSipMessage,
  headerOf,
  MAX_BODY,
  MAX_HEAD,
  parseSipMessage,
  sipMessageText,
  topVia,
  viaParameter,
  withBinaryBody,
  withTextualBody,
  withTopVia,
  withViaParameter,
} from "../../../src/node/sip/message.js";

const INVITE = [
  "INVITE sip:bob@example.test SIP/2.0",
  "Via: SIP/2.0/UDP alice.invalid;branch=z9hG4bK1;rport",
  "Via: SIP/2.0/TCP [2001:db8::1]:5062 ; received=192.0.2.1",
  "From: <sip:alice@example.test>;tag=1",
  "To: <sip:bob@example.test>",
  "Call-ID: one",
  "CSeq: 1 INVITE",
  "Max-Forwards: 70",
  "Content-Type: application/sdp",
  "Content-Length: 5",
  "",
  "v=0\r\n",
].join("\r\n");

function message(lines: readonly string[], body: Uint8Array | string = ""): Uint8Array {
  const head = ["BYE sip:bob@example.test SIP/2.0", "Via: SIP/2.0/UDP a;branch=b", "CSeq: 2 BYE", ...lines, "", ""].join("\r\n");
  return concatBytes(utf8(head), typeof body === "string" ? utf8(body) : body);
}

describe("SIP messages", () => {
  it("come out as they went in", () => {
    expect(utf8Text(encodeSipMessage(parseSipMessage(utf8(INVITE))))).toBe(
      INVITE.replace("Content-Length: 5\r\n", "").replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n"),
    );
  });

  it("are read with compact names, folded lines and spaces", () => {
    const text = "SIP/2.0 200 \r\nv :SIP / 2.0/ UDP  h:5060;branch=b\r\nCSEQ: 7\r\n\t INVITE\r\nl:0\r\n\r\n";
    const read = parseSipMessage(utf8(text));
    expect(read).toMatchObject({ kind: "response", status: 200, method: "INVITE" });
    expect(topVia(read)).toEqual({ transport: "UDP", host: "h", port: 5060, parameters: [["branch", "b"]] });
    expect(headerOf(read.headers, "content-length")).toBe("0");
  });

  it("have the first of several Vias edited, however they are written", () => {
    const list = parseSipMessage(message(["Via: never"]).slice());
    const one = withTopVia(list, withViaParameter(topVia(list), "received", "192.0.2.9"));
    expect(headerOf(one.headers, "via")).toBe("SIP/2.0/UDP a;branch=b;received=192.0.2.9");
    const comma = parseSipMessage(
      utf8('BYE sip:b SIP/2.0\r\nVia: SIP/2.0/UDP a;x="1,\\"2;3";branch=b, SIP/2.0/UDP c\r\nCSeq: 1 BYE\r\n\r\n'),
    );
    expect(viaParameter(topVia(comma), "branch")).toBe("b");
    expect(headerOf(withTopVia(comma, { ...topVia(comma), host: "z", port: 1 }).headers, "via")).toBe(
      'SIP/2.0/UDP z:1;x="1,\\"2;3";branch=b, SIP/2.0/UDP c',
    );
  });

  it("have their binary key messages in base64 for sip.js", () => {
    const octets = Uint8Array.from({ length: 64 }, (_, index) => (index === 0 ? 1 : 255 - index));
    const text = sipMessageText(
      withTextualBody(parseSipMessage(message(["Content-Type: Application/MIKEY", "Content-Length: 64"], octets))),
    );
    const [head = "", body = ""] = text.split("\r\n\r\n");
    expect(parseBase64(body)).toEqual(octets);
    expect(head).toContain("Content-Length: 88");
    expect(head).toContain("Content-Transfer-Encoding: base64");
    // And back, where somebody wants octets.
    expect(withBinaryBody(parseSipMessage(utf8(text))).body).toEqual(octets);
    const base64 = parseSipMessage(message(["Content-Type: application/mikey"], "AQEFAA=="));
    expect(withTextualBody(base64)).toBe(base64);
    const other = parseSipMessage(message(["Content-Type: application/octet-stream"], octets));
    expect(withTextualBody(other)).toBe(other);
  });

  it.each([
    ["no end", "BYE sip:b SIP/2.0\r\nCSeq: 1 BYE\r\n"],
    ["no CSeq", "BYE sip:b SIP/2.0\r\nVia: SIP/2.0/UDP a\r\n\r\n"],
    ["another method in CSeq", "BYE sip:b SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n"],
    ["no start line", "\r\nCSeq: 1 INVITE\r\n\r\n"],
    ["another version", "BYE sip:b SIP/3.0\r\nCSeq: 1 BYE\r\n\r\n"],
    ["a header without a name", "BYE sip:b SIP/2.0\r\nCSeq: 1 BYE\r\n: x\r\n\r\n"],
    ["a bare line feed", "BYE sip:b SIP/2.0\r\nCSeq: 1 BYE\r\nX: a\nb: c\r\n\r\n"],
    ["a NUL", "BYE sip:b SIP/2.0\r\nCSeq: 1 BYE\r\nX: a\0b\r\n\r\n"],
    ["too many headers", `BYE sip:b SIP/2.0\r\nCSeq: 1 BYE\r\n${"X: 1\r\n".repeat(201)}\r\n`],
    ["too long a head", `BYE sip:b SIP/2.0\r\nCSeq: 1 BYE\r\nX: ${"1".repeat(MAX_HEAD)}\r\n\r\n`],
    ["too long a body", `BYE sip:b SIP/2.0\r\nCSeq: 1 BYE\r\n\r\n${"1".repeat(MAX_BODY + 1)}`],
  ])("are refused with %s", (_name, text) => {
    expect(() => parseSipMessage(utf8(text))).toThrow(expect.objectContaining({ code: "node.sip-message" }));
  });

  it.each(["", "SIP/2.0/UDP", "SIP/2.0/UDP a b", "SIP/2.0/UDP a:123456", "HTTP/1.1 a", `SIP/2.0/UDP ${" ".repeat(5000)}!`])(
    "are refused with the Via %j",
    (via) => {
      const octets = utf8(`BYE sip:b SIP/2.0\r\nVia: ${via}\r\nCSeq: 1 BYE\r\n\r\n`);
      expect(() => topVia(parseSipMessage(octets))).toThrow(expect.objectContaining({ code: "node.sip-message" }));
    },
  );

  it("never make the reader do anything but give a message or a typed error", () => {
    const mutated = fc
      .tuple(fc.nat(INVITE.length), fc.nat(8), fc.string({ unit: "binary", maxLength: 6 }))
      .map(([at, cut, put]) => utf8(INVITE.slice(0, at) + put + INVITE.slice(at + cut)));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated), (octets) => {
        try {
          const read = parseSipMessage(octets);
          topVia(read);
          const again = parseSipMessage(encodeSipMessage(read));
          expect(again.body).toEqual(read.body);
          expect(again.headers.filter(({ name }) => name !== "content-length")).toEqual(
            read.headers.filter(({ name }) => name !== "content-length"),
          );
        } catch (error) {
          expect(error).toBeInstanceOf(WatchwordError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("the framer", () => {
  it("cuts a stream wherever it is torn", () => {
    const parts = [INVITE, INVITE.replace("Content-Length: 5", "l: 0").slice(0, -5), INVITE];
    const stream = utf8(`\r\n\r\n${parts.join("\r\n\r\n")}`);
    fc.assert(
      fc.property(fc.array(fc.nat(stream.length), { maxLength: 8 }), (cuts) => {
        const framer = createSipFramer();
        const edges = [0, ...[...cuts].sort((a, b) => a - b), stream.length];
        const messages = edges.slice(1).flatMap((end, index) => framer.push(stream.subarray(edges[index], end)));
        expect(messages.map(({ body }) => utf8Text(body))).toEqual(["v=0\r\n", "", "v=0\r\n"]);
        expect(framer.partial).toBe(false);
        expect(framer.takePings()).toBe(3);
      }),
      { numRuns: 100 },
    );
  });

  it("takes a message octet by octet", () => {
    const framer = createSipFramer();
    const messages = [...utf8(INVITE)].flatMap((octet) => framer.push(Uint8Array.of(octet)));
    expect(messages.length).toBe(1);
  });

  it.each([
    ["without Content-Length", INVITE.replace("Content-Length: 5\r\n", "")],
    ["with a negative one", INVITE.replace("Content-Length: 5", "Content-Length: -5")],
    ["with a huge one", INVITE.replace("Content-Length: 5", "Content-Length: 99999999")],
    ["whose head does not end", `INVITE sip:b SIP/2.0\r\nX: ${"x".repeat(MAX_HEAD)}`],
  ])("gives up on a message %s", (_name, text) => {
    expect(() => createSipFramer().push(utf8(text))).toThrow(expect.objectContaining({ code: "node.sip-message" }));
  });
});
