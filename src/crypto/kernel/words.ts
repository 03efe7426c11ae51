import { type Code, i32, type Operand } from "./assembler.js";

/** 32-bit words as octets in the order of WebAssembly. */
export const littleEndian = (words: readonly number[]): number[] =>
  words.flatMap((word) => [word & 0xff, (word >>> 8) & 0xff, (word >>> 16) & 0xff, word >>> 24]);

/** The order of octets turned round in each word. */
export const SWAP_WORDS = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];

/** A word with its octets turned round. */
export function swapWord(word: Operand): Code {
  return i32.or(i32.and(i32.rotl(word, 8), 0x00ff00ff), i32.and(i32.rotl(word, 24), 0xff00ff00));
}
