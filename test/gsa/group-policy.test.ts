import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseHex, WatchwordError } from "../../src/bytes/index.js";
import {
  belowMinimum,
  decodeGroupPolicies,
  encodeGroupPolicies,
  type GroupPolicies,
  type GroupPolicy,
  type MinimumGroupPolicy,
  type RekeyPolicy,
  retransmissionSpanMs,
} from "../../src/gsa/index.js";
import type { SecurityPolicyPayload } from "../../src/mikey/index.js";
import { suiteNames } from "../../src/srtp/index.js";
import { dataPolicies, groupPolicy, policies, rekeyPolicy } from "./group-fixture.js";

const u8 = fc.integer({ min: 0, max: 255 });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const text = fc.string({ minLength: 1, maxLength: 60, unit: "grapheme-ascii" });
const lifetime = fc.integer({ min: 60, max: 31 * 86_400 });
const some = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(value, { nil: undefined });

/** Without the properties that are undefined: they are not on the wire. */
function present<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, property]) => property !== undefined)) as T;
}

const group: fc.Arbitrary<GroupPolicy> = fc
  .record({
    group: fc.uint8Array({ minLength: 1, maxLength: 255 }),
    member: some(
      fc.record({
        number: u32,
        role: fc.constantFrom({ send: true, receive: false }, { send: false, receive: true }, { send: true, receive: true }),
        ssrcs: fc.uniqueArray(
          fc.record({ stream: fc.integer({ min: 1, max: 255 }), ssrc: fc.integer({ min: 1, max: 0xffffffff }) }),
          { maxLength: 4, comparator: (a, b) => a.ssrc === b.ssrc || a.stream === b.stream },
        ),
        lifetime,
      }),
    ),
    access: fc.record({ joins: fc.boolean(), leaves: fc.boolean(), joinsBatched: fc.boolean(), leavesBatched: fc.boolean() }),
    batchIntervalMs: some(fc.integer({ min: 0, max: 3_600_000 })),
    deregistration: fc.constantFrom("none" as const, "one-way" as const, "acknowledged" as const),
    deregistrationSpreadMs: some(fc.integer({ min: 0, max: 600_000 })),
    confirmation: fc.boolean(),
    owner: some(text),
    version: some(u32),
    members: some(u32),
    registrationModes: some(fc.array(u8, { maxLength: 9 })),
    title: some(text),
  })
  .map((policy) => present(policy) as GroupPolicy);

const rekey: fc.Arbitrary<RekeyPolicy> = fc
  .record({
    shape: fc.constantFrom(
      { algorithm: "none", degree: 0 } as const,
      { algorithm: "lkh", degree: 4 } as const,
      { algorithm: "lkh+", degree: 255 } as const,
      { algorithm: "ofc", degree: 2 } as const,
    ),
    signing: fc.constantFrom(
      { signature: "none", macLength: 32 } as const,
      { signature: "ed25519", macLength: 16, verificationKey: parseHex("302a") } as const,
      { signature: "ecdsa-p256-sha256", macLength: 32, verificationKey: parseHex("3059") } as const,
    ),
    keyLength: fc.constantFrom(16 as const, 32 as const),
    controlAddress: some(text),
    serverAddress: some(text),
    kekLifetime: lifetime,
    heartbeatMs: fc.constantFrom(0, 1000, 3_600_000),
    activationDelayMs: fc.integer({ min: 0, max: 60_000 }),
    retransmission: fc.record({ count: fc.integer({ min: 0, max: 5 }), firstMs: fc.integer({ min: 20, max: 10_000 }) }),
    resynchronisation: fc.uniqueArray(
      fc.constantFrom(
        "registration" as const,
        "fetch" as const,
        "posting" as const,
        "repair-server" as const,
        "negative-acknowledgement" as const,
      ),
      { minLength: 1 },
    ),
    resynchronisationDelayMs: some(fc.integer({ min: 0, max: 600_000 })),
    period: some(lifetime),
    repairServers: fc.array(text, { maxLength: 3 }),
    tree: some(fc.record({ largestId: fc.integer({ min: 100, max: 0xffffffff }), leaf: fc.integer({ min: 1, max: 100 }) })),
  })
  .map(({ shape, signing, ...rest }): RekeyPolicy => {
    const deactivationDelayMs = Math.min(600_000, rest.activationDelayMs + retransmissionSpanMs(rest.retransmission));
    return present({ ...shape, algorithmVersion: 1, ...signing, ...rest, deactivationDelayMs }) as RekeyPolicy;
  });

const dataSa = fc.record({
  srtp: fc.constantFrom(...suiteNames).map((suite) => ({ suite })),
  arrangement: fc.constantFrom("shared" as const, "per-ssrc" as const),
  streams: fc.array(u8, { maxLength: 3 }),
  sources: fc.array(u32, { maxLength: 3 }),
  destinations: fc.array(text, { maxLength: 2 }),
  lifetime: fc.oneof(fc.constant(0), lifetime),
});
const data = fc
  .uniqueArray(fc.tuple(fc.integer({ min: 1, max: 200 }), dataSa), { maxLength: 8, selector: ([number]) => number })
  .map((rows) => rows.map(([number, row], index) => ({ ...row, number, mkis: [2 * index, 2 * index + 1] })));

describe("group policies", () => {
  it("survive as SP payloads", () => {
    fc.assert(
      fc.property(some(group), some(rekey), data, (one, two, sas) => {
        const value = present({ group: one, rekey: two, data: sas }) as GroupPolicies;
        expect(decodeGroupPolicies(encodeGroupPolicies(value))).toEqual(value);
      }),
    );
  });

  it("any payloads give policies or a typed error", () => {
    const payload = fc.record({
      kind: fc.constant("SP" as const),
      policyNo: fc.constantFrom(1, 2, 200, 201, 202, 253, 254, 255),
      protType: fc.constantFrom(0, 241, 242, 243, 244),
      params: fc.array(fc.record({ type: fc.integer({ min: 0, max: 140 }), value: fc.uint8Array({ maxLength: 6 }) }), {
        maxLength: 8,
      }),
    });
    fc.assert(
      fc.property(fc.array(payload, { maxLength: 4 }), (payloads) => {
        try {
          decodeGroupPolicies(payloads);
        } catch (error) {
          expect(error).toBeInstanceOf(WatchwordError);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it("a parameter that may be left aside is, any other is not", () => {
    const payloads = encodeGroupPolicies(policies);
    const [first, ...rest] = payloads as [SecurityPolicyPayload, ...SecurityPolicyPayload[]];
    const with_ = (type: number): SecurityPolicyPayload[] => [
      { ...first, params: [...first.params, { type, value: Uint8Array.of(1) }] },
      ...rest,
    ];
    expect(decodeGroupPolicies(with_(200))).toEqual(decodeGroupPolicies(payloads));
    expect(() => decodeGroupPolicies(with_(100))).toThrow(expect.objectContaining({ code: "gsa.group-policy" }));
  });

  it("SRTP policies that are equal are there once", () => {
    const payloads = encodeGroupPolicies({ data: dataPolicies });
    expect(payloads.map(({ protType, policyNo }) => [protType, policyNo])).toEqual([
      [0, 201],
      [243, 1],
      [243, 2],
    ]);
  });

  const rekeyed = (change: Partial<RekeyPolicy>): GroupPolicies => ({ ...policies, rekey: { ...rekeyPolicy, ...change } });
  const { verificationKey: _, ...keyless } = rekeyPolicy;
  it.each<[string, GroupPolicies]>([
    ["no group name", { ...policies, group: { ...groupPolicy, group: new Uint8Array(0) } }],
    [
      "a member without role",
      {
        ...policies,
        group: { ...groupPolicy, member: { number: 1, role: { send: false, receive: false }, ssrcs: [], lifetime: 60 } },
      },
    ],
    [
      "an SSRC of 0",
      {
        ...policies,
        group: {
          ...groupPolicy,
          member: { number: 1, role: { send: true, receive: true }, ssrcs: [{ stream: 1, ssrc: 0 }], lifetime: 60 },
        },
      },
    ],
    [
      "a lifetime of a second",
      {
        ...policies,
        group: { ...groupPolicy, member: { number: 1, role: { send: true, receive: true }, ssrcs: [], lifetime: 1 } },
      },
    ],
    ["a signature without key", { ...policies, rekey: keyless }],
    ["a short V without signature", { ...policies, rekey: { ...keyless, signature: "none" } }],
    ["an old key that ends before the slowest sender has switched", rekeyed({ deactivationDelayMs: 4000 })],
    ["a heartbeat every millisecond", rekeyed({ heartbeatMs: 1 })],
    ["a hundred retransmissions", rekeyed({ retransmission: { count: 100, firstMs: 20 } })],
    ["a binary tree without degree", rekeyed({ degree: 0 })],
    ["a leaf outside the tree", rekeyed({ tree: { largestId: 4, leaf: 5 } })],
    ["two SAs with one MKI", { data: dataPolicies.map((policy) => ({ ...policy, mkis: [7] })) }],
    ["a data SA number that is too large", { data: dataPolicies.map((policy) => ({ ...policy, number: 201 })) }],
    ["an address that is too long", rekeyed({ controlAddress: `udp://${"a".repeat(255)}` })],
  ])("refuse %s", (_name, value) => {
    expect(() => encodeGroupPolicies(value)).toThrow(expect.objectContaining({ code: "gsa.group-policy" }));
  });

  it.each<[string, readonly SecurityPolicyPayload[]]>([
    ["a number twice", [...encodeGroupPolicies({ data: [] }), sp(254, 241), sp(254, 241)]],
    ["a number of another Prot type", [sp(254, 242)]],
    ["an unknown Prot type", [sp(7, 240)]],
    ["a data SA of an SRTP policy that is not there", [sp(1, 243, "00 01c9", "01 0100", "05 0400000e10")]],
    ["TESLA, which is reserved", [sp(201, 0), sp(1, 243, "00 01c9", "01 0100", "05 0400000e10", "07 0101")]],
  ])("refuse %s", (_name, payloads) => {
    expect(() => decodeGroupPolicies(payloads)).toThrow(expect.objectContaining({ code: "gsa.group-policy" }));
  });
});

/** An SP payload; parameters as hexadecimal with type, length and value. */
function sp(policyNo: number, protType: number, ...params: readonly string[]): SecurityPolicyPayload {
  return {
    kind: "SP",
    policyNo,
    protType,
    params: params.map((param) => {
      const octets = parseHex(param.replaceAll(" ", ""));
      return { type: octets[0] as number, value: octets.subarray(2) };
    }),
  };
}

describe("a member's minimum", () => {
  const { verificationKey: _, ...keyless } = rekeyPolicy;
  const unsigned: GroupPolicies = { ...policies, rekey: { ...keyless, signature: "none", macLength: 32 } };
  const [first] = dataPolicies;
  if (first === undefined) throw new Error("no data SA");
  const suite = (name: (typeof suiteNames)[number]): GroupPolicies => ({ data: [{ ...first, srtp: { suite: name } }] });

  it.each<[string, GroupPolicies, MinimumGroupPolicy]>([
    ["rekey messages that anybody in the group can make", unsigned, {}],
    ["media without encryption", suite("NULL_HMAC_SHA1_80"), {}],
    ["a suite that it does not accept", policies, { suites: ["AEAD_AES_256_GCM"] }],
    [
      "media without encryption, whatever the suite",
      { data: [{ ...first, srtp: { suite: first.srtp.suite, encryptRtp: false } }] },
      { suites: [first.srtp.suite] },
    ],
    ["KEKs that are too short", policies, { keyLength: 32 }],
    ["KEKs that live too long", policies, { keyLifetime: 7200 }],
    ["data keys that live too long", { data: dataPolicies }, { keyLifetime: 60 }],
    ["old keys that live too long", policies, { deactivationDelayMs: 9999 }],
    [
      "joins without new keys",
      { ...policies, group: { ...groupPolicy, access: { ...groupPolicy.access, joins: false } } },
      { joins: true },
    ],
    [
      "leaves without new keys",
      { ...policies, group: { ...groupPolicy, access: { ...groupPolicy.access, leaves: false } } },
      { leaves: true },
    ],
  ])("refuses %s", (_name, value, minimum) => {
    expect(belowMinimum(value, minimum)).toBeTypeOf("string");
  });

  it.each<[string, GroupPolicies, MinimumGroupPolicy]>([
    ["what is asked for", policies, { suites: ["AES_CM_128_HMAC_SHA1_80"], joins: true, leaves: true, keyLifetime: 86_400 }],
    ["mutual trust, asked for by name", unsigned, { signed: false }],
    ["a group without a rekey SA", { group: groupPolicy, data: dataPolicies }, {}],
  ])("accepts %s", (_name, value, minimum) => {
    expect(belowMinimum(value, minimum)).toBeUndefined();
  });
});
