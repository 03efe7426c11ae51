import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError } from "../../src/bytes/index.js";
import { formatKeyMgmtHeader, formatKeyMgmtParameter, parseKeyMgmtHeader, parseKeyMgmtParameter } from "../../src/sdp/index.js";
import { expectTotal } from "../suites/text-parser.js";

const A = Uint8Array.of(1, 2, 3, 4);

/** Text forms that servers, clients and cameras send, and what they mean. */
const FORMS: readonly (readonly [name: string, text: string, specs: unknown])[] = [
  [
    "quoted, no spaces",
    'prot=mikey;uri="rtsp://h/s/track1";data="AQIDBA=="',
    [{ protocol: "mikey", uri: "rtsp://h/s/track1", data: A }],
  ],
  ["a space after ;", 'prot=mikey; uri="rtsp://h/s"; data="AQIDBA=="', [{ protocol: "mikey", uri: "rtsp://h/s", data: A }]],
  ["an empty uri", 'prot=mikey;uri="";data="AQIDBA=="', [{ protocol: "mikey", uri: "", data: A }]],
  ["no uri", 'prot=mikey;data="AQIDBA=="', [{ protocol: "mikey", data: A }]],
  ["trailing ;", 'prot=mikey;data="AQIDBA==";', [{ protocol: "mikey", data: A }]],
  ["unquoted data and uri", "prot=mikey;uri=rtsp://h/s;data=AQIDBA==", [{ protocol: "mikey", uri: "rtsp://h/s", data: A }]],
  ["unpadded base64", 'prot=mikey;data="AQIDBA"', [{ protocol: "mikey", data: A }]],
  ["any order, any case of names", 'DATA="AQIDBA==";Uri="x";PROT=mikey', [{ protocol: "mikey", uri: "x", data: A }]],
  ["a quoted protocol", 'prot="mikey";data="AQIDBA=="', [{ protocol: "mikey", data: A }]],
  [
    ", and ; inside a quoted uri",
    'prot=mikey;uri="rtsp://h/a;b,c=d?e";data="AQIDBA=="',
    [{ protocol: "mikey", uri: "rtsp://h/a;b,c=d?e", data: A }],
  ],
  [
    "several specifications",
    'prot=foo;uri="u";data="AA==", prot=mikey;data="AQIDBA=="',
    [
      { protocol: "foo", uri: "u", data: Uint8Array.of(0) },
      { protocol: "mikey", data: A },
    ],
  ],
  [
    "a trailing ; before the comma",
    'prot=foo;data=AA==;,prot=mikey;data="AQIDBA==";',
    [{ protocol: "foo" }, { protocol: "mikey" }],
  ],
  ["folded white space", 'prot=mikey;\t uri = "x" ;  data = "AQID BA=="  ', [{ protocol: "mikey", uri: "x", data: A }]],
  ["an unknown parameter", 'prot=mikey;v=1;data="AQIDBA=="', [{ protocol: "mikey", data: A }]],
];

describe("the KeyMgmt header", () => {
  it.each(FORMS)("reads %s", (_name, text, specs) => {
    expect(parseKeyMgmtHeader(text)).toMatchObject(specs as object);
  });

  it.each([
    ["", "sdp.key-mgmt-header"],
    [";", "sdp.key-mgmt-header"],
    ["mikey", "sdp.key-mgmt-header"],
    ["prot=mikey", "sdp.key-mgmt-header"],
    ['data="AQIDBA=="', "sdp.key-mgmt-header"],
    ["prot=mikey;data=", "sdp.key-mgmt-header"],
    ['prot=mikey;data="AQIDBA==', "sdp.key-mgmt-header"],
    ['prot=mikey;data="AQIDBA==" x', "sdp.key-mgmt-header"],
    ['prot=mikey;data="AQIDBA==",', "sdp.key-mgmt-header"],
    [',prot=mikey;data="AQIDBA=="', "sdp.key-mgmt-header"],
    ['prot=mikey;prot=mikey;data="AQIDBA=="', "sdp.key-mgmt-header"],
    ['prot=mi key;data="AQIDBA=="', "sdp.key-mgmt-header"],
    ['prot=mikey;data="A!=="', "bytes.base64"],
    ["prot=a;data=AA==,".repeat(17).slice(0, -1), "sdp.key-mgmt-header"],
    [Array.from({ length: 17 }, (_, index) => `p${index}=1`).join(";"), "sdp.key-mgmt-header"],
    ["x".repeat(65_537), "sdp.too-large"],
  ])("refuses %.60j", (text, code) => {
    expect(() => parseKeyMgmtHeader(text)).toThrow(expect.objectContaining({ code }));
  });

  it("writes the one form that every peer reads", () => {
    expect(formatKeyMgmtHeader([{ protocol: "mikey", uri: "rtsp://h/s", data: A }])).toBe(
      'prot=mikey;uri="rtsp://h/s";data="AQIDBA=="',
    );
    expect(
      formatKeyMgmtHeader([
        { protocol: "a", data: A },
        { protocol: "b", uri: "", data: A },
      ]),
    ).toBe('prot=a;data="AQIDBA==", prot=b;uri="";data="AQIDBA=="');
  });

  it.each([
    [[]],
    [[{ protocol: "mi key", data: A }]],
    [[{ protocol: "mikey", uri: 'a"b', data: A }]],
    [[{ protocol: "mikey", uri: "a\r\nb", data: A }]],
  ])("does not write %j", (specs) => {
    expect(() => formatKeyMgmtHeader(specs)).toThrow(CodecError);
  });

  it("reads what it writes", () => {
    const spec = fc.record(
      {
        protocol: fc.stringMatching(/^[A-Za-z0-9]{1,10}$/),
        uri: fc.webUrl({ withQueryParameters: true }),
        data: fc.uint8Array({ minLength: 1, maxLength: 300 }),
      },
      { requiredKeys: ["protocol", "data"] },
    );
    fc.assert(
      fc.property(fc.array(spec, { minLength: 1, maxLength: 5 }), (specs) => {
        expect(parseKeyMgmtHeader(formatKeyMgmtHeader(specs as never))).toEqual(specs);
      }),
    );
  });

  it("gives a value or a CodecError for any text", () => {
    expectTotal(parseKeyMgmtHeader, ["prot", "=", "mikey", ";", ",", "data", '"', "AQ==", " ", "uri", "\t", "\u0000", "é"]);
  });
});

describe("key management in a parameter body", () => {
  it.each([
    ["mikey: AQIDBA==\r\n", { form: "mikey", specs: [{ protocol: "mikey", data: A }] }],
    ["mikey:AQIDBA", { form: "mikey", specs: [{ protocol: "mikey", data: A }] }],
    [
      'volume: 3\r\nKeyMgmt: prot=mikey;uri="u";data="AQIDBA=="\r\n',
      { form: "KeyMgmt", specs: [{ protocol: "mikey", uri: "u", data: A }] },
    ],
    ['keymgmt: prot=mikey;data="AQIDBA=="', { form: "KeyMgmt", specs: [{ protocol: "mikey", data: A }] }],
  ])("reads %j", (body, expected) => {
    expect(parseKeyMgmtParameter(body)).toEqual(expected);
  });

  it("passes over a body without key management", () => {
    expect(parseKeyMgmtParameter("volume: 3\r\n")).toBeUndefined();
    expect(parseKeyMgmtParameter("")).toBeUndefined();
    expect(parseKeyMgmtParameter("mikey\r\n")).toBeUndefined();
  });

  it("refuses damaged ones", () => {
    expect(() => parseKeyMgmtParameter("mikey: !\r\n")).toThrow(CodecError);
    expect(() => parseKeyMgmtParameter("KeyMgmt: x\r\n")).toThrow(CodecError);
    expect(() => parseKeyMgmtParameter("x".repeat(65_537))).toThrow(expect.objectContaining({ code: "sdp.too-large" }));
    expect(() => formatKeyMgmtParameter("mikey", [{ protocol: "keyp1", data: A }])).toThrow(CodecError);
  });

  it("writes both forms", () => {
    expect(formatKeyMgmtParameter("mikey", [{ protocol: "mikey", data: A }])).toBe("mikey: AQIDBA==\r\n");
    expect(formatKeyMgmtParameter("KeyMgmt", [{ protocol: "mikey", data: A }])).toBe('KeyMgmt: prot=mikey;data="AQIDBA=="\r\n');
  });
});
