import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { createSdpEditor, formatDescription, parseDescription, readKeyMgmt } from "../../src/sdp/index.js";
import { expectTotal } from "../suites/text-parser.js";

const SERVER_SDP = [
  "v=0",
  "o=- 1 1 IN IP4 127.0.0.1",
  "s=Live",
  "c=IN IP4 239.1.2.3/16",
  "t=0 0",
  "a=control:*",
  "a=range:npt=now-",
  "m=video 0 RTP/SAVP 96 97",
  "c=IN IP4 0.0.0.0",
  "a=rtpmap:96 H264/90000",
  "a=fmtp:96 packetization-mode=1;profile-level-id=42c00c",
  "a=control:stream=0",
  "a=ssrc:1401489307 cname:a@b",
  "a=ssrc:1401489307 msid:x",
  "m=audio 5004/2 RTP/SAVPF 0",
  "a=rtpmap:0 PCMU/8000/2",
  "a=rtpmap:200 BAD/8000",
  "a=rtpmap:97 BAD",
  "a=control:1",
  "",
].join("\r\n");

describe("parseDescription", () => {
  it("takes no time to live that is none (RFC 4566 §5.7)", () => {
    const connection = (ttl: string) => parseDescription(SERVER_SDP.replace("239.1.2.3/16", `239.1.2.3${ttl}`)).connection;
    expect(connection("/255")).toEqual({ family: 4, address: "239.1.2.3", ttl: 255 });
    expect(connection("/256")).toBeUndefined();
    expect(connection("/0")).toEqual({ family: 4, address: "239.1.2.3", ttl: 0 });
  });

  it("reads what playing needs", () => {
    expect(parseDescription(SERVER_SDP)).toEqual({
      name: "Live",
      connection: { family: 4, address: "239.1.2.3", ttl: 16 },
      control: "*",
      range: "npt=now-",
      media: [
        {
          kind: "video",
          port: 0,
          profile: "RTP/SAVP",
          formats: ["96", "97"],
          connection: { family: 4, address: "0.0.0.0" },
          rtpMaps: [{ payloadType: 96, encoding: "H264", clockRate: 90_000 }],
          formatParameters: [{ payloadType: 96, config: "packetization-mode=1;profile-level-id=42c00c" }],
          control: "stream=0",
          ssrcs: [1_401_489_307],
        },
        {
          kind: "audio",
          port: 5004,
          profile: "RTP/SAVPF",
          formats: ["0"],
          rtpMaps: [{ payloadType: 0, encoding: "PCMU", clockRate: 8000, channels: 2 }],
          formatParameters: [],
          control: "1",
          ssrcs: [],
        },
      ],
    });
  });

  it("reads IPv6 connections", () => {
    expect(parseDescription("c=IN IP6 FF15::101/3\r\n").connection).toEqual({ family: 6, address: "FF15::101" });
  });

  it.each([
    ["an m= line that is none", "v=0\r\nm=audio\r\n", "sdp.media"],
    ["a port out of range", "m=audio 65536 RTP/AVP 0\r\n", "sdp.media"],
    ["too many media", "m=audio 0 RTP/AVP 0\r\n".repeat(65), "sdp.too-large"],
    ["too much text", "x".repeat(262_145), "sdp.too-large"],
  ])("refuses %s", (_name, text, code) => {
    expect(() => parseDescription(text)).toThrow(expect.objectContaining({ code }));
  });

  it("gives a value or a CodecError for any text", () => {
    expectTotal(parseDescription, [
      "m=",
      "audio 0 RTP/AVP 0",
      "\r\n",
      "a=rtpmap:",
      "96 ",
      "X/",
      "8000",
      "c=IN IP4 ",
      "a=control:",
      "a=fmtp:",
      "a=ssrc:",
      "\n",
      "1 ",
      "é",
    ]);
  });
});

describe("formatDescription", () => {
  const input = {
    sessionId: "7",
    sessionVersion: 1,
    address: "192.0.2.1",
    name: "tone",
    attributes: ["x-watchword:1"],
    media: [
      {
        kind: "audio",
        profile: "RTP/SAVP",
        payloadType: 0,
        rtpmap: "PCMU/8000",
        bandwidth: 64,
        control: "track1",
        attributes: ["key-mgmt:mikey AQID"],
        ssrc: 17,
      },
      {
        kind: "video",
        profile: "RTP/SAVP",
        payloadType: 96,
        rtpmap: "H264/90000",
        formatParameters: "packetization-mode=1",
        control: "track2",
      },
    ],
  };

  it("says a link-local address without its zone (RFC 4007 §11)", () => {
    expect(formatDescription({ ...input, address: "fe80::1%eth0" })).toContain("\r\no=- 7 1 IN IP6 fe80::1\r\n");
  });

  it("writes lines in the order that GStreamer's server has them", () => {
    expect(formatDescription(input).split("\r\n")).toEqual([
      "v=0",
      "o=- 7 1 IN IP4 192.0.2.1",
      "s=tone",
      "t=0 0",
      "a=tool:watchword",
      "a=type:broadcast",
      "a=control:*",
      "a=range:npt=now-",
      "a=x-watchword:1",
      "m=audio 0 RTP/SAVP 0",
      "c=IN IP4 0.0.0.0",
      "b=AS:64",
      "a=rtpmap:0 PCMU/8000",
      "a=control:track1",
      "a=key-mgmt:mikey AQID",
      "a=ssrc:17 cname:watchword",
      "m=video 0 RTP/SAVP 96",
      "c=IN IP4 0.0.0.0",
      "a=rtpmap:96 H264/90000",
      "a=fmtp:96 packetization-mode=1",
      "a=control:track2",
      "",
    ]);
  });

  it("reads back", () => {
    const description = parseDescription(formatDescription(input));
    expect(description).toMatchObject({
      name: "tone",
      control: "*",
      media: [{ control: "track1", ssrcs: [17] }, { control: "track2" }],
    });
    expect(readKeyMgmt(formatDescription(input)).effective.map((media) => media.length)).toEqual([1, 0]);
  });

  it("lets no value break out of its line", () => {
    expect(() => formatDescription({ ...input, name: "a\r\nm=audio 0 RTP/AVP 0" })).toThrow(
      expect.objectContaining({ code: "sdp.text" }),
    );
  });
});

const golden = resolve(import.meta.dirname, "../../../shared/golden/gst");
describe.skipIf(!existsSync(golden))("descriptions captured from GStreamer", () => {
  const captures = existsSync(golden) ? readdirSync(golden).filter((name) => name.endsWith(".json")) : [];
  it.each(captures)("%s", (name) => {
    const { sdp } = JSON.parse(readFileSync(join(golden, name), "utf8")) as { sdp?: string };
    if (sdp === undefined) return;
    expect(createSdpEditor(sdp).format()).toBe(sdp);
    const description = parseDescription(sdp);
    const keyMgmt = readKeyMgmt(sdp);
    for (const [index, media] of description.media.entries()) {
      expect(media.profile).toBe("RTP/SAVP");
      expect(media.control).toBeDefined();
      expect(keyMgmt.effective[index]).toMatchObject([{ protocol: "mikey", problem: undefined }]);
    }
  });
});
