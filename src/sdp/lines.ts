import { CodecError } from "../bytes/index.js";

/** Where a line stands: `"session"`, or the zero-based index of its m= section. */
export type SdpSection = "session" | number;

/** One line as received. */
export interface SdpLine {
  /** The letter before `=`, or an empty string for a line that is not `letter=value`. */
  readonly type: string;
  /** What follows `letter=`, or the whole line where there is none. */
  readonly value: string;
  /** The line without its ending. */
  readonly text: string;
  /** The ending as received: CRLF, LF, CR or, for a last line, nothing. */
  readonly ending: string;
  /** One-based. */
  readonly number: number;
  readonly section: SdpSection;
}

/** An `a=` line taken apart at its first colon. */
export interface SdpAttributeLine {
  readonly name: string;
  /** Undefined for a property attribute (`a=sendonly`). */
  readonly value: string | undefined;
  readonly line: SdpLine;
}

/** How much text is accepted. */
export interface SdpLimits {
  /** Characters in all. Default 262144. */
  readonly maxLength?: number;
  /** Default 4096. */
  readonly maxLines?: number;
}

/**
 * A session description (RFC 4566) as lines that can be looked at, added, replaced and removed, every other octet kept.
 * Input may end its lines with CRLF, LF or CR; lines written here end with CRLF.
 */
export interface SdpEditor {
  readonly lines: readonly SdpLine[];
  /** Number of m= sections. */
  readonly mediaCount: number;
  /** The lines of one section, the m= line of a media section first. */
  section(section: SdpSection): readonly SdpLine[];
  /** `a=` lines in order, of one section or of all, of one name or of all. Attribute names are case-sensitive (RFC 4566 §6). */
  attributes(filter?: { readonly section?: SdpSection; readonly name?: string }): readonly SdpAttributeLine[];
  /** Adds `text` (`a=x:y`, without an ending) as the last line of a section. @throws CodecError `sdp.line`, `sdp.section` */
  append(section: SdpSection, text: string): void;
  /** Adds `text` before line `number`. @throws CodecError `sdp.line` */
  insertBefore(number: number, text: string): void;
  /** Puts `text` in the place of line `number`; the ending stays. @throws CodecError `sdp.line` */
  replace(number: number, text: string): void;
  /** Takes line `number` away with its ending. @throws CodecError `sdp.line` */
  remove(number: number): void;
  /** The text: untouched lines octet for octet as received. */
  format(): string;
  /** The text with every line ended by CRLF (RFC 4566 §5), as a sender must write it. */
  formatStrict(): string;
}

interface RawLine {
  text: string;
  ending: string;
}

/**
 * Opens a session description for looking and editing. Any text within the limits is accepted.
 * @throws CodecError `sdp.too-large` beyond the limits
 */
export function createSdpEditor(text: string, limits: SdpLimits = {}): SdpEditor {
  const { maxLength = 262_144, maxLines = 4096 } = limits;
  if (text.length > maxLength) throw new CodecError("sdp.too-large", "sdp", maxLength, `more than ${maxLength} characters`);
  const raw = splitLines(text, maxLines);
  let view: readonly SdpLine[] | undefined;

  const lines = (): readonly SdpLine[] => {
    view ??= numberLines(raw);
    return view;
  };
  const index = (number: number): number => {
    if (!Number.isInteger(number) || number < 1 || number > raw.length) {
      throw new CodecError("sdp.line", "sdp", -1, `no line ${number}`);
    }
    return number - 1;
  };
  const insertAt = (at: number, text: string): void => {
    checkText(text);
    const before = raw[at - 1];
    if (before !== undefined && before.ending === "") before.ending = "\r\n";
    raw.splice(at, 0, { text, ending: "\r\n" });
    view = undefined;
  };

  return {
    get lines() {
      return lines();
    },
    get mediaCount() {
      return lines().filter((line) => line.type === "m").length;
    },
    section: (section) => lines().filter((line) => line.section === section),
    attributes: (filter = {}) => {
      const found: SdpAttributeLine[] = [];
      for (const line of lines()) {
        if (line.type !== "a" || (filter.section !== undefined && line.section !== filter.section)) continue;
        const colon = line.value.indexOf(":");
        const name = colon < 0 ? line.value : line.value.slice(0, colon);
        if (filter.name !== undefined && name !== filter.name) continue;
        found.push({ name, value: colon < 0 ? undefined : line.value.slice(colon + 1), line });
      }
      return found;
    },
    append: (section, text) => {
      const last = lines().findLast((line) => line.section === section);
      if (last === undefined && section !== "session")
        throw new CodecError("sdp.section", "sdp", -1, `no media section ${section}`);
      insertAt(last?.number ?? 0, text);
    },
    insertBefore: (number, text) => insertAt(index(number), text),
    replace: (number, text) => {
      checkText(text);
      const line = raw[index(number)] as RawLine;
      line.text = text;
      view = undefined;
    },
    remove: (number) => {
      raw.splice(index(number), 1);
      view = undefined;
    },
    format: () => raw.map((line) => line.text + line.ending).join(""),
    formatStrict: () => raw.map((line) => `${line.text}\r\n`).join(""),
  };
}

/** @throws CodecError `sdp.text` when a value would break its line (RFC 4566 §5: no NUL, CR, LF) */
export function checkText(text: string): void {
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (unit === 0 || unit === 10 || unit === 13) throw new CodecError("sdp.text", "sdp", at, "a line holds no NUL, CR or LF");
  }
}

function splitLines(text: string, maxLines: number): RawLine[] {
  const lines: RawLine[] = [];
  let start = 0;
  for (let at = 0; at <= text.length; at++) {
    const unit = at < text.length ? text.charCodeAt(at) : -1;
    if (unit >= 0 && unit !== 10 && unit !== 13) continue;
    if (unit < 0 && at === start) break;
    const width = unit < 0 ? 0 : unit === 13 && text.charCodeAt(at + 1) === 10 ? 2 : 1;
    if (lines.length === maxLines) throw new CodecError("sdp.too-large", "sdp", at, `more than ${maxLines} lines`);
    lines.push({ text: text.slice(start, at), ending: text.slice(at, at + width) });
    at += Math.max(width, 1) - 1;
    start = at + 1;
  }
  return lines;
}

function numberLines(raw: readonly RawLine[]): readonly SdpLine[] {
  let section: SdpSection = "session";
  return raw.map(({ text, ending }, at) => {
    const typed = /^[a-zA-Z]=/.test(text);
    const type = typed ? text.charAt(0) : "";
    if (type === "m") section = section === "session" ? 0 : section + 1;
    return { type, value: typed ? text.slice(2) : text, text, ending, number: at + 1, section };
  });
}
