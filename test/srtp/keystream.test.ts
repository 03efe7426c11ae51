import { describe, expect, it } from "vitest";
import type { CryptoProvider } from "../../src/crypto/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { createSrtpReceiver, createSrtpSender, SrtpFailure } from "../../src/srtp/index.js";
import { masterKey, rtcpPacket, rtpPacket } from "./packets.js";

const SUITE = "AES_CM_128_HMAC_SHA1_80";

/** node:crypto with its calls to the block cipher and its living keys counted. */
function counting(): { crypto: CryptoProvider; calls: number; blocks: number; largest: number; living: number } {
  const counts = { calls: 0, blocks: 0, largest: 0, living: 0 };
  const alive = <T extends { wipe(): void }>(key: T): T => {
    counts.living++;
    let wiped = false;
    return {
      ...key,
      wipe() {
        if (!wiped) counts.living--;
        wiped = true;
        key.wipe();
      },
    };
  };
  const crypto: CryptoProvider = {
    ...nodeCrypto,
    aesBlocks(key) {
      const inner = nodeCrypto.aesBlocks(key);
      return alive({
        encrypt(input, output) {
          counts.calls++;
          counts.blocks += input.length / 16;
          counts.largest = Math.max(counts.largest, input.length);
          inner.encrypt(input, output);
        },
        wipe: () => inner.wipe(),
      });
    },
    aesGcm: (key) => alive(nodeCrypto.aesGcm(key)),
    hmac: (name, key) => alive(nodeCrypto.hmac(name, key)),
  };
  return Object.assign(counts, { crypto });
}

function wireOf(count: number, payload: number, ssrcs = 1): Uint8Array[] {
  const sender = createSrtpSender({ policy: { suite: SUITE }, keys: [masterKey(SUITE)] });
  return Array.from({ length: count }, (_, i) => {
    const packet = rtpPacket({ sequence: (i / ssrcs) | 0, ssrc: i % ssrcs, payload: new Uint8Array(payload) });
    const out = new Uint8Array(packet.length + sender.rtpOverhead);
    sender.protect(packet, out);
    return out;
  });
}

describe("keystream made ahead", () => {
  it("costs few calls, and little more keystream than packets need", () => {
    for (const [payload, most] of [
      [160, 20],
      [1200, 60],
    ] as const) {
      const counts = counting();
      const sender = createSrtpSender({ policy: { suite: SUITE }, keys: [masterKey(SUITE)], crypto: counts.crypto });
      const before = { ...counts };
      const out = new Uint8Array(1300);
      for (let sequence = 0; sequence < 1000; sequence++)
        sender.protect(rtpPacket({ sequence, payload: new Uint8Array(payload) }), out);
      expect(counts.calls - before.calls).toBeLessThan(most);
      expect(counts.blocks - before.blocks).toBeLessThan(1.3 * 1000 * (payload / 16));
      expect(counts.largest).toBeLessThanOrEqual(0x8000);
    }
  });

  it("is never made for forged packets, nor for packets seen before", () => {
    const counts = counting();
    const receiver = createSrtpReceiver({ policy: { suite: SUITE }, keys: [masterKey(SUITE)], crypto: counts.crypto });
    const wire = wireOf(100, 160);
    const out = new Uint8Array(300);
    for (const packet of wire.slice(0, 50)) expect(receiver.unprotect(packet, out)).toBeGreaterThan(0);
    const before = counts.calls;
    for (const packet of wire) {
      const forged = packet.slice();
      forged[30] = (forged[30] as number) ^ 1;
      expect(receiver.unprotect(forged, out)).toBeLessThan(0);
    }
    for (const packet of wire.slice(0, 50)) expect(receiver.unprotect(packet, out)).toBe(SrtpFailure.replay);
    expect(counts.calls).toBe(before);
  });

  it("serves more SSRCs than it keeps keystream for", () => {
    const receiver = createSrtpReceiver({ policy: { suite: SUITE }, keys: [masterKey(SUITE)] });
    const out = new Uint8Array(300);
    for (const packet of wireOf(1200, 100, 150)) expect(receiver.unprotect(packet, out)).toBe(112);
  });
});

describe("every key of a provider is wiped", () => {
  it.each(["AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM", "NULL_HMAC_SHA1_32"] as const)("%s", (suite) => {
    for (const keyDerivationRate of [0, 1]) {
      const counts = counting();
      const options = {
        policy: { suite, keyDerivationRate },
        keys: [masterKey(suite, 1), masterKey(suite, 2)],
        crypto: counts.crypto,
        backend: "provider" as const,
      };
      const [sender, receiver] = [createSrtpSender(options), createSrtpReceiver(options)];
      const out = new Uint8Array(100);
      for (let sequence = 0; sequence < 30; sequence++) {
        const length = sender.protect(rtpPacket({ sequence }), out);
        expect(receiver.unprotect(out.slice(0, length), out)).toBe(32);
        receiver.unprotectRtcp(out.slice(0, sender.protectRtcp(rtcpPacket(1), out)), out);
      }
      expect(counts.living).toBeGreaterThan(0);
      const all = counts.living;
      receiver.removeKey();
      if (keyDerivationRate === 0) expect(counts.living).toBeLessThan(all);
      sender.close();
      receiver.close();
      expect(counts.living).toBe(0);
    }
  });
});
