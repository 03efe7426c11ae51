import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatHex, utf8, utf8Text } from "../../src/bytes/index.js";
import { readGroupDefinition } from "../../src/gcks/definition.js";
import { GroupState } from "../../src/gcks/group-state.js";
import { type GroupStep, parse } from "../../src/gcks/ledger.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { definition, uri } from "../group/rig.js";

const octets = (length: number, seed: number) => nodeCrypto.hash("sha256", utf8(`${seed}`)).slice(0, length);
const keys = (seed: number) => ({
  memberInitiated: true,
  prfFunc: 1,
  csbId: seed,
  t: BigInt(seed),
  transcript: octets(32, seed),
  proofKey: octets(32, seed + 1),
  downKey: octets(32, seed + 2),
  upKey: octets(32, seed + 3),
});

const wishOf = fc.record({
  admit: fc.integer({ min: 0, max: 3 }),
  leave: fc.nat({ max: 2 }),
  kind: fc.constantFrom("rekey" as const, "admission" as const, "nothing" as const),
  replace: fc.boolean(),
  report: fc.boolean(),
});
type Wish = typeof wishOf extends fc.Arbitrary<infer T> ? T : never;

/** What a key server would write for such a wish, the state being as it is. */
function stepOf(state: GroupState, wish: Wish, index: number): GroupStep {
  const members = [...state.members];
  const first = members[0];
  const leave = members.slice(-wish.leave || members.length).map(({ number }) => number);
  const admits = wish.kind === "nothing" ? 0 : wish.admit;
  const change = wish.kind === "rekey" || (wish.kind === "admission" && admits > 0);
  const hasWork = admits > 0 || leave.length > 0 || state.departed > 0 || (state.tree?.pending ?? 0) > 0 || wish.replace;
  return {
    at: 1000 * index,
    ...(admits === 0
      ? {}
      : {
          admit: Array.from({ length: admits }, (_, i) => ({
            identity: uri(`sip:listener${(index + i) % 5}@example.org`),
            role: { send: true, receive: i > 0 },
            ssrcs: [1 + 10 * index + i],
          })),
          numbers: Array.from({ length: admits }, (_, i) => 1 + 10 * index + i),
        }),
    ...(leave.length === 0 ? {} : { leave }),
    ...(first === undefined || leave.includes(first.number) ? {} : { bind: [{ number: first.number, keys: keys(index) }] }),
    ...(wish.report && first !== undefined && !leave.includes(first.number)
      ? {
          confirm: [
            { number: first.number, counter: index, ...(index % 2 === 0 ? {} : { address: { host: "192.0.2.7", port: index } }) },
          ],
          senders: first.ssrcs.map((ssrc) => ({ ssrc, roc: index, seq: 7 })),
        }
      : {}),
    ...(change
      ? {
          rekey: {
            sequence: wish.kind === "rekey" ? index : Math.max(1, state.sequence),
            seed: formatHex(octets(32, index)),
            ...(wish.kind === "admission" ? { admissionOnly: true } : {}),
            ...(wish.kind === "rekey" && wish.replace ? { replace: true } : {}),
            ...(wish.kind === "rekey" && !hasWork ? { keepTree: true } : {}),
            dataKeys: wish.kind === "rekey" ? [{ dataSa: 1, mki: index }] : [],
          },
        }
      : {}),
  };
}

const never = async (): Promise<void> => {
  throw new Error("a small group is written at a stretch");
};

/** The text of a snapshot, whose fields come in any order, and the octets behind it. */
function readable(snapshot: Uint8Array) {
  const end = 5 + new DataView(snapshot.buffer, snapshot.byteOffset).getUint32(1);
  return { text: parse(utf8Text(snapshot.subarray(5, end)) ?? ""), rest: formatHex(snapshot.subarray(end)) };
}

describe("the state of a group", () => {
  it("goes on from a snapshot as it would have gone on without one", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom("ofc", "lkh+", "none"),
        fc.array(wishOf, { maxLength: 12 }),
        fc.nat(12),
        async (algorithm, wishes, at) => {
          const group = readGroupDefinition(definition({}, { algorithm }));
          const birth = { csbId: 5, rand: octets(32, 1), ssrcKey: octets(32, 2) };
          const state = new GroupState(nodeCrypto, group, birth);
          let copy = GroupState.restore(nodeCrypto, group, await state.snapshot(never));
          for (const [index, wish] of wishes.entries()) {
            if (index === at) copy = GroupState.restore(nodeCrypto, group, await state.snapshot(never));
            const step = stepOf(state, wish, index + 1);
            state.prepare(step).commit();
            copy.prepare(step).commit();
            expect(readable(await copy.snapshot(never))).toEqual(readable(await state.snapshot(never)));
            expect([...copy.addresses]).toEqual([...state.addresses]);
            for (const number of state.addresses.keys()) expect(state.members.get(number)).toBeDefined();
            expect([...copy.senders.values()].map(({ member }) => member?.number)).toEqual(
              [...state.senders.values()].map(({ member }) => member?.number),
            );
          }
        },
      ),
    );
  });

  it("lets others have their turn while the snapshot of a large group is made", async () => {
    const group = readGroupDefinition(definition());
    const state = new GroupState(nodeCrypto, group, { csbId: 5, rand: octets(32, 1), ssrcKey: octets(32, 2) });
    const admit = Array.from({ length: 10_000 }, (_, i) => ({
      identity: uri(`sip:listener${i}@example.org`),
      role: { send: false, receive: true },
      ssrcs: [i + 1],
    }));
    const numbers = admit.map((_, i) => i + 1);
    state.prepare({ at: 1, admit, numbers, rekey: { sequence: 1, seed: formatHex(octets(32, 1)), dataKeys: [] } }).commit();
    let turns = 0;
    const snapshot = await state.snapshot(async () => {
      turns++;
    });
    expect(turns).toBe(2);
    const restored = GroupState.restore(nodeCrypto, group, snapshot);
    expect(restored.members.size).toBe(10_000);
    expect(restored.members.get(9_999)?.name).toBe("sip:listener9998@example.org");
    expect(restored.tree?.groupKey()).toEqual(state.tree?.groupKey());
  });

  it("refuses what is no snapshot", async () => {
    const group = readGroupDefinition(definition());
    const state = new GroupState(nodeCrypto, group, { csbId: 5, rand: octets(32, 1), ssrcKey: octets(32, 2) });
    const step = stepOf(state, { admit: 3, leave: 0, kind: "rekey", replace: false, report: false }, 1);
    state.prepare(step).commit();
    const snapshot = await state.snapshot(never);
    for (let end = 0; end < snapshot.length; end++) {
      expect(() => GroupState.restore(nodeCrypto, group, snapshot.subarray(0, end))).toThrow();
    }
    expect(() => GroupState.restore(nodeCrypto, group, Uint8Array.of(1, ...snapshot.subarray(1)))).toThrow(
      expect.objectContaining({ code: "gcks.ledger" }),
    );
  });
});
