import { describe, expect, it } from "vitest";
import { utf8 } from "../../src/bytes/index.js";
import { createKeyPath, createKeyTree } from "../../src/gkma/index.js";
import {
  createRekeyReceiver,
  createSecurityAssociationDatabase,
  createSecurityPolicyDatabase,
  type DataKey,
  type DataSaPolicy,
  provisionedRegistration,
} from "../../src/gsa/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { constants, dataPolicies, GCKS, groupPolicy, NOW, rekeyPolicy } from "./group-fixture.js";

const [SHARED] = dataPolicies as readonly [DataSaPolicy];
const { group } = constants;
const DELAYS = { activationDelayMs: 2000, deactivationDelayMs: 10_000 };
const key = (mki: number, dataSa = 1): DataKey => ({ dataSa, mki, key: new Uint8Array(16).fill(mki), salt: new Uint8Array(14) });
/** One SA for the presenter, one for everybody else, and one for video. */
const MIXED: readonly DataSaPolicy[] = [
  { ...SHARED, number: 1, streams: [1], sources: [], destinations: ["rtp://239.0.0.2:5004"] },
  { ...SHARED, number: 2, streams: [1], sources: [0xaaaa], destinations: ["rtp://239.0.0.2:5004"] },
  { ...SHARED, number: 3, streams: [2], sources: [], destinations: ["rtp://239.0.0.2:5006"] },
];

const registrationOf = (secret: number) =>
  provisionedRegistration(
    nodeCrypto,
    { id: new Uint8Array(16), secret: new Uint8Array(32).fill(secret), gcks: "sip:gcks@example.org", member: "m", groups: [group] },
    "member",
  );

describe("security association database", () => {
  const filled = (policies: readonly DataSaPolicy[] = [SHARED]) => {
    const sad = createSecurityAssociationDatabase();
    for (const policy of policies) sad.putDataSa(GCKS, group, policy);
    return sad;
  };
  const sending = (sad: ReturnType<typeof filled>, nowMs: number): number | undefined =>
    sad.sendingKey(GCKS, group, { ssrc: 5 }, nowMs)?.key.mki;
  const opens = (sad: ReturnType<typeof filled>, mki: number, nowMs: number): boolean =>
    sad.findDataKey({ mki, ssrc: 5 }, nowMs) !== undefined;

  it("sends under a new key after the activation delay, and opens the old one until the deactivation delay", () => {
    const sad = filled();
    sad.installDataKey(GCKS, group, key(1), 0, DELAYS);
    expect([sending(sad, 0), opens(sad, 1, 0)]).toEqual([1, true]);
    const installed = sad.installDataKey(GCKS, group, key(2), 1000, DELAYS);
    expect([sending(sad, 2999), sending(sad, 3000)]).toEqual([1, 2]);
    expect([opens(sad, 2, 1000), opens(sad, 1, 10_999), opens(sad, 1, 11_000)]).toEqual([true, true, false]);
    expect(sad.installDataKey(GCKS, group, key(2), 5000, DELAYS)).toBe(installed);
    expect(sad.expire(10_999)).toEqual([]);
    const [old] = sad.dataSas(GCKS, group)[0]?.keys ?? [];
    expect(sad.expire(11_000)).toEqual([{ group, dataSa: 1, mki: 1 }]);
    expect(old?.key).toEqual(new Uint8Array(16));
    expect(sad.expire(1000 + 3_600_000)).toEqual([{ group, dataSa: 1, mki: 2 }]);
    expect(sending(sad, 1000 + 3_600_000)).toBeUndefined();
  });

  it("ends a data SA of lifetime 0 with its last key", () => {
    const sad = filled();
    sad.installDataKey(GCKS, group, key(1), 0, DELAYS);
    sad.putDataSa(GCKS, group, { ...SHARED, lifetime: 0 });
    expect(sad.dataSas(GCKS, group)).toHaveLength(1);
    sad.expire(3_600_000);
    expect(sad.dataSas(GCKS, group)).toEqual([]);
    expect(() => sad.installDataKey(GCKS, group, key(2), 0, DELAYS)).toThrow(expect.objectContaining({ code: "gsa.no-data-sa" }));
  });

  it("finds keys by MKI and SSRC in mixed arrangements", () => {
    const sad = filled(MIXED);
    for (const number of [1, 2, 3]) sad.installDataKey(GCKS, group, key(10 + number, number), 0, DELAYS);
    const found = (mki: number, ssrc: number, stream: number) => sad.findDataKey({ mki, ssrc, stream }, 0)?.sa.policy.number;
    expect([found(11, 5, 1), found(12, 0xaaaa, 1), found(13, 5, 2)]).toEqual([1, 2, 3]);
    // The presenter's SSRC under the others' key, the others' under the presenter's, and a key of another stream.
    expect([found(11, 0xaaaa, 1), found(12, 5, 1), found(13, 5, 1)]).toEqual([undefined, undefined, undefined]);
    expect(sad.sendingKey(GCKS, group, { ssrc: 0xaaaa, stream: 1 }, 0)?.key.mki).toBe(12);
    expect(sad.sendingKey(GCKS, group, { ssrc: 0xaaaa, stream: 2 }, 0)?.key.mki).toBe(13);
  });

  it("keeps groups with the same MKI apart, by where packets go", () => {
    const sad = filled();
    const other = utf8("other");
    sad.putDataSa(GCKS, other, { ...SHARED, destinations: ["rtp://239.0.0.9:5004"] });
    sad.installDataKey(GCKS, group, key(1), 0, DELAYS);
    sad.installDataKey(GCKS, other, key(1), 0, DELAYS);
    const found = (destination: string) => sad.findDataKey({ mki: 1, ssrc: 5, destination }, 0)?.sa.group;
    expect(found("rtp://239.0.0.2:5004")).toEqual(group);
    expect(found("rtp://239.0.0.9:5004")).toEqual(other);
    sad.removeGroup(GCKS, group);
    expect(found("rtp://239.0.0.2:5004")).toBeUndefined();
    expect(found("rtp://239.0.0.9:5004")).toEqual(other);
  });

  it("finds registration and rekey SAs, by SPI and by what is on the wire", () => {
    const sad = createSecurityAssociationDatabase();
    const tree = createKeyTree({ crypto: nodeCrypto, algorithm: "ofc" });
    const first = tree.prepareRekey({ join: 2 }, { version: 7, seed: new Uint8Array(32).fill(1) });
    first.commit();
    const rekey = createRekeyReceiver({
      crypto: nodeCrypto,
      gcks: GCKS,
      constants,
      policies: { group: groupPolicy, rekey: rekeyPolicy, data: [] },
      keyPath: createKeyPath(nodeCrypto, tree.download(first.joined[0] as number)),
      sequence: 7,
      time: NOW,
      receivedAtMs: 0,
    });
    sad.putRekey(rekey);
    expect(sad.rekey(GCKS, group)).toBe(rekey);
    expect(sad.rekeyBySpi(GCKS, group, 7)).toBe(rekey);
    expect(sad.rekeyBySpi(GCKS, group, 8)).toBeUndefined();
    expect(sad.rekeyByCsbId(constants.csbId)).toEqual([rekey]);
    expect(sad.rekeyByCsbId(1)).toEqual([]);
    const registration = registrationOf(3);
    sad.putRegistration(group, registration);
    sad.putRegistration(utf8("other"), registration);
    expect(sad.registration(GCKS, group)).toBe(registration);
    sad.removeGroup(GCKS, group);
    expect([sad.registration(GCKS, group), sad.rekey(GCKS, group), rekey.kekSpi]).toEqual([undefined, undefined, undefined]);
    expect(registration.downKey).not.toEqual(new Uint8Array(32));
    sad.removeGroup(GCKS, utf8("other"));
    expect(registration.downKey).toEqual(new Uint8Array(32));
  });

  it("wipes a registration SA when no group has it any more, because there is a newer one", () => {
    const sad = filled();
    const [older, newer] = [registrationOf(3), registrationOf(4)];
    for (const name of [group, utf8("other")]) sad.putRegistration(name, older);
    sad.putRegistration(group, newer);
    expect(older.upKey).not.toEqual(new Uint8Array(32));
    sad.putRegistration(utf8("other"), newer);
    expect([older.proofKey, older.downKey, older.upKey]).toEqual(Array(3).fill(new Uint8Array(32)));
    sad.putRegistration(group, newer);
    expect(newer.upKey).not.toEqual(new Uint8Array(32));
  });
});

describe("security policy database", () => {
  const spd = createSecurityPolicyDatabase();
  spd.putGroup(GCKS, group, MIXED, { send: true, receive: true }, [5]);
  const number = (facts: Parameters<typeof spd.decide>[0]) => {
    const decision = spd.decide(facts);
    return decision.action === "protect" ? decision.dataSa.number : decision.action;
  };

  it("selects by direction, SSRC, stream and destination", () => {
    expect(number({ direction: "in", ssrc: 9, stream: 1 })).toBe(1);
    expect(number({ direction: "in", ssrc: 0xaaaa, destination: "rtp://239.0.0.2:5004" })).toBe(2);
    expect(number({ direction: "out", ssrc: 5, stream: 2 })).toBe(3);
  });

  it("discards what no policy protects: other destinations, SSRCs that are not ours, senders that are gone", () => {
    expect(number({ direction: "in", ssrc: 9, destination: "rtp://239.0.0.3:5004" })).toBe("discard");
    expect(number({ direction: "out", ssrc: 6, stream: 1 })).toBe("discard");
    spd.discard(GCKS, group, [9]);
    expect(number({ direction: "in", ssrc: 9, stream: 1 })).toBe("discard");
    spd.putGroup(GCKS, group, MIXED, { send: true, receive: true }, [5]);
    expect(number({ direction: "in", ssrc: 9, stream: 1 })).toBe("discard");
  });

  it("lets receivers send RTCP alone, and senders receive it", () => {
    spd.putGroup(GCKS, group, MIXED, { send: false, receive: true }, [5]);
    expect(number({ direction: "out", ssrc: 5, stream: 1 })).toBe("discard");
    expect(number({ direction: "out", ssrc: 5, stream: 1, rtcp: true })).toBe(1);
    spd.putGroup(GCKS, group, MIXED, { send: true, receive: false }, [5]);
    expect(number({ direction: "in", ssrc: 7, stream: 1 })).toBe("discard");
    expect(number({ direction: "in", ssrc: 7, stream: 1, rtcp: true })).toBe(1);
  });

  it("knows nothing of a group that is left", () => {
    spd.removeGroup(GCKS, group);
    expect(number({ direction: "in", ssrc: 7, stream: 1 })).toBe("discard");
  });
});
