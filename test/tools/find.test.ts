import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError, formatHex } from "../../src/bytes/index.js";
import { findMikey, inspectOctets, inspectText, MAX_FOUND, MAX_INPUT } from "../../src/tools/index.js";
import { octetsOf, STRICT_BASE64, STRICT_OCTETS } from "./messages.js";

const lines = (...text: readonly string[]): string => `${text.join("\r\n")}\r\n`;

/** Where messages were found; each must be the strict one. */
function places(text: string): string[] {
  const found = findMikey(text);
  for (const { octets, problems } of found) {
    expect(octets, JSON.stringify(problems)).toEqual(STRICT_OCTETS);
  }
  return found.map(({ where }) => where);
}

const SDP = [
  "v=0",
  "o=- 1 1 IN IP4 127.0.0.1",
  "s=-",
  `a=key-mgmt:mikey ${STRICT_BASE64}`,
  "m=audio 0 RTP/SAVP 0",
  "a=control:streamid=0",
  "m=video 0 RTP/SAVP 96",
  `a=key-mgmt: mikey ${STRICT_BASE64}`,
  "a=key-mgmt:other AAAA",
  `a=acap:3 key-mgmt:mikey ${STRICT_BASE64}`,
];

describe("finding", () => {
  it.each([
    ["base64", STRICT_BASE64],
    ["base64", STRICT_BASE64.replaceAll("=", "")],
    ["base64", ` \n${STRICT_BASE64.slice(0, 60)}\r\n ${STRICT_BASE64.slice(60)}\n`],
    ["hexadecimal", formatHex(STRICT_OCTETS)],
    [
      "hexadecimal",
      formatHex(STRICT_OCTETS)
        .toUpperCase()
        .replaceAll(/(.{32})/g, "$1\n"),
    ],
    ["hexadecimal", formatHex(STRICT_OCTETS).replaceAll(/(..)/g, "$1 ")],
  ])("the whole text is %s", (where, text) => {
    expect(places(text)).toEqual([where]);
  });

  it("several messages, one a line", () => {
    expect(places(`${STRICT_BASE64}\n${STRICT_BASE64}\n${formatHex(STRICT_OCTETS)}\n`)).toEqual(["line 1", "line 2", "line 3"]);
  });

  it("SDP: session and media level, capabilities, beside other protocols", () => {
    expect(places(lines(...SDP))).toEqual([
      "line 4: a=key-mgmt, session level",
      "line 8: a=key-mgmt, media 1",
      "line 10: a=acap:3 key-mgmt, media 1",
    ]);
    const [session, media, capability] = findMikey(SDP.join("\n"));
    expect(session?.protocols).toEqual(["mikey"]);
    expect(media?.protocols).toEqual(["mikey", "other"]);
    expect(capability?.protocols).toEqual(["mikey"]);
  });

  it("RTSP: KeyMgmt headers of every form, folded, and parameters", () => {
    expect(
      places(
        lines(
          "SETUP rtsp://127.0.0.1/a RTSP/1.0",
          "CSeq: 3",
          `KeyMgmt: prot=mikey;uri="rtsp://127.0.0.1/a";data="${STRICT_BASE64}"`,
          "",
          "RTSP/1.0 200 OK",
          `keymgmt: prot=mikey; uri="";`,
          ` data="${STRICT_BASE64}"`,
          "CSeq: 3",
          "",
          "SET_PARAMETER rtsp://127.0.0.1/a RTSP/1.0",
          "Content-Type: text/parameters",
          "",
          `mikey: ${STRICT_BASE64}`,
        ),
      ),
    ).toEqual([
      "line 3: SETUP request, KeyMgmt",
      "line 6: 200 response, KeyMgmt",
      "line 13: SET_PARAMETER request, mikey parameter",
    ]);
  });

  it("RTSP 2.0: the MIKEY transport parameter", () => {
    expect(
      places(lines("SETUP rtsps://127.0.0.1/a RTSP/2.0", `Transport: RTP/SAVP;unicast;MIKEY="${STRICT_BASE64}";dest_addr=":1"`)),
    ).toEqual(["line 2: SETUP request, Transport MIKEY"]);
  });

  it("a DESCRIBE answer: the SDP body", () => {
    expect(places(lines("RTSP/1.0 200 OK", "Content-Type: application/sdp", "", ...SDP.slice(0, 5)))).toEqual([
      "line 7: 200 response, a=key-mgmt, session level",
    ]);
  });

  it("SIP: bodies in base64, with and without length, between boundaries", () => {
    const body = lines("BYE sip:a@127.0.0.1 SIP/2.0", "c: application/mikey", "l: 20000", "", STRICT_BASE64);
    expect(places(body)).toEqual(["line 5: BYE request, application/mikey body, base64"]);
    const parts = lines(
      "INVITE sip:a@127.0.0.1 SIP/2.0",
      "Content-Type: multipart/mixed;boundary=x",
      "",
      "--x",
      "Content-Type: application/sdp",
      "",
      ...SDP.slice(0, 4),
      "--x",
      'Content-Type: Application/MIKEY;version="1"',
      "",
      STRICT_BASE64.slice(0, 76),
      STRICT_BASE64.slice(76),
      "--x--",
    );
    expect(places(parts)).toEqual([
      "line 10: INVITE request, a=key-mgmt, session level",
      "line 14: INVITE request, application/mikey body, base64",
    ]);
  });

  it("SIP: binary bodies, whatever octets they hold", () => {
    const start = lines(
      "INVITE sip:a@127.0.0.1 SIP/2.0",
      "Content-Type: application/mikey",
      `Content-Length: ${STRICT_OCTETS.length}`,
      "",
    );
    const twice = octetsOf(start, STRICT_OCTETS, start, STRICT_OCTETS);
    const inspections = inspectOctets(twice, { reveal: true });
    expect(inspections.map(({ where }) => where.replace(/line \d+/, ""))).toEqual([
      ": INVITE request, application/mikey body, binary",
      ": INVITE request, application/mikey body, binary",
    ]);
    for (const { octets } of inspections) expect(octets).toBe(formatHex(STRICT_OCTETS));
    const boundary = octetsOf(lines("--x", "Content-Type: application/mikey", ""), STRICT_OCTETS, "\r\n--x--\r\n");
    expect(inspectOctets(boundary, { reveal: true })[0]?.octets).toBe(formatHex(STRICT_OCTETS));
  });

  it("binary alone, a byte order mark before text", () => {
    expect(inspectOctets(STRICT_OCTETS)[0]).toMatchObject({ where: "binary", valid: true });
    expect(inspectOctets(octetsOf(`\ufeff${lines(...SDP)}`))).toHaveLength(3);
    expect(inspectText(`\ufeff${STRICT_BASE64}`)).toHaveLength(1);
  });

  it("octets that are no text and no message are shown as what they are not", () => {
    const [inspection] = inspectOctets(Uint8Array.of(2, 0, 5, 0));
    expect(inspection).toMatchObject({ where: "binary", valid: false, message: undefined });
    expect(inspection?.problems[0]?.code).toBe("mikey.version");
  });

  it("words in a log", () => {
    expect(places(`10:00:01 DEBUG offer=<${STRICT_BASE64}> sent\n10:00:02 rx ${formatHex(STRICT_OCTETS)}\n`)).toEqual([
      "line 1",
      "line 2",
    ]);
  });

  it("nothing where there is nothing", () => {
    for (const text of ["", "hello", "v=0\r\na=sendonly\r\n", "AQAFADM6h+4BAAARI", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"]) {
      expect(findMikey(text).filter(({ octets }) => octets !== undefined && text.length > 20)).toEqual([]);
    }
    expect(findMikey("hello")).toEqual([]);
  });

  it("malformed text is reported where it stands", () => {
    const text = lines("SETUP rtsp://a RTSP/1.0", "KeyMgmt: prot=mikey;data=", "", "a=key-mgmt:mikey !!!", "a=key-mgmt:MIKEY AQ==");
    const found = findMikey(text);
    expect(found.map(({ where, octets, problems }) => [where, octets?.length, problems.map(({ code }) => code)])).toEqual([
      ["line 2: SETUP request, KeyMgmt", undefined, ["sdp.key-mgmt-header"]],
      ["line 4: SETUP request, a=key-mgmt, session level", undefined, ["bytes.base64"]],
      ["line 5: SETUP request, a=key-mgmt, session level", 1, ["lint.protocol-case"]],
    ]);
  });

  it("is bounded", () => {
    expect(() => findMikey(" ".repeat(MAX_INPUT + 1))).toThrow(expect.objectContaining({ code: "tools.too-large" }));
    const many = `a=key-mgmt:mikey ${STRICT_BASE64}\n`.repeat(MAX_FOUND + 1);
    expect(() => findMikey(many)).toThrow(expect.objectContaining({ code: "tools.too-many-messages" }));
  });

  it("any text gives findings or a typed error", () => {
    const piece = fc.constantFrom(
      "v=0",
      "m=audio 0 RTP/SAVP 0",
      `a=key-mgmt:mikey ${STRICT_BASE64}`,
      "a=key-mgmt:",
      "a=acap:1 key-mgmt:mikey AQ",
      `KeyMgmt: prot=mikey;data="${STRICT_BASE64}"`,
      "KeyMgmt: ",
      "mikey: AQAF",
      "mikey:",
      "Content-Type: application/mikey",
      "Content-Length: 7",
      "",
      "\u0001\u0000",
      "--x",
      "INVITE sip:a SIP/2.0",
      "RTSP/1.0 200 OK",
      " folded",
      STRICT_BASE64.slice(0, 40),
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(piece, fc.string({ maxLength: 30 })), { maxLength: 20 }), (pieces) => {
        try {
          for (const { valid, message } of inspectText(pieces.join("\r\n"))) expect(valid && message === undefined).toBe(false);
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError);
        }
      }),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (octets) => {
        for (const { where } of inspectOctets(octets)) expect(where).not.toBe("");
      }),
      { numRuns: 300 },
    );
  });
});
