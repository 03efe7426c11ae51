import { describe, expect, it } from "vitest";
import {
  createMediaKeying,
  createSharedSender,
  type ForkableOffer,
  type KeyedMedia,
  type MediaKeying,
  type OfferRequest,
  type RenewalAnswer,
} from "../../src/gsa/index.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import { decodeMessage, MODES } from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { peerProfile } from "../../src/peers/index.js";
import { PSK } from "../mikey/exchange-fixture.js";
import { ALICE, BOB, caseNamed, credentialOf, MODE_CASES, type ModeCase, partyOf } from "../mikey/mode-fixture.js";

const POLICY = { suite: "AES_CM_128_HMAC_SHA1_80" } as const;
const cases = MODE_CASES.map((row) => [row.title, row] as const);

function rtp(ssrc: number, sequence: number): Uint8Array {
  const packet = new Uint8Array(12 + 20).fill(sequence & 0xff, 12);
  const view = new DataView(packet.buffer);
  view.setUint16(0, 0x8000);
  view.setUint16(2, sequence & 0xffff);
  view.setUint32(8, ssrc);
  return packet;
}

/** One packet from one end to the other; whether it was opened. */
function cross(from: KeyedMedia, to: KeyedMedia, packet: Uint8Array, line = 0): boolean {
  const out = new Uint8Array(packet.length + 64);
  const length = from.streams[line]?.sender?.protect(packet, out) as number;
  return (to.streams[line]?.receiver?.unprotect(out.subarray(0, length), out) as number) === packet.length;
}

function world(row: ModeCase) {
  const network = createSimulatedNetwork();
  const make = (side: 0 | 1): MediaKeying =>
    createMediaKeying({
      clock: network.clock,
      timers: network.timers,
      crypto: nodeCrypto,
      dialect: peerProfile("strict"),
      identity: side === 0 ? ALICE : BOB,
      findCredential: async () => ({ psk: PSK }),
      requirePsk: true,
      ...partyOf(nodeCrypto, row, side),
    });
  return { network, caller: make(0), callee: make(1) };
}

function offerOf(keying: MediaKeying, row: ModeCase, more: Partial<OfferRequest> = {}): Promise<ForkableOffer> {
  return keying.offer({
    credential: credentialOf(nodeCrypto, row),
    secure: false,
    streams: [{ policy: POLICY }],
    responderId: BOB,
    peerAnnounced: row.hello === true,
    ...more,
  });
}

async function keyed(row: ModeCase) {
  const scene = world(row);
  const offer = await offerOf(scene.caller, row);
  const answer = await scene.callee.answer(offer.octets, { secure: false, ssrcs: [0], scope: "d" });
  if (answer.kind !== "new") throw new Error("repeated");
  return { ...scene, a: await offer.accept(answer.response), b: answer.media };
}

async function accepted(media: KeyedMedia, octets: Uint8Array, streamCount: number): Promise<RenewalAnswer & { kind: "new" }> {
  const answer = await media.acceptRenewal(octets, { streamCount, scope: "d" });
  if (answer.kind !== "new") throw new Error("repeated");
  return answer;
}

async function renewed(from: KeyedMedia, to: KeyedMedia, added = 0): Promise<void> {
  const renewal = await from.startRenewal({ added: Array.from({ length: added }, () => ({ policy: POLICY })) });
  const answer = await accepted(to, renewal.octets, to.streams.length + added);
  answer.commit();
  await renewal.complete(answer.response);
}

describe.each(cases)("%s", (_title, row) => {
  const keyedBy = row.mode.toLowerCase();

  it("keys media both ways, says by what, and proves the end", async () => {
    const { a, b } = await keyed(row);
    expect([a.keyedBy, b.keyedBy]).toEqual([keyedBy, keyedBy]);
    expect(a.fingerprint).toBe(b.fingerprint);
    expect(a.mki).toHaveLength(4);
    expect(a.helloExchanged).toBe(row.hello === true);
    const named = row.keys === undefined ? undefined : { fingerprint: expect.any(Uint8Array) };
    expect(a.peer).toEqual(named && { ...named, identities: ["sip:bob@example.org"] });
    expect(b.peer).toEqual(named && { ...named, identities: ["sip:alice@example.org"] });
    expect(cross(a, b, rtp(1, 1))).toBe(true);
    expect(cross(b, a, rtp(2, 1))).toBe(true);
    const { verdict, acknowledgement } = b.acceptDeregistration(a.deregister());
    expect([verdict, a.verifyAcknowledgement(acknowledgement)]).toEqual(["verified", "verified"]);
    const back = a.acceptDeregistration(b.deregister());
    expect([back.verdict, b.verifyAcknowledgement(back.acknowledgement)]).toEqual(["verified", "verified"]);
  });

  it("is rekeyed by either party again and again, adding lines, and media never stops", async () => {
    const { a, b, network } = await keyed(row);
    const prints = new Set([a.fingerprint]);
    let sequence = 1;
    for (let round = 0; round < 6; round++) {
      const [from, to] = round % 2 === 0 ? [a, b] : [b, a];
      const renewal = await from.startRenewal({ added: round === 3 ? [{ policy: POLICY }] : [] });
      expect(cross(from, to, rtp(1, ++sequence)), "under the old key while the offer is open").toBe(true);
      const answer = await accepted(to, renewal.octets, to.streams.length + (round === 3 ? 1 : 0));
      answer.commit();
      // Media are faster than the answer.
      expect(cross(to, from, rtp(2, ++sequence)), "what the answerer sends before its answer arrives").toBe(true);
      await renewal.complete(answer.response);
      expect(a.fingerprint).toBe(b.fingerprint);
      prints.add(a.fingerprint);
      expect(cross(from, to, rtp(1, ++sequence))).toBe(true);
      expect(cross(to, from, rtp(2, ++sequence))).toBe(true);
      await network.advance(2000);
      expect(cross(to, from, rtp(2, ++sequence)), "under the new key").toBe(true);
      expect(to.streams[0]?.sender?.keyUsage(to.mki)?.rtp).toBeGreaterThan(0);
      await network.advance(31_000);
      expect(cross(from, to, rtp(1, ++sequence)), "when the old key is forgotten").toBe(true);
      expect(cross(to, from, rtp(2, ++sequence))).toBe(true);
      if (round >= 3) expect(cross(a, b, rtp(9, sequence), 1)).toBe(true);
    }
    expect(prints.size).toBe(7);
    const { verdict } = b.acceptDeregistration(a.deregister());
    expect(verdict).toBe("verified");
  });

  it("is rekeyed as the mode has it", async () => {
    const { a } = await keyed(row);
    const renewal = await a.startRekey();
    const { header, payloads } = decodeMessage(renewal.octets);
    const cached = MODES[row.mode].envelope && row.policy?.cacheEnvelopeKeys !== false;
    expect(header.dataType).toBe(cached ? MODES.PSK.requestType : MODES[row.mode].requestType);
    expect(payloads.some(({ kind }) => kind === "RAND")).toBe(false);
    renewal.abandon();
  });

  it("gives each branch of a fork its media", async () => {
    const { caller, callee, network } = world(row);
    const second = createMediaKeying({ ...callee.options, clock: network.clock });
    const offer = await offerOf(caller, row);
    const one = await callee.answer(offer.octets, { secure: false, ssrcs: [0], scope: "d" });
    const two = await second.answer(offer.octets, { secure: false, ssrcs: [0], scope: "d" });
    if (one.kind !== "new" || two.kind !== "new") throw new Error("repeated");
    const first = await offer.fork(one.response as Uint8Array);
    const other = await offer.fork(two.response as Uint8Array);
    expect(cross(first, one.media, rtp(1, 1))).toBe(true);
    expect(cross(two.media, other, rtp(6, 1))).toBe(true);
    const shares = MODES[row.mode].keys === "initiator";
    expect(first.fingerprint === other.fingerprint).toBe(shares);
    if (!shares) {
      expect(cross(other, two.media, rtp(1, 1)), "another key: the same packet index again").toBe(true);
      expect(cross(first, two.media, rtp(1, 2))).toBe(false);
    }
    other.close();
    offer.abandon();
    await renewed(first, one.media);
    expect(cross(first, one.media, rtp(1, 3))).toBe(true);
    expect(two.media.acceptDeregistration(first.deregister()).verdict).toBe("rejected");
  });

  it("tells the key of a shared stream only where the Initiator makes it", async () => {
    const { caller, callee } = world(row);
    const shared = createSharedSender({ policy: POLICY, mkiLength: 4, crypto: nodeCrypto });
    const offer = offerOf(caller, row, { shared, streams: [{ policy: POLICY, ssrc: 5 }] });
    if (MODES[row.mode].keys !== "initiator") {
      await expect(offer).rejects.toMatchObject({ code: "gsa.streams" });
      return;
    }
    const made = await offer;
    const answer = await callee.answer(made.octets, { secure: false, ssrcs: [0], scope: "d" });
    if (answer.kind !== "new") throw new Error("repeated");
    const media = await made.accept(answer.response);
    expect(cross(media, answer.media, rtp(5, 1))).toBe(true);
    expect(answer.media.acceptDeregistration(media.deregister()).verdict).toBe("verified");
  });
});

describe("a session in one mode", () => {
  const [psk, dh] = [caseNamed("PSK"), caseNamed("DH")];

  it("takes no renewal in another: a pre-shared key cannot replace forward secrecy", async () => {
    const { a, callee } = await keyed(dh);
    const other = await callee.offer({
      credential: credentialOf(nodeCrypto, psk),
      secure: false,
      streams: [{ policy: POLICY }],
      responderId: ALICE,
    });
    await expect(a.acceptRenewal(other.octets)).rejects.toMatchObject({ code: "gsa.rekey" });
    await expect(a.acceptRekey(other.octets)).rejects.toMatchObject({ code: "gsa.rekey" });
  });

  it("may fall back only from numbers of docs/protocol.md, and only if policy has it so", async () => {
    const numbersOf = async (row: ModeCase) => (await offerOf(world(row).caller, row, { peerAnnounced: true })).privateNumbers;
    const x25519 = caseNamed("DHHMAC over X25519");
    const either: ModeCase = { ...x25519, policy: { ...x25519.policy, groups: ["x25519", "modp1536"] } };
    expect(await numbersOf(psk)).toBeUndefined();
    expect(await numbersOf(either)).toBe("preferred");
    expect(await numbersOf({ ...either, policy: { ...either.policy, fallback: false } })).toBe("required");
  });

  it.each([
    ["groups", "DHHMAC over X25519", { groups: ["x25519", "p256"] }],
    ["PRFs", "PSK with HMAC-SHA-256", { prfs: [1] }],
    ["MACs", "PSK with HMAC-SHA-256", { macAlgs: [2] }],
    ["encryption", "PSK with HMAC-SHA-256", { encrAlgs: [3] }],
    ["signatures", "DH over P-256, signed with ECDSA", { groups: ["p256", "modp1536"] }],
    ["signatures of envelopes", "PK signed with Ed25519", {}],
  ] as const)("has nothing to fall back to where it lists none but such %s", async (_, title, policy) => {
    const row = caseNamed(title);
    const only: ModeCase = { ...row, policy: { ...row.policy, ...policy } };
    expect((await offerOf(world(only).caller, only)).privateNumbers).toBe("required");
  });

  it("without HELLO a list of such numbers alone is refused before anything is sent, and otherwise those of the RFCs are taken", async () => {
    const x25519 = caseNamed("DHHMAC over X25519");
    await expect(offerOf(world(x25519).caller, x25519, { peerAnnounced: false })).rejects.toMatchObject({ code: "mikey.option" });
    const both: ModeCase = { ...x25519, policy: { groups: ["x25519", "modp1536"] } };
    const { octets } = await offerOf(world(both).caller, both, { peerAnnounced: false });
    expect(decodeMessage(octets).payloads).toContainEqual(expect.objectContaining({ kind: "DH", group: 0 }));
  });
});
