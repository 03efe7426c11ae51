import * as crypto from "node:crypto";
import { createKeyPath, type GkmaName, type KeyTree, type PathDownload } from "../../src/gkma/index.js";
import { createRekeyReceiver, type DataKey, type RekeyPolicy, type RekeyReceiver, sealRekey } from "../../src/gsa/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { fullTree } from "../gkma/full-tree.js";
import { constants, dataPolicies, GCKS, groupPolicy, NOW, rekeyPolicy } from "../gsa/group-fixture.js";
import { TS_MLS } from "./mls.js";
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
  measure(change: GroupChange): Promise<GroupCost | undefined>;
  /** Octets that the controller keeps, undefined where nobody can say. */
  readonly memory: number | undefined;
  /** Most rounds that anybody waits for. */
  readonly rounds?: number;
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
  readonly most?: number;
  readonly least?: number;
  readonly unit: "times" | "octets";
  readonly measured: number;
}

export interface GkmaBench {
  readonly results: readonly GkmaBenchResult[];
  readonly bars: readonly GkmaBar[];
  /** Microseconds, measured in turns with the single departures of the largest group. */
  readonly yardsticks: Readonly<Record<Yardstick, number>>;
}

const SIZES = [16, 256, 1024, 10_000, 100_000, 1_000_000];

const signing = crypto.generateKeyPairSync("ed25519", {
  privateKeyEncoding: { type: "pkcs8", format: "der" },
  publicKeyEncoding: { type: "spki", format: "der" },
});
const signer = nodeCrypto.importPrivateKey(new Uint8Array(signing.privateKey));
const verificationKey = new Uint8Array(signing.publicKey);
/** One data SA, whose key is replaced by every change. */
const DATA = dataPolicies.slice(0, 1).map((policy) => ({ ...policy, mkis: [] }));

/** Milliseconds that the work takes, and what it gives. */
async function timed<T>(work: () => T | Promise<T>): Promise<[milliseconds: number, result: T]> {
  const since = performance.now();
  const result = await work();
  return [performance.now() - since, result];
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

  async measure(change: GroupChange): Promise<GroupCost | undefined> {
    const count = change === "1 % leave" ? Math.floor(this.#tree.members / 100) : 1;
    if (change === "1 % leave" && count < 2) return undefined;
    const leave = change === "join" ? [] : this.#someLeaves(count);
    if (change === "join") this.#rekey({ leave: this.#someLeaves(1) });
    const cost = await this.#change(change === "join" ? { join: 1 } : { leave }, this.#beside(leave[0], leave));
    if (change !== "join") this.#rekey({ join: count });
    return cost;
  }

  /** A signed rekey with a new TEK, from the change to what can be sent; then the witness, which verifies, applies and has the TEK. */
  async #change(change: { leave?: number[]; join?: number }, place: PathDownload): Promise<GroupCost> {
    const [witness, scout] = [this.#member(place), this.#member(place)];
    const sequence = this.#tree.version + 1;
    const seed = nodeCrypto.randomBytes(32);
    const dataKeys: DataKey[] = [{ dataSa: 1, mki: sequence, key: nodeCrypto.randomBytes(16), salt: nodeCrypto.randomBytes(14) }];
    const kek = { spi: this.#tree.version, key: this.#tree.groupKey() };
    const streams = change.leave === undefined ? [] : [{ ssrc: 0xcafebabe, gone: true }];
    const [controller, packets] = await timed(async () => {
      const prepared = this.#tree.prepareRekey(change, { version: sequence, seed });
      this.wraps = prepared.wraps;
      const content = { constants, rekey: this.#rekeyPolicy(), kek, signer, sequence, dataKeys, streams };
      const sealed = await sealRekey(nodeCrypto, { ...content, change: { prepared, immediate: false, lifetime: 3600 } });
      prepared.commit();
      for (const leaf of prepared.joined) this.#tree.download(leaf);
      return sealed;
    });
    const mine = await packetFor(scout, packets);
    const [member, outcome] = await timed(() => witness.receive(mine, REQUEST));
    if (outcome.kind !== "installed" || outcome.dataKeys.length !== 1) throw new Error(`the rekey was ${outcome.kind}`);
    return { controller, octets: packets.reduce((sum, { length }) => sum + length, 0), member };
  }

  #rekeyPolicy(): RekeyPolicy {
    const { algorithm, degree } = this.#tree;
    return { ...rekeyPolicy, algorithm, degree, verificationKey };
  }

  #member(place: PathDownload): RekeyReceiver {
    return createRekeyReceiver({
      crypto: nodeCrypto,
      gcks: GCKS,
      constants,
      policies: { group: groupPolicy, rekey: this.#rekeyPolicy(), data: DATA },
      keyPath: createKeyPath(nodeCrypto, place),
      sequence: this.#tree.version,
      time: NOW,
      receivedAtMs: 0,
    });
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

const REQUEST = { nowMs: 0, wallClockMs: 0, takeToken: () => false };

/** The packet that is for a member, who has it installed then. */
async function packetFor(member: RekeyReceiver, packets: readonly Uint8Array[]): Promise<Uint8Array> {
  for (const packet of packets) if ((await member.receive(packet, REQUEST)).kind === "installed") return packet;
  throw new Error("a rekey has a packet for everybody");
}

function trees(name: string, algorithm: GkmaName, degree: number, most = Number.POSITIVE_INFINITY): GroupContender {
  return { name, make: (members) => (members > most ? undefined : new TreeUnderTest(fullTree(algorithm, degree, members))) };
}

/** The default first. */
export const GROUPS: readonly GroupContender[] = [
  trees("OFC", "ofc", 2),
  trees("LKH, degree 4", "lkh", 4),
  trees("LKH+", "lkh+", 2),
  trees("none", "none", 0, 1024),
  TS_MLS,
];

const KEYS = Array.from({ length: 21 }, () => nodeCrypto.randomBytes(16));
const WRAPPED = KEYS.map((key, i) => nodeCrypto.aesKeyWrapPad(key, KEYS[(i + 1) % KEYS.length] as Uint8Array));
const MESSAGE = nodeCrypto.randomBytes(778);
const signingKey = crypto.createPrivateKey({ key: signing.privateKey, type: "pkcs8", format: "der" });
const publicKey = crypto.createPublicKey(signingKey);
const SIGNATURE = crypto.sign(null, MESSAGE, signingKey);

/** What no rekey can do without, by the primitives of node:crypto as they are. */
const YARDSTICKS = {
  "Ed25519 signature": () => crypto.sign(null, MESSAGE, signingKey),
  "Ed25519 verification": () => crypto.verify(null, MESSAGE, publicKey, SIGNATURE),
  "20 key wraps": () => {
    for (let i = 0; i < 20; i++) nodeCrypto.aesKeyWrapPad(KEYS[i] as Uint8Array, KEYS[i + 1] as Uint8Array);
  },
  "20 key unwraps": () => {
    for (let i = 0; i < 20; i++) nodeCrypto.aesKeyUnwrapPad(KEYS[i] as Uint8Array, WRAPPED[i] as Uint8Array);
  },
} as const;
export type Yardstick = keyof typeof YARDSTICKS;

async function measureYardsticks(): Promise<Record<Yardstick, number>> {
  const measured: [string, number][] = [];
  for (const [name, work] of Object.entries<() => unknown>(YARDSTICKS)) measured.push([name, (await timed(work))[0]]);
  return Object.fromEntries(measured) as Record<Yardstick, number>;
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
export async function benchGkma({ rounds, batches, contenders = GROUPS }: GkmaBenchOptions): Promise<GkmaBench> {
  const results: GkmaBenchResult[] = [];
  for (const members of SIZES) {
    for (const { name, make } of contenders) {
      const group = await make(members);
      if (group === undefined) continue;
      const most = group.rounds ?? Number.POSITIVE_INFINITY;
      for (const change of GROUP_CHANGES) {
        await repeat(group, change, change === "1 % leave" ? 1 : Math.ceil(Math.min(rounds, most) / 5));
        const cost = await repeat(group, change, Math.min(most, change === "1 % leave" ? batches : rounds));
        if (cost !== undefined) results.push({ contender: name, members, change, cost, memory: group.memory });
      }
    }
  }
  const against = (name: string): number =>
    results.find(({ contender, members, change }) => contender === name && members === 1024 && change === "leave")?.cost
      .controller ?? 0;
  const { bars, yardsticks } = await measureBars(rounds, batches);
  const slower: GkmaBar = {
    what: "one leaves 1024: how many times as fast as ts-mls, key server against committer",
    least: 1000,
    unit: "times",
    measured: against("ts-mls") / against("OFC"),
  };
  return { results, bars: [...bars, slower], yardsticks };
}

/** Leaves of the largest group before the first that counts: the groups before it let compiled code be thrown away. */
const WARM_UP = 1000;

/** Each round is measured beside the yardsticks, so that what else the machine does slows down both. */
async function measureBars(rounds: number, batches: number): Promise<Pick<GkmaBench, "bars" | "yardsticks">> {
  const members = SIZES.at(-1) as number;
  const group = new TreeUnderTest(fullTree("ofc", 2, members));
  const singles: { cost: GroupCost; yards: Record<Yardstick, number> }[] = [];
  // A key server of a million has seen many leave.
  await repeat(group, "leave", WARM_UP);
  for (let round = 0; round < 2 * rounds; round++) {
    const yards = await measureYardsticks();
    const cost = (await group.measure("leave")) as GroupCost;
    if (round >= rounds / 2) singles.push({ cost, yards });
  }
  const batchCosts: { cost: GroupCost; wraps: number }[] = [];
  for (let round = 0; round < batches; round++) {
    const cost = (await group.measure("1 % leave")) as GroupCost;
    // What is repeated in several packets was wrapped once.
    const [wraps] = await timed(() => {
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
      {
        what: "the same: octets of the message",
        most: 800,
        unit: "octets",
        measured: Math.max(...singles.map(({ cost }) => cost.octets)),
      },
      times(
        "1 % leave a million, in signed packets: key server, against its wraps one by one",
        2,
        batchCosts.map(({ cost, wraps }) => cost.controller / wraps),
      ),
      {
        what: "the same: octets of all packets",
        most: 3e6,
        unit: "octets",
        measured: Math.max(...batchCosts.map(({ cost }) => cost.octets)),
      },
      { what: "key state of a million members", most: 64e6, unit: "octets", measured: group.memory },
    ],
  };
}
