import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { defaultCrypto } from "../../src/crypto/index.js";
import { sealEnd, sealHeartbeat, sealRekey } from "../../src/gsa/index.js";
import { encodeNtp } from "../../src/mikey/index.js";
import { createRig, definition, listen, type Rig, type RigMember } from "./rig.js";
import { type AccessPromise, type Flaw, Witness } from "./witness.js";

/** One thing that happens to a group. */
type Event =
  | { readonly kind: "join"; readonly name: number }
  | { readonly kind: "leave" | "expel" | "make room for another"; readonly which: number }
  | { readonly kind: "rekey" | "restart" | "replace" | "begin again" | "speak" }
  | { readonly kind: "cut" | "heal" | "lose the dialog"; readonly which: number }
  | { readonly kind: "replay" | "flip" | "pose as the key server"; readonly which: number; readonly at: number }
  | { readonly kind: "pass"; readonly seconds: number };

const which = fc.nat(7);
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("join" as const), name: fc.nat(3) }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom("leave" as const, "expel" as const, "make room for another" as const), which }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom("rekey" as const, "restart" as const, "replace" as const, "begin again" as const, "speak" as const),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom("cut" as const, "heal" as const, "lose the dialog" as const), which }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom("replay" as const, "flip" as const, "pose as the key server" as const),
      which,
      at: fc.nat(10_000),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("pass" as const), seconds: fc.integer({ min: 1, max: 15 }) }) },
);

/** A group and its network. */
const setting = fc.record({
  joins: fc.constantFrom("none" as const, "at-once" as const, "batched" as const),
  leaves: fc.constantFrom("at-once" as const, "batched" as const),
  multicast: fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  degree: fc.integer({ min: 2, max: 4 }),
  seed: fc.integer({ min: 1, max: 1_000_000 }),
});
type Setting = typeof setting extends fc.Arbitrary<infer T> ? T : never;

interface World {
  readonly rig: Rig;
  readonly witness: Witness;
  readonly speaker: RigMember;
  /** In the group now. */
  readonly members: Map<string, RigMember>;
  /** Left or expelled. */
  readonly gone: RigMember[];
  readonly cut: Set<string>;
  made: number;
  spoken: number;
}

const BATCH_MS = 1000;

/** What a member believes. */
const belief = ({ member }: RigMember) => {
  const [first] = member.memberships;
  return { sequence: first?.sequence, state: first?.state };
};

async function step(world: World, happening: Event): Promise<void> {
  const { rig, members, gone, cut, speaker } = world;
  const pick = (place: number): RigMember | undefined => [...members.values()][place % Math.max(1, members.size)];
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
      gone.push(chosen);
      return;
    }
    case "make room for another":
      await step(world, { kind: "leave", which: happening.which });
      return step(world, { kind: "join", name: 0 });
    case "rekey":
      return rig.gcks.rekey("blue");
    case "replace":
      return rig.gcks.replace("blue");
    case "begin again":
      return rig.gcks.restart("blue");
    case "restart": {
      const before = [rig.gcks.groups, rig.gcks.members("blue")];
      await rig.restart();
      expect([rig.gcks.groups, rig.gcks.members("blue")]).toEqual(before);
      return;
    }
    case "speak":
      for (let i = 0; i < 3; i++) speak(world, world.spoken++);
      return;
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
    case "lose the dialog":
      return pick(happening.which)?.carrier.onLost?.();
    case "replay":
    case "flip":
    case "pose as the key server": {
      const chosen = pick(happening.which) ?? speaker;
      const octets = await hostile(world, happening, pick(happening.which + 1));
      if (octets === undefined) return;
      await rig.settle(0);
      const before = belief(chosen);
      chosen.member.receiveControl(octets);
      // No time passes: nothing else arrives.
      await rig.settle(0);
      const after = belief(chosen);
      if (happening.kind === "replay") expect(after.sequence ?? 0).toBeGreaterThanOrEqual(before.sequence ?? 0);
      else expect(after).toEqual(before);
      return;
    }
    case "pass":
      await rig.settle(1000 * happening.seconds);
  }
}

/** What an attacker sends: what it recorded, that with a bit changed, or what a member makes that has the keys. */
async function hostile(
  { rig }: World,
  { kind, at }: Extract<Event, { at: number }>,
  insider: RigMember | undefined,
): Promise<Uint8Array | undefined> {
  const recorded = rig.control[at % Math.max(1, rig.control.length)];
  if (kind === "replay") return recorded;
  if (kind === "flip") {
    const flipped = recorded?.slice();
    if (flipped !== undefined) flipped[at % flipped.length] = (flipped[at % flipped.length] as number) ^ (1 << (at % 8));
    return flipped;
  }
  const internals = insider?.member.memberships[0] as unknown as import("../../src/member/membership.js").Membership | undefined;
  const [constants, kek, rekey] = [internals?.constants, internals?.kek, insider?.carrier.policies?.rekey];
  if (constants === undefined || kek === undefined || rekey === undefined) return undefined;
  const signer = defaultCrypto.importPrivateKey((await defaultCrypto.generateKeyPair("ed25519")).pkcs8);
  const sealing = { constants, rekey, kek, signer, sequence: (internals?.sequence ?? 0) + 1 };
  const time = encodeNtp(rig.network.clock.now() + 1000);
  if (at % 3 === 0) return sealEnd(defaultCrypto, sealing, time, at % 2 === 0);
  if (at % 3 === 1) return sealHeartbeat(defaultCrypto, sealing, time);
  return (await sealRekey(defaultCrypto, { ...sealing, dataKeys: [] }))[0];
}

function speak({ speaker, witness, spoken }: World, number = spoken): void {
  const [stream] = speaker.member.memberships[0]?.streams ?? [];
  speaker.speak(number, (packet) => witness.packet(packet, stream?.mki ?? 0));
}

/** Loss that retransmissions survive, delay that reorders, duplicates. */
const LOSSY = { delay: 5, jitter: 400, loss: 0.1, duplicate: 0.1 };

interface Options extends Setting {
  readonly algorithm: string;
  readonly flaw?: Flaw;
  /** What the group is judged by, where it is not what it is. */
  readonly promise?: Partial<AccessPromise>;
}

/** @returns what the witness found */
async function play(options: Options, events: readonly Event[]): Promise<ReturnType<Witness["judge"]>> {
  const { joins, leaves, algorithm, degree, multicast } = options;
  let witness: Witness | undefined;
  const rig = await createRig({
    seed: options.seed,
    definitions: [
      definition(
        { rekeyOnJoin: joins, rekeyOnLeave: leaves, batchInterval: BATCH_MS / 1000 },
        {
          algorithm,
          heartbeat: 3,
          resynchronisationDelay: 1,
          ...(algorithm === "none" ? {} : { degree }),
          ...(multicast ? {} : { address: null }),
        },
      ),
    ],
    observer: ({ clock }) => {
      witness = new Witness({ joins, leaves, batchMs: BATCH_MS, ...options.promise }, () => clock.now(), options.flaw);
      return witness;
    },
  });
  if (witness === undefined) throw new Error("no witness");
  try {
    const speaker = await rig.join("speaker1");
    const world: World = { rig, witness, speaker, members: new Map(), gone: [], cut: new Set(), made: 0, spoken: 0 };
    rig.network.setLink(LOSSY);
    // Media is not what is tried here: the speaker's packets arrive.
    let sequence = 0;
    for (const happening of events) {
      await step(world, happening);
      const now = rig.gcks.groups[0]?.sequence ?? 0;
      if (happening.kind !== "begin again") expect(now).toBeGreaterThanOrEqual(sequence);
      sequence = now;
      witness.look(rig.gcks);
    }
    for (const { carrier } of world.gone) carrier.register = () => Promise.reject(new Error("gone"));
    // Everything heals: whoever was cut off finds back, by itself.
    rig.network.setLink({});
    for (const member of world.members.values()) rig.network.setLink({}, ["gcks", member.carrier.host]);
    await rig.settle(150_000);
    const live = [...world.members.values(), speaker];
    expect(live.map(belief)).toEqual(live.map(() => ({ sequence: rig.gcks.groups[0]?.sequence, state: "in-step" })));
    witness.compare(live, rig.gcks);
    const heard = world.gone.map((member) => member.heard.length);
    for (const member of world.members.values()) {
      listen(member);
      member.heard.length = 0;
    }
    for (let i = 0; i < 3; i++) speaker.speak(1000 + i);
    await rig.settle(200);
    for (const member of world.members.values()) expect(member.heard).toEqual([1000, 1001, 1002]);
    // Who left or was expelled opens nothing of it.
    expect(world.gone.map((member) => member.heard.length)).toEqual(heard);
    return witness.judge(rig.gcks);
  } finally {
    await rig.close();
  }
}

const runs = Number(process.env["GROUP_RUNS"] ?? 3);

describe("a group on a bad network", () => {
  it.each(["ofc", "lkh", "lkh+", "none"])(
    "converges and keeps its secrets, whatever happens: %s",
    async (algorithm) => {
      await fc.assert(
        fc.asyncProperty(setting, fc.array(event, { minLength: 3, maxLength: 14 }), async (chosen, events) => {
          expect(await play({ ...chosen, algorithm }, events)).toEqual({ breach: undefined, gap: undefined, problems: [] });
        }),
        { numRuns: runs, endOnFailure: true },
      );
    },
    1_200_000,
  );
});

describe("the witness", () => {
  const events: readonly Event[] = [
    ...[0, 1, 2].map((name) => ({ kind: "join", name }) as const),
    { kind: "pass", seconds: 3 },
    { kind: "leave", which: 0 },
    { kind: "leave", which: 1 },
    { kind: "join", name: 3 },
    { kind: "leave", which: 0 },
    { kind: "rekey" },
    { kind: "pass", seconds: 5 },
  ];
  const chosen = { joins: "at-once", leaves: "at-once", multicast: true, degree: 2, seed: 1 } as const;

  it("has nothing to say where all is well", async () => {
    expect(await play({ ...chosen, algorithm: "ofc" }, events)).toEqual({ breach: undefined, gap: undefined, problems: [] });
  });

  it.each(["ofc", "lkh", "lkh+", "none"])(
    "finds keys of nodes that come again, and are known to who has left: %s",
    async (algorithm) => {
      const { breach } = await play({ ...chosen, algorithm, flaw: "node keys come again" }, events);
      expect(breach).toBeDefined();
    },
  );

  it("finds data keys that come again", async () => {
    const { breach, problems } = await play({ ...chosen, algorithm: "ofc", flaw: "data keys come again" }, events);
    expect(breach).toBeDefined();
    expect(problems[0]).toMatch(/a key that was there before/);
  });

  it("finds registrations that everybody can open", async () => {
    const { breach } = await play({ ...chosen, algorithm: "ofc", flaw: "registrations are in the clear" }, events);
    expect(breach).toMatchObject({ version: 1, outsiders: expect.arrayContaining([1]) });
  });

  it("finds a group whose joins bring no new keys, where they should", async () => {
    const { breach } = await play({ ...chosen, joins: "none", algorithm: "lkh", promise: { joins: "at-once" } }, events);
    expect(breach).toBeDefined();
  });

  it("finds a group that locks out who has left with the next batch, where it should at once", async () => {
    const late: readonly Event[] = [...events.slice(0, 5), { kind: "speak" }];
    const promise = { leaves: "at-once" } as const;
    const { breach } = await play({ ...chosen, leaves: "batched", algorithm: "lkh", promise }, late);
    expect(breach).toBeDefined();
  });
});
