/** The thread of a pool (srtp-pool.ts): sessions live here, their packets come and go through a ring of shared memory. */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { WatchwordError, wipe } from "../bytes/index.js";
import {
  createSrtpReceiver,
  createSrtpSender,
  SrtpFailure,
  type SrtpMasterKey,
  type SrtpReceiver,
  type SrtpSender,
  srtpError,
} from "../srtp/index.js";
import { nodeCrypto } from "./crypto.js";
import { PacketRing, type PacketRingLayout, RingOperation, type RingOperationCode } from "./packet-ring.js";
import type { PoolAnswer, PoolRequest } from "./srtp-pool.js";

/** Packets of one session that are handed over together. */
const MAX_BATCH = 32;

const port = parentPort as MessagePort;
const ring = new PacketRing(workerData as PacketRingLayout);
const senders = new Map<number, SrtpSender>();
const receivers = new Map<number, SrtpReceiver>();

/** Requests that came, in order; each takes effect when `done` has reached its place among the packets. */
const waiting: PoolRequest[] = [];
let [taken, done, open] = [0, 0, true];
/** What was done when the pool was called last: it is called when a quarter of the ring is done, or nothing is left to do. */
let called = 0;
const [inputs, outputs, lengths]: [Uint8Array[], Uint8Array[], Int32Array] = [[], [], new Int32Array(MAX_BATCH)];

while (open) {
  const { activity, submitted } = ring;
  // Requests that belong before a packet were announced before the packet was submitted.
  takeRequests();
  const request = waiting[0];
  if (request !== undefined && request.at === done) {
    waiting.shift();
    answer(request);
  } else if (done !== submitted) {
    const limit = request === undefined ? submitted : nearer(request.at, submitted);
    work(limit);
    ring.publish(done);
    if (((done - called) | 0) >= ring.slots >> 2) callPool();
  } else if (done !== called) {
    callPool();
  } else {
    ring.sleep(activity);
  }
}
port.close();

function callPool(): void {
  called = done;
  if (ring.call()) port.postMessage(undefined);
}

/** Whichever of two counters comes first after `done`. */
function nearer(a: number, b: number): number {
  return ((a - done) | 0) < ((b - done) | 0) ? a : b;
}

function takeRequests(): void {
  const { requests } = ring;
  while (taken !== requests) {
    waiting.push((receiveMessageOnPort(port) as { message: PoolRequest }).message);
    taken = (taken + 1) | 0;
  }
}

/** Protects or opens the next packets, at most up to `limit`, that are of one session and kind. */
function work(limit: number): void {
  const [session, operation] = [ring.session(done), ring.operation(done)];
  let count = 0;
  for (let at = done; at !== limit && count < MAX_BATCH; at = (at + 1) | 0) {
    if (ring.session(at) !== session || ring.operation(at) !== operation) break;
    const slot = ring.slot(at);
    inputs[count] = slot.subarray(0, ring.length(at));
    outputs[count] = slot;
    count++;
  }
  inputs.length = count;
  outputs.length = count;
  run(session, operation);
  for (let i = 0; i < count; i++) ring.setResult((done + i) | 0, lengths[i] as number);
  done = (done + count) | 0;
}

/** Runs one kind of operation over `inputs`. The pool has seen to it that the session is there. */
function run(session: number, operation: RingOperationCode): void {
  if (operation === RingOperation.protect) {
    senders.get(session)?.protectBatch(inputs, outputs, lengths);
  } else if (operation === RingOperation.unprotect) {
    receivers.get(session)?.unprotectBatch(inputs, outputs, lengths);
  } else if (operation === RingOperation.unprotectRtcp) {
    const receiver = receivers.get(session) as SrtpReceiver;
    inputs.forEach((packet, i) => {
      lengths[i] = receiver.unprotectRtcp(packet, outputs[i] as Uint8Array);
    });
  } else {
    const sender = senders.get(session) as SrtpSender;
    inputs.forEach((packet, i) => {
      lengths[i] = protectRtcp(sender, packet, outputs[i] as Uint8Array);
    });
  }
}

function protectRtcp(sender: SrtpSender, packet: Uint8Array, out: Uint8Array): number {
  try {
    return sender.protectRtcp(packet, out);
  } catch (error) {
    const failure = Object.values(SrtpFailure).find((code) => srtpError(code).code === (error as WatchwordError).code);
    if (failure === undefined) throw error;
    return failure;
  }
}

function answer(request: PoolRequest): void {
  let reply: PoolAnswer;
  try {
    reply = { id: request.id, value: perform(request) };
  } catch (error) {
    if (!(error instanceof WatchwordError)) throw error;
    reply = { id: request.id, error: { code: error.code, message: error.message } };
  }
  port.postMessage(reply);
}

function perform(request: PoolRequest): unknown {
  switch (request.kind) {
    case "sender":
      senders.set(
        request.session,
        withKeys(request.options.keys, () => createSrtpSender({ ...request.options, crypto: nodeCrypto })),
      );
      return undefined;
    case "receiver":
      receivers.set(
        request.session,
        withKeys(request.options.keys, () => createSrtpReceiver({ ...request.options, crypto: nodeCrypto })),
      );
      return undefined;
    case "add-key":
      return withKeys([request.key], () => sessionOf(request.session).addKey(request.key));
    case "remove-key":
      return sessionOf(request.session).removeKey(request.mki);
    case "use-key":
      return senders.get(request.session)?.useKey(request.mki);
    case "set-rollover-counter":
      return sessionOf(request.session).setRolloverCounter(request.ssrc, request.rolloverCounter, request.sequence);
    case "rollover-counter":
      return sessionOf(request.session).rolloverCounter(request.ssrc);
    case "statistics": {
      const { statistics, rtcpStatistics } = receivers.get(request.session) as SrtpReceiver;
      return { rtp: { ...statistics }, rtcp: { ...rtcpStatistics } };
    }
    case "close":
      return closeSession(request.session);
    case "end":
      for (const session of [...senders.keys(), ...receivers.keys()]) closeSession(session);
      open = false;
      return undefined;
  }
}

function sessionOf(session: number): SrtpSender | SrtpReceiver {
  return (senders.get(session) ?? receivers.get(session)) as SrtpSender | SrtpReceiver;
}

/** The key octets of a request are this thread's alone: sessions copy them, and they are overwritten. */
function withKeys<T>(keys: readonly SrtpMasterKey[], use: () => T): T {
  try {
    return use();
  } finally {
    for (const { key, salt } of keys) wipe(key, salt);
  }
}

function closeSession(session: number): void {
  sessionOf(session).close();
  senders.delete(session);
  receivers.delete(session);
}
