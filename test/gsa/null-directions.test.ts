import { describe, expect, it } from "vitest";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createMediaKeying, type KeyedMedia, type MediaKeyingOptions, type NullDirections } from "../../src/gsa/index.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import { decodeKeyData, decodeMessage, payloadOf } from "../../src/mikey/index.js";
import { type PeerProfile, peerProfile } from "../../src/peers/index.js";
import { createSrtpSender } from "../../src/srtp/index.js";

const POLICY = { suite: "AES_CM_128_HMAC_SHA1_80" } as const;

function rtp(sequence: number): Uint8Array {
  const packet = new Uint8Array(32).fill(sequence, 12);
  new DataView(packet.buffer).setUint32(0, 0x8000_0000 + sequence);
  new DataView(packet.buffer).setUint32(8, 0x11223344);
  return packet;
}

function keying(profile: PeerProfile, options: Partial<MediaKeyingOptions> = {}) {
  const network = createSimulatedNetwork();
  return createMediaKeying({ clock: network.clock, timers: network.timers, crypto: nobleCrypto, dialect: profile, ...options });
}

/** Both ends of an exchange that the server began. */
async function ends(directions: NullDirections, mkiLength: number, clientAnswers = true) {
  const dialect = { ...peerProfile("onvif"), nullDirections: directions, mkiLength };
  const server = keying(dialect);
  const client = keying(dialect);
  const offer = await server.offer({ credential: { nullKeying: true }, streams: [{ policy: POLICY, ssrc: 1 }], secure: true });
  const answer = await client.answer(offer.octets, { secure: true, ssrcs: [2], scope: "s", keyOwnDirection: clientAnswers });
  if (answer.kind === "repeated") throw new Error("repeated");
  return { server: await offer.accept(answer.response), client: answer.media, response: answer.response };
}

function opens(from: KeyedMedia, to: KeyedMedia, sequence: number): boolean | undefined {
  const sender = from.streams[0]?.sender;
  const receiver = to.streams[0]?.receiver;
  if (sender === undefined || receiver === undefined) return undefined;
  const out = new Uint8Array(128);
  return receiver.unprotect(out.subarray(0, sender.protect(rtp(sequence), out)).slice(), out) === 32;
}

describe("whose key protects which direction, NULL-keyed", () => {
  it.each<readonly [NullDirections, number, boolean, boolean, boolean]>([
    ["each", 4, true, true, false],
    ["one", 4, true, false, true],
    ["answerer", 4, true, true, true],
    ["by-mki", 4, true, false, true],
    ["by-mki", 0, true, true, false],
  ])("%s, MKI of %i", async (directions, mkiLength, works, answered, same) => {
    const { server, client, response } = await ends(directions, mkiLength);
    // With by-mki the server tells by the answer; a client of that kind answers where the message has no MKI.
    expect([opens(server, client, 1), opens(client, server, 1)]).toEqual([works, works]);
    expect(response !== undefined).toBe(answered);
    expect(server.fingerprint).toBe(client.fingerprint);
    const canBoth = server.canRekey && client.canRekey;
    expect(canBoth).toBe(!same && mkiLength > 0);
  });

  it("an answerer that does not answer is refused", async () => {
    const server = keying(peerProfile("axis"));
    const offer = await server.offer({ credential: { nullKeying: true }, streams: [{ policy: POLICY, ssrc: 1 }], secure: true });
    await expect(offer.accept(undefined)).rejects.toMatchObject({ code: "mikey.absent" });
  });

  it("an answer without MKI is refused where packets have to carry one", async () => {
    const server = keying(peerProfile("axis"));
    const client = keying({ ...peerProfile("axis"), mkiLength: 0, requireMki: false });
    const offer = await server.offer({ credential: { nullKeying: true }, streams: [{ policy: POLICY, ssrc: 1 }], secure: true });
    const answer = await client.answer(offer.octets, { secure: true, ssrcs: [2], scope: "s", keyOwnDirection: true });
    await expect(offer.accept(answer.response)).rejects.toMatchObject({ code: "mikey.key-data" });
  });
});

describe("mki-missing-in-packets", () => {
  it.each([
    [["mki-missing-in-packets"], 32, true],
    [[], -1, false],
  ] as const)("%j", async (srtpTolerances, length, reported) => {
    const camera = keying(peerProfile("onvif"));
    const client = keying({ ...peerProfile("onvif"), srtpTolerances });
    const offer = await camera.offer({ credential: { nullKeying: true }, streams: [{ policy: POLICY, ssrc: 1 }], secure: true });
    const answer = await client.answer(offer.octets, { secure: true, ssrcs: [2], scope: "s", keyOwnDirection: true });
    if (answer.kind === "repeated") throw new Error("repeated");
    const [data] = decodeKeyData(payloadOf(decodeMessage(offer.octets), "KEMAC")?.encrData ?? new Uint8Array(0));
    const key = data?.key ?? new Uint8Array(0);
    const sender = createSrtpSender({
      policy: POLICY,
      keys: [{ key: key.slice(0, 16), salt: key.slice(16) }],
      crypto: nobleCrypto,
    });
    const wire = new Uint8Array(128);
    const packet = wire.subarray(0, sender.protect(rtp(1), wire)).slice();
    expect(Math.max(-1, answer.media.streams[0]?.receiver?.unprotect(packet, wire) ?? 0)).toBe(length);
    expect(answer.media.tolerances.includes("mki-missing-in-packets")).toBe(reported);
  });
});
