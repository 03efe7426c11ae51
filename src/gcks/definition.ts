/** The policy of a group as its owner writes it (RFC 4046 §2, requirement 2): validated, and compiled to what members are told. */
import { utf8, WatchwordError } from "../bytes/index.js";
import { GKMA_NAMES, GKMA_VERSION, type GkmaName } from "../gkma/index.js";
import {
  type DataSaPolicy,
  type DeregistrationPolicy,
  GROUP_LIMITS,
  type GroupPolicies,
  type GroupPolicy,
  type MemberRole,
  type RekeyPolicy,
  type RekeySignature,
  retransmissionSpanMs,
} from "../gsa/index.js";
import { isMulticast } from "../io/index.js";
import { isSuiteName, type SrtpPolicy, suiteNames } from "../srtp/index.js";
import type { CarrierPeer, GroupDescription, GroupStreamDescription } from "./contracts.js";

/** Who may join, and as what. */
export interface AccessRule {
  /** An identity, or a pattern with `*` for any characters. */
  readonly identity: RegExp;
  /** The authority that has to vouch for its certificate, by its name in `GcksOptions.issuers`. Absent: whatever proved the identity. */
  readonly issuer?: string;
  readonly role: MemberRole;
}

/** A group, checked. */
export interface GroupDefinition {
  readonly name: string;
  readonly group: Uint8Array;
  readonly title?: string;
  /** The first rule that fits an identity says what it may do; nobody may who fits none. */
  readonly access: readonly AccessRule[];
  /** `same`: who registers has to be whom SIP or RTSP authenticated, by Digest, a client certificate of TLS, or both where both are there. */
  readonly carrierIdentity: "any" | "same";
  readonly streams: readonly GroupStreamDescription[];
  readonly data: readonly DataSaPolicy[];
  readonly rekey: Omit<RekeyPolicy, "verificationKey" | "tree"> | undefined;
  /** New keys when members join, when they leave. */
  readonly joins: "none" | "at-once" | "batched";
  readonly leaves: "none" | "at-once" | "batched";
  /** When senders use the new keys after an expulsion: who gets them a moment later than a sender misses packets, unless there is a delay. */
  readonly expulsions: "at-once" | "activation-delay";
  readonly batchIntervalMs: number;
  readonly membershipLifetime: number;
  readonly deregistration: DeregistrationPolicy;
  readonly deregistrationSpreadMs: number;
  readonly confirmation: boolean;
  readonly confirmationMs: number;
  /** An end of a dialog or session without proof counts as leaving. */
  readonly unprovenLeaves: boolean;
  readonly membershipsPerIdentity: number;
  readonly mostMembers: number;
  /** What members may see beside what they need. */
  readonly visible: ReadonlySet<"members" | "owner" | "senders" | "title">;
  readonly owner?: string;
}

const DAY = 86_400;
/** Without a tree every change is sent to each member: 28 octets each, in 35 members to a packet. */
const MOST_WITHOUT_TREE = 1024;

/**
 * Reads the definition of a group from plain data, as YAML or JSON have it.
 * @param path names the place in messages: `groups[0]`
 * @throws WatchwordError `gcks.definition` with the path of the field
 */
export function readGroupDefinition(value: unknown, path = "group"): GroupDefinition {
  const root = fields(value, path);
  const name = root.text("name");
  const group = utf8(name);
  if (group.length === 0 || group.length > GROUP_LIMITS.groupOctets) root.fail("name", "has 1 to 255 octets");
  const title = root.optional("title", (key) => root.text(key));
  const owner = root.optional("owner", (key) => root.text(key));
  const streams = root.list("streams", readStream, 1, 16);
  const rekey = root.optional("rekey", (key) => readRekey(root.value(key), root.path(key)));
  const suite = readSrtp(root);
  const data = root.optional("data", (key) =>
    root.list(key, (item, at) => readDataSa(item, at, suite), 1, GROUP_LIMITS.dataSas),
  ) ?? [defaultDataSa(suite, streams)];
  if (new Set(data.map(({ number }) => number)).size < data.length) root.fail("data", "two data SAs have one number");
  const visible = root.optional("visible", (key) => root.list(key, readVisible, 0, 4)) ?? [];
  const flat = rekey?.algorithm === "none";
  const definition: GroupDefinition = {
    name,
    group,
    ...(title === undefined ? {} : { title }),
    ...(owner === undefined ? {} : { owner }),
    access: root.list("members", readRule, 1, 10_000),
    carrierIdentity: root.choice("carrierIdentity", ["any", "same"], "any"),
    streams,
    data,
    rekey,
    joins: root.choice("rekeyOnJoin", ["none", "at-once", "batched"], "at-once"),
    leaves: root.choice("rekeyOnLeave", ["none", "at-once", "batched"], "at-once"),
    expulsions: root.choice("rekeyOnExpel", ["at-once", "activation-delay"], "at-once"),
    batchIntervalMs: root.milliseconds("batchInterval", 1000, GROUP_LIMITS.batchIntervalMs),
    membershipLifetime: root.seconds("membershipLifetime", 3600, GROUP_LIMITS.lifetime),
    deregistration: root.choice("deregistration", ["none", "one-way", "acknowledged"], "acknowledged"),
    deregistrationSpreadMs: root.milliseconds("deregistrationSpread", 0, GROUP_LIMITS.delayMs),
    confirmation: root.flag("confirmation", true),
    confirmationMs: root.milliseconds("confirmationTime", 32_000, { least: 4000, most: 600_000 }),
    unprovenLeaves: root.flag("unprovenLeaves", false),
    membershipsPerIdentity: root.integer("membershipsPerIdentity", 1, { least: 1, most: 1000 }),
    mostMembers: flat
      ? root.integer("mostMembers", MOST_WITHOUT_TREE, { least: 1, most: MOST_WITHOUT_TREE })
      : root.integer("mostMembers", 1_000_000, { least: 1, most: 16_000_000 }),
    visible: new Set(visible),
  };
  root.finish(["suite"]);
  if (rekey === undefined && (definition.joins !== "none" || definition.leaves !== "none"))
    root.fail("rekey", "is missing: without it rekeyOnJoin and rekeyOnLeave have to be none");
  if (rekey?.signature === "none" && definition.joins === "batched")
    root.fail("rekeyOnJoin", "is batched, which needs signed rekey messages (docs/protocol.md §15.2)");
  return definition;
}

/** What everybody is told of the group (docs/protocol.md §14), without what is one member's own. */
export function groupPolicies(
  definition: GroupDefinition,
  facts: { readonly verificationKey?: Uint8Array; readonly members: number },
): GroupPolicies & { readonly group: GroupPolicy } {
  const { rekey, visible, owner, title } = definition;
  return {
    group: {
      group: definition.group,
      access: {
        joins: definition.joins !== "none",
        leaves: definition.leaves !== "none",
        joinsBatched: definition.joins === "batched",
        leavesBatched: definition.leaves === "batched",
      },
      batchIntervalMs: definition.batchIntervalMs,
      deregistration: definition.deregistration,
      ...(definition.deregistrationSpreadMs === 0 ? {} : { deregistrationSpreadMs: definition.deregistrationSpreadMs }),
      confirmation: definition.confirmation,
      ...(owner !== undefined && visible.has("owner") ? { owner } : {}),
      ...(title !== undefined && visible.has("title") ? { title } : {}),
      ...(visible.has("members") ? { members: facts.members } : {}),
    },
    ...(rekey === undefined
      ? {}
      : { rekey: { ...rekey, ...(facts.verificationKey === undefined ? {} : { verificationKey: facts.verificationKey }) } }),
    data: definition.data,
  };
}

/** What descriptions tell (docs/protocol.md §23). */
export function describeGroup({ group, title, streams }: GroupDefinition): GroupDescription {
  return { group, streams, ...(title === undefined ? {} : { title }) };
}

/**
 * What an identity may do; undefined where it may not join.
 * @param vouches whether an authority vouches for the certificate that the identity was proved by
 */
export function roleFor(
  { access }: GroupDefinition,
  identity: string,
  vouches: (issuer: string) => boolean,
): MemberRole | undefined {
  return access.find((rule) => rule.identity.test(identity) && (rule.issuer === undefined || vouches(rule.issuer)))?.role;
}

/**
 * Whether the carrier knows the peer by an identity. A user of Digest is `sip:alice@example.org`, `alice@example.org`, or, in the key
 * server's own domain, `alice`.
 */
export function isCarried(identity: string, { user, certified }: CarrierPeer, domain: string): boolean {
  if (user === undefined && certified === undefined) return false;
  const proved = user === undefined || [user, `sip:${user}`, `sip:${user}@${domain}`].includes(identity);
  return proved && (certified === undefined || certified.includes(identity));
}

function readRule(value: unknown, path: string): AccessRule {
  const rule = fields(value, path);
  const pattern = rule.text("identity");
  const issuer = rule.optional("issuer", (key) => rule.text(key));
  const role = rule.choice("role", ["sender", "receiver", "both"], "receiver");
  rule.finish();
  const source = pattern
    .split("*")
    .map((part) => part.replace(/[.+?^${}()|[\]\\/]/g, "\\$&"))
    .join(".*");
  return {
    identity: new RegExp(`^${source}$`, "s"),
    ...(issuer === undefined ? {} : { issuer }),
    role: { send: role !== "receiver", receive: role !== "sender" },
  };
}

function readVisible(value: unknown, path: string): "members" | "owner" | "senders" | "title" {
  if (value === "members" || value === "owner" || value === "senders" || value === "title") return value;
  throw definitionError(path, "is one of members, owner, senders, title");
}

function readStream(value: unknown, path: string): GroupStreamDescription {
  const stream = fields(value, path);
  const media = stream.choice("media", ["audio", "video", "application", "text"]);
  const profile = stream.choice("profile", ["RTP/SAVP", "RTP/SAVPF"], "RTP/SAVP");
  const formats = stream.list("formats", (item, at) => payloadType(item, at), 1, 32);
  const lines = stream.optional("lines", (key) => stream.list(key, sdpLine, 0, 64)) ?? [];
  const host = stream.text("address");
  const port = stream.integer("port", undefined, { least: 1, most: 65_534 });
  if (port % 2 !== 0) stream.fail("port", "is odd; RTP has an even port and RTCP the next (RFC 3550 §11)");
  const ttl = stream.optional("ttl", (key) => stream.integer(key, undefined, { least: 0, most: 255 }));
  stream.finish();
  return { media, profile, formats, lines, destination: { host, port, ...(ttl === undefined ? {} : { ttl }) } };
}

function payloadType(value: unknown, path: string): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 127) return value;
  throw definitionError(path, "is a payload type, 0 to 127");
}

/** A line below an m= line. Nothing that could pretend to be another line, or the key management of somebody. */
function sdpLine(value: unknown, path: string): string {
  if (typeof value === "string" && /^[abi]=[^\r\n\0]+$/.test(value) && !/^a=(key-mgmt|crypto|fingerprint)\b/i.test(value))
    return value;
  throw definitionError(path, "is an a=, b= or i= line of SDP, and none that keys");
}

function readRekey(value: unknown, path: string): Omit<RekeyPolicy, "verificationKey" | "tree"> {
  const rekey = fields(value, path);
  const algorithm: GkmaName = rekey.choice("algorithm", GKMA_NAMES, "ofc");
  const degree = rekey.integer(
    "degree",
    algorithm === "none" ? 0 : 2,
    algorithm === "none" ? { least: 0, most: 0 } : { least: 2, most: 255 },
  );
  const signature: RekeySignature = rekey.choice("signature", ["none", "ed25519", "ecdsa-p256-sha256"], "ed25519");
  const control = rekey.optional("address", (key) => readControlAddress(rekey, key));
  const server = rekey.optional("server", (key) => readServerAddress(rekey, key));
  const retransmission = {
    count: rekey.integer("retransmissions", 3, GROUP_LIMITS.retransmissions),
    firstMs: rekey.milliseconds("retransmissionInterval", 250, GROUP_LIMITS.retransmissionMs),
  };
  const activationDelayMs = rekey.milliseconds("activationDelay", 2000, GROUP_LIMITS.activationDelayMs);
  const deactivationDelayMs = rekey.milliseconds("deactivationDelay", 10_000, GROUP_LIMITS.deactivationDelayMs);
  if (deactivationDelayMs < activationDelayMs + retransmissionSpanMs(retransmission))
    rekey.fail("deactivationDelay", "is less than the activation delay and all retransmissions together (docs/protocol.md §16.10)");
  const heartbeatMs = rekey.milliseconds("heartbeat", 10_000, { least: 0, most: GROUP_LIMITS.heartbeatMs.most });
  if (heartbeatMs > 0 && heartbeatMs < GROUP_LIMITS.heartbeatMs.least) rekey.fail("heartbeat", "is 0 or at least 1 second");
  const period = rekey.optional("period", (key) => rekey.seconds(key, undefined, GROUP_LIMITS.period));
  const policy = {
    algorithm,
    algorithmVersion: GKMA_VERSION,
    degree,
    keyLength: rekey.choice("keyBits", [128, 256], 128) === 128 ? (16 as const) : (32 as const),
    macLength: signature === "none" ? (32 as const) : (16 as const),
    signature,
    ...(control === undefined ? {} : { controlAddress: control }),
    ...(server === undefined ? {} : { serverAddress: server }),
    kekLifetime: rekey.seconds("lifetime", DAY, GROUP_LIMITS.lifetime),
    heartbeatMs,
    activationDelayMs,
    deactivationDelayMs,
    retransmission,
    resynchronisation: ["registration"] as const,
    resynchronisationDelayMs: rekey.milliseconds("resynchronisationDelay", 5000, GROUP_LIMITS.delayMs),
    ...(period === undefined ? {} : { period }),
    repairServers: [],
  };
  rekey.finish();
  return policy;
}

/** `192.0.2.1:2269` or `gcks.example.org:2269`: where members reach the key server by UDP. */
function readServerAddress(rekey: Fields, key: string): string {
  const text = rekey.text(key);
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]+)):(\d{1,5})$/i.exec(text);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined || isMulticast(host) || Number(match?.[3]) > 65_535 || Number(match?.[3]) === 0)
    rekey.fail(key, "is an address of the key server and a port, for example 192.0.2.1:2269");
  return `udp://${text}`;
}

/** `239.0.0.1:2269`. */
function readControlAddress(rekey: Fields, key: string): string {
  const text = rekey.text(key);
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined || !isMulticast(host) || Number(match?.[3]) > 65_535 || Number(match?.[3]) === 0)
    rekey.fail(key, "is a multicast address and port, for example 239.0.0.1:2269");
  return `udp://${text}`;
}

function readSrtp(root: Fields): SrtpPolicy {
  const suite = root.optional("suite", (key) => root.text(key)) ?? "AEAD_AES_128_GCM";
  if (!isSuiteName(suite)) root.fail("suite", `is one of ${suiteNames.join(", ")}`);
  return { suite } as SrtpPolicy;
}

function defaultDataSa(srtp: SrtpPolicy, streams: readonly GroupStreamDescription[]): DataSaPolicy {
  return {
    number: 1,
    srtp,
    arrangement: "shared",
    streams: [],
    sources: [],
    destinations: streams.length === 1 ? streams.map(destinationUri) : [],
    lifetime: DAY,
    mkis: [],
  };
}

function readDataSa(value: unknown, path: string, srtp: SrtpPolicy): DataSaPolicy {
  const data = fields(value, path);
  const suite = data.optional("suite", () => readSrtp(data)) ?? srtp;
  const policy: DataSaPolicy = {
    number: data.integer("number", undefined, { least: 1, most: GROUP_LIMITS.dataSas }),
    srtp: suite,
    arrangement: data.choice("arrangement", ["shared", "per-ssrc"], "shared"),
    streams: data.optional("streams", (key) => data.list(key, (item, at) => wholeNumber(item, at, 1, 255), 0, 255)) ?? [],
    sources: data.optional("sources", (key) => data.list(key, (item, at) => wholeNumber(item, at, 1, 0xffff_ffff), 0, 1024)) ?? [],
    destinations: data.optional("destinations", (key) => data.list(key, uri, 0, 16)) ?? [],
    lifetime: data.seconds("lifetime", DAY, GROUP_LIMITS.lifetime),
    mkis: [],
  };
  data.finish();
  return policy;
}

function wholeNumber(value: unknown, path: string, least: number, most: number): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return value;
  throw definitionError(path, `is a whole number from ${least} to ${most}`);
}

function uri(value: unknown, path: string): string {
  if (typeof value === "string" && /^rtp:\/\/[^\s]{1,200}$/.test(value)) return value;
  throw definitionError(path, "is an address such as rtp://239.0.0.2:5004");
}

/** A destination as policies write it (docs/protocol.md §14.3). */
export function destinationUri({ destination: { host, port } }: GroupStreamDescription): string {
  return `rtp://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function definitionError(path: string, problem: string): WatchwordError {
  return new WatchwordError("gcks.definition", `${path} ${problem}`);
}

interface Range {
  readonly least: number;
  readonly most: number;
}

/** The fields of one object, each read once and by name, so that a misspelt one is found. */
type Fields = ReturnType<typeof fields>;

export function fields(value: unknown, path: string) {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw definitionError(path, "is not a set of named fields");
  const object = value as Readonly<Record<string, unknown>>;
  const read = new Set<string>();
  const at = (key: string): string => `${path}.${key}`;
  const take = (key: string): unknown => {
    read.add(key);
    return Object.hasOwn(object, key) ? object[key] : undefined;
  };
  const fail = (key: string, problem: string): never => {
    throw definitionError(at(key), problem);
  };
  const number = (key: string, fallback: number | undefined, { least, most }: Range, unit: string, factor: number): number => {
    const found = take(key) ?? (fallback === undefined ? undefined : fallback / factor);
    if (typeof found !== "number" || !Number.isFinite(found))
      return fail(key, found === undefined ? "is missing" : `is a number of ${unit}`);
    const scaled = Math.round(found * factor);
    if (scaled < least || scaled > most) fail(key, `is from ${least / factor} to ${most / factor} ${unit}`);
    return scaled;
  };
  return {
    value: take,
    /** Where a field is, for messages. */
    path: at,
    fail,
    text(key: string): string {
      const found = take(key);
      if (typeof found !== "string" || found === "" || found.length > 2048 || /[\r\n\0]/.test(found))
        return fail(key, found === undefined ? "is missing" : "is one line of text");
      return found;
    },
    flag(key: string, fallback: boolean): boolean {
      const found = take(key) ?? fallback;
      return typeof found === "boolean" ? found : fail(key, "is true or false");
    },
    choice<T extends string | number>(key: string, choices: readonly T[], fallback?: T): T {
      const found = take(key) ?? fallback;
      return (
        choices.find((choice) => choice === found) ??
        fail(key, found === undefined ? "is missing" : `is one of ${choices.join(", ")}`)
      );
    },
    integer: (key: string, fallback: number | undefined, range: Range): number => {
      const found = take(key) ?? fallback;
      return found === undefined ? fail(key, "is missing") : wholeNumber(found, at(key), range.least, range.most);
    },
    /** Seconds in the file, milliseconds as the result. */
    milliseconds: (key: string, fallback: number, range: Range): number => number(key, fallback, range, "seconds", 1000),
    seconds: (key: string, fallback: number | undefined, range: Range): number => number(key, fallback, range, "seconds", 1),
    list<T>(key: string, readItem: (item: unknown, path: string) => T, least: number, most: number): T[] {
      const found = take(key);
      if (!Array.isArray(found)) return fail(key, found === undefined ? "is missing" : "is a list");
      if (found.length < least || found.length > most) fail(key, `has ${least} to ${most} entries`);
      return found.map((item, index) => readItem(item, `${at(key)}[${index}]`));
    },
    /** Null counts as absent. */
    optional<T>(key: string, readIt: (key: string) => T): T | undefined {
      const found = take(key);
      return found === undefined || found === null ? undefined : readIt(key);
    },
    finish(others: readonly string[] = []): void {
      for (const key of Object.keys(object))
        if (!read.has(key) && !others.includes(key)) fail(key, `is not known here: ${[...read].sort().join(", ")}`);
    },
  };
}
