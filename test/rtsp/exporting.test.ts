import { describe, expect, it } from "vitest";
import { formatHex, utf8 } from "../../src/bytes/index.js";
import { nobleCrypto } from "../../src/crypto/index.js";
import { createMediaKeying, type ExportedDirection, type ExportedKeys } from "../../src/gsa/index.js";
import { peerProfile } from "../../src/peers/index.js";
import { createMikeyClientKeying, createMikeyServerKeying, createPskDirectory, identityOf } from "../../src/rtsp/index.js";
import { createSrtpReceiver } from "../../src/srtp/index.js";
import { createSetting, H264, PCMU, payloads } from "./support.js";

const PSK = utf8("0123456789abcdef0123456789abcdef");

describe.each(["udp", "tcp"] as const)("handing media on sealed, over %s", (transport) => {
  it.each([
    ["a pre-shared key of the server's exchange", true, false],
    ["a pre-shared key of the client's exchange", true, true],
    ["NULL keying", false, false],
  ])("%s: the exported keys open what the client passes on", async (_how, psk, initiate) => {
    const atClient: ExportedKeys[] = [];
    const atServer: (readonly [string, number, string])[] = [];
    const sealed: (readonly [track: number, packet: Uint8Array])[] = [];
    const sealedRtcp: (readonly [track: number, packet: Uint8Array])[] = [];
    const { client, run, source, network } = createSetting((simulated) => {
      const keying = createMediaKeying({
        clock: simulated.clock,
        timers: simulated.timers,
        crypto: nobleCrypto,
        dialect: peerProfile("strict"),
        identity: identityOf("server"),
        allowNullKeying: !psk,
        findCredential: () => (psk ? { psk: PSK } : undefined),
      });
      const server = createMikeyServerKeying({
        keying,
        policy: { suite: "AEAD_AES_128_GCM" },
        exportKeys: ({ stream, outbound }, peer) =>
          atServer.push([peer.remote.host, stream, formatHex(outbound?.keys[0]?.key ?? utf8(""))]),
        ...(psk ? { directory: createPskDirectory([["viewer", PSK]]) } : {}),
      });
      return {
        tracks: [PCMU, H264],
        presentation: {
          profile: "RTP/SAVP",
          keying: initiate ? { ...server, offer: () => Promise.resolve(undefined) } : server,
        },
      };
    });
    const player = await client({
      keying: createMikeyClientKeying({
        keying: createMediaKeying({
          clock: network.clock,
          timers: network.timers,
          crypto: nobleCrypto,
          dialect: peerProfile("strict"),
          identity: identityOf("viewer"),
          allowNullKeying: !psk,
          findCredential: () => (psk ? { psk: PSK } : undefined),
        }),
        scope: "viewer",
        exportKeys: (keys) => atClient.push(keys),
        ...(initiate ? { initiate: { credential: { psk: PSK }, policy: { suite: "AEAD_AES_128_GCM" } } } : {}),
      }),
      onSealedRtp: (track, packet) => sealed.push([track, packet.slice()]),
      onSealedRtcp: (track, packet) => sealedRtcp.push([track, packet.slice()]),
    });
    await run(player.describe());
    for (const track of [1, 0]) await run(player.setup(track, transport));
    await run(player.play());
    source.rtp(1, utf8("picture"));
    source.rtp(0, utf8("sound"));
    source.report(0);
    await network.advance(100);

    expect(payloads(player.received).sort()).toEqual(["picture", "sound"]);
    expect(atClient.map(({ stream }) => stream)).toEqual([1, 0]);
    const opened = sealed.map(([track, packet]) => {
      const exported = atClient.find(({ stream }) => stream === track) as ExportedKeys;
      const { policy, keys } = exported.inbound as ExportedDirection;
      const receiver = createSrtpReceiver({ policy, keys, crypto: nobleCrypto });
      const length = receiver.unprotect(packet, packet);
      return `${track}: ${new TextDecoder().decode(packet.subarray(12, Math.max(12, length)))}`;
    });
    expect(opened.sort()).toEqual(["0: sound", "1: picture"]);
    expect(sealedRtcp.map(([track]) => track)).toContain(0);
    expect(player.statistics.map(({ sources }) => sources)).toEqual([
      [{ ssrc: H264.ssrc, rolloverCounter: 0 }],
      [{ ssrc: PCMU.ssrc, rolloverCounter: 0 }],
    ]);
    const keyOf = ({ inbound }: ExportedKeys): string => formatHex(inbound?.keys[0]?.key ?? utf8(""));
    expect(atServer).toEqual(atClient.map((keys) => ["client", keys.stream, keyOf(keys)]));
    player.close();
  });
});
