/** Looks into MIKEY messages wherever they are found: octet map, meanings, problems; key material hidden unless asked for. */
import { CodecError, type FieldSpan } from "../bytes/index.js";
import { type DecodedMessage, decodeMessage } from "../mikey/index.js";
import type { Found, Problem } from "./contracts.js";
import { labelOfField, meaningOf } from "./fields.js";
import { findMikey, problemOf } from "./find.js";
import { lintMessage } from "./lint.js";
import { type MessageView, viewMessage } from "./message-view.js";
import { hexOf, holdsSecret, mapOctets, type OctetMap } from "./octet-map.js";

/** How to inspect. */
export interface InspectOptions {
  /** Show keys and salts. Default false: they are `**` in everything that comes out. */
  readonly reveal?: boolean;
}

/** One field of the octet map. */
export interface InspectedField {
  /** `mikey.SP.params[0].type`. */
  readonly path: string;
  readonly offset: number;
  readonly length: number;
  /** Hexadecimal; `**` for each hidden octet. */
  readonly octets: string;
  /** What the field is called: `encr alg`. */
  readonly label: string;
  /** What it says, for people. */
  readonly meaning: string;
  /** For a field of bits: its first bit and how many. */
  readonly bit?: number;
  readonly bits?: number;
}

/** A message that was found, or the place where one should have been. */
export interface Inspection {
  /** For people: `line 14: a=key-mgmt, media 0`. */
  readonly where: string;
  /** It decodes and no problem is an error. */
  readonly valid: boolean;
  /** Undefined where it does not decode. */
  readonly message: MessageView | undefined;
  /** Hexadecimal; `**` for each hidden octet. */
  readonly octets: string;
  readonly problems: readonly Problem[];
  /** The octet map, also of what precedes a decoding failure. */
  readonly fields: readonly InspectedField[];
}

/**
 * Inspects every MIKEY message of a text: base64, hexadecimal, SDP, RTSP and SIP dialogues, logs.
 * @throws CodecError `tools.too-large`, `tools.too-many-messages`
 */
export function inspectText(text: string, options: InspectOptions = {}): Inspection[] {
  return findMikey(text.replace(/^\ufeff/, "")).map((found) => inspectFound(found, options));
}

/**
 * Inspects octets: a binary message, or a text as `inspectText` takes it, in which bodies may be binary.
 * @throws CodecError `tools.too-large`, `tools.too-many-messages`
 */
export function inspectOctets(octets: Uint8Array, options: InspectOptions = {}): Inspection[] {
  const binary = (): Inspection[] => [inspectFound({ where: "binary", octets, problems: [] }, options)];
  // No text begins with the octet 01, and every message does.
  if (octets[0] === 1) return binary();
  const found = inspectText(latin1(octets).replace(/^\u00ef\u00bb\u00bf/, ""), options);
  const isText = !octets.some((octet) => octet < 0x09 || (octet > 0x0d && octet < 0x20 && octet !== 0x1b));
  return found.length > 0 || isText ? found : binary();
}

/** Most problems that are told of one message. */
const MAX_PROBLEMS = 200;

/** A hostile message can have tens of thousands of problems; the worst of those left out stands for them. */
function cutProblems(problems: readonly Problem[]): Problem[] {
  if (problems.length <= MAX_PROBLEMS) return [...problems];
  const rest = problems.slice(MAX_PROBLEMS);
  const severity =
    (["error", "warning", "info"] as const).find((level) => rest.some((problem) => problem.severity === level)) ?? "info";
  return [
    ...problems.slice(0, MAX_PROBLEMS),
    { code: "lint.more", severity, path: "mikey", message: `${rest.length} problems more, not shown` },
  ];
}

function inspectFound(found: Found, { reveal = false }: InspectOptions): Inspection {
  const { where, octets } = found;
  const problems = [...found.problems];
  if (octets === undefined) return { where, valid: false, message: undefined, octets: "", problems, fields: [] };
  const trace: FieldSpan[] = [];
  let message: DecodedMessage | undefined;
  let map: OctetMap;
  try {
    message = decodeMessage(octets, { trailing: "keep", trace });
    map = mapOctets(octets, trace);
    problems.push(...lintMessage(message, map, found.protocols === undefined ? {} : { protocols: found.protocols }));
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    problems.push(problemOf(error));
    map = mapOctets(octets, trace, error);
    problems.push(...map.problems);
  }
  const hex = (start: number, end: number): string => hexOf(octets, map, start, end, reveal);
  return {
    where,
    valid: message !== undefined && problems.every(({ severity }) => severity !== "error"),
    message: message === undefined ? undefined : viewMessage(message, trace, map, hex),
    octets: hex(0, octets.length),
    problems: cutProblems(problems),
    fields: map.fields.map((span) => inspectField(span, map, hex, reveal)),
  };
}

function inspectField(
  span: FieldSpan,
  map: OctetMap,
  hex: (start: number, end: number) => string,
  reveal: boolean,
): InspectedField {
  const { path, offset, length, bit, bits } = span;
  const hidden = !reveal && holdsSecret(map, offset, offset + length);
  const field = {
    path,
    offset,
    length,
    octets: hex(offset, offset + length),
    label: labelOfField(path),
    meaning: hidden ? `hidden, ${length} octet${length === 1 ? "" : "s"}` : meaningOf(span, map.values),
  };
  return bit === undefined || bits === undefined ? field : { ...field, bit, bits };
}

/** One character per octet. */
function latin1(octets: Uint8Array): string {
  const parts: string[] = [];
  for (let at = 0; at < octets.length; at += 8192) parts.push(String.fromCharCode(...octets.subarray(at, at + 8192)));
  return parts.join("");
}

/** What `watchword inspect --json` prints for one message. */
export interface InspectionJson {
  readonly where: string;
  readonly valid: boolean;
  readonly message: MessageView | null;
  readonly octets: string;
  readonly problems: readonly Problem[];
}

export function inspectionJson({ where, valid, message, octets, problems }: Inspection): InspectionJson {
  return { where, valid, message: message ?? null, octets, problems };
}
