import { Command } from "commander";
import { WatchwordError } from "../bytes/index.js";
import { defaultCrypto } from "../crypto/index.js";
import { DataType, decodeMessage, titleOf } from "../mikey/index.js";
import { connectRtspClient, createToneSource, type RtspService, startRtspService } from "../node/index.js";
import { peerProfile } from "../peers/index.js";
import type { RtspClient, RtspServerEvent } from "../rtsp/index.js";
import { demonstrateGroup } from "./demo-group.js";
import { formatHex32 } from "./hex32.js";
import { untilStopped } from "./lifetime.js";
import { clientKeying } from "./play.js";
import { keyedPresentation } from "./serve.js";

const VIEWER = "viewer";
const SUITE = "AES_CM_128_HMAC_SHA1_80";
/** Packets of 20 ms before and after the rekey. */
const PACKETS = 50;

/** `npm start`: a group and a stream for one, step by step, then a path for GStreamer. */
export function demoCommand(): Command {
  return new Command("demo")
    .description("show the main job: a group with a key server, then a server and a client; keys, rekeys, authenticated ends")
    .option("--once", "end by itself")
    .action(demo);
}

async function demo({ once }: { readonly once?: true }): Promise<void> {
  const psk = { id: VIEWER, key: defaultCrypto.randomBytes(32) };
  say("watchword: MIKEY inside SIP and RTSP keys SRTP, everybody in this process\n\nA group:\n");
  await demonstrateGroup(step);
  say("\nA stream for one viewer:\n");
  const events: RtspServerEvent[] = [];
  const service = await startRtspService({
    host: "127.0.0.1",
    port: once ? 0 : 8554,
    presentations: [
      keyedPresentation({
        path: "/live",
        source: createToneSource(),
        profile: "RTP/SAVP",
        dialect: peerProfile("strict"),
        suite: SUITE,
        psks: [psk],
      }),
      keyedPresentation({
        path: "/gstreamer",
        source: createToneSource(),
        profile: "RTP/SAVP",
        dialect: peerProfile("gstreamer"),
        suite: SUITE,
        psks: [],
        allowNullKeying: true,
      }),
    ],
    onEvent: (event) => events.push(event),
  }).catch((error: unknown) => {
    if (!(error instanceof WatchwordError) || error.code !== "node.address-in-use") throw error;
    throw new WatchwordError(
      error.code,
      "port 8554 is in use: end what uses it, or try `npm start -- --once`, which takes any port",
      {
        cause: error,
      },
    );
  });
  try {
    step("server", `${service.url("/live")}: a tone, ${SUITE}, one pre-shared key of 256 bits for "${VIEWER}"`);
    await playThrough(service, psk, events);
    if (once) return;
    say(`
Now with GStreamer, on a path of its own whose keys travel unprotected, on loopback only:

  gst-launch-1.0 rtspsrc location=${service.url("/gstreamer")} latency=100 ! rtppcmudepay ! mulawdec ! audioconvert ! autoaudiosink

Ctrl-C ends.`);
    const waiting = untilStopped();
    await waiting.over;
    waiting.cancel();
  } finally {
    await service.close();
  }
}

async function playThrough(
  service: RtspService,
  psk: { readonly id: string; readonly key: Uint8Array },
  events: readonly RtspServerEvent[],
): Promise<void> {
  const counter = createPacketCounter();
  const client = await connectRtspClient({
    url: service.url("/live"),
    from: VIEWER,
    keying: clientKeying({ profile: peerProfile("strict"), psk, suite: SUITE }),
    onRtp: () => counter.count(),
    onEnd: (error) => counter.fail(error),
  });
  try {
    const { keyMgmt, announced } = await client.describe();
    const message = keyMgmt.effective[0]?.[0]?.data ?? new Uint8Array(0);
    const { header } = decodeMessage(message);
    step(
      "DESCRIBE",
      `a=key-mgmt:mikey with ${message.length} octets: ${titleOf(DataType, header.dataType)}, CSB ${formatHex32(header.csbId)}, encrypted`,
    );
    if (announced) step("", "a=x-watchword:1, the server understands proofs of possession");
    await client.setup(0, "udp");
    step("SETUP", "KeyMgmt with the verification message; both ends now hold the keys of this session");
    step("keys", `client ${keysOf(client)}, server ${serverKeys(service)} (fingerprints)`);
    await client.play();
    await counter.reach(PACKETS);
    step("PLAY", `${counter.packets} packets decrypted, ${client.statistics[0]?.authenticationFailures} not authentic`);
    const [session] = service.server.sessions;
    if (session !== undefined) await service.server.rekey(session.id);
    step("REKEY", `SET_PARAMETER with an update; client ${keysOf(client)}, server ${serverKeys(service)}`);
    await counter.reach(2 * PACKETS);
    const { lost = 0, packets = 0 } = client.statistics[0] ?? {};
    step("", `${packets} packets decrypted, ${lost} lost: playing went on under the new key`);
    const verdict = await client.teardown();
    const ended = events.find((event) => event.type === "ended");
    step("TEARDOWN", `the client proved possession of the keys: ${ended?.type === "ended" ? (ended.proof ?? "absent") : "absent"}`);
    step("200", `the server proved it in return: ${verdict ?? "absent"}`);
    if (verdict !== "verified" || lost > 0) throw new WatchwordError("cli.demo", "the demonstration did not go as it should");
  } finally {
    client.close();
  }
}

/** Counts packets and wakes who waits for a number of them. */
function createPacketCounter() {
  let packets = 0;
  let wanted = Number.POSITIVE_INFINITY;
  let resolve: () => void = () => {};
  let reject: (error: Error) => void = () => {};
  return {
    get packets() {
      return packets;
    },
    count(): void {
      packets++;
      if (packets >= wanted) resolve();
    },
    fail(error: Error): void {
      reject(error);
    },
    reach(number: number): Promise<void> {
      wanted = number;
      return new Promise((done, failed) => {
        resolve = done;
        reject = failed;
        if (packets >= wanted) done();
      });
    },
  };
}

function keysOf(client: RtspClient): string {
  const [track] = client.statistics;
  return `${track?.fingerprint} MKI ${track?.mki}`;
}

function serverKeys(service: RtspService): string {
  const track = service.server.sessions[0]?.tracks[0];
  return `${track?.fingerprint} MKI ${track?.mki}`;
}

function step(name: string, text: string): void {
  say(`${name.padEnd(9)} ${text}`);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
