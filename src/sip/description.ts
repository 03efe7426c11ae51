import { WatchwordError } from "../bytes/index.js";
import {
  type Connection,
  checkText,
  createSdpEditor,
  formatConfiguration,
  formatKeyMgmtAttribute,
  formatKeyMgmtCapability,
  formatTransportCapability,
  type KeyMgmtAttribute,
  type MediaDirection,
  type MediaSection,
  type PotentialConfiguration,
  parseDescription,
  readKeyMgmt,
  readPotentialConfigurations,
  removeKeyMgmt,
  type SdpEditor,
  type SdpSection,
} from "../sdp/index.js";
import { SipRefusal } from "./refusal.js";

/** The key management protocol that is spoken here (RFC 4567 §9.3). */
export const PROTOCOL = "mikey";
/** docs/protocol.md §4.1. */
const ANNOUNCEMENT = "x-watchword";
const ANNOUNCED_VERSION = "1";

/** Most m= lines of a dialog: two crypto sessions each fit the map of a key message (RFC 3830 §6.1). */
const MAX_LINES = 32;

/** One m= line of a description, as keying sees it. */
export interface DescribedLine {
  readonly index: number;
  /** `RTP/SAVP`, …; of a potential configuration where that is taken (RFC 5939). */
  readonly profile: string;
  /** Port 0 (RFC 3264 §6). */
  readonly rejected: boolean;
  /** As its author states it. */
  readonly direction: MediaDirection;
  /** Keys in a=crypto (RFC 4568). */
  readonly hasCrypto: boolean;
  /** The key message that applies: of its own section, else of the session. */
  readonly keys: KeyMgmtAttribute | undefined;
  /** What the answer says in a=acfg where the key message is a capability (RFC 5939). */
  readonly configuration: string | undefined;
  /** Its own a=acfg: what it has taken of an offer. */
  readonly accepted: string | undefined;
}

/** One key message of a description and the m= lines that it is for. */
export interface DescribedMessage {
  readonly section: SdpSection;
  /** In the order of the message's crypto sessions. */
  readonly lines: readonly number[];
  readonly octets: Uint8Array;
  /** Every protocol that the section offers, in order (RFC 4567 §4.1.4). */
  readonly protocols: readonly string[];
}

export interface KeyedDescription {
  readonly lines: readonly DescribedLine[];
  readonly messages: readonly DescribedMessage[];
  /** `a=x-watchword:1`. */
  readonly announced: boolean;
}

/**
 * Reads what keying needs of an offer or answer. A malformed key-mgmt line is a failure, never an absence.
 * @param profiles transport profiles that may be keyed
 * @throws CodecError; SipRefusal `sip.media`
 */
export function readDescription(sdp: string, profiles: readonly string[]): KeyedDescription {
  const { media, connection } = parseDescription(sdp);
  if (media.length > MAX_LINES) throw new SipRefusal("sip.media", `more than ${MAX_LINES} m= lines`);
  const editor = createSdpEditor(sdp);
  for (const { text } of editor.lines) checkText(text);
  const known = readKeyMgmt(sdp);
  const { attributes, effective } = known;
  const problem = attributes.find((attribute) => attribute.protocol === PROTOCOL && attribute.problem !== undefined)?.problem;
  if (problem !== undefined) throw problem;
  const potential = readPotentialConfigurations(sdp, known).map((configuration) => negotiable(configuration, profiles));
  const lines = media.map((section, index): DescribedLine => {
    const configuration = profiles.includes(section.profile) ? undefined : potential[index];
    const bundled = editor.attributes({ section: index, name: "bundle-only" }).length > 0;
    return {
      index,
      profile: configuration?.profile ?? section.profile,
      rejected: section.port === 0 && !bundled,
      direction: directionOf(section, editor, connection),
      hasCrypto: editor.attributes({ section: index, name: "crypto" }).length > 0,
      keys: (configuration?.keyMgmt ?? effective[index])?.find(({ protocol }) => protocol === PROTOCOL),
      configuration: configuration?.accepted,
      accepted: editor.attributes({ section: index, name: "acfg" })[0]?.value,
    };
  });
  return { lines, messages: messagesOf(lines, attributes), announced: announces(editor) };
}

/** Every key message once, those of m= lines that are overridden or rejected too: each has to succeed (RFC 4567 §4.1.2). */
function messagesOf(lines: readonly DescribedLine[], attributes: readonly KeyMgmtAttribute[]): DescribedMessage[] {
  const taken = new Set(lines.flatMap(({ keys }) => (keys?.capability === undefined ? [] : [keys])));
  const bySection = new Map<SdpSection, KeyMgmtAttribute>();
  for (const attribute of attributes) {
    if (attribute.protocol !== PROTOCOL || bySection.has(attribute.section)) continue;
    if (attribute.capability === undefined || taken.has(attribute)) bySection.set(attribute.section, attribute);
  }
  return [...bySection.values()].map(({ section, data, capability }) => ({
    section,
    lines: section === "session" ? lines.map(({ index }) => index) : [section],
    octets: data as Uint8Array,
    protocols: attributes
      .filter((other) => other.section === section && (other.capability === undefined) === (capability === undefined))
      .map(({ protocol }) => protocol),
  }));
}

/** A potential configuration that an answer can choose and that has a message of ours. */
function negotiable(
  configuration: PotentialConfiguration | undefined,
  profiles: readonly string[],
): PotentialConfiguration | undefined {
  if (configuration?.accepted === undefined || !profiles.includes(configuration.profile)) return undefined;
  return configuration.keyMgmt.some(({ protocol }) => protocol === PROTOCOL) ? configuration : undefined;
}

/** RFC 3264 §5.1, and the hold of old: an address of zeros means that nothing may be sent there (§8.4); with ICE it means nothing. */
function directionOf(section: MediaSection, editor: SdpEditor, ofSession: Connection | undefined): MediaDirection {
  const direction = section.direction ?? "sendrecv";
  const ice = editor.attributes({ name: "ice-ufrag" }).length > 0;
  const nowhere = !ice && (section.connection ?? ofSession)?.address === "0.0.0.0";
  return nowhere ? directionFrom(sends(direction), false) : direction;
}

export function sends(direction: MediaDirection): boolean {
  return direction === "sendrecv" || direction === "sendonly";
}

export function receives(direction: MediaDirection): boolean {
  return direction === "sendrecv" || direction === "recvonly";
}

function directionFrom(send: boolean, receive: boolean): MediaDirection {
  if (send) return receive ? "sendrecv" : "sendonly";
  return receive ? "recvonly" : "inactive";
}

/** What both descriptions together allow, seen from the first's side (RFC 3264 §6.1). */
export function agreedDirection(local: DescribedLine, remote: DescribedLine): MediaDirection {
  if (local.rejected || remote.rejected) return "inactive";
  return directionFrom(sends(local.direction) && receives(remote.direction), receives(local.direction) && sends(remote.direction));
}

function announce(editor: SdpEditor): void {
  if (!announces(editor)) editor.append("session", `a=${ANNOUNCEMENT}:${ANNOUNCED_VERSION}`);
}

function announces(editor: SdpEditor): boolean {
  return editor.attributes({ section: "session", name: ANNOUNCEMENT }).some(({ value }) => value === ANNOUNCED_VERSION);
}

/** A key message to put into a description. */
export interface KeyMessage {
  readonly section: SdpSection;
  readonly octets: Uint8Array;
}

/** How a local description is completed. */
export interface Completion {
  readonly messages: readonly KeyMessage[];
  /** Transport profile by m= line. */
  readonly profiles: readonly string[];
  /** `a=acfg` by m= line (RFC 5939 §3.5.2). */
  readonly configurations?: ReadonlyMap<number, string>;
  /** Rejects every m= line (RFC 3264 §6). */
  readonly rejects?: boolean;
  readonly announce: boolean;
}

/**
 * A local description with its profiles, key messages and announcement; every other octet stays. Key messages go before those of other
 * protocols (order of preference, RFC 4567 §4.1.2) and take the place of any that were there.
 */
export function completeDescription(sdp: string, completion: Completion): string {
  const editor = createSdpEditor(sdp);
  for (const { line } of mikeyLines(editor).toReversed()) editor.remove(line.number);
  completion.profiles.forEach((profile, index) => {
    const line = editor.section(index)[0];
    if (line === undefined) return;
    editor.replace(
      line.number,
      line.text.replace(
        /^(m=\S+ +)(\S+)( +)\S+/,
        (_, start: string, port: string, space: string) => `${start}${completion.rejects === true ? "0" : port}${space}${profile}`,
      ),
    );
  });
  for (const [index, configuration] of completion.configurations ?? []) editor.append(index, `a=acfg:${configuration}`);
  for (const { section, octets } of completion.messages) {
    const text = `a=key-mgmt:${formatKeyMgmtAttribute(PROTOCOL, octets)}`;
    const other = editor.attributes({ section, name: "key-mgmt" })[0];
    if (other === undefined) editor.append(section, text);
    else editor.insertBefore(other.line.number, text);
  }
  if (completion.announce) announce(editor);
  return editor.format();
}

/**
 * As `completeDescription` for an offer whose m= lines stay as they are: their secure profiles and key messages are potential
 * configurations (RFC 5939 §3.6.1).
 * @param lines of the description
 * @returns also what an answer has to say in a=acfg, by m= line
 */
export function completeWithCapabilities(
  sdp: string,
  lines: readonly DescribedLine[],
  completion: Completion,
): { readonly sdp: string; readonly configurations: ReadonlyMap<number, string> } {
  const editor = createSdpEditor(sdp);
  for (const { line } of mikeyLines(editor).toReversed()) editor.remove(line.number);
  const active = lines.filter(({ rejected }) => !rejected);
  const transports = [...new Set(active.map(({ index }) => completion.profiles[index] as string))];
  if (transports.length > 0) editor.append("session", `a=${formatTransportCapability(...transports)}`);
  completion.messages.forEach(({ section, octets }, at) => {
    editor.append(section, `a=${formatKeyMgmtCapability(at + 1, octets)}`);
  });
  const configurations = new Map<number, string>();
  for (const { index } of active) {
    const at = completion.messages.findIndex(({ section }) => section === "session" || section === index);
    const configuration = formatConfiguration(transports.indexOf(completion.profiles[index] as string) + 1, [at + 1]);
    editor.append(index, `a=pcfg:${configuration}`);
    configurations.set(index, configuration);
  }
  if (completion.announce) announce(editor);
  return { sdp: editor.format(), configurations };
}

/** Whether an a=acfg takes a configuration: the lists of one may stand in any order (RFC 5939 §3.5.2). */
export function takesConfiguration(accepted: string | undefined, configuration: string): boolean {
  const parts = (text: string): string => {
    const [number, ...lists] = text.trim().split(/[ \t]+/);
    return [number, ...lists.sort()].join(" ");
  };
  return accepted !== undefined && parts(accepted) === parts(configuration);
}

/**
 * The other protocols that a local description offers in a section, behind ours.
 * @param alone our message is a capability, beside which there are no others
 */
export function protocolsOf(sdp: string, section: SdpSection, alone: boolean): string[] {
  if (alone) return [PROTOCOL];
  const others = readKeyMgmt(sdp).attributes.filter(
    (attribute) => attribute.section === section && attribute.capability === undefined && attribute.protocol !== PROTOCOL,
  );
  return [PROTOCOL, ...others.map(({ protocol }) => protocol)];
}

/** Plain RTP profiles and what protects them (RFC 3711 §12, RFC 5124). */
const SECURE: ReadonlyMap<string, string> = new Map([
  ["RTP/AVP", "RTP/SAVP"],
  ["RTP/AVPF", "RTP/SAVPF"],
]);

/**
 * Whether a local offer may ask for SRTP by capabilities: every active m= line is plain RTP.
 * @throws WatchwordError `sip.media` where the description has capabilities of its own
 */
export function mayUseCapabilities(sdp: string, lines: readonly DescribedLine[]): boolean {
  const editor = createSdpEditor(sdp);
  if (["tcap", "acap", "pcfg"].some((name) => editor.attributes({ name }).length > 0)) {
    throw new WatchwordError("sip.media", "the description has capabilities (RFC 5939) of its own");
  }
  return lines.every(({ rejected, profile }) => rejected || SECURE.has(profile));
}

/** The profile of every m= line of a local offer, made secure. @throws WatchwordError `sip.media` where an active one cannot be */
export function securedProfiles(lines: readonly DescribedLine[], profiles: readonly string[]): string[] {
  return lines.map(({ profile, rejected, index }) => {
    const secured = profiles.includes(profile) ? profile : (SECURE.get(profile) ?? profile);
    if (!rejected && !profiles.includes(secured)) {
      throw new WatchwordError("sip.media", `m= line ${index + 1} has profile ${profile.slice(0, 40)}, which cannot be keyed`);
    }
    return secured;
  });
}

/** A description without key messages, for a stack that does not know them; with RTP/AVP for one that knows no SRTP either. */
export function plainDescription(sdp: string, plainProfiles: boolean): string {
  const plain = removeKeyMgmt(sdp, { protocol: PROTOCOL });
  if (!plainProfiles) return plain;
  const editor = createSdpEditor(plain);
  for (const line of editor.lines.filter(({ type }) => type === "m")) {
    editor.replace(line.number, line.text.replace(/^(m=\S+ +\S+ +RTP\/)S(AVPF?)(?= )/, "$1$2"));
  }
  return editor.format();
}

function mikeyLines(editor: SdpEditor) {
  return editor.attributes({ name: "key-mgmt" }).filter(({ value = "" }) => value.trim().split(/[ \t]/)[0] === PROTOCOL);
}
