/** Rounds of load and kill -9 upon a key server in a process of its own; members and the witness live on in this one. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { utf8, WatchwordError } from "../../../src/bytes/index.js";
import { defaultCrypto } from "../../../src/crypto/index.js";
import { createGroupMember, type GroupMember, type MemberCarrier } from "../../../src/member/index.js";
import { peerErrorOf } from "../../../src/mikey/index.js";
import { systemClock, systemTimers } from "../../../src/node/index.js";
import { definition, GCKS, PSK, rtp, uri } from "../../group/rig.js";
import type { Answer, Call, Results, Sent } from "./calls.js";
import { Witness } from "./witness.js";

export interface CrashOptions {
  readonly rounds: number;
  /** Members of a group beyond which more leave than join. */
  readonly members: number;
  /** Operations under way at a time. */
  readonly atOnce: number;
  /** Operations after which the key server is killed, at least (default 1) and at most: how many it is says chance. */
  readonly least?: number;
  readonly operations: number;
  /** After a third of the rounds a backup of the store is made, after two thirds it is restored. */
  readonly restores?: boolean;
  /** The key server keeps nothing: what the witness says then has to be bad. */
  readonly forgetful?: boolean;
  readonly say?: (line: string) => void;
}

export interface CrashResult {
  readonly failures: readonly string[];
  readonly counts: Witness["counts"];
  /** Starts that were killed before they were complete. */
  readonly killedStarts: number;
  readonly kills: number;
  /** Packets that members sent after restarts, and of those who heard them. */
  readonly spoken: number;
  readonly heard: number;
  /** I_MESSAGEs of before that were refused after restarts. */
  readonly replaysRefused: number;
  readonly seconds: number;
}

const PROGRAM = new URL("./server.js", import.meta.url);
const START_MS = 30_000;
const FOLLOW_MS = 20_000;
const ACTIVATION_MS = 50;
/** Messages that are sent again after a restart, and expelled who try to join again. */
const REPLAYS = 8;
const EXPELLED = 2;
const TIMES = {
  activationDelay: ACTIVATION_MS / 1000,
  deactivationDelay: 2,
  retransmissions: 2,
  retransmissionInterval: 0.02,
  resynchronisationDelay: 0.1,
  heartbeat: 1,
};
/** One group is told by multicast and rekeyed at once, the other in the dialogs of its members and in batches. */
const GROUPS = [
  definition({ name: "blue", confirmationTime: 600 }, TIMES),
  definition(
    { name: "red", confirmationTime: 600, rekeyOnJoin: "batched", rekeyOnLeave: "batched", batchInterval: 0.05 },
    { ...TIMES, algorithm: "lkh", degree: 3, address: undefined },
  ),
];

/** Runs the rounds. What is wrong stands in `failures`; @throws where a process cannot be started, or a call gets no answer. */
export async function crashRounds(options: CrashOptions): Promise<CrashResult> {
  const folder = mkdtempSync(join(tmpdir(), "watchword-crash-"));
  const began = performance.now();
  const { pkcs8: signingKey } = await defaultCrypto.generateKeyPair("ed25519");
  const rounds = new Rounds(options, folder, signingKey);
  try {
    for (let round = 1; round <= options.rounds; round++) {
      await rounds.play(round);
      if (options.restores !== true) continue;
      if (round === Math.ceil(options.rounds / 3)) rounds.backUp();
      if (round === Math.ceil((2 * options.rounds) / 3)) rounds.restore();
    }
    await rounds.restart();
    return { ...rounds.result(), seconds: (performance.now() - began) / 1000 };
  } finally {
    await rounds.close();
    rmSync(folder, { recursive: true });
  }
}

/** The store: SQLite has a log beside the file. */
const FILES = ["store.db", "store.db-wal"];

/** One process, from its start to its death. */
class Life {
  readonly #child: ChildProcess;
  readonly #calls = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  readonly #over: Promise<unknown>;
  #ids = 0;
  dead = false;
  onMessage: ((message: Sent) => void) | undefined;

  constructor() {
    this.#child = fork(PROGRAM, [], { execArgv: [], serialization: "advanced", stdio: ["ignore", "ignore", "pipe", "ipc"] });
    let complaint = "";
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      complaint += text;
    });
    this.#child.on("message", (message: Answer | Sent) => this.#take(message));
    // What was sent before the end is read before the channel is closed.
    this.#over = Promise.all([once(this.#child, "exit"), once(this.#child, "disconnect")]).then(() => {
      this.dead = true;
      for (const { reject } of this.#calls.values()) reject(new Error(`the key server is gone ${complaint}`));
      this.#calls.clear();
    });
  }

  call<C extends Call>(call: C): Promise<Results[C["op"]]> {
    if (this.dead) return Promise.reject(new Error("the key server is gone"));
    const id = this.#ids++;
    return new Promise<unknown>((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.#child.send({ id, call }, () => undefined);
    }) as Promise<Results[C["op"]]>;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#over;
  }

  #take(message: Answer | Sent): void {
    if (message.kind !== "result" && message.kind !== "refused") {
      this.onMessage?.(message);
      return;
    }
    const call = this.#calls.get(message.id);
    this.#calls.delete(message.id);
    if (message.kind === "result") call?.resolve(message.value);
    else call?.reject((message.reply && peerErrorOf(message.reply)) ?? new WatchwordError(message.code, message.text));
  }
}

/** A member, with what it has heard. */
interface Participant {
  readonly identity: string;
  readonly group: string;
  readonly member: GroupMember;
  readonly carrier: Carrier;
  readonly heard: Set<number>;
  /** In the middle of leaving or of being expelled. */
  busy: boolean;
}

/** A dialog with the key server of now. It ends with the process; some members learn of that at once, others when they use it. */
class Carrier implements MemberCarrier {
  readonly secure = false;
  onMessage: MemberCarrier["onMessage"] = undefined;
  onLost: MemberCarrier["onLost"] = undefined;
  scope: string | undefined;
  readonly #rounds: Rounds;
  readonly #identity: string;
  readonly #group: string;
  #life: Life | undefined;

  constructor(rounds: Rounds, group: string, identity: string) {
    this.#rounds = rounds;
    this.#group = group;
    this.#identity = identity;
  }

  get open(): boolean {
    return this.#life !== undefined && !this.#life.dead && this.scope !== undefined;
  }

  async register(iMessage: Uint8Array): Promise<Uint8Array> {
    await this.#rounds.judged;
    const { life, witness } = this.#rounds;
    const scope = this.#rounds.newScope(this);
    witness.asks(this.#group, this.#identity);
    const response = await life.call({ op: "register", scope, iMessage: iMessage.slice() });
    this.#life = life;
    this.scope = scope;
    this.#rounds.answered(this, iMessage);
    return response;
  }

  async send(message: Uint8Array): Promise<Uint8Array | undefined> {
    const ssrc = this.#rounds.participant(this)?.member.memberships[0]?.streams[0]?.ssrc;
    const answer = await this.#session().life.call({ op: "receive", scope: this.scope ?? "", message: message.slice() });
    this.#rounds.witness.reported(this.#group, this.#identity, ssrc);
    return answer;
  }

  async end(proof: Uint8Array | undefined): Promise<Uint8Array | undefined> {
    return (await this.#session().life.call({ op: "end", scope: this.scope ?? "", proof: proof?.slice() })).acknowledgement;
  }

  close(): void {
    this.#life = undefined;
  }

  #session(): { life: Life } {
    if (this.#life === undefined || this.#life.dead) {
      queueMicrotask(() => this.onLost?.());
      throw new WatchwordError("member.carrier", "the dialog is unknown");
    }
    return { life: this.#life };
  }
}

class Rounds {
  readonly witness = new Witness();
  life!: Life;
  /** Nobody asks for anything before a new process was compared with what the witness knows. */
  judged: Promise<void> = Promise.resolve();
  readonly #options: CrashOptions;
  readonly #folder: string;
  readonly #signingKey: Uint8Array;
  readonly #participants = new Set<Participant>();
  readonly #carriers = new Map<string, Carrier>();
  readonly #expelled: { group: string; identity: string }[] = [];
  readonly #accepted: Uint8Array[] = [];
  #restored = false;
  #told = 0;
  #count = 0;
  #operations = 0;
  #numbers = 0;
  readonly #failures: string[] = [];
  readonly #sums = { killedStarts: 0, kills: 0, spoken: 0, heard: 0, replaysRefused: 0 };

  constructor(options: CrashOptions, folder: string, signingKey: Uint8Array) {
    this.#options = options;
    this.#folder = folder;
    this.#signingKey = signingKey;
  }

  result(): Omit<CrashResult, "seconds"> {
    return { failures: [...this.witness.failures, ...this.#failures], counts: this.witness.counts, ...this.#sums };
  }

  newScope(carrier: Carrier): string {
    const scope = `dialog ${this.#count++}`;
    this.#carriers.set(scope, carrier);
    return scope;
  }

  participant(carrier: Carrier): Participant | undefined {
    return [...this.#participants].find((candidate) => candidate.carrier === carrier);
  }

  /** The answer of a registration is here: the member takes it in the next turns. */
  answered(carrier: Carrier, iMessage: Uint8Array): void {
    this.#accepted.push(iMessage.slice());
    const participant = this.participant(carrier);
    if (participant === undefined) return;
    const { member, group, identity } = participant;
    const before = member.memberships[0]?.streams[0]?.ssrc;
    void (async () => {
      for (let waited = 0; waited < 1000 && this.#participants.has(participant); waited++) {
        const [membership] = member.memberships;
        const ssrc = membership?.streams[0]?.ssrc;
        if (ssrc !== undefined && ssrc !== before) {
          this.witness.admitted(group, identity, ssrc);
          this.witness.reached(group, membership?.sequence ?? 0);
          listen(participant);
          return;
        }
        await delay(5);
      }
      if (this.#participants.has(participant))
        this.#failures.push(`${identity} does not take its answer: ${member.memberships[0]?.state}`);
    })();
  }

  /** Starts, compares, works, kills. */
  async play(round: number): Promise<void> {
    await this.restart();
    const before = this.#operations;
    const { least = 1, operations } = this.#options;
    const most = before + least + Math.floor(Math.random() * (operations - least + 1));
    const { life } = this;
    const workers = Array.from({ length: this.#options.atOnce }, () => this.#work(life));
    const patience = performance.now() + 20_000;
    while (this.#operations < most && performance.now() < patience) await delay(1);
    await delay(Math.random() * 10);
    await life.kill();
    this.#sums.kills++;
    await Promise.all(workers);
    this.#lose();
    const { failures } = this.result();
    this.#options.say?.(
      `round ${round}: ${this.#operations - before} operations, ${this.#participants.size} members, ${failures.length} failures`,
    );
    for (const failure of failures.slice(this.#told)) this.#options.say?.(`  ${failure}`);
    this.#told = failures.length;
  }

  /** A new process, which is judged by what the witness knows, and which the members have to follow. */
  async restart(): Promise<void> {
    let open: () => void = () => undefined;
    this.judged = new Promise((resolve) => {
      open = resolve;
    });
    // Some starts are killed as well: opening has to be as safe as working.
    const twice = this.#sums.kills > 0 && Math.random() < 0.3;
    if (twice) {
      const life = new Life();
      this.life = life;
      life.call(this.#open()).catch(() => undefined);
      await delay(100 + Math.random() * 900);
      await life.kill();
      this.#sums.killedStarts++;
    }
    const life = new Life();
    this.life = life;
    life.onMessage = (message) => this.#take(message);
    await withLimit(life.call(this.#open()), START_MS, "the start");
    const { marks } = this.witness;
    const view = await life.call({ op: "view" });
    if (this.#restored) this.witness.judgeRestored(view, twice);
    else this.witness.judge(view, marks);
    open();
    if (!this.#restored) await this.#replayMessages();
    await this.#replayExpelled();
    this.#restored = false;
    await this.#follow();
  }

  backUp(): void {
    for (const name of FILES) {
      const file = join(this.#folder, name);
      if (existsSync(file)) copyFileSync(file, `${file}.backup`);
    }
  }

  /** The store of before; what stands outside of it stays. */
  restore(): void {
    for (const name of [...FILES, "store.db-shm"]) {
      const file = join(this.#folder, name);
      rmSync(file, { force: true });
      if (existsSync(`${file}.backup`)) copyFileSync(`${file}.backup`, file);
    }
    this.#restored = true;
    // Their claims may be gone with the newer store.
    this.#accepted.length = 0;
  }

  async close(): Promise<void> {
    for (const { member } of this.#participants) member.close();
    await this.life.kill();
  }

  #open(): Extract<Call, { op: "open" }> {
    const { forgetful = false } = this.#options;
    return {
      op: "open",
      folder: this.#folder,
      groups: GROUPS,
      identity: GCKS.data,
      psk: PSK,
      signingKey: this.#signingKey,
      forgetful,
    };
  }

  /** One operation after the other, until the key server is gone. */
  async #work(life: Life): Promise<void> {
    while (!life.dead) {
      const { name } = GROUPS[Math.floor(Math.random() * GROUPS.length)] as { name: string };
      // Who waits for a batch has no key to leave with (docs/protocol.md §19).
      const there = [...this.#participants].filter(
        ({ group, busy, carrier, member }) => group === name && !busy && carrier.open && member.memberships[0]?.state === "in-step",
      );
      const size = [...this.#participants].filter(({ group }) => group === name).length;
      const chance = Math.random();
      const someone = there[Math.floor(Math.random() * there.length)];
      try {
        if (chance < 0.1) this.witness.reached(name, await life.call({ op: chance < 0.02 ? "replace" : "rekey", group: name }));
        else if (someone !== undefined && chance < 0.15) someone.carrier.onLost?.();
        else if (someone === undefined || (chance < 0.6 && size < this.#options.members)) await this.#join(name);
        else if (chance < 0.65) await this.#expel(life, someone);
        else await this.#leave(someone);
        this.#operations++;
      } catch (error) {
        await delay(1);
        if (!life.dead) this.#failures.push(`${name}: ${String(error)}`);
      }
    }
  }

  async #join(group: string): Promise<void> {
    const identity = `sip:speaker${this.#count++}@example.org`;
    const carrier = new Carrier(this, group, identity);
    const member = memberBy(carrier, group, identity);
    const participant: Participant = { identity, group, member, carrier, heard: new Set(), busy: false };
    this.#participants.add(participant);
    try {
      await member.join();
    } catch (error) {
      this.#participants.delete(participant);
      member.close();
      throw error;
    }
  }

  async #leave(participant: Participant): Promise<void> {
    const { group, identity, member } = participant;
    participant.busy = true;
    this.#participants.delete(participant);
    this.witness.asks(group, identity);
    if ((await member.leave()) === "verified") this.witness.left(group, identity);
    else if (!this.life.dead) this.#failures.push(`${identity} was not let go`);
  }

  async #expel(life: Life, participant: Participant): Promise<void> {
    const { group, identity, member } = participant;
    participant.busy = true;
    this.#participants.delete(participant);
    this.witness.asks(group, identity);
    member.close();
    await life.call({ op: "expel", group, identity });
    this.witness.expelled(group, identity);
    this.#expelled.push({ group, identity });
  }

  #take(message: Sent): void {
    if (message.kind === "multicast") {
      this.witness.sent("blue", message.octets);
      for (const { group, member } of this.#participants) if (group === "blue") member.receiveControl(message.octets);
      return;
    }
    const carrier = this.#carriers.get(message.scope);
    if (message.kind === "closed") {
      if (carrier?.scope === message.scope) carrier.onLost?.();
      return;
    }
    this.witness.sent("red", message.octets);
    if (carrier?.scope === message.scope) carrier.onMessage?.(message.octets);
  }

  /** The connection of a session breaks with the server; a dialog stands until it is used. */
  #lose(): void {
    let index = 0;
    for (const { carrier, group } of this.#participants) if (group === "red" || index++ % 2 === 0) carrier.onLost?.();
  }

  /** Messages that were answered before are refused by whoever comes after. */
  async #replayMessages(): Promise<void> {
    for (const iMessage of this.#accepted.slice(-REPLAYS)) {
      try {
        await this.life.call({ op: "register", scope: `elsewhere ${this.#count++}`, iMessage });
        this.#failures.push("a message was answered before and after");
      } catch {
        this.#sums.replaysRefused++;
      }
    }
  }

  async #replayExpelled(): Promise<void> {
    for (const { group, identity } of this.#expelled.slice(-EXPELLED)) {
      const { life } = this;
      const outcome = await this.#tryToJoin(group, identity).catch((error: unknown) => error);
      if (!life.dead && outcome === "joined") this.#failures.push(`${group}: ${identity} was expelled, and joined again`);
    }
  }

  async #tryToJoin(group: string, identity: string): Promise<string> {
    const scope = `expelled ${this.#count++}`;
    const carrier: MemberCarrier = {
      secure: false,
      open: true,
      onMessage: undefined,
      onLost: undefined,
      register: (iMessage) => this.life.call({ op: "register", scope, iMessage: iMessage.slice() }),
      send: async () => undefined,
      end: async () => undefined,
      close: () => undefined,
    };
    const member = memberBy(carrier, group, identity);
    try {
      await member.join();
      return "joined";
    } finally {
      member.close();
    }
  }

  /** Everybody is in step with the new process, and hears everybody. */
  async #follow(): Promise<void> {
    for (const { name } of GROUPS as unknown as { name: string }[]) {
      const sequence = await this.life.call({ op: "rekey", group: name });
      this.witness.reached(name, sequence);
      const there = [...this.#participants].filter(({ group }) => group === name);
      const late = await this.#inStep(there, sequence);
      for (const { identity, member } of late)
        this.#failures.push(
          `${name}: ${identity} does not follow: ${member.memberships[0]?.state} at ${member.memberships[0]?.sequence}, not ${sequence}`,
        );
      if (late.length > 0) continue;
      for (const speaker of there) this.#speak(speaker, there);
      // Some dialogs of before are used now, and turn out to be gone.
      for (const { carrier } of there) if (!carrier.open && Math.random() < 0.5) carrier.onLost?.();
    }
  }

  /** @returns who is not in step in time */
  async #inStep(there: readonly Participant[], least: number): Promise<readonly Participant[]> {
    const patience = performance.now() + FOLLOW_MS;
    for (;;) {
      const newest = Math.max(least, ...there.map(({ member }) => member.memberships[0]?.sequence ?? 0));
      const late = (): Participant[] =>
        there.filter(({ member: { memberships } }) => memberships[0]?.state !== "in-step" || memberships[0].sequence !== newest);
      if (late().length === 0) {
        // Nothing new since, and every sender has switched.
        await delay(2 * ACTIVATION_MS);
        if (late().length === 0) return [];
      }
      if (performance.now() > patience) return late();
      await delay(5);
    }
  }

  #speak(speaker: Participant, there: readonly Participant[]): void {
    const number = ++this.#numbers;
    const packet = speaker.member.memberships[0]?.streams[0]?.protect(rtp(number));
    if (packet === undefined) {
      this.#failures.push(`${speaker.identity} may not speak`);
      return;
    }
    this.#sums.spoken++;
    for (const listener of there) {
      if (listener === speaker) continue;
      listener.member.memberships[0]?.streams[0]?.receive(packet.slice());
      if (listener.heard.delete(number)) this.#sums.heard++;
      else this.#failures.push(`${listener.identity} does not hear ${speaker.identity}`);
    }
  }
}

function listen({ member, heard }: Participant): void {
  const stream = member.memberships[0]?.streams[0];
  if (stream !== undefined) stream.onRtp = (packet) => heard.add(new DataView(packet.buffer, packet.byteOffset).getUint32(12));
}

async function withLimit<T>(work: Promise<T>, milliseconds: number, what: string): Promise<T> {
  const abort = new AbortController();
  const late = delay(milliseconds, undefined, { signal: abort.signal }).then(
    () => Promise.reject(new Error(`${what}: not in ${milliseconds} ms`)),
    () => new Promise<never>(() => undefined),
  );
  try {
    return await Promise.race([work, late]);
  } finally {
    abort.abort();
  }
}

/** Somebody who sends and receives in a group. */
function memberBy(carrier: MemberCarrier, group: string, identity: string): GroupMember {
  return createGroupMember({
    groups: [{ group: utf8(group), role: { send: true, receive: true } }],
    credential: { psk: PSK },
    identity: uri(identity),
    gcks: GCKS,
    carrier,
    streams: 1,
    clock: systemClock,
    timers: systemTimers,
  });
}
