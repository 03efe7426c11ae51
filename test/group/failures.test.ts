import { afterEach, describe, expect, it } from "vitest";
import { utf8, WatchwordError } from "../../src/bytes/index.js";
import { defaultCrypto } from "../../src/crypto/index.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import { IdType } from "../../src/mikey/index.js";
import { createMemoryStore, type Store } from "../../src/store/index.js";
import { createRig, definition, listen, type Rig } from "./rig.js";

let rig: Rig;
afterEach(() => rig.close());

const group = () => rig.gcks.groups[0] ?? expect.unreachable();

/** A store that fails where it is told to. */
function failingStore(fails: (log: string, text: string) => string | undefined): Store {
  const { clock, timers } = createSimulatedNetwork();
  const store = createMemoryStore({ clock, timers });
  const append = store.append.bind(store);
  store.append = async (log, expected, record) => {
    const code = fails(log, new TextDecoder("latin1").decode(record.data));
    // What is ambiguous happened all the same.
    if (code === "store.ambiguous") await append(log, expected, record);
    if (code !== undefined) throw new WatchwordError(code, "the disk is full");
    return append(log, expected, record);
  };
  return store;
}

describe("whoever has left is locked out", () => {
  it("by the message of a join, where that comes before the batch and joins bring no new keys", async () => {
    rig = await createRig({
      definitions: [definition({ rekeyOnJoin: "none", rekeyOnLeave: "batched", batchInterval: 5 })],
    });
    await rig.join("speaker1");
    const leaver = await rig.join("listener1");
    await rig.settle(5000);
    const { mkis } = group();
    await leaver.member.leave();
    await rig.join("listener2");
    expect(group().mkis).not.toEqual(mkis);
    await rig.join("listener3");
    const after = group().mkis;
    await rig.join("listener4");
    // Nobody left in between.
    expect(group().mkis).toEqual(after);
  });

  it("although the store failed when the batch was due", async () => {
    let failing = false;
    const store = failingStore((_log, text) => (failing && text.includes('"sequence":') ? "store.unavailable" : undefined));
    rig = await createRig({ definitions: [definition({ rekeyOnLeave: "batched", batchInterval: 2 })], gcks: { store } });
    await rig.join("speaker1");
    const leaver = await rig.join("listener1");
    await rig.settle(5000);
    const { mkis } = group();
    await leaver.member.leave();
    failing = true;
    await rig.settle(10_000);
    expect(group().mkis).toEqual(mkis);
    failing = false;
    await rig.settle(10_000);
    expect(group().mkis).not.toEqual(mkis);
  });

  it("although its registration was under way when it was expelled", async () => {
    let answer: (allowed: boolean) => void = () => undefined;
    const asked = new Promise<boolean>((resolve) => {
      answer = resolve;
    });
    rig = await createRig({
      gcks: { authorise: ({ identity }) => (identity.includes("listener") ? asked : Promise.resolve(true)) },
    });
    await rig.join("speaker1");
    const joining = await rig.join("listener1", { idle: true });
    const outcome = joining.member.join();
    outcome.catch(() => undefined);
    await rig.settle(1000);
    expect(await rig.gcks.expel("blue", "sip:listener1@example.org")).toBe(0);
    answer(true);
    await rig.settle(1000);
    await expect(outcome).rejects.toMatchObject({ code: "member.refused", cause: { report: { errorNos: [242] } } });
    expect(rig.gcks.members("blue").map(({ identity }) => identity)).toEqual(["sip:speaker1@example.org"]);
  });
});

describe("many who go at a time", () => {
  const MANY = 250;

  async function crowd() {
    const changes = { rekeyOnJoin: "batched", confirmation: false, membershipLifetime: 600 };
    rig = await createRig({ definitions: [definition(changes, { heartbeat: 0 })] });
    const members = await Promise.all(Array.from({ length: MANY }, (_, index) => rig.join(`listener${index}`, { idle: true })));
    const joining = members.map(({ member }) => member.join());
    await rig.settle(3000);
    await Promise.all(joining);
    const speaker = await rig.join("speaker1");
    await rig.settle(3000);
    return { members, speaker };
  }

  it("go all, with a proof each, and those who stay have the new keys", async () => {
    const { members, speaker } = await crowd();
    expect(members.map(({ carrier }) => carrier.sent.iMessages.length)).toEqual(members.map(() => 1));
    const leaving = members.slice(1).map(({ member }) => member.leave());
    await rig.settle(5000);
    expect(new Set(await Promise.all(leaving))).toEqual(new Set(["verified"]));
    expect(rig.gcks.metrics.members).toBe(2);
    const [stays] = members;
    if (stays === undefined) return expect.unreachable();
    listen(stays);
    speaker.speak(1);
    await rig.settle(100);
    expect(stays.heard).toEqual([1]);
  }, 30_000);

  it("go all where their lifetimes end together", async () => {
    const { members } = await crowd();
    for (const { member } of members) member.close();
    await rig.settle(700_000);
    expect(rig.gcks.metrics.members).toBe(1);
  }, 30_000);
});

describe("one identity has one membership", () => {
  const identities = () => rig.gcks.members("blue").map(({ identity }) => identity);

  it("although the store failed when the older one was to end", async () => {
    let failing = false;
    const store = failingStore((_log, text) => (failing && text.includes('"leave":') ? "store.unavailable" : undefined));
    rig = await createRig({ gcks: { store } });
    const listener = await rig.join("listener1");
    await rig.settle(5000);
    failing = true;
    listener.carrier.onLost?.();
    listener.member.receiveControl = () => undefined;
    await rig.settle(10_000);
    expect(listener.carrier.sent.iMessages.length).toBeGreaterThan(1);
    expect(identities().length).toBeGreaterThan(1);
    failing = false;
    await rig.settle(20_000);
    expect(identities()).toEqual(["sip:listener1@example.org"]);
    // By its only membership it leaves.
    expect(await listener.member.leave()).toBe("verified");
    expect(identities()).toEqual([]);
  });

  it("also where it comes from a file, and nobody has two by one file", async () => {
    rig = await createRig();
    const channel = { deliver: async () => undefined, close: () => undefined };
    const file = (id: number) =>
      ({
        id: new Uint8Array(16).fill(id),
        secret: Uint8Array.from({ length: 32 }, (_, i) => id * i),
        gcks: "sip:gcks@example.org",
        member: "sip:listener1@example.org",
        groups: [utf8("blue")],
      }) as const;
    const role = { send: false, receive: true };
    const both = await Promise.allSettled([1, 2].map(() => rig.gcks.provision(file(1), role, channel, 1)));
    expect(both.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
    expect(identities()).toHaveLength(1);
    await rig.gcks.provision(file(3), role, channel, 1);
    await rig.settle(100);
    expect(identities()).toHaveLength(1);
  });

  it("and has none for long that it did not confirm, whatever became of its dialog", async () => {
    rig = await createRig();
    const listener = await rig.join("listener1", { idle: true });
    listener.carrier.send = async () => undefined;
    const joining = listener.member.join();
    await rig.settle(100);
    await joining;
    listener.carrier.session?.lost();
    listener.member.close();
    await rig.settle(20_000);
    expect(identities()).toHaveLength(1);
    await rig.settle(20_000);
    expect(identities()).toEqual([]);
  });

  it("and whoever has no name is nobody, not one with all others without", async () => {
    rig = await createRig({ definitions: [definition({ members: [{ identity: "*", role: "receiver" }] })] });
    const nameless = { idType: IdType.URI, data: Uint8Array.of(0xff, 1) };
    await expect(rig.join("listener1", { member: { identity: nameless } })).rejects.toMatchObject({ code: "member.refused" });
  });
});

describe("keys are renewed in time", () => {
  const HOUR = 3_600_000;
  const definitions = [definition({ rekeyOnJoin: "none", membershipLifetime: 86_400 }, { period: 3600, heartbeat: 0 })];

  it("however often others join without new keys", async () => {
    rig = await createRig({ definitions });
    await rig.join("speaker1");
    const { mkis } = group();
    for (let joins = 0; joins < 4; joins++) {
      await rig.settle(0.3 * HOUR);
      await rig.join(`listener${joins}`);
    }
    expect(group().mkis).not.toEqual(mkis);
  });

  it("however often the key server is restarted", async () => {
    rig = await createRig({ definitions });
    await rig.join("speaker1");
    const { mkis } = group();
    for (let restarts = 0; restarts < 4; restarts++) {
      await rig.settle(0.3 * HOUR);
      await rig.restart();
    }
    expect(group().mkis).not.toEqual(mkis);
  });

  it("although the store failed when they were due", async () => {
    let failing = false;
    const store = failingStore((_log, text) => (failing && text.includes('"sequence":') ? "store.unavailable" : undefined));
    rig = await createRig({ definitions, gcks: { store } });
    await rig.join("speaker1");
    const { mkis } = group();
    await rig.settle(0.9 * HOUR);
    failing = true;
    await rig.settle(0.2 * HOUR);
    failing = false;
    await rig.settle(10_000);
    expect(group().mkis).not.toEqual(mkis);
  });

  it("in a group without a rekey SA too, whose members ask for them", async () => {
    const data = [{ number: 1, lifetime: 3600 }];
    rig = await createRig({ definitions: [definition({ rekeyOnJoin: "none", rekeyOnLeave: "none", data }, null)] });
    const speaker = await rig.join("speaker1");
    const listener = await rig.join("listener1");
    const { mkis } = group();
    await rig.settle(2 * HOUR);
    expect(group().mkis).not.toEqual(mkis);
    speaker.speak(1);
    // What it does not have yet it asks for.
    await rig.settle(20_000);
    speaker.speak(2);
    await rig.settle(100);
    expect(listener.heard.at(-1)).toBe(2);
  });
});

describe("a key server that cannot be opened", () => {
  it("says nothing, and leaves nothing behind", async () => {
    rig = await createRig({ definitions: [definition(), definition({ name: "red" })] });
    await rig.join("listener1");
    await rig.settle(5000);
    const said = rig.control.length;
    const store = createMemoryStore({ clock: rig.network.clock, timers: rig.network.timers, disk: rig.disk });
    store.getSnapshot = async (log) => {
      if (log === "group/red") throw new WatchwordError("store.corrupt", "a page is damaged");
      return null;
    };
    await expect(rig.restart({ store })).rejects.toMatchObject({ code: "store.corrupt" });
    const { length } = rig.control;
    await rig.settle(60_000);
    // But for what was to be sent again at once.
    expect(rig.control.length).toBe(length);
    expect(length - said).toBeLessThan(3);
  });
});

describe("a key server goes on", () => {
  it("where a signing key is out of reach for a heartbeat", async () => {
    const signer = defaultCrypto.importPrivateKey((await defaultCrypto.generateKeyPair("ed25519")).pkcs8);
    let reachable = true;
    rig = await createRig({
      gcks: {
        signer: {
          publicKey: signer.publicKey,
          signatureSchemes: signer.signatureSchemes,
          sign: (scheme, message) => (reachable ? signer.sign(scheme, message) : Promise.reject(new Error("no HSM"))),
        },
      },
    });
    const listener = await rig.join("listener1");
    await rig.settle(5000);
    reachable = false;
    await rig.settle(15_000);
    reachable = true;
    const { length } = rig.control;
    await rig.settle(30_000);
    expect(rig.control.length).toBeGreaterThan(length);
    expect(rig.audit.find(({ type }) => type === "delivery-failed")).toMatchObject({ detail: { reason: "no HSM" } });
    expect(listener.member.memberships[0]?.state).toBe("in-step");
  });

  it("from what the store has, where nobody can tell whether a step was written", async () => {
    let failing = false;
    const store = failingStore((log) => (failing && log === "group/blue" ? "store.ambiguous" : undefined));
    rig = await createRig({ gcks: { store } });
    const speaker = await rig.join("speaker1");
    const listener = await rig.join("listener1");
    await rig.settle(5000);
    const { sequence } = group();
    failing = true;
    await expect(rig.gcks.rekey("blue")).rejects.toMatchObject({ code: "gcks.unavailable" });
    expect(group().sequence).toBe(sequence);
    failing = false;
    await rig.gcks.rekey("blue");
    expect(group().sequence).toBeGreaterThan(sequence + 1);
    await rig.settle(5000);
    speaker.speak(7);
    await rig.settle(100);
    expect(listener.heard).toEqual([7]);
    expect(speaker.member.memberships[0]?.sequence).toBe(group().sequence);
  });

  it("with a group whose farewell was written although nobody could tell: it has ended", async () => {
    let failing = false;
    const store = failingStore((log) => (failing && log === "group/blue" ? "store.ambiguous" : undefined));
    rig = await createRig({ gcks: { store } });
    const listener = await rig.join("listener1");
    await rig.settle(5000);
    failing = true;
    await expect(rig.gcks.end("blue")).rejects.toMatchObject({ code: "gcks.unavailable" });
    failing = false;
    await expect(rig.gcks.rekey("blue")).rejects.toMatchObject({ code: "gcks.group-ended" });
    expect(group().state).toBe("ended");
    await rig.settle(1000);
    expect(listener.member.memberships[0]?.state).toBe("ended");
  });

  it("with a group that was to begin again, whatever happens after its farewell was written", async () => {
    let [restarting, failing] = [false, false];
    const store = failingStore((log) => {
      if (log !== "group/blue") return undefined;
      if (failing) return "store.unavailable";
      failing = restarting;
      return undefined;
    });
    rig = await createRig({ gcks: { store } });
    const listener = await rig.join("listener1");
    await rig.settle(5000);
    const before = group().sequence;
    restarting = true;
    await rig.gcks.restart("blue");
    [restarting, failing] = [false, false];
    const said = rig.control.length;
    await rig.restart();
    expect(group().state).toBe("active");
    // Who did not hear the farewell hears it now.
    expect(rig.control.length).toBeGreaterThan(said);
    await rig.settle(20_000);
    expect(listener.member.memberships[0]?.state).toBe("in-step");
    expect(group().sequence).toBeGreaterThan(before);
  });

  it("without keeping what members of long ago said", async () => {
    rig = await createRig({ definitions: [definition({}, { heartbeat: 0, resynchronisationDelay: 0.01 })] });
    const member = await rig.join("listener1");
    for (let registrations = 0; registrations < 80; registrations++) {
      member.carrier.onLost?.();
      await rig.settle(20);
    }
    expect(member.carrier.sent.iMessages.length).toBeGreaterThan(70);
    expect(rig.gcks.metrics).toMatchObject({ members: 1 });
    expect(rig.gcks.metrics.sessions).toBeLessThan(40);
  });
});
