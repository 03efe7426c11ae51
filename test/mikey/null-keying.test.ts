import { describe, expect, it } from "vitest";
import { formatHex, parseHex, utf8 } from "../../src/bytes/index.js";
import {
  type BeginRequest,
  createInitiator,
  createResponder,
  decodeMessage,
  encodeMessage,
  type Payload,
  type ResponderOptions,
  srtpMasterKeys,
  TOLERANCES,
  type ToleranceName,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { accepted, codeOf, NOW, pair, policies, refusal, request } from "./exchange-fixture.js";

const clock = { now: () => NOW };
const initiator = createInitiator({ crypto: nodeCrypto, clock });
const TEK = parseHex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d");

function begin(changes: Partial<BeginRequest> = {}) {
  return initiator.begin({
    credential: { nullKeying: true },
    secure: true,
    cryptoSessions: [{ ssrc: 0xcafebabe }],
    policies: policies(),
    keys: [{ kind: "TEK", value: TEK, spi: Uint8Array.of(0, 0, 0, 1) }],
    ...changes,
  });
}

function responder(tolerances: readonly ToleranceName[] = ["concatenated-key-and-salt"], options: Partial<ResponderOptions> = {}) {
  return createResponder({ crypto: nodeCrypto, clock, findCredential: () => undefined, tolerances, ...options });
}

function changed(octets: Uint8Array, change: (payloads: readonly Payload[]) => readonly Payload[]): Uint8Array {
  const { header, payloads } = decodeMessage(octets);
  return encodeMessage({ header, payloads: change(payloads) });
}

const without =
  (kind: Payload["kind"]) =>
  (payloads: readonly Payload[]): readonly Payload[] =>
    payloads.filter((payload) => payload.kind !== kind);

const secure = { secure: true };

describe("a NULL-keyed message", () => {
  it("is HDR, T, RAND, SP, KEMAC and carries one key in the clear", async () => {
    const { octets, csb, responseRequested } = await begin();
    const message = decodeMessage(octets);
    expect(message.payloads.map(({ kind }) => kind)).toEqual(["T", "RAND", "SP", "KEMAC"]);
    expect(message.payloads.at(-1)).toEqual({
      kind: "KEMAC",
      encrAlg: 0,
      encrData: parseHex(`0021001e${formatHex(TEK)}0400000001`),
      macAlg: 0,
      mac: new Uint8Array(0),
    });
    expect([csb.nullKeyed, csb.peerAuthenticated, responseRequested]).toEqual([true, false, false]);
  });

  it("gives key and salt, and reports the reading of the TEK", async () => {
    const result = await accepted(responder().receive((await begin()).octets, secure));
    expect(srtpMasterKeys(nodeCrypto, result.csb, 1)).toEqual([
      { key: TEK.subarray(0, 16), salt: TEK.subarray(16), mki: Uint8Array.of(0, 0, 0, 1) },
    ]);
    expect(result).toMatchObject({ response: undefined, claim: undefined, csb: { nullKeyed: true, peerAuthenticated: false } });
    expect(result.csb.tolerances).toEqual(["concatenated-key-and-salt"]);
  });

  it.each([
    ["AES_CM_128_HMAC_SHA1_80", 30],
    ["AES_192_CM_HMAC_SHA1_80", 38],
    ["AES_256_CM_HMAC_SHA1_80", 46],
    ["AEAD_AES_128_GCM", 28],
    ["AEAD_AES_256_GCM", 44],
  ] as const)("for %s has %i octets of key and salt in one", async (suite, length) => {
    const { octets, csb } = await begin({ policies: policies(suite), keys: [{ kind: "TEK" }], spDialect: "gstreamer" });
    expect(csb.keys[0]?.key).toHaveLength(length);
    const result = await accepted(
      responder(["concatenated-key-and-salt", "tag-length-in-auth-key-length"]).receive(octets, secure),
    );
    expect(srtpMasterKeys(nodeCrypto, result.csb, 1)).toEqual(srtpMasterKeys(nodeCrypto, csb, 1));
    expect(result.csb.policies.get(0)).toEqual({ suite });
  });

  it("with separate key and salt needs no tolerance", async () => {
    const { octets } = await begin({ policies: policies("AEAD_AES_256_GCM"), keys: [{ kind: "TEK+SALT" }], spDialect: "onvif" });
    expect((await accepted(responder([]).receive(octets, secure))).csb.tolerances).toEqual([]);
  });

  it("with a TGK derives like any other", async () => {
    const { octets, csb } = await begin({ keys: [{ kind: "TGK" }] });
    const result = await accepted(responder([]).receive(octets, secure));
    expect(srtpMasterKeys(nodeCrypto, result.csb, 1)).toEqual(srtpMasterKeys(nodeCrypto, csb, 1));
    const bare = changed(octets, without("RAND"));
    expect((await refusal(responder(["rand-absent"]), bare, secure)).code).toBe("mikey.key-data");
  });

  it("is not remembered: it may come again, and another may have its timestamp", async () => {
    const { responder: caching } = pair({ tolerances: ["concatenated-key-and-salt"] });
    const { octets } = await begin();
    expect((await caching.receive(octets, secure)).kind).toBe("new");
    expect((await caching.receive(octets, secure)).kind).toBe("new");
  });
});

describe("NULL keying is refused", () => {
  it("outside TLS, both ways, unless it is allowed by name", async () => {
    expect(await codeOf(() => begin({ secure: false }))).toBe("mikey.null-keying");
    const { octets } = await begin();
    expect((await refusal(responder(), octets)).code).toBe("mikey.null-keying");
    expect((await refusal(responder(), octets)).errorNo).toBe(4);
    expect((await accepted(responder(undefined, { allowNullKeying: true }).receive(octets))).csb.nullKeyed).toBe(true);
    const open = createInitiator({ crypto: nodeCrypto, clock, allowNullKeying: true });
    expect(
      (
        await open.begin({
          credential: { nullKeying: true },
          cryptoSessions: [{ ssrc: 1 }],
          policies: policies(),
          keys: [{ kind: "TEK" }],
        })
      ).csb.nullKeyed,
    ).toBe(true);
  });

  it("where a pre-shared key is required, whatever else is allowed", async () => {
    const { octets } = await begin();
    const all = Object.keys(TOLERANCES) as ToleranceName[];
    expect((await refusal(responder(all, { allowNullKeying: true }), octets, { secure: true, requirePsk: true })).code).toBe(
      "mikey.null-keying",
    );
  });

  it("as the update of a bundle with a pre-shared key", async () => {
    const { initiator: alice, responder: bob } = pair();
    const pending = await alice.begin(request());
    const { csb } = await accepted(bob.receive(pending.octets));
    const octets = changed((await begin({ csbId: csb.csbId, secure: true })).octets, without("RAND"));
    expect((await refusal(bob, octets, { secure: true, csb })).code).toBe("mikey.grammar");
    expect(await refusal(bob, octets, { secure: true, csb, requirePsk: true })).toBeDefined();
  });

  it("with a request for verification that it cannot have", async () => {
    expect(await codeOf(() => begin({ requestResponse: true }))).toBe("mikey.option");
  });
});

describe("each tolerance is off unless named, works when named, and is reported", async () => {
  const needs = (octets: Uint8Array, context = {}) => ({ octets, context });
  const flagged = (await begin()).octets;
  flagged[3] = 0x80;
  const cases: readonly (readonly [ToleranceName, { octets: Uint8Array; context: object }, string])[] = [
    ["rand-absent", needs(changed((await begin()).octets, without("RAND"))), "mikey.grammar"],
    [
      "timestamp-unchecked",
      needs(
        changed((await begin()).octets, (all) =>
          all.map((p) => (p.kind === "T" ? { ...p, value: parseHex("01d38e19cef95c3d") } : p)),
        ),
      ),
      "mikey.timestamp",
    ],
    ["tag-length-in-auth-key-length", needs((await begin({ spDialect: "gstreamer" })).octets), "mikey.policy-parameter"],
    ["concatenated-key-and-salt", needs((await begin()).octets), "mikey.key-data"],
    ["mki-length", needs((await begin({ keys: [{ kind: "TEK", spi: Uint8Array.of(1) }] })).octets), "mikey.key-data"],
    [
      "empty-spi",
      needs(
        changed((await begin()).octets, (all) =>
          all.map((p) => (p.kind === "KEMAC" ? { ...p, encrData: parseHex(`0021001e${formatHex(TEK)}00`) } : p)),
        ),
      ),
      "mikey.key-data",
    ],
    ["trailing-zero", needs(Uint8Array.of(...(await begin()).octets, 0)), "bytes.trailing"],
    ["v-flag-without-meaning", needs(flagged), "mikey.v-flag"],
    ["ssrc-zero-or-random", needs((await begin({ cryptoSessions: [{}] })).octets), "mikey.cs-map"],
    ["several-cs-one-policy", needs((await begin({ cryptoSessions: [{ ssrc: 1 }, { ssrc: 2 }] })).octets), "mikey.cs-map"],
  ];
  // The reading of a bare TEK is needed by most of them and has a case of its own.
  const others = (name: ToleranceName): ToleranceName[] =>
    name === "concatenated-key-and-salt" ? [] : ["concatenated-key-and-salt"];

  it.each(cases)("%s", async (name, { octets, context }, code) => {
    expect(await codeOf(() => responder(others(name)).receive(octets, { secure: true, ...context }))).toBe(code);
    const { csb } = await accepted(responder([...others(name), name]).receive(octets, { secure: true, ...context }));
    expect(csb.tolerances).toContain(name);
    expect([...csb.tolerances].sort()).toEqual([...new Set([...others(name), name])].sort());
    expect(srtpMasterKeys(nodeCrypto, csb, 1)[0]?.key).toHaveLength(16);
  });

  it("short-srtcp-tag changes what is agreed instead of being refused", async () => {
    const { octets } = await begin({ policies: policies("AES_CM_128_HMAC_SHA1_32") });
    const plain = (await accepted(responder().receive(octets, secure))).csb;
    expect([plain.policies.get(0), plain.tolerances]).toEqual([
      { suite: "AES_CM_128_HMAC_SHA1_32" },
      ["concatenated-key-and-salt"],
    ]);
    const short = (await accepted(responder(["short-srtcp-tag", "concatenated-key-and-salt"]).receive(octets, secure))).csb;
    expect(short.policies.get(0)).toEqual({ suite: "AES_CM_128_HMAC_SHA1_32", rtcpTagLength: 4 });
    expect(short.tolerances).toContain("short-srtcp-tag");
  });

  it("rekey-under-new-csb takes a message of its own in the place of an update, with the policy that it leaves out", async () => {
    const both: readonly ToleranceName[] = ["concatenated-key-and-salt", "rekey-under-new-csb"];
    const { csb } = await accepted(responder().receive((await begin()).octets, secure));
    const other = (await begin({ csbId: (csb.csbId + 1) >>> 0 })).octets;
    const bare = changed(other, (all) => without("SP")(without("RAND")(all)));
    expect((await responder().receive(other, { ...secure, csb })).kind).toBe("new");
    expect(await codeOf(() => responder().receive(bare, { ...secure, csb }))).toBe("mikey.grammar");
    for (const octets of [other, bare]) {
      const received = await responder(both).receive(octets, { ...secure, csb });
      if (received.kind === "repeated") throw new Error("repeated");
      expect([received.kind, received.csb.csbId, received.csb.tolerances]).toEqual(["update", (csb.csbId + 1) >>> 0, both]);
      expect(received.csb.policies).toEqual(csb.policies);
    }
    // Without a bundle that it could follow, the policy is missing.
    expect(await codeOf(() => responder([...both, "rand-absent"]).receive(bare, secure))).toBe("mikey.policy");
  });

  it("none of them helps a message that a pre-shared key protects", async () => {
    const all = Object.keys(TOLERANCES) as ToleranceName[];
    const { initiator: alice, responder: bob } = pair({ tolerances: all });
    const { octets } = await alice.begin(request());
    expect(await codeOf(() => bob.receive(changed(octets, without("RAND")), secure))).toBe("mikey.unknown-csb");
    expect(await codeOf(() => bob.receive(Uint8Array.of(...octets, 0), secure))).toBe("mikey.grammar");
    const late = (await createInitiator({ crypto: nodeCrypto, clock: { now: () => NOW - 86_400_000 } }).begin(request())).octets;
    expect(await codeOf(() => bob.receive(late, secure))).toBe("mikey.timestamp");
  });

  it("timestamp-unchecked takes a COUNTER too", async () => {
    const octets = changed((await begin()).octets, (list) =>
      list.map((p) => (p.kind === "T" ? { ...p, tsType: 2, value: Uint8Array.of(0, 0, 0, 9) } : p)),
    );
    expect(await codeOf(() => responder().receive(octets, secure))).toBe("mikey.timestamp");
    const { csb } = await accepted(responder(["timestamp-unchecked", "concatenated-key-and-salt"]).receive(octets, secure));
    expect(csb.tolerances).toContain("timestamp-unchecked");
  });

  it("two zeros, or something else, are no trailing zero", async () => {
    const lenient = responder(["trailing-zero", "concatenated-key-and-salt"]);
    expect(await codeOf(async () => lenient.receive(Uint8Array.of(...(await begin()).octets, 0, 0), secure))).toBe("mikey.grammar");
    expect(await codeOf(async () => lenient.receive(Uint8Array.of(...(await begin()).octets, 1), secure))).toBe("mikey.grammar");
  });
});

describe("what would mean plaintext or guesswork is refused with every tolerance", async () => {
  const all = Object.keys(TOLERANCES) as ToleranceName[];
  const cases: readonly (readonly [string, Uint8Array, string])[] = [
    ["no policy", changed((await begin()).octets, without("SP")), "mikey.policy"],
    [
      "an empty policy",
      changed((await begin()).octets, (list) => list.map((p) => (p.kind === "SP" ? { ...p, params: [] } : p))),
      "mikey.policy",
    ],
    [
      "an empty KEMAC",
      changed((await begin()).octets, (list) => list.map((p) => (p.kind === "KEMAC" ? { ...p, encrData: new Uint8Array(0) } : p))),
      "mikey.empty-kemac",
    ],
    ["version 2", (await begin()).octets.with(0, 2), "mikey.version"],
    ["an unknown PRF", (await begin()).octets.with(3, 0x55), "mikey.prf"],
    ["no crypto session", (await begin({ cryptoSessions: [] })).octets, "mikey.cs-map"],
    [
      "an Empty map",
      (await begin({ mapType: 1, policies: new Map(), keys: [{ kind: "TEK", value: TEK }] })).octets,
      "mikey.policy",
    ],
    ["no time", changed((await begin()).octets, without("T")), "mikey.grammar"],
    [
      "encryption switched off",
      (await begin({ policies: new Map([[0, { suite: "AES_CM_128_HMAC_SHA1_80", encryptRtp: false }]]) })).octets,
      "mikey.policy-parameter",
    ],
    [
      "SRTCP encryption switched off",
      (await begin({ policies: new Map([[0, { suite: "AES_CM_128_HMAC_SHA1_80", encryptRtcp: false }]]) })).octets,
      "mikey.policy-parameter",
    ],
    ["the NULL cipher", (await begin({ policies: policies("NULL_HMAC_SHA1_80") })).octets, "mikey.policy-parameter"],
    [
      "a foreign policy number",
      changed((await begin()).octets, (list) => list.map((p) => (p.kind === "SP" ? { ...p, policyNo: 3 } : p))),
      "mikey.policy",
    ],
    [
      "an unreadable key chain",
      changed((await begin()).octets, (list) => list.map((p) => (p.kind === "KEMAC" ? { ...p, encrData: utf8("??") } : p))),
      "mikey.key-data",
    ],
  ];

  it.each(cases)("%s", async (_name, octets, code) => {
    expect(await codeOf(() => responder(all, { allowNullKeying: true }).receive(octets, secure))).toBe(code);
  });

  it("a policy that is refused by name", async () => {
    const picky = responder(all, { policyAccepted: ({ suite }) => suite !== "AES_CM_128_HMAC_SHA1_80" });
    expect((await refusal(picky, (await begin()).octets, secure)).code).toBe("mikey.policy-parameter");
  });
});

describe("rekeying without RAND", () => {
  it("updates the bundle of the context under its CSB ID", async () => {
    const first = await begin();
    const lenient = responder(["concatenated-key-and-salt"]);
    const { csb } = await accepted(lenient.receive(first.octets, secure));
    const update = await initiator.update(first.csb, { keys: [{ kind: "TEK", spi: Uint8Array.of(0, 0, 0, 2) }] });
    expect(decodeMessage(update.octets).payloads.map(({ kind }) => kind)).toEqual(["T", "KEMAC"]);
    const result = await accepted(lenient.receive(update.octets, { secure: true, csb }));
    expect(result.kind).toBe("update");
    expect(srtpMasterKeys(nodeCrypto, result.csb, 1)).toEqual(srtpMasterKeys(nodeCrypto, update.csb, 1));
    expect((await refusal(lenient, update.octets, { secure: true, csb: result.csb })).code).toBe("mikey.replay");
  });
});
