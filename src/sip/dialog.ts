import { WatchwordError } from "../bytes/index.js";
import { defaultCrypto } from "../crypto/index.js";
import type { KeyedMedia, ProofVerdict } from "../gsa/index.js";
import { DataType, decodeMessage, ErrorNo, MikeyError, MikeyPeerError, peerErrorOf } from "../mikey/index.js";
import type { SdpSection } from "../sdp/index.js";
import type { SrtpPolicy } from "../srtp/index.js";
import { mikeyBody } from "./bodies.js";
import type {
  DialogFacts,
  MediaDirection,
  ReceivedBody,
  RefusalAdvice,
  SignalingState,
  SipBody,
  SipDialog,
  SipKeyingOptions,
  SipStream,
} from "./contracts.js";
import {
  agreedDirection,
  completeDescription,
  type DescribedLine,
  type DescribedMessage,
  type KeyedDescription,
  protocolsOf,
  readDescription,
  securedProfiles,
} from "./description.js";
import { type AnsweredPart, checkAnswer, type Exchange, type OfferedPart, proofIn, refusalMessage, reportOf } from "./exchange.js";
import { namesParty, sipIdentity } from "./party.js";
import { refusalOf, SipRefusal } from "./refusal.js";
import { GatedStream } from "./stream.js";

/** What the dialogs of one user agent share. */
export interface Endpoint {
  readonly options: SipKeyingOptions;
  /** Keeps the media of an answered call that ended before it was confirmed. */
  park(scope: string, section: SdpSection, media: KeyedMedia): void;
  /** The media that a repeated key message keyed the first time. */
  unpark(scope: string, section: SdpSection): KeyedMedia | undefined;
  /** Parties that refused an offer with HELLO. */
  readonly helloRefused: Set<string>;
}

const DEFAULT_PROFILES: readonly string[] = ["RTP/SAVP", "RTP/SAVPF"];
const DEFAULT_POLICY: SrtpPolicy = { suite: "AES_CM_128_HMAC_SHA1_80" };
const MAX_BRANCHES = 16;
/** Final responses that may be about something in the offer. */
const ABOUT_THE_OFFER: ReadonlySet<number> = new Set([400, 415, 488, 606]);

/** The keyed media of one section of the descriptions. */
interface Group {
  readonly media: KeyedMedia;
  /** m= lines by place in `media.streams`. */
  readonly lines: readonly number[];
}

/** What the branches of a forked offer share: the ports, and so the streams. */
interface Family {
  readonly streams: GatedStream[];
  readonly root: Dialog;
  readonly branches: Map<string, Dialog>;
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
  /** Between the steps of one call that takes a while. */
  #busy = false;
  #closed = false;
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
    this.#family = family ?? { streams: [], root: this, branches: new Map() };
    this.#profiles = endpoint.options.profiles ?? DEFAULT_PROFILES;
  }

  get state(): SignalingState {
    if (this.#closed) return "closed";
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
      const { lines } = this.#readLocal(localSdp);
      const profiles = securedProfiles(lines, this.#profiles);
      const first = this.#groups.size === 0;
      const saidHello = first && this.#saysHello();
      const parts: OfferedPart[] = [];
      try {
        for (const section of this.#sectionsToOffer(lines)) {
          parts.push(await this.#offerPart(section, lines, protocolsOf(localSdp, section), saidHello));
        }
      } catch (error) {
        for (const part of parts) part.abandon();
        throw error;
      }
      this.#streamsUpTo(lines.length);
      this.#exchange = {
        by: "us",
        first,
        saidHello,
        parts,
        local: lines.map((line, index) => ({ ...line, profile: profiles[index] as string })),
      };
      return completeDescription(localSdp, { messages: parts, profiles, announce: this.#announces() });
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
      const exchange = this.#exchange as Exchange & { by: "us" };
      const keyed: { readonly part: OfferedPart; readonly media: KeyedMedia }[] = [];
      try {
        const remote = readDescription(remoteSdp, this.#profiles);
        const answered = checkAnswer(exchange.local, exchange.parts, remote);
        for (const [part, octets] of answered) keyed.push({ part, media: await part.accept(octets) });
        for (const part of exchange.parts) if (!answered.has(part)) part.abandon();
        for (const { part, media } of keyed) this.#groups.set(part.section, { media, lines: part.lines });
        this.#agree(exchange.local, remote);
        this.#lastAnswer = remoteSdp;
        this.#exchange = undefined;
      } catch (error) {
        for (const { part, media } of keyed) if (this.#groups.get(part.section)?.media !== media) media.close();
        this.#void();
        throw refusalOf(error);
      }
    });
  }

  acceptOffer(remoteSdp: string): Promise<void> {
    return this.#alone(async () => {
      this.#checkRoomForOffer(remoteSdp);
      if (this.#exchange !== undefined) return;
      const parts: AnsweredPart[] = [];
      try {
        const remote = readDescription(remoteSdp, this.#profiles);
        this.#checkOffer(remote);
        for (const message of remote.messages) {
          const part = await this.#answerPart(message, remote);
          if (part !== undefined) parts.push(part);
        }
        this.#streamsUpTo(remote.lines.length);
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
      const { remote, parts } = this.#exchange as Exchange & { by: "them" };
      const { lines } = this.#readLocal(localSdp);
      if (lines.length !== remote.lines.length) {
        throw new WatchwordError(
          "sip.media",
          `the answer has ${lines.length} m= lines, the offer ${remote.lines.length} (RFC 3264 §6)`,
        );
      }
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

  rollback(): void {
    this.#void();
  }

  async refused(status: number, body?: ReceivedBody): Promise<RefusalAdvice> {
    const { helloRefused } = this.#endpoint;
    const exchange = this.#exchange;
    const report = await this.#errorIn(body, exchange?.by === "us" ? exchange.parts : []);
    // An error that names its cause names another one.
    const unnamed = report.errorNos.every((errorNo) => errorNo === ErrorNo.UNSPECIFIED);
    const aboutTheOffer = ABOUT_THE_OFFER.has(status) || report.errorNos.length > 0;
    const mayBeHello = exchange?.by === "us" && exchange.saidHello && aboutTheOffer && unnamed;
    if (mayBeHello) helloRefused.add(this.#facts.remote);
    if (exchange?.by === "us") this.#void();
    return { ...report, retry: mayBeHello };
  }

  fork(remoteTag: string): SipDialog {
    const { branches, root } = this.#family;
    const known = branches.get(remoteTag);
    if (known !== undefined) return known;
    const exchange = this.#exchange;
    if (this.#closed || root !== this || exchange?.by !== "us" || !exchange.first) {
      throw new WatchwordError("sip.state", "only the first offer of a dialog forks, and only before it is answered");
    }
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
      if (parks) this.#endpoint.park(this.#scope(), section, media);
      else media.close();
    }
    this.#groups.clear();
    this.#primary = undefined;
    if ([root, ...branches.values()].every((dialog) => dialog.#closed)) for (const stream of streams) stream.close();
  }

  /** One step at a time: a second one would see half of the first. */
  async #alone<T>(step: () => Promise<T>): Promise<T> {
    if (this.#busy) throw new SipRefusal("sip.state", "another step of an offer/answer exchange is under way", { status: 500 });
    this.#busy = true;
    try {
      return await step();
    } finally {
      this.#busy = false;
      // Closed in the middle of the step: what the step made goes too.
      if (this.#closed) this.#dispose();
    }
  }

  #require(state: SignalingState): void {
    if (this.state === state) return;
    throw new WatchwordError("sip.state", `the dialog is ${this.state}, not ${state}`);
  }

  #scope(): string {
    return `${this.#facts.callId} ${this.#facts.callerTag}`;
  }

  #saysHello(): boolean {
    const { hello = "retry" } = this.#endpoint.options;
    return hello !== "never" && !this.#endpoint.helloRefused.has(this.#facts.remote);
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

  #streamsUpTo(count: number): void {
    const { streams } = this.#family;
    const { earlyMedia = "buffer" } = this.#endpoint.options;
    while (streams.length < count) streams.push(new GatedStream(streams.length, earlyMedia));
  }

  /** The sections that are there get a renewal; m= lines that none of them covers get messages of their own. */
  #sectionsToOffer(lines: readonly DescribedLine[]): SdpSection[] {
    const { level = "session" } = this.#endpoint.options;
    if (this.#groups.size === 0 && level === "session") return lines.length === 0 ? [] : ["session"];
    const held = [...this.#groups.keys()];
    if (held.includes("session")) return held;
    const uncovered = lines.filter(({ index, rejected }) => !rejected && !held.includes(index)).map(({ index }) => index);
    return [...held, ...uncovered];
  }

  async #offerPart(
    section: SdpSection,
    lines: readonly DescribedLine[],
    sdpIds: readonly string[],
    saidHello: boolean,
  ): Promise<OfferedPart> {
    const covered = section === "session" ? lines.map(({ index }) => index) : [section];
    const { policy = DEFAULT_POLICY } = this.#endpoint.options;
    const proposal = (index: number) => ({ policy, ssrc: this.#facts.ssrcFor?.(index) ?? 0 });
    const group = this.#groups.get(section);
    if (group !== undefined) {
      const added = covered.slice(group.media.streams.length).map(proposal);
      const renewal = await group.media.startRenewal({ added, sdpIds });
      return {
        section,
        lines: covered,
        octets: renewal.octets,
        accept: async (answer) => {
          await renewal.complete(answer);
          return group.media;
        },
        abandon: () => renewal.abandon(),
      };
    }
    const { keying } = this.#endpoint.options;
    const credential = this.#endpoint.options.credentialFor(this.#facts.remote);
    if (credential === undefined) {
      throw new WatchwordError("sip.credential", "there is no credential for the party that is called");
    }
    const offer = await keying.offer({
      credential,
      streams: covered.map(proposal),
      secure: this.#facts.secure ?? false,
      sdpIds,
      peerAnnounced: saidHello,
      // A lone ID would be taken for the Initiator's (RFC 3830 §3.1).
      ...(keying.options.identity === undefined ? {} : { responderId: sipIdentity(this.#facts.remote) }),
    });
    return {
      section,
      lines: covered,
      octets: offer.octets,
      accept: (answer) => offer.accept(answer),
      fork: (answer) => offer.fork(answer),
      abandon: () => offer.abandon(),
    };
  }

  /** Glare and offers that overtake each other (RFC 3261 §14.2). */
  #checkRoomForOffer(remoteSdp: string): void {
    if (this.#closed) throw new SipRefusal("sip.state", "the dialog is closed", { status: 481, warnings: [] });
    if (this.#exchange?.by === "us") {
      throw new SipRefusal("sip.glare", "an offer in the other direction is under way", { status: 491, warnings: [] });
    }
    if (this.#exchange !== undefined && this.#exchange.text !== remoteSdp) {
      throw new SipRefusal("sip.state", "the offer before this one is not answered yet", { status: 500, warnings: [] });
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

  async #answerPart(message: DescribedMessage, remote: KeyedDescription): Promise<AnsweredPart | undefined> {
    const { section, lines, octets, protocols } = message;
    const group = this.#groups.get(section);
    const scope = `${this.#scope()} ${section}`;
    const ssrcs = lines.map((index) => this.#facts.ssrcFor?.(index) ?? 0);
    if (group !== undefined) {
      const renewal = await group.media.acceptRenewal(octets, { streamCount: lines.length, ssrcs, scope, sdpIds: protocols });
      const { response } = renewal;
      const [commit, rollback] =
        renewal.kind === "new" ? [() => renewal.commit(), () => renewal.rollback()] : [() => undefined, () => undefined];
      return { section, lines, media: group.media, response, commit, rollback };
    }
    this.#checkCaller(octets);
    const { keying } = this.#endpoint.options;
    const answer = await keying.answer(octets, {
      secure: this.#facts.secure ?? false,
      ssrcs,
      scope,
      sdpIds: protocols,
      peerId: sipIdentity(this.#facts.remote),
    });
    const media = answer.kind === "new" ? answer.media : this.#endpoint.unpark(this.#scope(), section);
    if (media === undefined) throw new MikeyError("mikey.replay", "the key message was answered before, for a call that has gone");
    if (remote.lines.every(({ keys }) => keys?.section !== section)) {
      // Nothing is keyed by it, but it had to be processed (RFC 4567 §4.1.2).
      const { response } = answer;
      media.close();
      return response === undefined
        ? undefined
        : { section, lines: [], media, response, commit: () => undefined, rollback: () => undefined };
    }
    const rollback = (): void => this.#endpoint.park(this.#scope(), section, media);
    return { section, lines, media, response: answer.response, commit: () => undefined, rollback };
  }

  /** Who calls is who the keys say: otherwise anyone with a credential could call under another's name. */
  #checkCaller(octets: Uint8Array): void {
    const id = decodeMessage(octets, { trailing: "keep" }).payloads.find((payload) => payload.kind === "ID");
    if (id?.kind !== "ID" || namesParty({ idType: id.idType, data: id.data }, this.#facts.remote)) return;
    throw new SipRefusal("sip.identity", "the key message is of another party than the request");
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
    this.#exchange = undefined;
    if (exchange === undefined) return;
    if (exchange.by === "us") for (const part of exchange.parts) part.abandon();
    else for (const part of exchange.parts) part.rollback();
    if (this.#groups.size === 0 && this.#family.branches.size === 0)
      for (const stream of this.#family.streams) stream.forgetEarly();
  }

  /** The MIKEY error of a refusal, verified against what was offered where it can be. */
  async #errorIn(body: ReceivedBody | undefined, parts: readonly OfferedPart[]): Promise<Omit<RefusalAdvice, "retry">> {
    const nothing = { errorNos: [], authenticated: false };
    try {
      const octets = refusalMessage(body);
      if (octets === undefined || decodeMessage(octets).header.dataType !== DataType.ERROR) return nothing;
      for (const part of parts) {
        try {
          await part.accept(octets);
        } catch (error) {
          if (error instanceof MikeyPeerError) return reportOf(error);
          if (!(error instanceof WatchwordError)) throw error;
        }
      }
      const { crypto = defaultCrypto } = this.#endpoint.options.keying.options;
      const error = peerErrorOf(crypto, octets);
      return error === undefined ? nothing : reportOf(error);
    } catch (error) {
      if (error instanceof WatchwordError) return nothing;
      throw error;
    }
  }
}
