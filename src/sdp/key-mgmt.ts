import { CodecError, formatBase64, parseBase64 } from "../bytes/index.js";
import { createSdpEditor, type SdpLimits, type SdpLine, type SdpSection } from "./lines.js";

/** One `a=key-mgmt` line (RFC 4567 §3.1). */
export interface KeyMgmtAttribute {
  /** Key management protocol identifier, case-sensitive: `mikey`. */
  readonly protocol: string;
  /** The message, or undefined where the line is malformed: then `problem` says why, and the line must be treated as a failure, not as absent. */
  readonly data: Uint8Array | undefined;
  readonly problem: CodecError | undefined;
  readonly section: SdpSection;
  /** One-based line number. */
  readonly line: number;
  /** The number of the attribute capability when the line is `a=acap:n key-mgmt:…` (RFC 5939 §3.4.1). */
  readonly capability: number | undefined;
}

/** All key management of a session description. */
export interface KeyMgmtSet {
  /** Every line in order, capabilities included. */
  readonly attributes: readonly KeyMgmtAttribute[];
  /**
   * What applies to each m= section: its own lines, else those of the session level (RFC 4567 §3.1: media level overrides).
   * A capability is not in force before it is negotiated and so is not here. Malformed lines are here.
   */
  readonly effective: readonly (readonly KeyMgmtAttribute[])[];
}

/**
 * Reads every a=key-mgmt of a session description.
 * @throws CodecError `sdp.too-large`
 */
export function readKeyMgmt(sdp: string, limits?: SdpLimits): KeyMgmtSet {
  const editor = createSdpEditor(sdp, limits);
  const attributes: KeyMgmtAttribute[] = [];
  for (const { name, value = "", line } of editor.attributes()) {
    if (name === "key-mgmt") attributes.push(readLine(value, line, undefined));
    if (name === "acap") {
      const match = /^[ ]?(\d{1,10}) key-mgmt:(.*)$/.exec(value);
      if (match !== null) attributes.push(readLine(match[2] as string, line, Number(match[1])));
    }
  }
  const actual = attributes.filter((attribute) => attribute.capability === undefined);
  const session = actual.filter((attribute) => attribute.section === "session");
  const own: KeyMgmtAttribute[][] = Array.from({ length: editor.mediaCount }, () => []);
  for (const attribute of actual) if (attribute.section !== "session") own[attribute.section]?.push(attribute);
  return { attributes, effective: own.map((media) => (media.length > 0 ? media : session)) };
}

/** The list of protocols of one level as MIKEY's SDP IDs extension wants it: `mikey;keyp1` (RFC 4567 §4.1.4). */
export function formatProtocolList(attributes: readonly KeyMgmtAttribute[]): string {
  return attributes.map((attribute) => attribute.protocol).join(";");
}

/** `mikey <base64>`: the value of an a=key-mgmt attribute. @throws CodecError `sdp.key-mgmt` for an illegal protocol identifier */
export function formatKeyMgmtAttribute(protocol: string, data: Uint8Array): string {
  checkProtocol(protocol);
  return `${protocol} ${formatBase64(data)}`;
}

/** @throws CodecError `sdp.key-mgmt` unless KMPID = 1*(ALPHA / DIGIT) (RFC 4567 §3) */
export function checkProtocol(protocol: string): void {
  if (!/^[A-Za-z0-9]+$/.test(protocol)) {
    throw new CodecError("sdp.key-mgmt", "sdp.key-mgmt.prtcl-id", -1, "a protocol identifier is letters and digits");
  }
}

/** What to add. */
export interface KeyMgmtAddition {
  readonly section: SdpSection;
  readonly protocol: string;
  readonly data: Uint8Array;
  /** Before the section's other key-mgmt lines (preference order, RFC 4567 §4.1.2). Default: behind them. */
  readonly first?: boolean;
}

/**
 * The description with one a=key-mgmt line more; all other octets stay. Without other key-mgmt lines it becomes the last line of its section.
 * @throws CodecError `sdp.too-large`, `sdp.section`, `sdp.key-mgmt`
 */
export function addKeyMgmt(sdp: string, addition: KeyMgmtAddition): string {
  const editor = createSdpEditor(sdp);
  const text = `a=key-mgmt:${formatKeyMgmtAttribute(addition.protocol, addition.data)}`;
  const present = editor.attributes({ section: addition.section, name: "key-mgmt" });
  const neighbour = addition.first === true ? present[0] : present.at(-1);
  if (neighbour === undefined) editor.append(addition.section, text);
  else if (addition.first === true) editor.insertBefore(neighbour.line.number, text);
  else if (neighbour.line.number === editor.lines.length) editor.append(addition.section, text);
  else editor.insertBefore(neighbour.line.number + 1, text);
  return editor.format();
}

/**
 * The description without its a=key-mgmt lines (of one section, of one protocol), capabilities included; all other octets stay.
 * @throws CodecError `sdp.too-large`
 */
export function removeKeyMgmt(sdp: string, filter: { readonly section?: SdpSection; readonly protocol?: string } = {}): string {
  const editor = createSdpEditor(sdp);
  const doomed = readKeyMgmt(sdp).attributes.filter(
    (attribute) =>
      (filter.section === undefined || attribute.section === filter.section) &&
      (filter.protocol === undefined || attribute.protocol === filter.protocol),
  );
  for (const attribute of doomed.toReversed()) editor.remove(attribute.line);
  return editor.format();
}

/** key-mgmt-att-value = 0*1SP prtcl-id SP keymgmt-data; more white space is tolerated. */
function readLine(value: string, line: SdpLine, capability: number | undefined): KeyMgmtAttribute {
  const text = value.trim();
  const space = text.search(/[ \t]/);
  const protocol = space < 0 ? text : text.slice(0, space);
  const common = { protocol, section: line.section, line: line.number, capability };
  try {
    checkProtocol(protocol);
    if (space < 0)
      throw new CodecError("sdp.key-mgmt", `sdp.line[${line.number}].key-mgmt`, value.length, "no key management data");
    const data = parseBase64(text.slice(space).trim(), `sdp.line[${line.number}].key-mgmt.data`);
    return { ...common, data, problem: undefined };
  } catch (error) {
    if (error instanceof CodecError) return { ...common, data: undefined, problem: error };
    throw error;
  }
}
