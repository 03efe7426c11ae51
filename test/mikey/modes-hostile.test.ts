import { constants, createPublicKey, publicEncrypt } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type FieldSpan, formatHex, parseHex, utf8 } from "../../src/bytes/index.js";
import type { CryptoProvider, PrivateKey } from "../../src/crypto/index.js";
import { createCertificateVerifier, issueCertificate } from "../../src/crypto/x509/index.js";
import {
  type Csb,
  createResponder,
  DhGroup,
  decodeMessage,
  deriveMessageKeys,
  encodeMessage,
  encodeWithMac,
  type Identity,
  IdType,
  type KeyPairCredential,
  MacAlg,
  MikeyError,
  type Payload,
  type PendingExchange,
  updateModeOf,
  verificationSuffix,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { backends } from "./crypto-backends.js";
import { accepted, codeOf, NOW, PSK, refusal, refusalOf } from "./exchange-fixture.js";
import {
  ALICE,
  BOB,
  caseNamed,
  credentialOf,
  type KeyName,
  keyPair,
  keysOf,
  MODE_CASES,
  type ModeCase,
  type ModePair,
  modePair,
  modeRequest,
  partyOf,
  ROOT,
  resigned,
  verifier,
} from "./mode-fixture.js";

const CAROL: Identity = { idType: IdType.URI, data: utf8("sip:carol@example.org") };
const cases = MODE_CASES.map((row) => [row.title, row] as const);
const DH = caseNamed("DH");
const PK = caseNamed("PK, envelope key cached");
const RSA_R = caseNamed("RSA-R, envelope key cached");
const DHHMAC = caseNamed("DHHMAC");
const X25519 = caseNamed("DH over X25519, signed with Ed25519");
const ECDSA = caseNamed("DH over P-256, signed with ECDSA");

const flip = (octets: Uint8Array, at: number, mask = 0x20): Uint8Array => octets.with(at, (octets[at] as number) ^ mask);

/** What everybody who fails to authenticate is told, whatever was wrong. */
function expectUnauthenticated(error: unknown): void {
  expect(error).toBeInstanceOf(MikeyError);
  const { code, message, errorNo, cause, reply } = error as MikeyError;
  expect([code, message, errorNo, cause]).toEqual(["mikey.authentication", "MIKEY authentication failed", 0, undefined]);
  // RFC 3830 §5.1.2: the report of a failed authentication is not authenticated itself.
  if (reply !== undefined) expect(decodeMessage(reply).payloads.map(({ kind }) => kind)).toEqual(["T", "ERR"]);
}

/** The first and the last octet of every field, and of fields in between where they are long: certificates say the same all over. */
function places(octets: Uint8Array): number[] {
  const trace: FieldSpan[] = [];
  decodeMessage(octets, { trace });
  return [
    ...new Set(trace.flatMap(({ offset, length }) => (length === 0 ? [] : [offset, offset + (length >> 1), offset + length - 1]))),
  ];
}

interface Established extends ModePair {
  readonly pending: PendingExchange;
  readonly response: Uint8Array;
  readonly theirs: Csb;
}

async function begun(row: ModeCase, crypto: CryptoProvider = nodeCrypto): Promise<Established> {
  const both = modePair(row, crypto);
  const pending = await both.initiator.begin(modeRequest(crypto, row));
  const { csb, response } = await accepted(both.responder.receive(pending.octets));
  return { ...both, pending, response: response as Uint8Array, theirs: csb };
}

describe("two devices of one party", () => {
  it("are told apart by their keys where they sign", async () => {
    const policy = { ...ECDSA.policy, certificates: verifier(nodeCrypto) };
    const other = { identity: ALICE, policy, keyPairs: [keyPair(nodeCrypto, "alice-ed25519")] };
    const { initiator, responder } = modePair(ECDSA, nodeCrypto, { responder: other });
    const pending = await initiator.begin(modeRequest(nodeCrypto, ECDSA, { responderId: ALICE }));
    const { response } = await accepted(responder.receive(pending.octets));
    expect((await pending.complete(response as Uint8Array)).responderId).toEqual(ALICE);
  });

  it.each(["PSK", "DHHMAC"])("cannot be told apart by a key that they share (%s)", async (title) => {
    const row = caseNamed(title);
    const { initiator } = modePair(row, nodeCrypto);
    expect(await codeOf(() => initiator.begin(modeRequest(nodeCrypto, row, { responderId: ALICE })))).toBe("mikey.option");
  });
});

describe.each(cases)("%s", (_title, row) => {
  it("no field of a request can be changed, no octet cut off, and none of it spoils the real message", async () => {
    const { initiator, responder } = modePair(row, nodeCrypto);
    const { octets } = await initiator.begin(modeRequest(nodeCrypto, row, { sdpIds: ["mikey"] }));
    for (const at of places(octets))
      for (const mask of [0x01, 0x80, 0xff]) await refusalOf(() => responder.receive(flip(octets, at, mask)));
    for (let length = 0; length < octets.length; length++) await refusalOf(() => responder.receive(octets.subarray(0, length)));
    expect((await responder.receive(octets)).kind).toBe("new");
    for (const at of places(octets)) await refusalOf(() => responder.receive(flip(octets, at, 0x10)));
    expect((await responder.receive(octets)).kind).toBe("repeated");
  });

  it("no field of a response can be changed, no octet cut off", async () => {
    const { pending, response } = await begun(row);
    for (const at of places(response))
      for (const mask of [0x01, 0x80]) await refusalOf(() => pending.complete(flip(response, at, mask)));
    for (let length = 0; length < response.length; length++) await refusalOf(() => pending.complete(response.subarray(0, length)));
    expect((await pending.complete(response)).peerAuthenticated).toBe(true);
  });

  it("no field of an update or of its answer can be changed, no octet cut off", async () => {
    const { initiator, responder, pending, response, theirs } = await begun(row);
    const own = await pending.complete(response);
    const mode = updateModeOf(own);
    const update = await initiator.update(own, mode.keys === "responder" ? {} : { keys: keysOf(mode.name, 2) });
    const keys = () => keysOf("PSK", 2);
    for (const at of places(update.octets))
      await refusalOf(() => responder.receive(flip(update.octets, at), { csb: theirs, keys }));
    for (let at = 0; at < update.octets.length; at++)
      await refusalOf(() => responder.receive(update.octets.subarray(0, at), { csb: theirs, keys }));
    const result = await accepted(responder.receive(update.octets, { csb: theirs, keys }));
    const answer = result.response as Uint8Array;
    for (const at of places(answer)) await refusalOf(() => update.complete(flip(answer, at)));
    expect((await update.complete(answer)).keys).toHaveLength(1);
  });

  it("no payload can be left out, sent twice, put elsewhere or taken from another exchange", async () => {
    const { initiator, responder, pending, response } = await begun(row);
    const second = await initiator.begin(modeRequest(nodeCrypto, row));
    const other = await accepted(responder.receive(second.octets));
    const judge = async (octets: Uint8Array, call: (changed: Uint8Array) => Promise<unknown>, donor: Uint8Array): Promise<void> => {
      const { header, payloads } = decodeMessage(octets);
      const theirs = decodeMessage(donor).payloads;
      const variants = payloads.flatMap((_, i): (readonly Payload[])[] => [
        payloads.toSpliced(i, 1),
        payloads.toSpliced(i, 0, payloads[i] as Payload),
        payloads.toSpliced(i, 2, ...payloads.slice(i, i + 2).reverse()),
        payloads.with(i, theirs[i] as Payload),
      ]);
      for (const variant of variants) {
        const changed = encoded(header, variant);
        if (changed === undefined || formatHex(changed) === formatHex(octets)) continue;
        await refusalOf(() => call(changed));
      }
    };
    await judge(pending.octets, (octets) => responder.receive(octets), second.octets);
    await judge(response, (octets) => pending.complete(octets), other.response as Uint8Array);
    expect((await pending.complete(response)).peerAuthenticated).toBe(true);
  });

  it("neither message passes for the other, nor for one of another exchange", async () => {
    const { initiator, responder, pending, response } = await begun(row);
    const second = await initiator.begin(modeRequest(nodeCrypto, row));
    const answer = (await accepted(responder.receive(second.octets))).response as Uint8Array;
    expect(await codeOf(() => pending.complete(answer))).toBe("mikey.response");
    expect(await codeOf(() => pending.complete(pending.octets))).toBe("mikey.response");
    expect(await refusal(responder, response)).toMatchObject({ code: "mikey.response", reply: undefined });
    // As if it were of the first exchange: CSB ID and T are put in.
    const { header, payloads } = decodeMessage(answer);
    const t = decodeMessage(response).payloads.find(({ kind }) => kind === "T") as Payload;
    const moved = encodeMessage({
      header: { ...header, csbId: pending.csb.csbId },
      payloads: payloads.map((payload) => (payload.kind === "T" ? t : payload)),
    });
    expectUnauthenticated(await refusalOf(() => pending.complete(moved)));
    expect((await pending.complete(response)).peerAuthenticated).toBe(true);
  });

  it("a message counts once, where it came first", async () => {
    const { responder, pending, response, clock } = await begun(row);
    clock.time += 1000;
    expect(await responder.receive(pending.octets)).toMatchObject({ kind: "repeated", response });
    expect((await refusal(responder, pending.octets, { scope: "elsewhere" })).code).toBe("mikey.replay");
    clock.time += 400_000;
    expect((await refusal(responder, pending.octets)).code).toBe("mikey.timestamp");
    const late = modePair(row, nodeCrypto);
    late.clock.time = NOW + 400_000;
    expect((await refusal(late.responder, pending.octets)).code).toBe("mikey.timestamp");
  });

  it("a message that comes again while it is worked at gets the one answer", async () => {
    const { initiator, responder } = modePair(row, nodeCrypto);
    const { octets } = await initiator.begin(modeRequest(nodeCrypto, row));
    const results = await Promise.all([1, 2, 3].map(() => responder.receive(octets)));
    expect(results.map(({ kind }) => kind).sort()).toEqual(["new", "repeated", "repeated"]);
    expect(new Set(results.map(({ response }) => formatHex(response as Uint8Array))).size).toBe(1);
  });

  it("is for nobody else, and for no other key", async () => {
    const { initiator } = modePair(row, nodeCrypto);
    const { octets } = await initiator.begin(modeRequest(nodeCrypto, row));
    const elsewhere = modePair(row, nodeCrypto, { responder: { identity: CAROL } });
    expect((await refusal(elsewhere.responder, octets)).code).toBe("mikey.identity");
    const stranger = modePair(row, nodeCrypto, {
      responder: { findCredential: () => ({ psk: utf8("another key here") }), policy: { ...row.policy, certificates: otherRoot } },
    });
    expectUnauthenticated(await refusal(stranger.responder, octets));
    const nobody = modePair(row, nodeCrypto, { responder: { findCredential: () => undefined, policy: { ...row.policy } } });
    expectUnauthenticated(await refusal(nobody.responder, octets));
  });

  it("that comes back to who sent it is taken for nobody's", async () => {
    const { mode } = row;
    const { policy, keyPairs } = partyOf(nodeCrypto, row, 0);
    const anybody = { isLocalIdentity: () => true, findCredential: () => ({ psk: PSK }) };
    const sender = modePair(row, nodeCrypto, { responder: { identity: ALICE, policy, keyPairs, ...anybody } });
    const { responderId: _, ...unnamed } = modeRequest(nodeCrypto, row);
    // RFC 4650 §3 has the Responder named.
    for (const request of [modeRequest(nodeCrypto, row), ...(mode === "DHHMAC" ? [] : [unnamed])]) {
      const { octets } = await sender.initiator.begin(request);
      expectUnauthenticated(await refusal(sender.responder, octets));
      // Nothing was remembered of it: whom it is for takes it.
      const { responder } = modePair(row, nodeCrypto, { responder: anybody });
      expect((await responder.receive(octets)).kind).toBe("new");
    }
  });

  it("gives a result or a typed error for any change at all", async () => {
    const { responder, pending, response } = await begun(row);
    const edit = fc.record({ at: fc.nat(3000), remove: fc.nat(3), insert: fc.uint8Array({ maxLength: 3 }) });
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(pending.octets, response),
        fc.array(edit, { minLength: 1, maxLength: 4 }),
        async (octets, edits) => {
          let list = [...octets];
          for (const { at, remove, insert } of edits) {
            const place = at % (list.length + 1);
            list = [...list.slice(0, place), ...insert, ...list.slice(place + remove)];
          }
          const changed = Uint8Array.from(list);
          if (formatHex(changed) === formatHex(octets)) return;
          await refusalOf(() => responder.receive(changed, { scope: "x" }));
          await refusalOf(() => pending.complete(changed));
        },
      ),
      { numRuns: 60 },
    );
  });
});

const rootKey = await freshKey("ec-p256");
const otherAuthority = await issueCertificate({
  commonName: "another root",
  publicKey: rootKey.publicKey,
  issuer: rootKey,
  notBefore: NOW - 86_400_000,
  notAfter: NOW + 86_400_000,
  authority: {},
});
const otherRoot = createCertificateVerifier({ roots: [otherAuthority] });

async function freshKey(kind: "rsa" | "ec-p256"): Promise<PrivateKey> {
  const { pkcs8 } = await nodeCrypto.generateKeyPair(kind);
  return nodeCrypto.importPrivateKey(pkcs8);
}

function encoded(header: Parameters<typeof encodeMessage>[0]["header"], payloads: readonly Payload[]): Uint8Array | undefined {
  try {
    return encodeMessage({ header, payloads });
  } catch {
    // No such message exists: a signature that is not the last.
    return undefined;
  }
}

describe("certificates", () => {
  const DAY = 86_400_000;
  const carol = "sip:carol@example.org";

  /** Credentials of Alice's key that are not good, each for one reason. */
  async function wrongPair(wrong: string): Promise<{ pair: KeyPairCredential; roots: readonly Uint8Array[] }> {
    const authority = await freshKey("ec-p256");
    const [notBefore, notAfter] =
      wrong === "expired"
        ? [NOW - 9 * DAY, NOW - DAY]
        : wrong === "not yet valid"
          ? [NOW + DAY, NOW + 9 * DAY]
          : [NOW - DAY, NOW + DAY];
    const root = await issueCertificate({
      commonName: "root",
      publicKey: authority.publicKey,
      issuer: authority,
      notBefore: NOW - 30 * DAY,
      notAfter: NOW + 30 * DAY,
      authority: {},
    });
    const { privateKey } = keyPair(nodeCrypto, "alice");
    const certificate = await issueCertificate({
      commonName: "alice",
      publicKey: wrong === "another key" ? authority.publicKey : privateKey.publicKey,
      issuer: wrong === "self-signed" ? privateKey : { certificate: root, signer: authority },
      notBefore,
      notAfter,
      uris: [wrong === "another name" ? carol : "sip:alice@example.org"],
      ...(wrong === "wrong usage" ? { usages: ["encryption" as const] } : {}),
    });
    const roots = wrong === "another root" ? [ROOT] : [root];
    return { pair: { privateKey, chain: [certificate] }, roots };
  }

  const wrongs = ["another name", "expired", "not yet valid", "wrong usage", "another root", "self-signed", "another key"];

  it.each(wrongs.flatMap((wrong) => ([DH, PK, RSA_R] as const).map((row) => [wrong, row.mode, row] as const)))(
    "%s: an Initiator in mode %s is refused as for any other reason",
    async (wrong, _mode, row) => {
      const { pair, roots } = await wrongPair(wrong);
      const certificates = createCertificateVerifier({ roots });
      const { initiator, responder } = modePair(row, nodeCrypto, { responder: { policy: { ...row.policy, certificates } } });
      const credential = { ...(credentialOf(nodeCrypto, row) as { mode: "DH" }), keyPair: pair };
      const { octets } = await initiator.begin(modeRequest(nodeCrypto, row, { credential }));
      expectUnauthenticated(await refusal(responder, octets));
      const right = await wrongPair("nothing");
      const good = modePair(row, nodeCrypto, {
        responder: { policy: { ...row.policy, certificates: createCertificateVerifier({ roots: right.roots }) } },
      });
      const taken = await good.initiator.begin(
        modeRequest(nodeCrypto, row, { credential: { ...credential, keyPair: right.pair } }),
      );
      expect((await good.responder.receive(taken.octets)).kind).toBe("new");
    },
  );

  it.each(wrongs.flatMap((wrong) => ([DH, RSA_R] as const).map((row) => [wrong, row.mode, row] as const)))(
    "%s: a Responder in mode %s is refused as for any other reason",
    async (wrong, _mode, row) => {
      const { pair, roots } = await wrongPair(wrong);
      const certificates = createCertificateVerifier({ roots });
      const { initiator, responder } = modePair(row, nodeCrypto, {
        initiator: { policy: { ...row.policy, certificates } },
        responder: { keyPairs: [pair], identity: ALICE },
      });
      // Alice's key answers here, and Bob asks.
      const credential = { ...(credentialOf(nodeCrypto, row) as { mode: "DH" }), keyPair: keyPair(nodeCrypto, "bob") };
      const request = modeRequest(nodeCrypto, row, { credential, initiatorId: BOB, responderId: ALICE });
      const pending = await initiator.begin(request);
      const { response } = await accepted(responder.receive(pending.octets));
      expectUnauthenticated(await refusalOf(() => pending.complete(response as Uint8Array)));
    },
  );

  it("of the Responder in mode PK are judged before anything is sent", async () => {
    for (const wrong of wrongs.filter((name) => name !== "another key")) {
      const { pair, roots } = await wrongPair(wrong === "wrong usage" ? "another root" : wrong);
      const { initiator } = modePair(PK, nodeCrypto, {
        initiator: { policy: { certificates: createCertificateVerifier({ roots }) } },
      });
      const credential = { mode: "PK" as const, keyPair: keyPair(nodeCrypto, "bob"), peer: { chain: pair.chain } };
      const begin = initiator.begin(modeRequest(nodeCrypto, PK, { credential, initiatorId: BOB, responderId: ALICE }));
      await expect(begin).rejects.toMatchObject({ code: "mikey.certificate" });
    }
  });
});

describe("a party that everybody trusts, and that lies", () => {
  const mallory: KeyName = "bob";
  const asMallory = (payload: Payload): Payload => {
    if (payload.kind === "ID" && formatHex(payload.data) === formatHex(ALICE.data)) return { kind: "ID", ...BOB };
    return payload.kind === "CERT" ? { ...payload, data: keyPair(nodeCrypto, mallory).chain[0] as Uint8Array } : payload;
  };

  it("cannot pass another's keys on as its own in mode PK: the encrypted identity is not its own (RFC 3830 §3.2)", async () => {
    const { initiator, responder } = modePair(PK, nodeCrypto);
    const { octets } = await initiator.begin(modeRequest(nodeCrypto, PK));
    expectUnauthenticated(await refusal(responder, await resigned(octets, keyPair(nodeCrypto, mallory), asMallory)));
    // Without its name, by the certificate alone, neither.
    const unnamed = (payload: Payload): Payload | undefined => (payload.kind === "ID" ? undefined : asMallory(payload));
    expectUnauthenticated(await refusal(responder, await resigned(octets, keyPair(nodeCrypto, mallory), unnamed)));
  });

  it("cannot sign for another", async () => {
    for (const row of [PK, DH, RSA_R]) {
      const { initiator, responder } = modePair(row, nodeCrypto);
      const { octets } = await initiator.begin(modeRequest(nodeCrypto, row));
      const pair = keyPair(nodeCrypto, mallory);
      expectUnauthenticated(await refusal(responder, await resigned(octets, pair, (payload) => payload)));
      const certified = (payload: Payload): Payload => (payload.kind === "CERT" ? asMallory(payload) : payload);
      expectUnauthenticated(await refusal(responder, await resigned(octets, pair, certified)));
    }
  });

  it("cannot answer with another's keys in mode RSA-R", async () => {
    const { initiator, responder } = modePair(RSA_R, nodeCrypto, { responder: { isLocalIdentity: () => true } });
    const { responderId: _, ...request } = modeRequest(nodeCrypto, RSA_R);
    const pending = await initiator.begin(request);
    const { response } = await accepted(responder.receive(pending.octets));
    // Alice's certificate instead of Bob's, over Bob's envelope.
    const suffix = verificationSuffix(ALICE, ALICE, pending.csb.timestamp);
    const asAlice = (payload: Payload): Payload => {
      if (payload.kind === "ID") return { kind: "ID", ...ALICE };
      return payload.kind === "CERT" ? { ...payload, data: keyPair(nodeCrypto, "alice").chain[0] as Uint8Array } : payload;
    };
    const forged = await resigned(response as Uint8Array, keyPair(nodeCrypto, "alice"), asAlice, suffix);
    expectUnauthenticated(await refusalOf(() => pending.complete(forged)));
    const honest = await resigned(
      response as Uint8Array,
      keyPair(nodeCrypto, "bob"),
      (payload) => payload,
      verificationSuffix(ALICE, BOB, pending.csb.timestamp),
    );
    expect((await pending.complete(honest)).responderId).toEqual(BOB);
  });
});

/** What no honest party sends (RFC 2631 §2.1.5, RFC 7748 §6.1): by group. */
const P1536 = parseHex(
  `ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437
4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7edee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf05
98da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca237327ffffffffffffffff`.replaceAll(
    "\n",
    "",
  ),
);
const number = (value: bigint): Uint8Array => parseHex(value.toString(16).padStart(384, "0"));
const P = BigInt(`0x${formatHex(P1536)}`);
const BAD_VALUES: readonly (readonly [name: string, group: number, value: Uint8Array])[] = [
  ["zero", DhGroup.OAKLEY_5, number(0n)],
  ["one", DhGroup.OAKLEY_5, number(1n)],
  ["p - 1, of order 2", DhGroup.OAKLEY_5, number(P - 1n)],
  ["p", DhGroup.OAKLEY_5, P1536],
  ["p + 1", DhGroup.OAKLEY_5, number(P + 1n)],
  ["p + 4", DhGroup.OAKLEY_5, number(P + 4n)],
  // p is 7 modulo 8, so that -2 is no square.
  ["outside the subgroup", DhGroup.OAKLEY_5, number(P - 2n)],
  ["all ones", DhGroup.OAKLEY_5, new Uint8Array(192).fill(0xff)],
  ["X25519 zero", DhGroup.X25519, new Uint8Array(32)],
  ["X25519 one", DhGroup.X25519, new Uint8Array(32).with(0, 1)],
  ["X25519 of order 8", DhGroup.X25519, parseHex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")],
  ["X25519 p", DhGroup.X25519, new Uint8Array(32).fill(0xff).with(0, 0xed).with(31, 0x7f)],
  ["P-256 off the curve", DhGroup.P_256, new Uint8Array(65).fill(1).with(0, 4)],
  ["P-256 of zeros", DhGroup.P_256, new Uint8Array(65).with(0, 4)],
  ["P-256 compressed", DhGroup.P_256, new Uint8Array(65).fill(1).with(0, 2)],
  ["P-256 at infinity", DhGroup.P_256, new Uint8Array(65)],
];

describe.each(backends)("Diffie-Hellman values on %s", (_, crypto) => {
  it.each(BAD_VALUES)(
    "%s, signed by who is trusted, is refused as if the signature were wrong, by either side",
    async (_name, group, value) => {
      const row = group === DhGroup.OAKLEY_5 ? DH : group === DhGroup.X25519 ? X25519 : ECDSA;
      const { initiator, responder, pending, response } = await begun(row, crypto);
      const [alice, bob] = (row.keys as readonly KeyName[]).map((name) => keyPair(crypto, name)) as [
        KeyPairCredential,
        KeyPairCredential,
      ];
      const next = await initiator.begin(modeRequest(crypto, row));
      const put = (payload: Payload): Payload => (payload.kind === "DH" ? { ...payload, value } : payload);
      expectUnauthenticated(await refusal(responder, await resigned(next.octets, alice, put)));
      let first = true;
      const putFirst = (payload: Payload): Payload => {
        const bad = payload.kind === "DH" && first;
        if (payload.kind === "DH") first = false;
        return bad ? { ...payload, value } : payload;
      };
      expectUnauthenticated(await refusalOf(async () => pending.complete(await resigned(response, bob, putFirst))));
      expect((await pending.complete(await resigned(response, bob, (payload) => payload))).keys).toHaveLength(1);
    },
  );

  it.each(BAD_VALUES.filter(([, group]) => group === DhGroup.OAKLEY_5))(
    "%s under a pre-shared key, too",
    async (_name, _group, value) => {
      const { initiator, responder } = modePair(DHHMAC, crypto);
      const pending = await initiator.begin(modeRequest(crypto, DHHMAC));
      const { header, payloads } = decodeMessage(pending.octets);
      const keys = deriveMessageKeys(crypto, pending.csb, PSK, 0, MacAlg.HMAC_SHA_1_160);
      const changed = payloads.slice(0, -1).map((payload) => (payload.kind === "DH" ? { ...payload, value } : payload));
      expectUnauthenticated(await refusal(responder, encodeWithMac(crypto, header, changed, MacAlg.HMAC_SHA_1_160, keys)));
    },
  );

  it("an Initiator takes back what it sent and nothing else", async () => {
    const { pending, response } = await begun(DH, crypto);
    const bob = keyPair(crypto, "bob");
    const other = (await crypto.agreement("modp1536")).publicValue;
    const at = async (index: number, change: (payload: Payload) => Payload): Promise<string | undefined> => {
      let seen = 0;
      const octets = await resigned(response, bob, (payload) =>
        payload.kind === "DH" && seen++ === index ? change(payload) : payload,
      );
      return codeOf(() => pending.complete(octets));
    };
    expect(await at(1, (payload) => ({ ...payload, value: other }) as Payload)).toBe("mikey.response");
    expect(await at(1, (payload) => ({ ...payload, validity: { kv: "spi", spi: Uint8Array.of(9) } }) as Payload)).toBe(
      "mikey.response",
    );
    expect(await at(0, (payload) => ({ ...payload, validity: { kv: "null" } }) as Payload)).toBe("mikey.response");
    expect(await at(0, (payload) => ({ ...payload, group: DhGroup.X25519, value: new Uint8Array(32).fill(9) }) as Payload)).toBe(
      "mikey.response",
    );
    const none = await resigned(response, bob, (payload) => (payload.kind === "DH" ? undefined : payload));
    expect(await codeOf(() => pending.complete(none))).toBe("mikey.grammar");
  });
});

describe("an envelope", () => {
  const modulus = 256;
  const key = (): ReturnType<typeof createPublicKey> =>
    createPublicKey({ key: Buffer.from(keyPair(nodeCrypto, "bob").privateKey.publicKey.spki), format: "der", type: "spki" });
  const raw = (block: Uint8Array): Uint8Array =>
    new Uint8Array(publicEncrypt({ key: key(), padding: constants.RSA_NO_PADDING }, block));
  /** 00 02, nonzero octets, 00, the secret: or what goes wrong with it. */
  const block = (secret: number, change: (octets: Uint8Array) => Uint8Array = (octets) => octets): Uint8Array => {
    const octets = new Uint8Array(modulus).fill(0x5a);
    octets.set([0, 2]);
    octets[modulus - secret - 1] = 0;
    return raw(change(octets));
  };
  const VARIANTS: readonly (readonly [string, () => Uint8Array])[] = [
    ["right padding, another key", () => block(16)],
    ["a key of 15 octets", () => block(15)],
    ["a key of 17 octets", () => block(17)],
    ["a key of 32 octets", () => block(32)],
    ["a key of 48 octets", () => block(48)],
    ["no key", () => block(0)],
    ["block type 1", () => block(16, (octets) => octets.with(1, 1))],
    ["a first octet that is not zero", () => block(16, (octets) => octets.with(0, 1))],
    ["no zero between", () => block(16, (octets) => octets.with(modulus - 17, 7))],
    ["a zero within the first eight", () => block(16, (octets) => octets.with(5, 0))],
    ["OAEP of another hash", () => new Uint8Array(publicEncrypt({ key: key(), oaepHash: "sha256" }, new Uint8Array(16)))],
    ["random octets", () => nodeCrypto.randomBytes(modulus).with(0, 0)],
    ["more than the modulus", () => new Uint8Array(modulus).fill(0xff)],
    ["zero", () => new Uint8Array(modulus)],
    ["one octet too few", () => nodeCrypto.randomBytes(modulus - 1)],
    ["one octet too many", () => nodeCrypto.randomBytes(modulus + 1)],
    ["nothing", () => new Uint8Array(0)],
  ];

  it.each(
    (["rsa-oaep-sha1", "rsa-pkcs1"] as const).flatMap((scheme) => VARIANTS.map(([name, data]) => [name, scheme, data] as const)),
  )("with %s where %s is expected is refused as for any other reason, by either side", async (_name, scheme, data) => {
    const policy = { encryptionSchemes: [scheme] };
    const pk: ModeCase = { ...PK, policy };
    const put = (payload: Payload): Payload => (payload.kind === "PKE" ? { ...payload, data: data() } : payload);
    const { initiator, responder } = modePair(pk, nodeCrypto);
    const { octets } = await initiator.begin(modeRequest(nodeCrypto, pk));
    expectUnauthenticated(await refusal(responder, await resigned(octets, keyPair(nodeCrypto, "alice"), put)));
    // In RSA-R the Initiator decrypts; here Bob is the one.
    const rsaR: ModeCase = { ...RSA_R, policy };
    const reversed = modePair(rsaR, nodeCrypto, { responder: { keyPairs: [keyPair(nodeCrypto, "alice")], identity: ALICE } });
    const credential = { mode: "RSA-R" as const, keyPair: keyPair(nodeCrypto, "bob") };
    const request = modeRequest(nodeCrypto, rsaR, { credential, initiatorId: BOB, responderId: ALICE });
    const pending = await reversed.initiator.begin(request);
    const { response } = await accepted(reversed.responder.receive(pending.octets));
    const suffix = verificationSuffix(BOB, ALICE, pending.csb.timestamp);
    const forged = await resigned(response as Uint8Array, keyPair(nodeCrypto, "alice"), put, suffix);
    expectUnauthenticated(await refusalOf(() => pending.complete(forged)));
  });

  it("that is not decrypted at all costs no private key anything: the signature is checked before", async () => {
    let decrypted = 0;
    const bob = keyPair(nodeCrypto, "bob");
    const privateKey = {
      ...bob.privateKey,
      async decrypt(...parameters: Parameters<PrivateKey["decrypt"]>) {
        decrypted++;
        return (bob.privateKey as PrivateKey).decrypt(...parameters);
      },
    };
    const { initiator, responder } = modePair(PK, nodeCrypto, { responder: { keyPairs: [{ ...bob, privateKey }] } });
    const { octets } = await initiator.begin(modeRequest(nodeCrypto, PK));
    for (const at of places(octets)) await refusalOf(() => responder.receive(flip(octets, at)));
    expect(decrypted).toBe(0);
    await responder.receive(octets);
    await responder.receive(octets);
    expect(decrypted).toBe(1);
  });
});

describe("a signature with a second valid form", () => {
  const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

  it("does not let a message count twice (r, s and r, n - s)", async () => {
    const { responder, pending, response } = await begun(ECDSA);
    const s = BigInt(`0x${formatHex(pending.octets.subarray(-32))}`);
    const other = pending.octets.slice();
    other.set(parseHex((ORDER - s).toString(16).padStart(64, "0")), other.length - 32);
    expect(await responder.receive(other)).toMatchObject({ kind: "repeated", response });
    expect((await refusal(responder, other, { scope: "elsewhere" })).code).toBe("mikey.replay");
  });
});

describe("the tolerance for signatures that leave their header out", () => {
  it("is off unless named, works when named, and is reported", async () => {
    const { header, payloads } = decodeMessage(
      (await modePair(DH, nodeCrypto).initiator.begin(modeRequest(nodeCrypto, DH))).octets,
    );
    const { privateKey } = keyPair(nodeCrypto, "alice");
    const blank = { kind: "SIGN" as const, signatureType: 1, signature: new Uint8Array(256) };
    const octets = encodeMessage({ header, payloads: [...payloads.slice(0, -1), blank] });
    octets.set(await privateKey.sign("rsa-pss-sha256", octets.subarray(0, -258)), octets.length - 256);
    expectUnauthenticated(await refusal(modePair(DH, nodeCrypto).responder, octets));
    const lenient = modePair(DH, nodeCrypto, { responder: { tolerances: ["signature-header-uncovered"] } });
    const { csb } = await accepted(lenient.responder.receive(octets));
    expect(csb.tolerances).toEqual(["signature-header-uncovered"]);
  });
});

describe("a bundle", () => {
  it("is updated in its own way only", async () => {
    for (const [row, other] of [
      [DH, PK],
      [PK, caseNamed("PK, envelope key not cached")],
      [caseNamed("PK, envelope key not cached"), PK],
      [RSA_R, caseNamed("RSA-R, envelope key not cached")],
      [DHHMAC, caseNamed("PSK")],
    ] as const) {
      const { responder, theirs } = await begun(row);
      const second = await begun(other);
      const own = await second.pending.complete(second.response);
      const mode = updateModeOf({ mode: other.mode, ...(own.envelope === undefined ? {} : { envelope: own.envelope }) });
      const update = await second.initiator.update(own, mode.keys === "responder" ? {} : { keys: keysOf(mode.name, 2) });
      const { header, payloads } = decodeMessage(update.octets);
      const octets = encodeMessage({ header: { ...header, csbId: theirs.csbId }, payloads });
      expect((await refusal(responder, octets, { csb: theirs })).code).toBe("mikey.data-type");
    }
  });

  it("of one peer is not updated by another", async () => {
    const { responder, theirs } = await begun(DH);
    const bob = modePair({ ...DH, keys: ["bob", "alice"] }, nodeCrypto);
    const credential = { mode: "DH" as const, keyPair: keyPair(nodeCrypto, "bob") };
    const pending = await bob.initiator.begin(modeRequest(nodeCrypto, DH, { credential, initiatorId: BOB, csbId: theirs.csbId }));
    const named = await resigned(pending.octets, keyPair(nodeCrypto, "bob"), (payload) =>
      payload.kind === "RAND" ? undefined : payload,
    );
    expectUnauthenticated(await refusal(responder, named, { csb: theirs }));
    const unnamed = await resigned(pending.octets, keyPair(nodeCrypto, "bob"), (payload) =>
      ["RAND", "ID", "CERT"].includes(payload.kind) ? undefined : payload,
    );
    expectUnauthenticated(await refusal(responder, unnamed, { csb: theirs }));
  });
});

describe("a responder without a clue", () => {
  it("answers no mode that it has no key for, and says so to who is authentic", async () => {
    const { octets } = await modePair(DH, nodeCrypto).initiator.begin(modeRequest(nodeCrypto, DH));
    const clock = { now: () => NOW };
    const policy = { certificates: verifier(nodeCrypto) };
    const bare = createResponder({ crypto: nodeCrypto, clock, policy, findCredential: () => undefined });
    expect(await refusal(bare, octets)).toMatchObject({ code: "mikey.certificate", errorNo: 8 });
    const trusting = createResponder({ crypto: nodeCrypto, clock, findCredential: () => ({ psk: PSK }) });
    expectUnauthenticated(await refusal(trusting, octets));
  });
});
