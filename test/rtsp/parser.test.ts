import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError, concatBytes, utf8, utf8Text } from "../../src/bytes/index.js";
import {
  createRequest,
  createResponse,
  createRtspParser,
  encodeFrame,
  encodeRtsp,
  header,
  headers,
  type RtspItem,
  type RtspLimits,
  RtspSyntaxError,
  sequenceNumber,
} from "../../src/rtsp/index.js";

function parseAll(octets: Uint8Array, limits?: RtspLimits): RtspItem[] {
  const items: RtspItem[] = [];
  createRtspParser(limits).push(octets, (item) => items.push(item));
  return items;
}

const CONVERSATION = concatBytes(
  utf8("OPTIONS rtsp://h/s RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: a\r\nUser-Agent: b\r\n\r\n"),
  encodeFrame(1, Uint8Array.of(0x24, 0x0d, 0x0a, 0x0d, 0x0a)),
  utf8("\r\nRTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 5\r\n\r\nv=0\r\n"),
  encodeFrame(255, new Uint8Array(0)),
  utf8('SETUP rtsp://h/s/t RTSP/1.0\nCSeq: 2\nKeyMgmt: prot=mikey;\n uri="x";\n\tdata="AA=="\nTransport : RTP/AVP\n\n'),
  utf8("RTSP/1.0 454\r\ncseq:3\r\n\r\n"),
);

describe("the parser", () => {
  const items = parseAll(CONVERSATION);

  it("finds requests, responses and frames", () => {
    expect(
      items.map((item) =>
        item.kind === "frame" ? [item.kind, item.channel, item.data.length] : [item.kind, sequenceNumber(item)],
      ),
    ).toEqual([
      ["request", 1],
      ["frame", 1, 5],
      ["response", 1],
      ["frame", 255, 0],
      ["request", 2],
      ["response", 3],
    ]);
    expect(items[0]).toMatchObject({ method: "OPTIONS", uri: "rtsp://h/s", version: "RTSP/1.0" });
    expect(items[2]).toMatchObject({ status: 200, reason: "OK", body: utf8("v=0\r\n") });
    expect(items[5]).toMatchObject({ status: 454, reason: "" });
  });

  it("keeps duplicates, unfolds values, compares names without case", () => {
    const [first, , , , fifth] = items;
    if (first?.kind !== "request" || fifth?.kind !== "request") throw new Error("unexpected");
    expect(headers(first, "user-agent")).toEqual(["a", "b"]);
    expect(header(first, "USER-AGENT")).toBe("a");
    expect(header(fifth, "keymgmt")).toBe('prot=mikey; uri="x"; data="AA=="');
    expect(header(fifth, "transport")).toBe("RTP/AVP");
    expect(header(fifth, "session")).toBeUndefined();
  });

  it("gives the same items split at every octet", () => {
    for (let at = 0; at <= CONVERSATION.length; at++) {
      const parser = createRtspParser();
      const seen: RtspItem[] = [];
      parser.push(CONVERSATION.slice(0, at), (item) => seen.push(item));
      parser.push(CONVERSATION.slice(at), (item) => seen.push(item));
      expect(seen).toEqual(items);
      expect(parser.idle).toBe(true);
    }
  });

  it("gives the same items octet by octet", () => {
    const parser = createRtspParser();
    const seen: RtspItem[] = [];
    for (const octet of CONVERSATION) parser.push(Uint8Array.of(octet), (item) => seen.push(item));
    expect(seen).toEqual(items);
  });

  it("knows when a message is under way", () => {
    const parser = createRtspParser();
    expect(parser.idle).toBe(true);
    parser.push(utf8("OPT"), () => {});
    expect(parser.idle).toBe(false);
    parser.push(utf8("IONS * RTSP/1.0\r\nContent-Length: 1\r\n\r\n"), () => {});
    expect(parser.idle).toBe(false);
    parser.push(utf8("x"), () => {});
    expect(parser.idle).toBe(true);
  });

  it.each<[name: string, text: string, code: string, status: number, cseq: number | undefined]>([
    ["junk", "hello\r\n\r\n", "rtsp.start-line", 400, undefined],
    ["HTTP", "GET / HTTP/1.1\r\n\r\n", "rtsp.start-line", 400, undefined],
    ["a method that is no token", "A(B) * RTSP/1.0\r\n\r\n", "rtsp.start-line", 400, undefined],
    ["a URI that is too long", `OPTIONS rtsp://h/${"x".repeat(5000)} RTSP/1.0\r\n\r\n`, "rtsp.start-line", 414, undefined],
    ["a URI with an umlaut", "OPTIONS rtsp://h/\u00e4 RTSP/1.0\r\n\r\n", "rtsp.start-line", 400, undefined],
    ["a header without a colon", "OPTIONS * RTSP/1.0\r\nCSeq: 7\r\nhello\r\n\r\n", "rtsp.header", 400, 7],
    ["a header without a name", "OPTIONS * RTSP/1.0\r\n: x\r\n\r\n", "rtsp.header", 400, undefined],
    ["a NUL", "OPTIONS * RTSP/1.0\r\nA: \0\r\n\r\n", "rtsp.header", 400, undefined],
    ["a fold of nothing", "OPTIONS * RTSP/1.0\r\n x\r\n\r\n", "rtsp.header", 400, undefined],
    ["Content-Length that is no number", "OPTIONS * RTSP/1.0\r\nCSeq: 8\r\nContent-Length: -1\r\n\r\n", "rtsp.header", 400, 8],
    ["two Content-Lengths", "OPTIONS * RTSP/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "rtsp.header", 400, undefined],
    ["a body that is too large", "OPTIONS * RTSP/1.0\r\nCSeq: 9\r\nContent-Length: 262145\r\n\r\n", "rtsp.body-too-large", 413, 9],
    ["a header of 64 KiB", `OPTIONS * RTSP/1.0\r\nX: ${"x".repeat(65_536)}\r\n\r\n`, "rtsp.header-too-large", 400, undefined],
    ["a start line without end", "x".repeat(40_000), "rtsp.header-too-large", 400, undefined],
    ["too many headers", `OPTIONS * RTSP/1.0\r\n${"A: b\r\n".repeat(129)}\r\n`, "rtsp.header-too-large", 400, undefined],
  ])("refuses %s, for good", (_name, text, code, status, cseq) => {
    const parser = createRtspParser();
    const push = (octets: Uint8Array): void => parser.push(octets, () => expect.unreachable());
    expect(() => push(utf8(text))).toThrow(expect.objectContaining({ code, status, sequenceNumber: cseq }));
    expect(() => push(utf8("OPTIONS * RTSP/1.0\r\n\r\n"))).toThrow(RtspSyntaxError);
  });

  it("hands over what came before the fault", () => {
    const seen: RtspItem[] = [];
    expect(() =>
      createRtspParser().push(utf8("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\nhello\r\n\r\n"), (item) => seen.push(item)),
    ).toThrow(RtspSyntaxError);
    expect(seen).toHaveLength(1);
  });

  it("reads another version, for the receiver to refuse", () => {
    expect(parseAll(utf8("OPTIONS * RTSP/2.0\r\nCSeq: 1\r\n\r\n"))).toMatchObject([{ version: "RTSP/2.0" }]);
  });

  it("reads values that are not UTF-8 octet by octet", () => {
    const octets = concatBytes(utf8("OPTIONS * RTSP/1.0\r\nA: "), Uint8Array.of(0xe4), utf8("\r\n\r\n"));
    expect(parseAll(octets)).toMatchObject([{ headers: [["A", "\u00e4"]] }]);
  });

  it("gives items or an RtspSyntaxError for any octets, however split", () => {
    const piece = fc.oneof(
      fc
        .constantFrom(
          "OPTIONS * RTSP/1.0\r\n",
          "RTSP/1.0 200 OK\r\n",
          "CSeq: 1\r\n",
          "\r\n",
          "\n",
          "$\x00\x00\x02ab",
          "Content-Length: 3\r\n",
          " x",
          ":",
          "\0",
        )
        .map(utf8),
      fc.uint8Array({ maxLength: 8 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), fc.integer({ min: 1, max: 7 }), (pieces, step) => {
        const octets = concatBytes(...pieces);
        const outcome = (size: number): unknown => {
          const parser = createRtspParser({ maxHeader: 200 });
          const seen: RtspItem[] = [];
          try {
            for (let at = 0; at < octets.length; at += size) parser.push(octets.slice(at, at + size), (item) => seen.push(item));
          } catch (error) {
            if (!(error instanceof RtspSyntaxError)) throw error;
            return [seen, error.code];
          }
          return [seen, parser.idle];
        };
        expect(outcome(step)).toEqual(outcome(octets.length + 1));
      }),
    );
  });
});

describe("writing", () => {
  it("ends lines with CRLF and counts the body itself", () => {
    const request = createRequest(
      "SET_PARAMETER",
      "rtsp://h/s",
      [
        ["CSeq", "4"],
        ["Content-Length", "999"],
      ],
      utf8("a: b\r\n"),
    );
    expect(utf8Text(encodeRtsp(request))).toBe("SET_PARAMETER rtsp://h/s RTSP/1.0\r\nCSeq: 4\r\nContent-Length: 6\r\n\r\na: b\r\n");
    expect(utf8Text(encodeRtsp(createResponse(463, [["CSeq", "4"]])))).toBe(
      "RTSP/1.0 463 Key management failure\r\nCSeq: 4\r\n\r\n",
    );
    expect(utf8Text(encodeRtsp(createResponse(299, [])))).toBe("RTSP/1.0 299 Unknown\r\n\r\n");
  });

  it.each([
    ["a method with a space", () => encodeRtsp(createRequest("A B", "*", []))],
    ["a URI with a line break", () => encodeRtsp(createRequest("A", "rtsp://h\r\n", []))],
    ["an empty URI", () => encodeRtsp(createRequest("A", "", []))],
    ["a header name with a colon", () => encodeRtsp(createRequest("A", "*", [["a:", "b"]]))],
    ["a header value with a line break", () => encodeRtsp(createRequest("A", "*", [["a", "b\r\nc: d"]]))],
    ["a reason with a line break", () => encodeRtsp(createResponse(200, [], undefined, "x\n"))],
    ["a status of two digits", () => encodeRtsp(createResponse(20, []))],
    ["a channel above 255", () => encodeFrame(256, new Uint8Array(0))],
    ["a frame that is too long", () => encodeFrame(0, new Uint8Array(65_536))],
  ])("refuses %s", (_name, action) => {
    expect(action).toThrow(expect.objectContaining({ code: "rtsp.format" }));
    expect(action).toThrow(CodecError);
  });

  it("is read back", () => {
    const name = fc.stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,12}$/).filter((text) => text.toLowerCase() !== "content-length");
    const value = fc.stringMatching(/^([!-~][ -~]{0,30}[!-~])?$/);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(name, value), { maxLength: 8 }),
        fc.uint8Array({ maxLength: 50 }),
        fc.boolean(),
        (fields, body, request) => {
          const message = request ? createRequest("PLAY", "rtsp://h/s?x", fields, body) : createResponse(200, fields, body);
          const [item] = parseAll(encodeRtsp(message));
          const expected = body.length === 0 ? fields : [...fields, ["Content-Length", String(body.length)]];
          expect(item).toEqual({ ...message, headers: expected });
        },
      ),
    );
  });
});

const golden = resolve(import.meta.dirname, "../../../shared/golden/gst");
describe.skipIf(!existsSync(golden))("dialogues captured from GStreamer", () => {
  const captures = existsSync(golden) ? readdirSync(golden).filter((name) => name.endsWith(".json")) : [];
  it.each(captures)("%s", (name) => {
    const { rtsp_dialogue = [] } = JSON.parse(readFileSync(join(golden, name), "utf8")) as {
      rtsp_dialogue?: { dir: string; text: string }[];
    };
    for (const direction of ["C->S", "S->C"]) {
      const texts = rtsp_dialogue.filter(({ dir }) => dir === direction).map(({ text }) => text);
      const items = parseAll(utf8(texts.join("")));
      expect(items.length).toBe(texts.length);
      for (const item of items) expect(item.kind !== "frame" && sequenceNumber(item)).toBeTypeOf("number");
    }
  });
});
