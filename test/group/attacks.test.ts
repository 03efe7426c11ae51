import { afterEach, describe, expect, it } from "vitest";
import { defaultCrypto } from "../../src/crypto/index.js";
import { decodeRekey, heldGroupKey, sealEnd, sealLeave, sealRekey, sealReport, signingKeyId } from "../../src/gsa/index.js";
import type { Membership } from "../../src/member/membership.js";
import { CsMapType, createInitiator, encodeNtp, PrfFunc } from "../../src/mikey/index.js";
import { createRig, definition, GCKS, PSK, type Rig, type RigMember, uri } from "./rig.js";

let rig: Rig;
afterEach(() => rig.close());

async function trio(): Promise<{ speaker: RigMember; good: RigMember; bad: RigMember }> {
  rig = await createRig();
  const speaker = await rig.join("speaker1");
  const good = await rig.join("listener1");
  const bad = await rig.join("listener2");
  await rig.settle(5000);
  return { speaker, good, bad };
}

const membership = ({ member }: RigMember) => {
  const [first] = member.memberships;
  if (first === undefined) throw new Error("no membership");
  return first;
};

describe("rekey messages that are not the key server's", () => {
  it("change nothing: forged, truncated, flipped, replayed, of another kind", async () => {
    const { good } = await trio();
    await rig.gcks.rekey("blue");
    await rig.settle(3000);
    const { sequence, state } = membership(good);
    const newest = [...rig.control].reverse().find((octets) => decodeRekey(octets).kind === "rekey") as Uint8Array;
    const hostile: Uint8Array[] = [...rig.control];
    for (let at = 0; at < newest.length; at += 7) {
      const flipped = newest.slice();
      flipped[at] = (flipped[at] as number) ^ 0x40;
      // A later sequence as well: what is old is dropped before anything is judged.
      flipped[17] = (flipped[17] as number) ^ 0x10;
      hostile.push(flipped, newest.subarray(0, at));
    }
    const future = newest.slice();
    future[14] = 0x7f;
    hostile.push(future);
    for (const octets of hostile) good.member.receiveControl(octets);
    await rig.settle(200);
    expect(membership(good)).toMatchObject({ sequence, state });
    await rig.gcks.rekey("blue");
    await rig.settle(3000);
    expect(membership(good).sequence).toBeGreaterThan(sequence ?? 0);
  });

  it("are not believed from a member, which has the KEK but not the signing key", async () => {
    const { good, bad } = await trio();
    const { constants, kek } = internals(bad);
    const rekey = bad.carrier.policies?.rekey;
    if (constants === undefined || kek === undefined || rekey === undefined) throw new Error("not a member");
    const thief = defaultCrypto.importPrivateKey((await defaultCrypto.generateKeyPair("ed25519")).pkcs8);
    const sealing = { constants, rekey, kek, signer: thief, sequence: (membership(good).sequence ?? 0) + 1 };
    const end = await sealEnd(defaultCrypto, sealing, encodeNtp(rig.network.clock.now()), false);
    const rekeyed = (await sealRekey(defaultCrypto, { ...sealing, dataKeys: [] }))[0] as Uint8Array;
    for (const forged of [end, rekeyed]) {
      good.member.receiveControl(forged);
      // The same under the name of the real key.
      const named = forged.slice();
      named.set(signingKeyId(defaultCrypto, rekey.verificationKey as Uint8Array), forged.length - 74);
      good.member.receiveControl(named);
    }
    await rig.settle(100);
    expect(membership(good)).toMatchObject({ state: "in-step", sequence: sealing.sequence - 1 });
  });

  it("do not keep an expelled member in: old messages again bring nothing back", async () => {
    const { speaker, good, bad } = await trio();
    const before = rig.control.slice();
    await rig.gcks.expel("blue", "sip:listener2@example.org");
    await rig.settle(3000);
    for (const octets of before) for (const { member } of [speaker, good, bad]) member.receiveControl(octets);
    await rig.settle(100);
    speaker.speak(1);
    await rig.settle(100);
    expect(good.heard).toEqual([1]);
    expect(bad.heard).toEqual([]);
  });
});

describe("leaving and reporting for somebody else", () => {
  it("is not believed: a member's group key proves its own membership alone", async () => {
    const { good, bad } = await trio();
    const constants = internals(bad).constants;
    const registration = internals(bad).registration;
    const proof = internals(bad).proof();
    if (constants === undefined || registration === undefined || proof === undefined) throw new Error("not a member");
    // The thief's own proof in the victim's dialog: another registration.
    const { octets } = sealLeave(defaultCrypto, registration, [proof], encodeNtp(rig.network.clock.now()), true);
    expect(await good.carrier.session?.receive(octets)).toBeUndefined();
    expect(await good.carrier.session?.end(octets)).toEqual({ verdict: "rejected" });
    expect(rig.gcks.members("blue").map(({ identity }) => identity)).toContain("sip:listener1@example.org");
    // A report that names the victim, under the thief's key.
    const victim = rig.gcks.members("blue").find(({ identity }) => identity === "sip:listener1@example.org");
    const report = sealReport(defaultCrypto, registration.upKey, constants, {
      counter: 99,
      member: victim?.number ?? 0,
      kekSpi: undefined,
      streams: [{ ssrc: victim?.ssrcs[0] ?? 0, gone: true }],
    });
    const refused = rig.gcks.metrics.reportsRefused;
    rig.gcks.receiveDatagram(report, { host: "thief", port: 1 });
    await bad.carrier.session?.receive(report);
    await rig.settle(100);
    expect(rig.gcks.metrics.reportsRefused).toBe(refused + 2);
  });

  it("needs a key of the group that the member was given, and a greater T each time", async () => {
    const { good } = await trio();
    const { constants, registration } = internals(good);
    if (constants === undefined || registration === undefined) throw new Error("not a member");
    const invented = heldGroupKey(defaultCrypto, constants, { kek: { spi: 1, key: new Uint8Array(16).fill(9) } });
    const { octets } = sealLeave(defaultCrypto, registration, [invented], encodeNtp(rig.network.clock.now()), true);
    expect((await good.carrier.session?.end(octets))?.verdict).toBe("rejected");
    expect(rig.gcks.members("blue")).toHaveLength(3);
  });

  it("is not believed in a dialog whose membership has ended: nobody gets the number that it had", async () => {
    rig = await createRig();
    const before = await rig.join("listener1");
    const { session } = before.carrier;
    const { registration } = internals(before);
    if (session === undefined || registration === undefined) throw new Error("not a member");
    const { downKey, upKey, proofKey } = registration;
    const kept = { ...registration, downKey: downKey.slice(), upKey: upKey.slice(), proofKey: proofKey.slice() };
    before.member.close();
    // The same member in another dialog, and then somebody who gets the leaf that has become free.
    const again = await rig.join("listener1");
    await rig.settle(3000);
    const victim = await rig.join("listener2");
    await rig.settle(3000);
    const proof = internals(again).proof();
    if (proof === undefined) throw new Error("not a member");
    const now = encodeNtp(rig.network.clock.now());
    for (const key of [kept.proofKey, new Uint8Array(32)]) {
      const { octets } = sealLeave(defaultCrypto, { ...kept, proofKey: key }, [proof], now, true);
      expect(await session.receive(octets)).toBeUndefined();
      expect(await session.end(octets)).toEqual({ verdict: "rejected" });
    }
    await rig.settle(5000);
    expect(rig.gcks.members("blue").map(({ identity }) => identity)).toEqual([
      "sip:listener1@example.org",
      "sip:listener2@example.org",
    ]);
    expect(membership(victim).state).toBe("in-step");
    const numbers = rig.audit.flatMap(({ type, detail }) => (type === "admitted" ? [detail?.["number"]] : []));
    expect(new Set(numbers).size).toBe(numbers.length);
  });

  it("takes nothing from the other groups of the registration: its keys stay what they are", async () => {
    rig = await createRig({ definitions: [definition(), definition({ name: "red" })] });
    const member = await rig.join("listener1", { groups: ["blue", "red"] });
    await rig.settle(3000);
    const [blue, red] = member.member.memberships as unknown as Membership[];
    const proof = red?.proof();
    if (blue?.registration === undefined || blue.constants === undefined || proof === undefined) throw new Error("not a member");
    const { octets } = sealLeave(defaultCrypto, blue.registration, [proof], encodeNtp(rig.network.clock.now()), false);
    await member.carrier.session?.receive(octets);
    expect(rig.gcks.members("red")).toEqual([]);
    const { reports, reportsRefused } = rig.gcks.metrics;
    const [number = 0] = rig.gcks.members("blue").map((view) => view.number);
    // Whoever wipes the keys of one membership must not make those of the other known to everybody.
    const forged = sealReport(defaultCrypto, new Uint8Array(32), blue.constants, {
      counter: 1000,
      member: number,
      kekSpi: undefined,
      streams: [],
    });
    expect(await member.carrier.session?.receive(forged)).toBeUndefined();
    expect(rig.gcks.metrics.reportsRefused).toBe(reportsRefused + 1);
    blue.report();
    await rig.settle(100);
    expect(rig.gcks.metrics.reports).toBe(reports + 1);
  });

  it("by datagrams that are no reports does nothing", async () => {
    const { good } = await trio();
    const [report] = good.carrier.sent.reports;
    if (report === undefined) throw new Error("no report");
    const { reportsRefused } = rig.gcks.metrics;
    for (let at = 0; at < report.length; at++) rig.gcks.receiveDatagram(report.subarray(0, at), { host: `host ${at}`, port: 1 });
    rig.gcks.receiveDatagram(Uint8Array.of(...report, 0), { host: "more", port: 1 });
    await rig.settle(100);
    // Two octets say what it claims to be; what is shorter is not even that.
    expect(rig.gcks.metrics.reportsRefused).toBe(reportsRefused + report.length - 1);
  });

  it("an end without a proof ends no membership, unless the policy says so", async () => {
    const { good } = await trio();
    expect(await good.carrier.session?.end(undefined)).toEqual({ verdict: "absent" });
    await rig.settle(100);
    expect(rig.gcks.members("blue").find(({ identity }) => identity === "sip:listener1@example.org")?.state).toBe("lapsing");
  });
});

describe("registrations", () => {
  it("are answered again to the same party in the same dialog alone, and for a while", async () => {
    const { good } = await trio();
    const [iMessage] = good.carrier.sent.iMessages;
    const own = `${good.carrier.host} 0`;
    const again = (scope: string, host: string) =>
      rig.gcks.register({
        iMessage: iMessage as Uint8Array,
        peer: { remote: { host, port: 1 } },
        secure: false,
        scope,
        streams: 1,
        channel: { deliver: async () => undefined, close: () => undefined },
      });
    await expect(again("elsewhere 0", "elsewhere")).rejects.toMatchObject({
      code: "gcks.refused",
      cause: { code: "mikey.replay" },
    });
    const members = rig.gcks.members("blue").length;
    expect((await again(own, good.carrier.host)).response).toEqual(good.carrier.sent.responses[0]);
    await rig.settle(33_000);
    await expect(again(own, good.carrier.host)).rejects.toMatchObject({ cause: { code: "mikey.replay" } });
    expect(rig.gcks.members("blue")).toHaveLength(members);
    await good.member.leave();
    await rig.settle(100);
    await expect(again("elsewhere 1", "elsewhere")).rejects.toMatchObject({ cause: { code: "mikey.replay" } });
    await expect(again(own, good.carrier.host)).rejects.toMatchObject({ cause: { code: "mikey.replay" } });
    await rig.restart();
    await expect(again("elsewhere 2", "elsewhere")).rejects.toMatchObject({ cause: { code: "mikey.replay" } });
    expect(rig.gcks.members("blue")).toHaveLength(members - 1);
  });

  it("do not take the answer to another registration, or a GSA of another group", async () => {
    rig = await createRig({ definitions: [definition(), definition({ name: "red" })] });
    const one = await rig.join("listener1");
    const [spliced] = one.carrier.sent.responses;
    const victim = await rig.join("listener2", { idle: true });
    victim.carrier.register = async () => spliced as Uint8Array;
    await expect(victim.member.join()).rejects.toMatchObject({ code: "mikey.response" });
    // The response of the victim's own exchange, but for a group that it did not ask for.
    const other = await rig.join("listener3", { idle: true });
    const { register } = other.carrier;
    other.carrier.register = async () => {
      const initiator = createInitiator({ crypto: defaultCrypto, clock: rig.network.clock });
      const pending = await initiator.begin({
        credential: { psk: PSK },
        initiatorId: uri("sip:listener3@example.org"),
        responderId: GCKS,
        mapType: CsMapType.EMPTY,
        cryptoSessions: [],
        policies: new Map(),
        keys: [{ kind: "TGK", length: 32 }],
        prf: PrfFunc.HMAC_SHA_256,
      });
      return register(pending.octets);
    };
    await expect(other.member.join()).rejects.toMatchObject({ code: "gcks.no-group" });
  });

  it("are not taken in the key server's own name, though the key is right", async () => {
    rig = await createRig();
    const initiator = createInitiator({ crypto: defaultCrypto, clock: rig.network.clock });
    const { octets } = await initiator.begin({
      credential: { psk: PSK },
      initiatorId: GCKS,
      mapType: CsMapType.EMPTY,
      cryptoSessions: [],
      policies: new Map(),
      keys: [{ kind: "TGK", length: 32 }],
      prf: PrfFunc.HMAC_SHA_256,
    });
    const registering = rig.gcks.register({
      iMessage: octets,
      peer: { remote: { host: "mallory", port: 1 } },
      secure: false,
      scope: "mallory 0",
      streams: 1,
      channel: { deliver: async () => undefined, close: () => undefined },
    });
    await expect(registering).rejects.toMatchObject({ cause: { code: "mikey.authentication" } });
  });

  it("tell strangers and the unauthorised the same, and grant no more than the policy lets them", async () => {
    rig = await createRig({
      definitions: [definition(), definition({ name: "red", members: [{ identity: "sip:vip@example.org" }] })],
    });
    const refused = { code: "member.refused", cause: { report: { errorNos: [242] } } };
    await expect(rig.join("stranger")).rejects.toMatchObject(refused);
    await expect(rig.join("stranger", { groups: ["no such group"] })).rejects.toMatchObject(refused);
    await expect(rig.join("listener1", { groups: ["red"] })).rejects.toMatchObject(refused);
    await expect(rig.join("listener1", { groups: ["no such group"] })).rejects.toMatchObject({
      cause: { report: { errorNos: [241] } },
    });
    await expect(rig.join("listener1", { psk: PSK.map((octet) => octet ^ 1) })).rejects.toMatchObject({
      report: { errorNos: [0], authenticated: false },
    });
    await expect(rig.join("listener1", { role: { send: true, receive: false } })).rejects.toMatchObject(refused);
    const both = await rig.join("listener1", { role: { send: true, receive: true } });
    expect(membership(both).role).toEqual({ send: false, receive: true });
    expect(both.speak(1)).toBe(false);
  });
});

/** What a member knows: a thief has read its memory. */
function internals(member: RigMember): Membership {
  return membership(member) as unknown as Membership;
}
