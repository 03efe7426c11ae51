import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { utf8, WatchwordError } from "../../src/bytes/index.js";
import {
  type Csb,
  carrierStatusOf,
  createInitiator,
  createReplayCache,
  createResponder,
  createTimestampSource,
  decodeMessage,
  EncrAlg,
  ErrorNo,
  encodeErrorMessage,
  encodeMessage,
  MacAlg,
  MikeyError,
  MikeyPeerError,
  mikeyErrorNo,
  type Payload,
  peerErrorOf,
  prf,
  type Received,
  TimestampType,
  TOLERANCES,
  type ToleranceName,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { ALICE, accepted, BOB, codeOf, NOW, PSK, pair, policies, refusal, refusalOf, request } from "./exchange-fixture.js";

/** Re-encodes a message with other payloads. */
function changed(octets: Uint8Array, change: (payloads: readonly Payload[]) => readonly Payload[]): Uint8Array {
  const { header, payloads } = decodeMessage(octets);
  return encodeMessage({ header, payloads: change(payloads) });
}

describe("authentication", () => {
  const shortMac = (payload: Payload): Payload =>
    payload.kind === "KEMAC" ? { ...payload, macAlg: MacAlg.HMAC_SHA_256_256, mac: new Uint8Array(32) } : payload;
  const wrongs: readonly (readonly [name: string, damage: (octets: Uint8Array) => Uint8Array, who: string])[] = [
    ["a wrong MAC", (octets) => octets.with(octets.length - 1, (octets.at(-1) as number) ^ 1), "alice"],
    ["an unknown identity", (octets) => octets, "nobody"],
    ["a wrong key", (octets) => octets, "wrong"],
    [
      "another policy",
      (octets) => changed(octets, (all) => all.map((p) => (p.kind === "SP" ? { ...p, params: p.params.slice(1) } : p))),
      "alice",
    ],
    ["another CSB ID", (octets) => octets.with(4, (octets[4] as number) ^ 1), "alice"],
    ["V taken away", (octets) => octets.with(3, 0), "alice"],
    [
      "an extension put in",
      (octets) => changed(octets, (all) => [...all.slice(0, -1), { kind: "EXT", extType: 0, data: utf8("x") }, ...all.slice(-1)]),
      "alice",
    ],
    ["a MAC of another algorithm", (octets) => changed(octets, (all) => all.map(shortMac)), "alice"],
  ];

  it.each(wrongs)("%s fails with the one message", async (_name, damage, who) => {
    const { responder, clock } = pair();
    const initiator = createInitiator({ crypto: nodeCrypto, clock });
    const psk = who === "wrong" ? utf8("another key here") : PSK;
    const initiatorId = who === "nobody" ? { ...ALICE, data: utf8("sip:nobody@example.org") } : ALICE;
    const octets = (await initiator.begin(request({ credential: { psk }, initiatorId }))).octets;
    const error = await refusal(responder, damage(octets));
    expect([error.code, error.message, error.errorNo, error.cause]).toEqual([
      "mikey.authentication",
      "MIKEY authentication failed",
      0,
      undefined,
    ]);
    // RFC 3830 §5.1.2: the report of a failed authentication is not authenticated itself.
    expect(decodeMessage(error.reply as Uint8Array).payloads.map(({ kind }) => kind)).toEqual(["T", "ERR"]);
  });

  it("no octet of a request can be changed, and nothing untyped is thrown", async () => {
    const { initiator, responder } = pair();
    const { octets } = await initiator.begin(request({ sdpIds: ["mikey"] }));
    for (let at = 0; at < octets.length; at++) {
      for (const flip of [0x01, 0x80, 0xff]) {
        await refusalOf(() => responder.receive(octets.with(at, (octets[at] as number) ^ flip)));
      }
    }
    // None of the attempts spoilt the real message.
    expect((await responder.receive(octets)).kind).toBe("new");
    for (let at = 0; at < octets.length; at++)
      await refusalOf(() => responder.receive(octets.with(at, (octets[at] as number) ^ 0x10)));
  });

  it("once fields in the clear are consistent, only authentication can fail", async () => {
    const { initiator, responder } = pair();
    const { octets } = await initiator.begin(request());
    const { spans } = decodeMessage(octets);
    const kemac = spans.at(-1)?.start as number;
    for (let at = kemac + 4; at < octets.length; at++) {
      // The MAC algorithm stands between encrypted data and MAC.
      if (at === (spans.at(-1)?.valueStart as number) - 1) continue;
      expect((await refusal(responder, octets.with(at, (octets[at] as number) ^ 0x40))).message).toBe(
        "MIKEY authentication failed",
      );
    }
  });

  it("no truncation is accepted", async () => {
    const { initiator, responder } = pair();
    const pending = await initiator.begin(request());
    for (let length = 0; length < pending.octets.length; length++)
      await refusalOf(() => responder.receive(pending.octets.subarray(0, length)));
    const { response } = await accepted(responder.receive(pending.octets));
    for (let length = 0; length < (response as Uint8Array).length; length++) {
      await refusalOf(() => pending.complete((response as Uint8Array).subarray(0, length)));
    }
    expect((await pending.complete(response as Uint8Array)).peerAuthenticated).toBe(true);
  });

  it("no octet of a response can be changed", async () => {
    const { initiator, responder } = pair();
    const pending = await initiator.begin(request());
    const response = (await accepted(responder.receive(pending.octets))).response as Uint8Array;
    for (let at = 0; at < response.length; at++) {
      for (const flip of [0x01, 0x80, 0xff])
        await refusalOf(() => pending.complete(response.with(at, (response[at] as number) ^ flip)));
    }
    expect((await pending.complete(response)).peerAuthenticated).toBe(true);
  });

  it("no update can be changed or cut", async () => {
    const { initiator, responder } = pair();
    const pending = await initiator.begin(request());
    const { csb, response } = await accepted(responder.receive(pending.octets));
    const { octets } = await initiator.update(await pending.complete(response as Uint8Array), {
      keys: [{ kind: "TGK", spi: Uint8Array.of(4, 3, 2, 1) }],
    });
    for (let at = 0; at < octets.length; at++) {
      await refusalOf(() => responder.receive(octets.with(at, (octets[at] as number) ^ 0x20), { csb }));
      await refusalOf(() => responder.receive(octets.subarray(0, at), { csb }));
    }
    expect((await responder.receive(octets, { csb })).kind).toBe("update");
  });

  it("a response of another responder under the same key is not taken", async () => {
    const { initiator, clock } = pair();
    const mallory = createResponder({
      crypto: nodeCrypto,
      clock,
      identity: { ...BOB, data: utf8("mallory@example.org") },
      isLocalIdentity: () => true,
      findCredential: () => ({ psk: PSK }),
    });
    const pending = await initiator.begin(request());
    const response = (await accepted(mallory.receive(pending.octets))).response as Uint8Array;
    expect((await pending.complete(response)).responderId).toEqual(BOB);
    // The identities are left out, so Mallory answers under an own one, with a right V over it.
    const unnamed = await initiator.begin(request({ omitIdentities: true }));
    const answer = (await accepted(mallory.receive(unnamed.octets, { peerId: ALICE }))).response as Uint8Array;
    expect(await codeOf(() => unnamed.complete(answer))).toBe("mikey.authentication");
  });

  it("a response cannot be reflected or moved to another exchange", async () => {
    const { initiator, responder, clock } = pair();
    const first = await initiator.begin(request());
    const second = await initiator.begin(request());
    const response = (await accepted(responder.receive(first.octets))).response as Uint8Array;
    expect(await codeOf(() => second.complete(response))).toBe("mikey.response");
    expect(await codeOf(() => first.complete(first.octets))).toBe("mikey.response");
    clock.time += 1;
    expect((await refusal(responder, response)).code).toBe("mikey.response");
    expect((await refusal(responder, response)).reply).toBeUndefined();
  });
});

describe("arbitrary input", async () => {
  const both = pair({ tolerances: Object.keys(TOLERANCES) as ToleranceName[], allowNullKeying: true });
  const pending = await both.initiator.begin(request());
  const nullKeyed = (
    await createInitiator({ crypto: nodeCrypto, clock: both.clock, allowNullKeying: true }).begin(
      request({ credential: { nullKeying: true }, keys: [{ kind: "TEK+SALT" }] }),
    )
  ).octets;

  /** Whatever happens, it is a result or a typed error. */
  async function survive(octets: Uint8Array): Promise<void> {
    for (const call of [() => both.responder.receive(octets), () => pending.complete(octets), () => peerErrorOf(octets)]) {
      try {
        await call();
      } catch (error) {
        expect(error).toBeInstanceOf(WatchwordError);
      }
    }
  }

  it("gives a result or a typed error", async () => {
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), survive));
  });

  it("gives a result or a typed error for messages with changed, inserted and deleted octets", async () => {
    const edit = fc.record({ at: fc.nat(300), remove: fc.nat(3), insert: fc.uint8Array({ maxLength: 3 }) });
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(pending.octets, nullKeyed),
        fc.array(edit, { minLength: 1, maxLength: 4 }),
        async (octets, edits) => {
          let list = [...octets];
          for (const { at, remove, insert } of edits) list = [...list.slice(0, at), ...insert, ...list.slice(at + remove)];
          await survive(Uint8Array.from(list));
        },
      ),
      { numRuns: 500 },
    );
  });

  it("is refused quickly however large it is", async () => {
    const { header } = decodeMessage(nullKeyed);
    const payloads: Payload[] = Array.from({ length: 1000 }, () => ({ kind: "EXT", extType: 0, data: new Uint8Array(40) }));
    await survive(encodeMessage({ header, payloads }));
    await survive(new Uint8Array(1 << 20).fill(1));
  });
});

describe("a network that drops, duplicates and reorders", () => {
  it("leaves both sides with the same keys wherever both have any", async () => {
    const event = fc.oneof(
      fc.constant("send" as const),
      fc.constant("duplicate" as const),
      fc.constant("swap" as const),
      fc.constant("drop" as const),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(event, { maxLength: 12 }),
        fc.array(event, { maxLength: 12 }),
        fc.integer({ min: 1, max: 4 }),
        async (there, back, attempts) => {
          const { initiator, responder } = pair();
          const pending = await Promise.all(Array.from({ length: attempts }, () => initiator.begin(request())));
          const made = new Map<number, Csb>();
          const responses: Uint8Array[] = [];
          for (const octets of mangle(
            pending.map(({ octets: message }) => message),
            there,
          )) {
            const result: Received = await responder.receive(octets);
            if (result.kind !== "repeated") {
              expect(made.has(result.csb.csbId)).toBe(false);
              made.set(result.csb.csbId, result.csb);
            }
            if (result.response !== undefined) responses.push(result.response);
          }
          for (const octets of mangle(responses, back)) {
            for (const exchange of pending) {
              const code = await codeOf(async () => {
                expect((await exchange.complete(octets)).keys).toEqual(made.get(exchange.csb.csbId)?.keys);
              });
              expect([undefined, "mikey.response"]).toContain(code);
            }
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  function mangle(messages: readonly Uint8Array[], events: readonly string[]): Uint8Array[] {
    const queue = [...messages];
    const out: Uint8Array[] = [];
    for (const event of events) {
      const head = queue.shift();
      if (head === undefined) break;
      if (event === "send") out.push(head);
      if (event === "duplicate") out.push(head, head);
      if (event === "swap") queue.push(head);
    }
    return [...out, ...queue];
  }
});

describe("refusals", () => {
  const base = () => pair();
  const reject = async (octets: Uint8Array, options = {}, context = {}) => await refusal(pair(options).responder, octets, context);
  const sent = async (changes = {}) => (await base().initiator.begin(request(changes))).octets;
  /** A request whose KEMAC was made by hand; the MAC is wrong, so checks before authentication are what is seen. */
  const kemac = async (encrAlg: number, macAlg: number) =>
    changed(await sent(), (all) => [
      ...all.slice(0, -1),
      { kind: "KEMAC", encrAlg, encrData: new Uint8Array(24), macAlg, mac: new Uint8Array({ 0: 0, 1: 20 }[macAlg] ?? 32) },
    ]);

  it.each([
    [
      "a clock an hour late",
      async () => (await createInitiator({ crypto: nodeCrypto, clock: { now: () => NOW - 3_600_000 } }).begin(request())).octets,
      "mikey.timestamp",
      1,
    ],
    ["a PRF that nobody knows", async () => (await sent()).with(3, 0x85), "mikey.prf", 2],
    ["a MAC that nobody knows", () => kemac(EncrAlg.AES_CM_128, 77), "mikey.mac-algorithm", 3],
    ["NULL MAC over encrypted keys", () => kemac(EncrAlg.AES_CM_128, MacAlg.NULL), "mikey.mac-algorithm", 3],
    ["keys in the clear under a MAC", () => kemac(EncrAlg.NULL, MacAlg.HMAC_SHA_1_160), "mikey.encryption-algorithm", 4],
    ["an encryption that nobody knows", () => kemac(99, MacAlg.HMAC_SHA_1_160), "mikey.encryption-algorithm", 4],
    ["key wrap with padding outside its mode", () => kemac(240, MacAlg.HMAC_SHA_1_160), "mikey.encryption-algorithm", 4],
    ["another responder", () => sent({ responderId: { ...BOB, data: utf8("carol@example.org") } }), "mikey.identity", 7],
    ["a SAKKE message", async () => (await sent()).with(1, 26), "mikey.data-type", 11],
    ["a message of a group", async () => (await sent()).with(1, 241), "mikey.response", undefined],
    [
      "a message without RAND",
      async () => changed(await sent(), (all) => all.filter(({ kind }) => kind !== "RAND")),
      "mikey.unknown-csb",
      12,
    ],
    [
      "a message with two RANDs",
      async () => changed(await sent(), (all) => [...all.slice(0, 2), ...all.slice(1)]),
      "mikey.grammar",
      12,
    ],
    ["a message without KEMAC", async () => changed(await sent(), (all) => all.slice(0, -1)), "mikey.grammar", 12],
    [
      "a payload after the KEMAC",
      async () => changed(await sent(), (all) => [...all, { kind: "EXT", extType: 0, data: utf8("x") }]),
      "mikey.grammar",
      12,
    ],
    [
      "a DH payload in a pre-shared key message",
      async () => changed(await sent(), (all) => [{ kind: "CHASH", hashFunc: 0, hash: new Uint8Array(20) }, ...all]),
      "mikey.grammar",
      12,
    ],
    ["three identities", async () => changed(await sent(), (all) => [...all.slice(0, 3), ...all.slice(2)]), "mikey.grammar", 12],
    ["a RAND of eight octets", () => sent({ rand: new Uint8Array(8) }), "mikey.grammar", 12],
    [
      "an SRTP policy without encryption",
      () => sent({ policies: new Map([[0, { suite: "AES_CM_128_HMAC_SHA1_80", encryptRtp: false }]]) }),
      "mikey.policy-parameter",
      10,
    ],
    [
      "ROC carrying that leaves packets without a MAC",
      () => sent({ policies: new Map([[0, { suite: "AES_CM_128_HMAC_SHA1_80", rolloverCarrying: { mode: 1, rate: 2 } }]]) }),
      "mikey.policy-parameter",
      10,
    ],
    ["the NULL cipher", () => sent({ policies: policies("NULL_HMAC_SHA1_80") }), "mikey.policy-parameter", 10],
  ] as const)("%s: %#", async (_name, octets, code, errorNo) => {
    const message = await octets();
    const error = await reject(message);
    expect([error.code, error.errorNo, mikeyErrorNo(error.code)]).toEqual([code, errorNo, errorNo]);
    expect(error.status).toEqual({ sip: 488, rtsp: 463 });
    if (errorNo === undefined) return;
    const reply = decodeMessage(error.reply as Uint8Array);
    const asked = decodeMessage(message);
    expect(reply.header).toMatchObject({ dataType: 6, verificationRequested: false, prf: asked.header.prf });
    expect(reply.payloads[0]).toEqual(expect.objectContaining({ kind: "T" }));
    expect(reply.payloads[1]).toEqual({ kind: "ERR", errorNo, reserved: 0 });
  });

  it("carry no reply where the message says no time", async () => {
    const octets = changed(await sent(), (all) => all.filter(({ kind }) => kind !== "T"));
    expect(await reject(octets)).toMatchObject({ code: "mikey.grammar", reply: undefined });
  });

  it("a counter where none is kept, and a replay where one is", async () => {
    const { responder, clock } = pair({ acceptCounter: true });
    const counters = (last: number) =>
      createTimestampSource(clock, { tsType: TimestampType.COUNTER, last: Uint8Array.of(0, 0, 0, last) });
    const begin = async (last: number) =>
      (await createInitiator({ crypto: nodeCrypto, clock, timestamps: counters(last) }).begin(request())).octets;
    await accepted(responder.receive(await begin(9)));
    expect((await refusal(responder, await begin(8))).code).toBe("mikey.replay");
    expect((await refusal(responder, await begin(9))).code).toBe("mikey.replay");
    await accepted(responder.receive(await begin(10)));
    expect(await refusal(pair().responder, await begin(11))).toMatchObject({ code: "mikey.timestamp", errorNo: 1 });
  });

  it("a policy that is not for SRTP, is there twice or missing; keys that do not fit", async () => {
    const inside = (change: (payloads: readonly Payload[]) => readonly Payload[]) => authentic(change);
    const messages = [
      await inside((all) => all.map((p) => (p.kind === "SP" ? { ...p, protType: 1 } : p))),
      await inside((all) => [...all, ...all.filter(({ kind }) => kind === "SP")]),
      await inside((all) => all.filter(({ kind }) => kind !== "SP")),
      await inside((all) => all.map((p) => (p.kind === "SP" ? { ...p, params: [{ type: 99, value: Uint8Array.of(1) }] } : p))),
    ];
    const codes = await Promise.all(messages.map(async (octets) => (await reject(octets)).code));
    expect(codes).toEqual(["mikey.policy", "mikey.policy", "mikey.policy", "mikey.policy-parameter"]);
  });

  it("an empty KEMAC at the beginning of an exchange", async () => {
    expect((await reject(await authentic((all) => all, []))).code).toBe("mikey.empty-kemac");
  });

  it.each([
    ["a TEK of an unfitting length", [{ type: 2, key: new Uint8Array(31), validity: { kv: "null" } }]],
    ["a bare TEK of the key's length", [{ type: 2, key: new Uint8Array(16), validity: { kv: "null" } }]],
    ["a salt of an unfitting length", [{ type: 3, key: new Uint8Array(16), salt: new Uint8Array(12), validity: { kv: "null" } }]],
    ["a short TGK", [{ type: 0, key: new Uint8Array(15), validity: { kv: "null" } }]],
    ["key data of another mode", [{ type: 4, key: new Uint8Array(16), validity: { kv: "null" } }]],
    ["an SPI without octets", [{ type: 0, key: new Uint8Array(16), validity: { kv: "spi", spi: new Uint8Array(0) } }]],
    [
      "an interval of short indices",
      [{ type: 0, key: new Uint8Array(16), validity: { kv: "interval", from: new Uint8Array(2), to: new Uint8Array(2) } }],
    ],
    [
      "an interval that ends before it begins",
      [{ type: 0, key: new Uint8Array(16), validity: { kv: "interval", from: new Uint8Array(6).fill(1), to: new Uint8Array(6) } }],
    ],
    [
      "two keys that nothing tells apart",
      [
        { type: 0, key: new Uint8Array(16), validity: { kv: "null" } },
        { type: 0, key: new Uint8Array(16).fill(1), validity: { kv: "null" } },
      ],
    ],
    [
      "two keys with one SPI",
      [
        { type: 0, key: new Uint8Array(16), validity: { kv: "spi", spi: Uint8Array.of(1) } },
        { type: 0, key: new Uint8Array(16).fill(1), validity: { kv: "spi", spi: Uint8Array.of(1) } },
      ],
    ],
    [
      "SPIs of two lengths",
      [
        { type: 0, key: new Uint8Array(16), validity: { kv: "spi", spi: Uint8Array.of(1) } },
        { type: 0, key: new Uint8Array(16).fill(1), validity: { kv: "spi", spi: Uint8Array.of(1, 2) } },
      ],
    ],
  ] as const)("%s", async (_name, keys) => {
    const error = await reject(await authentic((all) => all, keys));
    expect(error.code).toBe("mikey.key-data");
    expect(decodeMessage(error.reply as Uint8Array).payloads.map(({ kind }) => kind)).toEqual(["T", "ERR", "V"]);
  });

  it("a pre-shared key that repeats itself, on both sides", async () => {
    const psk = new Uint8Array(64).fill(0x41);
    expect(await codeOf(() => base().initiator.begin(request({ credential: { psk } })))).toBe("mikey.repeating-key");
    expect((await reject(await sent(), { findCredential: () => ({ psk }) })).code).toBe("mikey.repeating-key");
  });

  it("a bare TEK where the tolerance for it is off", async () => {
    expect((await reject(await sent({ keys: [{ kind: "TEK" }] }), { tolerances: [] })).code).toBe("mikey.key-data");
  });

  it("a full cache shrinks what is accepted instead of forgetting", async () => {
    const { initiator, responder, clock } = pair({ replayCache: createReplayCache({ capacity: 8 }) });
    const octets: Uint8Array[] = [];
    for (let i = 0; i < 9; i++) {
      clock.time += 1000;
      octets.push((await initiator.begin(request())).octets);
    }
    for (const message of octets) await accepted(responder.receive(message));
    expect((await refusal(responder, octets[0] as Uint8Array)).code).toBe("mikey.replay");
    expect((await responder.receive(octets[5] as Uint8Array)).kind).toBe("repeated");
  });

  /** A request with a right MAC over whatever is wrong in it. */
  async function authentic(
    change: (payloads: readonly Payload[]) => readonly Payload[],
    keys?: readonly object[],
  ): Promise<Uint8Array> {
    const crypto = nodeCrypto;
    const { octets } = await base().initiator.begin(request());
    const { header, payloads } = decodeMessage(octets);
    return encodeByHand(
      header.csbId,
      header,
      change(payloads.slice(0, -1)),
      keys ?? [{ type: 0, key: crypto.randomBytes(16), validity: { kv: "null" } }],
    );
  }
});

/** The KEMAC of a request computed without the code under test, except the PRF, which has vectors of its own. */
function encodeByHand(
  csbId: number,
  header: ReturnType<typeof decodeMessage>["header"],
  payloads: readonly Payload[],
  keys: readonly object[],
): Uint8Array {
  const rand = payloads.find((p) => p.kind === "RAND")?.rand as Uint8Array;
  const t = payloads.find((p) => p.kind === "T")?.value as Uint8Array;
  const suffix = Uint8Array.of(0xff, csbId >>> 24, csbId >>> 16, csbId >>> 8, csbId, ...rand);
  const derive = (constant: readonly number[], bits: number) =>
    prf(nodeCrypto, "sha1", PSK, Uint8Array.of(...constant, ...suffix), bits);
  const plain = chain(keys as readonly KeyDataLike[]);
  const salt = derive([0x29, 0xb8, 0x89, 0x16], 112);
  const iv = Uint8Array.of(...salt, 0, 0);
  [csbId >>> 24, csbId >>> 16, csbId >>> 8, csbId, ...t].forEach((octet, i) => {
    iv[2 + i] = (iv[2 + i] as number) ^ (octet & 0xff);
  });
  const aes = nodeCrypto.aesBlocks(derive([0x15, 0x05, 0x33, 0xe1], 128));
  const encrData = plain.map((octet, i) => {
    const block = iv.slice();
    block[15] = i >> 4;
    aes.encrypt(block, block);
    return octet ^ (block[i & 15] as number);
  });
  const octets = encodeMessage({
    header,
    payloads: [...payloads, { kind: "KEMAC", encrAlg: 1, encrData, macAlg: 1, mac: new Uint8Array(20) }],
  });
  octets.set(nodeCrypto.hmac("sha1", derive([0x2d, 0x22, 0xac, 0x75], 160)).compute(octets.subarray(0, -20)), octets.length - 20);
  return octets;
}

interface KeyDataLike {
  readonly type: number;
  readonly key: Uint8Array;
  readonly salt?: Uint8Array;
  readonly validity: { readonly kv: string; readonly spi?: Uint8Array; readonly from?: Uint8Array; readonly to?: Uint8Array };
}

/** RFC 3830 §6.13, §6.14. */
function chain(keys: readonly KeyDataLike[]): Uint8Array {
  const u16 = (octets: Uint8Array) => [octets.length >> 8, octets.length & 0xff, ...octets];
  const out = keys.flatMap(({ type, key, salt, validity: { kv, spi, from, to } }, i) => [
    i + 1 < keys.length ? 20 : 0,
    (type << 4) | ["null", "spi", "interval"].indexOf(kv),
    ...u16(key),
    ...(salt === undefined ? [] : u16(salt)),
    ...(spi === undefined ? [] : [spi.length, ...spi]),
    ...(from === undefined || to === undefined ? [] : [from.length, ...from, to.length, ...to]),
  ]);
  return Uint8Array.from(out);
}

describe("ERR messages (RFC 3830 §5.1.2)", () => {
  const policyRefusal = async () => {
    const both = pair({ policyAccepted: ({ suite }) => suite === "AEAD_AES_128_GCM", supported: [{ suite: "AEAD_AES_128_GCM" }] });
    const pending = await both.initiator.begin(request());
    return { ...both, pending, error: await refusal(both.responder, pending.octets) };
  };

  it("tell the Initiator, authenticated, which policies are supported", async () => {
    const { pending, error } = await policyRefusal();
    try {
      await pending.complete(error.reply as Uint8Array);
      expect.unreachable();
    } catch (caught) {
      expect(caught).toBeInstanceOf(MikeyPeerError);
      expect(caught).toMatchObject({
        code: "mikey.peer-error",
        errorNo: undefined,
        reply: undefined,
        report: { errorNos: [ErrorNo.INVALID_SP_PAR], policies: [{ suite: "AEAD_AES_128_GCM" }], authenticated: true },
      });
      expect((caught as Error).message).toBe("the peer answered with MIKEY error 10 INVALID_SP_PAR (SP parameters not supported)");
    }
  });

  it("without V are a hint only; with a wrong V they are nothing; the right response still completes", async () => {
    const { initiator, responder } = pair();
    const pending = await initiator.begin(request());
    const forged = encodeErrorMessage(nodeCrypto, pending.csb, pending.csb.timestamp, ErrorNo.AUTH_FAILURE);
    expect(await codeOf(() => pending.complete(forged))).toBe("mikey.peer-error");
    await expect(pending.complete(forged)).rejects.toThrow(/unauthenticated/);
    const { error } = await policyRefusal();
    const { payloads } = decodeMessage(error.reply as Uint8Array);
    const wrongV = encodeMessage({
      header: { ...decodeMessage(forged).header },
      payloads: payloads.map((p) => (p.kind === "T" ? { ...p, value: pending.csb.timestamp.value } : p)),
    });
    expect(await codeOf(() => pending.complete(wrongV))).toBe("mikey.authentication");
    const { response } = await accepted(responder.receive(pending.octets));
    expect((await pending.complete(response as Uint8Array)).peerAuthenticated).toBe(true);
  });

  it("of another exchange are not taken", async () => {
    const { initiator } = pair();
    const pending = await initiator.begin(request());
    const other = encodeErrorMessage(nodeCrypto, { prf: 0, csbId: (pending.csb.csbId ^ 1) >>> 0 }, pending.csb.timestamp, 0);
    expect(await codeOf(() => pending.complete(other))).toBe("mikey.response");
  });

  it("are never answered with an ERR", async () => {
    const { responder } = pair();
    const { error } = await policyRefusal();
    const caught = await refusal(responder, error.reply as Uint8Array);
    expect(caught).toBeInstanceOf(MikeyPeerError);
    expect(caught.reply).toBeUndefined();
  });

  it("are read on their own, as in a 463", async () => {
    const { pending, error } = await policyRefusal();
    expect(peerErrorOf(error.reply as Uint8Array)?.report).toEqual({
      errorNos: [10],
      policies: [{ suite: "AEAD_AES_128_GCM" }],
      authenticated: false,
    });
    expect(peerErrorOf(pending.octets)).toBeUndefined();
  });
});

describe("status codes", () => {
  it("follow from the error", async () => {
    expect(new MikeyError("mikey.absent", "").status).toEqual({ sip: 488, rtsp: 403 });
    expect(carrierStatusOf(new MikeyError("mikey.policy", ""))).toEqual({ sip: 488, rtsp: 463 });
    expect(carrierStatusOf(await refusalOf(() => decodeMessage(Uint8Array.of(2))))).toEqual({ sip: 488, rtsp: 463 });
    expect(carrierStatusOf(new MikeyError("mikey.option", "")).rtsp).toBe(500);
  });
});
