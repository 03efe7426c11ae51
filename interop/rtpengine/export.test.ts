import { createSocket } from "node:dgram";
import { once } from "node:events";
import { expect, it, onTestFinished } from "vitest";
import { concatBytes } from "../../src/bytes/index.js";
import type { Endpoint } from "../../src/io/index.js";
import { createDatagramsFactory } from "../../src/node/index.js";
import type { SrtpPolicy } from "../../src/srtp/index.js";
import { exportRtpengine } from "../../src/tools/index.js";
import { checkTone, freeTarget, type SealedTone, sealTone, sendPaced } from "../exported.js";
import { describePeer } from "../peers.js";
import { startProcess } from "../process.js";

const test = { onTestFinished };
const PACKETS = 60;

interface NgAnswer {
  readonly result: string;
  readonly sdp?: string;
  readonly "error-reason"?: string;
}

/** A daemon without its kernel module, and its ng port. */
async function startRtpengine(): Promise<(command: object) => Promise<NgAnswer>> {
  const { port } = await freeTarget();
  const args = ["--foreground", "--log-stderr", "--log-level=4", "--table=-1", "--interface=127.0.0.1"];
  const daemon = startProcess(test, "rtpengine", [
    ...args,
    `--listen-ng=127.0.0.1:${port}`,
    "--port-min=30000",
    "--port-max=39998",
  ]);
  const ask = async (command: object): Promise<NgAnswer> => {
    const socket = createSocket("udp4");
    const cookie = Math.random().toString(36).slice(2);
    try {
      socket.send(`${cookie} ${JSON.stringify(command)}`, port, "127.0.0.1");
      const [answer] = (await once(socket, "message", { signal: AbortSignal.timeout(2000) })) as [Buffer];
      return JSON.parse(answer.toString().slice(cookie.length + 1)) as NgAnswer;
    } finally {
      socket.close();
    }
  };
  // Datagrams that come before it listens are lost.
  await expect
    .poll(() => ask({ command: "ping" }).catch(() => undefined), { timeout: 15_000, message: daemon.stderr })
    .toEqual({ result: "pong" });
  return ask;
}

/** Where the first m= line of a description wants its packets. */
function mediaEndpoint(sdp: string | undefined): Endpoint {
  return { host: "127.0.0.1", port: Number(/^m=audio (\d+) /m.exec(sdp ?? "")?.[1]) };
}

function plainReceiver(port: number): string {
  return [
    "v=0",
    "o=- 1 1 IN IP4 127.0.0.1",
    "s=-",
    "c=IN IP4 127.0.0.1",
    "t=0 0",
    `m=audio ${port} RTP/AVP 0`,
    "a=recvonly",
    "",
  ].join("\r\n");
}

const ROWS: readonly (SrtpPolicy & { readonly name: string; readonly mki?: Uint8Array })[] = [
  { name: "AES_CM_128_HMAC_SHA1_80, MKI", suite: "AES_CM_128_HMAC_SHA1_80", mki: Uint8Array.of(0, 7) },
  { name: "AES_CM_128_HMAC_SHA1_32", suite: "AES_CM_128_HMAC_SHA1_32" },
  { name: "AES_192_CM_HMAC_SHA1_80", suite: "AES_192_CM_HMAC_SHA1_80" },
  { name: "AES_256_CM_HMAC_SHA1_80", suite: "AES_256_CM_HMAC_SHA1_80" },
  { name: "AEAD_AES_128_GCM", suite: "AEAD_AES_128_GCM" },
  { name: "AEAD_AES_256_GCM", suite: "AEAD_AES_256_GCM" },
];

describePeer("rtpengine", "takes exported keys", () => {
  it(`hands on in the clear what the exported offers describe [export of keys, MKI, ${ROWS.map(({ suite }) => suite).join(", ")}]`, async () => {
    const ask = await startRtpengine();
    for (const { name, mki, ...policy } of ROWS) {
      const { stream, packets }: SealedTone = sealTone(policy.suite, { count: PACKETS, ...(mki === undefined ? {} : { mki }) });
      const socket = await createDatagramsFactory().bind({ host: "127.0.0.1", port: 0 });
      onTestFinished(() => socket.close());
      const media: Uint8Array[] = [];
      socket.onDatagram = (packet) => media.push(packet.slice(12));
      const target = await freeTarget();
      const call = { "call-id": name, "from-tag": "camera" };
      const offered = await ask({ ...exportRtpengine([{ ...stream, target }]), ...call });
      expect(offered, name).toMatchObject({ result: "ok", sdp: expect.stringMatching(/^m=audio \d+ RTP\/AVP 0\r$/m) });
      const answered = await ask({ command: "answer", ...call, "to-tag": "player", sdp: plainReceiver(socket.local.port) });
      expect(answered.result, name).toBe("ok");
      await sendPaced(test, packets, mediaEndpoint(answered.sdp));
      await expect.poll(() => media.length, { timeout: 5000, message: name }).toBe(PACKETS);
      expect(checkTone(concatBytes(...media)), name).toBe(PACKETS);
      await ask({ command: "delete", ...call });
    }
  });
});
