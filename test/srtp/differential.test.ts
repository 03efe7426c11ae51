import { expect, it } from "vitest";
import { createSrtpReceiver, createSrtpSender, SrtpFailure } from "../../src/srtp/index.js";
import { runDifferential } from "./differential.js";
import { BACKENDS, masterKey, rtpPacket } from "./packets.js";

it("random packets come to the same in every backend, one by one, in batches and in slots", () => {
  const report = runDifferential(3000, 7);
  expect(report.opened).toBeGreaterThan(1500);
  expect(report.refused).toBeGreaterThan(100);
});

it.each(BACKENDS)("on $name a packet before the first index is a replay in a batch, as it is alone", ({ crypto, backend }) => {
  const suite = "NULL_HMAC_SHA1_32";
  const options = { policy: { suite, authenticateRtp: false } as const, keys: [masterKey(suite)], crypto, backend };
  const [sender, receiver] = [createSrtpSender(options), createSrtpReceiver(options)];
  const [first, second, before] = [19, 20, 65507].map((sequence) => rtpPacket({ sequence })) as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  const out = new Uint8Array(100);
  expect(sender.protect(first, out)).toBe(32);
  expect(receiver.unprotect(first, out)).toBe(32);
  const lengths = new Int32Array(2);
  expect(receiver.unprotectBatch([second, before], [new Uint8Array(32), new Uint8Array(32)], lengths)).toBe(1);
  expect([...lengths]).toEqual([32, SrtpFailure.replay]);
});
