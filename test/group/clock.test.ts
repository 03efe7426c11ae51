import { afterEach, describe, expect, it } from "vitest";
import type { Clock } from "../../src/io/index.js";
import { createRig, definition, type Rig, type RigMember } from "./rig.js";

let rig: Rig;
afterEach(() => rig.close());

const HOUR = 3_600_000;

/** A key server whose wall clock is set, while time goes on as it does. @returns how to set it */
async function createJumpingRig(rekey: Record<string, unknown> = {}) {
  let jump = 0;
  const clock: Clock = { now: () => rig.network.clock.now() + jump };
  const steady: Clock = { now: () => rig.network.clock.now() - 1_767_000_000_000 };
  rig = await createRig({ definitions: [definition({}, rekey)] });
  await rig.restart({ clock, steady });
  return {
    clock,
    steady,
    set: (milliseconds: number): void => {
      jump += milliseconds;
    },
  };
}

const state = ({ member }: RigMember) => member.memberships[0]?.state;
const identities = () => rig.gcks.members("blue").map(({ identity }) => identity);

describe("a wall clock that is set", () => {
  it.each([2 * HOUR, -2 * HOUR])("by %i ms ends no membership, and nobody has to register again", async (jump) => {
    const { set, clock, steady } = await createJumpingRig({ period: 3000 });
    const speaker = await rig.join("speaker1");
    const listener = await rig.join("listener1");
    await rig.settle(60_000);
    const { mkis } = rig.gcks.groups[0] ?? expect.unreachable();
    set(jump);
    await rig.settle(600_000);
    expect(identities()).toHaveLength(2);
    // Nor are keys renewed that are not due.
    expect(rig.gcks.groups[0]?.mkis).toEqual(mkis);
    expect([state(speaker), state(listener)]).toEqual(["in-step", "in-step"]);
    expect(listener.carrier.sent.iMessages).toHaveLength(1);
    // A restart knows how old memberships are by the clock of now.
    await rig.gcks.rekey("blue");
    await rig.restart({ clock, steady });
    await rig.settle(60_000);
    expect(identities()).toHaveLength(2);
  });

  it("back prolongs no membership, and puts off no keys", async () => {
    const { set } = await createJumpingRig({ period: 3000 });
    await rig.join("speaker1");
    const silent = await rig.join("listener1");
    await rig.settle(60_000);
    const { mkis } = rig.gcks.groups[0] ?? expect.unreachable();
    silent.carrier.send = () => new Promise(() => undefined);
    silent.carrier.register = () => new Promise(() => undefined);
    set(-24 * HOUR);
    await rig.settle(3_100_000);
    expect(rig.gcks.groups[0]?.mkis).not.toEqual(mkis);
    await rig.settle(600_000);
    expect(identities()).toEqual(["sip:speaker1@example.org"]);
  });

  it("back while the key server is down prolongs nothing either", async () => {
    const { set, clock, steady } = await createJumpingRig();
    const silent = await rig.join("listener1");
    await rig.settle(60_000);
    silent.carrier.send = () => new Promise(() => undefined);
    silent.carrier.register = () => new Promise(() => undefined);
    // A machine without a battery begins in 1970.
    set(-50 * 365 * 24 * HOUR);
    await rig.restart({ clock, steady });
    await rig.settle(HOUR + 60_000);
    expect(identities()).toEqual([]);
  });
});
