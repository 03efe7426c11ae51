/**
 * The memory between a pool and one of its workers: a ring of slots that hold one packet each. The pool fills slots in order, the
 * worker protects or opens packets in place and in order, the pool takes the results out in order. So a packet is copied once on
 * its way, and between two counters lies exactly what a worker had not done yet when it died.
 */

/** What a worker does with a packet. */
export const RingOperation = { protect: 0, protectRtcp: 1, unprotect: 2, unprotectRtcp: 3 } as const;
export type RingOperationCode = (typeof RingOperation)[keyof typeof RingOperation];

/** Words at the start of the memory. */
const Word = {
  /** Slots filled, and slots done; both count on modulo 2^32. */
  submitted: 0,
  done: 1,
  /** Requests sent over the message port. */
  requests: 2,
  /** Changes with everything that the pool does: what a worker without work waits on. */
  activity: 3,
  /** 1 while the worker waits: only then has the pool to wake it. */
  isAsleep: 4,
  /** 1 from when the worker has called the pool until the pool looks: one call is enough for many packets. */
  isCalled: 5,
} as const;
const CONTROL_OCTETS = 64;

/** How often a worker without work looks again before it sleeps: some tens of microseconds. */
const AWAKE_TURNS = 4000;

/** Words that describe a slot. */
const SLOT_WORDS = 4;
const Field = { session: 0, operation: 1, length: 2, token: 3 } as const;

/** Size of a ring, and its memory: what a worker is given. */
export interface PacketRingLayout {
  readonly memory: SharedArrayBuffer;
  /** A power of two. */
  readonly slots: number;
  readonly slotOctets: number;
}

/** Memory for a ring. */
export function packetRingLayout(slots: number, slotOctets: number): PacketRingLayout {
  const memory = new SharedArrayBuffer(CONTROL_OCTETS + 4 * SLOT_WORDS * slots + slots * slotOctets);
  return { memory, slots, slotOctets };
}

/** A ring as both sides see it. Counters are numbers modulo 2^32; a slot is named by the counter at which it was filled. */
export class PacketRing {
  readonly slotOctets: number;
  readonly slots: number;
  readonly #mask: number;
  readonly #words: Int32Array;
  readonly #fields: Int32Array;
  readonly #slots: readonly Uint8Array[];

  constructor({ memory, slots, slotOctets }: PacketRingLayout) {
    this.slotOctets = slotOctets;
    this.slots = slots;
    this.#mask = slots - 1;
    this.#words = new Int32Array(memory, 0, CONTROL_OCTETS / 4);
    this.#fields = new Int32Array(memory, CONTROL_OCTETS, SLOT_WORDS * slots);
    const data = CONTROL_OCTETS + 4 * SLOT_WORDS * slots;
    this.#slots = Array.from({ length: slots }, (_, i) => new Uint8Array(memory, data + i * slotOctets, slotOctets));
  }

  get submitted(): number {
    return Atomics.load(this.#words, Word.submitted);
  }

  get done(): number {
    return Atomics.load(this.#words, Word.done);
  }

  get requests(): number {
    return Atomics.load(this.#words, Word.requests);
  }

  /** The whole slot. */
  slot(counter: number): Uint8Array {
    return this.#slots[counter & this.#mask] as Uint8Array;
  }

  session(counter: number): number {
    return this.#field(counter, Field.session);
  }

  operation(counter: number): RingOperationCode {
    return this.#field(counter, Field.operation) as RingOperationCode;
  }

  /** Octets of the packet, and once it is done what its operation returned. */
  length(counter: number): number {
    return this.#field(counter, Field.length);
  }

  token(counter: number): number {
    return this.#field(counter, Field.token);
  }

  /** Pool: free slots, everything before `consumed` being taken out. */
  room(consumed: number): number {
    return this.slots - ((this.submitted - consumed) | 0);
  }

  /** Pool: fills the next slot, which must be free, and wakes the worker. */
  submit(session: number, operation: RingOperationCode, packet: Uint8Array, token: number): void {
    const counter = this.submitted;
    const at = (counter & this.#mask) * SLOT_WORDS;
    this.#fields[at + Field.session] = session;
    this.#fields[at + Field.operation] = operation;
    this.#fields[at + Field.length] = packet.length;
    this.#fields[at + Field.token] = token;
    this.slot(counter).set(packet);
    Atomics.store(this.#words, Word.submitted, (counter + 1) | 0);
    this.#wake();
  }

  /** Pool: tells of a request on the message port. */
  announceRequest(): void {
    Atomics.add(this.#words, Word.requests, 1);
    this.#wake();
  }

  /** Pool: has been called, and looks now. */
  answerCall(): void {
    Atomics.store(this.#words, Word.isCalled, 0);
  }

  /** Pool: overwrites every packet. */
  wipe(): void {
    for (const slot of this.#slots) slot.fill(0);
  }

  /** Worker: the result of a packet in its slot. */
  setResult(counter: number, result: number): void {
    this.#fields[(counter & this.#mask) * SLOT_WORDS + Field.length] = result;
  }

  /** Worker: everything before `counter` is done. */
  publish(counter: number): void {
    Atomics.store(this.#words, Word.done, counter);
  }

  /** Worker: the pool is to look. @returns whether it has to be called, not having been called before */
  call(): boolean {
    return Atomics.exchange(this.#words, Word.isCalled, 1) === 0;
  }

  /** Worker: what to hand to `sleep`, read before looking for work. */
  get activity(): number {
    return Atomics.load(this.#words, Word.activity);
  }

  /** Worker: waits until the pool has done something since `activity`; first awake, as waking a thread costs more than several packets. */
  sleep(activity: number): void {
    for (let turn = 0; turn < AWAKE_TURNS; turn++) if (this.activity !== activity) return;
    Atomics.store(this.#words, Word.isAsleep, 1);
    Atomics.wait(this.#words, Word.activity, activity);
    Atomics.store(this.#words, Word.isAsleep, 0);
  }

  #field(counter: number, field: number): number {
    return this.#fields[(counter & this.#mask) * SLOT_WORDS + field] as number;
  }

  #wake(): void {
    Atomics.add(this.#words, Word.activity, 1);
    if (Atomics.load(this.#words, Word.isAsleep) === 1) Atomics.notify(this.#words, Word.activity);
  }
}
