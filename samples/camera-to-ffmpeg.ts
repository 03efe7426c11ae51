/**
 * Plays an SRTP camera that is keyed by MIKEY and pipes it into FFmpeg, which knows no MIKEY: to a file, a transcoder, a stream. See
 * samples/README.md.
 * Run: npx tsx samples/camera-to-ffmpeg.ts rtsps://camera.example/stream -c copy recording.mkv
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createMediaKeying } from "watchword/gsa";
import { connectRtspClient, createDatagramsFactory, createRtpForwarder, systemClock, systemTimers } from "watchword/node";
import { createAutoClientKeying, identityOf, mediaTracksOf } from "watchword/rtsp";

const { VIEWER_KEY, CAMERA_CA } = process.env;
const [url, ...output] = process.argv.slice(2);
if (url === undefined || output.length === 0) {
  console.error("give the URL of the camera and the output as FFmpeg takes it, for example: -c copy recording.mkv");
  process.exit(2);
}

const psk = VIEWER_KEY === undefined ? undefined : Uint8Array.from(Buffer.from(VIEWER_KEY, "hex"));
let forwarder: Awaited<ReturnType<typeof createRtpForwarder>> | undefined;
const camera = await connectRtspClient({
  url,
  from: "viewer",
  ...(CAMERA_CA === undefined ? {} : { ca: CAMERA_CA }),
  // Finds out by itself what kind of server this is. Without a pre-shared key it takes keys inside TLS only.
  keying: createAutoClientKeying({
    keyingFor: (dialect) =>
      createMediaKeying({
        clock: systemClock,
        timers: systemTimers,
        dialect,
        requirePsk: psk !== undefined,
        identity: identityOf("viewer"),
        findCredential: () => (psk === undefined ? undefined : { psk }),
      }),
    scope: "camera",
    suite: "AES_CM_128_HMAC_SHA1_80",
    ...(psk === undefined ? {} : { psk }),
  }),
  onRtp: (track, packet) => forwarder?.rtp(track, packet),
  onRtcp: (track, packet) => forwarder?.rtcp(track, packet),
  onEnd: (error) => {
    console.error(error.message);
    ffmpeg?.kill("SIGINT");
  },
});
let ffmpeg: ReturnType<typeof spawn> | undefined;

const { description } = await camera.describe();
const tracks = mediaTracksOf(description);
for (const index of tracks.keys()) await camera.setup(index, "tcp");

// Plain RTP goes over loopback only, to ports that were free a moment ago; FFmpeg reads what it is from its standard input.
const pairs = await createDatagramsFactory().bindPair("127.0.0.1");
for (const socket of pairs) socket.close();
forwarder = await createRtpForwarder({ target: pairs[0].local, tracks });
const input = ["-protocol_whitelist", "pipe,udp,rtp", "-f", "sdp", "-i", "pipe:0"];
ffmpeg = spawn("ffmpeg", ["-hide_banner", "-loglevel", "warning", "-y", ...input, ...output], {
  stdio: ["pipe", "inherit", "inherit"],
});
ffmpeg.stdin?.end(forwarder.sdp);
process.once("SIGINT", () => ffmpeg?.kill("SIGINT"));

await camera.play();
const [code] = (await once(ffmpeg, "exit")) as [number | null];
const [statistics] = camera.statistics;
const verdict = await camera.teardown().catch(() => "unanswered");
await forwarder.close();
console.log(`${statistics?.packets} packets, ${statistics?.suite}, ${statistics?.lost} lost; end ${verdict ?? "unproven"}`);
process.exitCode = code ?? 1;
