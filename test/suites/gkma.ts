import { beforeEach, describe, expect, it } from "vitest";
import { edgeOctets, type KeyTree, type RekeyPart, restoreKeyTree } from "../../src/gkma/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { applyAll, Group, hex, type Member, seedOf, type Variant, variantName } from "../gkma/group.js";

function throwsCode(code: string): unknown {
  return expect.objectContaining({ code });
}

/** Everything that a tree says of itself and hands out, for comparison. */
function stateOf(tree: KeyTree): unknown {
  return {
    snapshot: hex(tree.snapshot()),
    version: tree.version,
    members: tree.members,
    pending: tree.pending,
    largestId: tree.largestId,
  };
}

/** The leaves from left to right. */
function leavesInOrder(tree: KeyTree): number[] {
  const degree = tree.algorithm === "none" ? Number.POSITIVE_INFINITY : tree.degree;
  const walk = (id: number): number[] => {
    const children: number[] = [];
    for (
      let child = degree === Number.POSITIVE_INFINITY ? (id === 0 ? 1 : Number.POSITIVE_INFINITY) : degree * id + 1;
      child <= tree.largestId;
      child++
    ) {
      if (children.length === degree) break;
      children.push(child);
    }
    return children.length === 0 ? [id] : children.flatMap(walk);
  };
  return walk(0);
}

/** What every group key management algorithm must do. */
export function describeGkma(variant: Variant): void {
  const keyLength = variant.keyLength ?? 16;
  const edge = edgeOctets(keyLength);

  describe(`GKMA ${variantName(variant)}`, () => {
    let group: Group;
    beforeEach(() => {
      group = new Group(variant);
    });

    /** The child of the root above a leaf. */
    function belowRoot(leaf: number): number {
      const parent = (id: number): number => (variant.algorithm === "none" ? 0 : Math.floor((id - 1) / (variant.degree ?? 2)));
      let id = leaf;
      while (parent(id) !== 0) id = parent(id);
      return id;
    }

    /** Hands every part to every member and expects the new key of each. */
    function deliver({ rekey, parts, joined }: ReturnType<Group["rekey"]>): void {
      const key = hex(rekey.groupKey);
      const newcomers = new Set(joined);
      const wrong = group.everybody.flatMap((member) => {
        const kinds = applyAll(member.path, parts);
        const applied = kinds.filter((kind) => kind === "applied").length;
        const { path, leaf } = member;
        const right =
          applied === (newcomers.has(member) ? 0 : 1) &&
          !kinds.includes("missing") &&
          hex(path.groupKey()) === key &&
          path.leaf === leaf &&
          path.version === rekey.version;
        return right ? [] : [{ member: member.number, leaf, kinds }];
      });
      expect(wrong).toEqual([]);
      expect(hex(group.tree.groupKey())).toBe(key);
    }

    it("has no members, no group key and nobody's leaf at first", () => {
      const { tree } = group;
      expect(tree).toMatchObject({ ...variant, keyLength, version: 0, members: 0, pending: 0, largestId: 0 });
      expect(tree.has(0)).toBe(false);
      expect(tree.has(1)).toBe(false);
      expect(() => tree.groupKey()).toThrow(throwsCode("gkma.version"));
      expect(() => tree.download(0)).toThrow(throwsCode("gkma.leaf"));
    });

    it("keys the first member, the second, and one after the other as the tree grows", () => {
      const keys = new Set<string>();
      for (let members = 1; members <= 40; members++) {
        const step = group.rekey({ join: 1 });
        deliver(step);
        keys.add(hex(step.rekey.groupKey));
        expect(group.tree.members).toBe(members);
        expect(new Set(group.everybody.map(({ leaf }) => leaf)).size).toBe(members);
      }
      expect(keys.size).toBe(40);
    });

    it("keys whole crowds that come and go at once, down to the last member, and begins again", () => {
      deliver(group.rekey({ join: 100 }));
      deliver(group.rekey({ leave: group.everybody.filter((_, i) => i % 3 === 0), join: 5 }));
      deliver(group.rekey({ leave: group.everybody.slice(1) }));
      const [last] = group.everybody as [Member];
      const step = group.rekey({ leave: [last] });
      expect(step.rekey.wraps).toBe(0);
      expect(step.parts).toHaveLength(1);
      expect(group.tree.members).toBe(0);
      expect(applyAll(last.path, step.parts)).not.toContain("applied");
      expect(hex(group.tree.groupKey())).not.toBe(hex(last.path.groupKey()));
      deliver(group.rekey({ join: 3 }));
      deliver(group.rekey({ join: 200 }));
    });

    it("tells a joiner the new group key, and gives a left leaf to the next one under a new key", () => {
      deliver(group.rekey({ join: 9 }));
      const leaver = group.everybody[4] as Member;
      const before = group.tree.download(leaver.leaf);
      deliver(group.rekey({ leave: [leaver] }));
      const step = group.rekey({ join: 1 });
      deliver(step);
      const [joiner] = step.joined as [Member];
      expect(joiner.leaf).toBe(leaver.leaf);
      const after = group.tree.download(joiner.leaf);
      expect(hex(after.leafKey)).not.toBe(hex(before.leafKey));
      const known = new Set([before.leafKey, ...before.path.map(({ key }) => key)].map(hex));
      expect([after.leafKey, ...after.path.map(({ key }) => key)].map(hex).filter((key) => known.has(key))).toEqual([]);
      expect(after.path.at(-1)?.node).toBe(0);
    });

    it("gives a leaf that is left to one who joins in the same change", () => {
      deliver(group.rekey({ join: 9 }));
      const [, leaver] = group.everybody as [Member, Member];
      const step = group.rekey({ leave: [leaver], join: 1 });
      deliver(step);
      expect(step.joined[0]?.leaf).toBe(leaver.leaf);
      expect(applyAll(leaver.path, step.parts)).not.toContain("applied");
      expect(hex(leaver.path.groupKey())).not.toBe(hex(step.rekey.groupKey));
    });

    it("includes admitted members in the next rekey, whatever it is for", () => {
      deliver(group.rekey({ join: 7 }));
      for (const reason of ["join", "leave", "nothing else"]) {
        const admitted = group.admit(3);
        expect(group.tree.pending).toBe(3);
        for (const { path, leaf } of admitted) {
          expect(path.keys).toBe(1);
          expect(path.groupKey()).toBeUndefined();
          expect(group.tree.download(leaf).path).toEqual([]);
        }
        deliver(group.rekey(reason === "join" ? { join: 2 } : reason === "leave" ? { leave: group.everybody.slice(0, 1) } : {}));
        expect(group.tree.pending).toBe(0);
      }
      deliver(group.rekey({ join: 1 }));
    });

    it("keys a group that was admitted before its first rekey, and one whose admitted members leave again", () => {
      group.admit(5);
      group.admit(30);
      deliver(group.rekey({}));
      const admitted = group.admit(4);
      deliver(group.rekey({ leave: admitted.slice(0, 2) }));
      expect(group.tree.members).toBe(37);
    });

    it("tells a member its place between an admission for which the tree has grown and the rekey", () => {
      deliver(group.rekey({ join: 8 }));
      group.admit(20);
      for (const member of group.everybody.slice(0, 8)) {
        const again = group.resynchronise(member);
        expect(hex(again.path.groupKey())).toBe(hex(group.tree.groupKey()));
      }
      deliver(group.rekey({}));
    });

    it("replaces every key above the leaves", () => {
      deliver(group.rekey({ join: 30 }));
      const before = group.everybody.map(({ leaf }) => group.tree.download(leaf));
      deliver(group.rekey({ replace: true }));
      const known = new Set(before.flatMap(({ path }) => path.map(({ key }) => hex(key))));
      for (const { leafKey, path, leaf } of group.everybody.map(({ leaf }) => group.tree.download(leaf))) {
        expect(path.filter(({ key }) => known.has(hex(key)))).toEqual([]);
        expect(hex(leafKey)).toBe(hex(before.find((one) => one.leaf === leaf)?.leafKey));
      }
      deliver(group.rekey({ replace: true, leave: group.everybody.slice(3, 9), join: 2 }));
      expect(new Group(variant).rekey({ replace: true }).rekey.groupKey).toHaveLength(keyLength);
    });

    it("hands out no key that began before the member was admitted", () => {
      deliver(group.rekey({ join: 20 }));
      const known = new Set<string>();
      for (let round = 0; round < 10; round++) {
        for (const { leaf } of group.everybody) {
          const { leafKey, path } = group.tree.download(leaf);
          for (const key of [leafKey, ...path.map(({ key }) => key)]) known.add(hex(key));
        }
        if (round % 2 === 0) group.admit(2);
        const step = group.rekey({ join: 2, leave: group.everybody.slice(round, round + 1) });
        deliver(step);
        for (const { leaf } of step.joined) {
          const { leafKey, path } = group.tree.download(leaf);
          expect([leafKey, ...path.map(({ key }) => key)].filter((key) => known.has(hex(key)))).toEqual([]);
        }
      }
    });

    it("cuts a rekey into parts that together are for every leaf, once, and of which each suffices for its leaves", () => {
      deliver(group.rekey({ join: 150 }));
      group.admit(10);
      const depth = variant.algorithm === "none" ? 1 : Math.ceil(Math.log(160) / Math.log(variant.degree ?? 2));
      const limit = (depth + 1) * (edge + 4);
      const step = group.rekey({ leave: group.everybody.filter((_, i) => i % 20 === 7), join: 12 }, { limit });
      expect(step.parts.length).toBeGreaterThan(1);
      const order = leavesInOrder(group.tree);
      const covered = step.parts.flatMap(({ first, last }) => order.slice(order.indexOf(first), order.indexOf(last) + 1));
      expect(covered).toEqual(order);
      for (const { edges, refreshed, version, previous, largestId } of step.parts) {
        expect(edges.length + refreshed.length).toBeLessThanOrEqual(limit);
        expect({ version, previous, largestId }).toEqual({ version: 2, previous: 1, largestId: group.tree.largestId });
      }
      for (const member of group.everybody.filter((one) => !step.joined.includes(one))) {
        const mine = step.parts.findIndex(({ first, last }) =>
          order.slice(order.indexOf(first), order.indexOf(last) + 1).includes(member.leaf),
        );
        const kinds = step.parts.map((part, i) => (i === mine ? "mine" : member.path.apply(part).kind));
        expect(new Set(kinds)).toEqual(new Set(["mine", "elsewhere"]));
        expect(hex(member.path.groupKey())).not.toBe(hex(step.rekey.groupKey));
        expect(member.path.apply(step.parts[mine] as RekeyPart)).toEqual({ kind: "applied", groupKey: step.rekey.groupKey });
      }
    });

    it("counts every wrapped key once, and has exactly those in a single part", () => {
      deliver(group.rekey({ join: 60 }));
      for (const change of [
        { leave: group.everybody.slice(5, 6) },
        { join: 3 },
        { leave: group.everybody.slice(9, 19), join: 4 },
      ]) {
        const rekey = group.tree.prepareRekey(
          { ...change, leave: (change.leave ?? []).map(({ leaf }) => leaf) },
          { version: 9, seed: seedOf(99) },
        );
        const [whole] = [...rekey.parts()] as [RekeyPart];
        expect(whole.edges.length).toBe(rekey.wraps * edge);
        expect(whole.refreshed.length).toBe(rekey.refreshes * 4);
        const cut = [...rekey.parts(1000)].flatMap(({ edges }) =>
          Array.from({ length: edges.length / edge }, (_, i) => hex(edges.slice(i * edge, (i + 1) * edge))),
        );
        expect(new Set(cut).size).toBe(rekey.wraps);
        rekey.drop();
      }
    });

    it("refuses parts in which not even one leaf's edges fit", () => {
      group.rekey({ join: 20 });
      group.admit(1);
      const rekey = group.tree.prepareRekey({}, { version: 2, seed: seedOf(2) });
      expect(() => [...rekey.parts(edge - 1)]).toThrow(throwsCode("gkma.part-size"));
    });

    it("is what it was when a change is dropped, and takes another one", () => {
      deliver(group.rekey({ join: 12 }));
      const before = stateOf(group.tree);
      const leave = [group.everybody[3]?.leaf as number];
      const dropped = group.tree.prepareRekey({ leave, join: 30 }, { version: 7, seed: seedOf(70) });
      const admission = group.tree.prepareAdmission(40, seedOf(71));
      expect([...dropped.parts(500)].length).toBeGreaterThan(0);
      expect(stateOf(group.tree)).toEqual(before);
      dropped.drop();
      admission.drop();
      expect(stateOf(group.tree)).toEqual(before);
      expect(() => dropped.commit()).toThrow(throwsCode("gkma.stale"));
      expect(() => [...dropped.parts()]).toThrow(throwsCode("gkma.stale"));
      expect(() => admission.commit()).toThrow(throwsCode("gkma.stale"));
      deliver(group.rekey({ leave: [group.everybody[3] as Member] }));
    });

    it("takes one of two changes that were prepared side by side", () => {
      group.rekey({ join: 12 });
      const one = group.tree.prepareRekey({ join: 1 }, { version: 5, seed: seedOf(5) });
      const other = group.tree.prepareRekey({ join: 1 }, { version: 5, seed: seedOf(6) });
      const admission = group.tree.prepareAdmission(1, seedOf(7));
      const parts = other.parts(1000);
      parts.next();
      one.commit();
      expect(() => one.commit()).toThrow(throwsCode("gkma.stale"));
      expect(() => other.commit()).toThrow(throwsCode("gkma.stale"));
      expect(() => parts.next()).toThrow(throwsCode("gkma.stale"));
      expect(() => admission.commit()).toThrow(throwsCode("gkma.stale"));
      expect(hex(group.tree.groupKey())).toBe(hex(one.groupKey));
    });

    it("gives the same keys and the same edges when a change is replayed on a snapshot", () => {
      group.rekey({ join: 33 });
      group.admit(2);
      const snapshot = group.tree.snapshot();
      const since = group.log.length;
      const twin = restoreKeyTree(nodeCrypto, snapshot);
      expect(stateOf(twin)).toEqual(stateOf(group.tree));
      for (let round = 0; round < 8; round++) {
        if (round % 3 === 1) {
          group.admit(round);
          twin.prepareAdmission(round, (group.log.at(-1) as { seed: Uint8Array }).seed).commit();
        }
        const { rekey, parts } = group.rekey(
          { join: round, leave: group.everybody.slice(round, 2 * round + 1) },
          { skip: round + 1 },
        );
        const record = group.log.at(-1);
        if (record?.kind !== "rekey") throw new Error("the last record is a rekey");
        const again = twin.prepareRekey(record.change, record);
        expect([...again.parts(1000)]).toEqual(parts);
        expect(again.joined).toEqual(rekey.joined);
        expect(again.moved).toEqual(rekey.moved);
        again.commit();
        expect(stateOf(twin)).toEqual(stateOf(group.tree));
      }
      expect(stateOf(group.restore(snapshot, group.log.slice(since)))).toEqual(stateOf(group.tree));
    });

    it("refuses changes that cannot be", () => {
      group.rekey({ join: 5 });
      const { tree } = group;
      const inputs = { version: 2, seed: seedOf(2) };
      const [{ leaf }] = group.everybody as [Member];
      const before = stateOf(tree);
      for (const [code, attempt] of [
        ["gkma.change", () => tree.prepareRekey({}, inputs)],
        ["gkma.change", () => tree.prepareRekey({ join: -1 }, inputs)],
        ["gkma.change", () => tree.prepareRekey({ join: 1.5 }, inputs)],
        ["gkma.change", () => tree.prepareAdmission(0, inputs.seed)],
        ["gkma.full", () => tree.prepareRekey({ join: 2 ** 30 }, inputs)],
        ["gkma.full", () => tree.prepareAdmission(2 ** 31, inputs.seed)],
        ["gkma.leaf", () => tree.prepareRekey({ leave: [0] }, inputs)],
        ["gkma.leaf", () => tree.prepareRekey({ leave: [tree.largestId + 1] }, inputs)],
        ["gkma.leaf", () => tree.prepareRekey({ leave: [leaf + 0.5] }, inputs)],
        ["gkma.leaf", () => tree.prepareRekey({ leave: [leaf, leaf] }, inputs)],
        ["gkma.leaf", () => tree.download(tree.largestId + 1)],
        ["gkma.seed", () => tree.prepareRekey({ join: 1 }, { version: 2, seed: new Uint8Array(31) })],
        ["gkma.seed", () => tree.prepareAdmission(1, new Uint8Array(33))],
        ["gkma.version", () => tree.prepareRekey({ join: 1 }, { ...inputs, version: 1 })],
        ["gkma.version", () => tree.prepareRekey({ join: 1 }, { ...inputs, version: 2 ** 32 })],
        ["gkma.version", () => tree.prepareRekey({ join: 1 }, { ...inputs, version: 2.5 })],
      ] as const) {
        expect(attempt, attempt.toString()).toThrow(throwsCode(code));
      }
      expect(stateOf(tree)).toEqual(before);
    });

    it("a member ignores what is old, and finds out what it missed", () => {
      deliver(group.rekey({ join: 40 }));
      const member = group.everybody.find(({ leaf }) => variant.algorithm === "none" || belowRoot(leaf) !== leaf) as Member;
      const first = group.rekey({ join: 1 });
      deliver(first);
      expect(member.path.leaf).toBe(member.leaf);
      expect(applyAll(member.path, first.parts).every((kind) => kind === "old")).toBe(true);
      // All keys on the member's way are replaced, then those at its end only: it lacks what the second change takes for granted.
      const lost = group.rekey({ replace: true });
      const other = group.everybody.find(({ leaf }) => belowRoot(leaf) !== belowRoot(member.leaf)) as Member;
      const next = group.rekey({ leave: [other] });
      const key = hex(member.path.groupKey());
      const kinds = applyAll(member.path, next.parts);
      if (variant.algorithm === "none") {
        expect(kinds).toContain("applied");
      } else {
        expect(kinds).toContain("missing");
        expect(kinds).not.toContain("applied");
        expect(member.path).toMatchObject({ version: first.rekey.version });
        expect(hex(member.path.groupKey())).toBe(key);
        // Late is not too late.
        expect(applyAll(member.path, lost.parts)).toContain("applied");
        expect(applyAll(member.path, next.parts)).toContain("applied");
      }
      expect(hex(member.path.groupKey())).toBe(hex(group.tree.groupKey()));
    });

    it("a member takes a rekey whole or not at all: any flipped bit of a wrapped key on its way, any missing edge", () => {
      group.rekey({ join: 20 });
      const [member] = group.everybody as [Member];
      const { parts } = group.rekey({ leave: group.everybody.slice(5, 9), join: 2 }, { limit: 100_000 });
      const [part] = parts as [RekeyPart];
      const key = hex(member.path.groupKey());
      const snapshot = { version: member.path.version, leaf: member.path.leaf, keys: member.path.keys };
      let refused = 0;
      const attempt = (damaged: RekeyPart): void => {
        const update = member.path.apply(damaged);
        // An edge that is not on the member's way does not concern it: then the right key is taken, which ends this case.
        if (update.kind === "applied") expect(hex(update.groupKey)).toBe(hex(group.tree.groupKey()));
        else {
          refused++;
          expect(update.kind).toBe("missing");
          expect({ version: member.path.version, leaf: member.path.leaf, keys: member.path.keys }).toEqual(snapshot);
          expect(hex(member.path.groupKey())).toBe(key);
        }
      };
      for (let at = 0; at < part.edges.length && member.path.version === 1; at += edge) {
        for (let octet = 4; octet < edge; octet += 5) {
          const edges = part.edges.slice();
          for (let other = 0; other < edges.length; other += edge)
            edges[other + octet] = (edges[other + octet] as number) ^ (1 << (at & 7));
          attempt({ ...part, edges });
        }
      }
      attempt({ ...part, edges: new Uint8Array(0), refreshed: new Uint8Array(0) });
      attempt({ ...part, edges: part.edges.map((octet, i) => (i % edge === 0 ? octet ^ 0x80 : octet)) });
      expect(refused).toBeGreaterThan(2);
      expect(member.path.apply(part)).toMatchObject({ kind: "applied" });
    });

    it("a member refuses parts that no key server makes", () => {
      group.rekey({ join: 6 });
      const [member] = group.everybody as [Member];
      const { parts } = group.rekey({ join: 1 });
      const [part] = parts as [RekeyPart];
      for (const change of [
        { edges: new Uint8Array(part.edges.length + 1) },
        { refreshed: new Uint8Array(3) },
        { largestId: -1 },
        { largestId: 2 ** 29 },
        { largestId: Number.NaN },
        { previous: part.version },
      ]) {
        expect(() => member.path.apply({ ...part, ...change }), Object.keys(change)[0]).toThrow(throwsCode("gkma.part"));
      }
      expect(member.path.apply({ ...part, largestId: 1 }).kind).toBe("missing");
      expect(member.path.apply(part).kind).toBe("applied");
    });

    it("hands out copies, and forgets", () => {
      group.rekey({ join: 3 });
      const [member] = group.everybody as [Member];
      const key = hex(group.tree.groupKey());
      group.tree.groupKey().fill(0);
      member.path.groupKey()?.fill(0);
      const download = group.tree.download(member.leaf);
      download.leafKey.fill(0);
      for (const { key } of download.path) key.fill(0);
      expect(hex(group.tree.groupKey())).toBe(key);
      expect(hex(member.path.groupKey())).toBe(key);
      member.path.wipe();
      expect(hex(member.path.groupKey())).toBe("00".repeat(keyLength));
      const { leaf } = member;
      group.tree.wipe();
      expect(group.tree.has(leaf)).toBe(false);
      expect(hex(group.tree.snapshot())).not.toContain(key);
    });
  });
}
