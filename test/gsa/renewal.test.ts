import { describe, expect, it } from "vitest";
import { utf8 } from "../../src/bytes/index.js";
import {
  createMediaKeying,
  type ForkableOffer,
  type KeyedMedia,
  type MediaKeying,
  type OfferRequest,
  type RenewalAnswer,
} from "../../src/gsa/index.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import { type Csb, createInitiator, decodeMessage, IdType } from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { peerProfile } from "../../src/peers/index.js";
import { SrtpFailure } from "../../src/srtp/index.js";

const PSK = utf8("0123456789abcdef0123456789abcdef");
const CALLER = { idType: IdType.URI, data: utf8("sip:caller@example.org") };
const CALLEE = { idType: IdType.URI, data: utf8("sip:callee@example.org") };
const POLICY = { suite: "AES_CM_128_HMAC_SHA1_80" } as const;

function rtp(ssrc: number, sequence: number): Uint8Array {
  const packet = new Uint8Array(12 + 20).fill(sequence & 0xff, 12);
  const view = new DataView(packet.buffer);
  view.setUint16(0, 0x8000);
  view.setUint16(2, sequence & 0xffff);
  view.setUint32(8, ssrc);
  return packet;
}

function cross(from: KeyedMedia, to: KeyedMedia, packet: Uint8Array, line = 0): Uint8Array | number {
  const out = new Uint8Array(packet.length + 64);
  const length = from.streams[line]?.sender?.protect(packet, out) as number;
  const opened = to.streams[line]?.receiver?.unprotect(out.subarray(0, length), out) as number;
  return opened < 0 ? opened : out.slice(0, opened);
}

function world() {
  const network = createSimulatedNetwork();
  const make = (identity: typeof CALLER): MediaKeying =>
    createMediaKeying({
      clock: network.clock,
      timers: network.timers,
      crypto: nodeCrypto,
      dialect: peerProfile("strict"),
      identity,
      findCredential: () => ({ psk: PSK }),
    });
  return { network, caller: make(CALLER), callee: make(CALLEE), stranger: make({ idType: IdType.URI, data: utf8("sip:x@y") }) };
}

function offerOf(keying: MediaKeying, lines = 1, more: Partial<OfferRequest> = {}): Promise<ForkableOffer> {
  return keying.offer({
    credential: { psk: PSK },
    secure: false,
    streams: Array.from({ length: lines }, () => ({ policy: POLICY })),
    responderId: CALLEE,
    ...more,
  });
}

async function keyed(lines = 1) {
  const scene = world();
  const offer = await offerOf(scene.caller, lines);
  const answer = await scene.callee.answer(offer.octets, { secure: false, ssrcs: new Array(lines).fill(0), scope: "d" });
  if (answer.kind !== "new") throw new Error("repeated");
  return { ...scene, a: await offer.accept(answer.response), b: answer.media };
}

async function renewed(from: KeyedMedia, to: KeyedMedia, added = 0): Promise<void> {
  const renewal = await from.startRenewal({ added: Array.from({ length: added }, () => ({ policy: POLICY })) });
  const answer = await accepted(to, renewal.octets, to.streams.length + added);
  answer.commit();
  await renewal.complete(answer.response);
}

async function accepted(media: KeyedMedia, octets: Uint8Array, streamCount: number): Promise<RenewalAnswer & { kind: "new" }> {
  const answer = await media.acceptRenewal(octets, { streamCount, scope: "d" });
  if (answer.kind !== "new") throw new Error("repeated");
  return answer;
}

describe("renewal by either party", () => {
  it("goes back and forth: rollover counters and replay windows go on, proofs hold over all of it", async () => {
    const { a, b } = await keyed();
    const prints = new Set([a.fingerprint]);
    expect(cross(a, b, rtp(1, 65_535))).toBeInstanceOf(Uint8Array);
    expect(cross(b, a, rtp(2, 65_535))).toBeInstanceOf(Uint8Array);
    for (let round = 0; round < 6; round++) {
      const [from, to] = round % 2 === 0 ? [b, a] : [a, b];
      await renewed(from, to);
      expect(a.fingerprint).toBe(b.fingerprint);
      prints.add(a.fingerprint);
      expect(cross(a, b, rtp(1, round))).toBeInstanceOf(Uint8Array);
      expect(cross(b, a, rtp(2, round))).toBeInstanceOf(Uint8Array);
      expect(b.streams[0]?.receiver?.rolloverCounter(1)).toBe(1);
    }
    expect(prints.size).toBe(7);
    const { verdict, acknowledgement } = a.acceptDeregistration(b.deregister());
    expect([verdict, b.verifyAcknowledgement(acknowledgement)]).toEqual(["verified", "verified"]);
    const back = b.acceptDeregistration(a.deregister());
    expect([back.verdict, a.verifyAcknowledgement(back.acknowledgement)]).toEqual(["verified", "verified"]);
  });

  it("of the Initiator is an update: same CSB ID, no RAND; of the Responder a bundle of its own, then updates of that", async () => {
    const { a, b } = await keyed();
    const kinds = (octets: Uint8Array): string =>
      decodeMessage(octets)
        .payloads.map(({ kind }) => kind)
        .join(" ");
    const own = await b.startRenewal();
    expect(kinds(own.octets)).toBe("T RAND ID ID SP KEMAC");
    const answer = await accepted(a, own.octets, 1);
    answer.commit();
    await own.complete(answer.response);
    const second = await b.startRenewal();
    expect(kinds(second.octets)).toBe("T KEMAC");
    expect(decodeMessage(second.octets).header.csbId).toBe(decodeMessage(own.octets).header.csbId);
    second.abandon();
    await renewed(a, b);
  });

  it("adds m= lines, each with keys of its own, from either side", async () => {
    const { a, b } = await keyed(1);
    await renewed(a, b, 1);
    await renewed(b, a, 1);
    await renewed(a, b, 1);
    for (const line of [0, 1, 2, 3]) {
      expect(cross(a, b, rtp(10 + line, 1), line)).toBeInstanceOf(Uint8Array);
      expect(cross(b, a, rtp(20 + line, 1), line)).toBeInstanceOf(Uint8Array);
    }
    expect(cross(a, { ...b, streams: [...b.streams].reverse() }, rtp(10, 2), 0)).toBe(SrtpFailure.authentication);
    expect([a.streams.length, b.streams.length]).toEqual([4, 4]);
  });

  it("that is abandoned or rolled back leaves the old key, the old lines and room for the next", async () => {
    const { a, b } = await keyed();
    const renewal = await a.startRenewal({ added: [{ policy: POLICY }] });
    expect(a.streams.length).toBe(2);
    const answer = await accepted(b, renewal.octets, 2);
    expect(b.streams.length).toBe(2);
    answer.rollback();
    renewal.abandon();
    expect([a.streams.length, b.streams.length]).toEqual([1, 1]);
    answer.commit();
    expect(cross(a, b, rtp(1, 1))).toBeInstanceOf(Uint8Array);
    expect(cross(b, a, rtp(2, 1))).toBeInstanceOf(Uint8Array);
    await renewed(b, a);
    await renewed(a, b);
    expect(cross(a, b, rtp(1, 2))).toBeInstanceOf(Uint8Array);
  });

  it("loses no packet at any step, and nothing is sent under the new key before the answer", async () => {
    const { a, b } = await keyed();
    const mki = a.mki;
    const renewal = await a.startRenewal();
    expect(cross(a, b, rtp(1, 1))).toBeInstanceOf(Uint8Array);
    const answer = await accepted(b, renewal.octets, 1);
    expect(cross(b, a, rtp(2, 1))).toBeInstanceOf(Uint8Array);
    expect(b.mki).toEqual(mki);
    answer.commit();
    expect(b.mki).not.toEqual(mki);
    expect(cross(b, a, rtp(2, 2)), "new key from the answerer").toBeInstanceOf(Uint8Array);
    expect(cross(a, b, rtp(1, 2)), "old key from the offerer").toBeInstanceOf(Uint8Array);
    await renewal.complete(answer.response);
    expect(cross(a, b, rtp(1, 3))).toBeInstanceOf(Uint8Array);
  });

  it("is refused while another is under way, from a stranger, from another session, and twice", async () => {
    const { a, b, stranger } = await keyed();
    const first = await a.startRenewal();
    await expect(a.startRenewal()).rejects.toMatchObject({ code: "gsa.rekey" });
    const theirs = await b.startRenewal();
    await expect(a.acceptRenewal(theirs.octets)).rejects.toMatchObject({ code: "gsa.rekey" });
    first.abandon();
    theirs.abandon();
    const foreign = await offerOf(stranger);
    await expect(b.acceptRenewal(foreign.octets)).rejects.toMatchObject({ code: "gsa.rekey" });
    const other = await keyed();
    const update = await other.a.startRenewal();
    await expect(b.acceptRenewal(update.octets)).rejects.toMatchObject({ code: "mikey.unknown-csb" });
    const again = await a.startRenewal();
    const answer = await accepted(b, again.octets, 1);
    answer.commit();
    expect(await b.acceptRenewal(again.octets, { scope: "d" })).toEqual({ kind: "repeated", response: answer.response });
    await again.complete(answer.response);
  });

  it("under another policy is refused and changes nothing", async () => {
    const { a, b, callee } = await keyed();
    const other = await offerOf(callee, 1, { streams: [{ policy: { suite: "AEAD_AES_128_GCM" } }], responderId: CALLER });
    await expect(a.acceptRenewal(other.octets)).rejects.toMatchObject({ code: "gsa.rekey" });
    expect(cross(b, a, rtp(2, 1))).toBeInstanceOf(Uint8Array);
    await renewed(b, a);
  });

  it("an update without a key is answered, and the keys go on", async () => {
    const scene = world();
    let csb: Csb | undefined;
    const initiator = createInitiator({ crypto: nodeCrypto, clock: scene.network.clock });
    const begun = await initiator.begin({
      credential: { psk: PSK },
      initiatorId: CALLER,
      responderId: CALLEE,
      policies: new Map([[0, POLICY]]),
      cryptoSessions: [{ policyNo: 0 }, { policyNo: 0 }],
      keys: [{ kind: "TGK", length: 32, spi: Uint8Array.of(1, 2, 3, 4) }],
    });
    const answer = await scene.callee.answer(begun.octets, { secure: false, ssrcs: [0], scope: "d" });
    if (answer.kind !== "new") throw new Error("repeated");
    csb = await begun.complete(answer.response as Uint8Array);
    const { fingerprint } = answer.media;
    for (let i = 0; i < 2; i++) {
      const hold = await initiator.update(csb, {});
      const held = await accepted(answer.media, hold.octets, 1);
      held.commit();
      csb = await hold.complete(held.response as Uint8Array);
    }
    expect(answer.media.fingerprint).toBe(fingerprint);
    expect(answer.media.streams[0]?.sender?.protect(rtp(2, 1), new Uint8Array(100))).toBeGreaterThan(0);
  });

  it("is not for closed media", async () => {
    const { a, b } = await keyed();
    const renewal = await a.startRenewal();
    b.close();
    await expect(b.acceptRenewal(renewal.octets)).rejects.toMatchObject({ code: "gsa.closed" });
    a.close();
    await expect(renewal.complete(new Uint8Array(0))).rejects.toMatchObject({ code: "gsa.rekey" });
    await expect(a.startRenewal()).rejects.toMatchObject({ code: "gsa.rekey" });
  });
});

describe("a forked offer", () => {
  it("keys every branch, and no branch repeats a packet index of another", async () => {
    const { caller, callee, network } = world();
    const second = createMediaKeying({ ...callee.options, clock: network.clock });
    const offer = await offerOf(caller, 1, { peerAnnounced: true });
    const one = await callee.answer(offer.octets, { secure: false, ssrcs: [0], scope: "d" });
    const two = await second.answer(offer.octets, { secure: false, ssrcs: [0], scope: "d" });
    if (one.kind !== "new" || two.kind !== "new") throw new Error("repeated");
    const first = await offer.fork(one.response as Uint8Array);
    const other = await offer.fork(two.response as Uint8Array);
    expect(first.helloExchanged).toBe(true);
    expect(cross(first, one.media, rtp(1, 1))).toBeInstanceOf(Uint8Array);
    expect(cross(one.media, first, rtp(5, 1))).toBeInstanceOf(Uint8Array);
    expect(cross(two.media, other, rtp(6, 1))).toBeInstanceOf(Uint8Array);
    expect(() => other.streams[0]?.sender?.protect(rtp(1, 1), new Uint8Array(100))).toThrow(
      expect.objectContaining({ code: "srtp.index-reuse" }),
    );
    await expect(first.startRenewal()).rejects.toMatchObject({ code: "gsa.rekey" });
    other.close();
    offer.abandon();
    await renewed(first, one.media);
    expect(cross(first, one.media, rtp(1, 2))).toBeInstanceOf(Uint8Array);
    const { verdict, acknowledgement } = one.media.acceptDeregistration(first.deregister());
    expect([verdict, first.verifyAcknowledgement(acknowledgement)]).toEqual(["verified", "verified"]);
    expect(two.media.acceptDeregistration(first.deregister()).verdict, "a proof for one branch is none for another").toBe(
      "rejected",
    );
    await expect(offer.fork(one.response as Uint8Array)).rejects.toMatchObject({ code: "mikey.response" });
  });

  it("is not for NULL keying", async () => {
    const { caller } = world();
    const offer = await caller.offer({ credential: { nullKeying: true }, secure: true, streams: [{ policy: POLICY }] });
    await expect(offer.fork(offer.octets)).rejects.toMatchObject({ code: "gsa.null-fork" });
  });
});
