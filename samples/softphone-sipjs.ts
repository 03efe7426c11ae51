/**
 * Two stock sip.js user agents in one process: a call over UDP whose media is keyed by MIKEY, rekeyed, and whose end is proven.
 * Run: npx tsx samples/softphone-sipjs.ts
 */
import { Inviter, type URI, UserAgent } from "sip.js";
import { nodeCrypto, systemClock, systemTimers } from "watchword/node";
import { SipTransport } from "watchword/node/sip";
import { createPskSipKeying } from "watchword/sip";
import { createSessionDescriptionHandlerFactory } from "watchword/sip/sipjs";
import { createSampleMedia } from "./softphone-media.js";

const psk = nodeCrypto.randomBytes(32);
const [ALICE, BOB] = ["sip:alice@example.org", "sip:bob@example.org"];

async function softphone(uri: string, peer: string): Promise<UserAgent> {
  let packets = 0;
  const media = await createSampleMedia(() => packets++);
  const keying = createPskSipKeying({ uri, keys: [[peer, psk]], clock: systemClock, timers: systemTimers });
  const agent: UserAgent = new UserAgent({
    uri: UserAgent.makeURI(uri) as URI,
    contactParams: { transport: "udp" },
    transportConstructor: SipTransport,
    transportOptions: { transport: "udp", onBound: (address: object) => Object.assign(agent.contact.uri, address) },
    sessionDescriptionHandlerFactory: createSessionDescriptionHandlerFactory({
      keying,
      media: () => media,
      onKeyed: (_session, { dialog }) => console.log(`${uri} keyed ${dialog.streams[0]?.fingerprint}`),
      onProof: (_session, { by, verdict }) => console.log(`${uri} end ${by} ${verdict}, ${packets > 20 ? "media" : "silence"}`),
    }),
    delegate: { onInvite: (invitation) => void invitation.accept() },
    logBuiltinEnabled: false,
  });
  await agent.start();
  return agent;
}

const [alice, bob] = await Promise.all([softphone(ALICE as string, BOB as string), softphone(BOB as string, ALICE as string)]);
const call = new Inviter(alice, bob.contact.uri, { params: { toUri: BOB as string } });
for (const step of [() => call.invite(), () => call.invite(), () => call.bye()]) {
  await step();
  await new Promise((resolve) => setTimeout(resolve, 1000));
}
await Promise.all([alice.stop(), bob.stop()]);
