import type { KeyMgmtAttribute, SdpEditor, SdpSection } from "../sdp/index.js";

/** A potential configuration that makes an RTP/AVP line an SRTP line keyed by a message (RFC 5939 §3.5). */
export interface Capability {
  readonly profile: string;
  readonly keys: KeyMgmtAttribute;
  /** What the answer says in a=acfg: `1 t=1 a=1`. */
  readonly configuration: string;
}

/** Most a=pcfg lines that are looked at in one section, and alternatives in one of them. */
const MAX_CONFIGURATIONS = 16;

/**
 * The first potential configuration of each m= line, in order of preference, that has a keyable transport (a=tcap) and a key message
 * (a=acap). Numbers that name nothing make a configuration invalid, and it is passed over (RFC 5939 §3.6.2).
 */
export function readCapabilities(
  editor: SdpEditor,
  attributes: readonly KeyMgmtAttribute[],
  profiles: readonly string[],
): ReadonlyMap<number, Capability> {
  const messages = attributes.filter(({ capability, protocol }) => capability !== undefined && protocol === "mikey");
  const found = new Map<number, Capability>();
  if (messages.length === 0) return found;
  for (let index = 0; index < editor.mediaCount; index++) {
    const transports = new Map([...transportsOf(editor, "session"), ...transportsOf(editor, index)]);
    const own = messages.filter(({ section }) => section === "session" || section === index);
    const configurations = editor
      .attributes({ section: index, name: "pcfg" })
      .slice(0, MAX_CONFIGURATIONS)
      .flatMap(({ value = "" }) => configurationOf(value.trim(), transports, own, profiles))
      .sort((a, b) => a.preference - b.preference);
    const [first] = configurations;
    if (first !== undefined) found.set(index, first.capability);
  }
  return found;
}

/** `a=tcap:1 RTP/SAVPF RTP/SAVP`: numbered from the number on (RFC 5939 §3.4.2). */
function transportsOf(editor: SdpEditor, section: SdpSection): [number, string][] {
  return editor.attributes({ section, name: "tcap" }).flatMap(({ value = "" }) => {
    const match = /^ ?(\d{1,9})((?: +[^ ]{1,64}){1,16}) *$/.exec(value);
    if (match === null) return [];
    const names = (match[2] as string).split(" ").filter((name) => name !== "");
    return names.map((name, at): [number, string] => [Number(match[1]) + at, name]);
  });
}

/** `1 t=1|2 a=1,3|2`: configuration number, which is the preference, and alternatives of each kind. */
function configurationOf(
  text: string,
  transports: ReadonlyMap<number, string>,
  messages: readonly KeyMgmtAttribute[],
  profiles: readonly string[],
): { readonly preference: number; readonly capability: Capability }[] {
  const [number = "", ...parts] = text.slice(0, 512).split(/ +/);
  const value = (name: string): string | undefined => parts.find((part) => part.startsWith(`${name}=`))?.slice(name.length + 1);
  // `+` marks an extension that has to be understood (§3.5.1); deleting attributes (`-m:`) is not done here.
  if (!/^\d{1,9}$/.test(number) || parts.some((part) => part.startsWith("+")) || value("a")?.startsWith("-") === true) return [];
  const transport = (value("t") ?? "")
    .split("|")
    .slice(0, MAX_CONFIGURATIONS)
    .map(Number)
    .find((candidate) => profiles.includes(transports.get(candidate) ?? ""));
  if (transport === undefined) return [];
  for (const alternative of (value("a") ?? "").split("|").slice(0, MAX_CONFIGURATIONS)) {
    const numbers = alternative.replace(/[[\]]/g, "").split(",").map(Number);
    const keys = messages.find(({ capability }) => capability !== undefined && numbers.includes(capability));
    if (keys === undefined) continue;
    const configuration = `${number} t=${transport} a=${keys.capability}`;
    return [{ preference: Number(number), capability: { profile: transports.get(transport) as string, keys, configuration } }];
  }
  return [];
}
