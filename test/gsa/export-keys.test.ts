import { describe, expect, it } from "vitest";
import { formatHex, utf8, wipe } from "../../src/bytes/index.js";
import { createMediaKeying, type ExportedDirection, type ExportedKeys, type MediaKeying } from "../../src/gsa/index.js";
import { createSimulatedNetwork } from "../../src/io/index.js";
import { IdType } from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { peerProfile } from "../../src/peers/index.js";
import { createSrtpReceiver, type SrtpSender } from "../../src/srtp/index.js";

const PSK = utf8("0123456789abcdef0123456789abcdef");
const SERVER = { idType: IdType.NAI, data: utf8("server@example.org") };
const VIEWER = { idType: IdType.NAI, data: utf8("viewer@example.org") };
const SSRC = 0x11223344;

/** A server and a viewer of two m= lines, and what left them. */
async function scene() {
  const { clock, timers } = createSimulatedNetwork();
  const make = (identity: typeof SERVER): MediaKeying =>
    createMediaKeying({
      clock,
      timers,
      crypto: nodeCrypto,
      dialect: peerProfile("strict"),
      identity,
      findCredential: () => ({ psk: PSK }),
    });
  const exported: { readonly server: ExportedKeys[]; readonly viewer: ExportedKeys[] } = { server: [], viewer: [] };
  const lines = [SSRC, SSRC + 1];
  const offer = await make(SERVER).offer({
    credential: { psk: PSK },
    secure: true,
    streams: lines.map((ssrc) => ({ policy: { suite: "AES_256_CM_HMAC_SHA1_80" as const }, ssrc, rolloverCounter: 2 })),
    responderId: VIEWER,
    sdpIds: ["mikey"],
    exportKeys: (keys) => exported.server.push(keys),
  });
  const answer = await make(VIEWER).answer(offer.octets, {
    secure: true,
    ssrcs: lines.map(() => 7),
    scope: "session",
    sdpIds: ["mikey"],
    keyOwnDirection: true,
    exportKeys: (keys) => exported.viewer.push(keys),
  });
  if (answer.kind !== "new") throw new Error("repeated");
  return { server: await offer.accept(answer.response), viewer: answer.media, exported };
}

/** What a program that has nothing but the exported keys makes of a packet. */
function opened({ policy, keys, rolloverCounter }: ExportedDirection, sender: SrtpSender, ssrc: number): string | number {
  const packet = new Uint8Array(17);
  const view = new DataView(packet.buffer);
  view.setUint16(0, 0x8000);
  view.setUint32(8, ssrc);
  packet.set(utf8("hello"), 12);
  const out = new Uint8Array(100);
  const sealed = out.slice(0, sender.protect(packet, out));
  const receiver = createSrtpReceiver({ policy, keys, initialRolloverCounter: rolloverCounter });
  const length = receiver.unprotect(sealed, out);
  return length < 0 ? length : new TextDecoder().decode(out.subarray(12, length));
}

const hex = (direction: ExportedDirection | undefined): string =>
  (direction?.keys ?? []).map(({ key, salt, mki }) => [key, salt, mki ?? utf8("")].map(formatHex).join("/")).join();

describe("exportKeys", () => {
  it("hands out what another program opens the media with, each m= line by itself, the same at both ends", async () => {
    const { server, exported } = await scene();
    expect(exported.viewer.map(({ stream }) => stream)).toEqual([0, 1]);
    for (const [line, keys] of exported.viewer.entries()) {
      expect(keys.inbound).toMatchObject({ ssrc: SSRC + line, rolloverCounter: 2, policy: { suite: "AES_256_CM_HMAC_SHA1_80" } });
      expect(opened(keys.inbound as ExportedDirection, server.streams[line]?.sender as SrtpSender, SSRC + line)).toBe("hello");
      expect(hex(keys.inbound)).toBe(hex(exported.server[line]?.outbound));
      expect(hex(keys.outbound)).toBe(hex(exported.server[line]?.inbound));
    }
    expect(new Set(exported.viewer.flatMap(({ inbound, outbound }) => [hex(inbound), hex(outbound)])).size).toBe(4);
  });

  it("hands out copies: who wipes them does not end the session", async () => {
    const { server, viewer, exported } = await scene();
    for (const { inbound, outbound } of exported.viewer) {
      for (const { key, salt } of [...(inbound?.keys ?? []), ...(outbound?.keys ?? [])]) wipe(key, salt);
    }
    const out = new Uint8Array(100);
    const packet = new Uint8Array(20);
    packet[0] = 0x80;
    const length = server.streams[0]?.sender?.protect(packet, out) as number;
    expect(viewer.streams[0]?.receiver?.unprotect(out.subarray(0, length), out)).toBe(20);
  });

  it("hands out the new keys of a rekey before the peer can send under them", async () => {
    const { server, viewer, exported } = await scene();
    const before = hex(exported.viewer[0]?.inbound);
    const rekey = await server.startRekey();
    expect(exported.server).toHaveLength(4);
    const response = await viewer.acceptRekey(rekey.octets);
    expect(exported.viewer.map(({ stream }) => stream)).toEqual([0, 1, 0, 1]);
    await rekey.complete(response);
    expect(hex(exported.viewer[2]?.inbound)).not.toBe(before);
    expect(hex(exported.viewer[2]?.inbound)).toBe(hex(exported.server[2]?.outbound));
    expect(opened(exported.viewer[2]?.inbound as ExportedDirection, server.streams[0]?.sender as SrtpSender, SSRC)).toBe("hello");
  });

  it("says which direction has no key", async () => {
    const { clock, timers } = createSimulatedNetwork();
    const exported: ExportedKeys[] = [];
    const offer = await createMediaKeying({ clock, timers, dialect: peerProfile("gstreamer") }).offer({
      credential: { nullKeying: true },
      secure: true,
      streams: [{ policy: { suite: "AEAD_AES_128_GCM" } }],
      exportKeys: (keys) => exported.push(keys),
    });
    await offer.accept(undefined);
    expect(exported).toMatchObject([{ stream: 0, inbound: undefined, outbound: { ssrc: 0 } }]);
  });
});
