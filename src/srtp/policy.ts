import type { SrtpPolicy } from "./contracts.js";
import { suiteOf } from "./suites.js";

/** Whether every packet is authenticated, RTP and RTCP: rollover carrying can leave packets without a MAC (RFC 4771 §3). */
export function authenticatesEverything({ suite, authenticateRtp = true, rolloverCarrying }: SrtpPolicy): boolean {
  if (!authenticateRtp) return false;
  if (rolloverCarrying === undefined || suiteOf(suite).cipher === "gcm") return true;
  const { mode, rate = 1 } = rolloverCarrying;
  return mode === 2 || (mode === 1 && rate === 1);
}

/** Whether every packet is encrypted and authenticated, RTP and RTCP. */
export function protectsEverything(policy: SrtpPolicy): boolean {
  const encrypts = policy.encryptRtp !== false && policy.encryptRtcp !== false && suiteOf(policy.suite).cipher !== "null";
  return encrypts && authenticatesEverything(policy);
}
