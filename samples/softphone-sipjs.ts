/** Two sip.js user agents: a call keyed by MIKEY, rekeyed, and ended with a proof. Run: npx tsx samples/softphone-sipjs.ts */
import { Inviter, UserAgent } from "sip.js";
import { nodeCrypto, systemClock, systemTimers } from "watchword/node";
import { createPskSipKeying } from "watchword/sip";
import { createSessionDescriptionHandlerFactory } from "watchword/sip/sipjs";
import { createSampleMedia, onLoopback } from "./softphone-media.js";

const [ALICE, BOB] = ["sip:alice@example.org", "sip:bob@example.org"] as const;
const psk = nodeCrypto.randomBytes(32);
function softphone(uri: string, peer: string): UserAgent {
  const keying = createPskSipKeying({ uri, keys: [[peer, psk]], clock: systemClock, timers: systemTimers });
  const sessionDescriptionHandlerFactory = createSessionDescriptionHandlerFactory({
    keying,
    media: () => createSampleMedia(uri),
    onKeyed: (_session, { dialog }) => console.log(`${uri} keyed ${dialog.streams[0]?.fingerprint}`),
    onProof: (_session, { by, verdict }) => console.log(`${uri} end ${by} ${verdict}`),
  });
  const agent: UserAgent = new UserAgent({ ...onLoopback(uri, () => agent), sessionDescriptionHandlerFactory });
  return agent;
}
const [alice, bob] = [softphone(ALICE, BOB), softphone(BOB, ALICE)];
await Promise.all([alice.start(), bob.start()]);
const call = new Inviter(alice, bob.contact.uri, { params: { toUri: BOB } });
for (const step of [() => call.invite(), () => call.invite(), () => call.bye()]) {
  await step();
  await new Promise((resolve) => setTimeout(resolve, 1000));
}
await Promise.all([alice.stop(), bob.stop()]);
