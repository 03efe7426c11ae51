import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WatchwordError } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import {
  createKeyPath,
  createKeyTree,
  type KeyTree,
  type KeyTreeOptions,
  type PathDownload,
  restoreKeyTree,
} from "../../src/gkma/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { fullTree } from "./full-tree.js";
import { applyAll, Group, hex, type Member, seedOf } from "./group.js";

const crypto = nodeCrypto;

function throwsCode(code: string): unknown {
  return expect.objectContaining({ code });
}

describe("options", () => {
  it.each([
    { algorithm: "ofc", degree: 1 },
    { algorithm: "lkh", degree: 256 },
    { algorithm: "lkh", degree: 2.5 },
    { algorithm: "none", degree: 2 },
    { algorithm: "sd" as "ofc" },
    { algorithm: "ofc", keyLength: 24 as 16 },
    { algorithm: "ofc", capacity: -1 },
    { algorithm: "ofc", capacity: 2 ** 29 },
    { algorithm: "lkh", capacity: 1.5 },
  ] as const)("%o is refused", (options) => {
    expect(() => createKeyTree({ crypto, ...options })).toThrow(throwsCode("gkma.option"));
  });

  it("are binary one-way function chains of 128 bits where nothing else is said", () => {
    expect(createKeyTree({ crypto, algorithm: "ofc" })).toMatchObject({ degree: 2, keyLength: 16 });
    expect(createKeyTree({ crypto, algorithm: "none" })).toMatchObject({ degree: 0, keyLength: 16 });
  });
});

describe("providers", () => {
  it.each(["none", "lkh", "lkh+", "ofc"] as const)("give the same keys and edges: %s", (algorithm) => {
    for (const keyLength of [16, 32] as const) {
      const trees = [nodeCrypto, nobleCrypto].map((provider) => createKeyTree({ crypto: provider, algorithm, keyLength }));
      for (const change of [{ join: 9 }, { leave: [9], join: 3 }, { replace: true }]) {
        const [parts] = trees.map((tree) => {
          const rekey = tree.prepareRekey(change, { version: tree.version + 1, seed: seedOf(tree.version) });
          const made = [...rekey.parts(500)];
          rekey.commit();
          return made;
        });
        expect(parts).toBeDefined();
        expect(hex(trees[0]?.snapshot())).toBe(hex(trees[1]?.snapshot()));
      }
    }
  });
});

describe("a long rekey in turns", () => {
  const LEAVE = Array.from({ length: 2000 }, (_, i) => 16_500 + 7 * i);

  it.each([
    { algorithm: "ofc", degree: 2 },
    { algorithm: "lkh+", degree: 3 },
  ] as const)("is the one that is made at a stretch: $algorithm", async ({ algorithm, degree }) => {
    const [one, other] = [0, 1].map(() => fullTree(algorithm, degree, 30_000)) as [KeyTree, KeyTree];
    const change = { leave: LEAVE.map((leaf) => (degree === 2 ? leaf + 15_000 : leaf)), join: 100 };
    const inputs = { version: 2, seed: seedOf(2) };
    let pauses = 0;
    const turns = await other.prepareRekeyInTurns(change, inputs, async () => {
      pauses++;
    });
    expect(pauses).toBeGreaterThan(0);
    const stretch = one.prepareRekey(change, inputs);
    const [made, expected] = [turns, stretch].map((rekey) =>
      [...rekey.parts(900)].map(({ edges, refreshed, ...rest }) => ({ ...rest, edges: hex(edges), refreshed: hex(refreshed) })),
    );
    expect(made).toEqual(expected);
    turns.commit();
    stretch.commit();
    expect(hex(one.snapshot()) === hex(other.snapshot())).toBe(true);
  });

  it("ends where the tree changes meanwhile", async () => {
    const tree = fullTree("ofc", 2, 30_000);
    const prepared = tree.prepareRekeyInTurns({ replace: true }, { version: 2, seed: seedOf(2) }, async () => {
      if (tree.version === 1) tree.prepareRekey({ join: 1 }, { version: 2, seed: seedOf(3) }).commit();
    });
    await expect(prepared).rejects.toThrow(throwsCode("gkma.stale"));
    expect(tree.version).toBe(2);
  });

  it("has no pause where it is short", async () => {
    const tree = fullTree("ofc", 2, 1000);
    const never = async (): Promise<void> => {
      throw new Error("paused");
    };
    const prepared = await tree.prepareRekeyInTurns({ leave: [1500] }, { version: 2, seed: seedOf(2) }, never);
    expect(prepared.wraps).toBeGreaterThan(5);
    await expect(tree.prepareRekeyInTurns({}, { version: 2, seed: seedOf(2) }, never)).rejects.toThrow(throwsCode("gkma.change"));
  });
});

describe("snapshots", () => {
  function grown(options: Omit<KeyTreeOptions, "crypto">) {
    const group = new Group(options);
    group.rekey({ join: 9 });
    group.rekey({ leave: group.everybody.slice(2, 4) });
    group.admit(1);
    return group.tree.snapshot();
  }
  const OCTETS = grown({ algorithm: "lkh", degree: 3 });

  it("are refused when cut anywhere, and when anything is behind them", () => {
    for (let length = 0; length < OCTETS.length; length++) {
      expect(() => restoreKeyTree(crypto, OCTETS.subarray(0, length)), `${length} octets`).toThrow(throwsCode("gkma.snapshot"));
    }
    expect(() => restoreKeyTree(crypto, Uint8Array.of(...OCTETS, 0))).toThrow(throwsCode("gkma.snapshot"));
  });

  it.each([
    ["format", 0, 2],
    ["algorithm", 1, 4],
    ["degree", 2, 1],
    ["degree of none", 1, 0],
    ["key length", 3, 15],
    ["number of nodes", 8, 0x40],
    ["free leaf that somebody has", OCTETS.length - 5, 10],
    ["free leaf beyond the tree", OCTETS.length - 6, 1],
    ["pending leaf that a rekey has included", OCTETS.length - 1, 9],
  ])("are refused with another %s", (_, at, value) => {
    const octets = OCTETS.slice();
    octets[at] = value;
    expect(() => restoreKeyTree(crypto, octets)).toThrow(throwsCode("gkma.snapshot"));
  });

  it("are refused in a shape that no tree has", () => {
    const octets = new Uint8Array(20 + 4 * 20);
    octets.set([1, 1, 2, 16]);
    new DataView(octets.buffer).setUint32(8, 4);
    expect(() => restoreKeyTree(crypto, octets)).toThrow(throwsCode("gkma.snapshot"));
  });

  it("whatever they are, end in a tree or in a typed error", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(OCTETS.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), (changes) => {
        const octets = OCTETS.slice();
        for (const [at, value] of changes) octets[at] = value;
        try {
          restoreKeyTree(crypto, octets);
        } catch (error) {
          expect(error).toBeInstanceOf(WatchwordError);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe("downloads", () => {
  const group = new Group({ algorithm: "ofc" });
  group.rekey({ join: 5 });
  const [{ leaf }] = group.everybody as [Member];
  const download = group.tree.download(leaf);

  it.each<[string, Partial<PathDownload>]>([
    ["a leaf that has children", { leaf: 1 }],
    ["the root", { leaf: 0 }],
    ["a leaf beyond the tree", { leaf: 9 }],
    ["a leaf that is no integer", { leaf: 4.5 }],
    ["an empty tree", { largestId: 0 }],
    ["a huge tree", { largestId: 2 ** 29 }],
    ["an impossible degree", { degree: 1 }],
    ["a degree of none", { algorithm: "none" }],
    ["an impossible key length", { keyLength: 24 as 16 }],
    ["a short leaf key", { leafKey: new Uint8Array(15) }],
    ["a short key", { path: [{ node: 0, key: new Uint8Array(15) }] }],
    ["a key of a node elsewhere", { path: [...download.path, { node: leaf - 1, key: new Uint8Array(16) }] }],
    ["two keys of one node", { path: [...download.path, { node: 0, key: new Uint8Array(16) }] }],
  ])("with %s are refused", (_, change) => {
    expect(() => createKeyPath(crypto, { ...download, ...change })).toThrow(throwsCode("gkma.download"));
  });
});

describe("memory", () => {
  it("is under 64 MB for a million members, set aside at once or grown by and by", () => {
    const aside = createKeyTree({ crypto, algorithm: "ofc", capacity: 1_000_000 });
    expect(aside.byteLength).toBeLessThan(48e6);
    // Nothing is kept per tree that matters: what a member takes is the same in a smaller one.
    const grown = createKeyTree({ crypto, algorithm: "ofc" });
    for (let members = 0; members < 20_000; members += 500) {
      grown.prepareAdmission(500, seedOf(members)).commit();
      expect(grown.byteLength / grown.members).toBeLessThan(64);
    }
  });
});

describe("growth", () => {
  it("moves the member of the leaf that gets children, to the first of them, and tells so", () => {
    const group = new Group({ algorithm: "ofc" });
    group.rekey({ join: 4 });
    expect(group.everybody.map(({ leaf }) => leaf).sort()).toEqual([3, 4, 5, 6]);
    const { rekey, parts } = group.rekey({ join: 1 });
    expect(rekey.largestId).toBe(8);
    expect([...rekey.moved]).toEqual([3, 7]);
    const moved = group.everybody.find(({ leaf }) => leaf === 7) as Member;
    expect(moved.path.leaf).toBe(3);
    expect(applyAll(moved.path, parts)).toEqual(["applied"]);
    expect(moved.path).toMatchObject({ leaf: 7, largestId: 8, keys: 4 });
  });

  it("needs nobody's move as long as a node has room for another child", () => {
    const group = new Group({ algorithm: "lkh", degree: 4 });
    const moves = Array.from({ length: 16 }, () => group.rekey({ join: 1 }).rekey.moved.length / 2);
    expect(moves).toEqual([0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0]);
  });
});
