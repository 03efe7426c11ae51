import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createSdpEditor } from "../../src/sdp/index.js";

const MIXED =
  "v=0\r\no=- 1 1 IN IP4 0.0.0.0\ns= \rt=0 0\r\na=control:*\r\n\r\nnot a line\r\nm=audio 0 RTP/AVP 0\r\na=sendonly\r\nm=video 0 RTP/AVP 96\na=control:v";

describe("the line editor", () => {
  it("keeps every octet of what it does not touch", () => {
    expect(createSdpEditor(MIXED).format()).toBe(MIXED);
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom("a=x:y", "m=audio 0 RTP/AVP 0", "", "junk", "\r\n", "\n", "\r", "é=\u2028")),
        (parts) => {
          const text = parts.join("");
          expect(createSdpEditor(text).format()).toBe(text);
        },
      ),
    );
  });

  it("knows sections, types, numbers and endings", () => {
    const editor = createSdpEditor(MIXED);
    expect(editor.mediaCount).toBe(2);
    expect(editor.lines.map((line) => [line.number, line.type, line.section, line.ending])).toEqual([
      [1, "v", "session", "\r\n"],
      [2, "o", "session", "\n"],
      [3, "s", "session", "\r"],
      [4, "t", "session", "\r\n"],
      [5, "a", "session", "\r\n"],
      [6, "", "session", "\r\n"],
      [7, "", "session", "\r\n"],
      [8, "m", 0, "\r\n"],
      [9, "a", 0, "\r\n"],
      [10, "m", 1, "\n"],
      [11, "a", 1, ""],
    ]);
    expect(editor.section(0).map((line) => line.text)).toEqual(["m=audio 0 RTP/AVP 0", "a=sendonly"]);
    expect(editor.attributes({ name: "control" }).map(({ value, line }) => [value, line.section])).toEqual([
      ["*", "session"],
      ["v", 1],
    ]);
    expect(editor.attributes({ section: 0 })).toMatchObject([{ name: "sendonly", value: undefined }]);
  });

  it("appends, inserts, replaces and removes", () => {
    const editor = createSdpEditor("v=0\nm=audio 0 RTP/AVP 0\nm=video 0 RTP/AVP 96");
    editor.append("session", "a=one");
    editor.append(0, "a=two");
    editor.append(1, "a=three");
    expect(editor.format()).toBe("v=0\na=one\r\nm=audio 0 RTP/AVP 0\na=two\r\nm=video 0 RTP/AVP 96\r\na=three\r\n");
    editor.insertBefore(1, "a=zero");
    editor.replace(2, "v=1");
    editor.remove(3);
    expect(editor.format()).toBe("a=zero\r\nv=1\nm=audio 0 RTP/AVP 0\na=two\r\nm=video 0 RTP/AVP 96\r\na=three\r\n");
    expect(editor.formatStrict()).toBe("a=zero\r\nv=1\r\nm=audio 0 RTP/AVP 0\r\na=two\r\nm=video 0 RTP/AVP 96\r\na=three\r\n");
  });

  it("appends to an empty description", () => {
    const editor = createSdpEditor("");
    editor.append("session", "v=0");
    expect(editor.format()).toBe("v=0\r\n");
  });

  it.each([
    ["a line that is not there", () => createSdpEditor("v=0\r\n").remove(2), "sdp.line"],
    ["line 0", () => createSdpEditor("v=0\r\n").replace(0, "x"), "sdp.line"],
    ["a section that is not there", () => createSdpEditor("v=0\r\n").append(0, "a=x"), "sdp.section"],
    ["a line break inside a line", () => createSdpEditor("v=0\r\n").append("session", "a=x\r\nm=audio 0 RTP/AVP 0"), "sdp.text"],
    ["a NUL", () => createSdpEditor("v=0\r\n").replace(1, "a=\0"), "sdp.text"],
    ["too much text", () => createSdpEditor("v=0\r\n", { maxLength: 4 }), "sdp.too-large"],
    ["too many lines", () => createSdpEditor("\n\n\n", { maxLines: 2 }), "sdp.too-large"],
  ])("refuses %s", (_name, action, code) => {
    expect(action).toThrow(expect.objectContaining({ code }));
  });
});
