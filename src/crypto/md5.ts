import { md5 as nobleMd5 } from "@noble/hashes/legacy.js";

/**
 * MD5, 16 octets. It is broken as a hash and here only because Digest authentication of deployed RTSP and SIP peers
 * (RFC 2617, RFC 7616 algorithm MD5) knows nothing else; no key is derived and nothing is signed with it.
 */
export function md5(octets: Uint8Array): Uint8Array {
  return nobleMd5(octets);
}
