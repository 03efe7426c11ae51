import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CodecError, utf8 } from "../../src/bytes/index.js";
import { carriedKeyMgmt, carryKeyMgmt, type KeyMgmtForm, soleMessage } from "../../src/rtsp/key-mgmt-carriage.js";
import { createRequest, createResponse } from "../../src/rtsp/message.js";

const SMALL = { protocol: "mikey", uri: "rtsp://server/s", data: utf8("a message") };
const LARGE = { protocol: "mikey", uri: "rtsp://server/s", data: new Uint8Array(20_000).fill(7) };

function request(specs: readonly (typeof SMALL)[], form?: KeyMgmtForm) {
  const { fields, body } = carryKeyMgmt(specs, form);
  return createRequest("SET_PARAMETER", "rtsp://server/s", fields, body);
}

describe("where key management rides", () => {
  it("in the header while it fits, else as a body of type application/mikey", () => {
    expect(carriedKeyMgmt(request([SMALL]))).toEqual({ form: "header", specs: [SMALL] });
    const large = request([LARGE]);
    expect(large.headers).toEqual([["Content-Type", "application/mikey"]]);
    expect(carriedKeyMgmt(large)).toEqual({ form: "body", specs: [{ protocol: "mikey", data: LARGE.data }] });
    // Several messages have their URIs in the header alone.
    expect(carriedKeyMgmt(request([LARGE, SMALL]))).toEqual({ form: "header", specs: [LARGE, SMALL] });
    expect(carriedKeyMgmt(request([SMALL], "body"))?.form).toBe("body");
    expect(carryKeyMgmt([])).toEqual({ fields: [] });
  });

  it("in text parameters, where they are asked for", () => {
    expect(carriedKeyMgmt(request([SMALL], "KeyMgmt"), true)).toEqual({ form: "KeyMgmt", specs: [SMALL] });
    expect(carriedKeyMgmt(request([SMALL], "mikey"), true)).toEqual({
      form: "mikey",
      specs: [{ protocol: "mikey", data: SMALL.data }],
    });
    expect(carriedKeyMgmt(request([SMALL], "mikey"))).toBeUndefined();
  });

  it("in the header where both are there", () => {
    const { fields } = carryKeyMgmt([SMALL]);
    const both = createResponse(200, [...fields, ["Content-Type", "application/mikey"]], utf8("another"));
    expect(carriedKeyMgmt(both)?.specs).toEqual([SMALL]);
  });

  it("as one message: absent, unreadable, readable", () => {
    expect(soleMessage(createResponse(200, []))).toBeUndefined();
    expect(soleMessage(createResponse(200, [["KeyMgmt", "what?"]]))).toEqual(new Uint8Array(0));
    expect(soleMessage(createResponse(200, [["KeyMgmt", 'prot=keyp1;data="AAAA"']]))).toEqual(new Uint8Array(0));
    expect(soleMessage(request([SMALL]))).toEqual(SMALL.data);
    expect(soleMessage(request([LARGE]))).toEqual(LARGE.data);
  });

  it("of any message is a value or a typed error", () => {
    fc.assert(
      fc.property(
        fc.string(),
        fc.uint8Array({ maxLength: 200 }),
        fc.constantFrom("text/parameters", "application/mikey"),
        (value, body, type) => {
          for (const fields of [[["KeyMgmt", value]], [["Content-Type", type]]] as const) {
            try {
              carriedKeyMgmt(createRequest("SETUP", "rtsp://server/s", fields, body), true);
            } catch (error) {
              expect(error).toBeInstanceOf(CodecError);
            }
          }
        },
      ),
    );
  });
});
