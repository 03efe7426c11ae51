import type { CryptoProvider } from "../crypto/index.js";
import { type Csb, decodeMessage, type GeneralExtensionPayload, type Identity, payloadOf } from "../mikey/index.js";
import type { KeyExport } from "./contracts.js";
import { helloNonce } from "./pop.js";
import { createRegistrationSa, type RegistrationSa } from "./registration.js";
import type { SharedSender } from "./shared-sender.js";

/** What is known of the exchange beside its CSB. */
export interface ExchangeFacts {
  /** The R_MESSAGE, or the peer's message in its place (docs/protocol.md §5); empty where there was none. */
  readonly answer: Uint8Array;
  readonly secure: boolean;
  readonly exportKeys?: KeyExport | undefined;
  /** What this party sends, it sends to other receivers too. */
  readonly shared?: SharedSender | undefined;
}

/** The registration SA of docs/protocol.md §5, or undefined where no secret stands behind the exchange. */
export function registrationOf(crypto: CryptoProvider, csb: Csb, exchange: ExchangeFacts): RegistrationSa | undefined {
  const secret = exchangeSecret(csb, exchange.secure);
  if (secret === undefined) return undefined;
  const { exchange: initial } = csb;
  const requestIds = identitiesIn(initial.request);
  const rand = initial.request.length === 0 ? undefined : payloadOf(decodeMessage(initial.request, { trailing: "keep" }), "RAND");
  return createRegistrationSa(
    crypto,
    {
      iMessage: initial.request,
      rMessage: exchange.answer,
      dataType: initial.dataType,
      csbId: csb.csbId,
      prfFunc: csb.prf,
      // The one of the I_MESSAGE: in RSA-R the Responder may have sent another (docs/protocol.md §5).
      rand: rand?.rand ?? NOBODY,
      t: initial.timestamp.value,
      initiatorId: requestIds[0]?.data ?? NOBODY,
      responderId: (requestIds[1] ?? identitiesIn(exchange.answer)[0])?.data ?? NOBODY,
      initiatorNonce: nonceIn(initial.initiatorExtensions),
      responderNonce: nonceIn(initial.responderExtensions),
      role: csb.role,
    },
    secret,
  );
}

const NOBODY = new Uint8Array(0);

function nonceIn(extensions: readonly GeneralExtensionPayload[]): Uint8Array {
  return helloNonce(extensions) ?? new Uint8Array(0);
}

/** S of docs/protocol.md §5: the first TGK, else the key that protected the KEMAC, else what TLS protected. */
export function exchangeSecret(csb: Csb, secure: boolean): Uint8Array | undefined {
  const [first] = csb.keys;
  if (first?.kind === "TGK") return first.key;
  if (csb.envelope !== undefined) return csb.envelope.key;
  if ("psk" in csb.credential) return csb.credential.psk;
  return secure && csb.nullKeyed ? first?.key : undefined;
}

/** Identities as they were on the wire (docs/protocol.md §2): what a party knows otherwise, the other may not. Copies, which do not hold the message. */
export function identitiesIn(octets: Uint8Array): Identity[] {
  if (octets.length === 0) return [];
  return decodeMessage(octets, { trailing: "keep" }).payloads.flatMap((payload) =>
    payload.kind === "ID" ? [{ idType: payload.idType, data: payload.data.slice() }] : [],
  );
}
