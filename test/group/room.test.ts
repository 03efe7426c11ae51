import { afterEach, describe, expect, it } from "vitest";
import { createRig, definition, type Rig, type RigMember } from "./rig.js";

let rig: Rig;
afterEach(() => rig.close());

/** Registrations that are under way at the same time. @returns those that were let in */
async function together(names: readonly string[]): Promise<RigMember[]> {
  const members = await Promise.all(names.map((name) => rig.join(name, { idle: true })));
  const outcomes = members.map(({ member }) => member.join());
  for (const outcome of outcomes) outcome.catch(() => undefined);
  await rig.settle(1000);
  const settled = await Promise.allSettled(outcomes);
  for (const outcome of settled)
    if (outcome.status === "rejected")
      expect(outcome.reason).toMatchObject({ code: "gcks.overload", message: "the group is full", retryAfter: 60 });
  return members.filter((_, index) => settled[index]?.status === "fulfilled");
}

describe("a group has room for so many members", () => {
  it("however many register at a time", async () => {
    rig = await createRig({ definitions: [definition({ mostMembers: 3 })] });
    const names = Array.from({ length: 12 }, (_, index) => `listener${index}`);
    expect(await together(names)).toHaveLength(3);
    expect(rig.gcks.metrics.members).toBe(3);
    const [gone] = rig.gcks.members("blue");
    await rig.gcks.expel("blue", gone?.identity ?? "");
    expect(await together(["listener20", "listener21"])).toHaveLength(1);
    expect(rig.gcks.metrics.members).toBe(3);
  });

  it("and whoever is in it may register again: it takes its own place", async () => {
    rig = await createRig({ definitions: [definition({ mostMembers: 2 }, { heartbeat: 0 })] });
    const members = await together(["listener1", "listener2"]);
    await rig.settle(5000);
    expect(members).toHaveLength(2);
    for (const { carrier } of members) carrier.onLost?.();
    await rig.settle(30_000);
    for (const { member } of members) expect(member.memberships[0]?.state).toBe("in-step");
    // Where one has registered the rekey message of that may have spared the other the same.
    expect(members.flatMap(({ carrier }) => carrier.sent.iMessages).length).toBeGreaterThan(2);
    expect(rig.gcks.metrics.members).toBe(2);
    // One that goes over its own head many times at once does not crowd the group either.
    const again = await together(Array.from({ length: 10 }, () => "listener1"));
    expect(again.length).toBeGreaterThan(0);
    expect(rig.gcks.metrics.members).toBe(2);
  });

  it("and failed registrations take none of it", async () => {
    let allowed = false;
    rig = await createRig({
      definitions: [definition({ mostMembers: 1 })],
      gcks: { authorise: async () => allowed },
    });
    for (let tries = 0; tries < 3; tries++) await expect(rig.join("listener1")).rejects.toMatchObject({ code: "mikey.peer-error" });
    allowed = true;
    expect(await together(["listener1"])).toHaveLength(1);
  });
});
