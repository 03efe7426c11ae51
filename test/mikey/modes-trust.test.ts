import { describe, expect, it } from "vitest";
import { utf8 } from "../../src/bytes/index.js";
import type { CryptoProvider, EncryptionScheme, PrivateKey, PublicKey, SignatureScheme } from "../../src/crypto/index.js";
import { createCertificateVerifier, issueCertificate } from "../../src/crypto/x509/index.js";
import {
  CsMapType,
  createReplayCache,
  DataType,
  decodeMessage,
  deriveMessageKeys,
  EncrAlg,
  ErrorNo,
  encodeSigned,
  encodeSignedErrorMessage,
  encodeWithMac,
  type Identity,
  IdType,
  type KeyPairCredential,
  MacAlg,
  MikeyPeerError,
  type Payload,
  type PublicKeyCredential,
  type ReplayCache,
  verificationSuffix,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { accepted, codeOf, NOW, PSK, policies, refusal } from "./exchange-fixture.js";
import {
  ALICE,
  BOB,
  credentialOf,
  keyPair,
  keysOf,
  MODE_CASES,
  type ModeCase,
  modePair,
  modeRequest,
  resigned,
  verifier,
} from "./mode-fixture.js";

const rowOf = (title: string): ModeCase => MODE_CASES.find((row) => row.title === title) as ModeCase;
const DH = rowOf("DH");
const PK = rowOf("PK, envelope key cached");
const RSA_R = rowOf("RSA-R, envelope key cached");
const DHHMAC = rowOf("DHHMAC");

const DAY = 86_400_000;
const CAROL: Identity = { idType: IdType.URI, data: utf8("sip:carol@example.org") };

/** A key pair that counts what it is asked, and shows what it decrypted. */
function watched(pair: KeyPairCredential) {
  const key = pair.privateKey as PrivateKey;
  const seen = { signed: 0, decrypted: [] as Uint8Array[] };
  const privateKey: PrivateKey = {
    publicKey: key.publicKey,
    signatureSchemes: key.signatureSchemes,
    encryptionSchemes: key.encryptionSchemes,
    async sign(...parameters: Parameters<PrivateKey["sign"]>) {
      seen.signed++;
      return key.sign(...parameters);
    },
    async decrypt(scheme: EncryptionScheme, ciphertext: Uint8Array, octets: number) {
      const plaintext = await key.decrypt(scheme, ciphertext, octets);
      seen.decrypted.push(plaintext);
      return plaintext;
    },
  };
  return { pair: { ...pair, privateKey }, seen };
}

const isWiped = (octets: Uint8Array): boolean => octets.every((octet) => octet === 0);

interface Authority {
  readonly key: PrivateKey;
  readonly root: Uint8Array;
}

async function makeAuthority(): Promise<Authority> {
  const key = nodeCrypto.importPrivateKey((await nodeCrypto.generateKeyPair("ec-p256")).pkcs8);
  const root = await issueCertificate({
    commonName: "root",
    publicKey: key.publicKey,
    issuer: key,
    notBefore: NOW - DAY,
    notAfter: NOW + 30 * DAY,
    authority: {},
  });
  return { key, root };
}

const authority = await makeAuthority();

/** A certificate of one of the keys, as wanted. */
async function certified(
  name: "alice" | "bob",
  content: Partial<Parameters<typeof issueCertificate>[0]>,
): Promise<KeyPairCredential> {
  const { privateKey } = keyPair(nodeCrypto, name);
  const certificate = await issueCertificate({
    commonName: name,
    publicKey: privateKey.publicKey,
    issuer: { certificate: authority.root, signer: authority.key },
    notBefore: NOW - DAY,
    notAfter: NOW + DAY,
    uris: [`sip:${name}@example.org`],
    ...content,
  });
  return { privateKey, chain: [certificate] };
}

const certificates = createCertificateVerifier({ roots: [authority.root] });

describe("who answers in mode PK", () => {
  it("is whom the certificate names that the keys were encrypted for, whatever it calls itself", async () => {
    const { responderId: _, ...anybody } = modeRequest(nodeCrypto, PK);
    for (const [identity, code] of [
      [CAROL, "mikey.authentication"],
      [BOB, undefined],
    ] as const) {
      const { initiator, responder } = modePair(PK, nodeCrypto, { responder: { identity } });
      const pending = await initiator.begin(anybody);
      const { response } = await accepted(responder.receive(pending.octets));
      expect(await codeOf(() => pending.complete(response as Uint8Array))).toBe(code);
    }
  });
});

describe("who asks in mode PK", () => {
  it("cannot pass on the keys of somebody who is known by identity, under its own certificate", async () => {
    const alice = keyPair(nodeCrypto, "alice").privateKey.publicKey;
    const findPublicKey = (identity: Identity | undefined): PublicKey | undefined =>
      identity?.data.join() === ALICE.data.join() ? alice : undefined;
    const mallory = await certified("bob", { uris: ["sip:mallory@example.org"] });
    const { initiator, responder } = modePair(PK, nodeCrypto, { responder: { policy: { certificates, findPublicKey } } });
    const { octets } = await initiator.begin(modeRequest(nodeCrypto, PK));
    const [certificate] = mallory.chain as [Uint8Array];
    const asMallory = await resigned(octets, mallory, (payload) => {
      if (payload.kind === "ID") return undefined;
      return payload.kind === "CERT" ? { ...payload, data: certificate } : payload;
    });
    expect((await refusal(responder, asMallory)).code).toBe("mikey.authentication");
    expect((await responder.receive(octets)).kind).toBe("new");
  });

  it("is whom the envelope names, where only a certificate of several names says it", async () => {
    const pair = await certified("alice", { uris: ["sip:office@example.org", "sip:alice@example.org"] });
    const { initiator, responder } = modePair(PK, nodeCrypto, { responder: { policy: { certificates } } });
    const credential = { ...(credentialOf(nodeCrypto, PK) as { mode: "PK" }), keyPair: pair };
    const pending = await initiator.begin(modeRequest(nodeCrypto, PK, { credential, omitIdentities: true }));
    const { csb, response } = await accepted(responder.receive(pending.octets));
    expect(csb.initiatorId).toEqual(ALICE);
    expect((await pending.complete(response as Uint8Array)).peerAuthenticated).toBe(true);
  });
});

describe("an authentic response that does not fit", () => {
  it("takes nothing from the exchange: another branch may still answer, and is updated under the real key", async () => {
    const { initiator, responder } = modePair(DHHMAC, nodeCrypto);
    const pending = await initiator.begin(modeRequest(nodeCrypto, DHHMAC, { mapType: 2 }));
    const { response } = await accepted(responder.receive(pending.octets));
    const { header, payloads } = decodeMessage(response as Uint8Array);
    const { csMap } = header;
    if (csMap.type !== CsMapType.GENERIC_ID || csMap.entries === undefined) throw new Error("another map");
    const entries = csMap.entries.map((entry) => ({ ...entry, spi: Uint8Array.of(9, 9, 9, 9) }));
    const keys = deriveMessageKeys(nodeCrypto, pending.csb, PSK, EncrAlg.NULL, MacAlg.HMAC_SHA_1_160);
    const odd = { ...header, csMap: { ...csMap, entries } as typeof csMap };
    const misfit = encodeWithMac(nodeCrypto, odd, payloads.slice(0, -1), MacAlg.HMAC_SHA_1_160, keys);
    expect(await codeOf(() => pending.fork(misfit))).toBe("mikey.key-data");
    const branch = await pending.fork(response as Uint8Array);
    expect(branch.credential).toMatchObject({ psk: PSK });
    expect((await pending.complete(response as Uint8Array)).credential).toMatchObject({ psk: PSK });
  });

  it("leaves no key behind", async () => {
    const { pair, seen } = watched(keyPair(nodeCrypto, "alice"));
    const { initiator, responder } = modePair(RSA_R, nodeCrypto);
    const credential = { mode: "RSA-R" as const, keyPair: pair };
    const pending = await initiator.begin(modeRequest(nodeCrypto, RSA_R, { credential }));
    const { response } = await accepted(responder.receive(pending.octets));
    const suffix = verificationSuffix(ALICE, BOB, pending.csb.timestamp);
    const bob = keyPair(nodeCrypto, "bob");
    // The cache indicator 3 has no meaning (RFC 3830 §6.3).
    const put = (payload: Payload): Payload => (payload.kind === "PKE" ? { ...payload, cache: 3 } : payload);
    expect(await codeOf(async () => pending.complete(await resigned(response as Uint8Array, bob, put, suffix)))).toBe(
      "mikey.grammar",
    );
    const { header, payloads } = decodeMessage(response as Uint8Array);
    const other = { ...header, csMap: { type: CsMapType.EMPTY, count: 2 } as const };
    const misfit = await encodeSigned(
      nodeCrypto,
      { signer: bob.privateKey, scheme: "rsa-pss-sha256" },
      other,
      payloads.slice(0, -1),
      suffix,
    );
    expect(await codeOf(() => pending.complete(misfit))).toBe("mikey.response");
    expect(seen.decrypted.length).toBeGreaterThan(0);
    expect(seen.decrypted.every(isWiped)).toBe(true);
    const agreed = await pending.complete(response as Uint8Array);
    expect(isWiped(agreed.envelope?.key as Uint8Array)).toBe(false);
  });
});

describe("a request that is refused after its envelope was opened", () => {
  it("leaves no key behind", async () => {
    const { pair, seen } = watched(keyPair(nodeCrypto, "bob"));
    const { initiator, responder } = modePair(PK, nodeCrypto, {
      responder: { keyPairs: [pair], policyAccepted: () => false },
    });
    const { octets } = await initiator.begin(modeRequest(nodeCrypto, PK));
    expect((await refusal(responder, octets)).code).toBe("mikey.policy-parameter");
    expect(seen.decrypted.map(isWiped)).toEqual([true]);
  });

  it("leaves none where another message with its time was taken meanwhile", async () => {
    const { pair, seen } = watched(keyPair(nodeCrypto, "bob"));
    const cache = createReplayCache();
    let checks = 0;
    const check: ReplayCache["check"] = (claim, now) =>
      checks++ === 0 ? cache.check(claim, now) : { kind: "refused", reason: "the timestamp was used before by another message" };
    const { initiator, responder } = modePair(PK, nodeCrypto, {
      responder: { keyPairs: [pair], replayCache: { ...cache, size: 0, check } },
    });
    const { octets } = await initiator.begin(modeRequest(nodeCrypto, PK));
    expect((await refusal(responder, octets)).code).toBe("mikey.replay");
    expect(seen.decrypted.map(isWiped)).toEqual([true]);
  });

  it("fails as any other where the envelope is empty: nothing shows that it is whose it says", async () => {
    const { pair, seen } = watched(keyPair(nodeCrypto, "bob"));
    const { initiator, responder } = modePair(PK, nodeCrypto, { responder: { keyPairs: [pair] } });
    const { octets } = await initiator.begin(modeRequest(nodeCrypto, PK));
    const empty = await resigned(octets, keyPair(nodeCrypto, "alice"), (payload) =>
      payload.kind === "KEMAC"
        ? { kind: "KEMAC", encrAlg: EncrAlg.AES_KW_128, encrData: new Uint8Array(0), macAlg: MacAlg.NULL, mac: new Uint8Array(0) }
        : payload,
    );
    expect((await refusal(responder, empty)).code).toBe("mikey.authentication");
    expect(seen.decrypted.length).toBeGreaterThan(0);
    expect(seen.decrypted.every(isWiped)).toBe(true);
  });
});

describe("a message that was used before", () => {
  it("costs no signature, however often somebody sends it elsewhere", async () => {
    const { pair, seen } = watched(keyPair(nodeCrypto, "bob"));
    const { initiator, responder } = modePair(DH, nodeCrypto, { responder: { keyPairs: [pair] } });
    const { octets } = await initiator.begin(modeRequest(nodeCrypto, DH));
    expect((await responder.receive(octets, { scope: "here" })).kind).toBe("new");
    expect(seen.signed).toBe(1);
    for (const scope of ["there", "elsewhere"]) {
      const { code, reply } = await refusal(responder, octets, { scope });
      expect(code).toBe("mikey.replay");
      expect(decodeMessage(reply as Uint8Array).payloads.map(({ kind }) => kind)).toEqual(["T", "ERR"]);
    }
    expect(seen.signed).toBe(1);
  });
});

describe("an update", () => {
  it("is refused once the certificate has ended that was shown for the first message", async () => {
    const alice = await certified("alice", { notAfter: NOW + 2 * DAY });
    const bob = await certified("bob", { notAfter: NOW + 4 * DAY });
    const { clock, initiator, responder } = modePair(DH, nodeCrypto, {
      initiator: { policy: { certificates } },
      responder: { policy: { certificates }, keyPairs: [bob] },
    });
    const pending = await initiator.begin(modeRequest(nodeCrypto, DH, { credential: { mode: "DH", keyPair: alice } }));
    const first = await accepted(responder.receive(pending.octets));
    const own = await pending.complete(first.response as Uint8Array);
    clock.time = NOW + DAY;
    const good = await initiator.update(own, { keys: keysOf("DH", 2) });
    const second = await accepted(responder.receive(good.octets, { csb: first.csb }));
    const updated = await good.complete(second.response as Uint8Array);
    clock.time = NOW + 3 * DAY;
    const late = await initiator.update(updated, { keys: keysOf("DH", 3) });
    expect((await refusal(responder, late.octets, { csb: second.csb })).code).toBe("mikey.authentication");
  });

  it("is not answered by who may no longer", async () => {
    const bob = await certified("bob", { notAfter: NOW + 2 * DAY });
    const { clock, initiator, responder } = modePair(DH, nodeCrypto, {
      initiator: { policy: { certificates } },
      responder: { keyPairs: [bob] },
    });
    const pending = await initiator.begin(modeRequest(nodeCrypto, DH));
    const first = await accepted(responder.receive(pending.octets));
    const own = await pending.complete(first.response as Uint8Array);
    clock.time = NOW + 3 * DAY;
    const late = await initiator.update(own, { keys: keysOf("DH", 2) });
    const { response } = await accepted(responder.receive(late.octets, { csb: first.csb }));
    expect(await codeOf(() => late.complete(response as Uint8Array))).toBe("mikey.authentication");
  });

  it("is refused of a key that is no longer known by identity", async () => {
    const known = new Map([ALICE, BOB].map((id, at) => [id.data.join(), keyPair(nodeCrypto, at === 0 ? "alice" : "bob")] as const));
    const findPublicKey = (identity: Identity | undefined): PublicKey | undefined =>
      known.get(identity?.data.join() ?? "")?.privateKey.publicKey;
    const bare = (name: "alice" | "bob"): KeyPairCredential => ({ ...keyPair(nodeCrypto, name), chain: [] });
    const { initiator, responder } = modePair(DH, nodeCrypto, {
      initiator: { policy: { findPublicKey } },
      responder: { policy: { findPublicKey }, keyPairs: [bare("bob")] },
    });
    const pending = await initiator.begin(modeRequest(nodeCrypto, DH, { credential: { mode: "DH", keyPair: bare("alice") } }));
    const first = await accepted(responder.receive(pending.octets));
    const own = await pending.complete(first.response as Uint8Array);
    known.delete(ALICE.data.join());
    const late = await initiator.update(own, { keys: keysOf("DH", 2) });
    expect((await refusal(responder, late.octets, { csb: first.csb })).code).toBe("mikey.authentication");
  });
});

describe("an exchange that cannot be begun", () => {
  it("leaves no key behind", async () => {
    const drawn: Uint8Array[] = [];
    const crypto: CryptoProvider = Object.assign(Object.create(nodeCrypto) as CryptoProvider, {
      randomBytes(length: number) {
        const octets = nodeCrypto.randomBytes(length);
        drawn.push(octets);
        return octets;
      },
    });
    const { initiator } = modePair(PK, crypto);
    const alice = keyPair(nodeCrypto, "alice");
    const broken: KeyPairCredential = {
      ...alice,
      privateKey: { ...alice.privateKey, sign: () => Promise.reject(new Error("the module is gone")) },
    };
    const request = modeRequest(nodeCrypto, PK, {
      credential: { ...(credentialOf(nodeCrypto, PK) as PublicKeyCredential), keyPair: broken },
      rand: new Uint8Array(16).fill(1),
      csbId: 7,
      keys: [{ kind: "TGK", length: 48 }],
    });
    drawn.length = 0;
    await expect(initiator.begin(request)).rejects.toThrow("the module is gone");
    expect(drawn.map(({ length }) => length).sort()).toEqual([16, 48]);
    expect(drawn.every(isWiped)).toBe(true);
  });
});

describe("a certificate of another kind than X.509", () => {
  const other = (payload: Payload): Payload => (payload.kind === "CERT" ? { ...payload, certType: 9 } : payload);

  it.each([DH, PK, RSA_R])("is what error 8 is about, signed as it may be ($title)", async (row) => {
    const { initiator, responder } = modePair(row, nodeCrypto);
    const pending = await initiator.begin(modeRequest(nodeCrypto, row));
    const error = await refusal(responder, await resigned(pending.octets, keyPair(nodeCrypto, "alice"), other));
    expect([error.code, error.errorNo]).toEqual(["mikey.certificate", ErrorNo.INVALID_CERT]);
    // Nobody was authenticated.
    const reply = error.reply as Uint8Array;
    expect(decodeMessage(reply).payloads).toMatchObject([{ kind: "T" }, { kind: "ERR", errorNo: 8 }]);
    await expect(pending.complete(reply)).rejects.toMatchObject({ report: { errorNos: [8], authenticated: false } });
  });

  it("does not answer", async () => {
    const { initiator, responder } = modePair(DH, nodeCrypto);
    const pending = await initiator.begin(modeRequest(nodeCrypto, DH));
    const response = (await accepted(responder.receive(pending.octets))).response as Uint8Array;
    expect(await codeOf(async () => pending.complete(await resigned(response, keyPair(nodeCrypto, "bob"), other)))).toBe(
      "mikey.certificate",
    );
    expect((await pending.complete(response)).responderId).toEqual(BOB);
  });
});

describe("a sender that is not known", () => {
  it.each([
    ["Ed25519", rowOf("DH over X25519, signed with Ed25519"), "ed25519"],
    ["ECDSA", rowOf("DH over P-256, signed with ECDSA"), "ec-p256"],
    ["RSA", DH, "rsa"],
  ] as const)("has its signature checked all the same, under a key of its kind: %s", async (_, row, kind) => {
    const checked: string[] = [];
    const crypto: CryptoProvider = Object.assign(Object.create(nodeCrypto) as CryptoProvider, {
      verify(...[key, scheme, ...rest]: Parameters<CryptoProvider["verify"]>) {
        checked.push(`${key.kind} ${signatureKind(scheme)}`);
        return nodeCrypto.verify(key, scheme, ...rest);
      },
    });
    const policy = { ...row.policy, certificates };
    const { initiator, responder } = modePair(row, nodeCrypto, {
      responder: { crypto, policy },
    });
    const { octets } = await initiator.begin(modeRequest(nodeCrypto, row));
    expect((await refusal(responder, octets)).code).toBe("mikey.authentication");
    expect(checked.length).toBeGreaterThan(0);
    expect(new Set(checked)).toEqual(new Set([`${kind} ${kind}`]));
    const known = keyPair(nodeCrypto, kind === "rsa" ? "bob-p256" : "bob").privateKey.publicKey;
    const knowing = modePair(row, nodeCrypto, { responder: { crypto, policy: { ...policy, findPublicKey: () => known } } });
    checked.length = 0;
    expect((await refusal(knowing.responder, octets)).code).toBe("mikey.authentication");
    expect(new Set(checked)).toEqual(new Set([`${kind} ${kind}`]));
  });
});

const signatureKind = (scheme: SignatureScheme): string =>
  scheme === "ed25519" ? "ed25519" : scheme === "ecdsa-p256-sha256" ? "ec-p256" : "rsa";

describe("an ERR that is signed", () => {
  it("by a key whose certificate is for encryption alone counts as unsigned", async () => {
    for (const [usages, authenticated] of [
      [["encryption"], false],
      [["encryption", "signature"], true],
    ] as const) {
      const bob = await certified("bob", { usages });
      const { initiator } = modePair(PK, nodeCrypto, { initiator: { policy: { certificates } } });
      const credential = { mode: "PK" as const, keyPair: keyPair(nodeCrypto, "alice"), peer: { chain: bob.chain } };
      const pending = await initiator.begin(modeRequest(nodeCrypto, PK, { credential }));
      const error = await encodeSignedErrorMessage(
        nodeCrypto,
        { signer: bob.privateKey, scheme: "rsa-pss-sha256" },
        pending.csb,
        pending.csb.timestamp,
        ErrorNo.INVALID_SP_PAR,
      );
      expect(decodeMessage(error).header.dataType).toBe(DataType.ERROR);
      const refused = await pending.complete(error).catch((reason: unknown) => reason);
      expect(refused).toBeInstanceOf(MikeyPeerError);
      expect((refused as MikeyPeerError).report.authenticated).toBe(authenticated);
    }
  });
});

describe("the policy of a group", () => {
  it("is not taken where it encrypts nothing, whoever signs it", async () => {
    const { initiator, responder } = modePair(RSA_R, nodeCrypto, { initiator: { policy: { certificates: verifier(nodeCrypto) } } });
    const group = {
      csbId: 1,
      rand: new Uint8Array(16).fill(9),
      policies: policies("NULL_HMAC_SHA1_80"),
      cryptoSessions: [{ ssrc: 1 }],
      keys: [{ kind: "TGK" as const, spi: Uint8Array.of(0, 0, 0, 9) }],
    };
    const request = modeRequest(nodeCrypto, RSA_R, { group: true, policies: new Map(), cryptoSessions: [] });
    const pending = await initiator.begin(request);
    const { response } = await accepted(responder.receive(pending.octets, { group }));
    expect(await codeOf(() => pending.complete(response as Uint8Array))).toBe("mikey.policy-parameter");
  });
});
