import * as crypto from "node:crypto";
import { createKeyPath, type GkmaName, type KeyTree, type PathDownload, type RekeyPart } from "../../src/gkma/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { fullTree } from "../gkma/full-tree.js";
import { median } from "./paired-rounds.js";

/** What a change of a group costs. */
export interface GroupCost {
  /** Milliseconds of whoever makes it, until it can be sent. */
  readonly controller: number;
  /** Octets that are sent to the group. */
  readonly octets: number;
  /** Milliseconds of a member: of the one whose keys change most. */
  readonly member: number;
}

export type GroupChange = "join" | "leave" | "1 % leave";
export const GROUP_CHANGES: readonly GroupChange[] = ["join", "leave", "1 % leave"];

/** A group of some size, which is of the same size after each change and the return that follows. */
export interface GroupUnderTest {
  /** Makes the change and measures it, then undoes it unmeasured. Undefined where the change is not possible or not measured. */
  measure(change: GroupChange): Promise<GroupCost> | GroupCost | undefined;
  /** Octets that the controller keeps, undefined where nobody can say. */
  readonly memory: number | undefined;
}

/** Somebody who keys groups. Others than ours take part by being given to `benchGkma`. */
export interface GroupContender {
  readonly name: string;
  /** A group of so many members; undefined where that takes longer than anybody waits. */
  make(members: number): Promise<GroupUnderTest | undefined> | GroupUnderTest | undefined;
}

export interface GkmaBenchResult {
  readonly contender: string;
  readonly members: number;
  readonly change: GroupChange;
  readonly cost: GroupCost;
  readonly memory: number | undefined;
}

/** What a bar asks, and what the run gave. */
export interface GkmaBar {
  readonly what: string;
  readonly most: number;
  readonly unit: "times" | "octets";
  readonly measured: number;
}

export interface GkmaBench {
  readonly results: readonly GkmaBenchResult[];
  readonly bars: readonly GkmaBar[];
  /** Microseconds, measured in turns with the single departures of the largest group. */
  readonly yardsticks: Readonly<Record<Yardstick, number>>;
}

/** Octets of edges in a packet: of 1200, 218 are the rest of a rekey message (docs/protocol.md §16.7). */
const PART = 982;
const SIZES = [16, 256, 1024, 10_000, 100_000, 1_000_000];

const signing = crypto.generateKeyPairSync("ed25519");

/** Milliseconds that the work takes, and what it gives. */
function timed<T>(work: () => T): [milliseconds: number, result: T] {
  const since = performance.now();
  const result = work();
  return [performance.now() - since, result];
}

/** The octets of a part that stand for the signed message that it will be in. */
function message({ edges, refreshed }: RekeyPart): Uint8Array {
  return new Uint8Array(Buffer.concat([edges, refreshed], Math.max(200, edges.length + refreshed.length)));
}

class TreeUnderTest implements GroupUnderTest {
  readonly #tree: KeyTree;
  /** Wrapped keys of the last change that was measured. */
  wraps = 0;

  constructor(tree: KeyTree) {
    this.#tree = tree;
  }

  get memory(): number {
    return this.#tree.byteLength;
  }

  measure(change: GroupChange): GroupCost | undefined {
    const count = change === "1 % leave" ? Math.floor(this.#tree.members / 100) : 1;
    if (change === "1 % leave" && count < 2) return undefined;
    const leave = change === "join" ? [] : this.#someLeaves(count);
    if (change === "join") this.#rekey({ leave: this.#someLeaves(1) });
    const cost = this.#change(change === "join" ? { join: 1 } : { leave }, this.#beside(leave[0], leave));
    if (change !== "join") this.#rekey({ join: count });
    return cost;
  }

  /** A signed rekey, from the change to what can be sent; then the witness, which verifies and applies. */
  #change(change: { leave?: number[]; join?: number }, place: PathDownload): GroupCost {
    const [witness, scout] = [createKeyPath(nodeCrypto, place), createKeyPath(nodeCrypto, place)];
    const version = this.#tree.version + 1;
    const seed = nodeCrypto.randomBytes(32);
    const signed: { part: RekeyPart; octets: Uint8Array; signature: Uint8Array }[] = [];
    const [controller] = timed(() => {
      const rekey = this.#tree.prepareRekey(change, { version, seed });
      this.wraps = rekey.wraps;
      for (const part of rekey.parts(PART)) {
        const octets = message(part);
        signed.push({ part, octets, signature: crypto.sign(null, octets, signing.privateKey) });
      }
      rekey.commit();
      for (const leaf of rekey.joined) this.#tree.download(leaf);
    });
    const mine = signed.find(({ part }) => scout.apply(part).kind === "applied");
    if (mine === undefined) throw new Error("a rekey has a part for everybody");
    const [member, update] = timed(() => {
      if (!crypto.verify(null, mine.octets, signing.publicKey, mine.signature)) throw new Error("the signature is ours");
      return witness.apply(mine.part);
    });
    if (update.kind !== "applied") throw new Error(`the rekey was ${update.kind}`);
    const octets = signed.reduce((sum, { part }) => sum + part.edges.length + part.refreshed.length, 0);
    return { controller, octets, member };
  }

  #rekey(change: { leave?: number[]; join?: number }): void {
    this.#tree.prepareRekey(change, { version: this.#tree.version + 1, seed: nodeCrypto.randomBytes(32) }).commit();
  }

  #someLeaves(count: number): number[] {
    const chosen = new Set<number>();
    const first = this.#tree.largestId + 1 - this.#tree.members;
    while (chosen.size < count) {
      const leaf = first + crypto.randomInt(this.#tree.members);
      if (this.#tree.has(leaf)) chosen.add(leaf);
    }
    return [...chosen];
  }

  /** The place of one who stays and whose way to the root is that of a leaf, as far as there is such a one. */
  #beside(leaf: number | undefined, leave: readonly number[]): PathDownload {
    const { degree } = this.#tree;
    const beside =
      leaf === undefined || degree === 0 ? [] : Array.from({ length: degree }, (_, i) => leaf - ((leaf - 1) % degree) + i);
    const stays = (one: number): boolean => this.#tree.has(one) && !leave.includes(one);
    let place = beside.find(stays);
    while (place === undefined) place = this.#someLeaves(1).find(stays);
    return this.#tree.download(place);
  }
}

function trees(name: string, algorithm: GkmaName, degree: number, most = Number.POSITIVE_INFINITY): GroupContender {
  return { name, make: (members) => (members > most ? undefined : new TreeUnderTest(fullTree(algorithm, degree, members))) };
}

/** The default first. */
export const OUR_GROUPS: readonly GroupContender[] = [
  trees("OFC", "ofc", 2),
  trees("LKH, degree 4", "lkh", 4),
  trees("LKH+", "lkh+", 2),
  trees("none", "none", 0, 1024),
];

const KEYS = Array.from({ length: 21 }, () => nodeCrypto.randomBytes(16));
const WRAPPED = KEYS.map((key, i) => nodeCrypto.aesKeyWrapPad(key, KEYS[(i + 1) % KEYS.length] as Uint8Array));
const MESSAGE = nodeCrypto.randomBytes(778);
const SIGNATURE = crypto.sign(null, MESSAGE, signing.privateKey);

/** What no rekey can do without, by the primitives as they are. */
const YARDSTICKS = {
  "Ed25519 signature": () => crypto.sign(null, MESSAGE, signing.privateKey),
  "Ed25519 verification": () => crypto.verify(null, MESSAGE, signing.publicKey, SIGNATURE),
  "20 key wraps": () => {
    for (let i = 0; i < 20; i++) nodeCrypto.aesKeyWrapPad(KEYS[i] as Uint8Array, KEYS[i + 1] as Uint8Array);
  },
  "20 key unwraps": () => {
    for (let i = 0; i < 20; i++) nodeCrypto.aesKeyUnwrapPad(KEYS[i] as Uint8Array, WRAPPED[i] as Uint8Array);
  },
} as const;
export type Yardstick = keyof typeof YARDSTICKS;

function measureYardsticks(): Record<Yardstick, number> {
  const entries = Object.entries(YARDSTICKS) as [Yardstick, () => unknown][];
  return Object.fromEntries(entries.map(([name, work]) => [name, timed(work)[0]])) as Record<Yardstick, number>;
}

/** The cost in the middle of all rounds, for each of its parts. */
function middle(costs: readonly GroupCost[]): GroupCost {
  return {
    controller: median(costs.map(({ controller }) => controller)),
    octets: median(costs.map(({ octets }) => octets)),
    member: median(costs.map(({ member }) => member)),
  };
}

async function repeat(group: GroupUnderTest, change: GroupChange, rounds: number): Promise<GroupCost | undefined> {
  const costs: GroupCost[] = [];
  for (let round = 0; round < rounds; round++) {
    const cost = await group.measure(change);
    if (cost === undefined) return undefined;
    costs.push(cost);
  }
  return middle(costs);
}

export interface GkmaBenchOptions {
  /** Rounds per single change. */
  readonly rounds: number;
  /** Rounds per batch. */
  readonly batches: number;
  readonly contenders?: readonly GroupContender[];
}

/** Everybody in every size, and the bars of the largest group against the yardsticks of the same rounds. */
export async function benchGkma({ rounds, batches, contenders = OUR_GROUPS }: GkmaBenchOptions): Promise<GkmaBench> {
  const results: GkmaBenchResult[] = [];
  for (const members of SIZES) {
    for (const { name, make } of contenders) {
      const group = await make(members);
      if (group === undefined) continue;
      for (const change of GROUP_CHANGES) {
        await repeat(group, change, change === "1 % leave" ? 1 : Math.ceil(rounds / 5));
        const cost = await repeat(group, change, change === "1 % leave" ? batches : rounds);
        if (cost !== undefined) results.push({ contender: name, members, change, cost, memory: group.memory });
      }
    }
  }
  return { results, ...bars(rounds, batches) };
}

/** Each round is measured beside the yardsticks, so that what else the machine does slows down both. */
function bars(rounds: number, batches: number): Pick<GkmaBench, "bars" | "yardsticks"> {
  const members = SIZES.at(-1) as number;
  const group = new TreeUnderTest(fullTree("ofc", 2, members));
  const singles: { cost: GroupCost; yards: Record<Yardstick, number> }[] = [];
  for (let round = 0; round < 2 * rounds; round++) {
    const yards = measureYardsticks();
    const cost = group.measure("leave") as GroupCost;
    if (round >= rounds / 2) singles.push({ cost, yards });
  }
  const batchCosts: { cost: GroupCost; wraps: number }[] = [];
  for (let round = 0; round < batches; round++) {
    const cost = group.measure("1 % leave") as GroupCost;
    // What is repeated in several packets was wrapped once.
    const [wraps] = timed(() => {
      for (let i = 0; i < group.wraps; i++) nodeCrypto.aesKeyWrapPad(KEYS[i % 20] as Uint8Array, KEYS[(i % 20) + 1] as Uint8Array);
    });
    batchCosts.push({ cost, wraps });
  }
  const yardstick = (name: Yardstick): number => 1000 * median(singles.map(({ yards }) => yards[name]));
  const times = (what: string, most: number, measured: readonly number[]): GkmaBar => ({
    what,
    most,
    unit: "times",
    measured: median(measured),
  });
  return {
    yardsticks: {
      "Ed25519 signature": yardstick("Ed25519 signature"),
      "Ed25519 verification": yardstick("Ed25519 verification"),
      "20 key wraps": yardstick("20 key wraps"),
      "20 key unwraps": yardstick("20 key unwraps"),
    },
    bars: [
      times(
        "one leaves a million, signed: key server, against a signature and 20 wraps",
        1.5,
        singles.map(({ cost, yards }) => cost.controller / (yards["Ed25519 signature"] + yards["20 key wraps"])),
      ),
      times(
        "the same: the member next to it, against a verification and 20 unwraps",
        2,
        singles.map(({ cost, yards }) => cost.member / (yards["Ed25519 verification"] + yards["20 key unwraps"])),
      ),
      { what: "the same: edges", most: 560, unit: "octets", measured: Math.max(...singles.map(({ cost }) => cost.octets)) },
      times(
        "1 % leave a million, in signed packets: key server, against its wraps one by one",
        2,
        batchCosts.map(({ cost, wraps }) => cost.controller / wraps),
      ),
      { what: "the same: edges", most: 3e6, unit: "octets", measured: Math.max(...batchCosts.map(({ cost }) => cost.octets)) },
      { what: "key state of a million members", most: 64e6, unit: "octets", measured: group.memory },
    ],
  };
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const { results, bars: measured } = await benchGkma({ rounds: 100, batches: 3 });
  for (const { contender, members, change, cost } of results) {
    const { controller, octets, member } = cost;
    console.log(contender.padEnd(14), members, change, `${controller.toFixed(3)} ms, ${octets} octets, ${member.toFixed(3)} ms`);
  }
  for (const { what, most, unit, measured: value } of measured) console.log(`${what}: ${value.toFixed(2)} of ${most} ${unit}`);
}
