import { equalBytes } from "../../src/bytes/index.js";
import type { CryptoProvider } from "../../src/crypto/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { readKeyMgmt } from "../../src/sdp/index.js";
import { createPskSipKeying, plainDescription, SipRefusal } from "../../src/sip/index.js";
import { ALICE, BOB, CALL, PSK, sdpOf } from "./support.js";

const clock = { now: () => Date.UTC(2026, 10, 22) };
const timers = { after: () => ({ cancel: () => {} }), every: () => ({ cancel: () => {} }) };
/** Numbers that are the same in every run. */
const crypto: CryptoProvider = Object.assign(Object.create(nodeCrypto) as CryptoProvider, {
  randomBytes: (length: number) => Uint8Array.from({ length }, (_, i) => (i * 41 + length) & 0xff),
});
const common = { clock, timers, crypto };

/** Offers of a caller to somebody with the same pre-shared key. */
export const offerSeeds: readonly string[] = await Promise.all(
  ([{ level: "session" }, { level: "media" }, { offerAs: "capability" }, { level: "media", offerAs: "capability" }] as const).map(
    (how) =>
      createPskSipKeying({ ...common, uri: ALICE, keys: [[BOB, PSK]], ...how })
        .dialog({ ...CALL, remote: BOB })
        .createOffer(sdpOf([{}, { kind: "video", port: 4002 }])),
  ),
);
const genuine = offerSeeds.flatMap((sdp) => readKeyMgmt(sdp).attributes.map(({ data }) => data as Uint8Array));

/**
 * Offers a description to a fresh callee: it is refused in one way, or every key message in it is genuine and every active line has one.
 * @returns whether it was taken and has a key message
 */
export async function offerToCallee(sdp: string): Promise<boolean> {
  const callee = createPskSipKeying({ ...common, uri: BOB, keys: [[ALICE, PSK]] }).dialog({ ...CALL, remote: ALICE });
  try {
    await callee.acceptOffer(sdp);
  } catch (error) {
    if (!(error instanceof SipRefusal)) throw error;
    if (error.warningHeaders("host").some((line) => /[\r\n]/.test(line))) throw new Error("a Warning of two lines");
    if (callee.media.length > 0 || callee.state !== "stable") throw new Error("a refused offer left something behind");
    return false;
  }
  const { attributes } = readKeyMgmt(sdp);
  const ours = attributes.filter(({ protocol }) => protocol === "mikey");
  // The first message of a section counts.
  const processed = ours.filter((attribute) => ours.find(({ section }) => section === attribute.section) === attribute);
  for (const { data, capability } of processed) {
    const known = data !== undefined && genuine.some((octets) => equalBytes(octets, data));
    if (capability === undefined && !known) throw new Error("a forged key message was taken");
  }
  plainDescription(sdp, true);
  return processed.length > 0;
}
