import { WatchwordError } from "../bytes/index.js";
import type { Endpoint } from "../io/index.js";
import type { MediaTrack } from "../rtsp/index.js";
import { type SrtpMasterKey, type SrtpPolicy, suiteOf } from "../srtp/index.js";

/** One direction of one m= line, to be handed to a program that is not watchword. */
export interface ExportStream {
  readonly policy: SrtpPolicy;
  /** At least one; with several, each has an MKI. */
  readonly keys: readonly SrtpMasterKey[];
  /** Of the packets; absent or 0 where it is not known. */
  readonly ssrc?: number;
  /** Of that SSRC now. Default 0. */
  readonly rolloverCounter?: number;
  /** What is in the packets, where it is known. */
  readonly track?: MediaTrack;
  /** Where the packets arrive, where it is known; RTCP on the next port. */
  readonly target?: Endpoint;
}

/** What a program can be told beside the suite. */
export interface ExportAbilities {
  /** A key derivation rate (RFC 3711 §4.3.1). */
  readonly derivationRate: boolean;
  /** Packets that are not encrypted, or SRTP packets that are not authenticated. */
  readonly openPackets: boolean;
}

/**
 * Refuses every part of a policy that the program could not be told.
 * @throws WatchwordError `tools.export-suite`
 */
export function checkPolicy(policy: SrtpPolicy, program: string, can: ExportAbilities): void {
  if (policy.rolloverCarrying !== undefined) throw unsupported(program, "tags that carry the rollover counter (RFC 4771)");
  if ((policy.encryptedExtensionIds ?? []).length > 0) throw unsupported(program, "encrypted header extension elements (RFC 6904)");
  if (!can.derivationRate && (policy.keyDerivationRate ?? 0) !== 0) throw unsupported(program, "a key derivation rate");
  const open = [policy.encryptRtp, policy.encryptRtcp, policy.authenticateRtp].includes(false);
  if (!can.openPackets && open) throw unsupported(program, "packets that are not encrypted or not authenticated");
}

export function unsupported(program: string, what: string): WatchwordError {
  return new WatchwordError("tools.export-suite", `${program} does not have ${what}`);
}

/** Octets of the SRTCP tag that a policy means. */
export function rtcpTagOf(policy: SrtpPolicy): number {
  return policy.rtcpTagLength ?? suiteOf(policy.suite).rtcpTagLength;
}
