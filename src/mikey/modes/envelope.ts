import { wipe } from "../../bytes/index.js";
import type { CryptoProvider, Decrypter, EncryptionScheme } from "../../crypto/index.js";
import type { Identity } from "../csb.js";
import { authenticationError, MikeyError } from "../errors.js";
import { computeMac, isAuthentication, mayBePadded, openKeyData, type SealOptions, sealKeyData, verifyMac } from "../kemac.js";
import { type DerivationContext, deriveMessageKeys, type MessageKeys, wipeMessageKeys } from "../keys.js";
import type { DecodedMessage, KemacPayload, KeyData } from "../message.js";
import { decodeIdentifiedKeys, encodeIdentifiedKeys } from "../payloads-key-data.js";
import { CacheIndicator, EncrAlg, entryOf, MacAlg } from "../registry.js";
import type { Timestamp } from "../timestamp.js";
import { requiredPayload } from "./grammar.js";
import { decodePadded } from "./mac.js";

/** What the keys of an envelope depend on: of the exchange, or of the group (RFC 4738 §3.6). */
export interface EnvelopeContext extends DerivationContext {
  /** The Initiator's T, also in a response. */
  readonly timestamp: Timestamp;
}

/**
 * Octets of an envelope key. RFC 3830 leaves the length open, and it is not on the wire: whoever decrypts has to know what to look for
 * (a padding that is looked at without an expected length would be an oracle). Ours are as long as the keys that protect the key data.
 */
export function envelopeKeyOctets(encrAlg: number): number {
  return encrAlg === EncrAlg.AES_CM_256 ? 32 : 16;
}

/** The lengths that are looked for, the likely one first. */
function expectedOctets(encrAlg: number): readonly number[] {
  return encrAlg === EncrAlg.AES_CM_256 ? [32, 16] : [16, 32];
}

/** MAC alg of V where the KEMAC has the NULL MAC: the mandatory one (RFC 3830 §4.2.4). */
export function verificationAlg(macAlg: number): number {
  return macAlg === MacAlg.NULL ? MacAlg.HMAC_SHA_1_160 : macAlg;
}

/** E(encr_key, ID || {TGK}) || MAC (RFC 3830 §3.2, §5.2), the identity being the sender's. */
export function sealEnvelope(
  crypto: CryptoProvider,
  context: EnvelopeContext,
  id: Identity,
  keys: readonly KeyData[],
  protection: { readonly encrAlg: number; readonly macAlg: number; readonly keys: MessageKeys },
  options: SealOptions,
): KemacPayload {
  const { encrAlg, macAlg } = protection;
  const plaintext = encodeIdentifiedKeys({ id: { kind: "ID", idType: id.idType, data: id.data }, keys });
  const encrData = sealKeyData(crypto, encrAlg, protection.keys, context, plaintext, options);
  wipe(plaintext);
  // Next payload 0, whatever follows the KEMAC in the message (RFC 3830 §5.2).
  const head = Uint8Array.of(0, encrAlg, encrData.length >>> 8, encrData.length & 0xff);
  const mac = computeMac(crypto, macAlg, protection.keys, head, encrData, Uint8Array.of(macAlg));
  return { kind: "KEMAC", encrAlg, encrData, macAlg, mac };
}

/** What an envelope held. */
export interface OpenedEnvelope {
  readonly envelopeKey: Uint8Array;
  /** Whether the sender wants it kept. */
  readonly cached: boolean;
  readonly messageKeys: MessageKeys;
  /** The sender's identity as it was encrypted. */
  readonly id: Identity;
  readonly keys: readonly KeyData[];
}

/**
 * Opens PKE and KEMAC of a message. A wrong padding gives a wrong envelope key, which only the MAC finds: every failure is one
 * failure after the same work (RFC 3830 §3.2, §4.2.5; Bleichenbacher). The padding is not on the wire, nor is the length of the key.
 * @param schemes what is tried, in order
 * @throws MikeyError `mikey.authentication`; `mikey.grammar` for a cache indicator without meaning; `mikey.key-data` for authentic key data that cannot be read
 */
export async function openEnvelope(
  crypto: CryptoProvider,
  message: DecodedMessage,
  decrypter: Decrypter,
  schemes: readonly EncryptionScheme[],
  context: EnvelopeContext,
): Promise<OpenedEnvelope> {
  const { cache, data } = requiredPayload(message, "PKE");
  const { encrAlg, macAlg } = requiredPayload(message, "KEMAC");
  if (entryOf(CacheIndicator, cache) === undefined)
    throw new MikeyError("mikey.grammar", `cache indicator ${cache} has no meaning (RFC 3830 §6.3)`);
  const cached = cache !== CacheIndicator.NO_CACHE;
  let opened: OpenedEnvelope | undefined;
  for (const scheme of schemes.filter((candidate) => decrypter.encryptionSchemes.includes(candidate))) {
    for (const octets of expectedOctets(encrAlg)) {
      if (opened !== undefined) break;
      const envelopeKey = await decrypter.decrypt(scheme, data, octets);
      const messageKeys = deriveMessageKeys(crypto, context, envelopeKey, encrAlg, verificationAlg(macAlg));
      const plaintext = openKemac(crypto, message, messageKeys, context);
      if (plaintext === undefined) {
        // Not ours, or not of this length.
        wipe(envelopeKey);
        wipeMessageKeys(messageKeys);
        continue;
      }
      try {
        const { id, keys } = identifiedKeys(plaintext, encrAlg);
        opened = { envelopeKey, cached, messageKeys, id, keys };
      } catch (error) {
        wipe(envelopeKey);
        wipeMessageKeys(messageKeys);
        throw error;
      }
    }
  }
  if (opened === undefined) throw authenticationError();
  return opened;
}

/** The plaintext of a KEMAC under an envelope key, or undefined where its MAC or its key wrap does not fit. */
function openKemac(
  crypto: CryptoProvider,
  message: DecodedMessage,
  keys: MessageKeys,
  context: EnvelopeContext,
): Uint8Array | undefined {
  const { encrAlg, encrData, macAlg, mac } = requiredPayload(message, "KEMAC");
  // Without the sender's identity nothing would tie an envelope to it, nor would a key wrap of nothing show the right key.
  if (encrData.length === 0) return undefined;
  const span = message.spans[message.payloads.findIndex(({ kind }) => kind === "KEMAC")];
  try {
    if (isAuthentication(macAlg) && span?.valueStart !== undefined) {
      // The Next payload octet counts as 0, though the wire has what follows (RFC 3830 §5.2).
      verifyMac(crypto, macAlg, keys, mac, Uint8Array.of(0), message.octets.subarray(span.start + 1, span.valueStart));
    }
    return openKeyData(crypto, encrAlg, keys, context, encrData);
  } catch (error) {
    if (error instanceof MikeyError && error.code === "mikey.authentication") return undefined;
    throw error;
  }
}

function identifiedKeys(plaintext: Uint8Array, encrAlg: number): { id: Identity; keys: readonly KeyData[] } {
  try {
    const { id, keys } = mayBePadded(encrAlg) ? decodePadded(plaintext, decodeIdentifiedKeys) : decodeIdentifiedKeys(plaintext);
    return { id: { idType: id.idType, data: id.data }, keys };
  } catch (cause) {
    throw new MikeyError("mikey.key-data", "the key data cannot be read", { cause });
  } finally {
    wipe(plaintext);
  }
}
