/** What everybody outside of a key server has seen of it: what it acknowledged has to be true after it was killed (docs/protocol.md §24). */
import { formatHex } from "../../../src/bytes/index.js";
import { decodeRekey } from "../../../src/gsa/index.js";
import type { ServerView } from "./calls.js";

/** What the last answer that came to a member says of it; `unknown` while an answer is awaited, and for ever if none came. */
interface Standing {
  state: "in" | "out" | "unknown";
  ssrc: number | undefined;
  /** SSRC under which it reported, and was answered. */
  reportedAs: number | undefined;
}

/** By name of the group. */
interface Marks {
  readonly sequences: ReadonlyMap<string, number>;
  readonly mkis: ReadonlyMap<string, number>;
}

export class Witness {
  /** What was not as it had been acknowledged. */
  readonly failures: string[] = [];
  readonly counts = { admissions: 0, leaves: 0, expulsions: 0, reports: 0, messages: 0 };
  readonly #standings = new Map<string, Map<string, Standing>>();
  readonly #ssrcs = new Map<string, string>();
  /** Octets of rekey messages by group, sequence and number of the packet. */
  readonly #packets = new Map<string, string>();
  readonly #sequences = new Map<string, number>();
  readonly #mkis = new Map<string, number>();
  /** Sequence of the message that brought an MKI. */
  readonly #broughtBy = new Map<string, number>();

  /** A rekey message, heartbeat or end as it was sent. */
  sent(group: string, octets: Uint8Array): void {
    const { kind, sequence, gkma, dataKeyIds } = decodeRekey(octets);
    const highest = this.#sequences.get(group) ?? 0;
    if (kind === "heartbeat") {
      if (sequence < highest) this.#fail(`${group}: a heartbeat of ${sequence} after ${highest}`);
      return;
    }
    const name = `${group}/${sequence}/${gkma?.index ?? 0}`;
    const content = formatHex(octets);
    const known = this.#packets.get(name);
    if (known !== undefined && known !== content) this.#fail(`${name}: one sequence, two contents`);
    if (known !== undefined) return;
    this.#packets.set(name, content);
    this.counts.messages++;
    // Packets of one sequence come one after the other.
    if (sequence < highest) this.#fail(`${group}: sequence ${sequence} after ${highest}`);
    this.reached(group, sequence);
    for (const { mki } of dataKeyIds) {
      const by = this.#broughtBy.get(`${group}/${mki}`);
      if (by !== undefined && by !== sequence) this.#fail(`${group}: MKI ${mki} in messages ${by} and ${sequence}`);
      if (by === undefined && mki <= (this.#mkis.get(group) ?? 0))
        this.#fail(`${group}: MKI ${mki} after ${this.#mkis.get(group)}`);
      this.#broughtBy.set(`${group}/${mki}`, sequence);
      this.#mkis.set(group, Math.max(mki, this.#mkis.get(group) ?? 0));
    }
  }

  /** A sequence that the key server has spoken of. */
  reached(group: string, sequence: number): void {
    this.#sequences.set(group, Math.max(sequence, this.#sequences.get(group) ?? 0));
  }

  /** A member asks for something that changes its membership: until an answer comes either may be true. */
  asks(group: string, identity: string): void {
    this.#standing(group, identity).state = "unknown";
  }

  admitted(group: string, identity: string, ssrc: number): void {
    const standing = this.#standing(group, identity);
    const owner = this.#ssrcs.get(`${group}/${ssrc}`);
    if (owner !== undefined) this.#fail(`${group}: SSRC ${ssrc} of ${owner} is given to ${identity}`);
    this.#ssrcs.set(`${group}/${ssrc}`, identity);
    standing.state = "in";
    standing.ssrc = ssrc;
    this.counts.admissions++;
  }

  reported(group: string, identity: string, ssrc: number | undefined): void {
    this.#standing(group, identity).reportedAs = ssrc;
    this.counts.reports++;
  }

  left(group: string, identity: string): void {
    this.#standing(group, identity).state = "out";
    this.counts.leaves++;
  }

  expelled(group: string, identity: string): void {
    this.#standing(group, identity).state = "out";
    this.counts.expulsions++;
  }

  /** The greatest numbers that were seen by now. */
  get marks(): Marks {
    return { sequences: new Map(this.#sequences), mkis: new Map(this.#mkis) };
  }

  /** Compares what a key server knows that has started again. @param marks of when it was asked: it goes on while it answers */
  judge({ regressed, groups }: ServerView, marks: Marks): void {
    if (regressed) this.#fail("the store lacks what it acknowledged");
    for (const { group, members } of groups) {
      const { name, sequence, mkis } = group;
      const highest = marks.sequences.get(name) ?? 0;
      if (sequence < highest) this.#fail(`${name}: goes on from sequence ${sequence} after ${highest}`);
      const newest = Math.max(0, ...mkis);
      const highestMki = marks.mkis.get(name) ?? 0;
      if (newest < highestMki) this.#fail(`${name}: goes on from MKI ${newest} after ${highestMki}`);
      for (const [what, values] of [
        ["numbers", members.map(({ number }) => number)],
        ["SSRCs", members.flatMap(({ ssrcs }) => ssrcs)],
      ] as const) {
        if (new Set(values).size < values.length) this.#fail(`${name}: two members have one of the ${what}`);
      }
      for (const [identity, { state, ssrc, reportedAs }] of this.#standings.get(name) ?? []) {
        const own = members.filter((member) => member.identity === identity);
        const current = own.find(({ ssrcs }) => ssrc !== undefined && ssrcs.includes(ssrc));
        if (state === "in" && current === undefined) this.#fail(`${name}: the admission of ${identity} is lost`);
        if (state === "in" && reportedAs === ssrc && own.length > 1)
          this.#fail(`${name}: ${identity} has ${own.length} memberships`);
        if (state === "in" && reportedAs === ssrc && current?.state === "provisional")
          this.#fail(`${name}: the report of ${identity} is lost`);
        if (state === "out" && own.length > 0) this.#fail(`${name}: ${identity} is back`);
      }
    }
  }

  /**
   * The same after an older store was restored: it has to be noticed, and everybody registers again under new numbers.
   * @param before whether a process that was killed may have noticed it before
   */
  judgeRestored({ regressed, groups }: ServerView, before: boolean): void {
    if (!regressed && !before) this.#fail("a restored backup is not noticed");
    for (const { group, members } of groups)
      if (members.length > 0) this.#fail(`${group.name}: goes on with the members of a backup`);
    this.#standings.clear();
  }

  #standing(group: string, identity: string): Standing {
    const ofGroup = this.#standings.get(group) ?? new Map<string, Standing>();
    this.#standings.set(group, ofGroup);
    const standing = ofGroup.get(identity) ?? { state: "unknown", ssrc: undefined, reportedAs: undefined };
    ofGroup.set(identity, standing);
    return standing;
  }

  #fail(text: string): void {
    this.failures.push(text);
  }
}
