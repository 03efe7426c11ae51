import { utf8 } from "../../src/bytes/index.js";
import { type CryptoProvider, nobleCrypto } from "../../src/crypto/index.js";
import {
  createInitiator,
  createReplayCache,
  createResponder,
  decodeMessage,
  IdType,
  srtpMasterKeys,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { rate } from "./rate.js";

/** One line of the table of results. */
export interface MikeyBenchResult {
  readonly what: string;
  /** `noble` or `node`; decoding needs neither. */
  readonly backend: string;
  readonly perSecond: number;
}

const PSK = utf8("a pre-shared key");
const ALICE = { idType: IdType.URI, data: utf8("sip:alice@example.org") };
const BOB = { idType: IdType.URI, data: utf8("sip:bob@example.org") };

/** A whole exchange, both sides in one thread: request, response, verification, master keys of two sessions on both sides. */
function exchange(crypto: CryptoProvider): () => Promise<void> {
  const clock = { now: () => Date.now() };
  const initiator = createInitiator({ crypto, clock });
  const responder = createResponder({
    crypto,
    clock,
    identity: BOB,
    replayCache: createReplayCache(),
    findCredential: () => ({ psk: PSK }),
  });
  return async () => {
    const pending = await initiator.begin({
      credential: { psk: PSK },
      initiatorId: ALICE,
      responderId: BOB,
      cryptoSessions: [{ ssrc: 1 }, { ssrc: 2 }],
      policies: new Map([[0, { suite: "AES_CM_128_HMAC_SHA1_80" }]]),
      keys: [{ kind: "TGK", spi: Uint8Array.of(0, 0, 0, 1) }],
    });
    const received = await responder.receive(pending.octets);
    if (received.kind === "repeated") throw new Error("a fresh request was taken for a repetition");
    const csb = await pending.complete(received.response as Uint8Array);
    for (const csId of [1, 2]) {
      srtpMasterKeys(crypto, csb, csId);
      srtpMasterKeys(crypto, received.csb, csId);
    }
  };
}

/** Pre-shared key exchanges and message decodes per second, as the compiler leaves them after some seconds. @param milliseconds time per measurement */
export async function benchMikey(milliseconds = 1000): Promise<MikeyBenchResult[]> {
  const results: MikeyBenchResult[] = [];
  const warmRate = (call: () => unknown): Promise<number> => rate(milliseconds, call, 16, 4 * milliseconds);
  for (const crypto of [nodeCrypto, nobleCrypto]) {
    results.push({ what: "PSK exchange, both sides", backend: crypto.name, perSecond: await warmRate(exchange(crypto)) });
  }
  const { octets } = await createInitiator({ crypto: nodeCrypto, clock: { now: () => 0 } }).begin({
    credential: { psk: PSK },
    initiatorId: ALICE,
    responderId: BOB,
    cryptoSessions: [{ ssrc: 1 }, { ssrc: 2 }],
    policies: new Map([[0, { suite: "AES_CM_128_HMAC_SHA1_80" }]]),
    keys: [{ kind: "TGK", spi: Uint8Array.of(0, 0, 0, 1) }],
  });
  results.push({
    what: `decode of ${octets.length} octets`,
    backend: "-",
    perSecond: await warmRate(() => decodeMessage(octets)),
  });
  return results;
}

if (import.meta.url === `file://${process.argv[1]}`) {
  for (const { what, backend, perSecond } of await benchMikey())
    console.log(`${what.padEnd(28)} ${backend.padEnd(6)} ${Math.round(perSecond).toLocaleString("en")}/s`);
}
