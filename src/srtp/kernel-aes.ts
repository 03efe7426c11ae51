import { wipe } from "../bytes/index.js";
import type { Kernel } from "./kernel.js";
import type { KernelBlocks } from "./kernel-keystream.js";
import { AES_BLOCKS, AES_ROUND_KEY } from "./kernel-layout.js";

/** What the kernel's S-box leaves out: round keys after the first have it instead. */
const S_BOX_CONSTANT = 0x63;
const WORD = 4;

/** Octets of the context of AES under a key of so many octets. */
export function aesContextLength(keyLength: number): number {
  return (roundsOf(keyLength) + 1) * AES_ROUND_KEY;
}

/** Rounds of AES (FIPS 197 §5). */
function roundsOf(keyLength: number): number {
  return keyLength / WORD + 6;
}

/**
 * The kernel's own AES, for hosts without a native one: bitsliced, with no octet of key or data as an address.
 * @param context `aesContextLength` octets of the heap, which the caller wipes and gives back
 */
export function kernelAes(kernel: Kernel, key: Uint8Array, context: number): KernelBlocks {
  const { exports, octets } = kernel;
  const rounds = roundsOf(key.length);
  const schedule = expandKey(kernel, key, rounds);
  for (let round = 0; round <= rounds; round++) {
    octets.set(schedule.subarray(16 * round, 16 * round + 16), AES_BLOCKS);
    exports.prepareRoundKey(context + round * AES_ROUND_KEY, round === 0 ? 0 : S_BOX_CONSTANT);
  }
  octets.fill(0, AES_BLOCKS, AES_BLOCKS + 128);
  wipe(schedule);
  return {
    encrypt: (from, to, length) => exports.encryptBlocks(context, rounds, from, to, length >> 4),
    wipe() {},
  };
}

/** KeyExpansion (FIPS 197 §5.2). */
function expandKey({ exports, octets }: Kernel, key: Uint8Array, rounds: number): Uint8Array {
  const schedule = new Uint8Array(16 * (rounds + 1));
  schedule.set(key);
  const word = new Uint8Array(WORD);
  let constant = 1;
  for (let at = key.length; at < schedule.length; at += WORD) {
    word.set(schedule.subarray(at - WORD, at));
    const place = at % key.length;
    if (place === 0 || (key.length > 24 && place === 16)) {
      octets.set(word, AES_BLOCKS);
      exports.substitute();
      for (let i = 0; i < WORD; i++) word[i] = (octets[AES_BLOCKS + i] as number) ^ S_BOX_CONSTANT;
    }
    if (place === 0) {
      // RotWord and SubWord may change places.
      const [a, b, c, d] = word as unknown as [number, number, number, number];
      word.set([b ^ constant, c, d, a]);
      constant = (constant << 1) ^ (constant >= 0x80 ? 0x11b : 0);
    }
    for (let i = 0; i < WORD; i++) schedule[at + i] = (schedule[at + i - key.length] as number) ^ (word[i] as number);
  }
  wipe(word);
  return schedule;
}
