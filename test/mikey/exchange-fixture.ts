import { utf8, WatchwordError } from "../../src/bytes/index.js";
import type { CryptoProvider } from "../../src/crypto/index.js";
import {
  type BeginRequest,
  createInitiator,
  createReplayCache,
  createResponder,
  createTimestampSource,
  type Identity,
  IdType,
  type Initiator,
  MikeyError,
  type ReceiveContext,
  type Received,
  type Responder,
  type ResponderOptions,
} from "../../src/mikey/index.js";
import { nodeCrypto } from "../../src/node/crypto.js";
import type { SrtpPolicy, SuiteName } from "../../src/srtp/index.js";

export const PSK = utf8("a pre-shared key");
export const ALICE: Identity = { idType: IdType.URI, data: utf8("sip:alice@example.org") };
export const BOB: Identity = { idType: IdType.NAI, data: utf8("bob@example.org") };
/** 2030-01-01T00:00:00Z. */
export const NOW = 1_893_456_000_000;

export interface Pair {
  readonly clock: { time: number; now(): number };
  readonly initiator: Initiator;
  readonly responder: Responder;
}

/** Two parties with one clock and one key. */
export function pair(options: Partial<ResponderOptions> = {}, crypto: CryptoProvider = nodeCrypto): Pair {
  const clock = { time: NOW, now: () => clock.time };
  return {
    clock,
    initiator: createInitiator({ crypto, clock, timestamps: createTimestampSource(clock) }),
    responder: createResponder({
      crypto,
      clock,
      replayCache: createReplayCache(),
      identity: BOB,
      tolerances: ["concatenated-key-and-salt"],
      findCredential: (id) => (id?.data.join() === ALICE.data.join() ? { psk: PSK } : undefined),
      ...options,
    }),
  };
}

export function policies(suite: SuiteName = "AES_CM_128_HMAC_SHA1_80"): ReadonlyMap<number, SrtpPolicy> {
  return new Map([[0, { suite }]]);
}

/** One stream from Alice, one from Bob, one TGK. */
export function request(changes: Partial<BeginRequest> = {}): BeginRequest {
  return {
    credential: { psk: PSK },
    initiatorId: ALICE,
    responderId: BOB,
    cryptoSessions: [{ ssrc: 0xcafebabe }, {}],
    policies: policies(),
    keys: [{ kind: "TGK", spi: Uint8Array.of(0, 0, 0, 1) }],
    ...changes,
  };
}

/** A result that made or changed a CSB. */
export async function accepted(received: Promise<Received>): Promise<Exclude<Received, { kind: "repeated" }>> {
  const result = await received;
  if (result.kind === "repeated") throw new Error("the message was taken for a repetition");
  return result;
}

/** The error that a message is refused with. */
export async function refusal(responder: Responder, octets: Uint8Array, context: ReceiveContext = {}): Promise<MikeyError> {
  try {
    await responder.receive(octets, context);
  } catch (error) {
    if (error instanceof MikeyError) return error;
    throw error;
  }
  throw new Error("the message was accepted");
}

/** The code of whatever a call throws. */
export async function codeOf(call: () => unknown): Promise<string | undefined> {
  try {
    await call();
  } catch (error) {
    return (error as { code?: string }).code;
  }
  return undefined;
}

/** The typed error of a refusal, whatever its kind. */
export async function refusalOf(call: () => unknown): Promise<WatchwordError> {
  try {
    await call();
  } catch (error) {
    if (error instanceof WatchwordError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}
