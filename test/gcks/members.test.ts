import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Reader, utf8, Writer } from "../../src/bytes/index.js";
import type { MemberKeys } from "../../src/gcks/ledger.js";
import { KeyVault, type Member, Roster, readMember, writeMember } from "../../src/gcks/members.js";

const octets = fc.uint8Array({ minLength: 32, maxLength: 32 });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const keysOf: fc.Arbitrary<MemberKeys> = fc.record({
  memberInitiated: fc.boolean(),
  prfFunc: fc.integer({ min: 0, max: 255 }),
  csbId: u32,
  t: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  transcript: octets,
  proofKey: octets,
  downKey: octets,
  upKey: octets,
});
const admittedOf = fc.record({
  identity: fc.record({
    idType: fc.integer({ min: 0, max: 255 }),
    // Texts, some of them the same, and what is none.
    data: fc.oneof(fc.constantFrom("sip:a@x", "sip:b@x", "").map(utf8), fc.string({ maxLength: 40 }).map(utf8), fc.uint8Array()),
  }),
  role: fc.record({ send: fc.boolean(), receive: fc.boolean() }),
  ssrcs: fc.array(u32, { maxLength: 16 }),
});
const factsOf = fc.record({
  admittedIn: u32,
  admittedAt: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
  renewedAt: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
  counter: u32,
  state: fc.constantFrom("provisional" as const, "confirmed" as const, "lapsing" as const),
});

/** Everything that a member is, as plain data. */
function plain(member: Member) {
  const { number, leaf, admittedIn, admittedAt, renewedAt, counter, state, role, ssrcs, identity, name, keys } = member;
  const copied = keys === undefined ? undefined : structuredClone(keys);
  return { number, leaf, admittedIn, admittedAt, renewedAt, counter, state, role, ssrcs, identity, name, keys: copied };
}

describe("the members of a group", () => {
  it("come back out of a snapshot as they were", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(admittedOf, factsOf, fc.option(keysOf)), { maxLength: 20 }), (members) => {
        const roster = new Roster();
        members.forEach(([admitted, facts, keys], index) => {
          const member = roster.add(admitted, { ...facts, number: index, leaf: 2 * index });
          if (keys !== null) member.bind(keys);
        });
        const writer = new Writer("members");
        for (const member of roster) writeMember(writer, member, 0);
        const reader = new Reader(writer.finish(), "members");
        const restored = new Roster();
        for (const _ of members) readMember(reader, restored);
        expect(reader.remaining).toBe(0);
        expect([...restored].map(plain)).toEqual([...roster].map(plain));
        members.forEach(([admitted, , keys], index) => {
          expect(plain(restored.get(index) as Member)).toMatchObject({ ...admitted, ...(keys === null ? {} : { keys }) });
        });
      }),
    );
  });

  it("are found by number, leaf and identity, whoever comes, goes and moves", () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("add" as const), name: fc.constantFrom("a", "b", "c"), keys: fc.option(keysOf) }),
      fc.record({ kind: fc.constant("remove" as const), which: fc.nat() }),
      fc.record({ kind: fc.constant("move" as const), which: fc.nat() }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const roster = new Roster();
        const model = new Map<number, { name: string; leaf: number; keys: MemberKeys | null }>();
        let leaf = 0;
        for (const one of steps) {
          const [number, known] = [...model][one.kind === "add" ? -1 : one.which % Math.max(1, model.size)] ?? [];
          if (one.kind === "add") {
            leaf++;
            const identity = { idType: 1, data: utf8(one.name) };
            const facts = { admittedIn: 1, admittedAt: 1, renewedAt: 1, counter: 0, state: "provisional" as const };
            const member = roster.add(
              { identity, role: { send: true, receive: true }, ssrcs: [] },
              { ...facts, number: leaf, leaf },
            );
            if (one.keys !== null) member.bind(one.keys);
            model.set(leaf, { name: one.name, leaf, keys: one.keys });
          } else if (number === undefined || known === undefined) {
            continue;
          } else if (one.kind === "remove") {
            roster.remove(roster.get(number) as Member);
            model.delete(number);
          } else {
            leaf++;
            roster.move(Uint32Array.of(known.leaf, leaf));
            model.set(number, { ...known, leaf });
          }
          expect(roster.size).toBe(model.size);
          for (const [which, { leaf: place, keys }] of model) {
            expect(roster.atLeaf(place)?.number).toBe(which);
            expect(roster.get(which)?.keys).toEqual(keys ?? undefined);
          }
          for (const name of ["a", "b", "c"]) {
            const expected = [...model].filter(([, member]) => member.name === name).map(([which]) => which);
            expect(roster.named(name).map((member) => member.number)).toEqual(expected);
          }
          const crowds = [...roster.several()].map((members) => members.map(({ name }) => name));
          expect(crowds.every((names) => names.length > 1 && new Set(names).size === 1)).toBe(true);
        }
      }),
    );
  });
});

describe("their keys", () => {
  const keys: MemberKeys = {
    memberInitiated: true,
    prfFunc: 1,
    csbId: 7,
    t: 9n,
    transcript: new Uint8Array(32).fill(1),
    proofKey: new Uint8Array(32).fill(2),
    downKey: new Uint8Array(32).fill(3),
    upKey: new Uint8Array(32).fill(4),
  };

  it("are zeros once they are dropped, and their place is used again", () => {
    const vault = new KeyVault();
    const [first, second] = [vault.put(keys), vault.put({ ...keys, csbId: 8 })];
    const view = vault.at(first);
    expect(view).toEqual(keys);
    vault.drop(first);
    for (const octet of [view.transcript, view.proofKey, view.downKey, view.upKey].flatMap((key) => [...key]))
      expect(octet).toBe(0);
    expect(vault.put({ ...keys, csbId: 9 })).toBe(first);
    expect(vault.at(first).csbId).toBe(9);
    expect(vault.at(second).csbId).toBe(8);
    const held = vault.at(second).downKey;
    vault.wipe();
    expect(held).toEqual(new Uint8Array(32));
  });

  it("fill more than one piece of memory", () => {
    const vault = new KeyVault();
    const places = Array.from({ length: 3000 }, (_, csbId) => vault.put({ ...keys, csbId }));
    expect(places.map((place) => vault.at(place).csbId)).toEqual(Array.from({ length: 3000 }, (_, i) => i));
  });

  it("have one length", () => {
    expect(() => new KeyVault().put({ ...keys, upKey: new Uint8Array(31) })).toThrow(
      expect.objectContaining({ code: "gcks.ledger" }),
    );
  });
});
