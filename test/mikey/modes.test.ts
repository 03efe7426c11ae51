import { describe, expect, it } from "vitest";
import { formatHex, utf8 } from "../../src/bytes/index.js";
import type { CryptoProvider } from "../../src/crypto/index.js";
import {
  CacheIndicator,
  type Csb,
  DhGroup,
  decodeMessage,
  ErrorNo,
  type Identity,
  IdType,
  MikeyPeerError,
  type MikeyPolicy,
  MODES,
  type PublicKeyCredential,
  payloadOf,
  RFC_3830_ALGORITHMS,
  srtpMasterKeys,
  updateModeOf,
  wipeCsb,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { backends } from "./crypto-backends.js";
import { accepted, codeOf, policies, refusal } from "./exchange-fixture.js";
import {
  ALICE,
  BOB,
  caseNamed,
  credentialOf,
  HELLO,
  keyPair,
  keysOf,
  MODE_CASES,
  type ModeCase,
  modePair,
  modeRequest,
  partyOf,
  verifier,
} from "./mode-fixture.js";

const cases = MODE_CASES.map((row) => [row.title, row] as const);
const DH = caseNamed("DH");
const PK = caseNamed("PK, envelope key cached");
const RSA_R = caseNamed("RSA-R, envelope key cached");
const DHHMAC = caseNamed("DHHMAC");

const kindsOf = (octets: Uint8Array): string =>
  decodeMessage(octets)
    .payloads.map(({ kind }) => kind)
    .join(" ");

/** Both sides derive the same keys for every session, and there are some. */
function sameKeys(crypto: CryptoProvider, a: Csb, b: Csb): void {
  expect(a.cryptoSessions).toEqual(b.cryptoSessions);
  expect(a.cryptoSessions.length).toBeGreaterThan(0);
  for (const { csId } of a.cryptoSessions) {
    const keys = srtpMasterKeys(crypto, a, csId);
    expect(keys).toEqual(srtpMasterKeys(crypto, b, csId));
    expect(keys).toHaveLength(1);
  }
}

async function established(row: ModeCase, crypto: CryptoProvider = nodeCrypto) {
  const both = modePair(row, crypto);
  const pending = await both.initiator.begin(modeRequest(crypto, row));
  const result = await accepted(both.responder.receive(pending.octets, { ssrcFor: () => 7 }));
  return { ...both, pending, own: await pending.complete(result.response as Uint8Array), theirs: result.csb };
}

describe.each(backends)("on %s", (_, crypto) => {
  it.each(cases)("%s: an exchange and three updates", async (_title, row) => {
    const { initiator, responder, pending, own, theirs } = await established(row, crypto);
    sameKeys(crypto, own, theirs);
    expect(own.cryptoSessions.map(({ ssrc }) => ssrc)).toEqual([0xcafebabe, 7]);
    expect(pending.csb.keys.length).toBe(MODES[row.mode].keys === "initiator" ? 1 : 0);
    for (const side of [own, theirs]) {
      expect(side).toMatchObject({
        mode: row.mode,
        peerAuthenticated: true,
        nullKeyed: false,
        initiatorId: ALICE,
        responderId: BOB,
      });
    }
    let [a, b] = [own, theirs];
    for (let spi = 2; spi <= 4; spi++) {
      const mode = updateModeOf(a);
      const update = await initiator.update(a, mode.keys === "responder" ? {} : { keys: keysOf(mode.name, spi) });
      expect(kindsOf(update.octets)).not.toContain("RAND");
      const keys = () => [{ kind: "TGK" as const, spi: Uint8Array.of(0, 0, 0, spi) }];
      const result = await accepted(responder.receive(update.octets, { csb: b, keys }));
      expect(result.kind).toBe("update");
      const before = srtpMasterKeys(crypto, a, 1)[0]?.key;
      [a, b] = [await update.complete(result.response as Uint8Array), result.csb];
      sameKeys(crypto, a, b);
      expect(srtpMasterKeys(crypto, a, 1)[0]?.key).not.toEqual(before);
      expect([a.csbId, formatHex(a.rand), a.mode, a.exchange]).toEqual([own.csbId, formatHex(own.rand), own.mode, own.exchange]);
    }
  });
});

describe("messages", () => {
  it.each([
    ["PK, envelope key cached", "T RAND ID CERT ID SP KEMAC CHASH PKE SIGN", "T ID V"],
    ["PK signed with Ed25519", "T RAND ID CERT CERT ID SP EXT KEMAC CHASH PKE SIGNX", "T ID V"],
    ["DH", "T RAND ID CERT ID SP DH SIGN", "T ID CERT ID DH DH SIGN"],
    ["DH over P-256, signed with ECDSA", "T RAND ID CERT ID SP EXT DH SIGNX", "T ID CERT ID DH DH SIGNX"],
    ["DHHMAC", "T RAND ID ID SP DH KEMAC", "T ID ID DH DH KEMAC"],
    ["RSA-R, envelope key cached", "T RAND ID CERT ID SP SIGN", "T ID CERT SP KEMAC PKE SIGN"],
  ])("%s: %s", async (title, request, response) => {
    const { pending, theirs } = await established(caseNamed(title));
    expect(kindsOf(pending.octets)).toBe(request);
    expect(kindsOf(theirs.exchange.response)).toBe(response);
    expect(decodeMessage(pending.octets).header.verificationRequested).toBe(true);
  });

  it.each([
    ["PK, envelope key cached", 0, "T KEMAC"],
    ["PK, envelope key not cached", 2, "T KEMAC CHASH PKE SIGN"],
    ["DH", 4, "T DH SIGN"],
    ["DHHMAC", 7, "T ID DH KEMAC"],
    ["RSA-R, envelope key cached", 0, "T KEMAC"],
    ["RSA-R, envelope key not cached", 9, "T SIGN"],
  ])("an update of %s has type %i: %s", async (title, dataType, kinds) => {
    const row = caseNamed(title);
    const { initiator, own } = await established(row);
    const mode = updateModeOf(own);
    const { octets } = await initiator.update(own, mode.keys === "responder" ? {} : { keys: keysOf(mode.name, 2) });
    expect([decodeMessage(octets).header.dataType, kindsOf(octets)]).toEqual([dataType, kinds]);
  });

  it.each([["DH"], ["DHHMAC"], ["PK, envelope key not cached"], ["PK, envelope key cached"]])(
    "an update of %s may bring no key: the keys stay (RFC 3830 §4.5)",
    async (title) => {
      const { initiator, responder, own, theirs } = await established(caseNamed(title));
      const change = {
        policies: new Map([[1, { suite: "AEAD_AES_256_GCM" as const }]]),
        cryptoSessions: [{ ssrc: 1, policyNo: 1 }],
      };
      const update = await initiator.update(own, change);
      expect(kindsOf(update.octets)).not.toContain("DH");
      const result = await accepted(responder.receive(update.octets, { csb: theirs }));
      expect(kindsOf(result.response as Uint8Array)).not.toContain("DH");
      const updated = await update.complete(result.response as Uint8Array);
      expect(updated.keys).toEqual(own.keys);
      sameKeys(nodeCrypto, updated, result.csb);
    },
  );

  it("name no identities where they are left out, and DHHMAC the Responder all the same (RFC 4650 §3)", async () => {
    for (const row of [PK, DH, DHHMAC, RSA_R]) {
      const { initiator, responder } = modePair(row, nodeCrypto);
      const pending = await initiator.begin(modeRequest(nodeCrypto, row, { omitIdentities: true }));
      const ids = decodeMessage(pending.octets).payloads.filter(({ kind }) => kind === "ID");
      expect(ids).toEqual(row === DHHMAC ? [expect.objectContaining({ data: BOB.data })] : []);
      const result = await accepted(responder.receive(pending.octets, { peerId: ALICE }));
      const csb = await pending.complete(result.response as Uint8Array);
      sameKeys(nodeCrypto, csb, result.csb);
    }
  });

  it("say who the Initiator is by its certificate alone", async () => {
    for (const row of [PK, DH, RSA_R]) {
      const { initiator, responder } = modePair(row, nodeCrypto);
      const pending = await initiator.begin(modeRequest(nodeCrypto, row, { omitIdentities: true }));
      const { csb, response } = await accepted(responder.receive(pending.octets));
      expect(csb.initiatorId).toEqual(ALICE);
      expect((await pending.complete(response as Uint8Array)).peerAuthenticated).toBe(true);
    }
  });

  it("tell whether the envelope key is kept", async () => {
    for (const [title, cache] of [
      ["PK, envelope key cached", CacheIndicator.CACHE_FOR_CSB],
      ["PK, envelope key not cached", CacheIndicator.NO_CACHE],
    ] as const) {
      const { pending, own, theirs } = await established(caseNamed(title));
      expect(payloadOf(decodeMessage(pending.octets), "PKE")?.cache).toBe(cache);
      expect([own.envelope?.cached, theirs.envelope?.cached]).toEqual([cache !== 0, cache !== 0]);
      expect(own.envelope?.key).toEqual(theirs.envelope?.key);
      wipeCsb(own);
      wipeCsb(theirs);
      expect(formatHex(own.envelope?.key as Uint8Array)).toMatch(/^0+$/);
    }
  });
});

describe("RSA-R (RFC 4738)", () => {
  it("leaves RAND to the Responder", async () => {
    const { initiator, responder } = modePair(RSA_R, nodeCrypto);
    const pending = await initiator.begin(modeRequest(nodeCrypto, RSA_R, { rand: "responder" }));
    expect(kindsOf(pending.octets)).not.toContain("RAND");
    const { csb, response } = await accepted(responder.receive(pending.octets));
    expect(kindsOf(response as Uint8Array)).toContain("RAND");
    sameKeys(nodeCrypto, await pending.complete(response as Uint8Array), csb);
    expect(csb.rand).toHaveLength(16);
  });

  it("lets the Responder choose among policies, and an Initiator take nothing else", async () => {
    const { initiator, responder } = modePair(RSA_R, nodeCrypto, {
      responder: { policyAccepted: ({ suite }) => suite === "AEAD_AES_128_GCM" },
    });
    const offered = new Map([
      [0, { suite: "AES_CM_128_HMAC_SHA1_80" as const }],
      [1, { suite: "AEAD_AES_128_GCM" as const }],
    ]);
    const pending = await initiator.begin(modeRequest(nodeCrypto, RSA_R, { policies: offered }));
    const { csb, response } = await accepted(responder.receive(pending.octets));
    const agreed = await pending.complete(response as Uint8Array);
    expect(agreed.cryptoSessions.map(({ policyNo }) => policyNo)).toEqual([1, 1]);
    sameKeys(nodeCrypto, agreed, csb);
    const only = await initiator.begin(modeRequest(nodeCrypto, RSA_R));
    expect(await refusal(responder, only.octets)).toMatchObject({
      code: "mikey.policy-parameter",
      errorNo: ErrorNo.INVALID_SP_PAR,
    });
  });

  it("gives a group's keys to each of its members, with its CSB ID, RAND, policy and sessions", async () => {
    const group = {
      csbId: 0x01020304,
      rand: new Uint8Array(16).fill(9),
      policies: policies("AEAD_AES_128_GCM"),
      cryptoSessions: [{ ssrc: 0x11, roc: 5 }],
      keys: [{ kind: "TGK" as const, value: new Uint8Array(32).map((_, i) => i), spi: Uint8Array.of(0, 0, 0, 9) }],
    };
    const keys = new Set<string>();
    for (let member = 0; member < 2; member++) {
      const { initiator, responder } = modePair(RSA_R, nodeCrypto);
      const request = modeRequest(nodeCrypto, RSA_R, { group: true, policies: new Map(), cryptoSessions: [] });
      const pending = await initiator.begin(request);
      expect(kindsOf(pending.octets)).toBe("T ID CERT ID SIGN");
      const { csb, response } = await accepted(responder.receive(pending.octets, { group }));
      expect(kindsOf(response as Uint8Array)).toBe("EXT T RAND ID CERT SP KEMAC PKE SIGN");
      const agreed = await pending.complete(response as Uint8Array);
      expect([agreed.groupCsbId, agreed.csbId]).toEqual([0x01020304, pending.csb.csbId]);
      expect(agreed.cryptoSessions).toEqual([{ csId: 1, policyNo: 0, ssrc: 0x11, roc: 5 }]);
      // Whoever has the envelope key cached could give the group another key.
      expect(agreed.envelope?.cached).toBe(false);
      sameKeys(nodeCrypto, agreed, csb);
      keys.add(formatHex(srtpMasterKeys(nodeCrypto, agreed, 1)[0]?.key as Uint8Array));
      const again = await initiator.update(agreed, {});
      const next = { ...group, keys: [{ kind: "TGK" as const, spi: Uint8Array.of(0, 0, 0, 10) }] };
      const updated = await accepted(responder.receive(again.octets, { csb, group: next }));
      sameKeys(nodeCrypto, await again.complete(updated.response as Uint8Array), updated.csb);
    }
    expect(keys.size).toBe(1);
  });

  it("takes no group's keys where none were asked for, and none but a group's where they were", async () => {
    const { initiator, responder } = modePair(RSA_R, nodeCrypto);
    const group = { csbId: 1, rand: new Uint8Array(16), policies: policies(), cryptoSessions: [{}], keys: keysOf("PSK", 3) };
    const two = await initiator.begin(modeRequest(nodeCrypto, RSA_R, { policies: new Map(), cryptoSessions: [] }));
    const wrong = await accepted(responder.receive(two.octets, { group }));
    expect(await codeOf(() => two.complete(wrong.response as Uint8Array))).toBe("mikey.response");
    const member = await initiator.begin(modeRequest(nodeCrypto, RSA_R, { group: true, policies: new Map(), cryptoSessions: [] }));
    const plain = await accepted(responder.receive(member.octets));
    expect(await codeOf(() => member.complete(plain.response as Uint8Array))).toBe("mikey.response");
    const offering = await initiator.begin(modeRequest(nodeCrypto, RSA_R));
    expect((await refusal(responder, offering.octets, { group })).code).toBe("mikey.policy");
  });
});

describe("whoever answers", () => {
  const carol: Identity = { idType: IdType.URI, data: utf8("sip:carol@example.org") };

  it.each([
    ["DH", DH],
    ["RSA-R", RSA_R],
  ])("may be somebody else in %s, where nobody is named", async (_, row) => {
    const { initiator, responder } = modePair(row, nodeCrypto);
    const pending = await initiator.begin(anybody(row));
    const { response } = await accepted(responder.receive(pending.octets));
    const csb = await pending.complete(response as Uint8Array);
    expect(csb.responderId).toEqual(BOB);
    expect(csb.peerKey?.identities).toEqual(["sip:bob@example.org"]);
    const picky = await initiator.begin({
      ...anybody(row),
      acceptsResponder: ({ data }) => formatHex(data) !== formatHex(BOB.data),
    });
    const second = await accepted(responder.receive(picky.octets));
    expect(await codeOf(() => picky.complete(second.response as Uint8Array))).toBe("mikey.identity");
  });

  it.each([
    ["DH", DH],
    ["RSA-R", RSA_R],
  ])("is the one that was named, in %s", async (_, row) => {
    const { initiator, responder } = modePair(row, nodeCrypto, { responder: { identity: BOB, isLocalIdentity: () => true } });
    const pending = await initiator.begin(modeRequest(nodeCrypto, row, { responderId: carol }));
    const { response } = await accepted(responder.receive(pending.octets));
    expect(await codeOf(() => pending.complete(response as Uint8Array))).toBe("mikey.authentication");
  });

  function anybody(row: ModeCase) {
    const { responderId: _, ...request } = modeRequest(nodeCrypto, row);
    return request;
  }
});

describe("keys that are known by identity", () => {
  it.each([
    ["PK", PK],
    ["DH", DH],
    ["RSA-R", RSA_R],
    ["DH with Ed25519", caseNamed("DH over X25519, signed with Ed25519")],
  ])("need no certificate in %s", async (_, row) => {
    const known = new Map(
      ([0, 1] as const).map((side) => [formatHex((side === 0 ? ALICE : BOB).data), keyPair(nodeCrypto, row.keys?.[side] as "bob")]),
    );
    const policy: MikeyPolicy = {
      ...row.policy,
      findPublicKey: async (identity) => known.get(formatHex(identity?.data ?? new Uint8Array(0)))?.privateKey.publicKey,
    };
    const bare = (side: 0 | 1) => ({ ...(partyOf(nodeCrypto, row, side).keyPairs[0] as ReturnType<typeof keyPair>), chain: [] });
    const { initiator, responder } = modePair(row, nodeCrypto, {
      initiator: { policy },
      responder: { policy, keyPairs: [bare(1)] },
    });
    const credential = { mode: row.mode as "DH", keyPair: bare(0) };
    const pending = await initiator.begin(modeRequest(nodeCrypto, row, { credential }));
    expect(kindsOf(pending.octets)).not.toContain("CERT");
    const { csb, response } = await accepted(responder.receive(pending.octets));
    sameKeys(nodeCrypto, await pending.complete(response as Uint8Array), csb);
  });
});

describe("policy", () => {
  const refusedWith = async (row: ModeCase, policy: MikeyPolicy, changes = {}) => {
    const certificates = verifier(nodeCrypto);
    const { initiator, responder } = modePair(row, nodeCrypto, {
      responder: { policy: { ...row.policy, certificates, ...policy } },
    });
    const pending = await initiator.begin(modeRequest(nodeCrypto, row, changes));
    const error = await refusal(responder, pending.octets);
    return { error, pending };
  };
  const X25519 = caseNamed("DHHMAC over X25519");

  it.each([
    ["a mode", DH, { modes: ["PK", "PSK"] }, "mikey.data-type", ErrorNo.INVALID_DT, false],
    ["a PRF", DHHMAC, { prfs: [1] }, "mikey.prf", ErrorNo.INVALID_PRF, false],
    ["a MAC", DHHMAC, { macAlgs: [2] }, "mikey.mac-algorithm", ErrorNo.INVALID_MAC, false],
    ["an encryption of keys", PK, { encrAlgs: [3] }, "mikey.encryption-algorithm", ErrorNo.INVALID_EA, true],
    ["a group", DH, { groups: ["x25519"] }, "mikey.group", ErrorNo.INVALID_DH, true],
    ["a suite", DH, { suites: ["AEAD_AES_128_GCM"] }, "mikey.policy-parameter", ErrorNo.INVALID_SP_PAR, true],
    ["a suite, PK", PK, { suites: ["AEAD_AES_128_GCM"] }, "mikey.policy-parameter", ErrorNo.INVALID_SP_PAR, true],
    ["a suite, RSA-R", RSA_R, { suites: ["AEAD_AES_128_GCM"] }, "mikey.policy-parameter", ErrorNo.INVALID_SP_PAR, true],
    ["a signature scheme", DH, { signatureSchemes: ["rsa-pkcs1-sha256"] }, "mikey.authentication", ErrorNo.AUTH_FAILURE, false],
    ["a padding", PK, { encryptionSchemes: ["rsa-oaep-sha256"] }, "mikey.authentication", ErrorNo.AUTH_FAILURE, false],
    ["a short key", DH, { leastRsaBits: 3072 }, "mikey.authentication", ErrorNo.AUTH_FAILURE, false],
  ] as const)("that refuses %s says so", async (_, row, policy, code, errorNo, proven) => {
    const { error, pending } = await refusedWith(row, policy);
    expect([error.code, error.errorNo]).toEqual([code, errorNo]);
    const { payloads } = decodeMessage(error.reply as Uint8Array);
    expect(payloads.find(({ kind }) => kind === "ERR")).toEqual({ kind: "ERR", errorNo, reserved: 0 });
    expect(payloads.some(({ kind }) => kind === "SIGN" || kind === "V")).toBe(proven);
    const caught = await pending.complete(error.reply as Uint8Array).catch((thrown: unknown) => thrown);
    expect(caught).toBeInstanceOf(MikeyPeerError);
    if ("suites" in policy) expect((caught as MikeyPeerError).report.policies).toEqual([{ suite: "AEAD_AES_128_GCM" }]);
  });

  it("of PK refuses under V, which the Initiator verifies; of DH under a signature, which it verifies where it knows the key", async () => {
    const suites = { suites: ["AEAD_AES_128_GCM"] } as const;
    const pk = await refusedWith(PK, suites);
    await expect(pk.pending.complete(pk.error.reply as Uint8Array)).rejects.toMatchObject({ report: { authenticated: true } });
    const dh = await refusedWith(DH, suites);
    await expect(dh.pending.complete(dh.error.reply as Uint8Array)).rejects.toMatchObject({ report: { authenticated: false } });
    const known = modePair(DH, nodeCrypto, {
      initiator: { policy: { findPublicKey: () => keyPair(nodeCrypto, "bob").privateKey.publicKey } },
      responder: { policy: { certificates: verifier(nodeCrypto), ...suites } },
    });
    const pending = await known.initiator.begin(modeRequest(nodeCrypto, DH));
    const { reply } = await refusal(known.responder, pending.octets);
    await expect(pending.complete(reply as Uint8Array)).rejects.toMatchObject({ report: { authenticated: true } });
    const last = (reply as Uint8Array).length - 1;
    expect(
      await codeOf(() => pending.complete((reply as Uint8Array).with(last, ((reply as Uint8Array)[last] as number) ^ 1))),
    ).toBe("mikey.authentication");
  });

  it("refuses numbers of docs/protocol.md without HELLO, whatever it lists", async () => {
    const { responder, initiator } = modePair(X25519, nodeCrypto);
    expect(await codeOf(() => initiator.begin(modeRequest(nodeCrypto, X25519, { extensions: [] })))).toBe("mikey.option");
    const unnamed = { ...HELLO, extType: 0 };
    expect(await codeOf(() => initiator.begin(modeRequest(nodeCrypto, X25519, { extensions: [unnamed] })))).toBe("mikey.option");
    const older = { ...HELLO, data: HELLO.data.with(0, 2) };
    expect(await codeOf(() => initiator.begin(modeRequest(nodeCrypto, X25519, { extensions: [older] })))).toBe("mikey.option");
    const signed = caseNamed("DH over P-256, signed with ECDSA");
    const pair = modePair(signed, nodeCrypto);
    expect(await codeOf(() => pair.initiator.begin(modeRequest(nodeCrypto, signed, { extensions: [] })))).toBe("mikey.option");
    expect(responder).toBeDefined();
  });

  it("takes the first that both the key and the announcement allow", async () => {
    const policy: MikeyPolicy = { certificates: verifier(nodeCrypto), groups: ["x25519", "modp1536"], macAlgs: [2, 1] };
    const { initiator } = modePair(DHHMAC, nodeCrypto, { initiator: { policy } });
    const groups = [];
    for (const extensions of [[], [HELLO]]) {
      const { octets } = await initiator.begin(modeRequest(nodeCrypto, DHHMAC, { extensions }));
      const message = decodeMessage(octets);
      groups.push([payloadOf(message, "DH")?.group, payloadOf(message, "KEMAC")?.macAlg]);
    }
    expect(groups).toEqual([
      [DhGroup.OAKLEY_5, 1],
      [DhGroup.X25519, 2],
    ]);
  });

  it.each([
    ["an empty list", { groups: [] }],
    ["OAKLEY group 1", { groups: ["modp768"] }],
    ["OAKLEY group 2", { groups: ["modp1536", "modp1024"] }],
  ] as const)("with %s is none", (_, policy) => {
    expect(() => modePair(DH, nodeCrypto, { initiator: { policy } })).toThrow(expect.objectContaining({ code: "mikey.option" }));
  });

  it("tells its owner why, and the peer nothing", async () => {
    const reasons: string[] = [];
    const onRefusal = (reason: string): void => void reasons.push(reason);
    await refusedWith(DH, { onRefusal, leastRsaBits: 3072 });
    await refusedWith(DH, { onRefusal, signatureSchemes: ["rsa-pkcs1-sha256"] });
    const { responder, initiator } = modePair(DH, nodeCrypto, { responder: { policy: { onRefusal } } });
    await refusal(responder, (await initiator.begin(modeRequest(nodeCrypto, DH))).octets);
    expect(reasons).toEqual([
      "an RSA key of 2048 bits, at least 3072 are accepted",
      "the signature is wrong, or of a scheme that is not acceptable",
      "there are certificates, and no verifier for them",
    ]);
  });

  it("may take SHA-1 and PKCS #1 v1.5 from who knows no more", async () => {
    const row: ModeCase = {
      title: "",
      mode: "PK",
      keys: ["alice", "bob"],
      policy: { ...RFC_3830_ALGORITHMS, signatureSchemes: ["rsa-pkcs1-sha1"] },
    };
    const { own, theirs } = await established(row);
    sameKeys(nodeCrypto, own, theirs);
    const modern = modePair(PK, nodeCrypto);
    const pending = await modePair(row, nodeCrypto).initiator.begin(modeRequest(nodeCrypto, row));
    expect((await refusal(modern.responder, pending.octets)).code).toBe("mikey.authentication");
  });
});

describe("options", () => {
  it.each([
    ["a group of keys in mode DH", DH, { group: true, policies: new Map() }],
    ["a policy for a group's keys", RSA_R, { group: true }],
    ["keys in RSA-R", RSA_R, { keys: keysOf("PSK", 1) }],
    ["no key in PK", PK, { keys: [] }],
    ["two keys of one agreement", DH, { keys: [...keysOf("DH", 1), ...keysOf("DH", 2)] }],
    ["the value of an agreed key", DH, { keys: [{ kind: "TGK", value: new Uint8Array(32) }] }],
    ["RAND of the Responder in DH", DH, { rand: "responder" }],
    ["no answer in DH", DH, { requestResponse: false }],
    ["no identity of ours in PK", PK, { initiatorId: undefined, responderId: undefined }],
    ["no identity of the Responder in DHHMAC", DHHMAC, { responderId: undefined }],
  ] as const)("%s are refused", async (_, row, changes) => {
    const { initiator } = modePair(row, nodeCrypto);
    const request = Object.fromEntries(
      Object.entries({ ...modeRequest(nodeCrypto, row), ...changes }).filter(([, value]) => value !== undefined),
    ) as unknown as Parameters<typeof initiator.begin>[0];
    expect(await codeOf(() => initiator.begin(request))).toBe("mikey.option");
  });

  it.each([
    ["how it signs", DH, { signatureScheme: "rsa-pkcs1-sha256" }, { signatureSchemes: ["rsa-pkcs1-sha256"] }],
    ["how an envelope key is encrypted", PK, { encryptionScheme: "rsa-pkcs1" }, { encryptionSchemes: ["rsa-pkcs1"] }],
  ] as const)("a credential that says %s goes before the policy", async (_, row, choice, acceptable) => {
    const policy = { ...partyOf(nodeCrypto, row, 1).policy, ...acceptable };
    const { initiator, responder } = modePair(row, nodeCrypto, { responder: { policy } });
    const plain = await initiator.begin(modeRequest(nodeCrypto, row));
    expect((await refusal(responder, plain.octets)).code).toBe("mikey.authentication");
    const credential = { ...(credentialOf(nodeCrypto, row) as PublicKeyCredential), ...choice };
    const pending = await initiator.begin(modeRequest(nodeCrypto, row, { credential }));
    await accepted(responder.receive(pending.octets));
    const curve = { ...credential, signatureScheme: "ed25519" } as const;
    expect(await codeOf(() => initiator.begin(modeRequest(nodeCrypto, row, { credential: curve })))).toBe("mikey.option");
  });

  it("PK needs a good RSA key of the Responder", async () => {
    const { initiator } = modePair(PK, nodeCrypto);
    const own = keyPair(nodeCrypto, "alice");
    const wrong = [
      { mode: "PK" as const, keyPair: own },
      { mode: "PK" as const, keyPair: own, peer: { chain: own.chain } },
      { mode: "PK" as const, keyPair: own, peer: { chain: keyPair(nodeCrypto, "bob-ed25519").chain } },
      { mode: "PK" as const, keyPair: own, peer: { publicKey: keyPair(nodeCrypto, "bob-p256").privateKey.publicKey } },
    ];
    for (const credential of wrong) {
      expect(await codeOf(() => initiator.begin(modeRequest(nodeCrypto, PK, { credential })))).toBe("mikey.certificate");
    }
    const credential = { mode: "PK" as const, keyPair: own, peer: { publicKey: keyPair(nodeCrypto, "bob").privateKey.publicKey } };
    expect((await initiator.begin(modeRequest(nodeCrypto, PK, { credential }))).octets.length).toBeGreaterThan(500);
  });

  it("CHASH finds the key among several", async () => {
    const row = caseNamed("PK signed with Ed25519");
    const both = modePair(row, nodeCrypto, {
      responder: { keyPairs: [keyPair(nodeCrypto, "bob-p256"), keyPair(nodeCrypto, "alice"), keyPair(nodeCrypto, "bob")] },
    });
    const { octets } = await both.initiator.begin(modeRequest(nodeCrypto, row));
    expect((await both.responder.receive(octets)).kind).toBe("new");
    const without = modePair(row, nodeCrypto, { responder: { keyPairs: [keyPair(nodeCrypto, "alice")] } });
    const error = await refusal(without.responder, (await without.initiator.begin(modeRequest(nodeCrypto, row))).octets);
    expect([error.code, error.errorNo]).toEqual(["mikey.certificate", ErrorNo.INVALID_CERT]);
  });
});
