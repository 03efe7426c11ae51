import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatBase64, formatHex } from "../../src/bytes/index.js";
import { redact } from "../../src/tools/index.js";
import { KEY, STRICT_BASE64, STRICT_OCTETS } from "./messages.js";

const KEY_BASE64 = formatBase64(KEY);

describe("redact", () => {
  it.each([
    [`a=key-mgmt:mikey ${STRICT_BASE64}\r\nm=`, "a=key-mgmt:mikey [redacted]\r\nm="],
    [`a=acap:1 key-mgmt:mikey ${STRICT_BASE64}`, "a=acap:1 key-mgmt:mikey [redacted]"],
    [`KeyMgmt: prot=mikey;uri="rtsp://h/a";data="${STRICT_BASE64}"`, 'KeyMgmt: prot=mikey;uri="rtsp://h/a";data="[redacted]"'],
    [`KeyMgmt: prot=mikey; data=${STRICT_BASE64}`, "KeyMgmt: prot=mikey; data=[redacted]"],
    [`mikey: ${STRICT_BASE64}\r\n`, "mikey: [redacted]\r\n"],
    [`Transport: RTP/SAVP;MIKEY="${STRICT_BASE64}";x`, 'Transport: RTP/SAVP;MIKEY="[redacted]";x'],
    [
      `a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:${KEY_BASE64}|2^20|1:4`,
      "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:[redacted]|2^20|1:4",
    ],
    [`offer ${STRICT_BASE64} sent`, "offer [redacted] sent"],
    [`key=${formatHex(KEY)};`, "key=[redacted];"],
    [`rx ${formatHex(STRICT_OCTETS)}`, "rx [redacted]"],
    ["Authorization: Basic dXNlcjpzZWNyZXQ=", "Authorization: Basic [redacted]"],
    ['response="0123456789abcdef0123456789abcdef", x', 'response="[redacted]", x'],
    ["rtsp://user:secret@127.0.0.1:554/a", "rtsp://user:[redacted]@127.0.0.1:554/a"],
    ["rtsp://user:p@ss@127.0.0.1:554/a@b", "rtsp://user:[redacted]@127.0.0.1:554/a@b"],
    ["watchword play rtsps://h/a --user viewer:secret --json", "watchword play rtsps://h/a --user viewer:[redacted] --json"],
    ["serve --publish-user=studio:secret", "serve --publish-user=studio:[redacted]"],
    ["Authorization: Bearer 01-23_45.67~89X=", "Authorization: Bearer [redacted]"],
    ["--psk camera:00112233445566778899aabbccddeeff", "--psk camera:[redacted]"],
    [`${STRICT_BASE64.slice(0, 76)}\r\n${STRICT_BASE64.slice(76)}\r\n`, "[redacted]\r\n[redacted]\r\n"],
  ])("%s", (text, expected) => {
    expect(redact(text)).toBe(expected);
  });

  it("leaves ordinary text alone", () => {
    const text = [
      "SETUP rtsp://127.0.0.1:8554/live/track1 RTSP/1.0",
      "CSeq: 3",
      "Session: 12345678;timeout=60",
      "Transport: RTP/SAVP;unicast;client_port=5000-5001;ssrc=0A0B0C0D",
      "Content-Type: application/sdp",
      "a=rtpmap:96 H264/90000",
    ].join("\r\n");
    expect(redact(text)).toBe(text);
  });

  it("no key survives in any surroundings", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 40 }), fc.string({ maxLength: 40 }), (before, after) => {
        const text = `${before}\na=key-mgmt:mikey ${STRICT_BASE64}\n${after}\nkey ${formatHex(KEY)}\n${before}`;
        expect(redact(text)).not.toContain(STRICT_BASE64.slice(-40));
        expect(redact(text)).not.toContain(formatHex(KEY));
      }),
    );
  });
});
