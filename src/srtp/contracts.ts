import type { CryptoProvider } from "../crypto/index.js";
import type { SessionKeys } from "./key-derivation.js";
import type { Suite, SuiteName } from "./suites.js";

/** How packets of a session are protected (RFC 3711 §8.2; what MIKEY SP and a=crypto session parameters say). */
export interface SrtpPolicy {
  readonly suite: SuiteName;
  /** Default true. False is UNENCRYPTED_SRTP (impossible with AEAD). */
  readonly encryptRtp?: boolean;
  /** Default true. False: SRTCP leaves with E = 0. What comes in is taken as its E bit says. */
  readonly encryptRtcp?: boolean;
  /** Default true. False is UNAUTHENTICATED_SRTP (impossible with AEAD); SRTCP is always authenticated (RFC 3711 §3.4). */
  readonly authenticateRtp?: boolean;
  /** 0 or a power of two up to 2^24 (RFC 3711 §4.3.1). Default 0. */
  readonly keyDerivationRate?: number;
  /** SRTCP tag octets where a peer departs from the suite's (GStreamer: 4 with _32); not with AEAD. */
  readonly rtcpTagLength?: number;
  /**
   * Ids of RTP header extension elements (RFC 8285) whose bodies are encrypted (RFC 6904), 1 to 255. With the NULL cipher or
   * `encryptRtp: false` they stay in the clear. Default none. SDP negotiates them, not MIKEY.
   */
  readonly encryptedExtensionIds?: readonly number[];
  /** Default: packets do not carry their rollover counter. */
  readonly rolloverCarrying?: RolloverCarrying;
}

/** SRTP packets whose tags carry the rollover counter, so that receivers may join at any time (RFC 4771). SRTCP is as ever. */
export interface RolloverCarrying {
  /**
   * 1: packets with the counter are authenticated, others are not (with a rate above 1 no protection against injected packets).
   * 2: all are. 3: none are, for networks without attackers; with AEAD suites, which allow only this mode, all are.
   */
  readonly mode: 1 | 2 | 3;
  /** Packets whose sequence number is a multiple of this carry the counter, 1 to 65535. Default 1. */
  readonly rate?: number;
  /** Octets of the tag, the four of the counter included, 8 to 20; in mode 3 it is 4. Default: the suite's tag and 4. */
  readonly tagLength?: number;
}

/** One master key (RFC 3711 §3.2.1, §8.1). The session copies the octets and wipes its copies. */
export interface SrtpMasterKey {
  /** Length as the suite says. */
  readonly key: Uint8Array;
  /** 14 octets, 12 for AEAD. */
  readonly salt: Uint8Array;
  /** Carried in every packet when present; all keys of a session have equal MKI lengths. */
  readonly mki?: Uint8Array;
  /** Most packets under this key, all SSRCs together; default 2^48 SRTP and 2^31 SRTCP (RFC 3711 §9.2). Reaching it is an error, not a wrap. */
  readonly rtpLifetime?: number;
  readonly rtcpLifetime?: number;
}

/**
 * `auto`: the WebAssembly kernel where it runs, else `provider`. `kernel`: the kernel, or an error. `provider`: portable transforms
 * over the primitives of `crypto`.
 */
export type SrtpBackendChoice = "auto" | "kernel" | "provider";

/** What sender and receiver have in common. */
export interface SrtpOptions {
  readonly policy: SrtpPolicy;
  /** At least one; the last is the newest. A sender starts with the last. */
  readonly keys: readonly SrtpMasterKey[];
  /** Default: the fastest of the platform. */
  readonly crypto?: CryptoProvider;
  /** Which packet transforms protect and open packets. Default `auto`; what came of it is `backend` of the session. */
  readonly backend?: SrtpBackendChoice;
  /** Packet transforms from elsewhere, instead of a backend. */
  readonly cipherFactory?: PacketCipherFactory;
  /**
   * `absent`: the MKI names keys for `useKey` and `removeKey`, but is not in the packets, for a peer that announces an MKI and
   * sends packets without. Default `expected`.
   */
  readonly mkiOnWire?: "expected" | "absent";
  /** Packets of one SSRC that may arrive (or be protected) out of order, at least 64 (RFC 3711 §3.3.2), a power of two. Default 128. */
  readonly replayWindow?: number;
  /** Most SSRCs with state. Default 1024. */
  readonly maxSsrcs?: number;
}

export interface SrtpReceiverOptions extends SrtpOptions {
  /** ROC of an SSRC that nothing is known of. Default 0. */
  readonly initialRolloverCounter?: number;
  /** Whether the first packet of an SSRC may also be tried with ROC + 1, ROC - 1 and 0: at most three authentications more. Default false. */
  readonly searchRolloverCounter?: boolean;
  /**
   * Asked in rollover carrying without any authentication (mode 3) for every packet with a counter: whether the application knows
   * the ROC of the SSRC to be right, so that the packet's is not taken (RFC 4771 §3). Default never.
   */
  readonly isRolloverSynchronized?: (ssrc: number) => boolean;
}

/** Packets under one key so far. */
export interface SrtpKeyUsage {
  readonly rtp: number;
  readonly rtcp: number;
}

/** What sender and receiver both do. Where keys have no MKI they are told apart by age. */
export interface SrtpSession {
  readonly policy: SrtpPolicy;
  /**
   * Where packets are protected and opened: `kernel+node` (the kernel, with AES of the named provider), `kernel` (the kernel alone),
   * the name of a provider (`node`, `noble`) whose primitives portable transforms use, or `custom` with a `cipherFactory`.
   */
  readonly backend: string;
  /**
   * Takes one more master key. A receiver opens packets under it at once, a sender uses it after `useKey`.
   * @throws WatchwordError `srtp.key-length`, `srtp.mki-length`, `srtp.mki-duplicate`, `srtp.lifetime-range`, `srtp.closed`
   */
  addKey(key: SrtpMasterKey): void;
  /** Forgets and wipes the key with this MKI; without an MKI, the oldest. False where there is none. */
  removeKey(mki?: Uint8Array): boolean;
  /** Packets under the key with this MKI; without an MKI, the newest. */
  keyUsage(mki?: Uint8Array): SrtpKeyUsage | undefined;
  /** SSRCs with state. */
  readonly ssrcs: readonly number[];
  /** The rollover counter of an SSRC, undefined where nothing is known of it. */
  rolloverCounter(ssrc: number): number | undefined;
  /** The highest sequence number of an SSRC, undefined before its first packet. */
  highestSequence(ssrc: number): number | undefined;
  /** Wipes every key. The session does nothing more. */
  close(): void;
}

/** Protects packets of any number of SSRCs (RFC 3711 §3.3). Mistakes of the caller throw. */
export interface SrtpSender extends SrtpSession {
  /** Most octets that `protect` adds. */
  readonly rtpOverhead: number;
  /** Most octets that `protectRtcp` adds. */
  readonly rtcpOverhead: number;
  /**
   * Protects one RTP packet into `out`: the packet's own memory (with room behind the view's end only if `out` is that longer view,
   * starting at the same octet) or memory apart from it.
   * @returns octets written
   * @throws WatchwordError `srtp.malformed`, `srtp.output-space`, `srtp.index-reuse`, `srtp.lifetime`, `srtp.ssrc-limit`, `srtp.closed`
   */
  protect(packet: Uint8Array, out: Uint8Array): number;
  /**
   * Protects `packets[i]` into `outs[i]` and puts octets written, or a negative `SrtpFailure`, into `lengths[i]`.
   * @returns how many were protected
   * @throws WatchwordError `srtp.closed`
   */
  protectBatch(packets: readonly Uint8Array[], outs: readonly Uint8Array[], lengths: Int32Array): number;
  /** Protects one compound RTCP packet; see `protect`. The first SRTCP index of an SSRC is 0 (RFC 3711 §3.4). */
  protectRtcp(packet: Uint8Array, out: Uint8Array): number;
  /** Sends under this key from now on; without an MKI, the newest. ROC and SRTCP index go on. @throws WatchwordError `srtp.unknown-mki` */
  useKey(mki?: Uint8Array): void;
  /**
   * Sets the ROC of an SSRC: before its first packet, or forward.
   * @throws WatchwordError `srtp.index-reuse` where packets could be protected twice under one index, `srtp.ssrc-limit`
   */
  setRolloverCounter(ssrc: number, rolloverCounter: number): void;
}

/** Opens packets of any number of SSRCs. Nothing that arrives throws or leaves state behind before it is authenticated. */
export interface SrtpReceiver extends SrtpSession {
  /**
   * Opens one SRTP packet into `out`: the packet's own memory, starting at the same octet, or memory apart from it.
   * @returns octets of the RTP packet, or a negative `SrtpFailure`
   */
  unprotect(packet: Uint8Array, out: Uint8Array): number;
  /** Opens `packets[i]` into `outs[i]`; octets or a negative `SrtpFailure` go to `lengths[i]`. @returns how many were opened */
  unprotectBatch(packets: readonly Uint8Array[], outs: readonly Uint8Array[], lengths: Int32Array): number;
  /** Opens one SRTCP packet; see `unprotect`. Any first index is accepted. */
  unprotectRtcp(packet: Uint8Array, out: Uint8Array): number;
  /**
   * Tells the ROC of an SSRC, seen or not yet seen, and the sequence number last sent if that is known (MIKEY map type 2).
   * An SSRC already seen starts over with an empty replay window.
   * @throws WatchwordError `srtp.ssrc-limit`
   */
  setRolloverCounter(ssrc: number, rolloverCounter: number, sequence?: number): void;
  /**
   * Drops the state of an SSRC, its replay windows included: for an SSRC that is never used again, or packets of it could be accepted twice.
   * @returns false where nothing is known of it
   */
  forget(ssrc: number): boolean;
  readonly statistics: Readonly<SrtpStatistics>;
  readonly rtcpStatistics: Readonly<SrtpStatistics>;
}

/** What a receiver counted. */
export interface SrtpStatistics {
  /** Packets opened, and their octets after opening. */
  packets: number;
  octets: number;
  authenticationFailures: number;
  /** Seen before, or older than the replay window. */
  replays: number;
  unknownMki: number;
  malformed: number;
  /** Authentic or not, dropped for another reason: key lifetime, SSRC limit, no room in `out`, closed. */
  discarded: number;
}

/** One packet to seal or open, all views into caller's memory. What a backend sees: no headers are parsed below this line. */
export interface PacketJob {
  /** Packet in, from the first octet of the RTP or RTCP header to its end. */
  input: Uint8Array;
  /** Result; the caller has checked that there is room. Starts where `input` starts, or shares no memory with it. */
  output: Uint8Array;
  /** Octets that stay in the clear: RTP header with CSRCs and extension, or 8 for RTCP. */
  headerLength: number;
  /** Whether the octets after the header are encrypted: the policy for RTP, the E bit for RTCP. */
  encrypted: boolean;
  ssrc: number;
  /** 48-bit packet index (RTP) or 31-bit SRTCP index. */
  index: number;
}

/**
 * Transform of one direction of SRTP or of SRTCP under one set of session keys: layout, keystream, tags and the MKI, but no
 * rollover, replay or choice of key. Jobs come in batches so that a backend can amortise.
 */
export interface PacketCipher {
  /** Octets that seal adds: tag, MKI and, for SRTCP, the index word. */
  readonly overhead: number;
  /** `results[i]`: octets written. */
  seal(jobs: readonly PacketJob[], count: number, results: Int32Array): void;
  /** `results[i]`: octets written, or -1 for a wrong tag: the output then holds nothing of the packet. Input is longer than `overhead`. */
  open(jobs: readonly PacketJob[], count: number, results: Int32Array): void;
  wipe(): void;
}

/** What a PacketCipher is made of. */
export interface PacketCipherParameters {
  readonly protocol: "rtp" | "rtcp";
  readonly suite: Suite;
  /** The cipher copies what it keeps; the caller wipes these. */
  readonly keys: SessionKeys;
  /** 0: packets have no tag. */
  readonly tagLength: number;
  /** The MKI of the packets, empty for none. */
  readonly mki: Uint8Array;
}

/** Makes packet transforms: the seam at which a faster kernel comes in. */
export type PacketCipherFactory = (parameters: PacketCipherParameters) => PacketCipher;
