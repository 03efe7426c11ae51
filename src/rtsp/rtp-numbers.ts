/** Numbers that RTP streams begin with (RFC 3550 §5.1). */

/** Sequence numbers start below 2^15, so that the first rollover is far away from any loss at the start (RFC 3711 §3.3.1). */
const FIRST_SEQUENCE_MASK = 0x7fff;

/** @param random octets of a strong source */
export function randomSequenceNumber(random: (length: number) => Uint8Array): number {
  const [high = 0, low = 0] = random(2);
  return ((high << 8) | low) & FIRST_SEQUENCE_MASK;
}

/** @param random octets of a strong source */
export function randomSsrc(random: (length: number) => Uint8Array): number {
  const [a = 0, b = 0, c = 0, d = 0] = random(4);
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}
