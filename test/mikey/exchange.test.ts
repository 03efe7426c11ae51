import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { equalBytes, formatHex, parseHex, utf8 } from "../../src/bytes/index.js";
import type { CryptoProvider } from "../../src/crypto/index.js";
import {
  type BeginRequest,
  type Csb,
  createInitiator,
  createResponder,
  createTimestampSource,
  decodeMessage,
  decodeNtp,
  deriveMessageKeys,
  EncrAlg,
  ExtensionType,
  encodeNtp,
  encodeWithKemac,
  type GeneralExtensionPayload,
  IdType,
  type KeyKind,
  MacAlg,
  PrfFunc,
  srtpMasterKeys,
  TimestampType,
  wipeCsb,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { suiteNames, suiteOf } from "../../src/srtp/index.js";
import vectorFile from "../vectors/derived-mikey-psk-exchange.json" with { type: "json" };
import rfc4567 from "../vectors/rfc4567-example-messages.json" with { type: "json" };
import { backends } from "./crypto-backends.js";
import { ALICE, accepted, BOB, codeOf, NOW, PSK, pair, policies, refusal, request } from "./exchange-fixture.js";

const [I, R] = vectorFile.vectors as unknown as readonly Record<string, string>[];
const hex = (vector: Record<string, string> | undefined, name: string): Uint8Array => parseHex(vector?.[name] as string);
const vectorAlice = { idType: IdType.URI, data: utf8("sip:alice@example.org") };
const vectorBob = { idType: IdType.URI, data: utf8("sip:bob@example.org") };
const vectorT = { tsType: 0, value: parseHex("ec898da800000000") };
const vectorClock = { now: () => decodeNtp(vectorT.value, NOW) };

/** Both sides derive the same keys for every session. */
function sameKeys(crypto: CryptoProvider, a: Csb, b: Csb): void {
  expect(a.cryptoSessions).toEqual(b.cryptoSessions);
  for (const { csId } of a.cryptoSessions) {
    const keys = srtpMasterKeys(crypto, a, csId);
    expect(keys).toEqual(srtpMasterKeys(crypto, b, csId));
    expect(keys.length).toBeGreaterThan(0);
    const suite = suiteOf(a.policies.get(a.cryptoSessions[0]?.policyNo ?? 0)?.suite as string);
    for (const { key, salt } of keys) {
      expect(key).toHaveLength(suite.keyLength);
      expect(salt).toHaveLength(suite.saltLength);
    }
  }
}

describe.each(backends)("the pre-shared key vectors on %s", (_name, crypto) => {
  const responder = createResponder({
    crypto,
    clock: vectorClock,
    identity: vectorBob,
    findCredential: (id) => (equalBytes(id?.data ?? new Uint8Array(0), vectorAlice.data) ? { psk: hex(I, "psk") } : undefined),
  });

  it("the I_MESSAGE is accepted, and its keys are those of the vectors", async () => {
    const { csb, claim } = await accepted(responder.receive(hex(I, "message")));
    expect(claim?.timestamp).toEqual(csb.timestamp);
    // A replay cache may keep it: it holds no message.
    expect(claim?.timestamp.value.buffer.byteLength).toBe(8);
    expect(csb.keys).toEqual([
      { kind: "TGK", key: parseHex("404142434445464748494a4b4c4d4e4f"), validity: { kv: "spi", spi: parseHex("000000aa") } },
    ]);
    for (const csId of [1, 2]) {
      const vector = (vectorFile.vectors as unknown as readonly Record<string, string>[]).find(({ name }) =>
        name?.startsWith(`CS ${csId}: TEK`),
      );
      expect(srtpMasterKeys(crypto, csb, csId)).toEqual([
        { key: hex(vector, "tek"), salt: hex(vector, "masterSalt"), mki: parseHex("000000aa") },
      ]);
      for (const suite of ["AEAD_AES_128_GCM", "AEAD_AES_256_GCM"] as const) {
        const aead = (vectorFile.vectors as unknown as readonly Record<string, string>[]).find(
          ({ name }) => name === `CS ${csId}: ${suite}`,
        );
        expect(srtpMasterKeys(crypto, csb, csId, { suite })).toEqual([
          { key: hex(aead, "tek"), salt: hex(aead, "masterSalt96"), mki: parseHex("000000aa") },
        ]);
      }
    }
  });

  it("the response is the R_MESSAGE of the vectors", async () => {
    expect(formatHex((await accepted(responder.receive(hex(I, "message")))).response as Uint8Array)).toBe(R?.["message"]);
  });

  it("the I_MESSAGE is made again octet by octet", () => {
    const message = decodeMessage(hex(I, "message"));
    const rand = hex(I, "rand");
    const octets = encodeWithKemac(
      crypto,
      message.header,
      message.payloads.slice(0, -1),
      vectorT,
      [{ type: 0, key: parseHex("404142434445464748494a4b4c4d4e4f"), validity: { kv: "spi", spi: parseHex("000000aa") } }],
      { encrAlg: 1, macAlg: 1, keys: deriveMessageKeys(crypto, { prf: 0, csbId: 0x12345678, rand }, hex(I, "psk"), 1, 1) },
      {},
    );
    expect(formatHex(octets)).toBe(I?.["message"]);
  });

  it("the R_MESSAGE of the vectors completes an exchange of ours", async () => {
    const initiator = createInitiator({ crypto, clock: vectorClock });
    const pending = await initiator.begin({
      credential: { psk: hex(I, "psk") },
      csbId: 0x12345678,
      rand: hex(I, "rand"),
      initiatorId: vectorAlice,
      responderId: vectorBob,
      cryptoSessions: [{ ssrc: 0xcafebabe }, { ssrc: 0xcafed00d }],
      policies: policies(),
      keys: [{ kind: "TGK" }],
    });
    expect((await pending.complete(hex(R, "message"))).peerAuthenticated).toBe(true);
  });
});

describe.each(backends)("a pre-shared key exchange on %s", (_name, crypto) => {
  const kinds: readonly KeyKind[] = ["TGK", "TGK+SALT", "TEK", "TEK+SALT"];
  const combinations = kinds.flatMap((kind) => suiteNames.map((suite) => [kind, suite] as const));

  it.each(combinations)("transports %s for %s", async (kind, suite) => {
    const { initiator, responder } = pair({ policyAccepted: () => true }, crypto);
    const pending = await initiator.begin(request({ policies: policies(suite), keys: [{ kind }] }));
    const result = await accepted(responder.receive(pending.octets, { ssrcFor: () => 0xb0b }));
    const csb = await pending.complete(result.response as Uint8Array);
    expect(csb.cryptoSessions.map(({ ssrc }) => ssrc)).toEqual([0xcafebabe, 0xb0b]);
    sameKeys(crypto, csb, result.csb);
    expect(formatHex(pending.octets)).not.toContain(formatHex(csb.keys[0]?.key as Uint8Array));
  });

  it("agrees in every combination of algorithms, maps and validity", async () => {
    const combination = fc.record({
      kind: fc.constantFrom(...kinds),
      suite: fc.constantFrom(...suiteNames),
      prf: fc.constantFrom(PrfFunc.MIKEY_1, PrfFunc.HMAC_SHA_256),
      encrAlg: fc.constantFrom(EncrAlg.AES_CM_128, EncrAlg.AES_KW_128, EncrAlg.AES_CM_256),
      macAlg: fc.constantFrom(MacAlg.HMAC_SHA_1_160, MacAlg.HMAC_SHA_256_256),
      mapType: fc.constantFrom(0 as const, 2 as const),
      validity: fc.constantFrom("null", "spi", "interval"),
      spiLength: fc.integer({ min: 1, max: 255 }),
      sessions: fc.integer({ min: 1, max: 5 }),
      keys: fc.integer({ min: 1, max: 3 }),
      tsType: fc.constantFrom(TimestampType.NTP_UTC, TimestampType.NTP, TimestampType.COUNTER, TimestampType.NTP_UTC_32),
      ids: fc.constantFrom("both", "initiator", "omitted"),
      responseRequested: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(combination, async (wanted) => {
        const { responder, clock } = pair({ policyAccepted: () => true, acceptCounter: true }, crypto);
        const initiator = createInitiator({ crypto, clock, timestamps: createTimestampSource(clock, { tsType: wanted.tsType }) });
        const count = wanted.validity === "null" ? 1 : wanted.keys;
        const keys = Array.from({ length: count }, (_, i) => ({
          kind: wanted.kind,
          ...(wanted.validity === "spi" ? { spi: new Uint8Array(wanted.spiLength).fill(i + 1) } : {}),
          ...(wanted.validity === "interval" ? { interval: { from: i * 1000, to: i * 1000 + 999 } } : {}),
        }));
        const sessions = Array.from({ length: wanted.sessions }, (_, i) =>
          wanted.mapType === 2 ? { csId: 10 + i, ssrc: i + 1, roc: i, seq: 7 * i } : { ssrc: i === 0 ? 0 : i, roc: i },
        );
        const pending = await initiator.begin({
          credential: { psk: PSK },
          initiatorId: ALICE,
          ...(wanted.ids === "initiator" ? {} : { responderId: BOB }),
          omitIdentities: wanted.ids === "omitted",
          cryptoSessions: sessions,
          mapType: wanted.mapType,
          policies: policies(wanted.suite),
          keys,
          prf: wanted.prf,
          encrAlg: wanted.encrAlg,
          macAlg: wanted.macAlg,
          padKeyWrap: true,
          requestResponse: wanted.responseRequested,
        });
        const result = await accepted(responder.receive(pending.octets, { peerId: ALICE, ssrcFor: () => 99 }));
        expect(result.response !== undefined).toBe(wanted.responseRequested);
        const csb = result.response === undefined ? pending.csb : await pending.complete(result.response);
        if (result.response !== undefined) expect(csb.responderId).toEqual(BOB);
        sameKeys(crypto, csb, result.csb);
        expect(srtpMasterKeys(crypto, csb, csb.cryptoSessions[0]?.csId as number)).toHaveLength(count);
      }),
      { numRuns: 150 },
    );
  });
});

describe("an exchange", () => {
  it("works with an Empty map, whose policy comes from elsewhere (RFC 4563 §5)", async () => {
    const { initiator, responder } = pair();
    const pending = await initiator.begin(request({ mapType: 1, policies: new Map(), cryptoSessions: [{}, {}] }));
    const { csb, response } = await accepted(responder.receive(pending.octets));
    const done = await pending.complete(response as Uint8Array);
    expect(csb.cryptoSessions.map(({ csId, policyNo }) => [csId, policyNo])).toEqual([
      [1, undefined],
      [2, undefined],
    ]);
    const policy = { suite: "AES_CM_128_HMAC_SHA1_80" } as const;
    expect(srtpMasterKeys(nodeCrypto, done, 2, policy)).toEqual(srtpMasterKeys(nodeCrypto, csb, 2, policy));
    expect(await codeOf(() => srtpMasterKeys(nodeCrypto, done, 2))).toBe("mikey.policy");
    expect(await codeOf(() => srtpMasterKeys(nodeCrypto, done, 3, policy))).toBe("mikey.option");
  });

  it("works without any crypto session", async () => {
    const { initiator, responder } = pair();
    const pending = await initiator.begin(request({ cryptoSessions: [], policies: new Map() }));
    const { response, csb } = await accepted(responder.receive(pending.octets));
    expect((await pending.complete(response as Uint8Array)).keys).toEqual(csb.keys);
  });

  it("gives each session the key that a GENERIC-ID map names", async () => {
    const { initiator, responder } = pair();
    const [one, two] = [Uint8Array.of(1), Uint8Array.of(2)];
    const pending = await initiator.begin(
      request({
        mapType: 2,
        cryptoSessions: [
          { csId: 9, ssrc: 1, spi: one },
          { csId: 7, ssrc: 2, spi: two },
        ],
        keys: [
          { kind: "TGK", spi: one },
          { kind: "TEK+SALT", spi: two },
        ],
      }),
    );
    const { csb, response } = await accepted(responder.receive(pending.octets));
    expect(srtpMasterKeys(nodeCrypto, csb, 9).map(({ mki }) => mki)).toEqual([one]);
    expect(srtpMasterKeys(nodeCrypto, csb, 7).map(({ mki }) => mki)).toEqual([two]);
    sameKeys(nodeCrypto, await pending.complete(response as Uint8Array), csb);
  });

  it("takes the salt of the key data where there is one, and derives it where not (RFC 3830 §4.1.3)", async () => {
    const { initiator, responder } = pair();
    const value = new Uint8Array(16).fill(9);
    const salt = new Uint8Array(14).fill(7);
    const common = { csbId: 1, rand: new Uint8Array(16).fill(1) };
    const [salted] = srtpMasterKeys(
      nodeCrypto,
      (
        await accepted(
          responder.receive((await initiator.begin(request({ ...common, keys: [{ kind: "TGK+SALT", value, salt }] }))).octets),
        )
      ).csb,
      1,
    );
    const [derived] = srtpMasterKeys(
      nodeCrypto,
      (await accepted(responder.receive((await initiator.begin(request({ ...common, keys: [{ kind: "TGK", value }] }))).octets)))
        .csb,
      1,
    );
    expect(salted?.salt).toEqual(salt);
    expect(derived?.salt).not.toEqual(salt);
    expect(salted?.key).toEqual(derived?.key);
  });

  it("an SPI as MKI, an interval as indices and lifetime", async () => {
    const { initiator, responder } = pair();
    const keys = [
      { kind: "TEK+SALT", interval: { from: 0, to: 0xffff } },
      { kind: "TEK+SALT", interval: { from: 0x10000, to: 2 ** 48 - 1 } },
    ] as const;
    const { csb } = await accepted(responder.receive((await initiator.begin(request({ keys }))).octets));
    expect(srtpMasterKeys(nodeCrypto, csb, 1).map(({ interval, rtpLifetime, mki }) => [interval, rtpLifetime, mki])).toEqual([
      [{ from: 0, to: 0xffff }, 0x10000, undefined],
      [{ from: 0x10000, to: 2 ** 48 - 1 }, 2 ** 48 - 0x10000, undefined],
    ]);
  });

  it("carries extensions both ways, and binds the transcript", async () => {
    const { initiator, responder } = pair();
    const hello: GeneralExtensionPayload = { kind: "EXT", extType: ExtensionType.HELLO, data: Uint8Array.of(1, 2, 3) };
    const answer: GeneralExtensionPayload = { kind: "EXT", extType: ExtensionType.HELLO, data: Uint8Array.of(4, 5) };
    const pending = await initiator.begin(request({ extensions: [hello] }));
    const result = await accepted(
      responder.receive(pending.octets, {
        responseExtensions: (csb) => {
          expect(csb.initiatorExtensions).toEqual([hello]);
          return [answer];
        },
      }),
    );
    const csb = await pending.complete(result.response as Uint8Array);
    expect(csb.responderExtensions).toEqual([answer]);
    for (const side of [csb, result.csb]) {
      expect(side.exchange).toEqual({
        dataType: 0,
        request: pending.octets,
        response: result.response,
        timestamp: csb.timestamp,
        initiatorExtensions: [hello],
        responderExtensions: [answer],
      });
    }
  });

  it("one-way (V = 0): the keys are there, no response exists", async () => {
    const { initiator, responder } = pair();
    const pending = await initiator.begin(request({ requestResponse: false, cryptoSessions: [{ ssrc: 1 }] }));
    expect(decodeMessage(pending.octets).header.verificationRequested).toBe(false);
    const { csb, response } = await accepted(responder.receive(pending.octets));
    expect(response).toBeUndefined();
    sameKeys(nodeCrypto, pending.csb, csb);
    expect(pending.csb.peerAuthenticated).toBe(false);
    expect(await codeOf(() => pending.complete(new Uint8Array(10)))).toBe("mikey.response");
  });

  it("a response completes once and may come twice; garbage between does no harm", async () => {
    const { initiator, responder } = pair();
    const pending = await initiator.begin(request());
    const { response } = await accepted(responder.receive(pending.octets));
    const octets = response as Uint8Array;
    expect(await codeOf(() => pending.complete(octets.with(octets.length - 1, (octets.at(-1) as number) ^ 1)))).toBe(
      "mikey.authentication",
    );
    const csb = await pending.complete(octets);
    expect(await pending.complete(octets.slice())).toBe(csb);
    expect(await codeOf(() => pending.complete(octets.with(octets.length - 1, 0).with(octets.length - 2, 0)))).toBe(
      "mikey.authentication",
    );
  });

  it("a repeated request gets the same response, in the same dialog only", async () => {
    const { initiator, responder, clock } = pair();
    const pending = await initiator.begin(request());
    const first = await accepted(responder.receive(pending.octets, { scope: "a" }));
    clock.time += 1000;
    const again = await responder.receive(pending.octets, { scope: "a", csb: first.csb });
    expect(again).toEqual({ kind: "repeated", response: first.response, claim: expect.anything() });
    expect((await refusal(responder, pending.octets, { scope: "b" })).code).toBe("mikey.replay");
    clock.time += 400_000;
    expect((await refusal(responder, pending.octets, { scope: "a" })).code).toBe("mikey.timestamp");
  });

  it("without a cache of its own the responder says what to claim", async () => {
    const { initiator, clock } = pair();
    const responder = createResponder({ crypto: nodeCrypto, clock, findCredential: () => ({ psk: PSK }) });
    const pending = await initiator.begin(request());
    const first = await accepted(responder.receive(pending.octets, { scope: "s" }));
    const second = await accepted(responder.receive(pending.octets, { scope: "s" }));
    expect(first.claim).toEqual(second.claim);
    expect(first.claim).toMatchObject({ scope: "s", csbId: first.csb.csbId, time: NOW, expires: NOW + 300_000 });
    expect(first.claim?.key).toMatch(/^[0-9a-f]{64}$/);
    expect((await accepted(responder.receive((await initiator.begin(request())).octets))).claim?.key).not.toBe(first.claim?.key);
  });

  it("messages with one timestamp are not accepted twice", async () => {
    const { responder, clock } = pair();
    const octets = await Promise.all(
      [1, 2].map(
        async () =>
          (await createInitiator({ crypto: nodeCrypto, clock }).begin(request({ csbId: 5, cryptoSessions: [{ ssrc: 1 }] }))).octets,
      ),
    );
    await accepted(responder.receive(octets[0] as Uint8Array));
    expect((await refusal(responder, octets[1] as Uint8Array)).code).toBe("mikey.replay");
  });

  it("CSB IDs that are in use are not chosen", async () => {
    const refusedIds: number[] = [];
    const initiator = createInitiator({
      crypto: nodeCrypto,
      clock: { now: () => NOW },
      csbIdInUse: (csbId) => refusedIds.length < 3 && refusedIds.push(csbId) > 0,
    });
    const { csb } = await initiator.begin(request());
    expect(refusedIds).toHaveLength(3);
    expect(refusedIds).not.toContain(csb.csbId);
  });

  it("wipes the keys of a bundle and of an abandoned exchange", async () => {
    const { initiator, responder } = pair();
    const pending = await initiator.begin(request({ keys: [{ kind: "TEK+SALT" }] }));
    const { csb } = await accepted(responder.receive(pending.octets));
    const psk = PSK.slice();
    wipeCsb(csb);
    pending.abandon();
    for (const side of [csb, pending.csb]) {
      expect(side.keys[0]?.key.every((octet) => octet === 0)).toBe(true);
      expect(side.keys[0]?.salt?.every((octet) => octet === 0)).toBe(true);
      expect("psk" in side.credential && side.credential.psk.every((octet) => octet === 0)).toBe(true);
    }
    expect(PSK).toEqual(psk);
  });

  it("reads the structure of the RFC 4567 §5.1 messages but has no key for them", async () => {
    const [offer, answer] = rfc4567.vectors as unknown as readonly Record<string, string>[];
    const time = decodeNtp(parseHex("c8e350ea00000000"), NOW);
    const responder = createResponder({ crypto: nodeCrypto, clock: { now: () => time }, findCredential: () => ({ psk: PSK }) });
    expect((await refusal(responder, hex(offer, "hex"))).code).toBe("mikey.authentication");
    expect((await refusal(responder, hex(answer, "hex"))).code).toBe("mikey.response");
  });
});

describe("SDP IDs (RFC 4567 §4.1.4)", () => {
  const offer = async (sdpIds?: readonly string[]) => {
    const both = pair({ tolerances: [] });
    return { ...both, octets: (await both.initiator.begin(request(sdpIds === undefined ? {} : { sdpIds }))).octets };
  };

  it("that match are accepted", async () => {
    const { responder, octets } = await offer(["mikey", "keyp1", "keyp2"]);
    expect((await responder.receive(octets, { sdpIds: ["mikey", "keyp1", "keyp2"] })).kind).toBe("new");
  });

  it.each([[["mikey"]], [["keyp1", "mikey"]], [["mikey", "keyp1", "keyp2"]]])(
    "that became %j in the SDP are bidding down",
    async (sdpIds) => {
      const { responder, octets } = await offer(["mikey", "keyp1"]);
      const error = await refusal(responder, octets, { sdpIds });
      expect(error.code).toBe("mikey.sdp-ids");
      expect(error.errorNo).toBe(0);
    },
  );

  it("that are absent are put up with for MIKEY alone, by name", async () => {
    const { initiator, responder } = pair();
    expect((await refusal(responder, (await initiator.begin(request())).octets, { sdpIds: ["mikey"] })).code).toBe("mikey.sdp-ids");
    const lenient = pair({ tolerances: ["sdp-ids-absent"] });
    const result = await accepted(
      lenient.responder.receive((await lenient.initiator.begin(request())).octets, { sdpIds: ["mikey"] }),
    );
    expect(result.csb.tolerances).toEqual(["sdp-ids-absent"]);
    expect(
      (await refusal(lenient.responder, (await lenient.initiator.begin(request())).octets, { sdpIds: ["mikey", "x"] })).code,
    ).toBe("mikey.sdp-ids");
  });

  it("stay unread where there is no SDP", async () => {
    const { responder, octets } = await offer(["mikey", "keyp1"]);
    expect((await responder.receive(octets)).kind).toBe("new");
  });
});

describe("a CSB update (RFC 3830 §4.5)", () => {
  async function established(changes: Partial<BeginRequest> = {}) {
    const both = pair();
    const pending = await both.initiator.begin(request(changes));
    const result = await accepted(both.responder.receive(pending.octets, { ssrcFor: () => 7 }));
    return { ...both, own: await pending.complete(result.response as Uint8Array), theirs: result.csb };
  }

  it("keeps CSB ID, RAND and exchange, leaves RAND, IDs and policies out, brings a key with a new SPI", async () => {
    const { initiator, responder, own, theirs } = await established();
    const spi = Uint8Array.of(0, 0, 0, 2);
    const pending = await initiator.update(own, {
      keys: [{ kind: "TGK", spi }],
      cryptoSessions: [
        { ssrc: 0xcafebabe, roc: 3 },
        { ssrc: 7, roc: 1 },
      ],
    });
    expect(decodeMessage(pending.octets).payloads.map(({ kind }) => kind)).toEqual(["T", "KEMAC"]);
    const result = await accepted(responder.receive(pending.octets, { csb: theirs }));
    expect(result.kind).toBe("update");
    const updated = await pending.complete(result.response as Uint8Array);
    for (const side of [updated, result.csb]) {
      expect(side.csbId).toBe(own.csbId);
      expect(side.rand).toEqual(own.rand);
      expect(side.exchange).toBe(side === updated ? own.exchange : theirs.exchange);
      expect(side.cryptoSessions.map(({ roc }) => roc)).toEqual([3, 1]);
    }
    sameKeys(nodeCrypto, updated, result.csb);
    const [before] = srtpMasterKeys(nodeCrypto, own, 1);
    const [after] = srtpMasterKeys(nodeCrypto, updated, 1);
    expect(after?.mki).toEqual(spi);
    expect(after?.key).not.toEqual(before?.key);
  });

  it("may carry no key: the keys stay", async () => {
    const { initiator, responder, own, theirs } = await established();
    const pending = await initiator.update(own, {
      policies: new Map([[1, { suite: "AES_256_CM_HMAC_SHA1_80" }]]),
      cryptoSessions: [{ ssrc: 1, policyNo: 1 }],
    });
    const result = await accepted(responder.receive(pending.octets, { csb: theirs }));
    const updated = await pending.complete(result.response as Uint8Array);
    expect(updated.keys).toEqual(own.keys);
    expect(result.csb.policies.get(1)).toEqual({ suite: "AES_256_CM_HMAC_SHA1_80" });
    wipeCsb(own);
    expect(srtpMasterKeys(nodeCrypto, updated, 1)).toEqual(srtpMasterKeys(nodeCrypto, result.csb, 1));
  });

  it("a chain of updates stays in step, in any order of keys and timestamps", async () => {
    const { initiator, responder, clock, own, theirs } = await established();
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            wait: fc.integer({ min: -2000, max: 2000 }),
            kind: fc.constantFrom<KeyKind>("TGK", "TGK+SALT", "TEK", "TEK+SALT"),
          }),
          { maxLength: 12 },
        ),
        async (steps) => {
          let [a, b] = [own, theirs];
          for (const [i, { wait, kind }] of steps.entries()) {
            clock.time += wait;
            const pending = await initiator.update(a, { keys: [{ kind, spi: Uint8Array.of(1, 1, i, i) }] });
            const result = await accepted(responder.receive(pending.octets, { csb: b, scope: `${i}` }));
            expect(result.kind).toBe("update");
            [a, b] = [await pending.complete(result.response as Uint8Array), result.csb];
            sameKeys(nodeCrypto, a, b);
          }
          clock.time = NOW;
        },
      ),
      { numRuns: 20 },
    );
  });

  it("repeated gets the same response; older than the last is refused", async () => {
    const { initiator, responder, own, theirs } = await established();
    const first = await initiator.update(own, { keys: [{ kind: "TGK", spi: Uint8Array.of(9, 9, 9, 1) }] });
    const second = await initiator.update(own, { keys: [{ kind: "TGK", spi: Uint8Array.of(9, 9, 9, 2) }] });
    const result = await accepted(responder.receive(second.octets, { csb: theirs }));
    expect(await responder.receive(second.octets, { csb: result.csb })).toMatchObject({
      kind: "repeated",
      response: result.response,
    });
    expect((await refusal(responder, first.octets, { csb: result.csb })).code).toBe("mikey.replay");
  });

  it("is refused without its bundle, for another bundle, and after a change of keys", async () => {
    const { initiator, responder, own, theirs } = await established();
    const { octets } = await initiator.update(own, { keys: [{ kind: "TGK", spi: Uint8Array.of(1, 2, 3, 4) }] });
    expect((await refusal(responder, octets)).code).toBe("mikey.unknown-csb");
    expect((await refusal(responder, octets, { csb: { ...theirs, csbId: theirs.csbId ^ 1 } })).code).toBe("mikey.unknown-csb");
    expect((await refusal(responder, octets, { csb: { ...theirs, credential: { psk: utf8("another key") } } })).code).toBe(
      "mikey.authentication",
    );
    expect((await refusal(responder, octets, { csb: { ...theirs, rand: new Uint8Array(16) } })).code).toBe("mikey.authentication");
    expect((await refusal(responder, octets, { csb: { ...theirs, prf: 1 } })).code).toBe("mikey.prf");
  });

  it("authenticates the offered protocols again, where the carrier is an SDP", async () => {
    const { initiator, responder, own, theirs } = await established();
    const plain = (await initiator.update(own, {})).octets;
    expect((await refusal(responder, plain, { csb: theirs, sdpIds: ["mikey"] })).code).toBe("mikey.sdp-ids");
    const { octets } = await initiator.update(own, { sdpIds: ["mikey"] });
    expect((await responder.receive(octets, { csb: theirs, sdpIds: ["mikey"] })).kind).toBe("update");
  });

  it("is the Initiator's to send, with an SPI of its own", async () => {
    const { initiator, own, theirs } = await established();
    expect(await codeOf(() => initiator.update(theirs, {}))).toBe("mikey.option");
    expect(await codeOf(() => initiator.update(own, { keys: [{ kind: "TGK", spi: Uint8Array.of(0, 0, 0, 1) }] }))).toBe(
      "mikey.option",
    );
  });

  it("has a timestamp above the last one even where the clock went back", async () => {
    const { own, responder, theirs } = await established();
    const late = createInitiator({ crypto: nodeCrypto, clock: { now: () => NOW - 3_600_000 } });
    const pending = await late.update(own, { keys: [{ kind: "TGK", spi: Uint8Array.of(1, 2, 3, 4) }] });
    expect((await accepted(responder.receive(pending.octets, { csb: theirs }))).kind).toBe("update");
    expect(formatHex(pending.csb.timestamp.value)).toBe(formatHex(encodeNtp(NOW).with(7, 1)));
  });
});
