/** A key server and two members of a group in one process: one speaks, the other hears, both leave with a proof. */
import { defaultCrypto } from "../src/crypto/index.js";
import { readGroupDefinition } from "../src/gcks/index.js";
import { joinGroup, startGcksService } from "../src/node/group/index.js";
import { createToneSource, systemClock, systemTimers } from "../src/node/index.js";
import { createMemoryStore } from "../src/store/index.js";

const psk = defaultCrypto.randomBytes(32);
const { pkcs8 } = await defaultCrypto.generateKeyPair("ed25519");
const service = await startGcksService({
  identity: "sip:gcks@127.0.0.1",
  store: createMemoryStore({ clock: systemClock, timers: systemTimers }),
  findCredential: () => ({ psk }),
  signer: defaultCrypto.importPrivateKey(pkcs8),
  sip: [{ transport: "tcp", local: { host: "127.0.0.1", port: 0 } }],
  rtsp: [{ local: { host: "127.0.0.1", port: 0 } }],
  control: { interface: "127.0.0.1", ttl: 0 },
  groups: [
    readGroupDefinition({
      name: "blue",
      members: [{ identity: "sip:*@example.org", role: "both" }],
      streams: [{ media: "audio", formats: [0], address: "239.255.47.2", port: 47_004 }],
      rekey: { address: "239.255.47.1:47009", activationDelay: 0.5 },
    }),
  ],
});
const [sip = "", rtsp = ""] = service.urisOf("blue");
const common = { credential: { psk }, role: { send: true, receive: true }, interface: "127.0.0.1" };

let heard = 0;
const bob = await joinGroup({ ...common, uri: rtsp, identity: "sip:bob@example.org", onRtp: () => heard++ });
const alice = await joinGroup({ ...common, uri: sip, identity: "sip:alice@example.org" });
const tone = createToneSource();
tone.onRtp = (_track, packet) => void alice.send(0, packet);
await tone.start();
while (heard < 50) await new Promise((resolve) => setTimeout(resolve, 20));
tone.stop();
console.log(`bob heard ${heard} packets of SSRC ${alice.membership.streams[0]?.ssrc}`);
console.log(`alice left: ${await alice.leave()}`);
console.log(`bob left: ${await bob.leave()}`);
await service.close();
