import { WatchwordError } from "../bytes/index.js";
import { type Clock, createTokenBucket, type Rate, type TokenBucket, withoutZone } from "../io/index.js";
import { RtspRefusal } from "./refusal.js";

/** How many offers that cost public-key operations are made for clients who have not proven who they are. */
export interface StrangerLimits {
  /** For all of them together. Default 50 a second, 100 at once. */
  readonly all?: Rate;
  /** For each address; of IPv6 for each /64, which is one subscriber. Default 5 a second, 20 at once. */
  readonly each?: Rate;
}

const ALL: Rate = { burst: 100, perSecond: 50 };
const EACH: Rate = { burst: 20, perSecond: 5 };
/** Addresses that are remembered; who is forgotten begins anew, and all together are bounded all the same. */
const MOST_ADDRESSES = 4096;

/**
 * Bounds what anybody can make a server do by asking for descriptions: a Diffie-Hellman value and a signature each.
 * @returns throws RtspRefusal 503 (`rtsp.strangers`) where there were too many, otherwise counts one more
 */
export function createStrangerGate(clock: Clock, { all = ALL, each = EACH }: StrangerLimits = {}): (host: string) => void {
  const total = createTokenBucket(clock, all);
  const buckets = new Map<string, TokenBucket>();
  return (host) => {
    const network = networkOf(host);
    const bucket = buckets.get(network) ?? createTokenBucket(clock, each);
    buckets.delete(network);
    const [oldest] = buckets.size >= MOST_ADDRESSES ? buckets.keys() : [];
    if (oldest !== undefined) buckets.delete(oldest);
    buckets.set(network, bucket);
    // One address that asks too often takes nothing away from the others.
    if (bucket.take() && total.take()) return;
    throw new RtspRefusal(503, [["Retry-After", "1"]], {
      cause: new WatchwordError("rtsp.strangers", "too many descriptions for clients who have not authenticated"),
    });
  };
}

function networkOf(host: string): string {
  // Of IPv6 the addresses that hold an IPv4 one are as that.
  if (!host.includes(":") || host.includes(".")) return host;
  const [before = [], behind] = withoutZone(host)
    .split("::")
    .map((half) => half.split(":").filter((group) => group !== ""));
  // `::` stands for as many zeros as are missing (RFC 4291 §2.2).
  const zeros = behind === undefined ? 0 : Math.max(0, 8 - before.length - behind.length);
  return [...before, ...Array<string>(zeros).fill("0"), ...(behind ?? [])].slice(0, 4).join(":");
}
