import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { closure, firstBreach, firstGap } from "./oracle.js";
import { type Flaw, PlainOneWayFunctionTree, type Toy, ToyTree } from "./toy-trees.js";

const steps = fc.array(fc.tuple(fc.array(fc.nat(7), { maxLength: 2 }), fc.nat(2)), { minLength: 1, maxLength: 12 });

/** Whether there is a history of a toy in which somebody finds out a key that is not for him. */
function hasBreach(make: () => Toy): boolean {
  const { failed } = fc.check(
    fc.property(steps, (history) => {
      const toy = make();
      for (const [leave, join] of history) toy.rekey(leave, join);
      return firstBreach(toy.history) === undefined;
    }),
    { numRuns: 300, seed: 2627 },
  );
  return failed;
}

describe("the oracle", () => {
  it("finds what follows from what is known, and nothing else", () => {
    const rules = [
      { from: ["a"], to: "b" },
      { from: ["b", "c"], to: "d" },
      { from: ["d"], to: "a" },
      { from: ["e", "e"], to: "f" },
      { from: ["x"], to: "y" },
    ];
    expect([...closure(rules, ["a"])].sort()).toEqual(["a", "b"]);
    expect([...closure(rules, ["c", "a"])].sort()).toEqual(["a", "b", "c", "d"]);
    expect([...closure(rules, ["d", "e"])].sort()).toEqual(["a", "b", "d", "e", "f"]);
    expect([...closure(rules, [])]).toEqual([]);
  });

  it("finds no fault with a toy that has none, whose members all find out their keys", () => {
    expect(hasBreach(() => new ToyTree("none"))).toBe(false);
    fc.assert(
      fc.property(steps, (history) => {
        const toy = new ToyTree("none");
        for (const [leave, join] of history) toy.rekey(leave, join);
        expect(firstGap(toy.history)).toBeUndefined();
      }),
    );
  });

  it.each<Flaw>([
    "join changes nothing",
    "departure by a one-way function",
    "join and departure in one batch",
    "leaf keys live on",
    "wrapped under the old key",
  ])("finds the flaw: %s", (flaw) => {
    expect(hasBreach(() => new ToyTree(flaw))).toBe(true);
  });

  it("finds the collusion that plain one-way function trees fall to", () => {
    expect(hasBreach(() => new PlainOneWayFunctionTree())).toBe(true);
    // The member on the far right leaves and knows the left half's blinded secret; who comes later on the far left is told the right half's, which is
    // still that of the epoch in between. Neither may have its key, both together have it.
    const tree = new PlainOneWayFunctionTree();
    tree.rekey([], 8);
    tree.rekey([7], 0);
    tree.rekey([0], 0);
    expect(firstBreach(tree.history)).toBeUndefined();
    tree.rekey([], 1);
    expect(firstBreach(tree.history)).toEqual({ version: 2, outsiders: [8, 9] });
  });

  it("knows that all members of plain one-way function trees find out their keys", () => {
    fc.assert(
      fc.property(steps, (history) => {
        const tree = new PlainOneWayFunctionTree();
        for (const [leave, join] of history) tree.rekey(leave, join);
        expect(firstGap(tree.history)).toBeUndefined();
      }),
      { numRuns: 50 },
    );
  });
});
