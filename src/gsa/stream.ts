import { formatHex, WatchwordError, wipe } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import { type CryptoSession, type Csb, type CsbMasterKey, samePolicy, srtpMasterKeys, wipeCsb } from "../mikey/index.js";
import {
  createSrtpReceiver,
  createSrtpSender,
  createUndecidedSrtpReceiver,
  type SrtpPolicy,
  type SrtpReceiver,
  type SrtpReceiverOptions,
  type SrtpSender,
} from "../srtp/index.js";
import type { ExportedDirection, KeyedStream } from "./contracts.js";
import type { KeyingContext, KeyLifetime } from "./media-keying.js";
import type { SharedSender } from "./shared-sender.js";

/** The crypto session that protects one direction of one m= line. */
export interface Direction {
  readonly csb: Csb;
  readonly csId: number;
}

/** Both directions of one m= line, as this party sees them; absent where no key was agreed. */
export interface StreamDirections {
  readonly outbound?: Direction;
  readonly inbound?: Direction;
}

/**
 * Crypto sessions of one exchange to m= lines: two consecutive ones per line (RFC 4567 §7.1), the odd for what the Initiator
 * sends, the even for what the Responder sends. A message with a single session keys only the Initiator's direction.
 * @throws WatchwordError `gsa.streams` where a line has none
 */
export function directionsOf(csb: Csb, streamCount: number): StreamDirections[] {
  return Array.from({ length: streamCount }, (_, index) => {
    const session = (csId: number): Direction | undefined =>
      csb.cryptoSessions.some((candidate) => candidate.csId === csId) ? { csb, csId } : undefined;
    const fromInitiator = session(2 * index + 1);
    const fromResponder = session(2 * index + 2);
    if (fromInitiator === undefined) {
      wipeCsb(csb);
      throw new WatchwordError("gsa.streams", `the key message has no crypto session for m= line ${index + 1}`);
    }
    const [outbound, inbound] = csb.role === "initiator" ? [fromInitiator, fromResponder] : [fromResponder, fromInitiator];
    return { ...(outbound === undefined ? {} : { outbound }), ...(inbound === undefined ? {} : { inbound }) };
  });
}

export function sessionOf({ csb, csId }: Direction): CryptoSession {
  const session = csb.cryptoSessions.find((candidate) => candidate.csId === csId);
  if (session === undefined) throw new WatchwordError("gsa.streams", `there is no crypto session ${csId}`);
  return session;
}

export function policyOf(csb: Csb, csId: number): SrtpPolicy {
  const { policyNo } = sessionOf({ csb, csId });
  const policy = policyNo === undefined ? undefined : csb.policies.get(policyNo);
  if (policy === undefined) throw new WatchwordError("gsa.streams", `crypto session ${csId} has no policy`);
  return policy;
}

/** Copies of the master keys of a direction, for who asked to have them. */
export function exportDirection(crypto: CryptoProvider, direction: Direction): ExportedDirection {
  const { ssrc, roc } = sessionOf(direction);
  const keys = srtpMasterKeys(crypto, direction.csb, direction.csId);
  return { policy: policyOf(direction.csb, direction.csId), keys, ssrc, rolloverCounter: roc };
}

/**
 * The senders of one offer that several parties may answer (a forked INVITE). Where the answers bring no key of their own, all branches
 * send under one key, and only one sender can see to it that no packet index is used twice (RFC 3711 §9.1).
 */
export interface SenderPool {
  acquire(csId: number, keys: readonly CsbMasterKey[], create: () => SrtpSender): SrtpSender;
  /** Closes the sender once no branch has it. */
  release(sender: SrtpSender): void;
  isShared(sender: SrtpSender): boolean;
}

export function createSenderPool(crypto: CryptoProvider): SenderPool {
  const entries = new Map<string, { readonly sender: SrtpSender; users: number }>();
  const entryOf = (sender: SrtpSender) => [...entries].find(([, entry]) => entry.sender === sender);
  return {
    acquire(csId, keys, create) {
      const secret = crypto.hash("sha256", ...keys.flatMap(({ key, salt }) => [key, salt]));
      const name = `${csId} ${formatHex(secret)}`;
      const entry = entries.get(name) ?? { sender: create(), users: 0 };
      entry.users++;
      entries.set(name, entry);
      return entry.sender;
    },
    release(sender) {
      const found = entryOf(sender);
      if (found === undefined || --found[1].users > 0) return;
      entries.delete(found[0]);
      sender.close();
    },
    isShared: (sender) => (entryOf(sender)?.[1].users ?? 0) > 1,
  };
}

/** A key of our making may protect fewer packets than SRTP allows; the peer's lifetimes are the peer's. */
function limited(key: CsbMasterKey, role: Csb["role"], lifetime: KeyLifetime | undefined): CsbMasterKey {
  if (role !== "initiator" || lifetime === undefined) return key;
  const { rtp, rtcp } = lifetime;
  return {
    ...key,
    ...(rtp === undefined ? {} : { rtpLifetime: Math.min(rtp, key.rtpLifetime ?? rtp) }),
    ...(rtcp === undefined ? {} : { rtcpLifetime: rtcp }),
  };
}

/** What the m= lines of one exchange have in common. */
export interface StreamContext {
  readonly keying: KeyingContext;
  readonly pool: SenderPool | undefined;
  /** The sender of a stream that other receivers hear too: its keys are changed for all of them at once. */
  readonly shared: SharedSender | undefined;
  readonly onMissingMki: () => void;
}

/** The SRTP sessions of one m= line, made from whichever directions have keys. */
export class Stream implements KeyedStream {
  readonly policy: SrtpPolicy;
  sender: SrtpSender | undefined;
  receiver: SrtpReceiver | undefined;
  readonly #context: StreamContext;
  /** Hexadecimal SPIs of keys that were asked for, and that an update may still bring. */
  readonly #fetched = new Set<string>();

  constructor(context: StreamContext, policy: SrtpPolicy) {
    this.#context = context;
    this.policy = policy;
  }

  get senderIsShared(): boolean {
    return this.sender !== undefined && this.#context.pool?.isShared(this.sender) === true;
  }

  /**
   * Sends under the keys of this direction from now on.
   * @param later the keys are made ready, and used once `use` says so
   */
  send(direction: Direction, later = false): void {
    const { csb, csId } = direction;
    const { keying, pool, shared } = this.#context;
    if (shared !== undefined) {
      this.sender = shared.sender;
      return;
    }
    const { crypto, options } = keying;
    const session = sessionOf(direction);
    const derived = srtpMasterKeys(crypto, csb, csId);
    const keys = derived.map((key) => limited(key, csb.role, options.keyLifetime));
    try {
      if (this.sender !== undefined) {
        for (const key of keys) this.sender.addKey(key);
        if (!later) this.sender.useKey(keys[0]?.mki);
        return;
      }
      const create = (): SrtpSender => createSrtpSender({ policy: policyOf(csb, csId), keys, crypto });
      this.sender = pool === undefined ? create() : pool.acquire(csId, keys, create);
      if (session.ssrc !== 0 && session.roc !== 0 && this.sender.rolloverCounter(session.ssrc) === undefined) {
        this.sender.setRolloverCounter(session.ssrc, session.roc);
      }
    } finally {
      wipeMasterKeys(derived);
    }
  }

  /** Sends under a key that is there from now on. */
  use(mki: Uint8Array): void {
    if (this.#context.shared === undefined) this.sender?.useKey(mki);
  }

  /** Opens packets under the keys of this direction too. */
  receive(direction: Direction): void {
    const { csb, csId } = direction;
    const { keying, onMissingMki } = this.#context;
    const { crypto, options } = keying;
    const session = sessionOf(direction);
    const keys = srtpMasterKeys(crypto, csb, csId);
    try {
      if (this.receiver !== undefined) {
        for (const key of keys) if (!this.#fetched.delete(formatHex(key.mki ?? NO_SPI))) this.receiver.addKey(key);
        return;
      }
      const receiverOptions: SrtpReceiverOptions = {
        policy: policyOf(csb, csId),
        keys,
        crypto,
        // The SSRC of the map may be 0 or unrelated, so its ROC holds for whichever SSRC comes; and it may have moved on.
        initialRolloverCounter: session.roc,
        searchRolloverCounter: session.roc !== 0,
      };
      const doubtful = keys[0]?.mki !== undefined && options.dialect.srtpTolerances?.includes("mki-missing-in-packets") === true;
      this.receiver = doubtful ? createUndecidedSrtpReceiver(receiverOptions, onMissingMki) : createSrtpReceiver(receiverOptions);
    } finally {
      wipeMasterKeys(keys);
    }
  }

  /**
   * Takes from a message that repeats what a shared stream is under now a key that is not there, and the rollover counter of a sender
   * that was not heard yet.
   */
  catchUp({ csb, csId }: Direction): void {
    const { receiver } = this;
    const session = csb.cryptoSessions.find((candidate) => candidate.csId === csId);
    if (receiver === undefined || session === undefined || !samePolicy(policyOf(csb, csId), this.policy)) return;
    const keys = srtpMasterKeys(this.#context.keying.crypto, csb, csId);
    for (const key of keys) {
      // A key that is there opens packets already, or waits for the old one to go.
      if (receiver.keyUsage(key.mki) !== undefined) continue;
      receiver.addKey(key);
      this.#fetched.add(formatHex(key.mki ?? NO_SPI));
    }
    wipeMasterKeys(keys);
    // Who has heard the stream knows its counter better than a message that was on the way (RFC 3711 §3.3.1).
    if (session.ssrc !== 0 && receiver.highestSequence(session.ssrc) === undefined) {
      receiver.setRolloverCounter(session.ssrc, session.roc);
    }
  }

  /** Forgets a key whose overlap is over, in the directions that it protected. */
  forget(mki: Uint8Array, { outbound, inbound }: StreamDirections): void {
    if (inbound !== undefined) this.receiver?.removeKey(mki);
    if (outbound !== undefined && this.#context.shared === undefined) this.sender?.removeKey(mki);
  }

  close(): void {
    this.receiver?.close();
    if (this.sender === undefined || this.#context.shared !== undefined) return;
    if (this.#context.pool === undefined) this.sender.close();
    else this.#context.pool.release(this.sender);
  }
}

const NO_SPI = new Uint8Array(0);

export function wipeMasterKeys(keys: readonly CsbMasterKey[]): void {
  for (const { key, salt } of keys) wipe(key, salt);
}
