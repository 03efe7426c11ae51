import { Command, InvalidArgumentError } from "commander";
import { formatHex, WatchwordError } from "../bytes/index.js";
import { defaultCrypto } from "../crypto/index.js";
import { createMediaKeying, type KeyExport, type MediaKeying, type ProofVerdict } from "../gsa/index.js";
import type { Endpoint } from "../io/index.js";
import { type Credential, identityNamed } from "../mikey/index.js";
import {
  connectRtspClient,
  createRtpdumpWriter,
  createRtpForwarder,
  type MediaSink,
  steadyClock,
  systemClock,
  systemTimers,
} from "../node/index.js";
import { type PeerProfile, peerPolicy } from "../peers/index.js";
import {
  type ClientKeying,
  type ClientTrackStatistics,
  type ClientTransport,
  createAutoClientKeying,
  createMikeyClientKeying,
  identityOf,
  type MediaTrack,
  mediaTracksOf,
  parseRtspUri,
  type RtspClient,
} from "../rtsp/index.js";
import type { SuiteName } from "../srtp/index.js";
import { type ExportFormat, exportFormats } from "../tools/index.js";
import {
  addCredentialOptions,
  type CredentialFlags,
  checkCredentials,
  type KeyPairIdentity,
  loadKeyPair,
  pskMode,
  pskOf,
  pskPolicy,
} from "./credentials.js";
import { openPlainOutput } from "./forwarding.js";
import { createKeyExporter, type KeyExporter } from "./key-exporter.js";
import { untilStopped } from "./lifetime.js";
import {
  checkSuite,
  integerBetween,
  type ProfileChoice,
  type Psk,
  parseEndpoint,
  parseExportFormat,
  parsePsk,
  parseSeconds,
  parseSuite,
  parseUser,
  profileOption,
  readPskFile,
  readTextFile,
  UsageError,
  type User,
} from "./options.js";
import { SERVER_NAME } from "./serve.js";

/** Milliseconds that keys wait for streams that do not send. */
const EXPORT_PATIENCE = 5000;

type Output = { readonly kind: "rtp" | "srtp"; readonly target: Endpoint } | { readonly kind: "file"; readonly path: string };

interface PlayFlags extends CredentialFlags {
  readonly transport: ClientTransport;
  readonly rtsp: "1.0" | "2.0" | "auto";
  readonly interface?: string;
  readonly profile: ProfileChoice;
  readonly psk?: Psk;
  readonly suite: SuiteName;
  readonly rekey?: number;
  readonly keyLifetime?: number;
  readonly allowNullKeying?: true;
  readonly ca?: string;
  readonly insecure?: true;
  readonly user?: User;
  readonly out?: Output;
  readonly export?: ExportFormat;
  readonly reveal?: true;
  readonly stats?: true;
  readonly duration?: number;
  readonly packets?: number;
  readonly json?: true;
}

/** `watchword play`: an RTSP(S) client that decrypts. */
export function playCommand(): Command {
  const command = new Command("play").description("play an RTSP(S) stream whose SRTP is keyed by MIKEY, and hand it on decrypted");
  return addCredentialOptions(command)
    .argument("<url>", "rtsp:// or rtsps://")
    .option("--transport <kind>", "udp, tcp or multicast", parseTransport, "udp")
    .option("--rtsp <version>", "1.0, 2.0, or auto: 2.0 where the server speaks it", parseVersion, "1.0")
    .option("--interface <name|address>", "network interface to receive multicast on")
    .addOption(profileOption("what the server needs"))
    .option("--psk <id:hex>", "our pre-shared key and the name that the server knows it by", parsePsk)
    .option("--psk-file <file>", "file of one ID:HEX line", readPskFile)
    .option("--suite <name>", "SRTP suite to propose where the server leaves the keys to us", parseSuite, "AES_CM_128_HMAC_SHA1_80")
    .option("--rekey <seconds>", "new keys this often, where the keys are ours and the server takes others", parseSeconds)
    .option("--key-lifetime <packets>", "most packets under one key of ours", integerBetween(16, 2 ** 48))
    .option("--allow-null-keying", "take keys that came in the clear")
    .option(
      "--ca <file>",
      "PEM certificates of the issuers to trust: in TLS instead of the system's, and for the server's key messages",
      readTextFile,
    )
    .option("--insecure", "accept any certificate")
    .option("--user <name:password>", "RTSP authentication", parseUser)
    .option(
      "--out <where>",
      "rtp://HOST:PORT, with an SDP file beside it, FILE.rtpdump, or, with --export, srtp://HOST:PORT",
      parseOutput,
    )
    .option(
      "--export <format>",
      `print the keys for another program instead of decrypting: ${exportFormats.join(", ")}`,
      parseExportFormat,
    )
    .option("--reveal", "with --export: yes, print keys")
    .option("--stats", "print a line every second")
    .option("--duration <seconds>", "end after this time", parseSeconds)
    .option("--packets <n>", "end after this many RTP packets", integerBetween(1, 1_000_000_000))
    .option("--json", "print one JSON object as the last line of standard output")
    .addHelpText(
      "after",
      `
Examples:
  watchword play rtsp://127.0.0.1:8554/live --psk viewer:8f2c… --stats
  watchword play rtsp://camera.example/live --key viewer.key --cert viewer.pem --ca ca.pem --rtsp 2.0
  watchword play rtsps://camera.example/stream --profile onvif --ca ca.pem --user viewer:secret --out rtp://127.0.0.1:5004
  watchword play rtsps://camera.example/stream --profile auto --ca ca.pem --json
  ffplay -protocol_whitelist file,udp,rtp watchword-5004.sdp
  watchword play rtsps://camera.example/stream --profile onvif --export ffmpeg --reveal --out srtp://127.0.0.1:5004 > camera.sdp
  ffplay -protocol_whitelist file,udp,rtp,srtp,crypto camera.sdp
  watchword play rtsp://127.0.0.1:8554/gst --profile gstreamer --allow-null-keying --out dump.rtpdump --packets 500`,
    )
    .action(play);
}

async function play(url: string, flags: PlayFlags): Promise<void> {
  parseRtspUri(url);
  checkSuite(flags.profile, flags.suite);
  if (flags.interface !== undefined && flags.transport !== "multicast") {
    throw new UsageError("--interface goes together with --transport multicast");
  }
  checkExport(flags);
  checkCredentials(flags);
  const [psk, ...others] = pskOf(flags);
  if (others.length > 0) throw new UsageError("a player has one pre-shared key");
  const started = steadyClock.now();
  // The server is who was addressed, not just anybody whom the same authority vouches for.
  const keyPair = await loadKeyPair(flags, status, [url]);
  const player = new Player(flags, { psk, keyPair });
  const verdict = await player.run(url, flags.transport);
  const seconds = (steadyClock.now() - started) / 1000;
  const summary = summarise(player.statistics, player.profile, verdict, seconds);
  status(`${summary.packets} packets, ${summary.octets} octets, ${summary.lost} lost; end ${describeProof(summary.teardownProof)}`);
  if (flags.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
}

/** @throws UsageError for options that do not belong together */
function checkExport({ export: format, reveal, out }: PlayFlags): void {
  if (format !== undefined && reveal !== true) throw new UsageError("--export prints keys: say so with --reveal");
  if (format === undefined && reveal === true) throw new UsageError("--reveal belongs to --export");
  if (format === undefined && out?.kind === "srtp")
    throw new UsageError("srtp:// hands packets on sealed; it needs --export, for who opens them");
  if (format !== undefined && out !== undefined && out.kind !== "srtp")
    throw new UsageError("with --export packets stay sealed: --out srtp://HOST:PORT");
}

/** One run: connects, plays until something ends it, leaves properly. */
class Player {
  readonly #flags: PlayFlags;
  readonly #keying: ClientKeying;
  #statistics: readonly ClientTrackStatistics[] = [];
  #sink: MediaSink | undefined;
  readonly #export: KeyExporter | undefined;
  #received = 0;
  #stop: (() => void) | undefined;
  #failure: WatchwordError | undefined;

  readonly #from: string | undefined;

  constructor(flags: PlayFlags, credentials: PlayerCredentials) {
    this.#flags = flags;
    this.#from = credentials.psk?.id ?? credentials.keyPair?.names[0];
    const { export: format, out } = flags;
    if (format !== undefined) {
      this.#export = createKeyExporter({
        format,
        ...(out?.kind === "srtp" ? { target: out.target } : {}),
        print: (text) => process.stdout.write(text),
      });
    }
    const exporter = this.#export;
    this.#keying = clientKeying({ ...flags, ...credentials }, exporter && ((keys) => exporter.keys(keys)));
  }

  /** What the server was taken for in the end. */
  get profile(): string | undefined {
    return this.#keying.profile;
  }

  get statistics(): readonly ClientTrackStatistics[] {
    return this.#statistics;
  }

  async run(url: string, transport: ClientTransport): Promise<ProofVerdict | undefined> {
    const client = await this.#connect(url);
    try {
      const described = await client.describe();
      const tracks = mediaTracksOf(described.description);
      this.#sink = await openSink(this.#flags.out, tracks);
      this.#export?.describe(tracks);
      for (const index of described.description.media.keys()) await client.setup(index, transport);
      for (const track of client.statistics) status(`stream ${track.index}: ${describeKeys(track)}`);
      const enough = new Promise<"packets">((resolve) => {
        this.#stop = () => resolve("packets");
      });
      await client.play();
      await this.#untilDone(client, enough);
      this.#statistics = client.statistics;
      if (this.#failure !== undefined) throw this.#failure;
      const verdict = await client.teardown();
      return verdict;
    } finally {
      client.close();
      this.#export?.close();
      await this.#sink?.close();
    }
  }

  #connect(url: string): Promise<RtspClient> {
    const { user, ca, insecure, rekey } = this.#flags;
    const exporter = this.#export;
    const forward = {
      rtp: (track: number, packet: Uint8Array) => this.#sink?.rtp(track, packet),
      rtcp: (track: number, packet: Uint8Array) => this.#sink?.rtcp(track, packet),
    };
    return connectRtspClient({
      url,
      version: this.#flags.rtsp,
      keying: this.#keying,
      ...(exporter === undefined ? { onRtcp: forward.rtcp } : { onSealedRtp: forward.rtp, onSealedRtcp: forward.rtcp }),
      onRtp: (track, packet) => {
        if (exporter === undefined) forward.rtp(track, packet);
        this.#received++;
        if (this.#received === this.#flags.packets) this.#stop?.();
      },
      onRekey: (streams) => status(`rekeyed ${streams} ${streams === 1 ? "stream" : "streams"}`),
      onEnd: (error) => {
        this.#failure = error;
        this.#stop?.();
      },
      ...(user === undefined ? {} : { credentials: { user: user.name, password: user.password } }),
      ...(this.#from === undefined ? {} : { from: this.#from }),
      ...(ca === undefined ? {} : { ca }),
      ...(insecure === undefined ? {} : { insecure }),
      ...(rekey === undefined ? {} : { rekeyInterval: rekey * 1000 }),
      ...(this.#flags.interface === undefined ? {} : { multicastInterface: this.#flags.interface }),
    });
  }

  async #untilDone(client: RtspClient, enough: Promise<unknown>): Promise<void> {
    const ticker = this.#flags.stats ? setInterval(() => status(describeTraffic(client.statistics)), 1000) : undefined;
    const started = steadyClock.now();
    const exporting =
      this.#export && setInterval(() => this.#printKeys(client, steadyClock.now() - started > EXPORT_PATIENCE), 100);
    const waiting = untilStopped(this.#flags.duration);
    await Promise.race([waiting.over, enough]);
    waiting.cancel();
    clearInterval(ticker);
    clearInterval(exporting);
    if (this.#failure === undefined) this.#printKeys(client, true);
  }

  #printKeys(client: RtspClient, late: boolean): void {
    try {
      this.#export?.update(client.statistics, late);
    } catch (error) {
      if (!(error instanceof WatchwordError)) throw error;
      this.#failure = error;
      this.#stop?.();
    }
  }
}

/** What a player is keyed by; neither: NULL keying. */
interface PlayerCredentials {
  readonly psk?: Psk | undefined;
  readonly keyPair?: KeyPairIdentity | undefined;
}

type KeyingFlags = Pick<PlayFlags, "profile" | "suite" | "keyLifetime" | "allowNullKeying" | "mode" | "peer"> & PlayerCredentials;

/** How a player is keyed: by its credential, or, where it has none, by NULL keying over what the flags allow. */
export function clientKeying(flags: KeyingFlags, exportKeys?: KeyExport): ClientKeying {
  const { profile, psk, keyPair, suite, keyLifetime, allowNullKeying, mode, peer } = flags;
  const exporting = exportKeys === undefined ? {} : { exportKeys };
  const keyed = psk !== undefined || keyPair !== undefined;
  const keyingFor = (dialect: PeerProfile): MediaKeying =>
    createMediaKeying({
      clock: systemClock,
      timers: systemTimers,
      dialect,
      // Who has a credential for this server does not take keys from anybody on the path.
      requirePsk: keyed,
      allowNullKeying: allowNullKeying ?? false,
      ...(psk === undefined
        ? {}
        : { identity: identityOf(psk.id), findCredential: () => ({ psk: psk.key }), ...pskPolicy({ mode }) }),
      ...(keyPair === undefined
        ? {}
        : { identity: identityNamed(keyPair.names[0] as string), keyPairs: [keyPair.keyPair], policy: keyPair.policy }),
      ...(keyLifetime === undefined ? {} : { keyLifetime: { rtp: keyLifetime } }),
    });
  const scope = formatHex(defaultCrypto.randomBytes(8));
  // RFC 7826 appendix C.1.4.1: RSA-R is the mode that every client and server of RTSP 2.0 has.
  const credential: Credential | undefined =
    psk === undefined ? keyPair?.credentialFor(peer ?? [], "RSA-R") : { psk: psk.key, mode: pskMode({ mode }) };
  // DHHMAC names its Responder (RFC 4650 §3): by default a server of ours.
  const responderId =
    psk !== undefined && pskMode({ mode }) === "DHHMAC" ? { responderId: identityNamed(peer?.[0] ?? SERVER_NAME) } : {};
  const beginning = credential === undefined ? {} : { credential, ...responderId };
  if (profile === "auto") {
    const onStep = (name: string): void => status(`keying as towards ${name}`);
    return createAutoClientKeying({ keyingFor, scope, suite, onStep, ...exporting, ...beginning });
  }
  const begins = keyed ? credential !== undefined : profile.nullDirections !== "each";
  return createMikeyClientKeying({
    keying: keyingFor(profile),
    scope,
    profile,
    preferPsk: keyed,
    ...exporting,
    ...(begins ? { initiate: { policy: peerPolicy(profile, suite), ...beginning } } : {}),
  });
}

async function openSink(out: Output | undefined, tracks: readonly MediaTrack[]): Promise<MediaSink | undefined> {
  if (out === undefined) return undefined;
  if (out.kind === "file") return createRtpdumpWriter({ path: out.path });
  if (out.kind === "rtp") return openPlainOutput(out.target, tracks);
  const forwarder = await createRtpForwarder({ target: out.target, tracks });
  status(`SRTP as it comes to ${out.target.host}:${out.target.port}`);
  return forwarder;
}

/** What `--json` prints. */
interface Summary {
  readonly packets: number;
  readonly octets: number;
  readonly lost: number;
  readonly authenticationFailures: number;
  readonly replays: number;
  readonly suite: string | null;
  readonly mki: string | null;
  /** The mode of MIKEY, or `null`. */
  readonly keyedBy: string | null;
  /** The peer profile that the server was keyed by, found by the ladder with `--profile auto`. */
  readonly profile: string | null;
  readonly tolerances: readonly string[];
  readonly duration: number;
  readonly teardownProof: ProofVerdict;
}

function summarise(
  tracks: readonly ClientTrackStatistics[],
  profile: string | undefined,
  verdict: ProofVerdict | undefined,
  seconds: number,
): Summary {
  const total = (pick: (track: ClientTrackStatistics) => number): number => tracks.reduce((sum, track) => sum + pick(track), 0);
  const [first] = tracks;
  return {
    packets: total(({ packets }) => packets),
    octets: total(({ octets }) => octets),
    lost: total(({ lost }) => lost),
    authenticationFailures: total(({ authenticationFailures }) => authenticationFailures),
    replays: total(({ replays }) => replays),
    suite: first?.suite ?? null,
    mki: first?.mki ?? null,
    keyedBy: first?.keyedBy ?? null,
    profile: profile ?? null,
    tolerances: [...new Set(tracks.flatMap(({ tolerances }) => tolerances))],
    duration: Math.round(seconds * 1000) / 1000,
    teardownProof: verdict ?? "absent",
  };
}

const KEYED_BY: Readonly<Record<ClientTrackStatistics["keyedBy"], string>> = {
  none: "without key",
  null: "NULL-keyed",
  psk: "by pre-shared key",
  pk: "by public key",
  dh: "by Diffie-Hellman",
  dhhmac: "by Diffie-Hellman under a pre-shared key",
  "rsa-r": "by RSA in reverse",
};

function describeKeys({ suite, keyedBy, fingerprint, mki, tolerances }: ClientTrackStatistics): string {
  const how = KEYED_BY[keyedBy];
  const tolerated = tolerances.length === 0 ? "" : `; tolerated: ${tolerances.join(", ")}`;
  return `${suite ?? "plain RTP"} ${how}, key ${fingerprint}, ${mki === undefined ? "no MKI" : `MKI ${mki}`}${tolerated}`;
}

function describeTraffic(tracks: readonly ClientTrackStatistics[]): string {
  return tracks
    .map(
      ({ index, packets, octets, lost, authenticationFailures, replays }) =>
        `stream ${index}: ${packets} packets, ${octets} octets, ${lost} lost, ${authenticationFailures} not authentic, ${replays} replays`,
    )
    .join("; ");
}

/** The verdict about the end, for people. */
export function describeProof(verdict: ProofVerdict): string {
  if (verdict === "verified") return "proven and acknowledged";
  return verdict === "absent" ? "without proof" : "acknowledged by a proof that is wrong";
}

function status(line: string): void {
  process.stderr.write(`${line}\n`);
}

export function parseVersion(text: string): PlayFlags["rtsp"] {
  if (text === "1.0" || text === "2.0" || text === "auto") return text;
  throw new InvalidArgumentError("expected 1.0, 2.0 or auto");
}

function parseTransport(text: string): PlayFlags["transport"] {
  if (text === "udp" || text === "tcp" || text === "multicast") return text;
  throw new InvalidArgumentError("expected udp, tcp or multicast");
}

function parseOutput(text: string): Output {
  if (text.startsWith("rtp://")) return { kind: "rtp", target: parseEndpoint(text.slice("rtp://".length).replace(/\/$/, "")) };
  if (text.startsWith("srtp://")) return { kind: "srtp", target: parseEndpoint(text.slice("srtp://".length).replace(/\/$/, "")) };
  if (text.endsWith(".rtpdump")) return { kind: "file", path: text };
  throw new InvalidArgumentError("expected rtp://HOST:PORT, srtp://HOST:PORT or a file name that ends in .rtpdump");
}
