import { formatHex, WatchwordError } from "../bytes/index.js";
import type { KeyedBy, KeyedMedia, KeyedStream, ProofVerdict } from "../gsa/index.js";
import type { Clock, Endpoint, Logger, Timer, Timers } from "../io/index.js";
import type { KeyMgmtSpec } from "../sdp/index.js";
import type { MediaCarrier } from "./carrier.js";
import { ClientTrack } from "./client-track.js";
import { emptyUriTolerated, type KeyingHabits } from "./keying.js";
import type { MediaTrack } from "./media.js";
import type { RtspHeaders, RtspResponse } from "./message.js";
import type { AnnouncedTrack, PublishedSource } from "./publishing.js";
import { acceptRekeys, rekeyByRequests } from "./rekey-requests.js";
import { looksLikeRtcp } from "./rtcp.js";
import { randomSequenceNumber, randomSsrc } from "./rtp-numbers.js";
import type { Scratch } from "./scratch.js";
import type { GroupStream } from "./server-group.js";

/** Why a session ended. */
export type SessionEnd = "teardown" | "timeout" | "connection-closed" | "slow-reader" | "server-closed" | "unpublished" | "failed";

/** RFC 2326 appendix A. */
export type SessionState = "ready" | "playing" | "recording" | "ended";

/** What can be seen of a session. */
export interface RtspSessionInfo {
  readonly id: string;
  readonly path: string;
  readonly user: string | undefined;
  readonly remote: Endpoint;
  readonly state: SessionState;
  /** Whether the client sends the media. */
  readonly publishes: boolean;
  readonly tracks: readonly RtspTrackInfo[];
}

/** What can be seen of one stream of a session. */
export interface RtspTrackInfo {
  readonly index: number;
  readonly transport: "udp" | "tcp" | "multicast";
  readonly keyedBy: "none" | KeyedBy;
  /** SRTP suite, undefined for plain RTP. */
  readonly suite: string | undefined;
  readonly fingerprint: string | undefined;
  /** Hexadecimal. */
  readonly mki: string | undefined;
  readonly tolerances: readonly string[];
  /** RTP packets and octets sent, headers included; received, where the client publishes. */
  readonly packets: number;
  readonly octets: number;
  /** RTP packets that a slow reader did not get. */
  readonly dropped: number;
  /** RTCP packets that the client sent and that were authentic. */
  readonly reports: number;
  /** RTCP packets that were not. */
  readonly authenticationFailures: number;
}

/** One stream of a session. */
export interface SessionTrack {
  readonly index: number;
  readonly track: MediaTrack;
  readonly carrier: MediaCarrier;
  /** Absolute control URI as the client knows it. */
  readonly uri: string;
  /** Undefined for plain RTP. One exchange may have keyed several tracks. */
  readonly media: KeyedMedia | undefined;
  /** Where the request departed from the standard and was allowed to. */
  readonly tolerances?: readonly string[];
  /** The stream is sent to a multicast group, not by the session. */
  readonly group?: GroupStream | undefined;
  /** The client sends on it while it plays. */
  readonly receive?: ((packet: Uint8Array) => void) | undefined;
}

/** A stream and what changes about it: a class, so that all of them have one shape, which the fan-out is several times as fast with. */
class TrackState implements SessionTrack {
  readonly index: number;
  readonly track: MediaTrack;
  readonly carrier: MediaCarrier;
  readonly uri: string;
  readonly media: KeyedMedia | undefined;
  readonly tolerances: readonly string[];
  readonly group: GroupStream | undefined;
  readonly stream: KeyedStream | undefined;
  /** What the client sends, where it publishes. */
  incoming: ClientTrack | undefined = undefined;
  /** Added to the source's sequence numbers; undefined until the next packet. */
  offset: number | undefined = undefined;
  /** Sequence number of the next packet in order. */
  next: number;
  packets = 0;
  octets = 0;
  dropped = 0;
  reports = 0;
  authenticationFailures = 0;

  constructor({ index, track, carrier, uri, media, tolerances, group }: SessionTrack, next: number) {
    this.index = index;
    this.track = track;
    this.carrier = carrier;
    this.uri = uri;
    this.media = media;
    this.tolerances = tolerances ?? [];
    this.group = group;
    this.stream = media?.streams[media.streams.length === 1 ? 0 : index];
    this.next = next;
  }
}

/** What a session needs of its server. */
export interface SessionContext {
  /** One that never jumps, whatever time it tells. */
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly random: (length: number) => Uint8Array;
  /** Memory for one packet at a time, shared by all sessions; room for what SRTP adds. */
  readonly scratch: Scratch;
  /** Sends a request to the client and waits for its answer. @throws WatchwordError `rtsp.timeout`, `rtsp.connection-closed` */
  readonly request: (method: string, uri: string, fields: RtspHeaders, body?: Uint8Array) => Promise<RtspResponse>;
  /** Called when streams have new keys. */
  readonly onRekey: (streams: number) => void;
  /** Called once when the session is over, its resources released. */
  readonly onEnd: (session: ServerSession, reason: SessionEnd, proof: ProofVerdict | undefined) => void;
}

/** Facts that do not change. */
export interface SessionFacts {
  readonly id: string;
  readonly path: string;
  /** Aggregate control URI as the client knows it. */
  readonly uri: string;
  readonly user: string | undefined;
  readonly remote: Endpoint;
  /** Milliseconds. */
  readonly timeout: number;
  /** How the client wants new keys carried. */
  readonly habits?: KeyingHabits;
  /** The client sends, and this becomes of it. Undefined where it plays. */
  readonly publish?: { readonly into: PublishedSource; readonly announced: readonly AnnouncedTrack[] };
}

/** How often a stream looks whether its key is used up: every 64 packets. */
const DUE_CHECK_MASK = 0x3f;
/** RFC 3550 §6.2: the least interval of reports. */
const REPORT_INTERVAL = 5000;
/** Milliseconds. */
const ABANDONED_AFTER = 10_000;
/** Longest packet of a source that is sent on. */
export const MAX_PACKET = 65_000;

/** One RTSP session of a server: its streams, their keys, its life (RFC 2326 appendix A.2). */
export class ServerSession {
  readonly facts: SessionFacts;
  readonly #context: SessionContext;
  readonly #tracks: TrackState[] = [];
  #state: SessionState = "ready";
  #played = false;
  #lastSeen: number;
  #rekeying: Promise<number> | undefined;
  #rekeyTimer: Timer | undefined;
  #reportTimer: Timer | undefined;

  constructor(facts: SessionFacts, context: SessionContext) {
    this.facts = facts;
    this.#context = context;
    this.#lastSeen = context.clock.now();
  }

  get state(): SessionState {
    return this.#state;
  }

  get tracks(): readonly SessionTrack[] {
    return this.#tracks;
  }

  get info(): RtspSessionInfo {
    const { id, path, user, remote } = this.facts;
    const tracks = this.#tracks.map((track): RtspTrackInfo => {
      const { index, carrier, media, stream, dropped, incoming } = track;
      const { packets, octets } = incoming?.statistics ?? track.group ?? track;
      const authenticationFailures = incoming?.statistics.authenticationFailures ?? track.authenticationFailures;
      const reports = incoming?.statistics.rtcpPackets ?? track.reports;
      return {
        index,
        transport: carrier.kind,
        keyedBy: media?.keyedBy ?? "none",
        suite: stream?.policy.suite,
        fingerprint: media?.fingerprint,
        mki: media?.mki === undefined ? undefined : formatHex(media.mki),
        tolerances: [...track.tolerances, ...(media?.tolerances ?? [])],
        packets,
        octets,
        dropped,
        reports,
        authenticationFailures,
      };
    });
    return { id, path, user, remote, state: this.#state, publishes: this.facts.publish !== undefined, tracks };
  }

  /** Notes a sign of life. */
  touch(): void {
    this.#lastSeen = this.#context.clock.now();
  }

  get expired(): boolean {
    return this.#context.clock.now() - this.#lastSeen > this.facts.timeout;
  }

  /** Set up, never played, and not heard of for so long that, with its connection gone, nobody will come back for it. */
  get abandoned(): boolean {
    return !this.#played && this.#context.clock.now() - this.#lastSeen > Math.min(ABANDONED_AFTER, this.facts.timeout);
  }

  addTrack(added: SessionTrack): void {
    const state = new TrackState(added, randomSequenceNumber(this.#context.random));
    this.#tracks.push(state);
    const { receive } = added;
    const { publish } = this.facts;
    if (publish !== undefined) {
      const ssrc = publish.announced[added.index]?.reportSsrc ?? 0;
      state.incoming = this.#receiveMedia(state, "recording", ssrc, publish.into);
    } else if (receive === undefined) {
      added.carrier.onRtcp = (packet) => this.#receiveRtcp(state, packet);
    } else {
      const ssrc = added.track.ssrc ?? randomSsrc(this.#context.random);
      state.incoming = this.#receiveMedia(state, "playing", ssrc, { rtp: (_index, packet) => receive(packet), rtcp: () => {} });
    }
  }

  /**
   * What the client sends: opened, handed on while it records or plays, and reported on.
   * @param ssrc of our reports
   */
  #receiveMedia(
    { index, uri, track, carrier, media, stream }: TrackState,
    during: "recording" | "playing",
    ssrc: number,
    into: Pick<PublishedSource, "rtp" | "rtcp">,
  ): ClientTrack {
    return new ClientTrack({
      index,
      uri,
      clockRate: track.clockRate,
      carrier,
      media,
      stream,
      ssrc,
      cname: "watchword",
      tolerances: [],
      now: () => this.#context.clock.now(),
      onRtp: (packet) => {
        this.touch();
        if (this.#state === during) into.rtp(index, packet);
      },
      onRtcp: (packet) => {
        this.touch();
        if (this.#state === during) into.rtcp(index, packet);
      },
    });
  }

  /** Takes what the client sends for what the path plays. */
  record(): void {
    const { publish } = this.facts;
    if (this.#state !== "ready" || publish === undefined) return;
    this.#state = "recording";
    this.#played = true;
    if (!publish.into.published) publish.into.begin(publish.announced.map(({ track }) => track));
    this.#startReports();
  }

  #startReports(): void {
    this.#reportTimer = this.#context.timers.every(REPORT_INTERVAL, () => {
      for (const { incoming } of this.#tracks) incoming?.sendReport();
    });
  }

  /** Takes one stream of several away. */
  removeTrack(index: number): void {
    const at = this.#tracks.findIndex((track) => track.index === index);
    if (at < 0) return;
    const [removed] = this.#tracks.splice(at, 1);
    removed?.carrier.close();
    if (!this.#tracks.some(({ media }) => media === removed?.media)) removed?.media?.close();
  }

  /** Keys that one exchange made for all streams, if there are such. */
  get mediaForAll(): KeyedMedia | undefined {
    return this.#tracks.find(({ media }) => (media?.streams.length ?? 0) > 1)?.media;
  }

  /** RFC 2326 §12.33: the sequence number that each stream will start with. */
  get nextSequences(): readonly { readonly uri: string; readonly sequence: number }[] {
    return this.#tracks.flatMap(({ uri, next, group, incoming }) =>
      incoming === undefined ? [{ uri, sequence: group?.next ?? next }] : [],
    );
  }

  /** @param rekeyEvery seconds, 0 for never */
  play(rekeyEvery: number): void {
    if (this.#state !== "ready") return;
    this.#state = "playing";
    this.#played = true;
    for (const track of this.#tracks) track.offset = undefined;
    if (this.#tracks.some(({ incoming }) => incoming !== undefined)) this.#startReports();
    if (rekeyEvery > 0) {
      this.#rekeyTimer = this.#context.timers.every(rekeyEvery * 1000, () => this.#rekeyQuietly());
    }
  }

  pause(): void {
    if (this.#state !== "playing" && this.#state !== "recording") return;
    this.#state = "ready";
    this.#rekeyTimer?.cancel();
    this.#reportTimer?.cancel();
  }

  /**
   * Sends one packet of the source. Sequence numbers are the session's own: they go on without a gap over PAUSE and PLAY
   * (RFC 2326 appendix B), which SRTP's rollover counter depends on.
   * @param packet at least 12 and at most `MAX_PACKET` octets, not in `scratch`; its sequence number is overwritten
   * @param sequence the source's
   */
  sendRtp(index: number, packet: Uint8Array, sequence: number): void {
    if (this.#state !== "playing") return;
    const track = this.#trackAt(index);
    if (track === undefined) return;
    track.offset ??= track.next - sequence;
    const own = (sequence + track.offset) & 0xffff;
    packet[2] = own >> 8;
    packet[3] = own & 0xff;
    const protectedPacket = this.#protect(track, packet, "rtp");
    if (protectedPacket === undefined) return;
    // Ahead of what was sent, and not a late packet of the source.
    if (((own - track.next) & 0xffff) < 0x8000) track.next = (own + 1) & 0xffff;
    if (!track.carrier.sendRtp(protectedPacket)) {
      track.dropped++;
      return;
    }
    track.packets++;
    track.octets += packet.length;
    if ((track.packets & DUE_CHECK_MASK) === 0) this.rekeyIfDue();
  }

  /** Sends one compound RTCP packet of the source, at most `MAX_PACKET` octets. */
  sendRtcp(index: number, packet: Uint8Array): void {
    if (this.#state !== "playing") return;
    const track = this.#trackAt(index);
    if (track === undefined) return;
    const protectedPacket = this.#protect(track, packet, "rtcp");
    if (protectedPacket !== undefined) track.carrier.sendRtcp(protectedPacket);
  }

  /**
   * Gives every stream that can take one a new key (docs/protocol.md §7).
   * @returns how many streams were rekeyed; 0 where the keys cannot be changed
   * @throws WatchwordError `rtsp.rekey` where the client refused or did not answer: the old keys stay in use
   */
  rekey(): Promise<number> {
    this.#rekeying ??= this.#rekey().finally(() => {
      this.#rekeying = undefined;
    });
    return this.#rekeying;
  }

  /** Whether the client is being given new keys. */
  get rekeying(): boolean {
    return this.#rekeying !== undefined;
  }

  /** Rekeys where a key has protected nearly all the packets that it may (RFC 3711 §9.2). */
  rekeyIfDue(): void {
    if (this.#state !== "playing" || this.#rekeying !== undefined) return;
    if (this.#tracks.some(({ media }) => media?.rekeyDue === true)) this.#rekeyQuietly();
  }

  #rekeyQuietly(): void {
    this.rekey().catch((error: unknown) => {
      this.#context.logger.warn("rekey failed", { session: this.facts.id, error: String(error) });
    });
  }

  async #rekey(): Promise<number> {
    const all = new Map<KeyedMedia, string>();
    for (const { media, uri } of this.#tracks) {
      if (media?.canRekey === true) all.set(media, media.streams.length > 1 ? this.facts.uri : uri);
    }
    const { habits, uri: uriOfAll, id } = this.facts;
    const send = async (uri: string, fields: RtspHeaders, body: Uint8Array | undefined): Promise<RtspResponse> => {
      const response = await this.#context.request("SET_PARAMETER", uri, [["Session", id], ...fields], body);
      if (response.status === 200) return response;
      throw new WatchwordError("rtsp.rekey", `the client answered ${response.status} to the new key`);
    };
    let count: number;
    try {
      const entries = [...all].map(([media, uri]) => ({ media, uri }));
      count = await rekeyByRequests(entries, { habits, uriOfAll, send });
    } catch (error) {
      if (error instanceof WatchwordError && error.code === "rtsp.rekey") throw error;
      throw new WatchwordError("rtsp.rekey", "the session keeps its old key", { cause: error });
    }
    if (count > 0) this.#context.onRekey(count);
    return count;
  }

  /**
   * Takes a rekey that the client initiated.
   * @param track index of the stream that the request addressed, where it was one: what a message without uri is for
   * @throws MikeyError, WatchwordError `rtsp.key-mgmt`, `rtsp.key-mgmt-context`
   */
  async acceptRekey(specs: readonly KeyMgmtSpec[], track?: number): Promise<readonly KeyMgmtSpec[]> {
    const { answers } = await acceptRekeys(specs, (uri) =>
      this.#mediaFor(uri === "" && emptyUriTolerated(this.facts.habits) ? undefined : uri, track),
    );
    return answers;
  }

  #mediaFor(uri: string | undefined, index: number | undefined): KeyedMedia | undefined {
    const named = this.#tracks.find((track) => (uri === undefined ? track.index === index : track.uri === uri));
    return (named ?? (this.#tracks.length === 1 ? this.#tracks[0] : undefined))?.media ?? this.mediaForAll;
  }

  /**
   * Judges a de-registration (docs/protocol.md §6.3): it refers to the exchange of the first m= line that was set up.
   * @returns undefined verdict where the session has no keys
   */
  acceptDeregistration(message: Uint8Array | undefined): {
    readonly verdict: ProofVerdict | undefined;
    readonly acknowledgement?: Uint8Array;
  } {
    const [first] = this.#tracks.toSorted((a, b) => a.index - b.index);
    if (first?.media === undefined) return { verdict: undefined };
    return first.media.acceptDeregistration(message);
  }

  /** Ends the session and releases everything; later calls do nothing. */
  end(reason: SessionEnd, proof?: ProofVerdict): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#rekeyTimer?.cancel();
    this.#reportTimer?.cancel();
    for (const { carrier, media } of this.#tracks) {
      carrier.close();
      media?.close();
    }
    this.#context.onEnd(this, reason, proof);
  }

  #trackAt(index: number): TrackState | undefined {
    // Of several streams mostly the first: sessions have few, and a call for every packet has to make nothing.
    for (const track of this.#tracks) if (track.index === index) return track;
    return undefined;
  }

  #protect(track: TrackState, packet: Uint8Array, kind: "rtp" | "rtcp"): Uint8Array | undefined {
    if (track.media === undefined) return packet;
    const { scratch } = this.#context;
    const sender = track.stream?.sender;
    if (sender === undefined) return undefined;
    try {
      const sealed = kind === "rtp" ? sender.protect(packet, scratch.octets) : sender.protectRtcp(packet, scratch.octets);
      return scratch.view(sealed);
    } catch (error) {
      if (!(error instanceof WatchwordError)) throw error;
      // A packet that repeats an index is lost; a key that has reached its end ends the session.
      if (error.code === "srtp.index-reuse" || error.code === "srtp.malformed" || error.code === "srtp.ssrc-limit")
        return undefined;
      this.#context.logger.error("session ended: media cannot be protected", { session: this.facts.id, code: error.code });
      this.end("failed");
      return undefined;
    }
  }

  #receiveRtcp(track: TrackState, packet: Uint8Array): void {
    if (!looksLikeRtcp(packet)) return;
    if (track.media === undefined) {
      track.reports++;
      this.touch();
      return;
    }
    const receiver = track.stream?.receiver;
    if (receiver === undefined) return;
    if (receiver.unprotectRtcp(packet, new Uint8Array(packet.length)) < 0) {
      // What other members on the same host send to the group arrives here too, under keys of theirs.
      if (track.group === undefined) track.authenticationFailures++;
      return;
    }
    track.reports++;
    this.touch();
  }
}
