import fc from "fast-check";
import { nobleCrypto } from "../../src/crypto/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { type SrtpMasterKey, type SuiteName, suiteNames, suiteOf } from "../../src/srtp/index.js";

/** Every backend, for tables of tests: its name, and the options that force it. */
export const BACKENDS = [
  { name: "node", crypto: nodeCrypto, backend: "provider" },
  { name: "noble", crypto: nobleCrypto, backend: "provider" },
  { name: "kernel+node", crypto: nodeCrypto, backend: "kernel" },
  { name: "kernel", crypto: nobleCrypto, backend: "kernel" },
] as const;

/** Every suite on every backend. */
export const SUITES_AND_BACKENDS = suiteNames.flatMap((suite) => BACKENDS.map((row) => ({ suite, ...row })));

/** A master key of the right lengths; keys of different seeds differ. */
export function masterKey(suite: SuiteName, seed = 1, mki?: Uint8Array): SrtpMasterKey {
  const { keyLength, saltLength } = suiteOf(suite);
  return {
    key: Uint8Array.from({ length: keyLength }, (_, i) => (seed * 41 + i * 7) & 0xff),
    salt: Uint8Array.from({ length: saltLength }, (_, i) => (seed * 89 + i * 13) & 0xff),
    ...(mki === undefined ? {} : { mki }),
  };
}

export interface RtpShape {
  readonly ssrc?: number;
  readonly sequence: number;
  readonly payload?: Uint8Array;
  readonly csrcs?: number;
  /** Words of header extension, undefined for none. */
  readonly extension?: number | undefined;
  readonly padding?: boolean;
}

export function rtpHeaderOctets({ csrcs = 0, extension }: RtpShape): number {
  return 12 + 4 * csrcs + (extension === undefined ? 0 : 4 + 4 * extension);
}

export function rtpPacket(shape: RtpShape): Uint8Array {
  const { ssrc = 0xcafebabe, sequence, payload = new Uint8Array(20).fill(0xab), csrcs = 0, extension, padding = false } = shape;
  const header = rtpHeaderOctets(shape);
  const packet = new Uint8Array(header + payload.length + (padding ? 4 : 0));
  const view = new DataView(packet.buffer);
  view.setUint8(0, 0x80 | (padding ? 0x20 : 0) | (extension === undefined ? 0 : 0x10) | csrcs);
  view.setUint8(1, 0x0f);
  view.setUint16(2, sequence);
  view.setUint32(4, 0xdecafbad);
  view.setUint32(8, ssrc);
  for (let i = 0; i < csrcs; i++) view.setUint32(12 + 4 * i, 0x1000 + i);
  if (extension !== undefined) {
    view.setUint16(12 + 4 * csrcs, 0xbede);
    view.setUint16(14 + 4 * csrcs, extension);
    packet.fill(0x31, 16 + 4 * csrcs, header);
  }
  packet.set(payload, header);
  if (padding) packet[packet.length - 1] = 4;
  return packet;
}

/** A receiver report with `words` words after the SSRC. */
export function rtcpPacket(words: number, ssrc = 0xcafebabe): Uint8Array {
  const packet = new Uint8Array(8 + 4 * words).fill(0x77, 8);
  const view = new DataView(packet.buffer);
  view.setUint16(0, 0x81c9);
  view.setUint16(2, 1 + words);
  view.setUint32(4, ssrc);
  return packet;
}

export const anyRtp = fc.record({
  ssrc: fc.integer({ min: 0, max: 0xffffffff }),
  sequence: fc.integer({ min: 0, max: 0xffff }),
  payload: fc.uint8Array({ maxLength: 300 }),
  csrcs: fc.integer({ min: 0, max: 15 }),
  extension: fc.option(fc.integer({ min: 0, max: 20 }), { nil: undefined }),
  padding: fc.boolean(),
});

export const anySuite = fc.constantFrom(...suiteNames);
