import { describe, expect, it } from "vitest";
import { concatBytes, formatHex, utf8 } from "../../src/bytes/index.js";
import {
  createMediaKeying,
  type KeyedMedia,
  type MediaKeying,
  type MediaKeyingOptions,
  type OfferRequest,
} from "../../src/gsa/index.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import { decodeMessage, ExtensionType, IdType } from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { type PeerProfileName, peerProfile } from "../../src/peers/index.js";
import { SrtpFailure, type SuiteName } from "../../src/srtp/index.js";

const PSK = utf8("0123456789abcdef0123456789abcdef");
const SERVER = { idType: IdType.NAI, data: utf8("server@example.org") };
const VIEWER = { idType: IdType.NAI, data: utf8("viewer@example.org") };
const SERVER_SSRC = 0x11223344;
const VIEWER_SSRC = 0x55667788;

function rtp(ssrc: number, sequence: number, timestamp = sequence * 160): Uint8Array {
  const packet = new Uint8Array(12 + 20).fill(sequence & 0xff, 12);
  const view = new DataView(packet.buffer);
  view.setUint16(0, 0x8000);
  view.setUint16(2, sequence & 0xffff);
  view.setUint32(4, timestamp);
  view.setUint32(8, ssrc);
  return packet;
}

/** One packet from one end to the other: the opened octets, or the failure. */
function cross(from: KeyedMedia, to: KeyedMedia, packet: Uint8Array, line = 0): Uint8Array | number {
  const out = new Uint8Array(packet.length + 64);
  const sender = from.streams[line]?.sender;
  const receiver = to.streams[line]?.receiver;
  if (sender === undefined || receiver === undefined) throw new Error("no session in that direction");
  const length = sender.protect(packet, out);
  const opened = receiver.unprotect(out.subarray(0, length), out);
  return opened < 0 ? opened : out.slice(0, opened);
}

function world(profile: PeerProfileName = "strict", overrides: Partial<MediaKeyingOptions> = {}) {
  const network = createSimulatedNetwork();
  const make = (own: Partial<MediaKeyingOptions>): MediaKeying =>
    createMediaKeying({
      clock: network.clock,
      timers: network.timers,
      crypto: nodeCrypto,
      dialect: peerProfile(profile),
      ...own,
      ...overrides,
    });
  const server = make({ identity: SERVER });
  const viewer = make({
    identity: VIEWER,
    findCredential: (id) => (id !== undefined && formatHex(id.data) === formatHex(SERVER.data) ? { psk: PSK } : undefined),
  });
  return { network, server, viewer };
}

async function keyed(
  { server, viewer }: Pick<ReturnType<typeof world>, "server" | "viewer">,
  request: Partial<OfferRequest> = {},
  secure = true,
): Promise<{ server: KeyedMedia; viewer: KeyedMedia }> {
  const offer = await server.offer({
    credential: { psk: PSK },
    secure,
    streams: [{ policy: { suite: "AES_CM_128_HMAC_SHA1_80" }, ssrc: SERVER_SSRC }],
    responderId: VIEWER,
    sdpIds: ["mikey"],
    ...request,
  });
  const streams = request.streams?.length ?? 1;
  const answer = await viewer.answer(offer.octets, {
    secure,
    ssrcs: Array.from({ length: streams }, (_, i) => VIEWER_SSRC + i),
    scope: "session 1",
    sdpIds: ["mikey"],
    keyOwnDirection: true,
  });
  if (answer.kind !== "new") throw new Error("repeated");
  return { server: await offer.accept(answer.response), viewer: answer.media };
}

const SUITES: readonly SuiteName[] = [
  "AES_CM_128_HMAC_SHA1_80",
  "AES_CM_128_HMAC_SHA1_32",
  "AES_256_CM_HMAC_SHA1_80",
  "AEAD_AES_128_GCM",
  "AEAD_AES_256_GCM",
];

describe("media keyed by a pre-shared key", () => {
  it.each(SUITES)("%s flows both ways on two m= lines, with an MKI", async (suite) => {
    const media = await keyed(world(), {
      streams: [
        { policy: { suite }, ssrc: SERVER_SSRC },
        { policy: { suite }, ssrc: SERVER_SSRC + 1 },
      ],
    });
    for (const line of [0, 1]) {
      const down = rtp(SERVER_SSRC + line, 7);
      expect(cross(media.server, media.viewer, down, line)).toEqual(down);
      const up = rtp(VIEWER_SSRC + line, 9);
      expect(cross(media.viewer, media.server, up, line)).toEqual(up);
    }
    // Each line and direction has a key of its own.
    expect(cross(media.server, { ...media.viewer, streams: [...media.viewer.streams].reverse() }, rtp(SERVER_SSRC, 8))).toBe(
      SrtpFailure.authentication,
    );
    expect(media.server.fingerprint).toBe(media.viewer.fingerprint);
    expect(media.server.mki).toHaveLength(4);
    expect(media.viewer.tolerances).toEqual([]);
  });

  it("carries no private payload unless the peer announced itself, and HELLO on both sides when it did", async () => {
    const { server, viewer } = world();
    for (const peerAnnounced of [false, true]) {
      const offer = await server.offer({
        credential: { psk: PSK },
        secure: false,
        streams: [{ policy: { suite: "AEAD_AES_128_GCM" } }],
        peerAnnounced,
      });
      const answer = await viewer.answer(offer.octets, { secure: false, ssrcs: [1], scope: `${peerAnnounced}` });
      const hellos = [offer.octets, answer.response as Uint8Array].map(
        (octets) =>
          decodeMessage(octets).payloads.filter((payload) => payload.kind === "EXT" && payload.extType === ExtensionType.HELLO)
            .length,
      );
      expect(hellos).toEqual(peerAnnounced ? [1, 1] : [0, 0]);
      const media = await offer.accept(answer.response);
      if (answer.kind !== "new") throw new Error("repeated");
      const request = answer.media.deregister();
      const { verdict, acknowledgement } = media.acceptDeregistration(request);
      expect([verdict, answer.media.verifyAcknowledgement(acknowledgement)]).toEqual(["verified", "verified"]);
    }
  });

  it("starts from the rollover counter of the CS ID map", async () => {
    const media = await keyed(world(), {
      streams: [{ policy: { suite: "AES_CM_128_HMAC_SHA1_80" }, ssrc: SERVER_SSRC, rolloverCounter: 5 }],
    });
    const packet = rtp(SERVER_SSRC, 65_530);
    expect(cross(media.server, media.viewer, packet)).toEqual(packet);
    expect(media.viewer.streams[0]?.receiver?.rolloverCounter(SERVER_SSRC)).toBe(5);
  });

  it("answers the same offer again with the same octets, and refuses it in another session", async () => {
    const { server, viewer } = world();
    const offer = await server.offer({
      credential: { psk: PSK },
      secure: false,
      streams: [{ policy: { suite: "AEAD_AES_128_GCM" } }],
    });
    const ask = (scope: string) => viewer.answer(offer.octets, { secure: false, ssrcs: [1], scope });
    const first = await ask("a");
    const second = await ask("a");
    expect(second).toEqual({ kind: "repeated", response: first.response });
    await expect(ask("b")).rejects.toMatchObject({ code: "mikey.replay" });
  });

  it("another key, an unknown identity and a changed octet fail alike, and nothing is installed", async () => {
    const { server, viewer, network } = world();
    const stranger = createMediaKeying({
      clock: network.clock,
      timers: network.timers,
      dialect: peerProfile("strict"),
      identity: { idType: IdType.NAI, data: utf8("stranger@example.org") },
    });
    const streams = [{ policy: { suite: "AEAD_AES_128_GCM" as const } }];
    const good = await server.offer({ credential: { psk: PSK }, secure: false, streams });
    const changed = good.octets.slice();
    changed[changed.length - 1] = (changed.at(-1) as number) ^ 1;
    const attempts = [
      (await server.offer({ credential: { psk: utf8("another key, 32 octets long ....") }, secure: false, streams })).octets,
      (await stranger.offer({ credential: { psk: PSK }, secure: false, streams })).octets,
      changed,
    ];
    const messages = await Promise.all(
      attempts.map((octets) =>
        viewer.answer(octets, { secure: false, ssrcs: [1], scope: "x" }).then(
          () => "accepted",
          (error: Error & { code: string }) => `${error.code} ${error.message}`,
        ),
      ),
    );
    expect(new Set(messages).size).toBe(1);
    expect(messages[0]).toMatch(/^mikey\.authentication /);
  });

  it("a clock that is off is told apart and says by how much", async () => {
    const { server, viewer, network } = world();
    const offer = await server.offer({
      credential: { psk: PSK },
      secure: false,
      streams: [{ policy: { suite: "AEAD_AES_128_GCM" } }],
    });
    await network.advance(600_000);
    await expect(viewer.answer(offer.octets, { secure: false, ssrcs: [1], scope: "x" })).rejects.toMatchObject({
      code: "mikey.timestamp",
      message: expect.stringContaining("10 min"),
    });
  });

  it("a path that requires a pre-shared key refuses NULL keying, even inside TLS", async () => {
    const { viewer } = world("gstreamer", { requirePsk: true });
    const { server } = world("gstreamer");
    const offer = await server.offer({
      credential: { nullKeying: true },
      secure: true,
      streams: [{ policy: { suite: "AES_CM_128_HMAC_SHA1_80" } }],
    });
    await expect(viewer.answer(offer.octets, { secure: true, ssrcs: [1], scope: "x" })).rejects.toMatchObject({
      code: "mikey.null-keying",
    });
  });
});

describe("rekeying", () => {
  it("loses no packet, keeps the rollover counter, and drops the old key after the overlap", async () => {
    const scene = world();
    const { server, viewer } = await keyed(scene);
    const before = server.fingerprint;
    expect(cross(server, viewer, rtp(SERVER_SSRC, 65_535))).toBeInstanceOf(Uint8Array);
    expect(cross(server, viewer, rtp(SERVER_SSRC, 0))).toBeInstanceOf(Uint8Array);
    const late = new Uint8Array(100);
    const lateLength = server.streams[0]?.sender?.protect(rtp(SERVER_SSRC, 1), late) as number;

    const rekey = await server.startRekey();
    const update = decodeMessage(rekey.octets);
    expect(update.payloads.map((payload) => payload.kind)).toEqual(["T", "KEMAC"]);
    expect(cross(server, viewer, rtp(SERVER_SSRC, 2)), "under the old key while the update travels").toBeInstanceOf(Uint8Array);
    const response = await viewer.acceptRekey(rekey.octets);
    expect(cross(viewer, server, rtp(VIEWER_SSRC, 3)), "the responder is first to use the new key").toBeInstanceOf(Uint8Array);
    await rekey.complete(response);

    expect(cross(server, viewer, rtp(SERVER_SSRC, 4))).toBeInstanceOf(Uint8Array);
    expect(viewer.streams[0]?.receiver?.rolloverCounter(SERVER_SSRC)).toBe(1);
    expect(
      viewer.streams[0]?.receiver?.unprotect(late.subarray(0, lateLength), new Uint8Array(100)),
      "old key, late packet",
    ).toBeGreaterThan(0);
    expect(server.fingerprint).not.toBe(before);
    expect(server.fingerprint).toBe(viewer.fingerprint);

    const straggler = new Uint8Array(100);
    await scene.network.advance(30_001);
    expect(viewer.streams[0]?.receiver?.unprotect(late.subarray(0, lateLength), straggler)).toBe(SrtpFailure.unknownMki);
    const { verdict, acknowledgement } = server.acceptDeregistration(viewer.deregister());
    expect([verdict, viewer.verifyAcknowledgement(acknowledgement)]).toEqual(["verified", "verified"]);
  });

  it("a proof under the previous key is accepted while a rekey is on its way", async () => {
    const { server, viewer } = await keyed(world());
    const proof = viewer.deregister();
    const rekey = await server.startRekey();
    expect(server.acceptDeregistration(proof).verdict).toBe("verified");
    rekey.abandon();
  });

  it("repeats, many in a row", async () => {
    const { server, viewer } = await keyed(world());
    for (let i = 0; i < 20; i++) {
      const rekey = await server.startRekey();
      const response = await viewer.acceptRekey(rekey.octets);
      expect(await viewer.acceptRekey(rekey.octets), "a lost response is recovered by sending the update again").toEqual(response);
      await rekey.complete(response);
      expect(cross(server, viewer, rtp(SERVER_SSRC, i))).toBeInstanceOf(Uint8Array);
      expect(cross(viewer, server, rtp(VIEWER_SSRC, i))).toBeInstanceOf(Uint8Array);
    }
  });

  it("an abandoned or unanswered rekey leaves the old key in use; a new one may follow", async () => {
    const { server, viewer } = await keyed(world());
    const first = await server.startRekey();
    await expect(server.startRekey()).rejects.toMatchObject({ code: "gsa.rekey" });
    await expect(first.complete(undefined)).rejects.toMatchObject({ code: "gsa.no-answer" });
    first.abandon();
    expect(cross(server, viewer, rtp(SERVER_SSRC, 1))).toBeInstanceOf(Uint8Array);
    const second = await server.startRekey();
    await second.complete(await viewer.acceptRekey(second.octets));
    expect(cross(server, viewer, rtp(SERVER_SSRC, 2))).toBeInstanceOf(Uint8Array);
  });

  it("refuses an update of another session, a damaged one and an old one, and changes nothing", async () => {
    const scene = world();
    const { server, viewer } = await keyed(scene);
    const other = await keyed(world());
    const fingerprint = viewer.fingerprint;
    const foreign = await other.server.startRekey();
    await expect(viewer.acceptRekey(foreign.octets)).rejects.toMatchObject({ code: "mikey.unknown-csb" });
    const rekey = await server.startRekey();
    const damaged = rekey.octets.slice();
    damaged[30] = (damaged[30] as number) ^ 0x40;
    await expect(viewer.acceptRekey(damaged)).rejects.toThrow();
    expect(viewer.fingerprint).toBe(fingerprint);
    await rekey.complete(await viewer.acceptRekey(rekey.octets));
  });
});

describe("the NULL dialect", () => {
  it.each(["gstreamer", "onvif", "strict"] as const)("%s inside TLS: a message each way keys each direction", async (profile) => {
    for (const suite of SUITES) {
      const media = await keyed(world(profile), {
        credential: { nullKeying: true },
        streams: [
          {
            policy: { suite, ...(profile === "gstreamer" && suite.endsWith("_32") ? { rtcpTagLength: 4 } : {}) },
            ssrc: SERVER_SSRC,
          },
        ],
      });
      expect(cross(media.server, media.viewer, rtp(SERVER_SSRC, 1))).toBeInstanceOf(Uint8Array);
      expect(cross(media.viewer, media.server, rtp(VIEWER_SSRC, 1))).toBeInstanceOf(Uint8Array);
      expect(media.server.keyedBy).toBe("null");
      const { verdict, acknowledgement } = media.server.acceptDeregistration(media.viewer.deregister());
      expect([verdict, media.viewer.verifyAcknowledgement(acknowledgement)]).toEqual(["verified", "verified"]);
    }
  });

  it("in the clear: refused unless asked for by name, and then no proof exists", async () => {
    const request = { credential: { nullKeying: true } as const };
    await expect(keyed(world("gstreamer"), request, false)).rejects.toMatchObject({ code: "mikey.null-keying" });
    const media = await keyed(world("gstreamer", { allowNullKeying: true }), request, false);
    expect(cross(media.server, media.viewer, rtp(SERVER_SSRC, 1))).toBeInstanceOf(Uint8Array);
    expect(media.viewer.deregister()).toBeUndefined();
    expect(media.server.acceptDeregistration(concatBytes(utf8("anything"))).verdict).toBe("rejected");
    expect(media.server.acceptDeregistration(undefined).verdict).toBe("absent");
  });

  it("without an answer the server sends and opens nothing", async () => {
    const { server } = world("gstreamer");
    const offer = await server.offer({
      credential: { nullKeying: true },
      secure: true,
      streams: [{ policy: { suite: "AEAD_AES_128_GCM" } }],
    });
    const media = await offer.accept(undefined);
    expect(media.streams[0]?.sender).toBeDefined();
    expect(media.streams[0]?.receiver).toBeUndefined();
    expect(media.canRekey).toBe(false);
  });
});

describe("closing", () => {
  it("ends every session and every proof", async () => {
    const { server, viewer } = await keyed(world());
    const proof = viewer.deregister();
    server.close();
    server.close();
    expect(server.acceptDeregistration(proof).verdict).toBe("rejected");
    expect(() => server.streams[0]?.sender?.protect(rtp(SERVER_SSRC, 1), new Uint8Array(100))).toThrowError(
      expect.objectContaining({ code: "srtp.closed" }),
    );
    await expect(server.startRekey()).rejects.toMatchObject({ code: "gsa.rekey" });
  });
});
