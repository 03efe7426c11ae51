import { Command, InvalidArgumentError, Option } from "commander";
import { defaultCrypto } from "../crypto/index.js";
import { createMediaKeying } from "../gsa/index.js";
import type { Endpoint } from "../io/index.js";
import { identityNamed, type MikeyPolicy } from "../mikey/index.js";
import {
  createRtpSource,
  createToneSource,
  openFileLimit,
  type RtspService,
  startRtspService,
  systemClock,
  systemTimers,
} from "../node/index.js";
import { anyClientProfile, type PeerProfile, peerPolicy, peerProfile } from "../peers/index.js";
import {
  type Authenticator,
  createAuthenticator,
  createMikeyServerKeying,
  createPskDirectory,
  createPublishedSource,
  identityOf,
  type MediaProfile,
  type MediaSource,
  type MikeyServerKeyingOptions,
  type MulticastDelivery,
  maxConnectionsOf,
  nameOfIdentity,
  type Presentation,
  type PskDirectory,
  type PublishedSource,
  type Publishing,
  pskCredentialFor,
  type RtspServerEvent,
} from "../rtsp/index.js";
import type { SuiteName } from "../srtp/index.js";
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
import { untilStopped } from "./lifetime.js";
import {
  checkSuite,
  collectPsk,
  collectUser,
  integerBetween,
  type ProfileChoice,
  type Psk,
  parseEndpoint,
  parseGroup,
  parsePath,
  parseSeconds,
  parseSuite,
  profileOption,
  readPskFile,
  readTextFile,
  UsageError,
  type User,
} from "./options.js";

interface ServeOptions extends CredentialFlags {
  readonly listen: Endpoint;
  readonly path: string;
  readonly source: "tone" | "rtp" | "publish";
  readonly sdp?: string;
  readonly suite: SuiteName;
  readonly profile: ProfileChoice;
  readonly rtpProfile: "RTP/SAVP" | "RTP/SAVPF";
  readonly psk?: readonly Psk[];
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly user?: readonly User[];
  readonly publishUser?: readonly User[];
  readonly mki?: number;
  readonly rekey?: number;
  readonly rekeyForm?: PeerProfile["rekeyForm"];
  readonly keyLifetime?: number;
  readonly keyLevel?: PeerProfile["keyLevel"];
  readonly acap?: true;
  readonly allowNullKeying?: true;
  readonly multicast?: Endpoint;
  readonly ttl?: number;
  readonly interface?: string;
  readonly rekeyOnLeave?: true;
  readonly maxSessions?: number;
  readonly duration?: number;
}

/** Our name in ID payloads beside pre-shared keys; the client knows the key, the name only has to be the same throughout. */
export const SERVER_NAME = "watchword";

/** `watchword serve`: an RTSP(S) server that keys SRTP by MIKEY. */
export function serveCommand(): Command {
  const command = new Command("serve").description("serve a tone, or the plain RTP of any encoder, as SRTP keyed by MIKEY in RTSP");
  return addCredentialOptions(command)
    .addOption(
      new Option("--listen <host:port>", "address to listen on; port 0 picks a free one")
        .argParser(parseEndpoint)
        .default({ host: "127.0.0.1", port: 8554 }, "127.0.0.1:8554"),
    )
    .option("--path <path>", "path of the stream", parsePath, "/live")
    .option(
      "--source <kind>",
      "tone (built in), rtp (with --sdp), or publish (what a client sends by ANNOUNCE and RECORD)",
      parseSource,
      "tone",
    )
    .option("--sdp <file>", "description of the plain RTP that an encoder sends to local ports")
    .option("--suite <name>", "SRTP suite", parseSuite, "AES_CM_128_HMAC_SHA1_80")
    .addOption(profileOption("what the clients need"))
    .option("--rtp-profile <name>", "RTP/SAVP or RTP/SAVPF", parseRtpProfile, "RTP/SAVP")
    .option("--psk <id:hex>", "pre-shared key of a client; repeatable", collectPsk)
    .option("--psk-file <file>", "file of ID:HEX lines", readPskFile)
    .option("--ca <file>", "PEM certificates of the issuers to trust for certificates of clients", readTextFile)
    .option("--tls-cert <file>", "PEM certificate chain; makes it rtsps://", readTextFile)
    .option("--tls-key <file>", "PEM private key", readTextFile)
    .option(
      "--user <name:password>",
      "require RTSP authentication; repeatable. The name also says which pre-shared key is meant",
      collectUser,
    )
    .option("--publish-user <name:password>", "who may publish, with --source publish; repeatable (default: --user)", collectUser)
    .option(
      "--mki <octets>",
      "length of the master key identifier, 0 for none (default: as the profile says)",
      integerBetween(0, 128),
    )
    .option("--rekey <seconds>", "new keys while playing, this often", parseSeconds)
    .addOption(
      new Option(
        "--rekey-form <form>",
        "where SET_PARAMETER carries new keys; also to clients whose profile says that they take none",
      ).choices(["header", "mikey", "KeyMgmt"]),
    )
    .option("--key-lifetime <packets>", "most packets under one key: a new one comes before", integerBetween(16, 2 ** 48))
    .addOption(
      new Option("--key-level <level>", "where the description has the key message (default: as the profile says)").choices([
        "session",
        "media",
      ]),
    )
    .option("--acap", "describe the keys as capabilities (RFC 5939) beside RTP/AVP")
    .option("--allow-null-keying", "hand out keys in the clear where there is neither TLS nor a pre-shared key")
    .option(
      "--multicast <group[:port]>",
      "send once to a multicast group, under one key for all who may listen (port: 5004)",
      parseGroup,
    )
    .option("--ttl <hops>", "how far multicast goes (default: 1, this network)", integerBetween(0, 255))
    .option("--interface <name|address>", "network interface to multicast on")
    .option("--rekey-on-leave", "new key for the others when somebody leaves the multicast group")
    .option("--max-sessions <n>", "most sessions at a time", integerBetween(1, 1_000_000))
    .option("--duration <seconds>", "end after this time", parseSeconds)
    .addHelpText(
      "after",
      `
Examples:
  watchword keygen psk --id viewer > keys.txt
  watchword serve --psk-file keys.txt --rekey 60
  watchword serve --key camera.key --cert camera.pem --ca ca.pem --rekey 60
  watchword serve --key camera.key --cert camera.pem --ca ca.pem --psk-file keys.txt
  watchword serve --key camera.key --cert camera.pem --ca ca.pem --algorithms rfc3830
  watchword serve --profile gstreamer --allow-null-keying --path /gst
  watchword serve --profile auto --tls-cert cert.pem --tls-key key.pem --psk-file keys.txt
  watchword serve --source rtp --sdp camera.sdp --tls-cert cert.pem --tls-key key.pem --profile onvif
  watchword serve --source publish --publish-user studio:secret --profile gstreamer --tls-cert cert.pem --tls-key key.pem
  watchword serve --psk-file keys.txt --multicast 239.1.2.3:5004 --interface eth0 --rekey-on-leave

With --source rtp, camera.sdp holds for example:
  m=video 5004 RTP/AVP 96
  a=rtpmap:96 H264/90000
and an encoder sends there: ffmpeg -re -i film.mp4 -an -c:v copy -f rtp rtp://127.0.0.1:5004`,
    )
    .action(serve);
}

async function serve(options: ServeOptions): Promise<void> {
  checkTogether(options);
  const presentation = presentationFor(options, await loadKeyPair(options, status));
  const service = await startRtspService({
    host: options.listen.host,
    port: options.listen.port,
    presentations: [presentation],
    onEvent: report,
    onFailure: (error, remote) => status(`connection from ${remote.host} failed: ${error.message}`),
    ...(options.maxSessions === undefined ? {} : { maxSessions: options.maxSessions }),
    ...(options.tlsCert === undefined || options.tlsKey === undefined
      ? {}
      : { tls: { cert: options.tlsCert, key: options.tlsKey } }),
  });
  announce(service, options);
  checkConnections(service, options);
  const waiting = untilStopped(options.duration);
  await waiting.over;
  waiting.cancel();
  await service.close();
}

/** Said at the start and not when the first client is turned away. */
function checkConnections({ maxConnections }: RtspService, options: ServeOptions): void {
  if (maxConnections >= maxConnectionsOf(options)) return;
  status(
    `this process may open ${openFileLimit()} files: it takes ${maxConnections} connections at a time; raise the limit (ulimit -n) for more`,
  );
}

/** @throws UsageError for options that do not belong together */
function checkTogether(options: ServeOptions): void {
  checkCredentials(options, "several");
  const psks = pskOf(options);
  const keyed = psks.length > 0 || options.key !== undefined;
  if ((options.tlsCert === undefined) !== (options.tlsKey === undefined))
    throw new UsageError("--tls-cert and --tls-key go together");
  if (options.key === undefined && psks.some(({ id }) => id === SERVER_NAME))
    throw new UsageError(`"${SERVER_NAME}" is the server itself: name the key by whom it is shared with`);
  if ((options.source === "rtp") !== (options.sdp !== undefined)) throw new UsageError("--source rtp and --sdp FILE go together");
  if (!keyed && options.tlsCert === undefined && options.allowNullKeying !== true) {
    throw new UsageError(
      "nothing would protect the keys: give --psk or --psk-file, or --key, --cert and --ca, or --tls-cert and --tls-key, or, on a network that you trust, --allow-null-keying",
    );
  }
  if (options.source !== "publish" && options.publishUser !== undefined)
    throw new UsageError("--publish-user and --source publish go together");
  if (options.source === "publish" && publishers(options).length === 0 && !keyed)
    throw new UsageError("anybody could publish: give --publish-user or --user, or --psk or --psk-file");
  if (keyed && options.allowNullKeying === true) {
    throw new UsageError("a path with a credential never takes NULL keying; leave --allow-null-keying out");
  }
  const untold = options.mode?.find((mode) => mode !== "psk" && mode !== "pk");
  if (options.multicast !== undefined && untold !== undefined)
    throw new UsageError(`--multicast has one key for all: --mode ${untold} cannot tell it`);
  if (
    options.multicast !== undefined &&
    options.key !== undefined &&
    (options.mode === undefined || options.peerCert === undefined)
  )
    throw new UsageError("--multicast with --key goes together with --mode pk and --peer-cert");
  if (options.multicast === undefined) {
    for (const name of ["ttl", "interface", "rekeyOnLeave"] as const) {
      if (options[name] === undefined) continue;
      throw new UsageError(`--${name === "rekeyOnLeave" ? "rekey-on-leave" : name} goes together with --multicast`);
    }
  }
  const profile = profileOf(options);
  checkSuite(profile, options.suite);
  const rekeys = options.rekey !== undefined || options.rekeyOnLeave !== undefined;
  const told = rekeys || options.keyLifetime !== undefined || options.rekeyForm !== undefined;
  if (told && mkiLength(options) === 0) throw new UsageError("new keys need an MKI, so that packets tell which key they are under");
  if (!rekeys || keyed) return;
  if (profile.nullDirections === "answerer" && options.multicast === undefined) {
    throw new UsageError(`with --profile ${profile.name} the clients make the keys`);
  }
  if (profile.nullRekey === "never" && options.rekeyForm === undefined) {
    throw new UsageError(`${profile.title} take no new keys while playing; --rekey-form sends them all the same`);
  }
}

/** The profile of the messages that the clients read first. */
function profileOf({ profile, rekeyForm, psk, pskFile, key }: ServeOptions): PeerProfile {
  const open = psk === undefined && pskFile === undefined && key === undefined;
  const chosen = profile !== "auto" ? profile : open ? anyClientProfile() : peerProfile("strict");
  if (rekeyForm === undefined) return chosen;
  return { ...chosen, rekeyForm, nullRekey: chosen.nullRekey === "never" ? "replacement" : chosen.nullRekey };
}

/** Who may publish by name and password. */
function publishers({ publishUser, user }: ServeOptions): readonly User[] {
  return publishUser ?? user ?? [];
}

function mkiLength(options: ServeOptions): number {
  return options.mki ?? profileOf(options).mkiLength;
}

function presentationFor(options: ServeOptions, keyPair: KeyPairIdentity | undefined): Presentation {
  const published = options.source === "publish" ? createPublishedSource() : undefined;
  return keyedPresentation({
    path: options.path,
    source:
      published ?? (options.source === "tone" ? createToneSource() : createRtpSource({ sdp: readTextFile(options.sdp as string) })),
    ...(published === undefined ? {} : { publish: { into: published, publishers: publishers(options) } }),
    profile: options.rtpProfile,
    dialect: {
      ...profileOf(options),
      mkiLength: mkiLength(options),
      ...(options.keyLevel === undefined ? {} : { keyLevel: options.keyLevel }),
    },
    suite: options.suite,
    psks: pskOf(options),
    pskMode: pskMode(options),
    keyPolicy: keyPair?.policy ?? pskPolicy(options).policy,
    keyPair,
    alsoOpen: options.profile === "auto",
    capabilities: options.acap === true,
    ...(options.keyLifetime === undefined ? {} : { keyLifetime: options.keyLifetime }),
    allowNullKeying: options.allowNullKeying === true,
    users: options.user ?? [],
    ...(options.rekey === undefined ? {} : { rekeyInterval: options.rekey }),
    ...(options.multicast === undefined ? {} : { multicast: deliveryFor(options, options.multicast) }),
  });
}

function deliveryFor({ ttl, interface: device, rekeyOnLeave }: ServeOptions, { host, port }: Endpoint): MulticastDelivery {
  return {
    group: host,
    port,
    ...(ttl === undefined ? {} : { ttl }),
    ...(device === undefined ? {} : { interface: device }),
    ...(rekeyOnLeave === undefined ? {} : { rekeyOnLeave }),
  };
}

/** What one keyed path is made of. */
export interface KeyedPresentationOptions {
  readonly path: string;
  readonly source: MediaSource;
  readonly profile: MediaProfile;
  readonly dialect: PeerProfile;
  readonly suite: SuiteName;
  /** Beside a key pair or in place of it; neither: NULL keying. */
  readonly psks: readonly Psk[];
  readonly pskMode?: "PSK" | "DHHMAC";
  readonly keyPair?: KeyPairIdentity | undefined;
  /** What is acceptable of key messages. */
  readonly keyPolicy?: MikeyPolicy | undefined;
  readonly allowNullKeying?: boolean;
  /** Beside credentials: NULL keying too, inside TLS, for clients of any kind. */
  readonly alsoOpen?: boolean;
  /** Describe keys as capabilities (RFC 5939). */
  readonly capabilities?: boolean;
  /** Packets. */
  readonly keyLifetime?: number;
  readonly users?: readonly User[];
  /** Seconds. */
  readonly rekeyInterval?: number;
  readonly multicast?: MulticastDelivery;
  /** Who may publish into the source, keyed as who plays. */
  readonly publish?: { readonly into: PublishedSource; readonly publishers: readonly User[] };
}

/** A path whose sessions are keyed by MIKEY: by credentials where there are any, otherwise NULL-keyed. */
export function keyedPresentation(options: KeyedPresentationOptions): Presentation {
  const { dialect, psks, keyPair, keyPolicy, users = [] } = options;
  const directory = createPskDirectory(psks.map(({ id, key }) => [id, key]));
  const required = psks.length > 0 || keyPair !== undefined;
  const common = {
    clock: systemClock,
    timers: systemTimers,
    allowNullKeying: options.allowNullKeying ?? false,
    ...(options.keyLifetime === undefined ? {} : { keyLifetime: { rtp: options.keyLifetime } }),
  };
  const keying = createMediaKeying({
    ...common,
    dialect,
    requirePsk: required,
    identity: keyPair === undefined ? identityOf(SERVER_NAME) : identityNamed(keyPair.names[0] as string),
    findCredential: (identity) => {
      const psk = directory.find(nameOfIdentity(identity) ?? "");
      return psk === undefined ? undefined : { psk };
    },
    ...(keyPair === undefined ? {} : { keyPairs: [keyPair.keyPair] }),
    // A NULL-keyed client keys its RTCP itself and chooses the suite for that: rtspsrc always AES_CM_128_HMAC_SHA1_80. Everywhere else
    // what refuses a proposal says what to propose instead (RFC 3830 §5.1.1).
    policy: { ...keyPolicy, ...(required ? { suites: [options.suite] } : {}) },
  });
  const anyClient = anyClientProfile();
  const open =
    required && options.alsoOpen === true
      ? { keying: createMediaKeying({ ...common, dialect: anyClient }), policy: peerPolicy(anyClient, options.suite) }
      : undefined;
  return {
    path: options.path,
    source: options.source,
    profile: options.profile,
    keying: createMikeyServerKeying({
      keying,
      policy: peerPolicy(dialect, options.suite),
      // With two kinds of messages the habits are those of the stranger clients.
      habits: open === undefined ? dialect : { ...anyClient, rekeyForm: dialect.rekeyForm },
      level: dialect.keyLevel,
      ...credentialsOf(options, directory),
      ...(open === undefined ? {} : { open }),
    }),
    announce: dialect.privateAttributes,
    capabilities: options.capabilities ?? false,
    ...(users.length === 0 ? {} : { authenticator: authenticatorFor(users) }),
    ...(options.rekeyInterval === undefined ? {} : { rekeyInterval: options.rekeyInterval }),
    ...(options.multicast === undefined ? {} : { multicast: options.multicast }),
    ...(options.publish === undefined ? {} : { publish: publishingBy(options.publish) }),
  };
}

/** What clients are offered keys under. */
function credentialsOf(
  { psks, pskMode: mode, keyPair }: KeyedPresentationOptions,
  directory: PskDirectory,
): Partial<MikeyServerKeyingOptions> {
  if (keyPair !== undefined) {
    const byPsk = pskCredentialFor(directory, mode);
    return {
      credentialFor: (peer) => {
        const names = [peer.user, peer.from].filter((name) => name !== undefined);
        // Who is called by the name of a pre-shared key has that key; anybody else has to have a certificate.
        if (names.some((name) => directory.find(name) !== undefined)) return byPsk(peer);
        // A description is for somebody who has not announced anything yet: other signatures than RSA's have to wait.
        const credential = keyPair.standard ? keyPair.credentialFor(names, "DH") : undefined;
        return credential && { credential };
      },
    };
  }
  if (psks.length === 0) return {};
  return mode === "DHHMAC" ? { credentialFor: pskCredentialFor(directory, mode) } : { directory };
}

function publishingBy({ into, publishers }: NonNullable<KeyedPresentationOptions["publish"]>): Publishing {
  return { into, ...(publishers.length === 0 ? {} : { authenticator: authenticatorFor(publishers) }) };
}

function authenticatorFor(users: readonly User[]): Authenticator {
  const passwords = new Map(users.map(({ name, password }) => [name, password]));
  return createAuthenticator({
    realm: SERVER_NAME,
    crypto: defaultCrypto,
    clock: systemClock,
    password: (user) => passwords.get(user),
    basic: true,
  });
}

function announce(service: RtspService, options: ServeOptions): void {
  process.stdout.write(`listening ${service.url(options.path)}\n`);
  if (pskOf(options).length === 0 && options.key === undefined && options.tlsCert === undefined) {
    status("keys travel in the clear: anybody on the path can decrypt the media");
  }
}

/** One line per thing that happens, for people. */
function report(event: RtspServerEvent): void {
  switch (event.type) {
    case "refused":
      status(`refused ${event.method} ${event.uri}: ${event.status}${event.code === undefined ? "" : ` [${event.code}]`}`);
      return;
    case "ended":
      status(`session ${event.session.id} ended: ${event.reason}${event.proof === undefined ? "" : `, proof ${event.proof}`}`);
      return;
    case "rekeyed":
      status(`session ${event.session.id} rekeyed: ${keysText(event.session.tracks)}`);
      return;
    default:
      status(
        `session ${event.session.id} ${event.type}: ${event.session.user ?? event.session.remote.host}, ${keysText(event.session.tracks)}`,
      );
  }
}

function keysText(tracks: readonly { readonly suite: string | undefined; readonly fingerprint: string | undefined }[]): string {
  return tracks
    .map(({ suite, fingerprint }) => `${suite ?? "plain RTP"}${fingerprint === undefined ? "" : ` key ${fingerprint}`}`)
    .join("; ");
}

function status(line: string): void {
  process.stderr.write(`${line}\n`);
}

function parseSource(text: string): ServeOptions["source"] {
  if (text === "tone" || text === "rtp" || text === "publish") return text;
  throw new InvalidArgumentError("expected tone, rtp or publish");
}

function parseRtpProfile(text: string): ServeOptions["rtpProfile"] {
  if (text === "RTP/SAVP" || text === "RTP/SAVPF") return text;
  throw new InvalidArgumentError("expected RTP/SAVP or RTP/SAVPF");
}
