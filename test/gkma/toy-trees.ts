import type { Epoch, History, Rule } from "./oracle.js";

/** Leaves of every toy. */
const LEAVES = 8;

/** A toy changes by one step at a time: leaves are left, and free ones are taken from the left. */
export interface Toy {
  readonly history: History;
  rekey(leave: readonly number[], join: number): void;
}

/** What is wrong with a toy tree. */
export type Flaw =
  /** Nothing: LKH with one-way joins, as it should be. */
  | "none"
  /** A joiner is told the keys that are there. */
  | "join changes nothing"
  /** A departure replaces keys by functions of themselves. */
  | "departure by a one-way function"
  /** A join does so although somebody departs below the same node in the same batch. */
  | "join and departure in one batch"
  /** Somebody gets the leaf key of whoever had the leaf before. */
  | "leaf keys live on"
  /** A key is wrapped under the child's key of the version before. */
  | "wrapped under the old key";

/** The bookkeeping of toys: symbols for keys, and who was told which. */
abstract class SymbolicTree implements Toy {
  readonly history = { told: new Map<number, string[]>(), rules: [] as Rule[], epochs: [] as Epoch[] };
  /** The member of each leaf, 0 for none. Node 1 is the root, the children of node i are 2i and 2i + 1. */
  protected readonly seats: number[] = new Array(LEAVES).fill(0);
  protected version = 0;
  #members = 0;
  #symbols = 0;

  protected symbol(name: string): string {
    return `${name}#${++this.#symbols}`;
  }

  protected tell(member: number, ...secrets: readonly string[]): void {
    const told = this.history.told.get(member) ?? [];
    this.history.told.set(member, [...told, ...secrets]);
  }

  protected rule(from: readonly string[], to: string): void {
    this.history.rules.push({ from, to });
  }

  protected isAlive(node: number): boolean {
    return node >= LEAVES ? this.seats[node - LEAVES] !== 0 : this.isAlive(2 * node) || this.isAlive(2 * node + 1);
  }

  rekey(leave: readonly number[], join: number): void {
    const occupied = this.seats.flatMap((member, seat) => (member === 0 ? [] : [seat]));
    const left = occupied.length === 0 ? [] : [...new Set(leave.map((index) => occupied[index % occupied.length] as number))];
    for (const seat of left) this.seats[seat] = 0;
    const joined = this.seats.flatMap((member, seat) => (member === 0 ? [seat] : [])).slice(0, join);
    for (const seat of joined) this.seats[seat] = ++this.#members;
    this.version++;
    const key = this.change(left, joined);
    this.history.epochs.push({ version: this.version, key, members: new Set(this.seats.filter((member) => member !== 0)) });
  }

  /** @returns the group key */
  protected abstract change(left: readonly number[], joined: readonly number[]): string;
}

function above(seat: number): number[] {
  const nodes: number[] = [];
  for (let node = (LEAVES + seat) >> 1; node > 0; node >>= 1) nodes.push(node);
  return nodes;
}

/** A binary LKH tree in symbols, with a flaw. */
export class ToyTree extends SymbolicTree {
  readonly #flaw: Flaw;
  readonly #keys: string[] = [];

  constructor(flaw: Flaw) {
    super();
    this.#flaw = flaw;
    for (let node = 1; node < 2 * LEAVES; node++) this.#keys[node] = this.symbol(`key${node}`);
  }

  protected override change(left: readonly number[], joined: readonly number[]): string {
    const before = [...this.#keys];
    const departed = new Set(left.flatMap(above));
    const entered = new Set(joined.flatMap(above));
    if (this.#flaw !== "leaf keys live on") {
      for (const seat of joined) this.#keys[LEAVES + seat] = this.symbol("leaf");
    }
    const nodes = [...new Set([...departed, ...entered])].sort((a, b) => b - a);
    for (const node of nodes) {
      const isFresh =
        this.#flaw === "departure by a one-way function"
          ? false
          : this.#flaw === "join and departure in one batch"
            ? departed.has(node) && !entered.has(node)
            : departed.has(node);
      if (!isFresh && !departed.has(node) && this.#flaw === "join changes nothing") continue;
      const key = this.symbol(`key${node}`);
      if (!isFresh) this.rule([before[node] as string], key);
      this.#keys[node] = key;
      if (!isFresh) continue;
      for (const child of [2 * node, 2 * node + 1]) {
        if (!this.isAlive(child)) continue;
        this.rule([(this.#flaw === "wrapped under the old key" ? before : this.#keys)[child] as string], key);
      }
    }
    for (const seat of joined) {
      this.tell(this.seats[seat] as number, ...[LEAVES + seat, ...above(seat)].map((node) => this.#keys[node] as string));
    }
    return this.#keys[1] as string;
  }
}

/**
 * One-way function trees as they were first published: a node's secret is a function of its children's blinded secrets, and a member knows the blinded
 * ones beside its way. They outlive whoever knew them: who has left and who has come later together know both halves of a key in between.
 */
export class PlainOneWayFunctionTree extends SymbolicTree {
  readonly #secrets: string[] = [];
  readonly #blinded: string[] = [];

  constructor() {
    super();
    for (let node = 2 * LEAVES - 1; node > 0; node--) this.#renew(node);
  }

  #renew(node: number): void {
    const secret = this.symbol(`secret${node}`);
    const blinded = this.symbol(`blinded${node}`);
    this.#secrets[node] = secret;
    this.#blinded[node] = blinded;
    this.rule([secret], blinded);
    if (node < LEAVES) this.rule([this.#blinded[2 * node] as string, this.#blinded[2 * node + 1] as string], secret);
  }

  protected override change(left: readonly number[], joined: readonly number[]): string {
    for (const seat of new Set([...left, ...joined])) this.#renew(LEAVES + seat);
    const nodes = new Set([...left, ...joined].flatMap(above));
    for (const node of [...nodes].sort((a, b) => b - a)) this.#renew(node);
    // Each renewed blinded secret is sent to those beside it, under their secret.
    for (const node of [...nodes, ...[...left, ...joined].map((seat) => LEAVES + seat)]) {
      if (node > 1) this.rule([this.#secrets[node ^ 1] as string], this.#blinded[node] as string);
    }
    for (const seat of joined) {
      const beside = [LEAVES + seat, ...above(seat)].filter((node) => node > 1).map((node) => this.#blinded[node ^ 1] as string);
      this.tell(this.seats[seat] as number, this.#secrets[LEAVES + seat] as string, ...beside);
    }
    return this.#secrets[1] as string;
  }
}
