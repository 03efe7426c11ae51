import { WatchwordError } from "../bytes/index.js";
import { type KeyedMedia, type OfferTerms, type ProofVerdict, secondOffer } from "../gsa/index.js";
import { type ErrorReport, MikeyError, MikeyPeerError } from "../mikey/index.js";
import type { SdpSection } from "../sdp/index.js";
import { mikeyBody } from "./bodies.js";
import type {
  DialogFacts,
  MediaDirection,
  ReceivedBody,
  RefusalAdvice,
  SignalingState,
  SipBody,
  SipDialog,
  SipStream,
} from "./contracts.js";
import {
  agreedDirection,
  type Completion,
  completeDescription,
  completeWithCapabilities,
  type DescribedLine,
  type KeyedDescription,
  mayUseCapabilities,
  protocolsOf,
  readDescription,
  securedProfiles,
} from "./description.js";
import {
  type AnsweredPart,
  checkAnswer,
  type Exchange,
  type OfferedPart,
  type OwnExchange,
  proofIn,
  type TheirExchange,
} from "./exchange.js";
import { answerPart, type Endpoint, type Group, offerPart, proposedPolicy, scopeOf, sectionsToOffer } from "./parts.js";
import { type PeerRefusal, type RefusingResponse, readPeerRefusal } from "./peer-refusal.js";
import { refusalOf, SipRefusal } from "./refusal.js";
import { GatedStream } from "./stream.js";

const DEFAULT_PROFILES: readonly string[] = ["RTP/SAVP", "RTP/SAVPF"];
const MAX_BRANCHES = 16;
/** Seconds; RFC 3261 §14.2 has 0 to 10. */
const RETRY_AFTER = 1;

/** What the branches of a forked offer share: the ports, and so the streams. */
interface Family {
  readonly streams: GatedStream[];
  readonly root: Dialog;
  readonly branches: Map<string, Dialog>;
  /** A branch has keys of its own: what is sent under them is for that branch only. */
  rekeyed: boolean;
}

/** An offer that was refused with a MIKEY error, for the answer that says so. */
interface RefusedOffer {
  readonly remote: KeyedDescription;
  readonly section: SdpSection;
  readonly octets: Uint8Array;
}

export function createDialog(endpoint: Endpoint, facts: DialogFacts): SipDialog {
  return new Dialog(endpoint, facts);
}

class Dialog implements SipDialog {
  readonly #endpoint: Endpoint;
  readonly #facts: DialogFacts;
  readonly #family: Family;
  readonly #groups = new Map<SdpSection, Group>();
  readonly #profiles: readonly string[];
  #exchange: Exchange | undefined;
  /** The offer of ours whose refusal is being read. */
  #reading: { readonly exchange: OwnExchange; void: boolean } | undefined;
  #refusedOffer: RefusedOffer | undefined;
  /** Between the steps of one call that takes a while. */
  #busy = false;
  /** What takes a while is an offer of ours. */
  #offering = false;
  #closed = false;
  /** A rekey was refused: only the end is left (RFC 4567 §4.1.2). */
  #aborted = false;
  #confirmed = false;
  /** This party answered the first offer. */
  #answeredFirst = false;
  #announcedBySdp = false;
  #lastAnswer: string | undefined;
  #directions: readonly MediaDirection[] = [];
  /** The exchange of the first m= line that was set up: the one whose registration proves the end (docs/protocol.md §5). */
  #primary: KeyedMedia | undefined;

  constructor(endpoint: Endpoint, facts: DialogFacts, family?: Family) {
    this.#endpoint = endpoint;
    this.#facts = facts;
    this.#family = family ?? { streams: [], root: this, branches: new Map(), rekeyed: false };
    this.#profiles = endpoint.options.profiles ?? DEFAULT_PROFILES;
  }

  get state(): SignalingState {
    if (this.#closed || this.#aborted) return "closed";
    if (this.#exchange === undefined) return "stable";
    return this.#exchange.by === "us" ? "have-local-offer" : "have-remote-offer";
  }

  get streams(): readonly SipStream[] {
    return this.#family.streams;
  }

  get announced(): "hello" | "attribute" | "no" {
    if ([...this.#groups.values()].some(({ media }) => media.helloExchanged)) return "hello";
    return this.#announcedBySdp ? "attribute" : "no";
  }

  get media(): readonly KeyedMedia[] {
    return [...this.#groups.values()].map(({ media }) => media);
  }

  createOffer(localSdp: string): Promise<string> {
    return this.#alone(async () => {
      this.#require("stable");
      this.#offering = true;
      const { lines } = this.#readLocal(localSdp);
      const profiles = securedProfiles(lines, this.#profiles);
      const { level = "session", offerAs = "secure" } = this.#endpoint.options;
      const first = this.#groups.size === 0;
      const saidHello = first && this.#saysHello();
      const asCapability = first && offerAs === "capability" && mayUseCapabilities(localSdp, lines);
      const parts: OfferedPart[] = [];
      try {
        for (const section of sectionsToOffer(lines, [...this.#groups.keys()], level)) {
          const sdpIds = protocolsOf(localSdp, section, asCapability);
          const request = { section, lines, sdpIds, saysHello: saidHello };
          parts.push(await offerPart(this.#endpoint, this.#facts, request, this.#groups.get(section)));
        }
      } catch (error) {
        for (const part of parts) part.abandon();
        throw error;
      }
      const completion: Completion = { messages: parts, profiles, announce: this.#announces() };
      const { sdp, configurations } = asCapability
        ? completeWithCapabilities(localSdp, lines, completion)
        : { sdp: completeDescription(localSdp, completion), configurations: new Map<number, string>() };
      const local = lines.map((line, index): DescribedLine => ({ ...line, profile: profiles[index] as string }));
      this.#streamsUpTo(lines.length);
      this.#refusedOffer = undefined;
      this.#family.rekeyed ||= !first;
      this.#exchange = { by: "us", first, saidHello, parts, local, configurations };
      return sdp;
    });
  }

  acceptAnswer(remoteSdp: string): Promise<void> {
    return this.#alone(async () => {
      // The same answer may stand in several responses; the first counts (RFC 3261 §13.2.1).
      if (this.#exchange === undefined && remoteSdp === this.#lastAnswer) return;
      this.#require("have-local-offer");
      if (this.#family.root === this && this.#family.branches.size > 0) {
        throw new WatchwordError("sip.state", "the offer was forked: the answer belongs to a branch");
      }
      const exchange = this.#exchange as OwnExchange;
      const keyed: { readonly part: OfferedPart; readonly media: KeyedMedia }[] = [];
      try {
        const remote = readDescription(remoteSdp, this.#profiles);
        const answered = checkAnswer(exchange, remote);
        for (const [part, octets] of answered) keyed.push({ part, media: await part.accept(octets) });
        for (const part of exchange.parts) if (!answered.has(part)) part.abandon();
        for (const { part, media } of keyed) this.#groups.set(part.section, { media, lines: part.lines });
        this.#agree(exchange.local, remote);
        this.#lastAnswer = remoteSdp;
        this.#exchange = undefined;
      } catch (error) {
        for (const { part, media } of keyed) if (this.#groups.get(part.section)?.media !== media) media.close();
        this.#void();
        if (exchange.first && error instanceof MikeyPeerError) this.#noteErrorAnswer(exchange, error);
        throw refusalOf(error);
      }
    });
  }

  acceptOffer(remoteSdp: string): Promise<void> {
    if (this.#offering) return Promise.reject(glare());
    return this.#alone(async () => {
      this.#checkRoomForOffer(remoteSdp);
      if (this.#exchange !== undefined) return;
      this.#refusedOffer = undefined;
      const parts: AnsweredPart[] = [];
      try {
        const remote = readDescription(remoteSdp, this.#profiles);
        this.#checkOffer(remote);
        for (const message of remote.messages) {
          const { section } = message;
          const keysLines = remote.lines.some(({ keys }) => keys?.section === section);
          const answering = answerPart(this.#endpoint, this.#facts, message, keysLines, this.#groups.get(section));
          const part = await answering.catch((error: unknown) => this.#noteRefusal(error, remote, section));
          if (part !== undefined) parts.push(part);
        }
        this.#streamsUpTo(remote.lines.length);
        this.#family.rekeyed ||= this.#groups.size > 0;
        this.#exchange = { by: "them", text: remoteSdp, remote, parts };
      } catch (error) {
        for (const part of parts) part.rollback();
        throw refusalOf(error, this.#groups.size > 0);
      }
    });
  }

  createAnswer(localSdp: string): Promise<string> {
    return this.#alone(async () => {
      this.#require("have-remote-offer");
      const { remote, parts } = this.#exchange as TheirExchange;
      const lines = this.#readAnswer(localSdp, remote);
      const configurations = new Map<number, string>();
      for (const { index, configuration } of remote.lines) {
        if (configuration !== undefined && lines[index]?.rejected === false) configurations.set(index, configuration);
      }
      const messages = parts.flatMap(({ section, response }) => (response === undefined ? [] : [{ section, octets: response }]));
      const answer = completeDescription(localSdp, {
        messages,
        profiles: remote.lines.map(({ profile }) => profile),
        configurations,
        announce: this.#announces(),
      });
      if (this.#groups.size === 0) this.#answeredFirst = true;
      for (const part of parts) {
        part.commit();
        this.#groups.set(part.section, { media: part.media, lines: part.lines });
      }
      this.#agree(lines, remote);
      this.#exchange = undefined;
      return answer;
    });
  }

  createErrorAnswer(localSdp: string): string {
    this.#require("stable");
    if (this.#refusedOffer === undefined || this.#busy)
      throw new WatchwordError("sip.state", "no offer was refused with a MIKEY error");
    const { remote, section, octets } = this.#refusedOffer;
    this.#readAnswer(localSdp, remote);
    const answer = completeDescription(localSdp, {
      messages: [{ section, octets }],
      profiles: remote.lines.map(({ profile }) => profile),
      rejects: true,
      announce: this.#announces(),
    });
    this.#refusedOffer = undefined;
    this.#rejectLines(remote.lines.length);
    return answer;
  }

  rollback(): void {
    this.#void();
  }

  async refused(status: number, body?: ReceivedBody, warnings: readonly string[] = []): Promise<RefusalAdvice> {
    const { options } = this.#endpoint;
    const exchange = this.#exchange?.by === "us" ? this.#exchange : undefined;
    const { report, aboutTheOffer, aboutTheKeys } = await this.#readRefusal(exchange, { status, body, warnings });
    const terms = exchange !== undefined && aboutTheOffer ? this.#secondOffer(exchange, report) : undefined;
    if (exchange !== undefined && this.#exchange === exchange) this.#void();
    const abort = exchange?.first === false && aboutTheKeys && options.refusedRekey !== "keep";
    if (abort) this.#abort();
    const { errorNos = [], authenticated = false } = report ?? {};
    return { retry: terms !== undefined, ...terms, abort, errorNos, authenticated };
  }

  /** A stack may close the dialog as soon as it has the refusal: what verifies an error in it is kept until it was read. */
  async #readRefusal(exchange: OwnExchange | undefined, response: RefusingResponse): Promise<PeerRefusal> {
    if (exchange === undefined) return readPeerRefusal([], response);
    const reading = { exchange, void: false };
    this.#reading = reading;
    try {
      return await readPeerRefusal(exchange.parts, response);
    } finally {
      if (this.#reading === reading) this.#reading = undefined;
      if (reading.void) for (const part of exchange.parts) part.abandon();
    }
  }

  /** What offers to this party differ in from now on; undefined where another one is no use. */
  #secondOffer({ first, parts, saidHello }: OwnExchange, report: ErrorReport | undefined): OfferTerms | undefined {
    // Keys in force have the policy of their streams.
    if (!first) return undefined;
    const { options, terms } = this.#endpoint;
    const { remote } = this.#facts;
    const policy = proposedPolicy(this.#endpoint, remote);
    const next = secondOffer(options.keying, { offers: parts, saidHello, policy, terms: terms.get(remote) }, report);
    if (next !== undefined) terms.set(remote, next);
    return next;
  }

  fork(remoteTag: string): SipDialog {
    const { branches, root } = this.#family;
    const known = branches.get(remoteTag);
    if (known !== undefined) return known;
    const exchange = this.#exchange;
    if (this.#closed || root !== this || exchange?.by !== "us" || !exchange.first) {
      throw new WatchwordError("sip.state", "only the first offer of a dialog forks, and only before it is answered");
    }
    if (this.#family.rekeyed) throw new WatchwordError("sip.branches", "another branch has replaced the keys of the offer");
    if (branches.size >= MAX_BRANCHES) throw new WatchwordError("sip.branches", `more than ${MAX_BRANCHES} branches of one offer`);
    const branch = new Dialog(this.#endpoint, this.#facts, this.#family);
    branch.#exchange = {
      ...exchange,
      parts: exchange.parts.map((part) => ({ ...part, accept: part.fork ?? part.accept, abandon: () => undefined })),
    };
    branches.set(remoteTag, branch);
    return branch;
  }

  confirm(): void {
    const { branches, root } = this.#family;
    this.#confirmed = true;
    if (root === this) return;
    for (const branch of branches.values()) if (branch !== this) branch.close();
    // What is left of the offer goes; the streams are this branch's now.
    root.#closed = true;
    root.#void();
    this.#applyDirections();
  }

  end(): SipBody | undefined {
    const { proof = "announced" } = this.#endpoint.options;
    if (this.#closed || proof === "never" || (proof === "announced" && this.announced === "no")) return undefined;
    const octets = this.#primary?.deregister();
    return octets === undefined ? undefined : mikeyBody(octets);
  }

  acceptEnd(body: ReceivedBody | undefined): { readonly verdict: ProofVerdict; readonly body?: SipBody } {
    this.#confirmed = true;
    const octets = proofIn(body);
    if (octets === undefined) return { verdict: "absent" };
    if (octets === "damaged" || this.#primary === undefined) return { verdict: "rejected" };
    const { verdict, acknowledgement } = this.#primary.acceptDeregistration(octets);
    return acknowledgement === undefined ? { verdict } : { verdict, body: mikeyBody(acknowledgement) };
  }

  acceptEndAnswer(body: ReceivedBody | undefined): ProofVerdict {
    const octets = proofIn(body);
    if (octets === "damaged") return "rejected";
    return this.#primary?.verifyAcknowledgement(octets) ?? (octets === undefined ? "absent" : "rejected");
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#family.root === this) for (const branch of this.#family.branches.values()) branch.close();
    this.#dispose();
  }

  #dispose(): void {
    this.#void();
    const { root, branches, streams } = this.#family;
    const parks = this.#answeredFirst && !this.#confirmed;
    for (const [section, { media }] of this.#groups) {
      for (const stream of streams) stream.removeSource(media);
      if (parks) this.#endpoint.park(scopeOf(this.#facts), section, media);
      else media.close();
    }
    this.#groups.clear();
    this.#primary = undefined;
    if ([root, ...branches.values()].every((dialog) => dialog.#closed)) for (const stream of streams) stream.close();
  }

  /** One step at a time: a second one would see half of the first. */
  async #alone<T>(step: () => Promise<T>): Promise<T> {
    if (this.#busy)
      throw new SipRefusal("sip.state", "another step of an offer/answer exchange is under way", {
        status: 500,
        retryAfter: RETRY_AFTER,
      });
    this.#busy = true;
    try {
      return await step();
    } finally {
      this.#busy = false;
      this.#offering = false;
      // Closed in the middle of the step: what the step made goes too.
      if (this.#closed) this.#dispose();
    }
  }

  #require(state: SignalingState): void {
    if (this.state === state) return;
    throw new WatchwordError("sip.state", `the dialog is ${this.state}, not ${state}`);
  }

  #saysHello(): boolean {
    const { hello = "retry" } = this.#endpoint.options;
    return hello !== "never" && this.#endpoint.terms.get(this.#facts.remote)?.withoutHello !== true;
  }

  #announces(): boolean {
    return (this.#endpoint.options.proof ?? "announced") !== "never";
  }

  #readLocal(sdp: string): KeyedDescription {
    const description = readDescription(sdp, this.#profiles);
    if (description.lines.length < this.#directions.length) {
      throw new WatchwordError("sip.media", "m= lines are never taken away (RFC 3264 §8)");
    }
    return description;
  }

  /** The m= lines of an answer to what was offered. */
  #readAnswer(localSdp: string, remote: KeyedDescription): readonly DescribedLine[] {
    const { lines } = this.#readLocal(localSdp);
    if (lines.length === remote.lines.length) return lines;
    const counts = `the answer has ${lines.length} m= lines, the offer ${remote.lines.length}`;
    throw new WatchwordError("sip.media", `${counts} (RFC 3264 §6)`);
  }

  #streamsUpTo(count: number): void {
    const { streams } = this.#family;
    const { earlyMedia = "buffer" } = this.#endpoint.options;
    while (streams.length < count) streams.push(new GatedStream(streams.length, earlyMedia));
  }

  /** Glare and offers that overtake each other (RFC 3261 §14.2). */
  #checkRoomForOffer(remoteSdp: string): void {
    if (this.state === "closed") throw new SipRefusal("sip.state", "the dialog is closed", { status: 481, warnings: [] });
    if (this.#exchange?.by === "us") throw glare();
    const { branches } = this.#family;
    if (!this.#confirmed && this.#groups.size > 0 && [...branches.values()].filter(({ state }) => state !== "closed").length > 1) {
      throw new SipRefusal("sip.state", "other branches of the call are open", { status: 491, warnings: [] });
    }
    if (this.#exchange !== undefined && this.#exchange.text !== remoteSdp) {
      const refusal = { status: 500, warnings: [], retryAfter: RETRY_AFTER };
      throw new SipRefusal("sip.state", "the offer before this one is not answered yet", refusal);
    }
  }

  /** Every active m= line has a profile that can be keyed and a key message, and none changes from one message to another. */
  #checkOffer({ lines, messages }: KeyedDescription): void {
    if (lines.length < this.#directions.length) {
      throw new SipRefusal("sip.media", "m= lines are never taken away (RFC 3264 §8)");
    }
    for (const { index, profile, rejected, keys } of lines) {
      if (rejected) continue;
      if (!this.#profiles.includes(profile)) {
        throw new SipRefusal("mikey.absent", `m= line ${index + 1} is not protected by SRTP`);
      }
      if (keys === undefined) throw new SipRefusal("mikey.absent", `m= line ${index + 1} has no MIKEY message`);
    }
    for (const { section, lines: covered } of messages) {
      if (this.#groups.has(section)) continue;
      const elsewhere = covered.some((index) => {
        const used = lines[index]?.keys?.section === section;
        return used && [...this.#groups.values()].some((group) => group.lines.includes(index));
      });
      if (elsewhere) throw new SipRefusal("sip.level", "key messages move between session and media level within a dialog");
    }
  }

  /** Keeps the MIKEY error of a first offer for the answer that says it. */
  #noteRefusal(error: unknown, remote: KeyedDescription, section: SdpSection): never {
    if (this.#groups.size === 0 && error instanceof MikeyError && error.reply !== undefined) {
      this.#refusedOffer = { remote, section, octets: error.reply };
    }
    throw error;
  }

  /** A first offer was answered with a MIKEY error: the session stands without media, until a later offer (RFC 4567 §4.1.2). */
  #noteErrorAnswer(exchange: OwnExchange, { report }: MikeyPeerError): void {
    this.#secondOffer(exchange, report);
    this.#rejectLines(exchange.local.length);
  }

  #rejectLines(count: number): void {
    this.#streamsUpTo(count);
    this.#directions = Array.from({ length: count }, () => "inactive");
    this.#applyDirections();
  }

  /** Nothing flows any more; the keys stay for the proof of the end. */
  #abort(): void {
    this.#aborted = true;
    for (const stream of this.#family.streams) stream.close();
  }

  /** The exchange is complete: directions and sources are as both descriptions say. */
  #agree(local: readonly DescribedLine[], remote: KeyedDescription): void {
    const { streams } = this.#family;
    this.#announcedBySdp ||= remote.announced;
    this.#directions = remote.lines.map((line, index) => agreedDirection(local[index] ?? line, line));
    this.#applyDirections();
    remote.lines.forEach((line, index) => {
      const section = line.keys?.section;
      const group = section === undefined ? undefined : this.#groups.get(section);
      const at = group?.lines.indexOf(index) ?? -1;
      if (group === undefined || at < 0 || line.rejected || local[index]?.rejected === true) return;
      streams[index]?.addSource({ media: group.media, at });
      this.#primary ??= group.media;
    });
  }

  /** Branches share the streams; the last one that agreed, or has the call, says which way media flows. */
  #applyDirections(): void {
    this.#directions.forEach((direction, index) => {
      const stream = this.#family.streams[index];
      if (stream !== undefined) stream.direction = direction;
    });
  }

  /** The exchange under way comes to nothing. */
  #void(): void {
    const exchange = this.#exchange;
    const reading = this.#reading;
    this.#exchange = undefined;
    if (exchange === undefined) return;
    if (exchange === reading?.exchange) reading.void = true;
    else if (exchange.by === "us") for (const part of exchange.parts) part.abandon();
    else for (const part of exchange.parts) part.rollback();
    if (this.#groups.size === 0 && this.#family.branches.size === 0)
      for (const stream of this.#family.streams) stream.forgetEarly();
  }
}

function glare(): SipRefusal {
  return new SipRefusal("sip.glare", "an offer in the other direction is under way", { status: 491, warnings: [] });
}
