import { SWIZZLE } from "../kernel-engine.js";

/**
 * A small assembler for WebAssembly: functions whose bodies are expressions in TypeScript, so that rounds are unrolled by a loop
 * and a circuit is a table. It knows the instructions that the kernel uses and no others (WebAssembly core specification 2.0, §5).
 */

/** Octets of an instruction sequence that leaves at most one value on the stack. */
export type Code = readonly number[];

/** A parameter or local variable of the function under construction. */
export interface Local {
  readonly index: number;
  readonly type: ValueType;
}

/** What an instruction takes: a variable, an expression, or a number, which stands for `i32.const`. */
export type Operand = Local | Code | number;

export const I32 = 0x7f;
export const V128 = 0x7b;
export type ValueType = typeof I32 | typeof V128;

const VOID = 0x40;
const FUNCTION_TYPE = 0x60;
const SIMD = 0xfd;

/** Unsigned LEB128 (§5.2.2). */
export function unsigned(value: number): number[] {
  const octets: number[] = [];
  let rest = value >>> 0;
  do {
    const low = rest & 0x7f;
    rest >>>= 7;
    octets.push(rest === 0 ? low : low | 0x80);
  } while (rest !== 0);
  return octets;
}

/** Signed LEB128 of a 32-bit number (§5.2.2). */
export function signed(value: number): number[] {
  const octets: number[] = [];
  let rest = value | 0;
  for (;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) return [...octets, low];
    octets.push(low | 0x80);
  }
}

function isLocal(operand: Local | Code): operand is Local {
  return "index" in operand;
}

/** The instructions that put an operand on the stack. */
function push(operand: Operand): Code {
  if (typeof operand === "number") return [0x41, ...signed(operand)];
  return isLocal(operand) ? [0x20, ...unsigned(operand.index)] : operand;
}

const pushAll = (operands: readonly Operand[]): number[] => operands.flatMap((operand) => [...push(operand)]);

type Unary = (a: Operand) => Code;
type Binary = (a: Operand, b: Operand) => Code;
type Load = (address: Operand, offset?: number) => Code;
type Store = (address: Operand, value: Operand, offset?: number) => Code;

/** Addresses carry no promise of alignment: RTP payloads begin anywhere. */
const memoryArgument = (offset: number): number[] => [0, ...unsigned(offset)];

const unary =
  (opcode: number): Unary =>
  (a) => [...push(a), opcode];
const binary =
  (opcode: number): Binary =>
  (a, b) => [...push(a), ...push(b), opcode];
const load =
  (opcode: number): Load =>
  (address, offset = 0) => [...push(address), opcode, ...memoryArgument(offset)];
const store =
  (opcode: number): Store =>
  (address, value, offset = 0) => [...push(address), ...push(value), opcode, ...memoryArgument(offset)];

const simd = (opcode: number): number[] => [SIMD, ...unsigned(opcode)];
const vectorUnary =
  (opcode: number): Unary =>
  (a) => [...push(a), ...simd(opcode)];
const vectorBinary =
  (opcode: number): Binary =>
  (a, b) => [...push(a), ...push(b), ...simd(opcode)];
const vectorLoad =
  (opcode: number): Load =>
  (address, offset = 0) => [...push(address), ...simd(opcode), ...memoryArgument(offset)];
const vectorStore =
  (opcode: number): Store =>
  (address, value, offset = 0) => [...push(address), ...push(value), ...simd(opcode), ...memoryArgument(offset)];

export const i32 = {
  add: binary(0x6a),
  sub: binary(0x6b),
  mul: binary(0x6c),
  and: binary(0x71),
  or: binary(0x72),
  xor: binary(0x73),
  shl: binary(0x74),
  shrU: binary(0x76),
  rotl: binary(0x77),
  eqz: unary(0x45),
  eq: binary(0x46),
  ltU: binary(0x49),
  gtU: binary(0x4b),
  geU: binary(0x4f),
  load: load(0x28),
  load8: load(0x2d),
  load16: load(0x2f),
  store: store(0x36),
  store8: store(0x3a),
  store16: store(0x3b),
  /** `condition` other than 0: `a`, else `b`. Both are evaluated. */
  select: (a: Operand, b: Operand, condition: Operand): Code => [...pushAll([a, b, condition]), 0x1b],
} as const;

export const v128 = {
  load: vectorLoad(0),
  store: vectorStore(11),
  /** One octet, in every lane. */
  load8Splat: vectorLoad(7),
  const: (octets: readonly number[]): Code => [...simd(12), ...octets],
  and: vectorBinary(78),
  or: vectorBinary(80),
  xor: vectorBinary(81),
  anyTrue: vectorUnary(83),
} as const;

export const i8x16 = {
  /** Octet `lanes[i]` of the 32 octets `a ‖ b` becomes octet i. */
  shuffle: (a: Operand, b: Operand, lanes: readonly number[]): Code => [...pushAll([a, b]), ...simd(13), ...lanes],
  /**
   * Octet `indices[i]` of `a` becomes octet i. Indices are below 16: what comes of others differs between this instruction, number 14,
   * and its relaxed form, number 256, which takes its place where an engine has it (`relaxSwizzles`). So both numbers have room, five octets.
   */
  swizzle: (a: Operand, indices: Operand): Code => [...pushAll([a, indices]), ...SWIZZLE],
  splat: vectorUnary(15),
  shl: vectorBinary(107),
  shrU: vectorBinary(109),
  shrS: vectorBinary(108),
} as const;

export const i32x4 = {
  splat: vectorUnary(17),
  replaceLane: (a: Operand, lane: number, value: Operand): Code => [...pushAll([a, value]), ...simd(28), lane],
  gtS: vectorBinary(59),
  shl: vectorBinary(171),
  shrU: vectorBinary(173),
  add: vectorBinary(174),
  sub: vectorBinary(177),
  /** Word `lanes[i]` of the eight words `a ‖ b` becomes word i. */
  shuffle: (a: Operand, b: Operand, lanes: readonly number[]): Code =>
    i8x16.shuffle(
      a,
      b,
      lanes.flatMap((lane) => [4 * lane, 4 * lane + 1, 4 * lane + 2, 4 * lane + 3]),
    ),
} as const;

export const i64x2 = { shl: vectorBinary(203), shrU: vectorBinary(205) } as const;

/** Statements one after the other. */
export function block(...statements: readonly Code[]): Code {
  return statements.flat();
}

export function set(local: Local, value: Operand): Code {
  return [...push(value), 0x21, ...unsigned(local.index)];
}

/** Runs the statements where the condition is not 0. */
export function when(condition: Operand, ...statements: readonly Code[]): Code {
  return [...push(condition), 0x04, VOID, ...block(...statements), 0x0b];
}

export function ifElse(condition: Operand, then: Code, otherwise: Code): Code {
  return [...push(condition), 0x04, VOID, ...then, 0x05, ...otherwise, 0x0b];
}

/** Runs the statements again and again while the condition, asked before every turn, is not 0. */
export function whileLoop(condition: Operand, ...statements: readonly Code[]): Code {
  return [0x03, VOID, ...when(condition, ...statements, [0x0c, 1]), 0x0b];
}

/** Runs the statements once, and again while the condition, asked after every turn, is not 0. */
export function doWhile(condition: Operand, ...statements: readonly Code[]): Code {
  return [0x03, VOID, ...block(...statements), ...push(condition), 0x0d, 0, 0x0b];
}

/** Body of a function: its variables and statements. */
export class FunctionBody {
  readonly #parameters: readonly ValueType[];
  readonly #locals: ValueType[] = [];
  readonly #code: Code[] = [];

  constructor(parameters: readonly ValueType[]) {
    this.#parameters = parameters;
  }

  parameter(index: number): Local {
    return { index, type: this.#parameters[index] as ValueType };
  }

  local(type: ValueType): Local {
    this.#locals.push(type);
    return { index: this.#parameters.length + this.#locals.length - 1, type };
  }

  locals(type: ValueType, count: number): Local[] {
    return Array.from({ length: count }, () => this.local(type));
  }

  /** A new variable that holds the value from here on. */
  hold(type: ValueType, value: Operand): Local {
    const local = this.local(type);
    this.emit(set(local, value));
    return local;
  }

  emit(...statements: readonly Code[]): void {
    this.#code.push(...statements);
  }

  /** The value that the function returns. */
  result(value: Operand): void {
    this.#code.push(push(value));
  }

  /** The function as an entry of the code section (§5.5.13). */
  encode(): number[] {
    const locals = this.#locals.map((type) => [1, type]);
    const body = [...unsigned(locals.length), ...locals.flat(), ...block(...this.#code), 0x0b];
    return [...unsigned(body.length), ...body];
  }
}

/** A function of the module, to be called by others of it. */
export interface FunctionHandle {
  readonly index: number;
}

/** Calls a function; its result, if it has one, is the value. */
export function call(handle: FunctionHandle, ...operands: readonly Operand[]): Code {
  return [...pushAll(operands), 0x10, ...unsigned(handle.index)];
}

interface FunctionEntry {
  readonly name: string | undefined;
  readonly type: number;
  readonly body: FunctionBody;
}

/** A module with one memory, imported as `env.memory`, and one segment of constants at its start. */
export class ModuleBuilder {
  readonly #types: string[] = [];
  readonly #functions: FunctionEntry[] = [];
  readonly #data: number[] = [];

  /** Octets at a fixed address, on a boundary of 16. */
  constant(octets: readonly number[]): number {
    const address = this.#data.length;
    this.#data.push(...octets);
    while (this.#data.length % 16 !== 0) this.#data.push(0);
    return address;
  }

  /** Octets that constants take. */
  get constantLength(): number {
    return this.#data.length;
  }

  /** @param name exported under this name where there is one */
  function(
    name: string | undefined,
    parameters: readonly ValueType[],
    results: readonly ValueType[],
    build: (body: FunctionBody, ...parameters: Local[]) => void,
  ): FunctionHandle {
    const body = new FunctionBody(parameters);
    build(body, ...parameters.map((_, index) => body.parameter(index)));
    this.#functions.push({ name, type: this.#typeOf(parameters, results), body });
    return { index: this.#functions.length - 1 };
  }

  /** @param pages least pages of 64 KiB that the memory must have */
  encode(pages: number): Uint8Array<ArrayBuffer> {
    const exported = this.#functions.flatMap(({ name }, index) => (name === undefined ? [] : [{ name, index }]));
    return Uint8Array.from([
      ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
      ...section(
        1,
        this.#types.map((type) => type.split(",").map(Number)),
      ),
      ...section(2, [[...text("env"), ...text("memory"), 0x02, 0x00, ...unsigned(pages)]]),
      ...section(
        3,
        this.#functions.map(({ type }) => unsigned(type)),
      ),
      ...section(
        7,
        exported.map(({ name, index }) => [...text(name), 0x00, ...unsigned(index)]),
      ),
      ...section(
        10,
        this.#functions.map(({ body }) => body.encode()),
      ),
      ...section(11, [[0, 0x41, 0, 0x0b, ...unsigned(this.#data.length), ...this.#data]]),
    ]);
  }

  #typeOf(parameters: readonly ValueType[], results: readonly ValueType[]): number {
    const type = [FUNCTION_TYPE, ...unsigned(parameters.length), ...parameters, ...unsigned(results.length), ...results].join();
    const known = this.#types.indexOf(type);
    return known >= 0 ? known : this.#types.push(type) - 1;
  }
}

function text(value: string): number[] {
  const octets = [...value].map((character) => character.charCodeAt(0));
  return [...unsigned(octets.length), ...octets];
}

/** A section that is a vector of entries (§5.5.2). */
function section(id: number, entries: readonly (readonly number[])[]): number[] {
  const content = [...unsigned(entries.length), ...entries.flat()];
  return [id, ...unsigned(content.length), ...content];
}
