/** Keys as libsrtp 2 takes them: the fields of `srtp_policy_t`, and C that fills one. */
import { concatBytes, formatHex, WatchwordError } from "../bytes/index.js";
import { type SrtpPolicy, type SuiteName, suiteOf } from "../srtp/index.js";
import { checkPolicy, type ExportStream, rtcpTagOf, unsupported } from "./export-contracts.js";

/** `srtp_crypto_policy_t` with the names of its constants. */
export interface LibsrtpCryptoPolicy {
  readonly cipher_type: string;
  /** Key and salt. */
  readonly cipher_key_len: number;
  readonly auth_type: string;
  readonly auth_key_len: number;
  readonly auth_tag_len: number;
  readonly sec_serv: string;
}

/** `srtp_policy_t`; octets in hexadecimal. */
export interface LibsrtpPolicy {
  readonly ssrc: { readonly type: "ssrc_specific" | "ssrc_any_inbound"; readonly value: number };
  readonly rtp: LibsrtpCryptoPolicy;
  readonly rtcp: LibsrtpCryptoPolicy;
  readonly keys: readonly { readonly key: string; readonly mki_id: string; readonly mki_size: number }[];
  /** For `srtp_set_stream_roc`, where the SSRC is known. */
  readonly roc: number;
}

/** Without AES-192: libsrtp 2.5 derives other session keys than RFC 6188 for it, and opens nothing that others send under RFC 6188. */
const CIPHERS: Partial<Record<SuiteName, string>> = {
  AES_CM_128_HMAC_SHA1_80: "SRTP_AES_ICM_128",
  AES_CM_128_HMAC_SHA1_32: "SRTP_AES_ICM_128",
  AES_256_CM_HMAC_SHA1_80: "SRTP_AES_ICM_256",
  AES_256_CM_HMAC_SHA1_32: "SRTP_AES_ICM_256",
  AEAD_AES_128_GCM: "SRTP_AES_GCM_128",
  AEAD_AES_256_GCM: "SRTP_AES_GCM_256",
};

/** @throws WatchwordError `tools.export-suite`, `tools.export-keys`, `tools.export-rollover` */
export function libsrtpPolicy(stream: ExportStream): LibsrtpPolicy {
  const { policy, keys, ssrc = 0, rolloverCounter = 0 } = stream;
  checkPolicy(policy, "libsrtp", { derivationRate: false, openPackets: true });
  if (keys.length === 0 || (keys.length > 1 && keys.some(({ mki }) => mki === undefined))) {
    throw new WatchwordError("tools.export-keys", "libsrtp takes one key, or several that an MKI tells apart");
  }
  if (ssrc === 0 && rolloverCounter !== 0) {
    throw new WatchwordError("tools.export-rollover", "libsrtp takes a rollover counter for a known SSRC only");
  }
  return {
    ssrc: { type: ssrc === 0 ? "ssrc_any_inbound" : "ssrc_specific", value: ssrc },
    rtp: cryptoPolicy(policy, suiteOf(policy.suite).rtpTagLength, policy.encryptRtp !== false, policy.authenticateRtp !== false),
    rtcp: cryptoPolicy(policy, rtcpTagOf(policy), policy.encryptRtcp !== false, true),
    keys: keys.map(({ key, salt, mki }) => ({
      key: formatHex(concatBytes(key, salt)),
      mki_id: mki === undefined ? "" : formatHex(mki),
      mki_size: mki?.length ?? 0,
    })),
    roc: rolloverCounter,
  };
}

function cryptoPolicy(policy: SrtpPolicy, tagLength: number, encrypt: boolean, authenticate: boolean): LibsrtpCryptoPolicy {
  const { cipher, keyLength, saltLength, authKeyLength } = suiteOf(policy.suite);
  const cipherType = CIPHERS[policy.suite];
  if (cipherType === undefined) throw unsupported("libsrtp", policy.suite);
  return {
    cipher_type: cipherType,
    cipher_key_len: keyLength + saltLength,
    auth_type: cipher === "gcm" ? "SRTP_NULL_AUTH" : "SRTP_HMAC_SHA1",
    auth_key_len: authKeyLength,
    auth_tag_len: tagLength,
    sec_serv: encrypt
      ? authenticate
        ? "sec_serv_conf_and_auth"
        : "sec_serv_conf"
      : authenticate
        ? "sec_serv_auth"
        : "sec_serv_none",
  };
}

/**
 * C definitions of `NAME_policy`, a `srtp_policy_t` for `srtp_create`, and `NAME_roc`, for `srtp_set_stream_roc`.
 * @throws WatchwordError as `libsrtpPolicy`
 */
export function libsrtpSource(stream: ExportStream, name: string): string {
  const { ssrc, rtp, rtcp, keys, roc } = libsrtpPolicy(stream);
  const array = (hex: string): string => (hex.match(/../g) ?? ["0"]).map((octet) => `0x${octet}`).join(", ");
  const crypto = (policy: LibsrtpCryptoPolicy): string =>
    `{ ${Object.entries(policy)
      .map(([field, value]) => `.${field} = ${value}`)
      .join(", ")} }`;
  const lines = keys.flatMap(({ key, mki_id, mki_size }, index) => [
    `static unsigned char ${name}_key_${index}[] = { ${array(key)} };`,
    `static unsigned char ${name}_mki_${index}[] = { ${array(mki_id)} };`,
    `static srtp_master_key_t ${name}_master_${index} = { ${name}_key_${index}, ${name}_mki_${index}, ${mki_size} };`,
  ]);
  return `${[
    // srtp.h does not bring the names of ciphers with it.
    "#include <srtp2/crypto_types.h>",
    "#include <srtp2/srtp.h>",
    ...lines,
    `static srtp_master_key_t *${name}_masters[] = { ${keys.map((_, index) => `&${name}_master_${index}`).join(", ")} };`,
    `static const srtp_policy_t ${name}_policy = {`,
    `  .ssrc = { ${ssrc.type}, ${ssrc.value}u },`,
    `  .rtp = ${crypto(rtp)},`,
    `  .rtcp = ${crypto(rtcp)},`,
    `  .keys = ${name}_masters,`,
    `  .num_master_keys = ${keys.length},`,
    "  .window_size = 128,",
    "};",
    `static const unsigned int ${name}_roc = ${roc}u;`,
  ].join("\n")}\n`;
}
