import { describe, expect, it } from "vitest";
import { nobleCrypto } from "../../src/crypto/index.js";
import {
  createSrtpSender,
  createUndecidedSrtpReceiver,
  SrtpFailure,
  type SrtpOptions,
  type SuiteName,
} from "../../src/srtp/index.js";
import { masterKey } from "./packets.js";

const A = Uint8Array.of(0, 0, 0, 1);
const B = Uint8Array.of(0, 0, 0, 2);

function rtp(sequence: number): Uint8Array {
  const packet = new Uint8Array(32).fill(sequence, 12);
  new DataView(packet.buffer).setUint32(0, 0x8000_0000 + sequence);
  new DataView(packet.buffer).setUint32(8, 0x11223344);
  return packet;
}

const RTCP = Uint8Array.of(0x80, 201, 0, 1, 0x11, 0x22, 0x33, 0x44);

describe.each<SuiteName>(["AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"])(
  "a receiver that does not know of the MKI, %s",
  (suite) => {
    const options = (mkiOnWire?: "absent"): SrtpOptions => ({
      policy: { suite },
      keys: [masterKey(suite, 1, A)],
      crypto: nobleCrypto,
      ...(mkiOnWire === undefined ? {} : { mkiOnWire }),
    });
    const out = new Uint8Array(128);

    function pair(mkiOnWire?: "absent") {
      let missing = 0;
      const receiver = createUndecidedSrtpReceiver(options(), () => missing++);
      const sender = createSrtpSender(options(mkiOnWire));
      const wire = (sequence: number): Uint8Array => {
        const sealed = new Uint8Array(128);
        return sealed.subarray(0, sender.protect(rtp(sequence), sealed));
      };
      const wireRtcp = (): Uint8Array => {
        const sealed = new Uint8Array(128);
        return sealed.subarray(0, sender.protectRtcp(RTCP, sealed));
      };
      return { receiver, sender, wire, wireRtcp, missing: () => missing };
    }

    it.each([["with one", undefined, 0] as const, ["without", "absent", 1] as const])(
      "opens what comes %s, through a rekey, and notes it once",
      (_name, mkiOnWire, noted) => {
        const { receiver, sender, wire, wireRtcp, missing } = pair(mkiOnWire);
        expect(receiver.unprotectRtcp(wireRtcp(), out)).toBe(8);
        for (const sequence of [1, 2, 3]) expect(receiver.unprotect(wire(sequence), out)).toBe(32);
        expect(missing()).toBe(noted);
        sender.addKey(masterKey(suite, 2, B));
        receiver.addKey(masterKey(suite, 2, B));
        sender.useKey(B);
        expect(receiver.unprotect(wire(4), out)).toBe(32);
        expect([receiver.keyUsage(A)?.rtp, receiver.keyUsage(B)?.rtp]).toEqual([3, 1]);
        expect(receiver.removeKey(A)).toBe(true);
        expect([receiver.ssrcs, receiver.highestSequence(0x11223344), receiver.rolloverCounter(0x11223344)]).toEqual([
          [0x11223344],
          4,
          0,
        ]);
        expect(receiver.statistics).toMatchObject({ packets: 4, authenticationFailures: 0 });
        receiver.close();
        expect(receiver.unprotect(wire(6), out)).toBe(SrtpFailure.closed);
      },
    );

    it("opens in place, one after the other and in batches", () => {
      const { receiver, wire, missing } = pair("absent");
      const packet = wire(1).slice();
      expect(receiver.unprotect(packet, packet)).toBe(32);
      expect(packet.subarray(0, 32)).toEqual(rtp(1));
      const lengths = new Int32Array(2);
      expect(receiver.unprotectBatch([wire(2), Uint8Array.of(1)], [out, out], lengths)).toBe(1);
      expect([...lengths]).toEqual([32, SrtpFailure.malformed]);
      expect(missing()).toBe(1);
    });

    it("is not decided by what is not authentic", () => {
      const { receiver, wire, missing } = pair();
      for (let at = 0; at < 40; at++) {
        const forged = wire(1 + at).map((octet, index) => (index === 13 ? octet ^ 1 : octet));
        expect(receiver.unprotect(forged, out)).toBeLessThan(0);
      }
      expect(receiver.unprotect(Uint8Array.of(0x80), out)).toBe(SrtpFailure.malformed);
      receiver.setRolloverCounter(0x11223344, 0);
      expect(receiver.unprotect(wire(50), out)).toBe(32);
      expect(missing()).toBe(0);
    });
  },
);
