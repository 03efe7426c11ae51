import { equalBytes } from "../../bytes/index.js";
import type { Certificate, GeneralName, NameConstraints } from "./certificate.js";

/** Letters, digits and hyphens in labels (RFC 1123 §2.1), lower case; underscores occur in the field. */
const HOST = /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/;

/** Lower case and without the dot of the root; undefined for what is no host name. */
function hostName(text: string): string | undefined {
  const host = text.toLowerCase().replace(/\.$/, "");
  return HOST.test(host) && !/^[\d.]+$/.test(host) ? host : undefined;
}

/** The 4 or 16 octets of an address, with or without brackets; undefined for what is none. */
export function addressOctets(text: string): Uint8Array | undefined {
  const dotted = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (dotted !== null) {
    const numbers = dotted.slice(1).map(Number);
    return numbers.every((number) => number < 256) ? Uint8Array.from(numbers) : undefined;
  }
  const inner = text.replace(/^\[(.*)\]$/, "$1");
  if (!/^[0-9a-f:.]*:[0-9a-f:.]*$/i.test(inner)) return undefined;
  let canonical: string;
  try {
    canonical = new URL(`http://[${inner}]/`).hostname.slice(1, -1);
  } catch {
    return undefined;
  }
  const [left = "", right] = canonical.split("::");
  const groups = (part: string): number[] => (part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16)));
  const [head, tail] = [groups(left), groups(right ?? "")];
  const all = right === undefined ? head : [...head, ...new Array<number>(8 - head.length - tail.length).fill(0), ...tail];
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

/** A URI taken apart as far as identities need it. */
interface SipAddress {
  readonly user: string | undefined;
  readonly host: string;
}

/** User and host of a SIP or SIPS URI (RFC 3261 §19.1.1), without password, port, parameters and headers. */
function sipAddress(uri: string): SipAddress | undefined {
  const match = /^sips?:(?:([^@]*)@)?(\[[0-9a-f:.]+\]|[^@:;?/\s]+)(?::\d+)?(?:[;?].*)?$/i.exec(uri);
  if (match === null) return undefined;
  const [, userInfo, host = ""] = match;
  const user = userInfo?.split(":")[0];
  return { user: user === undefined ? undefined : unescaped(user), host };
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Host, port and path of an RTSP URI (RFC 7826 §4.2). The authority ends where that of `uriWithin` does. */
function rtspAddress(uri: string): { readonly host: string; readonly port: string; readonly path: string } | undefined {
  const match = /^rtsp[su]?:\/\/(?:[^@/?#]*@)?(\[[0-9a-f:.]+\]|[^@:/?#\s]+)(?::(\d+))?(\/[^?#]*)?(?:[?#].*)?$/i.exec(uri);
  if (match === null) return undefined;
  const [, host = "", port = "", path = ""] = match;
  return { host, port, path: path === "/" ? "" : path };
}

/** Whether two hosts are the same name or address. */
function sameHost(a: string, b: string): boolean {
  const [first, second] = [addressOctets(a), addressOctets(b)];
  if (first !== undefined && second !== undefined) return equalBytes(first, second);
  const name = hostName(a);
  return name !== undefined && name === hostName(b);
}

/** RFC 6125 §6.4.3: a wildcard is the whole left-most label, stands for one label, and leaves at least two. */
function matchesHost({ kind, value }: GeneralName, host: string, wildcards: boolean): boolean {
  if (kind === "ip" || kind === "dns") {
    const address = addressOctets(host);
    if ((kind === "ip") !== (address !== undefined)) return false;
    if (kind === "dns" && wildcards && value.startsWith("*.")) {
      const [wanted, pattern] = [hostName(host), hostName(value.slice(2))];
      return pattern?.includes(".") === true && wanted !== undefined && wanted.slice(wanted.indexOf(".") + 1) === pattern;
    }
    return sameHost(value, host);
  }
  return false;
}

/** Users are compared with case, hosts without (RFC 3261 §19.1.4). */
function isUserAt(address: SipAddress | undefined, user: string, host: string): boolean {
  return address !== undefined && address.user === user && sameHost(address.host, host);
}

function mailbox(text: string): SipAddress | undefined {
  const at = text.lastIndexOf("@");
  return at < 1 ? undefined : { user: text.slice(0, at), host: text.slice(at + 1) };
}

/**
 * Whether a certificate names somebody. The common name is never looked at (RFC 6125 §6.4.4).
 * @param domains take a certificate of a SIP domain for its users (RFC 5922 §7.2)
 */
export function namesIdentity({ names }: Pick<Certificate, "names">, identity: string, domains: boolean): boolean {
  const sip = sipAddress(identity);
  if (sip !== undefined) return namesSip(names, sip, domains);
  const rtsp = rtspAddress(identity);
  if (rtsp !== undefined) {
    return names.some((name) => {
      const named = name.kind === "uri" ? rtspAddress(name.value) : undefined;
      if (named === undefined) return matchesHost(name, rtsp.host, true);
      const samePort = named.port === "" || named.port === rtsp.port;
      return sameHost(named.host, rtsp.host) && samePort && (named.path === "" || named.path === rtsp.path);
    });
  }
  if (addressOctets(identity) === undefined && /^[a-z][a-z0-9+.-]*:/i.test(identity)) {
    return names.some(({ kind, value }) => kind === "uri" && value === identity);
  }
  const nai = mailbox(identity);
  if (nai !== undefined) return namesSip(names, nai, false);
  return names.some((name) => matchesHost(name, identity, true));
}

/** A user by URI, or by the address in it (RFC 3261 §23.1); a domain by URI, or by name where no SIP domain is among the URIs (RFC 5922 §7.1). */
function namesSip(names: readonly GeneralName[], { user, host }: SipAddress, domains: boolean): boolean {
  const uris = names.filter(({ kind }) => kind === "uri").map(({ value }) => sipAddress(value));
  if (user !== undefined) {
    const mailboxes = names.filter(({ kind }) => kind === "email").map(({ value }) => mailbox(value));
    if ([...uris, ...mailboxes].some((address) => isUserAt(address, user, host))) return true;
    if (!domains) return false;
  }
  const ofDomains = uris.filter((address) => address !== undefined && address.user === undefined) as SipAddress[];
  if (ofDomains.length > 0) return ofDomains.some((address) => sameHost(address.host, host));
  // RFC 5922 §7.2: no wildcards here.
  return names.some((name) => matchesHost(name, host, false));
}

/**
 * Whether every name of a certificate is within an issuer's constraints (RFC 5280 §4.2.1.10, §6.1.4): of each kind that is constrained, every one
 * of its names, not just one, in one of the permitted subtrees and in none of the excluded. What cannot be compared is not within.
 */
export function withinConstraints(certificate: Certificate, { permitted, excluded }: NameConstraints): boolean {
  const emails = certificate.names.filter(({ kind }) => kind === "email");
  const names: GeneralName[] = [...certificate.names];
  if (certificate.subjectRdns !== "") names.push({ kind: "directory", value: certificate.subjectRdns });
  if (emails.length === 0) names.push(...certificate.subjectEmails.map((value) => ({ kind: "email", value }) as const));
  return names.every((name) => {
    const of = (subtrees: readonly GeneralName[]): GeneralName[] => subtrees.filter(({ kind }) => kind === name.kind);
    const [within, without] = [of(permitted), of(excluded)];
    if (within.length === 0 && without.length === 0) return true;
    // Undefined, not comparable, is neither permitted nor safe from being excluded.
    if (without.some((subtree) => containedIn(name, subtree.value) !== false || coversSome(name, subtree.value))) return false;
    return within.length === 0 || within.some((subtree) => containedIn(name, subtree.value) === true);
  });
}

/** Whether a wildcard stands for names of an excluded domain below its own. */
function coversSome({ kind, value }: GeneralName, constraint: string): boolean {
  return kind === "dns" && value.startsWith("*.") && hostWithin(constraint.replace(/^\./, ""), value.slice(2), true) !== false;
}

function containedIn({ kind, value }: GeneralName, constraint: string): boolean | undefined {
  switch (kind) {
    case "dns":
      return hostWithin(value.replace(/^\*\./, ""), constraint.replace(/^\./, ""), true);
    case "email":
      return mailWithin(value, constraint);
    case "uri":
      return uriWithin(value, constraint);
    case "ip":
      return addressWithin(value, constraint);
    case "directory":
      return constraint === "" || value === constraint || value.startsWith(`${constraint}\n`);
    default:
      return undefined;
  }
}

/** A host in a domain: the domain itself too for DNS names, and otherwise only where the constraint has no leading dot. */
function hostWithin(host: string, domain: string, subdomains: boolean): boolean | undefined {
  const name = hostName(host);
  if (domain === "") return name === undefined ? undefined : true;
  const base = hostName(domain);
  if (name === undefined || base === undefined) return undefined;
  return name === base || (subdomains && name.endsWith(`.${base}`));
}

function mailWithin(mail: string, constraint: string): boolean | undefined {
  const address = mailbox(mail);
  if (address === undefined) return undefined;
  const wanted = mailbox(constraint);
  if (wanted !== undefined) return address.user === wanted.user && hostWithin(address.host, wanted.host, false);
  return subtreeWithin(address.host, constraint);
}

/** RFC 5280: `.domain` is everything below it and not itself, `domain` is itself alone. */
function subtreeWithin(host: string, constraint: string): boolean | undefined {
  if (!constraint.startsWith(".")) return hostWithin(host, constraint, false);
  const within = hostWithin(host, constraint.slice(1), true);
  return within === true ? hostName(host) !== hostName(constraint.slice(1)) : within;
}

/**
 * A URI by the host of its authority; URIs without one, or with an address there, are refused where URIs are constrained (RFC 5280 §4.2.1.10).
 * A SIP URI has no authority, but its host is what it names (RFC 3261 §19.1.1): it is compared, where others would refuse it.
 */
function uriWithin(uri: string, constraint: string): boolean | undefined {
  const authority = /^[a-z][a-z0-9+.-]*:\/\/(?:[^@/?#]*@)?([^@:/?#[\]\s]+)(?::\d*)?(?:[/?#].*)?$/i.exec(uri)?.[1];
  const host = sipAddress(uri)?.host ?? authority;
  if (host === undefined || addressOctets(host) !== undefined) return undefined;
  return subtreeWithin(host, constraint);
}

/** @param constraint `address/prefix` */
function addressWithin(address: string, constraint: string): boolean | undefined {
  const [network = "", prefix = ""] = constraint.split("/");
  const [octets, base] = [addressOctets(address), addressOctets(network)];
  if (octets === undefined || base === undefined || !/^\d+$/.test(prefix)) return undefined;
  if (octets.length !== base.length) return false;
  const bits = Number(prefix);
  return octets.every((octet, at) => {
    const mask = (0xff00 >> Math.min(8, Math.max(0, bits - 8 * at))) & 0xff;
    return (octet & mask) === ((base[at] as number) & mask);
  });
}
