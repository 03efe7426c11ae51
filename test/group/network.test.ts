import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createRig, definition, listen, type Rig, type RigMember } from "./rig.js";

/** One thing that happens to a group. */
type Event =
  | { readonly kind: "join"; readonly name: number }
  | { readonly kind: "leave" | "expel"; readonly which: number }
  | { readonly kind: "rekey" | "restart" | "replace" }
  | { readonly kind: "cut" | "heal"; readonly which: number }
  | { readonly kind: "pass"; readonly seconds: number };

const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("join" as const), name: fc.nat(3) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("leave" as const, "expel" as const), which: fc.nat(7) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("rekey" as const, "restart" as const, "replace" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("cut" as const, "heal" as const), which: fc.nat(7) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("pass" as const), seconds: fc.integer({ min: 1, max: 15 }) }) },
);

interface World {
  readonly rig: Rig;
  readonly speaker: RigMember;
  /** In the group now. */
  readonly members: Map<string, RigMember>;
  /** Left or expelled, with what they had heard by the time that senders had switched. */
  readonly gone: { readonly member: RigMember; heard: number | undefined }[];
  readonly cut: Set<string>;
  number: number;
  made: number;
}

async function step(world: World, happening: Event): Promise<void> {
  const { rig, members, gone, cut } = world;
  const pick = (which: number): RigMember | undefined => [...members.values()][which % Math.max(1, members.size)];
  switch (happening.kind) {
    case "join": {
      const name = `listener${happening.name}x${world.made++}`;
      members.set(name, await rig.join(name));
      return;
    }
    case "leave":
    case "expel": {
      const chosen = pick(happening.which);
      if (chosen === undefined || cut.has(chosen.name)) return;
      members.delete(chosen.name);
      if (happening.kind === "leave") await chosen.member.leave();
      else await rig.gcks.expel("blue", `sip:${chosen.name}@example.org`);
      gone.push({ member: chosen, heard: undefined });
      return;
    }
    case "rekey":
      return rig.gcks.rekey("blue");
    case "replace":
      return rig.gcks.replace("blue");
    case "restart":
      return rig.restart();
    case "cut":
    case "heal": {
      const chosen = pick(happening.which);
      if (chosen === undefined) return;
      const cutting = happening.kind === "cut";
      if (cutting) cut.add(chosen.name);
      else cut.delete(chosen.name);
      rig.network.setLink(cutting ? { partitioned: true } : LOSSY, ["gcks", chosen.carrier.host]);
      return;
    }
    case "pass":
      await rig.settle(1000 * happening.seconds);
  }
}

/** Loss that retransmissions survive, delay that reorders, duplicates. */
const LOSSY = { delay: 5, jitter: 400, loss: 0.1, duplicate: 0.1 };

async function play(options: { algorithm: string; batched: boolean; seed: number }, events: readonly Event[]): Promise<void> {
  const when = options.batched ? "batched" : "at-once";
  const rig = await createRig({
    seed: options.seed,
    definitions: [
      definition(
        { rekeyOnJoin: when, rekeyOnLeave: when },
        { algorithm: options.algorithm, heartbeat: 3, resynchronisationDelay: 1 },
      ),
    ],
  });
  try {
    const speaker = await rig.join("speaker1");
    const world: World = { rig, speaker, members: new Map(), gone: [], cut: new Set(), number: 0, made: 0 };
    rig.network.setLink(LOSSY);
    // Media is not what is tried here: the speaker's packets arrive.
    let sequence = 0;
    for (const happening of events) {
      await step(world, happening);
      const now = rig.gcks.groups[0]?.sequence ?? 0;
      expect(now).toBeGreaterThanOrEqual(sequence);
      sequence = now;
    }
    for (const { member } of world.gone) member.carrier.register = () => Promise.reject(new Error("gone"));
    // Everything heals: whoever was cut off finds back, by itself.
    rig.network.setLink({});
    for (const member of world.members.values()) rig.network.setLink({}, ["gcks", member.carrier.host]);
    await rig.settle(150_000);
    for (const entry of world.gone) entry.heard = entry.member.heard.length;
    const live = [...world.members.values(), speaker];
    expect(live.map(({ member }) => member.memberships[0]?.state)).toEqual(live.map(() => "in-step"));
    const mkis = new Set(live.map(({ member }) => member.memberships[0]?.sequence));
    expect(mkis.size).toBeLessThanOrEqual(1);
    for (const member of world.members.values()) {
      listen(member);
      member.heard.length = 0;
    }
    for (let i = 0; i < 3; i++) speaker.speak(1000 + i);
    await rig.settle(200);
    for (const member of world.members.values()) expect(member.heard).toEqual([1000, 1001, 1002]);
    // Who left or was expelled opens nothing of it.
    for (const { member, heard } of world.gone) expect(member.heard.length).toBe(heard);
  } finally {
    await rig.close();
  }
}

describe("a group on a bad network", () => {
  it.each(["ofc", "lkh", "lkh+", "none"])(
    "converges and shuts out, whatever happens: %s",
    async (algorithm) => {
      await fc.assert(
        fc.asyncProperty(
          fc.boolean(),
          fc.integer({ min: 1, max: 1_000_000 }),
          fc.array(event, { minLength: 3, maxLength: 12 }),
          (batched, seed, events) => play({ algorithm, batched, seed }, events),
        ),
        { numRuns: Number(process.env["GROUP_RUNS"] ?? 4), endOnFailure: true },
      );
    },
    120_000,
  );
});
