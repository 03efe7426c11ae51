/** Octets of the fixed RTP header (RFC 3550 §5.1). */
const RTP_FIXED_HEADER = 12;
/** Octets of an RTCP packet that stay in the clear: the first word and the SSRC (RFC 3711 §3.4). */
export const RTCP_CLEAR_HEADER = 8;

/**
 * Octets of an RTP header with its CSRC list and extension (RFC 3550 §5.1, §5.3.1): everything before the encrypted portion.
 * @param end octets that belong to header and payload: a header may not reach into MKI or tag
 * @returns -1 where the packet is not RTP version 2 or the header does not fit
 */
export function rtpHeaderLength(packet: Uint8Array, end = packet.length): number {
  if (end < RTP_FIXED_HEADER) return -1;
  const first = packet[0] as number;
  if (first >> 6 !== 2) return -1;
  let length = RTP_FIXED_HEADER + 4 * (first & 0x0f);
  if ((first & 0x10) !== 0) {
    if (length + 4 > end) return -1;
    length += 4 + 4 * (((packet[length + 2] as number) << 8) | (packet[length + 3] as number));
  }
  return length > end ? -1 : length;
}

/** SEQ of a packet that is known to be long enough. */
export function rtpSequence(packet: Uint8Array): number {
  return ((packet[2] as number) << 8) | (packet[3] as number);
}

/** SSRC of an RTP packet that is known to be long enough. */
export function rtpSsrc(packet: Uint8Array): number {
  return readU32(packet, 8);
}

/** Whether octets can be (compound) RTCP: version 2, and a sender's SSRC behind the first word (RFC 3550 §6.4). */
export function isRtcp(packet: Uint8Array, end = packet.length): boolean {
  return end >= RTCP_CLEAR_HEADER && (packet[0] as number) >> 6 === 2;
}

/** SSRC of the sender of an RTCP packet that is known to be long enough. */
export function rtcpSsrc(packet: Uint8Array): number {
  return readU32(packet, 4);
}

/** Four octets, network byte order, unsigned. */
export function readU32(octets: Uint8Array, at: number): number {
  return (
    (((octets[at] as number) << 24) |
      ((octets[at + 1] as number) << 16) |
      ((octets[at + 2] as number) << 8) |
      (octets[at + 3] as number)) >>>
    0
  );
}

/** Writes four octets, network byte order. */
export function writeU32(octets: Uint8Array, at: number, value: number): void {
  octets[at] = value >>> 24;
  octets[at + 1] = value >>> 16;
  octets[at + 2] = value >>> 8;
  octets[at + 3] = value;
}
