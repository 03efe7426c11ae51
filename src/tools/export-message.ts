/** The keys of a captured message that nothing but its channel protected. */
import { WatchwordError } from "../bytes/index.js";
import { defaultCrypto } from "../crypto/index.js";
import {
  type Csb,
  createReplayCache,
  createResponder,
  decodeMessage,
  isNullKeyed,
  payloadOf,
  type Received,
  srtpMasterKeys,
  TOLERANCES,
  type ToleranceName,
  wipeCsb,
} from "../mikey/index.js";
import type { ExportStream } from "./export-contracts.js";

/** A capture is of another time, and of any kind of peer: everything that has a name is put up with. */
const ALL_TOLERANCES = Object.keys(TOLERANCES) as ToleranceName[];

/**
 * What a NULL-keyed I_MESSAGE keys: one stream for every crypto session. Whoever holds such a message holds its keys, without any secret.
 * @throws CodecError for octets that are no MIKEY message; MikeyError for a message that no profile accepts; WatchwordError
 * `tools.export-protected` for one whose keys are encrypted or that carries none
 */
export async function exportMessage(octets: Uint8Array): Promise<ExportStream[]> {
  const kemac = payloadOf(decodeMessage(octets, { trailing: "keep" }), "KEMAC");
  if (kemac === undefined || !isNullKeyed(kemac)) {
    throw new WatchwordError(
      "tools.export-protected",
      "the keys are not in the message, or a secret protects them: only a party of the exchange can export them",
    );
  }
  const crypto = defaultCrypto;
  const read = async (tolerances: readonly ToleranceName[]): Promise<Csb> => {
    const responder = createResponder({
      crypto,
      clock: { now: () => 0 },
      allowNullKeying: true,
      tolerances,
      findCredential: () => undefined,
      replayCache: createReplayCache(),
      // What the policy leaves unprotected is said in the export.
      policyAccepted: () => true,
    });
    return ((await responder.receive(octets)) as Exclude<Received, { readonly kind: "repeated" }>).csb;
  };
  let csb = await read(ALL_TOLERANCES.filter((name) => name !== "short-srtcp-tag"));
  if (csb.tolerances.includes("tag-length-in-auth-key-length")) {
    // Who writes the tag length there shortens the SRTCP tag as well.
    wipeCsb(csb);
    csb = await read(ALL_TOLERANCES);
  }
  try {
    return csb.cryptoSessions.flatMap(({ csId, policyNo, ssrc, roc }) => {
      const policy = policyNo === undefined ? undefined : csb.policies.get(policyNo);
      if (policy === undefined) return [];
      return [{ policy, keys: srtpMasterKeys(crypto, csb, csId), ssrc, rolloverCounter: roc }];
    });
  } finally {
    wipeCsb(csb);
  }
}
