import { WatchwordError } from "../bytes/index.js";

/** The names of RFC 4568 §6.2, RFC 6188 §5 and RFC 7714 §14.2; the NULL cipher has none, a=crypto says UNENCRYPTED_SRTP. */
export type SuiteName =
  | "AES_CM_128_HMAC_SHA1_80"
  | "AES_CM_128_HMAC_SHA1_32"
  | "AES_192_CM_HMAC_SHA1_80"
  | "AES_192_CM_HMAC_SHA1_32"
  | "AES_256_CM_HMAC_SHA1_80"
  | "AES_256_CM_HMAC_SHA1_32"
  | "AEAD_AES_128_GCM"
  | "AEAD_AES_256_GCM"
  | "NULL_HMAC_SHA1_80"
  | "NULL_HMAC_SHA1_32";

/** Everything that distinguishes one suite from another. All lengths in octets. */
export interface Suite {
  readonly name: SuiteName;
  /** The name in a=crypto, where there is one. */
  readonly sdesName: string | undefined;
  /** `cm`: AES counter mode (RFC 3711 §4.1.1); `gcm`: AES-GCM (RFC 7714); `null`: RFC 3711 §4.1.3. */
  readonly cipher: "cm" | "gcm" | "null";
  /** Master key and session encryption key. */
  readonly keyLength: number;
  /** Master salt and session salt. */
  readonly saltLength: number;
  /** Session authentication key (RFC 3711 §5.2), 0 with AEAD. */
  readonly authKeyLength: number;
  readonly rtpTagLength: number;
  /** Ten octets even with the _32 suites (RFC 3711 §5.2, RFC 4568 §6.2.2). */
  readonly rtcpTagLength: number;
  /** Most packets under one master key (RFC 3711 §9.2, RFC 6188 §6, RFC 7714 §14.2). */
  readonly rtpLifetime: number;
  readonly rtcpLifetime: number;
}

/** The end of the 48-bit packet index. */
export const RTP_LIFETIME = 2 ** 48;
/** The end of the 31-bit SRTCP index. */
export const RTCP_LIFETIME = 2 ** 31;

function hmacSuite(name: SuiteName, cipher: "cm" | "null", keyLength: number, rtpTagLength: number): Suite {
  return {
    name,
    sdesName: cipher === "null" ? undefined : name,
    cipher,
    keyLength,
    saltLength: 14,
    authKeyLength: 20,
    rtpTagLength,
    rtcpTagLength: 10,
    rtpLifetime: RTP_LIFETIME,
    rtcpLifetime: RTCP_LIFETIME,
  };
}

function aeadSuite(name: SuiteName, keyLength: number): Suite {
  return {
    name,
    sdesName: name,
    cipher: "gcm",
    keyLength,
    saltLength: 12,
    authKeyLength: 0,
    rtpTagLength: 16,
    rtcpTagLength: 16,
    rtpLifetime: RTP_LIFETIME,
    rtcpLifetime: RTCP_LIFETIME,
  };
}

/** Every suite, once. */
export const SUITES: Readonly<Record<SuiteName, Suite>> = {
  AES_CM_128_HMAC_SHA1_80: hmacSuite("AES_CM_128_HMAC_SHA1_80", "cm", 16, 10),
  AES_CM_128_HMAC_SHA1_32: hmacSuite("AES_CM_128_HMAC_SHA1_32", "cm", 16, 4),
  AES_192_CM_HMAC_SHA1_80: hmacSuite("AES_192_CM_HMAC_SHA1_80", "cm", 24, 10),
  AES_192_CM_HMAC_SHA1_32: hmacSuite("AES_192_CM_HMAC_SHA1_32", "cm", 24, 4),
  AES_256_CM_HMAC_SHA1_80: hmacSuite("AES_256_CM_HMAC_SHA1_80", "cm", 32, 10),
  AES_256_CM_HMAC_SHA1_32: hmacSuite("AES_256_CM_HMAC_SHA1_32", "cm", 32, 4),
  AEAD_AES_128_GCM: aeadSuite("AEAD_AES_128_GCM", 16),
  AEAD_AES_256_GCM: aeadSuite("AEAD_AES_256_GCM", 32),
  NULL_HMAC_SHA1_80: hmacSuite("NULL_HMAC_SHA1_80", "null", 16, 10),
  NULL_HMAC_SHA1_32: hmacSuite("NULL_HMAC_SHA1_32", "null", 16, 4),
};

/** The suites in the order of the table. */
export const suiteNames: readonly SuiteName[] = Object.keys(SUITES) as SuiteName[];

/** Whether a text names a suite. */
export function isSuiteName(name: string): name is SuiteName {
  return Object.hasOwn(SUITES, name);
}

/** @throws WatchwordError `srtp.suite` for a name that is not in the table */
export function suiteOf(name: string): Suite {
  if (!isSuiteName(name)) throw new WatchwordError("srtp.suite", `no SRTP suite is called ${name.slice(0, 64)}`);
  return SUITES[name];
}
