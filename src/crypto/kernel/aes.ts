import { GROUP, KEYS, PARTS, ROUND_KEYS, STATE } from "../key-kernel-layout.js";
import { addAesPermutations, aesCircuit, aesRounds, PLANES, S_BOX_CONSTANT } from "./aes-circuit.js";
import {
  block,
  type Code,
  call,
  doWhile,
  type FunctionBody,
  I32,
  i8x16,
  i32,
  ifElse,
  type Local,
  type ModuleBuilder,
  type Operand,
  set,
  V128,
  v128,
  when,
} from "./assembler.js";

const octets = (of: (i: number) => number): number[] => Array.from({ length: 16 }, (_, i) => of(i));
const ONES = v128.const(octets(() => 0xff));
const ZEROS = v128.const(octets(() => 0));
/** Octets 8 to 15 of a block: the part of the key data in hand. */
const SECOND_HALF = octets((i) => (i < 8 ? i : 16 + i));
/** Octet 7: the last one of A, which t reaches (t is at most 24). */
const LAST_OF_REGISTER = v128.const(octets((i) => (i === 7 ? 0xff : 0)));
const T_BITS = 5;

const loadPlanes = (planes: readonly Local[], address: Operand): Code[] =>
  planes.map((plane, i) => set(plane, v128.load(address, 16 * i)));
const storePlanes = (planes: readonly Operand[], address: Operand): Code[] =>
  planes.map((plane, i) => v128.store(address, plane, 16 * i));
/** Ones in every octet where a bit of a number is set, otherwise zeros. */
const spread = (value: Local, bit: number): Code => i8x16.splat(i32.sub(0, i32.and(i32.shrU(value, bit), 1)));

/**
 * Adds AES of eight blocks at once and key wrap (RFC 3394 §2.2.1) of eight keys, each under a key of its own. It is bitsliced from the key schedule to the last step: what
 * differs between the eight is data only.
 */
export function addAes(module: ModuleBuilder): void {
  const permutations = addAesPermutations(module);

  /** Blocks to planes, and back. */
  const transposeAt = module.function(undefined, [I32], [], (body, address) => {
    const { planes, transpose } = aesCircuit(body);
    body.emit(...loadPlanes(planes, address as Local), transpose, ...storePlanes(planes, address as Local));
  });
  const encrypt = module.function(undefined, [I32], [], (body, rounds) => {
    const circuit = aesCircuit(body);
    const cipher = aesRounds(body, circuit, permutations, body.hold(I32, ROUND_KEYS), rounds as Local);
    body.emit(...loadPlanes(circuit.planes, STATE), cipher, ...storePlanes(circuit.planes, STATE));
  });
  const expandShort = module.function(undefined, [], [], (body) => {
    const { key, constant, keys, derive, save } = keySchedule(body);
    const first = keys();
    body.emit(
      call(transposeAt, KEYS),
      ...loadPlanes(first, KEYS),
      ...storePlanes(first, ROUND_KEYS),
      set(constant, 1),
      set(key, ROUND_KEYS),
      doWhile(i32.ltU(key, ROUND_KEYS + 10 * GROUP), set(key, i32.add(key, GROUP)), derive(first, first, "turned"), save(first)),
    );
  });
  const expandLong = module.function(undefined, [], [], (body) => {
    const { key, constant, keys, derive, save } = keySchedule(body);
    const [first, second] = [keys(), keys()];
    body.emit(
      call(transposeAt, KEYS),
      call(transposeAt, KEYS + GROUP),
      ...loadPlanes(first, KEYS),
      ...loadPlanes(second, KEYS + GROUP),
      ...storePlanes(first, ROUND_KEYS),
      set(constant, 1),
      set(key, ROUND_KEYS + GROUP),
      save(second),
      doWhile(
        i32.ltU(key, ROUND_KEYS + 14 * GROUP),
        set(key, i32.add(key, GROUP)),
        derive(first, second, "turned"),
        save(first),
        set(key, i32.add(key, GROUP)),
        derive(second, first, "straight"),
        save(second),
      ),
    );
  });

  const expand = (rounds: Local, keyLength: Local): Code =>
    ifElse(i32.eq(keyLength, 16), block(call(expandShort), set(rounds, 10)), block(call(expandLong), set(rounds, 14)));

  /** Encrypts the eight blocks in `STATE` under the keys of so many octets in `KEYS`. */
  module.function("encrypt", [I32], [], (body, keyLength) => {
    const rounds = body.local(I32);
    body.emit(expand(rounds, keyLength as Local), call(transposeAt, STATE), call(encrypt, rounds), call(transposeAt, STATE));
  });

  /** Wraps what is in `STATE` and in so many `PARTS` under the keys of so many octets in `KEYS`. */
  module.function("wrap", [I32, I32], [], (body, ...parameters) => {
    const [keyLength, parts] = parameters as [Local, Local];
    const rounds = body.local(I32);
    const step = body.local(I32);
    const part = body.local(I32);
    const partsEnd = body.hold(I32, i32.add(PARTS, i32.mul(parts, GROUP)));
    const lastStep = body.hold(I32, i32.mul(6, i32.add(parts, 1)));
    const block8 = body.local(V128);
    const planes = Array.from({ length: PLANES }, (_, i) => 16 * i);
    const transposeAll = block(
      call(transposeAt, STATE),
      set(part, PARTS),
      doWhile(i32.ltU(part, partsEnd), call(transposeAt, part), set(part, i32.add(part, GROUP))),
    );
    body.emit(
      expand(rounds, keyLength),
      transposeAll,
      set(part, PARTS),
      set(step, 1),
      doWhile(
        i32.geU(lastStep, step),
        call(encrypt, rounds),
        // A = MSB(64, B) XOR t.
        ...planes
          .slice(0, T_BITS)
          .map((at, bit) => v128.store(STATE, v128.xor(v128.load(STATE, at), v128.and(LAST_OF_REGISTER, spread(step, bit))), at)),
        // R[i] = LSB(64, B), and R[i + 1] comes into the block in its place.
        when(
          i32.ltU(step, lastStep),
          ...planes.map((at) =>
            block(
              set(block8, v128.load(STATE, at)),
              v128.store(STATE, i8x16.shuffle(block8, v128.load(part, at), SECOND_HALF), at),
              v128.store(part, block8, at),
            ),
          ),
          set(part, i32.add(part, GROUP)),
          set(part, i32.select(PARTS, part, i32.eq(part, partsEnd))),
        ),
        set(step, i32.add(step, 1)),
      ),
      transposeAll,
    );
  });
}

/** KeyExpansion (FIPS 197 §5.2) in planes, four words at a time. */
function keySchedule(body: FunctionBody) {
  const { planes, substitute } = aesCircuit(body);
  /** Where the round key in hand goes, and Rcon. */
  const [key, constant] = [body.local(I32), body.local(I32)];
  const sum = body.local(V128);
  const firstRow = v128.const(octets((i) => (i % 4 === 0 ? 0xff : 0)));
  /** Every word becomes the last one of the four, turned by one octet or not. */
  const lastWord = (turn: number): number[] => octets((i) => 12 + ((i + turn) & 3));
  /** Every word moves on by so many. */
  const moved = (words: number): number[] => octets((i) => (i < 4 * words ? 16 : i - 4 * words));
  const withConstant = (plane: Operand, bit: number): Operand =>
    ((S_BOX_CONSTANT >> bit) & 1) !== 0 ? v128.xor(plane, ONES) : plane;
  return {
    key,
    constant,
    keys: (): Local[] => body.locals(V128, PLANES),
    /** The next four words, in place of `words`; `before` are the four words before them. */
    derive: (words: readonly Local[], before: readonly Local[], turn: "turned" | "straight"): Code =>
      block(
        ...planes.map((plane, i) => set(plane, before[i] as Local)),
        substitute,
        ...planes.map((plane, i) => {
          const word = words[i] as Local;
          const substituted = withConstant(i8x16.shuffle(plane, plane, lastWord(turn === "turned" ? 1 : 0)), i);
          return block(
            set(sum, v128.xor(word, i8x16.shuffle(word, ZEROS, moved(1)))),
            set(sum, v128.xor(sum, i8x16.shuffle(sum, ZEROS, moved(2)))),
            set(
              word,
              v128.xor(sum, turn === "turned" ? v128.xor(substituted, v128.and(firstRow, spread(constant, i))) : substituted),
            ),
          );
        }),
        turn === "turned" ? set(constant, i32.xor(i32.shl(constant, 1), i32.select(0x11b, 0, i32.shrU(constant, 7)))) : [],
      ),
    /** Puts the round key at `key`, with the constant that the cipher's S-box leaves out. */
    save: (words: readonly Local[]): Code =>
      block(
        ...storePlanes(
          words.map((word, i) => withConstant(word, i)),
          key,
        ),
      ),
  };
}
