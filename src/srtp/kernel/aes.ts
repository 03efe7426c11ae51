import {
  addAesPermutations,
  aesCircuit,
  aesRounds,
  block,
  type Code,
  I32,
  i8x16,
  i32,
  ifElse,
  type Local,
  type ModuleBuilder,
  PLANES,
  set,
  v128,
  when,
  whileLoop,
} from "../../crypto/kernel/index.js";
import { AES_BLOCKS } from "../kernel-layout.js";

/**
 * Adds AES encryption (FIPS 197) to a module. It is bitsliced: vectors hold one bit of every octet of eight blocks, and all there is
 * are gates on them. No octet of key or data is an address or decides a branch.
 */
export function addAes(module: ModuleBuilder): void {
  const permutations = addAesPermutations(module);

  /** The S-box without its constant, on the eight blocks at `AES_BLOCKS`: for the key schedule. */
  module.function("substitute", [], [], (body) => {
    const { planes, transpose, substitute } = aesCircuit(body);
    body.emit(
      ...planes.map((plane, i) => set(plane, v128.load(AES_BLOCKS, 16 * i))),
      transpose,
      substitute,
      transpose,
      ...planes.map((plane, i) => v128.store(AES_BLOCKS, plane, 16 * i)),
    );
  });

  /** Puts the round key at the start of `AES_BLOCKS` at `to` as planes; `constant` is the octet that the S-box left out. */
  module.function("prepareRoundKey", [I32, I32], [], (body, to, constant) => {
    const { planes, transpose } = aesCircuit(body);
    const key = v128.xor(v128.load(AES_BLOCKS), i8x16.splat(constant as Local));
    body.emit(
      ...planes.map((plane) => set(plane, key)),
      transpose,
      ...planes.map((plane, i) => v128.store(to as Local, plane, 16 * i)),
    );
  });

  /** Encrypts `blocks` blocks. Input is read up to the end of its last eight blocks. */
  module.function("encryptBlocks", [I32, I32, I32, I32, I32], [], (body, ...parameters) => {
    const [context, rounds, from, to, blocks] = parameters as [Local, Local, Local, Local, Local];
    const circuit = aesCircuit(body);
    const { planes, transpose } = circuit;
    const encrypt = aesRounds(body, circuit, permutations, context, rounds);
    const store = (i: number): Code => v128.store(to, planes[i] as Local, 16 * i);
    body.emit(
      whileLoop(
        blocks,
        ...planes.map((plane, i) => set(plane, v128.load(from, 16 * i))),
        transpose,
        encrypt,
        transpose,
        ifElse(
          i32.geU(blocks, PLANES),
          block(...planes.map((_, i) => store(i)), set(blocks, i32.sub(blocks, PLANES))),
          block(...planes.map((_, i) => when(i32.gtU(blocks, i), store(i))), set(blocks, 0)),
        ),
        set(from, i32.add(from, 16 * PLANES)),
        set(to, i32.add(to, 16 * PLANES)),
      ),
    );
  });
}
