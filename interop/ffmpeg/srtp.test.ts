import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { concatBytes, formatBase64 } from "../../src/bytes/index.js";
import { createDatagramsFactory, TONE_PERIOD, toneFrame } from "../../src/node/index.js";
import type { SuiteName } from "../../src/srtp/index.js";
import { frameHashesOf, masterKey, protect, srtpReceiver, srtpSender, toneHashesFrom, tonePackets, unprotect } from "../media.js";
import { describePeer } from "../peers.js";
import { startProcess } from "../process.js";

const SSRC = 0x0badcafe;
const datagrams = createDatagramsFactory();

interface Row {
  /** ffmpeg's name: its own spelling of the _32 suite shortens the SRTCP tag as well, the other follows RFC 3711 §5.2. */
  readonly name: string;
  readonly suite: SuiteName;
  readonly policy?: { readonly rtcpTagLength: number };
}

const ROWS: readonly Row[] = [
  { name: "AES_CM_128_HMAC_SHA1_80", suite: "AES_CM_128_HMAC_SHA1_80" },
  { name: "SRTP_AES128_CM_HMAC_SHA1_80", suite: "AES_CM_128_HMAC_SHA1_80" },
  { name: "AES_CM_128_HMAC_SHA1_32", suite: "AES_CM_128_HMAC_SHA1_32", policy: { rtcpTagLength: 4 } },
  { name: "SRTP_AES128_CM_HMAC_SHA1_32", suite: "AES_CM_128_HMAC_SHA1_32" },
];

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "watchword-ffmpeg-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

describePeer("ffmpeg", "SRTP media both ways [SRTP both ways]", () => {
  it.each(ROWS)("we open what ffmpeg sends with $name, RTP and RTCP [$suite]", async ({ name, suite, policy }) => {
    const octets = masterKey(suite);
    const receiver = srtpReceiver({ suite, octets, ...(policy === undefined ? {} : { policy }) });
    const [rtp, rtcp] = await datagrams.bindPair("127.0.0.1");
    onTestFinished(() => {
      rtp.close();
      rtcp.close();
    });
    const media: Uint8Array[] = [];
    const reports: Uint8Array[] = [];
    const failures: number[] = [];
    rtp.onDatagram = (packet) => {
      const plain = unprotect(receiver, packet);
      if (typeof plain === "number") failures.push(plain);
      else media.push(plain.subarray(12));
    };
    rtcp.onDatagram = (packet) => {
      const plain = unprotect(receiver, packet, "rtcp");
      if (typeof plain === "number") failures.push(plain);
      else reports.push(plain);
    };
    const tone = concatBytes(...Array.from({ length: TONE_PERIOD / 2 }, (_, index) => toneFrame(index)));
    const file = join(temporaryFolder(), "tone.ul");
    writeFileSync(file, tone);
    const input = ["-re", "-f", "mulaw", "-ar", "8000", "-ac", "1", "-i", file, "-c", "copy"];
    const output = ["-f", "rtp", "-srtp_out_suite", name, "-srtp_out_params", formatBase64(octets)];
    const url = `srtp://127.0.0.1:${rtp.local.port}?rtcpport=${rtcp.local.port}`;
    const result = await startProcess({ onTestFinished }, "ffmpeg", [
      "-hide_banner",
      "-loglevel",
      "error",
      ...input,
      ...output,
      url,
    ]).ended;
    expect(result.stderr).toBe("");
    await expect.poll(() => concatBytes(...media).length).toBe(tone.length);
    expect(concatBytes(...media)).toEqual(tone);
    expect(failures).toEqual([]);
    // A sender report first, and BYE or another report at the end.
    expect(reports[0]?.[1]).toBe(200);
    expect(receiver.rtcpStatistics.packets).toBeGreaterThan(0);
  });

  it.each(ROWS.filter(({ name }) => name.startsWith("AES")))(
    "ffmpeg decodes what we send with $name [$suite]",
    async ({ name, suite, policy }) => {
      const octets = masterKey(suite);
      const sender = srtpSender({ suite, octets, ...(policy === undefined ? {} : { policy }) });
      const [rtp, rtcp] = await datagrams.bindPair("127.0.0.1");
      rtp.close();
      rtcp.close();
      const folder = temporaryFolder();
      const [description, output] = [join(folder, "in.sdp"), join(folder, "out.ul")];
      writeFileSync(description, sdp(rtp.local.port, name, octets));
      const options = ["-hide_banner", "-loglevel", "error", "-protocol_whitelist", "file,udp,rtp,srtp,crypto"];
      const quick = ["-analyzeduration", "300000", "-probesize", "2000"];
      const args = [...options, ...quick, "-i", description, "-t", "1", "-c", "copy", "-f", "mulaw", output];
      const ffmpeg = startProcess({ onTestFinished }, "ffmpeg", args);
      const socket = await datagrams.bind({ host: "127.0.0.1", port: 0 });
      const packets = tonePackets(2000, { ssrc: SSRC, sequence: 100 });
      let next = 0;
      // Four times as fast as it sounds, until ffmpeg has had its second and ends.
      const pace = setInterval(() => {
        const packet = packets[next++];
        if (packet !== undefined) socket.send(protect(sender, packet), rtp.local);
      }, 5);
      onTestFinished(() => {
        clearInterval(pace);
        socket.close();
      });
      const result = await ffmpeg.ended;
      expect(result.code, result.stderr).toBe(0);
      const frames = frameHashesOf(readFileSync(output));
      expect(frames.length).toBeGreaterThanOrEqual(50);
      expect(frames).toEqual(toneHashesFrom(frames[0], frames.length));
    },
  );
});

function sdp(port: number, suite: string, key: Uint8Array): string {
  const lines = [
    "v=0",
    "o=- 0 0 IN IP4 127.0.0.1",
    "s=tone",
    "c=IN IP4 127.0.0.1",
    "t=0 0",
    `m=audio ${port} RTP/SAVP 0`,
    "a=rtpmap:0 PCMU/8000",
    `a=crypto:1 ${suite} inline:${formatBase64(key)}`,
  ];
  return `${lines.join("\r\n")}\r\n`;
}
