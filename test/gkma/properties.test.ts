import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatHex } from "../../src/bytes/index.js";
import type { RekeyPart } from "../../src/gkma/index.js";
import { applyAll, Group, hex, type Member, VARIANTS, type Variant, variantName } from "./group.js";
import { closure, type Epoch, firstBreach, firstGap, type History, recordingCrypto } from "./oracle.js";

/** One change, and what the network does to it. */
const step = fc.record({
  /** Members by their place in the order in which they came. */
  leave: fc.array(fc.nat(40), { maxLength: 3 }),
  join: fc.nat(3),
  admit: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: 1, max: 3 }) }),
  replace: fc.oneof({ weight: 7, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  /** How far the version goes on. */
  skip: fc.integer({ min: 1, max: 3 }),
  /** Octets per part. */
  limit: fc.constantFrom(400, 600, 1000, 100_000),
  /** Which parts do not reach which members. */
  losses: fc.uint8Array({ minLength: 8, maxLength: 8 }),
  order: fc.constantFrom("as sent", "reversed", "twice"),
  /** What those do who have lost something. */
  repair: fc.constantFrom("nothing", "fetch what was lost", "ask for the place again"),
  restart: fc.boolean(),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function isLost({ losses }: Step, member: Member, part: number): boolean {
  return (losses[(3 * member.number + part) % losses.length] as number) < 50;
}

function sent(parts: readonly RekeyPart[], order: Step["order"]): readonly RekeyPart[] {
  if (order === "reversed") return parts.toReversed();
  return order === "twice" ? [...parts, ...parts] : parts;
}

interface Run {
  readonly history: History;
  /** Whoever ended up with another key than that of its version, or did not end up in step when all was repaired. */
  readonly problems: readonly string[];
  readonly derivations: ReadonlyMap<string, string>;
}

function run(variant: Variant, steps: readonly Step[]): Run {
  const { crypto, rules, derivations } = recordingCrypto(variant.keyLength ?? 16);
  const told = new Map<number, string[]>();
  const group = new Group(variant, crypto, (member, { leafKey, path }) => {
    told.set(member, [...(told.get(member) ?? []), ...[leafKey, ...path.map(({ key }) => key)].map(formatHex)]);
  });
  const epochs: Epoch[] = [];
  const keys = new Map<number, string>();
  const archive: { version: number; parts: readonly RekeyPart[] }[] = [];
  const problems: string[] = [];
  let snapshot = group.tree.snapshot();
  let snapshotAt = 0;

  const rekey = (change: Parameters<Group["rekey"]>[0], options?: Parameters<Group["rekey"]>[1]) => {
    const done = group.rekey(change, options);
    const { version } = done.rekey;
    keys.set(version, hex(done.rekey.groupKey));
    epochs.push({ version, key: hex(done.rekey.groupKey), members: new Set(group.members.keys()) });
    archive.push({ version, parts: done.parts });
    return done;
  };
  /** In step, or behind with the key of the version where it stands: never with another key. */
  const check = (when: string, member: Member): void => {
    const key = member.path.groupKey();
    if (key !== undefined && hex(key) !== keys.get(member.path.version))
      problems.push(`${when}: member ${member.number} has a wrong key`);
  };
  const fetchLost = (member: Member): void => {
    for (const { version, parts } of archive) {
      if (version <= member.path.version && member.path.groupKey() !== undefined) continue;
      applyAll(member.path, parts);
    }
  };
  const expectInStep = (when: string): void => {
    for (const { path, number } of group.everybody) {
      if (path.version !== group.tree.version || hex(path.groupKey()) !== keys.get(path.version)) {
        problems.push(`${when}: member ${number} is not in step`);
      }
    }
  };

  rekey({ join: 6 });
  for (const [number, one] of steps.entries()) {
    if (one.admit > 0) group.admit(one.admit);
    const everybody = group.everybody;
    const leave = [...new Set(one.leave.map((place) => everybody[place % everybody.length] as Member))].filter(Boolean);
    if (leave.length + one.join + group.tree.pending === 0 && !one.replace) continue;
    const { parts, left } = rekey({ leave, join: one.join, replace: one.replace }, one);
    for (const member of group.everybody) {
      for (const [at, part] of sent(parts, one.order).entries()) {
        if (isLost(one, member, at)) continue;
        member.path.apply(part);
        check(`step ${number}`, member);
      }
      if (member.path.version === group.tree.version) continue;
      if (one.repair === "fetch what was lost") fetchLost(member);
      else if (one.repair === "ask for the place again") group.resynchronise(member);
    }
    for (const member of left) {
      if (applyAll(member.path, parts).includes("applied"))
        problems.push(`step ${number}: member ${member.number} left, and follows`);
    }
    if (one.restart) {
      const since = group.log.slice(snapshotAt);
      const restored = group.restore(snapshot, since);
      if (formatHex(restored.snapshot()) !== formatHex(group.tree.snapshot()))
        problems.push(`step ${number}: another tree after a restart`);
      group.tree = restored;
      snapshot = restored.snapshot();
      snapshotAt = group.log.length;
    }
  }
  for (const member of group.everybody) {
    if (member.number % 2 === 0) fetchLost(member);
    else group.resynchronise(member);
  }
  if (group.tree.pending === 0) expectInStep("at the end");
  return { history: { told, rules, epochs }, problems, derivations };
}

describe.each(VARIANTS.map((variant) => ({ variant, name: variantName(variant) })))("$name", ({ variant }) => {
  const histories = fc.array(step, { minLength: 1, maxLength: 9 });

  it("keeps members in step, and keys from everybody else, whatever comes", () => {
    fc.assert(
      fc.property(histories, (steps) => {
        const { history, problems, derivations } = run(variant, steps);
        expect(problems).toEqual([]);
        // Not those who left before, nor those who came later, nor all of them together.
        expect(firstBreach(history)).toBeUndefined();
        // Members find out their keys from what they were told and the traffic: the oracle sees all there is to see.
        expect(firstGap(history)).toBeUndefined();
        // No key is made twice, and wrapping needs no nonce.
        expect(new Set(derivations.values()).size).toBe(derivations.size);
        expect(new Set(history.epochs.map(({ key }) => key)).size).toBe(history.epochs.length);
      }),
      { numRuns: 20 },
    );
  });

  it("shuts out whoever has stolen every key above the leaves, when all are replaced", () => {
    const { crypto, rules } = recordingCrypto(variant.keyLength ?? 16);
    const group = new Group(variant, crypto);
    group.rekey({ join: 20 });
    const stolen = group.everybody.flatMap(({ leaf }) => group.tree.download(leaf).path.map(({ key }) => formatHex(key)));
    const { rekey } = group.rekey({ join: 1 });
    const after = group.rekey({ replace: true });
    // A one-way join is no obstacle to a thief.
    expect(closure(rules, stolen).has(hex(rekey.groupKey))).toBe(variant.algorithm !== "none");
    expect(closure(rules, stolen).has(hex(after.rekey.groupKey))).toBe(false);
  });

  it("would not pass if somebody were let in an epoch early, or out an epoch late", () => {
    const steps = fc.sample(histories, { seed: 4046, numRuns: 5 });
    const { history } = run(variant, steps.flat());
    const [first, second] = history.epochs as [Epoch, Epoch];
    const without = (epoch: Epoch, member: number): Epoch => ({
      ...epoch,
      members: new Set([...epoch.members].filter((one) => one !== member)),
    });
    const [member] = [...second.members].filter((one) => first.members.has(one)) as [number];
    expect(firstBreach({ ...history, epochs: [without(second, member)] })).toMatchObject({ version: second.version });
  });
});
