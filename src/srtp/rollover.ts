/** Sequence numbers in one turn of the 16-bit counter. */
export const SEQUENCE_SPAN = 0x1_0000;
/** Rollover counters are 32-bit numbers (RFC 3711 §3.2.1). */
export const ROLLOVER_SPAN = 0x1_0000_0000;

/**
 * The packet index 2^16 * ROC + SEQ that lies nearest to the highest one known (RFC 3711 §3.3.1, appendix A).
 * @param rolloverCounter ROC of the highest index
 * @param highest s_l, the SEQ of the highest index
 * @returns a negative number where the index would lie before the first, 2^48 or more where it would lie behind the last: RFC 3711
 *   reckons modulo 2^32 there, but no packet can have such an index without an index used twice
 */
export function estimateIndex(rolloverCounter: number, highest: number, sequence: number): number {
  let guess = rolloverCounter;
  if (highest < 0x8000) {
    if (sequence - highest > 0x8000) guess = rolloverCounter - 1;
  } else if (highest - 0x8000 > sequence) {
    guess = rolloverCounter + 1;
  }
  return guess * SEQUENCE_SPAN + sequence;
}

/** The ROC of a packet index. Most indices are small enough for a shift, which is not felt among all that a packet costs; a division is. */
export function rolloverOf(index: number): number {
  return index < 0x8000_0000 ? index >> 16 : Math.floor(index / SEQUENCE_SPAN);
}
