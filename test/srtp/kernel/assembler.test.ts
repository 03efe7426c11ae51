import { describe, expect, it } from "vitest";
import {
  type Code,
  call,
  doWhile,
  type FunctionBody,
  I32,
  i8x16,
  i32,
  i32x4,
  i64x2,
  ifElse,
  type Local,
  ModuleBuilder,
  type Operand,
  set,
  signed,
  unsigned,
  V128,
  v128,
  when,
  whileLoop,
} from "../../../src/crypto/kernel/index.js";

const memory = new WebAssembly.Memory({ initial: 1 });
const octets = new Uint8Array(memory.buffer);

function exportsOf(build: (module: ModuleBuilder) => void): Record<string, (...values: number[]) => number> {
  const module = new ModuleBuilder();
  build(module);
  const compiled = new WebAssembly.Module(module.encode(1));
  return new WebAssembly.Instance(compiled, { env: { memory } }).exports as Record<string, (...values: number[]) => number>;
}

/** A function of two numbers. */
function numbers(build: (a: Local, b: Local, body: FunctionBody) => Code): (a: number, b: number) => number {
  const { f } = exportsOf((module) => {
    module.function("f", [I32, I32], [I32], (body, a, b) => body.result(build(a as Local, b as Local, body)));
  });
  return (a, b) => (f as (a: number, b: number) => number)(a, b) >>> 0;
}

const A = Uint8Array.from({ length: 16 }, (_, i) => (i * 37 + 11) & 0xff);
const B = Uint8Array.from({ length: 16 }, (_, i) => (i * 91 + 200) & 0xff);

/** What a function of two vectors makes of A and B. */
function vectors(build: (a: Operand, b: Operand) => Code): Uint8Array {
  octets.set(A, 64);
  octets.set(B, 80);
  const { f } = exportsOf((module) => {
    module.function("f", [], [], (body) => body.emit(v128.store(96, build(v128.load(64), v128.load(80)))));
  });
  f?.();
  return octets.slice(96, 112);
}

const perOctet = (of: (a: number, b: number) => number): Uint8Array => A.map((a, i) => of(a, B[i] as number));
const words = (from: Uint8Array): Uint32Array => new Uint32Array(from.slice().buffer);
const perWord = (of: (a: number, b: number) => number): Uint8Array =>
  new Uint8Array(words(A).map((a, i) => of(a, words(B)[i] as number)).buffer);
const perLong = (of: (a: bigint) => bigint): Uint8Array =>
  new Uint8Array(new BigUint64Array(A.slice().buffer).map((a) => BigInt.asUintN(64, of(a))).buffer);

const NUMBERS = [0, 1, 2, 31, 63, 64, 127, 128, 0x1234, 0x7fff_ffff, 0x8000_0000, 0xdead_beef, 0xffff_ffff];

describe("numbers", () => {
  it.each<[string, (a: Operand, b: Operand) => Code, (a: number, b: number) => number]>([
    ["add", i32.add, (a, b) => a + b],
    ["sub", i32.sub, (a, b) => a - b],
    ["mul", i32.mul, (a, b) => Math.imul(a, b)],
    ["and", i32.and, (a, b) => a & b],
    ["or", i32.or, (a, b) => a | b],
    ["xor", i32.xor, (a, b) => a ^ b],
    ["shl", i32.shl, (a, b) => a << (b & 31)],
    ["shrU", i32.shrU, (a, b) => a >>> (b & 31)],
    ["rotl", i32.rotl, (a, b) => (a << (b & 31)) | (b % 32 === 0 ? 0 : a >>> (32 - (b & 31)))],
    ["eq", i32.eq, (a, b) => Number(a === b)],
    ["ltU", i32.ltU, (a, b) => Number(a < b)],
    ["gtU", i32.gtU, (a, b) => Number(a > b)],
    ["geU", i32.geU, (a, b) => Number(a >= b)],
  ])("%s", (_, instruction, expected) => {
    const run = numbers(instruction);
    for (const a of NUMBERS) for (const b of NUMBERS) expect(run(a, b), `${a}, ${b}`).toBe(expected(a, b) >>> 0);
  });

  it("eqz, select and constants of every length", () => {
    expect(NUMBERS.map((a) => numbers((x) => i32.eqz(x))(a, 0))).toEqual(NUMBERS.map((a) => Number(a === 0)));
    expect([0, 1, 7].map((c) => numbers((a) => i32.select(11, 22, a))(c, 0))).toEqual([22, 11, 11]);
    for (const value of NUMBERS) expect(numbers(() => i32.add(value, 0))(0, 0)).toBe(value);
  });

  it("LEB128", () => {
    expect(unsigned(624485)).toEqual([0xe5, 0x8e, 0x26]);
    expect(signed(-123456)).toEqual([0xc0, 0xbb, 0x78]);
    expect([unsigned(0), unsigned(127), unsigned(128), signed(63), signed(64), signed(-64), signed(-65)]).toEqual([
      [0],
      [0x7f],
      [0x80, 1],
      [0x3f],
      [0xc0, 0],
      [0x40],
      [0xbf, 0x7f],
    ]);
  });

  it("loads and stores at any alignment, with offsets", () => {
    octets.set([1, 2, 3, 0x84, 5, 6], 33);
    expect(numbers((a) => i32.load(a, 3))(30, 0)).toBe(0x84030201);
    expect(numbers((a) => i32.load8(a, 6))(30, 0)).toBe(0x84);
    expect(numbers((a) => i32.load16(a, 1))(35, 0)).toBe(0x0584);
    const { f } = exportsOf((module) => {
      module.function("f", [I32], [], (body, a) =>
        body.emit(i32.store(200, a as Local, 1), i32.store16(200, a as Local, 9), i32.store8(200, a as Local, 13)),
      );
    });
    octets.fill(0, 200, 216);
    f?.(0x11223344);
    expect([...octets.subarray(200, 215)]).toEqual([0, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, 0x44, 0x33, 0, 0, 0x44, 0]);
  });
});

describe("vectors", () => {
  it.each<[string, (a: Operand, b: Operand) => Code, () => Uint8Array]>([
    ["and", v128.and, () => perOctet((a, b) => a & b)],
    ["or", v128.or, () => perOctet((a, b) => a | b)],
    ["xor", v128.xor, () => perOctet((a, b) => a ^ b)],
    ["i8x16.shl", (a) => i8x16.shl(a, 3), () => perOctet((a) => a << 3)],
    ["i8x16.shrU", (a) => i8x16.shrU(a, 3), () => perOctet((a) => a >> 3)],
    ["i8x16.shrS", (a) => i8x16.shrS(a, 3), () => perOctet((a) => ((a << 24) >> 27) & 0xff)],
    ["i8x16.splat", () => i8x16.splat(0x2a), () => perOctet(() => 0x2a)],
    ["i8x16.swizzle", (a, b) => i8x16.swizzle(a, b), () => perOctet((_, b) => (b < 16 ? (A[b] as number) : 0))],
    [
      "i8x16.shuffle",
      (a, b) =>
        i8x16.shuffle(
          a,
          b,
          [...B].map((b) => b & 31),
        ),
      () => B.map((b) => [...A, ...B][b & 31] as number),
    ],
    ["i32x4.add", i32x4.add, () => perWord((a, b) => a + b)],
    ["i32x4.shl", (a) => i32x4.shl(a, 5), () => perWord((a) => a << 5)],
    ["i32x4.shrU", (a) => i32x4.shrU(a, 27), () => perWord((a) => a >>> 27)],
    ["i32x4.gtS", i32x4.gtS, () => perWord((a, b) => ((a | 0) > (b | 0) ? -1 : 0))],
    ["i32x4.splat", () => i32x4.splat(-2), () => perWord(() => -2)],
    ["i64x2.shl", (a) => i64x2.shl(a, 9), () => perLong((a) => a << 9n)],
    ["i64x2.shrU", (a) => i64x2.shrU(a, 9), () => perLong((a) => a >> 9n)],
    ["v128.const", () => v128.const([...B]), () => B],
    ["load8Splat", () => v128.load8Splat(60, 7), () => perOctet(() => A[3] as number)],
  ])("%s", (_, instruction, expected) => {
    expect([...vectors(instruction)]).toEqual([...expected()]);
  });

  it("words: shuffle and replaceLane", () => {
    const [a, b] = [words(A), words(B)];
    expect([...words(vectors((x, y) => i32x4.shuffle(x, y, [0, 4, 3, 7])))]).toEqual([a[0], b[0], a[3], b[3]]);
    expect([...words(vectors((x) => i32x4.replaceLane(x, 2, 9)))]).toEqual([a[0], a[1], 9, a[3]]);
  });

  it("anyTrue", () => {
    const run = numbers((a) => v128.anyTrue(i32x4.replaceLane(i32x4.splat(0), 3, a)));
    expect([run(0, 0), run(1, 0), run(0x8000_0000, 0)]).toEqual([0, 1, 1]);
  });
});

describe("control", () => {
  it("whileLoop asks first, doWhile afterwards", () => {
    const counted = (loop: typeof whileLoop): ((a: number, b: number) => number) =>
      numbers((a, b, body) => {
        const turns = body.hold(I32, 0);
        body.emit(loop(i32.ltU(a, b), set(turns, i32.add(turns, 1)), set(a, i32.add(a, 1))));
        return i32.add(turns, 0);
      });
    expect([counted(whileLoop)(3, 10), counted(whileLoop)(10, 10)]).toEqual([7, 0]);
    expect([counted(doWhile)(3, 10), counted(doWhile)(10, 10)]).toEqual([7, 1]);
  });

  it("when, ifElse and calls, with results and without", () => {
    const { f } = exportsOf((module) => {
      const twice = module.function(undefined, [I32], [I32], (body, a) => body.result(i32.add(a as Local, a as Local)));
      const mark = module.function(undefined, [I32], [], (body, a) => body.emit(i32.store8(300, a as Local)));
      module.function("f", [I32], [I32], (body, a) => {
        const local = body.hold(V128, i8x16.splat(1));
        const result = body.local(I32);
        body.emit(
          when(i32.eq(a as Local, 5), set(a as Local, 6)),
          ifElse(i32.eq(a as Local, 6), set(result, call(twice, a as Local)), set(result, v128.anyTrue(local))),
          call(mark, result),
        );
        body.result(result);
      });
    });
    expect([4, 5, 6].map((a) => [f?.(a), octets[300]])).toEqual([
      [1, 1],
      [12, 12],
      [12, 12],
    ]);
  });

  it("constants lie on boundaries of 16", () => {
    const module = new ModuleBuilder();
    expect([module.constant([1, 2, 3]), module.constant(new Array(16).fill(7)), module.constant([9])]).toEqual([0, 16, 32]);
    expect(module.constantLength).toBe(48);
  });
});
