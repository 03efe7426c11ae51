import { describe, expect, it } from "vitest";
import { createKeyPath, type KeyTree } from "../../src/gkma/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { fullTree } from "./full-tree.js";
import { seedOf } from "./group.js";

/** Numbers that look random and are the same in every run (Park and Miller's generator). */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 48_271) % 0x7fff_ffff;
    return state % below;
  };
}

function someLeaves(tree: KeyTree, count: number, random: (below: number) => number): number[] {
  const first = tree.largestId + 1 - tree.members;
  const chosen = new Set<number>();
  while (chosen.size < count) chosen.add(first + random(tree.members));
  return [...chosen];
}

/** Wraps that a departure takes. */
function leaveWraps(tree: KeyTree, leave: readonly number[]): number {
  const rekey = tree.prepareRekey({ leave }, { version: 2, seed: seedOf(leave.length) });
  rekey.drop();
  return rekey.wraps;
}

function meanLeaveWraps(tree: KeyTree, leavers: number, rounds: number): number {
  const random = randomNumbers(leavers + tree.members);
  let sum = 0;
  for (let round = 0; round < rounds; round++) sum += leaveWraps(tree, someLeaves(tree, leavers, random));
  return sum / rounds;
}

function expectWithin(percent: number, measured: number, expected: number): void {
  expect(Math.abs(measured / expected - 1), `${measured} for ${expected}`).toBeLessThan(percent / 100);
}

describe("RFC 2627 Table 1", () => {
  it.each([
    [8, 2, 4, 5, 3],
    [9, 3, 3, 5, 4],
    [16, 2, 5, 7, 4],
    [2048, 2, 12, 21, 11],
    [2187, 3, 8, 20, 14],
    [131_072, 2, 18, 33, 17],
    [177_147, 3, 12, 32, 22],
  ])("%i users, degree %i: %i keys per user, %i messages of one key", (users, degree, stored, oneKey, manyKeys) => {
    const lkh = fullTree("lkh", degree, users);
    const chain = fullTree("ofc", degree, users);
    const leaves = [lkh.largestId - users + 1, lkh.largestId - (users >> 1), lkh.largestId];
    for (const leaf of leaves) {
      expect(createKeyPath(nodeCrypto, lkh.download(leaf)).keys).toBe(stored);
      expect(leaveWraps(lkh, [leaf])).toBe(oneKey);
      // What the RFC reaches by several keys in a message, a chain reaches by keys that follow from each other.
      expect(createKeyPath(nodeCrypto, chain.download(leaf)).keys).toBe(stored);
      expect(leaveWraps(chain, [leaf])).toBe(manyKeys);
    }
  });
});

describe("a single departure", () => {
  /** The mean depth of a leaf: the deepest level is filled from the left. */
  function meanDepth(members: number, degree: number): number {
    let full = 0;
    while (degree ** (full + 1) <= members) full++;
    return full + ((members - degree ** full) * degree) / ((degree - 1) * members);
  }

  describe.each([1_000, 10_000, 100_000, 1_000_000])("of %i members", (members) => {
    it.each([2, 3, 4, 8])("takes kd - 1 wraps with LKH of degree %i", (degree) => {
      expectWithin(2, meanLeaveWraps(fullTree("lkh", degree, members), 1, 400), degree * meanDepth(members, degree) - 1);
    });

    it("takes 2 log2(n) - 1 wraps with binary LKH, log2(n) with a one-way function chain, all others with none", () => {
      expectWithin(2, meanLeaveWraps(fullTree("lkh", 2, members), 1, 400), 2 * Math.log2(members) - 1);
      expectWithin(2, meanLeaveWraps(fullTree("lkh+", 2, members), 1, 400), 2 * Math.log2(members) - 1);
      expectWithin(2, meanLeaveWraps(fullTree("ofc", 2, members), 1, 400), Math.log2(members));
    });
  });

  it.each([
    [2, 38.9],
    [3, 37.1],
    [4, 38.9],
    [8, 53.8],
  ])("of a million, degree %i, takes %d wraps with LKH", (degree, wraps) => {
    expectWithin(2, meanLeaveWraps(fullTree("lkh", degree, 1_000_000), 1, 400), wraps);
  });

  it("of a million takes at most 20 wraps, 560 octets, with a one-way function chain", () => {
    const tree = fullTree("ofc", 2, 1_000_000);
    const random = randomNumbers(7);
    for (let round = 0; round < 300; round++) {
      const rekey = tree.prepareRekey({ leave: someLeaves(tree, 1, random) }, { version: 2, seed: seedOf(round) });
      const parts = [...rekey.parts(900)];
      expect(parts).toHaveLength(1);
      expect(parts[0]?.edges.length).toBeLessThanOrEqual(560);
      rekey.drop();
    }
  });

  it("takes as many wraps as others stay without a tree", () => {
    const tree = fullTree("none", 0, 1_000);
    expect(leaveWraps(tree, [77])).toBe(999);
    expect(leaveWraps(tree, [1, 2, 3])).toBe(997);
  });
});

describe("a join", () => {
  it("takes no wrap with LKH+, and as many as a departure with the others", () => {
    for (const [algorithm, wraps, refreshes] of [
      ["lkh+", 0, 10],
      ["lkh", 19, 0],
      ["ofc", 10, 0],
    ] as const) {
      const tree = fullTree(algorithm, 2, 1024);
      tree.prepareRekey({ leave: [1500] }, { version: 2, seed: seedOf(1) }).commit();
      const rekey = tree.prepareRekey({ join: 1 }, { version: 3, seed: seedOf(2) });
      expect([algorithm, rekey.wraps, rekey.refreshes]).toEqual([algorithm, wraps, refreshes]);
    }
  });
});

describe("a batch", () => {
  /** The logarithm of n over k, from a table of logarithms of factorials. */
  function binomials(most: number): (n: number, k: number) => number {
    const logs = new Float64Array(most + 1);
    for (let i = 1; i <= most; i++) logs[i] = (logs[i - 1] as number) + Math.log(i);
    return (n, k) =>
      k < 0 || k > n ? Number.NEGATIVE_INFINITY : (logs[n] as number) - (logs[k] as number) - (logs[n - k] as number);
  }

  /**
   * How many wraps the departure of `leavers` random members takes on average, exactly. A node's key is wrapped for each child below which somebody
   * stays, if somebody below the node leaves; a chain spares one wrap where a child below which some leave and some stay is a node itself.
   */
  function expectedWraps(members: number, leavers: number, degree: number, chains: boolean): number {
    const choose = binomials(members);
    /** That all of `all` leaves and none of `none` others are left. */
    const probability = (all: number, none: number): number =>
      Math.exp(choose(members - all - none, leavers - all) - choose(members, leavers));
    const nodes = members + Math.ceil((members - 1) / (degree - 1));
    const internal = nodes - members;
    const leavesBelow = (id: number): number => {
      let count = 0;
      for (let [first, last] = [id, id]; first < nodes; [first, last] = [degree * first + 1, degree * last + degree]) {
        count += Math.max(0, Math.min(last, nodes - 1) - Math.max(first, internal) + 1);
      }
      return count;
    };
    const known = new Map<number, number>();
    const below = (id: number): number => {
      const leaves = leavesBelow(id);
      if (leaves === 1) return 0;
      const memo = known.get(leaves);
      if (memo !== undefined) return memo;
      let sum = 0;
      const children = Array.from({ length: degree }, (_, i) => degree * id + 1 + i).filter((child) => child < nodes);
      const sizes = children.map(leavesBelow);
      for (const [i, child] of children.entries()) {
        sum += 1 - probability(0, leaves) - probability(sizes[i] as number, 0) + below(child);
      }
      if (chains) {
        // No child is a node below which some leave and some stay: each is left by all or by none, or is a leaf.
        let none = 0;
        for (let choice = 0; choice < 2 ** sizes.length; choice++) {
          const all = sizes.reduce((total, size, i) => total + ((choice >> i) & 1 ? size : 0), 0);
          none += probability(all, leaves - all);
        }
        sum -= 1 - none;
      }
      known.set(leaves, sum);
      return sum;
    };
    return below(0);
  }

  it.each([
    [1_000, 10, 150],
    [10_000, 100, 20],
    [100_000, 1_000, 4],
    [1_000_000, 10_000, 1],
  ])("of %i members, one in a hundred of whom leave, takes the wraps that chance says", (members, leavers, rounds) => {
    expectWithin(2, meanLeaveWraps(fullTree("lkh", 2, members), leavers, rounds), expectedWraps(members, leavers, 2, false));
    expectWithin(2, meanLeaveWraps(fullTree("lkh", 4, members), leavers, rounds), expectedWraps(members, leavers, 4, false));
    expectWithin(2, meanLeaveWraps(fullTree("ofc", 2, members), leavers, rounds), expectedWraps(members, leavers, 2, true));
  });

  it.each([
    ["lkh", 2, 10_000, 125_500],
    ["lkh", 4, 10_000, 115_600],
    ["ofc", 2, 10_000, 67_700],
    ["lkh", 4, 100_000, 531_000],
    ["ofc", 2, 100_000, 359_000],
  ] as const)("of a million with %s of degree %i, %i of whom leave, takes %i wraps", (algorithm, degree, leavers, wraps) => {
    expectWithin(2, meanLeaveWraps(fullTree(algorithm, degree, 1_000_000), leavers, 1), wraps);
  });

  it("of a million, one in a hundred of whom leave, takes less than 3 MB of edges in packets", () => {
    const tree = fullTree("ofc", 2, 1_000_000);
    const rekey = tree.prepareRekey({ leave: someLeaves(tree, 10_000, randomNumbers(5)) }, { version: 2, seed: seedOf(3) });
    let octets = 0;
    for (const { edges } of rekey.parts(900)) octets += edges.length;
    expect(octets).toBeLessThan(2.5e6);
    expect(octets).toBeGreaterThan(28 * rekey.wraps);
  });
});
