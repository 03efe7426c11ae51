import { createCipheriv, createHmac } from "node:crypto";
import { concatBytes, parseHex } from "../../src/bytes/index.js";
import type { SrtpMasterKey, Suite } from "../../src/srtp/index.js";

/**
 * SRTP as the RFCs spell it, one packet at a time on OpenSSL's CTR, GCM and HMAC, sharing no code with src/srtp: what the
 * sessions are compared with. Key derivation rate 0.
 */
export interface ReferencePacket {
  readonly suite: Suite;
  readonly master: SrtpMasterKey;
  readonly packet: Uint8Array;
  readonly mki?: Uint8Array;
  readonly encrypted?: boolean;
}

function counterMode(key: Uint8Array, iv: bigint, data: Uint8Array): Uint8Array {
  return createCipheriv(`aes-${8 * key.length}-ctr`, key, octets(iv, 16)).update(data);
}

function octets(value: bigint, length: number): Uint8Array {
  return parseHex(value.toString(16).padStart(2 * length, "0"));
}

function number(value: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(value).toString("hex")}`);
}

function derive({ key, salt }: SrtpMasterKey, label: number, length: number): Uint8Array {
  const padded = concatBytes(salt, new Uint8Array(14 - salt.length));
  return counterMode(key, (number(padded) ^ (BigInt(label) << 48n)) << 16n, new Uint8Array(length));
}

function gcm(key: Uint8Array, iv: bigint, additional: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const cipher = createCipheriv(key.length === 16 ? "aes-128-gcm" : "aes-256-gcm", key, octets(iv, 12));
  cipher.setAAD(additional);
  return concatBytes(cipher.update(plaintext), cipher.final(), cipher.getAuthTag());
}

function tagOf(authKey: Uint8Array, length: number, ...parts: Uint8Array[]): Uint8Array {
  return createHmac("sha1", authKey)
    .update(concatBytes(...parts))
    .digest()
    .subarray(0, length);
}

/** @param headerLength octets before the payload, as the test that built the packet knows them */
export function referenceRtp(reference: ReferencePacket, headerLength: number, rolloverCounter: number): Uint8Array {
  const { suite, master, packet, mki = new Uint8Array(0), encrypted = true } = reference;
  const header = packet.subarray(0, headerLength);
  const payload = packet.subarray(headerLength);
  const ssrc = number(packet.subarray(8, 12));
  const roc = octets(BigInt(rolloverCounter), 4);
  const index = (BigInt(rolloverCounter) << 16n) | number(packet.subarray(2, 4));
  const key = derive(master, 0, suite.keyLength);
  const salt = number(derive(master, 2, suite.saltLength));
  if (suite.cipher === "gcm") return concatBytes(header, gcm(key, salt ^ (ssrc << 48n) ^ index, header, payload), mki);
  const iv = (salt << 16n) ^ (ssrc << 64n) ^ (index << 16n);
  const body = suite.cipher === "cm" && encrypted ? counterMode(key, iv, payload) : payload;
  return concatBytes(header, body, mki, tagOf(derive(master, 1, 20), suite.rtpTagLength, header, body, roc));
}

export function referenceRtcp(
  reference: ReferencePacket,
  rtcpIndex: number,
  tagLength = reference.suite.rtcpTagLength,
): Uint8Array {
  const { suite, master, packet, mki = new Uint8Array(0) } = reference;
  const encrypted = reference.encrypted ?? suite.cipher !== "null";
  const header = packet.subarray(0, 8);
  const payload = packet.subarray(8);
  const ssrc = number(packet.subarray(4, 8));
  const index = BigInt(rtcpIndex);
  const word = octets((encrypted ? 1n << 31n : 0n) | index, 4);
  const key = derive(master, 3, suite.keyLength);
  const salt = number(derive(master, 5, suite.saltLength));
  if (suite.cipher === "gcm") {
    const iv = salt ^ (ssrc << 48n) ^ index;
    if (encrypted) return concatBytes(header, gcm(key, iv, concatBytes(header, word), payload), word, mki);
    return concatBytes(packet, gcm(key, iv, concatBytes(packet, word), new Uint8Array(0)), word, mki);
  }
  const iv = (salt << 16n) ^ (ssrc << 64n) ^ (index << 16n);
  const body = suite.cipher === "cm" && encrypted ? counterMode(key, iv, payload) : payload;
  return concatBytes(header, body, word, mki, tagOf(derive(master, 4, 20), tagLength, header, body, word));
}
