/** Instruction `i8x16.swizzle` in the kernel, and `i8x16.relaxed_swizzle` in as many octets. */
export const SWIZZLE = [0xfd, 0x8e, 0x80, 0x80, 0x80, 0x00];
export const RELAXED_SWIZZLE = [0xfd, 0x80, 0x82, 0x80, 0x80, 0x00];

/**
 * A kernel with relaxed swizzles, for engines that have them: on x86 such a one is one instruction, while the other one guards its
 * indices first. GHASH, which is made of lookups by swizzle, gains two fifths. Kernels' indices are below 16, for which both do the same.
 */
export function relaxSwizzles(octets: Uint8Array): Uint8Array<ArrayBuffer> {
  const relaxed = new Uint8Array(octets);
  for (let at = 0; at <= relaxed.length - SWIZZLE.length; at++) {
    if (SWIZZLE.every((octet, i) => relaxed[at + i] === octet)) relaxed.set(RELAXED_SWIZZLE, at);
  }
  return relaxed;
}
