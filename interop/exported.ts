import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Endpoint } from "../src/io/index.js";
import { createDatagramsFactory, TONE_FRAME } from "../src/node/index.js";
import type { SrtpPolicy, SrtpSender, SuiteName } from "../src/srtp/index.js";
import type { ExportStream } from "../src/tools/index.js";
import { frameHashesOf, masterKey, protect, srtpSender, toneHashesFrom, tonePackets } from "./media.js";
import type { Finishing } from "./process.js";

/** A stream of the built-in tone, and what a consumer of its SRTP is to be told. */
export interface SealedTone {
  readonly stream: Omit<ExportStream, "target">;
  /** Sealed packets, in order. */
  readonly packets: readonly Uint8Array[];
  readonly sender: SrtpSender;
}

export interface SealedToneOptions {
  readonly policy?: Partial<SrtpPolicy>;
  readonly mki?: Uint8Array;
  /** Packets, 20 ms each. Default 1000. */
  readonly count?: number;
  readonly rolloverCounter?: number;
}

const SSRC = 0x0badcafe;
const datagrams = createDatagramsFactory();

export function sealTone(suite: SuiteName, options: SealedToneOptions = {}): SealedTone {
  const { policy, mki, count = 1000, rolloverCounter = 0 } = options;
  const octets = masterKey(suite);
  const key = { octets, ...(mki === undefined ? {} : { mki }), ...(policy === undefined ? {} : { policy }) };
  const sender = srtpSender({ suite, ...key });
  if (rolloverCounter > 0) sender.setRolloverCounter(SSRC, rolloverCounter);
  const salt = suite.startsWith("AEAD") ? 12 : 14;
  return {
    sender,
    packets: tonePackets(count, { ssrc: SSRC, sequence: 100 }).map((packet) => protect(sender, packet)),
    stream: {
      policy: { suite, ...policy },
      keys: [{ key: octets.slice(0, -salt), salt: octets.slice(-salt), ...(mki === undefined ? {} : { mki }) }],
      ssrc: SSRC,
      rolloverCounter,
      track: { media: "audio", payloadType: 0, rtpmap: "PCMU/8000", clockRate: 8000 },
    },
  };
}

/** A pair of loopback ports that was free a moment ago, for a peer to bind. */
export async function freeTarget(): Promise<Endpoint> {
  const [rtp, rtcp] = await datagrams.bindPair("127.0.0.1");
  rtp.close();
  rtcp.close();
  return rtp.local;
}

/** Sends packets four times as fast as they sound, until they are all sent or the test is over. */
export async function sendPaced(test: Finishing, packets: readonly Uint8Array[], target: Endpoint): Promise<void> {
  const socket = await datagrams.bind({ host: "127.0.0.1", port: 0 });
  let next = 0;
  const pace = setInterval(() => {
    const packet = packets[next++];
    if (packet === undefined) clearInterval(pace);
    else socket.send(packet, target);
  }, 5);
  test.onTestFinished(() => {
    clearInterval(pace);
    socket.close();
  });
}

/** What a consumer decoded has to be the tone, without a gap, from wherever it joined: throws or returns how many frames. */
export function checkTone(octets: Uint8Array): number {
  const frames = frameHashesOf(octets);
  if (octets.length % TONE_FRAME !== 0) throw new Error(`${octets.length} octets are not frames of the tone`);
  const expected = toneHashesFrom(frames[0], frames.length);
  const wrong = frames.findIndex((frame, index) => frame !== expected[index]);
  if (wrong >= 0) throw new Error(`frame ${wrong} of ${frames.length} is not the next of the tone`);
  return frames.length;
}

/** A folder that goes with the test. */
export function temporaryFolder(test: Finishing, peer: string): string {
  const folder = mkdtempSync(join(tmpdir(), `watchword-${peer}-`));
  test.onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}
