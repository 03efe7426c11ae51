import {
  block,
  type Code,
  doWhile,
  type FunctionBody,
  I32,
  i8x16,
  i32,
  i64x2,
  type Local,
  type ModuleBuilder,
  set,
  V128,
  v128,
} from "./assembler.js";

/** Bits of an octet, and so blocks that are encrypted side by side. */
export const PLANES = 8;
/** Octets of a round key as planes. */
export const ROUND_KEY = 16 * PLANES;
/** The constant of the S-box (FIPS 197 §5.1.1). */
export const S_BOX_CONSTANT = 0x63;

/**
 * The S-box as a circuit of Boyar and Peralta (2009/191 in the ePrint archive of the IACR), without the four inversions at its end:
 * the octet 0x63 that they add, which MixColumns leaves as it is, is in the round keys instead. `x0` is the high bit of the input, `s0` of the output.
 */
const S_BOX = `
  y14=x3^x5 y13=x0^x6 y9=x0^x3 y8=x0^x5 t0=x1^x2 y1=t0^x7 y4=y1^x3 y12=y13^y14 y2=y1^x0 y5=y1^x6 y3=y5^y8 t1=x4^y12 y15=t1^x5
  y20=t1^x1 y6=y15^x7 y10=y15^t0 y11=y20^y9 y7=x7^y11 y17=y10^y11 y19=y10^y8 y16=t0^y11 y21=y13^y16 y18=x0^y16
  t2=y12&y15 t3=y3&y6 t4=t3^t2 t5=y4&x7 t6=t5^t2 t7=y13&y16 t8=y5&y1 t9=t8^t7 t10=y2&y7 t11=t10^t7 t12=y9&y11 t13=y14&y17
  t14=t13^t12 t15=y8&y10 t16=t15^t12 t17=t4^t14 t18=t6^t16 t19=t9^t14 t20=t11^t16 t21=t17^y20 t22=t18^y19 t23=t19^y21 t24=t20^y18
  t25=t21^t22 t26=t21&t23 t27=t24^t26 t28=t25&t27 t29=t28^t22 t30=t23^t24 t31=t22^t26 t32=t31&t30 t33=t32^t24 t34=t23^t33
  t35=t27^t33 t36=t24&t35 t37=t36^t34 t38=t27^t36 t39=t29&t38 t40=t25^t39 t41=t40^t37 t42=t29^t33 t43=t29^t40 t44=t33^t37 t45=t42^t41
  z0=t44&y15 z1=t37&y6 z2=t33&x7 z3=t43&y16 z4=t40&y1 z5=t29&y7 z6=t42&y11 z7=t45&y17 z8=t41&y10 z9=t44&y12 z10=t37&y3 z11=t33&y4
  z12=t43&y13 z13=t40&y5 z14=t29&y2 z15=t42&y9 z16=t45&y14 z17=t41&y8
  t46=z15^z16 t47=z10^z11 t48=z5^z13 t49=z9^z10 t50=z2^z12 t51=z2^z5 t52=z7^z8 t53=z0^z3 t54=z6^z7 t55=z16^z17 t56=z12^t48
  t57=t50^t53 t58=z4^t46 t59=z3^t54 t60=t46^t57 t61=z14^t57 t62=t52^t58 t63=t49^t58 t64=z4^t59 t65=t61^t62 t66=z1^t63
  s0=t59^t63 s6=t56^t62 s7=t48^t60 t67=t64^t65 s3=t53^t66 s4=t51^t66 s5=t47^t65 s1=t64^s3 s2=t55^t67
`;

/** Octet i of the state after ShiftRows is this octet before (FIPS 197 §5.1.2); octet 4c + r is row r of column c. */
const shiftedRow = (i: number): number => (4 * ((i >> 2) + (i & 3)) + (i & 3)) & 15;
/** The octet `by` rows further down in the same column. */
const rowBelow = (i: number, by: number): number => (i & 12) | ((i + by) & 3);
const octets = (of: (i: number) => number): number[] => Array.from({ length: 16 }, (_, i) => of(i));

/** AES on eight blocks, bitsliced: vectors hold one bit of every octet, and all there is are gates on them. No octet of key or data is an address or decides a branch. */
export interface AesCircuit {
  /** Bits 0 to 7 of every octet of the state. */
  readonly planes: readonly Local[];
  /** Turns eight blocks into eight planes of bits, and back: bit j of a plane belongs to block j. */
  readonly transpose: Code;
  readonly substitute: Code;
}

/** The addresses of what the rounds permute octets by. */
export interface AesPermutations {
  readonly shiftRows: number;
  readonly shiftAndRotate: number;
  readonly rotateTwo: number;
}

export function addAesPermutations(module: ModuleBuilder): AesPermutations {
  return {
    shiftRows: module.constant(octets(shiftedRow)),
    shiftAndRotate: module.constant(octets((i) => shiftedRow(rowBelow(i, 1)))),
    rotateTwo: module.constant(octets((i) => rowBelow(i, 2))),
  };
}

/** The cipher (FIPS 197 §5.1) on eight blocks, from planes to planes. @param context round keys as planes @param rounds 10, 12 or 14 */
export function aesRounds(
  body: FunctionBody,
  { planes, substitute }: AesCircuit,
  permutations: AesPermutations,
  context: Local,
  rounds: Local,
): Code {
  const { shiftRows, shiftAndRotate, rotateTwo } = permutations;
  const key = body.local(I32);
  const lastKey = body.hold(I32, i32.add(context, i32.mul(rounds, ROUND_KEY)));
  const masks = [shiftRows, shiftAndRotate, rotateTwo].map((address) => body.hold(V128, v128.load(address)));
  const [shift, rotate, two] = masks as [Local, Local, Local];
  const turned = body.locals(V128, PLANES);
  const sums = body.locals(V128, PLANES);
  const addRoundKey = block(...planes.map((plane, i) => set(plane, v128.xor(plane, v128.load(key, 16 * i)))));
  // With a the column and b = a XOR (a turned by one row): 2b XOR (a turned by one) XOR (b turned by two), FIPS 197 §5.1.3.
  const mixColumns = block(
    ...planes.map((plane, i) =>
      block(
        set(turned[i] as Local, i8x16.swizzle(plane, rotate)),
        set(sums[i] as Local, v128.xor(i8x16.swizzle(plane, shift), turned[i] as Local)),
      ),
    ),
    ...planes.map((plane, i) => {
      const high = sums[PLANES - 1] as Local;
      // Twice: planes move up by one, and the high bit comes back as 0x1b.
      const doubled = i === 0 ? high : [1, 3, 4].includes(i) ? v128.xor(sums[i - 1] as Local, high) : (sums[i - 1] as Local);
      return set(plane, v128.xor(v128.xor(doubled, turned[i] as Local), i8x16.swizzle(sums[i] as Local, two)));
    }),
  );
  return block(
    set(key, context),
    addRoundKey,
    set(key, i32.add(key, ROUND_KEY)),
    doWhile(i32.ltU(key, lastKey), substitute, mixColumns, addRoundKey, set(key, i32.add(key, ROUND_KEY))),
    substitute,
    ...planes.map((plane) => set(plane, i8x16.swizzle(plane, shift))),
    addRoundKey,
  );
}

/** Variables and gates for a function. */
export function aesCircuit(body: FunctionBody): AesCircuit {
  const planes = body.locals(V128, PLANES);
  const swapped = body.local(V128);
  const names = new Map<string, Local>();
  const variable = (name: string): Local => {
    let local = names.get(name);
    if (local === undefined) {
      local = body.local(V128);
      names.set(name, local);
    }
    return local;
  };
  planes.forEach((plane, i) => {
    names.set(`x${PLANES - 1 - i}`, plane);
  });
  const gates = S_BOX.trim()
    .split(/\s+/)
    .map((gate) => {
      const [, target, a, operator, b] = /^(\w+)=(\w+)([&^])(\w+)$/.exec(gate) as unknown as [
        string,
        string,
        string,
        string,
        string,
      ];
      return set(variable(target), (operator === "&" ? v128.and : v128.xor)(variable(a), variable(b)));
    });
  const substitute = block(...gates, ...planes.map((plane, i) => set(plane, variable(`s${PLANES - 1 - i}`))));

  const masks = [0x55, 0x33, 0x0f].map((octet) => v128.const(new Array(16).fill(octet)));
  const transpose = block(
    ...masks.flatMap((mask, stage) => {
      const distance = 1 << stage;
      const rows = [0, 1, 2, 3, 4, 5, 6, 7].filter((row) => (row & distance) === 0);
      return rows.map((row) => {
        const [a, b] = [planes[row] as Local, planes[row + distance] as Local];
        return block(
          set(swapped, v128.and(v128.xor(i64x2.shrU(a, distance), b), mask)),
          set(b, v128.xor(b, swapped)),
          set(a, v128.xor(a, i64x2.shl(swapped, distance))),
        );
      });
    }),
  );
  return { planes, transpose, substitute };
}
