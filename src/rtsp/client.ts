import { formatHex, utf8, WatchwordError } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import type { KeyedMedia, ProofVerdict } from "../gsa/index.js";
import {
  type Clock,
  type DatagramsFactory,
  type Logger,
  type Random,
  type Stream,
  silentLogger,
  type Timer,
  type Timers,
} from "../io/index.js";
import {
  createSdpEditor,
  type Description,
  type KeyMgmtSet,
  type MediaSection,
  type PotentialConfiguration,
  parseDescription,
  readKeyMgmt,
  readPotentialConfigurations,
} from "../sdp/index.js";
import { type Credentials, createAuthorizer } from "./authentication.js";
import type { MediaCarrier } from "./carrier.js";
import { baseUri, bodyText, type ClientAnswer, ClientConnection, RtspStatusError } from "./client-connection.js";
import {
  lineSecurity,
  type OfferedTransport,
  offerDatagrams,
  offerInterleaved,
  offerMulticast,
  type PreparedKeys,
  prepareKeys,
} from "./client-setup.js";
import { ClientTrack, type ClientTrackStatistics } from "./client-track.js";
import { parseSession, parseTokenList } from "./headers.js";
import { carriedKeyMgmt, carryKeyMgmt, soleMessage } from "./key-mgmt-carriage.js";
import { type ClientKeying, type KeyingStream, keyingFailure, keyMgmtUri } from "./keying.js";
import { BACKCHANNEL } from "./media.js";
import { header, headers, RTSP_VERSION_2, type RtspHeaders, type RtspRequest, type RtspResponse } from "./message.js";
import type { RtspLimits } from "./parser.js";
import { acceptRekeys, rekeyByRequests } from "./rekey-requests.js";
import { randomSsrc } from "./rtp-numbers.js";
import { formatTransport } from "./transport.js";
import { parseRtspUri, resolveControl } from "./uri.js";

/** How a client is made. Times in milliseconds. */
export interface RtspClientOptions {
  /** rtsp:// or rtsps://; user information in it is used where `credentials` is absent. */
  readonly url: string;
  /** Connected to the host and port of the URL, with TLS for rtsps. The client owns it from now on. */
  readonly stream: Stream;
  readonly clock: Clock;
  /** What silence is measured by: a clock that never jumps, whatever time it tells. Default `clock`. */
  readonly steady?: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly crypto: CryptoProvider;
  /** Without it only interleaved transport can be set up. */
  readonly datagrams?: DatagramsFactory;
  readonly credentials?: Credentials;
  /** Answer Basic authentication without TLS. Default false. */
  readonly allowOpenBasic?: boolean;
  /** How SAVP media is keyed. Without it only plain RTP is played; with it only keyed media is. */
  readonly keying?: ClientKeying;
  /** The From header: who asks, where there is no authentication (RFC 4567 §7). */
  readonly from?: string;
  /** Ask for the ONVIF backchannel: streams to send on are then described too, or the server answers 551. Default false. */
  readonly backchannel?: boolean;
  /** Default `watchword`. */
  readonly userAgent?: string;
  readonly logger?: Logger;
  readonly limits?: RtspLimits;
  /**
   * RTSP 1.0 (RFC 2326), 2.0 (RFC 7826, keys from the client in SETUP), or 2.0 where the server speaks it. Default 1.0: RTSP 2.0 is rare, and
   * old servers may not survive it.
   */
  readonly version?: "1.0" | "2.0" | "auto";
  /** Default 10 s. */
  readonly requestTimeout?: number;
  /** Name or address of the network interface to join multicast groups on. Default: the system's choice. */
  readonly multicastInterface?: string;
  /** Playing ends with an error when nothing authentic arrives for so long. Default 15 s; 0 never. */
  readonly mediaTimeout?: number;
  /** Plain RTP of one stream, by the index of its m= line. The octets are the callee's. */
  readonly onRtp?: (track: number, packet: Uint8Array) => void;
  readonly onRtcp?: (track: number, packet: Uint8Array) => void;
  /**
   * The same packets as they came, SRTP and SRTCP, once they proved authentic: for whoever hands them on sealed, with the keys of
   * `exportKeys`. Called before `onRtp` and `onRtcp`. The octets are not to be changed or kept.
   */
  readonly onSealedRtp?: (track: number, packet: Uint8Array) => void;
  readonly onSealedRtcp?: (track: number, packet: Uint8Array) => void;
  /** The session is over without the client's doing: why. Called at most once. */
  readonly onEnd?: (error: WatchwordError) => void;
  /** The server changed the keys of streams. */
  readonly onRekey?: (streams: number) => void;
  /** Milliseconds between new keys of our making while playing, where the server takes them. Default 0: when a key is used up. */
  readonly rekeyInterval?: number;
}

/** What DESCRIBE told. */
export interface DescribedPresentation {
  readonly description: Description;
  /** The text as received. */
  readonly sdp: string;
  readonly keyMgmt: KeyMgmtSet;
  /** What each m= line could be instead (RFC 5939). */
  readonly potential: readonly (PotentialConfiguration | undefined)[];
  /** URI of the whole presentation. */
  readonly uri: string;
  /** The server speaks docs/protocol.md. */
  readonly announced: boolean;
}

/** How a stream is carried. */
export type ClientTransport = "udp" | "tcp" | "multicast";

/** An RTSP 1.0 client for one presentation (RFC 2326 appendix A.1). Calls are made one after another. */
export interface RtspClient {
  /** Methods that the server says it has. */
  options(): Promise<readonly string[]>;
  /** @throws RtspStatusError, WatchwordError `rtsp.content`; CodecError of sdp */
  describe(): Promise<DescribedPresentation>;
  /**
   * Sets up one m= line.
   * @throws RtspStatusError (`rtsp.status-461` where another transport should be tried), WatchwordError `rtsp.state`, `rtsp.track`,
   * `rtsp.keying-required`, `rtsp.plain-refused`, `rtsp.key-mgmt`, `rtsp.transport-answer`, `rtsp.no-receiver-key`; MikeyError
   */
  setup(track: number, transport: ClientTransport): Promise<void>;
  play(): Promise<void>;
  /**
   * Sends plain RTP on a stream of the backchannel while playing. The packet's SSRC becomes ours.
   * @throws WatchwordError `rtsp.state`, `rtsp.track` for a stream that the server sends on, and of srtp
   */
  send(track: number, packet: Uint8Array): void;
  pause(): Promise<void>;
  /**
   * Ends the session, with a proof where the server understands it (docs/protocol.md §6), and closes the connection.
   * @returns what the acknowledgement proves; undefined where no proof was sent
   */
  teardown(): Promise<ProofVerdict | undefined>;
  /** Gives the server new keys, where keys of this client's making are in use. @returns streams rekeyed @throws WatchwordError `rtsp.rekey` */
  rekey(): Promise<number>;
  /** GET_PARAMETER without a body, or OPTIONS where the server has none: a sign of life. */
  keepAlive(): Promise<void>;
  readonly statistics: readonly ClientTrackStatistics[];
  /** Releases everything at once, without a word to the server. */
  close(): void;
}

/** One stream that is set up, and the exchange that keyed it. */
interface SetUpTrack {
  readonly track: ClientTrack;
  readonly media: KeyedMedia | undefined;
}

const MIKEY = "mikey";
/** RFC 2326 §12.37. */
const DEFAULT_SESSION_TIMEOUT = 60;
/** How often a multicast stream that cannot be opened is asked about. */
const REFRESH_INTERVAL = 2000;
/** RFC 3550 §6.2: the least interval of reports. */
const REPORT_INTERVAL = 5000;

/**
 * Creates a client on a connected stream.
 * @throws WatchwordError `rtsp.uri`, `rtsp.insecure-channel` for an rtsps URI over a channel without TLS
 */
export function createRtspClient(options: RtspClientOptions): RtspClient {
  return new Client(options);
}

class Client implements RtspClient {
  readonly #options: RtspClientOptions;
  readonly #logger: Logger;
  readonly #uri: string;
  readonly #connection: ClientConnection;
  readonly #cname: string;
  readonly #tracks = new Map<number, SetUpTrack>();
  /** Our SSRC on every m= line, for its reports. */
  #streams: readonly (KeyingStream & { readonly ssrc: number })[] = [];
  /** An exchange at session level serves every stream. */
  #aggregateMedia: KeyedMedia | undefined;
  #described: DescribedPresentation | undefined;
  #methods: readonly string[] | undefined;
  #session: { readonly id: string; readonly timeout: number } | undefined;
  #state: "init" | "ready" | "playing" | "ended" = "init";
  #timers: Timer[] = [];
  #reportTimer: Timer | undefined;
  #lastLife = { count: 0, at: 0 };
  #rekeying = false;
  #negotiated = false;
  /** Why the server said that it would end. */
  #lastWord: WatchwordError | undefined;

  constructor(options: RtspClientOptions) {
    const uri = parseRtspUri(options.url);
    this.#options = options;
    this.#logger = options.logger ?? silentLogger;
    this.#uri = uri.text;
    this.#cname = `${formatHex(options.random.bytes(6))}@watchword`;
    const credentials =
      options.credentials ?? (uri.user === undefined ? undefined : { user: uri.user, password: uri.password ?? "" });
    const { secure } = options.stream.channel;
    if (uri.secure && !secure) throw new WatchwordError("rtsp.insecure-channel", "an rtsps URI over a channel without TLS");
    const { crypto } = options;
    const authorizer =
      credentials === undefined
        ? undefined
        : createAuthorizer({ credentials, crypto, secure, allowOpenBasic: options.allowOpenBasic ?? false });
    this.#connection = new ClientConnection({
      stream: options.stream,
      timers: options.timers,
      userAgent: options.userAgent ?? "watchword",
      from: options.from,
      authorizer,
      limits: options.limits,
      requestTimeout: options.requestTimeout ?? 10_000,
      onRequest: (request) => this.#answer(request),
      onClose: (error) => this.#fail(this.#lastWord ?? error),
    });
    if (options.version === "2.0") this.#connection.version = RTSP_VERSION_2;
  }

  get statistics(): readonly ClientTrackStatistics[] {
    return [...this.#tracks.values()].map(({ track }) => track.statistics);
  }

  /** Finds out what the server speaks, once. */
  async #negotiate(): Promise<void> {
    if (this.#negotiated) return;
    if (this.#options.version === "auto") await this.#connection.negotiate(this.#uri);
    this.#negotiated = true;
  }

  async options(): Promise<readonly string[]> {
    await this.#negotiate();
    const response = await this.#connection.request("OPTIONS", this.#uri, this.#sessionHeader());
    this.#methods = headers(response, "Public").flatMap(parseTokenList);
    return this.#methods;
  }

  async describe(): Promise<DescribedPresentation> {
    await this.#negotiate();
    const response = await this.#connection.request("DESCRIBE", this.#uri, [["Accept", "application/sdp"], ...this.#require]);
    const type = header(response, "Content-Type")?.split(";")[0]?.trim().toLowerCase();
    if (type !== undefined && type !== "application/sdp") throw new WatchwordError("rtsp.content", "the description is not SDP");
    const sdp = bodyText(response);
    const description = parseDescription(sdp);
    const base = baseUri(response, this.#uri);
    // RFC 2326 §C.1.1: an absolute control URI at session level is the aggregate's, `*` is the base itself.
    const uri = resolveControl(base, description.control);
    const announced = createSdpEditor(sdp)
      .attributes({ section: "session", name: "x-watchword" })
      .some(({ value }) => value?.trim() === "1");
    const theirs = new Set(description.media.flatMap(({ ssrcs }) => ssrcs));
    this.#streams = description.media.map((_section, index) => ({ index, ssrc: this.#randomSsrc(theirs) }));
    const keyMgmt = readKeyMgmt(sdp);
    this.#described = { description, sdp, keyMgmt, potential: readPotentialConfigurations(sdp, keyMgmt), uri, announced };
    return this.#described;
  }

  async setup(index: number, transport: ClientTransport): Promise<void> {
    const described = this.#described;
    if (described === undefined || this.#state === "playing" || this.#state === "ended" || this.#tracks.has(index)) {
      throw new WatchwordError("rtsp.state", "SETUP comes after DESCRIBE, before PLAY, and once for a stream");
    }
    const section = described.description.media[index];
    if (section === undefined) throw new WatchwordError("rtsp.track", `the description has no stream ${index}`);
    const uri = resolveControl(described.uri, section.control);
    const ssrc = this.#streams[index]?.ssrc ?? 0;
    const { channel } = this.#options.stream;
    const { keying } = this.#options;
    const two = this.#connection.version === RTSP_VERSION_2;
    const { profile, lines, tolerances } = lineSecurity(
      keying,
      section.profile,
      // RFC 7826 appendix C.1.4.1: keys in a description are not for RTSP 2.0, where the client begins.
      two ? [] : (described.keyMgmt.effective[index] ?? []),
      two ? undefined : described.potential[index],
    );
    const prepare = (): Promise<PreparedKeys | undefined> =>
      prepareKeys({
        keying,
        lines,
        profile,
        index,
        streams: this.#streams,
        uri,
        aggregateUri: described.uri,
        channel,
        announced: described.announced,
        aggregateMedia: this.#aggregateMedia,
        shared: transport === "multicast",
      });
    let keys = await prepare();
    let carrier: MediaCarrier | undefined;
    try {
      const offered = await this.#offerTransport(transport, { ...section, profile }, described.description);
      let response: RtspResponse | undefined;
      try {
        while (response === undefined) {
          const { fields, body } = carryKeyMgmt(keys?.spec === undefined ? [] : [keys.spec]);
          const all: RtspHeaders = [
            ["Transport", formatTransport([offered.spec])],
            ...fields,
            ...this.#sessionHeader(),
            ...this.#require,
          ];
          try {
            response = await this.#connection.request("SETUP", uri, all, body);
          } catch (error) {
            if (!(error instanceof RtspStatusError)) throw error;
            const report = await keys?.refusal(error.response);
            if (keying?.climb?.(error.status, report) !== true) throw error;
            this.#logger.info("the server refused the key", { status: error.status, next: keying.profile });
            keys?.abandon();
            keys = await prepare();
          }
        }
      } catch (error) {
        offered.abandon();
        throw error;
      }
      carrier = await offered.complete(response);
      const value = header(response, "Session");
      if (value === undefined) throw new WatchwordError("rtsp.transport-answer", "the server named no session");
      const { id, timeout } = parseSession(value);
      if (this.#session !== undefined && this.#session.id !== id)
        throw new WatchwordError("rtsp.transport-answer", "the server changed the session");
      this.#session ??= { id, timeout: timeout ?? DEFAULT_SESSION_TIMEOUT };
      const media = await keys?.complete(response);
      if (this.#connection.closed) throw new WatchwordError("rtsp.connection-closed", "the connection ended during SETUP");
      const stream = media?.streams[media.streams.length === 1 ? 0 : index];
      if (media !== undefined && this.#isSent(index) && stream?.sender === undefined) {
        throw new WatchwordError("rtsp.no-sender-key", "the exchange gave no key for what the client sends");
      }
      if (media !== undefined && !this.#isSent(index) && stream?.receiver === undefined) {
        throw new WatchwordError("rtsp.no-receiver-key", "the exchange gave no key for what the server sends");
      }
      const map = section.rtpMaps.find(({ payloadType }) => String(payloadType) === section.formats[0]);
      const track = new ClientTrack({
        index,
        uri,
        clockRate: map?.clockRate ?? (section.kind === "video" ? 90_000 : 8000),
        carrier,
        media,
        stream,
        tolerances,
        ssrc,
        cname: this.#cname,
        now: () => this.#steadyNow(),
        onRtp: (packet) => this.#options.onRtp?.(index, packet),
        onRtcp: (packet) => this.#options.onRtcp?.(index, packet),
        onSealedRtp: (packet) => this.#options.onSealedRtp?.(index, packet),
        onSealedRtcp: (packet) => this.#options.onSealedRtcp?.(index, packet),
      });
      if (keys?.aggregate === true) this.#aggregateMedia = media;
      this.#tracks.set(index, { track, media });
      this.#state = "ready";
      if (this.#timers.length === 0) this.#startKeepAlive();
    } catch (error) {
      carrier?.close();
      keys?.abandon();
      throw error;
    }
  }

  #offerTransport(
    transport: ClientTransport,
    { profile, port, connection }: MediaSection,
    description: Description,
  ): OfferedTransport | Promise<OfferedTransport> {
    const { datagrams, stream, multicastInterface } = this.#options;
    if (transport === "tcp") return offerInterleaved(profile, this.#connection.channels);
    if (transport === "udp") return offerDatagrams(profile, datagrams, stream.channel);
    const { channel } = stream;
    const where = connection ?? description.connection;
    return offerMulticast(profile, { datagrams, channel, interface: multicastInterface, connection: where, port });
  }

  async play(): Promise<void> {
    if (this.#state !== "ready") throw new WatchwordError("rtsp.state", "PLAY comes after SETUP");
    // Packets may overtake the response.
    this.#state = "playing";
    try {
      await this.#request("PLAY", [["Range", "npt=now-"], ...this.#require]);
    } catch (error) {
      if (this.#state === "playing") this.#state = "ready";
      throw error;
    }
    this.#startTimers();
  }

  send(index: number, packet: Uint8Array): void {
    if (this.#state !== "playing") throw new WatchwordError("rtsp.state", "media is sent while playing");
    const entry = this.#tracks.get(index);
    if (entry === undefined || !this.#isSent(index))
      throw new WatchwordError("rtsp.track", `stream ${index} is not one to send on`);
    if (packet.length < 12) throw new WatchwordError("rtsp.format", "an RTP packet has at least 12 octets");
    entry.track.send(packet);
  }

  /** Whether a stream is one that the client sends on. */
  #isSent(index: number): boolean {
    return this.#options.backchannel === true && this.#described?.description.media[index]?.direction === "sendonly";
  }

  get #require(): RtspHeaders {
    return this.#options.backchannel === true ? [["Require", BACKCHANNEL]] : [];
  }

  async pause(): Promise<void> {
    if (this.#state !== "playing") throw new WatchwordError("rtsp.state", "PAUSE comes after PLAY");
    await this.#request("PAUSE", []);
    // The end of the session may have come with the answer.
    if (this.#state !== "playing") throw new WatchwordError("rtsp.connection-closed", "the session ended during PAUSE");
    this.#state = "ready";
    this.#stopTimers();
    this.#startKeepAlive();
  }

  async keepAlive(): Promise<void> {
    const method = this.#methods?.includes("GET_PARAMETER") === false ? "OPTIONS" : "GET_PARAMETER";
    try {
      await this.#request(method, []);
    } catch (error) {
      // A server without GET_PARAMETER took the request as a sign of life all the same; next time it gets OPTIONS.
      if (!(error instanceof RtspStatusError) || ![405, 501, 451].includes(error.status)) throw error;
      this.#methods = ["OPTIONS"];
    }
  }

  async teardown(): Promise<ProofVerdict | undefined> {
    const first = [...this.#tracks.entries()].toSorted(([a], [b]) => a - b)[0]?.[1].media;
    const request = this.#described?.announced === true ? first?.deregister() : undefined;
    const session = this.#session;
    const wasOver = this.#state === "ended";
    this.#stopTimers();
    try {
      if (session === undefined || wasOver) return undefined;
      this.#state = "ended";
      const fields: [string, string][] = [["Session", session.id]];
      const uri = this.#uriOfAll;
      const carriage = carryKeyMgmt(request === undefined ? [] : [{ protocol: MIKEY, uri, data: request }]);
      const response = await this.#connection.request("TEARDOWN", uri, [...fields, ...carriage.fields], carriage.body);
      if (request === undefined) return undefined;
      return first?.verifyAcknowledgement(soleMessage(response));
    } finally {
      this.#release();
      this.#connection.end();
    }
  }

  async rekey(): Promise<number> {
    if (this.#rekeying) throw new WatchwordError("rtsp.rekey", "a rekey is under way");
    this.#rekeying = true;
    try {
      const tracks = [...this.#tracks.values()].flatMap(({ track, media }) =>
        media?.canRekey === true && media !== this.#aggregateMedia ? [{ uri: track.options.uri, media }] : [],
      );
      const aggregate = this.#aggregateMedia?.canRekey === true ? [{ uri: this.#uriOfAll, media: this.#aggregateMedia }] : [];
      const habits = this.#options.keying?.habits;
      return await rekeyByRequests([...aggregate, ...tracks], {
        habits,
        uriOfAll: this.#uriOfAll,
        loneUri: (uri) => keyMgmtUri(habits, uri),
        send: (uri, fields, body) => this.#connection.request("SET_PARAMETER", uri, [...this.#sessionHeader(), ...fields], body),
      });
    } catch (error) {
      throw new WatchwordError("rtsp.rekey", "the session keeps its old key", { cause: error });
    } finally {
      this.#rekeying = false;
    }
  }

  close(): void {
    this.#state = "ended";
    this.#release();
    this.#connection.destroy();
  }

  #request(method: string, fields: RtspHeaders): Promise<RtspResponse> {
    return this.#connection.request(method, this.#uriOfAll, [...this.#sessionHeader(), ...fields]);
  }

  get #uriOfAll(): string {
    return this.#described?.uri ?? this.#uri;
  }

  #sessionHeader(): RtspHeaders {
    return this.#session === undefined ? [] : [["Session", this.#session.id]];
  }

  /** Unlike all that are known: one key may serve both directions (RFC 3711 §9.1). */
  #randomSsrc(taken: Set<number>): number {
    let ssrc = randomSsrc((length) => this.#options.random.bytes(length));
    while (taken.has(ssrc)) ssrc = (ssrc + 1) >>> 0;
    taken.add(ssrc);
    return ssrc;
  }

  /** Requests of the server: new keys, and signs of life. */
  async #answer(request: RtspRequest): Promise<ClientAnswer> {
    const session = header(request, "Session");
    const sameSession = session === undefined || parseSession(session).id === this.#session?.id;
    switch (request.method) {
      case "OPTIONS":
        return { status: 200, fields: [["Public", "OPTIONS, GET_PARAMETER, SET_PARAMETER"]] };
      case "GET_PARAMETER":
        return { status: !sameSession ? 454 : request.body.length > 0 ? 451 : 200, fields: [] };
      case "SET_PARAMETER":
        return sameSession ? this.#setParameter(request) : { status: 454, fields: [] };
      case "PLAY_NOTIFY":
        return sameSession ? this.#notified(request) : { status: 454, fields: [] };
      default:
        return { status: 501, fields: [["Allow", "OPTIONS, GET_PARAMETER, SET_PARAMETER"]] };
    }
  }

  /** RFC 7826 §13.5: only the end of the stream changes anything here. */
  #notified(request: RtspRequest): ClientAnswer {
    const reason = header(request, "Notify-Reason")?.trim().toLowerCase();
    if (reason === "end-of-stream") {
      this.#lastWord = new WatchwordError("rtsp.end-of-stream", "the server has nothing more to play");
      // Once it has its answer.
      this.#options.timers.after(0, () => this.#fail(this.#lastWord as WatchwordError));
    } else if (reason !== "media-properties-update" && reason !== "scale-change") return { status: 465, fields: [] };
    return { status: 200, fields: [] };
  }

  async #setParameter(request: RtspRequest): Promise<ClientAnswer> {
    try {
      const carried = carriedKeyMgmt(request, true);
      if (carried === undefined) return { status: request.body.length > 0 ? 451 : 200, fields: [] };
      const { answers, streams } = await acceptRekeys(carried.specs, (uri) => this.#mediaFor(uri ?? request.uri));
      this.#options.onRekey?.(streams);
      return { status: 200, ...carryKeyMgmt(answers, carried.form) };
    } catch (error) {
      this.#logger.warn("new keys refused", { code: (error as { code?: string }).code });
      const { status, reply } = keyingFailure(error, true);
      return { status, ...carryKeyMgmt(reply === undefined ? [] : [{ protocol: MIKEY, data: reply }]) };
    }
  }

  #mediaFor(uri: string): KeyedMedia | undefined {
    const entries = [...this.#tracks.values()];
    const named = entries.find(({ track }) => track.options.uri === uri);
    return named?.media ?? this.#aggregateMedia ?? (entries.length === 1 ? entries[0]?.media : undefined);
  }

  #startTimers(): void {
    if (this.#state !== "playing") return;
    this.#stopTimers();
    this.#startKeepAlive();
    this.#lastLife = { count: this.#signsOfLife(), at: this.#steadyNow() };
    this.#scheduleReports();
    const { mediaTimeout = 15_000 } = this.#options;
    if ([...this.#tracks.values()].some(({ track }) => track.options.carrier.kind === "multicast")) {
      this.#timers.push(this.#options.timers.every(REFRESH_INTERVAL, () => void this.#refreshKeys()));
    }
    if (mediaTimeout > 0) this.#timers.push(this.#options.timers.every(1000, () => this.#checkLife(mediaTimeout)));
    this.#startRekeying();
  }

  /** New keys of our making: by the interval, and before the packets of a key are used up (RFC 3711 §9.2). */
  #startRekeying(): void {
    const { rekeyInterval = 0, timers } = this.#options;
    const rekey = (): void => {
      this.rekey().catch((error: unknown) => this.#logger.warn("rekey failed", { error: String(error) }));
    };
    if (rekeyInterval > 0) this.#timers.push(timers.every(rekeyInterval, rekey));
    this.#timers.push(
      timers.every(1000, () => {
        if (!this.#rekeying && [...this.#tracks.values()].some(({ media }) => media?.rekeyDue === true)) rekey();
      }),
    );
  }

  /**
   * Asks for the keys of a multicast stream that arrives and cannot be opened: its key or its rollover counter changed unnoticed (ONVIF
   * Streaming Specification, multicast). The answer is good for now only and is not kept.
   */
  async #refreshKeys(): Promise<void> {
    for (const { track, media } of this.#tracks.values()) {
      if (media === undefined || track.options.carrier.kind !== "multicast" || !track.takeDeafness()) continue;
      try {
        const { uri } = track.options;
        const fields: RtspHeaders = [...this.#sessionHeader(), ["Content-Type", "text/parameters"]];
        const response = await this.#connection.request("GET_PARAMETER", uri, fields, utf8("mikey\r\n"));
        const data = carriedKeyMgmt(response, true)?.specs.find(({ protocol }) => protocol === MIKEY)?.data;
        if (data === undefined) throw new WatchwordError("rtsp.content", "the server named no key");
        await media.acceptCurrent(data);
      } catch (error) {
        this.#logger.warn("the keys of now are not to be had", { code: (error as { code?: string }).code });
      }
    }
  }

  #startKeepAlive(): void {
    if (this.#session === undefined) return;
    const every = Math.max(1000, Math.min(30_000, this.#session.timeout * 400));
    this.#timers.push(
      this.#options.timers.every(every, () => {
        this.keepAlive().catch((error: unknown) => {
          this.#fail(
            error instanceof WatchwordError
              ? error
              : new WatchwordError("rtsp.keep-alive", "no sign of life was possible", { cause: error }),
          );
        });
      }),
    );
  }

  /** RFC 3550 §6.2: at random between half and one and a half intervals. */
  #scheduleReports(): void {
    const [random = 0] = this.#options.random.bytes(1);
    this.#reportTimer = this.#options.timers.after(REPORT_INTERVAL * (0.5 + random / 256), () => {
      for (const { track } of this.#tracks.values()) track.sendReport();
      this.#scheduleReports();
    });
  }

  #steadyNow(): number {
    return (this.#options.steady ?? this.#options.clock).now();
  }

  #signsOfLife(): number {
    let count = 0;
    for (const { track } of this.#tracks.values()) count += track.signsOfLife;
    return count;
  }

  #checkLife(limit: number): void {
    const count = this.#signsOfLife();
    const now = this.#steadyNow();
    if (count !== this.#lastLife.count) this.#lastLife = { count, at: now };
    else if (now - this.#lastLife.at > limit) this.#fail(new WatchwordError("rtsp.media-timeout", `no media for ${limit} ms`));
  }

  #stopTimers(): void {
    for (const timer of this.#timers) timer.cancel();
    this.#timers = [];
    this.#reportTimer?.cancel();
  }

  /** The session ends without our doing. */
  #fail(error: WatchwordError): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#logger.warn("session over", { code: error.code, detail: error.message });
    this.#release();
    this.#connection.destroy();
    this.#options.onEnd?.(error);
  }

  #release(): void {
    this.#stopTimers();
    for (const { track, media } of this.#tracks.values()) {
      track.close();
      media?.close();
    }
    this.#aggregateMedia?.close();
  }
}
