import { CodecError } from "../bytes/index.js";
import { formatKeyMgmtAttribute, type KeyMgmtAttribute, type KeyMgmtSet, readKeyMgmt } from "./key-mgmt.js";
import { createSdpEditor, type SdpAttributeLine, type SdpLimits } from "./lines.js";

/** What an m= line could be instead of what it is: a potential configuration (RFC 5939 §3.5.1). */
export interface PotentialConfiguration {
  /** The transport protocol that it stands for: `RTP/SAVP`. */
  readonly profile: string;
  /** Its key management, in the order of the configuration. */
  readonly keyMgmt: readonly KeyMgmtAttribute[];
  /** What an answer that takes it says in a=acfg (§3.5.2): `1 t=1 a=1,2`; undefined where no a=pcfg says it. */
  readonly accepted: string | undefined;
}

const SECURE = /^RTP\/SAVPF?$/;
const MAX_NUMBER = 2 ** 31 - 1;
const MAX_ALTERNATIVES = 16;
/** Mandatory capabilities, and behind them optional ones (§3.5.1). */
const MANDATORY = /^(\d{1,10}(?:,\d{1,10})*)(?:,\[[\d,]*\])?$/;

/**
 * The preferred secure configuration of every m= section that RFC 5939 capabilities describe: `a=tcap` for the transport, `a=acap`
 * for the key management, `a=pcfg` for what belongs together, the lowest number first (§3.5.1). Where there is no `a=pcfg`, the
 * capabilities of a section whose profile is secure already are taken as they stand.
 * @returns one entry per m= section, undefined where there is none
 * @throws CodecError `sdp.too-large`
 */
export function readPotentialConfigurations(
  sdp: string,
  known?: KeyMgmtSet,
  limits?: SdpLimits,
): readonly (PotentialConfiguration | undefined)[] {
  const editor = createSdpEditor(sdp, limits);
  const capabilities = (known ?? readKeyMgmt(sdp, limits)).attributes.filter(({ capability }) => capability !== undefined);
  if (capabilities.length === 0) return Array.from({ length: editor.mediaCount }, () => undefined);
  const shared = transportCapabilities(editor.attributes({ section: "session", name: "tcap" }));
  return Array.from({ length: editor.mediaCount }, (_, section) => {
    const own = capabilities.filter((attribute) => attribute.section === section || attribute.section === "session");
    const transports = new Map([...shared, ...transportCapabilities(editor.attributes({ section, name: "tcap" }))]);
    const current = /^\S+ +\S+ +(\S+)/.exec(editor.section(section)[0]?.value ?? "")?.[1] ?? "";
    const chosen = editor
      .attributes({ section, name: "pcfg" })
      .flatMap(({ value }) => potentialConfiguration(value ?? "", transports, own, current))
      .sort((a, b) => a.number - b.number)[0];
    if (chosen !== undefined) return { profile: chosen.profile, keyMgmt: chosen.keyMgmt, accepted: chosen.accepted };
    return SECURE.test(current) && own.length > 0 ? { profile: current, keyMgmt: own, accepted: undefined } : undefined;
  });
}

/** `a=tcap:1 RTP/SAVP RTP/SAVPF` numbers its protocols from the given number on (RFC 5939 §3.4.2). */
function transportCapabilities(lines: readonly SdpAttributeLine[]): Map<number, string> {
  const found = new Map<number, string>();
  for (const { value } of lines) {
    const match = /^ ?(\d{1,10})((?: +[A-Za-z0-9/]+){1,32})\s*$/.exec(value ?? "");
    if (match === null) continue;
    const names = (match[2] as string).trim().split(/ +/);
    names.forEach((name, at) => {
      found.set(Number(match[1]) + at, name);
    });
  }
  return found;
}

/**
 * `a=pcfg:1 t=1 a=1,2`; of alternatives (`|`) the first that will do, without what is optional (`[…]`). Deletions (`-m:`) change nothing
 * here: the key management of the section is that of the configuration anyhow. An extension that has to be understood (`+x=`), or an
 * attribute that is mandatory and no key management, makes it none (§3.5.1, §3.6.2).
 */
function potentialConfiguration(
  value: string,
  transports: ReadonlyMap<number, string>,
  capabilities: readonly KeyMgmtAttribute[],
  current: string,
): (PotentialConfiguration & { readonly number: number })[] {
  const [number = "", ...lists] = value.trim().slice(0, 1024).split(/ +/);
  if (!/^\d{1,10}$/.test(number) || lists.some((item) => item.startsWith("+"))) return [];
  const list = (name: string): string | undefined => lists.find((item) => item.startsWith(`${name}=`))?.slice(name.length + 1);
  const transport = list("t")
    ?.split("|")
    .map(Number)
    .find((key) => isSecure(transports.get(key)));
  const profile = list("t") === undefined ? current : transports.get(transport ?? -1);
  if (!isSecure(profile)) return [];
  const [, deletion = "", alternatives = ""] = /^(-(?:ms|m|s):)?(.*)$/.exec(list("a") ?? "") ?? [];
  for (const alternative of alternatives.split("|").slice(0, MAX_ALTERNATIVES)) {
    const wanted = MANDATORY.exec(alternative)?.[1]?.split(",").map(Number) ?? [];
    const known = wanted.every((number) => number > 0 && capabilities.some(({ capability }) => capability === number));
    if (wanted.length === 0 || !known) continue;
    const keyMgmt = capabilities.filter(({ capability }) => capability !== undefined && wanted.includes(capability));
    const attributes = `a=${deletion}${wanted.join(",")}`;
    const accepted = [number, ...(transport === undefined ? [] : [`t=${transport}`]), attributes].join(" ");
    return [{ number: Number(number), profile, keyMgmt, accepted }];
  }
  return [];
}

function isSecure(profile: string | undefined): profile is string {
  return profile !== undefined && SECURE.test(profile);
}

/**
 * `tcap:1 RTP/SAVP RTP/SAVPF`: the transports that configurations refer to, numbered from 1 (RFC 5939 §3.4.2).
 * @throws CodecError `sdp.key-mgmt`
 */
export function formatTransportCapability(...profiles: readonly string[]): string {
  if (profiles.length === 0 || !profiles.every(isSecure)) throw fault("a secure profile expected");
  return `tcap:1 ${profiles.join(" ")}`;
}

/** `acap:1 key-mgmt:mikey …`: a message as attribute capability (RFC 5939 §3.4.1). @throws CodecError `sdp.key-mgmt` */
export function formatKeyMgmtCapability(number: number, message: Uint8Array): string {
  if (!Number.isInteger(number) || number < 1 || number > MAX_NUMBER) throw fault("capabilities are numbered from 1");
  return `acap:${number} key-mgmt:${formatKeyMgmtAttribute("mikey", message)}`;
}

/** The one configuration of an m= line, as a=pcfg has it in an offer and a=acfg in an answer: `1 t=1 a=1,2` (RFC 5939 §3.5). */
export function formatConfiguration(transport: number, attributes: readonly number[]): string {
  return `1 t=${transport} a=${attributes.join(",")}`;
}

/**
 * The attributes that offer key management, over the transport of `formatTransportCapability`, as the potential configuration of an
 * m= line (RFC 5939 §3.4.1, §3.5.1): an a=acap per message, and a=pcfg.
 * @param first the number of the first attribute capability: they are numbered through all of the description
 * @throws CodecError `sdp.key-mgmt`
 */
export function formatPotentialConfiguration(messages: readonly Uint8Array[], first: number): string[] {
  if (messages.length === 0) throw fault("a configuration has a message");
  const numbers = messages.map((_, at) => first + at);
  return [
    ...messages.map((message, at) => formatKeyMgmtCapability(first + at, message)),
    `pcfg:${formatConfiguration(1, numbers)}`,
  ];
}

function fault(detail: string): CodecError {
  return new CodecError("sdp.key-mgmt", "sdp.key-mgmt.acap", -1, detail);
}
