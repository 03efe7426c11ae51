/** What SRTP costs when the primitives are called as their manuals show it: one object or closure per packet. */
import { createCipheriv, createDecipheriv, createHmac } from "node:crypto";
import { ctr, gcm } from "@noble/ciphers/aes.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha1 } from "@noble/hashes/legacy.js";
import { type Suite, type SuiteName, suiteOf } from "../../../src/srtp/index.js";
import { type Contender, HEADER, MASTER_KEY, MASTER_SALT, plainPacket, writeSequence } from "../workload.js";

const HMAC_TAG = 10;
const GCM_TAG = 16;
const ROLLOVER = new Uint8Array(4);

/** Session keys; deriving them is not measured. */
interface Keys {
  readonly encryption: Uint8Array;
  readonly authentication: Uint8Array;
}

/** Both directions of one transform on one library. */
interface Transform {
  readonly tagLength: number;
  seal(keys: Keys, iv: Uint8Array, plain: Uint8Array, wire: Uint8Array): void;
  /** @returns whether the packet is authentic */
  open(keys: Keys, iv: Uint8Array, wire: Uint8Array, out: Uint8Array): boolean;
}

const nodeCm: Transform = {
  tagLength: HMAC_TAG,
  seal({ encryption, authentication }, iv, plain, wire) {
    wire.set(plain.subarray(0, HEADER));
    wire.set(createCipheriv("aes-128-ctr", encryption, iv).update(plain.subarray(HEADER)), HEADER);
    const mac = createHmac("sha1", authentication).update(wire.subarray(0, plain.length)).update(ROLLOVER).digest();
    wire.set(mac.subarray(0, HMAC_TAG), plain.length);
  },
  open({ encryption, authentication }, iv, wire, out) {
    const end = wire.length - HMAC_TAG;
    const mac = createHmac("sha1", authentication).update(wire.subarray(0, end)).update(ROLLOVER).digest();
    if (mac.compare(wire, end, wire.length, 0, HMAC_TAG) !== 0) return false;
    out.set(wire.subarray(0, HEADER));
    out.set(createDecipheriv("aes-128-ctr", encryption, iv).update(wire.subarray(HEADER, end)), HEADER);
    return true;
  },
};

const nodeGcm: Transform = {
  tagLength: GCM_TAG,
  seal({ encryption }, iv, plain, wire) {
    const cipher = createCipheriv("aes-128-gcm", encryption, iv);
    cipher.setAAD(plain.subarray(0, HEADER));
    wire.set(plain.subarray(0, HEADER));
    wire.set(cipher.update(plain.subarray(HEADER)), HEADER);
    cipher.final();
    wire.set(cipher.getAuthTag(), plain.length);
  },
  open({ encryption }, iv, wire, out) {
    const end = wire.length - GCM_TAG;
    const decipher = createDecipheriv("aes-128-gcm", encryption, iv);
    decipher.setAAD(wire.subarray(0, HEADER));
    decipher.setAuthTag(wire.subarray(end));
    out.set(wire.subarray(0, HEADER));
    out.set(decipher.update(wire.subarray(HEADER, end)), HEADER);
    decipher.final();
    return true;
  },
};

function concatenated(packet: Uint8Array): Uint8Array {
  const input = new Uint8Array(packet.length + ROLLOVER.length);
  input.set(packet);
  return input;
}

const nobleCm: Transform = {
  tagLength: HMAC_TAG,
  seal({ encryption, authentication }, iv, plain, wire) {
    wire.set(plain.subarray(0, HEADER));
    wire.set(ctr(encryption, iv).encrypt(plain.subarray(HEADER)), HEADER);
    const mac = hmac(sha1, authentication, concatenated(wire.subarray(0, plain.length)));
    wire.set(mac.subarray(0, HMAC_TAG), plain.length);
  },
  open({ encryption, authentication }, iv, wire, out) {
    const end = wire.length - HMAC_TAG;
    const mac = hmac(sha1, authentication, concatenated(wire.subarray(0, end)));
    for (let k = 0; k < HMAC_TAG; k++) if (mac[k] !== wire[end + k]) return false;
    out.set(wire.subarray(0, HEADER));
    out.set(ctr(encryption, iv).decrypt(wire.subarray(HEADER, end)), HEADER);
    return true;
  },
};

const nobleGcm: Transform = {
  tagLength: GCM_TAG,
  seal({ encryption }, iv, plain, wire) {
    wire.set(plain.subarray(0, HEADER));
    wire.set(gcm(encryption, iv, plain.subarray(0, HEADER)).encrypt(plain.subarray(HEADER)), HEADER);
  },
  open({ encryption }, iv, wire, out) {
    out.set(wire.subarray(0, HEADER));
    out.set(gcm(encryption, iv, wire.subarray(0, HEADER)).decrypt(wire.subarray(HEADER)), HEADER);
    return true;
  },
};

/** Salt, SSRC and sequence number where SRTP puts them with ROC 0 (RFC 3711 §4.1.1, RFC 7714 §8.1). */
function vectorOf(suite: Suite, packet: Uint8Array): Uint8Array {
  const isGcm = suite.cipher === "gcm";
  const iv = new Uint8Array(isGcm ? 12 : 16).fill(MASTER_SALT);
  const ssrcAt = isGcm ? 2 : 4;
  for (let k = 0; k < 4; k++) iv[ssrcAt + k] = (iv[ssrcAt + k] as number) ^ (packet[8 + k] as number);
  for (let k = 0; k < 2; k++) iv[ssrcAt + 8 + k] = (iv[ssrcAt + 8 + k] as number) ^ (packet[2 + k] as number);
  if (!isGcm) iv.fill(0, 14);
  return iv;
}

function perPacket(transforms: Partial<Record<SuiteName, Transform>>): Contender {
  return (name, payload, count) => {
    const transform = transforms[name];
    if (transform === undefined) return undefined;
    const suite = suiteOf(name);
    const keys = {
      encryption: new Uint8Array(suite.keyLength).fill(MASTER_KEY),
      authentication: new Uint8Array(suite.authKeyLength).fill(MASTER_KEY),
    };
    const plain = Array.from({ length: count }, () => plainPacket(payload));
    const wire = plain.map((packet) => new Uint8Array(packet.length + transform.tagLength));
    const opened = new Uint8Array(HEADER + payload);
    return {
      layOut(first) {
        plain.forEach((packet, i) => {
          writeSequence(packet, first + i);
        });
      },
      open: () => ({
        protect(from, to) {
          for (let i = from; i < to; i++) {
            const packet = plain[i] as Uint8Array;
            transform.seal(keys, vectorOf(suite, packet), packet, wire[i] as Uint8Array);
          }
        },
        unprotect(from, to) {
          let failures = 0;
          for (let i = from; i < to; i++) {
            const packet = wire[i] as Uint8Array;
            if (!transform.open(keys, vectorOf(suite, packet), packet, opened)) failures++;
          }
          if (failures > 0) throw new Error(`${name}: ${failures} packets did not open`);
        },
        close() {},
      }),
    };
  };
}

export const nodeObjects = perPacket({ AES_CM_128_HMAC_SHA1_80: nodeCm, AEAD_AES_128_GCM: nodeGcm });
export const nobleObjects = perPacket({ AES_CM_128_HMAC_SHA1_80: nobleCm, AEAD_AES_128_GCM: nobleGcm });
