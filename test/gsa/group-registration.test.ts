import { describe, expect, it } from "vitest";
import { parseHex, utf8, WatchwordError } from "../../src/bytes/index.js";
import { createKeyPath, createKeyTree } from "../../src/gkma/index.js";
import {
  type GroupConstants,
  type GroupHello,
  type GroupRegistration,
  type GsaContent,
  type GsaExpectation,
  groupHelloExtensions,
  heldGroupKey,
  type MinimumGroupPolicy,
  nestedMessageExtension,
  nestedMessages,
  type OpenedGsa,
  openGsa,
  openLeave,
  openLeaveAcknowledgement,
  parseProvisionedRegistration,
  provisionedRegistration,
  readGroupHellos,
  sealGsa,
  sealLeave,
  startGroupRegistration,
  wipeGroupRegistration,
  wipeGsa,
} from "../../src/gsa/index.js";
import {
  type BeginRequest,
  type Csb,
  CsMapType,
  decodeMessage,
  ExtensionType,
  encodeMessage,
  type GeneralExtensionPayload,
  type Payload,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { ALICE, accepted, BOB, PSK, pair, request } from "../mikey/exchange-fixture.js";
import { dataKeys, dataPolicies, groupPolicy, gsaContent, NOW, octets, policies, rekeyPolicy } from "./group-fixture.js";

const crypto = nodeCrypto;
const BOTH = { send: true, receive: true };
const group = (name: string, csbId: number): GroupConstants => ({
  group: utf8(name),
  csbId,
  rand: crypto.hash("sha256", utf8(name)),
});
const RED = group("red", 0x0a000001);
const BLUE = group("blue", 0x0a000002);

const tree = createKeyTree({ crypto, algorithm: "ofc", keyLength: 16 });
const first = tree.prepareRekey({ join: 6 }, { version: 1, seed: new Uint8Array(32).fill(9) });
first.commit();

/** What the key server says of a group. */
function content(constants: GroupConstants, changes: Partial<GsaContent> = {}): GsaContent {
  const { credential: _, ...rest } = gsaContent;
  return {
    ...rest,
    constants,
    gcks: BOB,
    member: ALICE,
    sequence: 1,
    policies: { group: { ...groupPolicy, group: constants.group }, rekey: rekeyPolicy, data: dataPolicies },
    path: tree.download(first.joined[2] as number),
    ...changes,
  };
}

interface Registered {
  readonly member: GroupRegistration;
  readonly gcks: GroupRegistration;
  readonly gsas: readonly Uint8Array[];
  readonly request: Uint8Array;
  readonly response: Uint8Array;
}

/** A member registers for groups by a pre-shared key exchange; the key server grants those in `granted`. */
async function register(
  wanted: readonly GroupHello[],
  granted: readonly GroupConstants[],
  mode: Partial<BeginRequest> = { keys: [{ kind: "TGK", length: 32 }] },
): Promise<Registered> {
  const { initiator, responder } = pair();
  const [nonceI, nonceR] = [crypto.randomBytes(16), crypto.randomBytes(16)];
  const pending = await initiator.begin(
    request({
      mapType: CsMapType.EMPTY,
      cryptoSessions: [],
      policies: new Map(),
      extensions: groupHelloExtensions(wanted, nonceI),
      ...mode,
    }),
  );
  let finish: ((response: Uint8Array) => GroupRegistration) | undefined;
  const responseExtensions = async (csb: Csb): Promise<GeneralExtensionPayload[]> => {
    const hellos = readGroupHellos(csb.initiatorExtensions, 16);
    const answered = (hellos?.groups ?? []).flatMap((hello) =>
      granted.filter((constants) => constants.group.join() === hello.group.join()),
    );
    const started = startGroupRegistration(crypto, csb, { role: "gcks", secure: false, responderNonce: nonceR });
    finish = (response) => started.finish(response);
    return [
      ...groupHelloExtensions(
        answered.map((constants) => ({ group: constants.group, role: BOTH })),
        nonceR,
      ),
      ...answered.map((constants) => nestedMessageExtension(sealGsa(crypto, started.downKey, content(constants)))),
    ];
  };
  const received = await accepted(responder.receive(pending.octets, { responseExtensions }));
  const response = received.response as Uint8Array;
  const csb = await pending.complete(response);
  const hellos = readGroupHellos(csb.responderExtensions, 16);
  const started = startGroupRegistration(crypto, csb, {
    role: "member",
    secure: false,
    responderNonce: hellos?.nonce ?? new Uint8Array(0),
  });
  return {
    member: started.finish(response),
    gcks: finish?.(response) as GroupRegistration,
    gsas: nestedMessages(csb.responderExtensions),
    request: pending.octets,
    response,
  };
}

const expectation = (groups: readonly GroupConstants[], changes: Partial<GsaExpectation> = {}): GsaExpectation => ({
  gcks: BOB,
  member: ALICE,
  groups: groups.map((constants) => constants.group),
  now: 0,
  ...changes,
});

const wants = (...groups: readonly GroupConstants[]): GroupHello[] =>
  groups.map((constants) => ({ group: constants.group, role: BOTH }));

describe("registration for groups", () => {
  it.each<[string, Partial<BeginRequest>]>([
    ["PSK", { keys: [{ kind: "TGK", length: 32 }] }],
    ["DHHMAC", { credential: { psk: PSK, mode: "DHHMAC", group: "x25519" }, keys: [] }],
  ])("brings one GSA message for each group that is granted, in the answer of one exchange: %s", async (_name, mode) => {
    const { member, gcks, gsas } = await register(wants(RED, group("locked", 9), BLUE), [BLUE, RED], mode);
    expect(member.downKey).toEqual(gcks.downKey);
    expect({ ...gcks, role: "member" }).toEqual(member);
    expect(gsas).toHaveLength(2);
    for (const [index, constants] of [RED, BLUE].entries()) {
      const gsa = await openGsa(crypto, member.downKey, gsas[index] as Uint8Array, expectation([RED, BLUE]));
      expect(gsa.constants).toEqual(constants);
      expect(gsa.dataKeys).toEqual(dataKeys);
      const keys = createKeyPath(crypto, gsa.path as NonNullable<OpenedGsa["path"]>);
      expect(keys.groupKey()).toEqual(tree.groupKey());
      expect(gsa.kek).toEqual({ spi: 1, key: tree.groupKey() });
    }
  });

  it("holds no message: what is kept of one is copied", async () => {
    const { member, gcks, gsas } = await register(wants(RED), [RED]);
    const gsa = await openGsa(crypto, member.downKey, gsas[0] as Uint8Array, expectation([RED]));
    const kept = [member.member, member.gcks, gcks.member, gcks.gcks, gsa.member, gsa.gcks].map(({ data }) => data);
    for (const octets of [...kept, gsa.constants.rand]) expect(octets.buffer.byteLength).toBe(octets.length);
  });

  it("keys of one registration open nothing of another, and nothing for another member, group or key server", async () => {
    const mine = await register(wants(RED), [RED]);
    const other = await register(wants(RED), [RED]);
    const [gsa] = mine.gsas as [Uint8Array];
    const mallory = { idType: 1, data: utf8("sip:mallory@example.org") };
    const cases: readonly [Uint8Array, GsaExpectation, string][] = [
      [other.member.downKey, expectation([RED]), "mikey.authentication"],
      [mine.member.downKey, expectation([BLUE]), "gsa.group-mismatch"],
      [mine.member.downKey, expectation([RED], { member: mallory }), "gsa.group-mismatch"],
      [mine.member.downKey, expectation([RED], { gcks: mallory }), "gsa.group-mismatch"],
      [mine.member.downKey, expectation([RED], { known: { constants: { ...RED, csbId: 1 }, sequence: 0 } }), "gsa.group-mismatch"],
      [mine.member.downKey, expectation([RED], { known: { constants: RED, sequence: 2 } }), "gsa.sequence"],
      [mine.member.downKey, expectation([RED], { minimum: { keyLength: 32 } }), "gsa.minimum"],
      [mine.member.downKey, expectation([RED], { minimum: { credential: true } }), "gsa.credential"],
    ];
    for (const [key, expected, code] of cases)
      await expect(openGsa(crypto, key, gsa, expected), code).rejects.toThrow(expect.objectContaining({ code }));
    await openGsa(crypto, mine.member.downKey, gsa, expectation([RED], { known: { constants: RED, sequence: 1 } }));
  });

  it("no octet of a GSA message can be changed, and none is missing", async () => {
    const { member, gsas } = await register(wants(RED), [RED]);
    const [gsa] = gsas as [Uint8Array];
    for (let at = 0; at < gsa.length; at++) {
      const changed = gsa.slice();
      changed[at] = (changed[at] as number) ^ 1;
      await expect(openGsa(crypto, member.downKey, changed, expectation([RED])), `octet ${at}`).rejects.toThrow(WatchwordError);
      await expect(openGsa(crypto, member.downKey, gsa.subarray(0, at), expectation([RED]))).rejects.toThrow(WatchwordError);
    }
  });

  it("a secret in the clear registers nobody", async () => {
    const { initiator, responder } = pair({ allowNullKeying: true });
    const pending = await initiator.begin(
      request({ credential: { nullKeying: true }, secure: true, cryptoSessions: [{ ssrc: 1 }], keys: [{ kind: "TEK+SALT" }] }),
    );
    const { csb } = await accepted(responder.receive(pending.octets, { secure: true }));
    const start = { role: "gcks", responderNonce: new Uint8Array(0) } as const;
    expect(() => startGroupRegistration(crypto, csb, { ...start, secure: false })).toThrow(
      expect.objectContaining({ code: "gsa.registration" }),
    );
    const started = startGroupRegistration(crypto, csb, { ...start, secure: true });
    started.abandon();
    expect(started.downKey).toEqual(new Uint8Array(32));
  });

  it("a registration without identities is refused", async () => {
    const { initiator, responder } = pair({ findCredential: () => ({ psk: utf8("a pre-shared key") }) });
    const pending = await initiator.begin(request({ omitIdentities: true }));
    const { csb } = await accepted(responder.receive(pending.octets, { peerId: ALICE }));
    expect(() => startGroupRegistration(crypto, csb, { role: "gcks", secure: true, responderNonce: new Uint8Array(0) })).toThrow(
      expect.objectContaining({ code: "gsa.registration" }),
    );
  });
});

describe("HELLOs", () => {
  const code = expect.objectContaining({ code: "gsa.registration" });
  const nonce = new Uint8Array(16);

  it("name groups and roles", () => {
    const groups = [
      { group: RED.group, role: { send: true, receive: false } },
      { group: BLUE.group, role: { send: false, receive: true } },
    ];
    expect(readGroupHellos(groupHelloExtensions(groups, nonce), 16)).toEqual({ nonce, groups });
  });

  it("of two parties name none", () => {
    const data = parseHex(`01${"00".repeat(16)}00`);
    expect(readGroupHellos([{ kind: "EXT", extType: ExtensionType.HELLO, data }], 16)).toBeUndefined();
    expect(readGroupHellos([], 16)).toBeUndefined();
  });

  it("that do not fit each other are refused", () => {
    const [red, blue] = [RED, BLUE].map((constants) => groupHelloExtensions(wants(constants), nonce)[0] as GeneralExtensionPayload);
    const [late] = groupHelloExtensions(wants(BLUE), new Uint8Array(16).fill(1)) as [GeneralExtensionPayload];
    expect(() => readGroupHellos([red, late] as GeneralExtensionPayload[], 16)).toThrow(code);
    expect(() => readGroupHellos([red, red] as GeneralExtensionPayload[], 16)).toThrow(code);
    expect(() => readGroupHellos([red, blue] as GeneralExtensionPayload[], 1)).toThrow(code);
    const noRole = { kind: "EXT", extType: ExtensionType.HELLO, data: parseHex(`01${"00".repeat(16)}0161${"00"}`) } as const;
    expect(() => readGroupHellos([noRole], 16)).toThrow(code);
  });
});

describe("compositions of a GSA (RFC 3740 §4.5, RFC 4046 §6)", () => {
  const registration = provisionedRegistration(
    crypto,
    { id: crypto.randomBytes(16), secret: crypto.randomBytes(32), gcks: "sip:gcks@x", member: "sip:m@x", groups: [RED.group] },
    "gcks",
  );
  const parties = { gcks: registration.gcks, member: registration.member };
  const open = (octetsOf: Uint8Array, minimum: MinimumGroupPolicy = {}): Promise<OpenedGsa> =>
    openGsa(crypto, registration.downKey, octetsOf, expectation([RED], { ...parties, minimum }));
  const seal = (changes: Partial<GsaContent>): Uint8Array => {
    const { path: _, ...bare } = content(RED, parties);
    return sealGsa(crypto, registration.downKey, { ...bare, ...changes });
  };
  const own = { ...groupPolicy, group: RED.group };
  const [shared, perSsrc] = dataPolicies as [(typeof dataPolicies)[number], (typeof dataPolicies)[number]];
  const path = tree.download(first.joined[0] as number);

  it("a registration SA and one data SA", async () => {
    const gsa = await open(
      seal({ policies: { group: own, data: [shared] }, dataKeys: [dataKeys[0] as (typeof dataKeys)[number]] }),
    );
    expect([gsa.kek, gsa.path, gsa.dataKeys]).toEqual([undefined, undefined, [dataKeys[0]]]);
  });

  it("all data SAs by registration, one per sender and one for the others", async () => {
    const gsa = await open(seal({ policies: { group: own, data: dataPolicies } }));
    expect(gsa.policies.data).toEqual(dataPolicies);
    expect(gsa.dataKeys).toEqual(dataKeys);
  });

  it("registration, rekey and data SAs", async () => {
    const gsa = await open(seal({ policies: { ...policies, group: own }, path }));
    expect(gsa.path).toEqual(path);
  });

  it("a rekey SA first, data SAs by the rekey protocol", async () => {
    const none = await open(seal({ policies: { ...policies, group: own, data: [] }, path, dataKeys: [] }));
    expect(none.policies.data).toEqual([]);
    const later = { ...shared, mkis: [] };
    const announced = await open(seal({ policies: { ...policies, group: own, data: [later] }, path, dataKeys: [] }));
    expect(announced.policies.data).toEqual([later]);
  });

  it("a leaf alone, where the KEK comes with the batch", async () => {
    const gsa = await open(seal({ policies: { ...policies, group: own, data: [] }, path: { ...path, path: [] }, dataKeys: [] }));
    expect([gsa.kek, gsa.path?.path]).toEqual([undefined, []]);
  });

  const { verificationKey: _, ...keyless } = rekeyPolicy;
  const trusting = { ...keyless, signature: "none" as const, macLength: 32 as const };
  it.each<[string, Partial<GsaContent>]>([
    ["a rekey SA without keys", { policies: { ...policies, group: own } }],
    ["keys of a tree without a rekey SA", { policies: { group: own, data: dataPolicies }, path }],
    ["another tree than the policy's", { policies: { ...policies, group: own }, path: { ...path, degree: 3 } }],
    [
      "no KEK where V is the only authentication",
      { policies: { group: own, rekey: trusting, data: [] }, path: { ...path, path: [] }, dataKeys: [] },
    ],
    ["an MKI without key", { policies: { group: own, data: dataPolicies }, dataKeys: [] }],
    ["a key of no data SA", { policies: { group: own, data: [shared] } }],
    [
      "a TEK that is too short",
      {
        policies: { group: own, data: [shared] },
        dataKeys: [{ dataSa: 1, mki: 3, key: new Uint8Array(15), salt: new Uint8Array(14) }],
      },
    ],
    [
      "a GTGK with salt",
      {
        policies: { group: own, data: [perSsrc] },
        dataKeys: [{ dataSa: 2, mki: 9, key: new Uint8Array(16), salt: new Uint8Array(14) }],
      },
    ],
  ])("are refused with %s", (_name, changes) => {
    expect(() => seal(changes)).toThrow(expect.objectContaining({ code: "gsa.group-message" }));
  });

  it("a member below the group's level stays out, unless it trusts by name", async () => {
    const unsigned = seal({ policies: { group: own, rekey: trusting, data: [] }, path, dataKeys: [] });
    await expect(open(unsigned)).rejects.toThrow(expect.objectContaining({ code: "gsa.minimum" }));
    await open(unsigned, { signed: false });
  });

  it("wipes its keys", async () => {
    const gsa = await open(seal({ policies: { ...policies, group: own }, path }));
    wipeGsa(gsa);
    expect(gsa.dataKeys.every(({ key }) => key.every((octet) => octet === 0))).toBe(true);
    expect(gsa.path?.leafKey).toEqual(new Uint8Array(16));
  });

  it("refuses a GSA message with a payload too many, or in another place", async () => {
    const message = decodeMessage(seal({ policies: { group: own, data: [] }, dataKeys: [] }));
    const again = (payloads: readonly Payload[]): Uint8Array => encodeMessage({ header: message.header, payloads });
    const rand: Payload = { kind: "RAND", rand: new Uint8Array(16) };
    const stray: Payload = { kind: "EXT", extType: 1, data: utf8("mikey") };
    for (const payloads of [
      [rand, ...message.payloads],
      [...message.payloads.filter(({ kind }) => kind !== "RAND")],
      [stray, ...message.payloads],
      [...message.payloads].reverse(),
    ])
      await expect(open(again(payloads))).rejects.toThrow(WatchwordError);
  });
});

describe("provisioned registrations", () => {
  const good = {
    watchword: "registration",
    version: 1,
    id: "11".repeat(16),
    secret: "22".repeat(32),
    gcks: "g",
    member: "m",
    groups: ["67"],
  };

  it("are the same at both ends, but for the role", () => {
    const file = parseProvisionedRegistration(JSON.stringify(good));
    const member = provisionedRegistration(crypto, file, "member");
    expect(provisionedRegistration(crypto, file, "gcks")).toEqual({ ...member, role: "gcks" });
    wipeGroupRegistration(member);
    expect(member.downKey).toEqual(new Uint8Array(32));
  });

  it.each<[string, unknown]>([
    ["no object", 7],
    ["null", null],
    ["another kind of file", { ...good, watchword: "group" }],
    ["another version", { ...good, version: 2 }],
    ["a short id", { ...good, id: "11" }],
    ["a short secret", { ...good, secret: "22" }],
    ["no member", { ...good, member: undefined }],
    ["no groups", { ...good, groups: [] }],
    ["groups that are no texts", { ...good, groups: [1] }],
  ])("refuses %s", (_name, value) => {
    expect(() => parseProvisionedRegistration(JSON.stringify(value))).toThrow(
      expect.objectContaining({ code: "gsa.registration" }),
    );
  });

  it("refuses what is no JSON", () => {
    expect(() => parseProvisionedRegistration("{")).toThrow(expect.objectContaining({ code: "gsa.registration" }));
  });
});

describe("leaving", () => {
  const red = { spi: 5, key: octets("kekBefore") };
  const blue = { spi: 5, key: octets("kekAfter") };

  async function leaver() {
    const registered = await register(wants(RED, BLUE), [RED, BLUE]);
    const keys = [heldGroupKey(crypto, RED, { kek: red }), heldGroupKey(crypto, BLUE, { kek: blue })];
    const find = ({ csbId, kind, spi }: { csbId: number; kind: string; spi: number }) =>
      kind === "kek" && spi === 5 ? keys[csbId === RED.csbId ? 0 : 1]?.g : undefined;
    return { ...registered, keys, find };
  }

  it("ends the memberships whose keys are proven, and is acknowledged", async () => {
    const { member, gcks, keys, find } = await leaver();
    const both = sealLeave(crypto, member, keys, NOW, true);
    const verdict = openLeave(crypto, gcks, both.octets, find);
    expect(verdict).toMatchObject({ verdict: "verified", groups: [RED.csbId, BLUE.csbId] });
    const acknowledgement = verdict.verdict === "verified" ? verdict.acknowledgement : undefined;
    expect(openLeaveAcknowledgement(crypto, member, both.octets, acknowledgement, keys)).toBe("verified");
    expect(openLeaveAcknowledgement(crypto, member, both.octets, both.octets, keys)).toBe("rejected");
    expect(openLeaveAcknowledgement(crypto, member, both.octets, undefined, keys)).toBe("absent");
    const one = sealLeave(crypto, member, [keys[1] as (typeof keys)[number]], NOW, false, both.t);
    expect(openLeave(crypto, gcks, one.octets, find, both.t)).toEqual({
      verdict: "verified",
      groups: [BLUE.csbId],
      acknowledgement: undefined,
    });
  });

  it("of somebody else is not possible with the group's keys alone", async () => {
    const victim = await leaver();
    const attacker = await leaver();
    const forged = sealLeave(crypto, { ...attacker.member, transcript: victim.member.transcript }, victim.keys, NOW, false);
    expect(openLeave(crypto, victim.gcks, forged.octets, victim.find)).toEqual({ verdict: "rejected" });
  });

  it("needs keys that were delivered: without them a registration alone proves nothing", async () => {
    const { member, gcks, keys, find } = await leaver();
    const stale = [heldGroupKey(crypto, RED, { kek: { spi: 4, key: red.key } })];
    expect(openLeave(crypto, gcks, sealLeave(crypto, member, stale, NOW, false).octets, find)).toEqual({ verdict: "rejected" });
    const wrong = [heldGroupKey(crypto, RED, { kek: { spi: 5, key: blue.key } })];
    expect(openLeave(crypto, gcks, sealLeave(crypto, member, wrong, NOW, false).octets, find)).toEqual({ verdict: "rejected" });
    const oddSpi = [{ spi: Uint8Array.of(1), g: keys[0]?.g as Uint8Array }];
    expect(openLeave(crypto, gcks, sealLeave(crypto, member, oddSpi, NOW, false).octets, find)).toEqual({ verdict: "rejected" });
    expect(openLeave(crypto, gcks, undefined, find)).toEqual({ verdict: "absent" });
  });

  it("once is enough: an older T is refused, and one group is named once", async () => {
    const { member, gcks, keys, find } = await leaver();
    const leave = sealLeave(crypto, member, keys, NOW, false);
    expect(openLeave(crypto, gcks, leave.octets, find, leave.t)).toEqual({ verdict: "rejected" });
    const twice = [keys[0] as (typeof keys)[number], heldGroupKey(crypto, RED, { dataKey: { mki: 3, key: octets("tek") } })];
    const doubled = sealLeave(crypto, member, twice, NOW, false);
    expect(openLeave(crypto, gcks, doubled.octets, () => new Uint8Array(32))).toEqual({ verdict: "rejected" });
    expect(sealLeave(crypto, member, keys, new Uint8Array(8), false).t).toBe(member.t + 1n);
  });

  it("is not reflected, nor taken from another registration", async () => {
    const one = await leaver();
    const other = await leaver();
    const leave = sealLeave(crypto, one.member, one.keys, NOW, true);
    expect(openLeave(crypto, one.member, leave.octets, one.find)).toEqual({ verdict: "rejected" });
    expect(openLeave(crypto, other.gcks, leave.octets, other.find)).toEqual({ verdict: "rejected" });
  });
});
