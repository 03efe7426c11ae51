import type { Timer, Timers } from "../../io/index.js";
import { type SipMessage, topVia, viaParameter } from "./message.js";

/** RFC 3261 §17.1.1.1, table 4; milliseconds. */
export interface TransactionTimes {
  /** Estimate of the round-trip time. Default 500. */
  readonly t1?: number;
  /** Longest interval between repetitions of a request other than INVITE, and of a response to INVITE. Default 4000. */
  readonly t2?: number;
  /** Longest time that a message stays in the network. Default 5000. */
  readonly t4?: number;
}

export interface RetransmissionOptions extends TransactionTimes {
  readonly timers: Timers;
  /** Most transactions that are remembered; beyond them the oldest is forgotten. Default 4096. */
  readonly maxTransactions?: number;
}

/**
 * The part of RFC 3261 §17 that an unreliable transport needs and sip.js leaves out: timers A, E and G repeat what may have been
 * lost, timers D, I, J and K remember what may be repeated by the other side. sip.js above keeps the transactions' state and their
 * time limits (B, F, H), the dialogs repeat 2xx (§13.3.1.4) and their ACK.
 */
export interface Retransmission {
  /** A request or response went out; `send` sends the same octets the same way again. */
  sent(message: SipMessage, send: () => void): void;
  /** A message came in. False: it is a repetition, has been dealt with, and goes no further. */
  received(message: SipMessage): boolean;
  /** Transactions that are remembered. */
  readonly size: number;
  /** Repetitions sent so far. */
  readonly repetitions: number;
  close(): void;
}

type State =
  /** The request, or a final response to an INVITE, is repeated until it is answered. */
  | "repeating"
  /** Only the end is waited for. */
  | "waiting"
  /** Whatever comes is answered by the last message, or, where there is none, absorbed. */
  | "completed";

interface Transaction {
  state: State;
  send: (() => void) | undefined;
  interval: number;
  repeat: Timer | undefined;
  end: Timer | undefined;
}

export function createRetransmission(options: RetransmissionOptions): Retransmission {
  return new Repeater(options);
}

class Repeater implements Retransmission {
  repetitions = 0;
  readonly #timers: Timers;
  readonly #t1: number;
  readonly #t2: number;
  readonly #t4: number;
  readonly #maxTransactions: number;
  readonly #transactions = new Map<string, Transaction>();

  constructor({ timers, t1 = 500, t2 = 4000, t4 = 5000, maxTransactions = 4096 }: RetransmissionOptions) {
    this.#timers = timers;
    this.#t1 = t1;
    this.#t2 = t2;
    this.#t4 = t4;
    this.#maxTransactions = maxTransactions;
  }

  get size(): number {
    return this.#transactions.size;
  }

  sent(message: SipMessage, send: () => void): void {
    if (message.kind === "request") this.#sentRequest(message.method, clientKey(message), send);
    else this.#sentResponse(message.method, message.status, serverKey(message), send);
  }

  received(message: SipMessage): boolean {
    if (message.kind === "response") return this.#receivedResponse(message.method, message.status, clientKey(message));
    return this.#receivedRequest(message.method, serverKey(message));
  }

  close(): void {
    for (const transaction of this.#transactions.values()) cancel(transaction);
    this.#transactions.clear();
  }

  #sentRequest(method: string, key: string, send: () => void): void {
    if (method === "ACK") {
      // §17.1.1.2: the ACK to a final response other than 2xx has the branch of its INVITE, and is sent again for each repetition
      // of the response while timer D runs. An ACK to a 2xx has a branch of its own and is the dialog's to repeat.
      const invite = this.#transactions.get(key);
      if (invite?.state === "completed") invite.send = send;
      return;
    }
    // §17.1.1.2 timer A doubles without bound, §17.1.2.2 timer E up to T2; both for as long as timer B or F runs.
    const transaction = this.#begin(key, "repeating", send, 64 * this.#t1);
    this.#schedule(key, transaction, method === "INVITE" ? Number.POSITIVE_INFINITY : this.#t2);
  }

  #receivedResponse(method: string, status: number, key: string): boolean {
    const transaction = this.#transactions.get(key);
    if (status < 200) {
      // §17.1.1.2: a provisional response ends the repetitions of an INVITE; §17.1.2.2: those of others go on, every T2.
      if (method === "INVITE") this.#forget(key);
      else if (transaction !== undefined) transaction.interval = this.#t2;
      return true;
    }
    if (method !== "INVITE" || status < 300) {
      this.#forget(key);
      return true;
    }
    // §17.1.1.2: timer D. The ACK comes from above; repetitions of the response end here.
    if (transaction?.state === "completed") {
      this.#again(transaction);
      return false;
    }
    this.#begin(key, "completed", undefined, 64 * this.#t1);
    return true;
  }

  #sentResponse(method: string, status: number, key: string, send: () => void): void {
    if (status < 200) return;
    if (method !== "INVITE") {
      // §17.2.2: timer J.
      this.#begin(key, "completed", send, 64 * this.#t1);
      return;
    }
    if (status < 300) return;
    // §17.2.1: timer G, until the ACK comes or timer H fires.
    const transaction = this.#begin(key, "repeating", send, 64 * this.#t1);
    this.#schedule(key, transaction, this.#t2);
  }

  #receivedRequest(method: string, key: string): boolean {
    const transaction = this.#transactions.get(key);
    if (transaction === undefined) return true;
    if (method === "ACK") {
      if (transaction.state !== "repeating") return false;
      // §17.2.1: confirmed; timer I absorbs further ACKs, and INVITEs that were delayed.
      this.#begin(key, "waiting", undefined, this.#t4);
      return true;
    }
    this.#again(transaction);
    return false;
  }

  #begin(key: string, state: State, send: (() => void) | undefined, duration: number): Transaction {
    this.#forget(key);
    const [oldest] = this.#transactions.keys();
    if (oldest !== undefined && this.#transactions.size >= this.#maxTransactions) this.#forget(oldest);
    const transaction: Transaction = { state, send, interval: this.#t1, repeat: undefined, end: undefined };
    transaction.end = this.#timers.after(duration, () => this.#forget(key));
    this.#transactions.set(key, transaction);
    return transaction;
  }

  #schedule(key: string, transaction: Transaction, longest: number): void {
    transaction.repeat = this.#timers.after(transaction.interval, () => {
      transaction.interval = Math.min(2 * transaction.interval, longest);
      this.#again(transaction);
      this.#schedule(key, transaction, longest);
    });
  }

  #again(transaction: Transaction): void {
    if (transaction.send === undefined) return;
    this.repetitions++;
    transaction.send();
  }

  #forget(key: string): void {
    const transaction = this.#transactions.get(key);
    if (transaction === undefined) return;
    cancel(transaction);
    this.#transactions.delete(key);
  }
}

function cancel(transaction: Transaction): void {
  transaction.repeat?.cancel();
  transaction.end?.cancel();
}

/** §17.1.3: the branch and the method; an ACK belongs to its INVITE. */
function clientKey(message: SipMessage): string {
  return `client ${viaParameter(topVia(message), "branch") ?? ""} ${transactionMethod(message)}`;
}

/** §17.2.3: the branch, the sent-by value and the method; an ACK belongs to its INVITE. */
function serverKey(message: SipMessage): string {
  const via = topVia(message);
  return `server ${viaParameter(via, "branch") ?? ""} ${via.host.toLowerCase()}:${via.port ?? ""} ${transactionMethod(message)}`;
}

function transactionMethod({ method }: SipMessage): string {
  return method === "ACK" ? "INVITE" : method;
}
