import { WatchwordError } from "../bytes/index.js";

/**
 * Why a packet was not opened (or, in a batch, not protected): the negative numbers that stand where a length would.
 * A wrong tag has one number whatever was wrong with the packet.
 */
export const SrtpFailure = {
  /** Not an RTP or RTCP packet, or too short for its header, MKI and tag. */
  malformed: -1,
  /** The tag is wrong under every key that the packet may be under. */
  authentication: -2,
  /** The index was seen before, or is older than the window. */
  replay: -3,
  /** No key has the packet's MKI. */
  unknownMki: -4,
  /** The key has protected as many packets as it may, or the 48-bit index has come to its end (RFC 3711 §9.2). */
  lifetime: -5,
  /** No more SSRCs may have state. */
  ssrcLimit: -6,
  /** `out` is too short. */
  outputSpace: -7,
  /** The session is closed, or has no key. */
  closed: -8,
} as const;

export type SrtpFailureCode = (typeof SrtpFailure)[keyof typeof SrtpFailure];

const ERRORS: Readonly<Record<SrtpFailureCode, readonly [code: string, message: string]>> = {
  [SrtpFailure.malformed]: ["srtp.malformed", "not a well-formed packet"],
  [SrtpFailure.authentication]: ["srtp.authentication", "the packet is not authentic"],
  [SrtpFailure.replay]: ["srtp.replay", "the packet index was seen before or is older than the replay window"],
  [SrtpFailure.unknownMki]: ["srtp.unknown-mki", "no key has this MKI"],
  [SrtpFailure.lifetime]: ["srtp.lifetime", "the key has reached its lifetime"],
  [SrtpFailure.ssrcLimit]: ["srtp.ssrc-limit", "no state is left for another SSRC"],
  [SrtpFailure.outputSpace]: ["srtp.output-space", "the output is too short for the packet"],
  [SrtpFailure.closed]: ["srtp.closed", "the session is closed or has no key"],
};

/** The error for a negative result, for callers that prefer exceptions. Any other number is `srtp.malformed`. */
export function srtpError(result: number): WatchwordError {
  const [code, message] = ERRORS[result as SrtpFailureCode] ?? ERRORS[SrtpFailure.malformed];
  return new WatchwordError(code, message);
}
