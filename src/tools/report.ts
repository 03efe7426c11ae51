/** The inspector's text: the octet map as a table, one payload under the other, then the problems. */
import { entryOf, PayloadType } from "../mikey/index.js";
import type { Severity } from "./contracts.js";
import { describeParam } from "./fields.js";
import type { InspectedField, Inspection } from "./inspect.js";

/** Octets shown in one line; longer fields are cut. */
const SHOWN_OCTETS = 16;
/** `xxxxxxxx ` four times, less the last blank. */
const OCTETS_WIDTH = 35;
const LABEL_WIDTH = 24;

interface Row {
  readonly offset: number;
  readonly octets: string;
  readonly label: string;
  readonly meaning: string;
}

/** All messages found, as text that ends with a line end. */
export function formatInspections(inspections: readonly Inspection[]): string {
  return inspections
    .map((inspection, index) => formatInspection(inspection, `message ${index + 1} of ${inspections.length}`))
    .join("\n");
}

function formatInspection(inspection: Inspection, title: string): string {
  const { where, octets, problems, fields, message } = inspection;
  const lines = [`${title}, ${where}`, summaryOf(inspection), ""];
  const suites = (message?.payloads ?? []).filter(({ kind }) => kind === "SP").map(({ suite }) => suite);
  for (const [name, group] of groups(fields)) {
    const suite = name.startsWith("SP") ? suites.shift() : undefined;
    lines.push(suite === undefined ? headingOf(name, group) : `${headingOf(name, group)}: ${String(suite)}`);
    for (const { offset, octets: shown, label, meaning } of rowsOf(group)) {
      lines.push(
        `${String(offset).padStart(7)}  ${shown.padEnd(OCTETS_WIDTH)}  ${label.padEnd(LABEL_WIDTH)}  ${meaning}`.trimEnd(),
      );
    }
    lines.push("");
  }
  const shown = fields.reduce((end, field) => Math.max(end, field.offset + field.length), 0);
  if (shown * 2 < octets.length) {
    lines.push("not decoded", `${String(shown).padStart(7)}  ${shorten(octets.slice(shown * 2))}`, "");
  }
  for (const { code, severity, path, message } of problems) {
    // It may quote what somebody wrote beside the message, which a terminal must not be told by.
    lines.push(`${MARKS[severity]} ${message.replace(/\p{C}/gu, "?")}`, `          ${path} [${code}]`);
  }
  if (problems.length > 0) lines.push("");
  return lines.join("\n");
}

const MARKS: Readonly<Record<Severity, string>> = { error: "error    ", warning: "warning  ", info: "info     " };

function summaryOf({ valid, message, octets, problems }: Inspection): string {
  const count = (severity: Severity): string[] => {
    const number = problems.filter((problem) => problem.severity === severity).length;
    return number === 0 ? [] : [`${number} ${severity}${number === 1 || severity === "info" ? "" : "s"}`];
  };
  const header = message?.header;
  const parts = [
    `${octets.length / 2} octets`,
    ...(header === undefined ? [] : [String(header["dataTypeName"]), `CSB ID ${String(header["csbId"])}`]),
    valid ? "valid" : "INVALID",
    ...count("error"),
    ...count("warning"),
    ...count("info"),
  ];
  return parts.join(", ");
}

/** Fields by payload, in order. */
function groups(fields: readonly InspectedField[]): Map<string, InspectedField[]> {
  const byName = new Map<string, InspectedField[]>();
  for (const field of fields) {
    const name = field.path.split(".")[1] ?? "";
    const group = byName.get(name);
    if (group === undefined) byName.set(name, [field]);
    else group.push(field);
  }
  return byName;
}

function headingOf(name: string, group: readonly InspectedField[]): string {
  const kind = name.replace(/\[\d+\]$/, "");
  const row = kind in PayloadType ? entryOf(PayloadType, PayloadType[kind as "T"]) : undefined;
  const title = kind === "HDR" ? "Common header" : (row?.title ?? "behind the last payload");
  const start = group[0]?.offset ?? 0;
  const last = group.at(-1);
  const end = last === undefined ? start : last.offset + last.length;
  return `${name}  ${title}, ${end - start} octets`;
}

/** A line for each field; the octets of a policy parameter and of a map entry share one. */
function rowsOf(group: readonly InspectedField[]): Row[] {
  const rows: Row[] = [];
  for (let at = 0; at < group.length; at++) {
    const field = group[at] as InspectedField;
    const item = /^(.*\.(?:params|csMap|keyIds))(\[\d+\])\.[A-Za-z]+$/.exec(field.path);
    if (item === null) {
      rows.push({ offset: field.offset, octets: fieldOctets(field), label: indented(field), meaning: field.meaning });
      continue;
    }
    const whole: InspectedField[] = [];
    while (group[at]?.path.startsWith(`${item[1]}${item[2]}.`)) whole.push(group[at++] as InspectedField);
    at--;
    rows.push(itemRow(whole, group));
  }
  return rows;
}

/** Fields inside key data, tickets and nested messages step in. */
function indented({ path, label }: InspectedField): string {
  const index = /encrData(\[\d+\])/.exec(path)?.[1];
  const depth = path.split(".").length - 3;
  return `${"  ".repeat(Math.max(0, depth))}${index === undefined ? "" : `key${index} `}${label}`;
}

function itemRow(fields: readonly InspectedField[], group: readonly InspectedField[]): Row {
  const first = fields[0] as InspectedField;
  const named = new Map(fields.map((field) => [field.path.slice(field.path.lastIndexOf(".") + 1), field]));
  const octets = shorten(joinOctets(fields));
  const type = Number.parseInt(named.get("type")?.octets ?? "", 16);
  if (first.path.includes(".params[")) {
    const value = named.get("value")?.octets ?? "";
    const owner = first.path.slice(0, first.path.indexOf(".params["));
    const protType = Number.parseInt(group.find(({ path }) => path === `${owner}.protType`)?.octets ?? "", 16);
    const meaning = describeParam(
      protType,
      type,
      Uint8Array.from(value.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)),
    );
    return { offset: first.offset, octets, label: `parameter ${type}`, meaning };
  }
  if (first.path.includes("keyIds[")) {
    return { offset: first.offset, octets, label: "key ID", meaning: `${named.get("type")?.meaning}, ${named.get("id")?.octets}` };
  }
  const index = Number(/csMap\[(\d+)\]/.exec(first.path)?.[1] ?? 0);
  const csId = named.get("csId")?.meaning ?? String(index + 1);
  const says = (name: string, title: string): string[] => {
    const field = named.get(name);
    return field === undefined || field.octets === ""
      ? []
      : [`${title} ${name === "ssrc" || field.meaning === "" ? field.octets : field.meaning}`];
  };
  const meaning = [
    ...says("policyNo", "policy"),
    ...says("ssrc", "SSRC"),
    ...says("roc", "ROC"),
    ...says("sessionData", "session data"),
    ...says("spi", "SPI"),
  ];
  return { offset: first.offset, octets, label: `CS ID ${csId}`, meaning: meaning.join(", ") };
}

/** Bits that share octets are written once. */
function joinOctets(fields: readonly InspectedField[]): string {
  let end = 0;
  let text = "";
  for (const { offset, length, octets } of fields) {
    text += octets.slice(Math.max(0, end - offset) * 2);
    end = Math.max(end, offset + length);
  }
  return text;
}

/** Bits within one octet are drawn as bits. */
function fieldOctets({ octets, length, bit, bits }: InspectedField): string {
  if (bit === undefined || bits === undefined || length !== 1 || octets.includes("*")) return shorten(octets);
  const all = Number.parseInt(octets, 16).toString(2).padStart(8, "0");
  return `${octets}  ${".".repeat(bit)}${all.slice(bit, bit + bits)}${".".repeat(8 - bit - bits)}`;
}

/** In groups of four octets, cut where it does not fit one line. */
function shorten(octets: string): string {
  const cut = octets.length > SHOWN_OCTETS * 2;
  const shown = (cut ? octets.slice(0, SHOWN_OCTETS * 2 - 4) : octets).replaceAll(/(.{8})(?=.)/g, "$1 ");
  return cut ? `${shown}...` : shown;
}
