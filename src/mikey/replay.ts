import { formatHex, utf8, utf8Text } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import { isNewer, type Timestamp } from "./timestamp.js";

/**
 * What an authentic message has to be remembered by, so that it is processed once (RFC 3830 §5.4). An exchange only says
 * that the claim is needed; who keeps the cache claims it, before anything comes of the message.
 */
export interface ReplayClaim {
  /** SHA-256 of the authenticated octets without the MAC or signature value (a signature may have several valid forms), hexadecimal. */
  readonly key: string;
  /** Whose message it is: type and octets of the authenticated identity. */
  readonly peer: string;
  /** The caller's dialog or session. Nothing is answered again outside of it. */
  readonly scope: string;
  readonly csbId: number;
  readonly timestamp: Timestamp;
  /** T as milliseconds since 1970; undefined for a COUNTER. */
  readonly time: number | undefined;
  /** Milliseconds since 1970 from which T is outside the accepted skew and the claim may be forgotten. */
  readonly expires: number;
}

export type ReplayVerdict =
  | { readonly kind: "fresh" }
  /** The same message again, in the same scope: the same answer (a lost response could not be recovered otherwise). */
  | { readonly kind: "repeated"; readonly response: Uint8Array | undefined }
  | { readonly kind: "refused"; readonly reason: string };

/** Remembers claims for as long as their T is acceptable. Only authentic messages are shown to it. */
export interface ReplayCache {
  check(claim: ReplayClaim, now: number): ReplayVerdict;
  /** To be called once per fresh claim. @param response the octets that answered it, if any */
  claim(claim: ReplayClaim, response: Uint8Array | undefined, now: number): void;
  /** Claims that are remembered. */
  readonly size: number;
}

export interface ReplayCacheOptions {
  /** Most claims, and most peers with counters. Default 4096. */
  readonly capacity?: number;
  /**
   * Milliseconds since 1970: messages with T at or before it are refused. After the loss of a cache this is the time of the
   * restart plus the accepted skew (RFC 3830 §5.4). Default: nothing is refused.
   */
  readonly floor?: number;
}

/** The claim of a message. @param authenticated the octets that MAC or signature cover, without its value */
export function replayClaim(crypto: CryptoProvider, authenticated: Uint8Array, facts: Omit<ReplayClaim, "key">): ReplayClaim {
  const { peer, scope, csbId, timestamp, time, expires } = facts;
  return { key: formatHex(crypto.hash("sha256", authenticated)), peer, scope, csbId, timestamp, time, expires };
}

interface Entry extends Pick<ReplayClaim, "key" | "peer" | "scope" | "time" | "expires"> {
  readonly stamp: string;
  readonly response: Uint8Array | undefined;
}

/**
 * The replay cache in memory. Where it is full, it forgets the oldest eighth and from then on refuses everything as old as
 * what was forgotten: the accepted skew shrinks instead of a replay getting through (RFC 3830 §5.4).
 */
export function createReplayCache(options: ReplayCacheOptions = {}): ReplayCache {
  const capacity = options.capacity ?? 4096;
  const entries = new Map<string, Entry>();
  /** (peer, CSB ID, T) of every entry: one Initiator uses a T once (RFC 3830 §5.2). */
  const stamps = new Set<string>();
  /** Greatest COUNTER per peer. It does not age, and `floor` does not cover it: after a restart it has to come from a durable cache. */
  const counters = new Map<string, Timestamp>();
  let floor = options.floor ?? Number.NEGATIVE_INFINITY;
  /** When the entry that came first may be forgotten: before, there is nothing to look for. */
  let soonest = Number.POSITIVE_INFINITY;
  /** The claim of before, and its stamp: each is checked more than once, and claimed then. */
  let last: { readonly claim: ReplayClaim; readonly stamp: string } | undefined;

  function stampFor(claim: ReplayClaim): string {
    if (last?.claim !== claim) last = { claim, stamp: stampOf(claim) };
    return last.stamp;
  }

  function forget(entry: Entry): void {
    entries.delete(entry.key);
    stamps.delete(entry.stamp);
  }

  function forgetExpired(now: number): void {
    soonest = Number.POSITIVE_INFINITY;
    for (const entry of entries.values()) {
      // Insertion order is the order of arrival: nearly that of expiry, near enough for a sweep that stops early.
      if (entry.expires >= now) {
        soonest = entry.expires;
        break;
      }
      forget(entry);
    }
  }

  function forgetOldest(): void {
    const times = new Float64Array(entries.size);
    let at = 0;
    for (const { expires } of entries.values()) times[at++] = expires;
    times.sort();
    const most = Math.ceil(capacity / 8);
    const latest = times[most - 1] as number;
    let atLatest = most - times.indexOf(latest);
    for (const entry of entries.values()) {
      if (entry.expires > latest || (entry.expires === latest && atLatest-- <= 0)) continue;
      if (entry.time !== undefined) floor = Math.max(floor, entry.time);
      forget(entry);
    }
  }

  return {
    get size() {
      return entries.size;
    },
    check(claim, now) {
      const known = entries.get(claim.key);
      if (known !== undefined && known.expires >= now) {
        if (known.scope !== claim.scope || known.peer !== claim.peer) {
          return { kind: "refused", reason: "the message was used before, elsewhere" };
        }
        return { kind: "repeated", response: known.response?.slice() };
      }
      if (claim.time === undefined) {
        const greatest = counters.get(claim.peer);
        if (greatest !== undefined && !isNewer(claim.timestamp, greatest)) {
          return { kind: "refused", reason: "the timestamp counter is not greater than the last one" };
        }
        if (greatest === undefined && counters.size >= capacity)
          return { kind: "refused", reason: "no room to remember another counter" };
        return { kind: "fresh" };
      }
      if (claim.time <= floor) return { kind: "refused", reason: "the timestamp is older than what the replay cache remembers" };
      if (stamps.has(stampFor(claim))) return { kind: "refused", reason: "the timestamp was used before by another message" };
      return { kind: "fresh" };
    },
    claim(claim, response, now) {
      if (claim.time === undefined) counters.set(claim.peer, claim.timestamp);
      if (soonest < now) forgetExpired(now);
      if (entries.size >= capacity) forgetOldest();
      const { key, peer, scope, time, expires } = claim;
      const stamp = stampFor(claim);
      if (entries.size === 0) soonest = expires;
      entries.set(key, { key, peer, scope: ownText(scope), time, expires, stamp, response: response?.slice() });
      stamps.add(stamp);
    },
  };
}

/** A copy that shares no memory: V8 keeps a piece cut out of a text as a view of the whole, here of the request that it came in, from 13 units on. */
function ownText(text: string): string {
  if (text.length < 13) return text;
  return utf8Text(utf8(text)) ?? text;
}

/** In units of 16 bits: written as numbers it would take as long as all else that is done here. */
function stampOf({ peer, csbId, timestamp: { tsType, value } }: ReplayClaim): string {
  const units = [tsType, csbId >>> 16, csbId & 0xffff];
  for (let at = 0; at < value.length; at += 2) units.push(((value[at] as number) << 8) | (value[at + 1] as number));
  return String.fromCharCode(...units) + peer;
}
