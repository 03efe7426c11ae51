import { expect, it } from "vitest";
import { mediaTracksOf } from "../../src/rtsp/index.js";
import { parseDescription } from "../../src/sdp/index.js";

it("mediaTracksOf tells what a sink has to know of every m= line", () => {
  const lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=-", "t=0 0", "m=video 0 RTP/SAVP 96", "a=rtpmap:96 H264/90000"];
  const more = ["a=fmtp:96 packetization-mode=1", "m=audio 0 RTP/SAVP 97", "a=rtpmap:97 opus/48000/2", "m=audio 0 RTP/SAVP 0", ""];
  expect(mediaTracksOf(parseDescription([...lines, ...more].join("\r\n")))).toEqual([
    { media: "video", payloadType: 96, rtpmap: "H264/90000", clockRate: 90_000, fmtp: "packetization-mode=1" },
    { media: "audio", payloadType: 97, rtpmap: "opus/48000/2", clockRate: 48_000 },
    { media: "audio", payloadType: 0, rtpmap: "PCMU/8000", clockRate: 8000 },
  ]);
});
