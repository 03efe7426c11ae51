import { nobleCrypto } from "../../../src/crypto/index.js";
import { nodeCrypto } from "../../../src/node/crypto.js";
import {
  createPacketSlots,
  createSrtpReceiver,
  createSrtpSender,
  type SrtpOptions,
  type SuiteName,
  suiteOf,
} from "../../../src/srtp/index.js";
import { type Contender, HEADER, MASTER_KEY, MASTER_SALT, type Pair, plainPacket, writeSequence } from "../workload.js";

/** Packets in a call of `protectBatch`. */
const BATCH = 32;

type Backend = Pick<SrtpOptions, "crypto" | "backend">;

/** Slices of `BATCH` packets, the form in which batches are handed over. */
function batches<T>(items: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(items.length / BATCH) }, (_, i) => items.slice(i * BATCH, (i + 1) * BATCH));
}

function sessionOptions(suite: SuiteName, backend: Backend): SrtpOptions {
  const { keyLength, saltLength } = suiteOf(suite);
  const key = { key: new Uint8Array(keyLength).fill(MASTER_KEY), salt: new Uint8Array(saltLength).fill(MASTER_SALT) };
  return { policy: { suite }, keys: [key], ...backend };
}

function memory(suite: SuiteName, payload: number, count: number, backend: Backend) {
  const { rtpTagLength } = suiteOf(suite);
  const plain = Array.from({ length: count }, () => plainPacket(payload));
  return {
    options: sessionOptions(suite, backend),
    plain,
    wire: plain.map((packet) => new Uint8Array(packet.length + rtpTagLength)),
    opened: plain.map((packet) => new Uint8Array(packet.length)),
    layOut(first: number): void {
      plain.forEach((packet, i) => {
        writeSequence(packet, first + i);
      });
    },
  };
}

/** One packet a call. */
function single(backend: Backend): Contender {
  return (suite, payload, count) => {
    const { options, plain, wire, opened, layOut } = memory(suite, payload, count, backend);
    return {
      layOut,
      open() {
        const [sender, receiver] = [createSrtpSender(options), createSrtpReceiver(options)];
        return {
          protect(from, to) {
            for (let i = from; i < to; i++) sender.protect(plain[i] as Uint8Array, wire[i] as Uint8Array);
          },
          unprotect(from, to) {
            let failures = 0;
            for (let i = from; i < to; i++) {
              if (receiver.unprotect(wire[i] as Uint8Array, opened[i] as Uint8Array) !== HEADER + payload) failures++;
            }
            if (failures > 0) throw new Error(`${suite}: ${failures} packets did not open`);
          },
          close() {
            sender.close();
            receiver.close();
          },
        };
      },
    };
  };
}

/** `BATCH` packets a call, in memory of the caller. Ranges are taken as whole batches. */
function batch(backend: Backend): Contender {
  return (suite, payload, count) => {
    const { options, plain, wire, opened, layOut } = memory(suite, payload, count, backend);
    return { layOut, open: () => inBatches(options, plain, wire, wire, opened) };
  };
}

/** `BATCH` packets a call, protected and opened in place in slots of the kernel's memory. */
function zeroCopy(backend: Backend): Contender {
  return (suite, payload, count) => {
    const [length, wireLength] = [HEADER + payload, HEADER + payload + suiteOf(suite).rtpTagLength];
    const { slots, isZeroCopy } = createPacketSlots({ count, slotLength: 2 ** Math.ceil(Math.log2(wireLength)) });
    if (!isZeroCopy) throw new Error("the kernel has no memory for the packets");
    const [plain, wire] = [length, wireLength].map((end) => slots.map((slot) => slot.subarray(0, end))) as [
      Uint8Array[],
      Uint8Array[],
    ];
    const options = sessionOptions(suite, backend);
    const fresh = plainPacket(payload);
    return {
      layOut(first) {
        plain.forEach((packet, i) => {
          packet.set(fresh);
          writeSequence(packet, first + i);
        });
      },
      open: () => inBatches(options, plain, slots, wire, slots),
    };
  };
}

/** Protects `plain` into `sealed`, and opens `wire`, the protected packets in `sealed`, into `opened`. */
function inBatches(
  options: SrtpOptions,
  plain: readonly Uint8Array[],
  sealed: readonly Uint8Array[],
  wire: readonly Uint8Array[],
  opened: readonly Uint8Array[],
): Pair {
  const [plains, sealeds, wires, openeds] = [batches(plain), batches(sealed), batches(wire), batches(opened)];
  const lengths = new Int32Array(BATCH);
  const [sender, receiver] = [createSrtpSender(options), createSrtpReceiver(options)];
  return {
    protect(from, to) {
      for (let i = Math.floor(from / BATCH); i * BATCH < to; i++) {
        sender.protectBatch(plains[i] as Uint8Array[], sealeds[i] as Uint8Array[], lengths);
      }
    },
    unprotect(from, to) {
      let [asked, done] = [0, 0];
      for (let i = Math.floor(from / BATCH); i * BATCH < to; i++) {
        const packets = wires[i] as Uint8Array[];
        asked += packets.length;
        done += receiver.unprotectBatch(packets, openeds[i] as Uint8Array[], lengths);
      }
      if (done < asked) throw new Error(`${options.policy.suite}: ${asked - done} packets did not open`);
    },
    close() {
      sender.close();
      receiver.close();
    },
  };
}

const KERNEL_AND_NODE: Backend = { crypto: nodeCrypto, backend: "kernel" };
const KERNEL: Backend = { crypto: nobleCrypto, backend: "kernel" };
const NODE: Backend = { crypto: nodeCrypto, backend: "provider" };
const NOBLE: Backend = { crypto: nobleCrypto, backend: "provider" };

/** Ours, by backend (`SrtpSession.backend`) and by how packets are handed over. */
export const ours = {
  "kernel+node, single": single(KERNEL_AND_NODE),
  "kernel+node, batch": batch(KERNEL_AND_NODE),
  "kernel+node, zero-copy": zeroCopy(KERNEL_AND_NODE),
  "kernel, single": single(KERNEL),
  "kernel, batch": batch(KERNEL),
  "node, single": single(NODE),
  "node, batch": batch(NODE),
  "noble, single": single(NOBLE),
} satisfies Record<string, Contender>;
