/**
 * A server with a tone and a client that plays it, in one process: keyed by a pre-shared key, with a proven end.
 * Run: npx tsx samples/encrypted-tone.ts
 */
import { createMediaKeying } from "watchword/gsa";
import { connectRtspClient, createToneSource, nodeCrypto, startRtspService, systemClock, systemTimers } from "watchword/node";
import { peerProfile } from "watchword/peers";
import { createMikeyClientKeying, createMikeyServerKeying, createPskDirectory, identityOf } from "watchword/rtsp";

const psk = nodeCrypto.randomBytes(32);
const common = { clock: systemClock, timers: systemTimers, dialect: peerProfile("strict"), requirePsk: true };

const service = await startRtspService({
  host: "127.0.0.1",
  port: 0,
  presentations: [
    {
      path: "/tone",
      source: createToneSource(),
      profile: "RTP/SAVP",
      keying: createMikeyServerKeying({
        keying: createMediaKeying({ ...common, identity: identityOf("server"), findCredential: () => ({ psk }) }),
        policy: { suite: "AEAD_AES_128_GCM" },
        directory: createPskDirectory([["viewer", psk]]),
      }),
    },
  ],
});

let packets = 0;
const client = await connectRtspClient({
  url: service.url("/tone"),
  from: "viewer",
  keying: createMikeyClientKeying({
    keying: createMediaKeying({ ...common, identity: identityOf("viewer"), findCredential: () => ({ psk }) }),
    scope: "sample",
  }),
  onRtp: () => packets++,
});
await client.describe();
await client.setup(0, "udp");
await client.play();
await new Promise((resolve) => setTimeout(resolve, 1000));
const [statistics] = client.statistics;
console.log(`${packets} packets, ${statistics?.suite}, key ${statistics?.fingerprint}; end ${await client.teardown()}`);
await service.close();
