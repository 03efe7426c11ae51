import { afterEach, describe, expect, it } from "vitest";
import { utf8, WatchwordError } from "../../src/bytes/index.js";
import { decodeRekey } from "../../src/gsa/index.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import type { GroupMembership } from "../../src/member/index.js";
import { createMemoryStore } from "../../src/store/index.js";
import { createRig, definition, listen, type Rig } from "./rig.js";

let rig: Rig;
afterEach(() => rig.close());

describe("a group from its first member to its end", () => {
  it("admits, carries media, follows a rekey without a lost packet, and lets members leave with a proof", async () => {
    rig = await createRig();
    const speaker = await rig.join("speaker1");
    const one = await rig.join("listener1");
    const two = await rig.join("listener2");
    await rig.settle(5000);
    for (let i = 0; i < 20; i++) speaker.speak(i);
    await rig.settle(100);
    expect(one.heard).toEqual([...Array(20).keys()]);
    expect(two.heard).toEqual([...Array(20).keys()]);
    const before = rig.gcks.groups[0]?.sequence ?? 0;
    await rig.gcks.rekey("blue");
    for (let i = 20; i < 60; i++) {
      speaker.speak(i);
      await rig.settle(200);
    }
    expect(rig.gcks.groups[0]?.sequence).toBeGreaterThan(before);
    expect(one.heard).toEqual([...Array(60).keys()]);
    expect(speaker.member.memberships[0]?.streams[0]?.mki).toBe(rig.gcks.groups[0]?.mkis[0]);
    expect(await two.member.leave()).toBe("verified");
    await rig.settle(5000);
    for (let i = 60; i < 80; i++) speaker.speak(i);
    await rig.settle(100);
    expect(one.heard).toEqual([...Array(80).keys()]);
    expect(two.heard).toHaveLength(60);
    expect(rig.gcks.members("blue").map(({ identity }) => identity)).toEqual([
      "sip:speaker1@example.org",
      "sip:listener1@example.org",
    ]);
    expect(rig.gcks.members("blue").every(({ state }) => state === "confirmed")).toBe(true);
  });

  it("expels: the member opens nothing after the senders have switched, the others hear on", async () => {
    rig = await createRig();
    const speaker = await rig.join("speaker1");
    const good = await rig.join("listener1");
    const bad = await rig.join("listener2");
    await rig.settle(5000);
    speaker.speak(0);
    await rig.settle(100);
    expect(bad.heard).toEqual([0]);
    expect(await rig.gcks.expel("blue", "sip:listener2@example.org")).toBe(1);
    await rig.settle(100);
    for (let i = 1; i < 10; i++) speaker.speak(i);
    await rig.settle(30_000);
    expect(good.heard).toEqual([...Array(10).keys()]);
    expect(bad.heard).toEqual([0]);
    await expect(rig.join("listener2")).rejects.toMatchObject({
      code: "member.refused",
      cause: { code: "mikey.peer-error", report: { errorNos: [242], authenticated: true } },
    });
  });

  it("expels after the activation delay where nobody else may lose a packet", async () => {
    rig = await createRig({ definitions: [definition({ rekeyOnExpel: "activation-delay" })] });
    const speaker = await rig.join("speaker1");
    const good = await rig.join("listener1");
    const bad = await rig.join("listener2");
    await rig.settle(5000);
    const mki = speaker.member.memberships[0]?.streams[0]?.mki;
    await rig.gcks.expel("blue", "sip:listener2@example.org");
    await rig.settle(100);
    // The sender has the new key, and waits for those who may not have it.
    expect(speaker.member.memberships[0]?.sequence).toBe(rig.gcks.groups[0]?.sequence);
    expect(speaker.member.memberships[0]?.streams[0]?.mki).toBe(mki);
    speaker.speak(0);
    await rig.settle(5000);
    for (let i = 1; i < 10; i++) speaker.speak(i);
    await rig.settle(100);
    expect(good.heard).toEqual([...Array(10).keys()]);
    expect(bad.heard).toEqual([0]);
  });

  it("goes on after kill -9: members follow the next rekey, numbers never go back", async () => {
    rig = await createRig();
    const speaker = await rig.join("speaker1");
    const listener = await rig.join("listener1");
    await rig.settle(5000);
    const before = rig.gcks.groups[0];
    await rig.restart();
    await rig.settle(1000);
    const after = rig.gcks.groups[0];
    expect(after).toMatchObject({ members: 2, kekSpi: before?.kekSpi, mkis: before?.mkis });
    await rig.gcks.rekey("blue");
    await rig.settle(5000);
    for (let i = 0; i < 5; i++) speaker.speak(i);
    await rig.settle(100);
    expect(listener.heard).toEqual([0, 1, 2, 3, 4]);
    expect(rig.gcks.groups[0]?.sequence).toBeGreaterThan(before?.sequence ?? 0);
    expect(rig.gcks.groups[0]?.mkis[0]).toBeGreaterThan(before?.mkis[0] ?? 0);
    const late = await rig.join("listener2");
    await rig.settle(5000);
    speaker.speak(5);
    await rig.settle(100);
    expect(late.heard).toEqual([5]);
    // Its dialog is not known any more: it leaves with a proof all the same.
    expect(await listener.member.leave()).toBe("verified");
    await rig.settle(100);
    expect(rig.gcks.members("blue").map(({ identity }) => identity)).not.toContain("sip:listener1@example.org");
  });

  it("ends after a crash what a newer membership of the same identity has replaced, once the newer one is confirmed", async () => {
    let failing = false;
    const { clock, timers } = createSimulatedNetwork();
    const store = createMemoryStore({ clock, timers });
    const append = store.append.bind(store);
    store.append = (group, expected, record) =>
      failing && new TextDecoder("latin1").decode(record.data).includes('"leave":')
        ? Promise.reject(new WatchwordError("store.unavailable", "the disk is full"))
        : append(group, expected, record);
    rig = await createRig({ gcks: { store } });
    const speaker = await rig.join("speaker1");
    const listener = await rig.join("listener1");
    await rig.settle(3000);
    failing = true;
    // The dialog is gone: the member registers again, and its older membership cannot be ended.
    listener.carrier.onLost?.();
    await rig.settle(6000);
    failing = false;
    const of = () => rig.gcks.members("blue").filter(({ identity }) => identity === "sip:listener1@example.org");
    expect(of()).toHaveLength(2);
    await rig.restart();
    expect(of().map(({ ssrcs }) => ssrcs[0])).toEqual([listener.member.memberships[0]?.streams[0]?.ssrc]);
    await rig.settle(3000);
    speaker.speak(1);
    await rig.settle(100);
    expect(listener.heard).toEqual([1]);
  });

  it("says nothing more under the numbers of a backup, however long other groups take to be opened", async () => {
    const { clock, timers } = createSimulatedNetwork();
    const store = Object.assign(createMemoryStore({ clock, timers }), { acceptRegression: async () => undefined });
    rig = await createRig({ definitions: [definition(), definition({ name: "red" })], gcks: { store } });
    const listener = await rig.join("listener1");
    await rig.settle(5000);
    const [before] = rig.gcks.groups;
    const getSnapshot = store.getSnapshot.bind(store);
    store.getSnapshot = async (group) => {
      if (group === "group/red") await new Promise<void>((resolve) => rig.network.timers.after(25_000, resolve));
      return getSnapshot(group);
    };
    Object.assign(store, { regression: { kind: "older", witnessed: 9n, found: 8n } });
    const said = rig.control.length;
    const restarting = rig.restart();
    await rig.settle(30_000);
    await restarting;
    const messages = rig.control.slice(said).map((octets) => decodeRekey(octets));
    expect(messages.map(({ kind }) => kind)).toContain("end");
    expect(messages.filter(({ kind, sequence }) => kind === "heartbeat" && sequence <= (before?.sequence ?? 0))).toEqual([]);
    await rig.settle(20_000);
    expect(listener.member.memberships[0]).toMatchObject({ state: "in-step" });
    expect(listener.member.memberships[0]?.sequence).toBeGreaterThan(2 ** 16);
  });

  it("tells of keys that came by a later GSA, and not by a rekey message", async () => {
    rig = await createRig({ definitions: [definition({ rekeyOnJoin: "none", rekeyOnLeave: "none", batchInterval: 60 })] });
    const told: (number | undefined)[] = [];
    const onRekey = ({ streams }: GroupMembership) => told.push(streams[0]?.ssrc);
    const { carrier, member } = await rig.join("listener1", { member: { onRekey } });
    expect(told).toEqual([]);
    carrier.onLost?.();
    await rig.settle(6000);
    expect(told).toEqual([member.memberships[0]?.streams[0]?.ssrc]);
  });

  it("ends with a farewell that members believe", async () => {
    rig = await createRig();
    const listener = await rig.join("listener1");
    await rig.settle(3000);
    await rig.gcks.end("blue");
    await rig.settle(3000);
    expect(listener.member.memberships[0]?.state).toBe("ended");
    expect(rig.gcks.describe("blue")).toBeUndefined();
  });

  it("begins again after a restart of the group: everybody registers anew", async () => {
    rig = await createRig();
    const speaker = await rig.join("speaker1");
    const listener = await rig.join("listener1");
    await rig.settle(3000);
    await rig.gcks.restart("blue");
    await rig.settle(20_000);
    expect(listener.states.map(({ state }) => state)).toContain("missing");
    expect(listener.member.memberships[0]?.state).toBe("in-step");
    speaker.speak(7);
    await rig.settle(100);
    expect(listener.heard).toEqual([7]);
  });

  it.each([
    ["none", {}],
    ["lkh", { degree: 4 }],
    ["lkh+", { degree: 3 }],
    ["ofc", { degree: 2, keyBits: 256 }],
  ])("works with %s", async (algorithm, more) => {
    rig = await createRig({ definitions: [definition({}, { algorithm, ...more })] });
    const speaker = await rig.join("speaker1");
    const listeners = [];
    for (let i = 0; i < 9; i++) listeners.push(await rig.join(`listener${i}`));
    await rig.settle(4000);
    expect(await listeners[3]?.member.leave()).toBe("verified");
    await rig.gcks.expel("blue", "sip:listener5@example.org");
    await rig.settle(6000);
    speaker.speak(1);
    await rig.settle(100);
    expect(listeners.map(({ heard }) => heard.length)).toEqual([1, 1, 1, 0, 1, 0, 1, 1, 1]);
  });

  it("batches joins and leaves", async () => {
    rig = await createRig({ definitions: [definition({ rekeyOnJoin: "batched", rekeyOnLeave: "batched", batchInterval: 2 })] });
    const speaker = await rig.join("speaker1");
    const waiting = await rig.join("listener1");
    expect(waiting.member.memberships[0]?.state).toBe("waiting");
    const sequence = rig.gcks.groups[0]?.sequence ?? 0;
    await rig.settle(6000);
    expect(waiting.member.memberships[0]?.state).toBe("in-step");
    expect(rig.gcks.groups[0]?.sequence).toBeGreaterThan(sequence);
    speaker.speak(1);
    await rig.settle(100);
    expect(waiting.heard).toEqual([1]);
  });

  it("serves a group of mutual trust without signatures, and one without a rekey SA", async () => {
    rig = await createRig({
      signed: "none",
      definitions: [
        definition({}, { signature: "none" }),
        definition({ name: "plain", rekeyOnJoin: "none", rekeyOnLeave: "none" }, null),
      ],
    });
    const member = { minimum: { signed: false } };
    const speaker = await rig.join("speaker1", { member });
    const listener = await rig.join("listener1", { member });
    await rig.gcks.rekey("blue");
    await rig.settle(5000);
    speaker.speak(1);
    await rig.settle(100);
    expect(listener.heard).toEqual([1]);
    await expect(rig.join("listener2")).rejects.toMatchObject({ code: "gsa.minimum" });
    const plain = await rig.join("speaker2", { groups: ["plain"], member });
    const other = await rig.join("listener3", { groups: ["plain"], member });
    await rig.settle(1000);
    plain.speak(9);
    await rig.settle(100);
    expect(other.heard).toEqual([9]);
    expect(await other.member.leave()).toBe("verified");
  });

  it("admits by a registration SA from a file, without an exchange", async () => {
    rig = await createRig();
    const speaker = await rig.join("speaker1");
    const quiet = await rig.join("listener1", { idle: true });
    const provisioned = {
      id: new Uint8Array(16).fill(7),
      secret: Uint8Array.from({ length: 32 }, (_, i) => 3 * i),
      gcks: "sip:gcks@example.org",
      member: "sip:listener1@example.org",
      groups: [utf8("blue")],
    };
    quiet.member.provision(provisioned);
    const channel = { deliver: async (message: Uint8Array) => quiet.carrier.onMessage?.(message), close: () => undefined };
    quiet.carrier.session = await rig.gcks.provision(provisioned, { send: false, receive: true }, channel, 1);
    await rig.settle(5000);
    listen(quiet);
    speaker.speak(3);
    await rig.settle(100);
    expect(quiet.heard).toEqual([3]);
    expect(rig.gcks.members("blue")[1]).toMatchObject({ identity: "sip:listener1@example.org", state: "confirmed" });
    expect(await quiet.member.leave()).toBe("verified");
    const again = { ...provisioned, groups: [utf8("red")] };
    await expect(rig.gcks.provision(again, { send: false, receive: true }, channel, 1)).rejects.toMatchObject({
      code: "gcks.refused",
    });
  });
});
