import { CodecError } from "../bytes/index.js";
import {
  type DecodedMessage,
  decodeKeyData,
  decodeMessage,
  isNullKeyed,
  payloadOf,
  policyNumber,
  SrtpParam,
} from "../mikey/index.js";
import type { SuiteName } from "../srtp/index.js";
import { type PeerProfile, type PeerProfileName, peerProfile } from "./profiles.js";

/** One way of keying a server's streams. */
export interface LadderStep {
  readonly profile: PeerProfile;
  /** The suite of our key, where it is not the one that the server's message names. */
  readonly suite?: SuiteName;
}

/** What a client does where the server refuses all that its description seemed to ask for: a key of its own, with MKI, then AEAD. */
const CLIENT_KEY: readonly LadderStep[] = [
  step("axis"),
  step("axis", "AEAD_AES_128_GCM"),
  step("axis", "AEAD_AES_256_GCM"),
  step("genetec"),
];

/** The parameters of LIVE555's SP payload, in its order. */
const LIVE555_PARAMETERS = "0,1,2,3,4,7,8,10,11";

/** True for a message whose keys nothing but the channel protects; false for what is no message. */
export function isNullKeyedMessage(octets: Uint8Array): boolean {
  const message = decoded(octets);
  const kemac = message === undefined ? undefined : payloadOf(message, "KEMAC");
  return kemac !== undefined && isNullKeyed(kemac);
}

/**
 * What kind of server wrote this key message, by its shape, and what to try next each time that the server refuses our key: no MKI,
 * MKI, AEAD. The first step is never weaker than the message asks for, and no step is without protection.
 * @param offer the message of the description; undefined where there is none and the client begins
 * @param announced the server said that it speaks docs/protocol.md
 */
export function clientLadder(offer: Uint8Array | undefined, announced: boolean): readonly LadderStep[] {
  if (offer === undefined) return CLIENT_KEY;
  const message = decoded(offer);
  const kemac = message === undefined ? undefined : payloadOf(message, "KEMAC");
  if (message === undefined || kemac === undefined || !isNullKeyed(kemac)) return [step("strict")];
  const shape = shapeOf(message, kemac.encrData);
  if (shape.mki) {
    if (announced) return [step("strict"), step("onvif")];
    if (shape.types === LIVE555_PARAMETERS) return [step("live555"), ...CLIENT_KEY];
    return [step("onvif"), ...CLIENT_KEY];
  }
  if (shape.gstreamer) return [step("gstreamer"), ...CLIENT_KEY];
  return [step(shape.aeadAsHmac ? "nx" : "gortsplib"), ...CLIENT_KEY];
}

function step(name: PeerProfileName, suite?: SuiteName): LadderStep {
  return { profile: peerProfile(name), ...(suite === undefined ? {} : { suite }) };
}

/** What tells the writers of NULL-keyed messages apart. */
interface Shape {
  readonly mki: boolean;
  /** Types of the policy's parameters in order. */
  readonly types: string;
  /** Parameter 3 holds a tag length, or 0 for AEAD, and neither 11 nor 20 is there. */
  readonly gstreamer: boolean;
  readonly aeadAsHmac: boolean;
}

function shapeOf(message: DecodedMessage, keyData: Uint8Array): Shape {
  const params = payloadOf(message, "SP")?.params ?? [];
  const value = (type: number): number | undefined => {
    const param = params.find((candidate) => candidate.type === type);
    return param === undefined ? undefined : policyNumber(param.value);
  };
  const authKey = value(SrtpParam.SESSION_AUTH_KEY_LENGTH);
  const tag = value(SrtpParam.AUTH_TAG_LENGTH) ?? value(SrtpParam.AEAD_TAG_LENGTH);
  let mki = false;
  try {
    mki = decodeKeyData(keyData).some(({ validity }) => validity.kv === "spi" && validity.spi.length > 0);
  } catch (error) {
    // A chain that cannot be read is refused with its reason by whoever answers the message.
    if (!(error instanceof CodecError)) throw error;
  }
  return {
    mki,
    types: params.map(({ type }) => type).join(),
    gstreamer: tag === undefined && authKey !== undefined && [0, 4, 10].includes(authKey),
    aeadAsHmac: authKey === 0 && tag !== undefined,
  };
}

function decoded(octets: Uint8Array): DecodedMessage | undefined {
  try {
    return decodeMessage(octets, { trailing: "keep" });
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}
