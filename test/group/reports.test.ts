import { afterEach, describe, expect, it } from "vitest";
import { WatchwordError } from "../../src/bytes/index.js";
import type { Endpoint } from "../../src/io/index.js";
import { createMemoryStore, MemoryDisk, type Store } from "../../src/store/index.js";
import { createRig, definition, type Rig, type RigMember } from "./rig.js";

let rig: Rig;
afterEach(() => rig.close());

const MINUTE = 60_000;
const AT: Endpoint = { host: "198.51.100.7", port: 40_000 };
const ELSEWHERE: Endpoint = { host: "203.0.113.9", port: 4 };

/** The member that unicast reaches. */
let listening: (datagram: Uint8Array) => void;

/** A group whose rekey messages come by unicast, and what its key server writes. */
async function createUnicastRig(changes: Record<string, unknown> = {}) {
  const written: string[] = [];
  const sentTo: Endpoint[] = [];
  const disk = new MemoryDisk();
  let broken = 0;
  const open = (): Store => {
    const store = createMemoryStore({ clock: { now: () => 0 }, timers: rig.network.timers, disk });
    const append = store.append.bind(store);
    store.append = async (log, expected, record) => {
      if (log !== "group/blue") return append(log, expected, record);
      written.push(new TextDecoder("latin1").decode(record.data));
      const version = await append(log, expected, record);
      if (broken-- > 0) throw new WatchwordError("store.ambiguous", "nobody knows");
      return version;
    };
    return store;
  };
  listening = () => undefined;
  const unicast = (datagram: Uint8Array, to: Endpoint): void => {
    sentTo.push(to);
    if (to.host !== ELSEWHERE.host) listening(datagram);
  };
  rig = await createRig({ definitions: [definition(changes, { address: undefined, server: "192.0.2.1:2269" })] });
  await rig.restart({ store: open(), unicast });
  // An append is tried three times.
  const breakOnce = (): void => {
    broken = 3;
  };
  return { written, sentTo, breakOnce, restart: () => rig.restart({ store: open(), unicast }) };
}

/** A member that reports by UDP. @param reports what it sent */
async function join(name: string, reports: Uint8Array[] = [], from = (): Endpoint => AT): Promise<RigMember> {
  const joined = await rig.join(name, {
    member: {
      unicast: {
        send: (_server, datagram) => {
          reports.push(datagram.slice());
          rig.gcks.receiveDatagram(datagram, from());
        },
      },
    },
  });
  listening = (datagram) => joined.member.receiveControl(datagram);
  return joined;
}

const members = () => rig.gcks.members("blue").map(({ identity, state }) => `${identity} ${state}`);

describe("reports by UDP", () => {
  it("are written where a restart needs what they say, and not every quarter of a minute", async () => {
    const { written, restart } = await createUnicastRig();
    const reports: Uint8Array[] = [];
    const listener = await join("listener1", reports);
    await rig.settle(MINUTE);
    written.length = 0;
    const before = reports.length;
    await rig.settle(3 * 60 * MINUTE);
    expect(reports.length - before).toBeGreaterThan(700);
    expect(rig.gcks.metrics.reports).toBe(reports.length);
    expect(written.length).toBeLessThan(50);
    expect(written.length).toBeGreaterThan(3 * 4);
    // They have kept its membership all the same: its lifetime is an hour.
    expect(members()).toEqual(["sip:listener1@example.org confirmed"]);
    expect(listener.carrier.sent.iMessages).toHaveLength(1);
    await restart();
    await rig.settle(3 * 60 * MINUTE);
    expect(rig.gcks.metrics.reportsRefused).toBe(0);
    expect(members()).toEqual(["sip:listener1@example.org confirmed"]);
  });

  it("are written each where the lifetime is short", async () => {
    const { restart } = await createUnicastRig({ membershipLifetime: 60 });
    await join("listener1");
    for (let restarts = 0; restarts < 10; restarts++) {
      await rig.settle(50_000);
      await restart();
    }
    expect(members()).toEqual(["sip:listener1@example.org confirmed"]);
  });

  it("are written where a sender's rollover counter is another", async () => {
    const { written } = await createUnicastRig();
    const speaker = await join("speaker1");
    await rig.settle(MINUTE);
    speaker.speak(1);
    await rig.settle(100);
    written.length = 0;
    for (const number of [30_000, 60_000, 70_000]) speaker.speak(number);
    await rig.settle(100);
    expect(written.join()).toContain('"roc":1');
    expect(written).toHaveLength(1);
  });

  it("turn nobody's messages elsewhere after a restart, if they are of before it", async () => {
    const { sentTo, restart } = await createUnicastRig();
    const reports: Uint8Array[] = [];
    await join("listener1", reports);
    await rig.settle(10 * MINUTE);
    await restart();
    const refused = rig.gcks.metrics.reportsRefused;
    for (const report of reports.slice(-8)) rig.gcks.receiveDatagram(report, ELSEWHERE);
    await rig.settle(100);
    expect(rig.gcks.metrics.reportsRefused).toBe(refused + 8);
    sentTo.length = 0;
    await rig.gcks.rekey("blue");
    await rig.settle(100);
    expect(sentTo.length).toBeGreaterThan(0);
    expect(sentTo.every(({ host }) => host === AT.host)).toBe(true);
  });

  it("are answered to where they came from after what memory had was thrown away for what the store has", async () => {
    const { sentTo, breakOnce } = await createUnicastRig();
    await join("listener1");
    await rig.settle(MINUTE);
    breakOnce();
    await expect(rig.gcks.rekey("blue")).rejects.toMatchObject({ code: "gcks.unavailable" });
    await join("listener2", [], () => ({ host: "203.0.113.77", port: 9 }));
    await rig.settle(MINUTE);
    sentTo.length = 0;
    await rig.gcks.rekey("blue");
    await rig.settle(100);
    expect(new Set(sentTo.map(({ host }) => host))).toEqual(new Set([AT.host, "203.0.113.77"]));
  });

  it("say soon after a restart where a member has moved", async () => {
    const { sentTo, restart } = await createUnicastRig();
    let from = AT;
    const listener = await join("listener1", [], () => from);
    await rig.settle(10 * MINUTE);
    await restart();
    from = { host: "203.0.113.77", port: 9 };
    await rig.settle(6 * MINUTE);
    sentTo.length = 0;
    await rig.gcks.rekey("blue");
    await rig.settle(100);
    expect(sentTo.length).toBeGreaterThan(0);
    expect(sentTo.every(({ host }) => host === from.host)).toBe(true);
    expect(listener.member.memberships[0]?.state).toBe("in-step");
  });
});
