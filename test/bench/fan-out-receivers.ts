/**
 * The receivers of the fan-out, in a process of their own: RTSP clients that are keyed, play over UDP sockets of their own and decrypt
 * everything. Arguments: URL, number of clients, pre-shared key. Prints `playing`, and then the number of packets after each
 * round through all clients; ends with its input.
 */
import { parseHex } from "../../src/bytes/index.js";
import { clientKeying } from "../../src/cli/play.js";
import { connectRtspClient } from "../../src/node/index.js";
import { peerProfile } from "../../src/peers/index.js";
import type { RtspClient } from "../../src/rtsp/index.js";

const [url = "", number = "0", psk = ""] = process.argv.slice(2);
const wanted = Number(number);
/** Clients that connect at a time. */
const CONCURRENCY = 16;

let packets = 0;

function count(): void {
  packets++;
  if (packets % wanted === 0) console.log(packets);
}

async function play(): Promise<RtspClient> {
  const client = await connectRtspClient({
    url,
    from: "viewer",
    keying: clientKeying({
      profile: peerProfile("strict"),
      psk: { id: "viewer", key: parseHex(psk) },
      suite: "AES_CM_128_HMAC_SHA1_80",
    }),
    mediaTimeout: 0,
    onRtp: count,
    onEnd: (error) => {
      throw error;
    },
  });
  await client.describe();
  await client.setup(0, "udp");
  await client.play();
  return client;
}

const clients: RtspClient[] = [];
async function playSome(): Promise<void> {
  while (clients.length + CONCURRENCY <= wanted) clients.push(await play());
}
await Promise.all(Array.from({ length: CONCURRENCY }, playSome));
while (clients.length < wanted) clients.push(await play());

// The source has been sending: what came until now belongs to no round.
packets = 0;
console.log("playing");
process.stdin.on("end", () => {
  for (const client of clients) client.close();
});
process.stdin.on("data", () => console.log(packets));
