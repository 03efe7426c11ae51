/**
 * Random packets through every backend, one by one and in batches: whatever is not the same everywhere is an error. As a program:
 * `npx tsx test/srtp/differential.ts --packets 1000000 --seed 1`.
 */
import { pathToFileURL } from "node:url";
import { equalBytes, formatHex } from "../../src/bytes/index.js";
import {
  createPacketSlots,
  createSrtpReceiver,
  createSrtpSender,
  type PacketSlots,
  type SrtpMasterKey,
  type SrtpOptions,
  type SrtpPolicy,
  type SrtpReceiver,
  type SrtpSender,
  suiteNames,
  suiteOf,
} from "../../src/srtp/index.js";
import { BACKENDS, rtcpPacket, rtpPacket } from "./packets.js";

/** Numbers from a seed (mulberry32), so that a difference can be found again. */
export function seeded(seed: number): (below: number) => number {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

type Dice = ReturnType<typeof seeded>;

/** How packets are handed over: one a call, or in batches, from anywhere or in slots of the kernel's memory. */
const FORMS = ["single", "batch", "slots"] as const;
type Form = (typeof FORMS)[number];

/** Everything that is compared: every backend in two forms, and the kernels in slots too. */
const CONTENDERS = BACKENDS.flatMap((row) =>
  FORMS.filter((form) => form !== "slots" || row.backend === "kernel").map((form) => ({
    ...row,
    form,
    title: `${row.name}, ${form}`,
  })),
);

const GUARD = 0xee;

/** What came of one packet: octets, a failure, or the code of an error, and what `out` holds. */
interface Outcome {
  readonly result: number | string;
  readonly out: Uint8Array;
}

interface Contestant {
  readonly title: string;
  readonly form: Form;
  readonly sender: SrtpSender;
  readonly receiver: SrtpReceiver;
}

export interface DifferentialReport {
  readonly packets: number;
  readonly opened: number;
  readonly refused: number;
  readonly scenarios: number;
}

/** Runs scenarios until so many packets have been on the wire. @throws Error at the first difference, with seed and scenario */
export function runDifferential(packets: number, seed: number, onProgress?: (packets: number) => void): DifferentialReport {
  const report = { packets: 0, opened: 0, refused: 0, scenarios: 0 };
  const slots = createPacketSlots({ count: 64, slotLength: 2048 });
  try {
    while (report.packets < packets) {
      const own = seed + report.scenarios;
      try {
        scenario(seeded(own), slots, report);
      } catch (error) {
        throw new Error(`scenario of seed ${own}: ${(error as Error).message}`, { cause: error });
      }
      report.scenarios++;
      if (report.scenarios % 100 === 0) onProgress?.(report.packets);
    }
  } finally {
    slots.release();
  }
  return report;
}

function bytes(dice: Dice, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => dice(256));
}

/** @param number of the key in its scenario, so that no two have one MKI */
function masterKey(dice: Dice, suite: SrtpPolicy["suite"], mkiLength: number, number: number): SrtpMasterKey {
  const { keyLength, saltLength } = suiteOf(suite);
  const mki = bytes(dice, mkiLength);
  if (mkiLength > 0) mki[0] = number;
  return { key: bytes(dice, keyLength), salt: bytes(dice, saltLength), ...(mkiLength > 0 && { mki }) };
}

function policyOf(dice: Dice): SrtpPolicy {
  const suite = suiteNames[dice(suiteNames.length)] as SrtpPolicy["suite"];
  const isAead = suiteOf(suite).cipher === "gcm";
  return {
    suite,
    encryptRtcp: dice(4) > 0,
    ...(dice(8) === 0 && { keyDerivationRate: 2 ** dice(6) }),
    ...(!isAead && dice(6) === 0 && { encryptRtp: false }),
    ...(!isAead && dice(12) === 0 && { authenticateRtp: false }),
    ...(!isAead && dice(6) === 0 && { rtcpTagLength: 4 + dice(17) }),
  };
}

/** One pair of sessions per contender under the same keys, some hundred packets, and whatever may befall them on the way. */
function scenario(dice: Dice, slots: PacketSlots, report: { packets: number; opened: number; refused: number }): void {
  const policy = policyOf(dice);
  const mki = dice(3) === 0 ? 1 + dice(4) : 0;
  const keys = [masterKey(dice, policy.suite, mki, 0), ...(dice(4) === 0 ? [masterKey(dice, policy.suite, mki, 1)] : [])];
  const common: SrtpOptions = { policy, keys, replayWindow: 64 << dice(3), maxSsrcs: 3 };
  const search = { searchRolloverCounter: dice(3) === 0 };
  const contestants = CONTENDERS.map(({ title, form, crypto, backend }): Contestant => {
    const options = { ...common, crypto, backend };
    return { title, form, sender: createSrtpSender(options), receiver: createSrtpReceiver({ ...options, ...search }) };
  });
  const ssrcs = Array.from({ length: 1 + dice(3) }, () => dice(2 ** 32));
  // Near a turn of the sequence number as often as not.
  const next = ssrcs.map(() => (dice(2) === 0 ? 0xffff - dice(60) : dice(0x10000)));
  if (dice(2) === 0) {
    const rollover = dice(3) === 0 ? 0xffff_ffff : dice(2 ** 32);
    for (const { sender, receiver } of contestants) {
      for (const ssrc of ssrcs) {
        sender.setRolloverCounter(ssrc, rollover);
        receiver.setRolloverCounter(ssrc, rollover);
      }
    }
  }
  const largest = dice(10) === 0 ? 1300 : 220;
  const kept: Uint8Array[] = [];
  const turns = 3 + dice(6);
  for (let turn = 0; turn < turns; turn++) {
    const plain = Array.from({ length: 1 + dice(40) }, () => {
      const at = dice(ssrcs.length);
      const sequence = (next[at] as number) & 0xffff;
      next[at] = sequence + (dice(12) === 0 ? dice(40) : dice(60) === 0 ? dice(0x9000) : 1);
      return rtpPacket({
        ssrc: ssrcs[at] as number,
        sequence: dice(25) === 0 ? (sequence - dice(80)) & 0xffff : sequence,
        payload: bytes(dice, dice(5) === 0 ? 0 : dice(largest)),
        csrcs: dice(6) === 0 ? dice(16) : 0,
        extension: dice(5) === 0 ? dice(9) : undefined,
        padding: dice(9) === 0,
      });
    });
    const sealed = agreed(contestants, (one) => protectAll(one, plain, slots));
    const wire = sealed.flatMap(({ result, out }) => (typeof result === "number" && result > 0 ? [out.slice(0, result)] : []));
    kept.push(...wire.slice(0, 5));
    const arriving = network(dice, wire, kept);
    report.packets += arriving.length;
    for (const { result } of agreed(contestants, (one) => unprotectAll(one, arriving, slots))) {
      if (typeof result === "number" && result >= 0) report.opened++;
      else report.refused++;
    }
    rtcp(dice, contestants, ssrcs, report);
    if (dice(8) === 0) rekey(dice, contestants, masterKey(dice, policy.suite, mki, 2 + turn));
    sameState(contestants, ssrcs);
  }
  for (const { sender, receiver } of contestants) {
    sender.close();
    receiver.close();
  }
}

/** What arrives: not all, not in order, some twice, some old, some damaged. */
function network(dice: Dice, wire: readonly Uint8Array[], kept: readonly Uint8Array[]): Uint8Array[] {
  const arriving: Uint8Array[] = [];
  for (const packet of wire) {
    if (dice(30) === 0) continue;
    if (dice(25) === 0) arriving.push(packet);
    if (dice(30) === 0 && kept.length > 0) arriving.push(kept[dice(kept.length)] as Uint8Array);
    if (dice(12) === 0) arriving.push(damaged(dice, packet));
    if (dice(15) === 0) arriving.splice(Math.max(0, arriving.length - 1 - dice(8)), 0, packet);
    else arriving.push(packet);
  }
  return arriving;
}

function damaged(dice: Dice, packet: Uint8Array): Uint8Array {
  const kind = dice(4);
  if (kind === 0) return packet.slice(0, dice(packet.length));
  const forged = packet.slice();
  const at = kind === 1 ? dice(forged.length) : kind === 2 ? forged.length - 1 - dice(Math.min(20, forged.length)) : dice(12);
  if (at < forged.length) forged[at] = (forged[at] as number) ^ (1 << dice(8));
  return forged;
}

function rtcp(dice: Dice, contestants: readonly Contestant[], ssrcs: readonly number[], report: { packets: number }): void {
  const packet = rtcpPacket(dice(20), ssrcs[dice(ssrcs.length)] as number);
  const [{ result, out }] = agreed(contestants, ({ sender }) => [
    guarded(packet, packet.length + sender.rtcpOverhead, (input, to) => sender.protectRtcp(input, to)),
  ]) as [Outcome];
  if (typeof result !== "number") return;
  const wire = out.slice(0, result);
  for (const arriving of dice(4) === 0 ? [damaged(dice, wire), wire, wire] : [wire]) {
    report.packets++;
    agreed(contestants, ({ receiver }) => [guarded(arriving, arriving.length, (input, to) => receiver.unprotectRtcp(input, to))]);
  }
}

function rekey(dice: Dice, contestants: readonly Contestant[], key: SrtpMasterKey): void {
  const removes = dice(2) === 0;
  for (const { sender, receiver } of contestants) {
    for (const session of [sender, receiver]) session.addKey(key);
    sender.useKey();
    if (removes) receiver.removeKey();
  }
}

/** One packet into memory with a guard behind it. */
function guarded(packet: Uint8Array, room: number, work: (input: Uint8Array, out: Uint8Array) => number): Outcome {
  const out = new Uint8Array(room + 8).fill(GUARD);
  return { result: attempt(() => work(packet, out.subarray(0, room))), out };
}

function attempt(work: () => number): number | string {
  try {
    return work();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

/** In batches errors are numbers: single calls are brought to the same. */
const ERROR_NUMBERS: Readonly<Record<string, number>> = {
  "srtp.malformed": -1,
  "srtp.index-reuse": -3,
  "srtp.lifetime": -5,
  "srtp.ssrc-limit": -6,
  "srtp.output-space": -7,
};

function protectAll({ form, sender }: Contestant, plain: readonly Uint8Array[], slots: PacketSlots): Outcome[] {
  const { rtpOverhead } = sender;
  if (form === "single") {
    return plain.map((packet) => {
      const { result, out } = guarded(packet, packet.length + rtpOverhead, (input, to) => sender.protect(input, to));
      return { result: typeof result === "string" ? (ERROR_NUMBERS[result] ?? result) : result, out };
    });
  }
  return inBatch(
    plain,
    (packet) => packet.length + rtpOverhead,
    form,
    slots,
    (packets, outs, lengths) => sender.protectBatch(packets, outs, lengths),
  );
}

function unprotectAll({ form, receiver }: Contestant, arriving: readonly Uint8Array[], slots: PacketSlots): Outcome[] {
  if (form === "single") {
    return arriving.map((packet) => guarded(packet, packet.length, (input, to) => receiver.unprotect(input, to)));
  }
  return inBatch(
    arriving,
    (packet) => packet.length,
    form,
    slots,
    (packets, outs, lengths) => receiver.unprotectBatch(packets, outs, lengths),
  );
}

/** In slots packets are worked on in place. There `out` begins as the packet itself, so what is left of a refused one is not compared. */
function inBatch(
  packets: readonly Uint8Array[],
  room: (packet: Uint8Array) => number,
  form: Form,
  { slots }: PacketSlots,
  work: (packets: Uint8Array[], outs: Uint8Array[], lengths: Int32Array) => number,
): Outcome[] {
  const outcomes: Outcome[] = [];
  for (let first = 0; first < packets.length; first += slots.length) {
    const some = packets.slice(first, first + slots.length);
    const memory = some.map((packet, i) => {
      const whole = form === "slots" ? (slots[i] as Uint8Array) : new Uint8Array(room(packet) + 8);
      whole.fill(GUARD);
      if (form === "slots") whole.set(packet);
      return whole.subarray(0, room(packet) + 8);
    });
    const inputs = form === "slots" ? memory.map((out, i) => out.subarray(0, some[i]?.length)) : some;
    const outs = memory.map((out) => out.subarray(0, out.length - 8));
    const lengths = new Int32Array(some.length);
    work(inputs as Uint8Array[], outs, lengths);
    memory.forEach((out, i) => {
      const result = lengths[i] as number;
      const copy = out.slice();
      if (form === "slots") copy.fill(GUARD, Math.max(0, result), copy.length - 8);
      outcomes.push({ result, out: copy });
    });
  }
  return outcomes;
}

/** What all do alike. @throws Error that names who did not */
function agreed(contestants: readonly Contestant[], work: (one: Contestant) => Outcome[]): Outcome[] {
  const [first, ...others] = contestants as [Contestant, ...Contestant[]];
  const expected = work(first);
  for (const one of others) {
    const got = work(one);
    expected.forEach(({ result, out }, i) => {
      const own = got[i] as Outcome;
      if (own.result !== result) throw new Error(`packet ${i}: ${first.title} ${result}, ${one.title} ${own.result}`);
      const shown = out.slice();
      // What an output holds behind what came of a packet is nobody's promise, but in slots, where it is not compared, the guard is.
      if (one.form === "slots") shown.fill(GUARD, Math.max(0, typeof result === "number" ? result : 0));
      if (!equalBytes(own.out, shown)) {
        throw new Error(`packet ${i}: ${first.title} ${formatHex(shown)}, ${one.title} ${formatHex(own.out)}`);
      }
    });
  }
  return expected;
}

function sameState(contestants: readonly Contestant[], ssrcs: readonly number[]): void {
  const state = ({ sender, receiver }: Contestant): string =>
    JSON.stringify([
      receiver.statistics,
      receiver.rtcpStatistics,
      ...ssrcs.flatMap((ssrc) => [sender, receiver].map((one) => [one.rolloverCounter(ssrc), one.highestSequence(ssrc)])),
      sender.keyUsage(),
      receiver.keyUsage(),
    ]);
  const [first, ...others] = contestants as [Contestant, ...Contestant[]];
  for (const one of others) {
    if (state(one) !== state(first)) throw new Error(`${first.title} ${state(first)}, ${one.title} ${state(one)}`);
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const value = (name: string, otherwise: number): number => {
    const at = process.argv.indexOf(name);
    return at < 0 ? otherwise : Number(process.argv[at + 1]);
  };
  const start = process.hrtime.bigint();
  const seed = value("--seed", Number(start % 0x7fff_0000n));
  const report = runDifferential(value("--packets", 1_000_000), seed, (packets) => process.stderr.write(`\r${packets} packets`));
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  console.log(`\nno difference: ${JSON.stringify({ seed, ...report, seconds: Math.round(seconds) })}`);
}
