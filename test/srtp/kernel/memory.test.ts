import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { WatchwordError } from "../../../src/bytes/index.js";
import { nobleCrypto } from "../../../src/crypto/index.js";
import { nodeCrypto } from "../../../src/node/crypto.js";
import {
  createPacketSlots,
  createSrtpReceiver,
  createSrtpSender,
  loadSrtpKernel,
  packetBackend,
  suiteOf,
} from "../../../src/srtp/index.js";
import { type Kernel, sharedKernel } from "../../../src/srtp/kernel.js";
import { KernelHeap } from "../../../src/srtp/kernel-heap.js";
import { COUNTERS, HEAP, HEAP_END, JOBS, SHA1_STATE, SINGLE_KEYSTREAM, STAGE, TAG_MASKS } from "../../../src/srtp/kernel-layout.js";
import { emptyStretch, KeystreamPool } from "../../../src/srtp/keystream-pool.js";
import { masterKey, rtcpPacket, rtpPacket } from "../packets.js";

const MIB = 2 ** 20;
const kernel = sharedKernel() as Kernel;

describe("the heap", () => {
  it("pieces never overlap, and all come back", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 40_000 })), { maxLength: 200 }), (steps) => {
        const heap = new KernelHeap();
        const held: [at: number, octets: number][] = [];
        for (const [takes, octets] of steps) {
          if (takes || held.length === 0) {
            const at = heap.allocate(octets);
            expect(at).toBeGreaterThanOrEqual(HEAP);
            expect(at + octets).toBeLessThanOrEqual(HEAP_END);
            expect(at % 64).toBe(0);
            for (const [other, length] of held) expect(at + octets <= other || other + length <= at).toBe(true);
            held.push([at, octets]);
          } else {
            const [piece] = held.splice(octets % held.length, 1) as [[number, number]];
            heap.release(...piece);
          }
        }
        for (const piece of held) heap.release(...piece);
        const whole = Math.floor((HEAP_END - HEAP) / MIB);
        const all = Array.from({ length: whole }, () => heap.allocate(MIB));
        expect(new Set(all).size).toBe(whole);
        expect(all).not.toContain(0);
        expect(heap.allocate(64)).toBe(0);
      }),
      { numRuns: 30 },
    );
  });
});

describe("the keystream pool", () => {
  it("gives no more than its budget: the stretch made longest ago is wiped", () => {
    const octets = new Uint8Array(HEAP_END);
    const pool = new KeystreamPool(new KernelHeap(), octets);
    const stretches = Array.from({ length: 1025 }, emptyStretch);
    for (const stretch of stretches) {
      expect(pool.reserve(stretch, 0x8000)).toBe(true);
      octets.fill(0xaa, stretch.at, stretch.at + 0x8000);
    }
    expect(stretches.filter(({ octets: held }) => held > 0)).toHaveLength(1024);
    expect(stretches[0]).toEqual(emptyStretch());
    const { at } = stretches[1] as { at: number };
    pool.release(stretches[1] as ReturnType<typeof emptyStretch>);
    expect(octets.subarray(at, at + 0x8000).every((octet) => octet === 0)).toBe(true);
  });

  it("shares shrink with the number of streams", () => {
    const pool = new KeystreamPool(new KernelHeap(), new Uint8Array(0));
    expect([1, 512, 513, 10_000, 100_000].map((streams) => Object.assign(pool, { streams }).most)).toEqual([
      0x8000, 0x8000, 0x4000, 1024, 128,
    ]);
  });

  it("serves more SSRCs than it makes keystream ahead for", () => {
    const options = {
      policy: { suite: "AES_CM_128_HMAC_SHA1_80" as const },
      keys: [masterKey("AES_CM_128_HMAC_SHA1_80")],
      maxSsrcs: 5000,
    };
    const [sender, receiver] = [createSrtpSender(options), createSrtpReceiver(options)];
    const out = new Uint8Array(100);
    for (let sequence = 0; sequence < 3; sequence++) {
      for (let ssrc = 0; ssrc < 4500; ssrc++) {
        const length = sender.protect(rtpPacket({ ssrc, sequence }), out);
        expect(receiver.unprotect(out.slice(0, length), out)).toBe(32);
      }
    }
    sender.close();
    receiver.close();
    expect(kernel.keystreams.streams).toBe(0);
  });
});

describe("what sessions leave behind", () => {
  const rows = [
    { name: "kernel+node", crypto: nodeCrypto },
    { name: "kernel", crypto: nobleCrypto },
  ].flatMap((row) =>
    (["AES_CM_128_HMAC_SHA1_80", "AES_256_CM_HMAC_SHA1_32", "AEAD_AES_128_GCM", "NULL_HMAC_SHA1_80"] as const).map((suite) => ({
      ...row,
      suite,
    })),
  );

  it.each(rows)("nothing in the heap once $suite on $name is closed, whatever the end", ({ crypto, suite }) => {
    const before = digest();
    for (const end of ["close", "removeKey"] as const) {
      const options = { policy: { suite }, keys: [masterKey(suite)], crypto, backend: "kernel" as const };
      const [sender, receiver] = [createSrtpSender(options), createSrtpReceiver(options)];
      const out = new Uint8Array(300);
      for (let sequence = 0; sequence < 60; sequence++) {
        const length = sender.protect(rtpPacket({ sequence, payload: new Uint8Array(160) }), out);
        expect(receiver.unprotect(out.slice(0, length), out)).toBe(172);
      }
      expect(receiver.unprotectRtcp(out.slice(0, sender.protectRtcp(rtcpPacket(4), out)), out)).toBe(24);
      expect(digest()).not.toBe(before);
      for (const session of [sender, receiver]) {
        if (end === "close") session.close();
        else session.removeKey();
      }
      expect(digest()).toBe(before);
    }
  });

  it.each(rows)("nothing of a long packet outside the heap once $suite on $name is closed", ({ crypto, suite }) => {
    const options = { policy: { suite }, keys: [masterKey(suite)], crypto, backend: "kernel" as const };
    const [sender, receiver] = [createSrtpSender(options), createSrtpReceiver(options)];
    const packet = rtpPacket({ sequence: 1, payload: new Uint8Array(60_000).fill(0x5a) });
    const out = new Uint8Array(packet.length + 16);
    expect(receiver.unprotect(out.slice(0, sender.protect(packet, out)), out)).toBe(packet.length);
    sender.close();
    receiver.close();
    for (const area of [SHA1_STATE, COUNTERS, SINGLE_KEYSTREAM, TAG_MASKS, STAGE]) {
      const end = area === SHA1_STATE ? JOBS : area + (area === TAG_MASKS ? 2048 : 60_000);
      expect(kernel.octets.subarray(area, end).every((octet) => octet === 0)).toBe(true);
    }
  });

  /** Every octet of the heap that is not zero, summed up. */
  function digest(): string {
    let [sum, count] = [0, 0];
    const words = kernel.words.subarray(HEAP >> 2, HEAP_END >> 2);
    for (let i = 0; i < words.length; i++) {
      const word = words[i] as number;
      if (word !== 0) {
        sum = (Math.imul(sum, 31) + word + i) | 0;
        count++;
      }
    }
    return `${sum} ${count}`;
  }
});

describe("packet slots", () => {
  it("lie in the kernel's memory, apart from each other, and are wiped when released", () => {
    const packets = createPacketSlots({ count: 50, slotLength: 300 });
    expect(packets.isZeroCopy).toBe(true);
    packets.slots.forEach((slot, i) => {
      slot.fill(i + 1);
    });
    expect(packets.slots.every((slot, i) => slot.length === 300 && slot.every((octet) => octet === i + 1))).toBe(true);
    packets.release();
    packets.release();
    expect(packets.slots.every((slot) => slot.every((octet) => octet === 0))).toBe(true);
  });

  it("are plain memory where there are too many", () => {
    const packets = createPacketSlots({ count: 100, slotLength: MIB });
    expect(packets.isZeroCopy).toBe(false);
    expect(packets.slots).toHaveLength(100);
    packets.release();
  });

  it.each([{ count: 0 }, { count: 1.5 }, { count: 65537 }, { count: 1, slotLength: 63 }, { count: 1, slotLength: MIB + 1 }])(
    "refuse %o",
    (options) => {
      expect(() => createPacketSlots(options)).toThrow(expect.objectContaining({ code: "srtp.option" }) as WatchwordError);
    },
  );

  it("packets are protected and opened in place", () => {
    const suite = "AEAD_AES_256_GCM" as const;
    const options = { policy: { suite }, keys: [masterKey(suite, 1, Uint8Array.of(7))] };
    const [sender, receiver, elsewhere] = [createSrtpSender(options), createSrtpReceiver(options), createSrtpSender(options)];
    const { slots, release } = createPacketSlots({ count: 3 });
    for (let sequence = 0; sequence < 20; sequence++) {
      const slot = slots[sequence % 3] as Uint8Array;
      const packet = rtpPacket({ sequence, payload: new Uint8Array(sequence * 9).fill(sequence) });
      slot.set(packet);
      const length = sender.protect(slot.subarray(0, packet.length), slot);
      const apart = new Uint8Array(length);
      elsewhere.protect(packet, apart);
      expect([...slot.subarray(0, length)]).toEqual([...apart]);
      expect(receiver.unprotect(slot.subarray(0, length), slot)).toBe(packet.length);
      expect([...slot.subarray(0, packet.length)]).toEqual([...packet]);
    }
    release();
  });
});

describe("a kernel that has no memory left", () => {
  it("leaves sessions with the portable transforms", () => {
    const taken: number[] = [];
    for (const octets of [MIB, 64]) {
      for (let at = kernel.heap.allocate(octets); at !== 0; at = kernel.heap.allocate(octets)) taken.push(at, octets);
    }
    const options = { policy: { suite: "AES_CM_128_HMAC_SHA1_80" as const }, keys: [masterKey("AES_CM_128_HMAC_SHA1_80")] };
    const [sender, receiver] = [createSrtpSender(options), createSrtpReceiver(options)];
    const out = new Uint8Array(100);
    const length = sender.protect(rtpPacket({ sequence: 1 }), out);
    expect(receiver.unprotect(out.slice(0, length), out)).toBe(32);
    for (let i = 0; i < taken.length; i += 2) kernel.heap.release(taken[i] as number, taken[i + 1] as number);
    sender.close();
    receiver.close();
  });
});

describe("a packet that is longer than the kernel's areas", () => {
  it("is refused where ciphers are used without a session", () => {
    const suite = suiteOf("AES_CM_128_HMAC_SHA1_80");
    const keys = { encryptionKey: new Uint8Array(16), authenticationKey: new Uint8Array(20), salt: new Uint8Array(14) };
    const { factory } = packetBackend(nodeCrypto, "kernel");
    const cipher = factory({ protocol: "rtp", suite, keys, tagLength: 10, mki: new Uint8Array(0) });
    const [input, output] = [new Uint8Array(MIB), new Uint8Array(MIB + 10)];
    const job = { input, output, headerLength: 12, encrypted: true, ssrc: 1, index: 1 };
    for (const work of ["seal", "open"] as const) {
      expect(() => cipher[work]([job], 1, new Int32Array(1))).toThrow(
        expect.objectContaining({ code: "srtp.malformed" }) as WatchwordError,
      );
    }
    cipher.wipe();
  });
});

describe("the choice", () => {
  it("is the kernel, or what the provider makes", async () => {
    expect(packetBackend(nodeCrypto, "auto").name).toBe("kernel+node");
    expect(packetBackend(nobleCrypto, "auto").name).toBe("kernel");
    expect(packetBackend(nobleCrypto, "provider").name).toBe("noble");
    expect(await loadSrtpKernel()).toBe(true);
  });
});
