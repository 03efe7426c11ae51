import { afterEach, describe, expect, it } from "vitest";
import { utf8 } from "../../src/bytes/index.js";
import { defaultCrypto } from "../../src/crypto/index.js";
import { issueCredential } from "../../src/gsa/index.js";
import { createMemoryStore, MemoryDisk, openWitnessedStore, type Store } from "../../src/store/index.js";
import { createRig, definition, GCKS, listen, type Rig } from "./rig.js";

let rig: Rig;
afterEach(() => rig.close());

describe("what a group is made of", () => {
  it("one TEK per SSRC: two senders, everybody hears both", async () => {
    rig = await createRig({ definitions: [definition({ data: [{ number: 1, arrangement: "per-ssrc" }] })] });
    const one = await rig.join("speaker1");
    const two = await rig.join("speaker2");
    const listener = await rig.join("listener1");
    await rig.settle(5000);
    one.speak(1);
    two.speak(2);
    await rig.gcks.rekey("blue");
    await rig.settle(5000);
    one.speak(3);
    two.speak(4);
    await rig.settle(100);
    expect(listener.heard).toEqual([1, 2, 3, 4]);
    expect(two.heard).toEqual([1, 3]);
  });

  it("several groups in one registration, left one and all", async () => {
    rig = await createRig({
      definitions: [definition(), definition({ name: "red" }), definition({ name: "vip", members: [{ identity: "sip:vip@x" }] })],
    });
    const member = await rig.join("listener1", { groups: ["blue", "red", "vip"] });
    await rig.settle(3000);
    expect(member.member.memberships.map(({ state }) => state)).toEqual(["in-step", "in-step", "idle"]);
    expect(rig.gcks.groups.map(({ members }) => members)).toEqual([1, 1, 0]);
    expect(await member.member.leave()).toBe("verified");
    await rig.settle(100);
    expect(rig.gcks.groups.map(({ members }) => members)).toEqual([0, 0, 0]);
  });

  it("the owner says who its key server is; members that insist take no other", async () => {
    const owner = defaultCrypto.importPrivateKey((await defaultCrypto.generateKeyPair("ed25519")).pkcs8);
    const signer = defaultCrypto.importPrivateKey((await defaultCrypto.generateKeyPair("ed25519")).pkcs8);
    const now = 1_767_225_600_000;
    const credential = await issueCredential(defaultCrypto, owner, {
      group: utf8("blue"),
      identity: GCKS.data,
      key: signer.publicKey.spki,
      notBefore: now - 1000,
      notAfter: now + 86_400_000,
    });
    rig = await createRig({ gcks: { signer, credentials: new Map([["blue", credential]]) } });
    const insisting = (ownerKey: typeof owner.publicKey) => ({
      minimum: { credential: true },
      groups: [{ group: utf8("blue"), role: { send: false, receive: true }, ownerKey }],
    });
    const good = await rig.join("listener1", { member: insisting(owner.publicKey) });
    expect(good.member.memberships[0]?.state).toBe("in-step");
    await expect(rig.join("listener2", { member: insisting(signer.publicKey) })).rejects.toMatchObject({ code: "gsa.credential" });
  });

  it("a late joiner knows how often sequence numbers have wrapped", async () => {
    rig = await createRig();
    const speaker = await rig.join("speaker1");
    const early = await rig.join("listener1");
    await rig.settle(3000);
    for (let i = 65_530; i < 65_545; i++) speaker.speak(i);
    await rig.settle(200);
    expect(early.heard).toHaveLength(15);
    const late = await rig.join("listener2");
    await rig.settle(5000);
    speaker.speak(65_545);
    await rig.settle(100);
    expect(late.heard).toEqual([65_545]);
  });

  it("an application that begins anew goes on under the same SSRC without using an index twice", async () => {
    rig = await createRig();
    const speaker = await rig.join("speaker1");
    const listener = await rig.join("listener1");
    await rig.settle(3000);
    for (let i = 0; i < 5; i++) speaker.speak(i);
    await rig.settle(100);
    const stream = speaker.member.memberships[0]?.streams[0];
    const sent: Uint8Array[] = [];
    for (let i = 0; i < 3; i++) {
      const packet = new Uint8Array(32);
      packet[0] = 0x80;
      packet[11] = 9;
      packet[3] = i;
      const out = stream?.protect(packet);
      if (out !== undefined) sent.push(out);
    }
    const sequences: number[] = [];
    const receiving = listener.member.memberships[0]?.streams[0];
    if (receiving !== undefined)
      receiving.onRtp = (packet) => sequences.push(new DataView(packet.buffer, packet.byteOffset).getUint16(2));
    for (const packet of sent) receiving?.receive(packet);
    expect(sequences).toEqual([5, 6, 7]);
  });

  it("periodic rekeying, and the KEK replaced before its lifetime ends", async () => {
    rig = await createRig({ definitions: [definition({}, { period: 30, lifetime: 120 })] });
    const speaker = await rig.join("speaker1");
    const listener = await rig.join("listener1");
    await rig.settle(5000);
    const before = rig.gcks.groups[0];
    await rig.settle(70_000);
    const middle = rig.gcks.groups[0];
    expect(middle?.mkis[0]).toBeGreaterThan((before?.mkis[0] ?? 0) + 1);
    await rig.settle(60_000);
    expect(rig.gcks.groups[0]?.kekSpi).toBeGreaterThan(before?.kekSpi ?? 0);
    speaker.speak(1);
    await rig.settle(100);
    expect(listener.heard).toEqual([1]);
    expect(listener.states.map(({ state }) => state)).not.toContain("missing");
  });
});

describe("a store that lost what was acknowledged", () => {
  it("skips far ahead, replaces every key, has everybody register anew, and lets nobody in who was expelled", async () => {
    let disk = new MemoryDisk();
    const outsideDisk = new MemoryDisk();
    const stores: Store[] = [];
    rig = await createRig();
    const { clock, timers } = rig.network;
    const open = async () => {
      const outside = createMemoryStore({ clock, timers, disk: outsideDisk });
      const store = await openWitnessedStore(createMemoryStore({ clock, timers, disk }), outside, { random: rig.network.random });
      stores.push(store);
      return { store, outside };
    };
    await rig.close();
    rig = await createRig({ gcks: await open() });
    const speaker = await rig.join("speaker1");
    const listener = await rig.join("listener1");
    await rig.join("listener2");
    await rig.settle(3000);
    const backup = disk.copy();
    await rig.gcks.rekey("blue");
    await rig.gcks.expel("blue", "sip:listener2@example.org");
    await rig.settle(5000);
    const before = rig.gcks.groups[0];
    disk = backup;
    await rig.restart(await open());
    await rig.settle(60_000);
    const after = rig.gcks.groups[0];
    expect(after?.sequence).toBeGreaterThanOrEqual((before?.sequence ?? 0) + 2 ** 16 - 64);
    expect(after?.mkis[0]).toBeGreaterThan(before?.mkis[0] ?? 0);
    listen(listener);
    speaker.speak(1);
    await rig.settle(100);
    expect(listener.heard).toContain(1);
    await expect(rig.join("listener2")).rejects.toMatchObject({ cause: { report: { errorNos: [242] } } });
  });
});
