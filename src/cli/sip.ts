import { type Command, InvalidArgumentError, Option } from "commander";
import { WatchwordError } from "../bytes/index.js";
import type { OfferTerms } from "../gsa/index.js";
import type { Endpoint } from "../io/index.js";
import type { Credential } from "../mikey/index.js";
import {
  createRtpdumpWriter,
  createRtpSource,
  createToneSource,
  formatEndpoint,
  type MediaSink,
  systemClock,
  systemTimers,
} from "../node/index.js";
import type {
  CallEnd,
  CallMedia,
  RtpMediaStatistics,
  SipCall,
  SipTransportOptions,
  SipUserAgent,
  SipUserAgentOptions,
} from "../node/sip/index.js";
import type { MediaSource, MediaTrack } from "../rtsp/index.js";
import { createCredentialSipKeying, type SipKeying } from "../sip/index.js";
import type { SuiteName } from "../srtp/index.js";
import {
  addCredentialOptions,
  type CredentialFlags,
  checkCredentials,
  type KeyPairIdentity,
  loadKeyPair,
  prefersPsk,
  pskMode,
  pskOf,
  pskPolicy,
} from "./credentials.js";
import { describeError, errorObject } from "./errors.js";
import { openPlainOutput } from "./forwarding.js";
import {
  collectPsk,
  type Psk,
  parseEndpoint,
  parseSeconds,
  parseSuite,
  parseUser,
  readPskFile,
  readTextFile,
  UsageError,
  type User,
} from "./options.js";
import { describeProof } from "./play.js";
import { loadSip } from "./sip-js.js";

/** What `call` and `answer` have in common. */
export interface SipFlags extends CredentialFlags {
  readonly transport: SipTransportOptions["transport"];
  readonly proxy?: Proxy;
  readonly listen?: Endpoint;
  readonly address?: string;
  readonly user?: User;
  readonly register?: true;
  readonly psk?: readonly Psk[];
  readonly suite: readonly SuiteName[];
  readonly ca?: string;
  readonly insecure?: true;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly source: "tone" | "rtp" | "none";
  readonly sdp?: string;
  readonly out?: Output;
  readonly rekey?: number;
  readonly keepKeys?: true;
  readonly acap?: true;
  readonly duration?: number;
  readonly stats?: true;
  readonly json?: true;
}

type Output = { readonly kind: "rtp"; readonly target: Endpoint } | { readonly kind: "file"; readonly path: string };

/** A SIP server: an address, or the URL of a WebSocket. */
type Proxy = { readonly endpoint: Endpoint } | { readonly url: string };

/** The name of a pre-shared key that is for everybody who has none of its own; `watchword keygen psk` makes it so. */
const ANYBODY = "default";
const USER = "watchword";

export function addSipOptions(command: Command): Command {
  return addCredentialOptions(command)
    .option("--transport <kind>", "udp, tcp, tls or ws", parseTransport, "udp")
    .option("--proxy <where>", "HOST:PORT of the SIP server to go through, or ws://… or wss://… with --transport ws", parseProxy)
    .option(
      "--address <sip:uri>",
      "who we are (default: as --cert names us, or the name of --user at the proxy, or sip:watchword@ where we listen)",
      parseAddress,
    )
    .option("--user <name:password>", "digest authentication at the SIP server", parseUser)
    .option("--register", "register with the SIP server")
    .option(
      "--psk <who:hex>",
      "key shared with a party: its SIP address or user name, or `default` for anybody; repeatable",
      collectPsk,
    )
    .option("--psk-file <file>", "file of WHO:HEX lines", readPskFile)
    .addOption(
      new Option("--suite <names>", "SRTP suites, in the order of preference, with commas between")
        .argParser((text) => text.split(",").map((name) => parseSuite(name.trim())))
        .default(["AES_CM_128_HMAC_SHA1_80"], "AES_CM_128_HMAC_SHA1_80"),
    )
    .option(
      "--ca <file>",
      "PEM certificates of the issuers to trust: in TLS instead of the system's, and for the other party's key messages",
      readTextFile,
    )
    .option("--insecure", "accept any certificate")
    .option("--source <kind>", "what to send: tone (built in), rtp (with --sdp) or none", parseSource, "tone")
    .option("--sdp <file>", "description of the plain RTP that an encoder sends to local ports")
    .option("--out <where>", "what comes in: rtp://HOST:PORT, with an SDP file beside it, or FILE.rtpdump", parseOutput)
    .option("--rekey <seconds>", "new keys during the call, this often", parseSeconds)
    .option(
      "--keep-keys",
      "go on under the old keys where the other party refuses new ones (default: hang up, as RFC 4567 demands)",
    )
    .option(
      "--acap",
      "offer SRTP and its keys as capabilities (RFC 5939) beside RTP/AVP; an answer in the clear is refused all the same",
    )
    .option("--stats", "print a line every second")
    .option("--json", "print one JSON object per call on standard output");
}

/** @throws UsageError for options that do not belong together */
export function checkSipOptions(flags: SipFlags): void {
  const { transport, proxy } = flags;
  checkCredentials(flags, "several");
  if (pskOf(flags).length === 0 && flags.key === undefined)
    throw new UsageError("nothing would protect the keys: give --psk or --psk-file, or --key, --cert and --ca");
  if ((flags.source === "rtp") !== (flags.sdp !== undefined)) throw new UsageError("--source rtp and --sdp FILE go together");
  if ((flags.tlsCert === undefined) !== (flags.tlsKey === undefined)) throw new UsageError("--tls-cert and --tls-key go together");
  if (transport === "ws" && proxy === undefined) throw new UsageError("--transport ws needs --proxy ws://HOST:PORT");
  if (transport !== "ws" && proxy !== undefined && "url" in proxy)
    throw new UsageError(`--proxy ${proxy.url} goes with --transport ws`);
  if (flags.register === true && proxy === undefined) throw new UsageError("--register needs --proxy");
}

/**
 * Starts a user agent as the flags say.
 * @param towards a party that is called without a proxy: says which of our addresses to use
 */
export async function startAgent(
  flags: SipFlags,
  towards: Endpoint | undefined,
  callbacks: Pick<SipUserAgentOptions, "onCall" | "onKeyed" | "onDisconnect">,
): Promise<SipUserAgent> {
  const { startSipUserAgent, localHostTowards } = await loadSip();
  const { transport, proxy, user, listen } = flags;
  const server = proxy === undefined ? undefined : "url" in proxy ? endpointOfUrl(proxy.url) : proxy.endpoint;
  const goal = server ?? towards;
  const mediaHost =
    listen !== undefined && !isWildcard(listen.host)
      ? listen.host
      : goal === undefined
        ? "127.0.0.1"
        : await localHostTowards(goal);
  const keyPair = await loadKeyPair(flags, status);
  const address = flags.address ?? certifiedAddress(flags, keyPair, server, mediaHost) ?? defaultAddress(flags, server, mediaHost);
  const agent = await startSipUserAgent({
    address,
    transport: {
      transport,
      local: { host: listen?.host ?? mediaHost, port: listen?.port ?? 0 },
      publicHost: mediaHost,
      ...connectionOf(flags, server, towards),
      ...(transport !== "ws" || proxy === undefined
        ? {}
        : { url: "url" in proxy ? proxy.url : `ws://${formatEndpoint(proxy.endpoint)}` }),
      tls: tlsOf(flags),
    },
    ...(server === undefined || transport === "ws"
      ? {}
      : { route: [`sip:${hostOf(server)}:${server.port};transport=${transport};lr`] }),
    ...(user === undefined ? {} : { credentials: { user: user.name, password: user.password } }),
    keying: (own) => keyingOf(own, flags, keyPair),
    mediaHost,
    onMediaError: (error) => status(describeError(error)),
    onRegistration: (event) =>
      status(
        event.state === "registered"
          ? `registered ${address} again`
          : `not registered any more: ${describeError(event.error)}; trying again in ${Math.round(event.retryIn / 1000)} s`,
      ),
    onRetry: (target, refusal, terms) => status(`${describeError(refusal)}; calling ${target} once more, ${describeTerms(terms)}`),
    ...callbacks,
  });
  if (flags.register === true) {
    try {
      await agent.register();
      status(`registered ${address}`);
    } catch (error) {
      await agent.close();
      throw error;
    }
  }
  return agent;
}

function describeTerms({ withoutHello, policy }: OfferTerms): string {
  const parts = [...(withoutHello ? ["without HELLO"] : []), ...(policy === undefined ? [] : [`with ${policy.suite}`])];
  return parts.join(" and ");
}

/** At a server the user's, otherwise where we are reached; port 0 stands for the one that will be bound. */
function defaultAddress({ user, listen }: SipFlags, server: Endpoint | undefined, host: string): string {
  if (server !== undefined) return `sip:${user?.name ?? USER}@${hostOf(server)}`;
  return `sip:${user?.name ?? USER}@${hostOf({ host, port: 0 })}:${listen?.port ?? 0}`;
}

/**
 * As our certificate names us; without a SIP server between, at the port where we are reached, if it is this host that the certificate names.
 * @throws UsageError where it names no user
 */
function certifiedAddress(
  { listen }: SipFlags,
  keyPair: KeyPairIdentity | undefined,
  server: Endpoint | undefined,
  host: string,
): string | undefined {
  if (keyPair === undefined) return undefined;
  const named = keyPair.names.map((text) => /^sips?:([^@]+)@(\[[^\]]*\]|[^:;?]+)/i.exec(text)).find((match) => match !== null);
  if (named === undefined)
    throw new UsageError("--cert names no SIP address: issue it with --uri sip:USER@HOST, or give --address");
  const [name = "", user = "", at = ""] = named;
  const here = server === undefined && at.toLowerCase() === hostOf({ host, port: 0 })?.toLowerCase();
  return here ? `sip:${user}@${at}:${listen?.port ?? 0}` : name;
}

/** What TCP and TLS stay connected to. A caller over TLS without a certificate listens nowhere: the other party is reached, and reaches it, by this. */
function connectionOf({ transport, tlsCert }: SipFlags, server: Endpoint | undefined, towards: Endpoint | undefined) {
  const proxy = server ?? (transport === "tls" && tlsCert === undefined ? towards : undefined);
  return proxy === undefined ? {} : { proxy };
}

function tlsOf({ ca, insecure, tlsCert, tlsKey }: SipFlags) {
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(insecure === undefined ? {} : { insecure }),
    ...(tlsCert === undefined || tlsKey === undefined ? {} : { credentials: { cert: tlsCert, key: tlsKey } }),
  };
}

/** Keys under the SIP addresses of both parties: by a pre-shared key, or by our key pair. */
function keyingOf(address: string, flags: SipFlags, keyPair: KeyPairIdentity | undefined): SipKeying {
  const psks = new Map(pskOf(flags).map(({ id, key }) => [id.replace(/^sips:/i, "sip:"), key]));
  const findPsk = (party: string): Uint8Array | undefined => namesOf(party).flatMap((name) => psks.get(name) ?? [])[0];
  const find = (party: string): Credential | undefined => {
    const psk = findPsk(party);
    const byPsk = psk && { psk, mode: pskMode(flags) };
    const byKeyPair = keyPair?.credentialFor(namesOf(party), flags.peerCert === undefined ? "DH" : "PK");
    return prefersPsk(flags) ? (byPsk ?? byKeyPair) : (byKeyPair ?? byPsk);
  };
  return createCredentialSipKeying({
    uri: address,
    credentials: { find, findPsk },
    keyPairs: keyPair === undefined ? [] : [keyPair.keyPair],
    // What refuses a proposal says what to propose instead, and what is proposed next is the next of these (RFC 3830 §5.1.1).
    keyPolicy: { ...(keyPair?.policy ?? pskPolicy(flags).policy), suites: flags.suite },
    clock: systemClock,
    timers: systemTimers,
    ...(flags.keepKeys === true ? { refusedRekey: "keep" as const } : {}),
    ...(flags.acap === true ? { offerAs: "capability" as const } : {}),
  });
}

/** What a key for this party may be called: its address with and without port, its user name, or the name that is for anybody. */
function namesOf(party: string): string[] {
  const match = /^sips?:(?:([^@]*)@)?(\[[^\]]*\]|[^:;?]*)(:\d+)?/i.exec(party);
  if (match === null) return [ANYBODY];
  const [, user, host = "", port = ""] = match;
  const plain = `sip:${user === undefined ? "" : `${user}@`}${host.toLowerCase()}`;
  return [`${plain}${port}`, plain, ...(user === undefined ? [] : [user]), ANYBODY];
}

/** Source and sink of a call. @param count calls before it, which its files must not overwrite */
export function mediaOf(flags: SipFlags, count = 0): CallMedia {
  const { out } = flags;
  const source = sourceOf(flags);
  return {
    ...(source === undefined ? {} : { source }),
    ...(out === undefined ? {} : { sink: (tracks: readonly MediaTrack[]) => openSink(out, tracks, count) }),
  };
}

function sourceOf({ source, sdp }: SipFlags): MediaSource | undefined {
  if (source === "none") return undefined;
  return source === "tone" ? createToneSource() : createRtpSource({ sdp: readTextFile(sdp as string) });
}

async function openSink(out: Output, tracks: readonly MediaTrack[], count: number): Promise<MediaSink> {
  if (out.kind === "file") {
    return createRtpdumpWriter({ path: count === 0 ? out.path : out.path.replace(/(\.rtpdump)$/, `-${count + 1}$1`) });
  }
  return openPlainOutput(out.target, tracks);
}

/** Says what a call is keyed with. */
export function reportKeys(call: SipCall): void {
  const { keys } = call;
  if (keys === undefined) return;
  const verb = call.rekeys === 0 ? "" : "rekeyed: ";
  status(
    `call with ${call.remote}: ${verb}${keys.suite}, key ${keys.fingerprint}, ${keys.mki === undefined ? "no MKI" : `MKI ${keys.mki}`}`,
  );
}

/** Rekeying and counting while a call stands; stops by itself when it ends. */
export function superviseCall(call: SipCall, { rekey, stats }: SipFlags): void {
  const renew = (): void => {
    call.rekey().catch((error: unknown) => {
      if (!isOver(error)) status(`rekey failed: ${describeError(error)}`);
    });
  };
  const timers = [
    ...(rekey === undefined ? [] : [systemTimers.every(rekey * 1000, renew)]),
    ...(stats === true ? [systemTimers.every(1000, () => status(describeTraffic(call.statistics)))] : []),
  ];
  void call.ended.then(() => {
    for (const timer of timers) timer.cancel();
  });
}

/** A rekey that met the end of the call is no failure. */
function isOver(error: unknown): boolean {
  return error instanceof WatchwordError && error.code === "node.sip-call";
}

/** Why a call broke. */
export function failureOf({ error }: CallEnd): Error {
  return error ?? new WatchwordError("cli.call", "the call broke off");
}

/** Reports a call that is over, for people and for programs. */
export function reportEnd(call: SipCall, end: CallEnd, seconds: number, flags: SipFlags): void {
  const { statistics, keys } = call;
  const total = (pick: (line: RtpMediaStatistics) => number): number => statistics.reduce((sum, line) => sum + pick(line), 0);
  status(`${describeTraffic(statistics)}; call with ${call.remote} ended by ${end.by}, ${describeProof(end.proof)}`);
  if (flags.json !== true) return;
  const summary = {
    remote: call.remote,
    direction: call.direction,
    packets: total(({ packets }) => packets),
    octets: total(({ octets }) => octets),
    lost: total(({ lost }) => lost),
    sent: total(({ sent }) => sent),
    authenticationFailures: total(({ refused }) => refused),
    suite: keys?.suite ?? null,
    mki: keys?.mki ?? null,
    keyedBy: keys?.keyedBy ?? null,
    fingerprint: keys?.fingerprint ?? null,
    rekeys: Math.max(0, call.rekeys),
    tolerances: keys?.tolerances ?? [],
    duration: Math.round(seconds * 1000) / 1000,
    endedBy: end.by,
    ...(end.by === "failure" ? { error: errorObject(failureOf(end)) } : {}),
    teardownProof: end.proof,
  };
  process.stdout.write(`${JSON.stringify(summary)}\n`);
}

/** Says to programs that there was no call. */
export function reportRefusal(remote: string, error: unknown): void {
  process.stdout.write(`${JSON.stringify({ remote, direction: "incoming", error: errorObject(error) })}\n`);
}

function describeTraffic(statistics: readonly RtpMediaStatistics[]): string {
  return statistics
    .map(
      ({ index, packets, lost, refused, sent }) =>
        `stream ${index}: ${packets} packets, ${lost} lost, ${refused} not authentic, ${sent} sent`,
    )
    .join("; ");
}

export function status(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Where a SIP URI leads; over TLS the port is another one (RFC 3261 §19.1.2). @throws InvalidArgumentError */
export function endpointOfAddress(uri: string, transport?: SipFlags["transport"]): Endpoint {
  const match = /^(sips?):(?:[^@\s]+@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?(?:[;?]\S*)?$/i.exec(uri);
  if (match === null) throw new InvalidArgumentError("expected a SIP address, for example sip:bob@example.org");
  const [, scheme = "", host = "", port] = match;
  const secure = transport === "tls" || scheme.toLowerCase() === "sips";
  return { host: host.replace(/^\[|\]$/g, ""), port: Number(port ?? (secure ? 5061 : 5060)) };
}

function parseAddress(text: string): string {
  endpointOfAddress(text);
  return text;
}

function endpointOfUrl(text: string): Endpoint {
  const { hostname, port, protocol } = new URL(text);
  return { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port || (protocol === "wss:" ? 443 : 80)) };
}

function parseTransport(text: string): SipFlags["transport"] {
  if (text === "udp" || text === "tcp" || text === "tls" || text === "ws") return text;
  throw new InvalidArgumentError("expected udp, tcp, tls or ws");
}

function parseOutput(text: string): Output {
  if (text.startsWith("rtp://")) return { kind: "rtp", target: parseEndpoint(text.slice("rtp://".length).replace(/\/$/, "")) };
  if (text.endsWith(".rtpdump")) return { kind: "file", path: text };
  throw new InvalidArgumentError("expected rtp://HOST:PORT or a file name that ends in .rtpdump");
}

function parseProxy(text: string): Proxy {
  if (/^wss?:\/\//.test(text) && URL.canParse(text)) return { url: text };
  return { endpoint: parseEndpoint(text) };
}

function parseSource(text: string): SipFlags["source"] {
  if (text === "tone" || text === "rtp" || text === "none") return text;
  throw new InvalidArgumentError("expected tone, rtp or none");
}

function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

function hostOf(endpoint: Endpoint | undefined): string | undefined {
  return endpoint?.host.includes(":") === true ? `[${endpoint.host}]` : endpoint?.host;
}
