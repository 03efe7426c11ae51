import { createCipheriv, createHmac } from "node:crypto";
import { describe, expect, it } from "vitest";
import { formatHex, parseHex } from "../../src/bytes/index.js";
import { Kernel } from "../../src/srtp/kernel.js";
import { aesContextLength, kernelAes } from "../../src/srtp/kernel-aes.js";
import {
  AES_BLOCKS,
  COUNTER_BASE,
  COUNTERS,
  GHASH_CONTEXT,
  HMAC_CONTEXT,
  JOB,
  JOB_OCTETS,
  JOBS,
  KEY,
  SINGLE_KEYSTREAM,
  STAGE,
} from "../../src/srtp/kernel-layout.js";
import { seeded } from "../srtp/differential.js";

/** What every kernel does, whatever form its instructions have. */
export function kernelSuite(name: string, octetsOfModule: Uint8Array<ArrayBuffer>): void {
  const kernel = new Kernel(new WebAssembly.Module(octetsOfModule));
  const { exports, octets, words } = kernel;
  const dice = seeded(3);
  const random = (length: number): Uint8Array => Uint8Array.from({ length }, () => dice(256));

  function describeJob(slot: number, fields: Partial<Record<keyof typeof JOB, number>>): number {
    const job = JOBS + slot * JOB_OCTETS;
    octets.fill(0, job, job + JOB_OCTETS);
    for (const [name, value] of Object.entries(fields)) words[(job + JOB[name as keyof typeof JOB]) >> 2] = value;
    return job;
  }

  describe(name, () => {
    describe("HMAC-SHA1", () => {
      const keys = Array.from({ length: 5 }, () => {
        const key = random(20);
        const context = kernel.heap.allocate(HMAC_CONTEXT);
        octets.fill(0, KEY, KEY + 64);
        octets.set(key, KEY);
        exports.prepareHmac(context);
        return { key, context };
      });

      /** A job at an odd address, and the octets its tag should have. */
      function tagged(slot: number, covered: number, trailerLength: number, tagLength: number) {
        const { key, context } = keys[slot % keys.length] as (typeof keys)[number];
        const packet = STAGE + 2048 * slot + (slot % 7);
        octets.set(random(covered + 80), packet);
        const trailer = dice(2 ** 32);
        const job = describeJob(slot, { context, packet, covered, trailer, trailerLength, tagAt: covered, tagLength });
        const message = octets.slice(packet, packet + covered + trailerLength);
        new DataView(message.buffer).setUint32(covered - 4 + trailerLength, trailer);
        if (trailerLength === 0) message.set(octets.subarray(packet, packet + covered));
        const expected = createHmac("sha1", key).update(message).digest().subarray(0, tagLength);
        const behind = octets.slice(packet + covered + tagLength, packet + covered + tagLength + 40);
        return { job, packet, covered, tagLength, expected: formatHex(expected), behind: formatHex(behind) };
      }

      const found = ({ packet, covered, tagLength }: ReturnType<typeof tagged>): string =>
        formatHex(octets.slice(packet + covered, packet + covered + tagLength));
      const after = ({ packet, covered, tagLength }: ReturnType<typeof tagged>): string =>
        formatHex(octets.slice(packet + covered + tagLength, packet + covered + tagLength + 40));

      it("messages of every length, with and without a trailer, tags of every length", () => {
        for (let covered = 4; covered < 260; covered++) {
          for (const trailerLength of [0, 4]) {
            const one = tagged(0, covered, trailerLength, 1 + (covered % 20));
            exports.seal(one.job);
            expect(found(one), `${covered} octets`).toBe(one.expected);
            expect(after(one)).toBe(one.behind);
            expect(exports.open(one.job)).toBe(1);
          }
        }
      });

      it("lanes of different lengths, keys and tags, from one to nine jobs", () => {
        for (let run = 0; run < 60; run++) {
          const count = 1 + (run % 9);
          const jobs = Array.from({ length: count }, (_, slot) =>
            tagged(slot, 4 + dice(500), 4 * dice(2), [4, 10, 20][dice(3)] as number),
          );
          exports.sealBatch(JOBS, JOBS + count * JOB_OCTETS);
          expect(jobs.map(found)).toEqual(jobs.map(({ expected }) => expected));
          expect(jobs.map(after)).toEqual(jobs.map(({ behind }) => behind));
          const forged = dice(count);
          const { packet, covered, tagLength } = jobs[forged] as (typeof jobs)[number];
          const at = packet + dice(covered + tagLength);
          octets[at] = (octets[at] as number) ^ (1 << dice(8));
          exports.openBatch(JOBS, JOBS + count * JOB_OCTETS);
          expect(jobs.map(({ job }) => words[(job + JOB.authentic) >> 2])).toEqual(jobs.map((_, i) => Number(i !== forged)));
        }
      });

      it("every octet of a tag is compared", () => {
        for (const tagLength of [4, 10, 17]) {
          const one = tagged(0, 50, 4, tagLength);
          exports.seal(one.job);
          for (let i = 0; i < 8 * tagLength; i++) {
            const at = one.packet + 50 + (i >> 3);
            octets[at] = (octets[at] as number) ^ (1 << (i & 7));
            expect(exports.open(one.job)).toBe(0);
            octets[at] = (octets[at] as number) ^ (1 << (i & 7));
          }
          expect(exports.open(one.job)).toBe(1);
        }
      });
    });

    describe("combine", () => {
      it("XORs exactly so many octets, at any alignment", () => {
        for (let length = 0; length < 150; length++) {
          const [at, from] = [STAGE + dice(16), SINGLE_KEYSTREAM + dice(16)];
          const [data, stream] = [random(200), random(200)];
          octets.set(data, at);
          octets.set(stream, from);
          exports.combine(at, from, length);
          expect([...octets.subarray(at, at + 200)]).toEqual(
            [...data].map((octet, i) => (i < length ? octet ^ (stream[i] as number) : octet)),
          );
        }
      });
    });

    describe("counter blocks", () => {
      it("count up in the last word, with the sequence number above (AES-CM) or before it (AES-GCM)", () => {
        const base = [0x01020304, 0x05060708, 0x090a0b0c, 0x0d0e0000];
        words.set(base, COUNTER_BASE >> 2);
        exports.layCounters(COUNTERS, 0xfffe, 2, 3);
        expect(formatHex(octets.subarray(COUNTERS, COUNTERS + 96)).match(/.{32}/g)).toEqual(
          ["f2f00000", "f2f00001", "f2f00002", "f2f10000", "f2f10001", "f2f10002"].map((last) => `0102030405060708090a0b0c${last}`),
        );
        words.set([...base.slice(0, 2), 0x09ff0b0c, 1], COUNTER_BASE >> 2);
        exports.layAeadCounters(COUNTERS, 0x00ff, 2, 2);
        expect(formatHex(octets.subarray(COUNTERS, COUNTERS + 64)).match(/.{32}/g)).toEqual(
          ["09ff0bf300000001", "09ff0bf300000002", "09ff0a0c00000001", "09ff0a0c00000002"].map((last) => `0102030405060708${last}`),
        );
      });

      it("block 0xff00 and beyond carry (RFC 3711 B.2)", () => {
        words.set([0, 0, 0, 0x0000feff], COUNTER_BASE >> 2);
        exports.layCounters(COUNTERS, 0, 1, 3);
        expect([1, 2].map((block) => formatHex(octets.subarray(COUNTERS + 16 * block + 12, COUNTERS + 16 * block + 16)))).toEqual([
          "0000ff00",
          "0000ff01",
        ]);
      });
    });

    describe("AES", () => {
      it("the S-box, all of it (FIPS 197 figure 7)", () => {
        const box: number[] = [];
        for (const first of [0, 128]) {
          octets.set(
            Uint8Array.from({ length: 128 }, (_, i) => first + i),
            AES_BLOCKS,
          );
          exports.substitute();
          box.push(...octets.subarray(AES_BLOCKS, AES_BLOCKS + 128));
        }
        expect(box.map((octet) => octet ^ 0x63)).toEqual(Array.from({ length: 256 }, (_, i) => substituted(i)));
      });

      it.each([
        ["000102030405060708090a0b0c0d0e0f", "69c4e0d86a7b0430d8cdb78070b4c55a"],
        ["000102030405060708090a0b0c0d0e0f1011121314151617", "dda97ca4864cdfe06eaf70a0ec0d7191"],
        ["000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "8ea2b7ca516745bfeafc49904b496089"],
      ])("FIPS 197 appendix C, key %s", (key, ciphertext) => {
        const context = kernel.heap.allocate(aesContextLength(key.length / 2));
        octets.set(parseHex("00112233445566778899aabbccddeeff"), COUNTERS);
        kernelAes(kernel, parseHex(key), context).encrypt(COUNTERS, SINGLE_KEYSTREAM, 16);
        expect(formatHex(octets.subarray(SINGLE_KEYSTREAM, SINGLE_KEYSTREAM + 16))).toBe(ciphertext);
      });

      it.each([16, 24, 32])("random keys of %i octets, any number of blocks, and nothing behind them", (length) => {
        const context = kernel.heap.allocate(aesContextLength(length));
        for (let blocks = 1; blocks < 40; blocks++) {
          const key = random(length);
          const data = random(16 * blocks);
          octets.set(data, COUNTERS);
          octets.fill(0xee, SINGLE_KEYSTREAM, SINGLE_KEYSTREAM + 16 * blocks + 128);
          kernelAes(kernel, key, context).encrypt(COUNTERS, SINGLE_KEYSTREAM, 16 * blocks);
          const expected = createCipheriv(`aes-${8 * length}-ecb`, key, null)
            .setAutoPadding(false)
            .update(data);
          expect(formatHex(octets.subarray(SINGLE_KEYSTREAM, SINGLE_KEYSTREAM + 16 * blocks))).toBe(formatHex(expected));
          expect(
            octets.subarray(SINGLE_KEYSTREAM + 16 * blocks, SINGLE_KEYSTREAM + 16 * blocks + 128).every((octet) => octet === 0xee),
          ).toBe(true);
        }
      });
    });

    describe("AES-GCM", () => {
      it("tags over associated data, a trailer and ciphertext of any lengths", () => {
        const context = kernel.heap.allocate(GHASH_CONTEXT);
        for (let run = 0; run < 200; run++) {
          const [key, iv] = [random(16), random(12)];
          const ecb = (data: Uint8Array): Uint8Array => createCipheriv("aes-128-ecb", key, null).setAutoPadding(false).update(data);
          octets.set(ecb(new Uint8Array(16)), KEY);
          exports.prepareGhash(context);
          const [covered, cryptLength, trailerLength] = [dice(40), run < 40 ? run : dice(300), 4 * dice(2)];
          const counters = new Uint8Array(16 * 21);
          for (let block = 0; block < 21; block++) counters.set([...iv, 0, 0, 0, block + 1], 16 * block);
          octets.set(ecb(counters), SINGLE_KEYSTREAM);
          const packet = STAGE + dice(16);
          const plain = random(covered + cryptLength + 16);
          octets.set(plain, packet);
          const trailer = dice(2 ** 32);
          const job = describeJob(0, {
            context,
            packet,
            covered,
            cryptAt: covered,
            cryptLength,
            keystream: SINGLE_KEYSTREAM + 16,
            trailer,
            trailerLength,
            tagAt: covered + cryptLength,
            tagMask: SINGLE_KEYSTREAM,
          });
          exports.sealAead(job, job + JOB_OCTETS);
          const associated = new Uint8Array(covered + trailerLength);
          associated.set(plain.subarray(0, covered));
          if (trailerLength > 0) new DataView(associated.buffer).setUint32(covered, trailer);
          const cipher = createCipheriv("aes-128-gcm", key, iv).setAAD(associated);
          const body = cipher.update(plain.subarray(covered, covered + cryptLength));
          cipher.final();
          expect(formatHex(octets.slice(packet + covered, packet + covered + cryptLength + 16))).toBe(
            formatHex(Uint8Array.of(...body, ...cipher.getAuthTag())),
          );
          const sealed = octets.slice(packet, packet + covered + cryptLength + 16);
          exports.openAead(job, job + JOB_OCTETS);
          expect(words[(job + JOB.authentic) >> 2]).toBe(1);
          expect(formatHex(octets.slice(packet, packet + covered + cryptLength))).toBe(
            formatHex(plain.subarray(0, covered + cryptLength)),
          );
          const flipped = dice(sealed.length);
          sealed[flipped] = (sealed[flipped] as number) ^ (1 << dice(8));
          const before = formatHex(sealed);
          octets.set(sealed, packet);
          exports.openAead(job, job + JOB_OCTETS);
          expect(words[(job + JOB.authentic) >> 2]).toBe(0);
          expect(formatHex(octets.slice(packet, packet + sealed.length))).toBe(before);
        }
      });
    });
  });
}

/** The S-box by its definition: the inverse in GF(2^8), then the affine map (FIPS 197 §5.1.1). */
function substituted(value: number): number {
  let inverse = 0;
  for (let candidate = 1; candidate < 256 && inverse === 0; candidate++) if (times(value, candidate) === 1) inverse = candidate;
  let result = 0x63;
  for (let turn = 0; turn < 5; turn++) result ^= ((inverse << turn) | (inverse >> (8 - turn))) & 0xff;
  return result;
}

function times(a: number, b: number): number {
  let product = 0;
  for (let bit = 0, power = a; bit < 8; bit++, power = (power << 1) ^ (power >= 0x80 ? 0x11b : 0)) {
    if (((b >> bit) & 1) === 1) product ^= power;
  }
  return product;
}
