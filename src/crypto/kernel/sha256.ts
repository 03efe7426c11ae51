import { HASH_SCHEDULE, HASH_STATE } from "../key-kernel-layout.js";
import {
  block,
  type Code,
  doWhile,
  I32,
  i8x16,
  i32,
  type Local,
  type ModuleBuilder,
  type Operand,
  set,
  v128,
  whileLoop,
} from "./assembler.js";
import type { HashFunction } from "./hmac.js";
import { littleEndian, SWAP_WORDS } from "./words.js";

const BLOCK = 64;
/** The first 32 bits of the fractional parts of roots of the first primes (FIPS 180-4 §4.2.2, §5.3.3). */
function fractions(count: number, root: (prime: number) => number): number[] {
  const primes: number[] = [];
  for (let n = 2; primes.length < count; n++) if (primes.every((prime) => n % prime !== 0)) primes.push(n);
  return primes.map((prime) => Math.floor((root(prime) % 1) * 2 ** 32));
}
const INITIAL = fractions(8, Math.sqrt);
const ROUND_CONSTANTS = fractions(64, Math.cbrt);

const rotateRight = (word: Operand, by: number): Code => i32.rotl(word, 32 - by);
const xor3 = (a: Operand, b: Operand, c: Operand): Code => i32.xor(i32.xor(a, b), c);

/** Adds SHA-256. */
export function addSha256(module: ModuleBuilder): HashFunction {
  const constantsAt = module.constant(littleEndian(ROUND_CONSTANTS));

  /** Compresses blocks into the state (FIPS 180-4 §6.2.2). */
  const compress = module.function(undefined, [I32, I32], [], (body, ...parameters) => {
    const [data, blocks] = parameters as [Local, Local];
    const at = body.local(I32);
    const [word, before] = [body.local(I32), body.local(I32)];
    const [temporary, ...state] = body.locals(I32, 9) as [Local, ...Local[]];
    const load = (words: number): Code => i32.load(at, HASH_SCHEDULE + 4 * words);
    const swapped = (vector: Operand): Code => i8x16.swizzle(vector, v128.const(SWAP_WORDS));
    body.emit(
      whileLoop(
        blocks,
        ...[0, 16, 32, 48].map((offset) => v128.store(HASH_SCHEDULE, swapped(v128.load(data, offset)), offset)),
        set(at, 0),
        doWhile(
          i32.ltU(at, 4 * 48),
          ...Array.from({ length: 8 }, (_, i) =>
            block(
              set(word, load(i + 14)),
              set(before, load(i + 1)),
              i32.store(
                at,
                i32.add(
                  i32.add(load(i), xor3(rotateRight(before, 7), rotateRight(before, 18), i32.shrU(before, 3))),
                  i32.add(load(i + 9), xor3(rotateRight(word, 17), rotateRight(word, 19), i32.shrU(word, 10))),
                ),
                HASH_SCHEDULE + 4 * (i + 16),
              ),
            ),
          ),
          set(at, i32.add(at, 32)),
        ),
        ...state.map((local, i) => set(local, i32.load(HASH_STATE, 4 * i))),
        set(at, 0),
        doWhile(
          i32.ltU(at, 4 * 64),
          ...Array.from({ length: 8 }, (_, t) => {
            // Instead of moving eight values on, the names move.
            const [a, b, c, d, e, f, g, h] = Array.from({ length: 8 }, (_, k) => state[(k + 8 - t) % 8]) as [
              Local,
              Local,
              Local,
              Local,
              Local,
              Local,
              Local,
              Local,
            ];
            const sum1 = xor3(rotateRight(e, 6), rotateRight(e, 11), rotateRight(e, 25));
            const choice = i32.xor(g, i32.and(e, i32.xor(f, g)));
            const sum0 = xor3(rotateRight(a, 2), rotateRight(a, 13), rotateRight(a, 22));
            const majority = i32.xor(i32.and(a, b), i32.and(c, i32.xor(a, b)));
            return block(
              set(temporary, i32.add(i32.add(i32.add(h, sum1), i32.add(choice, i32.load(at, constantsAt + 4 * t))), load(t))),
              set(d, i32.add(d, temporary)),
              set(h, i32.add(temporary, i32.add(sum0, majority))),
            );
          }),
          set(at, i32.add(at, 32)),
        ),
        ...state.map((local, i) => i32.store(HASH_STATE, i32.add(local, i32.load(HASH_STATE, 4 * i)), 4 * i)),
        set(data, i32.add(data, BLOCK)),
        set(blocks, i32.sub(blocks, 1)),
      ),
    );
  });
  return { initial: INITIAL, compress };
}
