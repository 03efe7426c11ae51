import { WatchwordError } from "../bytes/index.js";
import type { NullDirections } from "../gsa/index.js";
import type { KeyKind, SpDialect, ToleranceName } from "../mikey/index.js";
import type { KeyMgmtBodyForm, SdpToleranceName } from "../sdp/index.js";
import type { SrtpPolicy, SrtpToleranceName, SuiteName } from "../srtp/index.js";

/** How a peer is known. */
export interface PeerEvidence {
  /**
   * `run`: it was started against us or watched. `source`: its published source was read. `capture`: messages of it that others
   * recorded are replayed by the tests. `specification`: a document says so.
   */
  readonly how: readonly ("run" | "source" | "capture" | "specification")[];
  /** Product and version, revision or title. */
  readonly what: string;
  /** Year and month of that version. */
  readonly date: string;
}

/**
 * What is known of one kind of peer: which named tolerances its messages and packets need, and what it understands of ours. The rooms
 * define tolerances and dialects; here they are only listed.
 */
export interface PeerProfile {
  readonly name: string;
  readonly title: string;
  readonly evidence: PeerEvidence;
  /** Tolerances for its MIKEY messages. */
  readonly tolerances: readonly ToleranceName[];
  /** Tolerances for its descriptions and headers. */
  readonly sdpTolerances: readonly SdpToleranceName[];
  /** Tolerances for its packets. */
  readonly srtpTolerances: readonly SrtpToleranceName[];
  /** How it reads SP payloads. */
  readonly spDialect: SpDialect;
  /** Shape of the key in NULL-keyed messages, for suites with a MAC of their own and for AEAD. */
  readonly keyKind: { readonly hmac: KeyKind; readonly aead: KeyKind };
  /** Octets of the SPI that keys get; packets then carry it as MKI. 0: KV Null, no MKI. */
  readonly mkiLength: number;
  /** Whether a server of this kind refuses a client's key without MKI. */
  readonly requireMki: boolean;
  /** Whose key protects which direction with NULL keying. */
  readonly nullDirections: NullDirections;
  /** SRTCP tag with the _32 suites, where it departs from the 10 octets of RFC 3711 §5.2. */
  readonly shortSrtcpTag: boolean;
  /** The suites that it can take; absent: all that MIKEY has code points for. */
  readonly suites?: readonly SuiteName[];
  /** `session`: a server of this kind has its key message at session level. */
  readonly keyLevel: "session" | "media";
  /** What stands as uri in KeyMgmt. */
  readonly keyMgmtUri: "absolute" | "empty";
  /** How SET_PARAMETER carries a new key to it: in the KeyMgmt header, or in a body of either form. */
  readonly rekeyForm: "header" | KeyMgmtBodyForm;
  /** How a NULL-keyed key is replaced mid-stream; `never` where it cannot be. */
  readonly nullRekey: "update" | "replacement" | "never";
  /** Statuses by which it refuses the key of a SETUP: another way is then worth trying. */
  readonly refusals: readonly number[];
  /** Whether the private SDP attribute (docs/protocol.md §4.1) may be shown to it. */
  readonly privateAttributes: boolean;
}

/** What everybody has in common who neither needs nor gets anything special. */
const PLAIN = {
  tolerances: ["concatenated-key-and-salt"],
  sdpTolerances: [],
  srtpTolerances: [],
  spDialect: "base",
  keyKind: { hmac: "TEK", aead: "TEK+SALT" },
  mkiLength: 4,
  requireMki: false,
  nullDirections: "each",
  shortSrtcpTag: false,
  keyLevel: "media",
  keyMgmtUri: "absolute",
  rekeyForm: "header",
  nullRekey: "update",
  refusals: [463],
  privateAttributes: false,
} as const satisfies Partial<PeerProfile>;

/** What recorders and cameras of the ONVIF world send, devices of all makes together. */
const CAMERA_TOLERANCES = [
  "concatenated-key-and-salt",
  "rand-absent",
  "timestamp-unchecked",
  "tag-length-in-auth-key-length",
  "mki-length",
  "empty-spi",
  "trailing-zero",
  "v-flag-without-meaning",
  "ssrc-zero-or-random",
  "several-cs-one-policy",
  "one-key-for-all-streams",
  "rekey-under-new-csb",
] as const satisfies readonly ToleranceName[];

/** What NULL-keyed messages of media frameworks need. */
const FRAMEWORK_TOLERANCES = [
  "concatenated-key-and-salt",
  "tag-length-in-auth-key-length",
  "several-cs-one-policy",
  "one-key-for-all-streams",
  "ssrc-zero-or-random",
  "v-flag-without-meaning",
] as const satisfies readonly ToleranceName[];

const PROFILES = {
  strict: {
    ...PLAIN,
    title: "RFC 3830 and nothing beside it; NULL keying in the common ground of all known receivers",
    evidence: { how: ["run"], what: "both ends of this package", date: "2026-11" },
    // RFC 3830 leaves the salt of a bare TEK open, and there is only one reading in use: PLAIN has it.
    privateAttributes: true,
  },
  gstreamer: {
    ...PLAIN,
    title: "GStreamer rtspsrc and gst-rtsp-server",
    evidence: { how: ["run", "capture"], what: "GStreamer 1.22.0 (Debian 12)", date: "2023-01" },
    tolerances: [...FRAMEWORK_TOLERANCES, "short-srtcp-tag"],
    sdpTolerances: ["capability-without-negotiation"],
    spDialect: "gstreamer",
    keyKind: { hmac: "TEK", aead: "TEK" },
    // srtpdec drops every packet with an MKI unless the application handles its request-key.
    mkiLength: 0,
    shortSrtcpTag: true,
    // A client that manages its keys (1.26 and later) sends them so; rtspsrc answers 200 to ours and then drops every packet.
    rekeyForm: "KeyMgmt",
    nullRekey: "never",
    privateAttributes: true,
  },
  onvif: {
    ...PLAIN,
    title: "cameras and recorders after the ONVIF Streaming Specification",
    evidence: { how: ["specification", "capture"], what: "ONVIF Streaming Specification 26.06", date: "2026-06" },
    tolerances: CAMERA_TOLERANCES,
    sdpTolerances: ["empty-key-mgmt-uri", "capability-without-negotiation"],
    srtpTolerances: ["mki-missing-in-packets"],
    spDialect: "onvif",
    // The device gives the key, or the client does; either way there is one.
    nullDirections: "one",
    rekeyForm: "mikey",
    refusals: [403, 463],
  },
  gortsplib: {
    ...PLAIN,
    title: "gortsplib and MediaMTX",
    evidence: { how: ["source", "capture"], what: "gortsplib 9b93574", date: "2026-08" },
    tolerances: [...FRAMEWORK_TOLERANCES, "mki-length"],
    sdpTolerances: ["capability-without-negotiation"],
    keyKind: { hmac: "TEK", aead: "TEK" },
    mkiLength: 0,
    suites: ["AES_CM_128_HMAC_SHA1_80"],
    rekeyForm: "KeyMgmt",
    nullRekey: "never",
    refusals: [400, 463],
  },
  live555: {
    ...PLAIN,
    title: "LIVE555 and VLC",
    evidence: { how: ["source", "capture"], what: "LIVE555 2026.06.24; VLC 3.0.23", date: "2026-06" },
    tolerances: ["concatenated-key-and-salt", "ssrc-zero-or-random"],
    // One cryptographic context both ways: the server's key, which the client sends back, or the client's where there is none.
    nullDirections: "one",
    suites: ["AES_CM_128_HMAC_SHA1_80"],
    nullRekey: "never",
    refusals: [403, 463],
  },
  axis: {
    ...PLAIN,
    title: "Axis cameras",
    evidence: {
      how: ["source", "capture"],
      what: "Axis SRTP and RTSPS reference; gortsplib 9b93574 and Nx against the cameras",
      date: "2026-08",
    },
    tolerances: CAMERA_TOLERANCES,
    sdpTolerances: ["empty-key-mgmt-uri"],
    srtpTolerances: ["mki-missing-in-packets"],
    spDialect: "nx",
    keyKind: { hmac: "TEK", aead: "TEK" },
    requireMki: true,
    nullDirections: "answerer",
    keyLevel: "session",
    rekeyForm: "KeyMgmt",
    nullRekey: "replacement",
  },
  genetec: {
    ...PLAIN,
    title: "Genetec Omnicast, and devices that were built for it",
    evidence: {
      how: ["capture", "specification"],
      what: "Genetec Omnicast 1.0 client; examples of ONVIF Streaming",
      date: "2018-07",
    },
    tolerances: CAMERA_TOLERANCES,
    sdpTolerances: ["empty-key-mgmt-uri"],
    nullDirections: "answerer",
    keyMgmtUri: "empty",
    rekeyForm: "mikey",
    nullRekey: "replacement",
  },
  hanwha: {
    ...PLAIN,
    title: "Hanwha Vision (iPOLiS) cameras",
    evidence: { how: ["capture"], what: "Hanwha iPOLiS camera as addressed by Genetec Omnicast", date: "2018-07" },
    tolerances: CAMERA_TOLERANCES,
    sdpTolerances: ["empty-key-mgmt-uri"],
    srtpTolerances: ["mki-missing-in-packets"],
    nullDirections: "answerer",
    keyMgmtUri: "empty",
    suites: ["AES_CM_128_HMAC_SHA1_80"],
    rekeyForm: "mikey",
    nullRekey: "replacement",
  },
  milestone: {
    ...PLAIN,
    title: "Milestone XProtect",
    evidence: { how: ["capture"], what: "Milestone XProtect client", date: "2025-07" },
    tolerances: [...FRAMEWORK_TOLERANCES, "trailing-zero"],
    spDialect: "base",
    keyKind: { hmac: "TEK", aead: "TEK" },
    mkiLength: 0,
    suites: ["AES_CM_128_HMAC_SHA1_80"],
    nullRekey: "never",
  },
  nx: {
    ...PLAIN,
    title: "Nx Witness and its kin (Network Optix)",
    evidence: { how: ["source", "capture"], what: "nx_open, MIKEY code of rtsp streaming", date: "2026-08" },
    tolerances: FRAMEWORK_TOLERANCES,
    spDialect: "nx",
    keyKind: { hmac: "TEK", aead: "TEK" },
    mkiLength: 0,
    // A key of its own for its own direction; after 463 one with MKI for both.
    nullDirections: "by-mki",
    suites: ["AES_CM_128_HMAC_SHA1_80", "AES_256_CM_HMAC_SHA1_80", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"],
    nullRekey: "never",
  },
} as const satisfies Readonly<Record<string, Omit<PeerProfile, "name">>>;

export type PeerProfileName = keyof typeof PROFILES;

/** The names that `peerProfile` knows. */
export const peerProfileNames: readonly PeerProfileName[] = Object.keys(PROFILES) as PeerProfileName[];

/** @throws WatchwordError `peers.unknown-profile` that lists the known names */
export function peerProfile(name: string): PeerProfile {
  if (!Object.hasOwn(PROFILES, name)) {
    throw new WatchwordError(
      "peers.unknown-profile",
      `no peer profile is called ${name.slice(0, 64)}; there are ${peerProfileNames.join(", ")}`,
    );
  }
  return { name, ...PROFILES[name as PeerProfileName] };
}

/** A suite as a kind of peer wants it. */
export function peerPolicy(profile: Pick<PeerProfile, "shortSrtcpTag">, suite: SuiteName): SrtpPolicy {
  return { suite, ...(profile.shortSrtcpTag && suite.endsWith("_32") ? { rtcpTagLength: 4 } : {}) };
}

/**
 * A server for clients of whatever kind: its NULL-keyed message is the one that the most particular of them reads, GStreamer, and
 * every departure that is known of any is put up with.
 */
export function anyClientProfile(): PeerProfile {
  const profiles = peerProfileNames.map(peerProfile);
  return {
    ...peerProfile("gstreamer"),
    name: "auto",
    title: "clients of any kind",
    tolerances: [...new Set(profiles.flatMap(({ tolerances }) => tolerances))],
    sdpTolerances: [...new Set(profiles.flatMap(({ sdpTolerances }) => sdpTolerances))],
    srtpTolerances: [...new Set(profiles.flatMap(({ srtpTolerances }) => srtpTolerances))],
    nullDirections: "by-mki",
  };
}
