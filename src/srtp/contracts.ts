import type { SuiteName } from "./suites.js";

/** How packets of a session are protected (RFC 3711 §8.2; what MIKEY SP and a=crypto session parameters say). */
export interface SrtpPolicy {
  readonly suite: SuiteName;
  /** Default true. False is UNENCRYPTED_SRTP (impossible with AEAD). */
  readonly encryptRtp?: boolean;
  /** Default true. False: SRTCP leaves with E = 0. */
  readonly encryptRtcp?: boolean;
  /** Default true. False is UNAUTHENTICATED_SRTP (impossible with AEAD); SRTCP is always authenticated (RFC 3711 §3.4). */
  readonly authenticateRtp?: boolean;
  /** 0 or a power of two up to 2^24 (RFC 3711 §4.3.1). Default 0. */
  readonly keyDerivationRate?: number;
  /** SRTCP tag octets where a peer departs from the suite's (GStreamer: 4 with _32). */
  readonly rtcpTagLength?: number;
}

/** One master key (RFC 3711 §3.2.1, §8.1). The session copies the octets and wipes its copies. */
export interface SrtpMasterKey {
  /** Length as the suite says. */
  readonly key: Uint8Array;
  /** 14 octets, 12 for AEAD. */
  readonly salt: Uint8Array;
  /** Carried in every packet when present; all keys of a session have equal MKI lengths. */
  readonly mki?: Uint8Array;
  /** Most packets per SSRC, default 2^48 SRTP and 2^31 SRTCP (RFC 3711 §9.2); reaching it is an error, not a wrap. */
  readonly rtpLifetime?: number;
  readonly rtcpLifetime?: number;
}

/** One packet to seal or open, all views into caller's memory. What a backend sees: no headers are parsed below this line. */
export interface PacketJob {
  /** Packet in, from the first octet of the RTP or RTCP header. */
  input: Uint8Array;
  /** Result, at least as long as input plus the cipher's overhead (seal); may be the same memory as `input`. */
  output: Uint8Array;
  /** Octets that stay in the clear: RTP header with CSRCs and extension, or 8 for RTCP, or the whole packet when unencrypted. */
  headerLength: number;
  ssrc: number;
  /** 48-bit packet index (RTP) or 31-bit SRTCP index. */
  index: number;
}

/**
 * Transform of one direction under one set of session keys: layout, keystream and tags, no rollover, replay or MKI.
 * Jobs come in batches so that a backend can amortise; results are octet counts in job order, -1 where `open` found a wrong tag.
 */
export interface PacketCipher {
  /** Octets that seal adds to an RTP packet (tag), without the MKI. */
  readonly rtpOverhead: number;
  /** Octets that seal adds to an RTCP packet (tag and index word), without the MKI. */
  readonly rtcpOverhead: number;
  sealRtp(jobs: readonly PacketJob[], count: number, results: Int32Array): void;
  openRtp(jobs: readonly PacketJob[], count: number, results: Int32Array): void;
  sealRtcp(jobs: readonly PacketJob[], count: number, results: Int32Array): void;
  openRtcp(jobs: readonly PacketJob[], count: number, results: Int32Array): void;
  wipe(): void;
}

/** What a receiver counted. */
export interface SrtpStatistics {
  packets: number;
  octets: number;
  authenticationFailures: number;
  replays: number;
  unknownMki: number;
}
