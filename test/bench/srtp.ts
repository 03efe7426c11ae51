import { pathToFileURL } from "node:url";
import { RtpHeader, SrtpSession } from "werift-rtp";
import { nobleCrypto } from "../../src/crypto/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import { createSrtpReceiver, createSrtpSender, SUITES, type Suite, type SuiteName } from "../../src/srtp/index.js";

/** One measured line: the median over the rounds. */
export interface SrtpBenchRow {
  readonly suite: SuiteName;
  /** Octets of RTP payload. */
  readonly payload: number;
  readonly operation: "protect" | "unprotect";
  readonly implementation: string;
  readonly microseconds: number;
  readonly packetsPerSecond: number;
  /** Median over rounds of (time of werift-rtp / time of this) in the same round; undefined where werift-rtp has no such suite. */
  readonly ratioToWerift: number | undefined;
}

export interface SrtpBenchOptions {
  readonly suites?: readonly SuiteName[];
  readonly payloads?: readonly number[];
  readonly rounds?: number;
  /** Packets per round and implementation. */
  readonly packets?: number;
  readonly onRow?: (row: SrtpBenchRow) => void;
}

/** Makes the timed work of one round: fresh sessions, memory laid out beforehand as a caller with a packet pool has it. */
type Round = () => { protect(): void; unprotect(): void };

const WERIFT_PROFILES: Partial<Record<SuiteName, number>> = { AES_CM_128_HMAC_SHA1_80: 1, AEAD_AES_128_GCM: 7 };
const WERIFT = "werift-rtp";
/** Rounds that only warm the compiler. */
const WARM_UP = 2;

function master(suite: Suite): { key: Uint8Array; salt: Uint8Array } {
  return { key: new Uint8Array(suite.keyLength).fill(0x5a), salt: new Uint8Array(suite.saltLength).fill(0xa5) };
}

function plainPacket(sequence: number, payload: number): Uint8Array {
  const packet = new Uint8Array(12 + payload).fill(0x42, 12);
  packet.set([0x80, 0, (sequence >> 8) & 0xff, sequence & 0xff]);
  packet[11] = 1;
  return packet;
}

function ours(suite: Suite, payload: number, packets: number, crypto: typeof nodeCrypto): Round {
  const plain = Array.from({ length: packets }, (_, i) => plainPacket(i, payload));
  return () => {
    const options = { policy: { suite: suite.name }, keys: [master(suite)], crypto };
    const sender = createSrtpSender(options);
    const receiver = createSrtpReceiver(options);
    const wire = plain.map((packet) => new Uint8Array(packet.length + sender.rtpOverhead));
    const opened = new Uint8Array(12 + payload);
    return {
      protect() {
        for (let i = 0; i < packets; i++) sender.protect(plain[i] as Uint8Array, wire[i] as Uint8Array);
      },
      unprotect() {
        let failures = 0;
        for (let i = 0; i < packets; i++) if (receiver.unprotect(wire[i] as Uint8Array, opened) < 0) failures++;
        if (failures > 0) throw new Error(`${suite.name}: ${failures} packets did not open`);
      },
    };
  };
}

function werift(suite: Suite, profile: number, payload: number, packets: number): Round {
  const body = Buffer.alloc(payload, 0x42);
  const headers = Array.from(
    { length: packets },
    (_, i) => new RtpHeader({ version: 2, sequenceNumber: i, ssrc: 1, timestamp: 0 }),
  );
  return () => {
    const { key, salt } = master(suite);
    const [localMasterKey, localMasterSalt] = [Buffer.from(key), Buffer.from(salt)];
    const keys = { localMasterKey, localMasterSalt, remoteMasterKey: localMasterKey, remoteMasterSalt: localMasterSalt };
    const session = new SrtpSession({ keys, profile });
    const wire: Buffer[] = new Array(packets);
    return {
      protect() {
        for (let i = 0; i < packets; i++) wire[i] = session.encrypt(body, headers[i] as RtpHeader);
      },
      unprotect() {
        for (let i = 0; i < packets; i++) session.decrypt(wire[i] as Buffer);
      },
    };
  };
}

function timed(work: () => void): number {
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start) / 1000;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** Protects and opens packets, every implementation in every round, so that a ratio compares neighbours in time. */
export function benchSrtp(options: SrtpBenchOptions = {}): SrtpBenchRow[] {
  const { suites = Object.keys(SUITES) as SuiteName[], payloads = [160, 1200], rounds = 7, packets = 4000, onRow } = options;
  const rows: SrtpBenchRow[] = [];
  for (const name of suites) {
    const suite = SUITES[name];
    const profile = WERIFT_PROFILES[name];
    for (const payload of payloads) {
      const contenders: [string, Round][] = [
        ["node", ours(suite, payload, packets, nodeCrypto)],
        ["noble", ours(suite, payload, packets, nobleCrypto)],
      ];
      if (profile !== undefined) contenders.unshift([WERIFT, werift(suite, profile, payload, packets)]);
      const times = contenders.map(() => ({ protect: [] as number[], unprotect: [] as number[] }));
      for (let round = -WARM_UP; round < rounds; round++) {
        contenders.forEach(([, begin], i) => {
          const work = begin();
          const protect = timed(work.protect) / packets;
          const unprotect = timed(work.unprotect) / packets;
          if (round < 0) return;
          times[i]?.protect.push(protect);
          times[i]?.unprotect.push(unprotect);
        });
      }
      for (const operation of ["protect", "unprotect"] as const) {
        contenders.forEach(([implementation], i) => {
          const own = times[i]?.[operation] ?? [];
          const microseconds = median(own);
          const other = profile === undefined ? undefined : times[0]?.[operation];
          const ratioToWerift = other === undefined ? undefined : median(own.map((time, round) => (other[round] as number) / time));
          const row = {
            suite: name,
            payload,
            operation,
            implementation,
            microseconds,
            packetsPerSecond: 1e6 / microseconds,
            ratioToWerift,
          };
          rows.push(row);
          onRow?.(row);
        });
      }
    }
  }
  return rows;
}

function printRow(row: SrtpBenchRow): void {
  const { suite, payload, operation, implementation, microseconds, packetsPerSecond, ratioToWerift } = row;
  const ratio = ratioToWerift === undefined ? "" : `${ratioToWerift.toFixed(2)} x ${WERIFT}`;
  const cells = [suite.padEnd(24), `${payload}`.padStart(5), operation.padEnd(9), implementation.padEnd(10)];
  console.log(
    `${cells.join(" ")} ${microseconds.toFixed(2).padStart(7)} µs ${(packetsPerSecond / 1000).toFixed(0).padStart(6)} k/s  ${ratio}`,
  );
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) benchSrtp({ onRow: printRow });
