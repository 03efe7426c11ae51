import { WatchwordError } from "../bytes/index.js";
import type { KeyKind, SpDialect, ToleranceName } from "../mikey/index.js";

/**
 * What is known of one kind of peer: which named tolerances its messages need, and what it understands of ours. The rooms
 * define tolerances and dialects; here they are only listed.
 */
export interface PeerProfile {
  readonly name: string;
  readonly title: string;
  /** Tolerances for what it sends. */
  readonly tolerances: readonly ToleranceName[];
  /** How it reads SP payloads. */
  readonly spDialect: SpDialect;
  /** Shape of the key in NULL-keyed messages, for suites with a MAC of their own and for AEAD. */
  readonly keyKind: { readonly hmac: KeyKind; readonly aead: KeyKind };
  /** Octets of the SPI that keys get; packets then carry it as MKI. 0: KV Null, no MKI. */
  readonly mkiLength: number;
  /** SRTCP tag with the _32 suites, where it departs from the 10 octets of RFC 3711 §5.2. */
  readonly shortSrtcpTag: boolean;
  /** Whether ID and General Extension payloads, and V = 1, may be in messages to it. */
  readonly fullMessages: boolean;
  /** Whether the private SDP attribute (docs/protocol.md §4.1) may be shown to it. */
  readonly privateAttributes: boolean;
  /** Whether keys are replaced mid-stream. */
  readonly rekey: boolean;
}

const PROFILES = {
  strict: {
    title: "RFC 3830 and nothing beside it; NULL keying in the common ground of all known receivers",
    // RFC 3830 leaves the salt of a bare TEK open, and there is only one reading in use.
    tolerances: ["concatenated-key-and-salt"],
    spDialect: "base",
    keyKind: { hmac: "TEK", aead: "TEK+SALT" },
    mkiLength: 4,
    shortSrtcpTag: false,
    fullMessages: true,
    privateAttributes: true,
    rekey: true,
  },
  gstreamer: {
    title: "GStreamer rtspsrc and gst-rtsp-server",
    tolerances: [
      "concatenated-key-and-salt",
      "tag-length-in-auth-key-length",
      "short-srtcp-tag",
      "several-cs-one-policy",
      "ssrc-zero-or-random",
      "v-flag-without-meaning",
    ],
    spDialect: "gstreamer",
    keyKind: { hmac: "TEK", aead: "TEK" },
    // srtpdec drops every packet with an MKI unless the application handles its request-key.
    mkiLength: 0,
    shortSrtcpTag: true,
    // ID, V and General Extension payloads hang GStreamer up to 1.24.12 for ever.
    fullMessages: false,
    privateAttributes: true,
    rekey: false,
  },
  onvif: {
    title: "cameras and recorders after the ONVIF Streaming Specification",
    tolerances: [
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
    ],
    spDialect: "onvif",
    keyKind: { hmac: "TEK", aead: "TEK+SALT" },
    mkiLength: 4,
    shortSrtcpTag: false,
    fullMessages: false,
    privateAttributes: false,
    rekey: true,
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
