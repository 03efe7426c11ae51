export * from "./contracts.js";
export { SrtpFailure, type SrtpFailureCode, srtpError } from "./failures.js";
export { isRtcp, rtcpSsrc, rtpHeaderLength, rtpSequence, rtpSsrc } from "./headers.js";
export { derivationEpoch, deriveKey, deriveSessionKeys, type SessionKeys } from "./key-derivation.js";
export { packetCipherFactory } from "./packet-cipher.js";
export { createSrtpReceiver } from "./receiver.js";
export { createSrtpSender } from "./sender.js";
export { isSuiteName, RTCP_LIFETIME, RTP_LIFETIME, SUITES, type Suite, type SuiteName, suiteNames, suiteOf } from "./suites.js";
