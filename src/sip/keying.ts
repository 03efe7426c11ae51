import { utf8Text } from "../bytes/index.js";
import type { CryptoProvider } from "../crypto/index.js";
import { createMediaKeying, type KeyedMedia, type MediaKeyingOptions } from "../gsa/index.js";
import type { Clock, Timer, Timers } from "../io/index.js";
import { peerProfile } from "../peers/index.js";
import type { SdpSection } from "../sdp/index.js";
import type { SipKeying, SipKeyingOptions } from "./contracts.js";
import { createDialog } from "./dialog.js";
import type { Endpoint } from "./parts.js";
import { createSipDirectory, type SipDirectory, sipIdentity } from "./party.js";

/** How long a retried INVITE may take: the client's transaction timer (RFC 3261 §17.1.1.2, timer B). */
const PARKED_MS = 32_000;
const MOST_PARKED = 256;
const MOST_REMEMBERED = 1024;

/** Keys for the dialogs of one user agent. */
export function createSipKeying(options: SipKeyingOptions): SipKeying {
  const parked = new Map<string, { readonly media: KeyedMedia; readonly timer: Timer }>();
  const { timers } = options.keying.options;
  const name = (scope: string, section: SdpSection): string => `${scope} ${section}`;
  const take = (key: string): KeyedMedia | undefined => {
    const entry = parked.get(key);
    entry?.timer.cancel();
    parked.delete(key);
    return entry?.media;
  };
  const endpoint: Endpoint = {
    options,
    helloRefused: boundedSet(MOST_REMEMBERED),
    park(scope, section, media) {
      const key = name(scope, section);
      take(key)?.close();
      const [oldest] = parked.size >= MOST_PARKED ? parked.keys() : [];
      if (oldest !== undefined) take(oldest)?.close();
      parked.set(key, { media, timer: timers.after(PARKED_MS, () => take(key)?.close()) });
    },
    unpark: (scope, section) => take(name(scope, section)),
  };
  return {
    options,
    dialog: (facts) => createDialog(endpoint, facts),
    close() {
      for (const key of [...parked.keys()]) take(key)?.close();
    },
  };
}

/** A set that forgets its oldest entry beyond a size: parties come from the network. */
function boundedSet(size: number): Set<string> {
  const set = new Set<string>();
  const add = set.add.bind(set);
  set.add = (value) => {
    const [oldest] = set.size >= size && !set.has(value) ? set : [];
    if (oldest !== undefined) set.delete(oldest);
    return add(value);
  };
  return set;
}

/** A user agent whose calls are keyed by pre-shared keys. */
export interface PskSipKeyingOptions
  extends Omit<SipKeyingOptions, "keying" | "credentialFor">,
    Partial<Pick<MediaKeyingOptions, "dialect" | "policyAccepted" | "skewMs" | "replayCache" | "timestamps" | "overlapMs">> {
  /** Our own URI: `sip:alice@example.org`. */
  readonly uri: string;
  /** Pre-shared keys by the URI of the other party. */
  readonly keys: SipDirectory | Iterable<readonly [uri: string, psk: Uint8Array]>;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly crypto?: CryptoProvider;
}

/**
 * `createSipKeying` for a user agent with pre-shared keys: identities are SIP URIs, keys without protection of their own are refused.
 * @throws WatchwordError `sip.uri`
 */
export function createPskSipKeying(options: PskSipKeyingOptions): SipKeying {
  const { uri, keys, clock, timers, crypto, dialect, policyAccepted, skewMs, replayCache, timestamps, overlapMs, ...rest } =
    options;
  const directory = Symbol.iterator in keys ? createSipDirectory(keys) : keys;
  const keyFor = (party: string | undefined): { readonly psk: Uint8Array } | undefined => {
    const psk = party === undefined ? undefined : directory.find(party);
    return psk === undefined ? undefined : { psk };
  };
  const keying = createMediaKeying({
    clock,
    timers,
    dialect: dialect ?? peerProfile("strict"),
    identity: sipIdentity(uri),
    requirePsk: true,
    findCredential: (identity) => keyFor(identity === undefined ? undefined : utf8Text(identity.data)),
    ...(crypto === undefined ? {} : { crypto }),
    ...(policyAccepted === undefined ? {} : { policyAccepted }),
    ...(skewMs === undefined ? {} : { skewMs }),
    ...(replayCache === undefined ? {} : { replayCache }),
    ...(timestamps === undefined ? {} : { timestamps }),
    ...(overlapMs === undefined ? {} : { overlapMs }),
  });
  return createSipKeying({ ...rest, keying, credentialFor: keyFor });
}
